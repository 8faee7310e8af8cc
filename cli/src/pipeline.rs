//! The two built functions, each under its Runtime API, on one embedded BigQuery; records go in as Lambda's poller delivers them,
//! merges run as the schedule calls them. It must never do the functions' work for them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use strait::config::{Config, ConfigError, CredentialSource};

use crate::accounting::{self, Accounting, Expected};
use crate::embedded_bigquery::{EmbeddedBigQuery, EmbeddedError, Observer, QueryError, QueryResult};
use crate::msk::{self, KafkaRecord, RecordIdentity};
use crate::runtime_api::{Function, FunctionSettings, Invocation, InvocationOutcome, RuntimeApiError};

/// The project of all tables, unless STRAIT_PROJECT names one.
pub const DEFAULT_PROJECT: &str = "local";

/// Time limits and memory as on Lambda; a person's patience ends before Lambda's own 15 minutes.
const INGEST_TIMEOUT: Duration = Duration::from_secs(120);
const MERGE_TIMEOUT: Duration = Duration::from_secs(900);
const MEMORY_MB: u32 = 512;

/// The poller goes on for as long as the record is in Kafka; here a fault that stays has to show.
const DELIVERY_ATTEMPTS: u32 = 5;
/// Between attempts; grows with each.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);
/// A merge that left jobs working is called again, as the schedule would, only sooner.
const RUNNING_PAUSE: Duration = Duration::from_millis(500);
const RUNNING_LIMIT: Duration = Duration::from_secs(1800);

/// What the two functions are started with.
#[derive(Debug, Clone)]
pub struct PipelineSettings {
    /// The folder that holds the built `ingest` and `merge`.
    pub functions: PathBuf,
    /// Variables for the functions: STRAIT_* of the operator's choice, and whatever else they need. The embedded BigQuery's endpoints
    /// are set over them.
    pub variables: BTreeMap<String, String>,
    /// A folder for the functions' logs, beside memory.
    pub logs: Option<PathBuf>,
    /// Time limit of one invocation of `ingest`.
    pub ingest_timeout: Duration,
    /// Time limit of one invocation of `merge`.
    pub merge_timeout: Duration,
    /// What both functions are told to have, in MB.
    pub memory_mb: u32,
}

impl PipelineSettings {
    /// The functions beside this executable, with these variables and nothing of this process' environment.
    #[must_use]
    pub fn new(variables: BTreeMap<String, String>) -> Self {
        Self {
            functions: functions_beside_executable(),
            variables,
            logs: None,
            ingest_timeout: INGEST_TIMEOUT,
            merge_timeout: MERGE_TIMEOUT,
            memory_mb: MEMORY_MB,
        }
    }

    /// The functions beside this executable, with the STRAIT_* and AWS_* variables of this process' environment. The latter reach the
    /// functions only if their configuration has them read a secret.
    #[must_use]
    pub fn from_environment() -> Self {
        let readable =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self::new(
            std::env::vars_os()
                .filter_map(readable)
                .filter(|(name, _)| name.starts_with("STRAIT_") || name.starts_with("AWS_"))
                .collect(),
        )
    }

    fn binary(&self, name: &'static str) -> Result<PathBuf, PipelineError> {
        let path = self.functions.join(name);
        if path.is_file() {
            return Ok(path);
        }
        Err(PipelineError::NotBuilt { name, folder: self.functions.clone() })
    }

    fn variables_for(&self, project: &str, rest_url: &str, grpc_url: &str) -> BTreeMap<String, String> {
        let mut variables = self.variables.clone();
        variables.entry("STRAIT_PROJECT".to_owned()).or_insert_with(|| project.to_owned());
        variables.insert("STRAIT_BIGQUERY_REST_URL".to_owned(), rest_url.to_owned());
        variables.insert("STRAIT_BIGQUERY_GRPC_URL".to_owned(), grpc_url.to_owned());
        variables
    }
}

/// Where `cargo build` puts the functions: beside this executable, or above it for a test's.
#[must_use]
pub fn functions_beside_executable() -> PathBuf {
    let executable = std::env::current_exe().unwrap_or_default();
    let folder = executable.parent().unwrap_or(Path::new("."));
    if folder.ends_with("deps") { folder.parent().unwrap_or(folder).to_path_buf() } else { folder.to_path_buf() }
}

