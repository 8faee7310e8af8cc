//! BigQuery's REST API: datasets, tables, and query jobs that are run once.
//! gcp_bigquery_client makes the calls whose answers its models hold; the calls whose answers it cuts short (a table's
//! declared key, a job's DML counts) are made here.
//! It must never start a job twice: an id is taken once, and a lost answer is answered by attaching to it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use gcp_bigquery_client::Client;
use gcp_bigquery_client::client_builder::ClientBuilder;
use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::model::dataset::Dataset;
use gcp_bigquery_client::model::job::Job;
use gcp_bigquery_client::model::job_configuration::JobConfiguration;
use gcp_bigquery_client::model::job_configuration_query::JobConfigurationQuery;
use gcp_bigquery_client::model::job_reference::JobReference;
use gcp_bigquery_client::model::table_reference::TableReference;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::auth::{RestAuthenticator, TokenSource};
use super::error::{Error, ErrorKind};
use super::retry::{Retries, with_retries};
use super::table_resource::Table;
use super::table_spec::TableSpec;
use crate::names::TableName;

/// A connection is made in a fraction of this or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One call; longer than a poll waits, shorter than an invocation.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one poll waits inside BigQuery for the job to end.
const POLL: Duration = Duration::from_secs(10);
/// Connections that were idle this long are not used again: a frozen function's may be dead.
const POOL_IDLE: Duration = Duration::from_secs(50);
/// Jobs started by one call for one statement: the first and two more after failures that BigQuery calls transient.
const MAX_ATTEMPTS: u32 = 3;
/// Ids of earlier, failed runs of the same statement that are stepped over before giving up.
const MAX_FAILED_BEFORE: u32 = 32;

/// The REST API of one project in one location.
#[derive(Clone)]
pub struct BigQuery {
    client: Client,
    http: reqwest::Client,
    base_url: String,
    project: String,
    location: String,
    tokens: Arc<dyn TokenSource>,
}

/// Whether [`BigQuery::ensure_table`] found or made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// It was there.
    Existed,
    /// It is new: appends may not see it for some seconds.
    Created,
}

/// A statement to run as a job.
#[derive(Debug, Clone)]
pub struct JobRequest {
    /// GoogleSQL.
    pub sql: String,
    /// What the job ids are made of: the n-th attempt's is `{job_id}_{n}`. Letters, digits, `_` and `-`; the same for
    /// the same work, so that a second caller attaches instead of working again.
    pub job_id: String,
    /// For the bill.
    pub labels: BTreeMap<String, String>,
    /// The job fails, without cost, if it would bill more.
    pub max_bytes_billed: Option<i64>,
    /// Where the result goes instead of an anonymous table; replaced if it exists.
    pub destination: Option<TableName>,
    /// Rows of the answer at most; `Some(0)` reads none. `None` reads them all.
    pub max_results: Option<u64>,
}

impl JobRequest {
    /// A statement whose whole answer is wanted.
    #[must_use]
    pub fn new(sql: impl Into<String>, job_id: impl Into<String>) -> Self {
        Self {
            sql: sql.into(),
            job_id: job_id.into(),
            labels: BTreeMap::new(),
            max_bytes_billed: None,
            destination: None,
            max_results: None,
        }
    }
}

/// A finished job's answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueryAnswer {
    /// The job that gave it.
    pub job_id: String,
    /// The answer's columns.
    pub columns: Vec<String>,
    /// Its rows as BigQuery renders them: scalars are text, NULL is null, records and arrays are nested `f`/`v` objects.
    pub rows: Vec<Vec<Value>>,
    /// Rows in all, also those not read.
    pub total_rows: u64,
    /// What it took.
    pub stats: JobStats,
}

impl QueryAnswer {
    /// A cell as text; `None` for NULL and for what is not there.
    #[must_use]
    pub fn text(&self, row: usize, column: &str) -> Option<&str> {
        let place = self.columns.iter().position(|name| name == column)?;
        self.rows.get(row)?.get(place)?.as_str()
    }

