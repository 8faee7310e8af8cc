#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may fail by panicking.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::json;
use tonic::Code;

use super::*;
use crate::bigquery::auth::NoToken;
use crate::bigquery::fakes::{AppendFault, FakeRest, FakeWrite, far, soon};
use crate::log::kept_out;
use crate::log::row::tests::Mirror;

struct Bench {
    write: FakeWrite,
    rest: FakeRest,
    handler: IngestHandler,
}

async fn bench(faults: impl IntoIterator<Item = AppendFault>) -> Bench {
    bench_with(faults, "").await
}

async fn bench_with(faults: impl IntoIterator<Item = AppendFault>, mask: &str) -> Bench {
    let write = FakeWrite::start(faults).await;
    let rest = FakeRest::start([]).await;
    let vars = [
        ("STRAIT_PROJECT", "demo-project"),
        ("STRAIT_LOG_RETENTION_DAYS", "7"),
        ("STRAIT_TABLES", "!shop.secrets"),
        ("STRAIT_MASK", mask),
        ("STRAIT_BIGQUERY_REST_URL", rest.url.as_str()),
        ("STRAIT_BIGQUERY_GRPC_URL", write.url.as_str()),
    ];
    let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::from_vars(vars).unwrap();
    let connections = Connections {
        rest: BigQuery::new(&rest.url, "demo-project", "EU", Arc::new(NoToken)).await.unwrap(),
        appends: AppendClient::new(&write.url, Arc::new(NoToken)).unwrap(),
    };
    let handler = IngestHandler::new(&config, connections, None).unwrap();
    Bench { write, rest, handler }
}

/// An event with one insert for each `(partition, offset, name)`; a row whose name has `BAD` in it is refused.
fn event(records: &[(i64, i64, &str)]) -> Vec<u8> {
    let records: Vec<_> =
        records.iter().map(|&(partition, offset, name)| ("changes", partition, offset, "orders", name)).collect();
    event_of(&records)
}

/// An event with one insert for each `(topic, partition, offset, table, name)`.
fn event_of(records: &[(&str, i64, i64, &str, &str)]) -> Vec<u8> {
    let mut groups = serde_json::Map::new();
    for (topic, partition, offset, table, name) in records {
        let message = json!({
            "data": {"id": offset, "name": name},
            "metadata": {"record-type": "data", "operation": "insert", "schema-name": "shop",
                "table-name": table, "transaction-id": 5, "timestamp": "2024-05-01T10:00:00.000000Z",
                "commit-timestamp": "2024-05-01T10:00:00.000000Z"}
        });
        let record = json!({"topic": topic, "partition": partition, "offset": offset, "timestamp": 1,
            "timestampType": "CREATE_TIME", "headers": [], "value": STANDARD.encode(message.to_string())});
        let group = groups.entry(format!("{topic}-{partition}")).or_insert_with(|| json!([]));
        group.as_array_mut().unwrap().push(record);
    }
    json!({"eventSource": "aws:kafka", "bootstrapServers": "b:9098", "records": groups}).to_string().into_bytes()
}

fn until(deadline: Instant) -> Invocation {
    Invocation { request_id: "r".into(), deadline, function_name: "ingest".into() }
}

fn log_rows(bench: &Bench) -> Vec<Mirror> {
    let rows = bench.write.written_bytes();
    // A noted range does not decode: its second field is a number.
    rows.iter().filter_map(|row| Mirror::decode(row.as_slice()).ok()).collect()
}

/// What is noted: topic, partition, first and last offset, reason.
fn noted(bench: &Bench) -> Vec<(String, i64, i64, i64, String)> {
    let rows = bench.write.written_bytes();
    let rows = rows.iter().filter_map(|row| kept_out::Row::decode(row.as_slice()).ok());
    rows.map(|row| (row.kafka_topic, row.kafka_partition, row.first_offset, row.last_offset, row.reason)).collect()
}

