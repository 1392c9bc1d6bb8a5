//! What operators order: dead letters again, participants paused, a status URL ended.

use super::core::unavailable;
use super::insert::json;
use super::view::{DeliveryFilter, ViewError};
use super::writer::Writer;
use super::{Store, Unavailable};
use super::{filter, lookup, row};
use crate::delivery::PendingDelivery;
use crate::routing::lane::UNORDERED;
use futures_util::FutureExt;
use sqlx::{AssertSqlSafe, Error, Row};
use std::collections::HashMap;
use uuid::Uuid;

/// Deliveries that one order puts back at most.
const RETRY_LIMIT: u32 = 10_000;

impl Store {
    /// Puts dead or discarded deliveries that match back to waiting, due now, at their lane's end in their old order; at
    /// most `limit` (and 10,000), oldest first. Those whose content is no longer stored stay as they are. Attempts made so
    /// far are kept, and count no longer toward schedule and limit. `expire_us` says for a participant's id how long its deliveries are tried, in microseconds from now.
    /// Gives the work, without bodies.
    pub async fn retry(
        &self,
        filter: &DeliveryFilter,
        limit: u32,
        expire_us: impl Fn(&str) -> i64,
    ) -> Result<Vec<PendingDelivery>, ViewError> {
        let core = &self.inner.core;
        let mut conditions = filter::deliveries(core, filter).map_err(ViewError::BadFilter)?;
        conditions.ended();
        conditions.with_body();
        let sql = format!(
            "SELECT {} FROM delivery d JOIN message m ON m.k = d.message_k JOIN party p ON p.k = d.party{} \
             ORDER BY d.k LIMIT {}",
            row::WORK_COLUMNS,
            conditions.sql(),
            limit.min(RETRY_LIMIT)
        );
        // Found by a reader, so that a search through many does not hold up the writer; checked again there.
        let query = conditions.bind(sqlx::query(AssertSqlSafe(sql)));
        let found = core.search(move |conn| {
            async move { query.fetch_all(conn).await?.iter().map(row::work).collect::<Result<Vec<_>, _>>() }.boxed()
        });
        let mut work = found.await?;
        let now_us = core.clock.now_us();
        for work in &mut work {
            work.expires_at_us = now_us.saturating_add(expire_us(&work.participant));
        }
        let back = core.write(move |_, writer| put_back(writer, work, now_us).boxed());
        Ok(back.await?)
    }

    /// Keeps whether a participant's attempts are stopped.
    pub async fn set_paused(&self, participant: &str, paused: bool) -> Result<(), Unavailable> {
        let participant = participant.to_owned();
        let core = &self.inner.core;
        core.number(&participant).await?;
        core.write(move |_, writer| {
            async move {
                let query = sqlx::query("UPDATE party SET paused = ? WHERE id = ?").bind(paused).bind(participant);
                query.execute(&mut writer.conn).await.map(drop)
            }
            .boxed()
        })
        .await
    }

    /// Ends the status URL of a message; false where the message is not kept.
    pub async fn end_status(&self, message_id: Uuid) -> Result<bool, Unavailable> {
        let ended = self.inner.core.write(move |_, writer| {
            async move {
                let query = sqlx::query("UPDATE message SET status_ended = 1 WHERE id = ?").bind(row::blob(message_id));
                query.execute(&mut writer.conn).await.map(|done| done.rows_affected() > 0)
            }
            .boxed()
        });
        ended.await
    }
}

impl super::core::Core {
    /// Numbers one participant, where it is new.
    pub async fn number(&self, participant: &str) -> Result<i64, Unavailable> {
        if let Some(key) = self.party(participant) {
            return Ok(key);
        }
        let mut writer = self.writer.lock().await;
        let (known, new) = self.new_parties([participant]);
        let parties = self.number_all(&mut writer.conn, known, new).await;
        parties.map(|all| all.get(participant).copied().unwrap_or_default()).map_err(|error| unavailable(&error))
    }
}

async fn put_back(
    writer: &mut Writer,
    mut work: Vec<PendingDelivery>,
    now_us: i64,
) -> Result<Vec<PendingDelivery>, Error> {
    let ended = ended(writer, &work).await?;
    work.retain(|work| ended.contains_key(&work.delivery_key));
    let lane_of = |work: &PendingDelivery| ended.get(&work.delivery_key).map(|party| (*party, work.lane));
    let ordered = work.iter().filter(|work| work.lane != UNORDERED);
    let mut tails = lookup::tails(&mut writer.conn, &ordered.filter_map(lane_of).collect()).await?;
    for work in &mut work {
        work.seq = writer.keys.next_seq(now_us);
        let lane = lane_of(work).filter(|(_, lane)| *lane != UNORDERED);
        work.prev_seq = lane.and_then(|lane| tails.insert(lane, work.seq));
        work.due_at_us = 0;
        work.uncounted_attempts = work.attempts;
    }
    let row = |work: &PendingDelivery| (work.delivery_key, work.seq, work.prev_seq, work.expires_at_us);
    let rows: Vec<_> = work.iter().map(row).collect();
    sqlx::query(
        "UPDATE delivery SET state = 0, uncounted = attempts, seq = c.seq, prev_seq = c.prev_seq, due_us = 0, \
         expires_us = c.expires, ended_us = NULL \
         FROM (SELECT value->>0 AS k, value->>1 AS seq, value->>2 AS prev_seq, value->>3 AS expires \
               FROM json_each(?1)) AS c \
         WHERE delivery.k = c.k",
    )
    .bind(json(&rows)?)
    .execute(&mut writer.conn)
    .await?;
    Ok(work)
}

/// Which of these are dead or discarded still, each with its party.
async fn ended(writer: &mut Writer, work: &[PendingDelivery]) -> Result<HashMap<i64, i64>, Error> {
    let keys: Vec<i64> = work.iter().map(|work| work.delivery_key).collect();
    let rows = sqlx::query("SELECT k, party FROM delivery WHERE state >= 4 AND k IN (SELECT value FROM json_each(?))")
        .bind(json(&keys)?)
        .fetch_all(&mut writer.conn)
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
