//! The zone that a person states for a TIMESTAMP column whose source has wall-clock times without one. It must never
//! be guessed, and no text reaches a statement that is not of a zone's form.

use std::fmt;

/// How a column's description states the zone: `strait_zone=Europe/Berlin`, anywhere in it.
const MARK: &str = "strait_zone=";
/// The longest name of the time zone database has 32 bytes (America/Argentina/ComodRivadavia).
const LONGEST: usize = 40;

/// A time zone by its name in the tz database, as BigQuery takes it: `Europe/Berlin`, `UTC`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Zone {
    /// The name, and zeros after it: a column's type is copied freely.
    name: [u8; LONGEST],
}

/// A description states a zone that has no zone's form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("strait_zone= is followed by no name of a time zone such as Europe/Berlin")]
pub struct NoZone;

impl Zone {
    /// The zone that a column's description states; `None` if it states none.
    pub fn stated_in(description: &str) -> Result<Option<Self>, NoZone> {
        let Some((_, stated)) = description.split_once(MARK) else {
            return Ok(None);
        };
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+');
        let end = stated.find(|c: char| !is_of_name(c)).unwrap_or(stated.len());
        // What ends the name is the sentence's, not the name's.
        let is_end = stated
            .get(end..)
            .unwrap_or_default()
            .chars()
            .next()
            .is_none_or(|c| c.is_whitespace() || ".,;)".contains(c));
        let name = stated.get(..end).filter(|name| is_end && name.starts_with(|c: char| c.is_ascii_alphabetic()));
        let name = name.filter(|name| name.len() <= LONGEST).ok_or(NoZone)?;
        let mut bytes = [0; LONGEST];
        for (byte, given) in bytes.iter_mut().zip(name.bytes()) {
            *byte = given;
        }
        Ok(Some(Self { name: bytes }))
    }

    /// The zone's name: letters, digits and `/_-+` alone.
    pub fn name(&self) -> &str {
        std::str::from_utf8(&self.name).unwrap_or_default().trim_end_matches('\0')
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_zone_is_read_from_a_description() {
        let zone = |description: &str| Zone::stated_in(description).map(|zone| zone.map(|zone| zone.name().to_owned()));
        assert_eq!(zone("When it was ordered"), Ok(None));
        assert_eq!(zone("strait_zone=UTC").unwrap().unwrap(), "UTC");
        assert_eq!(
            zone("Local time, strait_zone=America/Argentina/ComodRivadavia.").unwrap().unwrap(),
            "America/Argentina/ComodRivadavia"
        );
        assert_eq!(zone("(strait_zone=Etc/GMT+5)").unwrap().unwrap(), "Etc/GMT+5");
        for wrong in
            ["strait_zone=", "strait_zone= UTC", "strait_zone=+01", "strait_zone=UTC' OR '", "strait_zone=Zürich"]
        {
            assert_eq!(zone(wrong), Err(NoZone), "{wrong}");
        }
        assert_eq!(zone(&format!("strait_zone={}", "A".repeat(41))), Err(NoZone));
    }
}
