//! From the configuration to the two ways to BigQuery. Only here the credential's text passes through; it goes no further.

use std::sync::Arc;

use async_trait::async_trait;

use super::append::AppendClient;
use super::auth::{CredentialStore, GoogleCredentials, NoToken, TokenSource};
use super::error::{Error, ErrorKind};
use super::rest::BigQuery;
use crate::config::{Config, CredentialSource};
use crate::lambda::InvocationError;
use crate::secrets;

/// Both ways to BigQuery, with the same tokens.
pub struct Connections {
    /// Jobs, tables, datasets.
    pub rest: BigQuery,
    /// Rows.
    pub appends: AppendClient,
}

/// Makes the clients. Google is not called yet; Secrets Manager is, where the configuration names a secret.
///
/// # Errors
/// When the credential cannot be fetched or read, or a URL is none.
pub async fn connect(config: &Config) -> Result<Connections, InvocationError> {
    let tokens = token_source(config).await?;
    let appends = AppendClient::new(&config.grpc_url, Arc::clone(&tokens))?;
    let rest = BigQuery::new(&config.rest_url, &config.project, &config.location, tokens).await?;
    Ok(Connections { rest, appends })
}

async fn token_source(config: &Config) -> Result<Arc<dyn TokenSource>, InvocationError> {
    match &config.credentials {
        CredentialSource::None => Ok(Arc::new(NoToken)),
        CredentialSource::Inline(json) => {
            Ok(Arc::new(GoogleCredentials::from_json(json).map_err(|error| in_variable(&error, "STRAIT_CREDENTIALS"))?))
        }
        CredentialSource::Secret(id) => {
            let json = secrets::fetch(id).await?;
            let variable = "STRAIT_CREDENTIALS_SECRET";
            let credentials = GoogleCredentials::from_store(&json, Secret(id.clone()));
            Ok(Arc::new(credentials.map_err(|error| in_variable(&error, variable))?))
        }
    }
}

/// The secret of this id, which may be rotated while the process lives.
struct Secret(String);

#[async_trait]
impl CredentialStore for Secret {
    async fn read(&self) -> Option<String> {
        match secrets::fetch(&self.0).await {
            Ok(json) => Some(json),
            Err(error) => {
                tracing::warn!(reason = %error, "the credential was refused and its secret could not be read anew");
                None
            }
        }
    }
}

fn in_variable(error: &Error, variable: &str) -> InvocationError {
    InvocationError::new(
        ErrorKind::Credentials.error_type(),
        format!("{variable}: {error}. Expected the JSON of a service_account or external_account credential"),
    )
}
