//! Cuts a file of DMS messages into the values of Kafka records: one JSON object a line, or pretty-printed objects one after the
//! other. It must never drop a byte that is not white space between records: what is no JSON object is a record as well, so that a
//! bad line becomes one poison record and not a hole.

use serde::de::IgnoredAny;

/// A byte order mark, which some editors put first.
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// The records of a file, in its order.
///
/// Where no JSON object can be read, the text up to the next line that starts with `{` (or the end) is one record.
#[must_use]
pub fn records(file: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    let mut rest = file.strip_prefix(UTF8_MARK).unwrap_or(file).trim_ascii_start();
    while !rest.is_empty() {
        let length = object_length(rest).unwrap_or_else(|| raw_length(rest));
        let (record, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        records.push(record.trim_ascii_end());
        rest = after.trim_ascii_start();
    }
    records
}

/// How long the JSON object is that `text` begins with.
fn object_length(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'{') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    Some(values.byte_offset())
}

fn raw_length(text: &[u8]) -> usize {
    text.windows(2).position(|pair| pair == b"\n{").map_or(text.len(), |newline| newline.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str) -> Vec<&str> {
        records(file.as_bytes()).into_iter().map(|record| std::str::from_utf8(record).unwrap_or("not UTF-8")).collect()
    }

    #[test]
    fn one_object_a_line() {
        assert_eq!(read("{\"a\":1}\r\n{\"b\":2}\n\n"), ["{\"a\":1}", "{\"b\":2}"]);
    }

    #[test]
    fn indented_objects_keep_their_own_lines() {
        let file = "{\n\t\"data\":\t{\n\t\t\"id\":\t1\n\t}\n}\n{\n\t\"data\":\t{}\n}";
        assert_eq!(read(file), ["{\n\t\"data\":\t{\n\t\t\"id\":\t1\n\t}\n}", "{\n\t\"data\":\t{}\n}"]);
    }

    #[test]
    fn objects_without_a_line_between_them() {
        assert_eq!(read("{\"a\":1}{\"b\":2}"), ["{\"a\":1}", "{\"b\":2}"]);
    }

    #[test]
    fn a_bad_line_is_one_record_and_harms_no_other() {
        assert_eq!(read("{\"a\":1}\nnot json\n{\"b\":2}"), ["{\"a\":1}", "not json", "{\"b\":2}"]);
        assert_eq!(read("{\"a\":1}\n{\"cut\n{\"b\":2}"), ["{\"a\":1}", "{\"cut", "{\"b\":2}"]);
        assert_eq!(read("{\"a\":1} and more\n{\"b\":2}"), ["{\"a\":1}", "and more", "{\"b\":2}"]);
        assert_eq!(read("[1,2]\n17\n{\"b\":2}"), ["[1,2]\n17", "{\"b\":2}"]);
    }

    #[test]
    fn a_cut_end_is_a_record() {
        assert_eq!(read("{\"a\":1}\n{\"b\":"), ["{\"a\":1}", "{\"b\":"]);
    }

    #[test]
    fn bytes_that_are_not_utf8_stay_as_they_are() {
        assert_eq!(
            records(b"{\"a\":\"\xff\"}\n\xfe\xfe\n{}"),
            [&b"{\"a\":\"\xff\"}"[..], &b"\xfe\xfe"[..], &b"{}"[..]]
        );
    }

    #[test]
    fn nothing_but_white_space_lies_between_records() {
        let file = "\u{feff}  {\"a\":1}\n}\n{ {\n\n{\"b\":[1,{\"c\":\"\\ud83d\"}]}x";
        let joined: String = read(file).concat();
        let solid = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        assert_eq!(solid(&joined), solid(file.trim_start_matches('\u{feff}')));
    }

    #[test]
    fn an_empty_file_has_no_record() {
        assert!(records(b" \n\t\n").is_empty());
    }
}
