//! From one Kafka event to rows of the log, and the figures about it. Every record ends in exactly one of four ways: a
//! row of its own operation, a row of the operation `poison`, or kept out, as DMS's or Debezium's own or as excluded by configuration.
//! Before a change of Debezium's, whose records describe themselves, a row with the table's definition goes in where the log may lack it;
//! of a statement on several tables each gets a row.
//! Nothing is dropped without being counted and its offset noted, and no record keeps another one out of the log.
//! While anything is masked, a record that cannot be decoded is withheld: its row says only which record it is and why, and
//! its bytes must not be in it.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::config::{TableFilter, WithoutSchema};
use crate::debezium::{
    self, BY_DEFINITION, BY_DEFINITION_UNAVAILABLE, ChangeEvent, Definition, Described, Event, INCOMPLETE,
    SELF_DESCRIBING, SELF_DESCRIBING_UNAVAILABLE, Schemas, Snapshot, Source, TableChange, UNAVAILABLE, WITHOUT_SCHEMA,
    WITHOUT_SCHEMA_BEGINS,
};
use crate::dms::{self, Change, Control, DecodeError, Kind, Message, Metadata, Operation, Record};
use crate::json_text::{self, EditError, Surrogates};
use crate::kafka::{KafkaRecord, MskEvent, Payload};
use crate::log::kept_out::{KeptOutRange, KeptOutReason};
use crate::log::row::LogRow;
use crate::mask::{MaskedImage, Masker};
use crate::position::Position;

/// The largest value that is put into a row. BigQuery's Storage Write API takes 10 MB a request and so a row; the rest
/// is room for the row's other columns and the request's own fields. Lambda's payload limit (6 MB) is below it, so only
/// other deliveries meet it.
pub const MAX_VALUE_BYTES: usize = 9_000_000;

/// For what [`base64_simd`] refuses: padding is taken with and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What `batchItemFailures` calls a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ItemIdentity {
    /// The key of `records`, which Lambda calls the partition.
    pub group: Arc<str>,
    /// The record's offset.
    pub offset: i64,
}

/// A row of the log, ready to be appended, and the Kafka record that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRow {
    /// The row as a protobuf message of [`super::LOG`]'s columns.
    pub bytes: Vec<u8>,
    /// What to report when the row could not be appended.
    pub item: ItemIdentity,
    /// Topic of the Kafka record.
    pub topic: Arc<str>,
    /// Partition of the Kafka record.
    pub partition: i64,
}

/// What became of the records of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Kafka records in the event. Equal to loads + inserts + updates + deletes + controls + poison + dms_own + debezium_own +
    /// debezium_tombstones + excluded.
    pub records: u64,
    /// Rows of a full load.
    pub loads: u64,
    /// Inserts.
    pub inserts: u64,
    /// Updates.
    pub updates: u64,
    /// Deletes.
    pub deletes: u64,
    /// Control records.
    pub controls: u64,
    /// Records that could not be decoded; logged as such.
    pub poison: u64,
    /// Records of DMS's own tables; kept out of the log.
    pub dms_own: u64,
    /// Records of Debezium's that are no change: transaction boundaries, heartbeats, statements on no table; kept out of the log.
    pub debezium_own: u64,
    /// Debezium's tombstones; kept out of the log.
    pub debezium_tombstones: u64,
    /// Records of tables that `STRAIT_TABLES` leaves out; kept out of the log.
    pub excluded: u64,
    /// Rows with definitions that came with changes, beside the records' own.
    pub definitions: u64,
    /// Of `poison`, those without a value.
    pub tombstones: u64,
    /// Of `poison`, those whose bytes stay in AWS because they could not be masked.
    pub withheld: u64,
    /// Of the changes and control records, those that are logged with an error, for the merge to quarantine.
    pub flagged: u64,
    /// Bytes of the values after base64.
    pub bytes_in: u64,
    /// Bytes of the encoded rows.
    pub bytes_out: u64,
    /// The latest commit at the source among the logged changes, in microseconds since the Unix epoch: the lag is now
    /// minus this.
    pub newest_committed_at: Option<i64>,
}

