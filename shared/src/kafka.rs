//! The event that Lambda's poller makes of Kafka records, decoded without copying a value out of it.
//! It must never fail a whole event for one record whose identity can be read, and never trust the group's name for a
//! record's topic and partition.
//!
//! Own structs instead of `aws_lambda_events::kafka`: that one truncates timestamps, and fails the whole event on a record
//! without `headers` or with the timestamp −1. Layout of the event:
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-msk.html#msk-sample-event>.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::json_text::{self, FromObject, JsonFault};

/// Who polls the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventSource {
    /// `aws:kafka`.
    AmazonMsk,
    /// `SelfManagedKafka` or `aws:SelfManagedKafka`.
    SelfManagedKafka,
}

impl EventSource {
    fn of(text: &str) -> Option<Self> {
        match text {
            "aws:kafka" => Some(Self::AmazonMsk),
            "SelfManagedKafka" | "aws:SelfManagedKafka" => Some(Self::SelfManagedKafka),
            _ => None,
        }
    }
}

/// One batch of Kafka records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MskEvent<'a> {
    /// Who polled it.
    pub source: EventSource,
    /// In the order in which they were delivered.
    pub records: Vec<KafkaRecord<'a>>,
}

/// One Kafka record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaRecord<'a> {
    /// The key of `records` it stood under (`topic-0`), which `batchItemFailures` calls the partition.
    pub group: Arc<str>,
    /// The record's own topic.
    pub topic: Cow<'a, str>,
    /// The record's own partition.
    pub partition: i64,
    /// The record's offset in its partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch; None when Kafka has none (−1).
    pub timestamp_ms: Option<i64>,
    /// The key, as received.
    pub key: Payload<'a>,
    /// The value, as received.
    pub value: Payload<'a>,
}

/// The key or value of a record, not yet decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Null or not there: a tombstone's value.
    Absent,
    /// What should be base64.
    Base64(Cow<'a, str>),
    /// There, but no text.
    NotText,
}

/// Why a body is no event that can be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Something else than a Kafka event.
    #[error(
        "got {found}; expected an Amazon MSK event: {{\"eventSource\":\"aws:kafka\",\"records\":{{\"topic-0\":[…]}}}}"
    )]
    NotKafka {
        /// What it is instead.
        found: String,
    },
    /// A record that can neither be logged nor be reported as failed.
    #[error("record {index} of `{group}` has no readable `{member}`, so it can neither be logged nor be reported")]
    NoIdentity {
        /// The key of `records` it stands under.
        group: String,
        /// Its place there, from 0.
        index: usize,
        /// What is missing of `topic`, `partition`, `offset`.
        member: &'static str,
    },
}

/// Decodes the body of an invocation.
///
/// # Errors
/// What it is instead of a Kafka event; or which record has no identity.
pub fn decode_event(body: &[u8]) -> Result<MskEvent<'_>, EventError> {
    let FromObject::<Envelope<'_>>(envelope) = serde_json::from_slice(body).map_err(|_| not_kafka(body))?;
    let source = envelope.source.and_then(|raw| EventSource::of(&json_text::string_value(raw)?));
    let (Some(source), Some(groups)) = (source, envelope.groups) else {
        return Err(not_kafka(body));
    };
    let count = groups.iter().map(|group| group.records.len()).sum();
    let mut records = Vec::with_capacity(count);
    for Group { name, records: raw } in groups {
        let name: Arc<str> = Arc::from(name);
        for (index, record) in raw.into_iter().enumerate() {
            let record = record.identified(&name).map_err(|member| EventError::NoIdentity {
                group: name.to_string(),
                index,
                member,
            })?;
            records.push(record);
        }
    }
    Ok(MskEvent { source, records })
}

fn not_kafka(body: &[u8]) -> EventError {
    EventError::NotKafka { found: describe(body) }
}

