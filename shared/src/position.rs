//! The position of a change: a text that sorts, byte by byte, as the source committed its changes. It is the only order
//! that the merge knows. It must never depend on when or how often a change was delivered while the source's own position
//! is known, and never be taken from a number that is no order (a PostgreSQL xid).
//!
//! Every number is zero-padded, so that text order is the order of the numbers; every position begins
//! `EEEE-C-`: the epoch and the class. In the log the epoch is always `0000`, for a record does not say when a numbering began
//! anew; the merge puts the table's in its place, which is longer and so sorts above it ([`EPOCH_DIGITS`]).
//!
//! | class | what | layout after `EEEE-C-` | example |
//! |---|---|---|---|
//! | 0 | row of a full load | emission time | `0000-0-00001714557600123456` |
//! | 1 | change or control record without a source position | `t`, emission time, Kafka offset | `0000-1-t00001714557600123456-00000000000000000042` |
//! | 2 | MySQL | `m`, binlog file, position, record of the transaction | `0000-2-m0000002171-0036912135-00000000000000000001` |
//! | 2 | MySQL without transaction details | `m`, binlog file, position, `~`, emission time, Kafka offset | `0000-2-m0000002171-0036912135-~00001714557600123456-00000000000000000042` |
//! | 2 | PostgreSQL | `p`, LSN, record of the transaction | `0000-2-p000000027C007178-00000000000000000001` |
//! | 1, 2 | a row that `strait verify --repair` read again | as without transaction details, one byte before the source's position | `0000-2-m0000002171-0036912134-~00001714557600123456-00000000000000000000` |
//!
//! Debezium's positions are of the same text: of MySQL the event's own place in the binlog, which lies between the start of its transaction
//! and that of the next, and the event's row in the place of the record; of PostgreSQL the change's own LSN.
//!
//! Times are microseconds since the Unix epoch, 0 where unknown or earlier.
//!
//! - A loaded row comes before every change: the load copies a state, and any change that DMS sends is at least as new.
//! - Class 1 comes before class 2, so that the first changes after IncludeTransactionDetails was switched on are newer than
//!   all before. The other way round every new change would look stale. (Switching it *off* does that; the setting has to stay.)
//! - `~` sorts after digits: where a transaction's records have no numbers, emission time and offset order them.
//! - Of MySQL the transaction's start orders, not the event's: `transaction-id` carries it with and without
//!   transaction details, so switching them on or off does not reorder anything there.

use std::fmt;
use std::str::FromStr;

use crate::debezium::Place;
use crate::dms::{Metadata, Operation};

/// The epoch of every position in the log.
pub const NO_EPOCH: &str = "0000";
const EPOCH: &str = NO_EPOCH;
/// Digits of an epoch that the merge puts in its place: µs since the epoch of Unix, until the year 2286. However small the
/// number, the fifth digit sorts above the `-` of [`NO_EPOCH`].
pub const EPOCH_DIGITS: usize = 16;

/// Where a change stands among all changes. Compares as text, as it does in BigQuery.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(String);

/// What a position was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PositionKind {
    /// A row of a full load: before every change.
    Load,
    /// When DMS built the message: no source position was known.
    Emission,
    /// The source's own order.
    Source,
}

/// Whose order it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Binlog file and position.
    MySql,
    /// Log sequence number.
    PostgreSql,
}

/// Where a source's log of changes stood at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourcePoint {
    /// The end of MySQL's binlog.
    MySql {
        /// The file's number.
        file: u64,
        /// The place in it at which the next event begins.
        position: u64,
    },
    /// The end of PostgreSQL's log.
    PostgreSql {
        /// At which the next record begins.
        lsn: u64,
    },
}

/// A text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position that this version of Strait writes")]
pub struct NotAPosition;

