//! Positions: a text that is taken is printed as it was, and texts sort as what they were made of. An input is either texts, one a line
//! (each a position, a stream position and a time at once), or after `#` the numbers of two changes.

use std::borrow::Cow;

use strait::dms::{self, Metadata, Operation};
use strait::position::{Engine, Position, PositionKind};

pub const WORDS: &[&str] = &[
    "0000-0-00001714557600123456",
    "0000-1-t00001714557600123456-00000000000000000042",
    "0000-2-m0000002171-0036912135-00000000000000000001",
    "0000-2-m0000002171-0036912135-~00001714557600123456-00000000000000000042",
    "0000-2-p000000027C007178-00000000000000000001",
    "mysql-bin-changelog.000007:10:0:11:30064771082:mysql-bin-changelog.000007:10",
    "00000002/7C007178.4.00000002/7C007178",
    "\n",
    "~",
    "/",
    "2024-05-01T10:00:00.000001Z",
    "0001-01-01 00:00:00",
    "9999-12-31T23:59:59.999999999+00:00",
    "2024-02-29",
];

pub fn check(input: &[u8]) {
    match input.strip_prefix(b"#") {
        Some(numbers) => changes(numbers),
        None => {
            if let Ok(text) = std::str::from_utf8(input) {
                texts(text);
            }
        }
    }
}

fn texts(text: &str) {
    let mut positions = Vec::new();
    for line in text.split('\n') {
        if let Some(micros) = dms::parse_timestamp(line) {
            assert_eq!(micros, micros_of(line), "{line}");
        }
        for offset in [-1, 7] {
            let metadata = Metadata { stream_position: Some(Cow::Borrowed(line)), ..Metadata::default() };
            let position = Position::of_change(&metadata, Operation::Update, offset);
            assert_eq!(position.to_string().parse::<Position>().as_ref(), Ok(&position), "{line}");
            assert_eq!(position.engine().is_some(), position.kind() == PositionKind::Source);
        }
        if let Ok(position) = line.parse::<Position>() {
            assert_eq!(position.to_string(), line);
            assert_eq!(position.as_str(), line);
            positions.push((rank_of(line), position));
        }
    }
    for pair in positions.windows(2) {
        assert_eq!(pair[0].0.cmp(&pair[1].0), pair[0].1.cmp(&pair[1].1), "{} {}", pair[0].1, pair[1].1);
        assert_eq!(pair[0].1.cmp(&pair[1].1), pair[0].1.as_str().cmp(pair[1].1.as_str()));
    }
}

/// Class, engine and numbers of a position, read off its text; a record's number comes before an emission in its place.
type Rank = (u8, u8, Vec<(u8, u64)>);

fn rank_of(text: &str) -> Rank {
    let mut parts = text.split('-').skip(1);
    let class = parts.next().unwrap().parse().unwrap();
    let mut engine = 0;
    let mut numbers = Vec::new();
    for part in parts {
        let (marks, digits): (Vec<char>, Vec<char>) = part.chars().partition(|c| matches!(c, 't' | 'm' | 'p' | '~'));
        let digits: String = digits.into_iter().collect();
        let radix = if marks.contains(&'p') { 16 } else { 10 };
        engine = engine.max(match marks.first() {
            Some('m') => 1,
            Some('p') => 2,
            _ => 0,
        });
        // Twenty digits can say more than 64 bits hold.
        let number = u128::from_str_radix(&digits, radix).unwrap();
        let (high, low) = (number >> 64, number & u128::from(u64::MAX));
        numbers.push((u8::from(marks.contains(&'~')), u64::try_from(high).unwrap()));
        numbers.push((0, u64::try_from(low).unwrap()));
    }
    (class, engine, numbers)
}

/// Microseconds since 1970 by counting days (the algorithm of <https://howardhinnant.github.io/date_algorithms.html#days_from_civil>).
fn micros_of(text: &str) -> i64 {
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let seconds = number(11..13) * 3_600 + number(14..16) * 60 + number(17..19);
    let fraction: String =
        text[19..].strip_prefix('.').unwrap_or("").chars().take_while(char::is_ascii_digit).collect();
    let fraction: i64 = format!("{fraction:0<6}")[..6].parse().unwrap();
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    (days * 86_400 + seconds) * 1_000_000 + fraction
}

