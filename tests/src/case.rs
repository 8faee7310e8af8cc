//! Cases of a history: what is delivered and where merges cut it, and the rows that have to be there at the end. Each is played under
//! both delete modes, and after it every suffix of its records is delivered again.
//!
//! All cases of a binary are played together, each on a table of its own: what a merge costs is hardly more for twenty tables than for
//! one. Windows are kept: the n-th merge of a case is the n-th merge of all.

use std::collections::BTreeMap;
use std::ops::Range;

use strait_cli::msk::{self, KafkaRecord};
use strait_cli::pipeline::in_words;
use strait_cli::runtime_api::InvocationOutcome;

use crate::history::{Message, Table};
use crate::pipeline::{NOTHING_FAILED, Pipeline, Setup, answer, cells};

#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "a case has a handful of them")]
enum Arrival {
    New(Box<Message>),
    Again(Range<usize>),
}

/// A case.
#[derive(Debug, Clone)]
pub struct Case {
    name: &'static str,
    table: Table,
    absent: &'static str,
    windows: Vec<Vec<Arrival>>,
    expected: Vec<Vec<Option<String>>>,
    deleted_keys: usize,
}

/// What became of a case: what was wrong, by delete mode; empty when nothing was.
pub type Outcome = Vec<String>;

impl Case {
    /// A case of one table, whose definition arrives first.
    #[must_use]
    pub fn of(table: &Table) -> Self {
        Self {
            name: "",
            table: table.clone(),
            absent: "null",
            windows: vec![Vec::new()],
            expected: Vec::new(),
            deleted_keys: 0,
        }
    }

    /// Under a name, which is the source schema of its table as well.
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        name.clone_into(&mut self.table.schema);
        for arrival in self.windows.iter_mut().flatten() {
            if let Arrival::New(message) = arrival {
                message.set_schema(name);
            }
        }
        self
    }

    /// Where a column that is missing from an image keeps its value.
    #[must_use]
    pub fn absent_means_unchanged(mut self) -> Self {
        self.absent = "unchanged";
        self
    }

    /// Then these arrive.
    #[must_use]
    pub fn deliver(mut self, messages: impl IntoIterator<Item = Message>) -> Self {
        self.windows.last_mut().unwrap().extend(messages.into_iter().map(Box::new).map(Arrival::New));
        self
    }

    /// Then Kafka delivers records again, counted from the first of the case.
    #[must_use]
    pub fn redeliver(mut self, records: Range<usize>) -> Self {
        self.windows.last_mut().unwrap().push(Arrival::Again(records));
        self
    }

    /// Then a merge runs.
    #[must_use]
    pub fn merge(mut self) -> Self {
        self.windows.push(Vec::new());
        self
    }

    /// Then, after one more merge, the table holds these rows, and under soft deletes so many rows marked as deleted beside them.
    #[must_use]
    pub fn ends_with(mut self, rows: &[&[&str]], deleted_keys: usize) -> Self {
        self.expected = cells(rows);
        self.deleted_keys = deleted_keys;
        self
    }
}

/// Those of the cases that the test's command line selects by a part of their names, as `cargo test case_05` does; all, if it names
/// none of them.
#[must_use]
pub fn asked_for(cases: Vec<Case>) -> Vec<Case> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_asked_for = |case: &Case| arguments.iter().any(|argument| case.name.contains(argument.as_str()));
    let has_skip = arguments.iter().any(|argument| argument.starts_with("--skip"));
    if has_skip || !cases.iter().any(is_asked_for) {
        return cases;
    }
    cases.into_iter().filter(is_asked_for).collect()
}

/// Plays cases, and says of each by its name what was wrong.
pub async fn play(cases: &[Case]) -> BTreeMap<&'static str, Outcome> {
    let mut outcomes: BTreeMap<&'static str, Outcome> = cases.iter().map(|case| (case.name, Outcome::new())).collect();
    let (hard, soft) = tokio::join!(play_under(cases, "hard"), play_under(cases, "soft"));
    for (name, wrong) in hard.into_iter().chain(soft) {
        outcomes.entry(name).or_default().push(wrong);
    }
    outcomes
}

async fn play_under(cases: &[Case], deletes: &'static str) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    for absent in ["null", "unchanged"] {
        let players: Vec<Player<'_>> = cases.iter().filter(|case| case.absent == absent).map(Player::new).collect();
        if players.is_empty() {
            continue;
        }
        let setup = Setup::default().with("STRAIT_DELETES", deletes).with("STRAIT_ABSENT_COLUMNS", absent);
        let mut stage = Stage { pipeline: setup.start().await, deletes, players, wrong: Vec::new() };
        stage.play().await;
        wrong.extend(stage.wrong);
    }
    wrong
}

