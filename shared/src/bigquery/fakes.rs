//! Real servers on 127.0.0.1 that speak as much of BigQuery as the tests need and fail as they are told. They keep what
//! arrived, so that a test asserts on that, not on how the client came to send it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A test may fail by panicking.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::stream::BoxStream;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::append_rows_request::Rows;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::append_rows_response::{
    AppendResult, Response as Answer,
};
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::storage_error::StorageErrorCode;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::{
    AppendRowsRequest, AppendRowsResponse, RowError, StorageError,
};
use gcp_bigquery_client::google::rpc;
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::codec::CompressionEncoding;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Status, Streaming};

use super::auth::TokenSource;
use super::error::Error;

/// A deadline that a passing test never comes near.
pub(crate) fn far() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// A deadline that a test waits for.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_millis(700)
}

/// Tokens `t0`, `t1`, …: a new one after each invalidation.
#[derive(Default)]
pub(crate) struct CountingTokens(Mutex<u32>);

#[async_trait]
impl TokenSource for CountingTokens {
    async fn token(&self) -> Result<Option<String>, Error> {
        Ok(Some(format!("t{}", self.0.lock().unwrap())))
    }

    fn invalidate(&self) {
        *self.0.lock().unwrap() += 1;
    }
}

/// What the next append meets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AppendFault {
    /// None: the append is answered as it should.
    Pass,
    /// A status in the trailers.
    Status(Code, &'static str),
    /// A status inside the answer, with BigQuery's own code.
    Inner(Code, StorageErrorCode),
    /// The stream ends without an answer.
    Close,
    /// The rows are written, and the answer is lost.
    WriteThenLose,
    /// Row errors that name no row.
    NamelessRowErrors,
    /// An answer with nothing in it.
    Empty,
    /// No answer ever.
    Hang,
}

/// An append as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct SeenAppend {
    pub(crate) stream: String,
    pub(crate) has_schema: bool,
    pub(crate) rows: usize,
    pub(crate) authorization: Option<String>,
    pub(crate) routing: Option<String>,
    pub(crate) encoding: Option<String>,
    pub(crate) offset: Option<i64>,
}

#[derive(Default)]
struct WriteState {
    faults: VecDeque<AppendFault>,
    seen: Vec<SeenAppend>,
    written: Vec<Vec<u8>>,
}

/// The Storage Write API. A row that contains `BAD` is refused.
pub(crate) struct FakeWrite {
    pub(crate) url: String,
    state: Arc<Mutex<WriteState>>,
    task: JoinHandle<()>,
}

impl FakeWrite {
    pub(crate) async fn start(faults: impl IntoIterator<Item = AppendFault>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(WriteState { faults: faults.into_iter().collect(), ..WriteState::default() }));
        let service = WriteService(Arc::clone(&state));
        let task = tokio::spawn(async move {
            Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
        });
        Self { url, state, task }
    }

    /// The rows that BigQuery would hold, as text.
    pub(crate) fn written(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.written.iter().map(|row| String::from_utf8_lossy(row).into_owned()).collect()
    }

    pub(crate) fn written_bytes(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().written.clone()
    }

    pub(crate) fn seen(&self) -> Vec<SeenAppend> {
        self.state.lock().unwrap().seen.clone()
    }
}

impl Drop for FakeWrite {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct WriteService(Arc<Mutex<WriteState>>);

impl NamedService for WriteService {
    const NAME: &'static str = "google.cloud.bigquery.storage.v1.BigQueryWrite";
}

impl tower::Service<http::Request<tonic::body::Body>> for WriteService {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let method = AppendMethod(Arc::clone(&self.0));
        Box::pin(async move {
            let mut grpc = Grpc::new(tonic_prost::ProstCodec::default())
                .accept_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(usize::MAX);
            Ok(grpc.streaming(method, request).await)
        })
    }
}

struct AppendMethod(Arc<Mutex<WriteState>>);

type Answers = BoxStream<'static, Result<AppendRowsResponse, Status>>;

impl StreamingService<AppendRowsRequest> for AppendMethod {
    type Response = AppendRowsResponse;
    type ResponseStream = Answers;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Answers>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<AppendRowsRequest>>) -> Self::Future {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let header = |name: &str| {
                let value = request.metadata().get(name)?;
                Some(value.to_str().unwrap().to_owned())
            };
            let headers = [header("authorization"), header("x-goog-request-params"), header("grpc-encoding")];
            let requests = request.into_inner();
            let answers = requests.then(move |request| {
                let state = Arc::clone(&state);
                let headers = headers.clone();
                async move {
                    match answer(&state, request?, headers) {
                        Some(answer) => answer,
                        None => std::future::pending().await,
                    }
                }
            });
            // An answer without content that was asked for ends the stream instead.
            let answers = answers.take_while(|answer| {
                let is_close = matches!(answer, Err(status) if status.message() == CLOSE);
                std::future::ready(!is_close)
            });
            let answers: Answers = Box::pin(answers);
            Ok(tonic::Response::new(answers))
        })
    }
}

