//! The SQL that makes a value of a column's type from a JSON scalar's text. Each expression is NULL for a text that the
//! type cannot hold exactly, on BigQuery and on the embedded one alike; the text's form is checked before any cast,
//! because casts round, cut and accept more than the source means.

use super::{ColumnType, Zone};

/// Hours to seconds, with at most six digits that are not trailing zeros after the point: what microseconds hold exactly.
const TIME_OF_DAY: &str = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6}0*)?";
/// A day; BigQuery's calendar begins with the year 1.
const DAY: &str = r"([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}";

impl ColumnType {
    /// The SQL expression of this type's value from `text`, a STRING expression that holds a JSON scalar's text.
    /// NULL if the text is NULL, or if the type cannot hold it exactly.
    pub fn value_of(self, text: &str) -> String {
        match self {
            Self::String => text.to_owned(),
            // BigQuery counts code points, and so does this.
            Self::StringUpTo(most) => format!("IF(CHAR_LENGTH({text}) <= {most}, {text}, NULL)"),
            // A decimal that is whole; then what DMS prints through a double unless UseLargeIntegerValue is set: with 15 digits,
            // so that up to 10^15 it is exact.
            Self::Int64 => format!(
                "CASE WHEN REGEXP_CONTAINS({text}, r'^-?[0-9]+(\\.0*)?$') THEN SAFE_CAST(REGEXP_EXTRACT({text}, r'^[^.]+') AS INT64) \
                 WHEN REGEXP_CONTAINS({text}, r'^-?[0-9](\\.[0-9]{{1,14}})?[eE][+]?[0-9]{{1,2}}$') \
                 AND MOD(SAFE_CAST({text} AS NUMERIC), 1) = 0 AND ABS(SAFE_CAST({text} AS NUMERIC)) < 1000000000000000 \
                 THEN SAFE_CAST(SAFE_CAST({text} AS NUMERIC) AS INT64) \
                 WHEN {text} IN ('true', 't') THEN 1 WHEN {text} IN ('false', 'f') THEN 0 END"
            ),
            Self::Numeric { whole, fraction } => decimal_value("NUMERIC", whole, fraction, text),
            Self::BigNumeric { whole, fraction } => decimal_value("BIGNUMERIC", whole, fraction, text),
            // A cast takes hexadecimal integers, and makes infinity of what is too large. Digits before a point that a double
            // has not are compared; a double's own text never has more than 17 significant ones.
            Self::Float64 => format!(
                "CASE WHEN LOWER({text}) IN ('nan', 'inf', '-inf', 'infinity', '-infinity') THEN SAFE_CAST({text} AS FLOAT64) \
                 WHEN NOT REGEXP_CONTAINS({text}, r'^-?[0-9]*\\.?[0-9]+([eE][+-]?[0-9]+)?$') \
                 OR IS_INF(SAFE_CAST({text} AS FLOAT64)) THEN NULL \
                 WHEN REGEXP_CONTAINS({text}, r'^-?[0-9]{{16,}}$') \
                 THEN IF(SAFE_CAST(SAFE_CAST({text} AS FLOAT64) AS BIGNUMERIC) = SAFE_CAST({text} AS BIGNUMERIC), SAFE_CAST({text} AS FLOAT64), NULL) \
                 WHEN LENGTH(REGEXP_REPLACE({text}, r'^-?[0.]*|\\.|[0.]*([eE].*)?$', '')) <= 17 THEN SAFE_CAST({text} AS FLOAT64) END"
            ),
            Self::Bool => format!(
                "CASE WHEN LOWER({text}) IN ('t', 'true', '1', '0x01', '01') THEN TRUE \
                 WHEN LOWER({text}) IN ('f', 'false', '0', '0x00', '00') THEN FALSE END"
            ),
            Self::Bytes => bytes_value("", text),
            Self::BytesUpTo(most) => bytes_value(
                &format!(" AND LENGTH({text}) - IF(STARTS_WITH({text}, '0x'), 2, 0) <= {}", most.saturating_mul(2)),
                text,
            ),
            // Of a time, what is at midnight. Debezium's ISO 8601 has a Z that means nothing.
            Self::Date => format!(
                "IF(REGEXP_CONTAINS({text}, r'^{DAY}([T ]00:00:00(\\.0+)?)?Z?$'), SAFE_CAST(SUBSTR({text}, 1, 10) AS DATE), NULL)"
            ),
            Self::DateTime => datetime_value(text),
            Self::Timestamp => format!(
                "IF(REGEXP_CONTAINS({text}, r'^{DAY}[T ]{TIME_OF_DAY}(Z|[+-][0-9]{{2}}(:[0-9]{{2}})?)?$'), \
                 SAFE_CAST(REGEXP_REPLACE({text}, r'(\\.[0-9]{{6}})0+', r'\\1') AS TIMESTAMP), NULL)"
            ),
            Self::TimestampIn(zone) => moment_in(&zone, text),
            Self::Time => format!(
                "IF(REGEXP_CONTAINS({text}, r'^{TIME_OF_DAY}Z?$'), \
                 SAFE_CAST(REGEXP_EXTRACT({text}, r'^[^.Z]+(?:\\.[0-9]{{1,6}})?') AS TIME), NULL)"
            ),
            Self::Json => format!("SAFE.PARSE_JSON({text})"),
        }
    }
}

