//! The canonical text of a value: what a source's column and the final table's column print of it alike, so that both sides can be
//! compared, or summed up, where they are. [`SourceKind`] is what a source column's type is, [`Form`] which text its values take,
//! and [`Canonical`] the SQL that yields it at MySQL, PostgreSQL and BigQuery: next to [`super::map`], which says what is sent.
//! A pair of types without a common text has none, with the reason: nothing here may make one of two different values.
//!
//! | form | text | of |
//! |---|---|---|
//! | number | digits without a fraction of zeros: `46.57`, `-0.5`, `100` | whole numbers, decimals |
//! | double | mantissa of 53 bits and exponent of two: `4503599627370496p0` is 1; `0`, `NaN`, `Infinity`, `-Infinity` | floating point |
//! | single | the same, of the value rounded to 24 bits: DMS prints nine digits of a single-precision number | `real`, FLOAT |
//! | truth | `true`, `false` | booleans, BIT(1), numbers in a BOOL |
//! | text | as it is | text, and everything that DMS sends as text |
//! | JSON | as it is; what differs is compared by what it means | JSON in a STRING |
//! | hexadecimal | lower case, without `0x` | bytes |
//! | day | `2024-02-29` | dates |
//! | clock | `2024-02-29 23:59:58.5`: no fraction of zeros, moments as UTC's clocks show them | dates with a time |
//! | time | `23:59:59.5`, `-838:59:59`, `23:59:59.5+02`: no fraction of zeros | times of day |
//!
//! Doubles are not compared by their decimal digits: MySQL, PostgreSQL and BigQuery print 16-digit values differently, and each can
//! take mantissa and exponent apart exactly, for division by a power of two is exact.

use crate::names::string_literal;

use super::ColumnType;
use super::map::Engine;

/// What a source column's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// Whole numbers.
    Integer,
    /// Decimals.
    Decimal,
    /// Single-precision floating point.
    Single,
    /// Double-precision floating point.
    Double,
    /// PostgreSQL's boolean.
    Bool,
    /// MySQL's BIT of so many bits.
    Bits(u32),
    /// Text, and what the database prints as text.
    Text,
    /// PostgreSQL's types whose cast to text may not be what they print: `character` would lose its blanks, `inet` get a mask.
    Printed,
    /// JSON.
    Json,
    /// Bytes.
    Binary,
    /// Days.
    Date,
    /// Days and times without a zone.
    DateTime,
    /// Moments.
    Timestamp,
    /// Times of day, durations, with or without a zone.
    Time,
}

impl SourceKind {
    /// The kind of a column of this type, as MySQL's `COLUMN_TYPE` or PostgreSQL's `format_type` names it. What is not
    /// known is text: the database's own print of it is what DMS sends.
    #[must_use]
    pub fn of(engine: Engine, column_type: &str) -> Self {
        let full = column_type.trim().to_ascii_lowercase();
        let name = full.split(['(', ' ']).next().unwrap_or_default();
        match engine {
            Engine::MySql => match name {
                "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint" | "year" => Self::Integer,
                "decimal" | "numeric" => Self::Decimal,
                "float" => Self::Single,
                "double" | "real" => Self::Double,
                "bit" => {
                    let bits = full.strip_prefix("bit(").and_then(|rest| rest.strip_suffix(')'));
                    Self::Bits(bits.and_then(|bits| bits.parse().ok()).unwrap_or(1))
                }
                "json" => Self::Json,
                "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "geometry" | "point"
                | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
                | "geometrycollection" | "geomcollection" => Self::Binary,
                "date" => Self::Date,
                "datetime" => Self::DateTime,
                "timestamp" => Self::Timestamp,
                "time" => Self::Time,
                _ => Self::Text,
            },
            Engine::PostgreSql if full.ends_with(']') => Self::Printed,
            Engine::PostgreSql => match name {
                "smallint" | "integer" | "bigint" => Self::Integer,
                "numeric" | "money" => Self::Decimal,
                "real" => Self::Single,
                "double" => Self::Double,
                "boolean" => Self::Bool,
                "bytea" => Self::Binary,
                "json" | "jsonb" => Self::Json,
                "date" => Self::Date,
                "timestamp" if full.ends_with("with time zone") => Self::Timestamp,
                "timestamp" => Self::DateTime,
                "time" => Self::Time,
                "text" | "citext" | "uuid" => Self::Text,
                "character" if full.starts_with("character varying") => Self::Text,
                _ => Self::Printed,
            },
        }
    }
}

