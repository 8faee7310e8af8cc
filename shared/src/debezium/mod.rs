//! Debezium's change events: one envelope → one [`Event`]; [`schema`] and [`value`] turn its images into the text that DMS would have sent,
//! [`table_change`] the records of the schema change topic into DMS's control records. What is decoded is decoded here, at ingest, where a
//! record's own schema is at hand: from the log on, nothing knows which tool captured a change.
//! It must never guess an encoding that no schema says, never take a flattened record for a change, never panic, and never put a word of the
//! record into a reason.
//!
//! <https://debezium.io/documentation/reference/stable/connectors/mysql.html#mysql-events>,
//! <https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events>

pub mod catalogue;
pub mod encoding;
mod image;
pub mod schema;
mod schemas;
mod table_change;
pub mod value;

pub use image::{ImageFault, NormalisedImage, changed_members, normalise, normalise_without_schema};
pub use schemas::{Definition, Described, Schemas, is_in_key, key_payload};
pub use table_change::TableChange;

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::dms::{self, DecodeErrorKind, Wanted, members};
use crate::json_text;
use crate::names::SourceTable;

/// What the log says of a change whose values cannot be told from the record alone.
pub const WITHOUT_SCHEMA: &str = "the record has no schema, so that dates, times, decimals and bytes cannot be told from numbers and text: set \
                                  value.converter.schemas.enable to true in Debezium's connector, or STRAIT_DEBEZIUM_WITHOUT_SCHEMA to by-definition \
                                  or self-describing, each with what docs/debezium.md says of it";
/// What the log says of every change without a schema begins with this, in every version of Strait.
pub const WITHOUT_SCHEMA_BEGINS: &str = "the record has no schema";
/// What the log says of a change without a schema whose values say what they are, by an operator's word.
pub const SELF_DESCRIBING: &str =
    "the record has no schema; its values are taken for what they say (STRAIT_DEBEZIUM_WITHOUT_SCHEMA)";
/// The same of one that is [`UNAVAILABLE`] as well.
pub const SELF_DESCRIBING_UNAVAILABLE: &str = "the record has no schema; its values are taken for what they say \
                                               (STRAIT_DEBEZIUM_WITHOUT_SCHEMA), and values that did not change were not sent \
                                               (unavailable.value.placeholder)";
/// What the log says of a change without a schema whose values are written in the connector's default modes, by an operator's word: the table's
/// definition says which.
pub const BY_DEFINITION: &str =
    "the record has no schema; its values are read by the table's definition (STRAIT_DEBEZIUM_WITHOUT_SCHEMA)";
/// The same of one that is [`UNAVAILABLE`] as well.
pub const BY_DEFINITION_UNAVAILABLE: &str = "the record has no schema; its values are read by the table's definition \
                                             (STRAIT_DEBEZIUM_WITHOUT_SCHEMA), and values that did not change were not sent \
                                             (unavailable.value.placeholder)";
/// What the log says of a change that leaves out values that did not change (PostgreSQL's TOAST); they are absent in `data`.
pub const UNAVAILABLE: &str = "values that did not change were not sent (unavailable.value.placeholder)";

/// What the log says of such a change that makes a row: what is left out is in another row, under its former key.
pub const INCOMPLETE: &str = "values that did not change were not sent with a row's new key (unavailable.value.placeholder), so the row cannot be \
                              completed: set the table's REPLICA IDENTITY to FULL and let the row be sent again";

/// What the log says of changes that leave out values.
pub const PARTIAL: [&str; 3] = [UNAVAILABLE, SELF_DESCRIBING_UNAVAILABLE, BY_DEFINITION_UNAVAILABLE];
/// What it says of changes without a schema whose values say what they are.
pub const SELF_DESCRIBED: [&str; 2] = [SELF_DESCRIBING, SELF_DESCRIBING_UNAVAILABLE];
/// What it says of those whose values are read by the table's definition.
pub const DEFINED: [&str; 2] = [BY_DEFINITION, BY_DEFINITION_UNAVAILABLE];

/// Whether it says how a change without a schema is to be read.
#[must_use]
pub fn is_without_schema(error: &str) -> bool {
    SELF_DESCRIBED.contains(&error) || DEFINED.contains(&error)
}

