//! Stores replays and their progress. The deliveries of a message and the replay's cursor are written in one transaction, so
//! that a restart neither repeats nor skips a message.

use super::Sqlite;
use super::error::unavailable;
use super::insert::json;
use super::plan::MESSAGES;
use super::row;
use super::writer::Writer;
use super::{filter, lookup};
use crate::delivery::{DeliveryKind, Metadata, NewDelivery, PendingDelivery};
use crate::store::batch::Batch;
use crate::store::context::Context;
use crate::store::stored::{Keys, StoredState};
use crate::store::view::{NewReplay, ReplayCandidate, ReplayState, ReplayTurn, ReplayView, ViewError};
use crate::store::{Unavailable, codes};
use bytes::Bytes;
use futures_util::FutureExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Error, Row};
use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;

/// Messages that one search of a replay reads, so that it is short even if few match.
const WINDOW_MESSAGES: i64 = 20_000;

const COLUMNS: &str = "k, order_json, state, created_us, total, done, skipped";

impl Sqlite {
    pub async fn create_replay(&self, order: &NewReplay) -> Result<ReplayView, ViewError> {
        let core = &self.core;
        let mut conditions = filter::messages(core, &order.filter.for_replay()).map_err(ViewError::BadFilter)?;
        let spec = serde_json::to_string(order).map_err(|error| ViewError::BadFilter(error.to_string()))?;
        let (id, now_us) = (order.id, core.clock.now_us());
        // A reader counts, so that a long count does not block the writer; messages that arrive meanwhile have higher keys.
        let newest = sqlx::query("SELECT coalesce(max(k), 0) FROM message");
        let end = self.optional(newest, |row| row.try_get::<i64, _>(0)).await?.unwrap_or_default();
        conditions.integer("m.k <= ?", end);
        let total = self.count(&MESSAGES, conditions).await?;
        let stored_total = i64::try_from(total).unwrap_or(i64::MAX);
        core.write(move |_, writer| {
            async move {
                // Imported messages, which have negative keys, come first.
                let insert = "INSERT INTO replay (id, state, order_json, created_us, end_k, total, last_k) \
                              VALUES (?, 0, ?, ?, ?, ?, (SELECT min(0, coalesce(min(k), 1) - 1) FROM message))";
                let insert =
                    sqlx::query(insert).bind(row::blob(id)).bind(spec).bind(now_us).bind(end).bind(stored_total);
                insert.execute(&mut writer.conn).await.map(drop)
            }
            .boxed()
        })
        .await?;
        let (order, state) = (order.clone(), ReplayState::Running);
        Ok(ReplayView { order, state, created_at_us: now_us, total, done: 0, skipped: 0 })
    }

    pub async fn replay(&self, id: Uuid) -> Result<Option<ReplayView>, Unavailable> {
        let query = sqlx::query(AssertSqlSafe(format!("SELECT {COLUMNS} FROM replay WHERE id = ?")));
        self.optional(query.bind(row::blob(id)), replay_view).await
    }

