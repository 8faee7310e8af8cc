//! How one of Strait's own tables looks: its columns said once, from which the REST schema (to create it) and
//! the protobuf descriptor (to append to it) are both derived, so that the two cannot drift apart.
//! It must never describe a final table: those belong to their owner.

use std::time::Duration;

use gcp_bigquery_client::model::clustering::Clustering;
use gcp_bigquery_client::model::field_type::FieldType;
use gcp_bigquery_client::model::table::Table;
use gcp_bigquery_client::model::table_field_schema::TableFieldSchema;
use gcp_bigquery_client::model::table_schema::TableSchema;
use gcp_bigquery_client::model::time_partitioning::TimePartitioning;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto};

use super::table_resource::Field;
use crate::names::TableName;

/// A BigQuery column type that Strait's own tables use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8 text.
    String,
    /// 64-bit signed integer.
    Int64,
    /// Microseconds since the Unix epoch, UTC; an `int64` on the wire of the Storage Write API
    /// (<https://cloud.google.com/bigquery/docs/supported-data-types>).
    Timestamp,
    /// A nested record with these columns.
    Record(&'static [Column]),
}

/// Whether a column may be NULL or holds many values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// NOT NULL.
    Required,
    /// May be NULL.
    Nullable,
    /// An ARRAY.
    Repeated,
}

/// One column of one of Strait's own tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The column's name, also the protobuf field's.
    pub name: &'static str,
    /// Its type.
    pub column_type: ColumnType,
    /// Its mode.
    pub mode: Mode,
    /// Shown in BigQuery's console.
    pub description: &'static str,
}

/// One column, for a table's spec.
pub const fn column(name: &'static str, column_type: ColumnType, mode: Mode, description: &'static str) -> Column {
    Column { name, column_type, mode, description }
}

/// The time unit of a table's partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionUnit {
    /// One partition an hour.
    Hour,
    /// One partition a day.
    Day,
}

/// One of Strait's own tables. A column's protobuf field number is its place in `columns`, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSpec {
    /// Shown in BigQuery's console.
    pub description: &'static str,
    /// In this order.
    pub columns: &'static [Column],
    /// The TIMESTAMP column that partitions the table, and the partitions' unit.
    pub partition: (&'static str, PartitionUnit),
    /// Up to four columns.
    pub cluster: &'static [&'static str],
}

impl TableSpec {
    /// The place of `name` among the columns: its protobuf field number, from 1.
    #[must_use]
    pub fn field_number(&self, name: &str) -> Option<u32> {
        let place = self.columns.iter().position(|column| column.name == name)?;
        u32::try_from(place + 1).ok()
    }

    /// The table to create over REST, its partitions expiring after `expiry_days` where given.
    #[must_use]
    pub fn rest_table(&self, project: &str, name: &TableName, expiry_days: Option<u32>) -> Table {
        let schema = TableSchema::new(self.columns.iter().map(rest_field).collect());
        let (field, unit) = self.partition;
        let mut partitioning = match unit {
            PartitionUnit::Hour => TimePartitioning::per_hour(),
            PartitionUnit::Day => TimePartitioning::per_day(),
        }
        .field(field);
        if let Some(days) = expiry_days {
            partitioning = partitioning.expiration_ms(Duration::from_secs(u64::from(days) * SECONDS_PER_DAY));
        }
        let mut table = Table::new(project, &name.dataset, &name.table, schema).description(self.description);
        table.time_partitioning = Some(partitioning);
        if !self.cluster.is_empty() {
            table.clustering =
                Some(Clustering { fields: Some(self.cluster.iter().map(|&column| column.to_owned()).collect()) });
        }
        table
    }

    /// The columns that a table which another version made lacks: all of them may be NULL, so that they can be added to it.
    ///
    /// # Errors
    /// Every column that is there and is another one than Strait's, or that cannot be added.
    pub fn missing_columns(&self, found: &[Field]) -> Result<Vec<&'static Column>, Vec<String>> {
        let (mut missing, mut problems) = (Vec::new(), Vec::new());
        compare(self.columns, found, "", &mut missing, &mut problems);
        if problems.is_empty() { Ok(missing) } else { Err(problems) }
    }

    /// The writer's schema of the Storage Write API: proto2, self-contained, nested records as nested types.
    #[must_use]
    pub fn proto_descriptor(&self) -> DescriptorProto {
        message_descriptor("Row", self.columns)
    }
}

