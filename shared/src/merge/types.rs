//! How a source type becomes a BigQuery type, and how the log's JSON text becomes a value of it.
//! A conversion yields NULL for a text that its type cannot hold exactly, and the fold quarantines such a record:
//! nothing here may round, cut or null a value unnoticed.

use crate::names::string_literal;

use super::definition::SourceColumn;

/// A column type of a final table that a merge can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// STRING.
    String,
    /// INT64.
    Int64,
    /// NUMERIC with the digits allowed before and after the point (29 and 9 if not parameterised).
    Numeric {
        /// Digits before the point.
        whole: u32,
        /// Digits after the point.
        fraction: u32,
    },
    /// BIGNUMERIC, likewise (38 and 38; 76 digits are partly allowed by BigQuery and not used).
    BigNumeric {
        /// Digits before the point.
        whole: u32,
        /// Digits after the point.
        fraction: u32,
    },
    /// FLOAT64.
    Float64,
    /// BOOL.
    Bool,
    /// BYTES.
    Bytes,
    /// DATE.
    Date,
    /// DATETIME: no zone.
    DateTime,
    /// TIMESTAMP: a moment.
    Timestamp,
    /// TIME.
    Time,
    /// JSON.
    Json,
}

/// Digits of a NUMERIC before and after the point
/// (<https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#decimal_types>).
const NUMERIC_DIGITS: (u32, u32) = (29, 9);
/// Digits of a BIGNUMERIC, likewise.
const BIGNUMERIC_DIGITS: (u32, u32) = (38, 38);

