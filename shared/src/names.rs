//! Every name that reaches BigQuery passes here: the one escaper for identifiers, string literals and JSON paths,
//! the names of Strait's own columns, and the rule by which a source name becomes a BigQuery name.
//! It must never let a name through that it cannot quote.

use std::collections::HashSet;
use std::fmt;

use icu_properties::CodePointMapData;
use icu_properties::props::{GeneralCategory, GeneralCategoryGroup};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// The final table's column that holds the position of the row's newest change.
pub const POSITION_COLUMN: &str = "_strait_position";
/// The final table's column that holds the time of the merge that wrote the row.
pub const MERGED_AT_COLUMN: &str = "_strait_merged_at";
/// The final table's column that marks a deleted row, under soft deletes.
pub const DELETED_COLUMN: &str = "_strait_deleted";

/// How the names of Strait's own columns begin; no source column keeps such a name.
pub const OWN_PREFIX: &str = "_strait_";

/// BigQuery holds at most 300 characters in a column name (<https://cloud.google.com/bigquery/docs/schemas#column_names>).
const COLUMN_NAME_LIMIT: usize = 300;
/// Beside letters, digits, marks, connectors, dashes and spaces, what a flexible column name may hold
/// (<https://cloud.google.com/bigquery/docs/schemas#flexible-column-names>).
const COLUMN_NAME_SYMBOLS: [char; 10] = ['&', '%', '=', '+', ':', '\'', '<', '>', '#', '|'];
/// BigQuery holds at most 1,024 UTF-8 bytes in a table name (<https://cloud.google.com/bigquery/docs/tables#table_naming>).
const TABLE_NAME_BYTES_LIMIT: usize = 1024;
/// BigQuery holds at most 1,024 characters in a dataset's name (<https://cloud.google.com/bigquery/docs/datasets#dataset-naming>).
const DATASET_NAME_LIMIT: usize = 1024;
/// BigQuery holds at most 1,024 characters in a column's description (<https://cloud.google.com/bigquery/docs/schemas#column_descriptions>).
const COLUMN_DESCRIPTION_LIMIT: usize = 1024;
/// Column name prefixes that BigQuery keeps for itself, in lower case (<https://cloud.google.com/bigquery/docs/schemas#column_names>), and
/// Strait's own.
const RESERVED_PREFIXES: [&str; 10] = [
    "_table_",
    "_file_",
    "_partition",
    "_row_timestamp",
    "__root__",
    "_colidentifier",
    "_change_sequence_number",
    "_change_type",
    "_change_timestamp",
    OWN_PREFIX,
];
/// How a renamed column's description begins; what follows is the source's name as a JSON string.
const SOURCE_COLUMN_MARK: &str = "Source column: ";
/// What stands between a column's name and those that it had before, which follow as a JSON array.
const FORMER_COLUMNS_MARK: &str = ", formerly ";
/// What stands before the time since when a column's name is its own, as a JSON string.
const SINCE_MARK: &str = ", since ";
/// What stands before the time from which on a column's name is another's, as a JSON string.
const UNTIL_MARK: &str = ", until ";
/// What stands before the time at which the source had added a column, as a JSON string.
const ADDED_MARK: &str = ", added ";
/// How the description of a final table that Strait made begins; what follows is `schema.table` as a JSON string.
const SOURCE_TABLE_MARK: &str = "Replica of ";

/// A name that BigQuery cannot hold or that cannot be quoted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    /// Empty, or holds a control character.
    #[error("the {what} name is empty or holds a control character")]
    Unquotable {
        /// What was to be named: `project`, `dataset`, `table`, `column`.
        what: &'static str,
    },
    /// Not of the form `dataset.table`.
    #[error("`{given}` is not of the form dataset.table")]
    NotATable {
        /// What was given.
        given: String,
    },
}

/// A table by dataset and name, inside the configured project.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The dataset.
    pub dataset: String,
    /// The table's name in the dataset.
    pub table: String,
}

impl TableName {
    /// The table as a path of quoted identifiers, ready for SQL.
    pub fn quoted(&self, project: &str) -> Result<String, NameError> {
        Ok(format!(
            "{}.{}.{}",
            quote("project", project)?,
            quote("dataset", &self.dataset)?,
            quote("table", &self.table)?
        ))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.dataset, self.table)
    }
}

/// A table of the source database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceTable {
    /// The schema (PostgreSQL) or database (MySQL).
    pub schema: String,
    /// The table's name.
    pub table: String,
}