fn compare(
    wanted: &'static [Column],
    found: &[Field],
    inside: &str,
    missing: &mut Vec<&'static Column>,
    problems: &mut Vec<String>,
) {
    for column in wanted {
        let name = format!("{inside}{}", column.name);
        let Some(field) = found.iter().find(|field| field.name.eq_ignore_ascii_case(column.name)) else {
            if inside.is_empty() && column.mode == Mode::Nullable {
                missing.push(column);
            } else {
                problems.push(format!(
                    "its column `{name}` is missing, and only a column that may be NULL can be added to a table"
                ));
            }
            continue;
        };
        let (rest_name, other_name) = column.column_type.rest_names();
        if ![rest_name, other_name].iter().any(|name| field.field_type.eq_ignore_ascii_case(name)) {
            problems.push(format!("its column `{name}` is {}, and {rest_name} is needed", field.field_type));
        } else if field.is_repeated() != (column.mode == Mode::Repeated) {
            let not = if field.is_repeated() { "" } else { "not " };
            problems.push(format!("its column `{name}` is {not}an ARRAY, and the other is needed"));
        } else if let ColumnType::Record(columns) = column.column_type {
            compare(columns, &field.fields, &format!("{name}."), missing, problems);
        }
    }
}

impl ColumnType {
    /// By the REST API's names, the older one first, which is what it answers.
    const fn rest_names(self) -> (&'static str, &'static str) {
        match self {
            Self::String => ("STRING", "STRING"),
            Self::Int64 => ("INTEGER", "INT64"),
            Self::Timestamp => ("TIMESTAMP", "TIMESTAMP"),
            Self::Record(_) => ("RECORD", "STRUCT"),
        }
    }
}

const SECONDS_PER_DAY: u64 = 86_400;

pub(super) fn rest_field(column: &Column) -> TableFieldSchema {
    let field_type = match column.column_type {
        ColumnType::String => FieldType::String,
        ColumnType::Int64 => FieldType::Integer,
        ColumnType::Timestamp => FieldType::Timestamp,
        ColumnType::Record(_) => FieldType::Record,
    };
    let mut field = TableFieldSchema::new(column.name, field_type);
    if let ColumnType::Record(columns) = column.column_type {
        field.fields = Some(columns.iter().map(rest_field).collect());
    }
    field.mode = Some(
        match column.mode {
            Mode::Required => "REQUIRED",
            Mode::Nullable => "NULLABLE",
            Mode::Repeated => "REPEATED",
        }
        .to_owned(),
    );
    if !column.description.is_empty() {
        field.description = Some(column.description.to_owned());
    }
    field
}

