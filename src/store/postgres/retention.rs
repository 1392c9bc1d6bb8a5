//! Retention: deletes identities, bodies, and traces by age, in small steps between which messages are accepted.
//!
//! A message with a waiting delivery is open: nothing of it is deleted, whatever its age. The body of a message with a dead letter
//! is kept for a number of days of its own, counted from when that delivery ended, so that an operator can retry it.

use super::delete::{delete_bodies, delete_some, delete_traces};
use super::sql::Sql;
use super::write::release;
use super::{Postgres, drop};
use crate::store::Unavailable;
use crate::store::retention::{
    self, Aged, DeadLetter, DeadLetterCursor, Limits, RetentionCursors, RetentionDays, Window, microseconds_since,
};
use crate::store::view::RetentionStep;
use futures_util::FutureExt;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Error, Row};
use std::sync::PoisonError;
use std::time::Instant;

const BODY_COST: &str = "1 + length(b.bytes) / 4096";
const TRACE_COST: &str = "1 + (SELECT count(*) + coalesce(sum(d.attempts), 0) FROM delivery d WHERE d.message_k = m.k) \
                          + coalesce((SELECT length(b.bytes) / 4096 FROM body b WHERE b.message_k = m.k), 0)";

impl Postgres {
    pub async fn sweep(&self, now_us: i64, days: RetentionDays, limit: u32) -> Result<RetentionStep, Unavailable> {
        let core = &self.core;
        if core.clock.jump().is_some() {
            return Ok(RetentionStep::default());
        }
        let limits = Limits::new(days, now_us);
        let from = *core.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        let dropped = self.drop_partitions(now_us, limits).await;
        let swept = core.maintain(move |conn| {
            async move {
                super::tries::sweep(conn, now_us).await?;
                let (mut step, cursors) = sweep(conn, now_us, limits, from, limit).await?;
                step.work_us = microseconds_since(begun);
                Ok((step, cursors))
            }
            .boxed()
        });
        let (mut step, cursors) = swept.await?;
        step.bodies += dropped;
        step.busy_us = microseconds_since(begun);
        *core.sweep.lock().unwrap_or_else(PoisonError::into_inner) = cursors;
        Ok(step)
    }

    /// About how many bodies are gone. A search that reads the table may prevent it; the next step tries again.
    async fn drop_partitions(&self, now_us: i64, limits: Limits) -> u64 {
        let core = &self.core;
        let protected_since = limits.dead_letters.unwrap_or(i64::MIN);
        let bodies = match limits.bodies {
            Some(before) => {
                let times = (before, protected_since);
                core.maintain(move |conn| drop::bodies(conn, now_us, times).boxed()).await
            }
            None => Ok(0),
        };
        let attempts = match limits.traces {
            Some(_) => core.maintain(move |conn| drop::attempts(conn, now_us).boxed()).await,
            None => Ok(()),
        };
        for error in bodies.as_ref().err().into_iter().chain(attempts.err().as_ref()) {
            tracing::info!(%error, "a partition was not dropped now");
        }
        bodies.unwrap_or(0)
    }
}

async fn sweep(
    conn: &mut PgConnection,
    now_us: i64,
    limits: Limits,
    mut cursors: RetentionCursors,
    limit: u32,
) -> Result<(RetentionStep, RetentionCursors), Error> {
    let mut step = RetentionStep::default();
    // Dead letters that ended before this time no longer protect their message.
    let protected_since = limits.dead_letters.unwrap_or(i64::MIN);
    if let Some(before) = limits.traces {
        let traces = ("message m", "m.k", TRACE_COST);
        let mut window = window(conn, traces, (cursors.traces, limit), before, protected_since).await?;
        // The newest message stays: its time is what the next start compares the clock with.
        let newest = Sql::new("SELECT coalesce(max(k), 0) FROM message").one(conn).await?.try_get::<i64, _>(0)?;
        window.ended.retain(|key| *key != newest);
        match window.ended.first() {
            Some(key) if window.too_large && !delete_some(conn, *key).await? => {
                (cursors.traces, step.more) = (key - 1, true);
            }
            _ => {
                (cursors.traces, step.more) = (window.cursor, window.more);
                step.traces = delete_traces(conn, now_us, &window.ended).await?;
            }
        }
    }
    // Identities of messages that the next steps delete need not be released.
    if let Some(before) = limits.identities
        && !step.more
    {
        step.identities = release_identities(conn, before, limit).await?;
    }
    if let Some(before) = limits.bodies {
        let below = drop::first_whole(conn, "body", now_us).await?;
        let bodies = format!("(SELECT * FROM body WHERE message_k < {below}) b JOIN message m ON m.k = b.message_k");
        let bodies = (&*bodies, "b.message_k", BODY_COST);
        let window = window(conn, bodies, (cursors.bodies, limit), before, protected_since).await?;
        (cursors.bodies, step.more) = (window.cursor, step.more || window.more);
        step.bodies = delete_bodies(conn, &window.ended).await?;
    }
    if let Some(before) = limits.dead_letters {
        let (ended, cursor) = dead_letters(conn, cursors.dead_letters, before, limit).await?;
        cursors.dead_letters = cursor;
        step.more |= cursor != DeadLetterCursor::default();
        step.bodies += delete_bodies(conn, &ended).await?;
    }
    Ok((step, cursors))
}

