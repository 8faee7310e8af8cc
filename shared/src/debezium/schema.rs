//! The schema that Kafka Connect's JSON converter puts beside each payload (`schemas.enable`): how the table's values are encoded, and the
//! table's definition in the words of DMS's control records, so that one reader of definitions holds for both.
//! It must never take one encoding for another: a semantic type that is not known stays unknown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Value, json};

use super::encoding::Encoded;
use super::value::{Encoding, Unit};

/// A schema as the converter writes it, as far as it is needed.
#[derive(Debug, Clone, Deserialize)]
struct ConnectSchema {
    #[serde(rename = "type")]
    kind: String,
    /// The semantic type.
    name: Option<String>,
    /// The member's name, of a struct's field.
    field: Option<String>,
    optional: Option<bool>,
    #[serde(default)]
    fields: Vec<ConnectSchema>,
    items: Option<Box<ConnectSchema>>,
    values: Option<Box<ConnectSchema>>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
}

/// What a schema says of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSchema {
    /// In the source's order.
    columns: Vec<Column>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    encoding: Encoding,
    dms_type: DmsType,
    is_nullable: bool,
}

/// A type in the words of DMS's control records: name, precision, scale.
pub(super) type DmsType = (&'static str, Option<u32>, Option<u32>);

pub(super) const fn plain(name: &'static str) -> DmsType {
    (name, None, None)
}

/// The parameter in which `datatype.propagate.source.type` puts the source's own type.
const SOURCE_TYPE: &str = "__debezium.source.column.type";

impl TableSchema {
    /// Reads the schema of a change event; None when it is none of a change event's.
    #[must_use]
    pub fn of_event(schema: &str) -> Option<Self> {
        let schema: ConnectSchema = serde_json::from_str(schema).ok()?;
        let row = ["after", "before"].into_iter().find_map(|image| {
            schema.fields.iter().find(|field| field.field.as_deref() == Some(image) && !field.fields.is_empty())
        })?;
        Self::of_row(row)
    }

    /// Reads the schema of a record's key.
    #[must_use]
    pub fn of_key(schema: &str) -> Option<Self> {
        Self::of_row(&serde_json::from_str(schema).ok()?)
    }

    fn of_row(row: &ConnectSchema) -> Option<Self> {
        let columns = row.fields.iter().map(|field| {
            let (encoding, dms_type) = field.meaning();
            Some(Column {
                name: field.field.clone()?,
                encoding,
                dms_type,
                is_nullable: field.optional.unwrap_or(false),
            })
        });
        Some(Self { columns: columns.collect::<Option<_>>()? })
    }

    /// How a column's values are encoded. Members of an image come in the schema's order: `place` is where the last one stood.
    pub(super) fn encoding(&self, name: &str, place: &mut usize) -> Option<&Encoding> {
        let next = self.columns.get(*place).filter(|column| column.name == name);
        let column = match next {
            Some(column) => column,
            None => {
                *place = self.columns.iter().position(|column| column.name == name)?;
                self.columns.get(*place)?
            }
        };
        *place = place.saturating_add(1);
        Some(&column.encoding)
    }

    /// Whether it has a column of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name == name)
    }

    /// The definition as the `control` object of a control record has it, with these columns as the key.
    #[must_use]
    pub fn definition(&self, key: &[String], may_be_partial: bool) -> String {
        let columns = self.columns.iter().map(|column| DefinedColumn {
            name: column.name.as_str(),
            dms_type: column.dms_type,
            // Its records say it themselves.
            encoded: None,
            is_nullable: column.is_nullable,
        });
        definition(columns, key, "record", may_be_partial)
    }
}

/// A column as a definition says it.
pub(super) struct DefinedColumn<'a> {
    pub name: &'a str,
    pub dms_type: DmsType,
    /// How its values are written where a change has no schema; None where the definition does not tell that of its columns.
    pub encoded: Option<Encoded>,
    pub is_nullable: bool,
}