const CLOSE: &str = "close the stream without an answer";

/// The answer to one append; `None` for none ever.
fn answer(
    state: &Mutex<WriteState>,
    request: AppendRowsRequest,
    [authorization, routing, encoding]: [Option<String>; 3],
) -> Option<Result<AppendRowsResponse, Status>> {
    let mut state = state.lock().unwrap();
    let Some(Rows::ProtoRows(data)) = request.rows else {
        return Some(Err(Status::invalid_argument("no rows")));
    };
    let rows = data.rows.unwrap_or_default().serialized_rows;
    state.seen.push(SeenAppend {
        stream: request.write_stream,
        has_schema: data.writer_schema.is_some_and(|schema| schema.proto_descriptor.is_some()),
        rows: rows.len(),
        authorization,
        routing,
        encoding,
        offset: request.offset,
    });
    let written = || AppendRowsResponse {
        response: Some(Answer::AppendResult(AppendResult { offset: None })),
        ..AppendRowsResponse::default()
    };
    let row_error = |index: i64| RowError { index, code: 1, message: "Bad value: 4111111111111111".to_owned() };
    match state.faults.pop_front() {
        None | Some(AppendFault::Pass) => {}
        Some(AppendFault::Status(code, message)) => return Some(Err(Status::new(code, message))),
        Some(AppendFault::Inner(code, storage)) => {
            let detail = StorageError {
                code: storage.into(),
                entity: "projects/p/datasets/cdc/tables/log".to_owned(),
                error_message: "'4111111111111111'".to_owned(),
            };
            return Some(Ok(AppendRowsResponse {
                response: Some(Answer::Error(rpc::Status {
                    code: code.into(),
                    message: "Value: 4111111111111111".to_owned(),
                    details: vec![prost_types::Any {
                        type_url: "type.googleapis.com/google.cloud.bigquery.storage.v1.StorageError".to_owned(),
                        value: detail.encode_to_vec(),
                    }],
                })),
                ..AppendRowsResponse::default()
            }));
        }
        Some(AppendFault::Close) => return Some(Err(Status::ok(CLOSE))),
        Some(AppendFault::WriteThenLose) => {
            state.written.extend(rows);
            return Some(Err(Status::ok(CLOSE)));
        }
        Some(AppendFault::NamelessRowErrors) => {
            return Some(Ok(AppendRowsResponse {
                row_errors: vec![row_error(1_000_000)],
                ..AppendRowsResponse::default()
            }));
        }
        Some(AppendFault::Empty) => return Some(Ok(AppendRowsResponse::default())),
        Some(AppendFault::Hang) => return None,
    }
    let refused: Vec<RowError> = (0_i64..)
        .zip(&rows)
        .filter(|(_, row)| row.windows(3).any(|part| part == b"BAD"))
        .map(|(index, _)| row_error(index))
        .collect();
    if refused.is_empty() {
        state.written.extend(rows);
        Some(Ok(written()))
    } else {
        Some(Ok(AppendRowsResponse {
            row_errors: refused,
            response: Some(Answer::Error(rpc::Status {
                code: Code::InvalidArgument.into(),
                message: "Errors found while processing rows".to_owned(),
                details: Vec::new(),
            })),
            ..AppendRowsResponse::default()
        }))
    }
}

/// What a REST call meets.
#[derive(Debug, Clone)]
pub(crate) struct RestFault {
    method: Method,
    path: &'static str,
    status: u16,
    body: String,
    took_effect: bool,
}

impl RestFault {
    /// The next `method` call whose path contains `path` fails with a Google error.
    pub(crate) fn google(method: Method, path: &'static str, status: u16, reason: &str) -> Self {
        Self { method, path, status, body: google_error(status, reason, "Value: 4111111111111111"), took_effect: false }
    }

    /// As a proxy would answer.
    pub(crate) fn html(method: Method, path: &'static str, status: u16) -> Self {
        Self { method, path, status, body: "<html>4111111111111111</html>".to_owned(), took_effect: false }
    }

    /// JSON, but no object.
    pub(crate) fn list(method: Method, path: &'static str) -> Self {
        Self { method, path, status: 200, body: "[]".to_owned(), took_effect: false }
    }

