//! The steps by which a final table follows its source, on a table that is only names and types: which source column's values each of its
//! columns holds is known by following every step, however many alterations one run finds and wherever it is interrupted. Thousands of
//! histories a second, without any row.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use strait::bigquery::table_resource::{Field, Table};
use strait::config::{Deletes, DroppedColumns};
use strait::merge::definition::{ControlRecord, Definitions};
use strait::merge::final_table::{FinalColumn, FinalTable, new_table};
use strait::merge::schema_change::{Added, Conversion, Difference, Step, describe_new, difference};
use strait::merge::source_history::SourceHistory;
use strait::names::{SourceTable, TableName, source_column};

use super::super::Tally;
use super::super::random::Random;
use super::Modes;
use super::source::{Action, History, MadeBy, Sent, State};

/// More steps than any difference of so few columns takes.
const STEPS: usize = 60;

/// A final table, and whose values its columns hold: columns of the source by their number.
struct Final {
    table: Table,
    holds: BTreeMap<String, usize>,
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
        if let Some(held) = self.holds.remove(from) {
            self.holds.insert(to.to_owned(), held);
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

    /// What BigQuery does. `now` are the source's columns by their names.
    fn apply(&mut self, step: &Step, now: &BTreeMap<String, usize>) -> Result<(), String> {
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
                self.holds.remove(column);
            }
            Step::Widen { column, to } => {
                let field = self.field(column)?;
                *field = Field { description: field.description.clone(), ..to.field(column) };
            }
            Step::Add { columns } => {
                for added in columns {
                    self.add(added)?;
                    let source = added.description.as_deref().and_then(source_column);
                    if let Some(id) = now.get(source.as_ref().unwrap_or(&added.column)) {
                        self.holds.insert(added.column.clone(), *id);
                    }
                }
            }
            Step::AddCopy { copy, .. } => self.add(copy)?,
            Step::Renew { column, copy, replaced, description } => {
                self.rename(column, replaced)?;
                self.rename(copy, column)?;
                // It is filled from the log with what was sent since.
                if let Some(id) = source_column(description).and_then(|source| now.get(&source)) {
                    self.holds.insert(column.clone(), *id);
                }
            }
            Step::Replace { conversion: Conversion { column, .. }, copy, replaced } => {
                // The copy is filled from the column.
                if let Some(held) = self.holds.get(column).copied() {
                    self.holds.insert(copy.clone(), held);
                }
                self.rename(column, replaced)?;
                self.rename(copy, column)?;
            }
        }
        Ok(())
    }
}

/// Plays one history; what was wrong.
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
    let mut controls: Vec<_> =
        played.sent.iter().filter(|sent| sent.is_control && sent.message.control() != "{}").collect();
    controls.sort_by_key(|sent| sent.window);
    // What a run knows is in the order in which DMS sent it.
    let order = |sent: &Sent| played.sent.iter().position(|other| std::ptr::eq(other, sent));
    let windows: BTreeSet<usize> = controls.iter().map(|sent| sent.window).collect();
    let is_any_lost = history.ops.iter().any(|op| {
        op.on && op.is_lost && !matches!(op.action, Action::Write(_) | Action::Delete(_) | Action::Rekey(..))
    });
    let mut r#final: Option<Final> = None;
    let mut random = Random(history.ops.first().map_or(0, |op| op.seed)).split();
    for window in windows {
        let mut known: Vec<_> = controls.iter().filter(|sent| sent.window <= window).collect();
        known.sort_by_key(|sent| order(sent));
        let mut definitions = Definitions::default();
        for sent in &known {
            let place = order(sent).and_then(|place| i64::try_from(place).ok()).unwrap_or_default();
            let kafka = ("cdc".to_owned(), 0, place);
            let record = ControlRecord::new(place * 10, kafka, sent.message.operation(), sent.message.control());
            definitions.take(record.map_err(|error| error.to_string())?);
        }
        let history = definitions.history().unwrap_or_default();
        let (Some(newest), Some(last)) = (history.newest(), known.last()) else { continue };
        let state = &played.states[last.state];
        let now: BTreeMap<String, usize> =
            state.columns.iter().map(|(name, _)| name.clone()).zip(state.ids.iter().copied()).collect();
        let table = match &mut r#final {
            Some(table) => table,
            none => {
                let mut table =
                    new_table("p", &name, &source, newest, Deletes::Hard).map_err(|error| error.to_string())?.0;
                describe_new(&mut table, &history);
                let existing = FinalTable::existing(name.clone(), &source, &table, Some(newest), Deletes::Hard);
                let columns = existing.map_err(|error| error.to_string())?.columns;
                let holds = columns.iter().filter_map(|column| Some((column.name.clone(), *now.get(column.member())?)));
                none.insert(Final { holds: holds.collect(), table })
            }
        };
        // It may be interrupted after any step, and the next run finds more.
        let most = if random.one_in(4) { random.below(4) } else { STEPS };
        let mut taken = Vec::new();
        let done = loop {
            let difference = difference(&name, &source, &table.table, &history, dropped, &BTreeSet::new());
            let Some(step) = difference.step else { break Some(difference) };
            if taken.len() == STEPS {
                return Err(format!("after the records of merge {}: no end of {:?}", window + 1, &taken[STEPS - 6..]));
            }
            if taken.len() == most {
                break None;
            }
            taken.push(step.in_short());
            table
                .apply(&step, &now)
                .map_err(|error| format!("after the records of merge {}: {error}: {taken:?}", window + 1))?;
        };
        let is_altered_before = |sent: &Sent| {
            let altered = known.iter().filter(|other| other.message.operation() != "create-table");
            altered.into_iter().any(|other| order(other) < order(sent))
        };
        let is_new_load = |sent: &Sent| sent.window == window && sent.message.operation() == "create-table";
        if known.iter().any(|sent| is_new_load(sent) && is_altered_before(sent)) {
            // A load brings every value.
            for column in columns(table, &history, (&name, &source))? {
                table.holds.extend(now.get(column.member()).map(|id| (column.name.clone(), *id)));
            }
        }
        if let Some(done) = done {
            let wrong = |what: String| format!("after the records of merge {}: {what}; steps: {taken:?}", window + 1);
            let taken = columns(table, &history, (&name, &source)).map_err(wrong)?;
            let last_place = order(last).unwrap_or_default();
            let is_known = |sent: &&Sent| known.iter().any(|known| std::ptr::eq(**known, *sent));
            let is_prefix = controls.iter().all(|sent| order(sent) > Some(last_place) || is_known(sent));
            // Of a name that went and came between two records nothing tells until the records do.
            let was_named = |id: usize, name: &str| {
                played.states.iter().any(|state| {
                    state.ids.iter().zip(&state.columns).any(|(of, (named, _))| *of == id && named == name)
                })
            };
            let may_hold = |held: usize, name: &str| {
                let now = now.get(name).copied();
                !is_prefix
                    && played
                        .states
                        .iter()
                        .flat_map(|state| &state.columns)
                        .any(|(shared, _)| was_named(held, shared) && now.is_some_and(|now| was_named(now, shared)))
            };
            // A record may be taken for one that is sent again, as long as another is missing: then the merge says what has no column.
            let may_lack = |name: &str| (!is_prefix || is_any_lost) && history.had(name);
            check(table, &taken, &now, &done, (&may_hold, &may_lack)).map_err(wrong)?;
            // Only what all records before it say can be told by when it was sent.
            let is_whole = !is_any_lost && is_prefix;
            if is_whole && done.for_a_person.is_empty() {
                // A load brings what was sent before it anew.
                let loaded = known.iter().rfind(|sent| sent.message.operation() == "create-table");
                let since = loaded.and_then(|sent| order(sent)).unwrap_or_default();
                for (place, sent) in played.sent.iter().enumerate().take(last_place).skip(since) {
                    // What is sent again is told by when it was sent first.
                    if !sent.is_control && !sent.told.ends_with("resent") {
                        let sent_us = i64::try_from(place).unwrap_or_default() * 10;
                        check_reading(&taken, &played.states[sent.state], sent_us, &now).map_err(wrong)?;
                    }
                }
            }
        }
    }
    Ok(controls.len())
}

