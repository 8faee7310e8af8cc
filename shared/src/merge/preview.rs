//! What a run would do if it began now: which tables, from which window, by which statements, reading how much, and why. It takes the
//! same decisions by the same code as [`super::run`], and must never write: no table, no job that is not a query or a dry run, no ledger entry.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::bigquery::table_resource::Table;
use crate::lambda::InvocationError;
use crate::names::{SourceTable, TableName};

use super::answer::Asked;
use super::definition::SourceDefinition;
use super::delta::Share;
use super::final_table::{FinalTable, is_made_by_strait, is_self_describing, new_table};
use super::finals::{Found, no_definition};
use super::fold::{self, FoldRequest, LookBack};
use super::ledger::LedgerState;
use super::plan::{self, News, Plan};
use super::run::{
    LEFT_OUT, MergeHandler, Run, TableError, concerned, describe, into_invocation_error, is_missing, now_us,
};
use super::schema_change;
use super::source_history::SourceHistory;
use super::statement;
use super::work::{Begun, Own, Standing, Work};

/// What a run would do.
#[derive(Debug, Clone, Default)]
pub struct Preview {
    /// What is to be known of the run as a whole.
    pub notes: Vec<String>,
    /// The statement that copies the tables' news out of the log, if the run would.
    pub copy: Option<Planned>,
    /// The tables that the run would look at.
    pub tables: Vec<TablePreview>,
}

/// What a run would do with one table.
#[derive(Debug, Clone)]
pub struct TablePreview {
    /// The source table.
    pub source: SourceTable,
    /// Its final table.
    pub final_table: TableName,
    /// In words: what is new, what stands in the way.
    pub why: Vec<String>,
    /// `ingested_at` of the window's oldest and newest record, in µs; the first `None`: from the log's beginning. `None`: nothing is merged.
    pub window: Option<(Option<i64>, i64)>,
    /// The statements, in their order.
    pub statements: Vec<Planned>,
}

impl TablePreview {
    /// Of which nothing is known yet.
    fn new(source: &SourceTable, final_table: TableName) -> Self {
        Self { source: source.clone(), final_table, why: Vec::new(), window: None, statements: Vec::new() }
    }
}

/// One statement of a run.
#[derive(Debug, Clone)]
pub struct Planned {
    /// What it does, in a word or two.
    pub what: &'static str,
    /// GoogleSQL.
    pub sql: String,
    /// What it reads.
    pub reads: Reads,
}

/// How much a statement reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reads {
    /// So many bytes, by BigQuery's own dry run.
    Bytes(i64),
    /// At most so many bytes: those that the final table has in all. Its literals, which only the fold knows, leave fewer.
    AtMost(i64),
    /// The table's partition of the copy.
    Copy,
    /// The fold alone: a row per changed key.
    Fold,
    /// Not known, because BigQuery would not say.
    Unknown(String),
}

impl MergeHandler {
    /// What a run that is asked for this would do now.
    ///
    /// # Errors
    /// When the ledger, the log or the tables cannot be read.
    pub async fn preview(&self, asked: &Asked, deadline: Instant) -> Result<Preview, InvocationError> {
        self.previewed(asked, deadline).await.map_err(into_invocation_error)
    }

