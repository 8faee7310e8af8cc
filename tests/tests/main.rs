//! Every end-to-end test, a module each, in one binary: as binaries of their own they took a third of a build from nothing, for each
//! compiled the functions' and clients' futures anew. Run all with `make test`, some with `make test WORDS="cases types"`: tests/run.py gives
//! each module a process, and so an embedded BigQuery, of its own. `cargo test -p strait-tests cases::` does so for one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it did"
)]

mod analyzer;
mod bad_input;
mod cases;
mod counters;
mod databases;
mod debezium;
mod debezium_real;
mod define;
mod delta;
mod epochs;
mod fault_sweep;
mod faults;
mod federation;
mod keyless;
mod masks;
mod offsets;
mod older_tables;
mod partitions;
mod pipeline;
mod plan;
mod reloads;
mod schedules;
mod schedules_model;
mod schedules_reload;
mod schedules_statements;
mod schema_changes;
mod schema_histories;
mod schema_model;
mod schema_proposal;
mod schema_statements;
mod secrets_and_values;
mod template;
mod types;
mod verify;
