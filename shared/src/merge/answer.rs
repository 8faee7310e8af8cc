//! What the merge is asked and what it answers. The answer names every table that a run looked at; it holds no row value.

use aws_lambda_events::eventbridge::EventBridgeEvent;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::SourceTable;

/// Which tables a run is asked to merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// All that have news.
    All,
    /// These, by `schema.table`.
    Tables(Vec<String>),
}

/// An event that is none of the merge's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "this is no event of the merge: {what}. Expected a scheduled event of EventBridge, {{}}, or {{\"tables\":[\"schema.table\"]}}"
)]
pub struct NotAMergeEvent {
    what: &'static str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByHand {
    #[serde(default)]
    tables: Option<Vec<String>>,
}

impl Asked {
    /// Reads the event.
    pub fn from_event(body: &[u8]) -> Result<Self, NotAMergeEvent> {
        let event: Value = serde_json::from_slice(body).map_err(|_| NotAMergeEvent { what: "it is not JSON" })?;
        if event.get("Records").is_some() || event.get("records").is_some() {
            return Err(NotAMergeEvent { what: "it carries records, so it may be meant for the ingest function" });
        }
        if event.get("detail-type").is_some() {
            return match serde_json::from_value::<EventBridgeEvent<Value>>(event) {
                Ok(_) => Ok(Self::All),
                Err(_) => Err(NotAMergeEvent { what: "it has a detail-type but is not of EventBridge's form" }),
            };
        }
        // serde reads a struct from an array too.
        if !event.is_object() {
            return Err(NotAMergeEvent { what: "it is no JSON object" });
        }
        let by_hand: ByHand =
            serde_json::from_value(event).map_err(|_| NotAMergeEvent { what: "its members are not known" })?;
        Ok(by_hand.tables.map_or(Self::All, Self::Tables))
    }

    /// Whether a table is asked for.
    pub fn includes(&self, source: &SourceTable) -> bool {
        match self {
            Self::All => true,
            Self::Tables(tables) => tables.iter().any(|table| *table == source.to_string()),
        }
    }
}

/// The merge's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// By source table.
    pub tables: Vec<TableAnswer>,
}

/// What a run did with one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableAnswer {
    /// The source table, `schema.table`.
    pub table: String,
    /// The final table, `dataset.table`.
    #[serde(rename = "final")]
    pub final_table: String,
    /// `merged`, `idle`, `waiting`, `running` or `failed`.
    pub outcome: &'static str,
    /// Log records in the window.
    pub records: i64,
    /// Rows inserted.
    pub inserted: i64,
    /// Rows updated.
    pub updated: i64,
    /// Rows deleted.
    pub deleted: i64,
    /// Records quarantined.
    pub quarantined: i64,
    /// Keys with a record older than one merged before.
    pub late: i64,
    /// Bytes billed by this table's jobs.
    pub bytes_billed: i64,
    /// Why it waits or failed, and what to do.
    pub reason: Option<String>,
}

impl TableAnswer {
    /// An answer without counts.
    pub fn new(source: &SourceTable, final_table: &impl ToString, outcome: &'static str) -> Self {
        Self {
            table: source.to_string(),
            final_table: final_table.to_string(),
            outcome,
            records: 0,
            inserted: 0,
            updated: 0,
            deleted: 0,
            quarantined: 0,
            late: 0,
            bytes_billed: 0,
            reason: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn scheduled_and_manual_events_are_told_apart() {
        let scheduled = br#"{"version":"0","id":"x","detail-type":"Scheduled Event","source":"aws.scheduler","account":"111122223333",
            "time":"2026-01-02T03:04:05Z","region":"eu-central-1","resources":[],"detail":"{}"}"#;
        assert_eq!(Asked::from_event(scheduled).unwrap(), Asked::All);
        assert_eq!(Asked::from_event(b"{}").unwrap(), Asked::All);
        let asked = Asked::from_event(br#"{"tables":["shop.orders"]}"#).unwrap();
        assert!(asked.includes(&SourceTable { schema: "shop".into(), table: "orders".into() }));
        assert!(!asked.includes(&SourceTable { schema: "shop".into(), table: "items".into() }));
    }

    #[test]
    fn other_events_are_refused_with_what_was_expected() {
        for event in [&br#"{"tables":"shop.orders"}"#[..], b"[]", b"", br#"{"table":["a.b"]}"#, br#"{"records":{}}"#] {
            let error = Asked::from_event(event).unwrap_err().to_string();
            assert!(error.contains("{\"tables\":[\"schema.table\"]}"), "{error}");
        }
    }
}
