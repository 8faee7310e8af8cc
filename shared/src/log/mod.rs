//! The log table `cdc.log`: one row per change as received. Nothing here decides what a change means.
pub mod row;
pub mod table;
