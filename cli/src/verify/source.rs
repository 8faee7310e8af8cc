//! The connection to the source database: read-only, with a time limit for every statement, and no lock. It knows no table; it
//! answers a statement with rows of text. It must never write, never hold a transaction open between statements, and never
//! put a password or a row's value into an error.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use reqwest::Url;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use strait::merge::types::map::Engine;
use strait::names::SourceTable;
use strait::position::SourcePoint;
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;

use strait::merge::types::canonical::{mysql_text, postgresql_text};

use super::pairing::CatalogueColumn;

/// A row: a text for each column, NULL as None.
pub type TextRow = Vec<Option<String>>;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Where the source is, and how long it may take.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// `mysql://user@host:3306/` or `postgres://user@host:5432/database`, without a password.
    pub url: String,
    /// A file that holds the password; else the variable of the engine's own client.
    pub password_file: Option<PathBuf>,
    /// A file of certificates in PEM, of the authorities that sign the server's; else the public ones.
    pub ca_file: Option<PathBuf>,
    /// Without TLS.
    pub plaintext: bool,
    /// For one statement.
    pub statement_timeout: Duration,
}

/// Why the source cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The URL.
    #[error("--source: {0}. Expected mysql://USER@HOST:3306 or postgres://USER@HOST:5432/DATABASE")]
    Url(&'static str),
    /// A file.
    #[error("cannot read {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The certificates.
    #[error("{} holds no certificate in PEM", .0.display())]
    Certificates(PathBuf),
    /// TLS.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// No connection.
    #[error("the source at {host} did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    NoAnswer {
        /// Host and port.
        host: String,
    },
    /// MySQL or MariaDB refused something. What it says of a value is left out.
    #[error("the source refused {what} (error {code}, SQL state {state})")]
    MySql {
        /// What was asked.
        what: &'static str,
        /// The server's number of the error.
        code: u16,
        /// Its class.
        state: String,
    },
    /// The connection to MySQL or MariaDB.
    #[error("the connection to the source failed while it was asked for {what}: {kind}")]
    MySqlConnection {
        /// What was asked.
        what: &'static str,
        /// What kind of failure.
        kind: String,
    },
    /// PostgreSQL refused something. What it says of a value is left out.
    #[error("the source refused {what} (SQL state {state}{})", .hint.as_ref().map(|hint| format!(": {hint}")).unwrap_or_default())]
    PostgreSql {
        /// What was asked.
        what: &'static str,
        /// The error's class.
        state: String,
        /// The server's words, of errors that quote no value.
        hint: Option<String>,
    },
    /// The connection to PostgreSQL.
    #[error("the connection to the source failed while it was asked for {what}")]
    PostgreSqlConnection {
        /// What was asked.
        what: &'static str,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// It does not know its own position.
    #[error("the source does not say at which position it is, so nothing can be repaired from it: {0}")]
    NoPosition(&'static str),
}

enum Connection {
    MySql(mysql_async::Conn),
    PostgreSql { client: tokio_postgres::Client, driver: tokio::task::JoinHandle<()> },
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::MySql(_) => "MySql",
            Self::PostgreSql { .. } => "PostgreSql",
        })
    }
}

/// A connected source.
#[derive(Debug)]
pub struct Source {
    connection: Connection,
}

