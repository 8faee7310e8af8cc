#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may fail by panicking.

use serde_json::json;

use super::*;
use crate::bigquery::auth::NoToken;
use crate::bigquery::fakes::{CountingTokens, FakeRest, RestFault, far, soon};
use crate::bigquery::table_resource::Field;
use crate::bigquery::table_spec::{self, Column, ColumnType, Mode, PartitionUnit};

const SPEC: TableSpec = TableSpec {
    description: "A test's table",
    columns: &[Column { name: "at", column_type: ColumnType::Timestamp, mode: Mode::Required, description: "" }],
    partition: ("at", PartitionUnit::Hour),
    cluster: &[],
};

fn log() -> TableName {
    TableName { dataset: "cdc".into(), table: "log".into() }
}

async fn client(server: &FakeRest) -> BigQuery {
    BigQuery::new(&server.url, "p", "EU", Arc::new(NoToken)).await.unwrap()
}

#[tokio::test]
async fn a_missing_table_is_made_with_its_dataset_and_an_existing_one_left_alone() {
    let server = FakeRest::start([]).await;
    let client = client(&server).await;
    assert_eq!(client.ensure_table(&log(), &SPEC, Some(2), far()).await.unwrap(), Ensured::Created);
    assert_eq!(server.datasets(), ["cdc"]);
    let made = server.tables()["cdc.log"].clone();
    assert_eq!(made["timePartitioning"]["expirationMs"], "172800000");
    assert_eq!(client.ensure_table(&log(), &SPEC, Some(9), far()).await.unwrap(), Ensured::Existed);
    assert_eq!(server.tables()["cdc.log"], made);
}

/// Roles on the two datasets only: BigQuery then refuses to create a dataset, whether it exists or not.
#[tokio::test]
async fn a_dataset_that_exists_needs_no_permission_to_create_one() {
    let denied = || RestFault::google(Method::POST, "/datasets", 403, "accessDenied");
    let server = FakeRest::start([denied(), denied()]).await;
    server.add_dataset("replica");
    let client = client(&server).await;
    assert_eq!(client.ensure_dataset("replica", far()).await.unwrap(), Ensured::Existed);
    let error = client.ensure_dataset("other", far()).await.unwrap_err();
    assert_eq!((error.kind(), error.call()), (ErrorKind::PermissionDenied, "datasets.insert"));
}

#[tokio::test]
async fn a_creation_whose_answer_is_lost_is_found_to_have_happened() {
    for fault in [
        RestFault::google(Method::POST, "/tables", 503, "backendError").after_it_took_effect(),
        RestFault::html(Method::POST, "/tables", 502).after_it_took_effect(),
    ] {
        let server = FakeRest::start([fault]).await;
        server.add_dataset("cdc");
        assert_eq!(client(&server).await.ensure_table(&log(), &SPEC, None, far()).await.unwrap(), Ensured::Existed);
        assert_eq!(server.tables().len(), 1);
    }
}

