//! Random alterations between random changes, on the merge's real statements: the handlers in this process, the embedded BigQuery behind
//! them, many tables at once. Runs for a budget of time (`STRAIT_SCHEDULES_SECONDS_SCHEMA_STATEMENTS`) and prints each seed;
//! `STRAIT_SCHEDULES_SEED` plays one again.

use strait_tests::run_in_process;
use strait_tests::schedules::ddl::play;
use strait_tests::schedules::play::Level;
use strait_tests::schedules::seconds;

/// Tables that are played at once: one play of so few takes half a minute.
const TABLES: usize = 4;

#[test]
fn random_schedules_of_altered_tables_end_equal_to_their_sources() {
    run_in_process(async {
        Box::pin(play::run(Level::InProcess, seconds("SCHEMA_STATEMENTS", 1), TABLES)).await;
    });
}
