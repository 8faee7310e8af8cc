//! MariaDB and PostgreSQL as Debian packages them, each on a port and in a folder of its own, for tests that need a real source. They
//! are asked through their own command-line clients, so that what they say is no word of Strait's.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use strait::merge::types::map::Engine;
use tempfile::TempDir;

/// How long a server may take until it answers.
const READY: Duration = Duration::from_secs(120);

/// A running server. It ends with this value.
pub struct Database {
    pub engine: Engine,
    port: u16,
    server: Child,
    _folder: TempDir,
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The program of this name on the PATH or where Debian puts those of PostgreSQL.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn number(of: &str, user: &str) -> Option<u32> {
    let output = Command::new("id").args([of, user]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Database {
    /// Starts one. `None`, said on standard error, where its programs are not installed.
    pub fn start(engine: Engine) -> Option<Self> {
        let database = match engine {
            Engine::MySql => Self::mariadb(),
            Engine::PostgreSql => Self::postgresql(),
        };
        if database.is_none() {
            eprintln!(
                "SKIPPED 1: {engine:?}: its server is not installed (Debian: mariadb-server, postgresql, postgresql-contrib)"
            );
        }
        database
    }

    fn mariadb() -> Option<Self> {
        let (server, install, _) = (program("mariadbd")?, program("mariadb-install-db")?, program("mariadb")?);
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let user = if number("-u", "root").is_some() && is_root() { vec!["--user=root"] } else { Vec::new() };
        let made = Command::new(install)
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .args(&user)
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let server = Command::new(server)
            .arg("--no-defaults")
            .args(&user)
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", folder.path().join("socket").display()))
            .arg(format!("--port={port}"))
            .args(["--bind-address=127.0.0.1", "--log-bin=bin", "--binlog-format=ROW", "--server-id=1"])
            .args(["--character-set-server=utf8mb4", "--skip-name-resolve"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { engine: Engine::MySql, port, server, _folder: folder }.ready())
    }

    fn postgresql() -> Option<Self> {
        let (server, initdb, _) = (program("postgres")?, program("initdb")?, program("psql")?);
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        // It does not run as root.
        let ids = match is_root() {
            true => Some((number("-u", "postgres")?, number("-g", "postgres")?)),
            false => None,
        };
        if let Some((user, group)) = ids {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).unwrap();
            std::os::unix::fs::chown(&data, Some(user), Some(group)).unwrap();
        }
        let command = |program: &Path| {
            let mut command = Command::new(program);
            command.current_dir(folder.path());
            if let Some((user, group)) = ids {
                command.uid(user).gid(group);
            }
            command
        };
        let made = command(&initdb)
            .arg("-D")
            .arg(&data)
            .args(["-A", "trust", "-E", "UTF8", "-U", "postgres", "--no-sync"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let server = command(&server)
            .arg("-D")
            .arg(&data)
            .args([
                "-p",
                &port.to_string(),
                "-c",
                "wal_level=logical",
                "-c",
                "fsync=off",
                "-c",
                "listen_addresses=127.0.0.1",
            ])
            .arg("-k")
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { engine: Engine::PostgreSql, port, server, _folder: folder }.ready())
    }

    fn ready(mut self) -> Self {
        let until = Instant::now() + READY;
        while !self.output("SELECT 1").status.success() {
            if let Some(status) = self.server.try_wait().unwrap() {
                panic!("{:?} ended with {status}", self.engine);
            }
            assert!(Instant::now() < until, "{:?} was not ready after {READY:?}", self.engine);
            std::thread::sleep(Duration::from_millis(100));
        }
        self
    }

    /// What `strait verify --source` takes.
    pub fn url(&self) -> String {
        match self.engine {
            Engine::MySql => format!("mysql://root@127.0.0.1:{}", self.port),
            Engine::PostgreSql => format!("postgres://postgres@127.0.0.1:{}/postgres", self.port),
        }
    }

    fn output(&self, sql: &str) -> Output {
        use std::io::Write as _;
        let port = self.port.to_string();
        let mut command = match self.engine {
            Engine::MySql => {
                let mut command = Command::new(program("mariadb").unwrap());
                command.args([
                    "--no-defaults",
                    "-h127.0.0.1",
                    "-uroot",
                    "-P",
                    &port,
                    "--batch",
                    "--raw",
                    "--skip-column-names",
                ]);
                command.arg("--default-character-set=utf8mb4");
                command
            }
            Engine::PostgreSql => {
                let mut command = Command::new(program("psql").unwrap());
                command.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-XAtq", "-v", "ON_ERROR_STOP=1"]);
                command
            }
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(sql.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Runs statements; what they print.
    #[track_caller]
    pub fn run(&self, sql: &str) -> String {
        let output = self.output(sql);
        assert!(output.status.success(), "{sql}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
