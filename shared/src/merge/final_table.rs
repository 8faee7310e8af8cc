//! A final table as a merge sees it: which column takes which member of a row image, and what identifies a row.
//! The final table is the configuration, so what exists is taken as it is; nothing here may change a type or guess a key.

use std::collections::{BTreeMap, BTreeSet};

use crate::bigquery::table_resource::{Clustering, Field, PrimaryKey, Table, TableConstraints};
use crate::config::Deletes;
use crate::mask::MaskRules;
use crate::names::{self, ColumnNames, NameError, NameHeld, SourceTable, TableName, quote_column};

use super::definition::{SourceColumn, SourceDefinition};
use super::partitions::Partitioning;
use super::schema_change::is_passing_column;
use super::types::encoded::ColumnEncoding;
use super::types::map::Kind;
use super::types::{ColumnType, Zone};

/// The label by which a final table chooses its own delete mode: `hard` or `soft`.
pub const DELETES_LABEL: &str = "strait_deletes";
/// The label that says that a final table has no key: each loaded or inserted row of the source is added once.
pub const KEY_LABEL: &str = "strait_key";
/// Its value.
const NO_KEY: &str = "none";
/// BigQuery clusters by at most four columns (<https://cloud.google.com/bigquery/docs/clustered-tables>).
const CLUSTER_COLUMNS: usize = 4;
/// Of the types that Strait creates, those that BigQuery clusters by (same page).
const CLUSTER_TYPES: [&str; 8] = ["BIGNUMERIC", "BOOL", "DATE", "DATETIME", "INT64", "NUMERIC", "STRING", "TIMESTAMP"];
/// Of the types that Strait creates, those that a declared primary key may have
/// (<https://cloud.google.com/bigquery/docs/primary-foreign-keys#limitations>).
const KEY_TYPES: [&str; 9] =
    ["BIGNUMERIC", "BOOL", "BYTES", "DATE", "DATETIME", "INT64", "NUMERIC", "STRING", "TIMESTAMP"];
/// A declared primary key has at most so many columns (same page); PostgreSQL's has up to 32.
const KEY_COLUMNS: usize = 16;

/// A final table that a merge can write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalTable {
    /// Where it is.
    pub name: TableName,
    /// The source's columns, without Strait's own.
    pub columns: Vec<FinalColumn>,
    /// Its own delete mode, if a label sets one.
    pub deletes: Option<Deletes>,
    /// Whether Strait made it, so that no row is in it that Strait did not write.
    pub is_made_by_strait: bool,
    /// Whether rows have no key: each loaded or inserted row is added once, and nothing is changed or removed.
    pub is_keyless: bool,
    /// Whether changes may come that leave out values which did not change, and say so.
    pub has_partial_images: bool,
    /// Members that are never negative at the source, though their changes may be.
    pub unsigned_members: Vec<String>,
    /// How changes are read that came without a schema.
    pub without_schema: WithoutSchemaRead,
    /// How it is partitioned, if it is.
    pub partitioning: Option<Partitioning>,
    /// Whether every statement has to limit the partitions that it reads.
    pub requires_partition_filter: bool,
    /// Columns that it lacks: Strait's own, and, where Strait made the table, those that the source has added.
    pub missing_columns: Vec<NewColumn>,
}

/// What has to be known of members to read changes of Debezium's that came without a schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum WithoutSchemaRead {
    /// They are not applied.
    #[default]
    NotApplied,
    /// Values say what they are, but for those of these members.
    SelfDescribing(SelfDescribing),
    /// Values are written as the table's definitions tell.
    ByDefinition(Encodings),
}

/// How the values of members are written, as far as the source's definitions tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encodings(pub BTreeMap<String, Vec<EncodedSince>>);

/// How the values of a member are written from a time on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedSince {
    /// When the definition was sent that tells it, in µs since the epoch of Unix; None: it is the first that is known.
    pub since_us: Option<i64>,
    /// None: that definition does not tell it.
    pub encoding: Option<ColumnEncoding>,
}

