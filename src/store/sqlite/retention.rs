//! Retention: deletes identities, bodies, and traces (rows of messages with their deliveries and attempts) by age, in small steps
//! between which messages are accepted.
//!
//! A message with a waiting delivery is open: nothing of it is deleted, whatever its age. The body of a message with a dead letter
//! is kept for a number of days of its own, counted from when that delivery ended, so that an operator can retry it. Each call reads
//! at most `limit` messages per kind and deletes at most `STEP_COST` rows and pages; the next call continues there.

use super::Sqlite;
use super::insert::json;
use super::leftover::{self, Pass};
use super::lookup;
use super::progress;
use super::recent;
use super::row;
use super::term;
use super::writer::Writer;
use crate::store::Unavailable;
use crate::store::retention::{
    self, Aged, DeadLetter, DeadLetterCursor, RetentionCursors, STEP_COST, Scope, Window, microseconds_since,
};
use crate::store::rows::ReferenceRow;
use crate::store::view::RetentionStep;
use futures_util::FutureExt;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Error, Row};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// References that a pass goes over in the time in which a message is deleted.
const REFERENCES_PER_MESSAGE: u32 = 16;
const BODY_COST: &str = "1 + length(b.bytes) / 4096";
const TRACE_COST: &str = "1 + (SELECT count(*) + coalesce(sum(attempts), 0) FROM delivery WHERE message_k = m.k) \
                          + coalesce((SELECT length(bytes) / 4096 FROM body WHERE message_k = m.k), 0)";

/// Where the next step continues.
#[derive(Clone, Copy, Default)]
pub(in crate::store) struct Sweep {
    pub cursors: RetentionCursors,
    pass: Option<Pass>,
    /// What the store had accepted and settled.
    operations: u64,
}

impl Sqlite {
    pub async fn sweep(&self, mut scope: Scope) -> Result<RetentionStep, Unavailable> {
        if self.core.clock.jump().is_some() {
            return Ok(RetentionStep::default());
        }
        self.look_around(&mut scope).await?;
        let core = &self.core;
        let from = *core.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        let swept = core.write(move |_, writer| {
            async move {
                let begun = Instant::now();
                let (mut step, next) = step(writer, &scope, from).await?;
                step.work_us = microseconds_since(begun);
                Ok((step, next, begun))
            }
            .boxed()
        });
        let (mut step, mut next, begun) = swept.await?;
        step.busy_us = microseconds_since(begun);
        next.operations = core.operations.load(Ordering::Relaxed);
        step.is_alone = next.operations == from.operations;
        *core.sweep.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(step)
    }
}

/// A slice of a pass over the references, or messages.
async fn step(writer: &mut Writer, scope: &Scope, mut next: Sweep) -> Result<(RetentionStep, Sweep), Error> {
    let conn = &mut writer.conn;
    if next.pass.is_none() {
        next.pass = leftover::due(conn).await?;
    }
    let Some(pass) = next.pass else {
        super::tries::sweep(conn, scope.now_us).await?;
        let (step, cursors) = sweep(writer, scope, next.cursors).await?;
        return Ok((step, Sweep { cursors, ..next }));
    };
    let rows = scope.limit.saturating_mul(REFERENCES_PER_MESSAGE);
    let (references, pass) = leftover::go_on(conn, pass, rows).await?;
    let step = RetentionStep { references, more: true, excess_bytes: scope.excess_bytes, ..RetentionStep::default() };
    Ok((step, Sweep { pass, ..next }))
}