/// A definition as the `control` object of a control record has it, and beside it what Debezium read it from: a `record`'s own schema or a
/// `statement`. Written by hand, because the columns' order is the source's.
pub(super) fn definition<'a>(
    columns: impl Iterator<Item = DefinedColumn<'a>>,
    key: &[String],
    read_from: &'static str,
    may_be_partial: bool,
) -> String {
    let mut text = String::from(r#"{"table-def":{"columns":{"#);
    let mut tells_encodings = false;
    for (place, column) in columns.enumerate() {
        let DefinedColumn { name, dms_type: (dms_type, precision, scale), encoded, is_nullable } = column;
        if place > 0 {
            text.push(',');
        }
        let mut column = json!({ "type": dms_type, "nullable": is_nullable });
        if let (Some(precision), Some(members)) = (precision, column.as_object_mut()) {
            members.insert("precision".to_owned(), precision.into());
            members.insert("scale".to_owned(), scale.unwrap_or(0).into());
        }
        tells_encodings |= encoded.is_some();
        if let (Some(encoded), Some(members)) = (encoded.filter(|encoded| !encoded.is_plain()), column.as_object_mut())
        {
            members.insert("encoded".to_owned(), json!(encoded));
        }
        // Writing to a String does not fail.
        let _ = write!(text, "{}:{column}", Value::from(name));
    }
    let _ = write!(text, r#"}},"primary-key":{}}},"debezium-read-from":"{read_from}""#, Value::from(key));
    if tells_encodings {
        text.push_str(r#","tells-encodings":true"#);
    }
    if may_be_partial {
        text.push_str(r#","partial-images":true"#);
    }
    text.push('}');
    text
}

impl ConnectSchema {
    fn parameter<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.parameters.get(name)?.parse().ok()
    }

    /// How values are encoded, and what DMS would call the type.
    fn meaning(&self) -> (Encoding, DmsType) {
        use Unit::{Microseconds, Milliseconds, Nanoseconds};
        let Some(name) = self.name.as_deref() else {
            return self.without_semantics();
        };
        match name {
            "org.apache.kafka.connect.data.Decimal" => {
                let scale: i64 = self.parameter("scale").unwrap_or(0);
                let precision: Option<u32> = self.parameter("connect.decimal.precision");
                // A scale below zero is digits that are all 0 to the left of the point.
                let left = u32::try_from(scale.saturating_neg().max(0)).unwrap_or(0);
                let precision = precision.map(|precision| precision.saturating_add(left));
                (Encoding::Decimal(scale), ("NUMERIC", precision, Some(u32::try_from(scale).unwrap_or(0))))
            }
            "io.debezium.data.VariableScaleDecimal" => (Encoding::VariableScale, plain("NUMERIC")),
            "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => (Encoding::Days, plain("DATE32")),
            "io.debezium.time.Time" | "org.apache.kafka.connect.data.Time" => {
                (Encoding::Time(Milliseconds), plain("TIME"))
            }
            "io.debezium.time.MicroTime" => (Encoding::Time(Microseconds), plain("TIME")),
            "io.debezium.time.NanoTime" => (Encoding::Time(Nanoseconds), plain("TIME")),
            "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp" => {
                (Encoding::Timestamp(Milliseconds), plain("DATETIME"))
            }
            "io.debezium.time.MicroTimestamp" => (Encoding::Timestamp(Microseconds), plain("DATETIME")),
            "io.debezium.time.NanoTimestamp" => (Encoding::Timestamp(Nanoseconds), plain("DATETIME")),
            "io.debezium.time.IsoDate" => (Encoding::IsoWithZ, plain("DATE32")),
            "io.debezium.time.IsoTime" => (Encoding::IsoWithZ, plain("TIME")),
            "io.debezium.time.IsoTimestamp" => (Encoding::Text, plain("DATETIME")),
            "io.debezium.time.ZonedTimestamp" => (Encoding::Text, plain("TIMESTAMP")),
            "io.debezium.time.ZonedTime" => (Encoding::Text, plain("TIME")),
            "io.debezium.time.Year" => (Encoding::Plain, plain("INT16")),
            "io.debezium.time.Interval" => (Encoding::Text, plain("STRING")),
            "io.debezium.time.MicroDuration" | "io.debezium.time.NanoDuration" => (Encoding::Duration, plain("STRING")),
            "io.debezium.data.Bits" => (Encoding::Bits(self.parameter("length")), plain("BYTES")),
            "io.debezium.data.Json" => (Encoding::Json, plain("NCLOB")),
            "io.debezium.data.Xml" | "io.debezium.data.Tsvector" => (Encoding::Text, plain("CLOB")),
            "io.debezium.data.Uuid"
            | "io.debezium.data.Enum"
            | "io.debezium.data.EnumSet"
            | "io.debezium.data.Ltree" => (Encoding::Text, plain("STRING")),
            "io.debezium.data.geometry.Geometry"
            | "io.debezium.data.geometry.Geography"
            | "io.debezium.data.geometry.Point" => (Encoding::Geometry, plain("BLOB")),
            "io.debezium.data.FloatVector"
            | "io.debezium.data.DoubleVector"
            | "io.debezium.data.SparseDoubleVector" => self.without_semantics(),
            _ if name.starts_with("io.debezium.") || name.starts_with("org.apache.kafka.connect.data.") => {
                (Encoding::Unknown(name.to_owned()), plain("STRING"))
            }
            // A name that a person's own converter or type gave: what it is beside its name is said by the schema.
            _ => self.without_semantics(),
        }
    }

    fn without_semantics(&self) -> (Encoding, DmsType) {
        match self.kind.as_str() {
            "int8" => (Encoding::Plain, plain("INT8")),
            "int16" => (Encoding::Plain, plain("INT16")),
            "int32" => (Encoding::Plain, plain("INT32")),
            "int64" if self.is_unsigned() => (Encoding::Wrapped, plain("UINT64")),
            "int64" => (Encoding::Plain, plain("INT64")),
            "float" => (Encoding::Plain, plain("FLOAT")),
            "double" => (Encoding::Plain, plain("DOUBLE")),
            "boolean" => (Encoding::Plain, plain("BOOL")),
            "string" => (Encoding::Text, plain("STRING")),
            "bytes" => (Encoding::Bytes, plain("BLOB")),
            "array" => {
                let items = self.items.as_ref().map_or(Encoding::Text, |items| items.meaning().0);
                (Encoding::List(Box::new(items)), plain("NCLOB"))
            }
            "map" => {
                let values = self.values.as_ref().map(|values| Box::new(values.meaning().0));
                (Encoding::Members(Vec::new(), values), plain("NCLOB"))
            }
            "struct" => {
                let own = self.fields.iter().filter_map(|field| Some((field.field.clone()?, field.meaning().0)));
                (Encoding::Members(own.collect(), None), plain("NCLOB"))
            }
            other => (Encoding::Unknown(other.to_owned()), plain("STRING")),
        }
    }

    fn is_unsigned(&self) -> bool {
        self.parameters.get(SOURCE_TYPE).is_some_and(|source| {
            let source = source.to_ascii_uppercase();
            source.starts_with("BIGINT") && source.contains("UNSIGNED") || source == "SERIAL"
        })
    }
}
