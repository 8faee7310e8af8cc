//! The settings of a DMS task and of its Kafka endpoint that decide what a message looks like, under DMS's own names and with DMS's own
//! defaults (<https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Target.Kafka.html>).

use serde::Deserialize;

/// `KafkaSettings` of the target endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", deny_unknown_fields)]
pub struct EndpointSettings {
    /// Indented with tabs, or on one line.
    pub message_format: MessageFormat,
    /// Whether changes say where in the source's log they stand.
    pub include_transaction_details: bool,
    /// Whether a message says by which value its Kafka key was made.
    pub include_partition_value: bool,
    /// Whether the key of a row begins with its schema and table.
    pub partition_include_schema_table: bool,
    /// Whether altered columns are told at all.
    pub include_table_alter_operations: bool,
    /// Whether control records carry the table's definition.
    pub include_control_details: bool,
    /// Whether NULL and the empty text stand in a row image. Otherwise both are left out.
    pub include_null_and_empty: bool,
    /// Whether long integers keep all digits. Otherwise they go through a double.
    pub use_large_integer_value: bool,
    /// Whether bytes are without `0x`.
    pub no_hex_prefix: bool,
}

/// How a message is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageFormat {
    /// Indented with tabs.
    #[default]
    Json,
    /// On one line.
    JsonUnformatted,
}

/// What a task's settings, its source endpoint's and its table mappings say beside that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskSettings {
    /// `BeforeImageSettings`.
    pub before_image: BeforeImage,
    /// The Kafka key of a change: with `ParallelApply…` the row's, otherwise the table's.
    pub change_key: ChangeKey,
    /// `MapBooleanAsBoolean` of a PostgreSQL source.
    pub map_boolean_as_boolean: bool,
    /// What becomes of a PostgreSQL value that was moved out of the row and did not change.
    pub unchanged: Unchanged,
}

/// Which columns of a row's former state come with an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BeforeImage {
    /// `EnableBeforeImage` is false.
    #[default]
    Off,
    /// The key's, if it changed; otherwise `{}`.
    PrimaryKey,
    /// All that the source's log holds.
    All,
}

/// What a change's Kafka key is made of. A loaded row's is always made of the row's key, a control record's of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChangeKey {
    /// `schema.table`.
    #[default]
    SchemaTable,
    /// The row's primary key.
    PrimaryKey,
}

/// What a task does with a value that PostgreSQL's log leaves out because it did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unchanged {
    /// Reads it from the source, as it stands then: DMS's look-up of LOB columns.
    #[default]
    LookedUp,
    /// Leaves the column out of the row image.
    LeftOut,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_in_dms_own_form() {
        let text = r#"{"MessageFormat":"json-unformatted","IncludeNullAndEmpty":true,"NoHexPrefix":true}"#;
        let settings: EndpointSettings = serde_json::from_str(text).unwrap_or_default();
        let expected = EndpointSettings {
            message_format: MessageFormat::JsonUnformatted,
            include_null_and_empty: true,
            no_hex_prefix: true,
            ..EndpointSettings::default()
        };
        assert_eq!(settings, expected);
        assert!(serde_json::from_str::<EndpointSettings>(r#"{"IncludeEverything":true}"#).is_err());
    }
}
