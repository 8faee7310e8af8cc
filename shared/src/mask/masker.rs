//! Masks the row images and table definitions of records, and remembers per table which columns it has seen, so that a mask
//! for a column that is not there can be told. Pure: text in, text out, and nothing of a text in an error.
//! It must never hand an image on of which a member's name could not be read, and never touch what no mask names.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::dms::{Change, Operation};
use crate::json_text::{self, Edit, EditError};
use crate::names::SourceTable;

use super::key::{LoneSurrogate, MaskKey};
use super::rules::{MaskAction, MaskRule, MaskRules, folded};

/// What stands in the place of a redacted value, as a JSON string.
const REDACTED: &str = "\"redacted\"";
/// The definition of a column whose values are texts now, whatever the source's type is.
const TEXT_COLUMN: &str = r#"{"type":"STRING"}"#;
/// DMS's `add-before-image-columns` rule puts a before-image's columns beside the new ones under this prefix, unless the rule
/// says another (AWS DMS user guide, "Using a before image"). Folded.
const BEFORE_IMAGE_PREFIX: &str = "bi_";
/// A column that is in none of so many rows is named: without a definition that is all that can be told.
const ROWS_BEFORE_A_WARNING: u32 = 100;
/// A source has a few dozen columns a table; what sends ever new names must not fill the memory.
const NAMES_AT_MOST: usize = 10_000;

/// An image after masking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedImage<'a> {
    /// Its JSON text; borrowed when nothing was masked.
    pub text: Cow<'a, str>,
    /// The column whose value has half a surrogate pair, so that it could not be hashed; it is redacted instead, and the
    /// record must not be applied.
    pub unhashed: Option<String>,
}

/// The images of a change after masking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedChange<'a> {
    /// The row image.
    pub data: MaskedImage<'a>,
    /// The before-image.
    pub before: Option<MaskedImage<'a>>,
}

/// An entry of `STRAIT_MASK` whose table was seen without its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownColumn {
    /// The table.
    pub table: SourceTable,
    /// `schema.table.column`, as the entry says it.
    pub path: String,
}

/// A column is to be hashed and there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("STRAIT_MASK_KEY_SECRET is required, because STRAIT_MASK hashes a column")]
pub struct NoMaskKey;

/// Masks what `STRAIT_MASK` names. Lives as long as the process.
#[derive(Debug)]
pub struct Masker {
    rules: MaskRules,
    key: Option<MaskKey>,
    /// By schema and table.
    tables: HashMap<String, HashMap<String, TableMask>>,
    unknown: Vec<UnknownColumn>,
}

impl Masker {
    /// # Errors
    /// When a column is to be hashed and there is no key.
    pub fn new(rules: MaskRules, key: Option<MaskKey>) -> Result<Self, NoMaskKey> {
        if rules.need_key() && key.is_none() {
            return Err(NoMaskKey);
        }
        Ok(Self { rules, key, tables: HashMap::new(), unknown: Vec::new() })
    }