/// The rows of one event, in the order of its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBatch {
    /// One per logged record.
    pub rows: Vec<EncodedRow>,
    /// Every other record's offset, those that follow each other as one range.
    pub kept_out: Vec<KeptOutRange>,
    /// The definitions among the rows, to be handed to [`Schemas::written`] once all of the rows are acknowledged.
    pub definitions: Vec<Arc<Definition>>,
    /// The records whose bytes are not in their rows because they could not be masked: to be given back, so that Lambda
    /// keeps them in AWS.
    pub withheld: Vec<ItemIdentity>,
    /// What became of all records.
    pub tally: Tally,
}

impl LogBatch {
    /// Decodes every record of an event, of a configuration that masks nothing. `ingested_at` (microseconds since the Unix
    /// epoch) is the same for all of them.
    #[must_use]
    pub fn from_event(event: &MskEvent<'_>, filter: &TableFilter, ingested_at: i64) -> Self {
        Self::masked(event, filter, None, &mut Schemas::default(), ingested_at)
    }

    /// As [`Self::from_event`], with what `masker` masks masked, and with what is known of schemas from earlier events.
    #[must_use]
    pub fn masked(
        event: &MskEvent<'_>,
        filter: &TableFilter,
        masker: Option<&mut Masker>,
        schemas: &mut Schemas,
        ingested_at: i64,
    ) -> Self {
        let mut builder = Builder {
            filter,
            masker,
            schemas,
            ingested_at,
            topic: Arc::from(""),
            batch: Self {
                rows: Vec::with_capacity(event.records.len()),
                kept_out: Vec::new(),
                definitions: Vec::new(),
                withheld: Vec::new(),
                tally: Tally::default(),
            },
        };
        let mut decoded = Vec::new();
        for record in &event.records {
            builder.record(record, &mut decoded);
        }
        builder.batch
    }
}

struct Builder<'f> {
    filter: &'f TableFilter,
    masker: Option<&'f mut Masker>,
    schemas: &'f mut Schemas,
    ingested_at: i64,
    /// The last record's: nearly always the next one's too.
    topic: Arc<str>,
    batch: LogBatch,
}

