//! What has to be true of a final table after a merge. It is derived from the source's history and from what has been delivered of it,
//! never from how a merge works.
//!
//! - Each row is a state that the source's row had. (Where absent means unchanged and records are missing in between, each value is one
//!   that the row's column had: the record that would tell the rest has not come.)
//! - A row that is marked as deleted is of a key that existed.
//! - Once the records of a key that have been delivered are the beginning of its history, the row is as it was then. All records
//!   delivered is the longest such beginning.
//! - A row that the source never lost does not vanish again. That is not asked for of a table that is loaded anew, once a record has come that it was
//!   emptied: one that is late hides the rows of a load of which the `create-table` record has not come, until it has or they are loaded again.
//! - Of a row of which a record is in quarantine, because the log no longer says what became of it, nothing is guessed: it is as it should be,
//!   or not there, or marked as deleted.
//! - After a reload and the changes behind it, all of the table equals the source; unless a person was told that it began too long ago to count.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::history::{History, Origin, Timeline, Told};
use super::source::{COLUMNS, Cell, Change, KEYS, Key, Operation, Row, Rows, SENTINEL, Truth};

/// What a final table holds of one history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observed {
    pub rows: Rows,
    /// Marked as deleted, by key.
    pub marked: [bool; KEYS],
}

/// Follows one history through its merges.
#[derive(Debug)]
pub struct Oracle<'h> {
    history: &'h History,
    has_reloads: bool,
    truth: Truth,
    delivered: Vec<bool>,
    /// Transactions at whose beginning the table was emptied, as far as that was delivered.
    emptied: BTreeSet<u32>,
    was_seen: [bool; KEYS],
    /// What the source never lost once it had it.
    is_kept: [bool; KEYS],
    /// Where the last whole load began to read.
    last_load: usize,
    /// Keys of which a record is in quarantine because the log has forgotten what followed it.
    pub unsure: BTreeSet<Key>,
    /// The same, where images may be partial: the row stays in a state that it had.
    pub held: BTreeSet<Key>,
    /// A load began before what the log has forgotten, and a person was told that it does not count.
    pub is_forgotten: bool,
}

impl<'h> Oracle<'h> {
    pub fn new(history: &'h History, timeline: &Timeline) -> Self {
        let truth = history.truth();
        let is_kept = std::array::from_fn(|key| {
            let mut first = truth.actual.iter().skip_while(|rows| rows[key].is_none());
            first.all(|rows| rows[key].is_some())
        });
        let last = timeline.phases.last().map_or(0, |phase| phase.from.max(1));
        let last_load = history.steps.iter().position(|step| step.transaction >= last).unwrap_or(history.steps.len());
        Self {
            history,
            has_reloads: timeline.has_reloads(),
            delivered: vec![false; history.sendings.len()],
            emptied: BTreeSet::new(),
            was_seen: [false; KEYS],
            is_kept,
            last_load,
            unsure: BTreeSet::new(),
            held: BTreeSet::new(),
            is_forgotten: false,
            truth,
        }
    }

    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// A record is in the log and visible.
    pub fn deliver(&mut self, sending: usize) {
        self.delivered[sending] = true;
    }

    /// A control record is in the log.
    pub fn deliver_control(&mut self, told: Told) {
        if let Told::Truncate(transaction) = told {
            self.emptied.insert(transaction);
        }
    }

    /// The rows once everything has come.
    pub fn at_the_end(&self) -> Rows {
        self.truth.readable(if self.has_reloads { self.last_load } else { 0 }, self.history.steps.len())
    }

    /// After a merge. `is_end`: everything has been delivered and merged, and a reload is known to be complete.
    pub fn check(&mut self, observed: &Observed, is_end: bool) -> Result<(), String> {
        for key in 0..KEYS {
            self.check_key(key as Key, observed, is_end).map_err(|what| format!("{}: {what}", key_name(key as Key)))?;
        }
        Ok(())
    }

