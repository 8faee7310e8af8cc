//! Lambda on this machine: a Runtime API server on a loopback port, and the built binary as its one client, started as Lambda
//! starts it. Like Lambda: one invocation at a time, a time limit that kills the process, a new process at the next invocation
//! after one has ended, payloads of at most 6 MB.
//!
//! It must never read what passes through: payloads and answers are bytes here.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Lambda's limit for a synchronous payload and for its answer, in bytes.
pub const PAYLOAD_LIMIT: usize = 6 * 1024 * 1024;

/// Lambda gives 10 s before the first `next`; a shared machine with a debug build gets more.
const INIT_TIMEOUT: Duration = Duration::from_secs(60);
/// A process that has said that it cannot start is given this long to end by itself.
const INIT_EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// After SIGKILL only the kernel is waited for.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// The pipes of a process that ended hold at most this much longer, unless a child of it keeps them open.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// What is kept of the log in memory, in lines; the file has all of it.
const LOG_LINES_KEPT: usize = 20_000;
const LOG_LINES_SHOWN: usize = 20;

/// How a function is run.
#[derive(Debug, Clone)]
pub struct FunctionSettings {
    /// The function's name, for its environment and for messages.
    pub name: String,
    /// The built binary.
    pub binary: PathBuf,
    /// Its environment, beside what Lambda itself sets. Nothing else of this process' environment but PATH, HOME and TMPDIR reaches
    /// the function.
    pub environment: BTreeMap<String, String>,
    /// Time limit of one invocation.
    pub timeout: Duration,
    /// AWS_LAMBDA_FUNCTION_MEMORY_SIZE, in MB. It is told to the function and not enforced.
    pub memory_mb: u32,
    /// Where its standard output and standard error go, beside memory. Appended to.
    pub log_file: Option<PathBuf>,
}

/// Why a function could not be invoked at all.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeApiError {
    /// The binary does not start.
    #[error("cannot start the function {function} ({})", .binary.display())]
    Start {
        /// The function.
        function: String,
        /// Its binary.
        binary: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The loopback server does not start.
    #[error("cannot listen on 127.0.0.1 for the function {function}")]
    Listen {
        /// The function.
        function: String,
        /// Why.
        source: std::io::Error,
    },
    /// The log file cannot be opened.
    #[error("cannot write the log file {}", .path.display())]
    LogFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Lambda would refuse the payload.
    #[error("the payload for {function} has {bytes} bytes; Lambda takes at most {PAYLOAD_LIMIT} (6 MB)")]
    PayloadTooLarge {
        /// The function.
        function: String,
        /// The payload's size.
        bytes: usize,
    },
}

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvocationOutcome {
    /// The function's answer.
    Response(Bytes),
    /// The function said that it failed, in its start or in the invocation.
    Error {
        /// Its stable name of the error.
        error_type: String,
        /// Its message.
        message: String,
    },
    /// The process ended without an answer.
    Exited {
        /// How; None when the system did not say.
        status: Option<ExitStatus>,
        /// Its last log lines.
        log_tail: String,
    },
    /// The time limit passed; the process was killed.
    TimedOut,
}

/// An invocation that took place.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// How it ended.
    pub outcome: InvocationOutcome,
    /// From the payload's being offered to the answer, in wall time; a cold start is not in it.
    pub duration: Duration,
    /// From the process' start to its readiness, if this invocation had to wait for that.
    pub init_duration: Option<Duration>,
}

/// A built function under a Lambda Runtime API.
#[derive(Debug)]
pub struct Function {
    settings: FunctionSettings,
    // Held for the whole of an invocation: Lambda gives one at a time to one environment.
    turn: tokio::sync::Mutex<()>,
    process: Mutex<Option<Arc<Process>>>,
    log: Arc<Log>,
    peak_memory: AtomicU64,
    starts: AtomicU64,
    requests: AtomicU64,
}

