//! Random alterations between random changes: a table whose columns are added, dropped, renamed and made of another type while its rows
//! are written, loaded again, moved to other keys and deleted; what DMS sends of it, when it arrives, and what a person does meanwhile.
//! [`source`] says what the final table must come to, [`play`] runs many tables at once through the functions.

pub mod play;
pub mod source;
pub mod structure;

use super::random::Random;
use source::{Action, Fault, History, KEYS, Kind, MadeBy, NAMES, Op, PLAIN_NAMES, Played, Source};

/// How the pipeline is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// STRAIT_DELETES=soft.
    pub soft: bool,
    /// STRAIT_ABSENT_COLUMNS=unchanged.
    pub unchanged: bool,
    /// STRAIT_DROPPED_COLUMNS=drop.
    pub drop: bool,
}

/// The number of a table's first column; those that are added have their operation's.
const FIRST_COLUMN: usize = 1000;

/// A history's first columns, which its first operation's seed decides.
fn first_columns(history: &History) -> Vec<(usize, usize, Kind)> {
    let mut random = Random(history.ops.first().map_or(0, |op| op.seed)).split();
    (0..=random.below(2)).map(|place| (FIRST_COLUMN + place, place, random.pick(&Kind::NEW))).collect()
}

impl History {
    /// Draws one that is delivered before so many merges.
    pub fn random(random: &mut Random, windows: usize, modes: Modes) -> Self {
        let made_by = if random.one_in(4) { MadeBy::Person } else { MadeBy::Strait };
        let has_details = made_by == MadeBy::Strait || random.one_in(2);
        let mut history = Self {
            is_postgresql: random.one_in(2),
            made_by,
            is_partial: modes.unchanged,
            has_details,
            ops: Vec::new(),
            fault: random.one_in(4).then(|| Fault {
                window: random.below(windows),
                skip: random.below(6),
                is_in_effect: random.one_in(2),
                again_at_once: random.one_in(2),
            }),
        };
        let (in_order, with_loads) = (random.one_in(3), random.one_in(3));
        let names_again = random.one_in(3);
        let odd_names = made_by == MadeBy::Strait && random.one_in(4);
        let count = 10 + random.below(24);
        let seed = random.bits();
        let first = Op {
            on: true,
            seed,
            action: Action::Load { is_broken_off: random.one_in(8) },
            window: 0,
            control: if random.one_in(6) { random.below(windows) } else { 0 },
            again: None,
            resent: None,
            is_lost: false,
            person: 0,
        };
        let mut ops = vec![first];
        history.ops = ops.clone();
        let draft = history.clone();
        let mut source = Source::new(&draft, &first_columns(&draft));
        source.apply(0, &first);
        let (mut person, mut down) = (0, 0);
        for place in 1..count {
            let nominal = place * windows / count;
            let is_to_load = down == 1 || down == 0 && with_loads && random.one_in(14);
            if is_to_load && down == 0 && random.one_in(2) {
                // The task is down for the next operations.
                down = 2 + random.below(3);
            }
            let action = if is_to_load && down <= 1 {
                Action::Load { is_broken_off: random.one_in(3) }
            } else if random.one_in(4) {
                alteration(random, &source, names_again, odd_names)
            } else {
                change(random, &source)
            };
            let is_change = matches!(action, Action::Write(_) | Action::Delete(_) | Action::Rekey(..));
            let last = windows - 1;
            let late = |random: &mut Random| (nominal + 1 + random.below(2)).min(last);
            let control = match random.below(if in_order { 2 } else { 6 }) {
                0 if in_order => nominal.saturating_sub(random.below(2)),
                1 if in_order => nominal,
                0 => nominal.saturating_sub(1 + random.below(2)),
                1 | 2 => late(random),
                _ => nominal,
            };
            person = (nominal + random.below(3)).min(last).max(person);
            let is_down = down > 1;
            let op = Op {
                on: true,
                seed: random.bits(),
                action,
                window: if !in_order && random.one_in(6) { late(random) } else { nominal },
                control,
                again: random.one_in(8).then(|| nominal + random.below(windows - nominal)),
                resent: (!in_order && random.one_in(10)).then(|| nominal + random.below(windows - nominal)),
                is_lost: is_down || !is_change && !in_order && random.one_in(10),
                person,
            };
            down = if matches!(action, Action::Load { .. }) { 0 } else { down.max(1) - usize::from(down > 1) };
            if !is_down && down == 1 && !with_loads {
                down = 0;
            }
            source.apply(place, &op);
            ops.push(op);
        }
        drop(source);
        history.ops = ops;
        history
    }

    /// What it comes to.
    pub fn played(&self) -> Played {
        let mut source = Source::new(self, &first_columns(self));
        for (place, op) in self.ops.iter().enumerate() {
            source.apply(place, op);
        }
        source.finish()
    }

