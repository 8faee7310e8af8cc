//! The steps by which a final table follows its source, on a table that is only names and types: which source column's values each of its
//! columns holds of every change is known by following every step and every merge, however many alterations one run finds and wherever it
//! is interrupted. Thousands of histories a second, without any row: a change counts as the last of a row of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use strait::bigquery::table_resource::{Field, Table};
use strait::config::{Deletes, DroppedColumns};
use strait::merge::definition::{ControlRecord, Definitions};
use strait::merge::final_table::{FinalColumn, FinalTable, WithoutSchemaRead, new_table};
use strait::merge::schema_change::{Added, Conversion, Difference, Step, Unfilled, describe_new, difference};
use strait::merge::source_history::SourceHistory;
use strait::names::{SourceTable, TableName};

use super::super::Tally;
use super::super::random::Random;
use super::Modes;
use super::source::{Action, History, MadeBy, Played, Sent};

/// More steps than any difference of so few columns takes.
const STEPS: usize = 60;
/// Between two records, in µs: more than clocks differ, so that a time that is taken too late shows.
const APART_US: i64 = 3_600_000_000;

/// When DMS sent the record of this place.
fn sent_us(place: usize) -> i64 {
    i64::try_from(place).unwrap_or_default() * APART_US
}

/// A change that has arrived.
struct Arrived<'p> {
    place: usize,
    ingested_us: i64,
    /// Names of the source's columns, and which they were.
    columns: Vec<(&'p str, usize)>,
}

/// A final table, and whose values its columns hold.
struct Final {
    table: Table,
    /// By column and the change's place: columns of the source by their number, of which the first that the change has is read.
    cells: BTreeMap<String, BTreeMap<usize, Vec<usize>>>,
    merged: BTreeSet<usize>,
    unfilled: Unfilled,
    /// Members that the merge said the table has no column for.
    said: BTreeSet<String>,
}

impl Final {
    fn field(&mut self, name: &str) -> Result<&mut Field, String> {
        self.table.schema.fields.iter_mut().find(|field| field.name == name).ok_or(format!("there is no column {name}"))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), String> {
        if self.table.schema.fields.iter().any(|field| field.name.eq_ignore_ascii_case(to)) {
            return Err(format!("{from} cannot be renamed: there is a column {to}"));
        }
        self.field(from)?.name = to.to_owned();
        if let Some(cells) = self.cells.remove(from) {
            self.cells.insert(to.to_owned(), cells);
        }
        Ok(())
    }

    fn add(&mut self, added: &Added) -> Result<(), String> {
        if self.table.schema.fields.iter().any(|field| field.name.eq_ignore_ascii_case(&added.column)) {
            return Err(format!("there is a column {} already", added.column));
        }
        self.table
            .schema
            .fields
            .push(Field { description: added.description.clone(), ..added.to.field(&added.column) });
        Ok(())
    }

