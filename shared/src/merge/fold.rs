//! The fold: what a window of the log comes to for each key of one table, written to a short-lived table from which the
//! MERGE reads. Everything that decides which change wins is in this statement; it must order by position alone, and
//! must never let a value through that its column cannot hold exactly.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{AbsentColumns, Deletes};
use crate::debezium::{
    BY_DEFINITION, BY_DEFINITION_UNAVAILABLE, DEFINED, PARTIAL, SELF_DESCRIBED, SELF_DESCRIBING,
    SELF_DESCRIBING_UNAVAILABLE, UNAVAILABLE, WITHOUT_SCHEMA_BEGINS,
};
use crate::names::{NameError, NameHeld, SourceTable, TableName, fingerprint, member_path_literal, string_literal};
use crate::position::NO_EPOCH;

use super::coverage::{Coverage, OffsetRange, not_covered};
use super::delta::Share;
use super::epoch::{Epochs, SENT};
use super::final_table::{EncodedSince, FinalColumn, FinalTable, SelfDescribing, WithoutSchemaRead};
use super::types::ColumnType;

/// A run that dies leaves its fold and its delta behind; BigQuery removes them after this many hours.
pub(super) const EXPIRY_HOURS: u32 = 24;
/// DMS's `add-before-image-columns` rule puts a before-image's columns beside the new ones under this prefix (AWS DMS user guide).
const BEFORE_IMAGE_PREFIX: &str = "BI_";
/// How far before the oldest commit in the window a change with a higher position may have been ingested: clocks of source,
/// DMS and Lambda differ, and a full load's message is sent long after its row was read. In µs.
const LOOK_BACK_MARGIN_US: i64 = 6 * 60 * 60 * 1_000_000;

/// What is folded.
#[derive(Debug, Clone, Copy)]
pub struct FoldRequest<'a> {
    /// Google Cloud project.
    pub project: &'a str,
    /// The log.
    pub log: &'a TableName,
    /// Where the fold goes; see [`fold_table`].
    pub fold: &'a TableName,
    /// The source table.
    pub source: &'a SourceTable,
    /// The final table.
    pub table: &'a FinalTable,
    /// `ingested_at` of the window's oldest record, in µs; `None`: from the log's beginning.
    pub window_from_us: Option<i64>,
    /// `ingested_at` of the window's newest record, in µs.
    pub window_to_us: i64,
    /// What of the window is merged already.
    pub covered: &'a Coverage,
    /// Whether, and from where, records that are merged already are read again, because a key may be late.
    pub look_back: LookBack,
    /// What a column missing from an image means; where images may be partial, see [`Self::is_absent_unchanged`].
    pub absent: AbsentColumns,
    /// What a delete does.
    pub deletes: Deletes,
    /// The table's epochs.
    pub epochs: &'a Epochs,
    /// The highest position merged before.
    pub highest_position: Option<&'a str>,
    /// Records from before this time, in µs, may be younger than what the log has let expire; `None`: nothing has expired.
    pub expired_before_us: Option<i64>,
    /// Whether what is merged already is merged again.
    pub is_again: bool,
    /// The copy of the log's rows from which they are read; `None`: they are read from the log.
    pub share: Option<Share<'a>>,
}

impl FoldRequest<'_> {
    /// Whether a column that an image lacks may keep its value: by configuration in any image, else in those that say so themselves
    /// (PostgreSQL's TOAST by Debezium).
    fn is_absent_unchanged(&self) -> bool {
        absent_of(self.absent, self.table) == AbsentColumns::Unchanged
    }
}

/// What a column missing from an image of a table may mean.
pub fn absent_of(configured: AbsentColumns, table: &FinalTable) -> AbsentColumns {
    if table.has_partial_images { AbsentColumns::Unchanged } else { configured }
}

/// How much of the log before the window a fold reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LookBack {
    /// None: every new position is above every merged one, so no key can be late.
    None,
    /// From this `ingested_at` on, in µs.
    From(i64),
    /// All that is retained.
    Everything,
}

impl LookBack {
    /// The `ingested_at` from which on a fold of a window that begins at `window_from_us` reads, in µs; `None`: from the log's beginning.
    pub(super) fn reads_from(self, window_from_us: Option<i64>) -> Option<i64> {
        match self {
            Self::None => window_from_us,
            Self::From(from) => window_from_us.map(|window_from| window_from.min(from)),
            Self::Everything => None,
        }
    }

    /// How far to look back for a window whose lowest position and oldest commit time are given.
    ///
    /// A change above a late record's position was committed after it, hence ingested after its commit. Where images
    /// may be partial, a late key is folded from nothing, which needs all that is retained.
    pub fn needed(
        lowest_position: Option<&str>,
        highest_merged: Option<&str>,
        oldest_commit_us: Option<i64>,
        absent: AbsentColumns,
    ) -> Self {
        let Some(highest_merged) = highest_merged else {
            return Self::None;
        };
        if lowest_position.is_some_and(|lowest| lowest > highest_merged) {
            return Self::None;
        }
        match (absent, oldest_commit_us) {
            (AbsentColumns::Null, Some(oldest)) => Self::From(oldest.saturating_sub(LOOK_BACK_MARGIN_US)),
            _ => Self::Everything,
        }
    }
}

/// The short-lived table that holds the fold of one piece of work, beside the log. Two runs that fold different windows
/// never share one, so neither can merge the other's.
pub fn fold_table(log: &TableName, work_key: &str) -> TableName {
    TableName { dataset: log.dataset.clone(), table: format!("_strait_fold_{work_key}") }
}

/// What identifies a piece of work: the same table, window, schema, modes and visible records give the same key, from
/// which the job ids are derived. `seen` tells apart two runs between which a record of the same window became visible.
pub fn work_key(request: &FoldRequest<'_>, seen: &[OffsetRange]) -> Result<String, NameError> {
    let placeholder = fold_table(request.log, "");
    // From wherever it is read, the work is the same.
    let mut work = statement(&FoldRequest { fold: &placeholder, share: None, ..*request })?;
    for range in seen {
        work.push_str(&format!("\n{} {} {} {}", range.topic, range.partition, range.first, range.last));
    }
    Ok(fingerprint(&work, 24))
}

/// The name of the fold's column for the final table's column at this place.
pub(super) fn value_column(place: usize) -> String {
    format!("`c{place}`")
}

