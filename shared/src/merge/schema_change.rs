//! How a final table follows its source's schema: what differs between the source's definitions, its changes and the table as it
//! stands, and the steps that close the difference. Pure. A step is derived from how the table stands, never from what an earlier run
//! did, so that a run that is interrupted anywhere and run again comes to the same end. It must never guess: what Strait cannot do
//! exactly, a person is told with the statement to run.
//!
//! What BigQuery allows: <https://cloud.google.com/bigquery/docs/reference/standard-sql/data-definition-language>, under
//! `ALTER TABLE RENAME COLUMN`, `ALTER TABLE DROP COLUMN` and `ALTER COLUMN SET DATA TYPE` (columns that partition, cluster or are part of
//! a declared primary or foreign key can be neither renamed nor dropped, nor those of a table with row access policies; renames stand
//! in one statement with renames only, in order; a type can only be made wider in place), and
//! <https://cloud.google.com/bigquery/docs/primary-foreign-keys#limitations> (a key's columns keep their type, and a table with a
//! declared primary key keeps its name).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::bigquery::table_resource::{Field, Table};
use crate::config::DroppedColumns;
use crate::names::{
    self, ColumnNames, NameError, NameHeld, OWN_PREFIX, SourceTable, TableName, fingerprint, quote_column,
    string_literal,
};

use super::definition::{SourceColumn, SourceDefinition};
use super::epoch::Epochs;
use super::final_table::{
    FinalColumn, NewColumn, WithoutSchemaRead, claimed, filter_of, names_of, says_that_it_has_no_key,
};
use super::source_history::{ColumnId, SourceHistory, Unexplained};
use super::statement::add_columns;
use super::types::ColumnType;

/// How the column begins that a column of another type is filled in; the digits of its member's fingerprint follow.
const COPY_PREFIX: &str = "_strait_copy_";
/// How the column begins that has been replaced and is to be dropped.
const REPLACED_PREFIX: &str = "_strait_replaced_";

/// The renames of columns of which each has the name that another is to have, in a round that begins with this one: it steps aside for the
/// others. `None`: they are none.
fn round(moving: &[(&Held<'_>, String)], first: (String, String)) -> Option<Vec<(String, String)>> {
    let (from, wanted) = first;
    let passing = replaced_of(&from);
    let (mut next, mut others) = (wanted.clone(), Vec::new());
    while !is_alike(&next, &from) {
        let (other, its) = moving.iter().find(|(held, _)| is_alike(&held.field.name, &next))?;
        if others.len() > moving.len() {
            return None;
        }
        others.push((other.field.name.clone(), its.clone()));
        next.clone_from(its);
    }
    let renames = [(from, passing.clone())].into_iter().chain(others.into_iter().rev());
    Some(renames.chain([(passing, wanted)]).collect())
}

/// Whether a column is there only while a column's type is changed.
pub(super) fn is_passing_column(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [COPY_PREFIX, REPLACED_PREFIX].iter().any(|prefix| name.starts_with(prefix))
}

/// A column that the source has added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// The column.
    pub column: String,
    /// Its type.
    pub to: ColumnType,
    /// Its description.
    pub description: Option<String>,
}

/// How a column's values become those of another type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversion {
    /// The column.
    pub column: String,
    /// The SQL of a value of the new type.
    pub value: String,
    /// The column's type.
    pub is: ColumnType,
    /// The new one.
    pub to: ColumnType,
    /// See [`FinalTable::partition_filter`](super::final_table::FinalTable::partition_filter).
    pub filter: Option<String>,
}

/// A step that brings a final table nearer to its source's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Notes in a column's description which member it holds, and what that was called before.
    Describe {
        /// The column.
        column: String,
        /// The description.
        description: String,
    },
    /// Gives a column the name that its member has now, in one statement with those that stand in its way.
    Rename {
        /// Columns with their new names, in the order in which they are renamed.
        renames: Vec<(String, String)>,
        /// New names with the descriptions that these columns have. Google does not say that they keep them.
        descriptions: Vec<(String, String)>,
    },
    /// Drops a column.
    Drop {
        /// The column.
        column: String,
    },
    /// Changes a column's type in place.
    Widen {
        /// The column.
        column: String,
        /// Its new type.
        to: ColumnType,
    },
    /// Adds the columns that the source has added: in one statement, for BigQuery takes five a table in ten seconds
    /// (<https://cloud.google.com/bigquery/quotas#standard_tables>).
    Add {
        /// At least one.
        columns: Vec<Added>,
    },
    /// Adds the column that a column of another type is filled in.
    AddCopy {
        /// The column to add.
        copy: Added,
        /// How it is filled then; `None`: it stays empty.
        conversion: Option<Conversion>,
    },
    /// Puts a copy that nothing was filled in in a column's place: the source dropped the column and added another of its name, so no row has a
    /// value until a change brings one.
    Renew {
        /// The column.
        column: String,
        /// The copy.
        copy: String,
        /// What the column is called afterwards, until it is dropped.
        replaced: String,
        /// The description, by which it is known that this is done.
        description: String,
    },
    /// Fills the copy from the column and puts it in its place, if every value can be converted.
    Replace {
        /// How.
        conversion: Conversion,
        /// The copy.
        copy: String,
        /// What the column is called afterwards, until it is dropped.
        replaced: String,
    },
}

impl Step {
    /// The column that it is about, by the name by which it is given up where it cannot be done.
    pub fn column(&self) -> &str {
        match self {
            Self::Describe { column, .. }
            | Self::Drop { column }
            | Self::Widen { column, .. }
            | Self::Renew { column, .. } => column,
            Self::Add { columns } => columns.first().map_or("", |added| &added.column),
            Self::Rename { renames, .. } => renames.first().map_or("", |(column, _)| column),
            Self::AddCopy { copy, .. } => &copy.column,
            Self::Replace { conversion, .. } => &conversion.column,
        }
    }

    /// The columns on which nothing more is done where it cannot be done; and the column that is only there for it.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.copy().into_iter().chain([self.column()])
    }

    /// The column that is only there for it, which has to go where it cannot be done.
    pub fn copy(&self) -> Option<&str> {
        match self {
            Self::Replace { copy, .. } | Self::Renew { copy, .. } => Some(copy),
            _ => None,
        }
    }

    /// What it does, for the log.
    pub fn in_short(&self) -> String {
        match self {
            Self::Describe { column, .. } => format!("describe {column}"),
            Self::Rename { renames, .. } => {
                renames.iter().map(|(from, to)| format!("rename {from} to {to}")).collect::<Vec<_>>().join(", ")
            }
            Self::Drop { column } => format!("drop {column}"),
            Self::Widen { column, to } => format!("make {column} {}", to.sql()),
            Self::Add { columns } => {
                let columns = columns.iter().map(|added| format!("add {} {}", added.column, added.to.sql()));
                columns.collect::<Vec<_>>().join(", ")
            }
            Self::AddCopy { copy, .. } => format!("add {} {}", copy.column, copy.to.sql()),
            Self::Replace { conversion, copy, .. } => format!("put {copy} in the place of {}", conversion.column),
            Self::Renew { column, copy, .. } => format!("put {copy}, empty, in the place of {column}"),
        }
    }

    /// What a person has to know once it is done.
    pub fn said(&self, table: &TableName) -> Option<String> {
        let columns: Vec<&str> = match self {
            Self::Renew { column, .. } => vec![column],
            Self::Add { columns } => {
                let since = |added: &Added| ColumnNames::in_description(added.description.as_deref()?)?.now.since_us;
                columns.iter().filter(|added| since(added).is_some()).map(|added| added.column.as_str()).collect()
            }
            _ => Vec::new(),
        };
        let said = columns.iter().map(|column| format!(
            "the source gave the name of {column} to another column: in {table} it is NULL in rows that were not changed since. If it was added \
             with a default, which DMS does not say, run UPDATE `{table}` SET `{column}` = <the default> WHERE `{column}` IS NULL, as far as rows were not \
             set to NULL since; or reload the table in DMS"
        ));
        let said: Vec<String> = said.collect();
        (!said.is_empty()).then(|| said.join(". "))
    }

    /// What a person has to do where values cannot be converted.
    pub fn by_hand(&self, table: &TableName) -> Option<String> {
        match self {
            Self::Replace { conversion, .. } | Self::AddCopy { conversion: Some(conversion), .. } => {
                Some(by_hand(table, &conversion.column, conversion.is, conversion.to))
            }
            _ => None,
        }
    }

    /// Its statements, in order. Before the last one of [`Step::Replace`], [`Step::unconverted`] has to find nothing.
    pub fn statements(&self, project: &str, table: &TableName) -> Result<Vec<String>, NameError> {
        let target = table.quoted(project)?;
        let alter = |action: String| vec![format!("ALTER TABLE {target} {action}")];
        Ok(match self {
            Self::Describe { column, description } => vec![describe(&target, column, description)?],
            Self::Rename { renames, descriptions } => {
                let mut actions = Vec::with_capacity(renames.len());
                for (from, to) in renames {
                    actions.push(format!("RENAME COLUMN {} TO {}", quote_column(from)?, quote_column(to)?));
                }
                let mut statements = alter(actions.join(", "));
                for (column, description) in descriptions {
                    statements.push(describe(&target, column, description)?);
                }
                statements
            }
            Self::Drop { column } => alter(format!("DROP COLUMN IF EXISTS {}", quote_column(column)?)),
            Self::Widen { column, to } => {
                alter(format!("ALTER COLUMN {} SET DATA TYPE {}", quote_column(column)?, to.sql()))
            }
            Self::Add { columns } => vec![add(project, table, columns)?],
            Self::AddCopy { copy, conversion } => {
                let mut statements = vec![add(project, table, std::slice::from_ref(copy))?];
                // Of one that stays empty the description alone says what it is there for.
                if let (None, Some(description)) = (conversion, &copy.description) {
                    statements.push(describe(&target, &copy.column, description)?);
                }
                statements
            }
            Self::Replace { conversion: Conversion { column, value, filter, .. }, copy, replaced } => {
                let (column, copy, replaced) = (quote_column(column)?, quote_column(copy)?, quote_column(replaced)?);
                let every_row = filter.as_deref().unwrap_or("TRUE");
                vec![
                    format!("UPDATE {target}\nSET {copy} = {value}\nWHERE {every_row}"),
                    take_place(&target, &column, &copy, &replaced),
                ]
            }
            Self::Renew { column: column_name, copy, replaced, description } => {
                let (column, copy, replaced) =
                    (quote_column(column_name)?, quote_column(copy)?, quote_column(replaced)?);
                vec![
                    take_place(&target, &column, &copy, &replaced),
                    // The copy has it already; but should it be lost with the copy's name, the column would be made anew for ever.
                    describe(&target, column_name, description)?,
                ]
            }
        })
    }

    /// The query for how many values of a column are none of its new type.
    pub fn unconvertible(&self, project: &str, table: &TableName) -> Result<Option<String>, NameError> {
        let (Self::Replace { conversion, .. } | Self::AddCopy { conversion: Some(conversion), .. }) = self else {
            return Ok(None);
        };
        Ok(Some(format!(
            "SELECT COUNTIF({} IS NOT NULL AND ({}) IS NULL) FROM {}{}",
            quote_column(&conversion.column)?,
            conversion.value,
            table.quoted(project)?,
            conversion.filtered()
        )))
    }

    /// The query for how many values of a column its copy does not hold, or not any more.
    pub fn unconverted(&self, project: &str, table: &TableName) -> Result<Option<String>, NameError> {
        let Self::Replace { conversion, copy, .. } = self else {
            return Ok(None);
        };
        Ok(Some(format!(
            "SELECT COUNTIF({column} IS NOT NULL AND {copy} IS NULL OR TO_JSON_STRING({copy}) IS DISTINCT FROM TO_JSON_STRING({value})) FROM {}{}",
            table.quoted(project)?,
            conversion.filtered(),
            column = quote_column(&conversion.column)?,
            copy = quote_column(copy)?,
            value = conversion.value,
        )))
    }
}

