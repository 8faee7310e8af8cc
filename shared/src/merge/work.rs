//! One table's merge, from its window to its ledger entry. What a run begins is written down before its jobs start, so that a
//! run that dies or runs out of time leaves work that the next one finishes: exactly that work first, and only then more. Two
//! pieces of work on one table must never overlap, or an older MERGE could bring back what a newer one removed.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::bigquery::job::{JobRequest, JobStats, QueryAnswer};
use crate::names::{SourceTable, TableName, fingerprint};

use super::answer::TableAnswer;
use super::coverage::{Coverage, OffsetRange};
use super::final_table::FinalTable;
use super::fold::{self, FoldRequest, LookBack};
use super::ledger::{Entry, Outcome};
use super::plan::{self, News, Plan};
use super::run::{Run, TableError, describe, is_missing, is_out_of_time, now_us};
use super::statement::{self, MergeRequest};

/// Hexadecimal digits of a key of work: 96 bits, so that no two ever meet.
const WORK_KEY_DIGITS: usize = 24;

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
}

impl Begun {
    /// Reads what a ledger entry says. One that cannot be read is begun anew.
    pub(super) fn from_entry(work: &str) -> Option<Self> {
        serde_json::from_str(work).ok()
    }

    fn to_entry(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }
}

/// A table that a run is to merge.
pub(super) struct Work {
    pub(super) source: SourceTable,
    pub(super) table: FinalTable,
    pub(super) standing: Standing,
    /// What an earlier run began and did not finish.
    pub(super) unfinished: Option<Begun>,
    /// This run's own, begun already; `None` for a table that stands behind the others and is planned by itself.
    pub(super) begun: Option<Begun>,
    /// This run's news of it.
    pub(super) news: Option<News>,
    /// Told apart from earlier attempts that failed: their jobs must not be attached to.
    pub(super) is_retry: bool,
}

/// How far a table is merged.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) coverage: Coverage,
    pub(super) highest_position: Option<String>,
}

/// A piece of work that is done.
struct Merged {
    answer: TableAnswer,
    highest_position: Option<String>,
    slot_ms: i64,
    job_id: Option<String>,
    fold: TableName,
}

