//! What must not stop the pipeline: a configuration with mistakes, events of other services, records that are no DMS messages.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use strait_cli::msk;
use strait_cli::runtime_api::InvocationOutcome;
use strait_tests::history::{Message, Table};
use strait_tests::pipeline::{NOTHING_FAILED, Pipeline, answer, failure, function, of};
use strait_tests::{event, programs, run};

const PLANTED: &str = "MIIEvQIBADANBgkqPLANTEDSECRET";

/// What a function that must not start says on its way out: the type and message of the error that Lambda is told, and its log.
async fn refusal(name: &str, variables: &[(&str, &str)]) -> (String, String, String) {
    let environment: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let function = function(name, environment, Duration::from_secs(30)).await;
    let invocation = function.invoke("{}").await.unwrap();
    assert_eq!(invocation.init_duration, None, "{name} asked for an invocation");
    let InvocationOutcome::Error { error_type, message } = invocation.outcome else {
        panic!("{name} should have told why it does not start: {:?}", invocation.outcome);
    };
    (error_type, message, function.log())
}

#[test]
fn every_mistake_of_a_configuration_is_named_at_once_and_no_secret_with_it() {
    run(async {
        let credential = json!({"type": "service_account", "private_key": PLANTED}).to_string();
        for name in ["ingest", "merge"] {
            let (error_type, told, said) = refusal(
                name,
                &[
                    ("STRAIT_LOG_TABEL", "cdc.log"),
                    ("STRAIT_DELETES", "sometimes"),
                    ("STRAIT_LOG_RETENTION_DAYS", "forever"),
                    ("STRAIT_FINAL_TABLE", "nodataset"),
                    ("STRAIT_CREDENTIALS", &credential),
                    ("STRAIT_MASK_KEY_SECRET", PLANTED),
                    ("STRAIT_BIGQUERY_REST_URL", "https://user:PLANTEDPASSWORD@bigquery.example"),
                ],
            )
            .await;
            assert_eq!(error_type, "Configuration");
            for expected in [
                "STRAIT_PROJECT",
                "STRAIT_LOG_TABEL",
                "STRAIT_DELETES",
                "STRAIT_LOG_RETENTION_DAYS",
                "STRAIT_FINAL_TABLE",
                "STRAIT_CREDENTIALS",
                "STRAIT_BIGQUERY_REST_URL",
            ] {
                assert!(said.contains(expected), "{name} does not name {expected}:\n{said}");
                assert!(told.contains(expected), "{name} does not tell {expected}:\n{told}");
            }
            for text in [&said, &told] {
                assert!(text.contains("`hard` or `soft`"), "what was expected is missing:\n{text}");
                assert!(!text.contains("PLANTED"), "a secret is in it:\n{text}");
            }
            assert_eq!(said.lines().filter(|line| line.contains("STRAIT_DELETES")).count(), 1, "once:\n{said}");
        }
    });
}

#[test]
fn a_function_without_any_configuration_says_what_it_needs() {
    run(async {
        for name in ["ingest", "merge"] {
            let (_, told, _) = refusal(name, &[]).await;
            assert!(told.contains("STRAIT_PROJECT") && told.contains("STRAIT_CREDENTIALS"), "{told}");
        }
    });
}

/// Outside Lambda, or where Lambda does not answer, the exit status and the log are all there is.
#[test]
fn a_function_that_cannot_start_ends_with_a_failure_whoever_listens() {
    for name in ["ingest", "merge"] {
        for runtime_api in [None, Some("127.0.0.1:9")] {
            let mut command = Command::new(programs::program(name));
            command.env_clear().envs(runtime_api.map(|address| ("AWS_LAMBDA_RUNTIME_API", address)));
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(1), "{name}: {said}");
            assert!(
                said.contains(r#""error_type":"Configuration""#) && said.contains("STRAIT_PROJECT"),
                "{name}: {said}"
            );
        }
    }
}

