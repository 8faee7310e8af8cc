//! Masks through the built functions: what is masked appears nowhere outside, keys that are hashed merge, and what cannot be
//! masked stays where it is.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use strait_cli::msk::{self, KafkaRecord};
use strait_tests::history::{Message, Table};
use strait_tests::pipeline::{NOTHING_FAILED, Pipeline, Setup, answer, failure, function, of};
use strait_tests::secrets_manager::SecretsManager;
use strait_tests::{NULL, run};

const KEY_ID: &str = "strait/mask-key";
const KEY: &str = "b7f0c1d2e3a495867768594a3b2c1d0e0f1e2d3c4b5a69788796a5b4c3d2e1f0";
/// In every planted text; the numbers beside it cannot carry it. Also as base64 has it, in three alignments.
const PLANTED: [&str; 10] =
    ["PLANTED", "7070707", "7070708", "7070709", "7.070707e6", "41110000", "UExBTlRF", "BMQU5URU", "QTEFOVEV", KEY];
/// `hmac.new(KEY.encode(), text.encode(), hashlib.sha256).hexdigest()` in Python, of `7070707`, `7070708`, `7070709`,
/// `ada@PLANTED.example` and `PLANTED`.
const HASH_7: &str = "d019c94603b6c0a21a418b41fc0401cf567207c91d30806d636e47e949694e69";
const HASH_8: &str = "0dc85b6b3d9563606301873b0a1013bc5bddba762155e8baa1ebf1047b73f812";
const HASH_9: &str = "5bc71e07ba1a0d85452c5a6ae07f30d6267fc2f4d00aed268d991f6826ed6ead";
const HASH_ADA: &str = "39abe89a756f3cb2a4a3ce6f84189ddc5e0363c6169debadfec6f9abd539b96f";
const HASH_PLANTED: &str = "4bfcd2b0ee57633dfd528e94ea06a4a99e3c585730a247e8f7be699014518691";

async fn masked(secrets: &SecretsManager, mask: &str) -> Pipeline {
    let mut setup = Setup::default().with("STRAIT_MASK", mask).with("STRAIT_MASK_KEY_SECRET", KEY_ID);
    for (name, value) in secrets.variables() {
        setup = setup.with(name, &value);
    }
    setup.start().await
}

fn people() -> Table {
    Table::new("crm", "people")
        .column("id", "INT64")
        .column("email", "WSTRING")
        .column("card", "INT64")
        .column("born", "DATE")
        .column("n", "INT32")
        .key(&["id"])
}

/// Everything that left: each table of the test's datasets, both functions' logs, and what was answered.
async fn everything(pipeline: &Pipeline, tables: &[&Table], answers: &str) -> String {
    let mut left = format!("{}\n{answers}", pipeline.logs());
    let own = [pipeline.log(), format!("{}_kept_out", pipeline.log()), pipeline.merges(), pipeline.quarantine()];
    for table in own.into_iter().chain(tables.iter().map(|table| pipeline.final_table(table))) {
        if pipeline.exists(&table).await {
            left.push_str(&pipeline.texts(&format!("SELECT * FROM `{table}`")).await.join("\n"));
        }
    }
    left
}

fn assert_silent(left: &str) {
    for planted in PLANTED {
        let line = left.lines().find(|line| line.contains(planted));
        assert!(line.is_none(), "{planted} has left: {}", line.unwrap_or_default());
    }
}

