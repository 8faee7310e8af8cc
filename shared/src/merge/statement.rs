//! The statements that write: the one MERGE per table, what goes to quarantine, and the columns of Strait's own that a
//! table lacks. Every statement is idempotent: running it again changes nothing.

use std::collections::BTreeSet;

use crate::bigquery::table_spec::{ColumnType as SpecType, Mode, PartitionUnit, TableSpec, column};
use crate::config::{AbsentColumns, Deletes, HOUR_US};
use crate::names::{
    DELETED_COLUMN, MERGED_AT_COLUMN, NameError, POSITION_COLUMN, SourceTable, TableName, quote_column, string_literal,
};

use super::epoch::SENT;
use super::final_table::{FinalTable, NewColumn};
use super::fold::{FoldRequest, known_column, range_column, timestamp_literal, value_column, window};
use super::plan::{ALTERATIONS, DEFINITIONS};

/// How `cdc.quarantine` looks: enough to find the log's row, and no row values but the key.
pub const QUARANTINE: TableSpec = TableSpec {
    description: "What Strait could not apply to a final table, with the reason; the record itself is in the log",
    columns: &[
        column("source_schema", SpecType::String, Mode::Required, "Source schema or database"),
        column("source_table", SpecType::String, Mode::Required, "Source table"),
        column("key", SpecType::String, Mode::Nullable, "The row's key as JSON"),
        column("position", SpecType::String, Mode::Required, "The change's position"),
        column("column", SpecType::String, Mode::Nullable, "The column of the final table"),
        column("reason", SpecType::String, Mode::Required, "Why the change was not applied"),
        column("kafka_topic", SpecType::String, Mode::Required, "Kafka topic"),
        column("kafka_partition", SpecType::Int64, Mode::Required, "Kafka partition"),
        column("kafka_offset", SpecType::Int64, Mode::Required, "Kafka offset"),
        column("quarantined_at", SpecType::Timestamp, Mode::Required, "When"),
        column(
            RESOLVED_AT,
            SpecType::Timestamp,
            Mode::Nullable,
            "When the change was merged again and could be applied; NULL: it still is not",
        ),
    ],
    partition: ("quarantined_at", PartitionUnit::Day),
    cluster: &["source_schema", "source_table"],
};

/// The quarantine's column that says when a change could be applied after all.
const RESOLVED_AT: &str = "resolved_at";

/// What a MERGE calls the final table.
pub const TARGET_ALIAS: &str = "`_strait_old`";

/// What a MERGE needs beside the tables.
#[derive(Debug, Clone, Copy)]
pub struct MergeRequest<'a> {
    /// Google Cloud project.
    pub project: &'a str,
    /// The fold.
    pub fold: &'a TableName,
    /// The final table.
    pub table: &'a FinalTable,
    /// What a column missing from an image means.
    pub absent: AbsentColumns,
    /// What a delete does.
    pub deletes: Deletes,
    /// Lowest and highest value of the first key column in the fold, as text, where the survey knows them.
    pub key_range: Option<(&'a str, &'a str)>,
    /// The condition that a row lies in one of the partitions in which the fold's keys have rows, with the alias
    /// [`TARGET_ALIAS`]; see [`super::partitions::condition`].
    pub partitions: Option<&'a str>,
    /// Whether rows at the same position are written again.
    pub is_again: bool,
    /// Whether rows that the table has are left alone: then BigQuery bills the key's columns and the partitions' alone, and not all of
    /// the table (<https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#on-demand_query_size_calculation>).
    pub adds_only: bool,
    /// The condition that no other run has taken the table up meanwhile; see [`super::ledger::LedgerState::in_turn`].
    pub in_turn: &'a str,
}

impl MergeRequest<'_> {
    /// Whether a row at the very position of the fold's is written again: a late change of other columns completes a row at its own position,
    /// and the same change once more writes what is there. So does what is merged again, because the table's columns are others now. A change that DMS
    /// had sent before says by that whether a name was another column's then.
    pub fn rewrites(&self) -> bool {
        let is_partial = self.absent == AbsentColumns::Unchanged && !self.table.is_keyless;
        self.is_again || is_partial || self.table.is_told_by_time()
    }
}

