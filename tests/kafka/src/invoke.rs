//! Lambda's Invoke API on a loopback port, in front of a built function under its Runtime API. A poller that is killed while it waits for
//! an answer leaves the invocation behind, which goes on as in Lambda.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use jiff::Timestamp;
use serde_json::json;
use strait_cli::pipeline::in_words;
use strait_cli::runtime_api::{InvocationOutcome, RuntimeApiError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Lambda's word for an answer that is an error of the function.
pub const FUNCTION_ERROR: &str = "x-amz-function-error";
/// The path of the one function.
const PATH: &str = "/2015-03-31/functions/ingest/invocations";

/// What carries an invocation out.
#[async_trait::async_trait]
pub trait Invocable: Send + Sync + 'static {
    /// Hands the payload to the function and waits for how it ends.
    ///
    /// # Errors
    /// When the invocation could not take place.
    async fn invoke(&self, payload: Bytes) -> Result<InvocationOutcome, RuntimeApiError>;
}

/// An invocation that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// When it began.
    pub began: Timestamp,
    /// When it had answered.
    pub ended: Timestamp,
}

/// The API; it ends with this value.
#[derive(Debug)]
pub struct InvokeApi {
    /// What a poller posts events to.
    pub url: String,
    answered: Arc<Mutex<Vec<Answered>>>,
    server: JoinHandle<()>,
}

impl InvokeApi {
    /// Listens.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(function: Arc<dyn Invocable>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}{PATH}", listener.local_addr()?);
        let answered = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared { function, answered: Arc::clone(&answered) };
        let router = Router::new().route(PATH, post(invoke)).layer(DefaultBodyLimit::disable()).with_state(shared);
        let server = tokio::spawn(async move {
            // It ends only with its task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url, answered, server })
    }

    /// Every invocation that succeeded so far.
    #[must_use]
    pub fn answered(&self) -> Vec<Answered> {
        self.answered.lock().map(|answered| answered.clone()).unwrap_or_default()
    }
}

impl Drop for InvokeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Clone)]
struct Shared {
    function: Arc<dyn Invocable>,
    answered: Arc<Mutex<Vec<Answered>>>,
}

async fn invoke(State(shared): State<Shared>, payload: Bytes) -> Response {
    // In a task of its own: that the caller has gone must not end what it began.
    let running = tokio::spawn(async move {
        let began = Timestamp::now();
        let outcome = shared.function.invoke(payload).await;
        if let (Ok(InvocationOutcome::Response(_)), Ok(mut answered)) = (&outcome, shared.answered.lock()) {
            answered.push(Answered { began, ended: Timestamp::now() });
        }
        outcome
    });
    match running.await {
        Ok(Ok(InvocationOutcome::Response(body))) => body.into_response(),
        Ok(Ok(InvocationOutcome::Error { error_type, message })) => failed(&error_type, &message),
        Ok(Ok(other)) => failed("Unhandled", &in_words(&other)),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the invocation panicked").into_response(),
    }
}

fn failed(error_type: &str, message: &str) -> Response {
    let body = json!({"errorType": error_type, "errorMessage": message}).to_string();
    ([(FUNCTION_ERROR, "Unhandled")], body).into_response()
}
