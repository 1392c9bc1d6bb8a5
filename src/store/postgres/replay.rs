//! Stores replays and their progress. The deliveries of a message and the replay's cursor are written in one transaction, so
//! that a restart neither repeats nor skips a message.

use super::core::COMMAND_SLOT;
use super::plan::MESSAGES;
use super::sql::Sql;
use super::{Postgres, filter, lookup, row, write};
use crate::delivery::{DeliveryKind, Metadata, NewDelivery, PendingDelivery};
use crate::store::batch::Batch;
use crate::store::context::Context;
use crate::store::stored::StoredState;
use crate::store::view::{NewReplay, ReplayCandidate, ReplayState, ReplayTurn, ReplayView, ViewError};
use crate::store::{Unavailable, codes};
use bytes::Bytes;
use futures_util::FutureExt;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Error, Row};
use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;

/// Messages that one search of a replay reads, so that it is short even if few match.
const WINDOW_KEYS: i64 = 20_000;

const COLUMNS: &str = "k, order_json, state, created_us, total, done, skipped";

impl Postgres {
    pub async fn create_replay(&self, order: &NewReplay) -> Result<ReplayView, ViewError> {
        let core = &self.core;
        let mut conditions = filter::messages(core, &order.filter.for_replay()).map_err(ViewError::BadFilter)?;
        let spec = serde_json::to_string(order).map_err(|error| ViewError::BadFilter(error.to_string()))?;
        let now_us = core.clock.now_us();
        let newest = Sql::new("SELECT coalesce(max(k), 0) FROM message");
        let end: i64 = self.optional(&newest, |row| row.try_get(0)).await?.unwrap_or_default();
        conditions.add(&format!("m.k <= {end}"), []);
        let total = self.count(&MESSAGES, conditions).await?;
        // Imported messages, which have negative keys, come first.
        let insert = Sql::new(
            "INSERT INTO replay (id, state, order_json, created_us, end_k, total, last_k) \
             VALUES ($1, 0, $2, $3, $4, $5, (SELECT least(0, coalesce(min(k), 1) - 1) FROM message))",
        );
        let insert = insert.bind(order.id).bind(&*spec).bind(now_us).bind(end);
        let insert = insert.bind(i64::try_from(total).unwrap_or(i64::MAX));
        core.command(move |conn| insert.clone().changes(conn).boxed()).await?;
        let (order, state) = (order.clone(), ReplayState::Running);
        Ok(ReplayView { order, state, created_at_us: now_us, total, done: 0, skipped: 0 })
    }

    pub async fn replay(&self, id: Uuid) -> Result<Option<ReplayView>, Unavailable> {
        let sql = Sql::new(format!("SELECT {COLUMNS} FROM replay WHERE id = $1"));
        self.optional(&sql.bind(id), replay_view).await
    }

    pub async fn open_replays(&self) -> Result<Vec<ReplayView>, Unavailable> {
        let sql = format!("SELECT {COLUMNS} FROM replay WHERE state IN (0, 1) ORDER BY k LIMIT 1000");
        self.rows(&Sql::new(sql), replay_view).await
    }

    pub async fn set_replay_state(&self, id: Uuid, state: ReplayState) -> Result<bool, Unavailable> {
        let update = Sql::new("UPDATE replay SET state = $1::bigint::smallint WHERE id = $2 AND state IN (0, 1)");
        let update = update.bind(codes::replay_state_code(state)).bind(id);
        self.core.command(move |conn| update.clone().changes(conn).boxed()).await
    }

