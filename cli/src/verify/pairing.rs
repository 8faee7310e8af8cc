//! Which columns of a source table are compared with which of the final table, and which are not: every column of either side is
//! in exactly one of the two lists. Names are the final table's own word ([`strait::merge::final_table`]); no rule is repeated here.

use strait::bigquery::table_resource::Table;
use strait::config::Config;
use strait::debezium::encoding::Encoded;
use strait::mask::MaskAction;
use strait::merge::definition::{SourceColumn, SourceDefinition};
use strait::merge::final_table::{FinalTable, FinalTableProblem};
use strait::merge::types::ColumnType;
use strait::merge::types::canonical::{Canonical, Form, SourceKind};
use strait::merge::types::map::Engine;
use strait::names::{DELETED_COLUMN, NameError, SourceTable, TableName};

/// A column as the source's catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueColumn {
    /// Its name.
    pub name: String,
    /// Its type, as MySQL's `COLUMN_TYPE` or PostgreSQL's `format_type` writes it.
    pub column_type: String,
    /// Its place in the primary key, from 1.
    pub key_position: Option<u32>,
}

/// A column that is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Its name at the source.
    pub source: String,
    /// Its type there.
    pub source_type: String,
    /// Its name in the final table.
    pub in_final: String,
    /// What both sides print of it.
    pub canonical: Canonical,
}

/// A column that is not compared, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotCompared {
    /// Its name at the source, or in the final table if the source has none like it.
    pub name: String,
    /// For a person.
    pub reason: String,
}

/// A source table beside its final table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairing {
    /// The source table.
    pub source: SourceTable,
    /// Whose it is.
    pub engine: Engine,
    /// The final table.
    pub final_name: TableName,
    /// What is compared, in the final table's order.
    pub columns: Vec<Compared>,
    /// Places of the key's columns among them; empty: rows have no key and are compared as a multiset.
    pub key: Vec<usize>,
    /// What is not compared.
    pub not_compared: Vec<NotCompared>,
    /// Of those, what both sides have nevertheless: a row that is repaired has to hold it, too.
    pub carried: Vec<Compared>,
    /// Places among the compared columns of the source's own primary key, by which it is read in parts; empty where it cannot be.
    pub walk: Vec<usize>,
    /// A condition on the final table that leaves its deleted rows out and names the partitions' column where it must.
    pub final_condition: Option<String>,
}

