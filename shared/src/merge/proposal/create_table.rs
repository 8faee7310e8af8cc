//! The proposal as a script for BigQuery: the statement by which Strait itself would make the table, with the evidence in
//! comments. No name or text may end a comment or a literal early: names pass the one escaper, and comments have no line breaks.

use std::collections::BTreeMap;

use crate::bigquery::table_resource::{Field, Table};
use crate::config::Deletes;
use crate::merge::definition::{DefinitionError, SourceDefinition};
use crate::merge::final_table::{FinalTableProblem, new_table};
use crate::merge::types::ColumnType;
use crate::names::{NameError, SourceTable, TableName, quote, quote_column, string_literal};

/// A column that is proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedColumn {
    /// The member of the row images: the source's column name.
    pub member: String,
    /// Its type.
    pub column_type: ColumnType,
    /// Why, a line each.
    pub comments: Vec<String>,
}

/// What is proposed.
#[derive(Debug, Clone)]
pub struct Proposal<'a> {
    /// Google Cloud project.
    pub project: &'a str,
    /// BigQuery location, for a dataset that does not exist.
    pub location: &'a str,
    /// The final table.
    pub name: TableName,
    /// The source table.
    pub source: &'a SourceTable,
    /// Its columns, in the source's order.
    pub columns: Vec<ProposedColumn>,
    /// The key columns, by their places, in key order; empty where none is known.
    pub key: Vec<usize>,
    /// What is said of the whole, a line each.
    pub comments: Vec<String>,
    /// What is said of the key.
    pub key_comments: Vec<String>,
    /// Whether the source is known to have no key, so that rows are only added.
    pub is_keyless: bool,
    /// What deletes do.
    pub deletes: Deletes,
}

