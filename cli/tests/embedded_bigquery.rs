//! The embedded BigQuery as `strait` starts it: queries, pages, faults, and that nothing of it stays behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says on standard error what it skips"
)]

use serde_json::json;
use strait_cli::compare::canonical_of_rest;
use strait_cli::embedded_bigquery::{EmbeddedBigQuery, EmbeddedError, QueryError, SetupError};

/// None when there is no Python to run it with: the only thing that a machine may lack.
async fn start() -> Option<EmbeddedBigQuery> {
    match EmbeddedBigQuery::start("local", &|step| eprintln!("{step}")).await {
        Err(EmbeddedError::Setup(SetupError::Python(missing))) => {
            eprintln!("SKIPPED 1: {missing}");
            None
        }
        other => Some(other.expect("the embedded BigQuery starts")),
    }
}

#[tokio::test]
async fn an_embedded_bigquery_from_start_to_stop() {
    let Some(bigquery) = start().await else {
        return;
    };
    rows_come_in_pages(&bigquery).await;
    cells_compare_as_canonical_text(&bigquery).await;
    a_refusal_carries_bigquerys_message(&bigquery).await;
    a_fault_spoils_one_call(&bigquery).await;
    a_job_that_was_killed_has_ended_and_what_was_written_is_there(&bigquery).await;
    it_leaves_nothing_behind(bigquery).await;
}

async fn rows_come_in_pages(bigquery: &EmbeddedBigQuery) {
    let statement = "SELECT x FROM UNNEST(GENERATE_ARRAY(1, 25000)) AS x ORDER BY x";
    let found = bigquery.query(statement).await.unwrap();
    let numbers: Vec<i64> = found.rows.iter().map(|row| row[0].as_deref().unwrap().parse().unwrap()).collect();
    assert!(numbers.into_iter().eq(1..=25_000));
}

async fn cells_compare_as_canonical_text(bigquery: &EmbeddedBigQuery) {
    let cases = [
        ("CAST(-9223372036854775808 AS INT64)", "INT64", "-9223372036854775808"),
        ("NUMERIC '46.570000'", "NUMERIC", "46.57"),
        ("CAST(NULL AS STRING)", "STRING", "NULL"),
        ("'이름 🦀'", "STRING", "이름 🦀"),
        ("TRUE", "BOOL", "true"),
        ("DATE '2024-02-29'", "DATE", "2024-02-29"),
        ("DATETIME '2024-02-29 12:00:00.123400'", "DATETIME", "2024-02-29T12:00:00.1234"),
        ("TIMESTAMP '2024-02-29 12:00:00.123456+00'", "TIMESTAMP", "2024-02-29T12:00:00.123456Z"),
        ("TIMESTAMP '1582-10-04 00:00:00+00'", "TIMESTAMP", "1582-10-04T00:00:00Z"),
        ("TIME '12:00:00.500000'", "TIME", "12:00:00.5"),
        ("FROM_HEX('8005ff')", "BYTES", "8005ff"),
        ("CAST('2.20000005' AS FLOAT64)", "FLOAT64", "2.20000005"),
        ("CAST('nan' AS FLOAT64)", "FLOAT64", "NaN"),
        ("CAST('-inf' AS FLOAT64)", "FLOAT64", "-inf"),
    ];
    let columns: Vec<String> =
        cases.iter().enumerate().map(|(place, (expression, ..))| format!("{expression} AS c{place}")).collect();
    let found = bigquery.query(&format!("SELECT {}", columns.join(", "))).await.unwrap();
    for (place, (expression, column_type, canonical)) in cases.into_iter().enumerate() {
        assert_eq!(found.columns[place].column_type, column_type, "{expression}");
        let cell = found.rows[0][place].as_deref();
        let text = cell.map_or("NULL".to_owned(), |cell| canonical_of_rest(column_type, cell));
        assert_eq!(text, canonical, "{expression}");
    }
}

async fn a_refusal_carries_bigquerys_message(bigquery: &EmbeddedBigQuery) {
    let error = bigquery.query("SELECT * FROM nowhere.at_all").await.unwrap_err();
    let QueryError::Refused { status, message } = error else {
        panic!("{error}");
    };
    assert_eq!(status, 404);
    assert!(message.contains("nowhere"), "{message}");
}

async fn a_fault_spoils_one_call(bigquery: &EmbeddedBigQuery) {
    bigquery.reset_counters().await.unwrap();
    let fault = json!([{"side": "rest", "match": {"api": "jobs.query"}, "action": {"kind": "status", "http": 503}}]);
    bigquery.faults(&fault).await.unwrap();
    let spoiled = bigquery.query("SELECT 1").await;
    assert!(matches!(spoiled, Err(QueryError::Refused { status: 503, .. })), "{spoiled:?}");
    assert_eq!(bigquery.remaining_faults().await.unwrap(), json!([]));
    assert_eq!(bigquery.query("SELECT 1").await.unwrap().rows.len(), 1);
    let counters = bigquery.counters().await.unwrap();
    assert_eq!(counters["rest"]["jobs.query"], 2, "{counters}");

    let misspelt = json!([{"side": "rest", "action": {"kind": "statsu"}}]);
    assert!(bigquery.faults(&misspelt).await.is_err());
    bigquery.faults(&fault).await.unwrap();
    bigquery.clear_faults().await.unwrap();
    assert!(bigquery.query("SELECT 1").await.is_ok());
}

async fn a_job_that_was_killed_has_ended_and_what_was_written_is_there(bigquery: &EmbeddedBigQuery) {
    bigquery.query("CREATE SCHEMA kept").await.unwrap();
    bigquery.query("CREATE TABLE kept.t AS SELECT 7 AS n").await.unwrap();
    let client = reqwest::Client::builder().timeout(std::time::Duration::from_secs(60)).build().unwrap();
    let jobs = format!("{}/projects/local/jobs", bigquery.rest_url);
    let long = "SELECT COUNT(*) FROM UNNEST(GENERATE_ARRAY(1, 1000000)) AS a, UNNEST(GENERATE_ARRAY(1, 1000000)) AS b WHERE a * b = 1";
    let job = json!({"jobReference": {"projectId": "local", "jobId": "long"}, "configuration": {"query": {"query": long, "useLegacySql": false}}});
    client.post(&jobs).json(&job).send().await.unwrap().error_for_status().unwrap();
    let status = async || {
        let job = client.get(format!("{jobs}/long")).send().await.unwrap().json::<serde_json::Value>().await.unwrap();
        job["status"].clone()
    };
    loop {
        let status = status().await;
        assert_ne!(status["state"], "DONE", "{status}");
        if status["state"] == "RUNNING" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    bigquery.kill_and_restart().await.unwrap();
    let status = status().await;
    assert_eq!(
        (&status["state"], &status["errorResult"]["reason"]),
        (&json!("DONE"), &json!("backendError")),
        "{status}"
    );
    let rows = bigquery.query("SELECT n FROM kept.t").await.unwrap().rows;
    assert_eq!(rows, [[Some("7".to_owned())]]);
}

async fn it_leaves_nothing_behind(bigquery: EmbeddedBigQuery) {
    let address = bigquery.rest_url.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    assert!(tokio::net::TcpStream::connect(&address).await.is_ok());
    let data = bigquery.data_folder().to_path_buf();
    assert!(data.is_dir());
    bigquery.stop().await;
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
    assert!(!data.exists());
}
