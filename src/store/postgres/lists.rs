//! Lists and single rows for the admin API: messages and deliveries. Read-only.

use super::error::unavailable;
use super::plan::{ListedTable, MESSAGES};
use super::row::{self, PENDING_COLUMNS, PENDING_TABLES};
use super::search::View;
use super::sql::Sql;
use super::{Postgres, filter};
use crate::delivery::{DeliveryState, PendingDelivery};
use crate::outcome::Outcome;
use crate::store::view::{
    ANSWERS_SHOWN, DeliveryFilter, DeliveryView, MessageFilter, MessageView, Page, ViewError, shown,
};
use crate::store::{Unavailable, codes, rows};
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use std::collections::HashMap;
use uuid::Uuid;

const MESSAGE_COLUMNS: &str = "m.k, m.metadata, m.in_reply_to, m.state, m.committed_us, m.outcome, \
                               EXISTS (SELECT 1 FROM body b WHERE b.message_k = m.k), m.response_flags";

const DELIVERY_COLUMNS: &str = "d.k, d.id, m.id, p.id, d.destination, d.kind, d.kind_json, d.state, d.attempts, \
     CASE d.due_us WHEN 0 THEN d.created_us ELSE d.due_us END, d.expires_us, d.fault, d.status, a.id, d.replay_of, \
     ARRAY(SELECT r.id FROM delivery r WHERE r.replay_of = d.id ORDER BY r.k LIMIT 100), t.fault, t.detail, i.issues";

const DELIVERY_JOINS: &str = "JOIN message m ON m.k = d.message_k JOIN participant p ON p.k = d.participant \
                               LEFT JOIN message a ON a.k = d.answer_k \
                               LEFT JOIN attempt t ON t.delivery_k = d.k AND t.n = d.attempts \
                               LEFT JOIN receiver_issues i ON i.delivery_k = d.k";

