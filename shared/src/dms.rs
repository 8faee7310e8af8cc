//! AWS DMS messages on Kafka: one text → one [`Message`], its row images kept as the text they were received as. What has no `metadata` may
//! be [`debezium`]'s.
//! It must never guess (what it cannot read it refuses, with the reason), never panic, and never put a word of the
//! message into a reason.
//!
//! The envelope is `{"data":{…}, "before-image":{…}?, "metadata":{…}}` for a change and `{"control":{…}?, "metadata":{…}}`
//! for a control record
//! (<https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Target.Kafka.html#CHAP_Target.Kafka.MessageFormat>).
//! Members are found by name only: their order varies, and collectors add members of their own, which are passed over.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::debezium::{self, Event, EventFault};
use crate::json_text::{self, JsonFault};
use crate::names::SourceTable;

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Copied by the full load; no change of the source.
    Load,
    /// Inserted.
    Insert,
    /// Updated.
    Update,
    /// Deleted.
    Delete,
}

impl Operation {
    /// Every operation of a data record.
    pub const ALL: [Self; 4] = [Self::Load, Self::Insert, Self::Update, Self::Delete];

    /// DMS's word for it, which is the log's as well.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == word)
    }
}

/// The log's word for a record that could not be decoded. No control record may take it for its operation.
pub const POISON: &str = "poison";

/// One DMS message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it says.
    pub kind: Kind<'a>,
    /// About which table, and when.
    pub metadata: Metadata<'a>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A row changed (`record-type` is `data`).
    Change(Change<'a>),
    /// A table changed (`record-type` is `control`).
    Control(Control<'a>),
}

/// A change of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<'a> {
    /// What happened to the row.
    pub operation: Operation,
    /// The row image: a JSON object, to the letter.
    pub data: &'a str,
    /// The before-image: a JSON object, to the letter; None when absent or null. `{}` is kept: it says that the key did
    /// not change.
    pub before: Option<&'a str>,
}

/// A change of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control<'a> {
    /// As given: DMS may know more of them than are documented. Never a word that [`Operation`] uses, nor [`POISON`].
    pub operation: Cow<'a, str>,
    /// `control` to the letter; None when absent or null (IncludeControlDetails is off).
    pub definition: Option<&'a str>,
}

/// What is known of a message beside its content. Only the names are always there, and may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata<'a> {
    /// `schema-name`; empty for DMS's own control tables.
    pub schema: Cow<'a, str>,
    /// `table-name`.
    pub table: Cow<'a, str>,
    /// `transaction-id`: MySQL's is (binlog file number << 32) | position, PostgreSQL's is the xid, which is no order.
    pub transaction_id: Option<u64>,
    /// `transaction-record-id`: the place within the transaction.
    pub transaction_record_id: Option<u64>,
    /// `stream-position`.
    pub stream_position: Option<Cow<'a, str>>,
    /// `timestamp`: when DMS built the message; microseconds since the Unix epoch, UTC. Another one in a duplicate.
    pub emitted_at: Option<i64>,
    /// `commit-timestamp`: when the source committed; microseconds since the Unix epoch, UTC.
    pub committed_at: Option<i64>,
}

impl Metadata<'_> {
    /// Whether the table is one of DMS's own (`awsdms_status`, `awsdms_history`, …), in whatever schema.
    #[must_use]
    pub fn is_dms_own(&self) -> bool {
        is_dms_own(&self.table)
    }
}

/// Whether a table is one of DMS's own, by its name.
#[must_use]
pub fn is_dms_own(table: &str) -> bool {
    table.starts_with("awsdms_")
}

