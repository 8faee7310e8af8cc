//! `strait`, the operator's command. This file reads the command line, wires, and turns errors into text and an exit status:
//! 0 everything is right, 1 something differs or is not accounted for, 2 the command could not do its work, 130 interrupted.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use jiff::Timestamp;
use strait::merge::types::map::Engine;
use strait_cli::define::{self, DefineOptions};
use strait_cli::demo::{self, DemoOptions};
use strait_cli::doctor;
use strait_cli::embedded_bigquery::environment::build_output;
use strait_cli::embedded_bigquery::{EmbeddedBigQuery, SetupStep};
use strait_cli::local::{self, LocalOptions};
use strait_cli::pipeline::DEFAULT_PROJECT;
use strait_cli::plan::{self, PlanOptions};
use strait_cli::schema::{self, Basis, SchemaOptions};
use strait_cli::terminal::Terminal;
use strait_cli::verify::source::SourceOptions;
use strait_cli::verify::{self, VerifyOptions};

/// Keeps BigQuery tables equal to Amazon Aurora tables: the operator's command.
#[derive(Parser)]
#[command(name = "strait", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the two built functions on this machine, on your own records and an embedded BigQuery. All STRAIT_* variables apply
    Local {
        /// Files of DMS messages: one JSON object a line, or pretty-printed; what is no JSON is fed as it is
        #[arg(long, value_name = "FILE", num_args = 1..)]
        dms: Vec<PathBuf>,
        /// Files that each hold one MSK event, passed as it is
        #[arg(long, value_name = "FILE", num_args = 1..)]
        msk: Vec<PathBuf>,
        /// Records per MSK event; 6 MB end one as well
        #[arg(long, value_name = "N", default_value_t = 500, value_parser = at_least_one)]
        batch: usize,
        /// Merge after every N records, instead of once at the end
        #[arg(long, value_name = "N", value_parser = at_least_one)]
        merge_every: Option<usize>,
        /// Partitions of the topic that --dms messages lie in
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=1000))]
        partitions: i32,
        /// Compare the final tables with these rows at the end (the form of events/demo/expected.json)
        #[arg(long, value_name = "FILE")]
        expected: Option<PathBuf>,
        /// Leave everything up until Ctrl-C, and print the endpoints
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        functions: FunctionArguments,
    },
    /// Replay the history of a small shop, and compare every final table with the source
    Demo {
        /// The folder of stream.jsonl, plan.json and expected.json
        #[arg(long, value_name = "DIR", default_value = "events/demo")]
        events: PathBuf,
        #[command(flatten)]
        functions: FunctionArguments,
    },
    /// Propose the CREATE TABLE statement of a final table that has no definition yet, for you to check and run. All STRAIT_* variables apply
    Schema(SchemaArguments),
    /// Compare final tables with their source, by checksums on both sides, and name the rows and columns that differ. All STRAIT_* variables
    /// apply. Exit status 0 only if no row differs
    Verify(VerifyArguments),
    /// Append to the log what PostgreSQL's catalogue says of tables that Debezium captures without schemas, so that the merge can read their
    /// values: its connector sends no definitions. All STRAIT_* variables apply
    Define(DefineArguments),
    /// Show what the next run of the merge would do, per table: why, which window, how many bytes. Nothing is run. All STRAIT_* variables apply
    Plan {
        /// The source table, or a pattern such as `shop.*`; its statements are printed, too [default: all that have news]
        #[arg(value_name = "SCHEMA.TABLE")]
        table: Option<String>,
        /// Print every table's statements
        #[arg(long)]
        sql: bool,
    },
    /// Name the settings of AWS DMS by which rows would be lost or wrong. Exit status 0 only if there is none
    Doctor {
        /// JSON files: the output of `aws dms describe-endpoints`, `describe-replication-tasks` or `describe-replication-configs`, or the
        /// settings alone; - is standard input
        #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
        dms: Vec<PathBuf>,
    },
    /// Set the embedded BigQuery up, so that later runs need no network
    Setup,
}

