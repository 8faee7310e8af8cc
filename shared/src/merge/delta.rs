//! The delta: what the tables with news have to read of the log in one run, copied once into a short-lived table with a partition for each
//! of them. One that stands behind the others has a window of its own and reads the log for itself. Without the delta, each table's fold would read the window's partitions of the log, so that a run would read them as often as there are
//! tables; clustering keeps tables apart only in partitions of many blocks. The delta must hold every log row that the bounds of a fold of
//! it select, and must change none: a fold reads the same rows there as in the log. It is never needed: without it, the log is read.

use std::collections::BTreeMap;

use crate::config::HOUR_US;
use crate::names::{NameError, SourceTable, TableName, fingerprint, string_literal};

use super::fold::{EXPIRY_HOURS, timestamp_literal};

/// Partitions that one job may write to (BigQuery's quotas, "Partitioned tables").
const TABLES_AT_MOST: usize = 4_000;
/// Bytes of tables' names in the statement, as literals, which may have 1 MB in all (BigQuery's quotas, "Query jobs").
const NAMES_AT_MOST: usize = 500_000;
/// The delta's partitioning column: the table's number.
const NUMBER: &str = "`table_number`";
/// The log's columns that a fold reads.
const COLUMNS: [&str; 13] = [
    "source_schema",
    "source_table",
    "operation",
    "position",
    "data",
    "before",
    "committed_at",
    "emitted_at",
    "kafka_topic",
    "kafka_partition",
    "kafka_offset",
    "ingested_at",
    "error",
];

/// What the fold of a table reads of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The source table.
    pub source: SourceTable,
    /// From which `ingested_at` on, in µs; `None`: all that is retained.
    pub from_us: Option<i64>,
    /// Changes of the table among the news.
    pub changes: i64,
}

/// A table's part of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share<'a> {
    /// The delta.
    pub delta: &'a TableName,
    /// The table's number in it.
    pub number: usize,
}

impl Share<'_> {
    /// The condition that selects the table's partition.
    pub(super) fn condition(&self) -> String {
        format!("{NUMBER} = {}", self.number)
    }
}

/// The delta of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Its name.
    pub name: TableName,
    /// From which `ingested_at` on it holds the log, in µs; `None`: all that is retained.
    pub from_us: Option<i64>,
    /// The tables, whose places are their numbers.
    pub tables: Vec<Reading>,
    numbers: BTreeMap<SourceTable, usize>,
}

impl Delta {
    /// The delta of a run, of those tables for which it pays; `None` if the log is better read as it is. Writing and reading a copy is
    /// counted like reading the log once more, and a table that looks far back does not make the others' copy as long, unless that pays, too.
    ///
    /// `to_us` is the end of the run's window and `retention_us` how long the log keeps records, both in µs; `run` tells runs apart.
    pub fn worthwhile(
        log: &TableName,
        run: &str,
        mut readings: Vec<Reading>,
        to_us: i64,
        retention_us: i64,
    ) -> Option<Self> {
        let hours = |reading: &Reading| {
            let from_us = reading.from_us.unwrap_or(i64::MIN).max(to_us.saturating_sub(retention_us));
            to_us.saturating_sub(from_us).max(0) / HOUR_US + 1
        };
        // Those that look back least come first; among equals the order is the names'.
        readings.sort_by(|a, b| (hours(a), &a.source).cmp(&(hours(b), &b.source)));
        let (mut names, mut saved_most, mut count) = (0usize, 0i64, 0usize);
        let mut apart = 0i64;
        for (place, reading) in readings.iter().enumerate().take(TABLES_AT_MOST) {
            let literals = [&reading.source.schema, &reading.source.table].map(|name| string_literal(name).len());
            names = literals.into_iter().fold(names, usize::saturating_add);
            if names > NAMES_AT_MOST {
                break;
            }
            apart = apart.saturating_add(hours(reading));
            let saved = apart.saturating_sub(hours(reading).saturating_mul(2));
            if saved > saved_most {
                (saved_most, count) = (saved, place + 1);
            }
        }
        readings.truncate(count);
        // None, all that is retained, is the least of all.
        let from_us = readings.iter().map(|reading| reading.from_us).min()?;
        let table = format!("_strait_delta_{}", fingerprint(run, 24));
        let numbers = readings.iter().enumerate().map(|(number, reading)| (reading.source.clone(), number)).collect();
        Some(Self { name: TableName { dataset: log.dataset.clone(), table }, from_us, tables: readings, numbers })
    }

