//! What the pipeline promises beside single histories: repetition, several tables, final tables made by hand, tables that wait, the
//! ledger, the quarantine; and that every published message is accounted for.

use std::process::Command;

use jiff::Timestamp;
use serde_json::{Value, json};
use strait::config::TableFilter;
use strait_cli::accounting::{account, expected_accounting, log_statement};
use strait_cli::dms_file;
use strait_cli::msk;
use strait_cli::pipeline::MergedTable;
use strait_cli::runtime_api::InvocationOutcome;
use strait_tests::history::Table;
use strait_tests::pipeline::{NOTHING_FAILED, Pipeline, Setup, answer, of};
use strait_tests::{NULL, event, programs, repository, run};

fn row(id: u32, v: &str) -> String {
    json!({"id": id, "v": v}).to_string()
}

#[test]
fn an_invocation_repeated_three_times_changes_nothing() {
    run(async {
        let orders = Table::orders();
        let mut pipeline = Pipeline::start().await;
        let records = pipeline
            .send(&[
                orders.create(),
                orders.load(row(1, "loaded")),
                orders.load(row(2, "loaded")),
                orders.insert(row(3, "inserted")).at(10),
                orders.update(row(2, "updated")).at(11),
                orders.delete(row(1, "loaded")).at(12),
            ])
            .await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["2", "updated"], &["3", "inserted"]]).await;
        // Positions and the time of the merge included: the same only if no row was written again.
        let first = pipeline.snapshot(&orders).await;
        for _ in 0..3 {
            pipeline.deliver(&records).await;
            pipeline.merge().await;
            assert_eq!(pipeline.snapshot(&orders).await, first);
        }
    });
}

/// The MERGEs into a final table since then: whether each may write to rows that are there.
async fn merges_since(pipeline: &Pipeline, table: &Table, since: Timestamp) -> Vec<bool> {
    let statements = pipeline.bigquery.statements(since.as_millisecond(), i64::MAX / 1_000_000).await.unwrap();
    let into = format!("`{}`", pipeline.final_table(table).replace('.', "`.`"));
    let is_into =
        |sql: &&String| sql.lines().next().is_some_and(|first| first.starts_with("MERGE") && first.contains(&into));
    statements.iter().filter(is_into).map(|sql| sql.contains("WHEN MATCHED")).collect()
}

#[test]
fn where_all_keys_are_new_no_statement_is_billed_for_rows_that_are_there() {
    for deletes in ["hard", "soft"] {
        for absent in ["null", "unchanged"] {
            run(async move {
                let orders = Table::orders();
                let setup = Setup::default().with("STRAIT_DELETES", deletes).with("STRAIT_ABSENT_COLUMNS", absent);
                let mut pipeline = setup.start().await;
                let counts = |answers: &[MergedTable]| {
                    let table = of(answers, &orders);
                    (table.inserted, table.updated, table.deleted)
                };

                let first = [orders.create(), orders.load(row(1, "a")), orders.load(row(2, "a"))];
                let (since, first) = (Timestamp::now(), pipeline.send(&first).await);
                assert_eq!(counts(&pipeline.merge().await), (2, 0, 0));
                assert_eq!(merges_since(&pipeline, &orders, since).await, [false]);

                let since = Timestamp::now();
                pipeline.send(&[orders.insert(row(3, "b")).at(10), orders.insert(row(4, "b")).at(11)]).await;
                assert_eq!(counts(&pipeline.merge().await), (2, 0, 0));
                assert_eq!(merges_since(&pipeline, &orders, since).await, [false]);

                // What was inserted and changed since is new; a row that was deleted and inserted again is there.
                let since = Timestamp::now();
                pipeline.send(&[orders.insert(row(5, "b")).at(15), orders.update(row(5, "c")).at(16)]).await;
                assert_eq!(counts(&pipeline.merge().await), (1, 0, 0));
                assert_eq!(merges_since(&pipeline, &orders, since).await, [false]);

                let since = Timestamp::now();
                pipeline.send(&[orders.delete(row(4, "b")).at(20), orders.insert(row(4, "c")).at(20).record(2)]).await;
                assert_eq!(counts(&pipeline.merge().await), (0, 1, 0));
                assert_eq!(merges_since(&pipeline, &orders, since).await, [true]);

                // An insert of a row that is there all the same, as of one that was written by hand.
                let since = Timestamp::now();
                let there = [orders.insert(row(2, "c")).at(22), orders.insert(row(7, "c")).at(23)];
                pipeline.send(&there).await;
                assert_eq!(counts(&pipeline.merge().await), (1, 1, 0));
                let mut merges = merges_since(&pipeline, &orders, since).await;
                merges.sort_unstable();
                assert_eq!(merges, [false, true]);

                let since = Timestamp::now();
                pipeline.send(&[orders.update(row(1, "d")).at(30), orders.insert(row(6, "d")).at(31)]).await;
                assert_eq!(counts(&pipeline.merge().await), (1, 1, 0));
                assert_eq!(merges_since(&pipeline, &orders, since).await, [true]);

                pipeline.deliver(&first).await;
                pipeline.merge().await;
                let expected: [&[&str]; 7] =
                    [&["1", "d"], &["2", "c"], &["3", "b"], &["4", "c"], &["5", "c"], &["6", "d"], &["7", "c"]];
                pipeline.assert_rows(&orders, &expected).await;
            });
        }
    }
}

