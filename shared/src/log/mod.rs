//! The log table `cdc.log`: one row per change as received. Nothing here decides what a change means.
pub mod batch;
pub mod row;
pub mod table;

pub use batch::{EncodedRow, ItemIdentity, LogBatch, Tally};
pub use row::LogRow;
pub use table::LOG;
