//! A short form of `demo-full` and of its kills: real databases and a real broker through the built functions, every table compared with its
//! database.
#![allow(clippy::print_stderr, clippy::panic, reason = "a test fails by panicking, and speaks on standard error")]

use std::time::Duration;

use strait_cli::terminal::Terminal;
use strait_databases::chaos::{Chaos, Victim};
use strait_databases::run::{self, Report, RunOptions};
use strait_databases::settings::{DEFAULTS, WANTED};
use strait_databases::shop::Engine;
use strait_tests::{programs, run as block_on, with_causes};

fn options(changes: u64, rate: u64) -> RunOptions {
    let programs = programs::folder();
    RunOptions {
        settings: WANTED,
        engines: vec![Engine::MariaDb, Engine::PostgreSql],
        changes,
        rate,
        initial: 15,
        clients: 2,
        partitions: 3,
        pollers: 1,
        merge_every: Duration::from_secs(4),
        alterations: true,
        chaos: Chaos::default(),
        seed: std::env::var("STRAIT_DATABASES_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1),
        functions: programs.to_path_buf(),
        poller: programs.join("poller"),
        patience: Duration::from_secs(240),
        minutes: None,
    }
}

/// None, said loudly, where something is not installed that a run needs.
fn played(options: &RunOptions) -> Option<Report> {
    match block_on(run::play(options, &Terminal::detect())) {
        Ok(report) => Some(report),
        Err(error) if error.is_missing() && std::env::var_os("STRAIT_DATABASES_REQUIRED").is_none() => {
            eprintln!("SKIPPED: no run on real databases: {}", with_causes(&error));
            None
        }
        Err(error) => panic!("{}", with_causes(&error)),
    }
}

#[track_caller]
fn assert_right(report: &Report) {
    assert!(report.wrong.is_empty(), "{}", report.wrong.join("\n"));
    // The run did what it was there for.
    assert!(report.changes > 0 && report.messages > report.changes, "{report:?}");
}

#[test]
fn both_databases_equal_their_final_tables_while_columns_come_and_go() {
    let Some(report) = played(&options(800, 80)) else {
        return;
    };
    assert_right(&report);
}

#[test]
fn with_dmss_defaults_they_equal_what_the_defaults_can_keep() {
    let Some(report) = played(&RunOptions { settings: DEFAULTS, alterations: false, ..options(400, 80) }) else {
        return;
    };
    assert_right(&report);
}

#[test]
fn nothing_is_lost_or_doubled_when_everything_dies_at_random() {
    use Victim::{Ingest, Merge, Poller, Task};
    let victims = vec![Poller, Poller, Ingest, Merge, Task];
    let chaos = Chaos { victims, kills: Some(12), every: Duration::from_millis(900) };
    let options = RunOptions { engines: vec![Engine::MariaDb], chaos, alterations: false, ..options(600, 60) };
    let Some(report) = played(&options) else {
        return;
    };
    assert_right(&report);
    assert_eq!(report.kills.values().sum::<usize>(), 12);
}
