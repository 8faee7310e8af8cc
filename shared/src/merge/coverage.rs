//! What of the log a merge has covered: the ranges of Kafka offsets that it saw. They tell old records from new in the
//! part of the log that the next window reads again. A range must never hold an offset that was not seen.

use std::collections::BTreeMap;

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
    let mut by_partition: BTreeMap<(&str, i64), Vec<(i64, i64)>> = BTreeMap::new();
    for range in &coverage.ranges {
        by_partition.entry((&range.topic, range.partition)).or_default().push((range.first, range.last));
    }
    let covered: Vec<String> = by_partition
        .into_iter()
        .map(|((topic, partition), ranges)| {
            let is_in_one = in_a_range(ranges);
            format!("(`kafka_topic` = {} AND `kafka_partition` = {partition} AND {is_in_one})", string_literal(topic))
        })
        .collect();
    format!("NOT (`ingested_at` <= {} AND ({}))", timestamp_literal(to_us), covered.join(" OR "))
}

/// Whether `kafka_offset` is in one of the ranges. Where offsets are missing everywhere (each second one is a marker in a topic that is
/// written in transactions), they are thousands: a search in their sorted ends costs a row little, a condition for each of them costs it
/// all of them, and a statement as much depth. RANGE_BUCKET counts the ends up to the offset: after a first one, it is odd.
fn in_a_range(mut ranges: Vec<(i64, i64)>) -> String {
    ranges.sort_unstable();
    // First offsets, and those behind last ones, by turns. Ranges that touch or overlap are one: equal ends would count twice.
    let mut ends: Vec<i64> = Vec::with_capacity(ranges.len() * 2);
    for (first, last) in ranges {
        let behind = last.saturating_add(1);
        match ends.last_mut() {
            Some(end) if *end >= first => *end = behind.max(*end),
            _ => ends.extend([first, behind]),
        }
    }
    match ends.as_slice() {
        [first, behind] => format!("`kafka_offset` BETWEEN {first} AND {}", behind.saturating_sub(1)),
        ends => {
            let ends: Vec<String> = ends.iter().map(i64::to_string).collect();
            format!("MOD(RANGE_BUCKET(`kafka_offset`, [{}]), 2) = 1", ends.join(", "))
        }
    }
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
    fn many_ranges_of_a_partition_are_one_search_in_their_ends() {
        assert_eq!(in_a_range(vec![(7, 7), (1, 5)]), "MOD(RANGE_BUCKET(`kafka_offset`, [1, 6, 7, 8]), 2) = 1");
        assert_eq!(in_a_range(vec![(1, 5), (6, 7), (2, 3)]), "`kafka_offset` BETWEEN 1 AND 7");
        assert_eq!(in_a_range(vec![(0, 3), (9, 9), (3, 5)]), "MOD(RANGE_BUCKET(`kafka_offset`, [0, 6, 9, 10]), 2) = 1");
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
