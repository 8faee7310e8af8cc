//! A proposal from the source's own catalogue: the query for a person to run there, its output read, and each column's
//! type as DMS would send it, which the one type map then turns into BigQuery's. What is not known becomes STRING, and says so.

use crate::merge::types::ColumnType;
use crate::merge::types::map::Engine;

use super::create_table::ProposedColumn;

/// The columns of the output, in any order.
const EXPECTED: [&str; 5] = ["column_name", "data_type", "numeric_precision", "numeric_scale", "key_position"];

/// Why the output cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CatalogueError {
    /// A column of the output is missing.
    #[error(
        "the columns' list has no {missing}: give the output of the query that --print-query prints, with its header, as CSV, TSV or JSON"
    )]
    Header {
        /// What is missing.
        missing: &'static str,
    },
    /// A row is not like the header.
    #[error("row {row} of the columns' list does not have as many fields as its header")]
    Row {
        /// Counted from 1, without the header.
        row: usize,
    },
    /// JSON that is no list of objects.
    #[error("the columns' list is no JSON array of objects")]
    Json,
    /// No row.
    #[error("the columns' list is empty: is the table's name right, and may the user see it?")]
    Empty,
}

/// A column as the source's catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueColumn {
    /// Its name.
    pub name: String,
    /// Its type, as the query gives it.
    pub data_type: String,
    /// Digits of a decimal.
    pub precision: Option<u32>,
    /// Of them after the point.
    pub scale: Option<u32>,
    /// Its place in the primary key, from 1.
    pub key_position: Option<u32>,
}

/// The query to run at the source.
pub fn query(engine: Engine, schema: &str, table: &str) -> String {
    let (schema, table) = (literal(engine, schema), literal(engine, table));
    match engine {
        Engine::MySql => format!(
            "SELECT c.COLUMN_NAME AS column_name, c.COLUMN_TYPE AS data_type, c.NUMERIC_PRECISION AS numeric_precision,\n       \
             c.NUMERIC_SCALE AS numeric_scale, k.ORDINAL_POSITION AS key_position\n\
             FROM information_schema.COLUMNS c\n\
             LEFT JOIN information_schema.KEY_COLUMN_USAGE k\n  \
             ON k.CONSTRAINT_NAME = 'PRIMARY' AND k.TABLE_SCHEMA = c.TABLE_SCHEMA\n  \
             AND k.TABLE_NAME = c.TABLE_NAME AND k.COLUMN_NAME = c.COLUMN_NAME\n\
             WHERE c.TABLE_SCHEMA = {schema} AND c.TABLE_NAME = {table}\n\
             ORDER BY c.ORDINAL_POSITION;\n"
        ),
        Engine::PostgreSql => format!(
            "SELECT c.column_name, CASE c.data_type WHEN 'USER-DEFINED' THEN c.udt_name ELSE c.data_type END AS data_type,\n       \
             c.numeric_precision, c.numeric_scale, k.ordinal_position AS key_position\n\
             FROM information_schema.columns c\n\
             LEFT JOIN (\n  \
             SELECT u.table_schema, u.table_name, u.column_name, u.ordinal_position\n  \
             FROM information_schema.table_constraints t\n  \
             JOIN information_schema.key_column_usage u USING (constraint_schema, constraint_name, table_schema, table_name)\n  \
             WHERE t.constraint_type = 'PRIMARY KEY'\n\
             ) k ON k.table_schema = c.table_schema AND k.table_name = c.table_name AND k.column_name = c.column_name\n\
             WHERE c.table_schema = {schema} AND c.table_name = {table}\n\
             ORDER BY c.ordinal_position;\n"
        ),
    }
}

/// A text of the source's SQL.
fn literal(engine: Engine, text: &str) -> String {
    let doubled = text.replace('\'', "''");
    match engine {
        Engine::MySql => format!("'{}'", doubled.replace('\\', "\\\\")),
        Engine::PostgreSql => format!("'{doubled}'"),
    }
}

/// Reads the query's output: a JSON array of objects, or rows of text separated by TABs or commas under a header.
///
/// # Errors
/// [`CatalogueError`].
pub fn read(output: &str) -> Result<Vec<CatalogueColumn>, CatalogueError> {
    let output = output.trim_start_matches('\u{feff}');
    let rows = if output.trim_start().starts_with(['[', '{']) { json_rows(output)? } else { text_rows(output)? };
    if rows.is_empty() {
        return Err(CatalogueError::Empty);
    }
    Ok(rows)
}

