//! The merge: which tables have news ([`plan`]), the window's rows, copied once for many tables
//! ([`delta`]), what they come to per key ([`fold`]), the one MERGE
//! per table ([`statement`]), and the record of it all ([`ledger`]). Everything but [`run`], its `finals` and
//! [`work`] is plain text building without I/O. Order is the source's, by position; arrival and clocks must never decide what a row becomes.
pub mod answer;
pub mod coverage;
pub mod definition;
pub mod delta;
pub mod epoch;
pub mod final_table;
mod finals;
pub mod fold;
pub mod ledger;
mod metrics;
pub mod offsets;
pub mod partitions;
pub mod plan;
pub mod preview;
pub mod proposal;
pub mod reload;
pub mod run;
pub mod schema_change;
pub mod source_history;
pub mod statement;
pub mod types;
pub mod work;
