//! The plan: one small query over the log since the ledger's furthest entry. It reads no row image, and says which
//! tables have news and which offsets the run covers. It must never miss a record that became visible late.

use std::collections::BTreeMap;

use crate::log::{DEFINE_TABLE, TRUNCATE, kept_out_table};
use crate::names::{NameError, SourceTable, TableName, string_literal};

use super::coverage::{Coverage, OffsetRange, not_covered};
use super::epoch::SENT;
use super::fold::timestamp_literal;

/// What the log holds beyond what the ledger covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The tables with news.
    pub tables: BTreeMap<SourceTable, News>,
    /// All offsets that the plan saw, merged ones of the reach-back included.
    pub seen: Vec<OffsetRange>,
    /// The newest `ingested_at` that the plan saw, in µs; `None`: the log had no rows there.
    pub window_to_us: Option<i64>,
    /// The ledger has other entries than the plan was asked with, so it is worth nothing.
    pub is_outdated: bool,
}

/// One table's news. Times in µs since the epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// Changes that are not merged yet.
    pub changes: i64,
    /// Records among the news that define the table or add to it.
    pub definitions: i64,
    /// Records among the news that alter what is there, such as `rename-column`.
    pub alterations: i64,
    /// When each `create-table` and `drop-table` record among the news was sent: a full load may begin there.
    pub starts: Vec<i64>,
    /// When the newest loaded row among the news was sent.
    pub newest_load_us: Option<i64>,
    /// When the oldest change among the news was sent, loaded rows included.
    pub oldest_emitted_us: Option<i64>,
    /// When the oldest insert, update or delete among the news was sent.
    pub oldest_change_us: Option<i64>,
    /// `ingested_at` of the oldest news.
    pub from_us: i64,
    /// The lowest position among the changes.
    pub lowest_position: Option<String>,
    /// The oldest time at which one of the changes was committed or sent; `None`: one of them has neither.
    pub oldest_commit_us: Option<i64>,
    /// The newest commit time among the changes.
    pub newest_commit_us: Option<i64>,
    /// When the newest insert, update or delete among the news was sent.
    pub newest_change_us: Option<i64>,
    /// When each record of a table that was emptied was sent, and its position.
    pub truncated: Vec<(i64, String)>,
}

/// Control records that define a table or add to it (AWS DMS user guide, "Control records"); the last is what Debezium's records say of
/// themselves.
pub const DEFINITIONS: [&str; 3] = ["create-table", "add-column", DEFINE_TABLE];
/// Control records that DMS sends at the start of every full load (same page).
pub(super) const STARTS: [&str; 2] = ["create-table", "drop-table"];
/// Control records that alter what is there (same page).
pub(super) const ALTERATIONS: [&str; 5] =
    ["drop-column", "rename-column", "column-type-change", "change-columns", "rename-table"];

/// Records of a table that was emptied: Debezium's, and what DMS would call it.
const TRUNCATES: [&str; 2] = [TRUNCATE, "truncate-table"];

/// A plan row that is not of the form that the query yields.
#[derive(Debug, thiserror::Error)]
#[error("a row of the plan cannot be read: {what}")]
pub struct PlanRowError {
    what: &'static str,
}

