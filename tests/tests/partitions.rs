//! Final tables that a person partitioned: by a day, a month, an hour, ranges of whole numbers or the time of ingestion. The column of the partitions may be NULL, and it may change, which moves the row.

use serde_json::{Value, json};
use strait_tests::history::Table;
use strait_tests::pipeline::{Pipeline, Setup};
use strait_tests::run;

/// How a table is partitioned, and whether every statement has to filter by that.
const PARTITIONINGS: [(&str, bool); 5] = [
    ("PARTITION BY day", false),
    ("PARTITION BY DATE_TRUNC(day, MONTH)", true),
    ("PARTITION BY TIMESTAMP_TRUNC(at, HOUR)", false),
    ("PARTITION BY RANGE_BUCKET(n, GENERATE_ARRAY(0, 100, 10))", true),
    ("PARTITION BY _PARTITIONDATE", true),
];

fn orders() -> Table {
    Table::new("shop", "orders")
        .column("id", "INT64")
        .column("day", "DATE32")
        .column("at", "TIMESTAMP")
        .column("n", "INT64")
        .key(&["id"])
}

fn row(id: u32, day: Option<&str>, n: Option<i64>) -> Value {
    json!({"id": id, "day": day, "at": day.map(|day| format!("{day}T10:30:00Z")), "n": n})
}

async fn start(partitioning: &str, is_required: bool, deletes: &str) -> Pipeline {
    let pipeline = Setup::default().with("STRAIT_DELETES", deletes).start().await;
    pipeline.query(&format!("CREATE SCHEMA `{}_replica`", pipeline.prefix())).await;
    let create = format!(
        "CREATE TABLE `{}` (id INT64, day DATE, at TIMESTAMP, n INT64, PRIMARY KEY (id) NOT ENFORCED) {partitioning} \
         OPTIONS (require_partition_filter = {is_required})",
        pipeline.final_table(&orders())
    );
    pipeline.query(&create).await;
    pipeline
}

/// The rows that are there, however the table is partitioned.
async fn rows(pipeline: &Pipeline, partitioning: &str, deletes: &str) -> Vec<String> {
    let column = ["day", "at", "n"]
        .into_iter()
        .find(|column| partitioning.contains(&format!(" {column}")) || partitioning.contains(&format!("({column},")));
    let column = column.unwrap_or("_PARTITIONTIME");
    let is_live = if deletes == "soft" { " AND NOT _strait_deleted" } else { "" };
    let name = pipeline.final_table(&orders());
    pipeline
        .texts(&format!("SELECT id, day, n FROM `{name}` WHERE ({column} IS NULL OR {column} IS NOT NULL){is_live}"))
        .await
}

#[test]
fn a_partitioned_table_ends_equal_to_its_source_whatever_it_is_partitioned_by() {
    run(async {
        for (place, (partitioning, is_required)) in PARTITIONINGS.into_iter().enumerate() {
            let deletes = if place % 2 == 0 { "hard" } else { "soft" };
            let orders = orders();
            let mut pipeline = start(partitioning, is_required, deletes).await;
            let mut records = pipeline
                .send(&[
                    orders.create(),
                    orders.insert(row(1, Some("2026-01-31"), Some(5))).at(10),
                    orders.insert(row(2, None, None)).at(11),
                    orders.insert(row(3, Some("2026-02-01"), Some(-7))).at(12),
                    orders.insert(row(4, Some("2026-03-15"), Some(1_000))).at(13),
                    orders.insert(row(5, Some("1500-03-10"), Some(99))).at(14),
                    orders.insert(row(6, Some("9999-12-31"), Some(100))).at(15),
                ])
                .await;
            pipeline.merge().await;
            // Into another partition, out of that of NULL, into it, within one, and away; one that is late, and one that is new.
            let late = pipeline.produce(&[orders.update(row(1, Some("2026-05-05"), Some(55))).at(19)]);
            records.extend(late.iter().cloned());
            records.extend(
                pipeline
                    .send(&[
                        orders.update(row(1, Some("2026-04-01"), Some(15))).at(20),
                        orders.update(row(2, Some("2026-02-01"), Some(42))).at(21),
                        orders.update(row(3, None, None)).at(22),
                        orders.update(row(4, Some("2026-03-15"), Some(1_001))).at(23),
                        orders.delete(row(5, Some("1500-03-10"), Some(99))).at(24),
                        orders.key_change(json!({"id": 6}), row(7, Some("9999-12-30"), Some(0))).at(25),
                        orders.insert(row(8, Some("2026-02-02"), Some(9))).at(26),
                    ])
                    .await,
            );
            let expected = [
                "1|2026-04-01|15",
                "2|2026-02-01|42",
                "3|NULL|NULL",
                "4|2026-03-15|1001",
                "7|9999-12-30|0",
                "8|2026-02-02|9",
            ];
            pipeline.merge().await;
            assert_eq!(
                rows(&pipeline, partitioning, deletes).await,
                expected,
                "{partitioning} {is_required} {deletes}"
            );
            pipeline.deliver(&late).await;
            pipeline.merge().await;
            assert_eq!(rows(&pipeline, partitioning, deletes).await, expected, "{partitioning} {is_required}, late");
            pipeline.deliver(&records).await;
            pipeline.merge().await;
            pipeline.merge_with(r#"{"tables":["shop.*"],"from":"2020-01-01T00:00:00Z"}"#).await;
            assert_eq!(rows(&pipeline, partitioning, deletes).await, expected, "{partitioning} {is_required}, again");
        }
    });
}
