//! The final tables of a run: those that exist are taken as they stand, one that does not is made from the source's newest
//! definition. Nothing is guessed: without a definition a table waits.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::bigquery::table_resource::Table;
use crate::log::kept_out_table;
use crate::names::{SourceTable, TableName, fingerprint};

use super::answer::{Asked, Word};
use super::definition::{SourceDefinition, SourceHistory};
use super::final_table::{
    FinalTable, FinalTableProblem, check_masked_key, is_made_by_strait, is_self_describing, new_table,
};
use super::ledger::{LedgerState, Outcome};
use super::offsets;
use super::run::{Run, TABLES_AT_ONCE, TableError};
use super::schema_change;
use super::statement;

/// A final table that a run may merge into.
pub(super) struct Found {
    pub(super) table: FinalTable,
    /// Whether this run made it.
    pub(super) is_new: bool,
    /// Whether its source's definition could not be applied yet, because an earlier run's work on it is not finished.
    pub(super) is_definition_due: bool,
    /// Whether the log says how its source was altered.
    pub(super) is_history_known: bool,
    /// What a person has to do about what was altered at the source.
    pub(super) for_a_person: Vec<String>,
}

/// Steps by which a run alters one table; there are as many as its source has altered columns, a few times each.
const STEPS_AT_MOST: usize = 1_000;

/// The tables and views that are named after the log.
fn derived_names(log: &TableName) -> [TableName; 3] {
    [kept_out_table(log), offsets::gaps_view(log), offsets::duplicates_view(log)]
}

/// Why a table waits that has neither a final table nor a definition.
pub(super) fn no_definition(source: &SourceTable, name: &TableName) -> String {
    format!(
        "no create-table record with a definition has arrived and {name} does not exist: create it (the command \
         `strait schema {source}` proposes the statement), or reload the table with IncludeControlDetails on the DMS endpoint"
    )
}