#[derive(clap::Args)]
struct SchemaArguments {
    /// The source table
    #[arg(value_name = "SCHEMA.TABLE")]
    table: String,
    /// From the values in the log, or from the source's information_schema
    #[arg(long, value_enum, default_value_t = ProposalSource::Log)]
    from: ProposalSource,
    /// With --from source: it is Aurora MySQL's
    #[arg(long, conflicts_with = "postgres")]
    mysql: bool,
    /// With --from source: it is Aurora PostgreSQL's
    #[arg(long)]
    postgres: bool,
    /// With --from source: the output of the query that --print-query prints, as CSV, TSV or JSON; - is standard input
    #[arg(long, value_name = "FILE")]
    columns: Option<PathBuf>,
    /// Print the query to run at the source, and nothing else
    #[arg(long, value_enum, value_name = "ENGINE", conflicts_with_all = ["from", "mysql", "postgres", "columns"])]
    print_query: Option<SourceEngine>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ProposalSource {
    Log,
    Source,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum SourceEngine {
    Mysql,
    Postgres,
}

impl SchemaArguments {
    fn options(self) -> anyhow::Result<SchemaOptions> {
        let is_of_log = self.from == ProposalSource::Log;
        let basis = match (self.print_query, self.mysql, self.postgres, self.columns) {
            (Some(SourceEngine::Mysql), ..) => Basis::Query(Engine::MySql),
            (Some(SourceEngine::Postgres), ..) => Basis::Query(Engine::PostgreSql),
            (None, false, false, None) if is_of_log => Basis::Log,
            _ if is_of_log => anyhow::bail!("--mysql, --postgres and --columns want --from source"),
            (None, true, false, Some(columns)) => Basis::Source { engine: Engine::MySql, columns },
            (None, false, true, Some(columns)) => Basis::Source { engine: Engine::PostgreSql, columns },
            (None, _, _, None) => {
                anyhow::bail!("--from source wants --columns FILE: the output of the query that --print-query prints")
            }
            (None, ..) => anyhow::bail!("--from source wants --mysql or --postgres"),
        };
        Ok(SchemaOptions { table: self.table, basis })
    }
}

#[derive(clap::Args)]
struct SourceArguments {
    /// The source database: mysql://USER@HOST:3306 or postgres://USER@HOST:5432/DATABASE. The password is that of --password-file, else
    /// of MYSQL_PWD or PGPASSWORD
    #[arg(long, value_name = "URL")]
    source: String,
    /// A file that holds the source's password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A file of certificates in PEM by which the source's is checked, such as Amazon RDS's global bundle [default: the public authorities]
    #[arg(long, value_name = "FILE", conflicts_with = "plaintext")]
    ca: Option<PathBuf>,
    /// Connect to the source without TLS
    #[arg(long)]
    plaintext: bool,
    /// Seconds that one statement may take at the source
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    statement_timeout: u64,
}

impl SourceArguments {
    fn options(self) -> SourceOptions {
        SourceOptions {
            url: self.source,
            password_file: self.password_file,
            ca_file: self.ca,
            plaintext: self.plaintext,
            statement_timeout: Duration::from_secs(self.statement_timeout),
        }
    }
}

#[derive(clap::Args)]
struct DefineArguments {
    /// The source tables
    #[arg(value_name = "SCHEMA.TABLE", required = true)]
    tables: Vec<String>,
    #[command(flatten)]
    source: SourceArguments,
    /// When the tables became what they are, such as 2026-11-22T10:00:00Z: what was sent before is read by the former definition [default: now]
    #[arg(long, value_name = "TIMESTAMP", value_parser = moment)]
    since: Option<Timestamp>,
    /// Print the definitions, and append none
    #[arg(long)]
    print: bool,
}

impl DefineArguments {
    fn options(self) -> DefineOptions {
        DefineOptions { tables: self.tables, source: self.source.options(), since: self.since, print: self.print }
    }
}

#[derive(clap::Args)]
struct VerifyArguments {
    /// The source tables
    #[arg(value_name = "SCHEMA.TABLE", required = true)]
    tables: Vec<String>,
    #[command(flatten)]
    source: SourceArguments,
    /// Seconds that a row has to stand still at the source, and differ all the same: more than a change takes to get into the final table
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    settle: u64,
    /// Rows of a table that are looked at one by one
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = at_least_one)]
    limit: usize,
    /// Columns that are not compared, by their names at the source
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    skip_columns: Vec<String>,
    /// Print the values that differ, too
    #[arg(long)]
    values: bool,
    /// Read the rows that differ from the source again and append them to the log, so that the next merge applies them
    #[arg(long)]
    repair: bool,
}

