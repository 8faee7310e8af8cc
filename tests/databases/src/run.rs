//! One run: databases, stand-ins, broker, pollers, functions and merges together, until everything that was committed is in the final tables or
//! something does not hold.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fastrand::Rng;
use jiff::Timestamp;
use strait_cli::embedded_bigquery::QueryError;
use strait_cli::equality;
use strait_cli::pipeline::{Pipeline, PipelineError, PipelineSettings, in_words};
use strait_cli::runtime_api::{InvocationOutcome, RuntimeApiError};
use strait_cli::terminal::Terminal;
use strait_dms_stand_in::mysql::MySqlTask;
use strait_dms_stand_in::postgresql::PostgreSqlTask;
use strait_dms_stand_in::{Message, Target, TaskError};
use strait_kafka_stand_in::broker::{Broker, BrokerError};
use strait_kafka_stand_in::invoke::{Answered, Invocable, InvokeApi};
use strait_kafka_stand_in::poller::PollerSettings;
use strait_kafka_stand_in::producer::KafkaTarget;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::chaos::{Chaos, Victim};
use crate::contents;
use crate::figures::{self, Freshness};
use crate::server::{self, Server, ServerError};
use crate::settings::Settings;
use crate::shop::{self, Engine, FRESHNESS, ShopTable};
use crate::workload::{self, Client, LAST, Session, Work};

/// How much is done, and how.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Of DMS.
    pub settings: Settings,
    /// Which databases.
    pub engines: Vec<Engine>,
    /// Changes in all.
    pub changes: u64,
    /// Changes a second in all; 0 is as many as there can be.
    pub rate: u64,
    /// Rows of each table before the full load, per client.
    pub initial: usize,
    /// Clients of each database.
    pub clients: u64,
    /// Partitions of each topic.
    pub partitions: i32,
    /// Pollers of each topic.
    pub pollers: usize,
    /// Between two merges.
    pub merge_every: Duration,
    /// Whether tables are altered where the settings tell it.
    pub alterations: bool,
    /// Who is killed.
    pub chaos: Chaos,
    /// Of everything random.
    pub seed: u64,
    /// The folder of `ingest` and `merge`.
    pub functions: PathBuf,
    /// The program `poller`.
    pub poller: PathBuf,
    /// How long what is committed may take to be in the log once the work is over.
    pub patience: Duration,
    /// How long to work, whatever the number of changes; None: by their number.
    pub minutes: Option<f64>,
}

/// Between looks at the memory.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What processes hold in memory at one moment, in bytes; 0 of one that is just not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// The function that appends.
    pub ingest: u64,
    /// The function that merges.
    pub merge: u64,
    /// Stand-ins, clients and schedule.
    pub stand_ins: u64,
}

/// Why a run could not take place.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A database.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The functions or the embedded BigQuery.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A statement for the comparison.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A file or a process.
    #[error("a file or a process of the run")]
    Io(#[from] std::io::Error),
    /// The Kafka client.
    #[error("the Kafka client cannot be made")]
    Kafka(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl RunError {
    /// Whether something is not installed here that a run needs; nothing is wrong with the project then.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::Server(ServerError::NotInstalled { .. })
                | Self::Broker(BrokerError::Setup(_) | BrokerError::NoBinary(_))
                | Self::Pipeline(PipelineError::Embedded(strait_cli::embedded_bigquery::EmbeddedError::Setup(_)))
        )
    }
}

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What does not hold; empty is success.
    pub wrong: Vec<String>,
    /// Changes committed at the sources.
    pub changes: u64,
    /// Messages that the broker took.
    pub messages: u64,
    /// Records in the log, each delivery counted.
    pub logged: u64,
    /// Records in the log, each Kafka record counted once.
    pub distinct: u64,
    /// From the first change to the last one.
    pub worked: Duration,
    /// From the first change until everything was in the log.
    pub until_logged: Duration,
    /// From the first change until everything was in the final tables.
    pub until_merged: Duration,
    /// Merges, and those that ended in an error.
    pub merges: (u64, u64),
    /// Kills by victim.
    pub kills: BTreeMap<Victim, usize>,
    /// Per engine: until the log and until the final table had a commit.
    pub freshness: Vec<(Engine, Freshness, Freshness)>,
    /// The most memory that `ingest` and `merge` held, in bytes.
    pub memory: (u64, u64),
    /// What was held on the way.
    pub footprints: Vec<Footprint>,
}

