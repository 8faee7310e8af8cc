//! One invocation of `merge`: plan, then per table fold, survey, quarantine, MERGE and a ledger entry; one failing table
//! does not stop the others. The only module of the merge with I/O. It must never advance the ledger over records that
//! are not in a final table: every table with news gets an entry that holds it back before any other table's coverage moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::{StreamExt, stream};
use prost::Message;
use tokio::time::Instant;

use crate::bigquery::append::{AppendClient, EXTRA_COLUMNS, WriteStream};
use crate::bigquery::connect::Connections;
use crate::bigquery::job::{JobRequest, QueryAnswer};
use crate::bigquery::rest::{BigQuery, Ensured};
use crate::bigquery::retry::Backoff;
use crate::bigquery::table_spec::TableSpec;
use crate::bigquery::{Error, ErrorKind};
use crate::config::{Config, DAY_US, HOUR_US, WithoutSchema};
use crate::lambda::{Invocation, InvocationError};
use crate::log::{KEPT_OUT, LOG, kept_out_table};
use crate::names::{NameError, POSITION_COLUMN, SourceTable, TableName, fingerprint};
use crate::telemetry;

use super::answer::{Answer, Asked, TableAnswer, Word};
use super::coverage::Coverage;
use super::definition::Definitions;
use super::epoch::Epochs;
use super::final_table::{FinalTable, FinalTableProblem, SelfDescribing, WithoutSchemaRead};
use super::finals::{Found, no_definition};
use super::ledger::{self, Entry, LedgerState, MERGES, Outcome, TableState};
use super::metrics::{self, Seen};
use super::offsets;
use super::plan::{self, News, Plan};
use super::statement::{self, QUARANTINE};
use super::work::{Begun, Copied, Own, Standing, Work};

/// Tables merged at a time. BigQuery runs the jobs; more at once only shortens the run, and its limit on
/// concurrent DML statements per table is not touched.
pub(super) const TABLES_AT_ONCE: usize = 8;
/// Holes in the offsets that a log line names.
const HOLES_NAMED: usize = 5;

/// Why a table that is not replicated waits.
pub(super) const LEFT_OUT: &str = "STRAIT_TABLES leaves it out; its records stay in the log";

/// `merge`, set up once per cold start.
pub struct MergeHandler {
    pub(super) config: Config,
    pub(super) bigquery: BigQuery,
    appends: AppendClient,
    /// What the ledger said when this process read it last, unless it has written to it since: while it says no other thing, the next run has
    /// only to look at the log.
    known: Mutex<Option<Arc<LedgerState>>>,
    /// When this process last asked how far a table's load is, in µs, and what it waits for.
    pub(super) asked_of_loads: Mutex<BTreeMap<SourceTable, (i64, String)>>,
}

/// Why one table could not be merged.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
    #[error(transparent)]
    BigQuery(#[from] Error),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Problem(#[from] FinalTableProblem),
    #[error("BigQuery's answer to a query of the merge is not of the expected form: {what}")]
    Unexpected { what: String },
    /// Of every table that was asked about in the one query.
    #[error("its definitions could not be read from the log: {reason}")]
    Definitions { reason: String },
}

/// What a run holds beside its tables.
pub(super) struct Run<'a> {
    pub(super) handler: &'a MergeHandler,
    pub(super) id: String,
    pub(super) deadline: Instant,
    pub(super) window_to_us: i64,
    pub(super) plan: &'a Plan,
    pub(super) state: &'a LedgerState,
    /// How far the table that is merged furthest is.
    pub(super) furthest: Coverage,
    pub(super) asked: &'a Asked,
    /// When it began, in µs.
    pub(super) now_us: i64,
    /// What was committed before may have been followed by changes that the log let expire, in µs; `None`: nothing has.
    pub(super) expired_before_us: Option<i64>,
    /// What the run has read of tables' control records, until an entry of each keeps it.
    pub(super) remembered: Mutex<BTreeMap<SourceTable, Definitions>>,
    /// What of the log was copied for its tables, once it is.
    pub(super) copied: Option<Copied>,
    recorded_at: AtomicI64,
}

