//! The final tables of a run: those that exist are taken as they stand, one that does not is made from the source's newest
//! definition. Nothing is guessed: without a definition a table waits.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};

use crate::bigquery::table_resource::Table;
use crate::log::kept_out_table;
use crate::names::{OWN_PREFIX, SourceTable, TableName, fingerprint};

use super::answer::{Asked, Word};
use super::coverage::REACH_BACK_US;
use super::definition::{ControlRecord, SourceDefinition};
use super::epoch::Epochs;
use super::final_table::{
    FinalTable, FinalTableProblem, check_masked_key, claimed, is_made_by_strait, is_self_describing, names_of,
    new_table,
};
use super::ledger::{LedgerState, Outcome};
use super::offsets;
use super::plan::News;
use super::run::{Run, TABLES_AT_ONCE, TableError, describe};
use super::schema_change::{self, Step};
use super::source_history::SourceHistory;
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

/// The newest definition of the columns that a table holds: what could not be added to it is not added when it is taken, either.
pub(super) fn held_definition(table: &Table, history: &SourceHistory) -> Option<SourceDefinition> {
    let newest = history.newest()?;
    let claimed = claimed(&table.schema.fields);
    let names = |field| names_of(field, Some(newest), &claimed);
    let held: BTreeSet<String> = table.schema.fields.iter().map(|field| names(field).now.name).collect();
    let columns = newest.columns.iter().filter(|column| held.contains(&column.name)).cloned().collect();
    Some(SourceDefinition { columns, primary_key: newest.primary_key.clone() })
}

/// Why a table waits that has neither a final table nor a definition.
pub(super) fn no_definition(source: &SourceTable, name: &TableName) -> String {
    format!(
        "no create-table record with a definition has arrived and {name} does not exist: create it (the command \
         `strait schema {source}` proposes the statement), or reload the table with IncludeControlDetails on the DMS endpoint"
    )
}

