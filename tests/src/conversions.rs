//! Texts as the log holds them, and the exact value that a column has to get: the edges of every type. Written by hand, and
//! asked of Google's evaluator and of the embedded BigQuery alike.

use strait::merge::types::{ColumnType, Zone};

/// One text and what becomes of it.
#[derive(Debug, Clone, Copy)]
pub struct Conversion {
    /// The column's type.
    pub column_type: ColumnType,
    /// The text of a member.
    pub text: &'static str,
    /// The value as [`shown`] gives it; `None` is quarantine.
    pub value: Option<&'static str>,
    /// What the embedded BigQuery makes of it, where that is something else.
    pub embedded: Embedded,
}

/// What the embedded BigQuery makes of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embedded {
    /// What BigQuery makes of it.
    Same,
    /// Another value, or none. Listed in `docs/embedded-bigquery.md`.
    Differs(Option<&'static str>),
    /// It cannot be asked: its SQL has no literal of such a text.
    NotAsked,
}

/// The expression by which a value is compared: a STRING.
#[must_use]
pub fn shown(column_type: ColumnType, value: &str) -> String {
    match column_type.name() {
        "BYTES" => format!("TO_HEX({value})"),
        "TIMESTAMP" => format!("CAST(DATETIME({value}) AS STRING)"),
        "JSON" => format!("IF({value} IS NULL, NULL, TO_JSON_STRING({value}))"),
        _ => format!("CAST({value} AS STRING)"),
    }
}

/// Whether a value is the expected one. Zeros at the end of a fraction are a matter of rendering.
#[must_use]
pub fn alike(value: Option<&str>, expected: Option<&str>) -> bool {
    let plain = |text: &str| {
        let text = text.replace('T', " ");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    };
    value.map(plain) == expected.map(plain)
}

/// A zone, from its name.
///
/// # Panics
/// When it has no zone's form.
#[must_use]
pub fn zone(name: &str) -> Zone {
    Zone::stated_in(&format!("strait_zone={name}")).unwrap().unwrap()
}

/// A text and its value.
type Edge = (&'static str, Option<&'static str>);