    /// A cell as an integer; `None` also for what is no integer.
    #[must_use]
    pub fn integer(&self, row: usize, column: &str) -> Option<i64> {
        self.text(row, column)?.parse().ok()
    }
}

/// What a job took and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobStats {
    /// Bytes on the bill.
    pub bytes_billed: i64,
    /// Bytes read.
    pub bytes_processed: i64,
    /// Slot milliseconds.
    pub slot_ms: i64,
    /// Rows that DML inserted.
    pub inserted: i64,
    /// Rows that DML updated.
    pub updated: i64,
    /// Rows that DML deleted.
    pub deleted: i64,
    /// Start of the work, milliseconds since 1970.
    pub start_ms: Option<i64>,
    /// End of the work, milliseconds since 1970.
    pub end_ms: Option<i64>,
}

impl BigQuery {
    /// For `base_url`, without a slash at its end. rustls's process-wide provider must have been installed.
    ///
    /// # Errors
    /// `InvalidRequest` when no HTTP client can be made.
    pub async fn new(
        base_url: impl Into<String>,
        project: impl Into<String>,
        location: impl Into<String>,
        tokens: Arc<dyn TokenSource>,
    ) -> Result<Self, Error> {
        let base_url = base_url.into();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE)
            .user_agent(concat!("strait/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::InvalidRequest, "client", &base_url).with_source(error)
            })?;
        let client = ClientBuilder::new()
            .with_v2_base_url(base_url.clone())
            .with_client(http.clone())
            .build_from_authenticator(Arc::new(RestAuthenticator(Arc::clone(&tokens))))
            .await
            .map_err(|error| library_error("client", &base_url, error))?;
        Ok(Self {
            client,
            http,
            base_url,
            project: project.into(),
            location: location.into(),
            tokens,
        })
    }

    /// The project that all tables are in.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }

    /// Creates the dataset in the configured location unless it exists.
    ///
    /// # Errors
    /// As the policy leaves them.
    pub async fn ensure_dataset(&self, dataset: &str, deadline: Instant) -> Result<Ensured, Error> {
        let result = self
            .retrying(deadline, "datasets.insert", dataset, || async {
                self.client
                    .dataset()
                    .create(Dataset::new(&self.project, dataset).location(&self.location))
                    .await
            })
            .await;
        existing_is_fine(result)
    }

    /// Creates one of Strait's own tables, and its dataset, unless they exist.
    ///
    /// # Errors
    /// As the policy leaves them.
    pub async fn ensure_table(
        &self,
        name: &TableName,
        spec: &TableSpec,
        expiry_days: Option<u32>,
        deadline: Instant,
    ) -> Result<Ensured, Error> {
        let target = name.to_string();
        let create = || {
            self.retrying(deadline, "tables.insert", &target, || async {
                self.client
                    .table()
                    .create(spec.rest_table(&self.project, name, expiry_days))
                    .await
            })
        };
        match existing_is_fine(create().await) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.ensure_dataset(&name.dataset, deadline).await?;
                existing_is_fine(create().await)
            }
            other => other,
        }
    }

    /// The table, or `None` if it, or its dataset, does not exist.
    ///
    /// # Errors
    /// As the policy leaves them.
    pub async fn get_table(
        &self,
        name: &TableName,
        deadline: Instant,
    ) -> Result<Option<Table>, Error> {
        let path = format!("/datasets/{}/tables/{}", name.dataset, name.table);
        match self
            .call(
                deadline,
                Call {
                    name: "tables.get",
                    target: &name.to_string(),
                    method: Method::GET,
                    path: &path,
                    query: &[],
                    body: None,
                },
            )
            .await
        {
            Ok(table) => Ok(Some(table)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a table as described. One that exists already is left as it is.
    ///
    /// # Errors
    /// As the policy leaves them; `NotFound` when the dataset does not exist.
    pub async fn create_table(&self, table: &Table, deadline: Instant) -> Result<Ensured, Error> {
        let name = table.name();
        let path = format!("/datasets/{}/tables", name.dataset);
        let body = serde_json::to_value(table).map_err(|error| {
            Error::new(ErrorKind::InvalidRequest, "tables.insert", name.to_string())
                .with_source(error)
        })?;
        let result: Result<Value, Error> = self
            .call(
                deadline,
                Call {
                    name: "tables.insert",
                    target: &name.to_string(),
                    method: Method::POST,
                    path: &path,
                    query: &[],
                    body: Some(&body),
                },
            )
            .await;
        existing_is_fine(result)
    }

    /// Deletes a table; one that does not exist is fine.
    ///
    /// # Errors
    /// As the policy leaves them.
    pub async fn delete_table(&self, name: &TableName, deadline: Instant) -> Result<(), Error> {
        let result = self
            .retrying(deadline, "tables.delete", &name.to_string(), || async {
                self.client
                    .table()
                    .delete(&self.project, &name.dataset, &name.table)
                    .await
            })
            .await;
        match result {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Runs a statement as a job, or attaches to the job that already runs it, and reads its answer.
    ///
    /// A job of this id that failed before this call is stepped over: whatever it failed of may have been mended.
    ///
    /// # Errors
    /// `JobFailed` with BigQuery's reason and the job's id; `JobRunning` when the deadline comes first: the job goes
    /// on, and the same request attaches to it; `InvalidRequest` for a statement that BigQuery does not take.
    pub async fn run_query(
        &self,
        request: &JobRequest,
        deadline: Instant,
    ) -> Result<QueryAnswer, Error> {
        let mut started = 0;
        let mut suffix = 0;
        loop {
            let job_id = format!("{}_{suffix}", request.job_id);
            suffix += 1;
            let start = self.start_job(request, &job_id, deadline).await?;
            let (job, first_page) = self
                .finished_job(&job_id, request.max_results, deadline)
                .await?;
            let Some(failure) = job.failure() else {
                let answer = QueryAnswer {
                    job_id,
                    stats: job.stats(),
                    ..QueryAnswer::default()
                };
                return self
                    .read_answer(request, answer, first_page, deadline)
                    .await;
            };
            let error = Error::new(ErrorKind::JobFailed, "jobs.get", &self.project)
                .with_reason(failure.reason.as_str())
                .with_remote_message(&failure.message)
                .with_job_id(&job_id);
            if start == Start::FoundFinished {
                if suffix >= MAX_FAILED_BEFORE {
                    return Err(error);
                }
                continue;
            }
            started += 1;
            if started >= MAX_ATTEMPTS
                || !is_transient_job_failure(&failure.reason, &failure.message)
            {
                return Err(error);
            }
            Retries::until(deadline).pause(error).await?;
        }
    }

    /// Starts a job under `job_id`, or finds the one that has this id.
    async fn start_job(
        &self,
        request: &JobRequest,
        job_id: &str,
        deadline: Instant,
    ) -> Result<Start, Error> {
        let mut retries = Retries::until(deadline);
        let mut may_be_ours = false;
        loop {
            let insert = self
                .client
                .job()
                .insert(&self.project, self.job(request, job_id));
            let error = match self
                .library_call(deadline, "jobs.insert", job_id, insert)
                .await
            {
                Ok(_) => return Ok(Start::Started),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    let job: JobAnswer = self.get_job(job_id, deadline).await?;
                    return Ok(if job.is_done() && !may_be_ours {
                        Start::FoundFinished
                    } else {
                        Start::Attached
                    });
                }
                Err(error) => error,
            };
            may_be_ours |= error.is_ambiguous();
            retries
                .wait_after(error.with_job_id(job_id), self.tokens.as_ref())
                .await?;
        }
    }

    fn job(&self, request: &JobRequest, job_id: &str) -> Job {
        let labels: HashMap<String, String> = request.labels.clone().into_iter().collect();
        let destination = request.destination.as_ref();
        Job {
            job_reference: Some(JobReference {
                job_id: Some(job_id.to_owned()),
                location: Some(self.location.clone()),
                project_id: Some(self.project.clone()),
            }),
            configuration: Some(JobConfiguration {
                labels: (!labels.is_empty()).then_some(labels),
                query: Some(JobConfigurationQuery {
                    query: request.sql.clone(),
                    use_legacy_sql: Some(false),
                    maximum_bytes_billed: request.max_bytes_billed.map(|bytes| bytes.to_string()),
                    destination_table: destination.map(|table| {
                        TableReference::new(&self.project, &table.dataset, &table.table)
                    }),
                    create_disposition: destination.map(|_| "CREATE_IF_NEEDED".to_owned()),
                    write_disposition: destination.map(|_| "WRITE_TRUNCATE".to_owned()),
                    ..JobConfigurationQuery::default()
                }),
                ..JobConfiguration::default()
            }),
            ..Job::default()
        }
    }

    async fn get_job(&self, job_id: &str, deadline: Instant) -> Result<JobAnswer, Error> {
        let path = format!("/jobs/{job_id}");
        let query = [("location", self.location.as_str())];
        self.call(
            deadline,
            Call {
                name: "jobs.get",
                target: job_id,
                method: Method::GET,
                path: &path,
                query: &query,
                body: None,
            },
        )
        .await
        .map_err(|error| error.with_job_id(job_id))
    }

    /// Waits until the job is done, successfully or not. Its first page comes along where it was read on the way.
    async fn finished_job(
        &self,
        job_id: &str,
        max_results: Option<u64>,
        deadline: Instant,
    ) -> Result<(JobAnswer, Option<ResultsAnswer>), Error> {
        let running =
            || Error::new(ErrorKind::JobRunning, "jobs.get", &self.project).with_job_id(job_id);
        let mut retries = Retries::until(deadline);
        loop {
            let asked = Instant::now();
            let wait = POLL.min(deadline.saturating_duration_since(asked));
            let poll = self.results_page(job_id, wait, max_results, None);
            let polled = match tokio::time::timeout_at(deadline, poll).await {
                Ok(polled) => polled,
                Err(_) => return Err(running()),
            };
            // A failed job's results are an HTTP error that may look like any other: the job itself knows.
            if !matches!(&polled, Ok(page) if !page.job_complete) {
                match self.get_job(job_id, deadline).await {
                    Ok(job) if job.is_done() => return Ok((job, polled.ok())),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::DeadlinePassed => {
                        return Err(running());
                    }
                    Err(error) => return Err(error),
                }
            }
            if Instant::now() >= deadline {
                return Err(running());
            }
            match polled {
                // The poll itself has waited; a server that does not wait is not asked again without a pause.
                Ok(_) if asked.elapsed() >= wait / 2 => {}
                Ok(_) => retries.pause(running()).await.map_err(|_| running())?,
                Err(error) => match retries.wait_after(error, self.tokens.as_ref()).await {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::DeadlinePassed => {
                        return Err(running());
                    }
                    Err(error) => return Err(error.with_job_id(job_id)),
                },
            }
        }
    }

    /// One page of a job's answer, or word that it is not done after `wait`; not retried.
    async fn results_page(
        &self,
        job_id: &str,
        wait: Duration,
        max_results: Option<u64>,
        page_token: Option<&str>,
    ) -> Result<ResultsAnswer, Error> {
        let path = format!("/queries/{job_id}");
        let wait = wait.as_millis().to_string();
        let max_results = max_results.map(|max| max.to_string());
        let mut query = vec![
            ("location", self.location.as_str()),
            ("timeoutMs", wait.as_str()),
        ];
        query.extend(max_results.as_deref().map(|max| ("maxResults", max)));
        query.extend(page_token.map(|token| ("pageToken", token)));
        let request = Call {
            name: "jobs.getQueryResults",
            target: job_id,
            method: Method::GET,
            path: &path,
            query: &query,
            body: None,
        };
        let page = self.call_once(&request).await;
        page.map_err(|error| error.with_job_id(job_id))
    }

    /// Reads the answer's pages, from the first one if that is not at hand, up to what is wanted.
    async fn read_answer(
        &self,
        request: &JobRequest,
        mut answer: QueryAnswer,
        mut next: Option<ResultsAnswer>,
        deadline: Instant,
    ) -> Result<QueryAnswer, Error> {
        let job_id = answer.job_id.clone();
        let wanted = request
            .max_results
            .map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        let mut page_token: Option<String> = None;
        loop {
            let page = match next.take() {
                Some(page) => page,
                None => {
                    let missing = request
                        .max_results
                        .map(|max| max.saturating_sub(count(answer.rows.len())));
                    let what = ("jobs.getQueryResults", job_id.as_str());
                    with_retries(deadline, self.tokens.as_ref(), what, || {
                        self.results_page(&job_id, POLL, missing, page_token.as_deref())
                    })
                    .await?
                }
            };
            if answer.columns.is_empty() {
                answer.columns = page
                    .schema
                    .fields
                    .into_iter()
                    .map(|field| field.name)
                    .collect();
            }
            answer.total_rows = page
                .total_rows
                .and_then(|rows| rows.parse().ok())
                .unwrap_or(answer.total_rows);
            let is_last = page.rows.is_empty() || page.page_token.is_none();
            answer
                .rows
                .extend(page.rows.into_iter().map(RowAnswer::cells));
            answer.rows.truncate(wanted);
            if is_last || answer.rows.len() == wanted {
                return Ok(answer);
            }
            page_token = page.page_token;
        }
    }

    /// A call of gcp_bigquery_client's, retried by the policy.
    async fn retrying<T, F, Fut>(
        &self,
        deadline: Instant,
        call: &'static str,
        target: &str,
        mut make: F,
    ) -> Result<T, Error>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, BQError>>,
    {
        with_retries(deadline, self.tokens.as_ref(), (call, target), || {
            let future = make();
            self.library_call(deadline, call, target, future)
        })
        .await
    }

    /// One call of gcp_bigquery_client's.
    async fn library_call<T>(
        &self,
        deadline: Instant,
        call: &'static str,
        target: &str,
        future: impl Future<Output = Result<T, BQError>>,
    ) -> Result<T, Error> {
        // Asked for here, because the library would lose why there is none.
        self.tokens.token().await?;
        match tokio::time::timeout_at(deadline, future).await {
            Ok(result) => result.map_err(|error| library_error(call, target, error)),
            Err(_) => Err(Error::new(ErrorKind::Timeout, call, target)),
        }
    }

    /// A call of our own, retried by the policy.
    async fn call<T: DeserializeOwned>(
        &self,
        deadline: Instant,
        call: Call<'_>,
    ) -> Result<T, Error> {
        with_retries(
            deadline,
            self.tokens.as_ref(),
            (call.name, call.target),
            || self.call_once(&call),
        )
        .await
    }

    async fn call_once<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, Error> {
        let url = format!("{}/projects/{}{}", self.base_url, self.project, call.path);
        let mut request = self
            .http
            .request(call.method.clone(), &url)
            .query(call.query);
        if let Some(token) = self.tokens.token().await? {
            request = request.bearer_auth(token);
        }
        if let Some(body) = call.body {
            request = request.json(body);
        }
        let lost = |error| transport_error(call.name, call.target, error);
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(lost)?;
        if !status.is_success() {
            return Err(http_error(call.name, call.target, status, &bytes));
        }
        // serde's text quotes the answer, which may hold row values: it is not kept.
        serde_json::from_slice(&bytes).map_err(|_| {
            Error::new(ErrorKind::UnexpectedAnswer, call.name, call.target)
                .with_detail("not the JSON expected")
        })
    }
}

/// One HTTP request of our own.
struct Call<'a> {
    /// Its name in errors.
    name: &'static str,
    /// What it is about, in errors.
    target: &'a str,
    method: Method,
    /// Below the project; of names that need no escape.
    path: &'a str,
    query: &'a [(&'a str, &'a str)],
    body: Option<&'a Value>,
}

/// How a job of an id came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// By this call.
    Started,
    /// By this call or another one that is still at it.
    Attached,
    /// It had ended before this call.
    FoundFinished,
}

fn existing_is_fine<T>(result: Result<T, Error>) -> Result<Ensured, Error> {
    match result {
        Ok(_) => Ok(Ensured::Created),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Ensured::Existed),
        Err(error) => Err(error),
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Whether the same statement may succeed under a new job id: an error inside BigQuery, or another statement that
/// changed the table meanwhile (<https://cloud.google.com/bigquery/docs/error-messages>). BigQuery gives the second
/// as `invalidQuery`, so only its text tells it from a wrong statement.
#[must_use]
pub fn is_transient_job_failure(reason: &str, message: &str) -> bool {
    matches!(
        reason,
        "backendError"
            | "internalError"
            | "rateLimitExceeded"
            | "jobBackendError"
            | "jobInternalError"
            | "jobRateLimitExceeded"
            | "tableUnavailable"
    ) || message.contains("Could not serialize access to")
        || message.contains("due to concurrent update")
}

/// A page of a job's answer. gcp_bigquery_client's model refuses a column of a type that it does not know.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResultsAnswer {
    job_complete: bool,
    schema: SchemaAnswer,
    rows: Vec<RowAnswer>,
    page_token: Option<String>,
    total_rows: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SchemaAnswer {
    fields: Vec<FieldAnswer>,
}

#[derive(Debug, Deserialize)]
struct FieldAnswer {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RowAnswer {
    f: Vec<CellAnswer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CellAnswer {
    v: Value,
}

impl RowAnswer {
    fn cells(self) -> Vec<Value> {
        self.f.into_iter().map(|cell| cell.v).collect()
    }
}

/// The part of a job that matters here. gcp_bigquery_client's model has no DML counts.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JobAnswer {
    status: StatusAnswer,
    statistics: StatisticsAnswer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StatusAnswer {
    state: String,
    error_result: Option<JobFailure>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JobFailure {
    reason: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StatisticsAnswer {
    start_time: Option<String>,
    end_time: Option<String>,
    total_slot_ms: Option<String>,
    total_bytes_processed: Option<String>,
    query: Option<QueryStatisticsAnswer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct QueryStatisticsAnswer {
    total_bytes_billed: Option<String>,
    total_bytes_processed: Option<String>,
    total_slot_ms: Option<String>,
    dml_stats: Option<DmlStatsAnswer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DmlStatsAnswer {
    inserted_row_count: Option<String>,
    updated_row_count: Option<String>,
    deleted_row_count: Option<String>,
}

impl JobAnswer {
    fn is_done(&self) -> bool {
        self.status.state == "DONE"
    }

    fn failure(&self) -> Option<&JobFailure> {
        self.status.error_result.as_ref()
    }

    fn stats(&self) -> JobStats {
        let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
        let statistics = &self.statistics;
        let query = statistics.query.as_ref();
        let dml = query.and_then(|query| query.dml_stats.as_ref());
        let processed = query
            .and_then(|query| query.total_bytes_processed.as_ref())
            .or(statistics.total_bytes_processed.as_ref());
        let slot = statistics
            .total_slot_ms
            .as_ref()
            .or(query.and_then(|query| query.total_slot_ms.as_ref()));
        JobStats {
            bytes_billed: number(query.and_then(|query| query.total_bytes_billed.as_ref()))
                .unwrap_or(0),
            bytes_processed: number(processed).unwrap_or(0),
            slot_ms: number(slot).unwrap_or(0),
            inserted: number(dml.and_then(|dml| dml.inserted_row_count.as_ref())).unwrap_or(0),
            updated: number(dml.and_then(|dml| dml.updated_row_count.as_ref())).unwrap_or(0),
            deleted: number(dml.and_then(|dml| dml.deleted_row_count.as_ref())).unwrap_or(0),
            start_ms: number(statistics.start_time.as_ref()),
            end_ms: number(statistics.end_time.as_ref()),
        }
    }
}

/// From HTTP status and BigQuery's reason to a kind. The reason goes first: 403 is a quota as well as a refusal.
fn http_kind(status: u16, reason: &str) -> ErrorKind {
    match reason {
        "rateLimitExceeded" | "userRateLimitExceeded" | "jobRateLimitExceeded" => {
            return ErrorKind::RateLimited;
        }
        "quotaExceeded" => return ErrorKind::QuotaExceeded,
        "backendError" | "jobBackendError" | "tableUnavailable" => return ErrorKind::Unavailable,
        "internalError" | "jobInternalError" => return ErrorKind::Internal,
        _ => {}
    }
    match status {
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::PermissionDenied,
        404 => ErrorKind::NotFound,
        408 => ErrorKind::Timeout,
        409 => ErrorKind::AlreadyExists,
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::RateLimited,
        499 => ErrorKind::Cancelled,
        500 => ErrorKind::Internal,
        501..=599 => ErrorKind::Unavailable,
        400..=499 => ErrorKind::InvalidRequest,
        _ => ErrorKind::UnexpectedAnswer,
    }
}

/// What Google's APIs answer instead of a result.
#[derive(Debug, Default, Deserialize)]
struct ErrorAnswer {
    error: ErrorBody,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    message: String,
    errors: Vec<ErrorItem>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorItem {
    reason: String,
}

fn http_error(call: &'static str, target: &str, status: StatusCode, body: &[u8]) -> Error {
    let error = serde_json::from_slice::<ErrorAnswer>(body)
        .unwrap_or_default()
        .error;
    let reason = error.errors.first().map_or("", |item| item.reason.as_str());
    answered_error(call, target, status.as_u16(), reason, &error.message)
}

fn answered_error(
    call: &'static str,
    target: &str,
    status: u16,
    reason: &str,
    message: &str,
) -> Error {
    let shown = if reason.is_empty() {
        format!("HTTP {status}")
    } else {
        reason.to_owned()
    };
    Error::new(http_kind(status, reason), call, target)
        .with_reason(shown)
        .with_remote_message(message)
}

fn transport_error(call: &'static str, target: &str, error: reqwest::Error) -> Error {
    let kind = if error.is_builder() {
        ErrorKind::InvalidRequest
    } else if error.is_decode() {
        // The status is lost, and the text quotes the answer.
        return Error::new(ErrorKind::UnexpectedAnswer, call, target)
            .with_detail("not the JSON expected");
    } else if error.is_timeout() {
        ErrorKind::Timeout
    } else {
        ErrorKind::Unreachable
    };
    Error::new(kind, call, target).with_source(error.without_url())
}

/// An error of gcp_bigquery_client's. It loses the HTTP status where the body is not the JSON it expects.
fn library_error(call: &'static str, target: &str, error: BQError) -> Error {
    match error {
        BQError::ResponseError { error } => {
            let error = error.error;
            let reason = error.errors.first().and_then(|item| item.get("reason"));
            let status = u16::try_from(error.code).unwrap_or_default();
            answered_error(
                call,
                target,
                status,
                reason.map_or("", String::as_str),
                &error.message,
            )
        }
        BQError::RequestError(error) => transport_error(call, target, error),
        BQError::NoToken => Error::new(ErrorKind::Credentials, call, target),
        // serde's text may quote the answer; the other kinds belong to calls that are not made.
        _ => Error::new(ErrorKind::UnexpectedAnswer, call, target),
    }
}

#[cfg(test)]
#[path = "rest_tests.rs"]
mod tests;
