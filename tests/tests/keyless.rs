//! Tables without a primary key: each row of the source that was loaded or inserted is added once, however often it is delivered, and
//! what cannot be applied without a key is said and kept.

use strait_tests::history::Table;
use strait_tests::pipeline::{Setup, of};
use strait_tests::run;

fn events() -> Table {
    Table::new("shop", "events").column("kind", "WSTRING").column("amount", "INT64")
}

fn row(kind: &str, amount: u32) -> String {
    serde_json::json!({"kind": kind, "amount": amount}).to_string()
}

#[test]
fn rows_without_a_key_are_added_once_however_often_they_come() {
    run(async {
        for absent in ["null", "unchanged"] {
            let events = events();
            let mut pipeline = Setup::default().with("STRAIT_ABSENT_COLUMNS", absent).start().await;
            // Two rows that are alike are two rows.
            let records = pipeline
                .send(&[
                    events.create(),
                    events.load(row("a", 1)),
                    events.load(row("a", 1)).on_partition(1),
                    events.insert(row("b", 2)).at(10),
                    events.insert(row("b", 2)).at(10).record(2),
                ])
                .await;
            pipeline.merge().await;
            let rows: [&[&str]; 4] = [&["a", "1"], &["a", "1"], &["b", "2"], &["b", "2"]];
            pipeline.assert_rows(&events, &rows).await;
            let before = pipeline.snapshot(&events).await;
            // Delivered again; and sent again by DMS, with the source's own position.
            pipeline.deliver(&records).await;
            pipeline.send(&[events.insert(row("b", 2)).at(10)]).await;
            pipeline.merge().await;
            assert_eq!(pipeline.snapshot(&events).await, before);
            // Late: below what is merged.
            pipeline.send(&[events.insert(row("c", 3)).at(20), events.insert(row("d", 4)).at(5)]).await;
            pipeline.merge().await;
            assert_eq!(pipeline.rows(&events).await.len(), 6);
        }
    });
}

#[test]
fn what_needs_a_key_goes_to_the_quarantine_until_a_reload_with_one() {
    run(async {
        let events = events();
        let mut pipeline = Setup::default().start().await;
        pipeline.send(&[events.create(), events.load(row("a", 1)), events.insert(row("b", 2)).at(10)]).await;
        pipeline.merge().await;
        pipeline
            .send(&[
                events.update(row("a", 5)).at(20),
                events.delete(row("b", 2)).at(21),
                events.insert(row("c", 3)).at(22),
            ])
            .await;
        let answers = pipeline.merge().await;
        let answer = of(&answers, &events);
        assert_eq!((answer.outcome.as_str(), answer.quarantined), ("merged", 2));
        assert!(answer.reason.as_deref().unwrap_or_default().contains("no primary key"), "{answer:?}");
        pipeline.assert_rows(&events, &[&["a", "1"], &["b", "2"], &["c", "3"]]).await;
        let sql = format!("SELECT DISTINCT reason FROM `{}`", pipeline.quarantine());
        assert!(pipeline.texts(&sql).await[0].contains("has no key"));

        // Loaded again: the rows as they are now take the place of the old ones.
        pipeline
            .send(&[
                events.drop_table(),
                events.create(),
                events.load(row("a", 5)),
                events.load(row("c", 3)),
                events.insert(row("e", 6)).at(40),
            ])
            .await;
        pipeline.merge().await;
        pipeline.assert_rows(&events, &[&["a", "5"], &["c", "3"], &["e", "6"]]).await;

        // A person declares a key: from now on rows are merged by it.
        pipeline
            .query(&format!("ALTER TABLE `{}` ADD PRIMARY KEY (kind) NOT ENFORCED", pipeline.final_table(&events)))
            .await;
        pipeline.send(&[events.update(row("a", 7)).at(50), events.delete(row("c", 3)).at(51)]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&events, &[&["a", "7"], &["e", "6"]]).await;
    });
}

#[test]
fn a_table_made_by_hand_has_no_key_only_if_it_says_so() {
    run(async {
        let events = events();
        let mut pipeline = Setup::default().start().await;
        pipeline.query(&format!("CREATE SCHEMA `{}_replica`", pipeline.prefix())).await;
        let table = pipeline.final_table(&events);
        pipeline.query(&format!("CREATE TABLE `{table}` (kind STRING, amount INT64)")).await;
        pipeline.send(&[events.insert(row("a", 1)).at(10)]).await;
        let answers = pipeline.merge().await;
        let reason = of(&answers, &events).reason.clone().unwrap_or_default();
        assert!(reason.contains("strait_key") && reason.contains("ADD PRIMARY KEY"), "{reason}");
        pipeline.query(&format!("ALTER TABLE `{table}` SET OPTIONS (labels = [('strait_key', 'none')])")).await;
        pipeline.merge().await;
        pipeline.assert_rows(&events, &[&["a", "1"]]).await;
    });
}