impl Run<'_> {
    /// The tables that this run may merge and that may have something for it, each with its final table as it stands.
    pub(super) async fn existing<'t>(
        &self,
        concerned: &'t BTreeSet<SourceTable>,
        state: &LedgerState,
        asked: &Asked,
    ) -> Vec<(&'t SourceTable, Result<Option<Table>, TableError>)> {
        let config = &self.handler.config;
        let bigquery = &self.handler.bigquery;
        let candidates: Vec<&'t SourceTable> = concerned
            .iter()
            .filter(|source| asked.includes(source) && config.tables.matches(&source.schema, &source.table))
            .collect();
        let sources = &self.sources_of_finals(state);
        let mut existing: Vec<(&'t SourceTable, Result<Option<Table>, TableError>)> = stream::iter(candidates)
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
        existing
    }

    /// The final table of every table that this run may merge; a table without one and without a definition is left out.
    pub(super) async fn finals(
        &self,
        concerned: &BTreeSet<SourceTable>,
        state: &LedgerState,
        asked: &Asked,
    ) -> Result<BTreeMap<SourceTable, Result<Found, TableError>>, TableError> {
        let config = &self.handler.config;
        let bigquery = &self.handler.bigquery;
        let existing = self.existing(concerned, state, asked).await;
        let wants_definition = self.wants_definition(&existing, state);
        let definitions = self.definitions(&existing, &wants_definition, state).await;

        let definitions = &definitions;
        // Each dataset once, before the tables are made side by side.
        let datasets: BTreeSet<String> = existing
            .iter()
            .filter(|(source, table)| matches!(table, Ok(None)) && matches!(definitions.get(source), Some(Ok(_))))
            .map(|(source, _)| config.final_table.name_of(source).dataset)
            .collect();
        for dataset in &datasets {
            bigquery.ensure_dataset(dataset, self.deadline).await?;
        }
        let taken: Vec<(SourceTable, Option<Result<Found, TableError>>)> = stream::iter(existing)
            .map(|(source, table)| async move {
                let history = match definitions.get(source) {
                    Some(Err(reason)) => {
                        return (source.clone(), Some(Err(TableError::Definitions { reason: reason.clone() })));
                    }
                    Some(Ok(history)) => Some(history),
                    None => None,
                };
                let result = match (table, history) {
                    (Err(error), _) => Some(Err(error)),
                    (Ok(Some(table)), history) => Some(self.take_table(source, table, history).await),
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

    /// A definition is looked up for a table that does not exist, unless it waited for one before and none has come; for
    /// one that a person made, whose columns' spelling may not be the source's; and when there is a new one.
    pub(super) fn wants_definition<'t>(
        &self,
        existing: &[(&'t SourceTable, Result<Option<Table>, TableError>)],
        state: &LedgerState,
    ) -> Vec<&'t SourceTable> {
        existing
            .iter()
            .filter(|(source, table)| match table {
                Ok(Some(table)) => !is_self_describing(table) || self.may_be_altered(source, state),
                Ok(None) => {
                    let reason = no_definition(source, &self.handler.config.final_table.name_of(source));
                    let looked_before = state.tables.get(source).is_some_and(|table| {
                        table.outcome == Outcome::Waiting && table.reason.as_deref() == Some(&reason)
                    });
                    !looked_before || self.plan.tables.get(source).is_some_and(|news| news.definitions > 0)
                }
                Err(_) => false,
            })
            .map(|(source, _)| *source)
            .collect()
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

    /// What is known of the definitions of these tables: what the ledger remembers, and of those that want it what the log holds since then.
    /// Where the log cannot be read, why; the other tables go on.
    pub(super) async fn definitions(
        &self,
        existing: &[(&SourceTable, Result<Option<Table>, TableError>)],
        wanted: &[&SourceTable],
        state: &LedgerState,
    ) -> BTreeMap<SourceTable, Result<SourceHistory, String>> {
        let known = |source: &SourceTable| state.tables.get(source).and_then(|own| own.definitions.clone());
        let sought: Vec<(&SourceTable, Option<i64>)> = wanted
            .iter()
            .map(|source| (*source, known(source).map(|known| known.read_to_us())))
            // What became visible late was ingested before what was read.
            .map(|(source, read_to)| (source, read_to.map(|read_to| read_to.saturating_sub(REACH_BACK_US))))
            .filter(|(source, from)| from.is_none() || self.may_have_definitions(source, state))
            .collect();
        let read = self.read_definitions(&sought).await;
        let mut histories = BTreeMap::new();
        for (source, table) in existing {
            let mut definitions = known(source).unwrap_or_default();
            if sought.iter().any(|(sought, _)| sought == source) {
                match &read {
                    Ok(read) => {
                        read.get(*source).into_iter().flatten().for_each(|record| definitions.take(record.clone()));
                        definitions.read_to(self.window_to_us);
                        if let Ok(mut remembered) = self.remembered.lock() {
                            remembered.insert((*source).clone(), definitions.clone());
                        }
                    }
                    Err(error) => {
                        histories.insert((*source).clone(), Err(describe(error)));
                        continue;
                    }
                }
            }
            // One that says of itself all that a merge needs is altered only if something is new.
            let is_used = match table {
                Ok(Some(table)) => !is_self_describing(table) || wanted.contains(source),
                _ => true,
            };
            if let Some(history) = definitions.history().filter(|_| is_used) {
                histories.insert((*source).clone(), Ok(history));
            }
        }
        histories
    }

    /// Whether the log may hold control records of a table that are not remembered.
    fn may_have_definitions(&self, source: &SourceTable, state: &LedgerState) -> bool {
        let has_news = self.plan.tables.get(source).is_some_and(|news| news.definitions > 0 || news.alterations > 0);
        // Its news are what came since another table's coverage.
        let is_behind = state.tables.get(source).is_none_or(|own| own.outcome != Outcome::Merged);
        has_news || is_behind || matches!(self.asked.word, Some(Word::MergeAgain(_)))
    }

    async fn read_definitions(
        &self,
        sought: &statement::Sought<'_>,
    ) -> Result<BTreeMap<SourceTable, Vec<ControlRecord>>, TableError> {
        let mut read: BTreeMap<SourceTable, Vec<ControlRecord>> = BTreeMap::new();
        if sought.is_empty() {
            return Ok(read);
        }
        let (project, log) = (&self.handler.config.project, &self.handler.config.log_table);
        let unexpected = || TableError::Unexpected { what: "a definition's columns".to_owned() };
        let sql = statement::definition_hours(project, log, sought)?;
        let mut hours = BTreeSet::new();
        for row in self.handler.read(&sql, "definition_hours", &self.id, self.deadline).await? {
            let hour = row.first().and_then(|hour| hour.as_deref()?.parse().ok());
            hours.insert(hour.ok_or_else(unexpected)?);
        }
        if hours.is_empty() {
            return Ok(read);
        }
        let sql = statement::definitions(project, log, sought, &hours)?;
        for row in self.handler.read(&sql, "definitions", &self.id, self.deadline).await? {
            let [
                Some(schema),
                Some(table),
                Some(operation),
                Some(control),
                Some(sent),
                Some(topic),
                Some(partition),
                Some(offset),
            ] = row.as_slice()
            else {
                return Err(unexpected());
            };
            let number = |text: &str| text.parse::<i64>().map_err(|_| unexpected());
            let kafka = (topic.clone(), number(partition)?, number(offset)?);
            let source = SourceTable { schema: schema.clone(), table: table.clone() };
            match ControlRecord::new(number(sent)?, kafka, operation, control) {
                Ok(record) => read.entry(source).or_default().push(record),
                Err(error) => tracing::warn!(table = %source, reason = %error, "a definition cannot be used"),
            }
        }
        Ok(read)
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
        let (table, unknown) = self.proposed(source, definition, history)?;
        if !unknown.is_empty() {
            tracing::warn!(table = %source, columns = unknown.join(", "), "types that are not known become STRING");
        }
        let moments: Vec<&str> = table
            .schema
            .fields
            .iter()
            .filter(|field| field.field_type == "TIMESTAMP" && !field.name.to_ascii_lowercase().starts_with(OWN_PREFIX))
            .map(|field| field.name.as_str())
            .collect();
        if !moments.is_empty() {
            tracing::warn!(
                table = %source,
                columns = moments.join(", "),
                "DMS calls a time without a zone (PostgreSQL's timestamp, MySQL's DATETIME) TIMESTAMP as well: of these columns the ones that have \
                 no zone at the source show their wall clock as if it were UTC, until the final table makes them DATETIME (docs/types.md)"
            );
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
    ) -> Result<Found, TableError> {
        let Some(history) = history.filter(|_| is_made_by_strait(&table)) else {
            let mut found = self.take(source, &table, history.and_then(SourceHistory::newest)).await?;
            if let Some(history) = history {
                found.for_a_person.extend(self.for_the_owner(&found.table.name, source, history));
            }
            return Ok(found);
        };
        if self.is_unfinished(source) {
            return Ok(Found {
                is_definition_due: true,
                is_history_known: true,
                ..self.take(source, &table, history.newest().filter(|_| !is_self_describing(&table))).await?
            });
        }
        let (table, for_a_person) = self.alter(source, table, history).await?;
        let definition = held_definition(&table, history);
        Ok(Found { for_a_person, is_history_known: true, ..self.take(source, &table, definition.as_ref()).await? })
    }

    /// The final table that a source's definition comes to, and the columns of types that are not known.
    pub(super) fn proposed(
        &self,
        source: &SourceTable,
        definition: &SourceDefinition,
        history: &SourceHistory,
    ) -> Result<(Table, Vec<String>), TableError> {
        let config = &self.handler.config;
        let name = config.final_table.name_of(source);
        check_masked_key(&name, source, definition.primary_key.iter().map(String::as_str), &config.mask)?;
        let (mut table, unknown) = new_table(&config.project, &name, source, definition, config.deletes)?;
        schema_change::describe_new(&mut table, history);
        Ok((table, unknown))
    }

    /// Whether an earlier run began work on a table, which has to be finished with the columns that it knew.
    pub(super) fn is_unfinished(&self, source: &SourceTable) -> bool {
        self.state.tables.get(source).is_some_and(|own| own.outcome == Outcome::Running && own.work.is_some())
    }

    /// What the owner of a table that a person made has to do about what was altered at its source, with the news of it.
    pub(super) fn for_the_owner(&self, name: &TableName, source: &SourceTable, history: &SourceHistory) -> Vec<String> {
        let is_news = |news: &News| news.alterations > 0 || news.definitions > 0 && history.has_come_again();
        if !self.plan.tables.get(source).is_some_and(is_news) {
            return Vec::new();
        }
        let mut said = schema_change::for_the_owner(name, source, history);
        said.extend(self.swapped(name, source, history));
        said
    }

    /// What a person has to know of columns that took each other's names, with the news of it.
    fn swapped(&self, name: &TableName, source: &SourceTable, history: &SourceHistory) -> Vec<String> {
        let news = self.plan.tables.get(source).filter(|news| news.alterations > 0);
        news.map(|news| {
            schema_change::swapped(
                name,
                source,
                history,
                Epochs::ingested_from(news.from_us.saturating_sub(REACH_BACK_US)),
            )
        })
        .unwrap_or_default()
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
        let (mut given_up, mut said) = (BTreeSet::new(), Vec::new());
        for _ in 0..STEPS_AT_MOST {
            let mut difference =
                schema_change::difference(&name, source, &table, history, config.dropped_columns, &given_up);
            let Some(step) = difference.step else {
                difference.for_a_person.append(&mut said);
                return Ok((table, difference.for_a_person));
            };
            tracing::info!(table = %source, final_table = %name, step = ?step.in_short(), "altering a final table");
            // Before anything is written, for what cannot be converted would be written again by every run.
            if let Some(query) = step.unconvertible(project, &name)?
                && self.number(&query, "unconvertible").await? > 0
            {
                given_up.extend(step.columns().map(str::to_owned));
                said.extend(step.by_hand(&name));
                table = self.without_copy(source, table, &step).await?;
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
                    said.extend(step.by_hand(&name));
                    table = self.without_copy(source, table, &step).await?;
                    break;
                }
                self.run_alter(source, sql).await?;
                if is_last {
                    said.extend(step.said(&name));
                }
            }
            table = self.handler.bigquery.get_table(&name, self.deadline).await?.unwrap_or(table);
        }
        Err(TableError::Unexpected { what: format!("{name} stays other than its source after {STEPS_AT_MOST} steps") })
    }

    /// Drops the column that was only there for a step that cannot be done.
    async fn without_copy(&self, source: &SourceTable, table: Table, step: &Step) -> Result<Table, TableError> {
        let Some(copy) = step.copy() else {
            return Ok(table);
        };
        let name = self.handler.config.final_table.name_of(source);
        for sql in (Step::Drop { column: copy.to_owned() }).statements(&self.handler.config.project, &name)? {
            self.run_alter(source, &sql).await?;
        }
        Ok(self.handler.bigquery.get_table(&name, self.deadline).await?.unwrap_or(table))
    }

    /// Runs a statement that alters a final table, if the run is in turn when BigQuery comes to it, and not when it was sent: a run that
    /// is held up in between must not undo what another has altered meanwhile.
    async fn run_alter(&self, source: &SourceTable, sql: &str) -> Result<(), TableError> {
        let sql = statement::only_in_turn(&self.in_turn(source)?, sql);
        let id = format!("strait_alter_{}", fingerprint(&format!("{}\0{sql}", self.id), 24));
        self.handler.bigquery.run_query(&self.handler.job(&sql, id, "alter"), self.half_of_time()).await?;
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
            own.outcome == Outcome::Merged
                && own.epochs.open().is_none()
                && own.epochs.emptying().is_none()
                && !own.epochs.may_lack_a_start()
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
            let sql = statement::add_columns(&config.project, &table.name, &table.missing_columns)?;
            self.run_alter(source, &sql).await?;
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
