//! The statements that write the rows of a batch: one call for up to 64 rows of a table, or for 256; one for all rows of a batch that
//! has few.

use super::bulk::{Bound, BulkStatement, ROWS_PER_CALL, Series, Statement};
use super::row;
use crate::delivery::{DeliveryKind, DeliveryState};
use crate::fault::Fault;
use crate::store::rows::{self, CountChange, DeliveryRow, MessageRow, NumberedAttempt, ReferenceRow, Rows};
use crate::store::stored::DeliveryRecord;
use sqlx::Error;
use sqlx::sqlite::SqliteConnection;

/// The number of statements that the writer's connection should cache.
pub(in crate::store) const PREPARED_STATEMENTS: usize = 8 * ROWS_PER_CALL + 128;

/// Rows of a table that are few: then all rows of a batch are written in one call. The texts for all numbers of rows are few, too.
const FEW_ROWS: usize = 2;

/// Key and change of a row of `reference_log`.
pub(in crate::store) type LogRow = (i64, String);

const WRITE_LOG: &str = "INSERT OR ROLLBACK INTO reference_log (k, change) VALUES (?, ?)";

impl Rows {
    /// Writes all rows in the transaction of the caller, who commits it.
    pub async fn write(mut self, conn: &mut SqliteConnection) -> Result<(), Error> {
        self.write_new(conn, None).await?;
        ATTEMPTS.run(conn, &mut self.attempts, &[bind_attempt]).await?;
        CHANGES.run(conn, &mut self.changed, &[bind_changed]).await?;
        write_counts(conn, &self.count_changes()).await
    }

    /// Writes all rows and commits the caller's transaction. Most settlements are one attempt and one change: these are sent
    /// in one call with the commit.
    pub async fn write_and_commit(mut self, conn: &mut SqliteConnection, log: Option<LogRow>) -> Result<(), Error> {
        if self.are_few() {
            return self.write_few_and_commit(conn, log).await;
        }
        self.write_new(conn, log).await?;
        let counts = json(&self.count_changes())?;
        let count = self.changed.len();
        if count == self.attempts.len() && (1..=ROWS_PER_CALL).contains(&count) {
            let mut bound = SETTLE_AND_COMMIT.bound(count);
            bound.bind_rows(&mut self.attempts, &[bind_attempt]);
            bound.bind_rows(&mut self.changed, &[bind_changed]);
            bound.bind(counts);
            return bound.execute(SETTLE_AND_COMMIT.text(count), conn).await;
        }
        ATTEMPTS.run(conn, &mut self.attempts, &[bind_attempt]).await?;
        CHANGES.run(conn, &mut self.changed, &[bind_changed]).await?;
        sqlx::query(COUNT_AND_COMMIT).bind(counts).execute(conn).await.map(drop)
    }

    fn are_few(&self) -> bool {
        let counts = [self.messages.len(), self.deliveries.len(), self.attempts.len(), self.changed.len()];
        let are_rare = [self.faults.len(), self.linked_responses.len(), self.receiver_issues.len()];
        counts.iter().all(|count| *count <= FEW_ROWS) && are_rare == [0; 3]
    }

    /// In one call: for one sender alone, the writer then waits for SQLite 23 times for a message instead of 27.
    async fn write_few_and_commit(mut self, conn: &mut SqliteConnection, log: Option<LogRow>) -> Result<(), Error> {
        let counts = json(&self.count_changes())?;
        let mut series = Series::default();
        series.add(&MESSAGES, &mut self.messages, &[bind_message, bind_body]);
        if let Some((key, change)) = log {
            series.then(WRITE_LOG).bind(key).bind(change);
        }
        series.add(&DELIVERIES, &mut self.deliveries, &[bind_delivery]);
        series.add(&ATTEMPTS, &mut self.attempts, &[bind_attempt]);
        series.add(&CHANGES, &mut self.changed, &[bind_changed]);
        series.then(COUNT_AND_COMMIT).bind(counts);
        series.execute(conn).await
    }

    async fn write_new(&mut self, conn: &mut SqliteConnection, log: Option<LogRow>) -> Result<(), Error> {
        self.write_messages(conn, log).await?;
        write_terms(conn, &mut self.faults).await?;
        DELIVERIES.run(conn, &mut self.deliveries, &[bind_delivery]).await?;
        for row in self.linked_responses.drain(..) {
            let query = sqlx::query(LINK_RESPONSE).bind(row.message_key).bind(row::blob(row.request)).bind(row.flags);
            query.bind(rows::AMBIGUOUS).bind(row.metadata_json).execute(&mut *conn).await?;
        }
        RECEIVER_ISSUES.run(conn, &mut self.receiver_issues, &[bind_receiver_issues]).await
    }

