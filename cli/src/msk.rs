//! What lies between DMS and the ingest function: a Kafka topic with its partitions and offsets, and Lambda's poller, which makes
//! MSK events of its records. It must never look into a message beyond what DMS itself takes the Kafka key from.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::runtime_api::PAYLOAD_LIMIT;

/// Room for what an event holds beside its records.
const ENVELOPE_BYTES: usize = 1024;

/// A Kafka record as it lies in its partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaRecord {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// CREATE_TIME, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; None is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// What makes a Kafka record itself: delivered twice, it is still one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordIdentity {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
}

impl std::fmt::Display for RecordIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}@{}", self.topic, self.partition, self.offset)
    }
}

impl KafkaRecord {
    /// The record's identity.
    #[must_use]
    pub fn identity(&self) -> RecordIdentity {
        RecordIdentity { topic: self.topic.clone(), partition: self.partition, offset: self.offset }
    }
}

/// A topic that counts its partitions' offsets.
#[derive(Debug, Clone)]
pub struct Topic {
    name: String,
    next_offsets: BTreeMap<i32, i64>,
    partitions: i32,
    next_without_key: i32,
}

impl Topic {
    /// An empty topic of so many partitions; at least one.
    #[must_use]
    pub fn new(name: &str, partitions: i32) -> Self {
        Self {
            name: name.to_owned(),
            next_offsets: BTreeMap::new(),
            partitions: partitions.max(1),
            next_without_key: 0,
        }
    }

    /// Appends a record to the partition of its key, as Kafka's default partitioner chooses it; without a key to each in turn.
    pub fn append(&mut self, key: Option<Vec<u8>>, value: Option<Vec<u8>>) -> KafkaRecord {
        let partition = match &key {
            Some(key) => partition_of(key, self.partitions),
            None => {
                let turn = self.next_without_key;
                self.next_without_key = turn.wrapping_add(1).rem_euclid(self.partitions);
                turn
            }
        };
        self.append_to(partition, key, value)
    }

    /// Appends a record to a partition.
    pub fn append_to(&mut self, partition: i32, key: Option<Vec<u8>>, value: Option<Vec<u8>>) -> KafkaRecord {
        let next = self.next_offsets.entry(partition).or_insert(0);
        let offset = *next;
        *next = next.saturating_add(1);
        KafkaRecord {
            topic: self.name.clone(),
            partition,
            offset,
            timestamp_ms: jiff::Timestamp::now().as_millisecond(),
            key,
            value,
        }
    }
}

/// The Kafka key that DMS gives a message by default: `schema.table` for a change, the task for a control record. For a load it is
/// the row's primary key, which a message does not name: `schema.table` stands in for it. None where the message cannot be read.
#[must_use]
pub fn default_dms_key(message: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Message<'m> {
        #[serde(borrow)]
        metadata: Metadata<'m>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Metadata<'m> {
        #[serde(borrow)]
        record_type: std::borrow::Cow<'m, str>,
        #[serde(borrow, default)]
        schema_name: std::borrow::Cow<'m, str>,
        #[serde(borrow, default)]
        table_name: std::borrow::Cow<'m, str>,
    }
    let Message { metadata } = serde_json::from_slice(message).ok()?;
    Some(match metadata.record_type.as_ref() {
        "control" => b"task".to_vec(),
        _ => format!("{}.{}", metadata.schema_name, metadata.table_name).into_bytes(),
    })
}

/// Kafka's default partitioner: murmur2 of the key, without its sign, modulo the number of partitions.
fn partition_of(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key).cast_signed() & i32::MAX).checked_rem(partitions).unwrap_or(0)
}

/// `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    // Kafka's array lengths are 32 bits wide.
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |word: u32, byte| word << 8 | u32::from(*byte));
        hash = (hash ^ last).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ hash >> 15
}

/// A record that Lambda's poller could not deliver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record {identity} makes an event of {bytes} bytes; Lambda takes at most {PAYLOAD_LIMIT} (6 MB)")]
pub struct RecordTooLarge {
    /// The record.
    pub identity: RecordIdentity,
    /// The event's size if it held this record alone.
    pub bytes: usize,
}

/// Cuts records into batches as Lambda's poller does: in order, at most `max_records` each, each event below 6 MB.
///
/// # Errors
/// [`RecordTooLarge`] for a record that fits into no event.
pub fn batches(records: &[KafkaRecord], max_records: usize) -> Result<Vec<&[KafkaRecord]>, RecordTooLarge> {
    let mut batches = Vec::new();
    let (mut rest, mut count, mut bytes) = (records, 0_usize, ENVELOPE_BYTES);
    for record in records {
        let size = entry_bytes(record);
        if size.saturating_add(ENVELOPE_BYTES) > PAYLOAD_LIMIT {
            return Err(RecordTooLarge { identity: record.identity(), bytes: size.saturating_add(ENVELOPE_BYTES) });
        }
        if count > 0 && (count >= max_records || bytes.saturating_add(size) > PAYLOAD_LIMIT) {
            let (batch, after) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            batches.push(batch);
            (rest, count, bytes) = (after, 0, ENVELOPE_BYTES);
        }
        count = count.saturating_add(1);
        bytes = bytes.saturating_add(size);
    }
    if !rest.is_empty() {
        batches.push(rest);
    }
    Ok(batches)
}

