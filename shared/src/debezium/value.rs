//! Values as Debezium encodes them → the text in which DMS would have sent them, so that one set of conversions holds for both.
//! What an encoding cannot say exactly is refused with the reason; no digit is rounded, and nothing of a value is in a reason.
//!
//! Encodings: <https://debezium.io/documentation/reference/stable/connectors/mysql.html#mysql-data-types> and
//! <https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-data-types>; how Kafka Connect's JSON
//! converter writes them: bytes as base64, NaN and the infinities as text.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use serde_json::value::RawValue;

use crate::json_text::{self, FromObject, unquoted};

/// What the PostgreSQL connector puts in the place of a value that was not sent because it did not change (`unavailable.value.placeholder`).
pub const PLACEHOLDER: &str = "__debezium_unavailable_value";
/// The longest unscaled decimal that is taken: far beyond what a BIGNUMERIC can hold.
const LONGEST_DECIMAL_BYTES: usize = 1_024;
/// The largest scale: PostgreSQL's numeric has up to 16,383 digits after the point.
const LARGEST_SCALE: u64 = 16_383;

/// How a column's values are encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoding {
    /// Numbers, booleans and floating point: as they are.
    Plain,
    /// `BIGINT UNSIGNED` as a signed number of 64 bits, which the schema says: what is negative is 2⁶⁴ less than it was.
    Wrapped,
    /// Text.
    Text,
    /// JSON as text; an object alone can stand for a value that is not available.
    Json,
    /// base64.
    Bytes,
    /// base64 of bits, the lowest byte first, of so many bits at most.
    Bits(Option<usize>),
    /// base64 of an unscaled number, the highest byte first, in two's complement; or a number.
    Decimal(i64),
    /// An object of `scale` and `value`.
    VariableScale,
    /// Days since 1970-01-01.
    Days,
    /// Time of day, or MySQL's duration.
    Time(Unit),
    /// A time without a zone, since 1970-01-01.
    Timestamp(Unit),
    /// A day or time of day in ISO 8601, with a Z that means nothing.
    IsoWithZ,
    /// An interval as a count: months and days cannot be told from it.
    Duration,
    /// An object of `wkb` and `srid`.
    Geometry,
    /// A list.
    List(Box<Encoding>),
    /// An object with members of its own names, or a map with values of one encoding.
    Members(Vec<(String, Encoding)>, Option<Box<Encoding>>),
    /// A semantic type that is not known.
    Unknown(String),
}

/// What a number of an encoding counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Thousandths of a second.
    Milliseconds,
    /// Millionths.
    Microseconds,
    /// Billionths.
    Nanoseconds,
}

impl Unit {
    const fn per_second(self) -> i64 {
        match self {
            Self::Milliseconds => 1_000,
            Self::Microseconds => 1_000_000,
            Self::Nanoseconds => 1_000_000_000,
        }
    }

    const fn digits(self) -> usize {
        match self {
            Self::Milliseconds => 3,
            Self::Microseconds => 6,
            Self::Nanoseconds => 9,
        }
    }
}

/// What became of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// It stays to the letter.
    AsReceived,
    /// It becomes this JSON text.
    Text(String),
    /// It was not sent, because it did not change.
    Unavailable,
}

/// Why a value cannot be decoded. Nothing of it is in the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueFault {
    /// Another form than the schema says.
    #[error("the value is not {0}")]
    NotOfForm(&'static str),
    /// A count of time from which the months cannot be told.
    #[error(
        "an interval as a number counts a month as 30.4375 days, so that the interval cannot be told from it; set the connector's \
         interval.handling.mode to string"
    )]
    Interval,
    /// A semantic type of which nothing is known.
    #[error("the semantic type {0} is not known")]
    UnknownType(String),
}