    /// `log` is written with the first messages.
    async fn write_messages(&mut self, conn: &mut SqliteConnection, log: Option<LogRow>) -> Result<(), Error> {
        let mut messages = self.messages.as_mut_slice();
        if let Some((key, change)) = log {
            let (first, others) = messages.split_at_mut(messages.len().min(ROWS_PER_CALL));
            let mut bound = MESSAGES_AND_REFERENCES.bound(first.len());
            bound.bind_rows(first, &[bind_message, bind_body]);
            bound.bind(key).bind(change);
            bound.execute(MESSAGES_AND_REFERENCES.text(first.len()), &mut *conn).await?;
            messages = others;
        }
        MESSAGES.run(conn, messages, &[bind_message, bind_body]).await
    }
}

/// A response stays linked to the first request that it was linked to, and is no longer ambiguous.
const LINK_RESPONSE: &str = "UPDATE OR ROLLBACK message SET in_reply_to = coalesce(in_reply_to, ?2), response_flags = (response_flags | ?3) & ~?4, \
                   metadata = coalesce(?5, metadata) WHERE k = ?1";

/// OR ROLLBACK: a failure ends the transaction, so SQLite needs no journal to undo a single statement.
static MESSAGES: BulkStatement = BulkStatement::new(&[MESSAGE, BODY], "");
/// With a row of the log of references.
static MESSAGES_AND_REFERENCES: BulkStatement = BulkStatement::new(&[MESSAGE, BODY], WRITE_LOG);
const MESSAGE: Statement = (
    "INSERT OR ROLLBACK INTO message (k, id, state, received_us, committed_us, sender, in_reply_to, router_answer_k, \
     source, event, response_code, destinations, issue_labels, content_sha256, response_sha256, response_flags, metadata, outcome) VALUES ",
    18,
    "",
);
const BODY: Statement = ("INSERT OR ROLLBACK INTO body (message_k, codec, size, bytes, outcome) VALUES ", 5, "");
/// OR IGNORE: a row that was moved before a crash is moved again.
static REFERENCES: BulkStatement = BulkStatement::new(
    &[("INSERT OR IGNORE INTO reference (hash, sender, kind, content_head, message_k) VALUES ", 5, "")],
    "",
);
/// OR IGNORE: an earlier attempt may have stored the same fault.
static TERMS: BulkStatement =
    BulkStatement::new(&[("INSERT OR IGNORE INTO term (hash, message_k) VALUES ", 2, "")], "");
static DELIVERIES: BulkStatement = BulkStatement::new(
    &[(
        "INSERT OR ROLLBACK INTO delivery (k, id, message_k, participant, lane, seq, prev_seq, state, due_us, expires_us, \
         created_us, kind, replay_of, destination, kind_json) VALUES ",
        15,
        "",
    )],
    "",
);
const ATTEMPT: Statement = (
    "INSERT OR ROLLBACK INTO attempt (delivery_k, n, started_us, duration_us, status, result, fault, detail) VALUES ",
    8,
    "",
);
const CHANGE: Statement = (
    "WITH c (k, state, attempts, status, due_us, fault, answer_k, ended_us) AS (VALUES ",
    8,
    ") UPDATE OR ROLLBACK delivery SET state = c.state, attempts = c.attempts, status = c.status, due_us = c.due_us, \
     fault = c.fault, answer_k = c.answer_k, ended_us = c.ended_us FROM c WHERE delivery.k = c.k",
);
macro_rules! count {
    () => {
        "UPDATE OR ROLLBACK participant SET waiting = waiting + (c.value->>1), dead = dead + (c.value->>2) \
         FROM json_each(?) AS c WHERE k = c.value->>0"
    };
}
const COUNT_AND_COMMIT: &str = concat!(count!(), "; COMMIT");
/// OR REPLACE: the last report counts if a delivery is made more than once.
static RECEIVER_ISSUES: BulkStatement =
    BulkStatement::new(&[("INSERT OR REPLACE INTO receiver_issues (delivery_k, issues) VALUES ", 2, "")], "");
static ATTEMPTS: BulkStatement = BulkStatement::new(&[ATTEMPT], "");
static CHANGES: BulkStatement = BulkStatement::new(&[CHANGE], "");
static SETTLE_AND_COMMIT: BulkStatement = BulkStatement::new(&[ATTEMPT, CHANGE], COUNT_AND_COMMIT);