/// The plan's query. One pass over the log's narrow columns yields two kinds of rows: one per source table, and one per
/// range of consecutive offsets. With `only`, it looks at one source table, whose coverage is not the others'. With `if_ledger_moved`, the
/// end of a query for one row, it says whether that row is there.
pub fn query(
    project: &str,
    log: &TableName,
    covered: &Coverage,
    only: Option<&SourceTable>,
    if_ledger_moved: Option<&str>,
) -> Result<String, NameError> {
    let since = covered
        .open_from_us()
        .map_or_else(|| "TRUE".to_owned(), |from| format!("`ingested_at` >= {}", timestamp_literal(from)));
    // Offsets that are not in the log on purpose would look like gaps.
    let kept_out = match only {
        Some(_) => String::new(),
        None => format!(
            "\nUNION ALL\n\
             SELECT '', '', '', '', NULL, NULL, `ingested_at`, `kafka_topic`, `kafka_partition`, `kafka_offset`\n\
             FROM {}, UNNEST(GENERATE_ARRAY(`first_offset`, `last_offset`)) AS `kafka_offset`\n\
             WHERE {since}",
            kept_out_table(log).quoted(project)?
        ),
    };
    let only = only.map_or_else(String::new, |source| {
        format!(
            "\nAND `source_schema` = {} AND `source_table` = {}",
            string_literal(&source.schema),
            string_literal(&source.table)
        )
    });
    let moved = if_ledger_moved.map_or_else(String::new, |end| {
        // The texts' types have to be said: to Google, NULL beside an aggregate is an INT64.
        format!(
            "\nUNION ALL\n\
             SELECT {text}, {text}, {text}, NULL, NULL, NULL, 0, 0, 0, {text}, NULL, NULL, NULL, NULL, {text}, NULL, 0, NULL, NULL, {text}, \
             UNIX_MICROS(MAX(`recorded_at`))\n\
             {end}",
            text = "CAST(NULL AS STRING)"
        )
    });
    let is_change = "`is_new` AND `operation` IN ('load', 'insert', 'update', 'delete')";
    Ok(format!(
        "WITH `records` AS (\n\
         SELECT `source_schema`, `source_table`, `operation`, `position`, `committed_at`, `emitted_at`, `ingested_at`, \
         `kafka_topic`, `kafka_partition`, `kafka_offset`\n\
         FROM {log}\n\
         WHERE {since}{only}{kept_out}\n\
         ),\n\
         `recent` AS (\n\
         SELECT *, {not_covered} AS `is_new`, \
         `kafka_offset` - DENSE_RANK() OVER (PARTITION BY `kafka_topic`, `kafka_partition` ORDER BY `kafka_offset`) AS `island`\n\
         FROM `records`\n\
         )\n\
         SELECT `source_schema`, `source_table`, `kafka_topic`, `kafka_partition`, \
         MIN(`kafka_offset`) AS `first`, MAX(`kafka_offset`) AS `last`, \
         COUNTIF({is_change}) AS `changes`, \
         COUNTIF(`is_new` AND `operation` IN ({definitions})) AS `definitions`, \
         COUNTIF(`is_new` AND `operation` IN ({alterations})) AS `alterations`, \
         STRING_AGG(IF(`is_new` AND `operation` IN ({starts}), CAST(UNIX_MICROS({SENT}) AS STRING), NULL), ',') AS `starts`, \
         UNIX_MICROS(MAX(IF(`is_new` AND `operation` = 'load', {SENT}, NULL))) AS `newest_load_us`, \
         UNIX_MICROS(MIN(IF({is_change}, {SENT}, NULL))) AS `oldest_emitted_us`, \
         UNIX_MICROS(MIN(IF({is_change} AND `operation` <> 'load', {SENT}, NULL))) AS `oldest_change_us`, \
         UNIX_MICROS(MIN(IF(`is_new`, `ingested_at`, NULL))) AS `from_us`, \
         MIN(IF({is_change}, `position`, NULL)) AS `lowest_position`, \
         UNIX_MICROS(MIN(IF({is_change}, LEAST(COALESCE(`committed_at`, `emitted_at`), COALESCE(`emitted_at`, `committed_at`)), NULL))) AS `oldest_us`, \
         COUNTIF({is_change} AND `committed_at` IS NULL AND `emitted_at` IS NULL) AS `timeless`, \
         UNIX_MICROS(MAX(IF({is_change}, `committed_at`, NULL))) AS `newest_commit_us`, \
         UNIX_MICROS(MAX(IF({is_change} AND `operation` <> 'load', {SENT}, NULL))) AS `newest_change_us`, \
         STRING_AGG(IF(`is_new` AND `operation` IN ({truncates}), CONCAT(CAST(UNIX_MICROS({SENT}) AS STRING), ' ', `position`), NULL), ',') AS `truncated`, \
         UNIX_MICROS(MAX(`ingested_at`)) AS `newest_us`\n\
         FROM `recent`\n\
         GROUP BY GROUPING SETS ((`source_schema`, `source_table`), (`kafka_topic`, `kafka_partition`, `island`)){moved}",
        not_covered = not_covered(covered),
        definitions = DEFINITIONS.map(string_literal).join(", "),
        alterations = ALTERATIONS.map(string_literal).join(", "),
        starts = STARTS.map(string_literal).join(", "),
        truncates = TRUNCATES.map(string_literal).join(", "),
        log = log.quoted(project)?,
    ))
}

