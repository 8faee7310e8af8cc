//! Epochs: what makes positions comparable that the source's own numbering does not. A full load carries no position, and a
//! binlog may begin anew; both begin an epoch, and every change of a later epoch is newer than every one of an earlier.
//! The log keeps positions as they were ingested; the merge puts a table's epoch in front of them. It must never depend on the
//! order in which records arrive: only on when DMS sent them.
//!
//! An epoch begins at a boundary, a time in µs since the epoch of Unix, and holds what DMS sent from then on:
//! - at the `create-table` or `drop-table` record that DMS sends at the start of a full load (AWS DMS user guide; such records
//!   without loaded rows after them begin none);
//! - where an operator says so, because the source's numbering began anew.

use serde::{Deserialize, Serialize};

use crate::names::string_literal;
use crate::position::{EPOCH_DIGITS, NO_EPOCH};

use super::coverage::REACH_BACK_US;
use super::fold::timestamp_literal;
use super::plan::News;

/// Boundaries that a table keeps. A record from before the oldest of them counts as older than all; the log has long expired by then.
const BOUNDARIES_KEPT: usize = 64;
/// TRUNCATEs that a table keeps, of those that no other stands above: several only where the source's numbering began anew.
const EMPTYINGS_KEPT: usize = 64;
/// The clocks of DMS and of Lambda may differ by this much, in µs: what DMS sent at a time was not ingested earlier than this before it.
const CLOCK_DIFFERENCE_US: i64 = 5 * 60 * 1_000_000;
/// A commit time of MySQL has whole seconds, so two changes may differ by this much without one being later, in µs.
const MYSQL_COMMIT_TIE_US: i64 = 2 * 1_000_000;
/// A PostgreSQL change's position is where it was written, its commit may come much later; none is open for so long, in µs.
const POSTGRESQL_LONGEST_TRANSACTION_US: i64 = 24 * 60 * 60 * 1_000_000;

/// What is known of a table's epochs: a column of its ledger entries. Times in µs since the epoch of Unix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Epochs {
    /// Where epochs begin, rising.
    boundaries: Vec<i64>,
    /// `create-table` and `drop-table` records after which no row has been loaded yet, rising.
    starts: Vec<i64>,
    /// When the newest loaded row was sent.
    newest_load: Option<i64>,
    /// The boundary of a load whose end is not known yet: rows of earlier epochs are still in the final table.
    open: Option<i64>,
    /// The boundary of the newest load that is complete: what is older is gone from the source or loaded anew.
    complete: Option<i64>,
    /// When the newest change of those that ever raised the highest position was committed.
    highest_committed: Option<i64>,
    /// When the newest of them was sent.
    highest_emitted: Option<i64>,
    /// When the oldest insert, update or delete of the newest epoch was sent, as far as it is known.
    first_change: Option<i64>,
    /// When the newest insert, update, delete or TRUNCATE was sent, as far as it is known; `None`: by a version that did not note it.
    newest_change: Option<i64>,
    /// When the source's records were sent that it emptied the table, and the log's positions of them: those that may be the highest,
    /// whatever epochs begin yet. What is older is gone.
    emptied: Vec<(i64, String)>,
    /// The position, with its epoch, up to which the final table is rid of what is gone by that.
    rid_of: Option<String>,
    /// When a loaded row was sent that no load of the newest epoch can have brought, because changes had been sent before.
    load_without_start: Option<i64>,
    /// When a load began that began no epoch, because the log has forgotten what was sent before then and since.
    load_beyond_log: Option<i64>,
}

impl Epochs {
    /// Reads what a ledger entry says. One that cannot be read is as good as none: it is found again in the log.
    pub fn from_entry(epochs: Option<&str>) -> Self {
        epochs.and_then(|epochs| serde_json::from_str(epochs).ok()).unwrap_or_default()
    }

    /// As a ledger entry keeps it; `None` if nothing is known.
    pub fn to_entry(&self) -> Option<String> {
        if *self == Self::default() {
            return None;
        }
        serde_json::to_string(self).ok()
    }

