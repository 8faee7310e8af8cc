//! Records of the schema change topic, and of the connector's own history topic: which tables changed, and their definitions in the
//! words of DMS's control records. Types are the database's own (`BIGINT UNSIGNED`, `DATETIME(6)`), not Kafka Connect's.
//! It must never name an operation that says less than was done.
//!
//! <https://debezium.io/documentation/reference/stable/connectors/mysql.html#mysql-schema-change-topic>

use serde::Deserialize;

use crate::json_text::FromObject;
use crate::names::SourceTable;

use super::encoding::Encoded;
use super::schema::{DefinedColumn, DmsType, definition, plain};

/// One changed table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableChange {
    /// Which.
    pub table: SourceTable,
    /// DMS's word for it.
    pub operation: &'static str,
    /// The `control` object, as JSON text; None of a dropped table.
    pub definition: Option<String>,
}

#[derive(Deserialize)]
struct Change {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    #[serde(rename = "previousId")]
    previous_id: Option<String>,
    table: Option<FromObject<Table>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    primary_key_column_names: Option<Vec<String>>,
    columns: Vec<FromObject<Column>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Column {
    name: String,
    type_name: String,
    type_expression: Option<String>,
    length: Option<u32>,
    scale: Option<u32>,
    position: i64,
    optional: Option<bool>,
}

/// Reads `tableChanges`, given the DDL that made them.
///
/// # Errors
/// When it is not of the documented form; nothing of it is in the error.
pub(super) fn table_changes(changes: &str, ddl: &str) -> Result<Vec<TableChange>, NotReadable> {
    let changes: Vec<FromObject<Change>> = serde_json::from_str(changes).map_err(|_| NotReadable)?;
    let mut read = Vec::with_capacity(changes.len());
    for FromObject(change) in changes {
        let table = table_of(&change.id).ok_or(NotReadable)?;
        let definition = change.table.map(|FromObject(table)| table.definition());
        let is_renamed = change.previous_id.as_deref().and_then(table_of).filter(|previous| *previous != table);
        if let Some(previous) = is_renamed {
            // Under the new name only changes come: what was there before a snapshot has to bring.
            read.push(TableChange { table: previous, operation: "rename-table", definition: definition.clone() });
            read.push(TableChange { table, operation: "rename-table", definition });
            continue;
        }
        let operation = match change.kind.as_str() {
            "CREATE" => "create-table",
            "DROP" => "drop-table",
            "ALTER" if renames_a_column(ddl) => "rename-column",
            "ALTER" => "change-columns",
            _ => return Err(NotReadable),
        };
        if operation != "drop-table" && definition.is_none() {
            return Err(NotReadable);
        }
        read.push(TableChange { table, operation, definition });
    }
    Ok(read)
}

/// `tableChanges` is not of the documented form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`tableChanges` is not of the documented form")]
pub struct NotReadable;

/// Schema and table of an identifier such as `"shop"."orders"`: of three parts the last two.
fn table_of(id: &str) -> Option<SourceTable> {
    let mut parts = Vec::new();
    let mut rest = id;
    loop {
        let (part, behind) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut part = String::new();
                let mut quoted = quoted;
                loop {
                    let (before, behind) = quoted.split_once('"')?;
                    part.push_str(before);
                    match behind.strip_prefix('"') {
                        // A quote in a name is written twice.
                        Some(behind) => {
                            part.push('"');
                            quoted = behind;
                        }
                        None => break (part, behind),
                    }
                }
            }
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                let (part, behind) = rest.split_at_checked(end)?;
                (part.to_owned(), behind)
            }
        };
        parts.push(part);
        match behind.strip_prefix('.') {
            Some(behind) => rest = behind,
            None if behind.is_empty() => break,
            None => return None,
        }
    }
    let table = parts.pop().filter(|table| !table.is_empty())?;
    Some(SourceTable { schema: parts.pop().unwrap_or_default(), table })
}

/// Whether a statement may give a column another name: `RENAME COLUMN a TO b`, `CHANGE [COLUMN] a b …`. Where it does not, names that came
/// and went are other columns.
fn renames_a_column(ddl: &str) -> bool {
    let words: Vec<String> =
        ddl.split(|c: char| !(c.is_alphanumeric() || c == '_')).map(str::to_ascii_uppercase).collect();
    words.iter().any(|word| word == "CHANGE")
        || words.iter().zip(words.iter().skip(1)).any(|(first, second)| first == "RENAME" && second == "COLUMN")
}

