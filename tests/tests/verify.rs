//! `strait verify` between real databases and the embedded BigQuery: what is equal is said to be equal, what a hand changed is found, row
//! by row and column by column, and repaired; what moves in the meantime is no difference.

use std::fmt::Write as _;
use std::process::{Output, Stdio};

use crate::databases::{Certificate, Database};
use serde_json::{Value, json};
use strait::merge::types::map::Engine;
use strait_tests::history::{Message, Table};
use strait_tests::pipeline::{Pipeline, Setup, of};
use strait_tests::{repository, run};
use tokio::process::Command;

fn command(pipeline: &Pipeline, database: &Database, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = pipeline.strait("verify");
    command
        .args(["--source", &database.url(), "--plaintext"])
        .args(arguments)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What `strait verify` came to: its exit status and what it said.
#[derive(Debug)]
struct Verified {
    status: Option<i32>,
    said: String,
}

impl Verified {
    fn of(output: Output) -> Self {
        let mut said = String::from_utf8(output.stdout).unwrap();
        said.push_str(&String::from_utf8(output.stderr).unwrap());
        Self { status: output.status.code(), said }
    }

    /// The lines that begin with one of these words, sorted.
    fn lines(&self, words: &[&str]) -> Vec<String> {
        let lines = self.said.lines().map(str::trim).filter(|line| words.iter().any(|word| line.starts_with(word)));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    }

    fn findings(&self) -> Vec<String> {
        self.lines(&["missing", "extra", "different:", "in the final table"])
    }

    #[track_caller]
    fn assert_equal(&self) {
        assert_eq!((self.status, self.findings()), (Some(0), Vec::new()), "{}", self.said);
        assert!(self.said.contains("✓ equal"), "{}", self.said);
    }

    #[track_caller]
    fn assert_different(&self, findings: &[&str]) {
        assert_eq!(
            (self.status, self.findings()),
            (Some(1), findings.iter().map(|&line| line.to_owned()).collect()),
            "{}",
            self.said
        );
    }
}

async fn verify(pipeline: &Pipeline, database: &Database, arguments: &[&str]) -> Verified {
    Verified::of(command(pipeline, database, arguments, &[]).output().await.unwrap())
}

fn quoted(engine: Engine, name: &str) -> String {
    match engine {
        Engine::MySql => format!("`{name}`"),
        Engine::PostgreSql => format!("\"{name}\""),
    }
}

/// Where the source's log ends: the next change is at this position, or above it.
fn next_position(database: &Database) -> (u64, u64) {
    match database.engine {
        Engine::MySql => {
            let status = database.run("SHOW MASTER STATUS");
            let mut words = status.split('\t');
            let file = words.next().unwrap().rsplit_once('.').unwrap().1.parse().unwrap();
            (file, words.next().unwrap().parse().unwrap())
        }
        Engine::PostgreSql => (0, database.run("SELECT pg_current_wal_insert_lsn() - '0/0'").parse().unwrap()),
    }
}

/// Runs a change at the source, and gives its message the position that it has there.
fn change(database: &Database, sql: &str, message: Message) -> Message {
    let (file, position) = next_position(database);
    database.run(sql);
    match database.engine {
        Engine::MySql => message.in_file(file).at(u32::try_from(position).unwrap()),
        Engine::PostgreSql => message.at_lsn(position),
    }
}

// Every type

struct Column {
    kind: String,
    /// The statement that makes the type, where it is a database's own.
    create: Option<String>,
    dms: (String, Option<u32>, Option<u32>),
    /// Literals at the source, and what DMS sends.
    values: Vec<(String, String)>,
}

fn columns(name: &str) -> Vec<Column> {
    let path = repository().join(format!("tests/types/{name}.json"));
    let fixture: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let digits = |value: &Value| value.as_u64().map(|digits| u32::try_from(digits).unwrap());
    let column = |given: &Value| Column {
        kind: text(&given["type"]),
        create: given["create"].as_str().map(str::to_owned),
        dms: (text(&given["dms"]["type"]), digits(&given["dms"]["precision"]), digits(&given["dms"]["scale"])),
        values: given["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|value| (text(&value["literal"]), text(&value["sent"])))
            .collect(),
    };
    fixture.as_array().unwrap().iter().map(column).collect()
}

/// Every value of every type, as the real database has it and as DMS sends it, is equal; and of each column it is seen when it is not.
async fn every_type(engine: Engine, name: &str) {
    let Some(database) = Database::start(engine).await else { return };
    let columns = columns(name);
    let quote = |name: &str| quoted(engine, name);
    let table = Table::new("types", name).column("id", "INT64").key(&["id"]);
    let table = columns.iter().enumerate().fold(table, |table, (place, column)| match &column.dms {
        (_, Some(precision), scale) => table.numeric(&format!("c{place}"), *precision, scale.unwrap_or(0)),
        (dms, None, _) => table.column(&format!("c{place}"), dms),
    });
    let mut sql = match engine {
        Engine::MySql => {
            "SET time_zone = '+00:00', sql_mode = ''; CREATE DATABASE types CHARACTER SET utf8mb4;\n".to_owned()
        }
        Engine::PostgreSql => {
            "SET client_min_messages = error; CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE SCHEMA types;\n\
                               SET TimeZone = 'UTC';\n"
                .to_owned()
        }
    };
    for create in columns.iter().filter_map(|column| column.create.as_ref()) {
        writeln!(sql, "{create};").unwrap();
    }
    let defined: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(place, column)| format!("{} {}", quote(&format!("c{place}")), column.kind))
        .collect();
    writeln!(sql, "CREATE TABLE types.{} (id bigint PRIMARY KEY, {});", quote(name), defined.join(", ")).unwrap();
    let most = columns.iter().map(|column| column.values.len()).max().unwrap();
    let mut messages = vec![table.create()];
    for row in 0..=most {
        let cell = |column: &Column| match (column.values.get(row), engine) {
            (None, _) => "NULL".to_owned(),
            (Some((literal, _)), Engine::MySql) => literal.clone(),
            (Some((literal, _)), Engine::PostgreSql) => format!("({literal})::{}", column.kind),
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        writeln!(sql, "INSERT INTO types.{} VALUES ({row}, {});", quote(name), cells.join(", ")).unwrap();
        let members: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(place, column)| format!("\"c{place}\":{}", column.values.get(row).map_or("null", |(_, sent)| sent)))
            .collect();
        messages.push(table.load(format!("{{\"id\":{row},{}}}", members.join(","))));
    }
    database.run(&sql);
    // Of a change the position is known; the row is the one of NULLs.
    let sql = format!("UPDATE types.{} SET id = {} WHERE id = {most};", quote(name), most + 1);
    let image = |id: usize| json!({"id": id}).to_string();
    messages.push(change(&database, &sql, table.key_change(image(most), image(most + 1))));
    let mut pipeline = Pipeline::start().await;
    pipeline.send(&messages).await;
    let answers = pipeline.merge().await;
    let answer = of(&answers, &table);
    assert_eq!((answer.outcome.as_str(), answer.quarantined), ("merged", 0), "{answer:?}");

    let arguments = [&format!("types.{name}"), "--settle", "0", "--values"];
    let verified = verify(&pipeline, &database, &arguments).await;
    verified.assert_equal();
    assert_eq!(verified.lines(&["not compared"]), Vec::<String>::new());
    assert_eq!(verified.lines(&["compared"]), [format!("compared: {} columns, key id", columns.len() + 1)]);

    // One column of one row, for every column; each has a value in the first row.
    let nulls: Vec<String> = (0..columns.len()).map(|place| format!("c{place} = NULL")).collect();
    pipeline.query(&format!("UPDATE `{}` SET {} WHERE id = 0", pipeline.final_table(&table), nulls.join(", "))).await;
    let verified = verify(&pipeline, &database, &[&format!("types.{name}"), "--settle", "0"]).await;
    let all: Vec<String> = (0..columns.len()).map(|place| format!("c{place}")).collect();
    verified.assert_different(&[&format!("different: id 0: {}", all.join("; "))]);

    // What is repaired is what DMS would have sent, value by value.
    let repaired = verify(&pipeline, &database, &[&format!("types.{name}"), "--settle", "0", "--repair"]).await;
    assert_eq!(repaired.status, Some(1), "{}", repaired.said);
    let answers = pipeline.merge().await;
    let answer = of(&answers, &table);
    assert_eq!((answer.outcome.as_str(), answer.quarantined), ("merged", 0), "{answer:?} {}", repaired.said);
    verify(&pipeline, &database, &[&format!("types.{name}"), "--settle", "0"]).await.assert_equal();
}

#[test]
fn every_type_of_mariadb_is_compared_value_by_value() {
    run(every_type(Engine::MySql, "mysql"));
}

#[test]
fn every_type_of_postgresql_is_compared_value_by_value() {
    run(every_type(Engine::PostgreSql, "postgresql"));
}

// What a hand changed

/// The shop's orders, at the source and loaded.
async fn shop(database: &Database, pipeline: &mut Pipeline, rows: u32) -> Table {
    let orders = Table::new("shop", "orders")
        .column("id", "INT64")
        .column("note", "WSTRING")
        .numeric("amount", 12, 2)
        .column("at", "DATETIME")
        .key(&["id"]);
    let (create, kind) = match database.engine {
        Engine::MySql => ("CREATE DATABASE shop CHARACTER SET utf8mb4", "datetime(6)"),
        Engine::PostgreSql => ("CREATE SCHEMA shop", "timestamp"),
    };
    let mut sql = format!(
        "{create};\nCREATE TABLE shop.orders (id bigint PRIMARY KEY, note varchar(100), amount decimal(12,2), {} {kind});\n",
        quoted(database.engine, "at")
    );
    let mut messages = vec![orders.create()];
    for id in 0..rows {
        let note = ["plain", "", " two  blanks ", "é이😀", "it''s"][usize::try_from(id % 5).unwrap()];
        writeln!(sql, "INSERT INTO shop.orders VALUES ({id}, '{note}', {id}.50, '2024-02-29 12:00:00.5');").unwrap();
        messages.push(orders.load(json!({"id": id, "note": note.replace("''", "'"), "amount": format!("{id}.500000"), "at": "2024-02-29T12:00:00.500000Z"})));
    }
    database.run(&sql);
    pipeline.send(&messages).await;
    pipeline.merge().await;
    orders
}

/// An update of an order's note, at the source and in the topic.
async fn renote(database: &Database, pipeline: &mut Pipeline, orders: &Table, id: u32, note: &str) {
    let sql = format!("UPDATE shop.orders SET note = '{note}' WHERE id = {id};");
    let image = json!({"id": id, "note": note, "amount": format!("{id}.50"), "at": "2024-02-29T12:00:00.500000Z"});
    let message = change(database, &sql, orders.update(image));
    pipeline.send(&[message]).await;
}

async fn by_hand(engine: Engine, deletes: &str) {
    let Some(database) = Database::start(engine).await else { return };
    let mut pipeline = Setup::default().with("STRAIT_DELETES", deletes).start().await;
    let orders = shop(&database, &mut pipeline, 300).await;
    renote(&database, &mut pipeline, &orders, 5, "changed").await;
    let gone = change(&database, "DELETE FROM shop.orders WHERE id = 6;", orders.delete(json!({"id": 6})));
    pipeline.send(&[gone]).await;
    pipeline.merge().await;
    let settle = ["shop.orders", "--settle", "0"];
    let variables = [("STRAIT_DELETES", deletes)];
    let verify = async |more: &[&str]| {
        let arguments = [&settle, more].concat();
        Verified::of(command(&pipeline, &database, &arguments, &variables).output().await.unwrap())
    };
    verify(&[]).await.assert_equal();

    let name = pipeline.final_table(&orders);
    pipeline.query(&format!("UPDATE `{name}` SET note = 'needle', amount = 7 WHERE id = 17")).await;
    pipeline.query(&format!("DELETE FROM `{name}` WHERE id = 30")).await;
    pipeline
        .query(&format!(
            "INSERT INTO `{name}` (id, note, _strait_position) VALUES (1000, 'by hand', '0000-0-00000000000000000001')"
        ))
        .await;
    let found = ["different: id 17: note; amount", "extra: id 1000", "missing: id 30"];
    let verified = verify(&[]).await;
    verified.assert_different(&found);
    assert!(!verified.said.contains("needle"), "{}", verified.said);
    let with_values = verify(&["--values"]).await;
    with_values.assert_different(&[
        "different: id 17: note is needle and should be  two  blanks ; amount is 7 and should be 17.5",
        "extra: id 1000: id 1000, note by hand, amount NULL, at NULL",
        "missing: id 30: id 30, note plain, amount 30.5, at 2024-02-29 12:00:00.5",
    ]);
    // Nothing was written, and no more is looked at than was asked for.
    let limited = verify(&["--limit", "1"]).await;
    assert_eq!((limited.status, limited.findings().len()), (Some(1), 1), "{}", limited.said);
    assert!(limited.said.contains("more than 1 row may differ"), "{}", limited.said);

    let repaired = verify(&["--repair"]).await;
    repaired.assert_different(&found);
    assert!(repaired.said.contains(": 3 rows"), "{}", repaired.said);
    let answers = pipeline.merge().await;
    assert_eq!(of(&answers, &orders).outcome, "merged");
    verify(&[]).await.assert_equal();

    // Repairs leave no hole, and a later change of the same row still wins.
    let gaps = pipeline.texts(&format!("SELECT kafka_topic FROM `{}_gaps`", pipeline.log())).await;
    assert_eq!(gaps, Vec::<String>::new());
    let topics = format!("SELECT COUNT(*) FROM `{}` WHERE STARTS_WITH(kafka_topic, 'strait-repair/')", pipeline.log());
    assert_eq!(pipeline.texts(&topics).await, ["3"]);
    renote(&database, &mut pipeline, &orders, 17, "later").await;
    pipeline.merge().await;
    let verified = Verified::of(command(&pipeline, &database, &settle, &variables).output().await.unwrap());
    verified.assert_equal();
    let note = pipeline.texts(&format!("SELECT note FROM `{name}` WHERE id = 17")).await;
    assert_eq!(note, ["later"]);
}

#[test]
fn what_a_hand_changed_is_found_and_repaired_from_mariadb() {
    run(by_hand(Engine::MySql, "hard"));
}

#[test]
fn what_a_hand_changed_is_found_and_repaired_from_postgresql_with_soft_deletes() {
    run(by_hand(Engine::PostgreSql, "soft"));
}

#[test]
fn keys_are_compared_by_their_characters_and_rows_without_a_key_by_their_number() {
    run(async {
        let Some(database) = Database::start(Engine::MySql).await else { return };
        let mut pipeline = Pipeline::start().await;
        // A collation that takes `abc` for `ABC`.
        let tags = Table::new("shop", "tags").column("tag", "WSTRING").column("n", "INT64").key(&["tag"]);
        let log = Table::new("shop", "log").column("word", "WSTRING").column("n", "INT64");
        database.run(
            "CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci;\n\
             CREATE TABLE shop.tags (tag varchar(20) PRIMARY KEY, n int);\n\
             CREATE TABLE shop.log (word varchar(20), n int);\n\
             INSERT INTO shop.tags VALUES ('abc', 1), ('Zeta', 2), ('é\\'\\\\', 3);\n\
             INSERT INTO shop.log VALUES ('a', 1), ('a', 1), ('a', NULL), (NULL, NULL), (NULL, NULL);",
        );
        let mut messages = vec![tags.create(), log.create()];
        for (tag, n) in [("abc", 1), ("Zeta", 2), ("é'\\", 3)] {
            messages.push(tags.load(json!({"tag": tag, "n": n})));
        }
        for (word, n) in [
            (json!("a"), json!(1)),
            (json!("a"), json!(1)),
            (json!("a"), Value::Null),
            (Value::Null, Value::Null),
            (Value::Null, Value::Null),
        ] {
            messages.push(log.load(json!({"word": word, "n": n})));
        }
        pipeline.send(&messages).await;
        pipeline.merge().await;
        let arguments = ["shop.tags", "shop.log", "--settle", "0", "--values"];
        verify(&pipeline, &database, &arguments).await.assert_equal();

        pipeline.query(&format!("UPDATE `{}` SET tag = 'ABC' WHERE tag = 'abc'", pipeline.final_table(&tags))).await;
        pipeline.query(&format!("INSERT INTO `{}` (word, n) VALUES ('a', NULL)", pipeline.final_table(&log))).await;
        pipeline.query(&format!("DELETE FROM `{}` WHERE word IS NULL", pipeline.final_table(&log))).await;
        let verified = verify(&pipeline, &database, &arguments).await;
        assert_eq!(verified.status, Some(1), "{}", verified.said);
        assert_eq!(
            verified.lines(&["extra: tag", "missing: tag"]),
            ["extra: tag ABC: tag ABC, n 1", "missing: tag abc: tag abc, n 1"]
        );
        let of_log: Vec<String> = verified
            .lines(&["extra: row", "missing 2 times: row"])
            .iter()
            .map(|line| line.split_once(": word").unwrap().1.to_owned())
            .collect();
        assert_eq!(of_log, [" a, n NULL", " NULL, n NULL"], "{}", verified.said);

        let repaired = verify(&pipeline, &database, &["shop.log", "--settle", "0", "--repair"]).await;
        assert_eq!(repaired.status, Some(2), "{}", repaired.said);
        assert!(repaired.said.contains("its rows have no key"), "{}", repaired.said);
    });
}

#[test]
fn what_moves_in_the_meantime_is_no_difference_and_what_does_not_is_one() {
    run(async {
        let Some(database) = Database::start(Engine::MySql).await else { return };
        let mut pipeline = Pipeline::start().await;
        let orders = shop(&database, &mut pipeline, 40).await;
        let name = pipeline.final_table(&orders);
        pipeline.query(&format!("UPDATE `{name}` SET note = 'by hand' WHERE id = 39")).await;
        // At the source and not yet sent: each row differs when the comparison begins.
        let mut child = command(&pipeline, &database, &["shop.orders", "--settle", "30"], &[]).spawn().unwrap();
        let mut rounds = 0_u32;
        while child.try_wait().unwrap().is_none() {
            // One row all the time, others now and then.
            renote(&database, &mut pipeline, &orders, 0, &format!("round {rounds}")).await;
            renote(&database, &mut pipeline, &orders, 1 + rounds % 30, &format!("round {rounds}")).await;
            pipeline.merge().await;
            rounds += 1;
        }
        let verified = Verified::of(child.wait_with_output().await.unwrap());
        assert!(rounds > 3, "{}", verified.said);
        verified.assert_different(&["different: id 39: note"]);
    });
}

/// With TLS and a password it is compared as without; what is wrong with one of them is said, and neither password nor key is.
async fn over_tls(engine: Engine) {
    const PASSWORD: &str = "hush-0815";
    let (own, other) = (Certificate::new(), Certificate::new());
    let Some(database) = Database::start_with_tls(engine, &own, PASSWORD).await else { return };
    let mut pipeline = Pipeline::start().await;
    shop(&database, &mut pipeline, 3).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (file("right", &format!("{PASSWORD}\n")), file("wrong", "hush-4711"));
    let (authority, stranger) = (own.authority.display().to_string(), other.authority.display().to_string());
    let url = database.url_of_reader();
    let variable = match engine {
        Engine::MySql => "MYSQL_PWD",
        Engine::PostgreSql => "PGPASSWORD",
    };
    let verified = async |arguments: &[&str], password: &str| {
        let mut command = pipeline.strait("verify");
        command.args(["--source", &url, "shop.orders", "--settle", "0"]).args(arguments).env_remove(variable);
        if !password.is_empty() {
            command.env(variable, password);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let verified = Verified::of(command.output().await.unwrap());
        assert!(!verified.said.contains("hush-"), "{}", verified.said);
        verified
    };
    verified(&["--ca", &authority, "--password-file", &right], "").await.assert_equal();
    verified(&["--ca", &authority], PASSWORD).await.assert_equal();
    let of_password = ["1045", "28P01", "28000"];
    for (arguments, password, words) in [
        (vec!["--ca", &authority, "--password-file", &wrong], "", &of_password[..]),
        (vec!["--ca", &authority], "", &["1045", "28", "password"][..]),
        // Another authority's, none that the world knows, and none at all.
        (vec!["--ca", &stranger], PASSWORD, &["certificate", "UnknownIssuer"][..]),
        (vec![], PASSWORD, &["certificate", "UnknownIssuer"][..]),
        (vec!["--plaintext"], PASSWORD, &of_password[..]),
    ] {
        let refused = verified(&arguments, password).await;
        assert_eq!(refused.status, Some(2), "{arguments:?}: {}", refused.said);
        assert!(words.iter().any(|word| refused.said.contains(word)), "{arguments:?}: {}", refused.said);
    }
}

#[test]
fn mariadb_is_reached_over_tls_with_a_password() {
    run(over_tls(Engine::MySql));
}

#[test]
fn postgresql_is_reached_over_tls_with_a_password() {
    run(over_tls(Engine::PostgreSql));
}

#[test]
fn what_cannot_be_done_is_said_and_has_its_own_status() {
    run(async {
        let Some(database) = Database::start(Engine::PostgreSql).await else { return };
        let mut pipeline = Pipeline::start().await;
        let orders = shop(&database, &mut pipeline, 3).await;
        renote(&database, &mut pipeline, &orders, 1, "changed").await;
        pipeline.merge().await;
        for (arguments, said) in [
            (&["shop.nothing"][..], "the final table of shop.nothing, does not exist"),
            (&["shop"][..], "not of the form SCHEMA.TABLE"),
            (&["shop.orders", "--skip-columns", "nope"][..], "no column nope"),
        ] {
            let verified = verify(&pipeline, &database, arguments).await;
            assert_eq!(verified.status, Some(2), "{}", verified.said);
            assert!(verified.said.contains(said), "{}", verified.said);
        }
        // What is left out is named.
        let verified = verify(&pipeline, &database, &["shop.orders", "--skip-columns", "note", "--settle", "0"]).await;
        verified.assert_equal();
        assert_eq!(verified.lines(&["not compared"]), ["not compared: note: left out by --skip-columns"]);
        // A transaction that is open since before: what it changes would be lost.
        pipeline.query(&format!("UPDATE `{}` SET amount = 7 WHERE id = 2", pipeline.final_table(&orders))).await;
        let mut open = std::process::Command::new("psql")
            .args([&database.url(), "-XAtq"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        {
            use std::io::{BufRead as _, Write as _};
            open.stdin
                .as_mut()
                .unwrap()
                .write_all(b"BEGIN; INSERT INTO shop.orders VALUES (9); SELECT 'open';\n")
                .unwrap();
            let mut line = String::new();
            std::io::BufReader::new(open.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line.trim(), "open");
        }
        let repaired = verify(&pipeline, &database, &["shop.orders", "--settle", "0", "--repair"]).await;
        assert_eq!(repaired.status, Some(2), "{}", repaired.said);
        assert!(repaired.said.contains("a transaction at the source has been open"), "{}", repaired.said);
        drop(open.stdin.take());
        open.wait().unwrap();
        let repaired = verify(&pipeline, &database, &["shop.orders", "--settle", "0", "--repair"]).await;
        assert_eq!(repaired.status, Some(1), "{}", repaired.said);
        pipeline.merge().await;
        verify(&pipeline, &database, &["shop.orders", "--settle", "0"]).await.assert_equal();
    });
}
