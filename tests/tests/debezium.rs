//! Histories as Debezium sends them, through the built functions: what is in the final table at the end is what the source holds. Expected
//! rows are written by hand.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use strait_cli::msk;
use strait_tests::debezium::{Captured, Engine, Record, produce};
use strait_tests::history::Table;
use strait_tests::pipeline::{Pipeline, Setup, answer, of};
use strait_tests::{NULL, run};

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";
const PLACEHOLDER: &str = "__debezium_unavailable_value";

/// `id INT, price DECIMAL(10,2), at DATETIME(6), body TEXT`.
fn orders(engine: Engine, schema: &str) -> Captured {
    Captured::new(engine, schema, "orders")
        .column("id", "int32", "")
        .column_with("price", "bytes", DECIMAL, &json!({"scale": "2", "connect.decimal.precision": "10"}))
        .column("at", "int64", "io.debezium.time.MicroTimestamp")
        .column("body", "string", "")
        .key(&["id"])
}

/// A price in hundredths as Debezium encodes it.
fn base64_of(price: i32) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(price.to_be_bytes())
}

fn row(id: i32, price: i32, body: &str) -> Value {
    json!({"id": id, "price": base64_of(price), "at": 1_709_210_096_123_456_i64, "body": body})
}

const AT: &str = "2024-02-29T12:34:56.123456";

async fn deliver(pipeline: &Pipeline, topics: &mut BTreeMap<String, msk::Topic>, records: &[Record]) {
    pipeline.deliver(&produce(topics, records)).await;
}

