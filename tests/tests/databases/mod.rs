//! Real databases as sources to compare with. They are asked through their own command-line clients, so that what they say is no word of
//! Strait's.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use strait::merge::types::map::Engine;
use strait_databases::server::{self, Server, ServerError, installed};
use tempfile::TempDir;

/// A server's certificate for 127.0.0.1, by openssl. Its files go with this value.
pub struct Certificate {
    /// The authority's certificate.
    pub authority: PathBuf,
    server: PathBuf,
    key: PathBuf,
    _folder: TempDir,
}

impl Certificate {
    /// A new one, of an authority of its own.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| folder.path().join(name);
        let openssl = |arguments: &[&str]| {
            let done = Command::new("openssl").args(arguments).current_dir(folder.path()).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        std::fs::write(path("names"), "subjectAltName=IP:127.0.0.1").unwrap();
        openssl(&[
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            "-subj", "/CN=ca",
        ]);
        openssl(&[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "key.pem",
            "-out",
            "request",
            "-subj",
            "/CN=127.0.0.1",
        ]);
        let signed = [
            "x509",
            "-req",
            "-in",
            "request",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            "server.pem",
        ];
        openssl(&signed);
        Self { authority: path("ca.pem"), server: path("server.pem"), key: path("key.pem"), _folder: folder }
    }
}

/// A running server. It ends with this value.
pub struct Database {
    pub engine: Engine,
    server: Server,
}

impl Database {
    /// Starts one. `None`, said on standard error, where its programs are not installed.
    pub async fn start(engine: Engine) -> Option<Self> {
        let started = match engine {
            Engine::MySql => server::mariadb("unused").await,
            Engine::PostgreSql => server::postgresql().await,
        };
        Self::started(engine, started)
    }

    fn started(engine: Engine, started: Result<Server, ServerError>) -> Option<Self> {
        match started {
            Ok(server) => Some(Self { engine, server }),
            Err(error @ ServerError::NotInstalled { .. }) => {
                eprintln!("SKIPPED 1: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Starts one that speaks TLS, too, and whose user `reader` has this password and may not come without TLS.
    pub async fn start_with_tls(engine: Engine, certificate: &Certificate, password: &str) -> Option<Self> {
        let files =
            [&certificate.authority, &certificate.server, &certificate.key].map(|path| path.display().to_string());
        let [authority, server, key] = &files;
        match engine {
            Engine::MySql => {
                let options =
                    [format!("--ssl-ca={authority}"), format!("--ssl-cert={server}"), format!("--ssl-key={key}")];
                let database = Self::started(engine, server::mariadb_with("unused", &options).await)?;
                database.run(&format!(
                    "CREATE USER reader IDENTIFIED BY '{password}' REQUIRE SSL; GRANT SELECT ON *.* TO reader;"
                ));
                Some(database)
            }
            Engine::PostgreSql => {
                let database = Self::start(engine).await?;
                // It reads no key that another user owns.
                let process = format!("/proc/{}", database.server.process_id().unwrap());
                let owner = std::fs::metadata(process).unwrap();
                std::os::unix::fs::chown(&certificate.key, Some(owner.uid()), Some(owner.gid())).unwrap();
                let rules = database.run("SHOW hba_file");
                let before = std::fs::read_to_string(&rules).unwrap();
                let own = "hostssl all reader 127.0.0.1/32 scram-sha-256\nhostnossl all reader 127.0.0.1/32 reject\n";
                std::fs::write(&rules, format!("{own}{before}")).unwrap();
                database
                    .run(&format!("CREATE ROLE reader LOGIN PASSWORD '{password}'; GRANT pg_read_all_data TO reader;"));
                database.run(&format!("ALTER SYSTEM SET ssl_cert_file = '{server}'"));
                database.run(&format!("ALTER SYSTEM SET ssl_key_file = '{key}'"));
                database.run("ALTER SYSTEM SET ssl = on");
                database.run("SELECT pg_reload_conf()");
                while database.run("SHOW ssl") != "on" {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                Some(database)
            }
        }
    }

    /// What `strait verify --source` takes.
    pub fn url(&self) -> String {
        match self.engine {
            Engine::MySql => format!("mysql://root@127.0.0.1:{}", self.server.port),
            Engine::PostgreSql => format!("postgres://postgres@127.0.0.1:{}/postgres", self.server.port),
        }
    }

    /// The same as the user `reader`, who has a password.
    pub fn url_of_reader(&self) -> String {
        match self.engine {
            Engine::MySql => format!("mysql://reader@127.0.0.1:{}", self.server.port),
            Engine::PostgreSql => format!("postgres://reader@127.0.0.1:{}/postgres", self.server.port),
        }
    }

    fn output(&self, sql: &str) -> Output {
        use std::io::Write as _;
        let port = self.server.port.to_string();
        let mut command = match self.engine {
            Engine::MySql => {
                let mut command = Command::new(installed("mariadb").unwrap());
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
                let mut command = Command::new(installed("psql").unwrap());
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
