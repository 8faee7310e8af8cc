//! `strait define`: what PostgreSQL's catalogue says of tables goes into the log as their definitions, for its connector of Debezium's sends
//! none, and without one nothing tells a count of days from a number in records that have no schemas. All tables are looked at before any is
//! appended.
//! It must never write to the source, never say of a masked column what `ingest` would not say, and never append the one table's definition
//! where another's cannot be had.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use strait::bigquery::append::WriteStream;
use strait::bigquery::connect::connect;
use strait::bigquery::error::ErrorKind;
use strait::bigquery::retry::Backoff;
use strait::config::{Config, ConfigError};
use strait::debezium::catalogue::{self, Attribute, NotDefinable, TableDefinition, TypeClass};
use strait::dms::Metadata;
use strait::ingest::NEW_TABLE_PATIENCE;
use strait::lambda::{self, InvocationError};
use strait::log::{DEFINE_TABLE, DEFINE_TOPIC, LOG, LogRow};
use strait::mask::Masker;
use strait::mask::masker::NoMaskKey;
use strait::merge::types::canonical::postgresql_text;
use strait::names::{SourceTable, fingerprint};
use strait::position::Position;
use strait::secrets::mask_key;
use tokio::time::{Instant, sleep};

use crate::schema::read_config;
use crate::terminal::{Terminal, counted};
use crate::verify::source::{Source, SourceError, SourceOptions, TextRow};

/// For everything that is asked of BigQuery: a few rows.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// What a person asked for.
#[derive(Debug, Clone)]
pub struct DefineOptions {
    /// `schema.table` at the source.
    pub tables: Vec<String>,
    /// Where the source is.
    pub source: SourceOptions,
    /// Since when the tables are as they are; None is now.
    pub since: Option<Timestamp>,
    /// Append nothing.
    pub print: bool,
}

/// Why nothing was appended, or perhaps not all.
#[derive(Debug, thiserror::Error)]
pub enum DefineError {
    /// Not `schema.table`.
    #[error("`{0}` is not of the form SCHEMA.TABLE")]
    NotATable(String),
    /// The STRAIT_* variables.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The variables leave the table out.
    #[error("STRAIT_TABLES leaves {0} out; nothing was appended")]
    LeftOut(SourceTable),
    /// Definitions of MySQL's come by another way.
    #[error(
        "--source: `strait define` is for PostgreSQL. The definitions of MySQL's and MariaDB's tables come by the connector's topic of schema \
         changes: subscribe `ingest` to it (include.schema.changes)"
    )]
    NotPostgreSql,
    /// A definition of which nobody knows whether it will hold.
    #[error("--since is after now")]
    InTheFuture,
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Nothing of this name, or something that is no table.
    #[error("the source has no table {0}; nothing was appended")]
    NoTable(SourceTable),
    /// The table cannot be read by any definition.
    #[error("{table} cannot be defined; nothing was appended")]
    NotDefinable {
        /// Which.
        table: SourceTable,
        /// Why.
        source: NotDefinable,
    },
    /// An answer that is not understood.
    #[error("the source's answer to a question for the columns of {0} is not understood; nothing was appended")]
    Unexpected(SourceTable),
    /// A column is to be hashed.
    #[error(transparent)]
    NoMaskKey(#[from] NoMaskKey),
    /// The masks.
    #[error("STRAIT_MASK cannot be applied to the definition of {0}; nothing was appended")]
    NotMasked(SourceTable),
    /// The connection to BigQuery, or a secret.
    #[error(transparent)]
    Connect(InvocationError),
    /// A call of BigQuery's; the text says what to do.
    #[error("{0}")]
    BigQuery(String),
}

impl From<strait::bigquery::error::Error> for DefineError {
    fn from(error: strait::bigquery::error::Error) -> Self {
        Self::BigQuery(InvocationError::describe(&error))
    }
}

/// A table, and what is said of it.
struct Defined {
    table: SourceTable,
    key: Vec<String>,
    definition: TableDefinition,
    /// Its `control` after masking.
    control: String,
    /// Entries of `STRAIT_MASK` whose column it does not have.
    unknown_masks: Vec<String>,
}