impl Source {
    /// Connects and makes the session read-only.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn connect(options: &SourceOptions) -> Result<Self, SourceError> {
        let url = Url::parse(&options.url).map_err(|_| SourceError::Url("it is no URL"))?;
        if url.password().is_some() {
            return Err(SourceError::Url(
                "a password does not belong there, for every process of the machine can read it; use --password-file, MYSQL_PWD or PGPASSWORD",
            ));
        }
        if url.query().is_some() {
            return Err(SourceError::Url("it takes no parameters; see --ca and --plaintext"));
        }
        let mut source = match url.scheme() {
            "mysql" | "mariadb" => Self { connection: mysql(options, &url).await? },
            "postgres" | "postgresql" => Self { connection: postgresql(options, &url).await? },
            _ => return Err(SourceError::Url("the scheme is neither mysql nor postgres")),
        };
        source.make_read_only(options.statement_timeout).await?;
        Ok(source)
    }

    /// Whose database it is.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match self.connection {
            Connection::MySql(_) => Engine::MySql,
            Connection::PostgreSql { .. } => Engine::PostgreSql,
        }
    }

    async fn make_read_only(&mut self, statement_timeout: Duration) -> Result<(), SourceError> {
        let (what, seconds) = ("a read-only session", statement_timeout.as_secs());
        match self.engine() {
            Engine::MySql => {
                // Each statement is a transaction, and so a snapshot, of its own.
                for sql in [
                    "SET NAMES utf8mb4",
                    "SET SESSION sql_mode = '', SESSION time_zone = '+00:00', SESSION autocommit = 1, SESSION lock_wait_timeout = 5",
                    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                    "SET SESSION TRANSACTION READ ONLY",
                ] {
                    self.rows(sql, what).await?;
                }
                // MySQL's in milliseconds, MariaDB's in seconds; each knows its own alone.
                let limits = [
                    format!("SET SESSION max_execution_time = {}", seconds.saturating_mul(1000)),
                    format!("SET SESSION max_statement_time = {seconds}"),
                ];
                let mut limited = Err(SourceError::NoPosition(""));
                for sql in &limits {
                    limited = self.rows(sql, "a time limit for statements").await.map(|_| ());
                    if limited.is_ok() {
                        break;
                    }
                }
                limited
            }
            Engine::PostgreSql => {
                let sql = format!(
                    "SET default_transaction_read_only = on; SET default_transaction_isolation = 'repeatable read'; \
                     SET statement_timeout = '{seconds}s'; SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '60s'; \
                     SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; SET DateStyle = 'ISO, YMD'; \
                     SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET extra_float_digits = 1; SET bytea_output = 'hex'; \
                     SET lc_monetary = 'C'; SET xmloption = 'content'; SET jit = off"
                );
                self.rows(&sql, what).await.map(|_| ())
            }
        }
    }

    /// Runs a statement and returns its rows. `what` names it in errors.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn rows(&mut self, sql: &str, what: &'static str) -> Result<Vec<TextRow>, SourceError> {
        match &mut self.connection {
            Connection::MySql(connection) => {
                let rows: Vec<mysql_async::Row> =
                    connection.query(sql).await.map_err(|error| mysql_error(what, &error))?;
                Ok(rows.into_iter().map(mysql_row).collect())
            }
            Connection::PostgreSql { client, .. } => {
                let messages = client.simple_query(sql).await.map_err(|error| postgresql_error(what, error))?;
                let rows = messages.into_iter().filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => {
                        Some((0..row.len()).map(|place| row.try_get(place).ok().flatten().map(str::to_owned)).collect())
                    }
                    _ => None,
                });
                Ok(rows.collect())
            }
        }
    }

    /// The table's columns in their order; none if there is no such table.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn catalogue(&mut self, table: &SourceTable) -> Result<Vec<CatalogueColumn>, SourceError> {
        let sql = match self.engine() {
            Engine::MySql => format!(
                "SELECT c.COLUMN_NAME, c.COLUMN_TYPE, k.ORDINAL_POSITION FROM information_schema.COLUMNS c \
                 LEFT JOIN information_schema.KEY_COLUMN_USAGE k ON k.CONSTRAINT_NAME = 'PRIMARY' \
                 AND k.TABLE_SCHEMA = c.TABLE_SCHEMA AND k.TABLE_NAME = c.TABLE_NAME AND k.COLUMN_NAME = c.COLUMN_NAME \
                 WHERE c.TABLE_SCHEMA = {} AND c.TABLE_NAME = {} ORDER BY c.ORDINAL_POSITION",
                mysql_text(&table.schema),
                mysql_text(&table.table)
            ),
            // information_schema hides a key from those who may only read. A domain's values are its base type's.
            Engine::PostgreSql => format!(
                "SELECT a.attname, CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) \
                 ELSE format_type(a.atttypid, a.atttypmod) END, array_position(i.indkey::int2[], a.attnum) + 1 \
                 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
                 JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary \
                 AND a.attnum = ANY (i.indkey) \
                 WHERE n.nspname = {} AND c.relname = {} AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped \
                 ORDER BY a.attnum",
                postgresql_text(&table.schema),
                postgresql_text(&table.table)
            ),
        };
        let column = |row: TextRow| {
            let mut cells = row.into_iter();
            Some(CatalogueColumn {
                name: cells.next()??,
                column_type: cells.next()??,
                key_position: cells.next().flatten().and_then(|position| position.parse().ok()),
            })
        };
        Ok(self.rows(&sql, "the table's columns").await?.into_iter().filter_map(column).collect())
    }

    /// About how many rows the table has, by its statistics.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn estimated_rows(&mut self, table: &SourceTable) -> Result<u64, SourceError> {
        let sql = match self.engine() {
            Engine::MySql => format!(
                "SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
                mysql_text(&table.schema),
                mysql_text(&table.table)
            ),
            Engine::PostgreSql => format!(
                "SELECT GREATEST(c.reltuples, 0)::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = {} AND c.relname = {}",
                postgresql_text(&table.schema),
                postgresql_text(&table.table)
            ),
        };
        let rows = self.rows(&sql, "the table's statistics").await?;
        Ok(first(&rows).and_then(|rows| rows.parse().ok()).unwrap_or(0))
    }

    /// Where the source's log of changes is now, and what the source's clock says, in µs since the epoch.
    ///
    /// # Errors
    /// When it does not say, or is a replica, whose positions DMS does not read.
    pub async fn point(&mut self) -> Result<(SourcePoint, i64), SourceError> {
        let what = "its position";
        match self.engine() {
            Engine::MySql => {
                let is_read_only = "SELECT @@read_only";
                if first(&self.rows(is_read_only, what).await?) != Some("0") {
                    return Err(SourceError::NoPosition(
                        "it is a replica (read_only); use the endpoint that DMS reads from",
                    ));
                }
                let mut answer = Err(SourceError::NoPosition(""));
                // MySQL 8.4, MariaDB, and both before.
                for sql in ["SHOW BINARY LOG STATUS", "SHOW BINLOG STATUS", "SHOW MASTER STATUS"] {
                    answer = self.rows(sql, what).await;
                    if answer.is_ok() {
                        break;
                    }
                }
                let rows = answer?;
                let row = rows.first().ok_or(SourceError::NoPosition("it writes no binlog"))?;
                let (file, position) = match row.as_slice() {
                    [Some(file), Some(position), ..] => (file, position),
                    _ => return Err(SourceError::NoPosition("its answer is not understood")),
                };
                let number = file.rsplit_once('.').and_then(|(_, number)| number.parse().ok());
                let (Some(file), Ok(position)) = (number, position.parse()) else {
                    return Err(SourceError::NoPosition("its answer is not understood"));
                };
                let now = self.rows("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)", what).await?;
                Ok((SourcePoint::MySql { file, position }, clock(&now)?))
            }
            Engine::PostgreSql => {
                if first(&self.rows("SELECT pg_is_in_recovery()::int", what).await?) != Some("0") {
                    return Err(SourceError::NoPosition("it is a replica; use the endpoint that DMS reads from"));
                }
                let sql = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn";
                let lsn = self.rows(sql, what).await?;
                let lsn = first(&lsn).and_then(|lsn| lsn.parse().ok());
                let lsn = lsn.ok_or(SourceError::NoPosition("its answer is not understood"))?;
                let now = self.rows("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint", what).await?;
                Ok((SourcePoint::PostgreSql { lsn }, clock(&now)?))
            }
        }
    }

    /// PostgreSQL: the transactions that have written and not ended, prepared ones too. Each holds a lock on its own number before it
    /// writes, until others see what it wrote; the list of locks is open to every user. (A snapshot does not tell: its `xmax` is the
    /// first that has not *ended*, which may have written long ago.)
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn transactions(&mut self) -> Result<Vec<String>, SourceError> {
        let sql = "SELECT transactionid::text FROM pg_locks WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted";
        let rows = self.rows(sql, "its open transactions").await?;
        Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
    }

    /// Ends the session.
    pub async fn disconnect(self) {
        match self.connection {
            Connection::MySql(connection) => {
                let _ = connection.disconnect().await;
            }
            Connection::PostgreSql { client, driver } => {
                drop(client);
                let _ = driver.await;
            }
        }
    }
}

