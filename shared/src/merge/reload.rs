//! A table that DMS loads again: how it is known that the load is complete, and the statement that then removes what it did
//! not bring. Loaded rows reach the final table like any change, so readers keep every row until then. It must never take a load
//! for complete whose rows may still be on their way.
//!
//! DMS sends no end of a load, but no change of a table before its load has ended (AWS DMS user guide, "full load + CDC":
//! changes are cached until the table is loaded). So once a change has come that was sent after the newest loaded row, every loaded
//! row has been sent. All of them have arrived once each partition of the topic has brought a record that was sent as
//! late as that change, with no offset missing before it. A partition without traffic brings none, perhaps never did; it counts as
//! read to its end once it has been silent for longer than Lambda can hold a batch back.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{DAY_US, Deletes, HOUR_US};
use crate::names::{
    DELETED_COLUMN, MERGED_AT_COLUMN, NameError, POSITION_COLUMN, SourceTable, TableName, quote_column, string_literal,
};

use crate::position::NO_EPOCH;

use super::coverage::REACH_BACK_US;
use super::epoch::{Epochs, Gone, SENT};
use super::final_table::FinalTable;
use super::fold::timestamp_literal;

/// How long a partition has to be silent to count as read to its end, in µs: a batching window (at most 5 min) and an
/// invocation (at most 15 min).
const SILENCE_US: i64 = REACH_BACK_US;
/// What a load's end waits for first.
pub const WAITS_FOR_A_CHANGE: &str =
    "a change of the table after its newest loaded row, which shows that DMS has sent all of them";
/// Far more partitions than a topic of Amazon MSK has; a number beyond is not counted up to.
const MOST_PARTITIONS: i64 = 100_000;

/// What the log says of a load, by partition of the table's topics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// When a change of the table was sent, the first after its newest loaded row; in µs.
    ended_us: Option<i64>,
    partitions: Vec<PartitionProgress>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PartitionProgress {
    newest_emitted_us: Option<i64>,
    newest_ingested_us: i64,
    is_gapless: bool,
    topic: String,
    partition: i64,
    /// The first offset that may have been sent since the load began, unless the one before it is there, too.
    unpreceded: Option<i64>,
}

/// A row of the progress that is not of the form that the query yields.
#[derive(Debug, thiserror::Error)]
#[error("a row of a load's progress cannot be read: {what}")]
pub struct ProgressRowError {
    what: &'static str,
}

/// The query for a load's progress: a row for each partition of the topics that the table's records came by. `kept_out` are the
/// offsets that are not in the log on purpose.
pub fn progress(
    project: &str,
    log: &TableName,
    kept_out: &TableName,
    source: &SourceTable,
    boundary: i64,
) -> Result<String, NameError> {
    let since = format!("`ingested_at` >= {}", timestamp_literal(looked_at_from(boundary)));
    let begun = timestamp_literal(boundary);
    let ingested_from = timestamp_literal(Epochs::ingested_from(boundary));
    Ok(format!(
        "WITH `recent` AS (\n\
         SELECT `kafka_topic`, `kafka_partition`, `kafka_offset`, `ingested_at`, {SENT} AS `sent`, `emitted_at` IS NOT NULL AS `is_dated`, \
         `source_schema` = {schema} AND `source_table` = {table} AS `is_own`, `operation`\n\
         FROM {log}\n\
         WHERE {since}\n\
         UNION ALL\n\
         SELECT `kafka_topic`, `kafka_partition`, `kafka_offset`, `ingested_at`, {SENT}, `emitted_at` IS NOT NULL, FALSE, ''\n\
         FROM {kept_out}, UNNEST(GENERATE_ARRAY(`first_offset`, `last_offset`)) AS `kafka_offset`\n\
         WHERE {since}\n\
         ),\n\
         `loaded` AS (\n\
         SELECT MAX(`sent`) AS `newest_load` FROM `recent` WHERE `is_own` AND `operation` = 'load' AND `sent` >= {begun}\n\
         ),\n\
         `ended` AS (\n\
         SELECT MIN(`sent`) AS `ended_at` FROM `recent`, `loaded`\n\
         WHERE `is_own` AND `operation` IN ('insert', 'update', 'delete', 'truncate') AND `sent` > `newest_load`\n\
         ),\n\
         `bounds` AS (\n\
         SELECT `kafka_topic`, `kafka_partition`, MAX(IF(`is_dated`, `sent`, NULL)) AS `newest_sent`, MAX(`ingested_at`) AS `newest_ingested`, \
         MIN(IF(`sent` >= IF(`is_dated`, {begun}, {ingested_from}), `kafka_offset`, NULL)) AS `first`, \
         COALESCE(MIN(IF(`is_dated` AND `sent` >= `ended_at`, `kafka_offset`, NULL)), MAX(`kafka_offset`)) AS `last`, MIN(`ended_at`) AS `ended_at`\n\
         FROM `recent`, `ended`\n\
         WHERE `kafka_topic` IN (SELECT `kafka_topic` FROM `recent` WHERE `is_own`)\n\
         GROUP BY `kafka_topic`, `kafka_partition`\n\
         )\n\
         SELECT `B`.`kafka_topic`, `B`.`kafka_partition`, UNIX_MICROS(MIN(`B`.`ended_at`)), UNIX_MICROS(MIN(`B`.`newest_sent`)), \
         UNIX_MICROS(MIN(`B`.`newest_ingested`)), \
         COALESCE(COUNT(DISTINCT IF(`R`.`kafka_offset` BETWEEN `B`.`first` AND `B`.`last`, `R`.`kafka_offset`, NULL)) = MIN(`B`.`last` - `B`.`first`) + 1, TRUE), \
         IF(COUNTIF(`R`.`kafka_offset` = `B`.`first` - 1) > 0, NULL, MIN(`B`.`first`))\n\
         FROM `bounds` AS `B` JOIN `recent` AS `R` \
         ON `R`.`kafka_topic` = `B`.`kafka_topic` AND `R`.`kafka_partition` = `B`.`kafka_partition`\n\
         GROUP BY `B`.`kafka_topic`, `B`.`kafka_partition`",
        log = log.quoted(project)?,
        kept_out = kept_out.quoted(project)?,
        schema = string_literal(&source.schema),
        table = string_literal(&source.table),
    ))
}

