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
        let columns = self.columns.iter().map(|FromObject(column)| DefinedColumn {
            name: column.name.as_str(),
            dms_type: column.dms_type(),
            encoded: Some(column.encoded()),
            is_nullable: column.optional.unwrap_or(true),
        });
        definition(columns, &self.primary_key_column_names.unwrap_or_default(), "statement", false)
    }
}

impl Column {
    /// What DMS would call the type.
    fn dms_type(&self) -> DmsType {
        let full = self.type_name.to_ascii_uppercase();
        let is_unsigned = full.contains("UNSIGNED")
            || full.contains("ZEROFILL")
            || self.type_expression.as_deref().is_some_and(|full| full.to_ascii_uppercase().contains("UNSIGNED"));
        let signed = |signed: &'static str, unsigned: &'static str| plain(if is_unsigned { unsigned } else { signed });
        match full.split([' ', '(']).next().unwrap_or_default() {
            // MySQL's other name of MEDIUMBLOB.
            "LONG" if full.starts_with("LONG VARBINARY") => plain("BLOB"),
            "TINYINT" | "BOOL" | "BOOLEAN" | "INT1" => signed("INT8", "UINT8"),
            "SMALLINT" | "INT2" => signed("INT16", "UINT16"),
            "MEDIUMINT" | "INT" | "INTEGER" | "INT3" | "INT4" | "MIDDLEINT" => signed("INT32", "UINT32"),
            "BIGINT" | "INT8" => signed("INT64", "UINT64"),
            "SERIAL" => plain("UINT64"),
            "YEAR" => plain("INT16"),
            "DECIMAL" | "NUMERIC" | "DEC" | "FIXED" => {
                ("NUMERIC", Some(self.length.unwrap_or(10)), Some(self.scale.unwrap_or(0)))
            }
            "FLOAT" | "FLOAT4" => plain("FLOAT"),
            "DOUBLE" | "REAL" | "FLOAT8" => plain("DOUBLE"),
            "BIT" if self.length.unwrap_or(1) <= 1 => plain("BOOL"),
            // How many bits tells it from other bytes, whose encoding a setting of the connector changes.
            "BIT" => ("BYTES", self.length, None),
            "BINARY" | "VARBINARY" | "TINYBLOB" => plain("BYTES"),
            "BLOB" | "MEDIUMBLOB" | "LONGBLOB" | "GEOMETRY" | "POINT" | "LINESTRING" | "POLYGON" | "MULTIPOINT"
            | "MULTILINESTRING" | "MULTIPOLYGON" | "GEOMETRYCOLLECTION" | "GEOMCOLLECTION" => plain("BLOB"),
            "DATE" => plain("DATE32"),
            "DATETIME" => plain("DATETIME"),
            "TIMESTAMP" => plain("TIMESTAMP"),
            "TIME" => plain("TIME"),
            "JSON" | "MEDIUMTEXT" | "LONGTEXT" => plain("NCLOB"),
            // CHAR, VARCHAR, TEXT, ENUM, SET, and what is not known: text keeps every digit.
            _ => plain("STRING"),
        }
    }

    /// How its values are written where a change has no schema.
    fn encoded(&self) -> Encoded {
        match self.dms_type() {
            ("DATE32", ..) => Encoded::Days,
            ("TIME", ..) => Encoded::TimeMicroseconds,
            // Without a length it has no fraction. A TIMESTAMP is a text.
            ("DATETIME", ..) if self.length.unwrap_or(0) <= 3 => Encoded::TimestampMilliseconds,
            ("DATETIME", ..) => Encoded::TimestampMicroseconds,
            ("NUMERIC", ..) => Encoded::Decimal,
            ("UINT64", ..) => Encoded::Unsigned,
            ("BYTES", Some(_), _) => Encoded::Bits,
            // An object of WKB and SRID, which is known by its form.
            ("BLOB", ..) if self.is_geometry() => Encoded::Plain,
            ("BYTES" | "BLOB", ..) => Encoded::Bytes,
            // A type that is not known is taken for text, and may be written in any way.
            ("STRING", ..) if !self.is_text() => Encoded::Untold,
            _ => Encoded::Plain,
        }
    }

    fn first_word(&self) -> &str {
        self.type_name.split([' ', '(']).next().unwrap_or_default()
    }

    fn is_geometry(&self) -> bool {
        !["TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB", "LONG"]
            .iter()
            .any(|blob| self.first_word().eq_ignore_ascii_case(blob))
    }

    fn is_text(&self) -> bool {
        const TEXTS: [&str; 14] = [
            "CHAR",
            "CHARACTER",
            "NATIONAL",
            "NCHAR",
            "VARCHAR",
            "NVARCHAR",
            "LONG",
            "TINYTEXT",
            "TEXT",
            "ENUM",
            "SET",
            "UUID",
            "INET4",
            "INET6",
        ];
        TEXTS.iter().any(|text| self.first_word().eq_ignore_ascii_case(text))
    }
}