/// The name of the fold's flag that says whether a column's value is known, where images may be partial.
pub(super) fn known_column(place: usize) -> String {
    format!("`known{place}`")
}

/// A TIMESTAMP literal of µs since the epoch.
pub(super) fn timestamp_literal(us: i64) -> String {
    // Only a corrupt ledger can hold a time outside the calendar; the nearest bound then reads more, not less.
    let timestamp = Timestamp::from_microsecond(us).unwrap_or(if us < 0 { Timestamp::MIN } else { Timestamp::MAX });
    format!("TIMESTAMP '{}'", timestamp.strftime("%Y-%m-%d %H:%M:%S.%6f+00"))
}

/// The statement that writes the fold. Its rows are of two kinds: one per key, with the key's state after the window, and
/// one per record that cannot be applied (`flaw_reason` is not NULL).
///
/// | column | |
/// |---|---|
/// | `c0`, `c1`, … | the final table's columns, typed |
/// | `known0`, … | whether the value is known (only where absent means unchanged) |
/// | `position`, `deleted`, `has_image` | of the key's newest change; whether the columns hold an image |
/// | `records`, `newest`, `late` | records of the window behind this row, their highest position, whether the key was late |
/// | `raised_committed`, `raised_emitted` | when the newest of them that are above all merged ones were committed and sent |
/// | `anew`, `anew_from` | records whose source's numbering has begun anew, and when the first of them was sent |
/// | `beyond_log` | whether a newer change of the row may have expired in the log: it must not be inserted |
/// | `flaw_column`, `flaw_reason`, `key_text`, `kafka_topic`, `kafka_partition`, `kafka_offset` | of a record that cannot be applied |
/// | `ingested_at` | of the record whose image the row takes, or that cannot be applied |
/// | `unknown`, `unknown_too` | names of members that the table has no column for, as JSON arrays |
pub fn statement(request: &FoldRequest<'_>) -> Result<String, NameError> {
    let FoldRequest { project, log, source, table, .. } = *request;
    let parts = Parts::of(request);
    let by_key = format!("PARTITION BY `flaw` IS NULL, {}", parts.keys.join(", "));
    let newest_first = "ORDER BY `position` DESC, `deleted`, `kafka_offset` DESC";
    let whole_key = "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING";
    let highest = string_literal(request.highest_position.unwrap_or_default());
    let raises = format!("`is_new` AND NOT `is_old_key` AND `position` > {highest}");
    let began_anew = request.epochs.began_anew_sql(request.highest_position);
    let anew = format!(
        "`is_new` AND ({}{})",
        began_anew.map_or_else(String::new, |began_anew| format!("NOT `is_old_key` AND {began_anew} OR ")),
        Epochs::began_anew_in_window_sql()
    );
    let sent_before =
        format!("OVER ({by_key} ORDER BY UNIX_MICROS(`sent`) RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)");
    // A change that is newer than a late one was committed after it, hence ingested after it: all of them are retained
    // if the late one was itself committed within the retention.
    let expired_before_us = request.expired_before_us.filter(|_| !table.is_keyless);
    let beyond_log = expired_before_us.map_or_else(
        || "FALSE".to_owned(),
        |expired| {
            let is_beyond = is_sent_before(request, expired.saturating_add(LOOK_BACK_MARGIN_US));
            format!("FIRST_VALUE({is_beyond}) OVER ({by_key} {newest_first} {whole_key})")
        },
    );
    // One that was sent again outlives in the log those that were sent after it, which may have had another value of a column.
    let outlives = match parts.beyond_log {
        Some(expired) => {
            format!("\nWHERE `is_new` OR NOT ({})", is_sent_before(request, expired))
        }
        None => String::new(),
    };
    // Where images may be partial, an update after a delete makes no row before the insert between them has come. What is gone from the source is
    // as good as deleted.
    let gone = request.epochs.gone();
    let is_ended = match &gone {
        None => "`deleted`".to_owned(),
        Some(gone) => format!("(`deleted` OR `position` < {})", string_literal(&gone.below)),
    };
    let absent = absent_of(request.absent, table);
    let (ends, key_is_deleted) = match absent {
        AbsentColumns::Null => (String::new(), "`key_deleted`"),
        AbsentColumns::Unchanged => (
            format!(
                ",\nMAX(IF({is_ended}, `position`, NULL)) OVER ({by_key}) AS `key_ended`,\n\
                 MAX(IF({is_ended} OR `operation` = 'update' AND NOT ({}) AND ({}), NULL, `position`)) OVER ({by_key}) AS `key_begun`",
                parts.key_changed.join(" OR "),
                parts.is_partial
            ),
            "(`key_deleted` OR COALESCE(`key_ended` > COALESCE(`key_begun`, ''), FALSE))",
        ),
    };
    // A row takes its newest image alone, unless images may be partial: then an older one may hold what it lacks.
    let (unknown_of_key, unknown) = match absent {
        AbsentColumns::Null => {
            (String::new(), "`unknown_members` AS `unknown`, CAST(NULL AS STRING) AS `unknown_too`".to_owned())
        }
        AbsentColumns::Unchanged => (
            format!(
                ",\nMIN(`unknown_members`) OVER ({by_key}) AS `unknown`, MAX(`unknown_members`) OVER ({by_key}) AS `unknown_too`"
            ),
            "`unknown`, `unknown_too`".to_owned(),
        ),
    };
    // Once a load is complete, what is older than it is gone from the source, unless the load brought it; and what is older than a TRUNCATE.
    let (key_position, key_deleted) = match &gone {
        None => ("`key_position`".to_owned(), key_is_deleted.to_owned()),
        Some(gone) => (
            match table.is_keyless {
                // It is what tells the row from others.
                true => "`key_position`".to_owned(),
                false => format!("GREATEST(`key_position`, {})", string_literal(&gone.since)),
            },
            format!("({key_is_deleted} OR `key_position` < {})", string_literal(&gone.below)),
        ),
    };
    let position = if table.is_keyless { keyless_position(request.epochs) } else { request.epochs.position_sql() };
    let is_encoded_by_time = matches!(&table.without_schema, WithoutSchemaRead::ByDefinition(encodings) if encodings.changes().next().is_some());
    let mut first_sent = match table.is_told_by_time() || is_encoded_by_time {
        true => format!(", MIN({SENT}) OVER (PARTITION BY {position}) AS `first_sent`"),
        false => String::new(),
    };
    if matches!(table.without_schema, WithoutSchemaRead::ByDefinition(_)) {
        first_sent.push_str(&format!(", COALESCE(`error`, '') IN ({}) AS {IS_DEFINED}", literals(&DEFINED)));
    }
    let carried = parts
        .carried
        .iter()
        .map(|(expression, alias)| {
            format!(",\nFIRST_VALUE({expression} IGNORE NULLS) OVER ({by_key} {newest_first} {whole_key}) AS {alias}")
        })
        .collect::<String>();
    Ok(format!(
        "CREATE OR REPLACE TABLE {fold}\n\
         OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {EXPIRY_HOURS} HOUR))\n\
         AS\n\
         WITH `read` AS (\n\
         SELECT `operation`, {position} AS `position`, `_strait_log`.`position` AS `log_position`, {data} AS `data`, {before} AS `before`, \
         `error`, `kafka_topic`, `kafka_partition`, `kafka_offset`, `committed_at`, {SENT} AS `sent`{first_sent}, `ingested_at`, {is_new} AS `is_new`\n\
         FROM {rows} AS `_strait_log`\n\
         WHERE {partition}{bounds}\n\
         AND `source_schema` = {schema} AND `source_table` = {source_table}\n\
         AND `operation` IN ('load', 'insert', 'update', 'delete')\n\
         QUALIFY ROW_NUMBER() OVER (PARTITION BY `kafka_topic`, `kafka_partition`, `kafka_offset`, `_strait_log`.`position` ORDER BY `ingested_at`) = 1\n\
         ),\n\
         `text` AS (\n\
         SELECT * EXCEPT (`before`), {texts}, IF(`is_new` AND `operation` <> 'delete', {unknown_members}, NULL) AS `unknown_members`\n\
         FROM `read`\n\
         ),\n\
         `split` AS (\n\
         SELECT `text`.*, `is_old_key`, `is_old_key` OR `operation` = 'delete' AS `deleted`, {key_texts}\n\
         FROM `text`, UNNEST(IF(`operation` = 'update' AND ({key_changed}), [FALSE, TRUE], [FALSE])) AS `is_old_key`\n\
         ),\n\
         `typed` AS (\n\
         SELECT *,\n{typed}\n\
         FROM `split`\n\
         ),\n\
         `checked` AS (\n\
         SELECT *, CASE {flaws} END AS `flaw`\n\
         FROM `typed`{outlives}\n\
         ),\n\
         `sent_in_turn` AS (\n\
         SELECT *, MAX(`position`) {sent_before} AS `earlier_position`, MAX(`committed_at`) {sent_before} AS `earlier_committed`\n\
         FROM `checked`\n\
         ),\n\
         `ranked` AS (\n\
         SELECT *,\n\
         COUNTIF(`is_new` AND NOT `is_old_key`) OVER ({by_key}) AS `key_records`,\n\
         MAX(IF(`is_new`, `position`, NULL)) OVER ({by_key}) AS `key_newest`,\n\
         MIN(IF(`is_new`, `position`, NULL)) OVER ({by_key}) AS `key_lowest_new`,\n\
         MAX(IF(`is_new`, NULL, `position`)) OVER ({by_key}) AS `key_highest_old`,\n\
         MAX(`position`) OVER ({by_key}) AS `key_position`,\n\
         MIN(`position`) OVER ({by_key}) AS `key_lowest`,\n\
         MIN(IF(`operation` IN ({adding}), `position`, NULL)) OVER ({by_key}) AS `key_added`,\n\
         MAX(IF({raises}, `committed_at`, NULL)) OVER ({by_key}) AS `raised_committed`,\n\
         MAX(IF({raises}, `sent`, NULL)) OVER ({by_key}) AS `raised_emitted`,\n\
         COUNTIF({anew}) OVER ({by_key}) AS `anew`,\n\
         MIN(IF({anew}, `sent`, NULL)) OVER ({by_key}) AS `anew_from`,\n\
         {beyond_log} AS `key_beyond_log`,\n\
         FIRST_VALUE(`deleted`) OVER ({by_key} {newest_first} {whole_key}) AS `key_deleted`{ends}{unknown_of_key}{carried}\n\
         FROM `sent_in_turn`\n\
         WHERE TRUE\n\
         QUALIFY IF(`flaw` IS NULL, `key_newest` IS NOT NULL AND ROW_NUMBER() OVER ({by_key} ORDER BY {survivor}) = 1, `is_new` AND NOT `is_old_key`)\n\
         )\n\
         SELECT {values},\n\
         IF(`flaw` IS NULL, {key_position}, `log_position`) AS `position`, {key_deleted} AS `deleted`, NOT `deleted` AS `has_image`,\n\
         `key_added` = `key_lowest`{unless_deleted} AS `adds`, IF(`flaw` IS NULL, `key_records`, 1) AS `records`, `key_newest` AS `newest`,\n\
         `flaw` IS NULL AND COALESCE(`key_highest_old` >= `key_lowest_new`, FALSE) AS `late`,\n\
         `raised_committed`, `raised_emitted`, `anew`, `anew_from`, `flaw` IS NULL AND `key_beyond_log` AND NOT {key_deleted} AS `beyond_log`,\n\
         CASE {flaw_place}{flaw_columns} END AS `flaw_column`,\nCASE {flaw_reasons} END AS `flaw_reason`,\n{key_text} AS `key_text`,\n\
         `kafka_topic`, `kafka_partition`, `kafka_offset`, `ingested_at`, {unknown}\n\
         FROM `ranked`",
        fold = request.fold.quoted(project)?,
        rows = request.share.map_or(log, |share| share.delta).quoted(project)?,
        partition = request.share.map_or_else(String::new, |share| format!("{} AND ", share.condition())),
        data = readable("`data`", &is_no_fault(table, request.is_absent_unchanged())),
        before = readable("`before`", &is_no_fault(table, request.is_absent_unchanged())),
        // While a load is under way its rows are most likely there: it is the table's second.
        adding = match request.epochs.open() {
            None => "'insert', 'load'",
            Some(_) => "'insert'",
        },
        unless_deleted = match request.deletes {
            Deletes::Hard => format!(" AND NOT {key_deleted}"),
            Deletes::Soft => String::new(),
        },
        is_new = parts.is_new,
        bounds = parts.bounds,
        schema = string_literal(&source.schema),
        source_table = string_literal(&source.table),
        texts = parts.texts.join(", "),
        unknown_members = unknown_members(table),
        key_texts = parts.key_texts.join(", "),
        key_changed = parts.key_changed.join(" OR "),
        typed = parts.typed.join(",\n"),
        flaws = parts.flaws.join(" "),
        // The row that stands for the key is the one whose image it takes: the newest that has one.
        survivor = match request.absent {
            AbsentColumns::Null => "`deleted`, `position` DESC, `kafka_offset` DESC",
            AbsentColumns::Unchanged => "`position` DESC, `deleted`, `kafka_offset` DESC",
        },
        values = parts.values.join(", "),
        flaw_place = match table.without_schema {
            WithoutSchemaRead::ByDefinition(_) => format!("MOD(`flaw`, {NOT_TOLD_FROM})"),
            _ => "`flaw`".to_owned(),
        },
        flaw_columns = parts.flaw_columns,
        flaw_reasons = parts.flaw_reasons,
        key_text = key_text(table),
    ))
}

