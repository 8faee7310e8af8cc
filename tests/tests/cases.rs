//! The cases of histories that broke real systems, each under hard and soft deletes, and each again after every redelivery of any
//! suffix of its records.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::json;
use strait_cli::msk::KafkaRecord;
use strait_cli::runtime_api::InvocationOutcome;
use strait_tests::case::{Case, Outcome, asked_for, play};
use strait_tests::history::{Message, Table};
use strait_tests::pipeline::{Pipeline, Setup, cells, of};
use strait_tests::{NULL, run};

fn row(id: u32, v: &str) -> String {
    json!({"id": id, "v": v}).to_string()
}

fn with_lob() -> Table {
    Table::orders().column("l", "NCLOB")
}

/// Names cases, and makes a test of each. The first test that runs plays all of them that the command line asks for.
macro_rules! cases {
    ($($name:ident $case:block)*) => {
        static PLAYED: LazyLock<BTreeMap<&'static str, Outcome>> =
            LazyLock::new(|| run(play(&asked_for(vec![$(($case).named(stringify!($name))),*]))));

        $(
            #[test]
            fn $name() {
                let wrong = &PLAYED[stringify!($name)];
                assert!(wrong.is_empty(), "{}", wrong.join("\n"));
            }
        )*
    };
}

cases! {
    case_01_insert_delete_insert_in_one_millisecond {
    let orders = Table::orders();
    Case::of(&orders)
        .deliver([
            orders.insert(row(1, "a")).at(10),
            orders.delete(row(1, "a")).at(11),
            orders.insert(row(1, "b")).at(12),
        ])
        .ends_with(&[&["1", "b"]], 0)
    }

    case_02_two_updates_whose_times_tie {
    let orders = Table::orders();
    // In the order of arrival that a sort by time alone would get wrong.
    Case::of(&orders)
        .deliver([orders.update(row(1, "b")).at(11), orders.update(row(1, "a")).at(10)])
        .ends_with(&[&["1", "b"]], 0)
    }

    case_02_two_updates_of_one_transaction {
    let orders = Table::orders();
    Case::of(&orders)
        .deliver([orders.update(row(1, "b")).at(10).record(10), orders.update(row(1, "a")).at(10).record(9)])
        .ends_with(&[&["1", "b"]], 0)
    }

    case_03_an_insert_delivered_twice_and_again {
    let orders = Table::orders();
    Case::of(&orders)
        .deliver([orders.insert(row(1, "a")).at(10)])
        .redeliver(0..1)
        .merge()
        .redeliver(0..1)
        .ends_with(&[&["1", "a"]], 0)
    }

    case_04_a_stale_update_arrives_late {
    let orders = Table::orders();
    Case::of(&orders)
        .deliver([orders.update(row(1, "b")).at(20)])
        .merge()
        .deliver([orders.update(row(1, "a")).at(15).on_partition(1)])
        .ends_with(&[&["1", "b"]], 0)
    }

    case_05_a_redelivered_insert_does_not_bring_a_deleted_row_back {
    let orders = Table::orders();
    Case::of(&orders)
        .deliver([orders.insert(row(1, "a")).at(10), orders.delete(row(1, "a")).at(20)])
        .merge()
        .redeliver(0..1)
        .merge()
        // As DMS sends it again: another offset, the same position.
        .deliver([orders.insert(row(1, "a")).at(10)])
        .ends_with(&[], 1)
    }

    case_05_an_insert_that_arrives_only_after_the_delete_was_merged {
    let orders = Table::orders();
    Case::of(&orders)
        .deliver([orders.insert(row(2, "other")).at(30), orders.delete(row(1, "a")).at(20)])
        .merge()
        .deliver([orders.insert(row(1, "a")).at(10).on_partition(1)])
        .ends_with(&[&["2", "other"]], 1)
    }

    case_06_a_primary_key_change {
    let orders = Table::orders();
    Case::of(&orders)
        .deliver([orders.insert(row(1, "a")).at(10)])
        .merge()
        .deliver([orders.key_change(json!({"id": 1}), row(2, "a")).at(30)])
        .ends_with(&[&["2", "a"]], 1)
    }

    case_06_keys_that_swap_within_one_window {
    let orders = Table::orders();
    Case::of(&orders)
        .deliver([orders.insert(row(1, "one")).at(10), orders.insert(row(2, "two")).at(11)])
        .merge()
        .deliver([
            orders.key_change(json!({"id": 1}), row(3, "one")).at(30).record(1),
            orders.key_change(json!({"id": 2}), row(1, "two")).at(30).record(2),
            orders.key_change(json!({"id": 3}), row(2, "one")).at(30).record(3),
        ])
        .ends_with(&[&["1", "two"], &["2", "one"]], 1)
    }

    case_07_an_update_without_its_large_column {
    let orders = with_lob();
    Case::of(&orders)
        .absent_means_unchanged()
        .deliver([orders.insert(json!({"id": 1, "v": "a", "l": "L"})).at(1)])
        .merge()
        .deliver([orders.update(json!({"id": 1, "v": "a'"})).at(2)])
        .ends_with(&[&["1", "a'", "L"]], 0)
    }

    case_08_partial_updates_in_one_window {
    let orders = with_lob();
    Case::of(&orders)
        .absent_means_unchanged()
        .deliver([orders.update(json!({"id": 1, "l": "x"})).at(2), orders.update(json!({"id": 1, "v": "y"})).at(3)])
        .ends_with(&[&["1", "y", "x"]], 0)
    }

    case_09_a_partial_update_after_a_redelivered_insert {
    let orders = with_lob();
    Case::of(&orders)
        .absent_means_unchanged()
        .deliver([
            orders.insert(json!({"id": 1, "v": "a", "l": "L"})).at(1),
            orders.update(json!({"id": 1, "v": "b"})).at(2),
        ])
        .merge()
        .redeliver(0..1)
        .deliver([orders.update(json!({"id": 1, "v": "c"})).at(3)])
        .ends_with(&[&["1", "c", "L"]], 0)
    }

    case_11_text_that_looks_like_something_else {
    let orders = Table::orders();
    let texts = [
        "'; DROP TABLE orders; --",
        "{{schema}}_{table} ${v} %s @v ? $1 `v`",
        r#"{"id": 2, "v": "json"}"#,
        r#"\" \\ \n \u0041 \ud83d\ude00"#,
        "\u{1}\t\n\r\u{7f}\u{2028}",
        "NULL",
        "null",
        "true",
        "0x41",
        "=x",
        "'''\"\"\"`",
        "  spaces kept  ",
    ];
    let messages: Vec<Message> = (1..).zip(texts).map(|(id, text)| orders.insert(row(id, text)).at(10 + id)).collect();
    let ids: Vec<String> = (1..=texts.len()).map(|id| id.to_string()).collect();
    let expected: Vec<[&str; 2]> = ids.iter().zip(texts).map(|(id, text)| [id.as_str(), text]).collect();
    let expected: Vec<&[&str]> = expected.iter().map(|row| row.as_slice()).collect();
    Case::of(&orders).deliver(messages).ends_with(&expected, 0)
    }

    case_16_false_zero_empty_null_and_absent_where_absent_means_null {
    let flags = five_kinds();
    let full = |id: u32| flags.insert(json!({"id": id, "b": true, "n": 7, "s": "x"})).at(id);
    Case::of(&flags)
        .deliver([
            flags.insert(json!({"id": 1, "b": false, "n": 0, "s": ""})).at(1),
            flags.insert(json!({"id": 2, "b": null, "n": null, "s": null})).at(2),
            flags.insert(json!({"id": 3})).at(3),
            full(4),
            full(5),
            full(6),
        ])
        .merge()
        .deliver([
            flags.update(json!({"id": 4, "b": false, "n": 0, "s": ""})).at(14),
            flags.update(json!({"id": 5, "b": null, "n": null, "s": null})).at(15),
            flags.update(json!({"id": 6})).at(16),
        ])
        .ends_with(
            &[
                &["1", "false", "0", ""],
                &["2", NULL, NULL, NULL],
                &["3", NULL, NULL, NULL],
                &["4", "false", "0", ""],
                &["5", NULL, NULL, NULL],
                &["6", NULL, NULL, NULL],
            ],
            0,
        )
    }

    case_16_false_zero_empty_null_and_absent_where_absent_means_unchanged {
    let flags = five_kinds();
    let full = |id: u32| flags.insert(json!({"id": id, "b": true, "n": 7, "s": "x"})).at(id);
    Case::of(&flags)
        .absent_means_unchanged()
        .deliver([full(4), full(5), full(6), flags.insert(json!({"id": 7})).at(7)])
        .merge()
        .deliver([
            flags.update(json!({"id": 4, "b": false, "n": 0, "s": ""})).at(14),
            flags.update(json!({"id": 5, "b": null, "n": null, "s": null})).at(15),
            flags.update(json!({"id": 6})).at(16),
        ])
        .ends_with(
            &[&["4", "false", "0", ""], &["5", NULL, NULL, NULL], &["6", "true", "7", "x"], &["7", NULL, NULL, NULL]],
            0,
        )
    }

    case_18_the_same_offset_on_two_topics {
    let orders = Table::orders();
    Case::of(&orders)
        .deliver([
            orders.insert(row(1, "a")).at(10).on_topic("cdc.shop-a").on_partition(3),
            orders.insert(row(2, "b")).at(11).on_topic("cdc.shop-b").on_partition(3),
        ])
        .merge()
        .deliver([orders.insert(row(3, "c")).at(12).on_topic("cdc.shop-b").on_partition(3)])
        .merge()
        .deliver([orders.insert(row(4, "d")).at(13).on_topic("cdc.shop-a").on_partition(3)])
        .ends_with(&[&["1", "a"], &["2", "b"], &["3", "c"], &["4", "d"]], 0)
    }

    case_19_a_key_that_changes_by_case_only {
    let names = Table::new("shop", "names").column("id", "WSTRING").column("v", "WSTRING").key(&["id"]);
    Case::of(&names)
        .deliver([names.insert(json!({"id": "abc", "v": "x"})).at(10)])
        .merge()
        .deliver([names.key_change(json!({"id": "abc"}), json!({"id": "ABC", "v": "x"})).at(11)])
        .ends_with(&[&["ABC", "x"]], 1)
    }
}

