//! A BigQuery table as its REST resource describes it, with what gcp_bigquery_client's own model leaves out and a
//! final table is judged by: the declared key, decimal precision and scale, text length, defaults.
//! Unknown members are ignored, and unknown types kept as text: a table is never refused for what Google adds.
//! Source: <https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#Table>.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::TableName;

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Table {
    /// Which table.
    pub table_reference: TableReference,
    /// `TABLE`, `VIEW`, `EXTERNAL`, `MATERIALIZED_VIEW`, `SNAPSHOT`; set by BigQuery.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub table_type: Option<String>,
    /// Shown in BigQuery's console.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Labels; some tune the merge.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The columns.
    pub schema: Schema,
    /// Partitioning by time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_partitioning: Option<TimePartitioning>,
    /// Partitioning by integer range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range_partitioning: Option<RangePartitioning>,
    /// The clustering columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clustering: Option<Clustering>,
    /// The declared, not enforced, keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_constraints: Option<TableConstraints>,
    /// Whether every query must limit the partitions it reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_partition_filter: Option<bool>,
    /// When the table goes, in milliseconds since 1970, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<String>,
    /// Rows, without those in the streaming buffer, as text; set by BigQuery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_rows: Option<String>,
    /// Bytes, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_bytes: Option<String>,
    /// Changes with the table's metadata; set by BigQuery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Last change, in milliseconds since 1970, as text; set by BigQuery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified_time: Option<String>,
    /// Where it is stored; set by BigQuery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

impl Table {
    /// A table to create.
    #[must_use]
    pub fn new(project: &str, name: &TableName, fields: Vec<Field>) -> Self {
        Self {
            table_reference: TableReference {
                project_id: project.to_owned(),
                dataset_id: name.dataset.clone(),
                table_id: name.table.clone(),
            },
            schema: Schema { fields },
            ..Self::default()
        }
    }

    /// The table's name.
    #[must_use]
    pub fn name(&self) -> TableName {
        TableName { dataset: self.table_reference.dataset_id.clone(), table: self.table_reference.table_id.clone() }
    }

    /// The columns of the declared primary key, in its order; empty without one.
    #[must_use]
    pub fn primary_key(&self) -> &[String] {
        self.table_constraints
            .as_ref()
            .and_then(|constraints| constraints.primary_key.as_ref())
            .map_or(&[], |key| key.columns.as_slice())
    }

    /// The columns of declared foreign keys.
    pub fn foreign_key_columns(&self) -> impl Iterator<Item = &str> {
        let keys = self.table_constraints.iter().flat_map(|constraints| &constraints.foreign_keys);
        keys.flat_map(|key| &key.column_references).map(|column| column.referencing_column.as_str())
    }

    /// The clustering columns, in their order.
    #[must_use]
    pub fn clustering_columns(&self) -> &[String] {
        self.clustering.as_ref().map_or(&[], |clustering| clustering.fields.as_slice())
    }
}

/// Which table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TableReference {
    /// The project.
    pub project_id: String,
    /// The dataset.
    pub dataset_id: String,
    /// The table's name in the dataset.
    pub table_id: String,
}

/// A table's columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Schema {
    /// In the table's order.
    pub fields: Vec<Field>,
}

/// A column, or a field of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type by the REST API's names: `STRING`, `INTEGER`, `FLOAT`, `BOOLEAN`, `NUMERIC`, `RECORD`, …
    #[serde(rename = "type")]
    pub field_type: String,
    /// `NULLABLE`, `REQUIRED`, `REPEATED`; absent means nullable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// A record's own fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
    /// Shown in BigQuery's console.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Longest STRING (characters) or BYTES (bytes), as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<String>,
    /// Decimal digits of NUMERIC and BIGNUMERIC, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Of them behind the point, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<String>,
    /// How NUMERIC and BIGNUMERIC round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounding_mode: Option<String>,
    /// The column's default, as SQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_value_expression: Option<String>,
}

impl Field {
    /// Whether NULL is refused.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.mode.as_deref() == Some("REQUIRED")
    }

    /// Whether it holds many values.
    #[must_use]
    pub fn is_repeated(&self) -> bool {
        self.mode.as_deref() == Some("REPEATED")
    }
}

/// Partitioning by time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TimePartitioning {
    /// `HOUR`, `DAY`, `MONTH` or `YEAR`.
    #[serde(rename = "type")]
    pub unit: String,
    /// The column; absent means the time of ingestion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// How long a partition is kept, in milliseconds, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_ms: Option<String>,
}

/// Partitioning by integer range.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RangePartitioning {
    /// The column.
    pub field: String,
    /// The ranges.
    pub range: Range,
}

/// Ranges of equal width.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Range {
    /// The first, inclusive, as text.
    pub start: String,
    /// The last, exclusive, as text.
    pub end: String,
    /// The width, as text.
    pub interval: String,
}

/// Clustering.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Clustering {
    /// Up to four columns.
    pub fields: Vec<String>,
}

/// Declared keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TableConstraints {
    /// The primary key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_key: Option<PrimaryKey>,
    /// The foreign keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub foreign_keys: Vec<ForeignKey>,
}

/// A declared foreign key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ForeignKey {
    /// Its columns, each with the one that it refers to.
    pub column_references: Vec<ColumnReference>,
}

/// A column of a declared foreign key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ColumnReference {
    /// This table's column.
    pub referencing_column: String,
    /// The other table's.
    pub referenced_column: String,
}

/// A declared primary key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PrimaryKey {
    /// Its columns.
    pub columns: Vec<String>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may fail by panicking.
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_its_key_and_its_decimals_and_tolerates_what_is_new() {
        let table: Table = serde_json::from_str(
            r#"{"kind":"bigquery#table","tableReference":{"projectId":"p","datasetId":"d","tableId":"t"},
                "schema":{"fields":[{"name":"id","type":"INTEGER","mode":"REQUIRED"},
                  {"name":"price","type":"NUMERIC","precision":"10","scale":"2"},
                  {"name":"span","type":"RANGE","rangeElementType":{"type":"DATE"}}]},
                "tableConstraints":{"primaryKey":{"columns":["id"]}},"clustering":{"fields":["id"]},
                "labels":{"strait_deletes":"soft"},"somethingNew":{"x":[1]}}"#,
        )
        .unwrap();
        assert_eq!(table.primary_key(), ["id"]);
        assert_eq!(table.clustering_columns(), ["id"]);
        assert!(table.schema.fields[0].is_required());
        assert_eq!(table.schema.fields[1].scale.as_deref(), Some("2"));
        assert_eq!(table.schema.fields[2].field_type, "RANGE");
        let again: Table = serde_json::from_value(serde_json::to_value(&table).unwrap()).unwrap();
        assert_eq!(again, table);
    }
}
