//! `strait plan`: it says what the next run does, in that run's own statements, and does nothing itself.

use jiff::Timestamp;
use serde_json::json;
use strait_tests::history::Table;
use strait_tests::pipeline::{Pipeline, of};
use strait_tests::run;

fn row(id: u32, v: &str) -> String {
    json!({"id": id, "v": v}).to_string()
}

/// `strait plan` with the variables that the pipeline's functions have; what it prints.
async fn plan(pipeline: &Pipeline, arguments: &[&str]) -> String {
    let output = pipeline.strait("plan").args(arguments).output().await.unwrap();
    let (said, complained) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");
    said
}

/// Everything that a plan must leave as it is.
async fn state(pipeline: &Pipeline) -> Vec<String> {
    let prefix = pipeline.prefix();
    let mut state = Vec::new();
    for dataset in ["cdc", "replica"] {
        let tables = format!("SELECT table_name FROM `{prefix}_{dataset}`.INFORMATION_SCHEMA.TABLES");
        if let Ok(tables) = pipeline.bigquery.query(&tables).await {
            state.extend(tables.rows.into_iter().flatten().flatten());
        }
    }
    state.sort();
    if state.iter().any(|table| table == "merges") {
        state.extend(pipeline.texts(&format!("SELECT CAST(COUNT(*) AS STRING) FROM `{}`", pipeline.merges())).await);
    }
    state
}

#[test]
fn a_plan_says_what_the_next_run_does_and_does_nothing() {
    run(async {
        let (orders, other) = (Table::orders(), Table::new("shop", "other").column("id", "INT64").key(&["id"]));
        let mut pipeline = Pipeline::start().await;
        assert!(plan(&pipeline, &[]).await.contains("nothing can be planned"));
        assert_eq!(state(&pipeline).await, [""; 0]);

        pipeline
            .send(&[orders.create(), orders.insert(row(1, "a")).at(10), other.insert(json!({"id": 1})).at(11)])
            .await;
        pipeline.merge().await;
        assert!(plan(&pipeline, &["shop.orders"]).await.contains("nothing to do"));

        pipeline.send(&[orders.update(row(1, "b")).at(5), orders.insert(row(2, "c")).at(20)]).await;
        let before = state(&pipeline).await;
        let said = plan(&pipeline, &[]).await;
        let planned = plan(&pipeline, &["shop.orders"]).await;
        assert_eq!(state(&pipeline).await, before, "a plan writes nothing");
        for expected in [
            "shop.orders →",
            "2 changes not merged yet",
            "some may be older than what is merged",
            "window  ingested from",
            "fold: reads",
            "MERGE, unless all keys were new: reads at most",
            "shop.other →",
            "`strait schema shop.other`",
        ] {
            assert!(said.contains(expected), "{expected}:\n{said}");
        }
        assert!(!said.contains("CREATE OR REPLACE"), "{said}");

        // The statements are the run's own.
        let since = Timestamp::now();
        let answers = pipeline.merge().await;
        assert_eq!(of(&answers, &orders).records, 2);
        let own = format!("`{}_cdc`", pipeline.prefix());
        let run: Vec<String> =
            pipeline.bigquery.statements(since.as_millisecond(), i64::MAX / 1_000_000).await.unwrap();
        let fold = run.iter().find(|sql| sql.contains(&own) && sql.contains("CREATE OR REPLACE TABLE")).unwrap();
        let shown: String =
            planned.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect();
        assert!(shown.contains(fold.as_str()), "{fold}\n\n{shown}");
    });
}

#[test]
fn of_many_tables_every_statement_that_writes_is_planned() {
    run(async {
        let table = |name: &str| Table::new("shop", name).column("id", "INT64").column("v", "WSTRING").key(&["id"]);
        let tables = ["items", "orders", "people", "returns"].map(table);
        let [behind, altered, ..] = &tables;
        let mut pipeline = Pipeline::start().await;
        let first = tables.iter().flat_map(|table| [table.create(), table.insert(row(1, "a")).at(10)]);
        pipeline.send(&first.collect::<Vec<_>>()).await;
        pipeline.merge().await;
        // One table stands behind the others, and another gets a column.
        let second: Vec<_> = tables.iter().map(|table| table.update(row(1, "b")).at(20)).collect();
        pipeline.send(&second).await;
        let others: Vec<String> = tables.iter().skip(1).map(Table::source_name).collect();
        pipeline.merge_with(json!({ "tables": others }).to_string()).await;
        let wider = altered.clone().column("note", "WSTRING");
        let mut third = vec![wider.altered("add-column", altered)];
        third.extend(tables.iter().map(|table| match table.source_name() == wider.source_name() {
            true => wider.update(json!({"id": 1, "v": "c", "note": "n"})).at(30),
            false => table.update(row(1, "c")).at(30),
        }));
        pipeline.send(&third).await;

        let planned = plan(&pipeline, &["--sql"]).await;
        let since = Timestamp::now();
        let answers = pipeline.merge().await;
        assert!(answers.iter().all(|table| table.outcome == "merged"), "{answers:?}");
        assert_eq!(of(&answers, behind).records, 2);
        pipeline.assert_rows(behind, &[&["1", "c"]]).await;
        pipeline.assert_rows(&wider, &[&["1", "c", "n"]]).await;

        let prefix = format!("`{}_", pipeline.prefix());
        let run = pipeline.bigquery.statements(since.as_millisecond(), i64::MAX / 1_000_000).await.unwrap();
        let writes: Vec<&String> = run
            .iter()
            .filter(|sql| {
                sql.contains(&prefix) && (sql.contains("CREATE OR REPLACE TABLE") || sql.contains("ALTER TABLE"))
            })
            .collect();
        assert!(writes.iter().any(|sql| sql.contains("ADD COLUMN")) && writes.len() > tables.len(), "{writes:#?}");
        let shown: String =
            planned.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect();
        let shown = without_runs(&shown);
        // Of a table that is altered first, the plan says that the rest is shown as if it were not.
        assert!(planned.contains("shown with the columns as they are now"), "{planned}");
        for sql in writes.into_iter().filter(|sql| !sql.contains("'$.\"note\"'")) {
            // An ALTER stands behind the question whether the run is in turn, which names the run: the plan leaves it out.
            let sql = sql
                .split_once(";\nALTER TABLE")
                .map_or_else(|| sql.clone(), |(_, alter)| format!("ALTER TABLE{alter}"));
            let sql = without_runs(&sql);
            let other: Vec<&str> = sql.lines().filter(|line| !shown.contains(line)).collect();
            assert!(shown.contains(&sql), "not planned:\n{sql}\n\nof it: {other:#?}\n\nplanned:\n{shown}");
        }
    });
}

/// The copy of the log has a name for each run, and so has what is read from it.
fn without_runs(sql: &str) -> String {
    let mut text = sql.to_owned();
    for kind in ["_strait_delta_", "_strait_fold_"] {
        let mut parts = text.split(kind);
        let first = parts.next().unwrap_or_default().to_owned();
        text = parts.fold(first, |text, part| text + kind + part.get(24..).unwrap_or_default());
    }
    text
}