    pub async fn replay_candidates(&self, id: Uuid, limit: u32) -> Result<Vec<ReplayCandidate>, ViewError> {
        let sql = Sql::new("SELECT order_json, last_k, end_k FROM replay WHERE id = $1").bind(id);
        let read = |row: &PgRow| {
            Ok((codes::from_json::<NewReplay>(row.try_get(0)?)?, row.try_get::<i64, _>(1)?, row.try_get::<i64, _>(2)?))
        };
        let Some((order, last, end)) = self.optional(&sql, read).await? else { return Ok(Vec::new()) };
        let all = filter::messages(&self.core, &order.filter.for_replay()).map_err(ViewError::BadFilter)?;
        let (mut from, mut candidates) = (last, Vec::new());
        while candidates.is_empty() && from < end {
            let to = self.end_of_window(from).await?.min(end);
            let sql = Sql::new(format!(
                "SELECT m.k, m.metadata, m.in_reply_to, EXISTS (SELECT 1 FROM body b WHERE b.message_k = m.k) \
                 FROM message m{} ORDER BY m.k LIMIT {limit}",
                all.sql_and([format!("m.k > {from} AND m.k <= {to}")])
            ));
            let sql = sql.bind_all(all.values.clone());
            let searchers = &self.core.searchers;
            candidates = self.search(async { row::all(&searchers.all(&sql).await?, candidate) }).await?;
            from = to;
        }
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
            return Ok(from.saturating_add(WINDOW_KEYS));
        }
        let last = Sql::new("SELECT k FROM message WHERE k > $1 ORDER BY k LIMIT 1 OFFSET $2");
        let last = self.optional(&last.bind(from).bind(WINDOW_KEYS - 1), |row| row.try_get(0)).await?;
        Ok(last.unwrap_or(i64::MAX))
    }

    pub async fn replay_deliver(&self, id: Uuid, turns: Vec<ReplayTurn>) -> Result<Vec<PendingDelivery>, Unavailable> {
        let core = &self.core;
        let deliveries = turns.iter().flat_map(|turn| &turn.deliveries);
        core.add_participants(deliveries.map(|delivery| &*delivery.participant)).await?;
        let context = core.context();
        let work = core.command(move |conn| {
            let (context, turns) = (context.clone(), turns.clone());
            async move {
                if !advance(conn, id, &turns).await? {
                    return Ok(Vec::new());
                }
                deliver(conn, context, turns).await
            }
            .boxed()
        });
        work.await
    }

    pub async fn deliver_again(
        &self,
        message_key: i64,
        delivery: NewDelivery,
    ) -> Result<Vec<PendingDelivery>, Unavailable> {
        let core = &self.core;
        core.add_participants([&*delivery.participant]).await?;
        let context = core.context();
        let work = core.command(move |conn| {
            let (context, delivery) = (context.clone(), delivery.clone());
            async move {
                let Some(metadata) = metadata(conn, message_key).await? else { return Ok(Vec::new()) };
                let turn = ReplayTurn { message_key, metadata, deliveries: vec![delivery] };
                deliver(conn, context, vec![turn]).await
            }
            .boxed()
        });
        work.await
    }
}

/// Adds deliveries, except of messages that were deleted meanwhile. Returns them without bodies, which the courier reads later.
async fn deliver(
    conn: &mut PgConnection,
    context: Context,
    turns: Vec<ReplayTurn>,
) -> Result<Vec<PendingDelivery>, Error> {
    let keys: Vec<i64> = turns.iter().map(|turn| turn.message_key).collect();
    // Retention must not delete them before these deliveries are there.
    let stored = Sql::new("SELECT k FROM message WHERE k = ANY ($1) ORDER BY k FOR SHARE").bind(keys).all(conn).await?;
    let stored: HashSet<i64> = stored.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let turns: Vec<ReplayTurn> = turns.into_iter().filter(|turn| stored.contains(&turn.message_key)).collect();
    let deliveries: Vec<&NewDelivery> = turns.iter().flat_map(|turn| &turn.deliveries).collect();
    let lanes = deliveries.iter().filter_map(|delivery| context.lane_of(delivery)).collect();
    let (tails, keys) = lookup::tails(conn, &lanes, deliveries.len()).await?;
    let mut batch = Batch::new(context, StoredState { keys, tails, ..StoredState::default() });
    let mut all = Vec::new();
    for ReplayTurn { message_key, metadata, deliveries } in &turns {
        all.extend(batch.deliver(*message_key, metadata, &Bytes::new(), deliveries));
    }
    all.iter_mut().for_each(|delivery| delivery.body = None);
    let (rows, _) = batch.finish();
    write::rows(conn, rows, COMMAND_SLOT).await?;
    Ok(all)
}

/// Counts a message without new deliveries as skipped.
async fn advance(conn: &mut PgConnection, id: Uuid, turns: &[ReplayTurn]) -> Result<bool, Error> {
    let (Some(first), Some(last)) = (turns.first(), turns.last()) else { return Ok(false) };
    let skipped = turns.iter().filter(|turn| turn.deliveries.is_empty()).count();
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let update = Sql::new(
        "UPDATE replay SET last_k = $1, done = done + $2, skipped = skipped + $3 WHERE id = $4 AND state = 0 AND last_k < $5",
    );
    let update = update.bind(last.message_key).bind(count(turns.len() - skipped)).bind(count(skipped));
    update.bind(id).bind(first.message_key).changes(conn).await
}

async fn metadata(conn: &mut PgConnection, message_key: i64) -> Result<Option<Arc<Metadata>>, Error> {
    let sql = Sql::new("SELECT metadata, in_reply_to FROM message WHERE k = $1").bind(message_key);
    let row = sql.optional(conn).await?;
    row.map(|row| codes::metadata(row.try_get(0)?, row.try_get(1)?)).transpose()
}

fn candidate(row: &PgRow) -> Result<ReplayCandidate, Error> {
    let metadata = codes::metadata(row.try_get(1)?, row.try_get(2)?)?;
    Ok(ReplayCandidate { message_key: row.try_get(0)?, metadata, body_kept: row.try_get(3)?, originals: Vec::new() })
}

fn replay_view(row: &PgRow) -> Result<ReplayView, Error> {
    let count = |column: usize| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    Ok(ReplayView {
        order: codes::from_json(row.try_get(1)?)?,
        state: codes::replay_state(row::code(row, 2)?)?,
        created_at_us: row.try_get(3)?,
        total: count(4)?,
        done: count(5)?,
        skipped: count(6)?,
    })
}