#[test]
fn several_tables_at_once_and_a_merge_of_one_loses_no_news_of_the_others() {
    run(async {
        let (orders, items, people) = (
            Table::orders(),
            Table::new("shop", "items")
                .column("order", "INT64")
                .column("line", "INT32")
                .column("sku", "WSTRING")
                .key(&["order", "line"]),
            Table::new("crm", "orders").column("id", "INT64").column("v", "WSTRING").key(&["id"]),
        );
        let mut pipeline = Pipeline::start().await;
        pipeline
            .send(&[
                orders.create(),
                items.create(),
                people.create(),
                orders.insert(row(1, "a")).at(10),
                items.insert(json!({"order": 1, "line": 1, "sku": "x"})).at(11),
                items.insert(json!({"order": 1, "line": 2, "sku": "y"})).at(12),
                people.insert(row(1, "p")).at(13),
            ])
            .await;
        let answers = pipeline.merge_with(event("merge-one-table.json")).await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(of(&answers, &orders).outcome, "merged");
        pipeline.assert_rows(&orders, &[&["1", "a"]]).await;

        // More news for all of them, and again only one is merged.
        pipeline
            .send(&[
                orders.update(row(1, "b")).at(20),
                items.delete(json!({"order": 1, "line": 1, "sku": "x"})).at(21),
                people.update(row(1, "q")).at(22),
            ])
            .await;
        pipeline.merge_with(r#"{"tables":["crm.orders"]}"#).await;
        pipeline.assert_rows(&people, &[&["1", "q"]]).await;
        pipeline.assert_rows(&orders, &[&["1", "a"]]).await;

        let answers = pipeline.merge_with(event("scheduled.json")).await;
        assert_eq!(of(&answers, &orders).outcome, "merged");
        assert_eq!(of(&answers, &items).outcome, "merged");
        pipeline.assert_rows(&orders, &[&["1", "b"]]).await;
        pipeline.assert_rows(&items, &[&["1", "2", "y"]]).await;
        pipeline.assert_rows(&people, &[&["1", "q"]]).await;

        let idle = pipeline.merge_with(r#"{"tables":["shop.orders"]}"#).await;
        assert_eq!((of(&idle, &orders).outcome.as_str(), of(&idle, &orders).records), ("idle", 0));
    });
}

#[test]
fn a_final_table_that_a_person_made_is_taken_as_it_is() {
    run(async {
        let orders = Table::orders().column("note", "WSTRING");
        let mut pipeline = Pipeline::start().await;
        pipeline.query(&format!("CREATE SCHEMA `{}_replica`", pipeline.prefix())).await;
        pipeline
            .query(&format!(
                "CREATE TABLE `{}` (V STRING, ID INT64 NOT NULL, PRIMARY KEY (ID) NOT ENFORCED) OPTIONS (labels = [('strait_deletes', 'soft')])",
                pipeline.final_table(&orders)
            ))
            .await;
        pipeline
            .send(&[
                orders.create(),
                orders.insert(json!({"id": 1, "v": "a", "note": "no column for it"})).at(10),
                orders.insert(json!({"id": 2, "v": "b", "note": null})).at(11),
                orders.delete(json!({"id": 2, "v": "b", "note": null})).at(12),
            ])
            .await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["a", "1"]]).await;
        let deletes = format!("SELECT id, _strait_deleted FROM `{}`", pipeline.final_table(&orders));
        assert_eq!(pipeline.texts(&deletes).await, ["1|false", "2|true"], "the label asks for soft deletes");

        pipeline.send(&[orders.update(json!({"id": 1, "v": "c", "note": null})).at(20)]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["c", "1"]]).await;
    });
}

