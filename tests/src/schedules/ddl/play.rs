//! A play: many tables at once, each with a history of its own, through the functions. After each merge every row has to be made of
//! values that it had, at every complete prefix and in the end the tables equal the source.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strait_cli::msk::{KafkaRecord, Topic};

use super::super::Tally;
use super::super::play::{Level, Stage};
use super::super::random::Random;
use super::Modes;
use super::source::{Cell, History, MadeBy, Played, State};

/// Partitions of one window: of control records and two of data, for a table's changes stand in both when DMS applies in parallel.
const PARTITIONS: usize = 3;

/// What is played at once.
#[derive(Debug, Clone)]
pub struct Play {
    pub modes: Modes,
    pub windows: usize,
    pub histories: Vec<History>,
    /// Where batches are cut, and which suffix is delivered again in the end.
    pub seed: u64,
}

impl Play {
    /// Draws one of so many tables.
    pub fn random(seed: u64, tables: usize) -> Self {
        let mut random = Random(seed);
        let modes = Modes { soft: random.one_in(2), unchanged: random.one_in(3), drop: random.one_in(2) };
        let windows = 3 + random.below(3);
        let histories = (0..tables).map(|_| History::random(&mut random.split(), windows, modes)).collect();
        Self { modes, windows, histories, seed: random.bits() }
    }
}

/// What was wrong with one history of a play.
#[derive(Debug, Clone)]
pub struct Wrong {
    pub table: usize,
    pub what: String,
}

/// A final table as it stands.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// Names and types of its columns, by what they hold of the source.
    columns: BTreeMap<String, (String, String)>,
    rows: Vec<Value>,
}

fn schema_of(table: usize) -> String {
    format!("s{table}")
}

