//! A pipeline behind a relay, a table whose rows change all the time, and the proof after each fault: the final table equals the rows,
//! nothing is left at work, nothing is in quarantine. The rows are kept in a map that knows nothing of logs and merges.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use strait_cli::msk::{self, KafkaRecord};
use strait_cli::runtime_api::{Function, InvocationOutcome};
use strait_tests::PROJECT;
use strait_tests::history::{Message, Table};
use strait_tests::pipeline::{NOTHING_FAILED, Pipeline, Setup, function};

use super::relay::Relay;

/// Far above what anything takes here, so that only a function that hangs meets it.
pub const LONG: Duration = Duration::from_secs(300);
/// Invocations until everything is in the log or merged. A fault that ends an invocation is made good by the next; more are for a
/// function whose own time is short, on a slow machine.
const MOST_INVOCATIONS: usize = 12;

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators"): a seed is all that a replay needs.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// The seed of this process's random choices: `STRAIT_FAULTS_SEED`, or the time.
pub fn seed() -> u64 {
    std::env::var("STRAIT_FAULTS_SEED").ok().map_or_else(
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
        |seed| seed.parse().unwrap(),
    )
}

/// Whether everything is swept, however long it takes.
pub fn all() -> bool {
    part().is_some()
}

/// Which part of everything is swept, from 1, and of how many: `all` is the first of one.
pub fn part() -> Option<(usize, usize)> {
    let word = std::env::var("STRAIT_FAULTS").ok()?;
    if word == "all" {
        return Some((1, 1));
    }
    let (part, of) = word.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)))?;
    assert!((1..=of).contains(&part), "STRAIT_FAULTS={word}");
    Some((part, of))
}

