//! Compares a final table with what the source holds. Cells are compared as canonical text, so that `1.50` and `1.5` of a NUMERIC
//! are one value and `1.50` and `1.5` of a STRING are two. It must never forgive a difference: what it cannot canonicalise it
//! compares as it stands.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::embedded_bigquery::QueryResult;

/// Strait's own columns begin with this.
const OWN_COLUMNS: &str = "_strait_";

/// A row's cells; None is NULL.
pub type Row = Vec<Option<String>>;

/// What `expected.json` holds: the source's tables at the end of the history.
#[derive(Debug, Clone, Deserialize)]
pub struct ExpectedTables {
    /// The tables.
    pub tables: Vec<ExpectedTable>,
}

/// A table as the source holds it.
#[derive(Debug, Clone, Deserialize)]
pub struct ExpectedTable {
    /// `schema.table` at the source.
    pub source: String,
    /// `dataset.table` in BigQuery.
    #[serde(rename = "final")]
    pub final_table: String,
    /// The primary key's columns. Empty: rows are compared whole.
    #[serde(default)]
    pub key: Vec<String>,
    /// The columns.
    pub columns: Vec<ExpectedColumn>,
    /// The rows, in canonical text.
    pub rows: Vec<Row>,
}

/// A column of the final table.
#[derive(Debug, Clone, Deserialize)]
pub struct ExpectedColumn {
    /// Its name.
    pub name: String,
    /// Its type in GoogleSQL's name.
    #[serde(rename = "type")]
    pub column_type: String,
}

/// One row that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowDifference {
    /// The row's key cells.
    pub key: Row,
    /// Per differing column: its name, the source's cell, the final table's.
    pub columns: Vec<(String, Option<String>, Option<String>)>,
}

/// The outcome for one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// How many rows the source holds.
    pub source_rows: usize,
    /// How many rows the final table holds.
    pub final_rows: usize,
    /// How many of them are equal.
    pub equal_rows: usize,
    /// What the two tables' columns differ in, in words.
    pub column_differences: Vec<String>,
    /// Keys of rows that only the source holds.
    pub only_in_source: Vec<Row>,
    /// Keys of rows that only the final table holds.
    pub only_in_final: Vec<Row>,
    /// Rows that both hold, with different cells.
    pub different: Vec<RowDifference>,
}

impl Comparison {
    /// Whether the final table equals the source.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.column_differences.is_empty()
            && self.only_in_source.is_empty()
            && self.only_in_final.is_empty()
            && self.different.is_empty()
    }
}

/// Compares the rows as multisets per key. Strait's own columns do not count; column names are compared as BigQuery does, without
/// regard to case.
#[must_use]
pub fn compare(expected: &ExpectedTable, found: &QueryResult) -> Comparison {
    let mut comparison = Comparison {
        source_rows: expected.rows.len(),
        final_rows: found.rows.len(),
        column_differences: column_differences(expected, found),
        ..Comparison::default()
    };
    let names: Vec<&str> = expected.columns.iter().map(|column| column.name.as_str()).collect();
    let mut sides: BTreeMap<Row, (Vec<Row>, Vec<Row>)> = BTreeMap::new();
    for row in &expected.rows {
        let row = expected_row(expected, row);
        sides.entry(key_of(expected, &row)).or_default().0.push(row);
    }
    let found_rows = canonical_rows(expected, found);
    for row in found_rows {
        sides.entry(key_of(expected, &row)).or_default().1.push(row);
    }
    for (key, (source, mut final_rows)) in sides {
        let mut unmatched = Vec::new();
        for row in source {
            match final_rows.iter().position(|other| *other == row) {
                Some(same) => {
                    final_rows.swap_remove(same);
                    comparison.equal_rows = comparison.equal_rows.saturating_add(1);
                }
                None => unmatched.push(row),
            }
        }
        let mut others = final_rows.into_iter();
        for row in unmatched {
            match others.next() {
                Some(other) => comparison
                    .different
                    .push(RowDifference { key: key.clone(), columns: cell_differences(&names, &row, &other) }),
                None => comparison.only_in_source.push(key.clone()),
            }
        }
        comparison.only_in_final.extend(others.map(|_| key.clone()));
    }
    comparison
}