/// A person at a terminal reads the same words, once.
#[test]
fn a_local_run_says_why_a_function_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let messages = folder.path().join("messages.jsonl");
    std::fs::write(&messages, "{}\n").unwrap();
    let output = Command::new(programs::program("strait"))
        .args(["local", "--dms"])
        .arg(&messages)
        .env("STRAIT_CREDENTIALS_SECRET", "strait/credential")
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", PLANTED)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success(), "{said}");
    let expected = "the function `ingest` does not start: SecretsManagerUnreachable: Secrets Manager could not be reached for the secret \
                    strait/credential";
    assert_eq!(said.matches(expected).count(), 1, "{said}");
    assert!(!said.contains("PLANTED"), "{said}");
}

#[test]
fn an_event_of_another_kind_is_an_error_that_says_what_it_is() {
    run(async {
        let orders = Table::orders();
        let mut pipeline = Pipeline::start().await;
        for (payload, found) in [
            (event("not-msk-sqs.json"), "SQS"),
            (event("scheduled.json"), "EventBridge"),
            (event("merge-one-table.json"), ""),
            (b"garbage".to_vec(), "JSON"),
            (b"[1,2]".to_vec(), ""),
            (b"null".to_vec(), ""),
            (br#""text""#.to_vec(), ""),
            (Vec::new(), ""),
        ] {
            let shown = String::from_utf8_lossy(&payload).into_owned();
            let outcome = pipeline.invoke_ingest(payload).await;
            let (error_type, message) = failure(&outcome);
            assert_eq!(error_type, "InvalidEvent", "{shown}: {message}");
            assert!(message.contains(found) && message.contains("expected an Amazon MSK event"), "{shown}: {message}");
        }
        for (payload, found) in [
            (event("msk-load.json"), "ingest"),
            (event("not-msk-sqs.json"), "ingest"),
            (b"garbage".to_vec(), "not JSON"),
            (br#"{"tabels":["shop.orders"]}"#.to_vec(), "members"),
        ] {
            let outcome = pipeline.invoke_merge(payload).await;
            let (error_type, message) = failure(&outcome);
            assert_eq!(error_type, "NotAMergeEvent", "{message}");
            assert!(message.contains(found) && message.contains("Expected a scheduled event"), "{message}");
        }
        // Neither function is the worse for it.
        pipeline.send(&[orders.create(), orders.insert(json!({"id": 1, "v": "a"})).at(10)]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "a"]]).await;
        assert_eq!((pipeline.ingest.starts(), pipeline.merge.starts()), (1, 1), "a process died on the way");
    });
}

#[test]
fn an_msk_event_without_records_is_nothing_to_do() {
    run(async {
        let pipeline = Pipeline::start().await;
        for records in [json!({}), json!({"cdc-0": []})] {
            let payload = json!({"eventSource": "aws:kafka", "eventSourceArn": "arn:aws:kafka:eu-west-1:1:cluster/c/1", "records": records});
            let outcome = pipeline.invoke_ingest(payload.to_string()).await;
            assert_eq!(answer(&outcome), NOTHING_FAILED);
        }
    });
}

