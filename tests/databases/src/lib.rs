//! Real databases for tests ([`server`]), a shop that works on them ([`shop`], [`workload`]), and a run ([`run`]): the stand-in for DMS reads
//! their logs, a broker carries its messages, a stand-in for Lambda's poller hands them to the built functions, merges run on a
//! schedule, and at the end every final table is compared with the database's own text ([`contents`]). Nothing here may ask Strait what
//! would be right.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "what only tests run fails by panicking"
)]

pub mod chaos;
pub mod contents;
pub mod figures;
pub mod run;
pub mod server;
pub mod settings;
pub mod shop;
pub mod workload;
