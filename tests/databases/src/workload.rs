//! The shop at work: several clients, each with rows of its own, in transactions of inserts, updates, deletes, re-inserts and key changes,
//! some of which are rolled back; and now and then somebody alters a table.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use tokio::sync::RwLock;
use tokio::time::Instant;
use tokio_postgres::NoTls;

use crate::server::{Server, postgresql_url};
use crate::shop::{Alteration, Engine, FRESHNESS, Generator, ShopTable};

/// A connection to the shop.
pub enum Session {
    /// To MariaDB.
    MariaDb(Conn),
    /// To PostgreSQL.
    PostgreSql(tokio_postgres::Client),
}

impl Session {
    /// Connects.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn open(engine: Engine, server: &Server) -> Self {
        match engine {
            Engine::MariaDb => {
                let options = OptsBuilder::default()
                    .ip_or_hostname("127.0.0.1")
                    .tcp_port(server.port)
                    .user(Some("root"))
                    .db_name(Some(engine.schema()))
                    .prefer_socket(false)
                    .setup(vec!["SET NAMES utf8mb4", "SET time_zone = '+00:00'"]);
                Self::MariaDb(Conn::new(options).await.unwrap())
            }
            Engine::PostgreSql => {
                let (client, connection) = tokio_postgres::connect(&postgresql_url(server.port), NoTls).await.unwrap();
                tokio::spawn(async move {
                    // It ends with the client.
                    let _ = connection.await;
                });
                Self::PostgreSql(client)
            }
        }
    }

    /// Which engine it is to.
    #[must_use]
    pub const fn engine(&self) -> Engine {
        match self {
            Self::MariaDb(_) => Engine::MariaDb,
            Self::PostgreSql(_) => Engine::PostgreSql,
        }
    }

    /// Runs statements, one after the other.
    ///
    /// # Panics
    /// When one fails.
    pub async fn run(&mut self, sql: &str) {
        match self {
            Self::MariaDb(connection) => {
                connection.query_drop(sql).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
            }
            Self::PostgreSql(client) => {
                client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error:?}: {sql}"));
            }
        }
    }
}

/// Of which tables keys may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyChanges {
    /// Of none: no before-image would tell.
    Never,
    /// Of those of whose images nothing can be left out: Strait quarantines a key's change in a partial image.
    OfWholeImages,
    /// Of all.
    Always,
}

impl KeyChanges {
    fn may(self, table: &ShopTable) -> bool {
        /// A column is added to these in the course of things; what was sent before has none of it.
        const GROWING: [&str; 2] = ["customers", "order_lines"];
        let is_whole = table.columns.iter().all(|column| column.generator != Generator::LongText);
        match self {
            Self::Never => false,
            Self::OfWholeImages => is_whole && !GROWING.contains(&table.name),
            Self::Always => true,
        }
    }
}

/// What the clients share.
pub struct Work {
    /// The tables as they are; who alters them waits for the transactions that began before.
    pub tables: RwLock<Vec<ShopTable>>,
    /// Changes committed so far.
    pub changes: AtomicU64,
    /// Of which tables keys may change.
    pub key_changes: KeyChanges,
    /// Changes a second in all; 0 is as many as there can be.
    pub rate: u64,
    /// After so many the clients end.
    pub goal: AtomicU64,
    /// Says that they shall end now.
    pub is_over: AtomicBool,
    began: OnceLock<Instant>,
}

impl Work {
    /// Nothing done yet.
    #[must_use]
    pub fn new(tables: Vec<ShopTable>, key_changes: KeyChanges, goal: u64, rate: u64) -> Arc<Self> {
        Arc::new(Self {
            tables: RwLock::new(tables),
            changes: AtomicU64::new(0),
            key_changes,
            rate,
            goal: AtomicU64::new(goal),
            is_over: AtomicBool::new(false),
            began: OnceLock::new(),
        })
    }

