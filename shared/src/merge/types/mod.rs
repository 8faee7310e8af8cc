//! How a source type becomes a BigQuery type, and how the log's JSON text becomes a value of it: [`map`] is the table of
//! types, [`conversion`] the SQL, [`canonical`] the text by which both sides are compared. A conversion yields NULL for a text that its type cannot hold exactly, and the fold
//! quarantines such a record: nothing here may round, cut or null a value unnoticed.

pub mod canonical;
mod conversion;
pub mod encoded;
pub mod map;
mod zone;

pub use zone::Zone;

use crate::bigquery::table_resource::Field;
use crate::mask::MaskAction;
use crate::names::string_literal;

use super::definition::SourceColumn;
use map::Kind;

/// A column type of a final table that a merge can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// STRING.
    String,
    /// STRING(n): at most so many characters.
    StringUpTo(u64),
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
    /// BYTES(n): at most so many bytes.
    BytesUpTo(u64),
    /// DATE.
    Date,
    /// DATETIME: no zone.
    DateTime,
    /// TIMESTAMP: a moment.
    Timestamp,
    /// TIMESTAMP of which the source holds the wall clock of this zone, without a zone.
    TimestampIn(Zone),
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
/// Precision and scale that DMS gives a decimal without any.
const UNBOUNDED_NUMERIC: (u32, u32) = (28, 6);

impl ColumnType {
    /// NUMERIC without parameters.
    pub const NUMERIC: Self = Self::Numeric { whole: NUMERIC_DIGITS.0, fraction: NUMERIC_DIGITS.1 };
    /// BIGNUMERIC without parameters.
    pub const BIGNUMERIC: Self = Self::BigNumeric { whole: BIGNUMERIC_DIGITS.0, fraction: BIGNUMERIC_DIGITS.1 };

