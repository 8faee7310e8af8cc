//! What a run would do if it began now: which tables, from which window, by which statements, reading how much, and why. It takes the
//! same decisions by the same code as [`super::run`], and must never write: no table, no job that is not a query or a dry run, no ledger entry.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::bigquery::table_resource::Table;
use crate::lambda::InvocationError;
use crate::names::{SourceTable, TableName};

use super::answer::Asked;
use super::delta::{Delta, Share};
use super::epoch::Gone;
use super::final_table::{FinalTable, is_made_by_strait, is_self_describing};
use super::finals::{Found, held_definition, no_definition};
use super::fold::{self, FoldRequest, LookBack};
use super::ledger::LedgerState;
use super::partitions;
use super::plan::{self, News};
use super::run::{
    LEFT_OUT, MergeHandler, Run, TABLES_AT_ONCE, TableError, concerned, describe, into_invocation_error, is_missing,
    now_us, read_plan,
};
use super::schema_change;
use super::source_history::SourceHistory;
use super::statement::{self, MergeRequest};
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
    /// Nothing but the table's description.
    Nothing,
    /// So many bytes, by BigQuery's own dry run.
    Bytes(i64),
    /// At most so many bytes: those that the final table has in all. Its literals, which only the fold knows, leave fewer.
    AtMost(i64),
    /// The table's partition of the copy.
    Copy,
    /// The fold alone: a row per changed key.
    Fold,
    /// Of the final table the columns that tell rows apart, where it is run at all.
    Keys,
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
        let state = match self.known_state(&id, deadline).await {
            Ok(state) => state,
            Err(TableError::BigQuery(error)) if is_missing(&error) => {
                preview.notes.push(format!("nothing was merged yet: {} does not exist", config.merges_table));
                LedgerState::default()
            }
            Err(error) => return Err(error),
        };
        let furthest = state.furthest();
        let sql = plan::query(&config.project, &config.log_table, &furthest, None, None)?;
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
        let plan = read_plan(&rows)?;
        let Some(window_to_us) = plan.window_to_us.max(furthest.to_us) else {
            return Ok(preview);
        };
        let run = Run::new(self, &id, deadline, window_to_us, (&plan, &state), asked);
        let concerned = concerned(&plan, &state, asked);
        let existing = run.existing(&concerned, &state, asked).await;
        let wanted = run.wants_definition(&existing, &state);
        let definitions = run.definitions(&existing, &wanted, &state).await;

        let (run, definitions) = (&run, &definitions);
        let looked_at: Vec<LookedAt> = stream::iter(existing)
            .map(|(source, table)| run.look_at(source, table, definitions.get(source)))
            .buffer_unordered(TABLES_AT_ONCE)
            .collect()
            .await;
        let works = looked_at.iter().filter(|table| table.is_with_others).filter_map(|table| table.work.as_ref());
        let delta = run.delta(works);
        if let Some(delta) = &delta {
            let sql = delta.statement(&config.project, &config.log_table, window_to_us)?;
            let reads = self.estimate(&sql, deadline).await;
            preview.copy = Some(Planned { what: "copy of the news", sql, reads });
        }
        let delta = delta.as_ref();
        preview.tables = stream::iter(looked_at)
            .map(|table| run.statements_of(table, delta))
            .buffer_unordered(TABLES_AT_ONCE)
            .collect()
            .await;
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
            Ok(Some(bytes)) => Reads::Bytes(bytes),
            Ok(None) => Reads::Unknown("its dry run tells no bytes".to_owned()),
            Err(error) => Reads::Unknown(InvocationError::describe(&error)),
        }
    }
}

/// A table on the way to its preview.
struct LookedAt {
    shown: TablePreview,
    /// What is to be done; `None` if nothing can be.
    work: Option<Work>,
    /// Whether it is planned with the others, whose news may be copied at once.
    is_with_others: bool,
    /// Bytes of the final table, as far as BigQuery says.
    final_bytes: Option<i64>,
}

