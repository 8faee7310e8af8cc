//! From a table to the rows that differ: checksums of all buckets on both sides, the keys of those that differ, and those rows' columns.
//! What differs is read again on both sides until it is equal, or has stood still at the source for the settling time and differs
//! all the same. It must never call a row different of which a change may be on its way, and never hold more than the buckets, the rows
//! of a few of them, and as many findings as were asked for.
//!
//! **Why rows are read again, and not compared at a position.** A position says how far the merge has come in what it was given,
//! not that nothing older is on its way: partitions of the topic run at different speeds, a load has no positions, and a reader
//! endpoint knows none. A row that did not change at the source for longer than a change takes to get into the final table
//! needs none of that. What changes more often than that is *moving*: its next change will write all of it anew.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use strait::merge::types::canonical::Form;
use tokio::time::{Instant, sleep};

use super::VerifyError;
use super::bigquery::Final;
use super::pairing::Pairing;
use super::source::{Source, TextRow};
use super::statement::{Key, OneOf, Side, Wanted};
use crate::terminal::{Progress, Terminal};

/// Rows of the source that one statement reads: some tenths of a second to some seconds.
const ROWS_AT_ONCE: usize = 100_000;
/// Rows in a bucket, as long as there are enough buckets: what is read again for one row that differs.
const ROWS_PER_BUCKET: u64 = 256;
/// 65,536 buckets of about a hundred bytes a side.
const DIGITS_AT_MOST: usize = 4;
/// Rows of differing buckets that are held at once, each with its key and hash.
const ROWS_HELD: u64 = 200_000;
/// Keys in one statement, which BigQuery limits to 1 MB.
const KEYS_AT_ONCE: usize = 200;
/// Between two looks at what differs; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Each look at BigQuery's side is billed.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A row that has not stood still after so many settling times is moving.
const SETTLING_TIMES: u32 = 2;

/// Rows and checksum of a bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    rows: u64,
    checksum: u128,
}

type Buckets = BTreeMap<String, Bucket>;

/// A row that may differ.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Candidate {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: Key,
}

/// A row as it was read for its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRow {
    /// The hash of its compared columns.
    pub hash: String,
    /// What is compared, a cell for each compared column.
    pub cells: Vec<Option<String>>,
    /// The values for a person or the log, if wanted.
    pub values: Vec<Option<String>>,
    /// Of the final table: its position.
    pub position: Option<String>,
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The source has it so many times more often: once, if rows have a key.
    Missing(usize),
    /// The final table has it so many times more often.
    Extra(usize),
    /// The final table has a key more than once that the source has once.
    Repeated(usize),
    /// Columns differ: their places among the compared ones.
    Columns(Vec<usize>),
}

/// A row that differs, with both sides as they were read last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which row.
    pub row: Candidate,
    /// How.
    pub difference: Difference,
    /// The source's.
    pub source: Option<ReadRow>,
    /// The final table's.
    pub in_final: Option<ReadRow>,
}

/// What a comparison came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rows of the source, as they were counted.
    pub source_rows: u64,
    /// Rows of the final table.
    pub final_rows: u64,
    /// Rows that differ.
    pub findings: Vec<Finding>,
    /// Rows that changed at the source all the time.
    pub moving: Vec<Candidate>,
    /// Whether there were more rows to look at than were asked for.
    pub is_cut: bool,
}

/// How much is looked at, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows that are looked at one by one.
    pub rows: usize,
    /// For how long a row has to stand still at the source.
    pub settle: Duration,
    /// Whether values are wanted.
    pub wanted: Wanted,
}

/// Both sides of one table, and what is known of how to read them.
#[derive(Debug)]
pub struct Drill<'a> {
    pub(super) pairing: &'a Pairing,
    pub(super) source: &'a mut Source,
    pub(super) in_final: &'a mut Final,
    source_side: Side<'a>,
    final_side: Side<'a>,
    /// Digits of a bucket's name.
    digits: usize,
    /// Keys between the parts in which the source is read.
    boundaries: Vec<Key>,
    terminal: &'a Terminal,
}

