//! What the log says of Kafka's offsets: every hole is found, and nothing is taken for one that is none; what is in the log more than
//! once is named.

use std::collections::BTreeSet;

use serde_json::json;
use strait::log::kept_out_table;
use strait::merge::offsets::{create_duplicates_view, create_gaps_view, duplicates_view, gaps_view};
use strait::names::TableName;
use strait_cli::msk::{self, KafkaRecord};
use strait_tests::history::{Message, Table};
use strait_tests::pipeline::{NOTHING_FAILED, Pipeline, Setup, answer, failure, of};
use strait_tests::{PROJECT, run};

/// A pipeline whose log, and what belongs to it, exists: the first merge makes the tables.
async fn started(tables: &str) -> Pipeline {
    let pipeline = Setup::default().with("STRAIT_TABLES", tables).start().await;
    pipeline.merge().await;
    pipeline
}

fn log(pipeline: &Pipeline) -> TableName {
    let (dataset, table) = pipeline.log().split_once('.').map(|(d, t)| (d.to_owned(), t.to_owned())).unwrap();
    TableName { dataset, table }
}

async fn make_views(pipeline: &Pipeline) {
    let log = log(pipeline);
    for statement in [create_gaps_view(PROJECT, &log, 30), create_duplicates_view(PROJECT, &log)] {
        pipeline.query(&statement.unwrap()).await;
    }
}

/// The holes: topic, partition, first and last missing offset, how many, kind.
async fn gaps(pipeline: &Pipeline) -> Vec<String> {
    let sql = format!(
        "SELECT kafka_topic, kafka_partition, first_missing, last_missing, missing, kind FROM `{}`",
        gaps_view(&log(pipeline))
    );
    pipeline.texts(&sql).await
}

/// What is there more than once: kind, topic, partition, offset, how often.
async fn duplicates(pipeline: &Pipeline) -> Vec<String> {
    let sql = format!(
        "SELECT kind, kafka_topic, kafka_partition, kafka_offset, copies FROM `{}`",
        duplicates_view(&log(pipeline))
    );
    pipeline.texts(&sql).await
}

/// The noted ranges: partition, first and last offset, reason.
async fn noted(pipeline: &Pipeline) -> Vec<String> {
    let table = kept_out_table(&log(pipeline));
    pipeline.texts(&format!("SELECT kafka_partition, first_offset, last_offset, reason FROM `{table}`")).await
}

/// A record as it lies at this offset.
fn record(offset: i64, message: &Message) -> KafkaRecord {
    record_of("cdc", 0, offset, message)
}

fn record_of(topic: &str, partition: i32, offset: i64, message: &Message) -> KafkaRecord {
    KafkaRecord {
        topic: topic.to_owned(),
        partition,
        offset,
        timestamp_ms: 0,
        key: Some(b"shop.orders".to_vec()),
        value: message.to_value(),
    }
}

/// An insert at a position of its own.
fn insert(number: i64) -> Message {
    Table::orders().insert(json!({"id": number, "v": "x"})).at(u32::try_from(number).unwrap() + 1)
}

fn secret(number: i64) -> Message {
    Table::new("shop", "salaries").insert(json!({"id": number})).at(u32::try_from(number).unwrap() + 1)
}

fn dms_own(number: i64) -> Message {
    Table::new("", "awsdms_status").insert(json!({"n": number}))
}

/// Until the merge makes the table of kept out offsets itself, the first such record does.
async fn with_a_kept_out_record(pipeline: &Pipeline) {
    pipeline.deliver(&[record_of("other", 0, 0, &dms_own(0))]).await;
    make_views(pipeline).await;
}

#[test]
fn case_22_an_offset_that_was_never_seen_is_reported_until_it_comes() {
    run(async {
        let pipeline = started("*").await;
        with_a_kept_out_record(&pipeline).await;
        pipeline.deliver(&[record(101, &insert(101)), record(103, &insert(103))]).await;
        assert_eq!(gaps(&pipeline).await, ["cdc|0|102|102|1|missing"]);
        // When its neighbours came, for a person to judge whether it may be on its way.
        let neighbours = format!(
            "SELECT COUNTIF(g.after_ingested_at = l.ingested_at AND g.before_ingested_at = l.ingested_at) \
             FROM `{}` g CROSS JOIN `{}` l",
            gaps_view(&log(&pipeline)),
            pipeline.log()
        );
        assert_eq!(pipeline.texts(&neighbours).await, ["2"]);
        // Delivered again, in the other order, and longer: the hole stays what it is.
        pipeline.deliver(&[record(104, &insert(104)), record(103, &insert(103)), record(101, &insert(101))]).await;
        assert_eq!(gaps(&pipeline).await, ["cdc|0|102|102|1|missing"]);
        pipeline.deliver(&[record(102, &insert(102))]).await;
        assert!(gaps(&pipeline).await.is_empty());
        // The same offsets of another partition or topic say nothing about these.
        let message = insert(300);
        pipeline.deliver(&[record_of("cdc", 1, 300, &message), record_of("cdc-2", 0, 900, &message)]).await;
        assert!(gaps(&pipeline).await.is_empty());
        pipeline.deliver(&[record_of("cdc", 1, 305, &insert(305))]).await;
        assert_eq!(gaps(&pipeline).await, ["cdc|1|301|304|4|missing"]);
    });
}

