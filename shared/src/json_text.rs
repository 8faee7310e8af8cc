//! JSON as text: what has to be known of a text that is stored as it was received, without building a value of it.
//! It must never re-render anything: a number keeps its digits, a member its place; only escaped surrogate pairs are
//! written out as UTF-8, because BigQuery's `JSON_VALUE` turns each half of an escaped pair into U+FFFD, and members that
//! somebody asks to be edited are.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

/// The deepest nesting that is let through. It is `serde_json`'s own limit for values, and far from BigQuery's (500), so
/// that nothing downstream meets a text that it cannot read without exhausting its stack.
pub const MAX_DEPTH: usize = 128;

/// Whether objects and arrays are nested at most [`MAX_DEPTH`] deep. The text need not be JSON.
#[must_use]
pub fn is_within_depth(text: &str) -> bool {
    // A text with so few opening brackets, inside strings or not, cannot be deep; counting them is many times faster than the walk.
    let mut opening = memchr::memchr2_iter(b'{', b'[', text.as_bytes());
    opening.nth(MAX_DEPTH).is_none() || is_walked_within_depth(text)
}

fn is_walked_within_depth(text: &str) -> bool {
    let mut depth = 0_usize;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'{' | b'[' => {
                depth = depth.saturating_add(1);
                if depth > MAX_DEPTH {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// Goes on after the closing quote.
fn skip_string(bytes: &mut std::str::Bytes<'_>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

/// A `T` that is read from a JSON object alone. The readers that serde derives take a list as well, and give its items to the fields by
/// their places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FromObject<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for FromObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

/// What became of the escaped surrogates of a JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Surrogates<'a> {
    /// No half is alone. The text is borrowed when there was nothing to write out.
    Paired(Cow<'a, str>),
    /// A half without its other half, which no UTF-8 can hold.
    Lone {
        /// The top-level member it is in, unless it is in a member's name or not in an object.
        member: Option<String>,
    },
}

/// Writes escaped surrogate pairs (`\ud83d\ude00`) out as UTF-8. The text has to be valid JSON.
#[must_use]
pub fn normalise_surrogates(text: &str) -> Surrogates<'_> {
    // The usual text has none, and these searches are many times faster than the walk below.
    let from_first_escape = memchr::memchr(b'\\', text.as_bytes()).and_then(|at| text.get(at..)).unwrap_or_default();
    if !from_first_escape.contains("\\ud") && !from_first_escape.contains("\\uD") {
        return Surrogates::Paired(Cow::Borrowed(text));
    }
    Walk::new(text).run()
}

/// One pass over a text that may hold escaped surrogates.
struct Walk<'a> {
    text: &'a str,
    /// Byte offset.
    at: usize,
    depth: usize,
    /// The last byte outside strings that is no white space: tells a member's name from a text value.
    last_token: u8,
    /// The name of the top-level member, with its quotes, still escaped.
    member: Option<&'a str>,
    written: String,
    /// Everything before is in `written`, if anything is.
    copied_to: usize,
}

impl<'a> Walk<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0, last_token: 0, member: None, written: String::new(), copied_to: 0 }
    }

    fn run(mut self) -> Surrogates<'a> {
        while let Some(byte) = self.byte(self.at) {
            match byte {
                b'"' => {
                    let is_member_name = self.depth == 1 && matches!(self.last_token, b'{' | b',');
                    let start = self.at;
                    if is_member_name {
                        self.member = None;
                    }
                    if self.string().is_err() {
                        let member = self.member.and_then(|quoted| serde_json::from_str(quoted).ok());
                        return Surrogates::Lone { member };
                    }
                    if is_member_name {
                        self.member = self.text.get(start..self.at);
                    }
                }
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            // After a string this is its closing quote, which is no separator either.
            if !byte.is_ascii_whitespace() {
                self.last_token = byte;
            }
            if byte != b'"' {
                self.at = self.at.saturating_add(1);
            }
        }
        if self.copied_to == 0 {
            return Surrogates::Paired(Cow::Borrowed(self.text));
        }
        self.copy_up_to(self.text.len());
        Surrogates::Paired(Cow::Owned(self.written))
    }

    /// From the opening quote to after the closing one.
    fn string(&mut self) -> Result<(), LoneSurrogate> {
        self.at = self.at.saturating_add(1);
        while let Some(byte) = self.byte(self.at) {
            match (byte, self.byte(self.at.saturating_add(1))) {
                (b'"', _) => {
                    self.at = self.at.saturating_add(1);
                    return Ok(());
                }
                (b'\\', Some(b'u')) => self.unicode_escape()?,
                // `\\` and `\"` must not be taken apart.
                (b'\\', _) => self.at = self.at.saturating_add(2),
                _ => self.at = self.at.saturating_add(1),
            }
        }
        Ok(())
    }

    fn unicode_escape(&mut self) -> Result<(), LoneSurrogate> {
        const ESCAPE: usize = 6;
        let second_at = self.at.saturating_add(ESCAPE);
        match self.code_unit(self.at) {
            Some(high @ 0xD800..=0xDBFF) => {
                let low = self.code_unit(second_at).ok_or(LoneSurrogate)?;
                let mut decoded = char::decode_utf16([high, low]);
                let Some(Ok(character)) = decoded.next() else {
                    return Err(LoneSurrogate);
                };
                self.copy_up_to(self.at);
                self.written.push(character);
                self.at = second_at.saturating_add(ESCAPE);
                self.copied_to = self.at;
            }
            Some(0xDC00..=0xDFFF) => return Err(LoneSurrogate),
            _ => self.at = second_at,
        }
        Ok(())
    }

    /// The UTF-16 code unit of a `\uXXXX` that begins at `at`.
    fn code_unit(&self, at: usize) -> Option<u16> {
        let digits = self.text.get(at..at.saturating_add(6))?.strip_prefix("\\u")?;
        // `from_str_radix` takes a sign, JSON does not; the text is known to be JSON.
        u16::from_str_radix(digits, 16).ok()
    }

    fn copy_up_to(&mut self, end: usize) {
        if let Some(text) = self.text.get(self.copied_to..end) {
            self.written.push_str(text);
        }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }
}

