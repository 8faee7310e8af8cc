//! What the merge is asked and what it answers. The answer names every table that a run looked at; it holds no row value.

use aws_lambda_events::eventbridge::EventBridgeEvent;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::glob_matches;
use crate::json_text::FromObject;
use crate::names::SourceTable;

/// What a run is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Which tables to merge, as globs of `schema.table`; `None`: all that have news.
    tables: Option<Vec<String>>,
    /// An operator's word about these tables.
    pub word: Option<Word>,
}

/// What an operator says of tables, which no record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The source's numbering began anew: what DMS sent from this time on is newer than all before. µs since the Unix epoch.
    Epoch(i64),
    /// The full load that is under way is complete.
    ReloadComplete,
    /// The table was dropped or made anew, and there was nothing to load.
    ReloadEmpty,
    /// All records that were ingested from this time on are to be merged again, because the final table can now hold what it could
    /// not. µs since the Unix epoch.
    MergeAgain(i64),
}

/// An event that is none of the merge's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "this is no event of the merge: {what}. Expected a scheduled event of EventBridge, {{}}, or {{\"tables\":[\"schema.table\"]}}, the \
     latter also with \"reload\":\"complete\", \"epoch\":\"2026-01-02T03:04:05Z\" or \"from\":\"2026-01-02T03:04:05Z\""
)]
pub struct NotAMergeEvent {
    what: &'static str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByHand {
    #[serde(default)]
    tables: Option<Vec<String>>,
    #[serde(default)]
    reload: Option<String>,
    #[serde(default)]
    epoch: Option<String>,
    #[serde(default)]
    from: Option<String>,
}

impl Asked {
    /// These tables alone, as globs of `schema.table`.
    pub fn tables(tables: Vec<String>) -> Self {
        Self { tables: Some(tables), word: None }
    }

    /// Reads the event.
    pub fn from_event(body: &[u8]) -> Result<Self, NotAMergeEvent> {
        let event: Value = serde_json::from_slice(body).map_err(|_| NotAMergeEvent { what: "it is not JSON" })?;
        if event.get("Records").is_some() || event.get("records").is_some() {
            return Err(NotAMergeEvent { what: "it carries records, so it may be meant for the ingest function" });
        }
        if event.get("detail-type").is_some() {
            return match serde_json::from_value::<EventBridgeEvent<Value>>(event) {
                Ok(_) => Ok(Self::default()),
                Err(_) => Err(NotAMergeEvent { what: "it has a detail-type but is not of EventBridge's form" }),
            };
        }
        if !event.is_object() {
            return Err(NotAMergeEvent { what: "it is no JSON object" });
        }
        let FromObject::<ByHand>(by_hand) =
            serde_json::from_value(event).map_err(|_| NotAMergeEvent { what: "its members are not known" })?;
        let time = |text: &str, what| {
            text.parse::<Timestamp>().map(Timestamp::as_microsecond).map_err(|_| NotAMergeEvent { what })
        };
        let word = match (by_hand.reload.as_deref(), by_hand.epoch.as_deref(), by_hand.from.as_deref()) {
            (None, None, None) => None,
            (Some("complete"), None, None) => Some(Word::ReloadComplete),
            (Some("empty"), None, None) => Some(Word::ReloadEmpty),
            (None, Some(epoch), None) => Some(Word::Epoch(time(epoch, "its epoch is no time")?)),
            (None, None, Some(from)) => Some(Word::MergeAgain(time(from, "its from is no time")?)),
            _ => {
                return Err(NotAMergeEvent {
                    what: "reload is neither \"complete\" nor \"empty\", or more than one of reload, epoch and from is there",
                });
            }
        };
        // Said of no table by name, it would be said of every table there is.
        if word.is_some() && by_hand.tables.is_none() {
            return Err(NotAMergeEvent { what: "reload, epoch and from need the tables that they are said of" });
        }
        Ok(Self { tables: by_hand.tables, word })
    }

