//! `strait demo`: the project's own history of a small shop through the built functions, redeliveries and merges in between
//! included, and at the end every final table beside what the source holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use strait::dms::{self, Kind};

use crate::accounting::{Fate, expected_accounting};
use crate::compare::{self, ExpectedTable, ExpectedTables};
use crate::embedded_bigquery::{QueryError, SetupStep};
use crate::equality;
use crate::local::{merge, tell_failures};
use crate::msk::{self, KafkaRecord, RecordTooLarge, Topic};
use crate::pipeline::{Pipeline, PipelineError, PipelineSettings};
use crate::report::{self, MergeTotals};
use crate::terminal::{Terminal, counted, grouped};

const LOG_ROWS: usize = 5;

/// What a person asked for.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// The folder of `stream.jsonl`, `plan.json` and `expected.json`.
    pub events: PathBuf,
    /// The folder of the functions; None is this executable's.
    pub functions: Option<PathBuf>,
    /// A folder for the functions' logs.
    pub logs: Option<PathBuf>,
}

/// Why the demonstration did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file.
    #[error("cannot read {}; the demonstration's files are made by events/generate.py", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file's content.
    #[error("{} is not of the expected form", .place)]
    Malformed {
        /// The file, and the line where there are several.
        place: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A record's bytes.
    #[error("{place}: `value_base64` is not base64")]
    NotBase64 {
        /// The file and line.
        place: String,
    },
    /// A batch beyond the stream.
    #[error("plan.json: the batch from {from} to {to} is not in the stream of {records} records")]
    BatchOutside {
        /// From this record.
        from: usize,
        /// To before this one.
        to: usize,
        /// The stream's.
        records: usize,
    },
    /// A record that no event can hold.
    #[error(transparent)]
    TooLarge(#[from] RecordTooLarge),
    /// The functions or the embedded BigQuery.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A statement for display.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// A line of `stream.jsonl`: a Kafka record, in the order of delivery. Its offset is the number of earlier lines of its partition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamLine {
    topic: String,
    partition: i32,
    key: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
}

/// How the stream is cut into batches, and where a merge runs.
#[derive(Debug, Clone, Deserialize)]
pub struct Plan {
    /// In order.
    pub batches: Vec<PlannedBatch>,
    /// Places in `batches` after which a merge runs.
    pub merge_after_batches: BTreeSet<usize>,
}

/// One batch.
#[derive(Debug, Clone, Deserialize)]
pub struct PlannedBatch {
    /// The first record.
    pub from: usize,
    /// The first record behind the batch.
    pub to: usize,
    /// How often the poller delivers it.
    pub deliver_times: u32,
}

/// A history of the source: what DMS sent, how it is delivered, what has to come of it.
#[derive(Debug, Clone)]
pub struct History {
    /// The Kafka records in the order of delivery.
    pub records: Vec<KafkaRecord>,
    /// How they are delivered.
    pub plan: Plan,
    /// The source's tables at the end.
    pub expected: Vec<ExpectedTable>,
}

impl History {
    /// Reads `stream.jsonl`, `plan.json` and `expected.json`.
    ///
    /// # Errors
    /// [`DemoError`] names the file and line.
    pub fn read(folder: &Path) -> Result<Self, DemoError> {
        let text = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|source| DemoError::Read { path, source })
        };
        let malformed = |name: &str| {
            let place = folder.join(name).display().to_string();
            |source| DemoError::Malformed { place, source }
        };
        let plan: Plan = serde_json::from_str(&text("plan.json")?).map_err(malformed("plan.json"))?;
        let expected: ExpectedTables =
            serde_json::from_str(&text("expected.json")?).map_err(malformed("expected.json"))?;
        Ok(Self { records: stream_records(&text("stream.jsonl")?)?, plan, expected: expected.tables })
    }

    /// The records of a planned batch.
    ///
    /// # Errors
    /// [`DemoError::BatchOutside`].
    pub fn batch(&self, batch: &PlannedBatch) -> Result<&[KafkaRecord], DemoError> {
        self.records.get(batch.from..batch.to).ok_or(DemoError::BatchOutside {
            from: batch.from,
            to: batch.to,
            records: self.records.len(),
        })
    }
}