async fn sweep(
    writer: &mut Writer,
    scope: &Scope,
    mut cursors: RetentionCursors,
) -> Result<(RetentionStep, RetentionCursors), Error> {
    let mut step = RetentionStep { excess_bytes: scope.excess_bytes, ..RetentionStep::default() };
    if let Some(before) = scope.limits.traces {
        let mut window = window(&mut writer.conn, TRACES, cursors.traces, before, scope).await?;
        window.ended = still_archived(&mut writer.conn, window.ended, scope).await?;
        match window.ended.first() {
            Some(key) if window.too_large && !delete_some(writer, *key, scope).await? => {
                (cursors.traces, step.more) = (key - 1, true);
            }
            _ => {
                (cursors.traces, step.more) = (window.cursor, window.more);
                step.traces = delete_traces(writer, &window.ended).await?;
            }
        }
    }
    // Identities of messages that the next steps delete need not be released.
    if let Some(before) = scope.limits.identities
        && !step.more
    {
        step.identities = release_identities(writer, before, scope.limit).await?;
    }
    if let Some(before) = scope.limits.bodies {
        let window = window(&mut writer.conn, BODIES, cursors.bodies, before, scope).await?;
        (cursors.bodies, step.more) = (window.cursor, step.more || window.more);
        let ended = still_archived(&mut writer.conn, window.ended, scope).await?;
        step.bodies = delete_bodies(writer, &ended).await?;
    }
    if let Some(before) = scope.limits.dead_letters {
        let (ended, cursor) = dead_letters(&mut writer.conn, cursors.dead_letters, before, scope).await?;
        cursors.dead_letters = cursor;
        step.more |= cursor != DeadLetterCursor::default();
        let ended = still_archived(&mut writer.conn, ended, scope).await?;
        step.bodies += delete_bodies(writer, &ended).await?;
    }
    let has_no_body =
        step.bodies == 0 && !step.more && scope.archived.as_ref().is_none_or(|archived| archived.is_last());
    let turns_to_traces = scope.excess_bytes > 0 && has_no_body && !cursors.deletes_traces_by_size;
    cursors.deletes_traces_by_size = scope.excess_bytes > 0 && (cursors.deletes_traces_by_size || turns_to_traces);
    step.more |= turns_to_traces;
    Ok((step, cursors))
}

/// Without those whose deliveries have changed since they were archived.
async fn still_archived(conn: &mut SqliteConnection, keys: Vec<i64>, scope: &Scope) -> Result<Vec<i64>, Error> {
    let Some(archived) = &scope.archived else { return Ok(keys) };
    let sql = "SELECT message_k, count(*), sum(attempts), sum(state), coalesce(max(ended_us), 0), coalesce(max(answer_k), 0) \
               FROM delivery WHERE message_k IN (SELECT value FROM json_each(?)) GROUP BY message_k";
    let rows = sqlx::query(sql).bind(json(&keys)?).fetch_all(conn).await?;
    let read = |row: &SqliteRow| {
        let digest = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
        Ok((row.try_get(0)?, digest))
    };
    let now = rows.iter().map(read).collect::<Result<_, Error>>()?;
    Ok(archived.unchanged(&keys, &now))
}

/// Messages without waiting deliveries whose last dead letter ended before `before_us`, in the order in which their deliveries
/// ended.
pub(super) async fn dead_letters(
    conn: &mut SqliteConnection,
    after: DeadLetterCursor,
    before_us: i64,
    scope: &Scope,
) -> Result<(Vec<i64>, DeadLetterCursor), Error> {
    let rows = sqlx::query(
        "SELECT d.message_k, d.ended_us, d.k, EXISTS (SELECT 1 FROM delivery o WHERE o.message_k = d.message_k \
         AND (o.state IN (0, 1) OR (o.state >= 4 AND o.ended_us >= ?1))), \
         coalesce((SELECT 1 + length(bytes) / 4096 FROM body b WHERE b.message_k = d.message_k), 0) \
         FROM delivery d INDEXED BY delivery_ended WHERE d.state >= 4 AND d.ended_us < ?1 \
         AND (d.ended_us, d.k) > (?2, ?3) AND d.message_k > ?5 ORDER BY d.ended_us, d.k LIMIT ?4",
    )
    .bind(before_us)
    .bind(after.ended_us)
    .bind(after.delivery_key)
    .bind(scope.limit)
    .bind(scope.first_body_key(0, before_us))
    .fetch_all(conn)
    .await?;
    let read = |row: &SqliteRow| {
        Ok(DeadLetter {
            message_key: row.try_get(0)?,
            place: DeadLetterCursor { ended_us: row.try_get(1)?, delivery_key: row.try_get(2)? },
            is_protected: row.try_get(3)?,
            cost: row.try_get(4)?,
        })
    };
    Ok(scope.dead_letters(&rows.iter().map(read).collect::<Result<Vec<_>, Error>>()?))
}

