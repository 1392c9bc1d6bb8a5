//! The rows of a batch and the statements that write them, in two calls: messages with their bodies, and all the rest.
//!
//! Each call is a trip to SQLite's thread and back, which costs more than many a statement: so several statements go in one
//! call, and the transaction's end with them. Texts are fixed, or made once per number of rows, so that SQLite's prepared
//! statements are used again; what is no body goes as one JSON array per table.

use super::prepare::Packed;
use super::row;
use crate::delivery::{AttemptRow, DeliveryKind, DeliveryState, Facts, MessageState};
use crate::fhir::Fault;
use serde::Serialize;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Error};
use std::sync::{Arc, LazyLock, OnceLock};
use uuid::Uuid;

const MESSAGES_PER_CALL: usize = 64;

/// How many statement texts the writer's connection should keep prepared.
pub(super) const PREPARED_STATEMENTS: usize = MESSAGES_PER_CALL + 64;

/// What is bound in `WRITE_REST`: references, deliveries, attempts, changed deliveries, each a JSON array of arrays.
/// ROLLBACK: what fails ends the transaction, so SQLite keeps no journal for taking back one statement.
const WRITE_REST: &str = "\
INSERT OR ROLLBACK INTO reference (h, sender, kind, content, message_k) \
 SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?); \
INSERT OR ROLLBACK INTO delivery (k, id, message_k, party, lane, seq, state, due_us, expires_us, created_us, kind, \
  replay_of, destination, detail) \
 SELECT value->>0, unhex(value->>1), value->>2, value->>3, value->>4, value->>5, 0, value->>6, value->>7, value->>8, \
  value->>9, unhex(value->>10), value->>11, value->>12 FROM json_each(?); \
INSERT OR ROLLBACK INTO attempt (delivery_k, n, started_us, duration_us, status, result, fault, detail) \
 SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7 FROM json_each(?); \
UPDATE OR ROLLBACK delivery SET state = c.state, attempts = c.attempts, status = c.status, due_us = c.due_us, \
  fault = c.fault, answer_k = c.answer_k, ended_us = c.ended_us \
 FROM (SELECT value->>0 AS k, value->>1 AS state, value->>2 AS attempts, value->>3 AS status, value->>4 AS due_us, \
        value->>5 AS fault, value->>6 AS answer_k, value->>7 AS ended_us FROM json_each(?)) AS c \
 WHERE delivery.k = c.k";
/// The same, and the transaction's end.
static WRITE_REST_AND_COMMIT: LazyLock<String> = LazyLock::new(|| format!("{WRITE_REST}; COMMIT"));

type Bound = Query<'static, Sqlite, SqliteArguments>;

pub(super) struct MessageRow {
    pub key: i64,
    pub state: MessageState,
    pub committed_us: i64,
    pub sender: i64,
    pub in_reply_to: Option<Uuid>,
    pub own_answer: Option<i64>,
    pub event: Option<String>,
    pub destinations: String,
    pub marks: Option<String>,
    pub content: [u8; 32],
    pub facts: Arc<Facts>,
    pub facts_json: String,
    pub outcome_json: Option<String>,
    /// Bytes of the body as received, and the body as kept.
    pub size: i64,
    pub packed: Packed,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReferenceRow {
    pub hash: i64,
    /// 0: no identity.
    pub sender: i64,
    pub kind: i64,
    pub content: i64,
    pub message_key: i64,
}

pub(super) struct DeliveryRow {
    pub key: i64,
    pub id: Uuid,
    pub message_key: i64,
    pub party: i64,
    pub lane: i64,
    pub seq: i64,
    pub due_us: i64,
    pub expires_us: i64,
    pub created_us: i64,
    pub kind: DeliveryKind,
    pub destination: Option<String>,
}

pub(super) struct AttemptKeyed {
    pub delivery_key: i64,
    pub n: i64,
    pub attempt: AttemptRow,
}

/// A delivery's columns that change, as they are to be.
#[derive(Clone, Debug)]
pub(super) struct Changed {
    pub key: i64,
    pub state: DeliveryState,
    pub attempts: i64,
    pub status: Option<u16>,
    pub due_us: i64,
    pub fault: Option<Fault>,
    pub answer: Option<i64>,
    pub ended_us: Option<i64>,
}

/// What one transaction writes.
#[derive(Default)]
pub(super) struct Rows {
    pub messages: Vec<MessageRow>,
    pub references: Vec<ReferenceRow>,
    pub deliveries: Vec<DeliveryRow>,
    pub attempts: Vec<AttemptKeyed>,
    pub changed: Vec<Changed>,
}

impl Rows {
    /// Writes all of it; the caller has a transaction open, and ends it.
    pub async fn write(self, conn: &mut SqliteConnection) -> Result<(), Error> {
        self.write_with(conn, WRITE_REST).await
    }

    /// Writes all of it and commits the caller's transaction.
    pub async fn write_and_commit(self, conn: &mut SqliteConnection) -> Result<(), Error> {
        self.write_with(conn, &WRITE_REST_AND_COMMIT).await
    }

