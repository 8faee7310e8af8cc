//! The merge ledger `cdc.merges`: an appended row per table and step of a run. It is the state, the history and the
//! bill; nothing of the merge's state is kept anywhere else, and a row is never changed. Once a day a run carries every table's state
//! forward, so that no run has to read what grew in all the days before.

use std::collections::BTreeMap;

use prost::Message;

use crate::bigquery::table_spec::{Column, ColumnType, Mode, PartitionUnit, TableSpec, column};
use crate::config::{DAY_US, HOUR_US};
use crate::names::{NameError, SourceTable, TableName, string_literal};

use super::coverage::{Coverage, OffsetRange};
use super::definition::Definitions;
use super::epoch::Epochs;
use super::fold::timestamp_literal;
use super::plan::Plan;
use super::schema_change::Unfilled;

const OFFSET_COLUMNS: &[Column] = &[
    column("topic", ColumnType::String, Mode::Required, "Kafka topic"),
    column("partition", ColumnType::Int64, Mode::Required, "Kafka partition"),
    column("first", ColumnType::Int64, Mode::Required, "Lowest offset"),
    column("last", ColumnType::Int64, Mode::Required, "Highest offset"),
];

/// How `cdc.merges` looks. The field numbers of [`Entry`] follow this order.
pub const MERGES: TableSpec = TableSpec {
    description: "Strait's merge ledger: state, history and bill of every merge",
    columns: &[
        column("run_id", ColumnType::String, Mode::Required, "The invocation that wrote this row"),
        column("recorded_at", ColumnType::Timestamp, Mode::Required, "When; a table's newest row is its state"),
        column("source_schema", ColumnType::String, Mode::Required, "Source schema or database"),
        column("source_table", ColumnType::String, Mode::Required, "Source table"),
        column("final_table", ColumnType::String, Mode::Nullable, "Final table, dataset.table"),
        column("outcome", ColumnType::String, Mode::Required, "running, merged, waiting or failed"),
        column("reason", ColumnType::String, Mode::Nullable, "Why it waits or failed, and what to do"),
        column("window_from", ColumnType::Timestamp, Mode::Nullable, "Lowest ingested_at that was read"),
        column("window_to", ColumnType::Timestamp, Mode::Nullable, "Highest ingested_at that was read"),
        column("covered_to", ColumnType::Timestamp, Mode::Nullable, "Records ingested up to here are merged"),
        column(
            "offsets",
            ColumnType::Record(OFFSET_COLUMNS),
            Mode::Repeated,
            "Kafka offsets that are merged, of the time before covered_to that the next window reads again",
        ),
        column("highest_position", ColumnType::String, Mode::Nullable, "Highest position ever merged"),
        column("records", ColumnType::Int64, Mode::Nullable, "Log records in the window"),
        column("inserted", ColumnType::Int64, Mode::Nullable, "Rows inserted"),
        column("updated", ColumnType::Int64, Mode::Nullable, "Rows updated"),
        column("deleted", ColumnType::Int64, Mode::Nullable, "Rows deleted"),
        column("quarantined", ColumnType::Int64, Mode::Nullable, "Records that could not be applied"),
        column("late", ColumnType::Int64, Mode::Nullable, "Keys with a record older than one merged before"),
        column("bytes_billed", ColumnType::Int64, Mode::Nullable, "Bytes billed by this table's jobs"),
        column("slot_ms", ColumnType::Int64, Mode::Nullable, "Slot milliseconds of this table's jobs"),
        column("job_id", ColumnType::String, Mode::Nullable, "The MERGE job"),
        column("duration_ms", ColumnType::Int64, Mode::Nullable, "Milliseconds this table took"),
        column("work", ColumnType::String, Mode::Nullable, "Of a running table: what the next run has to finish first"),
        column(
            "epochs",
            ColumnType::String,
            Mode::Nullable,
            "Where the table's epochs begin: full loads and numberings that began anew",
        ),
        column(
            "based_on",
            ColumnType::Timestamp,
            Mode::Nullable,
            "The newest recorded_at that the run had read; of runs that did not see each other's entries, neither's count",
        ),
        column(
            "unfilled",
            ColumnType::String,
            Mode::Nullable,
            "What of the table's records the final table lacks, and since when records are to be merged again",
        ),
        column(
            "definitions",
            ColumnType::String,
            Mode::Nullable,
            "The control records that define the source's table, where the run read some: the log lets them expire",
        ),
        column(
            "carried",
            ColumnType::Int64,
            Mode::Nullable,
            "Of a row that repeats a table's state, so that older ones need not be read: how many tables its run repeated",
        ),
        column(
            "begun_at",
            ColumnType::Timestamp,
            Mode::Nullable,
            "Of such a row: when the ledger's first row was written",
        ),
        column(
            "bytes_estimated",
            ColumnType::Int64,
            Mode::Nullable,
            "Bytes that BigQuery expected this table's jobs to read, as a dry run would say",
        ),
    ],
    partition: ("recorded_at", PartitionUnit::Day),
    cluster: &["source_schema", "source_table"],
};

