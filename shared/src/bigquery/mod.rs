//! BigQuery at the edge: the Storage Write API for rows, REST for jobs, tables and datasets.
//! Endpoints and credentials are arguments; nothing here knows what a change is.
pub mod append;
mod append_message;
pub mod auth;
pub mod connect;
pub mod error;
#[cfg(test)]
pub(crate) mod fakes;
pub mod job;
pub mod rest;
pub mod retry;
pub mod table_resource;
pub mod table_spec;

pub use error::{Error, ErrorKind};
