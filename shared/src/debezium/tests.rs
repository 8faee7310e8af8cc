#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use super::schema::TableSchema;
use super::value::{Decoded, Encoding, PLACEHOLDER, Unit, ValueFault};
use super::*;
use crate::dms::tests::assert_places;
use crate::dms::{DecodeError, Record, decode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const MYSQL_SOURCE: &str = r#"{"version":"3.6.3.Final","connector":"mysql","name":"dbz","ts_ms":1714557599000,"snapshot":"false","db":"shop","sequence":null,"ts_us":1714557599000123,"table":"orders","server_id":1,"gtid":"0-1-7","file":"mysql-bin-changelog.000004","pos":1792,"row":2,"thread":0,"query":null}"#;
const POSTGRESQL_SOURCE: &str = r#"{"connector":"postgresql","ts_ms":1714557599000,"snapshot":"false","db":"shop","schema":"public","table":"orders","txId":744,"lsn":26908296}"#;

fn envelope(op: &str, before: &str, after: &str, source: &str) -> String {
    format!(
        r#"{{"before":{before},"after":{after},"source":{source},"transaction":null,"op":"{op}","ts_ms":1714557600000,"ts_us":1714557600000002,"ts_ns":1714557600000002000}}"#
    )
}

fn event_of(text: &str) -> Event<'_> {
    match decode(text).unwrap_or_else(|error| panic!("{error}: {text}")) {
        Record::Debezium(event) => event,
        Record::Dms(message) => panic!("{message:?}"),
    }
}

fn change_of(text: &str) -> ChangeEvent<'_> {
    match event_of(text) {
        Event::Change(change) => *change,
        other => panic!("{other:?}"),
    }
}

fn refused(text: &str) -> DecodeError {
    decode(text).expect_err(text)
}

#[test]
fn every_wanted_member_is_found_at_its_place() {
    assert_places(&PAYLOAD);
    assert_places(&SOURCE);
    assert_places(&TRANSACTION);
}