impl Conversion {
    fn filtered(&self) -> String {
        self.filter.as_ref().map_or_else(String::new, |filter| format!(" WHERE {filter}"))
    }
}

fn add(project: &str, table: &TableName, columns: &[Added]) -> Result<String, NameError> {
    let columns: Vec<NewColumn> = columns
        .iter()
        .map(|added| NewColumn {
            name: added.column.clone(),
            sql_type: added.to.sql(),
            description: added.description.clone(),
        })
        .collect();
    add_columns(project, table, &columns)
}

fn describe(target: &str, column: &str, description: &str) -> Result<String, NameError> {
    let column = quote_column(column)?;
    Ok(format!(
        "ALTER TABLE {target} ALTER COLUMN {column} SET OPTIONS (description = {})",
        string_literal(description)
    ))
}

/// One statement, so that no reader finds the table without the column.
fn take_place(target: &str, column: &str, copy: &str, replaced: &str) -> String {
    format!("ALTER TABLE {target} RENAME COLUMN {column} TO {replaced}, RENAME COLUMN {copy} TO {column}")
}

/// How a final table that Strait made differs from its source's definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// What Strait does about it next. The table is looked at again afterwards.
    pub step: Option<Step>,
    /// What a person has to do about it.
    pub for_a_person: Vec<String>,
}

/// A column of the final table, and whose values it has.
struct Held<'a> {
    field: &'a Field,
    /// As its description says, or else its name.
    names: ColumnNames,
    /// The source's column; `None`: none that is known.
    column: Option<ColumnId>,
    /// Another has the column's values, under the name that it has now.
    is_superseded: bool,
}

/// A table and what may be done to it.
struct Altered<'a> {
    table: &'a Table,
    name: &'a TableName,
    history: &'a SourceHistory,
    held: Vec<Held<'a>>,
    /// Whether a column that the source dropped stays.
    keeps_dropped: bool,
}

/// Columns that went and columns that came, of which one may be another with a new name.
#[derive(Default)]
struct Perhaps {
    went: BTreeSet<ColumnId>,
    came: BTreeSet<ColumnId>,
}

/// A column that another takes the place of.
struct Renewal<'a> {
    field: &'a Field,
    was: ColumnId,
    to: &'a SourceColumn,
    names: ColumnNames,
}

/// Compares a final table that Strait made with its source's history. Steps on the columns of `given_up` are left out.
pub fn difference(
    name: &TableName,
    source: &SourceTable,
    table: &Table,
    history: &SourceHistory,
    dropped: DroppedColumns,
    given_up: &BTreeSet<String>,
) -> Difference {
    let mut difference = Difference::default();
    if history.is_renamed_away() {
        difference.for_a_person.push(renamed_table(name, source));
    }
    let Some(newest) = history.newest() else {
        return difference;
    };
    let keeps_dropped = dropped == DroppedColumns::Keep;
    let altered = Altered { table, name, history, held: held(table, history, newest), keeps_dropped };
    let perhaps = altered.perhaps_renamed(&mut difference.for_a_person);
    let mut steps = altered.replaced();
    if steps.is_empty() {
        steps.extend(altered.descriptions(&perhaps, dropped));
    }
    if steps.is_empty() {
        steps.extend(altered.renames(&perhaps, &mut difference.for_a_person));
    }
    // Of names that are still to be given to others, nothing is known yet.
    let (mut renewals, mut added) = (Vec::new(), Vec::new());
    if steps.is_empty() {
        (renewals, added) = altered.additions(&perhaps, &mut difference.for_a_person);
    }
    let is_settled = steps.is_empty();
    if !added.is_empty() {
        steps.push(Step::Add { columns: added });
    }
    if is_settled {
        steps.extend(altered.left_over(&renewals));
        steps.extend(renewals.iter().filter_map(|renewal| altered.renew(renewal)));
    }
    steps.extend(altered.retypes(&mut difference.for_a_person));
    steps.extend(altered.drops(dropped, &perhaps, &renewals, &mut difference.for_a_person));
    difference.for_a_person.extend(altered.key(&newest.primary_key));
    difference.step = steps.into_iter().find(|step| !given_up.contains(step.column()));
    difference
}

/// Describes the columns of a table that is about to be made, so that none takes what was another's.
pub fn describe_new(table: &mut Table, history: &SourceHistory) {
    let Some(newest) = history.newest() else {
        return;
    };
    let claimed = claimed(&table.schema.fields);
    for field in &mut table.schema.fields {
        let member = names_of(field, Some(newest), &claimed).now.name;
        let of = history.columns().find(|(_, column)| column.name == member);
        let names = of.and_then(|(id, _)| Some(ColumnNames { added_us: history.added_us(id), ..history.names(id)? }));
        if let Some(names) = names.filter(|names| !names.is_plain() || names.added_us.is_some()) {
            field.description = Some(names.described());
        }
    }
}

/// The column of the source whose values a column with these names has. What it was called first decides: if that turns out to have been
/// another column, the values from before the name was given away are that one's. But where it could not be known whether one went on
/// as the other, a description that says so is a person's answer.
fn column_of(names: &ColumnNames, history: &SourceHistory) -> Option<ColumnId> {
    let owner = |held: &NameHeld| history.owner(&held.name, held.since_us);
    let now = owner(&names.now);
    // One that was added is what the source added then, under whatever name.
    let added = names.added_us.and_then(|added_us| history.added(names, added_us));
    let first = added.or_else(|| names.former.iter().find_map(owner)).or(now);
    let is_answer = |was: ColumnId| {
        let went = |unexplained: &Unexplained| unexplained.went.contains(&was);
        now.is_some() && first != now && history.unexplained().iter().any(went)
    };
    if first.is_some_and(is_answer) { now } else { first }
}

/// The table's columns with those of the source whose values they have.
fn held<'a>(table: &'a Table, history: &SourceHistory, newest: &SourceDefinition) -> Vec<Held<'a>> {
    let claimed = claimed(&table.schema.fields);
    let of_the_source = |field: &&Field| !field.name.to_ascii_lowercase().starts_with(OWN_PREFIX);
    let mut held: Vec<Held<'a>> = table
        .schema
        .fields
        .iter()
        .filter(of_the_source)
        .map(|field| {
            // A name that the source had, to the letter, is that column's.
            let definition = history.owner(&field.name, None).is_none().then_some(newest);
            let names = names_of(field, definition, &claimed);
            let column = column_of(&names, history);
            Held { field, names, column, is_superseded: false }
        })
        .collect();
    // Two cannot have one column's values: the one that has its newest name has them, for that was added when a load brought them all, or is
    // filled from the log.
    let newest_name = |held: &Held<'_>| {
        let names = held.column.and_then(|column| history.names(column));
        names.and_then(|names| names.newest_first().position(|known| known.name == held.names.now.name))
    };
    let places: Vec<_> = held.iter().map(|held| (held.column, newest_name(held))).collect();
    for (place, held) in held.iter_mut().enumerate() {
        let own = places.get(place).copied().unwrap_or_default();
        let is_newer = |(other, (column, name)): (usize, &(Option<ColumnId>, Option<usize>))| {
            own.0.is_some() && *column == own.0 && other != place && (*name, other) < (own.1, place)
        };
        held.is_superseded = places.iter().enumerate().any(is_newer);
    }
    held
}

impl<'a> Altered<'a> {
    /// BigQuery can neither rename nor drop it.
    fn is_fixed(&self, column: &str) -> bool {
        let time = self.table.time_partitioning.as_ref().and_then(|by| by.field.as_deref());
        let range = self.table.range_partitioning.as_ref().map(|by| by.field.as_str());
        let keys = self.table.clustering_columns().iter().chain(self.table.primary_key()).map(String::as_str);
        let keys = keys.chain(self.table.foreign_key_columns());
        keys.chain(time).chain(range).any(|fixed| fixed.eq_ignore_ascii_case(column))
    }

    fn has_column(&self, name: &str) -> bool {
        self.table.schema.fields.iter().any(|field| is_alike(&field.name, name))
    }

    fn is_held(&self, column: ColumnId) -> bool {
        self.held.iter().any(|held| held.column == Some(column) && !held.is_superseded)
    }

    fn now(&self, held: &Held<'_>) -> Option<&'a SourceColumn> {
        self.history.now(held.column.filter(|_| !held.is_superseded)?)
    }

    /// A column of the source whose values are not here, or that the source has no more.
    fn gone(&self, held: &Held<'_>) -> Option<ColumnId> {
        held.column.filter(|column| held.is_superseded || self.history.now(*column).is_none())
    }

    /// The column whose name is as good as this one.
    fn at(&self, name: &str) -> Option<&Held<'a>> {
        self.held.iter().find(|held| is_alike(&held.field.name, name))
    }

