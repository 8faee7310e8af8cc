//! Access tokens for BigQuery, from a credential JSON: a service account's key, or AWS → Google federation without one.
//! A token is checked against the wall clock, because a frozen function's timers and monotonic clock stand still.
//! A credential that is refused is asked for once more, read anew: a secret is rotated while a process lives for hours.
//! No token and no part of a credential may reach a log line or an error text.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::error::BQError;
use google_cloud_auth::credentials::{AccessTokenCredentials, external_account, service_account};
use serde_json::Value;

use super::error::{Error, ErrorKind};

/// Where access tokens come from.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// A token that is valid now, or `None` where none is needed (the embedded BigQuery).
    ///
    /// # Errors
    /// `Credentials` when none can be obtained, `Unreachable` when the token service cannot be reached.
    async fn token(&self) -> Result<Option<String>, Error>;

    /// Forgets the token at hand, because BigQuery refused it; the next call fetches one, with the credential read anew.
    fn invalidate(&self);
}

/// No token at all: for a plain `http://` endpoint.
#[derive(Debug, Clone, Copy)]
pub struct NoToken;

#[async_trait]
impl TokenSource for NoToken {
    async fn token(&self) -> Result<Option<String>, Error> {
        Ok(None)
    }

    fn invalidate(&self) {}
}

/// Google's tokens live an hour unless the credential says otherwise
/// (<https://cloud.google.com/docs/authentication/token-types#access>).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);
/// A token is replaced this long before its end, so that it outlives the calls that an invocation makes with it.
const MARGIN: Duration = Duration::from_secs(300);
/// A token is fetched in well under a second; the library's own retries have no end.
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);
/// Rows and jobs, nothing else of Google Cloud.
const SERVICE_ACCOUNT_SCOPE: &str = "https://www.googleapis.com/auth/bigquery";
/// The token service takes only this one for a federated identity; what it may do, IAM decides
/// (<https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token>).
const FEDERATED_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// A way to obtain one new token, with the length of its life.
#[async_trait]
trait FetchToken: Send + Sync {
    /// `is_after_refusal`: BigQuery has refused a token since the last one was obtained.
    async fn fetch(&self, is_after_refusal: bool) -> Result<(String, Duration), Error>;
}

struct CachedToken {
    token: String,
    obtained: SystemTime,
    expires: SystemTime,
}

/// Tokens kept until shortly before the end of their life, by the wall clock.
struct TokenCache<F> {
    fetch: F,
    clock: fn() -> SystemTime,
    cached: Mutex<Option<CachedToken>>,
    is_refused: AtomicBool,
    /// Callers that find no token wait for the one fetch that is under way.
    fetching: tokio::sync::Mutex<()>,
}

impl<F: FetchToken> TokenCache<F> {
    fn new(fetch: F, clock: fn() -> SystemTime) -> Self {
        Self {
            fetch,
            clock,
            cached: Mutex::new(None),
            is_refused: AtomicBool::new(false),
            fetching: tokio::sync::Mutex::new(()),
        }
    }

    fn cached(&self) -> MutexGuard<'_, Option<CachedToken>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn valid(&self) -> Option<String> {
        let now = (self.clock)();
        // By a clock that was set back a token would seem to live for longer than it does.
        let is_valid = |cached: &&CachedToken| cached.obtained <= now && now + MARGIN < cached.expires;
        self.cached().as_ref().filter(is_valid).map(|cached| cached.token.clone())
    }

    async fn token(&self) -> Result<Option<String>, Error> {
        if let Some(token) = self.valid() {
            return Ok(Some(token));
        }
        let _one_at_a_time = self.fetching.lock().await;
        if let Some(token) = self.valid() {
            return Ok(Some(token));
        }
        // Counted from before the fetch: the token is not younger than that.
        let asked = (self.clock)();
        let (token, lifetime) = self.fetch.fetch(self.is_refused.load(Ordering::SeqCst)).await?;
        self.is_refused.store(false, Ordering::SeqCst);
        *self.cached() = Some(CachedToken { token: token.clone(), obtained: asked, expires: asked + lifetime });
        Ok(Some(token))
    }

    fn invalidate(&self) {
        self.is_refused.store(true, Ordering::SeqCst);
        *self.cached() = None;
    }
}