impl SourceTable {
    /// Reads `schema.table`, split at the first point; None of any other form.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (schema, table) = name.split_once('.').filter(|(schema, table)| !schema.is_empty() && !table.is_empty())?;
        Some(Self { schema: schema.to_owned(), table: table.to_owned() })
    }
}

impl fmt::Display for SourceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// An identifier between backticks. Backtick and backslash are escaped as in a string literal
/// (<https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#quoted_identifiers>).
pub fn quote(what: &'static str, name: &str) -> Result<String, NameError> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(NameError::Unquotable { what });
    }
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('`');
    for c in name.chars() {
        if matches!(c, '`' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('`');
    Ok(quoted)
}

/// A quoted column name.
pub fn quote_column(name: &str) -> Result<String, NameError> {
    quote("column", name)
}

/// A STRING literal that means `text` to the letter.
pub fn string_literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for c in text.chars() {
        match c {
            '\'' => literal.push_str("\\'"),
            '\\' => literal.push_str("\\\\"),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            c if c.is_control() => literal.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => literal.push(c),
        }
    }
    literal.push('\'');
    literal
}

/// A STRING literal that holds the JSON path of one top-level member, quoted so that no character of the name is syntax.
pub fn member_path_literal(member: &str) -> String {
    let mut path = String::with_capacity(member.len() + 5);
    path.push_str("$.\"");
    for c in member.chars() {
        if matches!(c, '"' | '\\') {
            path.push('\\');
        }
        path.push(c);
    }
    path.push('"');
    string_literal(&path)
}

/// The first `digits` hexadecimal digits of a text's SHA-256: what makes a renamed name unique.
pub fn fingerprint(text: &str, digits: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut hex = String::with_capacity(64);
    for byte in digest {
        hex.push_str(&format!("{byte:02x}"));
    }
    hex.truncate(digits);
    hex
}

/// The BigQuery column names of a source table's columns, in the same order.
///
/// The rule: what BigQuery's flexible column names may hold stays, namely letters, digits and marks of any script, connectors such as
/// `_`, dashes, spaces between other characters, and `& % = + : ' < > # |`; any other character becomes `_`; a name that does not
/// begin with a letter, a digit or `_`, or begins with a reserved prefix (with the ending below, too), gets `c_` before it; one that is
/// too long is cut.
/// A name that the rule changed, or that equals an earlier one but for case, ends in `_` and the first eight
/// hexadecimal digits of the source name's SHA-256, so that two source names never share a column.
pub fn column_names<'a>(sources: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    column_names_beside([], sources)
}

/// The same beside columns that are there already, by their names in BigQuery.
pub fn column_names_beside<'a, 'b>(
    there: impl IntoIterator<Item = &'b str>,
    sources: impl IntoIterator<Item = &'a str>,
) -> Vec<String> {
    let mut taken: HashSet<String> = there.into_iter().map(str::to_lowercase).collect();
    sources
        .into_iter()
        .map(|source| {
            let plain = allowed_column_name(source);
            let mut name = column_name(source);
            let mut digits = 8;
            // Ends: 64 digits of a SHA-256 differ for different source names, and one table's columns differ.
            while !taken.insert(name.to_lowercase()) && digits <= 64 {
                name = suffixed(&plain, source, digits);
                digits += 8;
            }
            name
        })
        .collect()
}

/// The BigQuery name of a source column with whose name no other one's collides.
pub fn column_name(source: &str) -> String {
    let plain = allowed_column_name(source);
    if plain == source { plain } else { suffixed(&plain, source, 8) }
}

fn suffixed(plain: &str, source: &str, digits: usize) -> String {
    let kept: String = plain.chars().take(COLUMN_NAME_LIMIT - digits - 1).collect();
    let name = format!("{kept}_{}", fingerprint(source, digits));
    // `_table` is free, `_table_` is not.
    if is_reserved(&name) { format!("c_{name}") } else { name }
}

fn is_reserved(name: &str) -> bool {
    let lower = name.to_lowercase();
    RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
}

fn allowed_column_name(source: &str) -> String {
    let allowed = |c: char| is_word_character(c) || c == ' ' || COLUMN_NAME_SYMBOLS.contains(&c);
    let mut name = replace_characters(source, allowed);
    let begins_well = name.chars().next().is_some_and(|c| c == '_' || is_letter_or_digit(c));
    if !begins_well || is_reserved(&name) {
        name.insert_str(0, "c_");
    }
    name = name.chars().take(COLUMN_NAME_LIMIT).collect();
    // Google says nothing of a space at the end.
    if name.ends_with(' ') {
        name.pop();
        name.push('_');
    }
    name
}