/// A producer's markers take every other offset of a topic that is written in transactions. Each window reads the end of the last one
/// again, and has to know of a thousand ranges which of it was merged.
#[test]
fn what_is_merged_of_a_topic_with_holes_everywhere_is_not_merged_again() {
    run(async {
        let pipeline = started("*").await;
        let orders = Table::orders();
        let inserts = (1..1_200).map(|number| record(number * 2, &insert(number)));
        let records: Vec<KafkaRecord> = [record(0, &orders.create())].into_iter().chain(inserts).collect();
        pipeline.deliver(&records).await;
        let answers = pipeline.merge().await;
        assert_eq!(of(&answers, &orders).inserted, 1_199, "{answers:?}");
        assert!(pipeline.merge().await.is_empty(), "nothing came");
        // Late between two of them, and behind them all.
        pipeline.deliver(&[record(1_101, &insert(5_000)), record(3_000, &insert(5_001))]).await;
        let answers = pipeline.merge().await;
        let answer = of(&answers, &orders);
        assert_eq!((answer.records, answer.inserted), (2, 2));
        assert_eq!(pipeline.rows(&orders).await.len(), 1_201);
    });
}

#[test]
fn what_is_kept_out_on_purpose_is_no_hole() {
    run(async {
        let pipeline = started("*,!shop.salaries").await;
        let records = [
            record(10, &insert(10)),
            record(11, &dms_own(11)),
            record(12, &secret(12)),
            record(13, &secret(13)),
            record(14, &insert(14)),
            // 15 is lost.
            record(16, &dms_own(16)),
        ];
        pipeline.deliver(&records).await;
        make_views(&pipeline).await;
        assert_eq!(noted(&pipeline).await, ["0|11|11|dms", "0|12|13|excluded", "0|16|16|dms"]);
        assert_eq!(gaps(&pipeline).await, ["cdc|0|15|15|1|missing"]);
        // Ranges that overlap, because their records are delivered again in other batches, make no hole either.
        pipeline.deliver(&records[3..]).await;
        pipeline.deliver(&[record(15, &dms_own(15)), records[5].clone()]).await;
        assert!(gaps(&pipeline).await.is_empty());
        assert!(!pipeline.logs().contains("given_back\":1"), "{}", pipeline.logs());
    });
}

#[test]
fn a_transactional_and_a_compacted_topic_are_told_apart_from_losses() {
    run(async {
        let pipeline = started("*").await;
        with_a_kept_out_record(&pipeline).await;
        let mut records = Vec::new();
        // Every third offset is a transaction's marker: 2, 5, … 29.
        records.extend((0..31).filter(|offset| offset % 3 != 2).map(|n| record_of("transactional", 0, n, &insert(n))));
        // Compaction left 0, 4, 8, … 44.
        records.extend((0..45).step_by(4).map(|n| record_of("compacted", 0, n, &insert(n))));
        // Nine single losses are losses, and so are ten that are not single among over a thousand records.
        records.extend((0..19).filter(|offset| offset % 2 == 0).map(|n| record_of("losing", 0, n, &insert(n))));
        let is_lost = |offset: i64| offset % 100 == 50 || offset == 51;
        records.extend((0..1_001).filter(|offset| !is_lost(*offset)).map(|n| record_of("losing", 1, n, &insert(n))));
        pipeline.deliver(&records).await;
        let sql = format!(
            "SELECT kafka_topic, kafka_partition, kind, COUNT(*), SUM(missing) FROM `{}` GROUP BY 1, 2, 3",
            gaps_view(&log(&pipeline))
        );
        assert_eq!(
            pipeline.texts(&sql).await,
            [
                "compacted|0|compaction|11|33",
                "losing|0|missing|9|9",
                "losing|1|missing|10|11",
                "transactional|0|transaction markers|10|10"
            ]
        );
    });
}

#[test]
fn a_topic_that_is_made_anew_makes_no_missing_offset() {
    run(async {
        let pipeline = started("*").await;
        with_a_kept_out_record(&pipeline).await;
        // The lower ones are no longer in the log; 503 was lost.
        let old: Vec<KafkaRecord> = [500, 501, 502, 504].map(|n| record(n, &insert(n))).to_vec();
        pipeline.deliver(&old).await;
        let a_day_ago = format!(
            "UPDATE `{}` SET ingested_at = TIMESTAMP_SUB(ingested_at, INTERVAL 1 DAY) WHERE kafka_topic = 'cdc'",
            pipeline.log()
        );
        pipeline.query(&a_day_ago).await;
        // 2 is lost.
        let new: Vec<KafkaRecord> = [0, 1, 3, 4].map(|n| record(n, &insert(n))).to_vec();
        pipeline.deliver(&new).await;
        assert_eq!(
            gaps(&pipeline).await,
            ["cdc|0|2|2|1|missing", "cdc|0|503|503|1|missing", "cdc|0|5|499|495|topic made anew"]
        );
    });
}

