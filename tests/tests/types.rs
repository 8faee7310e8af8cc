//! Every type of both engines through the built functions, value by value. What is expected is what the databases themselves
//! print (`tests/types/ask.py`), or written by hand.

use serde_json::Value;
use strait::merge::types::ColumnType;
use strait::names::string_literal;
use strait_tests::conversions::{Conversion, Embedded, alike, conversions, shown};
use strait_tests::history::{Message, Table};
use strait_tests::pipeline::{Pipeline, of};
use strait_tests::{repository, run};

/// A column of every type: how it is defined, what its type has to be, what is sent and what the database prints.
struct Column {
    name: String,
    dms: (String, Option<u32>, Option<u32>),
    bigquery: String,
    values: Vec<(String, String)>,
}

fn columns(engine: &str) -> Vec<Column> {
    let path = repository().join(format!("tests/types/{engine}.json"));
    let fixture: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let digits = |value: &Value| value.as_u64().map(|digits| u32::try_from(digits).unwrap());
    let column = |(place, given): (usize, &Value)| Column {
        name: format!("c{place}"),
        dms: (text(&given["dms"]["type"]), digits(&given["dms"]["precision"]), digits(&given["dms"]["scale"])),
        bigquery: text(&given["bigquery"]),
        values: given["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|value| (text(&value["sent"]), text(&value["printed"])))
            .collect(),
    };
    fixture.as_array().unwrap().iter().enumerate().map(column).collect()
}

fn table_of(engine: &str, columns: &[Column]) -> Table {
    let table = Table::new("types", engine).column("id", "INT64").key(&["id"]);
    columns.iter().fold(table, |table, column| match &column.dms {
        (_, Some(precision), scale) => table.numeric(&column.name, *precision, scale.unwrap_or(0)),
        (name, None, _) => table.column(&column.name, name),
    })
}

/// Whether BigQuery holds what the database prints.
fn holds(column: &Column, held: &str, printed: &str) -> bool {
    let kind = column.bigquery.split('(').next().unwrap();
    match kind {
        "INT64" => held.parse::<i64>().unwrap() == printed.parse::<i64>().unwrap(),
        // Nine digits tell every single-precision value apart, and are not the shortest that do.
        "FLOAT64" if column.dms.0 == "FLOAT" => {
            same_number(held.parse::<f32>().unwrap(), printed.parse::<f32>().unwrap())
        }
        "FLOAT64" => same_number(held.parse::<f64>().unwrap(), printed.parse::<f64>().unwrap()),
        "BOOL" => (held == "true") == matches!(printed, "t" | "1"),
        "BYTES" => held == printed.trim_start_matches("\\x").to_lowercase(),
        "DATETIME" | "TIMESTAMP" | "NUMERIC" | "BIGNUMERIC" => alike(Some(held), Some(printed.trim_end_matches("+00"))),
        "STRING" | "DATE" => held == printed,
        other => panic!("{other} is not compared"),
    }
}

fn same_number<T: PartialOrd>(a: T, b: T) -> bool {
    let is_nan = |number: &T| number.partial_cmp(number).is_none();
    a == b || is_nan(&a) && is_nan(&b)
}

async fn every_type(engine: &str) {
    let columns = columns(engine);
    for Column { dms: (name, precision, scale), bigquery, .. } in &columns {
        assert_eq!(ColumnType::from_dms(name, *precision, *scale).unwrap().sql(), *bigquery, "{name}");
    }
    let table = table_of(engine, &columns);
    let most = columns.iter().map(|column| column.values.len()).max().unwrap();
    let mut messages = vec![table.create()];
    for row in 0..most {
        let members: Vec<String> = columns
            .iter()
            .map(|column| {
                let sent = column.values.get(row).map_or("null", |(sent, _)| sent);
                format!("{}:{sent}", Value::from(column.name.as_str()))
            })
            .collect();
        // Loaded and changed rows alike.
        let image = format!("{{\"id\":{row},{}}}", members.join(","));
        let message =
            if row % 2 == 0 { table.load(image) } else { table.insert(image).at(10 + u32::try_from(row).unwrap()) };
        messages.push(message);
    }
    let nulls: Vec<String> = columns.iter().map(|column| format!("\"{}\":null", column.name)).collect();
    messages.push(table.insert(format!("{{\"id\":100,{}}}", nulls.join(","))).at(1000));
    messages.push(table.insert("{\"id\":101}").at(1001));

    let mut pipeline = Pipeline::start().await;
    pipeline.send(&messages).await;
    let answers = pipeline.merge().await;
    let answer = of(&answers, &table);
    assert_eq!((answer.outcome.as_str(), answer.quarantined), ("merged", 0), "{answer:?}");

    let cells: Vec<String> = columns
        .iter()
        .map(|Column { name, bigquery, .. }| match bigquery.as_str() {
            "BYTES" => format!("TO_HEX({name})"),
            "TIMESTAMP" => format!("DATETIME({name})"),
            _ => name.clone(),
        })
        .collect();
    let sql = format!("SELECT id, {} FROM `{}` ORDER BY id", cells.join(", "), pipeline.final_table(&table));
    let rows = pipeline.query(&sql).await;
    assert_eq!(rows.len(), most + 2);
    let mut wrong = Vec::new();
    for (row, cells) in rows.iter().enumerate() {
        for (column, held) in columns.iter().zip(&cells[1..]) {
            let expected = column.values.get(row);
            let is_right = match (held, expected) {
                (None, None) => true,
                (Some(held), Some((_, printed))) => holds(column, held, printed),
                _ => false,
            };
            if !is_right {
                wrong.push(format!("{} {:?}, row {row}: {held:?}, expected {expected:?}", column.bigquery, column.dms));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_mysql_type_equals_what_the_database_prints() {
    run(every_type("mysql"));
}

#[test]
fn every_postgresql_type_equals_what_the_database_prints() {
    run(every_type("postgresql"));
}

#[test]
fn what_a_column_cannot_hold_exactly_is_quarantined_and_the_row_keeps_its_last_state() {
    run(async {
        let columns = [
            ("i", "INT64", "1", "9223372036854775808", "INT64"),
            ("big", "INT64", "2", "9.22337203685478e+18", "INT64"),
            ("u", "UINT64", "3", "1.8446744073709552e+19", "NUMERIC(20)"),
            ("f", "DOUBLE", "1.5", "\"1e400\"", "FLOAT64"),
            ("b", "BOOL", "true", "2", "BOOL"),
            ("bytes", "BLOB", "\"0x00\"", "\"0x0\"", "BYTES"),
            ("d", "DATE32", "\"2024-02-29\"", "\"0000-00-00\"", "DATE"),
            ("bc", "DATE32", "\"2024-02-29\"", "\"0044-03-15 BC\"", "DATE"),
            ("dt", "DATETIME", "\"2024-02-29T12:00:00Z\"", "\"2024-02-29T12:00:00.1234567Z\"", "DATETIME"),
            ("ts", "TIMESTAMP", "\"2024-02-29T12:00:00Z\"", "\"infinity\"", "TIMESTAMP"),
            ("n", "NUMERIC", "12.34", "12.345", "NUMERIC(12, 2)"),
            ("m", "NUMERIC", "12.34", "12345678901.00", "NUMERIC(12, 2)"),
        ];
        let table =
            columns.iter().fold(Table::new("types", "exact").column("id", "INT64").key(&["id"]), |table, column| {
                if column.1 == "NUMERIC" { table.numeric(column.0, 12, 2) } else { table.column(column.0, column.1) }
            });
        let image = |row: usize, bad: Option<usize>| {
            let members: Vec<String> = columns
                .iter()
                .enumerate()
                .map(|(place, (name, _, good, wrong, _))| {
                    format!("\"{name}\":{}", if bad == Some(place) { *wrong } else { *good })
                })
                .collect();
            format!("{{\"id\":{row},{}}}", members.join(","))
        };
        let mut messages: Vec<Message> = vec![table.create()];
        for row in 0..=columns.len() {
            messages.push(table.insert(image(row, None)).at(10 + u32::try_from(row).unwrap()));
        }
        let mut pipeline = Pipeline::start().await;
        pipeline.send(&messages).await;
        pipeline.merge().await;
        let before = pipeline.rows(&table).await;

        let changes: Vec<Message> = (0..columns.len())
            .map(|row| table.update(image(row, Some(row))).at(100 + u32::try_from(row).unwrap()))
            .collect();
        pipeline.send(&changes).await;
        // The rest of the table goes on.
        pipeline.send(&[table.delete(image(columns.len(), None)).at(200)]).await;
        let answers = pipeline.merge().await;
        let answer = of(&answers, &table);
        assert_eq!((answer.outcome.as_str(), answer.quarantined), ("merged", 12), "{answer:?}");
        let after = pipeline.rows(&table).await;
        let gone = columns.len().to_string();
        let expected: Vec<_> = before.into_iter().filter(|row| row[0].as_deref() != Some(gone.as_str())).collect();
        assert_eq!(after, expected);
        let sql = format!("SELECT key, `column`, reason FROM `{}`", pipeline.quarantine());
        let mut expected: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(row, (name, .., bigquery))| {
                format!("{{\"id\":\"{row}\"}}|{name}|{bigquery} cannot hold the value exactly")
            })
            .collect();
        expected.sort();
        assert_eq!(pipeline.texts(&sql).await, expected);
    });
}

#[test]
fn a_person_may_declare_other_types_and_what_they_cannot_hold_is_quarantined() {
    run(async {
        // Name, DMS's type, the declared one, then what is sent and held, and what is sent and cannot be held.
        let columns = [
            ("as_text", "INT64", "STRING", "9223372036854775807", "9223372036854775807", None),
            ("short", "WSTRING", "STRING(3)", "\"é이😀\"", "é이😀", Some("\"é이😀.\"")),
            ("bytes", "BYTES", "BYTES(2)", "\"0xFFFF\"", "ffff", Some("\"0xFFFFFF\"")),
            ("hex", "BYTES", "STRING", "\"0xFFFF\"", "0xFFFF", None),
            ("wide", "INT64", "NUMERIC", "9223372036854775807", "9223372036854775807", None),
            ("wider", "UINT64", "BIGNUMERIC", "18446744073709551615", "18446744073709551615", None),
            ("double", "INT64", "FLOAT64", "9007199254740992", "9007199254740992.0", Some("9007199254740993")),
            ("flag", "INT8", "BOOL", "1", "true", Some("2")),
            ("number", "BOOL", "INT64", "true", "1", None),
            ("whole", "NUMERIC", "INT64", "12.00", "12", Some("12.50")),
            ("half", "NUMERIC", "NUMERIC(3, 1)", "12.50", "12.5", Some("12.55")),
            (
                "moment",
                "DATETIME",
                "TIMESTAMP OPTIONS (description = 'strait_zone=Europe/Berlin')",
                "\"2024-07-01T12:00:00Z\"",
                "2024-07-01T10:00:00",
                Some("\"2024-10-27T02:30:00Z\""),
            ),
            ("utc", "DATETIME", "TIMESTAMP", "\"2024-07-01T12:00:00Z\"", "2024-07-01T12:00:00", None),
            ("wall", "TIMESTAMP", "DATETIME", "\"2024-07-01T12:00:00.5Z\"", "2024-07-01T12:00:00.500000", None),
            ("day", "DATETIME", "DATE", "\"2024-07-01T00:00:00Z\"", "2024-07-01", Some("\"2024-07-01T00:00:01Z\"")),
            ("midnight", "DATE32", "DATETIME", "\"2024-07-01\"", "2024-07-01T00:00:00", None),
            ("time", "STRING", "TIME", "\"23:59:59.5\"", "23:59:59.500000", Some("\"24:00:00\"")),
            (
                "doc",
                "NCLOB",
                "JSON",
                "\"{\\\"a\\\": [null, 1.50]}\"",
                "{\"a\":[null,1.5]}",
                Some("\"{\\\"a\\\": 12345678901234567890123}\""),
            ),
        ];
        let table =
            columns.iter().fold(Table::new("types", "declared").column("id", "INT64").key(&["id"]), |table, column| {
                if column.1 == "NUMERIC" { table.numeric(column.0, 12, 2) } else { table.column(column.0, column.1) }
            });
        let impossible = Table::new("types", "impossible").column("id", "INT64").column("name", "WSTRING").key(&["id"]);
        let no_zone = Table::new("types", "no_zone").column("id", "INT64").column("at", "DATETIME").key(&["id"]);
        let mut pipeline = Pipeline::start().await;
        pipeline.query(&format!("CREATE SCHEMA `{}_replica`", pipeline.prefix())).await;
        let create = |table: &Table, columns: &str| {
            format!(
                "CREATE TABLE `{}` (id INT64 NOT NULL, {columns}, PRIMARY KEY (id) NOT ENFORCED)",
                pipeline.final_table(table)
            )
        };
        let declared: Vec<String> = columns.iter().map(|column| format!("{} {}", column.0, column.2)).collect();
        pipeline.query(&create(&table, &declared.join(", "))).await;
        pipeline.query(&create(&impossible, "name BYTES")).await;
        pipeline.query(&create(&no_zone, "at TIMESTAMP OPTIONS (description = 'strait_zone=Zürich')")).await;

        let image = |row: usize, bad: Option<usize>| {
            let members: Vec<String> = columns
                .iter()
                .enumerate()
                .map(|(place, column)| {
                    format!("\"{}\":{}", column.0, column.5.filter(|_| bad == Some(place)).unwrap_or(column.3))
                })
                .collect();
            format!("{{\"id\":{row},{}}}", members.join(","))
        };
        let wrong: Vec<usize> = (0..columns.len()).filter(|place| columns[*place].5.is_some()).collect();
        let mut messages =
            vec![table.create(), impossible.create(), no_zone.create(), table.insert(image(1000, None)).at(1)];
        messages.extend(
            wrong.iter().map(|place| table.insert(image(*place, Some(*place))).at(10 + u32::try_from(*place).unwrap())),
        );
        messages.push(impossible.insert(r#"{"id":1,"name":"abcd"}"#).at(100));
        messages.push(no_zone.insert(r#"{"id":1,"at":"2024-07-01T12:00:00Z"}"#).at(101));
        pipeline.send(&messages).await;
        let answers = pipeline.merge().await;

        let cells: Vec<String> = columns
            .iter()
            .map(|column| match column.2.split(['(', ' ']).next().unwrap() {
                "BYTES" => format!("TO_HEX({})", column.0),
                "TIMESTAMP" => format!("DATETIME({})", column.0),
                _ => column.0.to_owned(),
            })
            .collect();
        let rows =
            pipeline.query(&format!("SELECT {} FROM `{}`", cells.join(", "), pipeline.final_table(&table))).await;
        let expected: Vec<Option<String>> = columns.iter().map(|column| Some(column.4.to_owned())).collect();
        assert_eq!(rows, [expected], "one row: the others are quarantined");
        let sql = format!("SELECT `column` FROM `{}`", pipeline.quarantine());
        let mut quarantined: Vec<&str> = wrong.iter().map(|place| columns[*place].0).collect();
        quarantined.sort_unstable();
        assert_eq!(pipeline.texts(&sql).await, quarantined);

        // What cannot be is named before anything is merged.
        for (table, said) in [
            (&impossible, "has the type BYTES, which can hold no WSTRING of the source; use one of STRING, JSON"),
            (&no_zone, "write it as in strait_zone=Europe/Berlin"),
        ] {
            let answer = of(&answers, table);
            assert_eq!(answer.outcome, "waiting", "{answer:?}");
            assert!(answer.reason.as_deref().is_some_and(|reason| reason.contains(said)), "{answer:?}");
        }
        for table in [&impossible, &no_zone] {
            assert_eq!(pipeline.rows(table).await, Vec::<Vec<Option<String>>>::new());
        }
    });
}

#[test]
fn the_embedded_bigquery_converts_as_bigquery_does_but_for_what_is_listed() {
    run(async {
        let pipeline = Pipeline::start().await;
        let mut by_type: Vec<(ColumnType, Vec<Conversion>)> = Vec::new();
        for conversion in conversions().into_iter().filter(|conversion| conversion.embedded != Embedded::NotAsked) {
            match by_type.iter_mut().find(|(column_type, _)| *column_type == conversion.column_type) {
                Some((_, known)) => known.push(conversion),
                None => by_type.push((conversion.column_type, vec![conversion])),
            }
        }
        let mut wrong = Vec::new();
        for (column_type, conversions) in by_type {
            let texts: Vec<String> = conversions
                .iter()
                .enumerate()
                .map(|(place, conversion)| {
                    format!("STRUCT({place} AS `place`, {} AS `text`)", string_literal(conversion.text))
                })
                .collect();
            let value = shown(column_type, &column_type.value_of("`text`"));
            let rows =
                pipeline.query(&format!("SELECT {value} FROM UNNEST([{}]) ORDER BY `place`", texts.join(", "))).await;
            assert_eq!(rows.len(), conversions.len());
            for (row, conversion) in rows.iter().zip(conversions) {
                let expected = match conversion.embedded {
                    Embedded::Differs(value) => value,
                    _ => conversion.value,
                };
                if !alike(row[0].as_deref(), expected) {
                    wrong
                        .push(format!("{column_type:?} of {:?}: {:?}, expected {expected:?}", conversion.text, row[0]));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}
