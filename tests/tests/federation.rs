//! AWS → Google without a key: the function signs a GetCallerIdentity request with its own role, Google's token service has AWS check it
//! and hands out a token. Here a loopback token service checks the signature with AWS's own signer, which shares no code with the
//! library that signs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::{Value, json};
use strait_cli::msk;
use strait_cli::runtime_api::{Function, InvocationOutcome};
use strait_tests::history::Table;
use strait_tests::pipeline::{NOTHING_FAILED, Pipeline, answer, failure, function};
use strait_tests::run;
use tokio::net::TcpListener;

const ACCESS_KEY: &str = "ASIAEXAMPLE";
const SECRET_KEY: &str = "PLANTED/wJalrXUtnFEMI+bPxRfiCYEXAMPLEKEY";
const SESSION_TOKEN: &str = "PLANTED//session+token==";
const AUDIENCE: &str = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/strait/providers/aws";
/// AWS takes a request for five minutes, and Google's token service with it.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// What the token service saw: the verdict on each exchange.
type Verdicts = Arc<Mutex<Vec<Result<(), String>>>>;

/// Google's token service; ends with this value.
struct TokenService {
    url: String,
    verdicts: Verdicts,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for TokenService {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl TokenService {
    async fn start() -> Self {
        let verdicts = Verdicts::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/token", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/token", post(exchange)).with_state(Arc::clone(&verdicts));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, verdicts, server }
    }

    fn verdicts(&self) -> Vec<Result<(), String>> {
        std::mem::take(&mut self.verdicts.lock().unwrap())
    }

    /// As `gcloud iam workload-identity-pools create-cred-config --aws` writes it.
    fn credential(&self, with_metadata_session: bool) -> String {
        let mut credential = json!({
            "type": "external_account",
            "audience": AUDIENCE,
            "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
            "token_url": self.url,
            "credential_source": {
                "environment_id": "aws1",
                "region_url": "http://169.254.169.254/latest/meta-data/placement/availability-zone",
                "url": "http://169.254.169.254/latest/meta-data/iam/security-credentials",
                "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"
            }
        });
        if with_metadata_session {
            credential["credential_source"]["imdsv2_session_token_url"] =
                json!("http://169.254.169.254/latest/api/token");
        }
        credential.to_string()
    }
}

async fn exchange(State(verdicts): State<Verdicts>, body: String) -> impl IntoResponse {
    let form: BTreeMap<String, String> = body
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect();
    let verdict = verify(&form);
    let (status, answer) = match &verdict {
        Ok(()) => (
            StatusCode::OK,
            json!({"access_token": "PLANTED-token", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                   "token_type": "Bearer", "expires_in": 3600}),
        ),
        Err(_) => {
            (StatusCode::BAD_REQUEST, json!({"error": "invalid_grant", "error_description": format!("PLANTED {body}")}))
        }
    };
    verdicts.lock().unwrap().push(verdict);
    (status, [("content-type", "application/json")], answer.to_string())
}

/// Percent-decoding, with `+` as a space.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let (byte, length) = match first {
            b'%' => (u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap(), 2),
            b'+' => (b' ', 0),
            other => (other, 0),
        };
        bytes.push(byte);
        rest = &after[length..];
    }
    String::from_utf8(bytes).unwrap()
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?}, not {wanted:?}")) }
}

