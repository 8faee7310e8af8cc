//! Masks: what `STRAIT_MASK` says of a column is done to its values before anything leaves AWS. [`rules`] reads what is
//! asked, [`key`] hashes, [`masker`] masks the images and definitions of a record.
//! It must never let a value through that it could not look at: what cannot be masked is refused, for the caller to keep in
//! AWS; and no value and no key may reach an error or a log line.

pub mod key;
pub mod masker;
pub mod rules;

pub use key::{MaskKey, MaskKeyError};
pub use masker::{MaskedImage, Masker, UnknownColumn};
pub use rules::{MaskAction, MaskRule, MaskRules};