    /// What BigQuery does.
    fn apply(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Describe { column, description } => self.field(column)?.description = Some(description.clone()),
            Step::Rename { renames, .. } => {
                for (from, to) in renames {
                    self.rename(from, to)?;
                }
            }
            Step::Drop { column } => {
                self.field(column)?;
                self.table.schema.fields.retain(|field| field.name != *column);
                self.cells.remove(column);
            }
            Step::Widen { column, to } => {
                let field = self.field(column)?;
                *field = Field { description: field.description.clone(), ..to.field(column) };
            }
            Step::Add { columns } => {
                for added in columns {
                    self.add(added)?;
                }
            }
            Step::AddCopy { copy, .. } => self.add(copy)?,
            Step::Renew { column, copy, replaced, .. } => {
                self.rename(column, replaced)?;
                self.rename(copy, column)?;
            }
            Step::Replace { conversion: Conversion { column, .. }, copy, replaced } => {
                // The copy is filled from the column.
                let cells = self.cells.get(column).cloned().unwrap_or_default();
                self.cells.insert(copy.clone(), cells);
                self.rename(column, replaced)?;
                self.rename(copy, column)?;
            }
        }
        Ok(())
    }

    /// What the fold and the MERGE do. One that fails may have noted what it had to do, or not.
    fn merge(
        &mut self,
        columns: &[FinalColumn],
        history: &SourceHistory,
        arrived: &[Arrived<'_>],
        fails: Option<bool>,
    ) {
        let before = self.unfilled.clone();
        self.unfilled.meet(columns, Some(history), &WithoutSchemaRead::NotApplied);
        if let Some(is_noted) = fails {
            if !is_noted {
                self.unfilled = before;
            }
            return;
        }
        let from_us = self.unfilled.again_from();
        let mut unknown = BTreeSet::new();
        let mut unknown_since: Option<i64> = None;
        for change in arrived {
            if self.merged.contains(&change.place) && from_us.is_none_or(|from_us| change.ingested_us < from_us) {
                continue;
            }
            self.merged.insert(change.place);
            let mut taken = BTreeSet::new();
            for column in columns {
                let at_its_time = column.names.newest_first().filter(|held| held.is_at(sent_us(change.place)));
                let read = at_its_time.filter_map(|held| change.columns.iter().find(|(name, _)| *name == held.name));
                let read: Vec<(&str, usize)> = read.copied().collect();
                // A former name beside the one of now is another column's.
                let is_now = read.first().is_some_and(|(name, _)| *name == column.member());
                taken.extend(read.iter().take(if is_now { 1 } else { read.len() }).map(|(name, _)| *name));
                let read = read.into_iter().map(|(_, id)| id).collect();
                self.cells.entry(column.name.clone()).or_default().insert(change.place, read);
            }
            let lacking = change.columns.iter().filter(|(name, _)| !taken.contains(name));
            let lacking: Vec<String> = lacking.map(|(name, _)| (*name).to_owned()).collect();
            if !lacking.is_empty() {
                unknown_since = Some(unknown_since.map_or(change.ingested_us, |since| since.min(change.ingested_us)));
                unknown.extend(lacking);
            }
        }
        if from_us.is_some() {
            self.unfilled.merged_again();
        }
        self.said.extend(self.unfilled.note(&unknown, unknown_since, &BTreeSet::new(), None, columns));
        self.unfilled = Unfilled::from_entry(self.unfilled.to_entry().as_deref());
    }
}