/// The MERGE of a fold into its final table. The aliases have the prefix that no source column keeps: an alias that equals
/// a column's name but for case would hide it. A row changes only if the fold's position is above its own, or where
/// images may be partial, its own.
pub fn merge(request: &MergeRequest<'_>) -> Result<String, NameError> {
    let MergeRequest { project, fold, table, absent, deletes, .. } = *request;
    let mut on = Vec::new();
    let mut names = Vec::new();
    let mut values = Vec::new();
    let mut updates = Vec::new();
    for (place, column) in table.columns.iter().enumerate() {
        let (name, value) = (quote_column(&column.name)?, format!("`_strait_new`.{}", value_column(place)));
        if column.is_key {
            on.push(format!("`_strait_old`.{name} = {value}"));
        } else {
            let kept = match (absent, deletes) {
                (AbsentColumns::Unchanged, _) => Some(format!("`_strait_new`.{}", known_column(place))),
                (AbsentColumns::Null, Deletes::Soft) => Some("`_strait_new`.`has_image`".to_owned()),
                (AbsentColumns::Null, Deletes::Hard) => None,
            };
            updates.push(match kept {
                Some(is_known) => format!("{name} = IF({is_known}, {value}, `_strait_old`.{name})"),
                None => format!("{name} = {value}"),
            });
        }
        names.push(name);
        values.push(value);
    }
    // Implied by the key equality, so it loses no match; it lets BigQuery skip blocks of a clustered table.
    if let (Some((place, column_type)), Some((lowest, highest))) = (range_column(table), request.key_range)
        && let (Some(lowest), Some(highest)) = (column_type.range_literal(lowest), column_type.range_literal(highest))
        && let Some(column) = table.columns.get(place)
    {
        on.push(format!("`_strait_old`.{} BETWEEN {lowest} AND {highest}", quote_column(&column.name)?));
    }

    let position = quote_column(POSITION_COLUMN)?;
    if table.is_keyless {
        // The same record may have been merged before its epoch was known.
        let of_any_epoch = |position: &str| format!("SUBSTR({position}, STRPOS({position}, '-'))");
        on.push(format!(
            "{} = {}",
            of_any_epoch(&format!("`_strait_old`.{position}")),
            of_any_epoch("`_strait_new`.`position`")
        ));
    }
    // Old rows and new values lie in these, so it loses no match, either.
    on.extend(match request.partitions {
        Some(partitions) => Some(partitions.to_owned()),
        None => table.partition_filter(Some(TARGET_ALIAS))?,
    });
    let merged_at = quote_column(MERGED_AT_COLUMN)?;
    updates.push(format!("{position} = `_strait_new`.`position`"));
    updates.push(format!("{merged_at} = CURRENT_TIMESTAMP()"));
    names.extend([position.clone(), merged_at]);
    values.extend(["`_strait_new`.`position`".to_owned(), "CURRENT_TIMESTAMP()".to_owned()]);
    let above = if request.rewrites() { ">=" } else { ">" };
    let is_newer = format!("`_strait_new`.`position` {above} COALESCE(`_strait_old`.{position}, '')");
    // An update of which columns are missing is no row yet: the rest comes with the row's insert or load, which is then late.
    let is_whole = table
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| absent == AbsentColumns::Unchanged && !column.is_key)
        .map(|(place, _)| format!(" AND `_strait_new`.{}", known_column(place)))
        .collect::<String>();
    let (on_delete, insert_if) = match deletes {
        Deletes::Hard => (
            format!("WHEN MATCHED AND {is_newer} AND `_strait_new`.`deleted` THEN DELETE\n"),
            " AND NOT `_strait_new`.`deleted`",
        ),
        Deletes::Soft => {
            let deleted = quote_column(DELETED_COLUMN)?;
            updates.push(format!("{deleted} = `_strait_new`.`deleted`"));
            names.push(deleted);
            values.push("`_strait_new`.`deleted`".to_owned());
            (String::new(), "")
        }
    };
    let when_matched = match request.adds_only {
        true => String::new(),
        false => format!("{on_delete}WHEN MATCHED AND {is_newer} THEN UPDATE SET {}\n", updates.join(", ")),
    };
    Ok(format!(
        "MERGE {target} `_strait_old`\n\
         USING (SELECT * FROM {fold} WHERE `flaw_reason` IS NULL AND {in_turn}) `_strait_new`\n\
         ON {on}\n\
         {when_matched}WHEN NOT MATCHED AND NOT `_strait_new`.`beyond_log`{insert_if}{is_whole} THEN INSERT ({names}) VALUES ({values})",
        target = table.name.quoted(project)?,
        fold = fold.quoted(project)?,
        in_turn = request.in_turn,
        on = on.join(" AND "),
        names = names.join(", "),
        values = values.join(", "),
    ))
}

/// What a row is quarantined with that may have been deleted by a change that the log no longer holds.
const BEYOND_LOG: &str = "the change is older than what the log retains, and the row is not in the final table: whether it was \
                          deleted later cannot be known. Reload the table in DMS if it is missing";