#[test]
fn a_table_without_a_definition_waits_and_loses_nothing() {
    run(async {
        let (orders, other) = (Table::orders(), Table::new("shop", "other").column("id", "INT64").key(&["id"]));
        let mut pipeline = Pipeline::start().await;
        pipeline
            .send(&[orders.insert(row(1, "a")).at(10), other.create(), other.insert(json!({"id": 1})).at(11)])
            .await;
        for _ in 0..2 {
            let answers = pipeline.merge().await;
            let waiting = of(&answers, &orders);
            let reason = waiting.reason.as_deref().unwrap();
            assert_eq!(waiting.outcome, "waiting");
            assert!(reason.contains("create it") && reason.contains("IncludeControlDetails"), "{reason}");
            assert!(!pipeline.exists(&pipeline.final_table(&orders)).await, "nothing may be guessed from values");
            pipeline.assert_rows(&other, &[&["1"]]).await;
        }
        pipeline
            .send(&[
                orders.update(row(1, "b")).at(20),
                orders.insert(row(2, "c")).at(21),
                other.insert(json!({"id": 2})).at(22),
            ])
            .await;
        pipeline.merge().await;
        pipeline.send(&[orders.create()]).await;
        let answers = pipeline.merge().await;
        assert_eq!((of(&answers, &orders).outcome.as_str(), of(&answers, &orders).records), ("merged", 3));
        pipeline.assert_rows(&orders, &[&["1", "b"], &["2", "c"]]).await;
        pipeline.assert_rows(&other, &[&["1"], &["2"]]).await;
    });
}

#[test]
fn a_table_that_a_person_made_without_a_key_waits_until_one_is_declared() {
    run(async {
        let events = Table::new("shop", "events").column("id", "INT64").column("v", "WSTRING");
        let mut pipeline = Pipeline::start().await;
        pipeline.query(&format!("CREATE SCHEMA `{}_replica`", pipeline.prefix())).await;
        let table = pipeline.final_table(&events);
        pipeline.query(&format!("CREATE TABLE `{table}` (id INT64 NOT NULL, v STRING)")).await;
        // Nothing says whether the source's table has a key.
        pipeline.send(&[events.insert(row(1, "a")).at(10), events.update(row(1, "b")).at(11)]).await;
        let answers = pipeline.merge().await;
        let waiting = of(&answers, &events);
        assert_eq!(waiting.outcome, "waiting");
        assert!(waiting.reason.as_deref().unwrap().contains("PRIMARY KEY"), "{waiting:?}");

        pipeline.query(&format!("ALTER TABLE `{table}` ADD PRIMARY KEY (id) NOT ENFORCED")).await;
        let answers = pipeline.merge().await;
        assert_eq!(of(&answers, &events).outcome, "merged", "{answers:?}");
        pipeline.assert_rows(&events, &[&["1", "b"]]).await;
    });
}

