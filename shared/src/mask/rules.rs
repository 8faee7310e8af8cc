//! `STRAIT_MASK` as it is written: which columns of which tables, and what is done to their values.
//! When in doubt a name must match: a mask that matches too much costs a column, one that matches too little a secret.

use crate::config::glob_matches;

/// What masking does to a column's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskAction {
    /// The column never leaves AWS: neither its values nor its definition.
    Drop,
    /// HMAC-SHA-256 under the mask key, as 64 hexadecimal digits: equal values stay equal.
    Hash,
    /// A fixed text.
    Redact,
}

impl MaskAction {
    /// The word in `STRAIT_MASK`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Hash => "hash",
            Self::Redact => "redact",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Drop, Self::Hash, Self::Redact].into_iter().find(|action| action.as_str() == word)
    }

    /// Whether rows can still be told apart by a column of which this is done.
    #[must_use]
    pub const fn keeps_values_apart(self) -> bool {
        matches!(self, Self::Hash)
    }
}

/// One entry of `STRAIT_MASK`: globs in which `*` stands for any text and `?` for one character, and what is done. Unlike
/// `STRAIT_TABLES`, case is no matter: MySQL does not mind it in columns, nor BigQuery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskRule {
    /// As it was written, without the action.
    path: String,
    schema: String,
    table: String,
    column: String,
    action: MaskAction,
}

impl MaskRule {
    fn parse(entry: &str) -> Option<Self> {
        let (path, action) = entry.rsplit_once('=')?;
        let (path, action) = (path.trim_end(), MaskAction::of(action.trim_start())?);
        let mut parts = path.splitn(3, '.');
        let (schema, table, column) = (parts.next()?, parts.next()?, parts.next()?);
        let is_named = !schema.is_empty() && !table.is_empty() && !column.is_empty();
        is_named.then(|| Self {
            path: path.to_owned(),
            schema: folded(schema),
            table: folded(table),
            column: folded(column),
            action,
        })
    }

    /// `schema.table.column`, as it was written.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is done.
    #[must_use]
    pub const fn action(&self) -> MaskAction {
        self.action
    }

    /// Whether it names one table, not a set of them.
    pub(super) fn names_one_table(&self) -> bool {
        !self.schema.contains(['*', '?']) && !self.table.contains(['*', '?'])
    }

    /// Whether it concerns a table.
    #[must_use]
    pub fn is_of_table(&self, schema: &str, table: &str) -> bool {
        glob_matches(&self.schema, &folded(schema)) && glob_matches(&self.table, &folded(table))
    }

    /// Whether it concerns a column of such a table, given by [`folded`] name.
    pub(super) fn is_of_column(&self, folded_column: &str) -> bool {
        glob_matches(&self.column, folded_column)
    }
}

/// A name without its case, character by character: no letter depends on its neighbours.
pub(super) fn folded(name: &str) -> String {
    name.chars().flat_map(char::to_lowercase).collect()
}

/// `STRAIT_MASK`. Of the entries that match a column the first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MaskRules {
    rules: Vec<MaskRule>,
}

impl MaskRules {
    /// Reads the comma-separated list.
    ///
    /// # Errors
    /// Says which entry (by its place) is not of the form `schema.table.column=drop|hash|redact`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rules = text.split(',').enumerate().map(|(index, entry)| {
            MaskRule::parse(entry.trim()).ok_or_else(|| {
                format!("entry {} is not `schema.table.column=drop|hash|redact`", index.saturating_add(1))
            })
        });
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }

    /// Whether nothing is masked at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a column is hashed, for which a key is needed.
    #[must_use]
    pub fn need_key(&self) -> bool {
        self.rules.iter().any(|rule| rule.action == MaskAction::Hash)
    }

    /// What is done to a column.
    #[must_use]
    pub fn action(&self, schema: &str, table: &str, column: &str) -> Option<MaskAction> {
        let column = folded(column);
        self.of_table(schema, table).find(|rule| rule.is_of_column(&column)).map(MaskRule::action)
    }

    /// The entries that concern a table, in their order.
    pub fn of_table<'r>(&'r self, schema: &'r str, table: &'r str) -> impl Iterator<Item = &'r MaskRule> {
        self.rules.iter().filter(move |rule| rule.is_of_table(schema, table))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn rules(text: &str) -> MaskRules {
        MaskRules::parse(text).unwrap()
    }

    #[test]
    fn the_first_entry_that_matches_a_column_counts() {
        let rules = rules("shop.users.id=hash, shop.users.*=redact,*.*.card = drop,shop.users.card=hash");
        for (table, column, action) in [
            ("users", "id", Some(MaskAction::Hash)),
            ("users", "email", Some(MaskAction::Redact)),
            ("users", "card", Some(MaskAction::Redact)),
            ("orders", "card", Some(MaskAction::Drop)),
            ("orders", "id", None),
            ("orders", "cards", None),
        ] {
            assert_eq!(rules.action("shop", table, column), action, "{table}.{column}");
        }
        assert!(rules.need_key() && !rules.is_empty());
        assert!(!MaskRules::parse("a.b.c=drop").unwrap().need_key());
    }

    #[test]
    fn case_is_no_matter() {
        let rules = rules("Shop.USERS.E-Mail=drop,shop.ünïts.*Größe?=redact");
        assert_eq!(rules.action("sHOP", "users", "e-mAIL"), Some(MaskAction::Drop));
        assert_eq!(rules.action("shop", "ÜNÏTS", "die GRÖßE1"), Some(MaskAction::Redact));
    }

    #[test]
    fn a_column_may_hold_dots_and_equals_signs() {
        let rules = rules("shop.users.a.b=drop,shop.users.c=d=redact");
        assert_eq!(rules.action("shop", "users", "a.b"), Some(MaskAction::Drop));
        assert_eq!(rules.action("shop", "users", "c=d"), Some(MaskAction::Redact));
        assert_eq!(rules.action("shop", "users", "a"), None);
    }

    #[test]
    fn an_entry_of_another_form_is_refused_by_its_place() {
        for entry in
            ["", "users.email=drop", "a.b.c", "a.b.c=", "a.b.c=Drop", "a.b.c=scramble", "a..c=drop", ".b.c=drop"]
        {
            let error = MaskRules::parse(&format!("a.b.c=drop,{entry}")).unwrap_err();
            assert!(error.contains("entry 2"), "{entry}: {error}");
        }
    }
}
