//! Histories that random schedules have come upon, the shortest of their kind, on the built functions: what a reload must not leave
//! behind, and what it must not take away.

use serde_json::json;
use strait_tests::history::{Message, Table};
use strait_tests::pipeline::{Pipeline, Setup};
use strait_tests::run;

fn two_columns() -> Table {
    Table::new("shop", "orders").column("id", "INT64").column("v", "INT64").column("w", "INT64").key(&["id"])
}

fn row(id: i32, v: i32, w: i32) -> String {
    json!({"id": id, "v": v, "w": w}).to_string()
}

async fn send(pipeline: &mut Pipeline, messages: &[Message]) {
    pipeline.send(messages).await;
}

#[test]
fn the_first_merge_sees_two_loads_and_keeps_the_rows_of_the_newer() {
    run(async {
        let table = two_columns();
        let mut pipeline = Pipeline::start().await;
        // Row 2 went while the task was down: no delete of it was ever sent.
        let messages = [
            table.create(),
            table.load(row(1, 1, 1)),
            table.load(row(2, 2, 2)),
            table.drop_table(),
            table.create(),
            table.load(row(1, 1, 1)),
            table.insert(row(3, 3, 3)).at(10),
        ];
        send(&mut pipeline, &messages).await;
        pipeline.merge().await;
        pipeline.merge().await;
        pipeline.assert_rows(&table, &[&["1", "1", "1"], &["3", "3", "3"]]).await;
    });
}

#[test]
fn a_record_of_an_older_load_that_comes_after_the_first_merge_brings_no_row() {
    run(async {
        let table = two_columns();
        let mut pipeline = Pipeline::start().await;
        let older = pipeline.produce(&[table.create(), table.load(row(2, 2, 2)).on_partition(1)]);
        let newer = pipeline.produce(&[
            table.drop_table(),
            table.create(),
            table.load(row(1, 1, 1)),
            table.insert(row(3, 3, 3)).at(10),
            table.insert(row(4, 4, 4)).at(11).on_partition(1),
        ]);
        pipeline.deliver(&newer).await;
        pipeline.merge().await;
        pipeline.deliver(&older).await;
        pipeline.merge().await;
        pipeline.merge().await;
        pipeline.assert_rows(&table, &[&["1", "1", "1"], &["3", "3", "3"], &["4", "4", "4"]]).await;
    });
}

#[test]
fn what_was_inserted_after_an_empty_load_stays_when_an_operator_completes_it() {
    run(async {
        let table = two_columns();
        let mut pipeline = Pipeline::start().await;
        send(&mut pipeline, &[table.create(), table.load(row(1, 1, 1)), table.insert(row(2, 2, 2)).at(10)]).await;
        pipeline.merge().await;
        // The table was empty when it was loaded again.
        send(&mut pipeline, &[table.drop_table(), table.create(), table.insert(row(5, 5, 5)).at(20)]).await;
        pipeline.merge().await;
        pipeline.merge_with(r#"{"tables":["shop.orders"],"reload":"empty"}"#).await;
        pipeline.merge().await;
        pipeline.assert_rows(&table, &[&["5", "5", "5"]]).await;
    });
}

#[test]
fn a_partition_that_has_brought_nothing_of_a_load_yet_may_be_behind() {
    run(async {
        let table = two_columns();
        let mut pipeline = Pipeline::start().await;
        let first = [
            table.create(),
            table.load(row(1, 1, 1)),
            table.load(row(2, 2, 2)).on_partition(1),
            table.insert(row(3, 3, 3)).at(10),
        ];
        send(&mut pipeline, &first).await;
        pipeline.merge().await;
        let behind = pipeline.produce(&[table.drop_table(), table.create()]);
        let second = pipeline.produce(&[table.load(row(2, 2, 2)).on_partition(1)]);
        let rest =
            pipeline.produce(&[table.load(row(1, 1, 1)), table.load(row(3, 3, 3)), table.insert(row(4, 4, 4)).at(20)]);
        pipeline.deliver(&behind).await;
        pipeline.deliver(&rest).await;
        pipeline.merge().await;
        pipeline.merge().await;
        let all: &[&[&str]] = &[&["1", "1", "1"], &["2", "2", "2"], &["3", "3", "3"], &["4", "4", "4"]];
        pipeline.assert_rows(&table, all).await;
        pipeline.deliver(&second).await;
        pipeline.merge().await;
        pipeline.assert_rows(&table, all).await;
    });
}

#[test]
fn a_row_is_completed_at_its_own_position_when_an_epoch_reopens_its_window() {
    run(async {
        let table = two_columns();
        let mut pipeline = Setup::default().with("STRAIT_ABSENT_COLUMNS", "unchanged").start().await;
        send(&mut pipeline, &[table.create(), table.load(row(1, 1, 1))]).await;
        pipeline.merge().await;
        let older_start = pipeline.produce(&[table.create()]);
        let load = pipeline.produce(&[table.create(), table.load(row(1, 1, 1))]);
        let late = pipeline.produce(&[table.update(json!({"id": 1, "w": 7})).at(7)]);
        let newest = pipeline.produce(&[table.update(json!({"id": 1, "v": 8})).at(8)]);
        pipeline.deliver(&load).await;
        pipeline.deliver(&newest).await;
        pipeline.merge().await;
        pipeline.assert_rows(&table, &[&["1", "8", "1"]]).await;
        pipeline.deliver(&older_start).await;
        pipeline.deliver(&late).await;
        pipeline.merge().await;
        pipeline.assert_rows(&table, &[&["1", "8", "7"]]).await;
    });
}

#[test]
fn an_update_after_a_delete_makes_no_row_of_nulls_while_its_insert_is_late() {
    run(async {
        let table = two_columns();
        let mut pipeline = Setup::default().with("STRAIT_ABSENT_COLUMNS", "unchanged").start().await;
        send(&mut pipeline, &[table.create(), table.insert(row(1, 1, 1)).at(1), table.delete(row(1, 1, 1)).at(2)])
            .await;
        let insert = pipeline.produce(&[table.insert(row(1, 5, 5)).at(3)]);
        send(&mut pipeline, &[table.update(json!({"id": 1, "w": 6})).at(4)]).await;
        pipeline.merge().await;
        // Not (1, NULL, 6), which never was.
        pipeline.assert_rows(&table, &[]).await;
        pipeline.deliver(&insert).await;
        pipeline.merge().await;
        pipeline.assert_rows(&table, &[&["1", "5", "6"]]).await;
    });
}

#[test]
fn a_row_whose_key_was_null_takes_the_key_of_one_that_is_gone() {
    run(async {
        let table = Table::new("shop", "slots").column("a", "INT64").column("b", "WSTRING").column("v", "INT64");
        let table = table.key(&["a", "b"]);
        let image = |b: serde_json::Value, v: i32| json!({"a": 1, "b": b, "v": v});
        let mut pipeline = Setup::default().with("STRAIT_ABSENT_COLUMNS", "unchanged").start().await;
        let messages = [
            table.create(),
            table.insert(image(json!(null), 1)).at(1),
            table.insert(image(json!("x"), 2)).at(2),
            table.delete(image(json!("x"), 2)).at(3),
            table.key_change(json!({"a": 1, "b": null}), image(json!("x"), 1)).at(4),
        ];
        send(&mut pipeline, &messages).await;
        pipeline.merge().await;
        pipeline.assert_rows(&table, &[&["1", "x", "1"]]).await;
    });
}
