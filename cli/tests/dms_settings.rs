//! `strait doctor` as a person runs it, and `docs/dms-settings.md`, which is written from its table. `UPDATE_GOLDEN=1` writes it anew.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use strait_cli::dms_settings::{Place, SETTINGS};

const INTRODUCTION: &str = "\
<!-- Generated from cli/src/dms_settings.rs: UPDATE_GOLDEN=1 cargo test -p strait-cli --test dms_settings -->

# Settings of AWS DMS

What Strait promises rests on what DMS sends, and DMS's defaults do not send it. `strait doctor` reads the settings and names each one that is not as it has to be, with
what goes wrong otherwise:

```console
$ aws dms describe-endpoints > endpoints.json
$ aws dms describe-replication-tasks > tasks.json          # serverless: describe-replication-configs
$ strait doctor --dms endpoints.json tasks.json
```

It calls nobody, and takes files of settings alone, too. The exit status is 0 if nothing is unsafe, 1 if something is, 2 if a file could not be read or holds no
settings. What is not set counts as DMS's default; extra connection attributes count as settings.
";

const AFTER: &str = "
Not to be seen in these files, and needed as well: on Aurora MySQL the cluster parameters `binlog_format=ROW` and `binlog_row_image=FULL`, and binlogs kept for at least a day; on Aurora PostgreSQL
`rds.logical_replication=1`, and `REPLICA IDENTITY FULL` where updates may lack unchanged TOAST values.
";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for place in Place::ALL {
        let mut title = place.as_str().to_owned();
        title.get_mut(..1).unwrap().make_ascii_uppercase();
        write!(page, "\n## {title}\n\n| setting | default | wanted | otherwise |\n|---|---|---|---|\n").unwrap();
        for setting in SETTINGS.iter().filter(|setting| setting.place == place) {
            let group = if setting.group.is_empty() { String::new() } else { format!("{}.", setting.group) };
            let (name, wanted) = (setting.name, setting.wanted.in_words());
            writeln!(page, "| `{group}{name}` | `{}` | `{wanted}` | {} |", setting.default, setting.otherwise).unwrap();
        }
    }
    page.push_str(AFTER);
    page
}

#[test]
fn the_page_of_settings_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/dms-settings.md");
    let page = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/dms-settings.md is not what the code says: UPDATE_GOLDEN=1 writes it anew");
}

/// The exit status and what was printed.
fn doctor(content: &str) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.json");
    std::fs::write(&path, content).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_strait")).arg("doctor").arg("--dms").arg(&path).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn the_exit_status_is_the_outcome_and_no_password_is_printed() {
    let safe = r#"{"IncludeTransactionDetails":true,"IncludeControlDetails":true,"IncludeTableAlterOperations":true,"IncludeNullAndEmpty":true,
        "UseLargeIntegerValue":true,"PartitionIncludeSchemaTable":true,"IncludePartitionValue":true,"MessageFormat":"json-unformatted"}"#;
    let (status, said) = doctor(safe);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("no unsafe setting") && said.contains("not looked at: task settings"), "{said}");

    let (status, said) =
        doctor(r#"{"Broker":"b:9096","Topic":"cdc","SaslPassword":"PLANTED","IncludeControlDetails":true}"#);
    assert_eq!(status, 1, "{said}");
    for words in [
        "IncludeTransactionDetails is false (not set: DMS's default); wanted: true",
        "rows can end wrong",
        "7 unsafe settings",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
    assert!(!said.contains("PLANTED") && !said.contains("IncludeControlDetails"), "{said}");

    for (content, words) in [("{\"a\":\nPLANTED", "is not JSON (line 2)"), ("{}", "holds no DMS settings")] {
        let (status, said) = doctor(content);
        assert_eq!(status, 2, "{said}");
        assert!(said.contains(words) && !said.contains("PLANTED"), "{said}");
    }
}
