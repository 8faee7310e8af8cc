//! The token service and Secrets Manager fail in every way: what passes is got over, what lasts is said with what to do, and a secret
//! that was rotated is read again. No answer of theirs reaches a text.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use strait_cli::msk;
use strait_cli::runtime_api::{Function, InvocationOutcome};
use strait_tests::pipeline::{NOTHING_FAILED, function};
use strait_tests::run;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::relay::{Fault, Rule, find, http, message};
use super::shop::{LONG, Shop, in_short};

/// In every answer of theirs, in the secret and in every token.
const PLANTED: &str = "PLANTED";

/// How one of the services answers once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Status(u16, &'static str),
    Page(u16),
    Closed,
    Cut,
    Silent,
    Slow,
}

#[derive(Default)]
struct State {
    token_faults: VecDeque<Answer>,
    secret_faults: VecDeque<Answer>,
    /// The secret's version, and the oldest whose credential the token service takes.
    version: u32,
    accepted: u32,
    tokens: u32,
    secrets: u32,
}

/// Both services on one loopback port.
struct Services {
    url: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Services {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Services {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let (of_task, base) = (Arc::clone(&state), url.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&of_task), base.clone()));
            }
        });
        Self { url, state, task }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// What a function needs to find Secrets Manager here.
    fn aws(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", self.url.clone()),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "example".to_owned()),
            ("STRAIT_CREDENTIALS_SECRET", "strait/credential".to_owned()),
        ]
    }
}

fn credential(base: &str, version: u32) -> String {
    json!({
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("{base}/token/{version}"),
        "credential_source": {"url": format!("{base}/subject/{PLANTED}")}
    })
    .to_string()
}

async fn serve(mut client: TcpStream, state: Arc<Mutex<State>>, base: String) {
    let mut read = Vec::new();
    while let Ok(Some(request)) = message(&mut client, &mut read).await {
        let end = find(&request, b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&request[..end]).into_owned();
        let path = head.split_whitespace().nth(1).unwrap().to_owned();
        let (fault, answer) = {
            let mut state = state.lock().unwrap();
            if let Some(version) = path.strip_prefix("/token/") {
                state.tokens += 1;
                let answer = if version.parse::<u32>().unwrap() >= state.accepted {
                    let token = json!({"access_token": format!("{PLANTED}-token"), "token_type": "Bearer", "expires_in": 3600,
                                       "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"});
                    http(200, "application/json", &token.to_string())
                } else {
                    let refusal = json!({"error": "invalid_grant", "error_description": PLANTED});
                    http(400, "application/json", &refusal.to_string())
                };
                (state.token_faults.pop_front(), answer)
            } else if path.starts_with("/subject/") {
                (None, http(200, "text/plain", PLANTED))
            } else {
                state.secrets += 1;
                let secret = json!({"Name": "strait/credential", "SecretString": credential(&base, state.version)});
                (state.secret_faults.pop_front(), http(200, "application/x-amz-json-1.1", &secret.to_string()))
            }
        };
        let written = match fault {
            None => client.write_all(&answer).await,
            Some(Answer::Slow) => {
                tokio::time::sleep(Duration::from_millis(400)).await;
                client.write_all(&answer).await
            }
            Some(Answer::Status(status, kind)) => {
                let body = json!({"__type": kind, "error": kind, "error_description": PLANTED, "message": PLANTED});
                client.write_all(&http(status, "application/json", &body.to_string())).await
            }
            Some(Answer::Page(status)) => {
                client.write_all(&http(status, "text/html", &format!("<html>{PLANTED}"))).await
            }
            Some(Answer::Closed) => return,
            Some(Answer::Cut) => {
                let _ = client.write_all(&answer[..answer.len() - 20]).await;
                return;
            }
            Some(Answer::Silent) => std::future::pending().await,
        };
        if written.is_err() {
            return;
        }
    }
}

/// A function of the shop's, with these variables beside.
async fn with(shop: &Shop, name: &str, more: &[(&str, String)]) -> Function {
    let mut variables: BTreeMap<String, String> = shop.variables();
    let bigquery = &shop.pipeline.bigquery;
    variables.insert("STRAIT_BIGQUERY_REST_URL".to_owned(), bigquery.rest_url.clone());
    variables.insert("STRAIT_BIGQUERY_GRPC_URL".to_owned(), bigquery.grpc_url.clone());
    variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    function(name, variables, LONG).await
}

