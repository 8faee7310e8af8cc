//! `--repair`: rows that differ are read from the source again and appended to the log, in the form in which DMS would have sent
//! them; the next merge applies them. It must never undo a change that is still to come, and never write to the final table.
//!
//! **The position.** A repaired row has to sort above everything that the final row was made of, and below every change of it that
//! the row as read does not hold. So the source's position is taken first, then the row is read: a change that the row holds and
//! that stands above the position is applied once more by its own record, which does no harm. What must not be is a change that stands
//! below the position and that the row does not hold, for the merge would take it for old:
//! - *PostgreSQL* writes a change when it is made and shows it when it is committed. So every transaction that was open when the position
//!   was taken has to have ended before the row is read: until then it waits, for so long as a row has to stand still.
//! - *MySQL* writes a transaction to the binlog as a whole, a moment before it shows it. So the row is read [`MYSQL_PAUSE`] after the
//!   position was taken, and it has to be what it was before.
//!
//! Where the table's changes carry no source position (PostgreSQL without transaction details, or no change yet), the order is the time at which DMS
//! sends. There the repaired row takes a time that lies [`CLOCK_DIFFERENCE_US`] back, so that a clock that is behind sends nothing before it.
//!
//! **The identity.** The rows are numbered without a gap from 0 in a topic of this run's own, `strait-repair/…`: no topic of Kafka's can have
//! a `/` in its name, and the views of holes find none (docs/completeness.md).

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Map, Value};
use strait::bigquery::append::WriteStream;
use strait::config::Config;
use strait::dms::{Change, Operation};
use strait::log::{LOG, LogRow, REPAIR_TOPIC};
use strait::mask::{MaskAction, Masker};
use strait::merge::epoch::Epochs;
use strait::merge::types::ColumnType;
use strait::merge::types::canonical::{Form, SourceKind};
use strait::merge::types::map::Engine;
use strait::names::{fingerprint, string_literal};
use strait::position::{Position, SourcePoint};
use strait::secrets::mask_key;
use tokio::time::{Instant, sleep};

use super::bigquery::Final;
use super::drill::{Candidate, Difference, Drill, Finding, ReadRow};
use super::pairing::{Compared, Pairing};
use super::statement::{Key, Wanted};
use super::{QUERY_LIMIT, VerifyError};

/// Between MySQL's writing a transaction to the binlog and its showing it lie milliseconds; this is ample.
const MYSQL_PAUSE: Duration = Duration::from_secs(5);
/// By how much the clocks of DMS and of this machine may differ, in µs.
const CLOCK_DIFFERENCE_US: i64 = 5 * 60 * 1_000_000;
/// Between two looks at PostgreSQL's open transactions.
const TRANSACTIONS_PAUSE: Duration = Duration::from_millis(500);

/// What became of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Rows that were appended to the log.
    pub appended: usize,
    /// Rows that were not, and why.
    pub left: Vec<(Key, &'static str)>,
    /// The topic of the appended rows.
    pub topic: String,
}

/// What is known of a table's order.
struct Order {
    /// None: changes are ordered by the time at which DMS sends them.
    point: Option<SourcePoint>,
    epochs: Epochs,
    /// When the rows count as sent, in µs since the epoch.
    emitted: i64,
    /// The source's clock.
    committed: i64,
}

