//! The programs that are measured beside each other, and what each is given: the built `ingest`, the same without compression, the obvious function in Rust, and two
//! in Python. All of them run under the same Runtime API and write to the same sink.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use strait_cli::embedded_bigquery::environment;
use strait_cli::runtime_api::{Function, FunctionSettings};

use crate::Arguments;
use crate::services::Services;
use crate::sink::Sink;

/// What the Python functions import.
const REQUIREMENTS: &str = include_str!("../python/requirements.txt");
/// Far above what anything takes, so that only what hangs meets it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contestant {
    /// `ingest` as deployed: TLS, gzip.
    Strait,
    /// The same, uncompressed.
    StraitWithoutGzip,
    /// `ingest` to the sink's port without TLS, where it does not compress.
    StraitPlain,
    /// gcp-bigquery-client's `insert_all` as documented.
    InsertAll,
    /// google-cloud-bigquery's `insert_rows_json`.
    PythonObvious,
    /// orjson and the Storage Write API.
    PythonBest,
    /// The same without AWS's runtime client, which parses every event with `json` before a handler sees it.
    PythonBare,
}

impl Contestant {
    /// Whether a row image reaches the log as it was received; the others parse it and render it anew.
    pub fn keeps_the_text(self) -> bool {
        matches!(self, Self::Strait | Self::StraitWithoutGzip | Self::StraitPlain)
    }
}

/// Everything that the contestants need around them.
pub struct Field {
    /// Where all rows go.
    pub sink: Sink,
    services: Services,
    folder: PathBuf,
    functions: PathBuf,
    alternatives: PathBuf,
    python: PathBuf,
}

impl Field {
    /// Starts the sink and the services and makes the Python environment, below `folder`.
    pub async fn prepare(arguments: &Arguments, folder: &Path) -> anyhow::Result<Self> {
        let observe = |step| eprintln!("         {step}");
        let python = environment::virtual_environment(folder, REQUIREMENTS, "google.cloud.bigquery", &observe).await?;
        let absolute = |path: &Path| path.canonicalize().with_context(|| path.display().to_string());
        Ok(Self {
            sink: Sink::start(folder).await?,
            services: Services::start(folder).await?,
            folder: folder.to_path_buf(),
            functions: absolute(&arguments.functions)?,
            alternatives: absolute(&arguments.alternatives)?,
            python,
        })
    }

    /// Starts a contestant's process.
    pub async fn start(&self, contestant: Contestant) -> anyhow::Result<Function> {
        let Sink { tls_url, plain_url, root_certificate, .. } = &self.sink;
        let root = root_certificate.display().to_string();
        let rest = format!("{tls_url}/bigquery/v2");
        let (binary, environment) = match contestant {
            Contestant::Strait | Contestant::StraitWithoutGzip => (
                match contestant {
                    Contestant::Strait => self.functions.join("ingest"),
                    _ => self.alternatives.join("ingest-without-gzip"),
                },
                vec![
                    ("STRAIT_PROJECT", "bench".to_owned()),
                    ("STRAIT_BIGQUERY_GRPC_URL", tls_url.clone()),
                    ("STRAIT_BIGQUERY_REST_URL", rest),
                    ("STRAIT_CREDENTIALS_SECRET", "strait/credential".to_owned()),
                    ("AWS_ENDPOINT_URL", self.services.url.clone()),
                    ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
                    ("AWS_SECRET_ACCESS_KEY", "example".to_owned()),
                    ("SSL_CERT_FILE", root),
                ],
            ),
            Contestant::StraitPlain => (
                self.functions.join("ingest"),
                vec![
                    ("STRAIT_PROJECT", "bench".to_owned()),
                    ("STRAIT_BIGQUERY_GRPC_URL", plain_url.clone()),
                    ("STRAIT_BIGQUERY_REST_URL", format!("{plain_url}/bigquery/v2")),
                ],
            ),
            Contestant::InsertAll => (
                self.alternatives.join("insert-all"),
                vec![
                    ("BIGQUERY_URL", rest),
                    ("GOOGLE_APPLICATION_CREDENTIALS", self.services.credential_file.display().to_string()),
                    ("SSL_CERT_FILE", root),
                ],
            ),
            Contestant::PythonObvious => (
                self.python_program("insert_rows_json", "-m awslambdaric insert_rows_json.handler")?,
                vec![("BIGQUERY_URL", tls_url.clone()), ("REQUESTS_CA_BUNDLE", root)],
            ),
            Contestant::PythonBest | Contestant::PythonBare => {
                let program = if contestant == Contestant::PythonBest {
                    self.python_program("append_rows", "-m awslambdaric append_rows.handler")?
                } else {
                    self.python_program("append_rows_bare", "runtime.py append_rows")?
                };
                let variables = vec![
                    ("BIGQUERY_STORAGE_TARGET", tls_url.trim_start_matches("https://").to_owned()),
                    ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", root),
                ];
                (program, variables)
            }
        };
        // No byte code in the source tree.
        let environment = environment.into_iter().chain([("PYTHONDONTWRITEBYTECODE", "1".to_owned())]);
        let environment: BTreeMap<String, String> = environment.map(|(name, value)| (name.to_owned(), value)).collect();
        let settings = FunctionSettings {
            name: "ingest".to_owned(),
            binary,
            environment,
            timeout: TIMEOUT,
            memory_mb: 512,
            log_file: None,
        };
        Ok(Function::start(settings).await?)
    }

    /// Lambda starts a function without arguments, and so does its stand-in; the shell gives its process to the interpreter.
    fn python_program(&self, name: &str, arguments: &str) -> anyhow::Result<PathBuf> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
        let program = self.folder.join(name);
        let script = format!("#!/bin/sh\ncd '{}'\nexec '{}' {arguments}\n", scripts.display(), self.python.display());
        std::fs::write(&program, script)?;
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755))?;
        Ok(program)
    }
}