    /// Shorter ones, to find the shortest that still goes wrong.
    pub fn shorter(&self) -> Vec<Self> {
        let done = self.played().done;
        let on: Vec<usize> = (1..self.ops.len()).filter(|place| self.ops[*place].on).collect();
        let mut all = Vec::new();
        if on.iter().any(|place| !done.contains(place)) {
            let mut shorter = self.clone();
            for place in on.iter().filter(|place| !done.contains(place)) {
                shorter.ops[*place].on = false;
            }
            return vec![shorter];
        }
        let mut with = |change: &dyn Fn(&mut Self)| {
            let mut shorter = self.clone();
            change(&mut shorter);
            all.push(shorter);
        };
        let mut chunk = on.len();
        while chunk > 0 {
            for places in on.chunks(chunk) {
                with(&|history| places.iter().for_each(|place| history.ops[*place].on = false));
            }
            chunk /= 2;
        }
        if self.fault.is_some() {
            with(&|history| history.fault = None);
        }
        let is_extra = |op: &Op| op.again.is_some() || op.resent.is_some() || op.is_lost;
        if self.ops.iter().filter(|op| is_extra(op)).count() > 0 {
            with(&|history| {
                history.ops.iter_mut().for_each(|op| (op.again, op.resent, op.is_lost) = (None, None, false));
            });
            with(&|history| history.ops.iter_mut().for_each(|op| op.again = None));
            with(&|history| history.ops.iter_mut().for_each(|op| op.resent = None));
        }
        let last = self.ops.iter().flat_map(|op| [op.window, op.control, op.person]).max().unwrap_or_default();
        for window in 0..last {
            // Two merges are made one.
            with(&|history| {
                for op in &mut history.ops {
                    for at in [&mut op.window, &mut op.control, &mut op.person].into_iter().chain(&mut op.again) {
                        *at -= usize::from(*at > window);
                    }
                }
            });
        }
        for place in on.iter().copied().filter(|place| self.ops[*place].window != self.ops[*place].control) {
            with(&|history| history.ops[place].control = history.ops[place].window);
        }
        // Or it would be shortened to itself for ever.
        all.retain(|shorter| shorter != self);
        all
    }

    /// In a line: what arrives before each merge.
    pub fn in_words(&self) -> String {
        let played = self.played();
        let last = played.sent.iter().map(|sent| sent.window).max().unwrap_or_default();
        let columns: Vec<String> =
            first_columns(self).iter().map(|(_, name, kind)| format!("{} {kind:?}", NAMES[*name])).collect();
        let windows: Vec<String> = (0..=last)
            .map(|window| {
                let mut told: Vec<String> = Vec::new();
                if self.made_by == MadeBy::Person {
                    let by_hand = played.by_hand.iter().filter(|by_hand| by_hand.window == window);
                    told.extend(
                        by_hand
                            .flat_map(|by_hand| &by_hand.sql)
                            .map(|sql| format!("[{}]", sql.replace("{table}", "t"))),
                    );
                }
                for (number, sent) in played.sent.iter().enumerate() {
                    if sent.window == window {
                        told.push(format!("{number}:{}", sent.told));
                    }
                    if sent.again == Some(window) {
                        told.push(format!("{number} again"));
                    }
                }
                told.join(" ")
            })
            .collect();
        format!(
            "{} made by {:?}{} ({}): {}{}",
            if self.is_postgresql { "PostgreSQL" } else { "MySQL" },
            self.made_by,
            if self.has_details { "" } else { ", no details" },
            columns.join(", "),
            windows.join(" | "),
            self.fault.map_or_else(String::new, |fault| format!(" {fault:?}"))
        )
    }
}

fn change(random: &mut Random, source: &Source<'_>) -> Action {
    let key = |random: &mut Random| random.below(KEYS as usize) as i64;
    let id = key(random);
    if !source.has_row(id) || !random.one_in(4) {
        return Action::Write(id);
    }
    if random.one_in(2) { Action::Delete(id) } else { Action::Rekey(id, key(random)) }
}

fn alteration(random: &mut Random, source: &Source<'_>, names_again: bool, odd_names: bool) -> Action {
    let columns: Vec<(usize, &str, Kind)> = source.columns().collect();
    let is_new = |name: &str| !source.was_named(name);
    let pool = if odd_names { NAMES.len() } else { PLAIN_NAMES };
    let fresh: Vec<usize> = (0..pool).filter(|name| is_new(NAMES[*name])).collect();
    let former = source.former_names();
    let former: Vec<usize> = (0..pool).filter(|name| former.contains(NAMES[*name])).collect();
    let name = match (names_again && !former.is_empty() && random.one_in(2), fresh.as_slice()) {
        (false, [first, ..]) if odd_names && random.one_in(2) => *fresh.last().unwrap_or(first),
        (false, [first, ..]) => *first,
        _ if !former.is_empty() => random.pick(&former),
        _ => 0,
    };
    let what = if columns.is_empty() { 0 } else { random.below(5) };
    let (column, _, _) = columns.get(random.below(columns.len())).copied().unwrap_or((0, "", Kind::Int));
    match what {
        1 => Action::Drop(column),
        // Without details nobody but the person knows of it, and records of the old shape are nobody's.
        2 if source.is_told() => Action::Rename { column, name },
        3 | 4 => {
            let retypes: Vec<Action> = columns
                .iter()
                .flat_map(|(column, _, _)| source.retypes(*column).into_iter().map(|kind| (*column, kind)))
                .map(|(column, kind)| Action::Retype { column, kind })
                .collect();
            if retypes.is_empty() { Action::Drop(column) } else { random.pick(&retypes) }
        }
        _ => Action::Add { name, kind: source.kind_for(NAMES[name], random) },
    }
}
