//! A source table's history and what it comes to: the truth that every level is held to. It applies changes to a map, one after the
//! other, and knows nothing of a log, of positions or of a merge.
//!
//! Keys are small numbers here; how a key looks in a message is the business of [`super::wire`]. A step that makes no sense where it
//! stands (an update of a row that is not there) does nothing, so that a history stays one when the shrinker takes steps out of it.

/// Keys of a history; the last two are the sentinels, one for each partition.
pub const KEYS: usize = 8;
/// Partitions of the topic.
pub const PARTITIONS: usize = 2;
/// The first sentinel.
pub const SENTINEL: Key = 6;
/// Columns beside the key.
pub const COLUMNS: usize = 2;

/// A row's key.
pub type Key = u8;
/// A row's values; `None` is NULL.
pub type Row = [Option<u16>; COLUMNS];
/// A table's rows by key.
pub type Rows = [Option<Row>; KEYS];

/// What identifies a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One INT.
    Int,
    /// INT and text.
    Composite,
    /// One text.
    Text,
    /// One text under a collation by which two spellings that differ in case are the same row. Spelling `2n + 1` is `2n` in capitals.
    CaseInsensitive,
    /// A unique key of INT and text, where the text may be NULL: such rows are not told apart by it.
    Nullable,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Int, Self::Composite, Self::Text, Self::CaseInsensitive, Self::Nullable];

    /// Whether the source takes the two for the same row.
    fn collide(self, one: Key, other: Key) -> bool {
        one == other || self == Self::CaseInsensitive && one < SENTINEL && other < SENTINEL && one / 2 == other / 2
    }

    /// Whether the key holds a NULL, so that no row of a final table can be found by it.
    pub fn is_null(self, key: Key) -> bool {
        self == Self::Nullable && (4..SENTINEL).contains(&key)
    }
}

/// What happens to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Insert(Key),
    /// With the columns that are written, as bits.
    Update(Key, u8),
    Delete(Key),
    /// From, to, and the columns that are written beside the key.
    Rekey(Key, Key, u8),
    /// The whole table is emptied, the other histories' rows as well. No record of a row tells of it.
    Empty,
}

/// One statement of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Whether it takes place; the shrinker switches steps off, so that others may refer to them by place.
    pub on: bool,
    /// Its transaction: rises, and is the source's clock. In 0 stand the rows that are there before anything is captured.
    pub transaction: u32,
    pub action: Action,
    /// What it writes; no other step writes the same.
    pub value: u16,
    /// Columns, as bits, to which it writes NULL.
    pub nulls: u8,
    /// Columns, as bits, that its image leaves out where the settings allow it.
    pub bare: u8,
}

/// How one column stands in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Value(u16),
    Null,
    Absent,
}

/// What of a row is sent.
pub type Image = [Cell; COLUMNS];

/// What DMS calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Load,
    Insert,
    Update,
    Delete,
}

/// A step as the source's log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub transaction: u32,
    /// Its place in the transaction, from 1.
    pub record: u32,
    pub operation: Operation,
    pub key: Key,
    /// The key before, where the change is one of the key.
    pub old: Option<Key>,
    pub image: Image,
}

/// What a history comes to.
#[derive(Debug, Clone)]
pub struct Truth {
    pub kind: Kind,
    /// By step; `None` where it did nothing.
    pub changes: Vec<Option<Change>>,
    /// By step: the table was emptied.
    pub emptied: Vec<bool>,
    /// The source after so many steps.
    pub actual: Vec<Rows>,
    /// Every state that a row of a key ever had.
    pub states: [Vec<Row>; KEYS],
}

impl Truth {
    /// Applies the steps.
    pub fn of(kind: Kind, unchanged: bool, steps: &[Step]) -> Self {
        let mut truth = Self {
            kind,
            changes: Vec::with_capacity(steps.len()),
            emptied: steps.iter().map(|step| step.action == Action::Empty).collect(),
            actual: Vec::with_capacity(steps.len() + 1),
            states: Default::default(),
        };
        let mut rows: Rows = [None; KEYS];
        let (mut transaction, mut record) = (0, 0);
        truth.actual.push(rows);
        for step in steps {
            if step.transaction != transaction {
                (transaction, record) = (step.transaction, 0);
            }
            let change = if step.on { apply(kind, unchanged, step, &mut rows) } else { None };
            if let Some(Change { key, operation, .. }) = change {
                record += 1;
                if let (Some(row), true) = (rows[usize::from(key)], operation != Operation::Delete) {
                    truth.states[usize::from(key)].push(row);
                }
            }
            truth.changes.push(change.map(|change| Change { record, ..change }));
            truth.actual.push(rows);
        }
        truth
    }