impl Function {
    /// Starts the function's process.
    ///
    /// # Errors
    /// [`RuntimeApiError`] when there is nothing to start. A process that starts and fails is an outcome of the next invocation.
    pub async fn start(settings: FunctionSettings) -> Result<Self, RuntimeApiError> {
        let log = Arc::new(Log::open(settings.log_file.as_deref())?);
        let function = Self {
            settings,
            turn: tokio::sync::Mutex::new(()),
            process: Mutex::new(None),
            log,
            peak_memory: AtomicU64::new(0),
            starts: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        };
        function.spawn().await?;
        Ok(function)
    }

    /// Hands the payload to the function and waits for how it ends. A process that has ended before is started anew. Calls that
    /// overlap wait for each other.
    ///
    /// # Errors
    /// [`RuntimeApiError`] when the invocation could not take place.
    pub async fn invoke(&self, payload: impl Into<Bytes>) -> Result<Invocation, RuntimeApiError> {
        let payload: Bytes = payload.into();
        if payload.len() > PAYLOAD_LIMIT {
            return Err(RuntimeApiError::PayloadTooLarge {
                function: self.settings.name.clone(),
                bytes: payload.len(),
            });
        }
        let _turn = self.turn.lock().await;
        let alive = held(&self.process).clone().filter(|process| !process.has_ended());
        let process = match alive {
            Some(process) => process,
            None => self.spawn().await?,
        };
        let mut events = process.events.lock().await;

        let init = self.wait_until_ready(&process, &mut events).await;
        let (init_duration, failure) = match init {
            Ok(duration) => (duration, None),
            Err(outcome) => (None, Some(outcome)),
        };
        let started = Instant::now();
        let outcome = match failure {
            Some(outcome) => outcome,
            None => self.run(&process, &mut events, payload).await,
        };
        let duration = started.elapsed();
        self.note_memory(&process);
        if matches!(outcome, InvocationOutcome::TimedOut) {
            process.kill().await;
        }
        Ok(Invocation { outcome, duration, init_duration })
    }

    /// Waits until the process asks for its first invocation, if it has not yet.
    ///
    /// # Errors
    /// How its start failed. The next invocation starts another process.
    pub async fn until_ready(&self) -> Result<(), InvocationOutcome> {
        let _turn = self.turn.lock().await;
        let process = held(&self.process).clone();
        let Some(process) = process else {
            return Ok(());
        };
        let mut events = process.events.lock().await;
        self.wait_until_ready(&process, &mut events).await.map(drop)
    }

    /// Kills the process now (SIGKILL), whatever it is doing. An invocation in progress ends as [`InvocationOutcome::Exited`]; the
    /// next one starts a new process.
    pub async fn kill(&self) {
        let process = held(&self.process).clone();
        if let Some(process) = process {
            self.note_memory(&process);
            process.kill().await;
        }
    }

    /// The function's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Everything the function wrote to standard output and standard error, up to the last 20,000 lines.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// The most memory that any of its processes has held so far (VmHWM), in bytes. None where /proc does not say.
    #[must_use]
    pub fn peak_memory(&self) -> Option<u64> {
        match self.peak_memory.load(Ordering::Relaxed) {
            0 => None,
            bytes => Some(bytes),
        }
    }