impl<'a> Drill<'a> {
    /// Ready to compare.
    ///
    /// # Errors
    /// When a name cannot be quoted.
    pub fn new(
        pairing: &'a Pairing,
        source: &'a mut Source,
        in_final: &'a mut Final,
        terminal: &'a Terminal,
    ) -> Result<Self, VerifyError> {
        let source_side = Side::of_source(pairing);
        let final_side = Side::of_final(pairing, in_final.project())?;
        Ok(Self { pairing, source, in_final, source_side, final_side, digits: 1, boundaries: Vec::new(), terminal })
    }

    /// Compares.
    ///
    /// # Errors
    /// When one of the sides cannot be read.
    pub async fn compare(&mut self, limits: Limits) -> Result<Outcome, VerifyError> {
        let estimate = self.source.estimated_rows(&self.pairing.source).await?;
        self.digits = digits_for(estimate);
        let progress = self.terminal.progress(usize::try_from(estimate).unwrap_or(usize::MAX));
        progress.at(0, "the final table");
        let rows = self.in_final.rows(self.final_side.buckets(self.digits, None)).await?;
        let mut of_final = Buckets::new();
        add(&mut of_final, &rows)?;
        let of_source = self.source_buckets(&progress).await;
        progress.finish();
        let of_source = of_source?;

        let mut outcome = Outcome {
            source_rows: of_source.values().map(|bucket| bucket.rows).sum(),
            final_rows: of_final.values().map(|bucket| bucket.rows).sum(),
            ..Outcome::default()
        };
        let groups = groups(&of_source, &of_final);
        let mut candidates = Vec::new();
        for buckets in &groups {
            if candidates.len() > limits.rows {
                break;
            }
            candidates.extend(self.differing_rows(buckets).await?);
        }
        outcome.is_cut = candidates.len() > limits.rows;
        candidates.truncate(limits.rows);
        self.settle(candidates, limits, &mut outcome).await?;
        Ok(outcome)
    }

    async fn source_buckets(&mut self, progress: &Progress) -> Result<Buckets, VerifyError> {
        let mut buckets = Buckets::new();
        self.boundaries.clear();
        let mut done = 0_usize;
        loop {
            let after = self.boundaries.last().cloned();
            let to = self.next_boundary(after.as_ref()).await?;
            let range = self.range(after.as_ref(), to.as_ref())?;
            let sql = self.source_side.buckets(self.digits, range.as_deref());
            let rows = self.source.rows(&sql, "checksums").await?;
            done = done.saturating_add(usize::try_from(add(&mut buckets, &rows)?).unwrap_or(usize::MAX));
            progress.at(done, "the source");
            match to {
                Some(to) => self.boundaries.push(to),
                None => return Ok(buckets),
            }
        }
    }

    async fn next_boundary(&mut self, after: Option<&Key>) -> Result<Option<Key>, VerifyError> {
        if self.pairing.walk.is_empty() {
            return Ok(None);
        }
        let sql =
            self.source_side.boundary(after, ROWS_AT_ONCE).ok_or(VerifyError::Unexpected("a key of the source"))?;
        Ok(self.source.rows(&sql, "its keys").await?.into_iter().next())
    }

    fn range(&self, after: Option<&Key>, to: Option<&Key>) -> Result<Option<String>, VerifyError> {
        if self.pairing.walk.is_empty() {
            return Ok(None);
        }
        self.source_side.range(after, to).map(Some).ok_or(VerifyError::Unexpected("a key of the source"))
    }

    /// The parts in which the source was read before, open at both ends.
    fn ranges(&self) -> Result<Vec<Option<String>>, VerifyError> {
        let afters = std::iter::once(None).chain(self.boundaries.iter().map(Some));
        let tos = self.boundaries.iter().map(Some).chain(std::iter::once(None));
        afters.zip(tos).map(|(after, to)| self.range(after, to)).collect()
    }

    /// The rows of some buckets that one side has and the other has not, or has with another hash.
    async fn differing_rows(&mut self, buckets: &[String]) -> Result<Vec<Candidate>, VerifyError> {
        let mut rows: BTreeMap<Candidate, (Vec<String>, Vec<String>)> = BTreeMap::new();
        for range in self.ranges()? {
            let sql = self.source_side.hashes(self.digits, buckets, range.as_deref());
            for row in self.source.rows(&sql, "hashes of rows").await? {
                let (candidate, hash) = self.hashed(row)?;
                rows.entry(candidate).or_default().0.push(hash);
            }
        }
        for row in self.in_final.rows(self.final_side.hashes(self.digits, buckets, None)).await? {
            let (candidate, hash) = self.hashed(row)?;
            rows.entry(candidate).or_default().1.push(hash);
        }
        Ok(rows
            .into_iter()
            .filter(|(_, (source, in_final))| source != in_final)
            .map(|(candidate, _)| candidate)
            .collect())
    }

