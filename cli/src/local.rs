//! `strait local`: a person's own DMS messages or MSK events through the built functions on this machine, and an account of every
//! record at the end.

use std::path::{Path, PathBuf};

use crate::accounting::expected_accounting;
use crate::compare::ExpectedTables;
use crate::dms_file;
use crate::embedded_bigquery::SetupStep;
use crate::equality;
use crate::msk::{self, KafkaRecord, NotAnEvent, RecordTooLarge, Topic};
use crate::pipeline::{Delivery, Pipeline, PipelineError, PipelineSettings};
use crate::report::{self, MergeTotals};
use crate::terminal::{Align, Progress, Terminal, grouped};

/// The topic that `--dms` messages lie in.
const TOPIC: &str = "dms";

/// What a person asked for.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Files of DMS messages.
    pub dms: Vec<PathBuf>,
    /// Files that each hold one MSK event.
    pub msk: Vec<PathBuf>,
    /// Records per MSK event.
    pub batch: usize,
    /// Merge after so many records; None merges once, at the end.
    pub merge_every: Option<usize>,
    /// What the final tables have to equal: a file of the form of `events/demo/expected.json`.
    pub expected: Option<PathBuf>,
    /// Leave everything up at the end.
    pub keep: bool,
    /// Partitions of the topic.
    pub partitions: i32,
    /// The folder of the functions; None is this executable's.
    pub functions: Option<PathBuf>,
    /// A folder for the functions' logs.
    pub logs: Option<PathBuf>,
}

