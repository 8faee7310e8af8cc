//! From the configuration to the two ways to BigQuery. Only here the credential's text passes through; it goes no further.

use std::sync::Arc;

use async_trait::async_trait;

use super::append::{AppendClient, AppendSettings};
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
    connect_with(config, AppendSettings::default()).await
}

/// The same with other settings for rows, but for their root certificate, which is that of the environment.
///
/// # Errors
/// As [`connect`].
pub async fn connect_with(config: &Config, settings: AppendSettings) -> Result<Connections, InvocationError> {
    let tokens = token_source(config).await?;
    let further_roots = further_roots()?;
    let settings = AppendSettings { root_certificate: further_roots.clone(), ..settings };
    let appends = AppendClient::with_settings(&config.grpc_url, Arc::clone(&tokens), settings)?;
    let rest =
        BigQuery::with_roots(&config.rest_url, &config.project, &config.location, tokens, further_roots.as_deref())
            .await?;
    Ok(Connections { rest, appends })
}

/// The standard variable for root certificates, which the AWS SDK follows, too. Here they are added to the built-in ones: for a
/// private endpoint, or a proxy that opens TLS, whose certificate no public authority signed.
const CERTIFICATE_FILE: &str = "SSL_CERT_FILE";

fn further_roots() -> Result<Option<Vec<u8>>, InvocationError> {
    let Some(path) = std::env::var_os(CERTIFICATE_FILE).filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    match std::fs::read(&path) {
        Ok(pem) => Ok(Some(pem)),
        Err(error) => Err(InvocationError::new(
            ErrorKind::InvalidRequest.error_type(),
            format!(
                "{CERTIFICATE_FILE}: {} cannot be read ({error}). Expected a file of root certificates in PEM",
                path.display()
            ),
        )),
    }
}

async fn token_source(config: &Config) -> Result<Arc<dyn TokenSource>, InvocationError> {
    match &config.credentials {
        CredentialSource::None => Ok(Arc::new(NoToken)),
        CredentialSource::Inline(json) => {
            let variable = "STRAIT_CREDENTIALS";
            checked(GoogleCredentials::from_json(json), variable).await
        }
        CredentialSource::Secret(id) => {
            let json = secrets::fetch(id).await?;
            let variable = "STRAIT_CREDENTIALS_SECRET";
            checked(GoogleCredentials::from_store(&json, Secret(id.clone())), variable).await
        }
    }
}

/// What is wrong with a credential on the face of it keeps the function from starting, rather than every invocation from working.
async fn checked(
    credentials: Result<GoogleCredentials, Error>,
    variable: &str,
) -> Result<Arc<dyn TokenSource>, InvocationError> {
    let wrong = |error: Error| in_variable(&error, variable);
    let credentials = credentials.map_err(wrong)?;
    credentials.check().await.map_err(wrong)?;
    Ok(Arc::new(credentials))
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
