//! Real databases as sources to compare with. They are asked through their own command-line clients, so that what they say is no word of
//! Strait's.

use std::process::{Command, Output, Stdio};

use strait::merge::types::map::Engine;
use strait_databases::server::{self, Server, ServerError, installed};

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
        match started {
            Ok(server) => Some(Self { engine, server }),
            Err(error @ ServerError::NotInstalled { .. }) => {
                eprintln!("SKIPPED 1: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// What `strait verify --source` takes.
    pub fn url(&self) -> String {
        match self.engine {
            Engine::MySql => format!("mysql://root@127.0.0.1:{}", self.server.port),
            Engine::PostgreSql => format!("postgres://postgres@127.0.0.1:{}/postgres", self.server.port),
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
