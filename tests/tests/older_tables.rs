//! Tables that an older version made, without the columns that came since: they get them, whichever function needs one first. A column that is
//! another one than Strait's is said by its name.

use serde_json::json;
use strait_tests::history::Table;
use strait_tests::pipeline::{Pipeline, failure, of};
use strait_tests::run;

fn row(id: &str, v: &str) -> String {
    json!({"id": id, "v": v}).to_string()
}

fn table() -> Table {
    Table::new("shop", "orders").column("id", "INT64").column("v", "WSTRING").key(&["id"])
}

/// The columns of Strait's own tables that came with later versions, by table.
fn newer(pipeline: &Pipeline) -> [(String, &'static [&'static str]); 4] {
    [
        (
            pipeline.merges(),
            &["work", "epochs", "based_on", "unfilled", "definitions", "carried", "begun_at", "bytes_estimated"],
        ),
        (pipeline.quarantine(), &["resolved_at"]),
        (pipeline.log(), &["error"]),
        (format!("{}_kept_out", pipeline.log()), &["emitted_at"]),
    ]
}

async fn working() -> (Pipeline, Table) {
    let orders = table();
    let mut pipeline = Pipeline::start().await;
    pipeline.send(&[orders.create(), orders.load(row("1", "a"))]).await;
    pipeline.merge().await;
    pipeline.assert_rows(&orders, &[&["1", "a"]]).await;
    (pipeline, orders)
}

async fn is_complete(pipeline: &Pipeline, table: &str, columns: &[&str]) -> bool {
    let sql = format!("SELECT `{}` FROM `{table}` LIMIT 0", columns.join("`, `"));
    pipeline.bigquery.query(&sql).await.is_ok()
}

#[test]
fn each_older_table_gets_its_columns_when_they_are_needed() {
    run(async {
        let (mut pipeline, orders) = working().await;
        let status = Table::new("", "awsdms_status").column("id", "INT64").key(&["id"]);
        for (round, (table, columns)) in newer(&pipeline).into_iter().enumerate() {
            for column in columns {
                pipeline.query(&format!("ALTER TABLE `{table}` DROP COLUMN `{column}`")).await;
            }
            assert!(!is_complete(&pipeline, &table, columns).await);
            let (id, at) = ((round + 2).to_string(), u32::try_from(round).unwrap() * 10 + 100);
            // A row to merge, one for the quarantine, one that is kept out of the log.
            pipeline
                .send(&[
                    orders.insert(row(&id, "b")).at(at),
                    orders.insert(row("no number", "c")).at(at + 1),
                    status.insert(r#"{"id":1}"#).at(at + 2),
                ])
                .await;
            let answers = pipeline.merge().await;
            let answer = of(&answers, &orders);
            assert_eq!((answer.outcome.as_str(), answer.quarantined), ("merged", 1), "{table}: {answer:?}");
            assert!(
                pipeline.rows(&orders).await.iter().any(|cells| cells[0].as_deref() == Some(id.as_str())),
                "{table}"
            );
            // What was quarantined is looked at again, which needs the newest of the quarantine's columns.
            let again = pipeline.merge_with(r#"{"tables":["shop.orders"],"from":"2020-01-01T00:00:00Z"}"#).await;
            assert_eq!(of(&again, &orders).outcome, "merged", "{table}: {again:?}");
            assert!(is_complete(&pipeline, &table, columns).await, "{table}:\n{}", pipeline.logs());
        }
        assert_eq!(pipeline.texts(&format!("SELECT COUNT(*) FROM `{}`", pipeline.quarantine())).await, ["4"]);
    });
}

#[test]
fn a_quarantine_that_somebody_dropped_is_made_again_when_it_is_needed() {
    run(async {
        let (mut pipeline, orders) = working().await;
        pipeline.query(&format!("DROP TABLE `{}`", pipeline.quarantine())).await;
        pipeline.send(&[orders.insert(row("2", "b")).at(100), orders.insert(row("no number", "c")).at(101)]).await;
        let answers = pipeline.merge().await;
        let answer = of(&answers, &orders);
        assert_eq!((answer.outcome.as_str(), answer.inserted, answer.quarantined), ("merged", 1, 1), "{answer:?}");
        assert_eq!(pipeline.texts(&format!("SELECT COUNT(*) FROM `{}`", pipeline.quarantine())).await, ["1"]);
    });
}

#[test]
fn two_runs_at_once_both_get_over_an_older_ledger() {
    run(async {
        let (mut pipeline, orders) = working().await;
        let (table, columns) = newer(&pipeline)[0].clone();
        for column in columns {
            pipeline.query(&format!("ALTER TABLE `{table}` DROP COLUMN `{column}`")).await;
        }
        pipeline.send(&[orders.insert(row("2", "b")).at(100)]).await;
        // Reads the ledger and nothing else, as a run without news does.
        let another = r#"{"tables":["shop.nothing"]}"#;
        let (_, _) = tokio::join!(pipeline.merge(), pipeline.merge_with(another));
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "a"], &["2", "b"]]).await;
        assert!(is_complete(&pipeline, &table, columns).await);
    });
}

#[test]
fn a_column_of_another_type_is_an_error_that_names_it() {
    run(async {
        let (pipeline, _) = working().await;
        for statement in ["DROP COLUMN `unfilled`", "DROP COLUMN `epochs`", "ADD COLUMN `epochs` INT64"] {
            pipeline.query(&format!("ALTER TABLE `{}` {statement}", pipeline.merges())).await;
        }
        let outcome = pipeline.invoke_merge("{}").await;
        let (error_type, message) = failure(&outcome);
        assert_eq!(error_type, "BigQueryInvalidRequest", "{message}");
        let expected = format!("{}, its column `epochs` is INTEGER, and STRING is needed", pipeline.merges());
        assert!(message.contains(&expected) && message.contains("What to do: compare the table's schema"), "{message}");
    });
}

#[test]
fn what_an_older_version_has_begun_is_finished_by_its_own_statements() {
    run(async {
        let (mut pipeline, orders) = working().await;
        pipeline.send(&[orders.insert(row("2", "b")).at(10), orders.insert(row("3", "b")).at(11)]).await;
        let survey = format!("SELECT COUNTIF[^;]*{}_cdc[^;]*_strait_fold_", pipeline.prefix());
        let late = json!({"kind": "delay", "seconds": 600});
        pipeline
            .fault(json!({"side": "rest", "match": {"api": "jobs.insert", "body_regex": survey}, "action": late}))
            .await;
        pipeline.kill_merge_in_a_fault("{}").await;

        // An older version's folds do not say which rows begin with an insert.
        let tables = format!("SELECT table_name FROM `{}_cdc`.INFORMATION_SCHEMA.TABLES", pipeline.prefix());
        let folds: Vec<String> =
            pipeline.texts(&tables).await.into_iter().filter(|name| name.starts_with("_strait_fold_")).collect();
        assert_eq!(folds.len(), 1, "{folds:?}");
        pipeline.query(&format!("ALTER TABLE `{}_cdc.{}` DROP COLUMN `adds`", pipeline.prefix(), folds[0])).await;

        let answers = pipeline.merge().await;
        let table = of(&answers, &orders);
        assert_eq!((table.outcome.as_str(), table.inserted), ("merged", 2), "{table:?}");
        pipeline.assert_rows(&orders, &[&["1", "a"], &["2", "b"], &["3", "b"]]).await;
    });
}