fn first(rows: &[TextRow]) -> Option<&str> {
    rows.first()?.first()?.as_deref()
}

fn clock(rows: &[TextRow]) -> Result<i64, SourceError> {
    first(rows).and_then(|now| now.parse().ok()).ok_or(SourceError::NoPosition("its clock is not understood"))
}

fn mysql_row(row: mysql_async::Row) -> TextRow {
    let text = |value| match value {
        mysql_async::Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        mysql_async::Value::NULL => None,
        // The text protocol has only texts; what some server sends otherwise is a number.
        mysql_async::Value::Int(number) => Some(number.to_string()),
        mysql_async::Value::UInt(number) => Some(number.to_string()),
        other => Some(other.as_sql(true)),
    };
    row.unwrap().into_iter().map(text).collect()
}

/// An error's message may quote a value or, of a parse error, the statement with keys in it.
fn mysql_error(what: &'static str, error: &mysql_async::Error) -> SourceError {
    match error {
        mysql_async::Error::Server(error) => SourceError::MySql { what, code: error.code, state: error.state.clone() },
        other => SourceError::MySqlConnection { what, kind: mysql_kind(other) },
    }
}

fn mysql_kind(error: &mysql_async::Error) -> String {
    match error {
        mysql_async::Error::Io(error) => error.to_string(),
        mysql_async::Error::Driver(error) => error.to_string(),
        _ => "its answer is not understood".to_owned(),
    }
}

