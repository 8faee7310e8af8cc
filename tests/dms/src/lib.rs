//! A stand-in for AWS DMS: it reads a real database's own log (MariaDB's binlog, PostgreSQL's logical slot), first the tables as they
//! stand and then every change, and says what it read in the messages that DMS writes to Kafka. It must never know what Strait
//! makes of a message: its forms come from DMS's documentation and from messages that others published.
//!
//! [`message`] is the core, without I/O: a table, a change of it and the endpoint's [`settings`] → the text and the Kafka key.
//! [`mysql`] and [`postgresql`] read the databases; a [`Target`] takes what came of it.
//!
//! What it does as DMS does: the order of a full load and the changes that go on meanwhile (those are sent again after it), a position
//! that is confirmed only when Kafka has taken everything before it, and the same changes once more when a task begins anew from there.
//!
//! What it cannot prove, because only DMS itself could show it:
//! - how DMS formats a number. Here decimals are printed as the database prints them, doubles with as many digits as they need, single
//!   precision with nine, long integers as `%.15g` unless UseLargeIntegerValue is set. The published messages agree where they show any.
//! - what limited LOB mode cuts off, and when: here no value is cut.
//! - the form of the records for altered columns (`column-names`, `old-table-def`), of which no message is public.
//! - what DMS does with a value of PostgreSQL that was moved out of the row (TOAST) and did not change: here it is left out, or read
//!   from the source as LOB columns are ([`settings::Unchanged`]).

pub mod message;
pub mod mysql;
pub mod postgresql;
pub mod settings;
pub mod table;

mod json;
mod numbers;

use async_trait::async_trait;

pub use message::Message;
pub use settings::{EndpointSettings, TaskSettings};

/// Why a task stopped. As DMS's own it begins again from its last confirmed position.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The MySQL client or server.
    #[error("MariaDB: {0}")]
    MySql(#[from] mysql_async::Error),
    /// The PostgreSQL client or server.
    #[error("PostgreSQL")]
    PostgreSql(#[from] tokio_postgres::Error),
    /// The target did not take the messages.
    #[error("the target does not take the messages")]
    Target(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The file that holds the position.
    #[error("cannot keep the task's position")]
    Checkpoint(#[from] std::io::Error),
    /// Something in the source that this stand-in does not know. It is never passed over.
    #[error("not known to the stand-in: {0}")]
    Unknown(String),
}

/// Where messages go.
#[async_trait]
pub trait Target: Send {
    /// Takes messages, in order, and answers once all of them are safe there.
    ///
    /// # Errors
    /// [`TaskError::Target`]; then any of them may be there or not.
    async fn take(&mut self, messages: Vec<Message>) -> Result<(), TaskError>;
}
