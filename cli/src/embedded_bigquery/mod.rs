//! An embedded BigQuery on this machine: REST and the Storage Write API, both without TLS on loopback ports of their own.
//! It must never reach the real BigQuery, and must leave nothing behind: process and data go when the value is dropped.

pub mod environment;
pub mod python;
mod query;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub use environment::{Observer, SetupError, SetupStep};
pub use python::{Python, PythonMissing};
pub use query::{Column, QueryError, QueryResult};

/// The emulator is up in 2 to 6 s on an idle machine; the first start also compiles its packages' byte code.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// After SIGKILL only the kernel is waited for.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const STDERR_LINES_SHOWN: usize = 20;
/// Folders of this name in the temporary folder are the emulator's data.
const DATA_PREFIX: &str = "strait-bigquery-";

/// Why the embedded BigQuery is not there.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Its packages could not be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Its folder for data could not be made.
    #[error("cannot create a folder for the embedded BigQuery's data in {}", .parent.display())]
    DataFolder {
        /// Where.
        parent: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its process did not start.
    #[error("cannot start the embedded BigQuery")]
    Spawn {
        /// Why.
        source: std::io::Error,
    },
    /// The HTTP client for it could not be made.
    #[error("cannot make an HTTP client for the embedded BigQuery")]
    Client {
        /// Why.
        source: reqwest::Error,
    },
    /// Its process ended before it was ready.
    #[error("the embedded BigQuery ended before it was ready ({status}). Its last lines:\n{tail}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// What it said.
        tail: String,
    },
    /// It was not ready in time.
    #[error("the embedded BigQuery was not ready after {} s. Its last lines:\n{tail}", .waited.as_secs())]
    NotReady {
        /// How long it was given.
        waited: Duration,
        /// What it said.
        tail: String,
    },
    /// Its first line is not the one expected.
    #[error("the embedded BigQuery's launcher said something else than its ports. Its last lines:\n{tail}")]
    UnknownAnswer {
        /// What it said on standard error.
        tail: String,
    },
}

/// A running embedded BigQuery.
#[derive(Debug)]
pub struct EmbeddedBigQuery {
    /// Base URL of the REST API, as STRAIT_BIGQUERY_REST_URL wants it: `http://127.0.0.1:PORT/bigquery/v2`.
    pub rest_url: String,
    /// URL of the Storage Write API, as STRAIT_BIGQUERY_GRPC_URL wants it: `http://127.0.0.1:PORT`.
    pub grpc_url: String,
    /// The project of all tables.
    pub project: String,
    origin: String,
    http: reqwest::Client,
    child: Child,
    data: DataFolder,
}

#[derive(Deserialize)]
struct Ports {
    rest_port: u16,
    grpc_port: u16,
}

impl EmbeddedBigQuery {
    /// Sets the emulator up in [`environment::build_output`] if it is not, and starts it with no data.
    ///
    /// # Errors
    /// [`EmbeddedError`]; its text says what to do.
    pub async fn start(project: &str, observe: Observer<'_>) -> Result<Self, EmbeddedError> {
        let environment = environment::prepare(&environment::build_output(), observe).await?;
        observe(SetupStep::Starting);
        Self::launch(project, &environment, READY_TIMEOUT).await
    }

