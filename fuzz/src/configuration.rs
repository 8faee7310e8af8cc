//! The configuration: every problem is reported by its name, none hides another, no secret is ever repeated, and the globs mean what they
//! say. An input is an environment: `NAME=value`, one a line, where `STRAIT_` may be left out.

use std::collections::BTreeMap;

use strait::config::{Config, ConfigError, FinalTablePattern, TableFilter, VARIABLES};
use strait::names::SourceTable;

pub const WORDS: &[&str] = &[
    "PROJECT=",
    "LOCATION=",
    "LOG_TABLE=",
    "MERGES_TABLE=",
    "QUARANTINE_TABLE=",
    "FINAL_TABLE=",
    "TABLES=",
    "DELETES=",
    "ABSENT_COLUMNS=",
    "DROPPED_COLUMNS=",
    "DEBEZIUM_WITHOUT_SCHEMA=",
    "LOG_RETENTION_DAYS=",
    "MASK=",
    "MAX_BYTES_BILLED=",
    "CREDENTIALS_SECRET=",
    "CREDENTIALS=",
    "MASK_KEY_SECRET=",
    "shop.users.email=hash",
    "=drop",
    "BIGQUERY_REST_URL=",
    "BIGQUERY_GRPC_URL=",
    "\n",
    "http://127.0.0.1:9050",
    "https://",
    "{schema}",
    "{table}",
    "*",
    "?",
    "!",
    ",",
    "cdc.log",
    "{\"type\":\"external_account\"}",
    "service_account",
    "\"private_key\":\"k\"",
    "hard",
    "soft",
    "@",
    "[::1]",
];

const SECRETS: [&str; 3] = ["STRAIT_CREDENTIALS", "STRAIT_CREDENTIALS_SECRET", "STRAIT_MASK_KEY_SECRET"];
/// No text of the product holds it.
const PLANTED: &str = "Zq7xK9wV";

type Variables = BTreeMap<String, String>;

pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let mut variables = Variables::new();
    for line in text.lines().take(40) {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let name = if name.starts_with("STRAIT_") { name.to_owned() } else { format!("STRAIT_{name}") };
        variables.insert(name, value.to_owned());
    }
    let read = read(&variables);
    by_name(&variables, &read);
    none_hides_another(&variables, &read);
    no_secret(&variables);
    if let Ok(config) = &read {
        tables(&variables, config);
    }
    if let Some(globs) = variables.get("STRAIT_TABLES") {
        filter(globs);
    }
    if let Some(pattern) = variables.get("STRAIT_FINAL_TABLE") {
        final_table(pattern);
    }
}

fn read(variables: &Variables) -> Result<Config, ConfigError> {
    Config::from_vars(variables.clone())
}

fn by_name(variables: &Variables, read: &Result<Config, ConfigError>) {
    let unknown: Vec<&String> =
        variables.keys().filter(|name| !VARIABLES.iter().any(|variable| variable.name == **name)).collect();
    match read {
        Ok(_) => assert!(unknown.is_empty(), "a name that is not known was passed over"),
        Err(error) => {
            let shown = error.to_string();
            assert!(!error.problems.is_empty());
            for problem in &error.problems {
                assert!(shown.contains(&problem.name), "{shown}");
                assert!(!problem.text.is_empty());
                let is_known = VARIABLES.iter().any(|variable| variable.name == problem.name);
                assert!(is_known || unknown.contains(&&problem.name), "{}", problem.name);
            }
            for name in unknown {
                assert!(error.problems.iter().any(|problem| problem.name == *name), "{name} is not reported");
            }
        }
    }
}

/// What is wrong with a variable alone is reported whatever else is wrong.
fn none_hides_another(variables: &Variables, read_all: &Result<Config, ConfigError>) {
    let good = [("STRAIT_PROJECT", "demo"), ("STRAIT_CREDENTIALS_SECRET", "google/strait")];
    for (name, value) in variables {
        let mut alone: Variables = good.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        alone.insert(name.clone(), value.clone());
        let Err(error) = read(&alone) else {
            continue;
        };
        for problem in error.problems.iter().filter(|problem| problem.name == *name) {
            // These speak of two variables.
            let of_two = ["names the same table", "can name ", "beside", "both"];
            if of_two.iter().any(|words| problem.text.contains(words)) {
                continue;
            }
            let all = read_all.as_ref().expect_err("a value that is refused alone was taken");
            assert!(all.problems.contains(problem), "{}: {} is not among {all}", problem.name, problem.text);
        }
    }
}

