//! Which columns may be the key, from what the log shows, and the words that say how sure that is. A key that the log
//! speaks against must never be proposed; one that it merely does not speak against is for a person to confirm.

use super::choice::Choice;
use super::evidence::{ColumnEvidence, KeyEvidence, Survey};
use super::{counted, grouped};
use crate::merge::types::ColumnType;

/// Columns that are tried alone.
const COLUMNS_AT_MOST: usize = 40;
/// Columns of which every pair is tried.
const PAIRED_AT_MOST: usize = 8;
/// A key has rarely more columns; of more it is doubtful that they are all the key's.
const KEY_AT_MOST: usize = 4;
/// Other candidates that are named.
const OTHERS_AT_MOST: usize = 5;

/// What the key is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Deletes carry these columns and no others.
    Deletes,
    /// Before-images do.
    BeforeImages,
    /// Its values are unique.
    Values,
}

/// Columns that may be the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The columns' places.
    pub places: Vec<usize>,
    /// Why it is one.
    pub origin: Origin,
}

/// The key that is proposed, if any, and what is said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChoice {
    /// The columns' places; empty if there is no key to propose.
    pub places: Vec<usize>,
    /// The evidence, and its limits.
    pub words: Vec<String>,
}

/// The candidates to be tried first: what deletes and before-images carry alone, and each column by itself.
pub fn candidates(survey: &Survey, columns: &[ColumnEvidence], choices: &[Choice]) -> Vec<Candidate> {
    let usable = usable(survey, columns, choices);
    let mut candidates = Vec::new();
    for (origin, places) in [
        (Origin::Deletes, carried_alone(columns, survey.deletes, is_of_postgresql(survey), |column| column.in_deletes)),
        (Origin::BeforeImages, of_before_images(columns)),
    ] {
        let is_known = candidates.iter().any(|known: &Candidate| known.places == places);
        if !places.is_empty() && !is_known && places.iter().all(|place| usable.contains(place)) {
            candidates.push(Candidate { places, origin });
        }
    }
    for place in usable.into_iter().take(COLUMNS_AT_MOST) {
        if !candidates.iter().any(|known| known.places == [place]) {
            candidates.push(Candidate { places: vec![place], origin: Origin::Values });
        }
    }
    candidates
}

/// Pairs of columns, to be tried if no candidate of [`candidates`] can be a key: of the columns that tell the most rows apart.
pub fn pairs(tried: &[(Candidate, Option<KeyEvidence>)]) -> Vec<Candidate> {
    let mut columns: Vec<(u64, usize)> = tried
        .iter()
        .filter_map(|(candidate, evidence)| match candidate.places.as_slice() {
            [place] => Some((evidence.map_or(0, |evidence| evidence.distinct), *place)),
            _ => None,
        })
        .collect();
    columns.sort_by_key(|(distinct, place)| (std::cmp::Reverse(*distinct), *place));
    columns.truncate(PAIRED_AT_MOST);
    columns.sort_by_key(|(_, place)| *place);
    let mut pairs = Vec::new();
    for (nth, (_, first)) in columns.iter().enumerate() {
        for (_, second) in columns.iter().skip(nth.saturating_add(1)) {
            pairs.push(Candidate { places: vec![*first, *second], origin: Origin::Values });
        }
    }
    pairs
}

/// Whether a candidate can be the key as far as the log shows.
pub fn can_be_key(evidence: Option<&KeyEvidence>) -> bool {
    evidence.is_some_and(|evidence| evidence.shared == 0 && evidence.distinct > 0)
}