fn bind_message(bound: &mut Bound, row: &mut MessageRow) {
    let response_code = row.metadata.response.as_ref().and_then(|response| response.code);
    bound
        .bind(row.key)
        .bind(row::blob(row.metadata.id))
        .bind(row::message_state_code(row.state))
        .bind(row.metadata.received_at_us)
        .bind(row.committed_us)
        .bind(row.sender)
        .bind(row.in_reply_to.map(row::blob))
        .bind(row.router_answer)
        .bind(row.metadata.source.clone())
        .bind(row.event.take())
        .bind(response_code.map(|code| code.as_str()))
        .bind(row.destinations.clone())
        .bind(row.issue_labels.take())
        .bind(row.content.to_vec())
        .bind(row.response_sha256.map(|digest| digest.to_vec()))
        .bind(row.flags)
        .bind(row.metadata_json.clone())
        .bind(row.outcome_json.take());
}

fn bind_body(bound: &mut Bound, row: &mut MessageRow) {
    let bytes = row.packed.bytes.to_vec();
    bound.bind(row.key).bind(row.packed.codec).bind(row.size_bytes).bind(bytes).bind(row.full_outcome_json.clone());
}

fn bind_reference(bound: &mut Bound, row: &mut ReferenceRow) {
    bound.bind(row.hash).bind(row.sender).bind(row.kind).bind(row.content).bind(row.message_key);
}

fn bind_term(bound: &mut Bound, (term, message_key): &mut (i64, i64)) {
    bound.bind(*term).bind(*message_key);
}

fn bind_delivery(bound: &mut Bound, row: &mut DeliveryRow) {
    let replay_of = match &row.kind {
        DeliveryKind::Replay { of, .. } => of.map(row::blob),
        _ => None,
    };
    bound
        .bind(row.key)
        .bind(row::blob(row.id))
        .bind(row.message_key)
        .bind(row.participant_key)
        .bind(row.lane)
        .bind(row.seq)
        .bind(row.prev_seq)
        .bind(row::state_code(DeliveryState::Waiting))
        .bind(row.due_us)
        .bind(row.expires_us)
        .bind(row.created_us)
        .bind(row::kind_code(&row.kind))
        .bind(replay_of)
        .bind(row.destination.take())
        .bind(row::kind_json(&row.kind));
}

fn bind_attempt(bound: &mut Bound, row: &mut NumberedAttempt) {
    bound
        .bind(row.delivery_key)
        .bind(row.n)
        .bind(row.attempt.started_at_us)
        .bind(row.attempt.duration_us)
        .bind(row.attempt.status)
        .bind(std::mem::take(&mut row.attempt.result))
        .bind(row.attempt.fault.map(Fault::code))
        .bind(row.attempt.detail.take());
}

fn bind_receiver_issues(bound: &mut Bound, (key, issues): &mut (i64, String)) {
    bound.bind(*key).bind(std::mem::take(issues));
}

fn bind_changed(bound: &mut Bound, (key, row): &mut (i64, DeliveryRecord)) {
    bound
        .bind(*key)
        .bind(row::state_code(row.state))
        .bind(row.attempts)
        .bind(row.status)
        .bind(row.due_us)
        .bind(row.fault.map(Fault::code))
        .bind(row.answer)
        .bind(row.ended_us);
}

/// In the caller's transaction. `rows` are sorted, so that each page of the table is written once.
pub(in crate::store) async fn write_references(
    conn: &mut SqliteConnection,
    rows: &mut [ReferenceRow],
) -> Result<(), Error> {
    REFERENCES.run(conn, rows, &[bind_reference]).await
}

/// In the caller's transaction.
pub(in crate::store) async fn write_terms(conn: &mut SqliteConnection, terms: &mut [(i64, i64)]) -> Result<(), Error> {
    TERMS.run(conn, terms, &[bind_term]).await
}

/// In the caller's transaction.
pub(in crate::store) async fn write_log(conn: &mut SqliteConnection, (key, change): LogRow) -> Result<(), Error> {
    sqlx::query(WRITE_LOG).bind(key).bind(change).execute(conn).await.map(drop)
}

/// Counts the deliveries of participants, in the caller's transaction.
pub(in crate::store) async fn write_counts(conn: &mut SqliteConnection, counts: &[CountChange]) -> Result<(), Error> {
    sqlx::query(count!()).bind(json(&counts)?).execute(conn).await.map(drop)
}

/// A parameter of `json_each`.
pub(in crate::store) fn json<T: serde::Serialize>(rows: &T) -> Result<String, Error> {
    serde_json::to_string(rows).map_err(|error| Error::Encode(error.into()))
}
