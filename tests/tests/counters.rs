//! What BigQuery is asked for: appends go by gRPC, each row once, and a merge without news costs one small query. The embedded
//! BigQuery counts for all of its clients together, so this binary's tests take turns.

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
fn a_merge_without_news_is_one_query_of_a_process_that_knows_the_ledger() {
    run(async {
        let _turn = TURN.lock().await;
        let orders = Table::orders();
        let mut pipeline = Pipeline::start().await;
        let records = pipeline.send(&[orders.create(), orders.insert(json!({"id": 1, "v": "a"})).at(10)]).await;
        pipeline.merge().await;
        // The first run that finds something in the ledger carries it forward, so that none has to read all of it again.
        pipeline.merge().await;
        let ledger = format!("SELECT COUNT(*) FROM `{}`", pipeline.merges());
        let assert_idle = async |pipeline: &mut Pipeline, queries: [i32; 3]| {
            let entries = pipeline.texts(&ledger).await;
            for queries in queries {
                counters(pipeline).await;
                pipeline.merge().await;
                let counted = counters(pipeline).await;
                assert_eq!(counted["jobs"], queries, "{counted}");
                assert_eq!(counted["append"]["rows"], 0, "{counted}");
                assert_eq!(counted["rest"]["tables.get"], Value::Null, "{counted}");
            }
            assert_eq!(pipeline.texts(&ledger).await, entries);
        };
        assert_idle(&mut pipeline, [2, 1, 1]).await;
        // What is delivered again is looked at once: its offsets might be those of a topic that was made anew.
        pipeline.deliver(&records).await;
        pipeline.merge().await;
        assert_idle(&mut pipeline, [2, 1, 1]).await;

        // As if another process had taken the table up, and failed.
        let merges = pipeline.merges();
        let newest = format!("recorded_at = (SELECT MAX(recorded_at) FROM `{merges}`)");
        let later = "TIMESTAMP_ADD(recorded_at, INTERVAL 1 MICROSECOND) AS recorded_at";
        let failed = format!(
            "SELECT * REPLACE ({later}, 'failed' AS outcome, 'elsewhere' AS run_id) FROM `{merges}` WHERE {newest}"
        );
        pipeline.query(&format!("INSERT INTO `{merges}` {failed}")).await;
        pipeline.merge().await;
        let outcome = pipeline.texts(&format!("SELECT outcome FROM `{merges}` WHERE {newest}")).await;
        assert_eq!(outcome, ["merged"], "what another process wrote is seen");
    });
}

#[test]
fn a_load_that_waits_for_a_change_asks_nothing_of_the_log() {
    run(async {
        let _turn = TURN.lock().await;
        let orders = Table::orders();
        let mut pipeline = Pipeline::start().await;
        let row = |id: i32, v: &str| json!({"id": id, "v": v});
        pipeline.send(&[orders.create(), orders.insert(row(1, "a")).at(10), orders.insert(row(2, "b")).at(11)]).await;
        pipeline.merge().await;
        // Of a table that nobody changes, no change ever shows that its load has ended.
        pipeline.send(&[orders.drop_table(), orders.create(), orders.load(row(1, "a"))]).await;
        let answers = pipeline.merge().await;
        let waits = answers.iter().filter_map(|table| table.reason.as_deref()).collect::<String>();
        assert!(waits.contains("waits for a change of the table after its newest loaded row"), "{waits}");
        for queries in [2, 1, 1] {
            counters(&pipeline).await;
            pipeline.merge().await;
            let counted = counters(&pipeline).await;
            assert_eq!((&counted["jobs"], &counted["append"]["rows"]), (&json!(queries), &json!(0)), "{counted}");
        }
        pipeline.assert_rows(&orders, &[&["1", "a"], &["2", "b"]]).await;
        pipeline.send(&[orders.update(row(1, "a2")).at(20)]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "a2"]]).await;
    });
}

#[test]
fn a_run_reads_no_more_of_the_ledger_than_since_all_tables_were_carried_forward() {
    run(async {
        let _turn = TURN.lock().await;
        let orders = Table::orders();
        let items = Table::new("shop", "items").column("id", "INT32").column("v", "WSTRING").key(&["id"]);
        let mut pipeline = Pipeline::start().await;
        let row = |id: i32, v: &str| json!({"id": id, "v": v});
        pipeline
            .send(&[
                orders.create(),
                items.create(),
                orders.insert(row(1, "a")).at(10),
                items.insert(row(7, "x")).at(11),
                items.insert(row(8, "y")).at(12),
            ])
            .await;
        pipeline.merge().await;
        pipeline.send(&[items.delete(row(8, "y")).at(20)]).await;
        pipeline.merge().await;

        let merges = pipeline.merges();
        let carried = format!(
            "SELECT source_table, outcome, carried FROM `{merges}` WHERE carried IS NOT NULL ORDER BY recorded_at"
        );
        assert_eq!(pipeline.texts(&carried).await, ["items|merged|2", "orders|merged|2"]);
        // What a run may read from now on is all that is left, of a day that has passed.
        pipeline.query(&format!("DELETE FROM `{merges}` WHERE carried IS NULL AND recorded_at < (SELECT MIN(recorded_at) FROM `{merges}` WHERE carried IS NOT NULL)")).await;
        pipeline.send(&[items.insert(row(8, "late")).at(15), orders.update(row(1, "b")).at(30)]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "b"]]).await;
        pipeline.assert_rows(&items, &[&["7", "x"]]).await;
        assert_eq!(pipeline.texts(&carried).await.len(), 2, "once a day is enough");

        // After a pause of days all of it is read once, and carried forward.
        let earlier = |column: &str| format!("{column} = TIMESTAMP_SUB({column}, INTERVAL 3 DAY)");
        let times = ["recorded_at", "based_on", "begun_at"].map(earlier).join(", ");
        pipeline.query(&format!("UPDATE `{merges}` SET {times} WHERE TRUE")).await;
        pipeline.send(&[items.insert(row(8, "late")).at(16), items.insert(row(9, "z")).at(40)]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "b"]]).await;
        pipeline.assert_rows(&items, &[&["7", "x"], &["9", "z"]]).await;
        assert_eq!(pipeline.texts(&carried).await.len(), 4);
        let begun = format!("SELECT COUNT(DISTINCT begun_at) FROM `{merges}` WHERE carried IS NOT NULL");
        assert_eq!(pipeline.texts(&begun).await, ["1"], "the ledger's beginning is carried as well");
    });
}