/// Appends the definition of every table, or prints it.
///
/// # Errors
/// [`DefineError`]; its text says what to do.
pub async fn run(options: DefineOptions, terminal: &Terminal) -> Result<bool, DefineError> {
    let config = read_config()?;
    let tables = source_tables(&config, &options.tables)?;
    let scheme = options.source.url.split(':').next().unwrap_or_default();
    if ["mysql", "mariadb"].iter().any(|other| scheme.eq_ignore_ascii_case(other)) {
        return Err(DefineError::NotPostgreSql);
    }
    let now = Timestamp::now();
    let since = options.since.unwrap_or(now);
    if since > now {
        return Err(DefineError::InTheFuture);
    }
    lambda::install_tls();
    let mut masker = Masker::new(config.mask.clone(), mask_key(&config).await.map_err(DefineError::Connect)?)?;
    let mut source = Source::connect(&options.source).await?;
    let mut defined = Vec::with_capacity(tables.len());
    for table in tables {
        defined.push(define(&mut source, &mut masker, table, options.since.is_some()).await?);
    }
    source.disconnect().await;
    if !options.print {
        append(&config, &rows(&defined, since, now)).await?;
    }
    for table in &defined {
        print(table, since, options.print, terminal);
    }
    Ok(true)
}

fn source_tables(config: &Config, names: &[String]) -> Result<Vec<SourceTable>, DefineError> {
    let mut tables = Vec::new();
    for name in names {
        let source = SourceTable::named(name).ok_or_else(|| DefineError::NotATable(name.clone()))?;
        if !config.tables.matches(&source.schema, &source.table) {
            return Err(DefineError::LeftOut(source));
        }
        if !tables.contains(&source) {
            tables.push(source);
        }
    }
    Ok(tables)
}

async fn define(
    source: &mut Source,
    masker: &mut Masker,
    table: SourceTable,
    is_since_then: bool,
) -> Result<Defined, DefineError> {
    let rows = source.rows(&columns_query(&table), "the table's columns").await?;
    if rows.is_empty() {
        return Err(DefineError::NoTable(table));
    }
    let Some(columns) = rows.into_iter().map(column).collect::<Option<Vec<_>>>() else {
        return Err(DefineError::Unexpected(table));
    };
    let mut key: Vec<(u32, String)> =
        columns.iter().filter_map(|(attribute, place)| Some(((*place)?, attribute.name.clone()))).collect();
    key.sort_unstable();
    let key: Vec<String> = key.into_iter().map(|(_, name)| name).collect();
    let attributes: Vec<Attribute> = columns.into_iter().map(|(attribute, _)| attribute).collect();
    let definition = match catalogue::define(&attributes, &key, is_since_then) {
        Ok(definition) => definition,
        Err(source) => return Err(DefineError::NotDefinable { table, source }),
    };
    let Ok(control) = masker.definition(&table.schema, &table.table, &definition.control).map(Cow::into_owned) else {
        return Err(DefineError::NotMasked(table));
    };
    let unknown_masks = masker.take_unknown().into_iter().map(|unknown| unknown.path).collect();
    Ok(Defined { table, key, definition, control, unknown_masks })
}