    /// The images of a change of a table's row. They are JSON objects.
    ///
    /// # Errors
    /// When a member's name cannot be read: then nothing of the change may leave.
    pub fn change<'a>(
        &mut self,
        schema: &str,
        table: &str,
        change: &Change<'a>,
    ) -> Result<MaskedChange<'a>, EditError> {
        let key = self.key.clone();
        let mask = self.table(schema, table);
        let as_received = |text: &'a str| MaskedImage { text: Cow::Borrowed(text), unhashed: None };
        if mask.rules.is_empty() {
            return Ok(MaskedChange { data: as_received(change.data), before: change.before.map(as_received) });
        }
        let masked = MaskedChange {
            data: mask.image(key.as_ref(), change.data)?,
            before: change.before.map(|before| mask.image(key.as_ref(), before)).transpose()?,
        };
        // PostgreSQL's deletes are keys alone.
        if change.operation != Operation::Delete {
            mask.rows = mask.rows.saturating_add(1);
        }
        if mask.rows >= ROWS_BEFORE_A_WARNING {
            let unmet = mask.unreported(|rule| !rule.is_met);
            self.report(schema, table, unmet);
        }
        Ok(masked)
    }

    /// The `control` object of a control record: dropped columns are gone from its definitions, and those whose values are
    /// hashed or redacted are texts. It holds names and types only, no value.
    ///
    /// # Errors
    /// When a member's name cannot be read.
    pub fn definition<'a>(&mut self, schema: &str, table: &str, control: &'a str) -> Result<Cow<'a, str>, EditError> {
        let mask = self.table(schema, table);
        if mask.rules.is_empty() {
            return Ok(Cow::Borrowed(control));
        }
        let mut columns = None;
        let masked = edit_each(control, |name, value| match name {
            "table-def" => mask.table_definition(value, Some(&mut columns)),
            "old-table-def" => mask.table_definition(value, None),
            _ => Ok(Edit::Keep),
        })?;
        if let Some(columns) = columns {
            let is_of_any = |rule: &MaskRule| columns.iter().any(|column| rule.is_of_column(&folded(column)));
            let absent = mask.unreported(|rule| !is_of_any(&rule.rule));
            self.report(schema, table, absent);
        }
        Ok(masked)
    }

    /// The entries found since the last call whose column their table does not have; each is reported once.
    pub fn take_unknown(&mut self) -> Vec<UnknownColumn> {
        std::mem::take(&mut self.unknown)
    }

    fn table(&mut self, schema: &str, table: &str) -> &mut TableMask {
        // Not by `entry`, which wants owned names for every record.
        if !self.tables.get(schema).is_some_and(|tables| tables.contains_key(table)) {
            if self.tables.values().map(HashMap::len).sum::<usize>() >= NAMES_AT_MOST {
                self.tables.clear();
            }
            let mask = TableMask::of(&self.rules, schema, table);
            self.tables.entry(schema.to_owned()).or_default().insert(table.to_owned(), mask);
        }
        self.tables.entry(schema.to_owned()).or_default().entry(table.to_owned()).or_default()
    }

    fn report(&mut self, schema: &str, table: &str, paths: Vec<String>) {
        let table = SourceTable { schema: schema.to_owned(), table: table.to_owned() };
        self.unknown.extend(paths.into_iter().map(|path| UnknownColumn { table: table.clone(), path }));
    }
}

/// What is masked of one table.
#[derive(Debug, Default)]
struct TableMask {
    rules: Vec<RuleOfTable>,
    /// What is done to each member that was seen, by its name.
    members: HashMap<String, Option<MaskAction>>,
    /// Row images that were seen.
    rows: u32,
}

#[derive(Debug)]
struct RuleOfTable {
    rule: MaskRule,
    /// Whether it names this very table, so that a column that is not there is a mistake.
    is_of_this_table_alone: bool,
    /// Whether it has matched a member.
    is_met: bool,
    is_reported: bool,
}

impl TableMask {
    fn of(rules: &MaskRules, schema: &str, table: &str) -> Self {
        let rules = rules.of_table(schema, table).map(|rule| RuleOfTable {
            rule: rule.clone(),
            is_of_this_table_alone: rule.names_one_table(),
            is_met: false,
            is_reported: false,
        });
        Self { rules: rules.collect(), ..Self::default() }
    }

    /// What is done to a member of an image, or of the columns of a definition.
    fn action(&mut self, member: &str) -> Option<MaskAction> {
        if let Some(known) = self.members.get(member) {
            return *known;
        }
        let column = folded(member);
        let before_image_of = column.strip_prefix(BEFORE_IMAGE_PREFIX);
        let mut action = None;
        for rule in &mut self.rules {
            let is_before_image = before_image_of.is_some_and(|column| rule.rule.is_of_column(column));
            if rule.rule.is_of_column(&column) || is_before_image {
                rule.is_met = true;
                action = action.or(Some(rule.rule.action()));
            }
        }
        if self.members.len() >= NAMES_AT_MOST {
            self.members.clear();
        }
        self.members.insert(member.to_owned(), action);
        action
    }