impl Position {
    /// The position of a change of a row. `kafka_offset` only breaks ties where the source gives no order.
    #[must_use]
    pub fn of_change(metadata: &Metadata<'_>, operation: Operation, kafka_offset: i64) -> Self {
        let layout = match operation {
            Operation::Load => Layout::Load { emitted: not_negative(metadata.emitted_at) },
            Operation::Insert | Operation::Update | Operation::Delete => Layout::of_change(metadata, kafka_offset),
        };
        Self(layout.text())
    }

    /// The position of a control record, which has no place in the source's order: DMS sends it on another Kafka key.
    #[must_use]
    pub fn of_control(metadata: &Metadata<'_>, kafka_offset: i64) -> Self {
        Self(Layout::Emission(Emission::of(metadata, kafka_offset)).text())
    }

    /// The position of a change that Debezium captured. `order` is the change's among those of one place in PostgreSQL's log, where several
    /// rows can be written at once; None where it is not known, and then the Kafka record alone tells such changes apart.
    #[must_use]
    pub fn of_place(place: Place, order: Option<u64>, metadata: &Metadata<'_>, kafka_offset: i64) -> Self {
        let layout = match place {
            Place::Binlog { file, position, row } => Layout::MySql { file, position, record: Record::Numbered(row) },
            Place::Lsn(lsn) => {
                let unnumbered = || Record::Unnumbered(Emission::of(metadata, kafka_offset));
                Layout::PostgreSql { lsn, record: order.map_or_else(unnumbered, Record::Numbered) }
            }
        };
        Self(layout.text())
    }

    /// The position of a row that was read from the source again: above every change that the source's log held at `point`, and below
    /// every one that it did not. `None` without a point puts it where changes without a source position stand that DMS sends at that
    /// time, `emitted`, in µs since the epoch. `place` tells apart rows that were read at one point.
    ///
    /// No change begins one byte before the point, for that is inside the last event or record before it.
    #[must_use]
    pub fn of_row_read_again(point: Option<SourcePoint>, emitted: i64, place: i64) -> Self {
        let emission = Emission { emitted: not_negative(Some(emitted)), offset: not_negative(Some(place)) };
        let record = Record::Unnumbered(emission);
        let layout = match point {
            Some(SourcePoint::MySql { file, position }) => {
                Layout::MySql { file, position: position.saturating_sub(1), record }
            }
            Some(SourcePoint::PostgreSql { lsn }) => Layout::PostgreSql { lsn: lsn.saturating_sub(1), record },
            None => Layout::Emission(emission),
        };
        Self(layout.text())
    }

    /// The text, as it stands in the log.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it was made of.
    #[must_use]
    pub fn kind(&self) -> PositionKind {
        match class_of(&self.0) {
            b'0' => PositionKind::Load,
            b'2' => PositionKind::Source,
            _ => PositionKind::Emission,
        }
    }

