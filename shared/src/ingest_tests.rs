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
use crate::log::row::tests::Mirror;

struct Bench {
    write: FakeWrite,
    rest: FakeRest,
    handler: IngestHandler,
}

async fn bench(faults: impl IntoIterator<Item = AppendFault>) -> Bench {
    let write = FakeWrite::start(faults).await;
    let rest = FakeRest::start([]).await;
    let vars = [
        ("STRAIT_PROJECT", "demo-project"),
        ("STRAIT_LOG_RETENTION_DAYS", "7"),
        ("STRAIT_BIGQUERY_REST_URL", rest.url.as_str()),
        ("STRAIT_BIGQUERY_GRPC_URL", write.url.as_str()),
    ];
    let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::from_vars(vars).unwrap();
    let connections = Connections {
        rest: BigQuery::new(&rest.url, "demo-project", "EU", Arc::new(NoToken)).await.unwrap(),
        appends: AppendClient::new(&write.url, Arc::new(NoToken)).unwrap(),
    };
    let handler = IngestHandler::new(&config, connections);
    Bench { write, rest, handler }
}

/// An event with one insert for each `(partition, offset, name)`; a row whose name has `BAD` in it is refused.
fn event(records: &[(i64, i64, &str)]) -> Vec<u8> {
    let mut groups = serde_json::Map::new();
    for (partition, offset, name) in records {
        let message = json!({
            "data": {"id": offset, "name": name},
            "metadata": {"record-type": "data", "operation": "insert", "schema-name": "shop",
                "table-name": "orders", "transaction-id": 5, "timestamp": "2024-05-01T10:00:00.000000Z",
                "commit-timestamp": "2024-05-01T10:00:00.000000Z"}
        });
        let record = json!({"topic": "changes", "partition": partition, "offset": offset, "timestamp": 1,
            "timestampType": "CREATE_TIME", "headers": [], "value": STANDARD.encode(message.to_string())});
        let group = groups.entry(format!("changes-{partition}")).or_insert_with(|| json!([]));
        group.as_array_mut().unwrap().push(record);
    }
    json!({"eventSource": "aws:kafka", "bootstrapServers": "b:9098", "records": groups}).to_string().into_bytes()
}

fn until(deadline: Instant) -> Invocation {
    Invocation { request_id: "r".into(), deadline, function_name: "ingest".into() }
}

fn log_rows(bench: &Bench) -> Vec<Mirror> {
    let rows = bench.write.written_bytes();
    rows.iter().map(|row| Mirror::decode(row.as_slice()).unwrap()).collect()
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
    let mut appended = bench.handler.append(&rows, far()).await;
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

proptest::proptest! {
    #[test]
    fn no_bytes_make_poison_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        if let Some(poison) = as_poison(&bytes, RefusalCode::FieldsError) {
            proptest::prop_assert!(!poison.is_empty());
        }
    }
}