impl<'a> Run<'a> {
    /// Before anything is done, from what the ledger and the log say.
    pub(super) fn new(
        handler: &'a MergeHandler,
        id: &str,
        deadline: Instant,
        window_to_us: i64,
        (plan, state): (&'a Plan, &'a LedgerState),
        asked: &'a Asked,
    ) -> Self {
        let now_us = now_us();
        let expired_us = now_us.saturating_sub(handler.config.log_retention_us());
        Self {
            handler,
            id: id.to_owned(),
            deadline,
            window_to_us,
            plan,
            state,
            furthest: state.furthest(),
            asked,
            now_us,
            // To the hour, so that the same work is the same statement for a while.
            expired_before_us: state
                .begun_us
                .filter(|begun| *begun < expired_us)
                .map(|_| expired_us.saturating_sub(expired_us.rem_euclid(HOUR_US))),
            remembered: Mutex::default(),
            copied: None,
            recorded_at: AtomicI64::new(state.next_recorded_at(now_us)),
        }
    }
}

impl Run<'_> {
    /// How far a table is merged: one that stands behind by its own coverage, all others by the furthest.
    pub(super) fn standing(&self, source: &SourceTable) -> Standing {
        let own = self.state.tables.get(source);
        Standing {
            coverage: self.state.behind(source).map_or_else(|| self.furthest.clone(), |table| table.coverage.clone()),
            highest_position: own.and_then(|table| table.highest_position.clone()),
            epochs: own.map(|table| table.epochs.clone()).unwrap_or_default(),
            // Its partitions are hours, and so is the time.
            known_from_us: self.expired_before_us.map(|expired| expired.saturating_add(HOUR_US)),
            unfilled: own.map(|table| table.unfilled.clone()).unwrap_or_default(),
        }
    }

    /// What is to be done for a table whose final table is there.
    pub(super) fn work(
        &self,
        source: SourceTable,
        found: &Found,
        mut standing: Standing,
        waited_since_us: Option<i64>,
    ) -> Result<Work, TableError> {
        let own = self.state.tables.get(&source);
        let definitions = self.known_definitions(&source, own);
        let table = FinalTable {
            has_partial_images: definitions.as_ref().is_some_and(Definitions::have_partial_images),
            unsigned_members: definitions.as_ref().map(Definitions::unsigned_columns).unwrap_or_default(),
            without_schema: match self.handler.config.debezium_without_schema {
                WithoutSchema::Quarantine => WithoutSchemaRead::NotApplied,
                WithoutSchema::ByDefinition => WithoutSchemaRead::ByDefinition(
                    definitions.as_ref().map(Definitions::encodings).unwrap_or_default(),
                ),
                WithoutSchema::SelfDescribing => WithoutSchemaRead::SelfDescribing(SelfDescribing {
                    bit_members: definitions.as_ref().map(Definitions::bit_columns).unwrap_or_default(),
                    time_members: definitions.as_ref().map(Definitions::time_columns).unwrap_or_default(),
                    decimal_members: definitions.as_ref().map(Definitions::decimal_columns).unwrap_or_default(),
                }),
            },
            ..found.table.clone()
        };
        standing.unfilled.set_definition_due(found.is_definition_due);
        // A final table that somebody removed is filled anew from all that the log retains.
        let is_anew = found.is_new && standing.highest_position.is_some();
        if is_anew {
            tracing::warn!(
                table = %source,
                final_table = %table.name,
                "the final table was gone and is made anew from the retained log; rows that did not change within the \
                 retention need a reload of the table in DMS"
            );
            standing = Standing { coverage: Coverage::default(), highest_position: None, ..standing };
        }
        let state = self.state.behind(&source).filter(|_| !is_anew);
        let unfinished = state.and_then(Begun::of_state);
        standing.unfilled.set_begun(unfinished.as_ref().is_some_and(Begun::is_again));
        let again_from = standing.unfilled.again_from();
        let history = definitions.as_ref().and_then(Definitions::history);
        let mut for_a_person = found.for_a_person.clone();
        if standing.unfilled.meet(&table.columns, history.as_ref(), &table.without_schema) {
            for_a_person.push(format!(
                "a control record came after a newer one, and names of columns of {} were taken for other columns' until then: all that the log retains is merged \
                 again. Rows that were not changed within the retention may have values of another column: reload the table in DMS if there are such",
                table.name
            ));
        }
        let is_met = standing.unfilled.again_from() != again_from;
        let is_retry = state.is_some_and(|state| state.outcome == Outcome::Failed || state.is_outrun);
        let stands_behind = state.is_some() || is_anew;
        let news = self.plan.tables.get(&source).filter(|_| !stands_behind);
        let word = self.asked.word.filter(|_| self.asked.includes(&source));
        // Work that an earlier run began has to be finished with what that run knew.
        let begins_epoch = (unfinished.is_none() && standing.learn(news, word, &table)) | is_met;
        // All records of a table without an entry are news.
        let is_reopened = begins_epoch && own.is_some();
        let own = match news {
            _ if stands_behind || is_reopened => Own::Behind,
            Some(news) => {
                let begun = self.begin(&source, &table, &standing, news, is_retry)?;
                Own::Begun(Box::new(begun), Box::new(news.clone()))
            }
            None => Own::Nothing,
        };
        Ok(Work {
            source,
            table,
            standing,
            unfinished,
            own,
            is_retry,
            waited_since_us,
            is_reopened,
            for_a_person,
            is_history_known: found.is_history_known,
        })
    }

    /// What is known of a table's definitions: what this run has read, else what the ledger remembers.
    fn known_definitions(&self, source: &SourceTable, own: Option<&TableState>) -> Option<Definitions> {
        let read = self.remembered.lock().ok().and_then(|remembered| remembered.get(source).cloned());
        read.or_else(|| own?.definitions.clone())
    }

    /// Where a final table stands of which the ledger says nothing: a table from before the ledger that is in use. Its rows tell.
    pub(super) async fn take_up(
        &self,
        source: &SourceTable,
        table: &FinalTable,
        standing: &mut Standing,
    ) -> Result<(), TableError> {
        if table.missing_columns.iter().any(|column| column.name == POSITION_COLUMN) {
            return Ok(());
        }
        let sql = statement::highest_position(&self.handler.config.project, table)?;
        let rows = self.handler.read(&sql, "highest", &self.id, self.deadline).await?;
        let highest = rows.into_iter().flatten().next().flatten();
        if let Some(highest) = highest {
            tracing::warn!(table = %source, "the ledger knows nothing of this table; its own rows say where it stands");
            if let Some(boundary) = Epochs::boundary_of(&highest) {
                standing.epochs.begin(boundary);
            }
            standing.highest_position = Some(highest);
        }
        Ok(())
    }

    /// When half of the time that is left has passed: a statement that takes long must not take the time of all tables' merges.
    pub(super) fn half_of_time(&self) -> Instant {
        let now = Instant::now();
        now + self.deadline.saturating_duration_since(now) / 2
    }

    /// Appends entries to the ledger.
    pub(super) async fn record(&self, mut entries: Vec<Entry>) -> Result<(), TableError> {
        for entry in &mut entries {
            entry.based_on = self.state.newest_us;
            let source = SourceTable { schema: entry.source_schema.clone(), table: entry.source_table.clone() };
            let remembered = self.remembered.lock().map(|mut remembered| remembered.remove(&source));
            entry.definitions = remembered.ok().flatten().and_then(|definitions| definitions.to_entry());
        }
        self.handler.record(&entries, self.deadline).await
    }

    /// The time of the run's next ledger entry: each is above the one before, so that a table's newest is never in doubt.
    pub(super) fn next_recorded_at(&self) -> i64 {
        self.recorded_at.fetch_add(1, Ordering::Relaxed)
    }
}