async fn ingested(shop: &mut Shop, function: &Function) -> InvocationOutcome {
    let messages = shop.changes();
    let records = shop.pipeline.produce(&messages);
    let outcome = function.invoke(msk::event(&records)).await.unwrap().outcome;
    // Whatever became of it: the poller would deliver it again.
    shop.deliver(&records).await.unwrap();
    outcome
}

fn is_done(outcome: &InvocationOutcome) -> bool {
    matches!(outcome, InvocationOutcome::Response(body) if body == NOTHING_FAILED.as_bytes())
}

fn assert_silent(function: &Function, said: &str) {
    for text in [function.log().as_str(), said] {
        assert!(!text.contains(PLANTED), "an answer is in a text: {text}");
    }
}

#[test]
fn a_token_service_that_fails_is_got_over_or_said() {
    run(async {
        let started = Instant::now();
        let services = Services::start().await;
        let mut shop = Shop::working(LONG, LONG).await.unwrap();
        let inline = [("STRAIT_CREDENTIALS", credential(&services.url, 0))];
        let mut problems = Vec::new();
        for (answer, survives) in [
            (Answer::Slow, true),
            (Answer::Closed, true),
            (Answer::Cut, true),
            (Answer::Status(429, "rate_limited"), true),
            (Answer::Status(500, "internal"), true),
            (Answer::Status(503, "unavailable"), true),
            (Answer::Page(502), true),
            (Answer::Page(200), true),
            (Answer::Status(400, "invalid_grant"), false),
            (Answer::Status(401, "invalid_client"), false),
            (Answer::Status(403, "forbidden"), false),
            (Answer::Status(404, "not_found"), false),
            (Answer::Status(409, "conflict"), false),
        ] {
            let ingest = with(&shop, "ingest", &inline).await;
            // A refusal is asked for once more.
            services
                .with(|state| state.token_faults = std::iter::repeat_n(answer, if survives { 1 } else { 2 }).collect());
            let outcome = ingested(&mut shop, &ingest).await;
            let (kind, text) = in_short(&outcome);
            assert_silent(&ingest, &text);
            if survives != is_done(&outcome) {
                problems.push(format!("{answer:?}: {kind}: {text}"));
            }
            let is_clear = kind == "GoogleCredentials" && text.contains("What to do: check STRAIT_CREDENTIALS");
            if !survives && !is_clear {
                problems.push(format!("{answer:?}: said as {kind}: {text}"));
            }
            // The same process recovers.
            let outcome = ingested(&mut shop, &ingest).await;
            if !is_done(&outcome) {
                problems.push(format!("{answer:?}: the next invocation: {:?}", in_short(&outcome)));
            }
        }
        shop.merge().await.unwrap();
        shop.check().await.unwrap();
        println!("token service: 13 faults in {} s", started.elapsed().as_secs());
        assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    });
}