    /// Whether a table is asked for.
    pub fn includes(&self, source: &SourceTable) -> bool {
        let name = source.to_string();
        self.tables
            .as_ref()
            .is_none_or(|tables| tables.iter().any(|table| *table == name || glob_matches(table, &name)))
    }

    /// The tables that were asked for by their full names.
    pub fn by_name(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().flatten().map(String::as_str).filter(|table| !table.contains(['*', '?']))
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

    /// Adds reasons to those that it has.
    pub(super) fn explain(&mut self, reasons: impl IntoIterator<Item = String>) {
        for reason in reasons {
            self.reason = Some(match self.reason.take() {
                Some(before) => format!("{before} | {reason}"),
                None => reason,
            });
        }
    }

    /// Adds what a piece of work did.
    pub(super) fn add(&mut self, more: &Self) {
        for (sum, count) in [
            (&mut self.records, more.records),
            (&mut self.inserted, more.inserted),
            (&mut self.updated, more.updated),
            (&mut self.deleted, more.deleted),
            (&mut self.quarantined, more.quarantined),
            (&mut self.late, more.late),
            (&mut self.bytes_billed, more.bytes_billed),
        ] {
            *sum = sum.saturating_add(count);
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
        assert_eq!(Asked::from_event(scheduled).unwrap(), Asked::default());
        assert_eq!(Asked::from_event(b"{}").unwrap(), Asked::default());
        let asked = Asked::from_event(br#"{"tables":["shop.orders"]}"#).unwrap();
        assert!(asked.includes(&SourceTable { schema: "shop".into(), table: "orders".into() }));
        assert!(!asked.includes(&SourceTable { schema: "shop".into(), table: "items".into() }));
        assert_eq!(asked.by_name().collect::<Vec<_>>(), ["shop.orders"]);
    }

    #[test]
    fn an_operators_word_names_its_tables() {
        let asked = Asked::from_event(br#"{"tables":["shop.*"],"epoch":"1970-01-01T00:00:01.5Z"}"#).unwrap();
        assert_eq!(asked.word, Some(Word::Epoch(1_500_000)));
        assert!(asked.includes(&SourceTable { schema: "shop".into(), table: "items".into() }));
        assert_eq!(asked.by_name().count(), 0);
        let asked = Asked::from_event(br#"{"tables":["shop.orders"],"reload":"complete"}"#).unwrap();
        assert_eq!(asked.word, Some(Word::ReloadComplete));
        let asked = Asked::from_event(br#"{"tables":["shop.orders"],"reload":"empty"}"#).unwrap();
        assert_eq!(asked.word, Some(Word::ReloadEmpty));
        let asked = Asked::from_event(br#"{"tables":["shop.*"],"from":"1970-01-01T00:00:02Z"}"#).unwrap();
        assert_eq!(asked.word, Some(Word::MergeAgain(2_000_000)));
        for event in [
            &br#"{"reload":"complete"}"#[..],
            br#"{"tables":["a.b"],"reload":"yes"}"#,
            br#"{"tables":["a.b"],"epoch":"yesterday"}"#,
            br#"{"tables":["a.b"],"epoch":"2026-01-02T03:04:05Z","reload":"complete"}"#,
            br#"{"from":"2026-01-02T03:04:05Z"}"#,
            br#"{"tables":["a.b"],"from":"2026-01-02"}"#,
            br#"{"tables":["a.b"],"epoch":"2026-01-02T03:04:05Z","from":"2026-01-02T03:04:05Z"}"#,
        ] {
            Asked::from_event(event).unwrap_err();
        }
    }

    #[test]
    fn other_events_are_refused_with_what_was_expected() {
        for event in [&br#"{"tables":"shop.orders"}"#[..], b"[]", b"", br#"{"table":["a.b"]}"#, br#"{"records":{}}"#] {
            let error = Asked::from_event(event).unwrap_err().to_string();
            assert!(error.contains("{\"tables\":[\"schema.table\"]}"), "{error}");
        }
    }
}