/// Why nothing can be proposed.
#[derive(Debug, thiserror::Error)]
pub enum ProposalError {
    /// No column.
    #[error("there is no column to make a table of")]
    NoColumns,
    /// Two columns of one name.
    #[error("a column is listed twice")]
    Definition(#[source] DefinitionError),
    /// The table cannot be made.
    #[error(transparent)]
    Table(#[from] FinalTableProblem),
    /// A name cannot be quoted.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Proposal<'_> {
    /// The table that is proposed.
    ///
    /// It does not carry the mark of a table that Strait made: a person answers for its types, so no schema change at the
    /// source may alter them.
    fn table(&self) -> Result<Table, ProposalError> {
        if self.columns.is_empty() {
            return Err(ProposalError::NoColumns);
        }
        let key: Vec<&str> =
            self.key.iter().filter_map(|place| self.columns.get(*place)).map(|column| column.member.as_str()).collect();
        let definition = definition(&self.columns, &key)?;
        let (mut table, _) = new_table(self.project, &self.name, self.source, &definition, self.deletes)?;
        for (column, field) in self.columns.iter().zip(&mut table.schema.fields) {
            *field = Field {
                mode: field.mode.take(),
                description: field.description.take(),
                ..column.column_type.field(&field.name)
            };
        }
        // That a table has no key is the source's to say.
        if !self.is_keyless {
            table.labels.clear();
        }
        Ok(table)
    }

    /// The script: the dataset, unless it exists, and the table.
    ///
    /// # Errors
    /// [`ProposalError`].
    pub fn script(&self) -> Result<String, ProposalError> {
        let table = self.table()?;
        let mut lines: Vec<String> = self.comments.iter().map(|text| comment("", text)).collect();
        lines.push(format!(
            "CREATE SCHEMA IF NOT EXISTS {}.{} OPTIONS (location = {});",
            quote("project", self.project)?,
            quote("dataset", &self.name.dataset)?,
            string_literal(self.location)
        ));
        lines.push(String::new());
        lines.push(format!("CREATE TABLE {} (", self.name.quoted(self.project)?));
        let comments: BTreeMap<usize, &ProposedColumn> = self.columns.iter().enumerate().collect();
        let constraint = table.primary_key();
        let fields = table.schema.fields.len();
        for (place, field) in table.schema.fields.iter().enumerate() {
            match comments.get(&place) {
                Some(column) => lines.extend(column.comments.iter().map(|text| comment("  ", text))),
                None if place == self.columns.len() => lines.push(comment("  ", "Strait's own")),
                None => {}
            }
            let is_last = place.saturating_add(1) == fields && constraint.is_empty();
            lines.push(format!("  {}{}", column_definition(field)?, if is_last { "" } else { "," }));
        }
        lines.extend(self.key_comments.iter().map(|text| comment("  ", text)));
        if !constraint.is_empty() {
            lines.push(format!("  PRIMARY KEY ({}) NOT ENFORCED", quoted(constraint)?));
        }
        lines.push(")".to_owned());
        if !table.clustering_columns().is_empty() {
            lines.push(format!("CLUSTER BY {}", quoted(table.clustering_columns())?));
        }
        if !table.labels.is_empty() {
            let labels: Vec<String> = table
                .labels
                .iter()
                .map(|(name, value)| format!("({}, {})", string_literal(name), string_literal(value)))
                .collect();
            lines.push(format!("OPTIONS (labels = [{}])", labels.join(", ")));
        }
        if let Some(last) = lines.last_mut() {
            last.push(';');
        }
        lines.push(String::new());
        Ok(lines.join("\n"))
    }
}

/// The source's definition as a control record would have it; the types are those that a key's columns may have.
fn definition(columns: &[ProposedColumn], key: &[&str]) -> Result<SourceDefinition, ProposalError> {
    let columns: Vec<String> = columns
        .iter()
        .map(|column| {
            let dms_type = match column.column_type {
                ColumnType::Int64 => "INT64",
                ColumnType::Numeric { .. } | ColumnType::BigNumeric { .. } => "NUMERIC",
                ColumnType::Date => "DATE",
                ColumnType::DateTime => "DATETIME",
                ColumnType::Timestamp | ColumnType::TimestampIn(_) => "TIMESTAMP",
                ColumnType::Bool => "BOOL",
                ColumnType::Bytes | ColumnType::BytesUpTo(_) => "BYTES",
                _ => "STRING",
            };
            format!("{}:{{\"type\":\"{dms_type}\"}}", serde_json::Value::from(column.member.as_str()))
        })
        .collect();
    let control = format!(
        "{{\"table-def\":{{\"columns\":{{{}}},\"primary-key\":{}}}}}",
        columns.join(","),
        serde_json::Value::from(key)
    );
    SourceDefinition::from_control(&control).map_err(ProposalError::Definition)
}

fn column_definition(field: &Field) -> Result<String, ProposalError> {
    let mut definition = quote_column(&field.name)?;
    definition.push(' ');
    definition.push_str(&ColumnType::from_field(field).map_or_else(|| field.field_type.clone(), ColumnType::sql));
    if field.is_required() {
        definition.push_str(" NOT NULL");
    }
    if let Some(description) = &field.description {
        definition.push_str(&format!(" OPTIONS (description = {})", string_literal(description)));
    }
    Ok(definition)
}

fn quoted(names: &[String]) -> Result<String, NameError> {
    let names: Result<Vec<String>, NameError> = names.iter().map(|name| quote_column(name)).collect();
    Ok(names?.join(", "))
}

/// A comment line. What BigQuery might take for the line's end is left out.
fn comment(indent: &str, text: &str) -> String {
    let text: String =
        text.chars().map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c }).collect();
    format!("{indent}-- {text}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn column(member: &str, column_type: ColumnType, comment: &str) -> ProposedColumn {
        ProposedColumn { member: member.to_owned(), column_type, comments: vec![comment.to_owned()] }
    }