    /// Columns that may have been renamed, with what a person is told of them: a record that says so is missing, or was the first of all.
    /// Nothing is done to them until it comes or a person says what they are.
    fn perhaps_renamed(&self, for_a_person: &mut Vec<String>) -> Perhaps {
        let (mut perhaps, mut has, mut lacks) = (Perhaps::default(), Vec::new(), Vec::new());
        for (place, unexplained) in self.history.unexplained().iter().enumerate() {
            // What came may have gone likewise since.
            let mut came: BTreeSet<ColumnId> = unexplained.came.iter().copied().collect();
            for later in self.history.unexplained().iter().skip(place) {
                if later.went.iter().any(|went| came.contains(went)) {
                    came.extend(later.came.iter().copied());
                }
            }
            came.retain(|came| self.history.now(*came).is_some() && !self.is_held(*came));
            let went: Vec<ColumnId> = unexplained.went.iter().filter(|went| self.is_held(**went)).copied().collect();
            if !came.is_empty() && !went.is_empty() {
                perhaps.came.extend(came);
                perhaps.went.extend(went);
            }
        }
        has.extend(self.held.iter().filter(|held| held.column.is_some_and(|column| perhaps.went.contains(&column))));
        if let Some(renamed) = self.history.unknown_rename() {
            let left_behind = |held: &&Held<'a>| {
                held.column.is_none() && !self.is_fixed(&held.field.name) && !self.history.had(&held.names.now.name)
            };
            let left_behind: Vec<&Held<'a>> = self.held.iter().filter(left_behind).collect();
            if !left_behind.is_empty() {
                let came =
                    self.history.columns().filter(|(id, column)| !self.is_held(*id) && renamed.has(&column.name));
                perhaps.came.extend(came.map(|(id, _)| id));
            }
            if !perhaps.came.is_empty() {
                has.extend(left_behind);
            }
        }
        lacks.extend(self.history.columns().filter(|(id, _)| perhaps.came.contains(id)));
        let (Some((id, _)), Some(old)) = (lacks.first(), has.first()) else {
            return perhaps;
        };
        let mut names = self.history.names(*id).unwrap_or_else(|| old.names.clone());
        let of_old = self.bounded(old);
        names.former = of_old.former.into_iter().chain([of_old.now]).chain(names.former).collect();
        let quoted =
            |lacking: &(ColumnId, &SourceColumn)| format!("`{}` {}", lacking.1.name, made_type(lacking.1).sql());
        for_a_person.push(format!(
            "the source renamed columns or dropped some and added others, and which cannot be known: the record that says so has not come, or the definition \
             from before is no longer in the log. {name} lacks {}, and of {} the source has none. For one that was renamed run ALTER TABLE `{name}` ALTER COLUMN `{old}` SET \
             OPTIONS (description = {}), after which it reads records of both shapes, and is renamed once a definition says its name; for one that is new ALTER TABLE \
             `{name}` ADD COLUMN …; until then their values wait in the log",
            lacks.iter().map(quoted).collect::<Vec<_>>().join(", "),
            has.iter().map(|held| format!("`{}`", held.field.name)).collect::<Vec<_>>().join(", "),
            string_literal(&names.described()),
            name = self.name,
            old = old.field.name,
        ));
        perhaps
    }

    /// What a column is and was called, with the times that are known.
    fn bounded(&self, held: &Held<'_>) -> ColumnNames {
        let known = held.column.and_then(|column| self.history.names(column));
        let bounded = |said: &NameHeld| {
            let known = known.iter().flat_map(ColumnNames::newest_first).find(|known| known.name == said.name);
            NameHeld { until_us: known.and_then(|known| known.until_us).or(said.until_us), ..said.clone() }
        };
        let former = held.names.former.iter().map(bounded).collect();
        ColumnNames { now: bounded(&held.names.now), former, added_us: held.names.added_us }
    }

    /// The names that a column's description should say: those that the source gave it, and those that it says already, which the log may
    /// have forgotten.
    fn wanted_names(&self, held: &Held<'_>) -> Option<ColumnNames> {
        let mut names = self.history.names(held.column?)?;
        let known_since = self.history.known_since_us();
        let is_forgotten = |us: &i64| *us < known_since;
        if held.names.now.name == names.now.name {
            names.now.since_us = names.now.since_us.or(held.names.now.since_us.filter(is_forgotten));
        }
        let mut former: Vec<NameHeld> = Vec::new();
        for said in &held.names.former {
            if names
                .newest_first()
                .any(|known| known.name == said.name && !said.until_us.as_ref().is_some_and(is_forgotten))
            {
                continue;
            }
            // Whose it was since is known; when it was this column's is not, or only a person knows.
            let until_us = said.until_us.filter(is_forgotten).or(self.history.first_had(&said.name));
            if until_us.is_some() || !self.history.has_had(&said.name) {
                former.push(NameHeld { until_us, ..said.clone() });
            }
        }
        former.append(&mut names.former);
        let now = names.now.name.clone();
        former.retain(|former| former.name != now || former.is_bounded());
        Some(ColumnNames { former, added_us: held.names.added_us, ..names })
    }

    /// First a column takes its members, under the name that it has: from then on all is right but the name.
    fn descriptions(&self, perhaps: &Perhaps, dropped: DroppedColumns) -> Vec<Step> {
        let wanted = |held: &Held<'_>| {
            if self.now(held).is_some() {
                return self.wanted_names(held);
            }
            // What goes on here under names that another column has or had since; if one takes its place, it goes.
            let names = if held.is_superseded { Some(self.bounded(held)) } else { self.wanted_names(held) }?;
            let is_perhaps = held.column.is_some_and(|column| perhaps.went.contains(&column));
            let mut now = self.history.columns().map(|(_, column)| names::column_name(&column.name));
            let is_replaced = now.any(|name| is_alike(&name, &held.field.name));
            let stays = is_perhaps || dropped == DroppedColumns::Keep && !is_replaced;
            (stays && names.newest_first().any(NameHeld::is_bounded)).then_some(names)
        };
        let mut steps: Vec<(bool, Step)> = Vec::new();
        for held in &self.held {
            let Some(wanted) = wanted(held) else {
                continue;
            };
            let described = wanted.described();
            let said = held.field.description.as_deref().and_then(ColumnNames::in_description);
            let is_said = said.map_or_else(
                || wanted.is_plain() && wanted.now.name == held.field.name,
                |said| ColumnNames::in_description(&described) == Some(said),
            );
            if !is_said {
                let is_taken = self.held.iter().any(|other| {
                    !std::ptr::eq(other, held)
                        && other.names.now.name == wanted.now.name
                        && other.names.now.until_us.is_none()
                });
                let description = described_beside(held.field, &described);
                steps.push((is_taken, Step::Describe { column: held.field.name.clone(), description }));
            }
        }
        // A name that another column still reads comes after that one's.
        steps.sort_by_key(|(is_taken, _)| *is_taken);
        steps.into_iter().map(|(_, step)| step).collect()
    }

    /// Gives columns that were renamed their names.
    fn renames(&self, perhaps: &Perhaps, for_a_person: &mut Vec<String>) -> Vec<Step> {
        let wanted = |held: &Held<'_>| {
            let now = self.now(held)?;
            let is_renamed = held.names.former.iter().any(|former| former.name != now.name);
            let wanted = names::column_name(&now.name);
            (is_renamed && !is_alike(&wanted, &held.field.name)).then_some(wanted)
        };
        let mut moving: Vec<(&Held<'a>, String)> = Vec::new();
        for held in &self.held {
            let Some(wanted) = wanted(held) else {
                continue;
            };
            if self.is_fixed(&held.field.name) {
                for_a_person.push(format!(
                    "the source renamed a column to {}: column {column} of {name} holds it, and BigQuery cannot rename a column that \
                     clusters, partitions or is a declared key. Its values go on. For the new name the table has to be made anew: \
                     CREATE TABLE … CLUSTER BY … AS SELECT * EXCEPT ({column}), {column} AS {wanted} FROM {name}",
                    held.names.now.name,
                    column = held.field.name,
                    name = self.name,
                ));
            } else {
                moving.push((held, wanted));
            }
        }
        let mut steps = Vec::new();
        for (held, wanted) in &moving {
            let own = (held.field.name.clone(), wanted.clone());
            let renames = match self.at(wanted) {
                None if self.has_column(wanted) => continue,
                None => vec![own],
                Some(other) => {
                    let gone = self.gone(other).filter(|gone| !perhaps.went.contains(gone));
                    if gone.is_some() && !self.is_fixed(&other.field.name) {
                        // What is no column of the source any more makes room.
                        vec![(other.field.name.clone(), replaced_of(&other.field.name)), own]
                    } else if let Some(round) = round(&moving, own) {
                        round
                    } else {
                        continue;
                    }
                }
            };
            let description = |(column, wanted): &(&Held<'a>, String)| {
                let is_renamed = renames.iter().any(|(_, to)| to == wanted);
                column.field.description.clone().filter(|_| is_renamed).map(|description| (wanted.clone(), description))
            };
            let descriptions = moving.iter().filter_map(description).collect();
            steps.push(Step::Rename { renames, descriptions });
        }
        steps
    }

    /// Columns that the table lacks: those that take the place of one that is gone, and those that are added. The names of those that are
    /// there stay.
    fn additions(&self, perhaps: &Perhaps, for_a_person: &mut Vec<String>) -> (Vec<Renewal<'a>>, Vec<Added>) {
        let (mut renewals, mut added) = (Vec::new(), Vec::new());
        for (id, column) in self.history.columns().filter(|(id, _)| !self.is_held(*id) && !perhaps.came.contains(id)) {
            let names = self.history.names(id).unwrap_or_else(|| ColumnNames::new(&column.name));
            let there = self.at(&names::column_name(&column.name));
            match there.and_then(|there| Some((there, self.gone(there)?))) {
                // Which of the two it is is not known yet.
                Some((_, gone)) if perhaps.went.contains(&gone) => {}
                Some((there, _)) if self.is_fixed(&there.field.name) => for_a_person.push(format!(
                    "the source dropped column {} and added it again: {} of {} clusters, partitions or is part of a declared key, so rows \
                     that were not changed since have its earlier values. Reload the table in DMS",
                    column.name, there.field.name, self.name
                )),
                Some((there, was)) if there.field.name == names::column_name(&column.name) => {
                    renewals.push(Renewal { field: there.field, was, to: column, names });
                }
                _ => added.push((column, ColumnNames { added_us: self.history.added_us(id), ..names })),
            }
        }
        let there = self.table.schema.fields.iter().map(|field| field.name.as_str());
        let new = names::column_names_beside(there, added.iter().map(|(column, _)| column.name.as_str()));
        let added = added.into_iter().zip(new).map(|((column, names), name)| {
            let is_plain = name == column.name && names.is_plain() && names.added_us.is_none();
            Added { column: name, to: made_type(column), description: (!is_plain).then(|| names.described()) }
        });
        (renewals, added.collect())
    }

    /// The next step by which a column takes another's place.
    fn renew(&self, renewal: &Renewal<'_>) -> Option<Step> {
        let (column, copy) = (renewal.field.name.clone(), copy_of(&renewal.to.name));
        let description = described_beside(renewal.field, &renewal.names.described());
        if self.has_column(&copy) {
            return Some(Step::Renew { column, copy, replaced: replaced_of(&renewal.field.name), description });
        }
        let is = ColumnType::from_field(renewal.field)?;
        // A type that a person chose stays.
        let to = if self.was_made(renewal.was, is) { made_type(renewal.to) } else { is };
        Some(Step::AddCopy { copy: Added { column: copy, to, description: Some(description) }, conversion: None })
    }

    /// Whether Strait makes a column of this type of one of a column's definitions.
    fn was_made(&self, column: ColumnId, is: ColumnType) -> bool {
        self.history.earlier(column).any(|earlier| made_type(earlier) == is)
    }

    /// Columns in whose place others are.
    fn replaced(&self) -> Vec<Step> {
        let fields = self.table.schema.fields.iter();
        let replaced = fields.filter(|field| field.name.to_ascii_lowercase().starts_with(REPLACED_PREFIX));
        replaced.map(|field| Step::Drop { column: field.name.clone() }).collect()
    }

    /// What a change of type left that is complete or no longer wanted.
    fn left_over(&self, renewals: &[Renewal<'_>]) -> Vec<Step> {
        let passing = self.table.schema.fields.iter().filter(|field| is_passing_column(&field.name));
        passing
            .filter(|field| {
                let is_renewal = renewals.iter().any(|renewal| {
                    field.name == copy_of(&renewal.to.name) && since(field) == renewal.names.now.since_us
                });
                let is_copy = self.held.iter().any(|held| {
                    let of = ColumnType::from_field(field);
                    field.name == copy_of(&held.names.now.name)
                        && of.is_some()
                        && self.retype(held) == of
                        && since(field) == held.names.now.since_us
                });
                !is_renewal && !is_copy
            })
            .map(|field| Step::Drop { column: field.name.clone() })
            .collect()
    }

    /// The type that a column is to have, if its source's has changed and it still has the one from before. Any other is a person's
    /// choice, which stays.
    fn retype(&self, held: &Held<'_>) -> Option<ColumnType> {
        // One that was dropped is kept as it was at the end: what was sent before may come yet. Where another has its name, that takes its place.
        let is_kept = |_: &ColumnId| {
            let mut names = self.history.columns().map(|(_, column)| &column.name);
            self.keeps_dropped && !held.is_superseded && !names.any(|name| is_alike(name, &held.names.now.name))
        };
        let kept = || self.history.earlier(self.gone(held).filter(is_kept)?).last();
        let to = made_type(self.now(held).or_else(kept)?);
        let is = ColumnType::from_field(held.field)?;
        (is != to && self.was_made(held.column?, is)).then_some(to)
    }

    /// A column that may have been made of another type, as far as nothing is known of its type before.
    fn unknown_retype(&self, held: &Held<'_>) -> Option<String> {
        let (is, to) = (ColumnType::from_field(held.field)?, made_type(self.now(held)?));
        let is_known = self.history.earlier(held.column?).next().is_some();
        let holds_all = is == to || is == ColumnType::String || is_widened_in_place(to, is);
        (self.history.has_unknown_retype() && !is_known && !holds_all).then(|| {
            format!(
                "whether somebody chose the type of `{}` cannot be known, for its definition from before is no longer in the log. If not: {}",
                held.field.name,
                by_hand(self.name, &held.field.name, is, to)
            )
        })
    }

    fn retypes(&self, for_a_person: &mut Vec<String>) -> Vec<Step> {
        let mut steps = Vec::new();
        for held in &self.held {
            for_a_person.extend(self.unknown_retype(held));
            let Some((is, to)) = ColumnType::from_field(held.field).zip(self.retype(held)) else {
                continue;
            };
            let (column, member) = (held.field.name.clone(), &held.names.now.name);
            let quoted = quote_column(&column).unwrap_or_default();
            let value = converted(is, to, &quoted);
            if self.is_fixed(&column) {
                for_a_person.push(format!(
                    "the source made column {member} {}, and {column} of {} is {}: a column that clusters, partitions or is a declared key \
                     has to be changed by making the table anew. Values that it cannot hold are quarantined until then",
                    to.sql(),
                    self.name,
                    is.sql()
                ));
            } else if is_widened_in_place(is, to) {
                steps.push(Step::Widen { column, to });
            } else if let Some(value) = value {
                let (copy, filter) = (copy_of(member), filter_of(self.table, None).unwrap_or_default());
                let conversion = Conversion { column, value, is, to, filter };
                steps.push(if self.has_column(&copy) {
                    Step::Replace { conversion, copy, replaced: replaced_of(&held.field.name) }
                } else {
                    let copy = Added { column: copy, to, description: held.field.description.clone() };
                    Step::AddCopy { copy, conversion: Some(conversion) }
                });
            } else {
                for_a_person.push(by_hand(self.name, &column, is, to));
            }
        }
        steps
    }

    fn drops(
        &self,
        dropped: DroppedColumns,
        perhaps: &Perhaps,
        renewals: &[Renewal<'_>],
        for_a_person: &mut Vec<String>,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        // A definition without a column of the key is none of the whole table.
        let is_whole = self.held.iter().all(|held| {
            !self.table.primary_key().iter().any(|key| key.eq_ignore_ascii_case(&held.field.name))
                || self.now(held).is_some()
        });
        if !is_whole {
            return steps;
        }
        // One whose values another has is no column that the source dropped.
        let goes = |held: &&Held<'_>| dropped == DroppedColumns::Drop || held.is_superseded;
        for held in self.held.iter().filter(goes) {
            // A column that the source never had is a person's.
            let gone = self.gone(held).filter(|gone| !perhaps.went.contains(gone));
            if gone.is_none() || renewals.iter().any(|renewal| std::ptr::eq(renewal.field, held.field)) {
                continue;
            }
            if self.is_fixed(&held.field.name) {
                for_a_person.push(format!(
                    "the source dropped column {}, and BigQuery cannot drop {} of {}, which clusters, partitions or is a declared key: \
                     the table has to be made anew",
                    held.names.now.name, held.field.name, self.name
                ));
            } else {
                steps.push(Step::Drop { column: held.field.name.clone() });
            }
        }
        steps
    }

    /// The source's key is another one. An absent one says nothing: DMS leaves it out at times.
    fn key(&self, key: &[String]) -> Option<String> {
        let declared: Vec<&str> = self
            .held
            .iter()
            .filter(|held| self.table.primary_key().iter().any(|key| key.eq_ignore_ascii_case(&held.field.name)))
            .map(|held| held.names.now.name.as_str())
            .collect();
        let columns = |members: &[String]| {
            let held = members.iter().filter_map(|member| self.held.iter().find(|held| held.names.now.name == *member));
            held.map(|held| format!("`{}`", held.field.name)).collect::<Vec<String>>().join(", ")
        };
        if says_that_it_has_no_key(self.table) && declared.is_empty() && !key.is_empty() {
            return Some(format!(
                "the source's table has got a primary key, and {name} has none: rows are still only added. Run ALTER TABLE `{name}` ADD PRIMARY \
                 KEY ({}) NOT ENFORCED, then reload the table in DMS",
                columns(key),
                name = self.name
            ));
        }
        let is_same = key.len() == declared.len() && key.iter().all(|member| declared.contains(&member.as_str()));
        if key.is_empty() || declared.is_empty() || is_same {
            return None;
        }
        Some(format!(
            "the source's primary key is now ({}), and that of {} is ({}): rows are still told apart by the latter. Run ALTER TABLE `{}` \
             DROP PRIMARY KEY and ALTER TABLE `{}` ADD PRIMARY KEY ({}) NOT ENFORCED, then reload the table in DMS",
            key.join(", "),
            self.name,
            declared.join(", "),
            self.name,
            self.name,
            columns(key)
        ))
    }
}

/// What a person has to do about a table that a person made, which Strait never alters.
pub(super) fn for_the_owner(name: &TableName, source: &SourceTable, history: &SourceHistory) -> Vec<String> {
    let mut said = vec![format!(
        "the source altered {source}: alter {name} likewise, which Strait did not make and does not alter. A column that you add is filled \
         from the log"
    )];
    for (id, column) in history.columns() {
        let Some(names) = history.names(id).filter(|names| !names.is_plain()) else {
            continue;
        };
        let description = string_literal(&names.described());
        let new = &column.name;
        said.push(match names.former.last() {
            Some(old) => format!(
                "for the column {old} that is {new} now: ALTER TABLE `{name}` RENAME COLUMN `{old}` TO `{new}`, then ALTER TABLE `{name}` ALTER COLUMN `{new}` SET \
                 OPTIONS (description = {description}), by which records of the old shape are read",
                old = old.name
            ),
            None => format!(
                "the source gave the name {new} to another column: ALTER TABLE `{name}` DROP COLUMN `{new}`, then ALTER TABLE `{name}` ADD COLUMN \
                 `{new}` {to} OPTIONS (description = {description}), by which its values are told from the earlier ones'",
                to = made_type(column).sql(),
            ),
        });
    }
    if history.unknown_rename().is_some() {
        said.push(
            "it renamed a column, and what that was called before is no longer in the log: give the column that has it its new name with \
             ALTER TABLE … RENAME COLUMN"
                .to_owned(),
        );
    }
    if history.is_renamed_away() {
        said.push(renamed_table(name, source));
    }
    said
}

/// What a person has to do about columns that took each other's names since a time, in µs since the epoch of Unix: no name went and
/// none came, so a table looks as it is to look.
pub(super) fn swapped(name: &TableName, source: &SourceTable, history: &SourceHistory, since_us: i64) -> Vec<String> {
    let swapped = history.swapped().iter().filter(|(sent_us, ..)| *sent_us >= since_us);
    swapped
        .map(|(sent_us, one, other)| {
            let from = jiff::Timestamp::from_microsecond(*sent_us).unwrap_or_default();
            format!(
                "the source's columns {one} and {other} took each other's names, and {name} has the values of either under its former name. Reload the table \
                 in DMS; or run ALTER TABLE `{name}` RENAME COLUMN `{one}` TO `{one}_`, RENAME COLUMN `{other}` TO `{one}`, RENAME COLUMN `{one}_` TO \
                 `{other}`, and then invoke the merge with {{\"tables\":[\"{source}\"],\"from\":\"{from}\"}}"
            )
        })
        .collect()
}

/// Since when, by its description, a column's name is its own.
fn since(field: &Field) -> Option<i64> {
    ColumnNames::in_description(field.description.as_deref()?)?.now.since_us
}

/// A column's description with its names, and with what a person wrote there: it may state a zone.
fn described_beside(field: &Field, names: &str) -> String {
    let beside = field.description.as_deref().map(names::beside_column_names).unwrap_or_default();
    format!("{names} {beside}").trim().to_owned()
}

/// Columns' names are not case-sensitive.
fn is_alike(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

fn renamed_table(name: &TableName, source: &SourceTable) -> String {
    format!(
        "{source} has another name at the source now: its changes arrive under that, and {name} stays as it is. Either reload the table \
         in DMS, or give the new name this table's rows, before a merge has made a table for it: ALTER TABLE `{name}` DROP PRIMARY KEY IF EXISTS \
         (BigQuery renames no table that has one), ALTER TABLE `{name}` RENAME TO `<the table that STRAIT_FINAL_TABLE makes of the new name, \
         without its dataset>`, then of that table SET OPTIONS (description = 'Replica of \"<schema.new name>\"') and ADD PRIMARY KEY (<as before>) NOT \
         ENFORCED"
    )
}

/// What a person is told to do about a change of type that Strait cannot make exactly.
pub fn by_hand(name: &TableName, column: &str, is: ColumnType, to: ColumnType) -> String {
    format!(
        "the source made column {column} {to}, and its values in {name} ({is}) cannot be converted exactly; new ones that {is} cannot hold \
         are quarantined. Reload the table in DMS after ALTER TABLE `{name}` DROP COLUMN `{column}`, ADD COLUMN `{column}` {to}; or, without a \
         reload, run UPDATE … SET with a conversion of your own into a new column and rename the two",
        is = is.sql(),
        to = to.sql(),
    )
}

fn copy_of(member: &str) -> String {
    format!("{COPY_PREFIX}{}", fingerprint(member, 8))
}

fn replaced_of(member: &str) -> String {
    format!("{REPLACED_PREFIX}{}", fingerprint(member, 8))
}

fn made_type(column: &SourceColumn) -> ColumnType {
    ColumnType::from_source(column).unwrap_or_else(|fallback| fallback)
}

/// Whether `ALTER COLUMN … SET DATA TYPE` makes the one of the other: BigQuery allows what coerces
/// (<https://cloud.google.com/bigquery/docs/reference/standard-sql/conversion_rules>) and parameters that grow.
fn is_widened_in_place(is: ColumnType, to: ColumnType) -> bool {
    use ColumnType::{BigNumeric, Bytes, BytesUpTo, Float64, Int64, Numeric, String, StringUpTo};
    let grows =
        |whole: u32, fraction: u32, to_whole: u32, to_fraction: u32| whole <= to_whole && fraction <= to_fraction;
    match (is, to) {
        (Int64, Float64)
        | (Numeric { .. } | BigNumeric { .. }, Float64)
        | (StringUpTo(_), String)
        | (BytesUpTo(_), Bytes) => true,
        (Int64, to) => to == ColumnType::NUMERIC || to == ColumnType::BIGNUMERIC,
        (Numeric { whole, fraction }, Numeric { whole: to_whole, fraction: to_fraction })
        | (BigNumeric { whole, fraction }, BigNumeric { whole: to_whole, fraction: to_fraction }) => {
            grows(whole, fraction, to_whole, to_fraction)
        }
        (Numeric { .. }, to) => to == ColumnType::BIGNUMERIC,
        (StringUpTo(is), StringUpTo(to)) | (BytesUpTo(is), BytesUpTo(to)) => is <= to,
        _ => false,
    }
}

/// The SQL of a column's value in another type as the source converts it, NULL if it cannot be held; `None` where sources differ or a
/// value's text is not known, such as the digits of a NUMERIC after its point.
fn converted(is: ColumnType, to: ColumnType, column: &str) -> Option<String> {
    use ColumnType::{BigNumeric, Date, DateTime, Int64, Json, Numeric, String, StringUpTo};
    let text = format!("CAST({column} AS STRING)");
    Some(match (is, to) {
        (Int64 | Date, String | StringUpTo(_))
        | (Int64, Numeric { .. } | BigNumeric { .. })
        | (
            String | StringUpTo(_),
            Int64 | Numeric { .. } | BigNumeric { .. } | Date | DateTime | Json | String | StringUpTo(_),
        ) => to.value_of(&text),
        (Numeric { fraction: 0, .. } | BigNumeric { fraction: 0, .. }, String | StringUpTo(_)) => to.value_of(&text),
        // MySQL and PostgreSQL both round half away from zero, as ROUND does.
        (Numeric { .. } | BigNumeric { .. }, Int64) => to.value_of(&format!("CAST(ROUND({column}) AS STRING)")),
        (Numeric { .. } | BigNumeric { .. }, Numeric { fraction, .. } | BigNumeric { fraction, .. }) => {
            to.value_of(&format!("CAST(ROUND({column}, {fraction}) AS STRING)"))
        }
        (ColumnType::Bool, Int64) => format!("CAST({column} AS INT64)"),
        (Date, DateTime) => format!("CAST({column} AS DATETIME)"),
        _ => return None,
    })
}

/// What of a table's records is not in the final table as it should be, or may not be: a column of its ledger entries.
/// Times in µs since the epoch of Unix, by `ingested_at`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unfilled {
    /// Records from this time on are to be merged again, rows at the same position included.
    again_from: Option<i64>,
    /// The same, said since that was begun: what was begun does not do it.
    then_again_from: Option<i64>,
    /// Up to where the table was merged before it was taken back to be merged again: what came until then does not wait for its first time.
    merged_to: Option<i64>,
    /// Whether merging again from [`Self::again_from`] on was begun and is not finished. The work that a ledger entry holds says so.
    #[serde(skip)]
    is_begun: bool,
    /// Members of changes that are not in the table, or not all of their values.
    members: BTreeMap<String, Lacking>,
    /// The source's definition is still to be applied.
    is_definition_due: bool,
    /// Names that are one column's since a time or until one: what is merged again for them, or is to be.
    told_by_time: BTreeSet<(String, Option<i64>, Option<i64>)>,
    /// When DMS sent control records that came after newer ones: what is merged again for them, or is to be.
    came_late: BTreeSet<i64>,
    /// Whether changes without a schema may have been merged before any definition told how they are written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_untold: bool,
}

/// Since when the table lacks values of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lacking {
    since: i64,
    /// The columns that cannot hold them, in words; `None`: there is no column.
    held_as: Option<String>,
}