/// Tables, their column with the message's key, and the cost of deleting one.
type Listed = (&'static str, &'static str, &'static str);
/// Keys continue from the highest in the table: the newest message stays, so that no key is assigned twice.
pub(super) const TRACES: Listed = ("message m", "m.k", TRACE_COST);
pub(super) const BODIES: Listed = ("body b JOIN message m ON m.k = b.message_k", "b.message_k", BODY_COST);

pub(super) async fn window(
    conn: &mut SqliteConnection,
    (tables, key, cost): Listed,
    cursor: i64,
    before_us: i64,
    scope: &Scope,
) -> Result<Window, Error> {
    let sql = format!(
        "SELECT {key}, m.received_us < ?1, EXISTS (SELECT 1 FROM delivery d WHERE d.message_k = m.k \
         AND (d.state IN (0, 1) OR (d.state >= 4 AND d.ended_us >= ?2))), \
         CASE WHEN m.received_us < ?1 THEN {cost} ELSE 0 END \
         FROM {tables} WHERE {key} > ?3 ORDER BY {key} LIMIT ?4"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(before_us).bind(scope.protected_since_us());
    let first = match tables == BODIES.0 {
        true => scope.first_body_key(cursor, before_us),
        false => scope.first_key(cursor, before_us),
    };
    let query = query.bind(first).bind(scope.limit);
    let rows = query.fetch_all(&mut *conn).await?;
    let read = |row: &SqliteRow| {
        Ok(Aged { key: row.try_get(0)?, is_old: row.try_get(1)?, is_open: row.try_get(2)?, cost: row.try_get(3)? })
    };
    let mut window = scope.window(&rows.iter().map(read).collect::<Result<Vec<_>, Error>>()?);
    if tables == TRACES.0 {
        let newest = progress::newest_message(conn).await?;
        window.ended.retain(|key| *key != newest);
    }
    Ok(window)
}

/// Releases identities in the order in which they were stored, and stores its position.
async fn release_identities(writer: &mut Writer, before_us: i64, limit: u32) -> Result<u64, Error> {
    let after = progress::read(&mut writer.conn, retention::IDENTITIES_PROGRESS).await?;
    let rows = sqlx::query("SELECT k, received_us < ? FROM message WHERE k > ? ORDER BY k LIMIT ?")
        .bind(before_us)
        .bind(after)
        .bind(limit)
        .fetch_all(&mut writer.conn)
        .await?;
    let mut old = Vec::new();
    for row in &rows {
        if !row.try_get::<bool, _>(1)? {
            break;
        }
        old.push(row.try_get::<i64, _>(0)?);
    }
    let Some(last) = old.last() else { return Ok(0) };
    // Keys are in order.
    let (moved, recent) = old.split_at(old.partition_point(|key| *key <= writer.recent.moved_message()));
    leftover::add_released(&mut writer.conn, moved.len()).await?;
    lookup::release(&mut writer.conn, &writer.recent, recent).await?;
    progress::save(&mut writer.conn, retention::IDENTITIES_PROGRESS, *last).await?;
    Ok(old.len() as u64)
}

/// Deletes attempts and deliveries of a message that has more of them than one step may delete. True once none is left.
async fn delete_some(writer: &mut Writer, message_key: i64, scope: &Scope) -> Result<bool, Error> {
    if let Some(archived) = &scope.archived {
        archived.begin_deleting(message_key);
    }
    let statements = [
        "DELETE FROM attempt WHERE (delivery_k, n) IN (SELECT t.delivery_k, t.n FROM delivery d \
         CROSS JOIN attempt t ON t.delivery_k = d.k WHERE d.message_k = ? LIMIT ?)",
        "DELETE FROM receiver_issues WHERE delivery_k IN (SELECT r.delivery_k FROM delivery d \
         CROSS JOIN receiver_issues r ON r.delivery_k = d.k WHERE d.message_k = ? LIMIT ?)",
        "DELETE FROM delivery WHERE k IN (SELECT k FROM delivery WHERE message_k = ? LIMIT ?)",
    ];
    for statement in statements {
        let query = sqlx::query(statement).bind(message_key).bind(STEP_COST);
        if query.execute(&mut writer.conn).await?.rows_affected() > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn delete_traces(writer: &mut Writer, messages: &[i64]) -> Result<u64, Error> {
    if messages.is_empty() {
        return Ok(0);
    }
    term::delete_messages(&mut writer.conn, &mut writer.unwritten_terms, messages).await?;
    let (moved, recent) = messages.split_at(messages.partition_point(|key| *key <= writer.recent.moved_message()));
    leftover::add_deleted(&mut writer.conn, moved).await?;
    delete_references(writer, recent).await?;
    let attempts = "DELETE FROM attempt WHERE delivery_k IN \
                    (SELECT k FROM delivery WHERE message_k IN (SELECT value FROM json_each(?)))";
    sqlx::query(attempts).bind(json(&messages)?).execute(&mut writer.conn).await?;
    delete_receiver_issues(writer, messages).await?;
    delete(writer, "delivery", "message_k", messages).await?;
    delete(writer, "body", "message_k", messages).await?;
    delete(writer, "message", "k", messages).await
}

/// Deletes the references of messages of which some may be in memory or in the log.
async fn delete_references(writer: &mut Writer, messages: &[i64]) -> Result<(), Error> {
    if messages.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query(
        "SELECT k, sender, content_sha256, metadata FROM message WHERE k IN (SELECT value FROM json_each(?))",
    )
    .bind(json(&messages)?)
    .fetch_all(&mut writer.conn)
    .await?;
    let mut references = Vec::new();
    for row in &rows {
        let (key, sender): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let metadata = row::metadata(row.try_get(3)?, None)?;
        // The row does not tell whether its identity was already released.
        for sender in [0, sender] {
            references.extend(ReferenceRow::all(&metadata, sender, row.try_get(2)?, key));
        }
    }
    sqlx::query(
        "DELETE FROM reference WHERE (hash, sender, kind, content_head, message_k) IN \
         (SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?))",
    )
    .bind(lookup::keys_json(&references)?)
    .execute(&mut writer.conn)
    .await?;
    recent::delete_messages(&writer.recent, &mut writer.conn, messages, references).await
}

/// Issues that receivers wrote about these messages may quote them.
async fn delete_receiver_issues(writer: &mut Writer, messages: &[i64]) -> Result<(), Error> {
    let issues = "DELETE FROM receiver_issues WHERE delivery_k IN \
                  (SELECT k FROM delivery WHERE message_k IN (SELECT value FROM json_each(?)))";
    sqlx::query(issues).bind(json(&messages)?).execute(&mut writer.conn).await.map(drop)
}

async fn delete_bodies(writer: &mut Writer, messages: &[i64]) -> Result<u64, Error> {
    delete_receiver_issues(writer, messages).await?;
    delete(writer, "body", "message_k", messages).await
}

async fn delete(writer: &mut Writer, table: &str, column: &str, keys: &[i64]) -> Result<u64, Error> {
    if keys.is_empty() {
        return Ok(0);
    }
    let sql = format!("DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))");
    let done = sqlx::query(AssertSqlSafe(sql)).bind(json(&keys)?).execute(&mut writer.conn).await?;
    Ok(done.rows_affected())
}
