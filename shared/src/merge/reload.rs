//! A table that DMS loads again: how it is known that the load is complete, and the statement that then removes what it did
//! not bring. Loaded rows reach the final table like any change, so readers keep every row until then. It must never take a load
//! for complete whose rows may still be on their way.
//!
//! DMS sends no end of a load, but no change of a table before its load has ended (AWS DMS user guide, "full load + CDC":
//! changes are cached until the table is loaded). So once a change has come that was sent after the newest loaded row, every loaded
//! row has been sent. All of them have arrived once each partition of the topic has brought a record that was sent as
//! late as that change, with no offset missing before it. A partition without traffic brings none; it counts as read to
//! its end once it has been silent for longer than Lambda can hold a batch back.

use crate::config::Deletes;
use crate::names::{
    DELETED_COLUMN, MERGED_AT_COLUMN, NameError, POSITION_COLUMN, SourceTable, TableName, quote_column, string_literal,
};

use crate::position::NO_EPOCH;

use super::coverage::REACH_BACK_US;
use super::epoch::{Epochs, SENT};
use super::fold::timestamp_literal;

/// How long a partition has to be silent to count as read to its end, in µs: a batching window (at most 5 min) and an
/// invocation (at most 15 min).
const SILENCE_US: i64 = REACH_BACK_US;

/// What the log says of a load, by partition of the table's topics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// When a change of the table was sent, the first after its newest loaded row; in µs.
    ended_us: Option<i64>,
    partitions: Vec<PartitionProgress>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PartitionProgress {
    name: String,
    newest_emitted_us: Option<i64>,
    newest_ingested_us: i64,
    /// Of records that do not say when they were sent, such as those that are kept out of the log.
    newest_undated_us: Option<i64>,
    is_gapless: bool,
    topic: String,
    partition: String,
    lowest_offset: Option<i64>,
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
    Ok(format!(
        "WITH `recent` AS (\n\
         SELECT `kafka_topic`, `kafka_partition`, `kafka_offset`, `ingested_at`, {SENT} AS `sent`, `emitted_at` IS NOT NULL AS `is_dated`, \
         `source_schema` = {schema} AND `source_table` = {table} AS `is_own`, `operation`\n\
         FROM {log}\n\
         WHERE {since}\n\
         UNION ALL\n\
         SELECT `kafka_topic`, `kafka_partition`, `kafka_offset`, `ingested_at`, `ingested_at`, FALSE, FALSE, ''\n\
         FROM {kept_out}, UNNEST(GENERATE_ARRAY(`first_offset`, `last_offset`)) AS `kafka_offset`\n\
         WHERE {since}\n\
         ),\n\
         `loaded` AS (\n\
         SELECT MAX(`sent`) AS `newest_load` FROM `recent` WHERE `is_own` AND `operation` = 'load' AND `sent` >= {begun}\n\
         ),\n\
         `ended` AS (\n\
         SELECT MIN(`sent`) AS `ended_at` FROM `recent`, `loaded`\n\
         WHERE `is_own` AND `operation` IN ('insert', 'update', 'delete') AND `sent` > `newest_load`\n\
         ),\n\
         `bounds` AS (\n\
         SELECT `kafka_topic`, `kafka_partition`, MAX(IF(`is_dated`, `sent`, NULL)) AS `newest_sent`, MAX(`ingested_at`) AS `newest_ingested`, \
         MAX(IF(`is_dated`, NULL, `ingested_at`)) AS `newest_undated`, \
         MIN(IF(`is_dated` AND `sent` >= {begun}, `kafka_offset`, NULL)) AS `first`, \
         COALESCE(MIN(IF(`is_dated` AND `sent` >= `ended_at`, `kafka_offset`, NULL)), MAX(`kafka_offset`)) AS `last`, MIN(`ended_at`) AS `ended_at`\n\
         FROM `recent`, `ended`\n\
         WHERE `kafka_topic` IN (SELECT `kafka_topic` FROM `recent` WHERE `is_own`)\n\
         GROUP BY `kafka_topic`, `kafka_partition`\n\
         )\n\
         SELECT `B`.`kafka_topic`, `B`.`kafka_partition`, UNIX_MICROS(MIN(`B`.`ended_at`)), UNIX_MICROS(MIN(`B`.`newest_sent`)), \
         UNIX_MICROS(MIN(`B`.`newest_ingested`)), \
         COALESCE(COUNT(DISTINCT IF(`R`.`kafka_offset` BETWEEN `B`.`first` AND `B`.`last`, `R`.`kafka_offset`, NULL)) = MIN(`B`.`last` - `B`.`first`) + 1 \
         AND (COUNTIF(`R`.`kafka_offset` = `B`.`first` - 1) > 0 OR COUNTIF(`R`.`kafka_offset` < `B`.`first`) = 0), TRUE), MIN(`R`.`kafka_offset`), \
         UNIX_MICROS(MIN(`B`.`newest_undated`))\n\
         FROM `bounds` AS `B` JOIN `recent` AS `R` \
         ON `R`.`kafka_topic` = `B`.`kafka_topic` AND `R`.`kafka_partition` = `B`.`kafka_partition`\n\
         GROUP BY `B`.`kafka_topic`, `B`.`kafka_partition`",
        log = log.quoted(project)?,
        kept_out = kept_out.quoted(project)?,
        schema = string_literal(&source.schema),
        table = string_literal(&source.table),
    ))
}

