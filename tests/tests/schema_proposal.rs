//! Tables of which no definition ever came: `strait schema` proposes their statement from what was logged, or from what the source
//! says, the statement is run as it stands, and the next merge fills the table.

use std::process::Output;

use serde_json::json;
use strait_tests::history::Table;
use strait_tests::pipeline::{Pipeline, cells, of};
use strait_tests::{NULL, run};

/// `strait schema` with the variables that the pipeline's functions have.
async fn schema(pipeline: &Pipeline, arguments: &[&str]) -> Output {
    pipeline.strait("schema").args(arguments).output().await.unwrap()
}

async fn proposal(pipeline: &Pipeline, arguments: &[&str]) -> String {
    let output = schema(pipeline, arguments).await;
    let (said, proposed) = (String::from_utf8(output.stderr).unwrap(), String::from_utf8(output.stdout).unwrap());
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said, "", "{proposed}");
    proposed
}

/// Whether the script has a line that begins so, whatever its comments say.
#[track_caller]
fn assert_line(script: &str, beginning: &str) {
    assert!(script.lines().any(|line| line.trim_start().starts_with(beginning)), "no `{beginning}` in\n{script}");
}

fn values(id: u64, note: &str, more: &str) -> String {
    // Written out, because numbers must stay as they are.
    format!(r#"{{"id":{id},"note":{},{more}}}"#, json!(note))
}

#[test]
fn a_table_without_a_definition_is_proposed_made_and_filled() {
    run(async {
        let orders = Table::new("shop", "orders");
        let mut pipeline = Pipeline::start().await;
        let first = r#""big":9223372036854775807,"unsigned":18446744073709551615,"amount":46.570000,"ratio":1.5e-7,"ok":"t","day":"2026-01-02","at":"2026-01-02T03:04:05.100000Z","clock":"23:59:59","raw":"0x00ff","mixed":1,"nothing":null,"a.b":"x""#;
        let second = r#""big":-9223372036854775808,"unsigned":0,"amount":-0.5,"ratio":20,"ok":"f","day":"2024-02-29","at":"2024-02-29T00:00:00Z","clock":"00:00:00.5","raw":"","mixed":"one","nothing":null,"a.b":null"#;
        let third = r#""big":7,"unsigned":7,"amount":7,"ratio":-3.25,"ok":null,"day":null,"at":null,"clock":null,"raw":null,"mixed":null,"a.b":"z""#;
        pipeline
            .send(&[
                orders.load(values(1, "needle in no comment", first)),
                orders.load(values(2, "same", second)),
                orders.load(values(3, "same", second)),
                orders.insert(values(4, "same", second)).at(10),
                orders.update(values(2, "changed", third)).at(20),
                orders.delete(values(3, "same", second)).at(30),
            ])
            .await;
        let answers = pipeline.merge().await;
        let waiting = of(&answers, &orders);
        assert_eq!(waiting.outcome, "waiting");
        assert!(waiting.reason.as_ref().unwrap().contains("`strait schema shop.orders`"), "{:?}", waiting.reason);

        let script = proposal(&pipeline, &["shop.orders"]).await;
        for line in [
            "`id` INT64 NOT NULL,",
            "`note` STRING,",
            "`big` INT64,",
            "`unsigned` NUMERIC,",
            "`amount` NUMERIC,",
            "`ratio` FLOAT64,",
            "`ok` BOOL,",
            "`day` DATE,",
            "`at` DATETIME,",
            "`clock` TIME,",
            "`raw` BYTES,",
            "`mixed` STRING,",
            "`nothing` STRING,",
            "PRIMARY KEY (`id`) NOT ENFORCED",
            "CLUSTER BY `id`;",
            "-- 4 values, text, days, 10 characters, 1 null",
        ] {
            assert_line(&script, line);
        }
        // Counts and forms, never a value.
        assert!(!script.contains("needle") && !script.contains("9223372036854775807"), "{script}");

        pipeline.query(&script).await;
        let answers = pipeline.merge().await;
        assert_eq!(of(&answers, &orders).outcome, "merged");
        let sql = format!(
            "SELECT CAST(`id` AS STRING), `note`, CAST(`big` AS STRING), `unsigned` = NUMERIC '18446744073709551615', \
             `amount` IN (NUMERIC '46.57', NUMERIC '-0.5', 7), `ratio` IN (1.5e-7, 20, -3.25), CAST(`ok` AS STRING), \
             CAST(`day` AS STRING), FORMAT_DATETIME('%Y-%m-%d %H:%M:%S', `at`), TO_HEX(`raw`), `mixed`, `nothing` \
             FROM `{}` ORDER BY `id`",
            pipeline.final_table(&orders)
        );
        let mut rows = pipeline.query(&sql).await;
        rows.sort();
        let expected: [&[&str]; 3] = [
            &[
                "1",
                "needle in no comment",
                "9223372036854775807",
                "true",
                "true",
                "true",
                "true",
                "2026-01-02",
                "2026-01-02 03:04:05",
                "00ff",
                "1",
                NULL,
            ],
            &["2", "changed", "7", "false", "true", "true", NULL, NULL, NULL, NULL, NULL, NULL],
            &[
                "4",
                "same",
                "-9223372036854775808",
                "false",
                "true",
                "true",
                "false",
                "2024-02-29",
                "2024-02-29 00:00:00",
                "",
                "one",
                NULL,
            ],
        ];
        assert_eq!(rows, cells(&expected));
        // The column that BigQuery cannot name knows whose it is.
        let renamed = script.lines().find(|line| line.contains("Source column: \"a.b\"")).unwrap();
        let renamed = renamed.trim().split(' ').next().unwrap();
        let sql = format!("SELECT COALESCE({renamed}, 'NULL') FROM `{}` ORDER BY `id`", pipeline.final_table(&orders));
        assert_eq!(pipeline.texts(&sql).await, ["NULL", "x", "z"]);
        assert_eq!(pipeline.query(&format!("SELECT reason FROM `{}`", pipeline.quarantine())).await.len(), 0);
    });
}

#[test]
fn a_key_is_proposed_as_far_as_the_log_shows_one() {
    run(async {
        let mut pipeline = Pipeline::start().await;
        let lines = Table::new("shop", "lines");
        let tenants = Table::new("shop", "tenants");
        let heaps = Table::new("shop", "heaps");
        let moved = Table::new("shop", "moved");
        let line = |order: u32, number: u32, v: &str| format!(r#"{{"v":"{v}","order_id":{order},"line_no":{number}}}"#);
        let tenant = |tenant: u32, id: u32| format!(r#"{{"tenant":{tenant},"id":{id},"name":"n{id}"}}"#);
        let heap = |v: &str, w: &str| json!({"v": v, "w": w}).to_string();
        let code = |code: &str, v: &str| json!({"code": code, "v": v}).to_string();
        pipeline
            .send(&[
                lines.load(line(1, 1, "a")),
                lines.load(line(1, 2, "a")),
                lines.load(line(2, 1, "a")),
                lines.insert(line(2, 2, "b")).at(10),
                lines.delete(line(2, 1, "a")).at(11),
                // Deleted, and inserted again: that is no second row.
                lines.insert(line(2, 1, "c")).at(12),
                // PostgreSQL's deletes carry the key alone; the others are null there.
                tenants.load(tenant(1, 1)),
                tenants.load(tenant(1, 2)),
                tenants.load(tenant(2, 3)),
                tenants.delete(r#"{"tenant":1,"id":2,"name":null}"#).at(20),
                heaps.load(heap("a", "b")),
                heaps.load(heap("a", "c")),
                heaps.load(heap("a", "b")),
                heaps.insert(heap("d", "c")).at(30),
                heaps.insert(heap("d", "b")).at(31),
                heaps.insert(heap("a", "b")).at(32),
                heaps.insert(heap("d", "c")).at(33),
                heaps.insert(heap("d", "b")).at(34),
                heaps.insert(heap("a", "c")).at(35),
                // The row moves from one key to another, and the first is taken again.
                moved.insert(code("x", "one")).at(40),
                moved.insert(code("y", "one")).at(41),
                moved.key_change(r#"{"code":"x"}"#, code("z", "one")).at(42),
                moved.insert(code("x", "two")).at(43),
            ])
            .await;
        pipeline.merge().await;

        let script = proposal(&pipeline, &["shop.lines"]).await;
        assert_line(&script, "PRIMARY KEY (`order_id`, `line_no`) NOT ENFORCED");
        assert_line(&script, "CLUSTER BY `order_id`, `line_no`;");
        assert_line(&script, "-- Primary key (`order_id`, `line_no`): unique among 5 rows");
        let script = proposal(&pipeline, &["shop.tenants"]).await;
        // `id` alone is unique, too, but the deletes know better.
        assert_line(&script, "PRIMARY KEY (`tenant`, `id`) NOT ENFORCED");
        assert_line(&script, "-- Unique as well: (`id`).");
        let script = proposal(&pipeline, &["shop.moved"]).await;
        assert_line(&script, "PRIMARY KEY (`code`) NOT ENFORCED");

        let script = proposal(&pipeline, &["shop.heaps"]).await;
        assert_line(&script, "-- No primary key is proposed:");
        assert!(!script.contains("NOT ENFORCED\n"), "{script}");
        pipeline.query(&script).await;
        let nothing = schema(&pipeline, &["shop.nowhere"]).await;
        assert_eq!(nothing.status.code(), Some(1));
        assert_eq!(String::from_utf8(nothing.stdout).unwrap(), "");
        let said = String::from_utf8(nothing.stderr).unwrap();
        assert!(said.contains("holds nothing of shop.nowhere"), "{said}");

        pipeline.query(&proposal(&pipeline, &["shop.lines"]).await).await;
        pipeline.merge().await;
        let expected: [&[&str]; 4] = [&["a", "1", "1"], &["a", "1", "2"], &["b", "2", "2"], &["c", "2", "1"]];
        pipeline.assert_rows(&lines, &expected).await;
    });
}

#[test]
fn a_proposal_from_the_sources_catalogue_is_made_and_filled() {
    run(async {
        let mut pipeline = Pipeline::start().await;
        let orders = Table::new("shop", "orders");
        pipeline.send(&[orders.insert(r#"{"id":18446744073709551615,"total":1.50,"note":null}"#).at(10)]).await;
        pipeline.merge().await;
        let query = proposal(&pipeline, &["shop.orders", "--print-query", "mysql"]).await;
        assert!(
            query.contains("'shop'") && query.contains("'orders'") && query.contains("information_schema"),
            "{query}"
        );

        let folder = tempfile::tempdir().unwrap();
        let columns = folder.path().join("columns.tsv");
        let output = "column_name\tdata_type\tnumeric_precision\tnumeric_scale\tkey_position\n\
                      id\tbigint unsigned\t20\t0\t1\ntotal\tdecimal(12,2)\t12\t2\tNULL\nnote\tmediumtext\tNULL\tNULL\tNULL\n";
        std::fs::write(&columns, output).unwrap();
        let columns = columns.to_str().unwrap();
        let arguments = ["shop.orders", "--from", "source", "--mysql", "--columns", columns];
        let script = proposal(&pipeline, &arguments).await;
        assert_line(&script, "`id` NUMERIC(20) NOT NULL,");
        assert_line(&script, "`total` NUMERIC(12, 2),");
        assert_line(&script, "`note` STRING,");
        pipeline.query(&script).await;
        pipeline.merge().await;
        let sql = format!(
            "SELECT `id` = NUMERIC '18446744073709551615', `total` = NUMERIC '1.5', `note` IS NULL FROM `{}`",
            pipeline.final_table(&orders)
        );
        assert_eq!(pipeline.texts(&sql).await, ["true|true|true"]);

        let wrong = schema(&pipeline, &["shop.orders", "--from", "source", "--mysql"]).await;
        assert_eq!(wrong.status.code(), Some(2));
        assert!(String::from_utf8(wrong.stderr).unwrap().contains("--columns"));
    });
}