/// Whether a record that the fold has read is no newer than what is merged, and was committed or sent before this time, in µs.
fn is_sent_before(request: &FoldRequest<'_>, us: i64) -> String {
    format!(
        "`position` <= {} AND LEAST(COALESCE(`committed_at`, `sent`), `sent`) < {}",
        string_literal(request.highest_position.unwrap_or_default()),
        timestamp_literal(us)
    )
}

/// What a change is quarantined with of which the log may have forgotten what came after it, where images may be partial.
const PARTIAL_BEYOND_LOG: &str = "the change is older than what the log retains, and where images may lack columns it cannot be told what of it \
                                  still holds. Reload the table in DMS if the row is wrong";

/// The query that sums a fold up before it is merged: counts, and the range of the first key column. `says_what_adds`: it is of a version that
/// says which of its rows begin with an insert or a load.
pub fn survey(project: &str, fold: &TableName, table: &FinalTable, says_what_adds: bool) -> Result<String, NameError> {
    let range = range_column(table).map_or_else(
        || "NULL AS `lowest_key`, NULL AS `highest_key`".to_owned(),
        |(place, _)| {
            let key = value_column(place);
            format!(
                "CAST(MIN(IF(`flaw_reason` IS NULL, {key}, NULL)) AS STRING) AS `lowest_key`, \
                 CAST(MAX(IF(`flaw_reason` IS NULL, {key}, NULL)) AS STRING) AS `highest_key`"
            )
        },
    );
    Ok(format!(
        "SELECT COUNTIF(`flaw_reason` IS NULL) AS `keys`, {adding} AS `adding`, COUNTIF(`flaw_reason` IS NOT NULL) AS `flawed`, \
         SUM(`records`) AS `records`, COUNTIF(`late`) AS `late`, MAX(`newest`) AS `newest`, \
         UNIX_MICROS(MAX(`raised_committed`)) AS `raised_committed`, UNIX_MICROS(MAX(`raised_emitted`)) AS `raised_emitted`, \
         SUM(`anew`) AS `anew`, UNIX_MICROS(MIN(`anew_from`)) AS `anew_from`, COUNTIF(`beyond_log`) AS `beyond_log`, {range},\n\
         STRING_AGG(DISTINCT `unknown`, '\\n') AS `unknown`, STRING_AGG(DISTINCT `unknown_too`, '\\n') AS `unknown_too`, \
         UNIX_MICROS(MIN(IF(`unknown` IS NULL, NULL, `ingested_at`))) AS `unknown_since`, \
         STRING_AGG(DISTINCT `flaw_column`, '\\n') AS `flaw_columns`, \
         UNIX_MICROS(MIN(IF(`flaw_column` IS NULL, NULL, `ingested_at`))) AS `flaw_since`\n\
         FROM {}",
        fold.quoted(project)?,
        adding = if says_what_adds { "COUNTIF(`flaw_reason` IS NULL AND `adds`)" } else { "0" },
    ))
}

