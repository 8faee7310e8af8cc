//! Appends rows to a table over the Storage Write API, and says of every row what became of it.
//! It must never report a row as written that BigQuery did not acknowledge, and never work past the deadline.
//! A lost answer is answered by sending again, so rows may be written twice: what reads the table must expect it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::append_rows_response::Response as Answer;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::row_error::RowErrorCode;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::storage_error::StorageErrorCode;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::{AppendRowsResponse, StorageError};
use gcp_bigquery_client::google::rpc;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, TE};
use http_body_util::Full;
use prost::Message;
use prost_types::DescriptorProto;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstDecoder;
use tower::{Service, ServiceExt};

use super::append_message::{self, Envelope};
use super::auth::TokenSource;
use super::error::{Error, ErrorKind};
use super::retry::Retries;
use crate::names::TableName;

/// The call's name in errors.
const CALL: &str = "AppendRows";
/// Its path
/// (<https://cloud.google.com/bigquery/docs/reference/storage/rpc/google.cloud.bigquery.storage.v1#bigquerywrite>).
const METHOD: &str = "/google.cloud.bigquery.storage.v1.BigQueryWrite/AppendRows";
/// Rows in one request. BigQuery takes 10 MB in all (<https://cloud.google.com/bigquery/quotas#write-api-limits>);
/// the rest is room for the schema and for a row that is larger than its share.
const MAX_REQUEST_BYTES: usize = 8_000_000;
/// A row larger than this is never sent: the request would be refused whole.
const MAX_ROW_BYTES: usize = 9_500_000;
/// Bytes that a row's tag and length add to a request.
const ROW_OVERHEAD: usize = 6;
/// A connection is made in a fraction of this or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One request's answer; BigQuery's own limit is longer than an invocation can wait for.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// While a call is under way a ping goes out this often, and its answer is waited for half as long: a connection that
/// died while the function was frozen is found in 15 s, where TCP alone would take minutes.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// See [`KEEP_ALIVE_INTERVAL`].
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that was idle for longer, by the wall clock, is replaced before use: AWS's NAT gateway drops it
/// silently after 350 s (<https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html>).
const MAX_IDLE: Duration = Duration::from_secs(300);
/// Shown in BigQuery's logs; `client:id` as Google's documentation asks for.
const TRACE_ID: &str = concat!("strait:", env!("CARGO_PKG_VERSION"));

/// The reason of a `PermissionDenied` that BigQuery words as "or it may not exist": it hides whether the table exists.
pub const MAY_NOT_EXIST: &str = "MAY_NOT_EXIST";

/// Where rows go.
#[derive(Debug, Clone)]
pub struct WriteStream {
    /// The Google Cloud project.
    pub project: String,
    /// The table; rows go to its default stream.
    pub table: TableName,
    /// How the rows are encoded; see [`super::table_spec::TableSpec::proto_descriptor`].
    pub descriptor: DescriptorProto,
    /// The first row's place in the stream. `None` on the default stream, which has no places.
    pub offset: Option<i64>,
}

impl WriteStream {
    /// The default stream of `table`.
    #[must_use]
    pub fn default_of(project: impl Into<String>, table: TableName, descriptor: DescriptorProto) -> Self {
        Self { project: project.into(), table, descriptor, offset: None }
    }

    fn name(&self) -> String {
        let TableName { dataset, table } = &self.table;
        format!("projects/{}/datasets/{dataset}/tables/{table}/streams/_default", self.project)
    }
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOutcome {
    /// BigQuery acknowledged it.
    Written,
    /// BigQuery refuses the row itself, for this reason; it will do so again.
    Refused(RefusalCode),
    /// Not acknowledged: the failure is in [`AppendOutcome::failure`].
    NotWritten,
}

/// The reason of an error where rows have columns that the table, or what appends know of it, does not.
pub const EXTRA_COLUMNS: &str = "SCHEMA_MISMATCH_EXTRA_FIELDS";

/// Why a row was refused. BigQuery's own message is not kept: it quotes the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCode {
    /// A field's value does not fit its column.
    FieldsError,
    /// BigQuery gave no reason.
    Unspecified,
    /// Larger than a request may be; it was not sent.
    TooLarge,
}

