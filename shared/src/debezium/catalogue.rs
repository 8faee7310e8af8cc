//! PostgreSQL's catalogue → a table's definition in the words of DMS's control records, for its connector sends none: which type a column has,
//! and how the connector writes its values in its default modes, by which changes without a schema are read.
//! It must never name an encoding that the catalogue leaves open: such a column is untold, and its values are for the quarantine.
//!
//! <https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-data-types>; types of the same meaning get the
//! same names as by a record's own schema ([`super::schema`]).

use std::fmt;

use super::encoding::{Encoded, MOST_BITS, MOST_DIGITS};
use super::schema::{DefinedColumn, DmsType, definition, plain};

/// The schema of PostgreSQL's own types. Types of extensions are in any.
const OWN_SCHEMA: &str = "pg_catalog";
/// The ranges that the connector knows. It knows no other, and no list of ranges as one value.
const RANGES: [&str; 6] = ["int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange"];
/// Money is a count of hundredths in 64 bits (`money.fraction.digits`, 2 unless set).
const MONEY: DmsType = ("NUMERIC", Some(19), Some(2));

/// A column as the catalogue has it, from which its domains are taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// The schema of its type; of a list's elements, where it is one.
    pub type_schema: String,
    /// The name of that type (`pg_type.typname`).
    pub type_name: String,
    /// What that type is.
    pub class: TypeClass,
    /// Whether it is a list of that type.
    pub is_list: bool,
    /// What is in parentheses behind the type, as `pg_attribute.atttypmod` has it; None where nothing is.
    pub modifier: Option<u32>,
    /// How many domains were taken off.
    pub domains: u32,
    /// Whether it may be NULL.
    pub is_nullable: bool,
    /// Whether it is computed from others.
    pub is_generated: bool,
}

/// What a type is (`pg_type.typtype`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeClass {
    /// One of PostgreSQL's own or an extension's.
    Base,
    /// One of a list of words.
    Enum,
    /// From one value to another.
    Range,
    /// A row, a list of ranges, the domain that a list's elements are of: the connector sends none of them.
    Other,
}

impl TypeClass {
    /// By the catalogue's letter.
    #[must_use]
    pub fn of(letter: &str) -> Self {
        match letter {
            "b" => Self::Base,
            "e" => Self::Enum,
            "r" => Self::Range,
            _ => Self::Other,
        }
    }
}

/// What the catalogue says of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDefinition {
    /// The `control` object of a control record, as JSON text.
    pub control: String,
    /// Of its columns those whose values cannot be told from what the connector writes.
    pub untold: Vec<String>,
    /// Columns that are not in it, because the connector does not send them.
    pub not_sent: Vec<(String, NotSent)>,
}

/// Why the connector does not send a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSent {
    /// `include.unknown.datatypes` is off unless set.
    UnknownType,
    /// The protocol leaves generated columns out, unless the publication of a PostgreSQL 18 says otherwise.
    Generated,
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownType => "Debezium does not know its type and does not send it (include.unknown.datatypes)",
            Self::Generated => "it is generated, and PostgreSQL's changes do not have it",
        })
    }
}

/// Why a table has no definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDefinable {
    /// There is nothing to define.
    #[error("Debezium sends none of its columns")]
    NoColumn,
    /// No row can be told from another.
    #[error("{column}, of its primary key, is not sent: {why}")]
    KeyNotSent {
        /// The column.
        column: String,
        /// Why.
        why: NotSent,
    },
}

