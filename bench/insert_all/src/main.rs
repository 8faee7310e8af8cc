//! What a Rust developer writes from the documentation of its crates: `lambda_runtime` with `aws_lambda_events`' `KafkaEvent`,
//! `serde_json`, and `gcp-bigquery-client`'s `insert_all`. It is there to be measured beside Strait's `ingest`, and must do neither
//! more nor less than such a function would: one table, the same columns, no retries, no poison records.

use anyhow::{Context, bail};
use aws_lambda_events::event::kafka::KafkaEvent;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gcp_bigquery_client::Client;
use gcp_bigquery_client::client_builder::ClientBuilder;
use gcp_bigquery_client::model::table_data_insert_all_request::TableDataInsertAllRequest;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::{Value, json};

/// A row of the log.
#[derive(Serialize)]
struct Row {
    source_schema: String,
    source_table: String,
    operation: String,
    data: String,
    transaction_id: Option<String>,
    committed_at: Option<String>,
    emitted_at: Option<String>,
    kafka_topic: String,
    kafka_partition: i64,
    kafka_offset: i64,
}

fn main() -> anyhow::Result<()> {
    // Where the whole workspace is built at once, reqwest is without a provider of its own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve()).map_err(anyhow::Error::from_boxed)
}

async fn serve() -> Result<(), Error> {
    let client = client().await?;
    let client = &client;
    lambda_runtime::run(service_fn(move |event| handle(client, event))).await
}

/// As documented, but for the loopback sink's address and its root certificate.
async fn client() -> anyhow::Result<Client> {
    let variable = |name: &'static str| std::env::var(name).context(name);
    let root = reqwest::Certificate::from_pem(&std::fs::read(variable("SSL_CERT_FILE")?)?)?;
    let http = reqwest::Client::builder().add_root_certificate(root).build()?;
    let mut builder = ClientBuilder::new();
    builder.with_v2_base_url(variable("BIGQUERY_URL")?).with_client(http);
    Ok(builder.build_from_service_account_key_file(&variable("GOOGLE_APPLICATION_CREDENTIALS")?).await?)
}

async fn handle(client: &Client, event: LambdaEvent<KafkaEvent>) -> Result<Value, Error> {
    let mut request = TableDataInsertAllRequest::new();
    for record in event.payload.records.into_values().flatten() {
        let message = STANDARD.decode(record.value.context("no value")?)?;
        let message: Value = serde_json::from_slice(&message)?;
        let metadata = message.get("metadata").context("no metadata")?;
        let text = |name: &str| metadata.get(name).and_then(Value::as_str).map(str::to_owned);
        let row = Row {
            source_schema: text("schema-name").unwrap_or_default(),
            source_table: text("table-name").unwrap_or_default(),
            operation: text("operation").unwrap_or_default(),
            data: message.get("data").context("no data")?.to_string(),
            transaction_id: metadata.get("transaction-id").map(Value::to_string),
            committed_at: text("commit-timestamp"),
            emitted_at: text("timestamp"),
            kafka_topic: record.topic.unwrap_or_default(),
            kafka_partition: record.partition,
            kafka_offset: record.offset,
        };
        request.add_row(None, row)?;
    }
    let answer = client.tabledata().insert_all("bench", "cdc", "log", request).await?;
    if answer.insert_errors.is_some_and(|errors| !errors.is_empty()) {
        let refused: anyhow::Result<Value> = (|| bail!("rows were refused"))();
        return Ok(refused?);
    }
    Ok(json!({"batchItemFailures": []}))
}