    /// Takes in what a table's news say of loads; whether an epoch begins with them. With `may_hold_older` the final table may
    /// hold rows of earlier epochs, which have to go once the load is complete. The log has all that was sent from `known_from_us` on; `None`: it
    /// has forgotten nothing.
    pub fn learn(&mut self, news: &News, may_hold_older: bool, known_from_us: Option<i64>) -> bool {
        let begins = self.learn_of_loads(news, may_hold_older, known_from_us);
        let newest = self.newest_boundary();
        // A load ends before a change of the table is sent, and before it is emptied.
        let emptied = news.truncated.iter().filter(|(_, position)| is_in_order(position));
        let emptied = emptied.clone().map(|(sent, _)| *sent).filter(|sent| *sent >= newest).min();
        self.first_change = [self.first_change, news.oldest_change_us, emptied]
            .into_iter()
            .flatten()
            .filter(|sent| *sent >= newest)
            .min();
        let truncated = news.truncated.iter().map(|(sent, _)| *sent).max();
        self.newest_change = self.newest_change.max(news.newest_change_us).max(truncated);
        self.look_for_a_load_without_start();
        self.learn_of_emptying(news);
        begins
    }

    /// Whether a load may have ended, which a change that was sent after its newest row shows: before, nothing has to be asked of the log.
    pub fn may_have_ended(&self) -> bool {
        self.newest_change.is_none_or(|change| self.newest_load.is_none_or(|load| change > load))
    }

    fn learn_of_emptying(&mut self, news: &News) {
        self.emptied.extend(news.truncated.iter().filter(|(_, position)| is_in_order(position)).cloned());
        self.emptied.sort_unstable();
        // One that was sent no later than another, and stands no higher, stands no higher in any epochs.
        let mut highest: Option<String> = None;
        let mut kept: Vec<(i64, String)> = Vec::new();
        for (sent, position) in std::mem::take(&mut self.emptied).into_iter().rev() {
            if highest.as_ref().is_none_or(|highest| position > *highest) {
                highest = Some(position.clone());
                kept.push((sent, position));
            }
        }
        kept.truncate(EMPTYINGS_KEPT);
        kept.reverse();
        self.emptied = kept;
    }

    /// Where the source emptied the table last: the position, with its epoch, and when its record was sent.
    fn emptied_last(&self) -> Option<(String, i64)> {
        self.emptied.iter().map(|(sent, position)| (self.placed(position, *sent), *sent)).max()
    }

    /// The highest position, with its epoch, at which the source emptied the table.
    pub fn emptied_at(&self) -> Option<String> {
        self.emptied_last().map(|(position, _)| position)
    }

    /// The position below which rows are to be removed from the final table, because the source emptied the table there.
    pub fn emptying(&self) -> Option<String> {
        self.emptied_at().filter(|position| self.rid_of.as_ref().is_none_or(|rid_of| rid_of < position))
    }

    /// Notes that no row from before this position is in the final table any more.
    pub fn emptied(&mut self, position: &str) {
        self.rid_of = self.rid_of.take().max(Some(position.to_owned()));
    }

    /// DMS sends no change of a table before its load has ended, so a row that was loaded after a change is of another load, whose
    /// `create-table` or `drop-table` record has not come. Records that are sent again keep the time at which they were sent.
    fn look_for_a_load_without_start(&mut self) {
        let newest = self.newest_boundary();
        self.first_change = self.first_change.filter(|sent| *sent >= newest);
        let is_without = self.newest_load.zip(self.first_change).is_some_and(|(load, change)| load > change);
        self.load_without_start =
            self.newest_load.filter(|_| is_without).map(|load| self.load_without_start.unwrap_or(load));
    }

    fn newest_boundary(&self) -> i64 {
        self.boundaries.last().copied().unwrap_or(i64::MIN)
    }

    /// When the first row was seen that was loaded without a record that a load begins, if that can no longer be on its way.
    pub fn load_without_start(&self, now_us: i64) -> Option<i64> {
        self.load_without_start.filter(|sent| now_us.saturating_sub(*sent) >= REACH_BACK_US)
    }

