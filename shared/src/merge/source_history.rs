//! What a source table's control records come to: its columns as they go through its definitions, each with the names that it had
//! and when. A name says which column a record tells of only together with the time at which DMS sent the record. It must never take
//! two columns for one because they had one name, and never guess what a record that is missing said.

use crate::names::{ColumnNames, NameHeld};

use super::definition::{ControlRecord, SourceColumn, SourceDefinition};

/// A column of the source, whatever it is called: its place among all that a history knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(usize);

/// A name that a column had, and between which control records.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tenure {
    column: ColumnId,
    name: String,
    /// When DMS said that it has it; `None`: it had it in the first definition that is known.
    from_us: Option<i64>,
    /// When DMS said that it has it no more.
    to_us: Option<i64>,
    /// It began when a record was missing that may say that another column had the name before.
    is_uncertain: bool,
    /// A record says that it began then, and not only that it had begun.
    is_told: bool,
}

/// Columns that went and came with no record that says how: any of the latter may be one of the former with another name, of which the
/// record is on its way or lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unexplained {
    /// Those that went.
    pub went: Vec<ColumnId>,
    /// Those that came.
    pub came: Vec<ColumnId>,
}

/// What is known of a source table's definitions, in the order in which DMS sent them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceHistory {
    states: Vec<SourceDefinition>,
    /// Of the newest state, in its order.
    columns: Vec<ColumnId>,
    /// In the order in which they began.
    tenures: Vec<Tenure>,
    /// How each column was defined, oldest first.
    kinds: Vec<(ColumnId, SourceColumn)>,
    unexplained: Vec<Unexplained>,
    renames: Vec<(String, String)>,
    swapped: Vec<(i64, String, String)>,
    is_renamed_away: bool,
    unknown_rename: Option<SourceDefinition>,
    has_unknown_retype: bool,
    next_column: usize,
    /// When DMS sent the first record that is known.
    known_since_us: Option<i64>,
    came_late: Vec<i64>,
}

impl SourceHistory {
    /// The history that these records tell, in the order in which DMS sent them.
    pub(super) fn of(records: &[&ControlRecord]) -> Self {
        let late = records.iter().filter(|record| record.came_late).map(|record| record.sent_us);
        let mut history = Self { came_late: late.collect(), ..Self::default() };
        for (place, record) in records.iter().enumerate() {
            let is_known = records.iter().take(place).any(|earlier| earlier.says_the_same(record));
            // A task that is resumed sends again what it sent since its checkpoint, though the source has gone on since.
            if !is_known || history.is_next(record) {
                history.take(record);
            }
        }
        history
    }

    /// Whether a record tells of a change of the newest definition, as far as it says.
    fn is_next(&self, record: &ControlRecord) -> bool {
        let (Some(newest), Some(definition)) = (self.newest(), record.definition.as_ref()) else {
            return true;
        };
        if let Some(before) = &record.before {
            return before.columns == newest.columns;
        }
        let came = definition.columns.iter().any(|column| !newest.has(&column.name));
        let went = newest.columns.iter().any(|column| !definition.has(&column.name));
        match record.operation.as_str() {
            "add-column" => came && !went,
            "drop-column" => went && !came,
            "rename-column" => renamed_places(newest, definition, false).is_some_and(|places| !places.is_empty()),
            "column-type-change" => !came && !went,
            _ => true,
        }
    }

    /// When DMS sent the first record that is known, in µs since the epoch of Unix: what was before may be forgotten.
    pub fn known_since_us(&self) -> i64 {
        self.known_since_us.unwrap_or(i64::MIN)
    }

    /// When DMS sent the records that came after newer ones: meanwhile names may have been taken for other columns'.
    pub fn came_late(&self) -> impl Iterator<Item = i64> {
        self.came_late.iter().copied()
    }

    /// Whether a column has or had the name, as far as is known.
    pub fn has_had(&self, name: &str) -> bool {
        self.tenures.iter().any(|tenure| tenure.name == name)
    }

    /// When the first column that is known to have had the name got it; `None`: none had, or one in the first definition that is known.
    pub fn first_had(&self, name: &str) -> Option<i64> {
        self.tenures.iter().find(|tenure| tenure.name == name)?.from_us
    }

