//! The steps by which a final table follows its source's alterations, without rows: whose values each column holds, however many
//! alterations one run finds and wherever it is interrupted. Runs for a budget of time (`STRAIT_SCHEDULES_SECONDS_SCHEMA_MODEL`).

use strait_tests::schedules::ddl::structure;
use strait_tests::schedules::seconds;

#[test]
fn random_schedules_of_alterations_leave_every_value_in_its_column() {
    let tally = structure::run(seconds("SCHEMA_MODEL", 5));
    println!("alterations: {}", tally.in_words());
}