    fn hashed(&self, row: TextRow) -> Result<(Candidate, String), VerifyError> {
        let mut cells = row.into_iter();
        let (Some(Some(bucket)), Some(Some(hash))) = (cells.next(), cells.next()) else {
            return Err(VerifyError::Unexpected("hashes of rows"));
        };
        let key = if self.pairing.is_keyless() { vec![Some(hash.clone())] } else { cells.collect() };
        Ok((Candidate { bucket, key }, hash))
    }

    /// Reads what may differ again and again, until it is equal, stands still, or is found to be moving.
    async fn settle(
        &mut self,
        candidates: Vec<Candidate>,
        limits: Limits,
        outcome: &mut Outcome,
    ) -> Result<(), VerifyError> {
        let started = Instant::now();
        // Since when a row has stood still, and its hashes at the source.
        let mut still: HashMap<Candidate, (Instant, Vec<String>)> = HashMap::new();
        let mut open = candidates;
        let mut pause = FIRST_PAUSE;
        while !open.is_empty() {
            // A row that is read after this moment was not changed before.
            let now = Instant::now();
            let source = self.source_rows(&open, limits.wanted).await?;
            let in_final = self.final_rows(&open, limits.wanted).await?;
            let mut left = Vec::new();
            for candidate in open {
                let none = Vec::new();
                let (of_source, of_final) =
                    (source.get(&candidate.key).unwrap_or(&none), in_final.get(&candidate.key).unwrap_or(&none));
                let Some(difference) = self.difference(of_source, of_final) else { continue };
                let mut hashes: Vec<String> = of_source.iter().map(|row| row.hash.clone()).collect();
                hashes.sort_unstable();
                let entry = still.entry(candidate.clone()).or_insert_with(|| (now, hashes.clone()));
                if entry.1 != hashes {
                    *entry = (now, hashes);
                }
                if entry.0.elapsed() >= limits.settle {
                    let (source, in_final) = (of_source.first().cloned(), of_final.first().cloned());
                    outcome.findings.push(Finding { row: candidate, difference, source, in_final });
                } else if started.elapsed() >= limits.settle.saturating_mul(SETTLING_TIMES) {
                    outcome.moving.push(candidate);
                } else {
                    left.push(candidate);
                }
            }
            open = left;
            if !open.is_empty() {
                let text = format!("  {} to be looked at again in {} s", open.len(), pause.as_secs());
                self.terminal.line(self.terminal.dim(&text));
                sleep(pause.min(limits.settle.max(Duration::from_millis(100)))).await;
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
            }
        }
        outcome.findings.sort_by(|a, b| a.row.key.cmp(&b.row.key));
        Ok(())
    }