/// Whether what the log says of a change is no fault, but how it is to be read.
#[must_use]
pub fn is_no_fault(error: &str) -> bool {
    PARTIAL.contains(&error) || is_without_schema(error)
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A row was read or changed.
    Change(Box<ChangeEvent<'a>>),
    /// A table was emptied.
    Truncate(Box<Source<'a>>),
    /// Tables were made, altered or dropped.
    Tables {
        /// Which, and how; empty where the statement concerns none.
        tables: Vec<TableChange>,
        /// When Debezium made the record; microseconds since the Unix epoch.
        emitted_at: Option<i64>,
    },
    /// A tombstone that has a schema.
    Tombstone,
    /// One of Debezium's own: a transaction's boundary, a heartbeat, a logical decoding message.
    Own,
}

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `r`: read by a snapshot.
    Read,
    /// `c`.
    Create,
    /// `u`.
    Update,
    /// `d`.
    Delete,
}

/// A change of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeEvent<'a> {
    /// What happened.
    pub operation: Operation,
    /// The row before it: a JSON object, to the letter.
    pub before: Option<&'a str>,
    /// The row after it.
    pub after: Option<&'a str>,
    /// Where and when.
    pub source: Source<'a>,
    /// The envelope's schema, to the letter.
    pub schema: Option<&'a str>,
}

/// `source`, and what else is known of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source<'a> {
    /// The database of MySQL and MariaDB, the schema of PostgreSQL: what DMS calls `schema-name`.
    pub schema: Cow<'a, str>,
    /// The table.
    pub table: Cow<'a, str>,
    /// Where in the source's own log; None of a row that a snapshot read before there was any.
    pub place: Option<Place>,
    /// Which part a row has in a snapshot.
    pub snapshot: Snapshot,
    /// When the source committed; microseconds since the Unix epoch.
    pub committed_at: Option<i64>,
    /// When Debezium made the record, likewise.
    pub emitted_at: Option<i64>,
    /// PostgreSQL's txId, MySQL's GTID or, with `provide.transaction.metadata`, the transaction's own id.
    pub transaction_id: Option<Cow<'a, str>>,
    /// With `provide.transaction.metadata`: which event of its transaction this is, from 1.
    pub order: Option<u64>,
    /// Whether values that did not change may be left out: PostgreSQL's.
    pub may_be_partial: bool,
}

/// A place in the source's own log. A GTID is none: it is no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// MySQL and MariaDB: the number of the binlog file, the event's position there, the row of the event.
    Binlog {
        /// `mysql-bin-changelog.000004` is 4.
        file: u64,
        /// Bytes from its beginning.
        position: u64,
        /// From 0.
        row: u64,
    },
    /// PostgreSQL: the log sequence number.
    Lsn(u64),
}

/// `source.snapshot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshot {
    /// No part of one.
    No,
    /// A row of one.
    Row,
    /// The first row of its table.
    First,
    /// A row of an incremental snapshot: as it is at the event's own place in the source's log, changes before and after it.
    Incremental,
}

/// Why a record is no event that can be taken. Nothing of it is in the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventFault {
    /// Neither DMS's nor Debezium's, or Debezium's without its envelope.
    #[error(
        "neither a DMS message (`metadata`) nor a Debezium change event (`op`, `source`): if a Debezium connector sent it, remove its \
         ExtractNewRecordState transformation (unwrap), which takes away what a change was and its place in the source's order"
    )]
    NoEnvelope,
    /// `op` is none that is documented.
    #[error("`op` is none of c, r, u, d, t, m")]
    UnknownOperation,
    /// Another database's connector.
    #[error("`source.connector` is none of mysql, mariadb, postgresql")]
    UnknownConnector,
    /// A change without a place in the source's log cannot be put in order.
    #[error("`source` has no place in the source's log (`file` and `pos`, or `lsn`)")]
    NoPlace,
    /// The row is not there.
    #[error("`after` is missing for this `op`")]
    NoImage,
    /// The schema change cannot be read.
    #[error(transparent)]
    TableChanges(#[from] table_change::NotReadable),
}

/// An event.
const PAYLOAD: Wanted<13> = Wanted {
    names: [
        "op",
        "before",
        "after",
        "source",
        "ts_ms",
        "ts_us",
        "transaction",
        "tableChanges",
        "ddl",
        "status",
        "id",
        "event_count",
        "message",
    ],
    place: |name| {
        Some(match name {
            "op" => 0,
            "before" => 1,
            "after" => 2,
            "source" => 3,
            "ts_ms" => 4,
            "ts_us" => 5,
            "transaction" => 6,
            "tableChanges" => 7,
            "ddl" => 8,
            "status" => 9,
            "id" => 10,
            "event_count" => 11,
            "message" => 12,
            _ => return None,
        })
    },
};

const SOURCE: Wanted<13> = Wanted {
    names: [
        "connector",
        "ts_ms",
        "ts_us",
        "snapshot",
        "db",
        "schema",
        "table",
        "file",
        "pos",
        "row",
        "lsn",
        "txId",
        "gtid",
    ],
    place: |name| {
        Some(match name {
            "connector" => 0,
            "ts_ms" => 1,
            "ts_us" => 2,
            "snapshot" => 3,
            "db" => 4,
            "schema" => 5,
            "table" => 6,
            "file" => 7,
            "pos" => 8,
            "row" => 9,
            "lsn" => 10,
            "txId" => 11,
            "gtid" => 12,
            _ => return None,
        })
    },
};

