//! One table's merge, from its window to its ledger entry. What a run begins is written down before its jobs start, so that a
//! run that dies or runs out of time leaves work that the next one finishes: exactly that work first, and only then more. Two
//! pieces of work on one table must never overlap, or an older MERGE could bring back what a newer one removed.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::bigquery::job::{JobRequest, JobStats, QueryAnswer};
use crate::log::kept_out_table;
use crate::names::{SourceTable, TableName, fingerprint};

use super::answer::{TableAnswer, Word};
use super::coverage::{Coverage, OffsetRange};
use super::delta::{Delta, Reading};
use super::epoch::{Epochs, Gone, is_in_order};
use super::final_table::FinalTable;
use super::fold::{self, FoldRequest, LookBack};
use super::ledger::{Entry, OVERTAKEN, Outcome, TableState};
use super::partitions;
use super::plan::{self, News};
use super::reload::{self, Earlier, Progress};
use super::run::{Run, TableError, describe, is_missing, is_out_of_time, is_refused, now_us, read_plan};
use super::schema_change::Unfilled;
use super::statement::{self, MergeRequest, TARGET_ALIAS};

/// Hexadecimal digits of a key of work: 96 bits, so that no two ever meet.
const WORK_KEY_DIGITS: usize = 24;

/// A load that is open for longer, in µs, may never end by itself: a table that nobody changes brings no change after it.
const LONGEST_LOAD_US: i64 = 24 * 60 * 60 * 1_000_000;

/// A piece of work as the ledger keeps it. Times in µs since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// What the job ids and the fold's name are made of.
    key: String,
    /// `ingested_at` of the oldest record; `None`: from the log's beginning.
    window_from_us: Option<i64>,
    /// `ingested_at` of the newest record.
    window_to_us: i64,
    /// How much of the log before the window is read again.
    look_back: LookBack,
    /// Changes in the window when it was planned; without any there is nothing to run.
    changes: i64,
    /// All offsets that the plan saw: what is covered once this is merged.
    seen: Vec<OffsetRange>,
    /// What was committed before may have been followed by changes that the log let expire; `None`: nothing has expired.
    #[serde(default)]
    expired_before_us: Option<i64>,
    /// Rows at the same position are written again.
    #[serde(default)]
    is_again: bool,
    /// What tells apart the columns that the table had.
    #[serde(default)]
    columns: String,
}

impl Begun {
    /// Reads what a ledger entry says. One that cannot be read is begun anew.
    fn from_entry(work: &str) -> Option<Self> {
        serde_json::from_str(work).ok()
    }

    fn to_entry(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// What an earlier run began and did not finish.
    pub(super) fn of_state(state: &TableState) -> Option<Self> {
        let work = state.work.as_deref().filter(|_| state.outcome == Outcome::Running);
        work.and_then(Self::from_entry)
    }

    /// Whether rows at the same position are written again.
    pub(super) fn is_again(&self) -> bool {
        self.is_again
    }

    /// `ingested_at` of the oldest and the newest record, in µs.
    pub(super) fn window(&self) -> (Option<i64>, i64) {
        (self.window_from_us, self.window_to_us)
    }

    pub(super) fn look_back(&self) -> LookBack {
        self.look_back
    }

    pub(super) fn changes(&self) -> i64 {
        self.changes
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }
}

/// A delta that is written, and what that cost.
pub(super) struct Copied {
    delta: Delta,
    stats: JobStats,
}

impl Copied {
    /// What of its cost falls to a table.
    fn part(&self, number: usize) -> JobStats {
        JobStats {
            bytes_billed: self.delta.part(number, self.stats.bytes_billed),
            slot_ms: self.delta.part(number, self.stats.slot_ms),
            bytes_estimated: self.delta.part(number, self.stats.bytes_estimated),
            ..JobStats::default()
        }
    }
}

/// A table that a run is to merge.
pub(super) struct Work {
    pub(super) source: SourceTable,
    pub(super) table: FinalTable,
    pub(super) standing: Standing,
    /// What an earlier run began and did not finish.
    pub(super) unfinished: Option<Begun>,
    /// What this run does after that.
    pub(super) own: Own,
    /// Told apart from earlier attempts that failed: their jobs must not be attached to.
    pub(super) is_retry: bool,
    /// Since when a record of it has waited longer than the log retains any, in µs.
    pub(super) waited_since_us: Option<i64>,
    /// An epoch has begun of which records may be merged already: its coverage stands back.
    pub(super) is_reopened: bool,
    /// What a person has to do about what was altered at the source.
    pub(super) for_a_person: Vec<String>,
    /// Whether the log says what was altered.
    pub(super) is_history_known: bool,
}

/// What a run does with a table once nothing is left unfinished.
pub(super) enum Own {
    /// This, planned with the others.
    Begun(Box<Begun>, Box<News>),
    /// What a plan by its own coverage finds: it stands behind the others.
    Behind,
    /// Nothing is new; it is only to be seen whether a load is complete.
    Nothing,
}

/// How far a table is merged.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) coverage: Coverage,
    pub(super) highest_position: Option<String>,
    pub(super) epochs: Epochs,
    /// The log has all that was sent from this time on, in µs; `None`: it has forgotten nothing.
    pub(super) known_from_us: Option<i64>,
    pub(super) unfilled: Unfilled,
}

impl Standing {
    /// Takes in news of loads and an operator's word; whether an epoch begins with them. Records of it may be merged already, as
    /// of the one before, so everything from its boundary on is looked at again.
    pub(super) fn learn(&mut self, news: Option<&News>, word: Option<Word>, table: &FinalTable) -> bool {
        let before = self.epochs.clone();
        let may_hold_older = self.highest_position.is_some() || !table.is_made_by_strait;
        let begins = news.is_some_and(|news| self.epochs.learn(news, may_hold_older, self.known_from_us));
        self.reopen(&before);
        self.hear(word) | begins
    }

    /// Takes in an operator's word; whether records that may be merged already are news with it.
    pub(super) fn hear(&mut self, word: Option<Word>) -> bool {
        let before = self.epochs.clone();
        let begins = match word {
            Some(Word::Epoch(boundary)) => self.epochs.begin(boundary),
            Some(Word::ReloadEmpty) => self.epochs.begin_without_load(self.known_from_us),
            Some(Word::MergeAgain(from)) => self.unfilled.merge_again(from),
            Some(Word::ReloadComplete) | None => false,
        };
        self.reopen(&before);
        begins
    }