impl MergeHandler {
    /// With its configuration and its two ways to BigQuery.
    pub fn new(config: Config, connections: Connections) -> Self {
        Self {
            config,
            bigquery: connections.rest,
            appends: connections.appends,
            known: Mutex::default(),
            asked_of_loads: Mutex::default(),
        }
    }

    /// One run.
    ///
    /// # Errors
    /// When the event is none of the merge's, when the ledger or the plan cannot be read, or when any table failed; in
    /// the last case all tables were tried.
    pub async fn handle(&self, body: &[u8], invocation: &Invocation) -> Result<Answer, InvocationError> {
        let started = Instant::now();
        let asked =
            Asked::from_event(body).map_err(|error| InvocationError::new("NotAMergeEvent", error.to_string()))?;
        let (answer, seen) = self.run(&asked, invocation).await.map_err(into_invocation_error)?;
        report(&answer, &seen, invocation, started);
        let failed: Vec<String> = answer
            .tables
            .iter()
            .filter(|table| table.outcome == Outcome::Failed.as_str())
            .map(|table| format!("{}: {}", table.table, table.reason.as_deref().unwrap_or_default()))
            .collect();
        if failed.is_empty() {
            Ok(answer)
        } else {
            let all = answer.tables.len();
            Err(InvocationError::new(
                "TablesFailed",
                format!(
                    "{} of {all} tables could not be merged, the others were. {}",
                    failed.len(),
                    failed.join(" | ")
                ),
            ))
        }
    }