impl ColumnType {
    /// The type's name in SQL and in a REST schema, without parameters.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "STRING",
            Self::Int64 => "INT64",
            Self::Numeric { .. } => "NUMERIC",
            Self::BigNumeric { .. } => "BIGNUMERIC",
            Self::Float64 => "FLOAT64",
            Self::Bool => "BOOL",
            Self::Bytes => "BYTES",
            Self::Date => "DATE",
            Self::DateTime => "DATETIME",
            Self::Timestamp => "TIMESTAMP",
            Self::Time => "TIME",
            Self::Json => "JSON",
        }
    }

    /// Whether rows can be told apart by it: BigQuery groups by neither FLOAT64 nor JSON.
    pub fn can_be_key(self) -> bool {
        !matches!(self, Self::Float64 | Self::Json)
    }

    /// The type that BigQuery's REST API names, with its parameters; `None` for one that a merge cannot write.
    pub fn from_rest(name: &str, precision: Option<u32>, scale: Option<u32>) -> Option<Self> {
        let digits = |all: (u32, u32)| match precision {
            Some(precision) => (precision.saturating_sub(scale.unwrap_or(0)), scale.unwrap_or(0)),
            None => all,
        };
        Some(match name {
            "STRING" => Self::String,
            "INTEGER" | "INT64" => Self::Int64,
            "NUMERIC" => {
                let (whole, fraction) = digits(NUMERIC_DIGITS);
                Self::Numeric { whole, fraction }
            }
            "BIGNUMERIC" => {
                let (whole, fraction) = digits(BIGNUMERIC_DIGITS);
                Self::BigNumeric { whole, fraction }
            }
            "FLOAT" | "FLOAT64" => Self::Float64,
            "BOOLEAN" | "BOOL" => Self::Bool,
            "BYTES" => Self::Bytes,
            "DATE" => Self::Date,
            "DATETIME" => Self::DateTime,
            "TIMESTAMP" => Self::Timestamp,
            "TIME" => Self::Time,
            "JSON" => Self::Json,
            _ => return None,
        })
    }

    /// The type of a source column, from DMS's name of it (AWS DMS user guide, "Data types for AWS DMS"; `DATE32`,
    /// `TEXT` and the like from messages). `Err` holds the fallback for a type that is not known: STRING, which keeps every digit.
    pub fn from_source(column: &SourceColumn) -> Result<Self, Self> {
        Ok(match column.dms_type.to_ascii_uppercase().as_str() {
            "INT8" | "INT16" | "INT32" | "INT64" | "INT1" | "INT2" | "INT4" | "UINT1" | "UINT2" | "UINT4" | "UINT8"
            | "UINT16" | "UINT32" => Self::Int64,
            // 18446744073709551615 has 20 digits.
            "UINT64" => Self::Numeric { whole: NUMERIC_DIGITS.0, fraction: NUMERIC_DIGITS.1 },
            "FLOAT" | "DOUBLE" | "REAL4" | "REAL8" => Self::Float64,
            "BOOL" | "BOOLEAN" => Self::Bool,
            "STRING" | "WSTRING" | "TEXT" | "NTEXT" | "CLOB" | "NCLOB" => Self::String,
            // MySQL's TIME ranges to ±838 hours; BigQuery's is a time of day.
            "TIME" => Self::String,
            "BLOB" | "BYTES" => Self::Bytes,
            "DATE" | "DATE32" => Self::Date,
            "TIMESTAMP" => Self::Timestamp,
            "DATETIME" => Self::DateTime,
            "NUMERIC" => Self::decimal(column.precision, column.scale),
            _ => return Err(Self::String),
        })
    }

    /// The smallest decimal type that holds every NUMERIC(precision, scale) exactly; STRING if none does.
    fn decimal(precision: Option<u32>, scale: Option<u32>) -> Self {
        let (Some(precision), scale) = (precision, scale.unwrap_or(0)) else {
            return Self::BigNumeric { whole: BIGNUMERIC_DIGITS.0, fraction: BIGNUMERIC_DIGITS.1 };
        };
        let whole = precision.saturating_sub(scale);
        if whole <= NUMERIC_DIGITS.0 && scale <= NUMERIC_DIGITS.1 {
            Self::Numeric { whole: NUMERIC_DIGITS.0, fraction: NUMERIC_DIGITS.1 }
        } else if whole <= BIGNUMERIC_DIGITS.0 && scale <= BIGNUMERIC_DIGITS.1 {
            Self::BigNumeric { whole: BIGNUMERIC_DIGITS.0, fraction: BIGNUMERIC_DIGITS.1 }
        } else {
            Self::String
        }
    }

    /// The SQL expression of this type's value from `text`, a STRING expression that holds a JSON scalar's text.
    /// NULL if the text is NULL, or if the type cannot hold it exactly.
    pub fn value_of(self, text: &str) -> String {
        match self {
            Self::String => text.to_owned(),
            // DMS prints a large integer through a double unless UseLargeIntegerValue is set; up to 2^53 that is exact.
            Self::Int64 => format!(
                "CASE WHEN REGEXP_CONTAINS({text}, r'^-?[0-9]+$') THEN SAFE_CAST({text} AS INT64) \
                 WHEN REGEXP_CONTAINS({text}, r'^-?[0-9]{{1,16}}\\.0*$') THEN SAFE_CAST(REGEXP_EXTRACT({text}, r'^-?[0-9]+') AS INT64) \
                 WHEN REGEXP_CONTAINS({text}, r'^-?[0-9](\\.[0-9]{{1,15}})?[eE][+]?[0-9]{{1,2}}$') \
                 AND MOD(SAFE_CAST({text} AS NUMERIC), 1) = 0 AND ABS(SAFE_CAST({text} AS NUMERIC)) <= 9007199254740992 \
                 THEN SAFE_CAST(SAFE_CAST({text} AS NUMERIC) AS INT64) END"
            ),
            Self::Numeric { whole, fraction } => decimal_value("NUMERIC", whole, fraction, text),
            Self::BigNumeric { whole, fraction } => decimal_value("BIGNUMERIC", whole, fraction, text),
            // A cast takes hexadecimal integers, and makes infinity of what is too large.
            Self::Float64 => format!(
                "CASE WHEN LOWER({text}) IN ('nan', 'inf', '-inf', 'infinity', '-infinity') THEN SAFE_CAST({text} AS FLOAT64) \
                 WHEN NOT REGEXP_CONTAINS({text}, r'^-?[0-9]*\\.?[0-9]+([eE][+-]?[0-9]+)?$') \
                 OR IS_INF(SAFE_CAST({text} AS FLOAT64)) THEN NULL \
                 WHEN REGEXP_CONTAINS({text}, r'^-?[0-9]{{16,38}}$') \
                 AND SAFE_CAST(SAFE_CAST({text} AS FLOAT64) AS BIGNUMERIC) <> SAFE_CAST({text} AS BIGNUMERIC) THEN NULL \
                 ELSE SAFE_CAST({text} AS FLOAT64) END"
            ),
            Self::Bool => format!(
                "CASE WHEN LOWER({text}) IN ('t', 'true', '1') THEN TRUE WHEN LOWER({text}) IN ('f', 'false', '0') THEN FALSE END"
            ),
            Self::Bytes => format!(
                "IF(REGEXP_CONTAINS({text}, r'^(0x)?([0-9A-Fa-f][0-9A-Fa-f])*$'), \
                 SAFE.FROM_HEX(REGEXP_REPLACE({text}, r'^0x', '')), NULL)"
            ),
            Self::Date => format!(
                "IF(REGEXP_CONTAINS({text}, r'^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}$'), SAFE_CAST({text} AS DATE), NULL)"
            ),
            // DMS writes a zoneless DATETIME with a Z that means nothing (a 'false Z').
            Self::DateTime => format!(
                "IF(REGEXP_CONTAINS({text}, r'^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[T ]{TIME_OF_DAY}Z?$'), \
                 SAFE_CAST(REGEXP_EXTRACT({text}, r'^[^.Z]+(?:\\.[0-9]{{1,6}})?') AS DATETIME), NULL)"
            ),
            Self::Timestamp => format!(
                "IF(REGEXP_CONTAINS({text}, r'^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[T ]{TIME_OF_DAY}(Z|[+-][0-9]{{2}}(:[0-9]{{2}})?)?$'), \
                 SAFE_CAST(REGEXP_REPLACE({text}, r'(\\.[0-9]{{6}})0+', r'\\1') AS TIMESTAMP), NULL)"
            ),
            Self::Time => format!(
                "IF(REGEXP_CONTAINS({text}, r'^{TIME_OF_DAY}$'), \
                 SAFE_CAST(REGEXP_EXTRACT({text}, r'^[^.]+(?:\\.[0-9]{{1,6}})?') AS TIME), NULL)"
            ),
            Self::Json => format!("SAFE.PARSE_JSON({text})"),
        }
    }

    /// The literal of a value whose text BigQuery's REST API returned, for types whose order a range may use.
    pub fn range_literal(self, text: &str) -> Option<String> {
        match self {
            Self::Int64 => text.parse::<i64>().ok().map(|number| number.to_string()),
            Self::String => Some(string_literal(text)),
            Self::Date => Some(format!("DATE {}", string_literal(text))),
            Self::DateTime => Some(format!("DATETIME {}", string_literal(text))),
            _ => None,
        }
    }
}