/// The MSK event of these records, as Lambda hands it to the function.
#[must_use]
pub fn event(records: &[KafkaRecord]) -> Vec<u8> {
    let mut partitions: serde_json::Map<String, Value> = serde_json::Map::new();
    for record in records {
        let list = partitions
            .entry(format!("{}-{}", record.topic, record.partition))
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(entry(record));
        }
    }
    json!({
        "eventSource": "aws:kafka",
        "eventSourceArn": "arn:aws:kafka:us-east-1:000000000000:cluster/local/00000000-0000-0000-0000-000000000000-1",
        "bootstrapServers": "b-1.local.invalid:9098",
        "records": partitions,
    })
    .to_string()
    .into_bytes()
}

fn entry(record: &KafkaRecord) -> Value {
    json!({
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
        "timestampType": "CREATE_TIME",
        "key": record.key.as_ref().map(|key| STANDARD.encode(key)),
        "value": record.value.as_ref().map(|value| STANDARD.encode(value)),
        "headers": [],
    })
}

/// The entry's share of its event's size; the name of its partition's list is counted with each, to be on the safe side.
fn entry_bytes(record: &KafkaRecord) -> usize {
    let base64 = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(4, |bytes| bytes.len().div_ceil(3).saturating_mul(4));
    // Names of the fields, digits and punctuation.
    let fixed = 250_usize;
    fixed
        .saturating_add(record.topic.len().saturating_mul(2))
        .saturating_add(base64(&record.key))
        .saturating_add(base64(&record.value))
}

