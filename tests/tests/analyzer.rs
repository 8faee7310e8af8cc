//! Every statement that the merge can generate, through Google's own analyzer, with the schemas of all tables declared: a
//! statement that runs on the embedded BigQuery is no proof that BigQuery takes it. The statements are the golden ones of
//! the crate `strait`, which a test there holds to the code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use strait::merge::coverage::{Coverage, OffsetRange, not_covered};
use strait::merge::types::ColumnType;
use strait::merge::types::canonical::{Canonical, Dialect, SourceKind};
use strait::merge::types::map::Engine;
use strait::names::{SourceTable, TableName, string_literal};
use strait_cli::embedded_bigquery::environment::{build_output, virtual_environment};
use strait_cli::verify::pairing::{Compared, Pairing};
use strait_cli::verify::statement::{OneOf, Side, Wanted};
use strait_tests::conversions::{Conversion, alike, conversions, shown};
use strait_tests::encoded::written;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Asks the analyzer (`tests/analyzer/analyze.py`). Its compiled module, which takes a minute, is kept in the build output.
async fn analyze(question: &Value) -> Value {
    let folder = build_output().with_file_name("analyzer");
    let requirements = std::fs::read_to_string(root().join("tests/analyzer/requirements.txt")).unwrap();
    let python = virtual_environment(&folder, &requirements, "zetasql", &|step| eprintln!("{step}"))
        .await
        .expect("the analyzer");
    let mut child = Command::new(python)
        .arg(root().join("tests/analyzer/analyze.py"))
        .arg("--cache")
        .arg(folder.join("compiled"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(question.to_string().as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "the analyzer ended with {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn google_accepts_every_generated_statement_and_nothing_else() {
    let golden = root().join("shared/tests/golden");
    let mut statements: Vec<Value> = std::fs::read_dir(&golden)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .map(|path| json!({"id": path.file_stem().unwrap().to_str(), "sql": std::fs::read_to_string(&path).unwrap()}))
        .collect();
    let generated = statements.len();
    assert!(generated >= 20, "the golden statements are at {}", golden.display());
    // Both run on emulators; Google refuses them. Without them this test could not fail.
    statements.push(json!({"id": "refused keyword", "sql": "SELECT 1 AS at"}));
    statements.push(json!({"id": "refused column", "sql": "SELECT `no_such_column` FROM `project`.`cdc`.`log`"}));
    let tables: Value = serde_json::from_slice(&std::fs::read(golden.join("tables.json")).unwrap()).unwrap();

    let answer = analyze(&json!({"tables": tables, "statements": statements})).await;

    let answers = answer.get("statements").and_then(Value::as_array).unwrap();
    assert_eq!(answers.len(), statements.len());
    let mut wrong = Vec::new();
    for answer in answers {
        let id = answer.get("id").and_then(Value::as_str).unwrap();
        let is_accepted = answer.get("ok").and_then(Value::as_bool).unwrap();
        if is_accepted == id.starts_with("refused") {
            wrong.push(format!("{id}: {}", answer.get("error").unwrap()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn googles_evaluator_converts_exactly_or_not_at_all() {
    let conversions = conversions();
    let expressions: Vec<Value> = conversions
        .iter()
        .enumerate()
        .map(|(place, Conversion { column_type, text, .. })| {
            let shown = shown(*column_type, &column_type.value_of("`text`"));
            json!({"id": place.to_string(), "sql": format!("SELECT {shown} FROM (SELECT {} AS `text`)", string_literal(text))})
        })
        .collect();
    let answer = analyze(&json!({"expressions": expressions})).await;
    let answers = answer.get("expressions").and_then(Value::as_array).unwrap();
    assert_eq!(answers.len(), conversions.len());
    let mut wrong = Vec::new();
    for (Conversion { column_type, text, value: expected, .. }, answer) in conversions.iter().zip(answers) {
        let value = answer.pointer("/value/0/0").and_then(Value::as_str);
        if answer.get("ok") != Some(&Value::Bool(true)) || !alike(value, *expected) {
            wrong.push(format!("{column_type:?} of {text:?}: {value:?}, expected {expected:?} ({answer})"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn googles_evaluator_reads_by_a_definition_what_a_schema_would_say() {
    let seed = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap();
    let all = written(seed, 60);
    let expressions: Vec<Value> = all
        .iter()
        .enumerate()
        .map(|(place, written)| json!({"id": place.to_string(), "sql": written.query()}))
        .collect();
    let answer = analyze(&json!({"expressions": expressions})).await;
    let answers = answer.get("expressions").and_then(Value::as_array).unwrap();
    assert_eq!(answers.len(), all.len());
    let mut wrong = Vec::new();
    for (written, answer) in all.iter().zip(answers) {
        let text = answer.pointer("/value/0/0").and_then(Value::as_str);
        if answer.get("ok") != Some(&Value::Bool(true)) || text != written.text.as_deref() {
            wrong.push(format!("{written:?}: {text:?} ({answer})"));
        }
    }
    assert!(wrong.is_empty(), "seed {seed}: {}", wrong.join("\n"));
}

/// The query of a generated view, with its tables' paths as the evaluator knows their contents by, at a time of the test's.
fn query_of_view(name: &str) -> String {
    let golden = root().join("shared/tests/golden").join(format!("{name}.sql"));
    let statement = std::fs::read_to_string(golden).unwrap();
    let (_, query) = statement.split_once("\nAS\n").unwrap();
    query
        .replace("`project`.`cdc`.`", "`project.cdc.")
        .replace("CURRENT_TIMESTAMP()", "TIMESTAMP '2026-01-02 00:00:00+00'")
}

/// What the views say of a log, by Google's own evaluator: the embedded BigQuery's windows and arrays are not BigQuery's.
#[tokio::test]
async fn googles_evaluator_finds_the_holes_and_the_duplicates() {
    let record = |topic: &str, offset: i64, position: &str, minute: i64| {
        format!(
            "('{topic}', 0, {offset}, 's', 't', 'insert', '{position}', TIMESTAMP_ADD(TIMESTAMP '2026-01-01 00:00:00+00', \
             INTERVAL {minute} MINUTE))"
        )
    };
    let position = |number: i64| format!("0000-2-m0000000007-{number:010}-00000000000000000001");
    let mut records = vec![
        // 102 is missing; 101 came late and twice.
        record("lost", 100, &position(100), 0),
        record("lost", 103, &position(103), 0),
        record("lost", 101, &position(101), 5),
        record("lost", 101, &position(101), 6),
        // DMS sent 103 again; 105 to 107 are kept out, 108 is missing.
        record("lost", 104, &position(103), 7),
        record("lost", 109, &position(109), 8),
        // Made anew: 500 and 502 a day before 0 and 1, and 501 lost. Without a source position nothing is sent again.
        // The rest of a day that has expired.
        record("old", 7, "", -41_000),
        record("old", 10, "", 0),
        record("anew", 500, "", 0),
        record("anew", 502, "", 0),
        record("anew", 0, "", 1440),
        record("anew", 1, "", 1440),
    ];
    records.extend((0..31).filter(|offset| offset % 3 != 2).map(|offset| record("marked", offset, "", 0)));
    records.extend((0..45).step_by(4).map(|offset| record("compacted", offset, "", 0)));
    let rows =
        |columns: &str, rows: &[String]| format!("SELECT * FROM UNNEST(ARRAY<STRUCT<{columns}>>[{}])", rows.join(", "));
    let log = rows(
        "kafka_topic STRING, kafka_partition INT64, kafka_offset INT64, source_schema STRING, source_table STRING, \
         operation STRING, position STRING, ingested_at TIMESTAMP",
        &records,
    );
    let kept_out = rows(
        "kafka_topic STRING, kafka_partition INT64, first_offset INT64, last_offset INT64, ingested_at TIMESTAMP, emitted_at TIMESTAMP",
        &[(105, 107), (106, 106), (105, 106)]
            .map(|(first, last)| format!("('lost', 0, {first}, {last}, TIMESTAMP '2026-01-01 00:07:00+00', NULL)")),
    );
    let columns = |names: &[(&str, &str)]| names.iter().map(|(name, kind)| json!([name, kind])).collect::<Vec<_>>();
    let (text, number, time) = ("STRING", "INT64", "TIMESTAMP");
    let tables = json!([
        {"name": ["project", "cdc", "log"], "content": log, "columns": columns(&[
            ("kafka_topic", text), ("kafka_partition", number), ("kafka_offset", number), ("source_schema", text),
            ("source_table", text), ("operation", text), ("position", text), ("ingested_at", time)])},
        {"name": ["project", "cdc", "log_kept_out"], "content": kept_out, "columns": columns(&[
            ("kafka_topic", text), ("kafka_partition", number), ("first_offset", number), ("last_offset", number),
            ("ingested_at", time), ("emitted_at", time)])},
    ]);
    let minute = |column: &str| format!("TIMESTAMP_DIFF({column}, TIMESTAMP '2026-01-01 00:00:00+00', MINUTE)");
    let gaps = format!(
        "SELECT kafka_topic, kind, COUNT(*), MIN(first_missing), MAX(last_missing), SUM(missing), MAX({}), MAX({}) FROM ({}) \
         GROUP BY 1, 2, IF(kind = 'missing', first_missing, 0) ORDER BY 1, 4",
        minute("after_ingested_at"),
        minute("before_ingested_at"),
        query_of_view("gaps_view")
    );
    let duplicates = format!(
        "SELECT kind, kafka_topic, kafka_offset, copies, {}, {} FROM ({}) ORDER BY 1, 2, 3",
        minute("first_ingested_at"),
        minute("last_ingested_at"),
        query_of_view("duplicates_view")
    );
    let expressions = json!([{"id": "gaps", "sql": gaps}, {"id": "duplicates", "sql": duplicates}]);
    let answer = analyze(&json!({"tables": tables, "expressions": expressions})).await;
    let found = |place: usize| answer["expressions"][place]["value"].clone();
    assert_eq!(
        found(0),
        json!([
            ["anew", "topic made anew", "1", "2", "499", "498", "1440", "0"],
            ["anew", "missing", "1", "501", "501", "1", "0", "0"],
            ["compacted", "compaction", "11", "1", "43", "33", "0", "0"],
            ["lost", "missing", "1", "102", "102", "1", "5", "0"],
            ["lost", "missing", "1", "108", "108", "1", "7", "8"],
            ["marked", "transaction markers", "10", "2", "29", "10", "0", "0"]
        ]),
        "{answer}"
    );
    assert_eq!(
        found(1),
        json!([
            ["delivered again", "lost", "101", "2", "5", "6"],
            ["sent again", "lost", "103", "2", "0", "0"],
            ["sent again", "lost", "104", "2", "7", "7"]
        ]),
        "{answer}"
    );
}

/// What `strait verify` asks of a final table: Google takes it, and every type prints the text that the source prints.
#[tokio::test]
async fn google_takes_what_a_comparison_asks_and_prints_the_canonical_texts() {
    use SourceKind as K;
    let zone = ColumnType::TimestampIn(strait_tests::conversions::zone("Europe/Berlin"));
    let string = ColumnType::String;
    // The source's kind, the final column's type, a value of it, and its text.
    let values: Vec<(K, ColumnType, &str, &str)> = vec![
        (K::Integer, ColumnType::Int64, "-9223372036854775808", "-9223372036854775808"),
        (K::Integer, ColumnType::Bool, "TRUE", "true"),
        (K::Integer, string, "'18446744073709551615'", "18446744073709551615"),
        (K::Decimal, ColumnType::NUMERIC, "NUMERIC '46.570000'", "46.57"),
        (K::Decimal, ColumnType::NUMERIC, "NUMERIC '-100'", "-100"),
        (
            K::Decimal,
            ColumnType::BIGNUMERIC,
            "BIGNUMERIC '0.00000000000000000000000000000000000001'",
            "0.00000000000000000000000000000000000001",
        ),
        (K::Decimal, string, "'-12.500'", "-12.5"),
        (K::Decimal, string, "'1000'", "1000"),
        (K::Double, ColumnType::Float64, "0.1", "7205759403792794p-4"),
        (K::Double, ColumnType::Float64, "-0.0", "0"),
        (K::Double, ColumnType::Float64, "5e-324", "4503599627370496p-1074"),
        (K::Double, ColumnType::Float64, "1.7976931348623157e308", "9007199254740991p1023"),
        (K::Double, ColumnType::Float64, "5.684341886080802e-14", "4503599627370496p-44"),
        (K::Double, ColumnType::Float64, "CAST('NaN' AS FLOAT64)", "NaN"),
        (K::Double, ColumnType::Float64, "CAST('-inf' AS FLOAT64)", "-Infinity"),
        (K::Double, string, "'2.5'", "5629499534213120p1"),
        (K::Single, ColumnType::Float64, "2.20000005", "4953959697481728p1"),
        (K::Single, ColumnType::Float64, "3.40282347e+38", "9007198717870080p127"),
        (K::Single, ColumnType::Float64, "1.40129846e-45", "4503599627370496p-149"),
        (K::Single, ColumnType::Float64, "1e300", "6724873095247260p996"),
        (K::Bool, ColumnType::Int64, "0", "false"),
        (K::Bool, string, "'t'", "true"),
        (K::Text, string, "' é이😀\\u0000'", " é이😀\u{0}"),
        (K::Binary, ColumnType::Bytes, "b'\\x80\\xff\\x00'", "80ff00"),
        (K::Binary, string, "'0x80FF'", "80ff"),
        (K::Date, ColumnType::Date, "DATE '0001-01-01'", "0001-01-01"),
        (K::Date, ColumnType::DateTime, "DATETIME '2024-02-29 00:00:00'", "2024-02-29 00:00:00"),
        (K::DateTime, ColumnType::DateTime, "DATETIME '0001-01-01 00:00:00'", "0001-01-01 00:00:00"),
        (K::DateTime, ColumnType::DateTime, "DATETIME '2024-02-29 23:59:58.120'", "2024-02-29 23:59:58.12"),
        (K::DateTime, ColumnType::Date, "DATE '2024-02-29'", "2024-02-29 00:00:00"),
        (K::DateTime, zone, "TIMESTAMP '2024-07-01 10:00:00+00'", "2024-07-01 12:00:00"),
        (K::DateTime, string, "'2010-11-01T00:02:00.100000Z'", "2010-11-01 00:02:00.1"),
        (K::Timestamp, ColumnType::Timestamp, "TIMESTAMP '1754-08-30 22:43:41.129+00'", "1754-08-30 22:43:41.129"),
        (
            K::Timestamp,
            ColumnType::Timestamp,
            "TIMESTAMP '9999-12-31 23:59:59.999999+00'",
            "9999-12-31 23:59:59.999999",
        ),
        (K::Time, ColumnType::Time, "TIME '12:00:00.500000'", "12:00:00.5"),
        (K::Time, string, "'23:59:59.500000+02'", "23:59:59.5+02"),
        (K::Time, string, "'-838:59:59.000000'", "-838:59:59"),
    ];
    let mut expressions: Vec<Value> = Vec::new();
    for (place, (kind, column_type, value, _)) in values.iter().enumerate() {
        let canonical = Canonical::of(*kind, *column_type).unwrap();
        let text = canonical.text(Dialect::BigQuery, "`c`");
        expressions
            .push(json!({"id": place.to_string(), "sql": format!("SELECT {text} FROM (SELECT {value} AS `c`)")}));
    }
    let md5 = Canonical::of(K::Text, string).unwrap().cell(Dialect::BigQuery, "`c`");
    expressions.push(json!({"id": "md5", "sql": format!("SELECT {md5} FROM (SELECT 'é이😀' AS `c`)")}));

    // Every pair as a column of one table, and every question of it.
    let columns: Vec<Compared> = values
        .iter()
        .enumerate()
        .map(|(place, (kind, column_type, ..))| Compared {
            source: format!("c{place}"),
            source_type: String::new(),
            in_final: format!("c{place}"),
            canonical: Canonical::of(*kind, *column_type).unwrap(),
        })
        .collect();
    let mut declared: Vec<Value> =
        columns.iter().map(|column| json!([column.in_final, column.canonical.column_type.name()])).collect();
    declared.extend([json!(["_strait_position", "STRING"]), json!(["_strait_deleted", "BOOL"])]);
    let place = |value: &str| values.iter().position(|(.., text)| *text == value).unwrap();
    let pairing = |key: Vec<usize>| Pairing {
        source: SourceTable { schema: "s".into(), table: "t".into() },
        engine: Engine::PostgreSql,
        final_name: TableName { dataset: "replica".into(), table: "t".into() },
        columns: columns.clone(),
        key,
        not_compared: Vec::new(),
        carried: Vec::new(),
        walk: Vec::new(),
        final_condition: Some("NOT COALESCE(`_strait_deleted`, FALSE)".to_owned()),
    };
    let keyed = pairing(vec![
        place("-9223372036854775808"),
        place("46.57"),
        place(" é이😀\u{0}"),
        place("80ff00"),
        place("0001-01-01"),
        place("2024-02-29 23:59:58.12"),
        place("1754-08-30 22:43:41.129"),
    ]);
    let key: Vec<Option<String>> = keyed.key.iter().map(|place| Some(values[*place].3.to_owned())).collect();
    let side = Side::of_final(&keyed, "project").unwrap();
    let OneOf::ByKey(by_key) = side.one_of([("ab", &key)].into_iter(), 2) else {
        unreachable!("every key has a literal")
    };
    let keyless = pairing(Vec::new());
    let multiset = Side::of_final(&keyless, "project").unwrap();
    let OneOf::ByBucket(by_bucket) = multiset.one_of([("ab", &key)].into_iter(), 2) else {
        unreachable!("rows without a key are found by their buckets")
    };
    let statements = json!([
        {"id": "buckets", "sql": side.buckets(4, None)},
        {"id": "hashes", "sql": side.hashes(4, &["abcd".to_owned()], None)},
        {"id": "rows", "sql": side.rows(&by_key, Wanted { values: true })},
        {"id": "multiset", "sql": multiset.buckets(1, None)},
        {"id": "rows of a multiset", "sql": multiset.rows(&by_bucket, Wanted { values: false })},
    ]);
    let tables = json!([{"name": ["project", "replica", "t"], "columns": declared}]);
    let answer = analyze(&json!({"tables": tables, "statements": statements, "expressions": expressions})).await;
    let mut wrong = Vec::new();
    for answer in answer["statements"].as_array().unwrap() {
        if answer["ok"] != Value::Bool(true) {
            wrong.push(answer.to_string());
        }
    }
    let answers = answer["expressions"].as_array().unwrap();
    assert_eq!(answers.len(), values.len() + 1);
    let expected = values.iter().map(|(.., text)| *text).chain([MD5_OF_TEXT]);
    for (answer, expected) in answers.iter().zip(expected) {
        let value = answer.pointer("/value/0/0").and_then(Value::as_str);
        if value != Some(expected) {
            wrong.push(format!("{value:?}, expected {expected:?} ({answer})"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `printf 'é이😀' | md5sum`
const MD5_OF_TEXT: &str = "f43725b671b1539ffbf3c3c6fc908baa";

/// Each offset of two partitions, before and after the moment up to which they count: what the condition takes for merged has to be
/// what the ranges hold, whether they stand alone, touch, overlap or are many.
#[tokio::test]
async fn googles_evaluator_takes_those_offsets_for_merged_that_a_range_holds() {
    let range = |partition, first, last| OffsetRange { topic: "it's".into(), partition, first, last };
    let mut ranges = vec![range(0, 3, 3), range(0, 5, 9), range(0, 10, 12), range(0, 8, 11), range(1, 4, 6)];
    ranges.extend((20..300).filter(|offset| offset % 2 == 0).map(|offset| range(0, offset, offset)));
    let coverage = Coverage { to_us: Some(5_000_000), ranges: ranges.clone() };
    let condition = not_covered(&coverage);
    let rows = "UNNEST(['it\\'s', 'its']) AS `kafka_topic`, UNNEST([0, 1, 2]) AS `kafka_partition`, \
                UNNEST(GENERATE_ARRAY(0, 310)) AS `kafka_offset`, UNNEST([5, 6]) AS `second`";
    let merged = format!(
        "SELECT STRING_AGG(CONCAT(`second`, '-', `kafka_topic`, '-', `kafka_partition`, '-', `kafka_offset`)) \
         FROM (SELECT *, TIMESTAMP_SECONDS(`second`) AS `ingested_at` FROM {rows}) WHERE NOT ({condition})"
    );
    let answer =
        analyze(&json!({"tables": [], "statements": [], "expressions": [{"id": "merged", "sql": merged}]})).await;
    let said = answer["expressions"][0].pointer("/value/0/0").and_then(Value::as_str);
    let said = said.unwrap_or_else(|| panic!("{answer}"));
    let expected = ranges
        .iter()
        .flat_map(|range| (range.first..=range.last).map(|offset| format!("5-it's-{}-{offset}", range.partition)));
    assert_eq!(said.split(',').map(str::to_owned).collect::<BTreeSet<_>>(), expected.collect());
}
