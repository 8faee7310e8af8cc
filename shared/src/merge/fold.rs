//! The fold: what a window of the log comes to for each key of one table, written to a short-lived table from which the
//! MERGE reads. Everything that decides which change wins is in this statement; it must order by position alone, and
//! must never let a value through that its column cannot hold exactly.

use jiff::Timestamp;

use crate::config::{AbsentColumns, Deletes};
use crate::names::{NameError, SourceTable, TableName, fingerprint, member_path_literal, string_literal};

use super::coverage::{OffsetRange, not_in};
use super::final_table::FinalTable;
use super::types::ColumnType;

/// A run that dies leaves its fold behind; BigQuery removes it after this many hours.
const FOLD_EXPIRY_HOURS: u32 = 24;
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
    /// The source table.
    pub source: &'a SourceTable,
    /// The final table.
    pub table: &'a FinalTable,
    /// `ingested_at` of the window's oldest record, in µs; `None`: from the log's beginning.
    pub window_from_us: Option<i64>,
    /// `ingested_at` of the window's newest record, in µs.
    pub window_to_us: i64,
    /// Offsets in the window that are merged already.
    pub covered: &'a [OffsetRange],
    /// Whether, and from where, records that are merged already are read again, because a key may be late.
    pub look_back: LookBack,
    /// What a column missing from an image means.
    pub absent: AbsentColumns,
    /// What a delete does.
    pub deletes: Deletes,
}

/// How much of the log before the window a fold reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookBack {
    /// None: every new position is above every merged one, so no key can be late.
    None,
    /// From this `ingested_at` on, in µs.
    From(i64),
    /// All that is retained.
    Everything,
}

