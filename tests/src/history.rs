//! What DMS sends of a source's history, written the way the cases are: `orders.insert(json).at(10)`. Positions are MySQL's.
//! It must never decide what a change means.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use serde_json::{Value, json};

/// The binlog file that positions are in unless told otherwise.
const BINLOG_FILE: u64 = 7;

/// A table of the source.
#[derive(Debug, Clone)]
pub struct Table {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    columns: Vec<(String, Value)>,
    key: Vec<String>,
}

impl Table {
    /// A table without columns.
    #[must_use]
    pub fn new(schema: &str, name: &str) -> Self {
        Self { schema: schema.to_owned(), name: name.to_owned(), columns: Vec::new(), key: Vec::new() }
    }

    /// `shop.orders (id INT64, v WSTRING)` with the key `id`: what most cases need.
    #[must_use]
    pub fn orders() -> Self {
        Self::new("shop", "orders").column("id", "INT64").column("v", "WSTRING").key(&["id"])
    }

    /// With a column of one of DMS's types.
    #[must_use]
    pub fn column(mut self, name: &str, dms_type: &str) -> Self {
        self.columns.push((name.to_owned(), json!({"type": dms_type, "nullable": true})));
        self
    }

    /// With a NUMERIC column.
    #[must_use]
    pub fn numeric(mut self, name: &str, precision: u32, scale: u32) -> Self {
        let definition = json!({"type": "NUMERIC", "precision": precision, "scale": scale, "nullable": true});
        self.columns.push((name.to_owned(), definition));
        self
    }

    /// With a primary key.
    #[must_use]
    pub fn key(mut self, columns: &[&str]) -> Self {
        self.key = columns.iter().map(|&column| column.to_owned()).collect();
        self
    }

    /// `schema.table`.
    #[must_use]
    pub fn source_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The control record that describes the table.
    #[must_use]
    pub fn create(&self) -> Message {
        let columns: Vec<String> =
            self.columns.iter().map(|(name, definition)| format!("{}:{definition}", json!(name))).collect();
        let key = if self.key.is_empty() { String::new() } else { format!(",\"primary-key\":{}", json!(self.key)) };
        let definition = format!("{{\"table-def\":{{\"columns\":{{{}}}{key}}}}}", columns.join(","));
        Message { control: Some(definition), ..self.message("create-table", "") }
    }

    /// The same where the endpoint's IncludeControlDetails is off.
    #[must_use]
    pub fn create_without_details(&self) -> Message {
        Message { control: Some("{}".to_owned()), ..self.message("create-table", "") }
    }

    /// The control record of an alteration, such as `rename-column`, by which a table became this one.
    #[must_use]
    pub fn altered(&self, operation: &'static str, before: &Self) -> Message {
        let definition = |table: &Self| table.create().control.unwrap_or_default();
        let old = definition(before);
        let old = old.strip_prefix("{\"table-def\":").and_then(|old| old.strip_suffix('}')).unwrap_or_default();
        let new = definition(self);
        let new = new.strip_suffix('}').unwrap_or_default();
        Message { control: Some(format!("{new},\"old-table-def\":{old}}}")), ..self.message(operation, "") }
    }

    /// The same where the record does not say what the table was before.
    #[must_use]
    pub fn altered_unsaid(&self, operation: &'static str) -> Message {
        Message { operation, ..self.create() }
    }

    /// The control record at the start of a reload.
    #[must_use]
    pub fn drop_table(&self) -> Message {
        Message { control: Some("{}".to_owned()), ..self.message("drop-table", "") }
    }

    /// A row of a full load.
    #[must_use]
    pub fn load(&self, image: impl ToString) -> Message {
        self.message("load", image)
    }

    /// An insert.
    #[must_use]
    pub fn insert(&self, image: impl ToString) -> Message {
        self.message("insert", image)
    }

    /// An update that leaves the key alone.
    #[must_use]
    pub fn update(&self, image: impl ToString) -> Message {
        Message { before: Some("{}".to_owned()), ..self.message("update", image) }
    }

    /// An update of the key, with the old one in the before-image.
    #[must_use]
    pub fn key_change(&self, old_key: impl ToString, image: impl ToString) -> Message {
        Message { before: Some(old_key.to_string()), ..self.message("update", image) }
    }

    /// A delete, with the old row.
    #[must_use]
    pub fn delete(&self, image: impl ToString) -> Message {
        self.message("delete", image)
    }

    fn message(&self, operation: &'static str, image: impl ToString) -> Message {
        Message {
            operation,
            schema: self.schema.clone(),
            table: self.name.clone(),
            image: image.to_string(),
            before: None,
            control: None,
            position: None,
            file: BINLOG_FILE,
            committed_after_s: 0,
            sent_minutes_ago: 0,
            record: 1,
            is_of_postgresql: false,
            lsn_high: 1,
            value: None,
            partition: 0,
            topic: "cdc".to_owned(),
        }
    }
}

/// A message on its way to Kafka.
#[derive(Debug, Clone)]
pub struct Message {
    operation: &'static str,
    schema: String,
    table: String,
    image: String,
    before: Option<String>,
    control: Option<String>,
    position: Option<u32>,
    file: u64,
    committed_after_s: i64,
    sent_minutes_ago: i64,
    record: u64,
    is_of_postgresql: bool,
    lsn_high: u64,
    /// The record's bytes, if they are not a message's; inside, None is a tombstone.
    value: Option<Option<Vec<u8>>>,
    partition: i32,
    topic: String,
}