/// Delivers every suffix of the records again; no row may be written for it.
async fn redeliver_every_suffix(pipeline: &Pipeline, records: &[KafkaRecord], table: &Table) {
    let before = pipeline.snapshot(table).await;
    for from in 0..records.len() {
        pipeline.deliver(&records[from..]).await;
    }
    pipeline.merge().await;
    assert_eq!(pipeline.snapshot(table).await, before);
}

#[test]
fn case_12_the_answer_to_the_merge_is_lost() {
    run(async {
        for deletes in ["hard", "soft"] {
            let orders = Table::orders();
            let mut pipeline = Setup::default().with("STRAIT_DELETES", deletes).start().await;
            let mut records = pipeline.send(&[orders.create(), orders.insert(row(1, "a")).at(10)]).await;
            pipeline.merge().await;
            records
                .extend(pipeline.send(&[orders.delete(row(1, "a")).at(11), orders.insert(row(2, "b")).at(12)]).await);
            let final_dataset = format!("MERGE .*{}_replica", pipeline.prefix());
            pipeline
                .fault(json!({"side": "rest", "match": {"api": "jobs.insert", "body_regex": final_dataset},
                              "action": {"kind": "after_effect", "close": true}}))
                .await;
            let answers = pipeline.merge().await;
            assert!(pipeline.faults_are_used_up().await);
            let answer = of(&answers, &orders);
            assert_eq!((answer.outcome.as_str(), answer.records), ("merged", 2), "{answer:?}");
            pipeline.assert_rows(&orders, &[&["2", "b"]]).await;
            let before = pipeline.snapshot(&orders).await;
            pipeline.merge().await;
            assert_eq!(pipeline.snapshot(&orders).await, before);
            redeliver_every_suffix(&pipeline, &records, &orders).await;
        }
    });
}

