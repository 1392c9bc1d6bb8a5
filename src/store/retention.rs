//! Retention: identities, bodies and traces by age, in small steps between which accepts go on.
//!
//! A message with a waiting delivery is open: nothing of it is dropped, however old it is. What an operator may still retry
//! is held, too: the body of a message with a dead letter stays for days of its own, counted from when that delivery ended.
//! Each call looks at no more than `limit` messages of each sort, and drops no more rows and pages than `STEP_COST`; calls
//! go on where the last one stopped.

use super::Store;
use super::Unavailable;
use super::insert::json;
use super::lookup;
use super::recent;
use super::row;
use super::term;
use super::view::Swept;
use super::writer::{Keys, Writer};
use futures_util::FutureExt;
use sqlx::{AssertSqlSafe, Error, Row};
use std::sync::PoisonError;

/// What one step drops at most: rows, and pages of 4 KiB of bodies. Accepts wait while a step runs.
const STEP_COST: i64 = 4_096;
const BODY_COST: &str = "1 + length(b.bytes) / 4096";
const TRACE_COST: &str = "1 + (SELECT count(*) + coalesce(sum(attempts), 0) FROM delivery WHERE message_k = m.k) \
                          + coalesce((SELECT length(bytes) / 4096 FROM body WHERE message_k = m.k), 0)";

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

/// After how many days each sort is dropped; 0 keeps it forever.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetentionDays {
    /// Bodies of messages without dead letters, counted from when the message was received.
    pub bodies: u32,
    /// Bodies of messages with dead or discarded deliveries, counted from when the last of those ended.
    pub dead_letters: u32,
    pub traces: u32,
    pub identities: u32,
}

/// Where the next call goes on; back at the start once the end or something young was met.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursors {
    bodies: i64,
    traces: i64,
    dead_letters: DeadLetter,
}

/// A place in the order in which deliveries ended.
#[derive(Clone, Copy, Debug, Default)]
struct DeadLetter {
    ended_us: i64,
    delivery_key: i64,
}

/// Instants before which something is old, in UTC microseconds; None keeps everything.
#[derive(Clone, Copy, Debug)]
struct Limits {
    bodies: Option<i64>,
    dead_letters: Option<i64>,
    traces: Option<i64>,
    identities: Option<i64>,
}

impl Limits {
    fn new(days: RetentionDays, now_us: i64) -> Limits {
        let before = |days: u32| (days > 0).then(|| now_us.saturating_sub(i64::from(days) * MICROSECONDS_PER_DAY));
        // A repeat is known by the row of the first: traces stay as long as identities do.
        let traces = if days.traces == 0 { 0 } else { days.traces.max(days.identities) };
        Limits {
            bodies: before(days.bodies),
            dead_letters: before(days.dead_letters),
            traces: before(traces),
            identities: before(days.identities),
        }
    }
}

/// Messages looked at in one step.
struct Window {
    /// Old enough, and closed.
    ended: Vec<i64>,
    /// Where the next step goes on.
    cursor: i64,
    /// More may be dropped at once.
    more: bool,
    /// The first message alone costs more than a step may.
    too_large: bool,
}

impl Store {
    /// Drops what is older than its days. Call again while it dropped something. Drops nothing while the clock cannot be
    /// trusted.
    pub async fn sweep(&self, now_us: i64, days: RetentionDays, limit: u32) -> Result<Swept, Unavailable> {
        if self.clock().jump().is_some() {
            return Ok(Swept::default());
        }
        let limits = Limits::new(days, now_us);
        let core = &self.inner.core;
        let from = *core.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        let swept = core.write(move |_, writer| {
            async move {
                super::tries::sweep(&mut writer.conn, now_us).await?;
                sweep(writer, limits, from, limit).await
            }
            .boxed()
        });
        let (swept, cursors) = swept.await?;
        *core.sweep.lock().unwrap_or_else(PoisonError::into_inner) = cursors;
        Ok(swept)
    }
}

async fn sweep(
    writer: &mut Writer,
    limits: Limits,
    mut cursors: Cursors,
    limit: u32,
) -> Result<(Swept, Cursors), Error> {
    let mut swept = Swept::default();
    if let Some(before) = limits.identities {
        swept.identities = forget(writer, before, limit).await?;
    }
    // Those that died before this instant are no longer held.
    let held_since = limits.dead_letters.unwrap_or(i64::MIN);
    if let Some(before) = limits.traces {
        let traces = ("message m", "m.k", TRACE_COST);
        let mut window = window(writer, traces, cursors.traces, before, held_since, limit).await?;
        // Keys go on from the highest in the table: the newest message stays, so that none is given twice.
        let newest = Keys::read(&mut writer.conn).await?.message;
        window.ended.retain(|key| *key != newest);
        match window.ended.first() {
            Some(key) if window.too_large && !drop_some(writer, *key).await? => {
                (cursors.traces, swept.more) = (key - 1, true);
            }
            _ => {
                (cursors.traces, swept.more) = (window.cursor, window.more);
                swept.traces = drop_traces(writer, &window.ended).await?;
            }
        }
    }
    if let Some(before) = limits.bodies {
        let bodies = ("body b JOIN message m ON m.k = b.message_k", "b.message_k", BODY_COST);
        let window = window(writer, bodies, cursors.bodies, before, held_since, limit).await?;
        (cursors.bodies, swept.more) = (window.cursor, swept.more || window.more);
        swept.bodies = drop_bodies(writer, &window.ended).await?;
    }
    if let Some(before) = limits.dead_letters {
        let (ended, cursor) = dead_letters(writer, cursors.dead_letters, before, limit).await?;
        cursors.dead_letters = cursor;
        swept.bodies += drop_bodies(writer, &ended).await?;
    }
    Ok((swept, cursors))
}

