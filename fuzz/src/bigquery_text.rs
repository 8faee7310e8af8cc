//! A reader of BigQuery's quoted texts, written after its lexical rules and nothing else:
//! <https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#escape_sequences>.

/// What stands between the quotes at the beginning of `sql`, and what follows; None when BigQuery would refuse it.
pub fn unquote(sql: &str, quote: char) -> Option<(String, &str)> {
    let mut rest = sql.strip_prefix(quote)?;
    // Three quotes would begin another kind of literal.
    if quote != '`' && rest.starts_with(quote) && rest[quote.len_utf8()..].starts_with(quote) {
        return None;
    }
    let mut meant = String::new();
    loop {
        let c = rest.chars().next()?;
        rest = &rest[c.len_utf8()..];
        match c {
            c if c == quote => return Some((meant, rest)),
            // A literal with single quotes ends at the line's end at the latest.
            '\n' | '\r' => return None,
            '\\' => {
                let escaped = rest.chars().next()?;
                rest = &rest[escaped.len_utf8()..];
                let digits = |rest: &mut &str, count: usize, radix: u32| -> Option<char> {
                    let digits = rest.get(..count)?;
                    *rest = &rest[count..];
                    let is_number = digits.chars().all(|digit| digit.is_digit(radix));
                    // Half a surrogate pair is refused: no `char` is one.
                    char::from_u32(u32::from_str_radix(digits, radix).ok().filter(|_| is_number)?)
                };
                meant.push(match escaped {
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\u{b}',
                    '\\' | '?' | '"' | '\'' | '`' => escaped,
                    'x' | 'X' => digits(&mut rest, 2, 16)?,
                    'u' => digits(&mut rest, 4, 16)?,
                    'U' => digits(&mut rest, 8, 16)?,
                    _ => return None,
                });
            }
            c => meant.push(c),
        }
    }
}

/// The member that a JSON path `$."…"` names; None when it is another path.
pub fn member_of_path(path: &str) -> Option<String> {
    let mut rest = path.strip_prefix("$.\"")?.chars();
    let mut member = String::new();
    loop {
        match rest.next()? {
            '"' => break,
            '\\' => member.push(rest.next()?),
            c => member.push(c),
        }
    }
    rest.next().is_none().then_some(member)
}