/// The definition of a table with these columns, in the source's order, and this primary key, in the key's. `is_since_then`: it says nothing of
/// what was before the time that it is given, though no other may be known.
///
/// # Errors
/// When no change of the table could be applied by it.
pub fn define(attributes: &[Attribute], key: &[String], is_since_then: bool) -> Result<TableDefinition, NotDefinable> {
    let (mut columns, mut untold, mut not_sent) = (Vec::new(), Vec::new(), Vec::new());
    for attribute in attributes {
        let meaning = match attribute.is_generated {
            true => Err(NotSent::Generated),
            false => attribute.meaning().ok_or(NotSent::UnknownType),
        };
        match meaning {
            Ok((dms_type, encoded)) => {
                if encoded == Encoded::Untold {
                    untold.push(attribute.name.clone());
                }
                columns.push(DefinedColumn {
                    name: &attribute.name,
                    dms_type,
                    encoded: Some(encoded),
                    is_nullable: attribute.is_nullable,
                });
            }
            Err(why) if key.contains(&attribute.name) => {
                return Err(NotDefinable::KeyNotSent { column: attribute.name.clone(), why });
            }
            Err(why) => not_sent.push((attribute.name.clone(), why)),
        }
    }
    if columns.is_empty() {
        return Err(NotDefinable::NoColumn);
    }
    // It holds over what records say of themselves, as a statement does. Long values that did not change (TOAST) are not sent.
    let mut control = definition(columns.into_iter(), key, "statement", true);
    if is_since_then && control.pop().is_some() {
        control.push_str(r#","since-then":true}"#);
    }
    Ok(TableDefinition { control, untold, not_sent })
}

const fn as_it_is(name: &'static str) -> (DmsType, Encoded) {
    (plain(name), Encoded::Plain)
}

impl Attribute {
    /// What DMS would call the type, and how values are written; None of a type that the connector does not send.
    fn meaning(&self) -> Option<(DmsType, Encoded)> {
        if self.is_list { self.list() } else { self.single() }
    }

    fn single(&self) -> Option<(DmsType, Encoded)> {
        let is_own = self.type_schema == OWN_SCHEMA;
        match self.class {
            TypeClass::Enum => Some(as_it_is("STRING")),
            TypeClass::Range => (is_own && RANGES.contains(&self.type_name.as_str())).then(|| as_it_is("STRING")),
            TypeClass::Base if is_own => self.own(),
            TypeClass::Base => self.of_extension(),
            TypeClass::Other => None,
        }
    }

    /// One of PostgreSQL's own.
    fn own(&self) -> Option<(DmsType, Encoded)> {
        use Encoded::{
            Bytes, Days, Decimal, TimeMicroseconds, TimeMilliseconds, TimestampMicroseconds, TimestampMilliseconds,
        };
        Some(match self.type_name.as_str() {
            "bool" => as_it_is("BOOL"),
            "int2" => as_it_is("INT16"),
            "int4" => as_it_is("INT32"),
            "int8" | "oid" => as_it_is("INT64"),
            "float4" => as_it_is("FLOAT"),
            "float8" => as_it_is("DOUBLE"),
            "numeric" => self.numeric(),
            "money" => (MONEY, Decimal),
            "char" | "bpchar" | "varchar" | "text" | "name" | "uuid" | "inet" | "cidr" | "macaddr" | "macaddr8" => {
                as_it_is("STRING")
            }
            "xml" | "tsvector" => as_it_is("CLOB"),
            "json" | "jsonb" => as_it_is("NCLOB"),
            "bytea" => (plain("BLOB"), Bytes),
            "bit" | "varbit" => self.bits(),
            "date" => (plain("DATE32"), Days),
            "time" => (plain("TIME"), self.by_fraction(TimeMilliseconds, TimeMicroseconds)),
            "timestamp" => (plain("DATETIME"), self.by_fraction(TimestampMilliseconds, TimestampMicroseconds)),
            // Texts.
            "timetz" => as_it_is("TIME"),
            "timestamptz" => as_it_is("TIMESTAMP"),
            "interval" => (plain("STRING"), Encoded::Interval),
            // An object of WKB and SRID.
            "point" => as_it_is("BLOB"),
            _ => return None,
        })
    }

    /// An extension's. The connector, too, knows them by their names.
    fn of_extension(&self) -> Option<(DmsType, Encoded)> {
        Some(match self.type_name.as_str() {
            "citext" | "ltree" | "isbn" => as_it_is("STRING"),
            "hstore" | "vector" | "halfvec" | "sparsevec" => as_it_is("NCLOB"),
            "geometry" | "geography" => as_it_is("BLOB"),
            _ => return None,
        })
    }

    /// A list. Inside of one nothing is decoded, so only what is as it is can be told.
    fn list(&self) -> Option<(DmsType, Encoded)> {
        // What the connector itself lists as not implemented yet (its PostgresValueConverter).
        const NOT_SENT: [&str; 6] = ["money", "name", "interval", "varbit", "xml", "point"];
        // Objects and lists inside, and bits, of which one alone is true or false.
        const NOT_PLAIN: [&str; 7] = ["numeric", "bit", "geometry", "geography", "vector", "halfvec", "sparsevec"];
        let is_one_of = |names: &[&str]| self.class == TypeClass::Base && names.contains(&self.type_name.as_str());
        if is_one_of(&NOT_SENT) {
            return None;
        }
        let (_, encoded) = self.single()?;
        let is_told = encoded.is_plain() && !is_one_of(&NOT_PLAIN);
        Some((plain("NCLOB"), if is_told { Encoded::Plain } else { Encoded::Untold }))
    }

    /// Whether what is in parentheses may not be what the connector goes by: its documentation says that it does not know it of a domain over
    /// another domain.
    fn is_open(&self) -> bool {
        self.domains > 1 && self.modifier.is_some()
    }

    /// By the digits of a second's fraction: six where nothing is said.
    fn by_fraction(&self, milliseconds: Encoded, microseconds: Encoded) -> Encoded {
        match self.modifier {
            _ if self.is_open() => Encoded::Untold,
            Some(0..=3) => milliseconds,
            _ => microseconds,
        }
    }

    fn numeric(&self) -> (DmsType, Encoded) {
        // Without a precision each value comes with its own scale, in an object.
        let Some(modifier) = self.modifier else {
            return as_it_is("NUMERIC");
        };
        // `numeric_typmod_precision` and `numeric_typmod_scale` of PostgreSQL's numeric.c: 16 bits, and 11 with a sign; four more than they.
        let bits = modifier.saturating_sub(4);
        let (precision, scale) = (bits >> 16, bits & 0x7FF);
        if scale >= 0x400 {
            // A scale below zero is digits that are all 0 to the left of the point. The connector's driver reads another scale there.
            let left = 0x800_u32.saturating_sub(scale);
            return (("NUMERIC", Some(precision.saturating_add(left)), Some(0)), Encoded::Untold);
        }
        // With more digits after the point than there are, the first of them are 0.
        let precision = precision.max(scale);
        let is_told = precision <= MOST_DIGITS && !self.is_open();
        let encoded = if is_told { Encoded::Decimal } else { Encoded::Untold };
        (("NUMERIC", Some(precision), Some(scale)), encoded)
    }

    fn bits(&self) -> (DmsType, Encoded) {
        let told = |encoded: Encoded| if self.is_open() { Encoded::Untold } else { encoded };
        match self.modifier {
            // One bit is true or false.
            Some(1) => (plain("BOOL"), told(Encoded::Plain)),
            Some(bits @ 2..=MOST_BITS) => (("BYTES", Some(bits), None), told(Encoded::Bits)),
            bits => (("BYTES", bits, None), Encoded::Untold),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

    use serde_json::{Value, json};

    use super::*;

    fn attribute(type_name: &str) -> Attribute {
        Attribute {
            name: "c".to_owned(),
            type_schema: OWN_SCHEMA.to_owned(),
            type_name: type_name.to_owned(),
            class: TypeClass::Base,
            is_list: false,
            modifier: None,
            domains: 0,
            is_nullable: true,
            is_generated: false,
        }
    }

    fn with(type_name: &str, modifier: u32) -> Attribute {
        Attribute { modifier: Some(modifier), ..attribute(type_name) }
    }

    fn list(of: Attribute) -> Attribute {
        Attribute { is_list: true, ..of }
    }

    fn of_extension(type_name: &str) -> Attribute {
        Attribute { type_schema: "public".to_owned(), ..attribute(type_name) }
    }

    fn of_class(type_name: &str, class: TypeClass) -> Attribute {
        Attribute { class, ..of_extension(type_name) }
    }

    /// As PostgreSQL's `make_numeric_typmod` makes it.
    fn numeric(precision: u32, scale: i32) -> Attribute {
        with("numeric", ((precision << 16) | (scale.cast_unsigned() & 0x7FF)) + 4)
    }

    #[test]
    fn values_without_an_encoding_are_plain() {
        for (type_name, dms_type) in [
            ("bool", "BOOL"),
            ("int2", "INT16"),
            ("int4", "INT32"),
            ("int8", "INT64"),
            ("oid", "INT64"),
            ("float4", "FLOAT"),
            ("float8", "DOUBLE"),
            ("bpchar", "STRING"),
            ("varchar", "STRING"),
            ("uuid", "STRING"),
            ("inet", "STRING"),
            ("xml", "CLOB"),
            ("jsonb", "NCLOB"),
            ("timestamptz", "TIMESTAMP"),
            ("timetz", "TIME"),
            ("point", "BLOB"),
            // An object of scale and value.
            ("numeric", "NUMERIC"),
        ] {
            assert_eq!(attribute(type_name).meaning(), Some(as_it_is(dms_type)), "{type_name}");
        }
        for (type_name, dms_type) in
            [("citext", "STRING"), ("ltree", "STRING"), ("hstore", "NCLOB"), ("vector", "NCLOB"), ("geometry", "BLOB")]
        {
            assert_eq!(of_extension(type_name).meaning(), Some(as_it_is(dms_type)), "{type_name}");
            assert_eq!(attribute(type_name).meaning(), None, "none of PostgreSQL's own: {type_name}");
        }
        assert_eq!(of_class("mood", TypeClass::Enum).meaning(), Some(as_it_is("STRING")));
        let own_range = Attribute { class: TypeClass::Range, ..attribute("numrange") };
        assert_eq!(own_range.meaning(), Some(as_it_is("STRING")));
        assert_eq!(with("varchar", 44).meaning(), Some(as_it_is("STRING")));
        assert_eq!(with("timestamptz", 3).meaning(), Some(as_it_is("TIMESTAMP")));
    }

    #[test]
    fn what_debezium_does_not_send_is_not_defined() {
        for type_name in
            ["tsquery", "line", "lseg", "box", "circle", "path", "polygon", "pg_lsn", "xid", "int2vector", "jsonpath"]
        {
            assert_eq!(attribute(type_name).meaning(), None, "{type_name}");
        }
        assert_eq!(of_class("pair", TypeClass::Other).meaning(), None);
        assert_eq!(of_class("hours", TypeClass::Range).meaning(), None, "a range of one's own");
        assert_eq!(of_extension("numeric").meaning(), None, "a type of one's own");
        assert_eq!(TypeClass::of("m"), TypeClass::Other);
        assert_eq!(TypeClass::of("d"), TypeClass::Other);
    }

    #[test]
    fn times_are_counted_by_the_digits_of_their_fraction() {
        for (modifier, time, timestamp) in [
            (Some(0), Encoded::TimeMilliseconds, Encoded::TimestampMilliseconds),
            (Some(3), Encoded::TimeMilliseconds, Encoded::TimestampMilliseconds),
            (Some(4), Encoded::TimeMicroseconds, Encoded::TimestampMicroseconds),
            (Some(6), Encoded::TimeMicroseconds, Encoded::TimestampMicroseconds),
            (None, Encoded::TimeMicroseconds, Encoded::TimestampMicroseconds),
        ] {
            let of = |type_name: &str| Attribute { modifier, ..attribute(type_name) }.meaning();
            assert_eq!(of("time"), Some((plain("TIME"), time)), "{modifier:?}");
            assert_eq!(of("timestamp"), Some((plain("DATETIME"), timestamp)), "{modifier:?}");
        }
        assert_eq!(attribute("date").meaning(), Some((plain("DATE32"), Encoded::Days)));
        assert_eq!(attribute("interval").meaning(), Some((plain("STRING"), Encoded::Interval)));
    }

    #[test]
    fn decimals_have_their_digits() {
        let of = |precision, scale| numeric(precision, scale).meaning().unwrap();
        let decimal = |precision, scale| ("NUMERIC", Some(precision), Some(scale));
        assert_eq!(of(12, 2), (decimal(12, 2), Encoded::Decimal));
        assert_eq!(of(50, 0), (decimal(50, 0), Encoded::Decimal));
        assert_eq!(of(76, 38), (decimal(76, 38), Encoded::Decimal));
        assert_eq!(of(77, 0), (decimal(77, 0), Encoded::Untold));
        assert_eq!(of(1000, 1000), (decimal(1000, 1000), Encoded::Untold));
        // 0.00999 is the largest.
        assert_eq!(of(3, 5), (decimal(5, 5), Encoded::Decimal));
        assert_eq!(of(5, -2), (decimal(7, 0), Encoded::Untold));
        assert_eq!(of(1, -1000), (decimal(1001, 0), Encoded::Untold));
        assert_eq!(attribute("money").meaning(), Some((decimal(19, 2), Encoded::Decimal)));
    }

    #[test]
    fn bits_are_told_by_their_number() {
        for type_name in ["bit", "varbit"] {
            assert_eq!(with(type_name, 1).meaning(), Some(as_it_is("BOOL")));
            assert_eq!(with(type_name, 5).meaning(), Some((("BYTES", Some(5), None), Encoded::Bits)));
            assert_eq!(with(type_name, 64).meaning(), Some((("BYTES", Some(64), None), Encoded::Bits)));
            assert_eq!(with(type_name, 65).meaning(), Some((("BYTES", Some(65), None), Encoded::Untold)));
            assert_eq!(attribute(type_name).meaning(), Some((plain("BYTES"), Encoded::Untold)));
        }
        assert_eq!(attribute("bytea").meaning(), Some((plain("BLOB"), Encoded::Bytes)));
    }

    #[test]
    fn of_lists_only_those_of_plain_values_are_told() {
        let told = |of: Attribute| list(of).meaning().map(|(_, encoded)| encoded.is_plain());
        for type_name in ["int4", "text", "bool", "float8", "uuid", "jsonb", "timestamptz", "inet"] {
            assert_eq!(told(attribute(type_name)), Some(true), "{type_name}");
            assert_eq!(list(attribute(type_name)).meaning().unwrap().0, plain("NCLOB"));
        }
        assert_eq!(told(of_extension("citext")), Some(true));
        assert_eq!(told(of_class("mood", TypeClass::Enum)), Some(true));
        for type_name in ["numeric", "bytea", "date", "time", "timestamp", "bit"] {
            assert_eq!(told(attribute(type_name)), Some(false), "{type_name}");
        }
        assert_eq!(told(numeric(10, 2)), Some(false));
        assert_eq!(told(with("bit", 1)), Some(false));
        assert_eq!(told(of_extension("geometry")), Some(false));
        for type_name in ["money", "name", "interval", "varbit", "xml", "point", "box"] {
            assert_eq!(told(attribute(type_name)), None, "{type_name}");
        }
        assert_eq!(told(of_class("price", TypeClass::Other)), None, "elements of a domain");
    }

    #[test]
    fn behind_two_domains_no_length_is_sure() {
        let behind = |domains, of: Attribute| Attribute { domains, ..of }.meaning().unwrap().1;
        for of in [numeric(10, 2), with("time", 3), with("timestamp", 6), with("bit", 5), with("varbit", 1)] {
            assert_ne!(behind(1, of.clone()), Encoded::Untold, "{of:?}");
            assert_eq!(behind(2, of.clone()), Encoded::Untold, "{of:?}");
        }
        for of in [attribute("timestamp"), attribute("date"), with("varchar", 14), attribute("numeric")] {
            assert_ne!(behind(2, of.clone()), Encoded::Untold, "{of:?}");
        }
    }

    #[test]
    fn a_definition_has_what_is_sent_in_the_sources_order() {
        let named = |name: &str, of: Attribute| Attribute { name: name.to_owned(), ..of };
        let attributes = [
            named("z", Attribute { is_nullable: false, ..attribute("int8") }),
            named("a \"1\"", numeric(12, 2)),
            named("area", Attribute { is_generated: true, ..attribute("int4") }),
            named("days", list(attribute("date"))),
            named("shape", attribute("polygon")),
            named("flags", with("bit", 5)),
        ];
        let defined = define(&attributes, &["z".to_owned()], false).unwrap();
        let control: Value = serde_json::from_str(&defined.control).unwrap();
        assert_eq!(
            control,
            json!({
                "table-def": {
                    "columns": {
                        "z": {"type": "INT64", "nullable": false},
                        "a \"1\"": {"type": "NUMERIC", "precision": 12, "scale": 2, "nullable": true, "encoded": "decimal"},
                        "days": {"type": "NCLOB", "nullable": true, "encoded": "untold"},
                        "flags": {"type": "BYTES", "precision": 5, "scale": 0, "nullable": true, "encoded": "bits"},
                    },
                    "primary-key": ["z"],
                },
                "debezium-read-from": "statement",
                "tells-encodings": true,
                "partial-images": true,
            })
        );
        let places: Vec<usize> =
            ["\"z\"", "\"a \\\"1", "days", "flags"].iter().map(|name| defined.control.find(name).unwrap()).collect();
        assert!(places.is_sorted(), "{}", defined.control);
        assert_eq!(defined.untold, ["days"]);
        let not_sent = [("area".to_owned(), NotSent::Generated), ("shape".to_owned(), NotSent::UnknownType)];
        assert_eq!(defined.not_sent, not_sent);
    }

    #[test]
    fn what_no_change_can_be_applied_by_is_no_definition() {
        let generated = Attribute { is_generated: true, ..attribute("int4") };
        let error = define(&[attribute("polygon")], &[], false).unwrap_err();
        assert_eq!(error, NotDefinable::NoColumn);
        let other = Attribute { name: "other".to_owned(), ..attribute("int4") };
        let error = define(&[other, generated], &["c".to_owned()], false).unwrap_err();
        assert_eq!(error, NotDefinable::KeyNotSent { column: "c".to_owned(), why: NotSent::Generated });
    }
}
