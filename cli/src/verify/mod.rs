//! `strait verify`: is a final table equal to its source? [`pairing`] says which columns are compared, [`statement`] asks the same of both
//! sides, [`drill`] goes from the table to the rows that differ, [`source`] and [`bigquery`] are the two connections, [`repair`] appends
//! to the log what heals the rows. It reads: the source in a read-only session, the final table by queries; only `--repair` writes, and
//! only to the log. It must never print a value that was not asked for; keys are printed.

pub mod bigquery;
pub mod drill;
pub mod pairing;
pub mod repair;
pub mod source;
pub mod statement;

use std::time::Duration;

use jiff::Timestamp;
use strait::config::{Config, ConfigError};
use strait::lambda::{self, InvocationError};
use strait::names::{NameError, SourceTable, TableName};

use self::bigquery::Final;
use self::drill::{Difference, Drill, Finding, Limits, Outcome};
use self::pairing::{Pairing, PairingError};
use self::source::{Source, SourceError, SourceOptions};
use self::statement::{Key, Wanted};
use crate::equality::shown;
use crate::schema::read_config;
use crate::terminal::{Terminal, counted, grouped};

/// For one query, or for one append; a table of terabytes takes minutes.
const QUERY_LIMIT: Duration = Duration::from_secs(1800);
/// A value is cut to so many characters.
const VALUE_WIDTH: usize = 80;

/// What a person asked for.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// `schema.table` at the source.
    pub tables: Vec<String>,
    /// Where the source is.
    pub source: SourceOptions,
    /// Columns that are not compared.
    pub skip_columns: Vec<String>,
    /// For how long a row that differs has to stand still at the source.
    pub settle: Duration,
    /// Rows that are looked at one by one, for each table.
    pub limit: usize,
    /// Print values.
    pub values: bool,
    /// Append to the log what heals the rows.
    pub repair: bool,
}

