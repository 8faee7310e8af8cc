//! One invocation of `ingest`: the event's records are decoded and appended to the log, or noted as kept out of it, and
//! every record of which neither was acknowledged is given back by name.
//! It must never answer for a record that BigQuery did not acknowledge, and never hold a partition up for one bad record,
//! unless it must not leave AWS: then it is given back until Lambda hands it to the on-failure destination.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::time::Instant;

use crate::bigquery::append::{AppendClient, MAY_NOT_EXIST, RefusalCode, RowOutcome, WriteStream};
use crate::bigquery::connect::Connections;
use crate::bigquery::rest::{BigQuery, Ensured};
use crate::bigquery::retry::Backoff;
use crate::bigquery::table_spec::TableSpec;
use crate::bigquery::{Error, ErrorKind};
use crate::config::{Config, TableFilter};
use crate::debezium::Schemas;
use crate::kafka::{self, EventError, MskEvent};
use crate::lambda::{Invocation, InvocationError};
use crate::log::{EncodedRow, ItemIdentity, KEPT_OUT, KeptOutRange, LOG, LogBatch, Tally, kept_out_table};
use crate::mask::masker::NoMaskKey;
use crate::mask::{MaskKey, Masker, UnknownColumn};
use crate::names::TableName;
use crate::telemetry::{self, Metric, Unit};

/// How long after its creation appends may fail to find a table; BigQuery's metadata is eventually consistent, by its
/// users' accounts seconds, rarely a minute.
pub const NEW_TABLE_PATIENCE: Duration = Duration::from_secs(60);

/// What `ingest` answers: the records that are neither in the log nor noted as kept out of it. Empty is success.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Response {
    /// To be delivered again.
    #[serde(rename = "batchItemFailures")]
    pub batch_item_failures: Vec<ItemFailure>,
}

impl Response {
    fn giving_back(items: BTreeSet<ItemIdentifier>) -> Self {
        let failures = items.into_iter().map(|item_identifier| ItemFailure { item_identifier });
        Self { batch_item_failures: failures.collect() }
    }
}

/// A record to be delivered again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemFailure {
    /// Which.
    #[serde(rename = "itemIdentifier")]
    pub item_identifier: ItemIdentifier,
}

/// A record by Lambda's names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ItemIdentifier {
    /// The key of the event's `records`.
    pub partition: String,
    /// The offset.
    pub offset: i64,
}

impl ItemIdentifier {
    fn of(item: &ItemIdentity) -> Self {
        Self { partition: item.group.to_string(), offset: item.offset }
    }
}

/// `ingest`, set up once per cold start.
pub struct IngestHandler {
    log: Destination,
    kept_out: Destination,
    retention_days: u32,
    filter: TableFilter,
    /// None where nothing is masked.
    masker: Option<Mutex<Masker>>,
    /// Of the tables whose records came by this process.
    schemas: Mutex<Schemas>,
    appends: AppendClient,
    tables: BigQuery,
    /// One table is created after the other: both may lack the same dataset, which is then asked for once.
    creating: tokio::sync::Mutex<()>,
}

/// A table that rows are appended to, and created as if it is missing.
struct Destination {
    stream: WriteStream,
    spec: &'static TableSpec,
}

impl Destination {
    fn new(project: &str, table: TableName, spec: &'static TableSpec) -> Self {
        Self { stream: WriteStream::default_of(project, table, spec.proto_descriptor()), spec }
    }

    fn table(&self) -> &TableName {
        &self.stream.table
    }
}

/// What an invocation took, beside what became of its records.
struct Figures {
    bytes_in: usize,
    refused: usize,
    decode_time: Duration,
    append_time: Duration,
}

/// What became of the rows that were handed to the append.
struct Appended {
    outcomes: Vec<RowOutcome>,
    failure: Option<Error>,
    requests: u32,
    bytes_sent: u64,
}

impl Appended {
    fn nothing_of(rows: usize) -> Self {
        Self { outcomes: vec![RowOutcome::NotWritten; rows], failure: None, requests: 0, bytes_sent: 0 }
    }

