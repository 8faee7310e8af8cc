//! The text of PostgreSQL's own output plugin `test_decoding`, which tells everything that the log has: also NaN, which wal2json makes null.
//! (<https://www.postgresql.org/docs/15/test-decoding.html>)

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Begin,
    /// With its time.
    Commit(String),
    Change(RowChange),
}

/// A change of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowChange {
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) action: Action,
    /// The replica identity before an update, where it changed or is the whole row.
    pub(crate) old: Vec<Cell>,
    /// The row; of a delete its replica identity. Empty where the log has nothing.
    pub(crate) new: Vec<Cell>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Insert,
    Update,
    Delete,
    Truncate,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) name: String,
    pub(crate) value: CellValue,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CellValue {
    Null,
    /// Out of the row, and not changed.
    Unchanged,
    Text(String),
}

/// Reads a line; None when it is of another form.
pub(crate) fn parse(line: &str) -> Option<Line> {
    if line.starts_with("BEGIN") {
        return Some(Line::Begin);
    }
    if let Some(rest) = line.strip_prefix("COMMIT") {
        let (_, at) = rest.split_once("(at ")?;
        return Some(Line::Commit(at.strip_suffix(')')?.to_owned()));
    }
    let rest = line.strip_prefix("table ")?;
    let (schema, rest) = identifier(rest)?;
    let (table, rest) = identifier(rest.strip_prefix('.')?)?;
    let (word, rest) = rest.strip_prefix(": ")?.split_once(':')?;
    let action = match word {
        "INSERT" => Action::Insert,
        "UPDATE" => Action::Update,
        "DELETE" => Action::Delete,
        "TRUNCATE" => Action::Truncate,
        _ => return None,
    };
    let mut change = RowChange { schema, table, action, old: Vec::new(), new: Vec::new() };
    if action == Action::Truncate || rest.trim() == "(no-tuple-data)" {
        return Some(Line::Change(change));
    }
    let rest = match rest.strip_prefix(" old-key:") {
        None => rest,
        Some(rest) => {
            let (old, rest) = cells(rest)?;
            change.old = old;
            rest.strip_prefix(" new-tuple:")?
        }
    };
    let (new, rest) = cells(rest)?;
    change.new = new;
    rest.is_empty().then_some(Line::Change(change))
}

/// Cells up to the end or to ` new-tuple:`.
fn cells(text: &str) -> Option<(Vec<Cell>, &str)> {
    let mut cells = Vec::new();
    let mut rest = text;
    while !rest.is_empty() && !rest.starts_with(" new-tuple:") {
        let (name, after) = identifier(rest.strip_prefix(' ')?)?;
        // The type, which may end in brackets itself.
        let after = after.strip_prefix('[')?;
        let (_, after) = after.split_once("]:")?;
        let (value, after) = value(after)?;
        cells.push(Cell { name, value });
        rest = after;
    }
    Some((cells, rest))
}

fn value(text: &str) -> Option<(CellValue, &str)> {
    let quoted = text.strip_prefix('\'').or_else(|| text.strip_prefix("B'"));
    if let Some(mut rest) = quoted {
        let mut value = String::new();
        loop {
            let (part, after) = rest.split_once('\'')?;
            value.push_str(part);
            match after.strip_prefix('\'') {
                Some(after) => {
                    value.push('\'');
                    rest = after;
                }
                None => return Some((CellValue::Text(value), after)),
            }
        }
    }
    let (word, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
    let value = match word {
        "null" => CellValue::Null,
        "unchanged-toast-datum" => CellValue::Unchanged,
        other => CellValue::Text(other.to_owned()),
    };
    Some((value, rest))
}

/// A name, in quotation marks where it needs them.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find(|it: char| !(it.is_ascii_alphanumeric() || it == '_' || it == '$' || !it.is_ascii()))?;
        let (name, rest) = text.split_at(end);
        return (!name.is_empty()).then(|| (name.to_owned(), rest));
    };
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return Some((name, after)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn change(line: &str) -> RowChange {
        match parse(line) {
            Some(Line::Change(change)) => change,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn shown(cells: &[Cell]) -> Vec<String> {
        cells
            .iter()
            .map(|cell| match &cell.value {
                CellValue::Null => format!("{} NULL", cell.name),
                CellValue::Unchanged => format!("{} unchanged", cell.name),
                CellValue::Text(text) => format!("{} = {text}", cell.name),
            })
            .collect()
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(parse("BEGIN 693"), Some(Line::Begin));
        let commit = parse("COMMIT 693 (at 2024-07-29 00:58:17.97434+00)");
        assert_eq!(commit, Some(Line::Commit("2024-07-29 00:58:17.97434+00".to_owned())));
        let insert = change(
            "table public.t: INSERT: id[integer]:1 \"a \"\"b\"[character varying]:'it''s [x]: ''' tags[text[]]:'{a,\"b c\"}' \
             bits[bit]:B'101' n[numeric]:NaN ok[boolean]:true gone[text]:null",
        );
        assert_eq!((insert.schema.as_str(), insert.table.as_str(), insert.action), ("public", "t", Action::Insert));
        assert_eq!(
            shown(&insert.new),
            ["id = 1", "a \"b = it's [x]: '", "tags = {a,\"b c\"}", "bits = 101", "n = NaN", "ok = true", "gone NULL"]
        );
        let update = change(
            "table s.\"T\": UPDATE: old-key: id[integer]:1 new-tuple: id[integer]:2 body[text]:unchanged-toast-datum",
        );
        assert_eq!(update.table, "T");
        assert_eq!(shown(&update.old), ["id = 1"]);
        assert_eq!(shown(&update.new), ["id = 2", "body unchanged"]);
        let delete = change("table s.t: DELETE: id[integer]:1 at[timestamp without time zone]:'2024-01-01 00:00:00'");
        assert_eq!(shown(&delete.new), ["id = 1", "at = 2024-01-01 00:00:00"]);
        assert_eq!(change("table s.t: DELETE: (no-tuple-data)").new, []);
        assert_eq!(change("table s.t: TRUNCATE: (no-flags)").action, Action::Truncate);
        assert_eq!(shown(&change("table s.t: INSERT: a[text]:'two\nlines'").new), ["a = two\nlines"]);
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        assert_eq!(parse("table s.t: INSERT: a[text]:'no end"), None);
        assert_eq!(parse("opening a streamed block"), None);
    }
}
