//! The two views that hold the log against Kafka's offsets: the holes in it, and what is in it more than once. Offsets of
//! a partition are consecutive, so what was never delivered shows. They are for a person (or an alarm): no merge waits for
//! what they say. They must never take a redelivered or deliberately kept out record for a hole, and show no row value.

use crate::log::table::kept_out_table;
use crate::names::{NameError, TableName, string_literal};

use super::coverage::REACH_BACK_US;

/// From this many holes on, a partition's holes may be the topic's nature. Losses come one by one; a transactional or
/// compacted topic has holes everywhere.
const HOLES_BY_NATURE: u32 = 10;
/// A compacted topic lacks at least one offset in so many. Compaction that removes less is not worth its name, and a loss
/// that large is no longer told by its holes anyway.
const COMPACTED_ONE_IN: u32 = 10;
/// A topic that is made anew counts from 0 again, and what is left of the old one in the log is above a hole that nobody
/// lost. The old offsets were taken in longer before the new ones than a window of the merge reaches back; records that
/// merely came in another order were not.
const MADE_ANEW_AFTER_MINUTES: i64 = REACH_BACK_US / 60_000_000;
/// Near the end of its life in the log a record's offset says nothing: of two neighbours one may have been taken in, or
/// taken in again, later, and outlives the other. A redelivery is not as late as this, in hours, without bringing all
/// that followed with it.
const LATE_COPY_HOURS: u32 = 24;

/// What the view of a log's holes is called: `cdc.log_gaps` of `cdc.log`.
#[must_use]
pub fn gaps_view(log: &TableName) -> TableName {
    beside(log, "gaps")
}

/// What the view of what is in a log more than once is called: `cdc.log_duplicates` of `cdc.log`.
#[must_use]
pub fn duplicates_view(log: &TableName) -> TableName {
    beside(log, "duplicates")
}

fn beside(log: &TableName, what: &str) -> TableName {
    TableName { dataset: log.dataset.clone(), table: format!("{}_{what}", log.table) }
}

/// The statement that makes [`gaps_view`]. It replaces an older version's; running it again changes nothing. The log and
/// its [`kept_out_table`] have to be there.
///
/// Every delivered offset stands for itself and lays claim to the places before and after it. The places that only
/// neighbours name are the edges of the holes: sorting them, rather than the log, keeps the query's cost that of one
/// aggregation however long a partition is.
///
/// # Errors
/// When a name cannot be quoted.
pub fn create_gaps_view(project: &str, log: &TableName, retention_days: u32) -> Result<String, NameError> {
    let retention_hours = retention_days.saturating_mul(24);
    let shown_for_hours = retention_hours.saturating_sub(LATE_COPY_HOURS.min(retention_hours / 2));
    let description = format!(
        "Kafka offsets between the lowest and the highest one of each partition in the log that are neither in the log nor \
         noted as kept out of it. kind: `transaction markers` if the partition has at least {HOLES_BY_NATURE} holes and each \
         is a single offset; `compaction` if it has at least {HOLES_BY_NATURE} holes, not all single, and they are at least \
         one in {COMPACTED_ONE_IN} of its offsets; `topic made anew` if the hole lies between the offsets of a topic, \
         counted from 0, and those that one of the same name had over {MADE_ANEW_AFTER_MINUTES} minutes before; else `missing`: a record that was never taken in. A batch that is on its \
         way or being delivered again looks missing until it has come: see before_ingested_at. A hole is shown for \
         {shown_for_hours} hours after the record before it was taken in."
    );
    let partition = "PARTITION BY `kafka_topic`, `kafka_partition`";
    let next = |column: &str| format!("LEAD(`{column}`) OVER ({partition} ORDER BY `place`)");
    Ok(format!(
        "CREATE OR REPLACE VIEW {view}\n\
         OPTIONS (description = {description})\n\
         AS\n\
         WITH `delivered` AS (\n\
         SELECT `kafka_topic`, `kafka_partition`, `kafka_offset`, `ingested_at`\n\
         FROM {log}\n\
         UNION ALL\n\
         SELECT `kafka_topic`, `kafka_partition`, `kafka_offset`, `ingested_at`\n\
         FROM {kept_out}, UNNEST(GENERATE_ARRAY(`first_offset`, `last_offset`)) AS `kafka_offset`\n\
         ),\n\
         `edges` AS (\n\
         SELECT `kafka_topic`, `kafka_partition`, `kafka_offset` + `step` AS `place`, \
         MIN(IF(`step` = 1, `ingested_at`, NULL)) AS `after_ingested_at`, \
         MIN(IF(`step` = -1, `ingested_at`, NULL)) AS `before_ingested_at`\n\
         FROM `delivered`, UNNEST([-1, 0, 1]) AS `step`\n\
         GROUP BY `kafka_topic`, `kafka_partition`, `place`\n\
         HAVING COUNTIF(`step` = 0) = 0\n\
         ),\n\
         `paired` AS (\n\
         SELECT `kafka_topic`, `kafka_partition`, `place` AS `first_missing`, \
         IF(`before_ingested_at` IS NULL, {next_place}, `place`) AS `last_missing`, \
         `after_ingested_at`, \
         IF(`before_ingested_at` IS NULL, {next_before}, `before_ingested_at`) AS `before_ingested_at`, \
         FIRST_VALUE(`before_ingested_at`) OVER ({partition} ORDER BY `place`) AS `lowest_ingested_at`, \
         MIN(`place`) OVER ({partition}) + 1 AS `lowest`, MAX(`place`) OVER ({partition}) - 1 AS `highest`\n\
         FROM `edges`\n\
         ),\n\
         `holes` AS (\n\
         SELECT *, `last_missing` - `first_missing` + 1 AS `missing`, \
         `lowest` = 0 AND `lowest_ingested_at` <= `after_ingested_at` AND \
         `lowest_ingested_at` > TIMESTAMP_ADD(`before_ingested_at`, INTERVAL {MADE_ANEW_AFTER_MINUTES} MINUTE) AS `is_made_anew`\n\
         FROM `paired`\n\
         WHERE `before_ingested_at` IS NOT NULL \
         AND `after_ingested_at` >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL {shown_for_hours} HOUR)\n\
         ),\n\
         `counted` AS (\n\
         SELECT *, \
         COUNTIF(NOT `is_made_anew`) OVER ({partition}) AS `holes`, \
         MAX(IF(`is_made_anew`, 0, `missing`)) OVER ({partition}) AS `longest`, \
         SUM(IF(`is_made_anew`, 0, `missing`)) OVER ({partition}) AS `all_missing`\n\
         FROM `holes`\n\
         )\n\
         SELECT `kafka_topic`, `kafka_partition`, `first_missing`, `last_missing`, `missing`, `after_ingested_at`, \
         `before_ingested_at`, \
         CASE WHEN `is_made_anew` THEN 'topic made anew' \
         WHEN `holes` >= {HOLES_BY_NATURE} AND `longest` = 1 THEN 'transaction markers' \
         WHEN `holes` >= {HOLES_BY_NATURE} AND `all_missing` * {COMPACTED_ONE_IN} >= `highest` - `lowest` + 1 THEN 'compaction' \
         ELSE 'missing' END AS `kind`\n\
         FROM `counted`",
        view = gaps_view(log).quoted(project)?,
        description = string_literal(&description),
        log = log.quoted(project)?,
        kept_out = kept_out_table(log).quoted(project)?,
        next_place = next("place"),
        next_before = next("before_ingested_at"),
    ))
}

