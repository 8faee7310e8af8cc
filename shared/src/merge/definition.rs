//! A source table's definition, as a `create-table` control record carries it. It says what the source says, and
//! must never guess what is missing there.

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::debezium::encoding::Encoded;
use crate::json_text::FromObject;
use crate::log::DEFINE_TABLE;

use super::final_table::{EncodedSince, Encodings};
use super::source_history::SourceHistory;
use super::types::encoded::{ColumnEncoding, PlainForm};

/// A source table as DMS describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceDefinition {
    /// In the source's order.
    pub columns: Vec<SourceColumn>,
    /// The primary key's columns in key order; empty if the table has none or DMS sent none.
    pub primary_key: Vec<String>,
}

impl SourceDefinition {
    /// Whether it has a column of this name.
    pub fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name == name)
    }
}

/// One column of a source table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceColumn {
    /// The column's name in the source.
    pub name: String,
    /// DMS's name of the type, such as `INT32` or `WSTRING`.
    #[serde(rename = "type")]
    pub dms_type: String,
    /// Total digits of a NUMERIC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<u32>,
    /// Digits after the point of a NUMERIC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<u32>,
    /// How Debezium's connector writes its values in its default modes, where the definition tells it.
    #[serde(default, skip_serializing_if = "Encoded::is_plain")]
    pub encoded: Encoded,
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
    #[serde(default)]
    encoded: Encoded,
}

impl ColumnDef {
    fn named(self, name: String) -> SourceColumn {
        let left_of_point = self.scale.filter(|scale| *scale < 0).map_or(0, i32::unsigned_abs);
        SourceColumn {
            name,
            dms_type: self.dms_type,
            precision: self.precision.map(|precision| precision.saturating_add(left_of_point)),
            scale: self.scale.map(|scale| u32::try_from(scale).unwrap_or(0)),
            encoded: self.encoded,
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

/// Takes in how a member's values are written since a definition was sent, unless they were read alike before.
fn take_encoding(known: &mut Vec<EncodedSince>, sent_us: i64, encoding: Option<ColumnEncoding>) {
    let newest = known.last().map(|newest| newest.encoding);
    if newest.is_none_or(|newest| !is_read_alike(newest, encoding)) {
        known.push(EncodedSince { since_us: newest.is_some().then_some(sent_us), encoding });
    }
}

/// Whether values are read alike by both.
fn is_read_alike(one: Option<ColumnEncoding>, other: Option<ColumnEncoding>) -> bool {
    let is_counted = |encoding: &ColumnEncoding| matches!(encoding.encoded, Encoded::Decimal | Encoded::Bits);
    match (one, other) {
        (Some(one), Some(other)) if !is_counted(&one) => (one.encoded, one.form) == (other.encoded, other.form),
        (one, other) => one == other,
    }
}

/// Control records that are remembered of a table. A source that alters a table more often than that within the time in which a
/// column's former state matters is none that we know of.
const RECORDS_KEPT: usize = 64;

/// A control record that defines a source table or says how it was altered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRecord {
    /// When DMS sent it, in µs since the epoch of Unix.
    pub sent_us: i64,
    /// Topic, partition and offset: a record that is read again is the same one.
    pub kafka: (String, i64, i64),
    /// What it says was done.
    pub operation: String,
    /// The table since then; `None` where that is nobody's definition.
    pub(super) definition: Option<SourceDefinition>,
    /// The table before, where the record says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<SourceDefinition>,
    /// What Debezium read the definition from; `None` where DMS sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read_from: Option<ReadFrom>,
    /// Whether changes may leave out values that did not change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    has_partial_images: bool,
    /// Whether it says nothing of what was before it, though it does not say what was altered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_since_then: bool,
    /// Whether it says of its columns how their values are written where a change has no schema.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tells_encodings: bool,
    /// Whether one was known before it that DMS sent after it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) came_late: bool,
}

/// What Debezium read a definition from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReadFrom {
    /// A change's own schema, whose types are Kafka Connect's: what the connector's settings leave of the source's.
    Record,
    /// A statement, with the source's own types.
    Statement,
}

/// `control` of a record, with the definition from before the change.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Alteration {
    old_table_def: Option<FromObject<TableDef>>,
    debezium_read_from: Option<ReadFrom>,
    #[serde(default)]
    partial_images: bool,
    #[serde(default)]
    tells_encodings: bool,
    #[serde(default)]
    since_then: bool,
}

