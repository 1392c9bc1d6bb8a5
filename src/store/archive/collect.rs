//! Reads messages with everything of theirs, as lines of the archive. One content at a time is in memory.

use super::columns::{json, to_json};
use super::content::Content;
use super::line::{ArchivedDelivery, FORMAT, Record};
use crate::store::Unavailable;
use crate::store::archived::DeliveryDigest;
use crate::store::backend::Backend;
use crate::store::prepare::unpack;
use crate::store::transfer::row::{Cell, Row};
use crate::store::transfer::table::Table;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

/// A message of the archive.
pub(super) struct Collected {
    pub key: i64,
    pub digest: DeliveryDigest,
    pub line: Vec<u8>,
    /// Bytes of its body in the store.
    pub stored_bytes: u64,
}

/// Some messages, whose small rows are read at once.
pub(super) struct Collector<'b> {
    backend: &'b Backend,
    /// Rows of `message`, in descending order of their keys.
    messages: Vec<Row>,
    /// By message.
    deliveries: HashMap<i64, Vec<Row>>,
    /// By delivery.
    attempts: HashMap<i64, Vec<Row>>,
    issues: HashMap<i64, Vec<Row>>,
    participants: HashMap<i64, Cell>,
    ids: HashMap<i64, Cell>,
}

impl<'b> Collector<'b> {
    pub async fn new(backend: &'b Backend, keys: Vec<i64>) -> Result<Self, Unavailable> {
        let mut messages = all(backend, "message", "k", &keys).await?;
        let deliveries = all(backend, "delivery", "message_k", &keys).await?;
        let delivery_keys: Vec<i64> = values(&deliveries, "delivery", "k");
        let attempts = all(backend, "attempt", "delivery_k", &delivery_keys).await?;
        let issues = all(backend, "receiver_issues", "delivery_k", &delivery_keys).await?;
        let mut participants = values(&messages, "message", "sender");
        participants.extend(values(&deliveries, "delivery", "participant"));
        let mut answers = values(&messages, "message", "router_answer_k");
        answers.extend(values(&deliveries, "delivery", "answer_k"));
        messages.reverse();
        Ok(Collector {
            backend,
            messages,
            deliveries: by("delivery", "message_k", deliveries),
            attempts: by("attempt", "delivery_k", attempts),
            issues: by("receiver_issues", "delivery_k", issues),
            participants: names(backend, "participant", participants).await?,
            ids: names(backend, "message", answers).await?,
        })
    }

    /// None after the last one.
    pub async fn next(&mut self) -> Result<Option<Collected>, Unavailable> {
        let Some(row) = self.messages.pop() else { return Ok(None) };
        let key = integer("message", &row, "k").unwrap_or_default();
        let (content, stored_bytes) = self.content(key).await?.unzip();
        let deliveries = self.deliveries.remove(&key).unwrap_or_default();
        let mut message = to_json(Table::named("message"), &row, &["k", "sender", "router_answer_k"]);
        message.insert("sender".into(), self.named(&self.participants, "message", &row, "sender"));
        message.insert("router_answer".into(), self.named(&self.ids, "message", &row, "router_answer_k"));
        let digest = digest(&deliveries);
        let deliveries = deliveries.iter().map(|row| self.delivery(row)).collect();
        let line = Record { format: FORMAT, message, content, deliveries }.to_line();
        let line = line.map_err(|error| Unavailable::Damaged(format!("message {key}: {error}")))?;
        Ok(Some(Collected { key, digest, line, stored_bytes: stored_bytes.unwrap_or_default() }))
    }

    async fn content(&self, key: i64) -> Result<Option<(Content, u64)>, Unavailable> {
        let body = all(self.backend, "body", "message_k", &[key]).await?.into_iter().next();
        let Some(body) = body else { return Ok(None) };
        let damaged = || Unavailable::Damaged(format!("the content of message {key} cannot be unpacked"));
        let number = |name| integer("body", &body, name).unwrap_or_default();
        let outcome = match cell("body", &body, "outcome") {
            Cell::Text(outcome) => json(&outcome),
            _ => Value::Null,
        };
        let Cell::Bytes(packed) = cell("body", &body, "bytes") else { return Err(damaged()) };
        let stored_bytes = packed.len() as u64;
        let bytes = unpack(number("codec"), number("size"), packed).ok_or_else(damaged)?;
        Ok(Some((Content::new(&bytes, outcome), stored_bytes)))
    }

