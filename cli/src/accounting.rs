//! Says where every fed record has to be, and checks the log against it. It must never ask the ingest function what it did: what
//! is expected comes from the records, what is found from the log table.

use std::collections::{BTreeMap, BTreeSet};

use strait::config::TableFilter;
use strait::debezium::{self, Event, Operation, Snapshot};
use strait::dms::{self, Kind, Record};
use strait::log::{DEFINE_TABLE, TRUNCATE};

use crate::embedded_bigquery::QueryResult;
use crate::msk::{KafkaRecord, RecordIdentity};

/// What has to become of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// A change, logged under its operation: load, insert, update, delete.
    Change(&'static str),
    /// A control record, logged under its operation.
    Control(String),
    /// Logged as poison.
    Poison,
    /// A record of DMS's own tables: counted, not logged.
    DmsOwn,
    /// Of a table that STRAIT_TABLES leaves out: counted, not logged.
    Excluded,
    /// What Debezium sends beside changes, tombstones included: counted, not logged.
    DebeziumOwn,
}

impl Fate {
    /// The log's word for it; None for what is not logged.
    #[must_use]
    pub fn operation(&self) -> Option<&str> {
        match self {
            Self::Change(operation) => Some(operation),
            Self::Control(operation) => Some(operation),
            Self::Poison => Some(dms::POISON),
            Self::DmsOwn | Self::Excluded | Self::DebeziumOwn => None,
        }
    }
}

/// What has to become of each record. One that was delivered several times counts once; an identity that stands for different
/// records (two made-up events may share one) has several fates, each of them right.
pub type Expected = BTreeMap<RecordIdentity, BTreeSet<Fate>>;

/// Reads the records with the crate's own pure functions, one by one.
#[must_use]
pub fn expected_accounting<'r>(records: impl IntoIterator<Item = &'r KafkaRecord>, tables: &TableFilter) -> Expected {
    let mut expected = Expected::new();
    for record in records {
        expected.entry(record.identity()).or_default().extend(fates(record, tables));
    }
    expected
}

fn fates(record: &KafkaRecord, tables: &TableFilter) -> Vec<Fate> {
    let left_out = |schema: &str, table: &str| {
        if dms::is_dms_own(table) {
            Some(Fate::DmsOwn)
        } else if !table.is_empty() && !tables.matches(schema, table) {
            Some(Fate::Excluded)
        } else {
            None
        }
    };
    let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
    let is_debeziums = key.is_some_and(|key| debezium::key_payload(key).is_some());
    let Some(value) = record.value.as_deref() else {
        return vec![if is_debeziums { Fate::DebeziumOwn } else { Fate::Poison }];
    };
    let Ok(text) = std::str::from_utf8(value) else {
        return vec![Fate::Poison];
    };
    let of_table = |schema: &str, table: &str, fate: Fate| left_out(schema, table).unwrap_or(fate);
    let one = match dms::decode(text) {
        Ok(Record::Dms(message)) => {
            let fate = match message.kind {
                Kind::Change(change) => Fate::Change(change.operation.as_str()),
                Kind::Control(control) => Fate::Control(control.operation.into_owned()),
            };
            of_table(&message.metadata.schema, &message.metadata.table, fate)
        }
        Ok(Record::Debezium(Event::Change(change))) => {
            let operation = match (change.operation, change.source.snapshot) {
                (Operation::Read, Snapshot::Incremental) | (Operation::Create, _) => dms::Operation::Insert,
                (Operation::Read, _) => dms::Operation::Load,
                (Operation::Update, _) => dms::Operation::Update,
                (Operation::Delete, _) => dms::Operation::Delete,
            };
            of_table(&change.source.schema, &change.source.table, Fate::Change(operation.as_str()))
        }
        Ok(Record::Debezium(Event::Truncate(source))) => {
            of_table(&source.schema, &source.table, Fate::Control(TRUNCATE.to_owned()))
        }
        Ok(Record::Debezium(Event::Tables { tables: changed, .. })) if !changed.is_empty() => {
            let fates = changed.iter().map(|change| {
                of_table(&change.table.schema, &change.table.table, Fate::Control(change.operation.to_owned()))
            });
            return fates.collect();
        }
        Ok(Record::Debezium(Event::Tables { .. } | Event::Tombstone | Event::Own)) => Fate::DebeziumOwn,
        Err(error) => error.table.and_then(|table| left_out(&table.schema, &table.table)).unwrap_or(Fate::Poison),
    };
    vec![one]
}