/// Where a table stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A run has planned it and not ended it.
    Running,
    /// Its window is in the final table.
    Merged,
    /// It waits for a person or a definition; its records stay in the log.
    Waiting,
    /// Its window will be tried again.
    Failed,
}

impl Outcome {
    /// The word in the ledger and in the answer.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Merged => "merged",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Running, Self::Merged, Self::Waiting, Self::Failed].into_iter().find(|outcome| outcome.as_str() == word)
    }
}

/// One row of the ledger, as the Storage Write API takes it; timestamps in µs since the epoch.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// The invocation.
    #[prost(string, tag = "1")]
    pub run_id: String,
    /// When.
    #[prost(int64, tag = "2")]
    pub recorded_at: i64,
    /// Source schema.
    #[prost(string, tag = "3")]
    pub source_schema: String,
    /// Source table.
    #[prost(string, tag = "4")]
    pub source_table: String,
    /// Final table.
    #[prost(string, optional, tag = "5")]
    pub final_table: Option<String>,
    /// See [`Outcome`].
    #[prost(string, tag = "6")]
    pub outcome: String,
    /// Why it waits or failed.
    #[prost(string, optional, tag = "7")]
    pub reason: Option<String>,
    /// Lowest `ingested_at` read.
    #[prost(int64, optional, tag = "8")]
    pub window_from: Option<i64>,
    /// Highest `ingested_at` read.
    #[prost(int64, optional, tag = "9")]
    pub window_to: Option<i64>,
    /// See [`Coverage::to_us`].
    #[prost(int64, optional, tag = "10")]
    pub covered_to: Option<i64>,
    /// See [`Coverage::ranges`].
    #[prost(message, repeated, tag = "11")]
    pub offsets: Vec<EntryOffsets>,
    /// Highest position ever merged.
    #[prost(string, optional, tag = "12")]
    pub highest_position: Option<String>,
    /// Log records in the window.
    #[prost(int64, optional, tag = "13")]
    pub records: Option<i64>,
    /// Rows inserted.
    #[prost(int64, optional, tag = "14")]
    pub inserted: Option<i64>,
    /// Rows updated.
    #[prost(int64, optional, tag = "15")]
    pub updated: Option<i64>,
    /// Rows deleted.
    #[prost(int64, optional, tag = "16")]
    pub deleted: Option<i64>,
    /// Records quarantined.
    #[prost(int64, optional, tag = "17")]
    pub quarantined: Option<i64>,
    /// Late keys.
    #[prost(int64, optional, tag = "18")]
    pub late: Option<i64>,
    /// Bytes billed.
    #[prost(int64, optional, tag = "19")]
    pub bytes_billed: Option<i64>,
    /// Slot milliseconds.
    #[prost(int64, optional, tag = "20")]
    pub slot_ms: Option<i64>,
    /// The MERGE job.
    #[prost(string, optional, tag = "21")]
    pub job_id: Option<String>,
    /// Milliseconds.
    #[prost(int64, optional, tag = "22")]
    pub duration_ms: Option<i64>,
    /// See [`super::work::Begun`].
    #[prost(string, optional, tag = "23")]
    pub work: Option<String>,
    /// See [`super::epoch::Epochs`].
    #[prost(string, optional, tag = "24")]
    pub epochs: Option<String>,
    /// The newest `recorded_at` of the whole ledger that the run had read before it wrote anything.
    #[prost(int64, optional, tag = "25")]
    pub based_on: Option<i64>,
    /// See [`super::schema_change::Unfilled`].
    #[prost(string, optional, tag = "26")]
    pub unfilled: Option<String>,
    /// See [`super::definition::Definitions`]. NULL: as before.
    #[prost(string, optional, tag = "27")]
    pub definitions: Option<String>,
    /// How many tables the run carried forward, of one of those entries.
    #[prost(int64, optional, tag = "28")]
    pub carried: Option<i64>,
    /// Of such an entry: when the ledger's first entry was written.
    #[prost(int64, optional, tag = "29")]
    pub begun_at: Option<i64>,
    /// Bytes that were expected to be read.
    #[prost(int64, optional, tag = "30")]
    pub bytes_estimated: Option<i64>,
}