    pub async fn open_replays(&self) -> Result<Vec<ReplayView>, Unavailable> {
        let sql = format!("SELECT {COLUMNS} FROM replay WHERE state IN (0, 1) ORDER BY k LIMIT 1000");
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.core.readers).await;
        rows.and_then(|rows| rows.iter().map(replay_view).collect()).map_err(|error| unavailable(&error))
    }

    pub async fn set_replay_state(&self, id: Uuid, state: ReplayState) -> Result<bool, Unavailable> {
        let changed = self.core.write(move |_, writer| {
            async move {
                let update = "UPDATE replay SET state = ? WHERE id = ? AND state IN (0, 1)";
                let update = sqlx::query(update).bind(codes::replay_state_code(state)).bind(row::blob(id));
                update.execute(&mut writer.conn).await.map(|done| done.rows_affected() > 0)
            }
            .boxed()
        });
        changed.await
    }

    pub async fn replay_candidates(&self, id: Uuid, limit: u32) -> Result<Vec<ReplayCandidate>, ViewError> {
        let query = sqlx::query("SELECT order_json, last_k, end_k FROM replay WHERE id = ?").bind(row::blob(id));
        let read = |row: &SqliteRow| {
            Ok((row::from_json::<NewReplay>(row.try_get(0)?)?, row.try_get::<i64, _>(1)?, row.try_get::<i64, _>(2)?))
        };
        let Some((order, last, end)) = self.optional(query, read).await? else { return Ok(Vec::new()) };
        let filter = order.filter.for_replay();
        let all = filter::messages(&self.core, &filter).map_err(ViewError::BadFilter)?;
        let (mut from, mut rows) = (last, Vec::new());
        while rows.is_empty() && from < end {
            let to = self.end_of_window(from).await?.min(end);
            let mut conditions = all.clone();
            conditions.integer("m.k > ?", from);
            conditions.integer("m.k <= ?", to);
            let sql = format!(
                "SELECT m.k, m.metadata, m.in_reply_to, EXISTS (SELECT 1 FROM body b WHERE b.message_k = m.k) \
                 FROM message m{} ORDER BY m.k LIMIT {limit}",
                conditions.sql()
            );
            let query = conditions.bind(sqlx::query(AssertSqlSafe(sql)));
            rows = self.core.search(move |conn| async move { query.fetch_all(conn).await }.boxed()).await?;
            from = to;
        }
        let candidates = rows.iter().map(candidate).collect::<Result<Vec<_>, _>>();
        let mut candidates = candidates.map_err(|error| unavailable(&error))?;
        let keys: Vec<i64> = candidates.iter().map(|candidate| candidate.message_key).collect();
        let mut originals = self.deliveries_of_all(&keys).await?;
        for candidate in &mut candidates {
            candidate.originals = originals.remove(&candidate.metadata.id).unwrap_or_default();
            candidate.originals.retain(|delivery| !matches!(delivery.kind, DeliveryKind::Replay { .. }));
        }
        Ok(candidates)
    }

    /// The last key of the messages that the next search reads. Imported ones have keys with large gaps.
    async fn end_of_window(&self, from: i64) -> Result<i64, Unavailable> {
        if from >= 0 {
            return Ok(from.saturating_add(WINDOW_MESSAGES));
        }
        let last = sqlx::query("SELECT k FROM message WHERE k > ? ORDER BY k LIMIT 1 OFFSET ?");
        let last = self.optional(last.bind(from).bind(WINDOW_MESSAGES - 1), |row| row.try_get(0)).await?;
        Ok(last.unwrap_or(i64::MAX))
    }

    pub async fn replay_deliver(&self, id: Uuid, turns: Vec<ReplayTurn>) -> Result<Vec<PendingDelivery>, Unavailable> {
        let core = &self.core;
        let participants: HashSet<&Arc<str>> =
            turns.iter().flat_map(|turn| &turn.deliveries).map(|delivery| &delivery.participant).collect();
        for participant in participants {
            core.add_participant(participant).await?;
        }
        let context = core.context();
        let work = core.write(move |_, writer| {
            async move {
                if !advance(writer, id, &turns).await? {
                    return Ok(Vec::new());
                }
                deliver(writer, context, turns).await
            }
            .boxed()
        });
        work.await
    }
}

impl Sqlite {
    pub async fn deliver_again(
        &self,
        message_key: i64,
        delivery: NewDelivery,
    ) -> Result<Vec<PendingDelivery>, Unavailable> {
        let core = &self.core;
        core.add_participant(&delivery.participant).await?;
        let context = core.context();
        let work = core.write(move |_, writer| {
            async move {
                let Some(metadata) = metadata(writer, message_key).await? else { return Ok(Vec::new()) };
                let turn = ReplayTurn { message_key, metadata, deliveries: vec![delivery] };
                deliver(writer, context, vec![turn]).await
            }
            .boxed()
        });
        work.await
    }
}