impl Unfilled {
    /// Reads what a ledger entry says. One that cannot be read is as good as none.
    pub fn from_entry(unfilled: Option<&str>) -> Self {
        unfilled.and_then(|unfilled| serde_json::from_str(unfilled).ok()).unwrap_or_default()
    }

    /// As a ledger entry keeps it; `None` if nothing is open.
    pub fn to_entry(&self) -> Option<String> {
        if *self == (Self { is_begun: self.is_begun, ..Self::default() }) {
            return None;
        }
        serde_json::to_string(self).ok()
    }

    /// Takes in whether an earlier run began to merge again and did not finish. What is said from now on is said of what comes after.
    pub fn set_begun(&mut self, is_begun: bool) {
        self.is_begun = is_begun;
        if !is_begun && let Some(from_us) = self.then_again_from.take() {
            self.merge_again(from_us);
        }
    }

    /// Records from this time on are to be merged again; whether that is news.
    pub fn merge_again(&mut self, from_us: i64) -> bool {
        let from = if self.is_begun { &mut self.then_again_from } else { &mut self.again_from };
        let is_news = from.is_none_or(|from| from_us < from);
        if is_news {
            *from = Some(from_us);
        }
        is_news
    }

    /// Notes that the table is taken back from where it was merged to.
    pub fn taken_back(&mut self, from_us: i64) {
        self.merged_to.get_or_insert(from_us);
    }