impl Builder<'_> {
    /// `decoded` is room for the value, kept from record to record.
    fn record(&mut self, record: &KafkaRecord<'_>, decoded: &mut Vec<u8>) {
        count(&mut self.batch.tally.records);
        let base64 = match &record.value {
            Payload::Base64(text) => text.as_ref(),
            Payload::Absent if has_debezium_key(record) => return self.tombstone(record),
            Payload::Absent => {
                count(&mut self.batch.tally.tombstones);
                return self.poison(record, UNKNOWN, Value::None, "the record has no value");
            }
            Payload::NotText => {
                return self.poison(record, UNKNOWN, Value::NotKept, "the record's value is not text");
            }
        };
        decoded.clear();
        if !decode_base64(base64, decoded) {
            let reason = "the record's value is not base64";
            return self.poison(record, UNKNOWN, Value::Text(base64), reason);
        }
        let tally = &mut self.batch.tally;
        tally.bytes_in = tally.bytes_in.saturating_add(length(decoded));
        if decoded.is_empty() {
            return self.poison(record, UNKNOWN, Value::Text(""), "the record's value is empty");
        }
        if decoded.len() > MAX_VALUE_BYTES {
            let reason =
                format!("the record's value has {} bytes, more than a row of BigQuery can hold", decoded.len());
            return self.poison(record, UNKNOWN, Value::NotKept, &reason);
        }
        let Ok(text) = std::str::from_utf8(decoded) else {
            return self.poison(record, UNKNOWN, Value::Text(base64), "not UTF-8");
        };
        match dms::decode(text) {
            Ok(Record::Dms(message)) => self.message(record, &message, text),
            Ok(Record::Debezium(event)) => self.event(record, event, text),
            Err(DecodeError { kind, table }) => {
                let table = table.as_ref().map_or(UNKNOWN, |table| (table.schema.as_str(), table.table.as_str()));
                // A broken record of an excluded table is still of an excluded table: its content must not be logged.
                if !self.is_kept_out(record, table.0, table.1, None) {
                    self.poison(record, table, Value::Text(text), &kind.to_string());
                }
            }
        }
    }

    /// Counts and notes a record that does not belong into the log.
    fn is_kept_out(&mut self, record: &KafkaRecord<'_>, schema: &str, table: &str, emitted_at: Option<i64>) -> bool {
        let tally = &mut self.batch.tally;
        let reason = if dms::is_dms_own(table) {
            count(&mut tally.dms_own);
            KeptOutReason::Dms
        } else if !table.is_empty() && !self.filter.matches(schema, table) {
            count(&mut tally.excluded);
            KeptOutReason::Excluded
        } else {
            return false;
        };
        let of_kafka = || record.timestamp_ms.and_then(|millis| millis.checked_mul(1000));
        self.keep_out(record, reason, emitted_at.or_else(of_kafka));
        true
    }

    fn keep_out(&mut self, record: &KafkaRecord<'_>, reason: KeptOutReason, emitted_at: Option<i64>) {
        let topic = self.topic_of(record);
        let ranges = &mut self.batch.kept_out;
        if let Some(range) = ranges.last_mut()
            && (&range.group, &range.topic) == (&record.group, &topic)
            && (range.partition, range.reason) == (record.partition, reason)
            && range.last.checked_add(1) == Some(record.offset)
        {
            range.last = record.offset;
            range.emitted_at = range.emitted_at.max(emitted_at);
            return;
        }
        ranges.push(KeptOutRange {
            group: Arc::clone(&record.group),
            topic,
            partition: record.partition,
            first: record.offset,
            last: record.offset,
            reason,
            emitted_at,
        });
    }

    fn topic_of(&mut self, record: &KafkaRecord<'_>) -> Arc<str> {
        if *self.topic != *record.topic {
            self.topic = Arc::from(record.topic.as_ref());
        }
        Arc::clone(&self.topic)
    }

    fn message(&mut self, record: &KafkaRecord<'_>, message: &Message<'_>, text: &str) {
        let metadata = &message.metadata;
        if self.is_kept_out(record, &metadata.schema, &metadata.table, metadata.emitted_at) {
            return;
        }
        let outcome = match &message.kind {
            Kind::Change(change) => {
                let position = Position::of_change(metadata, change.operation, record.offset);
                self.change(record, metadata, change, Captured { position, transaction_id: None, error: None })
            }
            Kind::Control(control) => {
                count(&mut self.batch.tally.controls);
                self.control(record, metadata, control)
            }
        };
        if let Err(error) = outcome {
            let table = (metadata.schema.as_ref(), metadata.table.as_ref());
            self.poison(record, table, Value::Text(text), &error.to_string());
        }
    }

    fn tombstone(&mut self, record: &KafkaRecord<'_>) {
        count(&mut self.batch.tally.debezium_tombstones);
        self.keep_out(
            record,
            KeptOutReason::Tombstone,
            record.timestamp_ms.and_then(|millis| millis.checked_mul(1000)),
        );
    }

    /// A record of Debezium's.
    fn event(&mut self, record: &KafkaRecord<'_>, event: Event<'_>, text: &str) {
        match event {
            Event::Change(change) => self.captured(record, &change, text),
            Event::Truncate(source) => {
                let metadata = metadata_of(&source);
                if self.is_kept_out(record, &metadata.schema, &metadata.table, metadata.emitted_at) {
                    return;
                }
                count(&mut self.batch.tally.controls);
                let position = match source.place {
                    Some(place) => Position::of_place(place, source.order.or(Some(0)), &metadata, record.offset),
                    None => Position::of_control(&metadata, record.offset),
                };
                let content = Content {
                    operation: TRUNCATE,
                    position: &position,
                    transaction_id: source.transaction_id.as_deref(),
                    data: None,
                    before: None,
                    error: None,
                };
                self.row(record, &metadata, content);
            }
            Event::Tables { tables, emitted_at } => self.altered(record, &tables, emitted_at, text),
            Event::Tombstone => self.tombstone(record),
            Event::Own => self.debezium_own(record, None),
        }
    }

    fn debezium_own(&mut self, record: &KafkaRecord<'_>, emitted_at: Option<i64>) {
        count(&mut self.batch.tally.debezium_own);
        let of_kafka = || record.timestamp_ms.and_then(|millis| millis.checked_mul(1000));
        self.keep_out(record, KeptOutReason::Debezium, emitted_at.or_else(of_kafka));
    }

    /// A statement that made, altered or dropped tables.
    fn altered(&mut self, record: &KafkaRecord<'_>, tables: &[TableChange], emitted_at: Option<i64>, text: &str) {
        let filter = self.filter;
        let is_wanted = |change: &&TableChange| filter.matches(&change.table.schema, &change.table.table);
        let mut is_counted = false;
        for change in tables.iter().filter(is_wanted) {
            if !is_counted {
                count(&mut self.batch.tally.controls);
                is_counted = true;
            }
            let metadata = Metadata {
                schema: Cow::Borrowed(&change.table.schema),
                table: Cow::Borrowed(&change.table.table),
                emitted_at,
                ..Metadata::default()
            };
            let control =
                Control { operation: Cow::Borrowed(change.operation), definition: change.definition.as_deref() };
            if let Err(error) = self.control(record, &metadata, &control) {
                self.batch.tally.controls = self.batch.tally.controls.saturating_sub(1);
                let table = (metadata.schema.as_ref(), metadata.table.as_ref());
                return self.poison(record, table, Value::Text(text), &error.to_string());
            }
        }
        match tables.first() {
            _ if is_counted => {}
            Some(change) => {
                self.is_kept_out(record, &change.table.schema, &change.table.table, emitted_at);
            }
            None => self.debezium_own(record, emitted_at),
        }
    }

    /// A change of a row that Debezium captured.
    fn captured(&mut self, record: &KafkaRecord<'_>, event: &ChangeEvent<'_>, text: &str) {
        let metadata = metadata_of(&event.source);
        if self.is_kept_out(record, &metadata.schema, &metadata.table, metadata.emitted_at) {
            return;
        }
        if let Err(error) = self.captured_change(record, event, metadata) {
            let table = (event.source.schema.as_ref(), event.source.table.as_ref());
            self.poison(record, table, Value::Text(text), &error);
        }
    }

    /// # Errors
    /// Why it is poison; of it at most the table's definition has been taken then.
    fn captured_change(
        &mut self,
        record: &KafkaRecord<'_>,
        event: &ChangeEvent<'_>,
        mut metadata: Metadata<'_>,
    ) -> Result<(), String> {
        let source = &event.source;
        let key = decoded_key(record);
        let key = key.as_deref();
        let table = (source.schema.as_ref(), source.table.as_ref());
        let described = match event.schema {
            Some(schema) => Some(
                self.schemas
                    .describe(table, schema, key, source.may_be_partial)
                    .ok_or("`schema` is none of a change event's")?,
            ),
            None => None,
        };
        let is_load = event.operation == debezium::Operation::Read && source.snapshot != Snapshot::Incremental;
        let operation = match event.operation {
            debezium::Operation::Read if is_load => Operation::Load,
            // As it is at a known place in the source's log, between the changes before and after it.
            debezium::Operation::Read | debezium::Operation::Create => Operation::Insert,
            debezium::Operation::Update => Operation::Update,
            debezium::Operation::Delete => Operation::Delete,
        };
        if is_load {
            // When the snapshot was made, no commit.
            metadata.committed_at = None;
        }
        let read_by = match &described {
            Some(described) => ReadBy::Schema(described),
            None => ReadBy::Word(self.schemas.without()),
        };
        let images = Images::of(event, operation, key, &read_by)?;
        // Only a table without a key can have several changes of one row's identity at one place.
        let order = if key.is_some() { Some(0) } else { source.order };
        let position = match source.place {
            Some(place) if !is_load => Position::of_place(place, order, &metadata, record.offset),
            _ => Position::of_change(&metadata, operation, record.offset),
        };
        let change = Change { operation, data: &images.data, before: images.before.as_deref() };
        let captured = Captured { position, transaction_id: source.transaction_id.as_deref(), error: images.error };
        // What the change needs to be understood comes before it.
        let is_start = is_load && source.snapshot == Snapshot::First;
        self.define(record, &metadata, described, is_start).map_err(|error| error.to_string())?;
        self.change(record, &metadata, &change, captured).map_err(|error| error.to_string())
    }

    /// The table's definition, where the log may lack it, or a snapshot of the table begins.
    fn define(
        &mut self,
        record: &KafkaRecord<'_>,
        metadata: &Metadata<'_>,
        described: Option<Described>,
        is_start: bool,
    ) -> Result<(), EditError> {
        let definition = described.as_ref().and_then(|described| described.definition.as_ref());
        let is_new = definition.is_some_and(|definition| {
            let is_written = described.as_ref().is_some_and(|described| described.is_written);
            let in_batch = self.batch.definitions.iter().rev().find(|other| other.is_of_table_of(definition));
            in_batch.map_or(!is_written, |other| other != definition)
        });
        if !is_start && !is_new {
            return Ok(());
        }
        let operation = if is_start { "create-table" } else { DEFINE_TABLE };
        let control =
            Control { operation: Cow::Borrowed(operation), definition: definition.map(|definition| definition.text()) };
        self.control(record, metadata, &control)?;
        count(&mut self.batch.tally.definitions);
        self.batch.definitions.extend(definition.cloned());
        Ok(())
    }

    /// # Errors
    /// When it cannot be masked; then nothing of it has been taken.
    fn change(
        &mut self,
        record: &KafkaRecord<'_>,
        metadata: &Metadata<'_>,
        change: &Change<'_>,
        captured: Captured<'_>,
    ) -> Result<(), EditError> {
        let masked = match &mut self.masker {
            Some(masker) => Some(masker.change(&metadata.schema, &metadata.table, change)?),
            None => None,
        };
        let (data, before) = match &masked {
            Some(masked) => {
                (Image::masked(&masked.data, ""), masked.before.as_ref().map(|image| Image::masked(image, OF_BEFORE)))
            }
            None => (Image::of(change.data, ""), change.before.map(|text| Image::of(text, OF_BEFORE))),
        };
        let tally = &mut self.batch.tally;
        count(match change.operation {
            Operation::Load => &mut tally.loads,
            Operation::Insert => &mut tally.inserts,
            Operation::Update => &mut tally.updates,
            Operation::Delete => &mut tally.deletes,
        });
        tally.newest_committed_at = tally.newest_committed_at.max(metadata.committed_at);

        let of_image = data.error.as_deref().or_else(|| before.as_ref()?.error.as_deref());
        // What keeps a change from being understood outweighs what keeps one value from being written; that values are left out does not.
        let error = match captured.error.as_deref() {
            Some(error) if !debezium::is_no_fault(error) => Some(error),
            how_to_read_it => of_image.or(how_to_read_it),
        };
        // Of a delete the merge takes the key, whatever else of it is wrong, and this key it could not read any more.
        let is_misread = change.operation == Operation::Delete
            && captured.error.as_deref().is_some_and(debezium::is_without_schema)
            && error != captured.error.as_deref();
        let without_schema = is_misread.then(|| format!("{WITHOUT_SCHEMA_BEGINS}, and {}", error.unwrap_or_default()));
        let error = without_schema.as_deref().or(error);
        self.row(
            record,
            metadata,
            Content {
                operation: change.operation.as_str(),
                position: &captured.position,
                transaction_id: captured.transaction_id,
                data: Some(&data.text),
                before: before.as_ref().map(|image| image.text.as_ref()),
                error,
            },
        );
        Ok(())
    }

    /// # Errors
    /// As [`Self::change`].
    fn control(
        &mut self,
        record: &KafkaRecord<'_>,
        metadata: &Metadata<'_>,
        control: &Control<'_>,
    ) -> Result<(), EditError> {
        let definition = match (&mut self.masker, control.definition) {
            (Some(masker), Some(text)) => Some(masker.definition(&metadata.schema, &metadata.table, text)?),
            (_, definition) => definition.map(Cow::Borrowed),
        };
        let definition = definition.as_deref().map(Image::of_control);
        let position = Position::of_control(metadata, record.offset);
        self.row(
            record,
            metadata,
            Content {
                operation: &control.operation,
                position: &position,
                transaction_id: None,
                data: definition.as_ref().map(|image| image.text.as_ref()),
                before: None,
                error: definition.as_ref().and_then(|image| image.error.as_deref()),
            },
        );
        Ok(())
    }

    fn row(&mut self, record: &KafkaRecord<'_>, metadata: &Metadata<'_>, content: Content<'_>) {
        if content.error.is_some_and(|error| !debezium::is_no_fault(error)) {
            count(&mut self.batch.tally.flagged);
        }
        let mut digits = itoa::Buffer::new();
        self.push(
            record,
            &LogRow {
                source_schema: &metadata.schema,
                source_table: &metadata.table,
                operation: content.operation,
                position: content.position.as_str(),
                data: content.data,
                before: content.before,
                transaction_id: content.transaction_id.or_else(|| Some(digits.format(metadata.transaction_id?))),
                committed_at: metadata.committed_at,
                emitted_at: metadata.emitted_at,
                kafka_topic: &record.topic,
                kafka_partition: record.partition,
                kafka_offset: record.offset,
                ingested_at: self.ingested_at,
                error: content.error,
            },
        );
    }

    /// A record that could not be decoded, with its text or its bytes in base64.
    fn poison(
        &mut self,
        record: &KafkaRecord<'_>,
        (source_schema, source_table): (&str, &str),
        value: Value<'_>,
        reason: &str,
    ) {
        count(&mut self.batch.tally.poison);
        // What could not be read may hold what has to be masked, whatever table it is of.
        let is_withheld = self.masker.is_some() && !matches!(value, Value::None | Value::Text(""));
        let withheld = format!("{reason}; its bytes stay in AWS, because STRAIT_MASK is set");
        let (data, reason) = match value {
            _ if is_withheld => (None, withheld.as_str()),
            Value::Text(text) => (Some(text), reason),
            Value::None | Value::NotKept => (None, reason),
        };
        if is_withheld {
            count(&mut self.batch.tally.withheld);
            let item = ItemIdentity { group: Arc::clone(&record.group), offset: record.offset };
            self.batch.withheld.push(item);
        }
        let fits = data.is_none_or(|data| data.len() <= MAX_VALUE_BYTES);
        let reason = if fits { Cow::Borrowed(reason) } else { Cow::Owned(format!("{reason}; too large to be kept")) };
        self.push(
            record,
            &LogRow {
                source_schema,
                source_table,
                operation: dms::POISON,
                position: "",
                data: data.filter(|_| fits),
                before: None,
                transaction_id: None,
                committed_at: None,
                emitted_at: None,
                kafka_topic: &record.topic,
                kafka_partition: record.partition,
                kafka_offset: record.offset,
                ingested_at: self.ingested_at,
                error: Some(&reason),
            },
        );
    }

    fn push(&mut self, record: &KafkaRecord<'_>, row: &LogRow<'_>) {
        let mut bytes = Vec::new();
        row.encode(&mut bytes);
        let tally = &mut self.batch.tally;
        tally.bytes_out = tally.bytes_out.saturating_add(length(&bytes));
        let topic = self.topic_of(record);
        self.batch.rows.push(EncodedRow {
            bytes,
            item: ItemIdentity { group: Arc::clone(&record.group), offset: record.offset },
            topic,
            partition: record.partition,
        });
    }
}

