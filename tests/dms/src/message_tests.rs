//! Messages as they were published by others, made of the tables and changes that they tell of; and what each setting does to one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stderr, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::*;
use crate::settings::MessageFormat;
use crate::table::{Column, ColumnType};

fn column(name: &str, kind: ColumnType, nullable: bool) -> Column {
    Column { name: name.to_owned(), kind, nullable }
}

fn people() -> Table {
    Table {
        schema: "public".to_owned(),
        name: "foo".to_owned(),
        columns: vec![
            column("id", ColumnType::plain("INT32"), false),
            column("name", ColumnType::plain("STRING"), true),
            column("age", ColumnType::plain("INT32"), true),
            column("attributes", ColumnType::plain("STRING"), true),
        ],
        primary_key: vec!["id".to_owned()],
    }
}

fn person(id: i128, name: &str, age: i128, attributes: &str) -> Row {
    vec![Value::Integer(id), Value::Text(name.to_owned()), Value::Integer(age), Value::Text(attributes.to_owned())]
}

fn position() -> Position {
    Position {
        transaction: 1140,
        record: 1,
        previous: Some((1139, 1)),
        committed_at: "2024-07-29T00:58:44.886717Z".parse().unwrap(),
        stream: "00000002/7C007328.2.00000002/7C007328".to_owned(),
    }
}

fn change(operation: Operation, row: Row, before: Option<Row>) -> Change {
    let position = (operation != Operation::Load).then(position);
    Change { operation, row, before, position }
}

fn now() -> Timestamp {
    "2024-07-29T00:58:44.895275Z".parse().unwrap()
}

const SAFE: EndpointSettings = EndpointSettings {
    message_format: MessageFormat::JsonUnformatted,
    include_transaction_details: true,
    include_partition_value: true,
    partition_include_schema_table: true,
    include_table_alter_operations: true,
    include_control_details: true,
    include_null_and_empty: true,
    use_large_integer_value: true,
    no_hex_prefix: false,
};

fn with_key_before() -> TaskSettings {
    TaskSettings { before_image: BeforeImage::PrimaryKey, ..TaskSettings::default() }
}

fn parsed(message: &Message) -> Json {
    serde_json::from_str(&message.value).unwrap()
}

/// A published message; None, said loudly, where the samples are not at hand.
fn published(name: &str) -> Option<Json> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples/dms").join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(error) => {
            eprintln!("SKIPPED: no published message {name} to compare with ({error})");
            None
        }
    }
}

/// Without the times and numbers of the moment, the names and kinds of everything there is.
fn shape(value: &Json) -> BTreeMap<String, Json> {
    const OF_THE_MOMENT: [&str; 9] = [
        "timestamp",
        "transaction-id",
        "transaction-record-id",
        "prev-transaction-id",
        "prev-transaction-record-id",
        "commit-timestamp",
        "stream-position",
        "partition-key-value",
        "kinesis",
    ];
    let mut found = BTreeMap::new();
    for (name, value) in value.as_object().unwrap() {
        if value.is_object() {
            found.insert(format!("{name}{{}}"), json!(0));
            found.extend(shape(value).into_iter().map(|(below, value)| (format!("{name}/{below}"), value)));
        } else if OF_THE_MOMENT.contains(&name.as_str()) {
            found.insert(name.clone(), json!(if value.is_string() { "text" } else { "number" }));
        } else {
            found.insert(name.clone(), value.clone());
        }
    }
    found
}

