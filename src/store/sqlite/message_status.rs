//! What replies to a sender need: the status of a message, its body, and the deliveries that a response may answer.

use super::Sqlite;
use super::error::unavailable;
use super::row::{self, PENDING_COLUMNS};
use crate::delivery::Metadata;
use crate::store::message_status::{
    CANDIDATES_LIMIT, Candidates, DeliveryStatus, MessageStatus, SentRequest, USERS_LIMIT,
};
use crate::store::reference::hash;
use crate::store::{Unavailable, codes, prepare};
use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Error, Row};
use std::sync::Arc;
use uuid::Uuid;

impl Sqlite {
    pub async fn message_status(&self, message_id: Uuid) -> Result<Option<MessageStatus>, Unavailable> {
        self.read_message_status(message_id).await.map_err(|error| unavailable(&error))
    }

    async fn read_message_status(&self, message_id: Uuid) -> Result<Option<MessageStatus>, Error> {
        let mut conn = self.core.readers.acquire().await?;
        let found = sqlx::query(
            "SELECT k, state, outcome, router_answer_k, status_ended, metadata, in_reply_to FROM message WHERE id = ?",
        )
        .bind(row::blob(message_id))
        .fetch_optional(&mut *conn)
        .await?;
        let Some(found) = found else { return Ok(None) };
        let message_key: i64 = found.try_get(0)?;
        let deliveries = sqlx::query(
            "SELECT d.k, d.id, p.id, d.state, d.status, d.fault, d.answer_k, i.issues FROM delivery d \
             JOIN participant p ON p.k = d.participant LEFT JOIN receiver_issues i ON i.delivery_k = d.k WHERE d.message_k = ? AND d.kind = 0 ORDER BY d.k",
        )
        .bind(message_key)
        .fetch_all(&mut *conn)
        .await?;
        Ok(Some(MessageStatus {
            message_key,
            metadata: row::metadata(found.try_get(5)?, found.try_get(6)?)?,
            state: row::message_state(found.try_get(1)?)?,
            outcome: row::outcome(found.try_get(2)?)?,
            deliveries: deliveries.iter().map(delivery_status).collect::<Result<_, _>>()?,
            router_answer: found.try_get(3)?,
            status_ended: found.try_get(4)?,
        }))
    }

    pub async fn content(&self, message_key: i64) -> Result<Option<(Arc<Metadata>, Bytes)>, Unavailable> {
        self.read_content(message_key).await.map_err(|error| unavailable(&error))
    }

    async fn read_content(&self, message_key: i64) -> Result<Option<(Arc<Metadata>, Bytes)>, Error> {
        let found = sqlx::query(
            "SELECT m.metadata, m.in_reply_to, b.codec, b.size, b.bytes FROM message m \
             JOIN body b ON b.message_k = m.k WHERE m.k = ?",
        )
        .bind(message_key)
        .fetch_optional(&self.core.readers)
        .await?;
        let Some(found) = found else { return Ok(None) };
        let metadata = row::metadata(found.try_get(0)?, found.try_get(1)?)?;
        let body = prepare::unpack(found.try_get(2)?, found.try_get(3)?, found.try_get(4)?);
        let body = body.ok_or_else(|| row::decode(format!("the body of message {}", metadata.id)))?;
        Ok(Some((metadata, body)))
    }

    pub async fn sent_requests(&self, participant: &str, identifier: &str) -> Result<Candidates, Unavailable> {
        let Some(participant_key) = self.core.participant_key(participant) else {
            return Ok(Candidates::default());
        };
        self.read_sent_requests(participant_key, identifier).await.map_err(|error| unavailable(&error))
    }

    async fn read_sent_requests(&self, participant_key: i64, identifier: &str) -> Result<Candidates, Error> {
        let mut conn = self.core.readers.acquire().await?;
        let known = hash(identifier);
        // Read before the table: a row that moves there meanwhile is found in both.
        let recent = self.core.recent.messages(known, &[], USERS_LIMIT + 1);
        // References of deleted messages may be left.
        let users = "SELECT count(*) FROM (SELECT 1 FROM reference WHERE hash = ? \
                     AND EXISTS (SELECT 1 FROM message WHERE k = message_k) LIMIT ?)";
        let users = sqlx::query(users).bind(known).bind(USERS_LIMIT as i64 + 1).fetch_one(&mut *conn).await?;
        let users = users.try_get::<i64, _>(0)? + i64::try_from(recent.len()).unwrap_or(i64::MAX);
        let condition = "d.participant = ? AND d.kind IN (0, 3) \
                         AND d.message_k IN (SELECT * FROM (SELECT message_k FROM reference WHERE hash = ? \
                         AND EXISTS (SELECT 1 FROM message WHERE k = message_k) LIMIT ?) \
                         UNION ALL SELECT value FROM json_each(?))";
        let query = sqlx::query(AssertSqlSafe(sent_requests_sql(condition)))
            .bind(participant_key)
            .bind(known)
            .bind(USERS_LIMIT as i64);
        let query = query.bind(super::insert::json(&recent)?);
        let rows = query.fetch_all(&mut *conn).await?;
        let deliveries = rows.iter().map(sent_request).collect::<Result<Vec<_>, Error>>()?;
        Ok(Candidates::new(deliveries, users > USERS_LIMIT as i64, identifier))
    }

    pub async fn sent_requests_of(&self, participant: &str, message_id: Uuid) -> Result<Vec<SentRequest>, Unavailable> {
        let Some(participant_key) = self.core.participant_key(participant) else { return Ok(Vec::new()) };
        let condition = "d.participant = ? AND d.kind IN (0, 3) AND d.message_k = (SELECT k FROM message WHERE id = ?)";
        let query =
            sqlx::query(AssertSqlSafe(sent_requests_sql(condition))).bind(participant_key).bind(row::blob(message_id));
        let rows = query.fetch_all(&self.core.readers).await;
        let found = rows.and_then(|rows| rows.iter().map(sent_request).collect::<Result<Vec<_>, Error>>());
        let mut found = found.map_err(|error| unavailable(&error))?;
        found.retain(SentRequest::is_request);
        Ok(found)
    }
}

fn sent_requests_sql(condition: &str) -> String {
    format!(
        "SELECT {PENDING_COLUMNS}, d.answer_k IS NOT NULL, m.content_sha256 FROM delivery d \
         JOIN message m ON m.k = d.message_k JOIN participant p ON p.k = d.participant \
         WHERE {condition} ORDER BY d.k DESC LIMIT {}",
        CANDIDATES_LIMIT + 1
    )
}

fn sent_request(row: &SqliteRow) -> Result<SentRequest, Error> {
    let content = codes::digest(row.try_get(row::PENDING_COLUMNS_COUNT + 1)?)?;
    Ok(SentRequest { delivery: row::pending(row)?, answered: row.try_get(row::PENDING_COLUMNS_COUNT)?, content })
}

fn delivery_status(row: &SqliteRow) -> Result<DeliveryStatus, Error> {
    Ok(DeliveryStatus {
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
