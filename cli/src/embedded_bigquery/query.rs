//! A small client of BigQuery's REST API for tests and display. The functions have their own, in the shared crate: this one must
//! stay apart from it, so that what it reads is a check of what they wrote.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// Rows per page; the client follows the pages.
const PAGE_ROWS: u32 = 10_000;
/// How long one call waits for the job before it answers "not yet".
const WAIT_MS: u32 = 60_000;
/// Above [`WAIT_MS`], for an emulator under load.
const CALL_TIMEOUT: Duration = Duration::from_secs(180);

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type in GoogleSQL's name: `INT64`, not `INTEGER`.
    pub column_type: String,
}

/// All rows of a statement. A cell is the text that REST gives, TIMESTAMP in whole microseconds since 1970; None is NULL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryResult {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<Option<String>>>,
}

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No answer.
    #[error("the embedded BigQuery does not answer")]
    Unreachable(#[source] reqwest::Error),
    /// An answer with an error status.
    #[error("the embedded BigQuery refused the call ({status}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// BigQuery's message.
        message: String,
    },
    /// An answer that is no query result.
    #[error("the embedded BigQuery's answer is not what jobs.query gives")]
    Malformed(#[source] serde_json::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    job_complete: bool,
    job_reference: Option<JobReference>,
    schema: Option<Schema>,
    #[serde(default)]
    rows: Vec<Row>,
    page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobReference {
    job_id: String,
    location: Option<String>,
}

#[derive(Deserialize)]
struct Schema {
    #[serde(default)]
    fields: Vec<Field>,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    #[serde(rename = "type")]
    field_type: String,
    mode: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    f: Vec<Cell>,
}

#[derive(Deserialize)]
struct Cell {
    #[serde(default)]
    v: Value,
}

pub(super) fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    // reqwest is built without a TLS provider of its own and wants one even for plain HTTP. Installed already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        // The emulator is on this machine; a proxy from the environment cannot reach it.
        .no_proxy()
        .timeout(CALL_TIMEOUT)
        .build()
}

pub(super) async fn exchange(request: reqwest::RequestBuilder) -> Result<Value, QueryError> {
    let response = request.send().await.map_err(QueryError::Unreachable)?;
    let status = response.status();
    let body = response.bytes().await.map_err(QueryError::Unreachable)?;
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(QueryError::Malformed);
    }
    let message = serde_json::from_slice::<Value>(&body)
        .ok()
        .and_then(|body| body.pointer("/error/message").and_then(Value::as_str).map(str::to_owned))
        .unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
    Err(QueryError::Refused { status: status.as_u16(), message })
}

pub(super) async fn run(
    http: &reqwest::Client,
    rest_url: &str,
    project: &str,
    sql: &str,
) -> Result<QueryResult, QueryError> {
    let body = json!({
        "query": sql,
        "useLegacySql": false,
        "maxResults": PAGE_ROWS,
        "timeoutMs": WAIT_MS,
        // Otherwise a TIMESTAMP comes as seconds in a double, which has no room for microseconds.
        "formatOptions": {"useInt64Timestamp": true},
    });
    let first = exchange(http.post(format!("{rest_url}/projects/{project}/queries")).json(&body)).await?;
    let mut page: Page = serde_json::from_value(first).map_err(QueryError::Malformed)?;
    let job = page.job_reference.take();
    let mut result = QueryResult::default();
    loop {
        if let Some(schema) = page.schema.filter(|_| result.columns.is_empty()) {
            result.columns = schema.fields.into_iter().map(column).collect();
        }
        result.rows.extend(page.rows.into_iter().map(row));
        let (Some(job), true) = (&job, !page.job_complete || page.page_token.is_some()) else {
            return Ok(result);
        };
        let mut next = http
            .get(format!("{rest_url}/projects/{project}/queries/{}", job.job_id))
            .query(&[("maxResults", PAGE_ROWS), ("timeoutMs", WAIT_MS)])
            .query(&[("formatOptions.useInt64Timestamp", "true")]);
        if let Some(location) = &job.location {
            next = next.query(&[("location", location)]);
        }
        if let Some(token) = &page.page_token {
            next = next.query(&[("pageToken", token)]);
        }
        page = serde_json::from_value(exchange(next).await?).map_err(QueryError::Malformed)?;
    }
}

fn column(field: Field) -> Column {
    // REST speaks of types by their legacy names.
    let name = match field.field_type.as_str() {
        "INTEGER" => "INT64",
        "FLOAT" => "FLOAT64",
        "BOOLEAN" => "BOOL",
        "RECORD" => "STRUCT",
        other => other,
    };
    let column_type = match field.mode.as_deref() {
        Some("REPEATED") => format!("ARRAY<{name}>"),
        _ => name.to_owned(),
    };
    Column { name: field.name, column_type }
}

fn row(row: Row) -> Vec<Option<String>> {
    row.f
        .into_iter()
        .map(|cell| match cell.v {
            Value::Null => None,
            Value::String(text) => Some(text),
            // Only arrays and structs come as anything else.
            nested => Some(nested.to_string()),
        })
        .collect()
}
