//! Random histories and how they are delivered: what DMS sends of a source's history, when it sends it, and in which windows between
//! two merges each record arrives, once or several times. All histories of a table share a [`Timeline`], because a reload concerns the
//! whole table.

use super::random::Random;
use super::source::{Action, Change, KEYS, Key, Kind, PARTITIONS, Rows, SENTINEL, Step, Truth, is_free};

/// Microseconds between two transactions of a source that is busy.
pub const TRANSACTION_US: u64 = 250_000;
/// Microseconds that a phase begins after the one before has ended.
const PHASE_US: u64 = 100_000_000;

/// Whose positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    MySql,
    PostgreSql,
}

/// How the pipeline is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// STRAIT_DELETES=soft.
    pub soft: bool,
    /// STRAIT_ABSENT_COLUMNS=unchanged.
    pub unchanged: bool,
}

/// A full load and the changes that DMS sends after it, until it stops or starts anew.
#[derive(Debug, Clone)]
pub struct Phase {
    /// The load reads what is there from this transaction on, and changes are sent from here.
    pub from: u32,
    /// Changes are sent up to this transaction, which is left out.
    pub until: u32,
    /// Whether the load is broken off.
    pub is_broken_off: bool,
    /// When it begins; microseconds on the clock of all.
    pub begins_us: u64,
    /// The windows in which its records arrive unless they are late: first and last.
    pub windows: (usize, usize),
}

/// What a control record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Create,
    Drop,
    /// The table was emptied at the beginning of a transaction.
    Truncate(u32),
}

/// A control record of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    pub told: Told,
    pub emission_us: u64,
    /// The window that it arrives in.
    pub window: usize,
    pub partition: usize,
}

/// What all histories of a table share.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// Every record arrives in the order of positions over all histories, so that no merge has to look back.
    pub ordered: bool,
    /// Merges.
    pub windows: usize,
    pub phases: Vec<Phase>,
    pub controls: Vec<Control>,
    /// Transactions of a history are below this.
    pub end: u32,
    /// Nothing is there before the first transaction, so that nothing is loaded.
    pub is_empty_at_first: bool,
}

impl Timeline {
    /// A timeline of so many windows, with so many reloads.
    pub fn random(random: &mut Random, windows: usize, reloads: usize) -> Self {
        let ordered = reloads == 0 && random.one_in(5);
        let end = 4 + random.below(14) as u32;
        // Whether windows follow phases, or everything may come at any time.
        let aligned = !random.one_in(4);
        let mut phases: Vec<Phase> = Vec::new();
        let mut starts: Vec<u32> = (0..reloads).map(|_| 1 + random.below(end as usize - 1) as u32).collect();
        starts.sort_unstable();
        let mut begins_us = PHASE_US;
        let mut add = |phases: &mut Vec<Phase>, from: u32, until: u32, is_broken_off: bool| {
            phases.push(Phase { from, until, is_broken_off, begins_us, windows: (0, windows - 1) });
            begins_us += PHASE_US;
        };
        add(&mut phases, 0, starts.first().copied().unwrap_or(end), false);
        for (place, from) in starts.iter().copied().enumerate() {
            if random.one_in(3) {
                add(&mut phases, from, from, true);
            }
            // A load begins where it begins; what the task had not sent by then is never sent.
            let until = starts.get(place + 1).copied().unwrap_or(end);
            add(&mut phases, from, until, false);
        }
        let count = phases.len();
        for (place, phase) in phases.iter_mut().enumerate() {
            if place + 1 < count && random.one_in(2) {
                // The task was down before the reload.
                phase.until = phase.until.saturating_sub(random.below(4) as u32).max(phase.from);
            }
            if aligned && count > 1 {
                let first = place * windows / count;
                phase.windows = (first, ((place + 1) * windows / count).max(first + 1).min(windows) - 1);
                phase.windows.1 = phase.windows.1.max(first);
            }
        }
        let mut controls = Vec::new();
        for (place, phase) in phases.iter().enumerate() {
            let mut window = if aligned { phase.windows.0 } else { random.below(windows) };
            if aligned && place > 0 && random.one_in(5) {
                // There is no order between control and data.
                window = (window + 1 + random.below(2)).min(windows - 1);
            }
            if place == 0 {
                let is_late = random.one_in(8);
                window = if is_late { random.below(windows) } else { 0 };
            }
            let partition = random.below(PARTITIONS);
            let control = |told: Told, after| Control { told, emission_us: phase.begins_us + after, window, partition };
            if place > 0 {
                controls.push(control(Told::Drop, 1));
            }
            controls.push(control(Told::Create, 2));
        }
        let mut timeline = Self { ordered, windows, phases, controls, end, is_empty_at_first: false };
        if !ordered && random.one_in(2) {
            timeline.empty(random);
        }
        timeline
    }

