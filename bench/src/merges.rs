//! `merge` on the embedded BigQuery: how long a merge takes there, how many statements it is, and how much of the log the statements of
//! one run select. The embedded BigQuery reports no bytes, so rows are counted: those of the log's partitions that a statement's literals
//! leave, which is what BigQuery reads before clustering saves some of it. Log rows are written by SQL, for a million of them would
//! take the ingest function's way minutes; what a row looks like is the function's own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use strait_cli::embedded_bigquery::EmbeddedBigQuery;
use strait_cli::msk::{self, KafkaRecord};
use strait_cli::runtime_api::{Function, FunctionSettings, InvocationOutcome};

use crate::Arguments;
use crate::cpu::Process;
use crate::report::{Report, Samples};

const PROJECT: &str = "bench";
const SCHEMA: &str = "shop";
const TOPIC: &str = "cdc.shop";
/// As on Lambda at most.
const TIMEOUT: Duration = Duration::from_secs(900);
/// Log rows of each run that is measured by tables.
const NEWS: u64 = 5000;

/// The embedded BigQuery, set up if it is not.
pub async fn bigquery() -> anyhow::Result<Arc<EmbeddedBigQuery>> {
    Ok(Arc::new(EmbeddedBigQuery::start(PROJECT, &|step| eprintln!("         {step}")).await?))
}

/// Merges of 10,000, 100,000 and 1,000,000 log rows into a table of 100,000 rows.
pub async fn measure_sizes(
    arguments: &Arguments,
    bigquery: &Arc<EmbeddedBigQuery>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (keys, sizes): (u64, &[(u64, usize)]) =
        if arguments.short { (1000, &[(1000, 1)]) } else { (100_000, &[(10_000, 5), (100_000, 3), (1_000_000, 1)]) };
    let mut stage = Stage::start(arguments, bigquery, "sizes".to_owned(), &["t0".to_owned()]).await?;
    stage.insert(keys, 1, "insert", "number + 1").await?;
    stage.merge().await?;
    for &(records, rounds) in sizes {
        let (mut seconds, mut cpu_ms, mut statements) = (Samples::default(), Samples::default(), 0);
        for _ in 0..rounds {
            // Every key about equally often, in no order.
            stage.insert(records, 1, "update", &format!("MOD(number * 7919, {keys}) + 1")).await?;
            let run = stage.merge().await?;
            ensure!(run.records == records, "the merge took {} of {records} records", run.records);
            seconds.push(run.seconds);
            cpu_ms.push(run.cpu_ms);
            statements = run.statements.len();
        }
        let rows = stage.count("SELECT COUNT(*) FROM `sizes_replica.shop_t0`").await?;
        ensure!(rows == keys, "the final table has {rows} rows instead of {keys}");
        let stale = format!(
            "SELECT COUNT(*) FROM `sizes_replica.shop_t0` WHERE `version` < {}",
            stage.next - records.min(keys)
        );
        ensure!(records < keys || stage.count(&stale).await? == 0, "rows are older than their newest change");
        let name = format!("merge_{records}");
        let what = format!("merge of {} log rows into {} rows", words(records), words(keys));
        report.samples(&format!("{name}_s"), &what, "s wall, mostly the embedded BigQuery's", &seconds);
        report.samples(&format!("{name}_cpu_ms"), "of that the function itself", "ms CPU", &cpu_ms);
        report.value(&format!("{name}_statements"), "its statements", "statements", statements as f64);
    }
    stage.drop().await
}