/// BigQuery's letters and digits of any script: the categories L and N. What Unicode calls alphabetic beyond them, such as a letter
/// in a circle, BigQuery refuses.
fn is_letter_or_digit(c: char) -> bool {
    let category = GeneralCategoryGroup::Letter.union(GeneralCategoryGroup::Number);
    category.contains(CodePointMapData::<GeneralCategory>::new().get(c))
}

/// What both a column's and a table's name may hold: the categories L, N, M, Pc and Pd.
fn is_word_character(c: char) -> bool {
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    is_letter_or_digit(c)
        || GeneralCategoryGroup::Mark.contains(category)
        || matches!(category, GeneralCategory::ConnectorPunctuation | GeneralCategory::DashPunctuation)
}

/// The description of a column whose name differs from the source's, from which [`source_column`] reads it back.
pub fn renamed_column_description(source: &str) -> String {
    ColumnNames::new(source).described()
}

/// The source's name of a column that was renamed, read back from its description.
pub fn source_column(description: &str) -> Option<String> {
    ColumnNames::in_description(description).map(|names| names.now.name)
}

/// What a person wrote into a column's description beside the names that Strait reads back.
pub fn beside_column_names(description: &str) -> &str {
    described_column(description).map_or(description, |(_, beside)| beside)
}

/// A name that a column has or had at the source, and when it was this column's. Times are those at which DMS sent its records, in µs since
/// the epoch of Unix; `None`: no other column had the name before, or after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameHeld {
    /// The name.
    pub name: String,
    /// What DMS sent before holds another column under it.
    pub since_us: Option<i64>,
    /// What DMS sent from then on holds another column under it.
    pub until_us: Option<i64>,
}

impl NameHeld {
    /// A name that no other column had.
    pub fn always(name: &str) -> Self {
        Self { name: name.to_owned(), since_us: None, until_us: None }
    }

    /// Whether another column had it before or has it after.
    pub fn is_bounded(&self) -> bool {
        self.since_us.is_some() || self.until_us.is_some()
    }

    /// Whether a record that was sent at this time holds the column under it.
    pub fn is_at(&self, sent_us: i64) -> bool {
        self.since_us.is_none_or(|since| since <= sent_us) && self.until_us.is_none_or(|until| sent_us < until)
    }

    fn to_json(&self) -> serde_json::Value {
        if !self.is_bounded() {
            return self.name.as_str().into();
        }
        let mut json = serde_json::Map::from_iter([("name".to_owned(), self.name.as_str().into())]);
        for (key, us) in [("since", self.since_us), ("until", self.until_us)] {
            if let Some(time) = us.and_then(time_in_words) {
                json.insert(key.to_owned(), time.into());
            }
        }
        json.into()
    }

    fn from_json(json: &serde_json::Value) -> Option<Self> {
        if let Some(name) = json.as_str() {
            return Some(Self::always(name));
        }
        // A time that cannot be read must not make of a name that is another's one that never was.
        let time = |key: &str| match json.get(key) {
            Some(time) => time_from_words(time.as_str()?).map(Some),
            None => Some(None),
        };
        Some(Self { name: json.get("name")?.as_str()?.to_owned(), since_us: time("since")?, until_us: time("until")? })
    }
}

fn time_in_words(us: i64) -> Option<String> {
    Timestamp::from_microsecond(us).ok().map(|time| time.to_string())
}

fn time_from_words(words: &str) -> Option<i64> {
    words.parse::<Timestamp>().ok().map(|time| time.as_microsecond())
}

/// The names of one column of the source, as a final column's description keeps them:
/// `Source column: "b", formerly ["a"], since "2026-11-24T10:00:00Z"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnNames {
    /// What it is called, or was when it was dropped.
    pub now: NameHeld,
    /// What it was called before, oldest first.
    pub former: Vec<NameHeld>,
    /// When the source had added it, as far as the final table's column was added for it: of columns that had one name this is the one.
    pub added_us: Option<i64>,
}

impl ColumnNames {
    /// A column that never had another name, nor another column its.
    pub fn new(name: &str) -> Self {
        Self { now: NameHeld::always(name), former: Vec::new(), added_us: None }
    }

