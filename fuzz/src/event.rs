//! Events of Lambda's poller down to rows of the log: every record is accounted for, under its own identity, and what a row holds is what
//! the record held. An input that begins with `#` is a list of values, separated by U+001E, each of which becomes a record; any other
//! is an event.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use strait::config::TableFilter;
use strait::debezium::Event;
use strait::dms::{self, Kind, Record};
use strait::json_text::{self, Surrogates};
use strait::kafka::{self, KafkaRecord, MskEvent, Payload};
use strait::log::{LogBatch, Tally};
use strait::position::Position;

use crate::independent_json::{Reading, has_duplicates, member_names, read};
use crate::message::is_slice_of;

pub const WORDS: &[&str] = &[
    "{\"eventSource\":\"aws:kafka\",\"records\":{\"t-0\":[",
    "\"topic\":\"t\"",
    "\"partition\":0",
    "\"offset\":",
    "\"timestamp\":-1",
    "\"value\":\"e30=\"",
    "\"value\":null",
    "\"key\":\"a2V5\"",
    "\"headers\":[{\"h\":[118,-36]}]",
    "SelfManagedKafka",
    "\u{1e}",
    "#",
    "{\"data\":{\"id\":1},\"metadata\":{\"record-type\":\"data\",\"operation\":\"insert\",\"schema-name\":\"shop\",\"table-name\":\"orders\"}}",
    "\"schema-name\":\"secret\"",
    "\"table-name\":\"awsdms_status\"",
    "\"before-image\":{",
    "\\ud83d\\ude00",
    "\\ud83d",
    "9223372036854775807",
    "9223372036854775808",
    "{\"Records\":[{\"eventSource\":\"aws:sqs\"}]}",
    "\"detail-type\":\"Scheduled Event\"",
    "\"records\":[",
];

const INGESTED_AT: i64 = 1_714_557_600_123_456;

pub fn check(input: &[u8]) {
    match input.strip_prefix(b"#") {
        Some(values) => event(&wrapped(values)),
        None => event(input),
    }
}

/// As the poller wraps values; `-` is a tombstone.
fn wrapped(values: &[u8]) -> Vec<u8> {
    let records: Vec<Value> = values
        .split(|byte| *byte == 0x1e)
        .enumerate()
        .map(|(offset, value)| {
            let value = if value == b"-" { Value::Null } else { STANDARD.encode(value).into() };
            json!({"topic": "t", "partition": 0, "offset": offset, "timestamp": 0, "timestampType": "CREATE_TIME", "value": value, "headers": []})
        })
        .collect();
    json!({"eventSource": "aws:kafka", "records": {"t-0": records}}).to_string().into_bytes()
}

fn event(body: &[u8]) {
    let event = match kafka::decode_event(body) {
        Ok(event) => event,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let reading = read(body);
    assert!(!matches!(reading, Reading::Not), "what is no JSON was taken");
    if let Reading::Value(value) = &reading {
        as_serde_json_sees_it(std::str::from_utf8(body).unwrap(), value, &event);
    }
    let everything = TableFilter::parse("*").unwrap();
    let filter = TableFilter::parse("!secret.*,!*.hidden").unwrap();
    let unfiltered = LogBatch::from_event(&event, &everything, INGESTED_AT);
    assert_eq!(unfiltered.tally.excluded, 0);
    logged(&event, &everything, &unfiltered);
    let filtered = LogBatch::from_event(&event, &filter, INGESTED_AT);
    logged(&event, &filter, &filtered);
    assert_eq!(filtered.tally.dms_own, unfiltered.tally.dms_own);
    assert!(filtered.rows.iter().all(|row| unfiltered.rows.contains(row)), "a filter changed a row");
}

/// Whether a member's value was read as this integer; `serde_json` takes `-0` for the same double as `-0.0`, which is none.
fn is_read_as(value: &Value, found: Option<i64>) -> bool {
    let is_minus_zero =
        value.is_f64() && value.as_f64().is_some_and(|number| number == 0.0 && number.is_sign_negative());
    value.as_i64() == found || is_minus_zero && found.is_none_or(|found| found == 0)
}

/// Every record of the text is there under its own identity, with its own value.
fn as_serde_json_sees_it(body: &str, value: &Value, event: &MskEvent<'_>) {
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        records: &'a serde_json::value::RawValue,
    }
    assert!(value.is_object(), "an event that is no object was taken");
    let envelope: Envelope<'_> = serde_json::from_str(body).unwrap();
    let groups = member_names(envelope.records.get()).expect("groups of records");
    if has_duplicates(&groups) {
        return;
    }
    let mut decoded = event.records.iter();
    for group in &groups {
        for record in value["records"][group].as_array().unwrap() {
            let found = decoded.next().expect("a record is missing");
            assert_eq!(*found.group, **group);
            assert_eq!(record["topic"], found.topic.as_ref());
            assert!(is_read_as(&record["partition"], Some(found.partition)));
            assert!(is_read_as(&record["offset"], Some(found.offset)));
            let timestamp = &record["timestamp"];
            let is_before_1970 = timestamp.as_i64().is_some_and(|millis| millis < 0);
            assert!(is_read_as(timestamp, found.timestamp_ms) || is_before_1970 && found.timestamp_ms.is_none());
            for (name, payload) in [("key", &found.key), ("value", &found.value)] {
                match payload {
                    Payload::Absent => assert!(record[name].is_null(), "{name}"),
                    Payload::Base64(text) => assert_eq!(record[name], text.as_ref(), "{name}"),
                    Payload::NotText => assert!(!record[name].is_string() && !record[name].is_null(), "{name}"),
                }
            }
        }
    }
    assert!(decoded.next().is_none(), "a record that is not there was decoded");
}