    /// The id of its process, for whoever measures it. None once that has ended.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        held(&self.process).as_ref().filter(|process| !process.has_ended()).and_then(|process| process.id)
    }

    /// How many processes were started so far.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    async fn spawn(&self) -> Result<Arc<Process>, RuntimeApiError> {
        let process = Arc::new(Process::start(&self.settings, Arc::clone(&self.log)).await?);
        self.starts.fetch_add(1, Ordering::Relaxed);
        *held(&self.process) = Some(Arc::clone(&process));
        Ok(process)
    }

    /// How long the process took to ask for its first invocation, if it was not ready yet.
    async fn wait_until_ready(
        &self,
        process: &Process,
        events: &mut mpsc::UnboundedReceiver<Event>,
    ) -> Result<Option<Duration>, InvocationOutcome> {
        if process.was_ready.load(Ordering::Relaxed) != 0 {
            return Ok(None);
        }
        let ready = async {
            while let Some(event) = events.recv().await {
                match event {
                    Event::Next => return Some(Ok(())),
                    Event::InitError(error) => return Some(Err(error.into_outcome())),
                    Event::Response { .. } | Event::Error { .. } => {}
                }
            }
            None
        };
        let ended = tokio::select! {
            biased;
            answer = ready => match answer {
                Some(Ok(())) => {
                    process.was_ready.store(1, Ordering::Relaxed);
                    return Ok(Some(process.started.elapsed()));
                }
                Some(Err(outcome)) => {
                    // It has said why and is on its way out; what it still writes is part of its log.
                    if tokio::time::timeout(INIT_EXIT_TIMEOUT, process.ended()).await.is_err() {
                        process.kill().await;
                    }
                    process.drained().await;
                    return Err(outcome);
                }
                None => process.ended().await,
            },
            status = process.ended() => status,
            () = tokio::time::sleep(INIT_TIMEOUT) => {
                process.kill().await;
                return Err(InvocationOutcome::Error {
                    error_type: "Sandbox.InitTimeout".to_owned(),
                    message: format!("the process did not ask for an invocation in {} s", INIT_TIMEOUT.as_secs()),
                });
            }
        };
        Err(self.exited(process, ended).await)
    }

    async fn run(
        &self,
        process: &Process,
        events: &mut mpsc::UnboundedReceiver<Event>,
        payload: Bytes,
    ) -> InvocationOutcome {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let id = format!("00000000-0000-4000-8000-{number:012x}");
        let offer = Offer {
            id: id.clone(),
            payload,
            timeout: self.settings.timeout,
            function_arn: format!("arn:aws:lambda:us-east-1:000000000000:function:{}", self.settings.name),
        };
        // A closed channel means that the server has gone, which the select below sees as the process' end.
        let _ = process.offers.send(offer);
        let answered = async {
            while let Some(event) = events.recv().await {
                match event {
                    Event::Response { id: of, body } if of == id => {
                        return Some(InvocationOutcome::Response(body));
                    }
                    Event::Error { id: of, error } if of == id => {
                        return Some(error.into_outcome());
                    }
                    // An answer to an invocation that is over; Lambda ignores it as well.
                    _ => {}
                }
            }
            None
        };
        let ended = tokio::select! {
            // An answer that was sent counts, even if the process ended right after it.
            biased;
            answer = answered => match answer {
                Some(outcome) => return outcome,
                None => process.ended().await,
            },
            status = process.ended() => status,
            () = tokio::time::sleep(self.settings.timeout) => return InvocationOutcome::TimedOut,
        };
        self.exited(process, ended).await
    }

    async fn exited(&self, process: &Process, status: Option<ExitStatus>) -> InvocationOutcome {
        process.drained().await;
        InvocationOutcome::Exited { status, log_tail: self.log.tail(LOG_LINES_SHOWN) }
    }

    fn note_memory(&self, process: &Process) {
        if let Some(bytes) = process.id.and_then(peak_memory_of) {
            self.peak_memory.fetch_max(bytes, Ordering::Relaxed);
        }
    }
}

/// An invocation on its way to the process.
#[derive(Debug)]
struct Offer {
    id: String,
    payload: Bytes,
    timeout: Duration,
    function_arn: String,
}

/// What the process told the Runtime API.
#[derive(Debug)]
enum Event {
    Next,
    Response { id: String, body: Bytes },
    Error { id: String, error: ReportedError },
    InitError(ReportedError),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReportedError {
    #[serde(default)]
    error_type: String,
    #[serde(default)]
    error_message: String,
}

impl ReportedError {
    fn parse(body: &[u8], headers: &HeaderMap) -> Self {
        let mut error: Self = serde_json::from_slice(body).unwrap_or_default();
        if error.error_type.is_empty() {
            let header = headers.get("lambda-runtime-function-error-type").and_then(|value| value.to_str().ok());
            error.error_type = header.unwrap_or("Unhandled").to_owned();
        }
        error
    }