impl Run<'_> {
    /// What is to be done for a table, and why.
    async fn look_at(
        &self,
        source: &SourceTable,
        table: Result<Option<Table>, TableError>,
        history: Option<&Result<SourceHistory, String>>,
    ) -> LookedAt {
        let shown = TablePreview::new(source, self.handler.config.final_table.name_of(source));
        let final_bytes = table.as_ref().ok().and_then(|table| table.as_ref()?.num_bytes.as_ref()?.parse().ok());
        let mut looked_at = LookedAt { shown, work: None, is_with_others: false, final_bytes };
        if let Err(error) = self.plan_table(source, table, history, &mut looked_at).await {
            looked_at.shown.why.push(describe(&error));
        }
        looked_at
    }

    async fn plan_table(
        &self,
        source: &SourceTable,
        table: Result<Option<Table>, TableError>,
        history: Option<&Result<SourceHistory, String>>,
        looked_at: &mut LookedAt,
    ) -> Result<(), TableError> {
        let history = history
            .map(|history| history.as_ref().map_err(|reason| TableError::Definitions { reason: reason.clone() }))
            .transpose()?;
        let Some(found) = self.found(source, table?, history, looked_at)? else {
            looked_at.shown.why.push(no_definition(source, &looked_at.shown.final_table));
            return Ok(());
        };
        let mut standing = self.standing(source);
        if standing.highest_position.is_none() && !found.is_new {
            self.take_up(source, &found.table, &mut standing).await?;
        }
        let mut work = self.work(source.clone(), &found, standing, None)?;
        let why = &mut looked_at.shown.why;
        if let Some(state) = self.state.behind(source) {
            let reason = state.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
            why.push(format!("it stands behind the other tables, {} in the last run{reason}", state.outcome.as_str()));
        }
        if work.unfinished.is_some() {
            why.push("what an earlier run began is finished first; its statements are not shown".to_owned());
        }
        looked_at.is_with_others = matches!(work.own, Own::Begun(..));
        if matches!(work.own, Own::Behind) {
            let mut standing = work.standing.clone();
            let word = self.asked.word.filter(|_| self.asked.includes(source));
            work.own = match self.plan_behind(&work, &mut standing, word).await? {
                Some((begun, news)) => Own::Begun(Box::new(begun), Box::new(news)),
                None => Own::Nothing,
            };
            work.standing = standing;
        }
        match &work.own {
            Own::Begun(begun, news) => {
                why.extend(in_words(begun, news, &work.standing));
                looked_at.shown.window = Some(begun.window());
            }
            _ => why.push("nothing of it is new".to_owned()),
        }
        looked_at.work = Some(work);
        Ok(())
    }

    /// The final table as the run would take it, before its alterations; `None` without one and without a definition.
    fn found(
        &self,
        source: &SourceTable,
        table: Option<Table>,
        history: Option<&SourceHistory>,
        looked_at: &mut LookedAt,
    ) -> Result<Option<Found>, TableError> {
        let config = &self.handler.config;
        let name = looked_at.shown.final_table.clone();
        let newest = history.and_then(SourceHistory::newest);
        let is_new = table.is_none();
        let is_unfinished = self.is_unfinished(source);
        let (resource, definition) = match (table, history, newest) {
            (Some(table), Some(history), _) if is_made_by_strait(&table) && is_unfinished => {
                let definition = history.newest().filter(|_| !is_self_describing(&table)).cloned();
                (table, definition)
            }
            (Some(table), Some(history), _) if is_made_by_strait(&table) => {
                self.preview_alterations(source, &table, history, looked_at)?;
                let definition = held_definition(&table, history);
                (table, definition)
            }
            (Some(table), history, newest) => {
                looked_at
                    .shown
                    .why
                    .extend(history.into_iter().flat_map(|history| self.for_the_owner(&name, source, history)));
                (table, newest.cloned())
            }
            (None, Some(history), Some(newest)) => {
                let (table, _) = self.proposed(source, newest, history)?;
                looked_at.shown.why.push(format!("{name} does not exist: it is created from the source's definition"));
                (table, Some(newest.clone()))
            }
            (None, ..) => return Ok(None),
        };
        let table = FinalTable::existing(name, source, &resource, definition.as_ref(), config.deletes)?;
        table.check_masks(source, &config.mask)?;
        if !table.missing_columns.is_empty() && !is_new {
            let sql = statement::add_columns(&config.project, &table.name, &table.missing_columns)?;
            looked_at.shown.statements.push(Planned { what: "alteration", sql, reads: Reads::Nothing });
        }
        Ok(Some(Found {
            table,
            is_new,
            is_definition_due: is_unfinished && history.is_some(),
            is_history_known: definition.is_some(),
            for_a_person: Vec::new(),
        }))
    }

    /// The next step by which the run would alter the table; those after it depend on what BigQuery makes of it.
    fn preview_alterations(
        &self,
        source: &SourceTable,
        table: &Table,
        history: &SourceHistory,
        looked_at: &mut LookedAt,
    ) -> Result<(), TableError> {
        let config = &self.handler.config;
        let shown = &mut looked_at.shown;
        let given_up = BTreeSet::new();
        let difference =
            schema_change::difference(&shown.final_table, source, table, history, config.dropped_columns, &given_up);
        shown.why.extend(difference.for_a_person);
        let Some(step) = difference.step else {
            return Ok(());
        };
        shown.why.push(format!(
            "the source was altered, so the final table is, first: {}; its fold and MERGE are shown with the columns as they are now",
            step.in_short()
        ));
        let of_table = looked_at.final_bytes.map_or_else(unknown_size, Reads::AtMost);
        let counts = [
            step.unconvertible(&config.project, &shown.final_table)?,
            step.unconverted(&config.project, &shown.final_table)?,
        ];
        for sql in counts.into_iter().flatten() {
            shown.statements.push(Planned { what: "count of what cannot be converted", sql, reads: of_table.clone() });
        }
        for sql in step.statements(&config.project, &shown.final_table)? {
            let reads = if sql.starts_with("ALTER") { Reads::Nothing } else { of_table.clone() };
            shown.statements.push(Planned { what: "alteration", sql, reads });
        }
        Ok(())
    }

    /// The table with its statements.
    async fn statements_of(&self, looked_at: LookedAt, delta: Option<&Delta>) -> TablePreview {
        let LookedAt { mut shown, work, final_bytes, .. } = looked_at;
        if let Some(work) = work {
            let share = delta.and_then(|delta| delta.share(&work.source));
            if let Err(error) = self.preview_statements(&work, share, final_bytes, &mut shown).await {
                shown.why.push(describe(&error));
            }
        }
        shown
    }

    async fn preview_statements(
        &self,
        work: &Work,
        share: Option<Share<'_>>,
        final_bytes: Option<i64>,
        shown: &mut TablePreview,
    ) -> Result<(), TableError> {
        let of_table = final_bytes.map_or_else(unknown_size, Reads::AtMost);
        if let Some(position) = work.standing.epochs.emptying() {
            let sql = self.sweep_statement(work, &Gone::emptied(&position))?;
            let reads = of_table.clone();
            shown.statements.push(Planned { what: "removal of what the source emptied", sql, reads });
        }
        match &work.own {
            Own::Begun(begun, _) if begun.changes() > 0 => {
                self.preview_merge(work, begun, share, of_table, shown).await
            }
            _ => Ok(()),
        }
    }

    async fn preview_merge(
        &self,
        work: &Work,
        begun: &Begun,
        share: Option<Share<'_>>,
        of_table: Reads,
        shown: &mut TablePreview,
    ) -> Result<(), TableError> {
        let config = &self.handler.config;
        let fold_name = fold::fold_table(&config.log_table, begun.key());
        let request = self.fold_request(&work.source, &work.table, &work.standing, begun, &fold_name);
        let sql = fold::statement(&FoldRequest { share, ..request })?;
        let reads = match share {
            Some(_) => Reads::Copy,
            None => self.handler.estimate(&sql, self.deadline).await,
        };
        shown.statements.push(Planned { what: "fold", sql, reads });
        let sql = fold::survey(&config.project, &fold_name, &work.table, true)?;
        shown.statements.push(Planned { what: "survey of the fold", sql, reads: Reads::Fold });
        let in_turn = self.in_turn(&work.source)?;
        let request = self.merge_request(work, begun, &fold_name, &in_turn);
        let sql = statement::merge(&MergeRequest { adds_only: true, ..request })?;
        shown.statements.push(Planned {
            what: "MERGE of new keys alone, if all changes are inserts",
            sql,
            reads: Reads::Keys,
        });
        if let Some(sql) = partitions::query(&config.project, &fold_name, &work.table)? {
            shown.statements.push(Planned { what: "partitions of its rows", sql, reads: of_table.clone() });
        }
        let sql = statement::merge(&request)?;
        shown.statements.push(Planned { what: "MERGE, unless all keys were new", sql, reads: of_table });
        Ok(())
    }
}

/// Of a table that is not there yet, or of which BigQuery says nothing.
fn unknown_size() -> Reads {
    Reads::Unknown("the final table's size is not known".to_owned())
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
        counted(i64::try_from(news.truncated.len()).unwrap_or(i64::MAX), "TRUNCATE"),
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
    if standing.epochs.emptying().is_some() {
        why.push("the source emptied the table (TRUNCATE): what is older than that is removed".to_owned());
    }
    why
}
