//! Faults whose outcome is worth a look of its own: rows that are refused, a table that is, calls that take effect late. Nothing is lost,
//! nothing is doubled, and what is said names the cause. `fault_sweep` goes through all the others.
//! Each fault names the datasets of its own test, so that tests run side by side.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strait_cli::msk;
use strait_cli::runtime_api::InvocationOutcome;
use strait_tests::history::{Message, Table};
use strait_tests::pipeline::{NOTHING_FAILED, Pipeline, Setup, answer, failure, of};
use strait_tests::run;

/// Far above what any condition takes.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

fn row(id: u32, v: &str) -> String {
    json!({"id": id, "v": v}).to_string()
}

/// Five rows, in the log and the final table of a pipeline that has worked so far.
async fn working() -> (Pipeline, Table) {
    working_with(Setup::default()).await
}

async fn working_with(setup: Setup) -> (Pipeline, Table) {
    let orders = Table::orders();
    let mut pipeline = setup.start().await;
    pipeline.send(&[orders.create(), orders.insert(row(1, "old")).at(1)]).await;
    pipeline.merge().await;
    (pipeline, orders)
}

fn five(orders: &Table) -> [Message; 5] {
    [
        orders.update(row(1, "new")).at(10),
        orders.insert(row(2, "b")).at(11),
        orders.insert(row(3, "c")).at(12),
        orders.delete(row(2, "b")).at(13),
        orders.insert(row(4, "d")).at(14),
    ]
}

const AFTER_FIVE: &[&[&str]] = &[&["1", "new"], &["3", "c"], &["4", "d"]];

async fn append_fault(pipeline: &Pipeline, action: Value, skip: u32, times: u32) {
    let stream = format!("{}_cdc/tables/log", pipeline.prefix());
    let rule = json!({"side": "grpc", "match": {"rpc": "AppendRows", "stream_regex": stream}, "action": action, "skip": skip, "times": times});
    pipeline.fault(rule).await;
}

/// Spoils the jobs whose statement matches; `@` stands for what this test's datasets begin with.
async fn job_fault(pipeline: &Pipeline, statement: &str, action: Value, times: u32) {
    let body = statement.replace('@', &format!("{}_", pipeline.prefix()));
    pipeline.fault(json!({"side": "rest", "match": {"api": "jobs.insert", "body_regex": body}, "action": action, "times": times})).await;
}

async fn until_faults_are_used_up(pipeline: &Pipeline) {
    let started = Instant::now();
    while !pipeline.faults_are_used_up().await {
        assert!(started.elapsed() < PATIENCE, "the fault never took place");
        tokio::time::sleep(POLL).await;
    }
}

/// Merges, twice, and holds the outcome against the source.
async fn ends_equal(pipeline: &Pipeline, orders: &Table) {
    pipeline.merge().await;
    pipeline.assert_rows(orders, AFTER_FIVE).await;
    let logged = pipeline.logged().await;
    let changes: u32 =
        logged.iter().filter(|(operation, _)| *operation != "create-table").map(|(_, count)| count).sum();
    assert_eq!(changes, 6, "{logged:?}");
    let before = pipeline.snapshot(orders).await;
    pipeline.merge().await;
    assert_eq!(pipeline.snapshot(orders).await, before);
}

async fn log_rows(pipeline: &Pipeline) -> String {
    pipeline.texts(&format!("SELECT COUNT(*) FROM `{}`", pipeline.log())).await.concat()
}

#[test]
fn an_append_that_failed_is_made_again_and_one_that_took_effect_stands_twice() {
    run(async {
        let (mut pipeline, orders) = working().await;
        let status = |code: &str| json!({"kind": "grpc_status", "code": code});
        let mut rows = 2;
        for (action, times, written) in [
            (status("UNAVAILABLE"), 2, 1),
            (status("RESOURCE_EXHAUSTED"), 2, 1),
            // A refused token is exchanged once.
            (status("UNAUTHENTICATED"), 1, 1),
            (json!({"kind": "end"}), 1, 1),
            (json!({"kind": "close"}), 1, 1),
            // The log is at-least-once.
            (json!({"kind": "after_effect", "close": true}), 1, 2),
            (json!({"kind": "after_effect", "code": "INTERNAL"}), 1, 2),
        ] {
            let told = action.to_string();
            append_fault(&pipeline, action, 0, times).await;
            pipeline.send(&[orders.update(row(1, "older")).at(2)]).await;
            assert!(pipeline.faults_are_used_up().await, "{told}");
            rows += written;
            assert_eq!(log_rows(&pipeline).await, rows.to_string(), "{told}");
        }
        pipeline.send(&five(&orders)).await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, AFTER_FIVE).await;
    });
}

