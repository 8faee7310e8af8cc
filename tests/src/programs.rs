//! The built programs: made once per test process with cargo, in the profile of the test itself, so that `cargo test` works in a fresh
//! clone and never runs yesterday's functions.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// What tests run.
const PROGRAMS: [&str; 4] = ["ingest", "merge", "strait", "poller"];

/// The folder of the programs `ingest`, `merge`, `strait` and `poller`.
///
/// # Panics
/// When cargo cannot build them; the text holds what it said.
#[must_use]
pub fn folder() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(build);
    &FOLDER
}

/// A program by its name.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    folder().join(name)
}

fn build() -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    // target/[triple/]profile/deps/test-0123456789abcdef
    let folder = executable.parent().and_then(Path::parent).unwrap().to_path_buf();
    let target = executable.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    let target = target.unwrap_or_else(|| panic!("{} lies in no target folder of cargo's", executable.display()));
    let below: Vec<&str> = folder.strip_prefix(target).unwrap().iter().map(|part| part.to_str().unwrap()).collect();
    let (triple, profile) = match below.as_slice() {
        [profile] => (None, *profile),
        [triple, profile] => (Some(*triple), *profile),
        _ => panic!("{} is not where cargo puts tests", executable.display()),
    };

    // By `tests/run.py`, a moment ago.
    if std::env::var_os("TEST_PROGRAMS").is_some_and(|programs| programs == "built") {
        return folder;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // The features of a whole build, so that nothing is compiled a second time with others.
    command.args(["build", "--workspace", "--quiet"]);
    command.args(PROGRAMS.iter().flat_map(|program| ["--bin", program])).arg("--profile");
    command.arg(if profile == "debug" { "dev" } else { profile });
    command.arg("--target-dir").arg(target).current_dir(crate::repository());
    if let Some(triple) = triple {
        command.args(["--target", triple]);
    }
    // Cargo tells a test about the test's own package; a build script that looks would run anew.
    for (name, _) in std::env::vars_os() {
        let is_of_package =
            name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR");
        if is_of_package {
            command.env_remove(name);
        }
    }
    let output = command.output().unwrap_or_else(|error| panic!("cannot run cargo to build the functions: {error}"));
    assert!(
        output.status.success(),
        "the programs cannot be built; cargo says:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    folder
}