/// Whether `text` is base64; its bytes are then all that `decoded` holds.
fn decode_base64(text: &str, decoded: &mut Vec<u8>) -> bool {
    // What Lambda's poller writes, at many times the speed.
    if base64_simd::STANDARD.decode_append(text, decoded).is_ok() {
        return true;
    }
    decoded.clear();
    BASE64.decode_vec(text, decoded).is_ok()
}

/// Schema and table of a record that does not say.
const UNKNOWN: (&str, &str) = ("", "");

/// Which image an error is about.
const OF_BEFORE: &str = " of the before-image";

/// The value of a record that could not be decoded.
#[derive(Clone, Copy)]
enum Value<'a> {
    /// There is none.
    None,
    /// As text, or as base64.
    Text(&'a str),
    /// There is one that no row can hold.
    NotKept,
}

/// What only the tool that captured a change knows of it.
struct Captured<'a> {
    position: Position,
    transaction_id: Option<&'a str>,
    /// Why the change must not be applied, or not without care.
    error: Option<String>,
}

/// By what a change's values are understood.
enum ReadBy<'a> {
    /// The record's schema.
    Schema(&'a Described),
    /// What an operator says of records without one.
    Word(WithoutSchema),
}

/// The images of a change of Debezium's, in DMS's text.
struct Images<'a> {
    data: Cow<'a, str>,
    before: Option<Cow<'a, str>>,
    error: Option<String>,
}