/// Why a run came to no account.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Nothing to do.
    #[error("there is nothing to feed: give files with --dms or --msk (or --keep, for an empty BigQuery)")]
    NothingToFeed,
    /// A file.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An event's file.
    #[error("{} holds no MSK event ({{\"eventSource\":\"aws:kafka\",\"records\":{{…}}}})", .path.display())]
    NotAnEvent {
        /// The file.
        path: PathBuf,
        /// Why.
        source: NotAnEvent,
    },
    /// A file of expected rows.
    #[error("{} holds no expected rows ({{\"tables\":[{{\"source\":…,\"final\":…,\"key\":[…],\"columns\":[…],\"rows\":[…]}}]}})", .path.display())]
    NotExpectedRows {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A record that no event can hold.
    #[error(transparent)]
    TooLarge(#[from] RecordTooLarge),
    /// The functions or the embedded BigQuery.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}

impl From<crate::embedded_bigquery::QueryError> for LocalError {
    fn from(error: crate::embedded_bigquery::QueryError) -> Self {
        Self::Pipeline(error.into())
    }
}

/// One invocation's worth.
struct Feed {
    event: Vec<u8>,
    records: Vec<KafkaRecord>,
    merge_after: bool,
}

/// Runs it. True only if every record is accounted for, no table failed, and every table equals what was expected.
///
/// # Errors
/// [`LocalError`]; its text says what to do.
pub async fn run(options: LocalOptions, terminal: &Terminal) -> Result<bool, LocalError> {
    if options.dms.is_empty() && options.msk.is_empty() && !options.keep {
        return Err(LocalError::NothingToFeed);
    }
    // Files are read before anything is started: a misspelt name should not cost a minute.
    let feeds = read_feeds(&options)?;
    let expected_tables = options.expected.as_deref().map(read_expected).transpose()?;
    let mut settings = PipelineSettings::from_environment();
    settings.logs = options.logs;
    if let Some(functions) = options.functions {
        settings.functions = functions;
    }
    let observe = |step: SetupStep| terminal.line(terminal.dim(&format!("{step} …")));
    let pipeline = Pipeline::start(settings, &observe).await?;

    let total: usize = feeds.iter().map(|feed| feed.records.len()).sum();
    let progress = terminal.progress(total);
    let mut totals = MergeTotals::default();
    let (mut done, mut given_up) = (0_usize, 0_usize);
    let mut last_failed = false;
    for feed in &feeds {
        progress.at(done, "appending");
        let delivery = pipeline.deliver_event(feed.event.clone().into(), &feed.records).await?;
        tell_failures(&progress, terminal, &delivery, &feed.records);
        given_up = given_up.saturating_add(delivery.given_up.len());
        done = done.saturating_add(feed.records.len());
        if feed.merge_after {
            progress.at(done, "merging");
            last_failed = merge(&pipeline, &mut totals, &progress, terminal).await?;
        }
    }
    if !feeds.last().is_some_and(|feed| feed.merge_after) && total > 0 {
        progress.at(done, "merging");
        last_failed = merge(&pipeline, &mut totals, &progress, terminal).await?;
    }
    progress.finish();

    let records = feeds.iter().flat_map(|feed| &feed.records);
    let expected = expected_accounting(records, &pipeline.config.tables);
    let accounting = pipeline.account(&expected).await?;
    print_log(&pipeline, terminal).await?;
    terminal.line("");
    report::print_accounting(terminal, &accounting, total);
    terminal.line("");
    totals.print(terminal);
    report::print_quarantine(terminal, &pipeline).await?;
    terminal.line("");
    report::print_functions(terminal, &pipeline);
    let all_equal = match &expected_tables {
        Some(expected) => equality::compare_tables(&pipeline, &expected.tables, terminal).await?,
        None => true,
    };

    let right = all_equal && accounting.is_complete() && given_up == 0 && !last_failed && !totals.any_failed();
    if options.keep {
        keep(&pipeline, terminal).await;
    }
    pipeline.stop().await;
    Ok(right)
}

fn read(path: &Path) -> Result<Vec<u8>, LocalError> {
    std::fs::read(path).map_err(|source| LocalError::Read { path: path.to_path_buf(), source })
}

fn read_expected(path: &Path) -> Result<ExpectedTables, LocalError> {
    serde_json::from_slice(&read(path)?)
        .map_err(|source| LocalError::NotExpectedRows { path: path.to_path_buf(), source })
}

fn read_feeds(options: &LocalOptions) -> Result<Vec<Feed>, LocalError> {
    let mut topic = Topic::new(TOPIC, options.partitions);
    let mut records = Vec::new();
    for path in &options.dms {
        let file = read(path)?;
        records.extend(
            dms_file::records(&file)
                .into_iter()
                .map(|message| topic.append(msk::default_dms_key(message), Some(message.to_vec()))),
        );
    }
    let merge_every = options.merge_every.unwrap_or(usize::MAX).max(1);
    let mut feeds = Vec::new();
    for stretch in records.chunks(merge_every) {
        for batch in msk::batches(stretch, options.batch.max(1))? {
            feeds.push(Feed { event: msk::event(batch), records: batch.to_vec(), merge_after: false });
        }
        if let Some(last) = feeds.last_mut() {
            last.merge_after = stretch.len() == merge_every;
        }
    }
    let mut since_merge = records.len().checked_rem(merge_every).unwrap_or(0);
    for path in &options.msk {
        let event = read(path)?;
        let records =
            msk::records_of_event(&event).map_err(|source| LocalError::NotAnEvent { path: path.clone(), source })?;
        since_merge = since_merge.saturating_add(records.len());
        let merge_after = since_merge >= merge_every;
        if merge_after {
            since_merge = 0;
        }
        feeds.push(Feed { event, records, merge_after });
    }
    Ok(feeds)
}

pub(crate) fn tell_failures(progress: &Progress, terminal: &Terminal, delivery: &Delivery, records: &[KafkaRecord]) {
    let Some(failure) = &delivery.last_failure else {
        return;
    };
    let first = records.first().map(|record| record.identity().to_string()).unwrap_or_default();
    let outcome = if delivery.given_up.is_empty() {
        terminal.warning(&format!("delivered at attempt {}", delivery.attempts))
    } else {
        terminal.bad(&format!("given up after {} attempts", delivery.attempts))
    };
    progress.line(&format!("  the batch from {first}: {outcome}; {failure}"));
}

/// True if the merge failed: the rest of the account is still worth telling.
pub(crate) async fn merge(
    pipeline: &Pipeline,
    totals: &mut MergeTotals,
    progress: &Progress,
    terminal: &Terminal,
) -> Result<bool, PipelineError> {
    match pipeline.merge_until_settled().await {
        Ok(answers) => {
            for answer in answers {
                totals.add(answer);
            }
            Ok(false)
        }
        Err(PipelineError::Merge(reason)) => {
            progress.line(&format!("  {}: {reason}", terminal.bad("the merge failed")));
            Ok(true)
        }
        Err(other) => Err(other),
    }
}

async fn print_log(pipeline: &Pipeline, terminal: &Terminal) -> Result<(), LocalError> {
    let log = &pipeline.config.log_table;
    terminal.line(terminal.bold(&format!("Log, {log}")));
    let statement =
        format!("SELECT `operation`, COUNT(*) AS `count` FROM `{log}` GROUP BY `operation` ORDER BY `operation`");
    let tally = match pipeline.bigquery.query(&statement).await {
        Err(crate::embedded_bigquery::QueryError::Refused { status: 404, .. }) => {
            terminal.line("  there is none: no record was appended");
            return Ok(());
        }
        other => other?,
    };
    let rows: Vec<Vec<String>> = tally
        .rows
        .into_iter()
        .map(|row| {
            let mut cells = row.into_iter().map(Option::unwrap_or_default);
            let operation = cells.next().unwrap_or_default();
            let count = cells.next().and_then(|count| count.parse().ok()).unwrap_or_default();
            vec![operation, grouped(count)]
        })
        .collect();
    terminal.table(&["operation", "rows"], &[Align::Left, Align::Right], &rows);
    Ok(())
}

async fn keep(pipeline: &Pipeline, terminal: &Terminal) {
    let bigquery = &pipeline.bigquery;
    let (rest, project) = (&bigquery.rest_url, &bigquery.project);
    terminal.line(terminal.bold("Kept up until Ctrl-C"));
    terminal.line(format!("  REST                {rest}"));
    terminal.line(format!("  Storage Write API   {}", bigquery.grpc_url));
    terminal.line(format!("  project             {project}"));
    terminal.line(format!("  {}", terminal.dim("for example:")));
    terminal.line(format!(
        "  curl -s {rest}/projects/{project}/queries -H 'content-type: application/json' \\\n    \
         -d '{{\"useLegacySql\":false,\"query\":\"SELECT * FROM {} LIMIT 5\"}}'",
        pipeline.config.log_table
    ));
    // Without a handler for it there is nothing to wait for.
    let _ = tokio::signal::ctrl_c().await;
    terminal.line("stopping");
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn options(folder: &Path, merge_every: Option<usize>) -> LocalOptions {
        let path = folder.join("messages");
        std::fs::write(&path, "{}\n".repeat(10)).unwrap();
        let event = folder.join("event");
        let mut topic = Topic::new("other", 1);
        let records: Vec<KafkaRecord> = (0..3).map(|_| topic.append(None, None)).collect();
        std::fs::write(&event, msk::event(&records)).unwrap();
        LocalOptions {
            dms: vec![path],
            msk: vec![event],
            batch: 3,
            merge_every,
            expected: None,
            keep: false,
            partitions: 1,
            functions: None,
            logs: None,
        }
    }

    #[test]
    fn merges_come_after_every_so_many_records() {
        let folder = tempfile::tempdir().unwrap();
        let sizes = |merge_every| -> Vec<(usize, bool)> {
            let feeds = read_feeds(&options(folder.path(), merge_every)).unwrap();
            feeds.iter().map(|feed| (feed.records.len(), feed.merge_after)).collect()
        };
        let (yes, no) = (true, false);
        assert_eq!(sizes(None), [(3, no), (3, no), (3, no), (1, no), (3, no)]);
        assert_eq!(sizes(Some(4)), [(3, no), (1, yes), (3, no), (1, yes), (2, no), (3, yes)]);
    }

    #[test]
    fn a_file_that_is_no_event_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(folder.path(), None);
        options.msk = options.dms.clone();
        let error = read_feeds(&options).err().unwrap();
        assert!(error.to_string().contains("messages"), "{error}");
    }
}