    /// Takes in that the table is merged up to there.
    fn merged_up_to(&mut self, coverage: Coverage) {
        self.coverage = coverage;
        self.unfilled.merged_to_the_end();
    }

    fn reopen(&mut self, before: &Epochs) {
        let from = self.epochs.reopened_from(before).into_iter().chain(self.unfilled.again_from()).min();
        if let (Some(to), Some(from)) = (self.coverage.to_us, from) {
            self.unfilled.taken_back(to);
            self.coverage = Coverage { to_us: Some(to.min(from)), ranges: Vec::new() };
        }
    }
}

/// What a sweep removed or marked, and what that cost.
struct Swept {
    gone: i64,
    stats: JobStats,
    job_id: String,
    duration: Duration,
}

/// A piece of work that is done.
struct Merged {
    answer: TableAnswer,
    highest_position: Option<String>,
    stats: JobStats,
    job_id: Option<String>,
    fold: TableName,
    survey: Survey,
}

#[derive(Default)]
struct Survey {
    keys: i64,
    /// Keys of which the oldest record that was read is an insert or a load.
    adding: i64,
    flawed: i64,
    records: i64,
    late: i64,
    newest: Option<String>,
    raised_committed: Option<i64>,
    raised_emitted: Option<i64>,
    anew: i64,
    anew_from: Option<i64>,
    beyond_log: i64,
    lowest_key: Option<String>,
    highest_key: Option<String>,
    /// Members for which the table has no column, and since when.
    unknown: BTreeSet<String>,
    unknown_since: Option<i64>,
    /// Columns that could not hold a value, and since when.
    flaw_columns: BTreeSet<String>,
    flaw_since: Option<i64>,
}

impl Survey {
    /// Whether it may be that the final table has none of the keys. What the fold says decides and nothing else, so that a run that goes on with
    /// another's work takes the same way: two statements that only insert do not conflict in BigQuery, and would add a row twice.
    fn may_be_all_new(&self) -> bool {
        self.adding == self.keys && self.late == 0 && self.beyond_log == 0
    }
}

/// What is said of a table that the source emptied.
const EMPTIED: &str = "the source emptied the table (TRUNCATE); its rows from before are gone";

/// What is said of a table without a key in which rows were changed or deleted.
const KEYLESS: &str = "the table has no primary key, so which row was changed or deleted cannot be told: these changes are in the \
                       quarantine, and the rows as they were before are still there. Give it a key at the source and reload it, or declare one on the \
                       final table";