/// Why the functions could not be run.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Not built.
    #[error(
        "the function `{name}` is not in {}.\nBuild it (`cargo build -p strait-{name}`), or say with `--functions DIR` where it is.",
        .folder.display()
    )]
    NotBuilt {
        /// `ingest` or `merge`.
        name: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The STRAIT_* variables.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The embedded BigQuery.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The Runtime API.
    #[error(transparent)]
    Runtime(#[from] RuntimeApiError),
    /// A function whose start fails, as every next one would.
    #[error("the function `{name}` does not start: {reason}")]
    NotStarted {
        /// `ingest` or `merge`.
        name: String,
        /// What it says of that.
        reason: String,
    },
    /// A statement on the embedded BigQuery.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A merge that did not end as one.
    #[error("the merge function did not merge: {0}")]
    Merge(String),
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Invocations that it took.
    pub attempts: u32,
    /// Records that failed at every attempt.
    pub given_up: Vec<RecordIdentity>,
    /// How the last attempt that failed did.
    pub last_failure: Option<String>,
}

/// What a merge answered about a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MergedTable {
    /// `schema.table` at the source.
    pub table: String,
    /// `dataset.table` in BigQuery.
    #[serde(rename = "final")]
    pub final_table: Option<String>,
    /// merged, idle, waiting, running or failed.
    pub outcome: String,
    /// Log records in the window.
    pub records: u64,
    /// Rows.
    pub inserted: u64,
    /// Rows.
    pub updated: u64,
    /// Rows.
    pub deleted: u64,
    /// Rows put into quarantine.
    pub quarantined: u64,
    /// Keys that were folded anew from the log.
    pub late: u64,
    /// Bytes billed.
    pub bytes_billed: u64,
    /// Why it is waiting or failed.
    pub reason: Option<String>,
}

#[derive(Deserialize)]
struct MergeAnswer {
    tables: Vec<MergedTable>,
}

/// Time spent in a function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeSpent {
    /// Invocations.
    pub invocations: u32,
    /// Their sum.
    pub total: Duration,
    /// The longest.
    pub longest: Duration,
}

/// The whole pipeline on this machine.
#[derive(Debug)]
pub struct Pipeline {
    /// Where the functions write.
    pub bigquery: Arc<EmbeddedBigQuery>,
    /// The function that appends.
    pub ingest: Function,
    /// The function that merges.
    pub merge: Function,
    /// The configuration that the functions were started with.
    pub config: Config,
    ingest_time: Mutex<TimeSpent>,
    merge_time: Mutex<TimeSpent>,
}

impl Pipeline {
    /// Starts an embedded BigQuery and the two functions on it.
    ///
    /// # Errors
    /// [`PipelineError`]; its text says what to do.
    pub async fn start(settings: PipelineSettings, observe: Observer<'_>) -> Result<Self, PipelineError> {
        // What a person can get wrong is checked before anything is started; the true ports come later.
        settings.binary("ingest")?;
        settings.binary("merge")?;
        let nowhere = "http://127.0.0.1:1";
        let config = Config::from_vars(settings.variables_for(DEFAULT_PROJECT, nowhere, nowhere))?;
        let bigquery = EmbeddedBigQuery::start(&config.project, observe).await?;
        Self::on(Arc::new(bigquery), settings).await
    }

    /// Starts the two functions on an embedded BigQuery that is up, which may serve several pipelines, one after the other or
    /// with log and final tables of their own.
    ///
    /// # Errors
    /// [`PipelineError`]; its text says what to do.
    pub async fn on(bigquery: Arc<EmbeddedBigQuery>, settings: PipelineSettings) -> Result<Self, PipelineError> {
        let (ingest, merge) = (settings.binary("ingest")?, settings.binary("merge")?);
        let mut variables = settings.variables_for(&bigquery.project, &bigquery.rest_url, &bigquery.grpc_url);
        let config = Config::from_vars(variables.clone())?;
        let needs_aws = config.mask_key_secret.is_some() || matches!(config.credentials, CredentialSource::Secret(_));
        if !needs_aws {
            variables.retain(|name, _| !name.starts_with("AWS_"));
        }
        let function = |name: &str, binary: PathBuf, timeout: Duration| FunctionSettings {
            name: name.to_owned(),
            binary,
            environment: variables.clone(),
            timeout,
            memory_mb: settings.memory_mb,
            log_file: settings.logs.as_ref().map(|folder| folder.join(format!("{name}.log"))),
        };
        let ingest = Function::start(function("ingest", ingest, settings.ingest_timeout)).await?;
        let merge = Function::start(function("merge", merge, settings.merge_timeout)).await?;
        for function in [&ingest, &merge] {
            function.until_ready().await.map_err(|outcome| PipelineError::NotStarted {
                name: function.name().to_owned(),
                reason: in_words(&outcome),
            })?;
        }
        Ok(Self { bigquery, ingest, merge, config, ingest_time: Mutex::default(), merge_time: Mutex::default() })
    }

    /// Delivers a batch as Lambda's poller does: what fails is sent again, the failed records alone where the answer names them.
    ///
    /// # Errors
    /// [`PipelineError::Runtime`] when the function cannot be invoked. A batch that keeps failing is no error but given up.
    pub async fn deliver(&self, batch: &[KafkaRecord]) -> Result<Delivery, PipelineError> {
        self.deliver_event(msk::event(batch).into(), batch).await
    }

