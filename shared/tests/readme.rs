//! What the README says of the code, held against the code: the configuration table is rendered from the variables.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use strait::config::{DefaultValue, VARIABLES};

fn table() -> String {
    let mut table = String::from("| name | default | meaning |\n|---|---|---|\n");
    for variable in VARIABLES {
        let default = match variable.default {
            DefaultValue::Required => "(required)".to_owned(),
            DefaultValue::Unset => String::new(),
            DefaultValue::Text(text) => format!("`{text}`"),
        };
        table.push_str(&format!("| `{}` | {default} | {} |\n", variable.name, variable.meaning.replace('|', "\\|")));
    }
    table
}

/// `UPDATE_GOLDEN=1` writes the table anew.
#[test]
fn the_configuration_table_is_the_codes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- configuration: begin -->\n", "<!-- configuration: end -->");
    let (before, rest) = readme.split_once(begin).unwrap();
    let (shown, after) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{before}{begin}{}{end}{after}", table())).unwrap();
        return;
    }
    assert_eq!(shown, table(), "UPDATE_GOLDEN=1 writes it anew");
}