/// Chooses among everything that was tried.
pub fn choose(
    survey: &Survey,
    columns: &[ColumnEvidence],
    choices: &[Choice],
    tried: &[(Candidate, Option<KeyEvidence>)],
) -> KeyChoice {
    let mut fitting: Vec<(&Candidate, KeyEvidence)> = tried
        .iter()
        .filter(|(_, evidence)| can_be_key(evidence.as_ref()))
        .filter_map(|(candidate, evidence)| Some((candidate, (*evidence)?)))
        .collect();
    fitting.sort_by_key(|(candidate, evidence)| {
        let rank = candidate.places.iter().map(|place| type_rank(choices, *place)).max();
        (candidate.origin, evidence.unknown, candidate.places.len(), rank, candidate.places.clone())
    });
    let name = |candidate: &Candidate| {
        let names: Vec<String> = candidate
            .places
            .iter()
            .filter_map(|place| columns.get(*place))
            .map(|column| format!("`{}`", column.member))
            .collect();
        format!("({})", names.join(", "))
    };
    let Some((best, evidence)) = fitting.first() else {
        return KeyChoice { places: Vec::new(), words: no_key(survey, tried) };
    };
    let rows = counted(survey.rows(), "row");
    let mut words = vec![format!(
        "Primary key {}: unique among {rows} that {} loaded or inserted, never null or absent in {}.",
        name(best),
        if survey.rows() == 1 { "was" } else { "were" },
        counted(survey.images(), "image")
    )];
    match best.origin {
        Origin::Deletes => words.push(format!(
            "Deletes ({}) carry these columns and no others, as PostgreSQL's carry the primary key.",
            grouped(survey.deletes)
        )),
        Origin::BeforeImages => words.push(
            "The before-images in the log carry these columns and no others, as they do with BeforeImageSettings pk-only."
                .to_owned(),
        ),
        Origin::Values => words.push(
            "That is what the log shows, not what the source declares: a column may be unique by chance. Compare it with the source."
                .to_owned(),
        ),
    }
    if survey.rows() < 10 {
        words.push(format!("{rows} are few to tell from."));
    }
    if evidence.repeated > 0 {
        words.push(format!(
            "{} came twice to the letter: DMS sent them again, or the table has no key.",
            counted(evidence.repeated, "row")
        ));
    }
    if evidence.unknown > 0 {
        words.push(format!(
            "{} of the updates and deletes are of a row whose load or insert the log does not hold.",
            grouped(evidence.unknown)
        ));
    }
    let others: Vec<String> =
        fitting.iter().skip(1).take(OTHERS_AT_MOST).map(|(candidate, _)| name(candidate)).collect();
    if !others.is_empty() {
        let more = fitting.len().saturating_sub(1).saturating_sub(others.len());
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        words.push(format!("Unique as well: {}{more}.", others.join(", ")));
    }
    KeyChoice { places: best.places.clone(), words }
}

fn no_key(survey: &Survey, tried: &[(Candidate, Option<KeyEvidence>)]) -> Vec<String> {
    let why = if survey.rows() == 0 {
        "the log holds no loaded or inserted row from which one could be told".to_owned()
    } else if tried.is_empty() {
        "no column that may be one is in every image and every delete with a value".to_owned()
    } else {
        format!(
            "none of the {} columns and pairs of columns that were tried tells the {} apart",
            tried.len(),
            counted(survey.rows(), "loaded and inserted row")
        )
    };
    vec![
        format!("No primary key is proposed: {why}."),
        "If the source has one, add a line PRIMARY KEY (…) NOT ENFORCED before you run the statement; if it has none,"
            .to_owned(),
        "end it with OPTIONS (labels = [('strait_key', 'none')]), and every row is added once.".to_owned(),
    ]
}

/// The columns that a key may consist of: always with a value, in deletes as well, and of a type that BigQuery lets be a
/// declared key. BYTES cannot be one, but the hexadecimal text can ([`key_type`]).
fn usable(survey: &Survey, columns: &[ColumnEvidence], choices: &[Choice]) -> Vec<usize> {
    columns
        .iter()
        .zip(choices)
        .enumerate()
        .filter(|(place, (column, _))| {
            column.is_never_missing() && column.in_deletes == survey.deletes && type_rank(choices, *place) < NO_KEY
        })
        .map(|(place, _)| place)
        .collect()
}

const NO_KEY: u8 = u8::MAX;

/// How likely a column of this type is a key.
fn type_rank(choices: &[Choice], place: usize) -> u8 {
    match choices.get(place).map(|choice| choice.column_type) {
        Some(ColumnType::Int64 | ColumnType::String | ColumnType::Bytes) => 0,
        Some(ColumnType::Numeric { .. } | ColumnType::BigNumeric { .. } | ColumnType::Date) => 1,
        Some(ColumnType::DateTime | ColumnType::Timestamp) => 2,
        _ => NO_KEY,
    }
}