/// Half of a pair.
struct LoneSurrogate;

/// What is done to a member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// It stays to the letter.
    Keep,
    /// It goes, with one of the commas beside it.
    Remove,
    /// Its value becomes this JSON text; its name stays to the letter.
    Replace(String),
}

/// Why an object's members could not be edited. Nothing of the text is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// A member's name holds half a surrogate pair, so that it cannot be told which member it is.
    #[error("lone surrogate in a column's name")]
    UnreadableName,
    /// The text is no JSON object.
    #[error("not a JSON object")]
    NotAnObject,
}

/// Edits the top-level members of a JSON object in one pass: `edit` is asked about every one, duplicates included, with its
/// name unescaped and its value as it stands there. All that is not edited stays to the letter, white space included. The
/// text has to be valid JSON.
///
/// # Errors
/// When a member's name cannot be read, or the text is no object; the caller must then take nothing for edited.
pub fn edit_members<'a>(text: &'a str, mut edit: impl FnMut(&str, &'a str) -> Edit) -> Result<Cow<'a, str>, EditError> {
    let mut members = Members::of(text)?;
    let mut written = String::new();
    // Everything before is in `written`, unless it was removed.
    let mut copied_to = 0_usize;
    let mut is_edited = false;
    // The end of the member before; what stands between it and a removed one goes with that one.
    let mut previous_end = None;
    let mut is_first_kept_to_come = true;
    while let Some(member) = members.next_member()? {
        if is_edited && is_first_kept_to_come {
            // What was removed before took no comma with it: this one follows the brace.
            copied_to = member.start;
        }
        let value = text.get(member.value_start..member.end).ok_or(EditError::NotAnObject)?;
        match edit(&member.name, value) {
            Edit::Keep => is_first_kept_to_come = false,
            Edit::Replace(replacement) => {
                written.push_str(text.get(copied_to..member.value_start).unwrap_or_default());
                written.push_str(&replacement);
                copied_to = member.end;
                is_edited = true;
                is_first_kept_to_come = false;
            }
            Edit::Remove => {
                let from = match previous_end {
                    Some(end) if !is_first_kept_to_come => end,
                    _ => member.start,
                };
                written.push_str(text.get(copied_to..from).unwrap_or_default());
                copied_to = member.end;
                is_edited = true;
            }
        }
        previous_end = Some(member.end);
    }
    if !is_edited {
        return Ok(Cow::Borrowed(text));
    }
    written.push_str(text.get(copied_to..).unwrap_or_default());
    Ok(Cow::Owned(written))
}

/// A member of an object, by its places in the text.
struct Member<'a> {
    name: Cow<'a, str>,
    /// Where its name begins, with the quote.
    start: usize,
    value_start: usize,
    /// Behind its value.
    end: usize,
}

