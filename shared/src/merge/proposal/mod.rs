//! A proposal for a final table that has no definition: a CREATE TABLE statement for a person to check and run, made of
//! what the log's own values show ([`evidence`], [`choice`], [`key`]) or of what the source's information_schema says
//! ([`information_schema`]), and written down by [`create_table`]. It is text in, text out: it must never create anything,
//! never choose a type that does not hold every value seen exactly, and never show a row value.

pub mod choice;
pub mod create_table;
pub mod evidence;
pub mod information_schema;
pub mod key;

/// A count as people read it: `12,345`.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and what is counted, in the plural where it has to be.
pub(crate) fn counted(count: u64, what: &str) -> String {
    let ending = match count {
        1 => "",
        _ if what.ends_with('x') || what.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {what}{ending}", grouped(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_three() {
        assert_eq!([0, 12, 123, 1_234, 1_234_567].map(grouped).join(" "), "0 12 123 1,234 1,234,567");
        assert_eq!(counted(1, "image"), "1 image");
        assert_eq!(counted(2_000, "image"), "2,000 images");
    }
}