fn message_descriptor(name: &str, columns: &[Column]) -> DescriptorProto {
    let mut message = DescriptorProto { name: Some(name.to_owned()), ..DescriptorProto::default() };
    for (number, column) in (1_i32..).zip(columns) {
        let (field_type, type_name) = match column.column_type {
            ColumnType::String => (Type::String, None),
            ColumnType::Int64 | ColumnType::Timestamp => (Type::Int64, None),
            ColumnType::Record(nested) => {
                // A column's name cannot clash with another's: it is unique in its record, and so is the type's.
                let nested_name = format!("{}_record", column.name);
                message.nested_type.push(message_descriptor(&nested_name, nested));
                (Type::Message, Some(nested_name))
            }
        };
        // A required field that a row lacks makes the whole request unreadable, without naming the row. As optional
        // the row reaches BigQuery's own check of the column's mode, which names it.
        let label = match column.mode {
            Mode::Required | Mode::Nullable => Label::Optional,
            Mode::Repeated => Label::Repeated,
        };
        message.field.push(FieldDescriptorProto {
            name: Some(column.name.to_owned()),
            number: Some(number),
            label: Some(label.into()),
            r#type: Some(field_type.into()),
            type_name,
            ..FieldDescriptorProto::default()
        });
    }
    message
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may fail by panicking.
mod tests {
    use super::*;

    const INNER: &[Column] =
        &[Column { name: "offset", column_type: ColumnType::Int64, mode: Mode::Required, description: "" }];
    const SPEC: TableSpec = TableSpec {
        description: "A test's table",
        columns: &[
            Column { name: "at", column_type: ColumnType::Timestamp, mode: Mode::Required, description: "when" },
            Column { name: "name", column_type: ColumnType::String, mode: Mode::Nullable, description: "" },
            Column { name: "offsets", column_type: ColumnType::Record(INNER), mode: Mode::Repeated, description: "" },
        ],
        partition: ("at", PartitionUnit::Hour),
        cluster: &["name"],
    };

    #[test]
    fn the_rest_table_is_what_bigquery_expects() {
        let name = TableName { dataset: "cdc".into(), table: "log".into() };
        let table = serde_json::to_value(SPEC.rest_table("p", &name, Some(30))).unwrap();
        assert_eq!(
            table,
            serde_json::json!({
                "tableReference": {"projectId": "p", "datasetId": "cdc", "tableId": "log"},
                "description": "A test's table",
                "schema": {"fields": [
                    {"name": "at", "type": "TIMESTAMP", "mode": "REQUIRED", "description": "when"},
                    {"name": "name", "type": "STRING", "mode": "NULLABLE"},
                    {"name": "offsets", "type": "RECORD", "mode": "REPEATED", "fields": [
                        {"name": "offset", "type": "INTEGER", "mode": "REQUIRED"}
                    ]}
                ]},
                "timePartitioning": {"type": "HOUR", "field": "at", "expirationMs": "2592000000"},
                "clustering": {"fields": ["name"]}
            })
        );
    }

    #[test]
    fn the_descriptor_numbers_the_columns_and_nests_records() {
        let descriptor = SPEC.proto_descriptor();
        let fields: Vec<_> = descriptor
            .field
            .iter()
            .map(|field| (field.number(), field.name(), field.label(), field.r#type(), field.type_name()))
            .collect();
        assert_eq!(
            fields,
            [
                (1, "at", Label::Optional, Type::Int64, ""),
                (2, "name", Label::Optional, Type::String, ""),
                (3, "offsets", Label::Repeated, Type::Message, "offsets_record"),
            ]
        );
        assert_eq!(descriptor.nested_type[0].name(), "offsets_record");
        assert_eq!(descriptor.nested_type[0].field[0].name(), "offset");
        assert_eq!(SPEC.field_number("offsets"), Some(3));
        assert_eq!(SPEC.field_number("nothing"), None);
    }

    #[test]
    fn what_an_older_version_did_not_make_is_told_from_what_somebody_else_made() {
        let field = |name: &str, field_type: &str, mode: Option<&str>| Field {
            name: name.to_owned(),
            field_type: field_type.to_owned(),
            mode: mode.map(str::to_owned),
            ..Field::default()
        };
        let offsets = |inner| Field { fields: vec![inner], ..field("offsets", "STRUCT", Some("REPEATED")) };
        let older = [field("AT", "TIMESTAMP", Some("REQUIRED")), offsets(field("offset", "INT64", None))];
        let missing = SPEC.missing_columns(&older).unwrap();
        assert_eq!(missing.iter().map(|column| column.name).collect::<Vec<_>>(), ["name"]);
        let other = [field("name", "FLOAT", None), offsets(field("place", "INTEGER", None))];
        let problems = SPEC.missing_columns(&other).unwrap_err().join("; ");
        for part in ["`at` is missing", "`name` is FLOAT, and STRING is needed", "`offsets.offset` is missing"] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
        let other = [older[0].clone(), field("name", "STRING", Some("REPEATED")), field("offsets", "RECORD", None)];
        assert_eq!(SPEC.missing_columns(&other).unwrap_err().len(), 2);
    }
}