/// The first key column, or that by which the table is partitioned, if a range over it is sound: its place and type. Never a text: its values would stand in the
/// statement, and so in BigQuery's job history, and they may be anything, such as addresses.
pub(super) fn range_column(table: &FinalTable) -> Option<(usize, ColumnType)> {
    table
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.is_key)
        // That of the partitions before the others: it saves reading most.
        .min_by_key(|(place, column)| {
            let is_of_partitions = table.partitioning.as_ref().is_some_and(|by| by.is_by(&column.name));
            (!is_of_partitions, *place)
        })
        .map(|(place, column)| (place, column.column_type))
        .filter(|(_, column_type)| {
            matches!(column_type, ColumnType::Int64 | ColumnType::Date | ColumnType::DateTime | ColumnType::Timestamp)
        })
}

/// The SQL of what tells apart the records of a table without a key, beginning with the position. The source's own position and
/// commit time are the same when DMS sends a change again; of what has neither, only the Kafka record is sure.
fn keyless_position(epochs: &Epochs) -> String {
    format!(
        "CONCAT({}, '@', IF(STARTS_WITH(`position`, '{NO_EPOCH}-2-') AND STRPOS(`position`, '~') = 0 AND `committed_at` IS NOT NULL, \
         CAST(UNIX_MICROS(`committed_at`) AS STRING), \
         CONCAT(`kafka_topic`, '-', CAST(`kafka_partition` AS STRING), '-', CAST(`kafka_offset` AS STRING))))",
        epochs.position_sql()
    )
}

/// The parts of the statement that depend on the table's columns and on the two modes.
///
/// Column names in the statement: `v0`, … are the texts of an image's members, `b0`, … those of the before-image's key,
/// `t0`, … the texts of the key that a row is about, `c0`, … the typed values.
struct Parts {
    is_new: String,
    bounds: String,
    texts: Vec<String>,
    key_texts: Vec<String>,
    key_changed: Vec<String>,
    typed: Vec<String>,
    flaws: Vec<String>,
    keys: Vec<String>,
    /// Expressions whose newest value that is not NULL is carried to the key's row, with their names.
    carried: Vec<(String, String)>,
    values: Vec<String>,
    flaw_columns: String,
    flaw_reasons: String,
    /// Whether an image lacks columns, where that means something.
    is_partial: String,
    /// From what time on, in µs, the log has every image that may complete another; `None`: no image lacks anything, or all are there.
    beyond_log: Option<i64>,
}