    /// The type's name in SQL and in a REST schema, without parameters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String | Self::StringUpTo(_) => "STRING",
            Self::Int64 => "INT64",
            Self::Numeric { .. } => "NUMERIC",
            Self::BigNumeric { .. } => "BIGNUMERIC",
            Self::Float64 => "FLOAT64",
            Self::Bool => "BOOL",
            Self::Bytes | Self::BytesUpTo(_) => "BYTES",
            Self::Date => "DATE",
            Self::DateTime => "DATETIME",
            Self::Timestamp | Self::TimestampIn(_) => "TIMESTAMP",
            Self::Time => "TIME",
            Self::Json => "JSON",
        }
    }

    /// The type as a column's definition has it in SQL, with its parameters.
    pub fn sql(self) -> String {
        let name = self.name();
        match (self, self.digits()) {
            (Self::StringUpTo(most) | Self::BytesUpTo(most), _) => format!("{name}({most})"),
            (_, Some((precision, 0))) => format!("{name}({precision})"),
            (_, Some((precision, scale))) => format!("{name}({precision}, {scale})"),
            _ => name.to_owned(),
        }
    }

    /// The type in words, for a person: its zone, too.
    pub fn described(self) -> String {
        match self {
            Self::TimestampIn(zone) => format!("TIMESTAMP of {}", zone.name()),
            _ => self.sql(),
        }
    }

    /// Precision and scale of a decimal type that is narrower than the type without parameters.
    fn digits(self) -> Option<(u32, u32)> {
        match self {
            Self::Numeric { whole, fraction } if (whole, fraction) != NUMERIC_DIGITS => Some((whole, fraction)),
            Self::BigNumeric { whole, fraction } if (whole, fraction) != BIGNUMERIC_DIGITS => Some((whole, fraction)),
            _ => None,
        }
        // NUMERIC(P, S) wants P ≥ max(1, S) (same page).
        .map(|(whole, fraction)| (whole.saturating_add(fraction).max(1), fraction))
    }

    /// A column of this type in a REST schema, nullable.
    pub fn field(self, name: &str) -> Field {
        let digits = self.digits();
        let max_length = match self {
            Self::StringUpTo(most) | Self::BytesUpTo(most) => Some(most.to_string()),
            _ => None,
        };
        Field {
            name: name.to_owned(),
            field_type: self.name().to_owned(),
            max_length,
            precision: digits.map(|(precision, _)| precision.to_string()),
            scale: digits.map(|(_, scale)| scale).filter(|scale| *scale > 0).map(|scale| scale.to_string()),
            ..Field::default()
        }
    }

    /// Whether rows can be told apart by it: BigQuery groups by neither FLOAT64 nor JSON.
    pub fn can_be_key(self) -> bool {
        !matches!(self, Self::Float64 | Self::Json)
    }

    /// Whether it can hold what a mask makes of a value: 64 hexadecimal digits, which are 32 bytes, or a word.
    pub const fn holds_masked(self, action: MaskAction) -> bool {
        match (action, self) {
            (MaskAction::Drop, _) | (_, Self::String) | (MaskAction::Hash, Self::Bytes) => true,
            (MaskAction::Hash, Self::StringUpTo(most)) => most >= 64,
            (MaskAction::Hash, Self::BytesUpTo(most)) => most >= 32,
            (MaskAction::Redact, Self::StringUpTo(most)) => most >= 8,
            _ => false,
        }
    }

    /// The type of a column as BigQuery's REST API describes it; `None` for one that a merge cannot write.
    pub fn from_field(field: &Field) -> Option<Self> {
        if field.is_repeated() {
            return None;
        }
        let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<u32>().ok());
        let max_length = field.max_length.as_ref().and_then(|text| text.parse().ok());
        let digits = |all: (u32, u32)| match number(&field.precision) {
            Some(precision) => {
                let scale = number(&field.scale).unwrap_or(0);
                (precision.saturating_sub(scale), scale)
            }
            None => all,
        };
        Some(match field.field_type.as_str() {
            "STRING" => max_length.map_or(Self::String, Self::StringUpTo),
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
            "BYTES" => max_length.map_or(Self::Bytes, Self::BytesUpTo),
            "DATE" => Self::Date,
            "DATETIME" => Self::DateTime,
            "TIMESTAMP" => match field.description.as_deref().map(Zone::stated_in) {
                None | Some(Ok(None)) => Self::Timestamp,
                Some(Ok(Some(zone))) => Self::TimestampIn(zone),
                Some(Err(_)) => return None,
            },
            "TIME" => Self::Time,
            "JSON" => Self::Json,
            _ => return None,
        })
    }

    /// The type that Strait makes for a source column. `Err` holds the fallback for a type that is not known: STRING,
    /// which keeps every digit.
    pub fn from_source(column: &SourceColumn) -> Result<Self, Self> {
        Self::from_dms(&column.dms_type, column.precision, column.scale)
    }

    /// The same, from what DMS says of the column.
    pub fn from_dms(dms_type: &str, precision: Option<u32>, scale: Option<u32>) -> Result<Self, Self> {
        Kind::of(dms_type).map(|kind| kind.column_type(precision, scale)).ok_or(Self::String)
    }

    /// The smallest decimal type that holds every NUMERIC(precision, scale) exactly; STRING if none does. Without a
    /// precision, or with 0, the widest. NUMERIC(28, 6) is also what DMS says of PostgreSQL's `numeric` without a precision
    /// (user guide, "Limitations on using a PostgreSQL database as a DMS source"): as many digits as a NUMERIC can have.
    fn decimal(precision: Option<u32>, scale: Option<u32>) -> Self {
        let (Some(precision @ 1..), scale) = (precision, scale.unwrap_or(0)) else {
            return Self::BIGNUMERIC;
        };
        let (whole, fraction) = (precision.saturating_sub(scale), scale);
        let fits = |most: (u32, u32)| whole <= most.0 && fraction <= most.1;
        if (precision, scale) == UNBOUNDED_NUMERIC {
            Self::NUMERIC
        } else if fits(NUMERIC_DIGITS) {
            Self::Numeric { whole, fraction }
        } else if fits(BIGNUMERIC_DIGITS) {
            Self::BigNumeric { whole, fraction }
        } else {
            Self::String
        }
    }

    /// The literal of a value whose text BigQuery's REST API returned, for types whose order a range may use.
    pub fn range_literal(self, text: &str) -> Option<String> {
        match self {
            Self::Int64 => text.parse::<i64>().ok().map(|number| number.to_string()),
            Self::String => Some(string_literal(text)),
            Self::Date => Some(format!("DATE {}", string_literal(text))),
            Self::DateTime => Some(format!("DATETIME {}", string_literal(text))),
            Self::Timestamp => Some(format!("TIMESTAMP {}", string_literal(text))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn decimals_get_the_smallest_type_that_holds_them_exactly() {
        let of = |p, s| ColumnType::from_dms("NUMERIC", p, s).unwrap().sql();
        assert_eq!(of(Some(12), Some(2)), "NUMERIC(12, 2)");
        assert_eq!(of(Some(2), Some(2)), "NUMERIC(2, 2)");
        // PostgreSQL allows more digits after the point than there are digits.
        assert_eq!(of(Some(3), Some(5)), "NUMERIC(5, 5)");
        assert_eq!(of(Some(29), None), "NUMERIC(29)");
        assert_eq!(of(Some(38), Some(9)), "NUMERIC");
        assert_eq!(of(Some(28), Some(6)), "NUMERIC");
        assert_eq!(of(Some(30), Some(0)), "BIGNUMERIC(30)");
        assert_eq!(of(Some(38), Some(0)), "BIGNUMERIC(38)");
        assert_eq!(of(Some(28), Some(10)), "BIGNUMERIC(28, 10)");
        assert_eq!(of(Some(65), Some(30)), "BIGNUMERIC(65, 30)");
        assert_eq!(of(Some(76), Some(38)), "BIGNUMERIC");
        assert_eq!(of(Some(65), Some(0)), "STRING");
        assert_eq!(of(Some(60), Some(39)), "STRING");
        assert_eq!(of(None, None), "BIGNUMERIC");
        assert_eq!(of(Some(0), Some(0)), "BIGNUMERIC");
    }

    #[test]
    fn an_unknown_type_falls_back_to_a_string() {
        assert_eq!(ColumnType::from_dms("HYPERCUBE", None, None), Err(ColumnType::String));
    }

    #[test]
    fn a_column_is_read_back_as_it_was_made() {
        let zone = Zone::stated_in("strait_zone=Europe/Berlin").unwrap().unwrap();
        for column_type in [
            ColumnType::String,
            ColumnType::StringUpTo(40),
            ColumnType::BytesUpTo(16),
            ColumnType::NUMERIC,
            ColumnType::BIGNUMERIC,
            ColumnType::Numeric { whole: 20, fraction: 0 },
            ColumnType::Numeric { whole: 0, fraction: 2 },
            ColumnType::BigNumeric { whole: 35, fraction: 30 },
            ColumnType::Json,
            ColumnType::Timestamp,
            ColumnType::TimestampIn(zone),
        ] {
            let mut field = column_type.field("c");
            field.description = matches!(column_type, ColumnType::TimestampIn(_))
                .then(|| "Ordered at (strait_zone=Europe/Berlin), see the manual".to_owned());
            assert_eq!(ColumnType::from_field(&field), Some(column_type), "{field:?}");
        }
        let unknown = Field { description: Some("strait_zone=Berlin'".into()), ..ColumnType::Timestamp.field("c") };
        assert_eq!(ColumnType::from_field(&unknown), None);
    }

    #[test]
    fn a_masked_value_fits_a_text_that_is_long_enough() {
        use ColumnType::{Bytes, BytesUpTo, Date, Int64, Json, String, StringUpTo};
        let holding = |action: MaskAction| {
            let all = [
                String,
                StringUpTo(64),
                StringUpTo(63),
                StringUpTo(7),
                Bytes,
                BytesUpTo(32),
                BytesUpTo(31),
                Int64,
                Date,
                Json,
            ];
            all.into_iter().filter(|column_type| column_type.holds_masked(action)).collect::<Vec<_>>()
        };
        assert_eq!(holding(MaskAction::Hash), [String, StringUpTo(64), Bytes, BytesUpTo(32)]);
        assert_eq!(holding(MaskAction::Redact), [String, StringUpTo(64), StringUpTo(63)]);
        assert_eq!(holding(MaskAction::Drop).len(), 10);
    }

    #[test]
    fn ranges_are_literals_that_cannot_hold_sql() {
        assert_eq!(ColumnType::Int64.range_literal("1 OR TRUE"), None);
        assert_eq!(ColumnType::String.range_literal("a' OR 'a").unwrap(), r"'a\' OR \'a'");
    }
}
