//! Random histories under random schedules through the built functions: partitions at different speeds, records that come late, batches
//! delivered again, a task that sends everything again from an earlier point, reloads, merges anywhere. At every merge each row of a
//! final table is a state that the source's row had; once all is delivered the final table equals the source.
//!
//! The same histories as those of `schedules_model` and `schedules_statements`, a hundred and more in each source table. Runs for a
//! budget of time (`STRAIT_SCHEDULES_SECONDS`, or `STRAIT_SCHEDULES_SECONDS_BUILT`) and prints each seed; `STRAIT_SCHEDULES_SEED` plays
//! one again.

use strait_tests::run;
use strait_tests::schedules::play::{self, Level};
use strait_tests::schedules::seconds;

/// Histories for each kind of key.
const LANES: usize = 400;

#[test]
fn final_tables_equal_the_source_under_random_schedules() {
    run(async { Box::pin(play::run(Level::Built, seconds("BUILT", 30), LANES, true)).await });
}
