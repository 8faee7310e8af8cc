//! Every kind of call that the functions make meets every fault, at each step of a run; functions are killed, run out of time and run
//! twice at once; tokens and secrets fail. After each the final table equals the source, nothing is doubled, nothing is stuck.
//!
//! By default a sample within a budget of time, each with its seed: `STRAIT_FAULTS_SECONDS` for the sweep (20), `STRAIT_FAULTS_SEED` to
//! play one again. `STRAIT_FAULTS=all` goes through every combination, which takes hours; `STRAIT_FAULTS=2/8` through the second eighth of them.

mod credentials;
mod kills;
mod relay;
mod shop;
mod sweep;
mod time_limits;
mod two_merges;