/// Plays; says what was wrong and how many records were delivered.
///
/// # Panics
/// When a function fails that no fault was meant for.
pub async fn perform(play: &Play, level: Level) -> (Vec<Wrong>, usize) {
    let modes = play.modes;
    let stage = Stage::start(
        level,
        &[
            ("STRAIT_DELETES", if modes.soft { "soft" } else { "hard" }),
            ("STRAIT_ABSENT_COLUMNS", if modes.unchanged { "unchanged" } else { "null" }),
            ("STRAIT_DROPPED_COLUMNS", if modes.drop { "drop" } else { "keep" }),
        ],
    )
    .await;
    let mut random = Random(play.seed);
    let played: Vec<Played> = play.histories.iter().map(History::played).collect();
    let name_of = |table: usize| format!("`{}_replica.{}_t`", stage.prefix, schema_of(table));
    let by_hand: Vec<usize> =
        (0..play.histories.len()).filter(|table| play.histories[*table].made_by == MadeBy::Person).collect();
    if !by_hand.is_empty() {
        stage.statement(&format!("CREATE SCHEMA IF NOT EXISTS `{}_replica`", stage.prefix)).await;
        for table in &by_hand {
            stage.statement(&played[*table].create_by_hand.replace("{table}", &name_of(*table))).await;
        }
    }

    // What lies in Kafka, in the order in which DMS sent it.
    let mut topic = Topic::new("cdc", 1);
    let mut records: BTreeMap<(usize, usize), KafkaRecord> = BTreeMap::new();
    let longest = played.iter().map(|played| played.sent.len()).max().unwrap_or_default();
    for number in 0..longest {
        for (table, played) in played.iter().enumerate() {
            let Some(sent) = played.sent.get(number) else { continue };
            let mut message = sent.message.clone();
            message.set_schema(&schema_of(table));
            let partition = if sent.is_control { 0 } else { 1 + random.below(2) } + PARTITIONS * sent.window;
            records.insert((table, number), topic.append_to(partition as i32, None, message.to_value()));
        }
    }

    let (mut wrong, mut steps) = (Vec::new(), 0);
    let mut note = |table: usize, what: String| {
        if !wrong.iter().any(|wrong: &Wrong| wrong.table == table) {
            wrong.push(Wrong { table, what });
        }
    };
    let last = played.iter().flat_map(|played| played.sent.iter().map(|sent| sent.window)).max().unwrap_or_default();
    for window in 0..=last.max(play.windows - 1) {
        for table in &by_hand {
            for by_hand in played[*table].by_hand.iter().filter(|by_hand| by_hand.window == window) {
                for sql in &by_hand.sql {
                    stage.statement(&sql.replace("{table}", &name_of(*table))).await;
                }
            }
        }
        let arriving = |(table, number): &(usize, usize)| {
            let sent = &played[*table].sent[*number];
            (sent.window == window, sent.again == Some(window))
        };
        let batch: Vec<KafkaRecord> =
            records.iter().filter(|(of, _)| arriving(of).0).map(|(_, record)| record.clone()).collect();
        let again: Vec<KafkaRecord> =
            records.iter().filter(|(of, _)| arriving(of).1).map(|(_, record)| record.clone()).collect();
        steps += batch.len() + again.len();
        let cut = random.below(batch.len() + 1);
        for part in [&batch[..cut], &batch[cut..], &again[..]] {
            if !part.is_empty() {
                stage.ingest(part).await;
            }
        }
        let faults: Vec<Value> = play
            .histories
            .iter()
            .enumerate()
            .filter_map(|(table, history)| Some((table, history.fault.filter(|fault| fault.window == window)?)))
            .map(|(table, fault)| {
                let refused = json!({"error": {"code": 400, "message": "no", "errors": [{"reason": "invalidQuery", "message": "no"}]}});
                let kind = if fault.is_in_effect { "after_effect" } else { "status" };
                let action = json!({"kind": kind, "http": 400, "body": refused.to_string()});
                // As it stands in the statement, which is a text in the request.
                let body = format!("(ALTER|UPDATE|MERGE)[^;]*{}_replica`?\\.`?{}_t`", stage.prefix, schema_of(table));
                json!({"side": "rest", "match": {"api": "jobs.insert", "body_regex": body}, "action": action, "skip": fault.skip})
            })
            .collect();
        let at_once = play
            .histories
            .iter()
            .filter_map(|history| history.fault)
            .any(|fault| fault.window == window && fault.again_at_once);
        let is_failed = match merge(&stage, "{}", faults, at_once).await {
            Ok(is_failed) => is_failed,
            Err(error) => {
                failed(&mut note, window, &error);
                true
            }
        };
        let seen = look(&stage, played.len()).await;
        for (table, played) in played.iter().enumerate() {
            let Some(seen) = seen.get(&table) else { continue };
            if let Some(what) = made_of_its_own(played, seen, modes) {
                note(table, format!("after merge {}: {what}", window + 1));
            }
            // What is delivered again may come before what was late.
            let arrived =
                |sent: &super::source::Sent| sent.window <= window || sent.again.is_some_and(|again| again <= window);
            let whole = played.sent.iter().take_while(|sent| arrived(sent)).count();
            let is_prefix = !played.sent[whole..].iter().any(arrived);
            let last = played.sent[..whole].last();
            let is_altered = play.histories[table].made_by == MadeBy::Strait
                || played
                    .by_hand
                    .iter()
                    .all(|by_hand| (by_hand.window <= window) == (last.is_some_and(|last| by_hand.op <= last.op)));
            if let Some(last) =
                last.filter(|last| last.is_whole && is_prefix && is_altered && !is_failed && !played.has_reload)
                && let Some(what) = differs(&played.states[last.state], seen, modes)
            {
                note(table, format!("after merge {}, a complete prefix: {what}", window + 1));
            }
        }
    }

    let reloaded: Vec<String> = (0..played.len())
        .filter(|table| played[*table].has_reload)
        .map(|table| format!("{}.t", schema_of(table)))
        .collect();
    let merge_on = async |event: &str, note: &mut dyn FnMut(usize, String)| {
        if let Err(error) = merge(&stage, event, Vec::new(), false).await {
            failed(note, last + 1, &error);
        }
    };
    merge_on("{}", &mut note).await;
    if !reloaded.is_empty() {
        merge_on(&json!({"tables": reloaded, "reload": "complete"}).to_string(), &mut note).await;
    }
    // Of an alteration of which no record has come, nor of one after it, a person adds the column.
    let seen = look(&stage, played.len()).await;
    let mut is_added = false;
    for (table, played) in played.iter().enumerate() {
        let columns = &played.states[played.states.len() - 1].columns;
        if play.histories[table].made_by == MadeBy::Person || !played.is_end_unknown {
            continue;
        }
        for (name, kind) in columns {
            if seen.get(&table).is_some_and(|seen| !seen.columns.contains_key(name)) {
                is_added = true;
                let options = format!("OPTIONS (description = 'Source column: \"{name}\"')");
                let column = format!("column_{}", name.len());
                let column = if name.is_ascii() && !name.contains('.') { name } else { &column };
                stage
                    .statement(&format!(
                        "ALTER TABLE {} ADD COLUMN `{column}` {} {options}",
                        name_of(table),
                        kind.in_bigquery()
                    ))
                    .await;
            }
        }
    }
    if is_added {
        merge_on("{}", &mut note).await;
    }
    for again in [false, true] {
        if again {
            let from = random.below(longest + 1);
            let suffix: Vec<KafkaRecord> =
                records.iter().filter(|((_, number), _)| *number >= from).map(|(_, record)| record.clone()).collect();
            steps += suffix.len();
            stage.ingest(&suffix).await;
            merge_on("{}", &mut note).await;
        }
        let seen = look(&stage, played.len()).await;
        for (table, played) in played.iter().enumerate() {
            let what = match seen.get(&table) {
                Some(seen) => differs(&played.states[played.states.len() - 1], seen, modes)
                    .or_else(|| made_of_its_own(played, seen, modes)),
                None => Some("there is no final table".to_owned()),
            };
            if let Some(what) = what {
                note(table, format!("in the end{}: {what}", if again { ", after a redelivery" } else { "" }));
            }
        }
    }
    if super::super::asked_seed().is_some() {
        for table in wrong.iter().map(|wrong| wrong.table) {
            println!("{}", stage.logs_of(&format!("{}.t", schema_of(table))));
        }
    }
    stage.end().await;
    (wrong, steps)
}