/// Appends what the findings need.
///
/// # Errors
/// When nothing could be repaired, with what to do.
pub async fn repair(
    config: &Config,
    drill: &mut Drill<'_>,
    findings: &[Finding],
    settle: Duration,
) -> Result<Repaired, VerifyError> {
    let pairing = drill.pairing;
    if pairing.is_keyless() {
        return Err(VerifyError::NotRepairable(
            "its rows have no key: what is missing may be on its way, and nothing can be taken away by a change; reload it in DMS",
        ));
    }
    for column in &pairing.carried {
        let action = config.mask.action(&pairing.source.schema, &pairing.source.table, &column.source);
        // The hash is of the very text that DMS sends.
        let is_sent_alike =
            matches!(column.canonical.kind, SourceKind::Text | SourceKind::Printed | SourceKind::Integer);
        if action == Some(MaskAction::Hash) && !is_sent_alike {
            return Err(VerifyError::NotRepairable(
                "STRAIT_MASK hashes a column that DMS prints in its own way; reload it in DMS",
            ));
        }
    }
    let order = order(config, drill, settle).await?;
    let repairable: Vec<&Finding> =
        findings.iter().filter(|finding| !matches!(finding.difference, Difference::Repeated(_))).collect();
    let mut repaired = Repaired::default();
    for finding in findings.iter().filter(|finding| matches!(finding.difference, Difference::Repeated(_))) {
        repaired.left.push((
            finding.row.key.clone(),
            "the final table has the key more than once: delete one of the rows there",
        ));
    }
    let candidates: Vec<Candidate> = repairable.iter().map(|finding| finding.row.clone()).collect();
    let read = drill.source_rows(&candidates, Wanted { values: true }).await?;

    let mut masker =
        Masker::new(config.mask.clone(), mask_key(config).await.map_err(VerifyError::Connect)?).map_err(|_| {
            VerifyError::NotRepairable("STRAIT_MASK_KEY_SECRET is required, because STRAIT_MASK hashes a column")
        })?;
    let topic = topic(order.emitted, pairing);
    let ingested_at = jiff::Timestamp::now().as_microsecond();
    let mut rows: Vec<Vec<u8>> = Vec::new();
    for finding in repairable {
        let key = &finding.row.key;
        let now = read.get(key).and_then(|rows| rows.first());
        if hash(now) != hash(finding.source.as_ref()) {
            repaired.left.push((key.clone(), "it changed at the source in the meantime"));
            continue;
        }
        let place = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let position = Position::of_row_read_again(order.point, order.emitted, place);
        let placed = order.epochs.placed(position.as_str(), order.emitted);
        if finding.in_final.as_ref().and_then(|row| row.position.as_deref()).is_some_and(|at| at >= placed.as_str()) {
            repaired.left.push((
                key.clone(),
                "the final row's position is not below the source's: it was changed moments ago, or the source's numbering began anew",
            ));
            continue;
        }
        if order.epochs.gone().is_some_and(|gone| placed < gone.below) {
            repaired.left.push((
                key.clone(),
                "the source's position is below that at which the source emptied the table or loaded it anew: its numbering began anew",
            ));
            continue;
        }
        let (operation, image) = match now {
            Some(row) => (Operation::Insert, image(pairing.columns.iter().chain(&pairing.carried).zip(&row.values))),
            None => (Operation::Delete, image(pairing.key_columns().zip(key))),
        };
        let change = Change { operation, data: &image, before: None };
        let masked = masker
            .change(&pairing.source.schema, &pairing.source.table, &change)
            .map_err(|_| VerifyError::Unexpected("the masked row"))?;
        let row = LogRow {
            source_schema: &pairing.source.schema,
            source_table: &pairing.source.table,
            operation: operation.as_str(),
            position: position.as_str(),
            data: Some(&masked.data.text),
            before: None,
            transaction_id: None,
            committed_at: Some(order.committed),
            emitted_at: Some(order.emitted),
            kafka_topic: &topic,
            kafka_partition: 0,
            kafka_offset: place,
            ingested_at,
            error: None,
        };
        let mut bytes = Vec::new();
        row.encode(&mut bytes);
        rows.push(bytes);
    }
    let stream = WriteStream::default_of(config.project.clone(), config.log_table.clone(), LOG.proto_descriptor());
    // In order, and none behind one that is not written: the numbers have no gap.
    let deadline = Instant::now() + QUERY_LIMIT;
    let outcome = drill.in_final.connections().appends.append(&stream, &rows, deadline).await;
    outcome.into_result(&config.log_table)?;
    repaired.appended = rows.len();
    repaired.topic = topic;
    Ok(repaired)
}

fn hash(row: Option<&ReadRow>) -> Option<&str> {
    row.map(|row| row.hash.as_str())
}

fn topic(emitted: i64, pairing: &Pairing) -> String {
    let run = format!("{} {} {}", pairing.source, std::process::id(), jiff::Timestamp::now());
    format!("{REPAIR_TOPIC}{emitted}-{}", fingerprint(&run, 8))
}

/// Takes the source's position, and waits until what was under way at that moment is over.
async fn order(config: &Config, drill: &mut Drill<'_>, settle: Duration) -> Result<Order, VerifyError> {
    let (pairing, source) = (drill.pairing, &mut *drill.source);
    let (highest, epochs) = ledger(config, pairing, drill.in_final).await?;
    if epochs.open().is_some() || epochs.has_start_without_load() {
        return Err(VerifyError::NotRepairable(
            "DMS is loading it anew, which repairs it; verify it again when the load is over",
        ));
    }
    // What follows the epoch is the class and the engine; see `strait::position`.
    let highest = highest.max(epochs.emptied_at());
    let class = highest.as_deref().and_then(|highest| highest.split_once('-')).map_or("", |(_, rest)| rest);
    let of_other_engine = match pairing.engine {
        Engine::MySql => "2-p",
        Engine::PostgreSql => "2-m",
    };
    if class.starts_with(of_other_engine) {
        return Err(VerifyError::NotRepairable(
            "its changes came from a database of the other engine: is --source the one that DMS reads?",
        ));
    }
    let has_position = match pairing.engine {
        // A change of MySQL's has its transaction's place in the binlog whatever DMS's settings are.
        Engine::MySql => !class.starts_with("1-"),
        // Of a table that was only loaded yet, nobody knows whether its changes will have one.
        Engine::PostgreSql => class.starts_with("2-p"),
    };
    let (point, committed) = source.point().await?;
    let now = jiff::Timestamp::now().as_microsecond();
    let emitted = if has_position { now } else { now.saturating_sub(CLOCK_DIFFERENCE_US) };
    // A change that was sent before the last loaded row would look like one of before the load.
    if epochs.newest_load().is_some_and(|load| load >= emitted) {
        return Err(VerifyError::NotRepairable("it was loaded minutes ago; repair it in five minutes"));
    }
    match pairing.engine {
        Engine::MySql => sleep(MYSQL_PAUSE).await,
        Engine::PostgreSql => {
            // They are asked for after the position: what begins later writes above it.
            let open = source.transactions().await?;
            let patience = Instant::now() + settle.max(MYSQL_PAUSE);
            while source.transactions().await?.iter().any(|transaction| open.contains(transaction)) {
                if Instant::now() >= patience {
                    return Err(VerifyError::NotRepairable(
                        "a transaction at the source has been open since before the rows were read (pg_stat_activity, pg_prepared_xacts); \
                         what it changes would be lost. Repair when it has ended",
                    ));
                }
                sleep(TRANSACTIONS_PAUSE).await;
            }
        }
    }
    let point = has_position.then_some(point);
    Ok(Order { point, epochs, emitted, committed })
}

