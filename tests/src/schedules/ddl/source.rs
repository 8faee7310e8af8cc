//! A source table that is altered while rows are written: the operations, what they come to, and what DMS sends of them. The truth is
//! here: rows hold values by column, not by name, so that a rename moves nothing and a name that is used again takes nothing with it. It
//! must never ask the merge's code what a column or a value becomes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::super::random::Random;
use crate::history::{Message, Table};

/// Names that columns may have: plain ones first, those that BigQuery does not take as they are behind.
pub const NAMES: [&str; 22] = [
    "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9", "d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7",
    "select", "order", "a.b", "이름",
];
/// Of them, those that a person's `CREATE TABLE` can have.
pub const PLAIN_NAMES: usize = 18;
/// Keys that rows have.
pub const KEYS: i64 = 5;

/// A column's type at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Int,
    Text,
    Double,
    Numeric,
    Wide,
    Date,
    DateTime,
    Bool,
}

impl Kind {
    pub const NEW: [Self; 7] =
        [Self::Int, Self::Text, Self::Double, Self::Numeric, Self::Date, Self::DateTime, Self::Bool];

    /// The type of its column in BigQuery, as the documentation of types says.
    pub fn in_bigquery(self) -> &'static str {
        match self {
            Self::Int => "INT64",
            Self::Text => "STRING",
            Self::Double => "FLOAT64",
            Self::Numeric => "NUMERIC(8, 2)",
            Self::Wide => "NUMERIC(12, 4)",
            Self::Date => "DATE",
            Self::DateTime => "DATETIME",
            Self::Bool => "BOOL",
        }
    }

    fn add_to(self, table: Table, name: &str) -> Table {
        match self {
            Self::Int => table.column(name, "INT32"),
            Self::Text => table.column(name, "WSTRING"),
            Self::Double => table.column(name, "DOUBLE"),
            Self::Numeric => table.numeric(name, 8, 2),
            Self::Wide => table.numeric(name, 12, 4),
            Self::Date => table.column(name, "DATE32"),
            Self::DateTime => table.column(name, "DATETIME"),
            Self::Bool => table.column(name, "BOOL"),
        }
    }

    /// What a value of another type becomes when the source makes the column this; `None`: the source refuses.
    fn convert(self, from: Self, value: &str) -> Option<String> {
        Some(match (from, self) {
            (Self::Bool, Self::Int) => if value == "true" { "1" } else { "0" }.to_owned(),
            (Self::Text, Self::Int) => value.parse::<i64>().ok()?.to_string(),
            (Self::Date, Self::DateTime) => format!("{value}T00:00:00"),
            _ => value.to_owned(),
        })
    }

    /// What the docs say becomes of a column by itself.
    fn may_become(self) -> &'static [Self] {
        match self {
            Self::Int => &[Self::Text, Self::Double, Self::Numeric],
            Self::Text => &[Self::Int],
            Self::Numeric => &[Self::Wide],
            Self::Date => &[Self::Text, Self::DateTime],
            Self::Bool => &[Self::Int],
            Self::Double | Self::Wide | Self::DateTime => &[],
        }
    }

    fn draw(self, random: &mut Random) -> String {
        let number = random.below(900) + 2;
        match self {
            Self::Int => number.to_string(),
            Self::Text if random.one_in(2) => format!("t{number}"),
            Self::Text => number.to_string(),
            Self::Double if random.one_in(2) => format!("{number}.5"),
            Self::Double => number.to_string(),
            Self::Numeric => format!("{number}.{:02}", random.below(100)),
            Self::Wide => format!("{number}.{:04}", random.below(10_000)),
            Self::Date => format!("2024-0{}-{:02}", 1 + random.below(9), 1 + random.below(28)),
            Self::DateTime => {
                format!("2024-0{}-{:02}T{:02}:30:00", 1 + random.below(9), 1 + random.below(28), random.below(24))
            }
            Self::Bool => random.one_in(2).to_string(),
        }
    }

    /// As it stands in an image. The text of a number is its own.
    fn in_image(self, value: &str) -> Value {
        match self {
            Self::Text | Self::Date => json!(value),
            Self::DateTime => json!(format!("{value}Z")),
            Self::Int | Self::Double | Self::Numeric | Self::Wide | Self::Bool => serde_json::from_str(value).unwrap(),
        }
    }
}