impl Parts {
    fn of(request: &FoldRequest<'_>) -> Self {
        let FoldRequest { table, deletes, .. } = *request;
        let absent = absent_of(request.absent, table);
        let (is_new, bounds) = window(request);
        let cannot_be_applied = is_fault(table, absent == AbsentColumns::Unchanged);
        let mut parts = Self {
            is_new,
            bounds,
            texts: Vec::new(),
            key_texts: Vec::new(),
            key_changed: (table.columns.iter().enumerate())
                .filter(|(_, column)| column.is_key)
                .map(|(place, _)| format!("COALESCE(`b{place}` <> `v{place}`, FALSE)"))
                .collect(),
            typed: Vec::new(),
            // Of a delete only the key counts, unless that cannot be told either.
            flaws: vec![format!(
                "WHEN {cannot_be_applied} AND (`operation` <> 'delete' OR STARTS_WITH(`error`, {})) THEN -1",
                string_literal(WITHOUT_SCHEMA_BEGINS)
            )],
            keys: Vec::new(),
            carried: Vec::new(),
            values: Vec::new(),
            flaw_columns: String::new(),
            flaw_reasons: match table.without_schema {
                WithoutSchemaRead::ByDefinition(_) => format!(
                    "WHEN `flaw` = -1 THEN `error` WHEN `flaw` >= {NOT_TOLD_FROM} THEN {}",
                    string_literal(NOT_TOLD)
                ),
                _ => "WHEN `flaw` = -1 THEN `error`".to_owned(),
            },
            is_partial: "FALSE".to_owned(),
            beyond_log: request.expired_before_us.filter(|_| absent == AbsentColumns::Unchanged && !table.is_keyless),
        };
        // What newer images of the row left out may be in it, and they be forgotten.
        if let Some(expired) = parts.beyond_log {
            // Of what is merged again the oldest came in time, unless it was sent before the log begins.
            let margin = if request.is_again { 0 } else { LOOK_BACK_MARGIN_US };
            let is_beyond = is_sent_before(request, expired.saturating_add(margin));
            parts.flaws.push(format!("WHEN `is_new` AND {is_beyond} THEN -4"));
            parts.flaw_reasons.push_str(&format!(" WHEN `flaw` = -4 THEN {}", string_literal(PARTIAL_BEYOND_LOG)));
        }
        let (mut absent_beside_key, mut lacking) = (Vec::new(), Vec::new());
        for (place, column) in table.columns.iter().enumerate() {
            let (member, column_type) = (column.member(), column.column_type);
            let (text, value) = (format!("`v{place}`"), value_column(place));
            parts.texts.push(format!("{} AS {text}", shown_text(table, column, "`data`", "")));
            parts.flaw_columns.push_str(&format!(" WHEN {place} THEN {}", string_literal(&column.name)));
            if table.unsigned_members.iter().any(|unsigned| unsigned == column.member()) {
                parts.flaws.push(format!("WHEN STARTS_WITH({text}, '-') THEN {place}"));
                parts.flaw_reasons.push_str(&format!(
                    " WHEN `flaw` = {place} AND STARTS_WITH({text}, '-') THEN 'a negative number in an unsigned column: set \
                     bigint.unsigned.handling.mode to precise in the connector of Debezium'"
                ));
            }
            let not_read = match &table.without_schema {
                WithoutSchemaRead::NotApplied => None,
                WithoutSchemaRead::SelfDescribing(known) => {
                    what_is_not_said(known, column, &text).map(|condition| (condition, NOT_SAID))
                }
                WithoutSchemaRead::ByDefinition(_) => {
                    let condition = what_is_not_told(place, column, &text);
                    // Once for all columns, for it is long.
                    parts.flaws.push(format!("WHEN {condition} THEN {}", place.saturating_add(NOT_TOLD_FROM)));
                    if column.is_key {
                        let (raw, read) =
                            (column_text("`before`", column, ""), shown_text(table, column, "`before`", ""));
                        parts
                            .texts
                            .push(format!("{IS_DEFINED} AND {raw} IS NOT NULL AND {read} IS NULL AS `x{place}`"));
                    }
                    None
                }
            };
            if let Some((condition, reason)) = not_read {
                parts.flaws.push(format!("WHEN {condition} THEN {place}"));
                parts
                    .flaw_reasons
                    .push_str(&format!(" WHEN `flaw` = {place} AND {condition} THEN {}", string_literal(reason)));
            }
            if column.is_key {
                let (before, key_text) = (format!("`b{place}`"), format!("`t{place}`"));
                let beside = format!("{BEFORE_IMAGE_PREFIX}{member}");
                let before_text = shown_text(table, column, "`before`", "");
                // A source may have a column of that very name.
                parts.texts.push(if table.columns.iter().any(|column| column.member() == beside) {
                    format!("{before_text} AS {before}")
                } else {
                    format!(
                        "IF(`before` IS NULL, {}, {before_text}) AS {before}",
                        shown_text(table, column, "`data`", BEFORE_IMAGE_PREFIX)
                    )
                });
                parts.key_texts.push(format!("IF(`is_old_key`, COALESCE({before}, {text}), {text}) AS {key_text}"));
                parts.typed.push(format!("{} AS {value}", column_type.value_of(&key_text)));
                // A key change whose new key cannot be read must not remove the old row either.
                parts.flaws.push(format!(
                    "WHEN {value} IS NULL OR `is_old_key` AND ({}) IS NULL THEN {place}",
                    column_type.value_of(&text)
                ));
                parts.flaw_reasons.push_str(&format!(
                    " WHEN `flaw` = {place} AND {key_text} IS NULL THEN 'the key column is missing or NULL'"
                ));
                parts.keys.push(value.clone());
                parts.values.push(value);
            } else {
                if column_type != ColumnType::String {
                    parts.flaws.push(format!(
                        "WHEN {text} IS NOT NULL AND {value} IS NULL AND `operation` <> 'delete' THEN {place}"
                    ));
                }
                parts.typed.push(format!("{} AS {value}", column_type.value_of(&text)));
                match absent {
                    AbsentColumns::Null => parts.values.push(value),
                    AbsentColumns::Unchanged => {
                        let is_present = format!("`present{place}`");
                        let in_image = is_present_in_image(column);
                        // Where it is not configured, an image says itself whether it is partial.
                        let is_known = match request.absent {
                            AbsentColumns::Unchanged => in_image,
                            AbsentColumns::Null => {
                                format!("(COALESCE(`error`, '') NOT IN ({}) OR {in_image})", literals(&PARTIAL))
                            }
                        };
                        parts.texts.push(format!("{is_known} AS {is_present}"));
                        // An image from before the source had the column lacks nothing.
                        let added = column.names.added_us.map(timestamp_literal);
                        let was_there =
                            added.as_ref().map_or_else(String::new, |added| format!(" AND `sent` >= {added}"));
                        absent_beside_key.push(format!("NOT {is_present}"));
                        lacking.push(format!("NOT {is_present}{was_there}"));
                        parts.carry_partial(place, column_type, deletes, added.as_deref());
                    }
                }
            }
            parts.flaw_reasons.push_str(&format!(
                " WHEN `flaw` = {place} THEN '{} cannot hold the value exactly'",
                column_type.described()
            ));
        }
        if table.is_keyless {
            parts.keys.push("`position`".to_owned());
            parts.key_texts.push("FALSE AS `has_key`".to_owned());
            parts.key_changed.push("FALSE".to_owned());
            parts.flaws.insert(0, "WHEN `operation` IN ('update', 'delete') THEN -3".to_owned());
            parts.flaw_reasons.push_str(
                " WHEN `flaw` = -3 THEN 'the table has no key, so the row that was changed or deleted cannot be told'",
            );
        }
        if !absent_beside_key.is_empty() {
            parts.is_partial = absent_beside_key.join(" OR ");
            // The absent column's value is in the old key's row, which the fold of the new key does not see.
            parts.flaws.push(format!(
                "WHEN `operation` = 'update' AND ({}) AND ({}) THEN -2",
                parts.key_changed.join(" OR "),
                lacking.join(" OR ")
            ));
            parts.flaw_reasons.push_str(
                " WHEN `flaw` = -2 THEN 'the key changed in an image that lacks columns, so the new row cannot be completed'",
            );
        }
        parts
    }