/// Why a text is no DMS message. No kind holds a word of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeErrorKind {
    /// The text is no JSON.
    #[error("not JSON: {0}")]
    NotJson(JsonFault),
    /// Nested too deep to be handled safely anywhere downstream.
    #[error("nested deeper than 128 levels")]
    TooDeep,
    /// JSON, but no object.
    #[error("not a JSON object")]
    NotAnObject,
    /// A member of the envelope or of the metadata stands there twice: it is not known which one counts.
    #[error("duplicate member `{0}`")]
    DuplicateMember(&'static str),
    /// A member is missing, null or empty that has to be there.
    #[error("no `{0}`")]
    Missing(&'static str),
    /// A member has to be an object.
    #[error("`{0}` is not an object")]
    MemberNotAnObject(&'static str),
    /// A member has to be text.
    #[error("`{0}` is not readable text")]
    NotText(&'static str),
    /// A member has to be a number from 0 to 2⁶⁴−1.
    #[error("`{0}` is not a number from 0 to 18446744073709551615")]
    NotANumber(&'static str),
    /// `record-type` is neither `data` nor `control`.
    #[error("`record-type` is neither `data` nor `control`")]
    UnknownRecordType,
    /// `operation` of a data record is none of the four.
    #[error("`operation` of a data record is none of load, insert, update, delete")]
    UnknownOperation,
    /// `operation` of a control record is a word that the log uses for something else.
    #[error("`operation` of a control record is one of load, insert, update, delete, poison")]
    ControlNamedAsChange,
    /// It is not DMS's, and no change event of Debezium's that can be taken.
    #[error(transparent)]
    Debezium(#[from] EventFault),
}

/// Why a text is no DMS message, and the table it speaks of, as far as that could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct DecodeError {
    /// The reason.
    pub kind: DecodeErrorKind,
    /// The table, when the metadata could be read that far.
    pub table: Option<SourceTable>,
}

impl From<DecodeErrorKind> for DecodeError {
    fn from(kind: DecodeErrorKind) -> Self {
        Self { kind, table: None }
    }
}

/// A record of either capture tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// A DMS message.
    Dms(Message<'a>),
    /// An event of Debezium's.
    Debezium(Event<'a>),
}

/// Decodes one DMS message, where nothing else can be.
///
/// # Errors
/// The reason, without a word of the text.
pub fn decode_message(text: &str) -> Result<Message<'_>, DecodeError> {
    match decode(text)? {
        Record::Dms(message) => Ok(message),
        Record::Debezium(_) => Err(DecodeErrorKind::Missing("metadata").into()),
    }
}

/// Decodes one record, whichever tool made it: one with `metadata` is DMS's, and whether there is any is known once DMS's envelope is read.
///
/// # Errors
/// The reason, without a word of the text.
pub fn decode(text: &str) -> Result<Record<'_>, DecodeError> {
    // Neither this nor what follows recurses, so that the table of a text nested too deep can still be told.
    let (envelope, fields) = envelope(text)?;
    let [_, data, before, control, schema, payload] = envelope.values;
    let Some(fields) = fields else {
        // The converter writes both or none: a row without its envelope may have a column of one of these names.
        let enveloped = schema.zip(payload);
        if let Some(name) = envelope.duplicate_among(OF_DEBEZIUM).filter(|_| enveloped.is_some()) {
            return Err(DecodeErrorKind::DuplicateMember(name).into());
        }
        return debezium::event(text, enveloped)
            .map(Record::Debezium)
            .map_err(|(kind, table)| DecodeError { kind, table });
    };
    // With one of these twice it is open which table the record is of.
    if let Some(name @ "metadata") = envelope.duplicate() {
        return Err(DecodeErrorKind::DuplicateMember(name).into());
    }
    if let Some(name @ ("schema-name" | "table-name")) = fields.duplicate() {
        return Err(DecodeErrorKind::DuplicateMember(name).into());
    }
    let [schema, table, rest @ ..] = fields.values;
    let schema = text_member("schema-name", schema)?.unwrap_or_default();
    let table = text_member("table-name", table)?.unwrap_or_default();

    let kind = if !json_text::is_within_depth(text) {
        DecodeErrorKind::TooDeep
    } else if let Some(name) = envelope.duplicate_among(OF_DMS).or(fields.duplicate()) {
        DecodeErrorKind::DuplicateMember(name)
    } else {
        // The names are nearly always borrowed, so that the clones cost nothing.
        match message_of(schema.clone(), table.clone(), rest, [data, before, control]) {
            Ok(message) => return Ok(Record::Dms(message)),
            Err(kind) => kind,
        }
    };
    Err(DecodeError { kind, table: Some(SourceTable { schema: schema.into_owned(), table: table.into_owned() }) })
}

/// The envelope's members, and those of its metadata if there is any.
type Envelope<'a> = (Members<'a, 6>, Option<Members<'a, 9>>);

/// In one pass where the metadata is an object, which takes a sixth less time than another pass over it (`make bench`, `decode_envelope_ns`). Where
/// anything is wrong, what that is is found out by one pass over each.
fn envelope(text: &str) -> Result<Envelope<'_>, DecodeErrorKind> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let in_one = deserializer.deserialize_map(MembersVisitor { wanted: &ENVELOPE, first: Some(&METADATA) });
    if let Ok((members, metadata)) = in_one
        && deserializer.end().is_ok()
    {
        return Ok((members, metadata));
    }
    let envelope = members(text, &ENVELOPE)?.ok_or(DecodeErrorKind::NotAnObject)?;
    let [metadata, ..] = envelope.values;
    let Some(metadata) = metadata else {
        return Ok((envelope, None));
    };
    if metadata.get() == "null" {
        return Err(DecodeErrorKind::Missing("metadata"));
    }
    let fields = members(metadata.get(), &METADATA)?.ok_or(DecodeErrorKind::MemberNotAnObject("metadata"))?;
    Ok((envelope, Some(fields)))
}

/// Everything that can go wrong once the table is known.
fn message_of<'a>(
    schema: Cow<'a, str>,
    table: Cow<'a, str>,
    rest: [Option<&'a RawValue>; 7],
    [data, before, control]: [Option<&'a RawValue>; 3],
) -> Result<Message<'a>, DecodeErrorKind> {
    let [record_type, operation, timestamp, transaction_id, transaction_record_id, commit_timestamp, stream_position] =
        rest;
    let record_type = required_text("record-type", record_type)?;
    let operation = required_text("operation", operation)?;
    let metadata = Metadata {
        schema,
        table,
        transaction_id: number_member("transaction-id", transaction_id)?,
        transaction_record_id: number_member("transaction-record-id", transaction_record_id)?,
        stream_position: text_member("stream-position", stream_position)?.filter(|text| !text.is_empty()),
        emitted_at: timestamp_member(timestamp),
        committed_at: timestamp_member(commit_timestamp),
    };
    let kind = match record_type.as_ref() {
        "data" => {
            if metadata.table.is_empty() {
                return Err(DecodeErrorKind::Missing("table-name"));
            }
            Kind::Change(Change {
                operation: Operation::of(&operation).ok_or(DecodeErrorKind::UnknownOperation)?,
                data: object_member("data", data)?.ok_or(DecodeErrorKind::Missing("data"))?,
                before: object_member("before-image", before)?,
            })
        }
        "control" => {
            if operation == POISON || Operation::of(&operation).is_some() {
                return Err(DecodeErrorKind::ControlNamedAsChange);
            }
            Kind::Control(Control { operation, definition: object_member("control", control)? })
        }
        _ => return Err(DecodeErrorKind::UnknownRecordType),
    };
    Ok(Message { kind, metadata })
}

/// The places of DMS's members in [`ENVELOPE`].
const OF_DMS: Range<usize> = 0..4;
/// Of what Kafka Connect's converter puts around an event of Debezium's when it writes schemas.
const OF_DEBEZIUM: Range<usize> = 4..6;

/// One pass tells whose record it is. `metadata` comes first: that it stands there twice outweighs any other duplicate.
const ENVELOPE: Wanted<6> = Wanted {
    names: ["metadata", "data", "before-image", "control", "schema", "payload"],
    place: |name| match name {
        "metadata" => Some(0),
        "data" => Some(1),
        "before-image" => Some(2),
        "control" => Some(3),
        "schema" => Some(4),
        "payload" => Some(5),
        _ => None,
    },
};

/// The table's names come first: that one of them stands there twice outweighs any other duplicate.
const METADATA: Wanted<9> = Wanted {
    names: [
        "schema-name",
        "table-name",
        "record-type",
        "operation",
        "timestamp",
        "transaction-id",
        "transaction-record-id",
        "commit-timestamp",
        "stream-position",
    ],
    place: |name| match name {
        "schema-name" => Some(0),
        "table-name" => Some(1),
        "record-type" => Some(2),
        "operation" => Some(3),
        "timestamp" => Some(4),
        "transaction-id" => Some(5),
        "transaction-record-id" => Some(6),
        "commit-timestamp" => Some(7),
        "stream-position" => Some(8),
        _ => None,
    },
};

/// Members to look for.
pub(crate) struct Wanted<const N: usize> {
    pub(crate) names: [&'static str; N],
    /// Where a member's name stands in `names`. A match is compiled to comparisons of whole words, which takes a tenth of a search's time.
    pub(crate) place: fn(&str) -> Option<usize>,
}

/// The wanted members of an object, to the letter, in the order in which they were asked for.
pub(crate) struct Members<'a, const N: usize> {
    pub(crate) values: [Option<&'a RawValue>; N],
    is_twice: [bool; N],
    names: &'static [&'static str; N],
}

impl<const N: usize> Members<'_, N> {
    /// The first, in the order in which they were asked for, of the wanted members that stand there twice.
    pub(crate) fn duplicate(&self) -> Option<&'static str> {
        self.duplicate_among(0..N)
    }

    fn duplicate_among(&self, places: Range<usize>) -> Option<&'static str> {
        let mut names = self.names.iter().zip(self.is_twice).take(places.end).skip(places.start);
        names.find(|(_, is_twice)| *is_twice).map(|(name, _)| *name)
    }
}

