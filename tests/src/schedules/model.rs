//! The merge's algorithm as a small program over maps, so that millions of steps can be held to the oracle in a minute. It is the
//! algorithm's check, not the statements': those run under the same histories on the embedded BigQuery.
//!
//! | rule here | the product's |
//! |---|---|
//! | [`Position`] | `position.rs`: load before change, binlog or LSN, record of the transaction |
//! | [`Coverage`], [`REACH_BACK_US`], [`RANGES_KEPT`] | `merge/coverage.rs`: what is not covered is new, a window reaches back, few ranges are kept |
//! | [`Model::merge`]: news, islands of offsets | `merge/plan.rs`: `query` |
//! | [`Model::look_back`] | `merge/fold.rs`: `LookBack::needed` |
//! | [`Model::fold`]: identities, split of key changes, survivor, carried columns | `merge/fold.rs`: `statement`, `carry_partial` |
//! | [`Model::apply`]: the guard, partial and soft rows | `merge/statement.rs`: `merge` |
//! | [`Epochs`], [`Model::epoch_of`] | `merge/epoch.rs`: `learn`, `begin`, `position_sql`, `lowest`; `merge/work.rs`: `Standing::learn` |
//! | [`Model::expired_us`], the guard in [`Model::apply`] | `merge/fold.rs`: `beyond_log` |
//! | [`Epochs::learn`], [`Model::empty`] | `merge/epoch.rs`: `emptied`, `gone`; `merge/work.rs`: `empty` |
//! | [`Model::finish_reload`] | `merge/reload.rs`: `progress`, `waits_for` (but for the silence), `sweep` |
//!
//! [`Rules`] switches rules off one by one, so that the oracle and the shrinker can be tested on an algorithm that is wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Control, History, Origin, Timeline, Told};
use super::oracle::{Observed, Oracle};
use super::source::{COLUMNS, Cell, Image, KEYS, Key, Operation, PARTITIONS};

/// `REACH_BACK_US` of the product, on the clock of the histories.
const REACH_BACK_US: u64 = 1_000_000;
/// `RANGES_KEPT` of the product, far smaller, so that ranges are dropped: what is read again changes nothing.
const RANGES_KEPT: usize = 4;
/// Which rules hold.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// A row changes only if the fold's position is above its own.
    pub guard: bool,
    /// Records that are merged already are read again where a key may be late.
    pub look_back: bool,
    /// A key change removes the old key.
    pub key_split: bool,
    /// A window reads again what may have become visible late.
    pub reach_back: bool,
    /// Order is by position, not by arrival.
    pub by_position: bool,
    /// A loaded row is older than every change.
    pub load_first: bool,
    /// A full load begins an epoch.
    pub epochs: bool,
    /// What a complete load did not bring is removed.
    pub sweep: bool,
    /// A load is complete only once every partition has passed its end.
    pub patience: bool,
    /// A partition that has brought nothing since the load began may be behind.
    pub silent_partitions: bool,
    /// The offset before a load's first in a partition has to be there, whenever it was ingested.
    pub predecessor: bool,
    /// A load that is a table's first merge hides what is older: there is nothing to sweep yet.
    pub first_load_hides: bool,
    /// When an operator completes a load that brought no row, what was sent since it began is merged as of its epoch first.
    pub reopen_by_hand: bool,
    /// Where images may be partial, what is folded anew completes a row at the row's own position.
    pub complete_at_own_position: bool,
    /// A late record from before what the log has forgotten makes no row.
    pub expiry: bool,
    /// What stands below a TRUNCATE is removed when it comes.
    pub empties: bool,
    /// A change from before a TRUNCATE that comes after it counts as deleted.
    pub emptied_hides: bool,
}

impl Rules {
    /// As the product has them.
    pub const ALL: Self = Self {
        guard: true,
        look_back: true,
        key_split: true,
        reach_back: true,
        by_position: true,
        load_first: true,
        epochs: true,
        sweep: true,
        patience: true,
        silent_partitions: true,
        predecessor: true,
        first_load_hides: true,
        reopen_by_hand: true,
        complete_at_own_position: true,
        expiry: true,
        empties: true,
        emptied_hides: true,
    };
}

