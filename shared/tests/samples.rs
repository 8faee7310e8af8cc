//! Messages and events that others have published, decoded from where they are kept beside the repository. They are not
//! part of it: where they are missing, these tests say so and how many files they would have read.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it skipped"
)]

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use strait::config::TableFilter;
use strait::debezium::{self, Event};
use strait::dms::{self, Kind, Operation};
use strait::kafka::{self, EventError, EventSource, Payload};
use strait::log::LogBatch;
use strait::position::{Engine, Position, PositionKind};

const OFFSET: i64 = 7;

/// How a DMS sample ends.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum End {
    Control,
    /// A change of a replicated table, and what orders it.
    Change(Operation, PositionKind, Option<Engine>),
    DmsOwn,
    Poison,
}

const LOAD: End = End::Change(Operation::Load, PositionKind::Load, None);

const fn mysql(operation: Operation) -> End {
    End::Change(operation, PositionKind::Source, Some(Engine::MySql))
}

const fn postgresql(operation: Operation) -> End {
    End::Change(operation, PositionKind::Source, Some(Engine::PostgreSql))
}

/// PostgreSQL without transaction details: the xid is no order.
const fn unordered(operation: Operation) -> End {
    End::Change(operation, PositionKind::Emission, None)
}

/// By the number that each file's name begins with.
const DMS: &[(&str, End)] = &[
    ("001", End::Control),
    ("002", End::Control),
    ("003", mysql(Operation::Insert)),
    ("004", mysql(Operation::Insert)),
    ("005", mysql(Operation::Update)),
    ("006", mysql(Operation::Delete)),
    ("007", End::DmsOwn),
    ("008", End::DmsOwn),
    ("009", End::DmsOwn),
    ("010", End::DmsOwn),
    ("011", End::DmsOwn),
    ("012", End::DmsOwn),
    ("013", End::DmsOwn),
    ("014", End::Control),
    ("015", End::Control),
    ("016", End::DmsOwn),
    ("017", LOAD),
    ("018", End::Control),
    ("019", End::Control),
    ("020", LOAD),
    ("021", End::Control),
    ("022", End::Control),
    ("023", End::Control),
    ("024", End::Control),
    ("025", LOAD),
    ("027", End::Control),
    ("029", End::Control),
    ("030", End::Control),
    ("033", End::Control),
    ("034", End::Control),
    ("036", End::Control),
    ("039", End::Control),
    ("041", End::Control),
    ("045", End::Control),
    ("046", LOAD),
    ("047", End::Control),
    ("048", End::Control),
    ("049", LOAD),
    ("050", postgresql(Operation::Insert)),
    ("051", postgresql(Operation::Update)),
    ("053", postgresql(Operation::Delete)),
    ("054", End::DmsOwn),
    ("055", mysql(Operation::Insert)),
    ("056", End::Control),
    ("057", mysql(Operation::Update)),
    ("059", mysql(Operation::Update)),
    ("062", mysql(Operation::Insert)),
    ("063", mysql(Operation::Delete)),
    ("067", mysql(Operation::Insert)),
    ("068", mysql(Operation::Insert)),
    ("069", unordered(Operation::Delete)),
    ("071", mysql(Operation::Insert)),
    ("073", End::DmsOwn),
    ("075", mysql(Operation::Insert)),
    ("076", LOAD),
    ("079", unordered(Operation::Insert)),
    ("081", unordered(Operation::Delete)),
    ("082", LOAD),
    ("084", mysql(Operation::Update)),
    // A Python dict, printed.
    ("087", End::Poison),
    ("088", End::Control),
];

/// Files of a folder of samples, sorted; None, and a line about it, when the folder is not there.
fn samples(folder: &str, expected: usize) -> Option<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/samples");
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        eprintln!("SKIPPED {expected}: samples/{folder} is not beside the repository");
        return None;
    };
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension != "tsv"))
        .collect();
    files.sort();
    Some(files)
}