/// The table's columns in their order: name, schema, name and letter of the type, whether it is a list, what is in parentheses, how many domains
/// were taken off, whether it may be NULL, whether it is generated, its place in the primary key. No row if there is no such table.
///
/// `pg_type.typarray` tells a list from types that only look like one (`int2vector`). What is included in a key's index is no part of the key.
fn columns_query(table: &SourceTable) -> String {
    format!(
        "WITH RECURSIVE own AS (\
         SELECT a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attgenerated <> '' AS is_generated, \
         CASE WHEN array_position(i.indkey::int2[], a.attnum) < i.indnkeyatts THEN array_position(i.indkey::int2[], a.attnum) END AS key_place \
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary \
         WHERE n.nspname = {} AND c.relname = {} AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped\
         ), typed AS (\
         SELECT attnum, atttypid AS type, atttypmod AS modifier, 0 AS domains, NOT attnotnull AS is_nullable FROM own \
         UNION ALL \
         SELECT d.attnum, t.typbasetype, t.typtypmod, d.domains + 1, d.is_nullable AND NOT t.typnotnull \
         FROM typed d JOIN pg_type t ON t.oid = d.type WHERE t.typtype = 'd'\
         ) \
         SELECT o.attname, n.nspname, COALESCE(e.typname, t.typname), COALESCE(e.typtype, t.typtype), (e.oid IS NOT NULL)::int, \
         NULLIF(d.modifier, -1), d.domains, d.is_nullable::int, o.is_generated::int, o.key_place \
         FROM own o JOIN typed d ON d.attnum = o.attnum JOIN pg_type t ON t.oid = d.type AND t.typtype <> 'd' \
         LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid \
         JOIN pg_namespace n ON n.oid = COALESCE(e.typnamespace, t.typnamespace) \
         ORDER BY o.attnum",
        postgresql_text(&table.schema),
        postgresql_text(&table.table)
    )
}

/// A column and its place in the primary key; None of a row that is not of the query's form.
fn column(row: TextRow) -> Option<(Attribute, Option<u32>)> {
    let [name, type_schema, type_name, class, is_list, modifier, domains, is_nullable, is_generated, key_place] =
        <[Option<String>; 10]>::try_from(row).ok()?;
    let is = |text: Option<String>| match text.as_deref() {
        Some("1") => Some(true),
        Some("0") => Some(false),
        _ => None,
    };
    let number = |text: Option<String>| text.map(|text| text.parse::<u32>()).transpose().ok();
    let attribute = Attribute {
        name: name?,
        type_schema: type_schema?,
        type_name: type_name?,
        class: TypeClass::of(&class?),
        is_list: is(is_list)?,
        modifier: number(modifier)?,
        domains: number(domains)??,
        is_nullable: is(is_nullable)?,
        is_generated: is(is_generated)?,
    };
    Some((attribute, number(key_place)?))
}

/// A control record of each table, numbered without a gap from 0 in a topic of this run's own.
fn rows(defined: &[Defined], since: Timestamp, now: Timestamp) -> Vec<Vec<u8>> {
    let (since, now) = (since.as_microsecond(), now.as_microsecond());
    let names: Vec<String> = defined.iter().map(|table| table.table.to_string()).collect();
    let run = format!("{} {} {now}", names.join(" "), std::process::id());
    let topic = format!("{DEFINE_TOPIC}{now}-{}", fingerprint(&run, 8));
    let numbered = (0_i64..).zip(defined);
    numbered
        .map(|(place, Defined { table, control, .. })| {
            let metadata = Metadata {
                schema: Cow::Borrowed(&table.schema),
                table: Cow::Borrowed(&table.table),
                emitted_at: Some(since),
                ..Metadata::default()
            };
            let position = Position::of_control(&metadata, place);
            let row = LogRow {
                source_schema: &table.schema,
                source_table: &table.table,
                operation: DEFINE_TABLE,
                position: position.as_str(),
                data: Some(control),
                before: None,
                transaction_id: None,
                committed_at: None,
                emitted_at: Some(since),
                kafka_topic: &topic,
                kafka_partition: 0,
                kafka_offset: place,
                ingested_at: now,
                error: None,
            };
            let mut bytes = Vec::new();
            row.encode(&mut bytes);
            bytes
        })
        .collect()
}