/// A secret's value with something planted into it: no text may hold that.
fn no_secret(variables: &Variables) {
    let mut planted = variables.clone();
    let mut is_planted = false;
    for name in SECRETS {
        if let Some(value) = planted.get_mut(name) {
            let middle = (0..=value.len() / 2).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
            value.insert_str(middle, PLANTED);
            is_planted = true;
        }
    }
    if !is_planted || variables.iter().any(|(name, value)| name.contains(PLANTED) || value.contains(PLANTED)) {
        return;
    }
    let text = match read(&planted) {
        Ok(config) => format!("{config:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!text.contains(PLANTED), "a secret is repeated: {text}");
}

fn tables(variables: &Variables, config: &Config) {
    let globs = variables.get("STRAIT_TABLES").filter(|globs| !globs.is_empty());
    let source = SourceTable { schema: "shop".to_owned(), table: "orders".to_owned() };
    if globs.is_none() {
        assert!(config.tables.matches(&source.schema, &source.table));
    }
    let names = [&config.log_table, &config.merges_table, &config.quarantine_table];
    assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2]);
    assert!(!names.contains(&&config.final_table.name_of(&source)));
    assert!((1..=3650).contains(&config.log_retention_days));
    assert!(config.max_bytes_billed.is_none_or(|bytes| bytes > 0));
    for url in [&config.rest_url, &config.grpc_url] {
        assert!(url.starts_with("http://") || url.starts_with("https://"), "{url}");
        assert!(!url.ends_with('/') && !url.contains('@'), "{url}");
    }
}

/// The globs by a table of which prefix of the pattern fits which prefix of the text.
fn fits(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for c in pattern.chars() {
        let mut next = vec![false; text.len() + 1];
        next[0] = c == '*' && row[0];
        for at in 0..text.len() {
            next[at + 1] = match c {
                '*' => row[at + 1] || next[at],
                '?' => row[at],
                c => row[at] && text[at] == c,
            };
        }
        row = next;
    }
    row[text.len()]
}

fn filter(globs: &str) {
    let entries: Vec<(bool, &str)> = globs
        .split(',')
        .map(str::trim)
        .map(|entry| entry.strip_prefix('!').map_or((true, entry), |pattern| (false, pattern.trim_start())))
        .map(|(includes, pattern)| (includes, if pattern == "*" { "*.*" } else { pattern }))
        .collect();
    let halves: Option<Vec<(bool, &str, &str)>> = entries
        .iter()
        .map(|(includes, pattern)| {
            let (schema, table) = pattern.split_once('.')?;
            (!schema.is_empty() && !table.is_empty()).then_some((*includes, schema, table))
        })
        .collect();
    let filter = TableFilter::parse(globs);
    assert_eq!(filter.is_ok(), halves.is_some(), "{globs:?}");
    let (Ok(filter), Some(halves)) = (filter, halves) else {
        return;
    };
    // Names made of the patterns themselves come near to fitting them.
    let near = |pattern: &str| {
        [pattern.replace(['*', '?'], "x"), pattern.replace('*', ""), pattern.to_owned(), format!("{pattern}y")]
    };
    let mut names = vec![("shop".to_owned(), "orders".to_owned())];
    for (_, schema, table) in halves.iter().take(6) {
        names.extend(near(schema).into_iter().zip(near(table)));
    }
    for (schema, table) in names {
        let any = |wanted: bool| {
            halves.iter().any(|(includes, s, t)| *includes == wanted && fits(s, &schema) && fits(t, &table))
        };
        let expected = !any(false) && (any(true) || halves.iter().all(|(includes, ..)| !includes));
        assert_eq!(filter.matches(&schema, &table), expected, "{globs:?} and {schema:?}.{table:?}");
    }
}

fn final_table(pattern: &str) {
    let Ok(parsed) = FinalTablePattern::parse(pattern) else {
        return;
    };
    assert!(pattern.contains("{table}"));
    let name =
        |schema: &str, table: &str| parsed.name_of(&SourceTable { schema: schema.to_owned(), table: table.to_owned() });
    let plain = name("s", "t");
    let expected = pattern.replace("{schema}", "s").replace("{table}", "t");
    assert!(plain.to_string() == expected || expected.len() > 1024, "{plain} {expected}");
    assert_ne!(name("s", "one"), name("s", "two"));
    assert_ne!(name("s", "a.b"), name("s", "a/b"));
    if let Some(dataset) = parsed.fixed_dataset() {
        assert_eq!(dataset, plain.dataset);
    }
    for part in [plain.dataset, plain.table] {
        assert!(!part.is_empty());
    }
}
