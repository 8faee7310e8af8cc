//! What Debezium really sent of real databases (`make debezium-real`, `tests/debezium/real.py`), through the built functions: the final
//! tables hold what the databases print, value by value. What Debezium itself does not say exactly stands in [`LOST`], by type, with what
//! comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use strait::names::string_literal;
use strait_cli::msk::Topic;
use strait_tests::conversions::alike;
use strait_tests::debezium::{Record, produce};
use strait_tests::history::Table;
use strait_tests::pipeline::{Pipeline, Setup, of};
use strait_tests::{repository, run};

/// Where the captured records lie.
const FOLDER: &str = "STRAIT_DEBEZIUM_EVENTS";

/// Types of PostgreSQL's that Debezium does not send at all, unless `include.unknown.datatypes` is set.
const NOT_SENT: &[&str] = &["pair", "tsquery", "line", "box", "circle", "path", "polygon"];

/// What the database prints, and what Debezium made of it before it sent it: type, printed, held.
const LOST: &[(&str, &str, &str)] = &[
    // The zone is gone, and with it the hour 24.
    ("timetz", "23:59:59.5+05:30", "18:29:59.5Z"),
    ("timetz", "00:00:00-15:59", "15:59:00Z"),
    ("timetz", "24:00:00+00", "00:00:00Z"),
    // The year that is none.
    ("YEAR", "0000", "2000"),
    // Lists of lists.
    ("integer[]", "{{1,2},{3,NULL}}", "[null,null]"),
];

