//! Stands between a function and the embedded BigQuery, knows each call by its name, and spoils those it is told to, down to the TCP
//! connection: refused, cut half-way, silent. It speaks as much of HTTP/1.1 and HTTP/2 as telling one call from the next needs.
//! It must never change what it lets through.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a port refuses connections: longer than a client's first attempts take, so that several of them meet it.
const REFUSAL: Duration = Duration::from_millis(150);
/// Late, and well within every limit of the product's.
const SLOW: Duration = Duration::from_millis(400);
/// Far above what any call takes.
const PATIENCE: Duration = Duration::from_secs(90);
/// What a client sends first on an HTTP/2 connection (RFC 9113, 3.4).
const PREFACE: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM_AND_HEADERS: u8 = 0x1 | 0x4;
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The connection ends, and new ones are refused for a while.
    Refused,
    /// The connection ends before the call reaches BigQuery.
    Closed,
    /// It takes effect, and the connection ends without a byte of its answer.
    AnswerLost,
    /// It takes effect, and the connection ends in the middle of its answer.
    AnswerCut,
    /// Nothing comes back, and BigQuery never hears of it.
    Silent,
    /// It takes effect, and nothing comes back.
    SilentAfter,
    /// The answer comes late.
    Slow,
    /// REST: this status, with this reason, and it is not carried out.
    Status(u16, &'static str),
    /// REST: it takes effect, and this status is what comes back.
    StatusAfter(u16, &'static str),
    /// REST: an HTML page of a proxy, and it is not carried out.
    Page(u16),
    /// REST: it takes effect, and an HTML page comes back.
    PageAfter(u16),
    /// `jobs.insert`: the job is accepted, and then ends with an error of this reason. It has done nothing, and keeps its id.
    JobEnds(&'static str),
    /// gRPC: this status, and it is not carried out.
    Grpc(u8),
    /// gRPC: it takes effect, and this status is what comes back.
    GrpcAfter(u8),
    /// It waits before BigQuery until it is released.
    Held,
    /// It takes effect; its answer waits until it is released.
    HeldAfter,
}

/// A call as the relay knows it: `jobs.insert` of the `merge`, `AppendRows` to `log`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    /// The method of BigQuery's API.
    pub method: String,
    /// Of a job, what it is for; of an append, the table.
    pub what: String,
}

/// Which calls a fault is for.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The method; any unless given.
    pub method: Option<String>,
    /// What it is for; any unless given.
    pub what: Option<String>,
    /// Calls to let through first.
    pub step: usize,
    /// What becomes of the next one.
    pub fault: Fault,
}

/// A call until BigQuery has answered it, whoever waits for it.
struct Open(Arc<Inner>);

impl Open {
    fn new(inner: &Arc<Inner>) -> Self {
        inner.open.send_modify(|count| *count += 1);
        Self(Arc::clone(inner))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|count| *count -= 1);
    }
}

struct Inner {
    rules: Mutex<Vec<Rule>>,
    /// Jobs that were accepted and ended with an error, with its reason.
    ended_jobs: Mutex<HashMap<String, &'static str>>,
    calls: Mutex<Vec<Call>>,
    fired: watch::Sender<usize>,
    released: watch::Sender<u64>,
    /// REST calls that are held or with BigQuery.
    open: watch::Sender<usize>,
    refusals: watch::Sender<u64>,
}

