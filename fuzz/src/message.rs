//! DMS messages: what is taken is JSON and kept to the letter, what `serde_json` sees in it is what was decoded, and a plain message is
//! never refused.

use std::ops::Range;

use serde_json::Value;
use strait::dms::{self, DecodeErrorKind, Kind, Message, Metadata, Operation};
use strait::json_text::{self, Surrogates};
use strait::position::Position;

use crate::independent_json::{Reading, depth, has_duplicates, member_names, read};

pub const WORDS: &[&str] = &[
    "{\"data\":",
    "\"before-image\":",
    "\"control\":",
    "\"metadata\":",
    "\"record-type\":\"data\"",
    "\"record-type\":\"control\"",
    "\"operation\":\"load\"",
    "\"operation\":\"insert\"",
    "\"operation\":\"update\"",
    "\"operation\":\"delete\"",
    "\"operation\":\"create-table\"",
    "\"schema-name\":\"shop\"",
    "\"table-name\":\"orders\"",
    "\"timestamp\":\"2024-05-01T10:00:00.000001Z\"",
    "\"transaction-id\":",
    "\"transaction-record-id\":",
    "\"stream-position\":\"",
    "\"commit-timestamp\":\"2024-05-01T10:00:00Z\"",
    "awsdms_status",
    "\\ud83d\\ude00",
    "\\ud83d",
    "\\uDE00",
    "\\u0064ata",
    "null",
    "1e400",
    "-0",
    "18446744073709551616",
    "\t",
    "[[[[[[[[",
    "\"metadata\":{}",
    "poison",
    PLANTED,
];

/// What no reason may hold.
const PLANTED: &str = "HUSH";

pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let reading = read(input);
    surrogates(text, &reading);
    nesting(text, &reading);
    match dms::decode_message(text) {
        Ok(message) => decoded(text, &message, &reading),
        Err(error) => {
            // What no value can hold is none either: half a surrogate pair in a name, a number beyond a double.
            let is_none = !matches!(reading, Reading::Value(_));
            assert!(is_none || !matches!(error.kind, DecodeErrorKind::NotJson(_)), "JSON was refused as none: {error}");
            assert!(!error.to_string().is_empty() && error.to_string().is_ascii(), "{error}");
            assert!(!format!("{error} {:?}", error.kind).contains(PLANTED), "{error:?}");
            if let Reading::Value(value) = &reading {
                assert!(!is_plain_message(value) || says_something_twice(text), "a plain message is refused: {error}");
            }
        }
    }
}

/// A message without anything that may be refused, by the documentation of DMS's envelope.
fn is_plain_message(value: &Value) -> bool {
    let metadata = &value["metadata"];
    let absent = |value: &Value, name: &str| value.get(name).is_none_or(Value::is_null);
    let text = |name: &str| metadata[name].as_str().is_some_and(|text| !text.is_empty());
    let fits = |member: &Value| member.is_null() || member.is_u64();
    value.is_object()
        && metadata.is_object()
        && depth(value) <= json_text::MAX_DEPTH
        && metadata["record-type"] == "data"
        && Operation::ALL.iter().any(|operation| metadata["operation"] == operation.as_str())
        && text("schema-name")
        && text("table-name")
        && value["data"].is_object()
        && (absent(value, "before-image") || value["before-image"].is_object())
        && (absent(metadata, "stream-position") || metadata["stream-position"].is_string())
        && fits(&metadata["transaction-id"])
        && fits(&metadata["transaction-record-id"])
}

/// Whether a member of the envelope or of the metadata stands there twice.
fn says_something_twice(text: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        metadata: &'a serde_json::value::RawValue,
    }
    // A second `metadata` is refused here, too.
    serde_json::from_str::<Envelope<'_>>(text).map_or(true, |envelope| {
        [text, envelope.metadata.get()].into_iter().filter_map(member_names).any(|names| has_duplicates(&names))
    })
}

