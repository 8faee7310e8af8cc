//! What the log shows of one table: the queries, and their answers read. Every query counts in BigQuery and brings back
//! counts, lengths and member names alone; no row value may leave BigQuery through here.

use std::collections::BTreeMap;

use crate::bigquery::job::QueryAnswer;
use crate::debezium::SELF_DESCRIBED;
use crate::merge::fold::{member_text, timestamp_literal};
use crate::merge::types::ColumnType;
use crate::names::{NameError, SourceTable, TableName, member_path_literal, string_literal};

/// DMS's `add-before-image-columns` rule puts a before-image's columns beside the new ones under this prefix.
const BEFORE_IMAGE_PREFIX: &str = "BI_";
/// Beginnings of loads that are told apart; an older one is taken for a part of the next.
const LOADS_AT_MOST: u32 = 50;
/// The types among which one is chosen for a column; STRING is what remains. Each is tried on every value, by the very
/// expression with which a merge would fill the column.
pub const CANDIDATES: [ColumnType; 11] = [
    ColumnType::Int64,
    ColumnType::NUMERIC,
    ColumnType::BIGNUMERIC,
    ColumnType::Float64,
    ColumnType::Bool,
    ColumnType::Bytes,
    ColumnType::Date,
    ColumnType::DateTime,
    ColumnType::Timestamp,
    ColumnType::Time,
    ColumnType::Json,
];

/// Which table of which log.
#[derive(Debug, Clone, Copy)]
pub struct LoggedTable<'a> {
    /// Google Cloud project.
    pub project: &'a str,
    /// The log.
    pub log: &'a TableName,
    /// The source table.
    pub source: &'a SourceTable,
}

/// The table's records in the log, each Kafka record counted once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Rows of full loads.
    pub loads: u64,
    /// Inserts.
    pub inserts: u64,
    /// Updates.
    pub updates: u64,
    /// Deletes.
    pub deletes: u64,
    /// Records of these four that could not be decoded, and are not among them.
    pub unreadable: u64,
    /// Control records of the table.
    pub controls: u64,
    /// Changes with a position of PostgreSQL's.
    pub postgresql: u64,
    /// Changes with a position of MySQL's.
    pub mysql: u64,
    /// When the table's loads began, in µs, as far as control records say so.
    pub loads_from_us: Vec<i64>,
}

impl Survey {
    /// Row images that say what a row became: of a delete only the key counts.
    pub fn images(&self) -> u64 {
        self.rows().saturating_add(self.updates)
    }

    /// Records that bring a whole new row.
    pub fn rows(&self) -> u64 {
        self.loads.saturating_add(self.inserts)
    }

    /// Takes the answer of [`LoggedTable::survey`].
    pub fn read(answer: &QueryAnswer) -> Self {
        let mut survey = Self::default();
        for row in 0..answer.rows.len() {
            let count = |column| whole(answer, row, column);
            let readable = count("records").saturating_sub(count("unreadable"));
            match answer.text(row, "operation") {
                Some("load") => survey.loads = readable,
                Some("insert") => survey.inserts = readable,
                Some("update") => survey.updates = readable,
                Some("delete") => survey.deletes = readable,
                _ => {
                    survey.controls = survey.controls.saturating_add(count("records"));
                    continue;
                }
            }
            survey.unreadable = survey.unreadable.saturating_add(count("unreadable"));
            survey.postgresql = survey.postgresql.saturating_add(count("postgresql"));
            survey.mysql = survey.mysql.saturating_add(count("mysql"));
        }
        survey
    }

    /// Takes the answer of [`LoggedTable::loads`].
    pub fn read_loads(&mut self, answer: &QueryAnswer) {
        self.loads_from_us = (0..answer.rows.len()).filter_map(|row| answer.integer(row, "sent")).collect();
    }
}

/// A member of the row images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name: the source's column.
    pub name: String,
    /// Images that have it, null included.
    pub present: u64,
}