    /// Like [`Self::deliver`], for an event that is passed as it is. `batch` holds its records.
    ///
    /// # Errors
    /// As [`Self::deliver`].
    pub async fn deliver_event(&self, event: Bytes, batch: &[KafkaRecord]) -> Result<Delivery, PipelineError> {
        let mut event = event;
        let mut records: Vec<KafkaRecord> = batch.to_vec();
        let mut delivery = Delivery { attempts: 0, given_up: Vec::new(), last_failure: None };
        while delivery.attempts < DELIVERY_ATTEMPTS {
            tokio::time::sleep(ATTEMPT_PAUSE.saturating_mul(delivery.attempts)).await;
            delivery.attempts = delivery.attempts.saturating_add(1);
            let invocation = self.ingest.invoke(event.clone()).await?;
            note(&self.ingest_time, &invocation);
            let InvocationOutcome::Response(answer) = &invocation.outcome else {
                delivery.last_failure = Some(in_words(&invocation.outcome));
                continue;
            };
            match msk::failed_items(answer, &records) {
                Some(failed) if failed.is_empty() => return Ok(delivery),
                Some(failed) => {
                    delivery.last_failure = Some(format!("{} of {} records failed", failed.len(), records.len()));
                    records = failed.into_iter().cloned().collect();
                    event = msk::event(&records).into();
                }
                None => {
                    delivery.last_failure = Some("the answer names no records of the batch".to_owned());
                }
            }
        }
        delivery.given_up = records.iter().map(KafkaRecord::identity).collect();
        Ok(delivery)
    }

    /// Calls the merge function once.
    ///
    /// # Errors
    /// [`PipelineError::Merge`] when it ended in an error, which it also does when a table failed.
    pub async fn merge_once(&self) -> Result<Vec<MergedTable>, PipelineError> {
        let invocation = self.merge.invoke("{}").await?;
        note(&self.merge_time, &invocation);
        match &invocation.outcome {
            InvocationOutcome::Response(answer) => serde_json::from_slice::<MergeAnswer>(answer)
                .map(|answer| answer.tables)
                .map_err(|error| PipelineError::Merge(format!("its answer is not a merge's: {error}"))),
            other => Err(PipelineError::Merge(in_words(other))),
        }
    }

    /// Calls the merge function until no table is `running`; answers what each call said, in order.
    ///
    /// # Errors
    /// As [`Self::merge_once`]; and when a table keeps running.
    pub async fn merge_until_settled(&self) -> Result<Vec<Vec<MergedTable>>, PipelineError> {
        let started = Instant::now();
        let mut answers = Vec::new();
        loop {
            let tables = self.merge_once().await?;
            let running = tables.iter().any(|table| table.outcome == "running");
            answers.push(tables);
            if !running {
                return Ok(answers);
            }
            if started.elapsed() > RUNNING_LIMIT {
                return Err(PipelineError::Merge(format!(
                    "a table is still running after {} s",
                    RUNNING_LIMIT.as_secs()
                )));
            }
            tokio::time::sleep(RUNNING_PAUSE).await;
        }
    }

    /// Holds the log against what is expected of it.
    ///
    /// # Errors
    /// [`PipelineError::Query`]; a log that does not exist is an empty one.
    pub async fn account(&self, expected: &Expected) -> Result<Accounting, PipelineError> {
        let statement = accounting::log_statement(&self.config.log_table.to_string());
        let log = match self.bigquery.query(&statement).await {
            Err(QueryError::Refused { status: 404, .. }) => QueryResult::default(),
            other => other?,
        };
        Ok(accounting::account(expected, &log))
    }

    /// Time spent in `ingest` and in `merge`.
    #[must_use]
    pub fn time_spent(&self) -> (TimeSpent, TimeSpent) {
        let read = |time: &Mutex<TimeSpent>| time.lock().map(|time| *time).unwrap_or_default();
        (read(&self.ingest_time), read(&self.merge_time))
    }

    /// Ends both functions, and the embedded BigQuery unless somebody else still holds it.
    pub async fn stop(self) {
        self.ingest.kill().await;
        self.merge.kill().await;
        if let Some(bigquery) = Arc::into_inner(self.bigquery) {
            bigquery.stop().await;
        }
    }
}

fn note(time: &Mutex<TimeSpent>, invocation: &Invocation) {
    if let Ok(mut time) = time.lock() {
        time.invocations = time.invocations.saturating_add(1);
        time.total = time.total.saturating_add(invocation.duration);
        time.longest = time.longest.max(invocation.duration);
    }
}

/// How an invocation failed.
#[must_use]
pub fn in_words(outcome: &InvocationOutcome) -> String {
    match outcome {
        InvocationOutcome::Response(_) => "it answered".to_owned(),
        InvocationOutcome::Error { error_type, message } => format!("{error_type}: {message}"),
        InvocationOutcome::Exited { status, log_tail } => {
            let status = status.map_or_else(|| "unknown status".to_owned(), |status| status.to_string());
            if log_tail.is_empty() {
                format!("its process ended ({status}) without a word")
            } else {
                format!("its process ended ({status}). Its last lines:\n{log_tail}")
            }
        }
        InvocationOutcome::TimedOut => "it ran into its time limit and was killed".to_owned(),
    }
}
