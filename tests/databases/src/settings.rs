//! Settings of DMS under which a run takes place, and what each of them can be held to.

use strait_dms_stand_in::settings::{BeforeImage, ChangeKey, MessageFormat, Unchanged};
use strait_dms_stand_in::{EndpointSettings, TaskSettings};

use crate::workload::KeyChanges;

/// A choice of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Its name on the command line.
    pub name: &'static str,
    /// What the choice is, for a person.
    pub about: &'static str,
    /// `KafkaSettings`.
    pub endpoint: EndpointSettings,
    /// The task's.
    pub task: TaskSettings,
    /// STRAIT_ABSENT_COLUMNS.
    pub absent_columns: &'static str,
}

impl Settings {
    /// Of which tables a change of a primary key tells everything.
    #[must_use]
    pub fn key_changes(&self) -> KeyChanges {
        match (self.task.before_image, self.task.unchanged) {
            (BeforeImage::Off, _) => KeyChanges::Never,
            (_, Unchanged::LeftOut) => KeyChanges::OfWholeImages,
            (_, Unchanged::LookedUp) => KeyChanges::Always,
        }
    }

    /// Whether control records define tables, and say how they were altered.
    #[must_use]
    pub const fn defines_tables(&self) -> bool {
        self.endpoint.include_control_details && self.endpoint.include_table_alter_operations
    }

    /// Whether long integers keep their digits.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.endpoint.use_large_integer_value
    }
}

/// What docs/dms-settings.md asks for.
pub const WANTED: Settings = Settings {
    name: "wanted",
    about: "every setting as Strait asks for it",
    endpoint: EndpointSettings {
        message_format: MessageFormat::JsonUnformatted,
        include_transaction_details: true,
        include_partition_value: true,
        partition_include_schema_table: true,
        include_table_alter_operations: true,
        include_control_details: true,
        include_null_and_empty: true,
        use_large_integer_value: true,
        no_hex_prefix: false,
    },
    task: TaskSettings {
        before_image: BeforeImage::PrimaryKey,
        change_key: ChangeKey::SchemaTable,
        map_boolean_as_boolean: true,
        unchanged: Unchanged::LookedUp,
    },
    absent_columns: "null",
};

/// What else may be chosen without losing anything.
pub const OTHER: Settings = Settings {
    name: "other",
    about: "indented JSON, whole before-images, bytes without 0x, a row's changes by its own Kafka key (ParallelApply), and what did not change \
            of a long text is left out (STRAIT_ABSENT_COLUMNS=unchanged): no key changes then where an image may lack a column",
    endpoint: EndpointSettings {
        message_format: MessageFormat::Json,
        include_partition_value: false,
        partition_include_schema_table: false,
        no_hex_prefix: true,
        ..WANTED.endpoint
    },
    task: TaskSettings {
        before_image: BeforeImage::All,
        change_key: ChangeKey::PrimaryKey,
        map_boolean_as_boolean: true,
        unchanged: Unchanged::LeftOut,
    },
    absent_columns: "unchanged",
};

/// DMS's own.
pub const DEFAULTS: Settings = Settings {
    name: "defaults",
    about: "DMS's defaults: tables made by hand and not altered, no key changes, no integers of more than 15 digits, and NULL is expected where \
            the source has an empty text",
    endpoint: EndpointSettings {
        message_format: MessageFormat::Json,
        include_transaction_details: false,
        include_partition_value: false,
        partition_include_schema_table: false,
        include_table_alter_operations: false,
        include_control_details: false,
        include_null_and_empty: false,
        use_large_integer_value: false,
        no_hex_prefix: false,
    },
    task: TaskSettings {
        before_image: BeforeImage::Off,
        change_key: ChangeKey::SchemaTable,
        map_boolean_as_boolean: false,
        unchanged: Unchanged::LookedUp,
    },
    absent_columns: "null",
};

/// All of them.
pub const ALL: [Settings; 3] = [WANTED, OTHER, DEFAULTS];
