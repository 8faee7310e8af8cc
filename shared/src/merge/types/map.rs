//! The table of types: what a source type is called, how DMS sends it, which BigQuery type Strait makes for it, and which
//! others a person may declare instead. `docs/types.md` is generated from it. It must never promise what
//! [`ColumnType::value_of`] does not keep: each row's type is computed, not written down.
//!
//! Sources: AWS DMS user guide, "Source data types" of MySQL and PostgreSQL and "Data types for AWS DMS"; type names in
//! control records as they were seen in messages (`INT32`, `DATE32`), which differ from the guide's (`INT4`, `DATE`).

use super::ColumnType;

/// What a source type's values are, as far as it decides which BigQuery types can hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Whole numbers that INT64 holds.
    Integer,
    /// Whole numbers up to 18446744073709551615.
    Unsigned64,
    /// Decimals with a precision and a scale.
    Decimal,
    /// Binary floating point.
    Float,
    /// True and false.
    Bool,
    /// Text, and everything that DMS sends as text.
    Text,
    /// Bytes.
    Binary,
    /// Days.
    Date,
    /// Days and times of day without a zone.
    DateTime,
    /// Moments, or what DMS cannot tell from them.
    Timestamp,
    /// Times of day and durations.
    Time,
}

/// DMS's names of types, by what they are. Beside the names that were seen in control records stand the guide's own.
pub const DMS_TYPES: &[(Kind, &[&str])] = &[
    // INT8 has eight bytes in the guide and eight bits in a control record; INT64 holds both.
    (
        Kind::Integer,
        &[
            "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "INT1", "INT2", "INT4", "UINT1", "UINT2",
            "UINT4",
        ],
    ),
    (Kind::Unsigned64, &["UINT64"]),
    (Kind::Decimal, &["NUMERIC"]),
    (Kind::Float, &["FLOAT", "DOUBLE", "REAL4", "REAL8"]),
    (Kind::Bool, &["BOOL", "BOOLEAN"]),
    (Kind::Text, &["STRING", "WSTRING", "TEXT", "NTEXT", "CLOB", "NCLOB"]),
    (Kind::Binary, &["BYTES", "BYTE", "BLOB"]),
    (Kind::Date, &["DATE", "DATE32"]),
    (Kind::DateTime, &["DATETIME"]),
    (Kind::Timestamp, &["TIMESTAMP"]),
    (Kind::Time, &["TIME"]),
];

/// A BigQuery type that a final table may declare for values of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The type without parameters.
    pub name: &'static str,
    /// Which values it holds exactly; the others are quarantined.
    pub holds: &'static str,
}

const fn target(name: &'static str, holds: &'static str) -> Target {
    Target { name, holds }
}

