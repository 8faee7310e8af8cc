//! A source's schema that is altered while it replicates: the final table ends equal to the source, whenever and whether a control
//! record says what was altered, and is never without a value that it had.

use serde_json::{Value, json};
use strait_tests::history::Table;
use strait_tests::pipeline::{Pipeline, Setup, cells, failure, of};
use strait_tests::{NULL, run};

/// From long before any test.
const AGAIN: &str = r#"{"tables":["shop.*"],"from":"2020-01-01T00:00:00Z"}"#;

/// What is in the quarantine and could not be applied since.
async fn unresolved(pipeline: &Pipeline) -> Vec<String> {
    let sql = format!("SELECT `key`, `column` FROM `{}` WHERE resolved_at IS NULL", pipeline.quarantine());
    pipeline.texts(&sql).await
}

#[test]
fn a_column_type_that_was_fixed_and_a_merge_again_heal_what_was_quarantined() {
    run(async {
        let orders = Table::new("shop", "orders").column("id", "INT64").column("n", "INT64").key(&["id"]);
        let mut pipeline = Pipeline::start().await;
        pipeline
            .send(&[
                orders.create(),
                orders.insert(json!({"id": 1, "n": 1})).at(10),
                orders.insert(json!({"id": 2, "n": 2})).at(11),
                orders.insert(r#"{"id":3,"n":18446744073709551615}"#).at(12),
                orders.update(r#"{"id":2,"n":18446744073709551614}"#).at(13),
                orders.delete(json!({"id": 1})).at(14),
                orders.insert(json!({"id": 4, "n": "not a number"})).at(15),
            ])
            .await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["2", "2"]]).await;
        assert_eq!(unresolved(&pipeline).await, [r#"{"id":"2"}|n"#, r#"{"id":"3"}|n"#, r#"{"id":"4"}|n"#]);
        let alter = format!("ALTER TABLE `{}` ALTER COLUMN n SET DATA TYPE NUMERIC", pipeline.final_table(&orders));
        pipeline.query(&alter).await;
        // One that comes in the meantime.
        pipeline.send(&[orders.insert(json!({"id": 5, "n": 5})).at(16)]).await;
        let answers = pipeline.merge_with(AGAIN).await;
        assert_eq!(of(&answers, &orders).quarantined, 1, "{answers:?}");
        let healed: &[&[&str]] = &[&["2", "18446744073709551614"], &["3", "18446744073709551615"], &["5", "5"]];
        pipeline.assert_rows(&orders, healed).await;
        assert_eq!(unresolved(&pipeline).await, [r#"{"id":"4"}|n"#]);
        // Once more, and then as the schedule does.
        pipeline.merge_with(AGAIN).await;
        pipeline.assert_rows(&orders, healed).await;
        let before = pipeline.snapshot(&orders).await;
        pipeline.merge().await;
        assert_eq!(pipeline.snapshot(&orders).await, before);
        let quarantined = pipeline.texts(&format!("SELECT COUNT(*) FROM `{}`", pipeline.quarantine())).await;
        assert_eq!(quarantined, ["3"], "what is quarantined still is not added again");
    });
}

/// What is said while an earlier command is at work, or after it failed, is done as well: each is about rows that the other does not reach.
#[test]
fn two_commands_in_sequence_both_take_effect() {
    run(async {
        let orders = Table::orders();
        let hour_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
        let newer = json!({"tables": ["shop.*"], "from": hour_ago.to_string()}).to_string();
        for (is_killed, first, second) in
            [(true, newer.as_str(), AGAIN), (false, newer.as_str(), AGAIN), (false, AGAIN, newer.as_str())]
        {
            let mut pipeline = Pipeline::start().await;
            pipeline
                .send(&[orders.create(), orders.insert(row(1, "a")).at(10), orders.insert(row(2, "b")).at(11)])
                .await;
            pipeline.merge().await;
            let spoil = format!("UPDATE `{}` SET v = 'by hand' WHERE TRUE", pipeline.final_table(&orders));
            pipeline.query(&spoil).await;
            // The first row came long before the second.
            let sooner = format!(
                "UPDATE `{}` SET ingested_at = TIMESTAMP_SUB(ingested_at, INTERVAL 3 HOUR) WHERE JSON_VALUE(data, '$.id') = '1'",
                pipeline.log()
            );
            pipeline.query(&sooner).await;
            let merge = json!({"api": "jobs.insert", "body_regex": format!("MERGE[^;]*{}_replica", pipeline.prefix())});
            let denied = json!({"error": {"code": 400, "message": "no", "errors": [{"reason": "invalidQuery", "message": "no"}]}});
            let action = match is_killed {
                true => json!({"kind": "after_effect", "seconds": 600}),
                false => json!({"kind": "status", "http": 400, "body": denied.to_string()}),
            };
            pipeline.fault(json!({"side": "rest", "match": merge, "action": action})).await;
            if is_killed {
                pipeline.kill_merge_in_a_fault(first.to_owned()).await;
            } else {
                let outcome = pipeline.invoke_merge(first.to_owned()).await;
                let (kind, message) = failure(&outcome);
                assert_eq!(kind, "TablesFailed", "{message}");
            }
            // Whatever the first has come to.
            pipeline.query(&spoil).await;
            pipeline.merge_with(second.to_owned()).await;
            pipeline.merge().await;
            pipeline.assert_rows(&orders, &[&["1", "a"], &["2", "b"]]).await;
            // A run that was killed leaves a definition to look at.
            pipeline.merge().await;
            assert_eq!(pipeline.merge().await.len(), 0, "{is_killed} {first}: nothing is left of either");
            // What was merged before does not wait, however old it is.
            let said = format!("SELECT reason FROM `{}` WHERE reason LIKE '%waited%'", pipeline.merges());
            assert_eq!(pipeline.texts(&said).await, [""; 0], "{is_killed} {first}");
        }
    });
}

fn with_extra() -> Table {
    Table::new("shop", "orders").column("id", "INT64").column("v", "WSTRING").column("extra", "INT32").key(&["id"])
}

fn row(id: u32, v: &str) -> Value {
    json!({"id": id, "v": v})
}

fn wide(id: u32, v: &str, extra: u32) -> Value {
    json!({"id": id, "v": v, "extra": extra})
}

/// What changes between the shapes of a table come to: the last position wins, with the new column, wherever it stands in the batch.
fn both_shapes(orders: &Table) -> [strait_tests::history::Message; 5] {
    [
        orders.update(wide(1, "a3", 33)).at(22),
        orders.update(row(1, "a2")).at(20),
        orders.insert(wide(3, "c", 3)).at(21),
        orders.update(row(2, "b2")).at(19),
        orders.update(json!({"id": 2, "v": "b3", "extra": null})).at(23),
    ]
}

const BOTH_SHAPES: &[&[&str]] = &[&["1", "a3", "33"], &["2", "b3", NULL], &["3", "c", "3"]];

#[test]
fn a_column_that_was_added_is_filled_whenever_its_definition_comes() {
    run(async {
        for mode in ["null", "unchanged"] {
            let (orders, wider) = (Table::orders(), with_extra());
            for order in ["before", "with", "after"] {
                let mut pipeline = Setup::default().with("STRAIT_ABSENT_COLUMNS", mode).start().await;
                pipeline
                    .send(&[orders.create(), orders.insert(row(1, "a")).at(10), orders.insert(row(2, "b")).at(11)])
                    .await;
                pipeline.merge().await;
                if order == "before" {
                    pipeline.send(&[wider.altered("add-column", &orders)]).await;
                    pipeline.merge().await;
                }
                pipeline.send(&both_shapes(&orders)).await;
                if order == "with" {
                    pipeline.send(&[wider.altered("add-column", &orders)]).await;
                }
                let answers = pipeline.merge().await;
                if order == "after" {
                    let reason = of(&answers, &orders).reason.clone().unwrap_or_default();
                    assert!(reason.contains("no column for: extra"), "{answers:?}");
                    pipeline.assert_rows(&orders, &[&["1", "a3"], &["2", "b3"], &["3", "c"]]).await;
                    // Said once.
                    pipeline.send(&[orders.update(wide(1, "a3", 33)).at(24)]).await;
                    let answers = pipeline.merge().await;
                    assert_eq!(of(&answers, &orders).reason, None);
                    pipeline.send(&[wider.altered("add-column", &orders)]).await;
                    pipeline.merge().await;
                }
                pipeline.assert_rows(&orders, BOTH_SHAPES).await;
                let before = pipeline.snapshot(&orders).await;
                assert_eq!(pipeline.merge().await.len(), 0, "{order}");
                assert_eq!(pipeline.snapshot(&orders).await, before);
            }
        }
    });
}

#[test]
fn a_key_that_changed_before_a_column_was_added_lacks_nothing() {
    run(async {
        let orders = Table::orders();
        let mut pipeline = Setup::default().with("STRAIT_ABSENT_COLUMNS", "unchanged").start().await;
        pipeline.send(&[orders.create(), orders.insert(row(1, "a")).at(10).sent_minutes_ago(9)]).await;
        pipeline.merge().await;
        // By another partition than the record of the column, and after it.
        pipeline.send(&[with_extra().altered("add-column", &orders)]).await;
        pipeline.send(&[orders.key_change(json!({"id": 1}), row(2, "b")).at(20).sent_minutes_ago(5)]).await;
        let answers = pipeline.merge().await;
        assert_eq!(of(&answers, &orders).quarantined, 0, "{answers:?}");
        pipeline.assert_rows(&with_extra(), &[&["2", "b", NULL]]).await;
        // One that was sent since does lack it.
        pipeline.send(&[with_extra().update(wide(2, "b", 7)).at(30)]).await;
        pipeline.send(&[orders.key_change(json!({"id": 2}), row(3, "c")).at(40)]).await;
        let answers = pipeline.merge().await;
        assert_eq!(of(&answers, &orders).quarantined, 1, "{answers:?}");
        pipeline.assert_rows(&with_extra(), &[&["2", "b", "7"]]).await;
    });
}

#[test]
fn a_column_that_a_person_adds_is_filled_without_any_record_of_it() {
    run(async {
        for is_made_by_hand in [false, true] {
            let orders = Table::orders();
            let mut pipeline = Pipeline::start().await;
            if is_made_by_hand {
                pipeline.query(&format!("CREATE SCHEMA `{}_replica`", pipeline.prefix())).await;
                let create = format!(
                    "CREATE TABLE `{}` (id INT64, v STRING, PRIMARY KEY (id) NOT ENFORCED)",
                    pipeline.final_table(&orders)
                );
                pipeline.query(&create).await;
            }
            pipeline
                .send(&[orders.create(), orders.insert(row(1, "a")).at(10), orders.insert(row(2, "b")).at(11)])
                .await;
            pipeline.merge().await;
            pipeline.send(&both_shapes(&orders)).await;
            let answers = pipeline.merge().await;
            assert!(of(&answers, &orders).reason.clone().unwrap_or_default().contains("extra"), "{answers:?}");
            let alter = format!("ALTER TABLE `{}` ADD COLUMN extra INT64", pipeline.final_table(&orders));
            pipeline.query(&alter).await;
            pipeline.merge().await;
            let rows = format!("SELECT id, v, extra FROM `{}`", pipeline.final_table(&orders));
            assert_eq!(pipeline.texts(&rows).await, ["1|a3|33", "2|b3|NULL", "3|c|3"]);
            // The source's definition of a table that a person made changes nothing in it.
            let widest = with_extra().column("more", "INT32");
            pipeline.send(&[widest.altered("add-column", &with_extra()), orders.insert(wide(4, "d", 4)).at(30)]).await;
            let answers = pipeline.merge().await;
            let columns = pipeline
                .texts(&format!(
                    "SELECT * EXCEPT (_strait_position, _strait_merged_at) FROM `{}` WHERE id = 4",
                    pipeline.final_table(&orders)
                ))
                .await;
            assert_eq!(columns, [if is_made_by_hand { "4|d|4" } else { "4|d|4|NULL" }], "{answers:?}");
        }
    });
}

#[test]
fn a_dropped_column_stays_or_goes_as_configured() {
    run(async {
        for mode in ["keep", "drop"] {
            let (wider, orders) = (with_extra(), Table::orders());
            let mut pipeline = Setup::default().with("STRAIT_DROPPED_COLUMNS", mode).start().await;
            pipeline
                .send(&[wider.create(), wider.insert(wide(1, "a", 1)).at(10), wider.insert(wide(2, "b", 2)).at(11)])
                .await;
            pipeline.merge().await;
            pipeline.send(&[orders.insert(row(3, "c")).at(12), orders.altered("drop-column", &wider)]).await;
            // From before it was dropped.
            pipeline.send(&[wider.update(wide(2, "b2", 22)).at(11).record(2)]).await;
            pipeline.merge().await;
            let expected: &[&[&str]] = match mode {
                "keep" => &[&["1", "a", "1"], &["2", "b2", "22"], &["3", "c", NULL]],
                _ => &[&["1", "a"], &["2", "b2"], &["3", "c"]],
            };
            pipeline.assert_rows(&orders, expected).await;
            // Added again, of another kind.
            let again = Table::orders().column("extra", "WSTRING");
            pipeline
                .send(&[
                    again.altered("add-column", &orders),
                    again.insert(json!({"id": 4, "v": "d", "extra": "4"})).at(13),
                ])
                .await;
            pipeline.merge().await;
            let extra = pipeline.texts(&format!("SELECT id, extra FROM `{}`", pipeline.final_table(&orders))).await;
            assert_eq!(extra[3], "4|4", "{mode}");
        }
    });
}

#[test]
fn a_renamed_column_keeps_its_values_and_takes_records_of_both_shapes() {
    run(async {
        for order in ["before", "with", "after"] {
            let orders = Table::orders();
            let renamed = Table::new("shop", "orders").column("id", "INT64").column("w", "WSTRING").key(&["id"]);
            let mut pipeline = Pipeline::start().await;
            pipeline
                .send(&[
                    orders.create(),
                    orders.insert(row(1, "a")).at(10),
                    orders.insert(row(2, "b")).at(11),
                    orders.insert(row(3, "c")).at(12),
                ])
                .await;
            pipeline.merge().await;
            let control = renamed.altered("rename-column", &orders);
            let changes = [
                renamed.update(json!({"id": 2, "w": "b2"})).at(31),
                orders.update(row(3, "c2")).at(29),
                renamed.insert(json!({"id": 4, "w": "d"})).at(32),
            ];
            if order == "before" {
                pipeline.send(std::slice::from_ref(&control)).await;
                pipeline.merge().await;
                assert_eq!(
                    pipeline.texts(&format!("SELECT id, w FROM `{}`", pipeline.final_table(&orders))).await,
                    ["1|a", "2|b", "3|c"]
                );
            }
            pipeline.send(&changes).await;
            if order == "after" {
                pipeline.merge().await;
            }
            if order != "before" {
                pipeline.send(&[control]).await;
            }
            pipeline.merge().await;
            let rows = format!("SELECT id, w FROM `{}`", pipeline.final_table(&orders));
            assert_eq!(pipeline.texts(&rows).await, ["1|a", "2|b2", "3|c2", "4|d"], "{order}");
            // A late one of the old shape, after all.
            pipeline.send(&[orders.update(row(1, "a2")).at(28)]).await;
            pipeline.merge().await;
            assert_eq!(pipeline.texts(&rows).await, ["1|a2", "2|b2", "3|c2", "4|d"], "{order}");
        }
    });
}

#[test]
fn a_change_of_type_ends_the_same_wherever_it_is_interrupted_and_no_value_is_ever_missing() {
    run(async {
        let typed =
            |dms_type: &str| Table::new("shop", "orders").column("id", "INT64").column("n", dms_type).key(&["id"]);
        let (narrow, wide) = (typed("INT32"), typed("WSTRING"));
        // Which of the statements that alter the table fails; the last number is above all of them.
        for failing in 0..=4u32 {
            // Before or after it has taken effect: each of the two for some.
            let is_in_effect = failing % 2 == 0;
            let mut pipeline = Pipeline::start().await;
            pipeline
                .send(&[
                    narrow.create(),
                    narrow.insert(json!({"id": 1, "n": 1})).at(10),
                    narrow.insert(json!({"id": 2, "n": -2})).at(11),
                    narrow.insert(json!({"id": 3, "n": null})).at(12),
                ])
                .await;
            pipeline.merge().await;
            pipeline.send(&[wide.insert(json!({"id": 4, "n": "four"})).at(13)]).await;
            pipeline.merge().await;
            assert_eq!(unresolved(&pipeline).await, [r#"{"id":"4"}|n"#]);
            pipeline.send(&[wide.altered("column-type-change", &narrow)]).await;
            let denied = json!({"error": {"code": 400, "message": "no", "errors": [{"reason": "invalidQuery", "message": "no"}]}});
            let action = match is_in_effect {
                true => json!({"kind": "after_effect", "http": 400, "body": denied.to_string()}),
                false => json!({"kind": "status", "http": 400, "body": denied.to_string()}),
            };
            let body = format!("(ALTER|UPDATE).*{}_replica", pipeline.prefix());
            pipeline
                    .fault(json!({"side": "rest", "match": {"api": "jobs.insert", "body_regex": body}, "action": action, "skip": failing}))
                    .await;
            let outcome = pipeline.invoke_merge("{}").await;
            let is_interrupted = pipeline.faults_are_used_up().await;
            let rows = format!("SELECT id, n FROM `{}` WHERE id < 4", pipeline.final_table(&narrow));
            assert_eq!(pipeline.texts(&rows).await, ["1|1", "2|-2", "3|NULL"], "{failing}");
            if is_interrupted {
                let _ = failure(&outcome);
                pipeline.merge().await;
            } else {
                pipeline.bigquery.clear_faults().await.unwrap();
            }
            pipeline.merge().await;
            let expected = cells(&[&["1", "1"], &["2", "-2"], &["3", NULL], &["4", "four"]]);
            assert_eq!(pipeline.rows(&narrow).await, expected, "{failing} {is_in_effect}");
            assert!(unresolved(&pipeline).await.is_empty(), "{failing}");
            let columns = format!("SELECT * FROM `{}` WHERE id = 4", pipeline.final_table(&narrow));
            assert_eq!(pipeline.query(&columns).await[0].len(), 4, "{failing}: nothing is left over");
        }
    });
}

#[test]
fn a_type_that_becomes_wider_is_widened_in_place_and_one_that_cannot_be_converted_is_a_persons_matter() {
    run(async {
        let typed = |n: &str, t: &str| {
            Table::new("shop", "orders").column("id", "INT64").column("n", n).column("t", t).key(&["id"])
        };
        let before = typed("INT32", "DATETIME");
        let after = typed("DOUBLE", "WSTRING");
        let mut pipeline = Pipeline::start().await;
        let insert =
            |table: &Table, id: u32, n: Value, at: u32| table.insert(json!({"id": id, "n": n, "t": null})).at(at);
        pipeline.send(&[before.create(), insert(&before, 1, json!(1), 10)]).await;
        pipeline.merge().await;
        pipeline.send(&[insert(&after, 2, json!(2.5), 11), after.altered("change-columns", &before)]).await;
        let answers = pipeline.merge().await;
        let reason = of(&answers, &after).reason.clone().unwrap_or_default();
        assert!(reason.contains("`t` STRING") && reason.contains("Reload"), "{answers:?}");
        let rows = format!("SELECT id, n FROM `{}`", pipeline.final_table(&after));
        let rows: Vec<String> = pipeline.texts(&rows).await;
        assert_eq!(rows.iter().map(|row| row.trim_end_matches(".0")).collect::<Vec<_>>(), ["1|1", "2|2.5"]);
    });
}

#[test]
fn a_column_that_was_dropped_and_added_again_has_no_value_of_the_one_before() {
    run(async {
        let (wider, orders) = (with_extra(), Table::orders());
        for (mode, order) in [
            ("keep", "at once"),
            ("keep", "one by one"),
            ("keep", "data first"),
            ("drop", "at once"),
            ("drop", "one by one"),
            ("drop", "data first"),
        ] {
            let mut pipeline = Setup::default().with("STRAIT_DROPPED_COLUMNS", mode).start().await;
            let records = pipeline.produce(&[
                wider.create(),
                wider.insert(wide(1, "a", 1)).at(10),
                wider.insert(wide(2, "b", 2)).at(11),
                wider.insert(wide(3, "c", 3)).at(12),
                // A straggler.
                wider.update(wide(3, "c2", 33)).at(13),
                orders.altered("drop-column", &wider),
                orders.update(row(2, "b2")).at(20),
                wider.altered("add-column", &orders),
                wider.update(wide(1, "a2", 100)).at(30),
                wider.insert(wide(4, "d", 4)).at(31),
            ]);
            let batches: &[&[usize]] = match order {
                "at once" => &[&[0, 1, 2, 3], &[5, 6, 7, 8, 9], &[4]],
                "one by one" => &[&[0, 1, 2, 3], &[5], &[6], &[7], &[8, 9], &[4]],
                _ => &[&[0, 1, 2, 3], &[8, 9], &[6], &[5], &[7], &[4]],
            };
            let mut said = String::new();
            for batch in batches {
                let batch: Vec<_> = batch.iter().map(|place| records[*place].clone()).collect();
                pipeline.deliver(&batch).await;
                let answers = pipeline.merge().await;
                said.push_str(of(&answers, &orders).reason.as_deref().unwrap_or_default());
            }
            let expected = ["1|a2|100", "2|b2|NULL", "3|c2|NULL", "4|d|4"];
            let rows = format!("SELECT id, v, extra FROM `{}`", pipeline.final_table(&wider));
            assert_eq!(pipeline.texts(&rows).await, expected, "{mode}, {order}");
            assert!(said.contains("SET `extra` = <the default>"), "{mode}, {order}: {said}");
            // Whatever is merged once more.
            pipeline.merge_with(AGAIN).await;
            assert_eq!(pipeline.texts(&rows).await, expected, "{mode}, {order}, again");
            pipeline.deliver(&records).await;
            pipeline.merge().await;
            assert_eq!(pipeline.texts(&rows).await, expected, "{mode}, {order}, delivered again");
            let columns = format!("SELECT * FROM `{}` WHERE id = 4", pipeline.final_table(&wider));
            assert_eq!(pipeline.query(&columns).await[0].len(), 5, "{mode}, {order}: nothing is left over");
        }
    });
}

#[test]
fn a_former_name_that_is_given_to_another_column_is_right_once_its_record_has_come() {
    run(async {
        let named = |names: &[&str]| {
            let table = Table::new("shop", "orders").column("id", "INT64");
            names.iter().fold(table, |table, name| table.column(name, "INT32")).key(&["id"])
        };
        let (first, renamed, both) = (named(&["a"]), named(&["b"]), named(&["b", "a"]));
        let mut pipeline = Pipeline::start().await;
        let records = pipeline.produce(&[
            first.create(),
            first.insert(json!({"id": 1, "a": 1})).at(10),
            first.insert(json!({"id": 2, "a": 2})).at(11),
            first.update(json!({"id": 2, "a": 22})).at(12),
            renamed.altered("rename-column", &first),
            // DMS leaves NULL out: this is the new `a`, and `b` is NULL.
            both.insert(json!({"id": 3, "a": 3})).at(20),
            both.altered("add-column", &renamed),
        ]);
        for batch in [&[0, 1, 2][..], &[4, 5], &[6], &[3]] {
            let batch: Vec<_> = batch.iter().map(|place| records[*place].clone()).collect();
            pipeline.deliver(&batch).await;
            pipeline.merge().await;
        }
        let rows = format!("SELECT id, b, a FROM `{}`", pipeline.final_table(&first));
        assert_eq!(pipeline.texts(&rows).await, ["1|1|NULL", "2|22|NULL", "3|NULL|3"]);
    });
}

#[test]
fn what_the_log_has_let_expire_of_a_definition_is_remembered() {
    run(async {
        let orders = Table::orders();
        let renamed = Table::new("shop", "orders").column("id", "INT64").column("w", "WSTRING").key(&["id"]);
        let typed = Table::new("shop", "orders").column("id", "WSTRING").column("w", "WSTRING").key(&["id"]);
        for is_remembered in [true, false] {
            let mut pipeline = Pipeline::start().await;
            pipeline.send(&[orders.create(), orders.insert(row(1, "a")).at(10)]).await;
            pipeline.merge().await;
            pipeline.query(&format!("DELETE FROM `{}` WHERE operation = 'create-table'", pipeline.log())).await;
            if !is_remembered {
                pipeline.query(&format!("UPDATE `{}` SET definitions = NULL WHERE TRUE", pipeline.merges())).await;
            }
            pipeline
                .send(&[renamed.altered_unsaid("rename-column"), renamed.insert(json!({"id": 2, "w": "b"})).at(11)])
                .await;
            let answers = pipeline.merge().await;
            let said = of(&answers, &orders).reason.clone().unwrap_or_default();
            if is_remembered {
                assert_eq!(said, "", "{said}");
            } else {
                // A person reads what to run, and runs it.
                let (_, statement) = said.split_once("run ALTER TABLE").unwrap_or_else(|| panic!("{said}"));
                let (statement, _) = statement.split_once(", after which").unwrap();
                pipeline.query(&format!("ALTER TABLE{statement}")).await;
                pipeline.merge().await;
            }
            // Where no definition says its new name, the column holds the values under its old one.
            let column = if is_remembered { "w" } else { "v" };
            let rows = format!("SELECT id, {column} FROM `{}`", pipeline.final_table(&orders));
            assert_eq!(pipeline.texts(&rows).await, ["1|a", "2|b"], "{is_remembered}");
            if !is_remembered {
                pipeline.query(&format!("DELETE FROM `{}` WHERE operation = 'rename-column'", pipeline.log())).await;
                pipeline.query(&format!("UPDATE `{}` SET definitions = NULL WHERE TRUE", pipeline.merges())).await;
                pipeline.send(&[typed.altered_unsaid("column-type-change")]).await;
                let answers = pipeline.merge().await;
                let said = of(&answers, &orders).reason.clone().unwrap_or_default();
                assert!(said.contains("no longer in the log"), "{said}");
            }
        }
    });
}

#[test]
fn definitions_that_cannot_be_read_fail_only_the_tables_that_need_them() {
    run(async {
        let orders = Table::orders();
        let mine = Table::new("shop", "mine").column("id", "INT64").column("v", "WSTRING").key(&["id"]);
        let mut pipeline = Pipeline::start().await;
        pipeline.send(&[orders.create(), orders.insert(row(1, "a")).at(10)]).await;
        pipeline.merge().await;
        let create = format!(
            "CREATE TABLE `{}` (id INT64, v STRING, PRIMARY KEY (id) NOT ENFORCED)",
            pipeline.final_table(&mine)
        );
        pipeline.query(&create).await;
        let denied =
            json!({"error": {"code": 400, "message": "no", "errors": [{"reason": "invalidQuery", "message": "no"}]}});
        let body = format!("TIMESTAMP_TRUNC.*{}_cdc", pipeline.prefix());
        let action = json!({"kind": "status", "http": 400, "body": denied.to_string()});
        pipeline
            .fault(json!({"side": "rest", "match": {"api": "jobs.insert", "body_regex": body}, "action": action}))
            .await;
        pipeline.send(&[orders.update(row(1, "b")).at(11), mine.create(), mine.insert(row(1, "c")).at(12)]).await;
        let outcome = pipeline.invoke_merge("{}").await;
        let (kind, message) = failure(&outcome);
        assert!(
            kind == "TablesFailed" && message.contains("shop.mine") && !message.contains("shop.orders"),
            "{message}"
        );
        pipeline.assert_rows(&orders, &[&["1", "b"]]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&mine, &[&["1", "c"]]).await;
        // They are remembered, so nothing of them is read again.
        pipeline
            .fault(json!({"side": "rest", "match": {"api": "jobs.insert", "body_regex": body}, "action": action}))
            .await;
        pipeline.send(&[mine.update(row(1, "d")).at(13)]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&mine, &[&["1", "d"]]).await;
        pipeline.bigquery.clear_faults().await.unwrap();
    });
}

#[test]
fn a_conversion_that_is_given_up_leaves_no_column_behind() {
    run(async {
        let typed =
            |dms_type: &str| Table::new("shop", "orders").column("id", "INT64").column("n", dms_type).key(&["id"]);
        let (texts, dates) = (typed("WSTRING"), typed("DATE32"));
        let mut pipeline = Pipeline::start().await;
        pipeline
            .send(&[
                texts.create(),
                texts.insert(json!({"id": 1, "n": "2026-01-01"})).at(10),
                texts.insert(json!({"id": 2, "n": "no day"})).at(11),
            ])
            .await;
        pipeline.merge().await;
        // As a run leaves it that was interrupted before a value came that cannot be converted.
        let copy = format!("_strait_copy_{}", strait::names::fingerprint("n", 8));
        pipeline.query(&format!("ALTER TABLE `{}` ADD COLUMN {copy} DATE", pipeline.final_table(&texts))).await;
        pipeline.send(&[dates.altered("column-type-change", &texts)]).await;
        let answers = pipeline.merge().await;
        let said = of(&answers, &texts).reason.clone().unwrap_or_default();
        assert!(said.contains("cannot be converted exactly"), "{said}");
        let columns = format!("SELECT * FROM `{}` WHERE id = 1", pipeline.final_table(&texts));
        assert_eq!(pipeline.query(&columns).await[0].len(), 4);
        pipeline.assert_rows(&texts, &[&["1", "2026-01-01"], &["2", "no day"]]).await;
    });
}