    fn into_outcome(self) -> InvocationOutcome {
        InvocationOutcome::Error { error_type: self.error_type, message: self.error_message }
    }
}

/// One process of the function, with a Runtime API of its own: what a killed one left behind can reach no later one.
#[derive(Debug)]
struct Process {
    id: Option<u32>,
    started: Instant,
    was_ready: AtomicU64,
    offers: mpsc::UnboundedSender<Offer>,
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<Event>>,
    kills: mpsc::UnboundedSender<()>,
    end: watch::Receiver<Option<Option<ExitStatus>>>,
    tasks: Vec<JoinHandle<()>>,
    open_pipes: watch::Receiver<usize>,
}

impl Process {
    async fn start(settings: &FunctionSettings, log: Arc<Log>) -> Result<Self, RuntimeApiError> {
        let listen_failed = |source| RuntimeApiError::Listen { function: settings.name.clone(), source };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(listen_failed)?;
        let address = listener.local_addr().map_err(listen_failed)?;
        let (offers, offered) = mpsc::unbounded_channel();
        let (told, events) = mpsc::unbounded_channel();
        let server = tokio::spawn(async move {
            // It ends only with its task.
            let _ = axum::serve(listener, routes(told, offered)).await;
        });

        let mut child = command(settings, &address.to_string()).spawn().map_err(|source| RuntimeApiError::Start {
            function: settings.name.clone(),
            binary: settings.binary.clone(),
            source,
        })?;
        let started = Instant::now();
        let id = child.id();
        let (pipes, open_pipes) = watch::channel(2);
        let mut tasks = vec![server];
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            tasks.push(tokio::spawn(collect(stdout, Arc::clone(&log), pipes.clone())));
            tasks.push(tokio::spawn(collect(stderr, log, pipes)));
        }
        let (kills, kill_requests) = mpsc::unbounded_channel();
        let (ended, end) = watch::channel(None);
        tasks.push(tokio::spawn(supervise(child, kill_requests, ended)));
        Ok(Self {
            id,
            started,
            was_ready: AtomicU64::new(0),
            offers,
            events: tokio::sync::Mutex::new(events),
            kills,
            end,
            tasks,
            open_pipes,
        })
    }

    fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Waits for the process' end.
    async fn ended(&self) -> Option<ExitStatus> {
        let mut end = self.end.clone();
        end.wait_for(Option::is_some).await.ok().and_then(|status| status.flatten())
    }

    async fn drained(&self) {
        let mut open = self.open_pipes.clone();
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, open.wait_for(|count| *count == 0)).await;
    }

    async fn kill(&self) {
        let _ = self.kills.send(());
        let _ = tokio::time::timeout(KILL_TIMEOUT, self.ended()).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The supervisor owns the child, which is killed when it is dropped.
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn command(settings: &FunctionSettings, runtime_api: &str) -> Command {
    let mut command = Command::new(&settings.binary);
    command.env_clear();
    for name in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("_HANDLER", "bootstrap")
        .env("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023")
        .env("AWS_LAMBDA_FUNCTION_NAME", &settings.name)
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", settings.memory_mb.to_string())
        .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", settings.name))
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "local")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("LANG", "en_US.UTF-8")
        .env("TZ", ":UTC")
        .envs(&settings.environment)
        .env("AWS_LAMBDA_RUNTIME_API", runtime_api)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn supervise(
    mut child: Child,
    mut kill_requests: mpsc::UnboundedReceiver<()>,
    ended: watch::Sender<Option<Option<ExitStatus>>>,
) {
    loop {
        tokio::select! {
            status = child.wait() => {
                let _ = ended.send(Some(status.ok()));
                return;
            }
            Some(()) = kill_requests.recv() => {
                // It fails only for a process that has ended, which the other branch sees.
                let _ = child.start_kill();
            }
        }
    }
}

async fn collect(pipe: impl AsyncRead + Unpin, log: Arc<Log>, open: watch::Sender<usize>) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while let Ok(1..) = reader.read_until(b'\n', &mut line).await {
        log.add(&line);
        line.clear();
    }
    open.send_modify(|count| *count = count.saturating_sub(1));
}

