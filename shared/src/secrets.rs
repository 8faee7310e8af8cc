//! Secrets from AWS Secrets Manager, fetched once at cold start and only where the configuration names one.
//! It must never put a secret's content into an error or a log line.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader};
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use crate::config::Config;
use crate::lambda::InvocationError;
use crate::mask::MaskKey;

/// A cold start has ten seconds; Secrets Manager answers in well under one.
const TIMEOUT: Duration = Duration::from_secs(8);

/// A secret that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Secrets Manager refused: no such secret, or no permission.
    #[error(
        "the secret {id} could not be read: {code}; check its id and that the function's role may \
         secretsmanager:GetSecretValue it"
    )]
    Refused {
        /// The id that was asked for.
        id: String,
        /// AWS's error code.
        code: String,
    },
    /// Secrets Manager could not be reached.
    #[error("Secrets Manager could not be reached for the secret {id}; check the function's way to it")]
    Unreachable {
        /// The id that was asked for.
        id: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The secret is binary or empty.
    #[error("the secret {id} holds no text")]
    NotText {
        /// The id that was asked for.
        id: String,
    },
}

impl SecretError {
    /// A stable name for Lambda's `errorType`.
    #[must_use]
    pub const fn error_type(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "SecretRefused",
            Self::Unreachable { .. } => "SecretsManagerUnreachable",
            Self::NotText { .. } => "SecretNotText",
        }
    }
}

/// The text of the secret `id` (a name or an ARN), with the function's own role. Endpoints follow the SDK's
/// `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_SECRETS_MANAGER`.
///
/// # Errors
/// When it cannot be read.
pub async fn fetch(id: &str) -> Result<String, SecretError> {
    fetch_with(aws_config::defaults(BehaviorVersion::latest()), id).await
}

async fn fetch_with(loader: ConfigLoader, id: &str) -> Result<String, SecretError> {
    // The SDK's default client would bring aws-lc-rs beside ring.
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts = TimeoutConfig::builder().operation_timeout(TIMEOUT).build();
    let config = loader.http_client(http).timeout_config(timeouts).load().await;
    let client = aws_sdk_secretsmanager::Client::new(&config);
    match client.get_secret_value().secret_id(id).send().await {
        Ok(answer) => answer
            .secret_string
            .filter(|text| !text.is_empty())
            .ok_or_else(|| SecretError::NotText { id: id.to_owned() }),
        Err(SdkError::ServiceError(error)) => {
            Err(SecretError::Refused { id: id.to_owned(), code: error.err().code().unwrap_or("unknown").to_owned() })
        }
        // The answer's text could be the secret: only that it was not readable is said.
        Err(SdkError::ResponseError(_)) => {
            Err(SecretError::Refused { id: id.to_owned(), code: "unreadable answer".to_owned() })
        }
        Err(error) => Err(SecretError::Unreachable { id: id.to_owned(), source: Box::new(error) }),
    }
}

/// The key of hashed columns, if one is hashed.
///
/// # Errors
/// When the secret cannot be read or is no key; the text names the variable, and never the key.
pub async fn mask_key(config: &Config) -> Result<Option<MaskKey>, InvocationError> {
    const VARIABLE: &str = "STRAIT_MASK_KEY_SECRET";
    let Some(id) = config.mask_key_secret.as_deref().filter(|_| config.mask.need_key()) else {
        return Ok(None);
    };
    let text =
        fetch(id).await.map_err(|error| InvocationError::new(error.error_type(), format!("{VARIABLE}: {error}")))?;
    let key = MaskKey::from_secret(&text)
        .map_err(|error| InvocationError::new("MaskKey", format!("{VARIABLE}: the secret {id} {error}")))?;
    Ok(Some(key))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may fail by panicking.
mod tests {
    use aws_config::Region;
    use aws_sdk_secretsmanager::config::Credentials;
    use axum::Router;
    use axum::http::StatusCode;
    use tokio::net::TcpListener;

    use super::*;

    async fn fetch_from(status: u16, body: &'static str) -> Result<String, SecretError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let status = StatusCode::from_u16(status).unwrap();
        let kind = [("content-type", "application/x-amz-json-1.1")];
        let router = Router::new().fallback(move || async move { (status, kind, body) });
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::from_static("eu-west-1"))
            .credentials_provider(Credentials::new("id", "key", None, None, "test"))
            .endpoint_url(url);
        let result = fetch_with(loader, "strait/credential").await;
        server.abort();
        result
    }

    #[tokio::test]
    async fn a_secrets_text_is_read() {
        let text = fetch_from(200, r#"{"Name":"strait/credential","SecretString":"{\"type\":\"x\"}"}"#).await;
        assert_eq!(text.unwrap(), r#"{"type":"x"}"#);
    }

    #[tokio::test]
    async fn an_error_names_the_secret_and_what_to_do_and_never_its_content() {
        for (status, body, error_type, part) in [
            (400, r#"{"__type":"ResourceNotFoundException"}"#, "SecretRefused", "ResourceNotFoundException"),
            (400, r#"{"__type":"AccessDeniedException"}"#, "SecretRefused", "GetSecretValue"),
            (200, r#"{"SecretString":"hidden"#, "SecretRefused", "could not be read"),
            (200, r#"{"SecretBinary":"aGlkZGVu"}"#, "SecretNotText", "no text"),
        ] {
            let error = fetch_from(status, body).await.unwrap_err();
            assert_eq!(error.error_type(), error_type, "{body}");
            let text = error.to_string();
            assert!(text.contains("strait/credential") && text.contains(part), "{text}");
            assert!(!format!("{text}{error:?}").contains("hidden"), "{text}");
        }
    }
}