#[test]
fn a_mysql_history_ends_equal_to_the_source_beside_one_of_dms() {
    run(async {
        let mut pipeline = Pipeline::start().await;
        let mut topics = BTreeMap::new();
        let captured = orders(Engine::MySql, "shop");
        let table = captured.table();
        let columns = [
            ("id", "INT", None, None),
            ("price", "DECIMAL", Some(10), Some(2)),
            ("at", "DATETIME", Some(6), None),
            ("body", "LONGTEXT", None, None),
        ];
        let mut records = vec![
            Record::raw(
                "dbz",
                Some("{}"),
                Some(r#"{"source":{"connector":"mysql"},"ts_ms":1,"databaseName":"","ddl":"SET x","tableChanges":[]}"#),
            ),
            captured.statement("CREATE", "CREATE TABLE orders …", &columns),
            captured.read("first", &row(1, 150, "a")),
            captured.read("true", &row(2, -250, "b")),
            captured.read("last", &row(3, 300, "c")),
            Record::transaction("BEGIN", "file=x,pos=1"),
            captured.create(&row(4, 400, "d"), 10),
            captured.update(&row(4, 400, "d"), &row(4, 401, "d"), 20),
            Record::transaction("END", "file=x,pos=1"),
        ];
        records.extend(captured.delete(&row(3, 300, "c"), 60));
        records.extend(captured.key_change(&row(2, -250, "b"), &row(20, -250, "b"), 70));
        let mut kafka = produce(&mut topics, &records);
        // Another source, captured by DMS, in the same event.
        let customers = Table::new("crm", "customers").column("id", "INT64").column("v", "WSTRING").key(&["id"]);
        kafka.extend(pipeline.produce(&[
            customers.create(),
            customers.insert(r#"{"id":1,"v":"__debezium_unavailable_value"}"#).at(1),
            customers.update(r#"{"id":1,"v":"before"}"#).at(2),
        ]));
        pipeline.deliver(&kafka).await;
        // Delivered again, as a poller does.
        pipeline.deliver(&kafka[3..]).await;
        let merged = pipeline.merge().await;
        assert_eq!((of(&merged, &table).quarantined, of(&merged, &customers).quarantined), (0, 0), "{merged:?}");
        pipeline.assert_rows(&customers, &[&["1", "before"]]).await;
        pipeline
            .assert_rows(&table, &[&["1", "1.5", AT, "a"], &["20", "-2.5", AT, "b"], &["4", "4.01", AT, "d"]])
            .await;

        // A column is added; records of both shapes, the statement's own coming last.
        let wider = captured.clone().column("n", "int64", "");
        let with = |id: i32, n: i64| {
            let mut row = row(id, 100, "new");
            row["n"] = n.into();
            row
        };
        let mut columns = columns.to_vec();
        columns.push(("n", "BIGINT", Some(20), None));
        deliver(
            &pipeline,
            &mut topics,
            &[
                wider.create(&with(5, 9_007_199_254_740_993), 100),
                wider.update(&with(1, 0), &with(1, 7), 110),
                captured.statement("ALTER", "ALTER TABLE orders ADD COLUMN n BIGINT", &columns),
            ],
        )
        .await;
        let merged = pipeline.merge().await;
        assert_eq!(of(&merged, &table).quarantined, 0, "{merged:?}");
        let rows: [&[&str]; 4] = [
            &["1", "1", AT, "new", "7"],
            &["20", "-2.5", AT, "b", NULL],
            &["4", "4.01", AT, "d", NULL],
            &["5", "1", AT, "new", "9007199254740993"],
        ];
        pipeline.assert_rows(&table, &rows).await;
        assert_eq!(pipeline.logged().await.get("poison"), None);
        let kept_out = format!(
            "SELECT reason, SUM(last_offset - first_offset + 1) FROM `{}_kept_out` GROUP BY reason",
            pipeline.log()
        );
        let kept_out = pipeline.texts(&kept_out).await;
        assert!(
            kept_out.iter().any(|row| row.starts_with("tombstone|"))
                && kept_out.iter().any(|row| row.starts_with("debezium|")),
            "{kept_out:?}"
        );
    });
}

#[test]
fn a_postgresql_history_describes_itself_and_leaves_what_was_not_sent_as_it_is() {
    run(async {
        let pipeline = Pipeline::start().await;
        let mut topics = BTreeMap::new();
        let captured = orders(Engine::PostgreSql, "public");
        let table = captured.table();
        let placeholder = |id: i32, price: i32| row(id, price, PLACEHOLDER);
        let mut records = vec![
            captured.read("first", &row(1, 100, "long")),
            captured.read("last", &row(2, 200, "short")),
            // Two updates in one window, neither with the text.
            captured.update(&Value::Null, &placeholder(1, 101), 10),
            captured.update(&Value::Null, &placeholder(1, 102), 20),
        ];
        records.extend(captured.key_change(
            &json!({"id": 2, "price": null, "at": null, "body": null}),
            &row(22, 200, "short"),
            30,
        ));
        deliver(&pipeline, &mut topics, &records).await;
        let merged = pipeline.merge().await;
        assert_eq!(of(&merged, &table).quarantined, 0, "{merged:?}");
        pipeline.assert_rows(&table, &[&["1", "1.02", AT, "long"], &["22", "2", AT, "short"]]).await;

        // In a window of its own, and with a column that the record's schema alone says is new; NULL is NULL.
        let wider = captured.clone().column("n", "int32", "");
        let mut added = placeholder(1, 103);
        added["n"] = 7.into();
        deliver(
            &pipeline,
            &mut topics,
            &[
                captured.update(&Value::Null, &placeholder(22, 201), 40),
                wider.update(&Value::Null, &added, 50),
                wider.create(&json!({"id": 3, "price": null, "at": null, "body": null, "n": null}), 60),
            ],
        )
        .await;
        let merged = pipeline.merge().await;
        assert_eq!(of(&merged, &table).quarantined, 0, "{merged:?}");
        let rows: [&[&str]; 3] =
            [&["1", "1.03", AT, "long", "7"], &["22", "2.01", AT, "short", NULL], &["3", NULL, NULL, NULL, NULL]];
        pipeline.assert_rows(&table, &rows).await;

        // Under a new key nothing says what the text is.
        deliver(&pipeline, &mut topics, &captured.key_change(&row(1, 0, ""), &placeholder(10, 104), 70)).await;
        let merged = pipeline.merge().await;
        assert_eq!(of(&merged, &table).quarantined, 1, "{merged:?}");
        let reason = format!("SELECT reason FROM `{}`", pipeline.quarantine());
        assert!(pipeline.texts(&reason).await.concat().contains("REPLICA IDENTITY to FULL"));

        deliver(&pipeline, &mut topics, &[captured.truncate(80)]).await;
        let merged = pipeline.merge().await;
        let said = of(&merged, &table).reason.clone().unwrap_or_default();
        assert!(said.contains("the source emptied the table (TRUNCATE)"), "{merged:?}");
        pipeline.assert_rows(&table, &[]).await;
    });
}

/// Of each engine, under each mode of deletes: only what was changed after a TRUNCATE is there after it, in whatever order records come
/// and whatever fails.
#[test]
fn a_table_that_is_emptied_keeps_what_came_after_and_nothing_from_before() {
    run(async {
        for (engine, schema, deletes) in [
            (Engine::MySql, "shop", "hard"),
            (Engine::PostgreSql, "public", "soft"),
            (Engine::PostgreSql, "public", "hard"),
        ] {
            let pipeline = Setup::default().with("STRAIT_DELETES", deletes).start().await;
            let mut topics = BTreeMap::new();
            let captured = orders(engine, schema);
            let table = captured.table();
            let first = [captured.create(&row(1, 100, "a"), 10), captured.create(&row(2, 200, "b"), 20)];
            deliver(&pipeline, &mut topics, &first).await;
            // What came after the TRUNCATE arrives before it does.
            deliver(&pipeline, &mut topics, &[captured.create(&row(3, 300, "c"), 90)]).await;
            pipeline.merge().await;
            assert_eq!(pipeline.rows(&table).await.len(), 3);

            // The statement that removes the rows fails; the next run does it.
            let truncate = captured.truncate(80);
            deliver(&pipeline, &mut topics, std::slice::from_ref(&truncate)).await;
            let body = format!("(DELETE FROM|UPDATE)[^;]*{}_", pipeline.prefix());
            let refused = json!({"error": {"code": 400, "message": "no", "errors": [{"reason": "invalidQuery", "message": "no"}]}});
            let refused = json!({"kind": "status", "http": 400, "body": refused.to_string()});
            pipeline
                .fault(json!({"side": "rest", "match": {"api": "jobs.insert", "body_regex": body}, "action": refused}))
                .await;
            pipeline.invoke_merge("{}").await;
            assert!(pipeline.faults_are_used_up().await);
            assert_eq!(pipeline.rows(&table).await.len(), 3);
            let merged = pipeline.merge().await;
            let said = of(&merged, &table).reason.clone().unwrap_or_default();
            assert!(said.contains("the source emptied the table (TRUNCATE)"), "{merged:?}");
            assert_eq!(of(&merged, &table).deleted, 2, "{merged:?}");
            pipeline.assert_rows(&table, &[&["3", "3", AT, "c"]]).await;

            // Late, again, and anew.
            deliver(&pipeline, &mut topics, &[captured.update(&Value::Null, &row(2, 201, "b"), 70)]).await;
            deliver(&pipeline, &mut topics, &[captured.create(&row(4, 400, "d"), 60)]).await;
            pipeline.merge().await;
            pipeline.assert_rows(&table, &[&["3", "3", AT, "c"]]).await;
            deliver(&pipeline, &mut topics, &first).await;
            deliver(&pipeline, &mut topics, &[truncate, captured.create(&row(1, 101, "e"), 100)]).await;
            pipeline.merge().await;
            let expected: [&[&str]; 2] = [&["1", "1.01", AT, "e"], &["3", "3", AT, "c"]];
            pipeline.assert_rows(&table, &expected).await;
            let marked = pipeline.deleted_rows(&table).await.len();
            assert_eq!(marked, if deletes == "soft" { 2 } else { 0 }, "{:?}", pipeline.snapshot(&table).await);
            let before = pipeline.snapshot(&table).await;
            let idle = pipeline.merge().await;
            assert!(idle.iter().all(|answer| answer.deleted == 0), "{idle:?}");
            assert_eq!(pipeline.snapshot(&table).await, before, "a run without news touches nothing");
            assert_eq!(pipeline.texts(&format!("SELECT reason FROM `{}`", pipeline.quarantine())).await, [""; 0]);
        }
    });
}

/// Whether it was there before, or comes with the rest: what a partial image leaves out is no value from before a TRUNCATE.
#[test]
fn a_partial_image_takes_no_value_from_before_the_table_was_emptied() {
    run(async {
        let pipeline = Pipeline::start().await;
        let mut topics = BTreeMap::new();
        let captured = orders(Engine::PostgreSql, "public");
        let table = captured.table();
        let partial = |id, price| row(id, price, PLACEHOLDER);
        deliver(&pipeline, &mut topics, &[captured.create(&row(1, 100, "old"), 5)]).await;
        pipeline.merge().await;
        let update = captured.update(&Value::Null, &partial(1, 101), 21);
        deliver(&pipeline, &mut topics, &[captured.truncate(15), update]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&table, &[]).await;
        deliver(&pipeline, &mut topics, &[captured.create(&row(1, 100, "new"), 20)]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&table, &[&["1", "1.01", AT, "new"]]).await;

        let update = captured.update(&Value::Null, &partial(2, 201), 60);
        deliver(&pipeline, &mut topics, &[captured.create(&row(2, 200, "old"), 40), captured.truncate(50), update])
            .await;
        pipeline.merge().await;
        pipeline.assert_rows(&table, &[]).await;
        deliver(&pipeline, &mut topics, &[captured.create(&row(2, 200, "new"), 55)]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&table, &[&["2", "2.01", AT, "new"]]).await;
    });
}

/// After a failover the binlog counts from one: what comes then stands below the TRUNCATE, and that is said.
#[test]
fn changes_below_a_truncate_that_were_committed_after_it_are_told_of() {
    run(async {
        let pipeline = Pipeline::start().await;
        let mut topics = BTreeMap::new();
        let captured = orders(Engine::MySql, "shop");
        let table = captured.table();
        deliver(&pipeline, &mut topics, &[captured.create(&row(1, 100, "a"), 10), captured.truncate(5_000)]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&table, &[]).await;
        // Above all that was merged, and committed ten seconds later.
        let change = captured.create(&row(2, 200, "b"), 20).later(10);
        deliver(&pipeline, &mut topics, &[change]).await;
        let merged = pipeline.merge().await;
        let said = of(&merged, &table).reason.clone().unwrap_or_default();
        assert!(said.contains("numbering has begun anew"), "{merged:?}");
    });
}

#[test]
fn a_table_without_a_key_is_emptied_as_well() {
    run(async {
        for deletes in ["hard", "soft"] {
            let pipeline = Setup::default().with("STRAIT_DELETES", deletes).start().await;
            let mut topics = BTreeMap::new();
            let captured = Captured::new(Engine::MySql, "shop", "clicks").column("page", "string", "");
            let table = captured.table();
            let page = |name: &str| json!({"page": name});
            let before: Vec<Record> =
                ["a", "b", "b"].iter().zip([10, 20, 30]).map(|(name, at)| captured.create(&page(name), at)).collect();
            deliver(&pipeline, &mut topics, &before).await;
            pipeline.merge().await;
            deliver(&pipeline, &mut topics, &[captured.create(&page("c"), 50), captured.truncate(40)]).await;
            pipeline.merge().await;
            pipeline.assert_rows(&table, &[&["c"]]).await;
            let all = pipeline.snapshot(&table).await.len();
            deliver(&pipeline, &mut topics, &before).await;
            pipeline.merge().await;
            pipeline.assert_rows(&table, &[&["c"]]).await;
            assert_eq!(pipeline.snapshot(&table).await.len(), all, "what is sent again is no other row");
        }
    });
}

#[test]
fn a_table_that_is_read_again_loses_what_the_snapshot_did_not_bring() {
    run(async {
        let pipeline = Pipeline::start().await;
        let mut topics = BTreeMap::new();
        let captured = orders(Engine::PostgreSql, "public");
        let table = captured.table();
        deliver(
            &pipeline,
            &mut topics,
            &[
                captured.read("first", &row(1, 100, "a")),
                captured.read("true", &row(2, 200, "b")),
                captured.read("last", &row(3, 300, "c")),
                captured.update(&Value::Null, &row(1, 101, "a"), 1_000),
            ],
        )
        .await;
        pipeline.merge().await;
        // The slot was lost, 2 was deleted meanwhile, and the database's positions are lower than before.
        deliver(
            &pipeline,
            &mut topics,
            &[
                captured.read("first_in_data_collection", &row(1, 111, "a")),
                captured.read("last_in_data_collection", &row(3, 300, "c")),
                captured.create(&row(4, 400, "d"), 50),
            ],
        )
        .await;
        pipeline.merge().await;
        pipeline.merge().await;
        pipeline.assert_rows(&table, &[&["1", "1.11", AT, "a"], &["3", "3", AT, "c"], &["4", "4", AT, "d"]]).await;
        // Read once more, and emptied: that ends the load as any change does.
        deliver(
            &pipeline,
            &mut topics,
            &[
                captured.read("first_in_data_collection", &row(1, 111, "a")),
                captured.read("last_in_data_collection", &row(3, 300, "c")),
                captured.truncate(60),
            ],
        )
        .await;
        pipeline.merge().await;
        pipeline.merge().await;
        pipeline.assert_rows(&table, &[]).await;
        assert!(pipeline.merge().await.is_empty(), "nothing is under way any more");
    });
}

#[test]
fn what_cannot_be_told_is_quarantined_and_never_wrong() {
    run(async {
        let pipeline = Pipeline::start().await;
        let mut topics = BTreeMap::new();
        let captured = orders(Engine::PostgreSql, "public");
        let raw = captured.clone().without_schemas();
        let table = captured.table();
        deliver(
            &pipeline,
            &mut topics,
            &[
                captured.create(&row(1, 100, "a"), 10),
                raw.create(&row(2, 100, "b"), 20),
                raw.update(&Value::Null, &row(1, 200, "b"), 30),
                Record::raw("dbz.public.orders", None, Some(r#"{"id":3,"price":"AQ==","__deleted":"false"}"#)),
            ],
        )
        .await;
        let merged = pipeline.merge().await;
        assert_eq!(of(&merged, &table).quarantined, 2, "{merged:?}");
        pipeline.assert_rows(&table, &[&["1", "1", AT, "a"]]).await;
        let reasons =
            pipeline.texts(&format!("SELECT DISTINCT reason FROM `{}`", pipeline.quarantine())).await.concat();
        assert!(reasons.contains("value.converter.schemas.enable"), "{reasons}");
        let poison = format!("SELECT error FROM `{}` WHERE operation = 'poison'", pipeline.log());
        assert!(pipeline.texts(&poison).await.concat().contains("ExtractNewRecordState"));
    });
}

/// Values that say what they are need no schema: times as text (`isostring`), decimals as numbers, bytes as hexadecimal digits. What does not
/// say what it is, because a setting was forgotten or there is none, is in the quarantine.
#[test]
fn without_schemas_what_says_what_it_is_ends_equal_and_all_else_is_quarantined() {
    run(async {
        let pipeline = Setup::default().with("STRAIT_DEBEZIUM_WITHOUT_SCHEMA", "self-describing").start().await;
        let mut topics = BTreeMap::new();
        let captured = Captured::new(Engine::MySql, "shop", "orders").key(&["id"]).without_schemas();
        let table = captured.table();
        let columns = [
            ("id", "BIGINT UNSIGNED", Some(20), None),
            ("price", "DECIMAL", Some(10), Some(2)),
            ("day", "DATE", None, None),
            ("hour", "TIME", Some(6), None),
            ("at", "DATETIME", Some(6), None),
            ("seen", "TIMESTAMP", Some(6), None),
            ("bytes", "VARBINARY", Some(16), None),
            ("place", "POINT", None, None),
            ("flags", "BIT", Some(24), None),
            ("paid", "BIT", Some(1), None),
            ("note", "VARCHAR", Some(50), None),
        ];
        let at = "2024-02-29T12:34:56.123456Z";
        let whole = json!({
            "id": 18_446_744_073_709_551_615_u64, "price": -1234.50, "day": "2024-02-29Z", "hour": "12:34:56.5Z", "at": at, "seen": at,
            "bytes": "00ff", "place": {"x": 1.0, "y": 2.0, "wkb": "AQEAAAAAAAAAAADwPwAAAAAAAABA", "srid": null},
            "flags": null, "paid": true, "note": "1234",
        });
        let with = |id: u64, name: &str, value: Value| {
            let mut row = whole.clone();
            row["id"] = id.into();
            row[name] = value;
            row
        };
        let records = [
            captured.statement("CREATE", "CREATE TABLE orders …", &columns),
            captured.create(&whole, 10),
            captured.create(&with(2, "note", Value::Null), 20),
            captured.update(&with(2, "note", Value::Null), &with(2, "price", json!(7)), 30),
            captured.create(&with(3, "note", "gone".into()), 40),
            // decimal.handling.mode=precise without decimal.format=NUMERIC: the base64 of three bytes may look like a number.
            captured.create(&with(4, "price", "1234".into()), 50),
            // time.precision.mode is not isostring.
            captured.create(&with(5, "day", 19_782.into()), 60),
            captured.create(&with(6, "at", json!(1_709_210_096_123_456_i64)), 70),
            // Whatever is set, its bits come in base64.
            captured.create(&with(7, "flags", "AAAA".into()), 80),
        ];
        deliver(&pipeline, &mut topics, &records).await;
        deliver(&pipeline, &mut topics, &captured.delete(&with(3, "note", "gone".into()), 90)).await;
        let merged = pipeline.merge().await;
        assert_eq!(of(&merged, &table).quarantined, 4, "{merged:?}");
        let sql = format!(
            "SELECT REGEXP_REPLACE(CAST(id AS STRING), r'\\.0*$', ''), CAST(CAST(price * 100 AS INT64) AS STRING), CAST(day AS STRING), hour, \
             CAST(at AS STRING), TO_HEX(bytes), TO_HEX(place), note \
             FROM `{}` ORDER BY price",
            pipeline.final_table(&table)
        );
        let held: Vec<Vec<Option<String>>> = pipeline.query(&sql).await;
        let point = "000000000101000000000000000000f03f0000000000000040";
        let expected: [&[&str]; 2] = [
            &[
                "18446744073709551615",
                "-123450",
                "2024-02-29",
                "12:34:56.5",
                "2024-02-29 12:34:56.123456",
                "00ff",
                point,
                "1234",
            ],
            &["2", "700", "2024-02-29", "12:34:56.5", "2024-02-29 12:34:56.123456", "00ff", point, "1234"],
        ];
        assert_eq!(held, strait_tests::pipeline::cells(&expected));
        let reasons = pipeline.texts(&format!("SELECT reason FROM `{}`", pipeline.quarantine())).await;
        let count = |what: &str| reasons.iter().filter(|reason| reason.contains(what)).count();
        assert_eq!((count("decimal.format=NUMERIC"), count("cannot hold the value exactly")), (2, 2), "{reasons:?}");
    });
}

/// Of a table of PostgreSQL's whose final table a person made.
#[test]
fn without_schemas_a_value_that_was_not_sent_keeps_what_is_there() {
    run(async {
        let pipeline = Setup::default()
            .with("STRAIT_DEBEZIUM_WITHOUT_SCHEMA", "self-describing")
            .with("STRAIT_ABSENT_COLUMNS", "unchanged")
            .start()
            .await;
        let mut topics = BTreeMap::new();
        let captured = Captured::new(Engine::PostgreSql, "public", "orders").key(&["id"]).without_schemas();
        let table = captured.table();
        pipeline.merge().await;
        let dataset = pipeline.final_table(&table).split('.').next().unwrap().to_owned();
        pipeline.query(&format!("CREATE SCHEMA IF NOT EXISTS `{dataset}`")).await;
        pipeline
            .query(&format!(
                "CREATE TABLE `{}` (id INT64 NOT NULL, price NUMERIC, day DATE, body STRING, data BYTES, PRIMARY KEY (id) NOT ENFORCED)",
                pipeline.final_table(&table)
            ))
            .await;
        let placeholder_in_hex: String = PLACEHOLDER.bytes().map(|byte| format!("{byte:02x}")).collect();
        let first = json!({"id": 1, "price": {"scale": 2, "value": "fQ=="}, "day": "2024-02-29Z", "body": "long", "data": "00ff"});
        let next =
            json!({"id": 1, "price": 1.5, "day": "2024-03-01Z", "body": PLACEHOLDER, "data": placeholder_in_hex});
        let records = [captured.create(&first, 10), captured.update(&Value::Null, &next, 20)];
        deliver(&pipeline, &mut topics, &records[..1]).await;
        pipeline.merge().await;
        let sql = format!(
            "SELECT CAST(CAST(price * 100 AS INT64) AS STRING), CAST(day AS STRING), body, TO_HEX(data) FROM `{}`",
            pipeline.final_table(&table)
        );
        let first: [&[&str]; 1] = [&["125", "2024-02-29", "long", "00ff"]];
        assert_eq!(pipeline.query(&sql).await, strait_tests::pipeline::cells(&first));
        deliver(&pipeline, &mut topics, &records[1..]).await;
        let merged = pipeline.merge().await;
        assert_eq!(of(&merged, &table).quarantined, 0, "{merged:?}");
        let next: [&[&str]; 1] = [&["150", "2024-03-01", "long", "00ff"]];
        assert_eq!(pipeline.query(&sql).await, strait_tests::pipeline::cells(&next));
        // The base64 of three bytes, in a column of which no statement says what it is at the source.
        let text = json!({"id": 3, "price": "1234", "day": null, "body": null, "data": null});
        deliver(&pipeline, &mut topics, &[captured.create(&text, 30)]).await;
        let merged = pipeline.merge().await;
        assert_eq!(of(&merged, &table).quarantined, 1, "{merged:?}");
        assert_eq!(pipeline.query(&sql).await, strait_tests::pipeline::cells(&next));
    });
}

#[test]
fn an_unsigned_number_that_came_as_a_negative_one_is_quarantined() {
    run(async {
        let pipeline = Pipeline::start().await;
        let mut topics = BTreeMap::new();
        let captured = Captured::new(Engine::MySql, "shop", "counters")
            .column("id", "int64", "")
            .column("n", "int64", "")
            .key(&["id"]);
        let columns = [("id", "BIGINT UNSIGNED", Some(20), None), ("n", "BIGINT UNSIGNED", Some(20), None)];
        let records = [
            captured.statement("CREATE", "CREATE TABLE counters …", &columns),
            captured.create(&json!({"id": 1, "n": i64::MAX}), 10),
            // 18446744073709551615, for the connector has bigint.unsigned.handling.mode=long.
            captured.create(&json!({"id": 2, "n": -1}), 20),
            captured.create(&json!({"id": -1, "n": 3}), 30),
        ];
        deliver(&pipeline, &mut topics, &records).await;
        let merged = pipeline.merge().await;
        let table = captured.table();
        assert_eq!(of(&merged, &table).quarantined, 2, "{merged:?}");
        pipeline.assert_rows(&table, &[&["1", "9223372036854775807"]]).await;
        let reasons =
            pipeline.texts(&format!("SELECT DISTINCT reason FROM `{}`", pipeline.quarantine())).await.concat();
        assert!(reasons.contains("bigint.unsigned.handling.mode"), "{reasons}");
    });
}

#[test]
fn nothing_masked_is_in_what_leaves() {
    run(async {
        let pipeline = Setup::default().with("STRAIT_MASK", "*.orders.body=redact,*.orders.price=drop").start().await;
        let mut topics = BTreeMap::new();
        let secret = |id| json!({"id": id, "price": "UExBTlRFRA==", "at": 0, "body": "PLANTED"});
        let mut left = String::new();
        for (engine, schema) in [(Engine::MySql, "shop"), (Engine::PostgreSql, "public")] {
            let captured = orders(engine, schema);
            let mut records = vec![
                captured.read("first", &secret(1)),
                captured.create(&secret(2), 10),
                captured.update(&secret(1), &json!({"id": 1, "price": "AQ==", "at": 0, "body": "PLANTED too"}), 20),
                captured.clone().without_schemas().create(&secret(3), 30),
                captured.create(&json!({"id": 4, "price": "PLANTED!", "at": "not a count", "body": "PLANTED"}), 35),
            ];
            records.extend(captured.delete(&secret(2), 40));
            deliver(&pipeline, &mut topics, &records).await;
            // What cannot be decoded stays in AWS.
            let broken = produce(
                &mut topics,
                &[Record::raw("dbz.x", None, Some(r#"{"schema":{},"payload":{"body":"PLANTED"}}"#))],
            );
            let outcome = pipeline.invoke_ingest(msk::event(&broken)).await;
            assert_ne!(answer(&outcome), strait_tests::pipeline::NOTHING_FAILED);
            let merged = pipeline.merge().await;
            left.push_str(&format!("{merged:?}"));
            left.push_str(&pipeline.snapshot(&captured.table()).await.concat());
            pipeline.assert_rows(&captured.table(), &[&["1", "1970-01-01T00:00:00", "redacted"]]).await;
        }
        for name in [pipeline.log(), pipeline.quarantine(), pipeline.merges()] {
            left.push_str(&pipeline.texts(&format!("SELECT * FROM `{name}`")).await.concat());
        }
        left.push_str(&pipeline.logs());
        assert!(
            !left.contains("PLANTED") && !left.contains("UExBTlRFRA") && !left.contains("504C414E544544"),
            "{left}"
        );
    });
}