    /// The source's rows of these keys, by key.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn source_rows(
        &mut self,
        candidates: &[Candidate],
        wanted: Wanted,
    ) -> Result<HashMap<Key, Vec<ReadRow>>, VerifyError> {
        let mut rows = HashMap::new();
        for some in candidates.chunks(KEYS_AT_ONCE) {
            let keys = some.iter().map(|candidate| (candidate.bucket.as_str(), &candidate.key));
            let (condition, ranges) = match self.source_side.one_of(keys, self.digits) {
                OneOf::ByKey(condition) => (condition, vec![None]),
                OneOf::ByBucket(condition) => (condition, self.ranges()?),
            };
            for range in ranges {
                let condition = match range {
                    Some(range) => format!("{condition} AND {range}"),
                    None => condition.clone(),
                };
                let sql = self.source_side.rows(&condition, wanted);
                let read = self.source.rows(&sql, "rows").await?;
                self.take(&mut rows, read, wanted, false)?;
            }
        }
        Ok(rows)
    }

    async fn final_rows(
        &mut self,
        candidates: &[Candidate],
        wanted: Wanted,
    ) -> Result<HashMap<Key, Vec<ReadRow>>, VerifyError> {
        let mut rows = HashMap::new();
        for some in candidates.chunks(KEYS_AT_ONCE) {
            let keys = some.iter().map(|candidate| (candidate.bucket.as_str(), &candidate.key));
            let (OneOf::ByKey(condition) | OneOf::ByBucket(condition)) = self.final_side.one_of(keys, self.digits);
            let read = self.in_final.rows(self.final_side.rows(&condition, wanted)).await?;
            self.take(&mut rows, read, wanted, true)?;
        }
        Ok(rows)
    }

    fn take(
        &self,
        rows: &mut HashMap<Key, Vec<ReadRow>>,
        read: Vec<TextRow>,
        wanted: Wanted,
        has_position: bool,
    ) -> Result<(), VerifyError> {
        let (columns, keys) = (self.pairing.columns.len(), self.pairing.key.len());
        for row in read {
            let mut cells = row.into_iter();
            let Some(Some(hash)) = cells.next() else {
                return Err(VerifyError::Unexpected("rows"));
            };
            let key: Key = cells.by_ref().take(keys).collect();
            let key = if self.pairing.is_keyless() { vec![Some(hash.clone())] } else { key };
            let compared: Vec<Option<String>> = cells.by_ref().take(columns).collect();
            // Of the source, the carried columns are behind them.
            let carried = if has_position { 0 } else { self.pairing.carried.len() };
            let values =
                if wanted.values { cells.by_ref().take(columns.saturating_add(carried)).collect() } else { Vec::new() };
            let position = if has_position { cells.next().flatten() } else { None };
            rows.entry(key).or_default().push(ReadRow { hash, cells: compared, values, position });
        }
        Ok(())
    }

    fn difference(&self, source: &[ReadRow], in_final: &[ReadRow]) -> Option<Difference> {
        let forms = self.pairing.columns.iter().map(|column| column.canonical.form);
        difference(&forms.collect::<Vec<_>>(), self.pairing.is_keyless(), source, in_final)
    }
}

fn difference(forms: &[Form], is_keyless: bool, source: &[ReadRow], in_final: &[ReadRow]) -> Option<Difference> {
    match (source, in_final) {
        _ if is_keyless => match (source.len(), in_final.len()) {
            (of_source, of_final) if of_source > of_final => {
                Some(Difference::Missing(of_source.saturating_sub(of_final)))
            }
            (of_source, of_final) if of_source < of_final => {
                Some(Difference::Extra(of_final.saturating_sub(of_source)))
            }
            _ => None,
        },
        ([], []) => None,
        (_, []) => Some(Difference::Missing(1)),
        ([], extra) => Some(Difference::Extra(extra.len())),
        ([source, ..], [in_final]) => {
            let places: Vec<usize> = forms
                .iter()
                .zip(source.cells.iter().zip(&in_final.cells))
                .enumerate()
                .filter(|(_, (form, (source, in_final)))| !is_same(**form, source.as_deref(), in_final.as_deref()))
                .map(|(place, _)| place)
                .collect();
            (!places.is_empty()).then_some(Difference::Columns(places))
        }
        (_, repeated) => Some(Difference::Repeated(repeated.len())),
    }
}

/// Two texts of JSON are the same if they mean the same: MySQL prints its own text of what it keeps, DMS another.
fn is_same(form: Form, source: Option<&str>, in_final: Option<&str>) -> bool {
    let meaning = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    match (form, source, in_final) {
        (Form::Json, Some(source), Some(in_final)) => {
            source == in_final || meaning(source).is_some_and(|of_source| Some(of_source) == meaning(in_final))
        }
        _ => source == in_final,
    }
}

/// So many digits that a bucket has about [`ROWS_PER_BUCKET`] rows.
fn digits_for(rows: u64) -> usize {
    let mut digits = 1;
    let mut buckets = 16_u64;
    while digits < DIGITS_AT_MOST && rows / ROWS_PER_BUCKET > buckets {
        digits = digits.saturating_add(1);
        buckets = buckets.saturating_mul(16);
    }
    digits
}