    /// Takes in the next control record.
    fn take(&mut self, record: &ControlRecord) {
        let Some(mut definition) = record.definition.clone() else {
            self.is_renamed_away = true;
            return;
        };
        self.is_renamed_away = false;
        self.known_since_us.get_or_insert(record.sent_us);
        let newest = self.newest().cloned();
        let known = record.before.as_ref().or(newest.as_ref());
        let is_rename = record.operation == "rename-column";
        if known.is_none() {
            self.unknown_rename = is_rename.then(|| definition.clone());
            self.has_unknown_retype |= matches!(record.operation.as_str(), "column-type-change" | "change-columns");
        }
        let places = known.filter(|_| is_rename);
        let places = places.map(|before| renamed_places(before, &definition, record.before.is_some()));
        let is_told = match (record.operation.as_str(), &places) {
            // What is loaded then brings every value, under the names of now.
            ("create-table", _) => true,
            ("change-columns", _) => false,
            ("rename-column", Some(places)) => places.is_some(),
            _ => record.before.is_some(),
        };
        let places = places.flatten().unwrap_or_default();
        let renamed: Vec<(String, String)> = known
            .map(|before| {
                let name = |definition: &SourceDefinition, place: usize| {
                    definition.columns.get(place).map(|column| column.name.clone())
                };
                places.iter().filter_map(|place| Some((name(before, *place)?, name(&definition, *place)?))).collect()
            })
            .unwrap_or_default();
        let is_swap = |(old, new): &&(String, String)| old < new && renamed.contains(&(new.clone(), old.clone()));
        let swapped = renamed.iter().filter(is_swap).map(|(one, other)| (record.sent_us, one.clone(), other.clone()));
        self.swapped.extend(swapped);
        // Only a table that is made says that it has no key; DMS leaves the key out of other records at times.
        if record.operation != "create-table" && definition.primary_key.is_empty() {
            let now = |key: &String| {
                renamed.iter().find(|(old, _)| old == key).map_or_else(|| key.clone(), |(_, new)| new.clone())
            };
            let keys = [record.before.as_ref(), newest.as_ref()].into_iter().flatten().map(|known| &known.primary_key);
            let key = keys.into_iter().find(|key| !key.is_empty());
            definition.primary_key = key.into_iter().flatten().map(now).collect();
        }
        self.renames.extend(renamed);
        if let Some(before) = &record.before {
            self.go_to(before, record.sent_us, &[], "", false);
        }
        if record.operation == "create-table" {
            self.unexplained.clear();
        }
        self.go_to(&definition, record.sent_us, &places, &record.operation, is_told);
    }

    /// The table is this from now on. `renamed` are the places of columns that go on under another name; `is_told`: the record says all of
    /// what was done.
    fn go_to(&mut self, after: &SourceDefinition, sent_us: i64, renamed: &[usize], operation: &str, is_told: bool) {
        let before = self.newest().cloned();
        if before.as_ref() == Some(after) && renamed.is_empty() {
            return;
        }
        let is_first = before.is_none();
        let is_load = operation == "create-table";
        let before = before.map(|before| before.columns).unwrap_or_default();
        let mut left: Vec<Option<ColumnId>> = self.columns.iter().copied().map(Some).collect();
        let mut columns: Vec<Option<ColumnId>> = vec![None; after.columns.len()];
        for place in renamed {
            if let (Some(left), Some(column)) = (left.get_mut(*place), columns.get_mut(*place)) {
                *column = left.take();
            }
        }
        for (column, own) in after.columns.iter().zip(&mut columns).filter(|(_, own)| own.is_none()) {
            let place = before.iter().position(|before| before.name == column.name);
            *own = place.and_then(|place| left.get_mut(place)).and_then(Option::take);
        }
        let went: Vec<ColumnId> = left.into_iter().flatten().collect();
        let mut came = Vec::new();
        let mut now = Vec::with_capacity(columns.len());
        for own in columns {
            now.push(own.unwrap_or_else(|| {
                let id = ColumnId(self.next_column);
                self.next_column = self.next_column.saturating_add(1);
                came.push(id);
                id
            }));
        }
        for (id, column) in now.iter().zip(&after.columns) {
            let open = self.tenures.iter_mut().find(|tenure| tenure.column == *id && tenure.to_us.is_none());
            let is_new = match open {
                Some(tenure) if tenure.name == column.name => false,
                Some(tenure) => {
                    tenure.to_us = Some(sent_us);
                    true
                }
                None => true,
            };
            if is_new {
                let from_us = (!is_first).then_some(sent_us);
                let is_uncertain = !self.unexplained.is_empty();
                self.tenures.push(Tenure {
                    column: *id,
                    name: column.name.clone(),
                    from_us,
                    to_us: None,
                    is_uncertain,
                    is_told: is_told && !is_load,
                });
            }
            self.kinds.push((*id, column.clone()));
        }
        for tenure in self.tenures.iter_mut().filter(|tenure| went.contains(&tenure.column)) {
            tenure.to_us.get_or_insert(sent_us);
        }
        if !is_told && !is_first && !went.is_empty() && !came.is_empty() {
            self.unexplained.push(Unexplained { went, came });
        }
        self.columns = now;
        self.states.push(after.clone());
    }