/// The wanted members of a JSON object; None when the text is JSON but no object.
pub(crate) fn members<'a, const N: usize>(
    text: &'a str,
    wanted: &'static Wanted<N>,
) -> Result<Option<Members<'a, N>>, DecodeErrorKind> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let found =
        MembersOf { wanted }.deserialize(&mut deserializer).and_then(|members| deserializer.end().map(|()| members));
    match found {
        Ok(members) => Ok(Some(members)),
        // The visitor refuses nothing itself, so this is `serde_json`'s word for anything but an object.
        Err(error) if error.classify() == Category::Data => Ok(None),
        Err(error) => Err(DecodeErrorKind::NotJson(JsonFault::of(&error))),
    }
}

/// Reads an object.
struct MembersOf<const N: usize> {
    wanted: &'static Wanted<N>,
}

impl<'de, const N: usize> DeserializeSeed<'de> for MembersOf<N> {
    type Value = Members<'de, N>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let visitor = MembersVisitor::<N, 0> { wanted: self.wanted, first: None };
        deserializer.deserialize_map(visitor).map(|(members, _)| members)
    }
}

/// Finds the wanted members, and within the first of them, which has to be an object then, those that are wanted `first`.
struct MembersVisitor<const N: usize, const M: usize> {
    wanted: &'static Wanted<N>,
    first: Option<&'static Wanted<M>>,
}

