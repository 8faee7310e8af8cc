//! A task on a MySQL source: MariaDB or MySQL with `binlog_format=ROW`, `binlog_row_image=FULL`.
//!
//! Of a binlog's rows only places are known, so that a table's definition is carried along from statement to statement ([`ddl`]), and
//! kept with the position: what is read again is read by the definition that was true there.

mod ddl;
mod types;

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use mysql_async::binlog::events::{EventData, RowsEventData};
use mysql_async::binlog::row::BinlogRow;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, OptsBuilder};
use serde::{Deserialize, Serialize};

use crate::message::{self, Change, Control, Operation, Position};
use crate::settings::{EndpointSettings, TaskSettings};
use crate::table::{Column, Row, Table};
use crate::{Message, Target, TaskError};

/// Messages that are handed to the target at once.
const BATCH: usize = 1_000;
/// How long a log that has nothing new is waited for before what has come is handed on.
const PAUSE: Duration = Duration::from_millis(20);
/// MariaDB's own event that opens a transaction, where MySQL has a BEGIN.
const MARIADB_GTID: u8 = 162;

/// What a task reads, and how it says it.
#[derive(Debug, Clone)]
pub struct MySqlTask {
    /// The server's host.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// The user, without a password.
    pub user: String,
    /// The database.
    pub schema: String,
    /// Its tables.
    pub tables: Vec<String>,
    /// `KafkaSettings`.
    pub endpoint: EndpointSettings,
    /// The rest.
    pub task: TaskSettings,
    /// The file that keeps the confirmed position.
    pub checkpoint: PathBuf,
    /// The number by which the server knows its reader.
    pub server_id: u32,
}

/// A column as the source defines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceColumn {
    pub(crate) name: String,
    pub(crate) type_text: String,
    pub(crate) nullable: bool,
}

/// A table as the source defines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceTable {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) columns: Vec<SourceColumn>,
    pub(crate) primary_key: Vec<String>,
}

/// A table with everything that is needed to read its rows.
#[derive(Debug, Clone)]
struct Known {
    source: SourceTable,
    table: Table,
    kinds: Vec<types::Kind>,
}

impl Known {
    fn new(source: SourceTable) -> Result<Self, TaskError> {
        let (mut columns, mut kinds) = (Vec::new(), Vec::new());
        for column in &source.columns {
            let (kind, reading) = types::parse(&column.type_text)?;
            columns.push(Column { name: column.name.clone(), kind, nullable: column.nullable });
            kinds.push(reading);
        }
        let table = Table {
            schema: source.schema.clone(),
            name: source.name.clone(),
            columns,
            primary_key: source.primary_key.clone(),
        };
        Ok(Self { source, table, kinds })
    }
}

/// The confirmed position, and what was true there.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Checkpoint {
    file: String,
    position: u64,
    previous: Option<(u64, u64)>,
    tables: Vec<SourceTable>,
}