impl Plan {
    /// The offsets between those that the plan saw: missing, or not visible yet. Empty for a partition in which every hole is
    /// one offset and there are many: a transactional producer's markers take them.
    pub fn holes(&self) -> Vec<OffsetRange> {
        const MARKERS_FROM: usize = 10;
        let mut by_partition: BTreeMap<(&str, i64), Vec<OffsetRange>> = BTreeMap::new();
        for (before, after) in self.seen.iter().zip(self.seen.iter().skip(1)) {
            if (&before.topic, before.partition) != (&after.topic, after.partition) {
                continue;
            }
            let (first, last) = (before.last.saturating_add(1), after.first.saturating_sub(1));
            if first <= last {
                let hole = OffsetRange { topic: before.topic.clone(), partition: before.partition, first, last };
                by_partition.entry((before.topic.as_str(), before.partition)).or_default().push(hole);
            }
        }
        by_partition
            .into_values()
            .filter(|holes| holes.len() < MARKERS_FROM || holes.iter().any(|hole| hole.first != hole.last))
            .flatten()
            .collect()
    }

    /// Reads the query's rows.
    pub fn from_rows(rows: &[Vec<Option<String>>]) -> Result<Self, PlanRowError> {
        let mut plan = Self::default();
        for row in rows {
            let [
                schema,
                table,
                topic,
                partition,
                first,
                last,
                changes,
                definitions,
                alterations,
                starts,
                newest_load_us,
                oldest_emitted_us,
                oldest_change_us,
                from_us,
                lowest_position,
                oldest_us,
                timeless,
                newest_commit_us,
                newest_change_us,
                truncated,
                newest_us,
            ] = row.as_slice()
            else {
                return Err(PlanRowError { what: "its columns" });
            };
            let number = |text: &Option<String>, what| {
                text.as_ref().map(|text| text.parse::<i64>().map_err(|_| PlanRowError { what })).transpose()
            };
            let required = |text: &Option<String>, what| number(text, what)?.ok_or(PlanRowError { what });
            if let Some(topic) = topic {
                plan.seen.push(OffsetRange {
                    topic: topic.clone(),
                    partition: required(partition, "kafka_partition")?,
                    first: required(first, "first")?,
                    last: required(last, "last")?,
                });
                plan.window_to_us = plan.window_to_us.max(number(newest_us, "newest_us")?);
                continue;
            }
            if schema.is_none() && table.is_none() {
                plan.is_outdated = true;
                continue;
            }
            let (changes, definitions) = (required(changes, "changes")?, required(definitions, "definitions")?);
            let alterations = required(alterations, "alterations")?;
            let starts = starts
                .as_deref()
                .unwrap_or_default()
                .split(',')
                .filter(|start| !start.is_empty())
                .map(|start| start.parse().map_err(|_| PlanRowError { what: "starts" }))
                .collect::<Result<Vec<i64>, _>>()?;
            let (Some(schema), Some(table)) = (schema, table) else {
                return Err(PlanRowError { what: "source table" });
            };
            let truncated = truncated
                .as_deref()
                .unwrap_or_default()
                .split(',')
                .filter(|truncated| !truncated.is_empty())
                .map(|truncated| {
                    let (sent, position) = truncated.split_once(' ')?;
                    Some((sent.parse().ok()?, position.to_owned()))
                })
                .collect::<Option<Vec<(i64, String)>>>()
                .ok_or(PlanRowError { what: "truncated" })?;
            if changes == 0 && definitions == 0 && alterations == 0 && starts.is_empty() && truncated.is_empty() {
                continue;
            }
            let source = SourceTable { schema: schema.clone(), table: table.clone() };
            let is_timeless = required(timeless, "timeless")? > 0;
            let news = News {
                changes,
                definitions,
                alterations,
                starts,
                newest_load_us: number(newest_load_us, "newest_load_us")?,
                oldest_emitted_us: number(oldest_emitted_us, "oldest_emitted_us")?,
                oldest_change_us: number(oldest_change_us, "oldest_change_us")?,
                from_us: required(from_us, "from_us")?,
                lowest_position: lowest_position.clone(),
                oldest_commit_us: if is_timeless { None } else { number(oldest_us, "oldest_us")? },
                newest_commit_us: number(newest_commit_us, "newest_commit_us")?,
                newest_change_us: number(newest_change_us, "newest_change_us")?,
                truncated,
            };
            plan.tables.insert(source, news);
        }
        // The order of a query's rows is not defined, and job ids are derived from these ranges.
        plan.seen.sort_by(|a, b| (&a.topic, a.partition, a.first).cmp(&(&b.topic, b.partition, b.first)));
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn row(cells: [&str; 21]) -> Vec<Option<String>> {
        cells.iter().map(|cell| (*cell != "-").then(|| (*cell).to_owned())).collect()
    }

    #[test]
    fn rows_of_both_kinds_are_told_apart() {
        let plan = Plan::from_rows(&[
            row([
                "shop",
                "orders",
                "-",
                "-",
                "0",
                "9",
                "4",
                "1",
                "0",
                "9,12",
                "14",
                "8",
                "9",
                "100",
                "p1",
                "50",
                "0",
                "60",
                "61",
                "9 0000-2-p1,12 0000-2-p2",
                "120",
            ]),
            row([
                "shop", "idle", "-", "-", "0", "9", "0", "0", "0", "-", "-", "-", "-", "-", "-", "-", "0", "-", "-",
                "-", "120",
            ]),
            row([
                "-", "-", "cdc", "1", "7", "9", "3", "0", "0", "-", "-", "8", "8", "100", "p1", "50", "0", "60", "-",
                "-", "119",
            ]),
            row([
                "-", "-", "cdc", "0", "0", "4", "3", "0", "0", "-", "-", "8", "8", "100", "p1", "50", "0", "60", "-",
                "-", "120",
            ]),
        ])
        .unwrap();
        assert_eq!(plan.tables.len(), 1);
        let news = plan.tables.values().next().unwrap();
        assert_eq!(news.starts, [9, 12]);
        assert_eq!(news.truncated, [(9, "0000-2-p1".to_owned()), (12, "0000-2-p2".to_owned())]);
        assert_eq!(plan.window_to_us, Some(120));
        assert_eq!(plan.seen.iter().map(|range| range.partition).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn holes_are_what_lies_between_the_ranges_of_one_partition() {
        let range = |partition, first, last| OffsetRange { topic: "cdc".into(), partition, first, last };
        let plan = |seen| Plan { seen, ..Plan::default() };
        let seen = vec![range(0, 0, 4), range(0, 7, 9), range(1, 20, 30)];
        assert_eq!(plan(seen).holes(), [range(0, 5, 6)]);
        let transactional: Vec<_> = (0..12).map(|i| range(0, i * 5, i * 5 + 3)).collect();
        assert_eq!(plan(transactional).holes(), []);
    }

    #[test]
    fn a_change_without_any_time_leaves_the_oldest_commit_unknown() {
        let plan = Plan::from_rows(&[row([
            "shop", "orders", "-", "-", "0", "9", "4", "1", "0", "9,12", "14", "8", "9", "100", "p1", "50", "1", "60",
            "-", "-", "120",
        ])])
        .unwrap();
        assert_eq!(plan.tables.values().next().unwrap().oldest_commit_us, None);
    }
}