impl Run<'_> {
    /// Plans a table's work in this run from its news.
    pub(super) fn begin(
        &self,
        source: &SourceTable,
        table: &FinalTable,
        standing: &Standing,
        news: &News,
        is_retry: bool,
    ) -> Result<Begun, TableError> {
        let config = &self.handler.config;
        let lowest =
            news.lowest_position.as_deref().map(|lowest| standing.epochs.lowest(lowest, news.oldest_emitted_us));
        let mut begun = Begun {
            key: String::new(),
            window_from_us: Some(news.from_us),
            window_to_us: self.window_to_us,
            look_back: if table.is_keyless {
                // No record has to do with another.
                LookBack::None
            } else {
                LookBack::needed(
                    lowest.as_deref(),
                    standing.highest_position.as_deref(),
                    news.oldest_commit_us,
                    fold::absent_of(config.absent_columns, table),
                )
            },
            changes: news.changes,
            seen: self.plan.seen.clone(),
            expired_before_us: self.expired_before_us,
            is_again: standing.unfilled.again_from().is_some(),
            columns: columns_key(table),
        };
        let placeholder = fold::fold_table(&config.log_table, "");
        let request = self.fold_request(source, table, standing, &begun, &placeholder);
        let key = fold::work_key(&request, &begun.seen)?;
        // The same records as before, but not the same work: what its jobs came to then must not be attached to.
        begun.key =
            if is_retry || begun.is_again { fingerprint(&format!("{key}\0{}", self.id), WORK_KEY_DIGITS) } else { key };
        Ok(begun)
    }

    /// Copies what these tables have to read of the log, if that costs less than reading it for each of them. Whatever keeps it from
    /// being copied, the log is still there to be read.
    pub(super) async fn copy_news(&self, to_do: &[Work]) -> Option<Copied> {
        let delta = self.delta(to_do.iter())?;
        let mut stats = JobStats::default();
        let copied = async {
            let config = &self.handler.config;
            let sql = delta.statement(&config.project, &config.log_table, self.window_to_us)?;
            let key = fingerprint(&format!("{}\0{sql}", self.id), WORK_KEY_DIGITS);
            self.write_until(self.half_of_time(), &sql, "delta", &key, &mut stats).await
        };
        match copied.await {
            Ok(_) => Some(Copied { delta, stats }),
            Err(error) => {
                tracing::warn!(
                    tables = delta.tables.len(),
                    reason = describe(&error),
                    "the news could not be copied once for all tables: each reads the log for itself, which costs more"
                );
                None
            }
        }
    }

    /// What a run over these tables copies of the log, if anything.
    pub(super) fn delta<'w>(&self, to_do: impl Iterator<Item = &'w Work>) -> Option<Delta> {
        let config = &self.handler.config;
        let readings = to_do.filter_map(|work| match &work.own {
            Own::Begun(begun, _) if begun.changes > 0 => Some(Reading {
                source: work.source.clone(),
                from_us: begun.look_back.reads_from(begun.window_from_us),
                changes: begun.changes,
            }),
            _ => None,
        });
        Delta::worthwhile(&config.log_table, &self.id, readings.collect(), self.window_to_us, config.log_retention_us())
    }

    /// Removes what was copied once no table needs it: jobs that go on may still read it. BigQuery expires it otherwise.
    pub(super) async fn drop_copied(&self, answers: &[TableAnswer]) {
        let Some(copied) = &self.copied else {
            return;
        };
        let is_done = |answer: &TableAnswer| {
            answer.outcome != Outcome::Running.as_str() && answer.outcome != Outcome::Failed.as_str()
        };
        if answers.iter().all(is_done)
            && let Err(error) = self.handler.bigquery.delete_table(&copied.delta.name, self.deadline).await
        {
            tracing::debug!(reason = %error, "a delta was left to expire");
        }
    }

    /// The entry that says that a table is at this work.
    pub(super) fn running_entry(
        &self,
        source: &SourceTable,
        table: &FinalTable,
        standing: &Standing,
        begun: Option<&Begun>,
    ) -> Entry {
        Entry {
            final_table: Some(table.name.to_string()),
            highest_position: standing.highest_position.clone(),
            work: begun.and_then(Begun::to_entry),
            window_from: begun.and_then(|begun| begun.window_from_us),
            epochs: standing.epochs.to_entry(),
            unfilled: standing.unfilled.to_entry(),
            ..Entry::new(&self.id, self.next_recorded_at(), source, Outcome::Running, &standing.coverage)
        }
    }

    /// One table: what was left unfinished, then this run's own work.
    pub(super) async fn table(&self, work: Work) -> TableAnswer {
        let mut standing = work.standing.clone();
        let mut answer = TableAnswer::new(&work.source, &work.table.name, Outcome::Merged.as_str());
        let mut result = self.unfinished_then_own(&work, &mut standing, &mut answer).await;
        if let Err(TableError::BigQuery(error)) = &result
            && (is_refused(error) || is_missing(error))
        {
            match self.handler.complete_own_tables(self.deadline).await {
                Ok(true) => {
                    standing = work.standing.clone();
                    answer = TableAnswer::new(&work.source, &work.table.name, Outcome::Merged.as_str());
                    result = self.unfinished_then_own(&work, &mut standing, &mut answer).await;
                }
                Ok(false) => {}
                Err(error) => result = Err(error.into()),
            }
        }
        match result {
            Ok(()) => {}
            // The jobs go on, and the entry in the ledger makes the next run finish them.
            Err(TableError::BigQuery(error)) if is_out_of_time(&error) => {
                answer.outcome = Outcome::Running.as_str();
                let mut reason = "the time ran out; its jobs go on and the next run finishes them".to_owned();
                if matches!(self.asked.word, Some(word) if !matches!(word, Word::MergeAgain(_))) {
                    reason.push_str(". What was said of its load or its epoch may not have been taken in: invoke the merge with it again");
                }
                answer.reason = Some(reason);
            }
            Err(error) => {
                let reason = describe(&error);
                tracing::error!(table = %work.source, reason, "a table failed");
                // Where it is not known what became of a job, the work stays begun: the next run must find it.
                let may_go_on = matches!(&error, TableError::BigQuery(error) if error.is_ambiguous());
                if !may_go_on {
                    let entry = Entry {
                        final_table: Some(work.table.name.to_string()),
                        reason: Some(reason.clone()),
                        highest_position: standing.highest_position.clone(),
                        window_from: work.waits_since(),
                        epochs: standing.epochs.to_entry(),
                        unfilled: standing.unfilled.to_entry(),
                        ..Entry::new(
                            &self.id,
                            self.next_recorded_at(),
                            &work.source,
                            Outcome::Failed,
                            &standing.coverage,
                        )
                    };
                    if let Err(error) = self.record(vec![entry]).await {
                        tracing::warn!(table = %work.source, reason = %error, "a failure could not be recorded");
                    }
                }
                answer.outcome = Outcome::Failed.as_str();
                answer.reason = Some(reason);
            }
        }
        answer
    }

    async fn unfinished_then_own(
        &self,
        work: &Work,
        standing: &mut Standing,
        answer: &mut TableAnswer,
    ) -> Result<(), TableError> {
        let word = self.asked.word.filter(|_| self.asked.includes(&work.source));
        if let Some(unfinished) = &work.unfinished {
            // Before the time can run out.
            if let Some(Word::MergeAgain(from)) = word
                && standing.unfilled.merge_again(from)
            {
                let entry = self.running_entry(&work.source, &work.table, standing, Some(unfinished));
                self.record(vec![entry]).await?;
            }
            tracing::warn!(table = %work.source, "finishing what an earlier run began");
            self.finish(work, unfinished, standing, answer, true).await?;
        }
        match &work.own {
            Own::Begun(begun, news) => {
                let was_merged_before = standing.highest_position.is_some();
                let survey = self.finish(work, begun, standing, answer, false).await?;
                self.say(work, answer, &survey, news, was_merged_before, standing);
            }
            Own::Behind => {
                if let Some((begun, news)) = self.plan_behind(work, standing, word).await? {
                    let entry = self.running_entry(&work.source, &work.table, standing, Some(&begun));
                    self.record(vec![entry]).await?;
                    let was_merged_before = standing.highest_position.is_some();
                    let survey = self.finish(work, &begun, standing, answer, false).await?;
                    self.say(work, answer, &survey, &news, was_merged_before, standing);
                } else {
                    self.record_nothing_new(work, standing).await?;
                }
            }
            Own::Nothing => {
                answer.outcome = "idle";
                // Or every run would look at the table again.
                let was_due = self.state.tables.get(&work.source).is_some_and(|own| own.unfilled.is_definition_due());
                if was_due && !standing.unfilled.is_definition_due() {
                    self.record_nothing_new(work, standing).await?;
                }
            }
        }
        if let Some(start_us) = standing.epochs.load_beyond_log() {
            let reason = loaded_beyond_log(start_us);
            tracing::error!(table = %work.source, reason, "a table needs a person");
            answer.explain([reason]);
        }
        if let Some(since_us) = standing.epochs.load_without_start(now_us()) {
            let reason = loaded_without_start(&work.source, since_us);
            tracing::error!(table = %work.source, reason, "a table needs a person");
            answer.explain([reason]);
        }
        self.empty(work, standing, answer).await?;
        self.reload(work, word, standing, answer).await
    }

    /// Plans the work of a table that stands behind the others, by its own coverage; `None` if nothing is new.
    pub(super) async fn plan_behind(
        &self,
        work: &Work,
        standing: &mut Standing,
        word: Option<Word>,
    ) -> Result<Option<(Begun, News)>, TableError> {
        // What was left unfinished may have moved it past records that are to be merged again.
        standing.reopen(&standing.epochs.clone());
        let mut news = self.own_news(&work.source, &standing.coverage).await?;
        // With an epoch that begins, more of the log is news.
        if standing.learn(news.as_ref(), word, &work.table) {
            news = self.own_news(&work.source, &standing.coverage).await?;
        }
        let Some(news) = news else {
            return Ok(None);
        };
        let begun = self.begin(&work.source, &work.table, standing, &news, work.is_retry)?;
        Ok(Some((begun, news)))
    }

    /// What a person has to know of a table's merge, in the answer and in the log.
    fn say(
        &self,
        work: &Work,
        answer: &mut TableAnswer,
        survey: &Survey,
        news: &News,
        was_merged_before: bool,
        standing: &Standing,
    ) {
        let mut reasons: Vec<String> = what_was_not_applied(work, news).into_iter().collect();
        reasons.extend(work.for_a_person.iter().cloned());
        let is_out_of_order = news.truncated.iter().any(|(_, position)| !is_in_order(position));
        reasons.extend(is_out_of_order.then(|| truncated_somewhere(work)));
        reasons.extend(work.waited_since_us.map(waited_too_long));
        if survey.anew > 0 {
            reasons.push(numbering_began_anew(&work.source, survey));
        }
        if work.table.is_keyless && survey.flawed > 0 {
            reasons.push(KEYLESS.to_owned());
        }
        for reason in &reasons {
            tracing::error!(table = %work.source, reason, "a table needs a person");
        }
        let is_made_anew = was_merged_before && !news.starts.is_empty();
        if is_made_anew && standing.epochs.open().is_none() && standing.epochs.has_start_without_load() {
            let reason = dropped(&work.source);
            tracing::warn!(table = %work.source, reason, "a table was dropped or made anew");
            reasons.push(reason);
        }
        answer.explain(reasons);
    }

    /// Removes what a complete load did not bring.
    async fn reload(
        &self,
        work: &Work,
        word: Option<Word>,
        standing: &mut Standing,
        answer: &mut TableAnswer,
    ) -> Result<(), TableError> {
        let boundary = match (word, standing.epochs.open()) {
            (Some(Word::ReloadComplete | Word::ReloadEmpty), open) => open,
            (_, Some(open)) => {
                if let Some(waits_for) = self.load_waits_for(&work.source, open, standing).await? {
                    let reason = format!(
                        "the table is being loaded again: rows that are gone at the source stay until the load is known to be \
                         complete. It waits for {waits_for}; or invoke the merge with {{\"tables\":[\"{}\"],\"reload\":\"complete\"}} \
                         once DMS says so and all is delivered",
                        work.source
                    );
                    if now_us().saturating_sub(open) < LONGEST_LOAD_US {
                        tracing::info!(table = %work.source, reason, "a load is under way");
                    } else {
                        tracing::error!(table = %work.source, reason, "a load has not ended for a day");
                    }
                    answer.explain([reason]);
                    return Ok(());
                }
                Some(open)
            }
            _ => None,
        };
        let Some(boundary) = boundary else {
            return Ok(());
        };
        let swept = self.sweep(work, &Gone::not_loaded(boundary)).await?;
        standing.epochs.completed(boundary);
        let reason = "a load is complete; what it did not bring is gone";
        tracing::info!(table = %work.source, deleted = swept.gone, "a load is complete");
        self.record_swept(work, standing, answer, swept, reason).await
    }

    /// Removes what the source emptied the table of. A change from before that arrives later counts as deleted in the fold.
    async fn empty(&self, work: &Work, standing: &mut Standing, answer: &mut TableAnswer) -> Result<(), TableError> {
        if let Some(swept) = self.remove_emptied(work, standing, answer).await? {
            self.record_swept(work, standing, answer, swept, EMPTIED).await?;
        }
        Ok(())
    }

    /// Removes it without a word to the ledger, which the caller has to give.
    async fn remove_emptied(
        &self,
        work: &Work,
        standing: &mut Standing,
        answer: &mut TableAnswer,
    ) -> Result<Option<Swept>, TableError> {
        let Some(position) = standing.epochs.emptying() else {
            return Ok(None);
        };
        let swept = self.sweep(work, &Gone::emptied(&position)).await?;
        standing.epochs.emptied(&position);
        tracing::info!(table = %work.source, deleted = swept.gone, "the source emptied the table");
        answer.explain([EMPTIED.to_owned()]);
        Ok(Some(swept))
    }

    /// The statement that removes from a final table what is gone.
    pub(super) fn sweep_statement(&self, work: &Work, gone: &Gone) -> Result<String, TableError> {
        let config = &self.handler.config;
        let deletes = work.table.deletes.unwrap_or(config.deletes);
        let in_turn = self.in_turn(&work.source)?;
        Ok(reload::sweep(&config.project, &work.table, gone, deletes, &in_turn)?)
    }

    async fn sweep(&self, work: &Work, gone: &Gone) -> Result<Swept, TableError> {
        let started = Instant::now();
        let sql = self.sweep_statement(work, gone)?;
        let key = fingerprint(&format!("{}\0{sql}", self.id), WORK_KEY_DIGITS);
        let mut stats = JobStats::default();
        let swept = self.write(&sql, "sweep", &key, &mut stats).await?;
        let gone = swept.stats.deleted.saturating_add(swept.stats.updated);
        Ok(Swept { gone, stats, job_id: swept.job_id, duration: started.elapsed() })
    }

    async fn record_swept(
        &self,
        work: &Work,
        standing: &Standing,
        answer: &mut TableAnswer,
        swept: Swept,
        reason: &str,
    ) -> Result<(), TableError> {
        let Swept { gone, stats, job_id, duration } = swept;
        let entry = Entry {
            final_table: Some(work.table.name.to_string()),
            highest_position: standing.highest_position.clone(),
            records: Some(0),
            inserted: Some(0),
            updated: Some(0),
            deleted: Some(gone),
            quarantined: Some(0),
            late: Some(0),
            bytes_billed: Some(stats.bytes_billed),
            bytes_estimated: Some(stats.bytes_estimated),
            slot_ms: Some(stats.slot_ms),
            job_id: Some(job_id),
            duration_ms: i64::try_from(duration.as_millis()).ok(),
            epochs: standing.epochs.to_entry(),
            unfilled: standing.unfilled.to_entry(),
            reason: Some(reason.to_owned()),
            ..Entry::new(&self.id, self.next_recorded_at(), &work.source, Outcome::Merged, &standing.coverage)
        };
        self.record(vec![entry]).await?;
        answer.outcome = Outcome::Merged.as_str();
        answer.deleted = answer.deleted.saturating_add(gone);
        answer.bytes_billed = answer.bytes_billed.saturating_add(stats.bytes_billed);
        Ok(())
    }

    /// What the end of a load waits for; `None`: it is complete. The log is asked no more often than is worth it.
    async fn load_waits_for(
        &self,
        source: &SourceTable,
        boundary: i64,
        standing: &Standing,
    ) -> Result<Option<String>, TableError> {
        if !standing.epochs.may_have_ended() {
            return Ok(Some(reload::WAITS_FOR_A_CHANGE.to_owned()));
        }
        let now_us = now_us();
        let asked = self.handler.asked_of_loads.lock().ok().and_then(|asked| asked.get(source).cloned());
        if let Some((at, waits_for)) = asked
            && now_us.saturating_sub(at) < reload::ask_again_after(boundary, at)
        {
            return Ok(Some(waits_for));
        }
        let waits_for = self.asked_of_load(source, boundary, &standing.coverage).await?;
        if let Ok(mut asked) = self.handler.asked_of_loads.lock() {
            match &waits_for {
                Some(waits_for) => asked.insert(source.clone(), (now_us, waits_for.clone())),
                None => asked.remove(source),
            };
        }
        Ok(waits_for)
    }

    async fn asked_of_load(
        &self,
        source: &SourceTable,
        boundary: i64,
        coverage: &Coverage,
    ) -> Result<Option<String>, TableError> {
        let config = &self.handler.config;
        let kept_out = kept_out_table(&config.log_table);
        let sql = reload::progress(&config.project, &config.log_table, &kept_out, source, boundary)?;
        let rows = self.handler.read(&sql, "reload", &self.id, self.deadline).await?;
        let mut progress =
            Progress::from_rows(&rows).map_err(|error| TableError::Unexpected { what: error.to_string() })?;
        if let Some(waits_for) = progress.waits_for(now_us()) {
            return Ok(Some(waits_for));
        }
        // Only now, for it may read all of the log, though it nearly never has to.
        let some_from = reload::earlier_from(boundary, self.state.begun_us);
        let mut earlier = self.before_load(source, boundary, some_from).await?;
        if some_from.is_some() && progress.is_preceded(&earlier) {
            progress.count_with_unseen();
        } else if some_from.is_some() {
            earlier = self.before_load(source, boundary, None).await?;
        }
        progress.take_earlier(&earlier, self.expired_before_us.is_none());
        if let Some(waits_for) = progress.waits_for(now_us()) {
            return Ok(Some(waits_for));
        }
        // The log has gone on since this run was planned: what the queries above have seen may not be merged yet. This one comes
        // after them, so it sees all that they saw.
        let news = self.own_news(source, coverage).await?;
        let is_unmerged = news.is_some_and(|news| news.newest_load_us.is_some());
        if is_unmerged {
            return Ok(Some(
                "the next run, which merges the rows that have come while this one was at work".to_owned(),
            ));
        }
        // Their rows' last exact states would go with what the load did not bring.
        let sql = reload::quarantined_rows(&config.project, &config.quarantine_table, source, boundary)?;
        let rows = self.handler.read(&sql, "reload_quarantined", &self.id, self.deadline).await?;
        let quarantined = rows.into_iter().flatten().next().flatten().unwrap_or_default();
        Ok((quarantined != "0").then(|| {
            format!(
                "a person, because {quarantined} loaded rows are in the quarantine and their last exact states would go"
            )
        }))
    }

    /// What the log held before a load began, from a time on, in µs.
    async fn before_load(
        &self,
        source: &SourceTable,
        boundary: i64,
        from_us: Option<i64>,
    ) -> Result<Earlier, TableError> {
        let config = &self.handler.config;
        let kept_out = kept_out_table(&config.log_table);
        let sql = reload::earlier(&config.project, &config.log_table, &kept_out, boundary, from_us)?;
        // It says nothing of the table, so two tables would ask under one job's id at the same moment.
        let id = format!("{}/{source}", self.id);
        let rows = self.handler.read(&sql, "reload_earlier", &id, self.deadline).await?;
        Earlier::from_rows(&rows).map_err(|error| TableError::Unexpected { what: error.to_string() })
    }

    /// The news of a table that stands behind the others, by its own coverage.
    async fn own_news(&self, source: &SourceTable, coverage: &Coverage) -> Result<Option<News>, TableError> {
        let config = &self.handler.config;
        let sql = plan::query(&config.project, &config.log_table, coverage, Some(source), None)?;
        let rows = self.handler.read(&sql, "own_plan", &self.id, self.deadline).await?;
        let mut plan = read_plan(&rows)?;
        Ok(plan.tables.remove(source))
    }

    async fn record_nothing_new(&self, work: &Work, standing: &mut Standing) -> Result<(), TableError> {
        standing.merged_up_to(Coverage::after(self.window_to_us, now_us(), self.plan.seen.clone()));
        standing.unfilled.merged_again();
        let entry = Entry {
            final_table: Some(work.table.name.to_string()),
            highest_position: standing.highest_position.clone(),
            epochs: standing.epochs.to_entry(),
            unfilled: standing.unfilled.to_entry(),
            ..Entry::new(&self.id, self.next_recorded_at(), &work.source, Outcome::Merged, &standing.coverage)
        };
        self.record(vec![entry]).await
    }

    /// Does a piece of work and records it. With `goes_on`, more follows: the table must not look merged in between.
    async fn finish(
        &self,
        work: &Work,
        begun: &Begun,
        standing: &mut Standing,
        answer: &mut TableAnswer,
        goes_on: bool,
    ) -> Result<Survey, TableError> {
        let started = Instant::now();
        // First, so that no change from after it is written over a row from before. What an earlier run began may be older than that.
        let removed = if goes_on { None } else { self.remove_emptied(work, standing, answer).await? };
        // A fold's columns are the table's by their places: one from before the table was altered must not be merged.
        let is_altered = goes_on && !begun.columns.is_empty() && begun.columns != columns_key(&work.table);
        let key = match is_altered {
            true => fingerprint(&format!("{}\0{}", begun.key, begun.columns), WORK_KEY_DIGITS),
            false => begun.key.clone(),
        };
        // It holds this run's own window.
        let copied = self.copied.as_ref().filter(|_| !goes_on);
        let mut merged = match self.merge(work, begun, standing, &key, copied).await {
            // BigQuery expires a fold after a day, and somebody may have removed a delta; the work is the same, its jobs have to be others.
            Err(TableError::BigQuery(error)) if is_missing(&error) => {
                tracing::warn!(table = %work.source, reason = %error, "the fold of earlier work is gone; folding again");
                let key = fingerprint(&format!("{}\0{}", begun.key, self.id), WORK_KEY_DIGITS);
                self.merge(work, begun, standing, &key, None).await?
            }
            // An earlier run's job may have failed because that run was overtaken; this one's own may not.
            Err(TableError::BigQuery(error)) if goes_on && error.to_string().contains(OVERTAKEN) => {
                let key = fingerprint(&format!("{}\0{}", begun.key, self.id), WORK_KEY_DIGITS);
                self.merge(work, begun, standing, &key, None).await?
            }
            other => other?,
        };
        if let Some(removed) = removed {
            merged.answer.deleted = merged.answer.deleted.saturating_add(removed.gone);
            add(&mut merged.stats, &removed.stats);
        }
        merged.answer.bytes_billed = merged.stats.bytes_billed;
        standing.merged_up_to(Coverage::after(begun.window_to_us, now_us(), begun.seen.clone()));
        standing.highest_position = merged.highest_position;
        if begun.is_again {
            standing.unfilled.merged_again();
        }
        let survey = &merged.survey;
        let unknown = standing.unfilled.note(
            &survey.unknown,
            // Where images may be partial, the row's is not the only one.
            survey.unknown_since.map(|since| begun.window_from_us.map_or(since, |from| from.min(since))),
            &survey.flaw_columns,
            survey.flaw_since,
            &work.table.columns,
        );
        standing.epochs.raised(merged.survey.raised_committed, merged.survey.raised_emitted);
        let done = &merged.answer;
        let mut entries = vec![Entry {
            final_table: Some(work.table.name.to_string()),
            window_from: begun.window_from_us,
            window_to: Some(begun.window_to_us),
            highest_position: standing.highest_position.clone(),
            records: Some(done.records),
            inserted: Some(done.inserted),
            updated: Some(done.updated),
            deleted: Some(done.deleted),
            quarantined: Some(done.quarantined),
            late: Some(done.late),
            bytes_billed: Some(merged.stats.bytes_billed),
            bytes_estimated: Some(merged.stats.bytes_estimated),
            slot_ms: Some(merged.stats.slot_ms),
            job_id: merged.job_id,
            duration_ms: i64::try_from(started.elapsed().as_millis()).ok(),
            epochs: standing.epochs.to_entry(),
            unfilled: standing.unfilled.to_entry(),
            reason: work.waited_since_us.map(waited_too_long),
            ..Entry::new(&self.id, self.next_recorded_at(), &work.source, Outcome::Merged, &standing.coverage)
        }];
        if goes_on {
            entries.push(self.running_entry(&work.source, &work.table, standing, None));
        }
        self.record(entries).await?;
        answer.add(done);
        if !unknown.is_empty() {
            let reason = unknown_members(&work.table, &unknown);
            tracing::warn!(table = %work.source, reason, "changes have members that the final table has no column for");
            answer.explain([reason]);
        }
        // Not before: until the ledger has it, another run would attach to this fold. If it cannot be deleted, BigQuery
        // expires it.
        if begun.changes > 0
            && let Err(error) = self.handler.bigquery.delete_table(&merged.fold, self.deadline).await
        {
            tracing::debug!(table = %work.source, reason = %error, "a fold was left to expire");
        }
        Ok(merged.survey)
    }

    pub(super) fn fold_request<'a>(
        &'a self,
        source: &'a SourceTable,
        table: &'a FinalTable,
        standing: &'a Standing,
        begun: &Begun,
        fold: &'a TableName,
    ) -> FoldRequest<'a> {
        let config = &self.handler.config;
        FoldRequest {
            project: &config.project,
            log: &config.log_table,
            fold,
            source,
            table,
            window_from_us: begun.window_from_us,
            window_to_us: begun.window_to_us,
            covered: &standing.coverage,
            look_back: begun.look_back,
            absent: config.absent_columns,
            deletes: table.deletes.unwrap_or(config.deletes),
            epochs: &standing.epochs,
            highest_position: standing.highest_position.as_deref(),
            expired_before_us: begun.expired_before_us,
            is_again: begun.is_again,
            share: None,
        }
    }

    /// The MERGE of a fold, without the bounds that only the fold tells.
    pub(super) fn merge_request<'a>(
        &'a self,
        work: &'a Work,
        begun: &Begun,
        fold: &'a TableName,
        in_turn: &'a str,
    ) -> MergeRequest<'a> {
        let config = &self.handler.config;
        MergeRequest {
            project: &config.project,
            fold,
            table: &work.table,
            absent: fold::absent_of(config.absent_columns, &work.table),
            deletes: work.table.deletes.unwrap_or(config.deletes),
            partitions: None,
            is_again: begun.is_again,
            adds_only: false,
            in_turn,
            key_range: None,
        }
    }

    async fn merge(
        &self,
        work: &Work,
        begun: &Begun,
        standing: &Standing,
        key: &str,
        copied: Option<&Copied>,
    ) -> Result<Merged, TableError> {
        let config = &self.handler.config;
        let project = config.project.as_str();
        let fold_name = fold::fold_table(&config.log_table, key);
        let mut stats = JobStats::default();
        let mut merged = Merged {
            answer: TableAnswer::new(&work.source, &work.table.name, Outcome::Merged.as_str()),
            highest_position: standing.highest_position.clone(),
            stats: JobStats::default(),
            job_id: None,
            fold: fold_name.clone(),
            survey: Survey::default(),
        };
        if begun.changes == 0 {
            return Ok(merged);
        }
        let share = copied.and_then(|copied| copied.delta.share(&work.source));
        if let (Some(copied), Some(share)) = (copied, share) {
            add(&mut stats, &copied.part(share.number));
        }
        let request =
            FoldRequest { share, ..self.fold_request(&work.source, &work.table, standing, begun, &fold_name) };
        self.write(&fold::statement(&request)?, "fold", key, &mut stats).await?;
        let survey = self.survey(&fold_name, &work.table, &mut stats).await?;
        merged.answer.quarantined = survey.flawed;
        if survey.flawed > 0 || survey.beyond_log > 0 {
            let beyond_log = Some(&work.table).filter(|_| survey.beyond_log > 0);
            let sql = statement::quarantine(project, &fold_name, &config.quarantine_table, &work.source, beyond_log)?;
            let answer = self.write(&sql, "quarantine", key, &mut stats).await?;
            // Of the rows that must not be inserted, those that the final table has are no matter for the quarantine.
            merged.answer.quarantined = survey.flawed.max(answer.stats.inserted);
        }
        merged.answer.records = survey.records;
        merged.answer.late = survey.late;
        merged.highest_position = survey.newest.clone().max(merged.highest_position);
        if survey.keys > 0 {
            let in_turn = self.in_turn(&work.source)?;
            let request = MergeRequest {
                key_range: survey.lowest_key.as_deref().zip(survey.highest_key.as_deref()),
                ..self.merge_request(work, begun, &fold_name, &in_turn)
            };
            let mut added = 0;
            if survey.may_be_all_new() && !begun.is_again {
                let sql = statement::merge(&MergeRequest { adds_only: true, ..request })?;
                let answer = self.write(&sql, "add", key, &mut stats).await?;
                added = answer.stats.inserted;
                merged.answer.inserted = added;
                merged.job_id = Some(answer.job_id);
            }
            // Where every key's row was added the table had none of them, and nothing is left to do.
            if added < survey.keys {
                let partitions = self.partitions(&fold_name, &work.table, &mut stats).await?;
                let sql = statement::merge(&MergeRequest { partitions: partitions.as_deref(), ..request })?;
                let answer = self.write(&sql, "merge", key, &mut stats).await?;
                let rewritten = if request.rewrites() { added } else { 0 };
                merged.answer.inserted = added.saturating_add(answer.stats.inserted);
                merged.answer.updated = answer.stats.updated.saturating_sub(rewritten);
                merged.answer.deleted = answer.stats.deleted;
                merged.job_id = Some(answer.job_id);
            }
        }
        if begun.is_again {
            let in_turn = self.in_turn(&work.source)?;
            let sql = statement::resolve(&request, &config.quarantine_table, &in_turn)?;
            let answer = self.write(&sql, "resolve", key, &mut stats).await?;
            if answer.stats.updated > 0 {
                tracing::info!(table = %work.source, records = answer.stats.updated, "quarantined records could be applied");
            }
        }
        merged.stats = stats;
        merged.survey = survey;
        Ok(merged)
    }

    /// Runs a statement that writes, under an id that the same work always has.
    async fn write(&self, sql: &str, what: &str, key: &str, stats: &mut JobStats) -> Result<QueryAnswer, TableError> {
        self.write_until(self.deadline, sql, what, key, stats).await
    }

    async fn write_until(
        &self,
        deadline: Instant,
        sql: &str,
        what: &str,
        key: &str,
        stats: &mut JobStats,
    ) -> Result<QueryAnswer, TableError> {
        let request =
            JobRequest { max_results: Some(0), ..self.handler.job(sql, format!("strait_{what}_{key}"), what) };
        let answer = self.handler.bigquery.run_query(&request, deadline).await?;
        add(stats, &answer.stats);
        Ok(answer)
    }

    pub(super) fn in_turn(&self, source: &SourceTable) -> Result<String, TableError> {
        let config = &self.handler.config;
        Ok(self.state.in_turn(&config.project, &config.merges_table, source, &self.id)?)
    }

    /// The condition by which the MERGE reads no other partitions than those that its rows lie in. What the final table holds is asked after the ledger was
    /// read: should another run merge in between, the MERGE fails.
    async fn partitions(
        &self,
        fold_name: &TableName,
        table: &FinalTable,
        stats: &mut JobStats,
    ) -> Result<Option<String>, TableError> {
        let Some(sql) = partitions::query(&self.handler.config.project, fold_name, table)? else {
            return Ok(None);
        };
        let id = format!("strait_partitions_{}", fingerprint(&format!("{}\0{sql}", self.id), WORK_KEY_DIGITS));
        let answer = self.handler.bigquery.run_query(&self.handler.job(&sql, id, "partitions"), self.deadline).await?;
        add(stats, &answer.stats);
        let unexpected = || TableError::Unexpected { what: "a partition".to_owned() };
        let begins = (0..answer.rows.len()).map(|row| match answer.text(row, "begin") {
            Some(text) => text.parse().map(Some).map_err(|_| unexpected()),
            None => Ok(None),
        });
        let found = begins.collect::<Result<Vec<Option<i64>>, _>>()?;
        Ok(partitions::condition(table, TARGET_ALIAS, &found, now_us())?)
    }

    async fn ask_survey(
        &self,
        fold_name: &TableName,
        table: &FinalTable,
        says_what_adds: bool,
    ) -> Result<QueryAnswer, TableError> {
        let sql = fold::survey(&self.handler.config.project, fold_name, table, says_what_adds)?;
        let id = format!("strait_survey_{}", fingerprint(&format!("{}\0{sql}", self.id), WORK_KEY_DIGITS));
        Ok(self.handler.bigquery.run_query(&self.handler.job(&sql, id, "survey"), self.deadline).await?)
    }

    async fn survey(
        &self,
        fold_name: &TableName,
        table: &FinalTable,
        stats: &mut JobStats,
    ) -> Result<Survey, TableError> {
        let answer = match self.ask_survey(fold_name, table, true).await {
            // A fold that an older version left: what that began is finished by its own statements.
            Err(TableError::BigQuery(error)) if is_refused(&error) => self.ask_survey(fold_name, table, false).await?,
            other => other?,
        };
        add(stats, &answer.stats);
        let count = |column| answer.integer(0, column);
        let text = |column| answer.text(0, column).map(str::to_owned);
        let (Some(keys), Some(flawed)) = (count("keys"), count("flawed")) else {
            return Err(TableError::Unexpected { what: "the survey's counts".to_owned() });
        };
        Ok(Survey {
            keys,
            adding: count("adding").unwrap_or(0),
            flawed,
            // SUM over no row is NULL.
            records: count("records").unwrap_or(0),
            late: count("late").unwrap_or(0),
            newest: text("newest"),
            raised_committed: count("raised_committed"),
            raised_emitted: count("raised_emitted"),
            anew: count("anew").unwrap_or(0),
            anew_from: count("anew_from"),
            beyond_log: count("beyond_log").unwrap_or(0),
            lowest_key: text("lowest_key"),
            highest_key: text("highest_key"),
            unknown: ["unknown", "unknown_too"]
                .into_iter()
                .filter_map(text)
                .flat_map(|all| member_names(&all))
                .collect(),
            unknown_since: count("unknown_since"),
            flaw_columns: text("flaw_columns").iter().flat_map(|all| all.lines()).map(str::to_owned).collect(),
            flaw_since: count("flaw_since"),
        })
    }
}