impl Encodings {
    /// The members whose values are written in another way since a time, in µs since the epoch of Unix.
    pub fn changes(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0
            .iter()
            .flat_map(|(name, known)| known.iter().filter_map(move |known| Some((name.as_str(), known.since_us?))))
    }
}

/// Members whose values do not say what they are where Debezium's change has no schema, as far as the source's statements tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelfDescribing {
    /// A BIT of several bits: base64, the lowest byte first.
    pub bit_members: Vec<String>,
    /// A TIME: with a Z at its end that means nothing.
    pub time_members: Vec<String>,
    /// A decimal, whatever its column is.
    pub decimal_members: Vec<String>,
}

/// A column that is to be added to a final table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewColumn {
    /// Its name in BigQuery.
    pub name: String,
    /// Its type in SQL.
    pub sql_type: String,
    /// The description by which its source's name is read back, if it was renamed.
    pub description: Option<String>,
}

/// One column of a final table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalColumn {
    /// Its name in BigQuery.
    pub name: String,
    /// The members of a row image that it holds: the source's names of the column.
    pub names: ColumnNames,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether it is part of the key.
    pub is_key: bool,
}

impl FinalColumn {
    /// The member of a row image that it holds: what the source calls the column now.
    pub fn member(&self) -> &str {
        &self.names.now.name
    }
}

/// Why a table cannot be merged until a person acts. The text says what to do.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FinalTableProblem {
    /// No key is known.
    #[error(
        "no primary key is known for {final_table}: create it with PRIMARY KEY (…) NOT ENFORCED, or declare one with \
         ALTER TABLE … ADD PRIMARY KEY (…) NOT ENFORCED; or, if its rows have none, so that each is only ever added, with \
         ALTER TABLE … SET OPTIONS (labels = [(\"{KEY_LABEL}\", \"{NO_KEY}\")])"
    )]
    NoKey {
        /// The final table.
        final_table: TableName,
    },
    /// A key column does not exist in the table.
    #[error("{final_table} has no column for the key column {column}")]
    KeyColumnMissing {
        /// The final table.
        final_table: TableName,
        /// The key column's name.
        column: String,
    },
    /// A key column's type cannot be grouped by.
    #[error(
        "the key column {column} of {final_table} is of the type {column_type}, by which rows cannot be told apart; use STRING or NUMERIC"
    )]
    KeyType {
        /// The final table.
        final_table: TableName,
        /// The column.
        column: String,
        /// Its type.
        column_type: &'static str,
    },
    /// A column has a type that cannot be filled from a row image.
    #[error(
        "column {column} of {final_table} has the type {column_type}, which cannot be filled from a change; use STRING or JSON"
    )]
    ColumnType {
        /// The final table.
        final_table: TableName,
        /// The column.
        column: String,
        /// Its type as BigQuery names it.
        column_type: String,
    },
    /// A column's type can hold no value that the source sends.
    #[error(
        "column {column} of {final_table} has the type {column_type}, which can hold no {dms_type} of the source; use one of {fitting}"
    )]
    SourceType {
        /// The final table.
        final_table: TableName,
        /// The column.
        column: String,
        /// Its type.
        column_type: &'static str,
        /// The source column's type, as DMS names it.
        dms_type: Box<str>,
        /// The types that can hold it.
        fitting: Box<str>,
    },
    /// A column's description states a zone that is none.
    #[error(
        "the description of column {column} of {final_table} holds strait_zone= without a zone's name after it; write it as in strait_zone=Europe/Berlin"
    )]
    Zone {
        /// The final table.
        final_table: TableName,
        /// The column.
        column: String,
    },
    /// Rows cannot be told apart by what a mask leaves of a key column.
    #[error(
        "STRAIT_MASK has {action} for the key column {column} of {final_table}, after which its rows cannot be told apart; use hash"
    )]
    MaskedKey {
        /// The final table.
        final_table: TableName,
        /// The column's name in the source.
        column: String,
        /// What the mask does.
        action: &'static str,
    },
    /// A column cannot hold what a mask makes of its values.
    #[error(
        "STRAIT_MASK has {action} for column {column} of {final_table}, whose type {column_type} cannot hold what that makes of \
         a value: the table is from before the mask. Reload it in DMS, after which it is altered if Strait made it, or create it \
         anew with a STRING"
    )]
    MaskedType {
        /// The final table.
        final_table: TableName,
        /// The column.
        column: String,
        /// What the mask does.
        action: &'static str,
        /// The column's type.
        column_type: String,
    },
    /// It would be one of Strait's own tables.
    #[error(
        "{final_table} is one of Strait's own tables; set STRAIT_FINAL_TABLE so that no source table is named like it"
    )]
    OwnTable {
        /// The table.
        final_table: TableName,
    },
    /// Another source table's rows are in it.
    #[error(
        "{final_table} already holds {other}; set STRAIT_FINAL_TABLE so that two source tables do not share one name"
    )]
    Shared {
        /// The final table.
        final_table: TableName,
        /// The source table that it belongs to.
        other: String,
    },
}