const TRANSACTION: Wanted<2> = Wanted {
    names: ["id", "total_order"],
    place: |name| match name {
        "id" => Some(0),
        "total_order" => Some(1),
        _ => None,
    },
};

/// Reads a record that has no `metadata`, with its schema and payload if it has both; the error's second value is the table, as far as it is
/// known.
///
/// # Errors
/// The reason, without a word of the text.
pub(crate) fn event<'a>(
    text: &'a str,
    enveloped: Option<(&'a RawValue, &'a RawValue)>,
) -> Result<Event<'a>, (DecodeErrorKind, Option<SourceTable>)> {
    let unplaced = |kind: DecodeErrorKind| (kind, None);
    let (schema, body) = match enveloped {
        Some((_, payload)) if payload.get() == "null" => return Ok(Event::Tombstone),
        Some((schema, payload)) => (Some(schema.get()).filter(|schema| schema.starts_with('{')), payload.get()),
        None => (None, text),
    };
    let body_members =
        members(body, &PAYLOAD).map_err(unplaced)?.ok_or_else(|| unplaced(EventFault::NoEnvelope.into()))?;
    let [op, before, after, source, ts_ms, ts_us, transaction, table_changes, ddl, status, id, event_count, message] =
        body_members.values;
    let is_there = |raw: Option<&RawValue>| raw.is_some_and(|raw| raw.get() != "null");
    let emitted_at = microseconds(ts_us, ts_ms);
    if table_changes.is_some() && source.is_some() {
        if let Some(name) = body_members.duplicate() {
            return Err(unplaced(DecodeErrorKind::DuplicateMember(name)));
        }
        let changes = table_changes.map(RawValue::get).filter(|changes| *changes != "null").unwrap_or("[]");
        let ddl = ddl.and_then(json_text::string_value).unwrap_or_default();
        let tables =
            table_change::table_changes(changes, &ddl).map_err(|error| unplaced(EventFault::from(error).into()))?;
        return Ok(Event::Tables { tables, emitted_at });
    }
    let Some(op) = op.filter(|_| is_there(source)) else {
        let is_boundary = matches!(status.map(RawValue::get), Some("\"BEGIN\"" | "\"END\""))
            && id.is_some_and(|id| id.get().starts_with('"'))
            && event_count.is_some();
        let is_heartbeat = is_there(ts_ms) && is_alone(body);
        return if is_boundary || is_heartbeat { Ok(Event::Own) } else { Err(unplaced(EventFault::NoEnvelope.into())) };
    };
    let op = json_text::string_value(op).ok_or_else(|| unplaced(DecodeErrorKind::NotText("op")))?;
    if op == "m" && message.is_some() {
        return Ok(Event::Own);
    }
    let fields = source.map(RawValue::get).unwrap_or_default();
    let source = Source::read(fields, transaction, emitted_at)?;
    let table =
        || Some(SourceTable { schema: source.schema.clone().into_owned(), table: source.table.clone().into_owned() });
    let placed = |kind: DecodeErrorKind| (kind, table());
    if !json_text::is_within_depth(body) {
        return Err(placed(DecodeErrorKind::TooDeep));
    }
    if let Some(name) = body_members.duplicate() {
        return Err(placed(DecodeErrorKind::DuplicateMember(name)));
    }
    let operation = match op.as_ref() {
        "c" => Operation::Create,
        "r" => Operation::Read,
        "u" => Operation::Update,
        "d" => Operation::Delete,
        "t" => return Ok(Event::Truncate(Box::new(source))),
        _ => return Err(placed(EventFault::UnknownOperation.into())),
    };
    let before = dms::object_member("before", before).map_err(placed)?;
    let after = dms::object_member("after", after).map_err(placed)?;
    if operation != Operation::Delete && after.is_none() {
        return Err(placed(EventFault::NoImage.into()));
    }
    let is_load = operation == Operation::Read && source.snapshot != Snapshot::Incremental;
    if source.place.is_none() && !is_load {
        return Err(placed(EventFault::NoPlace.into()));
    }
    Ok(Event::Change(Box::new(ChangeEvent { operation, before, after, source, schema })))
}

/// Whether the time is all that there is, as in a heartbeat.
fn is_alone(body: &str) -> bool {
    let mut is_alone = true;
    let read = json_text::edit_members(body, |name, _| {
        is_alone &= matches!(name, "ts_ms" | "ts_us" | "ts_ns");
        json_text::Edit::Keep
    });
    read.is_ok() && is_alone
}