    /// Whose order it is; None when it is not the source's.
    #[must_use]
    pub fn engine(&self) -> Option<Engine> {
        let rest = self.0.strip_prefix(EPOCH)?.strip_prefix("-2-")?;
        match rest.as_bytes().first() {
            Some(b'm') => Some(Engine::MySql),
            Some(b'p') => Some(Engine::PostgreSql),
            _ => None,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Position {
    type Err = NotAPosition;

    /// Takes exactly what this module writes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_well_formed(text) { Ok(Self(text.to_owned())) } else { Err(NotAPosition) }
    }
}

/// The parts of a position before they become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layout {
    Load { emitted: u64 },
    Emission(Emission),
    MySql { file: u64, position: u64, record: Record },
    PostgreSql { lsn: u64, record: Record },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Emission {
    emitted: u64,
    offset: u64,
}

impl Emission {
    fn of(metadata: &Metadata<'_>, kafka_offset: i64) -> Self {
        Self { emitted: not_negative(metadata.emitted_at), offset: not_negative(Some(kafka_offset)) }
    }
}

/// The place within a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Record {
    Numbered(u64),
    Unnumbered(Emission),
}

impl Layout {
    fn of_change(metadata: &Metadata<'_>, kafka_offset: i64) -> Self {
        let emission = Emission::of(metadata, kafka_offset);
        let record = match metadata.transaction_record_id {
            Some(number) => Record::Numbered(number),
            None => Record::Unnumbered(emission),
        };
        let stream = metadata.stream_position.as_deref().and_then(StreamPosition::parse);
        if let Some(StreamPosition::PostgreSql { lsn }) = stream {
            return Self::PostgreSql { lsn, record };
        }
        let from_id = metadata.transaction_id.and_then(binlog_start);
        let from_stream = match stream {
            Some(StreamPosition::MySql { file, position }) => Some((file, position)),
            _ => None,
        };
        match from_id.or(from_stream) {
            Some((file, position)) => Self::MySql { file, position, record },
            None => Self::Emission(emission),
        }
    }
}

// Written digit by digit: `format!` takes five times as long, and every change has a position.
impl Layout {
    fn text(&self) -> String {
        /// The longest: MySQL without transaction details.
        const LONGEST: usize = 80;
        let mut text = String::with_capacity(LONGEST);
        text.push_str(EPOCH);
        match self {
            Self::Load { emitted } => {
                text.push_str("-0-");
                push_padded::<20, 10>(&mut text, *emitted);
            }
            Self::Emission(emission) => {
                text.push_str("-1-t");
                emission.push_to(&mut text);
            }
            Self::MySql { file, position, record } => {
                text.push_str("-2-m");
                push_padded::<10, 10>(&mut text, *file);
                text.push('-');
                push_padded::<10, 10>(&mut text, *position);
                text.push('-');
                record.push_to(&mut text);
            }
            Self::PostgreSql { lsn, record } => {
                text.push_str("-2-p");
                push_padded::<16, 16>(&mut text, *lsn);
                text.push('-');
                record.push_to(&mut text);
            }
        }
        text
    }
}

impl Emission {
    fn push_to(self, text: &mut String) {
        push_padded::<20, 10>(text, self.emitted);
        text.push('-');
        push_padded::<20, 10>(text, self.offset);
    }
}

impl Record {
    fn push_to(self, text: &mut String) {
        match self {
            Self::Numbered(number) => push_padded::<20, 10>(text, number),
            Self::Unnumbered(emission) => {
                text.push('~');
                emission.push_to(text);
            }
        }
    }
}

/// `number` with zeros before it, in `WIDTH` digits of `BASE` (10 or 16). Its callers know that it fits: a `u64` has 20 decimal and 16
/// hexadecimal digits, and parts of a binlog position are kept below 10¹⁰.
fn push_padded<const WIDTH: usize, const BASE: u64>(text: &mut String, mut number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut digits = [b'0'; WIDTH];
    for digit in digits.iter_mut().rev() {
        let value = usize::try_from(number % BASE).unwrap_or_default();
        *digit = DIGITS.get(value).copied().unwrap_or(b'0');
        number /= BASE;
    }
    text.push_str(std::str::from_utf8(&digits).unwrap_or_default());
}

fn not_negative(number: Option<i64>) -> u64 {
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

/// Binlog file number and position from a `transaction-id`. Binlog files are numbered from 1, so anything below 2³² is
/// another engine's number (PostgreSQL's 32-bit xid).
fn binlog_start(transaction_id: u64) -> Option<(u64, u64)> {
    let file = transaction_id >> 32;
    (file >= 1).then_some((file, transaction_id & u64::from(u32::MAX)))
}

/// What `stream-position` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamPosition {
    MySql { file: u64, position: u64 },
    PostgreSql { lsn: u64 },
}

impl StreamPosition {
    fn parse(text: &str) -> Option<Self> {
        Self::mysql(text).or_else(|| Self::postgresql(text))
    }

