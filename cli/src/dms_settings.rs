//! The DMS settings on which Strait's promises rest: what each is by default, what it has to be, and what goes wrong otherwise.
//! `docs/dms-settings.md` is generated from it. Pure; it must never repeat a setting's value that it does not judge, for an
//! endpoint's settings hold passwords.
//!
//! Sources: AWS DMS API reference (KafkaSettings, PostgreSQLSettings) and user guide ("Using Apache Kafka as a target", "Using a PostgreSQL
//! database as a source", "Task settings"), and what messages from such endpoints hold.

use serde_json::{Map, Value};

/// Where a setting stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// `KafkaSettings` of the target endpoint.
    Kafka,
    /// The settings of a replication task or a serverless replication.
    Task,
    /// `PostgreSQLSettings` of the source endpoint.
    PostgreSql,
}

impl Place {
    /// Every place.
    pub const ALL: [Self; 3] = [Self::Kafka, Self::Task, Self::PostgreSql];

    /// What a person calls it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kafka => "Kafka target endpoint",
            Self::Task => "task settings",
            Self::PostgreSql => "PostgreSQL source endpoint",
        }
    }
}

/// What a setting has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// One of these words; `true` and `false` are words, too. The first is the one to set.
    OneOf(&'static [&'static str]),
    /// A number up to this.
    AtMost(u64),
    /// A number above this.
    Above(u64),
}

impl Wanted {
    fn is_met(self, value: &str) -> bool {
        match self {
            Self::OneOf(words) => words.iter().any(|word| word.eq_ignore_ascii_case(value)),
            Self::AtMost(most) => value.parse::<u64>().is_ok_and(|number| number <= most),
            Self::Above(least) => value.parse::<u64>().is_ok_and(|number| number > least),
        }
    }

    /// In words.
    #[must_use]
    pub fn in_words(self) -> String {
        match self {
            Self::OneOf(words) => words.join(" or "),
            Self::AtMost(most) => format!("at most {most}"),
            Self::Above(least) => format!("above {least}"),
        }
    }
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Where it stands.
    pub place: Place,
    /// Its group, for task settings; empty for an endpoint's.
    pub group: &'static str,
    /// Its name in DMS's API. Extra connection attributes have the same name, whatever its case.
    pub name: &'static str,
    /// What it is if nobody sets it.
    pub default: &'static str,
    /// What it has to be.
    pub wanted: Wanted,
    /// What goes wrong otherwise.
    pub otherwise: &'static str,
}

const fn setting(
    place: Place,
    group: &'static str,
    name: &'static str,
    default: &'static str,
    wanted: Wanted,
    otherwise: &'static str,
) -> Setting {
    Setting { place, group, name, default, wanted, otherwise }
}

const TRUE: Wanted = Wanted::OneOf(&["true"]);
const FALSE: Wanted = Wanted::OneOf(&["false"]);
const STOPS: Wanted = Wanted::OneOf(&["SUSPEND_TABLE", "STOP_TASK"]);
/// Lambda takes 6 MB of payload; a value comes as base64, which is a third longer, with its envelope and a key beside it.
const LARGEST_MESSAGE: Wanted = Wanted::AtMost(4_000_000);