    fn image<'a>(&mut self, key: Option<&MaskKey>, text: &'a str) -> Result<MaskedImage<'a>, EditError> {
        let mut unhashed = None;
        let text = json_text::edit_members(text, |name, value| {
            let Some(action) = self.action(name) else {
                return Edit::Keep;
            };
            match (action, value) {
                (MaskAction::Drop, _) => Edit::Remove,
                // That there is no value is no value.
                (_, "null") => Edit::Keep,
                (MaskAction::Redact, _) => Edit::Replace(REDACTED.to_owned()),
                (MaskAction::Hash, value) => match key.ok_or(LoneSurrogate).and_then(|key| key.hash(value)) {
                    Ok(hash) => Edit::Replace(format!("\"{hash}\"")),
                    Err(LoneSurrogate) => {
                        unhashed.get_or_insert_with(|| name.to_owned());
                        Edit::Replace(REDACTED.to_owned())
                    }
                },
            }
        })?;
        Ok(MaskedImage { text, unhashed })
    }

    /// A table's definition; the names of its columns go into `seen`.
    fn table_definition(
        &mut self,
        definition: &str,
        mut seen: Option<&mut Option<Vec<String>>>,
    ) -> Result<Edit, EditError> {
        edited(definition, |name, value| {
            if name != "columns" {
                return Ok(Edit::Keep);
            }
            edited(value, |column, _| {
                if let Some(seen) = seen.as_deref_mut() {
                    seen.get_or_insert_default().push(column.to_owned());
                }
                Ok(match self.action(column) {
                    None => Edit::Keep,
                    Some(MaskAction::Drop) => Edit::Remove,
                    Some(MaskAction::Hash | MaskAction::Redact) => Edit::Replace(TEXT_COLUMN.to_owned()),
                })
            })
        })
    }

    /// The paths of the entries for this very table of which `is_missing` is true, each once.
    fn unreported(&mut self, is_missing: impl Fn(&RuleOfTable) -> bool) -> Vec<String> {
        let mut paths = Vec::new();
        for rule in &mut self.rules {
            if rule.is_of_this_table_alone && !rule.is_reported && is_missing(rule) {
                rule.is_reported = true;
                paths.push(rule.rule.path().to_owned());
            }
        }
        paths
    }
}

/// As [`json_text::edit_members`], for an edit that may fail.
fn edit_each<'a>(
    text: &'a str,
    mut edit: impl FnMut(&str, &'a str) -> Result<Edit, EditError>,
) -> Result<Cow<'a, str>, EditError> {
    let mut failure = None;
    let text = json_text::edit_members(text, |name, value| {
        edit(name, value).unwrap_or_else(|error| {
            failure.get_or_insert(error);
            Edit::Keep
        })
    })?;
    failure.map_or(Ok(text), Err)
}