/// How far [`earlier`] looks back at first, in µs: nearly always the record before the load's first is there.
const EARLIER_US: i64 = 2 * HOUR_US;

/// How far back, in µs, it is enough to look at first; `None`: at all of a log that is hardly older.
pub fn earlier_from(boundary: i64, ledger_begun_us: Option<i64>) -> Option<i64> {
    let from = looked_at_from(boundary).saturating_sub(EARLIER_US);
    ledger_begun_us.filter(|begun| *begun < from.saturating_sub(DAY_US)).map(|_| from)
}

/// The query for what the log held before that which [`progress`] looks at, from a time on, in µs: a row for each partition, with its highest
/// offset.
pub fn earlier(
    project: &str,
    log: &TableName,
    kept_out: &TableName,
    boundary: i64,
    from_us: Option<i64>,
) -> Result<String, NameError> {
    let before = timestamp_literal(looked_at_from(boundary));
    let since = from_us.map_or_else(String::new, |from| format!(" AND `ingested_at` >= {}", timestamp_literal(from)));
    Ok(format!(
        "SELECT `kafka_topic`, `kafka_partition`, MAX(`highest`)\n\
         FROM (\n\
         SELECT `kafka_topic`, `kafka_partition`, `kafka_offset` AS `highest` FROM {log} WHERE `ingested_at` < {before}{since}\n\
         UNION ALL\n\
         SELECT `kafka_topic`, `kafka_partition`, `last_offset` FROM {kept_out} WHERE `ingested_at` < {before}{since}\n\
         )\n\
         GROUP BY `kafka_topic`, `kafka_partition`",
        log = log.quoted(project)?,
        kept_out = kept_out.quoted(project)?,
    ))
}

/// The query for how many rows of a load are in the quarantine. There they have the positions of the log.
pub fn quarantined_rows(
    project: &str,
    quarantine: &TableName,
    source: &SourceTable,
    boundary: i64,
) -> Result<String, NameError> {
    Ok(format!(
        "SELECT COUNT(*)\nFROM {}\nWHERE `source_schema` = {} AND `source_table` = {} AND `position` >= {} AND `position` < {} AND `resolved_at` IS NULL",
        quarantine.quoted(project)?,
        string_literal(&source.schema),
        string_literal(&source.table),
        string_literal(&format!("{NO_EPOCH}-0-{boundary:020}")),
        string_literal(&format!("{NO_EPOCH}-1")),
    ))
}

/// What was not silent for long enough when the load began is looked at, too.
fn looked_at_from(boundary: i64) -> i64 {
    Epochs::ingested_from(boundary).saturating_sub(SILENCE_US)
}

/// A load that takes so long, in µs, is asked for in every run.
const ASKED_EACH_TIME_US: i64 = 6 * HOUR_US;

/// What the log held before a load: the highest offset of each partition.
#[derive(Debug, Default)]
pub struct Earlier {
    highest: BTreeMap<(String, i64), i64>,
}

