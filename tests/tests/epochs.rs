//! What no position tells: a table that is loaded again, a binlog that begins anew, a topic made anew, records that come after the log
//! has forgotten what followed them. Records are produced when DMS would send them and delivered when the test says.

use serde_json::json;
use strait_cli::msk::KafkaRecord;
use strait_tests::history::Table;
use strait_tests::pipeline::{Pipeline, Setup, of};
use strait_tests::run;

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
            orders.load(row(3, "c")).on_partition(1),
            orders.update(row(3, "c2")).at(100).on_partition(1),
        ])
        .await;
    pipeline.merge().await;
    pipeline.assert_rows(&orders, &[&["1", "a"], &["2", "b"], &["3", "c2"]]).await;
    (pipeline, orders)
}

async fn reason(pipeline: &Pipeline, table: &Table, event: &str) -> String {
    let answers = pipeline.merge_with(event.to_owned()).await;
    of(&answers, table).reason.clone().unwrap_or_default()
}

/// What came in is made older by days, in the log and in the ledger: nothing else tells Strait the time.
async fn days_pass(pipeline: &Pipeline, days: u32) {
    for sql in [
        format!(
            "UPDATE `{}` SET ingested_at = TIMESTAMP_SUB(ingested_at, INTERVAL {days} DAY), \
             committed_at = TIMESTAMP_SUB(committed_at, INTERVAL {days} DAY), \
             emitted_at = TIMESTAMP_SUB(emitted_at, INTERVAL {days} DAY) WHERE TRUE",
            pipeline.log()
        ),
        format!(
            "UPDATE `{}` SET recorded_at = TIMESTAMP_SUB(recorded_at, INTERVAL {days} DAY), \
             window_from = TIMESTAMP_SUB(window_from, INTERVAL {days} DAY), \
             covered_to = TIMESTAMP_SUB(covered_to, INTERVAL {days} DAY) WHERE TRUE",
            pipeline.merges()
        ),
    ] {
        pipeline.query(&sql).await;
    }
}

#[test]
fn a_load_in_two_partitions_is_complete_only_when_both_have_passed_it() {
    run(async {
        let (mut pipeline, orders) = loaded(Setup::default()).await;
        // Row 2 has vanished; row 3 lies in a partition that lags.
        let again = pipeline.produce(&[
            orders.drop_table(),
            orders.create(),
            orders.load(row(1, "a")),
            orders.load(row(3, "c3")).on_partition(1),
            orders.update(row(1, "a2")).at(200),
            orders.update(row(3, "c4")).at(201).on_partition(1),
        ]);
        let lagging = |late: bool| again.iter().filter(move |record| (record.partition == 1) == late).cloned();
        pipeline.deliver(&lagging(false).collect::<Vec<_>>()).await;
        let waits = reason(&pipeline, &orders, "{}").await;
        assert!(waits.contains("in cdc-1"), "{waits}");
        pipeline.assert_rows(&orders, &[&["1", "a2"], &["2", "b"], &["3", "c2"]]).await;
        let late: Vec<_> = lagging(true).collect();
        pipeline.deliver(&late[..1]).await;
        let waits = reason(&pipeline, &orders, "{}").await;
        assert!(waits.contains("in cdc-1"), "{waits}");
        pipeline.assert_rows(&orders, &[&["1", "a2"], &["2", "b"], &["3", "c3"]]).await;
        pipeline.deliver(&late[1..]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "a2"], &["3", "c4"]]).await;
        // The final table was made by the first load, which there was nothing to sweep for.
        let swept =
            format!("SELECT deleted FROM `{}` WHERE STARTS_WITH(reason, 'a load is complete')", pipeline.merges());
        assert_eq!(pipeline.texts(&swept).await, ["1"]);
    });
}