    /// The call is done, and only its answer is lost.
    pub(crate) fn after_it_took_effect(mut self) -> Self {
        self.took_effect = true;
        self
    }
}

fn google_error(status: u16, reason: &str, message: &str) -> String {
    json!({"error": {"code": status, "message": message, "status": "X",
        "errors": [{"message": message, "domain": "global", "reason": reason}]}})
    .to_string()
}

/// How a job behaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobPlan {
    /// The reason and message it fails with.
    pub(crate) failure: Option<(&'static str, &'static str)>,
    /// Polls until it is done.
    pub(crate) polls: u32,
}

#[derive(Default)]
struct RestState {
    faults: Vec<RestFault>,
    calls: Vec<(Method, String, Option<String>)>,
    datasets: BTreeSet<String>,
    tables: BTreeMap<String, Value>,
    jobs: BTreeMap<String, (Value, JobPlan)>,
    plans: VecDeque<JobPlan>,
    rows: Vec<Value>,
}

/// The REST API.
pub(crate) struct FakeRest {
    pub(crate) url: String,
    state: Arc<Mutex<RestState>>,
    task: JoinHandle<()>,
}

impl FakeRest {
    pub(crate) async fn start(faults: impl IntoIterator<Item = RestFault>) -> Self {
        crate::lambda::install_tls();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(RestState { faults: faults.into_iter().collect(), ..RestState::default() }));
        let router = Router::new().fallback(serve).with_state(Arc::clone(&state));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, state, task }
    }

    /// The jobs to come behave so, in the order of their insertion.
    pub(crate) fn plan(&self, plans: impl IntoIterator<Item = JobPlan>) {
        self.state.lock().unwrap().plans.extend(plans);
    }

    /// A job that was there before.
    pub(crate) fn earlier_job(&self, id: &str, plan: JobPlan) {
        self.state.lock().unwrap().jobs.insert(id.to_owned(), (json!({}), plan));
    }

    /// What every query answers, as rows of one column `n`.
    pub(crate) fn rows(&self, values: impl IntoIterator<Item = &'static str>) {
        let rows = values.into_iter().map(|value| json!({"f": [{"v": value}]}));
        self.state.lock().unwrap().rows = rows.collect();
    }

    pub(crate) fn add_dataset(&self, name: &str) {
        self.state.lock().unwrap().datasets.insert(name.to_owned());
    }

    pub(crate) fn add_table(&self, name: &str, table: Value) {
        self.state.lock().unwrap().tables.insert(name.to_owned(), table);
    }

    pub(crate) fn jobs(&self) -> BTreeMap<String, Value> {
        let state = self.state.lock().unwrap();
        state.jobs.iter().map(|(id, (body, _))| (id.clone(), body.clone())).collect()
    }

    pub(crate) fn datasets(&self) -> Vec<String> {
        self.state.lock().unwrap().datasets.iter().cloned().collect()
    }

    pub(crate) fn tables(&self) -> BTreeMap<String, Value> {
        self.state.lock().unwrap().tables.clone()
    }

    /// The `Authorization` headers, in the calls' order.
    pub(crate) fn authorizations(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.calls.iter().filter_map(|(_, _, header)| header.clone()).collect()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.calls.iter().map(|(method, path, _)| format!("{method} {path}")).collect()
    }
}

impl Drop for FakeRest {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    State(state): State<Arc<Mutex<RestState>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut state = state.lock().unwrap();
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let path = uri.to_string();
    state.calls.push((method.clone(), path.clone(), authorization));
    let fault = state
        .faults
        .iter()
        .position(|fault| fault.method == method && path.contains(fault.path))
        .map(|place| state.faults.remove(place));
    if let Some(fault) = &fault
        && !fault.took_effect
    {
        return reply(fault.status, fault.body.clone());
    }
    let (status, answer) = state.answer(&method, uri.path(), uri.query().unwrap_or_default(), &body);
    match fault {
        Some(fault) => reply(fault.status, fault.body),
        None => reply(status, answer),
    }
}

fn reply(status: u16, body: String) -> Response {
    let kind = if body.starts_with('<') { "text/html" } else { "application/json" };
    (StatusCode::from_u16(status).unwrap(), [("content-type", kind)], body).into_response()
}