    /// Whether there is nothing to say of them but the name.
    pub fn is_plain(&self) -> bool {
        self.former.is_empty() && !self.now.is_bounded()
    }

    /// All of them, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &NameHeld> {
        std::iter::once(&self.now).chain(self.former.iter().rev())
    }

    /// The description from which [`ColumnNames::in_description`] reads them back. Of more names than a description holds, the oldest are left
    /// out.
    pub fn described(&self) -> String {
        let time = |mark: &str, us: Option<i64>| {
            let time = us.and_then(time_in_words).map(|time| format!("{mark}{}", serde_json::Value::from(time)));
            time.unwrap_or_default()
        };
        let name = serde_json::Value::from(self.now.name.as_str());
        let times = [(SINCE_MARK, self.now.since_us), (UNTIL_MARK, self.now.until_us), (ADDED_MARK, self.added_us)];
        let times: String = times.into_iter().map(|(mark, us)| time(mark, us)).collect();
        let described = |former: String| format!("{SOURCE_COLUMN_MARK}{name}{former}{times}");
        let former: Vec<serde_json::Value> = self.former.iter().map(NameHeld::to_json).collect();
        (0..former.len())
            .filter_map(|first| former.get(first..))
            .map(|kept| described(format!("{FORMER_COLUMNS_MARK}{}", serde_json::Value::from(kept))))
            .find(|description| description.chars().count() <= COLUMN_DESCRIPTION_LIMIT)
            .unwrap_or_else(|| described(String::new()))
    }

    /// What a description says of them; `None`: nothing.
    pub fn in_description(description: &str) -> Option<Self> {
        described_column(description).map(|(names, _)| names)
    }
}

/// The names that a description says, and what else it says.
fn described_column(description: &str) -> Option<(ColumnNames, &str)> {
    let (name, mut rest) = value_after::<String>(description, SOURCE_COLUMN_MARK)?;
    let mut names = ColumnNames::new(&name);
    if let Some((former, after)) = value_after::<Vec<serde_json::Value>>(rest, FORMER_COLUMNS_MARK)
        && let Some(former) = former.iter().map(NameHeld::from_json).collect()
    {
        (names.former, rest) = (former, after);
    }
    let (now, added_us) = (&mut names.now, &mut names.added_us);
    for (mark, time) in [(SINCE_MARK, &mut now.since_us), (UNTIL_MARK, &mut now.until_us), (ADDED_MARK, added_us)] {
        if let Some((words, after)) = value_after::<String>(rest, mark)
            && let Some(us) = time_from_words(&words)
        {
            (*time, rest) = (Some(us), after);
        }
    }
    Some((names, rest.trim()))
}

/// The JSON value after a mark, and what follows it.
fn value_after<'t, V: serde::de::DeserializeOwned>(text: &'t str, mark: &str) -> Option<(V, &'t str)> {
    let text = text.strip_prefix(mark)?;
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<V>();
    let value = values.next()?.ok()?;
    text.get(values.byte_offset()..).map(|rest| (value, rest))
}

/// The description of a final table that Strait makes, from which [`source_of_final`] reads the source back.
pub fn final_table_description(source: &SourceTable) -> String {
    format!("{SOURCE_TABLE_MARK}{}", serde_json::Value::from(source.to_string()))
}

/// The source table, as `schema.table`, that a final table made by Strait belongs to.
pub fn source_of_final(description: &str) -> Option<String> {
    serde_json::from_str(description.strip_prefix(SOURCE_TABLE_MARK)?).ok()
}

/// The name of a source table's final table, made fit for BigQuery from what the pattern comes to.
///
/// In the table's name letters, digits and marks of any script, connectors, dashes and spaces stay
/// (<https://cloud.google.com/bigquery/docs/tables#table_naming>), in the dataset's only ASCII letters, digits and `_`
/// (<https://cloud.google.com/bigquery/docs/datasets#dataset-naming>); anything else becomes `_`, and the
/// table's name then ends in `_` and eight hexadecimal digits of the source's SHA-256; so it does where a name is too long.
pub fn fit_for_bigquery(wanted: &TableName, source: &SourceTable) -> TableName {
    let mut dataset = replace_characters(&wanted.dataset, |c| c.is_ascii_alphanumeric() || c == '_');
    dataset.truncate(DATASET_NAME_LIMIT);
    let is_space = |c: char| CodePointMapData::<GeneralCategory>::new().get(c) == GeneralCategory::SpaceSeparator;
    let mut table = replace_characters(&wanted.table, |c| is_word_character(c) || is_space(c));
    if table != wanted.table || dataset != wanted.dataset || table.len() > TABLE_NAME_BYTES_LIMIT {
        let suffix = format!("_{}", fingerprint(&format!("{}\0{}", source.schema, source.table), 8));
        let mut limit = (TABLE_NAME_BYTES_LIMIT - suffix.len()).min(table.len());
        while !table.is_char_boundary(limit) {
            limit -= 1;
        }
        table.truncate(limit);
        table.push_str(&suffix);
    }
    TableName { dataset, table }
}

