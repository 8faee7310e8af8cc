//! MySQL's column types: what DMS calls them, and how their values are read from the binlog and from a query's text.
//! (<https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Source.MySQL.html#CHAP_Source.MySQL.DataTypes>; the names of control records
//! where messages showed others.)

use jiff::Timestamp;
use mysql_async::Value as Raw;
use mysql_async::binlog::value::BinlogValue;

use crate::TaskError;
use crate::table::{ColumnType, Value};

/// How a column's values are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With its width, in bits, and whether it is unsigned: without `binlog_row_metadata` the log does not say.
    Integer(u32, bool),
    Decimal,
    Single,
    Double,
    Bit,
    Bits,
    Text,
    Enum(Vec<String>),
    Set(Vec<String>),
    /// With the length that BINARY fills up with zeros, which the binlog leaves out.
    Bytes(usize),
    Date,
    /// Wall clock; with digits of a fraction.
    DateTime,
    /// A moment.
    Moment,
    /// With digits of a fraction.
    Time(usize),
    Year,
}

/// Reads a `column_type` of information_schema, or of an ALTER TABLE: `decimal(12,2) unsigned`.
pub(crate) fn parse(text: &str) -> Result<(ColumnType, Kind), TaskError> {
    let unknown = || TaskError::Unknown(format!("the MySQL type {text}"));
    let lower = text.trim().to_ascii_lowercase();
    let word: String = lower.chars().take_while(char::is_ascii_alphabetic).collect();
    let inside = text.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map_or("", |(inside, _)| inside);
    let sizes: Vec<u32> = inside.split(',').filter_map(|size| size.trim().parse().ok()).collect();
    let first = sizes.first().copied();
    let is_unsigned = lower.contains("unsigned");
    let integer = |signed, unsigned, bits| {
        (ColumnType::plain(if is_unsigned { unsigned } else { signed }), Kind::Integer(bits, is_unsigned))
    };
    let labels = || labels(inside).ok_or_else(unknown);
    let digits = usize::try_from(first.unwrap_or(0)).unwrap_or(0);
    Ok(match word.as_str() {
        "tinyint" | "bool" | "boolean" => integer("INT8", "UINT8", 8),
        "smallint" => integer("INT16", "UINT16", 16),
        "mediumint" => integer("INT32", "UINT32", 24),
        "int" | "integer" => integer("INT32", "UINT32", 32),
        "bigint" => integer("INT64", "UINT64", 64),
        "year" => (ColumnType::plain("INT16"), Kind::Year),
        "decimal" | "numeric" => {
            let scale = sizes.get(1).copied().unwrap_or(0);
            (ColumnType::numeric(first.unwrap_or(10), scale), Kind::Decimal)
        }
        "float" => (ColumnType::plain("FLOAT"), Kind::Single),
        "double" | "real" => (ColumnType::plain("DOUBLE"), Kind::Double),
        "bit" if first.unwrap_or(1) == 1 => (ColumnType::plain("BOOL"), Kind::Bit),
        "bit" => (ColumnType::sized("BYTES", 8), Kind::Bits),
        "char" | "varchar" => (ColumnType::sized("WSTRING", first.unwrap_or(1)), Kind::Text),
        "tinytext" => (ColumnType::sized("WSTRING", 255), Kind::Text),
        "text" => (ColumnType::plain("TEXT"), Kind::Text),
        "mediumtext" | "longtext" => (ColumnType::plain("NCLOB"), Kind::Text),
        // MariaDB's JSON is a LONGTEXT.
        "json" => (ColumnType::plain("CLOB"), Kind::Text),
        "enum" => (ColumnType::plain("WSTRING"), Kind::Enum(labels()?)),
        "set" => (ColumnType::plain("STRING"), Kind::Set(labels()?)),
        "binary" => (ColumnType::sized("BYTES", first.unwrap_or(1)), Kind::Bytes(digits.max(1))),
        "varbinary" => (ColumnType::sized("BYTES", first.unwrap_or(1)), Kind::Bytes(0)),
        "tinyblob" | "blob" => (ColumnType::plain("BYTES"), Kind::Bytes(0)),
        "mediumblob" | "longblob" => (ColumnType::plain("BLOB"), Kind::Bytes(0)),
        "date" => (ColumnType::plain("DATE32"), Kind::Date),
        "datetime" => (ColumnType::plain("DATETIME"), Kind::DateTime),
        "timestamp" => (ColumnType::plain("TIMESTAMP"), Kind::Moment),
        "time" => (ColumnType::plain("STRING"), Kind::Time(digits)),
        _ => return Err(unknown()),
    })
}