#[test]
fn case_12_the_merge_took_effect_and_its_run_died() {
    run(async {
        for deletes in ["hard", "soft"] {
            let orders = Table::orders();
            let mut pipeline = Setup::default().with("STRAIT_DELETES", deletes).start().await;
            let mut records = pipeline.send(&[orders.create(), orders.insert(row(1, "a")).at(10)]).await;
            pipeline.merge().await;
            pipeline.merge().await;
            records
                .extend(pipeline.send(&[orders.update(row(1, "b")).at(11), orders.insert(row(2, "c")).at(12)]).await);
            // The second entry of a run says that the table is merged; the first one only holds it back. All tables are carried forward already.
            let ledger = format!("{}_cdc/tables/merges", pipeline.prefix());
            pipeline
                .fault(json!({"side": "grpc", "match": {"rpc": "AppendRows", "stream_regex": ledger}, "skip": 1,
                          "action": {"kind": "grpc_status", "code": "PERMISSION_DENIED"}}))
                .await;
            let outcome = pipeline.invoke_merge("{}").await;
            assert!(
                matches!(&outcome, InvocationOutcome::Error { error_type, .. } if error_type == "TablesFailed"),
                "{outcome:?}"
            );
            let merged = pipeline.snapshot(&orders).await;

            let answers = pipeline.merge().await;
            assert_eq!(of(&answers, &orders).outcome, "merged");
            pipeline.assert_rows(&orders, &[&["1", "b"], &["2", "c"]]).await;
            assert_eq!(pipeline.snapshot(&orders).await, merged, "the second run wrote again");
            redeliver_every_suffix(&pipeline, &records, &orders).await;
        }
    });
}

/// Makes a final table by hand, as a person would before the first merge.
async fn make_by_hand(pipeline: &Pipeline, table: &Table, definition: &str) {
    pipeline.query(&format!("CREATE SCHEMA IF NOT EXISTS `{}_replica`", pipeline.prefix())).await;
    pipeline.query(&format!("CREATE TABLE `{}` {definition}", pipeline.final_table(table))).await;
}

#[test]
fn case_10_a_row_moves_to_another_partition() {
    run(async {
        for deletes in ["hard", "soft"] {
            let visits = Table::new("shop", "visits")
                .column("id", "INT64")
                .column("day", "DATE")
                .column("v", "WSTRING")
                .key(&["id"]);
            let image = |id: u32, day: &str, v: &str| json!({"id": id, "day": day, "v": v});
            let mut pipeline = Setup::default().with("STRAIT_DELETES", deletes).start().await;
            make_by_hand(
                &pipeline,
                &visits,
                "(id INT64 NOT NULL, day DATE, v STRING, PRIMARY KEY (id) NOT ENFORCED) PARTITION BY day CLUSTER BY id",
            )
            .await;
            let mut records = pipeline
                .send(&[
                    visits.create(),
                    visits.insert(image(1, "2026-01-01", "moves")).at(10),
                    visits.insert(image(2, "2026-01-01", "moves under another key")).at(11),
                    visits.insert(image(3, "2026-01-02", "goes")).at(12),
                    visits.insert(image(4, "2026-01-02", "stays")).at(13),
                ])
                .await;
            pipeline.merge().await;
            records.extend(
                pipeline
                    .send(&[
                        visits.update(image(1, "2026-03-31", "moved")).at(20),
                        visits.key_change(json!({"id": 2}), image(5, "2026-03-31", "moved under another key")).at(21),
                        visits.delete(image(3, "2026-01-02", "goes")).at(22),
                        visits.insert(json!({"id": 6, "day": null, "v": "in none"})).at(23),
                    ])
                    .await,
            );
            pipeline.merge().await;
            let expected: &[&[&str]] = &[
                &["1", "2026-03-31", "moved"],
                &["4", "2026-01-02", "stays"],
                &["5", "2026-03-31", "moved under another key"],
                &["6", NULL, "in none"],
            ];
            pipeline.assert_rows(&visits, expected).await;
            // Each partition read alone, as a reader with a filter on the day sees it.
            for (day, ids) in [
                ("= '2026-01-01'", vec![]),
                ("= '2026-01-02'", vec!["4"]),
                ("= '2026-03-31'", vec!["1", "5"]),
                ("IS NULL", vec!["6"]),
            ] {
                let table = pipeline.final_table(&visits);
                let is_live = if deletes == "soft" { "AND NOT _strait_deleted" } else { "" };
                assert_eq!(
                    pipeline.texts(&format!("SELECT id FROM `{table}` WHERE day {day} {is_live}")).await,
                    ids,
                    "{day}"
                );
            }
            // Back again, and on to a third one, in one window.
            records.extend(
                pipeline
                    .send(&[
                        visits.update(image(1, "2026-01-01", "back")).at(30),
                        visits.update(image(1, "2026-02-02", "on")).at(31),
                    ])
                    .await,
            );
            pipeline.merge().await;
            assert_eq!(pipeline.rows(&visits).await[0], cells(&[&["1", "2026-02-02", "on"]])[0]);
            redeliver_every_suffix(&pipeline, &records, &visits).await;
        }
    });
}