impl ControlRecord {
    /// Reads a record's operation and its `control` object.
    ///
    /// # Errors
    /// When it carries no definition that can be read.
    pub fn new(
        sent_us: i64,
        kafka: (String, i64, i64),
        operation: &str,
        control: &str,
    ) -> Result<Self, DefinitionError> {
        // Under which of its two names DMS sends a renamed table is not known, so the record's definition is nobody's.
        if operation == "rename-table" {
            return Ok(Self {
                sent_us,
                kafka,
                operation: operation.to_owned(),
                definition: None,
                before: None,
                read_from: None,
                has_partial_images: false,
                tells_encodings: false,
                is_since_then: false,
                came_late: false,
            });
        }
        let definition = SourceDefinition::from_control(control)?;
        let Alteration {
            old_table_def,
            debezium_read_from: read_from,
            partial_images: has_partial_images,
            tells_encodings,
            since_then: is_since_then,
        } = serde_json::from_str(control).unwrap_or_default();
        let before = old_table_def
            .map(|FromObject(before)| SourceDefinition { columns: before.columns.0, primary_key: before.primary_key });
        Ok(Self {
            sent_us,
            kafka,
            operation: operation.to_owned(),
            definition: Some(definition),
            before,
            read_from,
            has_partial_images,
            tells_encodings,
            is_since_then,
            came_late: false,
        })
    }
}

impl ControlRecord {
    /// Whether another record tells of the same change.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        (&self.operation, &self.definition, &self.before) == (&other.operation, &other.definition, &other.before)
    }
}

/// What is remembered of a table's control records, because the log lets them expire: a column of its ledger entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definitions {
    /// The log was read up to this `ingested_at`, in µs since the epoch of Unix.
    read_to_us: i64,
    /// In the order in which DMS sent them.
    records: Vec<ControlRecord>,
}

impl Definitions {
    /// Reads what a ledger entry says. What cannot be read is read from the log again.
    pub fn from_entry(definitions: Option<&str>) -> Option<Self> {
        definitions.and_then(|definitions| serde_json::from_str(definitions).ok())
    }