struct Player<'c> {
    case: &'c Case,
    messages: Vec<Message>,
    records: Vec<KafkaRecord>,
}

impl<'c> Player<'c> {
    fn new(case: &'c Case) -> Self {
        Self { case, messages: Vec::new(), records: Vec::new() }
    }
}

struct Stage<'c> {
    pipeline: Pipeline,
    deletes: &'static str,
    players: Vec<Player<'c>>,
    wrong: Vec<(&'static str, String)>,
}

impl Stage<'_> {
    async fn play(&mut self) {
        let definitions: Vec<Message> = self.players.iter().map(|player| player.case.table.create()).collect();
        self.pipeline.send(&definitions).await;
        let windows = self.players.iter().map(|player| player.case.windows.len()).max().unwrap_or(0);
        for window in 0..windows {
            let mut batch = Vec::new();
            for player in &mut self.players {
                for arrival in player.case.windows.get(window).into_iter().flatten() {
                    match arrival {
                        Arrival::New(message) => {
                            let records = self.pipeline.produce([message.as_ref()]);
                            player.messages.push(Message::clone(message));
                            player.records.extend(records.iter().cloned());
                            batch.extend(records);
                        }
                        Arrival::Again(range) => batch.extend(player.records[range.clone()].iter().cloned()),
                    }
                }
            }
            self.deliver(&batch).await;
            self.merge().await;
        }
        self.check("after its own schedule").await;

        // Kafka delivers again: the same offsets. One merge for all: a merge without news reads two small tables and does nothing.
        let before = self.snapshots().await;
        let longest = self.players.iter().map(|player| player.records.len()).max().unwrap_or(0);
        for from in 0..longest {
            let suffixes = self.players.iter().flat_map(|player| player.records.get(from..).into_iter().flatten());
            let batch: Vec<KafkaRecord> = suffixes.cloned().collect();
            self.deliver(&batch).await;
        }
        self.merge().await;
        let after = self.snapshots().await;
        for (name, snapshot) in before {
            if after.get(name) != Some(&snapshot) {
                self.wrong.push((name, format!("{}: a redelivery touched the table", self.deletes)));
            }
        }

        // DMS sends again after a restart: the same positions at new offsets, in new messages.
        let messages = self.players.iter().flat_map(|player| &player.messages);
        let again: Vec<Message> = messages.filter(|message| message.has_position()).cloned().collect();
        self.pipeline.send(&again).await;
        self.merge().await;
        self.check("after DMS sent everything again").await;
    }

    async fn deliver(&self, records: &[KafkaRecord]) {
        let outcome = self.pipeline.invoke_ingest(msk::event(records)).await;
        assert_eq!(answer(&outcome), NOTHING_FAILED);
    }

    /// A table that fails is its own case's matter, which then does not hold the rows that it should.
    async fn merge(&mut self) {
        let outcome = self.pipeline.invoke_merge("{}").await;
        if !matches!(outcome, InvocationOutcome::Response(_)) {
            eprintln!("{}: {}", self.deletes, in_words(&outcome));
        }
    }

    async fn snapshots(&self) -> BTreeMap<&'static str, Vec<String>> {
        let mut snapshots = BTreeMap::new();
        for player in &self.players {
            // A table that does not exist is found by the check.
            if let Ok(seen) = self.pipeline.try_table(&player.case.table).await {
                snapshots.insert(player.case.name, seen.every_cell);
            }
        }
        snapshots
    }

    async fn check(&mut self, when: &str) {
        let sql = format!("SELECT source_schema, reason FROM `{}`", self.pipeline.quarantine());
        let quarantined = self.pipeline.query(&sql).await;
        for player in &self.players {
            let Case { name, table, expected, .. } = player.case;
            let deletes = self.deletes;
            let mut note = |what: String| self.wrong.push((*name, format!("{deletes}, {when}: {what}")));
            let seen = match self.pipeline.try_table(table).await {
                Ok(seen) => seen,
                Err(error) => {
                    note(error);
                    continue;
                }
            };
            if seen.live != *expected {
                note(format!("the rows are\n  {:?} and should be\n  {expected:?}", seen.live));
            }
            let marked = seen.deleted.len();
            let expected = if deletes == "soft" { player.case.deleted_keys } else { 0 };
            if marked != expected {
                note(format!("{marked} rows are marked as deleted and should be {expected}"));
            }
            for row in quarantined.iter().filter(|row| row[0].as_deref() == Some(name)) {
                note(format!("quarantined: {:?}", row[1]));
            }
        }
    }
}
