//! Many tables with news in one run: what they have to read of the log is copied once, and each is merged from its part of the copy. The
//! result must be that of reading the log, whatever becomes of the copy.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use strait_cli::runtime_api::InvocationOutcome;
use strait_tests::history::{Message, Table};
use strait_tests::pipeline::{Pipeline, Setup, answer};
use strait_tests::run;

fn row(id: u32, v: &str) -> String {
    json!({"id": id, "v": v}).to_string()
}

fn tables() -> Vec<Table> {
    ["orders", "items", "order lines", "people", "이름"]
        .map(|name| Table::new("shop", name).column("id", "INT64").column("v", "WSTRING").key(&["id"]))
        .into()
}

/// A pipeline in which each table has the rows 1 to 3.
async fn working(setup: Setup) -> (Pipeline, Vec<Table>) {
    let mut pipeline = setup.start().await;
    let tables = tables();
    let mut messages = Vec::new();
    for table in &tables {
        messages.push(table.create());
        messages.extend((1..=3).map(|id| table.insert(row(id, "old")).at(id * 10)));
    }
    pipeline.send(&messages).await;
    merge(&pipeline).await;
    (pipeline, tables)
}

/// Merges until nothing is left running: on a busy machine a run's time may be short.
async fn merge(pipeline: &Pipeline) {
    for _ in 0..10 {
        if pipeline.merge().await.iter().all(|table| table.outcome != "running") {
            return;
        }
    }
    panic!("tables are running without end\n{}", pipeline.logs());
}

/// News for each table; those of the last three are late: what is newer than they are is merged already.
fn news(tables: &[Table]) -> Vec<Message> {
    let (others, late) = tables.split_at(2);
    let news =
        others.iter().flat_map(|table| [table.update(row(1, "new")).at(100), table.delete(row(2, "old")).at(101)]);
    let late =
        late.iter().flat_map(|table| [table.update(row(3, "older")).at(25), table.insert(row(4, "late")).at(26)]);
    news.chain(late).collect()
}

async fn assert_merged(pipeline: &Pipeline, tables: &[Table]) {
    let (others, late) = tables.split_at(2);
    for table in others {
        pipeline.assert_rows(table, &[&["1", "new"], &["3", "old"]]).await;
    }
    for table in late {
        pipeline.assert_rows(table, &[&["1", "old"], &["2", "old"], &["3", "old"], &["4", "late"]]).await;
    }
}

/// The statements of this pipeline's merges since then that read row images, from the log or a copy of it.
async fn readings(pipeline: &Pipeline, since: Timestamp) -> Vec<String> {
    let statements = pipeline.bigquery.statements(since.as_millisecond(), i64::MAX / 1_000_000).await.unwrap();
    let own = format!("`{}_cdc`", pipeline.prefix());
    statements.into_iter().filter(|sql| sql.contains(&own) && sql.contains("AS `_strait_log`")).collect()
}

/// Copies that were not removed.
async fn copies_left(pipeline: &Pipeline) -> Vec<String> {
    let tables = format!("SELECT table_name FROM `{}_cdc`.INFORMATION_SCHEMA.TABLES", pipeline.prefix());
    pipeline.texts(&tables).await.into_iter().filter(|name| name.starts_with("_strait_delta_")).collect()
}

/// Spoils the jobs that write a short-lived table of this kind.
async fn job_fault(pipeline: &Pipeline, kind: &str, action: Value, times: usize) {
    let body = format!("CREATE OR REPLACE TABLE `[^`]+`.`{}_cdc`.`_strait_{kind}_", pipeline.prefix());
    pipeline.fault(json!({"side": "rest", "match": {"api": "jobs.insert", "body_regex": body}, "action": action, "times": times})).await;
}

#[test]
fn the_logs_rows_are_read_once_for_all_tables_and_every_table_ends_equal() {
    run(async {
        let (mut pipeline, tables) = working(Setup::default()).await;
        let since = Timestamp::now();
        pipeline.send(&news(&tables)).await;
        pipeline.merge().await;
        assert_merged(&pipeline, &tables).await;

        let statements = readings(&pipeline, since).await;
        let log = format!("`{}_cdc`.`log` AS `_strait_log`", pipeline.prefix());
        let of_log = statements.iter().filter(|sql| sql.contains(&log)).count();
        assert_eq!(of_log, 1, "{statements:#?}");
        assert_eq!(statements.len(), 1 + tables.len(), "{statements:#?}");
        assert_eq!(copies_left(&pipeline).await, [""; 0]);

        // Delivered again, nothing is written.
        let snapshot = pipeline.snapshot(&tables[0]).await;
        pipeline.send(&news(&tables)).await;
        pipeline.merge().await;
        assert_eq!(pipeline.snapshot(&tables[0]).await, snapshot);
        assert_merged(&pipeline, &tables).await;
    });
}

#[test]
fn two_tables_are_read_from_the_log() {
    run(async {
        let (mut pipeline, tables) = working(Setup::default()).await;
        let since = Timestamp::now();
        pipeline.send(&[tables[0].update(row(1, "new")).at(100), tables[1].delete(row(1, "old")).at(101)]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&tables[0], &[&["1", "new"], &["2", "old"], &["3", "old"]]).await;
        pipeline.assert_rows(&tables[1], &[&["2", "old"], &["3", "old"]]).await;
        let statements = readings(&pipeline, since).await;
        let log = format!("`{}_cdc`.`log` AS `_strait_log`", pipeline.prefix());
        assert!(statements.len() == 2 && statements.iter().all(|sql| sql.contains(&log)), "{statements:#?}");
    });
}

#[test]
fn a_copy_that_cannot_be_made_keeps_no_table_from_being_merged() {
    run(async {
        let (mut pipeline, tables) = working(Setup::default()).await;
        pipeline.send(&news(&tables)).await;
        let denied = json!({"error": {"code": 403, "message": "denied", "errors": [{"reason": "accessDenied", "message": "denied"}]}});
        let refused = json!({"kind": "status", "http": 403, "body": denied.to_string()});
        job_fault(&pipeline, "delta", refused, 1).await;
        pipeline.merge().await;
        assert!(pipeline.faults_are_used_up().await);
        assert_merged(&pipeline, &tables).await;
        assert!(pipeline.logs().contains("each reads the log for itself"), "{}", pipeline.logs());
    });
}

#[test]
fn work_that_a_run_leaves_is_finished_without_its_copy() {
    run(async {
        let (mut pipeline, tables) = working(Setup::default().merge_timeout(Duration::from_secs(30))).await;
        // Runs before whose time was too short have left theirs.
        let before = copies_left(&pipeline).await;
        pipeline.send(&news(&tables)).await;
        // Every fold's answer comes too late for this run; the jobs go on.
        job_fault(&pipeline, "fold", json!({"kind": "after_effect", "seconds": 40}), tables.len()).await;
        let outcome = pipeline.invoke_merge("{}").await;
        if matches!(outcome, InvocationOutcome::Response(_)) {
            let answer = answer(&outcome);
            assert!(answer.contains("running"), "{answer}");
        }
        assert!(pipeline.faults_are_used_up().await, "every fold is late");
        let copies = copies_left(&pipeline).await;
        assert_eq!(copies.iter().filter(|copy| !before.contains(*copy)).count(), 1, "jobs may still read it");
        // Somebody removes it, as BigQuery does after a day.
        for copy in copies {
            pipeline.query(&format!("DROP TABLE `{}_cdc.{copy}`", pipeline.prefix())).await;
        }
        merge(&pipeline).await;
        assert_merged(&pipeline, &tables).await;
    });
}
