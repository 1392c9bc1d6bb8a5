//! What replies to a sender need: the status of a message, its body, and the deliveries that a response may answer.

use super::Postgres;
use super::error::unavailable;
use super::row::{self, PENDING_COLUMNS, PENDING_TABLES};
use super::sql::Sql;
use crate::delivery::Metadata;
use crate::store::message_status::{
    CANDIDATES_LIMIT, Candidates, DeliveryStatus, MessageStatus, SentRequest, USERS_LIMIT,
};
use crate::store::reference::hash;
use crate::store::{Unavailable, codes, prepare};
use bytes::Bytes;
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use std::sync::Arc;
use uuid::Uuid;

impl Postgres {
    pub async fn message_status(&self, message_id: Uuid) -> Result<Option<MessageStatus>, Unavailable> {
        self.read_message_status(message_id).await.map_err(|error| unavailable(&error))
    }

    async fn read_message_status(&self, message_id: Uuid) -> Result<Option<MessageStatus>, Error> {
        let readers = &self.core.readers;
        let found = Sql::new(
            "SELECT k, state, outcome, router_answer_k, status_ended, metadata, in_reply_to FROM message WHERE id = $1",
        );
        let Some(found) = readers.optional(&found.bind(message_id)).await? else { return Ok(None) };
        let message_key: i64 = found.try_get(0)?;
        let deliveries = Sql::new(
            "SELECT d.k, d.id, p.id, d.state, d.status, d.fault, d.answer_k, i.issues FROM delivery d \
             JOIN participant p ON p.k = d.participant LEFT JOIN receiver_issues i ON i.delivery_k = d.k \
             WHERE d.message_k = $1 AND d.kind = 0 ORDER BY d.k",
        );
        let deliveries = readers.all(&deliveries.bind(message_key)).await?;
        Ok(Some(MessageStatus {
            message_key,
            metadata: codes::metadata(found.try_get(5)?, found.try_get(6)?)?,
            state: codes::message_state(row::code(&found, 1)?)?,
            outcome: codes::outcome(found.try_get(2)?)?,
            deliveries: row::all(&deliveries, delivery_status)?,
            router_answer: found.try_get(3)?,
            status_ended: found.try_get(4)?,
        }))
    }

    pub async fn content(&self, message_key: i64) -> Result<Option<(Arc<Metadata>, Bytes)>, Unavailable> {
        self.read_content(message_key).await.map_err(|error| unavailable(&error))
    }

    async fn read_content(&self, message_key: i64) -> Result<Option<(Arc<Metadata>, Bytes)>, Error> {
        let found = Sql::new(
            "SELECT m.metadata, m.in_reply_to, b.codec, b.size, b.bytes FROM message m \
             JOIN body b ON b.message_k = m.k WHERE m.k = $1 AND b.message_k = $1",
        );
        let Some(found) = self.core.readers.optional(&found.bind(message_key)).await? else { return Ok(None) };
        let metadata = codes::metadata(found.try_get(0)?, found.try_get(1)?)?;
        let body = prepare::unpack(row::code(&found, 2)?, found.try_get(3)?, found.try_get(4)?);
        let body = body.ok_or_else(|| codes::decode(format!("the body of message {}", metadata.id)))?;
        Ok(Some((metadata, body)))
    }

    pub async fn sent_requests(&self, participant: &str, identifier: &str) -> Result<Candidates, Unavailable> {
        let Some(participant_key) = self.core.participants.key(participant) else {
            return Ok(Candidates::default());
        };
        self.read_sent_requests(participant_key, identifier).await.map_err(|error| unavailable(&error))
    }

    async fn read_sent_requests(&self, participant_key: i64, identifier: &str) -> Result<Candidates, Error> {
        let readers = &self.core.readers;
        let limit = i64::try_from(USERS_LIMIT).unwrap_or(i64::MAX);
        let users = Sql::new("SELECT count(*) FROM (SELECT 1 FROM reference WHERE hash = $1 LIMIT $2) AS users");
        let users: i64 = readers.one(&users.bind(hash(identifier)).bind(limit + 1)).await?.try_get(0)?;
        let condition = "d.participant = $1 AND d.kind IN (0, 3) \
                         AND d.message_k IN (SELECT r.message_k FROM reference r WHERE r.hash = $2 LIMIT $3)";
        let sql = Sql::new(sent_requests_sql(condition)).bind(participant_key).bind(hash(identifier)).bind(limit);
        let deliveries = row::all(&readers.all(&sql).await?, sent_request)?;
        Ok(Candidates::new(deliveries, users > limit, identifier))
    }

    pub async fn sent_requests_of(&self, participant: &str, message_id: Uuid) -> Result<Vec<SentRequest>, Unavailable> {
        let Some(participant_key) = self.core.participants.key(participant) else { return Ok(Vec::new()) };
        let condition =
            "d.participant = $1 AND d.kind IN (0, 3) AND d.message_k = (SELECT k FROM message WHERE id = $2)";
        let sql = Sql::new(sent_requests_sql(condition)).bind(participant_key).bind(message_id);
        let rows = self.core.readers.all(&sql).await;
        let found = rows.and_then(|rows| row::all(&rows, sent_request)).map_err(|error| unavailable(&error))?;
        Ok(found.into_iter().filter(SentRequest::is_request).collect())
    }
}

fn sent_requests_sql(condition: &str) -> String {
    format!(
        "SELECT {PENDING_COLUMNS}, d.answer_k IS NOT NULL, m.content_sha256 FROM {PENDING_TABLES} \
         WHERE {condition} ORDER BY d.k DESC LIMIT {}",
        CANDIDATES_LIMIT + 1
    )
}

fn sent_request(row: &PgRow) -> Result<SentRequest, Error> {
    let content = codes::digest(row.try_get(row::PENDING_COLUMNS_COUNT + 1)?)?;
    Ok(SentRequest { delivery: row::pending(row)?, answered: row.try_get(row::PENDING_COLUMNS_COUNT)?, content })
}

fn delivery_status(row: &PgRow) -> Result<DeliveryStatus, Error> {
    Ok(DeliveryStatus {
        key: row.try_get(0)?,
        id: row.try_get(1)?,
        participant: row.try_get(2)?,
        state: codes::state(row::code(row, 3)?)?,
        status: row::status(row, 4)?,
        fault: codes::fault(row.try_get(5)?)?,
        answer: row.try_get(6)?,
        receiver_issues: row.try_get(7)?,
    })
}