    /// Whether a row was loaded without a record that a load begins, which may still be on its way.
    pub fn may_lack_a_start(&self) -> bool {
        self.load_without_start.is_some()
    }

    fn learn_of_loads(&mut self, news: &News, may_hold_older: bool, known_from_us: Option<i64>) -> bool {
        // The start of a load that is known is read again when a table's coverage stands back.
        let known = self.open.max(self.complete);
        self.starts.extend(news.starts.iter().filter(|start| Some(**start) > known));
        self.starts.sort_unstable();
        self.starts.dedup();
        self.newest_load = self.newest_load.max(news.newest_load_us);
        let Some(newest_load) = self.newest_load else {
            return false;
        };
        let Some(start) = self.starts.iter().rev().find(|start| **start <= newest_load).copied() else {
            return false;
        };
        self.starts.retain(|other| *other > start);
        if may_hold_older && !self.counts(start, known_from_us) {
            return false;
        }
        let is_new = self.begin(start);
        if is_new && may_hold_older {
            self.open = self.open.max(Some(start));
        } else if is_new {
            // There is nothing to sweep, and what an earlier load that was interrupted leaves in the log must not come in.
            self.complete = self.complete.max(Some(start));
        }
        is_new
    }

    /// Whether a load counts by when the log has everything that was sent from `known_from_us` on. An epoch that began earlier could not be begun:
    /// of what belongs to it the log has forgotten some, which would be taken for older than it.
    fn counts(&mut self, start: i64, known_from_us: Option<i64>) -> bool {
        let is_known = known_from_us.is_none_or(|known_from| known_from <= start);
        if !is_known {
            self.load_beyond_log = self.load_beyond_log.max(Some(start));
        }
        is_known
    }

    /// When a load began that does not count, because the log has forgotten changes that were sent since.
    pub fn load_beyond_log(&self) -> Option<i64> {
        self.load_beyond_log
    }

    /// Begins an epoch; whether there is none yet at this very time.
    pub fn begin(&mut self, boundary: i64) -> bool {
        if boundary <= 0 || self.boundaries.contains(&boundary) {
            return false;
        }
        self.load_beyond_log = self.load_beyond_log.filter(|start| *start > boundary);
        // From here on it is known: whatever comes is learned of.
        self.newest_change = self.newest_change.or(Some(boundary));
        self.boundaries.push(boundary);
        self.boundaries.sort_unstable();
        let surplus = self.boundaries.len().saturating_sub(BOUNDARIES_KEPT);
        self.boundaries.drain(..surplus);
        self.look_for_a_load_without_start();
        true
    }

    /// The epoch of a position in a final table; `None`: that of the log.
    pub fn boundary_of(position: &str) -> Option<i64> {
        let (epoch, _) = position.split_once('-')?;
        (epoch.len() == EPOCH_DIGITS).then(|| epoch.parse().ok()).flatten()
    }

    /// Takes an operator's word that a load is complete; whether an epoch begins with it, because no row has come with the load. While a
    /// load is open the word is said of that one: a task that was resumed since has named its tables without loading them.
    pub fn begin_without_load(&mut self, known_from_us: Option<i64>) -> bool {
        if self.open.is_some() {
            return false;
        }
        let Some(start) = self.starts.pop() else {
            return false;
        };
        self.starts.clear();
        if !self.counts(start, known_from_us) {
            return false;
        }
        self.open = Some(start);
        self.begin(start)
    }

    /// The boundary of a load whose end is not known yet.
    pub fn open(&self) -> Option<i64> {
        self.open
    }

    /// When the newest loaded row was sent, as far as it is known.
    pub fn newest_load(&self) -> Option<i64> {
        self.newest_load
    }

    /// A table was dropped or made anew, and no row has been loaded since.
    pub fn has_start_without_load(&self) -> bool {
        !self.starts.is_empty()
    }

