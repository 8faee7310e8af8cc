//! The configuration of both functions: environment variables, read once at cold start into one typed struct.
//! Every problem is reported at once, by name, with what was expected. It must never echo a credential or the id of a
//! secret, neither in an error nor in `Debug`, and never pass over a setting that it cannot read.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::mask::MaskRules;
use crate::names::{self, SourceTable, TableName};

/// An hour in µs.
pub const HOUR_US: i64 = 60 * 60 * 1_000_000;
/// A day in µs.
pub const DAY_US: i64 = 24 * HOUR_US;

/// One environment variable: its name, its default, its meaning. The README's table is checked against these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// The name in the environment.
    pub name: &'static str,
    /// What holds when it is not set or empty.
    pub default: DefaultValue,
    /// One line for the operator.
    pub meaning: &'static str,
}

/// What holds when a variable is not set or empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultValue {
    /// There is none: the variable has to be set.
    Required,
    /// The setting is off.
    Unset,
    /// As if this had been set.
    Text(&'static str),
}

const PREFIX: &str = "STRAIT_";

const PROJECT: Variable =
    Variable { name: "STRAIT_PROJECT", default: DefaultValue::Required, meaning: "Google Cloud project of all tables" };
const LOCATION: Variable =
    Variable { name: "STRAIT_LOCATION", default: DefaultValue::Text("US"), meaning: "BigQuery location" };
const LOG_TABLE: Variable =
    Variable { name: "STRAIT_LOG_TABLE", default: DefaultValue::Text("cdc.log"), meaning: "dataset.table of the log" };
const MERGES_TABLE: Variable = Variable {
    name: "STRAIT_MERGES_TABLE",
    default: DefaultValue::Text("cdc.merges"),
    meaning: "dataset.table of the merge ledger",
};
const QUARANTINE_TABLE: Variable = Variable {
    name: "STRAIT_QUARANTINE_TABLE",
    default: DefaultValue::Text("cdc.quarantine"),
    meaning: "dataset.table of what could not be applied",
};
const FINAL_TABLE: Variable = Variable {
    name: "STRAIT_FINAL_TABLE",
    default: DefaultValue::Text("replica.{schema}_{table}"),
    meaning: "pattern for final tables; `{schema}`, `{table}`",
};
const TABLES: Variable = Variable {
    name: "STRAIT_TABLES",
    default: DefaultValue::Text("*"),
    meaning: "comma-separated `schema.table` globs to replicate, `!` excludes",
};
const DELETES: Variable = Variable {
    name: "STRAIT_DELETES",
    default: DefaultValue::Text("hard"),
    meaning: "`hard` removes the row, `soft` keeps it with `_strait_deleted = true`",
};
const ABSENT_COLUMNS: Variable = Variable {
    name: "STRAIT_ABSENT_COLUMNS",
    default: DefaultValue::Text("null"),
    meaning: "what a column missing from an image means: `null` or `unchanged`",
};
const DROPPED_COLUMNS: Variable = Variable {
    name: "STRAIT_DROPPED_COLUMNS",
    default: DefaultValue::Text("keep"),
    meaning: "what a dropped source column does to the final table's: `keep` (nullable) or `drop`",
};
const DEBEZIUM_WITHOUT_SCHEMA: Variable = Variable {
    name: "STRAIT_DEBEZIUM_WITHOUT_SCHEMA",
    default: DefaultValue::Text("quarantine"),
    meaning: "changes of Debezium's without a schema: `quarantine`, `by-definition` where its connector is in its default modes, or `self-describing` where it is set up for that",
};
const LOG_RETENTION_DAYS: Variable = Variable {
    name: "STRAIT_LOG_RETENTION_DAYS",
    default: DefaultValue::Text("30"),
    meaning: "partition expiry of the log",
};
const MASK: Variable = Variable {
    name: "STRAIT_MASK",
    default: DefaultValue::Unset,
    meaning: "comma-separated `schema.table.column=drop|hash|redact`, applied before anything leaves AWS",
};
const MAX_BYTES_BILLED: Variable =
    Variable { name: "STRAIT_MAX_BYTES_BILLED", default: DefaultValue::Unset, meaning: "cap per merge job" };