    fn script(columns: Vec<ProposedColumn>, key: Vec<usize>, deletes: Deletes) -> String {
        let source = SourceTable { schema: "shop".into(), table: "orders".into() };
        Proposal {
            project: "p",
            location: "EU",
            name: TableName { dataset: "replica".into(), table: "shop_orders".into() },
            source: &source,
            columns,
            key,
            comments: vec!["of the log".to_owned()],
            key_comments: vec!["the key".to_owned()],
            is_keyless: false,
            deletes,
        }
        .script()
        .unwrap()
    }

    #[test]
    fn a_script_is_the_table_that_strait_would_make_with_its_evidence() {
        let columns = vec![
            column("id", ColumnType::Int64, "ten values"),
            column("a.b", ColumnType::Time, "times"),
            column("amount", ColumnType::NUMERIC, "decimals"),
        ];
        let description = "OPTIONS (description = 'Source column: \"a.b\"')";
        let renamed = crate::names::column_names(["a.b"]).join("");
        let expected = format!(
            "-- of the log\n\
             CREATE SCHEMA IF NOT EXISTS `p`.`replica` OPTIONS (location = 'EU');\n\
             \n\
             CREATE TABLE `p`.`replica`.`shop_orders` (\n  \
               -- ten values\n  \
               `id` INT64 NOT NULL,\n  \
               -- times\n  \
               `{renamed}` TIME {description},\n  \
               -- decimals\n  \
               `amount` NUMERIC,\n  \
               -- Strait's own\n  \
               `_strait_position` STRING,\n  \
               `_strait_merged_at` TIMESTAMP,\n  \
               `_strait_deleted` BOOL,\n  \
               -- the key\n  \
               PRIMARY KEY (`id`) NOT ENFORCED\n\
             )\n\
             CLUSTER BY `id`;\n"
        );
        assert_eq!(script(columns, vec![0], Deletes::Soft), expected);
    }

    #[test]
    fn a_table_without_a_key_declares_and_clusters_by_none() {
        let columns = vec![column("v", ColumnType::Json, "json"), column("w", ColumnType::BIGNUMERIC, "numbers")];
        let script = script(columns, Vec::new(), Deletes::Hard);
        assert!(script.contains("  `v` JSON,\n") && script.contains("  `w` BIGNUMERIC,\n"), "{script}");
        assert!(script.ends_with("  `_strait_merged_at` TIMESTAMP\n  -- the key\n);\n"), "{script}");
        assert!(
            !script.contains("NOT NULL") && !script.contains("PRIMARY KEY") && !script.contains("CLUSTER"),
            "{script}"
        );
    }

    #[test]
    fn nothing_that_the_source_names_ends_a_comment_or_a_literal() {
        let name = "a`b'); DROP TABLE x; --";
        let columns = vec![column(name, ColumnType::Int64, "line one\nDROP TABLE x;\u{2028}y")];
        let script = script(columns, vec![0], Deletes::Hard);
        let outside: Vec<&str> = script.lines().filter(|line| line.trim_start().starts_with("DROP")).collect();
        assert!(outside.is_empty(), "{script}");
        assert!(script.contains(r#"'Source column: "a`b\'); DROP TABLE x; --"'"#), "{script}");
    }

    #[test]
    fn a_table_without_columns_is_none_and_one_without_a_key_says_so() {
        let source = SourceTable { schema: "s".into(), table: "t".into() };
        let proposal = Proposal {
            project: "p",
            location: "US",
            name: TableName { dataset: "d".into(), table: "t".into() },
            source: &source,
            columns: Vec::new(),
            key: Vec::new(),
            comments: Vec::new(),
            key_comments: Vec::new(),
            is_keyless: true,
            deletes: Deletes::Hard,
        };
        assert!(matches!(proposal.script(), Err(ProposalError::NoColumns)));
        let columns = vec![column("v", ColumnType::String, "text")];
        let script = Proposal { columns, ..proposal }.script().unwrap();
        assert!(script.ends_with(")\nOPTIONS (labels = [('strait_key', 'none')]);\n"), "{script}");
    }
}