impl<'a> Source<'a> {
    fn read(
        fields: &'a str,
        transaction: Option<&'a RawValue>,
        emitted_at: Option<i64>,
    ) -> Result<Self, (DecodeErrorKind, Option<SourceTable>)> {
        let unplaced = |kind: DecodeErrorKind| (kind, None);
        let Some(found) = members(fields, &SOURCE).map_err(unplaced)? else {
            return Err(unplaced(DecodeErrorKind::MemberNotAnObject("source")));
        };
        // With one of these twice it is open which table the record is of.
        if let Some(name) = found.duplicate() {
            return Err(unplaced(DecodeErrorKind::DuplicateMember(name)));
        }
        let [connector, ts_ms, ts_us, snapshot, db, schema, table, file, pos, row, lsn, tx_id, gtid] = found.values;
        let text = |name: &'static str, raw| dms::text_member(name, raw).map_err(unplaced);
        let table = text("table", table)?
            .filter(|table| !table.is_empty())
            .ok_or_else(|| unplaced(DecodeErrorKind::Missing("source.table")))?;
        let is_postgresql = match text("connector", connector)?.as_deref() {
            Some("mysql" | "mariadb") => false,
            Some("postgresql") => true,
            _ => return Err(unplaced(EventFault::UnknownConnector.into())),
        };
        let schema = if is_postgresql { text("schema", schema)? } else { text("db", db)? }.unwrap_or_default();
        let of_table =
            |kind: DecodeErrorKind| (kind, Some(SourceTable { schema: schema.to_string(), table: table.to_string() }));
        let number = |name: &'static str, raw| dms::number_member(name, raw).map_err(of_table);
        let place = if is_postgresql {
            number("lsn", lsn)?.map(Place::Lsn)
        } else {
            let file = dms::text_member("file", file).map_err(of_table)?;
            let file = file.as_deref().and_then(binlog_number);
            let (position, row) = (number("pos", pos)?, number("row", row)?.unwrap_or(0));
            file.zip(position)
                .filter(|(file, position)| *file < TOO_LARGE && *position < TOO_LARGE)
                .map(|(file, position)| Place::Binlog { file, position, row })
        };
        let snapshot = match snapshot.map(RawValue::get) {
            None | Some("null" | "false" | "\"false\"") => Snapshot::No,
            Some("\"first\"" | "\"first_in_data_collection\"") => Snapshot::First,
            Some("\"incremental\"") => Snapshot::Incremental,
            Some(_) => Snapshot::Row,
        };
        let (transaction_name, order) = match transaction.map(RawValue::get) {
            Some(transaction) if transaction.starts_with('{') => {
                let found = members(transaction, &TRANSACTION)
                    .map_err(of_table)?
                    .ok_or_else(|| of_table(DecodeErrorKind::MemberNotAnObject("transaction")))?;
                if let Some(name) = found.duplicate() {
                    return Err(of_table(DecodeErrorKind::DuplicateMember(name)));
                }
                let [id, order] = found.values;
                (id.and_then(json_text::string_value), number("total_order", order)?)
            }
            _ => (None, None),
        };
        let gtid = gtid.and_then(json_text::string_value).filter(|gtid| !gtid.is_empty());
        let tx_id = number("txId", tx_id)?.map(|id| Cow::Owned(id.to_string()));
        Ok(Self {
            place,
            snapshot,
            committed_at: microseconds(ts_us, ts_ms),
            emitted_at,
            transaction_id: tx_id.or(gtid).or(transaction_name),
            order,
            may_be_partial: is_postgresql,
            schema,
            table,
        })
    }
}

/// A position's text has room for ten digits.
const TOO_LARGE: u64 = 10_000_000_000;

/// The number at the end of a binlog file's name: `mysql-bin-changelog.000004` is 4, and 999999 is followed by 1000000.
fn binlog_number(file: &str) -> Option<u64> {
    let (_, number) = file.rsplit_once('.')?;
    let is_digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if is_digits { number.parse().ok() } else { None }
}

/// Microseconds since the Unix epoch, from a count of them or of milliseconds. What cannot be read is as good as none.
fn microseconds(ts_us: Option<&RawValue>, ts_ms: Option<&RawValue>) -> Option<i64> {
    let number = |raw: Option<&RawValue>| raw.and_then(|raw| raw.get().parse::<i64>().ok());
    // BigQuery's timestamps end with the year 9999.
    let fits = |us: &i64| (-62_135_596_800_000_000..=253_402_300_799_999_999).contains(us);
    number(ts_us).or_else(|| number(ts_ms)?.checked_mul(1_000)).filter(fits)
}

#[cfg(test)]
mod tests;