    fn written(&self) -> usize {
        self.outcomes.iter().filter(|outcome| **outcome == RowOutcome::Written).count()
    }

    fn is_complete(&self) -> bool {
        self.written() == self.outcomes.len()
    }
}

impl IngestHandler {
    /// For the configured log, with its two ways to BigQuery and the key of hashed columns.
    ///
    /// # Errors
    /// When a column is to be hashed and there is no key.
    pub fn new(config: &Config, connections: Connections, mask_key: Option<MaskKey>) -> Result<Self, NoMaskKey> {
        let masker = match config.mask.is_empty() {
            true => None,
            false => Some(Mutex::new(Masker::new(config.mask.clone(), mask_key)?)),
        };
        Ok(Self {
            log: Destination::new(&config.project, config.log_table.clone(), &LOG),
            kept_out: Destination::new(&config.project, kept_out_table(&config.log_table), &KEPT_OUT),
            retention_days: config.log_retention_days,
            filter: config.tables.clone(),
            masker,
            schemas: Mutex::new(Schemas::new(config.debezium_without_schema)),
            appends: connections.appends,
            tables: connections.rest,
            creating: tokio::sync::Mutex::new(()),
        })
    }

    /// One invocation.
    ///
    /// # Errors
    /// When the event cannot be read at all, or none of its records could be written.
    pub async fn handle(&self, body: &[u8], invocation: &Invocation) -> Result<Response, InvocationError> {
        let started = Instant::now();
        let event = kafka::decode_event(body).map_err(|error| not_an_event(&error))?;
        let ingested_at = micros(SystemTime::now());
        let batch = self.batch(&event, ingested_at);
        let decoded = Instant::now();
        let ((appended, refused), noted) = tokio::join!(
            self.append_to_log(&batch.rows, invocation.deadline),
            self.note(&batch.kept_out, ingested_at, invocation.deadline)
        );
        let figures =
            Figures { bytes_in: body.len(), refused, decode_time: decoded - started, append_time: decoded.elapsed() };
        if appended.is_complete() {
            self.schemas.lock().unwrap_or_else(PoisonError::into_inner).written(&batch.definitions);
        }
        let mut given_back = given_back(&batch.rows, &appended.outcomes);
        given_back.extend(not_noted(&batch.kept_out, &noted.outcomes));
        let unwritten = given_back.len();
        given_back.extend(batch.withheld.iter().map(ItemIdentifier::of));
        self.report(invocation, &batch.tally, [&appended, &noted], &figures, given_back.len());
        if !batch.withheld.is_empty() {
            tracing::warn!(
                request_id = %invocation.request_id,
                records = in_words(&batch.withheld),
                "records could not be decoded, so not masked either: the log has their identity and the reason, and their \
                 bytes stay in AWS, with the event source's on-failure destination"
            );
        }
        if unwritten == 0 {
            return Ok(Response::giving_back(given_back));
        }
        let is_nothing_written = appended.written() == 0 && noted.written() == 0;
        // The first table of which something is missing; a row that was refused to the end leaves no failure behind.
        let table = if appended.is_complete() { self.kept_out.table() } else { self.log.table() };
        let failure = appended
            .failure
            .or(noted.failure)
            .unwrap_or_else(|| Error::new(ErrorKind::RowErrors, "AppendRows", table.to_string()));
        if is_nothing_written {
            return Err(failure.into());
        }
        tracing::warn!(
            table = %table,
            given_back = unwritten,
            cause = InvocationError::from(failure).message(),
            "some records could not be written; Lambda delivers them again"
        );
        Ok(Response::giving_back(given_back))
    }

    /// The event's rows, with what is masked masked.
    fn batch(&self, event: &MskEvent<'_>, ingested_at: i64) -> LogBatch {
        // What a panic in another invocation left behind is what is known of schemas, each of which is whole.
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(masker) = &self.masker else {
            return LogBatch::masked(event, &self.filter, None, &mut schemas, ingested_at);
        };
        // What a panic in another invocation left behind is a memory of names; the rules are never written to.
        let mut masker = masker.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = LogBatch::masked(event, &self.filter, Some(&mut masker), &mut schemas, ingested_at);
        for UnknownColumn { table, path } in masker.take_unknown() {
            tracing::warn!(
                table = %table,
                mask = path,
                "STRAIT_MASK names a column that the table does not have, so that it masks nothing: it is misspelt, or was \
                 dropped or renamed at the source, and under its new name leaves as it is"
            );
        }
        batch
    }