const CREDENTIALS_SECRET: Variable = Variable {
    name: "STRAIT_CREDENTIALS_SECRET",
    default: DefaultValue::Unset,
    meaning: "Secrets Manager id of a credential JSON: `service_account` or `external_account`",
};
const CREDENTIALS: Variable = Variable {
    name: "STRAIT_CREDENTIALS",
    default: DefaultValue::Unset,
    meaning: "credential JSON itself; only `external_account`, which holds no secret",
};
const MASK_KEY_SECRET: Variable = Variable {
    name: "STRAIT_MASK_KEY_SECRET",
    default: DefaultValue::Unset,
    meaning: "Secrets Manager id of the key for `hash` (HMAC-SHA-256)",
};
const REST_URL: Variable = Variable {
    name: "STRAIT_BIGQUERY_REST_URL",
    default: DefaultValue::Text("https://bigquery.googleapis.com/bigquery/v2"),
    meaning: "also for Private Service Connect",
};
const GRPC_URL: Variable = Variable {
    name: "STRAIT_BIGQUERY_GRPC_URL",
    default: DefaultValue::Text("https://bigquerystorage.googleapis.com"),
    meaning: "likewise",
};

/// Every variable that is read, in the order in which it is documented. The one place of their names.
pub const VARIABLES: &[Variable] = &[
    PROJECT,
    LOCATION,
    LOG_TABLE,
    MERGES_TABLE,
    QUARANTINE_TABLE,
    FINAL_TABLE,
    TABLES,
    DELETES,
    ABSENT_COLUMNS,
    DROPPED_COLUMNS,
    DEBEZIUM_WITHOUT_SCHEMA,
    LOG_RETENTION_DAYS,
    MASK,
    MAX_BYTES_BILLED,
    CREDENTIALS_SECRET,
    CREDENTIALS,
    MASK_KEY_SECRET,
    REST_URL,
    GRPC_URL,
];

/// Ten years. A log that keeps more is an archive, and BigQuery's hourly partitions would run out first
/// (10,000 per table, some 416 days; BigQuery says so itself when the table is created).
const MAX_RETENTION_DAYS: u32 = 3650;

/// BigQuery's limit for the names of datasets and tables.
const MAX_NAME_CHARS: usize = 1024;

/// What a delete at the source does to the final table's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletes {
    /// The row is removed.
    Hard,
    /// The row stays, with `_strait_deleted = true`.
    Soft,
}

/// What a column that is missing from a row image means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbsentColumns {
    /// NULL.
    Null,
    /// Unchanged.
    Unchanged,
}

/// What happens to a final table's column whose source column was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DroppedColumns {
    /// It stays, nullable.
    Keep,
    /// It is dropped as well, where Strait made the table.
    Drop,
}

/// What becomes of Debezium's changes that come without a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WithoutSchema {
    /// They are logged and not applied.
    #[default]
    Quarantine,
    /// They are applied: an operator says that the connector writes every value so that it says itself what it is.
    SelfDescribing,
    /// They are applied: an operator says that the connector's modes are the default ones, and the table's definition says how a column is
    /// written in these.
    ByDefinition,
}

/// Where the Google credential comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// No credential: only with `http://` endpoints (the embedded BigQuery).
    None,
    /// The id of a Secrets Manager secret that holds the credential JSON.
    Secret(String),
    /// An `external_account` credential JSON, which holds no secret.
    Inline(String),
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Secret(_) => "Secret(..)",
            Self::Inline(_) => "Inline(..)",
        })
    }
}

/// Which source tables are replicated (`STRAIT_TABLES`): `schema.table` globs in which `*` stands for any text and `?`
/// for one character, both case-sensitive. An entry with `!` excludes, wherever it stands; with nothing but excludes,
/// everything else is replicated. `*` alone is `*.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFilter {
    includes: Vec<TableGlob>,
    excludes: Vec<TableGlob>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct TableGlob {
    schema: String,
    table: String,
}

impl TableGlob {
    fn matches(&self, schema: &str, table: &str) -> bool {
        glob_matches(&self.schema, schema) && glob_matches(&self.table, table)
    }
}