impl Inner {
    fn decide(&self, call: Call) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let mut fault = None;
        for place in 0..rules.len() {
            let rule = &mut rules[place];
            if rule.method.as_ref().is_some_and(|method| *method != call.method)
                || rule.what.as_ref().is_some_and(|what| *what != call.what)
            {
                continue;
            }
            if rule.step > 0 {
                rule.step -= 1;
                continue;
            }
            fault = Some(rule.fault);
            rules.remove(place);
            break;
        }
        self.calls.lock().unwrap().push(call);
        if fault.is_some() {
            self.fired.send_modify(|count| *count += 1);
        }
        fault
    }

    /// What BigQuery says of a job that ended with an error, to whoever inserts it, asks for it or wants its results.
    fn of_ended_job(&self, request: &[u8], fault: Option<Fault>) -> Option<Vec<u8>> {
        let (verb, below, body) = rest_parts(request);
        let below: Vec<&str> = below.iter().map(String::as_str).collect();
        let mut ended = self.ended_jobs.lock().unwrap();
        let id = match below.as_slice() {
            ["jobs"] => body["jobReference"]["jobId"].as_str()?.to_owned(),
            ["jobs" | "queries", id] => (*id).to_owned(),
            _ => return None,
        };
        let known = ended.get(&id).copied();
        let failure =
            |reason: &str| json!({"reason": reason, "message": "injected fault: a job that ended with an error"});
        let job = |state: Value| {
            let mut job =
                json!({"kind": "bigquery#job", "jobReference": {"projectId": "p", "jobId": id}, "configuration": {}});
            job["status"] = state;
            http(200, "application/json", &job.to_string())
        };
        match (verb.as_str(), below.as_slice(), known, fault) {
            ("POST", ["jobs"], Some(_), _) => Some(status_answer(409, "duplicate")),
            ("POST", ["jobs"], None, Some(Fault::JobEnds(reason))) => {
                ended.insert(id.clone(), reason);
                Some(job(json!({"state": "RUNNING"})))
            }
            ("GET", ["jobs", _], Some(reason), _) => {
                Some(job(json!({"state": "DONE", "errorResult": failure(reason), "errors": [failure(reason)]})))
            }
            ("GET", _, Some(reason), _) => Some(status_answer(if reason == "stopped" { 400 } else { 503 }, reason)),
            _ => None,
        }
    }

    fn refuse(&self) {
        self.refusals.send_modify(|count| *count += 1);
    }

    async fn until_released(&self) {
        let mut released = self.released.subscribe();
        let _ = released.changed().await;
    }
}

/// A relay with two ports, for REST and for gRPC. It ends when it is dropped.
pub struct Relay {
    /// As STRAIT_BIGQUERY_REST_URL wants it.
    pub rest_url: String,
    /// As STRAIT_BIGQUERY_GRPC_URL wants it.
    pub grpc_url: String,
    inner: Arc<Inner>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Relay {
    /// In front of these two URLs.
    pub async fn start(rest_url: &str, grpc_url: &str) -> Self {
        let inner = Arc::new(Inner {
            rules: Mutex::default(),
            ended_jobs: Mutex::default(),
            calls: Mutex::default(),
            fired: watch::Sender::new(0),
            released: watch::Sender::new(0),
            open: watch::Sender::new(0),
            refusals: watch::Sender::new(0),
        });
        let (rest_behind, path) = address(rest_url);
        let (grpc_behind, _) = address(grpc_url);
        let (rest, rest_task) = listen(Arc::clone(&inner), rest_behind, Side::Rest);
        let (grpc, grpc_task) = listen(Arc::clone(&inner), grpc_behind, Side::Grpc);
        Self {
            rest_url: format!("http://{rest}{path}"),
            grpc_url: format!("http://{grpc}"),
            inner,
            tasks: vec![rest_task, grpc_task],
        }
    }

    /// Adds a fault.
    pub fn arm(&self, rule: Rule) {
        self.inner.rules.lock().unwrap().push(rule);
    }

    /// Forgets the faults that have not taken place, and gives them back.
    pub fn disarm(&self) -> Vec<Rule> {
        std::mem::take(&mut *self.inner.rules.lock().unwrap())
    }

    /// The calls since the last time this was asked.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.inner.calls.lock().unwrap())
    }

    /// How many faults have taken place.
    pub fn fired(&self) -> usize {
        *self.inner.fired.borrow()
    }

    /// Waits until more than `before` faults have taken place.
    pub async fn until_fired(&self, before: usize) {
        let mut fired = self.inner.fired.subscribe();
        let met = fired.wait_for(|count| *count > before);
        tokio::time::timeout(PATIENCE, met).await.expect("the fault never took place").unwrap();
    }

    /// Lets go of every call that is held.
    pub fn release(&self) {
        self.inner.released.send_modify(|count| *count += 1);
    }

    /// Waits until BigQuery has ended every call that it was ever given.
    pub async fn until_settled(&self) {
        let mut open = self.inner.open.subscribe();
        let settled = open.wait_for(|count| *count == 0);
        tokio::time::timeout(PATIENCE, settled).await.expect("a call never ended").unwrap();
    }
}

#[derive(Clone, Copy)]
enum Side {
    Rest,
    Grpc,
}