/// Whether a table says of itself all that a merge needs: Strait made it, so that its columns name their members, and its
/// key is declared, or that it has none. Any other needs the source's definition beside it.
pub fn is_self_describing(table: &Table) -> bool {
    is_made_by_strait(table) && (!table.primary_key().is_empty() || says_that_it_has_no_key(table))
}

/// Whether its label says that its rows have no key.
pub(super) fn says_that_it_has_no_key(table: &Table) -> bool {
    table.labels.get(KEY_LABEL).is_some_and(|key| key == NO_KEY)
}

/// Whether Strait made it, so that Strait may alter it.
pub fn is_made_by_strait(table: &Table) -> bool {
    table.description.as_deref().and_then(names::source_of_final).is_some()
}

impl FinalTable {
    /// Takes an existing table as it stands. `definition` is the source's newest one, where it is known: it names the
    /// members of a table that a person made, and its key if the table declares none.
    pub fn existing(
        name: TableName,
        source: &SourceTable,
        resource: &Table,
        definition: Option<&SourceDefinition>,
        default_deletes: Deletes,
    ) -> Result<Self, FinalTableProblem> {
        if let Some(other) = resource.description.as_deref().and_then(names::source_of_final)
            && other != source.to_string()
        {
            return Err(FinalTableProblem::Shared { final_table: name, other });
        }
        let mut columns = Vec::with_capacity(resource.schema.fields.len());
        let claimed = claimed(&resource.schema.fields);
        for field in resource.schema.fields.iter().filter(|field| !is_own_column(&field.name)) {
            let column_type = writable_type(&name, field)?;
            let names = names_of(field, definition, &claimed);
            if !is_made_by_strait(resource) {
                check_source_fits(&name, field, column_type, definition, &names.now.name)?;
            }
            columns.push(FinalColumn { name: field.name.clone(), names, column_type, is_key: false });
        }

        // A former name that the source uses again is the other column's, of which may be known since when.
        let now: Vec<NameHeld> = columns.iter().map(|column| column.names.now.clone()).collect();
        for column in &mut columns {
            for held in column.names.former.iter_mut().filter(|held| !held.is_bounded()) {
                let other = now.iter().find(|now| now.name == held.name);
                held.until_us = other.and_then(|other| other.since_us);
            }
            column.names.former.retain(|held| held.is_bounded() || now.iter().all(|now| now.name != held.name));
        }

        let is_keyless = match (resource.primary_key(), definition.map(|definition| definition.primary_key.as_slice()))
        {
            ([], _) if says_that_it_has_no_key(resource) => true,
            ([], None) => return Err(FinalTableProblem::NoKey { final_table: name }),
            ([], Some([])) => true,
            ([], Some(members)) => {
                mark_key(&name, &mut columns, members, |column, member| column.member() == member)?;
                false
            }
            (declared, _) => {
                mark_key(&name, &mut columns, declared, |column, key| column.name.eq_ignore_ascii_case(key))?;
                false
            }
        };

        if let Some(key) = columns.iter().find(|column| column.is_key && !column.column_type.can_be_key()) {
            let column_type = key.column_type.name();
            return Err(FinalTableProblem::KeyType { final_table: name, column: key.name.clone(), column_type });
        }

        let deletes = match resource.labels.get(DELETES_LABEL).map(String::as_str) {
            Some("soft") => Some(Deletes::Soft),
            Some("hard") => Some(Deletes::Hard),
            _ => None,
        };
        let has = |own: &str| resource.schema.fields.iter().any(|field| field.name.eq_ignore_ascii_case(own));
        let missing_columns = own_columns(deletes.unwrap_or(default_deletes))
            .into_iter()
            .filter(|(own, _)| !has(own))
            .map(|(own, sql_type)| NewColumn { name: own.to_owned(), sql_type: sql_type.to_owned(), description: None })
            .collect();
        let mut table = Self {
            name,
            columns,
            deletes,
            is_made_by_strait: is_made_by_strait(resource),
            is_keyless,
            has_partial_images: false,
            unsigned_members: Vec::new(),
            without_schema: WithoutSchemaRead::NotApplied,
            partitioning: Partitioning::of(resource),
            requires_partition_filter: resource.require_partition_filter == Some(true),
            missing_columns,
        };
        if let Some(definition) = definition.filter(|_| is_made_by_strait(resource)) {
            table.take_added_columns(definition);
        }
        Ok(table)
    }