fn columns(
    table: &Final,
    history: &SourceHistory,
    (name, source): (&TableName, &SourceTable),
) -> Result<Vec<FinalColumn>, String> {
    let taken = FinalTable::existing(name.clone(), source, &table.table, history.newest(), Deletes::Hard);
    let mut columns = taken.map_err(|error| error.to_string())?.columns;
    // What is not added yet is not there.
    columns.retain(|column| table.table.schema.fields.iter().any(|field| field.name == column.name));
    Ok(columns)
}

/// Whether a column, by its place, may hold what was another's under this name.
type MayHold<'f> = &'f dyn Fn(usize, &str) -> bool;
/// Whether a column of this name may be missing.
type MayLack<'f> = &'f dyn Fn(&str) -> bool;

/// Every column of the source is in one that has its values, or a person is told that it cannot be known which.
fn check(
    table: &Final,
    taken: &[FinalColumn],
    now: &BTreeMap<String, usize>,
    difference: &Difference,
    (may_hold, may_lack): (MayHold<'_>, MayLack<'_>),
) -> Result<(), String> {
    for (member, id) in now {
        let mut columns =
            taken.iter().filter(|column| column.member() == member && column.names.now.until_us.is_none());
        let column = match (columns.next(), columns.next()) {
            (Some(column), None) => column,
            (None, None) if difference.for_a_person.iter().any(|said| said.contains("which cannot be known")) => {
                continue;
            }
            (None, None) if may_lack(member) => continue,
            _ => return Err(format!("not one column of {taken:?} is for {member}")),
        };
        let held = table.holds.get(&column.name);
        if held != Some(id) && !held.is_some_and(|held| may_hold(*held, member)) {
            return Err(format!("the column {} for {member} holds the values of {held:?}, not of {id}", column.name));
        }
    }
    Ok(())
}

/// A record of this state that was sent at this time is read as what it tells of.
fn check_reading(
    taken: &[FinalColumn],
    state: &State,
    sent_us: i64,
    now: &BTreeMap<String, usize>,
) -> Result<(), String> {
    for column in taken {
        let Some(id) = now.get(column.member()) else { continue };
        let read: Vec<&str> = column
            .names
            .newest_first()
            .filter(|held| held.is_at(sent_us))
            .map(|held| held.name.as_str())
            .filter(|name| state.columns.iter().any(|(member, _)| member == name))
            .collect();
        let own = state.ids.iter().position(|of| of == id).map(|place| state.columns[place].0.as_str());
        if read.first().copied() != own {
            return Err(format!(
                "{column:?} reads {read:?} of a record of {sent_us} of {:?}, not {own:?}",
                state.columns
            ));
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
