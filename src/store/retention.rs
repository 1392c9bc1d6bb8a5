//! Retention: identities, bodies and traces by age, in small steps between which accepts go on.
//!
//! A message with a waiting delivery is open: nothing of it is dropped, however old it is. Each call looks at no more than
//! `limit` messages of each sort; calls go on where the last one stopped.

use super::Store;
use super::Unavailable;
use super::insert::json;
use super::lookup;
use super::reference::references;
use super::row;
use super::view::Swept;
use super::writer::{Keys, Writer};
use futures_util::FutureExt;
use sqlx::{AssertSqlSafe, Error, Row};
use std::sync::PoisonError;

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

/// Keys after which bodies and traces are looked at next; back at 0 once something young was met.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursors {
    bodies: i64,
    traces: i64,
}

/// Messages looked at in one step.
struct Window {
    /// Old enough, and closed.
    ended: Vec<i64>,
    /// Where the next step goes on.
    cursor: i64,
}

impl Store {
    /// Drops what is older than its days (0: keep). A message counts from when it was received. Call again while it dropped
    /// something.
    pub async fn sweep(
        &self,
        now_us: i64,
        bodies_days: u32,
        traces_days: u32,
        identities_days: u32,
        limit: u32,
    ) -> Result<Swept, Unavailable> {
        // A repeat is known by the row of the first: traces stay as long as identities do.
        let traces_days = if traces_days == 0 { 0 } else { traces_days.max(identities_days) };
        let before = |days: u32| (days > 0).then(|| now_us.saturating_sub(i64::from(days) * MICROSECONDS_PER_DAY));
        let (bodies, traces, identities) = (before(bodies_days), before(traces_days), before(identities_days));
        let core = &self.inner.core;
        let from = *core.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        let (swept, cursors) = core
            .write(move |_, writer| {
                async move {
                    let mut swept = Swept::default();
                    let mut cursors = from;
                    if let Some(before) = identities {
                        swept.identities = forget(writer, before, limit).await?;
                    }
                    if let Some(before) = traces {
                        let mut window = window(writer, "message m", "m.k", from.traces, before, limit).await?;
                        cursors.traces = window.cursor;
                        // Keys go on from the highest in the table: the newest message stays, so that none is given twice.
                        let newest = Keys::read(&mut writer.conn).await?.message;
                        window.ended.retain(|key| *key != newest);
                        swept.traces = drop_traces(writer, &window.ended).await?;
                    }
                    if let Some(before) = bodies {
                        let tables = "body b JOIN message m ON m.k = b.message_k";
                        let window = window(writer, tables, "b.message_k", from.bodies, before, limit).await?;
                        cursors.bodies = window.cursor;
                        drop_receiver_issues(writer, &window.ended).await?;
                        swept.bodies = delete(writer, "body", "message_k", &window.ended).await?;
                    }
                    Ok((swept, cursors))
                }
                .boxed()
            })
            .await?;
        *core.sweep.lock().unwrap_or_else(PoisonError::into_inner) = cursors;
        Ok(swept)
    }
}

async fn window(
    writer: &mut Writer,
    tables: &str,
    key: &str,
    after: i64,
    before_us: i64,
    limit: u32,
) -> Result<Window, Error> {
    let sql = format!(
        "SELECT {key}, m.received_us < ?, \
         EXISTS (SELECT 1 FROM delivery d WHERE d.message_k = m.k AND d.state IN (0, 1)) \
         FROM {tables} WHERE {key} > ? ORDER BY {key} LIMIT ?"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(before_us).bind(after).bind(limit);
    let rows = query.fetch_all(&mut writer.conn).await?;
    let mut window = Window { ended: Vec::new(), cursor: 0 };
    let mut all_old = true;
    for row in &rows {
        let (key, old, open): (i64, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        all_old &= old;
        if old && !open {
            window.ended.push(key);
        }
        window.cursor = key;
    }
    if !all_old {
        window.cursor = 0;
    }
    Ok(window)
}

/// Identities end in the order in which they were kept; how far it came is kept, too.
async fn forget(writer: &mut Writer, before_us: i64, limit: u32) -> Result<u64, Error> {
    let rows = sqlx::query(
        "SELECT k, received_us < ? FROM message \
         WHERE k > coalesce((SELECT k FROM progress WHERE name = 'identities'), 0) ORDER BY k LIMIT ?",
    )
    .bind(before_us)
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
    lookup::release(&mut writer.conn, &old).await?;
    sqlx::query(
        "INSERT INTO progress (name, k) VALUES ('identities', ?) ON CONFLICT (name) DO UPDATE SET k = excluded.k",
    )
    .bind(*last)
    .execute(&mut writer.conn)
    .await?;
    Ok(old.len() as u64)
}

async fn drop_traces(writer: &mut Writer, messages: &[i64]) -> Result<u64, Error> {
    if messages.is_empty() {
        return Ok(0);
    }
    let rows = sqlx::query("SELECT k, facts FROM message WHERE k IN (SELECT value FROM json_each(?))")
        .bind(json(&messages)?)
        .fetch_all(&mut writer.conn)
        .await?;
    let mut held = Vec::new();
    for row in &rows {
        let (key, facts) = (row.try_get::<i64, _>(0)?, row::facts(row.try_get(1)?, None)?);
        held.extend(references(&facts, &Default::default()).into_iter().map(|reference| (reference.hash, key)));
    }
    sqlx::query(
        "DELETE FROM reference WHERE (h, sender, kind, content, message_k) IN \
         (SELECT r.h, r.sender, r.kind, r.content, r.message_k FROM json_each(?) AS j \
          CROSS JOIN reference r ON r.h = j.value->>0 AND r.message_k = j.value->>1)",
    )
    .bind(json(&held)?)
    .execute(&mut writer.conn)
    .await?;
    let attempts = "DELETE FROM attempt WHERE delivery_k IN \
                    (SELECT k FROM delivery WHERE message_k IN (SELECT value FROM json_each(?)))";
    sqlx::query(attempts).bind(json(&messages)?).execute(&mut writer.conn).await?;
    drop_receiver_issues(writer, messages).await?;
    delete(writer, "delivery", "message_k", messages).await?;
    delete(writer, "body", "message_k", messages).await?;
    delete(writer, "message", "k", messages).await
}

/// What receivers wrote about these messages may repeat what stood in them.
async fn drop_receiver_issues(writer: &mut Writer, messages: &[i64]) -> Result<(), Error> {
    let issues = "DELETE FROM receiver_issues WHERE delivery_k IN \
                  (SELECT k FROM delivery WHERE message_k IN (SELECT value FROM json_each(?)))";
    sqlx::query(issues).bind(json(&messages)?).execute(&mut writer.conn).await.map(drop)
}

async fn delete(writer: &mut Writer, table: &str, column: &str, keys: &[i64]) -> Result<u64, Error> {
    if keys.is_empty() {
        return Ok(0);
    }
    let sql = format!("DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))");
    let done = sqlx::query(AssertSqlSafe(sql)).bind(json(&keys)?).execute(&mut writer.conn).await?;
    Ok(done.rows_affected())
}
