//! Which partitions of a final table a merge has to read. A row that a change is about may lie in any partition, unless the partitions'
//! column is part of the key; so one query finds in which partitions the fold's keys have rows, and the MERGE is limited to those and to the
//! ones that its new values lie in, by literals, which alone let BigQuery leave partitions out
//! (<https://cloud.google.com/bigquery/docs/querying-partitioned-tables#use_a_constant_filter_expression>). A partition that holds a row
//! of the fold's must never be left out: the row would be inserted a second time.
//!
//! A MERGE puts a row that it inserts into a table partitioned by the time of ingestion into the partition of that moment, and leaves a
//! row that it updates in its own, unless it sets `_PARTITIONTIME`, which Strait's does not
//! (<https://cloud.google.com/bigquery/docs/using-dml-with-partitioned-tables>).

use jiff::civil::{DateTime, Time};
use jiff::{Span, ToSpan};

use crate::bigquery::table_resource::Table;
use crate::config::DAY_US;
use crate::names::{NameError, TableName, quote_column};

use super::final_table::FinalTable;
use super::fold::{timestamp_literal, value_column};
use super::types::ColumnType;

/// By which a table is partitioned that names no column for it
/// (<https://cloud.google.com/bigquery/docs/querying-partitioned-tables#query_an_ingestion-time_partitioned_table>).
const INGESTION_TIME: &str = "_PARTITIONTIME";
/// Of more partitions than this the statement names the first and the last: it would become long, and leave few out.
const MOST_NAMED: usize = 100;

/// How a table is partitioned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partitioning {
    /// The column by which it is.
    pub column: String,
    by: By,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    /// The hour, day, month or year of the column's value.
    Time(Unit),
    /// Ranges of whole numbers; what lies in none of them is in a partition of its own.
    Range { start: i64, end: i64, width: i64 },
    /// What this version does not know: nothing is left out.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Hour,
    Day,
    Month,
    Year,
}

/// The type of the values, of which the literals are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    Date,
    DateTime,
    Timestamp,
    Integer,
}

impl Partitioning {
    /// How a table is partitioned, if it is.
    pub fn of(table: &Table) -> Option<Self> {
        if let Some(time) = &table.time_partitioning {
            let by = match time.unit.as_str() {
                "HOUR" => By::Time(Unit::Hour),
                "DAY" => By::Time(Unit::Day),
                "MONTH" => By::Time(Unit::Month),
                "YEAR" => By::Time(Unit::Year),
                _ => By::Unknown,
            };
            return Some(Self { column: time.field.clone().unwrap_or_else(|| INGESTION_TIME.to_owned()), by });
        }
        let range = table.range_partitioning.as_ref()?;
        let number = |text: &str| text.parse::<i64>().ok();
        let by = match (number(&range.range.start), number(&range.range.end), number(&range.range.interval)) {
            (Some(start), Some(end), Some(width)) if start < end && width > 0 => By::Range { start, end, width },
            _ => By::Unknown,
        };
        Some(Self { column: range.field.clone(), by })
    }

    /// Whether it is by this column.
    pub fn is_by(&self, column: &str) -> bool {
        self.column.eq_ignore_ascii_case(column)
    }

    fn is_by_ingestion(&self) -> bool {
        self.column == INGESTION_TIME
    }

    /// The type of the column's values, if partitions are left out by them: not where the key's own range does.
    fn values(&self, table: &FinalTable) -> Option<Values> {
        let column = table.columns.iter().find(|column| self.is_by(&column.name));
        match (&self.by, column) {
            _ if table.is_keyless => None,
            (By::Time(_), None) if self.is_by_ingestion() => Some(Values::Timestamp),
            (_, Some(column)) if column.is_key => None,
            (By::Time(Unit::Day | Unit::Month | Unit::Year), Some(column))
                if column.column_type == ColumnType::Date =>
            {
                Some(Values::Date)
            }
            (By::Time(_), Some(column)) => match column.column_type {
                ColumnType::DateTime => Some(Values::DateTime),
                ColumnType::Timestamp | ColumnType::TimestampIn(_) => Some(Values::Timestamp),
                _ => None,
            },
            (By::Range { .. }, Some(column)) if column.column_type == ColumnType::Int64 => Some(Values::Integer),
            _ => None,
        }
    }

