//! The events that every contestant is given: change records of a shop as AWS DMS writes them from Aurora PostgreSQL, with the settings
//! that docs and template ask for, each message of [`MESSAGE_BYTES`], made from a seed. It must never depend on anything but the seed: a
//! figure of today has to be comparable to one of next year.

use std::collections::HashMap;
use std::fmt::Write as _;

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde_json::Value;
use strait_cli::msk::{self, KafkaRecord};
use strait_cli::runtime_api::PAYLOAD_LIMIT;

/// Bytes of each message.
pub const MESSAGE_BYTES: usize = 641;
const SEED: u64 = 20_260_101;
/// The topic of all records.
pub const TOPIC: &str = "cdc.shop";
/// 2026-03-02T09:00:00Z in milliseconds.
const BEGIN_MS: u64 = 1_772_442_000_000;

/// What a record must have become.
#[derive(Debug)]
pub struct Expected {
    /// The source table.
    pub table: &'static str,
    /// DMS's operation.
    pub operation: &'static str,
    /// The row image, as it stands in the message.
    pub data: String,
    /// The same, parsed: for contestants that render it anew.
    pub value: Value,
}

/// An event and what it holds.
#[derive(Debug)]
pub struct Input {
    /// The body of the invocation.
    pub event: Bytes,
    /// By Kafka partition and offset.
    pub records: HashMap<(i64, i64), Expected>,
}

impl Input {
    /// The event of so many records.
    pub fn of(records: usize) -> anyhow::Result<Self> {
        let mut random = Random(SEED);
        let mut kafka = Vec::with_capacity(records);
        let mut expected = HashMap::with_capacity(records);
        let mut next_offsets = [0_i64; 4];
        for number in 0..u64::try_from(records)? {
            let (table, operation, data, message) = message(&mut random, number)?;
            // DMS's default key for changes is `schema.table`, so a table's changes share a partition.
            let partition = TABLES.iter().position(|name| *name == table).unwrap_or(0) % next_offsets.len();
            let next = next_offsets.get_mut(partition).context("a partition")?;
            let offset = 48_000_000 + *next;
            *next += 1;
            let partition = i32::try_from(partition)?;
            let value: Value = serde_json::from_str(&data)?;
            expected.insert((i64::from(partition), offset), Expected { table, operation, data, value });
            kafka.push(KafkaRecord {
                topic: TOPIC.to_owned(),
                partition,
                offset,
                timestamp_ms: i64::try_from(BEGIN_MS + number * 3)?,
                key: Some(format!("shop.{table}").into_bytes()),
                value: Some(message.into_bytes()),
            });
        }
        let event = msk::event(&kafka);
        ensure!(event.len() <= PAYLOAD_LIMIT, "an event of {} bytes is more than Lambda takes", event.len());
        Ok(Self { event: event.into(), records: expected })
    }

    /// The largest event that Lambda takes: 6 MB.
    pub fn largest() -> anyhow::Result<Self> {
        let thousand = Self::of(1000)?.event.len();
        // A record costs a little more with each digit of its offset; the last per mille is not worth a search.
        Self::of(PAYLOAD_LIMIT * 1000 / thousand * 999 / 1000)
    }
}

const TABLES: [&str; 5] = ["orders", "order_lines", "customers", "payments", "stock"];
const STATUS: [&str; 7] = ["new", "paid", "picked", "packed", "shipped", "delivered", "returned"];
const CITIES: [&str; 12] = [
    "Lisbon", "Porto", "Madrid", "Lyon", "Hamburg", "Kraków", "Vilnius", "Gent", "Utrecht", "Malmö", "Tampere", "Brno",
];
const FIRST_NAMES: [&str; 12] =
    ["Ana", "João", "Lucía", "Camille", "Jonas", "Zofia", "Rūta", "Pieter", "Sanne", "Elsa", "Aino", "Tereza"];
const LAST_NAMES: [&str; 12] = [
    "Silva",
    "Santos",
    "García",
    "Moreau",
    "Schmidt",
    "Kowalska",
    "Kazlauskas",
    "Peeters",
    "de Vries",
    "Lind",
    "Virtanen",
    "Novák",
];
const WORDS: [&str; 48] = [
    "please",
    "leave",
    "with",
    "the",
    "neighbour",
    "ring",
    "twice",
    "gift",
    "wrap",
    "no",
    "invoice",
    "in",
    "box",
    "call",
    "before",
    "delivery",
    "after",
    "six",
    "fragile",
    "second",
    "floor",
    "left",
    "door",
    "customer",
    "asked",
    "for",
    "exchange",
    "size",
    "too",
    "small",
    "colour",
    "blue",
    "instead",
    "of",
    "green",
    "refund",
    "partial",
    "damaged",
    "on",
    "arrival",
    "photo",
    "attached",
    "resend",
    "lost",
    "by",
    "carrier",
    "held",
    "customs",
];