    /// `file:eventpos:0:nextpos:transaction-id:file:txnstart`.
    fn mysql(text: &str) -> Option<Self> {
        /// Ten digits are what the layout has room for.
        const TOO_LARGE: u64 = 10_000_000_000;
        let mut fields = text.split(':');
        let transaction_id = fields.nth(4)?;
        let (file, start) = (fields.next()?, fields.next()?);
        if fields.next().is_some() {
            return None;
        }
        let from_id = decimal(transaction_id).and_then(binlog_start);
        let (file, position) = match from_id {
            Some(start) => start,
            None => {
                let (_, number) = file.rsplit_once('.')?;
                (decimal(number)?, decimal(start)?)
            }
        };
        (file < TOO_LARGE && position < TOO_LARGE).then_some(Self::MySql { file, position })
    }

    /// `HHHHHHHH/HHHHHHHH.n.HHHHHHHH/HHHHHHHH`; the halves need not be padded.
    fn postgresql(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let first = lsn(parts.next()?)?;
        if let Some(count) = parts.next() {
            decimal(count)?;
            lsn(parts.next()?)?;
        }
        parts.next().is_none().then_some(Self::PostgreSql { lsn: first })
    }
}

fn lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    Some((hexadecimal(high)? << 32) | hexadecimal(low)?)
}

/// One half of an LSN.
fn hexadecimal(text: &str) -> Option<u64> {
    let fits = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if fits { u64::from_str_radix(text, 16).ok() } else { None }
}

