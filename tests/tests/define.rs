//! `strait define` against a real PostgreSQL and the embedded BigQuery: the log gets what the catalogue says, masked as `ingest` masks it, or
//! nothing at all.

use std::fmt::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};
use strait::merge::types::map::Engine;
use strait_tests::pipeline::{Pipeline, Setup};
use strait_tests::run;
use strait_tests::secrets_manager::SecretsManager;

use crate::databases::Database;

/// What `strait define` came to: its exit status and what it said.
#[derive(Debug)]
struct Done {
    status: Option<i32>,
    said: String,
}

async fn define(pipeline: &Pipeline, arguments: &[&str], variables: &[(&str, &str)]) -> Done {
    let mut command = pipeline.strait("define");
    command
        .arg("--plaintext")
        .args(arguments)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = command.output().await.unwrap();
    let mut said = String::from_utf8(output.stdout).unwrap();
    said.push_str(&String::from_utf8(output.stderr).unwrap());
    Done { status: output.status.code(), said }
}

/// The `control` objects that are in the log of a table, in their order.
async fn controls(pipeline: &Pipeline, table: &str) -> Vec<Value> {
    let sql = format!(
        "SELECT data FROM `{}` WHERE operation = 'define-table' AND CONCAT(source_schema, '.', source_table) = '{table}' ORDER BY ingested_at",
        pipeline.log()
    );
    pipeline.query(&sql).await.iter().map(|row| serde_json::from_str(row[0].as_deref().unwrap()).unwrap()).collect()
}

