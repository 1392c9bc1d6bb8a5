//! The rows of a batch and the statements that write them: one statement for up to 64 rows of a table.
//!
//! Statement texts are made once per number of rows, so that SQLite's prepared statements are used again.

use super::prepare::Packed;
use super::row;
use crate::delivery::{AttemptRow, DeliveryKind, DeliveryState, Facts, MessageState};
use crate::fhir::Fault;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Error};
use std::sync::{Arc, LazyLock, OnceLock};
use uuid::Uuid;

const ROWS_PER_STATEMENT: usize = 64;

/// How many statement texts the writer's connection should keep prepared.
pub(super) const PREPARED_STATEMENTS: usize = 5 * ROWS_PER_STATEMENT + 64;

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
}

pub(super) struct BodyRow {
    pub message_key: i64,
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
    pub bodies: Vec<BodyRow>,
    pub references: Vec<ReferenceRow>,
    pub deliveries: Vec<DeliveryRow>,
    pub attempts: Vec<AttemptKeyed>,
    pub changed: Vec<Changed>,
}

impl Rows {
    /// Writes all of it; the caller has a transaction open.
    pub async fn write(mut self, conn: &mut SqliteConnection) -> Result<(), Error> {
        // Neighbors in the tree are written together, each page once.
        self.references.sort_unstable();
        MESSAGE.run(conn, self.messages, bind_message).await?;
        BODY.run(conn, self.bodies, bind_body).await?;
        REFERENCE.run(conn, self.references, bind_reference).await?;
        DELIVERY.run(conn, self.deliveries, bind_delivery).await?;
        ATTEMPT.run(conn, self.attempts, bind_attempt).await?;
        change(conn, &self.changed).await
    }
}

struct Insert {
    into: &'static str,
    columns: usize,
    texts: [OnceLock<Arc<str>>; ROWS_PER_STATEMENT],
}

static MESSAGE: LazyLock<Insert> = LazyLock::new(|| {
    Insert::new(
        "message (k, id, state, received_us, committed_us, sender, in_reply_to, own_answer, source, event, \
         response_code, destinations, marks, content, facts, outcome)",
        16,
    )
});
static BODY: LazyLock<Insert> = LazyLock::new(|| Insert::new("body (message_k, codec, size, bytes)", 4));
static REFERENCE: LazyLock<Insert> =
    LazyLock::new(|| Insert::new("reference (h, sender, kind, content, message_k)", 5));
static DELIVERY: LazyLock<Insert> = LazyLock::new(|| {
    Insert::new(
        "delivery (k, id, message_k, party, lane, seq, state, due_us, expires_us, created_us, kind, replay_of, \
         destination, detail)",
        14,
    )
});
static ATTEMPT: LazyLock<Insert> =
    LazyLock::new(|| Insert::new("attempt (delivery_k, n, started_us, duration_us, status, result, fault, detail)", 8));

impl Insert {
    fn new(into: &'static str, columns: usize) -> Self {
        Insert { into, columns, texts: [const { OnceLock::new() }; ROWS_PER_STATEMENT] }
    }

    /// `rows` is 1 to 64.
    fn text(&self, rows: usize) -> Arc<str> {
        let make = || {
            let row = format!("({})", vec!["?"; self.columns].join(","));
            // ROLLBACK: what fails ends the transaction, so SQLite keeps no journal for taking back one statement.
            Arc::from(format!("INSERT OR ROLLBACK INTO {} VALUES {}", self.into, vec![row; rows].join(",")))
        };
        self.texts[rows - 1].get_or_init(make).clone()
    }

    async fn run<R>(
        &self,
        conn: &mut SqliteConnection,
        rows: Vec<R>,
        bind: impl Fn(Bound, R) -> Bound,
    ) -> Result<(), Error> {
        let mut left = rows.len();
        let mut rows = rows.into_iter();
        while left > 0 {
            let count = left.min(ROWS_PER_STATEMENT);
            left -= count;
            let query: Bound = sqlx::query(AssertSqlSafe(self.text(count)));
            rows.by_ref().take(count).fold(query, &bind).execute(&mut *conn).await?;
        }
        Ok(())
    }
}

fn bind_message(query: Bound, row: MessageRow) -> Bound {
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
        .bind(row.event)
        .bind(response_code.map(|code| code.as_str()))
        .bind(row.destinations)
        .bind(row.marks)
        .bind(row.content.to_vec())
        .bind(row.facts_json)
        .bind(row.outcome_json)
}

fn bind_body(query: Bound, row: BodyRow) -> Bound {
    query.bind(row.message_key).bind(row.packed.codec).bind(row.size).bind(row.packed.bytes)
}

fn bind_reference(query: Bound, row: ReferenceRow) -> Bound {
    query.bind(row.hash).bind(row.sender).bind(row.kind).bind(row.content).bind(row.message_key)
}

fn bind_delivery(query: Bound, row: DeliveryRow) -> Bound {
    let replay_of = match &row.kind {
        DeliveryKind::Replay { of, .. } => of.map(row::blob),
        _ => None,
    };
    query
        .bind(row.key)
        .bind(row::blob(row.id))
        .bind(row.message_key)
        .bind(row.party)
        .bind(row.lane)
        .bind(row.seq)
        .bind(row::state_code(DeliveryState::Waiting))
        .bind(row.due_us)
        .bind(row.expires_us)
        .bind(row.created_us)
        .bind(row::kind_code(&row.kind))
        .bind(replay_of)
        .bind(row.destination)
        .bind(row::kind_detail(&row.kind))
}

fn bind_attempt(query: Bound, row: AttemptKeyed) -> Bound {
    query
        .bind(row.delivery_key)
        .bind(row.n)
        .bind(row.attempt.started_at_us)
        .bind(row.attempt.duration_us)
        .bind(row.attempt.status)
        .bind(row.attempt.result)
        .bind(row.attempt.fault.map(Fault::code))
        .bind(row.attempt.detail)
}

async fn change(conn: &mut SqliteConnection, changed: &[Changed]) -> Result<(), Error> {
    if changed.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = changed
        .iter()
        .map(|row| {
            let fault = row.fault.map(Fault::code);
            let state = row::state_code(row.state);
            (row.key, state, row.attempts, row.status, row.due_us, fault, row.answer, row.ended_us)
        })
        .collect();
    sqlx::query(
        "UPDATE OR ROLLBACK delivery SET state = c.state, attempts = c.attempts, status = c.status, due_us = c.due_us, \
         fault = c.fault, answer_k = c.answer_k, ended_us = c.ended_us \
         FROM (SELECT value->>0 AS k, value->>1 AS state, value->>2 AS attempts, value->>3 AS status, \
               value->>4 AS due_us, value->>5 AS fault, value->>6 AS answer_k, value->>7 AS ended_us \
               FROM json_each(?)) AS c \
         WHERE delivery.k = c.k",
    )
    .bind(json(&rows)?)
    .execute(conn)
    .await?;
    Ok(())
}

/// A parameter of `json_each`.
pub(super) fn json<T: serde::Serialize>(rows: &T) -> Result<String, Error> {
    serde_json::to_string(rows).map_err(|error| Error::Encode(error.into()))
}