impl LookBack {
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

/// The short-lived table that holds a source table's fold. One per source table, so that what a dead run left behind is
/// overwritten by the next.
pub fn fold_table(log: &TableName, source: &SourceTable) -> TableName {
    TableName {
        dataset: log.dataset.clone(),
        table: format!("_strait_fold_{}", fingerprint(&format!("{}\0{}", source.schema, source.table), 16)),
    }
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
/// | `flaw_column`, `flaw_reason`, `key_text`, `kafka_topic`, `kafka_partition`, `kafka_offset` | of a record that cannot be applied |
pub fn statement(request: &FoldRequest<'_>) -> Result<String, NameError> {
    let FoldRequest { project, log, source, table, .. } = *request;
    let parts = Parts::of(request);
    let expiry = format!(
        "OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {FOLD_EXPIRY_HOURS} HOUR))"
    );
    let key_texts = parts.key_texts.join(", ");
    let typed_keys = parts.typed_keys.join(", ");
    let key_columns = parts.key_columns.join(", ");
    let by_key = format!("PARTITION BY `flaw` IS NULL, {key_columns}");
    let newest_first = "ORDER BY `position` DESC, `deleted`, `kafka_offset` DESC";
    let whole_key = "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING";
    let carried = parts
        .carried
        .iter()
        .map(|(expression, alias)| {
            format!(",\nFIRST_VALUE({expression} IGNORE NULLS) OVER ({by_key} {newest_first} {whole_key}) AS {alias}")
        })
        .collect::<String>();
    Ok(format!(
        "CREATE OR REPLACE TABLE {fold}\n{expiry}\nAS\n\
         WITH `read` AS (\n\
         SELECT `operation`, `position`, `data`, `before`, `error`, `kafka_topic`, `kafka_partition`, `kafka_offset`, {is_new} AS `is_new`\n\
         FROM {log}\n\
         WHERE {bounds}\n\
         AND `source_schema` = {schema} AND `source_table` = {source_table}\n\
         AND `operation` IN ('load', 'insert', 'update', 'delete')\n\
         QUALIFY ROW_NUMBER() OVER (PARTITION BY `kafka_topic`, `kafka_partition`, `kafka_offset`, `position` ORDER BY `ingested_at`) = 1\n\
         ),\n\
         `split` AS (\n\
         SELECT `read`.*, `is_old_key`, `is_old_key` OR `operation` = 'delete' AS `deleted`, {key_texts}\n\
         FROM `read`, UNNEST(IF(`operation` = 'update' AND ({key_changed}), [FALSE, TRUE], [FALSE])) AS `is_old_key`\n\
         ),\n\
         `typed` AS (\n\
         SELECT *, {typed_keys},\n{flaw} AS `flaw`\n\
         FROM `split`\n\
         ),\n\
         `ranked` AS (\n\
         SELECT `operation`, `position`, `data`, `deleted`, `error`, `flaw`, {key_text_columns}, {key_columns}, `kafka_topic`, `kafka_partition`, `kafka_offset`,\n\
         COUNTIF(`is_new` AND NOT `is_old_key`) OVER ({by_key}) AS `key_records`,\n\
         MAX(IF(`is_new`, `position`, NULL)) OVER ({by_key}) AS `key_newest`,\n\
         MIN(IF(`is_new`, `position`, NULL)) OVER ({by_key}) AS `key_lowest_new`,\n\
         MAX(IF(`is_new`, NULL, `position`)) OVER ({by_key}) AS `key_highest_old`{carried}\n\
         FROM `typed`\n\
         WHERE TRUE\n\
         QUALIFY IF(`flaw` IS NULL, `key_newest` IS NOT NULL AND ROW_NUMBER() OVER ({by_key} {newest_first}) = 1, `is_new` AND NOT `is_old_key`)\n\
         )\n\
         SELECT {values},\n\
         `position`, `deleted`, {has_image} AS `has_image`,\n\
         IF(`flaw` IS NULL, `key_records`, 1) AS `records`, `key_newest` AS `newest`,\n\
         `flaw` IS NULL AND COALESCE(`key_highest_old` >= `key_lowest_new`, FALSE) AS `late`,\n\
         {flaw_column} AS `flaw_column`,\n{flaw_reason} AS `flaw_reason`,\n{key_text} AS `key_text`,\n\
         `kafka_topic`, `kafka_partition`, `kafka_offset`\n\
         FROM `ranked`",
        fold = fold_table(log, source).quoted(project)?,
        log = log.quoted(project)?,
        is_new = parts.is_new,
        bounds = parts.bounds,
        schema = string_literal(&source.schema),
        source_table = string_literal(&source.table),
        key_changed = parts.key_changed.join(" OR "),
        flaw = parts.flaw,
        key_text_columns = parts.key_text_columns.join(", "),
        values = parts.values.join(", "),
        has_image = parts.has_image,
        flaw_column = parts.flaw_column,
        flaw_reason = parts.flaw_reason,
        key_text = key_text(table),
    ))
}

/// The query that sums a fold up before it is merged: counts, and the range of the first key column.
pub fn survey(project: &str, log: &TableName, source: &SourceTable, table: &FinalTable) -> Result<String, NameError> {
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
        "SELECT COUNTIF(`flaw_reason` IS NULL) AS `keys`, COUNTIF(`flaw_reason` IS NOT NULL) AS `flawed`, \
         SUM(`records`) AS `records`, COUNTIF(`late`) AS `late`, MAX(`newest`) AS `newest`, {range}\n\
         FROM {}",
        fold_table(log, source).quoted(project)?
    ))
}

/// The first key column, if a range over it is sound: its place and type.
pub(super) fn range_column(table: &FinalTable) -> Option<(usize, ColumnType)> {
    table
        .columns
        .iter()
        .enumerate()
        .find(|(_, column)| column.is_key)
        .map(|(place, column)| (place, column.column_type))
        .filter(|(_, column_type)| {
            matches!(column_type, ColumnType::Int64 | ColumnType::String | ColumnType::Date | ColumnType::DateTime)
        })
}

/// The parts of the statement that depend on the table's columns and on the two modes.
struct Parts {
    is_new: String,
    bounds: String,
    key_changed: Vec<String>,
    key_texts: Vec<String>,
    key_text_columns: Vec<String>,
    typed_keys: Vec<String>,
    key_columns: Vec<String>,
    flaw: String,
    /// Expressions whose newest value that is not NULL is carried to the key's row, with their names.
    carried: Vec<(String, String)>,
    values: Vec<String>,
    has_image: String,
    flaw_column: String,
    flaw_reason: String,
}