impl Postgres {
    pub async fn list_messages(
        &self,
        filter: &MessageFilter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<MessageView>, ViewError> {
        let conditions = filter::messages(&self.core, filter).map_err(ViewError::BadFilter)?;
        let columns = (MESSAGE_COLUMNS, message_view as View<MessageView>);
        self.page(&MESSAGES, columns, conditions, cursor, limit).await
    }

    pub async fn count_messages(&self, filter: &MessageFilter) -> Result<u64, ViewError> {
        let conditions = filter::messages(&self.core, filter).map_err(ViewError::BadFilter)?;
        self.count(&MESSAGES, conditions).await
    }

    pub async fn message(&self, id: Uuid) -> Result<Option<MessageView>, Unavailable> {
        let sql = Sql::new(format!("SELECT {MESSAGE_COLUMNS} FROM message m WHERE m.id = $1"));
        self.optional(&sql.bind(id), message_view).await
    }

    pub async fn answers_to(&self, id: Uuid) -> Result<Vec<MessageView>, Unavailable> {
        let sql = format!(
            "SELECT {MESSAGE_COLUMNS} FROM message m WHERE m.in_reply_to = $1 AND m.state = 0 ORDER BY m.k LIMIT {ANSWERS_SHOWN}"
        );
        self.rows(&Sql::new(sql).bind(id), message_view).await
    }

    pub async fn full_outcome(&self, id: Uuid) -> Result<Option<Outcome>, Unavailable> {
        let sql = "SELECT b.outcome FROM body b WHERE b.message_k = (SELECT k FROM message WHERE id = $1)";
        let found = self.optional(&Sql::new(sql).bind(id), |row| codes::outcome(row.try_get(0)?)).await?;
        Ok(found.flatten())
    }

    pub async fn message_key(&self, id: Uuid) -> Result<Option<i64>, Unavailable> {
        self.optional(&Sql::new("SELECT k FROM message WHERE id = $1").bind(id), |row| row.try_get(0)).await
    }

    pub async fn list_deliveries(
        &self,
        filter: &DeliveryFilter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<DeliveryView>, ViewError> {
        const LISTED: ListedTable = ListedTable::deliveries(DELIVERY_JOINS);
        let conditions = filter::deliveries(&self.core, filter).map_err(ViewError::BadFilter)?;
        let columns = (DELIVERY_COLUMNS, delivery_view as View<DeliveryView>);
        self.page(&LISTED, columns, conditions, cursor, limit).await
    }

    pub async fn count_deliveries(&self, filter: &DeliveryFilter) -> Result<u64, ViewError> {
        const LISTED: ListedTable = ListedTable::deliveries("JOIN message m ON m.k = d.message_k");
        let conditions = filter::deliveries(&self.core, filter).map_err(ViewError::BadFilter)?;
        self.count(&LISTED, conditions).await
    }

    pub async fn deliveries_of(&self, message_id: Uuid) -> Result<Vec<DeliveryView>, Unavailable> {
        let sql = format!(
            "SELECT {DELIVERY_COLUMNS} FROM delivery d {DELIVERY_JOINS} \
             WHERE d.message_k = (SELECT k FROM message WHERE id = $1) ORDER BY d.k"
        );
        self.rows(&Sql::new(sql).bind(message_id), delivery_view).await
    }

    /// All deliveries of these messages, by the message's public id, in the order in which they were created.
    pub(in crate::store) async fn deliveries_of_all(
        &self,
        message_keys: &[i64],
    ) -> Result<HashMap<Uuid, Vec<DeliveryView>>, Unavailable> {
        let sql = format!(
            "SELECT {DELIVERY_COLUMNS} FROM delivery d {DELIVERY_JOINS} WHERE d.message_k = ANY ($1) ORDER BY d.k"
        );
        let mut all: HashMap<Uuid, Vec<DeliveryView>> = HashMap::new();
        for view in self.rows(&Sql::new(sql).bind(message_keys), delivery_view).await? {
            all.entry(view.message).or_default().push(view);
        }
        Ok(all)
    }

    pub async fn pending_delivery(
        &self,
        delivery_id: Uuid,
    ) -> Result<Option<(PendingDelivery, DeliveryState)>, Unavailable> {
        let sql = Sql::new(format!("SELECT {PENDING_COLUMNS}, d.state FROM {PENDING_TABLES} WHERE d.id = $1"));
        let read = |row: &PgRow| Ok((row::pending(row)?, codes::state(row::code(row, row::PENDING_COLUMNS_COUNT)?)?));
        self.optional(&sql.bind(delivery_id), read).await
    }

    pub(in crate::store) async fn optional<T>(
        &self,
        sql: &Sql,
        read: impl FnOnce(&PgRow) -> Result<T, Error>,
    ) -> Result<Option<T>, Unavailable> {
        let row = self.core.readers.optional(sql).await;
        row.and_then(|row| row.as_ref().map(read).transpose()).map_err(|error| unavailable(&error))
    }

    pub(in crate::store) async fn rows<T>(
        &self,
        sql: &Sql,
        read: impl Fn(&PgRow) -> Result<T, Error>,
    ) -> Result<Vec<T>, Unavailable> {
        let rows = self.core.readers.all(sql).await;
        rows.and_then(|rows| row::all(&rows, read)).map_err(|error| unavailable(&error))
    }
}

fn message_view(row: &PgRow) -> Result<MessageView, Error> {
    let flags = row::code(row, 7)?;
    Ok(MessageView {
        metadata: shown(codes::metadata(row.try_get(1)?, row.try_get(2)?)?),
        state: codes::message_state(row::code(row, 3)?)?,
        committed_at_us: row.try_get(4)?,
        outcome: codes::outcome(row.try_get(5)?)?,
        body_kept: row.try_get(6)?,
        ambiguous: flags & rows::AMBIGUOUS != 0,
        further: flags & rows::FURTHER != 0,
    })
}

fn delivery_view(row: &PgRow) -> Result<DeliveryView, Error> {
    Ok(DeliveryView {
        id: row.try_get(1)?,
        message: row.try_get(2)?,
        participant: row.try_get(3)?,
        destination: row.try_get(4)?,
        kind: codes::kind(row::code(row, 5)?, row.try_get(6)?)?,
        state: codes::state(row::code(row, 7)?)?,
        attempts: row::count(row, 8)?,
        due_at_us: row.try_get(9)?,
        expires_at_us: row.try_get(10)?,
        fault: codes::fault(row.try_get(11)?)?,
        status: row::status(row, 12)?,
        last_fault: codes::fault(row.try_get(16)?)?,
        last_detail: row.try_get(17)?,
        receiver_issues: codes::issues(row.try_get(18)?)?,
        answer: row.try_get(13)?,
        replay_of: row.try_get(14)?,
        waits: None,
        replayed_by: row.try_get(15)?,
    })
}