/// Table, operation, row image, and the message itself.
fn message(random: &mut Random, number: u64) -> anyhow::Result<(&'static str, &'static str, String, String)> {
    let table = match random.below(100) {
        0..35 => "orders",
        35..65 => "order_lines",
        65..75 => "customers",
        75..90 => "payments",
        _ => "stock",
    };
    let operation = match random.below(100) {
        0..55 => "update",
        55..92 => "insert",
        _ => "delete",
    };
    let columns = columns(random, table, number)?;
    let metadata = metadata(random, table, operation, number)?;
    // The key of an update that leaves the key alone is not repeated: DMS sends an empty before-image.
    let before = if operation == "update" { r#""before-image":{},"# } else { "" };
    let frame = format!(r#"{{"data":{{{columns},"note":""}},{before}"metadata":{metadata}}}"#);
    let room = MESSAGE_BYTES.checked_sub(frame.len()).context("a message without its note is too long")?;
    let data = format!(r#"{{{columns},"note":"{}"}}"#, note(random, room));
    let message = format!(r#"{{"data":{data},{before}"metadata":{metadata}}}"#);
    ensure!(message.len() == MESSAGE_BYTES, "a message of {} bytes", message.len());
    Ok((table, operation, data, message))
}

fn columns(random: &mut Random, table: &str, number: u64) -> anyhow::Result<String> {
    let id = 1_000_000 + random.below(9_000_000);
    let at = time(BEGIN_MS - 86_400_000 + random.below(86_400_000), random.below(1000))?;
    let updated = time(BEGIN_MS + number * 3, random.below(1000))?;
    Ok(match table {
        "orders" => format!(
            r#""id":{id},"customer_id":{},"status":"{}","currency":"EUR","total":{},"placed_at":"{at}","updated_at":"{updated}","city":"{}""#,
            random.below(900_000),
            random.of(&STATUS),
            money(random, 90_000),
            random.of(&CITIES),
        ),
        "order_lines" => format!(
            r#""id":{id},"order_id":{},"sku":"SKU-{:06X}","quantity":{},"unit_price":{},"discount":{},"updated_at":"{updated}""#,
            1_000_000 + random.below(9_000_000),
            random.below(40_000),
            1 + random.below(9),
            money(random, 30_000),
            money(random, 1000),
        ),
        "customers" => {
            let (first, last) = (random.of(&FIRST_NAMES), random.of(&LAST_NAMES));
            format!(
                r#""id":{id},"first_name":"{first}","last_name":"{last}","email":"c{}@example.com","points":{},"newsletter":{},"created_at":"{at}""#,
                random.below(900_000),
                random.below(5000),
                random.below(2) == 1,
            )
        }
        "payments" => format!(
            r#""id":{id},"order_id":{},"method":"{}","amount":{},"reference":"{:016x}{:016x}","captured_at":"{at}""#,
            1_000_000 + random.below(9_000_000),
            random.of(&["card", "transfer", "wallet", "voucher"]),
            money(random, 90_000),
            random.next(),
            random.next(),
        ),
        _ => format!(
            r#""id":{id},"sku":"SKU-{:06X}","warehouse":"{}","on_hand":{},"reserved":{},"counted_at":"{at}","updated_at":"{updated}""#,
            random.below(40_000),
            random.of(&CITIES),
            random.below(4000),
            random.below(200),
        ),
    })
}

fn metadata(random: &mut Random, table: &str, operation: &str, number: u64) -> anyhow::Result<String> {
    let emitted = time(BEGIN_MS + number * 3 + 40, random.below(1000))?;
    let committed = time(BEGIN_MS + number / 3 * 9, random.below(1000))?;
    let transaction = 48_113_000 + number / 3;
    let lsn = 0x7C00_7178 + number * 0x1A8;
    Ok(format!(
        r#"{{"timestamp":"{emitted}","record-type":"data","operation":"{operation}","partition-key-type":"schema-table","schema-name":"shop","table-name":"{table}","transaction-id":{transaction},"transaction-record-id":{},"prev-transaction-id":{},"prev-transaction-record-id":3,"commit-timestamp":"{committed}","stream-position":"0000027C/{lsn:08X}.{}.0000027C/{lsn:08X}"}}"#,
        number % 3 + 1,
        transaction - 1,
        number % 3 + 1,
    ))
}

/// `room` bytes of words.
fn note(random: &mut Random, room: usize) -> String {
    let mut text = String::with_capacity(room + 16);
    while text.len() < room {
        text.push_str(random.of(&WORDS));
        text.push(' ');
    }
    text.truncate(room);
    text
}

fn money(random: &mut Random, below: u64) -> String {
    let mut text = String::new();
    // Writing to a `String` cannot fail. DMS writes a DECIMAL with the scale of its column.
    let _ = write!(text, "{}.{:02}", random.below(below), random.below(100));
    text
}

/// As DMS writes a time, in UTC with six digits.
fn time(ms: u64, micros: u64) -> anyhow::Result<String> {
    let at = jiff::Timestamp::from_microsecond(i64::try_from(ms * 1000 + micros)?)?;
    Ok(at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string())
}

/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>): the same numbers everywhere, without a crate whose next version has others.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        let bound = u64::try_from(texts.len()).unwrap_or(1);
        usize::try_from(self.below(bound)).ok().and_then(|index| texts.get(index)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// Figures are compared across versions: whoever changes the input has to see that.
    #[test]
    fn the_inputs_are_pinned() {
        let digests = [100, 1000, 5000].map(|records| {
            let input = Input::of(records).unwrap();
            assert_eq!(input.records.len(), records);
            let digest: String =
                Sha256::digest(&input.event).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            (input.event.len(), digest)
        });
        assert_eq!(
            digests,
            [(102_076, "45d47a46".to_owned()), (1_017_668, "41ae396d".to_owned()), (5_087_256, "b09d0027".to_owned())]
        );
    }

    #[test]
    fn the_largest_event_is_just_below_lambdas_limit() {
        let bytes = Input::largest().unwrap().event.len();
        assert!(bytes <= PAYLOAD_LIMIT && bytes > PAYLOAD_LIMIT * 99 / 100, "{bytes}");
    }
}