    fn delivery(&self, row: &Row) -> ArchivedDelivery {
        let key = integer("delivery", row, "k").unwrap_or_default();
        let mut columns = to_json(Table::named("delivery"), row, &["k", "message_k", "participant", "answer_k"]);
        columns.insert("participant".into(), self.named(&self.participants, "delivery", row, "participant"));
        columns.insert("answer".into(), self.named(&self.ids, "delivery", row, "answer_k"));
        let attempts = self.attempts.get(&key).into_iter().flatten();
        let attempt_list = attempts.map(|row| to_json(Table::named("attempt"), row, &["delivery_k"])).collect();
        let issues = self.issues.get(&key).and_then(|rows| rows.first());
        let issues = match issues.map(|row| cell("receiver_issues", row, "issues")) {
            Some(Cell::Text(issues)) => json(&issues),
            _ => Value::Null,
        };
        ArchivedDelivery { columns, attempt_list, issues }
    }

    /// What a key names.
    fn named(&self, names: &HashMap<i64, Cell>, table: &str, row: &Row, column: &str) -> Value {
        match integer(table, row, column).and_then(|key| names.get(&key)) {
            Some(Cell::Text(id)) => id.clone().into(),
            Some(Cell::Bytes(id)) => uuid::Uuid::from_slice(id).map_or(Value::Null, |id| id.to_string().into()),
            _ => Value::Null,
        }
    }
}

/// As the step that deletes reads it.
fn digest(deliveries: &[Row]) -> DeliveryDigest {
    let all = |column| deliveries.iter().map(move |row| integer("delivery", row, column).unwrap_or_default());
    (
        deliveries.len() as i64,
        all("attempts").sum(),
        all("state").sum(),
        all("ended_us").max().unwrap_or_default(),
        deliveries.iter().filter_map(|row| integer("delivery", row, "answer_k")).max().unwrap_or_default(),
    )
}

/// In the order of the table's key.
async fn all(backend: &Backend, name: &str, column: &str, keys: &[i64]) -> Result<Vec<Row>, Unavailable> {
    let table = Table::named(name);
    let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
    let mut rows = backend.select(table, &columns, column, keys).await?;
    rows.sort_by_cached_key(|row| table.key.iter().map(|column| integer(name, row, column)).collect::<Vec<_>>());
    Ok(rows)
}

/// The ids of these rows by key.
async fn names(backend: &Backend, table: &str, keys: Vec<i64>) -> Result<HashMap<i64, Cell>, Unavailable> {
    let keys: Vec<i64> = keys.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let rows = backend.select(Table::named(table), &["k", "id"], "k", &keys).await?;
    let named = |row: Row| match <[Cell; 2]>::try_from(row) {
        Ok([Cell::Integer(key), id]) => Some((key, id)),
        _ => None,
    };
    Ok(rows.into_iter().filter_map(named).collect())
}

fn cell(table: &str, row: &[Cell], column: &str) -> Cell {
    Table::named(table).values(row, &[column]).pop().unwrap_or(Cell::Null)
}

fn integer(table: &str, row: &[Cell], column: &str) -> Option<i64> {
    match cell(table, row, column) {
        Cell::Integer(value) => Some(value),
        _ => None,
    }
}

fn values(rows: &[Row], table: &str, column: &str) -> Vec<i64> {
    rows.iter().filter_map(|row| integer(table, row, column)).collect()
}

fn by(table: &str, column: &str, rows: Vec<Row>) -> HashMap<i64, Vec<Row>> {
    let mut all: HashMap<i64, Vec<Row>> = HashMap::new();
    for row in rows {
        all.entry(integer(table, &row, column).unwrap_or_default()).or_default().push(row);
    }
    all
}