/// Digits only: `parse` alone takes a sign.
fn decimal(text: &str) -> Option<u64> {
    let fits = text.bytes().all(|byte| byte.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

fn class_of(text: &str) -> u8 {
    text.as_bytes().get(EPOCH.len().saturating_add(1)).copied().unwrap_or_default()
}

fn is_well_formed(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(EPOCH) else {
        return false;
    };
    let emission = |text: &str| {
        text.split_once('-').is_some_and(|(emitted, offset)| is_padded(emitted, 20) && is_padded(offset, 20))
    };
    let record = |text: &str| match text.strip_prefix('~') {
        Some(unnumbered) => emission(unnumbered),
        None => is_padded(text, 20),
    };
    if let Some(emitted) = rest.strip_prefix("-0-") {
        is_padded(emitted, 20)
    } else if let Some(by_emission) = rest.strip_prefix("-1-t") {
        emission(by_emission)
    } else if let Some(mysql) = rest.strip_prefix("-2-m") {
        let mut parts = mysql.splitn(3, '-');
        let mut number = || parts.next().is_some_and(|part| is_padded(part, 10));
        number() && number() && parts.next().is_some_and(record)
    } else if let Some(postgresql) = rest.strip_prefix("-2-p") {
        let is_hex =
            |part: &str| part.len() == 16 && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
        postgresql.split_once('-').is_some_and(|(lsn, last)| is_hex(lsn) && record(last))
    } else {
        false
    }
}

fn is_padded(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;
    use std::borrow::Cow;

    const OFFSET: i64 = 42;

    fn metadata(transaction_id: Option<u64>, record: Option<u64>, stream: Option<&'static str>) -> Metadata<'static> {
        Metadata {
            transaction_id,
            transaction_record_id: record,
            stream_position: stream.map(Cow::Borrowed),
            emitted_at: Some(1_714_557_600_123_456),
            ..Metadata::default()
        }
    }

    fn update(transaction_id: Option<u64>, record: Option<u64>, stream: Option<&'static str>) -> String {
        let metadata = metadata(transaction_id, record, stream);
        let position = Position::of_change(&metadata, Operation::Update, OFFSET);
        assert_eq!(position.as_str().parse(), Ok(position.clone()));
        position.to_string()
    }

    const MYSQL: &str = "bin.002171:36912271:0:36912333:9324410911751:bin.002171:36912209";
    const POSTGRESQL: &str = "00000002/7C007178.3.00000002/7C007178";
    const BY_EMISSION: &str = "0000-1-t00001714557600123456-00000000000000000042";

    #[test]
    fn mysql_is_ordered_by_binlog_and_record() {
        let expected = "0000-2-m0000002171-0036912135-00000000000000000001";
        assert_eq!(update(Some(9_324_410_911_751), Some(1), Some(MYSQL)), expected);
        assert_eq!(update(None, Some(1), Some(MYSQL)), expected);
        assert_eq!(update(Some(9_324_410_911_751), Some(1), None), expected);
        // Not a format that is known: the transaction id still is.
        assert_eq!(update(Some(9_324_410_911_751), Some(1), Some("?")), expected);
        // With and without transaction details the same start of the transaction has to come out.
        assert_eq!(update(Some(9_324_410_911_751), Some(1), Some("bin.002171:5:0:9:0:bin.002171:36912209")), expected);
        assert_eq!(
            update(None, Some(1), Some("bin.002171:5:0:9:0:bin.002170:77")),
            "0000-2-m0000002170-0000000077-00000000000000000001"
        );
        assert_eq!(
            update(Some(9_324_410_911_751), None, None),
            "0000-2-m0000002171-0036912135-~00001714557600123456-00000000000000000042"
        );
    }

    #[test]
    fn postgresql_is_ordered_by_lsn_and_record_never_by_xid() {
        let expected = "0000-2-p000000027C007178-00000000000000000001";
        assert_eq!(update(Some(1139), Some(1), Some(POSTGRESQL)), expected);
        assert_eq!(update(None, Some(1), Some("2/7c007178")), expected);
        assert_eq!(update(Some(1139), Some(1), None), BY_EMISSION);
        assert_eq!(update(Some(u64::from(u32::MAX)), None, None), BY_EMISSION);
        assert_eq!(
            update(Some(1139), None, Some(POSTGRESQL)),
            "0000-2-p000000027C007178-~00001714557600123456-00000000000000000042"
        );
    }

    #[test]
    fn a_row_read_again_stands_between_what_was_and_what_comes() {
        // The binlog ended at 36912135, where the next transaction began.
        let mysql = Position::of_row_read_again(Some(SourcePoint::MySql { file: 2171, position: 36_912_135 }), 7, 3);
        assert_eq!(mysql.as_str().parse(), Ok(mysql.clone()));
        let last = update(Some((2171 << 32) | 36_912_100), Some(u64::MAX), None);
        assert!(last.as_str() < mysql.as_str());
        assert!(mysql.as_str() < update(Some(9_324_410_911_751), Some(0), None).as_str());
        let postgresql = Position::of_row_read_again(Some(SourcePoint::PostgreSql { lsn: 0x2_7C00_7178 }), 7, 3);
        assert_eq!(postgresql.as_str().parse(), Ok(postgresql.clone()));
        assert!(update(None, Some(u64::MAX), Some("2/7C007170")).as_str() < postgresql.as_str());
        assert!(postgresql.as_str() < update(None, Some(0), Some(POSTGRESQL)).as_str());
        let by_emission = Position::of_row_read_again(None, 1_714_557_600_123_455, 9);
        assert!(by_emission.as_str() < BY_EMISSION);
        assert_eq!(by_emission.kind(), PositionKind::Emission);
    }

    #[test]
    fn an_unknown_stream_position_is_no_position() {
        for stream in [
            "00000002/7C007178.3",
            "00000002/7C007178.x.00000002/7C007178",
            "000000002/7C007178",
            "2/",
            "bin.1:2:3",
            "bin.x:5:0:9:0:bin.x:77",
            "bin.1:5:0:9:0:bin.1:77:8",
            "bin.10000000000:5:0:9:0:bin.10000000000:77",
            "2024-01-01T00:00:00Z",
        ] {
            assert_eq!(update(None, Some(1), Some(stream)), BY_EMISSION, "{stream}");
        }
    }

    #[test]
    fn loads_and_control_records_have_their_own_classes() {
        let metadata = metadata(Some(9_324_410_911_751), Some(1), Some(MYSQL));
        let load = Position::of_change(&metadata, Operation::Load, OFFSET);
        assert_eq!(load.as_str(), "0000-0-00001714557600123456");
        assert_eq!((load.kind(), load.engine()), (PositionKind::Load, None));

        let control = Position::of_control(&metadata, OFFSET);
        assert_eq!(control.as_str(), BY_EMISSION);
        assert_eq!((control.kind(), control.engine()), (PositionKind::Emission, None));

        let change = Position::of_change(&metadata, Operation::Delete, OFFSET);
        assert_eq!((change.kind(), change.engine()), (PositionKind::Source, Some(Engine::MySql)));
        assert!(load < control && control < change);

        let unknown = Position::of_change(&Metadata::default(), Operation::Load, OFFSET);
        assert_eq!(unknown.as_str(), "0000-0-00000000000000000000");
    }

    #[test]
    fn a_redelivered_load_ties_with_itself() {
        let metadata = metadata(None, None, None);
        assert_eq!(
            Position::of_change(&metadata, Operation::Load, 1),
            Position::of_change(&metadata, Operation::Load, 2)
        );
    }

    #[test]
    fn the_millionth_binlog_file_follows_the_one_before() {
        let last = update(None, Some(9), Some("bin.999999:5:0:9:0:bin.999999:4294967295"));
        let next = update(None, Some(1), Some("bin.1000000:5:0:9:0:bin.1000000:4"));
        assert!(last < next);
        let last = update(Some((999_999 << 32) | 4_000_000_000), Some(9), None);
        let next = update(Some((1_000_000 << 32) | 4), Some(1), None);
        assert!(last < next);
    }

    fn record() -> impl Strategy<Value = Record> {
        // Small numbers as well, so that ties happen.
        let number = || prop_oneof![0..3_u64, any::<u64>()];
        prop_oneof![
            number().prop_map(Record::Numbered),
            (number(), number()).prop_map(|(emitted, offset)| Record::Unnumbered(Emission { emitted, offset })),
        ]
    }

    fn layout() -> impl Strategy<Value = Layout> {
        let number = || prop_oneof![0..3_u64, 0..10_000_000_000_u64];
        let wide = || prop_oneof![0..3_u64, any::<u64>()];
        prop_oneof![
            wide().prop_map(|emitted| Layout::Load { emitted }),
            (wide(), wide()).prop_map(|(emitted, offset)| Layout::Emission(Emission { emitted, offset })),
            (number(), number(), record()).prop_map(|(file, position, record)| Layout::MySql {
                file,
                position,
                record
            }),
            (wide(), record()).prop_map(|(lsn, record)| Layout::PostgreSql { lsn, record }),
        ]
    }

    proptest! {
        #[test]
        fn text_order_is_the_order_of_the_parts(left in layout(), right in layout()) {
            prop_assert_eq!(left.cmp(&right), left.text().cmp(&right.text()));
            prop_assert!(left.text().parse::<Position>().is_ok());
        }

        #[test]
        fn a_change_sent_twice_has_one_position(
            id in (1_u64 << 32)..u64::MAX,
            lsn in any::<u64>(),
            record in any::<u64>(),
            emitted in prop::array::uniform2(any::<Option<i64>>()),
            offsets in prop::array::uniform2(any::<i64>()),
        ) {
            let stream = format!("{:08X}/{:08X}.1.{:08X}/{:08X}", lsn >> 32, lsn & 0xFFFF_FFFF, lsn >> 32, lsn & 0xFFFF_FFFF);
            for stream in [None, Some(stream.as_str())] {
                let [first, second] = [0, 1].map(|which: usize| {
                    let metadata = Metadata {
                        transaction_id: Some(id),
                        transaction_record_id: Some(record),
                        stream_position: stream.map(Cow::Borrowed),
                        emitted_at: emitted[which],
                        ..Metadata::default()
                    };
                    Position::of_change(&metadata, Operation::Insert, offsets[which])
                });
                prop_assert_eq!(first.kind(), PositionKind::Source);
                prop_assert_eq!(first, second);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), near in "[0-9a-zA-Z:./~-]{0,60}") {
            for text in [text, near] {
                let _ = text.parse::<Position>();
                let _ = StreamPosition::parse(&text);
            }
        }
    }
}
