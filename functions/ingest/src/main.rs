//! The `ingest` function: Amazon MSK's events to the log in BigQuery. It only wires; what it does is in `strait::ingest`.

use std::process::ExitCode;

use strait::bigquery::connect::connect;
use strait::ingest::IngestHandler;
use strait::lambda::InvocationError;
use strait::secrets::mask_key;
use strait::{lambda, telemetry};

fn main() -> anyhow::Result<ExitCode> {
    lambda::install_tls();
    telemetry::init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve())
}

async fn serve() -> anyhow::Result<ExitCode> {
    let handler = match set_up().await {
        Ok(handler) => handler,
        Err(error) => {
            lambda::report_startup_error(&error).await;
            return Ok(ExitCode::FAILURE);
        }
    };
    let handler = &handler;
    lambda::run(|body, invocation| async move { handler.handle(&body, &invocation).await })
        .await
        .map_err(anyhow::Error::from_boxed)?;
    Ok(ExitCode::SUCCESS)
}

/// The handler, or what keeps the function from starting.
async fn set_up() -> Result<IngestHandler, InvocationError> {
    let config = lambda::read_config()?;
    let (connections, mask_key) = tokio::join!(connect(&config), mask_key(&config));
    Ok(IngestHandler::new(&config, connections?, mask_key?)?)
}
