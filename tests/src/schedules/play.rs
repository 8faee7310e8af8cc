//! A play: hundreds of histories at once, multiplexed into one source table for each kind of key, so that one merge folds them all. The
//! functions are the handlers in this process, or the built programs under a Lambda Runtime API; either way against the embedded BigQuery.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use strait::bigquery::connect::connect;
use strait::config::Config;
use strait::ingest::IngestHandler;
use strait::lambda::Invocation;
use strait::merge::run::MergeHandler;
use strait_cli::embedded_bigquery::{EmbeddedBigQuery, QueryError, QueryResult};
use strait_cli::msk::{self, KafkaRecord};
use strait_cli::runtime_api::InvocationOutcome;

use super::Tally;
use super::history::{Engine, History, Modes, Origin, Timeline, Told};
use super::oracle::{Observed, Oracle, in_words};
use super::random::Random;
use super::shrink::candidates;
use super::source::{KEYS, Key, Kind, PARTITIONS};
use super::wire::{SCHEMA, Shape};
use crate::pipeline::{Pipeline, Setup, answer};
use crate::{PROJECT, bigquery, with_causes};

/// The functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The handlers, in this process.
    InProcess,
    /// The built programs.
    Built,
}

/// Histories of one table.
#[derive(Debug, Clone)]
pub struct Table {
    pub kind: Kind,
    pub engine: Engine,
    pub histories: Vec<History>,
}

/// What is played at once.
#[derive(Debug, Clone)]
pub struct Play {
    pub modes: Modes,
    pub timeline: Timeline,
    pub tables: Vec<Table>,
    /// What comes late is late because its partition is: the records of each window are in partitions of their own, whose offsets have
    /// no gaps. Otherwise single records of a partition are late, and what is covered falls into as many ranges.
    pub is_dense: bool,
    /// An operator says that the last load is complete.
    pub by_hand: bool,
    /// The log lets expire what is merged, and every record was sent before what it retains.
    pub forgets: bool,
}

/// Of so many histories, those of a table whose partitions have gaps: each gap is a condition in the merge's statements.
const GAPPY_SHARE: usize = 16;

impl Play {
    /// Draws one: so many histories for each kind of key.
    pub fn random(seed: u64, lanes: usize, reloads: bool) -> Self {
        let mut random = Random(seed);
        let with_reloads = reloads && random.one_in(2);
        let reload_count = if with_reloads { 1 + random.below(2) } else { 0 };
        // Each load may be broken off once, and the first merge sees no more than the first.
        let windows = if with_reloads { 2 * reload_count + 1 + random.below(2) } else { 2 + random.below(3) };
        let modes = Modes { soft: random.one_in(2), unchanged: random.one_in(3) };
        let kinds = Kind::ALL;
        let mut timeline = Timeline::random(&mut random, windows, reload_count);
        let forgets = !with_reloads && random.one_in(3);
        timeline.is_empty_at_first = forgets && random.one_in(2);
        let is_dense = !random.one_in(4);
        // The end of a load is seen by what comes after it in each partition; the partitions of a window bring no more.
        let by_hand = is_dense || random.one_in(3);
        let lanes = if is_dense { lanes } else { (lanes / GAPPY_SHARE).max(1) };
        // What a merge costs is mostly the number of its tables; from the third on they may be read from a copy of the log's rows.
        let count = if random.one_in(3) { 4 } else { 2 };
        let lanes = (lanes * 2 / count).max(1);
        let first = random.below(kinds.len());
        let step = 1 + random.below(kinds.len() - 1);
        let tables = (0..count)
            .filter_map(|number| kinds.get((first + number * step) % kinds.len()).copied())
            .map(|kind| {
                let engine = match kind {
                    Kind::CaseInsensitive => Engine::MySql,
                    _ => random.pick(&[Engine::MySql, Engine::PostgreSql]),
                };
                let histories =
                    (0..lanes).map(|_| History::random(&mut random.split(), &timeline, kind, engine, modes)).collect();
                Table { kind, engine, histories }
            })
            .collect();
        Self { modes, timeline, tables, is_dense, by_hand, forgets }
    }