impl TableFilter {
    /// Reads the comma-separated list.
    ///
    /// # Errors
    /// Says which entry (by its place) is not of the form `schema.table`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut filter = Self { includes: Vec::new(), excludes: Vec::new() };
        for (index, entry) in text.split(',').enumerate() {
            let entry = entry.trim();
            let (list, pattern) = match entry.strip_prefix('!') {
                Some(pattern) => (&mut filter.excludes, pattern.trim_start()),
                None => (&mut filter.includes, entry),
            };
            let glob = match pattern.split_once('.') {
                _ if pattern == "*" => Some(("*", "*")),
                Some((schema, table)) if !schema.is_empty() && !table.is_empty() => Some((schema, table)),
                _ => None,
            };
            match glob {
                Some((schema, table)) => list.push(TableGlob { schema: schema.to_owned(), table: table.to_owned() }),
                None => {
                    return Err(format!(
                        "entry {} ({}) is not `schema.table`, `*`, or one of them after `!`",
                        index.saturating_add(1),
                        shown(entry)
                    ));
                }
            }
        }
        Ok(filter)
    }

    /// Whether changes of this source table are replicated.
    #[must_use]
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        let any = |globs: &[TableGlob]| globs.iter().any(|glob| glob.matches(schema, table));
        !any(&self.excludes) && (self.includes.is_empty() || any(&self.includes))
    }
}

/// Iterative, with one point of return: the time is bounded by pattern × text, whatever the pattern.
pub(crate) fn glob_matches(pattern: &str, text: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let mut pattern_rest = pattern.chars();
    let mut text_rest = text.chars();
    // Where to go on when the text after the last `*` did not fit: one character further.
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let mut pattern_next = pattern_rest.clone();
        let mut text_next = text_rest.clone();
        match (pattern_next.next(), text_next.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                retry = Some((pattern_next.clone(), text_rest.clone()));
                pattern_rest = pattern_next;
                continue;
            }
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => match &mut retry {
                Some((after_star, from)) => {
                    if from.next().is_none() {
                        return false;
                    }
                    pattern_rest = after_star.clone();
                    text_rest = from.clone();
                    continue;
                }
                None => return false,
            },
        }
        pattern_rest = pattern_next;
        text_rest = text_next;
    }
}

/// How a final table is named (`STRAIT_FINAL_TABLE`): `dataset.name`, each of literal text and the placeholders
/// `{schema}` and `{table}`; the name has `{table}` at least, or all tables would share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalTablePattern {
    dataset: Vec<Piece>,
    name: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Schema,
    Table,
}

