//! What the operator's command and the end-to-end tests stand on, in the order in which a record passes through it:
//! [`dms_file`] reads messages, [`msk`] wraps them as Lambda's poller does, [`runtime_api`] hands them to the built functions as
//! Lambda does, [`embedded_bigquery`] is where those write. [`pipeline`] puts the four together; [`accounting`] and [`compare`]
//! check the outcome without asking the functions. [`schema`] stands apart: it reads the log of a pipeline that runs elsewhere;
//! and so do [`doctor`], which judges the [`dms_settings`] of one, [`verify`], which compares its tables with their source, and [`define`],
//! which tells its log what the source's catalogue says of them.
//!
//! Nothing here decides what a change means: that is the functions' own, and they run as built.

pub mod accounting;
pub mod compare;
pub mod define;
pub mod demo;
pub mod dms_file;
pub mod dms_settings;
pub mod doctor;
pub mod embedded_bigquery;
pub mod equality;
pub mod local;
pub mod msk;
pub mod pipeline;
pub mod plan;
mod report;
pub mod runtime_api;
pub mod schema;
pub mod terminal;
pub mod verify;
