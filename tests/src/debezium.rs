//! What Debezium sends of a source's history, written the way [`crate::history`] writes what DMS does. It must never decide what a change
//! means.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use serde_json::{Value, json};
use strait_cli::msk::{KafkaRecord, Topic};

use crate::history::Table;

/// A connector's database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Positions are places in a binlog; names are a database's.
    MySql,
    /// Positions are log sequence numbers; names are a schema's.
    PostgreSql,
}

/// A table of the source, and how the connector describes its columns.
#[derive(Debug, Clone)]
pub struct Captured {
    engine: Engine,
    schema: String,
    name: String,
    fields: Vec<Value>,
    key: Vec<String>,
    has_schema: bool,
}

/// A record on its way to Kafka.
#[derive(Debug, Clone)]
pub struct Record {
    topic: String,
    key: Option<String>,
    value: Option<String>,
}

impl Captured {
    /// A table without columns.
    #[must_use]
    pub fn new(engine: Engine, schema: &str, name: &str) -> Self {
        let (schema, name) = (schema.to_owned(), name.to_owned());
        Self { engine, schema, name, fields: Vec::new(), key: Vec::new(), has_schema: true }
    }

    /// With a column of one of Kafka Connect's types, and a semantic type if it has one.
    #[must_use]
    pub fn column(self, name: &str, kind: &str, semantics: &str) -> Self {
        self.column_with(name, kind, semantics, &Value::Null)
    }

    /// The same with parameters.
    #[must_use]
    pub fn column_with(mut self, name: &str, kind: &str, semantics: &str, parameters: &Value) -> Self {
        let mut field = json!({"type": kind, "optional": true, "field": name});
        if !semantics.is_empty() {
            field["name"] = semantics.into();
            field["version"] = 1.into();
        }
        if !parameters.is_null() {
            field["parameters"] = parameters.clone();
        }
        self.fields.push(field);
        self
    }

    /// With the columns of an array or another nested schema.
    #[must_use]
    pub fn field(mut self, field: Value) -> Self {
        self.fields.push(field);
        self
    }

    /// With a primary key.
    #[must_use]
    pub fn key(mut self, columns: &[&str]) -> Self {
        self.key = columns.iter().map(|&column| column.to_owned()).collect();
        self
    }

    /// With `schemas.enable` off, for keys and values.
    #[must_use]
    pub fn without_schemas(mut self) -> Self {
        self.has_schema = false;
        self
    }

    /// The table by name.
    #[must_use]
    pub fn table(&self) -> Table {
        Table::new(&self.schema, &self.name)
    }

    fn key_of(&self, image: &Value) -> Option<String> {
        if self.key.is_empty() {
            return None;
        }
        let key: Value = self.key.iter().map(|column| (column.clone(), image[column].clone())).collect();
        Some(self.with_schema(
            || {
                let fields: Vec<&Value> = self
                    .fields
                    .iter()
                    .filter(|field| self.key.iter().any(|key| field["field"] == key.as_str()))
                    .collect();
                json!({"type": "struct", "fields": fields, "optional": false, "name": "dbz.Key"})
            },
            &key,
        ))
    }

    fn with_schema(&self, schema: impl Fn() -> Value, payload: &Value) -> String {
        match self.has_schema {
            true => json!({"schema": schema(), "payload": payload}).to_string(),
            false => payload.to_string(),
        }
    }

    fn envelope_schema(&self) -> Value {
        let row = |name: &str| json!({"type": "struct", "fields": self.fields, "optional": true, "name": "dbz.Value", "field": name});
        json!({"type": "struct", "fields": [
            row("before"), row("after"),
            {"type": "struct", "fields": [{"type": "string", "field": "version"}], "name": "io.debezium.connector.Source", "field": "source"},
            {"type": "string", "optional": false, "field": "op"},
        ], "optional": false, "name": "dbz.Envelope", "version": 2})
    }

    fn event(&self, op: &str, snapshot: &str, before: &Value, after: &Value, position: u32) -> Record {
        let emitted = next_emission();
        let mut source = json!({
            "version": "3.6.3.Final", "name": "dbz", "ts_ms": emitted / 1_000, "ts_us": emitted, "snapshot": snapshot, "table": self.name,
        });
        match self.engine {
            Engine::MySql => {
                let place = json!({"connector": "mysql", "db": self.schema, "file": "mysql-bin-changelog.000007", "pos": position, "row": 0, "gtid": null});
                source.as_object_mut().unwrap().extend(place.as_object().unwrap().clone());
            }
            Engine::PostgreSql => {
                let place = json!({"connector": "postgresql", "db": "db", "schema": self.schema, "lsn": 4_294_967_296_u64 + u64::from(position), "txId": 4_000_000_000_u64 - u64::from(position)});
                source.as_object_mut().unwrap().extend(place.as_object().unwrap().clone());
            }
        }
        let payload = json!({"before": before, "after": after, "source": source, "transaction": null, "op": op, "ts_ms": emitted / 1_000, "ts_us": emitted});
        let row = if after.is_null() { before } else { after };
        let key = if op == "t" { None } else { self.key_of(row) };
        Record { topic: self.topic(), key, value: Some(self.with_schema(|| self.envelope_schema(), &payload)) }
    }