impl FinalTablePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((dataset, name)) = text.split_once('.') else {
            return Err("expected `dataset.name`, e.g. `replica.{schema}_{table}`".to_owned());
        };
        let pattern = Self {
            dataset: pieces(dataset, is_dataset_char).map_err(|what| format!("the dataset part {what}"))?,
            name: pieces(name, is_table_char).map_err(|what| format!("the table part {what}"))?,
        };
        if !pattern.name.contains(&Piece::Table) {
            return Err("the table part needs `{table}`, or all source tables would share one".to_owned());
        }
        Ok(pattern)
    }

    /// The final table of a source table.
    #[must_use]
    pub fn name_of(&self, source: &SourceTable) -> TableName {
        let fill = |pieces: &[Piece]| {
            pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Literal(text) => text.as_str(),
                    Piece::Schema => &source.schema,
                    Piece::Table => &source.table,
                })
                .collect()
        };
        let wanted = TableName { dataset: fill(&self.dataset), table: fill(&self.name) };
        names::fit_for_bigquery(&wanted, source)
    }

    /// Whether a source table's final table could be this one. Where the dataset depends on the schema it is not said
    /// here: only a source schema of the very name could make it so, and the merge sees that.
    fn can_name(&self, table: &TableName) -> bool {
        // Literal text holds neither `*` nor `?`.
        let glob: String = self
            .name
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) => text.as_str(),
                Piece::Schema | Piece::Table => "*",
            })
            .collect();
        self.fixed_dataset() == Some(table.dataset.as_str()) && glob_matches(&glob, &table.table)
    }

    /// The dataset of all final tables, when it does not depend on the source table.
    #[must_use]
    pub fn fixed_dataset(&self) -> Option<&str> {
        match self.dataset.as_slice() {
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

fn pieces(text: &str, is_allowed: fn(char) -> bool) -> Result<Vec<Piece>, &'static str> {
    const UNKNOWN: &str = "has a placeholder other than `{schema}` and `{table}`";
    if text.is_empty() {
        return Err("is empty");
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("{schema}") {
            pieces.push(Piece::Schema);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{table}") {
            pieces.push(Piece::Table);
            rest = after;
        } else if rest.starts_with('{') {
            return Err(UNKNOWN);
        } else {
            let (literal, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
            if !literal.chars().all(is_allowed) || literal.len() > MAX_NAME_CHARS {
                return Err("has a character that BigQuery does not take there");
            }
            pieces.push(Piece::Literal(literal.to_owned()));
            rest = after;
        }
    }
    Ok(pieces)
}

/// The configuration of both functions, read once at cold start.
#[derive(Clone)]
pub struct Config {
    /// Google Cloud project of all tables.
    pub project: String,
    /// BigQuery location.
    pub location: String,
    /// The log.
    pub log_table: TableName,
    /// The merge ledger.
    pub merges_table: TableName,
    /// What could not be applied.
    pub quarantine_table: TableName,
    /// How final tables are named.
    pub final_table: FinalTablePattern,
    /// Which source tables are replicated.
    pub tables: TableFilter,
    /// Default of every final table; a label on the table wins.
    pub deletes: Deletes,
    /// What a column missing from an image means.
    pub absent_columns: AbsentColumns,
    /// What a dropped source column does to the final table's.
    pub dropped_columns: DroppedColumns,
    /// What becomes of Debezium's changes that come without a schema.
    pub debezium_without_schema: WithoutSchema,
    /// Partition expiry of the log, in days.
    pub log_retention_days: u32,
    /// Columns masked before anything leaves AWS.
    pub mask: MaskRules,
    /// Secrets Manager id of the key for hashed columns; set if one is hashed.
    pub mask_key_secret: Option<String>,
    /// Cap per merge job, in bytes.
    pub max_bytes_billed: Option<i64>,
    /// Where the Google credential comes from.
    pub credentials: CredentialSource,
    /// Base URL of BigQuery's REST API, without a trailing slash.
    pub rest_url: String,
    /// URL of the Storage Write API, without a trailing slash.
    pub grpc_url: String,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("project", &self.project)
            .field("location", &self.location)
            .field("log_table", &self.log_table)
            .field("merges_table", &self.merges_table)
            .field("quarantine_table", &self.quarantine_table)
            .field("final_table", &self.final_table)
            .field("tables", &self.tables)
            .field("deletes", &self.deletes)
            .field("absent_columns", &self.absent_columns)
            .field("dropped_columns", &self.dropped_columns)
            .field("debezium_without_schema", &self.debezium_without_schema)
            .field("log_retention_days", &self.log_retention_days)
            .field("mask", &self.mask)
            .field("mask_key_secret", &self.mask_key_secret.as_ref().map(|_| ".."))
            .field("max_bytes_billed", &self.max_bytes_billed)
            .field("credentials", &self.credentials)
            .field("rest_url", &self.rest_url)
            .field("grpc_url", &self.grpc_url)
            .finish()
    }
}

/// One thing that is wrong with the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The variable.
    pub name: String,
    /// What is wrong and what was expected; never a credential.
    pub text: String,
}

/// Everything that is wrong with the environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// At least one, in the order in which the variables are documented; unknown names come last.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} problem(s)", self.problems.len())?;
        for Problem { name, text } in &self.problems {
            write!(f, "; {name}: {text}")?;
        }
        Ok(())
    }
}

impl Config {
    /// How long the log keeps records, in µs.
    pub fn log_retention_us(&self) -> i64 {
        i64::from(self.log_retention_days).saturating_mul(DAY_US)
    }