/// The final table's rows in the order of the expected columns and in canonical text; a column that it lacks is NULL throughout.
#[must_use]
pub fn canonical_rows(expected: &ExpectedTable, found: &QueryResult) -> Vec<Row> {
    let places: Vec<Option<(usize, &str)>> = expected
        .columns
        .iter()
        .map(|column| {
            let place = found.columns.iter().position(|other| other.name.eq_ignore_ascii_case(&column.name))?;
            Some((place, found.columns.get(place)?.column_type.as_str()))
        })
        .collect();
    found
        .rows
        .iter()
        .map(|row| {
            places
                .iter()
                .map(|place| {
                    let (index, column_type) = (*place)?;
                    row.get(index)?.as_deref().map(|cell| canonical_of_rest(column_type, cell))
                })
                .collect()
        })
        .collect()
}

/// The key cells of a row whose cells are in the order of the expected columns.
#[must_use]
pub fn key_of(expected: &ExpectedTable, row: &Row) -> Row {
    if expected.key.is_empty() {
        return row.clone();
    }
    expected
        .key
        .iter()
        .map(|name| {
            let place = expected.columns.iter().position(|column| column.name == *name)?;
            row.get(place).cloned().flatten()
        })
        .collect()
}

/// A row of `expected.json` in canonical text, which it should be in already.
#[must_use]
pub fn expected_row(expected: &ExpectedTable, row: &Row) -> Row {
    expected
        .columns
        .iter()
        .enumerate()
        .map(|(place, column)| {
            let cell = row.get(place)?.as_deref()?;
            Some(canonical_text(&column.column_type, cell))
        })
        .collect()
}

fn cell_differences(names: &[&str], source: &Row, found: &Row) -> Vec<(String, Option<String>, Option<String>)> {
    names
        .iter()
        .zip(source.iter().zip(found))
        .filter(|(_, (source, found))| source != found)
        .map(|(name, (source, found))| ((*name).to_owned(), source.clone(), found.clone()))
        .collect()
}

fn column_differences(expected: &ExpectedTable, found: &QueryResult) -> Vec<String> {
    let mut differences = Vec::new();
    for column in &expected.columns {
        let other = found.columns.iter().find(|other| other.name.eq_ignore_ascii_case(&column.name));
        match other {
            None => differences.push(format!("the column {} is missing", column.name)),
            Some(other) if plain_type(&other.column_type) != plain_type(&column.column_type) => {
                differences.push(format!(
                    "the column {} is {} and should be {}",
                    column.name, other.column_type, column.column_type
                ));
            }
            Some(_) => {}
        }
    }
    let known: BTreeSet<String> = expected.columns.iter().map(|column| column.name.to_ascii_lowercase()).collect();
    for column in &found.columns {
        let name = column.name.to_ascii_lowercase();
        if !name.starts_with(OWN_COLUMNS) && !known.contains(&name) {
            differences.push(format!("the column {} is not the source's", column.name));
        }
    }
    differences
}

/// `NUMERIC(10, 2)` → `NUMERIC`, `INTEGER` → `INT64`.
fn plain_type(column_type: &str) -> String {
    let bare = column_type.split('(').next().unwrap_or_default().trim().to_ascii_uppercase();
    match bare.as_str() {
        "INTEGER" => "INT64",
        "FLOAT" => "FLOAT64",
        "BOOLEAN" => "BOOL",
        "DECIMAL" => "NUMERIC",
        "BIGDECIMAL" => "BIGNUMERIC",
        other => other,
    }
    .to_owned()
}

/// A cell as BigQuery's REST API gives it, in canonical text.
#[must_use]
pub fn canonical_of_rest(column_type: &str, cell: &str) -> String {
    let text = match plain_type(column_type).as_str() {
        "TIMESTAMP" => timestamp_of_rest(cell),
        "BYTES" => STANDARD.decode(cell).ok().map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        _ => None,
    };
    canonical_text(column_type, text.as_deref().unwrap_or(cell))
}

fn canonical_text(column_type: &str, cell: &str) -> String {
    let text = match plain_type(column_type).as_str() {
        "NUMERIC" | "BIGNUMERIC" => canonical_decimal(cell),
        "INT64" => cell.parse::<i64>().ok().map(|number| number.to_string()),
        "FLOAT64" => canonical_double(cell),
        "BOOL" => Some(cell.to_ascii_lowercase()),
        "DATETIME" => Some(without_zero_fraction(&cell.replacen(' ', "T", 1))),
        "TIME" => Some(without_zero_fraction(cell)),
        "TIMESTAMP" => {
            let local = cell.strip_suffix('Z').or_else(|| cell.strip_suffix("+00:00"));
            local.map(|local| format!("{}Z", without_zero_fraction(&local.replacen(' ', "T", 1))))
        }
        "JSON" => serde_json::from_str::<serde_json::Value>(cell).ok().map(|value| value.to_string()),
        _ => None,
    };
    text.unwrap_or_else(|| cell.to_owned())
}

