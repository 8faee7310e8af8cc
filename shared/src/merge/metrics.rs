//! What a run says to CloudWatch: one line of sums, and one per table. It must never make a metric of every table there is, for each
//! combination of dimensions is billed as one.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::telemetry::{Metric, Unit, metrics_line};

use super::answer::{Answer, TableAnswer};
use super::ledger::Outcome;

/// Tables that have metrics of their own: the first ones by name, so that they stay the same from run to run. At CloudWatch's list price
/// of $0.30 a metric and month, four metrics of 50 tables are $60.
const TABLES_NAMED: usize = 50;
/// Under which name the other tables are summed up. No source table is called so: it has no dot.
const OTHERS: &str = "(others)";
/// CloudWatch's limit for a dimension's value.
const MAX_VALUE_BYTES: usize = 255;

/// What a run saw beside what it answers.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Source commit time of the newest change that was merged, in µs.
    pub(super) newest_commit_us: Option<i64>,
    /// How long the oldest record that was not merged before has waited, in µs.
    pub(super) oldest_wait_us: i64,
    /// How long the log retains a record, in µs; 0 when the run saw no record at all.
    pub(super) retention_us: i64,
    /// Tables that have rows of a full load without the control record that begins one.
    pub(super) loads_without_start: usize,
    /// Holes in the offsets.
    pub(super) holes: usize,
    /// Every table that is known, as `schema.table`.
    pub(super) tables: BTreeSet<String>,
}

/// The lines of one run. `now_us` is the time of all of them, in µs since the Unix epoch.
pub(super) fn lines(function: &str, answer: &Answer, seen: &Seen, duration_ms: i64, now_us: i64) -> Vec<String> {
    let mut metrics = of_tables(&answer.tables.iter().collect::<Vec<_>>());
    metrics.extend([
        Metric::new("WaitingTables", Unit::Count, with_outcome(&answer.tables, Outcome::Waiting)),
        Metric::new("MergeDuration", Unit::Milliseconds, duration_ms),
        Metric::new("OldestUnmergedAge", Unit::Milliseconds, seen.oldest_wait_us / 1000),
        Metric::new("RetentionUsed", Unit::Percent, percent(seen.oldest_wait_us, seen.retention_us)),
        Metric::new("LoadsWithoutStart", Unit::Count, count(seen.loads_without_start)),
        Metric::new("OffsetHoles", Unit::Count, count(seen.holes)),
    ]);
    let lag = seen.newest_commit_us.map(|newest| now_us.saturating_sub(newest).max(0) / 1000);
    metrics.extend(lag.map(|lag| Metric::new("MergeLag", Unit::Milliseconds, lag)));

    let now_ms = now_us / 1000;
    let mut lines = vec![metrics_line(&[("Function", function)], &metrics, now_ms)];
    for (name, tables) in by_name(&answer.tables, &seen.tables) {
        lines.push(metrics_line(&[("Function", function), ("Table", &name)], &of_tables(&tables), now_ms));
    }
    lines
}

/// The metrics that exist for all tables together and for each named one.
fn of_tables(tables: &[&TableAnswer]) -> Vec<Metric> {
    let sum = |count: fn(&TableAnswer) -> i64| tables.iter().map(|table| count(table)).fold(0, i64::saturating_add);
    let failed = tables.iter().filter(|table| table.outcome == Outcome::Failed.as_str()).count();
    vec![
        Metric::new("MergedRecords", Unit::Count, sum(|table| table.records)),
        Metric::new("QuarantinedRows", Unit::Count, sum(|table| table.quarantined)),
        Metric::new("BytesBilled", Unit::Bytes, sum(|table| table.bytes_billed)),
        Metric::new("FailedTables", Unit::Count, count(failed)),
    ]
}

/// The answers under the dimension values that they count for.
fn by_name<'a>(tables: &'a [TableAnswer], known: &BTreeSet<String>) -> BTreeMap<Cow<'a, str>, Vec<&'a TableAnswer>> {
    let named: BTreeSet<&str> = known.iter().take(TABLES_NAMED).map(String::as_str).collect();
    let mut by_name: BTreeMap<Cow<'a, str>, Vec<&TableAnswer>> = BTreeMap::new();
    for table in tables {
        let value = if named.contains(table.table.as_str()) { dimension_value(&table.table) } else { None };
        by_name.entry(value.unwrap_or(Cow::Borrowed(OTHERS))).or_default().push(table);
    }
    by_name
}