    /// A column whose value may stand in an older image: its newest state is carried to the key's row, as a text that
    /// tells three apart: NULL is absent, `0` is null, `=…` is a value. An insert, a load and a (hard) delete say
    /// something of every column, so nothing older shows through them; nor does anything where a new key made a row before the source had
    /// `added` the column.
    fn carry_partial(&mut self, place: usize, column_type: ColumnType, deletes: Deletes, added: Option<&str>) {
        let of_delete = if deletes == Deletes::Hard { "'0'" } else { "NULL" };
        let (text, state, value) = (format!("`v{place}`"), format!("`state{place}`"), value_column(place));
        let before_it = added.map_or_else(String::new, |added| {
            format!(" OR `operation` = 'update' AND ({}) AND `sent` < {added}", self.key_changed.join(" OR "))
        });
        self.carried.push((
            format!(
                "CASE WHEN `deleted` THEN {of_delete} WHEN {text} IS NOT NULL THEN CONCAT('=', {text}) \
                 WHEN `operation` IN ('insert', 'load') OR `present{place}`{before_it} THEN '0' END"
            ),
            state.clone(),
        ));
        let known_text = format!("IF(STARTS_WITH({state}, '='), SUBSTR({state}, 2), NULL)");
        self.values.push(format!("{} AS {value}", column_type.value_of(&known_text)));
        self.values.push(format!("{state} IS NOT NULL AS {}", known_column(place)));
    }
}

/// Which rows are the window's, and the literal bounds of all that is read.
pub(super) fn window(request: &FoldRequest<'_>) -> (String, String) {
    let to = timestamp_literal(request.window_to_us);
    let not_covered = not_covered(request.covered);
    let at_least = |from: Option<i64>| match from {
        Some(from) => format!("`ingested_at` >= {}", timestamp_literal(from)),
        None => "TRUE".to_owned(),
    };
    let until = format!("`ingested_at` <= {to}");
    let from = request.look_back.reads_from(request.window_from_us);
    match request.look_back {
        LookBack::None => ("TRUE".to_owned(), format!("{} AND {until} AND {not_covered}", at_least(from))),
        LookBack::From(_) => {
            let is_new = format!("{} AND {not_covered}", at_least(request.window_from_us));
            (is_new, format!("{} AND {until}", at_least(from)))
        }
        LookBack::Everything => (format!("{} AND {not_covered}", at_least(request.window_from_us)), until),
    }
}

/// An image that can be read. One with an error holds half of a surrogate pair, which the embedded BigQuery refuses and
/// BigQuery replaces; its members are needed only for its key, so every such escape is replaced beforehand. One that is only partial has none.
fn readable(image: &str, is_no_fault: &str) -> String {
    format!(r"IF({is_no_fault}, {image}, REGEXP_REPLACE({image}, r'\\u[dD][89a-fA-F][0-9a-fA-F]{{2}}', r'\\uFFFD'))")
}

/// Why a value of such a change cannot be applied.
const NOT_SAID: &str = "the change has no schema, and this value does not say what it is: numbers have to come as JSON numbers \
                        (value.converter.decimal.format=NUMERIC, decimal.handling.mode=precise), and a BIT of several bits needs a schema";

/// The same where the table's definition should tell it.
const NOT_TOLD: &str = "the change has no schema, and the table's definition does not tell what this value is, or the connector's modes are not the \
                        default ones: STRAIT_DEBEZIUM_WITHOUT_SCHEMA=by-definition needs the topic of schema changes (MySQL, MariaDB) or strait \
                        define (PostgreSQL); docs/debezium.md says which types need a schema all the same";
/// The topic of schema changes says to the millisecond when a statement was read.
const TOLD_WITHIN_US: i64 = 1_000;

fn literals(texts: &[&str]) -> String {
    texts.iter().map(|text| string_literal(text)).collect::<Vec<_>>().join(", ")
}

/// What `error` may say of a change that is applied: how it is to be read.
fn taken(table: &FinalTable, may_be_partial: bool) -> &'static [&'static str] {
    match (&table.without_schema, may_be_partial) {
        (WithoutSchemaRead::NotApplied, false) => &[],
        (WithoutSchemaRead::NotApplied, true) => &[UNAVAILABLE],
        (WithoutSchemaRead::SelfDescribing(_), false) => &[SELF_DESCRIBING],
        (WithoutSchemaRead::SelfDescribing(_), true) => &[UNAVAILABLE, SELF_DESCRIBING, SELF_DESCRIBING_UNAVAILABLE],
        (WithoutSchemaRead::ByDefinition(_), false) => &[BY_DEFINITION],
        (WithoutSchemaRead::ByDefinition(_), true) => &[UNAVAILABLE, BY_DEFINITION, BY_DEFINITION_UNAVAILABLE],
    }
}