#[test]
fn a_missing_offset_holds_a_load_open_until_it_comes_or_an_operator_says_so() {
    run(async {
        for is_said in [false, true] {
            let (mut pipeline, orders) = loaded(Setup::default()).await;
            let again = pipeline.produce(&[
                orders.drop_table(),
                orders.create(),
                orders.load(row(1, "a")),
                orders.load(row(3, "c3")),
                orders.update(row(1, "a2")).at(200),
                orders.update(row(1, "a3")).at(201).on_partition(1),
            ]);
            let (missing, others): (Vec<_>, Vec<_>) = (0..).zip(again).partition(|(place, _)| *place == 3);
            pipeline.deliver(&others.into_iter().map(|(_, record)| record).collect::<Vec<_>>()).await;
            let waits = reason(&pipeline, &orders, "{}").await;
            assert!(waits.contains("missing in the log in cdc-0"), "{waits}");
            assert!(pipeline.merge.log().contains("offsets are missing in the log"), "{}", pipeline.merge.log());
            assert_eq!(pipeline.rows(&orders).await.len(), 3);
            if is_said {
                let event = r#"{"tables":["shop.orders"],"reload":"complete"}"#;
                pipeline.merge_with(event).await;
                // The operator was wrong; the row comes all the same.
                pipeline.assert_rows(&orders, &[&["1", "a3"]]).await;
            }
            pipeline.deliver(&missing.into_iter().map(|(_, record)| record).collect::<Vec<_>>()).await;
            pipeline.merge().await;
            pipeline.assert_rows(&orders, &[&["1", "a3"], &["3", "c3"]]).await;
        }
    });
}