    /// Applies one step to rows; whether it did anything.
    pub fn of_one(kind: Kind, step: &Step, rows: &mut Rows) -> bool {
        apply(kind, false, step, rows).is_some()
    }

    /// The rows that a final table can tell apart, from the state after `first` steps on, after all steps up to `end`: a record with a
    /// NULL in its new key is quarantined and changes nothing, so the row of the old key stays as it was.
    pub fn readable(&self, first: usize, end: usize) -> Rows {
        let mut rows = self.actual[first];
        for (key, row) in rows.iter_mut().enumerate() {
            if self.kind.is_null(key as Key) {
                *row = None;
            }
        }
        for step in first..end {
            if self.emptied[step] {
                rows = [None; KEYS];
            }
            let Some(change) = self.changes[step] else { continue };
            if self.kind.is_null(change.key) {
                continue;
            }
            if let Some(old) = change.old {
                rows[usize::from(old)] = None;
            }
            rows[usize::from(change.key)] = self.actual[step + 1][usize::from(change.key)];
        }
        rows
    }

    /// The steps that say something of a key, as far as a final table can tell, in their order.
    pub fn touching(&self, key: Key) -> impl Iterator<Item = usize> + '_ {
        self.changes.iter().enumerate().filter_map(move |(step, change)| {
            if self.emptied[step] {
                return Some(step);
            }
            let change = change.as_ref()?;
            let is_told = !self.kind.is_null(change.key);
            (is_told && (change.key == key || change.old == Some(key))).then_some(step)
        })
    }

    /// Whether the source ever had a row of this key.
    pub fn existed(&self, key: Key) -> bool {
        !self.states[usize::from(key)].is_empty()
    }
}

/// Whether a key may be given to a row; `mover` is the key that it gives up for it.
pub fn is_free(kind: Kind, rows: &Rows, key: Key, mover: Option<Key>) -> bool {
    (0..KEYS as Key).all(|other| {
        rows[usize::from(other)].is_none() || Some(other) == mover && other != key || !kind.collide(key, other)
    })
}

/// Applies one step to the rows; `None` if it does nothing.
fn apply(kind: Kind, unchanged: bool, step: &Step, rows: &mut Rows) -> Option<Change> {
    let has = |bits: u8, column: usize| bits & 1 << column != 0;
    let written = |column: usize| (!has(step.nulls, column)).then_some(step.value * COLUMNS as u16 + column as u16);
    let whole = |row: &Row| -> Image {
        std::array::from_fn(|column| match row[column] {
            Some(value) => Cell::Value(value),
            // Where absent means unchanged, an insert's absent column is still NULL: there is nothing before it.
            None if has(step.bare, column) => Cell::Absent,
            None => Cell::Null,
        })
    };
    let change = |operation, key, old, image| {
        Some(Change { transaction: step.transaction, record: 0, operation, key, old, image })
    };
    match step.action {
        Action::Insert(key) if is_free(kind, rows, key, None) => {
            let row: Row = std::array::from_fn(written);
            rows[usize::from(key)] = Some(row);
            change(Operation::Insert, key, None, whole(&row))
        }
        Action::Update(key, columns) => {
            let row = rows[usize::from(key)].as_mut()?;
            let mut image = [Cell::Null; COLUMNS];
            for column in 0..COLUMNS {
                if has(columns, column) {
                    row[column] = written(column);
                }
                image[column] = match row[column] {
                    _ if unchanged && has(step.bare, column) && !has(columns, column) => Cell::Absent,
                    Some(value) => Cell::Value(value),
                    None if !unchanged && has(step.bare, column) => Cell::Absent,
                    None => Cell::Null,
                };
            }
            change(Operation::Update, key, None, image)
        }
        Action::Delete(key) => {
            let row = rows[usize::from(key)].take()?;
            change(Operation::Delete, key, None, whole(&row))
        }
        Action::Rekey(from, to, columns) if from != to && rows[usize::from(from)].is_some() => {
            if !is_free(kind, rows, to, Some(from)) {
                return None;
            }
            let mut row = rows[usize::from(from)].take()?;
            for column in (0..COLUMNS).filter(|column| has(columns, *column)) {
                row[column] = written(column);
            }
            rows[usize::from(to)] = Some(row);
            // A key change that lacks columns is quarantined where absent means unchanged: not part of these histories.
            let image = std::array::from_fn(|column| match row[column] {
                Some(value) => Cell::Value(value),
                None if !unchanged && has(step.bare, column) => Cell::Absent,
                None => Cell::Null,
            });
            change(Operation::Update, to, Some(from), image)
        }
        Action::Empty => {
            *rows = [None; KEYS];
            None
        }
        _ => None,
    }
}
