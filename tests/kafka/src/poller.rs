//! Lambda's event source mapping for Kafka, as AWS documents its provisioned mode
//! (<https://docs.aws.amazon.com/lambda/latest/dg/with-msk-configure.html>): one member of a consumer group that makes batches of
//! records by count, size and time, invokes the function with one after the other, and commits what it is done with: what succeeded, or what
//! failed for good and lies at the on-failure destination.
//!
//! It must never commit a record that is in neither place, and never hand records of one partition over in another order than theirs, but
//! for those that an answer named as failed: these alone are sent again, after the others.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use strait_cli::msk::{self, KafkaRecord};
use strait_cli::runtime_api::PAYLOAD_LIMIT;
use tokio::time::Instant;

use crate::{broker, invoke};

/// The broker waits half of it for other members before the first of a group may read.
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// What the growing pause between attempts stays below.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How records are read and handed on. The names are those of an event source mapping.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PollerSettings {
    /// The brokers.
    pub bootstrap: String,
    /// The topic.
    pub topic: String,
    /// `ConsumerGroupId`.
    pub group: String,
    /// Where the function is invoked.
    pub function_url: String,
    /// `BatchSize`.
    pub batch_size: usize,
    /// `MaximumBatchingWindowInSeconds`, in milliseconds.
    pub window_ms: u64,
    /// `BisectBatchOnFunctionError`.
    pub bisect: bool,
    /// `MaximumRetryAttempts` of a batch, or of what is left of it after the bisection; None: for as long as it takes.
    pub retries: Option<u32>,
    /// The on-failure destination: a folder.
    pub on_failure: PathBuf,
    /// The first pause before another attempt, in milliseconds.
    pub pause_ms: u64,
}

/// Why a poller ends. Another one goes on from what is committed.
#[derive(Debug, thiserror::Error)]
pub enum PollerError {
    /// The broker.
    #[error("Kafka")]
    Kafka(#[from] KafkaError),
    /// The HTTP client.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    /// The on-failure destination.
    #[error("cannot write to the on-failure destination")]
    OnFailure(#[source] std::io::Error),
}

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It answered with this.
    Answered(Vec<u8>),
    /// It failed as a whole, with this reason.
    Failed(String),
}

/// What a batch has come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// Records that failed for good, with the last reason.
    pub dead: Vec<(KafkaRecord, String)>,
    /// Invocations that it took.
    pub invocations: u32,
}