impl Earlier {
    /// Reads [`earlier`]'s rows.
    pub fn from_rows(rows: &[Vec<Option<String>>]) -> Result<Self, ProgressRowError> {
        let mut highest = BTreeMap::new();
        for row in rows {
            let [Some(topic), Some(partition), Some(offset)] = row.as_slice() else {
                return Err(ProgressRowError { what: "its columns" });
            };
            let number = |text: &str| text.parse::<i64>().map_err(|_| ProgressRowError { what: "an offset" });
            highest.insert((topic.clone(), number(partition)?), number(offset)?);
        }
        Ok(Self { highest })
    }

    fn of(&self, topic: &str, partition: i64) -> Option<i64> {
        self.highest.get(&(topic.to_owned(), partition)).copied()
    }
}

/// How long to wait until a load's progress is asked for again, in µs: the longer it takes, the more of the log that reads. So what is read in
/// all is some ten times what the log takes in meanwhile, however long the load's end cannot be told.
pub fn ask_again_after(boundary: i64, now_us: i64) -> i64 {
    now_us.saturating_sub(boundary).saturating_sub(ASKED_EACH_TIME_US).max(0) / 10
}

impl Progress {
    /// Reads the query's rows.
    pub fn from_rows(rows: &[Vec<Option<String>>]) -> Result<Self, ProgressRowError> {
        let mut progress = Self::default();
        for row in rows {
            let [
                Some(topic),
                Some(partition),
                ended,
                newest_emitted,
                Some(newest_ingested),
                Some(is_gapless),
                unpreceded,
            ] = row.as_slice()
            else {
                return Err(ProgressRowError { what: "its columns" });
            };
            let number = |text: &str| text.parse::<i64>().map_err(|_| ProgressRowError { what: "a time" });
            progress.ended_us = ended.as_deref().map(number).transpose()?;
            progress.partitions.push(PartitionProgress {
                newest_emitted_us: newest_emitted.as_deref().map(number).transpose()?,
                newest_ingested_us: number(newest_ingested)?,
                is_gapless: is_gapless == "true",
                topic: topic.clone(),
                partition: number(partition)?,
                unpreceded: unpreceded.as_deref().map(number).transpose()?,
            });
        }
        progress.in_order();
        Ok(progress)
    }

    /// Whether what [`earlier`] says, which is not of all that the log held, tells the record before each partition's first.
    pub fn is_preceded(&self, earlier: &Earlier) -> bool {
        self.partitions
            .iter()
            .all(|known| known.unpreceded.is_none() || earlier.of(&known.topic, known.partition).is_some())
    }

    /// Counts with partitions of higher numbers than those that were seen: their last records may be older than what was looked at. They are
    /// read to their end once they have been silent for long enough.
    pub fn count_with_unseen(&mut self) {
        let topics: BTreeSet<String> = self.partitions.iter().map(|known| known.topic.clone()).collect();
        for topic in topics {
            let highest =
                self.partitions.iter().filter(|known| known.topic == topic).map(|known| known.partition).max();
            self.partitions.push(PartitionProgress::unseen(topic, highest.unwrap_or(0).saturating_add(1)));
        }
        self.in_order();
    }

    /// Takes in what [`earlier`] says: whether an offset is missing right before the first that came since. Where the log is not
    /// `whole` any more, what is missing may have expired. A partition of which nothing has come since, or ever, as its number shows,
    /// is not known to be read to its end.
    pub fn take_earlier(&mut self, earlier: &Earlier, is_whole: bool) {
        for known in &mut self.partitions {
            let before = earlier.of(&known.topic, known.partition);
            known.is_gapless &= known.unpreceded.is_none_or(|first| match before {
                Some(before) => first <= before.saturating_add(1),
                None => first <= 0 || !is_whole,
            });
        }
        let known: BTreeSet<(String, i64)> =
            self.partitions.iter().map(|known| (known.topic.clone(), known.partition)).collect();
        let topics: BTreeSet<&str> = known.iter().map(|(topic, _)| topic.as_str()).collect();
        for topic in topics {
            let before = earlier.highest.keys().filter(|(of, _)| of == topic);
            let last = known.iter().filter(|(of, _)| of == topic).chain(before).map(|(_, partition)| *partition).max();
            for partition in 0..=last.unwrap_or(0).min(MOST_PARTITIONS) {
                if !known.contains(&(topic.to_owned(), partition)) {
                    self.partitions.push(PartitionProgress::unseen(topic.to_owned(), partition));
                }
            }
        }
        self.in_order();
    }

    fn in_order(&mut self) {
        self.partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    }

