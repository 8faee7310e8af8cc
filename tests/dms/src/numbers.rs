//! Numbers as C's `printf` writes them, which is what DMS's JSON printer uses.

/// `%.15g`, as DMS writes a long integer unless UseLargeIntegerValue is set: digits are lost.
pub(crate) fn integer_through_double(number: i128) -> String {
    /// What fifteen digits hold.
    const EXACT: i128 = 1_000_000_000_000_000;
    if number.abs() < EXACT {
        return number.to_string();
    }
    #[allow(clippy::as_conversions, reason = "the loss is what is wanted here")]
    let double = number as f64;
    general(double, 15)
}

/// A double with as many digits as it needs: fifteen if they give it back, seventeen otherwise.
pub(crate) fn double(number: f64) -> String {
    if !number.is_finite() {
        return not_finite(number);
    }
    let short = general(number, 15);
    let is_exact = short.parse::<f64>().is_ok_and(|back| back.to_bits() == number.to_bits());
    if is_exact { short } else { general(number, 17) }
}

/// Single precision: nine digits.
pub(crate) fn single(number: f32) -> String {
    if number.is_finite() { general(f64::from(number), 9) } else { not_finite(f64::from(number)) }
}

/// No number of JSON's: text.
fn not_finite(number: f64) -> String {
    let text = if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    format!("\"{text}\"")
}

/// C's `%.{digits}g`.
fn general(number: f64, digits: usize) -> String {
    if number == 0.0 {
        return if number.is_sign_negative() { "-0".to_owned() } else { "0".to_owned() };
    }
    let scientific = format!("{number:.*e}", digits.saturating_sub(1));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || usize::try_from(exponent).is_ok_and(|exponent| exponent >= digits) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.abs());
    }
    let decimals = i32::try_from(digits).unwrap_or(i32::MAX).saturating_sub(1).saturating_sub(exponent);
    without_zeros(&format!("{number:.*}", usize::try_from(decimals).unwrap_or(0))).to_owned()
}

fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_in_published_messages() {
        for (number, text) in [
            (2.2_f32, "2.20000005"),
            (20.2, "20.2000008"),
            (0.0, "0"),
            (-3.402_82e38, "-3.40282002e+38"),
            (f32::NAN, "\"NaN\""),
        ] {
            assert_eq!(single(number), text);
        }
        for (number, text) in [
            (20.2_f64, "20.2"),
            (55.0, "55"),
            (0.1, "0.1"),
            (1.0 / 3.0, "0.33333333333333331"),
            (-1.797_693_134_862_315_7e308, "-1.7976931348623157e+308"),
            (1e15, "1e+15"),
            (123_456.789, "123456.789"),
            (0.000_01, "1e-05"),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ] {
            assert_eq!(double(number), text);
        }
    }

    #[test]
    fn long_integers_lose_digits() {
        for (number, text) in [
            (999_999_999_999_999, "999999999999999"),
            (-2_147_483_648, "-2147483648"),
            (9_007_199_254_740_993, "9.00719925474099e+15"),
            (9_223_372_036_854_775_807, "9.22337203685478e+18"),
            (1_000_000_000_000_000, "1e+15"),
        ] {
            assert_eq!(integer_through_double(number), text);
        }
    }
}