/// Notes which tables a merge failed on.
fn failed(note: &mut dyn FnMut(usize, String), window: usize, error: &str) {
    let tables = error.split(['.', ' ']).filter_map(|word| word.strip_prefix('s')?.parse::<usize>().ok());
    let mut tables: Vec<usize> = tables.collect();
    tables.dedup();
    assert!(!tables.is_empty(), "a merge failed: {error}");
    for table in tables {
        note(table, format!("merge {} failed: {error}", window + 1));
    }
}

/// A merge, in which these calls fail: whether any has, and what went wrong by itself.
async fn merge(stage: &Stage, event: &str, faults: Vec<Value>, at_once: bool) -> Result<bool, String> {
    let is_spoilt = !faults.is_empty();
    if is_spoilt {
        stage.bigquery.faults(&Value::Array(faults)).await.unwrap();
    }
    let outcome = stage.merge(event).await;
    if is_spoilt {
        stage.bigquery.clear_faults().await.unwrap();
    }
    match outcome {
        Ok(answer) if super::super::asked_seed().is_some() => println!("  {answer}"),
        Ok(_) => {}
        Err(error) if is_spoilt && error.contains("could not be merged") => {
            if !at_once {
                return Ok(true);
            }
            stage.merge("{}").await?;
        }
        Err(error) => return Err(error),
    }
    Ok(false)
}

/// The final tables as they stand.
async fn look(stage: &Stage, tables: usize) -> BTreeMap<usize, Seen> {
    let dataset = format!("{}_replica", stage.prefix);
    let sql = format!(
        "SELECT table_name, column_name, data_type, description FROM `{dataset}`.INFORMATION_SCHEMA.COLUMN_FIELD_PATHS"
    );
    let mut seen: BTreeMap<usize, Seen> = BTreeMap::new();
    for row in stage.query(&sql).await.unwrap_or_default() {
        let [Some(table), Some(name), Some(kind), description] = row.as_slice() else { panic!("{row:?}") };
        let table = table.strip_prefix('s').and_then(|table| table.strip_suffix("_t")).unwrap().parse().unwrap();
        let source = description.as_deref().and_then(|text| text.strip_prefix("Source column: "));
        let source = source.and_then(|text| serde_json::Deserializer::from_str(text).into_iter::<String>().next());
        let source = source.and_then(Result::ok).unwrap_or_else(|| name.clone());
        if !name.starts_with("_strait_") {
            seen.entry(table).or_default().columns.insert(source, (name.clone(), kind.clone()));
        }
    }
    seen.retain(|table, _| *table < tables);
    let selects: Vec<String> = seen
        .keys()
        .map(|table| format!("SELECT {table} AS n, TO_JSON_STRING(t) AS j FROM `{dataset}.s{table}_t` AS t"))
        .collect();
    if selects.is_empty() {
        return seen;
    }
    for row in stage.statement(&selects.join("\nUNION ALL ")).await {
        let [Some(table), Some(cells)] = row.as_slice() else { panic!("{row:?}") };
        let cells: Value = serde_json::from_str(cells).unwrap_or_else(|error| panic!("{error}: {cells}"));
        seen.get_mut(&table.parse().unwrap()).unwrap().rows.push(cells);
    }
    seen
}

