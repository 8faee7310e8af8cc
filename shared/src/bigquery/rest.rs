//! BigQuery's REST API: datasets and tables here, jobs in [`super::job`].
//! gcp_bigquery_client makes the calls whose answers its models hold; the calls whose answers it cuts short (a table's
//! declared key, a job's DML counts) are made here. It must never quote an answer: it may hold row values.

use std::sync::Arc;
use std::time::Duration;

use gcp_bigquery_client::Client;
use gcp_bigquery_client::client_builder::ClientBuilder;
use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::model::dataset::Dataset;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::auth::{RestAuthenticator, TokenSource};
use super::error::{Error, ErrorKind};
use super::retry::with_retries;
use super::table_resource::{Field, Table};
use super::table_spec::{TableSpec, rest_field};
use crate::json_text::FromObject;
use crate::names::TableName;

/// A connection is made in a fraction of this or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One call; longer than a poll waits, shorter than an invocation.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that were idle this long are not used again: a frozen function's may be dead.
const POOL_IDLE: Duration = Duration::from_secs(50);
/// BigQuery's reason when an etag is no longer the resource's.
const CHANGED_MEANWHILE: &str = "conditionNotMet";
/// The REST API of one project in one location.
#[derive(Clone)]
pub struct BigQuery {
    pub(super) client: Client,
    http: reqwest::Client,
    base_url: String,
    pub(super) project: String,
    pub(super) location: String,
    pub(super) tokens: Arc<dyn TokenSource>,
}