/// A table's name in the characters that CloudWatch takes for a dimension, which are ASCII's; `None` if it is too long then.
fn dimension_value(name: &str) -> Option<Cow<'_, str>> {
    let is_plain = name.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    let value = if is_plain { Cow::Borrowed(name) } else { Cow::Owned(name.escape_default().to_string()) };
    (value.len() <= MAX_VALUE_BYTES).then_some(value)
}

fn with_outcome(tables: &[TableAnswer], outcome: Outcome) -> i64 {
    count(tables.iter().filter(|table| table.outcome == outcome.as_str()).count())
}

fn percent(part: i64, whole: i64) -> i64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use serde_json::Value;

    use super::*;
    use crate::names::{SourceTable, TableName};

    fn merged(schema: &str, table: &str, outcome: Outcome) -> TableAnswer {
        let source = SourceTable { schema: schema.into(), table: table.into() };
        let name = TableName { dataset: "replica".into(), table: table.into() };
        TableAnswer { records: 2, bytes_billed: 10, ..TableAnswer::new(&source, &name, outcome.as_str()) }
    }

    fn run(tables: Vec<TableAnswer>, seen: &Seen) -> Vec<Value> {
        lines("stack-merge", &Answer { tables }, seen, 7, 5_000_000)
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_run_has_its_sums_and_each_table_its_own_line() {
        let seen = Seen {
            newest_commit_us: Some(2_000_000),
            oldest_wait_us: 3_600_000_000,
            retention_us: 7_200_000_000,
            loads_without_start: 2,
            holes: 1,
            tables: ["shop.orders", "shop.주문"].map(str::to_owned).into(),
        };
        let lines =
            run(vec![merged("shop", "orders", Outcome::Merged), merged("shop", "주문", Outcome::Failed)], &seen);
        for (name, value) in [
            ("MergedRecords", 4),
            ("BytesBilled", 20),
            ("FailedTables", 1),
            ("WaitingTables", 0),
            ("MergeLag", 3000),
            ("OldestUnmergedAge", 3_600_000),
            ("RetentionUsed", 50),
            ("LoadsWithoutStart", 2),
            ("OffsetHoles", 1),
        ] {
            assert_eq!(lines[0][name], value, "{name}");
        }
        assert_eq!(lines[0]["Function"], "stack-merge");
        // What is not ASCII is escaped, and sorts before the letters.
        assert_eq!(lines[1]["Table"], r"shop.\u{c8fc}\u{bb38}");
        assert_eq!(lines[2]["Table"], "shop.orders");
        assert_eq!((&lines[1]["FailedTables"], &lines[2]["FailedTables"]), (&Value::from(1), &Value::from(0)));
        assert_eq!(lines[2]["_aws"]["CloudWatchMetrics"][0]["Dimensions"], serde_json::json!([["Function", "Table"]]));
    }

    #[test]
    fn the_tables_that_have_a_dimension_are_bounded_and_stay_the_same() {
        let all: Vec<String> = (0..200).map(|number| format!("s.t{number:03}")).collect();
        let seen = Seen { tables: all.iter().cloned().collect(), ..Seen::default() };
        let values = |tables: Vec<TableAnswer>| -> BTreeSet<String> {
            run(tables, &seen)[1..].iter().map(|line| line["Table"].as_str().unwrap().to_owned()).collect()
        };
        let table = |number: usize| merged("s", &format!("t{number:03}"), Outcome::Merged);
        let of_all = values((0..200).map(table).collect());
        assert_eq!(of_all.len(), TABLES_NAMED + 1);
        // A run with other tables brings no new ones.
        assert!(values((49..180).map(table).collect()).is_subset(&of_all));
        let others = run((100..103).map(table).collect(), &seen);
        assert_eq!((&others[1]["Table"], &others[1]["MergedRecords"]), (&Value::from(OTHERS), &Value::from(6)));
    }

    #[test]
    fn a_run_without_records_says_that_nothing_waits() {
        let lines = run(Vec::new(), &Seen::default());
        assert_eq!(lines.len(), 1);
        assert_eq!((&lines[0]["OldestUnmergedAge"], &lines[0]["RetentionUsed"]), (&Value::from(0), &Value::from(0)));
        assert_eq!(lines[0].get("MergeLag"), None);
    }
}
