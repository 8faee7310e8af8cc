//! How the log and the note of what is kept out of it look in BigQuery. [`super::row`] and [`super::kept_out`] encode by
//! these columns' places, so a column may only ever be added at the end.

use crate::bigquery::table_spec::{ColumnType, Mode, PartitionUnit, TableSpec, column};
use crate::names::TableName;

/// `cdc.log`.
pub const LOG: TableSpec = TableSpec {
    description: "Every change of the source tables as received: at least once, so read it once per \
                  (kafka_topic, kafka_partition, kafka_offset).",
    columns: &[
        column(
            "source_schema",
            ColumnType::String,
            Mode::Required,
            "Schema (PostgreSQL) or database (MySQL) of the source table; '' where unknown.",
        ),
        column("source_table", ColumnType::String, Mode::Required, "Name of the source table; '' where unknown."),
        column(
            "operation",
            ColumnType::String,
            Mode::Required,
            "load, insert, update, delete; the operation of a control record (create-table, …); or poison.",
        ),
        column(
            "position",
            ColumnType::String,
            Mode::Required,
            "Orders the changes of a row as the source committed them; compares as text. '' for poison.",
        ),
        column(
            "data",
            ColumnType::String,
            Mode::Nullable,
            "The row image, or the body of the control record, as JSON text as received; of poison, the text or \
             its bytes in base64.",
        ),
        column("before", ColumnType::String, Mode::Nullable, "The before-image as JSON text as received."),
        column("transaction_id", ColumnType::String, Mode::Nullable, "The source's transaction."),
        column("committed_at", ColumnType::Timestamp, Mode::Nullable, "When the source committed."),
        column("emitted_at", ColumnType::Timestamp, Mode::Nullable, "When DMS built the message."),
        column(
            "kafka_topic",
            ColumnType::String,
            Mode::Required,
            "With partition and offset, the identity of the Kafka record.",
        ),
        column("kafka_partition", ColumnType::Int64, Mode::Required, "Partition of the topic."),
        column("kafka_offset", ColumnType::Int64, Mode::Required, "Offset in the partition."),
        column(
            "ingested_at",
            ColumnType::Timestamp,
            Mode::Required,
            "When the batch that the record came with was taken in.",
        ),
        column(
            "error",
            ColumnType::String,
            Mode::Nullable,
            "Why the record could not be decoded, or must not be applied.",
        ),
    ],
    partition: ("ingested_at", PartitionUnit::Hour),
    cluster: &["source_schema", "source_table"],
};

/// What the table of the offsets that a log leaves out on purpose is called: `cdc.log_kept_out` of `cdc.log`.
#[must_use]
pub fn kept_out_table(log: &TableName) -> TableName {
    TableName { dataset: log.dataset.clone(), table: format!("{}_kept_out", log.table) }
}

/// `cdc.log_kept_out`; its partitions expire with the log's, for the two are only of use together.
pub const KEPT_OUT: TableSpec = TableSpec {
    description: "Kafka offsets that are not in the log on purpose. Like the log at least once: ranges may repeat and \
                  overlap.",
    columns: &[
        column("kafka_topic", ColumnType::String, Mode::Required, "Topic of the Kafka records."),
        column("kafka_partition", ColumnType::Int64, Mode::Required, "Partition of the topic."),
        column("first_offset", ColumnType::Int64, Mode::Required, "Lowest offset of the range."),
        column(
            "last_offset",
            ColumnType::Int64,
            Mode::Required,
            "Highest offset of the range; all between are kept out.",
        ),
        column(
            "reason",
            ColumnType::String,
            Mode::Required,
            "dms: of one of DMS's own tables; excluded: STRAIT_TABLES leaves the table out.",
        ),
        column(
            "ingested_at",
            ColumnType::Timestamp,
            Mode::Required,
            "When the batch that the records came with was taken in.",
        ),
        column(
            "emitted_at",
            ColumnType::Timestamp,
            Mode::Nullable,
            "When the newest of the records was sent: as DMS says, else as Kafka does.",
        ),
    ],
    partition: ("ingested_at", PartitionUnit::Hour),
    cluster: &["kafka_topic"],
};
