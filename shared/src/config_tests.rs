#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use crate::mask::MaskAction;

const EXTERNAL: &str = r#"{"type":"external_account","audience":"//iam.googleapis.com/x","credential_source":{}}"#;

fn read(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_vars(vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn with(extra: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut vars = vec![("STRAIT_PROJECT", "my-project-123"), ("STRAIT_CREDENTIALS_SECRET", "google/strait")];
    vars.extend_from_slice(extra);
    read(&vars)
}

fn problem_of(name: &str, value: &str) -> String {
    let error = with(&[(name, value)]).expect_err(name);
    let found: Vec<&Problem> = error.problems.iter().filter(|p| p.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {error}");
    assert_eq!(error.problems.len(), 1, "{name}: {error}");
    found.first().unwrap().text.clone()
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = with(&[]).unwrap();
    assert_eq!(config.location, "US");
    assert_eq!(config.log_table.to_string(), "cdc.log");
    assert_eq!(config.merges_table.to_string(), "cdc.merges");
    assert_eq!(config.quarantine_table.to_string(), "cdc.quarantine");
    assert_eq!(
        config.final_table.name_of(&SourceTable { schema: "shop".into(), table: "orders".into() }).to_string(),
        "replica.shop_orders"
    );
    assert!(config.tables.matches("any", "thing"));
    assert_eq!(config.deletes, Deletes::Hard);
    assert_eq!(config.absent_columns, AbsentColumns::Null);
    assert_eq!(config.dropped_columns, DroppedColumns::Keep);
    assert_eq!(config.debezium_without_schema, WithoutSchema::Quarantine);
    assert_eq!(config.log_retention_days, 30);
    assert_eq!(config.max_bytes_billed, None);
    assert_eq!(config.rest_url, "https://bigquery.googleapis.com/bigquery/v2");
    assert_eq!(config.grpc_url, "https://bigquerystorage.googleapis.com");
}

#[test]
fn every_problem_is_reported_at_once() {
    let error = read(&[
        ("STRAIT_LOCATION", "middle earth"),
        ("STRAIT_DELETES", "HARD"),
        ("STRAIT_LOG_RETENTION_DAYS", "0"),
        ("STRAIT_TABELS", "shop.*"),
        ("PATH", "/bin"),
    ])
    .expect_err("five problems");
    let names: Vec<&str> = error.problems.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "STRAIT_PROJECT",
            "STRAIT_LOCATION",
            "STRAIT_DELETES",
            "STRAIT_LOG_RETENTION_DAYS",
            "STRAIT_CREDENTIALS_SECRET",
            "STRAIT_TABELS"
        ]
    );
    let text = error.to_string();
    assert!(text.contains("STRAIT_DELETES: \"HARD\" is not `hard` or `soft`"), "{text}");
}

#[test]
fn an_empty_value_counts_as_not_set() {
    let config = with(&[("STRAIT_LOCATION", ""), ("STRAIT_MASK", ""), ("STRAIT_CREDENTIALS", "")]);
    assert_eq!(config.unwrap().location, "US");
}

#[test]
fn a_mask_that_cannot_be_read_or_has_no_key_is_refused() {
    assert!(problem_of("STRAIT_MASK", "shop.users.email=scramble").contains("entry 1"));
    assert!(problem_of("STRAIT_MASK", "shop.users.a.b=drop,users.email=drop").contains("entry 2"));
    let hashed = ("STRAIT_MASK", "shop.users.name=drop,shop.users.email=hash");
    let error = with(&[hashed]).unwrap_err();
    let [Problem { name, text }] = error.problems.as_slice() else { panic!("{error}") };
    assert_eq!(name, "STRAIT_MASK_KEY_SECRET");
    assert!(text.contains("STRAIT_MASK hashes"), "{error}");
    let config = with(&[hashed, ("STRAIT_MASK_KEY_SECRET", "strait/mask-key")]).unwrap();
    assert_eq!(config.mask.action("shop", "users", "email"), Some(MaskAction::Hash));
    assert!(!with(&[("STRAIT_MASK", "shop.users.email=redact")]).unwrap().mask.is_empty());
}

#[test]
fn values_out_of_range_are_refused() {
    for (name, value) in [
        ("STRAIT_LOG_RETENTION_DAYS", "3651"),
        ("STRAIT_LOG_RETENTION_DAYS", "-1"),
        ("STRAIT_LOG_RETENTION_DAYS", "30 "),
        ("STRAIT_MAX_BYTES_BILLED", "0"),
        ("STRAIT_MAX_BYTES_BILLED", "9223372036854775808"),
        ("STRAIT_PROJECT", "My Project"),
        ("STRAIT_LOG_TABLE", "log"),
        ("STRAIT_LOG_TABLE", "project.cdc.log"),
        ("STRAIT_LOG_TABLE", "cdc.`log`"),
        ("STRAIT_MERGES_TABLE", "cdc.log"),
        ("STRAIT_FINAL_TABLE", "replica"),
        ("STRAIT_FINAL_TABLE", "replica.everything"),
        ("STRAIT_FINAL_TABLE", "replica.{tabel}"),
        ("STRAIT_FINAL_TABLE", "rep`lica.{table}"),
        ("STRAIT_FINAL_TABLE", ".{table}"),
        ("STRAIT_TABLES", "orders"),
        ("STRAIT_TABLES", "shop.*,"),
        ("STRAIT_TABLES", "!"),
        ("STRAIT_ABSENT_COLUMNS", "0"),
        ("STRAIT_BIGQUERY_REST_URL", "bigquery.googleapis.com"),
        ("STRAIT_BIGQUERY_REST_URL", "https://u:p@host"),
        ("STRAIT_BIGQUERY_REST_URL", "https://host/?a=b"),
        ("STRAIT_BIGQUERY_GRPC_URL", "ftp://host"),
        ("STRAIT_BIGQUERY_GRPC_URL", "https://"),
        ("STRAIT_BIGQUERY_GRPC_URL", "https://host:99999"),
        ("STRAIT_BIGQUERY_GRPC_URL", "https://host:"),
    ] {
        problem_of(name, value);
    }
    assert_eq!(with(&[("STRAIT_MAX_BYTES_BILLED", "9223372036854775807")]).unwrap().max_bytes_billed, Some(i64::MAX));
}

#[test]
fn the_final_tables_dataset_may_depend_on_the_schema() {
    let config = with(&[("STRAIT_FINAL_TABLE", "raw_{schema}.{table}")]).unwrap();
    assert_eq!(
        config.final_table.name_of(&SourceTable { schema: "shop".into(), table: "orders".into() }).to_string(),
        "raw_shop.orders"
    );
    assert_eq!(config.final_table.fixed_dataset(), None);
    assert_eq!(with(&[]).unwrap().final_table.fixed_dataset(), Some("replica"));
}

#[test]
fn a_final_table_is_never_one_of_straits_own() {
    assert!(problem_of("STRAIT_FINAL_TABLE", "cdc.l{table}").contains("cdc.log"));
    let error = with(&[("STRAIT_FINAL_TABLE", "cdc.{table}")]).expect_err("all three");
    assert_eq!(error.problems.len(), 3);
    for apart in ["cdc.{schema}_{table}", "cdc.final_{table}", "{schema}.{table}"] {
        with(&[("STRAIT_FINAL_TABLE", apart)]).expect(apart);
    }
}

#[test]
fn a_credential_in_the_wrong_variable_is_not_echoed() {
    for variable in VARIABLES {
        for value in [r#"{"private_key":"HUSH"}"#.to_owned(), "HUSH".repeat(40)] {
            let printed = match with(&[(variable.name, &value)]) {
                Ok(_) => continue,
                Err(error) => error.to_string(),
            };
            assert!(!printed.contains("HUSH"), "{printed}");
        }
    }
}

#[test]
fn tables_are_filtered_by_globs_and_excludes_win() {
    let filter = TableFilter::parse("shop.*, crm.user?, !shop.tmp_*, !*.audit").unwrap();
    assert!(filter.matches("shop", "orders"));
    assert!(filter.matches("crm", "users"));
    assert!(!filter.matches("crm", "user"));
    assert!(!filter.matches("crm", "usersx"));
    assert!(!filter.matches("shop", "tmp_1"));
    assert!(!filter.matches("shop", "audit"));
    assert!(!filter.matches("Shop", "orders"));
    assert!(!filter.matches("shop2", "orders"));

    let only_excludes = TableFilter::parse("!shop.secret*").unwrap();
    assert!(only_excludes.matches("shop", "orders"));
    assert!(!only_excludes.matches("shop", "secrets"));

    let middle = TableFilter::parse("*.a*b*c").unwrap();
    assert!(middle.matches("", "abc"));
    assert!(middle.matches("x.y", "aXbYbZc"));
    assert!(!middle.matches("x", "aXbYbZ"));
    assert!(TableFilter::parse("*.한?").unwrap().matches("s", "한국"));
}

#[test]
fn a_hostile_glob_ends_in_time() {
    let pattern = format!("*.{}b", "a*".repeat(200));
    let filter = TableFilter::parse(&pattern).unwrap();
    assert!(!filter.matches("s", &"a".repeat(5_000)));
}

#[test]
fn a_credential_in_the_environment_is_taken_only_when_it_holds_no_secret() {
    let config = read(&[("STRAIT_PROJECT", "demo"), ("STRAIT_CREDENTIALS", EXTERNAL)]).unwrap();
    assert!(config.credentials == CredentialSource::Inline(EXTERNAL.to_owned()));

    for (json, expected) in [
        (r#"{"type":"service_account","private_key":"HUSH"}"#, "Secrets Manager"),
        (r#"{"type":"external_account","client_secret":"HUSH"}"#, "Secrets Manager"),
        (r#"{"type":"authorized_user","refresh_token":"HUSH"}"#, "external_account"),
        (r#"{"type":"HUSH"}"#, "external_account"),
        (r#"["HUSH"]"#, "not a JSON object"),
        ("HUSH", "not a JSON object"),
    ] {
        let error = read(&[("STRAIT_PROJECT", "demo"), ("STRAIT_CREDENTIALS", json)]).expect_err(json);
        assert_eq!(error.problems.len(), 1, "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("HUSH"), "{text}");
    }
}

#[test]
fn credentials_are_printed_nowhere() {
    let secret = with(&[("STRAIT_MASK_KEY_SECRET", "HUSH-key")]).unwrap();
    assert_eq!(secret.mask_key_secret.as_deref(), Some("HUSH-key"));
    let inline =
        read(&[("STRAIT_PROJECT", "demo"), ("STRAIT_CREDENTIALS", &EXTERNAL.replace("//iam", "//HUSH"))]).unwrap();
    for config in [secret, inline] {
        let printed = format!("{config:?}");
        assert!(!printed.contains("HUSH") && !printed.contains("google/strait"), "{printed}");
        assert!(printed.contains("cdc"), "{printed}");
    }
    let pasted =
        with(&[("STRAIT_MASK_KEY_SECRET", "{\"k\":\"HUSH\"}"), ("STRAIT_BIGQUERY_REST_URL", "https://HUSH@h")])
            .expect_err("two problems");
    assert_eq!(pasted.problems.len(), 2);
    assert!(!format!("{pasted} {pasted:?}").contains("HUSH"));
}

#[test]
fn a_token_never_travels_in_clear_text() {
    let clear = ("STRAIT_BIGQUERY_REST_URL", "http://bigquery.internal:9050");
    assert!(problem_of(clear.0, clear.1).contains("clear text"));
    // It does not travel at all to the machine itself.
    for url in ["http://127.0.0.1:9050/", "http://localhost:9050", "http://[::1]:9050"] {
        with(&[("STRAIT_BIGQUERY_REST_URL", url), ("STRAIT_BIGQUERY_GRPC_URL", url)]).expect(url);
    }
    assert!(problem_of("STRAIT_BIGQUERY_GRPC_URL", "http://127.0.0.1.example.com").contains("clear"));
}

#[test]
fn no_credential_is_right_only_without_encryption() {
    let emulator = [
        ("STRAIT_PROJECT", "demo"),
        ("STRAIT_BIGQUERY_REST_URL", "http://emulator:9050/bigquery/v2/"),
        ("STRAIT_BIGQUERY_GRPC_URL", "http://emulator:9060"),
    ];
    let config = read(&emulator).unwrap();
    assert!(config.credentials == CredentialSource::None);
    assert_eq!(config.rest_url, "http://emulator:9050/bigquery/v2");

    let error = read(emulator.get(..2).unwrap()).expect_err("gRPC would go to Google");
    assert_eq!(error.problems.first().unwrap().name, "STRAIT_CREDENTIALS_SECRET");
}

#[test]
fn both_credentials_are_one_too_many() {
    assert!(problem_of("STRAIT_CREDENTIALS", EXTERNAL).contains("STRAIT_CREDENTIALS_SECRET"));
}

#[test]
fn every_variable_is_known_and_named_once() {
    for variable in VARIABLES {
        assert!(variable.name.starts_with(PREFIX));
        let same = VARIABLES.iter().filter(|other| other.name == variable.name);
        assert_eq!(same.count(), 1, "{}", variable.name);
        if let Err(error) = with(&[(variable.name, "?")]) {
            assert!(error.problems.iter().all(|problem| !problem.text.contains("not a name")), "{error}");
        }
    }
}

/// A scheme is the same in capitals, but not everything that is handed an address knows that.
#[test]
fn a_scheme_in_capitals_is_made_small() {
    let config =
        with(&[("STRAIT_BIGQUERY_REST_URL", "HttpS://Example.com/V2/"), ("STRAIT_BIGQUERY_GRPC_URL", "HTTPS://h")])
            .unwrap();
    assert_eq!((config.rest_url.as_str(), config.grpc_url.as_str()), ("https://Example.com/V2", "https://h"));
}
