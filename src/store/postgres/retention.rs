//! Retention: deletes identities, bodies, and traces by age, in small steps between which messages are accepted.
//!
//! A message with a waiting delivery is open: nothing of it is deleted, whatever its age. The body of a message with a dead letter
//! is kept for a number of days of its own, counted from when that delivery ended, so that an operator can retry it.

use super::delete::{delete_bodies, delete_some, delete_traces};
use super::drop::DropKind;
use super::sql::Sql;
use super::write::release;
use super::{Postgres, drop};
use crate::store::Unavailable;
use crate::store::retention::{
    self, Aged, DeadLetter, DeadLetterCursor, RetentionCursors, Scope, Window, microseconds_since,
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
    pub async fn sweep(&self, mut scope: Scope) -> Result<RetentionStep, Unavailable> {
        let core = &self.core;
        if core.clock.jump().is_some() {
            return Ok(RetentionStep::default());
        }
        self.look_around(&mut scope).await?;
        let now_us = scope.now_us;
        let from = *core.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        let dropped = self.drop_partitions(&scope).await;
        let swept = core.maintain(move |conn| {
            let scope = scope.clone();
            async move {
                super::tries::sweep(conn, now_us).await?;
                let (mut step, cursors) = sweep(conn, &scope, from).await?;
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
    async fn drop_partitions(&self, scope: &Scope) -> u64 {
        let core = &self.core;
        let now_us = scope.now_us;
        let bodies = match scope.limits.bodies {
            Some(before) => {
                let times = (before, scope.protected_since_us());
                let kind = DropKind { has_archive: scope.archived.is_some(), by_size: scope.excess_bytes > 0 };
                core.maintain(move |conn| drop::bodies(conn, now_us, times, kind).boxed()).await
            }
            None => Ok(0),
        };
        let attempts = match scope.limits.traces {
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
    scope: &Scope,
    mut cursors: RetentionCursors,
) -> Result<(RetentionStep, RetentionCursors), Error> {
    let mut step = RetentionStep { excess_bytes: scope.excess_bytes, ..RetentionStep::default() };
    if let Some(before) = scope.limits.traces {
        let window = window(conn, TRACES, i64::MAX, cursors.traces, before, scope).await?;
        match window.ended.first() {
            Some(key) if window.too_large && !delete_part(conn, *key, scope).await? => {
                (cursors.traces, step.more) = (key - 1, true);
            }
            _ => {
                (cursors.traces, step.more) = (window.cursor, window.more);
                step.traces = delete_traces(conn, scope.now_us, &window.ended).await?;
            }
        }
    }
    // Identities of messages that the next steps delete need not be released.
    if let Some(before) = scope.limits.identities
        && !step.more
    {
        step.identities = release_identities(conn, before, scope.limit).await?;
    }
    if let Some(before) = scope.limits.bodies {
        // With an archive, partitions are dropped once they are empty.
        let below = match &scope.archived {
            None => drop::first_whole(conn, "body", scope.now_us).await?.min(scope.bodies_below),
            Some(_) => scope.bodies_below,
        };
        let window = window(conn, BODIES, below, cursors.bodies, before, scope).await?;
        (cursors.bodies, step.more) = (window.cursor, step.more || window.more);
        step.bodies = delete_bodies(conn, &window.ended).await?;
    }
    if let Some(before) = scope.limits.dead_letters {
        let rows = dead_letters_sql(cursors.dead_letters, before, scope).all(conn).await?;
        let (ended, cursor) = dead_letters(&rows, scope)?;
        cursors.dead_letters = cursor;
        step.more |= cursor != DeadLetterCursor::default();
        let ended = still_archived(conn, ended, scope).await?;
        step.bodies += delete_bodies(conn, &ended).await?;
    }
    Ok((step, cursors))
}

async fn delete_part(conn: &mut PgConnection, message_key: i64, scope: &Scope) -> Result<bool, Error> {
    if let Some(archived) = &scope.archived {
        archived.begin_deleting(message_key);
    }
    delete_some(conn, message_key).await
}

/// Without those whose deliveries have changed since they were archived.
async fn still_archived(conn: &mut PgConnection, keys: Vec<i64>, scope: &Scope) -> Result<Vec<i64>, Error> {
    let Some(archived) = &scope.archived else { return Ok(keys) };
    let sql = "SELECT message_k, count(*), sum(attempts)::bigint, sum(state)::bigint, coalesce(max(ended_us), 0), \
               coalesce(max(answer_k), 0) FROM delivery WHERE message_k = ANY ($1) GROUP BY message_k";
    let rows = Sql::new(sql).bind(keys.as_slice()).all(conn).await?;
    let read = |row: &PgRow| {
        let digest = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
        Ok((row.try_get(0)?, digest))
    };
    let now = rows.iter().map(read).collect::<Result<_, Error>>()?;
    Ok(archived.unchanged(&keys, &now))
}

/// Messages without waiting deliveries whose last dead letter ended before `before_us`, in the order in which their deliveries
/// ended.
pub(super) fn dead_letters_sql(after: DeadLetterCursor, before_us: i64, scope: &Scope) -> Sql {
    let sql = Sql::new(
        "SELECT d.message_k, d.ended_us, d.k, EXISTS (SELECT 1 FROM delivery o WHERE o.message_k = d.message_k \
         AND (o.state IN (0, 1) OR (o.state >= 4 AND o.ended_us >= $1))), \
         coalesce((SELECT 1 + length(b.bytes) / 4096 FROM body b WHERE b.message_k = d.message_k), 0)::bigint \
         FROM delivery d WHERE d.state >= 4 AND d.ended_us < $1 \
         AND (d.ended_us, d.k) > ($2, $3) AND d.message_k > $5 ORDER BY d.ended_us, d.k LIMIT $4",
    );
    let sql = sql.bind(before_us).bind(after.ended_us).bind(after.delivery_key).bind(scope.limit);
    sql.bind(scope.first_body_key(0, before_us))
}

pub(super) fn dead_letters(rows: &[PgRow], scope: &Scope) -> Result<(Vec<i64>, DeadLetterCursor), Error> {
    let read = |row: &PgRow| {
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
/// The newest message stays: its time is what the next start compares the clock with.
pub(super) const TRACES: Listed =
    ("(SELECT * FROM message WHERE k < (SELECT max(k) FROM message)) m", "m.k", TRACE_COST);
pub(super) const BODIES: Listed = ("body b JOIN message m ON m.k = b.message_k", "b.message_k", BODY_COST);

/// Locks the messages, so that no delivery is added to them before they are deleted.
async fn window(
    conn: &mut PgConnection,
    listed: Listed,
    below: i64,
    cursor: i64,
    before_us: i64,
    scope: &Scope,
) -> Result<Window, Error> {
    let rows = aged_sql(listed, below, cursor, before_us, scope).all(conn).await?;
    let mut window = read_window(&rows, scope)?;
    window.ended = still_ended(conn, &window.ended, scope.protected_since_us()).await?;
    window.ended = still_archived(conn, window.ended, scope).await?;
    Ok(window)
}

pub(super) fn aged_sql((tables, key, cost): Listed, below: i64, cursor: i64, before_us: i64, scope: &Scope) -> Sql {
    let sql = format!(
        "SELECT {key}, m.received_us < $1, EXISTS (SELECT 1 FROM delivery o WHERE o.message_k = m.k \
         AND (o.state IN (0, 1) OR (o.state >= 4 AND o.ended_us >= $2))), \
         CASE WHEN m.received_us < $1 THEN ({cost})::bigint ELSE 0 END \
         FROM {tables} WHERE {key} > $3 AND {key} < {below} ORDER BY {key} LIMIT $4"
    );
    let sql = Sql::new(sql).bind(before_us).bind(scope.protected_since_us());
    let first = match tables == BODIES.0 {
        true => scope.first_body_key(cursor, before_us),
        false => scope.first_key(cursor, before_us),
    };
    sql.bind(first).bind(scope.limit)
}

pub(super) fn read_window(rows: &[PgRow], scope: &Scope) -> Result<Window, Error> {
    let read = |row: &PgRow| {
        Ok(Aged { key: row.try_get(0)?, is_old: row.try_get(1)?, is_open: row.try_get(2)?, cost: row.try_get(3)? })
    };
    Ok(scope.window(&rows.iter().map(read).collect::<Result<Vec<_>, Error>>()?))
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
