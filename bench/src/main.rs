//! `make bench`: what Strait's functions cost, side by side with the alternatives, in one run. [`inputs`] makes the events, [`sink`] is
//! BigQuery's end of the wire, [`contestants`] are the programs, [`invocations`] drives them in turn; [`merges`] runs `merge` on the
//! embedded BigQuery; [`report`] is what is printed. Everything runs on loopback and the figures are CPU time, so that they mean the same
//! on a busy machine. It must never change what it measures: the functions are the built ones, with nothing set but their variables.
#![allow(
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures for people, on standard output"
)]

mod contestants;
mod cpu;
mod decode;
mod inputs;
mod invocations;
mod merges;
mod report;
mod services;
mod sink;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::report::Report;

/// What Strait's functions cost.
#[derive(Parser)]
struct Arguments {
    /// Few rounds and small merges: whether everything works, not what it costs.
    #[arg(long)]
    short: bool,
    /// The folder of the built functions `ingest` and `merge`.
    #[arg(long)]
    functions: PathBuf,
    /// The folder of the built `insert-all`.
    #[arg(long)]
    alternatives: PathBuf,
    /// The build output: virtual environment, certificate and key are kept in a folder of it.
    #[arg(long, default_value = "target")]
    target: PathBuf,
    /// The folder of the zips that are deployed, if they were built.
    #[arg(long)]
    zips: Option<PathBuf>,
    /// The numbers of tables with news; 1, 10 and 100 unless given.
    #[arg(long, value_delimiter = ',')]
    tables: Vec<u64>,
    /// Only these parts: decode, invocations, cold-start, merges, tables.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

fn main() -> anyhow::Result<ExitCode> {
    // reqwest of the embedded BigQuery's client and the sink's TLS want one; there is only ring.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(&arguments))?;
    Ok(ExitCode::SUCCESS)
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let step = |what: &str| eprintln!("[{:>4} s] {what}", started.elapsed().as_secs());
    let wanted = |part: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == part);
    let mut report = Report::new(arguments.short);
    let folder = arguments.target.join("bench");
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;

    if wanted("decode") {
        step("decode stages");
        decode::measure(arguments.short, &mut report)?;
    }
    if wanted("invocations") || wanted("cold-start") {
        step("services, certificate, Python packages");
        let field = contestants::Field::prepare(arguments, &folder).await?;
        if wanted("invocations") {
            step("whole invocations");
            invocations::measure(&field, arguments.short, &mut report).await?;
            step("memory");
            invocations::measure_memory(&field, arguments.short, &mut report).await?;
        }
        if wanted("cold-start") {
            step("cold start");
            invocations::measure_cold_start(&field, arguments.short, &mut report).await?;
        }
    }
    if wanted("merges") || wanted("tables") {
        step("the embedded BigQuery");
        let bigquery = merges::bigquery().await?;
        if wanted("merges") {
            step("merges");
            merges::measure_sizes(arguments, &bigquery, &mut report).await?;
        }
        if wanted("tables") {
            step("tables with news");
            merges::measure_tables(arguments, &bigquery, &mut report).await?;
        }
    }
    if let Some(zips) = &arguments.zips {
        report.zips(zips)?;
    }
    report.finish(&arguments.target.join("bench.json"))?;
    step("done");
    Ok(())
}
