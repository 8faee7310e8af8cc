//! The merge's real statements under random histories: the handlers in this process, the embedded BigQuery behind them, hundreds of
//! histories in each source table. Runs for a budget of time (`STRAIT_SCHEDULES_SECONDS`, or `STRAIT_SCHEDULES_SECONDS_STATEMENTS`) and
//! prints each seed; `STRAIT_SCHEDULES_SEED` plays one again.

use strait_tests::run;
use strait_tests::schedules::play::{self, Level};
use strait_tests::schedules::seconds;

/// Histories for each kind of key.
const LANES: usize = 1000;

#[test]
fn the_statements_are_right_under_random_schedules() {
    run(async { Box::pin(play::run(Level::InProcess, seconds("STATEMENTS", 50), LANES, true)).await });
}