impl RefusalCode {
    /// BigQuery's name of it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FieldsError => "FIELDS_ERROR",
            Self::Unspecified => "ROW_ERROR_CODE_UNSPECIFIED",
            Self::TooLarge => "ROW_TOO_LARGE",
        }
    }
}

/// What became of all rows of an append.
#[derive(Debug)]
pub struct AppendOutcome {
    /// One for each row, in the order given.
    pub rows: Vec<RowOutcome>,
    /// Why some rows are `NotWritten`; `None` when none is.
    pub failure: Option<Error>,
    /// Requests sent, retries included.
    pub requests: u32,
    /// Bytes of rows sent, retries included, before compression.
    pub bytes_sent: u64,
}

impl AppendOutcome {
    /// How many rows were written.
    #[must_use]
    pub fn written(&self) -> usize {
        self.rows.iter().filter(|row| **row == RowOutcome::Written).count()
    }

    /// For callers whose rows are Strait's own, where a refused row is a failure like any other.
    ///
    /// # Errors
    /// The failure, or `RowErrors` when a row was refused.
    pub fn into_result(self, table: &TableName) -> Result<(), Error> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let refused = self.rows.iter().find_map(|row| match row {
            RowOutcome::Refused(code) => Some(*code),
            _ => None,
        });
        match refused {
            None => Ok(()),
            Some(code) => Err(Error::new(ErrorKind::RowErrors, CALL, table.to_string()).with_reason(code.as_str())),
        }
    }
}

/// How [`AppendClient`] connects.
#[derive(Debug, Clone, Default)]
pub struct AppendSettings {
    /// Whether requests are compressed. `None`: over `https://` only, where bytes that leave AWS are paid for.
    pub gzip: Option<bool>,
    /// Another root certificate (PEM) beside the built-in ones.
    pub root_certificate: Option<Vec<u8>>,
    /// How long one request's answer is waited for; 30 s unless given.
    pub attempt_timeout: Option<Duration>,
}

struct Connection {
    channel: Channel,
    last_used: SystemTime,
}

/// A connection to the Storage Write API, made on first use and again whenever it is lost.
pub struct AppendClient {
    endpoint: Endpoint,
    gzip: bool,
    attempt_timeout: Duration,
    tokens: Arc<dyn TokenSource>,
    connection: Mutex<Option<Connection>>,
}

impl AppendClient {
    /// For `http://` (plain) or `https://` (TLS, built-in roots) `endpoint`. Nothing is sent before the first append.
    ///
    /// # Errors
    /// `InvalidRequest` when the endpoint is not such a URL or the certificate is not readable.
    pub fn new(endpoint: &str, tokens: Arc<dyn TokenSource>) -> Result<Self, Error> {
        Self::with_settings(endpoint, tokens, AppendSettings::default())
    }

    /// As [`AppendClient::new`], with settings.
    ///
    /// # Errors
    /// As there.
    pub fn with_settings(
        endpoint: &str,
        tokens: Arc<dyn TokenSource>,
        settings: AppendSettings,
    ) -> Result<Self, Error> {
        let wrong =
            |source: tonic::transport::Error| Error::new(ErrorKind::InvalidRequest, CALL, endpoint).with_source(source);
        let is_tls = match endpoint.split_once("://") {
            Some(("https", _)) => true,
            Some(("http", _)) => false,
            _ => {
                return Err(Error::new(ErrorKind::InvalidRequest, CALL, endpoint)
                    .with_detail("expected an http:// or https:// URL"));
            }
        };
        let mut channel = Endpoint::from_shared(endpoint.to_owned())
            .map_err(wrong)?
            .user_agent(TRACE_ID)
            .map_err(wrong)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .tcp_nodelay(true)
            .http2_adaptive_window(true);
        if is_tls {
            let mut tls = ClientTlsConfig::new().with_webpki_roots();
            if let Some(pem) = &settings.root_certificate {
                tls = tls.ca_certificate(Certificate::from_pem(pem));
            }
            channel = channel.tls_config(tls).map_err(wrong)?;
        }
        Ok(Self {
            endpoint: channel,
            gzip: settings.gzip.unwrap_or(is_tls),
            attempt_timeout: settings.attempt_timeout.unwrap_or(ATTEMPT_TIMEOUT),
            tokens,
            connection: Mutex::new(None),
        })
    }

