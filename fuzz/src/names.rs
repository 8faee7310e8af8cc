//! Names, literals and paths: what is quoted is read back to the letter by BigQuery's rules, and ends where it was meant to end.
//! An input is a list of names, separated by U+001F.

use std::collections::HashSet;

use strait::names::{self, SourceTable, TableName};

use crate::bigquery_text::{member_of_path, unquote};

pub const WORDS: &[&str] = &[
    "`",
    "\\",
    "'",
    "\"",
    "'''",
    "\n",
    "\r",
    "\u{1f}",
    "\u{0}",
    "\u{7f}",
    "\u{85}",
    "\u{2028}",
    "\\u0041",
    "\\`",
    "--",
    "/*",
    "이름",
    "İ",
    "ß",
    "SS",
    "_strait_",
    "_PARTITION",
    "_table_",
    "__root__",
    "1st",
    "ⓐ",
    "\u{301}",
    " ",
    "&",
    "_change_type",
    "a.b",
    "${x}",
    "{schema}",
    "Source column: ",
    "Replica of ",
];

/// Text after a literal that would be read as part of it, should it not end.
const AFTER: &str = " AND `c` = '`\"x'";

pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let given: Vec<&str> = text.split('\u{1f}').take(12).collect();
    for name in given.iter().copied().chain([text]) {
        literals(name);
        identifier(name);
        descriptions(name);
    }
    columns(&given);
    for pair in given.windows(2) {
        final_tables(pair[0], pair[1]);
    }
}

fn literals(text: &str) {
    let literal = names::string_literal(text);
    assert_eq!(unquote(&format!("{literal}{AFTER}"), '\''), Some((text.to_owned(), AFTER)), "{literal}");
    let path = names::member_path_literal(text);
    let (path, after) = unquote(&format!("{path}{AFTER}"), '\'').map(|(path, after)| (path, after.to_owned())).unwrap();
    assert_eq!(after, AFTER);
    assert_eq!(member_of_path(&path).as_deref(), Some(text), "{path}");
}

fn identifier(name: &str) {
    let cannot_be_quoted = name.is_empty() || name.chars().any(char::is_control);
    match names::quote("table", name) {
        Ok(quoted) => {
            assert!(!cannot_be_quoted, "{quoted:?}");
            assert_eq!(unquote(&format!("{quoted}{AFTER}"), '`'), Some((name.to_owned(), AFTER)), "{quoted}");
            let table = TableName { dataset: name.to_owned(), table: name.to_owned() };
            let sql = table.quoted(name).unwrap();
            let mut rest = sql.as_str();
            for separator in [".", ".", ""] {
                let (part, after) = unquote(rest, '`').unwrap();
                assert_eq!(part, name);
                rest = after.strip_prefix(separator).unwrap();
            }
            assert_eq!(rest, "");
        }
        Err(error) => {
            assert!(cannot_be_quoted, "refused without need");
            assert!(error.to_string().contains("table"), "{error}");
        }
    }
}

fn descriptions(name: &str) {
    assert_eq!(names::source_column(&names::renamed_column_description(name)).as_deref(), Some(name));
    let source = SourceTable { schema: name.to_owned(), table: name.to_owned() };
    assert_eq!(names::source_of_final(&names::final_table_description(&source)), Some(format!("{name}.{name}")));
    // Anyone can write a description.
    let _ = names::source_column(name);
    let _ = names::source_of_final(name);
}

fn columns(given: &[&str]) {
    let mut seen = HashSet::new();
    let sources: Vec<&str> = given.iter().copied().filter(|name| seen.insert(*name)).collect();
    let columns = names::column_names(sources.iter().copied());
    assert_eq!(columns.len(), sources.len());
    let mut taken = HashSet::new();
    for (source, column) in sources.iter().zip(&columns) {
        assert!(taken.insert(column.to_lowercase()), "two columns are called {column:?} in {columns:?}");
        assert!((1..=300).contains(&column.chars().count()), "{column:?}");
        // What Google's documentation says that flexible column names do not hold.
        assert!(!column.contains(|c: char| r#"!"$()*,./;?@[\]^`{}~"#.contains(c) || c.is_control()), "{column:?}");
        assert!(!column.starts_with(' ') && !column.ends_with(' '), "{column:?}");
        let lower = column.to_lowercase();
        let reserved = [
            "_table_",
            "_file_",
            "_partition",
            "_row_timestamp",
            "__root__",
            "_colidentifier",
            "_change_sequence_number",
            "_change_type",
            "_change_timestamp",
            "_strait_",
        ];
        assert!(!reserved.iter().any(|prefix| lower.starts_with(prefix)), "{column:?}");
        assert!(names::quote_column(column).is_ok());
        let is_plain = source.len() <= 100
            && source.starts_with(|c: char| c.is_ascii_alphabetic())
            && source.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if is_plain && sources.iter().filter(|other| other.eq_ignore_ascii_case(source)).count() == 1 {
            // Only another column that was renamed to the very name may take it.
            assert!(column == source || columns.iter().any(|other| other.eq_ignore_ascii_case(source)), "{column:?}");
        }
    }
    assert_eq!(names::column_names(sources), columns, "the same names another time");
}

fn final_tables(schema: &str, table: &str) {
    let source = SourceTable { schema: schema.to_owned(), table: table.to_owned() };
    let wanted = TableName { dataset: format!("d_{schema}"), table: format!("{schema}_{table}") };
    let fit = names::fit_for_bigquery(&wanted, &source);
    assert!(fit.dataset.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{fit}");
    assert!((1..=1024).contains(&fit.table.len()), "{fit}");
    assert!(!fit.table.contains(|c: char| r#"!"$()*,./;?@[\]^`{}~&%=+:'<>#|"#.contains(c) || c.is_control()), "{fit}");
    if fit != wanted {
        let another = SourceTable { schema: format!("{schema}\u{1}"), table: table.to_owned() };
        let wanted = TableName { dataset: format!("d_{schema}\u{1}"), table: format!("{schema}\u{1}_{table}") };
        assert_ne!(names::fit_for_bigquery(&wanted, &another).table, fit.table, "two sources share a table");
    }
}