    /// Notes that the load of this boundary is complete and what was older is swept.
    pub fn completed(&mut self, boundary: i64) {
        self.complete = self.complete.max(Some(boundary));
        if self.open.is_some_and(|open| open <= boundary) {
            self.open = None;
        }
    }

    /// Takes in when the changes were committed and sent that raised the highest position.
    pub fn raised(&mut self, committed: Option<i64>, emitted: Option<i64>) {
        self.highest_committed = self.highest_committed.max(committed);
        self.highest_emitted = self.highest_emitted.max(emitted);
    }

    /// What begins a position of this boundary's epoch.
    pub fn prefix(boundary: i64) -> String {
        format!("{boundary:0EPOCH_DIGITS$}")
    }

    /// The position that a row has which a complete load did not bring: below every row of the load, above all before.
    pub fn swept_position(boundary: i64) -> String {
        format!("{}-0-{:020}", Self::prefix(boundary), 0)
    }

    /// `ingested_at` from which on records may belong to the epoch of this boundary, in µs.
    pub fn ingested_from(boundary: i64) -> i64 {
        boundary.saturating_sub(CLOCK_DIFFERENCE_US)
    }

    /// `ingested_at` from which on records may belong to an epoch that was not known `before`, in µs.
    pub fn reopened_from(&self, before: &Self) -> Option<i64> {
        let lowest = self.boundaries.iter().find(|boundary| !before.boundaries.contains(boundary));
        lowest.copied().map(Self::ingested_from)
    }

    /// A position at or below that of every record that DMS sent from `oldest_emitted` on, given the lowest in the log.
    pub fn lowest(&self, lowest_in_log: &str, oldest_emitted: Option<i64>) -> String {
        let Some(newest) = self.boundaries.last() else {
            return lowest_in_log.to_owned();
        };
        match (oldest_emitted, lowest_in_log.strip_prefix(NO_EPOCH)) {
            (Some(oldest), Some(rest)) if oldest >= *newest => format!("{}{rest}", Self::prefix(*newest)),
            _ => NO_EPOCH.to_owned(),
        }
    }

    /// The position that the merge gives a log row, as [`Self::position_sql`] does: with the epoch of the time at which it was sent.
    pub fn placed(&self, position: &str, sent_us: i64) -> String {
        let boundary = self.boundaries.iter().rev().find(|boundary| **boundary <= sent_us);
        match (boundary, position.strip_prefix(NO_EPOCH)) {
            (Some(boundary), Some(rest)) => format!("{}{rest}", Self::prefix(*boundary)),
            _ => position.to_owned(),
        }
    }

    /// The SQL of a log row's position with its epoch.
    pub fn position_sql(&self) -> String {
        if self.boundaries.is_empty() {
            return "`position`".to_owned();
        }
        let cases: String = self
            .boundaries
            .iter()
            .rev()
            .map(|boundary| {
                format!(
                    "WHEN {SENT} >= {} THEN {} ",
                    timestamp_literal(*boundary),
                    string_literal(&Self::prefix(*boundary))
                )
            })
            .collect();
        format!("CONCAT(CASE {cases}ELSE {} END, SUBSTR(`position`, {}))", string_literal(NO_EPOCH), NO_EPOCH.len() + 1)
    }

    /// The SQL of whether a change that the fold has read, with its `position` of its epoch and `sent` as [`SENT`], was committed after the highest that is merged and yet
    /// stands below it: its source's numbering has begun anew. `None` where nothing to compare with is known.
    ///
    /// A record that is merely late was sent before the highest; one that DMS sends again was committed before it.
    ///
    /// Below a TRUNCATE, what was committed after its record was sent is compared in the same way.
    pub fn began_anew_sql(&self, highest: Option<&str>) -> Option<String> {
        let below = [self.began_anew_below_highest(highest), self.began_anew_below_emptied()];
        let below: Vec<String> = below.into_iter().flatten().map(|below| format!("({below})")).collect();
        (!below.is_empty()).then(|| below.join(" OR "))
    }

