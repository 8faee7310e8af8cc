//! Row images: every value in the text in which DMS would have sent it, all else to the letter.
//! It must never leave a value out unnoticed, nor hand one on in an encoding that nobody can tell any more.

use std::borrow::Cow;

use crate::json_text::{self, Edit, EditError};

use super::schema::TableSchema;
use super::value::{Decoded, ValueFault, decode_without_schema};

/// An image whose values are in DMS's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalisedImage<'a> {
    /// Its JSON text; borrowed where nothing had to be changed.
    pub text: Cow<'a, str>,
    /// Whether values are left out that were not sent because they did not change.
    pub is_partial: bool,
    /// The first value that could not be decoded; it stands as it was received.
    pub fault: Option<ImageFault>,
}

/// A column whose value could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column \"{column}\": {fault}")]
pub struct ImageFault {
    /// Its name at the source.
    pub column: String,
    fault: ValueFault,
}

/// Puts an image's values into DMS's text. The image has to be valid JSON.
///
/// # Errors
/// When a member's name cannot be read, or the text is no object.
pub fn normalise<'a>(
    image: &'a str,
    schema: &TableSchema,
    may_be_partial: bool,
) -> Result<NormalisedImage<'a>, EditError> {
    let mut place = 0;
    normalise_by(image, |name, value| match schema.encoding(name, &mut place) {
        Some(encoding) => encoding.decode(value, may_be_partial),
        None => Err(ValueFault::NotOfForm("of a column that the record's schema has")),
    })
}

/// The same without a schema, for values that say what they are: decimals as numbers, times and bytes as the text that they stand for.
///
/// # Errors
/// As [`normalise`].
pub fn normalise_without_schema(image: &str, may_be_partial: bool) -> Result<NormalisedImage<'_>, EditError> {
    normalise_by(image, |_, value| decode_without_schema(value, may_be_partial))
}

fn normalise_by(
    image: &str,
    mut decode: impl FnMut(&str, &str) -> Result<Decoded, ValueFault>,
) -> Result<NormalisedImage<'_>, EditError> {
    let (mut is_partial, mut first_fault) = (false, None);
    let text = json_text::edit_members(image, |name, value| match decode(name, value) {
        Ok(Decoded::AsReceived) => Edit::Keep,
        Ok(Decoded::Text(text)) => Edit::Replace(text),
        Ok(Decoded::Unavailable) => {
            is_partial = true;
            Edit::Remove
        }
        Err(fault) => {
            first_fault.get_or_insert_with(|| ImageFault { column: name.to_owned(), fault });
            Edit::Keep
        }
    })?;
    Ok(NormalisedImage { text, is_partial, fault: first_fault })
}

/// Of a row's image from before a change the members whose values are others after it: all that tells whether a key changed, whichever
/// columns the final table's key has. The log need not hold every row twice.
///
/// # Errors
/// As [`normalise`].
pub fn changed_members<'a>(before: &'a str, after: &str) -> Result<Cow<'a, str>, EditError> {
    let mut now: Vec<(String, &str)> = Vec::new();
    json_text::edit_members(after, |name, value| {
        now.push((name.to_owned(), value));
        Edit::Keep
    })?;
    let mut place = 0_usize;
    json_text::edit_members(before, |name, value| {
        let next = now.get(place).filter(|(now, _)| now == name);
        place = place.saturating_add(1);
        let found = next.or_else(|| now.iter().find(|(now, _)| now == name));
        match found {
            Some((_, now)) if *now != value => Edit::Keep,
            // The same, or not known to be another.
            _ => Edit::Remove,
        }
    })
}