    /// Appends `rows`, encoded by the stream's descriptor, in their order: a request that is not acknowledged is
    /// repeated until `deadline`, and nothing behind it is sent before. A refused row is left out and the rest of its
    /// request sent again, because BigQuery writes none of a request with a refused row
    /// (<https://cloud.google.com/bigquery/docs/write-api-streaming#error_handling>).
    pub async fn append<R: AsRef<[u8]>>(&self, stream: &WriteStream, rows: &[R], deadline: Instant) -> AppendOutcome {
        let rows: Vec<&[u8]> = rows.iter().map(AsRef::as_ref).collect();
        self.append_rows(stream, &rows, deadline).await
    }

    async fn append_rows(&self, stream: &WriteStream, rows: &[&[u8]], deadline: Instant) -> AppendOutcome {
        let mut outcome =
            AppendOutcome { rows: vec![RowOutcome::NotWritten; rows.len()], failure: None, requests: 0, bytes_sent: 0 };
        let mut offset = stream.offset;
        for request in requests(rows, MAX_REQUEST_BYTES) {
            if let Err(failure) = self.append_request(stream, request, &mut offset, deadline, &mut outcome).await {
                outcome.failure = Some(failure);
                break;
            }
        }
        outcome
    }

    /// One request's rows, until all of them are written or refused.
    async fn append_request(
        &self,
        stream: &WriteStream,
        rows: RequestRows<'_>,
        offset: &mut Option<i64>,
        deadline: Instant,
        outcome: &mut AppendOutcome,
    ) -> Result<(), Error> {
        let mut pending: Vec<(usize, &[u8])> = Vec::with_capacity(rows.len());
        for (index, row) in rows {
            if row.len() > MAX_ROW_BYTES {
                set(&mut outcome.rows, index, RowOutcome::Refused(RefusalCode::TooLarge));
            } else {
                pending.push((index, row));
            }
        }
        let mut retries = Retries::until(deadline);
        while !pending.is_empty() {
            let request = self.message(stream, &pending, *offset)?;
            outcome.requests = outcome.requests.saturating_add(1);
            outcome.bytes_sent += pending.iter().map(|(_, row)| size(row)).sum::<u64>();
            match self.attempt(stream, request, deadline).await {
                Ok(Attempt::Written) => {
                    for (index, _) in &pending {
                        set(&mut outcome.rows, *index, RowOutcome::Written);
                    }
                    *offset = offset.map(|offset| offset.saturating_add(i64::try_from(pending.len()).unwrap_or(0)));
                    return Ok(());
                }
                Ok(Attempt::RowsRefused(refused)) => {
                    let before = pending.len();
                    let mut place = 0_i64;
                    pending.retain(|(index, _)| {
                        let code = refused.get(&place);
                        place += 1;
                        if let Some(code) = code {
                            set(&mut outcome.rows, *index, RowOutcome::Refused(*code));
                        }
                        code.is_none()
                    });
                    if pending.len() == before {
                        // It names no row of the request: sending it again would go on forever.
                        return Err(failed(ErrorKind::InvalidRequest, stream).with_reason("row errors without a row"));
                    }
                }
                Err(error) => retries.wait_after(error, self.tokens.as_ref()).await?,
            }
        }
        Ok(())
    }

