//! What BigQuery is asked for: appends go by gRPC, each row once, and a merge without news costs two small queries. The embedded
//! BigQuery counts for all of its clients together, so this binary's tests take turns.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use strait_tests::history::{Message, Table};
use strait_tests::pipeline::Pipeline;
use strait_tests::run;
use tokio::sync::Mutex;

static TURN: Mutex<()> = Mutex::const_new(());

async fn counters(pipeline: &Pipeline) -> Value {
    let counted = pipeline.bigquery.counters().await.unwrap();
    pipeline.bigquery.reset_counters().await.unwrap();
    counted
}

#[test]
fn every_row_goes_through_the_storage_write_api_once() {
    run(async {
        let _turn = TURN.lock().await;
        let orders = Table::orders();
        let mut pipeline = Pipeline::start().await;
        pipeline.send(&[orders.create()]).await;
        counters(&pipeline).await;
        let mut rows = 0_u32;
        for size in [1_u32, 10, 400] {
            let batch: Vec<Message> = (0..size)
                .map(|number| orders.insert(json!({"id": rows + number, "v": "x"})).at(rows + number))
                .collect();
            rows += size;
            pipeline.send(&batch).await;
            let counted = counters(&pipeline).await;
            let append = (&counted["append"]["rows"], &counted["append"]["requests"]);
            assert_eq!(append, (&json!(size), &json!(1)), "one request an invocation: {counted}");
            assert_eq!(counted["rest"], json!({}), "an invocation needs no REST call");
            assert_eq!(counted["jobs"], 0);
        }
        // Redelivered records are appended again: the log is at-least-once.
        let again = pipeline.produce(&[orders.insert(json!({"id": 0, "v": "x"})).at(0)]);
        pipeline.deliver(&again).await;
        pipeline.deliver(&again).await;
        assert_eq!(counters(&pipeline).await["append"]["rows"], 2);
    });
}

#[test]
fn a_merge_without_news_reads_twice_and_does_nothing_else() {
    run(async {
        let _turn = TURN.lock().await;
        let orders = Table::orders();
        let mut pipeline = Pipeline::start().await;
        let records = pipeline.send(&[orders.create(), orders.insert(json!({"id": 1, "v": "a"})).at(10)]).await;
        pipeline.merge().await;
        let ledger = format!("SELECT COUNT(*) FROM `{}`", pipeline.merges());
        let entries = pipeline.texts(&ledger).await;
        let assert_idle = async |pipeline: &mut Pipeline| {
            counters(pipeline).await;
            pipeline.merge().await;
            let counted = counters(pipeline).await;
            assert_eq!(counted["jobs"], 2, "{counted}");
            assert_eq!(counted["append"]["rows"], 0, "{counted}");
            assert_eq!(counted["rest"]["tables.get"], Value::Null, "{counted}");
        };
        assert_idle(&mut pipeline).await;
        assert_eq!(pipeline.texts(&ledger).await, entries);
        // What is delivered again is looked at once: its offsets might be those of a topic that was made anew.
        pipeline.deliver(&records).await;
        pipeline.merge().await;
        let entries = pipeline.texts(&ledger).await;
        assert_idle(&mut pipeline).await;
        assert_eq!(pipeline.texts(&ledger).await, entries);
    });
}