fn address(url: &str) -> (SocketAddr, String) {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
    (host.parse().unwrap(), path)
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    // Beside the placeholder, which never listens.
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

fn listen(inner: Arc<Inner>, behind: SocketAddr, side: Side) -> (SocketAddr, JoinHandle<()>) {
    // Keeps the port while it refuses connections: bound and not listening.
    let placeholder = bound("127.0.0.1:0".parse().unwrap());
    let own = placeholder.local_addr().unwrap();
    let mut listener = bound(own).listen(1024).unwrap();
    let task = tokio::spawn(async move {
        let _placeholder = placeholder;
        let mut refusals = inner.refusals.subscribe();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((client, _)) = accepted else { continue };
                    let _ = client.set_nodelay(true);
                    let inner = Arc::clone(&inner);
                    tokio::spawn(async move {
                        let mut refusals = inner.refusals.subscribe();
                        let relayed = async {
                            // Either side may go at any moment: that ends the connection and nothing else.
                            let _ = match side {
                                Side::Rest => rest(&inner, client, behind).await,
                                Side::Grpc => grpc(&inner, client, behind).await,
                            };
                        };
                        tokio::select! { () = relayed => {}, _ = refusals.changed() => {} }
                    });
                }
                _ = refusals.changed() => {
                    drop(listener);
                    tokio::time::sleep(REFUSAL).await;
                    listener = bound(own).listen(1024).unwrap();
                }
            }
        }
    });
    (own, task)
}

// REST

async fn rest(inner: &Arc<Inner>, mut client: TcpStream, behind: SocketAddr) -> std::io::Result<()> {
    let mut read = Vec::new();
    loop {
        let Some(request) = message(&mut client, &mut read).await? else { return Ok(()) };
        let fault = inner.decide(rest_call(&request));
        match fault {
            Some(Fault::Refused) => {
                inner.refuse();
                return Ok(());
            }
            Some(Fault::Closed) => return Ok(()),
            Some(Fault::Silent) => pending::<()>().await,
            Some(Fault::Status(status, reason)) => {
                client.write_all(&status_answer(status, reason)).await?;
                continue;
            }
            Some(Fault::Page(status)) => {
                client.write_all(&page(status)).await?;
                continue;
            }
            Some(Fault::Slow) => tokio::time::sleep(SLOW).await,
            _ => {}
        }
        // What is on its way to BigQuery arrives, whether or not the function still lives.
        let open = Open::new(inner);
        let inner_of_call = Arc::clone(inner);
        let answering = tokio::spawn(async move {
            if let Some(answer) = inner_of_call.of_ended_job(&request, fault) {
                return Ok(Some(answer));
            }
            if fault == Some(Fault::Held) {
                inner_of_call.until_released().await;
            }
            // A connection for each call: the embedded BigQuery closes idle ones.
            let mut server = TcpStream::connect(behind).await?;
            server.write_all(&request).await?;
            let answer = message(&mut server, &mut Vec::new()).await;
            drop(open);
            answer
        });
        let Some(answer) = answering.await?? else { return Ok(()) };
        match fault {
            Some(Fault::AnswerLost) => return Ok(()),
            Some(Fault::AnswerCut) => {
                // In the middle of its body, where it has one.
                let body = find(&answer, b"\r\n\r\n").map_or(0, |end| end + 4);
                let half = if body < answer.len() { (body + answer.len()) / 2 } else { answer.len() / 2 };
                client.write_all(&answer[..half]).await?;
                client.shutdown().await?;
                return Ok(());
            }
            Some(Fault::SilentAfter) => pending::<()>().await,
            Some(Fault::StatusAfter(status, reason)) => client.write_all(&status_answer(status, reason)).await?,
            Some(Fault::PageAfter(status)) => client.write_all(&page(status)).await?,
            Some(Fault::HeldAfter) => {
                inner.until_released().await;
                client.write_all(&answer).await?;
            }
            _ => client.write_all(&answer).await?,
        }
    }
}

fn status_answer(status: u16, reason: &str) -> Vec<u8> {
    let error = json!({"code": status, "message": "injected fault", "errors": [{"reason": reason, "message": "injected fault"}]});
    http(status, "application/json", &json!({"error": error}).to_string())
}

fn page(status: u16) -> Vec<u8> {
    http(status, "text/html", "<html><title>Bad Gateway</title></html>")
}