fn postgresql_error(what: &'static str, error: tokio_postgres::Error) -> SourceError {
    // Of these classes the words name objects and limits, not values: connection, access, syntax, resources, intervention.
    const WITHOUT_VALUES: [&str; 6] = ["08", "28", "42", "53", "57", "55"];
    match error.as_db_error() {
        Some(of_server) => {
            let state = of_server.code().code().to_owned();
            let is_shown = WITHOUT_VALUES.iter().any(|class| state.starts_with(class));
            SourceError::PostgreSql { what, hint: is_shown.then(|| of_server.message().to_owned()), state }
        }
        None => SourceError::PostgreSqlConnection { what, source: error },
    }
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, SourceError> {
    std::fs::read(path).map_err(|source| SourceError::File { path: path.to_path_buf(), source })
}

fn password(options: &SourceOptions, variable: &str) -> Result<Option<String>, SourceError> {
    match &options.password_file {
        Some(path) => {
            let text = String::from_utf8_lossy(&read(path)?).into_owned();
            Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
        }
        None => Ok(std::env::var(variable).ok()),
    }
}

fn host(url: &Url, default_port: u16) -> Result<(String, u16), SourceError> {
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(SourceError::Url("it names no host"))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), url.port().unwrap_or(default_port)))
}

/// A name in a URL, its `%` escapes read.
fn unescaped(text: &str) -> Result<String, SourceError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(SourceError::Url("a % in it is no escape"));
        };
        bytes.push(high.saturating_mul(16).saturating_add(low));
    }
    String::from_utf8(bytes).map_err(|_| SourceError::Url("a name in it is not UTF-8"))
}

