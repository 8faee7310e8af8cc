//! `poller SETTINGS`: one poller of an event source mapping, a process that may be killed at any moment. SETTINGS is
//! [`PollerSettings`] as JSON.

use anyhow::Context;
use strait_kafka_stand_in::poller::{self, PollerSettings};

fn main() -> anyhow::Result<()> {
    let settings = std::env::args().nth(1).context("what to poll is the one argument")?;
    let settings: PollerSettings = serde_json::from_str(&settings).context("the settings")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(poller::run(&settings))? {}
}
