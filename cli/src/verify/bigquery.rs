//! The final table's side: queries that only read, each a job of its own, and what they cost.

use serde_json::Value;
use strait::bigquery::connect::{Connections, connect};
use strait::bigquery::job::JobRequest;
use strait::bigquery::table_resource::Table;
use strait::config::Config;
use strait::names::{TableName, fingerprint};
use tokio::time::Instant;

use super::source::TextRow;
use super::{QUERY_LIMIT, VerifyError};

/// BigQuery, as the comparison uses it.
pub struct Final {
    connections: Connections,
    project: String,
    max_bytes_billed: Option<i64>,
    run: String,
    jobs: u64,
    bytes_billed: i64,
}

impl std::fmt::Debug for Final {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Final").field("project", &self.project).field("jobs", &self.jobs).finish_non_exhaustive()
    }
}

impl Final {
    /// Connects. `run` makes the jobs this run's own: the same question later is another job.
    ///
    /// # Errors
    /// When there is no way to BigQuery.
    pub async fn connect(config: &Config, run: &str) -> Result<Self, VerifyError> {
        Ok(Self {
            connections: connect(config).await.map_err(VerifyError::Connect)?,
            project: config.project.clone(),
            max_bytes_billed: config.max_bytes_billed,
            run: run.to_owned(),
            jobs: 0,
            bytes_billed: 0,
        })
    }

    /// The project of all tables.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }

    /// Both ways to BigQuery.
    #[must_use]
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Bytes on the bill so far.
    #[must_use]
    pub fn bytes_billed(&self) -> i64 {
        self.bytes_billed
    }

    /// A table as it stands.
    ///
    /// # Errors
    /// When BigQuery does not say.
    pub async fn table(&self, name: &TableName) -> Result<Option<Table>, VerifyError> {
        Ok(self.connections.rest.get_table(name, Instant::now() + QUERY_LIMIT).await?)
    }

    /// Runs a query and returns its rows.
    ///
    /// # Errors
    /// When BigQuery does not answer it.
    pub async fn rows(&mut self, sql: String) -> Result<Vec<TextRow>, VerifyError> {
        self.jobs = self.jobs.saturating_add(1);
        let id = format!("strait_verify_{}_{}", fingerprint(&self.run, 24), self.jobs);
        let request = JobRequest {
            max_bytes_billed: self.max_bytes_billed,
            labels: [("strait".to_owned(), "verify".to_owned())].into(),
            ..JobRequest::new(sql, id)
        };
        let answer = self.connections.rest.run_query(&request, Instant::now() + QUERY_LIMIT).await?;
        self.bytes_billed = self.bytes_billed.saturating_add(answer.stats.bytes_billed);
        let cell = |cell: Value| match cell {
            Value::Null => None,
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        };
        Ok(answer.rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect())
    }
}