fn stream_records(text: &str) -> Result<Vec<KafkaRecord>, DemoError> {
    let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let place = format!("stream.jsonl, line {}", number.saturating_add(1));
            let line: StreamLine =
                serde_json::from_str(line).map_err(|source| DemoError::Malformed { place: place.clone(), source })?;
            let value = match (line.value, line.value_base64) {
                (Some(text), _) => Some(text.into_bytes()),
                (None, Some(base64)) => Some(STANDARD.decode(base64).map_err(|_| DemoError::NotBase64 { place })?),
                (None, None) => None,
            };
            let topic = topics.entry(line.topic).or_insert_with_key(|name| Topic::new(name, line.partition));
            Ok(topic.append_to(line.partition, line.key.map(String::into_bytes), value))
        })
        .collect()
}

/// Runs it. True only if every record is accounted for and every final table equals the source.
///
/// # Errors
/// [`DemoError`]; its text says what to do.
pub async fn run(options: DemoOptions, terminal: &Terminal) -> Result<bool, DemoError> {
    let history = History::read(&options.events)?;
    let mut settings = PipelineSettings::from_environment();
    settings.logs = options.logs;
    if let Some(functions) = options.functions {
        settings.functions = functions;
    }
    terminal.line(terminal.bold("The source's changes"));
    terminal.line(format!("  {}", summary(&history)));
    let observe = |step: SetupStep| terminal.line(terminal.dim(&format!("{step} …")));
    let pipeline = Pipeline::start(settings, &observe).await?;

    let replayed = replay(&history, &pipeline, terminal).await?;

    terminal.line("");
    print_last_log_rows(&pipeline, terminal).await?;
    terminal.line("");
    let expected = expected_accounting(&history.records, &pipeline.config.tables);
    let accounting = pipeline.account(&expected).await?;
    report::print_accounting(terminal, &accounting, replayed.fed);
    terminal.line("");
    replayed.totals.print(terminal);
    report::print_quarantine(terminal, &pipeline).await?;
    terminal.line("");
    report::print_functions(terminal, &pipeline);

    let all_equal = equality::compare_tables(&pipeline, &history.expected, terminal).await?;
    pipeline.stop().await;
    Ok(all_equal
        && accounting.is_complete()
        && replayed.given_up == 0
        && !replayed.last_merge_failed
        && !replayed.totals.any_failed())
}

/// What came of the plan.
#[derive(Default)]
struct Replayed {
    /// Records, each as often as it was delivered.
    fed: usize,
    /// Of those, given up.
    given_up: usize,
    totals: MergeTotals,
    last_merge_failed: bool,
}

/// Delivers and merges as planned.
async fn replay(history: &History, pipeline: &Pipeline, terminal: &Terminal) -> Result<Replayed, DemoError> {
    let total: usize = history
        .plan
        .batches
        .iter()
        .map(|batch| {
            let times = usize::try_from(batch.deliver_times).unwrap_or(usize::MAX);
            batch.to.saturating_sub(batch.from).saturating_mul(times)
        })
        .sum();
    let last = history.plan.batches.len().saturating_sub(1);
    let progress = terminal.progress(total);
    let mut replayed = Replayed::default();
    for (place, planned) in history.plan.batches.iter().enumerate() {
        let records = history.batch(planned)?;
        for _ in 0..planned.deliver_times {
            for batch in msk::batches(records, usize::MAX)? {
                progress.at(replayed.fed, "appending to the log");
                let delivery = pipeline.deliver(batch).await?;
                tell_failures(&progress, terminal, &delivery, batch);
                replayed.given_up = replayed.given_up.saturating_add(delivery.given_up.len());
                replayed.fed = replayed.fed.saturating_add(batch.len());
            }
        }
        if history.plan.merge_after_batches.contains(&place) || place == last {
            progress.at(replayed.fed, "merging the log into the final tables");
            replayed.last_merge_failed = merge(pipeline, &mut replayed.totals, &progress, terminal).await?;
        }
    }
    progress.finish();
    Ok(replayed)
}