/// Plays one history; how many records it has.
///
/// # Errors
/// What was wrong.
pub fn play(history: &History, modes: Modes) -> Result<usize, String> {
    let played = history.played();
    let (name, source) = (
        TableName { dataset: "replica".to_owned(), table: "play_t".to_owned() },
        SourceTable { schema: "play".to_owned(), table: "t".to_owned() },
    );
    let dropped = if modes.drop { DroppedColumns::Drop } else { DroppedColumns::Keep };
    // What is sent again is told by when it was sent first.
    let records: Vec<(usize, &Sent)> = played
        .sent
        .iter()
        .enumerate()
        .filter(|(_, sent)| !sent.told.ends_with("resent") && sent.message.control() != "{}")
        .collect();
    let is_any_lost = history.ops.iter().any(|op| {
        op.on && op.is_lost && !matches!(op.action, Action::Write(_) | Action::Delete(_) | Action::Rekey(..))
    });
    let last_window = records.iter().map(|(_, sent)| sent.window).max().unwrap_or_default();
    let mut random = Random(history.ops.first().map_or(0, |op| op.seed)).split();
    let (mut r#final, mut arrived): (Option<Final>, Vec<Arrived<'_>>) = (None, Vec::new());
    let mut definitions = Definitions::default();
    let mut now_us = 0;
    // Two more, of which nothing is left over.
    for window in 0..=last_window + 2 {
        let wrong = |what: String| format!("after merge {}: {what}", window + 1);
        let new = records.iter().filter(|(_, sent)| sent.window == window);
        let begun_us = now_us;
        for (place, sent) in new {
            let ingested_us = begun_us.max(sent_us(*place)) + 1;
            now_us = now_us.max(ingested_us);
            if !sent.is_control {
                let state = &played.states[sent.state];
                let names = state.columns.iter().map(|(name, _)| name.as_str());
                arrived.push(Arrived {
                    place: *place,
                    ingested_us,
                    columns: names.zip(state.ids.iter().copied()).collect(),
                });
            }
        }
        let is_known = |sent: &Sent| sent.window <= window;
        for (place, sent) in records.iter().filter(|(_, sent)| sent.is_control && sent.window == window) {
            let kafka = ("cdc".to_owned(), 0, i64::try_from(*place).unwrap_or_default());
            let record = ControlRecord::new(sent_us(*place), kafka, sent.message.operation(), sent.message.control());
            definitions.take(record.map_err(|error| error.to_string())?);
        }
        let history = definitions.history().unwrap_or_default();
        let Some(newest) = history.newest() else { continue };
        let table = match &mut r#final {
            Some(table) => table,
            none => {
                let mut table =
                    new_table("p", &name, &source, newest, Deletes::Hard).map_err(|error| error.to_string())?.0;
                describe_new(&mut table, &history);
                none.insert(Final {
                    table,
                    cells: BTreeMap::new(),
                    merged: BTreeSet::new(),
                    unfilled: Unfilled::default(),
                    said: BTreeSet::new(),
                })
            }
        };
        let is_end = window > last_window;
        // It may be interrupted after any step, and the next run finds more.
        let most = if !is_end && random.one_in(4) { random.below(4) } else { STEPS };
        let fails = (!is_end && random.one_in(6)).then(|| random.one_in(2));
        let mut steps = Vec::new();
        let done = loop {
            let difference = difference(&name, &source, &table.table, &history, dropped, &BTreeSet::new());
            let Some(step) = difference.step else { break Some(difference) };
            if steps.len() == STEPS {
                return Err(wrong(format!("no end of {:?}", &steps[STEPS - 6..])));
            }
            if steps.len() == most {
                break None;
            }
            steps.push(step.in_short());
            table.apply(&step).map_err(|error| wrong(format!("{error}: {steps:?}")))?;
        };
        let Some(done) = done else { continue };
        let columns = columns(table, &name, &source).map_err(wrong)?;
        table.merge(&columns, &history, &arrived, fails);
        if fails.is_some() {
            continue;
        }
        let wrong = |what: String| wrong(format!("{what}; steps: {steps:?}; columns: {columns:?}"));
        let last = records.iter().rev().find(|(_, sent)| is_known(sent)).map_or(0, |(place, _)| *place);
        let is_complete = records.iter().all(|(place, sent)| is_known(sent) || *place > last);
        if is_complete {
            check(table, &played, &columns, &done, (last, is_any_lost)).map_err(wrong)?;
        } else {
            check_between(table, &played, &columns).map_err(wrong)?;
        }
    }
    Ok(records.len())
}

/// The columns as a merge takes them: the table says of itself all that it needs.
fn columns(table: &Final, name: &TableName, source: &SourceTable) -> Result<Vec<FinalColumn>, String> {
    let taken = FinalTable::existing(name.clone(), source, &table.table, None, Deletes::Hard);
    Ok(taken.map_err(|error| error.to_string())?.columns)
}

/// While a record is on its way, a column has no value but of columns that had one of its column's names. Of names beside the newest that
/// a change has nothing is read.
fn check_between(table: &Final, played: &Played, columns: &[FinalColumn]) -> Result<(), String> {
    let named = || played.states.iter().flat_map(|state| state.columns.iter().zip(&state.ids));
    let named: BTreeSet<(&str, usize)> = named().map(|((name, _), id)| (name.as_str(), *id)).collect();
    let names_of = |id: usize| named.iter().filter(move |(_, of)| *of == id).map(|(name, _)| *name);
    let had = |name: &str| named.iter().filter(move |(named, _)| *named == name).map(|(_, id)| *id).collect::<Vec<_>>();
    for column in columns {
        let names: BTreeSet<&str> = had(column.member()).into_iter().flat_map(names_of).collect();
        let cells = table.cells.get(&column.name).into_iter().flat_map(BTreeMap::values);
        let mut held = cells.filter_map(|held| held.first().copied());
        if let Some(other) = held.find(|held| !names_of(*held).any(|name| names.contains(name))) {
            return Err(format!(
                "the column {} holds values of {other}, which never had one of its names",
                column.name
            ));
        }
    }
    Ok(())
}