/// By how much a row may have been read before it was sent.
const MARGIN_US: u64 = 1_000_000;

/// Epoch, class (load before change), then emission or transaction, then the record of the transaction.
type Position = (u64, u8, u64, u32);

/// A row of the log.
#[derive(Debug, Clone, Copy)]
struct Logged {
    /// A control record: nothing below but its place and its times counts.
    control: Option<Control>,
    emission_us: u64,
    partition: usize,
    offset: u32,
    /// Without its epoch.
    position: Position,
    operation: Operation,
    key: Key,
    old: Option<Key>,
    image: Image,
    /// The earlier of commit and emission.
    sent_us: u64,
    ingested_us: u64,
    /// The merge that sees it first.
    visible_from: usize,
}

impl Logged {
    /// The transaction at whose beginning the table was emptied, if it says that.
    fn truncates(&self) -> Option<u32> {
        match self.control?.told {
            Told::Truncate(transaction) => Some(transaction),
            Told::Create | Told::Drop => None,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Coverage {
    to_us: Option<u64>,
    ranges: Vec<(usize, u32, u32)>,
}

impl Coverage {
    fn covers(&self, row: &Logged) -> bool {
        self.to_us.is_some_and(|to| row.ingested_us <= to)
            && self
                .ranges
                .iter()
                .any(|(partition, first, last)| *partition == row.partition && (*first..=*last).contains(&row.offset))
    }
}

/// A row of the final table.
#[derive(Debug, Clone, Copy)]
struct Final {
    position: Position,
    deleted: bool,
    row: [Option<u16>; COLUMNS],
}

/// What a window comes to for a key.
#[derive(Debug, Clone, Copy)]
struct Folded {
    position: Position,
    deleted: bool,
    has_image: bool,
    late: bool,
    /// A newer change of the row may have expired in the log.
    beyond_log: bool,
    /// Value, and whether it is known.
    cells: [(Option<u16>, bool); COLUMNS],
}

/// What is known of the table's epochs.
#[derive(Debug, Clone, Default)]
struct Epochs {
    boundaries: Vec<u64>,
    starts: Vec<u64>,
    newest_load: Option<u64>,
    open: Option<u64>,
    complete: Option<u64>,
    /// When the records were sent that the table was emptied, and their positions without an epoch.
    emptied: Vec<(u64, Position)>,
    /// The position up to which the final table is rid of what is gone by that.
    rid_of: Option<Position>,
    /// A load began before what the log retains.
    has_forgotten: bool,
}

impl Epochs {
    fn learn(&mut self, new: &[Logged], may_hold_older: bool, hides_older: bool, known_from_us: u64) -> bool {
        let begins = self.learn_of_loads(new, may_hold_older, hides_older, known_from_us);
        let truncates = new.iter().filter(|row| row.truncates().is_some());
        self.emptied.extend(truncates.map(|row| (row.emission_us, row.position)));
        begins
    }

    fn learn_of_loads(&mut self, new: &[Logged], may_hold_older: bool, hides_older: bool, known_from_us: u64) -> bool {
        let starts = new.iter().filter(|row| row.control.is_some() && row.truncates().is_none());
        // The start of a load that is known is read again, and one from before it may come late.
        let known = self.open.max(self.complete);
        self.starts.extend(starts.map(|row| row.emission_us).filter(|start| Some(*start) > known));
        self.starts.sort_unstable();
        self.starts.dedup();
        let loads = new.iter().filter(|row| row.control.is_none() && row.operation == Operation::Load);
        self.newest_load = self.newest_load.max(loads.map(|row| row.emission_us).max());
        let Some(newest_load) = self.newest_load else { return false };
        let Some(start) = self.starts.iter().rev().find(|start| **start <= newest_load).copied() else {
            return false;
        };
        self.starts.retain(|other| *other > start);
        // What was sent since then may be forgotten, and would be taken for older than the load.
        if may_hold_older && start < known_from_us {
            self.has_forgotten = true;
            return false;
        }
        if self.boundaries.contains(&start) {
            return false;
        }
        self.boundaries.push(start);
        self.boundaries.sort_unstable();
        if may_hold_older {
            self.open = self.open.max(Some(start));
        } else if hides_older {
            self.complete = self.complete.max(Some(start));
        }
        true
    }

    /// The highest position at which the table was emptied. An epoch that begins later may raise it.
    fn emptied_at(&self) -> Option<Position> {
        let placed = |(sent, (_, class, at, record)): &(u64, Position)| (self.of(*sent), *class, *at, *record);
        self.emptied.iter().map(placed).max()
    }

    fn of(&self, emission_us: u64) -> u64 {
        self.boundaries.iter().rev().find(|boundary| **boundary <= emission_us).copied().unwrap_or(0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LookBack {
    None,
    From(u64),
    Everything,
}

/// One table under the algorithm.
pub struct Model<'h> {
    history: &'h History,
    rules: Rules,
    log: Vec<Logged>,
    finals: [Option<Final>; KEYS],
    coverage: Coverage,
    highest: Option<Position>,
    epochs: Epochs,
    quarantined: BTreeSet<(usize, u32)>,
    /// Keys of which a record is in quarantine because the log no longer says what became of the row.
    beyond_log: BTreeSet<Key>,
    /// The same, whether or not the row is there.
    held: BTreeSet<Key>,
    /// What was ingested before has expired in the log; 0: nothing has.
    expired_us: u64,
    is_defined: bool,
}

/// One split record: the key that it is about, and whether that key is gone after it.
#[derive(Debug, Clone, Copy)]
struct Split {
    logged: Logged,
    key: Key,
    deleted: bool,
    is_new: bool,
}

impl<'h> Model<'h> {
    fn new(history: &'h History, rules: Rules) -> Self {
        Self {
            history,
            rules,
            log: Vec::new(),
            finals: [None; KEYS],
            coverage: Coverage::default(),
            highest: None,
            epochs: Epochs::default(),
            quarantined: BTreeSet::new(),
            beyond_log: BTreeSet::new(),
            held: BTreeSet::new(),
            expired_us: 0,
            is_defined: false,
        }
    }

    /// The log's partitions expire. What no merge could have seen is kept: a backlog is another matter.
    fn expire(&mut self, window: usize, now_us: u64, retention_us: Option<u64>) {
        if !self.is_defined {
            return;
        }
        let Some(expired_us) = retention_us.and_then(|retention| now_us.checked_sub(retention)) else { return };
        self.log.retain(|row| row.visible_from >= window || row.ingested_us >= expired_us);
        self.expired_us = expired_us;
    }

    fn look_back(&self, new: &[Logged]) -> LookBack {
        let (Some(highest), true) = (self.highest, self.rules.look_back) else {
            return LookBack::None;
        };
        // Over an epoch's beginning the log's own positions say nothing of the order.
        let newest_epoch = self.epochs.boundaries.last().copied().unwrap_or(0);
        let all_in_newest = new.iter().all(|row| row.emission_us >= newest_epoch);
        if all_in_newest && new.iter().all(|row| self.position(row) > highest) {
            return LookBack::None;
        }
        match new.iter().map(|row| row.sent_us).min() {
            Some(oldest) if !self.history.modes.unchanged => LookBack::From(oldest),
            _ => LookBack::Everything,
        }
    }

    /// The position with its epoch.
    fn position(&self, row: &Logged) -> Position {
        let (_, class, at, record) = row.position;
        (self.epoch_of(row), class, at, record)
    }

    fn epoch_of(&self, row: &Logged) -> u64 {
        self.epochs.of(row.emission_us)
    }

    /// One merge; rows that become visible in a later window are not seen.
    fn merge(&mut self, window: usize) {
        let visible: Vec<Logged> = self.log.iter().copied().filter(|row| row.visible_from <= window).collect();
        self.is_defined |= visible.iter().any(|row| row.control.is_some_and(|control| control.told == Told::Create));
        if !self.is_defined {
            // Without its definition the table waits.
            return;
        }
        self.merge_changes(&visible);
        self.empty();
        self.finish_reload(&visible);
    }

    /// Removes what stood in the table when it was emptied.
    fn empty(&mut self) {
        let emptied = self.epochs.emptied_at();
        if let Some(emptied) = emptied.filter(|_| self.rules.empties && emptied > self.epochs.rid_of) {
            self.remove_below(emptied);
        }
        self.epochs.rid_of = self.epochs.rid_of.max(emptied);
    }

    fn recent(&self, visible: &[Logged]) -> Vec<Logged> {
        let open_from = self
            .coverage
            .to_us
            .map_or(0, |to| if self.rules.reach_back { to.saturating_sub(REACH_BACK_US) } else { to + 1 });
        visible.iter().copied().filter(|row| row.ingested_us >= open_from).collect()
    }

    fn merge_changes(&mut self, visible: &[Logged]) {
        let mut recent = self.recent(visible);
        let new = |recent: &[Logged], coverage: &Coverage| -> Vec<Logged> {
            recent.iter().copied().filter(|row| !coverage.covers(row)).collect()
        };
        let mut all_new = new(&recent, &self.coverage);
        if self.rules.epochs {
            // With an epoch that begins, records that are merged already are of another one: they are looked at again.
            let may_hold_older = self.highest.is_some();
            let mut before = self.epochs.boundaries.clone();
            let known_from_us = if self.rules.expiry { self.expired_us } else { 0 };
            while self.epochs.learn(&all_new, may_hold_older, self.rules.first_load_hides, known_from_us) {
                let lowest = self.epochs.boundaries.iter().find(|boundary| !before.contains(boundary));
                if let (Some(to), Some(from)) = (self.coverage.to_us, lowest) {
                    self.coverage = Coverage { to_us: Some(to.min(*from)), ranges: Vec::new() };
                }
                before.clone_from(&self.epochs.boundaries);
                recent = self.recent(visible);
                all_new = new(&recent, &self.coverage);
            }
        }
        let Some(window_from) = all_new.iter().map(|row| row.ingested_us).min() else {
            return;
        };
        let new: Vec<Logged> = all_new.iter().copied().filter(|row| row.control.is_none()).collect();
        let window_to = recent.iter().map(|row| row.ingested_us).max().max(self.coverage.to_us).unwrap_or(0);
        // First, so that no change from after it is written over a row from before.
        self.empty();
        let look_back = self.look_back(&new);
        let coverage = self.coverage.clone();
        let is_new = |row: &Logged| row.ingested_us >= window_from && !coverage.covers(row);
        let read: Vec<Logged> = visible
            .iter()
            .copied()
            .filter(|row| row.control.is_none())
            .filter(|row| match look_back {
                LookBack::None => is_new(row),
                LookBack::From(from) => row.ingested_us >= from.min(window_from),
                LookBack::Everything => true,
            })
            .map(|row| Logged { position: self.position(&row), ..row })
            .collect();
        let folded = self.fold(&read, is_new);
        for (key, folded) in folded {
            self.apply(key, &folded);
        }
        self.highest = self.highest.max(new.iter().map(|row| self.position(row)).max());

        // Islands of consecutive offsets among what the plan saw.
        let mut offsets: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); PARTITIONS];
        for row in &recent {
            offsets[row.partition].insert(row.offset);
        }
        let mut ranges: Vec<(usize, u32, u32)> = Vec::new();
        for (partition, offsets) in offsets.iter().enumerate() {
            for offset in offsets {
                match ranges.last_mut() {
                    Some((of, _, last)) if *of == partition && *last + 1 == *offset => *last = *offset,
                    _ => ranges.push((partition, *offset, *offset)),
                }
            }
        }
        ranges.sort_by_key(|(_, first, last)| std::cmp::Reverse(last - first));
        ranges.truncate(RANGES_KEPT);
        self.coverage = Coverage { to_us: Some(window_to), ranges };
    }

    /// Removes what a load did not bring, once it is known to be complete.
    fn finish_reload(&mut self, visible: &[Logged]) {
        let Some(boundary) = self.epochs.open else { return };
        let since: Vec<&Logged> = visible.iter().filter(|row| row.ingested_us >= boundary).collect();
        let is_load = |row: &&&Logged| row.control.is_none() && row.operation == Operation::Load;
        let newest_load =
            since.iter().filter(is_load).filter(|row| row.emission_us >= boundary).map(|row| row.emission_us).max();
        let Some(newest_load) = newest_load else { return };
        // A load ends before the table is emptied, too.
        let is_change = |row: &&&Logged| match row.control {
            None => row.operation != Operation::Load,
            Some(_) => row.truncates().is_some(),
        };
        let changes = since.iter().filter(is_change);
        let Some(ended) = changes.filter(|row| row.emission_us > newest_load).map(|row| row.emission_us).min() else {
            return;
        };
        if self.rules.patience
            && !(0..PARTITIONS).all(|partition| has_passed(self.rules, visible, &since, partition, boundary, ended))
        {
            return;
        }
        self.sweep(boundary);
    }

    /// An operator's word that the load is complete, though it may have brought no row. What was sent since it began may be merged
    /// already, as of the epoch before: it is looked at again first, or it would be swept.
    fn complete_by_hand(&mut self, window: usize) {
        let started = self.epochs.starts.pop();
        self.epochs.starts.clear();
        let is_forgotten = |start: &u64| self.rules.expiry && self.highest.is_some() && *start < self.expired_us;
        self.epochs.has_forgotten |= started.as_ref().is_some_and(is_forgotten);
        if let Some(start) = started.filter(|start| !is_forgotten(start)) {
            self.epochs.boundaries.push(start);
            self.epochs.open = Some(start);
            if let Some(to) = self.coverage.to_us.filter(|_| self.rules.reopen_by_hand) {
                self.coverage = Coverage { to_us: Some(to.min(start)), ranges: Vec::new() };
            }
            if self.rules.reopen_by_hand {
                self.merge(window);
            }
        }
        if let Some(open) = self.epochs.open {
            self.sweep(open);
        }
    }

    fn sweep(&mut self, boundary: u64) {
        if self.rules.sweep {
            self.remove_below((boundary, 0, 0, 0));
        }
        self.epochs.complete = self.epochs.complete.max(Some(boundary));
        self.epochs.open = None;
    }

    fn remove_below(&mut self, position: Position) {
        for row in &mut self.finals {
            if let Some(found) = row
                && found.position < position
            {
                if self.history.modes.soft {
                    found.deleted = true;
                    found.position = position;
                } else {
                    *row = None;
                }
            }
        }
    }

    fn fold(&mut self, read: &[Logged], is_new: impl Fn(&Logged) -> bool) -> Vec<(Key, Folded)> {
        // Each identity once, as it was ingested first.
        let mut identities: BTreeMap<(usize, u32), Logged> = BTreeMap::new();
        for row in read {
            let first = identities.entry((row.partition, row.offset)).or_insert(*row);
            if row.ingested_us < first.ingested_us {
                *first = *row;
            }
        }
        let mut keys: BTreeMap<Key, Vec<Split>> = BTreeMap::new();
        for row in identities.into_values() {
            let is_new = is_new(&row);
            let kind = self.history.kind;
            if kind.is_null(row.key) {
                if is_new {
                    self.quarantined.insert((row.partition, row.offset));
                }
                continue;
            }
            // What newer images of the row left out may be in it, and they be forgotten.
            if self.rules.expiry && self.history.modes.unchanged {
                if is_new && self.is_beyond_log(&row, MARGIN_US) {
                    self.held.extend([Some(row.key), row.old].into_iter().flatten());
                    continue;
                }
                // One that was sent again outlives them.
                if !is_new && self.is_beyond_log(&row, 0) {
                    continue;
                }
            }
            let deleted = row.operation == Operation::Delete;
            keys.entry(row.key).or_default().push(Split { logged: row, key: row.key, deleted, is_new });
            // A NULL in the old key compares to nothing.
            if let Some(old) = row.old.filter(|old| self.rules.key_split && !kind.is_null(*old)) {
                keys.entry(old).or_default().push(Split { logged: row, key: old, deleted: true, is_new });
            }
        }
        keys.into_iter().filter_map(|(key, rows)| Some((key, self.fold_key(rows)?))).collect()
    }

    /// A newer change of the row may have expired in the log.
    fn is_beyond_log(&self, row: &Logged, margin_us: u64) -> bool {
        let expired_us = if self.expired_us == 0 { 0 } else { self.expired_us + margin_us };
        self.highest.is_some_and(|highest| row.position <= highest) && row.sent_us < expired_us
    }

    fn fold_key(&self, mut rows: Vec<Split>) -> Option<Folded> {
        if !rows.iter().any(|row| row.is_new) {
            return None;
        }
        let modes = self.history.modes;
        if self.rules.by_position {
            rows.sort_by_key(|row| {
                (std::cmp::Reverse(row.logged.position), row.deleted, std::cmp::Reverse(row.logged.offset))
            });
        } else {
            rows.sort_by_key(|row| std::cmp::Reverse(row.logged.ingested_us));
        }
        let newest = rows.first()?;
        let late = {
            let highest_old = rows.iter().filter(|row| !row.is_new).map(|row| row.logged.position).max();
            let lowest_new = rows.iter().filter(|row| row.is_new).map(|row| row.logged.position).min();
            highest_old.is_some() && highest_old >= lowest_new
        };
        let survivor = rows.iter().find(|row| !row.deleted).unwrap_or(newest);
        let cells = std::array::from_fn(|column| {
            if !modes.unchanged {
                let value = match survivor.logged.image[column] {
                    Cell::Value(value) if !survivor.deleted => Some(value),
                    _ => None,
                };
                return (value, true);
            }
            for row in &rows {
                match row.logged.image[column] {
                    _ if row.deleted && modes.soft => {}
                    _ if row.deleted => return (None, true),
                    Cell::Value(value) => return (Some(value), true),
                    Cell::Null => return (None, true),
                    Cell::Absent if matches!(row.logged.operation, Operation::Insert | Operation::Load) => {
                        return (None, true);
                    }
                    Cell::Absent => {}
                }
            }
            (None, false)
        });
        debug_assert!(rows.iter().all(|row| row.key == newest.key));
        // Once a load is complete, what is older is gone from the source, unless the load brought it.
        let swept = self.epochs.complete.map_or((0, 0, 0, 0), |boundary| (boundary, 0, 0, 0));
        let swept = swept.max(self.epochs.emptied_at().filter(|_| self.rules.emptied_hides).unwrap_or_default());
        let ends = |row: &Split| row.deleted || row.logged.position < swept;
        // Where images may be partial, an update after a delete makes no row before the insert between them has come.
        let begins = |row: &&Split| {
            // A key that was NULL before cannot be seen to have changed; an image that lacks nothing is a row all the same.
            let is_whole = row.logged.operation != Operation::Update
                || row.logged.old.is_some_and(|old| !self.history.kind.is_null(old))
                || !row.logged.image.contains(&Cell::Absent);
            !ends(row) && is_whole
        };
        let ended = rows.iter().filter(|row| ends(row)).map(|row| row.logged.position).max();
        let begun = rows.iter().filter(begins).map(|row| row.logged.position).max();
        let waits_for_its_insert = modes.unchanged && ended > begun;
        Some(Folded {
            position: newest.logged.position.max(swept),
            deleted: newest.deleted || waits_for_its_insert || newest.logged.position < swept,
            has_image: rows.iter().any(|row| !row.deleted),
            late,
            beyond_log: self.is_beyond_log(&newest.logged, 0),
            cells,
        })
    }

    fn apply(&mut self, key: Key, folded: &Folded) {
        let modes = self.history.modes;
        let place = usize::from(key);
        match &mut self.finals[place] {
            Some(old) => {
                let is_newer = !self.rules.guard
                    || folded.position > old.position
                    || modes.unchanged
                        && (folded.late || self.rules.complete_at_own_position)
                        && folded.position == old.position;
                if !is_newer {
                    return;
                }
                if folded.deleted && !modes.soft {
                    self.finals[place] = None;
                    return;
                }
                for column in 0..COLUMNS {
                    let (value, is_known) = folded.cells[column];
                    let is_taken = if modes.unchanged { is_known } else { !modes.soft || folded.has_image };
                    if is_taken {
                        old.row[column] = value;
                    }
                }
                old.position = folded.position;
                old.deleted = folded.deleted;
            }
            none => {
                if self.rules.expiry && folded.beyond_log && !folded.deleted {
                    self.beyond_log.insert(key);
                    return;
                }
                let is_whole = !modes.unchanged || folded.cells.iter().all(|(_, is_known)| *is_known);
                if is_whole && (modes.soft || !folded.deleted) {
                    *none = Some(Final {
                        position: folded.position,
                        deleted: folded.deleted,
                        row: folded.cells.map(|(value, _)| value),
                    });
                }
            }
        }
    }

    fn observed(&self) -> Observed {
        let mut observed = Observed::default();
        for (key, row) in self.finals.iter().enumerate() {
            if let Some(row) = row {
                if row.deleted {
                    observed.marked[key] = true;
                } else {
                    observed.rows[key] = Some(row.row);
                }
            }
        }
        observed
    }
}

/// Whether a partition has brought a record that was sent as late as `ended`, and no offset is missing before it.
fn has_passed(
    rules: Rules,
    visible: &[Logged],
    since: &[&Logged],
    partition: usize,
    boundary: u64,
    ended: u64,
) -> bool {
    let own = || since.iter().filter(move |row| row.partition == partition);
    // A partition that has brought nothing since the load began may be behind.
    let Some(highest) = own().map(|row| row.offset).max() else {
        return !rules.silent_partitions;
    };
    let first = own().filter(|row| row.emission_us >= boundary).map(|row| row.offset).min();
    let end = own().filter(|row| row.emission_us >= ended).map(|row| row.offset).min();
    let Some(first) = first else { return false };
    let last = end.unwrap_or(highest);
    let offsets: BTreeSet<u32> = own().map(|row| row.offset).collect();
    let is_gapless = (first..=last).all(|offset| offsets.contains(&offset))
        // What lies before the first may have been ingested long before the load began.
        && if rules.predecessor {
            first == 0 || visible.iter().any(|row| row.partition == partition && row.offset + 1 == first)
        } else {
            offsets.contains(&first.wrapping_sub(1)) || offsets.range(..first).next().is_none()
        };
    is_gapless && end.is_some()
}

/// Plays one history; `spread_us` is how long a window lasts, `retention_us` how long the log keeps a record. The error says at which merge what
/// was wrong.
pub fn play(
    history: &History,
    timeline: &Timeline,
    rules: Rules,
    spread_us: u64,
    retention_us: Option<u64>,
) -> Result<usize, String> {
    let mut model = Model::new(history, rules);
    let mut oracle = Oracle::new(history, timeline);
    let mut rows: Vec<Option<Logged>> =
        (0..history.sendings.len()).map(|place| oracle_row(history, &oracle, timeline, place, rules)).collect();
    let mut controls: Vec<Logged> = timeline.controls.iter().map(control_row).collect();
    // Offsets in the order of sending.
    let mut sent: Vec<&mut Logged> = rows.iter_mut().flatten().chain(&mut controls).collect();
    sent.sort_by_key(|row| row.emission_us);
    let mut offsets = [0u32; PARTITIONS];
    for row in sent {
        row.offset = offsets[row.partition];
        offsets[row.partition] += 1;
    }
    let mut now_us = 0;
    let mut steps = 0;
    let mut expected_quarantine = BTreeSet::new();
    let mut delayed: Vec<usize> = Vec::new();
    for number in 0..=history.windows.len() {
        let window = history.windows.get(number).map_or(&[][..], Vec::as_slice);
        let newest = window.iter().map(|arrival| history.sendings[arrival.sending].emission_us).max().unwrap_or(0);
        let own_controls = || controls.iter().filter(|row| row.control.is_some_and(|control| control.window == number));
        let newest = newest.max(own_controls().map(|row| row.emission_us).max().unwrap_or(0));
        now_us = newest.max(now_us + spread_us);
        model.expire(number, now_us, retention_us);
        for sending in std::mem::take(&mut delayed) {
            oracle.deliver(sending);
        }
        for row in own_controls() {
            now_us += 1;
            model.log.push(Logged { ingested_us: now_us, visible_from: number, ..*row });
            if let Some(control) = row.control {
                oracle.deliver_control(control.told);
            }
        }
        for arrival in window {
            let Some(row) = rows[arrival.sending] else { continue };
            now_us += 1;
            steps += 1;
            let visible_from = number + usize::from(arrival.delayed);
            model.log.push(Logged { ingested_us: now_us, visible_from, ..row });
            if history.kind.is_null(row.key) {
                expected_quarantine.insert((row.partition, row.offset));
            }
            if arrival.delayed {
                delayed.push(arrival.sending);
            } else {
                oracle.deliver(arrival.sending);
            }
        }
        model.merge(number);
        if number == history.windows.len() && timeline.has_reloads() && !loads_a_row(history, timeline, oracle.truth())
        {
            model.complete_by_hand(number);
        }
        if !model.is_defined {
            continue;
        }
        oracle.unsure.extend(&model.beyond_log);
        oracle.held.extend(&model.held);
        // Or its end cannot be seen any more, which a person is told as well.
        oracle.is_forgotten = model.epochs.has_forgotten || retention_us.is_some() && model.epochs.open.is_some();
        oracle
            .check(&model.observed(), number == history.windows.len())
            .map_err(|what| format!("after merge {}: key {what}", number + 1))?;
    }
    if !model.quarantined.is_subset(&expected_quarantine)
        || !timeline.has_reloads() && model.quarantined != expected_quarantine
    {
        return Err("the quarantine holds other records than those without a key".to_owned());
    }
    Ok(steps)
}

/// Whether the last load finds a row.
fn loads_a_row(history: &History, timeline: &Timeline, truth: &super::source::Truth) -> bool {
    let last = timeline.phases.len() - 1;
    (0..history.sendings.len()).any(|place| {
        matches!(history.sendings[place].origin, Origin::Load { phase, .. } if phase == last)
            && history.is_sent(truth, place)
    })
}

/// A control record as it stands in the log, but for its offset.
fn control_row(control: &Control) -> Logged {
    let position = match control.told {
        Told::Truncate(transaction) => (0, 2, u64::from(transaction), 0),
        Told::Create | Told::Drop => (0, 0, 0, 0),
    };
    Logged {
        control: Some(*control),
        emission_us: control.emission_us,
        partition: control.partition,
        offset: 0,
        position,
        operation: Operation::Load,
        key: 0,
        old: None,
        image: [Cell::Absent; COLUMNS],
        sent_us: control.emission_us,
        ingested_us: 0,
        visible_from: 0,
    }
}

/// A sending as it stands in the log, but for its offset.
fn oracle_row(
    history: &History,
    oracle: &Oracle<'_>,
    timeline: &Timeline,
    place: usize,
    rules: Rules,
) -> Option<Logged> {
    let sending = history.sendings[place];
    let truth = oracle.truth();
    let row = |position, operation, key, old, image, sent_us| Logged {
        control: None,
        emission_us: sending.emission_us,
        partition: sending.partition,
        offset: 0,
        position,
        operation,
        key,
        old,
        image,
        sent_us,
        ingested_us: 0,
        visible_from: 0,
    };
    match sending.origin {
        Origin::Load { key, read, .. } => {
            let values = truth.actual[read][usize::from(key)]?;
            let image = values.map(|value| value.map_or(Cell::Null, Cell::Value));
            let class = if rules.load_first { 0 } else { 9 };
            let position = (0, class, sending.emission_us, 0);
            Some(row(position, Operation::Load, key, None, image, sending.emission_us))
        }
        Origin::Change(_) => {
            let change = history.change(truth, place)?;
            let position = (0, 2, u64::from(change.transaction), change.record);
            let sent_us = timeline.commit_us(change.transaction).min(sending.emission_us);
            Some(row(position, change.operation, change.key, change.old, change.image, sent_us))
        }
    }
}