#[derive(Clone)]
struct Server {
    told: mpsc::UnboundedSender<Event>,
    offered: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Offer>>>,
}

fn routes(told: mpsc::UnboundedSender<Event>, offered: mpsc::UnboundedReceiver<Offer>) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
        .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
        .route("/2018-06-01/runtime/init/error", post(init_error))
        // The answer's size is judged by `response`, which can say so.
        .layer(DefaultBodyLimit::disable())
        .with_state(Server { told, offered: Arc::new(tokio::sync::Mutex::new(offered)) })
}

async fn next(State(server): State<Server>) -> Response {
    let _ = server.told.send(Event::Next);
    let Some(offer) = server.offered.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let deadline = now.saturating_add(offer.timeout).as_millis();
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", offer.id),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", offer.function_arn),
        ("lambda-runtime-trace-id", "Root=1-00000000-000000000000000000000000;Sampled=0".to_owned()),
    ];
    (headers, offer.payload).into_response()
}

async fn response(State(server): State<Server>, Path(id): Path<String>, body: Bytes) -> StatusCode {
    if body.len() > PAYLOAD_LIMIT {
        let error = ReportedError {
            error_type: "Function.ResponseSizeTooLarge".to_owned(),
            error_message: format!("the answer has {} bytes; Lambda takes at most {PAYLOAD_LIMIT}", body.len()),
        };
        let _ = server.told.send(Event::Error { id, error });
        return StatusCode::PAYLOAD_TOO_LARGE;
    }
    let _ = server.told.send(Event::Response { id, body });
    StatusCode::ACCEPTED
}

async fn error(State(server): State<Server>, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let error = ReportedError::parse(&body, &headers);
    let _ = server.told.send(Event::Error { id, error });
    StatusCode::ACCEPTED
}

async fn init_error(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let _ = server.told.send(Event::InitError(ReportedError::parse(&body, &headers)));
    StatusCode::ACCEPTED
}

/// What the function's processes wrote.
#[derive(Debug)]
struct Log {
    lines: Mutex<VecDeque<String>>,
    file: Option<Mutex<File>>,
}

impl Log {
    fn open(path: Option<&std::path::Path>) -> Result<Self, RuntimeApiError> {
        let file = path
            .map(|path| {
                File::options()
                    .create(true)
                    .append(true)
                    .open(path)
                    .map_err(|source| RuntimeApiError::LogFile { path: path.to_path_buf(), source })
            })
            .transpose()?;
        Ok(Self { lines: Mutex::new(VecDeque::new()), file: file.map(Mutex::new) })
    }

    fn add(&self, line: &[u8]) {
        if let Some(file) = &self.file {
            // A full disk must not stop the function; the lines are in memory as well.
            let _ = held(file).write_all(line);
        }
        let mut lines = held(&self.lines);
        if lines.len() == LOG_LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(String::from_utf8_lossy(line).trim_end().to_owned());
    }

    fn text(&self) -> String {
        self.tail(LOG_LINES_KEPT)
    }

    fn tail(&self, count: usize) -> String {
        let lines = held(&self.lines);
        let shown: Vec<&str> = lines.iter().skip(lines.len().saturating_sub(count)).map(String::as_str).collect();
        shown.join("\n")
    }
}