/// Types as a CREATE TABLE says them, and what the definition has to say of a column that may be NULL; nothing of one that Debezium does not
/// send.
const TYPES: &[(&str, &str)] = &[
    ("smallint", r#"{"type":"INT16"}"#),
    ("integer", r#"{"type":"INT32"}"#),
    ("bigint", r#"{"type":"INT64"}"#),
    ("oid", r#"{"type":"INT64"}"#),
    ("boolean", r#"{"type":"BOOL"}"#),
    ("real", r#"{"type":"FLOAT"}"#),
    ("double precision", r#"{"type":"DOUBLE"}"#),
    ("numeric(12,2)", r#"{"type":"NUMERIC","precision":12,"scale":2,"encoded":"decimal"}"#),
    ("numeric(38)", r#"{"type":"NUMERIC","precision":38,"scale":0,"encoded":"decimal"}"#),
    ("numeric(100,3)", r#"{"type":"NUMERIC","precision":100,"scale":3,"encoded":"untold"}"#),
    ("numeric", r#"{"type":"NUMERIC"}"#),
    ("money", r#"{"type":"NUMERIC","precision":19,"scale":2,"encoded":"decimal"}"#),
    ("char(5)", r#"{"type":"STRING"}"#),
    ("\"char\"", r#"{"type":"STRING"}"#),
    ("varchar(40)", r#"{"type":"STRING"}"#),
    ("text", r#"{"type":"STRING"}"#),
    ("name", r#"{"type":"STRING"}"#),
    ("citext", r#"{"type":"STRING"}"#),
    ("uuid", r#"{"type":"STRING"}"#),
    ("xml", r#"{"type":"CLOB"}"#),
    ("json", r#"{"type":"NCLOB"}"#),
    ("jsonb", r#"{"type":"NCLOB"}"#),
    ("hstore", r#"{"type":"NCLOB"}"#),
    ("inet", r#"{"type":"STRING"}"#),
    ("macaddr8", r#"{"type":"STRING"}"#),
    ("shop.mood", r#"{"type":"STRING"}"#),
    ("numrange", r#"{"type":"STRING"}"#),
    ("tsvector", r#"{"type":"CLOB"}"#),
    ("bytea", r#"{"type":"BLOB","encoded":"bytes"}"#),
    ("date", r#"{"type":"DATE32","encoded":"days"}"#),
    ("time", r#"{"type":"TIME","encoded":"time-microseconds"}"#),
    ("time(3)", r#"{"type":"TIME","encoded":"time-milliseconds"}"#),
    ("timetz", r#"{"type":"TIME"}"#),
    ("timestamp", r#"{"type":"DATETIME","encoded":"timestamp-microseconds"}"#),
    ("timestamp(0)", r#"{"type":"DATETIME","encoded":"timestamp-milliseconds"}"#),
    ("timestamptz(3)", r#"{"type":"TIMESTAMP"}"#),
    ("interval", r#"{"type":"STRING","encoded":"interval"}"#),
    ("bit", r#"{"type":"BOOL"}"#),
    ("bit(5)", r#"{"type":"BYTES","precision":5,"scale":0,"encoded":"bits"}"#),
    ("bit varying(12)", r#"{"type":"BYTES","precision":12,"scale":0,"encoded":"bits"}"#),
    ("bit varying", r#"{"type":"BYTES","encoded":"untold"}"#),
    ("point", r#"{"type":"BLOB"}"#),
    ("integer[]", r#"{"type":"NCLOB"}"#),
    ("text[]", r#"{"type":"NCLOB"}"#),
    ("shop.mood[]", r#"{"type":"NCLOB"}"#),
    ("numeric(12,2)[]", r#"{"type":"NCLOB","encoded":"untold"}"#),
    ("date[]", r#"{"type":"NCLOB","encoded":"untold"}"#),
    ("shop.price", r#"{"type":"NUMERIC","precision":10,"scale":2,"encoded":"decimal"}"#),
    ("shop.net_price", r#"{"type":"NUMERIC","precision":10,"scale":2,"encoded":"untold"}"#),
    ("shop.days", r#"{"type":"NCLOB","encoded":"untold"}"#),
    ("shop.pair", ""),
    ("shop.price[]", ""),
    ("shop.hours", ""),
    ("int4multirange", ""),
    ("int2vector", ""),
    ("tsquery", ""),
    ("line", ""),
    ("box", ""),
    ("pg_lsn", ""),
];

const OWN_TYPES: &str = "SET client_min_messages = error; CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE SCHEMA shop;\n\
     CREATE TYPE shop.mood AS ENUM ('glad'); CREATE TYPE shop.pair AS (n integer, t text);\n\
     CREATE DOMAIN shop.price AS numeric(10,2); CREATE DOMAIN shop.net_price AS shop.price; CREATE DOMAIN shop.days AS date[];\n\
     CREATE TYPE shop.hours AS RANGE (subtype = time);\n";

#[test]
fn every_type_of_postgresql_is_defined_by_the_catalogue() {
    run(async {
        let Some(database) = Database::start(Engine::PostgreSql).await else { return };
        let columns: Vec<String> =
            TYPES.iter().enumerate().map(|(place, (kind, _))| format!("c{place} {kind}")).collect();
        let mut sql = OWN_TYPES.to_owned();
        // The key is in another order than the columns, and what its index includes is no part of it.
        writeln!(
            sql,
            "CREATE TABLE shop.every_type (gone integer, id bigint, region smallint, {}, twice bigint GENERATED ALWAYS AS (id * 2) STORED,\n\
             \"Größe \"\"1\"\"\" integer NOT NULL, PRIMARY KEY (region, id) INCLUDE (c0));\n\
             ALTER TABLE shop.every_type DROP COLUMN gone;\n\
             CREATE TABLE shop.keyless (note text);",
            columns.join(", ")
        )
        .unwrap();
        database.run(&sql);
        let pipeline = Pipeline::start().await;
        let url = database.url();
        let tables = ["shop.every_type", "shop.keyless", "shop.every_type", "--source", &url];

        // The log is not there yet, and printing does not make it.
        let printed = define(&pipeline, &[&tables[..], &["--print"]].concat(), &[]).await;
        assert_eq!(printed.status, Some(0), "{}", printed.said);
        assert!(printed.said.contains("not appended"), "{}", printed.said);
        assert!(!pipeline.exists(&pipeline.log()).await);
        let shown: Vec<Value> = printed
            .said
            .lines()
            .filter(|line| line.trim_start().starts_with('{'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();

        let done = define(&pipeline, &tables, &[]).await;
        assert_eq!(done.status, Some(0), "{}", done.said);
        let sent = TYPES.iter().filter(|(_, expected)| !expected.is_empty()).count();
        let every_type = format!("shop.every_type: {} columns, key (region, id), appended to the log", sent + 3);
        for line in [every_type.as_str(), "shop.keyless: 1 column, no key, appended to the log"] {
            assert_eq!(done.said.lines().filter(|said| *said == line).count(), 1, "{line}: {}", done.said);
        }
        let named = |is_it: fn(&str) -> bool| {
            let places = TYPES.iter().enumerate().filter(|(_, (_, expected))| is_it(expected));
            places.map(|(place, _)| format!("c{place}")).collect::<Vec<_>>()
        };
        let untold = format!("untold: {}: ", named(|expected| expected.contains("untold")).join(", "));
        assert!(done.said.contains(&untold), "{untold}\n{}", done.said);
        for name in named(str::is_empty).into_iter().chain(["twice".to_owned()]) {
            assert!(done.said.contains(&format!("left out: {name}: ")), "{name}\n{}", done.said);
        }

        let control = controls(&pipeline, "shop.every_type").await;
        let keyless = controls(&pipeline, "shop.keyless").await;
        assert_eq!([control.clone(), keyless.clone()].concat(), shown);
        let [control] = control.as_slice() else { panic!("{control:?}") };
        assert_eq!(control["table-def"]["primary-key"], json!(["region", "id"]));
        assert_eq!(keyless[0]["table-def"]["primary-key"], json!([]));
        assert_eq!(control["debezium-read-from"], "statement");
        assert_eq!((&control["tells-encodings"], &control["partial-images"]), (&json!(true), &json!(true)));
        let mut expected = json!({
            "id": {"type": "INT64", "nullable": false},
            "region": {"type": "INT16", "nullable": false},
            "Größe \"1\"": {"type": "INT32", "nullable": false},
        });
        for (place, (_, column)) in TYPES.iter().enumerate().filter(|(_, (_, column))| !column.is_empty()) {
            let mut column: Value = serde_json::from_str(column).unwrap();
            column["nullable"] = json!(true);
            expected[format!("c{place}")] = column;
        }
        let columns = &control["table-def"]["columns"];
        for (name, column) in expected.as_object().unwrap() {
            assert_eq!(&columns[name], column, "{name}");
        }
        assert_eq!(columns.as_object().unwrap().len(), expected.as_object().unwrap().len(), "{columns}");

        // In the log under a topic that none of Kafka's can be, numbered without a gap.
        let identities = format!(
            "SELECT source_table, STARTS_WITH(kafka_topic, 'strait-define/'), kafka_partition, kafka_offset, error, \
             STARTS_WITH(position, '0000-1-t'), emitted_at = ingested_at FROM `{}`",
            pipeline.log()
        );
        assert_eq!(
            pipeline.texts(&identities).await,
            ["every_type|true|0|0|NULL|true|true", "keyless|true|0|1|NULL|true|true"]
        );
    });
}

#[test]
fn a_domain_that_forbids_null_and_the_time_since_when_it_holds_are_said() {
    run(async {
        let Some(database) = Database::start(Engine::PostgreSql).await else { return };
        database.run(
            "CREATE SCHEMA shop; CREATE DOMAIN shop.code AS varchar(8) NOT NULL;\n\
             CREATE TABLE shop.orders (id bigint PRIMARY KEY, code shop.code) PARTITION BY RANGE (id);",
        );
        let pipeline = Pipeline::start().await;
        let url = database.url();
        let arguments = ["shop.orders", "--source", &url, "--since", "2026-01-02T03:04:05.678901Z"];
        let done = define(&pipeline, &arguments, &[]).await;
        assert_eq!(done.status, Some(0), "{}", done.said);
        let control = controls(&pipeline, "shop.orders").await;
        assert_eq!(control[0]["table-def"]["columns"]["code"], json!({"type": "STRING", "nullable": false}));
        let emitted = format!(
            "SELECT UNIX_MICROS(emitted_at), UNIX_MICROS(ingested_at) > UNIX_MICROS(emitted_at) FROM `{}`",
            pipeline.log()
        );
        assert_eq!(pipeline.texts(&emitted).await, ["1767323045678901|true"]);
    });
}

#[test]
fn a_masked_column_is_defined_as_ingest_defines_it() {
    run(async {
        let Some(database) = Database::start(Engine::PostgreSql).await else { return };
        database.run(
            "CREATE SCHEMA crm; CREATE TABLE crm.people (id bigint PRIMARY KEY, email text, card bytea, born date, \
             stay date[], nights date[]);",
        );
        let secrets = SecretsManager::start("strait/mask-key", &"0123456789abcdef".repeat(4)).await;
        let mask =
            "crm.people.email=hash,*.*.CARD=drop,crm.people.born=redact,crm.people.stay=hash,crm.people.brn=drop";
        let pipeline = Setup::default().start().await;
        let url = database.url();
        let of_secrets = secrets.variables();
        let mut variables =
            vec![("STRAIT_MASK", mask), ("STRAIT_MASK_KEY_SECRET", "strait/mask-key"), ("AWS_REGION", "eu-west-1")];
        variables.extend(of_secrets.iter().map(|(name, value)| (*name, value.as_str())));
        let done = define(&pipeline, &["crm.people", "--source", &url], &variables).await;
        assert_eq!(done.status, Some(0), "{}", done.said);
        assert!(done.said.contains("crm.people: 5 columns, key (id), appended to the log"), "{}", done.said);
        assert!(done.said.contains("untold: nights: "), "what is hashed is a text: {}", done.said);
        assert!(done.said.contains("STRAIT_MASK names crm.people.brn"), "{}", done.said);
        let control = controls(&pipeline, "crm.people").await;
        assert_eq!(
            control[0]["table-def"]["columns"],
            json!({
                "id": {"type": "INT64", "nullable": false},
                "email": {"type": "STRING"},
                "born": {"type": "STRING"},
                "stay": {"type": "STRING"},
                "nights": {"type": "NCLOB", "nullable": true, "encoded": "untold"},
            })
        );

        let without_key = define(&pipeline, &["crm.people", "--source", &url], &variables[..1]).await;
        assert_eq!(without_key.status, Some(2), "{}", without_key.said);
        assert!(without_key.said.contains("STRAIT_MASK_KEY_SECRET"), "{}", without_key.said);
        assert_eq!(controls(&pipeline, "crm.people").await.len(), 1);
    });
}

#[test]
fn what_cannot_be_defined_is_said_and_nothing_is_appended() {
    run(async {
        let Some(database) = Database::start(Engine::PostgreSql).await else { return };
        database.run(
            "CREATE SCHEMA shop; CREATE TABLE shop.orders (id bigint PRIMARY KEY); CREATE VIEW shop.seen AS SELECT * FROM shop.orders;\n\
             CREATE TABLE shop.twice (id bigint, twice bigint GENERATED ALWAYS AS (id * 2) STORED PRIMARY KEY);\n\
             CREATE TABLE shop.shapes (shape polygon);",
        );
        let pipeline = Pipeline::start().await;
        let url = database.url();
        for (arguments, variables, said) in [
            (&["shop.orders", "shop.nothing"][..], &[][..], "the source has no table shop.nothing"),
            (&["shop.orders", "shop.seen"][..], &[][..], "the source has no table shop.seen"),
            (&["shop.orders", "orders"][..], &[][..], "`orders` is not of the form SCHEMA.TABLE"),
            (&["shop.orders", "shop.twice"][..], &[][..], "twice, of its primary key, is not sent: it is generated"),
            (&["shop.orders", "shop.shapes"][..], &[][..], "Debezium sends none of its columns"),
            (
                &["shop.orders", "crm.people"][..],
                &[("STRAIT_TABLES", "shop.*")][..],
                "STRAIT_TABLES leaves crm.people out",
            ),
            (&["shop.orders", "--since", "2999-01-01T00:00:00Z"][..], &[][..], "--since is after now"),
            (&["shop.orders", "--since", "yesterday"][..], &[][..], "expected a time such as"),
        ] {
            let done = define(&pipeline, &[arguments, &["--source", &url]].concat(), variables).await;
            assert_eq!(done.status, Some(2), "{arguments:?}: {}", done.said);
            assert!(done.said.contains(said), "{arguments:?}: {}", done.said);
        }
        // It is told before anything is connected to.
        for other in ["mysql://root@127.0.0.1:1", "MariaDB://root@127.0.0.1:1"] {
            let done = define(&pipeline, &["shop.orders", "--source", other], &[]).await;
            assert_eq!(done.status, Some(2), "{}", done.said);
            assert!(done.said.contains("topic of schema changes"), "{}", done.said);
        }
        assert!(!pipeline.exists(&pipeline.log()).await);
    });
}