    /// Notes that it is merged up to where it stands.
    pub fn merged_to_the_end(&mut self) {
        self.merged_to = None;
    }

    /// Since when records wait that were never merged, of a table whose oldest to be merged is of this time.
    pub fn waits_since(&self, oldest_us: Option<i64>) -> Option<i64> {
        self.merged_to.map_or(oldest_us, |merged_to| oldest_us.map(|oldest| oldest.max(merged_to)))
    }

    /// From when on records are to be merged again.
    pub fn again_from(&self) -> Option<i64> {
        self.again_from
    }

    /// Takes in what a fold found: members for which the table has no column, and columns that could not hold a value, since when.
    /// Returns the members without a column that are news.
    pub fn note(
        &mut self,
        unknown: &BTreeSet<String>,
        unknown_since: Option<i64>,
        flawed: &BTreeSet<String>,
        flawed_since: Option<i64>,
        columns: &[FinalColumn],
    ) -> Vec<String> {
        let mut news = Vec::new();
        for (member, since) in unknown.iter().zip(std::iter::repeat(unknown_since)) {
            // How a member's name is written in JSON_KEYS is not the same everywhere.
            let is_known = columns.iter().any(|column| {
                let is_quoted = |held: &NameHeld| held.name != *member && is_member(&held.name, member);
                !column.names.now.is_bounded() && is_member(column.member(), member)
                    || column.names.former.iter().any(is_quoted)
            });
            if let Some(since) = since.filter(|_| !is_known)
                && !self.members.contains_key(member)
            {
                self.members.insert(member.clone(), Lacking { since, held_as: held_as(columns, member) });
                news.push(member.clone());
            }
        }
        for column in columns.iter().filter(|column| flawed.contains(&column.name)) {
            if let Some(since) = flawed_since {
                let held_as = held_as(columns, column.member());
                let lacking = Lacking { since, held_as };
                let known = self.members.entry(column.member().to_owned()).or_insert_with(|| lacking.clone());
                known.held_as = lacking.held_as;
            }
        }
        news
    }

    /// Compares with a table's columns: members that have a column now, or one of another type, or none any more that could not hold them,
    /// are to be merged again from when on they were lacking; names that are another column's since a time from that time on; and everything once a control record has come
    /// after a newer one, if any name is told by time. So is what was sent since values are written in another way, and everything once that is told for the first
    /// time. Returns whether a control record has come late.
    pub fn meet(
        &mut self,
        columns: &[FinalColumn],
        history: Option<&SourceHistory>,
        without_schema: &WithoutSchemaRead,
    ) -> bool {
        let is_met = |member: &str, lacking: &Lacking| held_as(columns, member) != lacking.held_as;
        let met: Vec<i64> = self
            .members
            .iter()
            .filter(|(member, lacking)| is_met(member, lacking))
            .map(|(_, lacking)| lacking.since)
            .collect();
        self.members.retain(|member, lacking| !is_met(member, lacking));
        // Values may have been merged into the column that had the name before.
        let held = columns.iter().flat_map(|column| column.names.newest_first()).filter(|held| held.is_bounded());
        let mut told: BTreeSet<_> = held.map(|held| (held.name.clone(), held.since_us, held.until_us)).collect();
        if let WithoutSchemaRead::ByDefinition(encodings) = without_schema {
            told.extend(encodings.changes().map(|(name, since_us)| (name.to_owned(), Some(since_us), None)));
            if self.is_untold && !encodings.0.is_empty() {
                self.merge_again(0);
            }
            self.is_untold = encodings.0.is_empty();
        }
        let news: Vec<_> = told.difference(&self.told_by_time).collect();
        let gone = self.told_by_time.difference(&told).filter(|(name, ..)| news.iter().any(|(new, ..)| new == name));
        let bounds = news.iter().copied().chain(gone).flat_map(|(_, since_us, until_us)| [since_us, until_us]);
        if let Some(from_us) = bounds.flatten().min() {
            self.merge_again(Epochs::ingested_from(*from_us));
        }
        // Or, while a control record was on its way, into any whose name it turns out to have been.
        let came_late = history.map_or_else(|| self.came_late.clone(), |history| history.came_late().collect());
        let is_late = !told.is_empty() && !came_late.is_subset(&self.came_late);
        if is_late {
            self.merge_again(0);
        }
        self.came_late = came_late;
        self.told_by_time = told;
        if let Some(since) = met.into_iter().min() {
            self.merge_again(since);
        }
        is_late
    }

    /// Whether [`Self::meet`] may find something, as far as the table by itself says.
    pub fn may_be_met(&self, table: &Table) -> bool {
        let columns: Vec<FinalColumn> = table
            .schema
            .fields
            .iter()
            .filter_map(|field| {
                let (names, column_type) = (names_of(field, None, &BTreeSet::new()), ColumnType::from_field(field)?);
                Some(FinalColumn { name: field.name.clone(), names, column_type, is_key: false })
            })
            .collect();
        self.members.iter().any(|(member, lacking)| {
            let held_as = held_as(&columns, member);
            // A person's spelling may be another.
            let is_alike = columns.iter().any(|column| is_alike(&column.name, member));
            match held_as {
                Some(_) => held_as != lacking.held_as,
                None => lacking.held_as.is_none() == is_alike,
            }
        })
    }

    /// Whether the table lacks values that it may hold once it is altered, or has to be altered.
    pub fn is_lacking(&self) -> bool {
        self.is_definition_due || !self.members.is_empty()
    }

    /// Whether the source's definition is still to be applied.
    pub fn is_definition_due(&self) -> bool {
        self.is_definition_due
    }

    /// Notes whether the source's definition is still to be applied.
    pub fn set_definition_due(&mut self, is_due: bool) {
        self.is_definition_due = is_due;
    }

    /// Everything is merged again that was begun. What was said since then is next.
    pub fn merged_again(&mut self) {
        self.again_from = self.then_again_from.take();
        self.is_begun = false;
    }
}

/// Whether `JSON_KEYS` means this member: BigQuery puts some names between quotes.
fn is_member(name: &str, written: &str) -> bool {
    name == written || serde_json::to_string(name).is_ok_and(|quoted| quoted == written)
}

