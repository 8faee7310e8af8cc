//! What Strait's functions stand on, in the order in which a change passes through it:
//! [`kafka`], [`dms`] and [`debezium`] decode it, [`mask`] takes out what must not leave AWS, [`position`] orders it, [`log`] appends it, [`merge`] applies it.
//! [`bigquery`] is the only module that talks to Google, [`secrets`] the only one that talks to AWS.

pub mod bigquery;
pub mod config;
pub mod debezium;
pub mod dms;
pub mod ingest;
pub mod json_text;
pub mod kafka;
pub mod lambda;
pub mod log;
pub mod mask;
pub mod merge;
pub mod names;
pub mod position;
pub mod secrets;
pub mod telemetry;