/// What a credential JSON is.
#[derive(Clone, Copy)]
enum CredentialType {
    ServiceAccount,
    ExternalAccount,
}

/// A credential JSON that has been understood.
#[derive(Clone)]
struct Credential {
    json: Value,
    credential_type: CredentialType,
}

/// Where a credential JSON can be read anew.
#[async_trait]
pub trait CredentialStore: Send + Sync {
    /// The credential JSON as it is now; `None` where it cannot be read just now, which the store has said.
    async fn read(&self) -> Option<String>;
}

struct GoogleFetch {
    credential: Mutex<Credential>,
    store: Option<Box<dyn CredentialStore>>,
}

#[async_trait]
impl FetchToken for GoogleFetch {
    async fn fetch(&self, is_after_refusal: bool) -> Result<(String, Duration), Error> {
        let mut credential = self.credential().clone();
        // A service account's token is signed here, with any key: that the key was rotated only BigQuery says.
        let newer = if is_after_refusal { self.read_anew().await? } else { None };
        let is_newest = newer.is_some();
        credential = newer.unwrap_or(credential);
        let token = match credential.fetch().await {
            // Rotated, perhaps. The library also calls it a refusal when an answer breaks off or is a proxy's page.
            Err(error) if error.kind() == ErrorKind::Credentials && !is_newest => {
                credential = self.read_anew().await?.unwrap_or(credential);
                credential.fetch().await?
            }
            other => other?,
        };
        *self.credential() = credential;
        Ok(token)
    }
}

impl GoogleFetch {
    fn credential(&self) -> MutexGuard<'_, Credential> {
        self.credential.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_anew(&self) -> Result<Option<Credential>, Error> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        store.read().await.map(|json| Credential::from_json(&json)).transpose()
    }
}

impl Credential {
    fn from_json(json: &str) -> Result<Self, Error> {
        let wrong = |detail: &'static str| {
            Error::new(ErrorKind::Credentials, "token", "the credential JSON").with_detail(detail)
        };
        let mut json: Value = serde_json::from_str(json).map_err(|_| wrong("it is not JSON"))?;
        let credential_type = match json.get("type").and_then(Value::as_str) {
            Some("service_account") => CredentialType::ServiceAccount,
            Some("external_account") => CredentialType::ExternalAccount,
            _ => {
                return Err(wrong("its type is neither service_account nor external_account"));
            }
        };
        drop_metadata_session(&mut json);
        Ok(Self { json, credential_type })
    }

    /// New credentials for every token. google-cloud-auth refreshes its own cache by a timer and judges it by the
    /// monotonic clock: behind a frozen function it hands out an expired token. The refresh task of credentials that
    /// were dropped ends by itself.
    fn build(&self) -> Result<AccessTokenCredentials, google_cloud_auth::build_errors::Error> {
        match self.credential_type {
            CredentialType::ServiceAccount => service_account::Builder::new(self.json.clone())
                .with_access_specifier(service_account::AccessSpecifier::from_scopes([SERVICE_ACCOUNT_SCOPE]))
                .build_access_token_credentials(),
            CredentialType::ExternalAccount => external_account::Builder::new(self.json.clone())
                .with_scopes([FEDERATED_SCOPE])
                .build_access_token_credentials(),
        }
    }

    async fn fetch(&self) -> Result<(String, Duration), Error> {
        // The build error quotes the JSON it could not read: its text is left out.
        let credentials = self.build().map_err(|_| {
            Error::new(ErrorKind::Credentials, "token", "the credential JSON")
                .with_detail("a field is missing or not readable")
        })?;
        match tokio::time::timeout(FETCH_TIMEOUT, credentials.access_token()).await {
            Ok(Ok(token)) => Ok((token.token, token_lifetime(&self.json))),
            // The library's text can hold the token service's answer, which quotes the request: only its verdict is kept.
            Ok(Err(error)) if error.is_transient() => {
                Err(Error::new(ErrorKind::Unreachable, "token", "Google's token service"))
            }
            Ok(Err(_)) => Err(match self.credential_type {
                CredentialType::ServiceAccount => Error::new(ErrorKind::Credentials, "token", "the credential JSON")
                    .with_detail("its private key cannot be read"),
                CredentialType::ExternalAccount => {
                    Error::new(ErrorKind::Credentials, "token", "Google's token service")
                        .with_detail("it refused the credential")
                }
            }),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "token", "Google's token service")),
        }
    }
}