impl Message {
    /// A record whose value is whatever these bytes are.
    #[must_use]
    pub fn raw(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(Some(value.into())), ..Table::new("", "").message("", "") }
    }

    /// A record without a value.
    #[must_use]
    pub fn tombstone() -> Self {
        Self { value: Some(None), ..Table::new("", "").message("", "") }
    }

    /// At a position of the binlog.
    #[must_use]
    pub fn at(mut self, position: u32) -> Self {
        self.position = Some(position);
        self
    }

    /// In another binlog file.
    #[must_use]
    pub fn in_file(mut self, file: u64) -> Self {
        self.file = file;
        self
    }

    /// Committed so many seconds after everything else that the test process sends.
    #[must_use]
    pub fn committed_after_s(mut self, seconds: i64) -> Self {
        self.committed_after_s = seconds;
        self
    }

    /// Sent by DMS so many minutes before it is.
    #[must_use]
    pub fn sent_minutes_ago(mut self, minutes: i64) -> Self {
        self.sent_minutes_ago = minutes;
        self
    }

    /// Which record of its transaction it is; the first unless told otherwise.
    #[must_use]
    pub fn record(mut self, number: u64) -> Self {
        self.record = number;
        self
    }

    /// With a position of PostgreSQL's; MySQL's unless told otherwise.
    #[must_use]
    pub fn of_postgresql(mut self) -> Self {
        self.is_of_postgresql = true;
        self
    }

    /// At a position of PostgreSQL's log.
    ///
    /// # Panics
    /// Never: each half has 32 bits.
    #[must_use]
    pub fn at_lsn(mut self, lsn: u64) -> Self {
        self.is_of_postgresql = true;
        self.lsn_high = lsn >> 32;
        self.at(u32::try_from(lsn & u64::from(u32::MAX)).unwrap())
    }

    /// In a partition of the topic; 0 unless told otherwise.
    #[must_use]
    pub fn on_partition(mut self, partition: i32) -> Self {
        self.partition = partition;
        self
    }

    /// On a topic; `cdc` unless told otherwise.
    #[must_use]
    pub fn on_topic(mut self, topic: &str) -> Self {
        topic.clone_into(&mut self.topic);
        self
    }

    /// Whether the source's own order is in it, so that DMS would send it again with the same position.
    #[must_use]
    pub fn has_position(&self) -> bool {
        self.position.is_some()
    }

    pub(crate) fn operation(&self) -> &'static str {
        self.operation
    }

    /// What a control record carries.
    pub(crate) fn control(&self) -> &str {
        self.control.as_deref().unwrap_or_default()
    }

    pub(crate) fn set_schema(&mut self, schema: &str) {
        schema.clone_into(&mut self.schema);
    }

    pub(crate) fn partition(&self) -> i32 {
        self.partition
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// The record's value as DMS builds it now: another emission time at each call.
    #[must_use]
    pub fn to_value(&self) -> Option<Vec<u8>> {
        if let Some(value) = &self.value {
            return value.clone();
        }
        let mut metadata = json!({
            "timestamp": emission(self.sent_minutes_ago),
            "record-type": if self.control.is_some() { "control" } else { "data" },
            "operation": self.operation,
            "partition-key-type": if self.control.is_some() { "task-id" } else { "schema-table" },
            "schema-name": self.schema,
            "table-name": self.table,
        });
        if let Some(position) = self.position {
            let transaction = self.file << 32 | u64::from(position);
            let file = format!("mysql-bin-changelog.{:06}", self.file);
            let next = position.saturating_add(1);
            metadata["transaction-id"] = transaction.into();
            metadata["transaction-record-id"] = self.record.into();
            metadata["stream-position"] = format!("{file}:{position}:0:{next}:{transaction}:{file}:{position}").into();
            if self.is_of_postgresql {
                let lsn = format!("{:08X}/{position:08X}", self.lsn_high);
                // No order.
                metadata["transaction-id"] = (u64::from(u32::MAX) - u64::from(position)).into();
                metadata["stream-position"] = format!("{lsn}.{}.{lsn}", self.record).into();
            }
            metadata["commit-timestamp"] = commit_time(self.committed_after_s).into();
        }
        let content = match (&self.control, &self.before) {
            (Some(control), _) => format!("\"control\":{control}"),
            (None, Some(before)) => format!("\"data\":{},\"before-image\":{before}", self.image),
            (None, None) => format!("\"data\":{}", self.image),
        };
        Some(format!("{{{content},\"metadata\":{metadata}}}").into_bytes())
    }
}

/// Each message a microsecond after the one before of as many minutes ago.
fn emission(minutes_ago: i64) -> String {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let now = Timestamp::now().as_microsecond();
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last.saturating_add(1))));
    let this = now.max(last.unwrap().saturating_add(1)) - minutes_ago * 60_000_000;
    Timestamp::from_microsecond(this).unwrap().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// The same second for everything that a test process sends unless told otherwise: times that tie are what a history must not be
/// ordered by.
fn commit_time(after_s: i64) -> String {
    static SECOND: std::sync::LazyLock<Timestamp> = std::sync::LazyLock::new(Timestamp::now);
    let time = Timestamp::from_second(SECOND.as_second() + after_s).unwrap();
    time.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string()
}