#[tokio::test]
async fn transient_answers_are_retried() {
    for (status, reason) in [
        (429, "rateLimitExceeded"),
        (403, "rateLimitExceeded"),
        (403, "quotaExceeded"),
        (500, "internalError"),
        (503, "backendError"),
        (408, ""),
        (504, ""),
        (400, "backendError"),
    ] {
        let fault = RestFault::google(Method::GET, "/tables/log", status, reason);
        let server = FakeRest::start([fault.clone(), fault]).await;
        assert_eq!(client(&server).await.get_table(&log(), far()).await.unwrap(), None, "{status} {reason}");
        assert_eq!(server.paths().len(), 3, "{status} {reason}");
    }
    for fault in [RestFault::html(Method::GET, "/tables/log", 502), RestFault::list(Method::GET, "/tables/log")] {
        let server = FakeRest::start([fault]).await;
        assert_eq!(client(&server).await.get_table(&log(), far()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_denial_stops_at_once_and_never_quotes_a_row() {
    for (status, reason, kind) in
        [(403, "accessDenied", ErrorKind::PermissionDenied), (400, "invalid", ErrorKind::InvalidRequest)]
    {
        let server = FakeRest::start([RestFault::google(Method::GET, "/tables", status, reason)]).await;
        let error = client(&server).await.get_table(&log(), far()).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.reason() == Some(reason) && error.to_string().contains("cdc.log"), "{error}");
        assert!(!format!("{error} {error:?}").contains("4111"));
        assert_eq!(server.paths().len(), 1);
    }
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_by_both_ways_of_calling() {
    for (method, path) in [(Method::GET, "/tables"), (Method::POST, "/tables")] {
        let refused = RestFault::google(method, path, 401, "authError");
        let server = FakeRest::start([refused.clone()]).await;
        server.add_dataset("cdc");
        let tokens = Arc::new(CountingTokens::default());
        let client = BigQuery::new(&server.url, "p", "EU", tokens).await.unwrap();
        client.get_table(&log(), far()).await.unwrap();
        client.ensure_table(&log(), &SPEC, None, far()).await.unwrap();
        let headers = server.authorizations();
        assert_eq!(headers.len(), 3, "{path}");
        assert_eq!(headers.last().unwrap(), "Bearer t1", "{path}");

        let server = FakeRest::start([refused.clone(), refused.clone(), refused]).await;
        let client = BigQuery::new(&server.url, "p", "EU", Arc::new(CountingTokens::default())).await.unwrap();
        let first = client.get_table(&log(), far()).await.err();
        let second = client.ensure_table(&log(), &SPEC, None, far()).await.err();
        let kinds: Vec<ErrorKind> = [first, second].into_iter().flatten().map(|error| error.kind()).collect();
        assert!(kinds.contains(&ErrorKind::Unauthenticated), "{kinds:?}");
    }
}

#[tokio::test]
async fn a_server_that_stays_unwell_is_given_up_at_the_deadline() {
    let faults = vec![RestFault::google(Method::GET, "/tables", 503, "backendError"); 200];
    let server = FakeRest::start(faults).await;
    let deadline = soon();
    let error = client(&server).await.get_table(&log(), deadline).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlinePassed);
    assert!(Instant::now() < deadline + Duration::from_millis(500));
}

#[tokio::test]
async fn a_final_table_is_made_and_read_back_with_its_key_and_deleted() {
    let server = FakeRest::start([]).await;
    server.add_dataset("replica");
    let client = client(&server).await;
    let name = TableName { dataset: "replica".into(), table: "shop_orders".into() };
    server.add_table(
        "replica.other",
        json!({"tableReference": {"projectId": "p", "datasetId": "replica", "tableId": "other"}}),
    );
    let mut table =
        Table::new("p", &name, vec![Field { name: "id".into(), field_type: "INTEGER".into(), ..Field::default() }]);
    table.table_constraints = serde_json::from_value(json!({"primaryKey": {"columns": ["id"]}})).unwrap();
    assert_eq!(client.create_table(&table, far()).await.unwrap(), Ensured::Created);
    assert_eq!(client.create_table(&table, far()).await.unwrap(), Ensured::Existed);
    let read = client.get_table(&name, far()).await.unwrap().unwrap();
    assert_eq!(read.primary_key(), ["id"]);
    client.delete_table(&name, far()).await.unwrap();
    client.delete_table(&name, far()).await.unwrap();
    assert_eq!(server.tables().keys().collect::<Vec<_>>(), ["replica.other"]);
}

#[tokio::test]
async fn an_older_versions_table_gets_the_columns_that_it_lacks_and_keeps_all_it_has() {
    let server = FakeRest::start([RestFault::google(Method::PATCH, "/tables/log", 412, "conditionNotMet")]).await;
    let tagged = json!({"name": "id", "type": "STRING", "mode": "REQUIRED", "policyTags": {"names": ["p"]}});
    server.add_table("cdc.log", json!({"etag": "e1", "schema": {"fields": [tagged]}}));
    let client = client(&server).await;
    assert!(client.complete_table(&log(), &OLD_AND_NEW, far()).await.unwrap());
    let fields = server.tables()["cdc.log"]["schema"]["fields"].clone();
    assert_eq!(fields, json!([tagged, {"name": "note", "type": "STRING", "mode": "NULLABLE", "description": "new"}]));
    assert_eq!(
        server.paths().iter().filter(|path| path.starts_with("PATCH")).count(),
        2,
        "changed meanwhile, then added"
    );
    assert!(!client.complete_table(&log(), &OLD_AND_NEW, far()).await.unwrap(), "there is nothing left to add");

    server.add_table("cdc.log", json!({"schema": {"fields": [{"name": "id", "type": "FLOAT"}]}}));
    let error = client.complete_table(&log(), &OLD_AND_NEW, far()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(error.to_string().contains("cdc.log, its column `id` is FLOAT, and STRING is needed"), "{error}");
}

const OLD_AND_NEW: TableSpec = TableSpec {
    columns: &[
        table_spec::column("id", ColumnType::String, Mode::Required, ""),
        table_spec::column("note", ColumnType::String, Mode::Nullable, "new"),
    ],
    ..SPEC
};

#[test]
fn every_status_has_a_kind_and_a_reason_wins_over_it() {
    for (status, reason, kind) in [
        (401, "", ErrorKind::Unauthenticated),
        (403, "accessDenied", ErrorKind::PermissionDenied),
        (403, "quotaExceeded", ErrorKind::QuotaExceeded),
        (404, "", ErrorKind::NotFound),
        (409, "duplicate", ErrorKind::AlreadyExists),
        (413, "", ErrorKind::TooLarge),
        (412, "conditionNotMet", ErrorKind::InvalidRequest),
        (500, "", ErrorKind::Internal),
        (502, "", ErrorKind::Unavailable),
        (302, "", ErrorKind::UnexpectedAnswer),
    ] {
        assert_eq!(http_kind(status, reason), kind, "{status} {reason}");
    }
}
