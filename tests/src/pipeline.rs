//! The two built functions of one test, under a Lambda Runtime API each, with datasets of their own in the binary's embedded BigQuery.
//! It must never do the functions' work for them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use strait_cli::embedded_bigquery::{EmbeddedBigQuery, QueryError, QueryResult};
use strait_cli::msk::{self, KafkaRecord, Topic};
use strait_cli::pipeline::{MergedTable, in_words};
use strait_cli::runtime_api::{Function, FunctionSettings, InvocationOutcome};
use tokio::process::Command;

use crate::history::{Message, Table};
use crate::{NULL, PROJECT, bigquery, programs, with_causes};

/// Lambda's answer to a batch of which every record is in the log.
pub const NOTHING_FAILED: &str = r#"{"batchItemFailures":[]}"#;

/// How a test's functions are started.
#[derive(Debug, Clone)]
pub struct Setup {
    variables: BTreeMap<String, String>,
    ingest_timeout: Duration,
    merge_timeout: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            variables: BTreeMap::new(),
            // Far above what anything takes here, so that only a function that hangs meets it.
            ingest_timeout: Duration::from_secs(120),
            merge_timeout: Duration::from_secs(300),
        }
    }
}

impl Setup {
    /// With a variable set, over what the test would set itself.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With a time limit for `ingest`.
    #[must_use]
    pub fn ingest_timeout(mut self, timeout: Duration) -> Self {
        self.ingest_timeout = timeout;
        self
    }

    /// With a time limit for `merge`.
    #[must_use]
    pub fn merge_timeout(mut self, timeout: Duration) -> Self {
        self.merge_timeout = timeout;
        self
    }