/// The same value in another notation: type, printed, held.
const NOTATIONS: &[(&str, &str, &str)] = &[
    ("interval", "-1 mons", "P0Y-1M0DT0H0M0S"),
    ("interval", "1 year 2 mons -3 days +04:05:06.789", "P1Y2M-3DT4H5M6.789S"),
    ("interval", "00:00:00", "P0Y0M0DT0H0M0S"),
    ("integer[]", "{}", "[]"),
    ("integer[]", "{NULL}", "[null]"),
    ("text[]", r#"{"a,b","ü\"",""}"#, r#"["a,b","ü\"",""]"#),
    ("bool[]", "{t,NULL,f}", "[true,null,false]"),
    ("hstore", r#""a"=>"1", "b ü"=>NULL"#, r#"{"a":"1","b ü":null}"#),
    ("hstore", "", "{}"),
    // Bytes, the highest bits first.
    ("bit(5)", "00101", "05"),
    ("varbit", "1", "01"),
    ("varbit", "", ""),
    // Four bytes of SRID, then WKB.
    ("point", "(1.5,-2)", "000000000101000000000000000000f83f00000000000000c0"),
    // The cast to text adds the mask of a whole address.
    ("inet", "10.0.0.1/32", "10.0.0.1"),
    // psql's own cast to text takes the spaces off.
    ("char(5)", "ab", "ab   "),
    ("char(5)", "", "     "),
];

fn captured() -> Option<Vec<PathBuf>> {
    let Some(folder) = std::env::var_os(FOLDER) else {
        eprintln!("SKIPPED: {FOLDER} is not set; `make debezium-real` captures real events and runs this test on them");
        return None;
    };
    let folder = repository().join(folder);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = files
        .map(|file| file.unwrap().path())
        .filter(|file| file.extension().is_some_and(|end| end == "jsonl"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "nothing was captured");
    Some(files)
}

#[test]
fn real_events_end_equal_to_the_source() {
    let Some(files) = captured() else {
        return;
    };
    say_what_is_missing(&files, &["recommended", "connect", "iso"]);
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| !is_of(file, "noschema") && !is_of(file, SELF_DESCRIBING)) {
        run(async { one(file, &Pipeline::start().await, &mut wrong).await });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Says loudly which settings were not captured (`VARIANTS`), for then their test compares nothing.
fn say_what_is_missing(files: &[PathBuf], variants: &[&str]) {
    for variant in variants.iter().filter(|variant| !files.iter().any(|file| is_of(file, variant))) {
        eprintln!("SKIPPED: no events of {variant} were captured");
    }
}

/// By its settings' name.
fn is_of(file: &Path, variant: &str) -> bool {
    file.file_stem().unwrap().to_str().unwrap().ends_with(&format!("-{variant}"))
}

const SELF_DESCRIBING: &str = "selfdescribing";

/// With the default modes, whose values the tables' definitions tell.
const NO_SCHEMA: &str = "noschema";

/// Types whose values cannot be told without a schema (docs/debezium.md), so that their columns are left out.
fn is_left_out(variant: &str, kind: &str) -> bool {
    match variant {
        SELF_DESCRIBING => matches!(kind, "BIT(10)" | "BIT(64)" | "bit(5)" | "varbit"),
        NO_SCHEMA => kind == "varbit",
        _ => false,
    }
}

/// `STRAIT_MASK` that leaves them out.
fn masks(variant: &str, kinds: &[String]) -> String {
    let places = kinds.iter().enumerate().filter(|(_, kind)| is_left_out(variant, kind));
    places.map(|(place, _)| format!("*.every_type.c{place}=drop")).collect::<Vec<_>>().join(",")
}

#[test]
fn real_events_of_the_default_modes_end_equal_by_the_tables_definitions() {
    let Some(files) = captured() else {
        return;
    };
    say_what_is_missing(&files, &[NO_SCHEMA]);
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| is_of(file, NO_SCHEMA)) {
        run(async {
            let mut setup = Setup::default().with("STRAIT_DEBEZIUM_WITHOUT_SCHEMA", "by-definition");
            let masks = masks(NO_SCHEMA, &kinds(&expected(file)));
            if !masks.is_empty() {
                setup = setup.with("STRAIT_MASK", &masks);
            }
            let pipeline = setup.start().await;
            if !is_of_mysql(file) {
                define_tables(&pipeline, file).await;
            }
            one(file, &pipeline, &mut wrong).await;
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What `strait define` said of the tables, in the log as it puts it there. The log is there once something was delivered.
async fn define_tables(pipeline: &Pipeline, file: &Path) {
    deliver(pipeline, file).await;
    let defined = std::fs::read(file.with_extension("definitions")).unwrap();
    let defined: Vec<(String, String)> = serde_json::from_slice(&defined).unwrap();
    let kinds = kinds(&expected(file));
    for (place, (table, control)) in defined.iter().enumerate() {
        let (schema, table) = table.split_once('.').unwrap();
        // It was printed without the masks.
        let mut control: Value = serde_json::from_str(control).unwrap();
        for (place, _) in kinds.iter().enumerate().filter(|(_, kind)| is_left_out(NO_SCHEMA, kind)) {
            control["table-def"]["columns"].as_object_mut().unwrap().remove(&format!("c{place}"));
        }
        let sql = format!(
            "INSERT INTO `{}` (source_schema, source_table, operation, position, data, emitted_at, kafka_topic, kafka_partition, kafka_offset, ingested_at) \
             VALUES ({}, {}, 'define-table', '0', {}, CURRENT_TIMESTAMP(), 'strait-define/1', 0, {place}, CURRENT_TIMESTAMP())",
            pipeline.log(),
            string_literal(schema),
            string_literal(table),
            string_literal(&control.to_string())
        );
        pipeline.query(&sql).await;
    }
}

#[test]
fn real_events_that_say_what_they_are_end_equal_without_schemas() {
    let Some(files) = captured() else {
        return;
    };
    say_what_is_missing(&files, &[SELF_DESCRIBING]);
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| is_of(file, SELF_DESCRIBING)) {
        run(async {
            let expected = expected(file);
            let kinds = kinds(&expected);
            let is_mysql = is_of_mysql(file);
            let mut setup = Setup::default()
                .with("STRAIT_DEBEZIUM_WITHOUT_SCHEMA", "self-describing")
                .with("STRAIT_MASK", &masks(SELF_DESCRIBING, &kinds));
            if !is_mysql {
                setup = setup.with("STRAIT_ABSENT_COLUMNS", "unchanged");
            }
            let pipeline = setup.start().await;
            if !is_mysql {
                make_final_tables(&pipeline, file).await;
            }
            one(file, &pipeline, &mut wrong).await;
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// PostgreSQL's connector sends no definitions: these tables are as a person would make them, with the columns that Strait makes from schemas.
async fn make_final_tables(pipeline: &Pipeline, file: &Path) {
    let with_schemas = Pipeline::start().await;
    deliver(&with_schemas, &file.with_file_name("postgresql-recommended.jsonl")).await;
    with_schemas.merge().await;
    let kinds = kinds(&expected(file));
    for (table, key) in [("every_type", "id"), ("changes", "region, id"), ("keyless", "")] {
        let source = Table::new("public", table);
        let result = with_schemas
            .bigquery
            .query(&format!("SELECT * FROM `{}`", with_schemas.final_table(&source)))
            .await
            .unwrap();
        let columns = result.columns.iter().filter(|column| !column.name.starts_with("_strait"));
        let kind = |name: &str| {
            name.strip_prefix('c').and_then(|place| place.parse().ok()).and_then(|place: usize| kinds.get(place))
        };
        let columns =
            columns.filter(|column| !kind(&column.name).is_some_and(|kind| is_left_out(SELF_DESCRIBING, kind)));
        let columns: Vec<String> = columns.map(|column| format!("`{}` {}", column.name, column.column_type)).collect();
        let (key, options) = match key {
            "" => (String::new(), " OPTIONS (labels = [('strait_key', 'none')])"),
            key => (format!(", PRIMARY KEY ({key}) NOT ENFORCED"), ""),
        };
        let name = pipeline.final_table(&source);
        let dataset = name.rsplit_once('.').unwrap().0;
        pipeline.query(&format!("CREATE SCHEMA IF NOT EXISTS `{dataset}`")).await;
        pipeline.query(&format!("CREATE TABLE `{name}` ({}{key}){options}", columns.join(", "))).await;
    }
}

fn expected(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file.with_extension("json")).unwrap()).unwrap()
}

fn is_of_mysql(file: &Path) -> bool {
    file.file_stem().unwrap().to_str().unwrap().starts_with("mysql")
}

/// The types of `every_type`, in the order of its columns `c0`, `c1`, ….
fn kinds(expected: &Value) -> Vec<String> {
    let columns = expected["columns"].as_array().unwrap();
    columns.iter().map(|column| column["type"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn real_events_without_schemas_are_all_logged_with_what_to_set() {
    let Some(files) = captured() else {
        return;
    };
    say_what_is_missing(&files, &[NO_SCHEMA]);
    for file in files.iter().filter(|file| is_of(file, "noschema")) {
        run(async {
            let pipeline = Pipeline::start().await;
            deliver(&pipeline, file).await;
            let log = pipeline.log();
            let changes = format!(
                "SELECT COALESCE(error, '') FROM `{log}` WHERE operation IN ('load', 'insert', 'update', 'delete')"
            );
            let errors = pipeline.texts(&changes).await;
            let captured = std::fs::read_to_string(file).unwrap();
            let records = captured.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let values = records
                .filter_map(|record| serde_json::from_str::<Value>(record["value"].as_str().unwrap_or("null")).ok());
            let changes = values.filter(|value| matches!(value["op"].as_str(), Some("r" | "c" | "u" | "d"))).count();
            assert!(changes > 0, "no change was captured");
            assert_eq!(errors.len(), changes);
            assert!(errors.iter().all(|error| error.contains("value.converter.schemas.enable")), "{errors:?}");
            let poison = pipeline.texts(&format!("SELECT error FROM `{log}` WHERE operation = 'poison'")).await;
            assert!(poison.is_empty(), "{poison:?}");
        });
    }
}

async fn deliver(pipeline: &Pipeline, file: &Path) {
    let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
    let lines = std::fs::read_to_string(file).unwrap();
    let records: Vec<Record> = lines
        .lines()
        .map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            Record::raw(record["topic"].as_str().unwrap(), record["key"].as_str(), record["value"].as_str())
        })
        .collect();
    for batch in produce(&mut topics, &records).chunks(9) {
        pipeline.deliver(batch).await;
    }
}

async fn one(file: &Path, pipeline: &Pipeline, wrong: &mut Vec<String>) {
    let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
    let (engine, variant) = name.split_once('-').unwrap();
    let expected = expected(file);
    deliver(pipeline, file).await;
    let merged = pipeline.merge().await;
    let schema = if engine == "mysql" { "shop" } else { "public" };
    let types = kinds(&expected);
    let mut compared = 0;
    for (table, rows) in expected["tables"].as_object().unwrap() {
        let source = Table::new(schema, table);
        let answer = of(&merged, &source);
        if (answer.outcome.as_str(), answer.quarantined) != ("merged", 0) {
            wrong.push(format!(
                "{name}: {answer:?} {:?}",
                pipeline.texts(&format!("SELECT * FROM `{}`", pipeline.quarantine())).await
            ));
            continue;
        }
        let final_table = pipeline.final_table(&source);
        let result = pipeline.bigquery.query(&format!("SELECT * FROM `{final_table}`")).await.unwrap();
        let place = |column: &str| result.columns.iter().position(|own| own.name == column);
        let columns: Vec<(String, &str)> = match table.as_str() {
            "every_type" => std::iter::once(("id".to_owned(), "id"))
                .chain(types.iter().enumerate().map(|(place, kind)| (format!("c{place}"), kind.as_str())))
                .collect(),
            "changes" => ["region", "id", "name", "price", "body", "added"].map(|name| (name.to_owned(), "")).to_vec(),
            _ => ["a", "b"].map(|name| (name.to_owned(), "")).to_vec(),
        };
        let key: Vec<usize> = match table.as_str() {
            "every_type" => vec![0],
            _ => vec![0, 1],
        };
        let text = |row: &[Option<String>], column: &str| place(column).and_then(|place| row[place].clone());
        let mut held: Vec<Vec<Option<String>>> =
            result.rows.iter().map(|row| columns.iter().map(|(column, _)| text(row, column)).collect()).collect();
        let mut printed: Vec<Vec<Option<String>>> = rows
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row.as_array().unwrap().iter().map(|cell| cell.as_str().map(str::to_owned)).collect())
            .collect();
        if table == "keyless" {
            // NULL was printed as a sign, so that the rows of a table without a key have an order.
            for row in &mut held {
                row[1] = row[1].take().or_else(|| Some("-".to_owned()));
            }
        }
        let by_key = |row: &Vec<Option<String>>| key.iter().map(|place| row[*place].clone()).collect::<Vec<_>>();
        held.sort_by_key(by_key);
        printed.sort_by_key(by_key);
        if held.iter().map(by_key).collect::<Vec<_>>() != printed.iter().map(by_key).collect::<Vec<_>>() {
            wrong.push(format!(
                "{name} {table}: rows {:?} instead of {:?}",
                held.iter().map(by_key).collect::<Vec<_>>(),
                printed.iter().map(by_key).collect::<Vec<_>>()
            ));
            continue;
        }
        let mut not_sent = BTreeSet::new();
        for (held, printed) in held.iter().zip(&printed) {
            for ((column, kind), (held, printed)) in columns.iter().zip(held.iter().zip(printed)) {
                if place(column).is_none() {
                    not_sent.insert(*kind);
                    continue;
                }
                let field = &result.columns[place(column).unwrap()];
                if !is_same(variant, kind, &field.column_type, held.as_deref(), printed.as_deref()) {
                    wrong.push(format!(
                        "{name} {table}.{column} ({kind}, {}): {held:?}, the database has {printed:?}",
                        field.column_type
                    ));
                }
                compared += 1;
            }
        }
        let left_out = types.iter().map(String::as_str).filter(|kind| is_left_out(variant, kind));
        let expected: BTreeSet<&str> = match (table.as_str(), engine) {
            ("every_type", "postgresql") => left_out.chain(NOT_SENT.iter().copied()).collect(),
            ("every_type", _) => left_out.collect(),
            _ => BTreeSet::new(),
        };
        assert_eq!(not_sent, expected, "{name} {table}");
    }
    eprintln!("{name}: {compared} values compared");
    if compared <= 100 {
        wrong.push(format!("{name}: only {compared} values compared"));
    }
}

/// Whether what is held is what the database prints, apart from notation.
fn is_same(variant: &str, kind: &str, column_type: &str, held: Option<&str>, printed: Option<&str>) -> bool {
    let (held, printed) = match (held, printed) {
        (None, None) => return true,
        (Some(held), Some(printed)) => (held, printed),
        // Of MySQL's durations these two ways of sending times have no more than a day's.
        // A list of an enum's values is sent as NULL.
        (None, Some(_)) if kind == "mood[]" => return true,
        (None, Some(printed)) => {
            let is_of_a_day = !printed.starts_with('-')
                && printed.get(..2).is_some_and(|hour| hour < "24")
                && printed.get(2..3) == Some(":");
            return matches!(variant, "connect" | "iso" | SELF_DESCRIBING) && kind.starts_with("TIME") && !is_of_a_day;
        }
        (Some(_), None) => return false,
    };
    let held = match column_type {
        "BYTES" => {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.decode(held).unwrap();
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        }
        "TIMESTAMP" => moment(held),
        _ => held.to_owned(),
    };
    let of = |list: &[(&str, &str, &str)]| {
        list.iter()
            .any(|(own, from, to)| *own == kind && *from == printed && (*to == held || alike(Some(to), Some(&held))))
    };
    if of(NOTATIONS) || of(LOST) {
        return true;
    }
    let number = |text: &str| text.parse::<f64>().ok();
    match column_type {
        "BYTES" => held == printed.trim_start_matches("\\x").to_lowercase(),
        "BOOLEAN" | "BOOL" => (held == "true") == matches!(printed, "t" | "1" | "true"),
        "FLOAT" | "FLOAT64" if matches!(kind, "real" | "FLOAT") => {
            let (held, printed): (f32, f32) = (held.parse().unwrap(), printed.parse().unwrap());
            held == printed || held.is_nan() && printed.is_nan()
        }
        "FLOAT" | "FLOAT64" => number(&held) == number(printed) || held.eq_ignore_ascii_case("nan") && printed == "NaN",
        "TIMESTAMP" | "DATETIME" => {
            let (held, printed) = (moment(&held), moment(printed));
            // Kafka Connect's own types count thousandths; whoever asks for them loses the rest at the connector.
            let in_thousandths = printed.get(..23).unwrap_or(&printed);
            alike(Some(&held), Some(&printed)) || variant == "connect" && alike(Some(&held), Some(in_thousandths))
        }
        "STRING" if kind.to_lowercase().starts_with("time") => {
            // The end of a day is the beginning of the next.
            if matches!(variant, "iso" | SELF_DESCRIBING)
                && (printed, held.trim_end_matches('Z')) == ("24:00:00", "00:00:00")
            {
                return true;
            }
            // Where no statement says that it is a time, its Z stays.
            let held = if variant == SELF_DESCRIBING { held.trim_end_matches('Z') } else { held.as_str() };
            let to = if variant == "connect" { 12 } else { usize::MAX };
            let cut = |text: &str| text.chars().take(to).collect::<String>();
            alike(Some(&cut(held)), Some(&cut(printed)))
        }
        "STRING" if kind.to_lowercase().starts_with("numeric") || kind.starts_with("DECIMAL") || kind == "money" => {
            alike(Some(&held), Some(printed))
        }
        "STRING" | "DATE" | "INTEGER" | "INT64" => {
            held == printed || alike(Some(&held), Some(printed)) && column_type != "STRING"
        }
        _ => alike(Some(&held), Some(printed)),
    }
}

/// A time without its sign of UTC, as databases and BigQuery print it.
fn moment(text: &str) -> String {
    // The REST API's own form of a TIMESTAMP is a count of microseconds.
    if let Ok(micros) = text.parse::<i64>() {
        // Not through a timestamp, which ends a day before the year 9999 does.
        let epoch = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);
        return (epoch + jiff::SignedDuration::from_micros(micros)).strftime("%Y-%m-%d %H:%M:%S.%6f").to_string();
    }
    text.replace('T', " ").trim_end_matches("+00").trim_end_matches('Z').trim_end_matches(" UTC").to_owned()
}