/// Every setting that is judged.
pub const SETTINGS: &[Setting] = &[
    setting(
        Place::Kafka,
        "",
        "IncludeTransactionDetails",
        "false",
        TRUE,
        "messages have no source position: PostgreSQL's changes are ordered by when DMS sent them, so rows can end wrong",
    ),
    setting(
        Place::Kafka,
        "",
        "IncludeControlDetails",
        "false",
        TRUE,
        "control records carry no table definition: every final table has to be created by hand",
    ),
    setting(
        Place::Kafka,
        "",
        "IncludeTableAlterOperations",
        "false",
        TRUE,
        "changes of a table's columns are not sent: an added column's values stay in the log, a renamed column reads as NULL",
    ),
    setting(
        Place::Kafka,
        "",
        "IncludeNullAndEmpty",
        "false",
        TRUE,
        "NULL, an empty text and a column that was left out look alike: an empty text becomes NULL, and NULL cannot be told from unchanged",
    ),
    setting(
        Place::Kafka,
        "",
        "UseLargeIntegerValue",
        "false",
        TRUE,
        "whole numbers of 17 and more digits lose their last digits inside DMS: wrong values and wrong keys, without a sign",
    ),
    setting(
        Place::Kafka,
        "",
        "PartitionIncludeSchemaTable",
        "false",
        TRUE,
        "rows of different tables with the same key share a partition: some partitions are hot, and the pipeline is as slow as those",
    ),
    setting(
        Place::Kafka,
        "",
        "IncludePartitionValue",
        "false",
        TRUE,
        "a message does not say by which value DMS chose its partition: hot partitions cannot be explained",
    ),
    setting(
        Place::Kafka,
        "",
        "MessageFormat",
        "json",
        Wanted::OneOf(&["json-unformatted"]),
        "messages are indented with tabs and line ends: more bytes in MSK and in every event, fewer records in a batch",
    ),
    setting(
        Place::Kafka,
        "",
        "MessageMaxBytes",
        "1000000",
        LARGEST_MESSAGE,
        "a message may be larger than Lambda's payload of 6 MB, and its partition stands still before it",
    ),
    setting(
        Place::Task,
        "TargetMetadata",
        "BatchApplyEnabled",
        "false",
        FALSE,
        "DMS's own guide says that batch apply may lose data on a Kafka target: changes that never arrive",
    ),
    setting(
        Place::Task,
        "BeforeImageSettings",
        "EnableBeforeImage",
        "false",
        TRUE,
        "a change of a primary key does not say which row it was: the old row stays beside the new one",
    ),
    setting(
        Place::Task,
        "BeforeImageSettings",
        "FieldName",
        "(empty)",
        Wanted::OneOf(&["before-image"]),
        "the before-image comes under a name that Strait does not look at: as if there were none",
    ),
    setting(
        Place::Task,
        "BeforeImageSettings",
        "ColumnFilter",
        "pk-only",
        Wanted::OneOf(&["pk-only"]),
        "every update carries its whole old row: about twice the bytes, of which only the key is used",
    ),
    setting(
        Place::Task,
        "ChangeProcessingDdlHandlingPolicy",
        "HandleSourceTableAltered",
        "true",
        TRUE,
        "an altered table is not announced: as without IncludeTableAlterOperations",
    ),
    setting(
        Place::Task,
        "ErrorBehavior",
        "DataErrorPolicy",
        "LOG_ERROR",
        STOPS,
        "a row that DMS cannot process is written to DMS's own log and skipped: missing, and nothing after DMS can know",
    ),
    setting(
        Place::Task,
        "ErrorBehavior",
        "DataTruncationErrorPolicy",
        "LOG_ERROR",
        STOPS,
        "a value that DMS cuts off is noted in DMS's own log alone: a wrong value that looks right",
    ),
    setting(
        Place::Task,
        "TargetMetadata",
        "LobMaxSize",
        "32",
        Wanted::Above(32),
        "a text, JSON or binary value of more than so many KB is cut off without a sign; set it above the source's longest",
    ),
    setting(
        Place::PostgreSql,
        "",
        "MapUnboundedNumericAsString",
        "false",
        TRUE,
        "a numeric without a precision is cut off after six digits of its fraction",
    ),
    setting(
        Place::PostgreSql,
        "",
        "FailTasksOnLobTruncation",
        "false",
        TRUE,
        "a text, JSON or bytea longer than LobMaxSize is cut off without a sign",
    ),
    setting(
        Place::PostgreSql,
        "",
        "CaptureDdls",
        "true",
        TRUE,
        "DMS does not see that a table is altered: as without IncludeTableAlterOperations",
    ),
    setting(
        Place::PostgreSql,
        "",
        "HeartbeatEnable",
        "false",
        TRUE,
        "while the replicated tables are idle and others are not, the slot holds the write-ahead log back until the disk is full",
    ),
    setting(
        Place::PostgreSql,
        "",
        "MapBooleanAsBoolean",
        "false",
        TRUE,
        "booleans are announced as text, so a final table that Strait makes has STRING columns for them",
    ),
];