    /// The source empties the table once or twice. What DMS sends of that may come late, and again.
    fn empty(&mut self, random: &mut Random) {
        for _ in 0..1 + random.below(2) {
            let transaction = 1 + random.below(self.end as usize - 1) as u32;
            // While the task is down nothing is sent of it; the load that follows does not bring what is gone.
            let sent_by = self.phases.iter().find(|phase| (phase.from.max(1)..phase.until).contains(&transaction));
            let Some((first, last)) = sent_by.map(|phase| phase.windows) else { continue };
            let nominal = first + transaction as usize * (last + 1 - first) / self.end as usize;
            let again = if random.one_in(3) { 2 } else { 1 };
            for time in 0..again {
                let is_late = random.one_in(3);
                let window = if is_late { nominal + random.below(self.windows - nominal) } else { nominal };
                self.controls.push(Control {
                    told: Told::Truncate(transaction),
                    emission_us: self.commit_us(transaction) + 3 + time * TRANSACTION_US * 5,
                    window,
                    partition: random.below(PARTITIONS),
                });
            }
        }
    }

    /// The transactions that begin with emptying the table.
    pub fn emptying(&self) -> impl Iterator<Item = u32> + '_ {
        self.controls.iter().filter_map(|control| match control.told {
            Told::Truncate(transaction) => Some(transaction),
            Told::Create | Told::Drop => None,
        })
    }

    /// Whether the table is reloaded.
    pub fn has_reloads(&self) -> bool {
        self.phases.len() > 1
    }

    /// When a transaction committed.
    pub fn commit_us(&self, transaction: u32) -> u64 {
        // The source goes on while DMS rests: a transaction is committed in the phase that a reload before it began.
        let phases = self.phases.iter().take_while(|phase| phase.from <= transaction || phase.from == 0);
        phases.last().map_or(PHASE_US, |phase| {
            phase.begins_us + 1_000 + u64::from(transaction.saturating_sub(phase.from)) * TRANSACTION_US
        })
    }
}

/// What a message tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The change that a step made.
    Change(usize),
    /// The row of a key as it was read after so many steps, by the load of a phase.
    Load { key: Key, read: usize, phase: usize },
}

/// A message that DMS sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending {
    pub origin: Origin,
    /// When DMS builds it; rises in the order in which it sends. Microseconds on the clock of all.
    pub emission_us: u64,
    pub partition: usize,
    /// Sent once more by a task that was started again: same position and commit time, another record.
    pub again: bool,
}

/// A record's arrival in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    pub sending: usize,
    /// It is in the log before the window's merge, which does not see it yet.
    pub delayed: bool,
}

/// One history with its delivery.
#[derive(Debug, Clone)]
pub struct History {
    pub kind: Kind,
    pub engine: Engine,
    pub modes: Modes,
    pub steps: Vec<Step>,
    pub sendings: Vec<Sending>,
    /// What arrives before each merge.
    pub windows: Vec<Vec<Arrival>>,
}

impl History {
    /// The truth of it.
    pub fn truth(&self) -> Truth {
        Truth::of(self.kind, self.modes.unchanged, &self.steps)
    }

    /// The change that a sending carries; `None` for a load, and for one that a missing step leaves empty.
    pub fn change(&self, truth: &Truth, sending: usize) -> Option<Change> {
        match self.sendings[sending].origin {
            Origin::Change(step) => truth.changes[step],
            Origin::Load { .. } => None,
        }
    }