    async fn launch(
        project: &str,
        environment: &environment::Environment,
        ready_timeout: Duration,
    ) -> Result<Self, EmbeddedError> {
        let data = DataFolder::create()?;
        let spawn_failed = |source| EmbeddedError::Spawn { source };
        let log = File::create(data.stderr_file()).map_err(spawn_failed)?;
        let mut child = Command::new(&environment.python)
            .arg("-I")
            .arg(&environment.launcher)
            .args(["--host", "127.0.0.1", "--port", "0", "--grpc-port", "0"])
            .args(["--project", project])
            .arg("--data-dir")
            .arg(data.database())
            .env("HOME", &environment.home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(spawn_failed)?;

        let mut lines = child.stdout.take().map(BufReader::new).map(BufReader::lines);
        let first_line = async {
            match &mut lines {
                Some(lines) => lines.next_line().await.ok().flatten(),
                None => None,
            }
        };
        let answer = match tokio::time::timeout(ready_timeout, first_line).await {
            Ok(answer) => answer,
            Err(_) => {
                return Err(EmbeddedError::NotReady { waited: ready_timeout, tail: data.stderr_tail() });
            }
        };
        let Some(answer) = answer else {
            // Standard output is closed: the process is ending.
            let status = child.wait().await.map_err(spawn_failed)?;
            return Err(EmbeddedError::Ended { status, tail: data.stderr_tail() });
        };
        let Ok(ports) = serde_json::from_str::<Ports>(&answer) else {
            return Err(EmbeddedError::UnknownAnswer { tail: data.stderr_tail() });
        };
        let origin = format!("http://127.0.0.1:{}", ports.rest_port);
        Ok(Self {
            rest_url: format!("{origin}/bigquery/v2"),
            grpc_url: format!("http://127.0.0.1:{}", ports.grpc_port),
            project: project.to_owned(),
            origin,
            http: query::http_client().map_err(|source| EmbeddedError::Client { source })?,
            child,
            data,
        })
    }

    /// Runs a statement and fetches all of its rows.
    ///
    /// # Errors
    /// [`QueryError`], with BigQuery's own message when it refused the statement.
    pub async fn query(&self, sql: &str) -> Result<QueryResult, QueryError> {
        query::run(&self.http, &self.rest_url, &self.project, sql).await
    }

    /// The statements of all jobs that were created at these times, in milliseconds since 1970, the bounds included; in no order.
    ///
    /// # Errors
    /// As [`Self::counters`].
    pub async fn statements(&self, from_ms: i64, to_ms: i64) -> Result<Vec<String>, QueryError> {
        let jobs = format!("{}/projects/{}/jobs", self.rest_url, self.project);
        let list = format!("{jobs}?minCreationTime={from_ms}&maxCreationTime={to_ms}&maxResults=100000");
        let list = query::exchange(self.http.get(list)).await?;
        let mut statements = Vec::new();
        for job in list.get("jobs").and_then(serde_json::Value::as_array).into_iter().flatten() {
            if let Some(id) = job.pointer("/jobReference/jobId").and_then(serde_json::Value::as_str) {
                let job = query::exchange(self.http.get(format!("{jobs}/{id}"))).await?;
                let sql = job.pointer("/configuration/query/query").and_then(serde_json::Value::as_str);
                statements.extend(sql.map(str::to_owned));
            }
        }
        Ok(statements)
    }

    /// What was asked of the emulator since its start or the last [`Self::reset_counters`].
    ///
    /// # Errors
    /// [`QueryError`] when the emulator does not answer.
    pub async fn counters(&self) -> Result<serde_json::Value, QueryError> {
        query::exchange(self.http.get(self.strait_url("counters"))).await
    }

    /// Counts from zero again.
    ///
    /// # Errors
    /// As [`Self::counters`].
    pub async fn reset_counters(&self) -> Result<(), QueryError> {
        query::exchange(self.http.delete(self.strait_url("counters"))).await.map(|_| ())
    }

    /// Adds fault rules (a JSON list in the launcher's form); answers the rules now in force.
    ///
    /// # Errors
    /// [`QueryError`] when a rule is malformed.
    pub async fn faults(&self, rules: &serde_json::Value) -> Result<serde_json::Value, QueryError> {
        query::exchange(self.http.post(self.strait_url("faults")).json(rules)).await
    }

    /// The fault rules not yet used up.
    ///
    /// # Errors
    /// As [`Self::counters`].
    pub async fn remaining_faults(&self) -> Result<serde_json::Value, QueryError> {
        query::exchange(self.http.get(self.strait_url("faults"))).await
    }

    /// Removes all fault rules.
    ///
    /// # Errors
    /// As [`Self::counters`].
    pub async fn clear_faults(&self) -> Result<(), QueryError> {
        query::exchange(self.http.delete(self.strait_url("faults"))).await.map(|_| ())
    }

    /// The emulator's last lines on standard error, for a failure's report.
    #[must_use]
    pub fn stderr_tail(&self) -> String {
        self.data.stderr_tail()
    }

    /// Where the emulator's data and its standard error are; gone when it is stopped.
    #[must_use]
    pub fn data_folder(&self) -> &Path {
        &self.data.path
    }

    /// Ends the process and removes its data.
    pub async fn stop(mut self) {
        // What fails here ends with the drop, which kills and removes as well.
        let _ = self.child.start_kill();
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await;
    }

    fn strait_url(&self, what: &str) -> String {
        format!("{}/strait/{what}", self.origin)
    }
}

/// The emulator's data, in memory where the system has such a folder (3 to 9 times faster); removed on drop.
#[derive(Debug)]
struct DataFolder {
    path: PathBuf,
    // The lock says that the folder is in use; it goes with the process, however that ends.
    _lock: File,
}

impl DataFolder {
    fn create() -> Result<Self, EmbeddedError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        remove_abandoned(&parent);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let started = jiff::Timestamp::now().as_microsecond();
        let path = parent.join(format!("{DATA_PREFIX}{}-{started}-{number}", std::process::id()));
        let failed = |source| EmbeddedError::DataFolder { parent: parent.clone(), source };
        std::fs::create_dir(&path).map_err(failed)?;
        // Named `lock` once it is locked: `remove_abandoned` of another process may look at any moment.
        let unlocked = path.join("lock.new");
        let lock = File::create(&unlocked).map_err(failed)?;
        lock.lock().map_err(failed)?;
        std::fs::rename(&unlocked, path.join("lock")).map_err(failed)?;
        std::fs::create_dir(path.join("database")).map_err(failed)?;
        Ok(Self { path, _lock: lock })
    }