impl MySqlTask {
    /// Runs the task from its confirmed position, or from a full load where there is none, until something fails.
    ///
    /// # Errors
    /// [`TaskError`]; the next run begins at what was confirmed by then.
    pub async fn run(&self, target: &mut dyn Target) -> Result<std::convert::Infallible, TaskError> {
        let checkpoint = match tokio::fs::read(&self.checkpoint).await {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(std::io::Error::other)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let checkpoint = self.full_load(target).await?;
                self.confirm(&checkpoint).await?;
                checkpoint
            }
            Err(error) => return Err(error.into()),
        };
        self.changes(checkpoint, target).await
    }

    async fn connect(&self) -> Result<Conn, TaskError> {
        let options = OptsBuilder::default()
            .ip_or_hostname(self.host.clone())
            .tcp_port(self.port)
            .user(Some(self.user.clone()))
            .db_name(Some(self.schema.clone()))
            .prefer_socket(false)
            // MariaDB sends its own events to a reader that says it knows them, and makes others of them for one that does not.
            .setup(vec!["SET time_zone = '+00:00'", "SET NAMES utf8mb4", "SET @mariadb_slave_capability = 4"]);
        Ok(Conn::new(options).await?)
    }

    /// The tables as they stand while others change them: the changes since before it come after it.
    async fn full_load(&self, target: &mut dyn Target) -> Result<Checkpoint, TaskError> {
        let mut connection = self.connect().await?;
        let status: Option<mysql_async::Row> = connection.query_first("SHOW MASTER STATUS").await?;
        let position = status.and_then(|mut row| Some((row.take::<String, _>(0)?, row.take::<u64, _>(1)?)));
        let (file, position) = position.ok_or_else(|| TaskError::Unknown("a server without a binlog".to_owned()))?;
        let mut tables = Vec::new();
        for name in &self.tables {
            let known = Known::new(self.definition(&mut connection, name).await?)?;
            let controls = [Control::DropTable(&known.table), Control::CreateTable(&known.table)];
            let controls = controls.iter().filter_map(|it| message::of_control(it, &self.endpoint, Timestamp::now()));
            target.take(controls.collect()).await?;
            self.load(&mut connection, &known, target).await?;
            tables.push(known.source);
        }
        Ok(Checkpoint { file, position, previous: None, tables })
    }

    async fn definition(&self, connection: &mut Conn, name: &str) -> Result<SourceTable, TaskError> {
        let columns: Vec<(String, String, String)> = connection
            .exec(
                "SELECT column_name, column_type, is_nullable FROM information_schema.columns \
                 WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position",
                (&self.schema, name),
            )
            .await?;
        let primary_key: Vec<String> = connection
            .exec(
                "SELECT column_name FROM information_schema.key_column_usage \
                 WHERE constraint_name = 'PRIMARY' AND table_schema = ? AND table_name = ? ORDER BY ordinal_position",
                (&self.schema, name),
            )
            .await?;
        let columns = columns.into_iter().map(|(name, type_text, nullable)| SourceColumn {
            name,
            type_text,
            nullable: nullable == "YES",
        });
        Ok(SourceTable { schema: self.schema.clone(), name: name.to_owned(), columns: columns.collect(), primary_key })
    }

    async fn load(&self, connection: &mut Conn, known: &Known, target: &mut dyn Target) -> Result<(), TaskError> {
        let names = known.source.columns.iter().zip(&known.kinds).map(|(column, kind)| {
            let name = format!("`{}`", column.name.replace('`', "``"));
            // As a FLOAT it would be printed with six digits.
            if *kind == types::Kind::Single { format!("CAST({name} AS DOUBLE)") } else { name }
        });
        let names: Vec<String> = names.collect();
        let sql = format!("SELECT {} FROM `{}`", names.join(", "), known.source.name);
        let mut result = connection.query_iter(sql).await?;
        let mut messages = Vec::new();
        while let Some(row) = result.next().await? {
            let cells = row.unwrap();
            let row: Result<Row, TaskError> =
                known.kinds.iter().zip(&cells).map(|(kind, cell)| types::of_text(kind, cell)).collect();
            let change = Change { operation: Operation::Load, row: row?, before: None, position: None };
            messages.push(self.message(known, &change));
            if messages.len() == BATCH {
                target.take(std::mem::take(&mut messages)).await?;
            }
        }
        target.take(messages).await
    }

    fn message(&self, known: &Known, change: &Change) -> Message {
        message::of_change(&known.table, change, &self.endpoint, &self.task, Timestamp::now())
    }

    async fn confirm(&self, checkpoint: &Checkpoint) -> Result<(), TaskError> {
        let text = serde_json::to_vec(checkpoint).map_err(std::io::Error::other)?;
        // By a rename, so that no start ever finds half of it.
        let partial = self.checkpoint.with_extension("partial");
        tokio::fs::write(&partial, text).await?;
        tokio::fs::rename(&partial, &self.checkpoint).await?;
        Ok(())
    }

    async fn changes(
        &self,
        checkpoint: Checkpoint,
        target: &mut dyn Target,
    ) -> Result<std::convert::Infallible, TaskError> {
        let connection = self.connect().await?;
        let file = checkpoint.file.clone();
        let request =
            BinlogStreamRequest::new(self.server_id).with_filename(file.as_bytes()).with_pos(checkpoint.position);
        let mut stream = connection.get_binlog_stream(request).await?;
        let mut reader = Reader::new(self, checkpoint)?;
        loop {
            let next = if reader.messages.is_empty() {
                stream.next().await
            } else {
                match tokio::time::timeout(PAUSE, stream.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        self.hand_on(&mut reader, target).await?;
                        continue;
                    }
                }
            };
            let event = next.ok_or_else(|| TaskError::Unknown("the end of the binlog's stream".to_owned()))??;
            reader.read(&event, &stream)?;
            if reader.messages.len() >= BATCH {
                self.hand_on(&mut reader, target).await?;
            }
        }
    }

    async fn hand_on(&self, reader: &mut Reader<'_>, target: &mut dyn Target) -> Result<(), TaskError> {
        target.take(std::mem::take(&mut reader.messages)).await?;
        // Everything up to the last commit was handed on; what is open is not in `messages` yet.
        self.confirm(&reader.committed).await
    }
}

/// What was read of a transaction before its commit.
struct Open {
    /// (file number << 32) | position of the beginning.
    id: u64,
    start: u64,
    changes: Vec<(Known, Change)>,
}

/// Where a binlog is read.
struct Reader<'t> {
    task: &'t MySqlTask,
    tables: Vec<Known>,
    file: String,
    open: Option<Open>,
    committed: Checkpoint,
    /// Of committed transactions only.
    messages: Vec<Message>,
}

impl<'t> Reader<'t> {
    fn new(task: &'t MySqlTask, checkpoint: Checkpoint) -> Result<Self, TaskError> {
        let tables: Result<Vec<Known>, TaskError> = checkpoint.tables.iter().cloned().map(Known::new).collect();
        let file = checkpoint.file.clone();
        Ok(Self { task, tables: tables?, file, open: None, committed: checkpoint, messages: Vec::new() })
    }