/// Messages without waiting deliveries whose last dead letter ended before `before_us`, in the order in which their deliveries
/// ended.
async fn dead_letters(
    conn: &mut PgConnection,
    after: DeadLetterCursor,
    before_us: i64,
    limit: u32,
) -> Result<(Vec<i64>, DeadLetterCursor), Error> {
    let sql = Sql::new(
        "SELECT d.message_k, d.ended_us, d.k, EXISTS (SELECT 1 FROM delivery o WHERE o.message_k = d.message_k \
         AND (o.state IN (0, 1) OR (o.state >= 4 AND o.ended_us >= $1))), \
         coalesce((SELECT 1 + length(b.bytes) / 4096 FROM body b WHERE b.message_k = d.message_k), 0)::bigint \
         FROM delivery d WHERE d.state >= 4 AND d.ended_us < $1 \
         AND (d.ended_us, d.k) > ($2, $3) ORDER BY d.ended_us, d.k LIMIT $4",
    );
    let rows = sql.bind(before_us).bind(after.ended_us).bind(after.delivery_key).bind(limit).all(conn).await?;
    let read = |row: &PgRow| {
        Ok(DeadLetter {
            message_key: row.try_get(0)?,
            place: DeadLetterCursor { ended_us: row.try_get(1)?, delivery_key: row.try_get(2)? },
            is_protected: row.try_get(3)?,
            cost: row.try_get(4)?,
        })
    };
    Ok(retention::dead_letters(&rows.iter().map(read).collect::<Result<Vec<_>, Error>>()?, limit))
}

/// `tables`, their column with the message's key, and the cost of deleting one. Locks the messages, so that no delivery is added
/// to them before they are deleted.
async fn window(
    conn: &mut PgConnection,
    (tables, key, cost): (&str, &str, &str),
    (after, limit): (i64, u32),
    before_us: i64,
    protected_since_us: i64,
) -> Result<Window, Error> {
    let sql = format!(
        "SELECT {key}, m.received_us < $1, EXISTS (SELECT 1 FROM delivery o WHERE o.message_k = m.k \
         AND (o.state IN (0, 1) OR (o.state >= 4 AND o.ended_us >= $2))), \
         CASE WHEN m.received_us < $1 THEN ({cost})::bigint ELSE 0 END \
         FROM {tables} WHERE {key} > $3 ORDER BY {key} LIMIT $4"
    );
    let sql = Sql::new(sql).bind(before_us).bind(protected_since_us).bind(after).bind(limit);
    let read = |row: &PgRow| {
        Ok(Aged { key: row.try_get(0)?, is_old: row.try_get(1)?, is_open: row.try_get(2)?, cost: row.try_get(3)? })
    };
    let rows = sql.all(conn).await?;
    let mut window = Window::new(&rows.iter().map(read).collect::<Result<Vec<_>, Error>>()?, limit);
    window.ended = still_ended(conn, &window.ended, protected_since_us).await?;
    Ok(window)
}

/// Locks these messages and returns those that are still not open: a replay or a retry may have added a delivery meanwhile.
async fn still_ended(conn: &mut PgConnection, keys: &[i64], protected_since_us: i64) -> Result<Vec<i64>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    Sql::new("SELECT 1 FROM message WHERE k = ANY ($1) ORDER BY k FOR UPDATE").bind(keys).execute(conn).await?;
    let open = "SELECT m.k FROM message m WHERE m.k = ANY ($1) AND NOT EXISTS (SELECT 1 FROM delivery o WHERE o.message_k = m.k \
                AND (o.state IN (0, 1) OR (o.state >= 4 AND o.ended_us >= $2))) ORDER BY m.k";
    let rows = Sql::new(open).bind(keys).bind(protected_since_us).all(conn).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Releases identities in the order in which they were stored, and stores its position.
async fn release_identities(conn: &mut PgConnection, before_us: i64, limit: u32) -> Result<u64, Error> {
    let after = Sql::new("SELECT value FROM progress WHERE name = $1")
        .bind(retention::IDENTITIES_PROGRESS)
        .optional(conn)
        .await?;
    let after: i64 = after.map_or(Ok(0), |row| row.try_get(0))?;
    let sql = Sql::new("SELECT k, received_us < $1 FROM message WHERE k > $2 ORDER BY k LIMIT $3");
    let rows = sql.bind(before_us).bind(after).bind(limit).all(conn).await?;
    let mut old: Vec<i64> = Vec::new();
    for row in &rows {
        if !row.try_get::<bool, _>(1)? {
            break;
        }
        old.push(row.try_get(0)?);
    }
    let Some(last) = old.last() else { return Ok(0) };
    release(conn, &old).await?;
    let save =
        "INSERT INTO progress (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    Sql::new(save).bind(retention::IDENTITIES_PROGRESS).bind(*last).execute(conn).await?;
    Ok(old.len() as u64)
}