/// A form that a value may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// A JSON string.
    Text,
    /// A JSON number.
    Number,
    /// true or false.
    Boolean,
    /// An object or an array.
    Nested,
    /// A number or text with digits alone.
    Whole,
    /// A number in scientific notation.
    Exponent,
    /// 0 or 1.
    ZeroOrOne,
    /// A text that is a decimal number without superfluous zeros before it.
    NumberText,
    /// NaN and the infinities.
    NotFinite,
    /// A text t, f, true or false.
    TrueFalseText,
    /// A text YYYY-MM-DD, which Debezium may end with a Z.
    Day,
    /// A text of day and time.
    DayAndTime,
    /// One of them with a Z.
    Zulu,
    /// One of them with an offset.
    Offset,
    /// A text hh:mm:ss, likewise.
    TimeOfDay,
    /// A text 0x… of hexadecimal digits.
    PrefixedHex,
    /// A text of pairs of hexadecimal digits without 0x.
    BareHex,
    /// A text that begins like a JSON object or array.
    JsonText,
    /// A text without characters.
    Empty,
}

/// Each form's condition over `text`, the value's text, and `head`, the first character of its JSON.
const FORMS: [(Form, &str); 19] = [
    (Form::Text, r#"`head` = '"'"#),
    (Form::Number, r"REGEXP_CONTAINS(`head`, r'^[-0-9]$')"),
    (Form::Boolean, "`head` IN ('t', 'f')"),
    (Form::Nested, "`head` IN ('{', '[')"),
    (Form::Whole, r"REGEXP_CONTAINS(`text`, r'^-?[0-9]+$')"),
    (Form::Exponent, r"REGEXP_CONTAINS(`head`, r'^[-0-9]$') AND REGEXP_CONTAINS(`text`, r'[eE]')"),
    (Form::ZeroOrOne, "`text` IN ('0', '1')"),
    (Form::NumberText, r#"`head` = '"' AND REGEXP_CONTAINS(`text`, r'^-?(0|[1-9][0-9]*)(\.[0-9]+)?$')"#),
    (Form::NotFinite, "LOWER(`text`) IN ('nan', 'inf', '-inf', 'infinity', '-infinity')"),
    (Form::TrueFalseText, r#"`head` = '"' AND `text` IN ('t', 'f', 'true', 'false')"#),
    (Form::Day, r"REGEXP_CONTAINS(`text`, r'^[0-9]{4}-[0-9]{2}-[0-9]{2}Z?$')"),
    (Form::DayAndTime, r"REGEXP_CONTAINS(`text`, r'^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}')"),
    (Form::Zulu, r"REGEXP_CONTAINS(`text`, r'^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ].*Z$')"),
    (Form::Offset, r"REGEXP_CONTAINS(`text`, r'^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ].*[+-][0-9:]+$')"),
    (Form::TimeOfDay, r"REGEXP_CONTAINS(`text`, r'^[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z?$')"),
    (Form::PrefixedHex, r"REGEXP_CONTAINS(`text`, r'^0x([0-9A-Fa-f]{2})*$')"),
    (Form::BareHex, r"REGEXP_CONTAINS(`text`, r'^([0-9A-Fa-f]{2})+$')"),
    (Form::JsonText, r"REGEXP_CONTAINS(`text`, r'^\s*[\[{]')"),
    (Form::Empty, "`text` = ''"),
];

/// What the log shows of a column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnEvidence {
    /// The member's name.
    pub member: String,
    /// Images of the table: loads, inserts and updates.
    pub images: u64,
    /// Of them, those that have the member, null included.
    pub present: u64,
    /// Of them, those in which it has a value.
    pub values: u64,
    /// Deletes in which it has a value.
    pub in_deletes: u64,
    /// Before-images in which it has a value.
    pub in_before_images: u64,
    /// Values by form; a value may have several.
    pub forms: BTreeMap<Form, u64>,
    /// Values that a type cannot hold exactly, for each of [`CANDIDATES`] by its name.
    pub misfits: BTreeMap<&'static str, u64>,
    /// Characters of the shortest and longest value.
    pub lengths: (u64, u64),
    /// The most digits before the point of a number.
    pub whole_digits: u64,
    /// The fewest and the most digits after the point of a number.
    pub fraction_digits: (u64, u64),
}

impl ColumnEvidence {
    /// Values of this form.
    pub fn of(&self, form: Form) -> u64 {
        self.forms.get(&form).copied().unwrap_or(0)
    }

    /// Whether every value is of this form.
    pub fn all(&self, form: Form) -> bool {
        self.values > 0 && self.of(form) == self.values
    }

    /// Whether a type holds every value exactly, by the merge's own expression.
    pub fn fits(&self, column_type: ColumnType) -> bool {
        column_type == ColumnType::String || self.misfits.get(column_type.name()) == Some(&0)
    }

    /// Images in which it is null.
    pub fn nulls(&self) -> u64 {
        self.present.saturating_sub(self.values)
    }

    /// Images that lack it.
    pub fn absent(&self) -> u64 {
        self.images.saturating_sub(self.present)
    }

    /// Whether every image has a value of it.
    pub fn is_never_missing(&self) -> bool {
        self.images > 0 && self.values == self.images
    }
}

impl LoggedTable<'_> {
    /// Counts the table's records by operation. No row image is read.
    pub fn survey(&self) -> Result<String, NameError> {
        Ok(format!(
            "SELECT `operation`, COUNT(*) AS `records`, COUNTIF(NOT ({})) AS `unreadable`, \
             COUNTIF(STARTS_WITH(`position`, '0000-2-p')) AS `postgresql`, COUNTIF(STARTS_WITH(`position`, '0000-2-m')) AS `mysql`\n\
             FROM ({})\n\
             GROUP BY `operation`",
            is_readable(),
            self.records("`operation`, `position`, `error`", "TRUE")?
        ))
    }

    /// When the table's loads began, in µs, newest first: DMS sends `drop-table` and `create-table` at the start of each.
    pub fn loads(&self) -> Result<String, NameError> {
        Ok(format!(
            "SELECT DISTINCT UNIX_MICROS(`sent`) AS `sent`\n\
             FROM ({})\n\
             ORDER BY `sent` DESC LIMIT {LOADS_AT_MOST}",
            self.records(SENT, "`operation` IN ('drop-table', 'create-table')")?
        ))
    }

    /// The names of the images' members, as JSON texts without their quotes, in the order in which they stand there.
    ///
    /// A member's text value is read over whole, so that nothing in it is taken for a name. The images of DMS are flat: a name
    /// inside an object would come out as a column without a value.
    pub fn members(&self) -> Result<String, NameError> {
        Ok(format!(
            "SELECT `name`, MAX(IF(`operation` = 'delete', NULL, `place`)) AS `place`, COUNTIF(`operation` <> 'delete') AS `present`, \
             COUNTIF(`operation` IN ('load', 'insert')) AS `in_rows`\n\
             FROM ({}), UNNEST(REGEXP_EXTRACT_ALL(`data`, r'\"((?:[^\"\\\\]|\\\\.)*)\"\\s*:\\s*(?:\"(?:[^\"\\\\]|\\\\.)*\"|[^\"])')) AS `name` \
             WITH OFFSET AS `place`\n\
             GROUP BY `name` ORDER BY `place`, `name`",
            self.records("`operation`, `data`", &readable())?
        ))
    }

    /// Counts, for each member by its place, the values by form, and those that a type cannot hold exactly.
    pub fn forms(&self, members: &[Member]) -> Result<String, NameError> {
        let cells: Vec<String> = members
            .iter()
            .enumerate()
            .map(|(place, member)| {
                let text = member_text("`data`", &member.name);
                format!(
                    "STRUCT({place} AS `place`, {text} AS `text`, SUBSTR(CONCAT(JSON_QUERY(`data`, {path}), ''), 1, 1) AS `head`, {before} AS `before`)",
                    path = member_path_literal(&member.name),
                    before = before_text(&member.name, members),
                )
            })
            .collect();
        let mut counts: Vec<String> = Vec::new();
        for (form, condition) in FORMS {
            counts.push(format!("COUNTIF(`value` IS NOT NULL AND {condition}) AS `{}`", alias(form)));
        }
        for candidate in CANDIDATES {
            counts.push(format!(
                "COUNTIF(`value` IS NOT NULL AND ({}) IS NULL) AS `not_{}`",
                candidate.value_of("`value`"),
                candidate.name()
            ));
        }
        Ok(format!(
            "SELECT `place`, COUNT(`value`) AS `values`, COUNTIF(`operation` = 'delete' AND `text` IS NOT NULL) AS `in_deletes`, \
             COUNT(`before`) AS `in_before_images`,\n\
             MIN(CHAR_LENGTH(`value`)) AS `shortest`, MAX(CHAR_LENGTH(`value`)) AS `longest`,\n\
             MAX(LENGTH(REGEXP_EXTRACT(`value`, r'^-?([0-9]+)(?:\\.[0-9]*)?$'))) AS `whole_digits`,\n\
             MIN(IF(REGEXP_CONTAINS(`value`, r'^-?[0-9]+(\\.[0-9]*)?$'), LENGTH(COALESCE(REGEXP_EXTRACT(`value`, r'\\.([0-9]*)$'), '')), NULL)) AS `fewest_fraction_digits`,\n\
             MAX(IF(REGEXP_CONTAINS(`value`, r'^-?[0-9]+(\\.[0-9]*)?$'), LENGTH(COALESCE(REGEXP_EXTRACT(`value`, r'\\.([0-9]*)$'), '')), NULL)) AS `most_fraction_digits`,\n\
             {counts}\n\
             FROM (\n\
             SELECT `operation`, `cell`.`place`, `cell`.`text`, `cell`.`head`, `cell`.`before`, IF(`operation` = 'delete', NULL, `cell`.`text`) AS `value`\n\
             FROM (SELECT `operation`, [{cells}] AS `cells` FROM ({records})), UNNEST(`cells`) AS `cell`\n\
             )\n\
             GROUP BY `place`",
            counts = counts.join(",\n"),
            cells = cells.join(",\n"),
            records = self.records("`operation`, `data`, `before`", &readable())?,
        ))
    }

    /// Counts, for each candidate for a key (columns by their places), what speaks against it.
    ///
    /// A key's values are told apart as texts. Per value, the records are put into the order in which DMS sent them; a value is
    /// shared if a row comes for it while another row has it: two rows of one load, or an insert after a load, an insert or an
    /// update without a delete (or a change to another key) between them. What DMS sent twice does not count: it has the same
    /// position, or, where the source gives none, the same text.
    pub fn keys(&self, survey: &Survey, members: &[Member], candidates: &[Vec<usize>]) -> Result<String, NameError> {
        let mut places: Vec<usize> = candidates.iter().flatten().copied().collect();
        places.sort_unstable();
        places.dedup();
        let texts: Vec<String> = places
            .iter()
            .filter_map(|place| Some((place, members.get(*place)?)))
            .map(|(place, member)| {
                let text = member_text("`data`", &member.name);
                format!("{text} AS `v{place}`, {} AS `b{place}`", before_text(&member.name, members))
            })
            .collect();
        let tuples: Vec<String> = candidates
            .iter()
            .enumerate()
            .map(|(candidate, places)| {
                let new: Vec<String> = places.iter().map(|place| format!("`v{place}`")).collect();
                let old: Vec<String> = places.iter().map(|place| format!("COALESCE(`b{place}`, `v{place}`)")).collect();
                format!("STRUCT({candidate} AS `place`, {} AS `new`, {} AS `old`)", tuple(&new), tuple(&old))
            })
            .collect();
        let load: Vec<String> = survey
            .loads_from_us
            .iter()
            .map(|from| format!("IF(`sent` >= {}, 1, 0)", timestamp_literal(*from)))
            .collect();
        let load = if load.is_empty() { "0".to_owned() } else { load.join(" + ") };
        let in_order = "OVER (PARTITION BY `candidate`, `key` ORDER BY `sent`, `kafka_offset`, `is_old`)";
        let is_shared = "CASE WHEN `operation` = 'insert' AND `has_own_position` AND `previous` IN ('insert', 'update') THEN TRUE \
             WHEN `previous_image` = `image` THEN FALSE \
             WHEN `operation` = 'load' THEN `previous` = 'load' AND `previous_load` = `load` \
             WHEN `operation` = 'insert' THEN `previous` IN ('insert', 'update') OR `previous` = 'load' AND `committed_at` > `previous_sent` \
             ELSE FALSE END";
        Ok(format!(
            "WITH `once` AS (\n\
             SELECT * FROM ({records}) WHERE TRUE\n\
             QUALIFY `operation` = 'load' OR ROW_NUMBER() OVER (PARTITION BY `operation`, `position` ORDER BY `sent`, `kafka_offset`) = 1\n\
             ),\n\
             `texts` AS (\n\
             SELECT `operation`, `sent`, `committed_at`, `kafka_offset`, FARM_FINGERPRINT(`data`) AS `image`, {load} AS `load`, \
             STARTS_WITH(`position`, '0000-2-') AND STRPOS(`position`, '~') = 0 AS `has_own_position`, {texts}\n\
             FROM `once`\n\
             ),\n\
             `keys` AS (\n\
             SELECT `tuple`.`place` AS `candidate`, IF(`is_old`, `tuple`.`old`, `tuple`.`new`) AS `key`, IF(`is_old`, 'delete', `operation`) AS `operation`, \
             `is_old`, `sent`, `committed_at`, `kafka_offset`, `image`, `load`, `has_own_position`\n\
             FROM (SELECT *, [{tuples}] AS `tuples` FROM `texts`), UNNEST(`tuples`) AS `tuple`, \
             UNNEST(IF(`operation` = 'update' AND COALESCE(`tuple`.`old` <> `tuple`.`new`, FALSE), [FALSE, TRUE], [FALSE])) AS `is_old`\n\
             ),\n\
             `ordered` AS (\n\
             SELECT *, LAG(`operation`) {in_order} AS `previous`, LAG(`image`) {in_order} AS `previous_image`, \
             LAG(`load`) {in_order} AS `previous_load`, LAG(`sent`) {in_order} AS `previous_sent`\n\
             FROM `keys`\n\
             WHERE `key` IS NOT NULL\n\
             )\n\
             SELECT `candidate`, COUNT(DISTINCT IF(`operation` IN ('load', 'insert'), `key`, NULL)) AS `distinct_keys`, \
             COUNTIF({is_shared}) AS `shared`, \
             COUNTIF(`operation` IN ('load', 'insert') AND `previous` = `operation` AND `previous_image` = `image` AND `previous_load` = `load`) AS `repeated`, \
             COUNTIF(`operation` IN ('update', 'delete') AND NOT `is_old` AND `previous` IS NULL) AS `unknown`\n\
             FROM `ordered`\n\
             GROUP BY `candidate`",
            records = self.records(
                &format!("`operation`, `position`, `data`, `before`, `committed_at`, `kafka_offset`, {SENT}"),
                &readable()
            )?,
            texts = texts.join(", "),
            tuples = tuples.join(", "),
        ))
    }

    /// The table's records that meet a condition, each Kafka record once.
    fn records(&self, columns: &str, condition: &str) -> Result<String, NameError> {
        Ok(format!(
            "SELECT {columns} FROM {log} AS `_strait_log`\n\
             WHERE `source_schema` = {schema} AND `source_table` = {table} AND {condition}\n\
             QUALIFY ROW_NUMBER() OVER (PARTITION BY `kafka_topic`, `kafka_partition`, `_strait_log`.`kafka_offset`, `_strait_log`.`position` ORDER BY `ingested_at`) = 1",
            log = self.log.quoted(self.project)?,
            schema = string_literal(&self.source.schema),
            table = string_literal(&self.source.table),
        ))
    }
}

/// When DMS sent a record; what has no such time is taken by when it came in.
const SENT: &str = "COALESCE(`emitted_at`, `ingested_at`) AS `sent`";
/// The changes whose images can be read.
fn readable() -> String {
    format!("`operation` IN ('load', 'insert', 'update', 'delete') AND {}", is_readable())
}

fn is_readable() -> String {
    let taken = SELF_DESCRIBED.map(string_literal);
    format!("(`error` IS NULL OR `error` IN ({}))", taken.join(", "))
}

fn alias(form: Form) -> String {
    format!("is_{form:?}")
}

/// The text of a member in the image before the change, wherever DMS puts it.
fn before_text(member: &str, members: &[Member]) -> String {
    let of_before = member_text("`before`", member);
    let beside = format!("{BEFORE_IMAGE_PREFIX}{member}");
    // A source may have a column of that very name.
    if members.iter().any(|member| member.name == beside) {
        return of_before;
    }
    format!("IF(`before` IS NULL, {}, {of_before})", member_text("`data`", &beside))
}

/// Several texts as one that is equal only if each of them is; NULL if any is.
fn tuple(texts: &[String]) -> String {
    match texts {
        [text] => text.clone(),
        _ => {
            let parts: Vec<String> =
                texts.iter().map(|text| format!("CAST(CHAR_LENGTH({text}) AS STRING), ':', {text}")).collect();
            format!("CONCAT({})", parts.join(", "))
        }
    }
}

/// Takes the answer of [`LoggedTable::members`]: the columns, in the images' order. Left out are names that only deletes
/// have, and the before-images that DMS puts beside the columns that they belong to, which only updates have.
pub fn read_members(answer: &QueryAnswer) -> Vec<Member> {
    let mut members: Vec<(Member, u64)> = Vec::new();
    for row in 0..answer.rows.len() {
        // One name may be escaped in two ways.
        let Some(Ok(name)) =
            answer.text(row, "name").map(|text| serde_json::from_str::<String>(&format!("\"{text}\"")))
        else {
            continue;
        };
        let (present, in_rows) = (whole(answer, row, "present"), whole(answer, row, "in_rows"));
        match members.iter_mut().find(|(member, _)| member.name == name) {
            Some((member, rows)) => {
                member.present = member.present.saturating_add(present);
                *rows = rows.saturating_add(in_rows);
            }
            None => members.push((Member { name, present }, in_rows)),
        }
    }
    let names: Vec<String> = members.iter().map(|(member, _)| member.name.clone()).collect();
    let is_before_image = |name: &str| {
        name.strip_prefix(BEFORE_IMAGE_PREFIX).is_some_and(|column| names.iter().any(|other| other == column))
    };
    members
        .into_iter()
        .filter(|(member, in_rows)| member.present > 0 && !(*in_rows == 0 && is_before_image(&member.name)))
        .map(|(member, _)| member)
        .collect()
}

/// Takes the answer of [`LoggedTable::forms`]: the evidence of each member, in the members' order.
pub fn read_forms(answer: &QueryAnswer, survey: &Survey, members: &[Member]) -> Vec<ColumnEvidence> {
    members
        .iter()
        .enumerate()
        .map(|(place, member)| {
            let images = survey.images();
            let mut evidence =
                ColumnEvidence { member: member.name.clone(), images, present: member.present, ..Default::default() };
            let of_place = |row: &usize| answer.text(*row, "place") == Some(place.to_string().as_str());
            if let Some(row) = (0..answer.rows.len()).find(of_place) {
                let count = |column: &str| whole(answer, row, column);
                evidence.values = count("values");
                evidence.in_deletes = count("in_deletes");
                evidence.in_before_images = count("in_before_images");
                evidence.forms = FORMS.iter().map(|(form, _)| (*form, count(&alias(*form)))).collect();
                evidence.misfits =
                    CANDIDATES.iter().map(|of| (of.name(), count(&format!("not_{}", of.name())))).collect();
                evidence.lengths = (count("shortest"), count("longest"));
                evidence.whole_digits = count("whole_digits");
                evidence.fraction_digits = (count("fewest_fraction_digits"), count("most_fraction_digits"));
            }
            evidence.present = evidence.present.clamp(evidence.values, images.max(evidence.values));
            evidence
        })
        .collect()
}

/// What [`LoggedTable::keys`] counted of a candidate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyEvidence {
    /// Different keys among the rows that were loaded or inserted.
    pub distinct: u64,
    /// Rows that came for a key while another row had it.
    pub shared: u64,
    /// Rows that came twice, to the letter.
    pub repeated: u64,
    /// Updates and deletes of a key for which no row had come.
    pub unknown: u64,
}