/// Runs with the same number of news, spread over ever more tables of logs of the same size.
pub async fn measure_tables(
    arguments: &Arguments,
    bigquery: &Arc<EmbeddedBigQuery>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let counts: Vec<u64> = match (&arguments.tables[..], arguments.short) {
        ([], true) => vec![1, 3],
        // There a run over 30 tables takes a minute, and over more of them longer for each.
        ([], false) => vec![1, 10, 100],
        (counts, _) => counts.to_vec(),
    };
    let (mut by_tables, mut details) = (serde_json::Map::new(), serde_json::Map::new());
    for tables in counts {
        let names: Vec<String> = (0..tables).map(|number| format!("t{number}")).collect();
        let mut stage = Stage::start(arguments, bigquery, format!("tables{tables}"), &names).await?;
        stage.create_finals(&names).await?;
        // The first run of all has no ledger yet to go on from.
        let id = format!("DIV(number, {tables}) + 1");
        stage.insert(NEWS, 1, "insert", "number + 1").await?;
        stage.merge().await?;
        stage.insert(NEWS, tables, "update", &id).await?;
        let run = stage.merge().await?;
        ensure!(run.records == NEWS, "the run merged {} of {NEWS} records", run.records);
        let read = stage.read_of_log(&run.statements).await?;
        let what = format!("a run with news in {tables} tables: log rows that its statements select");
        report.value(&format!("log_rows_read_{tables}"), &what, "rows", read.rows as f64);
        let what = format!("… its statements that read the log, of {}", run.statements.len());
        report.value(&format!("log_statements_{tables}"), &what, "statements", read.statements as f64);
        let what = "… rows of the copy that they select";
        report.value(&format!("copied_rows_read_{tables}"), what, "rows", read.copied as f64);
        by_tables.insert(tables.to_string(), json!(read.rows));
        details.insert(
            tables.to_string(),
            json!({
                "log_statements": read.statements,
                "unbounded_statements": read.unbounded,
                "statements": run.statements.len(),
                "log_rows": read.of,
                "copied_rows": read.copied,
                "news": NEWS,
                "seconds": run.seconds,
                "cpu_ms": run.cpu_ms,
            }),
        );
        stage.drop().await?;
        eprintln!("         {tables} tables: {:.0} s", run.seconds);
    }
    report.only_in_file("log_rows_read_by_tables", Value::Object(by_tables));
    report.only_in_file("runs_by_tables", Value::Object(details));
    Ok(())
}

/// An embedded BigQuery with a log in it, and the two functions.
struct Stage {
    bigquery: Arc<EmbeddedBigQuery>,
    merge: Function,
    process: Process,
    /// What its datasets begin with.
    prefix: String,
    /// The next Kafka offset, which also orders the changes.
    next: u64,
}

/// A run of `merge`, called until no job is left running.
struct Run {
    records: u64,
    seconds: f64,
    cpu_ms: f64,
    statements: Vec<String>,
}

/// How much of the log statements select.
#[derive(Default)]
struct Read {
    rows: u64,
    statements: usize,
    /// Without a lower bound: the whole log.
    unbounded: usize,
    /// Rows of the log.
    of: u64,
    /// Rows of its copy, by partitions.
    copied: u64,
}