#[test]
fn a_copy_that_outlives_its_neighbours_makes_no_hole() {
    run(async {
        let pipeline = started("*").await;
        with_a_kept_out_record(&pipeline).await;
        // 50 was delivered again, before 60 came: its neighbours' partitions have expired, its copy's has not.
        pipeline.deliver(&[record(50, &insert(50)), record(60, &insert(60)), record(62, &insert(62))]).await;
        let ages = format!(
            "UPDATE `{}` SET ingested_at = TIMESTAMP_SUB(ingested_at, INTERVAL IF(kafka_offset = 50, 719, 690) HOUR) \
             WHERE kafka_topic = 'cdc'",
            pipeline.log()
        );
        pipeline.query(&ages).await;
        assert_eq!(gaps(&pipeline).await, ["cdc|0|61|61|1|missing"]);
    });
}

#[test]
fn what_is_in_the_log_more_than_once_is_named() {
    run(async {
        let pipeline = started("*").await;
        let orders = Table::orders();
        let first =
            [record(0, &orders.create()), record(1, &insert(10)), record(2, &insert(11)), record(3, &insert(12))];
        pipeline.deliver(&first).await;
        with_a_kept_out_record(&pipeline).await;
        assert!(duplicates(&pipeline).await.is_empty());
        // Lambda delivers two of them again, one of them twice.
        pipeline.deliver(&first[1..3]).await;
        pipeline.deliver(&first[2..3]).await;
        assert_eq!(duplicates(&pipeline).await, ["delivered again|cdc|0|1|2", "delivered again|cdc|0|2|3"]);
        // DMS sends a change again, on the next offset; its load and control records are others each time.
        let load = || orders.load(json!({"id": 9, "v": "x"}));
        let again = [record(4, &insert(12)), record(5, &orders.create()), record(6, &load()), record(7, &load())];
        pipeline.deliver(&again).await;
        assert_eq!(
            duplicates(&pipeline).await,
            ["delivered again|cdc|0|1|2", "delivered again|cdc|0|2|3", "sent again|cdc|0|3|2", "sent again|cdc|0|4|2"]
        );
        assert!(gaps(&pipeline).await.is_empty());
    });
}

#[test]
fn offsets_that_cannot_be_noted_are_given_back_and_noted_at_the_next_delivery() {
    run(async {
        let pipeline = started("*,!shop.salaries").await;
        with_a_kept_out_record(&pipeline).await;
        let denied = async || {
            let stream = format!("{}_cdc/tables/log_kept_out", pipeline.prefix());
            pipeline
                .fault(json!({"side": "grpc", "match": {"rpc": "AppendRows", "stream_regex": stream},
                    "action": {"kind": "grpc_status", "code": "PERMISSION_DENIED"}, "times": 1}))
                .await;
        };
        denied().await;
        let records = [
            record(0, &insert(0)),
            record(1, &secret(1)),
            record(2, &secret(2)),
            record(3, &insert(3)),
            record(4, &dms_own(4)),
        ];
        let outcome = pipeline.invoke_ingest(msk::event(&records)).await;
        let failed = msk::failed_items(answer(&outcome).as_bytes(), &records).unwrap();
        let again: Vec<KafkaRecord> = failed.into_iter().cloned().collect();
        assert_eq!(again.iter().map(|record| record.offset).collect::<BTreeSet<_>>(), BTreeSet::from([1, 2, 4]));
        assert_eq!(gaps(&pipeline).await, ["cdc|0|1|2|2|missing"]);

        // Nothing but such records, and it fails once more.
        denied().await;
        let outcome = pipeline.invoke_ingest(msk::event(&again)).await;
        let (error_type, message) = failure(&outcome);
        assert_eq!(error_type, "BigQueryPermissionDenied");
        assert!(message.contains(&kept_out_table(&log(&pipeline)).to_string()), "{message}");

        assert_eq!(answer(&pipeline.invoke_ingest(msk::event(&again)).await), NOTHING_FAILED);
        assert_eq!(noted(&pipeline).await, ["0|0|0|dms", "0|1|2|excluded", "0|4|4|dms"]);
        assert!(gaps(&pipeline).await.is_empty());
        let logged = pipeline.texts(&format!("SELECT kafka_offset FROM `{}`", pipeline.log())).await;
        assert_eq!(logged, ["0", "3"], "the records of the log came once");
    });
}