/// Takes the answer of [`LoggedTable::keys`], in the candidates' order; `None` for a candidate without a record.
pub fn read_keys(answer: &QueryAnswer, candidates: usize) -> Vec<Option<KeyEvidence>> {
    (0..candidates)
        .map(|candidate| {
            let of_candidate = |row: &usize| answer.text(*row, "candidate") == Some(candidate.to_string().as_str());
            let row = (0..answer.rows.len()).find(of_candidate)?;
            let count = |column| whole(answer, row, column);
            Some(KeyEvidence {
                distinct: count("distinct_keys"),
                shared: count("shared"),
                repeated: count("repeated"),
                unknown: count("unknown"),
            })
        })
        .collect()
}

/// A count; NULL, as of no value at all, is 0.
fn whole(answer: &QueryAnswer, row: usize, column: &str) -> u64 {
    answer.integer(row, column).and_then(|count| u64::try_from(count).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use serde_json::{Value, json};

    fn answer(columns: &[&str], rows: Value) -> QueryAnswer {
        QueryAnswer {
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            rows: serde_json::from_value(rows).unwrap(),
            ..QueryAnswer::default()
        }
    }

    fn names(answer: &QueryAnswer) -> Vec<String> {
        read_members(answer).into_iter().map(|member| member.name).collect()
    }

    #[test]
    fn a_name_is_read_whichever_way_it_is_escaped() {
        let rows = json!([
            ["id", "0", "3", "3"],
            ["caf\\u00e9", "1", "1", "1"],
            ["café", "1", "2", "2"],
            ["a\\\"b", "2", "3", "3"]
        ]);
        let answer = answer(&["name", "place", "present", "in_rows"], rows);
        assert_eq!(names(&answer), ["id", "café", "a\"b"]);
        assert_eq!(read_members(&answer).iter().map(|member| member.present).collect::<Vec<_>>(), [3, 3, 3]);
    }

    #[test]
    fn a_before_image_beside_its_column_is_no_column_but_a_column_of_that_name_is() {
        let columns = ["name", "place", "present", "in_rows"];
        assert_eq!(names(&answer(&columns, json!([["id", "0", "3", "2"], ["BI_id", "1", "1", "0"]]))), ["id"]);
        assert_eq!(names(&answer(&columns, json!([["id", "0", "3", "2"], ["BI_id", "1", "3", "2"]]))), ["id", "BI_id"]);
        assert_eq!(names(&answer(&columns, json!([["BI_id", "1", "1", "0"]]))), ["BI_id"]);
        // Nobody's column: it stands in deletes alone.
        assert_eq!(names(&answer(&columns, json!([["id", "0", "3", "2"], ["gone", "1", "0", "0"]]))), ["id"]);
    }

    #[test]
    fn a_survey_tells_operations_apart() {
        let columns = ["operation", "records", "unreadable", "postgresql", "mysql"];
        let rows =
            json!([["load", "5", "1", "0", "0"], ["update", "2", "0", "2", "0"], ["drop-table", "1", "0", "0", "0"]]);
        let survey = Survey::read(&answer(&columns, rows));
        assert_eq!((survey.loads, survey.updates, survey.unreadable, survey.controls), (4, 2, 1, 1));
        assert_eq!((survey.images(), survey.rows(), survey.postgresql), (6, 4, 2));
    }

    #[test]
    fn keys_of_several_columns_are_equal_only_if_each_column_is() {
        assert_eq!(tuple(&["`a`".to_owned()]), "`a`");
        let two = tuple(&["`a`".to_owned(), "`b`".to_owned()]);
        assert_eq!(
            two,
            "CONCAT(CAST(CHAR_LENGTH(`a`) AS STRING), ':', `a`, CAST(CHAR_LENGTH(`b`) AS STRING), ':', `b`)"
        );
    }
}