fn replace_characters(text: &str, allowed: impl Fn(char) -> bool) -> String {
    text.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn source(schema: &str, table: &str) -> SourceTable {
        SourceTable { schema: schema.into(), table: table.into() }
    }

    #[test]
    fn quoted_identifiers_keep_every_character_or_are_refused() {
        assert_eq!(quote_column("select").unwrap(), "`select`");
        assert_eq!(quote_column("a`c\\d").unwrap(), "`a\\`c\\\\d`");
        assert_eq!(quote_column("이름").unwrap(), "`이름`");
        assert!(quote_column("").is_err());
        assert!(quote_column("a\nb").is_err());
    }

    #[test]
    fn literals_and_paths_escape_both_levels() {
        assert_eq!(string_literal("it's \\ a\n\u{1}"), "'it\\'s \\\\ a\\n\\u0001'");
        assert_eq!(member_path_literal("a.b"), "'$.\"a.b\"'");
        assert_eq!(member_path_literal("a\"b"), "'$.\"a\\\\\"b\"'");
    }

    #[test]
    fn names_that_bigquery_holds_stay_as_they_are() {
        let names = [
            "id",
            "select",
            "이름",
            "_private",
            "Größe",
            "with space",
            "1st",
            "order-date",
            "a&b%c=d+e:f'g<h>i#j|k",
            // With marks: of Devanagari, and an accent of its own.
            "ग्राहक",
            "cafe\u{301}",
            "x‿y",
            "Ⅷ²",
            "_change",
            "_field_",
        ];
        assert_eq!(column_names(names), names);
    }

    /// Alphabetic by Unicode, and yet none of the categories that Google's documentation lists.
    #[test]
    fn what_only_unicode_calls_alphabetic_is_renamed() {
        for name in
            ["ⓐ", "\u{1f130}", "a\u{a0}b", " a", "a ", "-a", "\u{301}a", "a\tb", "a.b", "a/b", "a`b", "a$b", "€"]
        {
            let [renamed] = <[String; 1]>::try_from(column_names([name])).unwrap();
            assert_ne!(renamed, name);
            let plain = renamed.rsplit_once('_').unwrap().0;
            assert!(column_names([plain]) == [plain], "{name:?} became {renamed:?}");
        }
        for name in ["_CHANGE_TYPE", "_change_timestamp2", "_Change_Sequence_Number", "_PARTITIONDATE", "_strait_x"] {
            assert!(column_names([name]).concat().starts_with("c__"), "{name}");
        }
    }

    #[test]
    fn other_names_are_renamed_without_collision() {
        let names = column_names(["a.b", "a`b", "a/b", "A", "a", "*1st", "_PARTITIONTIME", "", "_strait_position"]);
        let distinct: HashSet<String> = names.iter().map(|n| n.to_lowercase()).collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        assert!(names.iter().all(|n| n.chars().all(|c| c.is_alphanumeric() || c == '_')), "{names:?}");
        let [a_dot_b, _, _, upper, lower, first, ..] = names.as_slice() else { unreachable!() };
        assert!(a_dot_b.starts_with("a_b_") && a_dot_b.len() == 12);
        assert_eq!(upper, "A");
        assert!(lower.starts_with("a_"));
        assert!(first.starts_with("_1st_"));
    }

    /// What is appended must not make a reserved name of one that is free.
    #[test]
    fn no_name_begins_as_a_reserved_one_after_it_was_renamed() {
        for sources in [["_table", "_TABLE"], ["_change", "_Change"], ["__root.", "__ROot\\"], ["_strait", "_STRAIT"]] {
            let names = column_names(sources);
            for name in &names {
                assert!(!RESERVED_PREFIXES.iter().any(|prefix| name.to_lowercase().starts_with(prefix)), "{names:?}");
            }
            assert_ne!(names.first(), names.last());
        }
    }

    #[test]
    fn a_renamed_column_is_read_back() {
        for name in ["a.b", "a`c", "with \"quotes\" and \\", "한 글"] {
            assert_eq!(source_column(&renamed_column_description(name)).as_deref(), Some(name));
        }
        assert_eq!(source_column("the customer's name"), None);
        let former = vec![
            NameHeld::always("a"),
            NameHeld::always("b, formerly [\"c\"]"),
            NameHeld { since_us: Some(7), until_us: Some(1_764_000_000_000_001), ..NameHeld::always("c") },
        ];
        for (since_us, until_us) in [(None, None), (Some(1_764_000_000_123_456), None), (Some(7), Some(8))] {
            let now = NameHeld { since_us, until_us, ..NameHeld::always("d\"e") };
            let names = ColumnNames { now, former: former.clone(), added_us: until_us };
            let described = format!("{} strait_zone=Europe/Berlin", names.described());
            assert_eq!(ColumnNames::in_description(&described), Some(names), "{described}");
            assert_eq!(beside_column_names(&described), "strait_zone=Europe/Berlin");
        }
        let names = ColumnNames { former: vec![NameHeld::always("a")], ..ColumnNames::new("b") };
        assert_eq!(names.described(), r#"Source column: "b", formerly ["a"]"#);
        // A person's words are no time of Strait's.
        let said = "Source column: \"d\", since yesterday";
        assert_eq!(ColumnNames::in_description(said), Some(ColumnNames::new("d")));
        assert_eq!(beside_column_names(said), ", since yesterday");
        assert_eq!(beside_column_names("the customer's name"), "the customer's name");
    }

    #[test]
    fn a_name_is_a_columns_since_a_time_and_until_another() {
        let held = NameHeld { since_us: Some(5), until_us: Some(9), ..NameHeld::always("a") };
        assert_eq!([4, 5, 8, 9].map(|sent| held.is_at(sent)), [false, true, true, false]);
        assert!(NameHeld::always("a").is_at(i64::MIN));
    }

    #[test]
    fn a_description_holds_as_many_former_names_as_bigquery_lets_it() {
        let former = (0..40).map(|place| NameHeld::always(&format!("{place:02}{}", "가".repeat(60))));
        let former: Vec<NameHeld> = former.collect();
        let now = NameHeld { since_us: Some(1_764_000_000_000_000), ..NameHeld::always("now") };
        let description = ColumnNames { now: now.clone(), former: former.clone(), added_us: None }.described();
        assert!(description.chars().count() <= 1024);
        let kept = ColumnNames::in_description(&description).unwrap();
        assert!(kept.former.len() > 10 && former.ends_with(&kept.former), "{kept:?}");
        assert_eq!(kept.now, now);
    }

    #[test]
    fn final_table_names_are_made_fit_without_collision() {
        let name = |table: &str| {
            let wanted = TableName { dataset: "replica".into(), table: format!("shop_{table}") };
            fit_for_bigquery(&wanted, &source("shop", table)).to_string()
        };
        assert_eq!(name("orders"), "replica.shop_orders");
        assert_eq!(name("주문"), "replica.shop_주문");
        let odd = name("a.b");
        assert!(odd.starts_with("replica.shop_a_b_") && odd.len() == "replica.shop_a_b_".len() + 8, "{odd}");
        assert_ne!(odd, name("a/b"));
        assert!(name(&"가".repeat(600)).len() <= 1024 + "replica.".len());
        for kept in ["ग्राहक", "étudiant-01", "table 01"] {
            assert_eq!(name(kept), format!("replica.shop_{kept}"));
        }
        assert_ne!(name("ⓐ"), "replica.shop_ⓐ");
        let long = TableName { dataset: "d".repeat(2000), table: "t".into() };
        let fit = fit_for_bigquery(&long, &source("s", "t"));
        assert!(fit.dataset.len() == 1024 && fit.table.starts_with("t_"), "{fit}");
    }

    proptest! {
        #[test]
        fn any_columns_get_distinct_names_that_can_be_quoted(sources in prop::collection::hash_set(".{0,40}", 1..12)) {
            let names = column_names(sources.iter().map(String::as_str));
            let distinct: HashSet<String> = names.iter().map(|n| n.to_lowercase()).collect();
            prop_assert_eq!(distinct.len(), sources.len());
            for name in &names {
                prop_assert!(quote_column(name).is_ok(), "{:?}", name);
                prop_assert!(name.chars().count() <= 300);
            }
        }
    }
}