    fn check_key(&mut self, key: Key, observed: &Observed, is_end: bool) -> Result<(), String> {
        let place = usize::from(key);
        let (row, marked) = (observed.rows[place], observed.marked[place]);
        if marked && row.is_some() {
            return Err("there is a row and a mark".to_owned());
        }
        if marked && !self.truth.existed(key) {
            return Err("marked as deleted, and never was there".to_owned());
        }
        if let Some(row) = row
            && !self.is_state(place, &row)
        {
            return Err(format!("{} is no state that the source's row had", row_name(&row)));
        }
        let is_unsure = row.is_none() && self.unsure.contains(&key) || self.held.contains(&key);
        if is_unsure || self.is_forgotten && self.has_reloads {
            return Ok(());
        }
        if is_end && self.has_reloads {
            let expected = self.at_the_end()[place];
            // A row whose key became NULL stays as it was, unless a load that read it afterwards swept it.
            let has_left = self.truth.actual.last().is_some_and(|rows| rows[place].is_none());
            // What a partial image of it left out may have been told by records that the reload made up for, and it is not loaded.
            let is_left_over = has_left && (row.is_none() || expected.is_some() && self.history.modes.unchanged);
            if row != expected && !is_left_over {
                return Err(format!("{} and should be {}", found(row), found(expected)));
            }
        } else if !self.has_reloads
            && let Some(expected) = self.expected(key)
        {
            let (expected, was_there) = expected;
            if row != expected {
                return Err(format!("{} and should be {}", found(row), found(expected)));
            }
            if self.history.modes.soft && expected.is_none() && was_there && !marked {
                return Err("the row is not marked as deleted, it is not there at all".to_owned());
            }
        }
        // A key with NULL takes a row's changes out of sight, so that one that is there may be older than a reload's.
        if row.is_some() {
            self.was_seen[place] = true;
        } else if self.was_seen[place] && self.is_kept[place] && (self.emptied.is_empty() || !self.has_reloads) {
            return Err("the row vanished, and the source never lost it".to_owned());
        }
        Ok(())
    }

    fn is_state(&self, key: usize, row: &Row) -> bool {
        let states = &self.truth.states[key];
        if self.history.modes.unchanged {
            return (0..COLUMNS).all(|column| states.iter().any(|state| state[column] == row[column]));
        }
        states.contains(row)
    }

    /// The row of a key if what has been delivered of it is a beginning of its history, and whether a whole image of it was delivered.
    fn expected(&self, key: Key) -> Option<(Option<Row>, bool)> {
        let mut changes: Vec<usize> = Vec::new();
        let mut load = None;
        for (place, sending) in self.history.sendings.iter().enumerate() {
            match sending.origin {
                Origin::Load { key: of, read, .. } if of == key && self.history.is_sent(&self.truth, place) => {
                    load = Some((read, self.delivered[place]));
                }
                Origin::Change(step) if self.delivered[place] => changes.push(step),
                _ => {}
            }
        }
        if self.truth.kind.is_null(key) {
            return Some((None, false));
        }
        let is_told =
            |step: &usize| self.truth.emptied[*step] && self.emptied.contains(&self.history.steps[*step].transaction);
        changes.extend((0..self.history.steps.len()).filter(is_told));
        let is_initial = |step: usize| self.history.steps[step].transaction == 0;
        let all: Vec<usize> = self.truth.touching(key).filter(|step| !is_initial(*step)).collect();
        let told = all.iter().take_while(|step| changes.contains(*step)).count();
        if all.iter().skip(told).any(|step| changes.contains(step)) {
            return None;
        }
        let read = match load {
            Some((_, false)) => return if told == 0 { Some((None, false)) } else { None },
            Some((read, true)) => Some(read),
            None => None,
        };
        let after = match told.checked_sub(1) {
            None => match read {
                Some(read) => return Some((self.truth.actual[read][usize::from(key)], false)),
                // Not loaded, not told of.
                None => return Some((None, false)),
            },
            Some(last) => all[last],
        };
        // The load read a later state, which a change that was sent since may have put back: it comes to it again.
        if read.is_some_and(|read| after + 1 < read && all.get(told).is_some_and(|next| *next < read)) {
            return None;
        }
        let is_whole = |step: &usize| {
            let change = self.truth.changes[*step].as_ref();
            change.is_some_and(|change| {
                change.key == key && (change.operation == Operation::Insert || change.old.is_some())
            })
        };
        let was_told = read.is_some() || all[..told].iter().any(is_whole);
        if self.history.modes.unchanged && !was_told {
            // It was gone when its turn to be loaded came, so a partial image of it is all that there is for a while.
            return None;
        }
        Some((self.truth.readable(0, after + 1)[usize::from(key)], was_told))
    }
}

fn found(row: Option<Row>) -> String {
    row.map_or_else(|| "no row".to_owned(), |row| row_name(&row))
}