    async fn run(&self, asked: &Asked, invocation: &Invocation) -> Result<(Answer, Seen), TableError> {
        let deadline = invocation.deadline;
        // Lambda keeps the request id when it invokes again; the queries of an earlier attempt must not answer this one's.
        let begun_us = now_us();
        let run_id = &format!("{}/{begun_us}", invocation.request_id);
        let run_id = run_id.as_str();
        let (mut state, plan) = self.state_and_plan(run_id, deadline).await?;
        let carried = state.carry(run_id, begun_us, |source| self.config.final_table.name_of(source));
        let state = Arc::new(state);
        self.know(Some(Arc::clone(&state)));
        self.record(&carried, deadline).await?;
        self.run_planned(run_id, asked, (&plan, &state), deadline).await
    }

    fn know(&self, state: Option<Arc<LedgerState>>) -> Option<Arc<LedgerState>> {
        self.known.lock().ok().and_then(|mut known| std::mem::replace(&mut *known, state))
    }

    /// What the ledger says, and what the log holds beyond that: two queries, or one where this process knows what the ledger says.
    async fn state_and_plan(&self, run_id: &str, deadline: Instant) -> Result<(LedgerState, Plan), TableError> {
        let (project, log, merges) = (&self.config.project, &self.config.log_table, &self.config.merges_table);
        if let Some(state) = self.know(None) {
            let if_moved = state.if_it_moved(project, merges)?;
            let sql = plan::query(project, log, &state.furthest(), None, Some(&if_moved))?;
            match self.read(&sql, "plan", run_id, deadline).await {
                Ok(rows) => {
                    let plan = read_plan(&rows)?;
                    if !plan.is_outdated {
                        return Ok((Arc::unwrap_or_clone(state), plan));
                    }
                }
                // A table of Strait's own is not what it was, which is seen to below.
                Err(TableError::BigQuery(error)) if is_missing(&error) || is_refused(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let state = self.ledger_state(run_id, deadline).await?;
        let sql = plan::query(project, log, &state.furthest(), None, None)?;
        let rows = match self.read(&sql, "plan", run_id, deadline).await {
            // A ledger from before the offsets that are kept out were noted.
            Err(TableError::BigQuery(error)) if is_missing(&error) => {
                self.make_own_tables(deadline).await?;
                self.read(&sql, "second_plan", run_id, deadline).await?
            }
            Err(TableError::BigQuery(error)) if is_refused(&error) && self.complete_own_tables(deadline).await? => {
                self.read(&sql, "completed_plan", run_id, deadline).await?
            }
            other => other?,
        };
        Ok((state, read_plan(&rows)?))
    }

    /// The run's tables, once it is known what there is to do.
    async fn run_planned(
        &self,
        run_id: &str,
        asked: &Asked,
        (plan, state): (&Plan, &LedgerState),
        deadline: Instant,
    ) -> Result<(Answer, Seen), TableError> {
        let furthest = state.furthest();
        let Some(window_to_us) = plan.window_to_us.max(furthest.to_us) else {
            return Ok((Answer { tables: self.idle(asked, &BTreeSet::new()) }, Seen::default()));
        };
        warn_of_holes(plan);

        let concerned = concerned(plan, state, asked);
        let mut run = Run::new(self, run_id, deadline, window_to_us, (plan, state), asked);
        let (now, retention_us) = (run.now_us, self.config.log_retention_us());

        let (mut to_do, mut answers, mut held_back) = (Vec::new(), Vec::new(), Vec::new());
        let mut oldest_wait_us = 0;
        let finals = run.finals(&concerned, state, asked).await?;
        for source in concerned {
            let own = state.tables.get(&source);
            let is_replicated = self.config.tables.matches(&source.schema, &source.table);
            // Nothing of it waits; it would only have been seen whether a load is complete.
            let has_records = plan.tables.contains_key(&source) || state.behind(&source).is_some();
            let is_asked_for = is_replicated && asked.includes(&source);
            // Nor was it altered, if it lacks columns.
            let is_as_before = !has_records && asked.word.is_none() && !finals.contains_key(&source);
            if !has_records && !is_asked_for || is_as_before {
                continue;
            }
            let standing = run.standing(&source);
            let since_us = waits_since(state.behind(&source), plan.tables.get(&source)).filter(|_| is_replicated);
            let waited_us = since_us.map_or(0, |since| now.saturating_sub(since));
            oldest_wait_us = waited_us.max(oldest_wait_us);
            if waited_us > retention_us / 2 {
                tracing::error!(
                    table = %source,
                    waited_days = waited_us / DAY_US,
                    retention_days = self.config.log_retention_days,
                    "records have waited to be merged for more than half of the time that the log retains them; see why this \
                     table does not merge, or raise STRAIT_LOG_RETENTION_DAYS and the expiry of the log's partitions"
                );
            }
            let waited_since_us = since_us.filter(|_| waited_us > retention_us);
            let name = self.config.final_table.name_of(&source);
            let waiting = |reason: String| (Outcome::Waiting, reason);
            let (outcome, reason) = if !is_replicated {
                waiting(LEFT_OUT.to_owned())
            } else if !asked.includes(&source) {
                waiting("not asked for in the last run".to_owned())
            } else {
                match finals.get(&source) {
                    Some(Ok(found)) => {
                        let mut standing = standing;
                        if standing.highest_position.is_none()
                            && !found.is_new
                            && let Err(error) = run.take_up(&source, &found.table, &mut standing).await
                        {
                            let reason = describe(&error);
                            tracing::error!(table = %source, reason, "a table failed");
                            held_back.push(Entry {
                                final_table: Some(name.to_string()),
                                reason: Some(reason.clone()),
                                window_from: since_us,
                                ..Entry::new(
                                    run_id,
                                    run.next_recorded_at(),
                                    &source,
                                    Outcome::Failed,
                                    &standing.coverage,
                                )
                            });
                            answers.push(TableAnswer {
                                reason: Some(reason),
                                ..TableAnswer::new(&source, &name, Outcome::Failed.as_str())
                            });
                            continue;
                        }
                        let work = run.work(source, found, standing, waited_since_us)?;
                        // A table that stands behind is held back by the entry that it has.
                        let (needs_entry, begun) = match &work.own {
                            Own::Begun(begun, _) => (true, Some(&**begun)),
                            Own::Behind => (own.is_none() || found.is_new || work.is_reopened, None),
                            Own::Nothing => (false, None),
                        };
                        if work.unfinished.is_none() && needs_entry {
                            held_back.push(run.running_entry(&work.source, &work.table, &work.standing, begun));
                        }
                        to_do.push(work);
                        continue;
                    }
                    Some(Err(TableError::Problem(problem))) => {
                        tracing::error!(table = %source, reason = %problem, "a table waits for a person");
                        waiting(problem.to_string())
                    }
                    Some(Err(error)) => {
                        tracing::error!(table = %source, reason = %describe(error), "a table failed");
                        (Outcome::Failed, describe(error))
                    }
                    None => waiting(no_definition(&source, &name)),
                }
            };
            // A table that waits as it did needs no new entry, for its own coverage still holds it back; and one that an
            // earlier run left at work must not lose sight of it.
            let mut standing = standing;
            let at_work = own.filter(|table| table.outcome == Outcome::Running);
            let unfinished = at_work.and_then(Begun::of_state);
            standing.unfilled.set_begun(unfinished.as_ref().is_some_and(Begun::is_again));
            // Work that was begun has to be finished with what its run knew: an epoch is heard when it is.
            let is_told = asked.includes(&source)
                && match asked.word {
                    Some(Word::MergeAgain(from)) if unfinished.is_some() => standing.unfilled.merge_again(from),
                    Some(Word::Epoch(_)) if unfinished.is_some() => false,
                    Some(Word::Epoch(_) | Word::MergeAgain(_)) => standing.hear(asked.word),
                    _ => false,
                };
            let is_held_back = !is_told
                && own.is_some_and(|table| {
                    at_work.is_some() || table.outcome == outcome && table.reason.as_deref() == Some(&reason)
                });
            if !is_held_back {
                let recorded = at_work.map_or(outcome, |table| table.outcome);
                held_back.push(Entry {
                    final_table: Some(name.to_string()),
                    reason: Some(reason.clone()),
                    window_from: since_us,
                    work: at_work.and_then(|table| table.work.clone()),
                    epochs: standing.epochs.to_entry(),
                    unfilled: standing.unfilled.to_entry(),
                    highest_position: standing.highest_position,
                    ..Entry::new(run_id, run.next_recorded_at(), &source, recorded, &standing.coverage)
                });
            }
            if asked.includes(&source) {
                let records = plan.tables.get(&source).map_or(0, |news| news.changes);
                answers.push(TableAnswer {
                    records,
                    reason: Some(reason),
                    ..TableAnswer::new(&source, &name, outcome.as_str())
                });
            }
        }
        // While no table is merged none says how far the log has been looked at, and every plan would read more of it.
        let has_moved = window_to_us.saturating_sub(furthest.to_us.unwrap_or(window_to_us)) > HOUR_US;
        if has_moved
            && to_do.is_empty()
            && let Some((source, table)) = state.any_merged_besides(plan)
        {
            held_back.push(Entry {
                highest_position: table.highest_position.clone(),
                epochs: table.epochs.to_entry(),
                unfilled: table.unfilled.to_entry(),
                ..Entry::new(
                    run_id,
                    run.next_recorded_at(),
                    source,
                    Outcome::Merged,
                    &Coverage::after(window_to_us, now, plan.seen.clone()),
                )
            });
        }
        run.record(held_back).await?;

        let newest_commit_us = plan.tables.values().filter_map(|news| news.newest_commit_us).max();
        // As of the ledger: what this run finds out is counted by the next.
        let without_start =
            state.tables.values().filter(|table| table.epochs.load_without_start(now).is_some()).count();
        run.copied = run.copy_news(&to_do).await;
        let run = &run;
        let merged: Vec<TableAnswer> = stream::iter(to_do)
            .map(|work| async move { run.table(work).await })
            .buffer_unordered(TABLES_AT_ONCE)
            .collect()
            .await;
        run.drop_copied(&merged).await;
        answers.extend(merged);
        let answered = answers.iter().map(|answer| answer.table.clone()).collect();
        answers.extend(self.idle(asked, &answered));
        answers.sort_by(|a, b| a.table.cmp(&b.table));
        let seen = Seen {
            newest_commit_us,
            oldest_wait_us,
            retention_us,
            loads_without_start: without_start,
            holes: plan.holes().len(),
            tables: state.tables.keys().chain(plan.tables.keys()).map(ToString::to_string).collect(),
        };
        Ok((Answer { tables: answers }, seen))
    }

    /// Tables that were asked for by name and have no news.
    fn idle(&self, asked: &Asked, answered: &BTreeSet<String>) -> Vec<TableAnswer> {
        asked
            .by_name()
            .filter(|table| !answered.contains(*table))
            .map(|table| {
                let (schema, name) = table.split_once('.').unwrap_or(("", table));
                let source = SourceTable { schema: schema.to_owned(), table: name.to_owned() };
                TableAnswer::new(&source, &self.config.final_table.name_of(&source), "idle")
            })
            .collect()
    }

    /// The ledger's state. The first run ever makes the tables.
    async fn ledger_state(&self, run_id: &str, deadline: Instant) -> Result<LedgerState, TableError> {
        match self.known_state(run_id, deadline).await {
            Err(TableError::BigQuery(error)) if is_missing(&error) => self.make_own_tables(deadline).await?,
            Err(TableError::BigQuery(error)) if is_refused(&error) && self.complete_own_tables(deadline).await? => {}
            other => return other,
        }
        // Another id than before, for that job failed.
        self.known_state(&format!("{run_id}/again"), deadline).await
    }

    /// What the ledger says, as it is: its last days' entries, or all of them where those do not tell all.
    pub(super) async fn known_state(&self, run_id: &str, deadline: Instant) -> Result<LedgerState, TableError> {
        let state = self.state_from(Some(ledger::read_from(now_us())), run_id, deadline).await?;
        if state.is_whole() { Ok(state) } else { self.state_from(None, run_id, deadline).await }
    }

    async fn state_from(
        &self,
        from_us: Option<i64>,
        run_id: &str,
        deadline: Instant,
    ) -> Result<LedgerState, TableError> {
        let sql = LedgerState::query(&self.config.project, &self.config.merges_table, from_us)?;
        let rows = self.read(&sql, "state", run_id, deadline).await?;
        LedgerState::from_rows(&rows, from_us).map_err(|error| TableError::Unexpected { what: error.to_string() })
    }

    async fn make_own_tables(&self, deadline: Instant) -> Result<(), TableError> {
        let config = &self.config;
        // The ledger last, for it is how the next run knows that all of them are there.
        let [log, kept_out, quarantine, merges] = self.own_tables();
        for table in [log, kept_out, quarantine] {
            self.make_or_complete(table, deadline).await?;
        }
        let project = config.project.as_str();
        for sql in [
            offsets::create_gaps_view(project, &config.log_table, config.log_retention_days)?,
            offsets::create_duplicates_view(project, &config.log_table)?,
        ] {
            let id = format!("strait_view_{}", fingerprint(&format!("{}\0{sql}", now_us()), 24));
            self.bigquery.run_query(&self.job(&sql, id, "view"), deadline).await?;
        }
        self.make_or_complete(merges, deadline).await?;
        Ok(())
    }

    /// Makes what is missing of its own tables, and adds to those of an older version what they lack; whether anything was missing. Asked
    /// for only once a statement was refused, or named what is not there, for that is how it shows.
    pub(super) async fn complete_own_tables(&self, deadline: Instant) -> Result<bool, Error> {
        let mut was_incomplete = false;
        for table in self.own_tables() {
            was_incomplete |= self.make_or_complete(table, deadline).await?;
        }
        Ok(was_incomplete)
    }

    /// Each with the days after which its partitions expire.
    fn own_tables(&self) -> [(TableName, &'static TableSpec, Option<u32>); 4] {
        let config = &self.config;
        let days = Some(config.log_retention_days);
        [
            (config.log_table.clone(), &LOG, days),
            (kept_out_table(&config.log_table), &KEPT_OUT, days),
            (config.quarantine_table.clone(), &QUARANTINE, None),
            (config.merges_table.clone(), &MERGES, None),
        ]
    }

    async fn make_or_complete(
        &self,
        (table, spec, expiry_days): (TableName, &TableSpec, Option<u32>),
        deadline: Instant,
    ) -> Result<bool, Error> {
        match self.bigquery.complete_table(&table, spec, deadline).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if self.bigquery.ensure_table(&table, spec, expiry_days, deadline).await? == Ensured::Existed {
                    // Another run made it meanwhile, one of an older version perhaps.
                    self.bigquery.complete_table(&table, spec, deadline).await?;
                }
                Ok(true)
            }
            other => other,
        }
    }

    /// Appends entries to the ledger. A ledger that was made a moment ago may not be seen yet by appends.
    async fn record(&self, entries: &[Entry], deadline: Instant) -> Result<(), TableError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.know(None);
        let table = &self.config.merges_table;
        let stream = WriteStream::default_of(self.config.project.clone(), table.clone(), MERGES.proto_descriptor());
        let rows: Vec<Vec<u8>> = entries.iter().map(Message::encode_to_vec).collect();
        let mut backoff = Backoff::new();
        loop {
            let error = match self.appends.append(&stream, &rows, deadline).await.into_result(table) {
                Err(error) if error.kind() == ErrorKind::NotFound || error.reason() == Some(EXTRA_COLUMNS) => error,
                other => return Ok(other?),
            };
            if error.kind() == ErrorKind::NotFound {
                self.make_own_tables(deadline).await?;
            } else {
                // They may have been added a moment ago.
                self.complete_own_tables(deadline).await?;
            }
            let delay = backoff.next_delay();
            if Instant::now() + delay >= deadline {
                return Err(error.into());
            }
            tokio::time::sleep(delay).await;
        }
    }

    /// Runs a query that only reads, and returns its rows as text. Its job is this run's own.
    pub(super) async fn read(
        &self,
        sql: &str,
        what: &str,
        run_id: &str,
        deadline: Instant,
    ) -> Result<Vec<Vec<Option<String>>>, TableError> {
        let request = self.job(sql, format!("strait_{what}_{}", fingerprint(&format!("{run_id}\0{sql}"), 24)), what);
        Ok(text_rows(self.bigquery.run_query(&request, deadline).await?))
    }

    pub(super) fn job(&self, sql: &str, job_id: String, what: &str) -> JobRequest {
        JobRequest {
            labels: BTreeMap::from([("strait".to_owned(), what.to_owned())]),
            max_bytes_billed: self.config.max_bytes_billed,
            ..JobRequest::new(sql, job_id)
        }
    }
}

/// Whoever has news, stands behind, or may be seen to complete something.
pub(super) fn concerned(plan: &Plan, state: &LedgerState, asked: &Asked) -> BTreeSet<SourceTable> {
    let is_concerned = |source: &SourceTable, table: &TableState| {
        table.outcome != Outcome::Merged
            || table.epochs.open().is_some()
            || table.epochs.emptying().is_some()
            || table.epochs.may_lack_a_start()
            || table.unfilled.is_lacking()
            || asked.word.is_some() && asked.includes(source)
    };
    let known = state.tables.iter().filter(|(source, table)| is_concerned(source, table)).map(|(source, _)| source);
    plan.tables.keys().chain(known).cloned().collect()
}

/// `ingested_at` of the oldest record of a table that is not merged, as far as it is known, in µs. A table that stands behind was
/// held back by an entry that says so; another has only its news.
fn waits_since(behind: Option<&TableState>, news: Option<&News>) -> Option<i64> {
    match behind {
        Some(state) => {
            let oldest = state.window_from_us.or(state.coverage.to_us).or(news.map(|news| news.from_us));
            state.unfilled.waits_since(oldest)
        }
        None => news.map(|news| news.from_us),
    }
}

/// A hole may be a batch on its way; one that stays is lost, or never was a record.
fn warn_of_holes(plan: &Plan) {
    let holes = plan.holes();
    if holes.is_empty() {
        return;
    }
    let named: Vec<String> = holes
        .iter()
        .take(HOLES_NAMED)
        .map(|hole| format!("{}-{}: {}..{}", hole.topic, hole.partition, hole.first, hole.last))
        .collect();
    tracing::warn!(
        holes = holes.len(),
        first = named.join(", "),
        "offsets are missing in the log; the view of its gaps lists those that stay"
    );
}

pub(super) fn read_plan(rows: &[Vec<Option<String>>]) -> Result<Plan, TableError> {
    Plan::from_rows(rows).map_err(|error| TableError::Unexpected { what: error.to_string() })
}

fn text_rows(answer: QueryAnswer) -> Vec<Vec<Option<String>>> {
    answer.rows.into_iter().map(|row| row.into_iter().map(|cell| cell.as_str().map(str::to_owned)).collect()).collect()
}

pub(super) fn is_missing(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.kind() == ErrorKind::JobFailed && error.reason() == Some("notFound")
}

/// A statement that BigQuery does not take, for instance because a column is not there.
pub(super) fn is_refused(error: &Error) -> bool {
    error.reason() == Some("invalidQuery")
}

pub(super) fn is_out_of_time(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::JobRunning | ErrorKind::DeadlinePassed)
}

