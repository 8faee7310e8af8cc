//! A source's schema that is altered while it replicates: the final table ends equal to the source, whenever and whether a control
//! record says what was altered, and is never without a value that it had.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use serde_json::json;
use strait_tests::history::Table;
use strait_tests::pipeline::{Pipeline, of};
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
        let _ = NULL;
    });
}
