//! Loads that end other than they should, words of an operator that come at the wrong moment, and merges that look at a load while it
//! goes on: nobody reads a table without rows that the source has, and nothing stays that the source has not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strait_tests::history::{Message, Table};
use strait_tests::pipeline::{Pipeline, Setup, of};
use strait_tests::run;

/// An operator's word that a load is complete.
const COMPLETE: &str = r#"{"tables":["shop.orders"],"reload":"complete"}"#;
/// An operator's word that there was nothing to load.
const EMPTY: &str = r#"{"tables":["shop.orders"],"reload":"empty"}"#;
/// Far above what any condition takes.
const PATIENCE: Duration = Duration::from_secs(60);

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

async fn until_faults_are_used_up(pipeline: &Pipeline) {
    let started = Instant::now();
    while !pipeline.faults_are_used_up().await {
        assert!(started.elapsed() < PATIENCE, "the fault never took place");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
            pipeline.merge_with(EMPTY).await;
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
fn rows_that_arrive_while_a_merge_runs_are_merged_before_anything_is_swept() {
    run(async {
        let (mut pipeline, orders) = loaded(Setup::default()).await;
        pipeline.send(&[orders.drop_table(), orders.create(), orders.load(row(1, "a"))]).await;
        let rest = pipeline.produce(&[
            orders.load(row(3, "c3")),
            orders.load(row(4, "d")),
            orders.update(row(1, "a2")).at(300),
        ]);
        job_fault(&pipeline, "MERGE `e2e`.`@", json!({"kind": "delay", "seconds": 4.0}), 1).await;
        let (_, ()) = tokio::join!(pipeline.merge(), async {
            until_faults_are_used_up(&pipeline).await;
            pipeline.deliver(&rest).await;
        });
        let rows = pipeline.rows(&orders).await;
        assert!(rows.iter().any(|row| row[0].as_deref() == Some("3")), "row 3 is there all the time: {rows:?}");
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "a2"], &["3", "c3"], &["4", "d"]]).await;
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
fn an_operators_epoch_reopens_a_table_that_waits_too() {
    run(async {
        let (mut pipeline, orders) = loaded(Setup::default()).await;
        pipeline.send(&[orders.update(row(1, "a2")).at(500)]).await;
        pipeline.merge().await;
        pipeline.send(&[orders.update(row(1, "a3")).at(4).in_file(1).committed_after_s(60)]).await;
        let answers = pipeline.merge().await;
        let said = of(&answers, &orders).reason.clone().unwrap_or_default();
        let event = said[said.find("{\"tables\"").unwrap()..=said.rfind('}').unwrap()].to_owned();
        let alter = format!("ALTER TABLE `{}`", pipeline.final_table(&orders));
        pipeline.query(&format!("{alter} ADD COLUMN odd ARRAY<STRING>")).await;
        let answers = pipeline.merge_with(event).await;
        assert_eq!(of(&answers, &orders).outcome, "waiting");
        pipeline.query(&format!("{alter} DROP COLUMN odd")).await;
        pipeline.merge().await;
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
        pipeline.invoke_merge(EMPTY).await;
        assert!(pipeline.faults_are_used_up().await);
        assert_eq!(pipeline.rows(&orders).await.len(), 3);
        let answers = pipeline.merge_with(EMPTY).await;
        assert_eq!(of(&answers, &orders).deleted, 3, "{answers:?}");
        pipeline.assert_rows(&orders, &[]).await;
    });
}

/// What is in the log was taken in earlier by so many minutes.
async fn minutes_pass(pipeline: &Pipeline, minutes: u32) {
    let earlier = |column: &str| format!("{column} = TIMESTAMP_SUB({column}, INTERVAL {minutes} MINUTE)");
    for (table, columns) in [
        (pipeline.log(), ["ingested_at", "committed_at", "emitted_at"]),
        (pipeline.merges(), ["recorded_at", "window_from", "covered_to"]),
    ] {
        let set = columns.map(earlier).join(", ");
        pipeline.query(&format!("UPDATE `{table}` SET {set} WHERE TRUE")).await;
    }
}

#[test]
fn a_partition_that_was_silent_before_the_load_may_still_bring_rows_of_it() {
    run(async {
        // Of its silence the log's last minutes tell, or they know nothing of it.
        for silent_for in [22, 60] {
            let orders = Table::orders();
            let mut pipeline = Setup::default().start().await;
            pipeline
                .send(&[
                    orders.drop_table(),
                    orders.create(),
                    orders.load(row(1, "a")),
                    orders.load(row(2, "b")),
                    orders.load(row(3, "c")).on_partition(1),
                    orders.update(row(1, "a1")).at(100),
                ])
                .await;
            pipeline.merge().await;
            minutes_pass(&pipeline, silent_for).await;
            let again = pipeline.produce(&[
                orders.drop_table(),
                orders.create(),
                orders.load(row(1, "a1")),
                orders.load(row(3, "c")).on_partition(1),
                orders.update(row(1, "a2")).at(200),
                orders.update(row(3, "c2")).at(201).on_partition(1),
            ]);
            let lagging = |late: bool| again.iter().filter(move |record| (record.partition == 1) == late).cloned();
            pipeline.deliver(&lagging(false).collect::<Vec<_>>()).await;
            pipeline.merge().await;
            pipeline.assert_rows(&orders, &[&["1", "a2"], &["2", "b"], &["3", "c"]]).await;
            // The batch with the loaded row is given back once, and comes after the next.
            let late: Vec<_> = lagging(true).collect();
            pipeline.deliver(&late[1..]).await;
            pipeline.merge().await;
            assert_eq!(pipeline.rows(&orders).await.len(), 3, "{silent_for}");
            pipeline.deliver(&late[..1]).await;
            pipeline.merge().await;
            pipeline.assert_rows(&orders, &[&["1", "a2"], &["3", "c2"]]).await;
        }
    });
}

#[test]
fn a_row_whose_load_is_quarantined_keeps_its_last_exact_state() {
    run(async {
        let prices = Table::new("shop", "prices").column("id", "INT64").numeric("price", 8, 2).key(&["id"]);
        let price = |id: u32, price: &str| format!("{{\"id\":{id},\"price\":{price}}}");
        let mut pipeline = Setup::default().start().await;
        let first =
            [prices.create(), prices.load(price(1, "1.50")), prices.load(price(2, "2.50")), prices.load(price(3, "3"))];
        pipeline.send(&first).await;
        pipeline.merge().await;
        // Row 2 has become what the column cannot hold; row 3 is gone.
        let again = [
            prices.create(),
            prices.load(price(1, "1.50")),
            prices.load(price(2, "2.50000000001")),
            prices.update(price(1, "1.75")).at(10),
        ];
        pipeline.send(&again).await;
        let answers = pipeline.merge().await;
        let waits = of(&answers, &prices).reason.clone().unwrap_or_default();
        assert!(waits.contains("1 loaded rows are in the quarantine"), "{waits}");
        pipeline.assert_rows(&prices, &[&["1", "1.75"], &["2", "2.5"], &["3", "3"]]).await;
    });
}

#[test]
fn records_that_are_kept_out_of_the_log_do_not_hide_that_their_partition_lags() {
    run(async {
        let (mut pipeline, orders) = loaded(Setup::default()).await;
        let hour_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
        let of_dms = json!({"data": {}, "metadata": {"timestamp": hour_ago.to_string(), "record-type": "data", "operation": "insert",
            "schema-name": "", "table-name": "awsdms_status"}});
        let of_dms = pipeline.produce(&[Message::raw(of_dms.to_string()).on_partition(1)]);
        let again = pipeline.produce(&[
            orders.drop_table(),
            orders.create(),
            orders.load(row(1, "a")),
            orders.load(row(3, "c2")).on_partition(1),
            orders.update(row(1, "a2")).at(200),
            orders.update(row(3, "c3")).at(201).on_partition(1),
        ]);
        let lagging = |late: bool| again.iter().filter(move |record| (record.partition == 1) == late).cloned();
        pipeline.deliver(&lagging(false).collect::<Vec<_>>()).await;
        // The partition is read half an hour late, from where its reader had stopped.
        pipeline.deliver(&of_dms).await;
        let late = "ingested_at = TIMESTAMP_ADD(ingested_at, INTERVAL 30 MINUTE)";
        pipeline.query(&format!("UPDATE `{}_kept_out` SET {late} WHERE TRUE", pipeline.log())).await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "a2"], &["2", "b"], &["3", "c2"]]).await;
        pipeline.deliver(&lagging(true).collect::<Vec<_>>()).await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "a2"], &["3", "c3"]]).await;
    });
}