/// The edges of every type.
#[must_use]
pub fn conversions() -> Vec<Conversion> {
    use ColumnType::{
        BigNumeric, BytesUpTo, Date, DateTime, Float64, Int64, Json, Numeric, StringUpTo, Time, Timestamp,
    };
    let money = Numeric { whole: 10, fraction: 2 };
    let unsigned = Numeric { whole: 20, fraction: 0 };
    let fraction = Numeric { whole: 0, fraction: 2 };
    let wide = ColumnType::BIGNUMERIC;
    let berlin = ColumnType::TimestampIn(zone("Europe/Berlin"));
    let lord_howe = ColumnType::TimestampIn(zone("Australia/Lord_Howe"));
    let same: &[(ColumnType, &[Edge])] = &[
        (ColumnType::String, &[("", Some("")), ("0x", Some("0x"))]),
        (
            StringUpTo(3),
            &[("abc", Some("abc")), ("abcd", None), ("é이😀", Some("é이😀")), ("é이😀.", None), ("", Some(""))],
        ),
        (
            Int64,
            &[
                ("0", Some("0")),
                ("-0", Some("0")),
                ("-9223372036854775808", Some("-9223372036854775808")),
                ("9223372036854775807", Some("9223372036854775807")),
                ("9223372036854775808", None),
                ("55.000", Some("55")),
                ("12345678901234567.00", Some("12345678901234567")),
                ("1.5", None),
                ("1E2", Some("100")),
                ("1.5e1", Some("15")),
                ("1.5e0", None),
                ("9.99999999999999e+14", Some("999999999999999")),
                // Of sixteen digits the notation keeps fifteen.
                ("1.23456789012346e+15", None),
                ("9.007199254740992e15", None),
                ("1e+15", None),
                ("9.22337203685478e+18", None),
                ("", None),
                ("true", Some("1")),
                ("f", Some("0")),
                ("0x05", None),
                (" 1", None),
            ],
        ),
        (
            money,
            &[
                ("46.570000", Some("46.57")),
                ("-12.30", Some("-12.3")),
                ("0012", Some("12")),
                ("46.571", None),
                ("9999999999.99", Some("9999999999.99")),
                ("12345678901", None),
                ("1.2E1", Some("12")),
                ("9.9E9", Some("9900000000")),
                ("1.2E10", None),
                ("1.2345E1", None),
                ("NaN", None),
                ("true", None),
            ],
        ),
        (
            fraction,
            &[("0.25", Some("0.25")), ("-.25", Some("-0.25")), ("1", None), ("1e0", None), ("1e-1", Some("0.1"))],
        ),
        (
            unsigned,
            &[
                ("18446744073709551615", Some("18446744073709551615")),
                ("0", Some("0")),
                ("1.8446744073709552E19", None),
                ("0.5", None),
            ],
        ),
        (
            ColumnType::NUMERIC,
            &[
                ("", None),
                ("-", None),
                ("1E-45", None),
                ("1.5E-3", Some("0.0015")),
                ("0E0", Some("0")),
                ("99999999999999999999999999999.999999999", Some("99999999999999999999999999999.999999999")),
                ("-99999999999999999999999999999.999999999", Some("-99999999999999999999999999999.999999999")),
                ("1.2345678901", None),
                ("1.2345678900", Some("1.23456789")),
                ("123456789012345678901234567890", None),
            ],
        ),
        (
            BigNumeric { whole: 20, fraction: 18 },
            &[
                ("99999999999999999999.999999999999999999", Some("99999999999999999999.999999999999999999")),
                ("-0.000000000000000001", Some("-0.000000000000000001")),
                ("0.0000000000000000001", None),
                ("123456789012345678901", None),
            ],
        ),
        (wide, &[("1E-45", None), ("1.25E-10", Some("0.000000000125")), ("Infinity", None)]),
        (
            Float64,
            &[
                ("2.20000005", Some("2.20000005")),
                ("55", Some("55")),
                ("NaN", Some("nan")),
                ("9007199254740993", None),
                ("9007199254740992", Some("9007199254740992")),
                ("-1.5e-7", Some("-1.5e-07")),
                ("1.7976931348623157e+308", Some("1.7976931348623157e+308")),
                ("1e400", None),
                ("0.1234567890123456789", None),
                ("46.570000000000000000000", Some("46.57")),
                ("0.000000000000000000000000012", Some("1.2e-26")),
                ("123456789012345678901234567890123456789012", None),
                ("0x1F", None),
                ("-Infinity", Some("-inf")),
                ("x", None),
                ("", None),
            ],
        ),
        (
            ColumnType::Bool,
            &[
                ("t", Some("true")),
                ("f", Some("false")),
                ("true", Some("true")),
                ("False", Some("false")),
                ("TRUE", Some("true")),
                ("T", Some("true")),
                ("0x00", Some("false")),
                ("1", Some("true")),
                ("0", Some("false")),
                ("0x01", Some("true")),
                ("00", Some("false")),
                ("2", None),
                ("", None),
            ],
        ),
        (
            ColumnType::Bytes,
            &[
                ("0x80057D942E", Some("80057d942e")),
                ("80057d942e", Some("80057d942e")),
                ("0x", Some("")),
                ("", Some("")),
                ("0x8", None),
                ("xyz", None),
            ],
        ),
        (
            BytesUpTo(2),
            &[("0xffff", Some("ffff")), ("ffff", Some("ffff")), ("0xffffff", None), ("ffffff", None), ("0x", Some(""))],
        ),
        (
            Date,
            &[
                ("2024-02-29", Some("2024-02-29")),
                ("0001-01-01", Some("0001-01-01")),
                ("9999-12-31", Some("9999-12-31")),
                ("2023-02-29", None),
                ("0000-00-00", None),
                ("0000-01-01", None),
                ("2024-00-00", None),
                ("0044-03-15 BC", None),
                ("10000-01-01", None),
                ("infinity", None),
                ("2024-02-29T00:00:00.000000Z", Some("2024-02-29")),
                ("2024-02-29T00:00:00.000001Z", None),
                ("2024-02-29T01:00:00Z", None),
            ],
        ),
        (
            DateTime,
            &[
                ("2010-11-01T00:02:00.100000Z", Some("2010-11-01 00:02:00.100000")),
                ("2010-11-01T00:02:00Z", Some("2010-11-01 00:02:00")),
                ("2010-11-01 00:02:00", Some("2010-11-01 00:02:00")),
                ("2010-11-01", Some("2010-11-01 00:00:00")),
                ("0001-01-01T00:00:00Z", Some("0001-01-01 00:00:00")),
                ("9999-12-31T23:59:59.999999Z", Some("9999-12-31 23:59:59.999999")),
                ("1500-03-10T00:00:00.123456000Z", Some("1500-03-10 00:00:00.123456")),
                ("2010-11-01T00:02:00.1234567Z", None),
                // The other counts of digits that DMS may print.
                ("2024-02-29T23:59:58.1Z", Some("2024-02-29 23:59:58.100000")),
                ("2024-02-29T23:59:58.12Z", Some("2024-02-29 23:59:58.120000")),
                ("2024-02-29T23:59:58.123Z", Some("2024-02-29 23:59:58.123000")),
                ("2024-02-29T23:59:58.1234Z", Some("2024-02-29 23:59:58.123400")),
                ("2024-02-29T23:59:58.12345Z", Some("2024-02-29 23:59:58.123450")),
                ("2024-02-29T23:59:58.1234567Z", None),
                ("2024-02-29T23:59:58.1234560Z", Some("2024-02-29 23:59:58.123456")),
                ("2024-02-29T23:59:58.12345678Z", None),
                ("2024-02-29T23:59:58.12345600Z", Some("2024-02-29 23:59:58.123456")),
                ("2024-02-29T23:59:60Z", None),
                ("2024-02-29T24:00:00Z", None),
                ("0000-00-00T00:00:00Z", None),
                ("0000-01-01T00:00:00Z", None),
                ("2010-11-01T00:02:00+01:00", None),
            ],
        ),
        (
            Timestamp,
            &[
                ("1754-08-30T22:43:41.129Z", Some("1754-08-30 22:43:41.129000")),
                ("2024-02-29 01:00:00+01:00", Some("2024-02-29 00:00:00")),
                ("2024-02-29 01:00:00-03", Some("2024-02-29 04:00:00")),
                ("2024-02-29T01:00:00.123456789Z", None),
                ("2024-02-29T23:59:58.1Z", Some("2024-02-29 23:59:58.100000")),
                ("2024-02-29T23:59:58.12Z", Some("2024-02-29 23:59:58.120000")),
                ("2024-02-29T23:59:58.123Z", Some("2024-02-29 23:59:58.123000")),
                ("2024-02-29T23:59:58.1234Z", Some("2024-02-29 23:59:58.123400")),
                ("2024-02-29T23:59:58.12345Z", Some("2024-02-29 23:59:58.123450")),
                ("2024-02-29T23:59:58.1234567Z", None),
                ("2024-02-29T23:59:58.1234560Z", Some("2024-02-29 23:59:58.123456")),
                ("2024-02-29T23:59:58.12345678Z", None),
                ("2024-02-29T23:59:58.12345600Z", Some("2024-02-29 23:59:58.123456")),
                ("2024-02-29T01:00:00.123456000Z", Some("2024-02-29 01:00:00.123456")),
                ("0001-01-01T00:00:00Z", Some("0001-01-01 00:00:00")),
                ("9999-12-31T23:59:59.999999Z", Some("9999-12-31 23:59:59.999999")),
                ("2024-02-29", None),
                ("infinity", None),
            ],
        ),
        (
            berlin,
            &[
                ("2024-07-01T12:00:00Z", Some("2024-07-01 10:00:00")),
                ("2024-01-01T12:00:00.123456Z", Some("2024-01-01 11:00:00.123456")),
                // The clocks went from 2 to 3, and from 3 back to 2.
                ("2024-03-31T02:30:00Z", None),
                ("2024-10-27T02:30:00Z", None),
                ("2024-10-27T03:00:00Z", Some("2024-10-27 02:00:00")),
                ("2024-10-27T01:59:59Z", Some("2024-10-26 23:59:59")),
                ("2024-10-27T03:00:00+01:00", None),
                ("x", None),
            ],
        ),
        // By half an hour.
        (lord_howe, &[("2024-04-07T01:45:00Z", None), ("2024-04-07T02:00:00Z", Some("2024-04-06 15:30:00"))]),
        (
            Time,
            &[
                ("23:59:59.999999", Some("23:59:59.999999")),
                ("00:00:00", Some("00:00:00")),
                ("12:00:00.1234567", None),
                ("12:00:00.1", Some("12:00:00.100000")),
                ("12:00:00.12", Some("12:00:00.120000")),
                ("12:00:00.123", Some("12:00:00.123000")),
                ("12:00:00.1234", Some("12:00:00.123400")),
                ("12:00:00.12345", Some("12:00:00.123450")),
                ("12:00:00.1234567", None),
                ("12:00:00.1234560", Some("12:00:00.123456")),
                ("12:00:00.12345678", None),
                ("12:00:00.12345600", Some("12:00:00.123456")),
                ("24:00:00", None),
                ("838:59:59", None),
                ("-01:00:00", None),
                ("23:59:59+02", None),
            ],
        ),
        (
            Json,
            &[
                (r#"{"a":1}"#, Some(r#"{"a":1}"#)),
                ("{}", Some("{}")),
                ("[]", Some("[]")),
                ("[null]", Some("[null]")),
                ("null", Some("null")),
                ("5", Some("5")),
                ("true", Some("true")),
                (r#"{"a":1.50}"#, Some(r#"{"a":1.5}"#)),
                (r#"{"a":18446744073709551615}"#, Some(r#"{"a":18446744073709551615}"#)),
                (r#"{"a":18446744073709551616}"#, None),
                (r#"{"a":12345678901234567890123}"#, None),
                ("t", None),
                (r#"{"a":"#, None),
                (r#"{"a":1} x"#, None),
                ("", None),
            ],
        ),
    ];
    let other: &[(ColumnType, &str, Option<&str>, Embedded)] = &[
        (
            wide,
            "12345678901234567890123456789012345678",
            Some("12345678901234567890123456789012345678"),
            Embedded::Differs(None),
        ),
        (
            wide,
            "0.00000000000000000000000000000000000001",
            Some("0.00000000000000000000000000000000000001"),
            Embedded::Differs(Some("0.000000000000000000")),
        ),
        (wide, "0.000000000000000000000000000000000000001", None, Embedded::Same),
        (Float64, "5e-324", Some("4.94065645841247e-324"), Embedded::Differs(Some("5e-324"))),
        (Float64, "12345678901234567890", None, Embedded::Same),
        (Timestamp, "0001-01-01T00:00:00+01:00", None, Embedded::Differs(Some("0001-12-31 (BC) 23:00:00"))),
        (Timestamp, "9999-12-31T23:59:59.999999-01:00", None, Embedded::Differs(Some("10000-01-01 00:59:59.999999"))),
        (berlin, "0001-01-01T00:00:00Z", None, Embedded::Same),
        (berlin, "9999-12-31T23:59:59Z", None, Embedded::Same),
        (Json, r#"{"a":1e300}"#, Some(r#"{"a":1e+300}"#), Embedded::Differs(Some(r#"{"a":1e300}"#))),
        (Json, r#"{"a":1e400}"#, None, Embedded::Differs(Some(r#"{"a":1e400}"#))),
        (Json, r#"{"a":0.1234567890123456789}"#, None, Embedded::Differs(Some(r#"{"a":0.12345678901234568}"#))),
        (Json, r#"{"a":NaN}"#, None, Embedded::Differs(Some(r#"{"a":NaN}"#))),
        (Json, r#"{"b":1,"a":2}"#, Some(r#"{"a":2,"b":1}"#), Embedded::Differs(Some(r#"{"b":1,"a":2}"#))),
        (Json, r#"{"a":1,"a":2}"#, Some(r#"{"a":1}"#), Embedded::Differs(Some(r#"{"a":1,"a":2}"#))),
        (Json, r#"{"a":"\ud83d\ude00"}"#, Some(r#"{"a":"😀"}"#), Embedded::NotAsked),
        (Json, r#"{"a":"\ud83d"}"#, None, Embedded::NotAsked),
    ];
    let same = same.iter().flat_map(|(column_type, texts)| {
        texts.iter().map(|(text, value)| Conversion {
            column_type: *column_type,
            text,
            value: *value,
            embedded: Embedded::Same,
        })
    });
    let other = other.iter().map(|(column_type, text, value, embedded)| Conversion {
        column_type: *column_type,
        text,
        value: *value,
        embedded: *embedded,
    });
    same.chain(other).collect()
}
