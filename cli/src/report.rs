//! What `strait local` and `strait demo` both print at their end: the accounting, the merges' answers, the functions' figures.

use std::collections::BTreeMap;

use crate::accounting::Accounting;
use crate::embedded_bigquery::QueryError;
use crate::msk::RecordIdentity;
use crate::pipeline::{MergedTable, Pipeline, TimeSpent};
use crate::runtime_api::Function;
use crate::terminal::{self, Align, Terminal, counted, grouped};

/// A list of things that are wrong says how many there are and shows the first ones.
pub(crate) const SHOWN: usize = 10;

/// What all merges so far answered, per table: counts added up, outcome and reason of the last.
#[derive(Debug, Default)]
pub(crate) struct MergeTotals {
    tables: BTreeMap<String, MergedTable>,
    runs: usize,
}

impl MergeTotals {
    pub(crate) fn add(&mut self, answer: Vec<MergedTable>) {
        self.runs = self.runs.saturating_add(1);
        for table in answer {
            let total = self.tables.entry(table.table.clone()).or_default();
            *total = MergedTable {
                records: total.records.saturating_add(table.records),
                inserted: total.inserted.saturating_add(table.inserted),
                updated: total.updated.saturating_add(table.updated),
                deleted: total.deleted.saturating_add(table.deleted),
                quarantined: total.quarantined.saturating_add(table.quarantined),
                late: total.late.saturating_add(table.late),
                bytes_billed: total.bytes_billed.saturating_add(table.bytes_billed),
                final_table: table.final_table.or_else(|| total.final_table.take()),
                // A table without news in the last run is still what the run before made of it.
                outcome: match table.outcome.as_str() {
                    "idle" if !total.outcome.is_empty() => total.outcome.clone(),
                    _ => table.outcome,
                },
                table: table.table,
                reason: table.reason,
            };
        }
    }

    pub(crate) fn any_failed(&self) -> bool {
        self.tables.values().any(|table| table.outcome == "failed")
    }

    pub(crate) fn print(&self, terminal: &Terminal) {
        terminal.line(terminal.bold(&format!("Merged, in {}", counted(self.runs, "run"))));
        if self.tables.is_empty() {
            terminal.line("  no table had news");
            return;
        }
        let number = |number: u64| grouped(usize::try_from(number).unwrap_or(usize::MAX));
        let rows: Vec<Vec<String>> = self
            .tables
            .values()
            .map(|table| {
                vec![
                    terminal::fitted(&table.table, 30),
                    terminal::fitted(table.final_table.as_deref().unwrap_or("-"), 36),
                    table.outcome.clone(),
                    number(table.records),
                    number(table.inserted),
                    number(table.updated),
                    number(table.deleted),
                    number(table.quarantined),
                    number(table.late),
                ]
            })
            .collect();
        let headers =
            ["source", "final table", "outcome", "records", "inserted", "updated", "deleted", "quarantined", "late"];
        let mut aligns = [Align::Right; 9];
        if let Some(texts) = aligns.get_mut(..3) {
            texts.fill(Align::Left);
        }
        terminal.table(&headers, &aligns, &rows);
        for table in self.tables.values() {
            if let Some(reason) = &table.reason {
                terminal.line(format!("  {}: {reason}", terminal.warning(&table.table)));
            }
        }
    }
}

/// `fed` counts every record as often as it was fed.
pub(crate) fn print_accounting(terminal: &Terminal, accounting: &Accounting, fed: usize) {
    let sum = |counts: &BTreeMap<String, usize>| counts.values().sum::<usize>();
    let mark = if accounting.is_complete() {
        terminal.good("✓ every record is accounted for")
    } else {
        terminal.bad("✗ not every record is accounted for")
    };
    terminal.line(terminal.bold("Accounting"));
    let debeziums = match accounting.debezium_own {
        0 => String::new(),
        own => format!("{} of Debezium's own + ", grouped(own)),
    };
    terminal.line(format!(
        "  {} = {} + {} + {} of DMS's own + {debeziums}{} excluded + {} poison",
        counted(accounting.fed, "record"),
        counted(sum(&accounting.changes), "change"),
        counted(sum(&accounting.controls), "control record"),
        grouped(accounting.dms_own),
        grouped(accounting.excluded),
        grouped(accounting.poison.len()),
    ));
    let again = fed.saturating_sub(accounting.fed);
    if again > 0 {
        terminal.line(format!(
            "  fed {} times in all; {} times with the topic, partition and offset of one before, and counted with that",
            grouped(fed),
            grouped(again)
        ));
    }
    terminal.line(format!("  {mark}"));
    if accounting.copies > 0 {
        let copies = usize::try_from(accounting.copies).unwrap_or(usize::MAX);
        terminal.line(format!(
            "  {} in the log from repeated deliveries, counted once above",
            counted(copies, "further row")
        ));
    }
    for poison in accounting.poison.iter().take(SHOWN) {
        terminal.line(format!("  poison {}: {}", poison.identity, poison.reason));
    }
    print_rest(terminal, accounting.poison.len());
    let identities = |what: &str, list: &[RecordIdentity]| {
        for identity in list.iter().take(SHOWN) {
            terminal.line(format!("  {} {identity}", terminal.bad(what)));
        }
        print_rest(terminal, list.len());
    };
    identities("not in the log:", &accounting.missing);
    identities("in the log without having been fed:", &accounting.strangers);
    identities("in the log, and should be kept out:", &accounting.not_kept_out);
    for (identity, expected, found) in accounting.misnamed.iter().take(SHOWN) {
        let what = terminal.bad("in the log as something else:");
        terminal.line(format!("  {what} {identity} is {found} and should be {expected}"));
    }
    print_rest(terminal, accounting.misnamed.len());
}

