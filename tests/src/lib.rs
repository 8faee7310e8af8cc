//! What the end-to-end tests stand on: [`history`] writes what DMS would send, [`pipeline`] runs the built functions on it against an
//! embedded BigQuery, [`secrets_manager`] gives them secrets, [`case`] plays a whole case of a history with every redelivery. Nothing here
//! may compute an expected row: those are written by hand in the tests.
//!
//! One embedded BigQuery serves all tests of a binary; each test has datasets and function processes of its own, so that tests run
//! side by side. This is made for `cargo test`: a runner that gives each test a process of its own starts an embedded BigQuery for
//! each.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, and speaks on standard error"
)]

pub mod case;
pub mod conversions;
pub mod debezium;
pub mod encoded;
pub mod history;
pub mod pipeline;
pub mod programs;
pub mod schedules;
pub mod secrets_manager;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use strait_cli::embedded_bigquery::EmbeddedBigQuery;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// Stands for NULL among a row's cells; no text of a test is equal to it.
pub const NULL: &str = "\u{0}NULL";

/// The project of every test's tables.
pub const PROJECT: &str = "e2e";

/// Runs a test. All tests of a binary share one runtime: the embedded BigQuery's process and connections belong to it.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let _ = programs::folder();
    run_in_process(test)
}

/// Runs a test that starts none of the built programs, so that none has to be built for it.
pub fn run_in_process<T>(test: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
    RUNTIME.block_on(test)
}

/// The binary's embedded BigQuery. It ends with the binary's process.
///
/// # Panics
/// When it cannot be started; the text says what is missing (Python 3.13, the network for the first set-up).
pub async fn bigquery() -> Arc<EmbeddedBigQuery> {
    static SHARED: OnceCell<Arc<EmbeddedBigQuery>> = OnceCell::const_new();
    let started = SHARED.get_or_init(|| async {
        match EmbeddedBigQuery::start(PROJECT, &|step| eprintln!("{step}")).await {
            Ok(bigquery) => Arc::new(bigquery),
            Err(error) => panic!("{}", with_causes(&error)),
        }
    });
    Arc::clone(started.await)
}

/// An error and what caused it, in one text.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(&format!("\n  because: {source}"));
        cause = source.source();
    }
    text
}

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// An event of the repository's `events` folder.
///
/// # Panics
/// When there is none of this name.
#[must_use]
pub fn event(name: &str) -> Vec<u8> {
    let path = repository().join("events").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
