//! The virtual environment of the embedded BigQuery: made once, in the build output, from pinned requirements. One that was not
//! finished must never be used: a stamp is written last, and whatever has no stamp is made anew.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::python::{self, PythonMissing};

/// The packages, pinned.
const REQUIREMENTS: &str = include_str!("../../emulator/requirements.txt");
/// What starts the emulator.
const LAUNCHER: &str = include_str!("../../emulator/launcher.py");
/// Enough of pip's output to hold its error and the line before it.
const PIP_LINES_SHOWN: usize = 12;

/// A step of the set-up that a person may have to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetupStep {
    /// Another process is at it.
    WaitingForAnother,
    /// The virtual environment is being made.
    CreatingEnvironment {
        /// With this interpreter.
        python: PathBuf,
    },
    /// The packages are being downloaded and installed.
    InstallingPackages {
        /// How many.
        count: usize,
    },
    /// The emulator is being started.
    Starting,
}

impl std::fmt::Display for SetupStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WaitingForAnother => {
                write!(f, "waiting for another process that sets the embedded BigQuery up")
            }
            Self::CreatingEnvironment { python } => {
                write!(f, "making a virtual environment with {}", python.display())
            }
            Self::InstallingPackages { count } => {
                write!(f, "installing {count} packages, once")
            }
            Self::Starting => write!(f, "starting the embedded BigQuery"),
        }
    }
}

/// Is told each step as it begins.
pub type Observer<'a> = &'a (dyn Fn(SetupStep) + Send + Sync);

/// Why the virtual environment could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No Python.
    #[error(transparent)]
    Python(#[from] PythonMissing),
    /// A file or folder of the set-up.
    #[error("cannot {action} {}", .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A program of the set-up did not even start.
    #[error("cannot run {}", .program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program of the set-up failed.
    #[error("{step} failed ({status}). Its last lines:\n{tail}\nThe next run starts this step from the beginning.")]
    Step {
        /// Which.
        step: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it said last.
        tail: String,
    },
}

/// A finished virtual environment and what is kept beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Its interpreter.
    pub python: PathBuf,
    /// The launcher script.
    pub launcher: PathBuf,
    /// HOME of the emulator's process: DuckDB's extensions are linked there.
    pub home: PathBuf,
}

/// The folder of the build output for the embedded BigQuery: `target/embedded-bigquery` of the target folder that holds this
/// executable, or the user's cache folder when it was installed elsewhere.
#[must_use]
pub fn build_output() -> PathBuf {
    // Cargo marks its target folder with this file.
    let target = std::env::current_exe().ok().and_then(|executable| {
        executable.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).map(Path::to_path_buf)
    });
    let cache = || {
        std::env::var_os("XDG_CACHE_HOME")
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
            .unwrap_or_else(std::env::temp_dir)
            .join("strait")
    };
    target.unwrap_or_else(cache).join("embedded-bigquery")
}

/// Makes the embedded BigQuery's virtual environment below `root`, unless a finished one is there.
///
/// # Errors
/// As [`virtual_environment`].
pub async fn prepare(root: &Path, observe: Observer<'_>) -> Result<Environment, SetupError> {
    let python = virtual_environment(root, REQUIREMENTS, "local_bigquery", observe).await?;
    let home = root.join("home");
    create_folder(&home)?;
    let launcher = root.join(format!("launcher-{}.py", short_hash(LAUNCHER)));
    write_whole(&launcher, LAUNCHER)?;
    Ok(Environment { python, launcher, home })
}

