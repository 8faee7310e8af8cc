//! Every name that reaches BigQuery passes here: the one escaper for identifiers, string literals and JSON paths,
//! the names of Strait's own columns, and the rule by which a source name becomes a BigQuery name.
//! It must never let a name through that it cannot quote.

use std::fmt;

/// A table by dataset and name, inside the configured project.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The dataset.
    pub dataset: String,
    /// The table's name in the dataset.
    pub table: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.dataset, self.table)
    }
}

/// A table of the source database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceTable {
    /// The schema (PostgreSQL) or database (MySQL).
    pub schema: String,
    /// The table's name.
    pub table: String,
}

impl fmt::Display for SourceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}