/// Whether [`BigQuery::ensure_table`] found or made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// It was there.
    Existed,
    /// It is new: appends may not see it for some seconds.
    Created,
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
        Self::with_roots(base_url, project, location, tokens, None).await
    }

    /// As [`BigQuery::new`], with further root certificates (PEM) beside the built-in ones.
    ///
    /// # Errors
    /// As there, and when the certificates cannot be read.
    pub async fn with_roots(
        base_url: impl Into<String>,
        project: impl Into<String>,
        location: impl Into<String>,
        tokens: Arc<dyn TokenSource>,
        further_roots: Option<&[u8]>,
    ) -> Result<Self, Error> {
        let base_url = base_url.into();
        let wrong =
            |error: reqwest::Error| Error::new(ErrorKind::InvalidRequest, "client", &base_url).with_source(error);
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE)
            .user_agent(concat!("strait/", env!("CARGO_PKG_VERSION")));
        for certificate in
            further_roots.map(reqwest::Certificate::from_pem_bundle).transpose().map_err(wrong)?.iter().flatten()
        {
            http = http.add_root_certificate(certificate.clone());
        }
        let http = http.build().map_err(wrong)?;
        let client = ClientBuilder::new()
            .with_v2_base_url(base_url.clone())
            .with_client(http.clone())
            .build_from_authenticator(Arc::new(RestAuthenticator(Arc::clone(&tokens))))
            .await
            .map_err(|error| library_error("client", &base_url, error))?;
        Ok(Self { client, http, base_url, project: project.into(), location: location.into(), tokens })
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
                self.client.dataset().create(Dataset::new(&self.project, dataset).location(&self.location)).await
            })
            .await;
        match existing_is_fine(result) {
            // Whoever has roles on the datasets alone may not create one: BigQuery says so of one that exists, too.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                if self.dataset_exists(dataset, deadline).await { Ok(Ensured::Existed) } else { Err(error) }
            }
            other => other,
        }
    }

    /// Whether a dataset can be seen.
    async fn dataset_exists(&self, dataset: &str, deadline: Instant) -> bool {
        let path = format!("/datasets/{dataset}");
        let call = Call {
            name: "datasets.get",
            target: dataset,
            method: Method::GET,
            path: &path,
            query: &[],
            body: None,
            etag: None,
        };
        self.call::<serde::de::IgnoredAny>(deadline, call).await.is_ok()
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
                self.client.table().create(spec.rest_table(&self.project, name, expiry_days)).await
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
    pub async fn get_table(&self, name: &TableName, deadline: Instant) -> Result<Option<Table>, Error> {
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
                    etag: None,
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
            Error::new(ErrorKind::InvalidRequest, "tables.insert", name.to_string()).with_source(error)
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
                    etag: None,
                },
            )
            .await;
        existing_is_fine(result)
    }

    /// Adds to one of Strait's own tables what an older version's lacks, as it would now be made; whether anything was missing. Of several at
    /// once the first adds the columns, and the others find them. Everything else of the table stays as it is.
    ///
    /// # Errors
    /// `InvalidRequest`, with every column named that is another one than Strait's; else as the policy leaves them.
    pub async fn complete_table(&self, name: &TableName, spec: &TableSpec, deadline: Instant) -> Result<bool, Error> {
        let (target, path) = (name.to_string(), format!("/datasets/{}/tables/{}", name.dataset, name.table));
        let call = Call {
            name: "tables.get",
            target: &target,
            method: Method::GET,
            path: &path,
            query: &[],
            body: None,
            etag: None,
        };
        let mut was_incomplete = false;
        loop {
            // As JSON, for what is sent back must hold all that was there, such as policy tags.
            let mut table: Value = self.call(deadline, call.clone()).await?;
            let unexpected = || Error::new(ErrorKind::UnexpectedAnswer, "tables.get", &target);
            let fields = table.pointer_mut("/schema/fields").and_then(Value::as_array_mut).ok_or_else(unexpected)?;
            let known: Vec<Field> = fields
                .iter()
                .map(|field| Field::deserialize(field).map_err(|_| unexpected()))
                .collect::<Result<_, _>>()?;
            let missing = spec.missing_columns(&known).map_err(|problems| {
                Error::new(ErrorKind::InvalidRequest, "tables.get", &target).with_detail(problems.join("; "))
            })?;
            if missing.is_empty() {
                return Ok(was_incomplete);
            }
            was_incomplete = true;
            let names: Vec<&str> = missing.iter().map(|column| column.name).collect();
            for column in &missing {
                fields.push(serde_json::to_value(rest_field(column)).map_err(|_| unexpected())?);
            }
            let body = json!({"schema": {"fields": fields}});
            let etag = table.get("etag").and_then(Value::as_str).map(str::to_owned);
            let patch = Call {
                name: "tables.patch",
                method: Method::PATCH,
                body: Some(&body),
                etag: etag.as_deref(),
                ..call.clone()
            };
            match self.call::<Value>(deadline, patch).await {
                Ok(_) => tracing::info!(
                    table = target,
                    columns = names.join(", "),
                    "added columns that an older version's table lacks"
                ),
                // Somebody else has just changed it; what is missing now is looked at again.
                Err(error) if error.reason() == Some(CHANGED_MEANWHILE) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Deletes a table; one that does not exist is fine.
    ///
    /// # Errors
    /// As the policy leaves them.
    pub async fn delete_table(&self, name: &TableName, deadline: Instant) -> Result<(), Error> {
        let result = self
            .retrying(deadline, "tables.delete", &name.to_string(), || async {
                self.client.table().delete(&self.project, &name.dataset, &name.table).await
            })
            .await;
        match result {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// A call of gcp_bigquery_client's, retried by the policy.
    pub(super) async fn retrying<T, F, Fut>(
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
    pub(super) async fn library_call<T>(
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
    pub(super) async fn call<T: DeserializeOwned>(&self, deadline: Instant, call: Call<'_>) -> Result<T, Error> {
        with_retries(deadline, self.tokens.as_ref(), (call.name, call.target), || self.call_once(&call)).await
    }

    pub(super) async fn call_once<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, Error> {
        let url = format!("{}/projects/{}{}", self.base_url, self.project, call.path);
        let mut request = self.http.request(call.method.clone(), &url).query(call.query);
        if let Some(token) = self.tokens.token().await? {
            request = request.bearer_auth(token);
        }
        if let Some(etag) = call.etag {
            request = request.header(reqwest::header::IF_MATCH, etag);
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
        serde_json::from_slice(&bytes).map(|FromObject(answer)| answer).map_err(|_| {
            Error::new(ErrorKind::UnexpectedAnswer, call.name, call.target).with_detail("not the JSON expected")
        })
    }
}

/// One HTTP request of our own.
#[derive(Clone)]
pub(super) struct Call<'a> {
    /// Its name in errors.
    pub(super) name: &'static str,
    /// What it is about, in errors.
    pub(super) target: &'a str,
    pub(super) method: Method,
    /// Below the project; of names that need no escape.
    pub(super) path: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Option<&'a Value>,
    /// What it is about has to be as it was then.
    pub(super) etag: Option<&'a str>,
}

fn existing_is_fine<T>(result: Result<T, Error>) -> Result<Ensured, Error> {
    match result {
        Ok(_) => Ok(Ensured::Created),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Ensured::Existed),
        Err(error) => Err(error),
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
    let error = serde_json::from_slice::<ErrorAnswer>(body).unwrap_or_default().error;
    let reason = error.errors.first().map_or("", |item| item.reason.as_str());
    answered_error(call, target, status.as_u16(), reason, &error.message)
}

fn answered_error(call: &'static str, target: &str, status: u16, reason: &str, message: &str) -> Error {
    let shown = if reason.is_empty() { format!("HTTP {status}") } else { reason.to_owned() };
    Error::new(http_kind(status, reason), call, target).with_reason(shown).with_remote_message(message)
}

fn transport_error(call: &'static str, target: &str, error: reqwest::Error) -> Error {
    let kind = if error.is_builder() {
        ErrorKind::InvalidRequest
    } else if error.is_decode() {
        // The status is lost, and the text quotes the answer.
        return Error::new(ErrorKind::UnexpectedAnswer, call, target).with_detail("not the JSON expected");
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
            answered_error(call, target, status, reason.map_or("", String::as_str), &error.message)
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
