//! The schemas of the tables whose records have come, each read once, and which definitions the log holds of them. Lives as long as the
//! process.
//! It must never say that a definition is in the log before it was acknowledged.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json_text;

use super::schema::TableSchema;

/// What sends ever new tables must not fill the memory.
const TABLES_AT_MOST: usize = 10_000;

/// Schemas by table.
#[derive(Debug, Default)]
pub struct Schemas {
    /// By schema and table.
    tables: HashMap<String, HashMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    /// The record's schema, to the letter.
    text: Box<str>,
    /// The key's columns; None where a key cannot be read.
    key: Option<Vec<String>>,
    schema: Arc<TableSchema>,
    definition: Option<Arc<str>>,
    /// The definition that the log was last given.
    written: Option<Arc<str>>,
}

/// A definition that the log has to have before the first change that it describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    schema: String,
    table: String,
    text: Arc<str>,
}

impl Definition {
    /// The `control` object's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether both are of one table.
    pub(crate) fn is_of_table_of(&self, other: &Self) -> bool {
        (&self.schema, &self.table) == (&other.schema, &other.table)
    }
}

/// What is known of a record's table.
#[derive(Debug, Clone)]
pub struct Described {
    /// How its values are encoded.
    pub schema: Arc<TableSchema>,
    /// Its definition; None where the record's key cannot be read, so that the table's is not known.
    pub definition: Option<Definition>,
    /// Whether the log holds this definition last of all.
    pub is_written: bool,
}

impl Schemas {
    /// What a record's schema says of its table; None when it is none of a change event's. `key` is the record's key, None where it has none.
    pub fn describe(
        &mut self,
        (schema, table): (&str, &str),
        text: &str,
        key: Option<&str>,
        may_be_partial: bool,
    ) -> Option<Described> {
        let is_known = self
            .tables
            .get(schema)
            .and_then(|tables| tables.get(table))
            .is_some_and(|known| *known.text == *text && is_key_of(key, known.key.as_deref()));
        if !is_known {
            self.read((schema, table), text, key, may_be_partial)?;
        }
        let known = self.tables.get(schema)?.get(table)?;
        Some(Described {
            schema: Arc::clone(&known.schema),
            definition: known.definition.as_ref().map(|text| Definition {
                schema: schema.to_owned(),
                table: table.to_owned(),
                text: Arc::clone(text),
            }),
            is_written: known.definition == known.written,
        })
    }

    fn read(
        &mut self,
        (schema, table): (&str, &str),
        text: &str,
        key: Option<&str>,
        may_be_partial: bool,
    ) -> Option<()> {
        let read = TableSchema::of_event(text)?;
        let key = key_columns(key).filter(|key| key.iter().all(|column| read.has(column)));
        let definition = key.as_ref().map(|key| Arc::from(read.definition(key, may_be_partial)));
        if self.tables.values().map(HashMap::len).sum::<usize>() >= TABLES_AT_MOST {
            self.tables.clear();
        }
        let tables = self.tables.entry(schema.to_owned()).or_default();
        let written = tables.remove(table).and_then(|known| known.written);
        let known = Known { text: text.into(), key, schema: Arc::new(read), definition, written };
        tables.insert(table.to_owned(), known);
        Some(())
    }

    /// Takes in that the log holds these definitions, the last of each table last.
    pub fn written(&mut self, definitions: &[Definition]) {
        for Definition { schema, table, text } in definitions {
            if let Some(known) = self.tables.get_mut(schema).and_then(|tables| tables.get_mut(table)) {
                known.written = Some(Arc::clone(text));
            }
        }
    }
}

#[derive(Deserialize)]
struct KeyEnvelope<'a> {
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

/// The object that a record's key is, and its schema. The key of a table with columns `schema` and `payload` alone is taken for an envelope
/// only if they are objects, which no column's values are in a key.
pub fn key_payload(key: &str) -> Option<(&str, Option<&str>)> {
    let envelope: Option<KeyEnvelope<'_>> = serde_json::from_str(key).ok();
    if let Some(KeyEnvelope { schema: Some(schema), payload: Some(payload) }) = envelope
        && schema.get().starts_with('{')
        && payload.get().starts_with('{')
    {
        return Some((payload.get(), Some(schema.get())));
    }
    key.trim_start().starts_with('{').then_some((key, None))
}

/// The columns of a record's key: none without a key, None where it cannot be read.
fn key_columns(key: Option<&str>) -> Option<Vec<String>> {
    let Some(key) = key else {
        return Some(Vec::new());
    };
    let (payload, _) = key_payload(key)?;
    let mut columns = Vec::new();
    // Broken JSON is no key.
    serde_json::from_str::<&RawValue>(payload).ok()?;
    json_text::edit_members(payload, |name, _| {
        columns.push(name.to_owned());
        json_text::Edit::Keep
    })
    .ok()?;
    Some(columns)
}

fn is_key_of(key: Option<&str>, known: Option<&[String]>) -> bool {
    key_columns(key).as_deref() == known
}