    /// Whether a sending has anything in it.
    pub fn is_sent(&self, truth: &Truth, sending: usize) -> bool {
        match self.sendings[sending].origin {
            Origin::Change(step) => truth.changes[step].is_some(),
            Origin::Load { key, read, .. } => truth.actual[read][usize::from(key)].is_some(),
        }
    }

    /// Whether DMS could have sent this: each load tells of every row that was there when it began and that was not removed meanwhile, and
    /// what ends a reload is there. The shrinker may not go beyond.
    pub fn is_sound(&self, timeline: &Timeline) -> bool {
        let truth = self.truth();
        if timeline.has_reloads() {
            let ends = self.steps.iter().filter(|step| matches!(step.action, Action::Insert(SENTINEL..)));
            if ends.filter(|step| step.on).count() < PARTITIONS {
                return false;
            }
        }
        timeline.phases.iter().enumerate().filter(|(_, phase)| !phase.is_broken_off).all(|(place, phase)| {
            let from = phase.from.max(1);
            let begin = self.steps.iter().position(|step| step.transaction >= from).unwrap_or(self.steps.len());
            (0..KEYS as Key).filter(|key| truth.actual[begin][usize::from(*key)].is_some()).all(|key| {
                let is_loaded = self.sendings.iter().enumerate().any(|(number, sending)| {
                    matches!(sending.origin, Origin::Load { key: of, phase, .. } if of == key && phase == place)
                        && self.is_sent(&truth, number)
                });
                let is_emptied = self.steps[begin..].iter().any(|step| step.action == Action::Empty);
                let next = truth.changes[begin..].iter().flatten();
                let mut next = next.filter(|change| change.key == key || change.old == Some(key));
                let is_removed = next.next().is_some_and(|change| {
                    change.old == Some(key) || change.operation == super::source::Operation::Delete
                });
                is_loaded || is_removed || is_emptied
            })
        })
    }

    /// The window in which a sending arrives first.
    pub fn first_window(&self, sending: usize) -> usize {
        let arrives = |window: &Vec<Arrival>| window.iter().any(|arrival| arrival.sending == sending);
        self.windows.iter().position(arrives).unwrap_or(0)
    }

    /// Draws a history on a timeline.
    pub fn random(random: &mut Random, timeline: &Timeline, kind: Kind, engine: Engine, modes: Modes) -> Self {
        let steps = draw_steps(random, timeline, kind);
        let mut history = Self { kind, engine, modes, steps, sendings: Vec::new(), windows: Vec::new() };
        let truth = history.truth();
        let nominal = history.send(random, timeline, &truth);
        history.deliver(random, timeline, &nominal);
        history
    }

