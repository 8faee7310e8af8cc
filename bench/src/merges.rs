//! `merge` on the embedded BigQuery.

use crate::Arguments;
use crate::report::Report;

/// Sizes.
pub async fn measure_sizes(_: &Arguments, _: &mut Report) -> anyhow::Result<()> {
    Ok(())
}

/// Tables.
pub async fn measure_tables(_: &Arguments, _: &mut Report) -> anyhow::Result<()> {
    Ok(())
}