    /// What the load's end waits for, in words; `None`: it is complete.
    pub fn waits_for(&self, now_us: i64) -> Option<String> {
        let Some(ended) = self.ended_us else {
            return Some(WAITS_FOR_A_CHANGE.to_owned());
        };
        let with_gap: Vec<String> =
            self.partitions.iter().filter(|partition| !partition.is_gapless).map(PartitionProgress::name).collect();
        if !with_gap.is_empty() {
            return Some(format!("offsets that are missing in the log in {}", with_gap.join(", ")));
        }
        let behind: Vec<String> = self
            .partitions
            .iter()
            .filter(|partition| {
                // What was silent before the load may have rows of it on their way.
                let silent_since = partition.newest_ingested_us.max(ended);
                partition.newest_emitted_us.is_none_or(|newest| newest < ended)
                    && now_us.saturating_sub(silent_since) < SILENCE_US
            })
            .map(PartitionProgress::name)
            .collect();
        (!behind.is_empty()).then(|| {
            format!(
                "a record that was sent after the load, or {} minutes of silence, in {}",
                SILENCE_US / 60_000_000,
                behind.join(", ")
            )
        })
    }
}

impl PartitionProgress {
    /// One that has brought nothing since the load began.
    fn unseen(topic: String, partition: i64) -> Self {
        Self {
            newest_emitted_us: None,
            newest_ingested_us: i64::MIN,
            is_gapless: true,
            topic,
            partition,
            unpreceded: None,
        }
    }

    fn name(&self) -> String {
        format!("{}-{}", self.topic, self.partition)
    }
}