#[test]
fn an_envelope_is_read_with_and_without_its_schema() {
    let payload = envelope("u", r#"{"id":1,"n":1.50}"#, r#"{"id":1,"n":2.0}"#, MYSQL_SOURCE);
    let with_schema = format!(r#"{{"schema":{{"type":"struct"}},"payload":{payload}}}"#);
    for (text, schema) in [(&payload, None), (&with_schema, Some(r#"{"type":"struct"}"#))] {
        let change = change_of(text);
        assert_eq!(change.operation, Operation::Update);
        assert_eq!((change.before, change.after), (Some(r#"{"id":1,"n":1.50}"#), Some(r#"{"id":1,"n":2.0}"#)));
        assert_eq!(change.schema, schema);
        let source = &change.source;
        assert_eq!((&*source.schema, &*source.table), ("shop", "orders"));
        assert_eq!(source.place, Some(Place::Binlog { file: 4, position: 1792, row: 2 }));
        assert_eq!(
            (source.committed_at, source.emitted_at),
            (Some(1_714_557_599_000_123), Some(1_714_557_600_000_002))
        );
        assert_eq!(source.transaction_id.as_deref(), Some("0-1-7"), "kept, and no order");
        assert!(!source.may_be_partial);
    }
    let text = envelope("d", r#"{"id":1}"#, "null", POSTGRESQL_SOURCE);
    let change = change_of(&text);
    assert_eq!((change.operation, change.after), (Operation::Delete, None));
    assert_eq!((&*change.source.schema, &*change.source.table), ("public", "orders"));
    assert_eq!(change.source.place, Some(Place::Lsn(26_908_296)));
    assert_eq!(change.source.transaction_id.as_deref(), Some("744"));
    assert_eq!(change.source.committed_at, Some(1_714_557_599_000_000));
    assert!(change.source.may_be_partial);
}

#[test]
fn which_part_a_row_has_in_a_snapshot_is_told() {
    for (said, snapshot) in [
        ("\"false\"", Snapshot::No),
        ("false", Snapshot::No),
        ("null", Snapshot::No),
        ("\"true\"", Snapshot::Row),
        ("true", Snapshot::Row),
        ("\"last\"", Snapshot::Row),
        ("\"last_in_data_collection\"", Snapshot::Row),
        ("\"first\"", Snapshot::First),
        ("\"first_in_data_collection\"", Snapshot::First),
        ("\"incremental\"", Snapshot::Incremental),
    ] {
        let source = POSTGRESQL_SOURCE.replace("\"snapshot\":\"false\"", &format!("\"snapshot\":{said}"));
        assert_eq!(change_of(&envelope("r", "null", "{}", &source)).source.snapshot, snapshot, "{said}");
    }
}

#[test]
fn without_a_schema_only_what_says_what_it_is_is_read() {
    let image = r#"{"a":1E-30,"b":-1.25e-7,"c":12.5E-1,"d":1.5E+300,"e":"1E-7","f":{"scale":2,"value":"fQ=="},
        "g":{"wkb":"AQ==","srid":null},"h":{"wkb":"AQ==","other":1},"i":"__debezium_unavailable_value","j":0.5,"k":"AQ=="}"#;
    let expected = r#"{"a":0.000000000000000000000000000001,"b":-0.000000125,"c":1.25,"d":1.5E+300,"e":"1E-7","f":1.25,
        "g":"0x0000000001","h":{"wkb":"AQ==","other":1},"j":0.5,"k":"AQ=="}"#;
    let read = normalise_without_schema(image, true).unwrap();
    let members = |text: &str| -> BTreeMap<String, String> {
        let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).unwrap();
        members.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
    };
    assert_eq!(members(&read.text), members(expected));
    assert!(read.is_partial && read.fault.is_none(), "{read:?}");
    assert!(!normalise_without_schema(image, false).unwrap().is_partial, "MySQL has no placeholder");
    let broken = normalise_without_schema(r#"{"a":{"scale":2,"value":"?"}}"#, true).unwrap();
    assert!(broken.fault.is_some());
}

#[test]
fn a_truncated_table_is_told() {
    let text = envelope("t", "null", "null", POSTGRESQL_SOURCE);
    let Event::Truncate(source) = event_of(&text) else {
        panic!("a truncation");
    };
    assert_eq!((&*source.table, source.place), ("orders", Some(Place::Lsn(26_908_296))));
}

#[test]
fn what_debezium_sends_beside_changes_is_told() {
    for text in [
        r#"{"status":"BEGIN","id":"744:26908296","event_count":null,"data_collections":null,"ts_ms":1}"#.to_owned(),
        r#"{"schema":{},"payload":{"status":"END","id":"7","event_count":2,"data_collections":[],"ts_ms":1}}"#.to_owned(),
        r#"{"ts_ms":1714557600000}"#.to_owned(),
        r#"{"schema":{"type":"struct"},"payload":{"ts_ms":1714557600000}}"#.to_owned(),
        r#"{"op":"m","ts_ms":1,"source":{"connector":"postgresql","table":""},"message":{"prefix":"p","content":"eA=="}}"#.to_owned(),
    ] {
        assert_eq!(event_of(&text), Event::Own, "{text}");
    }
    assert_eq!(event_of(r#"{"schema":null,"payload":null}"#), Event::Tombstone);
}

#[test]
fn what_is_no_event_is_refused_with_the_reason() {
    let flattened = "neither a DMS message (`metadata`) nor a Debezium change event";
    let source = |from: &str, to: &str| envelope("c", "null", "{}", &MYSQL_SOURCE.replace(from, to));
    for (text, reason) in [
        (r#"{"id":1,"name":"HUSH"}"#.to_owned(), flattened),
        (r#"{"id":1,"__deleted":"false","__op":"c"}"#.to_owned(), flattened),
        (r#"{"schema":{"type":"struct"},"payload":{"id":1,"name":"HUSH"}}"#.to_owned(), flattened),
        (r#"{"op":"c","after":{"a":"HUSH"}}"#.to_owned(), flattened),
        (r#"{"id":1,"status":"HUSH","ts_ms":5}"#.to_owned(), flattened),
        (r#"{"id":1,"payload":null}"#.to_owned(), flattened),
        (format!(r#"{{"id":1,"payload":{}}}"#, envelope("c", "null", "{}", MYSQL_SOURCE)), flattened),
        (r#"{"id":"HUSH","status":"HUSH","event_count":7}"#.to_owned(), flattened),
        (r#"{"id":7,"status":"END","event_count":7}"#.to_owned(), flattened),
        (r#"{"schema":{},"payload":{},"payload":null}"#.to_owned(), "duplicate member `payload`"),
        (r#"{"schema":{},"schema":{},"payload":null}"#.to_owned(), "duplicate member `schema`"),
        (
            envelope("c", "null", "{}", MYSQL_SOURCE)
                .replace(r#""transaction":null"#, r#""transaction":{"id":"HUSH","total_order":1,"total_order":2}"#),
            "duplicate member `total_order`",
        ),
        (envelope("HUSH", "null", "{}", MYSQL_SOURCE), "`op` is none of"),
        (envelope("c", "null", "null", MYSQL_SOURCE), "`after` is missing"),
        (envelope("c", "null", "[\"HUSH\"]", MYSQL_SOURCE), "`after` is not an object"),
        (envelope("c", "\"HUSH\"", "{}", MYSQL_SOURCE), "`before` is not an object"),
        (source("\"connector\":\"mysql\"", "\"connector\":\"HUSH\""), "`source.connector` is none of"),
        (source("\"table\":\"orders\"", "\"table\":null"), "no `source.table`"),
        (source("\"pos\":1792", "\"pos\":-1"), "`pos` is not a number"),
        (source("\"pos\":1792", "\"pos\":null"), "`source` has no place"),
        (source("changelog.000004", "changelog"), "`source` has no place"),
        (source("changelog.000004", "changelog.HUSH"), "`source` has no place"),
        (source("\"pos\":1792", "\"pos\":1,\"pos\":2"), "duplicate member `pos`"),
        (source("\"pos\":1792", "\"pos\":99999999999"), "`source` has no place"),
        (envelope("c", "null", "{},\"after\":{}", MYSQL_SOURCE), "duplicate member `after`"),
        (
            r#"{"tableChanges":[{"type":"HUSH"}],"source":{}}"#.to_owned(),
            "`tableChanges` is not of the documented form",
        ),
    ] {
        let error = refused(&text);
        assert!(error.to_string().starts_with(reason), "{error}: {text}");
        assert!(!format!("{error} {error:?}").contains("HUSH"), "{error:?}");
    }
    let error = refused(&envelope("x", "null", "{}", MYSQL_SOURCE));
    assert_eq!(error.table.unwrap().to_string(), "shop.orders");
}

#[test]
fn binlog_files_are_numbered_by_what_follows_the_last_point() {
    for (file, number) in [
        ("mysql-bin-changelog.000004", Some(4)),
        ("a.b.1000000", Some(1_000_000)),
        ("binlog.", None),
        ("binlog", None),
        ("binlog.+1", None),
    ] {
        assert_eq!(binlog_number(file), number, "{file}");
    }
}

fn decoded(encoding: &Encoding, value: &str) -> String {
    match encoding.decode(value, false).unwrap_or_else(|fault| panic!("{encoding:?} {value}: {fault}")) {
        Decoded::AsReceived => value.to_owned(),
        Decoded::Text(text) => text,
        Decoded::Unavailable => panic!("not asked for"),
    }
}

#[test]
fn values_become_what_dms_would_have_sent() {
    use Encoding::{
        Bits, Bytes, Days, Decimal, Duration, Geometry, IsoWithZ, Json, List, Plain, Text, Time, Timestamp,
    };
    use Encoding::{Members, VariableScale, Wrapped};
    use Unit::{Microseconds, Milliseconds, Nanoseconds};
    for (encoding, value, expected) in [
        (Plain, "1.50", "1.50"),
        (Plain, "\"NaN\"", "\"NaN\""),
        (Plain, "true", "true"),
        (Plain, "null", "null"),
        (Wrapped, "-1", "18446744073709551615"),
        (Wrapped, "-9223372036854775808", "9223372036854775808"),
        (Wrapped, "9223372036854775807", "9223372036854775807"),
        (Text, "\"a\\u00e9\"", "\"a\\u00e9\""),
        (Bytes, "\"3q2+7w==\"", "\"0xDEADBEEF\""),
        (Bytes, "\"\"", "\"0x\""),
        (Bits(Some(8)), "\"qg==\"", "\"0xAA\""),
        (Bits(Some(10)), "\"/wM=\"", "\"0x03FF\""),
        (Bits(Some(10)), "\"AQ==\"", "\"0x0001\""),
        (Bits(None), "\"BQ==\"", "\"0x05\""),
        (Decimal(2), "\"SZYC0g==\"", "12345678.90"),
        (Decimal(9), "\"CUmw9vACMxPESZBQ5NhfFQ==\"", "12345678901234567890123456789.123456789"),
        (Decimal(2), "\"AA==\"", "0.00"),
        (Decimal(2), "\"/w==\"", "-0.01"),
        (Decimal(0), "\"gA==\"", "-128"),
        (Decimal(0), "\"1234\"", "-2658824"),
        (Decimal(-2), "\"BQ==\"", "500"),
        (Decimal(-2), "\"AA==\"", "0"),
        (Decimal(2), "12.30", "12.30"),
        (VariableScale, r#"{"scale":15,"value":"AivNZE0jtQ=="}"#, "0.611111104488373"),
        (VariableScale, r#"{"value":"AQ==","scale":0}"#, "1"),
        (Days, "19782", "\"2024-02-29\""),
        (Days, "-1", "\"1969-12-31\""),
        (Days, "-719162", "\"0001-01-01\""),
        (Days, "2932896", "\"9999-12-31\""),
        (Days, "2932897", "\"+10000-01-01\""),
        (Days, "-719163", "\"0000-12-31\""),
        (Days, "-719529", "\"-0001-12-31\""),
        (Time(Microseconds), "-3020399000000", "\"-838:59:59\""),
        (Time(Microseconds), "86399123456", "\"23:59:59.123456\""),
        (Time(Microseconds), "86400000000", "\"24:00:00\""),
        (Time(Milliseconds), "45296789", "\"12:34:56.789\""),
        (Time(Nanoseconds), "1", "\"00:00:00.000000001\""),
        (Timestamp(Milliseconds), "1709210096123", "\"2024-02-29T12:34:56.123Z\""),
        (Timestamp(Milliseconds), "1709210096000", "\"2024-02-29T12:34:56Z\""),
        (Timestamp(Microseconds), "1709210096123456", "\"2024-02-29T12:34:56.123456Z\""),
        (Timestamp(Microseconds), "-6795364578871000", "\"1754-08-30T22:43:41.129000Z\""),
        (Timestamp(Nanoseconds), "-1", "\"1969-12-31T23:59:59.999999999Z\""),
        (Timestamp(Microseconds), "9223372036854775807", "\"+294247-01-10T04:00:54.775807Z\""),
        (IsoWithZ, "\"2024-02-29Z\"", "\"2024-02-29\""),
        (IsoWithZ, "\"12:34:56\"", "\"12:34:56\""),
        (Duration, "0", "\"PT0S\""),
        (Json, "\"{}\"", "\"{}\""),
        (
            Geometry,
            r#"{"x":1.0,"y":2.0,"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":null}"#,
            "\"0x000000000101000000000000000000F03F0000000000000040\"",
        ),
        (Geometry, r#"{"wkb":"AQ==","srid":4326}"#, "\"0xE610000001\""),
        (List(Box::new(Days)), "[19782, null]", "[\"2024-02-29\",null]"),
        (List(Box::new(Text)), "[]", "[]"),
        (Members(Vec::new(), Some(Box::new(Text))), r#"{"a": "1","b": null}"#, r#"{"a": "1","b": null}"#),
        (Members(vec![("d".to_owned(), Days)], None), r#"{"d": 0,"x":1}"#, r#"{"d": "1970-01-01","x":1}"#),
    ] {
        assert_eq!(decoded(&encoding, value), expected, "{encoding:?} {value}");
    }
}

#[test]
fn what_is_not_of_its_encodings_form_is_refused_without_a_word_of_it() {
    use Encoding::{Bits, Bytes, Days, Decimal, Duration, Geometry, List, Members, Plain, Text, Timestamp, Unknown};
    use Encoding::{VariableScale, Wrapped};
    for (encoding, value) in [
        (Plain, "{\"HUSH\":1}"),
        (Plain, "[1]"),
        (Text, "17"),
        (Wrapped, "1.5"),
        (Bytes, "\"HUSH!\""),
        (Bytes, "\"A\\ud83d\""),
        (Bits(Some(3)), "7"),
        (Decimal(2), "\"\""),
        (Decimal(2), "\"12.30\""),
        (Decimal(i64::MAX), "\"AQ==\""),
        (Decimal(2), "true"),
        (VariableScale, "\"AQ==\""),
        (VariableScale, "[1,\"AQ==\"]"),
        (VariableScale, r#"{"scale":0,"value":1}"#),
        (VariableScale, r#"{"scale":-9223372036854775808,"value":"AQ=="}"#),
        (Decimal(i64::MIN), "\"AQ==\""),
        (Geometry, "[\"AQ==\",7]"),
        (VariableScale, "{\"scale\":\"HUSH\",\"value\":\"AQ==\"}"),
        (Days, "\"2024-01-01\""),
        (Days, "1.0"),
        (Timestamp(Unit::Milliseconds), "9223372036854775808"),
        (Duration, "37091106700000"),
        (Geometry, "{\"x\":1}"),
        (List(Box::new(Days)), "[\"HUSH\"]"),
        (List(Box::new(Text)), "{}"),
        (Members(Vec::new(), Some(Box::new(Days))), "{\"a\":\"HUSH\"}"),
        (Members(Vec::new(), None), "[[1,2]]"),
        (Unknown("io.debezium.time.Fortnight".to_owned()), "7"),
    ] {
        let fault = encoding.decode(value, false).expect_err(value);
        assert!(!format!("{fault} {fault:?}").contains("HUSH"), "{fault}");
    }
    let long = format!("\"{}\"", STANDARD.encode([7_u8; 2_000]));
    assert!(matches!(Decimal(0).decode(&long, false), Err(ValueFault::NotOfForm(_))));
}

#[test]
fn the_placeholder_is_absent_where_values_may_be_and_a_text_elsewhere() {
    use Encoding::{Bytes, Days, Json, List, Members, Plain, Text};
    let text = format!("\"{PLACEHOLDER}\"");
    let bytes = format!("\"{}\"", STANDARD.encode(PLACEHOLDER));
    let numbers = format!("{:?}", PLACEHOLDER.as_bytes());
    let map = format!(r#"{{"{PLACEHOLDER}":"{PLACEHOLDER}"}}"#);
    let json = Value::from(map.as_str()).to_string();
    for (encoding, value) in [
        (Text, text.clone()),
        (Json, text.clone()),
        (Json, json),
        (Bytes, bytes),
        (List(Box::new(Text)), format!("[{text}]")),
        (List(Box::new(Text)), "[\"b68a35a7-17ad-35b3-af2a-ae46edb4545a\"]".to_owned()),
        (List(Box::new(Plain)), numbers),
        (Members(Vec::new(), Some(Box::new(Text))), map),
    ] {
        assert_eq!(encoding.decode(&value, true), Ok(Decoded::Unavailable), "{encoding:?} {value}");
        assert_ne!(encoding.decode(&value, false), Ok(Decoded::Unavailable), "{encoding:?} {value}");
    }
    for (encoding, value) in [
        (Text, format!("\"{PLACEHOLDER}x\"")),
        (Text, format!("\"x{PLACEHOLDER}\"")),
        (List(Box::new(Text)), format!("[{text},{text}]")),
        (List(Box::new(Text)), "[]".to_owned()),
        (List(Box::new(Plain)), "[95]".to_owned()),
        (Days, "0".to_owned()),
    ] {
        assert_ne!(encoding.decode(&value, true), Ok(Decoded::Unavailable), "{encoding:?} {value}");
    }
}

/// An envelope's schema, with these fields of a row.
pub(crate) fn schema_of(fields: &Value) -> String {
    json!({
        "type": "struct", "optional": false, "name": "dbz.shop.orders.Envelope", "version": 2,
        "fields": [
            {"type": "struct", "fields": fields, "optional": true, "name": "dbz.shop.orders.Value", "field": "before"},
            {"type": "struct", "fields": fields, "optional": true, "name": "dbz.shop.orders.Value", "field": "after"},
            {"type": "struct", "fields": [{"type": "string", "optional": false, "field": "version"}], "field": "source"},
            {"type": "string", "optional": false, "field": "op"},
        ],
    })
    .to_string()
}

#[test]
fn a_schema_is_a_definition_in_dmss_words() {
    let fields = json!([
        {"type": "int32", "optional": false, "field": "id"},
        {"type": "bytes", "optional": true, "name": "org.apache.kafka.connect.data.Decimal", "version": 1,
         "parameters": {"scale": "2", "connect.decimal.precision": "10"}, "field": "price"},
        {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "-2", "connect.decimal.precision": "3"}, "field": "rounded"},
        {"type": "struct", "fields": [], "name": "io.debezium.data.VariableScaleDecimal", "field": "any"},
        {"type": "int64", "name": "io.debezium.time.MicroTimestamp", "field": "at"},
        {"type": "int64", "parameters": {"__debezium.source.column.type": "BIGINT UNSIGNED"}, "field": "big"},
        {"type": "array", "items": {"type": "int32", "name": "io.debezium.time.Date"}, "field": "days"},
        {"type": "map", "keys": {"type": "string"}, "values": {"type": "string"}, "field": "h"},
        {"type": "int64", "name": "io.debezium.time.Fortnight", "field": "odd"},
        {"type": "string", "name": "com.example.Own", "field": "own"},
    ]);
    let schema = TableSchema::of_event(&schema_of(&fields)).unwrap();
    let definition = schema.definition(&["id".to_owned()], true);
    let expected = json!({
        "table-def": {
            "columns": {
                "id": {"type": "INT32", "nullable": false},
                "price": {"type": "NUMERIC", "nullable": true, "precision": 10, "scale": 2},
                "rounded": {"type": "NUMERIC", "nullable": false, "precision": 5, "scale": 0},
                "any": {"type": "NUMERIC", "nullable": false},
                "at": {"type": "DATETIME", "nullable": false},
                "big": {"type": "UINT64", "nullable": false},
                "days": {"type": "NCLOB", "nullable": false},
                "h": {"type": "NCLOB", "nullable": false},
                "odd": {"type": "STRING", "nullable": false},
                "own": {"type": "STRING", "nullable": false},
            },
            "primary-key": ["id"],
        },
        "debezium-read-from": "record",
        "partial-images": true,
    });
    assert_eq!(serde_json::from_str::<Value>(&definition).unwrap(), expected);

    let image = r#"{"id":7,"price":"BQ==","rounded":"Bw==","any":null,"at":0,"big":-1,"days":[1],"h":{"a":"b"},"odd":7,"own":"x","new":1}"#;
    let normalised = normalise(image, &schema, true).unwrap();
    assert_eq!(
        normalised.text,
        r#"{"id":7,"price":0.05,"rounded":700,"any":null,"at":"1970-01-01T00:00:00Z","big":18446744073709551615,"days":["1970-01-02"],"h":{"a":"b"},"odd":7,"own":"x","new":1}"#
    );
    assert_eq!(
        normalised.fault.unwrap().to_string(),
        "column \"odd\": the semantic type io.debezium.time.Fortnight is not known"
    );
    for none in [
        "{}",
        "[]",
        "7",
        r#"{"type":"struct","fields":[]}"#,
        r#"{"type":"struct","fields":[{"type":"int32","field":"after"}]}"#,
    ] {
        assert_eq!(TableSchema::of_event(none), None, "{none}");
    }
}

#[test]
fn of_the_image_before_a_change_what_changed_is_kept() {
    let changed = |before, after| changed_members(before, after).unwrap().into_owned();
    assert_eq!(changed(r#"{"id":1,"a":"x","b":null}"#, r#"{"id":1,"a":"y","b":null}"#), r#"{"a":"x"}"#);
    assert_eq!(changed(r#"{"id":1}"#, r#"{"id":2}"#), r#"{"id":1}"#);
    assert_eq!(changed(r#"{"id":1,"a":1}"#, r#"{"id":1,"a":1}"#), "{}");
    assert_eq!(changed(r#"{"lob":"x","id":1}"#, r#"{"id":1}"#), "{}", "what was not sent did not change");
    assert_eq!(changed("{}", r#"{"id":1}"#), "{}");
}

#[test]
fn schemas_are_read_once_and_written_once() {
    let fields = |kind: &str| {
        schema_of(&json!([{"type": "int32", "optional": false, "field": "id"}, {"type": kind, "field": "a"}]))
    };
    let (first, second) = (fields("string"), fields("int64"));
    let table = ("shop", "orders");
    let mut schemas = Schemas::default();
    let described =
        |schemas: &mut Schemas, text: &str, key: Option<&str>| schemas.describe(table, text, key, false).unwrap();
    let one = described(&mut schemas, &first, Some(r#"{"id":1}"#));
    assert!(!one.is_written && one.definition.as_ref().unwrap().text().contains(r#""primary-key":["id"]"#));
    assert!(!described(&mut schemas, &first, Some(r#"{"id":2}"#)).is_written, "not acknowledged yet");
    schemas.written(&[one.definition.unwrap()]);
    assert!(described(&mut schemas, &first, Some(r#"{"schema":{"type":"struct"},"payload":{"id":3}}"#)).is_written);
    let two = described(&mut schemas, &second, Some(r#"{"id":1}"#));
    assert!(!two.is_written && two.definition.as_ref().unwrap().text().contains("INT64"));
    schemas.written(&[two.definition.unwrap()]);
    assert!(!described(&mut schemas, &first, Some(r#"{"id":1}"#)).is_written, "it is the first again");
    let keyless = described(&mut schemas, &second, None);
    assert!(keyless.definition.unwrap().text().contains(r#""primary-key":[]"#));
    for unknown in ["Struct{id=1}", "7", r#"{"id":"#, r#"{"other":1}"#] {
        assert!(described(&mut schemas, &second, Some(unknown)).definition.is_none(), "{unknown}");
    }
    assert!(schemas.describe(table, "{}", None, false).is_none());
}

fn tables(changes: &Value, ddl: &str) -> Vec<TableChange> {
    let text = json!({
        "source": {"connector": "mysql", "table": null}, "ts_ms": 1_714_557_600_000_i64, "databaseName": "shop", "schemaName": null,
        "ddl": ddl, "tableChanges": changes,
    })
    .to_string();
    match event_of(&text) {
        Event::Tables { tables, emitted_at: Some(1_714_557_600_000_000) } => tables,
        other => panic!("{other:?}"),
    }
}

fn column(name: &str, kind: &str, length: Option<u32>, scale: Option<u32>, position: i64) -> Value {
    json!({"name": name, "jdbcType": 0, "typeName": kind, "typeExpression": kind, "length": length, "scale": scale, "position": position, "optional": position != 1})
}

#[test]
fn the_schema_change_topic_is_read_in_dmss_words() {
    let columns = json!([
        column("price", "DECIMAL UNSIGNED", Some(10), Some(2), 2),
        column("id", "BIGINT UNSIGNED", Some(20), None, 1),
        column("flag", "BIT", Some(1), None, 3),
        column("bits", "BIT", Some(9), None, 4),
        column("at", "DATETIME", Some(6), None, 5),
        column("note", "VARCHAR", Some(50), None, 6),
        column("odd", "HYPERCUBE", None, None, 7),
    ]);
    let change = |kind: &str, id: &str, columns: &Value| json!([{"type": kind, "id": id, "table": {"defaultCharsetName": "latin1", "primaryKeyColumnNames": ["id"], "columns": columns}}]);
    let created = tables(&change("CREATE", r#""shop"."or""ders""#, &columns), "CREATE TABLE …");
    let expected = json!({
        "table-def": {
            "columns": {
                "id": {"type": "UINT64", "nullable": false, "encoded": "unsigned"},
                "price": {"type": "NUMERIC", "precision": 10, "scale": 2, "nullable": true, "encoded": "decimal"},
                "flag": {"type": "BOOL", "nullable": true},
                "bits": {"type": "BYTES", "precision": 9, "scale": 0, "nullable": true, "encoded": "bits"},
                "at": {"type": "DATETIME", "nullable": true, "encoded": "timestamp-microseconds"},
                "note": {"type": "STRING", "nullable": true},
                "odd": {"type": "STRING", "nullable": true, "encoded": "untold"},
            },
            "primary-key": ["id"],
        },
        "debezium-read-from": "statement",
        "tells-encodings": true,
    });
    let [TableChange { table, operation: "create-table", definition: Some(definition) }] = created.as_slice() else {
        panic!("{created:?}");
    };
    assert_eq!((table.schema.as_str(), table.table.as_str()), ("shop", "or\"ders"));
    assert_eq!(serde_json::from_str::<Value>(definition).unwrap(), expected);
    let order: Vec<usize> =
        ["\"id\"", "\"price\"", "\"flag\"", "\"odd\""].iter().map(|name| definition.find(name).unwrap()).collect();
    assert!(order.is_sorted(), "{definition}");

    let operation = |ddl: &str| tables(&change("ALTER", r#""shop"."orders""#, &columns), ddl)[0].operation;
    assert_eq!(operation("ALTER TABLE orders ADD COLUMN n INT"), "change-columns");
    assert_eq!(operation("alter table orders rename column a to b"), "rename-column");
    assert_eq!(operation("ALTER TABLE orders CHANGE a b INT"), "rename-column");
    assert_eq!(operation("ALTER TABLE orders ADD COLUMN changed_at INT"), "change-columns");

    let dropped = tables(&json!([{"type": "DROP", "id": "\"shop\".\"orders\"", "table": null}]), "DROP TABLE orders");
    assert_eq!((dropped[0].operation, &dropped[0].definition), ("drop-table", &None));
    assert!(tables(&json!([]), "SET x = 1").is_empty());
    let mut renamed = change("ALTER", r#""shop"."new""#, &columns);
    renamed[0]["previousId"] = json!("\"shop\".\"old\"");
    let renamed = tables(&renamed, "RENAME TABLE old TO new");
    let names: Vec<_> = renamed.iter().map(|change| (change.table.table.as_str(), change.operation)).collect();
    assert_eq!(names, [("old", "rename-table"), ("new", "rename-table")]);
}

proptest! {
    /// Against numbers that are counted another way.
    #[test]
    fn decimals_keep_every_digit(unscaled in any::<i128>(), scale in 0_usize..40) {
        let bytes = unscaled.to_be_bytes();
        let encoded = format!("\"{}\"", STANDARD.encode(bytes));
        let text = decoded(&Encoding::Decimal(i64::try_from(scale).unwrap()), &encoded);
        let digits = text.replace('.', "");
        prop_assert_eq!(digits.parse::<i128>().unwrap(), unscaled);
        prop_assert_eq!(text.split_once('.').map_or(0, |(_, fraction)| fraction.len()), scale);
    }

    #[test]
    fn days_and_times_agree_with_jiff(micros in -62_135_596_800_000_000_i64..253_370_000_000_000_000) {
        let expected = jiff::Timestamp::from_microsecond(micros).unwrap();
        let text = decoded(&Encoding::Timestamp(Unit::Microseconds), &micros.to_string());
        let text = text.trim_matches('"');
        prop_assert_eq!(text.parse::<jiff::Timestamp>().unwrap(), expected);
        let day = decoded(&Encoding::Days, &micros.div_euclid(86_400_000_000).to_string());
        prop_assert_eq!(day.trim_matches('"'), text.split_once('T').unwrap().0);
    }

    #[test]
    fn bytes_are_what_they_were(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let text = decoded(&Encoding::Bytes, &format!("\"{}\"", STANDARD.encode(&bytes)));
        let digits = text.strip_prefix("\"0x").unwrap().strip_suffix('"').unwrap();
        let back: Vec<u8> = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
        prop_assert_eq!(back, bytes);
    }

    #[test]
    fn no_value_makes_it_panic(value in any::<String>(), scale in any::<i64>()) {
        use Encoding::{Bits, Bytes, Days, Decimal, Geometry, IsoWithZ, Json, List, Members, Text, Time, VariableScale, Wrapped};
        let quoted = Value::from(value.as_str()).to_string();
        for value in [value, quoted] {
            for encoding in [
                Text, Json, Bytes, Bits(Some(7)), Decimal(scale), VariableScale, Days, Time(Unit::Nanoseconds), IsoWithZ, Geometry, Wrapped,
                List(Box::new(Days)), Members(Vec::new(), Some(Box::new(Bytes))),
            ] {
                let _ = encoding.decode(&value, true);
            }
        }
    }
}