impl<'a> Images<'a> {
    fn of(
        event: &'a ChangeEvent<'_>,
        operation: Operation,
        key: Option<&'a str>,
        read_by: &ReadBy<'_>,
    ) -> Result<Self, String> {
        let mut error = None;
        let mut normalised = |image: &'a str| -> Result<Cow<'a, str>, String> {
            let may_be_partial = event.source.may_be_partial;
            let (image, unavailable) = match read_by {
                ReadBy::Schema(described) => {
                    (debezium::normalise(image, &described.schema, may_be_partial), UNAVAILABLE)
                }
                ReadBy::Word(WithoutSchema::SelfDescribing) => {
                    error.get_or_insert_with(|| SELF_DESCRIBING.to_owned());
                    (debezium::normalise_without_schema(image, may_be_partial), SELF_DESCRIBING_UNAVAILABLE)
                }
                ReadBy::Word(WithoutSchema::ByDefinition) => {
                    error.get_or_insert_with(|| BY_DEFINITION.to_owned());
                    (debezium::normalise_without_schema(image, may_be_partial), BY_DEFINITION_UNAVAILABLE)
                }
                ReadBy::Word(WithoutSchema::Quarantine) => {
                    error.get_or_insert_with(|| WITHOUT_SCHEMA.to_owned());
                    return Ok(Cow::Borrowed(image));
                }
            };
            let image = image.map_err(|error| error.to_string())?;
            let is_read = error.as_deref().is_none_or(debezium::is_no_fault);
            if let Some(fault) = image.fault {
                // Of a delete only the key is looked at in the merge, and with this one it would be another row's.
                if operation == Operation::Delete && key.is_some_and(|key| debezium::is_in_key(&fault.column, key)) {
                    return Err(fault.to_string());
                }
                if operation != Operation::Delete || matches!(read_by, ReadBy::Schema(_)) {
                    error = Some(fault.to_string());
                }
            } else if image.is_partial && operation == Operation::Update && is_read {
                error = Some(unavailable.to_owned());
            } else if image.is_partial && operation != Operation::Delete && is_read {
                error = Some(INCOMPLETE.to_owned());
            }
            Ok(image.text)
        };
        if operation == Operation::Delete {
            let of_key = || key.and_then(|key| Some(debezium::key_payload(key)?.0));
            let row = event.before.or_else(of_key).ok_or("`before` is missing, and so is a key")?;
            let data = normalised(row)?;
            return Ok(Self { data, before: None, error });
        }
        let data = normalised(event.after.ok_or("`after` is missing")?)?;
        let before = match event.before {
            Some(before) if operation == Operation::Update => {
                let before = normalised(before)?;
                let changed = debezium::changed_members(&before, &data).map_err(|error| error.to_string())?;
                Some(Cow::Owned(changed.into_owned()))
            }
            _ => None,
        };
        Ok(Self { data, before, error })
    }
}