    /// Starts the functions.
    pub async fn start(self) -> Pipeline {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let bigquery = bigquery().await;
        drop_finished(&bigquery).await;
        let prefix = format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut variables: BTreeMap<String, String> = [
            ("STRAIT_PROJECT", PROJECT.to_owned()),
            ("STRAIT_LOG_TABLE", format!("{prefix}_cdc.log")),
            ("STRAIT_MERGES_TABLE", format!("{prefix}_cdc.merges")),
            ("STRAIT_QUARANTINE_TABLE", format!("{prefix}_cdc.quarantine")),
            ("STRAIT_FINAL_TABLE", format!("{prefix}_replica.{{schema}}_{{table}}")),
            ("STRAIT_BIGQUERY_REST_URL", bigquery.rest_url.clone()),
            ("STRAIT_BIGQUERY_GRPC_URL", bigquery.grpc_url.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        variables.extend(self.variables);
        let ingest = function("ingest", variables.clone(), self.ingest_timeout).await;
        let merge = function("merge", variables, self.merge_timeout).await;
        Pipeline { bigquery, ingest, merge, prefix, topics: HashMap::new() }
    }
}

/// What the datasets of pipelines that are gone begin with.
static FINISHED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Every table that the embedded BigQuery holds makes its every statement slower: 180 of them, by a second.
async fn drop_finished(bigquery: &EmbeddedBigQuery) {
    let finished = std::mem::take(&mut *FINISHED.lock().unwrap());
    for prefix in finished {
        for dataset in ["cdc", "replica"] {
            // A test that failed early has made none.
            let _ = bigquery.query(&format!("DROP SCHEMA IF EXISTS `{prefix}_{dataset}` CASCADE")).await;
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        FINISHED.lock().unwrap().push(std::mem::take(&mut self.prefix));
    }
}

/// Starts a built function with nothing but these variables.
///
/// # Panics
/// When its process cannot be started.
pub async fn function(name: &str, environment: BTreeMap<String, String>, timeout: Duration) -> Function {
    let settings = FunctionSettings {
        name: name.to_owned(),
        binary: programs::program(name),
        environment,
        timeout,
        memory_mb: 512,
        log_file: None,
    };
    Function::start(settings).await.unwrap_or_else(|error| panic!("{}", with_causes(&error)))
}

/// A test's functions, and the topics that its records lie in.
#[derive(Debug)]
pub struct Pipeline {
    /// Shared with the other tests of the binary.
    pub bigquery: Arc<EmbeddedBigQuery>,
    /// The function that appends.
    pub ingest: Function,
    /// The function that merges.
    pub merge: Function,
    prefix: String,
    topics: HashMap<String, Topic>,
}

impl Pipeline {
    /// With everything as configured by default.
    pub async fn start() -> Self {
        Setup::default().start().await
    }

    /// What the names of the test's datasets begin with; no other test's datasets do.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The log, `dataset.table`.
    #[must_use]
    pub fn log(&self) -> String {
        format!("{}_cdc.log", self.prefix)
    }

    /// The merge ledger.
    #[must_use]
    pub fn merges(&self) -> String {
        format!("{}_cdc.merges", self.prefix)
    }

    /// The quarantine.
    #[must_use]
    pub fn quarantine(&self) -> String {
        format!("{}_cdc.quarantine", self.prefix)
    }

    /// A table's final table.
    #[must_use]
    pub fn final_table(&self, table: &Table) -> String {
        format!("{}_replica.{}_{}", self.prefix, table.schema, table.name)
    }

    /// `strait SUBCOMMAND` with the variables that the functions have, and no others.
    #[must_use]
    pub fn strait(&self, subcommand: &str) -> Command {
        let mut command = Command::new(programs::program("strait"));
        command
            .arg(subcommand)
            .env_clear()
            .env("STRAIT_PROJECT", PROJECT)
            .env("STRAIT_LOG_TABLE", self.log())
            .env("STRAIT_MERGES_TABLE", self.merges())
            .env("STRAIT_QUARANTINE_TABLE", self.quarantine())
            .env("STRAIT_FINAL_TABLE", format!("{}_replica.{{schema}}_{{table}}", self.prefix))
            .env("STRAIT_BIGQUERY_REST_URL", &self.bigquery.rest_url)
            .env("STRAIT_BIGQUERY_GRPC_URL", &self.bigquery.grpc_url);
        command
    }

    // Kafka

    /// Puts messages into their partitions.
    pub fn produce<'m>(&mut self, messages: impl IntoIterator<Item = &'m Message>) -> Vec<KafkaRecord> {
        let mut records = Vec::new();
        for message in messages {
            let topic = self.topics.entry(message.topic().to_owned()).or_insert_with_key(|name| Topic::new(name, 1));
            let value = message.to_value();
            let key = value.as_deref().and_then(msk::default_dms_key);
            records.push(topic.append_to(message.partition(), key, value));
        }
        records
    }

    /// Delivers records in one batch.
    ///
    /// # Panics
    /// When the function does not report every one of them as written.
    pub async fn deliver(&self, records: &[KafkaRecord]) {
        let outcome = self.invoke_ingest(msk::event(records)).await;
        assert_eq!(answer(&outcome), NOTHING_FAILED);
    }

    /// Puts messages into their partitions and delivers them in one batch.
    pub async fn send(&mut self, messages: &[Message]) -> Vec<KafkaRecord> {
        let records = self.produce(messages);
        self.deliver(&records).await;
        records
    }

    // The functions

    /// Invokes `ingest`.
    pub async fn invoke_ingest(&self, payload: impl Into<Bytes>) -> InvocationOutcome {
        self.ingest.invoke(payload).await.unwrap().outcome
    }

    /// Invokes `merge`.
    pub async fn invoke_merge(&self, payload: impl Into<Bytes>) -> InvocationOutcome {
        self.merge.invoke(payload).await.unwrap().outcome
    }

    /// Invokes `merge` as the schedule does, until no table is running.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn merge(&self) -> Vec<MergedTable> {
        self.merge_with(&b"{}"[..]).await
    }

    /// Invokes `merge` with an event.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn merge_with(&self, payload: impl Into<Bytes>) -> Vec<MergedTable> {
        let outcome = self.invoke_merge(payload).await;
        let mut answer: Value = serde_json::from_str(answer(&outcome)).unwrap();
        serde_json::from_value(answer["tables"].take()).unwrap()
    }