    /// Reads the configuration from environment variables. Names that do not begin with `STRAIT_` are passed over;
    /// an empty value counts as not set.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut reader = Reader {
            values: vars.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect(),
            problems: Vec::new(),
        };

        let project = reader.required(&PROJECT, project);
        let location = reader.required(&LOCATION, location);
        let log_table = reader.required(&LOG_TABLE, own_table);
        let merges_table = reader.required(&MERGES_TABLE, own_table);
        let quarantine_table = reader.required(&QUARANTINE_TABLE, own_table);
        reader.distinct(&[
            (&LOG_TABLE, &log_table),
            (&MERGES_TABLE, &merges_table),
            (&QUARANTINE_TABLE, &quarantine_table),
        ]);
        let final_table = reader.required(&FINAL_TABLE, FinalTablePattern::parse);
        let own_tables = [&log_table, &merges_table, &quarantine_table];
        for own in own_tables.into_iter().flatten() {
            if final_table.as_ref().is_some_and(|pattern| pattern.can_name(own)) {
                let text = format!("can name {own}, which is Strait's own; use another dataset");
                reader.problem(&FINAL_TABLE, text);
            }
        }
        let tables = reader.required(&TABLES, TableFilter::parse);
        let deletes = reader.required(&DELETES, |text| word(text, &[("hard", Deletes::Hard), ("soft", Deletes::Soft)]));
        let absent_columns = reader.required(&ABSENT_COLUMNS, |text| {
            word(text, &[("null", AbsentColumns::Null), ("unchanged", AbsentColumns::Unchanged)])
        });
        let dropped_columns = reader.required(&DROPPED_COLUMNS, |text| {
            word(text, &[("keep", DroppedColumns::Keep), ("drop", DroppedColumns::Drop)])
        });
        let debezium_without_schema = reader.required(&DEBEZIUM_WITHOUT_SCHEMA, |text| {
            let words = [
                ("quarantine", WithoutSchema::Quarantine),
                ("self-describing", WithoutSchema::SelfDescribing),
                ("by-definition", WithoutSchema::ByDefinition),
            ];
            word(text, &words)
        });
        let log_retention_days = reader.required(&LOG_RETENTION_DAYS, retention_days);
        let mask = reader.optional(&MASK, MaskRules::parse).unwrap_or_default();
        let max_bytes_billed = reader.optional(&MAX_BYTES_BILLED, max_bytes_billed);
        let credentials_secret = reader.optional(&CREDENTIALS_SECRET, secret_id);
        let inline_credentials = reader.optional(&CREDENTIALS, inline_credentials);
        let mask_key_secret = reader.optional(&MASK_KEY_SECRET, secret_id);
        if mask.need_key() && !reader.is_set(&MASK_KEY_SECRET) {
            reader.problem(&MASK_KEY_SECRET, format!("is required, because {} hashes a column", MASK.name));
        }
        let rest_url = reader.required(&REST_URL, Url::parse);
        let grpc_url = reader.required(&GRPC_URL, Url::parse);
        reader.credentials_fit_urls(rest_url.as_ref(), grpc_url.as_ref());
        reader.refuse_unknown();

        let credentials = match (credentials_secret, inline_credentials) {
            (Some(id), _) => CredentialSource::Secret(id),
            (None, Some(json)) => CredentialSource::Inline(json),
            (None, None) => CredentialSource::None,
        };
        // A required setting is missing exactly when a problem was noted for it.
        let config = (|| {
            Some(Self {
                project: project?,
                location: location?,
                log_table: log_table?,
                merges_table: merges_table?,
                quarantine_table: quarantine_table?,
                final_table: final_table?,
                tables: tables?,
                deletes: deletes?,
                absent_columns: absent_columns?,
                dropped_columns: dropped_columns?,
                debezium_without_schema: debezium_without_schema?,
                log_retention_days: log_retention_days?,
                mask,
                mask_key_secret,
                max_bytes_billed,
                credentials,
                rest_url: rest_url?.text,
                grpc_url: grpc_url?.text,
            })
        })();
        match config {
            Some(config) if reader.problems.is_empty() => Ok(config),
            _ => Err(ConfigError { problems: reader.problems }),
        }
    }
}