#[test]
fn rows_that_are_refused_become_poison_and_the_others_are_written() {
    run(async {
        let (mut pipeline, orders) = working().await;
        append_fault(&pipeline, json!({"kind": "row_errors", "indexes": [0, 3]}), 0, 1).await;
        pipeline.send(&five(&orders)).await;
        let logged = pipeline.logged().await;
        assert_eq!(json!(logged), json!({"create-table": 1, "insert": 4, "poison": 2}));
        let sql =
            format!("SELECT kafka_offset, source_table, error FROM `{}` WHERE operation = 'poison'", pipeline.log());
        let poison = pipeline.texts(&sql).await;
        assert!(poison[0].starts_with("2|orders|BigQuery refused the row"), "{poison:?}");
        assert!(poison[1].starts_with("5|orders|BigQuery refused the row"), "{poison:?}");
        assert!(pipeline.ingest.log().contains(r#""refused":2"#));
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "old"], &["2", "b"], &["3", "c"], &["4", "d"]]).await;

        // DMS sends the lost changes again.
        pipeline.send(&five(&orders)).await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, AFTER_FIVE).await;
    });
}

#[test]
fn rows_that_are_refused_even_as_poison_are_given_back_by_name() {
    run(async {
        let (mut pipeline, orders) = working().await;
        append_fault(&pipeline, json!({"kind": "row_errors", "indexes": [0, 3]}), 0, 1).await;
        // After it the sound rows are sent, then the refused ones as poison.
        append_fault(&pipeline, json!({"kind": "row_errors", "indexes": [0, 1]}), 1, 1).await;
        let records = pipeline.produce(&five(&orders));
        let outcome = pipeline.invoke_ingest(msk::event(&records)).await;
        let failed = msk::failed_items(answer(&outcome).as_bytes(), &records).unwrap();
        let offsets: BTreeSet<i64> = failed.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, BTreeSet::from([2, 5]));
        pipeline.merge().await;

        // Lambda delivers them again, after later records of their partition.
        let again: Vec<_> = failed.into_iter().cloned().collect();
        pipeline.deliver(&again).await;
        ends_equal(&pipeline, &orders).await;
    });
}

#[test]
fn bigquery_out_of_reach_is_said_before_the_function_is_stopped() {
    run(async {
        let orders = Table::orders();
        let nowhere = Setup::default()
            .with("STRAIT_BIGQUERY_REST_URL", "http://127.0.0.1:9/bigquery/v2")
            .with("STRAIT_BIGQUERY_GRPC_URL", "http://127.0.0.1:9")
            .ingest_timeout(Duration::from_secs(5))
            .merge_timeout(Duration::from_secs(5));
        let mut pipeline = nowhere.start().await;
        let records = pipeline.produce(&[orders.create(), orders.insert(row(1, "a")).at(1)]);
        for outcome in [pipeline.invoke_ingest(msk::event(&records)).await, pipeline.invoke_merge("{}").await] {
            let (error_type, message) = failure(&outcome);
            assert!(["BigQueryUnreachable", "BigQueryDeadlinePassed"].contains(&error_type), "{error_type}");
            assert!(message.contains("could not be reached"), "{message}");
        }
    });
}

