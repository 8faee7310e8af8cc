//! Runs a function on Lambda: the event's bytes as they came, a deadline to work by, and typed errors.
//! It must never let a panic end the process or show its text: a panic's text can hold a row value.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::FutureExt;
use lambda_runtime::{Context, Diagnostic, LambdaEvent, LambdaInvocation, Runtime, service_fn};
use serde::Serialize;
use serde::de::IgnoredAny;
use tokio::time::Instant;
use tower::util::MapRequestLayer;

use crate::bigquery;
use crate::config::Config;
use crate::mask::masker::NoMaskKey;
use crate::secrets::SecretError;
use crate::telemetry;

/// Kept back from Lambda's own deadline: the answer has to be on its way before the function is stopped.
const ANSWER_TIME: Duration = Duration::from_millis(1500);

/// The Runtime API is on the same machine; and the process has to end whether it answers or not.
const INIT_ERROR_TIMEOUT: Duration = Duration::from_secs(1);

/// What is known of an invocation beside its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Lambda's id of it.
    pub request_id: String,
    /// When the work must be done; some time before Lambda stops the function.
    pub deadline: Instant,
    /// The function's name.
    pub function_name: String,
}

impl Invocation {
    fn from_context(context: &Context) -> Self {
        // Lambda's deadline is by the wall clock, timers are not.
        let remaining = context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
        Self {
            request_id: context.request_id.clone(),
            deadline: Instant::now() + remaining.saturating_sub(ANSWER_TIME),
            function_name: context.env_config.function_name.clone(),
        }
    }
}

/// An invocation that failed, as Lambda shows it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error_type}: {message}")]
pub struct InvocationError {
    error_type: &'static str,
    message: String,
}

impl InvocationError {
    /// `error_type` is stable; `message` says what happened, to which table, and what to do.
    #[must_use]
    pub fn new(error_type: &'static str, message: impl Into<String>) -> Self {
        Self { error_type, message: message.into() }
    }

    /// The stable name.
    #[must_use]
    pub const fn error_type(&self) -> &'static str {
        self.error_type
    }

    /// What happened, to which table, what to do.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl InvocationError {
    /// What happened to a call to BigQuery, with its causes and what to do, in one line.
    #[must_use]
    pub fn describe(error: &bigquery::Error) -> String {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(error);
        let mut advice = error.kind().advice();
        while let Some(source) = cause {
            message.push_str("; caused by: ");
            message.push_str(&source.to_string());
            if let Some(inner) = source.downcast_ref::<bigquery::Error>()
                && advice.is_empty()
            {
                advice = inner.kind().advice();
            }
            cause = source.source();
        }
        if !advice.is_empty() {
            message.push_str(". What to do: ");
            message.push_str(advice);
        }
        message
    }
}

impl From<bigquery::Error> for InvocationError {
    fn from(error: bigquery::Error) -> Self {
        Self::new(error.error_type(), Self::describe(&error))
    }
}

impl From<SecretError> for InvocationError {
    fn from(error: SecretError) -> Self {
        Self::new(error.error_type(), error.to_string())
    }
}

impl From<NoMaskKey> for InvocationError {
    fn from(error: NoMaskKey) -> Self {
        Self::new("Configuration", error.to_string())
    }
}

impl From<InvocationError> for Diagnostic {
    fn from(error: InvocationError) -> Self {
        Self { error_type: error.error_type.to_owned(), error_message: error.message }
    }
}

/// Makes ring the process's one TLS provider. First in `main`: whichever TLS user comes first would choose another.
pub fn install_tls() {
    // Fails only when one is installed already, which the crate graph allows to be ring alone.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The configuration from the process's environment.
///
/// # Errors
/// `Configuration`, with every problem at once, each with its variable's name; never a value that could be a secret.
pub fn read_config() -> Result<Config, InvocationError> {
    // A variable that is not UTF-8 cannot be one of ours: ours are read as text, and so reported where they are missing.
    let vars = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
    Config::from_vars(vars).map_err(|error| {
        let problems = error.problems.iter();
        let problems: Vec<String> = problems.map(|problem| format!("{}: {}", problem.name, problem.text)).collect();
        InvocationError::new("Configuration", problems.join("; "))
    })
}

/// Says what keeps the function from starting: in its log, and to Lambda, which gives it as the answer to whoever invokes the function. The
/// caller then exits with a failure, before it asks Lambda for the first invocation.
pub async fn report_startup_error(error: &InvocationError) {
    tracing::error!(error_type = error.error_type, "the function cannot start: {}", error.message);
    // Where there is no Lambda, the log is all.
    let Ok(runtime_api) = std::env::var("AWS_LAMBDA_RUNTIME_API") else {
        return;
    };
    if let Err(cause) = post_init_error(&runtime_api, error).await {
        tracing::warn!(reason = %cause.without_url(), "Lambda could not be told why the function does not start");
    }
}

/// Tells Lambda's Runtime API at `runtime_api` (`host:port`) that the initialisation failed
/// (<https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-initerror>). lambda_runtime makes this call for SnapStart's
/// hooks alone, and only with a Rust type's name for the error's type.
async fn post_init_error(runtime_api: &str, error: &InvocationError) -> Result<(), reqwest::Error> {
    // The Runtime API is on the same machine, never behind a proxy.
    let client = reqwest::Client::builder().no_proxy().timeout(INIT_ERROR_TIMEOUT).build()?;
    client
        .post(format!("http://{runtime_api}/2018-06-01/runtime/init/error"))
        .header("Lambda-Runtime-Function-Error-Type", error.error_type)
        .json(&Diagnostic::from(error.clone()))
        .send()
        .await?
        .error_for_status()
        .map(drop)
}

/// Answers Lambda's invocations with `handler`, one at a time, until the process is stopped.
///
/// lambda_runtime deserialises an event before a handler sees it. Here its body is taken out first, so that the
/// handler decodes from the received bytes themselves; the runtime is left a `null`.
///
/// # Errors
/// When Lambda's runtime API cannot be talked to.
pub async fn run<H, F, R>(handler: H) -> Result<(), lambda_runtime::Error>
where
    H: Fn(Bytes, Invocation) -> F,
    F: Future<Output = Result<R, InvocationError>>,
    R: Serialize,
{
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a bug: the function panicked");
    }));
    // One slot is enough: the runtime hands over one invocation at a time.
    let slot: Arc<Mutex<Bytes>> = Arc::default();
    let taken = Arc::clone(&slot);
    let take_body = MapRequestLayer::new(move |mut invocation: LambdaInvocation| {
        let body = std::mem::replace(&mut invocation.body, Bytes::from_static(b"null"));
        *taken.lock().unwrap_or_else(PoisonError::into_inner) = body;
        invocation
    });
    let handler = &handler;
    let service = service_fn(move |event: LambdaEvent<IgnoredAny>| {
        let body = std::mem::take(&mut *slot.lock().unwrap_or_else(PoisonError::into_inner));
        let invocation = Invocation::from_context(&event.context);
        async move {
            telemetry::begin_invocation(&invocation.request_id);
            let answer = without_panic(handler, body, invocation).await;
            answer.map_err(|error| {
                tracing::error!(error_type = error.error_type, "{}", error.message);
                Diagnostic::from(error)
            })
        }
    });
    Runtime::new(service).layer(take_body).run().await
}

