//! The merge's algorithm under random histories, held to the oracle; and the oracle and the shrinker themselves, on algorithms that
//! lack one rule each.

use strait_tests::schedules::model::Rules;
use strait_tests::schedules::{oracle, play_on_model, run_model, seconds};

#[test]
fn the_algorithm_is_right_under_random_schedules() {
    let budget = seconds("MODEL", 8);
    let tally = run_model(budget, true);
    println!("model: {}", tally.in_words());
}

#[test]
fn a_missing_rule_of_reloads_is_found_and_shown_by_a_short_history() {
    let all = Rules::ALL;
    for (name, rules) in [
        ("epochs", Rules { epochs: false, ..all }),
        ("sweep", Rules { sweep: false, ..all }),
        ("waiting for partitions", Rules { patience: false, ..all }),
        ("waiting for silent partitions", Rules { silent_partitions: false, ..all }),
        ("the offset before the load's first", Rules { predecessor: false, ..all }),
        ("a first load that hides what is older", Rules { first_load_hides: false, ..all }),
        ("reopening at an operator's word", Rules { reopen_by_hand: false, ..all }),
        ("completing a row at its own position", Rules { complete_at_own_position: false, ..all }),
    ] {
        let found = (0..TRIES).find_map(|seed| play_on_model(seed, rules, true).err());
        let (short, text) = found.unwrap_or_else(|| panic!("without {name}, nothing is wrong"));
        println!("without {name}: {text}");
        let operations = oracle::operations(&short);
        assert!(operations <= 10, "without {name}: {operations} operations, after shrinking\n{text}");
    }
}

/// Histories that are played before a missing rule has to have shown.
const TRIES: u64 = 20_000;

#[test]
fn a_missing_rule_is_found_and_shown_by_a_short_history() {
    let all = Rules::ALL;
    let without_look_back = Rules { look_back: false, ..all };
    // The guard is the second line behind the look-back: what it holds off is what is wrong without both, and right without one.
    for (name, rules, beside) in [
        ("guard", Rules { guard: false, ..without_look_back }, Some(without_look_back)),
        ("look-back", without_look_back, None),
        ("split of key changes", Rules { key_split: false, ..all }, None),
        ("reach-back", Rules { reach_back: false, ..all }, None),
        ("order by position", Rules { by_position: false, ..all }, None),
        ("loads before changes", Rules { load_first: false, ..all }, None),
        ("forgetting", Rules { expiry: false, ..all }, None),
        ("emptying", Rules { empties: false, ..all }, None),
        ("what comes after it was emptied", Rules { emptied_hides: false, ..all }, None),
    ] {
        let found = (0..TRIES).find_map(|seed| {
            let is_right_beside = beside.is_none_or(|beside| play_on_model(seed, beside, false).is_ok());
            if is_right_beside { play_on_model(seed, rules, false).err() } else { None }
        });
        let (short, text) = found.unwrap_or_else(|| panic!("without {name}, nothing is wrong"));
        println!("without {name}: {text}");
        let operations = oracle::operations(&short);
        assert!(operations <= 6, "without {name}: {operations} operations, after shrinking\n{text}");
    }
}
