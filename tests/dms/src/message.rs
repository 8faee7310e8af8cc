//! What happened at the source → what DMS says of it on Kafka. It must never look anything up: table, change, settings and the time are
//! all it knows.

use jiff::Timestamp;

use crate::json::Writer;
use crate::numbers;
use crate::settings::{BeforeImage, ChangeKey, EndpointSettings, TaskSettings};
use crate::table::{Row, Table, Value};

/// What DMS's control records have for a key, and the keys of all tables begin with it there.
const TASK: &str = "STRAITSTANDINTASK";

/// A Kafka message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The Kafka key.
    pub key: String,
    /// The text.
    pub value: String,
}

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It was copied by the full load.
    Load,
    /// It was inserted.
    Insert,
    /// It was updated.
    Update,
    /// It was deleted.
    Delete,
}

impl Operation {
    const fn word(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// A change of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What happened.
    pub operation: Operation,
    /// The row; of a delete what is known of it.
    pub row: Row,
    /// Of an update: the row before, as far as the log has it.
    pub before: Option<Row>,
    /// Where it stands in the source's log; None for a load.
    pub position: Option<Position>,
}

/// Where a change stands in the source's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// MySQL: (binlog file number << 32) | position. PostgreSQL: the transaction's number, which is no order.
    pub transaction: u64,
    /// The change's place in its transaction, from 1.
    pub record: u64,
    /// Transaction and record of the change before it; None for a task's first.
    pub previous: Option<(u64, u64)>,
    /// When the source committed.
    pub committed_at: Timestamp,
    /// `stream-position`.
    pub stream: String,
}