    /// What DMS sends, in its order; returns the place of each sending's phase.
    fn send(&mut self, random: &mut Random, timeline: &Timeline, truth: &Truth) -> Vec<usize> {
        let by_key = random.one_in(2);
        let mut phases = Vec::new();
        for (place, phase) in timeline.phases.iter().enumerate() {
            let mut clock = phase.begins_us + 10;
            let first_step = self.steps.iter().position(|step| step.transaction >= phase.from.max(1));
            let first_step = first_step.unwrap_or(self.steps.len());
            if place > 0 || self.steps.iter().any(|step| step.transaction == 0) {
                let mut keys: Vec<Key> = (0..KEYS as Key).collect();
                for last in (1..keys.len()).rev() {
                    keys.swap(last, random.below(last + 1));
                }
                if phase.is_broken_off {
                    keys.truncate(random.below(KEYS));
                }
                // A load takes its time: each row is read as it is when its turn comes.
                let mut read = first_step;
                for key in keys {
                    // Debezium, which tells of a table that is emptied, reads all rows as of one place in the source's log.
                    let may_be_late = self.steps.get(read).is_some_and(|step| {
                        step.transaction < phase.until.min(phase.from + 4) && step.action != Action::Empty
                    });
                    if may_be_late && random.one_in(4) {
                        read += 1;
                    }
                    if truth.actual[read][usize::from(key)].is_none() {
                        continue;
                    }
                    clock = (clock + 7)
                        .max(timeline.commit_us(self.steps[..read].last().map_or(0, |step| step.transaction)) + 7);
                    self.sendings.push(Sending {
                        origin: Origin::Load { key, read, phase: place },
                        emission_us: clock,
                        partition: usize::from(key) % PARTITIONS,
                        again: false,
                    });
                    phases.push(place);
                }
            }
            let sent: Vec<usize> = (first_step..self.steps.len())
                .filter(|step| (phase.from.max(1)..phase.until).contains(&self.steps[*step].transaction))
                .filter(|step| truth.changes[*step].is_some())
                .collect();
            let mut queue: Vec<(usize, bool)> = sent.iter().map(|step| (*step, false)).collect();
            let restarts = if timeline.ordered || sent.is_empty() { 0 } else { [0, 0, 1, 2][random.below(4)] };
            for _ in 0..restarts {
                let at = 1 + random.below(queue.len());
                let from = random.below(at);
                // The task goes on from an earlier point.
                let back_to = queue[from].0;
                let mut rest: Vec<(usize, bool)> =
                    sent.iter().filter(|step| **step >= back_to).map(|step| (*step, false)).collect();
                let already: Vec<usize> = queue[..at].iter().map(|(step, _)| *step).collect();
                for (step, is_again) in &mut rest {
                    *is_again = already.contains(step);
                }
                queue.truncate(at);
                queue.extend(rest);
            }
            for (step, again) in queue {
                let change = truth.changes[step].as_ref().map(|change| (change.transaction, change.key));
                let (transaction, key) = change.unwrap_or_default();
                clock = (clock + 11).max(timeline.commit_us(transaction) + 11);
                let partition = match key {
                    SENTINEL.. => usize::from(key - SENTINEL),
                    _ if by_key => usize::from(key) % PARTITIONS,
                    _ => 0,
                };
                self.sendings.push(Sending { origin: Origin::Change(step), emission_us: clock, partition, again });
                phases.push(place);
            }
        }
        phases
    }

    fn deliver(&mut self, random: &mut Random, timeline: &Timeline, phases: &[usize]) {
        let windows = timeline.windows;
        self.windows = vec![Vec::new(); windows];
        if timeline.ordered {
            let last = u64::from(timeline.end) * TRANSACTION_US + PHASE_US * 2;
            let window_of = |sending: &Sending| {
                let since = sending.emission_us.saturating_sub(PHASE_US);
                let all = last - PHASE_US * 2 + 1;
                ((since * windows as u64 / all) as usize).min(windows - 1)
            };
            for (place, sending) in self.sendings.iter().enumerate() {
                let window = window_of(sending);
                self.windows[window].push(Arrival { sending: place, delayed: false });
                if random.one_in(8) {
                    self.windows[window].push(Arrival { sending: place, delayed: false });
                }
            }
            return;
        }
        // The cuts: each history has its own, between any two records, inside a transaction as well.
        let mut nominal = vec![0; self.sendings.len()];
        for (place, phase) in timeline.phases.iter().enumerate() {
            let of_phase: Vec<usize> = (0..phases.len()).filter(|sending| phases[*sending] == place).collect();
            let (first, last) = phase.windows;
            let mut cuts: Vec<usize> = (first..last).map(|_| random.below(of_phase.len() + 1)).collect();
            cuts.sort_unstable();
            for (number, sending) in of_phase.iter().enumerate() {
                nominal[*sending] = first + cuts.iter().filter(|cut| **cut <= number).count();
            }
        }
        let slow = random.one_in(4).then(|| random.below(PARTITIONS));
        let late_one_in = [3, 6, 12, 1000][random.below(4)];
        for (place, sending) in self.sendings.iter().enumerate() {
            let is_last = matches!(sending.origin, Origin::Change(step) if matches!(self.steps[step].action, Action::Insert(SENTINEL..)));
            let mut window = nominal[place];
            if is_last && timeline.has_reloads() {
                window = windows - 1;
            } else if random.one_in(late_one_in) {
                window += random.below(windows - window);
            } else if slow == Some(sending.partition) {
                window = (window + 1).min(windows - 1);
            }
            self.windows[window].push(Arrival { sending: place, delayed: random.one_in(40) });
            if random.one_in(7) {
                let again = window + random.below(windows - window);
                self.windows[again].push(Arrival { sending: place, delayed: false });
            }
        }
        // A batch delivered again, from an earlier point.
        if random.one_in(3) && !self.sendings.is_empty() {
            let window = random.below(windows);
            let (from, upto) = (random.below(self.sendings.len()), random.below(self.sendings.len() + 1));
            let arrived: Vec<usize> = self.windows[..=window].iter().flatten().map(|arrival| arrival.sending).collect();
            let again = (from..upto).filter(|sending| arrived.contains(sending));
            let again: Vec<Arrival> = again.map(|sending| Arrival { sending, delayed: false }).collect();
            self.windows[window].extend(again);
        }
    }
}

