//! Which type a column gets, from what the log shows of its values, and the words that say why. A type is taken only if
//! the merge's own expression holds every value seen exactly; what values cannot tell (a decimal from a double, a moment
//! from a wall clock) is said beside it, for a person to decide.

use super::evidence::{ColumnEvidence, Form};
use super::{counted, grouped};
use crate::merge::types::ColumnType;

/// A column's type, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The type.
    pub column_type: ColumnType,
    /// What was seen.
    pub seen: String,
    /// What the values cannot tell.
    pub hint: Option<String>,
}

/// Chooses the narrowest type that holds every value exactly and can be told from the values. A type's own precision or
/// length is not narrowed to what has come so far: the next value may be longer.
pub fn choose(evidence: &ColumnEvidence) -> Choice {
    let (candidates, hint) = candidates(evidence);
    let fitting = candidates.into_iter().find(|candidate| evidence.fits(*candidate));
    let column_type = fitting.unwrap_or(ColumnType::String);
    Choice { column_type, seen: words(evidence), hint: hint.or_else(|| hint_for(evidence, column_type)) }
}

/// The types that the values' forms suggest, the narrowest first.
fn candidates(evidence: &ColumnEvidence) -> (Vec<ColumnType>, Option<String>) {
    use ColumnType as Type;
    let of = |form| evidence.of(form);
    let all = |forms: &[Form]| {
        evidence.values > 0 && forms.iter().fold(0_u64, |sum, form| sum.saturating_add(of(*form))) == evidence.values
    };
    if evidence.values == 0 {
        return (
            Vec::new(),
            Some("no value was seen, so the type is unknown; STRING holds whatever may come".to_owned()),
        );
    }
    let is_bool = of(Form::Boolean).saturating_add(of(Form::TrueFalseText)) > 0
        && all(&[Form::Boolean, Form::TrueFalseText, Form::ZeroOrOne]);
    if is_bool {
        return (vec![Type::Bool], None);
    }
    if all(&[Form::Number]) {
        // A decimal is never in scientific notation; an integer is, where DMS prints it through a double.
        return if of(Form::Exponent) > 0 {
            (vec![Type::Int64, Type::Float64, Type::NUMERIC, Type::BIGNUMERIC], None)
        } else {
            (vec![Type::Int64, Type::NUMERIC, Type::BIGNUMERIC, Type::Float64], None)
        };
    }
    if of(Form::Number) > 0 && all(&[Form::Number, Form::NotFinite]) {
        return (vec![Type::Float64], None);
    }
    if of(Form::Number) > 0 && all(&[Form::Number, Form::NumberText]) {
        return (vec![Type::Int64, Type::NUMERIC, Type::BIGNUMERIC], None);
    }
    if !all(&[Form::Text]) {
        let hint = if of(Form::Nested) > 0 {
            "a nested value is kept as its JSON text"
        } else {
            "its values are of several kinds, which only a text keeps apart"
        };
        return (Vec::new(), Some(hint.to_owned()));
    }
    if all(&[Form::Day]) {
        return (vec![Type::Date], None);
    }
    if all(&[Form::Day, Form::DayAndTime]) {
        let candidates = if of(Form::Offset) > 0 { vec![Type::Timestamp] } else { vec![Type::DateTime] };
        return (candidates, None);
    }
    if all(&[Form::TimeOfDay]) {
        return (vec![Type::Time], None);
    }
    if of(Form::PrefixedHex) > 0 && all(&[Form::PrefixedHex, Form::Empty]) {
        return (vec![Type::Bytes], None);
    }
    (Vec::new(), None)
}

