//! The schemas of the tables whose records have come, each read once, and which definitions the log holds of them. Lives as long as the
//! process.
//! It must never say that a definition is in the log before it was acknowledged.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::WithoutSchema;
use crate::json_text;

use super::schema::TableSchema;

/// What sends ever new tables must not fill the memory.
const TABLES_AT_MOST: usize = 10_000;

/// Schemas by table.
#[derive(Debug, Default)]
pub struct Schemas {
    /// By schema and table.
    tables: HashMap<String, HashMap<String, Known>>,
    /// What becomes of changes that come without one.
    without: WithoutSchema,
}

#[derive(Debug)]
struct Known {
    /// The record's schema, to the letter.
    text: Box<str>,
    /// The members of the record's key; None where a key cannot be read.
    key: Option<Vec<String>>,
    schema: Arc<TableSchema>,
    definition: Option<Arc<Definition>>,
    /// The definition that the log was last given.
    written: Option<Arc<Definition>>,
}

/// A definition that the log has to have before the first change that it describes.
#[derive(Debug, PartialEq, Eq)]
pub struct Definition {
    schema: String,
    table: String,
    text: String,
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
    pub definition: Option<Arc<Definition>>,
    /// Whether it is the definition that this process wrote last of the table: if so, the log holds it.
    pub is_written: bool,
}

impl Schemas {
    /// None yet; changes without a schema are treated as configured.
    #[must_use]
    pub fn new(without: WithoutSchema) -> Self {
        Self { tables: HashMap::new(), without }
    }

    /// What becomes of a change without a schema.
    #[must_use]
    pub fn without(&self) -> WithoutSchema {
        self.without
    }

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
            definition: known.definition.clone(),
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
        let key = key_columns(key);
        let is_of_table = |key: &&Vec<String>| key.iter().all(|column| read.has(column));
        let definition = key.as_ref().filter(is_of_table).map(|key| {
            let text = read.definition(key, may_be_partial);
            Arc::new(Definition { schema: schema.to_owned(), table: table.to_owned(), text })
        });
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
    pub fn written(&mut self, definitions: &[Arc<Definition>]) {
        for definition in definitions {
            let tables = self.tables.get_mut(&definition.schema);
            if let Some(known) = tables.and_then(|tables| tables.get_mut(&definition.table)) {
                known.written = Some(Arc::clone(definition));
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
    let mut columns = Vec::new();
    visit_key(key, |name| columns.push(name.to_owned()))?;
    Some(columns)
}

/// Whether a record's key has a member of this name.
#[must_use]
pub fn is_in_key(column: &str, key: &str) -> bool {
    let mut is_in = false;
    visit_key(key, |name| is_in |= name == column).is_some() && is_in
}

/// Whether a record's key has these members; allocates nothing, since every record asks.
fn is_key_of(key: Option<&str>, known: Option<&[String]>) -> bool {
    let Some(key) = key else {
        return known.is_some_and(<[String]>::is_empty);
    };
    let (mut is_same, mut count) = (true, 0_usize);
    let read = visit_key(key, |name| {
        is_same &= known.and_then(|known| known.get(count)).is_some_and(|known| known == name);
        count = count.saturating_add(1);
    });
    match (read, known) {
        (None, known) => known.is_none(),
        (Some(()), Some(known)) => is_same && count == known.len(),
        (Some(()), None) => false,
    }
}

/// Shows the name of each member of a record's key; None where it cannot be read.
fn visit_key(key: &str, mut visit: impl FnMut(&str)) -> Option<()> {
    let (payload, _) = key_payload(key)?;
    // Broken JSON is no key.
    serde_json::from_str::<&RawValue>(payload).ok()?;
    json_text::edit_members(payload, |name, _| {
        visit(name);
        json_text::Edit::Keep
    })
    .ok()?;
    Some(())
}