    fn is_done(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
            || self.changes.load(Ordering::Relaxed) >= self.goal.load(Ordering::Relaxed)
    }

    /// Waits until the rate allows another change.
    async fn pace(&self) {
        if let Some(due) = (self.changes.load(Ordering::Relaxed) * 1_000_000).checked_div(self.rate) {
            tokio::time::sleep_until(*self.began.get_or_init(Instant::now) + Duration::from_micros(due)).await;
        }
    }

    /// Alters a table while the clients go on with the others' transactions behind it.
    pub async fn alter(&self, session: &mut Session, alteration: &Alteration) {
        let mut tables = self.tables.write().await;
        session.run(&alteration.sql(session.engine())).await;
        alteration.apply(&mut tables);
    }
}

/// One of the shop's clients.
pub struct Client {
    session: Session,
    rng: Rng,
    /// Per table: the rows that this client has put there, by their numbers.
    rows: Vec<Vec<u64>>,
    /// Per table: how many numbers it has used.
    used: Vec<u64>,
    place: u64,
    clients: u64,
}

impl Client {
    /// The client at a place among so many.
    #[must_use]
    pub fn new(session: Session, seed: u64, place: u64, clients: u64, tables: usize) -> Self {
        let rng = Rng::with_seed(seed.wrapping_add(place));
        Self { session, rng, rows: vec![Vec::new(); tables], used: vec![0; tables], place, clients }
    }

    /// Puts rows into every table, before anybody replicates them.
    pub async fn open_shop(&mut self, tables: &[ShopTable], count: usize) {
        for (place, table) in tables.iter().enumerate().filter(|(_, table)| table.name != FRESHNESS) {
            let sql: Vec<String> = (0..count).map(|_| self.insert(place, table)).collect();
            self.session.run(&sql.join("; ")).await;
        }
    }

    /// Works until the goal is reached.
    pub async fn work(&mut self, work: &Work) {
        while !work.is_done() {
            work.pace().await;
            let tables = work.tables.read().await;
            let changes = self.transaction(&tables, work.key_changes).await;
            work.changes.fetch_add(changes, Ordering::Relaxed);
        }
    }

    async fn transaction(&mut self, tables: &[ShopTable], key_changes: KeyChanges) -> u64 {
        let mut statements = vec!["BEGIN".to_owned()];
        let is_given_up = self.rng.u8(0..30) == 0;
        // Of the changes that are rolled back nothing must be remembered.
        let before = is_given_up.then(|| self.rows.clone());
        for _ in 0..self.rng.usize(1..10) {
            // The last is that of the freshness.
            let place = self.rng.usize(..tables.len() - 1);
            statements.extend(self.change(place, &tables[place], key_changes));
        }
        let changes = statements.len() as u64 - 1;
        statements.push(if is_given_up { "ROLLBACK" } else { "COMMIT" }.to_owned());
        self.session.run(&statements.join("; ")).await;
        if let Some(before) = before {
            self.rows = before;
            return 0;
        }
        changes
    }

    fn change(&mut self, place: usize, table: &ShopTable, key_changes: KeyChanges) -> Vec<String> {
        let have = self.rows[place].len();
        if have < 20 || table.keys == 0 {
            return vec![self.insert(place, table)];
        }
        let chosen = self.rng.usize(..have);
        let row = self.rows[place][chosen];
        match self.rng.u8(0..100) {
            0..30 => vec![self.insert(place, table)],
            30..72 => vec![self.update(table, row)],
            // The same row twice in one transaction.
            72..76 => vec![self.update(table, row), self.update(table, row)],
            76..88 => {
                self.rows[place].swap_remove(chosen);
                vec![self.delete(table, row)]
            }
            // Gone and there again, in one transaction.
            88..92 => vec![self.delete(table, row), self.insert_row(table, row)],
            _ if key_changes.may(table) => {
                let is_code = table.columns[0].generator == Generator::Code;
                // Another case of the same letters, or another number.
                let other = if is_code && self.rng.bool() { row ^ 1 } else { self.fresh(place, is_code) };
                self.rows[place][chosen] = other;
                vec![self.change_key(table, row, other)]
            }
            _ => vec![self.update(table, row)],
        }
    }