/// What the merges could not apply, and where in Kafka the first of each kind is. Nothing where there is none.
pub(crate) async fn print_quarantine(terminal: &Terminal, pipeline: &Pipeline) -> Result<(), QueryError> {
    let quarantine = &pipeline.config.quarantine_table;
    // One row of the final table is in quarantine once per merge that met it.
    let statement = format!(
        "SELECT CONCAT(`source_schema`, '.', `source_table`) AS `table`, `column`, `reason`, \
         COUNT(DISTINCT CONCAT(`kafka_topic`, '-', CAST(`kafka_partition` AS STRING), '@', CAST(`kafka_offset` AS STRING))) AS `records`, \
         MIN(CONCAT(`kafka_topic`, '-', CAST(`kafka_partition` AS STRING), '@', CAST(`kafka_offset` AS STRING))) AS `example`\n\
         FROM `{quarantine}` GROUP BY `table`, `column`, `reason` ORDER BY `table`, `column`, `reason`"
    );
    let found = match pipeline.bigquery.query(&statement).await {
        Err(QueryError::Refused { status: 404, .. }) => return Ok(()),
        other => other?,
    };
    if found.rows.is_empty() {
        return Ok(());
    }
    terminal.line("");
    terminal.line(terminal.bold(&format!("Quarantined, {quarantine}")));
    let widths = [30, 24, 60, 9, 30];
    let rows: Vec<Vec<String>> = found
        .rows
        .iter()
        .take(SHOWN)
        .map(|row| {
            row.iter()
                .zip(widths)
                .map(|(cell, width)| terminal::fitted(cell.as_deref().unwrap_or("-"), width))
                .collect()
        })
        .collect();
    let headers = ["source", "column", "reason", "records", "for example"];
    let aligns = [Align::Left, Align::Left, Align::Left, Align::Right, Align::Left];
    terminal.table(&headers, &aligns, &rows);
    print_rest(terminal, found.rows.len());
    Ok(())
}

pub(crate) fn print_rest(terminal: &Terminal, all: usize) {
    let rest = all.saturating_sub(SHOWN);
    if rest > 0 {
        terminal.line(format!("  … and {} more", grouped(rest)));
    }
}

pub(crate) fn print_functions(terminal: &Terminal, pipeline: &Pipeline) {
    let (ingest, merge) = pipeline.time_spent();
    let row = |function: &Function, time: TimeSpent| {
        vec![
            function.name().to_owned(),
            grouped(usize::try_from(time.invocations).unwrap_or(usize::MAX)),
            terminal::duration(time.total),
            terminal::duration(time.longest),
            terminal::memory(function.peak_memory()),
        ]
    };
    terminal.line(terminal.bold("Functions"));
    terminal.table(
        &["function", "invocations", "time", "longest", "peak memory"],
        &[Align::Left, Align::Right, Align::Right, Align::Right, Align::Right],
        &[row(&pipeline.ingest, ingest), row(&pipeline.merge, merge)],
    );
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_and_keep_the_last_outcome_that_says_something() {
        let answer = |outcome: &str, inserted| MergedTable {
            table: "shop.orders".to_owned(),
            outcome: outcome.to_owned(),
            inserted,
            ..MergedTable::default()
        };
        let mut totals = MergeTotals::default();
        for table in [answer("merged", 3), answer("merged", 4), answer("idle", 0)] {
            totals.add(vec![table]);
        }
        let total = totals.tables.get("shop.orders").unwrap();
        assert_eq!((total.inserted, total.outcome.as_str()), (7, "merged"));
        assert!(!totals.any_failed());
        totals.add(vec![answer("failed", 0)]);
        assert!(totals.any_failed());
    }
}
