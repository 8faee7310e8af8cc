//! Random alterations between random changes: a table whose columns are added, renamed, made of another type and dropped while rows are
//! written, what DMS sends of it, and what the source holds in the end. Names are never used twice: what a column of a name that was used
//! before holds is not known to anybody but a reload.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::history::{Message, Table};

use super::random::Random;

/// Rows that a history writes.
const ROWS: usize = 4;

/// A table's history.
#[derive(Debug, Clone)]
pub struct Altered {
    /// As it stands in the end.
    pub table: Table,
    /// What DMS sends, in the source's order.
    pub messages: Vec<Message>,
    /// The rows in the end: the key, then the columns in the order of `columns`. `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// The columns in the end, in BigQuery's quotes.
    pub columns: Vec<String>,
    /// What was done, for a person.
    pub told: Vec<String>,
}

/// A column of the source.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    is_text: bool,
}

struct Source {
    schema: String,
    columns: Vec<Column>,
    rows: BTreeMap<usize, BTreeMap<String, String>>,
    named: usize,
}

impl Source {
    fn table(&self) -> Table {
        let mut table = Table::new(&self.schema, "t").column("id", "INT64");
        for column in &self.columns {
            table = table.column(&column.name, if column.is_text { "WSTRING" } else { "INT32" });
        }
        table.key(&["id"])
    }

    fn new_name(&mut self) -> String {
        self.named += 1;
        format!("c{}", self.named)
    }

    /// A row's image, with NULL written out or left out.
    fn image(&self, id: usize, random: &mut Random) -> Value {
        let row = &self.rows[&id];
        let mut image = Map::from_iter([("id".to_owned(), json!(id))]);
        for column in &self.columns {
            match row.get(&column.name) {
                Some(value) if column.is_text => drop(image.insert(column.name.clone(), json!(value))),
                Some(value) => drop(image.insert(column.name.clone(), json!(value.parse::<i64>().unwrap()))),
                None if random.one_in(2) => drop(image.insert(column.name.clone(), Value::Null)),
                None => {}
            }
        }
        image.into()
    }

    fn write(&mut self, id: usize, random: &mut Random) {
        let mut row = BTreeMap::new();
        for column in &self.columns {
            if !random.one_in(4) {
                let number = random.below(1_000);
                row.insert(
                    column.name.clone(),
                    if column.is_text && random.one_in(2) { format!("t{number}") } else { number.to_string() },
                );
            }
        }
        self.rows.insert(id, row);
    }
}

impl Altered {
    /// A history in a schema of its own.
    #[must_use]
    pub fn random(random: &mut Random, schema: &str, is_postgresql: bool) -> Self {
        let mut source = Source { schema: schema.to_owned(), columns: Vec::new(), rows: BTreeMap::new(), named: 0 };
        for _ in 0..=random.below(2) {
            let name = source.new_name();
            source.columns.push(Column { name, is_text: random.one_in(2) });
        }
        let mut messages = vec![source.table().create()];
        let mut told = vec![format!("create {:?}", source.columns)];
        for position in 1..=12 + random.below(16) {
            let at = |message: Message| {
                let message = message.at(u32::try_from(position).unwrap() * 10);
                if is_postgresql { message.of_postgresql() } else { message }
            };
            if random.one_in(4) {
                let before = source.table();
                let operation = source.alter(random, &mut told);
                messages.push(source.table().altered(operation, &before));
                continue;
            }
            let id = random.below(ROWS);
            let is_there = source.rows.contains_key(&id);
            if is_there && random.one_in(4) {
                let image = if is_postgresql { json!({"id": id}) } else { source.image(id, random) };
                source.rows.remove(&id);
                messages.push(at(source.table().delete(image)));
                told.push(format!("delete {id}"));
                continue;
            }
            source.write(id, random);
            let image = source.image(id, random);
            told.push(format!("write {image}"));
            messages.push(at(if is_there { source.table().update(image) } else { source.table().insert(image) }));
        }
        let row = |(id, row): (&usize, &BTreeMap<String, String>)| {
            let cells = source.columns.iter().map(|column| row.get(&column.name).cloned());
            [Some(id.to_string())].into_iter().chain(cells).collect()
        };
        Self {
            rows: source.rows.iter().map(row).collect(),
            columns: source.columns.iter().map(|column| format!("`{}`", column.name)).collect(),
            table: source.table(),
            messages,
            told,
        }
    }
}

impl Source {
    fn alter(&mut self, random: &mut Random, told: &mut Vec<String>) -> &'static str {
        let place = random.below(self.columns.len());
        let what = if self.columns.is_empty() { 0 } else { random.below(4) };
        match what {
            1 => {
                let gone = self.columns.remove(place);
                for row in self.rows.values_mut() {
                    row.remove(&gone.name);
                }
                told.push(format!("drop {}", gone.name));
                "drop-column"
            }
            2 => {
                let name = self.new_name();
                let old = std::mem::replace(&mut self.columns[place].name, name.clone());
                for row in self.rows.values_mut() {
                    if let Some(value) = row.remove(&old) {
                        row.insert(name.clone(), value);
                    }
                }
                told.push(format!("rename {old} to {name}"));
                "rename-column"
            }
            3 if !self.columns[place].is_text => {
                self.columns[place].is_text = true;
                told.push(format!("make {} a text", self.columns[place].name));
                "column-type-change"
            }
            _ => {
                let name = self.new_name();
                told.push(format!("add {name}"));
                self.columns.push(Column { name, is_text: random.one_in(2) });
                "add-column"
            }
        }
    }
}