/// Names of members: JSON arrays, one a line.
fn member_names(lines: &str) -> Vec<String> {
    lines.lines().filter_map(|line| serde_json::from_str::<Vec<String>>(line).ok()).flatten().collect()
}

/// What the news held that this version does not apply by itself, and what a person has to do about it.
fn what_was_not_applied(work: &Work, news: &News) -> Option<String> {
    (news.alterations > 0 && !work.is_history_known).then(|| {
        "the source altered the table, and DMS does not say how (IncludeControlDetails is off): alter the final table likewise; columns \
         that it lacks are not filled until then"
            .to_owned()
    })
}

/// How many names a reason holds.
const NAMES_SAID: usize = 20;

fn unknown_members(table: &FinalTable, members: &[String]) -> String {
    let named: Vec<&str> = members.iter().take(NAMES_SAID).map(String::as_str).collect();
    format!(
        "changes have members that {} has no column for: {}. Their values wait in the log and are filled in once it has one: {}",
        table.name,
        named.join(", "),
        if table.is_made_by_strait {
            "when the control record comes that defines it, or ALTER TABLE … ADD COLUMN".to_owned()
        } else {
            format!("ALTER TABLE `{}` ADD COLUMN …; leave it if they are not wanted", table.name)
        }
    )
}

/// Drop-table and create-table are also how DMS begins a load, so nothing is removed on their word alone.
fn dropped(source: &SourceTable) -> String {
    format!(
        "the table was dropped or made anew at the source, and no row has been loaded since: its rows stay. If it is empty or gone there, \
         invoke the merge with {{\"tables\":[\"{source}\"],\"reload\":\"empty\"}}"
    )
}