fn failed(records: &[(&str, i64)]) -> serde_json::Value {
    let items = records.iter().map(|(group, offset)| json!({"itemIdentifier": {"partition": group, "offset": offset}}));
    json!({"batchItemFailures": items.collect::<Vec<_>>()})
}

fn offsets(bench: &Bench) -> Vec<i64> {
    log_rows(bench).into_iter().filter_map(|row| row.kafka_offset).collect()
}

#[tokio::test]
async fn every_record_is_in_the_log_and_the_answer_is_empty() {
    let bench = bench([]).await;
    let event = event(&[(0, 1, "a"), (0, 2, "b"), (1, 9, "c")]);
    let response = bench.handler.handle(&event, &until(far())).await.unwrap();
    assert_eq!(serde_json::to_string(&response).unwrap(), r#"{"batchItemFailures":[]}"#);
    assert_eq!(offsets(&bench), [1, 2, 9]);
    assert_eq!(bench.write.seen()[0].stream, "projects/demo-project/datasets/cdc/tables/log/streams/_default");
}

#[tokio::test]
async fn an_event_without_records_calls_nobody() {
    let bench = bench([]).await;
    let response = bench.handler.handle(&event(&[]), &until(far())).await.unwrap();
    assert_eq!(response, Response::default());
    assert!(bench.write.seen().is_empty() && bench.rest.paths().is_empty());
}

#[tokio::test]
async fn what_is_no_kafka_event_is_an_error_that_says_so() {
    let bench = bench([]).await;
    for body in ["", "{}", r#"{"source":"aws.events"}"#] {
        let error = bench.handler.handle(body.as_bytes(), &until(far())).await.unwrap_err();
        assert_eq!(error.error_type(), "InvalidEvent");
        assert!(error.message().contains("What to do"));
    }
}

#[tokio::test]
async fn a_refused_row_becomes_poison_and_does_not_hold_its_partition_up() {
    let bench = bench([]).await;
    let body = event(&[(0, 1, "a"), (0, 2, "b"), (0, 3, "c")]);
    let event = kafka::decode_event(&body).unwrap();
    let mut batch = LogBatch::from_event(&event, &bench.handler.filter, 1);
    // As far as is known BigQuery refuses nothing that the decoder makes: so one row is changed behind it, in a column
    // that a poison row does not keep.
    let mut bad = Mirror::decode(batch.rows[1].bytes.as_slice()).unwrap();
    bad.transaction_id = Some("BAD".to_owned());
    batch.rows[1].bytes = bad.encode_to_vec();

    let rows: Vec<&[u8]> = batch.rows.iter().map(|row| row.bytes.as_slice()).collect();
    let mut appended = bench.handler.append(&bench.handler.log, &rows, far()).await;
    assert_eq!(bench.handler.poison_refused(&batch.rows, &mut appended, far()).await, 1);
    assert!(given_back(&batch.rows, &appended.outcomes).is_empty());
    let rows = log_rows(&bench);
    assert_eq!(offsets(&bench), [1, 3, 2]);
    let poison = rows.last().unwrap();
    assert_eq!(poison.operation.as_deref(), Some("poison"));
    assert_eq!(poison.position.as_deref(), Some(""));
    assert_eq!(poison.error.as_deref(), Some("BigQuery refused the row: FIELDS_ERROR"));
    assert_eq!(poison.data, bad.data);
    assert_eq!((&poison.source_schema, &poison.source_table), (&bad.source_schema, &bad.source_table));
    assert_eq!(poison.ingested_at, bad.ingested_at);
    assert_eq!((&poison.transaction_id, &poison.before, poison.committed_at), (&None, &None, None));
}

#[tokio::test]
async fn a_row_that_is_refused_as_poison_too_is_given_back_alone() {
    let bench = bench([]).await;
    let event = event(&[(0, 1, "a"), (0, 2, "BAD"), (1, 3, "c")]);
    let response = bench.handler.handle(&event, &until(far())).await.unwrap();
    assert_eq!(
        serde_json::to_value(&response).unwrap(),
        json!({"batchItemFailures": [{"itemIdentifier": {"partition": "changes-0", "offset": 2}}]})
    );
    assert_eq!(offsets(&bench), [1, 3]);
}

#[tokio::test]
async fn a_missing_log_is_made_with_its_retention_and_appended_to_once_it_is_seen() {
    // Appends do not see a new table at once.
    let missing = AppendFault::Status(Code::NotFound, "no table");
    let bench = bench([missing, missing, missing]).await;
    let response = bench.handler.handle(&event(&[(0, 1, "a")]), &until(far())).await.unwrap();
    assert_eq!(response, Response::default());
    assert_eq!(offsets(&bench), [1]);
    let table = bench.rest.tables()["cdc.log"].clone();
    assert_eq!(table["timePartitioning"]["expirationMs"], (7 * 86_400_000_i64).to_string());
    assert_eq!(table["schema"]["fields"].as_array().unwrap().len(), LOG.columns.len());
    let creations = bench.rest.paths().into_iter().filter(|path| path.ends_with("/tables")).count();
    assert_eq!(creations, 2, "once without its dataset, once with it");
}

#[tokio::test]
async fn a_denial_that_may_hide_a_missing_table_is_checked_and_a_real_one_reported() {
    let denied = AppendFault::Status(Code::PermissionDenied, "Permission 'X' denied on 'T' (or it may not exist).");
    let missing = bench([denied]).await;
    missing.handler.handle(&event(&[(0, 1, "a")]), &until(far())).await.unwrap();
    assert_eq!(offsets(&missing), [1]);

    let forbidden = bench([denied]).await;
    forbidden.rest.add_dataset("cdc");
    forbidden.rest.add_table("cdc.log", json!({}));
    let error = forbidden.handler.handle(&event(&[(0, 1, "a")]), &until(far())).await.unwrap_err();
    assert_eq!(error.error_type(), "BigQueryPermissionDenied");
    for part in ["cdc.log", "What to do: grant"] {
        assert!(error.message().contains(part), "{}", error.message());
    }
}

#[tokio::test]
async fn a_batch_that_cannot_be_written_at_all_is_an_error_within_the_deadline() {
    let bench = bench([AppendFault::Status(Code::Unavailable, "x"); 200]).await;
    let deadline = soon();
    let error = bench.handler.handle(&event(&[(0, 1, "a")]), &until(deadline)).await.unwrap_err();
    assert_eq!(error.error_type(), "BigQueryDeadlinePassed");
    assert!(Instant::now() < deadline + Duration::from_millis(500));
    assert!(bench.write.written().is_empty());
}

#[tokio::test]
async fn when_the_second_request_fails_exactly_its_records_are_given_back() {
    let big = "x".repeat(5_000_000);
    let records = [(0, 1, "a"), (0, 2, big.as_str()), (0, 3, big.as_str()), (1, 4, "d")];
    let bench = bench([AppendFault::Pass, AppendFault::Status(Code::InvalidArgument, "no")]).await;
    let response = bench.handler.handle(&event(&records), &until(far())).await.unwrap();
    assert_eq!(
        serde_json::to_value(&response).unwrap(),
        json!({"batchItemFailures": [
            {"itemIdentifier": {"partition": "changes-0", "offset": 3}},
            {"itemIdentifier": {"partition": "changes-1", "offset": 4}}
        ]})
    );
    assert_eq!(offsets(&bench), [1, 2]);
}

/// Of `changes-0`: 1 of an excluded table, 2 and 4 of a replicated one, 3 of DMS's own; 5 and 6 of `changes-1` excluded.
fn mixed() -> Vec<u8> {
    event_of(&[
        ("changes", 0, 1, "secrets", "s"),
        ("changes", 0, 2, "orders", "a"),
        ("changes", 0, 3, "awsdms_status", "s"),
        ("changes", 0, 4, "orders", "b"),
        ("changes", 1, 5, "secrets", "s"),
        ("changes", 1, 6, "secrets", "s"),
    ])
}

fn mixed_notes() -> [(String, i64, i64, i64, String); 3] {
    [(0, 1, 1, "excluded"), (0, 3, 3, "dms"), (1, 5, 6, "excluded")]
        .map(|(partition, first, last, reason)| ("changes".to_owned(), partition, first, last, reason.to_owned()))
}

#[tokio::test]
async fn what_is_kept_out_of_the_log_is_noted_in_one_request_beside_it() {
    let bench = bench([]).await;
    let response = bench.handler.handle(&mixed(), &until(far())).await.unwrap();
    assert_eq!(response, Response::default());
    assert_eq!(offsets(&bench), [2, 4]);
    assert_eq!(noted(&bench), mixed_notes());
    let mut streams: Vec<(String, usize)> =
        bench.write.seen().into_iter().map(|append| (append.stream, append.rows)).collect();
    streams.sort();
    let stream = |table: &str| format!("projects/demo-project/datasets/cdc/tables/{table}/streams/_default");
    assert_eq!(streams, [(stream("log"), 2), (stream("log_kept_out"), 3)]);
    let ingested_at: BTreeSet<Option<i64>> = log_rows(&bench).into_iter().map(|row| row.ingested_at).collect();
    let rows = bench.write.written_bytes();
    let noted_at: BTreeSet<Option<i64>> =
        rows.iter().filter_map(|row| Some(Some(kept_out::Row::decode(row.as_slice()).ok()?.ingested_at))).collect();
    assert_eq!(noted_at, ingested_at);
}

#[tokio::test]
async fn a_range_that_is_not_noted_is_given_back_record_by_record() {
    let bench = bench([]).await;
    let event = event_of(&[
        ("BAD", 0, 7, "secrets", "s"),
        ("BAD", 0, 8, "secrets", "s"),
        ("changes", 0, 1, "orders", "a"),
        ("changes", 0, 2, "secrets", "s"),
    ]);
    let response = bench.handler.handle(&event, &until(far())).await.unwrap();
    assert_eq!(serde_json::to_value(&response).unwrap(), failed(&[("BAD-0", 7), ("BAD-0", 8)]));
    assert_eq!(offsets(&bench), [1]);
    assert_eq!(noted(&bench), [("changes".to_owned(), 0, 2, 2, "excluded".to_owned())]);
}

#[tokio::test]
async fn a_batch_of_nothing_but_kept_out_records_fails_when_they_cannot_be_noted() {
    let denied = AppendFault::Status(Code::PermissionDenied, "no");
    let bench = bench([denied]).await;
    let event = event_of(&[("changes", 0, 1, "secrets", "s"), ("changes", 0, 2, "awsdms_status", "s")]);
    let error = bench.handler.handle(&event, &until(far())).await.unwrap_err();
    assert_eq!(error.error_type(), "BigQueryPermissionDenied");
    assert!(error.message().contains("cdc.log_kept_out"), "{}", error.message());
    assert!(noted(&bench).is_empty());
    // Delivered again.
    assert_eq!(bench.handler.handle(&event, &until(far())).await.unwrap(), Response::default());
    assert_eq!(noted(&bench).len(), 2);
    assert!(bench.write.seen().iter().all(|append| append.stream.contains("/log_kept_out/")), "no row, no request");
}

#[tokio::test]
async fn a_missing_table_for_the_note_is_made_with_the_logs_retention() {
    let bench = bench([AppendFault::Status(Code::NotFound, "no table")]).await;
    let event = event_of(&[("changes", 0, 1, "secrets", "s")]);
    assert_eq!(bench.handler.handle(&event, &until(far())).await.unwrap(), Response::default());
    assert_eq!(noted(&bench).len(), 1);
    let tables = bench.rest.tables();
    assert_eq!(tables.keys().collect::<Vec<_>>(), ["cdc.log_kept_out"]);
    let table = &tables["cdc.log_kept_out"];
    assert_eq!(table["timePartitioning"], json!({"type": "HOUR", "field": "ingested_at", "expirationMs": "604800000"}));
    assert_eq!(table["clustering"], json!({"fields": ["kafka_topic"]}));
}

#[tokio::test]
async fn both_tables_are_made_by_the_first_batch_that_needs_both() {
    let missing = AppendFault::Status(Code::NotFound, "no table");
    let bench = bench([missing, missing]).await;
    assert_eq!(bench.handler.handle(&mixed(), &until(far())).await.unwrap(), Response::default());
    assert_eq!((offsets(&bench), noted(&bench)), (vec![2, 4], mixed_notes().to_vec()));
    assert_eq!(bench.rest.tables().keys().collect::<Vec<_>>(), ["cdc.log", "cdc.log_kept_out"]);
    let datasets = bench.rest.paths().into_iter().filter(|path| path.ends_with("/datasets")).count();
    assert_eq!(datasets, 1, "one after the other");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_poison_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        if let Some(poison) = as_poison(&bytes, RefusalCode::FieldsError) {
            proptest::prop_assert!(!poison.is_empty());
        }
    }
}

