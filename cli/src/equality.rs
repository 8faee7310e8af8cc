//! Final tables beside what the source holds, for a person: a few rows of each, every difference, and `equal` or not.
//! What the source holds must come from elsewhere; nothing here asks the pipeline what would be right.

use std::collections::{BTreeMap, BTreeSet};

use crate::compare::{self, Comparison, ExpectedTable, Row};
use crate::embedded_bigquery::{QueryError, QueryResult};
use crate::pipeline::Pipeline;
use crate::report::{self, SHOWN};
use crate::terminal::{Align, Terminal, counted, fitted};

/// Rows shown of each table.
const SAMPLE_ROWS: usize = 3;
/// Columns shown beside the key.
const SAMPLE_COLUMNS: usize = 2;
const CELL_WIDTH: usize = 18;

/// Compares and shows every table. True only if all are equal.
///
/// # Errors
/// When a final table cannot be read; one that does not exist is a difference.
pub async fn compare_tables(
    pipeline: &Pipeline,
    tables: &[ExpectedTable],
    terminal: &Terminal,
) -> Result<bool, QueryError> {
    let (mut equal, mut rows) = (0_usize, 0_usize);
    for table in tables {
        terminal.line("");
        let comparison = compare_table(pipeline, table, terminal).await?;
        if comparison.is_some_and(|comparison| comparison.is_equal()) {
            equal = equal.saturating_add(1);
            rows = rows.saturating_add(table.rows.len());
        }
    }
    terminal.line("");
    let all_equal = equal == tables.len();
    if all_equal {
        let outcome = format!("equal: {}, {}", counted(tables.len(), "table"), counted(rows, "row"));
        terminal.line(terminal.good(&outcome));
    } else {
        let different = tables.len().saturating_sub(equal);
        let outcome = format!("different: {different} of {}", counted(tables.len(), "table"));
        terminal.line(terminal.bad(&outcome));
    }
    Ok(all_equal)
}

/// None when the final table is not there.
async fn compare_table(
    pipeline: &Pipeline,
    table: &ExpectedTable,
    terminal: &Terminal,
) -> Result<Option<Comparison>, QueryError> {
    let title = format!("{} → {}", table.source, table.final_table);
    let found = match pipeline.bigquery.query(&format!("SELECT * FROM `{}`", table.final_table)).await {
        Err(QueryError::Refused { status: 404, .. }) => {
            terminal.line(format!("{}  {}", terminal.bold(&title), terminal.bad("✗ the final table does not exist")));
            return Ok(None);
        }
        other => other?,
    };
    let comparison = compare::compare(table, &found);
    let counts =
        format!("source {}, final {}", counted(comparison.source_rows, "row"), counted(comparison.final_rows, "row"));
    let mark = if comparison.is_equal() { terminal.good("✓ equal") } else { terminal.bad("✗ different") };
    terminal.line(format!("{}  {counts}  {mark}", terminal.bold(&title)));
    print_sample(table, &found, terminal);
    print_differences(table, &comparison, terminal);
    Ok(Some(comparison))
}

/// A few rows of the source, each beside the final table's row of the same key.
fn print_sample(table: &ExpectedTable, found: &QueryResult, terminal: &Terminal) {
    let in_final: BTreeMap<Row, Row> =
        compare::canonical_rows(table, found).into_iter().map(|row| (compare::key_of(table, &row), row)).collect();
    let beside_key: Vec<usize> = table
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| !table.key.contains(&column.name))
        .map(|(place, _)| place)
        .take(SAMPLE_COLUMNS)
        .collect();
    let name = |place: &usize| table.columns.get(*place).map_or("", |column| column.name.as_str());
    let mut headers: Vec<String> = table.key.clone();
    headers.extend(beside_key.iter().map(|place| format!("source: {}", name(place))));
    headers.extend(beside_key.iter().map(|place| format!("final: {}", name(place))));
    headers.push(String::new());

    let rows: Vec<Vec<String>> = sample_places(table.rows.len())
        .into_iter()
        .filter_map(|place| {
            let source = compare::expected_row(table, table.rows.get(place)?);
            let key = compare::key_of(table, &source);
            let other = in_final.get(&key);
            let cells = |row: Option<&Row>| -> Vec<String> {
                beside_key
                    .iter()
                    .map(|place| match row {
                        Some(row) => shown(row.get(*place).and_then(Option::as_deref), CELL_WIDTH),
                        None => "(no row)".to_owned(),
                    })
                    .collect()
            };
            let mut line: Vec<String> = key.iter().map(|cell| shown(cell.as_deref(), CELL_WIDTH)).collect();
            line.extend(cells(Some(&source)));
            line.extend(cells(other));
            line.push(if other == Some(&source) { "✓" } else { "✗" }.to_owned());
            Some(line)
        })
        .collect();
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    terminal.table(&headers, &[Align::Left], &rows);
}

/// The first, the last and some between, evenly.
fn sample_places(rows: usize) -> BTreeSet<usize> {
    let last = rows.saturating_sub(1);
    let steps = SAMPLE_ROWS.saturating_sub(1);
    (0..SAMPLE_ROWS).filter(|_| rows > 0).filter_map(|step| last.saturating_mul(step).checked_div(steps)).collect()
}

fn print_differences(table: &ExpectedTable, comparison: &Comparison, terminal: &Terminal) {
    for difference in &comparison.column_differences {
        terminal.line(format!("  {}", terminal.bad(difference)));
    }
    let key_in_words = |key: &Row| {
        let names = table.key.iter().map(String::as_str);
        let cells: Vec<String> = names
            .chain(std::iter::repeat(""))
            .zip(key)
            .map(|(name, cell)| {
                let cell = shown(cell.as_deref(), 40);
                if name.is_empty() { cell } else { format!("{name} {cell}") }
            })
            .collect();
        cells.join(", ")
    };
    let mut lines = Vec::new();
    for key in &comparison.only_in_source {
        lines.push(format!("only in source: {}", key_in_words(key)));
    }
    for key in &comparison.only_in_final {
        lines.push(format!("only in final:  {}", key_in_words(key)));
    }
    for difference in &comparison.different {
        let columns: Vec<String> = difference
            .columns
            .iter()
            .map(|(name, source, found)| {
                let (source, found) = (shown(source.as_deref(), 40), shown(found.as_deref(), 40));
                format!("{name} is {found} and should be {source}")
            })
            .collect();
        lines.push(format!("different: {}: {}", key_in_words(&difference.key), columns.join("; ")));
    }
    for line in lines.iter().take(SHOWN) {
        terminal.line(format!("  {}", terminal.bad(line)));
    }
    report::print_rest(terminal, lines.len());
}

/// A cell for the eye: NULL and the empty text can be told apart.
pub(crate) fn shown(cell: Option<&str>, width: usize) -> String {
    match cell {
        None => "NULL".to_owned(),
        Some("") => "''".to_owned(),
        Some(text) => fitted(text, width),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_over_the_table() {
        assert!(sample_places(0).is_empty());
        assert_eq!(sample_places(1), BTreeSet::from([0]));
        assert_eq!(sample_places(2), BTreeSet::from([0, 1]));
        assert_eq!(sample_places(11), BTreeSet::from([0, 5, 10]));
    }
}