impl Parts {
    fn of(request: &FoldRequest<'_>) -> Self {
        let FoldRequest { table, absent, deletes, .. } = *request;
        let (is_new, bounds) = window(request);

        let mut key_changed = Vec::new();
        let mut key_texts = Vec::new();
        let mut key_text_columns = Vec::new();
        let mut typed_keys = Vec::new();
        let mut key_columns = Vec::new();
        let mut flaws = vec!["WHEN `error` IS NOT NULL THEN -1".to_owned()];
        for (place, column) in table.columns.iter().enumerate() {
            let text = image_text(column.column_type, "`data`", &column.member);
            if column.is_key {
                let before = format!(
                    "COALESCE({}, {})",
                    image_text(column.column_type, "`before`", &column.member),
                    image_text(column.column_type, "`data`", &format!("{BEFORE_IMAGE_PREFIX}{}", column.member)),
                );
                let (key_text, key) = (format!("`t{place}`"), value_column(place));
                key_changed.push(format!("COALESCE({before} <> {text}, FALSE)"));
                key_texts.push(format!("IF(`is_old_key`, COALESCE({before}, {text}), {text}) AS {key_text}"));
                typed_keys.push(format!("{} AS {key}", column.column_type.value_of(&key_text)));
                // An alias of the same SELECT cannot be used, so the flaw repeats the conversion.
                flaws.push(format!(
                    "WHEN ({}) IS NULL OR ({}) IS NULL THEN {place}",
                    column.column_type.value_of(&key_text),
                    column.column_type.value_of(&text)
                ));
                key_text_columns.push(key_text);
                key_columns.push(key);
            } else if column.column_type != ColumnType::String {
                flaws.push(format!(
                    "WHEN `operation` <> 'delete' AND {} IS NOT NULL AND ({}) IS NULL THEN {place}",
                    json_query("`data`", &column.member),
                    column.column_type.value_of(&text)
                ));
            }
        }
        if absent == AbsentColumns::Unchanged {
            flaws.push(partial_key_change(request));
        }

        let mut carried = Vec::new();
        let mut values = Vec::new();
        let has_image = match absent {
            AbsentColumns::Null => {
                carried.push(("IF(`deleted`, NULL, `data`)".to_owned(), "`image`".to_owned()));
                "`image` IS NOT NULL"
            }
            AbsentColumns::Unchanged => "NOT `deleted`",
        };
        for (place, column) in table.columns.iter().enumerate() {
            let value = value_column(place);
            if column.is_key {
                values.push(value);
                continue;
            }
            match absent {
                AbsentColumns::Null => {
                    let text = image_text(column.column_type, "`image`", &column.member);
                    values.push(format!("{} AS {value}", column.column_type.value_of(&text)));
                }
                AbsentColumns::Unchanged => {
                    // A text that tells three states apart: NULL is absent, `0` is null, `=…` is a value. An insert, a load
                    // and a (hard) delete say something of every column, so nothing older shows through them.
                    let text = image_text(column.column_type, "`data`", &column.member);
                    let of_delete = if deletes == Deletes::Hard { "'0'" } else { "NULL" };
                    let state = format!("`state{place}`");
                    carried.push((
                        format!(
                            "CASE WHEN `deleted` THEN {of_delete} WHEN {text} IS NOT NULL THEN CONCAT('=', {text}) \
                             WHEN `operation` IN ('insert', 'load') OR {} THEN '0' END",
                            is_present(&column.member)
                        ),
                        state.clone(),
                    ));
                    let known_text = format!("IF(STARTS_WITH({state}, '='), SUBSTR({state}, 2), NULL)");
                    values.push(format!("{} AS {value}", column.column_type.value_of(&known_text)));
                    values.push(format!("{state} IS NOT NULL AS {}", known_column(place)));
                }
            }
        }

        let mut flaw_columns = String::new();
        let mut flaw_reasons = String::from("CASE WHEN `flaw` = -1 THEN `error`");
        for (place, column) in table.columns.iter().enumerate() {
            flaw_columns.push_str(&format!(" WHEN {place} THEN {}", string_literal(&column.name)));
            if column.is_key {
                flaw_reasons.push_str(&format!(
                    " WHEN `flaw` = {place} AND `t{place}` IS NULL THEN 'the key column is missing or NULL'"
                ));
            }
            flaw_reasons.push_str(&format!(
                " WHEN `flaw` = {place} THEN '{} cannot hold the value exactly'",
                column.column_type.name()
            ));
        }
        flaw_reasons.push_str(
            " WHEN `flaw` = -2 THEN 'the key changed in an image that lacks columns, so the new row cannot be completed' END",
        );

        Self {
            is_new,
            bounds,
            key_changed,
            key_texts,
            key_text_columns,
            typed_keys,
            key_columns,
            flaw: format!("CASE {} END", flaws.join("\n")),
            carried,
            values,
            has_image: has_image.to_owned(),
            flaw_column: format!("CASE `flaw`{flaw_columns} END"),
            flaw_reason: flaw_reasons,
        }
    }
}

