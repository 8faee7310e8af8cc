//! `docs/types.md` is written from the table of types in the code, so the page cannot promise another type than the merge
//! makes. `UPDATE_GOLDEN=1` writes it anew.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use strait::merge::types::map::{DMS_TYPES, DmsType, Engine, Kind, SOURCE_TYPES};
use strait::merge::types::{ColumnType, Zone};

const INTRODUCTION: &str = "\
<!-- Generated from shared/src/merge/types: UPDATE_GOLDEN=1 cargo test -p strait --test types_page -->

# Types

A value is either exactly what the source holds or it is not in the final table: nothing is rounded, cut off or made NULL on the way.
A change with a value that its column cannot hold exactly goes to `cdc.quarantine` with the column and the reason; the row keeps its last exact
state, the rest of the table goes on, and the count is in the answer and in the metrics. Give the column a type that can hold the value, and the row is
right again with its next change, or at once if its records are merged again:

    merge {\"tables\":[\"shop.orders\"],\"from\":\"2026-11-22T10:00:00Z\"}

What a column's type is:

- Of a table that exists, the type that it has. It may be any that can hold the source's values ([below](#other-types)); one that cannot hold a single one is
  named before anything is merged, and the table waits for a person.
- Of a table that Strait makes, the one of the following lists, from what DMS's control record says of the column. A type that is not known becomes STRING, with
  a warning that names it.

*DMS* is what the AWS DMS user guide says a type becomes; *control record* what a `create-table` record calls it, as far as messages showed it (`INT32`
where the guide says INT4). *In the message* is how DMS prints a value.
";

const DATETIME_OR_TIMESTAMP: &str = "\
## DATETIME or TIMESTAMP

DMS prints a time without a zone (MySQL's DATETIME, PostgreSQL's `timestamp`) and a moment (MySQL's TIMESTAMP, PostgreSQL's `timestamptz`) alike, with a Z at the
end that means nothing for the former. **Its control records do not tell them apart, either.** The AWS DMS user guide maps all four to DATETIME, and of one task of
PostgreSQL the records are public: of a `timestamp_col TIMESTAMP WITHOUT TIME ZONE` and of a `ts TIMESTAMP WITH TIME ZONE` both say TIMESTAMP
(`examples/cdc/aws/postgresql-pglogical-dms-kinesis.ndjson` of crate/cratedb-toolkit; the tables are those of ibis' tests). Only the source's own
catalogue knows. So the rule is:

- DATETIME in a control record becomes DATETIME, and TIMESTAMP becomes TIMESTAMP, read as UTC. No digit is lost in either.
- **Where a TIMESTAMP was a time without a zone, the moment that the column shows is not one.** Shown in UTC it is the source's wall clock, and `DATETIME(column)`
  is the value; compared with a real moment it is off by the zone. Strait warns of such columns when it makes a table.
- The final table decides: a column that is DATETIME there is filled with the wall clock, one that is TIMESTAMP with the moment.

Say it before the table is made, by making it: `strait schema shop.orders` with the source's `information_schema` proposes DATETIME for a `timestamp` and TIMESTAMP
for a `timestamptz` ([schema](schema.md)).

```sql
CREATE TABLE replica.shop_orders (id INT64 NOT NULL, ordered_at DATETIME, PRIMARY KEY (id) NOT ENFORCED);
```

Or of a table that is there, column by column and without a loss, then merge again what came in the meantime
(`merge {\"tables\":[\"shop.orders\"],\"from\":\"<before the first statement>\"}`):

```sql
ALTER TABLE replica.shop_orders ADD COLUMN ordered_at_ DATETIME;
UPDATE replica.shop_orders SET ordered_at_ = DATETIME(ordered_at) WHERE TRUE;
ALTER TABLE replica.shop_orders RENAME COLUMN ordered_at TO ordered_at_old, RENAME COLUMN ordered_at_ TO ordered_at;
ALTER TABLE replica.shop_orders DROP COLUMN ordered_at_old;
```

### A stated zone

If everybody knows that the source's wall clock is that of a place, the final table may have moments: a TIMESTAMP column whose description holds
`strait_zone=` and a name of the tz database.

```sql
CREATE TABLE replica.shop_orders (
  id INT64 NOT NULL,
  ordered_at TIMESTAMP OPTIONS (description = 'When it was ordered; strait_zone=Europe/Berlin'),
  PRIMARY KEY (id) NOT ENFORCED);
```

A time that the zone's clocks never showed, or showed twice (the hour after summer time ends), is no single moment: quarantined. State it only for a source column
without a zone: the messages do not show whether it has one.
";

const JSON: &str = "\
## JSON

Text by default, to the letter. In a column of the type JSON, BigQuery keeps what the text means: members sorted by name, `1.50` as 1.5. A number
must be one that a 64-bit integer or a double holds: `PARSE_JSON`'s `wide_number_mode` stays `exact`, and one of more digits is quarantined.
Of two members of one name, which PostgreSQL's `json` keeps (`jsonb` and MySQL do not), the first stays. JSON's `null` is a value, not NULL.

## Text

Every code point is kept; a half of a surrogate pair is quarantined. BigQuery compares by code point, the source by the column's collation: a MySQL key `abc` that
becomes `ABC` is a change of the key here. STRING(n) and BYTES(n) are checked: BigQuery counts characters and bytes.

## Floating point

DMS prints a single-precision number with nine digits, which tell every one apart from its neighbours: the column has that number (`2.20000005`), not the shortest
one (`2.2`) and not the 24 bits themselves (`2.2000000476837158`). NaN and the infinities are kept where DMS sends them as text.
";

fn control_record((name, precision, scale): DmsType) -> String {
    match (precision, scale) {
        (Some(precision), Some(scale)) => format!("{name}({precision},{scale})"),
        _ => name.to_owned(),
    }
}

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (engine, title) in [(Engine::MySql, "MySQL"), (Engine::PostgreSql, "PostgreSQL")] {
        write!(page, "\n## {title}\n\n| {title} | DMS | control record | in the message | BigQuery | limits |\n|---|---|---|---|---|---|\n").unwrap();
        for row in SOURCE_TYPES.iter().filter(|row| row.engine == engine) {
            let makes = |dms: &DmsType| ColumnType::from_dms(dms.0, dms.1, dms.2).unwrap().sql();
            // One type for all that a control record may say, or each with its own.
            let all: Vec<String> = row.dms.iter().map(|dms| control_record(*dms)).collect();
            let mut made: Vec<String> = row.dms.iter().map(makes).collect();
            made.dedup();
            writeln!(
                page,
                "| {} | {} | {} | {} | {} | {} |",
                row.names,
                row.guide,
                all.join("<br>"),
                row.sent,
                made.join("<br>"),
                row.limits
            )
            .unwrap();
        }
    }

    page.push_str(
        "\n## Other types\n\nWhat a table may declare, by what the source sends. What a type does not hold is quarantined. A type that is not listed is refused\n\
         before anything is merged; REPEATED columns, RECORD, GEOGRAPHY, INTERVAL and RANGE always are. Of the types with a length or a precision,\n\
         values are checked against those.\n\n| the source sends | control record | declared | holds |\n|---|---|---|---|\n",
    );
    for kind in Kind::ALL {
        let names = DMS_TYPES.iter().filter(|(of, _)| *of == kind).flat_map(|(_, names)| names.iter().copied());
        let names = names.collect::<Vec<_>>().join(", ");
        for (place, target) in kind.targets().iter().enumerate() {
            let (words, names) = if place == 0 { (kind.words(), names.as_str()) } else { ("", "") };
            let made = if place == 0 { " (made by default)" } else { "" };
            writeln!(page, "| {words} | {names} | {}{made} | {} |", target.name, target.holds).unwrap();
        }
    }

    for section in [DATETIME_OR_TIMESTAMP, JSON] {
        page.push('\n');
        page.push_str(section);
    }

    page.push_str("\n## The expressions\n\nWhat the merge evaluates for a column, `text` being the member's text in the log. Each is NULL for a text that the type does not hold\nexactly; NULL from a text that is not NULL is what quarantines a change. Google's own evaluator is asked about every one (`tests/tests/analyzer.rs`).\n");
    let zone = Zone::stated_in("strait_zone=Europe/Berlin").unwrap().unwrap();
    for column_type in [
        ColumnType::StringUpTo(40),
        ColumnType::Int64,
        ColumnType::Numeric { whole: 10, fraction: 2 },
        ColumnType::BIGNUMERIC,
        ColumnType::Float64,
        ColumnType::Bool,
        ColumnType::Bytes,
        ColumnType::Date,
        ColumnType::DateTime,
        ColumnType::Timestamp,
        ColumnType::TimestampIn(zone),
        ColumnType::Time,
        ColumnType::Json,
    ] {
        let stated = if matches!(column_type, ColumnType::TimestampIn(_)) { " with a stated zone" } else { "" };
        write!(page, "\n{}{stated}:\n\n```sql\n{}\n```\n", column_type.sql(), column_type.value_of("`text`")).unwrap();
    }
    page
}

#[test]
fn the_page_of_types_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/types.md");
    let page = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/types.md is not what the code says: UPDATE_GOLDEN=1 writes it anew");
}
