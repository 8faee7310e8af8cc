//! DMS's side of Kafka: messages in order, safe once the broker has said so.

use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord};
use strait_dms_stand_in::{Message, Target, TaskError};
use tokio::sync::watch;

use crate::broker;

/// How long a message may wait for the broker's word.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);

/// Why the broker did not take a message.
#[derive(Debug, thiserror::Error)]
#[error("the broker did not take the messages")]
pub struct NotTaken(#[source] KafkaError);

/// Writes to one topic.
pub struct KafkaTarget {
    producer: FutureProducer,
    topic: String,
    count: watch::Sender<u64>,
}

impl KafkaTarget {
    /// A producer for a topic.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn new(bootstrap: &str, topic: &str) -> Result<Self, KafkaError> {
        let producer = broker::client(bootstrap)
            .set("acks", "all")
            // A retry must overtake nothing; the broker knows no idempotent producer.
            .set("max.in.flight.requests.per.connection", "1")
            .set("linger.ms", "5")
            .set("message.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string())
            .set("message.max.bytes", "4000000")
            // Java's, which DMS's own client is told apart by nobody from.
            .set("partitioner", "murmur2_random")
            .create()?;
        Ok(Self { producer, topic: topic.to_owned(), count: watch::channel(0).0 })
    }

    /// How many messages are safe so far.
    #[must_use]
    pub fn count(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }
}

#[async_trait]
impl Target for KafkaTarget {
    async fn take(&mut self, messages: Vec<Message>) -> Result<(), TaskError> {
        let sent = messages.iter().map(|message| {
            let record = FutureRecord::to(&self.topic).key(&message.key).payload(&message.value);
            self.producer.send(record, DELIVERY_TIMEOUT)
        });
        // The futures enqueue when they are first polled, in order.
        try_join_all(sent.map(|sent| async { sent.await.map_err(|(error, _)| error) }))
            .await
            .map_err(|error| TaskError::Target(Box::new(NotTaken(error))))?;
        self.count.send_modify(|count| *count = count.saturating_add(u64::try_from(messages.len()).unwrap_or(0)));
        Ok(())
    }
}
