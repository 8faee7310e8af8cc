//! The log table `cdc.log`: one row per change as received, and the note of what is kept out of it. Nothing here decides
//! what a change means.
pub mod batch;
pub mod kept_out;
pub mod row;
pub mod table;

pub use batch::{DEFINE_TABLE, EncodedRow, ItemIdentity, LogBatch, TRUNCATE, Tally};
pub use kept_out::{KeptOutRange, KeptOutReason};
pub use row::LogRow;
pub use table::{KEPT_OUT, LOG, kept_out_table};

/// What the topic of rows begins with that `strait verify --repair` read from the source again. No topic of Kafka's has such a name: a `/`
/// is not allowed there (<https://kafka.apache.org/documentation/#topicconfigs>, `[a-zA-Z0-9._-]`).
pub const REPAIR_TOPIC: &str = "strait-repair/";
/// What the topic of definitions begins with that `strait define` read from the source's catalogue; none of Kafka's either.
pub const DEFINE_TOPIC: &str = "strait-define/";