    /// Whether its columns can hold what the masks make of the source's values, and its rows still be told apart.
    pub fn check_masks(&self, source: &SourceTable, masks: &MaskRules) -> Result<(), FinalTableProblem> {
        check_masked_key(&self.name, source, self.key().map(|column| column.member()), masks)?;
        for column in &self.columns {
            let Some(action) = masks.action(&source.schema, &source.table, column.member()) else {
                continue;
            };
            if !column.column_type.holds_masked(action) {
                return Err(FinalTableProblem::MaskedType {
                    final_table: self.name.clone(),
                    column: column.name.clone(),
                    action: action.as_str(),
                    column_type: column.column_type.sql(),
                });
            }
        }
        Ok(())
    }

    /// Takes the source's columns that the table lacks, after those that it has: theirs are the names that stay.
    fn take_added_columns(&mut self, definition: &SourceDefinition) {
        let has = |member: &str| self.columns.iter().any(|column| column.member() == member);
        let added: Vec<&SourceColumn> = definition.columns.iter().filter(|column| !has(&column.name)).collect();
        let members = self.columns.iter().map(|column| column.member());
        let names = names::column_names(members.chain(added.iter().map(|column| column.name.as_str())));
        let new_names: Vec<String> = names.into_iter().skip(self.columns.len()).collect();
        for (column, name) in added.into_iter().zip(new_names) {
            let column_type = ColumnType::from_source(column).unwrap_or_else(|fallback| fallback);
            let description = (name != column.name).then(|| names::renamed_column_description(&column.name));
            self.missing_columns.push(NewColumn { name: name.clone(), sql_type: column_type.sql(), description });
            self.columns.push(FinalColumn { name, names: ColumnNames::new(&column.name), column_type, is_key: false });
        }
    }

    /// A condition that is true of every row and names the partitions' column, for a table of which no statement may read without
    /// one; `alias` is what the statement calls the table. `None`: the table requires none.
    ///
    /// What BigQuery requires is a predicate that refers to that column alone
    /// (<https://cloud.google.com/bigquery/docs/querying-partitioned-tables#require_a_partition_filter_in_queries>). It takes this one in the
    /// ON of a MERGE: dbt has written the same since <https://github.com/dbt-labs/dbt-bigquery/pull/986>. Beside it the keys must be compared with `=`:
    /// with IS NOT DISTINCT FROM BigQuery does not find it (<https://github.com/dbt-labs/dbt-adapters/issues/1902>).
    pub fn partition_filter(&self, alias: Option<&str>) -> Result<Option<String>, NameError> {
        let column = self.partitioning.as_ref().map(|partitioning| partitioning.column.as_str());
        filter(column.filter(|_| self.requires_partition_filter), alias)
    }