fn row_name(row: &Row) -> String {
    let values: Vec<String> =
        row.iter().map(|value| value.map_or_else(|| "NULL".to_owned(), |value| value.to_string())).collect();
    format!("({})", values.join(","))
}

/// A key as histories are printed.
pub fn key_name(key: Key) -> String {
    match key {
        SENTINEL.. => format!("s{}", key - SENTINEL),
        _ => key.to_string(),
    }
}

/// A history in the way of the cases: `I(1,a)@10, U(1,b)@11 | D(1)@12`. `|` is a merge. Behind a record: `p1` its partition, `*` the
/// same record delivered again, `+` sent again by a task that was started anew, `~` a higher position arrived before it, `?` not yet
/// visible to the merge behind it.
pub fn in_words(history: &History, timeline: &Timeline) -> String {
    let truth = history.truth();
    let mut text = format!(
        "{:?} {:?} {} absent={}: ",
        history.kind,
        history.engine,
        if history.modes.soft { "soft" } else { "hard" },
        if history.modes.unchanged { "unchanged" } else { "null" }
    );
    let mut arrived = vec![false; history.sendings.len()];
    let mut highest = (0, 0, 0);
    for (number, window) in history.windows.iter().enumerate() {
        if number > 0 {
            text.push_str(" | ");
        }
        let mut words = Vec::new();
        for control in timeline.controls.iter().filter(|control| control.window == number) {
            let (emission_us, partition) = (control.emission_us, control.partition);
            match control.told {
                Told::Truncate(transaction) => words.push(format!("truncate@{transaction}")),
                Told::Create if timeline.has_reloads() => words.push(format!("create@e{emission_us}p{partition}")),
                Told::Drop if timeline.has_reloads() => words.push(format!("drop@e{emission_us}p{partition}")),
                Told::Create | Told::Drop => {}
            }
        }
        for arrival in window.iter().filter(|arrival| history.is_sent(&truth, arrival.sending)) {
            let sending = history.sendings[arrival.sending];
            let (mut word, position) = match sending.origin {
                Origin::Load { key, read, phase } => {
                    let row = truth.actual[read][usize::from(key)].unwrap_or_default();
                    let row = image_name(&row.map(|value| value.map_or(Cell::Null, Cell::Value)));
                    (format!("L({},{row})@load{phase}", key_name(key)), (phase, 0, 0))
                }
                Origin::Change(_) => match history.change(&truth, arrival.sending) {
                    Some(change) => {
                        let position = (usize::MAX, change.transaction, change.record);
                        (change_name(&change), position)
                    }
                    None => continue,
                },
            };
            if timeline.has_reloads() {
                let _ = write!(word, "e{}", sending.emission_us);
            }
            if sending.partition > 0 {
                word.push_str("p1");
            }
            if std::mem::replace(&mut arrived[arrival.sending], true) {
                word.push('*');
            }
            if sending.again {
                word.push('+');
            }
            if position < highest {
                word.push('~');
            }
            if arrival.delayed {
                word.push('?');
            }
            highest = highest.max(position);
            words.push(word);
        }
        text.push_str(&words.join(", "));
    }
    text
}

fn image_name(image: &[Cell; COLUMNS]) -> String {
    let cells: Vec<String> = image
        .iter()
        .map(|cell| match cell {
            Cell::Value(value) => value.to_string(),
            Cell::Null => "NULL".to_owned(),
            Cell::Absent => "-".to_owned(),
        })
        .collect();
    cells.join(",")
}

fn change_name(change: &Change) -> String {
    let at = if change.record > 1 {
        format!("{}.{}", change.transaction, change.record)
    } else {
        change.transaction.to_string()
    };
    let (key, image) = (key_name(change.key), image_name(&change.image));
    match (change.operation, change.old) {
        (Operation::Insert | Operation::Load, _) => format!("I({key},{image})@{at}"),
        (Operation::Update, None) => format!("U({key},{image})@{at}"),
        (Operation::Update, Some(old)) => format!("U({}→{key},{image})@{at}", key_name(old)),
        (Operation::Delete, _) => format!("D({key})@{at}"),
    }
}

/// How many operations a history has: rows that are there at the start, and changes.
pub fn operations(history: &History) -> usize {
    history.truth().changes.iter().flatten().filter(|change| change.key < SENTINEL).count()
}