#[test]
fn a_secret_that_cannot_be_read_is_got_over_or_said() {
    run(async {
        let started = Instant::now();
        let services = Services::start().await;
        let mut shop = Shop::working(LONG, LONG).await.unwrap();
        // Waited for meanwhile, because it takes as long as a cold start may.
        let silent_services = Services::start().await;
        silent_services.with(|state| state.secret_faults = std::iter::repeat_n(Answer::Silent, 10).collect());
        let never_answered = with(&shop, "ingest", &silent_services.aws()).await;
        let mut problems = Vec::new();
        let refused = "SecretRefused";
        for (answer, times, error_type, part) in [
            (Answer::Slow, 1, None, ""),
            (Answer::Closed, 1, None, ""),
            (Answer::Status(500, "InternalServiceError"), 1, None, ""),
            (Answer::Status(503, "ServiceUnavailable"), 1, None, ""),
            (Answer::Status(400, "ThrottlingException"), 1, None, ""),
            (Answer::Page(502), 1, None, ""),
            (Answer::Cut, 1, None, ""),
            (Answer::Status(400, "AccessDeniedException"), 1, Some(refused), "secretsmanager:GetSecretValue"),
            (Answer::Status(400, "ResourceNotFoundException"), 1, Some(refused), "ResourceNotFoundException"),
            (Answer::Status(400, "UnrecognizedClientException"), 1, Some(refused), "UnrecognizedClientException"),
            (Answer::Closed, 10, Some("SecretsManagerUnreachable"), "strait/credential"),
        ] {
            services.with(|state| state.secret_faults = std::iter::repeat_n(answer, times).collect());
            let ingest = with(&shop, "ingest", &services.aws()).await;
            let outcome = ingested(&mut shop, &ingest).await;
            services.with(|state| state.secret_faults.clear());
            let (kind, text) = in_short(&outcome);
            assert_silent(&ingest, &text);
            let is_right = match error_type {
                None => is_done(&outcome),
                Some(error_type) => kind == error_type && text.contains(part),
            };
            if !is_right {
                problems.push(format!("{answer:?} × {times}: {kind}: {text}"));
            }
            // Lambda starts a new process.
            let outcome = ingested(&mut shop, &ingest).await;
            if !is_done(&outcome) {
                problems.push(format!("{answer:?} × {times}: the next invocation: {:?}", in_short(&outcome)));
            }
        }
        let (kind, text) = in_short(&never_answered.invoke("{}").await.unwrap().outcome);
        if kind != "SecretsManagerUnreachable"
            || !text.contains("Secrets Manager could not be reached for the secret strait/credential")
        {
            problems.push(format!("silent: {kind}: {text}"));
        }
        shop.merge().await.unwrap();
        shop.check().await.unwrap();
        println!("Secrets Manager: 12 faults in {} s", started.elapsed().as_secs());
        assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    });
}

/// A process lives for hours: it must not need a new start to take up the secret's new version.
#[test]
fn a_rotated_secret_is_read_again() {
    run(async {
        let services = Services::start().await;
        let mut shop = Shop::working(LONG, LONG).await.unwrap();
        let mut variables = services.aws().to_vec();
        variables.push(("STRAIT_BIGQUERY_GRPC_URL", shop.relay.grpc_url.clone()));
        let ingest = with(&shop, "ingest", &variables).await;
        assert!(is_done(&ingested(&mut shop, &ingest).await));
        assert_eq!(services.with(|state| (state.secrets, state.tokens)), (1, 1));
        services.with(|state| {
            state.version = 1;
            state.accepted = 1;
        });
        // The token at hand goes on until BigQuery refuses it.
        assert!(is_done(&ingested(&mut shop, &ingest).await));
        assert_eq!(services.with(|state| state.secrets), 1);
        let refused = Rule { method: Some("AppendRows".to_owned()), what: None, step: 0, fault: Fault::Grpc(16) };
        shop.relay.arm(refused);
        let outcome = ingested(&mut shop, &ingest).await;
        assert!(is_done(&outcome), "{:?}", in_short(&outcome));
        assert_eq!(services.with(|state| state.secrets), 2);
        assert_eq!(ingest.starts(), 1);

        // One that is wrong is asked for once in each invocation, and said.
        services.with(|state| state.accepted = 2);
        shop.relay.arm(Rule { method: Some("AppendRows".to_owned()), what: None, step: 0, fault: Fault::Grpc(16) });
        let messages = shop.changes();
        let records = shop.pipeline.produce(&messages);
        for _ in 0..2 {
            let (kind, text) = in_short(&ingest.invoke(msk::event(&records)).await.unwrap().outcome);
            assert_eq!(kind, "GoogleCredentials", "{text}");
            assert!(text.contains("What to do: check STRAIT_CREDENTIALS or STRAIT_CREDENTIALS_SECRET"), "{text}");
            assert_silent(&ingest, &text);
        }
        assert_eq!(services.with(|state| state.secrets), 4);
        services.with(|state| state.version = 2);
        assert!(is_done(&ingest.invoke(msk::event(&records)).await.unwrap().outcome));
        assert_eq!(ingest.starts(), 1);
        shop.merge().await.unwrap();
        shop.check().await.unwrap();
    });
}