/// Whether nothing keeps a change of the table from being applied.
fn is_no_fault(table: &FinalTable, may_be_partial: bool) -> String {
    match taken(table, may_be_partial) {
        [] => "`error` IS NULL".to_owned(),
        [only] => format!("COALESCE(`error`, {0}) = {0}", string_literal(only)),
        all => format!("(`error` IS NULL OR `error` IN ({}))", literals(all)),
    }
}

/// The opposite of [`is_no_fault`].
fn is_fault(table: &FinalTable, may_be_partial: bool) -> String {
    match taken(table, may_be_partial) {
        [] => "`error` IS NOT NULL".to_owned(),
        [only] => format!("COALESCE(`error`, {0}) <> {0}", string_literal(only)),
        all => format!("`error` IS NOT NULL AND `error` NOT IN ({})", literals(all)),
    }
}

/// Whether a change has no schema, and its values say what they are.
fn is_self_described() -> String {
    format!("COALESCE(`error`, '') IN ({})", literals(&SELF_DESCRIBED))
}

/// The name of what says whether a change has no schema, and its values are read by the table's definition.
const IS_DEFINED: &str = "`is_defined`";
/// The flaw of a column whose value is not told, less the column's place.
const NOT_TOLD_FROM: usize = 1_000_000;

/// Whether a change has no schema, and its value of this column is none of how the table's definition says that it is written. `text` is what it
/// was read as.
fn what_is_not_told(place: usize, column: &FinalColumn, text: &str) -> String {
    let raw = column_text("`data`", column, "");
    match column.is_key {
        // Nor may the key from before be taken for the same.
        true => format!("{IS_DEFINED} AND ({text} IS NULL AND {raw} IS NOT NULL OR `x{place}`)"),
        false => format!("{IS_DEFINED} AND {text} IS NULL AND {raw} IS NOT NULL AND `operation` <> 'delete'"),
    }
}

/// The text of a member in a change whose values are read by the table's definition; NULL where that does not tell it.
fn defined_text(image: &str, member: &str, encodings: &[EncodedSince]) -> String {
    let (text, is_text) = (member_text(image, member), is_text_member(image, member));
    let read = |known: &EncodedSince| {
        known.encoding.and_then(|encoding| encoding.text_of(&text, &is_text)).unwrap_or_else(|| "NULL".to_owned())
    };
    let Some((newest, earlier)) = encodings.split_last() else {
        return "CAST(NULL AS STRING)".to_owned();
    };
    // Of what was sent at the very moment it cannot be told whether it was before or after.
    let until = encodings.iter().skip(1).filter_map(|next| next.since_us);
    let cases: String = (earlier.iter().zip(until))
        .map(|(known, until)| {
            format!(
                "WHEN `first_sent` < {} THEN {} WHEN `first_sent` < {} THEN NULL ",
                timestamp_literal(until),
                read(known),
                timestamp_literal(until.saturating_add(TOLD_WITHIN_US))
            )
        })
        .collect();
    if cases.is_empty() {
        return read(newest);
    }
    format!("CASE {cases}ELSE {} END", read(newest))
}

/// Whether a member is a text in JSON.
fn is_text_member(image: &str, member: &str) -> String {
    format!("STARTS_WITH(CONCAT(JSON_QUERY({image}, {}), ''), '\"')", member_path_literal(member))
}

/// Whether a change has no schema, and its value of this column does not say what it is. `text` is the value's.
fn what_is_not_said(known: &SelfDescribing, column: &FinalColumn, text: &str) -> Option<String> {
    use ColumnType::{BigNumeric, Bool, Float64, Int64, Numeric};
    let is_one_of = |members: &[String]| members.iter().any(|member| member == column.member());
    let is_text = column_expression("`data`", column, "", &|member, _| is_text_member("`data`", member));
    let is_not_said = match column.column_type {
        _ if is_one_of(&known.bit_members) => "TRUE".to_owned(),
        // A count of the day's milliseconds, microseconds or nanoseconds.
        _ if is_one_of(&known.time_members) => format!("NOT {is_text}"),
        // JSON has no number for the last ones.
        Int64 | Numeric { .. } | BigNumeric { .. } | Float64 | Bool => {
            format!("{is_text} AND LOWER({text}) NOT IN ('nan', 'infinity', '-infinity')")
        }
        _ if is_one_of(&known.decimal_members) => is_text,
        _ => return None,
    };
    let of_delete = if column.is_key { "" } else { " AND `operation` <> 'delete'" };
    Some(format!("{} AND {text} IS NOT NULL AND {is_not_said}{of_delete}", is_self_described()))
}

/// The text of a column's member, without what a change that has no schema adds to it, or instead of how it writes it.
fn shown_text(table: &FinalTable, column: &FinalColumn, image: &str, prefix: &str) -> String {
    let text = column_text(image, column, prefix);
    match &table.without_schema {
        WithoutSchemaRead::SelfDescribing(known) if known.time_members.iter().any(|time| time == column.member()) => {
            format!("IF({}, RTRIM({text}, 'Z'), {text})", is_self_described())
        }
        WithoutSchemaRead::ByDefinition(encodings) => {
            let defined = |member: &str, held: &NameHeld| {
                defined_text(image, member, encodings.0.get(&held.name).map(Vec::as_slice).unwrap_or_default())
            };
            let defined = column_expression(image, column, prefix, &defined);
            if defined == text { text } else { format!("IF({IS_DEFINED}, {defined}, {text})") }
        }
        _ => text,
    }
}

/// The text of one member of an image: a scalar's own, a nested value's JSON; NULL where it is null or absent.
///
/// JSON_QUERY of a STRING is NULL for a null in BigQuery; the embedded one returns a JSON value, and `null` for a null,
/// which the two functions around it make the same.
pub(super) fn member_text(image: &str, member: &str) -> String {
    let path = member_path_literal(member);
    format!("COALESCE(JSON_VALUE({image}, {path}), NULLIF(CONCAT(JSON_QUERY({image}, {path}), ''), 'null'))")
}