    /// The invocation's one log line and its metrics.
    fn report(
        &self,
        invocation: &Invocation,
        tally: &Tally,
        [appended, noted]: [&Appended; 2],
        figures: &Figures,
        given_back: usize,
    ) {
        let poison = tally.poison.saturating_add(count(figures.refused));
        let bytes_sent = appended.bytes_sent.saturating_add(noted.bytes_sent);
        let now = micros(SystemTime::now());
        let lag_ms = tally.newest_committed_at.map(|at| now.saturating_sub(at).max(0) / 1000);
        tracing::info!(
            table = %self.log.table(),
            records = tally.records,
            loads = tally.loads,
            inserts = tally.inserts,
            updates = tally.updates,
            deletes = tally.deletes,
            controls = tally.controls,
            poison,
            refused = figures.refused,
            withheld = tally.withheld,
            flagged = tally.flagged,
            dms_own = tally.dms_own,
            debezium_own = tally.debezium_own,
            debezium_tombstones = tally.debezium_tombstones,
            definitions = tally.definitions,
            excluded = tally.excluded,
            written = appended.written(),
            kept_out_ranges = noted.written(),
            given_back,
            requests = appended.requests.saturating_add(noted.requests),
            bytes_in = figures.bytes_in,
            bytes_out = bytes_sent,
            decode_ms = millis(figures.decode_time),
            append_ms = millis(figures.append_time),
            lag_ms,
            "ingested"
        );
        let mut metrics = vec![
            Metric::new("Records", Unit::Count, signed(tally.records)),
            Metric::new("BytesIn", Unit::Bytes, signed(count(figures.bytes_in))),
            Metric::new("BytesOut", Unit::Bytes, signed(bytes_sent)),
            Metric::new("Poison", Unit::Count, signed(poison)),
            Metric::new("GivenBack", Unit::Count, signed(count(given_back))),
            Metric::new("AppendLatency", Unit::Milliseconds, millis(figures.append_time)),
        ];
        metrics.extend(lag_ms.map(|lag| Metric::new("IngestLag", Unit::Milliseconds, lag)));
        telemetry::emit(&telemetry::metrics_line(
            &[("Function", invocation.function_name.as_str())],
            &metrics,
            now / 1000,
        ));
    }

    /// Appends the rows to the log; also how many BigQuery refused at first.
    async fn append_to_log(&self, rows: &[EncodedRow], deadline: Instant) -> (Appended, usize) {
        let bytes: Vec<&[u8]> = rows.iter().map(|row| row.bytes.as_slice()).collect();
        let mut appended = self.append(&self.log, &bytes, deadline).await;
        let refused = self.poison_refused(rows, &mut appended, deadline).await;
        (appended, refused)
    }

    /// Notes what is kept out of the log; nothing is sent when nothing is.
    async fn note(&self, ranges: &[KeptOutRange], ingested_at: i64, deadline: Instant) -> Appended {
        if ranges.is_empty() {
            return Appended::nothing_of(0);
        }
        let rows: Vec<Vec<u8>> = ranges.iter().map(|range| range.encode(ingested_at)).collect();
        let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        self.append(&self.kept_out, &rows, deadline).await
    }

