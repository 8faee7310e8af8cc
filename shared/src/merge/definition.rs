//! A source table's definition, as a `create-table` control record carries it. It says what the source says, and
//! must never guess what is missing there.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};

use crate::json_text::FromObject;

/// A source table as DMS describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceDefinition {
    /// In the source's order.
    pub columns: Vec<SourceColumn>,
    /// The primary key's columns in key order; empty if the table has none or DMS sent none.
    pub primary_key: Vec<String>,
}

/// One column of a source table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceColumn {
    /// The column's name in the source.
    pub name: String,
    /// DMS's name of the type, such as `INT32` or `WSTRING`.
    pub dms_type: String,
    /// Total digits of a NUMERIC.
    pub precision: Option<u32>,
    /// Digits after the point of a NUMERIC.
    pub scale: Option<u32>,
}

/// Why a control record holds no definition.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The record has no `table-def` (the endpoint's IncludeControlDetails is false).
    #[error("the create-table record carries no table-def")]
    Missing,
    /// The definition is not of the form that DMS documents.
    #[error("the create-table record's table-def is not of the documented form")]
    Malformed(#[source] serde_json::Error),
}

#[derive(Deserialize)]
struct Control {
    #[serde(rename = "table-def")]
    table_def: Option<FromObject<TableDef>>,
}

#[derive(Deserialize)]
struct TableDef {
    columns: OrderedColumns,
    #[serde(rename = "primary-key", default)]
    primary_key: Vec<String>,
}

#[derive(Deserialize)]
struct ColumnDef {
    #[serde(rename = "type")]
    dms_type: String,
    precision: Option<u32>,
    /// Negative where a PostgreSQL numeric is rounded to the left of the point.
    scale: Option<i32>,
}

impl ColumnDef {
    fn named(self, name: String) -> SourceColumn {
        let left_of_point = self.scale.filter(|scale| *scale < 0).map_or(0, i32::unsigned_abs);
        SourceColumn {
            name,
            dms_type: self.dms_type,
            precision: self.precision.map(|precision| precision.saturating_add(left_of_point)),
            scale: self.scale.map(|scale| u32::try_from(scale).unwrap_or(0)),
        }
    }
}

/// `columns` is a JSON object whose order is the source's; a map type would lose it.
struct OrderedColumns(Vec<SourceColumn>);

impl<'de> Deserialize<'de> for OrderedColumns {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = OrderedColumns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of columns")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OrderedColumns, A::Error> {
                let mut columns: Vec<SourceColumn> = Vec::new();
                while let Some((name, FromObject(def))) = map.next_entry::<String, FromObject<ColumnDef>>()? {
                    if columns.iter().any(|column| column.name == name) {
                        return Err(de::Error::custom("a column is defined twice"));
                    }
                    columns.push(def.named(name));
                }
                Ok(OrderedColumns(columns))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl SourceDefinition {
    /// Reads the `control` object of a `create-table` record, as the log keeps it in `data`.
    pub fn from_control(control: &str) -> Result<Self, DefinitionError> {
        let FromObject::<Control>(control) = serde_json::from_str(control).map_err(DefinitionError::Malformed)?;
        let FromObject(definition) = control.table_def.ok_or(DefinitionError::Missing)?;
        Ok(Self { columns: definition.columns.0, primary_key: definition.primary_key })
    }
}

/// What the log says of a source table's definitions, in the order in which DMS sent them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceHistory {
    newest: Option<SourceDefinition>,
    earlier: Vec<SourceDefinition>,
    renames: Vec<(String, String)>,
    is_renamed_away: bool,
}

/// A control record that carries the definition from before the change, too.
#[derive(Deserialize)]
struct Alteration {
    #[serde(rename = "old-table-def")]
    old_table_def: Option<FromObject<TableDef>>,
}

impl SourceHistory {
    /// Takes in the next control record: its operation and its `control` object.
    ///
    /// # Errors
    /// When it carries no definition that can be read; what is known then is as it was.
    pub fn take(&mut self, operation: &str, control: &str) -> Result<(), DefinitionError> {
        if operation == "rename-table" {
            // Under which of its two names DMS sends it is not known, so its definition is nobody's.
            self.is_renamed_away = true;
            return Ok(());
        }
        let mut definition = SourceDefinition::from_control(control)?;
        let before = serde_json::from_str::<Alteration>(control).ok().and_then(|control| control.old_table_def);
        let before = before
            .map(|FromObject(before)| SourceDefinition { columns: before.columns.0, primary_key: before.primary_key });
        self.is_renamed_away = false;
        let known = before.as_ref().or(self.newest.as_ref());
        let renamed = match known {
            Some(before) if operation == "rename-column" => renamed_columns(before, &definition),
            _ => Vec::new(),
        };
        // Only a table that is made says that it has no key; DMS leaves the key out of other records at times.
        if operation != "create-table" && definition.primary_key.is_empty() {
            let now = |key: &String| {
                renamed.iter().find(|(old, _)| old == key).map_or_else(|| key.clone(), |(_, new)| new.clone())
            };
            let keys = [before.as_ref(), self.newest.as_ref()].into_iter().flatten().map(|known| &known.primary_key);
            let key = keys.into_iter().find(|key| !key.is_empty());
            definition.primary_key = key.into_iter().flatten().map(now).collect();
        }
        self.renames.extend(renamed);
        self.earlier.extend(before);
        self.earlier.extend(self.newest.replace(definition));
        Ok(())
    }

