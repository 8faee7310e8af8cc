//! Finds a Python that the embedded BigQuery runs on. It must never take an interpreter's name for its version: a pyenv shim called
//! `python3.13` exists and fails, and `python3` may be anything.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// The oldest Python that local-bigquery 0.4.0 runs on.
pub const OLDEST: (u32, u32) = (3, 13);

/// Names tried in every folder of PATH, the likeliest first.
const NAMES: [&str; 3] = ["python3.13", "python3.14", "python3"];

/// An interpreter answers in milliseconds; a shim that waits for something must not hang the set-up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Prints the version, and whether a virtual environment with pip can be made (Debian packages those two apart).
const PROBE: &str = "import sys, importlib.util as u; \
    print('python', sys.version_info[0], sys.version_info[1], all(u.find_spec(m) for m in ('venv', 'ensurepip')))";

/// An interpreter that ran and said its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python {
    /// The executable.
    pub path: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
}

/// No usable Python was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PythonMissing {
    /// None is new enough.
    #[error(
        "the embedded BigQuery needs Python 3.13 or newer, and none was found{}\n\
         Install one, for example: `apt install python3.13 python3.13-venv`, `brew install python@3.13`, \
         `pyenv install 3.13` or `uv python install 3.13`; then run this again.",
        tried(.found)
    )]
    TooOld {
        /// What was found instead, as `path (3.11)`.
        found: Vec<String>,
    },
    /// One is new enough, and cannot make virtual environments.
    #[error(
        "{} has no `venv` and `ensurepip`, which the embedded BigQuery is set up with.\n\
         Install them, for example: `apt install python3.13-venv`; then run this again.", .path.display()
    )]
    NoVenv {
        /// The interpreter.
        path: PathBuf,
    },
}

fn tried(found: &[String]) -> String {
    if found.is_empty() { ".".to_owned() } else { format!(" (found: {}).", found.join(", ")) }
}

/// The first usable interpreter: by name in the folders of `search_path` (the form of PATH), then among pyenv's in `home`.
///
/// # Errors
/// [`PythonMissing`] says what is there instead and what to install.
pub async fn find(search_path: &OsStr, home: Option<&Path>) -> Result<Python, PythonMissing> {
    let mut found = Vec::new();
    let mut without_venv = None;
    for path in candidates(search_path, home) {
        let Some((version, makes_environments)) = probe(&path).await else {
            continue;
        };
        if version < OLDEST {
            found.push(format!("{} ({}.{})", path.display(), version.0, version.1));
        } else if makes_environments {
            return Ok(Python { path, version });
        } else {
            without_venv.get_or_insert(path);
        }
    }
    Err(match without_venv {
        Some(path) => PythonMissing::NoVenv { path },
        None => PythonMissing::TooOld { found },
    })
}

fn candidates(search_path: &OsStr, home: Option<&Path>) -> Vec<PathBuf> {
    let folders: Vec<PathBuf> = std::env::split_paths(search_path).collect();
    let mut paths: Vec<PathBuf> =
        NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).collect();
    paths.extend(home.map(pyenv_interpreters).unwrap_or_default());
    paths.retain(|path| path.is_file());
    paths
}

/// `~/.pyenv/versions/3.13.1/bin/python3` and the like: there even when no shim is active for them.
fn pyenv_interpreters(home: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(home.join(".pyenv/versions")) else {
        return Vec::new();
    };
    let mut versions: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let minor = name
                .to_str()
                .and_then(|name| name.strip_prefix("3."))
                .and_then(|rest| rest.split('.').next())
                .and_then(|minor| minor.parse::<u32>().ok());
            minor.is_some_and(|minor| minor >= OLDEST.1)
        })
        .map(|entry| entry.path().join("bin/python3"))
        .collect();
    versions.sort();
    versions
}

async fn probe(path: &Path) -> Option<((u32, u32), bool)> {
    let mut command = Command::new(path);
    command.args(["-I", "-c", PROBE]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(ANSWER_TIMEOUT, command.output()).await.ok()?.ok()?;
    if !output.status.success() {
        return None;
    }
    let answer = String::from_utf8(output.stdout).ok()?;
    let mut words = answer.split_whitespace();
    if words.next()? != "python" {
        return None;
    }
    let version = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((version, words.next()? == "True"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn interpreter(folder: &Path, name: &str, script: &str) -> PathBuf {
        std::fs::create_dir_all(folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn a_shim_that_fails_is_passed_over_for_one_that_answers() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        interpreter(&first, "python3.13", "echo 'not installed' >&2; exit 127");
        interpreter(&first, "python3", "echo python 3 11 True");
        let good = interpreter(&second, "python3", "echo python 3 14 True");
        let path = std::env::join_paths([&first, &second]).unwrap();
        let found = find(&path, None).await.unwrap();
        assert_eq!(found, Python { path: good, version: (3, 14) });
    }

    #[tokio::test]
    async fn an_older_python_is_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        interpreter(folder.path(), "python3", "echo python 3 9 True");
        let error = find(folder.path().as_os_str(), None).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("(3.9)") && text.contains("3.13"), "{text}");
    }

    #[tokio::test]
    async fn a_python_that_lies_about_its_name_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        interpreter(folder.path(), "python3.13", "echo python 3 12 True");
        interpreter(folder.path(), "python3.14", "echo hello");
        assert!(find(folder.path().as_os_str(), None).await.is_err());
    }

    #[tokio::test]
    async fn pyenvs_own_versions_are_found_without_a_shim() {
        let home = tempfile::tempdir().unwrap();
        let versions = home.path().join(".pyenv/versions");
        interpreter(&versions.join("3.9.18/bin"), "python3", "echo python 3 9 True");
        let good = interpreter(&versions.join("3.13.2/bin"), "python3", "echo python 3 13 True");
        let found = find(OsStr::new(""), Some(home.path())).await.unwrap();
        assert_eq!(found.path, good);
    }

    #[tokio::test]
    async fn a_python_without_venv_says_which_package_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = interpreter(folder.path(), "python3", "echo python 3 13 False");
        let error = find(folder.path().as_os_str(), None).await.unwrap_err();
        assert_eq!(error, PythonMissing::NoVenv { path });
    }
}
