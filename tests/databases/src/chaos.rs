//! Kills at random moments: what is killed, how often, and the dice.

use std::time::Duration;

use fastrand::Rng;

/// What can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// Lambda's poller: a process that ends by SIGKILL, and a new one.
    Poller,
    /// The function that appends, in whatever it does.
    Ingest,
    /// The function that merges.
    Merge,
    /// The stand-in for DMS, which begins again at its last confirmed position.
    Task,
    /// The broker, with everything it holds: the tasks begin again on new topics, at what the log was seen to hold.
    Broker,
    /// The embedded BigQuery, which comes back with what it had acknowledged.
    BigQuery,
}

impl Victim {
    /// For a person.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poller => "poller",
            Self::Ingest => "ingest",
            Self::Merge => "merge",
            Self::Task => "DMS task",
            Self::Broker => "broker",
            Self::BigQuery => "BigQuery",
        }
    }
}

/// Which kills take place.
#[derive(Debug, Clone, Default)]
pub struct Chaos {
    /// Who may be killed; a name twice is killed twice as often.
    pub victims: Vec<Victim>,
    /// So many kills; None is as many as the time brings.
    pub kills: Option<usize>,
    /// The mean time between two.
    pub every: Duration,
}

impl Chaos {
    /// The next victim, and how long it may live.
    #[must_use]
    pub fn next(&self, rng: &mut Rng) -> Option<(Victim, Duration)> {
        let victim = *rng.choice(&self.victims)?;
        Some((victim, self.every.mul_f64(rng.f64() * 2.0)))
    }
}