/// Whether a row is the definition that a change of Debezium's brought with it.
fn is_beside_a_change(row: &LoggedRow, fates: &BTreeSet<Fate>) -> bool {
    let is_change = fates.iter().any(|fate| matches!(fate, Fate::Change(_)));
    is_change && matches!(row.operation.as_str(), DEFINE_TABLE | "create-table")
}

/// The statement whose rows [`account`] reads; `log_table` is `dataset.table`.
#[must_use]
pub fn log_statement(log_table: &str) -> String {
    format!(
        "SELECT `kafka_topic`, `kafka_partition`, `kafka_offset`, `operation`, MIN(`error`) AS `error`, COUNT(*) AS `copies`\n\
         FROM `{log_table}`\n\
         GROUP BY `kafka_topic`, `kafka_partition`, `kafka_offset`, `operation`"
    )
}

/// A poison record in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poison {
    /// Which.
    pub identity: RecordIdentity,
    /// The log's reason.
    pub reason: String,
}

/// Where the fed records are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounting {
    /// Different records fed.
    pub fed: usize,
    /// Logged changes, by operation.
    pub changes: BTreeMap<String, usize>,
    /// Logged control records, by operation.
    pub controls: BTreeMap<String, usize>,
    /// Logged as poison, with the log's reasons.
    pub poison: Vec<Poison>,
    /// DMS's own, rightly not in the log.
    pub dms_own: usize,
    /// What Debezium sends beside changes, rightly not in the log.
    pub debezium_own: usize,
    /// Excluded, rightly not in the log.
    pub excluded: usize,
    /// Rows in the log beyond the first of a record.
    pub copies: u64,
    /// Fed, to be logged, and not in the log.
    pub missing: Vec<RecordIdentity>,
    /// In the log under an operation that is not the record's: identity, what was expected, what is there.
    pub misnamed: Vec<(RecordIdentity, String, String)>,
    /// In the log without having been fed.
    pub strangers: Vec<RecordIdentity>,
    /// In the log although DMS's own or excluded.
    pub not_kept_out: Vec<RecordIdentity>,
}

impl Accounting {
    /// Whether every record is where it has to be, and nothing else is in the log.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let logged: usize = self.changes.values().chain(self.controls.values()).sum();
        let kept_out = self.dms_own.saturating_add(self.debezium_own).saturating_add(self.excluded);
        self.missing.is_empty()
            && self.misnamed.is_empty()
            && self.strangers.is_empty()
            && self.not_kept_out.is_empty()
            && self.fed == logged.saturating_add(kept_out).saturating_add(self.poison.len())
    }
}

/// Holds the log, as [`log_statement`] reads it, against what is expected of it.
#[must_use]
pub fn account(expected: &Expected, log: &QueryResult) -> Accounting {
    let mut accounting = Accounting { fed: expected.len(), ..Accounting::default() };
    let mut logged: BTreeMap<RecordIdentity, Vec<LoggedRow>> = BTreeMap::new();
    let is_own = |row: &LoggedRow| !expected.get(&row.identity).is_some_and(|fates| is_beside_a_change(row, fates));
    for row in log.rows.iter().filter_map(|row| LoggedRow::of(row)).filter(is_own) {
        accounting.copies = accounting.copies.saturating_add(row.rows);
        logged.entry(row.identity.clone()).or_default().push(row);
    }
    let records = u64::try_from(logged.len()).unwrap_or(u64::MAX);
    accounting.copies = accounting.copies.saturating_sub(records);

    for (identity, fates) in expected {
        let rows = logged.remove(identity).unwrap_or_default();
        let to_be_logged: Vec<&str> = fates.iter().filter_map(Fate::operation).collect();
        let Some(first) = rows.first() else {
            match fates.iter().find(|fate| fate.operation().is_none()) {
                Some(Fate::DmsOwn) => accounting.dms_own = accounting.dms_own.saturating_add(1),
                Some(Fate::DebeziumOwn) => accounting.debezium_own = accounting.debezium_own.saturating_add(1),
                Some(_) => accounting.excluded = accounting.excluded.saturating_add(1),
                None => accounting.missing.push(identity.clone()),
            }
            continue;
        };
        if to_be_logged.is_empty() {
            accounting.not_kept_out.push(identity.clone());
            continue;
        }
        let wrong = rows.iter().find(|row| !to_be_logged.contains(&row.operation.as_str()));
        if let Some(wrong) = wrong {
            accounting.misnamed.push((identity.clone(), to_be_logged.join(" or "), wrong.operation.clone()));
            continue;
        }
        match fates.iter().find(|fate| fate.operation() == Some(&first.operation)) {
            Some(Fate::Poison) => accounting.poison.push(Poison {
                identity: identity.clone(),
                reason: first.error.clone().unwrap_or_else(|| "no reason given".to_owned()),
            }),
            Some(Fate::Control(operation)) => add_one(&mut accounting.controls, operation),
            _ => add_one(&mut accounting.changes, &first.operation),
        }
    }
    accounting.strangers = logged.into_keys().collect();
    accounting
}