/// Nothing is removed then, for what was changed before it cannot be told from what was changed after it.
fn truncated_somewhere(work: &Work) -> String {
    format!(
        "the source emptied {} (TRUNCATE), and the record does not say where in the source's log: its rows stay. Read the table again \
         (a snapshot, or a reload in DMS), which removes what is gone",
        work.source
    )
}

fn waited_too_long(since_us: i64) -> String {
    format!(
        "records have waited since {} to be merged, longer than the log retains them: some may have expired. Reload the table in DMS",
        in_words(since_us)
    )
}

fn numbering_began_anew(source: &SourceTable, survey: &Survey) -> String {
    format!(
        "{} changes were committed after what DMS had sent before them, and yet their positions are below: the source's numbering has begun anew \
         (a failover, another cluster, IncludeTransactionDetails switched off). They count as old until the merge is invoked with \
         {{\"tables\":[\"{}.*\"],\"epoch\":\"{}\"}}, the time from which on DMS sent them",
        survey.anew,
        source.schema,
        in_words(survey.anew_from.unwrap_or_default())
    )
}

fn loaded_without_start(source: &SourceTable, since_us: i64) -> String {
    format!(
        "rows that were loaded at {} came after changes of the table, and without the create-table or drop-table record that DMS sends when a \
         load begins: it is lost, so these rows count as older than every change, and rows that are gone at the source stay. Reload the table in DMS, \
         or invoke the merge with {{\"tables\":[\"{source}\"],\"epoch\":\"…\"}}, the time at which that load began",
        in_words(since_us)
    )
}