fn logged(event: &MskEvent<'_>, filter: &TableFilter, batch: &LogBatch) {
    let Tally { records, loads, inserts, updates, deletes, controls, poison, dms_own, excluded, .. } = batch.tally;
    let in_log = loads + inserts + updates + deletes + controls + poison;
    let of_debezium = batch.tally.debezium_own + batch.tally.debezium_tombstones;
    assert_eq!(records, u64::try_from(event.records.len()).unwrap());
    assert_eq!(records, in_log + dms_own + of_debezium + excluded, "a record is not accounted for");
    let bytes: usize = batch.rows.iter().map(|row| row.bytes.len()).sum();
    assert_eq!(batch.tally.bytes_out, u64::try_from(bytes).unwrap());

    let mut rows = batch.rows.iter();
    let mut by_operation: BTreeMap<String, u64> = BTreeMap::new();
    for record in &event.records {
        let expected = match expected_of(record, filter) {
            Expected::Nothing => continue,
            // Which rows one has, the target for Debezium's records looks at.
            Expected::Captured => return,
            expected => expected,
        };
        let row = rows.next().expect("a record is missing in the log");
        assert_eq!((&*row.item.group, row.item.offset), (&*record.group, record.offset));
        assert_eq!((&*row.topic, row.partition), (record.topic.as_ref(), record.partition));
        let fields = Fields::of(&row.bytes);
        assert_eq!(fields.text(10), Some(record.topic.as_ref()));
        assert_eq!(fields.number(11), Some(record.partition));
        assert_eq!(fields.number(12), Some(record.offset));
        assert_eq!(fields.number(13), Some(INGESTED_AT));
        let operation = fields.text(3).unwrap();
        *by_operation.entry(operation.to_owned()).or_default() += 1;
        match expected {
            Expected::Poison { text } => {
                assert_eq!((operation, fields.text(4)), (dms::POISON, Some("")));
                assert!(fields.text(14).is_some_and(|reason| !reason.is_empty()), "poison without a reason");
                assert_eq!(fields.text(5), text.as_deref());
            }
            Expected::Message { text } => same_as_the_message(&fields, &text, record.offset),
            Expected::Nothing | Expected::Captured => unreachable!("has no row here"),
        }
    }
    assert!(rows.next().is_none(), "a row is in the log that no record asked for");
    assert_eq!(in_log, u64::try_from(batch.rows.len()).unwrap());
    let counted = |word: &str| by_operation.get(word).copied().unwrap_or(0);
    assert_eq!(
        [loads, inserts, updates, deletes, poison],
        ["load", "insert", "update", "delete", "poison"].map(counted)
    );
}

enum Expected {
    /// It stays out of the log.
    Nothing,
    Poison {
        text: Option<String>,
    },
    Message {
        text: String,
    },
    /// It is a change that Debezium captured.
    Captured,
}

/// What text is encoded so; None where it is not base64, or no text.
fn decoded_text(base64: &str) -> Option<String> {
    let unpadded = base64.trim_end_matches('=');
    let padding = base64.len() - unpadded.len();
    let is_padded = padding == 0 || (unpadded.len() + padding).is_multiple_of(4) && padding <= 2;
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(unpadded).ok().filter(|_| is_padded)?;
    String::from_utf8(bytes).ok()
}