/// An event of these values, offsets from 1.
fn event_of_values(values: &[&str]) -> Vec<u8> {
    let records = values.iter().zip(1_i64..).map(|(value, offset)| {
        json!({"topic": "changes", "partition": 0, "offset": offset, "timestamp": 1, "timestampType": "CREATE_TIME",
               "headers": [], "key": STANDARD.encode("PLANTED"), "value": STANDARD.encode(value)})
    });
    let records: Vec<_> = records.collect();
    json!({"eventSource": "aws:kafka", "records": {"changes-0": records}}).to_string().into_bytes()
}

#[tokio::test]
async fn what_cannot_be_masked_is_given_back_and_only_its_identity_leaves() {
    let bench = bench_with([], "shop.orders.name=redact").await;
    let insert = |data: &str| {
        format!(
            r#"{{"data":{data},"metadata":{{"record-type":"data","operation":"insert","schema-name":"shop","table-name":"orders"}}}}"#
        )
    };
    let values = [insert(r#"{"id":1,"name":"PLANTED"}"#), "PLANTED".to_owned(), insert(r#"{"name\ud83d":"PLANTED"}"#)];
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let response = bench.handler.handle(&event_of_values(&values), &until(far())).await.unwrap();
    assert_eq!(serde_json::to_value(response).unwrap(), failed(&[("changes-0", 2), ("changes-0", 3)]));
    let rows = log_rows(&bench);
    assert_eq!(offsets(&bench), [1, 2, 3]);
    assert_eq!(rows[0].data.as_deref(), Some(r#"{"id":1,"name":"redacted"}"#));
    assert_eq!((&rows[1].data, &rows[2].data), (&None, &None));
    let sent = bench.write.written_bytes().concat();
    assert!(!String::from_utf8_lossy(&sent).contains("PLANTED"));
}

#[tokio::test]
async fn a_masked_row_that_is_refused_stays_masked_as_poison() {
    // The fake refuses a row whose bytes hold BAD.
    let bench = bench_with([], "shop.orders.name=redact").await;
    let value = r#"{"data":{"id":1,"name":"PLANTED","note":"BAD"},"metadata":{"record-type":"data","operation":"insert","schema-name":"shop","table-name":"orders"}}"#;
    let response = bench.handler.handle(&event_of_values(&[value]), &until(far())).await;
    let rows = log_rows(&bench);
    let sent = format!("{rows:?}{response:?}");
    assert!(!sent.contains("PLANTED"), "{sent}");
}

#[test]
fn a_long_list_of_records_is_cut() {
    let item = |offset| ItemIdentity { group: Arc::from("changes-0"), offset };
    let items: Vec<ItemIdentity> = (0..22).map(item).collect();
    assert_eq!(in_words(&items[..2]), "changes-0@0, changes-0@1");
    assert!(in_words(&items).ends_with("changes-0@19, and 2 more"));
    assert!(in_words(&items[..20]).ends_with("changes-0@19"));
}
