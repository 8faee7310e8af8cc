//! The templates: what `sam deploy` would create, checked after SAM's own transformation, with mistakes planted in every class of check;
//! and the functions as deployed (to moto, which stands for AWS) run on an MSK event, with the environment that the deployment gave them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use strait::config::{Config, CredentialSource, DefaultValue, VARIABLES};
use strait_cli::embedded_bigquery::EmbeddedBigQuery;
use strait_cli::embedded_bigquery::environment::{build_output, virtual_environment};
use strait_cli::runtime_api::{Function, FunctionSettings};
use strait_tests::history::Table;
use strait_tests::pipeline::{NOTHING_FAILED, Pipeline, answer};
use strait_tests::{event, programs, repository, run};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// The project that the deployment is for; a template refuses shorter ones.
const DEPLOYED_PROJECT: &str = "strait-e2e";

async fn python() -> PathBuf {
    let folder = build_output().with_file_name("template");
    let requirements = std::fs::read_to_string(repository().join("tests/template/requirements.txt")).unwrap();
    virtual_environment(&folder, &requirements, "samtranslator", &|step| eprintln!("{step}"))
        .await
        .expect("the linters")
}

/// A script of `tests/template`, with nothing of this process's environment but where programs are found.
async fn script(name: &str) -> Command {
    let mut command = Command::new(python().await);
    command
        .arg("-B")
        .arg(repository().join("tests/template").join(name))
        .env_clear()
        .envs(["PATH", "HOME", "TMPDIR"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Every metric of a function's log, with its dimensions' names: what CloudWatch would make of its lines.
fn metrics(log: &str) -> BTreeSet<(String, Vec<String>)> {
    let mut found = BTreeSet::new();
    for line in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        for directive in line.pointer("/_aws/CloudWatchMetrics").and_then(Value::as_array).into_iter().flatten() {
            assert_eq!(directive["Namespace"], "Strait");
            for dimensions in directive["Dimensions"].as_array().unwrap() {
                let names: Vec<String> =
                    dimensions.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
                assert!(names.iter().all(|name| line[name].is_string()), "a dimension without a value: {line}");
                for metric in directive["Metrics"].as_array().unwrap() {
                    found.insert((metric["Name"].as_str().unwrap().to_owned(), names.clone()));
                }
            }
        }
    }
    found
}

fn as_facts(metrics: &BTreeSet<(String, Vec<String>)>) -> Value {
    metrics.iter().map(|(name, dimensions)| json!({"name": name, "dimensions": dimensions})).collect()
}

/// Every `errorType` in the crate's source: what `fn error_type` answers, and what errors are made with.
fn error_types() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![repository().join("shared/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let product = text.split("#[cfg(test)]").next().unwrap();
            for part in product.split("InvocationError::new(").skip(1) {
                found.extend(quoted_name(part.trim_start()));
            }
            for part in product.split("fn error_type(").skip(1) {
                let body = part.split("\n    }\n").next().unwrap();
                found.extend(body.split("=> ").skip(1).filter_map(quoted_name));
            }
        }
    }
    found
}

fn quoted_name(text: &str) -> Option<String> {
    let name = text.strip_prefix('"')?.split('"').next()?;
    name.chars().all(|c| c.is_ascii_alphanumeric()).then(|| name.to_owned())
}

/// The binaries of the workspace's packages.
async fn binaries() -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(repository())
        .output()
        .await
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let targets =
        metadata["packages"].as_array().unwrap().iter().flat_map(|package| package["targets"].as_array().unwrap());
    targets
        .filter(|target| target["kind"][0] == "bin")
        .map(|target| target["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_templates_keep_their_promises_and_a_mistake_of_every_kind_is_found() {
    run(async {
        // What the functions emit, by running them: a change, and a table that the merge makes of it.
        let orders = Table::orders();
        let mut pipeline = Pipeline::start().await;
        pipeline.send(&[orders.create(), orders.insert(json!({"id": 1, "v": "a"}).to_string()).at(10)]).await;
        pipeline.merge().await;
        let (ingest, merge) = (metrics(&pipeline.ingest.log()), metrics(&pipeline.merge.log()));
        assert!(merge.contains(&("MergedRecords".to_owned(), vec!["Function".to_owned(), "Table".to_owned()])));
        let error_types = error_types();
        assert!(
            error_types.len() > 25 && error_types.contains("TablesFailed") && error_types.contains("SecretRefused")
        );
        let variables: Vec<Value> = VARIABLES
            .iter()
            .map(|variable| {
                let default = match variable.default {
                    DefaultValue::Text(text) => Some(text),
                    DefaultValue::Required | DefaultValue::Unset => None,
                };
                json!({"name": variable.name, "default": default})
            })
            .collect();
        let facts = json!({
            "variables": variables,
            "metrics": {"ingest": as_facts(&ingest), "merge": as_facts(&merge)},
            "error_types": error_types,
            "binaries": binaries().await,
        });

        let mut child = script("check.py").await.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(facts.to_string().as_bytes()).await.unwrap();
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success(), "the check ended with {}", output.status);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let lines = |name: &str| -> Vec<String> {
            answer[name].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
        };
        assert!(lines("findings").is_empty(), "{}", lines("findings").join("\n"));
        assert!(lines("missed").is_empty(), "{}", lines("missed").join("\n"));
        assert!(answer["planted"].as_u64().unwrap() > 40);
    });
}

/// A stack on moto; it goes with this value.
struct Deployment {
    _moto: Child,
    answer: Value,
}

impl Deployment {
    /// Deploys the template with these parameters beside the required ones.
    async fn make(parameters: &Value) -> Self {
        let mut moto = script("deploy.py").await.arg(parameters.to_string()).spawn().unwrap();
        let mut lines = BufReader::new(moto.stdout.take().unwrap()).lines();
        let line =
            tokio::time::timeout(Duration::from_secs(180), lines.next_line()).await.expect("a deployment").unwrap();
        let answer: Value = serde_json::from_str(&line.expect("the deployment failed; see above")).unwrap();
        let empty = json!([]);
        assert_eq!((&answer["missing"], &answer["unexpected"]), (&empty, &empty), "moto made other resources");
        eprintln!("not deployed, because moto cannot: {}", answer["left_out"]);
        Self { _moto: moto, answer }
    }

    fn function(&self, name: &str) -> &Value {
        &self.answer["functions"][name]
    }

    fn environment(&self, name: &str) -> BTreeMap<String, String> {
        serde_json::from_value(self.function(name)["environment"].clone()).unwrap()
    }

    /// The built program as deployed. Overridden are only BigQuery's two addresses, which are the emulator's; the AWS SDK is told, as
    /// Lambda would, the region and the role's credentials, and beside them that AWS is moto.
    async fn start(&self, name: &str, program: &str, bigquery: &EmbeddedBigQuery) -> Function {
        let mut environment = self.environment(name);
        for (variable, value) in [
            ("STRAIT_BIGQUERY_REST_URL", bigquery.rest_url.as_str()),
            ("STRAIT_BIGQUERY_GRPC_URL", &bigquery.grpc_url),
            ("AWS_ENDPOINT_URL", self.answer["endpoint"].as_str().unwrap()),
            ("AWS_REGION", self.answer["region"].as_str().unwrap()),
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", "testing"),
        ] {
            environment.insert(variable.to_owned(), value.to_owned());
        }
        let settings = FunctionSettings {
            name: name.to_owned(),
            binary: programs::program(program),
            environment,
            timeout: Duration::from_secs(self.function(name)["timeout"].as_u64().unwrap()),
            memory_mb: self.function(name)["memory"].as_u64().unwrap().try_into().unwrap(),
            log_file: None,
        };
        Function::start(settings).await.unwrap()
    }
}

#[test]
fn the_functions_as_deployed_bring_an_msk_event_into_a_final_table() {
    run(async {
        let bigquery = EmbeddedBigQuery::start(DEPLOYED_PROJECT, &|step| eprintln!("{step}"));
        let parameters = json!({"credential": "secret"});
        let (bigquery, deployment) = tokio::join!(bigquery, Deployment::make(&parameters));
        let bigquery = bigquery.unwrap();
        assert_eq!(
            deployment.answer["retention"],
            json!({"/aws/lambda/strait-ingest": 30, "/aws/lambda/strait-merge": 30})
        );
        let ingest = deployment.start("strait-ingest", "ingest", &bigquery).await;
        let merge = deployment.start("strait-merge", "merge", &bigquery).await;

        for name in ["msk-control-create-table.json", "msk-update.json"] {
            let outcome = ingest.invoke(event(name)).await.unwrap().outcome;
            assert_eq!(answer(&outcome), NOTHING_FAILED, "{}", ingest.log());
        }
        let outcome = merge.invoke(event("scheduled.json")).await.unwrap().outcome;
        let merged: Value = serde_json::from_str(answer(&outcome)).unwrap();
        assert_eq!(merged["tables"][0]["outcome"], "merged", "{merged}");
        let rows = bigquery.query("SELECT CAST(`id` AS STRING) FROM `replica.shop_orders`").await.unwrap().rows;
        assert_eq!(rows, [[Some("1001".to_owned())]]);

        // Alarms look for these values of the dimension.
        for (function, name) in [(&ingest, "strait-ingest"), (&merge, "strait-merge")] {
            let log = function.log();
            let of_function = format!(r#""Function":"{name}""#);
            let lines: Vec<&str> = log.lines().filter(|line| line.contains("CloudWatchMetrics")).collect();
            assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(&of_function)), "{log}");
            for line in log.lines() {
                let line: Value = serde_json::from_str(line).expect("a line that is not JSON");
                assert!(
                    line["request_id"].as_str().is_some_and(|id| id.len() == 36),
                    "a line without its request: {line}"
                );
            }
        }
    });
}