    /// Everything that both functions wrote to their logs.
    #[must_use]
    pub fn logs(&self) -> String {
        format!("{}\n{}", self.ingest.log(), self.merge.log())
    }

    /// Adds a fault; matches must name [`Self::prefix`] so that they spoil no other test's calls.
    ///
    /// # Panics
    /// When the rule is malformed.
    pub async fn fault(&self, rule: Value) {
        assert!(rule.to_string().contains(&self.prefix), "a fault for every test: {rule}");
        self.bigquery.faults(&Value::Array(vec![rule])).await.unwrap();
    }

    /// Whether every fault of this test has taken place.
    pub async fn faults_are_used_up(&self) -> bool {
        !self.bigquery.remaining_faults().await.unwrap().to_string().contains(&format!("{}_", self.prefix))
    }

    /// Kills `merge` in the middle of an invocation, once every fault of this test has taken place.
    ///
    /// # Panics
    /// When the invocation ends before that.
    pub async fn kill_merge_in_a_fault(&self, payload: impl Into<Bytes>) {
        let under_way = async {
            while !self.faults_are_used_up().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            outcome = self.invoke_merge(payload) => panic!("the merge ended: {}", in_words(&outcome)),
            () = under_way => self.merge.kill().await,
        }
    }

    // BigQuery

    /// Runs a statement.
    ///
    /// # Panics
    /// When BigQuery refuses it.
    pub async fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        match self.result(sql).await {
            Ok(result) => result.rows,
            Err(error) => panic!("{sql}\n{}", with_causes(&error)),
        }
    }

    /// The embedded BigQuery closes a connection that has been idle for some seconds, perhaps in the moment of its next use.
    async fn result(&self, sql: &str) -> Result<QueryResult, QueryError> {
        match self.bigquery.query(sql).await {
            Err(QueryError::Unreachable(_)) => self.bigquery.query(sql).await,
            other => other,
        }
    }

    /// A statement's rows, each as its cells with `|` between them, in the order of their texts. NULL is `NULL`.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        texts_of(self.query(sql).await)
    }

    /// As [`Self::texts`], or what BigQuery says of a statement that it refuses, for where that is what a test looks for.
    pub async fn try_texts(&self, sql: &str) -> Result<Vec<String>, String> {
        self.result(sql).await.map(|result| texts_of(result.rows)).map_err(|error| with_causes(&error))
    }

    /// Whether a table exists.
    pub async fn exists(&self, table: &str) -> bool {
        match self.result(&format!("SELECT COUNT(*) FROM `{table}`")).await {
            Ok(_) => true,
            Err(QueryError::Refused { .. }) => false,
            Err(error) => panic!("{}", with_causes(&error)),
        }
    }

    /// The rows of a final table that are not marked as deleted, without Strait's own columns, sorted by their texts.
    pub async fn rows(&self, table: &Table) -> Vec<Vec<Option<String>>> {
        self.final_rows(table, false).await
    }

    /// The rows of a final table that are marked as deleted.
    pub async fn deleted_rows(&self, table: &Table) -> Vec<Vec<Option<String>>> {
        self.final_rows(table, true).await
    }

    async fn final_rows(&self, table: &Table, deleted: bool) -> Rows {
        let seen = self.try_table(table).await.unwrap_or_else(|error| panic!("{error}"));
        if deleted { seen.deleted } else { seen.live }
    }

    /// A final table as one query sees it, or why it cannot be read.
    pub(crate) async fn try_table(&self, table: &Table) -> Result<SeenTable, String> {
        let sql = format!("SELECT * FROM `{}`", self.final_table(table));
        let result = self.result(&sql).await.map_err(|error| with_causes(&error))?;
        let deleted_place = result.columns.iter().position(|column| column.name == "_strait_deleted");
        let (mut deleted, mut live) = (Rows::new(), Rows::new());
        for row in &result.rows {
            let cells = result.columns.iter().zip(row);
            let own = cells.filter(|(column, _)| !column.name.starts_with("_strait_")).map(|(_, cell)| cell.clone());
            let is_deleted = deleted_place.is_some_and(|place| row[place].as_deref() == Some("true"));
            (if is_deleted { &mut deleted } else { &mut live }).push(own.collect());
        }
        deleted.sort();
        live.sort();
        Ok(SeenTable { live, deleted, every_cell: texts_of(result.rows) })
    }

    /// Every cell of a final table, Strait's own columns included: equal before and after means that nothing was touched.
    pub async fn snapshot(&self, table: &Table) -> Vec<String> {
        self.texts(&format!("SELECT * FROM `{}`", self.final_table(table))).await
    }

    /// Asserts what a final table holds.
    ///
    /// # Panics
    /// When it holds something else.
    pub async fn assert_rows(&self, table: &Table, expected: &[&[&str]]) {
        assert_eq!(self.rows(table).await, cells(expected), "{}", table.source_name());
    }

    /// How often each operation is in the log, each Kafka record counted once.
    pub async fn logged(&self) -> BTreeMap<String, u32> {
        let sql = format!(
            "SELECT operation, COUNT(DISTINCT CONCAT(kafka_topic, ' ', kafka_partition, ' ', kafka_offset)) \
             FROM `{}` GROUP BY operation",
            self.log()
        );
        let rows = self.query(&sql).await.into_iter();
        rows.map(|row| (row[0].clone().unwrap(), row[1].as_deref().unwrap().parse().unwrap())).collect()
    }
}

