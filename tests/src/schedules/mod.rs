//! "Right under every schedule", as a fact that is checked: for any history of the source, delivered in any order and any number of
//! times, cut into merges anywhere, the final table comes to equal the source, and at every merge each row is some state that the
//! source's row had.
//!
//! One generator ([`history`]) and one oracle ([`oracle`]) on three levels: the merge's algorithm as a program ([`model`]), its
//! statements on the embedded BigQuery with the handlers in process, and the built functions end to end.
#![allow(
    missing_docs,
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "numbers are small and drawn here; a budget's result is printed"
)]

pub mod alterations;
pub mod ddl;
pub mod history;
pub mod model;
pub mod oracle;
pub mod play;
pub mod random;
pub mod shrink;
pub mod source;
pub mod wire;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use history::{Engine, History, Modes, Timeline};
use model::Rules;
use random::Random;
use source::Kind;

/// What a level went through.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub histories: usize,
    /// Records delivered.
    pub steps: usize,
    pub wrong: usize,
}

impl Tally {
    /// For a person, and for `tests/long.py`.
    #[must_use]
    pub fn in_words(&self) -> String {
        format!("so far: {} histories, {} records delivered, {} wrong", self.histories, self.steps, self.wrong)
    }
}

/// Seconds to run: a level's own variable, else what all share, else the default.
///
/// # Panics
/// When a variable holds no number.
#[must_use]
pub fn seconds(level: &str, default: u64) -> Duration {
    let own = std::env::var(format!("STRAIT_SCHEDULES_SECONDS_{level}")).ok();
    let text = own.or_else(|| std::env::var("STRAIT_SCHEDULES_SECONDS").ok());
    Duration::from_secs(text.map_or(default, |text| text.parse().unwrap()))
}

/// The seed that is to be played alone, if one is.
///
/// # Panics
/// When the variable holds no number.
#[must_use]
pub fn asked_seed() -> Option<u64> {
    std::env::var("STRAIT_SCHEDULES_SEED").ok().map(|seed| seed.parse().unwrap())
}

/// A seed that no run had before.
///
/// # Panics
/// When the clock stands before 1970.
#[must_use]
pub fn new_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// A history of the model's own, with how long a window lasts and how long the log keeps a record.
#[must_use]
pub fn draw(seed: u64, reloads: bool) -> (History, Timeline, u64, Option<u64>) {
    let mut random = Random(seed);
    let windows = 1 + random.below(6);
    let reloads = if reloads && random.one_in(2) { 1 + random.below(2) } else { 0 };
    let timeline = Timeline::random(&mut random, windows, reloads);
    let kind = random.pick(&Kind::ALL);
    let engine = random.pick(&[Engine::MySql, Engine::PostgreSql]);
    let modes = Modes { soft: random.one_in(2), unchanged: random.one_in(3) };
    let spread_us = random.pick(&[1_000, 300_000, 5_000_000]);
    let history = History::random(&mut random, &timeline, kind, engine, modes);
    let forgets = random.one_in(2);
    let retention_us = forgets.then(|| random.pick(&[1_500_000, 3_000_000, 10_000_000]));
    (history, timeline, spread_us, retention_us)
}

/// Plays a seed on the model.
///
/// # Errors
/// What was wrong, with the shortest history that is wrong.
pub fn play_on_model(seed: u64, rules: Rules, reloads: bool) -> Result<usize, (History, String)> {
    let (history, timeline, spread_us, retention_us) = draw(seed, reloads);
    let play = |history: &History| model::play(history, &timeline, rules, spread_us, retention_us);
    play(&history).map_err(|_| {
        let short = shrink::shrink(history, &timeline, Duration::from_secs(60), |candidates| {
            candidates.iter().position(|candidate| play(candidate).is_err())
        });
        let what = play(&short).err().unwrap_or_default();
        let text = format!("seed {seed}: {what}\n  {}", oracle::in_words(&short, &timeline));
        (short, text)
    })
}

/// Plays histories on the model until the time is over or one is wrong.
///
/// # Panics
/// When one is wrong.
pub fn run_model(budget: Duration, reloads: bool) -> Tally {
    let mut tally = Tally::default();
    if let Some(seed) = asked_seed() {
        let steps = play_on_model(seed, Rules::ALL, reloads).unwrap_or_else(|(_, text)| panic!("{text}"));
        return Tally { histories: 1, steps, wrong: 0 };
    }
    let until = Instant::now() + budget;
    let mut seed = new_seed();
    while Instant::now() < until {
        tally.steps += play_on_model(seed, Rules::ALL, reloads).unwrap_or_else(|(_, text)| panic!("{text}"));
        tally.histories += 1;
        seed = seed.wrapping_add(1);
    }
    tally
}