/// Tokens from a credential JSON.
pub struct GoogleCredentials {
    cache: TokenCache<GoogleFetch>,
}

impl GoogleCredentials {
    /// From a credential JSON of type `service_account` or `external_account`. rustls's process-wide provider must
    /// have been installed.
    ///
    /// # Errors
    /// `Credentials` when it is not JSON or of another type; the text never quotes it.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        Self::new(json, None)
    }

    /// As [`Self::from_json`], of a JSON that `store` gives as it is now.
    ///
    /// # Errors
    /// As there.
    pub fn from_store(json: &str, store: impl CredentialStore + 'static) -> Result<Self, Error> {
        Self::new(json, Some(Box::new(store)))
    }

    fn new(json: &str, store: Option<Box<dyn CredentialStore>>) -> Result<Self, Error> {
        let credential = Mutex::new(Credential::from_json(json)?);
        Ok(Self { cache: TokenCache::new(GoogleFetch { credential, store }, SystemTime::now) })
    }

    /// What can be told of the credential without calling anybody: of a service account's whether its key can sign.
    ///
    /// # Errors
    /// `Credentials`.
    pub async fn check(&self) -> Result<(), Error> {
        let credential_type = self.cache.fetch.credential().credential_type;
        match credential_type {
            CredentialType::ServiceAccount => self.cache.token().await.map(|_| ()),
            CredentialType::ExternalAccount => Ok(()),
        }
    }
}

/// On Lambda the function's role is in its environment and there is no instance metadata service. With this field,
/// which Google's generator writes by default, the library asks that service first and fails.
fn drop_metadata_session(credential: &mut Value) {
    if let Some(source) = credential.get_mut("credential_source").and_then(Value::as_object_mut) {
        source.remove("imdsv2_session_token_url");
    }
}

/// The life of the tokens that `credential` yields: an hour, or what an impersonated service account is asked for.
fn token_lifetime(credential: &Value) -> Duration {
    credential
        .pointer("/service_account_impersonation/token_lifetime_seconds")
        .and_then(Value::as_u64)
        .map_or(DEFAULT_LIFETIME, |seconds| Duration::from_secs(seconds).min(DEFAULT_LIFETIME))
}

#[async_trait]
impl TokenSource for GoogleCredentials {
    async fn token(&self) -> Result<Option<String>, Error> {
        self.cache.token().await
    }

    fn invalidate(&self) {
        self.cache.invalidate();
    }
}

/// The tokens in the form in which gcp_bigquery_client asks for them.
#[derive(Clone)]
pub(crate) struct RestAuthenticator(pub(crate) Arc<dyn TokenSource>);