    /// Sends one request on a stream of its own and waits for its answer.
    async fn attempt(&self, stream: &WriteStream, request: Bytes, deadline: Instant) -> Result<Attempt, Error> {
        let until = deadline.min(Instant::now() + self.attempt_timeout);
        match tokio::time::timeout_at(until, self.call(stream, request)).await {
            Ok(Ok(attempt)) => {
                self.used();
                Ok(attempt)
            }
            Ok(Err(error)) => {
                if matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Unavailable) {
                    self.disconnect();
                }
                Err(error)
            }
            Err(_) => {
                self.disconnect();
                Err(failed(ErrorKind::Timeout, stream))
            }
        }
    }

    fn message(&self, stream: &WriteStream, rows: &[(usize, &[u8])], offset: Option<i64>) -> Result<Bytes, Error> {
        let envelope =
            Envelope { write_stream: stream.name(), offset, trace_id: TRACE_ID, descriptor: &stream.descriptor };
        append_message::encode(envelope, rows.iter().map(|(_, row)| *row), self.gzip)
            .map_err(|error| failed(ErrorKind::InvalidRequest, stream).with_source(error))
    }

    /// As tonic's client would, but for the message, which is framed and compressed already.
    async fn call(&self, stream: &WriteStream, message: Bytes) -> Result<Attempt, Error> {
        let token = self.tokens.token().await?;
        let mut request = http::Request::post(METHOD)
            .body(Body::new(Full::new(message)))
            .map_err(|error| failed(ErrorKind::InvalidRequest, stream).with_source(error))?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if self.gzip {
            headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
        }
        // BigQuery finds the table's region by it (<https://google.aip.dev/client-libraries/4222>).
        let routing = format!("write_stream={}", stream.name().replace('/', "%2F"));
        headers.insert("x-goog-request-params", header(stream, &routing)?);
        if let Some(token) = token {
            let mut value = header(stream, &format!("Bearer {token}"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let lost = |error: tonic::transport::Error| {
            failed(ErrorKind::Unreachable, stream).with_source(LostConnection(describe(&error)))
        };
        let mut channel = self.channel();
        let response = channel.ready().await.map_err(lost)?.call(request).await.map_err(lost)?;
        let mut answers = match Status::from_header_map(response.headers()) {
            Some(status) if status.code() != Code::Ok => return Err(status_error(stream, &status)),
            // Trailers that came with the headers: there is no answer.
            Some(_) => Streaming::new_empty(ProstDecoder::default(), response.into_body()),
            None => {
                let http_status = response.status();
                Streaming::new_response(ProstDecoder::default(), response.into_body(), http_status, None, None)
            }
        };
        match answers.message().await {
            Ok(Some(answer)) => read(stream, answer),
            Ok(None) => {
                Err(failed(ErrorKind::Unreachable, stream).with_detail("the stream was closed without an answer"))
            }
            Err(status) => Err(status_error(stream, &status)),
        }
    }

    fn channel(&self) -> Channel {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        // A clock that went backwards says nothing about the connection: it is kept.
        let is_stale =
            |connection: &Connection| now.duration_since(connection.last_used).is_ok_and(|idle| idle > MAX_IDLE);
        match connection.as_mut().filter(|connection| !is_stale(connection)) {
            Some(connection) => {
                connection.last_used = now;
                connection.channel.clone()
            }
            None => {
                let channel = self.endpoint.connect_lazy();
                *connection = Some(Connection { channel: channel.clone(), last_used: now });
                channel
            }
        }
    }

    fn used(&self) {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = connection.as_mut() {
            connection.last_used = SystemTime::now();
        }
    }

    fn disconnect(&self) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn read(stream: &WriteStream, answer: AppendRowsResponse) -> Result<Attempt, Error> {
    if !answer.row_errors.is_empty() {
        let refused = answer.row_errors.iter().map(|row| {
            let code = match row.code() {
                RowErrorCode::FieldsError => RefusalCode::FieldsError,
                RowErrorCode::Unspecified => RefusalCode::Unspecified,
            };
            (row.index, code)
        });
        return Ok(Attempt::RowsRefused(refused.collect()));
    }
    match answer.response {
        Some(Answer::AppendResult(_)) => Ok(Attempt::Written),
        Some(Answer::Error(error)) => {
            let remote = RemoteStatus {
                code: Code::from(error.code),
                message: &error.message,
                storage_code: storage_code(&error),
            };
            if stream.offset.is_some() && remote.kind() == ErrorKind::AlreadyExists {
                // The rows of this place are there: an earlier attempt, whose answer was lost, wrote them.
                return Ok(Attempt::Written);
            }
            Err(remote_error(stream, &remote))
        }
        None => {
            Err(failed(ErrorKind::UnexpectedAnswer, stream).with_detail("the answer has neither a result nor an error"))
        }
    }
}

fn status_error(stream: &WriteStream, status: &Status) -> Error {
    // A status with a cause was made on this side of the connection: its text is hyper's, without row values.
    if let Some(cause) = std::error::Error::source(status) {
        return failed(ErrorKind::Unreachable, stream).with_source(LostConnection(describe(cause)));
    }
    let storage_code = rpc::Status::decode(status.details()).ok().as_ref().and_then(storage_code);
    remote_error(stream, &RemoteStatus { code: status.code(), message: status.message(), storage_code })
}

fn remote_error(stream: &WriteStream, status: &RemoteStatus<'_>) -> Error {
    failed(status.kind(), stream).with_reason(status.reason()).with_remote_message(status.message)
}

fn failed(kind: ErrorKind, stream: &WriteStream) -> Error {
    Error::new(kind, CALL, stream.table.to_string())
}

fn header(stream: &WriteStream, value: &str) -> Result<HeaderValue, Error> {
    HeaderValue::try_from(value).map_err(|_| {
        failed(ErrorKind::InvalidRequest, stream).with_detail("the token or the table's name cannot stand in a header")
    })
}

enum Attempt {
    Written,
    /// By their place in the request.
    RowsRefused(BTreeMap<i64, RefusalCode>),
}

/// A status as BigQuery sent it, in the trailers or inside an answer.
struct RemoteStatus<'a> {
    code: Code,
    message: &'a str,
    storage_code: Option<StorageErrorCode>,
}

impl RemoteStatus<'_> {
    fn kind(&self) -> ErrorKind {
        match self.storage_code {
            Some(StorageErrorCode::TableNotFound | StorageErrorCode::StreamNotFound) => {
                return ErrorKind::NotFound;
            }
            Some(StorageErrorCode::OffsetAlreadyExists) => return ErrorKind::AlreadyExists,
            Some(StorageErrorCode::KmsServiceError) => return ErrorKind::Unavailable,
            _ => {}
        }
        match self.code {
            Code::Unavailable => ErrorKind::Unavailable,
            Code::Internal | Code::DataLoss => ErrorKind::Internal,
            Code::Cancelled => ErrorKind::Cancelled,
            Code::DeadlineExceeded => ErrorKind::Timeout,
            Code::ResourceExhausted => ErrorKind::RateLimited,
            // ABORTED is what BigQuery ends a stream with when it moves it; UNKNOWN what a lost connection becomes.
            Code::Aborted | Code::Unknown => ErrorKind::Unreachable,
            Code::Unauthenticated => ErrorKind::Unauthenticated,
            Code::PermissionDenied => ErrorKind::PermissionDenied,
            Code::NotFound => ErrorKind::NotFound,
            Code::AlreadyExists => ErrorKind::AlreadyExists,
            Code::Ok => ErrorKind::UnexpectedAnswer,
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::Unimplemented => {
                ErrorKind::InvalidRequest
            }
        }
    }

    fn reason(&self) -> String {
        if self.code == Code::PermissionDenied && self.message.contains("may not exist") {
            return MAY_NOT_EXIST.to_owned();
        }
        match self.storage_code {
            Some(code) => code.as_str_name().to_owned(),
            None => format!("{:?}", self.code),
        }
    }
}

fn storage_code(status: &rpc::Status) -> Option<StorageErrorCode> {
    status
        .details
        .iter()
        .filter(|detail| detail.type_url.ends_with("google.cloud.bigquery.storage.v1.StorageError"))
        .find_map(|detail| StorageError::decode(detail.value.as_slice()).ok())
        .map(|error| error.code())
        .filter(|code| *code != StorageErrorCode::Unspecified)
}

/// What ended a connection, in the words of the parts below.
#[derive(Debug, thiserror::Error)]
#[error("connection lost: {0}")]
struct LostConnection(String);

fn describe(cause: &(dyn std::error::Error + 'static)) -> String {
    let mut text = cause.to_string();
    let mut next = cause.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

type RequestRows<'a> = Vec<(usize, &'a [u8])>;

/// Cuts `rows`, in their order, into requests of at most `limit` bytes; a larger row stands alone.
fn requests<'a>(rows: &[&'a [u8]], limit: usize) -> Vec<RequestRows<'a>> {
    let mut requests: Vec<RequestRows<'a>> = Vec::new();
    let mut current: RequestRows<'a> = Vec::new();
    let mut bytes = 0_usize;
    for (index, row) in rows.iter().enumerate() {
        let added = row.len() + ROW_OVERHEAD;
        if !current.is_empty() && bytes + added > limit {
            requests.push(std::mem::take(&mut current));
            bytes = 0;
        }
        bytes += added;
        current.push((index, *row));
    }
    if !current.is_empty() {
        requests.push(current);
    }
    requests
}

fn set(rows: &mut [RowOutcome], index: usize, outcome: RowOutcome) {
    if let Some(row) = rows.get_mut(index) {
        *row = outcome;
    }
}

fn size(row: &[u8]) -> u64 {
    u64::try_from(row.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "append_tests.rs"]
mod tests;