    /// The statement that writes the delta, up to the `ingested_at` at the window's end, in µs.
    ///
    /// # Errors
    /// When a name cannot be quoted.
    pub fn statement(&self, project: &str, log: &TableName, to_us: i64) -> Result<String, NameError> {
        let columns: Vec<String> = COLUMNS.iter().map(|column| format!("`_strait_log`.`{column}`")).collect();
        let tables: Vec<String> = self
            .tables
            .iter()
            .enumerate()
            .map(|(number, Reading { source, .. })| {
                format!("({number}, {}, {})", string_literal(&source.schema), string_literal(&source.table))
            })
            .collect();
        let from = self.from_us.map_or_else(String::new, |from| {
            format!("`_strait_log`.`ingested_at` >= {} AND ", timestamp_literal(from))
        });
        Ok(format!(
            "CREATE OR REPLACE TABLE {delta}\n\
             PARTITION BY RANGE_BUCKET({NUMBER}, GENERATE_ARRAY(0, {count}, 1))\n\
             OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {EXPIRY_HOURS} HOUR))\n\
             AS\n\
             SELECT `_strait_wanted`.{NUMBER}, {columns}\n\
             FROM {log} AS `_strait_log`\n\
             JOIN UNNEST(ARRAY<STRUCT<{NUMBER} INT64, `schema` STRING, `name` STRING>>[\n{tables}\n]) AS `_strait_wanted`\n\
             ON `_strait_wanted`.`schema` = `_strait_log`.`source_schema` AND `_strait_wanted`.`name` = `_strait_log`.`source_table`\n\
             WHERE {from}`_strait_log`.`ingested_at` <= {to}\n\
             AND `_strait_log`.`operation` IN ('load', 'insert', 'update', 'delete')",
            delta = self.name.quoted(project)?,
            count = self.tables.len(),
            columns = columns.join(", "),
            log = log.quoted(project)?,
            tables = tables.join(",\n"),
            to = timestamp_literal(to_us),
        ))
    }

    /// A table's part of it, if it is one of its tables.
    pub fn share(&self, source: &SourceTable) -> Option<Share<'_>> {
        self.numbers.get(source).map(|number| Share { delta: &self.name, number: *number })
    }

    /// What of an amount, such as bytes billed for the delta, falls to a table by its changes.
    pub fn part(&self, number: usize, amount: i64) -> i64 {
        let all: i128 = self.tables.iter().map(|reading| i128::from(reading.changes.max(0))).sum();
        let own = self.tables.get(number).map_or(0, |reading| i128::from(reading.changes.max(0)));
        i64::try_from(i128::from(amount).saturating_mul(own).checked_div(all).unwrap_or(0)).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const RETENTION_US: i64 = 30 * 24 * HOUR_US;
    const TO_US: i64 = 1_767_323_045_678_901;

    fn readings(hours: &[Option<i64>]) -> Vec<Reading> {
        hours
            .iter()
            .enumerate()
            .map(|(place, hours)| Reading {
                source: SourceTable { schema: "shop".into(), table: format!("t{place}") },
                from_us: hours.map(|hours| TO_US - hours * HOUR_US),
                changes: 1,
            })
            .collect()
    }

    fn shared(hours: &[Option<i64>]) -> Option<(Option<i64>, Vec<String>)> {
        let log = TableName { dataset: "cdc".into(), table: "log".into() };
        let delta = Delta::worthwhile(&log, "run", readings(hours), TO_US, RETENTION_US)?;
        let from = delta.from_us.map(|from| (TO_US - from) / HOUR_US);
        Some((from, delta.tables.into_iter().map(|reading| reading.source.table).collect()))
    }

    #[test]
    fn a_copy_pays_from_the_third_table_on() {
        assert_eq!(shared(&[]), None);
        assert_eq!(shared(&[Some(0)]), None);
        assert_eq!(shared(&[Some(0), Some(0)]), None);
        let three = ["t0", "t1", "t2"].map(str::to_owned).to_vec();
        assert_eq!(shared(&[Some(0), Some(0), Some(0)]), Some((Some(0), three)));
    }

    #[test]
    fn a_table_that_looks_far_back_reads_for_itself_unless_many_do() {
        let near = ["t0", "t1", "t3", "t4"].map(str::to_owned).to_vec();
        assert_eq!(shared(&[Some(0), Some(0), Some(300), Some(0), Some(0)]), Some((Some(0), near)));
        assert_eq!(shared(&[Some(6), Some(0), Some(6), Some(6)]).unwrap().0, Some(6));
        // All that is retained, for three of them.
        assert_eq!(
            shared(&[None, None, Some(0), None]).unwrap(),
            (None, ["t2", "t0", "t1", "t3"].map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn a_delta_reaches_back_as_far_as_any_of_its_tables() {
        let log = TableName { dataset: "cdc".into(), table: "log".into() };
        let mut near = readings(&[Some(0), Some(0), Some(0)]);
        near.first_mut().unwrap().from_us = Some(TO_US - 5);
        near.get_mut(1).unwrap().from_us = Some(TO_US - 9);
        let delta = Delta::worthwhile(&log, "run", near, TO_US, RETENTION_US).unwrap();
        assert_eq!(delta.from_us, Some(TO_US - 9));
    }

    #[test]
    fn the_bill_is_shared_by_changes() {
        let log = TableName { dataset: "cdc".into(), table: "log".into() };
        let mut tables = readings(&[Some(0), Some(0), Some(0)]);
        tables.last_mut().unwrap().changes = 2;
        let delta = Delta::worthwhile(&log, "run", tables, TO_US, RETENTION_US).unwrap();
        assert_eq!([0, 1, 2, 3].map(|number| delta.part(number, 1_000)), [250, 250, 500, 0]);
    }
}