    fn topic(&self) -> String {
        format!("dbz.{}.{}", self.schema, self.name)
    }

    /// A row of a snapshot; `part` is `first`, `true`, `last`, ….
    #[must_use]
    pub fn read(&self, part: &str, image: &Value) -> Record {
        self.event("r", part, &Value::Null, image, 4)
    }

    /// An insert.
    #[must_use]
    pub fn create(&self, image: &Value, position: u32) -> Record {
        self.event("c", "false", &Value::Null, image, position)
    }

    /// An update; `before` is null where the source does not send it.
    #[must_use]
    pub fn update(&self, before: &Value, after: &Value, position: u32) -> Record {
        self.event("u", "false", before, after, position)
    }

    /// A delete, and its tombstone.
    #[must_use]
    pub fn delete(&self, before: &Value, position: u32) -> [Record; 2] {
        let deleted = self.event("d", "false", before, &Value::Null, position);
        let tombstone = Record { value: None, ..deleted.clone() };
        [deleted, tombstone]
    }

    /// A change of the key: a delete, its tombstone, an insert.
    #[must_use]
    pub fn key_change(&self, before: &Value, after: &Value, position: u32) -> Vec<Record> {
        let mut records = Vec::from(self.delete(before, position));
        records.push(self.create(after, position));
        records
    }

    /// The table is emptied.
    #[must_use]
    pub fn truncate(&self, position: u32) -> Record {
        self.event("t", "false", &Value::Null, &Value::Null, position)
    }

    /// A statement on the table, in the topic of schema changes: `kind` is `CREATE`, `ALTER` or `DROP`, columns are name, type, length, scale.
    #[must_use]
    pub fn statement(&self, kind: &str, ddl: &str, columns: &[(&str, &str, Option<u32>, Option<u32>)]) -> Record {
        let emitted = next_emission();
        let columns: Vec<Value> = (1_i64..)
            .zip(columns)
            .map(|(position, (name, kind, length, scale))| {
                json!({"name": name, "jdbcType": 0, "typeName": kind, "typeExpression": kind, "length": length, "scale": scale,
                       "position": position, "optional": true, "autoIncremented": false})
            })
            .collect();
        let table = match kind {
            "DROP" => Value::Null,
            _ => json!({"defaultCharsetName": "utf8mb4", "primaryKeyColumnNames": self.key, "columns": columns}),
        };
        let value = json!({
            "source": {"connector": "mysql", "db": self.schema, "table": self.name, "file": "mysql-bin-changelog.000007", "pos": 4},
            "ts_ms": emitted / 1_000, "databaseName": self.schema, "schemaName": null, "ddl": ddl,
            "tableChanges": [{"type": kind, "id": format!("\"{}\".\"{}\"", self.schema, self.name), "table": table}],
        });
        let key = json!({"databaseName": self.schema}).to_string();
        Record { topic: "dbz".to_owned(), key: Some(key), value: Some(value.to_string()) }
    }
}

impl Record {
    /// The same change, committed and sent so many seconds later.
    ///
    /// # Panics
    /// When it is no change.
    #[must_use]
    pub fn later(mut self, seconds: i64) -> Self {
        let mut value: Value = serde_json::from_str(self.value.as_deref().unwrap()).unwrap();
        let payload = if value["payload"].is_object() { &mut value["payload"] } else { &mut value };
        let add = |time: &mut Value, count: i64| *time = (time.as_i64().unwrap() + count).into();
        for path in ["", "/source"] {
            let times = payload.pointer_mut(path).unwrap();
            add(&mut times["ts_ms"], seconds * 1_000);
            add(&mut times["ts_us"], seconds * 1_000_000);
        }
        self.value = Some(value.to_string());
        self
    }

    /// A record of another topic, as it is.
    #[must_use]
    pub fn raw(topic: &str, key: Option<&str>, value: Option<&str>) -> Self {
        Self { topic: topic.to_owned(), key: key.map(str::to_owned), value: value.map(str::to_owned) }
    }

    /// The boundaries of a transaction, which `provide.transaction.metadata` adds.
    #[must_use]
    pub fn transaction(status: &str, id: &str) -> Self {
        let value = json!({"status": status, "id": id, "event_count": null, "data_collections": null, "ts_ms": next_emission() / 1_000});
        Self::raw("dbz.transaction", Some(&json!({"id": id}).to_string()), Some(&value.to_string()))
    }
}

/// Puts records into their topics, each of one partition.
pub fn produce<'r>(
    topics: &mut BTreeMap<String, Topic>,
    records: impl IntoIterator<Item = &'r Record>,
) -> Vec<KafkaRecord> {
    let appended = records.into_iter().map(|record| {
        let topic = topics.entry(record.topic.clone()).or_insert_with_key(|name| Topic::new(name, 1));
        let bytes = |text: &String| text.clone().into_bytes();
        topic.append_to(0, record.key.as_ref().map(bytes), record.value.as_ref().map(bytes))
    });
    appended.collect()
}

/// Each record a millisecond after the one before; microseconds since the Unix epoch.
fn next_emission() -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let now = Timestamp::now().as_microsecond() - 60_000_000;
    let next = |last: i64| now.max(last + 1_000);
    next(LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last))).unwrap())
}