    /// Appends `rows`; creates the table if it is missing, and waits until appends find it.
    async fn append(&self, destination: &Destination, rows: &[&[u8]], deadline: Instant) -> Appended {
        let mut total = Appended::nothing_of(rows.len());
        let mut visible_by: Option<Instant> = None;
        let mut backoff = Backoff::new();
        loop {
            let open: Vec<usize> = not_written(&total.outcomes);
            let open_rows: Vec<&[u8]> = open.iter().filter_map(|index| rows.get(*index).copied()).collect();
            let outcome = self.appends.append(&destination.stream, &open_rows, deadline).await;
            total.requests = total.requests.saturating_add(outcome.requests);
            total.bytes_sent = total.bytes_sent.saturating_add(outcome.bytes_sent);
            for (index, row) in open.into_iter().zip(outcome.rows) {
                if let Some(slot) = total.outcomes.get_mut(index) {
                    *slot = row;
                }
            }
            let Some(failure) = outcome.failure else {
                return total;
            };
            let is_refused = failure.kind() == ErrorKind::InvalidRequest;
            if !may_be_missing(&failure) && !is_refused {
                total.failure = Some(failure);
                return total;
            }
            let patience = match visible_by {
                Some(instant) => instant,
                None => match self.mend(destination, failure.kind(), deadline).await {
                    Ok(true) => {
                        let instant = deadline.min(Instant::now() + NEW_TABLE_PATIENCE);
                        visible_by = Some(instant);
                        instant
                    }
                    // The table is there and whole, so it is the permission that is missing, or a fault of the request's own.
                    Ok(false) => {
                        total.failure = Some(failure);
                        return total;
                    }
                    Err(error) => {
                        total.failure = Some(error);
                        return total;
                    }
                },
            };
            let wake = Instant::now() + backoff.next_delay();
            if wake >= patience {
                total.failure = Some(failure);
                return total;
            }
            tokio::time::sleep_until(wake).await;
        }
    }

    /// Makes of the table what it should be; whether it makes sense to append again.
    async fn mend(&self, destination: &Destination, seen: ErrorKind, deadline: Instant) -> Result<bool, Error> {
        match seen {
            ErrorKind::InvalidRequest => self.complete(destination, deadline).await,
            _ => self.create(destination, seen, deadline).await,
        }
    }

    /// Adds the columns that a table of an older version lacks; whether there were any. Appends see them after a while, as they do a new
    /// table (<https://cloud.google.com/bigquery/docs/write-api#update_schema>).
    async fn complete(&self, destination: &Destination, deadline: Instant) -> Result<bool, Error> {
        let _turn = self.creating.lock().await;
        match self.tables.complete_table(destination.table(), destination.spec, deadline).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            other => other,
        }
    }

    /// Creates the table; whether it makes sense to append again.
    async fn create(&self, destination: &Destination, seen: ErrorKind, deadline: Instant) -> Result<bool, Error> {
        let expiry = Some(self.retention_days);
        let table = destination.table();
        let _turn = self.creating.lock().await;
        match self.tables.ensure_table(table, destination.spec, expiry, deadline).await? {
            Ensured::Created => {
                tracing::info!(table = %table, "created the table");
                Ok(true)
            }
            // Another invocation has just created it, and appends do not see it yet.
            Ensured::Existed => Ok(seen == ErrorKind::NotFound),
        }
    }

    /// Appends the refused rows as poison, so that they do not block their partitions; returns how many there were.
    async fn poison_refused(&self, rows: &[EncodedRow], appended: &mut Appended, deadline: Instant) -> usize {
        let mut places = Vec::new();
        let mut poison_rows = Vec::new();
        let mut refused = 0_usize;
        for (place, (row, outcome)) in rows.iter().zip(&appended.outcomes).enumerate() {
            let RowOutcome::Refused(code) = outcome else {
                continue;
            };
            refused += 1;
            if let Some(bytes) = as_poison(&row.bytes, *code) {
                places.push(place);
                poison_rows.push(bytes);
            }
        }
        if poison_rows.is_empty() {
            return refused;
        }
        let poison_rows: Vec<&[u8]> = poison_rows.iter().map(Vec::as_slice).collect();
        let second = self.append(&self.log, &poison_rows, deadline).await;
        appended.requests = appended.requests.saturating_add(second.requests);
        appended.bytes_sent = appended.bytes_sent.saturating_add(second.bytes_sent);
        for (place, outcome) in places.into_iter().zip(second.outcomes) {
            if let Some(slot) = appended.outcomes.get_mut(place) {
                *slot = outcome;
            }
        }
        appended.failure = appended.failure.take().or(second.failure);
        refused
    }
}

