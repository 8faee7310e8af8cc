//! How one of Strait's own tables looks: its columns said once, from which the REST schema (to create it) and
//! the protobuf descriptor (to append to it) are both derived, so that the two cannot drift apart.
//! It must never describe a final table: those belong to their owner.

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
