//! Which Kafka offsets are not in the log on purpose: ranges of records of DMS's own tables, of tables that `STRAIT_TABLES` leaves out, and of
//! what Debezium sends beside changes. With them every offset that was delivered is accounted for, so that a missing one can be told.
//! It must never name an offset that was not delivered, and nothing of a record but its identity.

use std::sync::Arc;

use prost::Message;

/// Why a record is not in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeptOutReason {
    /// It is of one of DMS's own tables (`awsdms_…`).
    Dms,
    /// `STRAIT_TABLES` leaves its table out.
    Excluded,
    /// It is the tombstone that Debezium sends after a delete, for Kafka's compaction.
    Tombstone,
    /// It is one of Debezium's own: a transaction's boundary, a heartbeat, a statement that changed no table.
    Debezium,
}

impl KeptOutReason {
    /// The word in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dms => "dms",
            Self::Excluded => "excluded",
            Self::Tombstone => "tombstone",
            Self::Debezium => "debezium",
        }
    }
}

/// Consecutive offsets of one partition, both ends included, each delivered in the same event and kept out of the log for
/// the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOutRange {
    /// The key of `records` that the records stood under; see [`super::ItemIdentity::group`].
    pub group: Arc<str>,
    /// Kafka topic.
    pub topic: Arc<str>,
    /// Kafka partition.
    pub partition: i64,
    /// The lowest offset.
    pub first: i64,
    /// The highest offset.
    pub last: i64,
    /// Why.
    pub reason: KeptOutReason,
    /// When the newest of them was sent, in microseconds since the Unix epoch: as DMS says, else as Kafka does.
    pub emitted_at: Option<i64>,
}

impl KeptOutRange {
    /// The range as a row of [`super::KEPT_OUT`]; `ingested_at` in microseconds since the Unix epoch.
    #[must_use]
    pub fn encode(&self, ingested_at: i64) -> Vec<u8> {
        Row {
            kafka_topic: self.topic.to_string(),
            kafka_partition: self.partition,
            first_offset: self.first,
            last_offset: self.last,
            reason: self.reason.as_str().to_owned(),
            ingested_at,
            emitted_at: self.emitted_at,
        }
        .encode_to_vec()
    }
}

/// A row as the Storage Write API takes it; the field numbers are the columns' places. Required fields are always on the
/// wire, zero included.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Row {
    #[prost(string, required, tag = "1")]
    pub(crate) kafka_topic: String,
    #[prost(int64, required, tag = "2")]
    pub(crate) kafka_partition: i64,
    #[prost(int64, required, tag = "3")]
    pub(crate) first_offset: i64,
    #[prost(int64, required, tag = "4")]
    pub(crate) last_offset: i64,
    #[prost(string, required, tag = "5")]
    pub(crate) reason: String,
    #[prost(int64, required, tag = "6")]
    pub(crate) ingested_at: i64,
    #[prost(int64, optional, tag = "7")]
    pub(crate) emitted_at: Option<i64>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::bigquery::table_spec::Mode;
    use crate::log::KEPT_OUT;
    use prost_types::field_descriptor_proto::Type;

    /// Most columns are required: a zero that is left off the wire would be refused.
    #[test]
    fn every_column_is_on_the_wire_under_its_own_number() {
        let range = KeptOutRange {
            group: Arc::from("dms-0"),
            topic: Arc::from("x"),
            partition: 0,
            first: 0,
            last: 0,
            reason: KeptOutReason::Dms,
            emitted_at: Some(0),
        };
        let bytes = range.encode(0);
        let mut expected = Vec::new();
        for field in KEPT_OUT.proto_descriptor().field {
            let key = u8::try_from(field.number()).unwrap() << 3;
            match (field.r#type(), field.name()) {
                (Type::String, "kafka_topic") => expected.extend([key | 2, 1, b'x']),
                (Type::String, "reason") => expected.extend([key | 2, 3, b'd', b'm', b's']),
                (Type::Int64, _) => expected.extend([key, 0]),
                other => panic!("{other:?} is not encoded"),
            }
        }
        assert_eq!(bytes, expected);
        let optional = KEPT_OUT.columns.iter().filter(|column| column.mode != Mode::Required);
        assert_eq!(optional.map(|column| column.name).collect::<Vec<_>>(), ["emitted_at"]);
    }
}