async fn mysql(options: &SourceOptions, url: &Url) -> Result<Connection, SourceError> {
    let (host, port) = host(url, 3306)?;
    let ssl = (!options.plaintext).then(|| {
        let ssl = mysql_async::SslOpts::default();
        match &options.ca_file {
            Some(path) => ssl.with_disable_built_in_roots(true).with_root_certs(vec![path.clone().into()]),
            None => ssl,
        }
    });
    let connection = mysql_async::OptsBuilder::default()
        .ip_or_hostname(host.clone())
        .tcp_port(port)
        .user(Some(unescaped(url.username())?))
        .pass(password(options, "MYSQL_PWD")?)
        .prefer_socket(false)
        .ssl_opts(ssl);
    let what = "a connection";
    match timeout(CONNECT_TIMEOUT, mysql_async::Conn::new(connection)).await {
        Ok(Ok(connection)) => Ok(Connection::MySql(connection)),
        Ok(Err(error)) => Err(mysql_error(what, &error)),
        Err(_) => Err(SourceError::NoAnswer { host: format!("{host}:{port}") }),
    }
}

async fn postgresql(options: &SourceOptions, url: &Url) -> Result<Connection, SourceError> {
    let (host, port) = host(url, 5432)?;
    let mut config = tokio_postgres::Config::new();
    config.host(&host).port(port).user(unescaped(url.username())?).application_name("strait");
    config.connect_timeout(CONNECT_TIMEOUT);
    match url.path().trim_start_matches('/') {
        "" => return Err(SourceError::Url("it names no database")),
        database => config.dbname(unescaped(database)?),
    };
    if let Some(password) = password(options, "PGPASSWORD")? {
        config.password(password);
    }
    let what = "a connection";
    let connected = async {
        if options.plaintext {
            config.ssl_mode(tokio_postgres::config::SslMode::Disable);
            let (client, connection) =
                config.connect(tokio_postgres::NoTls).await.map_err(|error| postgresql_error(what, error))?;
            return Ok((client, tokio::spawn(async move { drop(connection.await) })));
        }
        config.ssl_mode(tokio_postgres::config::SslMode::Require);
        let tls = tokio_postgres_rustls::MakeRustlsConnect::new(tls(options)?);
        let (client, connection) = config.connect(tls).await.map_err(|error| postgresql_error(what, error))?;
        Ok((client, tokio::spawn(async move { drop(connection.await) })))
    };
    match timeout(CONNECT_TIMEOUT, connected).await {
        Ok(Ok((client, driver))) => Ok(Connection::PostgreSql { client, driver }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(SourceError::NoAnswer { host: format!("{host}:{port}") }),
    }
}

fn tls(options: &SourceOptions) -> Result<rustls::ClientConfig, SourceError> {
    let mut roots = rustls::RootCertStore::empty();
    match &options.ca_file {
        Some(path) => {
            let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
            let (added, _) = roots.add_parsable_certificates(certificates.unwrap_or_default());
            if added == 0 {
                return Err(SourceError::Certificates(path.clone()));
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for url in ["postgres://u:hush@localhost/d", "ftp://localhost", "mysql://", "postgres://u@localhost"] {
            let options = SourceOptions {
                url: url.to_owned(),
                password_file: None,
                ca_file: None,
                plaintext: true,
                statement_timeout: Duration::from_secs(1),
            };
            let error = runtime.block_on(Source::connect(&options)).unwrap_err();
            assert!(matches!(error, SourceError::Url(_)), "{url}: {error}");
            assert!(!error.to_string().contains("hush"));
        }
    }

    #[test]
    fn names_in_a_url_are_unescaped() {
        assert_eq!(unescaped("a%40b%20c").unwrap(), "a@b c");
        assert!(unescaped("a%4").is_err());
    }
}