/// The query for what the log held before that which [`progress`] looks at: a row for each partition, with its highest offset.
pub fn earlier(project: &str, log: &TableName, kept_out: &TableName, boundary: i64) -> Result<String, NameError> {
    let before = timestamp_literal(looked_at_from(boundary));
    Ok(format!(
        "SELECT `kafka_topic`, `kafka_partition`, MAX(`highest`)\n\
         FROM (\n\
         SELECT `kafka_topic`, `kafka_partition`, `kafka_offset` AS `highest` FROM {log} WHERE `ingested_at` < {before}\n\
         UNION ALL\n\
         SELECT `kafka_topic`, `kafka_partition`, `last_offset` FROM {kept_out} WHERE `ingested_at` < {before}\n\
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
                lowest_offset,
                newest_undated,
            ] = row.as_slice()
            else {
                return Err(ProgressRowError { what: "its columns" });
            };
            let number = |text: &str| text.parse::<i64>().map_err(|_| ProgressRowError { what: "a time" });
            progress.ended_us = ended.as_deref().map(number).transpose()?;
            progress.partitions.push(PartitionProgress {
                name: format!("{topic}-{partition}"),
                newest_emitted_us: newest_emitted.as_deref().map(number).transpose()?,
                newest_ingested_us: number(newest_ingested)?,
                newest_undated_us: newest_undated.as_deref().map(number).transpose()?,
                is_gapless: is_gapless == "true",
                topic: topic.clone(),
                partition: partition.clone(),
                lowest_offset: lowest_offset.as_deref().map(number).transpose()?,
            });
        }
        progress.partitions.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(progress)
    }

    /// Takes in what [`earlier`] says: a partition of which nothing has come since is not known to be read to its end, and an offset may be
    /// missing right before the first that came since.
    pub fn take_earlier(&mut self, rows: &[Vec<Option<String>>]) -> Result<(), ProgressRowError> {
        for row in rows {
            let [Some(topic), Some(partition), Some(highest)] = row.as_slice() else {
                return Err(ProgressRowError { what: "its columns" });
            };
            let highest = highest.parse::<i64>().map_err(|_| ProgressRowError { what: "an offset" })?;
            let known = self.partitions.iter_mut().find(|known| known.topic == *topic && known.partition == *partition);
            if let Some(known) = known {
                let is_next = known.lowest_offset.is_none_or(|lowest| lowest <= highest.saturating_add(1));
                known.is_gapless &= is_next;
            } else if self.partitions.iter().any(|known| known.topic == *topic) {
                self.partitions.push(PartitionProgress {
                    name: format!("{topic}-{partition}"),
                    newest_emitted_us: None,
                    newest_ingested_us: i64::MIN,
                    newest_undated_us: None,
                    is_gapless: true,
                    topic: topic.clone(),
                    partition: partition.clone(),
                    lowest_offset: None,
                });
            }
        }
        self.partitions.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    /// What the load's end waits for, in words; `None`: it is complete.
    pub fn waits_for(&self, now_us: i64) -> Option<String> {
        let Some(ended) = self.ended_us else {
            return Some(
                "a change of the table after its newest loaded row, which shows that DMS has sent all of them"
                    .to_owned(),
            );
        };
        let with_gap: Vec<&str> = self
            .partitions
            .iter()
            .filter(|partition| !partition.is_gapless)
            .map(|partition| partition.name.as_str())
            .collect();
        if !with_gap.is_empty() {
            return Some(format!("offsets that are missing in the log in {}", with_gap.join(", ")));
        }
        let behind: Vec<&str> = self
            .partitions
            .iter()
            .filter(|partition| {
                // What was silent before the load may have rows of it on their way.
                let silent_since = partition.newest_ingested_us.max(ended);
                // What does not say when it was sent would never be silent; taken in so late, it comes after all that was sent before the end.
                let is_passed =
                    partition.newest_undated_us.is_some_and(|newest| newest.saturating_sub(ended) >= SILENCE_US);
                partition.newest_emitted_us.is_none_or(|newest| newest < ended)
                    && !is_passed
                    && now_us.saturating_sub(silent_since) < SILENCE_US
            })
            .map(|partition| partition.name.as_str())
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

/// The statement that removes (or, under soft deletes, marks) what a complete load did not bring: every row whose position is of an
/// earlier epoch, and rows that Strait never wrote.
///
/// `in_turn` is the condition that no other run has taken the table up meanwhile.
pub fn sweep(
    project: &str,
    table: &TableName,
    boundary: i64,
    deletes: Deletes,
    in_turn: &str,
) -> Result<String, NameError> {
    let position = quote_column(POSITION_COLUMN)?;
    let is_older = format!("COALESCE({position}, '') < {} AND {in_turn}", string_literal(&Epochs::prefix(boundary)));
    let target = table.quoted(project)?;
    Ok(match deletes {
        Deletes::Hard => format!("DELETE FROM {target}\nWHERE {is_older}"),
        Deletes::Soft => format!(
            "UPDATE {target}\nSET {} = TRUE, {position} = {}, {} = CURRENT_TIMESTAMP()\nWHERE {is_older}",
            quote_column(DELETED_COLUMN)?,
            string_literal(&Epochs::swept_position(boundary)),
            quote_column(MERGED_AT_COLUMN)?,
        ),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const MINUTE: i64 = 60_000_000;

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
            None,
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
        let earlier =
            |partition: &str, highest: &str| vec![Some("cdc".into()), Some(partition.into()), Some(highest.into())];
        progress.take_earlier(&[earlier("0", "9"), earlier("2", "3")]).unwrap();
        assert!(progress.waits_for(61 * MINUTE).unwrap().ends_with("in cdc-2"));
        assert_eq!(progress.waits_for(80 * MINUTE), None);
        progress.take_earlier(&[earlier("0", "8")]).unwrap();
        assert!(progress.waits_for(80 * MINUTE).unwrap().contains("missing in the log in cdc-0"));
    }

    #[test]
    fn a_partition_in_which_only_records_come_that_are_kept_out_does_not_hold_the_end_back_for_ever() {
        let kept_out = |at: i64| {
            let mut row = row("1", Some(60 * MINUTE), 5, at, true);
            *row.last_mut().unwrap() = Some(at.to_string());
            row
        };
        assert!(waits_for(&[kept_out(79 * MINUTE)], 79 * MINUTE).unwrap().ends_with("in cdc-1"));
        assert_eq!(waits_for(&[kept_out(80 * MINUTE)], 80 * MINUTE), None);
    }

    #[test]
    fn a_missing_offset_holds_the_end_back_however_long_it_takes() {
        let gap = [row("0", Some(60), 60, 61, true), row("1", Some(60), 70, 71, false)];
        assert!(waits_for(&gap, 1000 * MINUTE).unwrap().contains("missing in the log in cdc-1"));
    }
}