/// The variables that were set, and what was found wrong with them.
struct Reader {
    values: BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Reader {
    fn problem(&mut self, variable: &Variable, text: impl Into<String>) {
        self.problems.push(Problem { name: variable.name.to_owned(), text: text.into() });
    }

    fn is_set(&self, variable: &Variable) -> bool {
        self.values.get(variable.name).is_some_and(|value| !value.is_empty())
    }

    /// The value or its default; a problem is noted when there is neither, or when it cannot be read.
    fn required<T>(&mut self, variable: &Variable, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        if self.is_set(variable) {
            return self.optional(variable, read);
        }
        let read = match variable.default {
            DefaultValue::Text(default) => read(default),
            DefaultValue::Required | DefaultValue::Unset => Err(format!("is required: {}", variable.meaning)),
        };
        read.map_err(|text| self.problem(variable, text)).ok()
    }

    fn optional<T>(&mut self, variable: &Variable, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let value = self.values.get(variable.name).filter(|value| !value.is_empty())?;
        match read(value) {
            Ok(value) => Some(value),
            Err(text) => {
                self.problem(variable, text);
                None
            }
        }
    }

    fn distinct(&mut self, tables: &[(&Variable, &Option<TableName>)]) {
        for (index, (variable, table)) in tables.iter().enumerate() {
            let same = tables.iter().take(index).find(|(_, other)| table.is_some() && table == other);
            if let Some((other, _)) = same {
                self.problem(variable, format!("names the same table as {}; each needs its own", other.name));
            }
        }
    }

    /// A token never travels in clear text, and Google's endpoints are never called without one.
    fn credentials_fit_urls(&mut self, rest: Option<&Url>, grpc: Option<&Url>) {
        let secret = self.is_set(&CREDENTIALS_SECRET);
        let inline = self.is_set(&CREDENTIALS);
        if secret && inline {
            self.problem(&CREDENTIALS, format!("is set beside {}; set one of them", CREDENTIALS_SECRET.name));
        }
        let urls = [(&REST_URL, rest), (&GRPC_URL, grpc)];
        if secret || inline {
            for (variable, url) in urls {
                if url.is_some_and(|url| !url.is_encrypted && !url.is_loopback) {
                    self.problem(
                        variable,
                        "is http:// on another machine beside a credential, whose token would travel in clear text; \
                         expected https://",
                    );
                }
            }
        } else if urls.iter().any(|(_, url)| url.is_some_and(|url| url.is_encrypted)) {
            self.problem(
                &CREDENTIALS_SECRET,
                format!(
                    "or {} is required; neither is right only when both {} and {} are http:// (the embedded BigQuery)",
                    CREDENTIALS.name, REST_URL.name, GRPC_URL.name
                ),
            );
        }
    }

    /// A misspelt name would silently leave the default in force.
    fn refuse_unknown(&mut self) {
        let unknown: Vec<String> = self
            .values
            .keys()
            .filter(|name| !VARIABLES.iter().any(|variable| variable.name == *name))
            .cloned()
            .collect();
        self.problems.extend(
            unknown.into_iter().map(|name| Problem {
                name,
                text: "is not a name that Strait knows; remove it or correct it".to_owned(),
            }),
        );
    }
}

/// A harmless value for an error text. What is long or looks like JSON is more likely a credential in the wrong variable.
fn shown(text: &str) -> String {
    if text.len() > 100 || text.contains('{') { "the value".to_owned() } else { format!("{text:?}") }
}

/// Lenient: real project ids (`my-project-123`, `example.com:my-project`) and those of emulators (`demo`).
fn project(text: &str) -> Result<String, String> {
    let fits = (1..=63).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | ':' | '.'));
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{} is not a project id: expected lower-case letters, digits and hyphens, e.g. `my-project-123`",
            shown(text)
        ))
    }
}

fn location(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!("{} is not a BigQuery location: expected e.g. `US`, `EU` or `europe-west3`", shown(text)))
    }
}

fn is_dataset_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_table_char(c: char) -> bool {
    is_dataset_char(c) || c == '-'
}

