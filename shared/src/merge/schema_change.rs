//! How a final table follows its source's schema: what differs between the source's definitions, its changes and the table as it
//! stands, and the steps that close the difference. Pure. A step is derived from how the table stands, never from what an earlier run
//! did, so that a run that is interrupted anywhere and run again comes to the same end. It must never guess: what Strait cannot do
//! exactly, a person is told with the statement to run.

use serde::{Deserialize, Serialize};

/// What of a table's records is not in the final table as it should be, or may not be: a column of its ledger entries.
/// Times in µs since the epoch of Unix, by `ingested_at`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unfilled {
    /// Records from this time on are to be merged again, rows at the same position included.
    again_from: Option<i64>,
}

impl Unfilled {
    /// Reads what a ledger entry says. One that cannot be read is as good as none.
    pub fn from_entry(unfilled: Option<&str>) -> Self {
        unfilled.and_then(|unfilled| serde_json::from_str(unfilled).ok()).unwrap_or_default()
    }

    /// As a ledger entry keeps it; `None` if nothing is open.
    pub fn to_entry(&self) -> Option<String> {
        if *self == Self::default() {
            return None;
        }
        serde_json::to_string(self).ok()
    }

    /// Records from this time on are to be merged again; whether that is news.
    pub fn merge_again(&mut self, from_us: i64) -> bool {
        let is_news = self.again_from.is_none_or(|again_from| from_us < again_from);
        if is_news {
            self.again_from = Some(from_us);
        }
        is_news
    }

    /// From when on records are to be merged again.
    pub fn again_from(&self) -> Option<i64> {
        self.again_from
    }

    /// Everything that was to be merged again is merged.
    pub fn merged_again(&mut self) {
        self.again_from = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_again_stays_open_until_it_is_done() {
        let mut unfilled = Unfilled::default();
        assert_eq!(unfilled.to_entry(), None);
        assert!(unfilled.merge_again(9));
        assert!(!unfilled.merge_again(9) && !unfilled.merge_again(10));
        assert!(unfilled.merge_again(5));
        let mut read_back = Unfilled::from_entry(unfilled.to_entry().as_deref());
        assert_eq!(read_back.again_from(), Some(5));
        read_back.merged_again();
        assert_eq!(read_back, Unfilled::default());
    }
}