impl Stage {
    /// The log holds the tables' definitions.
    async fn start(
        arguments: &Arguments,
        bigquery: &Arc<EmbeddedBigQuery>,
        prefix: String,
        tables: &[String],
    ) -> anyhow::Result<Self> {
        let variables: BTreeMap<String, String> = [
            ("STRAIT_PROJECT", PROJECT.to_owned()),
            ("STRAIT_LOG_TABLE", format!("{prefix}_cdc.log")),
            ("STRAIT_MERGES_TABLE", format!("{prefix}_cdc.merges")),
            ("STRAIT_QUARANTINE_TABLE", format!("{prefix}_cdc.quarantine")),
            ("STRAIT_FINAL_TABLE", format!("{prefix}_replica.{{schema}}_{{table}}")),
            ("STRAIT_BIGQUERY_REST_URL", bigquery.rest_url.clone()),
            ("STRAIT_BIGQUERY_GRPC_URL", bigquery.grpc_url.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let start = |name: &str| {
            Function::start(FunctionSettings {
                name: name.to_owned(),
                binary: arguments.functions.join(name),
                environment: variables.clone(),
                timeout: TIMEOUT,
                memory_mb: 512,
                log_file: None,
            })
        };
        let ingest = start("ingest").await?;
        let definitions: Vec<KafkaRecord> =
            (0..).zip(tables).map(|(offset, table)| definition(offset, table)).collect();
        answer(&ingest, msk::event(&definitions)).await?;
        let merge = start("merge").await?;
        let process = Process::of(merge.process_id())?;
        let bigquery = Arc::clone(bigquery);
        Ok(Self { bigquery, merge, process, prefix, next: u64::try_from(tables.len())? })
    }

    /// Every table that the embedded BigQuery holds makes its every statement slower.
    async fn drop(self) -> anyhow::Result<()> {
        for dataset in ["cdc", "replica"] {
            self.statement(&format!("DROP SCHEMA IF EXISTS `{}_{dataset}` CASCADE", self.prefix)).await?;
        }
        Ok(())
    }

    async fn statement(&self, sql: &str) -> anyhow::Result<Vec<Vec<Option<String>>>> {
        Ok(self.bigquery.query(sql).await.with_context(|| sql.chars().take(300).collect::<String>())?.rows)
    }

    async fn count(&self, sql: &str) -> anyhow::Result<u64> {
        let rows = self.statement(sql).await?;
        let cell = rows.first().and_then(|row| row.first()).cloned().flatten();
        Ok(cell.context("a count")?.parse()?)
    }

    /// The final tables as the first run would make them: made by hand, for that run would take most of the time.
    async fn create_finals(&self, tables: &[String]) -> anyhow::Result<()> {
        let prefix = &self.prefix;
        self.statement(&format!("CREATE SCHEMA IF NOT EXISTS `{prefix}_replica`")).await?;
        for table in tables {
            let sql = format!(
                "CREATE TABLE `{prefix}_replica.{SCHEMA}_{table}` (`id` INT64, `status` STRING, `total` NUMERIC(12, 2), \
                 `note` STRING, `version` INT64, `_strait_position` STRING, `_strait_merged_at` TIMESTAMP, \
                 PRIMARY KEY (`id`) NOT ENFORCED) CLUSTER BY `id`"
            );
            self.statement(&sql).await?;
        }
        Ok(())
    }

    /// Writes log rows of changes to `tables` tables in turn.
    async fn insert(&mut self, records: u64, tables: u64, operation: &str, id: &str) -> anyhow::Result<()> {
        let table = format!("CONCAT('t', CAST(MOD(number, {tables}) AS STRING))");
        let first = self.next;
        let sql = format!(
            "INSERT INTO `{prefix}_cdc.log` (`source_schema`, `source_table`, `operation`, `position`, `data`, \
             `transaction_id`, `committed_at`, `emitted_at`, `kafka_topic`, `kafka_partition`, `kafka_offset`, `ingested_at`)
             SELECT '{SCHEMA}', {table}, '{operation}',
             CONCAT('0000-2-m0000000007-', LPAD(CAST(number + {first} AS STRING), 10, '0'), '-00000000000000000001'),
             CONCAT('{{\"id\":', CAST({id} AS STRING), ',\"status\":\"paid\",\"total\":', CAST(MOD(number, 90000) AS STRING),
             '.50,\"note\":\"please leave with the neighbour, ring twice, gift wrap, no invoice in the box\",\"version\":',
             CAST(number + {first} AS STRING), '}}'),
             CAST(number + {first} AS STRING), CURRENT_TIMESTAMP(), CURRENT_TIMESTAMP(), '{TOPIC}', 0, number + {first},
             CURRENT_TIMESTAMP()
             FROM UNNEST(GENERATE_ARRAY(0, {last})) AS number",
            prefix = self.prefix,
            last = records - 1,
        );
        self.statement(&sql).await?;
        self.next += records;
        Ok(())
    }

    async fn merge(&self) -> anyhow::Result<Run> {
        let started = Instant::now();
        let cpu_before = self.process.cpu_ns_at_rest().await?;
        let from_ms = jiff::Timestamp::now().as_millisecond();
        let mut records = 0;
        loop {
            let answer = answer(&self.merge, "{}").await?;
            let tables = answer.pointer("/tables").and_then(Value::as_array).context("no tables in the answer")?;
            let outcome = |table: &Value| table.get("outcome").and_then(Value::as_str).unwrap_or_default().to_owned();
            let outcomes: BTreeSet<String> = tables.iter().map(outcome).collect();
            records += tables.iter().filter_map(|table| table.get("records")?.as_u64()).sum::<u64>();
            if outcomes.iter().any(|outcome| outcome != "merged" && outcome != "idle" && outcome != "running") {
                bail!("a table was not merged: {answer}");
            }
            if !outcomes.contains("running") {
                break;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        let cpu_ms = (self.process.cpu_ns_at_rest().await? - cpu_before) as f64 / 1e6;
        let statements = self.bigquery.statements(from_ms, jiff::Timestamp::now().as_millisecond()).await?;
        Ok(Run { records, seconds, cpu_ms, statements })
    }

    /// The rows of the partitions that each reading of the log selects by literals, readings of one statement counted each.
    async fn read_of_log(&self, statements: &[String]) -> anyhow::Result<Read> {
        let log = format!("`{PROJECT}`.`{}_cdc`.`log`", self.prefix);
        let of = self.count(&format!("SELECT COUNT(*) FROM {log}")).await?;
        let mut read = Read { of, ..Read::default() };
        let mut known: HashMap<String, u64> = HashMap::new();
        // The copy is gone by now: what a table's partition of it held are the log's rows of the table in the window.
        for statement in statements.iter().filter(|statement| statement.contains("WHERE `table_number` = ")) {
            let literal = |column: &str| statement.split(&format!("`{column}` = '")).nth(1)?.split('\'').next();
            let (schema, table) =
                literal("source_schema").zip(literal("source_table")).context("a fold's source table")?;
            let (lower, upper) = (bound(statement, &[">=", ">"]), bound(statement, &["<=", "<"]));
            let (lower, upper) = lower.zip(upper).context("a fold's window")?;
            read.copied += self
                .count(&format!(
                    "SELECT COUNT(*) FROM {log} WHERE `source_schema` = '{schema}' AND `source_table` = '{table}' \
                     AND `ingested_at` BETWEEN TIMESTAMP '{lower}' AND TIMESTAMP '{upper}'"
                ))
                .await?;
        }
        for statement in statements {
            let readings: Vec<&str> = statement.split(log.as_str()).skip(1).collect();
            read.statements += usize::from(!readings.is_empty());
            for reading in readings {
                // What belongs to this reading: up to the end of its own SELECT.
                let own = reading.split("\nUNION ALL").next().unwrap_or(reading).split("\n)").next().unwrap_or(reading);
                let (lower, upper) = (bound(own, &[">=", ">"]), bound(own, &["<=", "<"]));
                read.unbounded += usize::from(lower.is_none());
                let mut condition = "TRUE".to_owned();
                if let Some(lower) = lower {
                    let _ = write!(condition, " AND `ingested_at` >= TIMESTAMP_TRUNC(TIMESTAMP '{lower}', HOUR)");
                }
                if let Some(upper) = upper {
                    let _ = write!(
                        condition,
                        " AND `ingested_at` < TIMESTAMP_ADD(TIMESTAMP_TRUNC(TIMESTAMP '{upper}', HOUR), INTERVAL 1 HOUR)"
                    );
                }
                let rows = match known.get(&condition) {
                    Some(rows) => *rows,
                    None => self.count(&format!("SELECT COUNT(*) FROM {log} WHERE {condition}")).await?,
                };
                known.insert(condition, rows);
                read.rows += rows;
            }
        }
        Ok(read)
    }
}

/// The literal that `ingested_at` is first compared to by one of these operators.
fn bound<'s>(sql: &'s str, operators: &[&str]) -> Option<&'s str> {
    sql.split("`ingested_at` ").skip(1).find_map(|rest| {
        let (operator, rest) = rest.split_once(" TIMESTAMP '")?;
        operators.contains(&operator).then(|| rest.split('\'').next()).flatten()
    })
}

async fn answer(function: &Function, payload: impl Into<bytes::Bytes>) -> anyhow::Result<Value> {
    let outcome = function.invoke(payload).await?.outcome;
    let InvocationOutcome::Response(answer) = outcome else {
        bail!("{} failed: {outcome:?}\n{}", function.name(), function.log());
    };
    Ok(serde_json::from_slice(&answer)?)
}

/// DMS's control record at the start of a load.
fn definition(offset: i64, table: &str) -> KafkaRecord {
    let column = |kind: &str| json!({"type": kind, "nullable": true});
    let message = json!({
        "control": {"table-def": {
            "columns": {
                "id": column("INT64"),
                "status": column("WSTRING"),
                "total": {"type": "NUMERIC", "precision": 12, "scale": 2, "nullable": true},
                "note": column("WSTRING"),
                "version": column("INT64"),
            },
            "primary-key": ["id"],
        }},
        "metadata": {
            "timestamp": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
            "record-type": "control",
            "operation": "create-table",
            "partition-key-type": "task-id",
            "schema-name": SCHEMA,
            "table-name": table,
        },
    });
    KafkaRecord {
        topic: TOPIC.to_owned(),
        partition: 0,
        offset,
        timestamp_ms: jiff::Timestamp::now().as_millisecond(),
        key: Some(b"task".to_vec()),
        value: Some(message.to_string().into_bytes()),
    }
}

fn words(number: u64) -> String {
    match number {
        1_000_000 => "1,000,000".to_owned(),
        number if number >= 1000 => format!("{},{:03}", number / 1000, number % 1000),
        number => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_the_literals_of_ingested_at() {
        let sql = "\nWHERE `ingested_at` >= TIMESTAMP '2026-01-02 02:46:40+00' AND `ingested_at` <= TIMESTAMP '2026-01-02 03:04:05+00'";
        assert_eq!(bound(sql, &[">=", ">"]), Some("2026-01-02 02:46:40+00"));
        assert_eq!(bound(sql, &["<=", "<"]), Some("2026-01-02 03:04:05+00"));
        assert_eq!(bound("\nWHERE TRUE", &[">="]), None);
    }
}
