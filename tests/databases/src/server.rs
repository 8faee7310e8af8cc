//! MariaDB and PostgreSQL as Debian packages them, each with data of its own in memory where the system has such a folder, and gone with
//! its value.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_postgres::NoTls;

/// Both are up in three seconds on an idle machine.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(100);

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Not installed.
    #[error("{program} is not installed: `apt-get install {package}`")]
    NotInstalled {
        /// What was looked for.
        program: &'static str,
        /// Where Debian has it.
        package: &'static str,
    },
    /// It does not start.
    #[error("{program} does not start: {reason}")]
    Start {
        /// What was started.
        program: &'static str,
        /// What it said.
        reason: String,
    },
    /// Its files.
    #[error("cannot keep a database's files")]
    Files(#[from] std::io::Error),
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// On 127.0.0.1.
    pub port: u16,
    child: Child,
    // Removed after the process has been killed.
    _folder: TempDir,
}

impl Server {
    /// Its process.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.child.id()
    }
}

/// Starts MariaDB with an empty database `schema`, and a binlog of whole rows.
///
/// # Errors
/// [`ServerError`]; its text says what is missing.
pub async fn mariadb(schema: &str) -> Result<Server, ServerError> {
    mariadb_with(schema, &[]).await
}

/// The same with further options.
///
/// # Errors
/// As [`mariadb`].
pub async fn mariadb_with(schema: &str, options: &[String]) -> Result<Server, ServerError> {
    const PROGRAM: &str = "mariadbd";
    let missing = || ServerError::NotInstalled { program: PROGRAM, package: "mariadb-server" };
    let server = installed(PROGRAM).ok_or_else(missing)?;
    let install = installed("mariadb-install-db").ok_or_else(missing)?;
    let folder = folder()?;
    let data = folder.path().join("data");
    // A server that starts removes temporary tables of others in the folder for them.
    let temporary = format!("--tmpdir={}", folder.path().display());
    // As root it wants to hear that it is meant to be.
    let user = is_root(folder.path())?.then_some("--user=root");
    let mut made = Command::new(install);
    made.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]);
    made.args(user).arg(format!("--datadir={}", data.display())).arg(&temporary);
    succeed(PROGRAM, made).await?;

    let port = free_port().await?;
    let log = folder.path().join("log");
    let child = Command::new(server)
        .arg("--no-defaults")
        .args(user)
        .arg(format!("--datadir={}", data.display()))
        .arg(&temporary)
        .arg(format!("--socket={}", folder.path().join("socket").display()))
        .arg(format!("--pid-file={}", folder.path().join("pid").display()))
        .args(["--bind-address=127.0.0.1", &format!("--port={port}"), "--skip-name-resolve"])
        .args(["--server-id=1", "--log-bin=mysql-bin-changelog", "--max-binlog-size=64M"])
        .args(["--binlog-format=ROW", "--binlog-row-image=FULL", "--character-set-server=utf8mb4"])
        // A test's data need not survive the machine.
        .args([
            "--innodb-flush-log-at-trx-commit=0",
            "--sync-binlog=0",
            "--innodb-buffer-pool-size=256M",
            "--default-time-zone=+00:00",
        ])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log)?)
        .kill_on_drop(true)
        .spawn()?;
    let mut server = Server { port, child, _folder: folder };
    let ready = async {
        loop {
            let options = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(port).user(Some("root"));
            if let Ok(mut connection) = Conn::new(options.prefer_socket(false)).await {
                return connection.query_drop(format!("CREATE DATABASE `{schema}`")).await;
            }
            tokio::time::sleep(READY_POLL).await;
        }
    };
    match until(&mut server.child, ready).await {
        Some(Ok(())) => Ok(server),
        _ => Err(ServerError::Start { program: PROGRAM, reason: tail(&log) }),
    }
}

/// Starts PostgreSQL with logical decoding. The database is `postgres`, the user `postgres`, without a password.
///
/// # Errors
/// [`ServerError`]; its text says what is missing.
pub async fn postgresql() -> Result<Server, ServerError> {
    const PROGRAM: &str = "postgres";
    let missing = || ServerError::NotInstalled { program: PROGRAM, package: "postgresql-15" };
    let server = installed(PROGRAM).ok_or_else(missing)?;
    let initdb = installed("initdb").ok_or_else(missing)?;
    let folder = folder()?;
    let data = folder.path().join("data");
    // It refuses to run as root.
    let other = if is_root(folder.path())? { user("postgres") } else { None };
    if let Some((uid, gid)) = other {
        std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid))?;
    }
    let command = |program: &Path| {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = other {
            command.uid(uid).gid(gid);
        }
        command.current_dir(folder.path());
        command
    };
    let mut made = command(&initdb);
    made.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"]);
    made.arg(&data);
    succeed(PROGRAM, made).await?;

    let port = free_port().await?;
    let log = folder.path().join("log");
    let socket = format!("unix_socket_directories={}", folder.path().display());
    let settings = ["wal_level=logical", "fsync=off", "synchronous_commit=off", "listen_addresses=127.0.0.1"];
    let child = command(&server)
        .arg("-D")
        .arg(&data)
        .args(settings.iter().chain([&socket.as_str(), &"max_wal_size=4GB", &"timezone=UTC"]).flat_map(|it| ["-c", it]))
        .args(["-p", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log)?)
        .kill_on_drop(true)
        .spawn()?;
    let mut server = Server { port, child, _folder: folder };
    let ready = async {
        while tokio_postgres::connect(&postgresql_url(port), NoTls).await.is_err() {
            tokio::time::sleep(READY_POLL).await;
        }
    };
    match until(&mut server.child, ready).await {
        Some(()) => Ok(server),
        None => Err(ServerError::Start { program: PROGRAM, reason: tail(&log) }),
    }
}

/// How to reach a PostgreSQL server of this module.
#[must_use]
pub fn postgresql_url(port: u16) -> String {
    format!("host=127.0.0.1 port={port} user=postgres dbname=postgres")
}

/// None when the process ended or the time passed first.
async fn until<T>(child: &mut Child, ready: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        ready = ready => Some(ready),
        _ = child.wait() => None,
        () = tokio::time::sleep(READY_TIMEOUT) => None,
    }
}

async fn succeed(program: &'static str, mut command: Command) -> Result<(), ServerError> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(ServerError::Start { program, reason: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

/// A program of PATH or of where Debian has a database's own: servers in `/usr/sbin`, which a person's PATH may lack, and PostgreSQL's in
/// a folder for each version, of which the newest is taken.
#[must_use]
pub fn installed(program: &str) -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    versions.into_iter().rev().chain(path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn folder() -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("strait-database-");
    if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() }
}

/// A folder that was just made belongs to who runs this.
fn is_root(own: &Path) -> std::io::Result<bool> {
    Ok(std::fs::metadata(own)?.uid() == 0)
}

/// The user's and the group's number.
fn user(name: &str) -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// It may be taken by another between here and the server's start, which then fails.
async fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port())
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().rev().take(5).rev().copied().collect::<Vec<_>>().join("\n")
}