#[test]
fn messages_are_those_that_others_published() {
    let endpoint = EndpointSettings { include_partition_value: false, ..SAFE };
    let task = with_key_before();
    let table = people();
    let old = person(42, "John", 30, r#"{"foo": "bar"}"#);
    let first = Position { previous: None, ..position() };
    let load = change(Operation::Load, old.clone(), None);
    let insert = change(Operation::Insert, person(46, "Jane", 31, r#"{"baz": "qux"}"#), None);
    let insert = Change { position: Some(first), ..insert };
    let update = change(Operation::Update, person(42, "John", 33, r#"{"foo": "bar"}"#), Some(old));
    let deleted = vec![Value::Integer(45), Value::Null, Value::Null, Value::Null];
    let delete = change(Operation::Delete, deleted, None);
    let with_value = EndpointSettings { include_partition_value: true, ..endpoint };
    let mut compared = 0;
    for (name, message) in [
        ("049-kinesis-pg-data_load.json", of_change(&table, &load, &with_value, &task, now())),
        ("050-kinesis-pg-data_insert.json", of_change(&table, &insert, &endpoint, &task, now())),
        ("051-kinesis-pg-data_update_value.json", of_change(&table, &update, &endpoint, &task, now())),
        ("053-kinesis-pg-data_delete.json", of_change(&table, &delete, &endpoint, &task, now())),
        ("047-kinesis-pg-control_drop_table.json", of_control(&Control::DropTable(&table), &SAFE, now()).unwrap()),
        ("048-kinesis-pg-control_create_table.json", of_control(&Control::CreateTable(&table), &SAFE, now()).unwrap()),
    ] {
        if let Some(published) = published(name) {
            assert_eq!(shape(&parsed(&message)), shape(&published), "{name}");
            compared += 1;
        }
    }
    assert!(compared == 0 || compared == 6, "some of the published messages are missing");
}

#[test]
fn the_default_layout_is_indented_with_tabs() {
    let endpoint = EndpointSettings::default();
    let table = people();
    let delete = Change {
        operation: Operation::Delete,
        row: vec![Value::Integer(3), Value::Null, Value::Null, Value::Null],
        before: None,
        position: Some(position()),
    };
    let message = of_change(&table, &delete, &endpoint, &TaskSettings::default(), now());
    let expected = "{\n\t\"data\":\t{\n\t\t\"id\":\t3\n\t},\n\t\"metadata\":\t{\n\t\t\"timestamp\":\t\"2024-07-29T00:58:44.895275Z\",\n\
        \t\t\"record-type\":\t\"data\",\n\t\t\"operation\":\t\"delete\",\n\t\t\"partition-key-type\":\t\"schema-table\",\n\
        \t\t\"schema-name\":\t\"public\",\n\t\t\"table-name\":\t\"foo\",\n\t\t\"transaction-id\":\t1140\n\t}\n}";
    assert_eq!(message.value, expected);
}

#[test]
fn each_setting_does_what_its_name_says() {
    let table = Table {
        schema: "s".to_owned(),
        name: "t".to_owned(),
        columns: ["id", "big", "text", "raw", "nothing"]
            .map(|name| column(name, ColumnType::plain("STRING"), true))
            .to_vec(),
        primary_key: vec!["id".to_owned()],
    };
    let row = |id: i128| {
        let big = Value::Integer(9_223_372_036_854_775_807);
        vec![Value::Integer(id), big, Value::Text(String::new()), Value::Bytes(vec![0x80, 0x0a]), Value::Null]
    };
    let moved = change(Operation::Update, row(2), Some(row(1)));
    let told = |endpoint: &EndpointSettings, task: &TaskSettings| {
        let message = of_change(&table, &moved, endpoint, task, now());
        (parsed(&message), message.key)
    };
    let (safe, key) = told(&SAFE, &with_key_before());
    assert_eq!(safe["data"], json!({"id": 2, "big": i64::MAX, "text": "", "raw": "0x800A", "nothing": null}));
    assert_eq!(safe["before-image"], json!({"id": 1}));
    assert_eq!(safe["metadata"]["partition-key-value"], "s.t");
    assert_eq!(key, "s.t");

    let (default, _) = told(&EndpointSettings::default(), &TaskSettings::default());
    assert_eq!(default["data"], json!({"id": 2, "big": 9.223_372_036_854_78e18, "raw": "0x800A"}));
    let members: Vec<&String> = default["metadata"].as_object().unwrap().keys().collect();
    assert_eq!(
        members,
        ["operation", "partition-key-type", "record-type", "schema-name", "table-name", "timestamp", "transaction-id"]
    );
    assert_eq!(default.get("before-image"), None);

    let no_prefix = EndpointSettings { no_hex_prefix: true, ..SAFE };
    assert_eq!(told(&no_prefix, &with_key_before()).0["data"]["raw"], "800A");
    let all = TaskSettings { before_image: BeforeImage::All, ..TaskSettings::default() };
    assert_eq!(told(&SAFE, &all).0["before-image"]["raw"], "0x800A");
    let by_row = TaskSettings { change_key: ChangeKey::PrimaryKey, ..TaskSettings::default() };
    let (message, key) = told(&SAFE, &by_row);
    assert_eq!((message["metadata"]["partition-key-type"].as_str(), key.as_str()), (Some("primary-key"), "s.t.2"));
    let bare = EndpointSettings { partition_include_schema_table: false, ..SAFE };
    assert_eq!(told(&bare, &by_row).1, "2");
}

#[test]
fn an_update_that_leaves_the_key_alone_has_an_empty_before_image() {
    let update = change(Operation::Update, person(1, "b", 2, "{}"), Some(person(1, "a", 2, "{}")));
    let message = of_change(&people(), &update, &SAFE, &with_key_before(), now());
    assert_eq!(parsed(&message)["before-image"], json!({}));
}

#[test]
fn control_records_come_as_the_settings_want_them() {
    let old = people();
    let mut new = people();
    new.columns.push(column("vat", ColumnType::numeric(5, 2), false));
    let added = Control::Altered { operation: "add-column", columns: vec!["vat".to_owned()], old: &old, new: &new };
    let told = parsed(&of_control(&added, &SAFE, now()).unwrap());
    assert_eq!(told["control"]["column-names"], json!(["vat"]));
    assert_eq!(
        told["control"]["table-def"]["columns"]["vat"],
        json!({"type": "NUMERIC", "precision": 5, "scale": 2, "nullable": false})
    );
    assert_eq!(told["control"]["old-table-def"]["columns"].as_object().unwrap().len(), 4);
    assert_eq!(of_control(&added, &EndpointSettings::default(), now()), None);
    let plain = of_control(&Control::CreateTable(&old), &EndpointSettings::default(), now()).unwrap();
    assert_eq!(parsed(&plain).get("control"), None);
}

#[test]
fn strait_reads_every_form() {
    let table = people();
    let update = change(Operation::Update, person(2, "", 33, "{}"), Some(person(1, "", 33, "{}")));
    for endpoint in [SAFE, EndpointSettings::default()] {
        for task in [with_key_before(), TaskSettings::default()] {
            let message = of_change(&table, &update, &endpoint, &task, now());
            let decoded = strait::dms::decode_message(&message.value).unwrap();
            assert_eq!(decoded.metadata.transaction_id, Some(1140));
            assert_eq!(decoded.metadata.stream_position.is_some(), endpoint.include_transaction_details);
        }
    }
}
