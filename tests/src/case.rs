//! A case of a history: what is delivered and where merges cut it, and the rows that have to be there at the end. It is played under
//! both delete modes, and after it every suffix of its records is delivered again.

use std::ops::Range;

use strait_cli::msk::KafkaRecord;

use crate::history::{Message, Table};
use crate::pipeline::{Pipeline, Setup, cells};

#[derive(Debug, Clone)]
enum Step {
    Deliver(Vec<Message>),
    Redeliver(Range<usize>),
    Merge,
}

/// A case.
#[derive(Debug, Clone)]
pub struct Case {
    table: Table,
    setup: Setup,
    steps: Vec<Step>,
    expected: Vec<Vec<Option<String>>>,
    deleted_keys: usize,
}

impl Case {
    /// A case of one table, whose definition arrives first.
    #[must_use]
    pub fn of(table: &Table) -> Self {
        Self { table: table.clone(), setup: Setup::default(), steps: Vec::new(), expected: Vec::new(), deleted_keys: 0 }
    }

    /// With a variable for the functions.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.setup = self.setup.with(name, value);
        self
    }

    /// Then these arrive in one batch.
    #[must_use]
    pub fn deliver(mut self, messages: impl IntoIterator<Item = Message>) -> Self {
        self.steps.push(Step::Deliver(messages.into_iter().collect()));
        self
    }

    /// Then Kafka delivers records again, counted from the first of the case.
    #[must_use]
    pub fn redeliver(mut self, records: Range<usize>) -> Self {
        self.steps.push(Step::Redeliver(records));
        self
    }

    /// Then a merge runs.
    #[must_use]
    pub fn merge(mut self) -> Self {
        self.steps.push(Step::Merge);
        self
    }

    /// Then, after one more merge, the table holds these rows, and under soft deletes so many rows marked as deleted beside them.
    pub async fn ends_with(mut self, rows: &[&[&str]], deleted_keys: usize) {
        self.expected = cells(rows);
        self.deleted_keys = deleted_keys;
        tokio::join!(self.play("hard"), self.play("soft"));
    }

    async fn play(&self, deletes: &str) {
        let mut pipeline = self.setup.clone().with("STRAIT_DELETES", deletes).start().await;
        pipeline.send(&[self.table.create()]).await;
        let mut messages: Vec<Message> = Vec::new();
        let mut records: Vec<KafkaRecord> = Vec::new();
        for step in &self.steps {
            match step {
                Step::Deliver(batch) => {
                    records.extend(pipeline.send(batch).await);
                    messages.extend(batch.iter().cloned());
                }
                Step::Redeliver(range) => pipeline.deliver(&records[range.clone()]).await,
                Step::Merge => drop(pipeline.merge().await),
            }
        }
        self.check(&pipeline, deletes, "after the case's own schedule").await;

        // Kafka delivers again: the same offsets. One merge for all: a merge without news reads two small tables and does nothing.
        let before = pipeline.snapshot(&self.table).await;
        for from in 0..records.len() {
            pipeline.deliver(&records[from..]).await;
        }
        pipeline.merge().await;
        assert_eq!(pipeline.snapshot(&self.table).await, before, "{deletes}: a redelivery touched the table");
        // DMS sends again after a restart: the same positions at new offsets, in new messages.
        let again: Vec<Message> = messages.into_iter().filter(Message::has_position).collect();
        pipeline.send(&again).await;
        self.check(&pipeline, deletes, "after DMS sent everything again").await;
    }

    async fn check(&self, pipeline: &Pipeline, deletes: &str, when: &str) {
        pipeline.merge().await;
        assert_eq!(pipeline.rows(&self.table).await, self.expected, "{deletes}, {when}");
        let deleted = pipeline.deleted_rows(&self.table).await.len();
        let expected = if deletes == "soft" { self.deleted_keys } else { 0 };
        assert_eq!(deleted, expected, "{deletes}, {when}: rows marked as deleted");
        let quarantined = pipeline.texts(&format!("SELECT * FROM `{}`", pipeline.quarantine())).await;
        assert_eq!(quarantined, [""; 0], "{deletes}, {when}");
    }
}