/// The error with its causes and what to do, in one line.
pub(super) fn describe(error: &TableError) -> String {
    match error {
        TableError::BigQuery(error) => InvocationError::describe(error),
        other => other.to_string(),
    }
}

pub(super) fn into_invocation_error(error: TableError) -> InvocationError {
    match error {
        TableError::BigQuery(error) => error.into(),
        TableError::Name(error) => InvocationError::new("Name", error.to_string()),
        TableError::Problem(error) => InvocationError::new("FinalTable", error.to_string()),
        TableError::Unexpected { .. } | TableError::Definitions { .. } => {
            InvocationError::new("BigQueryUnexpectedAnswer", error.to_string())
        }
    }
}

pub(super) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// One INFO line and the metrics of a run.
fn report(answer: &Answer, seen: &Seen, invocation: &Invocation, started: Instant) {
    let sum = |count: fn(&TableAnswer) -> i64| answer.tables.iter().map(count).fold(0i64, i64::saturating_add);
    let with = |outcome: &str| answer.tables.iter().filter(|table| table.outcome == outcome).count();
    let duration_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    tracing::info!(
        tables = answer.tables.len(),
        merged = with("merged"),
        waiting = with("waiting"),
        running = with("running"),
        failed = with("failed"),
        records = sum(|table| table.records),
        inserted = sum(|table| table.inserted),
        updated = sum(|table| table.updated),
        deleted = sum(|table| table.deleted),
        quarantined = sum(|table| table.quarantined),
        late = sum(|table| table.late),
        bytes_billed = sum(|table| table.bytes_billed),
        duration_ms,
        "merge"
    );
    let now_us = now_us();
    for line in metrics::lines(&invocation.function_name, answer, seen, duration_ms, now_us) {
        telemetry::emit(&line);
    }
}