/// What a record has to become.
fn expected_of(record: &KafkaRecord<'_>, filter: &TableFilter) -> Expected {
    let base64 = match (&record.value, &record.key) {
        (Payload::Base64(base64), _) => base64,
        // Debezium's keys are objects, and DMS's are not.
        (Payload::Absent, Payload::Base64(key))
            if decoded_text(key).is_some_and(|key| key.trim_start().starts_with('{')) =>
        {
            return Expected::Nothing;
        }
        _ => return Expected::Poison { text: None },
    };
    let Some(text) = decoded_text(base64) else {
        return Expected::Poison { text: Some(base64.clone().into_owned()) };
    };
    let (table, is_message) = match dms::decode(&text) {
        Ok(Record::Debezium(Event::Own | Event::Tombstone)) => return Expected::Nothing,
        Ok(Record::Debezium(_)) => return Expected::Captured,
        Ok(Record::Dms(message)) => ((message.metadata.schema.into_owned(), message.metadata.table.into_owned()), true),
        Err(error) => (error.table.map_or_else(Default::default, |table| (table.schema, table.table)), false),
    };
    let (schema, table) = table;
    let is_left_out = table.starts_with("awsdms_") || !table.is_empty() && !filter.matches(&schema, &table);
    match (is_left_out, is_message) {
        (true, _) => Expected::Nothing,
        (false, true) => Expected::Message { text },
        (false, false) => Expected::Poison { text: Some(text) },
    }
}

fn same_as_the_message(fields: &Fields<'_>, text: &str, offset: i64) {
    let message = dms::decode_message(text).unwrap();
    let metadata = &message.metadata;
    assert_eq!(fields.text(1), Some(metadata.schema.as_ref()));
    assert_eq!(fields.text(2), Some(metadata.table.as_ref()));
    assert_eq!(fields.text(7), metadata.transaction_id.map(|id| id.to_string()).as_deref());
    assert_eq!(fields.number(8), metadata.committed_at);
    assert_eq!(fields.number(9), metadata.emitted_at);
    let (operation, position, images) = match &message.kind {
        Kind::Change(change) => (
            change.operation.as_str(),
            Position::of_change(metadata, change.operation, offset),
            [Some(change.data), change.before],
        ),
        Kind::Control(control) => {
            (control.operation.as_ref(), Position::of_control(metadata, offset), [control.definition, None])
        }
    };
    assert_eq!(fields.text(3), Some(operation));
    assert_eq!(fields.text(4), Some(position.as_str()));
    let mut flagged = false;
    for (field, image) in [5, 6].into_iter().zip(images) {
        let expected = image.map(|image| {
            assert!(is_slice_of(image, text));
            match json_text::normalise_surrogates(image) {
                Surrogates::Paired(paired) => paired.into_owned(),
                Surrogates::Lone { .. } => {
                    flagged = true;
                    image.to_owned()
                }
            }
        });
        assert_eq!(fields.text(field), expected.as_deref());
    }
    assert_eq!(fields.text(14).is_some(), flagged);
}

/// A row's fields by their numbers, read by the rules of protobuf's encoding.
struct Fields<'a>(BTreeMap<u64, Field<'a>>);

enum Field<'a> {
    Number(u64),
    Text(&'a str),
}

impl<'a> Fields<'a> {
    fn of(mut bytes: &'a [u8]) -> Self {
        let mut fields = BTreeMap::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let field = match key & 7 {
                0 => Field::Number(varint(&mut bytes)),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)).unwrap();
                    let (text, rest) = bytes.split_at(length);
                    bytes = rest;
                    Field::Text(std::str::from_utf8(text).unwrap())
                }
                wire_type => panic!("wire type {wire_type}"),
            };
            assert!(fields.insert(key >> 3, field).is_none(), "a field stands there twice");
        }
        Self(fields)
    }

    fn text(&self, number: u64) -> Option<&'a str> {
        match self.0.get(&number)? {
            Field::Text(text) => Some(text),
            Field::Number(_) => panic!("field {number} is no text"),
        }
    }

    fn number(&self, number: u64) -> Option<i64> {
        match self.0.get(&number)? {
            Field::Number(value) => Some(value.cast_signed()),
            Field::Text(_) => panic!("field {number} is no number"),
        }
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}
