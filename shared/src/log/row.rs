//! One row of the log, and its bytes for the Storage Write API. Written by hand rather than through a generated message,
//! because a generated one owns its strings: every row image would be copied once more.
//! It must never allocate per field, and its field numbers are the columns' places in [`super::LOG`].

/// One row of the log. Times are microseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRow<'a> {
    /// Schema or database of the source table; `''` where unknown.
    pub source_schema: &'a str,
    /// Name of the source table; `''` where unknown.
    pub source_table: &'a str,
    /// `load`, `insert`, `update`, `delete`, a control operation, or `poison`.
    pub operation: &'a str,
    /// [`crate::position::Position`]; `''` for poison.
    pub position: &'a str,
    /// Row image or control body.
    pub data: Option<&'a str>,
    /// Before-image.
    pub before: Option<&'a str>,
    /// The source's transaction.
    pub transaction_id: Option<&'a str>,
    /// When the source committed.
    pub committed_at: Option<i64>,
    /// When DMS built the message.
    pub emitted_at: Option<i64>,
    /// Topic of the Kafka record.
    pub kafka_topic: &'a str,
    /// Partition of the Kafka record.
    pub kafka_partition: i64,
    /// Offset of the Kafka record.
    pub kafka_offset: i64,
    /// When the batch was taken in.
    pub ingested_at: i64,
    /// Why the record could not be decoded, or must not be applied.
    pub error: Option<&'a str>,
}

impl LogRow<'_> {
    /// Appends the row as a protobuf message. NULL is an absent field, the empty text a present one.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.reserve(self.upper_bound());
        put_text(buffer, 1, Some(self.source_schema));
        put_text(buffer, 2, Some(self.source_table));
        put_text(buffer, 3, Some(self.operation));
        put_text(buffer, 4, Some(self.position));
        put_text(buffer, 5, self.data);
        put_text(buffer, 6, self.before);
        put_text(buffer, 7, self.transaction_id);
        put_integer(buffer, 8, self.committed_at);
        put_integer(buffer, 9, self.emitted_at);
        put_text(buffer, 10, Some(self.kafka_topic));
        put_integer(buffer, 11, Some(self.kafka_partition));
        put_integer(buffer, 12, Some(self.kafka_offset));
        put_integer(buffer, 13, Some(self.ingested_at));
        put_text(buffer, 14, self.error);
    }

    /// At least as many bytes as the row takes, so that the buffer grows once.
    fn upper_bound(&self) -> usize {
        /// 14 keys of one byte, 5 integers of at most 10, 9 lengths of at most 10.
        const KEYS_AND_NUMBERS: usize = 14 + 5 * 10 + 9 * 10;
        [
            Some(self.source_schema),
            Some(self.source_table),
            Some(self.operation),
            Some(self.position),
            self.data,
            self.before,
            self.transaction_id,
            Some(self.kafka_topic),
            self.error,
        ]
        .into_iter()
        .flatten()
        .map(str::len)
        .fold(KEYS_AND_NUMBERS, usize::saturating_add)
    }
}

/// Wire types (<https://protobuf.dev/programming-guides/encoding/#structure>).
const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;

fn put_text(buffer: &mut Vec<u8>, field: u64, text: Option<&str>) {
    let Some(text) = text else { return };
    put_varint(buffer, (field << 3) | LENGTH_DELIMITED);
    // `usize` has 64 bits at most on every platform there is.
    put_varint(buffer, u64::try_from(text.len()).unwrap_or(u64::MAX));
    buffer.extend_from_slice(text.as_bytes());
}

fn put_integer(buffer: &mut Vec<u8>, field: u64, number: Option<i64>) {
    let Some(number) = number else { return };
    put_varint(buffer, (field << 3) | VARINT);
    put_varint(buffer, number.cast_unsigned());
}