impl Encoding {
    /// Decodes a value, given as JSON text. With `may_be_unavailable` the placeholder stands for a value that was not sent.
    ///
    /// # Errors
    /// When it is not of the encoding's form, or says less than the source's value did.
    pub fn decode(&self, value: &str, may_be_unavailable: bool) -> Result<Decoded, ValueFault> {
        if value == "null" {
            return Ok(Decoded::AsReceived);
        }
        if may_be_unavailable && self.is_placeholder(value) {
            return Ok(Decoded::Unavailable);
        }
        match self {
            Self::Plain => match value.as_bytes().first() {
                Some(b'{' | b'[') => Err(ValueFault::NotOfForm("a number, true or false")),
                _ => Ok(Decoded::AsReceived),
            },
            Self::Text | Self::Json => match value.as_bytes().first() {
                Some(b'"') => Ok(Decoded::AsReceived),
                _ => Err(ValueFault::NotOfForm("text")),
            },
            Self::Wrapped => Ok(match integer(value)? {
                number @ ..0 => Decoded::Text((i128::from(number) + (1_i128 << 64)).to_string()),
                _ => Decoded::AsReceived,
            }),
            Self::Bytes => bytes(value).map(|bytes| Decoded::Text(hexadecimal(&bytes))),
            Self::Bits(length) => {
                let mut bits = bytes(value)?;
                if let Some(length) = length.filter(|length| *length <= 64) {
                    bits.resize(bits.len().max(length.div_ceil(8)), 0);
                }
                bits.reverse();
                Ok(Decoded::Text(hexadecimal(&bits)))
            }
            Self::Decimal(scale) => decimal(value, *scale),
            Self::VariableScale => {
                let FromObject::<VariableScale<'_>>(members) =
                    serde_json::from_str(value).map_err(|_| ValueFault::NotOfForm("an object of scale and value"))?;
                match decimal(members.value.get(), members.scale)? {
                    // A number would leave the object as it is.
                    Decoded::AsReceived => Err(ValueFault::NotOfForm("base64")),
                    decoded => Ok(decoded),
                }
            }
            Self::Days => {
                let mut text = String::from('"');
                push_day(&mut text, integer(value)?);
                text.push('"');
                Ok(Decoded::Text(text))
            }
            Self::Time(unit) => {
                let count = integer(value)?;
                let mut text = String::from(if count < 0 { "\"-" } else { "\"" });
                let (seconds, rest) = split(count.unsigned_abs(), unit.per_second().unsigned_abs());
                push_time(&mut text, seconds, rest, unit.digits());
                text.push('"');
                Ok(Decoded::Text(text))
            }
            Self::Timestamp(unit) => {
                let count = integer(value)?;
                let per_day = unit.per_second().saturating_mul(86_400);
                let mut text = String::from('"');
                push_day(&mut text, count.div_euclid(per_day));
                text.push('T');
                let of_day = count.rem_euclid(per_day).unsigned_abs();
                let (seconds, rest) = split(of_day, unit.per_second().unsigned_abs());
                push_time(&mut text, seconds, rest, unit.digits());
                // DMS writes a time without a zone with a Z that means nothing.
                text.push_str("Z\"");
                Ok(Decoded::Text(text))
            }
            Self::IsoWithZ => {
                let text = unquoted(value).ok_or(ValueFault::NotOfForm("text"))?;
                Ok(match text.strip_suffix('Z') {
                    Some(without) => Decoded::Text(quoted(without)),
                    None => Decoded::AsReceived,
                })
            }
            Self::Duration if value == "0" => Ok(Decoded::Text("\"PT0S\"".to_owned())),
            Self::Duration => Err(ValueFault::Interval),
            Self::Geometry => geometry(value),
            Self::List(items) => items.list(value),
            Self::Members(own, any) => members(value, own, any.as_deref()),
            Self::Unknown(name) => Err(ValueFault::UnknownType(name.clone())),
        }
    }

    /// Inside of a list or an object a value is what it would be alone, or not of a form that is known.
    fn nested(&self, value: &str) -> Result<Option<String>, ValueFault> {
        match self.decode(value, false)? {
            Decoded::Text(text) => Ok(Some(text)),
            Decoded::AsReceived | Decoded::Unavailable => Ok(None),
        }
    }