/// What a body is that is no Kafka event, in the words of whoever wired the function to the wrong trigger. Slow, and
/// only run when the event is refused; nothing of a payload is repeated.
fn describe(body: &[u8]) -> String {
    if body.is_empty() {
        return "an empty body".to_owned();
    }
    let value: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(error) => return format!("a body that is not JSON ({})", JsonFault::of(&error)),
    };
    let object = match value {
        Value::Object(object) => object,
        Value::Array(_) => return "a JSON array".to_owned(),
        _ => return "a JSON value that is no object".to_owned(),
    };
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let first_record = object.get("Records").and_then(|records| records.get(0));
    let records_source = first_record.and_then(|record| {
        let source = record.get("eventSource").or_else(|| record.get("EventSource"));
        source.and_then(Value::as_str)
    });
    let what = if object.contains_key("Records") {
        match records_source {
            Some("aws:sqs") => "an SQS event",
            Some("aws:sns") => "an SNS event",
            Some("aws:s3") => "an S3 event",
            Some("aws:kinesis") => "a Kinesis event",
            Some("aws:dynamodb") => "a DynamoDB stream event",
            _ => "an event of another service (`Records`, not `records`)",
        }
    } else if text("detail-type") == Some("Scheduled Event") {
        "an EventBridge scheduled event"
    } else if object.contains_key("detail-type") {
        "an EventBridge event"
    } else if object.contains_key("awslogs") {
        "a CloudWatch Logs event"
    } else if object.contains_key("requestContext") || object.contains_key("httpMethod") {
        "an HTTP request (API Gateway, function URL or load balancer)"
    } else if matches!(text("eventSource"), Some("aws:rmq" | "aws:mq" | "aws:amq")) {
        "an Amazon MQ event"
    } else if object.contains_key("metadata") && (object.contains_key("data") || object.contains_key("control")) {
        "a bare DMS message, not wrapped into a Kafka record"
    } else if object.is_empty() {
        "an empty JSON object"
    } else {
        let is_kafka = text("eventSource").and_then(EventSource::of).is_some();
        match object.get("records") {
            None if is_kafka => "a Kafka event without `records`",
            None => "a JSON object without `records`",
            Some(_) if is_kafka => "a Kafka event whose `records` are not lists of records under their partitions",
            Some(_) if object.contains_key("eventSource") => "an event whose `eventSource` is not Kafka's",
            Some(_) => "a JSON object with `records` but without `eventSource`",
        }
    };
    what.to_owned()
}

/// The event as far as it is needed. Unknown members are passed over.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, rename = "eventSource")]
    source: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "records", deserialize_with = "groups")]
    groups: Option<Vec<Group<'a>>>,
}

/// The records of one partition.
struct Group<'a> {
    name: String,
    records: Vec<RawRecord<'a>>,
}

/// In the order of the text, which a map would lose.
fn groups<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Group<'de>>>, D::Error> {
    struct GroupsVisitor;

    impl<'de> Visitor<'de> for GroupsVisitor {
        type Value = Vec<Group<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of lists of records")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut groups = Vec::new();
            while let Some(name) = map.next_key::<String>()? {
                let records = map.next_value()?;
                groups.push(Group { name, records });
            }
            Ok(groups)
        }
    }

    deserializer.deserialize_map(GroupsVisitor).map(Some)
}

/// The members of one record, each to the letter, so that one that is not what it should be spoils nothing else.
#[derive(Default)]
struct RawRecord<'a> {
    topic: Option<&'a RawValue>,
    partition: Option<&'a RawValue>,
    offset: Option<&'a RawValue>,
    timestamp: Option<&'a RawValue>,
    key: Option<&'a RawValue>,
    value: Option<&'a RawValue>,
}

impl<'a> RawRecord<'a> {
    /// # Errors
    /// The member of the identity that cannot be read.
    fn identified(self, group: &Arc<str>) -> Result<KafkaRecord<'a>, &'static str> {
        let integer = |raw: Option<&RawValue>| raw.and_then(|raw| raw.get().parse::<i64>().ok());
        Ok(KafkaRecord {
            group: Arc::clone(group),
            topic: self.topic.and_then(json_text::string_value).ok_or("topic")?,
            partition: integer(self.partition).ok_or("partition")?,
            offset: integer(self.offset).ok_or("offset")?,
            timestamp_ms: integer(self.timestamp).filter(|millis| *millis >= 0),
            key: Payload::of(self.key),
            value: Payload::of(self.value),
        })
    }
}

impl<'a> Payload<'a> {
    fn of(raw: Option<&'a RawValue>) -> Self {
        match raw {
            None => Self::Absent,
            Some(raw) if raw.get() == "null" => Self::Absent,
            Some(raw) => match json_text::string_value(raw) {
                Some(text) => Self::Base64(text),
                None => Self::NotText,
            },
        }
    }
}

impl<'de> Deserialize<'de> for RawRecord<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawRecordVisitor)
    }
}

struct RawRecordVisitor;