/// Makes a virtual environment of exactly these pinned packages below `root`, unless a finished one is there, and returns
/// its interpreter. `module` is one that the packages bring.
///
/// Two processes at once: one does it, the other waits. A set-up that was interrupted is done again.
///
/// # Errors
/// [`SetupError`]; for pip with its last lines.
pub async fn virtual_environment(
    root: &Path,
    requirements: &str,
    module: &str,
    observe: Observer<'_>,
) -> Result<PathBuf, SetupError> {
    create_folder(root)?;
    let folder = root.join(format!("venv-{}", short_hash(requirements)));
    let interpreter = folder.join("bin/python");

    let _lock = lock(root, observe).await?;
    let stamp = folder.join("strait-complete");
    if stamp.is_file() && finds(&interpreter, module).await {
        return Ok(interpreter);
    }
    let python = python::find(&std::env::var_os("PATH").unwrap_or_default(), std::env::home_dir().as_deref()).await?;
    remove_folder(&folder)?;

    observe(SetupStep::CreatingEnvironment { python: python.path.clone() });
    let mut create = Command::new(&python.path);
    create.args(["-I", "-m", "venv"]).arg(&folder);
    run_step("making the virtual environment", &python.path, create).await?;

    let pinned = folder.join("requirements.txt");
    write_whole(&pinned, requirements)?;
    observe(SetupStep::InstallingPackages { count: packages(requirements) });
    let mut install = Command::new(&interpreter);
    install
        .args(["-I", "-m", "pip", "install", "--no-deps", "--no-input"])
        .args(["--disable-pip-version-check", "--no-color", "--progress-bar", "off"])
        .arg("-r")
        .arg(&pinned);
    run_step("installing the packages with pip", &interpreter, install).await?;

    write_whole(&stamp, "")?;
    Ok(interpreter)
}

/// A stamp may outlive the interpreter that the environment links to. To import what it has found would take the embedded BigQuery's a second.
async fn finds(python: &Path, module: &str) -> bool {
    let mut command = Command::new(python);
    command
        .args([
            "-I",
            "-c",
            &format!("import importlib.util, sys; sys.exit(importlib.util.find_spec('{module}') is None)"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command.status().await.is_ok_and(|status| status.success())
}

async fn run_step(step: &'static str, program: &Path, mut command: Command) -> Result<(), SetupError> {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| SetupError::Run { program: program.to_path_buf(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(SetupError::Step { step, status: output.status, tail: tail(&String::from_utf8_lossy(&said), PIP_LINES_SHOWN) })
}

/// The last lines of a text, indented as a quotation.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let skipped = all.len().saturating_sub(lines);
    let shown: Vec<String> = all.iter().skip(skipped).map(|line| format!("    {line}")).collect();
    shown.join("\n")
}

/// Held until the file is dropped; the system lets go of it when the process dies.
async fn lock(root: &Path, observe: Observer<'_>) -> Result<File, SetupError> {
    let path = root.join("lock");
    let failed = |source| SetupError::File { action: "lock", path: path.clone(), source };
    let file = File::create(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => observe(SetupStep::WaitingForAnother),
        Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
    }
    let waited = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
    waited.map_err(|ended| failed(std::io::Error::other(ended)))?.map_err(failed)
}

fn create_folder(path: &Path) -> Result<(), SetupError> {
    std::fs::create_dir_all(path).map_err(|source| SetupError::File {
        action: "create the folder",
        path: path.to_path_buf(),
        source,
    })
}

fn remove_folder(path: &Path) -> Result<(), SetupError> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(SetupError::File { action: "remove the unfinished folder", path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

/// By a rename, so that no reader ever sees half of it.
fn write_whole(path: &Path, text: &str) -> Result<(), SetupError> {
    let failed = |source| SetupError::File { action: "write", path: path.to_path_buf(), source };
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    std::fs::write(&partial, text).map_err(failed)?;
    std::fs::rename(&partial, path).map_err(failed)
}

fn packages(requirements: &str) -> usize {
    requirements.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count()
}

fn short_hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_last_lines_that_say_something() {
        assert_eq!(tail("one\n\ntwo\nthree\n\n", 2), "    two\n    three");
        assert_eq!(tail("", 2), "");
    }

    #[test]
    fn packages_are_counted_without_comments() {
        assert_eq!(packages("# pinned\na==1\n\nb==2\n"), 2);
    }
}