/// Settings as they were found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// What they are of.
    pub place: Place,
    /// What it is called, if it has a name.
    pub name: Option<String>,
    settings: Map<String, Value>,
    /// Extra connection attributes, by their names in small letters.
    extra: Vec<(String, String)>,
    /// Whether a table mapping adds before-image columns, by which an old key can be found as well.
    has_before_image_columns: bool,
}

/// A setting that is not what it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The setting.
    pub setting: Setting,
    /// What it is.
    pub value: String,
    /// Whether nobody set it, so that DMS's default holds.
    pub is_default: bool,
}

/// Everything in a document that is judged: what the AWS command line prints of endpoints, tasks and serverless replications, a
/// CloudFormation resource's properties, and files of settings alone.
#[must_use]
pub fn find(document: &Value) -> Vec<Found> {
    let mut found = Vec::new();
    search(document, None, &mut found);
    found
}

fn search(value: &Value, within: Option<&Map<String, Value>>, found: &mut Vec<Found>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| search(item, within, found)),
        Value::Object(object) => {
            if let Some(place) = place_of_settings(object) {
                push(place, object, within, found);
                return;
            }
            let mut is_endpoint_with_settings = false;
            for (name, value) in object {
                match (name.as_str(), value) {
                    ("KafkaSettings", Value::Object(settings)) => {
                        push(Place::Kafka, settings, Some(object), found);
                        is_endpoint_with_settings = true;
                    }
                    ("PostgreSQLSettings" | "PostgreSqlSettings", Value::Object(settings)) => {
                        // The same group on a target endpoint is no source's.
                        if object.get("EndpointType").and_then(Value::as_str).is_none_or(is_source) {
                            push(Place::PostgreSql, settings, Some(object), found);
                        }
                        is_endpoint_with_settings = true;
                    }
                    // Settings of a task come as a text that holds JSON.
                    ("ReplicationTaskSettings" | "ReplicationSettings", Value::String(text)) => {
                        if let Ok(settings) = serde_json::from_str::<Value>(text) {
                            search_task(&settings, object, found);
                        }
                    }
                    ("ReplicationTaskSettings" | "ReplicationSettings", settings) => {
                        search_task(settings, object, found)
                    }
                    _ => search(value, Some(object), found),
                }
            }
            if !is_endpoint_with_settings && let Some(place) = place_of_endpoint(object) {
                push(place, &Map::new(), Some(object), found);
            }
        }
        _ => {}
    }
}

fn is_source(word: &str) -> bool {
    word.eq_ignore_ascii_case("source")
}

fn search_task(settings: &Value, task: &Map<String, Value>, found: &mut Vec<Found>) {
    if let Value::Object(settings) = settings {
        push(Place::Task, settings, Some(task), found);
    }
}

/// What an object of settings alone is of, by the names in it.
fn place_of_settings(object: &Map<String, Value>) -> Option<Place> {
    let has = |name: &str| object.contains_key(name);
    if has("TargetMetadata") || has("BeforeImageSettings") || has("FullLoadSettings") || has("ErrorBehavior") {
        return Some(Place::Task);
    }
    let is_of = |place: Place| {
        let mut settings = SETTINGS.iter().filter(|setting| setting.place == place);
        settings.any(|setting| has(setting.name))
    };
    if is_of(Place::Kafka) || has("Broker") && has("Topic") {
        return Some(Place::Kafka);
    }
    is_of(Place::PostgreSql).then_some(Place::PostgreSql)
}

/// Of an endpoint that is described without a group of settings: all are DMS's defaults, or extra connection attributes.
fn place_of_endpoint(object: &Map<String, Value>) -> Option<Place> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    match (text("EngineName"), text("EndpointType")) {
        ("kafka", _) => Some(Place::Kafka),
        ("aurora-postgresql" | "postgres", kind) if is_source(kind) => Some(Place::PostgreSql),
        _ => None,
    }
}

