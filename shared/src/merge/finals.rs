//! The final tables of a run: those that exist are taken as they stand, one that does not is made from the source's newest
//! definition. Nothing is guessed: without a definition a table waits.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};

use crate::bigquery::table_resource::Table;
use crate::log::kept_out_table;
use crate::names::{SourceTable, TableName, fingerprint};

use super::answer::Asked;
use super::definition::SourceDefinition;
use super::final_table::{FinalTable, FinalTableProblem, is_self_describing, new_table};
use super::ledger::{LedgerState, Outcome};
use super::offsets;
use super::run::{Run, TABLES_AT_ONCE, TableError};
use super::statement;

/// A final table that a run may merge into.
pub(super) struct Found {
    pub(super) table: FinalTable,
    /// Whether this run made it.
    pub(super) is_new: bool,
}

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
        let existing: Vec<(&SourceTable, Result<Option<Table>, TableError>)> = stream::iter(candidates)
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

        // A definition is looked up for a table that does not exist, unless it waited for one before and none has come; for
        // one that a person made, whose columns' spelling may not be the source's; and when there is a new one.
        let wants_definition: Vec<&SourceTable> = existing
            .iter()
            .filter(|(source, table)| match table {
                Ok(Some(table)) => {
                    !is_self_describing(table) || self.plan.tables.get(source).is_some_and(|news| news.definitions > 0)
                }
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
        bigquery.create_table(&table, self.deadline).await?;
        tracing::info!(table = %source, final_table = %name, "created a final table");
        // As it stands now: somebody else may have been first.
        let table = bigquery.get_table(&name, self.deadline).await?.unwrap_or(table);
        self.take_table(source, &table, Some(definition)).await
    }

    /// Takes a table as it stands; columns that it lacks are added.
    async fn take_table(
        &self,
        source: &SourceTable,
        table: &Table,
        definition: Option<&SourceDefinition>,
    ) -> Result<FinalTable, TableError> {
        let config = &self.handler.config;
        let name = config.final_table.name_of(source);
        let table = FinalTable::existing(name, source, table, definition, config.deletes)?;
        if !table.missing_columns.is_empty() {
            let sql = statement::add_columns(&config.project, &table.name, &table.missing_columns)?;
            let id = format!("strait_alter_{}", fingerprint(&format!("{}\0{sql}", self.id), 24));
            self.handler.bigquery.run_query(&self.handler.job(&sql, id, "alter"), self.deadline).await?;
            let added: Vec<&str> = table.missing_columns.iter().map(|column| column.name.as_str()).collect();
            tracing::info!(table = %source, columns = added.join(", "), "added columns to a final table");
        }
        Ok(table)
    }
}