/// Cells of rows, NULL as None.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// A final table as one query saw it.
#[derive(Debug)]
pub(crate) struct SeenTable {
    /// As [`Pipeline::rows`].
    pub(crate) live: Rows,
    /// As [`Pipeline::deleted_rows`].
    pub(crate) deleted: Rows,
    /// As [`Pipeline::snapshot`].
    pub(crate) every_cell: Vec<String>,
}

fn texts_of(rows: Rows) -> Vec<String> {
    let mut texts: Vec<String> = rows
        .into_iter()
        .map(|row| row.into_iter().map(|cell| cell.unwrap_or_else(|| "NULL".to_owned())).collect::<Vec<_>>().join("|"))
        .collect();
    texts.sort();
    texts
}

/// Rows as BigQuery gives them, sorted.
#[must_use]
pub fn cells(rows: &[&[&str]]) -> Vec<Vec<Option<String>>> {
    let cell = |cell: &&str| (*cell != NULL).then(|| (*cell).to_owned());
    let mut rows: Vec<Vec<Option<String>>> = rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    rows.sort();
    rows
}

/// A function's answer.
///
/// # Panics
/// When it gave none.
#[must_use]
pub fn answer(outcome: &InvocationOutcome) -> &str {
    match outcome {
        InvocationOutcome::Response(body) => std::str::from_utf8(body).unwrap(),
        other => panic!("the function did not answer: {}", in_words(other)),
    }
}

/// How a function failed: its error's type and message.
///
/// # Panics
/// When it did not fail by saying so.
#[must_use]
pub fn failure(outcome: &InvocationOutcome) -> (&str, &str) {
    match outcome {
        InvocationOutcome::Error { error_type, message } => (error_type, message),
        other => panic!("the function should have failed: {}", in_words(other)),
    }
}

/// The one answer about a table.
///
/// # Panics
/// When there is not exactly one.
#[must_use]
pub fn of<'a>(answers: &'a [MergedTable], table: &Table) -> &'a MergedTable {
    let name = table.source_name();
    let mut found = answers.iter().filter(|answer| answer.table == name);
    match (found.next(), found.next()) {
        (Some(only), None) => only,
        _ => {
            let mut all = String::new();
            for answer in answers {
                let _ = writeln!(all, "{answer:?}");
            }
            panic!("not exactly one answer about {name}:\n{all}")
        }
    }
}