impl Run<'_> {
    /// The final table of every table that this run may merge; a table without one and without a definition is left out.
    pub(super) async fn finals(
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
        let sources = &self.sources_of_finals(state);
        let mut existing: Vec<(&SourceTable, Result<Option<Table>, TableError>)> = stream::iter(candidates)
            .map(|source| async move {
                let name = config.final_table.name_of(source);
                let is_own = [&config.log_table, &config.merges_table, &config.quarantine_table].contains(&&name)
                    || derived_names(&config.log_table).contains(&name);
                let table = if is_own {
                    Err(TableError::Problem(FinalTableProblem::OwnTable { final_table: name }))
                } else if let Some(other) =
                    sources.get(&name).and_then(|sources| sources.iter().find(|other| **other != source))
                {
                    let other = other.to_string();
                    Err(TableError::Problem(FinalTableProblem::Shared { final_table: name, other }))
                } else {
                    bigquery.get_table(&name, self.deadline).await.map_err(TableError::from)
                };
                (source, table)
            })
            .buffer_unordered(TABLES_AT_ONCE)
            .collect()
            .await;

        // Looked at only because it lacks columns, which a person may have added: as long as it does, there is nothing to do.
        existing.retain(|(source, table)| {
            let lacks_as_before = |table: &Table| {
                let own = state.tables.get(*source);
                own.is_some_and(|own| !own.unfilled.is_definition_due() && !own.unfilled.may_be_met(table))
            };
            !self.is_only_lacking(source) || !matches!(table, Ok(Some(table)) if lacks_as_before(table))
        });

        // A definition is looked up for a table that does not exist, unless it waited for one before and none has come; for
        // one that a person made, whose columns' spelling may not be the source's; and when there is a new one.
        let wants_definition: Vec<&SourceTable> = existing
            .iter()
            .filter(|(source, table)| match table {
                Ok(Some(table)) => !is_self_describing(table) || self.may_be_altered(source, state),
                Ok(None) => {
                    let reason = no_definition(source, &config.final_table.name_of(source));
                    let looked_before = state.tables.get(source).is_some_and(|table| {
                        table.outcome == Outcome::Waiting && table.reason.as_deref() == Some(&reason)
                    });
                    !looked_before || self.plan.tables.get(source).is_some_and(|news| news.definitions > 0)
                }
                Err(_) => false,
            })
            .map(|(source, _)| *source)
            .collect();
        let definitions = self.definitions(&wants_definition).await?;

        let definitions = &definitions;
        // Each dataset once, before the tables are made side by side.
        let datasets: BTreeSet<String> = existing
            .iter()
            .filter(|(source, table)| matches!(table, Ok(None)) && definitions.contains_key(source))
            .map(|(source, _)| config.final_table.name_of(source).dataset)
            .collect();
        for dataset in &datasets {
            bigquery.ensure_dataset(dataset, self.deadline).await?;
        }
        let taken: Vec<(SourceTable, Option<Result<Found, TableError>>)> = stream::iter(existing)
            .map(|(source, table)| async move {
                let definition = definitions.get(source);
                let result = match (table, definition) {
                    (Err(error), _) => Some(Err(error)),
                    (Ok(Some(table)), history) => Some(self.take_table(source, table, history, state).await),
                    (Ok(None), Some(history)) => match history.newest() {
                        Some(definition) => Some(self.create_final(source, definition, history).await),
                        None => None,
                    },
                    (Ok(None), None) => None,
                };
                (source.clone(), result)
            })
            .buffer_unordered(TABLES_AT_ONCE)
            .collect()
            .await;
        Ok(taken.into_iter().filter_map(|(source, result)| Some((source, result?))).collect())
    }

    /// The source tables that the configuration maps to each final table, among all that were ever seen.
    fn sources_of_finals<'s>(&'s self, state: &'s LedgerState) -> BTreeMap<TableName, BTreeSet<&'s SourceTable>> {
        let config = &self.handler.config;
        let mut sources: BTreeMap<TableName, BTreeSet<&SourceTable>> = BTreeMap::new();
        for source in state.tables.keys().chain(self.plan.tables.keys()) {
            if config.tables.matches(&source.schema, &source.table) {
                sources.entry(config.final_table.name_of(source)).or_default().insert(source);
            }
        }
        sources
    }

    async fn definitions(&self, sources: &[&SourceTable]) -> Result<BTreeMap<SourceTable, SourceHistory>, TableError> {
        let mut definitions: BTreeMap<SourceTable, SourceHistory> = BTreeMap::new();
        if sources.is_empty() {
            return Ok(definitions);
        }
        let config = &self.handler.config;
        let sql = statement::definitions(&config.project, &config.log_table, sources)?;
        for row in self.handler.read(&sql, "definitions", &self.id, self.deadline).await? {
            let [Some(schema), Some(table), Some(operation), Some(control)] = row.as_slice() else {
                return Err(TableError::Unexpected { what: "a definition's columns".to_owned() });
            };
            let source = SourceTable { schema: schema.clone(), table: table.clone() };
            if let Err(error) = definitions.entry(source.clone()).or_default().take(operation, control) {
                tracing::warn!(table = %source, reason = %error, "a definition cannot be used");
            }
        }
        Ok(definitions)
    }

    async fn create_final(
        &self,
        source: &SourceTable,
        definition: &SourceDefinition,
        history: &SourceHistory,
    ) -> Result<Found, TableError> {
        let config = &self.handler.config;
        let bigquery = &self.handler.bigquery;
        let name = config.final_table.name_of(source);
        check_masked_key(&name, source, definition.primary_key.iter().map(String::as_str), &config.mask)?;
        let (table, unknown) = new_table(&config.project, &name, source, definition, config.deletes)?;
        if !unknown.is_empty() {
            tracing::warn!(table = %source, columns = unknown.join(", "), "types that are not known become STRING");
        }
        bigquery.create_table(&table, self.deadline).await?;
        tracing::info!(table = %source, final_table = %name, "created a final table");
        if definition.primary_key.is_empty() {
            tracing::warn!(
                table = %source,
                "the source's table has no primary key: each loaded or inserted row is added once, updates and deletes go to the quarantine (of \
                 PostgreSQL DMS sends none), and a row that DMS sends again without its position is added again"
            );
        }
        // As it stands now: somebody else may have been first.
        let table = bigquery.get_table(&name, self.deadline).await?.unwrap_or(table);
        // Records from before a column was renamed may still come.
        let (table, for_a_person) = match is_made_by_strait(&table) {
            true => self.alter(source, table, history).await?,
            false => (table, Vec::new()),
        };
        Ok(Found { is_new: true, for_a_person, ..self.take(source, &table, Some(definition)).await? })
    }

    /// Takes a table as it stands, after what its source altered is altered in it, too.
    async fn take_table(
        &self,
        source: &SourceTable,
        table: Table,
        history: Option<&SourceHistory>,
        state: &LedgerState,
    ) -> Result<Found, TableError> {
        // What an earlier run began has to be finished with the columns that it knew.
        let is_unfinished =
            state.tables.get(source).is_some_and(|own| own.outcome == Outcome::Running && own.work.is_some());
        let Some(history) = history.filter(|_| is_made_by_strait(&table)) else {
            let mut found = self.take(source, &table, history.and_then(SourceHistory::newest)).await?;
            if let Some(history) = history
                && self.plan.tables.get(source).is_some_and(|news| news.alterations > 0)
            {
                found.for_a_person.extend(schema_change::for_the_owner(&found.table.name, source, history));
            }
            return Ok(found);
        };
        if is_unfinished {
            return Ok(Found {
                is_definition_due: true,
                is_history_known: true,
                ..self.take(source, &table, history.newest().filter(|_| !is_self_describing(&table))).await?
            });
        }
        let (table, for_a_person) = self.alter(source, table, history).await?;
        Ok(Found { for_a_person, is_history_known: true, ..self.take(source, &table, history.newest()).await? })
    }

    /// Brings a table that Strait made to its source's definition, step by step.
    async fn alter(
        &self,
        source: &SourceTable,
        mut table: Table,
        history: &SourceHistory,
    ) -> Result<(Table, Vec<String>), TableError> {
        let config = &self.handler.config;
        let (project, name) = (config.project.as_str(), config.final_table.name_of(source));
        let (mut given_up, mut given_up_for_a_person) = (BTreeSet::new(), Vec::new());
        for _ in 0..STEPS_AT_MOST {
            let mut difference =
                schema_change::difference(&name, source, &table, history, config.dropped_columns, &given_up);
            let Some(step) = difference.step else {
                difference.for_a_person.append(&mut given_up_for_a_person);
                return Ok((table, difference.for_a_person));
            };
            tracing::info!(table = %source, final_table = %name, step = ?step.in_short(), "altering a final table");
            // Before anything is written, for what cannot be converted would be written again by every run.
            if let Some(query) = step.unconvertible(project, &name)?
                && self.number(&query, "unconvertible").await? > 0
            {
                given_up.extend(step.columns().map(str::to_owned));
                given_up_for_a_person.extend(step.by_hand(&name));
                continue;
            }
            let unconverted = step.unconverted(project, &name)?;
            // A job that an earlier run did not see the end of may have done it.
            let is_filled = match &unconverted {
                Some(query) => self.number(query, "filled").await? == 0,
                None => false,
            };
            let statements = step.statements(project, &name)?;
            for (place, sql) in statements.iter().enumerate() {
                let is_last = place.saturating_add(1) == statements.len();
                if is_filled && !is_last {
                    continue;
                }
                if is_last
                    && !is_filled
                    && let Some(query) = &unconverted
                    && self.number(query, "unconverted").await? > 0
                {
                    given_up.extend(step.columns().map(str::to_owned));
                    given_up_for_a_person.extend(step.by_hand(&name));
                    break;
                }
                self.run_alter(sql).await?;
            }
            table = self.handler.bigquery.get_table(&name, self.deadline).await?.unwrap_or(table);
        }
        Err(TableError::Unexpected { what: format!("{name} stays other than its source after {STEPS_AT_MOST} steps") })
    }

    /// A statement that takes long must not take the time of all other tables' merges.
    async fn run_alter(&self, sql: &str) -> Result<(), TableError> {
        let id = format!("strait_alter_{}", fingerprint(&format!("{}\0{sql}", self.id), 24));
        let now = Instant::now();
        let deadline = now + self.deadline.saturating_duration_since(now) / 2;
        self.handler.bigquery.run_query(&self.handler.job(sql, id, "alter"), deadline).await?;
        Ok(())
    }

    /// `what` tells apart two answers to one question in a run.
    async fn number(&self, sql: &str, what: &str) -> Result<i64, TableError> {
        let rows = self.handler.read(sql, what, &self.id, self.deadline).await?;
        let number = rows.into_iter().flatten().next().flatten().and_then(|number| number.parse().ok());
        number.ok_or_else(|| TableError::Unexpected { what: "a count".to_owned() })
    }

    /// Whether a self-describing table may have been altered at the source since it was altered here.
    fn may_be_altered(&self, source: &SourceTable, state: &LedgerState) -> bool {
        let has_news = self.plan.tables.get(source).is_some_and(|news| news.definitions > 0 || news.alterations > 0);
        // The record that says so may have been taken for seen by a run that failed before it had altered anything.
        let is_behind = state
            .tables
            .get(source)
            .is_some_and(|own| own.outcome != Outcome::Merged || own.unfilled.is_definition_due());
        has_news || is_behind || matches!(self.asked.word, Some(Word::MergeAgain(_)))
    }

    /// Whether a table has nothing for a run but columns that it lacks.
    fn is_only_lacking(&self, source: &SourceTable) -> bool {
        let own = self.state.tables.get(source);
        own.is_some_and(|own| {
            own.outcome == Outcome::Merged && own.epochs.open().is_none() && !own.epochs.may_lack_a_start()
        }) && !self.plan.tables.contains_key(source)
            && self.asked.word.is_none()
    }

    /// Takes a table as it stands; columns that it lacks are added.
    async fn take(
        &self,
        source: &SourceTable,
        table: &Table,
        definition: Option<&SourceDefinition>,
    ) -> Result<Found, TableError> {
        let config = &self.handler.config;
        let name = config.final_table.name_of(source);
        let table = FinalTable::existing(name, source, table, definition, config.deletes)?;
        table.check_masks(source, &config.mask)?;
        if !table.missing_columns.is_empty() {
            self.run_alter(&statement::add_columns(&config.project, &table.name, &table.missing_columns)?).await?;
            let added: Vec<&str> = table.missing_columns.iter().map(|column| column.name.as_str()).collect();
            tracing::info!(table = %source, columns = added.join(", "), "added columns to a final table");
        }
        Ok(Found {
            is_history_known: definition.is_some(),
            table,
            is_new: false,
            is_definition_due: false,
            for_a_person: Vec::new(),
        })
    }
}