/// The edit of a member whose value is an object that is edited; one that is none stays.
fn edited<'a>(value: &'a str, edit: impl FnMut(&str, &'a str) -> Result<Edit, EditError>) -> Result<Edit, EditError> {
    if !value.starts_with('{') {
        return Ok(Edit::Keep);
    }
    Ok(match edit_each(value, edit)? {
        Cow::Borrowed(_) => Edit::Keep,
        Cow::Owned(text) => Edit::Replace(text),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    /// Of `ada@example.com`; computed by Python.
    const ADA: &str = "35388a70fac9997cbb89e65a85aaf69e5e6637bc6572addbf8d5ba60415f2ef6";

    fn masker(rules: &str) -> Masker {
        Masker::new(MaskRules::parse(rules).unwrap(), Some(MaskKey::from_secret(KEY).unwrap())).unwrap()
    }

    fn change<'a>(data: &'a str, before: Option<&'a str>) -> Change<'a> {
        Change { operation: Operation::Update, data, before }
    }

    fn image(rules: &str, text: &str) -> String {
        masker(rules).change("shop", "users", &change(text, None)).unwrap().data.text.into_owned()
    }

    #[test]
    fn a_masked_value_goes_and_everything_else_stays_to_the_letter() {
        let rules = "shop.users.card=drop,shop.users.email=hash,shop.users.name=redact";
        let text = "{\t\"id\" : 1.50 ,\n\"card\":4111, \"email\"\t: \"ada@example.com\", \"name\":\"Ada\" , \"x\":{\"card\": [1E2]} }";
        let expected =
            format!("{{\t\"id\" : 1.50, \"email\"\t: \"{ADA}\", \"name\":\"redacted\" , \"x\":{{\"card\": [1E2]}} }}");
        assert_eq!(image(rules, text), expected);
        // Wherever a dropped member stands, what is left is JSON.
        for (text, expected) in [
            (r#"{"card":1}"#, "{}"),
            (r#"{ "card":1 }"#, "{  }"),
            (r#"{"card":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"a":2, "card":1}"#, r#"{"a":2}"#),
            (r#"{"card":1,"card":"2","a":2,"card":{"card":3},"b":3,"card":[4],"card":5}"#, r#"{"a":2,"b":3}"#),
            (r#"{"card":null,"a":2}"#, r#"{"a":2}"#),
        ] {
            assert_eq!(image(rules, text), expected);
        }
    }

    #[test]
    fn a_name_is_found_however_it_is_written() {
        let rules = "shop.users.email=redact";
        for name in ["email", "EMail", r"\u0065mail", "BI_email", "bi_EMAIL", r"\u0042I_email"] {
            let text = format!(r#"{{"a":1,"{name}":"secret"}}"#);
            assert_eq!(image(rules, &text), format!(r#"{{"a":1,"{name}":"redacted"}}"#));
        }
        for name in ["emails", "BI_BI_email", "e-mail"] {
            let text = format!(r#"{{"{name}":"stays"}}"#);
            assert_eq!(image(rules, &text), text);
        }
        let twice = r#"{"email":"one","Email":"two","email":{"deep":["three"]}}"#;
        assert_eq!(image(rules, twice), r#"{"email":"redacted","Email":"redacted","email":"redacted"}"#);
    }

    #[test]
    fn null_stays_null_and_a_before_image_is_masked_alike() {
        let mut masker = masker("*.users.*id=hash,shop.users.name=redact");
        let images = change(r#"{"id":null,"name":null}"#, Some(r#"{"id":"ada@example.com"}"#));
        let masked = masker.change("shop", "users", &images).unwrap();
        assert_eq!(masked.data.text, r#"{"id":null,"name":null}"#);
        assert_eq!(masked.before.unwrap().text, format!(r#"{{"id":"{ADA}"}}"#));
    }

    #[test]
    fn a_table_without_masks_is_not_touched() {
        let text = r#"{"email":"\ud83d"}"#;
        let mut masker = masker("shop.users.email=drop");
        let images = change(text, Some(text));
        let masked = masker.change("shop", "orders", &images).unwrap();
        assert!(matches!(masked.data.text, Cow::Borrowed(_)) && masked.data.text == text);
        // Of a table with masks a member whose name cannot be read could be any.
        let unreadable = change(r#"{"email\ud83d":"secret"}"#, None);
        assert_eq!(masker.change("shop", "users", &unreadable), Err(EditError::UnreadableName));
    }

    #[test]
    fn what_cannot_be_hashed_is_redacted_and_said() {
        let mut masker = masker("shop.users.email=hash,shop.users.name=redact");
        let images = change(r#"{"name":"\ud83d","email":"secret \ud83d"}"#, None);
        let masked = masker.change("shop", "users", &images).unwrap().data;
        assert_eq!(masked.text, r#"{"name":"redacted","email":"redacted"}"#);
        assert_eq!(masked.unhashed.as_deref(), Some("email"));
    }

    #[test]
    fn a_definition_says_what_the_values_are_now() {
        let mut masker = masker("shop.users.card=drop,shop.users.ID=hash,shop.users.born=redact");
        let control = r#"{"table-def":{"columns":{"id":{"type":"INT64","nullable":false},"card":{"type":"INT64"},"born":{"type":"DATE"},"n":{"type":"INT32"}},"primary-key":["id"]},"old-table-def":{"columns":{"card":{"type":"INT64"}}},"column-names":["n"]}"#;
        let expected = r#"{"table-def":{"columns":{"id":{"type":"STRING"},"born":{"type":"STRING"},"n":{"type":"INT32"}},"primary-key":["id"]},"old-table-def":{"columns":{}},"column-names":["n"]}"#;
        assert_eq!(masker.definition("shop", "users", control).unwrap(), expected);
        assert_eq!(masker.take_unknown(), []);
        for other in ["{}", r#"{"table-def":7}"#, r#"{"table-def":{"columns":[{"card":1}]}}"#] {
            assert_eq!(masker.definition("shop", "users", other).unwrap(), other);
        }
        assert_eq!(masker.definition("shop", "orders", control).unwrap(), control);
    }

    #[test]
    fn a_column_that_a_definition_does_not_have_is_named_once() {
        let mut masker = masker("shop.users.emial=drop,*.users.phone=drop,shop.users.name=drop");
        let control = r#"{"table-def":{"columns":{"id":{"type":"INT64"},"name":{"type":"STRING"}}}}"#;
        let unknown = |path: &str| UnknownColumn {
            table: SourceTable { schema: "shop".to_owned(), table: "users".to_owned() },
            path: path.to_owned(),
        };
        masker.definition("shop", "users", control).unwrap();
        // A glob over tables is no claim that each of them has the column.
        assert_eq!(masker.take_unknown(), [unknown("shop.users.emial")]);
        masker.definition("shop", "users", control).unwrap();
        masker.definition("shop", "users", "{}").unwrap();
        assert_eq!(masker.take_unknown(), []);
        // Renamed at the source: under its new name it leaves as it is.
        let renamed = r#"{"table-def":{"columns":{"id":{"type":"INT64"},"full_name":{"type":"STRING"}}}}"#;
        masker.definition("shop", "users", renamed).unwrap();
        assert_eq!(masker.take_unknown(), [unknown("shop.users.name")]);
    }

    #[test]
    fn a_column_that_no_row_has_is_named_once() {
        let mut masker = masker("shop.users.emial=drop,shop.users.name=hash");
        for row in 0..3 * ROWS_BEFORE_A_WARNING {
            masker.change("shop", "users", &change(r#"{"id":1,"NAME":"x"}"#, None)).unwrap();
            let expected = if row + 1 == ROWS_BEFORE_A_WARNING { vec!["shop.users.emial"] } else { vec![] };
            let unknown = masker.take_unknown();
            assert_eq!(unknown.iter().map(|unknown| unknown.path.as_str()).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn hashing_without_a_key_is_refused() {
        let rules = |text| MaskRules::parse(text).unwrap();
        assert!(Masker::new(rules("a.b.c=hash"), None).is_err());
        assert!(Masker::new(rules("a.b.c=drop,a.b.d=redact"), None).is_ok());
    }

    /// A value, with the members `a`, `card`, … inside of it as well.
    fn json_value() -> impl Strategy<Value = String> {
        let text = |text: String| serde_json::to_string(&text).unwrap();
        let scalar = prop_oneof![
            any::<String>().prop_map(text),
            any::<String>().prop_map(|text| {
                let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
                format!("\"{escaped}\"")
            }),
            any::<i64>().prop_map(|number| number.to_string()),
            "-?[1-9][0-9]{0,30}\\.[0-9]{1,30}([eE][+-]?[0-9]{1,3})?".prop_map(|number| number),
            prop_oneof![Just("true"), Just("false"), Just("null"), Just("\"\""), Just("[]"), Just("{ }")]
                .prop_map(str::to_owned),
        ];
        scalar.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" ,\n"))),
                prop::collection::vec(inner, 1..4).prop_map(|items| {
                    let members: Vec<String> = items.iter().map(|item| format!("\"card\": {item}")).collect();
                    format!("{{{}}}", members.join(","))
                }),
            ]
        })
    }

    proptest! {
        /// Whatever the image: what is left of it is what its unmasked members were, in their order, to the letter.
        #[test]
        fn unmasked_members_stay_to_the_letter_and_masked_ones_do_not_stay(
            members in prop::collection::vec(
                (
                    prop_oneof![Just("card"), Just("Card"), Just("\\u0063ard"), Just("id"), Just("name"), Just("n")],
                    json_value(),
                    "[ \t\n]{0,2}",
                ),
                0..8,
            ),
            action in prop_oneof![Just("drop"), Just("redact"), Just("hash")],
        ) {
            let written: Vec<String> =
                members.iter().map(|(name, value, space)| format!("{space}\"{name}\"{space}:{space}{value}{space}")).collect();
            let text = format!("{{{}}}", written.join(","));
            let masked = image(&format!("shop.users.card={action}"), &text);
            let left: Vec<(String, String)> = {
                let mut left = Vec::new();
                json_text::edit_members(&masked, |name, value| {
                    left.push((name.to_owned(), value.to_owned()));
                    Edit::Keep
                })
                .unwrap();
                left
            };
            let is_card = |name: &str| name != "id" && name != "name" && name != "n";
            let expected: Vec<(String, String)> = members
                .iter()
                .filter(|(name, ..)| !(action == "drop" && is_card(name)))
                .map(|(name, value, _)| {
                    let plain = if name.starts_with('\\') { "card" } else { name };
                    let is_masked = is_card(name) && value != "null";
                    let value = match action {
                        "redact" if is_masked => "\"redacted\"".to_owned(),
                        "hash" if is_masked => {
                            format!("\"{}\"", MaskKey::from_secret(KEY).unwrap().hash(value).unwrap())
                        }
                        _ => value.clone(),
                    };
                    (plain.to_owned(), value)
                })
                .collect();
            prop_assert_eq!(left, expected, "{} became {}", text, masked);
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&masked).is_ok(), "{} became {}", text, masked);
        }
    }
}