/// The top-level members of an object, one after the other.
struct Members<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Members<'a> {
    fn of(text: &'a str) -> Result<Self, EditError> {
        let mut members = Self { text, at: 0 };
        members.skip_white_space();
        members.take(b'{')?;
        Ok(members)
    }

    fn next_member(&mut self) -> Result<Option<Member<'a>>, EditError> {
        self.skip_white_space();
        match self.byte() {
            Some(b'}') => return Ok(None),
            Some(b',') => {
                self.at = self.at.saturating_add(1);
                self.skip_white_space();
            }
            _ => {}
        }
        let start = self.at;
        self.skip_string()?;
        let quoted = self.text.get(start..self.at).ok_or(EditError::NotAnObject)?;
        let name = unquoted(quoted).ok_or(EditError::UnreadableName)?;
        self.skip_white_space();
        self.take(b':')?;
        self.skip_white_space();
        let value_start = self.at;
        self.skip_value()?;
        Ok(Some(Member { name, start, value_start, end: self.at }))
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> Result<(), EditError> {
        if self.byte() != Some(wanted) {
            return Err(EditError::NotAnObject);
        }
        self.at = self.at.saturating_add(1);
        Ok(())
    }

    fn skip_white_space(&mut self) {
        while self.byte().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at = self.at.saturating_add(1);
        }
    }

    /// From the opening quote to behind the closing one.
    fn skip_string(&mut self) -> Result<(), EditError> {
        self.take(b'"')?;
        let mut bytes = self.text.get(self.at..).unwrap_or_default().bytes();
        let length = bytes.len();
        skip_string(&mut bytes);
        self.at = self.at.saturating_add(length.saturating_sub(bytes.len()));
        Ok(())
    }

    fn skip_value(&mut self) -> Result<(), EditError> {
        let start = self.at;
        let mut depth = 0_usize;
        while let Some(byte) = self.byte() {
            match byte {
                b'"' => {
                    self.skip_string()?;
                    if depth == 0 {
                        return Ok(());
                    }
                    continue;
                }
                b'{' | b'[' => depth = depth.saturating_add(1),
                b'}' | b']' if depth > 0 => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.at = self.at.saturating_add(1);
                        return Ok(());
                    }
                }
                b',' | b'}' if depth == 0 => break,
                byte if depth == 0 && byte.is_ascii_whitespace() => break,
                _ => {}
            }
            self.at = self.at.saturating_add(1);
        }
        if self.at == start { Err(EditError::NotAnObject) } else { Ok(()) }
    }
}

/// The text of a JSON string with its quotes, borrowed when it has no escapes; None when UTF-8 cannot hold it.
pub(crate) fn unquoted(quoted: &str) -> Option<Cow<'_, str>> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    let is_escaped = memchr::memchr(b'\\', inner.as_bytes()).is_some();
    if is_escaped { serde_json::from_str(quoted).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// Why a text is not JSON, without a word of the text: `serde_json`'s own message can quote what it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonFault {
    is_cut_off: bool,
    line: usize,
    column: usize,
}

impl JsonFault {
    /// Where and roughly why the parser stopped.
    #[must_use]
    pub fn of(error: &serde_json::Error) -> Self {
        Self { is_cut_off: error.classify() == Category::Eof, line: error.line(), column: error.column() }
    }
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_cut_off { "it ends too early" } else { "syntax error" };
        write!(f, "{what} at line {} column {}", self.line, self.column)
    }
}