/// Why two tables cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum PairingError {
    /// The source has no such table.
    #[error(
        "the source has no table {0}, or its user may not read it; is the name right, in the source's own spelling?"
    )]
    NoSourceTable(SourceTable),
    /// The final table.
    #[error(transparent)]
    Final(#[from] FinalTableProblem),
    /// A key column.
    #[error("rows of {table} cannot be told apart, because the key column {column} is not compared: {reason}")]
    Key {
        /// The source table.
        table: SourceTable,
        /// The column.
        column: String,
        /// Why it is not.
        reason: String,
    },
    /// A column that a person names is not there.
    #[error("{table} has no column {column} that could be left out")]
    Unknown {
        /// The source table.
        table: SourceTable,
        /// The column.
        column: String,
    },
    /// A name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Pairing {
    /// Pairs the columns. `left_out` are columns, by their source names, that a person does not want compared.
    ///
    /// # Errors
    /// [`PairingError`]; its text says what to do.
    pub fn new(
        config: &Config,
        source: &SourceTable,
        engine: Engine,
        catalogue: &[CatalogueColumn],
        resource: &Table,
        left_out: &[String],
    ) -> Result<Self, PairingError> {
        if catalogue.is_empty() {
            return Err(PairingError::NoSourceTable(source.clone()));
        }
        if let Some(column) = left_out.iter().find(|name| !catalogue.iter().any(|column| column.name == **name)) {
            return Err(PairingError::Unknown { table: source.clone(), column: column.clone() });
        }
        let final_name = config.final_table.name_of(source);
        let definition = definition(catalogue);
        let table = FinalTable::existing(final_name.clone(), source, resource, Some(&definition), config.deletes)?;
        let has = |name: &str| resource.schema.fields.iter().any(|field| field.name.eq_ignore_ascii_case(name));
        let mut columns = Vec::new();
        let mut key = Vec::new();
        let mut not_compared = Vec::new();
        let mut carried = Vec::new();
        for column in &table.columns {
            let mut leave = |reason: &str| {
                if column.is_key {
                    return Err(PairingError::Key {
                        table: source.clone(),
                        column: column.member().to_owned(),
                        reason: reason.to_owned(),
                    });
                }
                not_compared.push(NotCompared { name: column.member().to_owned(), reason: reason.to_owned() });
                Ok(())
            };
            let Some(of_source) = catalogue.iter().find(|of_source| of_source.name == column.member()) else {
                leave("the source has no such column: dropped, renamed, or not yet there")?;
                continue;
            };
            if !has(&column.name) {
                leave("the final table has no such column yet: the next merge adds it")?;
                continue;
            }
            let kind = SourceKind::of(engine, &of_source.column_type);
            // Every kind has a text.
            let as_text = Canonical::of(kind, ColumnType::String).map(|canonical| Compared {
                source: column.member().to_owned(),
                source_type: of_source.column_type.clone(),
                in_final: column.name.clone(),
                canonical,
            });
            if left_out.iter().any(|name| name == column.member()) {
                leave("left out by --skip-columns")?;
                carried.extend(as_text);
                continue;
            }
            if let Some(action) = config.mask.action(&source.schema, &source.table, column.member()) {
                leave(&format!("STRAIT_MASK: {}", action.as_str()))?;
                carried.extend(as_text);
                continue;
            }
            match Canonical::of(kind, column.column_type) {
                Ok(canonical) => {
                    if column.is_key {
                        key.push(columns.len());
                    }
                    columns.push(Compared {
                        source: column.member().to_owned(),
                        source_type: of_source.column_type.clone(),
                        in_final: column.name.clone(),
                        canonical,
                    });
                }
                Err(reason) => {
                    let types = (&of_source.column_type, column.column_type.sql());
                    leave(&format!("{} in the source, {} in the final table: {reason}", types.0, types.1))?;
                    carried.extend(as_text);
                }
            }
        }
        for column in catalogue.iter().filter(|column| !table.columns.iter().any(|other| other.member() == column.name))
        {
            let reason = match config.mask.action(&source.schema, &source.table, &column.name) {
                Some(MaskAction::Drop) => "STRAIT_MASK: drop",
                _ => "the final table has no such column",
            };
            not_compared.push(NotCompared { name: column.name.clone(), reason: reason.to_owned() });
        }
        let walk = walk(engine, catalogue, &columns);
        let deleted = has(DELETED_COLUMN).then(|| format!("NOT COALESCE(`{DELETED_COLUMN}`, FALSE)"));
        let conditions: Vec<String> = deleted.into_iter().chain(table.partition_filter(None)?).collect();
        Ok(Self {
            source: source.clone(),
            engine,
            final_name,
            columns,
            key: if table.is_keyless { Vec::new() } else { key },
            not_compared,
            carried,
            walk,
            final_condition: (!conditions.is_empty()).then(|| conditions.join(" AND ")),
        })
    }

    /// Whether rows have no key.
    #[must_use]
    pub fn is_keyless(&self) -> bool {
        self.key.is_empty()
    }

    /// The key's columns.
    pub fn key_columns(&self) -> impl Iterator<Item = &Compared> {
        self.key.iter().filter_map(|place| self.columns.get(*place))
    }
}

/// The source's table as a `create-table` record would define it. The types' names are left out: what DMS calls them nobody asks here.
fn definition(catalogue: &[CatalogueColumn]) -> SourceDefinition {
    let column = |column: &CatalogueColumn| SourceColumn {
        name: column.name.clone(),
        dms_type: String::new(),
        precision: None,
        scale: None,
        encoded: Encoded::Plain,
    };
    let mut key: Vec<(u32, &str)> =
        catalogue.iter().filter_map(|column| Some((column.key_position?, column.name.as_str()))).collect();
    key.sort_unstable();
    SourceDefinition {
        columns: catalogue.iter().map(column).collect(),
        primary_key: key.into_iter().map(|(_, name)| name.to_owned()).collect(),
    }
}

/// The columns by which the source is read in parts: its primary key, if all of it is compared and the source orders by it as it compares
/// with it (MySQL's ENUM orders by number and compares by name).
fn walk(engine: Engine, catalogue: &[CatalogueColumn], columns: &[Compared]) -> Vec<usize> {
    let mut key: Vec<(u32, &CatalogueColumn)> =
        catalogue.iter().filter_map(|column| Some((column.key_position?, column))).collect();
    key.sort_unstable_by_key(|(position, _)| *position);
    let places: Vec<usize> = key
        .iter()
        .filter_map(|(_, column)| columns.iter().position(|compared| compared.source == column.name))
        .filter(|place| columns.get(*place).is_some_and(|column| is_walked(engine, column)))
        .collect();
    if places.len() == key.len() { places } else { Vec::new() }
}

