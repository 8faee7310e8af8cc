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
use crate::names::{self, NameError, OWN_PREFIX, SourceTable, TableName, fingerprint, quote_column, string_literal};

use super::definition::{SourceColumn, SourceDefinition, SourceHistory};
use super::epoch::Epochs;
use super::final_table::{FinalColumn, NewColumn, filter_of, member_of, says_that_it_has_no_key};
use super::statement::add_columns;
use super::types::ColumnType;

/// How the column begins that a column of another type is filled in; the digits of its member's fingerprint follow.
const COPY_PREFIX: &str = "_strait_copy_";
/// How the column begins that has been replaced and is to be dropped.
const REPLACED_PREFIX: &str = "_strait_replaced_";

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
    /// Gives a column the name that its member has now.
    Rename {
        /// The column.
        column: String,
        /// Its new name.
        to: String,
        /// The description that it has. Google does not say that it keeps it.
        description: Option<String>,
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
            | Self::Rename { column, .. }
            | Self::Drop { column }
            | Self::Widen { column, .. }
            | Self::Renew { column, .. } => column,
            Self::Add { columns } => columns.first().map_or("", |added| &added.column),
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
            Self::Rename { column, to, .. } => format!("rename {column} to {to}"),
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
                let is_again = |added: &&Added| added.description.as_deref().and_then(names::column_since).is_some();
                columns.iter().filter(is_again).map(|added| added.column.as_str()).collect()
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
            Self::Rename { column, to, description } => {
                let mut statements = alter(format!("RENAME COLUMN {} TO {}", quote_column(column)?, quote_column(to)?));
                if let Some(description) = description {
                    statements.push(describe(&target, to, description)?);
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

/// A table and what may be done to it.
struct Altered<'a> {
    table: &'a Table,
    name: &'a TableName,
    history: &'a SourceHistory,
    newest: &'a [SourceColumn],
    columns: Vec<(&'a Field, String)>,
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
    let columns = table
        .schema
        .fields
        .iter()
        .filter(|field| !field.name.to_ascii_lowercase().starts_with(OWN_PREFIX))
        .map(|field| (field, member_of(field, Some(newest))))
        .collect();
    let altered = Altered { table, name, history, newest: &newest.columns, columns };
    let mut steps = altered.renames(&mut difference.for_a_person);
    if steps.is_empty() {
        steps.extend(altered.additions(&mut difference.for_a_person));
    }
    steps.extend(altered.left_over());
    steps.extend(altered.renewals(&mut difference.for_a_person));
    steps.extend(altered.retypes(&mut difference.for_a_person));
    steps.extend(altered.drops(dropped, &mut difference.for_a_person));
    difference.for_a_person.extend(altered.key(&newest.primary_key));
    difference.step = steps.into_iter().find(|step| !given_up.contains(step.column()));
    difference
}

impl Altered<'_> {
    /// BigQuery can neither rename nor drop it.
    fn is_fixed(&self, column: &str) -> bool {
        let time = self.table.time_partitioning.as_ref().and_then(|by| by.field.as_deref());
        let range = self.table.range_partitioning.as_ref().map(|by| by.field.as_str());
        let keys = self.table.clustering_columns().iter().chain(self.table.primary_key()).map(String::as_str);
        let keys = keys.chain(self.table.foreign_key_columns());
        keys.chain(time).chain(range).any(|fixed| fixed.eq_ignore_ascii_case(column))
    }

    fn has_column(&self, name: &str) -> bool {
        self.table.schema.fields.iter().any(|field| field.name.eq_ignore_ascii_case(name))
    }

    fn defines(&self, member: &str) -> Option<&SourceColumn> {
        self.newest.iter().find(|column| column.name == member)
    }

    fn holds(&self, member: &str) -> bool {
        self.columns.iter().any(|(_, held)| held == member)
    }

    /// What a member is called now, and what it was called on the way, itself included. A name that was used again may have been
    /// renamed more than once: the first rename whose column is still to be taken counts.
    fn renamed(&self, member: &str) -> Option<(String, Vec<String>)> {
        let renames = self.history.renames();
        let starts = renames.iter().enumerate().filter(|(_, (old, _))| old == member).map(|(place, _)| place);
        let chains: Vec<(String, Vec<String>)> = starts
            .map(|start| {
                let (mut now, mut former) = (member.to_owned(), Vec::new());
                for (old, new) in renames.iter().skip(start) {
                    if *old == now {
                        former.push(std::mem::replace(&mut now, new.clone()));
                    }
                }
                (now, former)
            })
            .collect();
        let open = chains.iter().find(|(now, _)| self.defines(now).is_some() && !self.holds(now));
        open.or(chains.last()).cloned()
    }

    /// Whether a column was renamed and its old name was given to another since: the last definition without the new name has the old
    /// one, and the next has it not.
    fn name_was_used_again(&self, old: &str, new: &str) -> bool {
        let earlier: Vec<&SourceDefinition> = self.history.earlier().collect();
        let Some(last_without) = earlier.iter().rposition(|definition| !definition.has(new)) else {
            return false;
        };
        let next = earlier.get(last_without.saturating_add(1));
        earlier.get(last_without).is_some_and(|before| before.has(old)) && next.is_some_and(|next| !next.has(old))
    }

    fn renames(&self, for_a_person: &mut Vec<String>) -> Vec<Step> {
        let mut steps = Vec::new();
        for (field, member) in &self.columns {
            let described = field.description.as_deref().map(names::former_columns).unwrap_or_default();
            let is_used_again = self
                .renamed(member)
                .is_some_and(|(now, _)| !self.holds(&now) && self.name_was_used_again(member, &now));
            if self.defines(member).is_none() || is_used_again {
                // First it takes the member, under the name that it has: from then on all is right but the name.
                if let Some((now, former)) = self.renamed(member)
                    && self.defines(&now).is_some()
                    && !self.holds(&now)
                {
                    let former: Vec<String> = described.into_iter().chain(former).collect();
                    let description = self.described(field, &now, &former);
                    steps.push(Step::Describe { column: field.name.clone(), description });
                }
                continue;
            }
            let wanted = names::column_names([member.as_str()]).into_iter().next().unwrap_or_default();
            if described.is_empty() {
                // A column that a person renamed likewise, or that lost its description with its name.
                let former = self.former_names(member);
                if !former.is_empty() && wanted == field.name {
                    let description = self.described(field, member, &former);
                    steps.push(Step::Describe { column: field.name.clone(), description });
                }
            } else if wanted != field.name && !self.has_column(&wanted) {
                if self.is_fixed(&field.name) {
                    for_a_person.push(format!(
                        "the source renamed a column to {member}: column {} of {} holds it, and BigQuery cannot rename a column that \
                         clusters, partitions or is a declared key. Its values go on. For the new name the table has to be made anew: \
                         CREATE TABLE … CLUSTER BY … AS SELECT * EXCEPT ({}), {} AS {} FROM {}",
                        field.name, self.name, field.name, field.name, wanted, self.name
                    ));
                } else {
                    steps.push(Step::Rename {
                        column: field.name.clone(),
                        to: wanted,
                        description: field.description.clone(),
                    });
                }
            }
        }
        steps
    }

    /// A column's description with its names, and with what a person wrote there: it may state a zone.
    fn described(&self, field: &Field, member: &str, former: &[String]) -> String {
        let names = names::column_description(member, former, since(field));
        match field.description.as_deref().map(names::beside_column_names).filter(|text| !text.is_empty()) {
            Some(text) => format!("{names} {text}"),
            None => names,
        }
    }

    /// What a member was called before, oldest first, without names that the source uses again.
    fn former_names(&self, member: &str) -> Vec<String> {
        let names = self.renamed_from(member).into_iter().skip(1).filter(|name| self.defines(name).is_none());
        let mut former: Vec<String> = names.map(str::to_owned).collect();
        former.reverse();
        former
    }

    /// Columns that the source has added. The names of those that are there stay.
    fn additions(&self, for_a_person: &mut Vec<String>) -> Vec<Step> {
        let added: Vec<&SourceColumn> = self.newest.iter().filter(|column| !self.holds(&column.name)).collect();
        let members = self.columns.iter().map(|(_, member)| member.as_str());
        let names = names::column_names(members.chain(added.iter().map(|column| column.name.as_str())));
        let names = names.into_iter().skip(self.columns.len());
        let (mut columns, mut perhaps_renamed) = (Vec::new(), Vec::new());
        for (column, name) in added.into_iter().zip(names) {
            if self.may_be_renamed(column) {
                perhaps_renamed.push((column.name.clone(), made_type(column)));
                continue;
            }
            let former = self.former_names(&column.name);
            let since_us = self.history.came_again(&column.name);
            let is_plain = name == column.name && former.is_empty() && since_us.is_none();
            let description = (!is_plain).then(|| names::column_description(&column.name, &former, since_us));
            columns.push(Added { column: name, to: made_type(column), description });
        }
        if let Some((new, _)) = perhaps_renamed.first() {
            let lacks: Vec<String> =
                perhaps_renamed.iter().map(|(name, to)| format!("`{name}` {}", to.sql())).collect();
            let has: Vec<String> = self.left_behind().into_iter().map(|(column, _)| format!("`{column}`")).collect();
            let (old, member) = self.left_behind().into_iter().next().unwrap_or_default();
            for_a_person.push(format!(
                "the source renamed a column, and what it was called before cannot be known: the definition from before is no longer in the log, and DMS \
                 does not say it. {name} lacks {}, and of {} the source has none. For one that was renamed run ALTER TABLE `{name}` ALTER COLUMN `{old}` SET \
                 OPTIONS (description = {}), after which it reads records of both shapes, and is renamed once a definition says its name; for one that is new ALTER TABLE \
                 `{name}` ADD COLUMN …; until then their values wait in the log",
                lacks.join(", "),
                has.join(", "),
                string_literal(&names::column_description(new, &[member], None)),
                name = self.name,
            ));
        }
        if columns.is_empty() { Vec::new() } else { vec![Step::Add { columns }] }
    }

    /// Columns that the source has no more, as far as could be renamed, with their members.
    fn left_behind(&self) -> Vec<(String, String)> {
        let columns = self.columns.iter().filter(|(field, member)| {
            self.defines(member).is_none()
                && !self.is_fixed(&field.name)
                && !self.history.earlier().any(|earlier| earlier.has(member))
        });
        columns.map(|(field, member)| (field.name.clone(), member.clone())).collect()
    }

    /// Whether a column that the table lacks may be one that it has, under the name from before a rename.
    fn may_be_renamed(&self, column: &SourceColumn) -> bool {
        self.history.unknown_rename().is_some_and(|renamed| renamed.has(&column.name)) && !self.left_behind().is_empty()
    }

    /// Since when a column is another one than that whose values the table has under its name.
    fn renewed(&self, field: &Field, member: &str) -> Option<i64> {
        self.defines(member)?;
        self.history.came_again(member).filter(|came_us| since(field).is_none_or(|since| since < *came_us))
    }

    /// Columns that went and came again: what the table holds is the values of those that went.
    fn renewals(&self, for_a_person: &mut Vec<String>) -> Vec<Step> {
        let mut steps = Vec::new();
        for (field, member) in &self.columns {
            let Some(came_us) = self.renewed(field, member) else {
                continue;
            };
            let (column, copy) = (field.name.clone(), copy_of(member));
            if self.is_fixed(&column) {
                for_a_person.push(format!(
                    "the source dropped column {member} and added it again: {column} of {} clusters, partitions or is part of a declared key, so rows \
                     that were not changed since have its earlier values. Reload the table in DMS",
                    self.name
                ));
                continue;
            }
            let names = names::column_description(member, &[], Some(came_us));
            let beside = field.description.as_deref().map(names::beside_column_names).unwrap_or_default();
            let description = format!("{names} {beside}").trim().to_owned();
            if self.has_column(&copy) {
                steps.push(Step::Renew { column, copy, replaced: replaced_of(member), description });
            } else if let Some(to) = self.retype(field, member).or_else(|| ColumnType::from_field(field)) {
                let copy = Added { column: copy, to, description: Some(description) };
                steps.push(Step::AddCopy { copy, conversion: None });
            }
        }
        steps
    }

    /// What a change of type left that is complete or no longer wanted.
    fn left_over(&self) -> Vec<Step> {
        let passing = self.table.schema.fields.iter().filter(|field| is_passing_column(&field.name));
        passing
            .filter(|field| {
                !self.columns.iter().any(|(column, member)| {
                    let is_wanted = match self.renewed(column, member) {
                        Some(came_us) => since(field) == Some(came_us) && !self.is_fixed(&column.name),
                        None => {
                            self.retype(column, member) == ColumnType::from_field(field)
                                && ColumnType::from_field(field).is_some()
                                && since(field) == since(column)
                        }
                    };
                    field.name == copy_of(member) && is_wanted
                })
            })
            .map(|field| Step::Drop { column: field.name.clone() })
            .collect()
    }

    /// The type that a column is to have, if its source's has changed and it still has the one from before. Any other is a person's
    /// choice, which stays.
    fn retype(&self, field: &Field, member: &str) -> Option<ColumnType> {
        let to = made_type(self.defines(member)?);
        let is = ColumnType::from_field(field)?;
        let names = self.renamed_from(member);
        let was = self
            .history
            .earlier()
            .flat_map(|definition| &definition.columns)
            .any(|column| names.contains(&column.name.as_str()) && made_type(column) == is);
        (is != to && was).then_some(to)
    }

    /// A column that may have been made of another type, as far as nothing is known of its type before.
    fn unknown_retype(&self, field: &Field, member: &str) -> Option<String> {
        let (is, to) = (ColumnType::from_field(field)?, made_type(self.defines(member)?));
        let is_known =
            self.history.earlier().any(|earlier| self.renamed_from(member).iter().any(|name| earlier.has(name)));
        let holds_all = is == to || is == ColumnType::String || is_widened_in_place(to, is);
        (self.history.has_unknown_retype() && !is_known && !holds_all).then(|| {
            format!(
                "whether somebody chose the type of `{}` cannot be known, for its definition from before is no longer in the log. If not: {}",
                field.name,
                by_hand(self.name, &field.name, is, to)
            )
        })
    }

    fn renamed_from<'m>(&'m self, member: &'m str) -> Vec<&'m str> {
        let mut names = vec![member];
        for (old, new) in self.history.renames().iter().rev() {
            if names.contains(&new.as_str()) {
                names.push(old);
            }
        }
        names
    }

    fn retypes(&self, for_a_person: &mut Vec<String>) -> Vec<Step> {
        let mut steps = Vec::new();
        for (field, member) in &self.columns {
            // What went has no values to convert.
            if self.renewed(field, member).is_some() && !self.is_fixed(&field.name) {
                continue;
            }
            for_a_person.extend(self.unknown_retype(field, member));
            let Some((is, to)) = ColumnType::from_field(field).zip(self.retype(field, member)) else {
                continue;
            };
            let column = field.name.clone();
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
                    Step::Replace { conversion, copy, replaced: replaced_of(member) }
                } else {
                    let copy = Added { column: copy, to, description: field.description.clone() };
                    Step::AddCopy { copy, conversion: Some(conversion) }
                });
            } else {
                for_a_person.push(by_hand(self.name, &column, is, to));
            }
        }
        steps
    }

    fn drops(&self, dropped: DroppedColumns, for_a_person: &mut Vec<String>) -> Vec<Step> {
        let mut steps = Vec::new();
        // A definition without a column of the key is none of the whole table.
        let is_whole = self.columns.iter().all(|(field, member)| {
            !self.table.primary_key().iter().any(|key| key.eq_ignore_ascii_case(&field.name))
                || self.defines(member).is_some()
        });
        if dropped == DroppedColumns::Keep || !is_whole {
            return steps;
        }
        for (field, member) in &self.columns {
            let was_defined = self.history.earlier().any(|earlier| earlier.has(member));
            // A column that the source never had is a person's; one that was renamed has values that are not gone.
            let is_renamed = self.history.renames().iter().any(|(old, _)| old == member);
            if self.defines(member).is_some() || !was_defined || is_renamed {
                continue;
            }
            if self.is_fixed(&field.name) {
                for_a_person.push(format!(
                    "the source dropped column {member}, and BigQuery cannot drop {} of {}, which clusters, partitions or is a declared key: \
                     the table has to be made anew",
                    field.name, self.name
                ));
            } else {
                steps.push(Step::Drop { column: field.name.clone() });
            }
        }
        steps
    }

    /// The source's key is another one. An absent one says nothing: DMS leaves it out at times.
    fn key(&self, key: &[String]) -> Option<String> {
        let declared: Vec<&str> = self
            .columns
            .iter()
            .filter(|(field, _)| self.table.primary_key().iter().any(|key| key.eq_ignore_ascii_case(&field.name)))
            .map(|(_, member)| member.as_str())
            .collect();
        let columns = |members: &[String]| {
            let held = members.iter().filter_map(|member| self.columns.iter().find(|(_, held)| held == member));
            held.map(|(field, _)| format!("`{}`", field.name)).collect::<Vec<String>>().join(", ")
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
    for (old, new) in history.renames() {
        said.push(format!(
            "for the column {old} that is {new} now: ALTER TABLE `{name}` RENAME COLUMN `{old}` TO `{new}`, then ALTER TABLE `{name}` ALTER COLUMN `{new}` SET \
             OPTIONS (description = {}), by which records of the old shape are read",
            string_literal(&names::column_description(new, std::slice::from_ref(old), None))
        ));
    }
    for column in history.newest().into_iter().flat_map(|newest| &newest.columns) {
        if let Some(since_us) = history.came_again(&column.name) {
            said.push(format!(
                "the source gave the name {column} to another column: ALTER TABLE `{name}` DROP COLUMN `{column}`, then ALTER TABLE `{name}` ADD COLUMN \
                 `{column}` {to} OPTIONS (description = {description}), by which its values are told from the earlier ones'",
                column = column.name,
                to = made_type(column).sql(),
                description = string_literal(&names::column_description(&column.name, &[], Some(since_us))),
            ));
        }
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
    field.description.as_deref().and_then(names::column_since)
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
    /// Whether merging again from [`Self::again_from`] on was begun and is not finished. The work that a ledger entry holds says so.
    #[serde(skip)]
    is_begun: bool,
    /// Members of changes that are not in the table, or not all of their values.
    members: BTreeMap<String, Lacking>,
    /// The source's definition is still to be applied.
    is_definition_due: bool,
    /// Columns whose name was another's before, and since when: what is merged again for them, or is to be.
    renewed: BTreeMap<String, i64>,
}

/// Since when the table lacks values of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lacking {
    since: i64,
    /// The type that cannot hold them; `None`: there is no column.
    column_type: Option<String>,
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
            let is_known = columns.iter().any(|column| column.holds(member));
            if let Some(since) = since.filter(|_| !is_known)
                && !self.members.contains_key(member)
            {
                self.members.insert(member.clone(), Lacking { since, column_type: None });
                news.push(member.clone());
            }
        }
        for column in columns.iter().filter(|column| flawed.contains(&column.name)) {
            if let Some(since) = flawed_since {
                let lacking = Lacking { since, column_type: Some(type_text(column.column_type)) };
                let known = self.members.entry(column.member.clone()).or_insert_with(|| lacking.clone());
                known.column_type = lacking.column_type;
            }
        }
        news
    }

    /// Compares with a table's columns: members that have a column now, or one of another type, are to be merged again from when on
    /// they were lacking.
    pub fn meet(&mut self, columns: &[FinalColumn]) {
        let is_met = |member: &str, lacking: &Lacking| {
            let column = columns.iter().find(|column| column.holds(member));
            column.is_some_and(|column| Some(type_text(column.column_type)) != lacking.column_type)
        };
        let met: Vec<i64> = self
            .members
            .iter()
            .filter(|(member, lacking)| is_met(member, lacking))
            .map(|(_, lacking)| lacking.since)
            .collect();
        self.members.retain(|member, lacking| !is_met(member, lacking));
        // Its values may have been merged into the column that it is in the place of.
        let mut renewed = BTreeMap::new();
        for (member, since_us) in columns.iter().filter_map(|column| Some((column.member.clone(), column.since_us?))) {
            if self.renewed.get(&member) != Some(&since_us) {
                self.merge_again(Epochs::ingested_from(since_us));
            }
            renewed.insert(member, since_us);
        }
        self.renewed = renewed;
        if let Some(since) = met.into_iter().min() {
            self.merge_again(since);
        }
    }

    /// Whether [`Self::meet`] may find something, as far as the table by itself says.
    pub fn may_be_met(&self, table: &Table) -> bool {
        self.members.iter().any(|(member, lacking)| {
            table.schema.fields.iter().any(|field| {
                let described = field.description.as_deref().and_then(names::source_column);
                let is_named = described.is_some_and(|source| source == *member)
                    || field.name.to_lowercase() == member.to_lowercase();
                is_named && ColumnType::from_field(field).map(type_text) != lacking.column_type
            })
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

/// A type as it is remembered.
fn type_text(column_type: ColumnType) -> String {
    format!("{column_type:?}")
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
            Step::Rename { column, to, .. } => {
                put.push((column.clone(), Some(Field { name: to.clone(), ..field(column) })))
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
        assert_eq!(
            (column.member.as_str(), column.former_members.as_slice()),
            ("c.d", &["a".to_owned(), "b".to_owned()][..])
        );
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
        assert_eq!(names::former_columns(description), ["a"]);
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
        assert_eq!(table.key().map(|column| column.member.as_str()).collect::<Vec<_>>(), ["key"]);
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
        assert_eq!(table.columns.last().unwrap().former_members, ["x", "y"]);
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
            let column = table.columns.iter().find(|column| column.member == "x").unwrap();
            assert_eq!(column.since_us, Some(15));
            // Whatever was merged before into the column in whose place it is, is merged again: once.
            let mut unfilled = Unfilled::default();
            unfilled.meet(&table.columns);
            assert_eq!(unfilled.again_from(), Some(Epochs::ingested_from(15)));
            unfilled.merged_again();
            let mut read_back = Unfilled::from_entry(unfilled.to_entry().as_deref());
            read_back.meet(&table.columns);
            assert_eq!(read_back.again_from(), None);
        }
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
        field.description = Some(names::column_description("b", &["a".to_owned()], None));
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
    fn columns_that_took_each_others_names_are_said_with_what_to_run() {
        let created = json!({"id": {"type": "INT64"}, "a": {"type": "INT32"}, "b": {"type": "INT32"}});
        let swapped_ = json!({"id": {"type": "INT64"}, "b": {"type": "INT32"}, "a": {"type": "INT32"}});
        // Objects of serde_json are sorted; the order is the record's.
        let after = control(&swapped_)
            .replace(r#""a":{"type":"INT32"},"b":{"type":"INT32"}"#, r#""b":{"type":"INT32"},"a":{"type":"INT32"}"#);
        let history = history([("create-table", control(&created)), ("rename-column", after)]);
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
        unfilled.meet(&taken(&table));
        assert!(unfilled.again_from().is_none() && unfilled.is_lacking() && !unfilled.may_be_met(&table));
        table.schema.fields.push(Field { name: "new".into(), field_type: "STRING".into(), ..Field::default() });
        assert!(unfilled.may_be_met(&table));
        unfilled.meet(&taken(&table));
        assert_eq!(unfilled.again_from(), Some(7));
        table.schema.fields.get_mut(1).unwrap().field_type = "NUMERIC".into();
        unfilled.meet(&taken(&table));
        assert_eq!(unfilled.again_from(), Some(5));
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