#[test]
fn the_environment_of_a_deployment_by_federation_is_what_the_code_reads() {
    run(async {
        let provider = "projects/123/locations/global/workloadIdentityPools/aws/providers/strait";
        let account = "strait@strait-e2e.iam.gserviceaccount.com";
        let parameters = json!({
            "WorkloadIdentityProvider": provider,
            "GoogleServiceAccount": account,
            "MaximumBytesBilled": "1000000000",
            "Tables": "shop.*,!shop.secrets",
        });
        let deployment = Deployment::make(&parameters).await;
        for name in ["strait-ingest", "strait-merge"] {
            let config = Config::from_vars(deployment.environment(name)).unwrap();
            assert_eq!(config.project, DEPLOYED_PROJECT);
            assert_eq!(config.max_bytes_billed, Some(1_000_000_000));
            assert!(config.tables.matches("shop", "orders") && !config.tables.matches("shop", "secrets"));
            let CredentialSource::Inline(credential) = config.credentials else {
                panic!("the credential does not stand in the environment");
            };
            let credential: Value = serde_json::from_str(&credential).unwrap();
            assert_eq!(credential["audience"], format!("//iam.googleapis.com/{provider}"));
            assert_eq!(credential["subject_token_type"], "urn:ietf:params:aws:token-type:aws4_request");
            let impersonation = credential["service_account_impersonation_url"].as_str().unwrap();
            assert!(impersonation.ends_with(&format!("/{account}:generateAccessToken")), "{impersonation}");
            assert_eq!(credential["credential_source"]["environment_id"], "aws1");
        }
    });
}
