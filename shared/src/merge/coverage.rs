//! What of the log a merge has covered: the ranges of Kafka offsets that it saw. They tell old records from new in the
//! part of the log that the next window reads again. A range must never hold an offset that was not seen.

use serde::{Deserialize, Serialize};

use crate::names::string_literal;

use super::fold::timestamp_literal;

/// Consecutive offsets of one partition, both ends included.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OffsetRange {
    /// Kafka topic.
    pub topic: String,
    /// Kafka partition.
    pub partition: i64,
    /// The lowest offset.
    pub first: i64,
    /// The highest offset.
    pub last: i64,
}

/// Up to where a table's records are merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Everything that was visible and ingested up to here is merged, in µs since the epoch; `None`: nothing is.
    pub to_us: Option<i64>,
    /// What was merged of the reach-back before `to_us`.
    pub ranges: Vec<OffsetRange>,
}

/// A row of the log becomes visible after its `ingested_at`, at most one invocation later. A window therefore reaches back
/// over the last one by Lambda's longest invocation (15 min) and five minutes of clock difference, in µs.
pub const REACH_BACK_US: i64 = 20 * 60 * 1_000_000;

/// A ledger entry keeps at most this many ranges, so that a statement that names them stays far below BigQuery's 1 MB.
/// What is dropped is only read again: a record that was merged already changes nothing.
const RANGES_KEPT: usize = 2_000;

impl Coverage {
    /// The `ingested_at` from which records may not be merged yet; `None`: from the log's beginning.
    pub fn open_from_us(&self) -> Option<i64> {
        self.to_us.map(|to| to.saturating_sub(REACH_BACK_US))
    }

    /// The coverage after a merge that saw `ranges`, up to `to_us`. A record from a clock that is ahead must not carry
    /// the coverage past `now_us`: others would be taken for merged when they come.
    pub fn after(to_us: i64, now_us: i64, mut ranges: Vec<OffsetRange>) -> Self {
        let to_us = to_us.min(now_us);
        if ranges.len() > RANGES_KEPT {
            ranges.sort_by_key(|range| std::cmp::Reverse(range.last.saturating_sub(range.first)));
            ranges.truncate(RANGES_KEPT);
        }
        Self { to_us: Some(to_us), ranges }
    }
}

/// A SQL condition over a log row: it is not covered. What was ingested after `to_us` cannot be, whatever its offset is:
/// a topic that was made anew counts from zero again.
pub fn not_covered(coverage: &Coverage) -> String {
    let (Some(to_us), false) = (coverage.to_us, coverage.ranges.is_empty()) else {
        return "TRUE".to_owned();
    };
    let covered: Vec<String> = coverage
        .ranges
        .iter()
        .map(|range| {
            format!(
                "(`kafka_topic` = {} AND `kafka_partition` = {} AND `kafka_offset` BETWEEN {} AND {})",
                string_literal(&range.topic),
                range.partition,
                range.first,
                range.last
            )
        })
        .collect();
    format!("NOT (`ingested_at` <= {} AND ({}))", timestamp_literal(to_us), covered.join(" OR "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64) -> OffsetRange {
        OffsetRange { topic: "t'1".into(), partition: 0, first, last }
    }

    #[test]
    fn the_condition_quotes_topics() {
        assert_eq!(not_covered(&Coverage::default()), "TRUE");
        assert_eq!(
            not_covered(&Coverage { to_us: Some(0), ranges: vec![range(1, 5)] }),
            r"NOT (`ingested_at` <= TIMESTAMP '1970-01-01 00:00:00.000000+00' AND ((`kafka_topic` = 't\'1' AND `kafka_partition` = 0 AND `kafka_offset` BETWEEN 1 AND 5)))"
        );
    }

    #[test]
    fn too_many_ranges_keep_the_widest() {
        let mut ranges: Vec<_> = (0..3_000).map(|i| range(i * 10, i * 10)).collect();
        ranges.push(range(100_000, 200_000));
        let coverage = Coverage::after(7, 9, ranges);
        assert_eq!(coverage.ranges.len(), RANGES_KEPT);
        assert!(coverage.ranges.contains(&range(100_000, 200_000)));
        assert_eq!(coverage.open_from_us(), Some(7 - REACH_BACK_US));
        assert_eq!(Coverage::after(7, 5, Vec::new()).to_us, Some(5));
    }
}