fn add_one(counts: &mut BTreeMap<String, usize>, name: &str) {
    let count = counts.entry(name.to_owned()).or_default();
    *count = count.saturating_add(1);
}

struct LoggedRow {
    identity: RecordIdentity,
    operation: String,
    error: Option<String>,
    rows: u64,
}

impl LoggedRow {
    fn of(row: &[Option<String>]) -> Option<Self> {
        let [topic, partition, offset, operation, error, rows] = row else {
            return None;
        };
        Some(Self {
            identity: RecordIdentity {
                topic: topic.clone()?,
                partition: partition.as_ref()?.parse().ok()?,
                offset: offset.as_ref()?.parse().ok()?,
            },
            operation: operation.clone()?,
            error: error.clone(),
            rows: rows.as_ref()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::msk::Topic;

    fn change(operation: &str, table: &str) -> String {
        format!(
            r#"{{"data":{{"id":1}},"metadata":{{"record-type":"data","operation":"{operation}","schema-name":"shop","table-name":"{table}"}}}}"#
        )
    }

    const CONTROL: &str =
        r#"{"metadata":{"record-type":"control","operation":"drop-table","schema-name":"shop","table-name":"orders"}}"#;

    fn feed(values: &[&str]) -> Vec<KafkaRecord> {
        let mut topic = Topic::new("dms", 1);
        values.iter().map(|value| topic.append(None, Some(value.as_bytes().to_vec()))).collect()
    }

    fn log(rows: &[(i64, &str, &str)]) -> QueryResult {
        let cell = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        QueryResult {
            columns: Vec::new(),
            rows: rows
                .iter()
                .map(|(offset, operation, error)| {
                    let offset = offset.to_string();
                    [cell("dms"), cell("0"), cell(&offset), cell(operation), cell(error), cell("1")].into()
                })
                .collect(),
        }
    }

    fn filter() -> TableFilter {
        TableFilter::parse("*,!shop.secret").unwrap()
    }

    #[test]
    fn every_kind_of_record_has_its_place() {
        let records = feed(&[
            &change("insert", "orders"),
            CONTROL,
            "not json",
            &change("insert", "awsdms_status"),
            &change("insert", "secret"),
        ]);
        // Delivered twice is still one.
        let expected = expected_accounting(records.iter().chain(&records), &filter());
        let outcome = account(&expected, &log(&[(0, "insert", ""), (1, "drop-table", ""), (2, "poison", "not JSON")]));
        assert!(outcome.is_complete(), "{outcome:?}");
        assert_eq!((outcome.fed, outcome.dms_own, outcome.excluded), (5, 1, 1));
        assert_eq!(outcome.poison.first().unwrap().reason, "not JSON");
    }

    #[test]
    fn a_record_that_is_missing_misnamed_or_strange_is_told() {
        let records = feed(&[&change("insert", "orders"), &change("update", "orders"), &change("load", "secret")]);
        let expected = expected_accounting(&records, &filter());
        let identity = |place: usize| records.get(place).unwrap().identity();
        let outcome = account(&expected, &log(&[(1, "poison", "x"), (2, "load", ""), (9, "insert", "")]));
        assert!(!outcome.is_complete());
        assert_eq!(outcome.missing, [identity(0)]);
        assert_eq!(outcome.misnamed, [(identity(1), "update".to_owned(), "poison".to_owned())]);
        assert_eq!(outcome.not_kept_out, [identity(2)]);
        assert_eq!(outcome.strangers.len(), 1);
    }

    #[test]
    fn a_tombstone_and_bytes_that_are_no_text_are_poison() {
        let mut topic = Topic::new("dms", 1);
        let records = [topic.append(None, None), topic.append(None, Some(vec![0xff]))];
        let expected = expected_accounting(&records, &filter());
        assert!(expected.values().all(|fates| fates.contains(&Fate::Poison)));
    }
}
