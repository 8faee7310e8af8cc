//! `ingest` as it is deployed, but for one setting that no variable has: over TLS it sends rows uncompressed. What compression costs and
//! saves is measured between the two.

use std::process::ExitCode;

use strait::bigquery::append::AppendSettings;
use strait::bigquery::connect::connect_with;
use strait::ingest::IngestHandler;
use strait::{lambda, telemetry};

fn main() -> anyhow::Result<ExitCode> {
    lambda::install_tls();
    telemetry::init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve())
}

async fn serve() -> anyhow::Result<ExitCode> {
    let config = lambda::read_config()?;
    let settings = AppendSettings { gzip: Some(false), ..AppendSettings::default() };
    let handler = IngestHandler::new(&config, connect_with(&config, settings).await?, None)?;
    let handler = &handler;
    lambda::run(|body, invocation| async move { handler.handle(&body, &invocation).await })
        .await
        .map_err(anyhow::Error::from_boxed)?;
    Ok(ExitCode::SUCCESS)
}