/// Calls the handler; a panic becomes an error of this invocation.
async fn without_panic<H, F, R>(handler: &H, body: Bytes, invocation: Invocation) -> Result<R, InvocationError>
where
    H: Fn(Bytes, Invocation) -> F,
    F: Future<Output = Result<R, InvocationError>>,
{
    // The call itself stands inside the future: it may panic as well.
    let answer = AssertUnwindSafe(async { handler(body, invocation).await }).catch_unwind().await;
    answer.unwrap_or_else(|_| {
        Err(InvocationError::new(
            "Panic",
            "a bug in Strait: it panicked, and nothing of this invocation counts as done; the log line at level ERROR \
             names the place in the source. What to do: report it with that line",
        ))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // A test may fail by panicking, and this one has to.
mod tests {
    use super::*;
    use crate::bigquery::{Error, ErrorKind};

    fn invocation() -> Invocation {
        Invocation { request_id: "1".into(), deadline: Instant::now(), function_name: "ingest".into() }
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_the_invocation_without_its_text() {
        let handler = |_: Bytes, _: Invocation| async {
            if invocation().function_name == "ingest" {
                panic!("card number 4111");
            }
            Ok::<(), InvocationError>(())
        };
        let error = without_panic(&handler, Bytes::new(), invocation()).await.unwrap_err();
        assert_eq!(error.error_type(), "Panic");
        assert!(!error.message().contains("4111"));
    }

    #[tokio::test]
    async fn lambda_is_told_why_a_function_does_not_start() {
        use axum::body::Bytes;
        use axum::http::{HeaderMap, StatusCode, Uri};

        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let runtime_api = listener.local_addr().unwrap().to_string();
        let seen = Arc::clone(&told);
        let router = axum::Router::new().fallback(async move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let error_type = headers.get("lambda-runtime-function-error-type").unwrap().to_str().unwrap().to_owned();
            seen.lock().unwrap().extend([uri.path().to_owned(), error_type, String::from_utf8(body.into()).unwrap()]);
            StatusCode::ACCEPTED
        });
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        install_tls();
        let error = InvocationError::new("Configuration", "STRAIT_PROJECT: missing");
        post_init_error(&runtime_api, &error).await.unwrap();
        server.abort();
        let expected = [
            "/2018-06-01/runtime/init/error",
            "Configuration",
            r#"{"errorType":"Configuration","errorMessage":"STRAIT_PROJECT: missing"}"#,
        ];
        assert_eq!(*told.lock().unwrap(), expected);
        // Nobody there: it is not waited for.
        assert!(post_init_error("127.0.0.1:9", &error).await.is_err());
    }

    #[test]
    fn the_deadline_leaves_time_for_the_answer() {
        let mut context = Context::default();
        let at = SystemTime::now() + Duration::from_secs(60);
        context.deadline = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis().try_into().unwrap();
        let remaining = Invocation::from_context(&context).deadline - Instant::now();
        assert!(remaining > Duration::from_secs(57) && remaining < Duration::from_secs(59), "{remaining:?}");
        context.deadline = 0;
        assert!(Invocation::from_context(&context).deadline <= Instant::now());
    }

    #[test]
    fn an_error_says_what_happened_to_which_table_and_what_to_do() {
        let error = Error::new(ErrorKind::PermissionDenied, "AppendRows", "cdc.log").past_deadline();
        let error = InvocationError::from(error);
        assert_eq!(error.error_type(), "BigQueryDeadlinePassed");
        for part in ["cdc.log", "denied permission", "What to do: grant"] {
            assert!(error.message().contains(part), "{part} in {}", error.message());
        }
    }
}