impl VerifyArguments {
    fn options(self) -> VerifyOptions {
        VerifyOptions {
            tables: self.tables,
            source: self.source.options(),
            skip_columns: self.skip_columns,
            settle: Duration::from_secs(self.settle),
            limit: self.limit,
            values: self.values,
            repair: self.repair,
        }
    }
}

#[derive(clap::Args)]
struct FunctionArguments {
    /// The folder of the built functions `ingest` and `merge` [default: where this command is]
    #[arg(long, value_name = "DIR")]
    functions: Option<PathBuf>,
    /// Append the functions' logs to ingest.log and merge.log in this folder
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number from 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

fn moment(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "expected a time such as 2026-11-22T10:00:00Z".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let terminal = Terminal::detect();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&terminal, &error.into()),
    };
    // Whatever was started ends with the values that the cancelled future holds.
    let outcome = runtime.block_on(async {
        let keeps = matches!(arguments.command, Command::Local { keep: true, .. });
        tokio::select! {
            outcome = run(arguments.command, &terminal) => Some(outcome),
            () = interrupted(keeps) => None,
        }
    });
    match outcome {
        Some(Ok(true)) => ExitCode::SUCCESS,
        Some(Ok(false)) => ExitCode::from(1),
        Some(Err(error)) => failed(&terminal, &error),
        None => ExitCode::from(130),
    }
}

async fn run(command: Command, terminal: &Terminal) -> anyhow::Result<bool> {
    match command {
        Command::Local { dms, msk, batch, merge_every, partitions, expected, keep, functions } => {
            let options = LocalOptions {
                dms,
                msk,
                batch,
                merge_every,
                expected,
                keep,
                partitions,
                functions: functions.functions,
                logs: functions.logs,
            };
            Ok(local::run(options, terminal).await?)
        }
        Command::Demo { events, functions } => {
            let options = DemoOptions { events, functions: functions.functions, logs: functions.logs };
            Ok(demo::run(options, terminal).await?)
        }
        Command::Schema(arguments) => Ok(schema::run(arguments.options()?, terminal).await?),
        Command::Verify(arguments) => Ok(verify::run(arguments.options(), terminal).await?),
        Command::Define(arguments) => Ok(define::run(arguments.options(), terminal).await?),
        Command::Plan { table, sql } => {
            let options = PlanOptions { with_sql: sql || table.is_some(), table };
            Ok(plan::run(&options, terminal).await?)
        }
        Command::Doctor { dms } => Ok(doctor::run(&dms, terminal)?),
        Command::Setup => {
            let observe = |step: SetupStep| terminal.line(terminal.dim(&format!("{step} …")));
            let bigquery = EmbeddedBigQuery::start(DEFAULT_PROJECT, &observe).await?;
            bigquery.query("SELECT 1").await?;
            bigquery.stop().await;
            terminal.line(format!("the embedded BigQuery is set up in {}", build_output().display()));
            Ok(true)
        }
    }
}

/// Ctrl-C and SIGTERM. With `--keep` the first Ctrl-C is the ordinary end, which `local` waits for itself.
async fn interrupted(keeps: bool) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminated) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminated.recv() => {}
        _ = tokio::signal::ctrl_c(), if !keeps => {}
    }
}

/// What happened, and under it what caused it.
fn failed(terminal: &Terminal, error: &anyhow::Error) -> ExitCode {
    let mut lines = vec![format!("{} {error}", terminal.bad("error:"))];
    lines.extend(error.chain().skip(1).map(|cause| format!("  because: {cause}")));
    terminal.error(&lines.join("\n"));
    ExitCode::from(2)
}