/// The text of a JSON string, borrowed when it has no escapes; None when the value is no string, or none that UTF-8 can hold.
pub(crate) fn string_value(raw: &RawValue) -> Option<Cow<'_, str>> {
    unquoted(raw.get())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    fn paired(text: &str) -> Cow<'_, str> {
        match normalise_surrogates(text) {
            Surrogates::Paired(text) => text,
            Surrogates::Lone { member } => panic!("lone surrogate in {member:?}"),
        }
    }

    fn lone_in(text: &str) -> Option<String> {
        match normalise_surrogates(text) {
            Surrogates::Lone { member } => member,
            Surrogates::Paired(text) => panic!("no lone surrogate in {text}"),
        }
    }

    #[test]
    fn nesting_is_counted_outside_strings_only() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_within_depth(&nested(MAX_DEPTH)));
        assert!(!is_within_depth(&nested(MAX_DEPTH + 1)));
        assert!(!is_within_depth(&"{\"a\":".repeat(100_000)));
        assert!(is_within_depth(&format!(r#"{{"a":"{}\"[\\","b":[]}}"#, "[".repeat(1_000))));
        assert!(is_within_depth(&format!("[{}]", "[],".repeat(1_000))));
    }

    #[test]
    fn a_pair_is_written_out_and_nothing_else_changes() {
        assert_eq!(
            paired(r#"{"a":1.50,"b":"x\ud83d\ude00y\u00e9\n","a":"\uD83D\uDE00"}"#),
            "{\"a\":1.50,\"b\":\"x\u{1f600}y\\u00e9\\n\",\"a\":\"\u{1f600}\"}"
        );
        assert_eq!(paired(r#"{"\ud83d\ude00":"\ud83d\ude00\ud83d\ude00"}"#), "{\"\u{1f600}\":\"\u{1f600}\u{1f600}\"}");
        // The backslash itself is escaped: this is the text `\ud83d`, not a surrogate.
        let escaped = r#"{"a":"\\ud83d","b":"\\\\ud83d\\"}"#;
        assert!(matches!(paired(escaped), Cow::Borrowed(text) if text == escaped));
        // An escaped backslash before a real pair.
        assert_eq!(paired(r#"["\\\ud83d\ude00"]"#), "[\"\\\\\u{1f600}\"]");
        // \ud7ff is a character of its own.
        let hangul = r#"["\ud7ff"]"#;
        assert!(matches!(paired(hangul), Cow::Borrowed(text) if text == hangul));
    }

    #[test]
    fn a_lone_surrogate_is_reported_with_its_column() {
        assert_eq!(lone_in(r#"{"a":"x","b c":"\ud83d"}"#).unwrap(), "b c");
        assert_eq!(lone_in(r#"{"a":"\ude00\ud83d"}"#).unwrap(), "a");
        for half in ["d800", "dbff", "dc00", "dfff", "DFFF"] {
            assert_eq!(lone_in(&format!(r#"{{"a":"\u{half}"}}"#)).unwrap(), "a");
        }
        assert_eq!(lone_in(r#"{"a":"\ud83dx"}"#).unwrap(), "a");
        assert_eq!(lone_in(r#"{"a":"\ud83d\n"}"#).unwrap(), "a");
        assert_eq!(lone_in(r#"{"a":"\ud83dA\ude00"}"#).unwrap(), "a");
        assert_eq!(lone_in(r#"{ "a" : 1 , "b\"\u0063" : {"x":["y","\ud83d"]} }"#).unwrap(), "b\"c");
        assert_eq!(lone_in(r#"{"a":{"x":1},"b":"\ud83d\ude00","c":"\ud83d\u0041"}"#).unwrap(), "c");
        assert_eq!(lone_in(r#"{"a":1,"\ud83d":"x"}"#), None);
        assert_eq!(lone_in(r#"["\ud83d"]"#), None);
    }

    proptest! {
        #[test]
        fn the_value_stays_the_same(keys in prop::collection::vec(any::<String>(), 0..4), value in any::<String>()) {
            // Everything escaped, as DMS does to what is not ASCII.
            let escape = |text: &str| -> String {
                text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
            };
            let members: Vec<String> = keys
                .iter()
                .map(|key| format!("\"{}\":[\"{}\"]", escape(key), escape(&value)))
                .collect();
            let text = format!("{{{}}}", members.join(", "));
            let normalised = paired(&text);
            let before: serde_json::Value = serde_json::from_str(&text).unwrap();
            let after: serde_json::Value = serde_json::from_str(&normalised).unwrap();
            prop_assert_eq!(before, after);
            prop_assert!(!normalised.contains("\\ud83"));
        }

        #[test]
        fn no_text_makes_it_panic(text in r#"[\[\]{}",:a\\ud8cD0\ud7ff😀 ]{0,60}"#) {
            let _ = is_within_depth(&text);
            let _ = normalise_surrogates(&text);
        }
    }
}