/// The type that a column gets as a part of the key.
pub fn key_type(column_type: ColumnType) -> ColumnType {
    if column_type == ColumnType::Bytes { ColumnType::String } else { column_type }
}

fn is_of_postgresql(survey: &Survey) -> bool {
    survey.postgresql > 0 && survey.mysql == 0
}

/// The columns with a value in each of `records`, if others that are never missing in a row have none there: those records
/// then carry the key alone. Where it is `certain` that they do, all columns may be the key's.
fn carried_alone(
    columns: &[ColumnEvidence],
    records: u64,
    certain: bool,
    count: impl Fn(&ColumnEvidence) -> u64,
) -> Vec<usize> {
    let is_left_out = columns.iter().any(|column| column.is_never_missing() && count(column) == 0);
    if records == 0 || !(certain || is_left_out) {
        return Vec::new();
    }
    let carried: Vec<usize> = places(columns, |column| count(column) == records);
    if carried.len() > KEY_AT_MOST { Vec::new() } else { carried }
}

fn of_before_images(columns: &[ColumnEvidence]) -> Vec<usize> {
    let records = columns.iter().map(|column| column.in_before_images).max().unwrap_or(0);
    let strays = columns.iter().any(|column| column.in_before_images > 0 && column.in_before_images < records);
    // Before-images of whole rows lack what was NULL, so that some columns are there now and then.
    if strays { Vec::new() } else { carried_alone(columns, records, false, |column| column.in_before_images) }
}