fn is_walked(engine: Engine, column: &Compared) -> bool {
    let name = column.source_type.to_ascii_lowercase();
    match engine {
        Engine::MySql => {
            matches!(column.canonical.kind, SourceKind::Integer | SourceKind::Decimal | SourceKind::Date)
                || matches!(column.canonical.kind, SourceKind::DateTime | SourceKind::Timestamp | SourceKind::Binary)
                || name.starts_with("char")
                || name.starts_with("varchar")
        }
        Engine::PostgreSql => !matches!(column.canonical.form, Form::Double | Form::Single | Form::Json),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use strait::bigquery::table_resource::{Field, PrimaryKey, Schema, TableConstraints};

    use super::*;

    fn config(more: &[(&str, &str)]) -> Config {
        let variables = [
            ("STRAIT_PROJECT", "p"),
            ("STRAIT_BIGQUERY_REST_URL", "http://127.0.0.1:1"),
            ("STRAIT_BIGQUERY_GRPC_URL", "http://127.0.0.1:1"),
        ];
        let all = variables.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_vars(all).unwrap()
    }

    fn catalogue(columns: &[(&str, &str, Option<u32>)]) -> Vec<CatalogueColumn> {
        columns
            .iter()
            .map(|(name, column_type, key_position)| CatalogueColumn {
                name: (*name).to_owned(),
                column_type: (*column_type).to_owned(),
                key_position: *key_position,
            })
            .collect()
    }

    fn resource(fields: Vec<Field>, key: &[&str]) -> Table {
        Table {
            schema: Schema { fields },
            table_constraints: Some(TableConstraints {
                primary_key: Some(PrimaryKey { columns: key.iter().map(|name| (*name).to_owned()).collect() }),
                ..TableConstraints::default()
            }),
            ..Table::default()
        }
    }

    fn orders() -> SourceTable {
        SourceTable { schema: "shop".into(), table: "orders".into() }
    }

    #[test]
    fn every_column_of_either_side_is_compared_or_named() {
        let source = catalogue(&[
            ("id", "bigint(20)", Some(1)),
            ("e-mail", "varchar(80)", None),
            ("card", "varchar(20)", None),
            ("doc", "json", None),
            ("note", "text", None),
            ("left", "text", None),
            ("gone", "text", None),
        ]);
        let renamed = Field {
            description: Some(strait::names::renamed_column_description("e-mail")),
            ..ColumnType::String.field("e_mail")
        };
        let fields = vec![
            ColumnType::Int64.field("id"),
            renamed,
            ColumnType::Json.field("doc"),
            ColumnType::String.field("NOTE"),
            ColumnType::String.field("left"),
            ColumnType::String.field("extra"),
            ColumnType::Bool.field("_strait_deleted"),
        ];
        let config = config(&[("STRAIT_MASK", "shop.orders.card=drop")]);
        let resource = resource(fields, &["id"]);
        let pairing =
            Pairing::new(&config, &orders(), Engine::MySql, &source, &resource, &["left".to_owned()]).unwrap();
        let compared: Vec<(&str, &str)> =
            pairing.columns.iter().map(|column| (column.source.as_str(), column.in_final.as_str())).collect();
        assert_eq!(compared, [("id", "id"), ("e-mail", "e_mail"), ("note", "NOTE")]);
        let not: Vec<&str> = pairing.not_compared.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(not, ["doc", "left", "extra", "card", "gone"]);
        let carried: Vec<&str> = pairing.carried.iter().map(|column| column.source.as_str()).collect();
        assert_eq!(carried, ["doc", "left"]);
        assert_eq!((pairing.key.as_slice(), pairing.walk.as_slice()), (&[0][..], &[0][..]));
        assert_eq!(pairing.final_condition.as_deref(), Some("NOT COALESCE(`_strait_deleted`, FALSE)"));
    }

    #[test]
    fn a_key_that_is_masked_is_not_compared() {
        let source = catalogue(&[("id", "varchar(40)", Some(1))]);
        let config = config(&[("STRAIT_MASK", "*.*.id=hash"), ("STRAIT_MASK_KEY_SECRET", "key")]);
        let resource = resource(vec![ColumnType::String.field("id")], &["id"]);
        let error = Pairing::new(&config, &orders(), Engine::MySql, &source, &resource, &[]).unwrap_err().to_string();
        assert!(error.contains("key column id") && error.contains("STRAIT_MASK: hash"), "{error}");
    }

    #[test]
    fn a_key_is_walked_by_only_where_the_source_compares_as_it_orders() {
        for (engine, column_type, is_walked) in [
            (Engine::MySql, "enum('b','a')", false),
            (Engine::MySql, "varchar(10)", true),
            (Engine::MySql, "binary(16)", true),
            (Engine::PostgreSql, "uuid", true),
        ] {
            let source = catalogue(&[("id", column_type, Some(1))]);
            let kind = SourceKind::of(engine, column_type);
            let field =
                if kind == SourceKind::Binary { ColumnType::Bytes.field("id") } else { ColumnType::String.field("id") };
            let pairing =
                Pairing::new(&config(&[]), &orders(), engine, &source, &resource(vec![field], &["id"]), &[]).unwrap();
            assert_eq!(!pairing.walk.is_empty(), is_walked, "{column_type}");
        }
    }
}