/// What happens at the source. Columns are told apart by the number of the operation that made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// An insert or an update.
    Write(i64),
    Delete(i64),
    Rekey(i64, i64),
    Add {
        name: usize,
        kind: Kind,
    },
    Drop(usize),
    Rename {
        column: usize,
        name: usize,
    },
    Retype {
        column: usize,
        kind: Kind,
    },
    /// A full load; the first makes the table. One that is broken off is begun again at once.
    Load {
        is_broken_off: bool,
    },
}

/// An operation and what becomes of the records that tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    pub on: bool,
    /// What it writes.
    pub seed: u64,
    pub action: Action,
    /// The merge before which its records arrive.
    pub window: usize,
    /// The same of control records, which come by another partition.
    pub control: usize,
    /// And before which they arrive again.
    pub again: Option<usize>,
    /// DMS sends it once more, as another record, which arrives before this merge.
    pub resent: Option<usize>,
    /// The record of an alteration never comes, or that of a change, because the task was down before a reload.
    pub is_lost: bool,
    /// When a person alters likewise a table that a person made.
    pub person: usize,
}

/// Who made the final table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MadeBy {
    Strait,
    Person,
}

/// A table's history with its delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    pub is_postgresql: bool,
    pub made_by: MadeBy,
    /// Images of updates may lack columns: STRAIT_ABSENT_COLUMNS=unchanged.
    pub is_partial: bool,
    /// DMS sends control records with details (IncludeControlDetails).
    pub has_details: bool,
    pub ops: Vec<Op>,
    /// Before this merge, so many statements that write to the final table go through, and the next fails: in effect or not.
    pub fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub window: usize,
    pub skip: usize,
    pub is_in_effect: bool,
    /// The merge is run again at once.
    pub again_at_once: bool,
}

/// A record on its way.
#[derive(Debug, Clone)]
pub struct Sent {
    pub message: Message,
    /// Of which operation.
    pub op: usize,
    pub is_control: bool,
    pub window: usize,
    pub again: Option<usize>,
    /// Whether the final table equals `state` once this and all before it is merged.
    pub is_whole: bool,
    /// The source's state after it.
    pub state: usize,
    pub told: String,
}

/// A value that the final table is to have, and what else it may have where the docs say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    pub value: Option<String>,
    pub or: BTreeSet<Option<String>>,
}

/// The source's table at a time.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub columns: Vec<(String, Kind)>,
    /// The columns' numbers.
    pub ids: Vec<usize>,
    pub rows: BTreeMap<i64, Vec<Cell>>,
}

#[derive(Debug, Clone)]
struct Column {
    id: usize,
    name: &'static str,
    kind: Kind,
    was: BTreeSet<Kind>,
}

/// A statement by which a person alters a table, with `{table}` for its name, and when.
#[derive(Debug, Clone)]
pub struct ByHand {
    /// The operation that it follows.
    pub op: usize,
    pub window: usize,
    pub sql: Vec<String>,
}

/// What a history comes to.
#[derive(Debug, Clone, Default)]
pub struct Played {
    pub sent: Vec<Sent>,
    pub states: Vec<State>,
    /// What a row's column of a name ever held, by key and name.
    pub ever: BTreeMap<(i64, String), BTreeSet<Option<String>>>,
    /// Keys that ever had a row.
    pub keys: BTreeSet<i64>,
    /// What a person does with a table of his own.
    pub by_hand: Vec<ByHand>,
    /// The statement that makes the table by hand.
    pub create_by_hand: String,
    pub has_reload: bool,
    /// The record of the last alteration was lost: a person has to add its column.
    pub is_end_unknown: bool,
    /// The operations that did anything.
    pub done: BTreeSet<usize>,
}

