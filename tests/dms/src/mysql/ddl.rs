//! ALTER TABLE statements as they stand in the binlog, one alteration each. What is not known is an error and never passed over: the
//! rows that follow would be read by the wrong names.

use crate::TaskError;
use crate::mysql::SourceColumn;
use crate::mysql::SourceTable;

/// An alteration of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Alteration {
    Add { name: String, definition: Definition, place: Place },
    Drop { name: String },
    Rename { from: String, to: String },
    Modify { name: String, definition: Definition },
}

/// A column's type and whether it may be NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) type_text: String,
    pub(crate) nullable: bool,
}

/// Where a new column goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    First,
    After(String),
    Last,
}

/// The altered table (its schema where the statement names it) and what is done; None for a statement that alters no table.
pub(crate) fn parse(sql: &str) -> Result<Option<(Option<String>, String, Alteration)>, TaskError> {
    let unknown = || TaskError::Unknown(format!("the statement: {sql}"));
    let tokens = tokens(sql);
    let mut words = Words { tokens: &tokens };
    if !(words.keyword("ALTER") && words.keyword("TABLE")) {
        return Ok(None);
    }
    let first = words.name().ok_or_else(unknown)?;
    let (schema, table) =
        if words.keyword(".") { (Some(first), words.name().ok_or_else(unknown)?) } else { (None, first) };
    let alteration = words.alteration().ok_or_else(unknown)?;
    if words.tokens.is_empty() { Ok(Some((schema, table, alteration))) } else { Err(unknown()) }
}

/// What a table is after an alteration, DMS's word for that, and the columns it is about.
pub(crate) fn apply(
    table: &SourceTable,
    alteration: &Alteration,
) -> Result<(SourceTable, &'static str, Vec<String>), TaskError> {
    let mut new = table.clone();
    let place_of = |name: &str| {
        let place = table.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name));
        place.ok_or_else(|| TaskError::Unknown(format!("the column {name} of {}", table.name)))
    };
    let (word, columns) = match alteration {
        Alteration::Add { name, definition, place } => {
            let at = match place {
                Place::First => 0,
                Place::Last => new.columns.len(),
                Place::After(other) => place_of(other)?.saturating_add(1),
            };
            new.columns.insert(at, definition.named(name));
            ("add-column", vec![name.clone()])
        }
        Alteration::Drop { name } => {
            new.columns.remove(place_of(name)?);
            ("drop-column", vec![name.clone()])
        }
        Alteration::Rename { from, to } => {
            let place = place_of(from)?;
            if let Some(column) = new.columns.get_mut(place) {
                column.name.clone_from(to);
            }
            for key in new.primary_key.iter_mut().filter(|key| key.eq_ignore_ascii_case(from)) {
                key.clone_from(to);
            }
            ("rename-column", vec![to.clone()])
        }
        Alteration::Modify { name, definition } => {
            let place = place_of(name)?;
            if let Some(column) = new.columns.get_mut(place) {
                *column = definition.named(name);
            }
            ("column-type-change", vec![name.clone()])
        }
    };
    Ok((new, word, columns))
}

impl Definition {
    fn named(&self, name: &str) -> SourceColumn {
        SourceColumn { name: name.to_owned(), type_text: self.type_text.clone(), nullable: self.nullable }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A bare word, a number or a single character.
    Word(String),
    /// In backticks.
    Name(String),
    /// With its quotation marks or brackets.
    Text(String),
}

struct Words<'t> {
    tokens: &'t [Token],
}

impl Words<'_> {
    fn keyword(&mut self, word: &str) -> bool {
        match self.tokens.split_first() {
            Some((Token::Word(first), rest)) if first.eq_ignore_ascii_case(word) => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }

    fn name(&mut self) -> Option<String> {
        let (first, rest) = self.tokens.split_first()?;
        let name = match first {
            Token::Word(name) | Token::Name(name) => name.clone(),
            Token::Text(_) => return None,
        };
        self.tokens = rest;
        Some(name)
    }

    fn alteration(&mut self) -> Option<Alteration> {
        if self.keyword("ADD") {
            let _ = self.keyword("COLUMN");
            let name = self.name()?;
            let definition = self.definition()?;
            let place = if self.keyword("FIRST") {
                Place::First
            } else if self.keyword("AFTER") {
                Place::After(self.name()?)
            } else {
                Place::Last
            };
            return Some(Alteration::Add { name, definition, place });
        }
        if self.keyword("DROP") {
            let _ = self.keyword("COLUMN");
            return Some(Alteration::Drop { name: self.name()? });
        }
        if self.keyword("RENAME") {
            if !self.keyword("COLUMN") {
                return None;
            }
            let from = self.name()?;
            return self.keyword("TO").then(|| self.name()).flatten().map(|to| Alteration::Rename { from, to });
        }
        if self.keyword("MODIFY") {
            let _ = self.keyword("COLUMN");
            return Some(Alteration::Modify { name: self.name()?, definition: self.definition()? });
        }
        None
    }

    /// A type, then what may follow it.
    fn definition(&mut self) -> Option<Definition> {
        let mut type_text = self.name()?;
        let mut nullable = true;
        loop {
            match self.tokens.split_first() {
                Some((Token::Text(sizes), rest)) if sizes.starts_with('(') => {
                    type_text.push_str(sizes);
                    self.tokens = rest;
                }
                _ if self.keyword("UNSIGNED") => type_text.push_str(" unsigned"),
                _ if self.keyword("NOT") => {
                    nullable = false;
                    if !self.keyword("NULL") {
                        return None;
                    }
                }
                _ if self.keyword("NULL") => {}
                _ if self.keyword("DEFAULT") => {
                    let (_, rest) = self.tokens.split_first()?;
                    self.tokens = rest;
                }
                _ => return Some(Definition { type_text, nullable }),
            }
        }
    }
}