/// Why an MSK event's records cannot be told.
#[derive(Debug, thiserror::Error)]
#[error("not an MSK event")]
pub struct NotAnEvent(#[from] serde_json::Error);

/// The records of a complete MSK event, for the accounting. Base64 that cannot be decoded counts as the bytes of its text, which no
/// decoder takes for a DMS message.
///
/// # Errors
/// [`NotAnEvent`].
pub fn records_of_event(event: &[u8]) -> Result<Vec<KafkaRecord>, NotAnEvent> {
    #[derive(Deserialize)]
    struct Event {
        records: BTreeMap<String, Vec<Entry>>,
    }
    #[derive(Deserialize)]
    struct Entry {
        topic: String,
        partition: i32,
        offset: i64,
        #[serde(default)]
        timestamp: i64,
        key: Option<String>,
        value: Option<String>,
    }
    let decode = |text: String| STANDARD.decode(&text).unwrap_or(text.into_bytes());
    let event: Event = serde_json::from_slice(event)?;
    let entries = event.records.into_values().flatten();
    Ok(entries
        .map(|entry| KafkaRecord {
            topic: entry.topic,
            partition: entry.partition,
            offset: entry.offset,
            timestamp_ms: entry.timestamp,
            key: entry.key.map(decode),
            value: entry.value.map(decode),
        })
        .collect())
}

/// The records that a partial failure names: `{"batchItemFailures":[{"itemIdentifier":{"partition":"topic-0","offset":101}}]}`.
/// None when the answer is not of that form; then Lambda takes the whole batch for failed.
#[must_use]
pub fn failed_items<'r>(answer: &[u8], batch: &'r [KafkaRecord]) -> Option<Vec<&'r KafkaRecord>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        #[serde(default)]
        batch_item_failures: Vec<Failure>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Failure {
        item_identifier: Item,
    }
    #[derive(Deserialize)]
    struct Item {
        partition: String,
        offset: i64,
    }
    if answer.is_empty() || answer == b"null" {
        return Some(Vec::new());
    }
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    answer
        .batch_item_failures
        .iter()
        .map(|failure| {
            let item = &failure.item_identifier;
            batch.iter().find(|record| {
                record.offset == item.offset && format!("{}-{}", record.topic, record.partition) == item.partition
            })
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<Vec<u8>> {
        Some(text.as_bytes().to_vec())
    }

    #[test]
    fn keys_hash_as_in_kafka() {
        // From Kafka's own test of Utils.murmur2.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn a_key_keeps_to_its_partition_and_offsets_have_no_gap() {
        let mut topic = Topic::new("dms", 4);
        let mut offsets: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        let mut of_key = BTreeMap::new();
        for number in 0..200 {
            let key = format!("shop.t{}", number % 20);
            let record = topic.append(some(&key), some("{}"));
            assert_eq!(*of_key.entry(key).or_insert(record.partition), record.partition);
            offsets.entry(record.partition).or_default().push(record.offset);
        }
        assert_eq!(offsets.len(), 4, "20 keys spread over 4 partitions");
        for list in offsets.values() {
            assert!(list.iter().copied().eq(0..i64::try_from(list.len()).unwrap()));
        }
    }

    #[test]
    fn records_without_a_key_take_turns() {
        let mut topic = Topic::new("dms", 3);
        let partitions: Vec<i32> = (0..4).map(|_| topic.append(None, None).partition).collect();
        assert_eq!(partitions, [0, 1, 2, 0]);
    }

    #[test]
    fn the_default_key_is_the_table_or_the_task() {
        let change = br#"{"data":{"id":1},"metadata":{"record-type":"data","operation":"insert","schema-name":"shop","table-name":"orders"}}"#;
        assert_eq!(default_dms_key(change), some("shop.orders"));
        let control = br#"{"metadata":{"record-type":"control","operation":"drop-table","schema-name":"shop","table-name":"orders"}}"#;
        assert_eq!(default_dms_key(control), some("task"));
        assert_eq!(default_dms_key(b"not json"), None);
    }

    #[test]
    fn batches_end_at_the_count() {
        let mut topic = Topic::new("dms", 1);
        let records: Vec<KafkaRecord> = (0..7).map(|_| topic.append(None, some("{}"))).collect();
        let sizes = |max| -> Vec<usize> { batches(&records, max).unwrap().iter().map(|batch| batch.len()).collect() };
        assert_eq!(sizes(3), [3, 3, 1]);
        assert_eq!(sizes(7), [7]);
        assert!(batches(&[], 3).unwrap().is_empty());
    }

    #[test]
    fn batches_end_below_lambdas_limit_and_lose_nothing() {
        let mut topic = Topic::new("dms", 3);
        let large = vec![b'x'; 1_600_000];
        let records: Vec<KafkaRecord> = (0..8).map(|_| topic.append(None, Some(large.clone()))).collect();
        let cut = batches(&records, 500).unwrap();
        // 2.1 MB each in base64: two to an event.
        assert_eq!(cut.iter().map(|batch| batch.len()).collect::<Vec<_>>(), [2, 2, 2, 2]);
        assert!(cut.iter().all(|batch| event(batch).len() <= PAYLOAD_LIMIT));
        assert_eq!(cut.concat(), records);
    }

    #[test]
    fn small_records_fill_an_event_without_passing_the_limit() {
        let mut topic = Topic::new(&"t".repeat(249), 1);
        let records: Vec<KafkaRecord> = (0..20_000).map(|_| topic.append(some("k"), some("{}"))).collect();
        for batch in batches(&records, usize::MAX).unwrap() {
            assert!(event(batch).len() <= PAYLOAD_LIMIT, "{}", event(batch).len());
        }
    }

    #[test]
    fn a_record_above_the_limit_is_named() {
        let mut topic = Topic::new("dms", 1);
        let records = [topic.append(None, Some(vec![b'x'; 5_000_000]))];
        assert_eq!(batches(&records, 1).unwrap_err().identity, records[0].identity());
    }

    #[test]
    fn an_event_reads_back_as_its_records() {
        let mut topic = Topic::new("dms", 2);
        let records = [
            topic.append_to(0, some("k"), some("{\"a\":\"이름\"}")),
            topic.append_to(0, None, None),
            topic.append_to(1, None, Some(vec![0xff, 0x00])),
        ];
        assert_eq!(records_of_event(&event(&records)).unwrap(), records);
        let event: Value = serde_json::from_slice(&event(&records)).unwrap();
        assert_eq!(event["records"]["dms-0"][0]["timestampType"], "CREATE_TIME");
        assert_eq!(event["records"]["dms-0"][1]["value"], Value::Null);
    }

    #[test]
    fn a_partial_failure_names_records_of_the_batch() {
        let mut topic = Topic::new("dms", 2);
        let batch = [topic.append_to(0, None, None), topic.append_to(1, None, None), topic.append_to(1, None, None)];
        let answer = br#"{"batchItemFailures":[{"itemIdentifier":{"partition":"dms-1","offset":1}}]}"#;
        assert_eq!(failed_items(answer, &batch), Some(vec![&batch[2]]));
        assert_eq!(failed_items(br#"{"batchItemFailures":[]}"#, &batch), Some(vec![]));
        // Lambda fails the whole batch for an answer that names what is not in it.
        let unknown = br#"{"batchItemFailures":[{"itemIdentifier":{"partition":"dms-7","offset":1}}]}"#;
        assert_eq!(failed_items(unknown, &batch), None);
        assert_eq!(failed_items(b"[17]", &batch), None);
    }
}
