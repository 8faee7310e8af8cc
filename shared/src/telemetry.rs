//! What a person and an alarm see: JSON log lines, and metrics in CloudWatch's embedded format.
//! Identifiers, counts, bytes and durations only; a row value, a key or a secret must never get here.

use std::fmt;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{self, Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Strait's own lines from INFO on, other people's from WARN on; `RUST_LOG` overrides it, as a list of targets with their levels. The runtime's line about a
/// failed invocation is left out: [`crate::lambda`] has one with the error's type and the request's id.
const DEFAULT_FILTER: &str = "warn,strait=info,ingest=info,merge=info,lambda_runtime::layers::panic=off";
/// The namespace of every metric.
const NAMESPACE: &str = "Strait";

/// Lambda's id of the invocation that the process is at; empty before the first. Lambda hands a process one at a time, so that lines
/// of background work (a connection that closes) belong to it as well.
static REQUEST_ID: Mutex<String> = Mutex::new(String::new());

/// From now on every line carries this request id.
pub fn begin_invocation(request_id: &str) {
    let mut current = REQUEST_ID.lock().unwrap_or_else(PoisonError::into_inner);
    request_id.clone_into(&mut current);
}

/// A line, which is a JSON object, with the invocation's request id as its first member.
fn with_request_id(line: &str) -> String {
    let request_id = REQUEST_ID.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match line.strip_prefix('{') {
        Some(members) if !request_id.is_empty() => format!("{{\"request_id\":{},{members}", json!(request_id)),
        _ => line.to_owned(),
    }
}

/// tracing's own JSON lines, with the request id.
struct InvocationFormat(Format<Json>);

impl<S, N> FormatEvent<S, N> for InvocationFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&with_request_id(&line))
    }
}

/// Starts logging: one JSON object a line on standard output. A second call changes nothing.
pub fn init() {
    let own = std::env::var("RUST_LOG").ok().and_then(|filter| filter.parse::<Targets>().ok());
    // A text that is none leaves ERROR alone; a test holds that this one is.
    let filter = own.or_else(|| DEFAULT_FILTER.parse().ok()).unwrap_or_default();
    let lines = format::format().json().flatten_event(true).with_current_span(false).with_span_list(false);
    let layer = tracing_subscriber::fmt::layer().fmt_fields(JsonFields::new()).event_format(InvocationFormat(lines));
    // Fails only when a subscriber is there already, in tests: theirs stays.
    let _ = tracing_subscriber::registry().with(layer).with(filter).try_init();
}

/// A metric's unit, by CloudWatch's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Milliseconds,
    /// Hundredths.
    Percent,
}

impl Unit {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Bytes => "Bytes",
            Self::Milliseconds => "Milliseconds",
            Self::Percent => "Percent",
        }
    }
}

/// One measured value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name in CloudWatch.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// The value.
    pub value: i64,
}

impl Metric {
    /// A metric.
    #[must_use]
    pub const fn new(name: &'static str, unit: Unit, value: i64) -> Self {
        Self { name, unit, value }
    }
}

/// One line of CloudWatch's embedded metric format
/// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>),
/// without its end of line. `dimensions` must be few and of few values: each combination is billed as a metric.
#[must_use]
pub fn metrics_line(dimensions: &[(&str, &str)], metrics: &[Metric], timestamp_ms: i64) -> String {
    let names: Vec<&str> = dimensions.iter().map(|(name, _)| *name).collect();
    let definitions: Vec<Value> =
        metrics.iter().map(|metric| json!({"Name": metric.name, "Unit": metric.unit.as_str()})).collect();
    let mut line = Map::new();
    line.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": timestamp_ms,
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [names], "Metrics": definitions}]
        }),
    );
    for (name, value) in dimensions {
        line.insert((*name).to_owned(), json!(value));
    }
    for metric in metrics {
        line.insert(metric.name.to_owned(), json!(metric.value));
    }
    Value::Object(line).to_string()
}

/// Writes a metrics line to standard output, from where Lambda takes it to CloudWatch. The request id is a property of it, no
/// dimension.
pub fn emit(line: &str) {
    let mut out = std::io::stdout().lock();
    // Standard output that is gone is no reason to fail an invocation whose rows are written.
    let _ = writeln!(out, "{}", with_request_id(line));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may fail by panicking.
mod tests {
    use super::*;

    #[test]
    fn every_declared_metric_and_dimension_has_its_value_on_the_same_line() {
        let line = metrics_line(
            &[("Function", "ingest")],
            &[Metric::new("Records", Unit::Count, 12), Metric::new("AppendLatency", Unit::Milliseconds, 34)],
            1_700_000_000_000,
        );
        assert!(!line.contains('\n'));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            line,
            json!({
                "_aws": {"Timestamp": 1_700_000_000_000_i64, "CloudWatchMetrics": [{
                    "Namespace": "Strait",
                    "Dimensions": [["Function"]],
                    "Metrics": [{"Name": "Records", "Unit": "Count"},
                                {"Name": "AppendLatency", "Unit": "Milliseconds"}]
                }]},
                "Function": "ingest", "Records": 12, "AppendLatency": 34
            })
        );
    }

    #[test]
    fn without_a_word_of_the_operators_strait_says_what_it_does_and_others_what_is_wrong() {
        use tracing::Level;
        let filter: Targets = DEFAULT_FILTER.parse().unwrap();
        assert!(filter.would_enable("strait::merge::run", &Level::INFO));
        assert!(!filter.would_enable("strait::merge::run", &Level::DEBUG));
        assert!(
            filter.would_enable("hyper::client", &Level::WARN) && !filter.would_enable("hyper::client", &Level::INFO)
        );
        assert!(!filter.would_enable("lambda_runtime::layers::panic", &Level::ERROR));
    }

    #[test]
    fn a_line_carries_the_request_id_of_its_invocation() {
        begin_invocation("first");
        begin_invocation("an \"odd\" id");
        let line: Value = serde_json::from_str(&with_request_id(r#"{"level":"WARN"}"#)).unwrap();
        assert_eq!(line, json!({"request_id": "an \"odd\" id", "level": "WARN"}));
    }
}
