//! `strait doctor`: reads settings of DMS and names those on which rows would be lost or wrong. It calls nobody, and it must never
//! print a setting that it does not judge.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::dms_settings::{Found, Place, find};
use crate::terminal::Terminal;

/// Why nothing could be said.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// A file.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its content. The parser's own words could quote a password.
    #[error("{} is not JSON (line {line})", .path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// Where it is no longer JSON.
        line: usize,
    },
    /// No settings.
    #[error(
        "{} holds no DMS settings: expected the output of `aws dms describe-endpoints`, `describe-replication-tasks` or \
         `describe-replication-configs`, KafkaSettings, PostgreSQLSettings, or task settings",
        .path.display()
    )]
    NoSettings {
        /// The file.
        path: PathBuf,
    },
}

/// Prints what is unsafe in the files. True if nothing is.
///
/// # Errors
/// [`DoctorError`].
pub fn run(files: &[PathBuf], terminal: &Terminal) -> Result<bool, DoctorError> {
    let mut all = Vec::new();
    for path in files {
        let found = find(&read(path)?);
        if found.is_empty() {
            return Err(DoctorError::NoSettings { path: path.clone() });
        }
        all.extend(found);
    }
    let (text, is_safe) = diagnosis(&all, terminal);
    terminal.line(text.trim_end());
    Ok(is_safe)
}

fn read(path: &Path) -> Result<Value, DoctorError> {
    let mut text = String::new();
    let outcome = if path == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = outcome.map_err(|source| DoctorError::Read { path: path.to_path_buf(), source })?;
    serde_json::from_str(&text).map_err(|error| DoctorError::NotJson { path: path.to_path_buf(), line: error.line() })
}

fn diagnosis(all: &[Found], terminal: &Terminal) -> (String, bool) {
    let mut text = String::new();
    let mut unsafe_settings = 0_usize;
    for found in all {
        let name = found.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let findings = found.findings();
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{}{name}", found.place.as_str());
        if findings.is_empty() {
            let _ = writeln!(text, "  {} every setting is as it has to be", terminal.good("✓"));
        }
        for finding in &findings {
            let setting = finding.setting;
            let path = if setting.group.is_empty() { String::new() } else { format!("{}.", setting.group) };
            let origin = if finding.is_default { " (not set: DMS's default)" } else { "" };
            let _ = writeln!(
                text,
                "  {} {path}{} is {}{origin}; wanted: {}\n      {}",
                terminal.bad("✗"),
                setting.name,
                finding.value,
                setting.wanted.in_words(),
                setting.otherwise
            );
        }
        unsafe_settings = unsafe_settings.saturating_add(findings.len());
    }
    let seen: BTreeSet<Place> = all.iter().map(|found| found.place).collect();
    for (place, command) in [
        (Place::Kafka, "aws dms describe-endpoints"),
        (Place::Task, "aws dms describe-replication-tasks (serverless: describe-replication-configs)"),
    ] {
        if !seen.contains(&place) {
            let _ = writeln!(text, "not looked at: {}; give the output of {command} as well", place.as_str());
        }
    }
    let _ = match unsafe_settings {
        0 => writeln!(text, "no unsafe setting"),
        1 => writeln!(text, "1 unsafe setting"),
        many => writeln!(text, "{many} unsafe settings"),
    };
    (text, unsafe_settings == 0)
}