impl Table {
    fn definition(mut self) -> String {
        self.columns.sort_by_key(|FromObject(column)| column.position);
        let columns = self.columns.iter().map(|FromObject(column)| {
            let (dms_type, encoded) = column.meaning();
            let is_nullable = column.optional.unwrap_or(true);
            DefinedColumn { name: column.name.as_str(), dms_type, encoded: Some(encoded), is_nullable }
        });
        definition(columns, &self.primary_key_column_names.unwrap_or_default(), "statement", false)
    }
}

impl Column {
    /// What DMS would call the type, and how its values are written where a change has no schema.
    fn meaning(&self) -> (DmsType, Encoded) {
        let full = self.type_name.to_ascii_uppercase();
        let is_unsigned = full.contains("UNSIGNED")
            || full.contains("ZEROFILL")
            || self.type_expression.as_deref().is_some_and(|full| full.to_ascii_uppercase().contains("UNSIGNED"));
        let signed = |signed: &'static str, unsigned: &'static str| {
            (plain(if is_unsigned { unsigned } else { signed }), Encoded::Plain)
        };
        let of = |dms_type: &'static str, encoded: Encoded| (plain(dms_type), encoded);
        match full.split([' ', '(']).next().unwrap_or_default() {
            "TINYINT" | "BOOL" | "BOOLEAN" | "INT1" => signed("INT8", "UINT8"),
            "SMALLINT" | "INT2" => signed("INT16", "UINT16"),
            "MEDIUMINT" | "INT" | "INTEGER" | "INT3" | "INT4" | "MIDDLEINT" => signed("INT32", "UINT32"),
            "BIGINT" | "INT8" if is_unsigned => of("UINT64", Encoded::Unsigned),
            "BIGINT" | "INT8" => of("INT64", Encoded::Plain),
            "SERIAL" => of("UINT64", Encoded::Unsigned),
            "YEAR" => of("INT16", Encoded::Plain),
            "DECIMAL" | "NUMERIC" | "DEC" | "FIXED" => {
                (("NUMERIC", Some(self.length.unwrap_or(10)), Some(self.scale.unwrap_or(0))), Encoded::Decimal)
            }
            "FLOAT" | "FLOAT4" => of("FLOAT", Encoded::Plain),
            "DOUBLE" | "REAL" | "FLOAT8" => of("DOUBLE", Encoded::Plain),
            "BIT" if self.length.unwrap_or(1) <= 1 => of("BOOL", Encoded::Plain),
            // How many bits tells it from other bytes, whose encoding a setting of the connector changes.
            "BIT" => (("BYTES", self.length, None), Encoded::Bits),
            "BINARY" | "VARBINARY" | "TINYBLOB" => of("BYTES", Encoded::Bytes),
            "BLOB" | "MEDIUMBLOB" | "LONGBLOB" => of("BLOB", Encoded::Bytes),
            // MySQL's other name of MEDIUMBLOB.
            "LONG" if full.starts_with("LONG VARBINARY") => of("BLOB", Encoded::Bytes),
            // An object of WKB and SRID, which is known by its form.
            "GEOMETRY" | "POINT" | "LINESTRING" | "POLYGON" | "MULTIPOINT" | "MULTILINESTRING" | "MULTIPOLYGON"
            | "GEOMETRYCOLLECTION" | "GEOMCOLLECTION" => of("BLOB", Encoded::Plain),
            "DATE" => of("DATE32", Encoded::Days),
            // Without a length it has no fraction.
            "DATETIME" if self.length.unwrap_or(0) <= 3 => of("DATETIME", Encoded::TimestampMilliseconds),
            "DATETIME" => of("DATETIME", Encoded::TimestampMicroseconds),
            // A text.
            "TIMESTAMP" => of("TIMESTAMP", Encoded::Plain),
            "TIME" => of("TIME", Encoded::TimeMicroseconds),
            "JSON" | "MEDIUMTEXT" | "LONGTEXT" => of("NCLOB", Encoded::Plain),
            "CHAR" | "CHARACTER" | "NATIONAL" | "NCHAR" | "VARCHAR" | "NVARCHAR" | "LONG" | "TINYTEXT" | "TEXT"
            | "ENUM" | "SET" | "UUID" | "INET4" | "INET6" => of("STRING", Encoded::Plain),
            // What is not known: text keeps every digit, but it may be written in any way.
            _ => of("STRING", Encoded::Untold),
        }
    }
}