#[test]
fn a_value_that_its_column_cannot_hold_is_quarantined_until_a_later_change_mends_it() {
    run(async {
        let prices = Table::new("shop", "prices")
            .column("id", "INT64")
            .numeric("price", 12, 2)
            .column("day", "DATE")
            .key(&["id"]);
        let image = |id: u32, price: &str, day: &str| format!(r#"{{"id":{id},"price":{price},"day":"{day}"}}"#);
        let mut pipeline = Pipeline::start().await;
        pipeline
            .send(&[
                prices.create(),
                prices.insert(image(1, "1.23456789012", "2024-02-29")).at(10),
                prices.insert(image(2, "1.5", "2023-02-29")).at(11),
                prices.insert(image(3, "99999999999999999999999999999999999999999", "2024-02-29")).at(12),
                prices.insert(image(4, "46.570000", "2024-02-29")).at(13),
                prices.insert(image(5, "1", "2024-01-01")).at(14),
            ])
            .await;
        let answers = pipeline.merge().await;
        assert_eq!(of(&answers, &prices).quarantined, 3);
        pipeline.assert_rows(&prices, &[&["4", "46.57", "2024-02-29"], &["5", "1", "2024-01-01"]]).await;
        let quarantine =
            format!("SELECT key, `column`, kafka_partition, kafka_offset FROM `{}`", pipeline.quarantine());
        let expected = [r#"{"id":"1"}|price|0|1"#, r#"{"id":"2"}|day|0|2"#, r#"{"id":"3"}|price|0|3"#];
        assert_eq!(pipeline.texts(&quarantine).await, expected);

        // A row that was sound keeps its last sound state; the others come back with a value that fits.
        pipeline
            .send(&[
                prices.update(image(5, "1.00000000001", "2024-01-01")).at(20),
                prices.update(image(1, "1.25", "2024-02-29")).at(21),
                prices.update(image(2, "1.5", "2024-02-28")).at(22),
                prices.delete(image(3, "99999999999999999999999999999999999999999", "2024-02-29")).at(23),
            ])
            .await;
        let answers = pipeline.merge().await;
        assert_eq!(of(&answers, &prices).quarantined, 1);
        pipeline
            .assert_rows(
                &prices,
                &[
                    &["1", "1.25", "2024-02-29"],
                    &["2", "1.5", "2024-02-28"],
                    &["4", "46.57", "2024-02-29"],
                    &["5", "1", "2024-01-01"],
                ],
            )
            .await;
        assert_eq!(pipeline.texts(&quarantine).await.len(), 4);
    });
}

#[test]
fn a_final_table_that_was_removed_is_filled_from_all_that_the_log_retains() {
    run(async {
        let orders = Table::orders();
        let mut pipeline = Pipeline::start().await;
        let messages = [
            orders.create(),
            orders.insert(row(1, "a")).at(10),
            orders.insert(row(2, "b")).at(11),
            orders.delete(row(2, "b")).at(12),
        ];
        pipeline.send(&messages).await;
        pipeline.merge().await;
        pipeline.query(&format!("DROP TABLE `{}`", pipeline.final_table(&orders))).await;
        pipeline.send(&[orders.insert(row(3, "c")).at(13)]).await;
        let answers = pipeline.merge().await;
        assert_eq!(of(&answers, &orders).outcome, "merged", "{answers:?}");
        pipeline.assert_rows(&orders, &[&["1", "a"], &["3", "c"]]).await;
        assert!(pipeline.logs().contains("made anew"), "a person is told that older rows may be missing");
    });
}

#[test]
fn two_source_tables_of_one_final_table_are_refused() {
    run(async {
        let one = Table::new("a_b", "c").column("id", "INT64").key(&["id"]);
        let other = Table::new("a", "b_c").column("id", "INT64").key(&["id"]);
        let mut pipeline = Pipeline::start().await;
        let messages =
            [one.create(), other.create(), one.insert(json!({"id": 1})).at(10), other.insert(json!({"id": 1})).at(11)];
        pipeline.send(&messages).await;
        let answers = pipeline.merge().await;
        for table in [&one, &other] {
            let answer = of(&answers, table);
            assert_eq!(answer.outcome, "waiting", "{answer:?}");
            assert!(answer.reason.as_deref().unwrap().contains("STRAIT_FINAL_TABLE"), "{answer:?}");
        }
    });
}

#[test]
fn the_ledger_tells_what_was_merged() {
    run(async {
        let orders = Table::orders();
        let mut pipeline = Pipeline::start().await;
        pipeline
            .send(&[
                orders.create(),
                orders.insert(row(1, "a")).at(10),
                orders.insert(row(2, "b")).at(11),
                orders.insert(row(3, "c")).at(12).on_partition(1),
            ])
            .await;
        pipeline.merge().await;
        pipeline.send(&[orders.update(row(1, "A")).at(20), orders.delete(row(2, "b")).at(21)]).await;
        pipeline.merge().await;

        let sql = format!(
            "SELECT source_schema, source_table, final_table, records, inserted, updated, deleted, quarantined, late, \
             job_id IS NOT NULL, duration_ms > 0, highest_position \
             FROM `{}` WHERE outcome = 'merged' AND carried IS NULL ORDER BY recorded_at",
            pipeline.merges()
        );
        let rows = pipeline.query(&sql).await;
        let texts: Vec<String> = rows
            .iter()
            .map(|row| row.iter().take(11).map(|cell| cell.as_deref().unwrap_or(NULL)).collect::<Vec<_>>().join("|"))
            .collect();
        let final_table = pipeline.final_table(&orders);
        assert_eq!(
            texts,
            [
                format!("shop|orders|{final_table}|3|3|0|0|0|0|true|true"),
                format!("shop|orders|{final_table}|2|0|1|1|0|0|true|true"),
            ]
        );
        assert!(rows[0][11] < rows[1][11], "positions rise: {rows:?}");

        let sql = format!(
            "SELECT TO_JSON_STRING(offsets) FROM `{}` WHERE outcome = 'merged' AND carried IS NULL ORDER BY recorded_at",
            pipeline.merges()
        );
        let offsets: Vec<Value> = pipeline
            .query(&sql)
            .await
            .iter()
            .map(|row| serde_json::from_str(row[0].as_deref().unwrap()).unwrap())
            .collect();
        let range =
            |partition: u32, last: u32| json!({"topic": "cdc", "partition": partition, "first": 0, "last": last});
        assert_eq!(offsets, [json!([range(0, 2), range(1, 0)]), json!([range(0, 4), range(1, 0)])]);
    });
}

#[test]
fn a_reload_ends_equal_to_the_source() {
    run(async {
        let orders = Table::orders();
        let mut pipeline = Pipeline::start().await;
        pipeline
            .send(&[orders.drop_table(), orders.create(), orders.load(row(1, "a")), orders.load(row(2, "b"))])
            .await;
        pipeline.send(&[orders.update(row(2, "c")).at(10)]).await;
        pipeline.merge().await;
        // Loaded again as it is, then changed.
        pipeline
            .send(&[
                orders.drop_table(),
                orders.create(),
                orders.load(row(1, "a")),
                orders.load(row(2, "c")),
                orders.update(row(1, "d")).at(20),
            ])
            .await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "d"], &["2", "c"]]).await;
    });
}