    /// The SQL of a partition as a number, given a value: where it begins, for a time in µs since the epoch of Unix.
    fn begin_sql(&self, values: Values, value: &str) -> String {
        match (&self.by, values) {
            (By::Time(unit), Values::Date) => {
                format!("UNIX_DATE(DATE_TRUNC({value}, {})) * {DAY_US}", unit.sql())
            }
            (By::Time(unit), Values::DateTime) => {
                format!("UNIX_MICROS(TIMESTAMP(DATETIME_TRUNC({value}, {})))", unit.sql())
            }
            (By::Time(unit), _) => format!("UNIX_MICROS(TIMESTAMP_TRUNC({value}, {}))", unit.sql()),
            (By::Range { start, end, width }, _) => format!(
                "CASE WHEN {value} < {start} THEN {} WHEN {value} >= {end} THEN {end} ELSE {value} - MOD({value} - {start}, {width}) END",
                start.saturating_sub(1)
            ),
            (By::Unknown, _) => "NULL".to_owned(),
        }
    }

    /// When the hour, day, month or year of a time begins, in µs.
    fn first_us(&self, us: i64) -> i64 {
        let first = |unit: Unit| {
            let time = civil(us)?;
            let day = match unit {
                Unit::Hour => return time.with().minute(0).second(0).subsec_nanosecond(0).build().ok(),
                Unit::Day => time.date(),
                Unit::Month => time.date().first_of_month(),
                Unit::Year => time.date().first_of_year(),
            };
            Some(day.to_datetime(Time::midnight()))
        };
        let By::Time(unit) = self.by else {
            return us;
        };
        first(unit).and_then(micros).unwrap_or(us)
    }

    /// The first and the last value of the partition that begins so. `None`: without an end.
    fn ends(&self, begin: i64) -> (Option<i64>, Option<i64>) {
        match &self.by {
            By::Range { start, .. } if begin < *start => (None, start.checked_sub(1)),
            By::Range { end, .. } if begin >= *end => (Some(*end), None),
            By::Range { end, width, .. } => {
                (Some(begin), Some(begin.saturating_add(width.saturating_sub(1)).min(end.saturating_sub(1))))
            }
            By::Time(unit) => (Some(begin), unit.last_us(begin)),
            By::Unknown => (None, None),
        }
    }
}

impl Unit {
    fn sql(self) -> &'static str {
        match self {
            Self::Hour => "HOUR",
            Self::Day => "DAY",
            Self::Month => "MONTH",
            Self::Year => "YEAR",
        }
    }

    fn span(self) -> Span {
        match self {
            Self::Hour => 1.hour(),
            Self::Day => 1.day(),
            Self::Month => 1.month(),
            Self::Year => 1.year(),
        }
    }

    /// The last µs of the hour, day, month or year that begins so; `None`: the calendar ends before.
    fn last_us(self, begin: i64) -> Option<i64> {
        Some(micros(civil(begin)?.checked_add(self.span()).ok()?)?.saturating_sub(1))
    }
}

/// A time of UTC. A [`jiff::Timestamp`] does not reach to the end of the calendar, for there may be an offset.
fn civil(us: i64) -> Option<DateTime> {
    EPOCH.checked_add(Span::new().try_microseconds(us).ok()?).ok()
}

fn micros(time: DateTime) -> Option<i64> {
    i64::try_from(time.duration_since(EPOCH).as_micros()).ok()
}

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl Values {
    fn literal(self, value: i64) -> String {
        match (self, civil(value)) {
            (Self::Integer, _) | (_, None) => value.to_string(),
            (Self::Timestamp, Some(time)) => format!("TIMESTAMP '{}+00'", time.strftime("%Y-%m-%d %H:%M:%S.%6f")),
            (Self::Date, Some(time)) => format!("DATE '{}'", time.strftime("%Y-%m-%d")),
            (Self::DateTime, Some(time)) => format!("DATETIME '{}'", time.strftime("%Y-%m-%d %H:%M:%S.%6f")),
        }
    }
}

/// The query for the partitions in which the fold's keys have rows, and those that its values lie in: one number each, where it begins, NULL
/// for that of NULL. `None`: the table is not partitioned, or its key says in which partition a row is.
pub fn query(project: &str, fold: &TableName, table: &FinalTable) -> Result<Option<String>, NameError> {
    let Some((by, values)) = table.partitioning.as_ref().and_then(|by| Some((by, by.values(table)?))) else {
        return Ok(None);
    };
    let fold = fold.quoted(project)?;
    let (mut same_key, mut key) = (Vec::new(), Vec::new());
    for (place, column) in table.columns.iter().enumerate().filter(|(_, column)| column.is_key) {
        let name = quote_column(&column.name)?;
        same_key.push(format!("`_strait_old`.{name} = `_strait_new`.{}", value_column(place)));
        key.push(name);
    }
    let value = table.columns.iter().position(|column| by.is_by(&column.name)).map(value_column);
    let new = value.map_or_else(String::new, |value| {
        format!("\nUNION ALL\nSELECT {value} FROM {fold} WHERE `flaw_reason` IS NULL")
    });
    Ok(Some(format!(
        "SELECT DISTINCT {begin} AS `begin`\n\
         FROM (\n\
         SELECT `_strait_old`.`_strait_value` AS `value`\n\
         FROM (SELECT {key}, {column} AS `_strait_value` FROM {target}{filter}) `_strait_old`\n\
         JOIN (SELECT * FROM {fold} WHERE `flaw_reason` IS NULL) `_strait_new` ON {on}{new}\n\
         )",
        begin = by.begin_sql(values, "`value`"),
        key = key.join(", "),
        column = quote_column(&by.column)?,
        target = table.name.quoted(project)?,
        filter = table.partition_filter(None)?.map_or_else(String::new, |filter| format!(" WHERE {filter}")),
        on = same_key.join(" AND "),
    )))
}