/// The log's word for a table that was emptied.
pub const TRUNCATE: &str = "truncate";
/// The log's word for a definition that came with a change.
pub const DEFINE_TABLE: &str = "define-table";

fn metadata_of<'a>(source: &'a Source<'_>) -> Metadata<'a> {
    Metadata {
        schema: Cow::Borrowed(&source.schema),
        table: Cow::Borrowed(&source.table),
        emitted_at: source.emitted_at,
        committed_at: source.committed_at,
        ..Metadata::default()
    }
}

/// The text of a record's key; None when it has none that is text.
fn decoded_key(record: &KafkaRecord<'_>) -> Option<String> {
    let Payload::Base64(base64) = &record.key else {
        return None;
    };
    let mut decoded = Vec::new();
    decode_base64(base64, &mut decoded).then_some(decoded).and_then(|decoded| String::from_utf8(decoded).ok())
}

/// Whether a record's key is an object, as Debezium's is and DMS's is not.
fn has_debezium_key(record: &KafkaRecord<'_>) -> bool {
    decoded_key(record).is_some_and(|key| debezium::key_payload(&key).is_some())
}

/// What a record says, as far as the row differs by the kind of record.
struct Content<'a> {
    operation: &'a str,
    position: &'a Position,
    transaction_id: Option<&'a str>,
    data: Option<&'a str>,
    before: Option<&'a str>,
    error: Option<&'a str>,
}

