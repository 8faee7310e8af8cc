//! A task on a PostgreSQL source with `wal_level=logical`: a slot of the server's own plugin `test_decoding`, read by SQL. What was read is
//! taken off the slot once the target has it.
//!
//! The log says nothing of ALTER TABLE. As DMS does, the task puts an event trigger into the source that writes each DDL statement into a
//! table `awsdms_ddl_audit`, whose rows come by the log in their place; here they carry the table's definition.

mod test_decoding;
mod types;

use std::path::PathBuf;
use std::time::Duration;

use futures::TryStreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use self::test_decoding::{Action, Cell, CellValue, Line, RowChange};
use crate::message::{self, Change, Control, Operation, Position};
use crate::settings::{EndpointSettings, TaskSettings, Unchanged};
use crate::table::{Column, Row, Table, Value};
use crate::{Message, Target, TaskError};

/// Messages that are handed to the target at once in a full load, and changes that are asked of the slot.
const BATCH: usize = 1_000;
const CHANGES: u32 = 5_000;
/// Between looks at a slot that had nothing.
const PAUSE: Duration = Duration::from_millis(50);
const AUDIT: &str = "awsdms_ddl_audit";

/// What a task reads, and how it says it.
#[derive(Debug, Clone)]
pub struct PostgreSqlTask {
    /// How to connect, in libpq's form.
    pub url: String,
    /// The slot.
    pub slot: String,
    /// The schema.
    pub schema: String,
    /// Its tables.
    pub tables: Vec<String>,
    /// `KafkaSettings`.
    pub endpoint: EndpointSettings,
    /// The rest.
    pub task: TaskSettings,
    /// The file that keeps what was true at the confirmed position; the position itself is the slot's.
    pub checkpoint: PathBuf,
}

/// A table as the source defines it; the trigger writes the same form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SourceTable {
    name: String,
    columns: Vec<SourceColumn>,
    primary_key: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SourceColumn {
    /// `attnum`, which a column keeps for its life.
    number: i32,
    name: String,
    type_text: String,
    nullable: bool,
}

#[derive(Debug, Clone)]
struct Known {
    source: SourceTable,
    table: Table,
    kinds: Vec<types::Kind>,
}

/// What was true at a position of the slot.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    position: String,
    previous: Option<(u64, u64)>,
    tables: Vec<SourceTable>,
}

/// The slot's position is moved after this was written, so that the slot may stand at the newest one or at the one before.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Checkpoint {
    newest: State,
    before: Option<State>,
}

/// A table's definition as JSON; `$1` is its oid.
const DEFINITION: &str = "SELECT jsonb_build_object(\
    'name', c.relname, \
    'columns', (SELECT jsonb_agg(jsonb_build_object('number', a.attnum, 'name', a.attname, 'type_text', \
        format_type(a.atttypid, a.atttypmod), 'nullable', NOT a.attnotnull) ORDER BY a.attnum) \
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
    'primary_key', COALESCE((SELECT jsonb_agg(a.attname ORDER BY k.place) FROM pg_index i, \
        unnest(i.indkey) WITH ORDINALITY AS k(number, place), pg_attribute a \
        WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid AND a.attnum = k.number), '[]'::jsonb)) \
    FROM pg_class c WHERE c.oid = $1";

impl PostgreSqlTask {
    /// Runs the task from the slot's position, or from a full load where there is none, until something fails.
    ///
    /// # Errors
    /// [`TaskError`]; the next run begins at what was confirmed by then.
    pub async fn run(&self, target: &mut dyn Target) -> Result<std::convert::Infallible, TaskError> {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
        // It ends when the client is dropped, or with an error that the client sees as well.
        let driven = tokio::spawn(connection);
        let ended = self.run_on(&client, target).await;
        driven.abort();
        ended
    }