#[async_trait]
impl Authenticator for RestAuthenticator {
    async fn access_token(&self) -> Result<String, BQError> {
        // The callers have asked for a token just before and kept its error; here it comes from the cache.
        // The library sends an Authorization header in any case: without a token it says so.
        match self.0.token().await {
            Ok(token) => Ok(token.unwrap_or_else(|| "none".to_owned())),
            Err(_) => Err(BQError::NoToken),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may fail by panicking.
mod tests {
    use std::sync::atomic::AtomicU64;

    use axum::http::StatusCode;

    use super::*;

    static SECONDS: AtomicU64 = AtomicU64::new(0);

    fn clock() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(SECONDS.load(Ordering::SeqCst))
    }

    struct Counting(AtomicU64);

    #[async_trait]
    impl FetchToken for Counting {
        async fn fetch(&self, _: bool) -> Result<(String, Duration), Error> {
            Ok((format!("token {}", self.0.fetch_add(1, Ordering::SeqCst)), DEFAULT_LIFETIME))
        }
    }

    #[tokio::test]
    async fn a_token_is_kept_until_shortly_before_its_end_by_the_wall_clock() {
        SECONDS.store(1_000_000, Ordering::SeqCst);
        let cache = TokenCache::new(Counting(AtomicU64::new(0)), clock);
        assert_eq!(cache.token().await.unwrap().unwrap(), "token 0");
        SECONDS.store(1_003_299, Ordering::SeqCst);
        assert_eq!(cache.token().await.unwrap().unwrap(), "token 0");
        // The function was frozen for an hour: no timer of this process has fired.
        SECONDS.store(1_003_300, Ordering::SeqCst);
        assert_eq!(cache.token().await.unwrap().unwrap(), "token 1");
        cache.invalidate();
        assert_eq!(cache.token().await.unwrap().unwrap(), "token 2");
        // The clock jumps an hour ahead, and back again.
        SECONDS.store(1_006_900, Ordering::SeqCst);
        assert_eq!(cache.token().await.unwrap().unwrap(), "token 3");
        SECONDS.store(1_003_300, Ordering::SeqCst);
        assert_eq!(cache.token().await.unwrap().unwrap(), "token 4");
        SECONDS.store(1_003_301, Ordering::SeqCst);
        assert_eq!(cache.token().await.unwrap().unwrap(), "token 4");
    }

    /// A new RSA key as Google's JSON has it, by openssl; its public half.
    fn service_account(key_id: &str) -> (String, Vec<u8>) {
        let openssl = |arguments: &[&str], input: &[u8]| {
            use std::io::Write as _;
            let mut child = std::process::Command::new("openssl")
                .args(arguments)
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(input).unwrap();
            child.wait_with_output().unwrap().stdout
        };
        let private = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], b"");
        let public = openssl(&["rsa", "-RSAPublicKey_out", "-outform", "DER"], &private);
        let json = serde_json::json!({
            "type": "service_account", "client_email": "strait@demo.iam.gserviceaccount.com", "project_id": "demo",
            "private_key_id": key_id, "private_key": String::from_utf8(private).unwrap(),
        });
        (json.to_string(), public)
    }