/// What happened to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control<'t> {
    /// The target's is to go: a full load begins.
    DropTable(&'t Table),
    /// It is to be as defined.
    CreateTable(&'t Table),
    /// Its columns were altered.
    Altered {
        /// How: `add-column`, `drop-column`, `rename-column`, `column-type-change`.
        operation: &'static str,
        /// Which.
        columns: Vec<String>,
        /// Before.
        old: &'t Table,
        /// Since then.
        new: &'t Table,
    },
}

/// The message of a change; `now` is when DMS builds it.
#[must_use]
pub fn of_change(
    table: &Table,
    change: &Change,
    endpoint: &EndpointSettings,
    task: &TaskSettings,
    now: Timestamp,
) -> Message {
    let by_key = change.operation == Operation::Load || task.change_key == ChangeKey::PrimaryKey;
    let of_row = by_key.then(|| row_key(table, &change.row, endpoint)).flatten();
    let key_type = if of_row.is_some() { "primary-key" } else { "schema-table" };
    let key = of_row.unwrap_or_else(|| format!("{}.{}", table.schema, table.name));

    let mut writer = Writer::new(endpoint.message_format);
    writer.object("data", |writer| image(writer, table, &change.row, endpoint, |_| true));
    if change.operation == Operation::Update {
        write_before(&mut writer, table, change, endpoint, task.before_image);
    }
    writer.object("metadata", |writer| {
        writer.text("timestamp", &stamp(now));
        writer.text("record-type", "data");
        writer.text("operation", change.operation.word());
        writer.text("partition-key-type", key_type);
        if endpoint.include_partition_value {
            writer.text("partition-key-value", &key);
        }
        writer.text("schema-name", &table.schema);
        writer.text("table-name", &table.name);
        let Some(position) = &change.position else {
            return;
        };
        writer.raw("transaction-id", &position.transaction.to_string());
        if !endpoint.include_transaction_details {
            return;
        }
        writer.raw("transaction-record-id", &position.record.to_string());
        if let Some((transaction, record)) = position.previous {
            writer.raw("prev-transaction-id", &transaction.to_string());
            writer.raw("prev-transaction-record-id", &record.to_string());
        }
        writer.text("commit-timestamp", &stamp(position.committed_at));
        writer.text("stream-position", &position.stream);
    });
    Message { key, value: writer.finish() }
}

/// The message of a control record; None where the settings want none.
#[must_use]
pub fn of_control(control: &Control<'_>, endpoint: &EndpointSettings, now: Timestamp) -> Option<Message> {
    let (operation, table) = match control {
        Control::DropTable(table) => ("drop-table", table),
        Control::CreateTable(table) => ("create-table", table),
        Control::Altered { operation, new, .. } => (*operation, new),
    };
    if matches!(control, Control::Altered { .. }) && !endpoint.include_table_alter_operations {
        return None;
    }
    let mut writer = Writer::new(endpoint.message_format);
    if endpoint.include_control_details {
        writer.object("control", |writer| match control {
            Control::DropTable(_) => {}
            Control::CreateTable(table) => definition(writer, "table-def", table),
            Control::Altered { columns, old, new, .. } => {
                writer.texts("column-names", columns);
                definition(writer, "old-table-def", old);
                definition(writer, "table-def", new);
            }
        });
    }
    writer.object("metadata", |writer| {
        writer.text("timestamp", &stamp(now));
        writer.text("record-type", "control");
        writer.text("operation", operation);
        writer.text("partition-key-type", "task-id");
        if endpoint.include_partition_value {
            writer.text("partition-key-value", TASK);
        }
        writer.text("schema-name", &table.schema);
        writer.text("table-name", &table.name);
    });
    let key = format!("{TASK}.{}.{}", table.schema, table.name);
    Some(Message { key, value: writer.finish() })
}

fn write_before(writer: &mut Writer, table: &Table, change: &Change, endpoint: &EndpointSettings, wanted: BeforeImage) {
    if wanted == BeforeImage::Off {
        return;
    }
    let keys: Vec<usize> = table.key_places().collect();
    let moved = change.before.as_ref().filter(|before| {
        wanted == BeforeImage::All || keys.iter().any(|place| before.get(*place) != change.row.get(*place))
    });
    writer.object("before-image", |writer| {
        if let Some(before) = moved {
            image(writer, table, before, endpoint, |place| wanted == BeforeImage::All || keys.contains(&place));
        }
    });
}

fn image(
    writer: &mut Writer,
    table: &Table,
    row: &Row,
    endpoint: &EndpointSettings,
    is_wanted: impl Fn(usize) -> bool,
) {
    for (place, (column, value)) in table.columns.iter().zip(row).enumerate() {
        if !is_wanted(place) {
            continue;
        }
        let left_out = match value {
            Value::Absent => true,
            Value::Null => !endpoint.include_null_and_empty,
            Value::Text(text) => text.is_empty() && !endpoint.include_null_and_empty,
            _ => false,
        };
        if !left_out {
            writer.raw(&column.name, &printed(value, endpoint));
        }
    }
}

/// A value as JSON.
fn printed(value: &Value, endpoint: &EndpointSettings) -> String {
    match value {
        Value::Null | Value::Absent => "null".to_owned(),
        Value::Integer(number) if endpoint.use_large_integer_value => number.to_string(),
        Value::Integer(number) => numbers::integer_through_double(*number),
        Value::Decimal(text) => text.clone(),
        Value::Double(number) => numbers::double(*number),
        Value::Single(number) => numbers::single(*number),
        Value::Boolean(truth) => truth.to_string(),
        Value::Text(text) => crate::json::quoted(text),
        Value::Bytes(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            format!("\"{}{digits}\"", if endpoint.no_hex_prefix { "" } else { "0x" })
        }
    }
}

/// The Kafka key of a row; None where the table has no primary key or the row lacks a part of it.
fn row_key(table: &Table, row: &Row, endpoint: &EndpointSettings) -> Option<String> {
    let places: Vec<usize> = table.key_places().collect();
    if places.is_empty() {
        return None;
    }
    let mut parts = Vec::new();
    if endpoint.partition_include_schema_table {
        parts.extend([table.schema.clone(), table.name.clone()]);
    }
    for place in places {
        parts.push(match row.get(place)? {
            Value::Absent | Value::Null => return None,
            Value::Text(text) => text.clone(),
            other => printed(other, endpoint),
        });
    }
    Some(parts.join("."))
}

fn definition(writer: &mut Writer, name: &str, table: &Table) {
    writer.object(name, |writer| {
        writer.object("columns", |writer| {
            for column in &table.columns {
                writer.object(&column.name, |writer| {
                    writer.text("type", column.kind.name);
                    let sizes = [
                        ("length", column.kind.length),
                        ("precision", column.kind.precision),
                        ("scale", column.kind.scale),
                    ];
                    for (name, size) in sizes {
                        if let Some(size) = size {
                            writer.raw(name, &size.to_string());
                        }
                    }
                    writer.raw("nullable", if column.nullable { "true" } else { "false" });
                });
            }
        });
        if !table.primary_key.is_empty() {
            writer.texts("primary-key", &table.primary_key);
        }
    });
}

/// UTC with six digits, as DMS writes its own times.
fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