fn column([name, data_type, precision, scale, key_position]: [String; 5]) -> CatalogueColumn {
    CatalogueColumn {
        name,
        data_type,
        precision: precision.parse().ok(),
        scale: scale.parse().ok(),
        key_position: key_position.parse().ok(),
    }
}

fn json_rows(output: &str) -> Result<Vec<CatalogueColumn>, CatalogueError> {
    let rows: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_str(output).map_err(|_| CatalogueError::Json)?;
    rows.iter()
        .map(|row| {
            let mut fields = EXPECTED.map(|_| String::new());
            for (field, name) in fields.iter_mut().zip(EXPECTED) {
                let value = row.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
                *field = match value {
                    None => return Err(CatalogueError::Header { missing: name }),
                    Some(serde_json::Value::String(text)) => text.clone(),
                    Some(serde_json::Value::Null) => String::new(),
                    Some(other) => other.to_string(),
                };
            }
            Ok(column(fields))
        })
        .collect()
}

fn text_rows(output: &str) -> Result<Vec<CatalogueColumn>, CatalogueError> {
    let first = output.lines().next().unwrap_or_default();
    let mut rows = if first.contains('\t') {
        output.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    } else {
        csv_rows(output)
    };
    rows.retain(|row: &Vec<String>| row.iter().any(|field| !field.trim().is_empty()));
    let mut rows = rows.into_iter();
    let header = rows.next().unwrap_or_default();
    let mut places = [0_usize; EXPECTED.len()];
    for (place, name) in places.iter_mut().zip(EXPECTED) {
        let found = header.iter().position(|field| field.trim().eq_ignore_ascii_case(name));
        *place = found.ok_or(CatalogueError::Header { missing: name })?;
    }
    rows.enumerate()
        .map(|(row, fields)| {
            if fields.len() != header.len() {
                return Err(CatalogueError::Row { row: row.saturating_add(1) });
            }
            Ok(column(places.map(|place| fields.get(place).cloned().unwrap_or_default())))
        })
        .collect()
}

/// Rows of comma-separated fields; one in quotation marks may hold commas, line breaks, and marks written twice.
fn csv_rows(output: &str) -> Vec<Vec<String>> {
    let mut rows = vec![vec![String::new()]];
    let mut quoted = false;
    let mut characters = output.chars().peekable();
    while let Some(c) = characters.next() {
        let Some(row) = rows.last_mut() else { break };
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                push(row, '"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(String::new()),
            '\r' if !quoted => {}
            '\n' if !quoted => rows.push(vec![String::new()]),
            c => push(row, c),
        }
    }
    rows
}

fn push(row: &mut [String], c: char) {
    if let Some(field) = row.last_mut() {
        field.push(c);
    }
}

/// The proposed columns and the places of the key's, in key order.
pub fn propose(engine: Engine, columns: &[CatalogueColumn]) -> (Vec<ProposedColumn>, Vec<usize>) {
    let proposed = columns
        .iter()
        .map(|column| {
            let mut comments = vec![format!("{} in the source", column.data_type)];
            let column_type = match dms_type(engine, column) {
                Some((dms_type, precision, scale)) => {
                    ColumnType::from_dms(dms_type, precision, scale).unwrap_or(ColumnType::String)
                }
                None => {
                    comments.push("The type is not known here; STRING holds whatever DMS sends.".to_owned());
                    ColumnType::String
                }
            };
            ProposedColumn { member: column.name.clone(), column_type, comments }
        })
        .collect();
    let mut key: Vec<(u32, usize)> = columns
        .iter()
        .enumerate()
        .filter_map(|(place, column)| column.key_position.map(|position| (position, place)))
        .collect();
    key.sort_unstable();
    (proposed, key.into_iter().map(|(_, place)| place).collect())
}

