//! How a connector in its default modes writes a column's values, as far as the column's definition tells: what a change that has no schema
//! is read by. A definition says it beside each column (`encoded`), so that the merge need not know types of databases.
//! It must never name an encoding where the definition leaves two open.
//!
//! Default modes: `time.precision.mode=adaptive` (PostgreSQL) and `adaptive_time_microseconds` (MySQL), `decimal.handling.mode=precise`,
//! `decimal.format=BASE64`, `binary.handling.mode=bytes`, `bigint.unsigned.handling.mode=long`, `interval.handling.mode=numeric`
//! (<https://debezium.io/documentation/reference/stable/connectors/mysql.html#mysql-data-types>,
//! <https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-data-types>).

use serde::{Deserialize, Serialize};

/// A decimal of more digits is not read by a definition: MySQL's have 65, and BigQuery's hold 76.
pub const MOST_DIGITS: u32 = 76;
/// Nor are more bits: the connector leaves out zeros at the front, and beyond this nothing says how many there were.
pub const MOST_BITS: u32 = 64;

/// How values are written. Its name in a definition is the variant's in kebab case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoded {
    /// As the final table takes them: numbers, booleans, texts, and what is known by its form (geometry, decimals of any scale).
    #[default]
    Plain,
    /// A count of days since 1970-01-01.
    Days,
    /// Time of day as a count of thousandths of a second.
    TimeMilliseconds,
    /// Time of day, or MySQL's duration, as a count of millionths.
    TimeMicroseconds,
    /// Thousandths of a second since 1970-01-01, of a time without a zone.
    TimestampMilliseconds,
    /// Millionths.
    TimestampMicroseconds,
    /// base64 of an unscaled number, the highest byte first, in two's complement; the column's definition has its precision and scale.
    Decimal,
    /// base64.
    Bytes,
    /// base64 of bits, the lowest byte first; the column's definition has their number as its precision.
    Bits,
    /// A number of 64 bits that is never negative, as if it were signed.
    Unsigned,
    /// An interval as a text, where `interval.handling.mode` is `string`; else as a count, from which the months cannot be told.
    Interval,
    /// In a way from which the value cannot be told: lists of encoded values, and what a newer version may say and this one does not know.
    #[serde(other)]
    Untold,
}

impl Encoded {
    /// Whether values are as the final table takes them.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::Plain
    }
}
