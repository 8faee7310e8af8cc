//! Definitions of source tables in control records: read as they stand there, in their order, and never a panic downstream of them.

use serde_json::Value;
use strait::merge::definition::SourceDefinition;
use strait::merge::types::ColumnType;
use strait::names;

use crate::independent_json::{Reading, has_duplicates, member_names, read};

pub const WORDS: &[&str] = &[
    "{\"table-def\":",
    "\"columns\":",
    "\"primary-key\":",
    "\"type\":",
    "\"precision\":",
    "\"scale\":",
    "\"nullable\":true",
    "NUMERIC",
    "INT64",
    "UINT64",
    "WSTRING",
    "TIMESTAMP",
    "\"old-table-def\":",
    "\"column-names\":",
    "null",
    "[]",
    "{}",
    "4294967295",
    "-1",
    "1e3",
];

pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(definition) = SourceDefinition::from_control(text) else {
        return;
    };
    for column in &definition.columns {
        let (Ok(column_type) | Err(column_type)) = ColumnType::from_source(column);
        let expression = column_type.value_of("`t`");
        assert!(expression.contains("`t`"), "{expression}");
        if let ColumnType::Numeric { whole, fraction } | ColumnType::BigNumeric { whole, fraction } = column_type {
            let fits = |precision: u32| {
                let scale = column.scale.unwrap_or(0);
                precision.saturating_sub(scale) <= whole && scale <= fraction
            };
            let is_decimal = column.dms_type.eq_ignore_ascii_case("numeric");
            assert!(!is_decimal || column.precision.is_none_or(fits), "{column:?} does not fit {column_type:?}");
        }
    }
    let sources = || definition.columns.iter().map(|column| column.name.as_str());
    assert_eq!(names::column_names(sources()).len(), definition.columns.len());

    let Reading::Value(value) = read(input) else {
        return;
    };
    // serde reads a struct from a list, too, by the places of its members.
    let table = value.get("table-def").filter(|table| table.is_object()).expect("a definition of an object alone");
    let columns = table["columns"].as_object().expect("columns of an object alone");
    assert!(columns.values().all(Value::is_object), "a column of an object alone");
    let unordered: Vec<&str> = {
        let mut names: Vec<&str> = sources().collect();
        names.sort_unstable();
        names
    };
    assert!(unordered.iter().copied().eq(columns.keys().map(String::as_str)), "{unordered:?}");
    for column in &definition.columns {
        let given = &columns[&column.name];
        assert_eq!(given["type"].as_str(), Some(column.dms_type.as_str()));
        // What is rounded to the left of the point has as many digits more before it, up to what the type counts.
        let scale = given["scale"].as_i64();
        let left_of_point = scale.filter(|scale| *scale < 0).map_or(0, i64::unsigned_abs);
        let precision =
            given["precision"].as_u64().map(|precision| precision.saturating_add(left_of_point).min(u32::MAX.into()));
        assert_eq!(precision, column.precision.map(u64::from));
        assert_eq!(scale.map(|scale| scale.max(0).unsigned_abs()), column.scale.map(u64::from));
    }
    let key = table.get("primary-key").and_then(Value::as_array);
    let key: Vec<&str> = key.into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(definition.primary_key, key);
    // The order is the text's; taken from the text only where its way there is plain.
    if let Some(at) = text.match_indices("\"columns\":").next().filter(|_| text.matches("\"columns\"").count() == 1) {
        let mut objects = serde_json::Deserializer::from_str(&text[at.0 + "\"columns\":".len()..])
            .into_iter::<&serde_json::value::RawValue>();
        if let Some(Ok(raw)) = objects.next()
            && let Some(in_text) = member_names(raw.get()).filter(|names| !has_duplicates(names))
        {
            assert!(sources().eq(in_text.iter().map(String::as_str)), "{in_text:?}");
        }
    }
}