/// What a panicking holder left is still whole: each of these locks guards single steps.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most memory the process has held so far, in bytes.
fn peak_memory_of(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A runtime in a few lines: what it does with an invocation is the payload's word.
    const FAKE_FUNCTION: &str = r#"#!/usr/bin/env python3
import json, os, sys, time, urllib.error, urllib.request
base = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/"
def post(path, body, headers={}):
    try:
        return urllib.request.urlopen(urllib.request.Request(base + path, data=body, headers=headers)).status
    except urllib.error.HTTPError as error:
        return error.code
if os.environ.get("FAIL_INIT"):
    post("init/error", json.dumps({"errorType": "Config", "errorMessage": "no project"}).encode())
    print("on its way out", flush=True)
    sys.exit(1)
while True:
    event = urllib.request.urlopen(base + "invocation/next")
    payload, id = event.read(), event.headers["Lambda-Runtime-Aws-Request-Id"]
    left = int(event.headers["Lambda-Runtime-Deadline-Ms"]) - time.time() * 1000
    word = payload[:20].decode()
    if word == "error":
        post(f"invocation/{id}/error", json.dumps({"errorType": "Oops", "errorMessage": "it failed"}).encode())
    elif word == "exit":
        print("last words", flush=True)
        os._exit(7)
    elif word == "hang":
        print("hanging", flush=True)
        time.sleep(600)
    elif word == "environment":
        post(f"invocation/{id}/response", json.dumps(dict(os.environ, left=left, pid=os.getpid())).encode())
    elif word == "large":
        print("refused with", post(f"invocation/{id}/response", b"x" * (6 * 1024 * 1024 + 1)), flush=True)
    else:
        post(f"invocation/{id}/response", payload)
"#;

    struct Fixture {
        function: Function,
        folder: tempfile::TempDir,
    }

    async fn fixture(timeout: Duration, environment: &[(&str, &str)]) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("function");
        std::fs::write(&binary, FAKE_FUNCTION).unwrap();
        std::fs::set_permissions(&binary, PermissionsExt::from_mode(0o755)).unwrap();
        let settings = FunctionSettings {
            name: "fake".to_owned(),
            binary,
            environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            timeout,
            memory_mb: 256,
            log_file: Some(folder.path().join("log")),
        };
        let function = Function::start(settings).await.unwrap();
        Fixture { function, folder }
    }

    /// Long enough never to pass in a test that does not mean it to.
    const LONG: Duration = Duration::from_secs(300);

    async fn outcome(function: &Function, payload: &'static str) -> InvocationOutcome {
        function.invoke(payload).await.unwrap().outcome
    }

    fn echoed(payload: &'static str) -> InvocationOutcome {
        InvocationOutcome::Response(Bytes::from_static(payload.as_bytes()))
    }

    #[tokio::test]
    async fn answers_and_errors_of_one_process_come_back_in_turn() {
        let Fixture { function, folder: _folder } = fixture(LONG, &[]).await;
        let first = function.invoke("one").await.unwrap();
        assert_eq!(first.outcome, echoed("one"));
        assert!(first.init_duration.is_some());
        assert_eq!(
            outcome(&function, "error").await,
            InvocationOutcome::Error { error_type: "Oops".to_owned(), message: "it failed".to_owned() }
        );
        let last = function.invoke("two").await.unwrap();
        assert_eq!(last.outcome, echoed("two"));
        assert_eq!(last.init_duration, None);
        assert_eq!(function.starts(), 1);
        if cfg!(target_os = "linux") {
            assert!(function.peak_memory().unwrap() > 1024 * 1024);
        }
    }

    #[tokio::test]
    async fn a_process_that_ends_is_started_again() {
        let Fixture { function, folder } = fixture(LONG, &[]).await;
        let InvocationOutcome::Exited { status, log_tail } = outcome(&function, "exit").await else {
            panic!("the process ended");
        };
        assert_eq!(status.unwrap().code(), Some(7));
        assert_eq!(log_tail, "last words");
        assert_eq!(outcome(&function, "again").await, echoed("again"));
        assert_eq!(function.starts(), 2);
        assert_eq!(std::fs::read_to_string(folder.path().join("log")).unwrap(), "last words\n");
    }

    #[tokio::test]
    async fn the_time_limit_kills_the_process_and_not_the_function() {
        let Fixture { function, folder: _folder } = fixture(Duration::from_secs(2), &[]).await;
        assert_eq!(outcome(&function, "hang").await, InvocationOutcome::TimedOut);
        assert_eq!(outcome(&function, "again").await, echoed("again"));
        assert_eq!(function.starts(), 2);
    }

    #[tokio::test]
    async fn a_kill_ends_the_invocation_in_progress() {
        let Fixture { function, folder: _folder } = fixture(LONG, &[]).await;
        let kill_once_it_hangs = async {
            while !function.log().contains("hanging") {
                tokio::task::yield_now().await;
            }
            function.kill().await;
        };
        let (invocation, ()) = tokio::join!(outcome(&function, "hang"), kill_once_it_hangs);
        assert!(matches!(invocation, InvocationOutcome::Exited { .. }), "{invocation:?}");
        assert_eq!(outcome(&function, "again").await, echoed("again"));
    }

    #[tokio::test]
    async fn the_environment_is_lambdas_and_nothing_else() {
        let Fixture { function, folder: _folder } = fixture(LONG, &[("STRAIT_PROJECT", "p")]).await;
        let InvocationOutcome::Response(body) = outcome(&function, "environment").await else {
            panic!("an answer");
        };
        let environment: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&body).unwrap();
        assert_eq!(environment.get("STRAIT_PROJECT").unwrap(), "p");
        assert_eq!(environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").unwrap(), "256");
        let left = environment.get("left").unwrap().as_f64().unwrap();
        assert!(left > 0.0 && left <= 300_000.0, "{left}");
        // Cargo sets this one for every test.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        assert!(!environment.contains_key("CARGO_MANIFEST_DIR"));
    }

    #[tokio::test]
    async fn a_start_that_fails_is_the_invocations_error() {
        let Fixture { function, folder: _folder } = fixture(LONG, &[("FAIL_INIT", "1")]).await;
        let failed = InvocationOutcome::Error { error_type: "Config".to_owned(), message: "no project".to_owned() };
        assert_eq!(function.until_ready().await, Err(failed.clone()));
        for _ in 0..2 {
            assert_eq!(outcome(&function, "one").await, failed);
        }
        assert_eq!(function.starts(), 3);
        assert_eq!(function.log(), ["on its way out"; 3].join("\n"), "what it wrote after it had told");
    }

    #[tokio::test]
    async fn a_start_is_waited_for_once() {
        let Fixture { function, folder: _folder } = fixture(LONG, &[]).await;
        function.until_ready().await.unwrap();
        function.until_ready().await.unwrap();
        assert_eq!(function.invoke("one").await.unwrap().outcome, echoed("one"));
        assert_eq!(function.starts(), 1);
    }

    #[tokio::test]
    async fn six_megabytes_are_the_limit_both_ways() {
        let Fixture { function, folder: _folder } = fixture(LONG, &[]).await;
        let refused = function.invoke(vec![b' '; PAYLOAD_LIMIT + 1]).await;
        assert!(matches!(refused, Err(RuntimeApiError::PayloadTooLarge { .. })));
        let largest = function.invoke(vec![b'x'; PAYLOAD_LIMIT]).await.unwrap();
        assert_eq!(largest.outcome, InvocationOutcome::Response(vec![b'x'; PAYLOAD_LIMIT].into()));
        let InvocationOutcome::Error { error_type, .. } = outcome(&function, "large").await else {
            panic!("an error");
        };
        assert_eq!(error_type, "Function.ResponseSizeTooLarge");
    }

    #[tokio::test]
    async fn a_binary_that_is_missing_is_named() {
        let settings = FunctionSettings {
            name: "ingest".to_owned(),
            binary: "/nowhere/ingest".into(),
            environment: BTreeMap::new(),
            timeout: LONG,
            memory_mb: 256,
            log_file: None,
        };
        let error = Function::start(settings).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/ingest"), "{error}");
    }

    #[tokio::test]
    async fn dropping_the_function_ends_its_process() {
        let Fixture { function, folder: _folder } = fixture(LONG, &[]).await;
        let InvocationOutcome::Response(body) = outcome(&function, "environment").await else {
            panic!("an answer");
        };
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let running = format!("/proc/{}/fd", body.get("pid").unwrap());
        drop(function);
        // A process that has ended has no readable fd folder, even before it is reaped. The test run's own limit ends a failure.
        while std::fs::read_dir(&running).is_ok_and(|mut entries| entries.next().is_some()) {
            tokio::task::yield_now().await;
        }
    }
}