    fn began_anew_below_emptied(&self) -> Option<String> {
        let (position, sent_us) = self.emptied_last()?;
        let epoch = position.split_once('-')?.0;
        let kinds =
            [("2-m", MYSQL_COMMIT_TIE_US), ("2-p", POSTGRESQL_LONGEST_TRANSACTION_US)].map(|(class, tolerance)| {
                format!(
                    "STARTS_WITH(`position`, {}) AND `committed_at` > {}",
                    string_literal(&format!("{epoch}-{class}")),
                    timestamp_literal(sent_us.saturating_add(tolerance))
                )
            });
        let sent_after = format!("`sent` > {}", timestamp_literal(sent_us));
        Some(format!("`position` < {} AND {sent_after} AND ({})", string_literal(&position), kinds.join(" OR ")))
    }

    fn began_anew_below_highest(&self, highest: Option<&str>) -> Option<String> {
        let highest = highest?;
        let epoch = highest.split_once('-')?.0;
        let sent_after = format!("`sent` > {}", timestamp_literal(self.highest_emitted?));
        let starts_with =
            |class: &str| format!("STARTS_WITH(`position`, {})", string_literal(&format!("{epoch}-{class}")));
        let mut kinds = vec![starts_with("1-t")];
        if let Some(committed) = self.highest_committed {
            for (class, tolerance) in [("2-m", MYSQL_COMMIT_TIE_US), ("2-p", POSTGRESQL_LONGEST_TRANSACTION_US)] {
                kinds.push(format!(
                    "{} AND `committed_at` > {}",
                    starts_with(class),
                    timestamp_literal(committed.saturating_add(tolerance))
                ));
            }
        }
        Some(format!("`position` < {} AND {sent_after} AND ({})", string_literal(highest), kinds.join(" OR ")))
    }

    /// The SQL of whether a change that the fold has read was sent and committed after others of its key and yet stands below them, all in one
    /// window: the same as [`Self::began_anew_sql`] where nothing of them is merged yet. `earlier_position` and `earlier_committed` are the highest
    /// of what was sent before it. Only where a key was changed on both sides is an order wrong, so no wider comparison is needed.
    pub fn began_anew_in_window_sql() -> String {
        let class = |class: &str| format!("REGEXP_CONTAINS(`position`, r'^[0-9]+-{class}')");
        let committed_after =
            |tolerance: i64| format!("UNIX_MICROS(`committed_at`) > UNIX_MICROS(`earlier_committed`) + {tolerance}");
        format!(
            "`position` < `earlier_position` AND ({} AND REGEXP_CONTAINS(`earlier_position`, r'^[0-9]+-2-') OR {} AND {} OR {} AND {})",
            class("1-t"),
            class("2-m"),
            committed_after(MYSQL_COMMIT_TIE_US),
            class("2-p"),
            committed_after(POSTGRESQL_LONGEST_TRANSACTION_US),
        )
    }

    /// Below which position a change is gone from the source, because a load that is complete did not bring its row or the source
    /// emptied the table; `None`: neither ever happened.
    pub fn gone(&self) -> Option<Gone> {
        let not_loaded = self.complete.map(Gone::not_loaded);
        let emptied = self.emptied_at().as_deref().map(Gone::emptied);
        not_loaded.into_iter().chain(emptied).max_by(|one, other| one.below.cmp(&other.below))
    }
}

/// What is gone from the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// What stands below this position.
    pub below: String,
    /// The position at which it went: at or above all that is gone, at or below all that came since.
    pub since: String,
}

impl Gone {
    /// What a complete load did not bring.
    pub fn not_loaded(boundary: i64) -> Self {
        Self { below: Epochs::prefix(boundary), since: Epochs::swept_position(boundary) }
    }

    /// What the source emptied the table of.
    pub fn emptied(position: &str) -> Self {
        Self { below: position.to_owned(), since: position.to_owned() }
    }
}

/// Whether a position is a place in the source's own log, by which what was there before can be told from what came after.
pub(super) fn is_in_order(position: &str) -> bool {
    position.strip_prefix(NO_EPOCH).is_some_and(|rest| rest.starts_with("-2-"))
}

