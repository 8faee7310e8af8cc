//! Secrets from AWS Secrets Manager, fetched once at cold start and only where the configuration names one.
//! It must never put a secret's content into an error or a log line.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

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
    // The SDK's default client would bring aws-lc-rs beside ring.
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts = TimeoutConfig::builder().operation_timeout(TIMEOUT).build();
    let config =
        aws_config::defaults(BehaviorVersion::latest()).http_client(http).timeout_config(timeouts).load().await;
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