    async fn run_on(&self, client: &Client, target: &mut dyn Target) -> Result<std::convert::Infallible, TaskError> {
        client
            .batch_execute(
                "SET timezone = 'UTC'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET bytea_output = 'hex'; \
                 SET extra_float_digits = 1",
            )
            .await?;
        let checkpoint = match tokio::fs::read(&self.checkpoint).await {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(std::io::Error::other)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let checkpoint = self.full_load(client, target).await?;
                self.confirm(&checkpoint).await?;
                checkpoint
            }
            Err(error) => return Err(error.into()),
        };
        let state = self.state_of_slot(client, checkpoint).await?;
        let tables: Vec<Known> = state.tables.iter().cloned().map(|table| self.known(table)).collect();
        let previous = state.previous;
        let mut reader = Reader { task: self, tables, previous, confirmed: state, messages: Vec::new() };
        loop {
            if !reader.step(client, target).await? {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn known(&self, source: SourceTable) -> Known {
        let (mut columns, mut kinds) = (Vec::new(), Vec::new());
        for column in &source.columns {
            let (kind, reading) = types::parse(&column.type_text, &self.task);
            columns.push(Column { name: column.name.clone(), kind, nullable: column.nullable });
            kinds.push(reading);
        }
        let table = Table {
            schema: self.schema.clone(),
            name: source.name.clone(),
            columns,
            primary_key: source.primary_key.clone(),
        };
        Known { source, table, kinds }
    }

    async fn full_load(&self, client: &Client, target: &mut dyn Target) -> Result<Checkpoint, TaskError> {
        self.install_audit(client).await?;
        // A slot of a load that was not finished has a position that is too old, not one that is too new.
        let slots = client.query("SELECT 1 FROM pg_replication_slots WHERE slot_name = $1", &[&self.slot]).await?;
        if slots.is_empty() {
            client.execute("SELECT pg_create_logical_replication_slot($1, 'test_decoding')", &[&self.slot]).await?;
        }
        let mut tables = Vec::new();
        for name in &self.tables {
            let known = self.known(self.definition(client, name).await?);
            let controls = [Control::DropTable(&known.table), Control::CreateTable(&known.table)];
            let controls = controls.iter().filter_map(|it| message::of_control(it, &self.endpoint, Timestamp::now()));
            target.take(controls.collect()).await?;
            self.load(client, &known, target).await?;
            tables.push(known.source);
        }
        let state = State { position: "0/0".to_owned(), previous: None, tables };
        Ok(Checkpoint { newest: state, before: None })
    }

    async fn state_of_slot(&self, client: &Client, checkpoint: Checkpoint) -> Result<State, TaskError> {
        let sql = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1";
        let at: Option<String> = client.query_one(sql, &[&self.slot]).await?.get(0);
        let is_reached = at.as_deref().and_then(lsn_text) >= lsn_text(&checkpoint.newest.position);
        match checkpoint.before {
            Some(before) if !is_reached => Ok(before),
            _ => Ok(checkpoint.newest),
        }
    }

    async fn install_audit(&self, client: &Client) -> Result<(), TaskError> {
        let definition = DEFINITION.replace("$1", "changed.objid");
        client
            .batch_execute(&format!(
                "CREATE TABLE IF NOT EXISTS public.{AUDIT} (c_key BIGSERIAL PRIMARY KEY, c_time TIMESTAMP, c_tag TEXT, \
                     c_schema TEXT, c_name TEXT, c_definition TEXT); \
                 CREATE OR REPLACE FUNCTION public.awsdms_intercept_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $body$ \
                 DECLARE changed RECORD; \
                 BEGIN \
                     FOR changed IN SELECT * FROM pg_event_trigger_ddl_commands() \
                             WHERE object_type IN ('table', 'table column') AND command_tag = 'ALTER TABLE' LOOP \
                         INSERT INTO public.{AUDIT} (c_time, c_tag, c_schema, c_name, c_definition) \
                         SELECT current_timestamp, changed.command_tag, changed.schema_name, c.relname, ({definition}) \
                         FROM pg_class c WHERE c.oid = changed.objid; \
                     END LOOP; \
                 END $body$; \
                 DROP EVENT TRIGGER IF EXISTS awsdms_intercept_ddl; \
                 CREATE EVENT TRIGGER awsdms_intercept_ddl ON ddl_command_end \
                     EXECUTE FUNCTION public.awsdms_intercept_ddl()"
            ))
            .await?;
        Ok(())
    }

    async fn definition(&self, client: &Client, name: &str) -> Result<SourceTable, TaskError> {
        let sql = format!("SELECT ({})::text", DEFINITION.replace("$1", "to_regclass($1)"));
        let row = client.query_one(&sql, &[&format!("{}.{name}", self.schema)]).await?;
        let text: Option<String> = row.get(0);
        let text = text.ok_or_else(|| TaskError::Unknown(format!("the table {name}")))?;
        serde_json::from_str(&text).map_err(|_| TaskError::Unknown(format!("the definition of {name}")))
    }

    async fn load(&self, client: &Client, known: &Known, target: &mut dyn Target) -> Result<(), TaskError> {
        let names: Vec<String> = known.table.columns.iter().map(|column| quoted(&column.name)).collect();
        let sql = format!("SELECT {} FROM {}.{}", names.join(", "), quoted(&self.schema), quoted(&known.table.name));
        let stream = client.simple_query_raw(&sql).await?;
        let mut stream = std::pin::pin!(stream);
        let mut messages = Vec::new();
        while let Some(message) = stream.try_next().await? {
            let SimpleQueryMessage::Row(cells) = message else {
                continue;
            };
            let row: Result<Row, TaskError> = known
                .kinds
                .iter()
                .enumerate()
                .map(|(place, kind)| cells.get(place).map_or(Ok(Value::Null), |text| types::of_text(*kind, text)))
                .collect();
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
}

/// What is known while the log is read.
struct Reader<'t> {
    task: &'t PostgreSqlTask,
    tables: Vec<Known>,
    previous: Option<(u64, u64)>,
    confirmed: State,
    messages: Vec<Message>,
}

/// A change of a transaction whose commit has not been read.
enum Read {
    Row(Known, Change),
    Altered(Vec<Message>),
}

impl Reader<'_> {
    /// Hands on what the slot has; false when it had nothing.
    async fn step(&mut self, client: &Client, target: &mut dyn Target) -> Result<bool, TaskError> {
        // Whole transactions: the number is looked at where one ends.
        let sql = format!(
            "SELECT lsn::text, xid::text, data FROM pg_logical_slot_peek_changes('{}', NULL, {CHANGES}, \
             'include-timestamp', 'on', 'skip-empty-xacts', 'on')",
            self.task.slot
        );
        let mut end = None;
        let mut open: Vec<Read> = Vec::new();
        for message in client.simple_query(&sql).await? {
            let SimpleQueryMessage::Row(row) = message else {
                continue;
            };
            let cells = row.get(0).zip(row.get(1)).zip(row.get(2));
            let ((lsn, xid), data) = cells.ok_or_else(|| TaskError::Unknown("a line without a place".to_owned()))?;
            match test_decoding::parse(data) {
                Some(Line::Begin) => open.clear(),
                Some(Line::Change(change)) => self.change(client, change, (lsn, xid), &mut open).await?,
                Some(Line::Commit(at)) => {
                    self.commit(std::mem::take(&mut open), &at)?;
                    end = Some(lsn.to_owned());
                }
                None => return Err(TaskError::Unknown("a line of test_decoding".to_owned())),
            }
        }
        let Some(end) = end else {
            return Ok(false);
        };
        target.take(std::mem::take(&mut self.messages)).await?;
        let tables = self.tables.iter().map(|known| known.source.clone()).collect();
        let state = State { position: end.clone(), previous: self.previous, tables };
        let before = std::mem::replace(&mut self.confirmed, state.clone());
        self.task.confirm(&Checkpoint { newest: state, before: Some(before) }).await?;
        let advance = format!("SELECT pg_replication_slot_advance('{}', '{end}')", self.task.slot);
        client.simple_query(&advance).await?;
        Ok(true)
    }

    async fn change(
        &mut self,
        client: &Client,
        change: RowChange,
        (lsn, xid): (&str, &str),
        open: &mut Vec<Read>,
    ) -> Result<(), TaskError> {
        if change.table == AUDIT {
            open.push(Read::Altered(self.alter(&change)?));
            return Ok(());
        }
        let found = self.tables.iter().find(|known| known.table.name == change.table);
        let Some(known) = found.filter(|_| change.schema == self.task.schema).cloned() else {
            return Ok(());
        };
        let row = |cells: &[Cell], missing: &Value| -> Result<Row, TaskError> {
            if let Some(cell) = cells.iter().find(|cell| known.table.place(&cell.name).is_none()) {
                return Err(TaskError::Unknown(format!("the column {} of {}", cell.name, known.table.name)));
            }
            let columns = known.table.columns.iter().zip(&known.kinds);
            columns
                .map(|(column, kind)| {
                    match cells.iter().find(|cell| cell.name == column.name).map(|cell| &cell.value) {
                        None => Ok(missing.clone()),
                        Some(CellValue::Null) => Ok(Value::Null),
                        Some(CellValue::Unchanged) => Ok(Value::Absent),
                        Some(CellValue::Text(text)) => types::of_text(*kind, text),
                    }
                })
                .collect()
        };
        let (operation, mut image, before) = match change.action {
            Action::Insert => (Operation::Insert, row(&change.new, &Value::Null)?, None),
            Action::Update => {
                let old = (!change.old.is_empty()).then(|| row(&change.old, &Value::Absent)).transpose()?;
                (Operation::Update, row(&change.new, &Value::Null)?, old)
            }
            // The key alone; DMS says NULL of the rest.
            Action::Delete => (Operation::Delete, row(&change.new, &Value::Null)?, None),
            Action::Truncate => return Err(TaskError::Unknown("TRUNCATE".to_owned())),
        };
        if self.task.task.unchanged == Unchanged::LookedUp && image.contains(&Value::Absent) {
            self.look_up(client, &known, &mut image).await?;
        }
        let place = lsn_text(lsn).ok_or_else(|| TaskError::Unknown(format!("the LSN {lsn}")))?;
        let transaction = xid.parse().map_err(|_| TaskError::Unknown("a transaction's number".to_owned()))?;
        let rows = open.iter().filter(|read| matches!(read, Read::Row(..))).count();
        let record = u64::try_from(rows).unwrap_or(u64::MAX).saturating_add(1);
        let position = Position {
            transaction,
            record,
            previous: None,
            committed_at: Timestamp::UNIX_EPOCH,
            stream: format!("{place}.{}.{place}", record.saturating_add(1)),
        };
        open.push(Read::Row(known, Change { operation, row: image, before, position: Some(position) }));
        Ok(())
    }

    /// Fills in what the log left out, as the row stands by now; of a row that is gone by now, nothing.
    async fn look_up(&self, client: &Client, known: &Known, row: &mut Row) -> Result<(), TaskError> {
        let missing: Vec<usize> = (0..row.len()).filter(|place| row.get(*place) == Some(&Value::Absent)).collect();
        let name = |place: &usize| known.table.columns.get(*place).map(|column| quoted(&column.name));
        let wanted: Vec<String> = missing.iter().filter_map(name).map(|name| format!("{name}::text")).collect();
        let keys = known.table.key_places().filter_map(|place| {
            let text = match row.get(place)? {
                Value::Integer(number) => number.to_string(),
                Value::Text(text) => text.clone(),
                _ => return None,
            };
            Some(format!("{} = '{}'", name(&place)?, text.replace('\'', "''")))
        });
        let keys: Vec<String> = keys.collect();
        if keys.is_empty() {
            return Err(TaskError::Unknown(format!("by which key a value of {} is looked up", known.table.name)));
        }
        let table = format!("{}.{}", quoted(&self.task.schema), quoted(&known.table.name));
        let sql = format!("SELECT {} FROM {table} WHERE {}", wanted.join(", "), keys.join(" AND "));
        let found = match client.simple_query(&sql).await {
            Ok(found) => found,
            // A column that is gone by now.
            Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::UNDEFINED_COLUMN) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let found = found.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        for (nth, place) in missing.into_iter().enumerate() {
            let text = found.and_then(|found| found.get(nth));
            let kind = known.kinds.get(place).copied().unwrap_or(types::Kind::Text);
            if let Some(value) = row.get_mut(place) {
                *value = text.map_or(Ok(Value::Null), |text| types::of_text(kind, text))?;
            }
        }
        Ok(())
    }

    fn commit(&mut self, open: Vec<Read>, at: &str) -> Result<(), TaskError> {
        // `2024-07-29 00:58:17.97434+00`
        let at: Timestamp = at.parse().map_err(|_| TaskError::Unknown("the time of a commit".to_owned()))?;
        for read in open {
            match read {
                Read::Altered(messages) => self.messages.extend(messages),
                Read::Row(known, mut change) => {
                    if let Some(position) = &mut change.position {
                        position.committed_at = at;
                        position.previous = self.previous.replace((position.transaction, position.record));
                    }
                    self.messages.push(self.task.message(&known, &change));
                }
            }
        }
        Ok(())
    }

    /// A row of the audit table: what the table is since then.
    fn alter(&mut self, change: &RowChange) -> Result<Vec<Message>, TaskError> {
        let unknown = || TaskError::Unknown(format!("a row of {AUDIT}"));
        let cell = |name: &str| change.new.iter().find(|cell| cell.name == name).map(|cell| &cell.value);
        if change.action != Action::Insert {
            return Ok(Vec::new());
        }
        let (Some(CellValue::Text(schema)), Some(CellValue::Text(text))) = (cell("c_schema"), cell("c_definition"))
        else {
            return Err(unknown());
        };
        let new: SourceTable = serde_json::from_str(text).map_err(|_| unknown())?;
        let found = self.tables.iter().position(|known| known.source.name == new.name && *schema == self.task.schema);
        let Some(known) = found.and_then(|place| self.tables.get_mut(place)) else {
            return Ok(Vec::new());
        };
        let new = self.task.known(new);
        let mut messages = Vec::new();
        for (operation, columns) in differences(&known.source, &new.source) {
            let control = Control::Altered { operation, columns, old: &known.table, new: &new.table };
            messages.extend(message::of_control(&control, &self.task.endpoint, Timestamp::now()));
        }
        *known = new;
        Ok(messages)
    }
}

/// What was done to a table, told by the numbers that columns keep.
fn differences(old: &SourceTable, new: &SourceTable) -> Vec<(&'static str, Vec<String>)> {
    let of = |table: &SourceTable, number: i32| table.columns.iter().find(|it| it.number == number).cloned();
    let mut found = Vec::new();
    for column in &old.columns {
        match of(new, column.number) {
            None => found.push(("drop-column", vec![column.name.clone()])),
            Some(other) => {
                if other.name != column.name {
                    found.push(("rename-column", vec![other.name.clone()]));
                }
                if other.type_text != column.type_text {
                    found.push(("column-type-change", vec![other.name.clone()]));
                }
            }
        }
    }
    let added = new.columns.iter().filter(|column| of(old, column.number).is_none());
    found.extend(added.map(|column| ("add-column", vec![column.name.clone()])));
    found
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `0/15D6B80` → `00000000/015D6B80`
fn lsn_text(lsn: &str) -> Option<String> {
    let (high, low) = lsn.split_once('/')?;
    Some(format!("{high:0>8}/{low:0>8}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[(i32, &str, &str)]) -> SourceTable {
        let column = |(number, name, type_text): &(i32, &str, &str)| SourceColumn {
            number: *number,
            name: (*name).to_owned(),
            type_text: (*type_text).to_owned(),
            nullable: true,
        };
        SourceTable { name: "t".to_owned(), columns: columns.iter().map(column).collect(), primary_key: Vec::new() }
    }

    #[test]
    fn alterations_are_told_by_what_a_column_keeps() {
        let old = table(&[(1, "id", "bigint"), (2, "b", "integer"), (3, "c", "text")]);
        let new = table(&[(1, "id", "bigint"), (2, "renamed", "bigint"), (4, "c", "text")]);
        let told: Vec<(&str, String)> =
            differences(&old, &new).into_iter().map(|(word, columns)| (word, columns.join(","))).collect();
        let expected = [
            ("rename-column", "renamed"),
            ("column-type-change", "renamed"),
            ("drop-column", "c"),
            ("add-column", "c"),
        ];
        assert_eq!(told, expected.map(|(word, column)| (word, column.to_owned())));
    }

    #[test]
    fn positions_are_padded() {
        assert_eq!(lsn_text("2/7C007178"), Some("00000002/7C007178".to_owned()));
        assert_eq!(lsn_text("0/15D6B80"), Some("00000000/015D6B80".to_owned()));
    }
}
