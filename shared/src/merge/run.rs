//! One invocation of `merge`: plan, then per table fold, survey, quarantine, MERGE and a ledger entry; one failing table
//! does not stop the others. The only module of the merge with I/O. It must never advance the ledger over records that
//! are not in a final table: every table with news gets an entry that holds it back before any other table's coverage moves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::{StreamExt, stream};
use prost::Message;
use tokio::time::Instant;

use crate::bigquery::append::{AppendClient, WriteStream};
use crate::bigquery::connect::Connections;
use crate::bigquery::job::{JobRequest, JobStats, QueryAnswer};
use crate::bigquery::rest::BigQuery;
use crate::bigquery::retry::Backoff;
use crate::bigquery::table_resource::Table;
use crate::bigquery::{Error, ErrorKind};
use crate::config::Config;
use crate::lambda::{Invocation, InvocationError};
use crate::log::table::LOG;
use crate::names::{NameError, SourceTable, TableName, fingerprint};
use crate::telemetry::{self, Metric, Unit};

use super::answer::{Answer, Asked, TableAnswer};
use super::coverage::Coverage;
use super::definition::SourceDefinition;
use super::final_table::{FinalTable, FinalTableProblem, made_by_strait, new_table};
use super::fold::{self, FoldRequest, LookBack};
use super::ledger::{Entry, LedgerState, MERGES, Outcome};
use super::plan::{self, News, Plan};
use super::statement::{self, MergeRequest, QUARANTINE};

/// Tables merged at a time. BigQuery runs the jobs; more at once only shortens the run, and its limit on
/// concurrent DML statements per table is not touched.
const TABLES_AT_ONCE: usize = 8;
/// Hexadecimal digits of a key of work: 96 bits, so that no two ever meet.
const WORK_KEY_DIGITS: usize = 24;

/// `merge`, set up once per cold start.
pub struct MergeHandler {
    config: Config,
    bigquery: BigQuery,
    appends: AppendClient,
}

/// Why one table could not be merged.
#[derive(Debug, thiserror::Error)]
enum TableError {
    #[error(transparent)]
    BigQuery(#[from] Error),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Problem(#[from] FinalTableProblem),
    #[error("BigQuery's answer to a query of the merge is not of the expected form: {what}")]
    Unexpected { what: String },
}

/// One table of a run.
struct Work {
    source: SourceTable,
    table: FinalTable,
    coverage: Coverage,
    news: Option<News>,
    highest_position: Option<String>,
}

/// A final table that a run may merge into.
struct Found {
    table: FinalTable,
    /// Whether this run made it.
    is_new: bool,
}

/// What a run holds beside its tables.
struct Run<'a> {
    handler: &'a MergeHandler,
    id: String,
    deadline: Instant,
    window_to_us: i64,
    plan: &'a Plan,
    recorded_at: i64,
}

/// A table that was merged.
struct Merged {
    answer: TableAnswer,
    window_from_us: Option<i64>,
    highest_position: Option<String>,
    slot_ms: i64,
    job_id: Option<String>,
    fold: TableName,
}