/// Adds deliveries, except of messages that were deleted meanwhile. Returns them without bodies, which the courier reads later.
async fn deliver(writer: &mut Writer, context: Context, turns: Vec<ReplayTurn>) -> Result<Vec<PendingDelivery>, Error> {
    let keys: Vec<i64> = turns.iter().map(|turn| turn.message_key).collect();
    let stored = sqlx::query("SELECT k FROM message WHERE k IN (SELECT value FROM json_each(?))").bind(json(&keys)?);
    let stored = stored.fetch_all(&mut writer.conn).await?;
    let stored: HashSet<i64> = stored.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let turns: Vec<ReplayTurn> = turns.into_iter().filter(|turn| stored.contains(&turn.message_key)).collect();
    let deliveries = turns.iter().flat_map(|turn| &turn.deliveries);
    let lanes = deliveries.filter_map(|delivery| context.lane_of(delivery)).collect();
    let tails = lookup::tails(&mut writer.conn, &lanes).await?;
    let mut batch =
        Batch::new(context, StoredState { keys: Keys::Counted(writer.keys), tails, ..StoredState::default() });
    let mut all = Vec::new();
    for ReplayTurn { message_key, metadata, deliveries } in turns {
        all.extend(batch.deliver(message_key, &metadata, &Bytes::new(), &deliveries));
    }
    all.iter_mut().for_each(|delivery| delivery.body = None);
    let (rows, keys) = batch.finish();
    if let Keys::Counted(last) = keys {
        writer.keys = last;
    }
    rows.write(&mut writer.conn).await?;
    Ok(all)
}

/// Counts a message without new deliveries as skipped.
async fn advance(writer: &mut Writer, id: Uuid, turns: &[ReplayTurn]) -> Result<bool, Error> {
    let (Some(first), Some(last)) = (turns.first(), turns.last()) else { return Ok(false) };
    let skipped = turns.iter().filter(|turn| turn.deliveries.is_empty()).count();
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let update = sqlx::query(
        "UPDATE replay SET last_k = ?, done = done + ?, skipped = skipped + ? WHERE id = ? AND state = 0 AND last_k < ?",
    );
    let update = update.bind(last.message_key).bind(count(turns.len() - skipped)).bind(count(skipped));
    let update = update.bind(row::blob(id)).bind(first.message_key);
    update.execute(&mut writer.conn).await.map(|done| done.rows_affected() > 0)
}

async fn metadata(writer: &mut Writer, message_key: i64) -> Result<Option<Arc<Metadata>>, Error> {
    let query = sqlx::query("SELECT k, metadata, in_reply_to FROM message WHERE k = ?").bind(message_key);
    let row = query.fetch_optional(&mut writer.conn).await?;
    row.as_ref().map(|row| keyed_metadata(row).map(|(_, metadata)| metadata)).transpose()
}

fn candidate(row: &SqliteRow) -> Result<ReplayCandidate, Error> {
    let (message_key, metadata) = keyed_metadata(row)?;
    Ok(ReplayCandidate { message_key, metadata, body_kept: row.try_get(3)?, originals: Vec::new() })
}

fn keyed_metadata(row: &SqliteRow) -> Result<(i64, Arc<Metadata>), Error> {
    Ok((row.try_get(0)?, row::metadata(row.try_get(1)?, row.try_get(2)?)?))
}

fn replay_view(row: &SqliteRow) -> Result<ReplayView, Error> {
    let count = |column: usize| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    Ok(ReplayView {
        order: row::from_json(row.try_get(1)?)?,
        state: codes::replay_state(row.try_get(2)?)?,
        created_at_us: row.try_get(3)?,
        total: count(4)?,
        done: count(5)?,
        skipped: count(6)?,
    })
}