    /// Whether it depends on when a record was sent which column one of its members is.
    pub fn is_told_by_time(&self) -> bool {
        self.columns.iter().flat_map(|column| column.names.newest_first()).any(NameHeld::is_bounded)
    }

    /// The key columns, in the table's order.
    pub fn key(&self) -> impl Iterator<Item = &FinalColumn> {
        self.columns.iter().filter(|column| column.is_key)
    }
}

/// A key column may be hashed, for equal values stay equal, and nothing else.
pub fn check_masked_key<'k>(
    final_table: &TableName,
    source: &SourceTable,
    key: impl IntoIterator<Item = &'k str>,
    masks: &MaskRules,
) -> Result<(), FinalTableProblem> {
    for column in key {
        let action = masks.action(&source.schema, &source.table, column);
        if let Some(action) = action.filter(|action| !action.keeps_values_apart()) {
            return Err(FinalTableProblem::MaskedKey {
                final_table: final_table.clone(),
                column: column.to_owned(),
                action: action.as_str(),
            });
        }
    }
    Ok(())
}

/// The table by which a final table is created from the source's definition, and the source columns whose type is not
/// known and which therefore become STRING.
pub fn new_table(
    project: &str,
    name: &TableName,
    source: &SourceTable,
    definition: &SourceDefinition,
    deletes: Deletes,
) -> Result<(Table, Vec<String>), FinalTableProblem> {
    let column_names = names::column_names(definition.columns.iter().map(|column| column.name.as_str()));
    let mut unknown = Vec::new();
    let mut fields = Vec::with_capacity(column_names.len());
    for (column, column_name) in definition.columns.iter().zip(&column_names) {
        let column_type = ColumnType::from_source(column).unwrap_or_else(|fallback| {
            unknown.push(format!("{} ({})", column.name, column.dms_type));
            fallback
        });
        let is_key = definition.primary_key.contains(&column.name);
        fields.push(Field {
            mode: Some(if is_key { "REQUIRED" } else { "NULLABLE" }.to_owned()),
            description: (*column_name != column.name).then(|| names::renamed_column_description(&column.name)),
            ..column_type.field(column_name)
        });
    }
    let mut key = Vec::with_capacity(definition.primary_key.len());
    for member in &definition.primary_key {
        let place = definition.columns.iter().position(|column| column.name == *member);
        match place.and_then(|place| fields.get(place)) {
            Some(field) => key.push(field.clone()),
            None => {
                return Err(FinalTableProblem::KeyColumnMissing { final_table: name.clone(), column: member.clone() });
            }
        }
    }
    for (own, own_type) in own_columns(deletes) {
        fields.push(Field { name: own.to_owned(), field_type: own_type.to_owned(), ..Field::default() });
    }
    let clustered: Vec<String> = key
        .iter()
        .filter(|field| CLUSTER_TYPES.contains(&field.field_type.as_str()))
        .take(CLUSTER_COLUMNS)
        .map(|field| field.name.clone())
        .collect();
    // A key that cannot be declared is taken from the source's definition by every merge.
    let can_be_declared =
        key.len() <= KEY_COLUMNS && key.iter().all(|field| KEY_TYPES.contains(&field.field_type.as_str()));
    let labels = key.is_empty().then(|| (KEY_LABEL.to_owned(), NO_KEY.to_owned()));
    let can_be_declared = can_be_declared && !key.is_empty();
    let key: Vec<String> = key.into_iter().map(|field| field.name).collect();
    let table = Table {
        description: Some(names::final_table_description(source)),
        labels: labels.into_iter().collect(),
        clustering: (!clustered.is_empty()).then_some(Clustering { fields: clustered }),
        table_constraints: can_be_declared.then_some(TableConstraints {
            primary_key: Some(PrimaryKey { columns: key }),
            ..TableConstraints::default()
        }),
        ..Table::new(project, name, fields)
    };
    Ok((table, unknown))
}