/// Why nothing could be said.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Not `schema.table`.
    #[error("`{0}` is not of the form SCHEMA.TABLE")]
    NotATable(String),
    /// The STRAIT_* variables.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The variables leave the table out.
    #[error("STRAIT_TABLES leaves {0} out")]
    LeftOut(SourceTable),
    /// The connection to BigQuery.
    #[error(transparent)]
    Connect(InvocationError),
    /// A call of BigQuery's; the text says what to do.
    #[error("{0}")]
    BigQuery(String),
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The final table is not there.
    #[error("{final_table}, the final table of {table}, does not exist")]
    NoFinalTable {
        /// The source table.
        table: SourceTable,
        /// The final table.
        final_table: TableName,
    },
    /// The columns.
    #[error(transparent)]
    Pairing(#[from] PairingError),
    /// A name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An answer that is not understood.
    #[error("the answer to a question for {0} is not understood")]
    Unexpected(&'static str),
    /// Nothing can be repaired.
    #[error("the table cannot be repaired: {0}")]
    NotRepairable(&'static str),
}

impl From<strait::bigquery::error::Error> for VerifyError {
    fn from(error: strait::bigquery::error::Error) -> Self {
        Self::BigQuery(InvocationError::describe(&error))
    }
}

/// Compares every table. True only if no row differs.
///
/// # Errors
/// [`VerifyError`]; its text says what to do.
pub async fn run(options: VerifyOptions, terminal: &Terminal) -> Result<bool, VerifyError> {
    let config = read_config()?;
    let mut tables = Vec::new();
    for table in &options.tables {
        let source = SourceTable::named(table).ok_or_else(|| VerifyError::NotATable(table.clone()))?;
        if !config.tables.matches(&source.schema, &source.table) {
            return Err(VerifyError::LeftOut(source));
        }
        tables.push(source);
    }
    lambda::install_tls();
    let run = format!("{} {}", Timestamp::now(), std::process::id());
    let mut in_final = Final::connect(&config, &run).await?;
    let mut source = Source::connect(&options.source).await?;
    let mut all_equal = true;
    for table in &tables {
        all_equal &= verify(&config, &options, table, &mut source, &mut in_final, terminal).await?;
    }
    source.disconnect().await;
    let billed = u64::try_from(in_final.bytes_billed()).unwrap_or(0).div_ceil(1024 * 1024);
    terminal
        .line(terminal.dim(&format!("BigQuery billed {} MiB", grouped(usize::try_from(billed).unwrap_or(usize::MAX)))));
    Ok(all_equal)
}

async fn verify(
    config: &Config,
    options: &VerifyOptions,
    table: &SourceTable,
    source: &mut Source,
    in_final: &mut Final,
    terminal: &Terminal,
) -> Result<bool, VerifyError> {
    let final_table = config.final_table.name_of(table);
    let resource = in_final.table(&final_table).await?;
    let resource = resource.ok_or_else(|| VerifyError::NoFinalTable { table: table.clone(), final_table })?;
    let catalogue = source.catalogue(table).await?;
    let pairing = Pairing::new(config, table, source.engine(), &catalogue, &resource, &options.skip_columns)?;
    terminal.line(terminal.bold(&format!("{table} → {}", pairing.final_name)));
    print_columns(&pairing, terminal);

    let limits = Limits { rows: options.limit, settle: options.settle, wanted: Wanted { values: options.values } };
    let mut drill = Drill::new(&pairing, source, in_final, terminal)?;
    let outcome = drill.compare(limits).await?;
    print_outcome(&pairing, &outcome, options, terminal);
    if options.repair && !outcome.findings.is_empty() {
        let repaired = repair::repair(config, &mut drill, &outcome.findings, options.settle).await?;
        terminal.line(format!("  appended to {}: {}", config.log_table, counted(repaired.appended, "row")));
        if repaired.appended > 0 {
            terminal.line(format!("  topic {}; the next merge applies them, then verify again", repaired.topic));
        }
        for (reason, rows) in repair::left_by_reason(&repaired.left) {
            terminal.line(terminal.warning(&format!("  not repaired: {}: {reason}", counted(rows, "row"))));
        }
    }
    Ok(outcome.findings.is_empty() && !outcome.is_cut)
}

fn print_columns(pairing: &Pairing, terminal: &Terminal) {
    let key: Vec<&str> = pairing.key_columns().map(|column| column.source.as_str()).collect();
    let key = match key.as_slice() {
        [] => "rows have no key: compared as a multiset".to_owned(),
        key => format!("key {}", key.join(", ")),
    };
    terminal.line(format!("  compared: {}, {key}", counted(pairing.columns.len(), "column")));
    for column in &pairing.not_compared {
        terminal.line(terminal.warning(&format!("  not compared: {}: {}", column.name, column.reason)));
    }
}

fn print_outcome(pairing: &Pairing, outcome: &Outcome, options: &VerifyOptions, terminal: &Terminal) {
    let rows = |rows: u64| counted(usize::try_from(rows).unwrap_or(usize::MAX), "row");
    terminal.line(format!("  source {}, final {}", rows(outcome.source_rows), rows(outcome.final_rows)));
    for finding in &outcome.findings {
        terminal.line(format!("  {}", terminal.bad(&finding_in_words(pairing, finding, options.values))));
    }
    for moving in &outcome.moving {
        terminal.line(terminal.warning(&format!("  moving: {}", key_in_words(pairing, &moving.key))));
    }
    if outcome.is_cut {
        let text = format!("  more than {} may differ; the others were not looked at", counted(options.limit, "row"));
        terminal.line(terminal.bad(&text));
    }
    let moving = match outcome.moving.len() {
        0 => String::new(),
        moving => format!(", {} moving: changed at the source all the time", counted(moving, "row")),
    };
    match outcome.findings.len() {
        0 if !outcome.is_cut => terminal.line(format!("  {}{moving}", terminal.good("✓ equal"))),
        findings => {
            let text = format!("✗ different: {}", counted(findings, "row"));
            terminal.line(format!("  {}{moving}", terminal.bad(&text)));
        }
    }
}

fn key_in_words(pairing: &Pairing, key: &Key) -> String {
    if pairing.is_keyless() {
        return format!("row {}", shown(key.first().and_then(Option::as_deref), VALUE_WIDTH));
    }
    let cells: Vec<String> = pairing
        .key_columns()
        .zip(key)
        .map(|(column, cell)| format!("{} {}", column.source, shown(cell.as_deref(), VALUE_WIDTH)))
        .collect();
    cells.join(", ")
}

fn finding_in_words(pairing: &Pairing, finding: &Finding, with_values: bool) -> String {
    let key = key_in_words(pairing, &finding.row.key);
    let value = |row: &Option<drill::ReadRow>, place: usize| {
        let value = row.as_ref().and_then(|row| row.values.get(place)).and_then(Option::as_deref);
        shown(value, VALUE_WIDTH)
    };
    let all_values = |row: &Option<drill::ReadRow>| {
        if !with_values || row.is_none() {
            return String::new();
        }
        let cells: Vec<String> = pairing
            .columns
            .iter()
            .enumerate()
            .map(|(place, column)| format!("{} {}", column.source, value(row, place)))
            .collect();
        format!(": {}", cells.join(", "))
    };
    let times = |times: usize| if times == 1 { String::new() } else { format!(" {times} times") };
    match &finding.difference {
        Difference::Missing(count) => format!("missing{}: {key}{}", times(*count), all_values(&finding.source)),
        Difference::Extra(count) => format!("extra{}: {key}{}", times(*count), all_values(&finding.in_final)),
        Difference::Repeated(count) => format!("in the final table {count} times: {key}"),
        Difference::Columns(places) => {
            let columns: Vec<String> = places
                .iter()
                .filter_map(|place| Some((place, pairing.columns.get(*place)?)))
                .map(|(place, column)| match with_values {
                    false => column.source.clone(),
                    true => format!(
                        "{} is {} and should be {}",
                        column.source,
                        value(&finding.in_final, *place),
                        value(&finding.source, *place)
                    ),
                })
                .collect();
            format!("different: {key}: {}", columns.join("; "))
        }
    }
}
