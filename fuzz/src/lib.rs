//! What must hold for any input of the readers and writers of text that everything else stands on. Each target is a plain function from
//! bytes that panics when something does not hold: libFuzzer calls it (`libfuzzer/`), and so does the replay on stable
//! (`tests/replay.rs`).
//!
//! A target must never take the product's word for what is right: it compares with `serde_json`, with a reader of its own, or with what
//! went in.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a target says by panicking that something does not hold"
)]

mod bigquery_text;
mod configuration;
mod debezium;
mod definition;
mod event;
mod independent_json;
mod mask;
mod message;
mod names;
mod position;

/// Something that reads or writes text, and what must hold of it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is its corpus folder's as well.
    pub name: &'static str,
    /// Panics when something does not hold for this input.
    pub check: fn(&[u8]),
    /// What its inputs are made of: words that random bytes would hardly come to.
    pub words: &'static [&'static str],
}

/// Every target.
pub const TARGETS: [Target; 8] = [
    Target { name: "event", check: event::check, words: event::WORDS },
    Target { name: "message", check: message::check, words: message::WORDS },
    Target { name: "mask", check: mask::check, words: mask::WORDS },
    Target { name: "position", check: position::check, words: position::WORDS },
    Target { name: "configuration", check: configuration::check, words: configuration::WORDS },
    Target { name: "names", check: names::check, words: names::WORDS },
    Target { name: "debezium", check: debezium::check, words: debezium::WORDS },
    Target { name: "definition", check: definition::check, words: definition::WORDS },
];

/// A target by its name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

/// The names of all targets.
#[must_use]
pub fn names() -> [&'static str; TARGETS.len()] {
    TARGETS.map(|target| target.name)
}