/// One line about the stream.
fn summary(history: &History) -> String {
    let everything = strait::config::TableFilter::parse("*").ok();
    let expected = everything.map(|all| expected_accounting(&history.records, &all));
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for fate in expected.iter().flat_map(BTreeMap::values).flatten() {
        let name = match fate {
            Fate::Change(operation) => operation,
            Fate::Control(_) => "control",
            Fate::Poison => "poison",
            Fate::DmsOwn | Fate::DebeziumOwn | Fate::Excluded => "of DMS's own",
        };
        let count = counts.entry(name).or_default();
        *count = count.saturating_add(1);
    }
    let (mut tables, mut transactions) = (BTreeSet::new(), BTreeSet::new());
    for record in &history.records {
        let text = record.value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
        let Some(Ok(message)) = text.map(dms::decode_message) else {
            continue;
        };
        if !matches!(message.kind, Kind::Change(_)) || message.metadata.is_dms_own() {
            continue;
        }
        let schema = message.metadata.schema.into_owned();
        transactions.extend(message.metadata.transaction_id.map(|id| (schema.clone(), id)));
        tables.insert((schema, message.metadata.table.into_owned()));
    }
    let partitions: BTreeSet<(&str, i32)> =
        history.records.iter().map(|record| (record.topic.as_str(), record.partition)).collect();
    let order = ["load", "insert", "update", "delete", "control", "poison", "of DMS's own"];
    let operations: Vec<String> =
        order.iter().filter_map(|name| Some(format!("{} {name}", grouped(*counts.get(name)?)))).collect();
    format!(
        "{} in {}: {}\n  {}, {}, delivered in {} with {} in between",
        counted(history.records.len(), "Kafka record"),
        counted(partitions.len(), "partition"),
        operations.join(", "),
        counted(tables.len(), "table"),
        counted(transactions.len(), "transaction"),
        counted(history.plan.batches.len(), "batch").replace("batchs", "batches"),
        counted(history.plan.merge_after_batches.len().saturating_sub(1), "merge"),
    )
}

async fn print_last_log_rows(pipeline: &Pipeline, terminal: &Terminal) -> Result<(), DemoError> {
    let log = &pipeline.config.log_table;
    let statement = format!(
        "SELECT CONCAT(`source_schema`, '.', `source_table`) AS `table`, `operation`, `committed_at`, `transaction_id`, `data`\n\
         FROM `{log}` ORDER BY `ingested_at` DESC, `kafka_partition` DESC, `kafka_offset` DESC LIMIT {LOG_ROWS}"
    );
    terminal.line(terminal.bold(&format!("The log, {log}: its last rows")));
    let found = match pipeline.bigquery.query(&statement).await {
        Err(QueryError::Refused { status: 404, .. }) => {
            terminal.line("  there is none: no record was appended");
            return Ok(());
        }
        other => other?,
    };
    let widths = [24, 12, 27, 16, 40];
    let rows: Vec<Vec<String>> = found
        .rows
        .iter()
        .map(|row| {
            row.iter()
                .zip(&found.columns)
                .zip(widths)
                .map(|((cell, column), width)| {
                    let canonical = cell.as_deref().map(|cell| compare::canonical_of_rest(&column.column_type, cell));
                    equality::shown(canonical.as_deref(), width)
                })
                .collect()
        })
        .collect();
    let headers: Vec<&str> = found.columns.iter().map(|column| column.name.as_str()).collect();
    terminal.table(&headers, &[], &rows);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_counted_per_topic_and_partition() {
        let stream = r#"
{"topic":"a","partition":0,"key":"k","value":"{}"}
{"topic":"a","partition":1,"key":null,"value_base64":"/w=="}
{"topic":"a","partition":0,"key":"k","value":"{}"}
{"topic":"b","partition":0,"key":"k","value":null}
"#;
        let records = stream_records(stream).unwrap();
        let identities: Vec<String> = records.iter().map(|record| record.identity().to_string()).collect();
        assert_eq!(identities, ["a-0@0", "a-1@0", "a-0@1", "b-0@0"]);
        assert_eq!(records[1].value, Some(vec![0xff]));
        assert_eq!(records[3].value, None);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        let error = stream_records("{\"topic\":\"a\",\"partition\":0,\"value\":\"{}\"}\n{}").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