/// The table's highest merged position, and its epochs.
async fn ledger(
    config: &Config,
    pairing: &Pairing,
    in_final: &mut Final,
) -> Result<(Option<String>, Epochs), VerifyError> {
    let sql = format!(
        "SELECT MAX(`highest_position`) AS `highest`, \
         ARRAY_AGG(`epochs` IGNORE NULLS ORDER BY `recorded_at` DESC LIMIT 1)[SAFE_OFFSET(0)] AS `epochs` FROM {} \
         WHERE `source_schema` = {} AND `source_table` = {}",
        config.merges_table.quoted(&config.project)?,
        string_literal(&pairing.source.schema),
        string_literal(&pairing.source.table)
    );
    let mut cells = in_final.rows(sql).await?.into_iter().next().unwrap_or_default().into_iter();
    let highest = cells.next().flatten();
    Ok((highest, Epochs::from_entry(cells.next().flatten().as_deref())))
}

/// A row image as DMS sends one, every value as text.
fn image<'c>(values: impl Iterator<Item = (&'c Compared, &'c Option<String>)>) -> String {
    let members: Map<String, Value> = values
        .map(|(column, value)| {
            let value = value.as_deref().map_or(Value::Null, |value| Value::String(sent(column, value)));
            (column.source.clone(), value)
        })
        .collect();
    Value::Object(members).to_string()
}

/// How DMS prints a value, where that is not the canonical text.
fn sent(column: &Compared, value: &str) -> String {
    let is_string = matches!(column.canonical.column_type, ColumnType::String | ColumnType::StringUpTo(_));
    match column.canonical.form {
        // Nine digits of a single-precision number.
        Form::Single => match value.parse::<f32>() {
            Ok(number) if number.is_finite() => format!("{number:.8e}"),
            _ => value.to_owned(),
        },
        Form::Hexadecimal => format!("0x{}", value.to_ascii_uppercase()),
        Form::Clock if column.canonical.kind == SourceKind::Timestamp || is_string => {
            format!("{}Z", value.replacen(' ', "T", 1))
        }
        _ => value.to_owned(),
    }
}

/// How many rows were left for each reason.
#[must_use]
pub fn left_by_reason(left: &[(Key, &'static str)]) -> Vec<(&'static str, usize)> {
    let mut reasons: HashMap<&'static str, usize> = HashMap::new();
    for (_, reason) in left {
        let count = reasons.entry(reason).or_default();
        *count = count.saturating_add(1);
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_unstable();
    reasons
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use strait::merge::types::canonical::Canonical;

    use super::*;

    #[test]
    fn a_row_is_sent_as_dms_sends_it() {
        let column = |name: &str, kind, column_type| Compared {
            source: name.to_owned(),
            source_type: String::new(),
            in_final: name.to_owned(),
            canonical: Canonical::of(kind, column_type).unwrap(),
        };
        let columns = [
            column("n", SourceKind::Decimal, ColumnType::NUMERIC),
            column("f", SourceKind::Single, ColumnType::Float64),
            column("b", SourceKind::Binary, ColumnType::Bytes),
            column("t", SourceKind::Timestamp, ColumnType::Timestamp),
            column("d", SourceKind::DateTime, ColumnType::DateTime),
            column("s", SourceKind::DateTime, ColumnType::String),
            column("x", SourceKind::Text, ColumnType::String),
        ];
        let values = [
            "46.57",
            "2.200000047683716",
            "80ff",
            "2024-02-29 01:02:03.5",
            "2024-02-29 01:02:03",
            "2024-02-29 01:02:03",
        ]
        .map(|value| Some(value.to_owned()));
        let image = image(columns.iter().zip(values.iter().chain([&None])));
        assert_eq!(
            serde_json::from_str::<Value>(&image).unwrap(),
            serde_json::json!({
                "n": "46.57", "f": "2.20000005e0", "b": "0x80FF", "t": "2024-02-29T01:02:03.5Z", "d": "2024-02-29 01:02:03",
                "s": "2024-02-29T01:02:03Z", "x": null
            })
        );
    }
}