const AS_RECEIVED: Target = target("STRING", "all, as the text that was received");

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Integer,
        Self::Unsigned64,
        Self::Decimal,
        Self::Float,
        Self::Bool,
        Self::Text,
        Self::Binary,
        Self::Date,
        Self::DateTime,
        Self::Timestamp,
        Self::Time,
    ];

    /// The kind of DMS's type of this name; `None` for one that is not known.
    pub fn of(dms_type: &str) -> Option<Self> {
        let is_it = |names: &&[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(dms_type));
        DMS_TYPES.iter().find(|(_, names)| is_it(names)).map(|(kind, _)| *kind)
    }

    /// The type that Strait makes.
    pub fn column_type(self, precision: Option<u32>, scale: Option<u32>) -> ColumnType {
        match self {
            Self::Integer => ColumnType::Int64,
            // 18446744073709551615 has 20 digits.
            Self::Unsigned64 => ColumnType::Numeric { whole: 20, fraction: 0 },
            Self::Decimal => ColumnType::decimal(precision, scale),
            Self::Float => ColumnType::Float64,
            Self::Bool => ColumnType::Bool,
            // PostgreSQL's 24:00:00 and times with a zone are no time of day of BigQuery's.
            Self::Text | Self::Time => ColumnType::String,
            Self::Binary => ColumnType::Bytes,
            Self::Date => ColumnType::Date,
            Self::DateTime => ColumnType::DateTime,
            Self::Timestamp => ColumnType::Timestamp,
        }
    }

    /// In words, for a page or a message.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Integer => "integers",
            Self::Unsigned64 => "unsigned integers of 64 bits",
            Self::Decimal => "decimals",
            Self::Float => "floating point",
            Self::Bool => "true and false",
            Self::Text => "text",
            Self::Binary => "bytes",
            Self::Date => "days",
            Self::DateTime => "days and times without a zone",
            Self::Timestamp => "moments",
            Self::Time => "times of day",
        }
    }

    /// What a final table may declare for values of this kind: the one that Strait makes first. No other type can hold them.
    pub const fn targets(self) -> &'static [Target] {
        match self {
            Self::Integer => {
                const {
                    &[
                        target("INT64", "all"),
                        target("NUMERIC", "all; with a precision, those that have no more digits"),
                        target("BIGNUMERIC", "all; likewise"),
                        target("FLOAT64", "those that a double holds exactly: all up to 9007199254740992, some beyond"),
                        target("BOOL", "0 and 1"),
                        target("JSON", "all, as JSON numbers"),
                        AS_RECEIVED,
                    ]
                }
            }
            Self::Unsigned64 => {
                const {
                    &[
                        target("NUMERIC", "all; with a precision, those that have no more digits"),
                        target("BIGNUMERIC", "all; likewise"),
                        target("INT64", "up to 9223372036854775807"),
                        target("FLOAT64", "those that a double holds exactly: all up to 9007199254740992, some beyond"),
                        target("JSON", "all, as JSON numbers"),
                        AS_RECEIVED,
                    ]
                }
            }
            Self::Decimal => {
                const {
                    &[
                        target(
                            "NUMERIC",
                            "29 digits before the point, 9 after it; with a precision and scale, those that have no more digits",
                        ),
                        target("BIGNUMERIC", "38 and 38; likewise"),
                        target("INT64", "whole numbers within its range"),
                        target(
                            "FLOAT64",
                            "17 significant digits, to the nearest double; whole numbers that a double holds exactly",
                        ),
                        target("JSON", "those that a double holds, as JSON numbers"),
                        AS_RECEIVED,
                    ]
                }
            }
            Self::Float => {
                const {
                    &[
                        target("FLOAT64", "all, with NaN and the infinities"),
                        target(
                            "NUMERIC",
                            "what it holds of the digits that were received; scientific notation below 10^15, for DMS prints 15 significant digits",
                        ),
                        target("BIGNUMERIC", "likewise"),
                        target("INT64", "whole numbers up to 9007199254740992"),
                        target("JSON", "all but NaN and the infinities, as JSON numbers"),
                        AS_RECEIVED,
                    ]
                }
            }
            Self::Bool => {
                const {
                    &[
                        target("BOOL", "all: t, true, 1, 0x01 and f, false, 0, 0x00"),
                        target("INT64", "all, as 1 and 0"),
                        target("JSON", "if DMS sends true and false, not t and f"),
                        AS_RECEIVED,
                    ]
                }
            }
            Self::Text => {
                const {
                    &[
                        target("STRING", "all; with a length, those that have no more characters"),
                        target(
                            "JSON",
                            "JSON whose numbers a 64-bit integer or a double holds exactly; of two members of one name the first stays",
                        ),
                        target("INT64", "whole numbers within its range"),
                        target("NUMERIC", "numbers that have no more digits than it"),
                        target("BIGNUMERIC", "likewise"),
                        target("FLOAT64", "numbers of up to 17 significant digits, NaN, the infinities"),
                        target("BOOL", "t, true, 1 and f, false, 0"),
                        target("DATE", "YYYY-MM-DD from year 1 to 9999"),
                        target("DATETIME", "YYYY-MM-DD hh:mm:ss with up to 6 digits after the point"),
                        target("TIMESTAMP", "likewise, with an offset or Z"),
                        target(
                            "TIME",
                            "hh:mm:ss with up to 6 digits after the point, from 00:00:00 to 23:59:59.999999: MySQL's TIME within a day",
                        ),
                    ]
                }
            }
            Self::Binary => {
                const {
                    &[
                        target("BYTES", "all; with a length, those that have no more bytes"),
                        target("BOOL", "the bytes 00 and 01"),
                        target("STRING", "all, as the hexadecimal text that was received"),
                    ]
                }
            }
            Self::Date => {
                const { &[target("DATE", "from year 1 to 9999"), target("DATETIME", "likewise, as midnight"), AS_RECEIVED] }
            }
            Self::DateTime => {
                const {
                    &[
                        target("DATETIME", "from year 1 to 9999, with up to 6 digits after the point"),
                        target(
                            "TIMESTAMP",
                            "with a zone stated, times that the zone's clocks showed exactly once; without one, all, read as UTC",
                        ),
                        target("DATE", "midnights"),
                        AS_RECEIVED,
                    ]
                }
            }
            Self::Timestamp => {
                const {
                    &[
                        target(
                            "TIMESTAMP",
                            "from year 1 to 9999, with up to 6 digits after the point; with a zone stated, as for DATETIME",
                        ),
                        target("DATETIME", "likewise; a moment as the clocks of UTC show it"),
                        target("DATE", "midnights"),
                        AS_RECEIVED,
                    ]
                }
            }
            Self::Time => const { &[AS_RECEIVED, target("TIME", "from 00:00:00 to 23:59:59.999999, without a zone")] },
        }
    }

    /// Whether a column of this type can hold any value of this kind.
    pub fn fits(self, column_type: ColumnType) -> bool {
        self.targets().iter().any(|target| target.name == column_type.name())
    }
}

