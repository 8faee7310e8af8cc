//! Loads that end other than they should, words of an operator that come at the wrong moment, and merges that look at a load while it
//! goes on: nobody reads a table without rows that the source has, and nothing stays that the source has not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use strait_tests::history::Table;
use strait_tests::pipeline::{Pipeline, Setup, of};
use strait_tests::run;

/// An operator's word that a load is complete.
const COMPLETE: &str = r#"{"tables":["shop.orders"],"reload":"complete"}"#;

fn row(id: u32, v: &str) -> String {
    json!({"id": id, "v": v}).to_string()
}

/// Three rows that were loaded and changed once, merged.
async fn loaded(setup: Setup) -> (Pipeline, Table) {
    let orders = Table::orders();
    let mut pipeline = setup.start().await;
    pipeline
        .send(&[
            orders.drop_table(),
            orders.create(),
            orders.load(row(1, "a")),
            orders.load(row(2, "b")),
            orders.load(row(3, "c")),
            orders.update(row(3, "c2")).at(100),
        ])
        .await;
    pipeline.merge().await;
    pipeline.assert_rows(&orders, &[&["1", "a"], &["2", "b"], &["3", "c2"]]).await;
    (pipeline, orders)
}

/// Spoils the jobs whose statement matches; `@` stands for what this test's datasets begin with.
async fn job_fault(pipeline: &Pipeline, statement: &str, action: Value, times: u32) {
    let body = statement.replace('@', &format!("{}_", pipeline.prefix()));
    let matches = json!({"api": "jobs.insert", "body_regex": body});
    pipeline.fault(json!({"side": "rest", "match": matches, "action": action, "times": times})).await;
}

#[test]
fn a_first_merge_that_finds_two_loads_takes_the_second() {
    run(async {
        for deletes in ["hard", "soft"] {
            let orders = Table::orders();
            let mut pipeline = Setup::default().with("STRAIT_DELETES", deletes).start().await;
            let interrupted =
                [orders.drop_table(), orders.create(), orders.load(row(1, "a")), orders.load(row(7, "gone"))];
            let mut first = pipeline.produce(&interrupted);
            let late = pipeline.produce(&[orders.load(row(8, "gone too"))]);
            first.extend(pipeline.produce(&[
                orders.drop_table(),
                orders.create(),
                orders.load(row(1, "a2")),
                orders.update(row(1, "a3")).at(100),
            ]));
            pipeline.deliver(&first).await;
            pipeline.merge().await;
            pipeline.assert_rows(&orders, &[&["1", "a3"]]).await;
            // What is left of the first load comes last.
            pipeline.deliver(&late).await;
            pipeline.merge().await;
            pipeline.merge().await;
            pipeline.assert_rows(&orders, &[&["1", "a3"]]).await;
        }
    });
}

#[test]
fn an_emptied_table_that_has_rows_again_keeps_them_when_an_operator_says_so() {
    run(async {
        for is_merged_before in [true, false] {
            let (mut pipeline, orders) = loaded(Setup::default()).await;
            pipeline.send(&[orders.drop_table(), orders.create()]).await;
            pipeline.merge().await;
            // Nothing was there to load, and then the first row is written.
            pipeline.send(&[orders.insert(row(9, "new")).at(300)]).await;
            if is_merged_before {
                pipeline.merge().await;
            }
            pipeline.merge_with(COMPLETE).await;
            pipeline.assert_rows(&orders, &[&["9", "new"]]).await;
        }
    });
}

#[test]
fn a_word_that_a_load_is_complete_is_said_of_the_load_and_not_of_a_task_that_was_resumed() {
    run(async {
        let (mut pipeline, orders) = loaded(Setup::default()).await;
        pipeline
            .send(&[orders.drop_table(), orders.create(), orders.load(row(1, "a")), orders.load(row(3, "c3"))])
            .await;
        let answers = pipeline.merge().await;
        let waits = of(&answers, &orders).reason.clone().unwrap_or_default();
        assert!(waits.contains(COMPLETE), "{waits}");
        // A task that is resumed names its tables again.
        pipeline.send(&[orders.create()]).await;
        pipeline.merge().await;
        pipeline.merge_with(COMPLETE).await;
        pipeline.assert_rows(&orders, &[&["1", "a"], &["3", "c3"]]).await;
    });
}

#[test]
fn an_operators_epoch_that_was_too_late_is_put_right_by_an_earlier_one() {
    run(async {
        let (mut pipeline, orders) = loaded(Setup::default()).await;
        pipeline.send(&[orders.update(row(1, "a2")).at(500)]).await;
        pipeline.merge().await;
        let anew = [
            orders.update(row(1, "a3")).at(4).in_file(1).committed_after_s(60),
            orders.insert(row(5, "e")).at(6).in_file(1).committed_after_s(62),
            orders.delete(row(5, "e")).at(7).in_file(1).committed_after_s(63),
        ];
        pipeline.send(&anew).await;
        let answers = pipeline.merge().await;
        let said = of(&answers, &orders).reason.clone().unwrap_or_default();
        let event = said[said.find("{\"tables\"").unwrap()..=said.rfind('}').unwrap()].to_owned();
        // An hour from now: nothing is of it yet.
        let wrong = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        pipeline.merge_with(json!({"tables": ["shop.*"], "epoch": wrong.to_string()}).to_string()).await;
        pipeline.assert_rows(&orders, &[&["1", "a2"], &["2", "b"], &["3", "c2"]]).await;
        pipeline.merge_with(event).await;
        pipeline.assert_rows(&orders, &[&["1", "a3"], &["2", "b"], &["3", "c2"]]).await;
    });
}

#[test]
fn a_word_is_heard_though_the_table_failed_and_has_no_news() {
    run(async {
        let (mut pipeline, orders) = loaded(Setup::default()).await;
        pipeline.send(&[orders.drop_table(), orders.create()]).await;
        pipeline.merge().await;
        let refused = json!({"kind": "status", "http": 400, "body": "{\"error\":{\"code\":400,\"message\":\"no\",\"errors\":[{\"reason\":\"invalidQuery\"}]}}"});
        job_fault(&pipeline, "DELETE FROM `e2e`.`@", refused, 1).await;
        pipeline.invoke_merge(COMPLETE).await;
        assert!(pipeline.faults_are_used_up().await);
        assert_eq!(pipeline.rows(&orders).await.len(), 3);
        let answers = pipeline.merge_with(COMPLETE).await;
        assert_eq!(of(&answers, &orders).deleted, 3, "{answers:?}");
        pipeline.assert_rows(&orders, &[]).await;
    });
}