/// [`OffsetRange`] as the Storage Write API takes it.
#[derive(Clone, PartialEq, Message)]
pub struct EntryOffsets {
    /// Kafka topic.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// Kafka partition. Required columns are always on the wire, zero included.
    #[prost(int64, required, tag = "2")]
    pub partition: i64,
    /// Lowest offset.
    #[prost(int64, required, tag = "3")]
    pub first: i64,
    /// Highest offset.
    #[prost(int64, required, tag = "4")]
    pub last: i64,
}

impl Entry {
    /// An entry of a table with everything that it inherits from the table's coverage.
    pub fn new(run_id: &str, recorded_at: i64, source: &SourceTable, outcome: Outcome, coverage: &Coverage) -> Self {
        Self {
            run_id: run_id.to_owned(),
            recorded_at,
            source_schema: source.schema.clone(),
            source_table: source.table.clone(),
            outcome: outcome.as_str().to_owned(),
            covered_to: coverage.to_us,
            offsets: coverage
                .ranges
                .iter()
                .map(|range| EntryOffsets {
                    topic: range.topic.clone(),
                    partition: range.partition,
                    first: range.first,
                    last: range.last,
                })
                .collect(),
            ..Self::default()
        }
    }
}

/// What a statement fails with whose run is not in turn.
pub(super) const OVERTAKEN: &str = "another run of the merge has taken this table up";

/// What the ledger says of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableState {
    /// Of its newest entry.
    pub outcome: Outcome,
    /// Of its newest entry.
    pub reason: Option<String>,
    /// Up to where it is merged.
    pub coverage: Coverage,
    /// Highest position ever merged.
    pub highest_position: Option<String>,
    /// When its newest entry was written, in µs.
    pub recorded_at: i64,
    /// Of its newest entry, if that is `running`.
    pub work: Option<String>,
    /// What is known of its epochs.
    pub epochs: Epochs,
    /// What the final table lacks of its records.
    pub unfilled: Unfilled,
    /// What is remembered of its control records; `None`: they were never read. That is so whatever its entries are worth.
    pub definitions: Option<Definitions>,
    /// `ingested_at` of the oldest record that its newest entry is about, in µs.
    pub window_from_us: Option<i64>,
    /// Newer entries do not count, for their runs did not see each other. What their jobs came to must not be attached to.
    pub is_outrun: bool,
}

/// What the ledger says: the newest entry of each table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerState {
    /// By source table.
    pub tables: BTreeMap<SourceTable, TableState>,
    /// When the ledger's first entry was written, in µs. Whatever the log held then has been seen.
    pub begun_us: Option<i64>,
    /// When its newest entry was written, in µs, whatever it is worth.
    pub newest_us: Option<i64>,
    /// When all tables' states were last carried forward, in µs.
    pub carried_us: Option<i64>,
    /// From where on it was read, in µs; `None`: from its beginning.
    pub read_from_us: Option<i64>,
    /// Entries from there on. They are never changed, so as long as there are as many, nothing was written.
    pub entries: i64,
    /// Some table's state may be in an entry from before all were carried forward.
    pub is_cut: bool,
}

/// By how much another run's clock may be behind, in µs: only that long after a day's beginning its entries from before are surely seen.
const CLOCKS_DIFFER_US: i64 = 5 * 60 * 1_000_000;

/// From where on a run at that time reads the ledger, in µs: a day's beginning, as its partitions are days. In the first hour it is the
/// day before's, for this day's carrying forward may not have been done yet.
#[must_use]
pub fn read_from(now_us: i64) -> i64 {
    day_of(now_us.saturating_sub(HOUR_US))
}

fn day_of(at_us: i64) -> i64 {
    at_us.saturating_sub(at_us.rem_euclid(DAY_US))
}

/// A ledger row that is not of the form that Strait writes.
#[derive(Debug, thiserror::Error)]
#[error("a row of the merge ledger cannot be read: {what}")]
pub struct LedgerRowError {
    /// The column.
    what: &'static str,
}