    fn database(&self) -> PathBuf {
        self.path.join("database")
    }

    fn stderr_file(&self) -> PathBuf {
        self.path.join("stderr.log")
    }

    fn stderr_tail(&self) -> String {
        let text = std::fs::read(self.stderr_file()).unwrap_or_default();
        environment::tail(&String::from_utf8_lossy(&text), STDERR_LINES_SHOWN)
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A process that was killed could not remove its data; in memory it would stay until the next boot.
fn remove_abandoned(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(DATA_PREFIX));
        // A folder without its lock file is one that is being made at this moment.
        let Some(lock) = ours.then(|| File::open(entry.path().join("lock")).ok()).flatten() else {
            continue;
        };
        if lock.try_lock().is_ok() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn environment(folder: &Path, script: &str) -> environment::Environment {
        let python = folder.join("python");
        std::fs::write(&python, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&python, PermissionsExt::from_mode(0o755)).unwrap();
        environment::Environment { python, launcher: folder.join("launcher.py"), home: folder.to_path_buf() }
    }

    #[tokio::test]
    async fn an_emulator_that_ends_at_once_shows_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let environment = environment(folder.path(), "echo 'no module named x' >&2; exit 3");
        let error = EmbeddedBigQuery::launch("p", &environment, READY_TIMEOUT).await.unwrap_err();
        assert!(error.to_string().contains("no module named x"), "{error}");
    }

    #[tokio::test]
    async fn an_emulator_that_never_says_its_ports_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let environment = environment(folder.path(), "echo 'still loading' >&2; exec sleep 600");
        // `sleep` says nothing, so any time limit ends the same way.
        let error = EmbeddedBigQuery::launch("p", &environment, Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(error, EmbeddedError::NotReady { .. }), "{error}");
    }

    #[test]
    fn data_goes_with_its_value_and_abandoned_data_with_the_next_start() {
        let (kept, dropped) = (DataFolder::create().unwrap(), DataFolder::create().unwrap());
        let (kept_path, dropped_path) = (kept.path.clone(), dropped.path.clone());
        drop(dropped);
        assert!(!dropped_path.exists());
        remove_abandoned(kept_path.parent().unwrap());
        assert!(kept_path.exists(), "data in use was removed");
        let abandoned = kept_path.with_file_name(format!("{DATA_PREFIX}abandoned-{}", std::process::id()));
        std::fs::create_dir(&abandoned).unwrap();
        std::fs::write(abandoned.join("lock"), "").unwrap();
        remove_abandoned(kept_path.parent().unwrap());
        assert!(!abandoned.exists());
    }
}