/// The condition that a row of the table lies in one of these partitions, as [`query`] has found them, or in one that a row may have come into
/// since `now_us`; `alias` is what the statement calls the table. `None`: nothing can be left out.
pub fn condition(
    table: &FinalTable,
    alias: &str,
    found: &[Option<i64>],
    now_us: i64,
) -> Result<Option<String>, NameError> {
    let Some((by, values)) = table.partitioning.as_ref().and_then(|by| Some((by, by.values(table)?))) else {
        return Ok(None);
    };
    let column = format!("{alias}.{}", quote_column(&by.column)?);
    let mut begins: Vec<i64> = found.iter().copied().flatten().collect();
    begins.sort_unstable();
    begins.dedup();
    let mut ranges: Vec<(Option<i64>, Option<i64>)> = Vec::new();
    for begin in begins {
        let (first, last) = by.ends(begin);
        match ranges.last_mut() {
            Some((_, before)) if before.is_some() && before.and_then(|before| before.checked_add(1)) == first => {
                *before = last;
            }
            _ => ranges.push((first, last)),
        }
    }
    if ranges.len() > MOST_NAMED {
        let ends = (ranges.first().and_then(|range| range.0), ranges.last().and_then(|range| range.1));
        ranges = vec![ends];
    }
    let mut conditions: Vec<String> = ranges
        .into_iter()
        .map(|range| match range {
            (Some(first), Some(last)) => {
                format!("{column} BETWEEN {} AND {}", values.literal(first), values.literal(last))
            }
            (Some(first), None) => format!("{column} >= {}", values.literal(first)),
            (None, Some(last)) => format!("{column} <= {}", values.literal(last)),
            (None, None) => format!("{column} IS NOT NULL"),
        })
        .collect();
    if by.is_by_ingestion() {
        // Rows that work of an earlier run has inserted meanwhile; the clocks may differ.
        conditions.push(format!("{column} >= {}", timestamp_literal(by.first_us(now_us.saturating_sub(DAY_US)))));
    }
    if by.is_by_ingestion() || found.contains(&None) {
        conditions.push(format!("{column} IS NULL"));
    }
    Ok((!conditions.is_empty()).then(|| format!("({})", conditions.join(" OR "))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::{Value, json};

    use super::*;
    use crate::config::Deletes;
    use crate::names::SourceTable;

    fn table(partitioning: Value) -> FinalTable {
        let mut resource = json!({"schema": {"fields": [
            {"name": "id", "type": "INTEGER"}, {"name": "Day", "type": "DATE"}, {"name": "at", "type": "TIMESTAMP"},
            {"name": "shown", "type": "DATETIME"}, {"name": "n", "type": "INTEGER"}]},
            "tableConstraints": {"primaryKey": {"columns": ["id"]}}});
        resource.as_object_mut().unwrap().extend(partitioning.as_object().unwrap().clone());
        let name = TableName { dataset: "replica".into(), table: "t".into() };
        let source = SourceTable { schema: "s".into(), table: "t".into() };
        let resource: Table = serde_json::from_value(resource).unwrap();
        FinalTable::existing(name, &source, &resource, None, Deletes::Hard).unwrap()
    }

    fn us(time: &str) -> Option<i64> {
        micros(time.strip_suffix('Z').unwrap().parse().unwrap())
    }

    fn said(table: &FinalTable, found: &[Option<i64>]) -> String {
        condition(table, "T", found, us("2026-06-01T00:00:00Z").unwrap()).unwrap().unwrap()
    }

    #[test]
    fn partitions_are_named_by_literals_and_those_beside_each_other_together() {
        let daily = table(json!({"timePartitioning": {"type": "DAY", "field": "day"}}));
        let [first, second, later] = ["2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"].map(us);
        assert_eq!(
            said(&daily, &[later, first, None, second, first]),
            "(T.`day` BETWEEN DATE '2026-01-31' AND DATE '2026-02-01' OR T.`day` BETWEEN DATE '2026-03-01' AND DATE '2026-03-01' OR T.`day` IS NULL)"
        );
        let monthly = table(json!({"timePartitioning": {"type": "MONTH", "field": "shown"}}));
        assert_eq!(
            said(&monthly, &[second]),
            "(T.`shown` BETWEEN DATETIME '2026-02-01 00:00:00.000000' AND DATETIME '2026-02-28 23:59:59.999999')"
        );
        let hourly = table(json!({"timePartitioning": {"type": "HOUR", "field": "at"}}));
        assert_eq!(
            said(&hourly, &[first]),
            "(T.`at` BETWEEN TIMESTAMP '2026-01-31 00:00:00.000000+00' AND TIMESTAMP '2026-01-31 00:59:59.999999+00')"
        );
        // The last day of the calendar has no end.
        let yearly = table(json!({"timePartitioning": {"type": "YEAR", "field": "day"}}));
        assert_eq!(said(&yearly, &[us("9999-01-01T00:00:00Z")]), "(T.`day` >= DATE '9999-01-01')");
        assert_eq!(
            said(&yearly, &[us("0001-01-01T00:00:00Z")]),
            "(T.`day` BETWEEN DATE '0001-01-01' AND DATE '0001-12-31')"
        );
    }

    #[test]
    fn of_very_many_the_first_and_the_last_are_named() {
        let daily = table(json!({"timePartitioning": {"type": "DAY", "field": "Day"}}));
        let found: Vec<Option<i64>> = (0..300).map(|day| Some(day * 2 * DAY_US)).collect();
        assert_eq!(said(&daily, &found), "(T.`Day` BETWEEN DATE '1970-01-01' AND DATE '1971-08-22')");
    }

    #[test]
    fn whole_numbers_outside_of_all_ranges_are_named_by_the_ranges_ends() {
        let range = |start: &str, end: &str| json!({"rangePartitioning": {"field": "n", "range": {"start": start, "end": end, "interval": "10"}}});
        let ranged = table(range("0", "95"));
        assert_eq!(
            said(&ranged, &[Some(-1), Some(20), Some(90), Some(95), None]),
            "(T.`n` <= -1 OR T.`n` BETWEEN 20 AND 29 OR T.`n` >= 90 OR T.`n` IS NULL)"
        );
        assert_eq!(said(&ranged, &[Some(90)]), "(T.`n` BETWEEN 90 AND 94)");
        // Numbers at the ends of their type.
        let wide = table(range(&i64::MIN.to_string(), &i64::MAX.to_string()));
        let condition = condition(&wide, "T", &[Some(i64::MAX)], 0).unwrap().unwrap();
        assert_eq!(condition, format!("(T.`n` >= {})", i64::MAX));
    }

    #[test]
    fn what_was_ingested_lately_or_is_still_streamed_is_never_left_out() {
        let ingested = table(json!({"timePartitioning": {"type": "DAY"}}));
        assert_eq!(
            said(&ingested, &[us("2026-01-31T00:00:00Z")]),
            "(T.`_PARTITIONTIME` BETWEEN TIMESTAMP '2026-01-31 00:00:00.000000+00' AND TIMESTAMP '2026-01-31 23:59:59.999999+00' \
             OR T.`_PARTITIONTIME` >= TIMESTAMP '2026-05-31 00:00:00.000000+00' OR T.`_PARTITIONTIME` IS NULL)"
        );
        for (unit, since) in [
            ("HOUR", "2026-05-31 10:00"),
            ("DAY", "2026-05-31 00:00"),
            ("MONTH", "2026-05-01 00:00"),
            ("YEAR", "2026-01-01 00:00"),
        ] {
            let ingested = table(json!({"timePartitioning": {"type": unit}}));
            let now = us("2026-06-01T10:20:30Z").unwrap();
            let condition = condition(&ingested, "T", &[], now).unwrap().unwrap();
            assert!(condition.contains(&format!(">= TIMESTAMP '{since}:00.000000+00'")), "{unit}: {condition}");
        }
    }

    #[test]
    fn nothing_is_asked_where_the_key_says_it_or_nothing_is_known() {
        let fold = TableName { dataset: "cdc".into(), table: "f".into() };
        for partitioning in [
            json!({}),
            json!({"timePartitioning": {"type": "DECADE", "field": "Day"}}),
            json!({"rangePartitioning": {"field": "n", "range": {"start": "0", "end": "", "interval": "1"}}}),
            json!({"rangePartitioning": {"field": "id", "range": {"start": "0", "end": "9", "interval": "1"}}}),
        ] {
            let table = table(partitioning);
            assert_eq!(query("p", &fold, &table).unwrap(), None, "{:?}", table.partitioning);
            assert_eq!(condition(&table, "T", &[None], 0).unwrap(), None);
        }
    }
}