impl<'de, const N: usize, const M: usize> Visitor<'de> for MembersVisitor<N, M> {
    type Value = (Members<'de, N>, Option<Members<'de, M>>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members { values: [None; N], is_twice: [false; N], names: &self.wanted.names };
        let mut in_first = None;
        while let Some(place) = map.next_key_seed(PlaceOf(self.wanted.place))? {
            let slots =
                place.and_then(|place| Some((members.values.get_mut(place)?, members.is_twice.get_mut(place)?)));
            match (slots, self.first.filter(|_| place == Some(0))) {
                (Some((_, is_twice)), Some(wanted)) => {
                    *is_twice |= in_first.replace(map.next_value_seed(MembersOf { wanted })?).is_some();
                }
                (Some((slot, is_twice)), None) => {
                    let value: &'de RawValue = map.next_value()?;
                    *is_twice |= slot.replace(value).is_some();
                }
                (None, _) => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok((members, in_first))
    }
}

/// Reads a member's name, and keeps only its place among the wanted ones.
struct PlaceOf(fn(&str) -> Option<usize>);

impl<'de> DeserializeSeed<'de> for PlaceOf {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for PlaceOf {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok((self.0)(name))
    }
}

pub(crate) fn object_member<'a>(
    name: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Option<&'a str>, DecodeErrorKind> {
    match raw.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some(text) if text.starts_with('{') => Ok(Some(text)),
        Some(_) => Err(DecodeErrorKind::MemberNotAnObject(name)),
    }
}