    /// As a ledger entry keeps it.
    pub fn to_entry(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// Up to which `ingested_at` the log was read, in µs since the epoch of Unix.
    pub fn read_to_us(&self) -> i64 {
        self.read_to_us
    }

    /// Takes in that the log was read up to this time.
    pub fn read_to(&mut self, us: i64) {
        self.read_to_us = self.read_to_us.max(us);
    }

    /// Takes in a record, whichever come before it. One that is known changes nothing.
    pub fn take(&mut self, mut record: ControlRecord) {
        if self.records.iter().any(|known| known.kafka == record.kafka) {
            return;
        }
        record.came_late = self.records.last().is_some_and(|newest| record.sent_us < newest.sent_us);
        self.records.push(record);
        self.records.sort_by(|a, b| (a.sent_us, &a.kafka).cmp(&(b.sent_us, &b.kafka)));
        while self.records.len() > RECORDS_KEPT {
            // A load sends the definition once more; else the oldest goes.
            let again = self.records.iter().zip(self.records.iter().skip(1)).position(|(before, record)| {
                matches!(record.operation.as_str(), "create-table" | DEFINE_TABLE)
                    && record.definition == before.definition
            });
            self.records.remove(again.map_or(0, |place| place.saturating_add(1)));
        }
    }

    /// The columns that are a BIGINT UNSIGNED by Debezium's statements. Its changes may hold them as signed numbers
    /// (`bigint.unsigned.handling.mode`), and then what is from 2⁶³ on is negative.
    pub fn unsigned_columns(&self) -> Vec<String> {
        self.of_newest_statement(|column| column.dms_type == "UINT64")
    }

    /// The columns that are a BIT of several bits by Debezium's statements, which alone of bytes have a precision: without a schema they come
    /// in base64, whatever is set.
    pub fn bit_columns(&self) -> Vec<String> {
        self.of_newest_statement(|column| column.dms_type == "BYTES" && column.precision.is_some())
    }

    /// The columns that are a TIME by Debezium's statements.
    pub fn time_columns(&self) -> Vec<String> {
        self.of_newest_statement(|column| column.dms_type == "TIME")
    }

    /// The columns that are decimals by Debezium's statements.
    pub fn decimal_columns(&self) -> Vec<String> {
        self.of_newest_statement(|column| column.dms_type == "NUMERIC")
    }

    fn of_newest_statement(&self, is_wanted: impl Fn(&SourceColumn) -> bool) -> Vec<String> {
        let newest = self.records.iter().rev().find(|record| record.read_from == Some(ReadFrom::Statement));
        let columns =
            newest.and_then(|record| record.definition.as_ref()).into_iter().flat_map(|definition| &definition.columns);
        columns.filter(|column| is_wanted(column)).map(|column| column.name.clone()).collect()
    }

    /// How the values of each member are written where a change has no schema, as Debezium's statements and the source's catalogue tell. What was
    /// before the first of them is told by it only if it made the table, or a person says so; and a table that got another's name is another.
    pub fn encodings(&self) -> Encodings {
        let mut encodings = Encodings::default();
        for record in &self.records {
            if record.operation == "rename-table" {
                encodings.0.values_mut().for_each(|known| take_encoding(known, record.sent_us, None));
            }
            // One of an older version tells nothing, nor does a record's own schema.
            let Some(definition) = record.definition.as_ref().filter(|_| record.tells_encodings) else { continue };
            let is_alteration =
                record.is_since_then || !matches!(record.operation.as_str(), "create-table" | DEFINE_TABLE);
            let is_first_an_alteration = is_alteration && encodings.0.is_empty();
            for column in &definition.columns {
                let known = encodings.0.entry(column.name.clone()).or_default();
                if is_first_an_alteration && known.is_empty() {
                    known.push(EncodedSince { since_us: None, encoding: None });
                }
                let encoding = ColumnEncoding {
                    encoded: column.encoded,
                    precision: column.precision,
                    scale: column.scale,
                    form: PlainForm::of(&column.dms_type),
                };
                take_encoding(known, record.sent_us, Some(encoding));
            }
        }
        encodings
    }

    /// Whether changes of the table may leave out values that did not change.
    pub fn have_partial_images(&self) -> bool {
        self.records.iter().any(|record| record.has_partial_images)
    }

    /// What they come to; `None` if there are none. Where Debezium's statements are known, its records' own schemas say nothing more, and
    /// their types are what the connector's settings made of the source's.
    pub fn history(&self) -> Option<SourceHistory> {
        let has_statements = self.records.iter().any(|record| record.read_from == Some(ReadFrom::Statement));
        let told = self.records.iter().filter(|record| !has_statements || record.read_from != Some(ReadFrom::Record));
        (!self.records.is_empty()).then(|| SourceHistory::of(&told.collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use super::*;

    /// A definition with the key `id` and these columns, as Debezium reads it from one or the other.
    fn captured(read_from: &str, columns: &[&str]) -> String {
        let columns: Vec<String> = ["id"]
            .iter()
            .chain(columns)
            .map(|name| format!(r#""{name}":{{"type":"INT32","nullable":true}}"#))
            .collect();
        format!(
            r#"{{"table-def":{{"columns":{{{}}},"primary-key":["id"]}},"debezium-read-from":"{read_from}"}}"#,
            columns.join(",")
        )
    }

    fn captured_history(records: &[(&str, String)]) -> SourceHistory {
        let mut definitions = Definitions::default();
        for (place, (operation, control)) in (0i64..).zip(records) {
            definitions.take(ControlRecord::new(place, ("t".into(), 0, place), operation, control).unwrap());
        }
        // As the ledger keeps them.
        Definitions::from_entry(definitions.to_entry().as_deref()).unwrap().history().unwrap()
    }

    #[test]
    fn a_statements_definition_holds_over_what_records_say_of_themselves() {
        let history = captured_history(&[
            ("create-table", captured("statement", &["a"])),
            ("create-table", captured("record", &["other"])),
            (DEFINE_TABLE, captured("record", &["a", "b"])),
        ]);
        assert!(history.newest().unwrap().has("a") && !history.newest().unwrap().has("b"));
        let history = captured_history(&[
            (DEFINE_TABLE, captured("record", &["a"])),
            (DEFINE_TABLE, captured("record", &["a", "b"])),
        ]);
        assert!(history.newest().unwrap().has("b") && history.unknown_rename().is_none());
        assert_eq!(history.newest().unwrap().primary_key, ["id"]);
    }

    #[test]
    fn between_two_records_a_rename_cannot_be_told_from_another_column() {
        let history =
            captured_history(&[(DEFINE_TABLE, captured("record", &["a"])), (DEFINE_TABLE, captured("record", &["b"]))]);
        assert!(history.unexplained().len() == 1 && history.newest().unwrap().has("b"));
        assert!(history.renames().is_empty());
        // One that went alone, or came alone, is clear.
        for columns in [["a"].as_slice(), &["a", "b", "c"]] {
            let history = captured_history(&[
                (DEFINE_TABLE, captured("record", &["a", "b"])),
                (DEFINE_TABLE, captured("record", columns)),
            ]);
            assert!(history.unexplained().is_empty());
        }
    }

    #[test]
    fn a_statement_says_which_numbers_are_unsigned() {
        let control = captured("statement", &["a"]).replacen("INT32", "UINT64", 1);
        let of = |control: &str| {
            let mut definitions = Definitions::default();
            definitions.take(ControlRecord::new(1, ("t".into(), 0, 1), "create-table", control).unwrap());
            definitions.unsigned_columns()
        };
        assert_eq!(of(&control), ["id"]);
        assert!(of(&control.replace("statement", "record")).is_empty(), "there the wrapped numbers are put right");
    }

    #[test]
    fn whether_images_may_be_partial_is_remembered() {
        let control = captured("record", &["a"])
            .replace("\"debezium-read-from\"", "\"partial-images\":true,\"debezium-read-from\"");
        let mut definitions = Definitions::default();
        assert!(!definitions.have_partial_images());
        definitions.take(ControlRecord::new(1, ("t".into(), 0, 1), DEFINE_TABLE, &control).unwrap());
        assert!(Definitions::from_entry(definitions.to_entry().as_deref()).unwrap().have_partial_images());
    }

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

    fn history_of(records: &[(&str, &str)]) -> SourceHistory {
        let mut definitions = Definitions::default();
        for (offset, (operation, control)) in (0i64..).zip(records) {
            definitions.take(ControlRecord::new(offset * 10, ("t".into(), 0, offset), operation, control).unwrap());
        }
        let read_back = Definitions::from_entry(definitions.to_entry().as_deref());
        assert_eq!(read_back.as_ref(), Some(&definitions));
        definitions.history().unwrap()
    }

    fn control(columns: &str) -> String {
        format!(r#"{{"table-def":{{"columns":{{"id":{{"type":"INT64"}},{columns}}}}}}}"#)
    }

    #[test]
    fn a_history_knows_what_columns_were_called_before() {
        let before = control(r#""a":{"type":"INT8"},"b":{"type":"INT8"}"#);
        let after = control(r#""a":{"type":"INT8"},"c":{"type":"INT8"}"#);
        // Sent again: nothing came, nothing went.
        let mut records = vec![
            ("create-table", before.as_str()),
            ("rename-column", after.as_str()),
            ("rename-column", after.as_str()),
        ];
        let history = history_of(&records);
        assert_eq!(history.renames(), [("b".to_owned(), "c".to_owned())]);
        assert!(history.had("b") && !history.had("c") && history.newest().unwrap().columns.len() == 3);
        assert!(ControlRecord::new(0, ("t".into(), 0, 0), "rename-column", "{}").is_err());
        let with_key = r#"{"table-def":{"columns":{"id":{"type":"INT64"}},"primary-key":["id"]}}"#;
        records.push(("create-table", with_key));
        records.push(("rename-column", r#"{"table-def":{"columns":{"key":{"type":"INT64"}}}}"#));
        assert_eq!(history_of(&records).newest().unwrap().primary_key, ["key"], "left out, not gone");
        records.push(("rename-table", "{}"));
        assert!(history_of(&records).is_renamed_away());
    }

    #[test]
    fn what_is_remembered_is_the_same_in_whatever_order_and_however_often_it_is_read() {
        let with = control(r#""x":{"type":"INT8"}"#);
        let without = control(r#""y":{"type":"INT8"}"#);
        let record = |offset: i64, operation: &str, control: &str| {
            ControlRecord::new(offset * 10, ("t".into(), 0, offset), operation, control).unwrap()
        };
        let records =
            [record(0, "create-table", &with), record(1, "drop-column", &without), record(2, "add-column", &with)];
        let mut in_order = Definitions::default();
        records.iter().for_each(|record| in_order.take(record.clone()));
        let mut otherwise = Definitions::default();
        for place in [2, 0, 2, 1, 0, 1] {
            otherwise.take(records[place].clone());
        }
        let late = |definitions: &Definitions| definitions.history().unwrap().came_late().collect::<Vec<_>>();
        assert_eq!((late(&in_order), late(&otherwise)), (vec![], vec![0, 10]));
        otherwise.records.iter_mut().for_each(|record| record.came_late = false);
        assert_eq!(otherwise, in_order);
        let since = |definitions: &Definitions, name: &str| {
            let history = definitions.history().unwrap();
            let (id, _) = history.columns().find(|(_, column)| column.name == name).unwrap();
            history.names(id).unwrap().now.since_us
        };
        assert_eq!((since(&in_order, "x"), since(&in_order, "id")), (Some(15), None));
        for offset in 3..200 {
            in_order.take(record(offset, "create-table", &with));
        }
        assert_eq!(in_order.records.len(), RECORDS_KEPT);
        assert_eq!(since(&in_order, "x"), Some(15), "loads push nothing out");
        assert_eq!(Definitions::default().history(), None);
    }

    #[test]
    fn a_rename_or_a_type_of_a_table_that_is_not_known_from_before_says_so() {
        let after = control(r#""b":{"type":"INT8"},"a":{"type":"INT8"}"#);
        let history = history_of(&[("rename-column", &after)]);
        assert!(history.unknown_rename().is_some() && !history.has_unknown_retype());
        assert!(history_of(&[("change-columns", &after)]).has_unknown_retype());
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
        let control = r#"{"table-def":{"columns":{"id":{"type":"INT64"}}},"old-table-def":[{"a":{"type":"INT8"}},[]]}"#;
        let history = history_of(&[("rename-column", control)]);
        assert!(!history.had("a") && history.renames().is_empty());
    }
}