    fn list(&self, value: &str) -> Result<Decoded, ValueFault> {
        let items: Vec<&RawValue> = serde_json::from_str(value).map_err(|_| ValueFault::NotOfForm("a list"))?;
        let mut text = String::from('[');
        for (place, item) in items.into_iter().enumerate() {
            if place > 0 {
                text.push(',');
            }
            text.push_str(self.nested(item.get())?.as_deref().unwrap_or(item.get()));
        }
        text.push(']');
        Ok(Decoded::Text(text))
    }

    /// Whether a value is the placeholder in the form that the connector gives it for this encoding.
    fn is_placeholder(&self, value: &str) -> bool {
        let is_text = |value: &str| unquoted(value).is_some_and(|text| text == PLACEHOLDER);
        match self {
            Self::Text => is_text(value),
            Self::Json => is_text(value) || unquoted(value).is_some_and(|text| is_placeholder_map(&text)),
            Self::Bytes => bytes(value).is_ok_and(|bytes| bytes == PLACEHOLDER.as_bytes()),
            Self::List(items) => match items.as_ref() {
                Self::Plain => serde_json::from_str::<Vec<f64>>(value)
                    .is_ok_and(|items| items.into_iter().eq(PLACEHOLDER.bytes().map(f64::from))),
                _ => serde_json::from_str::<[&RawValue; 1]>(value).is_ok_and(|[item]| {
                    items.is_placeholder(item.get())
                        || unquoted(item.get()).is_some_and(|text| text == PLACEHOLDER_UUID)
                }),
            },
            Self::Members(..) => is_placeholder_map(value),
            _ => false,
        }
    }
}

/// Decodes a value whose column has no schema, by its form alone: what Kafka Connect makes a struct of, and the placeholder. All else is as
/// received.
///
/// # Errors
/// When a struct's bytes cannot be read.
pub(super) fn decode_without_schema(value: &str, may_be_unavailable: bool) -> Result<Decoded, ValueFault> {
    if may_be_unavailable && is_any_placeholder(value) {
        return Ok(Decoded::Unavailable);
    }
    if !value.starts_with('{') {
        return Ok(without_exponent(value).map_or(Decoded::AsReceived, Decoded::Text));
    }
    let mut names = Vec::new();
    // What is no object of names is no struct; the whole image is valid JSON.
    let read = json_text::edit_members(value, |name, _| {
        names.push(name.to_owned());
        json_text::Edit::Keep
    });
    names.sort_unstable();
    match names.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["scale", "value"] if read.is_ok() => Encoding::VariableScale.decode(value, false),
        ["srid", "wkb"] | ["srid", "wkb", "x", "y"] if read.is_ok() => Encoding::Geometry.decode(value, false),
        _ => Ok(Decoded::AsReceived),
    }
}

/// A number with an exponent below zero in digits alone. A small decimal has one (Java's `BigDecimal`), and is exact, while an exponent in
/// what DMS sends says that a double was printed. None for all else.
fn without_exponent(value: &str) -> Option<String> {
    /// Below what a double can hold.
    const SMALLEST: usize = 400;
    let (number, exponent) = value.split_once(['e', 'E'])?;
    let places: usize = exponent.strip_prefix('-')?.parse().ok().filter(|places| (1..=SMALLEST).contains(places))?;
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let padded = format!("{whole:0>width$}", width = places.saturating_add(1));
    let (left, right) = padded.split_at_checked(padded.len().checked_sub(places)?)?;
    let is_of_digits = [whole, fraction].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    (is_of_digits && !whole.is_empty()).then(|| format!("{sign}{left}.{right}{fraction}"))
}