impl LedgerState {
    /// The query that reads the newest entry of each table, from entries of that time on, in µs.
    ///
    /// Runs follow each other: each has read the entries of those before it. Two that have not seen each other may have merged with a
    /// knowledge that was no longer true, so neither's entries count, and the table stands where it did before them.
    pub fn query(project: &str, merges: &TableName, from_us: Option<i64>) -> Result<String, NameError> {
        let since = from_us.map_or_else(String::new, |from| format!("\nWHERE {}", recorded_since(from)));
        Ok(format!(
            "WITH `entries` AS (\n\
             SELECT * EXCEPT (`definitions`), MIN(LEAST(`recorded_at`, COALESCE(`begun_at`, `recorded_at`))) OVER () AS `begun`, \
             MAX(`recorded_at`) OVER () AS `newest`, COUNT(*) OVER () AS `number`,\n\
             LAST_VALUE(`definitions` IGNORE NULLS) OVER (PARTITION BY `source_schema`, `source_table` ORDER BY `recorded_at` \
             ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS `definitions`\n\
             FROM {merges}{since}\n\
             ),\n\
             `carriers` AS (\n\
             SELECT MIN(`recorded_at`) AS `carried_at`\n\
             FROM `entries`\n\
             WHERE `carried` IS NOT NULL\n\
             GROUP BY `run_id`\n\
             HAVING COUNT(DISTINCT CONCAT(`source_schema`, '\\n', `source_table`)) >= MAX(`carried`)\n\
             ),\n\
             `runs` AS (\n\
             SELECT `source_schema`, `source_table`, `run_id`, MIN(`recorded_at`) AS `claimed_at`, MIN(COALESCE(`based_on`, `recorded_at`)) AS `based`\n\
             FROM `entries`\n\
             GROUP BY `source_schema`, `source_table`, `run_id`\n\
             ),\n\
             `in_turn` AS (\n\
             SELECT `source_schema` AS `run_schema`, `source_table` AS `run_table`, `run_id` AS `run`,\n\
             COALESCE(MAX(`claimed_at`) OVER (PARTITION BY `source_schema`, `source_table` ORDER BY `claimed_at` ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) <= `based`, TRUE)\n\
             AND COALESCE(MIN(`based`) OVER (PARTITION BY `source_schema`, `source_table` ORDER BY `claimed_at` ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) >= `claimed_at`, TRUE) AS `counts`\n\
             FROM `runs`\n\
             ),\n\
             `judged` AS (\n\
             SELECT `entries`.*, `counts`,\n\
             MAX(IF(`counts`, NULL, `recorded_at`)) OVER (PARTITION BY `source_schema`, `source_table`) AS `newest_that_does_not`\n\
             FROM `entries` JOIN `in_turn` ON `run_schema` = `source_schema` AND `run_table` = `source_table` AND `run` = `run_id`\n\
             )\n\
             SELECT `source_schema`, `source_table`, `outcome`, `reason`, UNIX_MICROS(`covered_to`) AS `covered_to`, \
             TO_JSON_STRING(`offsets`) AS `offsets`, `highest_position`, UNIX_MICROS(`recorded_at`) AS `recorded_us`, `work`, \
             `epochs`, `unfilled`, UNIX_MICROS(`window_from`) AS `window_from`, UNIX_MICROS(`begun`) AS `begun`, UNIX_MICROS(`newest`) AS `newest`, \
             `counts`, COALESCE(`newest_that_does_not` > `recorded_at`, FALSE) AS `is_outrun`, `definitions`, `number`, \
             UNIX_MICROS((SELECT MAX(`carried_at`) FROM `carriers`)) AS `carried_us`\n\
             FROM `judged`\n\
             WHERE TRUE\n\
             QUALIFY ROW_NUMBER() OVER (PARTITION BY `source_schema`, `source_table` ORDER BY `counts` DESC, `recorded_at` DESC) = 1",
            merges = merges.quoted(project)?
        ))
    }