/// Anything but an object becomes a record without identity, which is reported with its place.
impl<'de> Visitor<'de> for RawRecordVisitor {
    type Value = RawRecord<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kafka record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut record = RawRecord::default();
        while let Some(name) = map.next_key::<RecordMember>()? {
            let slot = match name {
                RecordMember::Topic => &mut record.topic,
                RecordMember::Partition => &mut record.partition,
                RecordMember::Offset => &mut record.offset,
                RecordMember::Timestamp => &mut record.timestamp,
                RecordMember::Key => &mut record.key,
                RecordMember::Value => &mut record.value,
                RecordMember::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *slot = Some(map.next_value()?);
        }
        Ok(record)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(RawRecord::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(RawRecord::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(RawRecord::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(RawRecord::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(RawRecord::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(RawRecord::default())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(RawRecord::default())
    }
}

/// `headers`, `timestampType`, `keySchemaMetadata`, … are passed over, whatever they hold.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum RecordMember {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    const EVENT: &str = r#"{
      "eventSource": "aws:kafka", "eventSourceArn": "arn", "bootstrapServers": "b:9092", "new": {"a":[1]},
      "records": {
        "dms-1": [
          {"topic":"dms","partition":1,"offset":9007199254740993,"timestamp":1545084650987,"timestampType":"CREATE_TIME",
           "key":"a2V5","value":"eyJ9","headers":[{"h":[118,-36,0,127,-128]}],"keySchemaMetadata":{"dataFormat":"JSON"}},
          {"value":null,"offset":3,"partition":1,"topic":"d\u006ds","timestamp":-1,"headers":null,"key":null},
          {"topic":"dms","partition":1,"offset":4}
        ],
        "dms-0": [],
        "renamed-7": [{"topic":"dms","partition":0,"offset":0,"timestamp":"soon","key":7,"value":{"a":1},"headers":"?"}]
      }
    }"#;

    #[test]
    fn every_oddity_of_a_record_is_taken() {
        let event = decode_event(EVENT.as_bytes()).unwrap();
        assert_eq!(event.source, EventSource::AmazonMsk);
        let record = |group: &str, partition, offset, timestamp_ms, key, value| KafkaRecord {
            group: Arc::from(group),
            topic: Cow::Borrowed("dms"),
            partition,
            offset,
            timestamp_ms,
            key,
            value,
        };
        let text = |text: &'static str| Payload::Base64(Cow::Borrowed(text));
        use Payload::{Absent, NotText};
        assert_eq!(
            event.records,
            [
                record("dms-1", 1, 9_007_199_254_740_993, Some(1_545_084_650_987), text("a2V5"), text("eyJ9")),
                record("dms-1", 1, 3, None, Absent, Absent),
                record("dms-1", 1, 4, None, Absent, Absent),
                record("renamed-7", 0, 0, None, NotText, NotText),
            ]
        );
        assert!(matches!(&event.records[0].value, Payload::Base64(Cow::Borrowed(_))));
    }

    #[test]
    fn self_managed_kafka_has_two_names() {
        for source in ["SelfManagedKafka", "aws:SelfManagedKafka"] {
            let body = EVENT.replace("aws:kafka", source);
            assert_eq!(decode_event(body.as_bytes()).unwrap().source, EventSource::SelfManagedKafka);
        }
    }

    /// serde reads a struct from a list, too, by the places of its members.
    #[test]
    fn a_list_is_no_event() {
        let error = decode_event(br#"["aws:kafka",{"t-0":[{"topic":"t","partition":0,"offset":1}]}]"#).unwrap_err();
        assert!(error.to_string().contains("a JSON array"), "{error}");
    }

    #[test]
    fn a_record_without_identity_is_named() {
        for (record, member) in [
            (r#"{"partition":0,"offset":1}"#, "topic"),
            (r#"{"topic":7,"partition":0,"offset":1}"#, "topic"),
            (r#"{"topic":"t","partition":null,"offset":1}"#, "partition"),
            (r#"{"topic":"t","partition":0,"offset":1.5}"#, "offset"),
            (r#"{"topic":"t","partition":0,"offset":9223372036854775808}"#, "offset"),
            ("null", "topic"),
            ("[[1]]", "topic"),
            ("-1", "topic"),
            ("\"HUSH\"", "topic"),
        ] {
            let body = format!(
                r#"{{"eventSource":"aws:kafka","records":{{"t-0":[{{"topic":"t","partition":0,"offset":1}},{record}]}}}}"#
            );
            assert_eq!(
                decode_event(body.as_bytes()),
                Err(EventError::NoIdentity { group: "t-0".to_owned(), index: 1, member }),
                "{record}"
            );
        }
    }

    #[test]
    fn what_is_no_kafka_event_is_called_by_its_name() {
        let kafka = r#""eventSource":"aws:kafka""#;
        let cases: &[(&str, &str)] = &[
            ("", "an empty body"),
            ("{", "a body that is not JSON (it ends too early at line 1 column 1)"),
            ("{} HUSH", "a body that is not JSON (syntax error at line 1 column 4)"),
            ("[]", "a JSON array"),
            ("\"HUSH\"", "a JSON value that is no object"),
            ("{}", "an empty JSON object"),
            (r#"{"Records":[{"eventSource":"aws:sqs","body":"HUSH"}]}"#, "an SQS event"),
            (r#"{"Records":[{"EventSource":"aws:sns"}]}"#, "an SNS event"),
            (r#"{"Records":[]}"#, "an event of another service (`Records`, not `records`)"),
            (
                r#"{"version":"0","source":"aws.events","detail-type":"Scheduled Event","detail":{}}"#,
                "an EventBridge scheduled event",
            ),
            (r#"{"source":"x","detail-type":"y"}"#, "an EventBridge event"),
            (r#"{"data":{},"metadata":{}}"#, "a bare DMS message, not wrapped into a Kafka record"),
            (r#"{"tables":["shop.orders"]}"#, "a JSON object without `records`"),
            (r#"{"records":{}}"#, "a JSON object with `records` but without `eventSource`"),
            (r#"{"eventSource":"aws:other","records":{}}"#, "an event whose `eventSource` is not Kafka's"),
        ];
        for (body, found) in cases {
            let error = decode_event(body.as_bytes()).expect_err(body);
            assert_eq!(error, EventError::NotKafka { found: (*found).to_owned() }, "{body}");
            assert!(!error.to_string().contains("HUSH"));
            assert!(error.to_string().contains("expected an Amazon MSK event"));
        }
        let shapeless = "a Kafka event whose `records` are not lists of records under their partitions";
        for (records, found) in [
            ("", "a Kafka event without `records`"),
            (r#","records":[]"#, shapeless),
            (r#","records":null"#, shapeless),
            (r#","records":{"t-0":null}"#, shapeless),
        ] {
            let body = format!("{{{kafka}{records}}}");
            assert_eq!(decode_event(body.as_bytes()), Err(EventError::NotKafka { found: found.to_owned() }), "{body}");
        }
        assert!(decode_event(b"\xff\xfe{}").is_err());
    }

    #[test]
    fn an_event_without_records_in_it_is_an_event() {
        let body = br#"{"eventSource":"aws:kafka","records":{"t-0":[]}}"#;
        assert!(decode_event(body).unwrap().records.is_empty());
    }

    /// Where `aws_lambda_events` can read an event at all, both say the same.
    #[test]
    fn it_agrees_with_aws_lambda_events() {
        let body = r#"{"eventSource":"aws:kafka","records":{"a-1":[
            {"topic":"a","partition":1,"offset":5,"timestamp":1545084650986,"key":"a2V5","value":"eyJ9","headers":[]},
            {"topic":"a","partition":1,"offset":6,"timestamp":1545084650986,"value":"eyJ9","headers":[]}]}}"#;
        let ours = decode_event(body.as_bytes()).unwrap();
        let theirs: aws_lambda_events::kafka::KafkaEvent = serde_json::from_str(body).unwrap();
        let theirs = &theirs.records["a-1"];
        assert_eq!(ours.records.len(), theirs.len());
        for (ours, theirs) in ours.records.iter().zip(theirs) {
            assert_eq!(Some(&*ours.topic), theirs.topic.as_deref());
            assert_eq!((ours.partition, ours.offset), (theirs.partition, theirs.offset));
            let text = |payload: &Payload<'_>| match payload {
                Payload::Base64(text) => Some(text.to_string()),
                _ => None,
            };
            assert_eq!(text(&ours.key), theirs.key);
            assert_eq!(text(&ours.value), theirs.value);
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in any::<Vec<u8>>(), cut in 0..EVENT.len()) {
            let _ = decode_event(&body);
            prop_assert!(decode_event(&EVENT.as_bytes()[..cut]).is_err());
        }
    }
}