/// Messages whose last dead letter ended before `before_us`, and that nobody waits for, in the order in which their
/// deliveries ended.
async fn dead_letters(
    writer: &mut Writer,
    after: DeadLetter,
    before_us: i64,
    limit: u32,
) -> Result<(Vec<i64>, DeadLetter), Error> {
    let rows = sqlx::query(
        "SELECT d.message_k, d.ended_us, d.k, EXISTS (SELECT 1 FROM delivery o WHERE o.message_k = d.message_k \
         AND (o.state IN (0, 1) OR (o.state >= 4 AND o.ended_us >= ?1))), \
         coalesce((SELECT 1 + length(bytes) / 4096 FROM body b WHERE b.message_k = d.message_k), 0) \
         FROM delivery d INDEXED BY delivery_ended WHERE d.state >= 4 AND d.ended_us < ?1 \
         AND (d.ended_us, d.k) > (?2, ?3) ORDER BY d.ended_us, d.k LIMIT ?4",
    )
    .bind(before_us)
    .bind(after.ended_us)
    .bind(after.delivery_key)
    .bind(limit)
    .fetch_all(&mut writer.conn)
    .await?;
    let (mut ended, mut cursor, mut sum) = (Vec::new(), DeadLetter::default(), 0_i64);
    for row in &rows {
        if !row.try_get::<bool, _>(3)? {
            sum = sum.saturating_add(row.try_get(4)?);
            if sum > STEP_COST && !ended.is_empty() {
                return Ok((ended, cursor));
            }
            ended.push(row.try_get(0)?);
        }
        cursor = DeadLetter { ended_us: row.try_get(1)?, delivery_key: row.try_get(2)? };
    }
    if rows.len() < limit as usize {
        cursor = DeadLetter::default();
    }
    Ok((ended, cursor))
}

/// `tables`, the column in them that is the message's key, and what dropping one costs.
async fn window(
    writer: &mut Writer,
    (tables, key, cost): (&str, &str, &str),
    after: i64,
    before_us: i64,
    held_since_us: i64,
    limit: u32,
) -> Result<Window, Error> {
    let sql = format!(
        "SELECT {key}, m.received_us < ?1, EXISTS (SELECT 1 FROM delivery d WHERE d.message_k = m.k \
         AND (d.state IN (0, 1) OR (d.state >= 4 AND d.ended_us >= ?2))), \
         CASE WHEN m.received_us < ?1 THEN {cost} ELSE 0 END \
         FROM {tables} WHERE {key} > ?3 ORDER BY {key} LIMIT ?4"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(before_us).bind(held_since_us).bind(after).bind(limit);
    let rows = query.fetch_all(&mut writer.conn).await?;
    let mut window = Window { ended: Vec::new(), cursor: 0, more: false, too_large: false };
    let mut all_old = true;
    let mut sum: i64 = 0;
    for row in &rows {
        let (key, old, open): (i64, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        all_old &= old;
        if old && !open {
            sum = sum.saturating_add(row.try_get(3)?);
            if sum > STEP_COST && !window.ended.is_empty() {
                window.more = true;
                break;
            }
            window.too_large = sum > STEP_COST;
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
    lookup::release(&mut writer.conn, &writer.recent, &old).await?;
    sqlx::query(
        "INSERT INTO progress (name, k) VALUES ('identities', ?) ON CONFLICT (name) DO UPDATE SET k = excluded.k",
    )
    .bind(*last)
    .execute(&mut writer.conn)
    .await?;
    Ok(old.len() as u64)
}

/// Attempts and deliveries of a message that has more of them than one step may drop. True once none is left.
async fn drop_some(writer: &mut Writer, message_key: i64) -> Result<bool, Error> {
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

async fn drop_traces(writer: &mut Writer, messages: &[i64]) -> Result<u64, Error> {
    if messages.is_empty() {
        return Ok(0);
    }
    let rows =
        sqlx::query("SELECT k, sender, content, metadata FROM message WHERE k IN (SELECT value FROM json_each(?))")
            .bind(json(&messages)?)
            .fetch_all(&mut writer.conn)
            .await?;
    term::drop_terms(writer, messages).await?;
    let mut held = Vec::new();
    for row in &rows {
        let (key, sender): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let metadata = row::metadata(row.try_get(3)?, None)?;
        // Whether its identity was given up already, the row does not say.
        for sender in [0, sender] {
            held.extend(lookup::reference_rows(&metadata, sender, row.try_get(2)?, key));
        }
    }
    sqlx::query(
        "DELETE FROM reference WHERE (h, sender, kind, content, message_k) IN \
         (SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?))",
    )
    .bind(lookup::keys_json(&held)?)
    .execute(&mut writer.conn)
    .await?;
    recent::drop_messages(&writer.recent, &mut writer.conn, messages, held).await?;
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

async fn drop_bodies(writer: &mut Writer, messages: &[i64]) -> Result<u64, Error> {
    drop_receiver_issues(writer, messages).await?;
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