/// The records that are not in the log, each once.
fn given_back(rows: &[EncodedRow], outcomes: &[RowOutcome]) -> BTreeSet<ItemIdentifier> {
    rows.iter()
        .zip(outcomes)
        .filter(|(_, outcome)| **outcome != RowOutcome::Written)
        .map(|(row, _)| ItemIdentifier::of(&row.item))
        .collect()
}

/// The records whose offsets are not noted. A range holds nothing but records of the event.
fn not_noted(ranges: &[KeptOutRange], outcomes: &[RowOutcome]) -> impl Iterator<Item = ItemIdentifier> {
    let open = ranges.iter().zip(outcomes).filter(|(_, outcome)| **outcome != RowOutcome::Written);
    open.flat_map(|(range, _)| {
        (range.first..=range.last).map(|offset| ItemIdentifier { partition: range.group.to_string(), offset })
    })
}

/// The first records of a list, by what Kafka calls them.
fn in_words(records: &[ItemIdentity]) -> String {
    /// A batch can hold thousands; the log table has them all.
    const AT_MOST: usize = 20;
    let mut words: Vec<String> =
        records.iter().take(AT_MOST).map(|record| format!("{}@{}", record.group, record.offset)).collect();
    if let Some(more) = records.len().checked_sub(AT_MOST).filter(|more| *more > 0) {
        words.push(format!("and {more} more"));
    }
    words.join(", ")
}

fn not_an_event(error: &EventError) -> InvocationError {
    InvocationError::new(
        "InvalidEvent",
        format!("{error}. What to do: invoke this function from an Amazon MSK event source mapping only"),
    )
}

/// Whether the failure may be that the table does not exist.
fn may_be_missing(failure: &Error) -> bool {
    match failure.kind() {
        ErrorKind::NotFound => true,
        ErrorKind::PermissionDenied => failure.reason() == Some(MAY_NOT_EXIST),
        _ => false,
    }
}

fn not_written(outcomes: &[RowOutcome]) -> Vec<usize> {
    outcomes
        .iter()
        .enumerate()
        .filter(|(_, outcome)| **outcome == RowOutcome::NotWritten)
        .map(|(place, _)| place)
        .collect()
}

/// The columns that a poison row keeps: its identity, and its data for a person to look at. The others may be what
/// BigQuery refused.
const KEPT_COLUMNS: &[&str] =
    &["source_schema", "source_table", "data", "kafka_topic", "kafka_partition", "kafka_offset", "ingested_at"];

/// A refused row as a poison row; `None` if it is no row of the log's.
fn as_poison(row: &[u8], code: RefusalCode) -> Option<Vec<u8>> {
    let error = format!("BigQuery refused the row: {}", code.as_str());
    let kept: Vec<u32> = KEPT_COLUMNS.iter().filter_map(|name| LOG.field_number(name)).collect();
    let mut poison = Vec::with_capacity(row.len());
    let mut rest = row;
    while !rest.is_empty() {
        let (number, length) = field_at(rest)?;
        let (field, behind) = rest.split_at_checked(length)?;
        if kept.contains(&number) {
            poison.extend_from_slice(field);
        }
        rest = behind;
    }
    for (column, text) in [("operation", "poison"), ("position", ""), ("error", error.as_str())] {
        prost::encoding::string::encode(LOG.field_number(column)?, &text.to_owned(), &mut poison);
    }
    Some(poison)
}

/// The number and the length of the protobuf field that `bytes` begins with.
fn field_at(bytes: &[u8]) -> Option<(u32, usize)> {
    let mut rest = bytes;
    let (number, wire_type) = prost::encoding::decode_key(&mut rest).ok()?;
    prost::encoding::skip_field(wire_type, number, &mut rest, prost::encoding::DecodeContext::default()).ok()?;
    Some((number, bytes.len().checked_sub(rest.len())?))
}

fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "ingest_tests.rs"]
mod tests;