fn text(cell: &Value) -> Option<String> {
    match cell {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Whether a cell is a value, however its type prints it.
fn is_alike(found: Option<&str>, value: Option<&str>) -> bool {
    match (found, value) {
        (Some(found), Some(value)) => {
            let plain =
                |text: &str| text.replacen(' ', "T", 1).trim_end_matches('Z').trim_end_matches("T00:00:00").to_owned();
            let number = |text: &str| text.parse::<f64>().ok();
            plain(found) == plain(value) || number(found).is_some_and(|found| number(value) == Some(found))
        }
        (None, None) => true,
        _ => false,
    }
}

fn live(seen: &Seen, modes: Modes) -> BTreeMap<i64, &Value> {
    let is_live = |row: &&Value| !modes.soft || row["_strait_deleted"] != json!(true);
    seen.rows
        .iter()
        .filter(is_live)
        .map(|row| (row["id"].as_str().map_or_else(|| row["id"].as_i64(), |id| id.parse().ok()).unwrap(), row))
        .collect()
}

/// Every cell is a value that its row had under that name, or NULL.
fn made_of_its_own(played: &Played, seen: &Seen, modes: Modes) -> Option<String> {
    if seen.rows.len() != seen.rows.iter().map(|row| row["id"].to_string()).collect::<BTreeSet<_>>().len() {
        return Some("two rows have one key".to_owned());
    }
    for (id, row) in live(seen, modes) {
        if !played.keys.contains(&id) {
            return Some(format!("row {id} never was"));
        }
        for (source, (name, _)) in seen.columns.iter().filter(|(source, _)| *source != "id") {
            let cell = text(&row[name]);
            let ever = played.ever.get(&(id, source.clone()));
            let is_own =
                cell.is_none() || ever.into_iter().flatten().any(|value| is_alike(cell.as_deref(), value.as_deref()));
            if !is_own {
                return Some(format!("row {id} never had {cell:?} in {source} ({name})"));
            }
        }
    }
    None
}

/// What of a final table is not as the source's state.
fn differs(state: &State, seen: &Seen, modes: Modes) -> Option<String> {
    let rows = live(seen, modes);
    let expected: BTreeSet<i64> = state.rows.keys().copied().collect();
    let found: BTreeSet<i64> = rows.keys().copied().collect();
    if expected != found {
        return Some(format!("it has the rows {found:?}, the source {expected:?}"));
    }
    for (place, (name, kind)) in state.columns.iter().enumerate() {
        let Some((column, of_type)) = seen.columns.get(name) else {
            return Some(format!("it has no column for {name} {kind:?}: {:?}", seen.columns));
        };
        for (id, cells) in &state.rows {
            let cell = text(&rows[id][column]);
            let Cell { value, or } = &cells[place];
            let is_right = is_alike(cell.as_deref(), value.as_deref())
                || or.iter().any(|other| is_alike(cell.as_deref(), other.as_deref()));
            if !is_right {
                return Some(format!(
                    "{name} ({column} {of_type}) of row {id} is {cell:?}, at the source {value:?}, or {or:?}"
                ));
            }
        }
    }
    None
}

/// Shrinks one history of a play: all its candidates are played at once. Ends with the budget.
async fn shrink(play: &Play, wrong: &Wrong, level: Level, budget: Duration) -> (History, String) {
    let until = Instant::now() + budget;
    let (mut history, mut what) = (play.histories[wrong.table].clone(), wrong.what.clone());
    while Instant::now() < until {
        let candidates = history.shorter();
        let mut shorter = None;
        for chunk in candidates.chunks(40) {
            let play = Play { histories: chunk.to_vec(), ..play.clone() };
            let (wrong, _) = Box::pin(perform(&play, level)).await;
            if let Some(first) = wrong.into_iter().min_by_key(|wrong| wrong.table) {
                shorter = Some((chunk[first.table].clone(), first.what));
                break;
            }
            if Instant::now() > until {
                break;
            }
        }
        let Some(found) = shorter else { break };
        (history, what) = found;
    }
    (history, what)
}

/// Plays until the time is over or a history is wrong.
///
/// # Panics
/// When one is wrong.
pub async fn run(level: Level, budget: Duration, tables: usize) -> Tally {
    let until = Instant::now() + budget;
    let tables = std::env::var("STRAIT_SCHEDULES_TABLES").map_or(tables, |tables| tables.parse().unwrap());
    let mut seed = super::super::asked_seed().unwrap_or_else(super::super::new_seed);
    let mut tally = Tally::default();
    loop {
        let play = Play::random(seed, tables);
        let begun = Instant::now();
        println!("{level:?} seed {seed}: {:?}", play.modes);
        let (wrong, steps) = Box::pin(perform(&play, level)).await;
        let took = begun.elapsed();
        tally.histories += tables;
        tally.steps += steps;
        tally.wrong += wrong.len();
        println!("  {tables} tables, {steps} records in {:.1} s; {}", took.as_secs_f64(), tally.in_words());
        if let Some(first) = wrong.iter().min_by_key(|wrong| play.histories[wrong.table].ops.len()) {
            for wrong in &wrong {
                println!("  table {}: {}\n    {}", wrong.table, wrong.what, play.histories[wrong.table].in_words());
            }
            println!("  shrinking table {}, for some minutes at most", first.table);
            let budget = super::super::seconds("SHRINK", 120);
            let (short, what) = Box::pin(shrink(&play, first, level, budget)).await;
            panic!("seed {seed}, {:?}: {} of {tables} wrong; {what}\n  {}", play.modes, wrong.len(), short.in_words());
        }
        if super::super::asked_seed().is_some() || Instant::now() + took > until {
            break;
        }
        seed = seed.wrapping_add(1);
    }
    tally
}