/// Every column of the source is in one that has its values of every change and no other's, or a person is told.
fn check(
    table: &Final,
    played: &Played,
    columns: &[FinalColumn],
    difference: &Difference,
    (last, is_any_lost): (usize, bool),
) -> Result<(), String> {
    let state = &played.states[played.sent[last].state];
    // A load brings what was sent before it anew.
    let loaded = played.sent.iter().take(last + 1).rposition(|sent| sent.message.operation() == "create-table");
    let changes: Vec<(usize, &Sent)> = (played.sent.iter().enumerate().skip(loaded.unwrap_or_default()))
        .filter(|(place, sent)| !sent.is_control && table.merged.contains(place))
        .collect();
    let has = |sent: &Sent, id: usize| played.states[sent.state].ids.contains(&id);
    let is_asked = difference.for_a_person.iter().any(|said| said.contains("which cannot be known"));
    if is_asked && !is_any_lost {
        return Err(format!("a person is asked, and no record is missing: {:?}", difference.for_a_person));
    }
    for ((member, _), id) in state.columns.iter().zip(&state.ids) {
        let mut own = columns.iter().filter(|column| column.member() == member && column.names.now.until_us.is_none());
        let column = match (own.next(), own.next()) {
            (Some(column), None) => column,
            // Nobody can know of it, or it was said.
            (None, None)
                if is_any_lost
                    && (is_asked || table.said.contains(member) || changes.iter().all(|(_, sent)| !has(sent, *id))) =>
            {
                continue;
            }
            _ => return Err(format!("not one column is for {member}")),
        };
        for (place, sent) in &changes {
            let held = table.cells.get(&column.name).and_then(|cells| cells.get(place)).map(Vec::as_slice);
            let own: &[usize] = if has(sent, *id) { std::slice::from_ref(id) } else { &[] };
            let held = held.unwrap_or_default();
            // What may be another column's waits in the log.
            let state = &played.states[sent.state];
            let named = state.ids.iter().zip(&state.columns).find(|(of, _)| *of == id).map(|(_, (name, _))| name);
            let is_waiting = is_any_lost && held.is_empty() && named.is_some_and(|named| table.said.contains(named));
            if held != own && !is_waiting {
                return Err(format!(
                    "the column {} for {member} holds the values of {held:?}, not of {own:?}, of record {place} of {:?}",
                    column.name, played.states[sent.state].columns
                ));
            }
        }
    }
    // What the source has no more is kept as it was.
    for column in columns {
        let cells = table.cells.get(&column.name).into_iter().flatten();
        let held: BTreeSet<&Vec<usize>> = cells
            .filter(|(place, held)| loaded.is_none_or(|loaded| **place > loaded) && !held.is_empty())
            .map(|(_, held)| held)
            .collect();
        if held.len() > 1 {
            return Err(format!("the column {} holds the values of {held:?}", column.name));
        }
    }
    Ok(())
}

/// Plays until the time is over or a history is wrong.
///
/// # Panics
/// When one is wrong.
pub fn run(budget: Duration) -> Tally {
    let until = Instant::now() + budget;
    let mut seed = super::super::asked_seed().unwrap_or_else(super::super::new_seed);
    let mut tally = Tally::default();
    while tally.histories == 0 || Instant::now() < until && super::super::asked_seed().is_none() {
        match play_seed(seed) {
            Ok(steps) => tally.steps += steps,
            Err(text) => panic!("{text}"),
        }
        tally.histories += 1;
        seed = seed.wrapping_add(1);
    }
    tally
}

/// Plays a seed.
///
/// # Errors
/// What was wrong, with the shortest history that is wrong.
pub fn play_seed(seed: u64) -> Result<usize, String> {
    let mut random = Random(seed);
    let modes = Modes { soft: false, unchanged: random.one_in(3), drop: random.one_in(2) };
    let windows = 3 + random.below(4);
    let mut history = History::random(&mut random, windows, modes);
    (history.made_by, history.has_details) = (MadeBy::Strait, true);
    let mut what = match play(&history, modes) {
        Ok(records) => return Ok(records),
        Err(what) => what,
    };
    while let Some((shorter, why)) =
        history.shorter().into_iter().find_map(|shorter| play(&shorter, modes).err().map(|why| (shorter, why)))
    {
        (history, what) = (shorter, why);
    }
    Err(format!("seed {seed}, {modes:?}: {what}\n  {}", history.in_words()))
}