fn push(place: Place, settings: &Map<String, Value>, within: Option<&Map<String, Value>>, found: &mut Vec<Found>) {
    let text = |name: &str| within.and_then(|within| within.get(name)).and_then(Value::as_str);
    let names = ["EndpointIdentifier", "ReplicationTaskIdentifier", "ReplicationConfigIdentifier"];
    let attributes = text("ExtraConnectionAttributes").unwrap_or_default();
    let extra = attributes
        .split(';')
        .filter_map(|attribute| attribute.split_once('='))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mappings = within.and_then(|within| within.get("TableMappings")).map(Value::to_string).unwrap_or_default();
    found.push(Found {
        place,
        name: names.into_iter().find_map(text).map(str::to_owned),
        settings: settings.clone(),
        extra,
        has_before_image_columns: mappings.contains("add-before-image-columns"),
    });
}

impl Found {
    /// What is not what it has to be, in the table's order.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let of_place = SETTINGS.iter().filter(|setting| setting.place == self.place);
        of_place
            .filter(|setting| self.is_judged(setting))
            .filter_map(|setting| {
                let given = self.value(setting);
                let is_default = given.is_none();
                let value = given.unwrap_or_else(|| setting.default.to_owned());
                (!setting.wanted.is_met(&value)).then_some(Finding { setting: *setting, value, is_default })
            })
            .collect()
    }

    /// Whether it matters here.
    fn is_judged(&self, setting: &Setting) -> bool {
        let on = |name: &str| {
            let of_name = SETTINGS.iter().find(|setting| setting.place == Place::Task && setting.name == name);
            of_name.and_then(|setting| self.value(setting)).is_some_and(|value| value.eq_ignore_ascii_case("true"))
        };
        match setting.name {
            "EnableBeforeImage" => !self.has_before_image_columns,
            "FieldName" | "ColumnFilter" => on("EnableBeforeImage"),
            _ => true,
        }
    }

    /// As it was set; `None` if it was not.
    fn value(&self, setting: &Setting) -> Option<String> {
        let of_group = |settings: &Map<String, Value>| {
            let named = settings.iter().find(|(name, _)| name.eq_ignore_ascii_case(setting.name));
            named.and_then(|(_, value)| match value {
                Value::Bool(flag) => Some(flag.to_string()),
                Value::Number(number) => Some(number.to_string()),
                Value::String(text) if !text.is_empty() => Some(text.clone()),
                _ => None,
            })
        };
        let given = match setting.group {
            "" => of_group(&self.settings),
            group => self.settings.get(group).and_then(Value::as_object).and_then(of_group),
        };
        let lower = setting.name.to_ascii_lowercase();
        let given =
            given.or_else(|| self.extra.iter().find(|(name, _)| *name == lower).map(|(_, value)| value.clone()));
        given.map(|value| match value.as_str() {
            // Extra connection attributes have it so.
            "Y" | "y" => "true".to_owned(),
            "N" | "n" => "false".to_owned(),
            _ => value,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    /// What has to be set, as the table says it.
    fn safe(place: Place) -> Value {
        let mut settings = json!({});
        for setting in SETTINGS.iter().filter(|setting| setting.place == place) {
            let value = match setting.wanted {
                Wanted::OneOf(words) => json!(words[0]),
                Wanted::AtMost(number) => json!(number),
                Wanted::Above(number) => json!(number + 1),
            };
            if setting.group.is_empty() {
                settings[setting.name] = value;
            } else {
                settings[setting.group][setting.name] = value;
            }
        }
        settings
    }

    fn names(found: &Found) -> Vec<&'static str> {
        found.findings().into_iter().map(|finding| finding.setting.name).collect()
    }

    #[test]
    fn what_is_as_it_has_to_be_has_no_finding_and_each_other_value_one() {
        for place in Place::ALL {
            let all = safe(place);
            let found = find(&all);
            assert_eq!((found.len(), found[0].place), (1, place));
            assert_eq!(found[0].findings(), [], "{place:?}");
            for setting in SETTINGS.iter().filter(|setting| setting.place == place) {
                let mut spoilt = all.clone();
                let group = if setting.group.is_empty() { &mut spoilt } else { &mut spoilt[setting.group] };
                group[setting.name] = match setting.wanted {
                    Wanted::OneOf(["true"]) => json!(false),
                    Wanted::OneOf(["false"]) => json!(true),
                    Wanted::OneOf(_) => json!("other"),
                    Wanted::AtMost(number) => json!(number + 1),
                    Wanted::Above(number) => json!(number),
                };
                let found = find(&spoilt);
                assert_eq!(names(&found[0]), [setting.name], "{}", setting.name);
                assert!(!found[0].findings()[0].is_default);
                assert!(!setting.otherwise.is_empty() && !setting.otherwise.ends_with('.'));
            }
        }
    }

    #[test]
    fn what_nobody_set_is_dms_default() {
        for place in Place::ALL {
            let expected: BTreeSet<&str> = SETTINGS
                .iter()
                .filter(|setting| setting.place == place && !setting.wanted.is_met(setting.default))
                // Of what is switched off the name is no matter.
                .filter(|setting| setting.name != "FieldName")
                .map(|setting| setting.name)
                .collect();
            let empty =
                Found { place, name: None, settings: Map::new(), extra: Vec::new(), has_before_image_columns: false };
            let found: BTreeSet<&str> = names(&empty).into_iter().collect();
            assert_eq!(found, expected);
            assert!(empty.findings().iter().all(|finding| finding.is_default));
        }
    }

    /// As `aws dms describe-endpoints` and `describe-replication-tasks` print them.
    #[test]
    fn the_command_lines_output_is_read_as_it_comes() {
        let mut kafka = safe(Place::Kafka);
        kafka.as_object_mut().unwrap().remove("IncludeNullAndEmpty");
        kafka["UseLargeIntegerValue"] = json!(false);
        kafka["Broker"] = json!("b-1:9096");
        kafka["SaslPassword"] = json!("PLANTED");
        let task = json!({"BeforeImageSettings": null, "TargetMetadata": {"BatchApplyEnabled": true, "LobMaxSize": 64},
                          "ErrorBehavior": {"DataErrorPolicy": "SUSPEND_TABLE", "DataTruncationErrorPolicy": "STOP_TASK"}});
        let document = json!([
            {"Endpoints": [
                {"EndpointIdentifier": "to-kafka", "EndpointType": "TARGET", "EngineName": "kafka", "KafkaSettings": kafka},
                {"EndpointIdentifier": "from-aurora", "EndpointType": "SOURCE", "EngineName": "aurora-postgresql",
                 "ExtraConnectionAttributes": "captureDdls=N; MapUnboundedNumericAsString=true;heartbeatEnable=TRUE"},
                {"EndpointIdentifier": "from-mysql", "EndpointType": "SOURCE", "EngineName": "aurora"},
                {"EndpointIdentifier": "elsewhere", "EndpointType": "TARGET", "EngineName": "postgres", "PostgreSQLSettings": {"ServerName": "x"}},
            ]},
            {"ReplicationTasks": [{"ReplicationTaskIdentifier": "shop", "ReplicationTaskSettings": task.to_string(), "TableMappings": "{}"}]},
        ]);
        let found = find(&document);
        let said: Vec<(&str, Vec<&str>)> =
            found.iter().map(|found| (found.name.as_deref().unwrap(), names(found))).collect();
        assert_eq!(
            said,
            [
                ("to-kafka", vec!["IncludeNullAndEmpty", "UseLargeIntegerValue"]),
                ("from-aurora", vec!["FailTasksOnLobTruncation", "CaptureDdls", "MapBooleanAsBoolean"]),
                ("shop", vec!["BatchApplyEnabled", "EnableBeforeImage"]),
            ]
        );
        assert!(!format!("{:?}", found[0].findings()).contains("PLANTED"));
    }

    #[test]
    fn a_before_image_may_come_from_a_table_mapping() {
        let mut settings = safe(Place::Task);
        settings["BeforeImageSettings"] = Value::Null;
        let config = json!({"ReplicationConfigIdentifier": "shop", "ReplicationSettings": settings.to_string(),
                            "TableMappings": "{\"rules\":[{\"rule-action\":\"add-before-image-columns\"}]}"});
        assert_eq!(names(&find(&config)[0]), Vec::<&str>::new());
    }

    #[test]
    fn what_holds_no_settings_is_not_judged() {
        for document in
            [json!({}), json!([]), json!("x"), json!({"Endpoints": []}), json!({"rules": [{"rule-id": "1"}]})]
        {
            assert_eq!(find(&document), []);
        }
    }
}