/// What the sources, the broker and the tasks of one engine are.
struct Side {
    engine: Engine,
    server: Server,
    topic: String,
    work: Arc<Work>,
    /// Clients before they begin.
    waiting: Vec<Client>,
    clients: Vec<JoinHandle<()>>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
    /// Why the task will not go on.
    broken: Arc<Mutex<Option<String>>>,
    seen_last: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    pollers: Vec<(PollerSettings, Child)>,
}

/// What a run stands on.
struct Stage<'r> {
    options: &'r RunOptions,
    terminal: &'r Terminal,
    pipeline: Arc<Pipeline>,
    api: InvokeApi,
    broker: Broker,
    files: TempDir,
    /// Brokers so far: each one's topics have names of their own.
    generation: usize,
}

/// Counts what the broker took, and sees the row that was written last.
struct Watched {
    inner: KafkaTarget,
    taken: Arc<AtomicU64>,
    seen_last: Arc<AtomicBool>,
}

#[async_trait]
impl Target for Watched {
    async fn take(&mut self, messages: Vec<Message>) -> Result<(), TaskError> {
        let count = messages.len() as u64;
        let last = LAST.to_string();
        let is_last = messages.iter().any(|message| message.value.contains(&last) && message.value.contains(FRESHNESS));
        self.inner.take(messages).await?;
        self.taken.fetch_add(count, Ordering::Relaxed);
        if is_last {
            self.seen_last.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

struct Ingest(Arc<Pipeline>);

#[async_trait]
impl Invocable for Ingest {
    async fn invoke(&self, payload: Bytes) -> Result<InvocationOutcome, RuntimeApiError> {
        Ok(self.0.ingest.invoke(payload).await?.outcome)
    }
}

/// Merges on a schedule.
#[derive(Debug, Default)]
struct Merges {
    answered: Vec<Answered>,
    failed: u64,
    last_failure: String,
}

/// Plays a run, and says on the terminal how it goes.
///
/// # Errors
/// [`RunError`] when it could not take place; what does not hold is in the [`Report`].
pub async fn play(options: &RunOptions, terminal: &Terminal) -> Result<Report, RunError> {
    let observe = |step| terminal.line(terminal.dim(&format!("{step} …")));
    let files = tempfile::tempdir()?;
    let broker = Broker::start(&observe).await?;
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    variables.insert("STRAIT_ABSENT_COLUMNS".to_owned(), options.settings.absent_columns.to_owned());
    variables.insert("STRAIT_DROPPED_COLUMNS".to_owned(), "drop".to_owned());
    let mut pipeline = PipelineSettings::new(variables);
    pipeline.functions.clone_from(&options.functions);
    pipeline.logs = Some(files.path().to_path_buf());
    let mut servers = Vec::new();
    for engine in &options.engines {
        terminal.line(terminal.dim(&format!("starting {} …", engine.name())));
        servers.push(match engine {
            Engine::MariaDb => server::mariadb(engine.schema()).await?,
            Engine::PostgreSql => server::postgresql().await?,
        });
    }
    let pipeline = Arc::new(Pipeline::start(pipeline, &observe).await?);
    let api = InvokeApi::start(Arc::new(Ingest(Arc::clone(&pipeline)))).await?;

    let mut sides = Vec::new();
    for (engine, server) in options.engines.iter().zip(servers) {
        sides.push(open(options, *engine, server, &pipeline).await?);
    }
    terminal.line(terminal.dim("the shop opens …"));
    let merges = Arc::new(Mutex::new(Merges::default()));
    let is_over = Arc::new(AtomicBool::new(false));
    let merging =
        merge_on_schedule(Arc::clone(&pipeline), Arc::clone(&merges), options.merge_every, Arc::clone(&is_over));
    let merging = tokio::spawn(merging);
    let mut report = Report::default();
    let began = Instant::now();
    let mut stage = Stage { options, terminal, pipeline, api, broker, files, generation: 0 };
    for side in &mut sides {
        stage.connect(side).await?;
        // The full load takes place while they work.
        for mut client in side.waiting.drain(..) {
            let work = Arc::clone(&side.work);
            side.clients.push(tokio::spawn(async move { client.work(&work).await }));
        }
        let session = Session::open(side.engine, &side.server).await;
        let time = workload::keep_time(session, Arc::clone(&side.work), Duration::from_millis(100));
        side.clients.push(tokio::spawn(time));
    }
    at_work(&mut stage, &mut sides, &mut report).await?;
    report.worked = began.elapsed();
    report.changes = sides.iter().map(|side| side.work.changes.load(Ordering::Relaxed)).sum();
    until_logged(&stage, &mut sides, &mut report).await?;
    let Stage { pipeline, api, files, generation, .. } = &stage;
    report.until_logged = began.elapsed();
    is_over.store(true, Ordering::Relaxed);
    // A merge in progress comes to its end.
    let _ = merging.await;
    let last = Timestamp::now();
    if *generation > 0 {
        // Everything is read, so the operator may say that the loads are complete.
        let event = serde_json::json!({"tables": ["*.*"], "reload": "complete"}).to_string();
        let outcome = pipeline.merge.invoke(event).await.map_err(PipelineError::from)?.outcome;
        if !matches!(outcome, InvocationOutcome::Response(_)) {
            report.wrong.push(format!("the word that the loads are complete failed: {}", in_words(&outcome)));
        }
    }
    match pipeline.merge_until_settled().await {
        Ok(answers) => {
            merges.lock().unwrap().answered.push(Answered { began: last, ended: Timestamp::now() });
            for table in answers.last().into_iter().flatten() {
                if !matches!(table.outcome.as_str(), "merged" | "idle") {
                    let reason = table.reason.as_deref().unwrap_or_default();
                    report.wrong.push(format!("{} is {} at the end: {reason}", table.table, table.outcome));
                }
            }
        }
        Err(error) => report.wrong.push(format!("the last merge failed: {error}")),
    }
    report.until_merged = began.elapsed();
    {
        let merges = merges.lock().unwrap();
        report.merges = (merges.answered.len() as u64 + merges.failed, merges.failed);
        if merges.failed > 0 && options.chaos.victims.is_empty() {
            report.wrong.push(format!("{} merges failed; the last: {}", merges.failed, merges.last_failure));
        }
    }

    judge(options, &sides, pipeline, &mut report, terminal).await?;
    let merged = merges.lock().unwrap().answered.clone();
    for side in &sides {
        let (log, finals) = figures::freshness(&pipeline.bigquery, side.engine, &api.answered(), &merged).await;
        report.freshness.push((side.engine, log, finals));
    }
    report.memory = (pipeline.ingest.peak_memory().unwrap_or(0), pipeline.merge.peak_memory().unwrap_or(0));
    let dead = std::fs::read_dir(files.path().join("dead"))?.count();
    if dead > 0 {
        report.wrong.push(format!("{dead} records lie at the on-failure destination"));
    }
    for side in sides {
        if let Some(task) = side.task.lock().unwrap().take() {
            task.abort();
        }
    }
    Ok(report)
}

/// The tables at the source, their first rows, and, where DMS will not define them, the final tables.
async fn open(options: &RunOptions, engine: Engine, server: Server, pipeline: &Pipeline) -> Result<Side, RunError> {
    let settings = &options.settings;
    let tables = shop::tables(engine, settings.is_exact());
    let mut session = Session::open(engine, &server).await;
    if engine == Engine::PostgreSql {
        let labels: Vec<String> = shop::LABELS.iter().map(|label| format!("'{label}'")).collect();
        session.run(&format!("CREATE SCHEMA store; CREATE TYPE store.state AS ENUM ({})", labels.join(", "))).await;
    }
    for table in &tables {
        session.run(&table.create(engine)).await;
        if engine == Engine::PostgreSql {
            for column in table.columns.iter().filter(|column| column.generator == shop::Generator::LongText) {
                let (table, column) = (table.name, &column.name);
                session.run(&format!("ALTER TABLE store.{table} ALTER COLUMN {column} SET STORAGE EXTERNAL")).await;
            }
        }
    }
    if !settings.defines_tables() {
        // The second side finds the dataset of the first.
        let _ = pipeline.bigquery.query("CREATE SCHEMA `replica`").await;
        for table in &tables {
            pipeline.bigquery.query(&table.create_final(&final_name(engine, table))).await?;
        }
    }
    let share = options.engines.len() as u64;
    let work = Work::new(tables.clone(), settings.key_changes(), options.changes / share, options.rate / share);
    let mut clients = Vec::new();
    let seed = options.seed.wrapping_mul(2).wrapping_add(u64::from(engine == Engine::PostgreSql));
    for place in 0..options.clients {
        let session = Session::open(engine, &server).await;
        let mut client = Client::new(session, seed.wrapping_mul(1000), place, options.clients, tables.len());
        client.open_shop(&tables, options.initial).await;
        clients.push(client);
    }
    Ok(Side {
        engine,
        server,
        topic: format!("dms-{}", engine.schema()),
        work,
        waiting: clients,
        clients: Vec::new(),
        task: Arc::default(),
        broken: Arc::default(),
        seen_last: Arc::default(),
        taken: Arc::default(),
        pollers: Vec::new(),
    })
}

/// What Strait calls a source table's final table by default.
fn final_name(engine: Engine, table: &ShopTable) -> String {
    format!("replica.{}_{}", engine.schema(), table.name)
}

/// The stand-in for DMS, begun again whenever it fails.
fn start_task(options: &RunOptions, side: &Side, broker: &Broker, files: &TempDir) -> Result<(), RunError> {
    let engine = side.engine;
    let tables: Vec<String> = shop::tables(engine, true).iter().map(|table| table.name.to_owned()).collect();
    let (endpoint, task) = (options.settings.endpoint, options.settings.task);
    let checkpoint = checkpoint(engine, files);
    let target = KafkaTarget::new(&broker.bootstrap, &side.topic).map_err(|error| RunError::Kafka(Box::new(error)))?;
    let mut target = Watched { inner: target, taken: Arc::clone(&side.taken), seen_last: Arc::clone(&side.seen_last) };
    let (schema, port, broken) = (engine.schema().to_owned(), side.server.port, Arc::clone(&side.broken));
    let running = tokio::spawn(async move {
        loop {
            let ended = match engine {
                Engine::MariaDb => {
                    let (host, user) = ("127.0.0.1".to_owned(), "root".to_owned());
                    let (schema, tables, checkpoint) = (schema.clone(), tables.clone(), checkpoint.clone());
                    let task =
                        MySqlTask { host, port, user, schema, tables, endpoint, task, checkpoint, server_id: 4242 };
                    task.run(&mut target).await
                }
                Engine::PostgreSql => {
                    let url = server::postgresql_url(port);
                    let (schema, tables, checkpoint) = (schema.clone(), tables.clone(), checkpoint.clone());
                    let slot = "strait".to_owned();
                    PostgreSqlTask { url, slot, schema, tables, endpoint, task, checkpoint }.run(&mut target).await
                }
            };
            let Err(error) = ended;
            // What it does not know now it will not know the next time.
            let is_final = matches!(error, TaskError::Unknown(_));
            let error = anyhow::Error::from(error);
            if is_final {
                *broken.lock().unwrap() = Some(format!("the DMS task of {} stopped: {error:#}", engine.name()));
                return;
            }
            tell(&format!("the DMS task of {} stopped and begins again: {error:#}", engine.name()));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    if let Some(former) = side.task.lock().unwrap().replace(running) {
        former.abort();
    }
    Ok(())
}

/// Where a task keeps its position; it is there once the full load is over.
fn checkpoint(engine: Engine, files: &TempDir) -> PathBuf {
    files.path().join(format!("position-{}", engine.schema()))
}

#[allow(clippy::print_stderr, reason = "what went wrong on the way, for a person")]
fn tell(text: &str) {
    eprintln!("{text}");
}

fn poller_settings(side: &Side, broker: &Broker, api: &InvokeApi, files: &TempDir) -> PollerSettings {
    let on_failure = files.path().join("dead");
    std::fs::create_dir_all(&on_failure).unwrap();
    PollerSettings {
        bootstrap: broker.bootstrap.clone(),
        topic: side.topic.clone(),
        group: format!("strait-{}", side.topic),
        function_url: api.url.clone(),
        // The template's, but for the window: a person waits here.
        batch_size: 2_000,
        window_ms: 300,
        bisect: true,
        retries: None,
        on_failure,
        pause_ms: 100,
    }
}

fn start_poller(options: &RunOptions, settings: &PollerSettings) -> std::io::Result<Child> {
    let settings = serde_json::to_string(settings).map_err(std::io::Error::other)?;
    Command::new(&options.poller).arg(settings).stdin(std::process::Stdio::null()).kill_on_drop(true).spawn()
}

async fn merge_on_schedule(
    pipeline: Arc<Pipeline>,
    merges: Arc<Mutex<Merges>>,
    every: Duration,
    is_over: Arc<AtomicBool>,
) {
    let mut schedule = tokio::time::interval(every);
    // One at a time, as reserved concurrency 1 has it; what was due meanwhile is left out.
    schedule.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    while !is_over.load(Ordering::Relaxed) {
        schedule.tick().await;
        let began = Timestamp::now();
        let outcome = pipeline.merge_once().await;
        let mut merges = merges.lock().unwrap();
        match outcome {
            Ok(_) => merges.answered.push(Answered { began, ended: Timestamp::now() }),
            Err(error) => {
                merges.failed += 1;
                merges.last_failure = error.to_string();
            }
        }
    }
}

/// Until the clients are done: tables are altered, things are killed and begin again.
async fn at_work(stage: &mut Stage<'_>, sides: &mut [Side], report: &mut Report) -> Result<(), RunError> {
    let (options, terminal) = (stage.options, stage.terminal);
    let mut rng = Rng::with_seed(options.seed);
    let mut alterations: Vec<(usize, u64, shop::Alteration)> = Vec::new();
    if options.alterations && options.settings.defines_tables() {
        for (place, side) in sides.iter().enumerate() {
            let all = shop::alterations(side.engine);
            let count = all.len() as u64 + 1;
            let goal = side.work.goal.load(Ordering::Relaxed);
            alterations.extend(all.into_iter().zip(1..).map(|(it, number)| (place, goal * number / count, it)));
        }
    }
    let end = options.minutes.map(|minutes| Instant::now() + Duration::from_secs_f64(minutes * 60.0));
    let progress = terminal.progress(usize::try_from(options.changes).unwrap_or(usize::MAX));
    let mut next_look = Instant::now() + LOOK_EVERY;
    let mut next_kill = options.chaos.next(&mut rng).map(|(victim, after)| (victim, Instant::now() + after));
    while sides.iter().any(|side| side.clients.iter().any(|client| !client.is_finished())) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let done: u64 = sides.iter().map(|side| side.work.changes.load(Ordering::Relaxed)).sum();
        progress.at(usize::try_from(done).unwrap_or(usize::MAX), "the shop is at work");
        stage.start_pollers_again(sides)?;
        let is_broken = sides.iter().any(|side| side.broken.lock().unwrap().is_some());
        if is_broken || end.is_some_and(|end| Instant::now() > end) {
            sides.iter().for_each(|side| side.work.is_over.store(true, Ordering::Relaxed));
        }
        for side in sides.iter() {
            side.work.is_loaded.store(checkpoint(side.engine, &stage.files).exists(), Ordering::Relaxed);
        }
        if Instant::now() >= next_look {
            report.footprints.push(stage.footprint());
            next_look += LOOK_EVERY;
        }
        for (place, at, alteration) in std::mem::take(&mut alterations) {
            let side = &sides[place];
            // What a load reads must not change under it: DMS suspends such a table.
            if side.work.is_loaded.load(Ordering::Relaxed) && side.work.changes.load(Ordering::Relaxed) >= at {
                let mut session = Session::open(side.engine, &side.server).await;
                side.work.alter(&mut session, &alteration).await;
            } else {
                alterations.push((place, at, alteration));
            }
        }
        let killed: usize = report.kills.values().sum();
        if let Some((victim, at)) = next_kill
            && Instant::now() >= at
            && options.chaos.kills.is_none_or(|most| killed < most)
        {
            stage.kill(victim, sides, &mut rng).await?;
            *report.kills.entry(victim).or_default() += 1;
            next_kill = options.chaos.next(&mut rng).map(|(victim, after)| (victim, Instant::now() + after));
        }
    }
    progress.finish();
    for side in sides.iter_mut() {
        for client in side.clients.drain(..) {
            if let Err(error) = client.await {
                report.wrong.push(format!("a client of {} failed: {error}", side.engine.name()));
            }
        }
        // It is a row of a commit that comes after all others.
        let mut session = Session::open(side.engine, &side.server).await;
        workload::write_last(&mut session).await;
    }
    // As many as were asked for, also when the work was done before.
    while options.chaos.kills.is_some_and(|most| report.kills.values().sum::<usize>() < most) {
        let Some((victim, after)) = options.chaos.next(&mut rng) else {
            break;
        };
        tokio::time::sleep(after).await;
        stage.kill(victim, sides, &mut rng).await?;
        *report.kills.entry(victim).or_default() += 1;
    }
    Ok(())
}

impl Stage<'_> {
    /// A topic, a task that writes to it and pollers that read it.
    async fn connect(&self, side: &mut Side) -> Result<(), RunError> {
        self.broker.create_topic(&side.topic, self.options.partitions).await?;
        start_task(self.options, side, &self.broker, &self.files)?;
        for _ in 0..self.options.pollers {
            let settings = poller_settings(side, &self.broker, &self.api, &self.files);
            let child = start_poller(self.options, &settings)?;
            side.pollers.push((settings, child));
        }
        Ok(())
    }

    async fn kill(&mut self, victim: Victim, sides: &mut [Side], rng: &mut Rng) -> Result<(), RunError> {
        let side = &mut sides[rng.usize(..sides.len())];
        match victim {
            Victim::Poller => {
                let chosen = rng.usize(..side.pollers.len());
                let (settings, child) = &mut side.pollers[chosen];
                child.kill().await?;
                *child = start_poller(self.options, settings)?;
            }
            Victim::Ingest => self.pipeline.ingest.kill().await,
            Victim::Merge => self.pipeline.merge.kill().await,
            Victim::Task => start_task(self.options, side, &self.broker, &self.files)?,
            Victim::BigQuery => self.pipeline.bigquery.kill_and_restart().await.map_err(PipelineError::from)?,
            Victim::Broker => self.lose_the_broker(sides).await?,
        }
        Ok(())
    }

    /// Its records are gone, read or not. An operator then has DMS load everything again, onto topics of other names: the offsets of the
    /// same ones would begin again, and tell nothing apart any more.
    async fn lose_the_broker(&mut self, sides: &mut [Side]) -> Result<(), RunError> {
        self.broker.kill_and_restart().await?;
        self.generation += 1;
        for side in sides {
            if let Some(task) = side.task.lock().unwrap().take() {
                task.abort();
            }
            for (_, mut poller) in side.pollers.drain(..) {
                poller.kill().await?;
            }
            side.work.is_loaded.store(false, Ordering::Relaxed);
            let _ = std::fs::remove_file(checkpoint(side.engine, &self.files));
            // Transactions that began while rows might still be added to tables without a key.
            drop(side.work.tables.write().await);
            if side.engine == Engine::PostgreSql {
                let mut session = Session::open(side.engine, &side.server).await;
                // The task's own connection may take a moment to end; the next load makes another slot.
                session
                    .run(
                        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'strait' AND active; \
                         SELECT pg_sleep(0.2); \
                         SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'strait'",
                    )
                    .await;
            }
            side.topic = format!("dms-{}-{}", side.engine.schema(), self.generation);
            side.taken = Arc::default();
            side.seen_last = Arc::default();
            self.connect(side).await?;
        }
        Ok(())
    }

    /// Lambda's pollers do not end because a broker was away; these do, and begin again.
    fn start_pollers_again(&self, sides: &mut [Side]) -> std::io::Result<()> {
        for (settings, child) in sides.iter_mut().flat_map(|side| &mut side.pollers) {
            if let Some(status) = child.try_wait()? {
                tell(&format!("a poller of {} ended by itself ({status}) and begins again", settings.topic));
                *child = start_poller(self.options, settings)?;
            }
        }
        Ok(())
    }

    fn footprint(&self) -> Footprint {
        let of = |id: Option<u32>| id.and_then(resident).unwrap_or(0);
        Footprint {
            ingest: of(self.pipeline.ingest.process_id()),
            merge: of(self.pipeline.merge.process_id()),
            stand_ins: of(Some(std::process::id())),
        }
    }
}

/// What a process holds in memory, in bytes.
fn resident(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Until every message that the broker took is in the log. A poller that ended by itself is told.
async fn until_logged(stage: &Stage<'_>, sides: &mut [Side], report: &mut Report) -> Result<(), RunError> {
    let (options, pipeline) = (stage.options, &stage.pipeline);
    let mut told = Instant::now();
    let end = Instant::now() + options.patience;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let broken: Vec<String> = sides.iter().filter_map(|side| side.broken.lock().unwrap().clone()).collect();
        if !broken.is_empty() {
            report.wrong.extend(broken);
            return Ok(());
        }
        stage.start_pollers_again(sides)?;
        let taken: u64 = sides.iter().map(|side| side.taken.load(Ordering::Relaxed)).sum();
        let all_taken = sides.iter().all(|side| side.seen_last.load(Ordering::Relaxed));
        let is_late = Instant::now() > end;
        let is_time_to_tell = told.elapsed() > Duration::from_secs(10);
        if !all_taken && !is_late && !is_time_to_tell {
            continue;
        }
        let log = log_of(pipeline).await?;
        (report.messages, report.logged) = (taken, log.iter().map(|it| it.records).sum());
        report.distinct = log.iter().map(|it| it.distinct).sum();
        // Of topics that are gone nothing comes any more.
        let topics: Vec<&str> = sides.iter().map(|side| side.topic.as_str()).collect();
        let of_these = log.iter().filter(|it| topics.contains(&it.topic.as_str()));
        let logged = of_these.map(|it| it.distinct).sum::<u64>();
        if all_taken && logged >= taken {
            return Ok(());
        }
        if is_time_to_tell {
            told = Instant::now();
            let all = if all_taken { "" } else { ", and the broker has not taken every change" };
            stage.terminal.line(format!("  {logged} of {taken} messages are in the log{all}"));
        }
        if is_late {
            let seconds = options.patience.as_secs();
            let all = if all_taken { "" } else { "; not every change was taken by the broker" };
            report.wrong.push(format!(
                "of {taken} messages {} are in the log {seconds} s after the last change{all}",
                report.distinct
            ));
            return Ok(());
        }
    }
}

struct LoggedPartition {
    topic: String,
    name: String,
    records: u64,
    distinct: u64,
    gaps: u64,
}

/// The log by Kafka identity.
async fn log_of(pipeline: &Pipeline) -> Result<Vec<LoggedPartition>, QueryError> {
    let sql = "SELECT kafka_topic, CONCAT(kafka_topic, '-', kafka_partition), CAST(COUNT(*) AS STRING), \
               CAST(COUNT(DISTINCT kafka_offset) AS STRING), CAST(MAX(kafka_offset) + 1 AS STRING) \
               FROM `cdc.log` GROUP BY kafka_topic, kafka_partition";
    let rows = match pipeline.bigquery.query(sql).await {
        Err(QueryError::Refused { status: 404, .. }) => return Ok(Vec::new()),
        other => other?.rows,
    };
    let number = |cell: &Option<String>| cell.as_deref().and_then(|cell| cell.parse::<u64>().ok()).unwrap_or(0);
    Ok(rows
        .iter()
        .map(|row| LoggedPartition {
            topic: row[0].clone().unwrap_or_default(),
            name: row[1].clone().unwrap_or_default(),
            records: number(&row[2]),
            distinct: number(&row[3]),
            // A partition begins at 0.
            gaps: number(&row[4]).saturating_sub(number(&row[3])),
        })
        .collect())
}

/// Nothing is missing from the log, nothing is left in quarantine, and every final table equals its source.
async fn judge(
    options: &RunOptions,
    sides: &[Side],
    pipeline: &Pipeline,
    report: &mut Report,
    terminal: &Terminal,
) -> Result<(), RunError> {
    for partition in log_of(pipeline).await?.iter().filter(|partition| partition.gaps > 0) {
        report.wrong.push(format!("{} records of {} are not in the log", partition.gaps, partition.name));
    }
    let poison = "SELECT CAST(COUNT(*) AS STRING) FROM `cdc.log` WHERE operation = 'poison'";
    let count = pipeline.bigquery.query(poison).await?.rows;
    if count[0][0].as_deref() != Some("0") {
        report.wrong.push(format!("{} records could not be decoded", count[0][0].as_deref().unwrap_or("?")));
    }
    // A change that came before the record of its column's new type waits there, and is merged again once that has come.
    let quarantine = "SELECT source_table, `column`, reason, CAST(COUNT(*) AS STRING) FROM `cdc.quarantine` \
                      WHERE resolved_at IS NULL \
                      GROUP BY source_table, `column`, reason ORDER BY 4 DESC LIMIT 10";
    match pipeline.bigquery.query(quarantine).await {
        Err(QueryError::Refused { status: 404, .. }) => {}
        other => {
            for row in other?.rows {
                let cells: Vec<String> = row.into_iter().map(|cell| cell.unwrap_or_default()).collect();
                report.wrong.push(format!("in quarantine: {}", cells.join(" | ")));
            }
        }
    }
    let keeps_empty = options.settings.endpoint.include_null_and_empty;
    let mut expected = Vec::new();
    for side in sides {
        let mut session = Session::open(side.engine, &side.server).await;
        for table in side.work.tables.read().await.iter() {
            let name = final_name(side.engine, table);
            expected.push(contents::of(&mut session, table, &name, keeps_empty).await);
        }
    }
    if !equality::compare_tables(pipeline, &expected, terminal).await? {
        report.wrong.push("not every final table equals its source".to_owned());
    }
    Ok(())
}