/// Appends to the log, which is made if this comes before the first record.
async fn append(config: &Config, rows: &[Vec<u8>]) -> Result<(), DefineError> {
    let deadline = Instant::now() + TIME_LIMIT;
    let connections = connect(config).await.map_err(DefineError::Connect)?;
    let is_new = connections.rest.get_table(&config.log_table, deadline).await?.is_none();
    if is_new {
        connections.rest.ensure_table(&config.log_table, &LOG, Some(config.log_retention_days), deadline).await?;
    }
    let stream = WriteStream::default_of(config.project.clone(), config.log_table.clone(), LOG.proto_descriptor());
    let (patience, mut backoff) = (Instant::now() + NEW_TABLE_PATIENCE, Backoff::new());
    loop {
        let outcome = connections.appends.append(&stream, rows, deadline).await;
        match outcome.into_result(&config.log_table) {
            Err(error) if is_new && error.kind() == ErrorKind::NotFound && Instant::now() < patience => {
                sleep(backoff.next_delay()).await;
            }
            outcome => return Ok(outcome?),
        }
    }
}

fn print(defined: &Defined, since: Timestamp, is_print: bool, terminal: &Terminal) {
    let Defined { table, key, definition, control, unknown_masks } = defined;
    let control_object: Value = serde_json::from_str(control).unwrap_or_default();
    let columns = control_object.pointer("/table-def/columns").and_then(Value::as_object);
    let key = match key.as_slice() {
        [] => "no key".to_owned(),
        key => format!("key ({})", key.join(", ")),
    };
    let end = if is_print { "not appended" } else { "appended to the log" };
    let count = counted(columns.map_or(0, serde_json::Map::len), "column");
    terminal.line(format!("{}: {count}, {key}, {end}", terminal.bold(&table.to_string())));
    // One that is masked is a text now.
    let is_untold = |name: &&String| {
        let column = columns.and_then(|columns| columns.get(name.as_str()));
        column.and_then(|column| column.get("encoded")).is_some_and(|encoded| encoded == "untold")
    };
    let untold: Vec<&str> = definition.untold.iter().filter(is_untold).map(String::as_str).collect();
    if !untold.is_empty() {
        terminal.line(terminal.warning(&format!(
            "  untold: {}: what the connector writes there in its default modes does not tell the value, so changes with one go to the quarantine",
            untold.join(", ")
        )));
    }
    for (name, why) in &definition.not_sent {
        terminal.line(terminal.warning(&format!("  left out: {name}: {why}")));
    }
    for path in unknown_masks {
        terminal.line(terminal.warning(&format!("  STRAIT_MASK names {path}, and the definition has no such column")));
    }
    if is_print {
        terminal.line(terminal.dim(&format!("  since {since}")));
        terminal.line(format!("  {control}"));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn row(cells: [&str; 10]) -> TextRow {
        cells.into_iter().map(|cell| (cell != "NULL").then(|| cell.to_owned())).collect()
    }

    #[test]
    fn a_row_of_the_catalogue_is_read_whole_or_not_at_all() {
        let read = ["id", "pg_catalog", "numeric", "b", "0", "786438", "1", "0", "0", "1"];
        let (attribute, key_place) = column(row(read)).unwrap();
        assert_eq!((attribute.modifier, attribute.domains, key_place), (Some(786_438), 1, Some(1)));
        assert!(!attribute.is_list && !attribute.is_nullable && !attribute.is_generated);
        let read = ["a", "public", "mood", "e", "1", "NULL", "0", "1", "0", "NULL"];
        let (attribute, key_place) = column(row(read)).unwrap();
        assert_eq!((attribute.class, attribute.modifier, key_place), (TypeClass::Enum, None, None));
        assert!(attribute.is_list && attribute.is_nullable);
        for (place, cell) in [(0, "NULL"), (4, "t"), (5, "-4"), (6, "NULL"), (9, "x")] {
            let mut cells = read;
            *cells.get_mut(place).unwrap() = cell;
            assert_eq!(column(row(cells)), None, "{place}");
        }
        assert_eq!(column(row(read).into_iter().take(9).collect()), None);
    }

    #[test]
    fn names_are_quoted() {
        let table = SourceTable { schema: "it's".to_owned(), table: "a'b".to_owned() };
        let sql = columns_query(&table);
        assert!(sql.contains("n.nspname = 'it''s' AND c.relname = 'a''b'"), "{sql}");
    }
}