/// Whole microseconds since 1970, as asked for; a fraction means seconds in a double.
fn timestamp_of_rest(cell: &str) -> Option<String> {
    let timestamp = match cell.parse::<i64>() {
        Ok(microseconds) => Timestamp::from_microsecond(microseconds).ok()?,
        Err(_) => {
            let since = jiff::SignedDuration::try_from_secs_f64(cell.parse().ok()?).ok()?;
            let rounded = since.round(jiff::Unit::Microsecond).ok()?;
            Timestamp::from_duration(rounded).ok()?
        }
    };
    Some(format!("{}Z", timestamp.to_zoned(TimeZone::UTC).datetime()))
}

/// Without a fraction of zeros: `12:00:00.120000` → `12:00:00.12`.
fn without_zero_fraction(text: &str) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
}

/// Digits without an exponent: no zeros at either end, no sign on zero.
fn canonical_decimal(cell: &str) -> Option<String> {
    let (sign, digits) = match cell.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", cell.strip_prefix('+').unwrap_or(cell)),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // BIGNUMERIC has 77 digits; an exponent beyond that is no value of BigQuery's.
    if whole.len().saturating_add(fraction.len()) == 0
        || !all_digits(whole)
        || !all_digits(fraction)
        || exponent.unsigned_abs() > 100
    {
        return None;
    }
    let shift = usize::try_from(exponent.unsigned_abs()).ok()?;
    let (whole, fraction) = if exponent >= 0 {
        let padded = format!("{fraction:0<shift$}");
        let (moved, rest) = padded.split_at_checked(shift)?;
        (format!("{whole}{moved}"), rest.to_owned())
    } else {
        let padded = format!("{whole:0>shift$}");
        let (rest, moved) = padded.split_at_checked(padded.len().checked_sub(shift)?)?;
        (rest.to_owned(), format!("{moved}{fraction}"))
    };
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    let fraction = fraction.trim_end_matches('0');
    Some(match (whole, fraction) {
        ("0", "") => "0".to_owned(),
        (whole, "") => format!("{sign}{whole}"),
        (whole, fraction) => format!("{sign}{whole}.{fraction}"),
    })
}