pub fn http(status: u16, content_type: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} -\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// One whole message, head and body; None where the other side has ended. What was read beyond it stays in `read`.
pub async fn message(from: &mut TcpStream, read: &mut Vec<u8>) -> std::io::Result<Option<Vec<u8>>> {
    let mut length = None;
    loop {
        if length.is_none()
            && let Some(end) = find(read, b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
            assert!(!head.contains("transfer-encoding"), "a form of message that the relay does not read: {head}");
            let body = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            length = Some(end + 4 + body.map_or(0, |number| number.trim().parse::<usize>().unwrap()));
        }
        if let Some(length) = length
            && read.len() >= length
        {
            let rest = read.split_off(length);
            return Ok(Some(std::mem::replace(read, rest)));
        }
        if from.read_buf(read).await? == 0 {
            return Ok(None);
        }
    }
}

/// Its verb, its path below the project, and its body as JSON.
fn rest_parts(request: &[u8]) -> (String, Vec<String>, Value) {
    let end = find(request, b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&request[..end]);
    let mut words = head.lines().next().unwrap().split_whitespace();
    let (verb, target) = (words.next().unwrap(), words.next().unwrap());
    let path = target.split('?').next().unwrap();
    let below = path.split('/').skip_while(|part| *part != "projects").skip(2).map(str::to_owned).collect();
    (verb.to_owned(), below, serde_json::from_slice(&request[end + 4..]).unwrap_or_default())
}

fn rest_call(request: &[u8]) -> Call {
    let (verb, below, body) = rest_parts(request);
    let below: Vec<&str> = below.iter().map(String::as_str).collect();
    // `strait_merge_0123_0` and `strait_first_state_0123_0`.
    let of_job = |id: &str| {
        let name = id.rsplitn(3, '_').nth(2).unwrap_or(id);
        name.strip_prefix("strait_").unwrap_or(name).to_owned()
    };
    let (method, what) = match (verb.as_str(), below.as_slice()) {
        ("POST", ["jobs"]) => ("jobs.insert", of_job(body["jobReference"]["jobId"].as_str().unwrap_or(""))),
        ("GET", ["jobs", id]) => ("jobs.get", of_job(id)),
        ("POST", ["jobs", id, "cancel"]) => ("jobs.cancel", of_job(id)),
        ("GET", ["queries", id]) => ("jobs.getQueryResults", of_job(id)),
        ("POST", ["datasets"]) => ("datasets.insert", String::new()),
        ("POST", ["datasets", _, "tables"]) => ("tables.insert", String::new()),
        ("GET", ["datasets", _, "tables", _]) => ("tables.get", String::new()),
        ("DELETE", ["datasets", _, "tables", _]) => ("tables.delete", String::new()),
        ("PATCH" | "PUT", ["datasets", _, "tables", _]) => ("tables.update", String::new()),
        _ => ("other", format!("{verb} {}", below.join("/"))),
    };
    Call { method: method.to_owned(), what }
}

// gRPC

struct Frame {
    kind: u8,
    stream: u32,
    bytes: Vec<u8>,
}

async fn frame(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Frame> {
    let mut bytes = vec![0; 9];
    from.read_exact(&mut bytes).await?;
    let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
    let stream = u32::from_be_bytes([bytes[5] & 0x7f, bytes[6], bytes[7], bytes[8]]);
    bytes.resize(9 + usize::try_from(length).unwrap(), 0);
    from.read_exact(&mut bytes[9..]).await?;
    Ok(Frame { kind: bytes[3], stream, bytes })
}

fn new_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The end of a stream with a gRPC status. No header goes into the peer's table, whose state only the two ends know.
fn end_of_stream(stream: u32, code: u8, has_begun: bool) -> Vec<u8> {
    let mut block = Vec::new();
    let mut literal = |name: &str, value: &str| {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.bytes());
        }
    };
    if !has_begun {
        literal(":status", "200");
        literal("content-type", "application/grpc");
    }
    literal("grpc-status", &code.to_string());
    literal("grpc-message", "injected fault");
    new_frame(HEADERS, END_STREAM_AND_HEADERS, stream, &block)
}

/// What the two directions of a connection know of its streams.
#[derive(Default)]
struct Streams {
    seen: HashSet<u32>,
    /// The server has sent its first headers.
    begun: HashSet<u32>,
    /// Ended by the relay.
    ended: HashSet<u32>,
    /// To happen when the server answers.
    after: HashMap<u32, Fault>,
}