/// The source's engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Aurora MySQL.
    MySql,
    /// Aurora PostgreSQL.
    PostgreSql,
}

/// A type's definition in a control record: name, precision, scale.
pub type DmsType = (&'static str, Option<u32>, Option<u32>);

/// A type of a source database.
#[derive(Debug, Clone, Copy)]
pub struct SourceType {
    /// Whose.
    pub engine: Engine,
    /// What the database calls it.
    pub names: &'static str,
    /// What the DMS user guide says it becomes.
    pub guide: &'static str,
    /// What a control record says of it; several where that depends on its parameters, or is not established.
    pub dms: &'static [DmsType],
    /// How a value stands in `data`.
    pub sent: &'static str,
    /// What is lost or kept out, and why; what a person may do.
    pub limits: &'static str,
}

const fn mysql(
    names: &'static str,
    guide: &'static str,
    dms: &'static [DmsType],
    sent: &'static str,
    limits: &'static str,
) -> SourceType {
    SourceType { engine: Engine::MySql, names, guide, dms, sent, limits }
}

const fn postgresql(
    names: &'static str,
    guide: &'static str,
    dms: &'static [DmsType],
    sent: &'static str,
    limits: &'static str,
) -> SourceType {
    SourceType { engine: Engine::PostgreSql, names, guide, dms, sent, limits }
}

/// A type without precision.
const fn plain(name: &'static str) -> DmsType {
    (name, None, None)
}

const fn numeric(precision: u32, scale: u32) -> DmsType {
    ("NUMERIC", Some(precision), Some(scale))
}

const HEXADECIMAL: &str = "`\"0x80057D942E\"`, without `0x` under NoHexPrefix";
const LIMITED_LOBS: &str =
    "DMS cuts it off without a sign at the task's limit for LOBs, and leaves it out of tables without a primary key";

/// Every type of the two engines.
pub const SOURCE_TYPES: &[SourceType] = &[
    mysql(
        "TINYINT, BOOL",
        "INT1",
        &[plain("INT8")],
        "`1`",
        "BOOL is TINYINT(1), which may hold 2: declare BOOL to have true and false, and the others quarantined",
    ),
    mysql("TINYINT UNSIGNED", "UINT1", &[plain("UINT8")], "`255`", ""),
    mysql("SMALLINT, YEAR", "INT2", &[plain("INT16")], "`2024`", "the year 0000 is 0"),
    mysql("SMALLINT UNSIGNED", "UINT2", &[plain("UINT16")], "`65535`", ""),
    mysql("MEDIUMINT, INT", "INT4", &[plain("INT32")], "`-2147483648`", ""),
    mysql("MEDIUMINT UNSIGNED, INT UNSIGNED", "UINT4", &[plain("UINT32")], "`4294967295`", ""),
    mysql(
        "BIGINT",
        "INT8",
        &[plain("INT64")],
        "`-9223372036854775808`",
        "without UseLargeIntegerValue DMS prints long ones through a double: `9.22337203685478e+18` is quarantined, for its digits are gone",
    ),
    mysql("BIGINT UNSIGNED, SERIAL", "UINT8", &[plain("UINT64")], "`18446744073709551615`", "likewise"),
    mysql(
        "DECIMAL(p,s), NUMERIC(p,s)",
        "NUMERIC(p,s)",
        &[numeric(12, 2), numeric(30, 0), numeric(38, 20), numeric(65, 30), numeric(65, 0)],
        "`46.570000`, also as text",
        "the smallest type that holds every value exactly; STRING beyond 38 digits on either side of the point",
    ),
    mysql(
        "FLOAT",
        "REAL (DOUBLE)",
        &[plain("FLOAT"), plain("DOUBLE")],
        "`2.20000005`",
        "DMS prints nine digits, which tell every single-precision value apart: the number that was received is kept, not the shortest one that MySQL would print (2.2)",
    ),
    mysql("DOUBLE", "REAL8", &[plain("DOUBLE")], "`20.2`, `55`", "the nearest double to the text that was received"),
    mysql("BIT(1)", "BOOLEAN", &[plain("BOOL")], "`true`, `1`, `\"0x01\"`", ""),
    mysql(
        "BIT(n), n > 1",
        "BYTES(8)",
        &[plain("BYTES")],
        HEXADECIMAL,
        "the bytes, most significant first. INT64 is not possible: without `0x` nobody could tell hexadecimal from decimal digits",
    ),
    mysql(
        "CHAR, VARCHAR",
        "WSTRING",
        &[plain("WSTRING"), plain("STRING")],
        "text",
        "every character is kept. BigQuery compares by code point whatever the column's collation: `'abc' = 'ABC'` there is false here. A CHAR comes without the spaces at its end, as MySQL gives it",
    ),
    mysql("TINYTEXT, TEXT", "WSTRING", &[plain("WSTRING"), plain("TEXT")], "text", ""),
    mysql("MEDIUMTEXT, LONGTEXT", "NCLOB", &[plain("NCLOB")], "text", LIMITED_LOBS),
    mysql(
        "ENUM, SET",
        "STRING",
        &[plain("STRING"), plain("WSTRING")],
        "text, `\"a,b\"`",
        "of a SET the members with commas between them. The guide says full load only",
    ),
    mysql("BINARY, VARBINARY, TINYBLOB, BLOB", "BYTES", &[plain("BYTES")], HEXADECIMAL, ""),
    mysql("MEDIUMBLOB, LONGBLOB", "BLOB", &[plain("BLOB")], HEXADECIMAL, LIMITED_LOBS),
    mysql(
        "DATE",
        "DATE",
        &[plain("DATE32"), plain("DATE")],
        "`\"2018-01-02\"`",
        "`0000-00-00` and days such as `2024-00-00` are no days of BigQuery's: quarantined if DMS sends them; the guide says that it may send NULL",
    ),
    mysql(
        "DATETIME",
        "DATETIME",
        &[plain("DATETIME"), plain("TIMESTAMP")],
        "`\"2010-11-01T00:02:00.100000Z\"`",
        "the Z means nothing. A control record that says TIMESTAMP makes a TIMESTAMP, which then shows the wall clock as if it were UTC: nothing in the messages tells the two apart (see below)",
    ),
    mysql("TIMESTAMP", "DATETIME", &[plain("TIMESTAMP"), plain("DATETIME")], "`\"2010-11-01T00:02:00Z\"`", "in UTC"),
    mysql(
        "TIME",
        "STRING",
        &[plain("STRING"), plain("TIME")],
        "`\"-838:59:59\"`",
        "a duration of up to 838 hours: declare TIME if it never leaves a day",
    ),
    mysql(
        "JSON",
        "CLOB",
        &[plain("CLOB"), plain("NCLOB")],
        "a string that holds JSON text",
        "the text as received, with every digit: declare JSON for BigQuery's own type. As for LONGTEXT",
    ),
    mysql(
        "GEOMETRY, POINT, LINESTRING, POLYGON, MULTIPOINT, MULTILINESTRING, MULTIPOLYGON, GEOMETRYCOLLECTION",
        "BLOB",
        &[plain("BLOB")],
        HEXADECIMAL,
        "MySQL's own form: four bytes of SRID, then WKB, which `ST_GEOGFROMWKB(SUBSTR(c, 5))` reads",
    ),
    postgresql("SMALLINT, SMALLSERIAL", "INT2", &[plain("INT16")], "`-32768`", ""),
    postgresql("INTEGER, SERIAL", "INT4", &[plain("INT32")], "`2147483647`", ""),
    postgresql("BIGINT, BIGSERIAL", "INT8", &[plain("INT64")], "`9223372036854775807`", "as MySQL's"),
    postgresql(
        "NUMERIC(p,s), p ≤ 38",
        "NUMERIC(p,s)",
        &[numeric(12, 2), numeric(38, 9), numeric(38, 20)],
        "`46.570000`, also as text",
        "as MySQL's. NaN and the infinities are quarantined",
    ),
    postgresql(
        "NUMERIC(p,s), p > 38",
        "STRING",
        &[plain("STRING")],
        "text",
        "every digit: declare BIGNUMERIC if 38 digits on either side are enough",
    ),
    postgresql(
        "NUMERIC",
        "NUMERIC(28,6)",
        &[numeric(28, 6)],
        "`0.611111`",
        "**DMS itself cuts it off after six digits**, without a sign, unless the source endpoint's MapUnboundedNumericAsString is set; then it is a STRING with every digit. NUMERIC(28,6) becomes a NUMERIC without parameters, which also holds what more there may be",
    ),
    postgresql(
        "MONEY",
        "NUMERIC(38,4)",
        &[numeric(38, 4), plain("STRING")],
        "`12.3400`",
        "a text with a currency's sign stays as it is in a STRING",
    ),
    postgresql(
        "REAL",
        "REAL4",
        &[plain("FLOAT")],
        "`2.20000005`",
        "as MySQL's FLOAT. NaN and the infinities are kept if DMS sends them as text",
    ),
    postgresql("DOUBLE PRECISION", "REAL8", &[plain("DOUBLE")], "`20.2`, `55`", "likewise"),
    postgresql(
        "BOOLEAN",
        "CHAR(5)",
        &[plain("BOOL"), plain("STRING"), plain("WSTRING")],
        "`true`, `\"true\"`, `\"t\"`",
        "a control record that says STRING makes a STRING: declare BOOL",
    ),
    postgresql(
        "CHAR, VARCHAR, CITEXT",
        "WSTRING",
        &[plain("WSTRING"), plain("STRING")],
        "text",
        "every character is kept, the spaces at the end of a CHAR, too; as MySQL's of collations",
    ),
    postgresql("TEXT", "NCLOB", &[plain("NCLOB"), plain("TEXT")], "text", LIMITED_LOBS),
    postgresql("BYTEA", "BLOB", &[plain("BLOB"), plain("BYTES")], HEXADECIMAL, LIMITED_LOBS),
    postgresql(
        "DATE",
        "DATE",
        &[plain("DATE32")],
        "`\"2018-01-02\"`",
        "days before year 1 (BC), after 9999, and `infinity` are quarantined",
    ),
    postgresql(
        "TIME",
        "TIME",
        &[plain("TIME")],
        "`\"23:59:59.999999\"`",
        "`24:00:00` is a time there: declare TIME if it never occurs",
    ),
    postgresql(
        "TIME WITH TIME ZONE",
        "TIME",
        &[plain("TIME"), plain("STRING")],
        "`\"23:59:59+02\"`",
        "BigQuery has no such type",
    ),
    postgresql(
        "TIMESTAMP",
        "DATETIME",
        &[plain("TIMESTAMP"), plain("DATETIME")],
        "`\"2010-11-01T00:02:00.100000Z\"`",
        "as MySQL's DATETIME. BC, years beyond 9999 and `infinity` are quarantined",
    ),
    postgresql(
        "TIMESTAMP WITH TIME ZONE",
        "DATETIME",
        &[plain("TIMESTAMP"), plain("DATETIME")],
        "`\"2010-10-31T23:02:00.100000Z\"`",
        "in UTC; an offset is accepted",
    ),
    postgresql(
        "INTERVAL",
        "STRING(128)",
        &[plain("STRING")],
        "text",
        "months, days and seconds as PostgreSQL prints them",
    ),
    postgresql(
        "UUID, ENUM, INET, CIDR, MACADDR, BIT(n), BIT VARYING",
        "STRING",
        &[plain("STRING")],
        "text",
        "as PostgreSQL prints them; bits as `101`",
    ),
    postgresql(
        "JSON, JSONB",
        "NCLOB",
        &[plain("NCLOB")],
        "a string that holds JSON text",
        "the text as received, with every digit: declare JSON for BigQuery's own type. As for TEXT",
    ),
    postgresql(
        "ARRAY, HSTORE, COMPOSITE",
        "NCLOB",
        &[plain("NCLOB")],
        "text, `\"{1,NULL,3}\"`",
        "as PostgreSQL prints them: NULL, `{}` and `{NULL}` stay three values. REPEATED columns are not filled",
    ),
    postgresql(
        "INT4RANGE, INT8RANGE, NUMRANGE, TSRANGE, TSTZRANGE, DATERANGE",
        "STRING(255)",
        &[plain("STRING")],
        "text, `\"[1,10)\"`",
        "as PostgreSQL prints them",
    ),
    postgresql("XML, TSVECTOR, TSQUERY", "CLOB", &[plain("CLOB")], "text", LIMITED_LOBS),
    postgresql(
        "POINT, LINE, LSEG, BOX, CIRCLE",
        "STRING(255)",
        &[plain("STRING")],
        "text, `\"(1,2)\"`",
        "as PostgreSQL prints them",
    ),
    postgresql("PATH, POLYGON", "CLOB", &[plain("CLOB")], "text", LIMITED_LOBS),
    postgresql(
        "GEOMETRY, GEOGRAPHY (PostGIS)",
        "not listed",
        &[plain("NCLOB"), plain("STRING")],
        "text, hexadecimal EWKB",
        "as received, if DMS sends it at all",
    ),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn every_type_of_the_page_is_known_and_its_own_type_can_hold_it() {
        for row in SOURCE_TYPES {
            assert!(!row.dms.is_empty(), "{}", row.names);
            for (name, precision, scale) in row.dms {
                let kind = Kind::of(name).unwrap_or_else(|| panic!("{}: {name}", row.names));
                assert!(kind.fits(ColumnType::from_dms(name, *precision, *scale).unwrap()), "{}", row.names);
            }
        }
    }

    #[test]
    fn the_type_that_strait_makes_is_listed_first_and_text_can_hold_everything() {
        for kind in Kind::ALL {
            let made = kind.column_type(Some(12), Some(2));
            assert_eq!(kind.targets().first().unwrap().name, made.name(), "{kind:?}");
            assert!(kind.fits(ColumnType::String), "{kind:?}");
            assert!(DMS_TYPES.iter().any(|(of, _)| *of == kind), "{kind:?}");
        }
    }

    #[test]
    fn what_no_value_survives_does_not_fit() {
        for (kind, column_type) in [
            (Kind::Date, ColumnType::Int64),
            (Kind::Text, ColumnType::Bytes),
            (Kind::Binary, ColumnType::Int64),
            (Kind::Bool, ColumnType::NUMERIC),
            (Kind::Date, ColumnType::Timestamp),
            (Kind::Timestamp, ColumnType::Json),
        ] {
            assert!(!kind.fits(column_type), "{kind:?} {column_type:?}");
        }
    }
}