pub(crate) fn text_member<'a>(
    name: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Option<Cow<'a, str>>, DecodeErrorKind> {
    match raw {
        None => Ok(None),
        Some(raw) if raw.get() == "null" => Ok(None),
        Some(raw) => json_text::string_value(raw).map(Some).ok_or(DecodeErrorKind::NotText(name)),
    }
}

fn required_text<'a>(name: &'static str, raw: Option<&'a RawValue>) -> Result<Cow<'a, str>, DecodeErrorKind> {
    text_member(name, raw)?.filter(|text| !text.is_empty()).ok_or(DecodeErrorKind::Missing(name))
}

/// A number, also as text. One that cannot be read is refused: taken for absent, it would put the change out of order.
pub(crate) fn number_member(name: &'static str, raw: Option<&RawValue>) -> Result<Option<u64>, DecodeErrorKind> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else {
        return Ok(None);
    };
    let quoted = json_text::string_value(raw);
    let digits = quoted.as_deref().unwrap_or_else(|| raw.get());
    let is_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(number) if is_digits => Ok(Some(number)),
        _ => Err(DecodeErrorKind::NotANumber(name)),
    }
}

/// A time that cannot be read is as good as none: it orders nothing where the source's position is known.
fn timestamp_member(raw: Option<&RawValue>) -> Option<i64> {
    parse_timestamp(&json_text::string_value(raw?)?)
}

/// `2024-07-29T00:58:17.974340Z` as microseconds since the Unix epoch. 0 to 9 fraction digits, cut to microseconds; `Z`,
/// `+00:00` or nothing at the end; years 0001 to 9999, which are BigQuery's. None for anything else.
#[must_use]
pub fn parse_timestamp(text: &str) -> Option<i64> {
    const MICROS_PER_SECOND: i64 = 1_000_000;
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00")).unwrap_or(text);
    // Every part has its place, so that nothing has to be searched for.
    let (whole, fraction) = text.as_bytes().split_at_checked(19)?;
    let &[y1, y2, y3, y4, b'-', o1, o2, b'-', d1, d2, b'T' | b' ', h1, h2, b':', m1, m2, b':', s1, s2] = whole else {
        return None;
    };
    let fraction = match fraction {
        [] => fraction,
        [b'.', digits @ ..] => digits,
        _ => return None,
    };
    let year = number(&[y1, y2, y3, y4])?;
    let (month, day) = (number(&[o1, o2])?, number(&[d1, d2])?);
    let (hour, minute, second) = (number(&[h1, h2])?, number(&[m1, m2])?, number(&[s1, s2])?);
    if year < 1 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let date =
        jiff::civil::Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    // Not through `jiff::Timestamp`, which ends a day before the year 9999 does.
    let epoch = jiff::civil::Date::constant(1970, 1, 1);
    let seconds = date.duration_since(epoch).as_secs() + hour * 3_600 + minute * 60 + second;
    Some(seconds * MICROS_PER_SECOND + fraction_micros(fraction)?)
}

/// The number that a few ASCII digits are.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// Digits after the point, cut to microseconds.
fn fraction_micros(digits: &[u8]) -> Option<i64> {
    const SCALES: [i64; 7] = [1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
    if digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let micros = digits.get(..6).unwrap_or(digits);
    Some(number(micros)? * SCALES.get(micros.len())?)
}

#[cfg(test)]
#[path = "dms_tests.rs"]
pub(crate) mod tests;