/// What a change's position is made of.
struct Change {
    operation: Operation,
    transaction_id: Option<u64>,
    record: Option<u64>,
    lsn: Option<u64>,
    emitted_at: Option<i64>,
    offset: i64,
}

impl Change {
    fn of(bytes: &mut &[u8]) -> Option<Self> {
        let (&[flags, ..], rest) = bytes.split_first_chunk::<1>()?;
        *bytes = rest;
        let mut number = || {
            let (number, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            Some(u64::from_be_bytes(*number))
        };
        let when = |flag: u8, number: u64| (flags & flag != 0).then_some(number);
        Some(Self {
            operation: Operation::ALL[usize::from(flags >> 6)],
            transaction_id: when(1, number()?),
            record: when(2, number()?),
            lsn: when(4, number()?),
            emitted_at: when(8, number()?).map(u64::cast_signed),
            offset: number()?.cast_signed(),
        })
    }

    fn position(&self) -> Position {
        let stream = self.lsn.map(|lsn| {
            format!("{:08X}/{:X}.3.{:08X}/{:08X}", lsn >> 32, lsn & 0xFFFF_FFFF, lsn >> 32, lsn & 0xFFFF_FFFF)
        });
        let metadata = Metadata {
            transaction_id: self.transaction_id,
            transaction_record_id: self.record,
            stream_position: stream.map(Cow::Owned),
            emitted_at: self.emitted_at,
            ..Metadata::default()
        };
        Position::of_change(&metadata, self.operation, self.offset)
    }

    /// By the table in the module's documentation.
    fn rank(&self) -> Rank {
        let not_negative = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
        let emitted = not_negative(self.emitted_at);
        let offset = not_negative(Some(self.offset));
        let numbers = |numbers: &[u64]| numbers.iter().flat_map(|number| [(0, 0), (0, *number)]).collect::<Vec<_>>();
        let in_transaction = |mut first: Vec<(u8, u64)>| {
            match self.record {
                Some(record) => first.extend(numbers(&[record])),
                None => {
                    first.extend([(1, 0), (0, emitted)]);
                    first.extend(numbers(&[offset]));
                }
            }
            first
        };
        match (self.operation, self.lsn, self.transaction_id) {
            (Operation::Load, ..) => (0, 0, numbers(&[emitted])),
            (_, Some(lsn), _) => (2, 2, in_transaction(numbers(&[lsn]))),
            (_, None, Some(id)) if id >> 32 > 0 => (2, 1, in_transaction(numbers(&[id >> 32, id & 0xFFFF_FFFF]))),
            _ => (1, 0, numbers(&[emitted, offset])),
        }
    }
}

fn changes(mut numbers: &[u8]) {
    let mut last: Option<(Rank, Position)> = None;
    while let Some(change) = Change::of(&mut numbers) {
        let (rank, position) = (change.rank(), change.position());
        assert_eq!(position.as_str().parse::<Position>().as_ref(), Ok(&position));
        assert_eq!(rank_of(position.as_str()), rank, "{position}");
        assert_eq!(
            position.kind(),
            [PositionKind::Load, PositionKind::Emission, PositionKind::Source][usize::from(rank.0)]
        );
        assert_eq!(position.engine(), [None, Some(Engine::MySql), Some(Engine::PostgreSql)][usize::from(rank.1)]);
        if position.kind() == PositionKind::Source && change.record.is_some() {
            let again = Change { emitted_at: Some(1), offset: change.offset.wrapping_add(1), ..change };
            assert_eq!(again.position(), position, "a change that is sent twice has two positions");
        }
        if let Some((last_rank, last_position)) = last {
            assert_eq!(
                last_rank.cmp(&rank),
                last_position.as_str().cmp(position.as_str()),
                "{last_position} {position}"
            );
        }
        last = Some((rank, position));
    }
}