/// Reads and hands on until something fails.
///
/// # Errors
/// [`PollerError`]; nothing is committed then that was not handed on.
pub async fn run(settings: &PollerSettings) -> Result<std::convert::Infallible, PollerError> {
    let consumer: StreamConsumer = broker::client(&settings.bootstrap)
        .set("group.id", &settings.group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", SESSION_TIMEOUT.as_millis().to_string())
        .set("fetch.wait.max.ms", "50")
        .set("fetch.message.max.bytes", "8000000")
        .create()?;
    consumer.subscribe(&[&settings.topic])?;
    let http = reqwest::Client::builder().no_proxy().build().map_err(PollerError::Client)?;
    let mut carried = None;
    loop {
        let (records, next) = collect(&consumer, settings, carried.take()).await?;
        carried = next;
        let invoke = async |records: &[KafkaRecord]| post(&http, &settings.function_url, msk::event(records)).await;
        let done = hand_on(&records, settings, invoke).await;
        for (record, reason) in &done.dead {
            lay_down(settings, record, reason).await?;
        }
        commit(&consumer, &records)?;
    }
}

/// A batch: until it is full or the window has passed since its first record. What no longer fits is the next one's first.
async fn collect(
    consumer: &StreamConsumer,
    settings: &PollerSettings,
    carried: Option<KafkaRecord>,
) -> Result<(Vec<KafkaRecord>, Option<KafkaRecord>), KafkaError> {
    let first = match carried {
        Some(record) => record,
        None => record_of(&consumer.recv().await?),
    };
    let end = Instant::now() + Duration::from_millis(settings.window_ms);
    let mut bytes = msk::event(std::slice::from_ref(&first)).len();
    let mut records = vec![first];
    while records.len() < settings.batch_size {
        let Ok(message) = tokio::time::timeout_at(end, consumer.recv()).await else {
            break;
        };
        let record = record_of(&message?);
        let more = msk::event(std::slice::from_ref(&record)).len();
        if bytes.saturating_add(more) > PAYLOAD_LIMIT {
            return Ok((records, Some(record)));
        }
        bytes = bytes.saturating_add(more);
        records.push(record);
    }
    Ok((records, None))
}

fn record_of(message: &rdkafka::message::BorrowedMessage<'_>) -> KafkaRecord {
    KafkaRecord {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
    }
}

/// Invokes the function with a batch until every record of it succeeded or has failed for good.
pub async fn hand_on(
    batch: &[KafkaRecord],
    settings: &PollerSettings,
    invoke: impl AsyncFn(&[KafkaRecord]) -> Outcome,
) -> Done {
    let mut done = Done::default();
    // In order: what is in front is handed on first.
    let mut parts: VecDeque<(Vec<KafkaRecord>, u32)> = VecDeque::from([(batch.to_vec(), 0)]);
    while let Some((records, failures)) = parts.pop_front() {
        if failures > 0 {
            let grown = settings.pause_ms.saturating_mul(1_u64.checked_shl(failures.min(16)).unwrap_or(u64::MAX));
            tokio::time::sleep(Duration::from_millis(grown).min(LONGEST_PAUSE)).await;
        }
        let size = msk::event(&records).len();
        if size > PAYLOAD_LIMIT && records.len() == 1 {
            let reason = format!("an event of {size} bytes");
            done.dead.extend(records.into_iter().map(|record| (record, reason.clone())));
            continue;
        }
        done.invocations = done.invocations.saturating_add(1);
        let (left, reason) = match invoke(&records).await {
            Outcome::Answered(answer) => match msk::failed_items(&answer, &records) {
                Some(failed) if failed.is_empty() => continue,
                Some(failed) => (failed.into_iter().cloned().collect(), "named by the function".to_owned()),
                None => (records, "an answer that names no records of the batch".to_owned()),
            },
            Outcome::Failed(reason) => (records, reason),
        };
        let failures = failures.saturating_add(1);
        if settings.retries.is_some_and(|retries| failures > retries) {
            if settings.bisect && left.len() > 1 {
                let (front, back) = left.split_at(left.len() / 2);
                parts.push_front((back.to_vec(), 0));
                parts.push_front((front.to_vec(), 0));
            } else {
                done.dead.extend(left.into_iter().map(|record| (record, reason.clone())));
            }
        } else {
            parts.push_front((left, failures));
        }
    }
    done
}

async fn post(http: &reqwest::Client, url: &str, event: Vec<u8>) -> Outcome {
    let answer = match http.post(url).body(event).send().await {
        Ok(answer) => answer,
        Err(error) => return Outcome::Failed(format!("no answer: {error}")),
    };
    let is_error = !answer.status().is_success() || answer.headers().contains_key(invoke::FUNCTION_ERROR);
    match answer.bytes().await {
        Ok(body) if !is_error => Outcome::Answered(body.to_vec()),
        Ok(body) => Outcome::Failed(String::from_utf8_lossy(&body).into_owned()),
        Err(error) => Outcome::Failed(format!("no whole answer: {error}")),
    }
}

/// The record itself, as an S3 destination gets it.
async fn lay_down(settings: &PollerSettings, record: &KafkaRecord, reason: &str) -> Result<(), PollerError> {
    let event: serde_json::Value =
        serde_json::from_slice(&msk::event(std::slice::from_ref(record))).unwrap_or_default();
    let text = serde_json::json!({"reason": reason, "payload": event}).to_string();
    let name = format!("{}-{}-{}.json", record.topic, record.partition, record.offset);
    tokio::fs::write(settings.on_failure.join(name), text).await.map_err(PollerError::OnFailure)
}

fn commit(consumer: &StreamConsumer, records: &[KafkaRecord]) -> Result<(), KafkaError> {
    let mut next: BTreeMap<(&str, i32), i64> = BTreeMap::new();
    for record in records {
        let offset = next.entry((&record.topic, record.partition)).or_insert(0);
        *offset = (*offset).max(record.offset.saturating_add(1));
    }
    let mut list = TopicPartitionList::new();
    for ((topic, partition), offset) in next {
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    }
    match consumer.commit(&list, CommitMode::Sync) {
        // The partition is another member's by now, which reads the records again.
        Err(KafkaError::ConsumerCommit(code)) if is_of_a_rebalance(code) => Ok(()),
        other => other,
    }
}

fn is_of_a_rebalance(code: rdkafka::types::RDKafkaErrorCode) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    matches!(code, Code::RebalanceInProgress | Code::IllegalGeneration | Code::UnknownMemberId)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use std::cell::RefCell;

    use strait_cli::msk::Topic;

    use super::*;

    fn records(count: usize) -> Vec<KafkaRecord> {
        let mut topic = Topic::new("dms", 1);
        (0..count).map(|_| topic.append_to(0, None, Some(b"{}".to_vec()))).collect()
    }

    fn settings(retries: Option<u32>, bisect: bool) -> PollerSettings {
        PollerSettings {
            bootstrap: String::new(),
            topic: "dms".to_owned(),
            group: String::new(),
            function_url: String::new(),
            batch_size: 100,
            window_ms: 0,
            bisect,
            retries,
            on_failure: PathBuf::new(),
            pause_ms: 0,
        }
    }

    /// What was handed on, as ranges of offsets.
    struct Function<F> {
        calls: RefCell<Vec<Vec<i64>>>,
        answer: F,
    }

    impl<F: Fn(usize, &[i64]) -> Outcome> Function<F> {
        fn new(answer: F) -> Self {
            Self { calls: RefCell::default(), answer }
        }

        async fn played(&self, batch: &[KafkaRecord], settings: &PollerSettings) -> Done {
            hand_on(batch, settings, async |records: &[KafkaRecord]| {
                let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
                let call = self.calls.borrow().len();
                self.calls.borrow_mut().push(offsets.clone());
                (self.answer)(call, &offsets)
            })
            .await
        }
    }

    fn fine() -> Outcome {
        Outcome::Answered(br#"{"batchItemFailures":[]}"#.to_vec())
    }

    fn failed() -> Outcome {
        Outcome::Failed("no".to_owned())
    }

    #[tokio::test]
    async fn a_batch_that_fails_is_sent_again_until_it_succeeds() {
        let function = Function::new(|call, _: &[i64]| if call < 7 { failed() } else { fine() });
        let done = function.played(&records(3), &settings(None, true)).await;
        assert_eq!((done.invocations, done.dead.len()), (8, 0));
        assert!(function.calls.borrow().iter().all(|call| *call == [0, 1, 2]));
    }

    #[tokio::test]
    async fn of_a_partial_failure_the_named_records_alone_are_sent_again() {
        let function = Function::new(|call, _: &[i64]| {
            if call > 0 {
                return fine();
            }
            let answer = r#"{"batchItemFailures":[{"itemIdentifier":{"partition":"dms-0","offset":1}}]}"#;
            Outcome::Answered(answer.as_bytes().to_vec())
        });
        let done = function.played(&records(3), &settings(None, true)).await;
        assert_eq!(done.dead, []);
        assert_eq!(*function.calls.borrow(), [vec![0, 1, 2], vec![1]]);
    }

    #[tokio::test]
    async fn bisection_finds_the_one_record_and_keeps_the_order() {
        let function = Function::new(|_, offsets: &[i64]| if offsets.contains(&5) { failed() } else { fine() });
        let done = function.played(&records(8), &settings(Some(0), true)).await;
        assert_eq!(done.dead.iter().map(|(record, _)| record.offset).collect::<Vec<_>>(), [5]);
        let succeeded: Vec<i64> =
            function.calls.borrow().iter().filter(|call| !call.contains(&5)).flatten().copied().collect();
        assert_eq!(succeeded, [0, 1, 2, 3, 4, 6, 7]);
    }

    #[tokio::test]
    async fn without_bisection_the_whole_batch_is_given_up() {
        let function = Function::new(|_, _: &[i64]| failed());
        let done = function.played(&records(4), &settings(Some(2), false)).await;
        assert_eq!((done.invocations, done.dead.len()), (3, 4));
    }

    #[tokio::test]
    async fn an_answer_that_names_strangers_fails_the_batch() {
        let function = Function::new(|call, _: &[i64]| match call {
            0 => Outcome::Answered(
                br#"{"batchItemFailures":[{"itemIdentifier":{"partition":"dms-0","offset":77}}]}"#.to_vec(),
            ),
            _ => fine(),
        });
        let done = function.played(&records(2), &settings(None, true)).await;
        assert_eq!((done.invocations, done.dead.len()), (2, 0));
        assert_eq!(function.calls.borrow()[1], [0, 1]);
    }

    #[tokio::test]
    async fn a_record_that_no_event_can_hold_is_laid_down_unsent() {
        let mut topic = Topic::new("dms", 1);
        let large = [topic.append_to(0, None, Some(vec![b'x'; PAYLOAD_LIMIT]))];
        let function = Function::new(|_, _: &[i64]| fine());
        let done = function.played(&large, &settings(None, true)).await;
        assert_eq!((done.invocations, done.dead.len()), (0, 1));
    }
}
