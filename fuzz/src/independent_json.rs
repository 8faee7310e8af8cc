//! JSON as `serde_json` reads it into values, and what a value does not say: duplicate names and nesting.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// What `serde_json` makes of a text.
pub enum Reading {
    /// A value.
    Value(Value),
    /// JSON by its grammar, but no value: half a surrogate pair, a number beyond a double, nested too deep.
    GrammarOnly {
        /// Whether it is half a surrogate pair.
        lone_surrogate: bool,
    },
    /// No JSON.
    Not,
}

pub fn read(text: &[u8]) -> Reading {
    match serde_json::from_slice::<Value>(text) {
        Ok(value) => Reading::Value(value),
        Err(error) if serde_json::from_slice::<IgnoredAny>(text).is_ok() => {
            let words = error.to_string();
            let lone_surrogate = words.contains("surrogate") || words.contains("unexpected end of hex escape");
            Reading::GrammarOnly { lone_surrogate }
        }
        Err(_) => Reading::Not,
    }
}

/// The names of an object's members in their order, duplicates included; None when it is none.
pub fn member_names(text: &str) -> Option<Vec<String>> {
    struct Names(Vec<String>);
    impl<'de> Deserialize<'de> for Names {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct NamesVisitor;
            impl<'de> Visitor<'de> for NamesVisitor {
                type Value = Names;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                    let mut names = Vec::new();
                    while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                        names.push(name);
                    }
                    Ok(Names(names))
                }
            }
            deserializer.deserialize_map(NamesVisitor)
        }
    }
    serde_json::from_str::<Names>(text).ok().map(|names| names.0)
}

pub fn has_duplicates(names: &[String]) -> bool {
    names.iter().enumerate().any(|(place, name)| names[..place].contains(name))
}

/// How deep a value is nested.
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