/// DMS's type of a source column, with precision and scale, by its user guide.
fn dms_type(engine: Engine, column: &CatalogueColumn) -> Option<(&'static str, Option<u32>, Option<u32>)> {
    let full = column.data_type.trim().to_ascii_lowercase();
    let name = full.split(['(', ' ']).next().unwrap_or_default();
    let is_unsigned = full.contains("unsigned");
    let decimal = Some(("NUMERIC", column.precision, column.scale));
    let plain = match engine {
        Engine::MySql => match name {
            "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "year" => "INT32",
            "bigint" | "serial" if is_unsigned || name == "serial" => "UINT64",
            "bigint" => "INT64",
            "decimal" | "numeric" => return decimal,
            "float" | "double" | "real" => "DOUBLE",
            "bit" if full == "bit(1)" => "BOOL",
            "bit" => "BYTES",
            "date" => "DATE",
            "datetime" => "DATETIME",
            "timestamp" => "TIMESTAMP",
            "time" => "TIME",
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set" | "json" => "STRING",
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "geometry" | "point"
            | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon" | "geometrycollection"
            | "geomcollection" => "BYTES",
            _ => return None,
        },
        Engine::PostgreSql => match name {
            "smallint" | "integer" => "INT32",
            "bigint" => "INT64",
            // DMS sends a numeric without a precision with six digits after the point, or as text: STRING holds either.
            "numeric" if column.precision.is_none() => "STRING",
            // It sends one with more than 38 digits as text.
            "numeric" if column.precision.is_some_and(|precision| precision > 38) => "STRING",
            "numeric" => return decimal,
            "money" => return Some(("NUMERIC", Some(38), Some(4))),
            "real" | "double" => "DOUBLE",
            "boolean" => "BOOL",
            "bytea" => "BYTES",
            "date" => "DATE",
            "timestamp" if full.contains("with time zone") && !full.contains("without") => "TIMESTAMP",
            "timestamp" => "DATETIME",
            "time" => "TIME",
            "character" | "text" | "citext" | "interval" | "uuid" | "inet" | "cidr" | "macaddr" | "macaddr8"
            | "bit" | "json" | "jsonb" | "array" | "hstore" | "xml" | "tsvector" | "tsquery" | "int4range"
            | "int8range" | "numrange" | "tsrange" | "tstzrange" | "daterange" | "point" | "line" | "lseg" | "box"
            | "circle" | "path" | "polygon" | "geometry" | "geography" => "STRING",
            _ => return None,
        },
    };
    Some((plain, None, None))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;
    use crate::merge::types::map::SOURCE_TYPES;

    fn of(engine: Engine, data_type: &str, precision: Option<u32>, scale: Option<u32>) -> String {
        let column =
            CatalogueColumn { name: "c".into(), data_type: data_type.into(), precision, scale, key_position: None };
        let (columns, _) = propose(engine, &[column]);
        columns.first().unwrap().column_type.sql()
    }

    #[test]
    fn mysql_types_become_what_the_type_map_makes_of_them() {
        let of = |data_type, precision, scale| of(Engine::MySql, data_type, precision, scale);
        assert_eq!(of("int unsigned", Some(10), Some(0)), "INT64");
        assert_eq!(of("bigint(20) unsigned", Some(20), Some(0)), "NUMERIC(20)");
        assert_eq!(of("decimal(12,2)", Some(12), Some(2)), "NUMERIC(12, 2)");
        assert_eq!(of("decimal(65,0)", Some(65), Some(0)), "STRING");
        assert_eq!(of("bit(1)", Some(1), None), "BOOL");
        assert_eq!(of("bit(8)", Some(8), None), "BYTES");
        assert_eq!(of("datetime(6)", None, None), "DATETIME");
        assert_eq!(of("timestamp", None, None), "TIMESTAMP");
        assert_eq!(of("time(3)", None, None), "STRING");
        assert_eq!(of("enum('a','b')", None, None), "STRING");
        assert_eq!(of("varbinary(16)", None, None), "BYTES");
        assert_eq!(of("double unsigned", Some(22), None), "FLOAT64");
    }

    #[test]
    fn postgresql_types_likewise() {
        let of = |data_type, precision, scale| of(Engine::PostgreSql, data_type, precision, scale);
        assert_eq!(of("character varying", None, None), "STRING");
        assert_eq!(of("timestamp without time zone", None, None), "DATETIME");
        assert_eq!(of("timestamp with time zone", None, None), "TIMESTAMP");
        assert_eq!(of("time without time zone", None, None), "STRING");
        assert_eq!(of("numeric", Some(38), Some(9)), "NUMERIC");
        assert_eq!(of("numeric", None, None), "STRING");
        assert_eq!(of("double precision", Some(53), None), "FLOAT64");
        assert_eq!(of("ARRAY", None, None), "STRING");
        assert_eq!(of("bytea", None, None), "BYTES");
    }

    /// The one map says more of each type; here none of its types may be missing.
    #[test]
    fn every_type_of_the_map_is_known_and_becomes_one_of_the_maps() {
        for row in SOURCE_TYPES {
            for name in row.names.split(", ").filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase())) {
                // What a catalogue calls by another name.
                let name = match name.trim_end_matches(" (PostGIS)") {
                    "SMALLSERIAL" => "smallint",
                    "SERIAL" if row.engine == Engine::PostgreSql => "integer",
                    "BIGSERIAL" => "bigint",
                    "CHAR" if row.engine == Engine::PostgreSql => "character",
                    "VARCHAR" if row.engine == Engine::PostgreSql => "character varying",
                    "BOOL" if row.engine == Engine::MySql => "tinyint(1)",
                    // The type's own name, which nobody can foresee.
                    "ENUM" | "COMPOSITE" if row.engine == Engine::PostgreSql => continue,
                    name => name,
                };
                let (precision, scale) = row.dms.first().map(|(_, precision, scale)| (*precision, *scale)).unwrap();
                let column = CatalogueColumn {
                    name: "c".into(),
                    data_type: name.to_owned(),
                    precision,
                    scale,
                    key_position: None,
                };
                let Some((dms, precision, scale)) = dms_type(row.engine, &column) else {
                    panic!("{name} of {:?} is not known", row.engine)
                };
                let made = ColumnType::from_dms(dms, precision, scale).unwrap();
                let is_one_of_the_maps = row
                    .dms
                    .iter()
                    .any(|(dms, precision, scale)| ColumnType::from_dms(dms, *precision, *scale).unwrap() == made);
                assert!(is_one_of_the_maps || made == ColumnType::String, "{name} of {:?}: {made:?}", row.engine);
            }
        }
    }

    const EXPECTED_COLUMNS: [(&str, Option<u32>); 3] = [("id", Some(2)), ("tenant", Some(1)), ("note, long", None)];

    fn read_back(output: &str) -> Vec<(String, Option<u32>)> {
        read(output).unwrap().into_iter().map(|column| (column.name, column.key_position)).collect()
    }

    #[test]
    fn the_output_is_read_in_each_of_its_forms() {
        let expected = EXPECTED_COLUMNS.map(|(name, position)| (name.to_owned(), position));
        let tsv = "COLUMN_NAME\tDATA_TYPE\tNUMERIC_PRECISION\tNUMERIC_SCALE\tKEY_POSITION\r\n\
                   id\tint\t10\t0\t2\r\ntenant\tint\t10\t0\t1\r\nnote, long\tdecimal(3,1)\t3\t1\tNULL\r\n"
            .replace('\r', "");
        assert_eq!(read_back(&tsv), expected);
        let csv = "column_name,data_type,numeric_precision,numeric_scale,key_position\r\n\
                   id,int,10,0,2\r\ntenant,int,10,0,1\r\n\"note, long\",\"decimal(3,1)\",3,1,\r\n";
        assert_eq!(read_back(csv), expected);
        let json = r#"[{"column_name":"id","data_type":"int","numeric_precision":10,"numeric_scale":0,"key_position":2},
            {"column_name":"tenant","data_type":"int","numeric_precision":"10","numeric_scale":"0","key_position":"1"},
            {"column_name":"note, long","data_type":"decimal(3,1)","numeric_precision":3,"numeric_scale":1,"key_position":null}]"#;
        assert_eq!(read_back(json), expected);
        let (columns, key) = propose(Engine::MySql, &read(csv).unwrap());
        assert_eq!(key, [1, 0]);
        assert_eq!(columns.last().unwrap().column_type.sql(), "NUMERIC(3, 1)");
    }

    #[test]
    fn output_that_cannot_be_used_says_why() {
        assert_eq!(read("a,b\n1,2\n"), Err(CatalogueError::Header { missing: "column_name" }));
        let header = "column_name,data_type,numeric_precision,numeric_scale,key_position\n";
        assert_eq!(read(header), Err(CatalogueError::Empty));
        assert_eq!(read(&format!("{header}id,int\n")), Err(CatalogueError::Row { row: 1 }));
        assert_eq!(read("[1]"), Err(CatalogueError::Json));
        assert_eq!(read("[{}]"), Err(CatalogueError::Header { missing: "column_name" }));
    }

    #[test]
    fn the_query_holds_the_names_as_texts() {
        let query = query(Engine::MySql, "it's", "a\\b");
        assert!(query.contains(r"'it''s'") && query.contains(r"'a\\b'"), "{query}");
    }
}