/// The statement that makes [`duplicates_view`]. It replaces an older version's; running it again changes nothing.
///
/// # Errors
/// When a name cannot be quoted.
pub fn create_duplicates_view(project: &str, log: &TableName) -> Result<String, NameError> {
    let description = "Records that are in the log more than once. kind: `delivered again` if one Kafka record (topic, partition, \
                       offset) is there `copies` times, from redelivery or an append whose answer was lost; `sent again` if \
                       one change of the source (position) is there at `copies` offsets, each of which has its row here, \
                       from DMS sending it again. Neither changes a final table.";
    // Class 2 is the source's own order (see `crate::position`). A position that ends in a time and an offset, because the
    // source's order is not fully known, is never the same twice: what has one is not found. Debezium sends a changed key as
    // a delete and an insert at one position, which are two changes.
    let source_position = string_literal("____-2-%");
    let identity = "`kafka_topic`, `kafka_partition`, `kafka_offset`";
    let record = "`source_schema`, `source_table`, `operation`, `position`";
    let described = format!("{record}, `first_ingested_at`, `last_ingested_at`");
    Ok(format!(
        "CREATE OR REPLACE VIEW {view}\n\
         OPTIONS (description = {description})\n\
         AS\n\
         WITH `records` AS (\n\
         SELECT {identity}, {record}, \
         COUNT(*) AS `copies`, MIN(`ingested_at`) AS `first_ingested_at`, MAX(`ingested_at`) AS `last_ingested_at`\n\
         FROM {log}\n\
         GROUP BY {identity}, {record}\n\
         ),\n\
         `changes` AS (\n\
         SELECT *, COUNT(*) OVER (PARTITION BY `source_schema`, `source_table`, `operation`, `position`) AS `offsets`\n\
         FROM `records`\n\
         WHERE `position` LIKE {source_position}\n\
         )\n\
         SELECT 'delivered again' AS `kind`, {identity}, `copies`, {described}\n\
         FROM `records`\n\
         WHERE `copies` > 1\n\
         UNION ALL\n\
         SELECT 'sent again' AS `kind`, {identity}, `offsets` AS `copies`, {described}\n\
         FROM `changes`\n\
         WHERE `offsets` > 1",
        view = duplicates_view(log).quoted(project)?,
        description = string_literal(description),
        log = log.quoted(project)?,
    ))
}