#[test]
fn a_table_that_is_empty_after_its_load_is_emptied_only_on_an_operators_word() {
    run(async {
        for deletes in ["hard", "soft"] {
            let (mut pipeline, orders) = loaded(Setup::default().with("STRAIT_DELETES", deletes)).await;
            pipeline.send(&[orders.drop_table(), orders.create()]).await;
            let said = reason(&pipeline, &orders, "{}").await;
            assert!(said.contains(r#"{"tables":["shop.orders"],"reload":"empty"}"#), "{said}");
            assert_eq!(pipeline.rows(&orders).await.len(), 3);
            // The word of a load that is complete says nothing of one that brought no row.
            pipeline.merge_with(r#"{"tables":["shop.orders"],"reload":"complete"}"#).await;
            assert_eq!(pipeline.rows(&orders).await.len(), 3);
            let event = r#"{"tables":["shop.orders"],"reload":"empty"}"#;
            let answers = pipeline.merge_with(event).await;
            assert_eq!(of(&answers, &orders).deleted, 3);
            pipeline.assert_rows(&orders, &[]).await;
            // Said twice, it finds nothing to do.
            let answers = pipeline.merge_with(event).await;
            assert_eq!(of(&answers, &orders).deleted, 0);
            pipeline.send(&[orders.insert(row(9, "new")).at(300)]).await;
            pipeline.merge().await;
            pipeline.assert_rows(&orders, &[&["9", "new"]]).await;
        }
    });
}

/// Rows that are loaded although the record that begins the load never comes; and one that only comes late.
#[test]
fn a_load_whose_control_record_is_lost_is_said_and_one_whose_record_is_late_is_not() {
    run(async {
        let orders = Table::orders();
        let mut pipeline = Pipeline::start().await;
        pipeline
            .send(&[
                orders.create().sent_minutes_ago(90),
                orders.load(row(1, "a")).sent_minutes_ago(90),
                orders.load(row(2, "b")).sent_minutes_ago(90),
                orders.update(row(1, "a2")).at(100).sent_minutes_ago(80),
            ])
            .await;
        assert_eq!(reason(&pipeline, &orders, "{}").await, "");
        let create = orders.create().sent_minutes_ago(60);
        let late = pipeline.produce(&[create]);
        pipeline
            .send(&[orders.load(row(1, "a3")).sent_minutes_ago(59), orders.load(row(3, "c")).sent_minutes_ago(59)])
            .await;
        // Also while nothing is new.
        for _ in 0..2 {
            let said = reason(&pipeline, &orders, r#"{"tables":["shop.orders"]}"#).await;
            assert!(
                said.contains("without the create-table or drop-table record") && said.contains("Reload the table"),
                "{said}"
            );
        }
        assert!(pipeline.merge.log().contains(r#""LoadsWithoutStart":1"#), "{}", pipeline.merge.log());
        pipeline.assert_rows(&orders, &[&["1", "a2"], &["2", "b"], &["3", "c"]]).await;
        // It was late after all.
        pipeline.deliver(&late).await;
        let said = reason(&pipeline, &orders, "{}").await;
        assert!(said.starts_with("the table is being loaded again"), "{said}");
        pipeline.send(&[orders.update(row(3, "c2")).at(110)]).await;
        assert_eq!(reason(&pipeline, &orders, "{}").await, "");
        pipeline.assert_rows(&orders, &[&["1", "a3"], &["3", "c2"]]).await;

        // One that may be on its way, and a first load of a table that a person made, which has none at all.
        let (mut pipeline, orders) = loaded(Setup::default()).await;
        pipeline.send(&[orders.load(row(1, "a3"))]).await;
        assert_eq!(reason(&pipeline, &orders, "{}").await, "");
        let items = Table::new("shop", "items").column("id", "INT64").column("v", "WSTRING").key(&["id"]);
        let made = format!(
            "CREATE TABLE `{}` (id INT64, v STRING, PRIMARY KEY (id) NOT ENFORCED)",
            pipeline.final_table(&items)
        );
        pipeline.query(&made).await;
        pipeline
            .send(&[
                items.load(row(1, "a")).sent_minutes_ago(90),
                items.update(row(1, "b")).at(300).sent_minutes_ago(80),
            ])
            .await;
        assert_eq!(reason(&pipeline, &items, "{}").await, "");
        pipeline.assert_rows(&items, &[&["1", "b"]]).await;
    });
}

#[test]
fn a_control_record_without_rows_after_it_orders_nothing() {
    run(async {
        let (mut pipeline, orders) = loaded(Setup::default()).await;
        // As a task that is resumed names its tables again, and then sends once more what it had sent.
        let restarted = [orders.create(), orders.update(row(3, "c2")).at(100), orders.update(row(1, "a2")).at(110)];
        pipeline.send(&restarted).await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "a2"], &["2", "b"], &["3", "c2"]]).await;
    });
}

/// Nothing is merged yet that its changes could be compared with: they are compared with each other.
#[test]
fn a_numbering_that_begins_anew_within_a_tables_first_window_is_said_and_heals() {
    run(async {
        let orders = Table::orders();
        let mut pipeline = Pipeline::start().await;
        // What a restarted task sends again, and a transaction that began long before it was committed, begin nothing.
        let long = orders.update(row(2, "long")).at(420).in_file(900).committed_after_s(-3_600);
        let harmless = [
            orders.create(),
            orders.load(row(1, "a")),
            orders.load(row(2, "b")),
            orders.update(row(1, "a2")).at(410).in_file(900).committed_after_s(10),
            orders.update(row(2, "b2")).at(415).in_file(900).committed_after_s(20),
            long.clone(),
            orders.update(row(2, "b2")).at(415).in_file(900).committed_after_s(20),
            long,
        ];
        pipeline.send(&harmless).await;
        assert_eq!(reason(&pipeline, &orders, "{}").await, "");
        pipeline.assert_rows(&orders, &[&["1", "a2"], &["2", "long"]]).await;

        let orders = Table::new("shop", "again").column("id", "INT64").column("v", "WSTRING").key(&["id"]);
        pipeline
            .send(&[
                orders.create(),
                orders.load(row(1, "a")),
                orders.load(row(2, "b")),
                orders.load(row(3, "c")),
                orders.update(row(1, "a2")).at(500).in_file(900),
                orders.update(row(2, "b2")).at(501).in_file(900),
                orders.insert(row(4, "d")).at(4).in_file(1).committed_after_s(60),
                orders.update(row(1, "a3")).at(5).in_file(1).committed_after_s(61),
                orders.key_change(json!({"id": 2}), row(5, "e")).at(6).in_file(1).committed_after_s(62),
            ])
            .await;
        let said = reason(&pipeline, &orders, "{}").await;
        assert!(said.contains("the source's numbering has begun anew"), "{said}");
        let event = &said[said.find("{\"tables\"").unwrap()..=said.rfind('}').unwrap()];
        assert_eq!(reason(&pipeline, &orders, event).await, "");
        let healed: &[&[&str]] = &[&["1", "a3"], &["3", "c"], &["4", "d"], &["5", "e"]];
        pipeline.assert_rows(&orders, healed).await;
    });
}

#[test]
fn a_numbering_that_begins_anew_is_said_and_heals_by_an_operators_epoch() {
    run(async {
        let (mut pipeline, orders) = loaded(Setup::default()).await;
        let before = pipeline.produce(&[orders.update(row(2, "never")).at(90)]);
        pipeline
            .send(&[
                orders.update(row(1, "a2")).at(500).in_file(999_999),
                orders.insert(row(4, "d")).at(7).in_file(1_000_000),
            ])
            .await;
        let said = reason(&pipeline, &orders, "{}").await;
        assert_eq!(said, "", "a file that follows another is none that begins anew");
        // Late, and sent again by a task that was restarted: both are below what is merged, and neither begins anything.
        pipeline.deliver(&before).await;
        pipeline.send(&[orders.update(row(1, "a2")).at(500).in_file(999_999)]).await;
        assert_eq!(reason(&pipeline, &orders, "{}").await, "");

        // A failover: another server's binlog, which counts from one.
        pipeline
            .send(&[
                orders.update(row(1, "a3")).at(4).in_file(1).committed_after_s(60),
                orders.delete(row(4, "d")).at(5).in_file(1).committed_after_s(61),
                orders.insert(row(5, "e")).at(6).in_file(1).committed_after_s(62),
            ])
            .await;
        let said = reason(&pipeline, &orders, "{}").await;
        assert!(said.starts_with("3 changes were committed after what DMS had sent before them"), "{said}");
        assert!(pipeline.merge.log().contains("numbering has begun anew"));
        // The very command that it names.
        let event = &said[said.find("{\"tables\"").unwrap()..=said.rfind('}').unwrap()];
        assert!(event.contains(r#"["shop.*"]"#), "{event}");
        assert_eq!(reason(&pipeline, &orders, event).await, "");
        let healed: &[&[&str]] = &[&["1", "a3"], &["2", "never"], &["3", "c2"], &["5", "e"]];
        pipeline.assert_rows(&orders, healed).await;
        let snapshot = pipeline.snapshot(&orders).await;
        assert_eq!(reason(&pipeline, &orders, event).await, "", "said twice, it changes nothing");
        assert_eq!(pipeline.snapshot(&orders).await, snapshot);
        // From then on the new numbering counts, and the old one's stragglers do not.
        pipeline
            .send(&[
                orders.update(row(5, "e2")).at(9).in_file(1).committed_after_s(70),
                orders.delete(row(3, "c2")).at(10).in_file(1).committed_after_s(71),
            ])
            .await;
        assert_eq!(reason(&pipeline, &orders, "{}").await, "");
        pipeline.assert_rows(&orders, &[&["1", "a3"], &["2", "never"], &["5", "e2"]]).await;
    });
}

#[test]
fn transaction_details_that_are_switched_off_are_said() {
    run(async {
        let (mut pipeline, orders) = loaded(Setup::default()).await;
        pipeline.send(&[orders.update(row(1, "unordered"))]).await;
        let said = reason(&pipeline, &orders, "{}").await;
        assert!(said.contains("IncludeTransactionDetails switched off"), "{said}");
        let event = &said[said.find("{\"tables\"").unwrap()..=said.rfind('}').unwrap()];
        pipeline.merge_with(event.to_owned()).await;
        pipeline.assert_rows(&orders, &[&["1", "unordered"], &["2", "b"], &["3", "c2"]]).await;
    });
}

#[test]
fn records_driven_again_from_a_dead_letter_destination_are_folded_below_any_watermark() {
    run(async {
        let (mut pipeline, orders) = loaded(Setup::default()).await;
        let dead = pipeline.produce(&[
            orders.insert(row(7, "dead")).at(110),
            orders.update(row(1, "a1")).at(111),
            orders.delete(row(2, "b")).at(112),
            orders.insert(row(8, "eight")).at(113),
        ]);
        pipeline.send(&[orders.update(row(1, "a2")).at(120), orders.delete(row(8, "eight")).at(121)]).await;
        pipeline.merge().await;
        pipeline.send(&[orders.update(row(1, "a3")).at(130)]).await;
        pipeline.merge().await;
        pipeline.deliver(&dead).await;
        let answers = pipeline.merge().await;
        assert!(of(&answers, &orders).late > 0);
        pipeline.assert_rows(&orders, &[&["1", "a3"], &["3", "c2"], &["7", "dead"]]).await;
    });
}

#[test]
fn a_topic_made_anew_counts_from_zero_and_hides_nothing() {
    run(async {
        let (mut pipeline, orders) = loaded(Setup::default()).await;
        let mut records = pipeline.produce(&[
            orders.update(row(1, "a2")).at(200),
            orders.insert(row(4, "d")).at(201),
            orders.delete(row(2, "b")).at(202),
        ]);
        for (offset, record) in (0..).zip(&mut records) {
            record.offset = offset;
        }
        pipeline.deliver(&records).await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "a2"], &["3", "c2"], &["4", "d"]]).await;
    });
}

/// These records are all that the log retains, and these of their times are so many days ago.
async fn deliver_days_late(pipeline: &mut Pipeline, records: &[KafkaRecord], days: u32, times: &[&str]) {
    days_pass(pipeline, days).await;
    pipeline.query(&format!("DELETE FROM `{}` WHERE TRUE", pipeline.log())).await;
    pipeline.deliver(records).await;
    let earlier = |column: &&str| format!("{column} = TIMESTAMP_SUB({column}, INTERVAL {days} DAY)");
    let times: Vec<String> = times.iter().map(earlier).collect();
    pipeline.query(&format!("UPDATE `{}` SET {} WHERE TRUE", pipeline.log(), times.join(", "))).await;
}

#[test]
fn a_load_that_comes_later_than_the_log_retains_changes_nothing_and_is_said() {
    run(async {
        let orders = Table::orders();
        let mut pipeline = Setup::default().with("STRAIT_LOG_RETENTION_DAYS", "10").start().await;
        pipeline
            .send(&[
                orders.create(),
                orders.insert(row(1, "a")).at(100),
                orders.insert(row(2, "b")).at(101),
                orders.insert(row(3, "c")).at(102),
            ])
            .await;
        pipeline.merge().await;
        let load = pipeline.produce(&[
            orders.drop_table(),
            orders.create(),
            orders.load(row(1, "a")),
            orders.load(row(2, "b")),
            orders.load(row(3, "c")),
        ]);
        let later = [
            orders.update(row(1, "a2")).at(200),
            orders.delete(row(2, "b")).at(201),
            orders.insert(row(4, "d")).at(202),
        ];
        pipeline.send(&later).await;
        pipeline.merge().await;
        let expected: &[&[&str]] = &[&["1", "a2"], &["3", "c"], &["4", "d"]];
        pipeline.assert_rows(&orders, expected).await;

        deliver_days_late(&mut pipeline, &load, 40, &["committed_at", "emitted_at"]).await;
        let said = reason(&pipeline, &orders, "{}").await;
        assert!(said.contains("the log has forgotten changes that were sent since"), "{said}");
        pipeline.assert_rows(&orders, expected).await;
        let quarantined = pipeline.texts(&format!("SELECT key FROM `{}`", pipeline.quarantine())).await;
        assert_eq!(quarantined, [r#"{"id":"2"}"#], "whether it was deleted since is not known");
        // Nor does a person's word make it count.
        let event = format!(r#"{{"tables":["{}"],"reload":"complete"}}"#, orders.source_name());
        reason(&pipeline, &orders, &event).await;
        pipeline.assert_rows(&orders, expected).await;

        // A load in time does.
        pipeline
            .send(&[
                orders.drop_table(),
                orders.create(),
                orders.load(row(1, "a2")),
                orders.load(row(4, "d")),
                orders.update(row(4, "d2")).at(300),
            ])
            .await;
        let said = reason(&pipeline, &orders, "{}").await;
        assert!(!said.contains("has forgotten"), "{said}");
        // A log of many days may have partitions of which nothing was seen.
        assert!(said.contains("20 minutes of silence, in cdc-1"), "{said}");
        reason(&pipeline, &orders, &event).await;
        pipeline.assert_rows(&orders, &[&["1", "a2"], &["4", "d2"]]).await;
    });
}

#[test]
fn a_partial_image_that_comes_later_than_the_log_retains_is_quarantined() {
    run(async {
        let orders = Table::new("shop", "orders")
            .column("id", "INT32")
            .column("v", "WSTRING")
            .column("w", "WSTRING")
            .key(&["id"]);
        let mut pipeline = Setup::default()
            .with("STRAIT_LOG_RETENTION_DAYS", "10")
            .with("STRAIT_ABSENT_COLUMNS", "unchanged")
            .start()
            .await;
        pipeline.send(&[orders.create(), orders.insert(json!({"id": 1, "v": "a", "w": "x"})).at(100)]).await;
        pipeline.merge().await;
        let late = pipeline.produce(&[orders.update(json!({"id": 1, "v": "late"})).at(110)]);
        pipeline
            .send(&[
                orders.update(json!({"id": 1, "v": "newer"})).at(115),
                orders.update(json!({"id": 1, "w": "y"})).at(120),
            ])
            .await;
        pipeline.merge().await;
        deliver_days_late(&mut pipeline, &late, 40, &["committed_at", "emitted_at"]).await;
        let answers = pipeline.merge().await;
        assert_eq!(of(&answers, &orders).quarantined, 1, "{answers:?}");
        pipeline.assert_rows(&orders, &[&["1", "newer", "y"]]).await;
        // It does not come in with a change that is newer, either.
        pipeline.send(&[orders.update(json!({"id": 1, "w": "z"})).at(130)]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "newer", "z"]]).await;
        // Nor where all that the log retains is merged again: what it has forgotten it still has.
        let event = format!(r#"{{"tables":["{}"],"from":"2001-02-03T04:05:06Z"}}"#, orders.source_name());
        pipeline.merge_with(event).await;
        pipeline.assert_rows(&orders, &[&["1", "newer", "z"]]).await;
        let open = format!("SELECT reason FROM `{}` WHERE resolved_at IS NULL", pipeline.quarantine());
        let quarantined = pipeline.texts(&open).await.concat();
        assert!(quarantined.starts_with("the change is older than what the log retains"), "{quarantined}");
    });
}

#[test]
fn a_late_record_that_is_older_than_the_log_is_quarantined_unless_its_row_is_there() {
    run(async {
        let (mut pipeline, orders) = loaded(Setup::default().with("STRAIT_LOG_RETENTION_DAYS", "10")).await;
        let late =
            pipeline.produce(&[orders.insert(row(8, "was deleted")).at(110), orders.update(row(1, "stale")).at(111)]);
        pipeline.send(&[orders.delete(row(8, "was deleted")).at(120), orders.update(row(1, "a2")).at(121)]).await;
        pipeline.merge().await;
        // The log forgets the delete of row 8.
        deliver_days_late(&mut pipeline, &late, 40, &["committed_at"]).await;
        let answers = pipeline.merge().await;
        assert_eq!(of(&answers, &orders).quarantined, 1, "{answers:?}");
        pipeline.assert_rows(&orders, &[&["1", "a2"], &["2", "b"], &["3", "c2"]]).await;
        let quarantined =
            pipeline.texts(&format!("SELECT key, reason FROM `{}`", pipeline.quarantine())).await.concat();
        assert!(quarantined.contains(r#"{"id":"8"}|the change is older than what the log retains"#), "{quarantined}");
        // What comes in order is no matter for the guard.
        pipeline.send(&[orders.insert(row(8, "again")).at(130)]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "a2"], &["2", "b"], &["3", "c2"], &["8", "again"]]).await;
    });
}

#[test]
fn records_that_wait_for_longer_than_half_the_logs_retention_are_an_error_and_none_is_skipped() {
    run(async {
        let orders = Table::orders();
        let mut pipeline = Setup::default().with("STRAIT_LOG_RETENTION_DAYS", "10").start().await;
        let other = Table::new("shop", "other").column("id", "INT64").key(&["id"]);
        // No definition has come, so its records wait.
        pipeline
            .send(&[orders.insert(row(1, "a")).at(10), other.create(), other.insert(json!({"id": 1})).at(11)])
            .await;
        pipeline.merge().await;
        assert!(!pipeline.merge.log().contains("more than half"));
        days_pass(&pipeline, 6).await;
        pipeline.send(&[other.insert(json!({"id": 2})).at(12), orders.insert(row(2, "b")).at(13)]).await;
        pipeline.merge().await;
        let log = pipeline.merge.log();
        let line = log.lines().find(|line| line.contains("more than half")).unwrap();
        assert!(line.contains("ERROR") && line.contains("shop.orders"), "{line}");
        assert!(log.contains(r#""OldestUnmergedAge":"#), "{log}");
        // Past the retention, what is still there is merged, and that some may be gone is said.
        days_pass(&pipeline, 6).await;
        pipeline.send(&[orders.create()]).await;
        let answers = pipeline.merge().await;
        let said = of(&answers, &orders).reason.clone().unwrap_or_default();
        assert!(said.contains("longer than the log retains them"), "{answers:?}");
        pipeline.assert_rows(&orders, &[&["1", "a"], &["2", "b"]]).await;
        assert_eq!(reason_of_next(&mut pipeline, &orders).await, "");
    });
}

async fn reason_of_next(pipeline: &mut Pipeline, orders: &Table) -> String {
    pipeline.send(&[orders.insert(row(3, "c")).at(20)]).await;
    reason(pipeline, orders, "{}").await
}

#[test]
fn a_ledger_that_is_lost_is_no_reason_to_take_new_changes_for_old() {
    run(async {
        let (mut pipeline, orders) = loaded(Setup::default()).await;
        // The load has left the log; of its epoch only the rows know.
        pipeline.query(&format!("DROP TABLE `{}`", pipeline.merges())).await;
        pipeline.query(&format!("DELETE FROM `{}` WHERE operation <> 'update'", pipeline.log())).await;
        pipeline.send(&[orders.update(row(1, "a2")).at(300), orders.delete(row(2, "b")).at(301)]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "a2"], &["3", "c2"]]).await;
    });
}
