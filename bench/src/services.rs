//! What a function asks before it writes: Secrets Manager and Google's token service, on a loopback port, and the service account whose
//! key they know. The key is made on this machine and signs for nobody.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, ensure};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Both services.
pub struct Services {
    /// `http://127.0.0.1:PORT`, for `AWS_ENDPOINT_URL`.
    pub url: String,
    /// A file with the service account's credential JSON.
    pub credential_file: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Services {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Services {
    /// Starts them; files go below `folder`.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let key = private_key(folder)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let credential = json!({
            "type": "service_account",
            "project_id": "bench",
            "private_key_id": "bench",
            "private_key": key,
            "client_email": "strait@bench.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": format!("{url}/token"),
        })
        .to_string();
        let credential_file = folder.join("service-account.json");
        std::fs::write(&credential_file, &credential)?;
        let secret = Arc::new(json!({"Name": "strait/credential", "SecretString": credential}));
        let token = json!({"access_token": "bench", "token_type": "Bearer", "expires_in": 3600});
        let routes = Router::new()
            .route("/", post(move || async move { Json(Value::clone(&secret)) }))
            .route("/token", post(move || async move { Json(token) }));
        let task = tokio::spawn(async move {
            // It ends only with its task.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { url, credential_file, task })
    }
}

/// An RSA key of 2,048 bits, as Google's keys have; made once.
fn private_key(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("service-account-key.pem");
    if !path.is_file() {
        let file = path.display().to_string();
        openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", &file])?;
    }
    Ok(std::fs::read_to_string(path)?)
}

/// Runs openssl.
pub fn openssl(arguments: &[&str]) -> anyhow::Result<()> {
    let made =
        Command::new("openssl").args(arguments).output().context("openssl is needed for keys and certificates")?;
    ensure!(made.status.success(), "openssl {}: {}", arguments.join(" "), String::from_utf8_lossy(&made.stderr));
    Ok(())
}