/// DMS writes a zoneless DATETIME with a Z that means nothing (a 'false Z'). A day alone is its midnight.
fn datetime_value(text: &str) -> String {
    format!(
        "IF(REGEXP_CONTAINS({text}, r'^{DAY}([T ]{TIME_OF_DAY}Z?|Z)?$'), \
         SAFE_CAST(REGEXP_EXTRACT({text}, r'^[^.Z]+(?:\\.[0-9]{{1,6}})?') AS DATETIME), NULL)"
    )
}

/// The moment at which the zone's clocks showed the time: NULL where they never did, or did twice, and so near the calendar's ends that
/// hours to either side are beyond them, where functions of time fail.
fn moment_in(zone: &Zone, text: &str) -> String {
    let zone = zone.name();
    format!(
        "(SELECT IF(DATETIME(`moment`, '{zone}') = `shown` AND NOT EXISTS (\
         SELECT 1 FROM UNNEST([-180, -120, -60, -40, -30, -20, 20, 30, 40, 60, 120, 180]) AS `shift` \
         WHERE DATETIME(TIMESTAMP_ADD(`moment`, INTERVAL `shift` MINUTE), '{zone}') = `shown`), `moment`, NULL) \
         FROM (SELECT `shown`, SAFE_CAST(CONCAT(CAST(`shown` AS STRING), ' {zone}') AS TIMESTAMP) AS `moment` \
         FROM (SELECT IF(`day` BETWEEN DATETIME '0001-01-03 00:00:00' AND DATETIME '9999-12-29 00:00:00', `day`, NULL) AS `shown` \
         FROM (SELECT {} AS `day`))))",
        datetime_value(text)
    )
}

fn bytes_value(and: &str, text: &str) -> String {
    format!(
        "IF(REGEXP_CONTAINS({text}, r'^(0x)?([0-9A-Fa-f][0-9A-Fa-f])*$'){and}, \
         SAFE.FROM_HEX(REGEXP_REPLACE({text}, r'^0x', '')), NULL)"
    )
}

/// A decimal is exact if its own text has no more digits than the type: SAFE_CAST would round silently.
///
/// Scientific notation means that DMS printed a double, with 15 significant digits: they say what the source held below 10^15, and
/// from there on no more than about where it was. Down to 10^-20 a BIGNUMERIC holds all of those digits, so that a comparison
/// with what rounding leaves of it tells.
fn decimal_value(sql_type: &str, whole: u32, fraction: u32, text: &str) -> String {
    let point = if fraction == 0 { r"(\.0*)?".to_owned() } else { format!(r"(\.[0-9]{{0,{fraction}}}0*)?") };
    let most = format!("1{}", "0".repeat(usize::try_from(whole.min(15)).unwrap_or(0)));
    format!(
        "CASE WHEN REGEXP_CONTAINS({text}, r'^-?0*[0-9]{{0,{whole}}}{point}$') THEN SAFE_CAST({text} AS {sql_type}) \
         WHEN REGEXP_CONTAINS({text}, r'^-?[0-9](\\.[0-9]{{1,14}})?[eE]([+]?[0-9]{{1,2}}|-(1?[0-9]|20))$') \
         AND ABS(SAFE_CAST({text} AS BIGNUMERIC)) < {most} \
         AND ROUND(SAFE_CAST({text} AS BIGNUMERIC), {fraction}) = SAFE_CAST({text} AS BIGNUMERIC) \
         THEN SAFE_CAST({text} AS {sql_type}) END"
    )
}
