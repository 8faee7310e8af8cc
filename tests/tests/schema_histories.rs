//! Random alterations between random changes, through the built functions: whenever the control records come and wherever merges cut the
//! history, the final table ends equal to the source. Runs for a budget of time (`STRAIT_SCHEDULES_SECONDS_SCHEMA`) and prints each
//! seed; `STRAIT_SCHEDULES_SEED` plays one again.

use std::time::Instant;

use strait_cli::msk::KafkaRecord;
use strait_tests::pipeline::Setup;
use strait_tests::run;
use strait_tests::schedules::alterations::Altered;
use strait_tests::schedules::random::Random;
use strait_tests::schedules::{asked_seed, new_seed, seconds};

/// Tables that are played side by side, each with a history of its own.
const TABLES: usize = 8;

async fn play(seed: u64) {
    let mut random = Random(seed);
    let setup = Setup::default()
        .with("STRAIT_DELETES", random.pick(&["hard", "soft"]))
        .with("STRAIT_DROPPED_COLUMNS", random.pick(&["keep", "drop"]));
    let mut pipeline = setup.start().await;
    let histories: Vec<Altered> =
        (0..TABLES).map(|place| Altered::random(&mut random.split(), &format!("s{place}"), random.one_in(2))).collect();
    // Three partitions: of control records, and two of data, for a table's changes stand in both when DMS applies in parallel.
    let mut waiting: Vec<Vec<KafkaRecord>> = vec![Vec::new(); 3];
    let longest = histories.iter().map(|history| history.messages.len()).max().unwrap_or_default();
    for place in 0..longest {
        for history in &histories {
            if let Some(message) = history.messages.get(place) {
                let partition = if message.has_position() { 1 + random.below(2) } else { 0 };
                let message = message.clone().on_partition(i32::try_from(partition).unwrap());
                waiting[partition].extend(pipeline.produce(&[message]));
            }
        }
    }
    // The tables are made first; all else comes as it comes, each partition in its own order.
    while waiting.iter().any(|records| !records.is_empty()) {
        for records in &mut waiting {
            let count = if records.is_empty() { 0 } else { random.below(records.len().min(40) + 1) };
            let batch: Vec<KafkaRecord> = records.drain(..count).collect();
            if !batch.is_empty() {
                pipeline.deliver(&batch).await;
            }
        }
        if random.one_in(2) {
            pipeline.merge().await;
        }
    }
    for _ in 0..2 {
        pipeline.merge().await;
    }
    for history in &histories {
        let columns = [&["`id`".to_owned()], history.columns.as_slice()].concat().join(", ");
        let sql = format!("SELECT {columns} FROM `{}` ORDER BY `id`", pipeline.final_table(&history.table));
        let mut rows = pipeline.query(&sql).await;
        // Marked as deleted.
        if rows.len() > history.rows.len() {
            let sql = format!(
                "SELECT {columns} FROM `{}` WHERE NOT `_strait_deleted` ORDER BY `id`",
                pipeline.final_table(&history.table)
            );
            rows = pipeline.query(&sql).await;
        }
        let name = format!("\"{}\"", history.table.source_name());
        let logs = pipeline.merge.log();
        let said: Vec<&str> = logs.lines().filter(|line| rows != history.rows && line.contains(&name)).collect();
        assert_eq!(
            rows,
            history.rows,
            "seed {seed}, {}: {:#?}\n{}",
            history.table.schema,
            history.told,
            said.join("\n")
        );
    }
}

#[test]
fn a_table_that_is_altered_at_random_ends_equal_to_its_source() {
    run(async {
        if let Some(seed) = asked_seed() {
            return play(seed).await;
        }
        let (started, budget) = (Instant::now(), seconds("SCHEMA", 30));
        let mut histories = 0;
        while started.elapsed() < budget {
            let seed = new_seed();
            println!("seed {seed}");
            play(seed).await;
            histories += TABLES;
        }
        println!("{histories} histories");
    });
}