/// Which rows are the window's, and the literal bounds of all that is read.
fn window(request: &FoldRequest<'_>) -> (String, String) {
    let to = timestamp_literal(request.window_to_us);
    let not_covered = not_in(request.covered);
    let at_least = |from: Option<i64>| match from {
        Some(from) => format!("`ingested_at` >= {}", timestamp_literal(from)),
        None => "TRUE".to_owned(),
    };
    let until = format!("`ingested_at` <= {to}");
    match request.look_back {
        LookBack::None => {
            ("TRUE".to_owned(), format!("{} AND {until} AND {not_covered}", at_least(request.window_from_us)))
        }
        LookBack::From(from) => {
            let is_new = format!("{} AND {not_covered}", at_least(request.window_from_us));
            let from = request.window_from_us.map(|window_from| window_from.min(from));
            (is_new, format!("{} AND {until}", at_least(from)))
        }
        LookBack::Everything => (format!("{} AND {not_covered}", at_least(request.window_from_us)), until),
    }
}

/// The text of one member of an image. A nested object or array is its JSON text, for the types that can hold it.
fn image_text(column_type: ColumnType, image: &str, member: &str) -> String {
    let scalar = format!("JSON_VALUE({image}, {})", member_path_literal(member));
    match column_type {
        ColumnType::String | ColumnType::Json => format!("COALESCE({scalar}, {})", json_query(image, member)),
        _ => scalar,
    }
}

/// The JSON text of one member; NULL where it is null or absent. In BigQuery JSON_QUERY of a STRING is that already; the
/// embedded one returns a JSON value, and `null` for a null, which the two outer functions make the same.
fn json_query(image: &str, member: &str) -> String {
    format!("NULLIF(CONCAT(JSON_QUERY({image}, {}), ''), 'null')", member_path_literal(member))
}

/// Whether an image has a member at all, null included. Only a JSON value tells null and absent apart.
fn is_present(member: &str) -> String {
    format!(
        "JSON_QUERY(SAFE.PARSE_JSON(`data`, wide_number_mode => 'round'), {}) IS NOT NULL",
        member_path_literal(member)
    )
}

/// A key change whose image lacks a column: the column's value is in the old key's row, which the fold of the new key
/// does not see.
fn partial_key_change(request: &FoldRequest<'_>) -> String {
    let lacks: Vec<String> = request
        .table
        .columns
        .iter()
        .filter(|column| !column.is_key)
        .map(|column| format!("NOT ({})", is_present(&column.member)))
        .collect();
    let changed: Vec<String> = request
        .table
        .columns
        .iter()
        .filter(|column| column.is_key)
        .map(|column| {
            let text = image_text(column.column_type, "`data`", &column.member);
            let before = image_text(column.column_type, "`before`", &column.member);
            let before_beside =
                image_text(column.column_type, "`data`", &format!("{BEFORE_IMAGE_PREFIX}{}", column.member));
            format!("COALESCE(COALESCE({before}, {before_beside}) <> {text}, FALSE)")
        })
        .collect();
    if lacks.is_empty() {
        return "WHEN FALSE THEN -2".to_owned();
    }
    format!("WHEN `operation` = 'update' AND ({}) AND ({}) THEN -2", changed.join(" OR "), lacks.join(" OR "))
}

/// A record's key as a JSON object's text, for the quarantine.
fn key_text(table: &FinalTable) -> String {
    let members: Vec<String> = table
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.is_key)
        .map(|(place, column)| {
            let name = serde_json::Value::from(column.member.as_str());
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
