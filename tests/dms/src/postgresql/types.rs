//! PostgreSQL's column types: what DMS calls them, and how their values are read from the text that the server prints in a session of
//! UTC, ISO dates and hexadecimal bytes.
//! (<https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Source.PostgreSQL.html#CHAP_Source-PostgreSQL-DataTypes>; the names of control
//! records where messages showed others.)

use crate::TaskError;
use crate::settings::TaskSettings;
use crate::table::{ColumnType, Value};

/// How a column's values are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Decimal,
    Single,
    Double,
    Boolean,
    Bytes,
    Time,
    Text,
}

/// Reads what `format_type` says: `numeric(12,2)`, `timestamp with time zone`. What is not listed is text, as with DMS.
pub(crate) fn parse(text: &str, task: &TaskSettings) -> (ColumnType, Kind) {
    let (word, sizes) = text.split_once('(').unwrap_or((text, ""));
    let sizes: Vec<u32> = sizes.split([',', ')']).filter_map(|size| size.trim().parse().ok()).collect();
    if text.ends_with("[]") {
        return (ColumnType::plain("STRING"), Kind::Text);
    }
    match (word.trim(), sizes.as_slice()) {
        ("smallint", _) => (ColumnType::plain("INT16"), Kind::Integer),
        ("integer", _) => (ColumnType::plain("INT32"), Kind::Integer),
        ("bigint", _) => (ColumnType::plain("INT64"), Kind::Integer),
        ("numeric", [precision, scale]) => (ColumnType::numeric(*precision, *scale), Kind::Decimal),
        // As MapUnboundedNumericAsString has it; otherwise DMS cuts digits off.
        ("numeric", _) => (ColumnType::plain("STRING"), Kind::Text),
        ("real", _) => (ColumnType::plain("FLOAT"), Kind::Single),
        ("double precision", _) => (ColumnType::plain("DOUBLE"), Kind::Double),
        ("boolean", _) if task.map_boolean_as_boolean => (ColumnType::plain("BOOL"), Kind::Boolean),
        ("boolean", _) => (ColumnType::sized("STRING", 5), Kind::Text),
        ("bytea", _) => (ColumnType::plain("BLOB"), Kind::Bytes),
        ("date", _) => (ColumnType::plain("DATE32"), Kind::Text),
        ("time" | "time without time zone", _) => (ColumnType::plain("TIME"), Kind::Text),
        // Both, as published messages show.
        ("timestamp without time zone" | "timestamp with time zone" | "timestamp", _) => {
            (ColumnType::plain("TIMESTAMP"), Kind::Time)
        }
        _ => (ColumnType::plain("STRING"), Kind::Text),
    }
}

/// A value by its text.
pub(crate) fn of_text(kind: Kind, text: &str) -> Result<Value, TaskError> {
    let unknown = || TaskError::Unknown(format!("how PostgreSQL prints a value of {kind:?}"));
    Ok(match kind {
        Kind::Integer => Value::Integer(text.parse().map_err(|_| unknown())?),
        Kind::Decimal => Value::Decimal(text.to_owned()),
        Kind::Single => Value::Single(text.parse().map_err(|_| unknown())?),
        Kind::Double => Value::Double(text.parse().map_err(|_| unknown())?),
        Kind::Boolean => Value::Boolean(matches!(text, "t" | "true")),
        Kind::Bytes => Value::Bytes(text.strip_prefix("\\x").and_then(bytes).ok_or_else(unknown)?),
        Kind::Time => Value::Text(time(text).ok_or_else(unknown)?),
        Kind::Text => Value::Text(text.to_owned()),
    })
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect()).flatten()
}

/// `2024-02-29 12:00:00.5+00` → `2024-02-29T12:00:00.500000Z`
fn time(text: &str) -> Option<String> {
    let local = text.strip_suffix("+00").unwrap_or(text);
    let (day, time) = local.split_once(' ')?;
    Some(match time.split_once('.') {
        None => format!("{day}T{time}Z"),
        Some((whole, fraction)) => format!("{day}T{whole}.{fraction:0<6}Z"),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn types_are_called_as_dms_calls_them() {
        let task = TaskSettings { map_boolean_as_boolean: true, ..TaskSettings::default() };
        for (postgresql, dms) in [
            ("numeric(12,2)", ColumnType::numeric(12, 2)),
            ("numeric", ColumnType::plain("STRING")),
            ("timestamp with time zone", ColumnType::plain("TIMESTAMP")),
            ("character varying(20)", ColumnType::plain("STRING")),
            ("integer[]", ColumnType::plain("STRING")),
            ("boolean", ColumnType::plain("BOOL")),
        ] {
            assert_eq!(parse(postgresql, &task).0, dms, "{postgresql}");
        }
    }

    #[test]
    fn values_are_read_from_their_text() {
        for (kind, text, value) in [
            (Kind::Integer, "-42", Value::Integer(-42)),
            (Kind::Double, "-Infinity", Value::Double(f64::NEG_INFINITY)),
            (Kind::Boolean, "t", Value::Boolean(true)),
            (Kind::Bytes, "\\x800a", Value::Bytes(vec![0x80, 0x0a])),
            (Kind::Time, "2024-02-29 12:00:00.5+00", Value::Text("2024-02-29T12:00:00.500000Z".to_owned())),
            (Kind::Time, "2024-02-29 12:00:00", Value::Text("2024-02-29T12:00:00Z".to_owned())),
        ] {
            assert_eq!(of_text(kind, text).unwrap(), value);
        }
        assert!(of_text(Kind::Bytes, "\\x8").is_err());
    }
}