/// Seven bits a byte, the lowest first; the top bit says that more follow.
fn put_varint(buffer: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            buffer.push(low & 0x7F);
            return;
        }
        buffer.push(low | 0x80);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::bigquery::table_spec::{ColumnType, Mode};
    use crate::log::LOG;
    use proptest::prelude::*;
    use prost::Message;

    /// The log's row as `prost` reads it, after DESIGN's table: not derived from [`LOG`], so that the two are compared.
    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Mirror {
        #[prost(string, optional, tag = "1")]
        pub source_schema: Option<String>,
        #[prost(string, optional, tag = "2")]
        pub source_table: Option<String>,
        #[prost(string, optional, tag = "3")]
        pub operation: Option<String>,
        #[prost(string, optional, tag = "4")]
        pub position: Option<String>,
        #[prost(string, optional, tag = "5")]
        pub data: Option<String>,
        #[prost(string, optional, tag = "6")]
        pub before: Option<String>,
        #[prost(string, optional, tag = "7")]
        pub transaction_id: Option<String>,
        #[prost(int64, optional, tag = "8")]
        pub committed_at: Option<i64>,
        #[prost(int64, optional, tag = "9")]
        pub emitted_at: Option<i64>,
        #[prost(string, optional, tag = "10")]
        pub kafka_topic: Option<String>,
        #[prost(int64, optional, tag = "11")]
        pub kafka_partition: Option<i64>,
        #[prost(int64, optional, tag = "12")]
        pub kafka_offset: Option<i64>,
        #[prost(int64, optional, tag = "13")]
        pub ingested_at: Option<i64>,
        #[prost(string, optional, tag = "14")]
        pub error: Option<String>,
    }

    const EMPTY: LogRow<'static> = LogRow {
        source_schema: "",
        source_table: "",
        operation: "",
        position: "",
        data: None,
        before: None,
        transaction_id: None,
        committed_at: None,
        emitted_at: None,
        kafka_topic: "",
        kafka_partition: 0,
        kafka_offset: 0,
        ingested_at: 0,
        error: None,
    };

    fn encoded(row: &LogRow<'_>) -> Vec<u8> {
        let mut buffer = Vec::new();
        row.encode(&mut buffer);
        buffer
    }

    #[test]
    fn null_is_absent_and_the_empty_text_is_not() {
        let row = Mirror::decode(encoded(&EMPTY).as_slice()).unwrap();
        assert_eq!(row.source_schema.as_deref(), Some(""));
        assert_eq!(row.kafka_offset, Some(0));
        assert_eq!((row.data, row.committed_at, row.error), (None, None, None));
    }

    /// Each column of the specification, filled alone, arrives under its own number with its own type.
    #[test]
    fn field_numbers_and_types_are_the_tables() {
        let filled: [(&str, LogRow<'_>); 14] = [
            ("source_schema", LogRow { source_schema: "x", ..EMPTY }),
            ("source_table", LogRow { source_table: "x", ..EMPTY }),
            ("operation", LogRow { operation: "x", ..EMPTY }),
            ("position", LogRow { position: "x", ..EMPTY }),
            ("data", LogRow { data: Some("x"), ..EMPTY }),
            ("before", LogRow { before: Some("x"), ..EMPTY }),
            ("transaction_id", LogRow { transaction_id: Some("x"), ..EMPTY }),
            ("committed_at", LogRow { committed_at: Some(120), ..EMPTY }),
            ("emitted_at", LogRow { emitted_at: Some(120), ..EMPTY }),
            ("kafka_topic", LogRow { kafka_topic: "x", ..EMPTY }),
            ("kafka_partition", LogRow { kafka_partition: 120, ..EMPTY }),
            ("kafka_offset", LogRow { kafka_offset: 120, ..EMPTY }),
            ("ingested_at", LogRow { ingested_at: 120, ..EMPTY }),
            ("error", LogRow { error: Some("x"), ..EMPTY }),
        ];
        assert_eq!(LOG.columns.len(), filled.len());
        let null_bytes = encoded(&EMPTY);
        for (index, (column, (name, row))) in LOG.columns.iter().zip(filled).enumerate() {
            assert_eq!(column.name, name);
            let number = u8::try_from(index + 1).unwrap();
            let expected: Vec<u8> = match column.column_type {
                ColumnType::String => vec![(number << 3) | 2, 1, b'x'],
                ColumnType::Int64 | ColumnType::Timestamp => vec![number << 3, 120],
                ColumnType::Record(_) => Vec::new(),
            };
            let bytes = encoded(&row);
            assert!(
                bytes.windows(expected.len()).any(|window| window == expected),
                "{name}: {expected:?} in {bytes:?}"
            );
            // What may be NULL is not written when it is.
            let grows = bytes.len() - null_bytes.len();
            let is_nullable = column.mode == Mode::Nullable;
            assert_eq!(grows == expected.len(), is_nullable, "{name}");
        }
    }

    proptest! {
        #[test]
        fn prost_reads_what_was_written(
            texts in prop::array::uniform5(any::<String>()),
            options in prop::array::uniform4(any::<Option<String>>()),
            times in prop::array::uniform2(any::<Option<i64>>()),
            numbers in prop::array::uniform3(any::<i64>()),
        ) {
            let [schema, table, operation, position, topic] = &texts;
            let [data, before, transaction_id, error] = &options;
            let [committed_at, emitted_at] = times;
            let [kafka_partition, kafka_offset, ingested_at] = numbers;
            let row = LogRow {
                source_schema: schema,
                source_table: table,
                operation,
                position,
                data: data.as_deref(),
                before: before.as_deref(),
                transaction_id: transaction_id.as_deref(),
                committed_at,
                emitted_at,
                kafka_topic: topic,
                kafka_partition,
                kafka_offset,
                ingested_at,
                error: error.as_deref(),
            };
            let bytes = encoded(&row);
            prop_assert!(bytes.len() <= row.upper_bound());
            let expected = Mirror {
                source_schema: Some(schema.clone()),
                source_table: Some(table.clone()),
                operation: Some(operation.clone()),
                position: Some(position.clone()),
                data: data.clone(),
                before: before.clone(),
                transaction_id: transaction_id.clone(),
                committed_at,
                emitted_at,
                kafka_topic: Some(topic.clone()),
                kafka_partition: Some(kafka_partition),
                kafka_offset: Some(kafka_offset),
                ingested_at: Some(ingested_at),
                error: error.clone(),
            };
            prop_assert_eq!(&expected.encode_to_vec(), &bytes);
            prop_assert_eq!(Mirror::decode(bytes.as_slice()).unwrap(), expected);
        }
    }
}
