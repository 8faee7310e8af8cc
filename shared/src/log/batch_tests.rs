#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use super::*;
use crate::kafka;
use crate::log::row::tests::Mirror;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use prost::Message as _;

const INGESTED_AT: i64 = 1_714_557_700_000_000;

fn everything() -> TableFilter {
    TableFilter::parse("*").unwrap()
}

/// An event of one partition as the poller makes it, offsets from 100.
fn event_of<V: AsRef<[u8]>>(values: &[V]) -> String {
    let records: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(index, value)| {
            format!(
                r#"{{"topic":"dms","partition":3,"offset":{},"timestamp":1,"value":"{}","headers":[]}}"#,
                100 + index,
                STANDARD.encode(value)
            )
        })
        .collect();
    raw_event(&records.join(","))
}

fn raw_event(records: &str) -> String {
    format!(r#"{{"eventSource":"aws:kafka","records":{{"dms-3":[{records}]}}}}"#)
}

fn batch_of(event: &str, filter: &TableFilter) -> LogBatch {
    let event = kafka::decode_event(event.as_bytes()).unwrap();
    let batch = LogBatch::from_event(&event, filter, INGESTED_AT);
    let tally = &batch.tally;
    let ends = [
        tally.loads,
        tally.inserts,
        tally.updates,
        tally.deletes,
        tally.controls,
        tally.poison,
        tally.dms_own,
        tally.debezium_own,
        tally.debezium_tombstones,
        tally.excluded,
    ];
    assert_eq!(ends.iter().sum::<u64>(), tally.records);
    let kept_out_records = tally.dms_own + tally.debezium_own + tally.debezium_tombstones + tally.excluded;
    assert_eq!(tally.records - kept_out_records + tally.definitions, u64::try_from(batch.rows.len()).unwrap());
    let kept_out: i64 = batch.kept_out.iter().map(|range| range.last - range.first + 1).sum();
    assert_eq!(u64::try_from(kept_out).unwrap(), kept_out_records);
    batch
}

fn row_of(row: &EncodedRow) -> Mirror {
    Mirror::decode(row.bytes.as_slice()).unwrap()
}

/// The only row of an event with this one value.
fn single(value: impl AsRef<[u8]>) -> Mirror {
    let batch = batch_of(&event_of(&[value]), &everything());
    assert_eq!(batch.rows.len(), 1);
    row_of(&batch.rows[0])
}

fn change(operation: &str, table: &str, data: &str) -> String {
    format!(
        r#"{{"data":{data},"metadata":{{"timestamp":"2024-05-01T10:00:00.000002Z","record-type":"data","operation":"{operation}","schema-name":"shop","table-name":"{table}","transaction-id":12884902388,"transaction-record-id":1,"commit-timestamp":"2024-05-01T09:59:59Z"}}}}"#
    )
}

#[test]
fn a_change_becomes_a_row_as_received() {
    let row = single(change("insert", "orders", r#"{"id": 1, "price": 1.50, "id": 2}"#));
    let expected = Mirror {
        source_schema: Some("shop".to_owned()),
        source_table: Some("orders".to_owned()),
        operation: Some("insert".to_owned()),
        position: Some("0000-2-m0000000003-0000000500-00000000000000000001".to_owned()),
        data: Some(r#"{"id": 1, "price": 1.50, "id": 2}"#.to_owned()),
        before: None,
        transaction_id: Some("12884902388".to_owned()),
        committed_at: Some(1_714_557_599_000_000),
        emitted_at: Some(1_714_557_600_000_002),
        kafka_topic: Some("dms".to_owned()),
        kafka_partition: Some(3),
        kafka_offset: Some(100),
        ingested_at: Some(INGESTED_AT),
        error: None,
    };
    assert_eq!(row, expected);
}

#[test]
fn every_record_is_counted_once() {
    let control = |table: &str| {
        format!(
            r#"{{"control":{{}},"metadata":{{"record-type":"control","operation":"drop-table","schema-name":"shop","table-name":"{table}"}}}}"#
        )
    };
    let values = [
        change("load", "orders", "{}"),
        change("insert", "orders", "{}"),
        change("update", "orders", "{}"),
        change("update", "orders", "{}"),
        change("delete", "orders", "{}"),
        control("orders"),
        control("awsdms_status"),
        change("insert", "awsdms_history", "{}"),
        change("insert", "secrets", "{}"),
        control("secrets"),
        // Broken, but known to be of a table that is left out.
        change("upsert", "secrets", "{}"),
        change("insert", "secrets", &format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200))),
        change("upsert", "orders", "{}"),
        "hello".to_owned(),
    ];
    let filter = TableFilter::parse("!shop.secrets").unwrap();
    let batch = batch_of(&event_of(&values), &filter);
    let bytes_in: usize = values.iter().map(String::len).sum();
    let bytes_out: usize = batch.rows.iter().map(|row| row.bytes.len()).sum();
    assert_eq!(
        batch.tally,
        Tally {
            records: 14,
            loads: 1,
            inserts: 1,
            updates: 2,
            deletes: 1,
            controls: 1,
            poison: 2,
            dms_own: 2,
            excluded: 4,
            debezium_own: 0,
            debezium_tombstones: 0,
            definitions: 0,
            tombstones: 0,
            withheld: 0,
            flagged: 0,
            bytes_in: u64::try_from(bytes_in).unwrap(),
            bytes_out: u64::try_from(bytes_out).unwrap(),
            newest_committed_at: Some(1_714_557_599_000_000),
        }
    );
    let offsets: Vec<i64> = batch.rows.iter().map(|row| row.item.offset).collect();
    assert_eq!(offsets, [100, 101, 102, 103, 104, 105, 112, 113]);
    assert_eq!(kept_out_of(&batch), [("dms-3", "dms", 3, 106, 107, "dms"), ("dms-3", "dms", 3, 108, 111, "excluded")]);
    for row in &batch.rows {
        assert_eq!((&*row.item.group, &*row.topic, row.partition), ("dms-3", "dms", 3));
        assert_eq!(row_of(row).kafka_offset, Some(row.item.offset));
    }
    let control = row_of(&batch.rows[5]);
    assert_eq!(control.operation.as_deref(), Some("drop-table"));
    assert_eq!(control.data.as_deref(), Some("{}"));
    assert!(control.position.unwrap().starts_with("0000-1-t0"));
    let broken = row_of(&batch.rows[6]);
    assert_eq!(broken.source_table.as_deref(), Some("orders"));
    assert!(broken.error.unwrap().contains("`operation`"));
}

#[test]
fn only_offsets_that_follow_each_other_are_kept_out_as_one_range() {
    let record = |topic: &str, partition: i64, offset: i64, table: &str| {
        let value = STANDARD.encode(change("insert", table, "{}"));
        format!(r#"{{"topic":"{topic}","partition":{partition},"offset":{offset},"value":"{value}"}}"#)
    };
    let (own, secret) = ("awsdms_status", "secrets");
    let lists = [
        // 11 was never delivered, and 13 is in the log.
        (
            "a-0",
            vec![("a", 0, 9, own), ("a", 0, 10, own), ("a", 0, 12, own), ("a", 0, 13, "orders"), ("a", 0, 14, own)],
        ),
        ("a-1", vec![("a", 1, 15, own), ("a", 1, 16, secret), ("a", 1, 17, secret), ("a", 1, 17, secret)]),
        ("b-1", vec![("b", 1, 18, secret), ("b", 1, i64::MAX, secret), ("b", 1, i64::MIN, secret)]),
    ];
    let groups: Vec<String> = lists
        .iter()
        .map(|(group, list)| {
            let list: Vec<String> = list.iter().map(|&(t, p, offset, table)| record(t, p, offset, table)).collect();
            format!("\"{group}\":[{}]", list.join(","))
        })
        .collect();
    let event = format!(r#"{{"eventSource":"aws:kafka","records":{{{}}}}}"#, groups.join(","));
    let batch = batch_of(&event, &TableFilter::parse("!shop.secrets").unwrap());
    assert_eq!(
        kept_out_of(&batch),
        [
            ("a-0", "a", 0, 9, 10, "dms"),
            ("a-0", "a", 0, 12, 12, "dms"),
            ("a-0", "a", 0, 14, 14, "dms"),
            ("a-1", "a", 1, 15, 15, "dms"),
            ("a-1", "a", 1, 16, 17, "excluded"),
            ("a-1", "a", 1, 17, 17, "excluded"),
            ("b-1", "b", 1, 18, 18, "excluded"),
            ("b-1", "b", 1, i64::MAX, i64::MAX, "excluded"),
            ("b-1", "b", 1, i64::MIN, i64::MIN, "excluded"),
        ]
    );
}

fn kept_out_of(batch: &LogBatch) -> Vec<(&str, &str, i64, i64, i64, &str)> {
    let ranges = batch.kept_out.iter();
    ranges.map(|r| (&*r.group, &*r.topic, r.partition, r.first, r.last, r.reason.as_str())).collect()
}

#[test]
fn poison_is_kept_with_its_reason() {
    let not_utf8 = [b'{', 0xFF, 0xFE];
    let deep = change("insert", "", &format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000)))
        .replace("\"shop\"", "\"\"");
    let cases: Vec<(Vec<u8>, &str, Option<String>)> = vec![
        (b"hello".to_vec(), "not JSON: syntax error at line 1 column 1", Some("hello".into())),
        (not_utf8.to_vec(), "not UTF-8", Some(STANDARD.encode(not_utf8))),
        (deep.clone().into_bytes(), "nested deeper than 128 levels", Some(deep)),
        (b"{}\0".to_vec(), "not JSON: syntax error at line 1 column 3", Some("{}\0".into())),
        (Vec::new(), "the record's value is empty", Some(String::new())),
        (br#"{"metadata":null}"#.to_vec(), "no `metadata`", Some(r#"{"metadata":null}"#.into())),
    ];
    for (value, reason, data) in cases {
        let row = single(&value);
        assert_eq!(row.operation.as_deref(), Some("poison"));
        assert_eq!(row.error.as_deref(), Some(reason));
        assert!(row.data == data, "{reason}");
        for empty in [row.source_schema, row.source_table, row.position] {
            assert_eq!(empty.as_deref(), Some(""));
        }
    }
}

#[test]
fn a_record_without_a_readable_value_is_poison_too() {
    let identity = r#""topic":"dms","partition":3,"offset""#;
    let records = format!(
        r#"{{{identity}:1,"value":null}},{{{identity}:2}},{{{identity}:3,"value":[1]}},{{{identity}:4,"value":"%%"}}"#
    );
    let batch = batch_of(&raw_event(&records), &everything());
    assert_eq!((batch.tally.poison, batch.tally.tombstones), (4, 2));
    let errors: Vec<(Option<String>, String)> = batch
        .rows
        .iter()
        .map(|row| {
            let row = row_of(row);
            (row.data, row.error.unwrap())
        })
        .collect();
    let no_value = (None, "the record has no value".to_owned());
    assert_eq!(
        errors,
        [
            no_value.clone(),
            no_value,
            (None, "the record's value is not text".to_owned()),
            (Some("%%".to_owned()), "the record's value is not base64".to_owned()),
        ]
    );
}

#[test]
fn unpadded_base64_is_taken() {
    for spaces in ["", " ", "  "] {
        let value = change("insert", "orders", r#"{"id":1}"#) + spaces;
        let padded = STANDARD.encode(&value);
        let event = event_of(&[&value]).replace(&padded, padded.trim_end_matches('='));
        assert_eq!(batch_of(&event, &everything()).tally.inserts, 1);
    }
}

#[test]
fn a_filter_leaves_out_no_record_of_an_unknown_table() {
    let filter = TableFilter::parse("shop.orders").unwrap();
    let unnamed = r#"{"metadata":{"record-type":"control","operation":"create-table"}}"#;
    let batch = batch_of(&event_of(&["hello", "{}", unnamed]), &filter);
    assert_eq!((batch.tally.poison, batch.tally.controls), (2, 1));
}

#[test]
fn a_surrogate_pair_is_written_out_and_half_a_pair_is_flagged() {
    let row = single(change("insert", "orders", r#"{"a":"\ud83d\ude00"}"#));
    assert_eq!(row.data.as_deref(), Some("{\"a\":\"\u{1f600}\"}"));
    assert_eq!(row.error, None);

    let data = r#"{"a":"\ud83d\ude00","b":"\ud83d"}"#;
    let batch = batch_of(&event_of(&[change("update", "orders", data)]), &everything());
    assert_eq!((batch.tally.updates, batch.tally.flagged, batch.tally.poison), (1, 1, 0));
    let row = row_of(&batch.rows[0]);
    assert_eq!(row.operation.as_deref(), Some("update"));
    assert_eq!(row.data.as_deref(), Some(data));
    assert_eq!(row.error.as_deref(), Some("lone surrogate in column \"b\""));
    assert!(row.position.unwrap().starts_with("0000-2-m"));

    let before = change("update", "orders", "{}").replacen("{\"data\"", r#"{"before-image":{"k":"\udc00"},"data""#, 1);
    let row = single(before);
    assert_eq!(row.error.as_deref(), Some("lone surrogate in column \"k\" of the before-image"));
    assert_eq!(row.before.as_deref(), Some(r#"{"k":"\udc00"}"#));

    let control = r#"{"control":{"table-def":"\ud83d"},"metadata":{"record-type":"control","operation":"x"}}"#;
    let row = single(control);
    assert_eq!(row.operation.as_deref(), Some("x"));
    assert_eq!(row.error.as_deref(), Some("lone surrogate in the control record"));
}

#[test]
fn large_values_are_kept_up_to_what_a_row_can_hold() {
    let five_megabytes = "x".repeat(5_000_000);
    let data = format!(r#"{{"id":1,"lob":"{five_megabytes}"}}"#);
    let row = single(change("insert", "orders", &data));
    assert!(row.data.as_deref() == Some(data.as_str()));

    let too_large = vec![b' '; MAX_VALUE_BYTES + 1];
    let row = single(too_large);
    assert_eq!(row.operation.as_deref(), Some("poison"));
    assert_eq!(row.data, None);
    assert!(row.error.unwrap().contains("9000001 bytes"));

    // 8 MB as bytes, more than 9 as base64.
    let row = single(vec![0xFF_u8; 8_000_000]);
    assert_eq!(row.data, None);
    assert_eq!(row.error.as_deref(), Some("not UTF-8; too large to be kept"));
}

#[test]
fn the_order_of_the_records_is_kept_across_partitions() {
    let record = |topic: &str, partition: i64, offset: i64| {
        format!(r#"{{"topic":"{topic}","partition":{partition},"offset":{offset}}}"#)
    };
    let event = format!(
        r#"{{"eventSource":"SelfManagedKafka","records":{{"b-1":[{}],"a-0":[{},{}]}}}}"#,
        record("b", 1, 5),
        record("a", 0, 9),
        record("a", 0, 10)
    );
    let batch = batch_of(&event, &everything());
    let identities: Vec<(&str, &str, i64, i64)> =
        batch.rows.iter().map(|row| (&*row.item.group, &*row.topic, row.partition, row.item.offset)).collect();
    assert_eq!(identities, [("b-1", "b", 1, 5), ("a-0", "a", 0, 9), ("a-0", "a", 0, 10)]);
}

proptest! {
    /// Whatever the bytes, every record has one row, and poison keeps what was received.
    #[test]
    fn nothing_is_lost(values in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
        let batch = batch_of(&event_of(&values), &everything());
        prop_assert_eq!(batch.rows.len(), values.len());
        for (row, value) in batch.rows.iter().zip(&values) {
            let kept = row_of(row).data.unwrap();
            let decoded = STANDARD.decode(&kept).unwrap_or_default();
            prop_assert!(kept.as_bytes() == value || &decoded == value);
        }
    }
}

const MASK_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn masked(mask: &str, values: &[String]) -> LogBatch {
    let key = crate::mask::MaskKey::from_secret(MASK_KEY).unwrap();
    let mut masker = Masker::new(crate::mask::MaskRules::parse(mask).unwrap(), Some(key)).unwrap();
    let event = event_of(values);
    let event = kafka::decode_event(event.as_bytes()).unwrap();
    LogBatch::masked(&event, &everything(), Some(&mut masker), &mut Schemas::default(), INGESTED_AT)
}

/// Every record of an event in which each value holds the word, in whatever is wrong with it.
#[test]
fn no_masked_value_and_no_undecodable_byte_is_in_a_row() {
    let with_before = |data: &str, before: &str| {
        change("update", "users", data).replacen(
            "},\"metadata\"",
            &format!("}},\"before-image\":{before},\"metadata\""),
            1,
        )
    };
    let values = [
        change("load", "users", r#"{"id":1,"email":"PLANTED","card":41119999}"#),
        change(
            "insert",
            "users",
            r#"{"id":"PLANTED","EMAIL":"PLANTED","c\u0061rd":"PLANTED","note":{"email":"stays"}}"#,
        ),
        with_before(
            r#"{"id":2,"BI_id":"PLANTED","email":{"deep":["PLANTED"]}}"#,
            r#"{"id":"PLANTED","email":"PLANTED"}"#,
        ),
        change("delete", "users", r#"{"id":"PLANTED","email":"PLANTED","email":"PLANTED"}"#),
        // Half a pair: in a hashed value, in a redacted one, and beside them.
        change("insert", "users", r#"{"id":"PLANTED\ud83d","email":"PLANTED"}"#),
        change("insert", "users", r#"{"id":1,"email":"PLANTED\ud83d"}"#),
        change("insert", "users", r#"{"id":1,"email":"PLANTED","note":"\ud83d"}"#),
        // A name that cannot be read could be any column's.
        change("insert", "users", r#"{"id":1,"email\ud83d":"PLANTED"}"#),
        // What cannot be decoded, of whatever table.
        change("upsert", "users", r#"{"email":"PLANTED"}"#),
        change("upsert", "orders", r#"{"email":"PLANTED"}"#),
        change("insert", "users", &format!(r#"{{"a":{}"PLANTED"{}}}"#, "[".repeat(200), "]".repeat(200))),
        "PLANTED".to_owned(),
        format!("{}\u{7f}PLANTED", change("insert", "users", "{}")),
        String::new(),
    ];
    let batch = masked("shop.users.id=hash,shop.users.email=redact,shop.users.card=drop", &values);
    for row in &batch.rows {
        let text = String::from_utf8_lossy(&row.bytes);
        assert!(!text.contains("PLANTED") && !text.contains("41119999") && !text.contains("UExBTlRF"), "{text}");
    }
    let rows: Vec<Mirror> = batch.rows.iter().map(row_of).collect();
    assert_eq!(rows.len(), values.len(), "every record has its row");
    let hash = |value: &str| crate::mask::MaskKey::from_secret(MASK_KEY).unwrap().hash(value).unwrap();
    let (one, planted) = (hash("1"), hash("\"PLANTED\""));
    assert_eq!(rows[0].data.as_deref(), Some(format!(r#"{{"id":"{one}","email":"redacted"}}"#).as_str()));
    let expected = format!(r#"{{"id":"{planted}","EMAIL":"redacted","note":{{"email":"stays"}}}}"#);
    assert_eq!(rows[1].data.as_deref(), Some(expected.as_str()));
    assert_eq!(rows[2].before.as_deref(), Some(format!(r#"{{"id":"{planted}","email":"redacted"}}"#).as_str()));
    let lone_in_id = "lone surrogate in column \"id\"";
    let errors: Vec<Option<&str>> = rows[4..7].iter().map(|row| row.error.as_deref()).collect();
    assert_eq!(errors, [Some(lone_in_id), None, Some("lone surrogate in column \"note\"")]);

    let withheld: Vec<i64> = batch.withheld.iter().map(|item| item.offset).collect();
    assert_eq!(withheld, [107, 108, 109, 110, 111, 112]);
    for row in &rows[7..13] {
        assert_eq!((row.operation.as_deref(), &row.data, &row.before), (Some("poison"), &None, &None));
        assert!(row.error.as_deref().unwrap().ends_with("its bytes stay in AWS, because STRAIT_MASK is set"));
    }
    // Without bytes there are none to be kept.
    assert_eq!(rows[13].error.as_deref(), Some("the record's value is empty"));
    assert_eq!((batch.tally.poison, batch.tally.withheld, batch.tally.records), (7, 6, 14));
    assert_eq!(batch.tally.inserts, 4, "what is withheld is no insert");
}

#[test]
fn masks_of_other_tables_change_no_row() {
    let values =
        [change("insert", "orders", r#"{"email":"\ud83d\ude00","card": 1.50}"#), change("load", "orders", "{}")];
    let plain = batch_of(&event_of(&values), &everything());
    assert_eq!(masked("shop.users.email=hash,other.orders.card=drop", &values), plain);
}

/// A record of Debezium's with a key.
fn captured_event(key: &str, value: &str) -> String {
    raw_event(&format!(
        r#"{{"topic":"dbz","partition":3,"offset":100,"timestamp":1,"key":"{}","value":"{}","headers":[]}}"#,
        STANDARD.encode(key),
        STANDARD.encode(value)
    ))
}

#[test]
fn a_delete_whose_key_cannot_be_told_is_no_change_whatever_else_is_wrong_with_it() {
    let source = r#""source":{"connector":"mysql","db":"shop","table":"orders","file":"b.000003","pos":500,"row":1}"#;
    // Without a schema nothing is told, and half a surrogate pair in another column does not hide that.
    let event = format!(r#"{{"before":{{"id":"AQ==","note":"\ud83d"}},"after":null,"op":"d",{source}}}"#);
    let batch = batch_of(&captured_event(r#"{"id":"AQ=="}"#, &event), &everything());
    assert_eq!(row_of(batch.rows.last().unwrap()).error.as_deref(), Some(WITHOUT_SCHEMA));
    // A fault of the key's own column is the record's; one of another column leaves the delete what it is.
    let schema = r#"{"type":"struct","fields":[{"type":"struct","field":"before","fields":[{"type":"bytes","field":"id"},{"type":"bytes","field":"note"}]}]}"#;
    for (id, note, operation) in [("!", "AQ==", "poison"), ("AQ==", "!", "delete")] {
        let event = format!(
            r#"{{"schema":{schema},"payload":{{"before":{{"id":"{id}","note":"{note}"}},"after":null,"op":"d",{source}}}}}"#
        );
        let batch = batch_of(&captured_event(&format!(r#"{{"id":"{id}"}}"#), &event), &everything());
        let row = row_of(batch.rows.last().unwrap());
        assert_eq!(row.operation.as_deref(), Some(operation));
        let column = if operation == "poison" { "id" } else { "note" };
        assert_eq!(row.error.as_deref(), Some(format!("column \"{column}\": the value is not base64").as_str()));
    }
}

/// A value as both tools send it: a column's schema, Debezium's value, DMS's.
fn captured_value() -> impl Strategy<Value = (serde_json::Value, String, String)> {
    use serde_json::{Value, json};
    let field = |kind: &str, name: &str| {
        if name.is_empty() { json!({"type": kind}) } else { json!({"type": kind, "name": name}) }
    };
    let base64 = |bytes: &[u8]| format!("\"{}\"", STANDARD.encode(bytes));
    let time = |micros: i64| jiff::Timestamp::from_microsecond(micros).unwrap();
    let with_scale = |scale: usize| json!({"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": scale.to_string()}});
    // Not near enough to zero for fewer digits than there are before the point.
    let decimal =
        (10_i64.pow(12)..i64::MAX, any::<bool>(), 1_usize..12).prop_map(move |(number, is_negative, scale)| {
            let unscaled = if is_negative { -number } else { number };
            let mut digits = number.to_string();
            digits.insert(digits.len() - scale, '.');
            (
                with_scale(scale),
                base64(&unscaled.to_be_bytes()),
                format!("{}{digits}", if is_negative { "-" } else { "" }),
            )
        });
    let micros = || -62_135_596_800_000_000_i64..253_370_000_000_000_000;
    let shown = move |micros: i64| {
        let time = time(micros);
        let fraction =
            if micros.rem_euclid(1_000_000) == 0 { String::new() } else { time.strftime(".%6f").to_string() };
        format!("\"{}{fraction}Z\"", time.strftime("%Y-%m-%dT%H:%M:%S"))
    };
    prop_oneof![
        any::<i64>().prop_map(move |number| (field("int64", ""), number.to_string(), number.to_string())),
        any::<bool>().prop_map(move |is_so| (field("boolean", ""), is_so.to_string(), is_so.to_string())),
        any::<String>().prop_map(move |text| {
            let text = Value::from(text).to_string();
            (field("string", ""), text.clone(), text)
        }),
        prop::collection::vec(any::<u8>(), 0..30).prop_map(move |bytes| {
            let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            (field("bytes", ""), base64(&bytes), format!("\"0x{hexadecimal}\""))
        }),
        decimal,
        micros().prop_map(move |micros| (
            field("int64", "io.debezium.time.MicroTimestamp"),
            micros.to_string(),
            shown(micros)
        )),
        micros().prop_map(move |micros| {
            let days = micros.div_euclid(86_400_000_000);
            let day = time(days * 86_400_000_000).strftime("%Y-%m-%d").to_string();
            (field("int32", "io.debezium.time.Date"), days.to_string(), format!("\"{day}\""))
        }),
        Just((field("int32", "io.debezium.time.Date"), "null".to_owned(), "null".to_owned())),
    ]
}

proptest! {
    /// The same row, sent by the one tool and by the other, is the same text in the log.
    #[test]
    fn a_row_of_debeziums_is_what_dms_would_have_sent(
        values in prop::collection::vec(captured_value(), 1..6),
        operation in prop_oneof![Just(("c", "insert")), Just(("u", "update")), Just(("d", "delete"))],
        has_pair in any::<bool>(),
    ) {
        let columns = || (0..values.len()).map(|place| if has_pair { format!("c{place} \u{1f600}") } else { format!("c{place}") });
        let image = |of: &dyn Fn(&(serde_json::Value, String, String)) -> String| {
            let members: Vec<String> = columns().zip(&values).map(|(name, value)| format!("{}:{}", serde_json::Value::from(name), of(value))).collect();
            format!("{{{}}}", members.join(","))
        };
        let fields: Vec<serde_json::Value> = columns()
            .zip(&values)
            .map(|(name, (field, ..))| {
                let mut field = field.clone();
                field["field"] = name.into();
                field
            })
            .collect();
        let schema = serde_json::json!({"type": "struct", "fields": [{"type": "struct", "fields": fields, "field": "after"}]});
        let (captured, sent) = (image(&|(_, captured, _)| captured.clone()), image(&|(.., sent)| sent.clone()));
        let (before, after) = if operation.0 == "d" { (captured.as_str(), "null") } else { ("null", captured.as_str()) };
        let event = format!(
            r#"{{"schema":{schema},"payload":{{"before":{before},"after":{after},"op":"{}","ts_us":1714557600000002,"source":{{"connector":"mysql","db":"shop","table":"orders","ts_us":1714557599000000,"file":"b.000003","pos":500,"row":1}}}}}}"#,
            operation.0
        );
        let batch = batch_of(&event_of(&[event]), &everything());
        prop_assert_eq!(batch.tally.definitions, 1);
        let of_debezium = row_of(batch.rows.last().unwrap());
        let of_dms = single(change(operation.1, "orders", &sent));
        prop_assert_eq!(&of_debezium.data, &of_dms.data);
        prop_assert_eq!(&of_debezium, &Mirror { transaction_id: None, ..of_dms });
    }
}