/// The source as it goes.
pub struct Source<'h> {
    history: &'h History,
    columns: Vec<Column>,
    rows: BTreeMap<i64, BTreeMap<usize, Option<String>>>,
    /// What a cell may hold beside its value until it is written: the name was another column's before.
    stale: BTreeMap<(i64, usize), BTreeSet<Option<String>>>,
    /// Names that columns had when they were dropped.
    dropped_names: BTreeSet<&'static str>,
    definitions: Vec<Vec<(usize, &'static str)>>,
    /// The type that the last column of a name had.
    kinds: BTreeMap<&'static str, Kind>,
    named: BTreeSet<(usize, &'static str)>,
    ever: BTreeMap<(i64, usize), BTreeSet<Option<String>>>,
    is_made: bool,
    position: u32,
    /// What DMS sends once more, after so many other changes.
    resent: Vec<(usize, Sent)>,
    /// Changes since the last load were never sent.
    has_unsent: bool,
    /// Records of alterations were lost since the last load: what went and what came cannot be told in every case, and a person is asked.
    has_untold: bool,
    /// One of them was that of a drop.
    has_untold_drop: bool,
    pub played: Played,
}

fn retyped(kind: Kind, value: &Option<String>, from: Kind) -> Option<Option<String>> {
    match value {
        None => Some(None),
        Some(value) => kind.convert(from, value).map(Some),
    }
}

impl<'h> Source<'h> {
    /// A table with its first columns, before it is loaded.
    pub fn new(history: &'h History, first: &[(usize, usize, Kind)]) -> Self {
        let columns = first
            .iter()
            .map(|(id, name, kind)| Column { id: *id, name: NAMES[*name], kind: *kind, was: [*kind].into() })
            .collect();
        let mut source = Self {
            history,
            columns,
            rows: BTreeMap::new(),
            stale: BTreeMap::new(),
            dropped_names: BTreeSet::new(),
            definitions: Vec::new(),
            kinds: BTreeMap::new(),
            named: BTreeSet::new(),
            ever: BTreeMap::new(),
            is_made: false,
            position: 0,
            resent: Vec::new(),
            has_unsent: false,
            has_untold: false,
            has_untold_drop: false,
            played: Played::default(),
        };
        source.defined();
        let columns: Vec<String> =
            source.columns.iter().map(|column| format!(", `{}` {}", column.name, column.kind.in_bigquery())).collect();
        source.played.create_by_hand =
            format!("CREATE TABLE {{table}} (id INT64 NOT NULL{}, PRIMARY KEY (id) NOT ENFORCED)", columns.concat());
        source
    }

    fn defined(&mut self) {
        self.definitions.push(self.columns.iter().map(|column| (column.id, column.name)).collect());
        self.kinds.extend(self.columns.iter().map(|column| (column.name, column.kind)));
        self.named.extend(self.columns.iter().map(|column| (column.id, column.name)));
    }

    fn table(&self) -> Table {
        let table = Table::new("play", "t").column("id", "INT64");
        self.columns.iter().fold(table, |table, column| column.kind.add_to(table, column.name)).key(&["id"])
    }

    pub fn columns(&self) -> impl Iterator<Item = (usize, &'static str, Kind)> {
        self.columns.iter().map(|column| (column.id, column.name, column.kind))
    }

    pub fn has_row(&self, id: i64) -> bool {
        self.rows.contains_key(&id)
    }

    /// Names that were a column's once and are none's now.
    pub fn former_names(&self) -> BTreeSet<&'static str> {
        let now: BTreeSet<&str> = self.columns.iter().map(|column| column.name).collect();
        self.named.iter().map(|(_, name)| *name).filter(|name| !now.contains(name)).collect()
    }

    /// Whether control records tell what is altered.
    pub fn is_told(&self) -> bool {
        self.history.has_details
    }

    /// Whether a column ever had the name.
    pub fn was_named(&self, name: &str) -> bool {
        self.named.iter().any(|(_, named)| *named == name)
    }

    /// What a column may be made.
    pub fn retypes(&self, column: usize) -> Vec<Kind> {
        let column = self.columns.iter().find(|of| of.id == column);
        let kinds =
            column.into_iter().flat_map(|column| column.kind.may_become().iter().map(move |kind| (column, *kind)));
        kinds.filter(|(column, kind)| self.may_be_retyped(column, *kind)).map(|(_, kind)| kind).collect()
    }

    /// The type of a column that is added: of a name that was used before, one that the column of that name can hold.
    pub fn kind_for(&self, name: &str, random: &mut Random) -> Kind {
        let is_by_hand = self.history.made_by == MadeBy::Person;
        let Some(kind) = self.kinds.get(name).filter(|_| is_by_hand && self.dropped_names.contains(name)) else {
            return random.pick(&Kind::NEW);
        };
        let others = match kind {
            Kind::Int => &[Kind::Int, Kind::Text, Kind::Double][..],
            Kind::Date => &[Kind::Date, Kind::Text],
            other => std::slice::from_ref(other),
        };
        random.pick(others)
    }

    fn is_used(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name == name)
    }

    /// Whether two columns would have swapped their names since some definition, perhaps by way of others: no difference shows that.
    fn would_swap(&self, of: usize, to: &str) -> bool {
        self.definitions.iter().any(|definition| {
            let now = |id: usize| match self.columns.iter().find(|column| column.id == id) {
                Some(_) if id == of => Some(to),
                Some(column) => Some(column.name),
                None => None,
            };
            definition.iter().any(|(id, name)| {
                let (mut at, mut steps) = (now(*id), 0);
                while let Some(name_now) = at.filter(|now| *now != *name && steps <= definition.len()) {
                    let next = definition.iter().find(|(_, before)| *before == name_now);
                    at = next.and_then(|(id, _)| now(*id));
                    steps += 1;
                }
                steps > 0 && at == Some(*name)
            })
        })
    }

    fn state(&mut self) -> usize {
        let cell = |id: i64, column: usize, row: &BTreeMap<usize, Option<String>>| Cell {
            value: row.get(&column).cloned().flatten(),
            or: self.stale.get(&(id, column)).cloned().unwrap_or_default(),
        };
        let rows = self
            .rows
            .iter()
            .map(|(id, row)| (*id, self.columns.iter().map(|column| cell(*id, column.id, row)).collect::<Vec<_>>()));
        let state = State {
            rows: rows.collect(),
            columns: self.columns.iter().map(|column| (column.name.to_owned(), column.kind)).collect(),
            ids: self.columns.iter().map(|column| column.id).collect(),
        };
        self.played.states.push(state);
        self.played.states.len() - 1
    }

    /// Notes what every cell holds now.
    fn note_all(&mut self) {
        for (id, row) in &self.rows {
            for (column, value) in row {
                self.ever.entry((*id, *column)).or_default().insert(value.clone());
            }
        }
        self.played.keys.extend(self.rows.keys());
    }

    fn push(&mut self, place: usize, op: &Op, message: Message, is_control: bool, is_whole: bool, told: String) {
        let state = self.state();
        let sent = Sent {
            message: if self.history.is_postgresql { message.of_postgresql() } else { message },
            op: place,
            is_control,
            window: if is_control { op.control } else { op.window },
            again: op.again,
            is_whole: is_whole
                && !self.has_unsent
                && !(self.played.is_end_unknown && self.history.made_by == MadeBy::Strait),
            state,
            told,
        };
        let resent = op.resent.filter(|_| !is_control).map(|window| {
            let told = format!("{} resent", sent.told);
            (op.seed as usize % 4, Sent { window, again: None, told, ..sent.clone() })
        });
        self.played.sent.push(sent);
        for (wait, _) in &mut self.resent {
            *wait = wait.saturating_sub(1);
        }
        self.send_again(|wait| wait == 0);
        self.resent.extend(resent);
    }

    fn send_again(&mut self, is_due: impl Fn(usize) -> bool) {
        let (due, waiting) = std::mem::take(&mut self.resent).into_iter().partition(|(wait, _)| is_due(*wait));
        self.resent = waiting;
        let due: Vec<(usize, Sent)> = due;
        // What it tells of is older than what was sent since; the state is as it was.
        let state = self.played.sent.last().map(|sent| (sent.state, sent.is_whole));
        for ((_, sent), (state, is_whole)) in due.into_iter().zip(std::iter::repeat(state.unwrap_or_default())) {
            self.played.sent.push(Sent { state, is_whole, ..sent });
        }
    }

    /// A row's image. Of a partial one the columns are drawn; what was written is always in it.
    fn image(&self, id: i64, written: Option<&BTreeSet<usize>>, random: &mut Random) -> (Map<String, Value>, String) {
        let row = &self.rows[&id];
        let mut image = Map::from_iter([("id".to_owned(), json!(id))]);
        for column in &self.columns {
            if written.is_some_and(|written| !written.contains(&column.id)) {
                continue;
            }
            match row.get(&column.id).cloned().flatten() {
                Some(value) => drop(image.insert(column.name.to_owned(), column.kind.in_image(&value))),
                // Where absent means NULL, a NULL may be left out.
                None if self.history.is_partial || random.one_in(2) => {
                    drop(image.insert(column.name.to_owned(), Value::Null));
                }
                None => {}
            }
        }
        let told = Value::from(image.clone()).to_string();
        (image, told)
    }

    /// A cell is written: nothing else may stand there any more.
    fn written(&mut self, id: i64, columns: &BTreeSet<usize>) {
        self.stale.retain(|(of, column), _| *of != id || !columns.contains(column));
        self.note_all();
    }

    fn all_columns(&self) -> BTreeSet<usize> {
        self.columns.iter().map(|column| column.id).collect()
    }

    fn draw_row(&self, random: &mut Random) -> BTreeMap<usize, Option<String>> {
        let value = |column: &Column, random: &mut Random| (!random.one_in(4)).then(|| column.kind.draw(random));
        self.columns.iter().map(|column| (column.id, value(column, random))).collect()
    }

    fn change(&mut self, place: usize, op: &Op, message: Message, told: String) {
        if op.is_lost {
            self.has_unsent = true;
            return;
        }
        self.position += 10;
        let message = message.at(self.position);
        self.push(place, op, message, false, true, told);
    }

    /// What a column's name was before, for its rows in a table that a person made: until they are written they may hold that, for nobody says
    /// there since when the name is its own.
    fn take_name(&mut self, column: usize, name: &'static str) {
        if self.history.made_by == MadeBy::Strait || !self.was_named(name) {
            return;
        }
        let others: Vec<usize> =
            self.named.iter().filter(|(id, named)| *named == name && *id != column).map(|(id, _)| *id).collect();
        for id in self.rows.keys() {
            let held = others.iter().filter_map(|other| self.ever.get(&(*id, *other))).flatten().cloned();
            let or = self.stale.entry((*id, column)).or_default();
            or.extend(held);
            or.insert(None);
        }
    }

    /// Carries out one operation, if it can be.
    pub fn apply(&mut self, place: usize, op: &Op) {
        if op.on && self.try_apply(place, op).is_some() {
            self.played.done.insert(place);
        }
    }

    fn try_apply(&mut self, place: usize, op: &Op) -> Option<()> {
        let mut random = Random(op.seed);
        let before = self.table();
        let at = self.columns.iter().position(|column| match op.action {
            Action::Drop(id) | Action::Rename { column: id, .. } | Action::Retype { column: id, .. } => column.id == id,
            _ => false,
        });
        if !self.is_made && !matches!(op.action, Action::Load { .. }) {
            return None;
        }
        let is_loaded_again = self
            .history
            .ops
            .get(place + 1..)
            .is_some_and(|later| later.iter().any(|op| op.on && matches!(op.action, Action::Load { .. })));
        let may_be_lost = match op.action {
            // If the records of a drop and of an add of one name are lost, nothing tells that these are two columns.
            Action::Add { name, .. } => !self.was_named(NAMES[name]),
            Action::Drop(_) => true,
            Action::Retype { .. } => false,
            _ => is_loaded_again,
        };
        let op = &Op { is_lost: op.is_lost && may_be_lost, ..*op };
        let (operation, told, by_hand) = match op.action {
            Action::Write(id) => {
                let mut row = self.draw_row(&mut random);
                let (mut columns, old) = (self.all_columns(), self.rows.get(&id).cloned());
                let is_update = old.is_some();
                if let Some(old) = old.filter(|_| self.history.is_partial) {
                    columns.retain(|_| random.one_in(2));
                    for (column, value) in old {
                        if !columns.contains(&column) {
                            row.insert(column, value);
                        }
                    }
                }
                self.rows.insert(id, row);
                self.written(id, &columns);
                let (image, told) = self.image(id, Some(&columns), &mut random);
                let image = Value::from(image);
                let (message, word) = if is_update { (before.update(image), "U") } else { (before.insert(image), "I") };
                self.change(place, op, message, format!("{word}{told}"));
                return Some(());
            }
            Action::Delete(id) => {
                self.rows.get(&id)?;
                let (image, _) = self.image(id, None, &mut random);
                let image = if self.history.is_postgresql { json!({"id": id}) } else { image.into() };
                self.rows.remove(&id);
                self.stale.retain(|(of, _), _| *of != id);
                self.change(place, op, before.delete(image), format!("D{id}"));
                return Some(());
            }
            Action::Rekey(from, to) => {
                // As far as anything tells, the image lacks the column of which nobody said that it went: under `unchanged` it is
                // quarantined, until the table is loaded again.
                let is_quarantined = self.history.is_partial && self.has_untold_drop;
                if from == to || self.rows.contains_key(&to) || is_quarantined && !is_loaded_again {
                    return None;
                }
                let row = self.rows.remove(&from)?;
                self.rows.insert(to, row);
                self.stale.retain(|(of, _), _| *of != from);
                // Whole, where images may be partial, too: another is quarantined.
                let all = self.all_columns();
                self.written(to, &all);
                let (image, told) = self.image(to, Some(&all), &mut random);
                let message = before.key_change(json!({"id": from}), Value::from(image));
                self.change(place, op, message, format!("U{from}->{told}"));
                return Some(());
            }
            Action::Load { is_broken_off } => {
                self.load(place, op, is_broken_off, &mut random);
                return Some(());
            }
            Action::Add { name, kind } => {
                let name = NAMES[name];
                // An add that was sent before, after a drop of which no record came, is taken for one that is sent again.
                // In a person's table a column's former names stay its own.
                let is_formers = self.history.made_by == MadeBy::Person
                    && self.columns.iter().any(|column| self.named.contains(&(column.id, name)));
                if self.is_used(name) || self.has_untold && self.was_named(name) || is_formers {
                    return None;
                }
                self.take_name(place, name);
                self.columns.push(Column { id: place, name, kind, was: [kind].into() });
                for row in self.rows.values_mut() {
                    row.insert(place, None);
                }
                let sql = vec![format!("ALTER TABLE {{table}} ADD COLUMN `{name}` {}", kind.in_bigquery())];
                ("add-column", format!("add {name} {kind:?}"), sql)
            }
            Action::Drop(_) => {
                let gone = self.columns.remove(at?);
                self.dropped_names.insert(gone.name);
                for row in self.rows.values_mut() {
                    row.remove(&gone.id);
                }
                let sql = vec![format!("ALTER TABLE {{table}} DROP COLUMN `{}`", gone.name)];
                ("drop-column", format!("drop {}", gone.name), sql)
            }
            Action::Rename { column, name } => {
                let (at, name) = (at?, NAMES[name]);
                let is_of_another = self.history.made_by == MadeBy::Person
                    && self.named.iter().any(|(of, named)| *of != column && *named == name);
                // What the name was before may have been in lost records alone.
                let may_be_unknown = self.has_untold && self.was_named(name);
                if self.is_used(name) || is_of_another || may_be_unknown || self.would_swap(column, name) {
                    return None;
                }
                let old = std::mem::replace(&mut self.columns[at].name, name);
                if op.is_lost {
                    self.dropped_names.insert(old);
                }
                // Both are what the merge's answer says that a person has to run.
                let rename = format!("ALTER TABLE {{table}} RENAME COLUMN `{old}` TO `{name}`");
                let sql = std::iter::once(rename).chain(self.described_by_hand(column, name)).collect();
                ("rename-column", format!("rename {old} to {name}"), sql)
            }
            Action::Retype { column, kind } => {
                let at = at?;
                let (is, name, was) = (self.columns[at].kind, self.columns[at].name, self.columns[at].was.clone());
                if !self.may_be_retyped(&self.columns[at], kind) {
                    return None;
                }
                let values = self.rows.iter().map(|(id, row)| (*id, row.get(&column).cloned().flatten()));
                let values: Option<Vec<_>> = values.map(|(id, value)| Some((id, retyped(kind, &value, is)?))).collect();
                for (id, value) in values? {
                    self.rows.get_mut(&id)?.insert(column, value);
                }
                // Older states, which the final table may still hold, are converted likewise.
                for ((_, of), ever) in &mut self.ever {
                    if *of == column {
                        ever.extend(ever.clone().iter().filter_map(|value| retyped(kind, value, is)));
                    }
                }
                for ((_, of), or) in &mut self.stale {
                    if *of == column {
                        or.extend(or.clone().iter().filter_map(|value| retyped(kind, value, is)));
                    }
                }
                self.columns[at].kind = kind;
                self.columns[at].was = was.into_iter().chain([kind]).collect();
                let told = format!("make {name} {kind:?}");
                let by_hand = retype_by_hand(name, is, kind).into_iter().chain(self.described_by_hand(column, name));
                ("column-type-change", told, by_hand.collect())
            }
        };
        self.defined();
        self.note_all();
        self.played.by_hand.push(ByHand { op: place, window: op.person, sql: by_hand });
        let is_told = self.history.has_details && !op.is_lost;
        self.has_untold |= op.is_lost;
        self.has_untold_drop |= op.is_lost && matches!(op.action, Action::Drop(_));
        self.played.is_end_unknown = !is_told || self.has_untold;
        if is_told {
            let message = self.table().altered(operation, &before);
            self.push(place, op, message, true, true, told);
        }
        Some(())
    }

    /// The statement by which a column's records of an older shape are read, if it had other names.
    fn described_by_hand(&self, column: usize, name: &str) -> Option<String> {
        let former: Vec<&str> =
            self.named.iter().filter(|(of, named)| *of == column && *named != name).map(|(_, named)| *named).collect();
        let description = format!("Source column: \"{name}\", formerly {former:?}");
        let sql = format!("ALTER TABLE {{table}} ALTER COLUMN `{name}` SET OPTIONS (description = '{description}')");
        (!former.is_empty()).then_some(sql)
    }

    /// Whether the docs say that the table follows, however many of the column's changes one run finds.
    fn may_be_retyped(&self, column: &Column, kind: Kind) -> bool {
        let was = |kind: Kind| column.was.contains(&kind);
        let is_by_hand = self.history.made_by == MadeBy::Person;
        column.kind.may_become().contains(&kind)
            && (column.kind == Kind::Bool || !was(Kind::Bool))
            && match (column.kind, kind) {
                // A value that is corrected before the source takes the new type may stand in a partial image with others.
                (Kind::Text, Kind::Int) => !was(Kind::Date) && !self.history.is_partial && !is_by_hand,
                (_, Kind::Double) => !was(Kind::Text) && !is_by_hand,
                (_, Kind::DateTime | Kind::Int) => !is_by_hand,
                _ => true,
            }
    }

    fn load(&mut self, place: usize, op: &Op, is_broken_off: bool, random: &mut Random) {
        let table = self.table();
        let is_first = !self.is_made;
        if is_first {
            for id in 0..KEYS {
                if random.one_in(2) {
                    let row = self.draw_row(random);
                    self.rows.insert(id, row);
                }
            }
            self.note_all();
            self.is_made = true;
        }
        self.played.has_reload |= !is_first;
        self.send_again(|_| true);
        self.has_unsent = false;
        let op = Op { again: None, resent: None, ..*op };
        let ids: Vec<i64> = self.rows.keys().copied().collect();
        for is_last in if is_broken_off { vec![false, true] } else { vec![true] } {
            if !is_first || !is_last {
                self.push(place, &op, table.drop_table(), true, false, "drop-table".to_owned());
            }
            let create = if self.history.has_details { table.create() } else { table.create_without_details() };
            let has_end = is_last && !ids.is_empty();
            self.push(place, &op, create, true, is_first && is_last && !has_end, "create-table".to_owned());
            let loaded = if is_last { ids.len() } else { random.below(ids.len() + 1) };
            for (number, id) in ids.iter().take(loaded).enumerate() {
                let all = self.all_columns();
                let (image, told) = self.image(*id, Some(&all), random);
                let is_end = is_first && is_last && number + 1 == loaded;
                // A load takes its time: its rows may come later than its beginning.
                let late = Op { window: op.window + usize::from(is_last && random.one_in(6)), ..op };
                self.push(place, &late, table.load(Value::from(image)), false, is_end, format!("L{told}"));
            }
        }
        self.stale.clear();
        (self.has_untold, self.has_untold_drop) = (false, false);
        self.played.is_end_unknown = !self.history.has_details;
    }

    /// What it all came to.
    pub fn finish(mut self) -> Played {
        self.send_again(|_| true);
        self.state();
        for ((id, column), values) in &self.ever {
            for (_, name) in self.named.iter().filter(|(of, _)| of == column) {
                self.played.ever.entry((*id, (*name).to_owned())).or_default().extend(values.iter().cloned());
            }
        }
        self.played
    }
}

fn retype_by_hand(name: &str, is: Kind, to: Kind) -> Vec<String> {
    match (is, to) {
        (Kind::Numeric, _) => {
            vec![format!("ALTER TABLE {{table}} ALTER COLUMN `{name}` SET DATA TYPE {}", to.in_bigquery())]
        }
        (Kind::Int, Kind::Numeric) => {
            vec![format!("ALTER TABLE {{table}} ALTER COLUMN `{name}` SET DATA TYPE NUMERIC")]
        }
        _ => vec![
            format!("ALTER TABLE {{table}} ADD COLUMN `{name}_new` {}", to.in_bigquery()),
            format!("UPDATE {{table}} SET `{name}_new` = CAST(`{name}` AS {}) WHERE TRUE", to.in_bigquery()),
            format!(
                "ALTER TABLE {{table}} RENAME COLUMN `{name}` TO `{name}_old`, RENAME COLUMN `{name}_new` TO `{name}`"
            ),
            format!("ALTER TABLE {{table}} DROP COLUMN `{name}_old`"),
        ],
    }
}
