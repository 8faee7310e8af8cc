//! Random histories under random schedules: partitions at different speeds, records held back and delivered late, batches
//! delivered again, a task that sends everything again from an earlier point, merges anywhere. At every merge each row of
//! a final table is a state that the source's row had; once all is delivered the final table equals the source.
//!
//! The oracle applies the history to a map; nothing of it passes through the merge. Runs for a budget of time
//! (`STRAIT_SCHEDULES_SECONDS`, 60 unless told otherwise) and prints each seed; `STRAIT_SCHEDULES_SEED` plays one again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use strait_cli::msk::KafkaRecord;
use strait_tests::history::{Message, Table};
use strait_tests::pipeline::{Pipeline, Setup};
use strait_tests::run;

/// Histories that share one pipeline, and so its log, its windows and its merges.
const TABLES: usize = 12;
const PARTITIONS: usize = 2;
/// Merges somewhere in the delivery; two more follow, before and after what was held back comes.
const MERGES: usize = 1;

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators"): a seed is all that a replay needs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// One source table, its history so far, and what it holds.
struct Source {
    table: Table,
    rows: BTreeMap<u32, String>,
    /// Every state that a row of a key ever had.
    states: BTreeSet<(u32, String)>,
    messages: Vec<Message>,
    position: u32,
    written: u32,
}

impl Source {
    fn new(number: usize) -> Self {
        let table =
            Table::new("shop", &format!("t{number:02}")).column("id", "INT64").column("v", "WSTRING").key(&["id"]);
        let messages = vec![table.create()];
        Self { table, rows: BTreeMap::new(), states: BTreeSet::new(), messages, position: 1, written: 0 }
    }

    fn image(&self, id: u32) -> String {
        json!({"id": id, "v": self.rows[&id]}).to_string()
    }

    fn write(&mut self, id: u32) {
        self.written += 1;
        let value = format!("{id}/{}", self.written);
        self.states.insert((id, value.clone()));
        self.rows.insert(id, value);
    }

    /// A row's changes are in the partition of its key, as with a primary-key partition key; the key's own old and new value
    /// may lie in different ones.
    fn send(&mut self, message: Message, id: u32, record: &mut u64) {
        *record += 1;
        let partition = i32::try_from(usize::try_from(id).unwrap() % PARTITIONS).unwrap();
        self.messages.push(message.at(self.position).record(*record).on_partition(partition));
    }

    fn insert(&mut self, id: u32, record: &mut u64) {
        self.write(id);
        self.send(self.table.insert(self.image(id)), id, record);
    }

    fn delete(&mut self, id: u32, record: &mut u64) {
        let message = self.table.delete(self.image(id));
        self.rows.remove(&id);
        self.send(message, id, record);
    }

    fn change_key(&mut self, old: u32, new: u32, record: &mut u64) {
        let value = self.rows.remove(&old).unwrap();
        self.states.insert((new, value.clone()));
        self.rows.insert(new, value);
        self.send(self.table.key_change(json!({"id": old}), self.image(new)), new, record);
    }

    /// One transaction of one or several changes.
    fn transaction(&mut self, random: &mut Random) {
        self.position += 1;
        let mut record = 0;
        for _ in 0..=random.below(3) {
            let present: Vec<u32> = self.rows.keys().copied().collect();
            let free: Vec<u32> = (1..=5).filter(|id| !self.rows.contains_key(id)).collect();
            match random.below(10) {
                0..=2 if !free.is_empty() => self.insert(*random.pick(&free), &mut record),
                3..=5 if !present.is_empty() => {
                    let id = *random.pick(&present);
                    self.write(id);
                    self.send(self.table.update(self.image(id)), id, &mut record);
                }
                6 if !present.is_empty() => self.delete(*random.pick(&present), &mut record),
                7 if !present.is_empty() => {
                    let id = *random.pick(&present);
                    self.delete(id, &mut record);
                    self.insert(id, &mut record);
                }
                8 if !present.is_empty() && !free.is_empty() => {
                    self.change_key(*random.pick(&present), *random.pick(&free), &mut record);
                }
                // Two keys change places by way of a third.
                9 if present.len() >= 2 => {
                    let (one, two) = (present[0], present[present.len() - 1]);
                    self.change_key(one, 99, &mut record);
                    self.change_key(two, one, &mut record);
                    self.change_key(99, two, &mut record);
                }
                _ => {}
            }
        }
    }
}

/// The records of one partition on their way: some are held back and come late, as a record that failed and is retried.
struct Delivery<'a> {
    records: Vec<&'a KafkaRecord>,
    next: usize,
    held_back: Vec<KafkaRecord>,
}

