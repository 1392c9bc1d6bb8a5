//! What replies to a sender need: a message's standing, its content, the deliveries that a response may answer.

use super::core::unavailable;
use super::reference::hash;
use super::row::{self, WORK_COLUMNS};
use super::{Asked, Standing, StandingDelivery, Store, Unavailable, prepare};
use crate::delivery::Facts;
use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Error, Row};
use std::sync::Arc;
use uuid::Uuid;

impl Store {
    /// Everything a reply needs; None for an id that is not kept.
    pub async fn standing(&self, message_id: Uuid) -> Result<Option<Standing>, Unavailable> {
        self.read_standing(message_id).await.map_err(|error| unavailable(&error))
    }

    async fn read_standing(&self, message_id: Uuid) -> Result<Option<Standing>, Error> {
        let mut conn = self.inner.core.readers.acquire().await?;
        let found = sqlx::query(
            "SELECT k, state, outcome, own_answer, status_ended, facts, in_reply_to FROM message WHERE id = ?",
        )
        .bind(row::blob(message_id))
        .fetch_optional(&mut *conn)
        .await?;
        let Some(found) = found else { return Ok(None) };
        let message_key: i64 = found.try_get(0)?;
        let deliveries = sqlx::query(
            "SELECT d.k, d.id, p.id, d.state, d.status, d.fault, d.answer_k, i.issues FROM delivery d \
             JOIN party p ON p.k = d.party LEFT JOIN receiver_issues i ON i.delivery_k = d.k WHERE d.message_k = ? AND d.kind = 0 ORDER BY d.k",
        )
        .bind(message_key)
        .fetch_all(&mut *conn)
        .await?;
        Ok(Some(Standing {
            message_key,
            facts: row::facts(found.try_get(5)?, found.try_get(6)?)?,
            state: row::message_state(found.try_get(1)?)?,
            outcome: row::outcome(found.try_get(2)?)?,
            deliveries: deliveries.iter().map(standing_delivery).collect::<Result<_, _>>()?,
            own_answer: found.try_get(3)?,
            status_ended: found.try_get(4)?,
        }))
    }

    /// The body as received, and its facts; None where retention dropped it.
    pub async fn content(&self, message_key: i64) -> Result<Option<(Arc<Facts>, Bytes)>, Unavailable> {
        self.read_content(message_key).await.map_err(|error| unavailable(&error))
    }

    async fn read_content(&self, message_key: i64) -> Result<Option<(Arc<Facts>, Bytes)>, Error> {
        let found = sqlx::query(
            "SELECT m.facts, m.in_reply_to, b.codec, b.size, b.bytes FROM message m \
             JOIN body b ON b.message_k = m.k WHERE m.k = ?",
        )
        .bind(message_key)
        .fetch_optional(&self.inner.core.readers)
        .await?;
        let Some(found) = found else { return Ok(None) };
        let facts = row::facts(found.try_get(0)?, found.try_get(1)?)?;
        let body = prepare::unpack(found.try_get(2)?, found.try_get(3)?, found.try_get(4)?);
        let body = body.ok_or_else(|| row::decode(format!("the body of message {}", facts.id)))?;
        Ok(Some((facts, body)))
    }

    /// The deliveries that went to `participant` with a message known by `identifier` (header id, Bundle id or Bundle
    /// identifier value, with and without `urn:uuid:`), newest first, at most 16.
    pub async fn asked(&self, participant: &str, identifier: &str) -> Result<Vec<Asked>, Unavailable> {
        let Some(party) = self.inner.core.party(participant) else { return Ok(Vec::new()) };
        self.read_asked(party, identifier).await.map_err(|error| unavailable(&error))
    }

    async fn read_asked(&self, party: i64, identifier: &str) -> Result<Vec<Asked>, Error> {
        // Ids that thousands of messages share name none of them; the bound keeps looking them up cheap.
        let sql = format!(
            "SELECT {WORK_COLUMNS}, d.answer_k IS NOT NULL FROM delivery d \
             JOIN message m ON m.k = d.message_k JOIN party p ON p.k = d.party \
             WHERE d.party = ? AND d.kind IN (0, 3) \
             AND d.message_k IN (SELECT message_k FROM reference WHERE h = ? LIMIT 10000) \
             ORDER BY d.k DESC LIMIT 16"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(party)
            .bind(hash(identifier))
            .fetch_all(&self.inner.core.readers)
            .await?;
        let mut found = Vec::new();
        for row in &rows {
            let delivery = row::work(row)?;
            if delivery.facts.is_named_by(identifier) {
                found.push(Asked { delivery_key: delivery.delivery_key, delivery, answered: row.try_get(13)? });
            }
        }
        Ok(found)
    }
}

fn standing_delivery(row: &SqliteRow) -> Result<StandingDelivery, Error> {
    Ok(StandingDelivery {
        key: row.try_get(0)?,
        id: row::uuid(row.try_get(1)?)?,
        participant: row.try_get(2)?,
        state: row::state(row.try_get(3)?)?,
        status: row.try_get(4)?,
        fault: row::fault(row.try_get(5)?)?,
        answer: row.try_get(6)?,
        receiver_issues: row.try_get(7)?,
    })
}