/// Adds a statement's buckets; how many rows they have.
fn add(buckets: &mut Buckets, rows: &[TextRow]) -> Result<u64, VerifyError> {
    let mut all = 0_u64;
    for row in rows {
        let [Some(name), Some(count), Some(checksum)] = row.as_slice() else {
            return Err(VerifyError::Unexpected("checksums"));
        };
        // The embedded BigQuery prints a NUMERIC with its nine digits behind the point.
        let checksum = checksum.split('.').next().unwrap_or_default();
        let (Ok(count), Ok(checksum)) = (count.parse::<u64>(), checksum.parse::<u128>()) else {
            return Err(VerifyError::Unexpected("checksums"));
        };
        let bucket = buckets.entry(name.clone()).or_default();
        bucket.rows = bucket.rows.saturating_add(count);
        bucket.checksum = bucket.checksum.saturating_add(checksum);
        all = all.saturating_add(count);
    }
    Ok(all)
}

/// The buckets that differ, in groups of so many rows as are held at once.
fn groups(source: &Buckets, in_final: &Buckets) -> Vec<Vec<String>> {
    let mut groups: Vec<Vec<String>> = Vec::new();
    let mut held = u64::MAX;
    let names: std::collections::BTreeSet<&String> = source.keys().chain(in_final.keys()).collect();
    for name in names {
        let of = |side: &Buckets| side.get(name).copied().unwrap_or_default();
        let (of_source, of_final) = (of(source), of(in_final));
        if of_source == of_final {
            continue;
        }
        let rows = of_source.rows.saturating_add(of_final.rows);
        match groups.last_mut().filter(|_| held.saturating_add(rows) <= ROWS_HELD) {
            Some(group) => {
                group.push(name.clone());
                held = held.saturating_add(rows);
            }
            None => {
                groups.push(vec![name.clone()]);
                held = rows;
            }
        }
    }
    groups
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> ReadRow {
        ReadRow {
            hash: cells.concat(),
            cells: cells.iter().map(|cell| (*cell != "NULL").then(|| (*cell).to_owned())).collect(),
            values: Vec::new(),
            position: None,
        }
    }

    #[test]
    fn each_kind_of_difference_is_told() {
        let of =
            |source: &[ReadRow], in_final: &[ReadRow]| difference(&[Form::Number, Form::Json], false, source, in_final);
        let one = [row(&["1", r#"{"a": 1, "b": 1.50}"#])];
        assert_eq!(of(&one, &[row(&["1", r#"{"b":1.5,"a":1}"#])]), None);
        assert_eq!(of(&one, &[row(&["1", r#"{"b":1.5,"a":2}"#])]), Some(Difference::Columns(vec![1])));
        assert_eq!(of(&one, &[row(&["1", "NULL"])]), Some(Difference::Columns(vec![1])));
        assert_eq!(of(&one, &[]), Some(Difference::Missing(1)));
        assert_eq!(of(&[], &one), Some(Difference::Extra(1)));
        assert_eq!(of(&one, &[one.clone(), one.clone()].concat()), Some(Difference::Repeated(2)));
        assert_eq!(of(&[], &[]), None);
    }

    #[test]
    fn rows_without_a_key_are_counted() {
        let of = |source: usize, in_final: usize| {
            let rows = |count| vec![row(&["1"]); count];
            difference(&[Form::Number], true, &rows(source), &rows(in_final))
        };
        assert_eq!(of(3, 1), Some(Difference::Missing(2)));
        assert_eq!(of(0, 2), Some(Difference::Extra(2)));
        assert_eq!(of(2, 2), None);
    }

    #[test]
    fn buckets_are_added_up_and_those_that_differ_are_grouped() {
        let text = |cells: [&str; 3]| cells.map(|cell| Some(cell.to_owned())).to_vec();
        let (mut source, mut in_final) = (Buckets::new(), Buckets::new());
        add(&mut source, &[text(["0", "2", "7"]), text(["1", "1", "5"])]).unwrap();
        assert_eq!(add(&mut source, &[text(["0", "1", "1"])]).unwrap(), 1);
        add(&mut in_final, &[text(["0", "3", "8.000000000"]), text(["2", "150000", "1"])]).unwrap();
        assert_eq!(groups(&source, &in_final), [vec!["1".to_owned(), "2".to_owned()]]);
        add(&mut source, &[text(["3", "100000", "1"])]).unwrap();
        assert_eq!(groups(&source, &in_final).len(), 2);
        assert!(add(&mut source, &[text(["0", "x", "1"])]).is_err());
    }

    #[test]
    fn buckets_have_a_few_hundred_rows_until_there_are_most() {
        assert_eq!([0, 4_000, 1_000_000, u64::MAX].map(digits_for), [1, 1, 3, 4]);
    }
}