    /// A condition for a statement that writes to a final table: since this run read the ledger, no other run has merged the table, nor
    /// taken it up before this one did. It is TRUE, or the statement fails. Of two at once the first goes on, so that one does.
    pub fn in_turn(
        &self,
        project: &str,
        merges: &TableName,
        source: &SourceTable,
        run_id: &str,
    ) -> Result<String, NameError> {
        let since = format!(
            "FROM {} WHERE `source_schema` = {} AND `source_table` = {} AND `recorded_at` > {} AND `run_id`",
            merges.quoted(project)?,
            string_literal(&source.schema),
            string_literal(&source.table),
            timestamp_literal(self.newest_us.unwrap_or_default()),
        );
        let run_id = string_literal(run_id);
        Ok(format!(
            "IF(EXISTS (SELECT 1 {since} <> {run_id} AND (`outcome` = {merged} AND `carried` IS NULL \
             OR `recorded_at` <= COALESCE((SELECT MIN(`recorded_at`) {since} = {run_id}), `recorded_at`))), \
             ERROR('{OVERTAKEN}; the next run goes on from what is sure'), TRUE)",
            merged = string_literal(Outcome::Merged.as_str()),
        ))
    }

    /// Reads that query's rows.
    pub fn from_rows(rows: &[Vec<Option<String>>], from_us: Option<i64>) -> Result<Self, LedgerRowError> {
        let mut state = Self { read_from_us: from_us, ..Self::default() };
        for row in rows {
            let [
                schema,
                table,
                outcome,
                reason,
                covered_to,
                offsets,
                highest_position,
                recorded_at,
                work,
                epochs,
                unfilled,
                window_from,
                begun,
                newest,
                counts,
                is_outrun,
                definitions,
                entries,
                carried_us,
            ] = row.as_slice()
            else {
                return Err(LedgerRowError { what: "its columns" });
            };
            let number = |text: &Option<String>, what| {
                text.as_ref().map(|text| text.parse::<i64>().map_err(|_| LedgerRowError { what })).transpose()
            };
            let source =
                SourceTable { schema: schema.clone().unwrap_or_default(), table: table.clone().unwrap_or_default() };
            let ranges = read_ranges(offsets.as_deref().unwrap_or("[]"))?;
            state.begun_us = number(begun, "begun")?;
            state.newest_us = number(newest, "newest")?;
            state.entries = number(entries, "number")?.unwrap_or_default();
            state.carried_us = number(carried_us, "carried_us")?;
            let is_carried = state.carried_us.is_some_and(|at| required_time(recorded_at).is_ok_and(|own| own >= at));
            state.is_cut |= !is_carried || counts.as_deref() != Some("true");
            let definitions = Definitions::from_entry(definitions.as_deref());
            if counts.as_deref() != Some("true") {
                // Nothing of it is sure, so all that the log holds is to be merged.
                let unsure = TableState { definitions, ..TableState::unsure(required_time(recorded_at)?) };
                state.tables.insert(source, unsure);
                continue;
            }
            let mut table = TableState {
                outcome: outcome.as_deref().and_then(Outcome::parse).ok_or(LedgerRowError { what: "outcome" })?,
                reason: reason.clone(),
                coverage: Coverage { to_us: number(covered_to, "covered_to")?, ranges },
                highest_position: highest_position.clone(),
                recorded_at: required_time(recorded_at)?,
                work: work.clone(),
                epochs: Epochs::from_entry(epochs.as_deref()),
                unfilled: Unfilled::from_entry(unfilled.as_deref()),
                definitions,
                window_from_us: number(window_from, "window_from")?,
                is_outrun: false,
            };
            if is_outrun.as_deref() == Some("true") {
                table.outrun();
            }
            state.tables.insert(source, table);
        }
        Ok(state)
    }