    /// Whether a token is a JWT that this key has signed, as Google would look at it.
    fn is_signed_by(token: &str, public: &[u8]) -> bool {
        use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::RSA_PKCS1_2048_8192_SHA256, public);
        key.verify(signed.as_bytes(), &signature).is_ok()
    }

    struct Store(Arc<Mutex<Vec<String>>>);

    #[async_trait]
    impl CredentialStore for Store {
        async fn read(&self) -> Option<String> {
            self.0.lock().unwrap().pop()
        }
    }

    /// Its token is signed here, so that only BigQuery's refusal tells that the key was rotated.
    #[tokio::test]
    async fn a_service_accounts_rotated_key_is_read_again_when_bigquery_refuses_the_token() {
        crate::lambda::install_tls();
        let ((old, old_public), (new, new_public)) = (service_account("old"), service_account("new"));
        let store = Arc::new(Mutex::new(vec![new]));
        let credentials = GoogleCredentials::from_store(&old, Store(Arc::clone(&store))).unwrap();
        credentials.check().await.unwrap();
        let first = credentials.token().await.unwrap().unwrap();
        assert!(is_signed_by(&first, &old_public) && !is_signed_by(&first, &new_public));
        assert_eq!(credentials.token().await.unwrap().unwrap(), first);
        assert_eq!(store.lock().unwrap().len(), 1, "read without a reason");
        credentials.invalidate();
        let second = credentials.token().await.unwrap().unwrap();
        assert!(is_signed_by(&second, &new_public));
        // The store cannot be read just now: the key at hand goes on.
        credentials.invalidate();
        let third = credentials.token().await.unwrap().unwrap();
        assert!(is_signed_by(&third, &new_public));
    }

    #[tokio::test]
    async fn a_key_that_cannot_sign_is_told_at_the_start_without_being_quoted() {
        crate::lambda::install_tls();
        let (json, _) = service_account("1");
        let broken = json.replace("-----BEGIN PRIVATE KEY-----\\n", "-----BEGIN PRIVATE KEY-----\\nPLANTED");
        assert_ne!(json, broken);
        let error = GoogleCredentials::from_json(&broken).unwrap().check().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credentials);
        let text = format!("{error} {error:?}");
        assert!(text.contains("private key cannot be read") && !text.contains("PLANTED"), "{text}");
        let lacking = r#"{"type":"service_account","private_key":"PLANTED"}"#;
        let error = GoogleCredentials::from_json(lacking).unwrap().check().await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("a field is missing") && !text.contains("PLANTED"), "{text}");
    }

    #[test]
    fn a_credential_of_another_kind_is_refused_without_being_quoted() {
        for json in ["secret-not-json", r#"{"type":"secret_type"}"#, r#"{"private_key":"secret"}"#] {
            let error = GoogleCredentials::from_json(json).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Credentials);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_metadata_session_url_is_dropped_and_the_lifetime_read() {
        let mut credential = serde_json::json!({
            "type": "external_account",
            "credential_source": {
                "environment_id": "aws1",
                "imdsv2_session_token_url": "http://169.254.169.254/latest/api/token"
            },
            "service_account_impersonation": {"token_lifetime_seconds": 900}
        });
        drop_metadata_session(&mut credential);
        assert_eq!(credential.pointer("/credential_source").unwrap(), &serde_json::json!({"environment_id": "aws1"}));
        assert_eq!(token_lifetime(&credential), Duration::from_secs(900));
        assert_eq!(token_lifetime(&serde_json::json!({})), DEFAULT_LIFETIME);
    }

    /// A token service that answers every exchange with `status` and `body`.
    async fn exchange(status: u16, body: &'static str) -> Result<Option<String>, Error> {
        crate::lambda::install_tls();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let status = StatusCode::from_u16(status).unwrap();
        let router = axum::Router::new().route("/subject", axum::routing::get(|| async { "subject" })).route(
            "/token",
            axum::routing::post(move || async move { (status, [("content-type", "application/json")], body) }),
        );
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let credential = serde_json::json!({
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": format!("{url}/token"),
            "credential_source": {"url": format!("{url}/subject")}
        });
        let source = GoogleCredentials::from_json(&credential.to_string()).unwrap();
        let result = source.token().await;
        server.abort();
        result
    }

    #[tokio::test]
    async fn a_federated_credential_is_exchanged_for_a_token() {
        let answer = r#"{"access_token":"federated","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer","expires_in":3600}"#;
        assert_eq!(exchange(200, answer).await.unwrap().unwrap(), "federated");
    }

    #[tokio::test]
    async fn a_refused_exchange_stops_and_an_unwell_service_is_tried_again_later() {
        let refused = r#"{"error":"invalid_grant","error_description":"4111"}"#;
        for (status, kind) in [(400, ErrorKind::Credentials), (503, ErrorKind::Unreachable)] {
            let error = exchange(status, refused).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{status}");
            assert!(!format!("{error} {error:?}").contains("4111"), "{error:?}");
        }
    }
}