/// [`FinalTable::partition_filter`] of a table as it stands.
pub(super) fn filter_of(resource: &Table, alias: Option<&str>) -> Result<Option<String>, NameError> {
    let is_required = resource.require_partition_filter == Some(true);
    let partitioning = Partitioning::of(resource).filter(|_| is_required);
    filter(partitioning.as_ref().map(|partitioning| partitioning.column.as_str()), alias)
}

fn filter(column: Option<&str>, alias: Option<&str>) -> Result<Option<String>, NameError> {
    let Some(column) = column else {
        return Ok(None);
    };
    let column = quote_column(column)?;
    let column = alias.map_or_else(|| column.clone(), |alias| format!("{alias}.{column}"));
    Ok(Some(format!("({column} IS NULL OR {column} IS NOT NULL)")))
}

fn own_columns(deletes: Deletes) -> Vec<(&'static str, &'static str)> {
    let mut own = vec![(names::POSITION_COLUMN, "STRING"), (names::MERGED_AT_COLUMN, "TIMESTAMP")];
    if deletes == Deletes::Soft {
        own.push((names::DELETED_COLUMN, "BOOL"));
    }
    own
}

fn is_own_column(name: &str) -> bool {
    [names::POSITION_COLUMN, names::MERGED_AT_COLUMN, names::DELETED_COLUMN]
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own))
        || is_passing_column(name)
}

fn writable_type(final_table: &TableName, field: &Field) -> Result<ColumnType, FinalTableProblem> {
    let (final_table, column) = (final_table.clone(), field.name.clone());
    if field.description.as_deref().is_some_and(|text| Zone::stated_in(text).is_err()) {
        return Err(FinalTableProblem::Zone { final_table, column });
    }
    ColumnType::from_field(field).ok_or_else(|| {
        let column_type = format!("{} {}", field.mode.as_deref().unwrap_or_default(), field.field_type);
        FinalTableProblem::ColumnType { final_table, column, column_type: column_type.trim().to_owned() }
    })
}

/// A type that a person declared must be able to hold what the source sends, as far as its definition is known. Of a table
/// that Strait made, the source's type has changed since, which is a schema change.
fn check_source_fits(
    final_table: &TableName,
    field: &Field,
    column_type: ColumnType,
    definition: Option<&SourceDefinition>,
    member: &str,
) -> Result<(), FinalTableProblem> {
    let source = definition.and_then(|definition| definition.columns.iter().find(|column| column.name == member));
    let Some((source, kind)) = source.and_then(|source| Some((source, Kind::of(&source.dms_type)?))) else {
        return Ok(());
    };
    if kind.fits(column_type) {
        return Ok(());
    }
    Err(FinalTableProblem::SourceType {
        final_table: final_table.clone(),
        column: field.name.clone(),
        column_type: column_type.name(),
        dms_type: source.dms_type.as_str().into(),
        fitting: kind.targets().iter().map(|target| target.name).collect::<Vec<_>>().join(", ").into(),
    })
}

/// The members that descriptions say columns hold.
pub(super) fn claimed(fields: &[Field]) -> BTreeSet<String> {
    fields.iter().filter_map(|field| field.description.as_deref().and_then(names::source_column)).collect()
}

/// The members that a column holds. What a definition spells otherwise is not one that another column claims.
pub(super) fn names_of(
    field: &Field,
    definition: Option<&SourceDefinition>,
    claimed: &BTreeSet<String>,
) -> ColumnNames {
    let described = field.description.as_deref().and_then(ColumnNames::in_description);
    described.unwrap_or_else(|| {
        let columns = definition.map(|definition| definition.columns.as_slice()).unwrap_or_default();
        let members = columns.iter().map(|column| column.name.as_str()).filter(|member| !claimed.contains(*member));
        ColumnNames::new(&spelled(&field.name, members))
    })
}