    /// Whether it says of every table what the whole ledger says. It does from where all tables were carried forward on: of any two runs since
    /// then it is seen whether they saw each other, and one that did not see the carrying takes its entries' worth from them.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.read_from_us.is_none() || self.carried_us.is_some() && !self.is_cut
    }

    /// The end of a query for one row, which is there if the ledger has other entries than were read. Entries are never changed, so their
    /// number tells, and the newest one's time, should a person have changed them.
    pub fn if_it_moved(&self, project: &str, merges: &TableName) -> Result<String, NameError> {
        let since = self.read_from_us.map_or_else(|| "TRUE".to_owned(), recorded_since);
        let newest = self
            .newest_us
            .map_or_else(String::new, |newest| format!(" OR MAX(`recorded_at`) <> {}", timestamp_literal(newest)));
        Ok(format!("FROM {}\nWHERE {since}\nHAVING COUNT(*) <> {}{newest}", merges.quoted(project)?, self.entries))
    }

    /// The entries that carry all tables forward, if that is due: once a day. The state must have been read at or after that time.
    pub fn carry(&mut self, run_id: &str, now_us: i64, name_of: impl Fn(&SourceTable) -> TableName) -> Vec<Entry> {
        let is_due = self.carried_us.is_none_or(|at| at < day_of(now_us.saturating_sub(CLOCKS_DIFFER_US)));
        // Of a table that was outrun older entries count as well, until it is merged.
        if !is_due || self.tables.is_empty() || self.tables.values().any(|table| table.is_outrun) {
            return Vec::new();
        }
        let at = self.next_recorded_at(now_us);
        let mut tables: Vec<_> = self.tables.iter().collect();
        // In their order, for of two that reach equally far the newer one has seen more.
        tables.sort_by_key(|(_, table)| table.recorded_at);
        let entries: Vec<Entry> = tables
            .into_iter()
            .zip(at..)
            .map(|((source, table), at)| Entry {
                final_table: Some(name_of(source).to_string()),
                reason: table.reason.clone(),
                window_from: table.window_from_us,
                highest_position: table.highest_position.clone(),
                work: table.work.clone(),
                epochs: table.epochs.to_entry(),
                based_on: self.newest_us,
                unfilled: table.unfilled.to_entry(),
                definitions: table.definitions.as_ref().and_then(Definitions::to_entry),
                carried: i64::try_from(self.tables.len()).ok(),
                begun_at: self.begun_us,
                ..Entry::new(run_id, at, source, table.outcome, &table.coverage)
            })
            .collect();
        self.carried_us = entries.last().map(|entry| entry.recorded_at);
        entries
    }

    /// A table's state, if it stands behind the others.
    pub fn behind(&self, source: &SourceTable) -> Option<&TableState> {
        self.tables.get(source).filter(|table| table.outcome != Outcome::Merged)
    }

    /// The coverage of every table that is not behind: the furthest that any entry knows. A run covers all tables that
    /// had no news in it, so only those with an entry that is not `merged` stand behind it.
    pub fn furthest(&self) -> Coverage {
        self.tables
            .values()
            // Of two that reach equally far, the newer one has seen more of what became visible late.
            .max_by_key(|state| (state.coverage.to_us, state.recorded_at))
            .map(|state| state.coverage.clone())
            .unwrap_or_default()
    }

    /// A table that is merged, and of which the plan has no news.
    pub fn any_merged_besides(&self, plan: &Plan) -> Option<(&SourceTable, &TableState)> {
        self.tables
            .iter()
            .find(|(source, table)| table.outcome == Outcome::Merged && !plan.tables.contains_key(*source))
    }

    /// A time for new entries that no entry of any table has reached yet, so that clocks that differ cannot reorder entries.
    pub fn next_recorded_at(&self, now_us: i64) -> i64 {
        let newest = self.newest_us.max(self.carried_us);
        now_us.max(newest.map_or(i64::MIN, |newest| newest.saturating_add(1)))
    }
}

fn recorded_since(from_us: i64) -> String {
    format!("`recorded_at` >= {}", timestamp_literal(from_us))
}

fn required_time(text: &Option<String>) -> Result<i64, LedgerRowError> {
    text.as_deref().and_then(|text| text.parse().ok()).ok_or(LedgerRowError { what: "recorded_at" })
}

impl TableState {
    /// Of a table of which no entry counts.
    fn unsure(recorded_at: i64) -> Self {
        Self {
            outcome: Outcome::Running,
            reason: None,
            coverage: Coverage::default(),
            highest_position: None,
            recorded_at,
            work: None,
            epochs: Epochs::default(),
            unfilled: Unfilled::default(),
            definitions: None,
            window_from_us: None,
            is_outrun: true,
        }
    }

    /// Takes in that entries after this one do not count: the table stands behind the others again.
    fn outrun(&mut self) {
        self.is_outrun = true;
        if self.outcome != Outcome::Running {
            self.work = None;
        }
        self.outcome = Outcome::Running;
    }
}