async fn play(seed: u64) {
    println!("seed {seed}");
    let mut random = Random(seed);
    let setup = if random.one_in(2) { Setup::default() } else { Setup::default().with("STRAIT_DELETES", "soft") };
    let mut pipeline = setup.start().await;
    let mut sources: Vec<Source> = (0..TABLES).map(Source::new).collect();
    for source in &mut sources {
        for _ in 0..4 + random.below(12) {
            source.transaction(&mut random);
        }
    }

    // All tables' messages in one stream; each table's own in its order. Then some tables' task starts again.
    let mut next = [0; TABLES];
    let mut stream: Vec<&Message> = Vec::new();
    while let Some(open) = Some((0..TABLES).filter(|&at| next[at] < sources[at].messages.len()).collect::<Vec<_>>())
        && !open.is_empty()
    {
        let at = *random.pick(&open);
        stream.push(&sources[at].messages[next[at]]);
        next[at] += 1;
    }
    for source in &sources {
        if random.one_in(4) {
            stream.extend(&source.messages[random.below(source.messages.len())..]);
        }
    }
    let records = pipeline.produce(stream);

    let mut partitions: Vec<Delivery<'_>> = (0..PARTITIONS)
        .map(|partition| Delivery {
            records: records.iter().filter(|record| usize::try_from(record.partition) == Ok(partition)).collect(),
            next: 0,
            held_back: Vec::new(),
        })
        .collect();
    let mut merges = 0;
    while partitions.iter().any(|partition| partition.next < partition.records.len()) {
        let at = random.below(PARTITIONS);
        let partition = &mut partitions[at];
        let end = (partition.next + 1 + random.below(40)).min(partition.records.len());
        let start = if random.one_in(4) { random.below(partition.next + 1) } else { partition.next };
        let mut batch = Vec::new();
        for (place, record) in partition.records.iter().enumerate().take(end).skip(start) {
            if place >= partition.next && random.one_in(6) {
                partition.held_back.push((*record).clone());
            } else {
                batch.push((*record).clone());
            }
        }
        partition.next = end;
        if !batch.is_empty() {
            pipeline.deliver(&batch).await;
        }
        if random.one_in(8) && !partition.held_back.is_empty() {
            let late = std::mem::take(&mut partition.held_back);
            pipeline.deliver(&late).await;
        }
        if merges < MERGES && random.one_in(3) {
            merges += 1;
            pipeline.merge().await;
            assert_states(&pipeline, &sources, seed).await;
        }
    }
    // All but the late ones: the rows that these would bring back or overwrite are merged, and some are gone.
    pipeline.merge().await;
    assert_states(&pipeline, &sources, seed).await;
    for partition in &partitions {
        if !partition.held_back.is_empty() {
            pipeline.deliver(&partition.held_back).await;
        }
    }
    pipeline.merge().await;
    assert_states(&pipeline, &sources, seed).await;
    for source in &sources {
        let expected: Vec<Vec<Option<String>>> =
            source.rows.iter().map(|(id, value)| vec![Some(id.to_string()), Some(value.clone())]).collect();
        assert_eq!(pipeline.rows(&source.table).await, expected, "seed {seed}, {}", source.table.source_name());
    }
    let quarantined = pipeline.texts(&format!("SELECT COUNT(*) FROM `{}`", pipeline.quarantine())).await;
    assert_eq!(quarantined, ["0"], "seed {seed}");
}

/// Each row is some state that the source's row had.
async fn assert_states(pipeline: &Pipeline, sources: &[Source], seed: u64) {
    for source in sources {
        if !pipeline.exists(&pipeline.final_table(&source.table)).await {
            continue;
        }
        for row in pipeline.rows(&source.table).await {
            let id: u32 = row[0].as_deref().unwrap().parse().unwrap();
            let state = (id, row[1].clone().unwrap_or_default());
            assert!(source.states.contains(&state), "seed {seed}, {}: {state:?}", source.table.source_name());
        }
    }
}

#[test]
fn final_tables_equal_the_source_under_random_schedules() {
    run(async {
        if let Ok(seed) = std::env::var("STRAIT_SCHEDULES_SEED") {
            return play(seed.parse().unwrap()).await;
        }
        let seconds = std::env::var("STRAIT_SCHEDULES_SECONDS").map_or(60, |seconds| seconds.parse().unwrap());
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut seed = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
        let mut histories = 0;
        loop {
            play(seed).await;
            histories += TABLES;
            seed += 1;
            if Instant::now() >= until {
                break;
            }
        }
        println!("{histories} histories");
    });
}
