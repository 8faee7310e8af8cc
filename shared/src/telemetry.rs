//! What a person and an alarm see: JSON log lines, and metrics in CloudWatch's embedded format.
//! Identifiers, counts, bytes and durations only; a row value, a key or a secret must never get here.

use std::io::Write;

use serde_json::{Map, Value, json};
use tracing_subscriber::EnvFilter;

/// Strait's own lines from INFO on, other people's from WARN on; `RUST_LOG` overrides it. The runtime's line about a
/// failed invocation is left out: [`crate::lambda`] has one with the error's type and the request's id.
const DEFAULT_FILTER: &str = "warn,strait=info,ingest=info,merge=info,lambda_runtime::layers::panic=off";
/// The namespace of every metric.
const NAMESPACE: &str = "Strait";

/// Starts logging: one JSON object a line on standard output. A second call changes nothing.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    // Fails only when a subscriber is there already, in tests: theirs stays.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .try_init();
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
}

impl Unit {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Bytes => "Bytes",
            Self::Milliseconds => "Milliseconds",
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

/// Writes a metrics line to standard output, from where Lambda takes it to CloudWatch.
pub fn emit(line: &str) {
    let mut out = std::io::stdout().lock();
    // Standard output that is gone is no reason to fail an invocation whose rows are written.
    let _ = writeln!(out, "{line}");
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
}
