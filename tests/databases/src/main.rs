//! `demo-full`: a shop on real databases through the stand-ins and the built functions, once for each choice of DMS's settings, compared
//! with the databases at the end.
#![allow(
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "figures for a person, of parts that are there by construction"
)]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use strait_cli::pipeline::functions_beside_executable;
use strait_cli::terminal::{Terminal, duration, grouped, memory};
use strait_databases::chaos::{Chaos, Victim};
use strait_databases::run::{self, Footprint, Report, RunOptions};
use strait_databases::settings;
use strait_databases::shop::Engine;

/// Real databases, a real broker, the built functions; exit status 0 only if every table equals its source.
#[derive(Debug, Parser)]
struct Arguments {
    /// Changes in all, for each choice of settings.
    #[arg(long, default_value_t = 6_000)]
    changes: u64,
    /// Changes a second in all; 0 is as many as there can be.
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// wanted, other or defaults; all of them if none is named.
    #[arg(long)]
    settings: Vec<String>,
    /// mariadb or postgresql; both if none is named.
    #[arg(long)]
    engine: Vec<String>,
    /// Rows of each table before the full load, for each of the clients.
    #[arg(long, default_value_t = 100)]
    initial: usize,
    /// Clients of each database.
    #[arg(long, default_value_t = 3)]
    clients: u64,
    /// Pollers of each topic.
    #[arg(long, default_value_t = 2)]
    pollers: usize,
    /// Seconds between merges.
    #[arg(long, default_value_t = 4.0)]
    merge_every: f64,
    /// Kills the poller so often at random moments.
    #[arg(long, default_value_t = 0)]
    kill_poller: usize,
    /// Works for so many minutes, whatever the number of changes, and kills everything that can be killed at random moments.
    #[arg(long)]
    endurance: Option<f64>,
    /// poller, ingest, merge, task, bigquery or broker: kills only these, with --endurance.
    #[arg(long)]
    kill: Vec<String>,
    /// Of everything random; printed, so that a run can be played again.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let terminal = Terminal::detect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let is_right = runtime.block_on(all(&arguments, &terminal))?;
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn all(arguments: &Arguments, terminal: &Terminal) -> anyhow::Result<bool> {
    let functions = functions_beside_executable();
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    terminal.line(format!("seed {seed}"));
    let mut is_right = true;
    for chosen in chosen_settings(arguments)? {
        terminal.line("");
        terminal.line(terminal.bold(&format!("DMS settings: {}", chosen.name)));
        terminal.line(format!("  {}", chosen.about));
        let options = RunOptions {
            settings: chosen,
            engines: engines(arguments)?,
            changes: if arguments.endurance.is_some() { u64::MAX / 4_000_000 } else { arguments.changes },
            rate: arguments.rate,
            initial: arguments.initial,
            clients: arguments.clients,
            partitions: 4,
            pollers: arguments.pollers,
            merge_every: Duration::from_secs_f64(arguments.merge_every),
            alterations: true,
            chaos: chaos(arguments)?,
            seed,
            poller: functions.join("poller"),
            functions: functions.clone(),
            // The slowest that was seen, with the machine busy otherwise, were a thousand a second.
            patience: Duration::from_secs(900 + arguments.changes / 500),
            minutes: arguments.endurance,
        };
        let report = run::play(&options, terminal).await?;
        print(&report, terminal);
        is_right &= report.wrong.is_empty();
    }
    terminal.line("");
    let last = if is_right { terminal.good("all equal") } else { terminal.bad("not right: see above") };
    terminal.line(last);
    Ok(is_right)
}

fn chosen_settings(arguments: &Arguments) -> anyhow::Result<Vec<settings::Settings>> {
    if arguments.settings.is_empty() {
        // An hour under one choice says more than twenty minutes under each.
        let count = if arguments.endurance.is_some() { 1 } else { settings::ALL.len() };
        return Ok(settings::ALL.into_iter().take(count).collect());
    }
    let find = |name: &String| {
        let known = settings::ALL.into_iter().find(|settings| settings.name == name);
        known.ok_or_else(|| anyhow::anyhow!("no settings are called {name}: wanted, other, defaults"))
    };
    arguments.settings.iter().map(find).collect()
}

fn engines(arguments: &Arguments) -> anyhow::Result<Vec<Engine>> {
    if arguments.engine.is_empty() {
        return Ok(vec![Engine::MariaDb, Engine::PostgreSql]);
    }
    let find = |name: &String| match name.as_str() {
        "mariadb" => Ok(Engine::MariaDb),
        "postgresql" => Ok(Engine::PostgreSql),
        _ => anyhow::bail!("no engine is called {name}: mariadb, postgresql"),
    };
    arguments.engine.iter().map(find).collect()
}

fn chaos(arguments: &Arguments) -> anyhow::Result<Chaos> {
    use Victim::{BigQuery, Broker, Ingest, Merge, Poller, Task};
    if arguments.endurance.is_some() {
        let find = |name: &String| match name.as_str() {
            "poller" => Ok(Poller),
            "ingest" => Ok(Ingest),
            "merge" => Ok(Merge),
            "task" => Ok(Task),
            "bigquery" => Ok(BigQuery),
            "broker" => Ok(Broker),
            _ => anyhow::bail!("nothing that can be killed is called {name}"),
        };
        let mut victims: Vec<Victim> = arguments.kill.iter().map(find).collect::<anyhow::Result<_>>()?;
        if victims.is_empty() {
            // What costs most to come back from is killed least.
            victims = [Poller; 4].into_iter().chain([Ingest; 3]).chain([Merge, Merge, Task, Task]).collect();
            victims.extend([BigQuery, BigQuery, Broker]);
        }
        return Ok(Chaos { victims, kills: None, every: Duration::from_secs(15) });
    }
    if arguments.kill_poller == 0 {
        return Ok(Chaos::default());
    }
    // Spread over the time that the work takes at its rate; without one, as fast as a group takes a new member in.
    let seconds = arguments.changes.checked_div(arguments.rate).unwrap_or(0);
    let each = Duration::from_secs(seconds).div_f64(arguments.kill_poller as f64);
    Ok(Chaos { victims: vec![Poller], kills: Some(arguments.kill_poller), every: each.max(Duration::from_millis(300)) })
}

fn print(report: &Report, terminal: &Terminal) {
    let number = |count: u64| grouped(usize::try_from(count).unwrap_or(usize::MAX));
    let rate = |count: u64, time: Duration| number((count as f64 / time.as_secs_f64().max(0.001)).round() as u64);
    terminal.line("");
    terminal.line(format!(
        "{} changes committed in {} ({} a second); {} messages; {} log records, {} of them delivered again",
        number(report.changes),
        duration(report.worked),
        rate(report.changes, report.worked),
        number(report.messages),
        number(report.logged),
        number(report.logged.saturating_sub(report.distinct)),
    ));
    terminal.line(format!(
        "all in the log after {} ({} messages a second), all in the final tables after {} ({} a second)",
        duration(report.until_logged),
        rate(report.messages, report.until_logged),
        duration(report.until_merged),
        rate(report.messages, report.until_merged),
    ));
    for (engine, log, finals) in &report.freshness {
        terminal.line(format!(
            "{}: commit → log p50 {}, p99 {}; commit → final p50 {}, p99 {} ({} commits)",
            engine.name(),
            duration(log.p50),
            duration(log.p99),
            duration(finals.p50),
            duration(finals.p99),
            number(log.commits as u64),
        ));
    }
    terminal.line(format!(
        "merges: {}, of which {} failed; memory at most: ingest {}, merge {}",
        number(report.merges.0),
        number(report.merges.1),
        memory(Some(report.memory.0)),
        memory(Some(report.memory.1)),
    ));
    let middle = |of: fn(&Footprint) -> u64, part: &[Footprint]| {
        let mut held: Vec<u64> = part.iter().map(of).filter(|bytes| *bytes > 0).collect();
        held.sort_unstable();
        memory(held.get(held.len() / 2).copied())
    };
    if report.footprints.len() >= 8 {
        let quarter = report.footprints.len() / 4;
        let (early, late) = (&report.footprints[quarter..2 * quarter], &report.footprints[3 * quarter..]);
        let told = |name: &str, of: fn(&Footprint) -> u64| {
            let (early, late) = (middle(of, early), middle(of, late));
            terminal.line(format!("memory of {name}: {early} in the second quarter of the time, {late} in the last"));
        };
        told("ingest", |it| it.ingest);
        told("merge", |it| it.merge);
        told("stand-ins", |it| it.stand_ins);
    }
    for (victim, count) in &report.kills {
        terminal.line(format!("killed: {} {count} times", victim.name()));
    }
    for wrong in &report.wrong {
        terminal.line(terminal.bad(wrong));
    }
}
