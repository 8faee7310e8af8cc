//! `docs/google/setup.sh` against a stand-in for `gcloud` and `bq` that writes down what it is called with, and `main.tf` beside it:
//! both have to trust the same roles and grant the same few.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const STAND_IN: &str = r#"#!/usr/bin/env bash
echo "$(basename "$0") $*" >>"$CALLS"
case "$*" in
  *"projects describe"*) echo 4711 ;;
  *describe* | show*) exit "${EXISTS:-1}" ;;
  *create-cred-config*)
    for argument in "$@"; do
      [[ $argument == --output-file=* ]] && printf '{\n  "type": "external_account"\n}\n' >"${argument#*=}"
    done
    ;;
esac
exit 0
"#;

fn docs(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/google").join(file)
}

/// Whether it succeeded, what it printed, and the calls that it made.
fn set_up(arguments: &[&str], exists: bool) -> (bool, String, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["gcloud", "bq"] {
        let path = folder.path().join(name);
        std::fs::write(&path, STAND_IN).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let calls = folder.path().join("calls");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .arg(docs("setup.sh"))
        .args(arguments)
        .env("PATH", path)
        .env("CALLS", &calls)
        .env("EXISTS", if exists { "0" } else { "1" })
        .output()
        .unwrap();
    let calls = std::fs::read_to_string(&calls).unwrap_or_default();
    (output.status.success(), String::from_utf8(output.stdout).unwrap(), calls.lines().map(str::to_owned).collect())
}

const INGEST: &str = "arn:aws:iam::123456789012:role/some/path/strait-Ingest-1";
const MERGE: &str = "arn:aws:iam::123456789012:role/strait-Merge-2";

#[test]
fn two_roles_are_trusted_and_three_grants_made() {
    let (succeeded, printed, calls) = set_up(&["demo", "EU", INGEST, MERGE], false);
    assert!(succeeded, "{calls:#?}");
    assert_eq!(printed, "{  \"type\": \"external_account\"}\n");
    let trusted =
        ["strait-Ingest-1", "strait-Merge-2"].map(|role| format!("arn:aws:sts::123456789012:assumed-role/{role}"));
    let provider = calls.iter().find(|call| call.contains("create-aws")).unwrap();
    let condition = trusted.each_ref().map(|role| format!("attribute.aws_role == '{role}'")).join(" || ");
    assert!(
        provider.contains("--account-id=123456789012")
            && provider.ends_with(&format!("--attribute-condition={condition}"))
    );
    for role in &trusted {
        let member = format!(
            "principalSet://iam.googleapis.com/projects/4711/locations/global/workloadIdentityPools/strait/attribute.aws_role/{role}"
        );
        assert_eq!(calls.iter().filter(|call| call.ends_with(&member)).count(), 1, "{role}");
    }
    let granted: Vec<&str> =
        calls.iter().flat_map(|call| call.split(['`', '=', ' '])).filter(|word| word.starts_with("roles/")).collect();
    let expected = [
        "roles/iam.workloadIdentityUser",
        "roles/iam.workloadIdentityUser",
        "roles/bigquery.jobUser",
        "roles/bigquery.dataEditor",
        "roles/bigquery.dataEditor",
    ];
    assert_eq!(granted, expected);
    let on_datasets: Vec<&String> = calls.iter().filter(|call| call.contains("GRANT")).collect();
    assert!(
        on_datasets
            .iter()
            .zip(["cdc", "replica"])
            .all(|(call, name)| call.contains(&format!("ON SCHEMA `demo`.`{name}`")))
    );
    assert_eq!(calls.iter().filter(|call| call.contains("bq mk") && call.contains("--location=EU")).count(), 2);

    let terraform = std::fs::read_to_string(docs("main.tf")).unwrap();
    for role in expected {
        assert!(terraform.contains(&format!("\"{role}\"")), "{role}");
    }
    assert_eq!(terraform.matches("\"roles/").count(), 3, "one more than the script grants");
    for mapping in
        provider.split("--attribute-mapping=").nth(1).unwrap().split(" --").next().unwrap().split(",attribute")
    {
        let (_, expression) = mapping.split_once('=').unwrap();
        assert!(terraform.contains(&format!("\"{expression}\"")), "{expression}");
    }
}

#[test]
fn a_second_run_makes_nothing_anew_and_what_is_no_role_is_refused_before_anything() {
    let (succeeded, _, calls) = set_up(&["demo", "EU", MERGE], true);
    assert!(succeeded && calls.iter().any(|call| call.contains("update-aws")), "{calls:#?}");
    assert!(!calls.iter().any(|call| call.contains(" create ") || call.contains("bq mk")), "{calls:#?}");
    let other_account = "arn:aws:iam::210987654321:role/x";
    for arguments in
        [vec!["demo", "EU"], vec!["demo", "EU", "strait-Merge-2"], vec!["demo", "EU", MERGE, other_account]]
    {
        let (succeeded, _, calls) = set_up(&arguments, false);
        assert!(!succeeded && calls.is_empty(), "{arguments:?}: {calls:#?}");
    }
    let (succeeded, _, calls) = set_up(&["--remove", "demo"], true);
    assert!(succeeded && calls.iter().any(|call| call.contains("workload-identity-pools delete strait")), "{calls:#?}");
    assert!(!calls.iter().any(|call| call.contains("bq rm")), "data was removed: {calls:#?}");
}