fn canonical_double(cell: &str) -> Option<String> {
    let number: f64 = cell.parse().ok()?;
    // Equal as doubles: zero has no sign here.
    let number = if number == 0.0 { 0.0 } else { number };
    Some(format!("{number:?}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::embedded_bigquery::Column;

    fn row(cells: &[&str]) -> Row {
        cells.iter().map(|cell| (*cell != "NULL").then(|| (*cell).to_owned())).collect()
    }

    fn expected(rows: &[&[&str]]) -> ExpectedTable {
        let columns = [("id", "INT64"), ("name", "STRING"), ("price", "NUMERIC")];
        ExpectedTable {
            source: "shop.orders".to_owned(),
            final_table: "replica.shop_orders".to_owned(),
            key: vec!["id".to_owned()],
            columns: columns
                .iter()
                .map(|(name, column_type)| ExpectedColumn {
                    name: (*name).to_owned(),
                    column_type: (*column_type).to_owned(),
                })
                .collect(),
            rows: rows.iter().map(|cells| row(cells)).collect(),
        }
    }

    fn found(columns: &[(&str, &str)], rows: &[&[&str]]) -> QueryResult {
        QueryResult {
            columns: columns
                .iter()
                .map(|(name, column_type)| Column { name: (*name).to_owned(), column_type: (*column_type).to_owned() })
                .collect(),
            rows: rows.iter().map(|cells| row(cells)).collect(),
        }
    }

    /// In another order than the source's, and with a column of Strait's own.
    const COLUMNS: [(&str, &str); 4] =
        [("price", "NUMERIC"), ("ID", "INT64"), ("name", "STRING"), ("_strait_position", "STRING")];

    #[test]
    fn equal_whatever_the_order_of_rows_and_columns() {
        let outcome = compare(
            &expected(&[&["1", "NULL", "1.5"], &["2", "이름 🦀", "NULL"]]),
            &found(&COLUMNS, &[&["NULL", "2", "이름 🦀", "x"], &["1.500000000", "1", "NULL", "y"]]),
        );
        assert!(outcome.is_equal(), "{outcome:?}");
        assert_eq!(outcome.equal_rows, 2);
    }

    #[test]
    fn each_kind_of_difference_is_told_with_its_key() {
        let outcome = compare(
            &expected(&[&["1", "a", "1"], &["2", "b", "2"], &["3", "c", "3"]]),
            &found(&COLUMNS, &[&["1", "1", "a", ""], &["2", "2", "B", ""], &["4", "4", "d", ""]]),
        );
        assert_eq!(outcome.equal_rows, 1);
        assert_eq!(outcome.only_in_source, [row(&["3"])]);
        assert_eq!(outcome.only_in_final, [row(&["4"])]);
        assert_eq!(outcome.different[0].key, row(&["2"]));
        assert_eq!(outcome.different[0].columns, [("name".to_owned(), Some("b".to_owned()), Some("B".to_owned()))]);
    }

    #[test]
    fn a_row_twice_is_not_a_row_once() {
        let outcome =
            compare(&expected(&[&["1", "a", "1"]]), &found(&COLUMNS, &[&["1", "1", "a", ""], &["1", "1", "a", ""]]));
        assert_eq!(outcome.only_in_final, [row(&["1"])]);
        let without_key = ExpectedTable { key: Vec::new(), ..expected(&[&["1", "a", "1"], &["1", "a", "1"]]) };
        let outcome = compare(&without_key, &found(&COLUMNS, &[&["1", "1", "a", ""]]));
        assert_eq!(outcome.only_in_source, [row(&["1", "a", "1"])]);
    }

    #[test]
    fn null_the_empty_text_and_the_word_null_are_three() {
        let table = expected(&[&["1", "NULL", "1"]]);
        for other in ["", "null"] {
            assert!(!compare(&table, &found(&COLUMNS, &[&["1", "1", other, ""]])).is_equal());
        }
    }

    #[test]
    fn columns_that_differ_are_a_difference_without_any_row() {
        let outcome =
            compare(&expected(&[]), &found(&[("id", "STRING"), ("price", "NUMERIC"), ("extra", "INT64")], &[]));
        assert_eq!(outcome.column_differences.len(), 3, "{:?}", outcome.column_differences);
        assert!(!outcome.is_equal());
    }

    #[test]
    fn cells_of_rest_in_canonical_text() {
        for (column_type, cell, canonical) in [
            ("INT64", "-9223372036854775808", "-9223372036854775808"),
            ("NUMERIC", "46.570000", "46.57"),
            ("NUMERIC", "-0.00", "0"),
            ("NUMERIC", "-0.50", "-0.5"),
            ("NUMERIC", "100", "100"),
            ("NUMERIC", "007", "7"),
            ("BIGNUMERIC", "1.5E3", "1500"),
            ("BIGNUMERIC", "15E-3", "0.015"),
            ("STRING", "1.50", "1.50"),
            ("BOOL", "true", "true"),
            ("BOOLEAN", "True", "true"),
            ("DATE", "2024-02-29", "2024-02-29"),
            ("DATETIME", "2024-02-29T12:00:00.123400", "2024-02-29T12:00:00.1234"),
            ("DATETIME", "2024-02-29 12:00:00", "2024-02-29T12:00:00"),
            ("TIME", "12:00:00.500000", "12:00:00.5"),
            ("TIMESTAMP", "1709208000123456", "2024-02-29T12:00:00.123456Z"),
            ("TIMESTAMP", "1709208000000000", "2024-02-29T12:00:00Z"),
            ("TIMESTAMP", "-62135596800000000", "0001-01-01T00:00:00Z"),
            ("TIMESTAMP", "1.7092080001234E9", "2024-02-29T12:00:00.1234Z"),
            ("BYTES", "gAX/", "8005ff"),
            ("FLOAT64", "1", "1.0"),
            ("FLOAT64", "-0.0", "0.0"),
            ("FLOAT64", "1e400", "inf"),
            ("FLOAT64", "NaN", "NaN"),
            ("FLOAT64", "-Infinity", "-inf"),
            ("JSON", "{\"b\": 1, \"a\": 2}", "{\"a\":2,\"b\":1}"),
        ] {
            assert_eq!(canonical_of_rest(column_type, cell), canonical, "{column_type} {cell}");
        }
    }

    #[test]
    fn expected_cells_pass_through_their_own_types() {
        let table: ExpectedTable = serde_json::from_str(
            r#"{"source":"s.t","final":"replica.s_t","key":["b"],
                "columns":[{"name":"b","type":"BYTES"},{"name":"t","type":"TIMESTAMP"},{"name":"f","type":"FLOAT64"}],
                "rows":[["8005ff","2024-02-29T12:00:00.1234Z","2.0"]]}"#,
        )
        .unwrap();
        let found =
            found(&[("b", "BYTES"), ("t", "TIMESTAMP"), ("f", "FLOAT64")], &[&["gAX/", "1709208000123400", "2"]]);
        let outcome = compare(&table, &found);
        assert!(outcome.is_equal(), "{outcome:?}");
    }
}