fn own_table(text: &str) -> Result<TableName, String> {
    let fits = |name: &str, is_allowed: fn(char) -> bool| {
        (1..=MAX_NAME_CHARS).contains(&name.len()) && name.chars().all(is_allowed)
    };
    match text.split_once('.') {
        Some((dataset, table)) if fits(dataset, is_dataset_char) && fits(table, is_table_char) => {
            Ok(TableName { dataset: dataset.to_owned(), table: table.to_owned() })
        }
        _ => Err(format!(
            "{} is not `dataset.table`: expected letters, digits and underscores (hyphens in the table), \
             without the project",
            shown(text)
        )),
    }
}

fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(*value),
        None => {
            let expected: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            Err(format!("{} is not {}", shown(text), expected.join(" or ")))
        }
    }
}

fn retention_days(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(days) if (1..=MAX_RETENTION_DAYS).contains(&days) => Ok(days),
        _ => Err(format!("{} is not a number of days from 1 to {MAX_RETENTION_DAYS}", shown(text))),
    }
}

fn max_bytes_billed(text: &str) -> Result<i64, String> {
    match text.parse() {
        Ok(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(format!("{} is not a number of bytes from 1 to {}", shown(text), i64::MAX)),
    }
}

/// Never echoed: a credential pasted into the wrong variable would end in a log.
fn secret_id(text: &str) -> Result<String, String> {
    let fits = text.len() <= 2048 && text.chars().all(|c| c.is_ascii_graphic());
    if fits && !text.starts_with('{') {
        Ok(text.to_owned())
    } else {
        Err("is not the name or ARN of a Secrets Manager secret".to_owned())
    }
}

/// Never echoed, nor is the parser's message, which can quote the text.
fn inline_credentials(text: &str) -> Result<String, String> {
    const SECRET_MEMBERS: [&str; 3] = ["private_key", "client_secret", "refresh_token"];
    let Ok(serde_json::Value::Object(credential)) = serde_json::from_str(text) else {
        return Err("is not a JSON object; expected a credential of type `external_account`".to_owned());
    };
    let kind = credential.get("type").and_then(serde_json::Value::as_str);
    let holds_secret = SECRET_MEMBERS.iter().any(|member| credential.contains_key(*member));
    match kind {
        Some("external_account") if !holds_secret => Ok(text.to_owned()),
        Some("service_account") => Err(format!(
            "holds a service account's private key, which belongs in Secrets Manager: put it there and set {} instead",
            CREDENTIALS_SECRET.name
        )),
        Some("external_account") => Err(format!(
            "holds a secret, which belongs in Secrets Manager: put it there and set {} instead",
            CREDENTIALS_SECRET.name
        )),
        _ => {
            Err("is of another type than `external_account`, the only one that may stand in the environment".to_owned())
        }
    }
}

/// An endpoint.
struct Url {
    text: String,
    is_encrypted: bool,
    is_loopback: bool,
}

impl Url {
    /// Never echoed: an address can carry a user's password.
    fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "is not an http:// or https:// address without user, query and fragment";
        let text = text.trim_end_matches('/');
        // `http::Uri` drops a fragment silently.
        if text.contains(['#', '?', '@']) {
            return Err(EXPECTED.to_owned());
        }
        let uri: http::Uri = text.parse().map_err(|_| EXPECTED.to_owned())?;
        // A scheme is the same in capitals (RFC 3986, 3.1); whoever is handed the address need not know that.
        let (scheme, rest) = match (uri.scheme_str(), text.split_once("://")) {
            (Some(scheme), Some((_, rest))) => (scheme.to_ascii_lowercase(), rest),
            _ => return Err(EXPECTED.to_owned()),
        };
        let is_encrypted = match scheme.as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(EXPECTED.to_owned()),
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let Some(host) = host else {
            return Err(EXPECTED.to_owned());
        };
        let has_port = uri.authority().is_some_and(|authority| authority.as_str() != host);
        if has_port && uri.port_u16().is_none() {
            return Err(EXPECTED.to_owned());
        }
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        Ok(Self { text: format!("{scheme}://{rest}"), is_encrypted, is_loopback })
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
