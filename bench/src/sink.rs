//! BigQuery's two ways for rows on a loopback port with TLS, and on another without: the Storage Write API and `tabledata.insertAll`.
//! It counts the bytes of each connection as TCP carries them, decodes every row and compares it with the record that it must be.
//! It must never take a row for right because it arrived: a contestant that writes something else has no figure.

use std::collections::HashSet;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt;
use futures::stream::BoxStream;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::append_rows_request::Rows;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::append_rows_response::{
    AppendResult, Response as Answer,
};
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::{AppendRowsRequest, AppendRowsResponse};
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tonic::Status;
use tonic::codec::CompressionEncoding;
use tonic::server::{Grpc, StreamingService};

use crate::cpu::Process;
use crate::inputs::Input;
use crate::services::openssl;

/// What arrived since [`Sink::expect`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Received {
    /// Bytes that came in over TCP: TLS and HTTP framing included, TCP/IP headers not.
    pub bytes_in: u64,
    /// Bytes that went out.
    pub bytes_out: u64,
    /// CPU time of the watched process when its first append had arrived whole, in nanoseconds.
    pub cpu_ns_at_first_append: Option<u64>,
}

/// The running sink.
pub struct Sink {
    /// `https://localhost:PORT`.
    pub tls_url: String,
    /// `http://localhost:PORT`.
    pub plain_url: String,
    /// PEM file of the certificate that signed the sink's own.
    pub root_certificate: PathBuf,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[derive(Default)]
struct Shared {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    input: Option<Arc<Input>>,
    to_the_letter: bool,
    seen: HashSet<(i64, i64)>,
    rows: usize,
    problem: Option<String>,
    watched: Option<Process>,
    cpu_ns_at_first_append: Option<u64>,
    bytes_before: (u64, u64),
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self) -> (u64, u64) {
        (self.bytes_in.load(Ordering::Relaxed), self.bytes_out.load(Ordering::Relaxed))
    }
}

impl Sink {
    /// Starts it; the root certificate is written below `folder`.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let root_certificate = folder.join("root.pem");
        let (certificate, key) = certificate(folder, &root_certificate)?;
        let mut tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

        let shared = Arc::<Shared>::default();
        let mut tasks = Vec::new();
        let tls_port = serve(Arc::clone(&shared), Some(TlsAcceptor::from(Arc::new(tls))), &mut tasks).await?;
        let plain_port = serve(Arc::clone(&shared), None, &mut tasks).await?;
        Ok(Self {
            tls_url: format!("https://localhost:{tls_port}"),
            plain_url: format!("http://localhost:{plain_port}"),
            root_certificate,
            shared,
            tasks,
        })
    }

    /// What the next invocation has to deliver, perhaps several times over: row images to the letter, or rendered anew. `watched` is
    /// asked for its CPU time at the first append.
    pub fn expect(&self, input: &Arc<Input>, to_the_letter: bool, watched: Option<Process>) {
        let bytes_before = self.shared.bytes();
        let input = Some(Arc::clone(input));
        *self.shared.counts() = Counts { input, to_the_letter, watched, bytes_before, ..Counts::default() };
    }

    /// What arrived since.
    ///
    /// # Errors
    /// When a row is not the record's, is missing, or came another number of times than `times`.
    pub fn received(&self, times: usize) -> anyhow::Result<Received> {
        let bytes = self.shared.bytes();
        let counts = self.shared.counts();
        let input = counts.input.as_ref().context("nothing was expected")?;
        if let Some(problem) = &counts.problem {
            anyhow::bail!("the sink got a wrong row: {problem}");
        }
        let due = input.records.len();
        ensure!(counts.seen.len() == due, "the sink got {} of {due} records", counts.seen.len());
        ensure!(counts.rows == due * times, "the sink got {} rows, expected {due} × {times}", counts.rows);
        Ok(Received {
            bytes_in: bytes.0 - counts.bytes_before.0,
            bytes_out: bytes.1 - counts.bytes_before.1,
            cpu_ns_at_first_append: counts.cpu_ns_at_first_append,
        })
    }
}

/// A certificate for this machine's own names, signed by a root of its own: made at each start, so that none lies about and none expires.
fn certificate(
    folder: &Path,
    root_certificate: &Path,
) -> anyhow::Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    let path = |name: &str| folder.join(name).display().to_string();
    let root = root_certificate.display().to_string();
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let of_root = ["-keyout", &path("root-key.pem"), "-out", &root, "-subj", "/CN=bench root"];
    // Python insists on it.
    let of_root = [&of_root[..], &["-addext", "keyUsage=critical,keyCertSign"]].concat();
    let (root_key, sink_key, sink) = (path("root-key.pem"), path("sink-key.pem"), path("sink.pem"));
    let of_sink = ["-keyout", &sink_key, "-out", &sink, "-subj", "/CN=localhost", "-CA", &root, "-CAkey", &root_key];
    let names =
        ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
    openssl(&[&["req", "-x509"][..], &new_key, &of_root].concat())?;
    openssl(&[&["req", "-x509"][..], &new_key, &of_sink, &names].concat())?;
    Ok((CertificateDer::from_pem_file(sink)?, PrivateKeyDer::from_pem_file(sink_key)?))
}