/// `TO_JSON_STRING` writes an INT64 beyond 2^53 as a string
/// (<https://cloud.google.com/bigquery/docs/reference/standard-sql/json_functions#json_encodings>).
fn read_ranges(json: &str) -> Result<Vec<OffsetRange>, LedgerRowError> {
    let unreadable = || LedgerRowError { what: "offsets" };
    let values: Option<Vec<serde_json::Value>> = serde_json::from_str(json).map_err(|_| unreadable())?;
    // BigQuery stores an empty array for none; the embedded one a NULL.
    values
        .unwrap_or_default()
        .iter()
        .map(|value| {
            let number = |name: &str| {
                let member = value.get(name)?;
                member.as_i64().or_else(|| member.as_str()?.parse().ok())
            };
            Some(OffsetRange {
                topic: value.get("topic")?.as_str()?.to_owned(),
                partition: number("partition")?,
                first: number("first")?,
                last: number("last")?,
            })
        })
        .collect::<Option<_>>()
        .ok_or_else(unreadable)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn row(table: &str, outcome: &str, covered_to: Option<&str>, recorded: &str) -> Vec<Option<String>> {
        let text = |text: &str| Some(text.to_owned());
        vec![
            text("shop"),
            text(table),
            text(outcome),
            None,
            covered_to.map(str::to_owned),
            text(r#"[{"topic":"cdc","partition":1,"first":0,"last":"9007199254740993"}]"#),
            None,
            text(recorded),
            None,
            None,
            None,
            None,
            text("1"),
            text(recorded),
            text("true"),
            text("false"),
            None,
            text("2"),
            None,
        ]
    }

    #[test]
    fn a_run_that_died_leaves_its_tables_behind_and_the_others_covered() {
        let state = LedgerState::from_rows(
            &[row("orders", "running", Some("100"), "900"), row("items", "merged", Some("500"), "901")],
            None,
        )
        .unwrap();
        assert_eq!(state.furthest().to_us, Some(500));
        let orders = state.tables.values().find(|table| table.outcome == Outcome::Running).unwrap();
        assert_eq!(orders.coverage.to_us, Some(100));
        assert_eq!(orders.coverage.ranges.first().unwrap().last, 9007199254740993);
    }

    #[test]
    fn of_two_that_reach_equally_far_the_newer_has_seen_more() {
        let mut newer = row("a", "merged", Some("500"), "902");
        *newer.get_mut(5).unwrap() = Some("null".to_owned());
        let state = LedgerState::from_rows(&[newer, row("b", "merged", Some("500"), "901")], None).unwrap();
        assert_eq!(state.furthest(), Coverage { to_us: Some(500), ranges: Vec::new() });
    }

    #[test]
    fn a_table_whose_newest_runs_did_not_see_each_other_stands_where_it_did_before_them() {
        let mut outrun = row("orders", "merged", Some("100"), "900");
        *outrun.get_mut(15).unwrap() = Some("true".to_owned());
        let mut unsure = row("items", "merged", Some("500"), "901");
        *unsure.get_mut(14).unwrap() = Some("false".to_owned());
        let state = LedgerState::from_rows(&[outrun, unsure], None).unwrap();
        let of = |name: &str| state.tables.iter().find(|(source, _)| source.table == name).unwrap().1;
        assert_eq!((of("orders").outcome, of("orders").coverage.to_us), (Outcome::Running, Some(100)));
        assert_eq!((of("items").outcome, of("items").coverage.to_us), (Outcome::Running, None));
        assert!(of("orders").is_outrun && of("items").is_outrun);
        assert_eq!(state.furthest().to_us, Some(100), "what does not count covers nothing");
    }

    const DAY: i64 = 1_772_409_600_000_000;
    const MINUTE: i64 = 60_000_000;

    fn read_on_that_day(rows: &[(&str, i64)], carried_us: Option<i64>) -> LedgerState {
        let rows: Vec<_> = rows
            .iter()
            .map(|(table, at)| {
                let mut row = row(table, "merged", Some("500"), &at.to_string());
                *row.last_mut().unwrap() = carried_us.map(|us| us.to_string());
                row
            })
            .collect();
        LedgerState::from_rows(&rows, Some(DAY)).unwrap()
    }

    #[test]
    fn a_part_of_the_ledger_is_enough_from_where_every_table_was_carried_forward_on() {
        assert!(!read_on_that_day(&[], None).is_whole(), "nothing was written that day");
        assert!(!read_on_that_day(&[("orders", DAY + 1)], None).is_whole());
        assert!(read_on_that_day(&[("items", DAY + 7), ("orders", DAY + 9)], Some(DAY + 7)).is_whole());
        let cut = read_on_that_day(&[("items", DAY + 6), ("orders", DAY + 9)], Some(DAY + 7));
        assert!(!cut.is_whole(), "what counts of items is from before that");
        let mut unsure = row("orders", "merged", Some("1"), &(DAY + 9).to_string());
        *unsure.get_mut(14).unwrap() = Some("false".to_owned());
        *unsure.last_mut().unwrap() = Some((DAY + 7).to_string());
        assert!(!LedgerState::from_rows(&[unsure], Some(DAY)).unwrap().is_whole(), "what counts of it was not read");
        assert!(LedgerState::from_rows(&[], None).unwrap().is_whole(), "there is no more than all");
    }

    #[test]
    fn all_tables_are_carried_forward_once_a_day() {
        let name = |source: &SourceTable| TableName { dataset: "replica".into(), table: source.table.clone() };
        let at = |table: &'static str| (table, DAY - 3 * MINUTE);
        let mut state = read_on_that_day(&[at("orders"), at("items")], Some(DAY - DAY_US + MINUTE));
        let newest = state.newest_us.unwrap();
        assert_eq!(state.carry("run", DAY + 4 * MINUTE, name), [], "entries of the day before may still come");
        let now = DAY + 6 * MINUTE;
        let carried = state.carry("run", now, name);
        let told: Vec<_> = carried
            .iter()
            .map(|entry| {
                (entry.source_table.as_str(), entry.carried, entry.begun_at, entry.based_on, entry.recorded_at)
            })
            .collect();
        assert_eq!(
            told,
            [("items", Some(2), Some(1), Some(newest), now), ("orders", Some(2), Some(1), Some(newest), now + 1)]
        );
        assert_eq!(state.next_recorded_at(now), now + 2, "what the run writes then is newer");
        assert_eq!(state.carry("run", now + DAY_US / 2, name), []);
        assert_eq!(state.carry("run", now + DAY_US, name).len(), 2);
        let mut outrun = read_on_that_day(&[at("orders")], None);
        outrun.tables.values_mut().for_each(TableState::outrun);
        assert_eq!(outrun.carry("run", now, name), [], "entries from before those that do not count are what counts");
    }

    #[test]
    fn a_run_reads_the_ledger_from_the_days_beginning_once_that_day_was_carried_forward() {
        assert_eq!(read_from(DAY + 59 * MINUTE), DAY - DAY_US);
        assert_eq!(read_from(DAY + 61 * MINUTE), DAY);
        assert_eq!(read_from(DAY + DAY_US - 1), DAY);
    }

    #[test]
    fn entries_stay_in_order_when_a_clock_steps_back() {
        let state = LedgerState::from_rows(&[row("orders", "merged", Some("1"), "1000")], None).unwrap();
        assert_eq!(state.next_recorded_at(10), 1001);
        assert_eq!(state.next_recorded_at(5000), 5000);
    }

    #[test]
    fn an_entry_has_a_field_for_every_column_in_the_tables_order() {
        let source = SourceTable { schema: "s".into(), table: "t".into() };
        let coverage = Coverage::after(5, 5, vec![OffsetRange { topic: "t".into(), partition: 0, first: 0, last: 0 }]);
        let mut entry = Entry::new("run", 1, &source, Outcome::Merged, &coverage);
        for text in [
            &mut entry.final_table,
            &mut entry.reason,
            &mut entry.highest_position,
            &mut entry.job_id,
            &mut entry.work,
            &mut entry.epochs,
            &mut entry.unfilled,
            &mut entry.definitions,
        ] {
            *text = Some("x".into());
        }
        for number in [
            &mut entry.based_on,
            &mut entry.window_from,
            &mut entry.window_to,
            &mut entry.records,
            &mut entry.inserted,
            &mut entry.updated,
            &mut entry.deleted,
            &mut entry.quarantined,
            &mut entry.late,
            &mut entry.bytes_billed,
            &mut entry.slot_ms,
            &mut entry.duration_ms,
            &mut entry.carried,
            &mut entry.begun_at,
            &mut entry.bytes_estimated,
        ] {
            *number = Some(0);
        }
        // Field numbers as they stand on the wire, each with the wire type that its column needs.
        let bytes = entry.encode_to_vec();
        let mut rest = bytes.as_slice();
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let (tag, wire_type) = prost::encoding::decode_key(&mut rest).unwrap();
            prost::encoding::skip_field(wire_type, tag, &mut rest, Default::default()).unwrap();
            fields.push((tag, wire_type == prost::encoding::WireType::Varint));
        }
        let expected: Vec<(u32, bool)> = (1..)
            .zip(MERGES.columns)
            .map(|(number, column)| (number, matches!(column.column_type, ColumnType::Int64 | ColumnType::Timestamp)))
            .collect();
        assert_eq!(fields, expected);
    }
}
