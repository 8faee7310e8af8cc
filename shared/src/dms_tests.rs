#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use proptest::prelude::*;

const UPDATE: &str = r#"{
	"data":	{ "id": 7, "price": 1.50, "price": 2.0, "note": "a\tb" },
	"before-image":	{"id":6},
	"kinesis": {"shard": 1},
	"metadata":	{
		"timestamp":	"2024-05-01T10:00:00.123456Z",
		"record-type":	"data",
		"operation":	"update",
		"partition-key-type":	"schema-table",
		"schema-name":	"shop",
		"table-name":	"orders",
		"transaction-id":	12884902388,
		"transaction-record-id": "3",
		"prev-transaction-id": 1e300,
		"commit-timestamp": "2024-05-01T09:59:59Z",
		"stream-position": "bin.000003:1:0:2:12884902388:bin.000003:1"
	}
}"#;

const NEITHER: &str = "neither a DMS message (`metadata`) nor a Debezium change event (`op`, `source`): if a Debezium connector sent it, \
                       remove its ExtractNewRecordState transformation (unwrap), which takes away what a change was and its place in the \
                       source's order";

fn kind_of(text: &str) -> DecodeErrorKind {
    decode_message(text).expect_err(text).kind
}

fn with_metadata(members: &str) -> String {
    format!(
        r#"{{"data":{{"id":1}},"metadata":{{"record-type":"data","operation":"insert","table-name":"t"{members}}}}}"#
    )
}

