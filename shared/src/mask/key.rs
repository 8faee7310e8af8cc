//! The key of `hash`, and what exactly is hashed: a value's meaning, not the way in which it was written, so that equal values
//! stay equal across tables, operations and restarts. `docs/masks.md` has the same in words; the two are held together by a test.
//! It must never show a key, nor a value.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::json_text::unquoted;

/// A key of less than the hash's own length weakens it (RFC 2104, section 3).
const KEY_BYTES_AT_LEAST: usize = 32;
/// A number of more digits than this is hashed as it was written: no database has one, and writing `1e999999999` out would
/// exhaust the memory.
const NUMBER_DIGITS_AT_MOST: i64 = 2_000;

/// Why a secret's text is no mask key. Never the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MaskKeyError {
    /// Too short.
    #[error(
        "is shorter than {KEY_BYTES_AT_LEAST} bytes; make one with `openssl rand -hex 32`, and keep it: with another key \
         every hash is another"
    )]
    TooShort,
    /// Begins or ends with white space, which the next person to store it would lose.
    #[error("begins or ends with white space, a line's end perhaps; store the key alone")]
    Padded,
    /// What the console makes of a key and its value.
    #[error("is a JSON object; store the key as plain text, not as a key/value pair")]
    JsonObject,
}

/// The key of HMAC-SHA-256 (RFC 2104).
#[derive(Clone)]
pub struct MaskKey(Hmac<Sha256>);

impl fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskKey(..)")
    }
}

/// The text of a value holds half a surrogate pair, which no UTF-8 can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoneSurrogate;

impl MaskKey {
    /// The key is the text's bytes, to the letter.
    ///
    /// # Errors
    /// When the text is none that should be a key; the text is not in the error.
    pub fn from_secret(text: &str) -> Result<Self, MaskKeyError> {
        if text.trim() != text {
            return Err(MaskKeyError::Padded);
        }
        if text.starts_with('{') {
            return Err(MaskKeyError::JsonObject);
        }
        if text.len() < KEY_BYTES_AT_LEAST {
            return Err(MaskKeyError::TooShort);
        }
        // HMAC takes a key of any length.
        Hmac::new_from_slice(text.as_bytes()).map(Self).map_err(|_| MaskKeyError::TooShort)
    }

    /// The hash of a JSON value that is not `null`, as 64 hexadecimal digits in lower case.
    ///
    /// # Errors
    /// When it is a string that UTF-8 cannot hold.
    pub fn hash(&self, value: &str) -> Result<String, LoneSurrogate> {
        let hashed = hashed_text(value)?;
        let mut mac = self.0.clone();
        mac.update(hashed.as_bytes());
        let mut hex = String::with_capacity(64);
        for byte in mac.finalize().into_bytes() {
            // Writing to a `String` cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Ok(hex)
    }
}

/// What is hashed of a JSON value: a string's characters; a number in plain decimal notation; anything else as it stands
/// there.
fn hashed_text(value: &str) -> Result<Cow<'_, str>, LoneSurrogate> {
    match value.bytes().next() {
        Some(b'"') => unquoted(value).ok_or(LoneSurrogate),
        Some(b'-' | b'0'..=b'9') => Ok(plain_decimal(value).map_or(Cow::Borrowed(value), Cow::Owned)),
        _ => Ok(Cow::Borrowed(value)),
    }
}