    async fn previewed(&self, asked: &Asked, deadline: Instant) -> Result<Preview, TableError> {
        let mut preview = Preview::default();
        let config = &self.config;
        let id = format!("preview/{}", now_us());
        let sql = LedgerState::query(&config.project, &config.merges_table)?;
        let state = match self.read(&sql, "state", &id, deadline).await {
            Ok(rows) => {
                LedgerState::from_rows(&rows).map_err(|error| TableError::Unexpected { what: error.to_string() })?
            }
            Err(TableError::BigQuery(error)) if is_missing(&error) => {
                preview.notes.push(format!("nothing was merged yet: {} does not exist", config.merges_table));
                LedgerState::default()
            }
            Err(error) => return Err(error),
        };
        let furthest = state.furthest();
        let sql = plan::query(&config.project, &config.log_table, &furthest, None)?;
        let rows = match self.read(&sql, "plan", &id, deadline).await {
            Err(TableError::BigQuery(error)) if is_missing(&error) => {
                preview.notes.push(format!(
                    "nothing can be planned: {} or a table beside it does not exist. The first run of the merge makes them",
                    config.log_table
                ));
                return Ok(preview);
            }
            other => other?,
        };
        let plan = Plan::from_rows(&rows).map_err(|error| TableError::Unexpected { what: error.to_string() })?;
        let Some(window_to_us) = plan.window_to_us.max(furthest.to_us) else {
            return Ok(preview);
        };
        let run = Run::new(self, &id, deadline, window_to_us, (&plan, &state), asked);
        let concerned = concerned(&plan, &state, asked);
        let existing = run.existing(&concerned, &state, asked).await;
        let wanted = run.wants_definition(&existing, &state);
        let definitions = run.definitions(&existing, &wanted, &state).await;

        let mut works = Vec::new();
        for (source, table) in existing {
            let mut shown = TablePreview::new(source, config.final_table.name_of(source));
            let history = match definitions.get(source) {
                Some(Err(reason)) => {
                    shown.why.push(format!("its definitions could not be read from the log: {reason}"));
                    preview.tables.push(shown);
                    continue;
                }
                Some(Ok(history)) => Some(history),
                None => None,
            };
            let bytes = table.as_ref().ok().and_then(|table| table.as_ref()?.num_bytes.as_ref()?.parse().ok());
            match run.previewed_work(source, table, history, &mut shown).await {
                Ok(Some((work, is_planned_with_others))) => works.push((work, is_planned_with_others, shown, bytes)),
                Ok(None) => preview.tables.push(shown),
                Err(error) => {
                    shown.why.push(describe(&error));
                    preview.tables.push(shown);
                }
            }
        }
        let delta = run.delta(works.iter().filter(|(_, is_with_others, ..)| *is_with_others).map(|(work, ..)| work));
        let numbers = delta.as_ref().map(super::delta::Delta::numbers).unwrap_or_default();
        if let Some(delta) = &delta {
            let sql = delta.statement(&config.project, &config.log_table, window_to_us)?;
            let reads = self.estimate(&sql, deadline).await;
            preview.copy = Some(Planned { what: "copy of the news", sql, reads });
        }
        for (work, _, mut shown, bytes) in works {
            let share = delta
                .as_ref()
                .zip(numbers.get(&work.source))
                .map(|(delta, number)| Share { delta: &delta.name, number: *number });
            if let Err(error) = run.preview_statements(&work, share, bytes, &mut shown).await {
                shown.why.push(describe(&error));
            }
            preview.tables.push(shown);
        }
        let left_out =
            |source: &&SourceTable| asked.includes(source) && !config.tables.matches(&source.schema, &source.table);
        preview.tables.extend(plan.tables.keys().filter(left_out).map(|source| TablePreview {
            why: vec![LEFT_OUT.to_owned()],
            ..TablePreview::new(source, config.final_table.name_of(source))
        }));
        preview.tables.sort_by(|a, b| a.source.cmp(&b.source));
        Ok(preview)
    }

    async fn estimate(&self, sql: &str, deadline: Instant) -> Reads {
        match self.bigquery.estimate(sql, deadline).await {
            Ok(bytes) => Reads::Bytes(bytes),
            Err(error) => Reads::Unknown(InvocationError::describe(&error)),
        }
    }
}

