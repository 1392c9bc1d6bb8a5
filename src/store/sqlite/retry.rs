//! Operator commands: retry dead letters, pause participants, end a status URL.

use super::Sqlite;
use super::error::unavailable;
use super::insert::{json, write_counts};
use super::writer::Writer;
use super::{filter, lookup, row};
use crate::delivery::{DeliveryState, PendingDelivery};
use crate::store::Unavailable;
use crate::store::put_back::{self, Ended, RETRY_LIMIT};
use crate::store::rows::count_changes;
use crate::store::view::{DeliveryFilter, ViewError};
use futures_util::FutureExt;
use sqlx::{AssertSqlSafe, Error, Row};
use uuid::Uuid;

impl Sqlite {
    pub async fn retry(
        &self,
        filter: &DeliveryFilter,
        limit: u32,
        expire_us: impl Fn(&str) -> i64,
    ) -> Result<Vec<PendingDelivery>, ViewError> {
        let core = &self.core;
        let mut conditions = filter::deliveries(core, filter).map_err(ViewError::BadFilter)?;
        conditions.ended();
        conditions.with_body();
        let sql = format!(
            "SELECT {} FROM delivery d JOIN message m ON m.k = d.message_k JOIN participant p ON p.k = d.participant{} \
             ORDER BY d.k LIMIT {}",
            row::PENDING_COLUMNS,
            conditions.sql(),
            limit.min(RETRY_LIMIT)
        );
        // A reader finds them, so that a long search does not block the writer, which checks their states again.
        let query = conditions.bind(sqlx::query(AssertSqlSafe(sql)));
        let found = core.search(move |conn| {
            async move { query.fetch_all(conn).await?.iter().map(row::pending).collect::<Result<Vec<_>, _>>() }.boxed()
        });
        let mut deliveries = found.await?;
        let now_us = core.clock.now_us();
        for delivery in &mut deliveries {
            delivery.expires_at_us = now_us.saturating_add(expire_us(&delivery.participant));
        }
        let retried = core.write(move |_, writer| retry(writer, deliveries, now_us).boxed());
        Ok(retried.await?)
    }

    pub async fn set_paused(&self, participant: &str, paused: bool) -> Result<(), Unavailable> {
        let participant = participant.to_owned();
        let core = &self.core;
        core.add_participant(&participant).await?;
        core.write(move |_, writer| {
            async move {
                let query =
                    sqlx::query("UPDATE participant SET paused = ? WHERE id = ?").bind(paused).bind(participant);
                query.execute(&mut writer.conn).await.map(drop)
            }
            .boxed()
        })
        .await
    }

    pub async fn end_status(&self, message_id: Uuid) -> Result<bool, Unavailable> {
        let ended = self.core.write(move |_, writer| {
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
    /// The key of a participant, which is added if it is new.
    pub async fn add_participant(&self, participant: &str) -> Result<i64, Unavailable> {
        if let Some(key) = self.participant_key(participant) {
            return Ok(key);
        }
        let mut writer = self.writer.lock().await;
        self.add_participants(&mut writer.conn, [participant]).await.map_err(|error| unavailable(&error))?;
        Ok(self.participant_key(participant).unwrap_or_default())
    }
}

async fn retry(
    writer: &mut Writer,
    mut deliveries: Vec<PendingDelivery>,
    now_us: i64,
) -> Result<Vec<PendingDelivery>, Error> {
    let ended = ended(writer, &deliveries).await?;
    deliveries.retain(|delivery| ended.contains_key(&delivery.delivery_key));
    let tails = lookup::tails(&mut writer.conn, &put_back::lanes(&deliveries, &ended)).await?;
    put_back::append(&mut deliveries, &ended, tails, || writer.keys.next_seq(now_us));
    let row =
        |delivery: &PendingDelivery| (delivery.delivery_key, delivery.seq, delivery.prev_seq, delivery.expires_at_us);
    let rows: Vec<_> = deliveries.iter().map(row).collect();
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
    let changes = ended.into_values().map(|(participant, state)| (participant, Some(state), DeliveryState::Waiting));
    write_counts(&mut writer.conn, &count_changes(changes)).await?;
    Ok(deliveries)
}

/// Those deliveries that are still dead or discarded, each with the key of its participant and its state.
async fn ended(writer: &mut Writer, deliveries: &[PendingDelivery]) -> Result<Ended, Error> {
    let keys: Vec<i64> = deliveries.iter().map(|delivery| delivery.delivery_key).collect();
    let rows = sqlx::query(
        "SELECT k, participant, state FROM delivery WHERE state >= 4 AND k IN (SELECT value FROM json_each(?))",
    )
    .bind(json(&keys)?)
    .fetch_all(&mut writer.conn)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, (row.try_get(1)?, row::state(row.try_get(2)?)?)))).collect()
}