/// Whether a value is the placeholder in any of the forms that a connector gives it, bytes as base64 or as hexadecimal digits.
fn is_any_placeholder(value: &str) -> bool {
    match value.as_bytes().first() {
        Some(b'"') => {
            let is_hexadecimal = || {
                let is_as_long = value.len() == PLACEHOLDER.len().saturating_mul(2).saturating_add(2);
                let digits = hexadecimal(if is_as_long { PLACEHOLDER.as_bytes() } else { b"" });
                is_as_long && value.eq_ignore_ascii_case(&digits.replacen("0x", "", 1))
            };
            Encoding::Json.is_placeholder(value) || Encoding::Bytes.is_placeholder(value) || is_hexadecimal()
        }
        Some(b'[') => {
            let list = |items: Encoding| Encoding::List(Box::new(items)).is_placeholder(value);
            list(Encoding::Plain) || list(Encoding::Text)
        }
        Some(b'{') => is_placeholder_map(value),
        _ => false,
    }
}

/// The placeholder of a list of UUIDs: the name-based UUID of the placeholder's bytes.
const PLACEHOLDER_UUID: &str = "b68a35a7-17ad-35b3-af2a-ae46edb4545a";

fn is_placeholder_map(value: &str) -> bool {
    let mut is_it = false;
    let read = json_text::edit_members(value, |name, value| {
        is_it = name == PLACEHOLDER && unquoted(value).is_some_and(|text| text == PLACEHOLDER);
        json_text::Edit::Keep
    });
    value.contains(PLACEHOLDER) && serde_json::from_str::<&RawValue>(value).is_ok() && read.is_ok() && is_it
}

#[derive(serde::Deserialize)]
struct VariableScale<'a> {
    scale: i64,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(serde::Deserialize)]
struct Wkb<'a> {
    #[serde(borrow)]
    wkb: &'a RawValue,
    srid: Option<i32>,
}

/// MySQL's own form, in which DMS sends it: four bytes of SRID, then WKB.
fn geometry(value: &str) -> Result<Decoded, ValueFault> {
    let FromObject(Wkb { wkb, srid }) =
        serde_json::from_str(value).map_err(|_| ValueFault::NotOfForm("an object of wkb and srid"))?;
    let mut all = srid.unwrap_or(0).to_le_bytes().to_vec();
    all.extend(bytes(wkb.get())?);
    Ok(Decoded::Text(hexadecimal(&all)))
}

fn members(value: &str, own: &[(String, Encoding)], any: Option<&Encoding>) -> Result<Decoded, ValueFault> {
    let mut fault = None;
    let edited = json_text::edit_members(value, |name, value| {
        let encoding = own.iter().find(|(own, _)| own == name).map(|(_, encoding)| encoding).or(any);
        match encoding.map_or(Ok(None), |encoding| encoding.nested(value)) {
            Ok(Some(text)) => json_text::Edit::Replace(text),
            Ok(None) => json_text::Edit::Keep,
            Err(error) => {
                fault.get_or_insert(error);
                json_text::Edit::Keep
            }
        }
    });
    match (fault, edited) {
        (Some(fault), _) => Err(fault),
        // A map whose keys are no texts is a list of pairs.
        (None, Err(_)) => Err(ValueFault::NotOfForm("an object")),
        (None, Ok(Cow::Borrowed(_))) => Ok(Decoded::AsReceived),
        (None, Ok(Cow::Owned(text))) => Ok(Decoded::Text(text)),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn integer(value: &str) -> Result<i64, ValueFault> {
    value.parse().map_err(|_| ValueFault::NotOfForm("a whole number of 64 bits"))
}

fn bytes(value: &str) -> Result<Vec<u8>, ValueFault> {
    let fault = || ValueFault::NotOfForm("base64");
    let text = unquoted(value).ok_or_else(fault)?;
    base64::engine::general_purpose::STANDARD.decode(text.as_bytes()).map_err(|_| fault())
}

/// As DMS writes bytes.
fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| char::from(DIGITS.get(usize::from(value)).copied().unwrap_or(b'0'));
    let mut text = String::with_capacity(bytes.len().saturating_mul(2).saturating_add(4));
    text.push_str("\"0x");
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 0x0F));
    }
    text.push('"');
    text
}