/// Members are case-sensitive, columns are not: a definition gives the source's spelling.
fn spelled<'m>(column: &str, members: impl Iterator<Item = &'m str> + Clone) -> String {
    if members.clone().any(|member| member == column) {
        return column.to_owned();
    }
    let lower = column.to_lowercase();
    let mut alike = members.filter(|member| member.to_lowercase() == lower);
    match (alike.next(), alike.next()) {
        (Some(only), None) => only.to_owned(),
        _ => column.to_owned(),
    }
}

fn mark_key(
    name: &TableName,
    columns: &mut [FinalColumn],
    key: &[String],
    is: impl Fn(&FinalColumn, &str) -> bool,
) -> Result<(), FinalTableProblem> {
    for key_column in key {
        match columns.iter_mut().find(|column| is(column, key_column)) {
            Some(column) => column.is_key = true,
            None => {
                return Err(FinalTableProblem::KeyColumnMissing {
                    final_table: name.clone(),
                    column: key_column.clone(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use serde_json::json;

    fn orders() -> SourceTable {
        SourceTable { schema: "shop".into(), table: "orders".into() }
    }

    fn name() -> TableName {
        TableName { dataset: "replica".into(), table: "shop_orders".into() }
    }

    fn definition() -> SourceDefinition {
        SourceDefinition::from_control(
            r#"{"table-def":{"columns":{"orderId":{"type":"INT64"},"a.b":{"type":"WSTRING"},"A":{"type":"INT8"},"a":{"type":"CUBE"}},"primary-key":["orderId","a.b"]}}"#,
        )
        .unwrap()
    }

    fn read_back(resource: serde_json::Value) -> Table {
        serde_json::from_value(resource).unwrap()
    }

    #[test]
    fn a_table_that_strait_made_is_read_back_with_the_sources_names() {
        let (resource, unknown) = new_table("p", &name(), &orders(), &definition(), Deletes::Soft).unwrap();
        assert_eq!(unknown, ["a (CUBE)"]);
        assert!(is_self_describing(&resource));
        let table = FinalTable::existing(name(), &orders(), &resource, None, Deletes::Soft).unwrap();
        let members: Vec<_> = table.columns.iter().map(|column| column.member()).collect();
        assert_eq!(members, ["orderId", "a.b", "A", "a"]);
        assert_eq!(table.key().map(|column| column.member()).collect::<Vec<_>>(), ["orderId", "a.b"]);
        assert!(table.missing_columns.is_empty());
    }

    #[test]
    fn a_table_that_a_person_made_gets_members_by_the_sources_spelling_and_its_missing_columns_named() {
        let resource = read_back(json!({"schema": {"fields": [
            {"name": "ORDERID", "type": "INTEGER"}, {"name": "a", "type": "STRING"}]},
            "labels": {"strait_deletes": "soft"},
            "tableConstraints": {"primaryKey": {"columns": ["orderid"]}}}));
        let table = FinalTable::existing(name(), &orders(), &resource, Some(&definition()), Deletes::Hard).unwrap();
        let members: Vec<_> = table.columns.iter().map(|column| (column.member(), column.is_key)).collect();
        assert_eq!(members, [("orderId", true), ("a", false)]);
        assert_eq!(table.missing_columns.len(), 3);
    }

    #[test]
    fn a_column_that_the_source_added_is_added_but_never_to_a_table_that_a_person_made() {
        let (resource, _) = new_table("p", &name(), &orders(), &definition(), Deletes::Hard).unwrap();
        let newer = SourceDefinition::from_control(
            r#"{"table-def":{"columns":{"orderId":{"type":"INT64"},"a.b":{"type":"WSTRING"},"A":{"type":"INT8"},"a":{"type":"CUBE"},"ORDERID":{"type":"DATE"}},"primary-key":["orderId","a.b"]}}"#,
        )
        .unwrap();
        let table = FinalTable::existing(name(), &orders(), &resource, Some(&newer), Deletes::Hard).unwrap();
        let [added] = table.missing_columns.as_slice() else { unreachable!("{:?}", table.missing_columns) };
        assert!(added.name.starts_with("ORDERID_"), "{added:?}");
        assert_eq!(added.sql_type, "DATE");
        assert_eq!(added.description.as_deref().and_then(names::source_column).as_deref(), Some("ORDERID"));
        assert_eq!(table.columns.last().unwrap().member(), "ORDERID");

        let by_hand = Table { description: None, ..resource };
        let table = FinalTable::existing(name(), &orders(), &by_hand, Some(&newer), Deletes::Hard).unwrap();
        assert!(table.missing_columns.is_empty());
    }

    #[test]
    fn a_key_that_bigquery_cannot_declare_is_taken_from_the_definition() {
        for (columns, is_declared) in [(1, true), (16, true), (17, false)] {
            let names: Vec<String> = (0..columns).map(|place| format!("k{place}")).collect();
            let types = names.iter().map(|name| (name.clone(), json!({"type": "BYTES"})));
            let control =
                json!({"table-def": {"columns": types.collect::<serde_json::Map<_, _>>(), "primary-key": names}});
            let definition = SourceDefinition::from_control(&control.to_string()).unwrap();
            let (resource, _) = new_table("p", &name(), &orders(), &definition, Deletes::Hard).unwrap();
            assert!(resource.clustering.is_none(), "BigQuery does not cluster by BYTES");
            assert_eq!(resource.table_constraints.is_some(), is_declared, "{columns}");
            assert_eq!(is_self_describing(&resource), is_declared);
            let table = FinalTable::existing(name(), &orders(), &resource, Some(&definition), Deletes::Hard).unwrap();
            assert_eq!(table.key().count(), columns);
        }
    }

    #[test]
    fn what_cannot_be_merged_says_what_to_do() {
        let float = read_back(json!({"schema": {"fields": [{"name": "id", "type": "FLOAT"}]},
            "tableConstraints": {"primaryKey": {"columns": ["id"]}}}));
        let error = FinalTable::existing(name(), &orders(), &float, None, Deletes::Hard).unwrap_err();
        assert!(matches!(error, FinalTableProblem::KeyType { .. }), "{error}");

        let no_key = read_back(json!({"schema": {"fields": [{"name": "id", "type": "INTEGER"}]}}));
        let error = FinalTable::existing(name(), &orders(), &no_key, None, Deletes::Hard).unwrap_err();
        assert!(error.to_string().contains("ADD PRIMARY KEY"), "{error}");

        let mut by_hand = Table { description: None, ..Table::default() };
        by_hand.schema.fields = vec![ColumnType::Int64.field("orderId"), ColumnType::Bytes.field("a.b")];
        let error = FinalTable::existing(name(), &orders(), &by_hand, Some(&definition()), Deletes::Hard).unwrap_err();
        assert_eq!(
            error.to_string(),
            "column a.b of replica.shop_orders has the type BYTES, which can hold no WSTRING of the source; use one of STRING, \
             JSON, INT64, NUMERIC, BIGNUMERIC, FLOAT64, BOOL, DATE, DATETIME, TIMESTAMP, TIME"
        );

        let repeated =
            read_back(json!({"schema": {"fields": [{"name": "id", "type": "INTEGER", "mode": "REPEATED"}]}}));
        let error = FinalTable::existing(name(), &orders(), &repeated, None, Deletes::Hard).unwrap_err();
        assert!(matches!(error, FinalTableProblem::ColumnType { .. }));

        let other = SourceTable { schema: "shop_orders".into(), table: "x".into() };
        let (resource, _) = new_table("p", &name(), &other, &definition(), Deletes::Hard).unwrap();
        let error = FinalTable::existing(name(), &orders(), &resource, None, Deletes::Hard).unwrap_err();
        assert!(error.to_string().contains("STRAIT_FINAL_TABLE"), "{error}");
    }
}