fn tokens(sql: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = sql.trim().trim_end_matches(';').trim_end();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            ' ' | '\t' | '\n' | '\r' => {
                rest = rest.trim_start();
                continue;
            }
            '`' | '\'' | '"' => closing(rest, first),
            '(' => bracket(rest),
            _ if first.is_alphanumeric() || first == '_' => {
                let is_number = first.is_ascii_digit();
                let is_in_word =
                    |character: char| character.is_alphanumeric() || character == '_' || is_number && character == '.';
                rest.find(|character: char| !is_in_word(character)).unwrap_or(rest.len())
            }
            other => other.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        tokens.push(match first {
            '`' => Token::Name(token.trim_matches('`').replace("``", "`")),
            '\'' | '"' | '(' => Token::Text(token.to_owned()),
            _ => Token::Word(token.to_owned()),
        });
    }
    tokens
}

/// The length of a quoted text at the beginning, whose mark is doubled inside.
fn closing(text: &str, mark: char) -> usize {
    let mut is_open = false;
    for (place, character) in text.char_indices() {
        if character == mark {
            is_open = !is_open;
        } else if !is_open {
            return place;
        }
    }
    text.len()
}

/// The length of what stands in brackets at the beginning.
fn bracket(text: &str) -> usize {
    let (mut depth, mut is_quoted) = (0_usize, false);
    for (place, character) in text.char_indices() {
        match character {
            '\'' => is_quoted = !is_quoted,
            '(' if !is_quoted => depth = depth.saturating_add(1),
            ')' if !is_quoted => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return place.saturating_add(1);
                }
            }
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn table() -> SourceTable {
        let column =
            |name: &str| SourceColumn { name: name.to_owned(), type_text: "int(11)".to_owned(), nullable: false };
        SourceTable {
            schema: "shop".to_owned(),
            name: "orders".to_owned(),
            columns: ["id", "b"].map(column).to_vec(),
            primary_key: vec!["id".to_owned()],
        }
    }

    fn after(sql: &str) -> (Vec<String>, &'static str, Vec<String>) {
        let (_, name, alteration) = parse(sql).unwrap().unwrap();
        assert_eq!(name, "orders");
        let (new, word, columns) = apply(&table(), &alteration).unwrap();
        let shown = |column: &SourceColumn| {
            format!("{} {}{}", column.name, column.type_text, if column.nullable { "" } else { " not null" })
        };
        (new.columns.iter().map(shown).collect(), word, columns)
    }

    #[test]
    fn one_column_at_a_time() {
        for (sql, columns, word, named) in [
            (
                "ALTER TABLE shop.orders ADD COLUMN `a b` DECIMAL(5,2) UNSIGNED NOT NULL DEFAULT 0.5 AFTER id",
                vec!["id int(11) not null", "a b DECIMAL(5,2) unsigned not null", "b int(11) not null"],
                "add-column",
                "a b",
            ),
            (
                "alter table orders add x enum('a','it''s (x)') first",
                vec!["x enum('a','it''s (x)')", "id int(11) not null", "b int(11) not null"],
                "add-column",
                "x",
            ),
            ("ALTER TABLE orders DROP COLUMN b;", vec!["id int(11) not null"], "drop-column", "b"),
            (
                "ALTER TABLE `shop`.`orders` RENAME COLUMN b TO c",
                vec!["id int(11) not null", "c int(11) not null"],
                "rename-column",
                "c",
            ),
            (
                "ALTER TABLE orders MODIFY COLUMN b BIGINT NULL",
                vec!["id int(11) not null", "b BIGINT"],
                "column-type-change",
                "b",
            ),
        ] {
            assert_eq!(
                after(sql),
                (columns.into_iter().map(str::to_owned).collect(), word, vec![named.to_owned()]),
                "{sql}"
            );
        }
    }

    #[test]
    fn what_is_not_known_is_an_error_and_what_alters_no_table_is_none() {
        assert!(parse("ALTER TABLE orders ADD COLUMN x INT, ADD COLUMN y INT").is_err());
        assert!(parse("ALTER TABLE orders ENGINE=InnoDB").is_err());
        assert_eq!(parse("CREATE TABLE other (id INT)").unwrap(), None);
    }
}