/// A decimal in any of the ways in which connector and converter write it: base64 of the unscaled number (`precise`), a number
/// (the converter's `decimal.format` is NUMERIC).
fn decimal(value: &str, scale: i64) -> Result<Decoded, ValueFault> {
    if !value.starts_with('"') {
        return match value.as_bytes().first() {
            Some(b'-' | b'0'..=b'9') => Ok(Decoded::AsReceived),
            _ => Err(ValueFault::NotOfForm("a decimal")),
        };
    }
    let bytes = bytes(value)?;
    let is_read = !bytes.is_empty() && bytes.len() <= LONGEST_DECIMAL_BYTES && scale.unsigned_abs() <= LARGEST_SCALE;
    if !is_read {
        return Err(ValueFault::NotOfForm("a decimal of a length that can be read"));
    }
    let (is_negative, digits) = unscaled(&bytes);
    let mut text = String::from(if is_negative { "-" } else { "" });
    match usize::try_from(scale) {
        Ok(0) => text.push_str(&digits),
        Ok(scale) => {
            let padded = format!("{digits:0>width$}", width = scale.saturating_add(1));
            let (whole, fraction) = padded.split_at(padded.len().saturating_sub(scale));
            text.push_str(whole);
            text.push('.');
            text.push_str(fraction);
        }
        Err(_) if digits == "0" => text.push('0'),
        Err(_) => {
            text.push_str(&digits);
            text.extend(std::iter::repeat_n('0', usize::try_from(scale.unsigned_abs()).unwrap_or(0)));
        }
    }
    Ok(Decoded::Text(text))
}

/// Whether a number in two's complement, the highest byte first, is negative, and its digits without a sign.
fn unscaled(bytes: &[u8]) -> (bool, String) {
    /// Digits that are taken off at once: the remainder times 256 stays far below 2⁶⁴.
    const AT_ONCE: u64 = 1_000_000_000;
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let mut magnitude: Vec<u8> = bytes.to_vec();
    if is_negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            let (next, is_carried) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (next, is_carried);
        }
        // −2ⁿ is its own complement.
        if carry {
            magnitude.insert(0, 1);
        }
    }
    let mut groups = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut remainder = 0_u64;
        for byte in &mut magnitude {
            let value = (remainder << 8) | u64::from(*byte);
            *byte = u8::try_from(value / AT_ONCE).unwrap_or(u8::MAX);
            remainder = value % AT_ONCE;
        }
        groups.push(remainder);
    }
    let mut digits = groups.pop().unwrap_or(0).to_string();
    for group in groups.iter().rev() {
        // Writing to a String does not fail.
        let _ = write!(digits, "{group:09}");
    }
    (is_negative, digits)
}

const fn split(count: u64, per_second: u64) -> (u64, u64) {
    (count / per_second, count % per_second)
}

/// Hours may be more than a day has: MySQL's TIME is a duration.
fn push_time(text: &mut String, seconds: u64, fraction: u64, digits: usize) {
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let _ = write!(text, "{hours:02}:{minutes:02}:{:02}", seconds % 60);
    if fraction != 0 {
        let _ = write!(text, ".{fraction:0digits$}");
    }
}

/// A day of the proleptic Gregorian calendar. A year without four digits gets a sign, and with it no conversion takes it.
///
/// jiff's calendar ends with the year 9999, PostgreSQL's and with it what Debezium sends with 294276. Years begin in March here, in eras of
/// 400 years, which have 146,097 days.
fn push_day(text: &mut String, days_since_1970: i64) {
    // 719,468 days from the first of March of the year 0.
    let days = i128::from(days_since_1970) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    let sign = match year {
        0..=9_999 => "",
        10_000.. => "+",
        _ => "-",
    };
    let _ = write!(text, "{sign}{:04}-{month:02}-{day:02}", year.unsigned_abs());
}