fn decoded(text: &str, message: &Message<'_>, reading: &Reading) {
    assert!(!matches!(reading, Reading::Not), "what is no JSON was taken");
    assert!(json_text::is_within_depth(text));
    let names = member_names(text).expect("an object");
    for wanted in ["data", "before-image", "control", "metadata"] {
        assert!(names.iter().filter(|name| *name == wanted).count() <= 1, "{wanted} stands there twice");
    }
    let metadata = &message.metadata;
    let positions = |offset: i64| match &message.kind {
        Kind::Change(change) => Position::of_change(metadata, change.operation, offset),
        Kind::Control(_) => Position::of_control(metadata, offset),
    };
    for offset in [i64::MIN, -1, 0, i64::MAX] {
        assert_eq!(positions(offset).as_str().parse::<Position>().as_ref(), Ok(&positions(offset)));
    }
    let images = match &message.kind {
        Kind::Change(change) => {
            assert!(!metadata.table.is_empty());
            [Some(("data", change.data)), change.before.map(|before| ("before-image", before))]
        }
        Kind::Control(control) => {
            assert!(!control.operation.is_empty() && control.operation != dms::POISON);
            assert!(Operation::ALL.iter().all(|operation| operation.as_str() != control.operation));
            [control.definition.map(|definition| ("control", definition)), None]
        }
    };
    for (name, image) in images.into_iter().flatten() {
        assert!(is_slice_of(image, text), "{name} is no slice of the text");
        assert!(image.starts_with('{') && image.ends_with('}'));
        assert!(!matches!(read(image.as_bytes()), Reading::Not), "{name} is no JSON");
        if let Reading::Value(value) = reading {
            assert_eq!(serde_json::from_str::<Value>(image).unwrap(), value[name]);
        }
        surrogates(image, &read(image.as_bytes()));
    }
    if let Reading::Value(value) = reading {
        described(metadata, &value["metadata"]);
        let (record_type, operation) = match &message.kind {
            Kind::Change(change) => ("data", change.operation.as_str()),
            Kind::Control(control) => ("control", control.operation.as_ref()),
        };
        assert_eq!(value["metadata"]["record-type"], record_type);
        assert_eq!(value["metadata"]["operation"], operation);
    }
}

fn described(metadata: &Metadata<'_>, value: &Value) {
    let text = |name: &str| value[name].as_str().unwrap_or_default();
    assert_eq!(metadata.schema, text("schema-name"));
    assert_eq!(metadata.table, text("table-name"));
    assert_eq!(metadata.stream_position.as_deref().unwrap_or_default(), text("stream-position"));
    let number = |name: &str| match &value[name] {
        Value::Null => None,
        Value::String(digits) => Some(digits.parse::<u64>().unwrap()),
        number => Some(number.as_u64().unwrap()),
    };
    assert_eq!(metadata.transaction_id, number("transaction-id"));
    assert_eq!(metadata.transaction_record_id, number("transaction-record-id"));
    assert_eq!(metadata.emitted_at, dms::parse_timestamp(text("timestamp")));
    assert_eq!(metadata.committed_at, dms::parse_timestamp(text("commit-timestamp")));
}

pub fn is_slice_of(part: &str, whole: &str) -> bool {
    let Range { start, end } = whole.as_bytes().as_ptr_range();
    let part = part.as_bytes().as_ptr_range();
    start <= part.start && part.end <= end
}

/// Writing pairs out changes no value, does nothing the second time, and finds every half.
fn surrogates(text: &str, reading: &Reading) {
    match (json_text::normalise_surrogates(text), reading) {
        (_, Reading::Not) => {}
        (Surrogates::Paired(paired), Reading::Value(value)) => {
            assert_eq!(&serde_json::from_str::<Value>(&paired).unwrap(), value);
            assert!(matches!(json_text::normalise_surrogates(&paired), Surrogates::Paired(again) if again == paired));
            assert!(!has_escaped_surrogate(&paired), "{paired}");
            assert!(has_escaped_surrogate(text) || paired == text);
        }
        (Surrogates::Paired(paired), Reading::GrammarOnly { lone_surrogate }) => {
            assert!(!lone_surrogate, "half a pair was passed over");
            assert!(!matches!(read(paired.as_bytes()), Reading::Not));
        }
        (Surrogates::Lone { .. }, Reading::Value(_)) => panic!("a text without half a pair is said to hold one"),
        (Surrogates::Lone { .. }, Reading::GrammarOnly { .. }) => assert!(has_escaped_surrogate(text)),
    }
}

/// In valid JSON a backslash begins an escape of two bytes, wherever it stands.
fn has_escaped_surrogate(json: &str) -> bool {
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let escape = &rest.as_bytes()[at + 1..];
        let is_high =
            |digit: Option<&u8>| digit.is_some_and(|digit| matches!(digit, b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F'));
        if escape.starts_with(b"u") && matches!(escape.get(1), Some(b'd' | b'D')) && is_high(escape.get(2)) {
            return true;
        }
        rest = &rest[at + 2..];
    }
    false
}

fn nesting(text: &str, reading: &Reading) {
    if let Reading::Value(value) = reading {
        assert_eq!(json_text::is_within_depth(text), depth(value) <= json_text::MAX_DEPTH);
    }
}
