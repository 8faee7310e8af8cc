//! No row value, key or before-image reaches a log line or an error, whatever goes wrong with the record that carries it.

use serde_json::json;
use strait_cli::msk;
use strait_tests::history::{Message, Table};
use strait_tests::pipeline::{Pipeline, failure, of};
use strait_tests::run;

/// In every planted value, in a form that survives base64's absence, truncation at the end and JSON escapes.
const PLANTED: &str = "PLANTED";

fn assert_silent(pipeline: &Pipeline, errors: &[String]) {
    let logs = pipeline.logs();
    // The key 7070707 is a number, and cannot carry the word.
    for planted in [PLANTED, "7070707", "UExBTlRFR"] {
        for text in logs.lines().chain(errors.iter().map(String::as_str)) {
            assert!(!text.contains(planted), "a value is in a log line or an error: {text}");
        }
    }
    assert!(logs.lines().count() >= 2, "nothing was logged at all");
}

#[test]
fn what_is_merged_quarantined_or_poisoned_leaves_no_value_in_the_logs() {
    run(async {
        let people = Table::new("crm", "people")
            .column("id", "INT64")
            .column("name", "WSTRING")
            .column("born", "DATE")
            .numeric("salary", 12, 2)
            .column("active", "BOOL")
            .key(&["id"]);
        let by_name = Table::new("crm", "logins").column("name", "WSTRING").column("n", "INT32").key(&["name"]);
        let person = |id: u32, name: &str, born: &str, salary: &str| {
            json!({"id": id, "name": name, "born": born, "salary": salary, "active": true}).to_string()
        };
        let mut pipeline = Pipeline::start().await;
        pipeline
            .send(&[
                people.create(),
                by_name.create(),
                people.insert(person(7_070_707, "PLANTED-name", "2000-01-01", "1.00")).at(10),
                people.insert(person(7_070_707 + 1, "b", "PLANTED-date", "1.00")).at(11),
                people.insert(person(70, "c", "2000-01-01", "PLANTED-number")).at(12),
                people.insert(r#"{"id":71,"name":"PLANTED half \ud83d","born":null,"salary":null,"active":"PLANTED-bool"}"#).at(13),
                people.insert(json!({"id": "PLANTED-key", "name": "x"})).at(14),
                by_name.insert(json!({"name": "PLANTED-key", "n": 1})).at(15),
                by_name.key_change(json!({"name": "PLANTED-key"}), json!({"name": "PLANTED-new-key", "n": "PLANTED-int"})).at(16),
                by_name.delete(json!({"name": "PLANTED-gone", "n": 3})).at(17),
                Message::raw("PLANTED not json"),
                Message::raw(r#"{"data":{"id":"PLANTED"},"metadata":{"record-type":"PLANTED","operation":"PLANTED"}}"#),
                Message::raw(b"PLANTED\xff".to_vec()),
                Message::raw(r#"{"data":{"twice":"PLANTED","twice":"PLANTED too"},"metadata":{"record-type":"data","operation":"insert","schema-name":"crm","table-name":"people"}}"#),
            ])
            .await;
        let answers = pipeline.merge().await;
        let quarantined = of(&answers, &people).quarantined + of(&answers, &by_name).quarantined;
        assert!(quarantined >= 5, "the case has lost its point: {answers:?}");
        let answers = format!("{answers:?}");
        let reasons = pipeline.texts(&format!("SELECT reason, `column` FROM `{}`", pipeline.quarantine())).await;
        assert!(reasons.iter().all(|reason| !reason.contains(PLANTED)), "{reasons:?}");
        let poison = pipeline.texts(&format!("SELECT error FROM `{}` WHERE error IS NOT NULL", pipeline.log())).await;
        assert!(poison.iter().all(|reason| !reason.contains(PLANTED)), "{poison:?}");
        let ledger = pipeline.texts(&format!("SELECT COALESCE(reason, '') FROM `{}`", pipeline.merges())).await;
        assert_silent(&pipeline, &[answers, ledger.concat()]);
    });
}

#[test]
fn what_fails_leaves_no_value_in_the_error() {
    run(async {
        let orders = Table::orders();
        let mut pipeline = Pipeline::start().await;
        pipeline.send(&[orders.create(), orders.insert(json!({"id": 1, "v": "PLANTED-old"})).at(1)]).await;
        pipeline.merge().await;
        let records = pipeline.produce(&[orders.update(json!({"id": 7_070_707, "v": "PLANTED-new"})).at(2)]);
        let log = format!("{}_cdc/tables/log", pipeline.prefix());
        // BigQuery quotes values in its messages.
        let action =
            json!({"kind": "grpc_status", "code": "INVALID_ARGUMENT", "message": "Bad value: PLANTED-by-bigquery"});
        pipeline
            .fault(json!({"side": "grpc", "match": {"rpc": "AppendRows", "stream_regex": log}, "action": action}))
            .await;
        let mut errors = Vec::new();
        let outcome = pipeline.invoke_ingest(msk::event(&records)).await;
        errors.push(format!("{:?}", failure(&outcome)));
        pipeline.deliver(&records).await;

        let denied = json!({"error": {"code": 400, "message": "Bad int64 value: PLANTED-by-bigquery",
                            "errors": [{"reason": "invalidQuery", "message": "Bad int64 value: PLANTED-by-bigquery"}]}});
        let statement = format!("MERGE .*{}_", pipeline.prefix());
        pipeline
            .fault(json!({"side": "rest", "match": {"api": "jobs.insert", "body_regex": statement},
                          "action": {"kind": "status", "http": 400, "body": denied.to_string()}}))
            .await;
        let outcome = pipeline.invoke_merge("{}").await;
        errors.push(format!("{:?}", failure(&outcome)));
        assert!(pipeline.faults_are_used_up().await);

        // A payload that is no event, and an event that is no event of ours.
        for payload in ["PLANTED", r#"{"PLANTED": "PLANTED"}"#, r#"{"tables": "PLANTED"}"#] {
            errors.push(format!("{:?}", failure(&pipeline.invoke_ingest(payload).await)));
            errors.push(format!("{:?}", failure(&pipeline.invoke_merge(payload).await)));
        }
        assert_silent(&pipeline, &errors);
        pipeline.merge().await;
        pipeline.assert_rows(&orders, &[&["1", "PLANTED-old"], &["7070707", "PLANTED-new"]]).await;
    });
}