/// The INSERT of a fold's flawed records into the quarantine, and of rows that the MERGE does not insert because a newer
/// change of them may have expired (`beyond_log`: into which final table). A record that is there already is not added again.
pub fn quarantine(
    project: &str,
    fold: &TableName,
    quarantine: &TableName,
    source: &SourceTable,
    beyond_log: Option<&FinalTable>,
) -> Result<String, NameError> {
    const FOLD_COLUMNS: &str =
        "`key_text`, `position`, `flaw_column`, `flaw_reason`, `kafka_topic`, `kafka_partition`, `kafka_offset`";
    let fold = fold.quoted(project)?;
    let mut records = format!("SELECT {FOLD_COLUMNS} FROM {fold} WHERE `flaw_reason` IS NOT NULL");
    if let Some(table) = beyond_log {
        let mut same_key: Vec<String> = table.partition_filter(Some("`_strait_old`"))?.into_iter().collect();
        for (place, column) in table.columns.iter().enumerate().filter(|(_, column)| column.is_key) {
            same_key.push(format!(
                "`_strait_old`.{} = `_strait_new`.{}",
                quote_column(&column.name)?,
                value_column(place)
            ));
        }
        records.push_str(&format!(
            "\nUNION ALL SELECT {} FROM {fold} `_strait_new`\n\
             WHERE `beyond_log` AND NOT EXISTS (SELECT 1 FROM {} `_strait_old` WHERE {})",
            FOLD_COLUMNS.replace("`flaw_reason`", &string_literal(BEYOND_LOG)),
            table.name.quoted(project)?,
            same_key.join(" AND ")
        ));
    }
    let mut names = Vec::with_capacity(QUARANTINE.columns.len());
    for column in QUARANTINE.columns.iter().filter(|column| column.name != RESOLVED_AT) {
        names.push(quote_column(column.name)?);
    }
    let table = quarantine.quoted(project)?;
    Ok(format!(
        "INSERT INTO {table} ({names})\n\
         SELECT {schema}, {source_table}, F.`key_text`, F.`position`, F.`flaw_column`, F.`flaw_reason`, \
         F.`kafka_topic`, F.`kafka_partition`, F.`kafka_offset`, CURRENT_TIMESTAMP()\n\
         FROM (\n{records}\n) F\n\
         WHERE NOT EXISTS (SELECT 1 FROM {table} Q WHERE Q.`source_schema` = {schema} AND Q.`source_table` = {source_table} \
         AND Q.`kafka_topic` = F.`kafka_topic` AND Q.`kafka_partition` = F.`kafka_partition` \
         AND Q.`kafka_offset` = F.`kafka_offset` AND Q.`position` = F.`position` AND Q.{resolved_at} IS NULL)",
        resolved_at = quote_column(RESOLVED_AT)?,
        names = names.join(", "),
        schema = string_literal(&source.schema),
        source_table = string_literal(&source.table),
    ))
}

/// The UPDATE that marks as resolved what is in the quarantine and could be applied when its records were merged again by this fold.
pub fn resolve(request: &FoldRequest<'_>, quarantine: &TableName, in_turn: &str) -> Result<String, NameError> {
    let FoldRequest { project, source, .. } = *request;
    // Of what is only looked back at, the fold says nothing.
    let (is_new, bounds) = window(request);
    let same_record = |other: &str| {
        ["kafka_topic", "kafka_partition", "kafka_offset"]
            .map(|column| format!("{other}.`{column}` = Q.`{column}`"))
            .join(" AND ")
    };
    Ok(format!(
        "UPDATE {quarantine} Q\nSET {resolved_at} = CURRENT_TIMESTAMP()\n\
         WHERE Q.`source_schema` = {schema} AND Q.`source_table` = {source_table} AND Q.{resolved_at} IS NULL\n\
         AND EXISTS (SELECT 1 FROM {log} L WHERE {bounds} AND {is_new} AND L.`source_schema` = {schema} AND L.`source_table` = {source_table} AND {of_log})\n\
         AND NOT EXISTS (SELECT 1 FROM {fold} F WHERE (F.`flaw_reason` IS NOT NULL OR F.`beyond_log`) AND {of_fold})\n\
         AND {in_turn}",
        quarantine = quarantine.quoted(project)?,
        resolved_at = quote_column(RESOLVED_AT)?,
        schema = string_literal(&source.schema),
        source_table = string_literal(&source.table),
        log = request.log.quoted(project)?,
        fold = request.fold.quoted(project)?,
        of_log = same_record("L"),
        of_fold = same_record("F"),
    ))
}