/// The statement that removes (or, under soft deletes, marks) what is gone from the source, because a complete load did not bring it or
/// the source emptied the table: every row whose position is below, and rows that Strait never wrote.
///
/// `in_turn` is the condition that no other run has taken the table up meanwhile.
pub fn sweep(
    project: &str,
    table: &FinalTable,
    gone: &Gone,
    deletes: Deletes,
    in_turn: &str,
) -> Result<String, NameError> {
    let position = quote_column(POSITION_COLUMN)?;
    let filter = table.partition_filter(None)?.map_or_else(String::new, |filter| format!(" AND {filter}"));
    let is_older = format!("COALESCE({position}, '') < {}{filter} AND {in_turn}", string_literal(&gone.below));
    let target = table.name.quoted(project)?;
    Ok(match deletes {
        Deletes::Hard => format!("DELETE FROM {target}\nWHERE {is_older}"),
        Deletes::Soft => {
            let since = match table.is_keyless {
                // The position is what tells the row from others.
                true => String::new(),
                false => format!("{position} = {}, ", string_literal(&gone.since)),
            };
            format!(
                "UPDATE {target}\nSET {deleted} = TRUE, {since}{} = CURRENT_TIMESTAMP()\nWHERE {is_older} AND {deleted} IS NOT TRUE",
                quote_column(MERGED_AT_COLUMN)?,
                deleted = quote_column(DELETED_COLUMN)?,
            )
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn held(offsets: &[(i64, i64)]) -> Earlier {
        let row = |(partition, offset): &(i64, i64)| {
            vec![Some("cdc".to_owned()), Some(partition.to_string()), Some(offset.to_string())]
        };
        Earlier::from_rows(&offsets.iter().map(row).collect::<Vec<_>>()).unwrap()
    }

    fn row(partition: &str, ended: Option<i64>, emitted: i64, ingested: i64, is_gapless: bool) -> Vec<Option<String>> {
        let text = |text: String| Some(text);
        vec![
            text("cdc".into()),
            text(partition.into()),
            ended.map(|ended| ended.to_string()),
            text(emitted.to_string()),
            text(ingested.to_string()),
            text(is_gapless.to_string()),
            text("10".into()),
        ]
    }

    fn waits_for(rows: &[Vec<Option<String>>], now: i64) -> Option<String> {
        Progress::from_rows(rows).unwrap().waits_for(now)
    }

    #[test]
    fn a_load_ends_with_a_change_after_it_in_every_partition() {
        assert!(waits_for(&[], 0).unwrap().contains("a change of the table"));
        assert!(waits_for(&[row("0", None, 50, 50, true)], 100).unwrap().contains("a change of the table"));
        assert_eq!(waits_for(&[row("0", Some(60), 60, 61, true)], 100), None);
        let lagging = [row("0", Some(60), 60, 61, true), row("1", Some(60), 59, 61, true)];
        assert!(waits_for(&lagging, 100).unwrap().ends_with("in cdc-1"));
        assert!(waits_for(&lagging, 61 + 20 * MINUTE - 1).is_some());
        assert_eq!(waits_for(&lagging, 61 + 20 * MINUTE), None, "silent for longer than a batch can be held back");
    }

    #[test]
    fn a_partition_that_was_silent_before_the_load_has_to_be_silent_after_it() {
        let rows =
            [row("0", Some(60 * MINUTE), 60 * MINUTE, 60 * MINUTE, true), row("1", Some(60 * MINUTE), 5, 5, true)];
        assert!(waits_for(&rows, 61 * MINUTE).unwrap().ends_with("in cdc-1"));
        assert_eq!(waits_for(&rows, 80 * MINUTE), None);
        let mut progress = Progress::from_rows(&rows[..1]).unwrap();
        progress.take_earlier(&held(&[(0, 9), (1, 3)]), true);
        assert!(progress.waits_for(61 * MINUTE).unwrap().ends_with("in cdc-1"));
        assert_eq!(progress.waits_for(80 * MINUTE), None);
        progress.take_earlier(&held(&[(0, 8)]), true);
        assert!(progress.waits_for(80 * MINUTE).unwrap().contains("missing in the log in cdc-0"));
    }

    #[test]
    fn a_partition_that_never_brought_anything_has_to_be_silent_for_as_long() {
        let rows = [row("2", Some(60 * MINUTE), 60 * MINUTE, 60 * MINUTE, true)];
        let mut progress = Progress::from_rows(&rows).unwrap();
        progress.take_earlier(&held(&[(2, 9)]), true);
        assert!(progress.waits_for(61 * MINUTE).unwrap().ends_with("in cdc-0, cdc-1"));
        assert_eq!(progress.waits_for(80 * MINUTE), None);
    }

    #[test]
    fn a_partition_whose_first_records_never_came_holds_the_end_back() {
        let waits_for = |first: Option<&str>, is_whole| {
            let mut row = row("0", Some(60), 60, 61, true);
            *row.get_mut(6).unwrap() = first.map(str::to_owned);
            let mut progress = Progress::from_rows(&[row]).unwrap();
            progress.take_earlier(&held(&[]), is_whole);
            progress.waits_for(1000 * MINUTE)
        };
        assert_eq!(waits_for(Some("0"), true), None);
        assert_eq!(waits_for(None, true), None);
        assert!(waits_for(Some("10"), true).unwrap().contains("missing in the log in cdc-0"));
        assert_eq!(waits_for(Some("10"), false), None, "what came before has expired");
    }

    #[test]
    fn a_long_load_is_asked_for_less_and_less() {
        let begun = 100 * DAY_US;
        assert_eq!(ask_again_after(begun, begun + 6 * HOUR_US), 0);
        assert_eq!(ask_again_after(begun, begun + 16 * HOUR_US), HOUR_US);
        let (mut now, mut read_us, mut asked) = (begun, 0, 0);
        while now < begun + 30 * DAY_US {
            (read_us, asked) = (read_us + (now - begun), asked + 1);
            now += ask_again_after(begun, now).max(5 * MINUTE);
        }
        assert!(asked < 200, "{asked}, and 8,640 runs");
        assert!(read_us < 12 * 30 * DAY_US, "of thirty days of the log {read_us} were read");
    }

    #[test]
    fn the_last_hours_of_a_long_log_are_enough_where_they_hold_the_record_before_each_partitions_first() {
        let boundary = 100 * DAY_US;
        assert_eq!(earlier_from(boundary, Some(boundary - HOUR_US)), None, "all of a young log is little");
        assert!(earlier_from(boundary, Some(boundary - 10 * DAY_US)).unwrap() < boundary - 2 * HOUR_US);
        let rows = [row("0", Some(60), 60, 61, true), row("1", Some(60), 70, 71, true)];
        let mut progress = Progress::from_rows(&rows).unwrap();
        assert!(!progress.is_preceded(&held(&[(0, 9)])));
        let both = held(&[(0, 9), (1, 9)]);
        assert!(progress.is_preceded(&both));
        progress.count_with_unseen();
        progress.take_earlier(&both, true);
        assert!(
            progress.waits_for(70).unwrap().contains("silence, in cdc-2"),
            "a partition may have been silent before"
        );
        assert_eq!(progress.waits_for(60 + SILENCE_US), None);
    }

    #[test]
    fn a_missing_offset_holds_the_end_back_however_long_it_takes() {
        let gap = [row("0", Some(60), 60, 61, true), row("1", Some(60), 70, 71, false)];
        assert!(waits_for(&gap, 1000 * MINUTE).unwrap().contains("missing in the log in cdc-1"));
    }
}