#[test]
fn a_hashed_key_merges_and_nothing_masked_leaves() {
    run(async {
        let secrets = SecretsManager::start(KEY_ID, KEY).await;
        let mask = "crm.people.ID=hash,*.*.email=hash,crm.people.card=drop,crm.people.born=redact,crm.people.brn=drop";
        let mut pipeline = masked(&secrets, mask).await;
        let (people, mails) =
            (people(), Table::new("crm", "mails").column("n", "INT32").column("email", "STRING").key(&["n"]));
        let person = |id: u32, email: &str, n: u32| {
            json!({"id": id, "email": email, "card": 41_110_000, "born": "PLANTED-day", "n": n}).to_string()
        };
        let mut answers = Vec::new();
        pipeline
            .send(&[
                people.create(),
                mails.create(),
                people.load(person(7_070_707, "ada@PLANTED.example", 1)),
                people.insert(person(7_070_708, "bob@PLANTED.example", 1)).at(10),
                people.insert(person(7_070_709, "cyd@PLANTED.example", 1)).at(11),
                mails.insert(json!({"n": 1, "email": "ada@PLANTED.example"})).at(12),
                people.update(r#"{"id":7070708,"email":null,"\u0043ard":41110000,"born":"PLANTED","n":2}"#).at(13),
                people.delete(person(7_070_709, "cyd@PLANTED.example", 1)).at(14),
            ])
            .await;
        answers.push(format!("{:?}", pipeline.merge().await));
        let rows: [&[&str]; 2] = [&[HASH_7, HASH_ADA, "redacted", "1"], &[HASH_8, NULL, "redacted", "2"]];
        pipeline.assert_rows(&people, &rows).await;
        // The cold start of another process, with the key read again: the same hash.
        pipeline.ingest.kill().await;
        pipeline
            .send(&[
                // The old key in the before-image, and once more as a rule of DMS's puts it beside the new one.
                people.key_change(r#"{"id":7070708}"#, person(7_070_709, "ada@PLANTED.example", 3)).at(20),
                people
                    .update(r#"{"id":7.070707e6,"BI_id":7070707,"email":"ada@PLANTED.example","born":null,"n":4}"#)
                    .at(21),
            ])
            .await;
        let merged = pipeline.merge().await;
        assert_eq!(of(&merged, &people).quarantined, 0, "{merged:?}");
        answers.push(format!("{merged:?}"));
        // The dropped column is not even there.
        let rows: [&[&str]; 2] = [&[HASH_9, HASH_ADA, "redacted", "3"], &[HASH_7, HASH_ADA, NULL, "4"]];
        pipeline.assert_rows(&people, &rows).await;
        // What was equal can still be joined.
        pipeline.assert_rows(&mails, &[&["1", HASH_ADA]]).await;
        assert_eq!(secrets.reads(), 2, "once in each process of ingest, and never by merge");

        let warnings = |log: &str| log.lines().filter(|line| line.contains("crm.people.brn")).count();
        assert_eq!(warnings(&pipeline.ingest.log()), 1, "{}", pipeline.ingest.log());
        let left = everything(&pipeline, &[&people, &mails], &answers.concat()).await;
        assert!(left.contains(HASH_9));
        assert_silent(&left);
    });
}

#[test]
fn what_cannot_be_decoded_or_applied_stays_in_aws() {
    run(async {
        let secrets = SecretsManager::start(KEY_ID, KEY).await;
        // Everything that a dependency would say at its most talkative, too.
        let mut setup = Setup::default()
            .with("STRAIT_MASK", "crm.people.email=hash,crm.people.card=redact")
            .with("STRAIT_MASK_KEY_SECRET", KEY_ID)
            .with("RUST_LOG", "trace");
        for (name, value) in secrets.variables() {
            setup = setup.with(name, &value);
        }
        let mut pipeline = setup.start().await;
        let people = people();
        let sound = r#"{"id":1,"email":"PLANTED","card":41110000,"n":1}"#;
        let records = pipeline.produce(&[
            people.create(),
            people.insert(sound).at(1),
            Message::raw("PLANTED not json"),
            Message::raw(b"PLANTED\xff".to_vec()),
            Message::raw(r#"{"data":{"email":"PLANTED"},"metadata":{"record-type":"data","operation":"PLANTED","schema-name":"crm","table-name":"people"}}"#),
            people.insert(r#"{"id":2,"email\ud83d":"PLANTED"}"#).at(2),
            Message::raw(r#"{"data":{"email":"PLANTED"},"metadata":{"record-type":"data","operation":"insert","schema-name":"other","table-name":"t","schema-name":"x"}}"#),
            // Decoded and masked, and then what the merge cannot apply.
            people.insert(r#"{"id":3,"email":"PLANTED \ud83d","n":1}"#).at(3),
            people.insert(r#"{"id":4,"email":"PLANTED","n":"no number"}"#).at(4),
            Message::tombstone(),
        ]);
        let outcome = pipeline.invoke_ingest(msk::event(&records)).await;
        let failed: Vec<KafkaRecord> =
            msk::failed_items(answer(&outcome).as_bytes(), &records).unwrap().into_iter().cloned().collect();
        assert_eq!(failed.iter().map(|record| record.offset).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
        // As Lambda does until it hands them to the on-failure destination: each is in the log once for every reader.
        let again = pipeline.invoke_ingest(msk::event(&failed)).await;
        assert_eq!(answer(&again), answer(&outcome));
        assert_eq!(pipeline.logged().await["poison"], 6);
        let kept = format!("SELECT COUNT(*) FROM `{}` WHERE operation = 'poison' AND data IS NOT NULL", pipeline.log());
        assert_eq!(pipeline.texts(&kept).await, ["0"]);
        let merged = pipeline.merge().await;
        assert_eq!(of(&merged, &people).quarantined, 2, "{merged:?}");
        pipeline.assert_rows(&people, &[&["1", HASH_PLANTED, "redacted", NULL, "1"]]).await;
        let answers = format!("{}{merged:?}", answer(&outcome));
        assert_silent(&everything(&pipeline, &[&people], &answers).await);
        let log = pipeline.ingest.log();
        assert!(log.contains("cdc-0@2, cdc-0@3") && log.contains("DEBUG"), "the log is not the talkative one");
    });
}

#[test]
fn a_table_whose_key_is_not_left_waits_and_says_so() {
    run(async {
        let secrets = SecretsManager::start(KEY_ID, KEY).await;
        let mut pipeline = masked(&secrets, "crm.people.id=redact,crm.mails.n=drop").await;
        let (people, orders) = (people(), Table::orders());
        let mails = Table::new("crm", "mails").column("n", "INT32").column("email", "STRING").key(&["n"]);
        pipeline
            .send(&[
                people.create(),
                mails.create(),
                orders.create(),
                people.insert(r#"{"id":7070707,"n":1}"#).at(1),
                people.insert(r#"{"id":7070708,"n":2}"#).at(2),
                mails.insert(r#"{"n":7070707,"email":"a"}"#).at(3),
                orders.insert(r#"{"id":1,"v":"a"}"#).at(4),
            ])
            .await;
        let merged = pipeline.merge().await;
        for (table, words) in
            [(&people, "has redact for the key column id of"), (&mails, "has drop for the key column n of")]
        {
            let answer = of(&merged, table);
            let reason = answer.reason.clone().unwrap_or_default();
            assert_eq!(answer.outcome, "waiting", "{reason}");
            assert!(reason.contains(words) && reason.contains("use hash"), "{reason}");
        }
        pipeline.assert_rows(&orders, &[&["1", "a"]]).await;
    });
}

#[test]
fn a_secret_that_is_no_key_keeps_ingest_from_starting() {
    run(async {
        let secrets = SecretsManager::start(KEY_ID, "PLANTED").await;
        let mut variables: BTreeMap<String, String> = [
            ("STRAIT_PROJECT", "e2e"),
            ("STRAIT_BIGQUERY_REST_URL", "http://127.0.0.1:1"),
            ("STRAIT_BIGQUERY_GRPC_URL", "http://127.0.0.1:1"),
            ("STRAIT_MASK", "crm.people.id=hash"),
            ("STRAIT_MASK_KEY_SECRET", KEY_ID),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        variables.extend(secrets.variables().map(|(name, value)| (name.to_owned(), value)));
        let ingest = function("ingest", variables, Duration::from_secs(60)).await;
        for (secret, words) in [
            ("PLANTED", "STRAIT_MASK_KEY_SECRET: the secret strait/mask-key is shorter than 32 bytes"),
            ("PLANTED 0123456789abcdef0123456789abcdef\n", "begins or ends with white space"),
            (r#"{"key":"PLANTED 0123456789abcdef0123456789abcdef"}"#, "not as a key/value pair"),
        ] {
            secrets.put(KEY_ID, secret);
            // The process that was started before this secret was there has said what it saw.
            let _ = ingest.invoke("{}").await.unwrap();
            let outcome = ingest.invoke("{}").await.unwrap().outcome;
            let (error_type, message) = failure(&outcome);
            assert_eq!(error_type, "MaskKey", "{message}");
            assert!(message.contains(words) && !message.contains("PLANTED"), "{words}: {message}");
            assert!(!ingest.log().contains("PLANTED"), "{}", ingest.log());
        }
        // With a key it starts.
        secrets.put(KEY_ID, KEY);
        let outcome = ingest.invoke(r#"{"eventSource":"aws:kafka","records":{}}"#).await.unwrap().outcome;
        assert_eq!(answer(&outcome), NOTHING_FAILED);
    });
}