    fn read(&mut self, event: &mysql_async::binlog::events::Event, stream: &BinlogStream) -> Result<(), TaskError> {
        let header = event.header();
        let end = u64::from(header.log_pos());
        let start = end.saturating_sub(u64::from(header.event_size()));
        if header.event_type_raw() == MARIADB_GTID {
            return self.begin(start);
        }
        let Some(data) = event.read_data().map_err(mysql_async::Error::from)? else {
            return Ok(());
        };
        match data {
            // The server makes one up at the beginning of each file, whose name is known by then.
            EventData::RotateEvent(_) if end == 0 => {}
            EventData::RotateEvent(rotate) => {
                self.file = rotate.name().into_owned();
                // At the end of a file: never within a transaction.
                self.committed.file.clone_from(&self.file);
                self.committed.position = rotate.position();
            }
            EventData::QueryEvent(query) => match query.query().trim() {
                "BEGIN" => self.begin(start)?,
                "COMMIT" | "ROLLBACK" => self.commit(end, header.timestamp())?,
                sql => self.statement(sql, &query.schema(), end)?,
            },
            EventData::XidEvent(_) => self.commit(end, header.timestamp())?,
            EventData::RowsEvent(rows) => self.rows(&rows, (start, end), stream)?,
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, start: u64) -> Result<(), TaskError> {
        let number = self.file.rsplit_once('.').and_then(|(_, number)| number.parse::<u64>().ok());
        let number = number.ok_or_else(|| TaskError::Unknown(format!("the binlog file {}", self.file)))?;
        self.open = Some(Open { id: number << 32 | start, start, changes: Vec::new() });
        Ok(())
    }

    fn rows(
        &mut self,
        rows: &RowsEventData<'_>,
        (start, end): (u64, u64),
        stream: &BinlogStream,
    ) -> Result<(), TaskError> {
        let unknown = |what: &str| TaskError::Unknown(format!("{what} in the binlog"));
        let map = stream.get_tme(rows.table_id()).ok_or_else(|| unknown("rows without a table"))?;
        let (schema, name) = (map.database_name(), map.table_name());
        let found = self.tables.iter().find(|known| known.table.schema == schema && known.table.name == name);
        let Some(known) = found.cloned() else {
            return Ok(());
        };
        if map.columns_count() != u64::try_from(known.kinds.len()).unwrap_or(u64::MAX) {
            return Err(TaskError::Unknown(format!("how {name} came to have {} columns", map.columns_count())));
        }
        let open = self.open.as_mut().ok_or_else(|| unknown("rows outside of a transaction"))?;
        let row_of = |row: &BinlogRow| -> Result<Row, TaskError> {
            known.kinds.iter().enumerate().map(|(place, kind)| types::of_binlog(kind, row.as_ref(place))).collect()
        };
        for row in rows.rows(map) {
            let (before, after) = row.map_err(mysql_async::Error::from)?;
            let before = before.as_ref().map(row_of).transpose()?;
            let after = after.as_ref().map(row_of).transpose()?;
            let (operation, row, before) = match (before, after) {
                (None, Some(row)) => (Operation::Insert, row, None),
                (Some(before), Some(row)) => (Operation::Update, row, Some(before)),
                (Some(row), None) => (Operation::Delete, row, None),
                (None, None) => return Err(unknown("a change of nothing")),
            };
            let record = u64::try_from(open.changes.len()).unwrap_or(u64::MAX).saturating_add(1);
            let stream = format!("{0}:{start}:0:{end}:{1}:{0}:{2}", self.file, open.id, open.start);
            // The time of the commit is known at the commit.
            let position =
                Position { transaction: open.id, record, previous: None, committed_at: Timestamp::UNIX_EPOCH, stream };
            open.changes.push((known.clone(), Change { operation, row, before, position: Some(position) }));
        }
        Ok(())
    }

    fn commit(&mut self, end: u64, seconds: u32) -> Result<(), TaskError> {
        let at = Timestamp::from_second(i64::from(seconds));
        let at = at.map_err(|_| TaskError::Unknown("the time of a commit".to_owned()))?;
        for (known, mut change) in self.open.take().map(|open| open.changes).unwrap_or_default() {
            if let Some(position) = &mut change.position {
                position.committed_at = at;
                position.previous = self.committed.previous.replace((position.transaction, position.record));
            }
            self.messages.push(self.task.message(&known, &change));
        }
        self.committed.position = end;
        Ok(())
    }

    fn statement(&mut self, sql: &str, session_schema: &str, end: u64) -> Result<(), TaskError> {
        if let Some((schema, name, alteration)) = ddl::parse(sql)? {
            let schema = schema.as_deref().unwrap_or(session_schema);
            let found = self.tables.iter().position(|known| known.table.schema == schema && known.table.name == name);
            if let Some(known) = found.and_then(|place| self.tables.get_mut(place)) {
                let (new, operation, columns) = ddl::apply(&known.source, &alteration)?;
                let new = Known::new(new)?;
                let control = Control::Altered { operation, columns, old: &known.table, new: &new.table };
                self.messages.extend(message::of_control(&control, &self.task.endpoint, Timestamp::now()));
                *known = new;
                self.committed.tables = self.tables.iter().map(|known| known.source.clone()).collect();
            }
        }
        self.open = None;
        self.committed.position = end;
        Ok(())
    }
}