/// `STRAIT_FAULTS_SECONDS`, for the sweep; the other tests have their shares of it.
pub fn budget() -> Duration {
    let seconds = std::env::var("STRAIT_FAULTS_SECONDS").map_or(20, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

/// How the invocations went that it took until everything was done.
#[derive(Debug, Clone, Default)]
pub struct Course {
    /// How many.
    pub invocations: usize,
    /// Of those that failed or left work: the error's type, or `running`, with the text.
    pub failures: Vec<(String, String)>,
}

/// One pipeline with one table at a time.
pub struct Shop {
    pub pipeline: Pipeline,
    pub relay: Relay,
    pub table: Table,
    /// The name of the column of the rows' values.
    value: &'static str,
    rows: BTreeMap<u32, String>,
    position: u32,
    next_row: u32,
    tables: u32,
}

impl Shop {
    /// With time limits for the functions.
    pub async fn start(ingest_timeout: Duration, merge_timeout: Duration) -> Self {
        let bigquery = strait_tests::bigquery().await;
        let relay = Relay::start(&bigquery.rest_url, &bigquery.grpc_url).await;
        let pipeline = Setup::default()
            .with("STRAIT_BIGQUERY_REST_URL", &relay.rest_url)
            .with("STRAIT_BIGQUERY_GRPC_URL", &relay.grpc_url)
            .ingest_timeout(ingest_timeout)
            .merge_timeout(merge_timeout)
            .start()
            .await;
        Self {
            pipeline,
            relay,
            table: table(0, "v"),
            value: "v",
            rows: BTreeMap::new(),
            position: 100,
            next_row: 1,
            tables: 0,
        }
    }

    /// With five rows in the final table.
    pub async fn working(ingest_timeout: Duration, merge_timeout: Duration) -> Result<Self, String> {
        let mut shop = Self::start(ingest_timeout, merge_timeout).await;
        let messages = shop.new_table();
        let records = shop.pipeline.produce(&messages);
        shop.deliver(&records).await?;
        shop.merge().await?;
        shop.check().await?;
        Ok(shop)
    }

    /// Another process of a function on the same tables, behind a relay of its own.
    pub async fn another(&self, name: &str, timeout: Duration) -> (Function, Relay) {
        let bigquery = &self.pipeline.bigquery;
        let relay = Relay::start(&bigquery.rest_url, &bigquery.grpc_url).await;
        let mut variables = self.variables();
        variables.insert("STRAIT_BIGQUERY_REST_URL".to_owned(), relay.rest_url.clone());
        variables.insert("STRAIT_BIGQUERY_GRPC_URL".to_owned(), relay.grpc_url.clone());
        (function(name, variables, timeout).await, relay)
    }

    /// What a function of this pipeline has to know, but for its way to BigQuery.
    pub fn variables(&self) -> BTreeMap<String, String> {
        [
            ("STRAIT_PROJECT", PROJECT.to_owned()),
            ("STRAIT_LOG_TABLE", self.pipeline.log()),
            ("STRAIT_MERGES_TABLE", self.pipeline.merges()),
            ("STRAIT_QUARANTINE_TABLE", self.pipeline.quarantine()),
            ("STRAIT_FINAL_TABLE", format!("{}_replica.{{schema}}_{{table}}", self.pipeline.prefix())),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    // The source

    fn write(&mut self, id: u32) -> String {
        let value = format!("{id}/{}", self.at());
        self.rows.insert(id, value);
        self.image(id)
    }

    fn image(&self, id: u32) -> String {
        json!({"id": id, self.value: self.rows[&id]}).to_string()
    }

    fn at(&mut self) -> u32 {
        self.position += 1;
        self.position
    }

    fn new_row(&mut self) -> Message {
        let id = self.next_row;
        self.next_row += 1;
        let image = self.write(id);
        self.table.insert(image).at(self.position)
    }

    /// A table that BigQuery has not seen, with five rows.
    pub fn new_table(&mut self) -> Vec<Message> {
        self.tables += 1;
        self.value = "v";
        self.table = table(self.tables, self.value);
        self.rows.clear();
        let mut messages = vec![self.table.create()];
        messages.extend((0..5).map(|_| self.new_row()));
        messages
    }

    /// An update, a delete, a change of a key and an insert: five rows before, five after.
    pub fn changes(&mut self) -> Vec<Message> {
        let ids: Vec<u32> = self.rows.keys().copied().collect();
        let (updated, deleted, moved) = (ids[0], ids[1], ids[2]);
        let image = self.write(updated);
        let update = self.table.update(image).at(self.position);
        let image = self.image(deleted);
        let delete = self.table.delete(image).at(self.at());
        self.rows.remove(&deleted);
        self.rows.remove(&moved);
        let to = self.next_row;
        self.next_row += 1;
        let image = self.write(to);
        let key_change = self.table.key_change(json!({"id": moved}), image).at(self.position);
        vec![update, delete, key_change, self.new_row()]
    }

    /// Renames the column of the values, there or back.
    pub fn rename(&mut self) -> Message {
        self.value = if self.value == "v" { "w" } else { "v" };
        let before = std::mem::replace(&mut self.table, table(self.tables, self.value));
        self.table.altered("rename-column", &before)
    }

    /// Deletes the two rows that are newest, and inserts two more: what was just merged is gone again.
    pub fn take_back(&mut self) -> Vec<Message> {
        let newest: Vec<u32> = self.rows.keys().rev().take(2).copied().collect();
        let mut messages = Vec::new();
        for id in newest {
            let image = self.image(id);
            messages.push(self.table.delete(image).at(self.at()));
            self.rows.remove(&id);
            messages.push(self.new_row());
        }
        messages
    }

    /// Puts messages into their partitions and delivers them.
    pub async fn send(&mut self, messages: &[Message]) -> Result<(), String> {
        let records = self.pipeline.produce(messages);
        self.deliver(&records).await.map(|_| ())
    }

    // The functions

    /// Delivers records as Lambda does: again until nothing of them has failed.
    pub async fn deliver(&self, records: &[KafkaRecord]) -> Result<Course, String> {
        let mut course = Course::default();
        while course.invocations < MOST_INVOCATIONS {
            course.invocations += 1;
            let outcome = self.pipeline.invoke_ingest(msk::event(records)).await;
            match outcome {
                InvocationOutcome::Response(body) if body == NOTHING_FAILED.as_bytes() => return Ok(course),
                outcome => course.failures.push(in_short(&outcome)),
            }
        }
        Err(format!("records were not taken: {course:?}"))
    }

    /// Merges as the schedule does: again until no table failed or is at work.
    pub async fn merge(&self) -> Result<Course, String> {
        merge_with(&self.pipeline.merge).await
    }

    // The proof

    /// That the final table equals the rows, nothing is at work and nothing in quarantine.
    pub async fn check(&self) -> Result<(), String> {
        // One statement, because each takes the embedded BigQuery some 100 ms.
        let sql = format!(
            "SELECT (SELECT STRING_AGG(CONCAT(CAST(`id` AS STRING), '=', `{value}`), ' ' ORDER BY `id`, `{value}`) FROM `{}`), \
             (SELECT STRING_AGG(DISTINCT `outcome`, ' ') FROM (SELECT `outcome` FROM `{}` WHERE TRUE QUALIFY ROW_NUMBER() \
             OVER (PARTITION BY `source_schema`, `source_table` ORDER BY `recorded_at` DESC) = 1)), \
             (SELECT COUNT(*) FROM `{}`)",
            self.pipeline.final_table(&self.table),
            self.pipeline.merges(),
            self.pipeline.quarantine(),
            value = self.value
        );
        let rows: Vec<String> = self.rows.iter().map(|(id, value)| format!("{id}={value}")).collect();
        let expected = format!("{}|merged|0", rows.join(" "));
        let found = self.pipeline.try_texts(&sql).await?.concat();
        if found == expected {
            return Ok(());
        }
        Err(format!("rows | the ledger's newest outcomes | rows in quarantine are {found} instead of {expected}"))
    }

    /// That the final table equals the rows, whatever else is under way.
    pub async fn rows_are_right(&self) -> Result<(), String> {
        let sql = format!("SELECT `id`, `{}` FROM `{}`", self.value, self.pipeline.final_table(&self.table));
        let mut found = self.pipeline.try_texts(&sql).await?;
        let mut expected: Vec<String> = self.rows.iter().map(|(id, value)| format!("{id}|{value}")).collect();
        found.sort();
        expected.sort();
        if found == expected { Ok(()) } else { Err(format!("the final table holds {found:?} instead of {expected:?}")) }
    }

    /// The folds that no run has deleted.
    pub async fn folds_left(&self) -> Vec<String> {
        let prefix = self.pipeline.prefix();
        let sql = format!("SELECT table_name FROM `{prefix}_cdc`.INFORMATION_SCHEMA.TABLES");
        let own: BTreeSet<&str> = BTreeSet::from(["log", "merges", "quarantine", "log_kept_out"]);
        self.pipeline.texts(&sql).await.into_iter().filter(|name| !own.contains(name.as_str())).collect()
    }
}

/// Invokes a `merge` until no table failed or is at work.
pub async fn merge_with(merge: &Function) -> Result<Course, String> {
    let mut course = Course::default();
    while course.invocations < MOST_INVOCATIONS {
        course.invocations += 1;
        let outcome = merge.invoke("{}").await.map_err(|error| error.to_string())?.outcome;
        let InvocationOutcome::Response(body) = &outcome else {
            course.failures.push(in_short(&outcome));
            continue;
        };
        let answer: Value = serde_json::from_slice(body).unwrap();
        let unfinished: Vec<&Value> = answer["tables"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|table| table["outcome"] != "merged" && table["outcome"] != "idle")
            .collect();
        if unfinished.is_empty() {
            return Ok(course);
        }
        course.failures.push((unfinished[0]["outcome"].as_str().unwrap().to_owned(), json!(unfinished).to_string()));
    }
    Err(format!("the merge did not come to an end: {course:?}"))
}

/// What went wrong, with what is said of it.
pub fn in_short(outcome: &InvocationOutcome) -> (String, String) {
    match outcome {
        InvocationOutcome::Error { error_type, message } => (error_type.clone(), message.clone()),
        InvocationOutcome::Response(body) => ("given back".to_owned(), String::from_utf8_lossy(body).into_owned()),
        InvocationOutcome::Exited { log_tail, .. } => ("exited".to_owned(), log_tail.clone()),
        InvocationOutcome::TimedOut => ("timed out".to_owned(), String::new()),
    }
}

fn table(number: u32, value: &str) -> Table {
    Table::new("shop", &format!("t{number}")).column("id", "INT64").column(value, "WSTRING").key(&["id"])
}