/// The query for the highest position in a final table.
pub fn highest_position(project: &str, table: &FinalTable) -> Result<String, NameError> {
    let filter = table.partition_filter(None)?.map_or_else(String::new, |filter| format!(" WHERE {filter}"));
    Ok(format!("SELECT MAX({}) FROM {}{filter}", quote_column(POSITION_COLUMN)?, table.name.quoted(project)?))
}

/// The ALTER that adds columns to a final table.
pub fn add_columns(project: &str, table: &TableName, additions: &[NewColumn]) -> Result<String, NameError> {
    let mut added = Vec::with_capacity(additions.len());
    for NewColumn { name, sql_type, description } in additions {
        let options = description
            .as_deref()
            .map_or_else(String::new, |text| format!(" OPTIONS (description = {})", string_literal(text)));
        added.push(format!("ADD COLUMN IF NOT EXISTS {} {sql_type}{options}", quote_column(name)?));
    }
    Ok(format!("ALTER TABLE {} {}", table.quoted(project)?, added.join(", ")))
}

/// A statement that holds no condition of its own, as an ALTER, behind the condition that the run is in turn
/// ([`super::ledger::LedgerState::in_turn`]). Both are one job: between them lie the milliseconds in which BigQuery goes from one statement
/// to the next (<https://cloud.google.com/bigquery/docs/multi-statement-queries>), and no call of the run's.
pub fn only_in_turn(in_turn: &str, sql: &str) -> String {
    format!("ASSERT {in_turn};\n{sql}")
}

/// Of which source tables control records are looked for, each from an `ingested_at` on, in µs; `None`: in all that is retained.
pub type Sought<'a> = [(&'a SourceTable, Option<i64>)];

/// The query for the hours of the log that hold control records of these source tables. It reads no `data`, so that [`definitions`]
/// reads that of those hours alone.
pub fn definition_hours(project: &str, log: &TableName, sought: &Sought<'_>) -> Result<String, NameError> {
    Ok(format!(
        "SELECT DISTINCT UNIX_MICROS(TIMESTAMP_TRUNC(`ingested_at`, HOUR)) AS `hour`\n\
         FROM {}\n\
         WHERE {}\n\
         ORDER BY `hour`",
        log.quoted(project)?,
        are_definitions(sought)
    ))
}

/// The query for the control records that define or alter each of these source tables, in these hours, in µs: schema, table, operation,
/// control text, when DMS sent it, topic, partition and offset.
pub fn definitions(
    project: &str,
    log: &TableName,
    sought: &Sought<'_>,
    hours: &BTreeSet<i64>,
) -> Result<String, NameError> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for hour in hours {
        let end = hour.saturating_add(HOUR_US);
        match ranges.last_mut() {
            Some((_, last)) if *last == *hour => *last = end,
            _ => ranges.push((*hour, end)),
        }
    }
    let within = |(from, to): &(i64, i64)| {
        format!("`ingested_at` >= {} AND `ingested_at` < {}", timestamp_literal(*from), timestamp_literal(*to))
    };
    Ok(format!(
        "SELECT `source_schema`, `source_table`, `operation`, `data`, UNIX_MICROS({SENT}) AS `sent`, `kafka_topic`, `kafka_partition`, `kafka_offset`\n\
         FROM {}\n\
         WHERE ({})\n\
         AND {}\n\
         AND (STRPOS(`data`, '\"table-def\"') > 0 OR `operation` = 'rename-table')\n\
         ORDER BY `sent`, `kafka_offset`",
        log.quoted(project)?,
        ranges.iter().map(within).collect::<Vec<_>>().join(" OR "),
        are_definitions(sought)
    ))
}

fn are_definitions(sought: &Sought<'_>) -> String {
    let since = |from: i64| format!(" AND `ingested_at` >= {}", timestamp_literal(from));
    // Column by column, so that BigQuery skips the other tables' blocks of the clustered log.
    let wanted: Vec<String> = sought
        .iter()
        .map(|(source, from)| {
            format!(
                "`source_schema` = {} AND `source_table` = {}{}",
                string_literal(&source.schema),
                string_literal(&source.table),
                from.map_or_else(String::new, since)
            )
        })
        .collect();
    // By itself, so that BigQuery skips the partitions before.
    let lowest = sought.iter().map(|(_, from)| *from).min().flatten().map_or_else(String::new, since);
    let operations: Vec<String> =
        DEFINITIONS.iter().chain(&ALTERATIONS).map(|operation| string_literal(operation)).collect();
    format!("`operation` IN ({}){lowest} AND ({})", operations.join(", "), wanted.join(" OR "))
}