    /// The newest definition.
    pub fn newest(&self) -> Option<&SourceDefinition> {
        self.states.last()
    }

    /// Whether an earlier definition than the newest had a column of this name.
    pub fn had(&self, name: &str) -> bool {
        self.states.iter().rev().skip(1).any(|state| state.has(name))
    }

    /// The newest definition's columns.
    pub fn columns(&self) -> impl Iterator<Item = (ColumnId, &SourceColumn)> {
        self.columns.iter().copied().zip(self.newest().into_iter().flat_map(|newest| &newest.columns))
    }

    /// How the newest definition defines a column; `None`: the source has it no more.
    pub fn now(&self, column: ColumnId) -> Option<&SourceColumn> {
        self.columns().find(|(id, _)| *id == column).map(|(_, column)| column)
    }

    /// How earlier definitions than the newest defined a column.
    pub fn earlier(&self, column: ColumnId) -> impl Iterator<Item = &SourceColumn> {
        let of = self.kinds.iter().filter(move |(id, _)| *id == column).map(|(_, kind)| kind);
        let is_now = usize::from(self.now(column).is_some());
        let count = of.clone().count().saturating_sub(is_now);
        of.take(count)
    }

    /// Columns that went and came with no record that says how.
    pub fn unexplained(&self) -> &[Unexplained] {
        &self.unexplained
    }

    /// The column that has or had this name: since this time, or else the first.
    pub fn owner(&self, name: &str, since_us: Option<i64>) -> Option<ColumnId> {
        let mut tenures = self.tenures.iter().filter(|tenure| tenure.name == name);
        let first = tenures.next()?;
        let Some(since_us) = since_us else {
            return Some(first.column);
        };
        let mut since = tenures.filter(|tenure| self.since(tenure).is_some_and(|bound| bound <= since_us));
        Some(since.next_back().unwrap_or(first).column)
    }

    /// The column that the source added at this time and that has had all of these names.
    pub fn added(&self, names: &ColumnNames, added_us: i64) -> Option<ColumnId> {
        let added = self.tenures.iter().map(|tenure| tenure.column);
        let mut added = added.filter(|column| self.added_us(*column) == Some(added_us));
        let has_had = |column: ColumnId, name: &str| {
            self.tenures.iter().any(|tenure| tenure.column == column && tenure.name == name)
        };
        added.find(|column| names.newest_first().all(|held| has_had(*column, &held.name)))
    }

    /// The names of a column.
    pub fn names(&self, column: ColumnId) -> Option<ColumnNames> {
        let mut held: Vec<NameHeld> = Vec::new();
        for tenure in self.tenures.iter().filter(|tenure| tenure.column == column) {
            let name =
                NameHeld { name: tenure.name.clone(), since_us: self.since(tenure), until_us: self.until(tenure) };
            // A name that it got back, and no other had in between, is its own throughout.
            if let Some(before) = held.iter_mut().find(|held| held.name == name.name && held.until_us.is_none()) {
                before.until_us = name.until_us;
                let again = before.clone();
                held.retain(|held| *held != again);
                held.push(again);
            } else {
                held.push(name);
            }
        }
        let now = held.pop()?;
        Some(ColumnNames { now, former: held, added_us: None })
    }

    /// When the source added a column, where a record says so.
    pub fn added_us(&self, column: ColumnId) -> Option<i64> {
        let first = self.tenures.iter().find(|tenure| tenure.column == column)?;
        first.from_us.filter(|_| first.is_told)
    }

    /// Since when, by what DMS sent, a name is a column's own that was another's before.
    fn since(&self, tenure: &Tenure) -> Option<i64> {
        let before = self.tenures.iter().take_while(|other| *other != tenure).filter(|other| other.name == tenure.name);
        let before = before.last().and_then(|before| Self::handed_over(before, tenure));
        before.or(tenure.from_us.filter(|_| tenure.is_uncertain))
    }