    async fn write_with(mut self, conn: &mut SqliteConnection, rest: &'static str) -> Result<(), Error> {
        let mut messages = std::mem::take(&mut self.messages);
        for chunk in messages.chunks_mut(MESSAGES_PER_CALL) {
            let query: Bound = sqlx::query(AssertSqlSafe(messages_text(chunk.len())));
            let query = chunk.iter_mut().fold(query, bind_message);
            chunk.iter_mut().fold(query, bind_body).execute(&mut *conn).await?;
        }
        // Neighbors in the tree are written together, each page once.
        self.references.sort_unstable();
        let references: Vec<_> = self.references.iter().map(ReferenceRow::columns).collect();
        let deliveries: Vec<_> = self.deliveries.iter().map(DeliveryRow::columns).collect();
        let attempts: Vec<_> = self.attempts.iter().map(AttemptKeyed::columns).collect();
        let changed: Vec<_> = self.changed.iter().map(Changed::columns).collect();
        sqlx::query(AssertSqlSafe(rest))
            .bind(json(&references)?)
            .bind(json(&deliveries)?)
            .bind(json(&attempts)?)
            .bind(json(&changed)?)
            .execute(conn)
            .await
            .map(drop)
    }
}

/// The statements that insert `count` (1 to 64) messages and then their bodies.
fn messages_text(count: usize) -> Arc<str> {
    static TEXTS: [OnceLock<Arc<str>>; MESSAGES_PER_CALL] = [const { OnceLock::new() }; MESSAGES_PER_CALL];
    let values = |columns: usize| {
        let row = format!("({})", vec!["?"; columns].join(","));
        vec![row; count].join(",")
    };
    let make = || {
        Arc::from(format!(
            "INSERT OR ROLLBACK INTO message (k, id, state, received_us, committed_us, sender, in_reply_to, own_answer, \
             source, event, response_code, destinations, marks, content, facts, outcome) VALUES {}; \
             INSERT OR ROLLBACK INTO body (message_k, codec, size, bytes) VALUES {}",
            values(16),
            values(4)
        ))
    };
    TEXTS[count - 1].get_or_init(make).clone()
}

fn bind_message(query: Bound, row: &mut MessageRow) -> Bound {
    let response_code = row.facts.response.as_ref().and_then(|response| response.code);
    query
        .bind(row.key)
        .bind(row::blob(row.facts.id))
        .bind(row::message_state_code(row.state))
        .bind(row.facts.received_at_us)
        .bind(row.committed_us)
        .bind(row.sender)
        .bind(row.in_reply_to.map(row::blob))
        .bind(row.own_answer)
        .bind(row.facts.source.clone())
        .bind(row.event.take())
        .bind(response_code.map(|code| code.as_str()))
        .bind(std::mem::take(&mut row.destinations))
        .bind(row.marks.take())
        .bind(row.content.to_vec())
        .bind(std::mem::take(&mut row.facts_json))
        .bind(row.outcome_json.take())
}

fn bind_body(query: Bound, row: &mut MessageRow) -> Bound {
    query.bind(row.key).bind(row.packed.codec).bind(row.size).bind(std::mem::take(&mut row.packed.bytes))
}

impl ReferenceRow {
    fn columns(&self) -> impl Serialize {
        (self.hash, self.sender, self.kind, self.content, self.message_key)
    }
}

impl DeliveryRow {
    fn columns(&self) -> impl Serialize {
        let replay_of = match &self.kind {
            DeliveryKind::Replay { of, .. } => of.map(hex),
            _ => None,
        };
        let (kind, detail) = (row::kind_code(&self.kind), row::kind_detail(&self.kind));
        let (id, destination) = (hex(self.id), self.destination.clone());
        let place = (self.message_key, self.party, self.lane, self.seq);
        let times = (self.due_us, self.expires_us, self.created_us);
        (
            self.key,
            id,
            place.0,
            place.1,
            place.2,
            place.3,
            times.0,
            times.1,
            times.2,
            kind,
            replay_of,
            destination,
            detail,
        )
    }
}

impl AttemptKeyed {
    fn columns(&self) -> impl Serialize {
        let attempt = self.attempt.clone();
        let fault = attempt.fault.map(Fault::code);
        let times = (attempt.started_at_us, attempt.duration_us);
        (self.delivery_key, self.n, times.0, times.1, attempt.status, attempt.result, fault, attempt.detail)
    }
}

impl Changed {
    fn columns(&self) -> impl Serialize {
        let (fault, state) = (self.fault.map(Fault::code), row::state_code(self.state));
        (self.key, state, self.attempts, self.status, self.due_us, fault, self.answer, self.ended_us)
    }
}

/// A UUID as `unhex` reads it.
fn hex(id: Uuid) -> String {
    id.simple().to_string()
}

/// A parameter of `json_each`.
pub(super) fn json<T: serde::Serialize>(rows: &T) -> Result<String, Error> {
    serde_json::to_string(rows).map_err(|error| Error::Encode(error.into()))
}