    /// A number that no row of any client has or had.
    fn fresh(&mut self, place: usize, is_code: bool) -> u64 {
        let number = self.used[place] * self.clients + self.place;
        self.used[place] += 1;
        if is_code { number * 2 } else { number }
    }

    fn insert(&mut self, place: usize, table: &ShopTable) -> String {
        let row = self.fresh(place, table.columns[0].generator == Generator::Code);
        if table.keys > 0 {
            self.rows[place].push(row);
        }
        self.insert_row(table, row)
    }

    fn insert_row(&mut self, table: &ShopTable, row: u64) -> String {
        let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        let engine = self.session.engine();
        let values: Vec<String> = (0..table.columns.len()).map(|place| self.literal(table, place, row)).collect();
        format!("INSERT INTO {}.{} ({}) VALUES ({})", engine.schema(), table.name, names.join(", "), values.join(", "))
    }

    fn update(&mut self, table: &ShopTable, row: u64) -> String {
        let count = self.rng.usize(1..=3.min(table.values().len()));
        let mut places: Vec<usize> = (table.keys..table.columns.len()).collect();
        self.rng.shuffle(&mut places);
        let set: Vec<String> = places[..count]
            .iter()
            .map(|place| format!("{} = {}", table.columns[*place].name, self.literal(table, *place, row)))
            .collect();
        let engine = self.session.engine();
        format!("UPDATE {}.{} SET {} WHERE {}", engine.schema(), table.name, set.join(", "), self.is_row(table, row))
    }

    fn change_key(&mut self, table: &ShopTable, row: u64, other: u64) -> String {
        let set = self.key(table, other).join(", ");
        let schema = self.session.engine().schema();
        format!("UPDATE {schema}.{} SET {set} WHERE {}", table.name, self.is_row(table, row))
    }

    fn delete(&mut self, table: &ShopTable, row: u64) -> String {
        let schema = self.session.engine().schema();
        format!("DELETE FROM {schema}.{} WHERE {}", table.name, self.is_row(table, row))
    }

    fn is_row(&mut self, table: &ShopTable, row: u64) -> String {
        self.key(table, row).join(" AND ")
    }

    fn key(&mut self, table: &ShopTable, row: u64) -> Vec<String> {
        (0..table.keys)
            .map(|place| format!("{} = {}", table.columns[place].name, self.literal(table, place, row)))
            .collect()
    }

    fn literal(&mut self, table: &ShopTable, place: usize, row: u64) -> String {
        let column = &table.columns[place];
        if column.nullable && self.rng.u8(0..7) == 0 {
            return "NULL".to_owned();
        }
        column.generator.literal(self.session.engine(), row, &mut self.rng)
    }
}

/// Writes the time into a table, again and again, until the work is over: by these rows it is measured how long a commit takes to be seen.
pub async fn keep_time(mut session: Session, work: Arc<Work>, every: Duration) {
    let schema = session.engine().schema();
    let mut number = 0_u64;
    while !work.is_done() {
        let now = Timestamp::now().as_millisecond();
        session.run(&format!("INSERT INTO {schema}.{FRESHNESS} (id, at_ms) VALUES ({number}, {now})")).await;
        number += 1;
        tokio::time::sleep(every).await;
    }
}

/// The row that is written last of all.
pub const LAST: u64 = 999_999_999_999;

/// Writes it.
pub async fn write_last(session: &mut Session) {
    let schema = session.engine().schema();
    session.run(&format!("INSERT INTO {schema}.{FRESHNESS} (id, at_ms) VALUES ({LAST}, NULL)")).await;
}
