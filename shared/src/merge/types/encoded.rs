//! The SQL that puts a value which a connector of Debezium's wrote in its default modes into the text that DMS would have sent, where the change
//! has no schema and the definition of its table says how it is written. What the text is decides [`crate::debezium::value`], which reads
//! the same values by a schema; here it is the same in SQL.
//! An expression must never be other than NULL for a value that is not of its encoding's form.

use crate::debezium::encoding::{Encoded, MOST_BITS, MOST_DIGITS};

/// How a column's values are written where a change has no schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ColumnEncoding {
    /// The way.
    pub encoded: Encoded,
    /// Digits of a decimal, or bits.
    pub precision: Option<u32>,
    /// Digits after a decimal's point.
    pub scale: Option<u32>,
    /// What plain values are in JSON.
    pub form: PlainForm,
}

/// What values that are written as they are have to be in JSON: else the column's encoding is another one by now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum PlainForm {
    /// Anything.
    #[default]
    Any,
    /// A number, true or false; or the text of what JSON has no number for.
    Number,
    /// A text.
    Text,
}

impl PlainForm {
    /// By DMS's name of a column's type.
    pub fn of(dms_type: &str) -> Self {
        match dms_type {
            "INT8" | "INT16" | "INT32" | "INT64" | "UINT8" | "UINT16" | "UINT32" | "FLOAT" | "DOUBLE" | "BOOL" => {
                Self::Number
            }
            "STRING" | "CLOB" | "TIME" | "TIMESTAMP" => Self::Text,
            // Lists and objects among them.
            _ => Self::Any,
        }
    }
}

/// The first and the last day of BigQuery's calendar, from 1970-01-01.
const DAYS: (i64, i64) = (-719_162, 2_932_896);
/// As encoders write it: bits that are left over are 0.
const BASE64: &str = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";
/// 2⁶⁴ − 1 beyond and below 10⁹, of the former one less and that added to the latter.
const HIGHEST: (i64, i64) = (18_446_744_072, 1_709_551_615);
/// Of 2⁶⁴ − 1.
const UNSIGNED_DIGITS: usize = 20;
/// Digits that are handled at once, so that no sum of products leaves 64 bits.
const GROUP: usize = 9;
const OF_GROUP: i64 = 1_000_000_000;
/// A limb has 24 bits, which are six hexadecimal digits.
const LIMB_DIGITS: usize = 6;

impl ColumnEncoding {
    /// The SQL expression of the value's text: `text` is that of the member, a scalar's own; `is_text` says whether it is a text in JSON.
    /// NULL if the text is NULL or not of the form. None where no value can be told.
    pub fn text_of(self, text: &str, is_text: &str) -> Option<String> {
        let of = |expression: String| format!("(SELECT {expression} FROM (SELECT {text} AS `_v`))");
        // What is computed is computed for every row, in whatever order: a count beyond the bounds has to be none before it is used.
        let count = |most: usize, (lowest, highest): (i64, i64), expression: &str| {
            format!(
                "(SELECT {expression} FROM (SELECT IF(REGEXP_CONTAINS(`_v`, r'^-?[0-9]{{1,{most}}}$') \
                 AND SAFE_CAST(`_v` AS INT64) BETWEEN {lowest} AND {highest}, SAFE_CAST(`_v` AS INT64), NULL) AS `_n` FROM (SELECT {text} AS `_v`)))"
            )
        };
        Some(match self.encoded {
            Encoded::Plain => match self.form {
                PlainForm::Any => text.to_owned(),
                PlainForm::Number => {
                    of(format!("IF({is_text} AND LOWER(`_v`) NOT IN ('nan', 'infinity', '-infinity'), NULL, `_v`)"))
                }
                PlainForm::Text => of(format!("IF({is_text}, `_v`, NULL)")),
            },
            Encoded::Untold => return None,
            Encoded::Interval => of(format!("CASE WHEN {is_text} THEN `_v` WHEN `_v` = '0' THEN 'PT0S' END")),
            Encoded::Days => count(7, DAYS, &day("`_n`")),
            Encoded::TimeMilliseconds => {
                count(12, (-TIME_SECONDS * 1_000, TIME_SECONDS * 1_000), &signed_time(1_000, 3))
            }
            Encoded::TimeMicroseconds => {
                count(15, (-TIME_SECONDS * 1_000_000, TIME_SECONDS * 1_000_000), &signed_time(1_000_000, 6))
            }
            Encoded::TimestampMilliseconds => count(15, calendar(1_000), &timestamp(1_000, 3)),
            Encoded::TimestampMicroseconds => count(18, calendar(1_000_000), &timestamp(1_000_000, 6)),
            // 2⁶⁴ − 1 less so many, of which no step leaves 64 bits, in whatever order it is computed.
            Encoded::Unsigned => of(format!(
                "CASE WHEN {is_text} THEN {precise} WHEN REGEXP_CONTAINS(`_v`, r'^[0-9]+$') THEN `_v` \
                 ELSE (SELECT CONCAT(CAST({high} - DIV(`_k`, {OF_GROUP}) + DIV(({low} - MOD(`_k`, {OF_GROUP})), {OF_GROUP}) AS STRING), \
                 LPAD(CAST(MOD(({low} - MOD(`_k`, {OF_GROUP})), {OF_GROUP}) AS STRING), {GROUP}, '0')) \
                 FROM (SELECT -(IF(STARTS_WITH(`_v`, '-'), SAFE_CAST(`_v` AS INT64), NULL) + 1) AS `_k`)) END",
                // With `bigint.unsigned.handling.mode=precise` it is a decimal.
                precise = decimal(UNSIGNED_DIGITS, 0),
                high = HIGHEST.0,
                low = HIGHEST.1,
            )),
            Encoded::Bytes => {
                of(format!("IF({is_text} AND {}, CONCAT('0x', UPPER({})), NULL)", is_base64(), hexadecimal()))
            }
            Encoded::Bits => {
                let bytes = self.precision.filter(|bits| (1..=MOST_BITS).contains(bits))?.div_ceil(8);
                let digits = bytes.saturating_mul(2);
                let reversed: Vec<String> = (0..bytes)
                    .rev()
                    .map(|byte| format!("SUBSTR(`_h`, {}, 2)", byte.saturating_mul(2).saturating_add(1)))
                    .collect();
                of(format!(
                    "IF({is_text} AND {}, (SELECT IF(LENGTH(`_own`) <= {digits}, CONCAT('0x', {}), NULL) \
                     FROM (SELECT `_own`, RPAD(UPPER(`_own`), {digits}, '0') AS `_h` FROM (SELECT {} AS `_own`))), NULL)",
                    is_base64(),
                    reversed.join(", "),
                    hexadecimal(),
                ))
            }
            Encoded::Decimal => {
                let precision = self.precision.filter(|digits| (1..=MOST_DIGITS).contains(digits))?;
                let scale = self.scale.unwrap_or(0);
                if scale > precision {
                    return None;
                }
                let decimal = decimal(usize::try_from(precision).ok()?, usize::try_from(scale).ok()?);
                // With the converter's `decimal.format=NUMERIC` it says itself what it is.
                of(format!("IF({is_text}, {decimal}, IF(REGEXP_CONTAINS(`_v`, r'^-?[0-9]'), `_v`, NULL))"))
            }
        })
    }
}