impl RestState {
    fn answer(&mut self, method: &Method, path: &str, query: &str, body: &[u8]) -> (u16, String) {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (method.as_str(), parts.as_slice()) {
            ("POST", ["projects", _, "datasets"]) => {
                let name = body["datasetReference"]["datasetId"].as_str().unwrap().to_owned();
                if self.datasets.insert(name) {
                    (200, body.to_string())
                } else {
                    (409, google_error(409, "duplicate", "Already Exists"))
                }
            }
            ("POST", ["projects", _, "datasets", dataset, "tables"]) => {
                let name = format!("{dataset}.{}", body["tableReference"]["tableId"].as_str().unwrap());
                if !self.datasets.contains(*dataset) {
                    (404, google_error(404, "notFound", "Not found: Dataset"))
                } else {
                    match self.tables.entry(name) {
                        Entry::Occupied(_) => (409, google_error(409, "duplicate", "Already Exists")),
                        Entry::Vacant(slot) => {
                            slot.insert(body.clone());
                            (200, body.to_string())
                        }
                    }
                }
            }
            ("GET", ["projects", _, "datasets", dataset]) => match self.datasets.contains(*dataset) {
                true => (200, json!({"datasetReference": {"datasetId": dataset}}).to_string()),
                false => (404, google_error(404, "notFound", "Not found: Dataset")),
            },
            ("GET", ["projects", _, "datasets", dataset, "tables", table]) => {
                match self.tables.get(&format!("{dataset}.{table}")) {
                    Some(table) => (200, table.to_string()),
                    None => (404, google_error(404, "notFound", "Not found: Table")),
                }
            }
            ("PATCH", ["projects", _, "datasets", dataset, "tables", table]) => {
                match self.tables.get_mut(&format!("{dataset}.{table}")) {
                    Some(table) => {
                        table["schema"] = body["schema"].clone();
                        (200, table.to_string())
                    }
                    None => (404, google_error(404, "notFound", "Not found: Table")),
                }
            }
            ("DELETE", ["projects", _, "datasets", dataset, "tables", table]) => {
                match self.tables.remove(&format!("{dataset}.{table}")) {
                    Some(_) => (204, String::new()),
                    None => (404, google_error(404, "notFound", "Not found: Table")),
                }
            }
            ("POST", ["projects", _, "jobs"]) => {
                let id = body["jobReference"]["jobId"].as_str().unwrap().to_owned();
                if self.jobs.contains_key(&id) {
                    return (409, google_error(409, "duplicate", "Already Exists: Job"));
                }
                let plan = self.plans.pop_front().unwrap_or_default();
                self.jobs.insert(id, (body.clone(), plan));
                (200, body.to_string())
            }
            ("GET", ["projects", _, "jobs", id]) => match self.jobs.get(*id) {
                None => (404, google_error(404, "notFound", "Not found: Job")),
                Some((_, plan)) => (200, job_answer(plan).to_string()),
            },
            ("GET", ["projects", _, "queries", id]) => self.results(id, query),
            _ => (404, google_error(404, "notFound", "no such call")),
        }
    }

    fn results(&mut self, id: &str, query: &str) -> (u16, String) {
        let Some((_, plan)) = self.jobs.get_mut(id) else {
            return (404, google_error(404, "notFound", "Not found: Job"));
        };
        if plan.polls > 0 {
            plan.polls -= 1;
            return (200, json!({"jobComplete": false}).to_string());
        }
        if let Some((reason, message)) = plan.failure {
            return (400, google_error(400, reason, message));
        }
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        let from: usize = parameter("pageToken").map_or(0, |token| token.parse().unwrap());
        // Pages are small, so that reading on is always tested.
        let size = parameter("maxResults").map_or(2, |max| max.parse().unwrap()).min(2);
        let page: Vec<Value> = self.rows.iter().skip(from).take(size).cloned().collect();
        let mut answer = json!({
            "jobComplete": true,
            "schema": {"fields": [{"name": "n", "type": "STRING"}]},
            "totalRows": self.rows.len().to_string(),
            "rows": page
        });
        if from + size < self.rows.len() {
            answer["pageToken"] = json!((from + size).to_string());
        }
        (200, answer.to_string())
    }
}

fn job_answer(plan: &JobPlan) -> Value {
    if plan.polls > 0 {
        return json!({"status": {"state": "RUNNING"}, "statistics": {}});
    }
    let mut job = json!({
        "status": {"state": "DONE"},
        "statistics": {
            "startTime": "1000", "endTime": "1500", "totalSlotMs": "77",
            "query": {"totalBytesBilled": "10485760", "totalBytesProcessed": "123", "estimatedBytesProcessed": "456",
                "dmlStats": {"insertedRowCount": "3", "updatedRowCount": "2", "deletedRowCount": "1"}}
        }
    });
    if let Some((reason, message)) = plan.failure {
        job["status"]["errorResult"] = json!({"reason": reason, "message": message});
    }
    job
}