#[test]
fn a_change_keeps_its_images_to_the_letter() {
    let message = decode_message(UPDATE).unwrap();
    let Kind::Change(change) = &message.kind else {
        panic!("a change");
    };
    assert_eq!(change.operation, Operation::Update);
    assert_eq!(change.data, r#"{ "id": 7, "price": 1.50, "price": 2.0, "note": "a\tb" }"#);
    assert_eq!(change.before, Some(r#"{"id":6}"#));
    let metadata = &message.metadata;
    assert_eq!((&*metadata.schema, &*metadata.table), ("shop", "orders"));
    assert_eq!(metadata.transaction_id, Some(12_884_902_388));
    assert_eq!(metadata.transaction_record_id, Some(3));
    assert_eq!(metadata.emitted_at, Some(1_714_557_600_123_456));
    assert_eq!(metadata.committed_at, Some(1_714_557_599_000_000));
    assert!(metadata.stream_position.as_deref().unwrap().starts_with("bin.000003:1"));
}

#[test]
fn control_records_need_no_control_member() {
    for (control, definition) in [
        ("", None),
        (r#""control":null,"#, None),
        (r#""control": {} ,"#, Some("{}")),
        (r#""control":{"table-def":{}},"#, Some(r#"{"table-def":{}}"#)),
    ] {
        let text = format!(
            r#"{{{control}"metadata":{{"operation":"some-new-thing","record-type":"control","schema-name":"","table-name":"awsdms_status"}}}}"#
        );
        let message = decode_message(&text).unwrap();
        let Kind::Control(found) = &message.kind else {
            panic!("a control record");
        };
        assert_eq!(found.operation, "some-new-thing");
        assert_eq!(found.definition, definition);
        assert!(message.metadata.is_dms_own());
    }
}

#[test]
fn a_control_record_cannot_pass_for_a_change() {
    for word in ["load", "insert", "update", "delete", "poison"] {
        let text = format!(r#"{{"metadata":{{"operation":"{word}","record-type":"control"}}}}"#);
        assert_eq!(kind_of(&text), DecodeErrorKind::ControlNamedAsChange);
    }
}

#[test]
fn what_is_no_message_is_refused_with_the_reason() {
    for (text, reason) in [
        ("", "not JSON: it ends too early at line 1 column 0"),
        ("{\"data\":{\"HUSH\":", "not JSON: it ends too early at line 1 column 16"),
        ("\u{feff}{}", "not JSON: syntax error at line 1 column 1"),
        ("{\"metadata\":{}} HUSH", "not JSON: syntax error at line 1 column 17"),
        ("{'metadata':{}}", "not JSON: syntax error at line 1 column 2"),
        ("{\"metadata\":\"a\u{0}b\"}", "not JSON: syntax error at line 1 column 14"),
        ("\"HUSH\"", "not a JSON object"),
        ("[{}]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{}", NEITHER),
        (r#"{"data":{"HUSH":1}}"#, NEITHER),
        (r#"{"metadata":null}"#, "no `metadata`"),
        (r#"{"metadata":["HUSH"]}"#, "`metadata` is not an object"),
        (r#"{"metadata":{}}"#, "no `record-type`"),
        (r#"{"metadata":{"record-type":"data"}}"#, "no `operation`"),
        (r#"{"metadata":{"record-type":7,"operation":"load"}}"#, "`record-type` is not readable text"),
        (r#"{"metadata":{"record-type":"HUSH","operation":"load"}}"#, "`record-type` is neither `data` nor `control`"),
        (r#"{"metadata":{"record-type":"data","operation":"load"},"data":{}}"#, "no `table-name`"),
        (r#"{"metadata":{"record-type":"data","operation":"load","table-name":"t"}}"#, "no `data`"),
        (
            r#"{"metadata":{"record-type":"data","operation":"load","table-name":"t"},"data":["HUSH"]}"#,
            "`data` is not an object",
        ),
        (
            r#"{"metadata":{"record-type":"data","operation":"HUSH","table-name":"t"},"data":{}}"#,
            "`operation` of a data record is none of load, insert, update, delete",
        ),
        (
            r#"{"metadata":{"record-type":"data","operation":"load","table-name":"t"},"data":{},"before-image":"HUSH"}"#,
            "`before-image` is not an object",
        ),
        (r#"{"metadata":{"record-type":"data"},"metadata":{}}"#, "duplicate member `metadata`"),
        (r#"{"metadata":{"operation":"load","\u006fperation":"delete"}}"#, "duplicate member `operation`"),
    ] {
        let error = decode_message(text).expect_err(text);
        assert_eq!(error.to_string(), reason, "{text}");
        assert!(!format!("{:?}", error.kind).contains("HUSH"));
    }
}

#[test]
fn a_number_that_cannot_be_read_is_refused_rather_than_put_out_of_order() {
    for number in ["18446744073709551616", "-1", "1.5", "1e3", "\"\"", "\"x\"", "true", "{}", "\"+1\""] {
        assert_eq!(
            kind_of(&with_metadata(&format!(r#","transaction-id":{number}"#))),
            DecodeErrorKind::NotANumber("transaction-id"),
            "{number}"
        );
    }
    let text = with_metadata(r#","transaction-id":"18446744073709551615","transaction-record-id":null"#);
    let metadata = decode_message(&text).unwrap().metadata;
    assert_eq!(metadata.transaction_id, Some(u64::MAX));
    assert_eq!(metadata.transaction_record_id, None);
}

#[test]
fn an_error_names_the_table_once_it_is_known() {
    let error = decode_message(&with_metadata(r#","schema-name":"s","transaction-id":-1"#)).expect_err("a bad number");
    assert_eq!(error.table.unwrap().to_string(), "s.t");
    assert_eq!(decode_message("{").expect_err("cut").table, None);
}

#[test]
fn a_duplicate_leaves_the_table_known_unless_it_is_the_table_that_is_twice() {
    let twice = |member: &str| {
        let text = with_metadata(member);
        let error = decode_message(&text).expect_err(member);
        assert!(matches!(error.kind, DecodeErrorKind::DuplicateMember(_)), "{error}");
        error.table.map(|table| table.table)
    };
    assert_eq!(twice(r#","operation":"load""#).as_deref(), Some("t"));
    assert_eq!(twice(r#"},"data":{"x":1"#).as_deref(), Some("t"));
    assert_eq!(twice(r#","operation":"load","table-name":"u""#), None);
    assert_eq!(twice(r#"},"data":{},"metadata":{"table-name":"u""#), None);
}

#[test]
fn a_name_is_unescaped() {
    let text = with_metadata(r#","schema-name":"a\"\ud83d\ude00""#);
    assert_eq!(decode_message(&text).unwrap().metadata.schema, "a\"\u{1f600}");
    let text = with_metadata(r#","schema-name":"\ud83d""#);
    assert_eq!(kind_of(&text), DecodeErrorKind::NotText("schema-name"));
}

#[test]
fn deep_nesting_is_refused_without_exhausting_the_stack() {
    let nested = |depth: usize| {
        format!(
            r#"{{"data":{{"a":{}1{}}},"metadata":{{"record-type":"data","operation":"load","table-name":"t"}}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert!(decode_message(&nested(126)).is_ok());
    for depth in [127, 200, 100_000] {
        let error = decode_message(&nested(depth)).expect_err("too deep");
        assert_eq!(error.kind, DecodeErrorKind::TooDeep);
        // Known all the same: the table may be one that must not be logged.
        assert_eq!(error.table.unwrap().table, "t");
    }
    let unclosed = "[".repeat(100_000);
    for text in [format!(r#"{{"data":{unclosed}"#), format!(r#"{{"x":{unclosed}"#), unclosed] {
        decode_message(&text).expect_err("not JSON");
    }
}

#[test]
fn data_holds_any_number_and_any_text() {
    let text = format!(
        r#"{{"data":{{"n":1e400,"m":{},"nul":"\u0000","big":"{}"}},"metadata":{{"record-type":"data","operation":"load","table-name":"t"}}}}"#,
        "9".repeat(1_000),
        "x".repeat(5_000_000)
    );
    let message = decode_message(&text).unwrap();
    let Kind::Change(change) = message.kind else {
        panic!("a change");
    };
    assert!(change.data.starts_with(r#"{"n":1e400,"m":999"#));
    assert!(change.data.len() > 5_000_000);
}

#[test]
fn timestamps_are_microseconds_of_utc() {
    for (text, micros) in [
        ("1970-01-01T00:00:00Z", Some(0)),
        ("1970-01-01T00:00:00.000001Z", Some(1)),
        ("1970-01-01T00:00:00.1", Some(100_000)),
        ("1970-01-01 00:00:00.123456789+00:00", Some(123_456)),
        ("1969-12-31T23:59:59.999999Z", Some(-1)),
        ("1754-08-30T22:43:41.129Z", Some(-6_795_364_578_871_000)),
        ("0001-01-01T00:00:00Z", Some(-62_135_596_800_000_000)),
        ("9999-12-31T23:59:59.999999Z", Some(253_402_300_799_999_999)),
        ("2024-02-29T00:00:00.Z", Some(1_709_164_800_000_000)),
        ("0000-01-01T00:00:00Z", None),
        ("2023-02-29T00:00:00Z", None),
        ("2024-01-01T24:00:00Z", None),
        ("2024-01-01T23:59:60Z", None),
        ("2024-01-01T00:00:00+02:00", None),
        ("2024-01-01T00:00:00.1234567890Z", None),
        ("2024-01-01", None),
        ("2024-1-1T00:00:00Z", None),
        ("+024-01-01T00:00:00Z", None),
        ("", None),
    ] {
        assert_eq!(parse_timestamp(text), micros, "{text}");
    }
    let unreadable = with_metadata(r#","timestamp":"yesterday","commit-timestamp":17"#);
    let metadata = decode_message(&unreadable).unwrap().metadata;
    assert_eq!((metadata.emitted_at, metadata.committed_at), (None, None));
}

proptest! {
    #[test]
    fn timestamps_agree_with_jiff(micros in -62_135_596_800_000_000_i64..253_370_000_000_000_000) {
        let timestamp = jiff::Timestamp::from_microsecond(micros).unwrap();
        prop_assert_eq!(parse_timestamp(&timestamp.to_string()), Some(micros));
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), cut in 0..UPDATE.len()) {
        let _ = decode_message(&text);
        let _ = parse_timestamp(&text);
        prop_assert!(decode_message(UPDATE.get(..cut).unwrap()).is_err());
    }
}

/// A name stands twice in each list: where it is looked for, and where it is told.
pub(crate) fn assert_places<const N: usize>(wanted: &Wanted<N>) {
    for (index, name) in wanted.names.iter().enumerate() {
        assert_eq!((wanted.place)(name), Some(index), "{name}");
    }
    assert_eq!((wanted.place)("Data"), None);
}

#[test]
fn every_wanted_member_is_found_at_its_place() {
    assert_places(&ENVELOPE);
    assert_places(&METADATA);
}
