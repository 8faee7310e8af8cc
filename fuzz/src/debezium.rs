//! Debezium's records: whatever a record looks like, it becomes rows or is kept out and counted, what is put into a row is JSON whose
//! members are the image's own, and no word of a record is in a reason.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use strait::config::{TableFilter, WithoutSchema};
use strait::debezium::schema::TableSchema;
use strait::debezium::{self, Event, NormalisedImage, Schemas, normalise, normalise_without_schema};
use strait::dms::{self, Record};
use strait::json_text::{self, EditError};
use strait::kafka;
use strait::log::LogBatch;

use crate::independent_json::{Reading, member_names, read};

pub const WORDS: &[&str] = &[
    "{\"schema\":{\"type\":\"struct\",\"fields\":[",
    "\"payload\":{",
    "\"before\":{",
    "\"after\":{\"id\":",
    "\"source\":{",
    "\"connector\":\"mysql\"",
    "\"connector\":\"postgresql\"",
    "\"snapshot\":\"first\"",
    "\"snapshot\":\"incremental\"",
    "\"file\":\"bin.000004\"",
    "\"pos\":",
    "\"lsn\":",
    "\"op\":\"c\"",
    "\"op\":\"d\"",
    "\"op\":\"t\"",
    "\"ts_ms\":1714557600000",
    "\"type\":\"bytes\"",
    "\"type\":\"int64\"",
    "\"name\":\"io.debezium.time.MicroTimestamp\"",
    "\"name\":\"org.apache.kafka.connect.data.Decimal\"",
    "\"name\":\"io.debezium.data.VariableScaleDecimal\"",
    "\"name\":\"io.debezium.data.Bits\"",
    "\"parameters\":{\"scale\":\"-9223372036854775808\"}",
    "\"__debezium_unavailable_value\"",
    "\"tableChanges\":[{\"type\":\"ALTER\",\"id\":\"\\\"a\\\".\\\"b\\\"\",\"table\":{\"columns\":[",
    "\"status\":\"BEGIN\",\"id\":\"1\",\"event_count\":null",
    "9223372036854775807",
    "\"AP8=\"",
    "\"\\ud83d\"",
    "null",
    "[[[[[[[[",
    "}",
    PLANTED,
];

/// What no reason may hold.
const PLANTED: &str = "HUSH";

pub fn check(input: &[u8]) {
    is_accounted_for(input);
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match dms::decode(text) {
        Ok(Record::Debezium(Event::Change(change))) => {
            assert!(!matches!(read(input), Reading::Not), "what is no JSON was taken");
            assert!(!change.source.table.is_empty());
            assert!([change.before, change.after].into_iter().flatten().all(json_text::is_within_depth));
            let schema = change.schema.and_then(TableSchema::of_event);
            for image in [change.before, change.after].into_iter().flatten() {
                let may_be_partial = change.source.may_be_partial;
                is_normalised(image, normalise_without_schema(image, may_be_partial));
                if let Some(schema) = &schema {
                    is_normalised(image, normalise(image, schema, may_be_partial));
                }
            }
        }
        Ok(Record::Debezium(Event::Tables { tables, .. })) => {
            for table in tables {
                assert!(
                    table.definition.is_none_or(|definition| matches!(read(definition.as_bytes()), Reading::Value(_)))
                );
            }
        }
        Ok(_) => {}
        Err(error) => assert!(!format!("{error} {:?}", error.kind).contains(PLANTED), "{error:?}"),
    }
}

/// Every member that the image has is in what it becomes, once and in its place, unless its value was not sent.
fn is_normalised(image: &str, normalised: Result<NormalisedImage<'_>, EditError>) {
    let Ok(normalised) = normalised else {
        return;
    };
    let (before, after) = (member_names(image), member_names(&normalised.text));
    match (before, after) {
        (Some(before), Some(after)) if normalised.is_partial => {
            let mut rest = before.iter();
            assert!(after.iter().all(|name| rest.any(|other| other == name)), "{} became {}", image, normalised.text);
        }
        (before, after) => assert_eq!(before, after, "{} became {}", image, normalised.text),
    }
    assert!(!matches!(read(normalised.text.as_bytes()), Reading::Not), "{}", normalised.text);
    let null_members = |text: &str| -> Option<BTreeMap<String, bool>> {
        let value: Value = serde_json::from_str(text).ok()?;
        Some(value.as_object()?.iter().map(|(name, value)| (name.clone(), value.is_null())).collect())
    };
    // NULL stays NULL, and nothing becomes it.
    if let (Some(before), Some(after)) = (null_members(image), null_members(&normalised.text)) {
        for (name, is_null) in after {
            assert_eq!(before.get(&name), Some(&is_null), "{} became {}", image, normalised.text);
        }
    }
    let again = debezium::changed_members(&normalised.text, &normalised.text).unwrap();
    assert_eq!(again.trim_matches(|c: char| "{}".contains(c) || c.is_whitespace()), "");
}

/// With the record as its own key, too: keys come from outside as well.
fn is_accounted_for(input: &[u8]) {
    let encoded = STANDARD.encode(input);
    let record = |offset: u8, key: &str| {
        format!(r#"{{"topic":"t","partition":0,"offset":{offset},"timestamp":1,"key":{key},"value":"{encoded}"}}"#)
    };
    let records = [record(0, "null"), record(1, &format!("\"{encoded}\"")), record(2, "\"eyJpZCI6MX0=\"")];
    let body = format!(r#"{{"eventSource":"aws:kafka","records":{{"t-0":[{}]}}}}"#, records.join(","));
    let event = kafka::decode_event(body.as_bytes()).unwrap();
    for without in [WithoutSchema::Quarantine, WithoutSchema::SelfDescribing] {
        let mut schemas = Schemas::new(without);
        let batch = LogBatch::masked(&event, &TableFilter::parse("*,!x.y").unwrap(), None, &mut schemas, 0);
        is_each_accounted_for(&batch);
    }
}

fn is_each_accounted_for(batch: &LogBatch) {
    let tally = &batch.tally;
    let kept_out = tally.dms_own + tally.debezium_own + tally.debezium_tombstones + tally.excluded;
    let rows = tally.loads + tally.inserts + tally.updates + tally.deletes + tally.controls + tally.poison;
    assert_eq!((tally.records, rows + kept_out), (3, 3));
    assert!(u64::try_from(batch.rows.len()).unwrap() >= rows + tally.definitions);
    let ranges: i64 = batch.kept_out.iter().map(|range| range.last - range.first + 1).sum();
    assert_eq!(u64::try_from(ranges).unwrap(), kept_out);
}