impl MergeHandler {
    /// With its configuration and its two ways to BigQuery.
    pub fn new(config: Config, connections: Connections) -> Self {
        Self { config, bigquery: connections.rest, appends: connections.appends }
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
        let (answer, newest_commit_us) = self.run(&asked, invocation).await.map_err(into_invocation_error)?;
        report(&answer, newest_commit_us, invocation, started);
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

    async fn run(&self, asked: &Asked, invocation: &Invocation) -> Result<(Answer, Option<i64>), TableError> {
        let deadline = invocation.deadline;
        let run_id = invocation.request_id.as_str();
        let state = self.ledger_state(run_id, deadline).await?;
        let furthest = state.furthest();
        let plan_sql = plan::query(&self.config.project, &self.config.log_table, &furthest)?;
        let rows = self.read(&plan_sql, "plan", run_id, deadline).await?;
        let plan = Plan::from_rows(&rows).map_err(|error| TableError::Unexpected { what: error.to_string() })?;
        let Some(window_to_us) = plan.window_to_us.max(furthest.to_us) else {
            return Ok((Answer { tables: self.idle(asked, &BTreeSet::new()) }, None));
        };

        // Whoever has news or stands behind; each with the coverage that its own window begins at.
        let behind = |source: &SourceTable| state.tables.get(source).filter(|table| table.outcome != Outcome::Merged);
        let concerned: BTreeSet<SourceTable> =
            plan.tables.keys().chain(state.tables.keys().filter(|source| behind(source).is_some())).cloned().collect();
        let run = Run {
            handler: self,
            id: run_id.to_owned(),
            deadline,
            window_to_us,
            plan: &plan,
            recorded_at: state.next_recorded_at(now_us()),
        };

        let (mut to_do, mut answers, mut held_back) = (Vec::new(), Vec::new(), Vec::new());
        let finals = run.finals(&concerned, &state, asked).await?;
        for source in concerned {
            let own = state.tables.get(&source);
            let coverage = behind(&source).map_or_else(|| furthest.clone(), |table| table.coverage.clone());
            let highest_position = own.and_then(|table| table.highest_position.clone());
            let name = self.config.final_table.name_of(&source);
            let waiting = |reason: String| (Outcome::Waiting, reason);
            let (outcome, reason) = if !self.config.tables.matches(&source.schema, &source.table) {
                waiting("STRAIT_TABLES leaves it out; its records stay in the log".to_owned())
            } else if !asked.includes(&source) {
                waiting("not asked for in the last run".to_owned())
            } else {
                match finals.get(&source) {
                    Some(Ok(found)) => {
                        let table = found.table.clone();
                        // A final table that somebody removed is filled anew from all that the log retains.
                        let is_anew = found.is_new && highest_position.is_some();
                        if is_anew {
                            tracing::warn!(
                                table = %source,
                                final_table = %name,
                                "the final table was gone and is made anew from the retained log; rows that did not change \
                                 within the retention need a reload of the table in DMS"
                            );
                        }
                        let (coverage, highest_position) =
                            if is_anew { (Coverage::default(), None) } else { (coverage, highest_position) };
                        held_back.push(Entry {
                            final_table: Some(name.to_string()),
                            highest_position: highest_position.clone(),
                            ..Entry::new(run_id, run.recorded_at, &source, Outcome::Running, &coverage)
                        });
                        let is_behind = behind(&source).is_some() || is_anew;
                        let news = plan.tables.get(&source).filter(|_| !is_behind).cloned();
                        to_do.push(Work { source, table, coverage, news, highest_position });
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
                    None => waiting(format!(
                        "no create-table record with a definition has arrived and {name} does not exist: create it, or \
                         reload the table with IncludeControlDetails on the DMS endpoint"
                    )),
                }
            };
            // A table that waits as it did needs no new entry: its own coverage still holds it back.
            if own.is_none_or(|table| table.outcome != outcome || table.reason.as_deref() != Some(&reason)) {
                held_back.push(Entry {
                    final_table: Some(name.to_string()),
                    reason: Some(reason.clone()),
                    highest_position,
                    ..Entry::new(run_id, run.recorded_at, &source, outcome, &coverage)
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
        self.record(&held_back, deadline).await?;

        let newest_commit_us = plan.tables.values().filter_map(|news| news.newest_commit_us).max();
        let run = &run;
        let merged: Vec<TableAnswer> = stream::iter(to_do)
            .map(|work| async move { run.table(work).await })
            .buffer_unordered(TABLES_AT_ONCE)
            .collect()
            .await;
        answers.extend(merged);
        let answered = answers.iter().map(|answer| answer.table.clone()).collect();
        answers.extend(self.idle(asked, &answered));
        answers.sort_by(|a, b| a.table.cmp(&b.table));
        Ok((Answer { tables: answers }, newest_commit_us))
    }

    /// Tables that were asked for by name and have no news.
    fn idle(&self, asked: &Asked, answered: &BTreeSet<String>) -> Vec<TableAnswer> {
        let Asked::Tables(tables) = asked else {
            return Vec::new();
        };
        tables
            .iter()
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
        let sql = LedgerState::query(&self.config.project, &self.config.merges_table)?;
        let rows = match self.read(&sql, "state", run_id, deadline).await {
            Err(TableError::BigQuery(error)) if is_missing(&error) => {
                self.make_own_tables(deadline).await?;
                self.read(&sql, "first_state", run_id, deadline).await?
            }
            other => other?,
        };
        LedgerState::from_rows(&rows).map_err(|error| TableError::Unexpected { what: error.to_string() })
    }

    async fn make_own_tables(&self, deadline: Instant) -> Result<(), Error> {
        let config = &self.config;
        self.bigquery.ensure_table(&config.log_table, &LOG, Some(config.log_retention_days), deadline).await?;
        self.bigquery.ensure_table(&config.quarantine_table, &QUARANTINE, None, deadline).await?;
        self.bigquery.ensure_table(&config.merges_table, &MERGES, None, deadline).await?;
        Ok(())
    }

    /// Appends entries to the ledger. A ledger that was made a moment ago may not be seen yet by appends.
    async fn record(&self, entries: &[Entry], deadline: Instant) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let table = &self.config.merges_table;
        let stream = WriteStream::default_of(self.config.project.clone(), table.clone(), MERGES.proto_descriptor());
        let rows: Vec<Vec<u8>> = entries.iter().map(Message::encode_to_vec).collect();
        let mut backoff = Backoff::new();
        loop {
            let error = match self.appends.append(&stream, &rows, deadline).await.into_result(table) {
                Err(error) if error.kind() == ErrorKind::NotFound => error,
                other => return other,
            };
            self.make_own_tables(deadline).await?;
            let delay = backoff.next_delay();
            if Instant::now() + delay >= deadline {
                return Err(error);
            }
            tokio::time::sleep(delay).await;
        }
    }

    /// Runs a query that only reads, and returns its rows as text. Its job is this run's own.
    async fn read(
        &self,
        sql: &str,
        what: &str,
        run_id: &str,
        deadline: Instant,
    ) -> Result<Vec<Vec<Option<String>>>, TableError> {
        let request = self.job(sql, format!("strait_{what}_{}", fingerprint(&format!("{run_id}\0{sql}"), 24)), what);
        Ok(text_rows(self.bigquery.run_query(&request, deadline).await?))
    }

    fn job(&self, sql: &str, job_id: String, what: &str) -> JobRequest {
        JobRequest {
            labels: BTreeMap::from([("strait".to_owned(), what.to_owned())]),
            max_bytes_billed: self.config.max_bytes_billed,
            ..JobRequest::new(sql, job_id)
        }
    }
}

impl Run<'_> {
    /// The final table of every table that this run may merge; a table without one and without a definition is left out.
    async fn finals(
        &self,
        concerned: &BTreeSet<SourceTable>,
        state: &LedgerState,
        asked: &Asked,
    ) -> Result<BTreeMap<SourceTable, Result<Found, TableError>>, TableError> {
        let config = &self.handler.config;
        let bigquery = &self.handler.bigquery;
        let candidates: Vec<&SourceTable> = concerned
            .iter()
            .filter(|source| asked.includes(source) && config.tables.matches(&source.schema, &source.table))
            .collect();
        let existing: Vec<(&SourceTable, Result<Option<Table>, TableError>)> = stream::iter(candidates)
            .map(|source| async move {
                let name = config.final_table.name_of(source);
                let is_own = [&config.log_table, &config.merges_table, &config.quarantine_table].contains(&&name);
                let table = match is_own {
                    true => Err(TableError::Problem(FinalTableProblem::OwnTable { final_table: name })),
                    false => bigquery.get_table(&name, self.deadline).await.map_err(TableError::from),
                };
                (source, table)
            })
            .buffer_unordered(TABLES_AT_ONCE)
            .collect()
            .await;

        // A definition is looked up for a table that does not exist, unless it waited for one before and none has come,
        // and for one that a person made, whose columns' spelling may not be the source's.
        let wants_definition: Vec<&SourceTable> = existing
            .iter()
            .filter(|(source, table)| match table {
                Ok(Some(table)) => !made_by_strait(table),
                Ok(None) => {
                    let waited = state.tables.get(source).is_some_and(|table| table.outcome == Outcome::Waiting);
                    !waited || self.plan.tables.get(source).is_some_and(|news| news.definitions > 0)
                }
                Err(_) => false,
            })
            .map(|(source, _)| *source)
            .collect();
        let definitions = self.definitions(&wants_definition).await?;

        let definitions = &definitions;
        let taken: Vec<(SourceTable, Option<Result<Found, TableError>>)> = stream::iter(existing)
            .map(|(source, table)| async move {
                let definition = definitions.get(source);
                let is_new = matches!(table, Ok(None));
                let result = match (table, definition) {
                    (Err(error), _) => Some(Err(error)),
                    (Ok(Some(table)), definition) => Some(self.take_table(source, &table, definition).await),
                    (Ok(None), Some(definition)) => Some(self.create_final(source, definition).await),
                    (Ok(None), None) => None,
                };
                let result = result.map(|result| result.map(|table| Found { table, is_new }));
                (source.clone(), result)
            })
            .buffer_unordered(TABLES_AT_ONCE)
            .collect()
            .await;
        Ok(taken.into_iter().filter_map(|(source, result)| Some((source, result?))).collect())
    }

    async fn definitions(
        &self,
        sources: &[&SourceTable],
    ) -> Result<BTreeMap<SourceTable, SourceDefinition>, TableError> {
        let mut definitions = BTreeMap::new();
        if sources.is_empty() {
            return Ok(definitions);
        }
        let config = &self.handler.config;
        let sql = statement::newest_definitions(&config.project, &config.log_table, sources)?;
        for row in self.handler.read(&sql, "definitions", &self.id, self.deadline).await? {
            let [Some(schema), Some(table), Some(control)] = row.as_slice() else {
                return Err(TableError::Unexpected { what: "a definition's columns".to_owned() });
            };
            let source = SourceTable { schema: schema.clone(), table: table.clone() };
            match SourceDefinition::from_control(control) {
                Ok(definition) => {
                    definitions.insert(source, definition);
                }
                Err(error) => tracing::warn!(table = %source, reason = %error, "a definition cannot be used"),
            }
        }
        Ok(definitions)
    }

    async fn create_final(
        &self,
        source: &SourceTable,
        definition: &SourceDefinition,
    ) -> Result<FinalTable, TableError> {
        let config = &self.handler.config;
        let bigquery = &self.handler.bigquery;
        let name = config.final_table.name_of(source);
        let (table, unknown) = new_table(&config.project, &name, source, definition, config.deletes)?;
        if !unknown.is_empty() {
            tracing::warn!(table = %source, columns = unknown.join(", "), "types that are not known become STRING");
        }
        match bigquery.create_table(&table, self.deadline).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bigquery.ensure_dataset(&name.dataset, self.deadline).await?;
                bigquery.create_table(&table, self.deadline).await?;
            }
            other => {
                other?;
            }
        }
        tracing::info!(table = %source, final_table = %name, "created a final table");
        // As it stands now: somebody else may have been first.
        let table = bigquery.get_table(&name, self.deadline).await?.unwrap_or(table);
        self.take_table(source, &table, Some(definition)).await
    }

    /// Takes a table as it stands; Strait's own columns are added if it lacks them.
    async fn take_table(
        &self,
        source: &SourceTable,
        table: &Table,
        definition: Option<&SourceDefinition>,
    ) -> Result<FinalTable, TableError> {
        let config = &self.handler.config;
        let name = config.final_table.name_of(source);
        let table = FinalTable::existing(name, source, table, definition, config.deletes)?;
        if let Some(sql) = statement::add_own_columns(&config.project, &table)? {
            let id = format!("strait_alter_{}", fingerprint(&format!("{}\0{sql}", self.id), 24));
            self.handler.bigquery.run_query(&self.handler.job(&sql, id, "alter"), self.deadline).await?;
        }
        Ok(table)
    }

    /// One table from its window to its ledger entry.
    async fn table(&self, work: Work) -> TableAnswer {
        let started = Instant::now();
        let result = self.merge(&work).await;
        let took_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let entry = |outcome, coverage: &Coverage| Entry {
            final_table: Some(work.table.name.to_string()),
            highest_position: work.highest_position.clone(),
            window_to: Some(self.window_to_us),
            duration_ms: Some(took_ms),
            ..Entry::new(&self.id, self.recorded_at.saturating_add(1), &work.source, outcome, coverage)
        };
        let failed = |reason: String| {
            tracing::error!(table = %work.source, reason, "a table failed");
            TableAnswer {
                reason: Some(reason),
                ..TableAnswer::new(&work.source, &work.table.name, Outcome::Failed.as_str())
            }
        };
        match result {
            Ok(merged) => {
                let covered = Coverage::after(self.window_to_us, self.plan.seen.clone());
                let answer = merged.answer;
                let entry = Entry {
                    window_from: merged.window_from_us,
                    highest_position: merged.highest_position,
                    records: Some(answer.records),
                    inserted: Some(answer.inserted),
                    updated: Some(answer.updated),
                    deleted: Some(answer.deleted),
                    quarantined: Some(answer.quarantined),
                    late: Some(answer.late),
                    bytes_billed: Some(answer.bytes_billed),
                    slot_ms: Some(merged.slot_ms),
                    job_id: merged.job_id,
                    ..entry(Outcome::Merged, &covered)
                };
                match self.handler.record(&[entry], self.deadline).await {
                    Ok(()) => {
                        // Not before: until the ledger has it, another run would attach to this fold. If it cannot be
                        // deleted, BigQuery expires it.
                        if let Err(error) = self.handler.bigquery.delete_table(&merged.fold, self.deadline).await {
                            tracing::debug!(table = %work.source, reason = %error, "a fold was left to expire");
                        }
                        answer
                    }
                    // The rows are merged; the next run finds the same work and attaches to its jobs.
                    Err(error) => failed(format!("merged, but not recorded: {}", describe(&error.into()))),
                }
            }
            // The jobs go on; the entry that holds the table back makes the next run attach to them.
            Err(TableError::BigQuery(error)) if is_out_of_time(&error) => TableAnswer {
                reason: Some("the time ran out; its jobs go on and the next run attaches to them".to_owned()),
                ..TableAnswer::new(&work.source, &work.table.name, Outcome::Running.as_str())
            },
            Err(error) => {
                let reason = describe(&error);
                let entry = Entry { reason: Some(reason.clone()), ..entry(Outcome::Failed, &work.coverage) };
                if let Err(error) = self.handler.record(&[entry], self.deadline).await {
                    tracing::warn!(table = %work.source, reason = %error, "a failure could not be recorded");
                }
                failed(reason)
            }
        }
    }

    /// Folds and merges one table. Work that was begun before is attached to; a fold of it that is gone (BigQuery expires
    /// it after a day) is made anew under another id.
    async fn merge(&self, work: &Work) -> Result<Merged, TableError> {
        match self.merge_under(work, None).await {
            Err(TableError::BigQuery(error)) if is_missing(&error) => {
                tracing::warn!(table = %work.source, reason = %error, "the fold of earlier work is gone; folding again");
                self.merge_under(work, Some(&self.id)).await
            }
            other => other,
        }
    }

    async fn merge_under(&self, work: &Work, salt: Option<&str>) -> Result<Merged, TableError> {
        let config = &self.handler.config;
        let project = config.project.as_str();
        let deletes = work.table.deletes.unwrap_or(config.deletes);
        let lowest = work.news.as_ref().and_then(|news| news.lowest_position.as_deref());
        let oldest = work.news.as_ref().and_then(|news| news.oldest_commit_us);
        let window_from_us = work.news.as_ref().map_or_else(|| work.coverage.open_from_us(), |news| Some(news.from_us));
        let placeholder = fold::fold_table(&config.log_table, "");
        let request = FoldRequest {
            project,
            log: &config.log_table,
            fold: &placeholder,
            source: &work.source,
            table: &work.table,
            window_from_us,
            window_to_us: self.window_to_us,
            covered: &work.coverage.ranges,
            look_back: LookBack::needed(lowest, work.highest_position.as_deref(), oldest, config.absent_columns),
            absent: config.absent_columns,
            deletes,
        };
        let mut key = fold::work_key(&request, &self.plan.seen)?;
        if let Some(salt) = salt {
            key = fingerprint(&format!("{key}\0{salt}"), WORK_KEY_DIGITS);
        }
        let fold_name = fold::fold_table(&config.log_table, &key);
        let mut stats = JobStats::default();

        let sql = fold::statement(&FoldRequest { fold: &fold_name, ..request })?;
        self.write(&sql, "fold", &key, &mut stats).await?;
        let survey = self.survey(&fold_name, &work.table, &mut stats).await?;
        if survey.flawed > 0 {
            let sql = statement::quarantine(project, &fold_name, &config.quarantine_table, &work.source)?;
            self.write(&sql, "quarantine", &key, &mut stats).await?;
        }
        let mut merged = Merged {
            answer: TableAnswer {
                records: survey.records,
                quarantined: survey.flawed,
                late: survey.late,
                ..TableAnswer::new(&work.source, &work.table.name, Outcome::Merged.as_str())
            },
            window_from_us,
            highest_position: survey.newest.max(work.highest_position.clone()),
            slot_ms: 0,
            job_id: None,
            fold: fold_name.clone(),
        };
        if survey.keys > 0 {
            let sql = statement::merge(&MergeRequest {
                project,
                fold: &fold_name,
                table: &work.table,
                absent: config.absent_columns,
                deletes,
                key_range: survey.lowest_key.as_deref().zip(survey.highest_key.as_deref()),
            })?;
            let answer = self.write(&sql, "merge", &key, &mut stats).await?;
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
    async fn write(
        &self,
        sql: &str,
        what: &str,
        work_key: &str,
        stats: &mut JobStats,
    ) -> Result<QueryAnswer, TableError> {
        let request =
            JobRequest { max_results: Some(0), ..self.handler.job(sql, format!("strait_{what}_{work_key}"), what) };
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
        let id = format!("strait_survey_{}", fingerprint(&format!("{}\0{sql}", self.id), 24));
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

struct Survey {
    keys: i64,
    flawed: i64,
    records: i64,
    late: i64,
    newest: Option<String>,
    lowest_key: Option<String>,
    highest_key: Option<String>,
}

fn add(stats: &mut JobStats, more: &JobStats) {
    stats.bytes_billed = stats.bytes_billed.saturating_add(more.bytes_billed);
    stats.slot_ms = stats.slot_ms.saturating_add(more.slot_ms);
}

fn text_rows(answer: QueryAnswer) -> Vec<Vec<Option<String>>> {
    answer.rows.into_iter().map(|row| row.into_iter().map(|cell| cell.as_str().map(str::to_owned)).collect()).collect()
}

fn is_missing(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.kind() == ErrorKind::JobFailed && error.reason() == Some("notFound")
}

fn is_out_of_time(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::JobRunning | ErrorKind::DeadlinePassed)
}

/// The error with its causes and what to do, in one line.
fn describe(error: &TableError) -> String {
    match error {
        TableError::BigQuery(error) => InvocationError::describe(error),
        other => other.to_string(),
    }
}

fn into_invocation_error(error: TableError) -> InvocationError {
    match error {
        TableError::BigQuery(error) => error.into(),
        TableError::Name(error) => InvocationError::new("Name", error.to_string()),
        TableError::Problem(error) => InvocationError::new("FinalTable", error.to_string()),
        TableError::Unexpected { .. } => InvocationError::new("BigQueryUnexpectedAnswer", error.to_string()),
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// One INFO line and one line of metrics per run.
fn report(answer: &Answer, newest_commit_us: Option<i64>, invocation: &Invocation, started: Instant) {
    let sum = |count: fn(&TableAnswer) -> i64| answer.tables.iter().map(count).fold(0i64, i64::saturating_add);
    let with = |outcome: &str| answer.tables.iter().filter(|table| table.outcome == outcome).count();
    let duration_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    tracing::info!(
        request_id = invocation.request_id,
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
    let mut metrics = vec![
        Metric::new("MergedRecords", Unit::Count, sum(|table| table.records)),
        Metric::new("QuarantinedRows", Unit::Count, sum(|table| table.quarantined)),
        Metric::new("BytesBilled", Unit::Bytes, sum(|table| table.bytes_billed)),
        Metric::new("FailedTables", Unit::Count, i64::try_from(with("failed")).unwrap_or(i64::MAX)),
        Metric::new("MergeDuration", Unit::Milliseconds, duration_ms),
    ];
    if let Some(newest) = newest_commit_us {
        metrics.push(Metric::new("MergeLag", Unit::Milliseconds, now_us().saturating_sub(newest).max(0) / 1000));
    }
    telemetry::emit(&telemetry::metrics_line(&[("Function", "merge")], &metrics, now_us() / 1000));
}
