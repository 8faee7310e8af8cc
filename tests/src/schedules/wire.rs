//! How a history looks in DMS's messages and in a final table: keys of each kind, positions of each engine, images. Many histories share
//! one source table; each has a lane of its own in the space of keys and of positions. It must never decide what a change means.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::history::{Control, Engine, History, Modes, Origin, Timeline, Told};
use super::source::{COLUMNS, Cell, Image, KEYS, Key, Kind, Operation, SENTINEL, Truth};

/// The schema of all source tables here.
pub const SCHEMA: &str = "play";
/// Names of the columns beside the key.
const VALUE_COLUMNS: [&str; COLUMNS] = ["v", "w"];

/// A source table that histories of one kind share.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub kind: Kind,
    pub engine: Engine,
    pub modes: Modes,
    /// Microseconds since 1970 at which the clock of all histories stands at 0.
    pub origin_us: i64,
}

impl Shape {
    /// The table's name.
    pub fn table(&self) -> &'static str {
        match self.kind {
            Kind::Int => "single",
            Kind::Composite => "composite",
            Kind::Text => "text",
            Kind::CaseInsensitive => "folded",
            Kind::Nullable => "nullable",
        }
    }

    /// The key columns.
    pub fn key_columns(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Int => &["id"],
            Kind::Composite | Kind::Nullable => &["a", "b"],
            Kind::Text | Kind::CaseInsensitive => &["k"],
        }
    }

    /// The key of a lane as members of an image.
    pub fn key(&self, lane: usize, key: Key) -> Vec<(&'static str, Value)> {
        const WORDS: [&str; KEYS] = ["a", "a ", "ab", "'a'", "å", "", "s0", "s1"];
        const FOLDED: [&str; KEYS] = ["abc", "ABC", "abcd", "ABCD", "é", "É", "s0", "s1"];
        let place = usize::from(key);
        match self.kind {
            Kind::Int => vec![("id", json!(lane * KEYS + place))],
            Kind::Composite => vec![("a", json!(lane * 2 + place % 2)), ("b", json!(WORDS[place]))],
            Kind::Text => vec![("k", json!(format!("{lane}/{}", WORDS[place])))],
            Kind::CaseInsensitive => vec![("k", json!(format!("{lane}/{}", FOLDED[place])))],
            Kind::Nullable if self.kind.is_null(key) => vec![("a", json!(lane)), ("b", Value::Null)],
            Kind::Nullable => vec![("a", json!(lane)), ("b", json!(WORDS[place]))],
        }
    }

    /// A control record.
    pub fn control(&self, control: &Control) -> Vec<u8> {
        if let Told::Truncate(transaction) = control.told {
            return self.truncate(control, transaction);
        }
        let mut columns = Map::new();
        for name in self.key_columns() {
            let dms_type = if matches!(*name, "id" | "a") { "INT64" } else { "WSTRING" };
            columns.insert((*name).to_owned(), json!({"type": dms_type, "nullable": self.kind == Kind::Nullable}));
        }
        columns.insert("v".to_owned(), json!({"type": "INT64", "nullable": true}));
        columns.insert("w".to_owned(), json!({"type": "WSTRING", "nullable": true}));
        let definition = json!({"table-def": {"columns": columns, "primary-key": self.key_columns()}});
        let mut metadata = self.metadata(control.emission_us, 0);
        metadata.insert("record-type".to_owned(), json!("control"));
        metadata.insert("partition-key-type".to_owned(), json!("task-id"));
        let is_create = control.told == Told::Create;
        let operation = if is_create { "create-table" } else { "drop-table" };
        metadata.insert("operation".to_owned(), json!(operation));
        let content = if is_create { definition } else { json!({}) };
        json!({"control": content, "metadata": metadata}).to_string().into_bytes()
    }

    /// As Debezium sends it, for DMS does not: at the transaction's beginning, below its changes.
    fn truncate(&self, control: &Control, transaction: u32) -> Vec<u8> {
        let emitted = self.origin_us + control.emission_us as i64;
        let mut source = json!({"version": "3.6.3.Final", "name": "dbz", "ts_us": emitted, "snapshot": "false", "table": self.table()});
        let place = match self.engine {
            Engine::MySql => {
                let (file, start) = binlog_place(transaction, 0);
                json!({"connector": "mysql", "db": SCHEMA, "file": format!("mysql-bin-changelog.{file:06}"), "pos": start, "row": 0})
            }
            Engine::PostgreSql => json!({"connector": "postgresql", "schema": SCHEMA, "lsn": lsn(transaction, 0)}),
        };
        source.as_object_mut().unwrap().extend(place.as_object().unwrap().clone());
        json!({"before": null, "after": null, "source": source, "op": "t", "ts_us": emitted}).to_string().into_bytes()
    }

    /// A sending as a message; `None` where it is empty.
    pub fn message(
        &self,
        history: &History,
        truth: &Truth,
        timeline: &Timeline,
        lane: usize,
        place: usize,
    ) -> Option<Vec<u8>> {
        let sending = history.sendings[place];
        let mut metadata = self.metadata(sending.emission_us, lane);
        metadata.insert("record-type".to_owned(), json!("data"));
        metadata.insert("partition-key-type".to_owned(), json!("primary-key"));
        let (operation, image, before) = match sending.origin {
            Origin::Load { key, read, .. } => {
                let row = truth.actual[read][usize::from(key)]?;
                let image = row.map(|value| value.map_or(Cell::Null, Cell::Value));
                (Operation::Load, self.image(lane, key, &image), None)
            }
            Origin::Change(_) => {
                let change = history.change(truth, place)?;
                self.put_position(&mut metadata, change.transaction, change.record, lane);
                let committed = self.time(timeline.commit_us(change.transaction));
                let committed = match self.engine {
                    // MySQL's have whole seconds.
                    Engine::MySql => committed.strftime("%Y-%m-%dT%H:%M:%S.000000Z"),
                    Engine::PostgreSql => committed.strftime("%Y-%m-%dT%H:%M:%S.%3f000Z"),
                };
                metadata.insert("commit-timestamp".to_owned(), json!(committed.to_string()));
                let mut image = self.image(lane, change.key, &change.image);
                if change.operation == Operation::Delete && self.engine == Engine::PostgreSql {
                    // Of a delete, PostgreSQL knows the key; the rest may come as false nulls.
                    for name in VALUE_COLUMNS {
                        if change.transaction.is_multiple_of(2) {
                            image.insert(name.to_owned(), Value::Null);
                        } else {
                            image.remove(name);
                        }
                    }
                }
                let before = match (change.operation, change.old) {
                    (Operation::Update, Some(old)) => Some(self.key_members(lane, old, place)),
                    (Operation::Update, None) => Some(Map::new()),
                    _ => None,
                };
                (change.operation, image, before)
            }
        };
        let word = match operation {
            Operation::Load => "load",
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
        };
        metadata.insert("operation".to_owned(), json!(word));
        let mut message = json!({"data": image, "metadata": metadata});
        if let Some(before) = before {
            message["before-image"] = Value::Object(before);
        }
        Some(message.to_string().into_bytes())
    }

    fn key_members(&self, lane: usize, key: Key, place: usize) -> Map<String, Value> {
        let members = self.key(lane, key).into_iter();
        // A NULL is left out, or stands there, as the settings of the endpoint want it.
        let members = members.filter(|(_, value)| !value.is_null() || place.is_multiple_of(2));
        members.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn image(&self, lane: usize, key: Key, image: &Image) -> Map<String, Value> {
        let mut members = self.key_members(lane, key, usize::from(key));
        for (column, name) in VALUE_COLUMNS.into_iter().enumerate() {
            let value = match image[column] {
                Cell::Value(value) if column == 0 => json!(value),
                Cell::Value(value) => json!(format!("t{value}")),
                Cell::Null => Value::Null,
                Cell::Absent => continue,
            };
            members.insert(name.to_owned(), value);
        }
        members
    }

    fn metadata(&self, emission_us: u64, lane: usize) -> Map<String, Value> {
        let emitted = self.time(emission_us + lane_us(lane)).strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let mut metadata = Map::new();
        metadata.insert("timestamp".to_owned(), json!(emitted));
        metadata.insert("schema-name".to_owned(), json!(SCHEMA));
        metadata.insert("table-name".to_owned(), json!(self.table()));
        metadata
    }

    /// Transactions rise over the lanes: of two of the same number, the one of the higher lane is the later one.
    fn put_position(&self, metadata: &mut Map<String, Value>, transaction: u32, record: u32, lane: usize) {
        match self.engine {
            Engine::MySql => {
                let (file, start) = binlog_place(transaction, lane);
                let id = file << 32 | start;
                let (event, next) = (start + u64::from(record) * 50, start + u64::from(record) * 50 + 50);
                let name = format!("mysql-bin-changelog.{file:06}");
                metadata.insert("transaction-id".to_owned(), json!(id));
                metadata.insert(
                    "stream-position".to_owned(),
                    json!(format!("{name}:{event}:0:{next}:{id}:{name}:{start}")),
                );
            }
            Engine::PostgreSql => {
                let lsn = lsn(transaction, lane);
                let (transaction, lane) = (u64::from(transaction), lane as u64);
                let text = format!("{:08X}/{:08X}", lsn >> 32, lsn & 0xFFFF_FFFF);
                // The transaction's number is no order: one that began early may commit late.
                metadata.insert("transaction-id".to_owned(), json!(90_000 - transaction * 7 + lane));
                metadata.insert("stream-position".to_owned(), json!(format!("{text}.{record}.{text}")));
            }
        }
        metadata.insert("transaction-record-id".to_owned(), json!(record));
    }

    fn time(&self, us: u64) -> Timestamp {
        Timestamp::from_microsecond(self.origin_us + us as i64).unwrap()
    }

    /// The values of a final row's columns, as this history's cells. `None`: no history wrote such a value.
    pub fn values(&self, v: Option<&str>, w: Option<&str>) -> Option<[Option<u16>; COLUMNS]> {
        let v = v.map(str::parse).transpose().ok()?;
        let w = w.map(|text| text.strip_prefix('t').unwrap_or("?").parse()).transpose().ok()?;
        Some([v, w])
    }

    /// Whether a key is that of a sentinel.
    pub fn is_sentinel(key: Key) -> bool {
        key >= SENTINEL
    }
}

/// The number of the binlog's file, and where in it a transaction begins. The number gets a seventh digit on the way.
fn binlog_place(transaction: u32, lane: usize) -> (u64, u64) {
    let (transaction, lane) = (u64::from(transaction), lane as u64);
    (999_998 + transaction / 6, transaction % 6 * 10_000_000 + lane * 1_000 + 4)
}

/// Where a transaction stands in PostgreSQL's log. The lower half rolls over on the way.
fn lsn(transaction: u32, lane: usize) -> u64 {
    0x1_FFF0_0000 + u64::from(transaction) * 0x2_0000 + lane as u64 * 0x40
}

/// What a lane adds to an emission time, so that no two messages of a table are built at the same time.
fn lane_us(lane: usize) -> u64 {
    lane as u64 % 7
}
