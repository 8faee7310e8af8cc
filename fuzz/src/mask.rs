//! Masks: whatever an image looks like, what is left of it is its unmasked members to the letter and in their order, and of the masked
//! ones nothing but what the mask puts in their place. An independent reader takes both texts apart.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use strait::dms::{Change, Operation};
use strait::json_text;
use strait::mask::{MaskKey, MaskRules, Masker};

use crate::independent_json::{Reading, read};

pub const WORDS: &[&str] = &[
    "{\"card\":",
    "\"card\":",
    "\"CARD\" : ",
    "\"\\u0063ard\":",
    "\"BI_card\":",
    "\"bi_Card\":",
    "\"id\":",
    "\"cards\":",
    ",",
    "}",
    "\"secret\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\"\\\\\"",
    "\"\\\",\\\"card\\\":\"",
    "1.50",
    "-1e400",
    "null",
    "[{\"card\":1},2]",
    "{ }",
    "\t",
    "\"table-def\":{\"columns\":{",
    "\"old-table-def\":",
    "{\"type\":\"INT64\"}",
];

const KEY: &str = "0123456789abcdef0123456789abcdef";

pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    // What is no JSON, or nested too deep, does not get as far as a mask.
    if matches!(read(input), Reading::Not)
        || !json_text::is_within_depth(text)
        || !text.starts_with('{')
        || !text.ends_with('}')
    {
        return;
    }
    for action in ["drop", "redact", "hash"] {
        image(text, action);
    }
    definition(text);
}

fn masker(action: &str) -> Masker {
    let rules = MaskRules::parse(&format!("shop.users.Card={action}")).unwrap();
    Masker::new(rules, Some(MaskKey::from_secret(KEY).unwrap())).unwrap()
}

fn image(text: &str, action: &str) {
    let change = Change { operation: Operation::Insert, data: text, before: Some(text) };
    let before = members(text);
    let Ok(masked) = masker(action).change("shop", "users", &change) else {
        assert!(before.is_none(), "an image whose names can be read was refused");
        return;
    };
    let before = before.expect("an image was masked that has a name that cannot be read");
    let image = masked.data;
    assert_eq!(masked.before.as_ref(), Some(&image));
    let after = members(&image.text).unwrap_or_else(|| panic!("no object is left: {}", image.text));
    let kept = before.iter().filter(|(name, _)| action != "drop" || !is_card(name));
    let mut left = after.iter();
    for (name, value) in kept {
        let (name_left, value_left) = left.next().expect("a member is missing");
        assert_eq!(name_left, name);
        if !is_card(name) || value == "null" {
            assert_eq!(value_left, value, "an unmasked value was changed");
        } else if action == "redact" {
            assert_eq!(value_left, "\"redacted\"");
        } else {
            hashed(name, value, value_left, image.unhashed.is_some());
        }
    }
    assert!(left.next().is_none(), "a member was added");
    let is_touched = before.iter().any(|(name, value)| is_card(name) && (action == "drop" || value != "null"));
    assert!(is_touched || image.text == text, "an image without the column was changed");
}

fn is_card(name: &str) -> bool {
    let lower = name.to_lowercase();
    lower == "card" || lower == "bi_card"
}

fn hashed(name: &str, value: &str, left: &str, may_be_unhashed: bool) {
    if left == "\"redacted\"" {
        assert!(may_be_unhashed && serde_json::from_str::<String>(value).is_err(), "{name} was not hashed");
        return;
    }
    let hex = left.trim_matches('"');
    assert!(hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()), "{left}");
    // The same value has the same hash in whatever way it is written.
    if let Ok(Value::String(decoded)) = serde_json::from_str::<Value>(value) {
        let rewritten = serde_json::to_string(&decoded).unwrap();
        assert_eq!(MaskKey::from_secret(KEY).unwrap().hash(&rewritten).unwrap(), hex);
    }
}

/// A definition keeps its other columns, and what the masked one was called is all that can be left of it.
fn definition(text: &str) {
    let Reading::Value(mut expected) = read(text.as_bytes()) else {
        return;
    };
    let Ok(masked) = masker("drop").definition("shop", "users", text) else {
        return;
    };
    for member in ["table-def", "old-table-def"] {
        if let Some(columns) = expected.pointer_mut(&format!("/{member}/columns")).and_then(Value::as_object_mut) {
            columns.retain(|name, _| !is_card(name));
        }
    }
    // With a name twice, `serde_json` sees the last one.
    assert_eq!(serde_json::from_str::<Value>(&masked).unwrap(), expected);
}

/// The members of an object in their order, duplicates included, with their values' own text; None when a name cannot be read.
fn members(text: &str) -> Option<Vec<(String, String)>> {
    struct Members(Vec<(String, String)>);
    impl<'de> Deserialize<'de> for Members {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct MembersVisitor;
            impl<'de> Visitor<'de> for MembersVisitor {
                type Value = Members;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                    let mut members = Vec::new();
                    while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                        members.push((name, value.get().to_owned()));
                    }
                    Ok(Members(members))
                }
            }
            deserializer.deserialize_map(MembersVisitor)
        }
    }
    serde_json::from_str::<Members>(text).ok().map(|members| members.0)
}