impl Run<'_> {
    /// What is to be done for a table, and whether it is planned with the others, whose news may be copied at once; `None` if nothing can
    /// be, which `shown` then says.
    async fn previewed_work(
        &self,
        source: &SourceTable,
        table: Result<Option<Table>, TableError>,
        history: Option<&SourceHistory>,
        shown: &mut TablePreview,
    ) -> Result<Option<(Work, bool)>, TableError> {
        let config = &self.handler.config;
        let name = shown.final_table.clone();
        let newest = history.and_then(SourceHistory::newest);
        let (resource, is_new, definition) = match (table?, newest) {
            (Some(table), newest) => {
                if let Some(history) = history.filter(|_| is_made_by_strait(&table)) {
                    self.preview_alterations(source, &table, history, shown)?;
                }
                let definition = newest.filter(|_| !is_self_describing(&table));
                (table, false, definition)
            }
            (None, Some(newest)) => {
                let (table, _) = new_table(&config.project, &name, source, newest, config.deletes)?;
                shown.why.push(format!("{name} does not exist: it is created from the source's definition"));
                (table, true, Some(newest))
            }
            (None, None) => {
                shown.why.push(no_definition(source, &name));
                return Ok(None);
            }
        };
        let found = self.found(source, &resource, definition, is_new)?;
        let missing: Vec<&str> = found.table.missing_columns.iter().map(|column| column.name.as_str()).collect();
        if !missing.is_empty() && !is_new {
            shown.why.push(format!("columns are added to {name} first: {}", missing.join(", ")));
        }
        let mut standing = self.standing(source);
        if standing.highest_position.is_none() && !is_new {
            self.take_up(source, &found.table, &mut standing).await?;
        }
        let mut work = self.work(source.clone(), &found, standing, None)?;
        if let Some(state) = self.state.behind(source) {
            let reason = state.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
            shown
                .why
                .push(format!("it stands behind the other tables, {} in the last run{reason}", state.outcome.as_str()));
        }
        if work.unfinished.is_some() {
            shown.why.push("what an earlier run began is finished first".to_owned());
        }
        let is_planned_with_others = matches!(work.own, Own::Begun(..));
        if let Own::Behind = work.own {
            let mut standing = work.standing.clone();
            work.own = match self.own_news(source, &standing.coverage).await? {
                Some(news) => {
                    standing.learn(Some(&news), None, &work.table);
                    let begun = self.begin(source, &work.table, &standing, &news, work.is_retry)?;
                    work.standing = standing;
                    Own::Begun(Box::new(begun), Box::new(news))
                }
                None => Own::Nothing,
            };
        }
        match &work.own {
            Own::Begun(begun, news) => {
                shown.why.extend(in_words(begun, news, &work.standing));
                shown.window = Some(begun.window());
            }
            _ => shown.why.push("nothing of it is new".to_owned()),
        }
        Ok(Some((work, is_planned_with_others)))
    }

    fn found(
        &self,
        source: &SourceTable,
        resource: &Table,
        definition: Option<&SourceDefinition>,
        is_new: bool,
    ) -> Result<Found, TableError> {
        let config = &self.handler.config;
        let name = config.final_table.name_of(source);
        let table = FinalTable::existing(name, source, resource, definition, config.deletes)?;
        table.check_masks(source, &config.mask)?;
        Ok(Found { table, is_new, is_definition_due: false, is_history_known: true, for_a_person: Vec::new() })
    }

    /// The next step by which the run would alter the table; those after it depend on what BigQuery makes of it.
    fn preview_alterations(
        &self,
        source: &SourceTable,
        table: &Table,
        history: &SourceHistory,
        shown: &mut TablePreview,
    ) -> Result<(), TableError> {
        let config = &self.handler.config;
        let given_up = BTreeSet::new();
        let difference =
            schema_change::difference(&shown.final_table, source, table, history, config.dropped_columns, &given_up);
        shown.why.extend(difference.for_a_person);
        if let Some(step) = difference.step {
            shown.why.push(format!("the source was altered, so the final table is, first: {}", step.in_short()));
            for sql in step.statements(&config.project, &shown.final_table)? {
                shown.statements.push(Planned { what: "alteration", sql, reads: Reads::Bytes(0) });
            }
        }
        Ok(())
    }

    async fn preview_statements(
        &self,
        work: &Work,
        share: Option<Share<'_>>,
        final_bytes: Option<i64>,
        shown: &mut TablePreview,
    ) -> Result<(), TableError> {
        let Own::Begun(begun, _) = &work.own else {
            return Ok(());
        };
        if begun.changes() == 0 {
            return Ok(());
        }
        let config = &self.handler.config;
        let fold_name = fold::fold_table(&config.log_table, begun.key());
        let request = self.fold_request(&work.source, &work.table, &work.standing, begun, &fold_name);
        let sql = fold::statement(&FoldRequest { share, ..request })?;
        let reads = match share {
            Some(_) => Reads::Copy,
            None => self.handler.estimate(&sql, self.deadline).await,
        };
        shown.statements.push(Planned { what: "fold", sql, reads });
        let sql = fold::survey(&config.project, &fold_name, &work.table)?;
        shown.statements.push(Planned { what: "survey of the fold", sql, reads: Reads::Fold });
        let in_turn = self.in_turn(&work.source)?;
        let sql = statement::merge(&self.merge_request(work, begun, &fold_name, &in_turn))?;
        let reads = final_bytes.map_or(Reads::Fold, Reads::AtMost);
        shown.statements.push(Planned { what: "MERGE", sql, reads });
        Ok(())
    }
}

/// What is new of a table, and how much of the log that wants.
fn in_words(begun: &Begun, news: &News, standing: &Standing) -> Vec<String> {
    let mut why = Vec::new();
    let counted =
        |count: i64, what: &str| (count > 0).then(|| format!("{count} {what}{}", if count == 1 { "" } else { "s" }));
    let counts: Vec<String> = [
        counted(news.changes, "change"),
        counted(news.definitions, "definition"),
        counted(news.alterations, "alteration"),
    ]
    .into_iter()
    .flatten()
    .collect();
    why.push(format!("{} not merged yet", counts.join(", ")));
    match begun.look_back() {
        LookBack::None => {}
        LookBack::From(_) => why.push(
            "some may be older than what is merged: the log is read back to before they were committed".to_owned(),
        ),
        LookBack::Everything => why.push(
            "some may be older than what is merged, and how far back cannot be told: all of the log is read".to_owned(),
        ),
    }
    if begun.is_again() {
        why.push("records are merged again, because the final table can now hold what it could not".to_owned());
    }
    if standing.highest_position.is_none() {
        why.push("nothing of it was merged before".to_owned());
    }
    if standing.epochs.open().is_some() {
        why.push("a load is under way: what it does not bring is removed once it is known to be complete".to_owned());
    }
    why
}