/// What a person may know better than the values.
fn hint_for(evidence: &ColumnEvidence, column_type: ColumnType) -> Option<String> {
    let of = |form| evidence.of(form);
    let hint = match column_type {
        ColumnType::Int64 if evidence.all(Form::ZeroOrOne) => "BOOL if it is MySQL's BOOL or BIT(1)",
        ColumnType::Int64 if of(Form::Exponent) > 0 => {
            "DMS prints long integers in scientific notation unless UseLargeIntegerValue is set"
        }
        ColumnType::Float64 if of(Form::Exponent) > 0 => {
            "if it is an integer or a decimal in the source, digits are lost on the way: set UseLargeIntegerValue"
        }
        ColumnType::Numeric { .. } | ColumnType::BigNumeric { .. }
            if evidence.fraction_digits.0 != evidence.fraction_digits.1 =>
        {
            "FLOAT64 if it is a REAL, FLOAT or DOUBLE in the source"
        }
        ColumnType::Bool if of(Form::TrueFalseText) > 0 => "STRING if it is a text in the source",
        ColumnType::DateTime if of(Form::Zulu) > 0 => {
            "DMS writes a Z whether or not there is a zone: TIMESTAMP if it is MySQL's TIMESTAMP or PostgreSQL's timestamptz"
        }
        ColumnType::Time => "STRING if it may leave a day, as MySQL's TIME does",
        ColumnType::Bytes if evidence.lengths == (4, 4) && evidence.fits(ColumnType::Bool) => "BOOL if it is BIT(1)",
        ColumnType::String if evidence.values == 0 => return None,
        ColumnType::String if evidence.all(Form::JsonText) && evidence.fits(ColumnType::Json) => {
            "JSON fits, too: numbers that a double does not hold would then be quarantined"
        }
        ColumnType::String if evidence.all(Form::NumberText) => {
            return ["INT64", "NUMERIC", "BIGNUMERIC"]
                .into_iter()
                .find(|name| evidence.misfits.get(name) == Some(&0))
                .map(|name| format!("text that is a number: {name} if it is one in the source"));
        }
        ColumnType::String if evidence.all(Form::BareHex) && evidence.lengths.1 > 1 => {
            "BYTES if it is binary in the source and DMS runs with NoHexPrefix"
        }
        ColumnType::String if evidence.all(Form::Number) => "no numeric type of BigQuery's holds all of them exactly",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What was seen of a column, in counts and forms.
fn words(evidence: &ColumnEvidence) -> String {
    let of = |form| evidence.of(form);
    let mut parts: Vec<String> = Vec::new();
    if evidence.values > 0 {
        parts.push(counted(evidence.values, "value"));
        let kinds = [
            (Form::Number, "numbers"),
            (Form::Text, "text"),
            (Form::Boolean, "true and false"),
            (Form::Nested, "objects or arrays"),
        ];
        let seen: Vec<(u64, &str)> =
            kinds.iter().map(|(form, name)| (of(*form), *name)).filter(|(count, _)| *count > 0).collect();
        match seen.as_slice() {
            [(_, only)] => parts.push((*only).to_owned()),
            several => {
                let several: Vec<String> =
                    several.iter().map(|(count, name)| format!("{} {name}", grouped(*count))).collect();
                parts.push(several.join(" and "));
            }
        }
        parts.extend(shape(evidence));
    }
    if evidence.nulls() > 0 {
        parts.push(format!("{} null", grouped(evidence.nulls())));
    }
    if evidence.absent() > 0 {
        parts.push(format!("absent from {}", counted(evidence.absent(), "image")));
    }
    if evidence.is_never_missing() {
        parts.push("never null or absent".to_owned());
    }
    parts.join(", ")
}

/// The values' form in words.
fn shape(evidence: &ColumnEvidence) -> Vec<String> {
    let of = |form| evidence.of(form);
    let mut parts = Vec::new();
    if of(Form::Number) > 0 {
        let digits = counted(evidence.whole_digits, "digit");
        if evidence.all(Form::Whole) {
            parts.push(format!("whole, of up to {digits}"));
        } else if evidence.whole_digits > 0 {
            let (fewest, most) = evidence.fraction_digits;
            let fraction = if fewest == most { grouped(most) } else { format!("{fewest} to {most}") };
            parts.push(format!("up to {digits} before and {fraction} after the point"));
        }
        if of(Form::Exponent) > 0 {
            parts.push(format!("{} in scientific notation", grouped(of(Form::Exponent))));
        }
    }
    if of(Form::Text) > 0 {
        let forms = [
            (Form::TrueFalseText, "t, f, true or false"),
            (Form::Day, "days"),
            (Form::DayAndTime, "days and times"),
            (Form::TimeOfDay, "times of day"),
            (Form::PrefixedHex, "0x and hexadecimal digits"),
            (Form::NumberText, "digits"),
            (Form::JsonText, "JSON"),
            (Form::NotFinite, "NaN or infinities"),
        ];
        for (form, name) in forms.into_iter().filter(|(form, _)| of(*form) > 0) {
            let is_all = of(form) == of(Form::Text);
            parts.push(if is_all { name.to_owned() } else { format!("{} of them {name}", grouped(of(form))) });
        }
        if of(Form::DayAndTime) > 0 {
            let zoned = of(Form::Zulu).saturating_add(of(Form::Offset));
            parts.push(match zoned {
                0 => "without a zone".to_owned(),
                _ if of(Form::Zulu) == of(Form::DayAndTime) => "all with a Z".to_owned(),
                _ => format!("{} with a Z or an offset", grouped(zoned)),
            });
        }
        let (shortest, longest) = evidence.lengths;
        parts.push(match shortest == longest {
            true => counted(longest, "character"),
            false => format!("{} to {}", grouped(shortest), counted(longest, "character")),
        });
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::proposal::evidence::CANDIDATES;

    /// Ten values of these forms, which these types hold exactly, among ten images.
    fn seen(forms: &[(Form, u64)], fitting: &[ColumnType]) -> ColumnEvidence {
        let misfits = CANDIDATES.iter().map(|of| (of.name(), if fitting.contains(of) { 0 } else { 1 })).collect();
        ColumnEvidence {
            member: "c".to_owned(),
            images: 10,
            present: 10,
            values: 10,
            forms: forms.iter().copied().collect(),
            misfits,
            lengths: (1, 4),
            whole_digits: 3,
            ..ColumnEvidence::default()
        }
    }

    fn chosen(forms: &[(Form, u64)], fitting: &[ColumnType]) -> ColumnType {
        choose(&seen(forms, fitting)).column_type
    }

    use ColumnType as Type;

    #[test]
    fn numbers_get_the_narrowest_type_that_holds_them_all() {
        let numbers = &[(Form::Number, 10)];
        assert_eq!(chosen(numbers, &[Type::Int64, Type::NUMERIC, Type::BIGNUMERIC, Type::Float64]), Type::Int64);
        assert_eq!(chosen(numbers, &[Type::NUMERIC, Type::BIGNUMERIC, Type::Float64]), Type::NUMERIC);
        // BIGINT UNSIGNED beyond INT64 has 20 digits; 30 and more need BIGNUMERIC; 39 and more are text.
        assert_eq!(chosen(numbers, &[Type::BIGNUMERIC]), Type::BIGNUMERIC);
        assert_eq!(chosen(numbers, &[Type::Float64]), Type::Float64);
        let none = choose(&seen(numbers, &[]));
        assert_eq!(none.column_type, Type::String);
        assert!(none.hint.is_some_and(|hint| hint.contains("no numeric type")));
    }

    #[test]
    fn scientific_notation_speaks_for_a_double_unless_all_are_integers() {
        let numbers = &[(Form::Number, 10), (Form::Exponent, 2)];
        assert_eq!(chosen(numbers, &[Type::NUMERIC, Type::BIGNUMERIC, Type::Float64]), Type::Float64);
        let integers = choose(&seen(numbers, &[Type::Int64, Type::NUMERIC, Type::Float64]));
        assert_eq!(integers.column_type, Type::Int64);
        assert!(integers.hint.is_some_and(|hint| hint.contains("UseLargeIntegerValue")));
    }

    #[test]
    fn a_number_among_texts_is_text_unless_all_of_them_are_numbers() {
        let mixed = choose(&seen(&[(Form::Number, 4), (Form::Text, 6)], &[]));
        assert_eq!(mixed.column_type, Type::String);
        assert!(mixed.seen.contains("4 numbers and 6 text"), "{}", mixed.seen);
        let decimals = &[(Form::Number, 4), (Form::Text, 6), (Form::NumberText, 6)];
        assert_eq!(chosen(decimals, &[Type::NUMERIC, Type::BIGNUMERIC]), Type::NUMERIC);
        let doubles = &[(Form::Number, 9), (Form::Text, 1), (Form::NotFinite, 1)];
        assert_eq!(chosen(doubles, &[Type::Float64]), Type::Float64);
    }

    #[test]
    fn a_text_that_looks_like_a_number_stays_text_for_its_zeros() {
        let digits = choose(&seen(&[(Form::Text, 10), (Form::NumberText, 10), (Form::Whole, 10)], &[Type::Int64]));
        assert_eq!(digits.column_type, Type::String);
        assert!(digits.hint.is_some_and(|hint| hint.contains("INT64")));
    }

    #[test]
    fn true_and_false_are_told_in_every_spelling_but_numbers_alone() {
        assert_eq!(chosen(&[(Form::Boolean, 10)], &[Type::Bool]), Type::Bool);
        assert_eq!(chosen(&[(Form::Text, 10), (Form::TrueFalseText, 10)], &[Type::Bool]), Type::Bool);
        let mixed = &[(Form::Boolean, 4), (Form::Number, 6), (Form::ZeroOrOne, 6)];
        assert_eq!(chosen(mixed, &[Type::Bool, Type::Int64]), Type::Bool);
        let numbers =
            choose(&seen(&[(Form::Number, 10), (Form::Whole, 10), (Form::ZeroOrOne, 10)], &[Type::Bool, Type::Int64]));
        assert_eq!(numbers.column_type, Type::Int64);
        assert!(numbers.hint.is_some_and(|hint| hint.contains("BOOL")));
    }

    #[test]
    fn days_and_times_get_their_types_and_a_z_is_not_believed() {
        let text = |form, count| vec![(Form::Text, 10), (form, count)];
        assert_eq!(chosen(&text(Form::Day, 10), &[Type::Date, Type::DateTime]), Type::Date);
        assert_eq!(chosen(&text(Form::TimeOfDay, 10), &[Type::Time]), Type::Time);
        assert_eq!(chosen(&text(Form::TimeOfDay, 10), &[]), Type::String);
        let zulu = &[(Form::Text, 10), (Form::DayAndTime, 10), (Form::Zulu, 10)];
        let zulu = choose(&seen(zulu, &[Type::DateTime, Type::Timestamp]));
        assert_eq!(zulu.column_type, Type::DateTime);
        assert!(zulu.hint.is_some_and(|hint| hint.contains("timestamptz")));
        let offset = &[(Form::Text, 10), (Form::DayAndTime, 10), (Form::Offset, 1)];
        assert_eq!(chosen(offset, &[Type::Timestamp]), Type::Timestamp);
        // A day that is none, such as 0000-00-00, fits nothing but text.
        assert_eq!(chosen(&text(Form::Day, 10), &[]), Type::String);
        assert_eq!(chosen(&text(Form::Day, 9), &[]), Type::String);
    }

    #[test]
    fn bytes_are_told_by_their_prefix_alone() {
        let prefixed = &[(Form::Text, 10), (Form::PrefixedHex, 9), (Form::Empty, 1)];
        assert_eq!(chosen(prefixed, &[Type::Bytes]), Type::Bytes);
        let bare = choose(&seen(&[(Form::Text, 10), (Form::BareHex, 10)], &[Type::Bytes]));
        assert_eq!(bare.column_type, Type::String);
        assert!(bare.hint.is_some_and(|hint| hint.contains("NoHexPrefix")));
    }

    #[test]
    fn a_column_without_a_value_says_so() {
        let evidence = ColumnEvidence { images: 10, present: 7, ..ColumnEvidence::default() };
        let choice = choose(&evidence);
        assert_eq!(choice.column_type, Type::String);
        assert_eq!(choice.seen, "7 null, absent from 3 images");
        assert!(choice.hint.is_some_and(|hint| hint.contains("no value was seen")));
    }

    #[test]
    fn what_was_seen_is_said_in_counts_and_forms() {
        let mut decimals = seen(&[(Form::Number, 10)], &[Type::NUMERIC]);
        decimals.fraction_digits = (2, 2);
        assert_eq!(
            choose(&decimals).seen,
            "10 values, numbers, up to 3 digits before and 2 after the point, never null or absent"
        );
        assert_eq!(choose(&decimals).hint, None);
        decimals.fraction_digits = (0, 6);
        assert!(choose(&decimals).hint.is_some_and(|hint| hint.contains("FLOAT64")));
        let text = seen(&[(Form::Text, 10)], &[]);
        assert_eq!(choose(&text).seen, "10 values, text, 1 to 4 characters, never null or absent");
    }
}