fn places(columns: &[ColumnEvidence], is_it: impl Fn(&ColumnEvidence) -> bool) -> Vec<usize> {
    columns.iter().enumerate().filter(|(_, column)| is_it(column)).map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyEvidence = KeyEvidence { distinct: 20, shared: 0, repeated: 0, unknown: 0 };
    const SHARED: KeyEvidence = KeyEvidence { distinct: 5, shared: 15, repeated: 0, unknown: 0 };

    fn survey() -> Survey {
        Survey { loads: 20, updates: 4, deletes: 2, ..Survey::default() }
    }

    /// A column that is in every image, and in so many deletes and before-images.
    fn column(member: &str, in_deletes: u64, in_before_images: u64) -> ColumnEvidence {
        ColumnEvidence {
            member: member.to_owned(),
            images: 24,
            present: 24,
            values: 24,
            in_deletes,
            in_before_images,
            ..ColumnEvidence::default()
        }
    }

    fn of_types(types: &[ColumnType]) -> Vec<Choice> {
        types.iter().map(|of| Choice { column_type: *of, seen: String::new(), hint: None }).collect()
    }

    fn places_of(candidates: &[Candidate]) -> Vec<Vec<usize>> {
        candidates.iter().map(|candidate| candidate.places.clone()).collect()
    }

    const INT64: ColumnType = ColumnType::Int64;
    const STRING: ColumnType = ColumnType::String;

    #[test]
    fn what_deletes_alone_carry_comes_first_even_if_one_of_its_columns_is_unique() {
        let columns = [column("tenant", 2, 0), column("id", 2, 0), column("sku", 0, 0)];
        let choices = of_types(&[INT64, INT64, STRING]);
        let candidates = candidates(&survey(), &columns, &choices);
        assert_eq!(places_of(&candidates), [vec![0, 1], vec![0], vec![1]]);
        let tried: Vec<_> = candidates.into_iter().map(|candidate| (candidate, Some(KEY))).collect();
        let choice = choose(&survey(), &columns, &choices, &tried);
        assert_eq!(choice.places, [0, 1]);
        assert!(choice.words.join(" ").contains("Deletes (2) carry these columns and no others"));
    }

    #[test]
    fn deletes_of_whole_rows_are_no_evidence_for_mysql() {
        let columns = [column("id", 2, 0), column("sku", 2, 0)];
        let choices = of_types(&[INT64, STRING]);
        assert_eq!(places_of(&candidates(&survey(), &columns, &choices)), [vec![0], vec![1]]);
        // PostgreSQL sends the key alone, so that all columns of this table are its key.
        let of_postgresql = Survey { postgresql: 6, ..survey() };
        assert_eq!(places_of(&candidates(&of_postgresql, &columns, &choices)), [vec![0, 1], vec![0], vec![1]]);
    }

    #[test]
    fn before_images_of_the_key_alone_are_evidence_and_others_are_not() {
        let choices = of_types(&[INT64, STRING, STRING]);
        let with = |counts: [u64; 3]| {
            let [id, sku, name] = counts;
            let columns = [column("id", 2, id), column("sku", 2, sku), column("name", 2, name)];
            candidates(&survey(), &columns, &choices).first().map(|first| (first.origin, first.places.clone()))
        };
        assert_eq!(with([0, 3, 0]), Some((Origin::BeforeImages, vec![1])));
        assert_eq!(with([3, 3, 3]), Some((Origin::Values, vec![0])));
        assert_eq!(with([3, 2, 0]), Some((Origin::Values, vec![0])));
    }

    #[test]
    fn a_column_that_may_be_missing_or_has_no_key_type_is_no_candidate() {
        let columns = [
            ColumnEvidence { values: 23, ..column("nullable", 2, 0) },
            column("not in deletes", 1, 0),
            column("double", 2, 0),
            column("flag", 2, 0),
            column("uuid", 2, 0),
        ];
        let choices = of_types(&[INT64, INT64, ColumnType::Float64, ColumnType::Bool, ColumnType::Bytes]);
        assert_eq!(places_of(&candidates(&survey(), &columns, &choices)), [vec![4]]);
        assert_eq!(key_type(ColumnType::Bytes), STRING);
    }

    #[test]
    fn of_unique_columns_the_one_without_unknown_rows_wins_then_the_first() {
        let columns = [column("created_at", 2, 0), column("email", 2, 0), column("id", 2, 0)];
        let choices = of_types(&[ColumnType::DateTime, STRING, INT64]);
        let alone = |place: usize| Candidate { places: vec![place], origin: Origin::Values };
        let tried = [(alone(0), Some(KEY)), (alone(1), Some(KeyEvidence { unknown: 3, ..KEY })), (alone(2), Some(KEY))];
        let choice = choose(&survey(), &columns, &choices, &tried);
        assert_eq!(choice.places, [2]);
        assert!(choice.words.join(" ").contains("Unique as well: (`created_at`), (`email`)."), "{:?}", choice.words);
    }

    #[test]
    fn pairs_are_of_the_columns_that_tell_most_apart_and_no_key_is_said() {
        let alone = |place: usize, distinct| {
            let evidence = KeyEvidence { distinct, ..SHARED };
            (Candidate { places: vec![place], origin: Origin::Values }, Some(evidence))
        };
        let tried: Vec<_> = (0..12).map(|place| alone(place, u64::try_from(place).unwrap_or(0))).collect();
        let pairs = pairs(&tried);
        assert_eq!(pairs.len(), 28);
        assert_eq!(pairs.first().map(|pair| pair.places.clone()), Some(vec![4, 5]));
        let columns = [column("a", 2, 0), column("b", 2, 0)];
        let choice = choose(&survey(), &columns, &of_types(&[INT64, INT64]), &[alone(0, 3), alone(1, 2)]);
        assert!(choice.places.is_empty());
        let words = choice.words.join(" ");
        assert!(
            words.contains(
                "none of the 2 columns and pairs of columns that were tried tells the 20 loaded and inserted rows apart"
            ),
            "{words}"
        );
        assert!(words.contains("PRIMARY KEY"));
    }

    #[test]
    fn nothing_is_unique_among_no_rows() {
        let survey = Survey { updates: 4, ..Survey::default() };
        let tried = [(Candidate { places: vec![0], origin: Origin::Values }, Some(KeyEvidence { distinct: 0, ..KEY }))];
        let choice = choose(&survey, &[column("a", 0, 0)], &of_types(&[INT64]), &tried);
        assert!(choice.places.is_empty());
        assert!(choice.words.join(" ").contains("no loaded or inserted row"));
    }
}
