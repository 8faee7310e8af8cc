//! Query jobs, each run once: an id is taken once, and a lost answer is answered by attaching to the job that has it.
//! It must never start a job twice, never cancel one, and never quote a failed job's message: it holds row values.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use gcp_bigquery_client::model::job::Job;
use gcp_bigquery_client::model::job_configuration::JobConfiguration;
use gcp_bigquery_client::model::job_configuration_query::JobConfigurationQuery;
use gcp_bigquery_client::model::job_reference::JobReference;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::error::{Error, ErrorKind};
use super::rest::{BigQuery, Call};
use super::retry::{Retries, with_retries};

/// How long one poll waits inside BigQuery for the job to end.
const POLL: Duration = Duration::from_secs(10);
/// Jobs started by one call for one statement: the first and two more after failures that BigQuery calls transient.
const MAX_ATTEMPTS: u32 = 3;
/// The same where BigQuery wants to be asked less often: the waits between so many reach over the ten seconds by which it counts changes of
/// one table (<https://cloud.google.com/bigquery/quotas#standard_tables>). Such a job has cost nothing.
const MAX_ATTEMPTS_WHEN_LIMITED: u32 = 10;
/// Ids of earlier, failed runs of the same statement that are stepped over before giving up.
const MAX_FAILED_BEFORE: u32 = 32;

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
    /// Bytes that BigQuery expected to be read, as a dry run would say (`estimatedBytesProcessed` of REST's `JobStatistics2`: "the original
    /// estimate of bytes processed for the job").
    pub bytes_estimated: i64,
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
    /// Runs a statement as a job, or attaches to the job that already runs it, and reads its answer.
    ///
    /// A job of this id that failed before this call is stepped over: whatever it failed of may have been mended.
    ///
    /// # Errors
    /// `JobFailed` with BigQuery's reason and the job's id; `JobRunning` when the deadline comes first: the job goes
    /// on, and the same request attaches to it; `InvalidRequest` for a statement that BigQuery does not take.
    pub async fn run_query(&self, request: &JobRequest, deadline: Instant) -> Result<QueryAnswer, Error> {
        let mut started = 0;
        let mut suffix = 0;
        let mut retries = Retries::until(deadline);
        loop {
            let job_id = format!("{}_{suffix}", request.job_id);
            suffix += 1;
            let start = self.start_job(request, &job_id, deadline).await?;
            let (job, first_page) = self.finished_job(&job_id, request.max_results, deadline).await?;
            let Some(failure) = job.failure() else {
                let answer = QueryAnswer { job_id, stats: job.stats(), ..QueryAnswer::default() };
                return self.read_answer(request, answer, first_page, deadline).await;
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
            let most = if is_rate_limit(&failure.reason) { MAX_ATTEMPTS_WHEN_LIMITED } else { MAX_ATTEMPTS };
            if started >= most || !is_transient_job_failure(&failure.reason, &failure.message) {
                return Err(error);
            }
            retries.pause(error).await?;
        }
    }

    /// What a statement would read if it ran now, in bytes, by a dry run: nothing is run and nothing billed. `None`: BigQuery cannot tell.
    ///
    /// # Errors
    /// `InvalidRequest` for a statement that BigQuery does not take.
    pub async fn estimate(&self, sql: &str, deadline: Instant) -> Result<Option<i64>, Error> {
        let body = json!({
            "configuration": {"dryRun": true, "query": {"query": sql, "useLegacySql": false}},
            "jobReference": {"projectId": self.project, "location": self.location},
        });
        let call = Call {
            name: "jobs.insert (dry run)",
            target: &self.project,
            method: Method::POST,
            path: "/jobs",
            query: &[],
            body: Some(&body),
            etag: None,
        };
        let job: JobAnswer = self.call(deadline, call).await?;
        Ok(job.bytes_processed())
    }

    /// Starts a job under `job_id`, or finds the one that has this id.
    async fn start_job(&self, request: &JobRequest, job_id: &str, deadline: Instant) -> Result<Start, Error> {
        let mut retries = Retries::until(deadline);
        let mut may_be_ours = false;
        loop {
            let insert = self.client.job().insert(&self.project, self.job(request, job_id));
            let error = match self.library_call(deadline, "jobs.insert", job_id, insert).await {
                Ok(_) => return Ok(Start::Started),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    let job: JobAnswer = self.get_job(job_id, deadline).await?;
                    return Ok(if job.is_done() && !may_be_ours { Start::FoundFinished } else { Start::Attached });
                }
                Err(error) => error,
            };
            may_be_ours |= error.is_ambiguous();
            retries.wait_after(error.with_job_id(job_id), self.tokens.as_ref()).await?;
        }
    }

    fn job(&self, request: &JobRequest, job_id: &str) -> Job {
        let labels: HashMap<String, String> = request.labels.clone().into_iter().collect();
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
                etag: None,
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
        let running = || Error::new(ErrorKind::JobRunning, "jobs.get", &self.project).with_job_id(job_id);
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
        let mut query = vec![("location", self.location.as_str()), ("timeoutMs", wait.as_str())];
        query.extend(max_results.as_deref().map(|max| ("maxResults", max)));
        query.extend(page_token.map(|token| ("pageToken", token)));
        let request = Call {
            name: "jobs.getQueryResults",
            target: job_id,
            method: Method::GET,
            path: &path,
            query: &query,
            body: None,
            etag: None,
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
        let wanted = request.max_results.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        let mut page_token: Option<String> = None;
        loop {
            let page = match next.take() {
                Some(page) => page,
                None => {
                    let missing = request.max_results.map(|max| max.saturating_sub(count(answer.rows.len())));
                    let what = ("jobs.getQueryResults", job_id.as_str());
                    with_retries(deadline, self.tokens.as_ref(), what, || {
                        self.results_page(&job_id, POLL, missing, page_token.as_deref())
                    })
                    .await?
                }
            };
            if answer.columns.is_empty() {
                answer.columns = page.schema.fields.into_iter().map(|field| field.name).collect();
            }
            answer.total_rows = page.total_rows.and_then(|rows| rows.parse().ok()).unwrap_or(answer.total_rows);
            let is_last = page.rows.is_empty() || page.page_token.is_none();
            answer.rows.extend(page.rows.into_iter().map(RowAnswer::cells));
            answer.rows.truncate(wanted);
            if is_last || answer.rows.len() == wanted {
                return Ok(answer);
            }
            page_token = page.page_token;
        }
    }
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

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Whether the same statement may succeed under a new job id: an error inside BigQuery, or another statement that
/// changed the table meanwhile (<https://cloud.google.com/bigquery/docs/error-messages>). BigQuery gives the second
/// as `invalidQuery`, so only its text tells it from a wrong statement. `stopped` is not among them: somebody has cancelled the job, and would
/// have to do so again and again; the next run takes the work up.
#[must_use]
pub fn is_transient_job_failure(reason: &str, message: &str) -> bool {
    is_rate_limit(reason)
        || matches!(
            reason,
            "backendError" | "internalError" | "jobBackendError" | "jobInternalError" | "tableUnavailable"
        )
        || message.contains("Could not serialize access to")
        || message.contains("due to concurrent update")
}

fn is_rate_limit(reason: &str) -> bool {
    matches!(reason, "rateLimitExceeded" | "jobRateLimitExceeded")
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
    estimated_bytes_processed: Option<String>,
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

    fn bytes_processed(&self) -> Option<i64> {
        let query = self.statistics.query.as_ref();
        let bytes = query.and_then(|query| query.total_bytes_processed.as_ref());
        bytes.or(self.statistics.total_bytes_processed.as_ref())?.parse().ok()
    }

    fn stats(&self) -> JobStats {
        let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
        let statistics = &self.statistics;
        let query = statistics.query.as_ref();
        let dml = query.and_then(|query| query.dml_stats.as_ref());
        let slot = statistics.total_slot_ms.as_ref().or(query.and_then(|query| query.total_slot_ms.as_ref()));
        JobStats {
            bytes_billed: number(query.and_then(|query| query.total_bytes_billed.as_ref())).unwrap_or(0),
            bytes_processed: self.bytes_processed().unwrap_or(0),
            bytes_estimated: number(query.and_then(|query| query.estimated_bytes_processed.as_ref())).unwrap_or(0),
            slot_ms: number(slot).unwrap_or(0),
            inserted: number(dml.and_then(|dml| dml.inserted_row_count.as_ref())).unwrap_or(0),
            updated: number(dml.and_then(|dml| dml.updated_row_count.as_ref())).unwrap_or(0),
            deleted: number(dml.and_then(|dml| dml.deleted_row_count.as_ref())).unwrap_or(0),
            start_ms: number(statistics.start_time.as_ref()),
            end_ms: number(statistics.end_time.as_ref()),
        }
    }
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