    /// From when on a name is another column's.
    fn until(&self, tenure: &Tenure) -> Option<i64> {
        let mut after = self.tenures.iter().skip_while(|other| *other != tenure).skip(1);
        Self::handed_over(tenure, after.find(|other| other.name == tenure.name)?)
    }

    /// When a name went from one column to another, if it did so from the one tenure to the other. In between no record has a member of
    /// the name, so any time does; the middle bears most that two of DMS's threads name their times one for the other.
    fn handed_over(before: &Tenure, after: &Tenure) -> Option<i64> {
        (before.column != after.column).then(|| Some(before.to_us?.midpoint(after.from_us?))).flatten()
    }

    /// The columns that were renamed, by their old and new names, oldest first.
    pub fn renames(&self) -> &[(String, String)] {
        &self.renames
    }

    /// Columns that took each other's names, and when DMS said so.
    pub fn swapped(&self) -> &[(i64, String, String)] {
        &self.swapped
    }

    /// Whether a column's name was another's before.
    pub fn has_come_again(&self) -> bool {
        let mut names = self.columns.iter().filter_map(|column| self.names(*column));
        names.any(|names| names.now.since_us.is_some())
    }

    /// Whether the newest record says that the table has another name now.
    pub fn is_renamed_away(&self) -> bool {
        self.is_renamed_away
    }

    /// The definition since a column of it was renamed, if the one from before is not known.
    pub fn unknown_rename(&self) -> Option<&SourceDefinition> {
        self.unknown_rename.as_ref()
    }

    /// Whether columns were changed of a table whose definition from before is not known.
    pub fn has_unknown_retype(&self) -> bool {
        self.has_unknown_retype
    }
}