/// When DMS sent a log row, by which it belongs to an epoch; what says no time is taken for as old as its arrival.
pub(super) const SENT: &str = "COALESCE(`emitted_at`, `ingested_at`)";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn news(starts: &[i64], newest_load_us: Option<i64>) -> News {
        News { starts: starts.to_vec(), newest_load_us, ..News::default() }
    }

    #[test]
    fn a_position_is_placed_in_the_epoch_of_its_time() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.placed("0000-2-m1", 150), "0000-2-m1");
        epochs.begin(100);
        epochs.begin(200);
        assert_eq!(epochs.placed("0000-2-m1", 99), "0000-2-m1");
        assert_eq!(epochs.placed("0000-2-m1", 150), "0000000000000100-2-m1");
        assert_eq!(epochs.placed("0000-2-m1", 200), "0000000000000200-2-m1");
    }

    #[test]
    fn nothing_has_to_be_asked_of_a_load_before_a_change_was_sent_that_ends_it() {
        let mut epochs = Epochs::default();
        assert!(epochs.may_have_ended(), "what an older version learned is not known");
        epochs.learn(&news(&[100], Some(150)), true, None);
        assert!(!epochs.may_have_ended());
        let changed = |sent| News { newest_change_us: Some(sent), ..News::default() };
        epochs.learn(&changed(140), true, None);
        assert!(!epochs.may_have_ended());
        assert!(!Epochs::from_entry(epochs.to_entry().as_deref()).may_have_ended());
        epochs.learn(&changed(151), true, None);
        assert!(epochs.may_have_ended());
        // One that empties the table ends it as well, and a later load begins anew.
        epochs.learn(&news(&[200], Some(250)), true, None);
        assert!(!epochs.may_have_ended());
        epochs.learn(&News { truncated: vec![(260, "0000-2-m9".to_owned())], ..News::default() }, true, None);
        assert!(epochs.may_have_ended());
    }

    #[test]
    fn a_load_from_before_what_the_log_retains_begins_no_epoch_in_a_table_with_rows() {
        let mut epochs = Epochs::default();
        let known_from = Some(100);
        assert!(!epochs.learn(&news(&[90], Some(150)), true, known_from));
        assert_eq!((epochs.boundaries.as_slice(), epochs.open(), epochs.load_beyond_log()), (&[][..], None, Some(90)));
        assert_eq!(Epochs::from_entry(epochs.to_entry().as_deref()), epochs);
        // Nor does it at a person's word that it is complete.
        epochs.learn(&news(&[95], None), true, known_from);
        assert!(!epochs.begin_without_load(known_from));
        assert_eq!((epochs.open(), epochs.load_beyond_log()), (None, Some(95)));
        // The next one makes up for it.
        assert!(epochs.learn(&news(&[200], Some(210)), true, known_from));
        assert_eq!((epochs.open(), epochs.load_beyond_log()), (Some(200), None));
        // Of a table that holds nothing yet, nothing is forgotten.
        let mut empty = Epochs::default();
        assert!(empty.learn(&news(&[90], Some(95)), false, known_from));
    }

    #[test]
    fn a_start_with_loaded_rows_after_it_begins_an_epoch() {
        let mut epochs = Epochs::default();
        assert!(!epochs.learn(&news(&[100, 101], None), true, None), "no row yet");
        assert!(epochs.has_start_without_load());
        assert!(epochs.learn(&news(&[], Some(150)), true, None));
        assert_eq!((epochs.boundaries.as_slice(), epochs.open()), (&[101][..], Some(101)));
        assert!(!epochs.learn(&news(&[], Some(160)), true, None), "the same load goes on");
        // Interrupted and begun again.
        assert!(epochs.learn(&news(&[200], Some(210)), true, None));
        assert_eq!(epochs.open(), Some(200));
        epochs.completed(101);
        assert_eq!(epochs.open(), Some(200), "the older one's end says nothing of the newer");
        epochs.completed(200);
        assert_eq!((epochs.open(), epochs.complete), (None, Some(200)));
        // A task that is resumed may name the table again, without loading it.
        assert!(!epochs.learn(&news(&[300], None), true, None));
        assert_eq!(Epochs::from_entry(epochs.to_entry().as_deref()), epochs);
    }

    #[test]
    fn a_start_that_arrives_after_its_rows_begins_the_epoch_then() {
        let mut epochs = Epochs::default();
        assert!(!epochs.learn(&news(&[], Some(150)), false, None));
        assert!(epochs.learn(&news(&[120], None), false, None));
        assert_eq!(epochs.open(), None, "nothing older can be in a table that was made for it");
    }

    fn news_of(newest_load_us: Option<i64>, oldest_change_us: Option<i64>) -> News {
        News { newest_load_us, oldest_change_us, ..News::default() }
    }

    #[test]
    fn rows_that_are_loaded_after_a_change_lack_their_start_until_it_comes() {
        let mut epochs = Epochs::default();
        epochs.learn(&news(&[100], Some(150)), false, None);
        epochs.learn(&news_of(None, Some(200)), true, None);
        epochs.learn(&news_of(Some(160), Some(210)), true, None);
        assert!(!epochs.may_lack_a_start(), "rows of the load that come late, or again");
        epochs.learn(&news_of(Some(300), Some(310)), true, None);
        epochs.learn(&news_of(Some(305), None), true, None);
        assert!(epochs.may_lack_a_start());
        assert_eq!(epochs.load_without_start(300 + REACH_BACK_US - 1), None, "it may be on its way");
        assert_eq!(epochs.load_without_start(300 + REACH_BACK_US), Some(300));
        assert_eq!(Epochs::from_entry(epochs.to_entry().as_deref()), epochs);
        let (mut by_hand, mut late) = (epochs.clone(), epochs);
        assert!(late.learn(&news(&[290], None), true, None));
        assert!(!late.may_lack_a_start());
        by_hand.begin(295);
        assert!(!by_hand.may_lack_a_start());
    }

    #[test]
    fn a_first_load_lacks_nothing_whether_or_not_its_start_ever_comes() {
        let mut epochs = Epochs::default();
        epochs.learn(&news_of(Some(150), None), false, None);
        epochs.learn(&news_of(Some(190), Some(200)), true, None);
        assert!(!epochs.may_lack_a_start());
        epochs.learn(&news(&[100], None), true, None);
        assert!(!epochs.may_lack_a_start());
        // A straggler of the epoch before says nothing of this one.
        let mut epochs = Epochs::default();
        epochs.learn(&news_of(None, Some(50)), false, None);
        epochs.learn(&News { starts: vec![100], ..news_of(Some(150), Some(60)) }, true, None);
        assert!(!epochs.may_lack_a_start());
    }

    #[test]
    fn what_stands_below_a_truncate_is_gone_until_a_later_epoch() {
        let truncated = |sent, position: &str| News { truncated: vec![(sent, position.to_owned())], ..News::default() };
        let mut epochs = Epochs::default();
        epochs.learn(&truncated(50, "0000-1-t5"), true, None);
        assert_eq!((epochs.gone(), epochs.emptying()), (None, None), "its place in the source's order is not known");
        epochs.learn(&truncated(60, "0000-2-m2"), true, None);
        epochs.learn(&truncated(70, "0000-2-m1"), true, None);
        assert_eq!(epochs.gone(), Some(Gone::emptied("0000-2-m2")));
        epochs.emptied("0000-2-m1");
        assert_eq!(epochs.emptying().as_deref(), Some("0000-2-m2"), "another one's rows went");
        epochs.emptied("0000-2-m2");
        assert_eq!(epochs.emptying(), None);
        assert_eq!(epochs.first_change, Some(60), "no load that began before is still under way");
        assert_eq!(Epochs::from_entry(epochs.to_entry().as_deref()), epochs);
        // Read again, it says nothing new.
        epochs.learn(&truncated(60, "0000-2-m2"), true, None);
        assert_eq!(epochs.emptying(), None);
        // Of an epoch that is known only later: it is placed anew.
        epochs.begin(55);
        assert_eq!(epochs.emptying().as_deref(), Some("0000000000000055-2-m2"));
        epochs.emptied("0000000000000055-2-m2");
        // The source's numbering begins anew.
        epochs.begin(65);
        assert_eq!(
            epochs.emptying().as_deref(),
            Some("0000000000000065-2-m1"),
            "sent at 70, and never the highest before"
        );
        epochs.learn(&truncated(80, "0000-2-m1"), true, None);
        assert_eq!(epochs.emptying().as_deref(), Some("0000000000000065-2-m1"));
        // A load that is complete hides more.
        epochs.begin(90);
        epochs.completed(90);
        assert_eq!(epochs.gone(), Some(Gone::not_loaded(90)));
    }

    #[test]
    fn an_operators_word_completes_a_load_that_brought_no_row() {
        let mut epochs = Epochs::default();
        assert!(!epochs.begin_without_load(None));
        epochs.learn(&news(&[6, 7], None), true, None);
        assert!(epochs.begin_without_load(None));
        assert_eq!(epochs.open(), Some(7));
        // Its records are read again.
        epochs.learn(&news(&[6, 7], None), true, None);
        assert!(!epochs.has_start_without_load());
    }

    #[test]
    fn an_operators_word_is_said_of_the_load_that_is_open() {
        let mut epochs = Epochs::default();
        epochs.learn(&news(&[7], Some(8)), true, None);
        epochs.learn(&news(&[9], None), true, None);
        assert!(!epochs.begin_without_load(None));
        assert_eq!(epochs.open(), Some(7));
    }

    #[test]
    fn a_first_load_hides_what_is_older_without_a_sweep() {
        let mut epochs = Epochs::default();
        epochs.learn(&news(&[1, 7], Some(8)), false, None);
        assert_eq!((epochs.open(), epochs.complete), (None, Some(7)));
    }

    #[test]
    fn an_epoch_before_others_reopens_all_that_is_its_own() {
        let mut epochs = Epochs::default();
        epochs.begin(9_000_000_000);
        let before = epochs.clone();
        assert_eq!(epochs.reopened_from(&before), None);
        epochs.begin(8_000_000_000);
        assert_eq!(epochs.reopened_from(&before), Some(8_000_000_000 - CLOCK_DIFFERENCE_US));
    }

    #[test]
    fn epochs_sort_above_none_and_by_time() {
        let position = |boundary| format!("{}-0-1", Epochs::prefix(boundary));
        assert_eq!(Epochs::boundary_of(&position(5)), Some(5));
        assert_eq!(Epochs::boundary_of("0000-2-m1"), None);
        assert!(position(1) > format!("{NO_EPOCH}-2-p"));
        assert!(position(1_767_323_045_678_901) > position(999_999_999_999_999));
        assert!(
            Epochs::swept_position(5) < position(5) && Epochs::swept_position(5) > format!("{}-2-p", Epochs::prefix(4))
        );
    }

    #[test]
    fn the_lowest_position_of_news_takes_the_newest_epoch_only_if_all_were_sent_in_it() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.lowest("0000-2-m1", Some(5)), "0000-2-m1");
        epochs.begin(10);
        assert_eq!(epochs.lowest("0000-2-m1", Some(10)), format!("{}-2-m1", Epochs::prefix(10)));
        assert_eq!(epochs.lowest("0000-2-m1", Some(9)), "0000");
        assert_eq!(epochs.lowest("0000-2-m1", None), "0000");
    }

    #[test]
    fn only_so_many_boundaries_are_kept() {
        let mut epochs = Epochs::default();
        for boundary in 1..200 {
            epochs.begin(boundary);
        }
        assert_eq!(epochs.boundaries.len(), BOUNDARIES_KEPT);
        assert_eq!(epochs.boundaries.last(), Some(&199));
    }
}