struct Survey {
    keys: i64,
    flawed: i64,
    records: i64,
    late: i64,
    newest: Option<String>,
    lowest_key: Option<String>,
    highest_key: Option<String>,
}

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
        let mut begun = Begun {
            key: String::new(),
            window_from_us: Some(news.from_us),
            window_to_us: self.window_to_us,
            look_back: LookBack::needed(
                news.lowest_position.as_deref(),
                standing.highest_position.as_deref(),
                news.oldest_commit_us,
                config.absent_columns,
            ),
            changes: news.changes,
            seen: self.plan.seen.clone(),
        };
        let placeholder = fold::fold_table(&config.log_table, "");
        let request = self.fold_request(source, table, standing, &begun, &placeholder);
        let key = fold::work_key(&request, &begun.seen)?;
        begun.key = if is_retry { fingerprint(&format!("{key}\0{}", self.id), WORK_KEY_DIGITS) } else { key };
        Ok(begun)
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
            ..Entry::new(&self.id, self.next_recorded_at(), source, Outcome::Running, &standing.coverage)
        }
    }

    /// One table: what was left unfinished, then this run's own work.
    pub(super) async fn table(&self, work: Work) -> TableAnswer {
        let mut standing = work.standing.clone();
        let mut answer = TableAnswer::new(&work.source, &work.table.name, Outcome::Merged.as_str());
        let result = self.unfinished_then_own(&work, &mut standing, &mut answer).await;
        match result {
            Ok(()) => {}
            // The jobs go on, and the entry in the ledger makes the next run finish them.
            Err(TableError::BigQuery(error)) if is_out_of_time(&error) => {
                answer.outcome = Outcome::Running.as_str();
                answer.reason = Some("the time ran out; its jobs go on and the next run finishes them".to_owned());
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
                        ..Entry::new(
                            &self.id,
                            self.next_recorded_at(),
                            &work.source,
                            Outcome::Failed,
                            &standing.coverage,
                        )
                    };
                    if let Err(error) = self.handler.record(&[entry], self.deadline).await {
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
        if let Some(unfinished) = &work.unfinished {
            tracing::warn!(table = %work.source, "finishing what an earlier run began");
            self.finish(work, unfinished, standing, answer, true).await?;
        }
        let (begun, news) = match (&work.begun, &work.news) {
            (Some(begun), news) => (begun.clone(), news.clone()),
            (None, _) => {
                let Some(news) = self.own_news(&work.source, &standing.coverage).await? else {
                    return self.record_nothing_new(work, standing).await;
                };
                let begun = self.begin(&work.source, &work.table, standing, &news, work.is_retry)?;
                let entry = self.running_entry(&work.source, &work.table, standing, Some(&begun));
                self.handler.record(&[entry], self.deadline).await?;
                (begun, Some(news))
            }
        };
        let was_merged_before = standing.highest_position.is_some();
        self.finish(work, &begun, standing, answer, false).await?;
        answer.reason = news.as_ref().and_then(|news| what_was_not_applied(news, was_merged_before));
        if let Some(reason) = &answer.reason {
            tracing::error!(table = %work.source, reason, "a table needs a person");
        }
        Ok(())
    }

    /// The news of a table that stands behind the others, by its own coverage.
    async fn own_news(&self, source: &SourceTable, coverage: &Coverage) -> Result<Option<News>, TableError> {
        let config = &self.handler.config;
        let sql = plan::query(&config.project, &config.log_table, coverage, Some(source))?;
        let rows = self.handler.read(&sql, "own_plan", &self.id, self.deadline).await?;
        let mut plan = Plan::from_rows(&rows).map_err(|error| TableError::Unexpected { what: error.to_string() })?;
        Ok(plan.tables.remove(source))
    }

    async fn record_nothing_new(&self, work: &Work, standing: &Standing) -> Result<(), TableError> {
        let coverage = Coverage::after(self.window_to_us, now_us(), self.plan.seen.clone());
        let entry = Entry {
            final_table: Some(work.table.name.to_string()),
            highest_position: standing.highest_position.clone(),
            ..Entry::new(&self.id, self.next_recorded_at(), &work.source, Outcome::Merged, &coverage)
        };
        Ok(self.handler.record(&[entry], self.deadline).await?)
    }

    /// Does a piece of work and records it. With `goes_on`, more follows: the table must not look merged in between.
    async fn finish(
        &self,
        work: &Work,
        begun: &Begun,
        standing: &mut Standing,
        answer: &mut TableAnswer,
        goes_on: bool,
    ) -> Result<(), TableError> {
        let started = Instant::now();
        let merged = match self.merge(work, begun, standing, &begun.key).await {
            // BigQuery expires a fold after a day; the work is the same, its jobs have to be others.
            Err(TableError::BigQuery(error)) if is_missing(&error) => {
                tracing::warn!(table = %work.source, reason = %error, "the fold of earlier work is gone; folding again");
                let key = fingerprint(&format!("{}\0{}", begun.key, self.id), WORK_KEY_DIGITS);
                self.merge(work, begun, standing, &key).await?
            }
            other => other?,
        };
        standing.coverage = Coverage::after(begun.window_to_us, now_us(), begun.seen.clone());
        standing.highest_position = merged.highest_position;
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
            bytes_billed: Some(done.bytes_billed),
            slot_ms: Some(merged.slot_ms),
            job_id: merged.job_id,
            duration_ms: i64::try_from(started.elapsed().as_millis()).ok(),
            ..Entry::new(&self.id, self.next_recorded_at(), &work.source, Outcome::Merged, &standing.coverage)
        }];
        if goes_on {
            entries.push(self.running_entry(&work.source, &work.table, standing, None));
        }
        self.handler.record(&entries, self.deadline).await?;
        answer.add(done);
        // Not before: until the ledger has it, another run would attach to this fold. If it cannot be deleted, BigQuery
        // expires it.
        if begun.changes > 0
            && let Err(error) = self.handler.bigquery.delete_table(&merged.fold, self.deadline).await
        {
            tracing::debug!(table = %work.source, reason = %error, "a fold was left to expire");
        }
        Ok(())
    }

    fn fold_request<'a>(
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
        }
    }

    async fn merge(&self, work: &Work, begun: &Begun, standing: &Standing, key: &str) -> Result<Merged, TableError> {
        let config = &self.handler.config;
        let project = config.project.as_str();
        let fold_name = fold::fold_table(&config.log_table, key);
        let mut stats = JobStats::default();
        let mut merged = Merged {
            answer: TableAnswer::new(&work.source, &work.table.name, Outcome::Merged.as_str()),
            highest_position: standing.highest_position.clone(),
            slot_ms: 0,
            job_id: None,
            fold: fold_name.clone(),
        };
        if begun.changes == 0 {
            return Ok(merged);
        }
        let request = self.fold_request(&work.source, &work.table, standing, begun, &fold_name);
        self.write(&fold::statement(&request)?, "fold", key, &mut stats).await?;
        let survey = self.survey(&fold_name, &work.table, &mut stats).await?;
        if survey.flawed > 0 {
            let sql = statement::quarantine(project, &fold_name, &config.quarantine_table, &work.source)?;
            self.write(&sql, "quarantine", key, &mut stats).await?;
        }
        merged.answer.records = survey.records;
        merged.answer.quarantined = survey.flawed;
        merged.answer.late = survey.late;
        merged.highest_position = survey.newest.max(merged.highest_position);
        if survey.keys > 0 {
            let sql = statement::merge(&MergeRequest {
                project,
                fold: &fold_name,
                table: &work.table,
                absent: request.absent,
                deletes: request.deletes,
                key_range: survey.lowest_key.as_deref().zip(survey.highest_key.as_deref()),
            })?;
            let answer = self.write(&sql, "merge", key, &mut stats).await?;
            merged.answer.inserted = answer.stats.inserted;
            merged.answer.updated = answer.stats.updated;
            merged.answer.deleted = answer.stats.deleted;
            merged.job_id = Some(answer.job_id);
        }
        merged.answer.bytes_billed = stats.bytes_billed;
        merged.slot_ms = stats.slot_ms;
        Ok(merged)
    }

    /// Runs a statement that writes, under an id that the same work always has.
    async fn write(&self, sql: &str, what: &str, key: &str, stats: &mut JobStats) -> Result<QueryAnswer, TableError> {
        let request =
            JobRequest { max_results: Some(0), ..self.handler.job(sql, format!("strait_{what}_{key}"), what) };
        let answer = self.handler.bigquery.run_query(&request, self.deadline).await?;
        add(stats, &answer.stats);
        Ok(answer)
    }

    async fn survey(
        &self,
        fold_name: &TableName,
        table: &FinalTable,
        stats: &mut JobStats,
    ) -> Result<Survey, TableError> {
        let sql = fold::survey(&self.handler.config.project, fold_name, table)?;
        let id = format!("strait_survey_{}", fingerprint(&format!("{}\0{sql}", self.id), WORK_KEY_DIGITS));
        let answer = self.handler.bigquery.run_query(&self.handler.job(&sql, id, "survey"), self.deadline).await?;
        add(stats, &answer.stats);
        let count = |column| answer.integer(0, column);
        let text = |column| answer.text(0, column).map(str::to_owned);
        let (Some(keys), Some(flawed)) = (count("keys"), count("flawed")) else {
            return Err(TableError::Unexpected { what: "the survey's counts".to_owned() });
        };
        Ok(Survey {
            keys,
            flawed,
            // SUM over no row is NULL.
            records: count("records").unwrap_or(0),
            late: count("late").unwrap_or(0),
            newest: text("newest"),
            lowest_key: text("lowest_key"),
            highest_key: text("highest_key"),
        })
    }
}

/// What the news held that this version does not apply by itself, and what a person has to do about it.
fn what_was_not_applied(news: &News, was_merged_before: bool) -> Option<String> {
    if news.alterations > 0 {
        return Some(
            "the source altered the table: alter the final table likewise; columns that it lacks are not filled until then"
                .to_owned(),
        );
    }
    (news.drops > 0 && was_merged_before).then(|| {
        "the table was dropped or reloaded at the source: rows that are gone there are still in the final table; to be sure, \
         remove the final table and reload the table in DMS"
            .to_owned()
    })
}

fn add(stats: &mut JobStats, more: &JobStats) {
    stats.bytes_billed = stats.bytes_billed.saturating_add(more.bytes_billed);
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
        };
        assert_eq!(Begun::from_entry(&begun.to_entry().unwrap()), Some(begun));
        assert_eq!(Begun::from_entry("{}"), None);
    }
}
