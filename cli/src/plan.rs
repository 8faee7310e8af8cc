//! `strait plan`: what the next run of the merge would do, per table: why, from which window, by which statements, reading how much. It
//! reads; it must never merge, create or alter anything, and what it prints holds no row value.

use std::time::Duration;

use jiff::Timestamp;
use strait::bigquery::connect::connect;
use strait::config::ConfigError;
use strait::lambda::{self, InvocationError};
use strait::merge::answer::Asked;
use strait::merge::preview::{Planned, Preview, Reads, TablePreview};
use strait::merge::run::MergeHandler;
use tokio::time::Instant;

use crate::schema::read_config;
use crate::terminal::Terminal;

/// For all queries together; the plan reads narrow columns of the log.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// What a person asked for.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// `schema.table` at the source, or a pattern with `*`; `None`: every table that the run would look at.
    pub table: Option<String>,
    /// Print the statements as well.
    pub with_sql: bool,
}

/// Why nothing could be said.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The STRAIT_* variables.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The connection, or a call of BigQuery's; the text says what to do.
    #[error(transparent)]
    BigQuery(#[from] InvocationError),
}

/// Prints the plan.
///
/// # Errors
/// [`PlanError`]; its text says what to do.
pub async fn run(options: &PlanOptions, terminal: &Terminal) -> Result<bool, PlanError> {
    let config = read_config()?;
    lambda::install_tls();
    let connections = connect(&config).await?;
    let asked = options.table.iter().cloned().collect::<Vec<_>>();
    let asked = if asked.is_empty() { Asked::default() } else { Asked::tables(asked) };
    let handler = MergeHandler::new(config, connections);
    let preview = handler.preview(&asked, Instant::now() + TIME_LIMIT).await?;
    for line in lines(&preview, options.with_sql) {
        terminal.line(line);
    }
    Ok(true)
}

/// The plan as text.
fn lines(preview: &Preview, with_sql: bool) -> Vec<String> {
    let mut lines = preview.notes.clone();
    let merged = preview.tables.iter().filter(|table| table.window.is_some()).count();
    if preview.tables.is_empty() && preview.notes.is_empty() {
        lines.push("nothing to do: the log holds nothing that is not merged".to_owned());
    }
    if let Some(copy) = &preview.copy {
        lines.push(format!("The news of several tables is copied out of the log once; {}", reads(&copy.reads)));
        lines.extend(sql(copy, with_sql));
    }
    for table in &preview.tables {
        lines.push(String::new());
        lines.extend(of_table(table, with_sql));
    }
    if !preview.tables.is_empty() {
        lines.push(String::new());
        lines.push(total(preview, merged));
    }
    lines
}

fn of_table(table: &TablePreview, with_sql: bool) -> Vec<String> {
    let mut lines = vec![format!("{} → {}", table.source, table.final_table)];
    lines.extend(table.why.iter().map(|why| format!("  why     {why}")));
    if let Some((from, to)) = table.window {
        let from = from.map_or_else(|| "the log's beginning".to_owned(), in_words);
        lines.push(format!("  window  ingested from {from} to {}", in_words(to)));
    }
    for planned in &table.statements {
        lines.push(format!("  {}: {}", planned.what, reads(&planned.reads)));
        lines.extend(sql(planned, with_sql).into_iter().map(|line| format!("    {line}")));
    }
    lines
}

fn sql(planned: &Planned, with_sql: bool) -> Vec<String> {
    if with_sql { planned.sql.lines().map(str::to_owned).collect() } else { Vec::new() }
}

fn reads(reads: &Reads) -> String {
    match reads {
        Reads::Nothing => "reads no rows".to_owned(),
        Reads::Bytes(bytes) => format!("reads {}, by BigQuery's dry run", size(*bytes)),
        Reads::AtMost(bytes) => format!(
            "reads at most {}, the whole final table; the range of keys and the partitions that the fold finds leave less",
            size(*bytes)
        ),
        Reads::Copy => "reads the table's part of the copy".to_owned(),
        Reads::Fold => "reads the fold, a row for each changed key".to_owned(),
        Reads::Keys => "reads of the final table what tells its rows apart".to_owned(),
        Reads::Unknown(reason) => format!("BigQuery does not say what it reads: {reason}"),
    }
}

fn total(preview: &Preview, merged: usize) -> String {
    let statements = preview.copy.iter().chain(preview.tables.iter().flat_map(|table| &table.statements));
    let (mut known, mut at_most, mut unknown) = (0i64, 0i64, 0usize);
    for planned in statements {
        match planned.reads {
            Reads::Bytes(bytes) => known = known.saturating_add(bytes),
            Reads::AtMost(bytes) => at_most = at_most.saturating_add(bytes),
            Reads::Unknown(_) => unknown += 1,
            Reads::Copy | Reads::Fold | Reads::Keys | Reads::Nothing => {}
        }
    }
    let unknown = match unknown {
        0 => String::new(),
        count => format!(", and what {count} statements read is not known"),
    };
    format!(
        "{merged} of {} tables are merged: {} of the log and at most {} of final tables{unknown}. Not counted: what tells rows apart, where new keys alone \
         are looked for first; 10 MB at least for each table that a \
         statement refers to, what goes to quarantine, the end of a load, work that an earlier run left",
        preview.tables.len(),
        size(known),
        size(at_most)
    )
}

/// Bytes as BigQuery bills them: units of 1,024.
fn size(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut whole, mut rest, mut unit) = (bytes.max(0), 0, 0);
    while whole >= 1024 && unit + 1 < UNITS.len() {
        rest = whole % 1024 * 10 / 1024;
        whole /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 || whole >= 100 { format!("{whole} {name}") } else { format!("{whole}.{rest} {name}") }
}

fn in_words(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_a_bill() {
        assert_eq!(
            [0, 1023, 1024, 1536, 10 * 1024 * 1024, 1 << 40].map(size),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10.0 MiB", "1.0 TiB"]
        );
        assert_eq!(size(i64::MAX), "8388607 TiB");
    }

    #[test]
    fn a_log_without_news_is_nothing_to_do() {
        assert_eq!(lines(&Preview::default(), true), ["nothing to do: the log holds nothing that is not merged"]);
    }
}