async fn grpc(inner: &Inner, client: TcpStream, behind: SocketAddr) -> std::io::Result<()> {
    let server = TcpStream::connect(behind).await?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let streams = Mutex::new(Streams::default());
    let to_client = tokio::sync::Mutex::new(to_client);
    tokio::select! {
        ended = upwards(inner, &streams, from_client, to_server, &to_client) => ended?,
        ended = downwards(inner, &streams, from_server, &to_client) => ended?,
    }
    to_client.into_inner().shutdown().await
}

async fn upwards(
    inner: &Inner,
    streams: &Mutex<Streams>,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    back: &tokio::sync::Mutex<impl AsyncWrite + Unpin>,
) -> std::io::Result<()> {
    let mut preface = [0; PREFACE];
    from.read_exact(&mut preface).await?;
    to.write_all(&preface).await?;
    loop {
        let frame = frame(&mut from).await?;
        if frame.kind == DATA && streams.lock().unwrap().ended.contains(&frame.stream) {
            give_back(&frame, back).await?;
            continue;
        }
        // A stream's first data names the table: one call for each stream.
        if frame.kind == DATA && frame.bytes.len() > 9 && streams.lock().unwrap().seen.insert(frame.stream) {
            match inner.decide(append_call(&frame.bytes)) {
                Some(Fault::Refused) => {
                    inner.refuse();
                    return Ok(());
                }
                Some(Fault::Closed) => return Ok(()),
                Some(Fault::Silent) => pending::<()>().await,
                Some(Fault::Slow) => tokio::time::sleep(SLOW).await,
                Some(Fault::Held) => inner.until_released().await,
                Some(Fault::Grpc(code)) => {
                    let has_begun = {
                        let mut streams = streams.lock().unwrap();
                        streams.ended.insert(frame.stream);
                        streams.begun.contains(&frame.stream)
                    };
                    back.lock().await.write_all(&end_of_stream(frame.stream, code, has_begun)).await?;
                    to.write_all(&new_frame(RST_STREAM, 0, frame.stream, &CANCEL)).await?;
                    give_back(&frame, back).await?;
                    continue;
                }
                Some(fault) => {
                    streams.lock().unwrap().after.insert(frame.stream, fault);
                }
                None => {}
            }
        }
        to.write_all(&frame.bytes).await?;
    }
}

/// Data that goes no further must not count against what the client may send on its connection.
async fn give_back(frame: &Frame, back: &tokio::sync::Mutex<impl AsyncWrite + Unpin>) -> std::io::Result<()> {
    let length = u32::try_from(frame.bytes.len() - 9).unwrap();
    if length == 0 {
        return Ok(());
    }
    back.lock().await.write_all(&new_frame(WINDOW_UPDATE, 0, 0, &length.to_be_bytes())).await
}

async fn downwards(
    inner: &Inner,
    streams: &Mutex<Streams>,
    mut from: impl AsyncRead + Unpin,
    to: &tokio::sync::Mutex<impl AsyncWrite + Unpin>,
) -> std::io::Result<()> {
    loop {
        let frame = frame(&mut from).await?;
        let fault = {
            let mut streams = streams.lock().unwrap();
            if frame.kind == HEADERS {
                streams.begun.insert(frame.stream);
            }
            if frame.kind == DATA { streams.after.remove(&frame.stream) } else { None }
        };
        match fault {
            Some(Fault::AnswerLost) => return Ok(()),
            Some(Fault::AnswerCut) => {
                to.lock().await.write_all(&frame.bytes[..frame.bytes.len() / 2]).await?;
                return Ok(());
            }
            Some(Fault::SilentAfter) => pending::<()>().await,
            Some(Fault::HeldAfter) => inner.until_released().await,
            Some(Fault::GrpcAfter(code)) => {
                to.lock().await.write_all(&end_of_stream(frame.stream, code, true)).await?;
                return Ok(());
            }
            _ => {}
        }
        to.lock().await.write_all(&frame.bytes).await?;
    }
}

/// `projects/P/datasets/D/tables/T/streams/_default` stands first in the request.
fn append_call(data: &[u8]) -> Call {
    let text = String::from_utf8_lossy(data);
    let table = text.split_once("/tables/").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(table, _)| table);
    Call { method: "AppendRows".to_owned(), what: table.to_owned() }
}