/// The text of a column's member, or of the one that it was called before in an image from then: beside the present name a former one
/// is another column's. A name that another column had, too, is the column's at its time alone.
fn column_text(image: &str, column: &FinalColumn, prefix: &str) -> String {
    column_expression(image, column, prefix, &|member, _| member_text(image, member))
}

/// The same of anything that is said of one member: `of_member`, given the member's name in the image, and the column's.
fn column_expression(
    image: &str,
    column: &FinalColumn,
    prefix: &str,
    of_member: &dyn Fn(&str, &NameHeld) -> String,
) -> String {
    let text = |held: &NameHeld| {
        let text = of_member(&format!("{prefix}{}", held.name), held);
        is_its_own(held).map_or_else(|| text.clone(), |is_its_own| format!("IF({is_its_own}, {text}, NULL)"))
    };
    let present = text(&column.names.now);
    let former: Vec<String> = column.names.former.iter().rev().map(text).collect();
    if former.is_empty() {
        return present;
    }
    let is_present = is_present_under(image, &column.names.now, prefix);
    format!("COALESCE({present}, IF({is_present}, NULL, COALESCE({})))", former.join(", "))
}

/// Whether a name is a column's own in a record; `None`: in each. A change that DMS sends again has the columns of when it sent it first.
fn is_its_own(held: &NameHeld) -> Option<String> {
    let since = held.since_us.map(|since| format!("`first_sent` >= {}", timestamp_literal(since)));
    let until = held.until_us.map(|until| format!("`first_sent` < {}", timestamp_literal(until)));
    let bounds: Vec<String> = since.into_iter().chain(until).collect();
    (!bounds.is_empty()).then(|| bounds.join(" AND "))
}

/// Whether an image has a column under a name, null included.
fn is_present_under(image: &str, held: &NameHeld, prefix: &str) -> String {
    let is_present = is_present_member(image, &format!("{prefix}{}", held.name));
    is_its_own(held).map_or_else(|| is_present.clone(), |is_its_own| format!("{is_its_own} AND {is_present}"))
}

/// Whether an image has a member at all, null included. Only a JSON value tells null and absent apart.
fn is_present_member(image: &str, member: &str) -> String {
    format!(
        "JSON_QUERY(SAFE.PARSE_JSON({image}, wide_number_mode => 'round'), {}) IS NOT NULL",
        member_path_literal(member)
    )
}

/// Whether the image has a column's member at all, null included.
fn is_present_in_image(column: &FinalColumn) -> String {
    let members: Vec<String> = column.names.newest_first().map(|held| is_present_under("`data`", held, "")).collect();
    if let ([only], false) = (members.as_slice(), column.names.now.is_bounded()) {
        return only.clone();
    }
    format!("({})", members.join(" OR "))
}

/// The names of an image's members for which the table has no column, as the text of a JSON array; NULL if there are none. `JSON_KEYS`
/// puts names with special characters between quotes.
fn unknown_members(table: &FinalTable) -> String {
    let literals = |name: &str| [string_literal(name), string_literal(&serde_json::Value::from(name).to_string())];
    let mut known = BTreeSet::new();
    let (mut at_its_time, mut used_again) = (String::new(), String::new());
    for column in &table.columns {
        let former: Vec<String> = column
            .names
            .former
            .iter()
            .filter(|held| !held.is_bounded())
            .map(|held| string_literal(&held.name))
            .collect();
        if !former.is_empty() {
            let is_present = is_present_under("`data`", &column.names.now, "");
            used_again.push_str(&format!(" OR `name` IN ({}) AND {is_present}", former.join(", ")));
        }
        for held in column.names.newest_first() {
            let beside = column.is_key.then(|| format!("{BEFORE_IMAGE_PREFIX}{}", held.name));
            let names = beside.into_iter().chain([held.name.clone()]).flat_map(|name| literals(&name));
            match is_its_own(held) {
                None => known.extend(names),
                Some(is_its_own) => {
                    let names = names.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
                    at_its_time.push_str(&format!(" AND NOT (`name` IN ({names}) AND {is_its_own})"));
                }
            }
        }
    }
    let known = known.into_iter().collect::<Vec<_>>().join(", ");
    let is_unknown = if known.is_empty() { "TRUE".to_owned() } else { format!("`name` NOT IN ({known})") };
    format!(
        "NULLIF((SELECT TO_JSON_STRING(ARRAY_AGG(`name` ORDER BY `name`)) \
         FROM UNNEST(JSON_KEYS(SAFE.PARSE_JSON(`data`, wide_number_mode => 'round'), 1)) AS `name` WHERE {is_unknown}{at_its_time}{used_again}), 'null')"
    )
}

/// A record's key as a JSON object's text, for the quarantine.
fn key_text(table: &FinalTable) -> String {
    if table.is_keyless {
        return "CAST(NULL AS STRING)".to_owned();
    }
    let members: Vec<String> = table
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.is_key)
        .map(|(place, column)| {
            let name = serde_json::Value::from(column.member());
            format!("{}, COALESCE(TO_JSON_STRING(`t{place}`), 'null')", string_literal(&format!("{name}:")))
        })
        .collect();
    format!("CONCAT('{{', {}, '}}')", members.join(", ',', "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_can_be_late_while_positions_only_rise() {
        let needed = |lowest, highest, oldest, absent| LookBack::needed(lowest, highest, oldest, absent);
        use AbsentColumns::{Null, Unchanged};
        assert_eq!(needed(Some("0000-2-b"), Some("0000-2-a"), Some(1), Null), LookBack::None);
        assert_eq!(needed(Some("0000-2-a"), None, Some(1), Null), LookBack::None);
        assert_eq!(needed(Some("0000-2-a"), Some("0000-2-a"), Some(0), Null), LookBack::From(-LOOK_BACK_MARGIN_US));
        assert_eq!(needed(Some("0000-2-a"), Some("0000-2-b"), None, Null), LookBack::Everything);
        assert_eq!(needed(Some("0000-2-a"), Some("0000-2-b"), Some(0), Unchanged), LookBack::Everything);
    }

    #[test]
    fn timestamps_are_literals_to_the_microsecond() {
        assert_eq!(timestamp_literal(1_767_323_045_678_901), "TIMESTAMP '2026-01-02 03:04:05.678901+00'");
        assert_eq!(timestamp_literal(-1), "TIMESTAMP '1969-12-31 23:59:59.999999+00'");
    }
}
