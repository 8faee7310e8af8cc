//! AWS Secrets Manager on a loopback port, as far as the functions call it: `GetSecretValue`. It counts, and it must never
//! know what a secret is for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

#[derive(Debug, Default)]
struct Secrets {
    texts: BTreeMap<String, String>,
    reads: u32,
}

/// The service. It ends with this value.
#[derive(Debug)]
pub struct SecretsManager {
    url: String,
    secrets: Arc<Mutex<Secrets>>,
    server: JoinHandle<()>,
}

impl Drop for SecretsManager {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl SecretsManager {
    /// With one secret.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(id: &str, text: &str) -> Self {
        let secrets = Arc::<Mutex<Secrets>>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(get_secret_value).with_state(Arc::clone(&secrets));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let manager = Self { url, secrets, server };
        manager.put(id, text);
        manager
    }

    /// Stores a secret's text.
    ///
    /// # Panics
    /// When a handler has panicked.
    pub fn put(&self, id: &str, text: &str) {
        self.secrets.lock().unwrap().texts.insert(id.to_owned(), text.to_owned());
    }

    /// How often a secret was read.
    ///
    /// # Panics
    /// When a handler has panicked.
    #[must_use]
    pub fn reads(&self) -> u32 {
        self.secrets.lock().unwrap().reads
    }

    /// What a function needs to find it.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", self.url.clone()),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "PLANTED-aws-secret-key".to_owned()),
        ]
    }
}

async fn get_secret_value(State(secrets): State<Arc<Mutex<Secrets>>>, body: String) -> impl IntoResponse {
    let asked: Value = serde_json::from_str(&body).unwrap_or_default();
    let mut secrets = secrets.lock().unwrap();
    secrets.reads += 1;
    let id = asked["SecretId"].as_str().unwrap_or_default();
    let (status, answer) = match secrets.texts.get(id) {
        Some(text) => (StatusCode::OK, json!({"Name": id, "SecretString": text})),
        None => (StatusCode::BAD_REQUEST, json!({"__type": "ResourceNotFoundException"})),
    };
    (status, [("content-type", "application/x-amz-json-1.1")], answer.to_string())
}