#[test]
fn case_13_merges_fail_for_longer_than_the_look_back() {
    run(async {
        for deletes in ["hard", "soft"] {
            let orders = Table::orders();
            let mut pipeline =
                Setup::default().with("STRAIT_DELETES", deletes).with("STRAIT_LOG_RETENTION_DAYS", "2").start().await;
            let mut records = pipeline
                .send(&[orders.create(), orders.insert(row(1, "old")).at(10), orders.insert(row(2, "old")).at(11)])
                .await;
            pipeline.merge().await;
            hours_pass_since_the_merge(&pipeline, 30).await;
            pipeline.merge().await;
            assert_eq!(alarms(&pipeline), 0, "nothing waits");

            // Each batch is ingested hours after the last merge that worked, and no merge works.
            let final_table = format!("MERGE .*{}_replica", pipeline.prefix());
            let fold = format!("CREATE OR REPLACE TABLE .*{}_cdc", pipeline.prefix());
            let plan = format!("{}_cdc.*GROUPING SETS", pipeline.prefix());
            let batches = [
                (29, &final_table, vec![orders.update(row(1, "a")).at(20), orders.insert(row(3, "a")).at(21)]),
                (
                    20,
                    &fold,
                    vec![orders.delete(row(2, "old")).at(30), orders.insert(row(4, "b")).at(31).on_partition(1)],
                ),
                (5, &plan, vec![orders.update(row(3, "c")).at(40)]),
                (
                    0,
                    &final_table,
                    vec![orders.update(row(4, "d")).at(50).on_partition(1), orders.insert(row(5, "d")).at(51)],
                ),
            ];
            for (hours_ago, failing, messages) in batches {
                let sent = pipeline.send(&messages).await;
                ingested_hours_ago(&pipeline, &sent, hours_ago).await;
                records.extend(sent);
                let refused = json!({"side": "rest", "match": {"api": "jobs.insert", "body_regex": failing},
                                     "action": {"kind": "status", "http": 400}});
                pipeline.fault(refused).await;
                let outcome = pipeline.invoke_merge("{}").await;
                assert!(matches!(outcome, InvocationOutcome::Error { .. }), "{outcome:?}");
                assert!(pipeline.faults_are_used_up().await);
                // Half of the retention is over: there is still time to mend it.
                assert!(alarms(&pipeline) > 0, "{hours_ago}");
            }

            // What a failed run had begun is finished first, and the rest after it.
            for _ in 0..3 {
                pipeline.merge().await;
            }
            let expected: &[&[&str]] = &[&["1", "a"], &["3", "c"], &["4", "d"], &["5", "d"]];
            pipeline.assert_rows(&orders, expected).await;
            assert_eq!(of(&pipeline.merge_with(r#"{"tables":["shop.orders"]}"#).await, &orders).outcome, "idle");
            redeliver_every_suffix(&pipeline, &records, &orders).await;
        }
    });
}

/// How often the merge has said at ERROR that records wait for too long.
fn alarms(pipeline: &Pipeline) -> usize {
    let log = pipeline.merge.log();
    let is_alarm = |line: &&str| {
        line.contains("ERROR")
            && line.contains("more than half of the time that the log retains them")
            && line.contains("shop.orders")
    };
    log.lines().filter(is_alarm).count()
}

/// As if all that the log and the ledger hold had taken place so much earlier. Only while no merge has begun anything.
async fn hours_pass_since_the_merge(pipeline: &Pipeline, hours: u32) {
    let earlier = |column: &str| format!("{column} = TIMESTAMP_SUB({column}, INTERVAL {hours} HOUR)");
    let log = ["ingested_at", "emitted_at", "committed_at"].map(earlier).join(", ");
    pipeline.query(&format!("UPDATE `{}` SET {log} WHERE TRUE", pipeline.log())).await;
    let ledger = ["recorded_at", "window_from", "window_to", "covered_to"].map(earlier).join(", ");
    pipeline.query(&format!("UPDATE `{}` SET {ledger} WHERE TRUE", pipeline.merges())).await;
}

/// As if these records had been sent and ingested so much earlier.
async fn ingested_hours_ago(pipeline: &Pipeline, records: &[KafkaRecord], hours: u32) {
    let earlier = |column: &str| format!("{column} = TIMESTAMP_SUB({column}, INTERVAL {hours} HOUR)");
    let times = ["ingested_at", "emitted_at", "committed_at"].map(earlier).join(", ");
    for record in records {
        let (partition, offset) = (record.partition, record.offset);
        let sql = format!(
            "UPDATE `{}` SET {times} WHERE kafka_partition = {partition} AND kafka_offset = {offset}",
            pipeline.log()
        );
        pipeline.query(&sql).await;
    }
}

#[test]
fn case_14_times_before_1970_and_before_1582() {
    run(async {
        for deletes in ["hard", "soft"] {
            let times = Table::new("shop", "times")
                .column("day", "DATE")
                .column("moment", "TIMESTAMP")
                .column("local", "DATETIME")
                .key(&["day"]);
            let image = |day: &str, moment: &str| json!({"day": day, "moment": moment, "local": moment});
            let mut pipeline = Setup::default().with("STRAIT_DELETES", deletes).start().await;
            let mut records = pipeline
                .send(&[
                    times.create(),
                    times.insert(image("1500-03-10", "1754-08-30T22:43:41.129Z")).at(10),
                    // The days that the Gregorian calendar left out are days in the proleptic one.
                    times.insert(image("1582-10-10", "1582-10-04T23:59:59.999999Z")).at(11),
                    times.insert(image("1969-12-31", "1969-12-31T23:59:59.999999Z")).at(12),
                    times.insert(image("0001-01-01", "0001-01-01T00:00:00Z")).at(13),
                    times.insert(image("9999-12-31", "9999-12-31T23:59:59.999999Z")).at(14),
                    times.insert(image("1900-02-28", "1900-03-01T00:00:00.000001Z")).at(15),
                    times.insert(image("2000-02-29", "1500-03-10T00:00:00Z")).at(16),
                ])
                .await;
            pipeline.merge().await;
            // A key from before 1582 is found again, too.
            records.extend(
                pipeline
                    .send(&[
                        times.update(image("1582-10-10", "1754-08-30T22:43:41.128Z")).at(20),
                        times.delete(image("1900-02-28", "1900-03-01T00:00:00.000001Z")).at(21),
                    ])
                    .await,
            );
            pipeline.merge().await;
            let is_live = if deletes == "soft" { "WHERE NOT _strait_deleted" } else { "" };
            // Seconds since 1970 and years as numbers: a day that is off anywhere cannot hide in how it is printed.
            let sql = format!(
                "SELECT CAST(day AS STRING), UNIX_MICROS(moment), DATETIME_DIFF(local, DATETIME '1970-01-01 00:00:00', MICROSECOND) \
                 FROM `{}` {is_live}",
                pipeline.final_table(&times)
            );
            let expected = [
                "0001-01-01|-62135596800000000|-62135596800000000",
                "1500-03-10|-6795364578871000|-6795364578871000",
                "1582-10-10|-6795364578872000|-6795364578872000",
                "1969-12-31|-1|-1",
                "2000-02-29|-14825894400000000|-14825894400000000",
                "9999-12-31|253402300799999999|253402300799999999",
            ];
            assert_eq!(pipeline.texts(&sql).await, expected);
            redeliver_every_suffix(&pipeline, &records, &times).await;
        }
    });
}

#[test]
fn case_15_numbers_at_the_limits_of_their_types() {
    run(async {
        for deletes in ["hard", "soft"] {
            let numbers = Table::new("shop", "numbers")
                .column("id", "UINT64")
                .numeric("n", 38, 9)
                .numeric("wide", 65, 30)
                .key(&["id"]);
            let image = |id: &str, n: &str, wide: &str| format!(r#"{{"id":{id},"n":{n},"wide":{wide}}}"#);
            let mut pipeline = Setup::default().with("STRAIT_DELETES", deletes).start().await;
            let too_many = "9".repeat(39);
            let records = pipeline
                .send(&[
                    numbers.create(),
                    numbers
                        .insert(image("18446744073709551615", "12345678901234567890123456789.123456789", "1.5"))
                        .at(10),
                    numbers
                        .insert(image("18446744073709551614", "-99999999999999999999999999999.999999999", "null"))
                        .at(11),
                    // As text, which DMS may send as well.
                    numbers.insert(image("\"9223372036854775808\"", "\"0.000000001\"", "\"-0.5\"")).at(12),
                    // One digit more than NUMERIC has before the point, after it, and than BIGNUMERIC has.
                    numbers.insert(image("1", "100000000000000000000000000000", "1")).at(13),
                    numbers.insert(image("2", "0.1234567891", "1")).at(14),
                    numbers.insert(image("3", "1", &too_many)).at(15),
                    numbers.insert(image("4", "1", &format!("0.{}1", "0".repeat(38)))).at(16),
                    numbers.insert(image("1.8446744073709552e19", "1", "1")).at(17),
                ])
                .await;
            let answers = pipeline.merge().await;
            assert_eq!(of(&answers, &numbers).quarantined, 5, "{answers:?}");
            let rows = format!(
                "SELECT CAST(id AS STRING), CAST(n AS STRING), CAST(wide AS STRING) FROM `{}`",
                pipeline.final_table(&numbers)
            );
            let expected = [
                "18446744073709551614|-99999999999999999999999999999.999999999|NULL",
                "18446744073709551615|12345678901234567890123456789.123456789|1.5",
                "9223372036854775808|0.000000001|-0.5",
            ];
            let plain =
                |texts: Vec<String>| -> Vec<String> { texts.iter().map(|text| without_closing_zeros(text)).collect() };
            assert_eq!(plain(pipeline.texts(&rows).await), expected);
            let quarantine = format!("SELECT kafka_offset, `column` FROM `{}`", pipeline.quarantine());
            assert_eq!(pipeline.texts(&quarantine).await, ["4|n", "5|n", "6|wide", "7|wide", "8|id"]);
            redeliver_every_suffix(&pipeline, &records, &numbers).await;
            assert_eq!(pipeline.texts(&quarantine).await.len(), 5);
        }
    });
}

#[test]
fn case_15_a_number_that_a_column_made_by_hand_cannot_hold() {
    run(async {
        for deletes in ["hard", "soft"] {
            let numbers = Table::new("shop", "numbers").column("id", "INT64").column("n", "UINT64").key(&["id"]);
            let mut pipeline = Setup::default().with("STRAIT_DELETES", deletes).start().await;
            make_by_hand(&pipeline, &numbers, "(id INT64 NOT NULL, n INT64, PRIMARY KEY (id) NOT ENFORCED)").await;
            let image = |id: u32, n: &str| format!(r#"{{"id":{id},"n":{n}}}"#);
            let records = pipeline
                .send(&[
                    numbers.create(),
                    numbers.insert(image(1, "18446744073709551615")).at(10),
                    numbers.insert(image(2, "9223372036854775808")).at(11),
                    numbers.insert(image(3, "9223372036854775807")).at(12),
                    numbers.insert(image(4, "-9223372036854775808")).at(13),
                ])
                .await;
            assert_eq!(of(&pipeline.merge().await, &numbers).quarantined, 2);
            let expected: &[&[&str]] = &[&["3", "9223372036854775807"], &["4", "-9223372036854775808"]];
            pipeline.assert_rows(&numbers, expected).await;
            redeliver_every_suffix(&pipeline, &records, &numbers).await;
        }
    });
}

/// BigQuery prints `1.5`, the embedded one `1.500000000`.
fn without_closing_zeros(cells: &str) -> String {
    let cells = cells.split('|').map(|cell| match cell.split_once('.') {
        Some(_) => cell.trim_end_matches('0').trim_end_matches('.'),
        None => cell,
    });
    cells.collect::<Vec<_>>().join("|")
}

#[test]
fn case_20_arrays_and_json_have_four_kinds_of_nothing() {
    run(async {
        for (deletes, absent) in [("hard", "null"), ("soft", "null"), ("hard", "unchanged"), ("soft", "unchanged")] {
            let table = Table::new("shop", "nothings")
                .column("id", "INT64")
                .column("t", "NCLOB")
                .column("j", "NCLOB")
                .key(&["id"]);
            let setup = Setup::default().with("STRAIT_DELETES", deletes).with("STRAIT_ABSENT_COLUMNS", absent);
            let mut pipeline = setup.start().await;
            make_by_hand(&pipeline, &table, "(id INT64 NOT NULL, t STRING, j JSON, PRIMARY KEY (id) NOT ENFORCED)")
                .await;
            let kinds = ["null", r#""[]""#, r#""[null]""#, r#""{}""#, r#""null""#, r#""""#, "[]", "[null]", "{}"];
            let mut messages = vec![table.create()];
            for (id, kind) in (1..).zip(kinds) {
                // An empty text is no JSON.
                let json = if kind == r#""""# { "null" } else { kind };
                messages.push(table.insert(format!(r#"{{"id":{id},"t":{kind},"j":{json}}}"#)).at(10 + id));
            }
            let mut records = pipeline.send(&messages).await;
            assert_eq!(of(&pipeline.merge().await, &table).quarantined, 0);
            let kinds = async |pipeline: &Pipeline| {
                let sql = format!(
                    "SELECT id, t IS NULL, COALESCE(t, ''), j IS NULL, IF(j IS NULL, '', TO_JSON_STRING(j)), COALESCE(JSON_TYPE(j), '') \
                     FROM `{}`",
                    pipeline.final_table(&table)
                );
                pipeline.texts(&sql).await
            };
            let expected = [
                "1|true||true||",
                "2|false|[]|false|[]|array",
                "3|false|[null]|false|[null]|array",
                "4|false|{}|false|{}|object",
                "5|false|null|false|null|null",
                "6|false||true||",
                "7|false|[]|false|[]|array",
                "8|false|[null]|false|[null]|array",
                "9|false|{}|false|{}|object",
            ];
            assert_eq!(kinds(&pipeline).await, expected, "{deletes} {absent}");

            // One into another.
            records.extend(
                pipeline
                    .send(&[
                        table.update(r#"{"id":1,"t":"{}","j":"{}"}"#).at(30),
                        table.update(r#"{"id":2,"t":null,"j":null}"#).at(31),
                        table.update(r#"{"id":3,"t":"[]","j":[]}"#).at(32),
                        table.update(r#"{"id":4,"t":"[null]","j":[null]}"#).at(33),
                    ])
                    .await,
            );
            pipeline.merge().await;
            let expected = [
                "1|false|{}|false|{}|object",
                "2|true||true||",
                "3|false|[]|false|[]|array",
                "4|false|[null]|false|[null]|array",
            ];
            assert_eq!(kinds(&pipeline).await[..4], expected, "{deletes} {absent}");
            redeliver_every_suffix(&pipeline, &records, &table).await;
        }
    });
}

/// A step takes seconds, of which each statement takes over a hundred milliseconds.
const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_millis(300);

/// Delivers and merges step by step while a reader polls the table, and says after each step which rows were there. The reader must
/// find every one of `always` at every moment, and nothing that `states` does not hold.
async fn step_by_step_under_a_readers_eyes(
    pipeline: &Pipeline,
    table: &Table,
    steps: &[Vec<KafkaRecord>],
    always: &[&str],
    states: &[&[&str]],
) -> Vec<Vec<Vec<Option<String>>>> {
    let states = cells(states);
    let is_done = std::sync::atomic::AtomicBool::new(false);
    let reader = async {
        let mut looks = 0;
        while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
            let rows = pipeline.rows(table).await;
            for key in always {
                let found = rows.iter().filter(|row| row[0].as_deref() == Some(key)).count();
                assert_eq!(found, 1, "a reader found {rows:?}");
            }
            assert!(rows.iter().all(|row| states.contains(row)), "a reader found {rows:?}");
            looks += 1;
            // A reader that never rests takes the embedded BigQuery from the merge, and from every other test.
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        looks
    };
    let writer = async {
        let mut seen = Vec::new();
        for step in steps {
            pipeline.deliver(step).await;
            pipeline.merge().await;
            seen.push(pipeline.rows(table).await);
        }
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        seen
    };
    let (seen, looks) = tokio::join!(writer, reader);
    assert!(looks >= steps.len(), "the reader looked {looks} times");
    seen
}

/// Three rows, merged, before a reload.
async fn before_a_reload(deletes: &str) -> (Pipeline, Table, Vec<KafkaRecord>) {
    let orders = Table::orders();
    let mut pipeline = Setup::default().with("STRAIT_DELETES", deletes).start().await;
    let records = pipeline
        .send(&[
            orders.create(),
            orders.insert(row(1, "a")).at(1_000),
            orders.insert(row(2, "b")).at(1_001),
            orders.insert(row(3, "c")).at(1_002),
        ])
        .await;
    pipeline.merge().await;
    (pipeline, orders, records)
}

const BEFORE_THE_RELOAD: &[&[&str]] = &[&["1", "a"], &["2", "b"], &["3", "c"]];

#[test]
fn case_23_a_reload_removes_what_vanished_and_no_reader_sees_less() {
    run(async {
        for deletes in ["hard", "soft"] {
            let (mut pipeline, orders, mut records) = before_a_reload(deletes).await;
            let steps = [
                vec![orders.drop_table(), orders.create()],
                vec![orders.load(row(4, "d"))],
                vec![orders.load(row(1, "a2")), orders.load(row(3, "c"))],
                // The source's numbering is another one since: below all that was merged.
                vec![orders.update(row(3, "c2")).at(5)],
                vec![orders.insert(row(5, "e")).at(6), orders.delete(row(4, "d")).at(7)],
            ]
            .map(|messages| pipeline.produce(&messages));
            let states: &[&[&str]] =
                &[&["1", "a"], &["2", "b"], &["3", "c"], &["1", "a2"], &["3", "c2"], &["4", "d"], &["5", "e"]];
            let seen = step_by_step_under_a_readers_eyes(&pipeline, &orders, &steps, &["1", "3"], states).await;
            let expected: [&[&[&str]]; 5] = [
                BEFORE_THE_RELOAD,
                &[&["1", "a"], &["2", "b"], &["3", "c"], &["4", "d"]],
                // Nothing says yet that DMS has sent all rows.
                &[&["1", "a2"], &["2", "b"], &["3", "c"], &["4", "d"]],
                &[&["1", "a2"], &["3", "c2"], &["4", "d"]],
                &[&["1", "a2"], &["3", "c2"], &["5", "e"]],
            ];
            assert_eq!(seen, expected.map(cells), "{deletes}");
            let marked = if deletes == "soft" { cells(&[&["2", "b"], &["4", "d"]]) } else { Vec::new() };
            assert_eq!(pipeline.deleted_rows(&orders).await, marked);
            records.extend(steps.into_iter().flatten());
            redeliver_every_suffix(&pipeline, &records, &orders).await;
        }
    });
}

#[test]
fn case_23_a_reload_is_interrupted_and_begins_again() {
    run(async {
        for deletes in ["hard", "soft"] {
            let (mut pipeline, orders, mut records) = before_a_reload(deletes).await;
            let steps = [
                vec![orders.drop_table(), orders.create(), orders.load(row(2, "b")), orders.load(row(6, "f"))],
                // The task was stopped; rows 2 and 6 are gone when it loads the table anew.
                vec![orders.drop_table(), orders.create(), orders.load(row(1, "a"))],
                vec![orders.load(row(3, "c")), orders.update(row(1, "a2")).at(5)],
            ]
            .map(|messages| pipeline.produce(&messages));
            let states: &[&[&str]] = &[&["1", "a"], &["2", "b"], &["3", "c"], &["1", "a2"], &["6", "f"]];
            let seen = step_by_step_under_a_readers_eyes(&pipeline, &orders, &steps, &["1", "3"], states).await;
            let with_all = cells(&[&["1", "a"], &["2", "b"], &["3", "c"], &["6", "f"]]);
            assert_eq!(seen, [with_all.clone(), with_all, cells(&[&["1", "a2"], &["3", "c"]])], "{deletes}");
            records.extend(steps.into_iter().flatten());
            redeliver_every_suffix(&pipeline, &records, &orders).await;
        }
    });
}

#[test]
fn case_23_changes_from_before_the_reload_arrive_late() {
    run(async {
        for deletes in ["hard", "soft"] {
            let (mut pipeline, orders, mut records) = before_a_reload(deletes).await;
            // Sent before the reload, at positions above all that comes after it, and held back by their partitions.
            let during = pipeline.produce(&[orders.update(row(1, "stale")).at(2_000).on_partition(1)]);
            let afterwards = pipeline.produce(&[
                orders.update(row(2, "stale")).at(2_001).on_partition(2),
                orders.insert(row(7, "stale")).at(2_002).on_partition(2),
                orders.key_change(json!({"id": 3}), row(8, "stale")).at(2_003).on_partition(2),
            ]);
            let steps = [
                pipeline.produce(&[orders.drop_table(), orders.create(), orders.load(row(1, "a2"))]),
                during,
                pipeline.produce(&[orders.load(row(3, "c"))]),
                // Each partition that is known has come further than the load.
                pipeline
                    .produce(&[orders.update(row(3, "c2")).at(5), orders.insert(row(9, "i")).at(6).on_partition(1)]),
                afterwards,
            ];
            let states: &[&[&str]] = &[&["1", "a"], &["2", "b"], &["3", "c"], &["1", "a2"], &["3", "c2"], &["9", "i"]];
            let seen = step_by_step_under_a_readers_eyes(&pipeline, &orders, &steps, &["1", "3"], states).await;
            let after_load = cells(&[&["1", "a2"], &["3", "c2"], &["9", "i"]]);
            assert_eq!(seen[3..], [after_load.clone(), after_load], "{deletes}");
            records.extend(steps.into_iter().flatten());
            redeliver_every_suffix(&pipeline, &records, &orders).await;
        }
    });
}

#[test]
fn case_23_the_control_records_arrive_after_the_loaded_rows() {
    run(async {
        for deletes in ["hard", "soft"] {
            let (mut pipeline, orders, mut records) = before_a_reload(deletes).await;
            let control = pipeline.produce(&[orders.drop_table().on_partition(1), orders.create().on_partition(1)]);
            let steps = [
                pipeline.produce(&[orders.load(row(1, "a2")), orders.load(row(3, "c"))]),
                pipeline.produce(&[orders.update(row(3, "c2")).at(5)]),
                control,
                // Until now nothing showed that the second partition holds no loaded row.
                pipeline.produce(&[orders.update(row(1, "a3")).at(6).on_partition(1)]),
            ];
            let states: &[&[&str]] = &[&["1", "a"], &["2", "b"], &["3", "c"], &["1", "a2"], &["1", "a3"], &["3", "c2"]];
            let seen = step_by_step_under_a_readers_eyes(&pipeline, &orders, &steps, &["1", "3"], states).await;
            assert_eq!(seen[2], cells(&[&["1", "a2"], &["2", "b"], &["3", "c2"]]), "{deletes}");
            assert_eq!(seen[3], cells(&[&["1", "a3"], &["3", "c2"]]), "{deletes}");
            records.extend(steps.into_iter().flatten());
            redeliver_every_suffix(&pipeline, &records, &orders).await;
        }
    });
}

#[test]
fn case_23_a_loaded_row_that_is_still_on_its_way_is_waited_for() {
    run(async {
        for deletes in ["hard", "soft"] {
            let (mut pipeline, orders, mut records) = before_a_reload(deletes).await;
            let load = pipeline.produce(&[
                orders.drop_table(),
                orders.create(),
                orders.load(row(1, "a")),
                orders.load(row(3, "c")),
            ]);
            let on_its_way = pipeline.produce(&[orders.load(row(2, "b"))]);
            let change = pipeline.produce(&[orders.update(row(3, "c2")).at(5)]);
            for known in [&load, &change] {
                pipeline.deliver(known).await;
                let answers = pipeline.merge().await;
                let reason = of(&answers, &orders).reason.clone().unwrap();
                assert!(reason.contains("loaded again") && reason.contains("\"reload\":\"complete\""), "{reason}");
            }
            let expected: &[&[&str]] = &[&["1", "a"], &["2", "b"], &["3", "c2"]];
            pipeline.assert_rows(&orders, expected).await;
            pipeline.deliver(&on_its_way).await;
            for _ in 0..2 {
                pipeline.merge().await;
                pipeline.assert_rows(&orders, expected).await;
            }
            assert_eq!(pipeline.deleted_rows(&orders).await, cells(&[]));
            records.extend(load.into_iter().chain(on_its_way).chain(change));
            redeliver_every_suffix(&pipeline, &records, &orders).await;
        }
    });
}

#[test]
fn case_23_an_operator_says_that_an_empty_table_was_loaded() {
    run(async {
        for deletes in ["hard", "soft"] {
            let (mut pipeline, orders, mut records) = before_a_reload(deletes).await;
            records.extend(pipeline.send(&[orders.drop_table(), orders.create()]).await);
            for _ in 0..2 {
                pipeline.merge().await;
                pipeline.assert_rows(&orders, BEFORE_THE_RELOAD).await;
            }
            pipeline.merge_with(r#"{"tables":["shop.orders"],"reload":"empty"}"#).await;
            pipeline.assert_rows(&orders, &[]).await;
            redeliver_every_suffix(&pipeline, &records, &orders).await;
            pipeline.send(&[orders.insert(row(2, "b2")).at(5)]).await;
            pipeline.merge().await;
            pipeline.assert_rows(&orders, &[&["2", "b2"]]).await;
        }
    });
}

fn five_kinds() -> Table {
    Table::new("shop", "flags")
        .column("id", "INT64")
        .column("b", "BOOL")
        .column("n", "INT32")
        .column("s", "WSTRING")
        .key(&["id"])
}

#[test]
fn case_17_a_column_is_added_in_the_middle_of_a_batch() {
    run(async {
        for deletes in ["hard", "soft"] {
            let old = Table::orders();
            let new = Table::orders().column("w", "WSTRING");
            let mut pipeline = Setup::default().with("STRAIT_DELETES", deletes).start().await;
            let mut records = pipeline.send(&[old.create(), old.insert(row(1, "a")).at(10)]).await;
            pipeline.merge().await;
            let more = pipeline
                .send(&[
                    old.update(row(1, "b")).at(20),
                    new.update(json!({"id": 1, "v": "d", "w": "new"})).at(22),
                    old.update(row(1, "c")).at(21),
                    new.create(),
                ])
                .await;
            records.extend(more);
            pipeline.merge().await;
            pipeline.assert_rows(&new, &[&["1", "d", "new"]]).await;
            redeliver_every_suffix(&pipeline, &records, &new).await;
        }
    });
}

#[test]
fn case_21_names_that_are_no_plain_identifiers() {
    run(async {
        for deletes in ["hard", "soft"] {
            let sources = ["id", "a.b", "a`c", "select", "with space", "이름", "Note", "note", "1st", "_partitiontime"];
            let mut table = Table::new("shop", "order").key(&["id"]);
            for source in sources {
                table = table.column(source, "WSTRING");
            }
            let mut pipeline = Setup::default().with("STRAIT_DELETES", deletes).start().await;
            let image: serde_json::Map<String, serde_json::Value> =
                sources.iter().map(|source| ((*source).to_owned(), json!(format!("value of {source}")))).collect();
            let image = serde_json::Value::Object(image);
            let mut records = pipeline.send(&[table.create(), table.insert(&image).at(10)]).await;
            let answers = pipeline.merge().await;
            assert_eq!(of(&answers, &table).outcome, "merged", "{answers:?}");

            // The documented rule, and the description by which a renamed column is read back.
            let sql = format!(
                "SELECT column_name, description FROM `{}_replica`.INFORMATION_SCHEMA.COLUMN_FIELD_PATHS WHERE table_name = 'shop_order'",
                pipeline.prefix()
            );
            let names = strait::names::column_names(sources);
            let described = pipeline.query(&sql).await;
            let columns =
                pipeline.bigquery.query(&format!("SELECT * FROM `{}`", pipeline.final_table(&table))).await.unwrap();
            for (source, name) in sources.into_iter().zip(&names) {
                let place = columns.columns.iter().position(|column| column.name == *name);
                let place =
                    place.unwrap_or_else(|| panic!("{source} is not in the column {name}: {:?}", columns.columns));
                assert_eq!(columns.rows[0][place].as_deref(), Some(format!("value of {source}").as_str()), "{name}");
                if source != name {
                    let description =
                        described.iter().find(|row| row[0].as_deref() == Some(name)).and_then(|row| row[1].clone());
                    let read_back = description.as_deref().and_then(strait::names::source_column);
                    assert_eq!(read_back.as_deref(), Some(source), "{name}");
                }
            }
            // An update finds the columns again by their descriptions alone.
            let mut changed = image;
            changed["a`c"] = json!("changed");
            records.extend(pipeline.send(&[table.update(&changed).at(11)]).await);
            pipeline.merge().await;
            let place = columns.columns.iter().position(|column| column.name == names[2]).unwrap();
            assert_eq!(pipeline.rows(&table).await[0][place].as_deref(), Some("changed"));
            redeliver_every_suffix(&pipeline, &records, &table).await;
        }
    });
}

#[test]
fn case_24_emoji_in_both_spellings_and_half_of_one() {
    run(async {
        for deletes in ["hard", "soft"] {
            let orders = Table::orders();
            let mut pipeline = Setup::default().with("STRAIT_DELETES", deletes).start().await;
            let records = pipeline
                .send(&[
                    orders.create(),
                    orders.insert(r#"{"id":1,"v":"😀"}"#).at(10),
                    orders.insert(r#"{"id":2,"v":"\ud83d\ude00"}"#).at(11),
                    orders.insert(r#"{"id":3,"v":"half \ud83d only"}"#).at(12),
                    orders.insert(r#"{"id":4,"v":"sound"}"#).at(13),
                ])
                .await;
            // BigQuery's JSON_VALUE makes two U+FFFD of an escaped pair, the embedded one does not: none may be in the log.
            let escaped =
                format!(r"SELECT kafka_offset FROM `{}` WHERE REGEXP_CONTAINS(data, r'\\ud83d')", pipeline.log());
            assert_eq!(pipeline.texts(&escaped).await, ["3"], "only the half, as received");
            let expected: &[&[&str]] = &[&["1", "😀"], &["2", "😀"], &["4", "sound"]];
            for from in 0..=records.len() {
                let answers = pipeline.merge().await;
                if from == 0 {
                    assert_eq!(of(&answers, &orders).quarantined, 1);
                }
                pipeline.assert_rows(&orders, expected).await;
                let sql = format!("SELECT kafka_offset, reason <> '' FROM `{}`", pipeline.quarantine());
                assert_eq!(pipeline.texts(&sql).await, ["3|true"]);
                if from < records.len() {
                    pipeline.deliver(&records[from..]).await;
                }
            }
        }
    });
}

#[test]
fn case_25_columns_that_differ_by_case_and_one_is_missing() {
    run(async {
        for deletes in ["hard", "soft"] {
            let table = Table::new("shop", "twins")
                .column("id", "INT64")
                .column("V", "WSTRING")
                .column("v", "WSTRING")
                .key(&["id"]);
            let mut pipeline = Setup::default().with("STRAIT_DELETES", deletes).start().await;
            let records = pipeline
                .send(&[
                    table.create(),
                    table.insert(json!({"id": 1, "V": "upper"})).at(10),
                    table.insert(json!({"id": 2, "v": "lower"})).at(11),
                ])
                .await;
            pipeline.merge().await;
            pipeline.assert_rows(&table, &[&["1", "upper", NULL], &["2", NULL, "lower"]]).await;
            redeliver_every_suffix(&pipeline, &records, &table).await;
        }
    });
}