/// A JSON number without exponent, without zeros at the end of its fraction, without a sign if it is zero: `1.50`, `15e-1` and
/// `1.5` are one number. It is BigQuery's `CAST(… AS STRING)` of INT64 and NUMERIC. `None` if it would be very long.
fn plain_decimal(number: &str) -> Option<String> {
    let (sign, unsigned) = match number.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", number),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let leading_zeros = digits.len().saturating_sub(digits.trim_start_matches('0').len());
    let significant = digits.trim_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    // Where the point stands, counted from before the first significant digit.
    let point = i64::try_from(whole.len())
        .ok()?
        .checked_sub(i64::try_from(leading_zeros).ok()?)?
        .checked_add(exponent)
        .filter(|point| point.abs() <= NUMBER_DIGITS_AT_MOST)?;
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
    let length = i64::try_from(significant.len()).ok()?;
    Some(if point <= 0 {
        format!("{sign}0.{}{significant}", zeros(point.saturating_neg()))
    } else if point >= length {
        format!("{sign}{significant}{}", zeros(point.saturating_sub(length)))
    } else {
        let (before, after) = significant.split_at_checked(usize::try_from(point).ok()?)?;
        format!("{sign}{before}.{after}")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn key() -> MaskKey {
        MaskKey::from_secret(KEY).unwrap()
    }

    /// Computed by Python, as `docs/masks.md` shows:
    /// `hmac.new(KEY.encode(), "ada@example.com".encode(), hashlib.sha256).hexdigest()`.
    #[test]
    fn hashes_are_those_that_python_computes() {
        for (value, hash) in [
            (r#""ada@example.com""#, "35388a70fac9997cbb89e65a85aaf69e5e6637bc6572addbf8d5ba60415f2ef6"),
            ("4111111111111111", "1b2abf2c57549abd52c326380e98d1484debd39b2a94e52219f4d79058b7e904"),
            (r#""윤서준""#, "9fc0c18b3bae84f407348c7bc2a25b8ece9c4f99d5f44f8768b98bc6dddad867"),
            (r#""""#, "081247dc68bb7fafbf13220013a0ab71db8b628d679161f87b5e5bd9e19b1494"),
            ("true", "5be4d917c0815f3242005bdbaa07ac3bd18c20261df30932a6cc85cb94fff146"),
        ] {
            assert_eq!(key().hash(value).unwrap(), hash, "{value}");
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/masks.md");
        let page = std::fs::read_to_string(path).unwrap();
        let shown = key().hash(r#""ada@example.com""#).unwrap();
        assert!(page.contains(&format!("{KEY} ada@example.com\n{shown}\n")), "the page shows another hash");
    }

    #[test]
    fn one_value_has_one_hash_however_it_is_written() {
        for (one, other) in [
            ("1.50", "15e-1"),
            ("100", "1.00E+2"),
            ("-0", "0.000"),
            ("1234567.8", "1234567.80"),
            ("0.00012", "1.2e-4"),
            ("42", r#""42""#),
            (r#""caf\u00e9""#, r#""café""#),
            (r#""\ud83d\ude00""#, r#""😀""#),
            (r#""a\/b\tc""#, r#""a/b\u0009c""#),
        ] {
            assert_eq!(key().hash(one), key().hash(other), "{one} {other}");
        }
        for (one, other) in [("1", "10"), ("1", "-1"), ("1.5", "15"), ("1e400", "1e401"), (r#""""#, r#""null""#)] {
            assert_ne!(key().hash(one), key().hash(other), "{one} {other}");
        }
        // Beyond every database: as they are written, and without a gigabyte of zeros.
        assert_ne!(key().hash("1e999999999999"), key().hash("1e99999999999"));
    }

    #[test]
    fn half_a_surrogate_pair_is_refused() {
        assert_eq!(key().hash(r#""\ud83d""#), Err(LoneSurrogate));
    }

    #[test]
    fn what_is_no_key_is_refused_and_never_shown() {
        for (text, error) in [
            ("HUSH", MaskKeyError::TooShort),
            ("HUSH456789abcdef0123456789abcdef\n", MaskKeyError::Padded),
            (r#"{"key":"HUSH456789abcdef0123456789abcdef"}"#, MaskKeyError::JsonObject),
        ] {
            assert_eq!(MaskKey::from_secret(text).unwrap_err(), error);
            assert!(!error.to_string().contains("HUSH"));
        }
        assert_eq!(format!("{:?}", key()), "MaskKey(..)");
    }

    proptest! {
        /// Against the exact arithmetic of integers: sign, digits and exponent make one number, however it is split.
        #[test]
        fn plain_decimals_are_the_same_number(negative: bool, digits in 0_u64.., point in 0_usize..25, exponent in -30_i64..30) {
            let sign = if negative { "-" } else { "" };
            let padded = format!("{digits:025}");
            let (whole, fraction) = padded.split_at(padded.len() - point);
            let whole = match whole.trim_start_matches('0') { "" => "0", whole => whole };
            let dot = if fraction.is_empty() { "" } else { "." };
            let plain = plain_decimal(&format!("{sign}{whole}{dot}{fraction}e{exponent}")).unwrap();
            // digits × 10^(exponent − point), scaled so that both are integers.
            let scale = 60;
            let scaled = |text: &str| -> String {
                let (sign, text) = text.strip_prefix('-').map_or(("", text), |text| ("-", text));
                let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
                let integer = format!("{whole}{fraction:0<scale$}");
                format!("{sign}{}", integer.trim_start_matches('0'))
            };
            let shift = usize::try_from(60 + exponent - i64::try_from(point).unwrap()).unwrap();
            let expected = if digits == 0 { String::new() } else { format!("{sign}{digits}{}", "0".repeat(shift)) };
            prop_assert_eq!(scaled(&plain), expected, "{}", plain);
            prop_assert!(!plain.contains(['e', 'E']) && !plain.ends_with('.') && (!plain.contains('.') || !plain.ends_with('0')));
        }
    }
}