#[test]
fn every_record_that_is_no_message_is_in_the_log_and_harms_no_other() {
    run(async {
        let orders = Table::orders();
        let mut pipeline = Pipeline::start().await;
        let sound = |id: u32| orders.insert(json!({"id": id, "v": "sound"})).at(id);
        let metadata = r#"{"record-type":"data","operation":"insert","schema-name":"shop","table-name":"orders"}"#;
        let deep =
            format!(r#"{{"data":{{"id":1,"v":{}1{}}},"metadata":{metadata}}}"#, "[".repeat(200), "]".repeat(200));
        let bad = [
            Message::raw("not json"),
            Message::raw(b"\xff\xfe\x00binary".to_vec()),
            Message::raw(""),
            Message::tombstone(),
            Message::raw("[1,2,3]"),
            Message::raw("17"),
            Message::raw(r#"{"payload":{"before":null,"after":{"id":1},"op":"c"}}"#),
            Message::raw(deep),
            Message::raw(format!(r#"{{"data":{{"id":1}},"data":{{"id":2}},"metadata":{metadata}}}"#)),
            Message::raw(
                r#"{"data":{"id":1},"metadata":{"record-type":"data","operation":"upsert","schema-name":"shop","table-name":"orders"}}"#,
            ),
            Message::raw(
                r#"{"data":"text","metadata":{"record-type":"data","operation":"insert","schema-name":"shop","table-name":"orders"}}"#,
            ),
            Message::raw(r#"{"data":{"id":1},"metadata":{"record-type":"data","oper"#),
        ];
        let mut batch = vec![orders.create(), sound(1)];
        batch.extend(bad.iter().cloned());
        batch.push(sound(2));
        pipeline.send(&batch).await;
        let poison = u32::try_from(bad.len()).unwrap();
        assert_eq!(json!(pipeline.logged().await), json!({"create-table": 1, "insert": 2, "poison": poison}));
        let unexplained = format!(
            "SELECT COUNT(*) FROM `{}` WHERE operation = 'poison' AND COALESCE(error, '') = ''",
            pipeline.log()
        );
        assert_eq!(pipeline.texts(&unexplained).await, ["0"]);
        // What was received is kept: as text, or in base64 where it is none.
        let kept = format!("SELECT data FROM `{}` WHERE kafka_offset IN (2, 3) ORDER BY kafka_offset", pipeline.log());
        assert_eq!(pipeline.texts(&kept).await, [STANDARD.encode(b"\xff\xfe\x00binary"), "not json".to_owned()]);

        let answers = pipeline.merge().await;
        assert_eq!(of(&answers, &orders).outcome, "merged");
        pipeline.assert_rows(&orders, &[&["1", "sound"], &["2", "sound"]]).await;
        pipeline.send(&[sound(3)]).await;
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "sound"], &["2", "sound"], &["3", "sound"]]).await;
    });
}

#[test]
fn a_value_that_is_not_base64_is_poison_and_what_lacks_an_identity_an_error() {
    run(async {
        let pipeline = Pipeline::start().await;
        let with = |record: serde_json::Value| {
            json!({"eventSource": "aws:kafka", "eventSourceArn": "arn:aws:kafka:eu-west-1:1:cluster/c/1", "records": {"cdc-0": [record]}}).to_string()
        };
        for (offset, value) in [json!("!!! not base64 !!!"), json!(17), json!({"a": 1})].into_iter().enumerate() {
            let record = json!({"topic": "cdc", "partition": 0, "offset": offset, "timestamp": 1, "timestampType": "CREATE_TIME", "value": value});
            assert_eq!(answer(&pipeline.invoke_ingest(with(record)).await), NOTHING_FAILED);
        }
        assert_eq!(json!(pipeline.logged().await), json!({"poison": 3}));
        let outcome = pipeline.invoke_ingest(with(json!({"topic": "cdc", "partition": 0, "value": "e30="}))).await;
        let (error_type, message) = failure(&outcome);
        assert_eq!(error_type, "InvalidEvent");
        assert!(message.contains("offset"), "{message}");
    });
}

#[test]
fn a_member_that_stands_twice_in_a_row_image_is_logged_to_the_letter_and_the_first_one_counts() {
    run(async {
        let orders = Table::orders();
        let mut pipeline = Pipeline::start().await;
        let twice = r#"{"id":1,"v":"first","v":"second"}"#;
        pipeline.send(&[orders.create(), orders.insert(twice).at(10)]).await;
        let kept = format!("SELECT data FROM `{}` WHERE operation = 'insert'", pipeline.log());
        assert_eq!(pipeline.texts(&kept).await, [twice]);
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "first"]]).await;
    });
}

#[test]
fn a_record_that_fills_a_whole_event_is_stored_to_the_last_byte() {
    run(async {
        let orders = Table::orders();
        let mut pipeline = Pipeline::start().await;
        let text = "0123456789".repeat(430_000);
        let records = pipeline.produce(&[orders.create(), orders.insert(json!({"id": 1, "v": text})).at(10)]);
        for batch in msk::batches(&records, 1).unwrap() {
            let payload = msk::event(batch);
            assert_eq!(answer(&pipeline.invoke_ingest(payload).await), NOTHING_FAILED);
        }
        pipeline.merge().await;
        let rows = pipeline.rows(&orders).await;
        assert!(rows.len() == 1 && rows[0][1].as_deref() == Some(text.as_str()), "the text is another one");
    });
}
