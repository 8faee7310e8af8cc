//! Placeholder.

use crate::names::TableName;

/// What a delete at the source does to the final table's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletes {
    /// The row is removed.
    Hard,
    /// The row stays, with `_strait_deleted = true`.
    Soft,
}

/// What a column that is missing from a row image means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbsentColumns {
    /// NULL.
    Null,
    /// Unchanged.
    Unchanged,
}

/// Where the Google credential comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// No credential: only with an `http://` endpoint (the embedded BigQuery).
    None,
    /// The id of a Secrets Manager secret that holds the credential JSON.
    Secret(String),
    /// An `external_account` credential JSON, which holds no secret.
    Inline(String),
}

/// The configuration of both functions, read once at cold start.
#[derive(Clone)]
pub struct Config {
    /// Google Cloud project of all tables.
    pub project: String,
    /// BigQuery location.
    pub location: String,
    /// The log.
    pub log_table: TableName,
    /// The merge ledger.
    pub merges_table: TableName,
    /// What could not be applied.
    pub quarantine_table: TableName,
    /// Default of every final table; a label on the table wins.
    pub deletes: Deletes,
    /// What a column missing from an image means.
    pub absent_columns: AbsentColumns,
    /// Partition expiry of the log, in days.
    pub log_retention_days: u32,
    /// Cap per merge job, in bytes.
    pub max_bytes_billed: Option<i64>,
    /// Where the Google credential comes from.
    pub credentials: CredentialSource,
    /// Base URL of BigQuery's REST API, without a trailing slash.
    pub rest_url: String,
    /// URL of the Storage Write API.
    pub grpc_url: String,
}