/// What Google documents of the exchange (AIP-4117), and AWS of the signature.
fn verify(form: &BTreeMap<String, String>) -> Result<(), String> {
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    expect("audience", field("audience"), AUDIENCE)?;
    expect("grant_type", field("grant_type"), "urn:ietf:params:oauth:grant-type:token-exchange")?;
    expect("subject_token_type", field("subject_token_type"), "urn:ietf:params:aws:token-type:aws4_request")?;
    // The token is percent-encoded once more by itself.
    let request: Value = serde_json::from_str(&decoded(field("subject_token"))).map_err(|error| error.to_string())?;
    let url = request["url"].as_str().unwrap_or_default();
    let headers: BTreeMap<String, String> = request["headers"]
        .as_array()
        .ok_or("no headers")?
        .iter()
        .map(|header| {
            (header["key"].as_str().unwrap().to_ascii_lowercase(), header["value"].as_str().unwrap().to_owned())
        })
        .collect();
    let header = |name: &str| headers.get(name).map(String::as_str).unwrap_or_default();
    expect("method", request["method"].as_str(), Some("POST"))?;
    expect("url", url, "https://sts.us-east-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15")?;
    expect("target", header("x-goog-cloud-target-resource"), AUDIENCE)?;
    expect("session token", header("x-amz-security-token"), SESSION_TOKEN)?;
    let sent =
        jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", header("x-amz-date")).map_err(|error| error.to_string())?;
    let sent = SystemTime::from(sent.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp());
    let age = SystemTime::now().duration_since(sent).unwrap_or_else(|ahead| ahead.duration());
    expect("recent", age < CLOCK_SKEW, true)?;

    let authorization = header("authorization");
    let part =
        |name: &str| authorization.split([' ', ',']).find_map(|part| part.strip_prefix(name)).unwrap_or_default();
    let signed: Vec<&str> = part("SignedHeaders=").split(';').collect();
    expect("signed", signed.contains(&"host") && signed.contains(&"x-goog-cloud-target-resource"), true)?;
    let identity = Credentials::new(ACCESS_KEY, SECRET_KEY, Some(SESSION_TOKEN.to_owned()), None, "test").into();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("sts")
        .time(sent)
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    // The signer adds the date and the token itself.
    let signable = headers
        .iter()
        .filter(|(name, _)| signed.contains(&name.as_str()) && !name.starts_with("x-amz-"))
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let signable = SignableRequest::new("POST", url, signable, SignableBody::Bytes(b"")).unwrap();
    let (_, signature) = sign(signable, &parameters).unwrap().into_parts();
    expect("signature", part("Signature="), signature.as_str())?;
    let scope = part("Credential=");
    expect(
        "scope",
        scope.starts_with(&format!("{ACCESS_KEY}/")) && scope.ends_with("/us-east-1/sts/aws4_request"),
        true,
    )
}

/// The function of a pipeline, with a role's keys as Lambda gives them and this credential.
async fn ingest(pipeline: &Pipeline, secret_key: &str, credential: &str) -> Function {
    let bigquery = &pipeline.bigquery;
    let variables = [
        ("STRAIT_PROJECT", strait_tests::PROJECT),
        ("STRAIT_LOG_TABLE", &pipeline.log()),
        ("STRAIT_MERGES_TABLE", &pipeline.merges()),
        ("STRAIT_QUARANTINE_TABLE", &pipeline.quarantine()),
        ("STRAIT_BIGQUERY_REST_URL", &bigquery.rest_url),
        ("STRAIT_BIGQUERY_GRPC_URL", &bigquery.grpc_url),
        ("STRAIT_CREDENTIALS", credential),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", secret_key),
        ("AWS_SESSION_TOKEN", SESSION_TOKEN),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    function("ingest", variables.into(), Duration::from_secs(120)).await
}

fn assert_silent(function: &Function, outcome: &InvocationOutcome) {
    let said = format!("{}{outcome:?}", function.log());
    assert!(!said.contains("PLANTED") && !said.contains(ACCESS_KEY), "a credential is in a text: {said}");
}

#[test]
fn the_functions_role_is_exchanged_for_a_token_with_and_without_the_metadata_session() {
    run(async {
        let service = TokenService::start().await;
        let mut pipeline = Pipeline::start().await;
        let orders = Table::orders();
        // Google's generator writes the session's address, and there is no metadata service on Lambda.
        for with_metadata_session in [false, true] {
            let ingest = ingest(&pipeline, SECRET_KEY, &service.credential(with_metadata_session)).await;
            for id in 1..=2 {
                let records = pipeline.produce(&[orders.insert(json!({"id": id, "v": "a"})).at(id)]);
                let outcome = ingest.invoke(msk::event(&records)).await.unwrap().outcome;
                assert_eq!(answer(&outcome), NOTHING_FAILED);
                assert_silent(&ingest, &outcome);
            }
            assert_eq!(service.verdicts(), [Ok(())], "one exchange for both invocations");
        }
        assert_eq!(pipeline.logged().await["insert"], 4);
    });
}

#[test]
fn a_request_that_another_key_signed_is_refused_and_said() {
    run(async {
        let service = TokenService::start().await;
        let mut pipeline = Pipeline::start().await;
        let ingest = ingest(&pipeline, "PLANTED/another+key", &service.credential(true)).await;
        let records = pipeline.produce(&[Table::orders().insert(json!({"id": 1, "v": "PLANTED"})).at(1)]);
        let outcome = ingest.invoke(msk::event(&records)).await.unwrap().outcome;
        let (error_type, message) = failure(&outcome);
        assert_eq!(error_type, "GoogleCredentials", "{message}");
        assert!(message.contains("What to do: check STRAIT_CREDENTIALS"), "{message}");
        let verdicts = service.verdicts();
        let is_of_signature =
            |verdict: &Result<(), String>| verdict.as_ref().is_err_and(|words| words.starts_with("signature"));
        assert!(!verdicts.is_empty() && verdicts.iter().all(is_of_signature), "{verdicts:?}");
        assert_silent(&ingest, &outcome);
    });
}