/// The columns that hold a member, and when, as it is remembered.
fn held_as(columns: &[FinalColumn], member: &str) -> Option<String> {
    let mut held: Vec<String> = Vec::new();
    for column in columns {
        let own = column.names.newest_first().filter(|held| is_member(&held.name, member));
        held.extend(own.map(|own| format!("{:?} {:?} {:?}", column.column_type, own.since_us, own.until_us)));
    }
    held.sort();
    (!held.is_empty()).then(|| held.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    use crate::config::Deletes;
    use crate::merge::definition::{ControlRecord, Definitions};
    use crate::merge::final_table::{FinalTable, new_table};

    fn orders() -> SourceTable {
        SourceTable { schema: "shop".into(), table: "orders".into() }
    }

    fn name() -> TableName {
        TableName { dataset: "replica".into(), table: "shop_orders".into() }
    }

    fn control(columns: &serde_json::Value) -> String {
        json!({"table-def": {"columns": columns, "primary-key": ["id"]}}).to_string()
    }

    /// The history of these control records.
    fn history(records: impl IntoIterator<Item = (&'static str, String)>) -> SourceHistory {
        let mut definitions = Definitions::default();
        for (place, (operation, control)) in (0i64..).zip(records) {
            let record = ControlRecord::new(place * 10, ("t".into(), 0, place), operation, &control).unwrap();
            definitions.take(record);
        }
        definitions.history().unwrap()
    }

    /// A table that was made by the first of these definitions, and the history of all.
    fn altered(records: &[(&'static str, serde_json::Value)]) -> (Table, SourceHistory) {
        let history = history(records.iter().map(|(operation, columns)| (*operation, control(columns))));
        let first = SourceDefinition::from_control(&control(&records.first().unwrap().1)).unwrap();
        (new_table("p", &name(), &orders(), &first, Deletes::Hard).unwrap().0, history)
    }

    fn former(column: &FinalColumn) -> Vec<&str> {
        column.names.former.iter().map(|held| held.name.as_str()).collect()
    }

    fn field_of(added: &Added) -> Field {
        Field { description: added.description.clone(), ..added.to.field(&added.column) }
    }

    /// What BigQuery does, as far as these steps go.
    fn apply(table: &mut Table, step: &Step) {
        let fields = &mut table.schema.fields;
        let mut field = |name: &str| fields.iter_mut().find(|field| field.name == name).unwrap().clone();
        let mut put = Vec::new();
        match step {
            Step::Describe { column, description } => {
                put.push((column.clone(), Some(Field { description: Some(description.clone()), ..field(column) })));
            }
            Step::Rename { renames, .. } => {
                for (from, to) in renames {
                    fields.iter_mut().find(|field| field.name == *from).unwrap().name.clone_from(to);
                }
                return;
            }
            Step::Drop { column } => put.push((column.clone(), None)),
            Step::Widen { column, to } => {
                let description = field(column).description;
                put.push((column.clone(), Some(Field { description, ..to.field(column) })));
            }
            Step::AddCopy { copy: added, .. } => fields.push(field_of(added)),
            Step::Add { columns } => fields.extend(columns.iter().map(field_of)),
            Step::Replace { conversion: Conversion { column, .. }, copy, replaced }
            | Step::Renew { column, copy, replaced, .. } => {
                put.push((column.clone(), Some(Field { name: replaced.clone(), ..field(column) })));
                put.push((copy.clone(), Some(Field { name: column.clone(), ..field(copy) })));
            }
        }
        let places: Vec<usize> =
            put.iter().map(|(name, _)| fields.iter().position(|field| field.name == *name).unwrap()).collect();
        for ((_, new), place) in put.into_iter().zip(places) {
            match new {
                Some(new) => *fields.get_mut(place).unwrap() = new,
                None => drop(fields.remove(place)),
            }
        }
    }

    /// The steps in short, and what a person is told in the end. Every step is looked at from the table alone, as after an interruption.
    fn all_steps(table: &mut Table, history: &SourceHistory, dropped: DroppedColumns) -> (Vec<String>, Vec<String>) {
        let mut steps = Vec::new();
        loop {
            let difference = difference(&name(), &orders(), table, history, dropped, &BTreeSet::new());
            let Some(step) = difference.step else {
                return (steps, difference.for_a_person);
            };
            assert!(steps.len() < 20, "{steps:?}");
            steps.push(step.in_short());
            apply(table, &step);
        }
    }

    fn columns(table: &Table) -> Vec<String> {
        let fields = table.schema.fields.iter().filter(|field| !field.name.starts_with(OWN_PREFIX));
        fields.map(|field| format!("{} {}", field.name, field.field_type)).collect()
    }

    #[test]
    fn a_renamed_column_keeps_its_values_and_reads_both_names() {
        let (mut table, history) = altered(&[
            ("create-table", json!({"id": {"type": "INT64"}, "a": {"type": "INT32"}})),
            ("rename-column", json!({"id": {"type": "INT64"}, "b": {"type": "INT32"}})),
            ("rename-column", json!({"id": {"type": "INT64"}, "c.d": {"type": "INT32"}})),
        ]);
        let (steps, for_a_person) = all_steps(&mut table, &history, DroppedColumns::Keep);
        let renamed = columns(&table).into_iter().find(|column| !column.starts_with("id")).unwrap();
        assert!(renamed.starts_with("c_d_"), "{renamed}");
        assert_eq!(steps, ["describe a".to_owned(), format!("rename a to {}", renamed.replace(" INT64", ""))]);
        assert!(for_a_person.is_empty());
        let table = FinalTable::existing(name(), &orders(), &table, history.newest(), Deletes::Hard).unwrap();
        let column = table.columns.iter().find(|column| !column.is_key).unwrap();
        assert_eq!((column.member(), former(column)), ("c.d", vec!["a", "b"]));
        assert!(table.missing_columns.is_empty());
    }

    #[test]
    fn a_name_that_is_given_to_another_column_takes_no_values_with_it() {
        let int = || json!({"type": "INT32"});
        let records = [
            ("create-table", json!({"id": int(), "a": int()})),
            ("rename-column", json!({"id": int(), "b": int()})),
            ("add-column", json!({"id": int(), "b": int(), "a": int()})),
            ("rename-column", json!({"id": int(), "b": int(), "aa": int()})),
        ];
        for dropped in [DroppedColumns::Keep, DroppedColumns::Drop] {
            // However many of them one run finds.
            for cut in [3, 4] {
                let (mut table, history) = altered(records.get(..cut).unwrap());
                let (steps, _) = all_steps(&mut table, &history, dropped);
                let newest = if cut == 3 { "a" } else { "aa" };
                assert_eq!(steps, ["describe a", "rename a to b", &format!("add {newest} INT64")], "{cut}");
                let (_, history) = altered(&records);
                let (steps, _) = all_steps(&mut table, &history, dropped);
                let mut columns = columns(&table);
                columns.sort();
                assert_eq!(columns, ["aa INT64", "b INT64", "id INT64"], "{cut}: {steps:?}");
            }
        }
    }

    #[test]
    fn a_column_that_was_renamed_keeps_what_a_person_wrote_about_it() {
        let (mut table, history) = altered(&[
            ("create-table", json!({"id": {"type": "INT64"}, "a": {"type": "TIMESTAMP"}})),
            ("rename-column", json!({"id": {"type": "INT64"}, "b": {"type": "TIMESTAMP"}})),
        ]);
        let field = table.schema.fields.iter_mut().find(|field| field.name == "a").unwrap();
        field.description = Some("When it was ordered, strait_zone=Europe/Berlin".to_owned());
        let (steps, _) = all_steps(&mut table, &history, DroppedColumns::Keep);
        assert_eq!(steps, ["describe a", "rename a to b"]);
        let field = table.schema.fields.iter().find(|field| field.name == "b").unwrap();
        let description = field.description.as_deref().unwrap();
        assert!(description.ends_with(" When it was ordered, strait_zone=Europe/Berlin"), "{description}");
        assert_eq!(ColumnNames::in_description(description).unwrap().former, [NameHeld::always("a")]);
        assert!(matches!(ColumnType::from_field(field), Some(ColumnType::TimestampIn(_))));
    }

    #[test]
    fn a_key_column_that_was_renamed_goes_on_under_its_old_name_and_a_person_is_told() {
        let created = json!({"id": {"type": "INT64"}, "a": {"type": "INT32"}});
        let (mut table, _) = altered(&[("create-table", created.clone())]);
        let renamed = json!({"table-def": {"columns": {"key": {"type": "INT64"}, "a": {"type": "INT32"}}, "primary-key": ["key"]}});
        let history = history([("create-table", control(&created)), ("rename-column", renamed.to_string())]);
        let (steps, for_a_person) = all_steps(&mut table, &history, DroppedColumns::Keep);
        assert_eq!(steps, ["describe id"]);
        assert!(for_a_person.concat().contains("renamed a column to key"), "{for_a_person:?}");
        let table = FinalTable::existing(name(), &orders(), &table, history.newest(), Deletes::Hard).unwrap();
        assert_eq!(table.key().map(|column| column.member()).collect::<Vec<_>>(), ["key"]);
    }

    #[test]
    fn a_column_of_a_declared_foreign_key_is_neither_renamed_nor_dropped() {
        let create = ("create-table", json!({"id": {"type": "INT64"}, "a": {"type": "INT32"}}));
        for (operation, columns, said) in [
            ("rename-column", json!({"id": {"type": "INT64"}, "b": {"type": "INT32"}}), "renamed a column to b"),
            ("drop-column", json!({"id": {"type": "INT64"}}), "dropped column a"),
        ] {
            let (mut table, history) = altered(&[create.clone(), (operation, columns)]);
            let foreign = json!([{"columnReferences": [{"referencingColumn": "a", "referencedColumn": "x"}]}]);
            table.table_constraints.as_mut().unwrap().foreign_keys = serde_json::from_value(foreign).unwrap();
            let (steps, for_a_person) = all_steps(&mut table, &history, DroppedColumns::Drop);
            assert!(steps.iter().all(|step| step == "describe a"), "{steps:?}");
            assert!(for_a_person.concat().contains(said), "{for_a_person:?}");
        }
    }

    #[test]
    fn a_column_that_is_added_after_it_was_renamed_reads_its_former_names() {
        let (mut table, history) = altered(&[
            ("create-table", json!({"id": {"type": "INT64"}})),
            ("add-column", json!({"id": {"type": "INT64"}, "x": {"type": "INT32"}})),
            ("rename-column", json!({"id": {"type": "INT64"}, "y": {"type": "INT32"}})),
            ("rename-column", json!({"id": {"type": "INT64"}, "z": {"type": "INT32"}})),
        ]);
        assert_eq!(all_steps(&mut table, &history, DroppedColumns::Keep), (vec!["add z INT64".to_owned()], Vec::new()));
        let table = FinalTable::existing(name(), &orders(), &table, history.newest(), Deletes::Hard).unwrap();
        assert_eq!(former(table.columns.last().unwrap()), ["x", "y"]);
    }

    #[test]
    fn a_column_that_went_and_came_again_keeps_no_value_of_the_one_that_went() {
        let records = [
            ("create-table", json!({"id": {"type": "INT64"}, "x": {"type": "INT32"}})),
            ("drop-column", json!({"id": {"type": "INT64"}})),
            ("add-column", json!({"id": {"type": "INT64"}, "x": {"type": "WSTRING"}})),
        ];
        let in_place = ["add COPY STRING", "put COPY, empty, in the place of x", "drop REPLACED"];
        for (dropped, cut, expected) in [
            (DroppedColumns::Keep, 3, &in_place[..]),
            (DroppedColumns::Keep, 2, &in_place[..]),
            (DroppedColumns::Drop, 3, &in_place[..]),
            (DroppedColumns::Drop, 2, &["add x STRING"][..]),
        ] {
            // However many of them one run finds.
            let (mut table, history) = altered(records.get(..cut).unwrap());
            if cut < records.len() {
                all_steps(&mut table, &history, dropped);
            }
            let (_, history) = altered(&records);
            let (steps, for_a_person) = all_steps(&mut table, &history, dropped);
            let steps: Vec<String> = steps
                .iter()
                .map(|step| step.replace(&copy_of("x"), "COPY").replace(&replaced_of("x"), "REPLACED"))
                .collect();
            assert_eq!(steps, expected, "{dropped:?} {cut}");
            assert!(for_a_person.is_empty(), "{for_a_person:?}");
            assert_eq!(columns(&table), ["id INT64", "x STRING"]);
            let table = FinalTable::existing(name(), &orders(), &table, history.newest(), Deletes::Hard).unwrap();
            let column = table.columns.iter().find(|column| column.member() == "x").unwrap();
            assert_eq!(column.names.now.since_us, Some(15));
            // Whatever was merged before into the column in whose place it is, is merged again: once.
            let mut unfilled = Unfilled::default();
            unfilled.meet(&table.columns, None, &WithoutSchemaRead::NotApplied);
            assert_eq!(unfilled.again_from(), Some(Epochs::ingested_from(15)));
            unfilled.merged_again();
            let mut read_back = Unfilled::from_entry(unfilled.to_entry().as_deref());
            read_back.meet(&table.columns, None, &WithoutSchemaRead::NotApplied);
            assert_eq!(read_back.again_from(), None);
        }
    }

    #[test]
    fn a_kept_column_takes_nothing_of_one_that_has_a_former_name_of_its_own() {
        let id = || json!({"id": {"type": "INT64"}});
        let with = |name: &str| json!({"id": {"type": "INT64"}, name: {"type": "INT32"}});
        let records = [
            ("create-table", with("a")),
            ("rename-column", with("b")),
            ("drop-column", id()),
            ("add-column", with("a")),
            ("rename-column", with("c")),
        ];
        let (mut table, history) = altered(records.get(..2).unwrap());
        all_steps(&mut table, &history, DroppedColumns::Keep);
        let (_, history) = altered(&records);
        all_steps(&mut table, &history, DroppedColumns::Keep);
        let table = FinalTable::existing(name(), &orders(), &table, None, Deletes::Hard).unwrap();
        let reading = |us: i64| {
            let reads =
                |column: &&FinalColumn| column.names.newest_first().any(|held| held.name == "a" && held.is_at(us));
            table.columns.iter().filter(reads).map(|column| column.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!((reading(5), reading(35)), (vec!["b"], vec!["c"]));
    }

    #[test]
    fn once_a_control_record_came_after_a_newer_one_everything_is_merged_again_and_said() {
        let with = |name: &str| json!({"id": {"type": "INT64"}, "a": {"type": "INT32"}, name: {"type": "INT32"}});
        let mut definitions = Definitions::default();
        let mut unfilled = Unfilled::default();
        let mut take = |hour: i64, operation: &str, columns: &serde_json::Value| {
            let sent_us = hour * 3_600_000_000;
            let record = ControlRecord::new(sent_us, ("t".into(), 0, hour), operation, &control(columns)).unwrap();
            definitions.take(record);
            definitions.history().unwrap()
        };
        let history = take(0, "create-table", &with("x"));
        let definition = history.newest().cloned().unwrap();
        let mut table = new_table("p", &name(), &orders(), &definition, Deletes::Hard).unwrap().0;
        take(30, "add-column", &with("x"));
        let history = take(20, "drop-column", &json!({"id": {"type": "INT64"}, "a": {"type": "INT32"}}));
        all_steps(&mut table, &history, DroppedColumns::Drop);
        let columns = FinalTable::existing(name(), &orders(), &table, None, Deletes::Hard).unwrap().columns;
        assert!(unfilled.meet(&columns, Some(&history), &WithoutSchemaRead::NotApplied));
        assert_eq!(unfilled.again_from(), Some(0));
        unfilled.merged_again();
        // As the ledger keeps both.
        let history = Definitions::from_entry(definitions.to_entry().as_deref()).unwrap().history();
        let mut unfilled = Unfilled::from_entry(unfilled.to_entry().as_deref());
        assert!(!unfilled.meet(&columns, history.as_ref(), &WithoutSchemaRead::NotApplied));
        assert_eq!(unfilled.again_from(), None);
    }

    #[test]
    fn of_two_columns_that_turn_out_to_be_one_the_older_goes() {
        let with = |name: &str| json!({"id": {"type": "INT64"}, name: {"type": "INT32"}});
        // The record of the rename comes after that of a load.
        let (mut table, history) = altered(&[("create-table", with("a")), ("create-table", with("b"))]);
        all_steps(&mut table, &history, DroppedColumns::Keep);
        assert_eq!(columns(&table), ["a INT64", "id INT64", "b INT64"]);
        let (_, history) =
            altered(&[("create-table", with("a")), ("rename-column", with("b")), ("create-table", with("b"))]);
        all_steps(&mut table, &history, DroppedColumns::Keep);
        assert_eq!(columns(&table), ["id INT64", "b INT64"]);
    }

    #[test]
    fn a_copy_that_was_filled_for_another_type_is_not_taken_for_the_column_that_came_again() {
        let records = [
            ("create-table", json!({"id": {"type": "INT64"}, "n": {"type": "INT32"}})),
            ("column-type-change", json!({"id": {"type": "INT64"}, "n": {"type": "WSTRING"}})),
            ("drop-column", json!({"id": {"type": "INT64"}})),
            ("add-column", json!({"id": {"type": "INT64"}, "n": {"type": "WSTRING"}})),
        ];
        let (mut table, history) = altered(records.get(..2).unwrap());
        let step =
            difference(&name(), &orders(), &table, &history, DroppedColumns::Keep, &BTreeSet::new()).step.unwrap();
        apply(&mut table, &step);
        let (_, history) = altered(&records);
        let (steps, _) = all_steps(&mut table, &history, DroppedColumns::Keep);
        let (copy, replaced) = (copy_of("n"), replaced_of("n"));
        assert_eq!(
            steps,
            [
                format!("drop {copy}"),
                format!("add {copy} STRING"),
                format!("put {copy}, empty, in the place of n"),
                format!("drop {replaced}"),
            ]
        );
    }

    #[test]
    fn a_rename_or_a_type_of_which_nothing_is_known_from_before_is_said_with_what_to_run() {
        let created = json!({"id": {"type": "INT64"}, "a": {"type": "INT32"}});
        let (mut table, _) = altered(&[("create-table", created)]);
        let renamed = history([("rename-column", control(&json!({"id": {"type": "INT64"}, "b": {"type": "INT32"}})))]);
        let (steps, for_a_person) = all_steps(&mut table, &renamed, DroppedColumns::Keep);
        let said = for_a_person.concat();
        assert!(steps.is_empty() && said.contains("`b` INT64"), "{said}");
        let answer = r#"ALTER COLUMN `a` SET OPTIONS (description = 'Source column: "b", formerly ["a"]')"#;
        assert!(said.contains(answer), "{said}");
        assert!(said.contains("of `a` the source has none"), "{said}");
        // A person's answer.
        let field = table.schema.fields.iter_mut().find(|field| field.name == "a").unwrap();
        let names = ColumnNames { former: vec![NameHeld::always("a")], ..ColumnNames::new("b") };
        field.description = Some(names.described());
        assert_eq!(
            all_steps(&mut table, &renamed, DroppedColumns::Keep),
            (vec!["rename a to b".to_owned()], Vec::new())
        );
        // What is added afterwards is new.
        let added = history([
            ("rename-column", control(&json!({"id": {"type": "INT64"}, "b": {"type": "INT32"}}))),
            ("add-column", control(&json!({"id": {"type": "INT64"}, "b": {"type": "INT32"}, "c": {"type": "DATE"}}))),
        ]);
        assert_eq!(all_steps(&mut table, &added, DroppedColumns::Keep).0, ["add c DATE"]);

        let created = json!({"id": {"type": "INT64"}, "a": {"type": "INT32"}});
        let (mut table, _) = altered(&[("create-table", created)]);
        let typed =
            history([("column-type-change", control(&json!({"id": {"type": "INT64"}, "a": {"type": "DATE"}})))]);
        let (steps, for_a_person) = all_steps(&mut table, &typed, DroppedColumns::Keep);
        assert!(steps.is_empty() && for_a_person.concat().contains("ADD COLUMN `a` DATE"), "{for_a_person:?}");
        let typed =
            history([("column-type-change", control(&json!({"id": {"type": "INT64"}, "a": {"type": "INT16"}})))]);
        assert_eq!(all_steps(&mut table, &typed, DroppedColumns::Keep), (Vec::new(), Vec::new()));
    }

    #[test]
    fn columns_that_took_each_others_names_are_renamed_in_one_statement() {
        let created = json!({"id": {"type": "INT64"}, "a": {"type": "INT32"}, "b": {"type": "INT32"}});
        // Objects of serde_json are sorted; the order is the record's.
        let after = control(&created)
            .replace(r#""a":{"type":"INT32"},"b":{"type":"INT32"}"#, r#""b":{"type":"INT32"},"a":{"type":"INT32"}"#);
        let (mut table, _) = altered(&[("create-table", created.clone())]);
        let history = history([("create-table", control(&created)), ("rename-column", after)]);
        let (steps, for_a_person) = all_steps(&mut table, &history, DroppedColumns::Keep);
        let passing = replaced_of("a");
        let renamed = format!("rename a to {passing}, rename b to a, rename {passing} to b");
        assert_eq!(steps, ["describe a", "describe b", renamed.as_str()]);
        assert!(for_a_person.is_empty(), "{for_a_person:?}");
        assert_eq!(columns(&table), ["b INT64", "a INT64", "id INT64"]);
        let said = swapped(&name(), &orders(), &history, 10).concat();
        assert!(
            said.contains("RENAME COLUMN `a` TO `a_`, RENAME COLUMN `b` TO `a`, RENAME COLUMN `a_` TO `b`"),
            "{said}"
        );
        assert!(swapped(&name(), &orders(), &history, 11).is_empty());
    }

    #[test]
    fn a_dropped_column_stays_unless_told_otherwise_and_a_persons_own_stays_always() {
        let records = [
            ("create-table", json!({"id": {"type": "INT64"}, "a": {"type": "INT32"}})),
            ("drop-column", json!({"id": {"type": "INT64"}})),
        ];
        let (mut table, history) = altered(&records);
        table.schema.fields.push(Field { name: "mine".into(), field_type: "STRING".into(), ..Field::default() });
        assert_eq!(all_steps(&mut table, &history, DroppedColumns::Keep), (Vec::new(), Vec::new()));
        assert_eq!(all_steps(&mut table, &history, DroppedColumns::Drop), (vec!["drop a".to_owned()], Vec::new()));
        assert_eq!(columns(&table), ["id INT64", "mine STRING"]);
    }

    #[test]
    fn a_type_is_widened_in_place_or_the_column_replaced_or_a_person_told() {
        let typed = |n: serde_json::Value| json!({"id": {"type": "INT64"}, "n": n});
        for (from, to, steps, person) in [
            (json!({"type": "INT32"}), json!({"type": "INT64"}), vec![], false),
            (json!({"type": "INT32"}), json!({"type": "DOUBLE"}), vec!["make n FLOAT64"], false),
            (
                json!({"type": "NUMERIC", "precision": 5, "scale": 2}),
                json!({"type": "NUMERIC", "precision": 9, "scale": 4}),
                vec!["make n NUMERIC(9, 4)"],
                false,
            ),
            (
                json!({"type": "INT32"}),
                json!({"type": "WSTRING", "length": 10}),
                vec!["add COPY STRING", "put COPY in the place of n", "drop REPLACED"],
                false,
            ),
            (json!({"type": "DATETIME"}), json!({"type": "WSTRING"}), vec![], true),
            (json!({"type": "DOUBLE"}), json!({"type": "INT64"}), vec![], true),
        ] {
            let (mut table, history) =
                altered(&[("create-table", typed(from)), ("column-type-change", typed(to.clone()))]);
            let (taken, for_a_person) = all_steps(&mut table, &history, DroppedColumns::Keep);
            let taken: Vec<String> = taken
                .iter()
                .map(|step| step.replace(&copy_of("n"), "COPY").replace(&replaced_of("n"), "REPLACED"))
                .collect();
            assert_eq!(taken, steps, "{to}");
            assert_eq!(!for_a_person.is_empty(), person, "{to}: {for_a_person:?}");
            assert_eq!(columns(&table).len(), 2, "{to}");
        }
    }

    #[test]
    fn columns_that_are_added_are_added_by_one_statement() {
        let added =
            json!({"id": {"type": "INT64"}, "a": {"type": "INT32"}, "b.c": {"type": "DATE"}, "d": {"type": "BOOL"}});
        let (mut table, history) =
            altered(&[("create-table", json!({"id": {"type": "INT64"}})), ("change-columns", added)]);
        let step =
            difference(&name(), &orders(), &table, &history, DroppedColumns::Keep, &BTreeSet::new()).step.unwrap();
        let [sql] = <[String; 1]>::try_from(step.statements("p", &name()).unwrap()).unwrap();
        assert_eq!(sql.matches("ADD COLUMN IF NOT EXISTS").count(), 3, "{sql}");
        apply(&mut table, &step);
        assert_eq!(all_steps(&mut table, &history, DroppedColumns::Keep), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_table_that_requires_a_partition_filter_is_converted_under_one() {
        let typed = |n: &str| json!({"id": {"type": "INT64"}, "n": {"type": n}, "day": {"type": "DATE"}});
        let (mut table, history) =
            altered(&[("create-table", typed("INT32")), ("column-type-change", typed("WSTRING"))]);
        table.time_partitioning = serde_json::from_value(json!({"type": "DAY", "field": "day"})).unwrap();
        table.require_partition_filter = Some(true);
        let mut reading = 0;
        for _ in 0..2 {
            let step =
                difference(&name(), &orders(), &table, &history, DroppedColumns::Keep, &BTreeSet::new()).step.unwrap();
            let alter = step.statements("p", &name()).unwrap();
            let queries = [step.unconvertible("p", &name()).unwrap(), step.unconverted("p", &name()).unwrap()];
            let reads = |sql: &String| sql.starts_with("SELECT") || sql.starts_with("UPDATE");
            for sql in alter.into_iter().chain(queries.into_iter().flatten()).filter(reads) {
                assert!(sql.ends_with("WHERE (`day` IS NULL OR `day` IS NOT NULL)"), "{sql}");
                reading += 1;
            }
            apply(&mut table, &step);
        }
        assert_eq!(reading, 4);
    }

    #[test]
    fn a_type_that_a_person_chose_stays() {
        let (mut table, history) = altered(&[
            ("create-table", json!({"id": {"type": "INT64"}, "n": {"type": "INT32"}})),
            ("column-type-change", json!({"id": {"type": "INT64"}, "n": {"type": "DOUBLE"}})),
        ]);
        table.schema.fields.get_mut(1).unwrap().field_type = "STRING".into();
        assert_eq!(all_steps(&mut table, &history, DroppedColumns::Keep), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_copy_that_is_no_longer_wanted_is_dropped() {
        let records = [
            ("create-table", json!({"id": {"type": "INT64"}, "n": {"type": "INT32"}})),
            ("column-type-change", json!({"id": {"type": "INT64"}, "n": {"type": "WSTRING"}})),
            ("column-type-change", json!({"id": {"type": "INT64"}, "n": {"type": "INT32"}})),
        ];
        let (mut table, history) = altered(records.get(..2).unwrap());
        let step =
            difference(&name(), &orders(), &table, &history, DroppedColumns::Keep, &BTreeSet::new()).step.unwrap();
        apply(&mut table, &step);
        let (_, history) = altered(&records);
        assert_eq!(all_steps(&mut table, &history, DroppedColumns::Keep).0, [format!("drop {}", copy_of("n"))]);
    }

    #[test]
    fn another_key_or_another_name_of_the_table_is_a_persons_matter() {
        let created = json!({"id": {"type": "INT64"}, "b": {"type": "INT32"}});
        let (mut table, _) = altered(&[("create-table", created.clone())]);
        let rekeyed = json!({"table-def": {"columns": {"id": {"type": "INT64"}, "b": {"type": "INT32"}}, "primary-key": ["b", "id"]}});
        let mut records = vec![("create-table", control(&created)), ("change-columns", rekeyed.to_string())];
        let history_ = history(records.clone());
        let (steps, for_a_person) = all_steps(&mut table, &history_, DroppedColumns::Keep);
        assert!(
            steps.is_empty() && for_a_person.concat().contains("ADD PRIMARY KEY (`b`, `id`) NOT ENFORCED"),
            "{for_a_person:?}"
        );
        records.push(("rename-table", "{}".to_owned()));
        let (_, for_a_person) = all_steps(&mut table, &history(records), DroppedColumns::Keep);
        assert!(for_a_person.concat().contains("RENAME TO"), "{for_a_person:?}");
    }

    #[test]
    fn a_column_that_was_altered_and_then_dropped_is_kept_as_it_was_at_the_end() {
        let records = [
            ("create-table", json!({"id": {"type": "INT64"}, "d": {"type": "DATE"}, "n": {"type": "INT32"}})),
            ("change-columns", json!({"id": {"type": "INT64"}, "d": {"type": "DATETIME"}, "n": {"type": "INT32"}})),
            ("drop-column", json!({"id": {"type": "INT64"}, "n": {"type": "INT32"}})),
        ];
        for (dropped, expected) in [
            (DroppedColumns::Keep, &["id INT64", "d DATETIME", "n INT64"][..]),
            (DroppedColumns::Drop, &["id INT64", "n INT64"]),
        ] {
            let (mut table, history) = altered(&records);
            let (steps, for_a_person) = all_steps(&mut table, &history, dropped);
            let mut found = columns(&table);
            found.sort_by_key(|column| expected.iter().position(|expected| expected == column));
            assert_eq!(found, expected, "{steps:?} {for_a_person:?}");
        }
    }

    #[test]
    fn what_a_table_lacks_is_merged_again_once_it_can_hold_it() {
        let (mut table, history) =
            altered(&[("create-table", json!({"id": {"type": "INT64"}, "n": {"type": "INT32"}}))]);
        let taken = |table: &Table| {
            FinalTable::existing(name(), &orders(), table, history.newest(), Deletes::Hard).unwrap().columns
        };
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let mut unfilled = Unfilled::default();
        let news = unfilled.note(&set(&["new", "\"a.b\"", "n"]), Some(7), &set(&["n"]), Some(5), &taken(&table));
        assert_eq!(news, ["\"a.b\"", "new"]);
        assert!(unfilled.note(&set(&["new"]), Some(3), &set(&[]), None, &taken(&table)).is_empty());
        unfilled.meet(&taken(&table), None, &WithoutSchemaRead::NotApplied);
        assert!(unfilled.again_from().is_none() && unfilled.is_lacking() && !unfilled.may_be_met(&table));
        table.schema.fields.push(Field { name: "new".into(), field_type: "STRING".into(), ..Field::default() });
        assert!(unfilled.may_be_met(&table));
        unfilled.meet(&taken(&table), None, &WithoutSchemaRead::NotApplied);
        assert_eq!(unfilled.again_from(), Some(7));
        table.schema.fields.get_mut(1).unwrap().field_type = "NUMERIC".into();
        unfilled.meet(&taken(&table), None, &WithoutSchemaRead::NotApplied);
        assert_eq!(unfilled.again_from(), Some(5));
    }

    #[test]
    fn what_a_column_could_not_hold_is_merged_again_once_the_column_is_gone() {
        let (mut table, history) =
            altered(&[("create-table", json!({"id": {"type": "INT64"}, "n": {"type": "INT32"}}))]);
        let taken = |table: &Table| {
            FinalTable::existing(name(), &orders(), table, history.newest(), Deletes::Hard).unwrap().columns
        };
        let mut unfilled = Unfilled::default();
        unfilled.note(&BTreeSet::new(), None, &BTreeSet::from(["n".to_owned()]), Some(5), &taken(&table));
        assert!(!unfilled.may_be_met(&table));
        table.schema.fields.remove(1);
        assert!(unfilled.may_be_met(&table));
        let columns: Vec<FinalColumn> = taken(&table).into_iter().filter(|column| column.name != "n").collect();
        unfilled.meet(&columns, None, &WithoutSchemaRead::NotApplied);
        assert_eq!((unfilled.again_from(), unfilled.is_lacking()), (Some(5), false));
        // Its values are lacking from then on, as those of any member without a column.
        assert_eq!(unfilled.note(&BTreeSet::from(["n".to_owned()]), Some(5), &BTreeSet::new(), None, &columns), ["n"]);
        assert!(unfilled.is_lacking() && !unfilled.may_be_met(&table));
    }

    #[test]
    fn merging_again_stays_open_until_it_is_done() {
        let mut unfilled = Unfilled::default();
        assert_eq!(unfilled.to_entry(), None);
        assert!(unfilled.merge_again(9));
        assert!(!unfilled.merge_again(9) && !unfilled.merge_again(10));
        assert!(unfilled.merge_again(5));
        let mut read_back = Unfilled::from_entry(unfilled.to_entry().as_deref());
        assert_eq!(read_back.again_from(), Some(5));
        read_back.merged_again();
        assert_eq!(read_back, Unfilled::default());
    }

    #[test]
    fn what_was_merged_before_a_table_was_taken_back_does_not_wait() {
        let mut unfilled = Unfilled::default();
        assert_eq!(unfilled.waits_since(Some(5)), Some(5));
        unfilled.merge_again(1);
        unfilled.taken_back(100);
        // By a run that failed and the next one, from where it stands by then.
        unfilled.taken_back(1);
        let mut read_back = Unfilled::from_entry(unfilled.to_entry().as_deref());
        assert_eq!(read_back.waits_since(Some(1)), Some(100));
        assert_eq!(read_back.waits_since(Some(200)), Some(200));
        assert_eq!(read_back.waits_since(None), None);
        read_back.merged_to_the_end();
        assert_eq!(read_back.waits_since(Some(5)), Some(5));
    }

    #[test]
    fn what_is_said_while_merging_again_is_under_way_is_done_after_it() {
        let mut unfilled = Unfilled::default();
        unfilled.merge_again(9);
        // Rows were changed by hand in the meantime, so a later time is no part of what was begun.
        for from in [7, 9, 11] {
            let mut next_run = Unfilled::from_entry(unfilled.to_entry().as_deref());
            next_run.set_begun(true);
            assert!(next_run.merge_again(from) && !next_run.merge_again(from));
            assert_eq!(next_run.again_from(), Some(9), "what was begun stays as it is");
            let mut run_after = Unfilled::from_entry(next_run.to_entry().as_deref());
            run_after.set_begun(true);
            run_after.merged_again();
            assert_eq!(run_after.again_from(), Some(from));
            run_after.merged_again();
            assert_eq!(run_after.to_entry(), None);
            // Or what was begun came to nothing.
            next_run.set_begun(false);
            assert_eq!(next_run.again_from(), Some(from.min(9)));
        }
    }
}