/// Hours to seconds, with at most six digits that are not trailing zeros after the point: what microseconds hold exactly.
const TIME_OF_DAY: &str = r"[0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,6}0*)?";

/// A decimal is exact if its own text has no more digits than the type: SAFE_CAST would round silently.
///
/// Scientific notation means that DMS printed a double: up to 15 significant digits it says what the source held, and beyond
/// 2^53 it says no more than about where it was. Down to 10^-20 a BIGNUMERIC holds all of those digits, so that a comparison
/// with what rounding leaves of it tells.
fn decimal_value(sql_type: &str, whole: u32, fraction: u32, text: &str) -> String {
    let point = if fraction == 0 { r"(\.0*)?".to_owned() } else { format!(r"(\.[0-9]{{0,{fraction}}}0*)?") };
    format!(
        "CASE WHEN REGEXP_CONTAINS({text}, r'^-?0*[0-9]{{0,{whole}}}{point}$') THEN SAFE_CAST({text} AS {sql_type}) \
         WHEN REGEXP_CONTAINS({text}, r'^-?[0-9](\\.[0-9]{{1,14}})?[eE]([+]?[0-9]{{1,2}}|-(1?[0-9]|20))$') \
         AND ABS(SAFE_CAST({text} AS BIGNUMERIC)) <= 9007199254740992 \
         AND ROUND(SAFE_CAST({text} AS BIGNUMERIC), {fraction}) = SAFE_CAST({text} AS BIGNUMERIC) \
         THEN SAFE_CAST({text} AS {sql_type}) END"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn column(dms_type: &str, precision: Option<u32>, scale: Option<u32>) -> SourceColumn {
        SourceColumn { name: "c".into(), dms_type: dms_type.into(), precision, scale }
    }

    #[test]
    fn decimals_get_the_smallest_type_that_holds_them_exactly() {
        let of = |p, s| ColumnType::from_source(&column("NUMERIC", Some(p), Some(s))).unwrap().name();
        assert_eq!(of(12, 2), "NUMERIC");
        assert_eq!(of(38, 9), "NUMERIC");
        assert_eq!(of(38, 0), "BIGNUMERIC");
        assert_eq!(of(65, 30), "BIGNUMERIC");
        assert_eq!(of(65, 0), "STRING");
    }

    #[test]
    fn an_unknown_type_falls_back_to_a_string() {
        assert_eq!(ColumnType::from_source(&column("HYPERCUBE", None, None)), Err(ColumnType::String));
    }

    #[test]
    fn ranges_are_literals_that_cannot_hold_sql() {
        assert_eq!(ColumnType::Int64.range_literal("1 OR TRUE"), None);
        assert_eq!(ColumnType::String.range_literal("a' OR 'a").unwrap(), r"'a\' OR \'a'");
    }
}