#[test]
fn a_job_that_is_forbidden_fails_its_table_and_is_made_good() {
    run(async {
        let (mut pipeline, orders) = working().await;
        let other = Table::new("shop", "other").column("id", "INT64").key(&["id"]);
        let denied = json!({"error": {"code": 403, "message": "Access Denied", "errors": [{"reason": "accessDenied", "message": "Access Denied"}]}});
        let action = json!({"kind": "status", "http": 403, "body": denied.to_string()});
        job_fault(&pipeline, "MERGE .*@replica.*shop_orders", action, 1).await;
        pipeline.send(&five(&orders)).await;
        pipeline.send(&[other.create(), other.insert(json!({"id": 1})).at(20)]).await;
        let outcome = pipeline.invoke_merge("{}").await;
        let (error_type, message) = failure(&outcome);
        assert_eq!(error_type, "TablesFailed");
        assert!(message.contains("1 of 2") && message.contains("shop.orders: "), "{message}");
        assert!(message.contains("denied permission") && message.contains("What to do: grant"), "{message}");
        pipeline.assert_rows(&other, &[&["1"]]).await;
        let failed = format!("SELECT source_table FROM `{}` WHERE outcome = 'failed'", pipeline.merges());
        assert_eq!(pipeline.texts(&failed).await, ["orders"]);
        let answers = pipeline.merge().await;
        assert_eq!((of(&answers, &orders).outcome.as_str(), of(&answers, &orders).records), ("merged", 5));
        pipeline.assert_rows(&orders, AFTER_FIVE).await;
    });
}

#[test]
fn ingest_is_killed_in_the_middle_of_an_invocation() {
    run(async {
        let (mut pipeline, orders) = working().await;
        // The append is carried out although nobody waits for it any more.
        append_fault(&pipeline, json!({"kind": "delay", "seconds": 1.0}), 0, 1).await;
        let records = pipeline.produce(&five(&orders));
        let (outcome, ()) = tokio::join!(pipeline.invoke_ingest(msk::event(&records)), async {
            until_faults_are_used_up(&pipeline).await;
            pipeline.ingest.kill().await;
        });
        assert!(matches!(outcome, InvocationOutcome::Exited { .. }), "{outcome:?}");
        pipeline.deliver(&records).await;
        assert_eq!(pipeline.ingest.starts(), 2);
        ends_equal(&pipeline, &orders).await;
        // The rows of the process that died arrive only now.
        let started = Instant::now();
        while log_rows(&pipeline).await != "12" {
            assert!(started.elapsed() < PATIENCE, "the append of the killed process never took effect");
            tokio::time::sleep(POLL).await;
        }
        ends_equal(&pipeline, &orders).await;
    });
}

#[test]
fn a_merge_that_takes_effect_after_its_run_brings_nothing_back() {
    run(async {
        let (mut pipeline, orders) = working_with(Setup::default().merge_timeout(Duration::from_secs(12))).await;
        pipeline.send(&[orders.insert(row(7, "gone soon")).at(20)]).await;
        // BigQuery gets to the job only after the run has ended.
        const LATE: f64 = 18.0;
        job_fault(&pipeline, "MERGE .*@", json!({"kind": "delay", "seconds": LATE}), 1).await;
        let started = Instant::now();
        let answers = pipeline.merge().await;
        assert_eq!(of(&answers, &orders).outcome, "running", "{answers:?}");
        pipeline.send(&[orders.delete(row(7, "gone soon")).at(21)]).await;
        // On a busy machine the delayed statement's second try and the delete's merge take more than one run's time.
        let mut answers = pipeline.merge().await;
        while of(&answers, &orders).outcome == "running" && started.elapsed() < PATIENCE {
            answers = pipeline.merge().await;
        }
        assert_eq!(of(&answers, &orders).outcome, "merged", "{answers:?}");
        // The row stays away while the late job comes and after it, merged again or not.
        while started.elapsed() < Duration::from_secs_f64(LATE + 4.0) {
            pipeline.assert_rows(&orders, &[&["1", "old"]]).await;
            pipeline.merge().await;
        }
        pipeline.assert_rows(&orders, &[&["1", "old"]]).await;
    });
}

#[test]
fn an_ingest_that_cannot_write_in_time_gives_its_records_back() {
    run(async {
        let (mut pipeline, orders) = working_with(Setup::default().ingest_timeout(Duration::from_secs(4))).await;
        append_fault(&pipeline, json!({"kind": "delay", "seconds": 4.0}), 0, 1).await;
        let records = pipeline.produce(&five(&orders));
        let outcome = pipeline.invoke_ingest(msk::event(&records)).await;
        let (error_type, message) = failure(&outcome);
        assert_eq!(error_type, "BigQueryDeadlinePassed");
        assert!(message.contains(&pipeline.log()), "{message}");
        assert_eq!(answer(&pipeline.invoke_ingest(msk::event(&records)).await), NOTHING_FAILED);
        ends_equal(&pipeline, &orders).await;
    });
}