/// `'a','it''s'`
fn labels(text: &str) -> Option<Vec<String>> {
    let mut labels = Vec::new();
    let mut rest = text.trim_start();
    loop {
        rest = rest.strip_prefix('\'')?;
        let mut label = String::new();
        loop {
            let end = rest.find('\'')?;
            let (part, after) = rest.split_at(end);
            label.push_str(part);
            rest = after.strip_prefix('\'')?;
            match rest.strip_prefix('\'') {
                Some(after) => {
                    label.push('\'');
                    rest = after;
                }
                None => break,
            }
        }
        labels.push(label);
        rest = rest.trim_start();
        if rest.is_empty() {
            return Some(labels);
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

/// A value of the binlog; None where it is missing from a partial image.
pub(crate) fn of_binlog(kind: &Kind, value: Option<&BinlogValue<'_>>) -> Result<Value, TaskError> {
    let raw = match value {
        None => return Ok(Value::Absent),
        Some(BinlogValue::Value(raw)) => raw,
        Some(_) => return Err(TaskError::Unknown("a binary JSON value".to_owned())),
    };
    let unknown = || TaskError::Unknown(format!("how the binlog holds a value of {kind:?}"));
    Ok(match (kind, raw) {
        (_, Raw::NULL) => Value::Null,
        (Kind::Integer(bits, is_unsigned), Raw::Int(number)) => {
            Value::Integer(of_width(i128::from(*number), *bits, *is_unsigned))
        }
        (Kind::Integer(bits, is_unsigned), Raw::UInt(number)) => {
            Value::Integer(of_width(i128::from(*number), *bits, *is_unsigned))
        }
        (Kind::Single, Raw::Float(number)) => Value::Single(*number),
        (Kind::Double, Raw::Double(number)) => Value::Double(*number),
        (Kind::Enum(labels), Raw::Int(number)) => Value::Text(enum_label(labels, *number).ok_or_else(unknown)?),
        (Kind::Set(labels), Raw::Bytes(bits)) => Value::Text(set_labels(labels, bits)),
        (Kind::Bytes(length), Raw::Bytes(bytes)) => {
            let mut bytes = bytes.clone();
            bytes.resize(bytes.len().max(*length), 0);
            Value::Bytes(bytes)
        }
        (Kind::Date, Raw::Date(year, month, day, ..)) => Value::Text(format!("{year:04}-{month:02}-{day:02}")),
        (Kind::DateTime, Raw::Date(year, month, day, hour, minute, second, micros)) => {
            let whole = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
            Value::Text(with_fraction(&whole, *micros))
        }
        (Kind::Moment, Raw::Int(seconds)) => Value::Text(moment(*seconds, 0).ok_or_else(unknown)?),
        (Kind::Moment, Raw::Bytes(text)) => {
            let text = utf8(text)?;
            let (seconds, micros) = text.split_once('.').unwrap_or((&text, "0"));
            let numbers = seconds.parse().ok().zip(micros.parse().ok());
            let stamp = numbers.and_then(|(seconds, micros)| moment(seconds, micros));
            Value::Text(stamp.ok_or_else(unknown)?)
        }
        (Kind::Time(digits), Raw::Time(is_negative, days, hours, minutes, seconds, micros)) => {
            let hours = days.saturating_mul(24).saturating_add(u32::from(*hours));
            let sign = if *is_negative { "-" } else { "" };
            let fraction: String = format!("{micros:06}").chars().take(*digits).collect();
            let point = if *digits == 0 { "" } else { "." };
            Value::Text(format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{point}{fraction}"))
        }
        // The rest is bytes, as in a query's text.
        (_, Raw::Bytes(_)) => of_text(kind, raw)?,
        _ => return Err(unknown()),
    })
}

/// A value of a query's text, of a session in UTC.
pub(crate) fn of_text(kind: &Kind, raw: &Raw) -> Result<Value, TaskError> {
    let bytes = match raw {
        Raw::NULL => return Ok(Value::Null),
        Raw::Bytes(bytes) => bytes,
        _ => return Err(TaskError::Unknown("a value of a query that is no text".to_owned())),
    };
    let unknown = || TaskError::Unknown(format!("how a query prints a value of {kind:?}"));
    Ok(match kind {
        Kind::Bytes(_) | Kind::Bits => Value::Bytes(bytes.clone()),
        Kind::Bit => Value::Boolean(bytes.iter().any(|byte| *byte != 0)),
        _ => {
            let text = utf8(bytes)?;
            match kind {
                Kind::Integer(..) | Kind::Year => Value::Integer(text.parse().map_err(|_| unknown())?),
                Kind::Single => Value::Single(text.parse().map_err(|_| unknown())?),
                Kind::Double => Value::Double(text.parse().map_err(|_| unknown())?),
                Kind::Decimal => Value::Decimal(text),
                Kind::DateTime | Kind::Moment => {
                    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
                    let micros = format!("{fraction:0<6}").parse().map_err(|_| unknown())?;
                    Value::Text(with_fraction(&whole.replacen(' ', "T", 1), micros))
                }
                _ => Value::Text(text),
            }
        }
    })
}

/// The same bits, with or without a sign.
fn of_width(number: i128, bits: u32, is_unsigned: bool) -> i128 {
    let range = 1_i128 << bits;
    let number = number.rem_euclid(range);
    if is_unsigned || number < range / 2 { number } else { number - range }
}

/// The place counts from 1; 0 is the empty text of a value that was not valid.
fn enum_label(labels: &[String], number: i64) -> Option<String> {
    match usize::try_from(number).ok()?.checked_sub(1) {
        None => Some(String::new()),
        Some(place) => labels.get(place).cloned(),
    }
}

fn set_labels(labels: &[String], bits: &[u8]) -> String {
    let is_set = |place: usize| bits.get(place / 8).is_some_and(|byte| byte >> (place % 8) & 1 == 1);
    let chosen: Vec<&str> =
        labels.iter().enumerate().filter(|(place, _)| is_set(*place)).map(|(_, label)| label.as_str()).collect();
    chosen.join(",")
}

fn moment(seconds: i64, micros: u32) -> Option<String> {
    let at = Timestamp::from_second(seconds).ok()?;
    Some(with_fraction(&at.strftime("%Y-%m-%dT%H:%M:%S").to_string(), micros))
}

fn with_fraction(whole: &str, micros: u32) -> String {
    if micros == 0 { format!("{whole}Z") } else { format!("{whole}.{micros:06}Z") }
}

fn utf8(bytes: &[u8]) -> Result<String, TaskError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| TaskError::Unknown("text that is not UTF-8".to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn text(kind: &Kind, value: Raw) -> Value {
        of_binlog(kind, Some(&BinlogValue::Value(value))).unwrap()
    }

    #[test]
    fn types_are_called_as_dms_calls_them() {
        for (mysql, dms) in [
            ("bigint(20) unsigned", ColumnType::plain("UINT64")),
            ("tinyint(1)", ColumnType::plain("INT8")),
            ("decimal(12,2)", ColumnType::numeric(12, 2)),
            ("DECIMAL(5)", ColumnType::numeric(5, 0)),
            ("varchar(40)", ColumnType::sized("WSTRING", 40)),
            ("enum('a,b','it''s')", ColumnType::plain("WSTRING")),
            ("bit(1)", ColumnType::plain("BOOL")),
            ("datetime(6)", ColumnType::plain("DATETIME")),
        ] {
            assert_eq!(parse(mysql).unwrap().0, dms, "{mysql}");
        }
        assert_eq!(parse("enum('a,b','it''s')").unwrap().1, Kind::Enum(vec!["a,b".to_owned(), "it's".to_owned()]));
        assert!(parse("geometry").is_err());
    }

    #[test]
    fn the_binlog_and_a_query_say_the_same() {
        let bytes = |text: &str| Raw::Bytes(text.as_bytes().to_vec());
        for (column, binlog, query) in [
            ("bigint unsigned", Raw::UInt(u64::MAX), "18446744073709551615"),
            // As the log's reader gives them where the log does not tell signs.
            ("bigint unsigned", Raw::Int(-1), "18446744073709551615"),
            ("mediumint(9)", Raw::Int(11_380_772), "-5396444"),
            ("tinyint(4)", Raw::Int(-128), "-128"),
            ("decimal(10,2)", bytes("-0.50"), "-0.50"),
            ("float", Raw::Float(2.5), "2.5"),
            ("year(4)", bytes("2024"), "2024"),
            ("enum('a','b')", Raw::Int(2), "b"),
            ("set('a','b','c')", Raw::Bytes(vec![5]), "a,c"),
            ("binary(4)", Raw::Bytes(vec![b'x', b'y']), "xy\0\0"),
            ("date", Raw::Date(2024, 2, 29, 0, 0, 0, 0), "2024-02-29"),
            ("datetime(3)", Raw::Date(1754, 8, 30, 22, 43, 41, 129_000), "1754-08-30 22:43:41.129"),
            ("datetime", Raw::Date(2024, 2, 29, 0, 0, 0, 0), "2024-02-29 00:00:00"),
            ("timestamp(6)", bytes("1709208000.000001"), "2024-02-29 12:00:00.000001"),
            ("timestamp", Raw::Int(1_709_208_000), "2024-02-29 12:00:00"),
            ("time(2)", Raw::Time(true, 34, 22, 59, 59, 120_000), "-838:59:59.12"),
            ("time", Raw::Time(false, 0, 1, 2, 3, 0), "01:02:03"),
        ] {
            let (_, kind) = parse(column).unwrap();
            assert_eq!(text(&kind, binlog), of_text(&kind, &bytes(query)).unwrap(), "{column}");
        }
    }

    #[test]
    fn times_have_six_digits_or_none() {
        let (_, kind) = parse("datetime(6)").unwrap();
        for (micros, expected) in [(0, "2024-02-29T01:02:03Z"), (500_000, "2024-02-29T01:02:03.500000Z")] {
            let value = text(&kind, Raw::Date(2024, 2, 29, 1, 2, 3, micros));
            assert_eq!(value, Value::Text(expected.to_owned()));
        }
    }
}