/// Seconds that MySQL's TIME has at most: 838:59:59.
const TIME_SECONDS: i64 = 839 * 3_600;

fn is_base64() -> String {
    format!("REGEXP_CONTAINS(`_v`, r'{BASE64}')")
}

fn hexadecimal() -> String {
    // Where it is no base64, nothing is decoded, in whatever order it is computed.
    format!("TO_HEX(FROM_BASE64(IF({}, `_v`, '')))", is_base64())
}

/// From the first to the last moment of BigQuery's calendar.
const fn calendar(per_second: i64) -> (i64, i64) {
    let per_day = per_second.saturating_mul(86_400);
    (DAYS.0.saturating_mul(per_day), DAYS.1.saturating_add(1).saturating_mul(per_day).saturating_sub(1))
}

fn day(days: &str) -> String {
    format!("SUBSTR(CAST(DATE_ADD(DATE '1970-01-01', INTERVAL {days} DAY) AS STRING), 1, 10)")
}

/// Hours may be more than a day has.
fn time(count: &str, per_second: i64, digits: usize) -> String {
    let two = |number: String| format!("LPAD(CAST({number} AS STRING), 2, '0')");
    let hours = format!("DIV({count}, {})", per_second.saturating_mul(3_600));
    let minutes = two(format!("MOD(DIV({count}, {}), 60)", per_second.saturating_mul(60)));
    let seconds = two(format!("MOD(DIV({count}, {per_second}), 60)"));
    format!(
        "CONCAT(IF({hours} < 10, '0', ''), CAST({hours} AS STRING), ':', {minutes}, ':', {seconds}, \
         IF(MOD({count}, {per_second}) = 0, '', CONCAT('.', LPAD(CAST(MOD({count}, {per_second}) AS STRING), {digits}, '0'))))"
    )
}

fn signed_time(per_second: i64, digits: usize) -> String {
    format!("CONCAT(IF(`_n` < 0, '-', ''), {})", time("ABS(`_n`)", per_second, digits))
}

/// The division of GoogleSQL cuts towards zero, and a day begins before what is left of it. The parentheses are for the embedded BigQuery
/// (docs/embedded-bigquery.md).
fn timestamp(per_second: i64, digits: usize) -> String {
    let per_day = per_second.saturating_mul(86_400);
    let of_day = format!("MOD(MOD(`_n`, {per_day}) + {per_day}, {per_day})");
    format!(
        "(SELECT CONCAT({}, 'T', {}, 'Z') FROM (SELECT {of_day} AS `_t`))",
        day(&format!("DIV((`_n` - `_t`), {per_day})")),
        time("`_t`", per_second, digits)
    )
}