fn name_of(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn end_of(text: &str) -> End {
    let Ok(message) = dms::decode_message(text) else {
        return End::Poison;
    };
    if message.metadata.is_dms_own() {
        return End::DmsOwn;
    }
    match message.kind {
        Kind::Control(_) => End::Control,
        Kind::Change(change) => {
            let position = Position::of_change(&message.metadata, change.operation, OFFSET);
            End::Change(change.operation, position.kind(), position.engine())
        }
    }
}

#[test]
fn every_dms_sample_ends_as_it_should() {
    let Some(files) = samples("dms", DMS.len()) else {
        return;
    };
    for path in &files {
        let text = fs::read_to_string(path).unwrap();
        let name = name_of(path);
        let (_, expected) = DMS
            .iter()
            .find(|(number, _)| name.starts_with(number))
            .unwrap_or_else(|| panic!("{name} has no expectation"));
        assert_eq!(end_of(&text), *expected, "{name}");
    }
    assert_eq!(files.len(), DMS.len());
}

#[test]
fn every_dms_sample_is_kept_to_the_letter() {
    let Some(files) = samples("dms", DMS.len()) else {
        return;
    };
    for path in &files {
        let text = fs::read_to_string(path).unwrap();
        let Ok(message) = dms::decode_message(&text) else {
            continue;
        };
        let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else {
            panic!("{} was decoded though it is no JSON", name_of(path));
        };
        let metadata = &value["metadata"];
        let member = |name: &str| metadata.get(name).and_then(serde_json::Value::as_str);
        assert_eq!(Some(message.metadata.schema.as_ref()), member("schema-name"));
        assert_eq!(Some(message.metadata.table.as_ref()), member("table-name"));
        assert!(message.metadata.emitted_at.is_some(), "{}", name_of(path));
        assert_eq!(message.metadata.committed_at.is_some(), member("commit-timestamp").is_some());
        if let Kind::Change(change) = &message.kind {
            assert!(text.contains(change.data));
            let data: serde_json::Value = serde_json::from_str(change.data).unwrap();
            assert_eq!(data, value["data"], "{}", name_of(path));
        }
    }
}

#[test]
fn all_dms_samples_in_one_event_are_all_accounted_for() {
    let Some(files) = samples("dms", DMS.len()) else {
        return;
    };
    let records: Vec<String> = files
        .iter()
        .enumerate()
        .map(|(offset, path)| {
            format!(
                r#"{{"topic":"dms","partition":0,"offset":{offset},"timestamp":1,"value":"{}"}}"#,
                STANDARD.encode(fs::read(path).unwrap())
            )
        })
        .collect();
    let body = format!(r#"{{"eventSource":"aws:kafka","records":{{"dms-0":[{}]}}}}"#, records.join(","));
    let event = kafka::decode_event(body.as_bytes()).unwrap();
    let batch = LogBatch::from_event(&event, &TableFilter::parse("*").unwrap(), 0);
    let count = |wanted: fn(&End) -> bool| u64::try_from(DMS.iter().filter(|(_, end)| wanted(end)).count()).unwrap();
    let tally = batch.tally;
    assert_eq!(tally.controls, count(|end| *end == End::Control));
    assert_eq!(tally.dms_own, count(|end| *end == End::DmsOwn));
    assert_eq!(tally.poison, count(|end| *end == End::Poison));
    assert_eq!(
        tally.loads + tally.inserts + tally.updates + tally.deletes,
        count(|end| matches!(end, End::Change(..)))
    );
    assert_eq!(tally.flagged, 0);
    assert_eq!(u64::try_from(batch.rows.len()).unwrap(), tally.records - tally.dms_own);
}

/// File, changes, tombstones, what else Debezium sends of its own, tables that statements changed, truncations.
const DEBEZIUM: &[(&str, [usize; 5])] =
    &[("maria-noschema.jsonl", [13, 4, 28, 5, 1]), ("pg-noschema.jsonl", [15, 4, 26, 0, 1])];

#[test]
fn every_debezium_sample_is_decoded() {
    let Some(files) = samples("debezium", DEBEZIUM.len()) else {
        return;
    };
    for path in &files {
        let name = name_of(path);
        let (_, expected) =
            DEBEZIUM.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name} has no expectation"));
        let lines = fs::read_to_string(path).unwrap();
        let (mut counts, mut last) = ([0; 5], String::new());
        let mut records = Vec::new();
        for (offset, line) in lines.lines().enumerate() {
            let sample: serde_json::Value = serde_json::from_str(line).unwrap();
            let member = |name: &str| match &sample[name] {
                serde_json::Value::Null => "null".to_owned(),
                value => format!("\"{}\"", STANDARD.encode(value.to_string())),
            };
            let (key, value) = (member("key"), member("value"));
            records.push(format!(
                r#"{{"topic":"d","partition":0,"offset":{offset},"timestamp":1,"key":{key},"value":{value}}}"#
            ));
            let place = if sample["value"].is_null() {
                1
            } else {
                let text = sample["value"].to_string();
                match dms::decode(&text).unwrap_or_else(|error| panic!("{name} {offset}: {error}")) {
                    dms::Record::Debezium(Event::Change(change)) => {
                        let position =
                            Position::of_place(change.source.place.unwrap(), Some(0), &dms::Metadata::default(), 0);
                        // One after the other, as the source committed them; a new key's row is where the old one's end is.
                        assert!(position.as_str() >= last.as_str(), "{name} {offset}");
                        last = position.to_string();
                        assert_eq!(change.after.is_none(), change.operation == debezium::Operation::Delete);
                        0
                    }
                    dms::Record::Debezium(Event::Own) => 2,
                    dms::Record::Debezium(Event::Tables { tables, .. }) if tables.is_empty() => 2,
                    dms::Record::Debezium(Event::Tables { .. }) => 3,
                    dms::Record::Debezium(Event::Truncate(_)) => 4,
                    other => panic!("{name} {offset}: {other:?}"),
                }
            };
            counts[place] += 1;
        }
        assert_eq!(counts, *expected, "{name}");
        let body = format!(r#"{{"eventSource":"aws:kafka","records":{{"d-0":[{}]}}}}"#, records.join(","));
        let event = kafka::decode_event(body.as_bytes()).unwrap();
        let batch = LogBatch::from_event(&event, &TableFilter::parse("*").unwrap(), 0);
        let count = |place: usize| u64::try_from(expected[place]).unwrap();
        let tally = batch.tally;
        assert_eq!(tally.poison, 0, "{name}");
        assert_eq!(tally.loads + tally.inserts + tally.updates + tally.deletes, count(0));
        assert_eq!(
            (tally.debezium_tombstones, tally.debezium_own, tally.controls),
            (count(1), count(2), count(3) + count(4))
        );
        // Without schemas nothing tells how their values are encoded.
        assert_eq!((tally.flagged, tally.definitions), (count(0), 0), "{name}");
    }
}

/// File, who polled, number of records.
const MSK: &[(&str, EventSource, usize)] = &[
    ("aws-lambda-go-signed-header-bytes.json", EventSource::AmazonMsk, 1),
    ("issue-107-selfmanaged.json", EventSource::SelfManagedKafka, 1),
    ("java-libs-no-key.json", EventSource::AmazonMsk, 1),
    ("powertools-java-json.json", EventSource::AmazonMsk, 3),
    ("powertools-python-msk.json", EventSource::AmazonMsk, 1),
    ("powertools-python-selfmanaged.json", EventSource::SelfManagedKafka, 1),
    ("powertools-ts-avro.json", EventSource::AmazonMsk, 3),
    ("powertools-ts-default.json", EventSource::AmazonMsk, 3),
    ("rust-runtime-kafka.json", EventSource::AmazonMsk, 1),
];

/// The content of `records` alone.
const MSK_FRAGMENT: &str = "docs-filter-no-key.json";

#[test]
fn every_msk_sample_is_decoded() {
    let Some(files) = samples("msk", MSK.len() + 1) else {
        return;
    };
    for path in &files {
        let name = name_of(path);
        let body = fs::read(path).unwrap();
        let event = kafka::decode_event(&body);
        if name == MSK_FRAGMENT {
            let found = "a JSON object without `records`".to_owned();
            assert_eq!(event, Err(EventError::NotKafka { found }));
            continue;
        }
        let event = event.unwrap_or_else(|error| panic!("{name}: {error}"));
        let (_, source, count) =
            MSK.iter().find(|(known, ..)| *known == name).unwrap_or_else(|| panic!("{name} has no expectation"));
        assert_eq!((event.source, event.records.len()), (*source, *count), "{name}");
        // None holds DMS messages: all are kept as poison.
        let batch = LogBatch::from_event(&event, &TableFilter::parse("*").unwrap(), 0);
        assert_eq!(batch.tally.poison, u64::try_from(*count).unwrap(), "{name}");
        assert_eq!(batch.rows.len(), *count);
    }
    assert_eq!(files.len(), MSK.len() + 1);
}

#[test]
fn msk_samples_read_the_same_as_by_aws_lambda_events() {
    let Some(files) = samples("msk", MSK.len() + 1) else {
        return;
    };
    let mut compared = 0;
    for path in &files {
        let body = fs::read(path).unwrap();
        let Ok(theirs) = serde_json::from_slice::<aws_lambda_events::kafka::KafkaEvent>(&body) else {
            continue;
        };
        let Ok(ours) = kafka::decode_event(&body) else {
            continue;
        };
        for (group, theirs) in &theirs.records {
            let ours = ours.records.iter().filter(|record| *record.group == **group);
            let ours: Vec<_> = ours.collect();
            assert_eq!(ours.len(), theirs.len());
            for (ours, theirs) in ours.into_iter().zip(theirs) {
                assert_eq!(Some(ours.topic.as_ref()), theirs.topic.as_deref());
                assert_eq!((ours.partition, ours.offset), (theirs.partition, theirs.offset));
                for (ours, theirs) in [(&ours.key, &theirs.key), (&ours.value, &theirs.value)] {
                    let ours = match ours {
                        Payload::Base64(text) => Some(text.as_ref()),
                        Payload::Absent | Payload::NotText => None,
                    };
                    assert_eq!(ours, theirs.as_deref());
                }
                // Theirs comes out up to a millisecond early.
                let theirs = theirs.timestamp.0.timestamp_millis();
                assert!((0..=1).contains(&(ours.timestamp_ms.unwrap() - theirs)));
                compared += 1;
            }
        }
    }
    assert!(compared >= 10, "only {compared} records were compared");
}