fn loaded_beyond_log(start_us: i64) -> String {
    format!(
        "a load that began at {} comes so late that the log has forgotten changes that were sent since: its rows count as older than every change, and \
         rows that are gone at the source stay. Reload the table in DMS",
        in_words(start_us)
    )
}

fn in_words(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |time| time.to_string())
}

impl Work {
    /// `ingested_at` of the oldest record that is not merged, as far as it is known.
    fn waits_since(&self) -> Option<i64> {
        let oldest = match &self.own {
            Own::Begun(begun, _) => begun.window_from_us,
            _ => self.standing.coverage.to_us,
        };
        self.standing.unfilled.waits_since(oldest)
    }
}

/// What tells a table's columns apart from those that it had or will have.
fn columns_key(table: &FinalTable) -> String {
    let columns: Vec<String> =
        table.columns.iter().map(|column| format!("{:?}", (&column.name, &column.names, column.column_type))).collect();
    // A fold for partial images has other columns.
    let partial = if table.has_partial_images { "\npartial" } else { "" };
    fingerprint(&format!("{}{partial}", columns.join("\n")), WORK_KEY_DIGITS)
}

fn add(stats: &mut JobStats, more: &JobStats) {
    stats.bytes_billed = stats.bytes_billed.saturating_add(more.bytes_billed);
    stats.bytes_estimated = stats.bytes_estimated.saturating_add(more.bytes_estimated);
    stats.slot_ms = stats.slot_ms.saturating_add(more.slot_ms);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn work_is_read_back_from_the_ledger_as_it_was_begun() {
        let begun = Begun {
            key: "k".into(),
            window_from_us: Some(-1),
            window_to_us: 5,
            look_back: LookBack::From(3),
            changes: 7,
            seen: vec![OffsetRange { topic: "t".into(), partition: 1, first: 2, last: i64::MAX }],
            expired_before_us: Some(4),
            is_again: true,
            columns: "c".into(),
        };
        assert_eq!(Begun::from_entry(&begun.to_entry().unwrap()), Some(begun));
        assert_eq!(Begun::from_entry("{}"), None);
    }
}