/// 2 to the power of 24 × `limb` in groups of nine digits, the lowest first.
fn weight(limb: usize) -> Vec<i64> {
    let mut groups = vec![1_i64];
    for _ in 0..limb {
        let mut carry = 0_i64;
        for group in &mut groups {
            let product = group.saturating_mul(1 << 24).saturating_add(carry);
            (*group, carry) = (product % OF_GROUP, product / OF_GROUP);
        }
        if carry > 0 {
            groups.push(carry);
        }
    }
    groups
}

/// The text of an unscaled number in two's complement, of so many digits at most, so many of them after the point. What has more is none
/// of the column's values.
///
/// Neither BIGNUMERIC nor NUMERIC holds 65 digits as a whole number, so it is computed in groups of nine digits: limbs of 24 bits times the
/// groups of their weights, and what is carried from one group to the next, each in a query around the one before.
fn decimal(precision: usize, scale: usize) -> String {
    // log₂ 10 is below 3.3220; one bit more for the sign.
    let bits = precision.saturating_mul(33_220) / 10_000 + 2;
    let limbs = bits.div_ceil(24);
    let width = limbs.saturating_mul(LIMB_DIGITS);
    let limb = |limb: usize| {
        let from = width.saturating_sub(limb.saturating_add(1).saturating_mul(LIMB_DIGITS)).saturating_add(1);
        let digits = format!("SAFE_CAST(CONCAT('0x', SUBSTR(`_h`, {from}, {LIMB_DIGITS})) AS INT64)");
        format!("IF(`_negative`, 16777215 - {digits}, {digits}) AS `_l{limb}`")
    };
    let weights: Vec<Vec<i64>> = (0..limbs).map(weight).collect();
    let groups = weight(limbs).len();
    let padded = format!(
        "SELECT `_negative`, LPAD(`_hex`, {width}, IF(`_negative`, 'f', '0')) AS `_h` FROM (\
         SELECT `_hex`, STRPOS('89abcdef', SUBSTR(`_hex`, 1, 1)) > 0 AS `_negative` FROM (\
         SELECT IF({} AND LENGTH(`_own`) BETWEEN 2 AND {width}, LOWER(`_own`), NULL) AS `_hex` FROM (SELECT {} AS `_own`)))",
        is_base64(),
        hexadecimal()
    );
    let mut query =
        format!("SELECT `_negative`, {} FROM ({padded})", (0..limbs).map(limb).collect::<Vec<_>>().join(", "));
    for group in 0..groups {
        let products = weights.iter().enumerate().filter_map(|(limb, weight)| {
            weight.get(group).filter(|weight| **weight != 0).map(|weight| format!("`_l{limb}` * {weight}"))
        });
        let carried = match group.checked_sub(1) {
            // The complement is one less than the number.
            None => "IF(`_negative`, 1, 0)".to_owned(),
            Some(before) => format!("DIV(`_g{before}`, {OF_GROUP})"),
        };
        let sum: Vec<String> = products.chain([carried]).collect();
        query = format!("SELECT *, {} AS `_g{group}` FROM ({query})", sum.join(" + "));
    }
    let digits: Vec<String> = (0..groups)
        .rev()
        .map(|group| format!("LPAD(CAST(MOD(`_g{group}`, {OF_GROUP}) AS STRING), {GROUP}, '0')"))
        .collect();
    let point = groups.saturating_mul(GROUP).saturating_sub(scale);
    let fraction = match scale {
        0 => String::new(),
        _ => format!(", '.', SUBSTR(`_digits`, {}, {scale})", point.saturating_add(1)),
    };
    format!(
        "(SELECT IF(LENGTH(LTRIM(`_digits`, '0')) <= {precision}, \
         CONCAT(IF(`_negative`, '-', ''), COALESCE(NULLIF(LTRIM(SUBSTR(`_digits`, 1, {point}), '0'), ''), '0'){fraction}), NULL) \
         FROM (SELECT `_negative`, CONCAT({}) AS `_digits` FROM ({query})))",
        digits.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_powers_of_two_in_groups_of_nine_digits() {
        assert_eq!(weight(0), [1]);
        assert_eq!(weight(2), [976_710_656, 281_474]);
        assert_eq!(weight(3), [645_213_696, 366_482_869, 4_722]);
    }

    #[test]
    fn what_is_not_told_has_no_expression() {
        let of = |encoded, precision, scale| {
            ColumnEncoding { encoded, precision, scale, form: PlainForm::Any }.text_of("`x`", "TRUE")
        };
        assert_eq!(of(Encoded::Untold, None, None), None);
        assert_eq!(of(Encoded::Decimal, None, None), None, "how many digits is not known");
        assert_eq!(of(Encoded::Decimal, Some(5), Some(6)), None);
        assert_eq!(of(Encoded::Decimal, Some(77), Some(6)), None);
        assert_eq!(of(Encoded::Bits, Some(65), None), None);
        assert_eq!(of(Encoded::Plain, None, None).as_deref(), Some("`x`"));
    }
}