/// A JSON text as it goes into the log.
struct Image<'a> {
    text: Cow<'a, str>,
    /// Why it must not be applied.
    error: Option<String>,
}

impl<'a> Image<'a> {
    /// With escaped surrogate pairs written out; with half a pair, as received.
    fn of(text: &'a str, of_what: &str) -> Self {
        match json_text::normalise_surrogates(text) {
            Surrogates::Paired(text) => Self { text, error: None },
            Surrogates::Lone { member } => Self {
                text: Cow::Borrowed(text),
                error: Some(match member {
                    Some(name) => format!("lone surrogate in column \"{name}\"{of_what}"),
                    None => format!("lone surrogate in a column's name{of_what}"),
                }),
            },
        }
    }

    /// One that was masked.
    fn masked(image: &'a MaskedImage<'_>, of_what: &str) -> Self {
        let mut this = Self::of(&image.text, of_what);
        if let Some(column) = &image.unhashed {
            this.error = Some(format!("lone surrogate in column \"{column}\"{of_what}"));
        }
        this
    }

    /// Its members are no columns.
    fn of_control(text: &'a str) -> Self {
        let mut image = Self::of(text, "");
        if let Some(error) = &mut image.error {
            *error = "lone surrogate in the control record".to_owned();
        }
        image
    }
}

fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}

/// `usize` has 64 bits at most on every platform there is.
fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