#[test]
fn tables_that_are_left_out_are_counted_and_not_logged() {
    run(async {
        let (orders, secret) = (Table::orders(), Table::new("shop", "salaries").column("id", "INT64").key(&["id"]));
        let mut pipeline = Setup::default().with("STRAIT_TABLES", "shop.*,!shop.salaries").start().await;
        pipeline
            .send(&[
                orders.create(),
                secret.create(),
                secret.insert(json!({"id": 1})).at(10),
                orders.insert(row(1, "a")).at(11),
            ])
            .await;
        assert_eq!(json!(pipeline.logged().await), json!({"create-table": 1, "insert": 1}));
        assert!(pipeline.ingest.log().contains(r#""excluded":2"#), "{}", pipeline.ingest.log());
        let answers = pipeline.merge().await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        pipeline.assert_rows(&orders, &[&["1", "a"]]).await;
    });
}

#[test]
fn sample_events_of_every_shape_are_taken() {
    run(async {
        let pipeline = Pipeline::start().await;
        let mut names: Vec<String> = std::fs::read_dir(repository().join("events"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("msk-") || name.starts_with("self-managed"))
            .collect();
        names.sort();
        let mut records = Vec::new();
        for name in &names {
            let outcome = pipeline.invoke_ingest(event(name)).await;
            assert_eq!(answer(&outcome), NOTHING_FAILED, "{name}");
            records.extend(msk::records_of_event(&event(name)).unwrap());
        }
        assert!(names.len() >= 10, "{names:?}");
        let log = pipeline.bigquery.query(&log_statement(&pipeline.log())).await.unwrap();
        let accounting = account(&expected_accounting(&records, &all_tables()), &log);
        assert!(accounting.is_complete(), "{accounting:?}");
        let outcome = pipeline.invoke_merge("{}").await;
        assert!(matches!(outcome, InvocationOutcome::Response(_)), "{outcome:?}");
    });
}

#[test]
fn every_published_message_is_accounted_for() {
    let samples = repository().join("../shared/samples/dms");
    let Ok(folder) = std::fs::read_dir(&samples) else {
        eprintln!("SKIPPED 1: {} is missing", samples.display());
        return;
    };
    let mut paths: Vec<_> = folder
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no sample in {}", samples.display());
    run(async {
        let pipeline = Pipeline::start().await;
        let mut all = Vec::new();
        for path in &paths {
            let file = std::fs::read(path).unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap();
            // A topic each: samples of different origin do not share offsets.
            let mut topic = msk::Topic::new(name, 1);
            let records: Vec<_> = dms_file::records(&file)
                .into_iter()
                .map(|message| topic.append(msk::default_dms_key(message), Some(message.to_vec())))
                .collect();
            assert!(!records.is_empty(), "{name} holds no record");
            for batch in msk::batches(&records, 500).unwrap() {
                let outcome = pipeline.invoke_ingest(msk::event(batch)).await;
                assert_eq!(answer(&outcome), NOTHING_FAILED, "{name}");
            }
            all.extend(records);
        }
        let log = pipeline.bigquery.query(&log_statement(&pipeline.log())).await.unwrap();
        let accounting = account(&expected_accounting(&all, &all_tables()), &log);
        assert!(accounting.is_complete(), "{accounting:?}");
        // Whatever the samples hold, no table may fail: what cannot be merged waits or is quarantined.
        let answers = pipeline.merge().await;
        assert!(answers.iter().any(|answer| answer.outcome == "merged"), "{answers:?}");
    });
}

#[test]
fn the_demonstration_ends_equal() {
    // A process of its own, as a person runs it.
    let _ = programs::folder();
    let output = Command::new(programs::program("strait"))
        .args(["demo", "--events"])
        .arg(repository().join("events/demo"))
        .env_remove("STRAIT_PROJECT")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let said = format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}", output.status);
    for table in ["shop.customers", "shop.orders", "shop.order_items", "shop.products", "crm.contacts"] {
        let is_equal = text.lines().any(|line| line.contains(table) && line.contains("equal"));
        assert!(is_equal, "{table} is not said to be equal:\n{said}");
    }
}

/// What STRAIT_TABLES is by default.
fn all_tables() -> TableFilter {
    TableFilter::parse("*").unwrap()
}