    /// The newest definition.
    pub fn newest(&self) -> Option<&SourceDefinition> {
        self.newest.as_ref()
    }

    /// The definitions before it, oldest first.
    pub fn earlier(&self) -> &[SourceDefinition] {
        &self.earlier
    }

    /// The columns that were renamed, by their old and new names, oldest first.
    pub fn renames(&self) -> &[(String, String)] {
        &self.renames
    }

    /// Whether the newest record says that the table has another name now.
    pub fn is_renamed_away(&self) -> bool {
        self.is_renamed_away
    }
}

/// A rename leaves a column in its place; so of names that went and names that came, those at the same place are one column's.
fn renamed_columns(before: &SourceDefinition, after: &SourceDefinition) -> Vec<(String, String)> {
    let has = |definition: &SourceDefinition, name: &str| definition.columns.iter().any(|column| column.name == name);
    before
        .columns
        .iter()
        .zip(&after.columns)
        .filter(|(old, new)| !has(after, &old.name) && !has(before, &new.name))
        .map(|(old, new)| (old.name.clone(), new.name.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn columns_keep_the_sources_order() {
        let definition = SourceDefinition::from_control(
            r#"{"table-def":{"columns":{"z":{"type":"INT64","nullable":false},"a":{"type":"NUMERIC","precision":12,"scale":2,"nullable":true}},"primary-key":["z"],"collation-name":"latin1_swedish_ci"}}"#,
        )
        .unwrap();
        assert_eq!(definition.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["z", "a"]);
        assert_eq!(definition.columns.last().unwrap().scale, Some(2));
        assert_eq!(definition.primary_key, ["z"]);
    }

    #[test]
    fn a_history_knows_what_columns_were_called_before() {
        let mut history = SourceHistory::default();
        let control = |columns: &str| format!(r#"{{"table-def":{{"columns":{{"id":{{"type":"INT64"}},{columns}}}}}}}"#);
        history.take("create-table", &control(r#""a":{"type":"INT8"},"b":{"type":"INT8"}"#)).unwrap();
        history.take("rename-column", &control(r#""a":{"type":"INT8"},"c":{"type":"INT8"}"#)).unwrap();
        // Sent again: nothing came, nothing went.
        history.take("rename-column", &control(r#""a":{"type":"INT8"},"c":{"type":"INT8"}"#)).unwrap();
        history.take("rename-column", "{}").unwrap_err();
        assert_eq!(history.renames(), [("b".to_owned(), "c".to_owned())]);
        assert_eq!((history.earlier().len(), history.newest().unwrap().columns.len()), (2, 3));
        let with_key = r#"{"table-def":{"columns":{"id":{"type":"INT64"}},"primary-key":["id"]}}"#;
        history.take("create-table", with_key).unwrap();
        history.take("rename-column", r#"{"table-def":{"columns":{"key":{"type":"INT64"}}}}"#).unwrap();
        assert_eq!(history.newest().unwrap().primary_key, ["key"], "left out, not gone");
        history.take("rename-table", "{}").unwrap();
        assert!(history.is_renamed_away());
    }

    #[test]
    fn a_scale_left_of_the_point_adds_digits_before_it() {
        let definition = SourceDefinition::from_control(
            r#"{"table-def":{"columns":{"a":{"type":"NUMERIC","precision":5,"scale":-2,"nullable":true}},"primary-key":[]}}"#,
        )
        .unwrap();
        let column = definition.columns.first().unwrap();
        assert_eq!((column.precision, column.scale), (Some(7), Some(0)));
    }

    #[test]
    fn what_is_no_definition_says_why() {
        assert!(matches!(SourceDefinition::from_control("{}"), Err(DefinitionError::Missing)));
        assert!(matches!(
            SourceDefinition::from_control(r#"{"table-def":{"columns":[]}}"#),
            Err(DefinitionError::Malformed(_))
        ));
    }

    /// serde reads a struct from a list, too, by the places of its members.
    #[test]
    fn a_list_is_no_definition() {
        for control in [
            r#"[{"columns":{"id":{"type":"INT64"}},"primary-key":["id"]}]"#,
            r#"{"table-def":[{"id":{"type":"INT64"}},["id"]]}"#,
            r#"{"table-def":{"columns":{"id":["INT64",null,null]}}}"#,
        ] {
            let read = SourceDefinition::from_control(control);
            assert!(matches!(read, Err(DefinitionError::Malformed(_))), "{control}: {read:?}");
        }
        let mut history = SourceHistory::default();
        let control = r#"{"table-def":{"columns":{"id":{"type":"INT64"}}},"old-table-def":[{"a":{"type":"INT8"}},[]]}"#;
        history.take("rename-column", control).unwrap();
        assert_eq!((history.earlier(), history.renames()), (&[][..], &[][..]));
    }
}