fn draw_steps(random: &mut Random, timeline: &Timeline, kind: Kind) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut rows: Rows = [None; KEYS];
    let mut value = 0;
    let mut push = |random: &mut Random, steps: &mut Vec<Step>, rows: &mut Rows, transaction: u32, action: Action| {
        value += 1;
        let rarely = |random: &mut Random| if random.one_in(4) { random.below(4) as u8 } else { 0 };
        let step = Step { on: true, transaction, action, value, nulls: rarely(random), bare: random.below(4) as u8 };
        // As the source would: what is not possible is not tried.
        let one = Truth::of_one(kind, &step, rows);
        if one {
            steps.push(step);
        }
    };
    let ordinary: Vec<Key> = (0..SENTINEL).collect();
    for key in &ordinary {
        if random.one_in(4) && !timeline.is_empty_at_first {
            push(random, &mut steps, &mut rows, 0, Action::Insert(*key));
        }
    }
    let busy = random.one_in(3);
    for transaction in 1..timeline.end {
        if timeline.emptying().any(|emptied| emptied == transaction) {
            rows = [None; KEYS];
            steps.push(Step { on: true, transaction, action: Action::Empty, value: 0, nulls: 0, bare: 0 });
        }
        let changes = if busy || random.one_in(3) { 1 + random.below(3) } else { random.below(2) };
        for _ in 0..changes {
            let present: Vec<Key> = ordinary.iter().copied().filter(|key| rows[usize::from(*key)].is_some()).collect();
            let free: Vec<Key> = ordinary.iter().copied().filter(|key| is_free(kind, &rows, *key, None)).collect();
            let columns = 1 + random.below(3) as u8;
            let draw = random.below(if kind == Kind::CaseInsensitive { 13 } else { 11 });
            match draw {
                0..=2 if !free.is_empty() => {
                    let key = random.pick(&free);
                    push(random, &mut steps, &mut rows, transaction, Action::Insert(key));
                }
                3..=5 if !present.is_empty() => {
                    let key = random.pick(&present);
                    push(random, &mut steps, &mut rows, transaction, Action::Update(key, columns));
                }
                6 if !present.is_empty() => {
                    let key = random.pick(&present);
                    push(random, &mut steps, &mut rows, transaction, Action::Delete(key));
                }
                7 if !present.is_empty() => {
                    let key = random.pick(&present);
                    push(random, &mut steps, &mut rows, transaction, Action::Delete(key));
                    push(random, &mut steps, &mut rows, transaction, Action::Insert(key));
                }
                8 | 9 if !present.is_empty() && !free.is_empty() => {
                    let (from, to) = (random.pick(&present), random.pick(&free));
                    let columns = columns - 1;
                    push(random, &mut steps, &mut rows, transaction, Action::Rekey(from, to, columns));
                }
                // Two keys change places by way of a third: each is free before it is taken.
                10 if present.len() >= 2 && !free.is_empty() => {
                    let (one, two, third) = (present[0], present[present.len() - 1], random.pick(&free));
                    for (from, to) in [(one, third), (two, one), (third, two)] {
                        push(random, &mut steps, &mut rows, transaction, Action::Rekey(from, to, 0));
                    }
                }
                // Only the case changes.
                11 | 12 if !present.is_empty() => {
                    let key = random.pick(&present);
                    push(random, &mut steps, &mut rows, transaction, Action::Rekey(key, key ^ 1, columns - 1));
                }
                _ => {}
            }
        }
    }
    if timeline.has_reloads() {
        // The change in each partition that is emitted last: only then a load is known to be complete.
        for key in SENTINEL..KEYS as Key {
            push(random, &mut steps, &mut rows, timeline.end - 1, Action::Insert(key));
        }
    }
    steps
}