    fn partition(&self, partition: usize, window: usize) -> usize {
        if self.is_dense { window * PARTITIONS + partition } else { partition }
    }

    fn histories(&self) -> usize {
        self.tables.iter().map(|table| table.histories.len()).sum()
    }
}

/// What was wrong with one history of a play.
#[derive(Debug, Clone)]
pub struct Wrong {
    pub table: usize,
    pub lane: usize,
    pub what: String,
}

enum Functions {
    InProcess { ingest: Box<IngestHandler>, merge: Box<MergeHandler> },
    Built(Box<Pipeline>),
}

/// The functions with datasets of their own.
pub(super) struct Stage {
    functions: Functions,
    pub(super) bigquery: Arc<EmbeddedBigQuery>,
    pub(super) prefix: String,
}

impl Stage {
    pub(super) async fn start(level: Level, own: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let bigquery = bigquery().await;
        if level == Level::Built {
            let setup = own.iter().fold(Setup::default(), |setup, (name, value)| setup.with(name, value));
            let pipeline = setup.start().await;
            let prefix = pipeline.prefix().to_owned();
            return Self { functions: Functions::Built(Box::new(pipeline)), bigquery, prefix };
        }
        strait::lambda::install_tls();
        let prefix = format!("s{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut variables: BTreeMap<String, String> = [
            ("STRAIT_PROJECT", PROJECT.to_owned()),
            ("STRAIT_LOG_TABLE", format!("{prefix}_cdc.log")),
            ("STRAIT_MERGES_TABLE", format!("{prefix}_cdc.merges")),
            ("STRAIT_QUARANTINE_TABLE", format!("{prefix}_cdc.quarantine")),
            ("STRAIT_FINAL_TABLE", format!("{prefix}_replica.{{schema}}_{{table}}")),
            ("STRAIT_BIGQUERY_REST_URL", bigquery.rest_url.clone()),
            ("STRAIT_BIGQUERY_GRPC_URL", bigquery.grpc_url.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        variables.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let config = Config::from_vars(variables).unwrap();
        let ingest = IngestHandler::new(&config, connect(&config).await.unwrap(), None).unwrap();
        let connections = connect(&config).await.unwrap();
        let merge = MergeHandler::new(config, connections);
        let functions = Functions::InProcess { ingest: Box::new(ingest), merge: Box::new(merge) };
        Self { functions, bigquery, prefix }
    }

    pub(super) async fn ingest(&self, records: &[KafkaRecord]) {
        for batch in msk::batches(records, 10_000).unwrap() {
            match &self.functions {
                Functions::Built(pipeline) => pipeline.deliver(batch).await,
                Functions::InProcess { ingest, .. } => {
                    // Boxed: unoptimised, the futures of both handlers are more than a test thread's stack holds.
                    let event = msk::event(batch);
                    let response = Box::pin(ingest.handle(&event, &invocation("ingest"))).await;
                    let response = response.unwrap_or_else(|error| panic!("{}", with_causes(&error)));
                    assert!(response.batch_item_failures.is_empty(), "records were given back");
                }
            }
        }
    }

    /// One merge; the answer's text, or what failed.
    pub(super) async fn merge(&self, event: &str) -> Result<String, String> {
        match &self.functions {
            Functions::Built(pipeline) => match pipeline.invoke_merge(event.to_owned()).await {
                InvocationOutcome::Error { message, .. } => Err(message),
                outcome => Ok(answer(&outcome).to_owned()),
            },
            Functions::InProcess { merge, .. } => {
                match Box::pin(merge.handle(event.as_bytes(), &invocation("merge"))).await {
                    Ok(answer) => Ok(serde_json::to_string(&answer).unwrap()),
                    Err(error) => Err(with_causes(&error)),
                }
            }
        }
    }

    pub(super) async fn query(&self, sql: &str) -> Option<Vec<Vec<Option<String>>>> {
        self.result(sql).await.ok().map(|result| result.rows)
    }

    async fn result(&self, sql: &str) -> Result<QueryResult, QueryError> {
        match self.bigquery.query(sql).await {
            // The embedded BigQuery closes a connection that has been idle, perhaps in the moment of its next use.
            Err(QueryError::Unreachable(_)) => self.bigquery.query(sql).await,
            other => other,
        }
    }

    /// Runs a statement that has to go through.
    pub(super) async fn statement(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        match self.result(sql).await {
            Ok(result) => result.rows,
            Err(error) => panic!("{sql}\n{}", with_causes(&error)),
        }
    }

    /// What the merge wrote to its log about a table, if it is a program.
    pub(super) fn logs_of(&self, table: &str) -> String {
        let Functions::Built(pipeline) = &self.functions else { return String::new() };
        let name = format!("\"{table}\"");
        let logs = pipeline.merge.log();
        logs.lines().filter(|line| line.contains(&name)).collect::<Vec<_>>().join("\n")
    }

    pub(super) async fn end(self) {
        if matches!(self.functions, Functions::InProcess { .. }) {
            for dataset in ["cdc", "replica"] {
                let _ = self.query(&format!("DROP SCHEMA IF EXISTS `{}_{dataset}` CASCADE", self.prefix)).await;
            }
        }
    }
}

fn invocation(function: &str) -> Invocation {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    Invocation {
        request_id: format!("play-{}", COUNT.fetch_add(1, Ordering::Relaxed)),
        deadline: tokio::time::Instant::now() + Duration::from_secs(300),
        function_name: function.to_owned(),
    }
}

/// A record on its way: of which table and lane, and of which sending; a control record has no lane.
struct Item {
    emission: (u64, usize),
    table: usize,
    lane: usize,
    sending: usize,
    partition: usize,
    value: Vec<u8>,
}

/// Plays, and says what was wrong and how many records were delivered.
///
/// # Panics
/// When a function fails, which is no history's matter.
pub async fn perform(play: &Play, level: Level) -> (Vec<Wrong>, usize) {
    let own = [
        ("STRAIT_DELETES", if play.modes.soft { "soft" } else { "hard" }),
        ("STRAIT_ABSENT_COLUMNS", if play.modes.unchanged { "unchanged" } else { "null" }),
    ];
    let stage = Stage::start(level, &own).await;
    let timeline = &play.timeline;
    let age_us = if play.forgets { FORGOTTEN_AFTER_US } else { 3_600_000_000 };
    let origin_us = jiff::Timestamp::now().as_microsecond() - age_us;
    let shapes: Vec<Shape> = play
        .tables
        .iter()
        .map(|table| Shape { kind: table.kind, engine: table.engine, modes: play.modes, origin_us })
        .collect();
    let mut oracles: Vec<Vec<Oracle<'_>>> = play
        .tables
        .iter()
        .map(|table| table.histories.iter().map(|history| Oracle::new(history, timeline)).collect())
        .collect();

    // What lies in Kafka, in the order in which DMS sent it.
    let mut items: Vec<Item> = Vec::new();
    for (place, table) in play.tables.iter().enumerate() {
        for (number, control) in timeline.controls.iter().enumerate() {
            items.push(Item {
                emission: (control.emission_us, 0),
                table: place,
                lane: usize::MAX,
                sending: number,
                partition: play.partition(control.partition, control.window),
                value: shapes[place].control(control),
            });
        }
        for (lane, history) in table.histories.iter().enumerate() {
            for (number, sending) in history.sendings.iter().enumerate() {
                let truth = oracles[place][lane].truth();
                if let Some(value) = shapes[place].message(history, truth, timeline, lane, number) {
                    items.push(Item {
                        emission: (sending.emission_us + lane as u64 % 7, lane),
                        table: place,
                        lane,
                        sending: number,
                        partition: play.partition(sending.partition, history.first_window(number)),
                        value,
                    });
                }
            }
        }
    }
    items.sort_by_key(|item| item.emission);
    let mut topic = msk::Topic::new("cdc", 2);
    // No end of a load can be known before a partition that has never brought a record: each has brought one of DMS's own.
    let partitions = PARTITIONS * if play.is_dense { timeline.windows } else { 1 };
    let first: Vec<KafkaRecord> = (0..partitions)
        .map(|partition| topic.append_to(partition as i32, None, Some(status_message(origin_us))))
        .collect();
    let mut records: BTreeMap<(usize, usize, usize), KafkaRecord> = BTreeMap::new();
    for item in items {
        let record = topic.append_to(item.partition as i32, None, Some(item.value));
        records.insert((item.table, item.lane, item.sending), record);
    }

    // Whose key a final row's is.
    let owners: Vec<BTreeMap<Vec<String>, (usize, Key)>> = play
        .tables
        .iter()
        .zip(&shapes)
        .map(|(table, shape)| {
            let keys = (0..table.histories.len()).flat_map(|lane| (0..KEYS as Key).map(move |key| (lane, key)));
            let keys = keys.filter(|(_, key)| !table.kind.is_null(*key));
            keys.map(|(lane, key)| (shape.key(lane, key).iter().map(|(_, value)| cell(value)).collect(), (lane, key)))
                .collect()
        })
        .collect();

    stage.ingest(&first).await;
    let mut wrong: Vec<Wrong> = Vec::new();
    let mut steps = 0;
    for window in 0..timeline.windows {
        let (mut batch, mut again): (Vec<KafkaRecord>, Vec<KafkaRecord>) = (Vec::new(), Vec::new());
        for (place, table) in play.tables.iter().enumerate() {
            for (number, control) in timeline.controls.iter().enumerate() {
                if control.window == window {
                    batch.extend(records.get(&(place, usize::MAX, number)).cloned());
                    oracles[place].iter_mut().for_each(|oracle| oracle.deliver_control(control.told));
                }
            }
            for (lane, history) in table.histories.iter().enumerate() {
                let mut seen = BTreeSet::new();
                for arrival in history.windows.get(window).into_iter().flatten() {
                    let Some(record) = records.get(&(place, lane, arrival.sending)) else { continue };
                    if seen.insert(arrival.sending) { &mut batch } else { &mut again }.push(record.clone());
                    oracles[place][lane].deliver(arrival.sending);
                }
            }
        }
        steps += batch.len() + again.len();
        if play.forgets
            && timeline.controls.iter().any(|control| control.told == Told::Create && control.window < window)
        {
            forget(&stage).await;
        }
        if window > 1 {
            days_pass(&stage, window % 2 == 0).await;
        }
        stage.ingest(&batch).await;
        if !again.is_empty() {
            stage.ingest(&again).await;
        }
        match stage.merge("{}").await {
            // Of a play that is looked into, every answer is shown.
            Ok(answer) if super::asked_seed().is_some() => println!("  merge {}: {answer}", window + 1),
            Ok(_) => {}
            Err(error) => panic!("a merge failed: {error}\n{}", stage.bigquery.stderr_tail()),
        }
        let is_end = window + 1 == timeline.windows;
        if is_end && timeline.has_reloads() {
            complete_reloads(&stage, &shapes, play.by_hand).await;
        }
        if play.forgets {
            learn_what_is_unsure(&stage, play, &shapes, &records, &mut oracles).await;
        }
        check(&stage, play, &shapes, &owners, &mut oracles, window, is_end, &mut wrong).await;
    }
    check_quarantine(&stage, play, &shapes, &records, &oracles, &mut wrong).await;
    stage.end().await;
    (wrong, steps)
}

/// Longer than the log retains anything by default.
const FORGOTTEN_AFTER_US: i64 = 40 * 24 * 3_600_000_000;

/// What is merged expires, and the ledger is older than that.
async fn forget(stage: &Stage) {
    let (log, merges) = (format!("{}_cdc.log", stage.prefix), format!("{}_cdc.merges", stage.prefix));
    let first = format!("recorded_at = (SELECT MIN(recorded_at) FROM `{merges}`)");
    // Its beginning is told by its first row, and by those that carry it forward.
    for (column, of) in [("recorded_at", first.as_str()), ("begun_at", "begun_at IS NOT NULL")] {
        let is_young = format!("{column} > TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 39 DAY)");
        let earlier = format!("{column} = TIMESTAMP_SUB({column}, INTERVAL 40 DAY)");
        stage.statement(&format!("UPDATE `{merges}` SET {earlier} WHERE {of} AND {is_young}")).await;
    }
    stage.statement(&format!("DELETE FROM `{log}` WHERE TRUE")).await;
}

/// As if no run would read the ledger further back than all tables were last carried forward, and, `with_a_pause`, none had run for two days.
async fn days_pass(stage: &Stage, with_a_pause: bool) {
    let merges = format!("`{}_cdc.merges`", stage.prefix);
    let newest = format!("(SELECT run_id FROM {merges} WHERE carried IS NOT NULL ORDER BY recorded_at DESC LIMIT 1)");
    let carried = format!("(SELECT MIN(recorded_at) FROM {merges} WHERE carried IS NOT NULL AND run_id = {newest})");
    stage.statement(&format!("DELETE FROM {merges} WHERE recorded_at < {carried}")).await;
    if with_a_pause {
        let earlier = |column: &str| format!("{column} = TIMESTAMP_SUB({column}, INTERVAL 2 DAY)");
        let times = ["recorded_at", "based_on"].map(earlier).join(", ");
        stage.statement(&format!("UPDATE {merges} SET {times} WHERE TRUE")).await;
    }
}

/// The keys of which a record is in the quarantine because nobody knows what followed it.
async fn learn_what_is_unsure(
    stage: &Stage,
    play: &Play,
    shapes: &[Shape],
    records: &BTreeMap<(usize, usize, usize), KafkaRecord>,
    oracles: &mut [Vec<Oracle<'_>>],
) {
    let sql = format!(
        "SELECT `source_table`, `kafka_partition`, `kafka_offset` FROM `{}_cdc.quarantine` WHERE STARTS_WITH(`reason`, 'the change is older than what the log retains')",
        stage.prefix
    );
    let held = stage.query(&sql).await.unwrap_or_default();
    for ((place, lane, sending), record) in records {
        let is_held = held.iter().any(|row| {
            row[0].as_deref() == Some(shapes[*place].table())
                && row[1].as_deref() == Some(record.partition.to_string().as_str())
                && row[2].as_deref() == Some(record.offset.to_string().as_str())
        });
        if !is_held || *lane == usize::MAX {
            continue;
        }
        let (oracle, history) = (&mut oracles[*place][*lane], &play.tables[*place].histories[*lane]);
        let keys = match history.sendings[*sending].origin {
            Origin::Load { key, .. } => [Some(key), None],
            Origin::Change(_) => match history.change(oracle.truth(), *sending) {
                Some(change) => [Some(change.key), change.old],
                None => [None, None],
            },
        };
        if play.modes.unchanged {
            oracle.held.extend(keys.into_iter().flatten());
        } else {
            oracle.unsure.extend(keys[0]);
        }
    }
}

/// A change of a table of DMS's own, which is kept out of the log.
fn status_message(sent_us: i64) -> Vec<u8> {
    let sent = jiff::Timestamp::from_microsecond(sent_us).unwrap().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    let metadata = serde_json::json!({"timestamp": sent, "record-type": "data", "operation": "insert", "schema-name": "", "table-name": "awsdms_status"});
    serde_json::json!({"data": {"task_status": "RUNNING"}, "metadata": metadata}).to_string().into_bytes()
}

/// A merge without news sees that the load is complete, unless it brought no row, or rows without a key: then an operator has to say so.
async fn complete_reloads(stage: &Stage, shapes: &[Shape], by_hand: bool) {
    let said_of = shapes.iter().filter(|shape| by_hand || shape.kind == Kind::Nullable);
    let tables: Vec<String> = said_of.map(|shape| format!("{SCHEMA}.{}", shape.table())).collect();
    let word = serde_json::json!({"tables": tables, "reload": "complete"}).to_string();
    let events = [(tables.len() < shapes.len(), "{}"), (!tables.is_empty(), word.as_str())];
    for (_, event) in events.into_iter().filter(|(is_needed, _)| *is_needed) {
        if let Err(error) = stage.merge(event).await {
            panic!("a merge failed: {error}\n{}", stage.bigquery.stderr_tail());
        }
    }
}

fn cell(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[allow(clippy::too_many_arguments, reason = "one caller, which has it all at hand")]
async fn check(
    stage: &Stage,
    play: &Play,
    shapes: &[Shape],
    owners: &[BTreeMap<Vec<String>, (usize, Key)>],
    oracles: &mut [Vec<Oracle<'_>>],
    window: usize,
    is_end: bool,
    wrong: &mut Vec<Wrong>,
) {
    for (place, shape) in shapes.iter().enumerate() {
        let keys = shape.key_columns();
        let deleted = if play.modes.soft { "CAST(`_strait_deleted` AS STRING)" } else { "'false'" };
        let sql = format!(
            "SELECT {}, `v`, `w`, {deleted} FROM `{}_replica.{SCHEMA}_{}`",
            keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "),
            stage.prefix,
            shape.table()
        );
        let Some(rows) = stage.query(&sql).await else {
            // Without its definition it waits.
            assert!(!is_end, "{} does not exist", shape.table());
            continue;
        };
        let mut observed = vec![Observed::default(); oracles[place].len()];
        let mut note = |lane: usize, what: String| {
            if !wrong.iter().any(|wrong| (wrong.table, wrong.lane) == (place, lane)) {
                wrong.push(Wrong { table: place, lane, what: format!("after merge {}: {what}", window + 1) });
            }
        };
        for row in rows {
            let (key, rest) = row.split_at(keys.len());
            let key: Option<Vec<String>> = key.iter().cloned().collect();
            let owner = key.as_ref().and_then(|key| owners[place].get(key));
            let Some((lane, key)) = owner.copied() else {
                note(0, format!("a row of a key that no history has: {key:?}"));
                continue;
            };
            let at = usize::from(key);
            if observed[lane].rows[at].is_some() || observed[lane].marked[at] {
                note(lane, format!("two rows of key {key}"));
            }
            if rest[2].as_deref() == Some("true") {
                observed[lane].marked[at] = true;
                continue;
            }
            match shape.values(rest[0].as_deref(), rest[1].as_deref()) {
                Some(values) => observed[lane].rows[at] = Some(values),
                None => note(lane, format!("key {key} has values that no change wrote: {rest:?}")),
            }
        }
        for (lane, oracle) in oracles[place].iter_mut().enumerate() {
            if let Err(what) = oracle.check(&observed[lane], is_end) {
                note(lane, format!("key {what}"));
            }
        }
    }
}

/// In the quarantine are the records without a key, and no others.
async fn check_quarantine(
    stage: &Stage,
    play: &Play,
    shapes: &[Shape],
    records: &BTreeMap<(usize, usize, usize), KafkaRecord>,
    oracles: &[Vec<Oracle<'_>>],
    wrong: &mut Vec<Wrong>,
) {
    let sql = format!(
        "SELECT DISTINCT `source_table`, `kafka_partition`, `kafka_offset` FROM `{}_cdc.quarantine`",
        stage.prefix
    );
    let rows = stage.query(&sql).await.unwrap_or_default();
    for (place, (table, shape)) in play.tables.iter().zip(shapes).enumerate() {
        let held: BTreeSet<(i32, i64)> = rows
            .iter()
            .filter(|row| row[0].as_deref() == Some(shape.table()))
            .map(|row| (row[1].as_deref().unwrap().parse().unwrap(), row[2].as_deref().unwrap().parse().unwrap()))
            .collect();
        for (lane, history) in table.histories.iter().enumerate() {
            let truth = history.truth();
            let delivered: BTreeSet<usize> = history.windows.iter().flatten().map(|arrival| arrival.sending).collect();
            for sending in delivered {
                let Some(record) = records.get(&(place, lane, sending)) else { continue };
                let key = match history.sendings[sending].origin {
                    Origin::Load { key, .. } => key,
                    Origin::Change(step) => truth.changes[step].map_or(0, |change| change.key),
                };
                let is_held = held.contains(&(record.partition, record.offset));
                let may_be_passed_over = play.timeline.has_reloads() && !is_held;
                let oracle = &oracles[place][lane];
                let is_unsure = oracle.unsure.contains(&key) || oracle.held.contains(&key);
                if is_held != table.kind.is_null(key) && !may_be_passed_over && !is_unsure {
                    let what = format!("a record of key {key} is in the quarantine: {is_held}");
                    wrong.push(Wrong { table: place, lane, what });
                }
            }
        }
    }
}

/// Shrinks one history of a play: all its candidates are played at once. Ends with the budget.
async fn shrink(play: &Play, wrong: &Wrong, level: Level, budget: Duration) -> (History, String) {
    let until = Instant::now() + budget;
    let table = &play.tables[wrong.table];
    let mut history = table.histories[wrong.lane].clone();
    let mut what = wrong.what.clone();
    while Instant::now() < until {
        let candidates = candidates(&history, &play.timeline);
        let play = Play {
            modes: play.modes,
            timeline: play.timeline.clone(),
            is_dense: play.is_dense,
            by_hand: play.by_hand,
            forgets: play.forgets,
            tables: vec![Table { kind: table.kind, engine: table.engine, histories: candidates.clone() }],
        };
        let (wrong, _) = Box::pin(perform(&play, level)).await;
        let Some(first) = wrong.into_iter().min_by_key(|wrong| wrong.lane) else { break };
        history = candidates[first.lane].clone();
        what = first.what;
    }
    (history, what)
}

/// Plays until the time is over or a history is wrong. `STRAIT_SCHEDULES_LANES` sets how many histories a table has.
///
/// # Panics
/// When one is wrong.
pub async fn run(level: Level, budget: Duration, lanes: usize, reloads: bool) -> Tally {
    let started = Instant::now();
    let until = started + budget;
    let lanes = std::env::var("STRAIT_SCHEDULES_LANES").map_or(lanes, |lanes| lanes.parse().unwrap());
    let mut seed = super::asked_seed().unwrap_or_else(super::new_seed);
    let mut tally = Tally::default();
    loop {
        let play = Play::random(seed, lanes, reloads);
        let begun = Instant::now();
        let (wrong, steps) = Box::pin(perform(&play, level)).await;
        let took = begun.elapsed();
        tally.histories += play.histories();
        tally.steps += steps;
        println!(
            "{level:?} seed {seed}: {} histories, {steps} records, {} merges{}{}{} in {:.1} s ({:.0} histories/s)",
            play.histories(),
            play.timeline.windows,
            if play.timeline.has_reloads() { ", with reloads" } else { "" },
            if play.timeline.emptying().next().is_some() { ", emptied" } else { "" },
            if play.forgets { ", the log forgets" } else { "" },
            took.as_secs_f64(),
            play.histories() as f64 / took.as_secs_f64()
        );
        tally.wrong += wrong.len();
        println!("{}", tally.in_words());
        if let Some(first) = wrong.first() {
            let history = &play.tables[first.table].histories[first.lane];
            println!("  {} wrong; the first: {}\n  {}", wrong.len(), first.what, in_words(history, &play.timeline));
            println!("  shrinking it, for a minute at most");
            let (short, what) = Box::pin(shrink(&play, first, level, Duration::from_secs(60))).await;
            panic!("seed {seed}: {} wrong; {what}\n  {}", wrong.len(), in_words(&short, &play.timeline));
        }
        // Another play of the same length has to fit in.
        if super::asked_seed().is_some() || Instant::now() + took > until {
            break;
        }
        seed = seed.wrapping_add(1);
    }
    println!("{level:?}: none wrong, {:.0} histories/s", tally.histories as f64 / started.elapsed().as_secs_f64());
    tally
}