/// The places of columns that a `rename-column` record renamed: a rename leaves a column in its place. Where the record does not say
/// what the table was before (not `is_certain`), others may be missing between the two: then only one rename, or names that
/// were exchanged, are taken for what was done. `None`: it cannot be told.
fn renamed_places(before: &SourceDefinition, after: &SourceDefinition, is_certain: bool) -> Option<Vec<usize>> {
    if before.columns.len() != after.columns.len() {
        return None;
    }
    let pairs = before.columns.iter().zip(&after.columns).enumerate();
    let differing = pairs.filter(|(_, (old, new))| old.name != new.name);
    let places: Vec<usize> = differing.map(|(place, _)| place).collect();
    let is_exchange = after.columns.iter().all(|column| before.has(&column.name));
    (is_certain || places.len() <= 1 || is_exchange).then_some(places)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;

    fn table(columns: &str) -> String {
        let columns = columns.split(' ').filter(|name| !name.is_empty());
        let columns: Vec<String> = columns.map(|name| format!(r#""{name}":{{"type":"INT32"}}"#)).collect();
        format!(r#"{{"columns":{{{}}}}}"#, columns.join(","))
    }

    /// Operations with the columns after and, where the record says so, before; a record every ten µs.
    fn history_of(records: &[(&str, &str, Option<&str>)]) -> SourceHistory {
        let records = (0i64..).zip(records).map(|(place, (operation, after, before))| {
            let before = before.map_or_else(String::new, |before| format!(r#","old-table-def":{}"#, table(before)));
            let control = format!(r#"{{"table-def":{}{before}}}"#, table(after));
            ControlRecord::new(place * 10, ("t".into(), 0, place), operation, &control).unwrap()
        });
        SourceHistory::of(&records.collect::<Vec<_>>().iter().collect::<Vec<_>>())
    }

    fn names(history: &SourceHistory) -> Vec<String> {
        history.columns().map(|(id, _)| history.names(id).unwrap().described().replace("Source column: ", "")).collect()
    }

    fn at(us: i64) -> String {
        jiff::Timestamp::from_microsecond(us).unwrap().to_string()
    }

    #[test]
    fn a_columns_names_are_known_with_when_they_were_its_own() {
        // Renamed, its name given to another, and renamed again: each goes on as itself.
        let history = history_of(&[
            ("create-table", "id c0", None),
            ("rename-column", "id x", None),
            ("add-column", "id x c0", None),
            ("rename-column", "id c2 c0", None),
        ]);
        let (bound, renamed) = (at(15), r#""c2", formerly ["#);
        assert_eq!(
            names(&history),
            [
                r#""id""#.to_owned(),
                format!(r#"{renamed}{{"name":"c0","until":"{bound}"}},"x"]"#),
                format!(r#""c0", since "{bound}""#)
            ]
        );
        let [_, (old, _), (new, _)] = history.columns().collect::<Vec<_>>().try_into().unwrap();
        assert_eq!((history.owner("c0", None), history.owner("c0", Some(15))), (Some(old), Some(new)));
        assert_eq!((history.owner("x", None), history.owner("y", None)), (Some(old), None));
    }

    #[test]
    fn a_name_that_a_column_got_back_is_its_own_throughout() {
        let history =
            history_of(&[("create-table", "a", None), ("rename-column", "b", None), ("rename-column", "a", None)]);
        assert_eq!(names(&history), [r#""a", formerly ["b"]"#]);
        let records = [
            ("create-table", "a", None),
            ("rename-column", "b", None),
            ("add-column", "b a", None),
            ("drop-column", "b", None),
            ("rename-column", "a", None),
        ];
        let (gone, back) = (at(15), at(35));
        let expected = format!(r#""a", formerly [{{"name":"a","until":"{gone}"}},"b"], since "{back}""#);
        assert_eq!(names(&history_of(&records)), [expected]);
    }

    #[test]
    fn names_that_were_exchanged_and_names_that_were_handed_on_are_told_by_their_places() {
        let history = history_of(&[("create-table", "a b", None), ("rename-column", "b a", None)]);
        let bound = at(10);
        let names_of = |now: &str, then: &str| {
            format!(r#""{now}", formerly [{{"name":"{then}","until":"{bound}"}}], since "{bound}""#)
        };
        assert_eq!(names(&history), [names_of("b", "a"), names_of("a", "b")]);
        // At once, which only a record can say that tells what was before.
        let records = [("create-table", "a b", None), ("rename-column", "c a", Some("a b"))];
        let history = history_of(&records);
        assert_eq!(
            names(&history),
            [
                format!(r#""c", formerly [{{"name":"a","until":"{bound}"}}]"#),
                format!(r#""a", formerly ["b"], since "{bound}""#)
            ]
        );
        assert!(history.unexplained().is_empty());
    }

    #[test]
    fn what_went_and_came_without_a_record_that_says_how_is_unexplained_until_it_comes() {
        // The record of the rename is on its way.
        let late = ("rename-column", "x", Some("c0"));
        let after = ("add-column", "x c0", Some("x"));
        let history = history_of(&[("create-table", "c0", None), after]);
        let [unexplained] = history.unexplained() else { panic!("{history:?}") };
        let went = history.owner("c0", None).unwrap();
        assert_eq!((unexplained.went.as_slice(), unexplained.came.len()), (&[went][..], 1));
        assert!(history.now(went).is_none());
        let records = [("create-table", "c0", None), late, after];
        let history = history_of(&records);
        assert!(history.unexplained().is_empty());
        assert_eq!(history.now(history.owner("c0", None).unwrap()).unwrap().name, "x");
        // Without what was before, two renames are not told from columns that went and came.
        let records = [("create-table", "a b c", None), ("rename-column", "d c e", None)];
        assert_eq!(history_of(&records).unexplained().len(), 1);
        // A load brings every value.
        let records = [("create-table", "a", None), ("add-column", "b c", Some("b")), ("create-table", "b c", None)];
        assert!(history_of(&records).unexplained().is_empty());
    }

    #[test]
    fn what_is_sent_again_is_no_alteration() {
        let sent = [("create-table", "a", None), ("rename-column", "b", Some("a")), ("add-column", "b c", Some("b"))];
        let again = [sent.as_slice(), &sent[1..]].concat();
        assert_eq!(names(&history_of(&again)), names(&history_of(&sent)));
        let unsaid: Vec<_> = again.iter().map(|(operation, after, _)| (*operation, *after, None)).collect();
        assert_eq!(names(&history_of(&unsaid)), names(&history_of(&sent)));
        // But a column that is dropped and added again, and again, is another each time.
        let toggled = history_of(&[
            ("create-table", "a", None),
            ("add-column", "a b", None),
            ("drop-column", "a", None),
            ("add-column", "a b", None),
            ("drop-column", "a", None),
            ("add-column", "a b", None),
        ]);
        assert_eq!(toggled.owner("b", Some(i64::MAX)), toggled.columns().last().map(|(id, _)| id));
        assert_eq!(names(&toggled).last().unwrap(), &format!(r#""b", since "{}""#, at(45)));
    }
}