/// Whose SQL it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// MySQL and MariaDB.
    MySql,
    /// PostgreSQL.
    PostgreSql,
    /// GoogleSQL.
    BigQuery,
}

impl From<Engine> for Dialect {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::MySql => Self::MySql,
            Engine::PostgreSql => Self::PostgreSql,
        }
    }
}

/// Which text the values of a column take on both sides: see the module's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Digits.
    Number,
    /// Mantissa and exponent.
    Double,
    /// The same, of 24 bits.
    Single,
    /// `true` and `false`.
    Truth,
    /// As it is.
    Text,
    /// As it is; of two texts that differ the meaning decides.
    Json,
    /// Hexadecimal digits.
    Hexadecimal,
    /// A day.
    Day,
    /// A day and a time.
    Clock,
    /// A time.
    Time,
}

/// A source column beside the final table's column that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canonical {
    /// The source column's.
    pub kind: SourceKind,
    /// The final column's.
    pub column_type: ColumnType,
    /// What both print.
    pub form: Form,
}

impl Canonical {
    /// # Errors
    /// Why the two have no common text, for a person.
    pub fn of(kind: SourceKind, column_type: ColumnType) -> Result<Self, &'static str> {
        use ColumnType as C;
        use SourceKind as K;
        let is_decimal = matches!(column_type, C::Int64 | C::Numeric { .. } | C::BigNumeric { .. });
        let is_string = matches!(column_type, C::String | C::StringUpTo(_));
        let is_bytes = matches!(column_type, C::Bytes | C::BytesUpTo(_));
        let is_clock = matches!(column_type, C::DateTime | C::Timestamp | C::Date) || is_string;
        let form = match kind {
            _ if column_type == C::Json => {
                return Err("BigQuery's JSON keeps what a text means, and no two databases print that alike");
            }
            K::Single | K::Double if is_decimal => {
                return Err("of floating point in a column of decimals DMS sends only some digits");
            }
            K::Integer | K::Decimal if is_decimal || is_string => Form::Number,
            K::Integer | K::Decimal if column_type == C::Float64 => Form::Double,
            K::Integer if column_type == C::Bool => Form::Truth,
            K::Single if column_type == C::Float64 || is_string => Form::Single,
            K::Double if column_type == C::Float64 || is_string => Form::Double,
            K::Bool if column_type == C::Bool || column_type == C::Int64 || is_string => Form::Truth,
            K::Bits(1) if column_type == C::Bool || column_type == C::Int64 => Form::Truth,
            K::Bits(_) | K::Binary if is_bytes || is_string => Form::Hexadecimal,
            K::Text | K::Printed if is_string => Form::Text,
            K::Json if is_string => Form::Json,
            K::Date if column_type == C::DateTime => Form::Clock,
            K::Date if column_type == C::Date || is_string => Form::Day,
            K::DateTime if is_clock || matches!(column_type, C::TimestampIn(_)) => Form::Clock,
            K::Timestamp if is_clock => Form::Clock,
            K::Time if column_type == C::Time || is_string => Form::Time,
            _ => return Err("the two types have no common text"),
        };
        Ok(Self { kind, column_type, form })
    }

    /// The SQL of the canonical text of a column, `column` being its quoted name; NULL for NULL.
    #[must_use]
    pub fn text(&self, dialect: Dialect, column: &str) -> String {
        match dialect {
            Dialect::MySql => self.mysql(column),
            Dialect::PostgreSql => self.postgresql(column),
            Dialect::BigQuery => self.bigquery(column),
        }
    }

    /// The SQL of what goes into a checksum: the canonical text, or, where that may be long or hold anything, its MD5. It holds no
    /// comma, and is never `N`. NULL for NULL.
    #[must_use]
    pub fn cell(&self, dialect: Dialect, column: &str) -> String {
        match self.form {
            Form::Text | Form::Json => md5(dialect, &self.text(dialect, column)),
            // Of the bytes, not of twice as many digits.
            Form::Hexadecimal if !matches!(self.column_type, ColumnType::String | ColumnType::StringUpTo(_)) => {
                match dialect {
                    Dialect::MySql => format!("MD5({})", self.mysql_bytes(column)),
                    Dialect::PostgreSql => format!("md5({column})"),
                    Dialect::BigQuery => format!("TO_HEX(MD5({column}))"),
                }
            }
            Form::Hexadecimal => md5(dialect, &self.text(dialect, column)),
            _ => self.text(dialect, column),
        }
    }

    /// MySQL prints a BIT as bytes without the leading ones that are zero.
    fn mysql_bytes(&self, column: &str) -> String {
        match self.kind {
            SourceKind::Bits(bits) => {
                format!("UNHEX(LPAD(HEX({column}), {}, '0'))", bits.div_ceil(8).saturating_mul(2))
            }
            _ => column.to_owned(),
        }
    }

    fn mysql(&self, column: &str) -> String {
        let as_text = format!("CAST({column} AS CHAR)");
        // A ZEROFILL is only how a column is shown.
        let whole = format!("CAST({column} + 0 AS CHAR)");
        let trimmed = |text: &str| {
            format!("IF(LOCATE('.', {text}) > 0, TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM {text})), {text})")
        };
        match (self.form, self.kind) {
            (Form::Number, SourceKind::Integer) => whole,
            (Form::Number, _) => trimmed(&as_text),
            (Form::Double | Form::Single, _) => double(Engine::MySql, &format!("({column} + 0e0)"), &whole),
            (Form::Truth, _) => format!("CASE {column} + 0 WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE {whole} END"),
            (Form::Text | Form::Json, _) => format!("CONVERT({column} USING utf8mb4)"),
            (Form::Hexadecimal, _) => format!("LOWER(HEX({}))", self.mysql_bytes(column)),
            (Form::Clock, SourceKind::Date) => format!("CONCAT({as_text}, ' 00:00:00')"),
            (Form::Day, _) => as_text,
            (Form::Clock | Form::Time, _) => trimmed(&as_text),
        }
    }

    fn postgresql(&self, column: &str) -> String {
        let as_text = format!("{column}::text");
        match (self.form, self.kind) {
            (Form::Number, SourceKind::Decimal) => format!("trim_scale({column}::numeric)::text"),
            (Form::Number, _) => as_text,
            (Form::Double | Form::Single, _) => double(Engine::PostgreSql, &format!("{column}::float8"), &as_text),
            (Form::Truth, SourceKind::Bool) => as_text,
            (Form::Truth, _) => format!("CASE {column} WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE {as_text} END"),
            (Form::Text | Form::Json, SourceKind::Printed) => {
                // Of a composite value IS NULL and IS NOT NULL ask its fields.
                format!("CASE WHEN {column} IS DISTINCT FROM NULL THEN concat({column}) END")
            }
            (Form::Hexadecimal, _) => format!("encode({column}, 'hex')"),
            (Form::Clock, SourceKind::Date) => format!("{column}::timestamp::text"),
            (Form::Clock, SourceKind::Timestamp) => format!("({column} AT TIME ZONE 'UTC')::text"),
            (Form::Text | Form::Json | Form::Day | Form::Clock | Form::Time, _) => as_text,
        }
    }

    fn bigquery(&self, column: &str) -> String {
        use ColumnType as C;
        let is_string = matches!(self.column_type, C::String | C::StringUpTo(_));
        let as_text = format!("CAST({column} AS STRING)");
        let trimmed = |text: &str| format!("IF(STRPOS({text}, '.') > 0, RTRIM(RTRIM({text}, '0'), '.'), {text})");
        // What DMS prints of a time may have zeros at the end, a T between day and time, and a Z.
        let printed = |text: &str| {
            format!(r"REGEXP_REPLACE(REGEXP_REPLACE({text}, r'(\.[0-9]*[1-9])0+', r'\1'), r'\.0+($|[+-])', r'\1')")
        };
        match self.form {
            Form::Number if is_string => format!(
                r"IF(REGEXP_CONTAINS({column}, r'^-?[0-9]+\.[0-9]+$'), RTRIM(RTRIM({column}, '0'), '.'), {column})"
            ),
            Form::Number if self.column_type == C::Int64 => as_text,
            Form::Number => trimmed(&as_text),
            Form::Double | Form::Single => {
                let value = if is_string { format!("SAFE_CAST({column} AS FLOAT64)") } else { column.to_owned() };
                match self.form {
                    Form::Single => {
                        bigquery_double(&format!("(SELECT {} FROM (SELECT {value} AS `double`))", single("`double`")))
                    }
                    _ => bigquery_double(&value),
                }
            }
            Form::Truth => match self.column_type {
                C::Int64 => format!("CASE {column} WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE {as_text} END"),
                _ if is_string => format!(
                    "CASE WHEN LOWER({column}) IN ('t', 'true', '1') THEN 'true' \
                     WHEN LOWER({column}) IN ('f', 'false', '0') THEN 'false' ELSE {column} END"
                ),
                _ => as_text,
            },
            Form::Text | Form::Json => column.to_owned(),
            Form::Hexadecimal if is_string => format!("LOWER(REGEXP_REPLACE({column}, r'^0x', ''))"),
            Form::Hexadecimal => format!("TO_HEX({column})"),
            Form::Day if is_string => column.to_owned(),
            Form::Day => as_text,
            Form::Clock => match self.column_type {
                C::Date => format!("{as_text} || ' 00:00:00'"),
                C::TimestampIn(zone) => {
                    let shown = format!("DATETIME({column}, {})", string_literal(zone.name()));
                    trimmed(&format!("REPLACE(CAST({shown} AS STRING), 'T', ' ')"))
                }
                C::Timestamp => trimmed(&format!("REPLACE(CAST(DATETIME({column}) AS STRING), 'T', ' ')")),
                _ if is_string => printed(&format!("RTRIM(REPLACE({column}, 'T', ' '), 'Z')")),
                _ => trimmed(&format!("REPLACE({as_text}, 'T', ' ')")),
            },
            Form::Time if is_string => printed(column),
            Form::Time => trimmed(&as_text),
        }
    }

    /// The SQL of a text for a person, and for the log: as [`Self::text`], but for floating point the digits that the side prints.
    #[must_use]
    pub fn shown(&self, dialect: Dialect, column: &str) -> String {
        match (self.form, dialect) {
            (Form::Double | Form::Single, Dialect::MySql) => format!("CAST({column} + 0e0 AS CHAR)"),
            (Form::Double | Form::Single, Dialect::PostgreSql) => format!("{column}::float8::text"),
            (Form::Double | Form::Single, Dialect::BigQuery) => format!("CAST({column} AS STRING)"),
            _ => self.text(dialect, column),
        }
    }

    /// The SQL of a value in its column's own type, by which an index or a clustering finds it, from its canonical text, whatever that
    /// is: it may be the other side's. `None` where a row cannot be found by it. `source_type` is the source column's type.
    #[must_use]
    pub fn literal(&self, dialect: Dialect, source_type: &str, text: &str) -> Option<String> {
        use ColumnType as C;
        let number = || {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            let whole = whole.strip_prefix('-').unwrap_or(whole);
            let is_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
            (!whole.is_empty() && is_digits(whole) && is_digits(fraction)).then(|| text.to_owned())
        };
        let bytes = || {
            let is_hexadecimal = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_hexadecimal.then_some(text)
        };
        // NULL for what is none: nothing is equal to it.
        let cast = |text: &str, name: &str| Some(format!("SAFE_CAST({} AS {name})", string_literal(text)));
        match (dialect, self.form) {
            (_, Form::Double | Form::Single | Form::Json) => None,
            (Dialect::MySql | Dialect::PostgreSql, Form::Number) => number(),
            (Dialect::MySql, _) => match self.kind {
                SourceKind::Text | SourceKind::Date | SourceKind::DateTime | SourceKind::Timestamp => {
                    Some(mysql_text(text))
                }
                SourceKind::Binary => Some(format!("x'{}'", bytes()?)),
                _ => None,
            },
            (Dialect::PostgreSql, form) => {
                let name = source_type.split('(').next().unwrap_or_default().trim();
                let (value, cast) = match form {
                    Form::Hexadecimal => (format!("\\x{}", bytes()?), "bytea"),
                    Form::Clock if self.kind == SourceKind::Timestamp => (format!("{text}+00"), "timestamptz"),
                    Form::Clock if self.kind == SourceKind::DateTime => (text.to_owned(), "timestamp"),
                    Form::Day => (text.to_owned(), "date"),
                    Form::Text => match name {
                        "text" | "character varying" => (text.to_owned(), "text"),
                        "character" => (text.to_owned(), "bpchar"),
                        "citext" => (text.to_owned(), "citext"),
                        "uuid" if is_uuid(text) => (text.to_owned(), "uuid"),
                        // A text that is none of the type's would fail the statement.
                        _ => return None,
                    },
                    _ => return None,
                };
                Some(format!("{}::{cast}", postgresql_text(&value)))
            }
            (Dialect::BigQuery, form) => match self.column_type {
                C::Int64 if form == Form::Number => text.parse::<i64>().ok().map(|number| number.to_string()),
                C::Numeric { .. } => cast(&number()?, "NUMERIC"),
                C::BigNumeric { .. } => cast(&number()?, "BIGNUMERIC"),
                C::String | C::StringUpTo(_) if matches!(form, Form::Text | Form::Day) => Some(string_literal(text)),
                C::Bytes | C::BytesUpTo(_) => Some(format!("FROM_HEX('{}')", bytes()?)),
                C::Date if form == Form::Day => cast(text, "DATE"),
                C::DateTime => cast(text, "DATETIME"),
                C::Timestamp => cast(&format!("{text}+00"), "TIMESTAMP"),
                _ => None,
            },
        }
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// A text of MySQL's SQL, whatever the session's modes are, and never with more weight than a column's own collation.
#[must_use]
pub fn mysql_text(text: &str) -> String {
    if text.is_empty() {
        return "_utf8mb4''".to_owned();
    }
    let digits: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("_utf8mb4 x'{digits}'")
}

/// A text of PostgreSQL's SQL; the session has `standard_conforming_strings`.
#[must_use]
pub fn postgresql_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The SQL of a text's MD5 in hexadecimal digits: of its UTF-8 bytes everywhere.
#[must_use]
pub fn md5(dialect: Dialect, text: &str) -> String {
    match dialect {
        Dialect::MySql => format!("MD5({text})"),
        Dialect::PostgreSql => format!("md5(convert_to({text}, 'UTF8'))"),
        Dialect::BigQuery => format!("TO_HEX(MD5({text}))"),
    }
}

/// Mantissa and exponent of a double at the source. Where the logarithm is off by one near a power of two, the mantissa shows it: from 1
/// to below 2 it has to be. CONCAT of NULL is NULL in MySQL and BigQuery alone. The largest double's logarithm rounds up to 1024, whose power is none.
fn double(engine: Engine, value: &str, not_finite: &str) -> String {
    let (power, integer, logarithm) = match engine {
        Engine::MySql => ("POW(2, ", " AS SIGNED) AS CHAR)", format!("LOG2(ABS({value}))")),
        Engine::PostgreSql => {
            ("power(2::float8, ", " AS bigint) AS text)", format!("(ln(abs({value})) / ln(2::float8))"))
        }
    };
    let exponent = format!("GREATEST(LEAST(FLOOR({logarithm}), 1023), -1074)");
    let mantissa = format!("({value} / {power}{exponent}))");
    let parts = |mantissa: &str, exponent: &str| {
        format!("CONCAT(CAST(CAST({mantissa} * {TWO_TO_52}{integer}, 'p', CAST(CAST({exponent}{integer})")
    };
    // MySQL has neither NaN nor infinities.
    let not_finite = match engine {
        Engine::MySql => String::new(),
        Engine::PostgreSql => format!("WHEN {value} IN ('NaN', 'Infinity', '-Infinity') THEN {not_finite} "),
    };
    format!(
        "CASE WHEN {value} IS NULL THEN NULL WHEN {value} = 0 THEN '0' {not_finite}WHEN ABS({mantissa}) >= 2 THEN {} WHEN ABS({mantissa}) < 1 THEN {} ELSE {} END",
        parts(&format!("({mantissa} / 2)"), &format!("{exponent} + 1")),
        parts(&format!("({mantissa} * 2)"), &format!("{exponent} - 1")),
        parts(&mantissa, &exponent)
    )
}

/// By this a mantissa becomes a whole number.
const TWO_TO_52: &str = "4503599627370496";

/// The same in BigQuery, which can name what it computes. A logarithm of zero would be an error even where nobody asks for it.
fn bigquery_double(value: &str) -> String {
    let parts = |mantissa: &str, exponent: &str| {
        format!(
            "CONCAT(CAST(CAST({mantissa} * {TWO_TO_52} AS INT64) AS STRING), 'p', CAST(CAST({exponent} AS INT64) AS STRING))"
        )
    };
    format!(
        "(SELECT CASE WHEN `v` IS NULL THEN NULL WHEN `v` = 0 THEN '0' WHEN IS_NAN(`v`) THEN 'NaN' WHEN IS_INF(`v`) THEN IF(`v` > 0, 'Infinity', '-Infinity') \
         WHEN ABS(`m`) >= 2 THEN {} WHEN ABS(`m`) < 1 THEN {} ELSE {} END \
         FROM (SELECT `v`, `e`, `v` / POW(2, `e`) AS `m` FROM (SELECT `v`, \
         GREATEST(LEAST(FLOOR(LN(IF(`v` = 0, 1, ABS(`v`))) / LN(2)), 1023), -1074) AS `e` FROM (SELECT {value} AS `v`))))",
        parts("(`m` / 2)", "`e` + 1"),
        parts("(`m` * 2)", "`e` - 1"),
        parts("`m`", "`e`")
    )
}

/// A double rounded to the nearest single-precision number, in BigQuery: T. J. Dekker's splitting at 24 bits (A floating-point technique
/// for extending the available precision, 1971). Below 2⁻¹²⁶ those numbers are whole multiples of 2⁻¹⁴⁹.
fn single(value: &str) -> String {
    format!(
        "(CASE WHEN ABS({value}) > 3.5e38 OR IS_NAN({value}) THEN {value} \
         WHEN ABS({value}) < 1.1754943508222875e-38 THEN ROUND({value} * POW(2, 149)) / POW(2, 149) \
         ELSE {value} * 536870913.0 - ({value} * 536870913.0 - {value}) END)"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn types_of_both_catalogues_have_their_kind() {
        for (name, kind) in [
            ("int(10) unsigned zerofill", SourceKind::Integer),
            ("bit(10)", SourceKind::Bits(10)),
            ("bit", SourceKind::Bits(1)),
            ("enum('a','b')", SourceKind::Text),
            ("float", SourceKind::Single),
            ("datetime(6)", SourceKind::DateTime),
            ("uuid", SourceKind::Text),
        ] {
            assert_eq!(SourceKind::of(Engine::MySql, name), kind, "{name}");
        }
        for (name, kind) in [
            ("character(5)", SourceKind::Printed),
            ("character varying(40)", SourceKind::Text),
            ("timestamp(3) with time zone", SourceKind::Timestamp),
            ("timestamp without time zone", SourceKind::DateTime),
            ("time(6) with time zone", SourceKind::Time),
            ("numeric(12,2)[]", SourceKind::Printed),
            ("inet", SourceKind::Printed),
            ("double precision", SourceKind::Double),
            ("money", SourceKind::Decimal),
            ("shop.colour", SourceKind::Printed),
        ] {
            assert_eq!(SourceKind::of(Engine::PostgreSql, name), kind, "{name}");
        }
    }

    #[test]
    fn what_has_no_common_text_says_why() {
        for (kind, column_type) in [
            (SourceKind::Json, ColumnType::Json),
            (SourceKind::Double, ColumnType::NUMERIC),
            (SourceKind::Text, ColumnType::Date),
            (SourceKind::Binary, ColumnType::Bool),
        ] {
            assert!(Canonical::of(kind, column_type).is_err(), "{kind:?} {column_type:?}");
        }
    }

    #[test]
    fn a_literal_cannot_hold_sql() {
        let of = |kind, column_type| Canonical::of(kind, column_type).unwrap();
        let number = of(SourceKind::Integer, ColumnType::Int64);
        for dialect in [Dialect::MySql, Dialect::PostgreSql, Dialect::BigQuery] {
            assert_eq!(number.literal(dialect, "bigint", "1 OR 1"), None);
            assert_eq!(number.literal(dialect, "bigint", "1--2"), None);
            assert_eq!(number.literal(dialect, "bigint", "-12").unwrap(), "-12");
        }
        let text = of(SourceKind::Text, ColumnType::String);
        assert_eq!(text.literal(Dialect::PostgreSql, "character varying(9)", "a'b").unwrap(), "'a''b'::text");
        assert_eq!(text.literal(Dialect::PostgreSql, "uuid", "a'b"), None);
        assert_eq!(text.literal(Dialect::MySql, "", "a'b").unwrap(), "_utf8mb4 x'612762'");
        assert_eq!(text.literal(Dialect::BigQuery, "", "a'b").unwrap(), r"'a\'b'");
        let bytes = of(SourceKind::Binary, ColumnType::Bytes);
        assert_eq!(bytes.literal(Dialect::MySql, "", "ff'"), None);
    }

    /// The SQL to the letter: what a change of it means for every table has to be seen.
    #[test]
    fn golden_expressions() {
        let of = |kind, column_type| Canonical::of(kind, column_type).unwrap();
        let money = of(SourceKind::Decimal, ColumnType::NUMERIC);
        assert_eq!(
            money.text(Dialect::MySql, "`c`"),
            "IF(LOCATE('.', CAST(`c` AS CHAR)) > 0, TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM CAST(`c` AS CHAR))), CAST(`c` AS CHAR))"
        );
        assert_eq!(money.text(Dialect::PostgreSql, "\"c\""), "trim_scale(\"c\"::numeric)::text");
        assert_eq!(
            money.text(Dialect::BigQuery, "`c`"),
            "IF(STRPOS(CAST(`c` AS STRING), '.') > 0, RTRIM(RTRIM(CAST(`c` AS STRING), '0'), '.'), CAST(`c` AS STRING))"
        );
        let moment = of(SourceKind::Timestamp, ColumnType::Timestamp);
        assert_eq!(moment.text(Dialect::PostgreSql, "\"c\""), "(\"c\" AT TIME ZONE 'UTC')::text");
        let text = of(SourceKind::Text, ColumnType::String);
        assert_eq!(text.cell(Dialect::MySql, "`c`"), "MD5(CONVERT(`c` USING utf8mb4))");
        assert_eq!(text.cell(Dialect::PostgreSql, "\"c\""), "md5(convert_to(\"c\"::text, 'UTF8'))");
        assert_eq!(text.cell(Dialect::BigQuery, "`c`"), "TO_HEX(MD5(`c`))");
        let bits = of(SourceKind::Bits(10), ColumnType::Bytes);
        assert_eq!(bits.cell(Dialect::MySql, "`c`"), "MD5(UNHEX(LPAD(HEX(`c`), 4, '0')))");
    }
}
