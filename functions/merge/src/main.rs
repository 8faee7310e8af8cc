//! The `merge` function: the log to the final tables, on a schedule. It only wires; what it does is in `strait::merge`.

use std::process::ExitCode;

use strait::bigquery::connect::connect;
use strait::lambda::InvocationError;
use strait::merge::run::MergeHandler;
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
async fn set_up() -> Result<MergeHandler, InvocationError> {
    let config = lambda::read_config()?;
    let connections = connect(&config).await?;
    Ok(MergeHandler::new(config, connections))
}