async fn serve(shared: Arc<Shared>, tls: Option<TlsAcceptor>, tasks: &mut Vec<JoinHandle<()>>) -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let (ready, connections) = mpsc::channel(16);
    let of_listener = Arc::clone(&shared);
    tasks.push(tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let counted = Counted { stream, shared: Arc::clone(&of_listener) };
            let (tls, ready) = (tls.clone(), ready.clone());
            tokio::spawn(async move {
                let connection: Connection = match tls {
                    None => Box::new(counted),
                    Some(tls) => match tls.accept(counted).await {
                        Ok(stream) => Box::new(stream),
                        // The client says what it did not like.
                        Err(_) => return,
                    },
                };
                let _ = ready.send((connection, peer)).await;
            });
        }
    }));
    let routes = Router::new()
        .route("/google.cloud.bigquery.storage.v1.BigQueryWrite/AppendRows", post(append_rows))
        .route("/bigquery/v2/projects/{project}/datasets/{dataset}/tables/{table}/insertAll", post(insert_all))
        .layer(DefaultBodyLimit::disable())
        .with_state(shared);
    let listener = Connections { address, connections };
    tasks.push(tokio::spawn(async move {
        // It ends only with its task.
        let _ = axum::serve(listener, routes).await;
    }));
    Ok(address.port())
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
type Connection = Box<dyn Stream>;

/// Connections whose handshake is done, so that a slow one keeps no other waiting.
struct Connections {
    address: SocketAddr,
    connections: mpsc::Receiver<(Connection, SocketAddr)>,
}

impl axum::serve::Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A TCP connection below TLS, counted.
struct Counted {
    stream: TcpStream,
    shared: Arc<Shared>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        add(&self.shared.bytes_in, buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            add(&self.shared.bytes_out, *written);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn add(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
}

async fn append_rows(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let mut grpc = Grpc::new(tonic_prost::ProstCodec::default())
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(usize::MAX);
    let answer = grpc.streaming(AppendMethod(shared), request.map(tonic::body::Body::new)).await;
    answer.map(axum::body::Body::new)
}

struct AppendMethod(Arc<Shared>);

type Answers = BoxStream<'static, Result<AppendRowsResponse, Status>>;

impl StreamingService<AppendRowsRequest> for AppendMethod {
    type Response = AppendRowsResponse;
    type ResponseStream = Answers;
    type Future = std::future::Ready<Result<tonic::Response<Answers>, Status>>;

    fn call(&mut self, request: tonic::Request<tonic::Streaming<AppendRowsRequest>>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        let answers = request.into_inner().map(move |request| {
            let request = request?;
            arrived(&shared);
            let Some(Rows::ProtoRows(data)) = request.rows else {
                return Err(Status::invalid_argument("no rows"));
            };
            for row in data.rows.unwrap_or_default().serialized_rows {
                match LogRow::decode(row.as_slice()) {
                    Ok(row) => check(&shared, &row),
                    Err(_) => wrong(&shared, "a row that is no row of the log"),
                }
            }
            let response = Some(Answer::AppendResult(AppendResult { offset: None }));
            Ok(AppendRowsResponse { response, ..AppendRowsResponse::default() })
        });
        let answers: Answers = answers.boxed();
        std::future::ready(Ok(tonic::Response::new(answers)))
    }
}

async fn insert_all(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    arrived(&shared);
    let is_gzip = headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip");
    let mut text = Vec::new();
    if is_gzip {
        if flate2::read::GzDecoder::new(body.as_ref()).read_to_end(&mut text).is_err() {
            return StatusCode::BAD_REQUEST.into_response();
        }
    } else {
        text = body.to_vec();
    }
    let Ok(request) = serde_json::from_slice::<InsertAll>(&text) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    for row in request.rows {
        check(&shared, &row.json);
    }
    let headers = [("content-type", "application/json")];
    (headers, r#"{"kind":"bigquery#tableDataInsertAllResponse"}"#).into_response()
}

#[derive(Deserialize)]
struct InsertAll {
    rows: Vec<InsertedRow>,
}

#[derive(Deserialize)]
struct InsertedRow {
    json: LogRow,
}

/// The columns of the log that every contestant writes; their numbers are the log's.
#[derive(Clone, PartialEq, Message, Deserialize)]
struct LogRow {
    #[prost(string, tag = "2")]
    source_table: String,
    #[prost(string, tag = "3")]
    operation: String,
    #[prost(string, tag = "5")]
    data: String,
    #[prost(string, tag = "10")]
    kafka_topic: String,
    #[prost(int64, tag = "11")]
    kafka_partition: i64,
    #[prost(int64, tag = "12")]
    kafka_offset: i64,
}

fn arrived(shared: &Shared) {
    let mut counts = shared.counts();
    if counts.cpu_ns_at_first_append.is_none() {
        counts.cpu_ns_at_first_append = counts.watched.as_ref().and_then(|process| process.cpu_ns_once_asleep().ok());
    }
}

fn check(shared: &Shared, row: &LogRow) {
    let mut counts = shared.counts();
    let counts = &mut *counts;
    counts.rows += 1;
    let identity = (row.kafka_partition, row.kafka_offset);
    let Some(expected) = counts.input.as_ref().and_then(|input| input.records.get(&identity)) else {
        counts.problem.get_or_insert_with(|| format!("no record is at {identity:?}"));
        return;
    };
    counts.seen.insert(identity);
    let is_right = row.source_table == expected.table
        && row.operation == expected.operation
        && row.kafka_topic == crate::inputs::TOPIC
        && (row.data == expected.data || !counts.to_the_letter && is_same(&row.data, &expected.value));
    if !is_right {
        counts.problem.get_or_insert_with(|| format!("the row of {identity:?} is not its record's"));
    }
}

fn is_same(data: &str, expected: &Value) -> bool {
    serde_json::from_str::<Value>(data).is_ok_and(|value| value == *expected)
}

fn wrong(shared: &Shared, what: &str) {
    shared.counts().problem.get_or_insert_with(|| what.to_owned());
}
