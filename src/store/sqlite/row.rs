//! Reads rows of SQLite: ids, which are blobs, and what many queries read.

pub(in crate::store) use crate::store::codes::{
    decode, fault, from_json, issues, kind, kind_code, kind_json, message_state, message_state_code, outcome, state,
    state_code,
};

use crate::delivery::{Metadata, PendingDelivery};
use crate::store::codes;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::sync::Arc;
use uuid::Uuid;

/// Columns of a delivery with its message's metadata, as `pending` reads them; `d` is delivery, `m` message, `p` participant.
pub(in crate::store) const PENDING_COLUMNS: &str = "d.k, d.id, d.message_k, p.id, d.lane, d.seq, d.kind, d.kind_json, d.attempts, \
                                       d.due_us, d.expires_us, m.metadata, m.in_reply_to, d.prev_seq, \
                                       d.uncounted + (SELECT count(*) FROM attempt a \
                                       WHERE a.delivery_k = d.k AND a.n > d.uncounted AND a.result = 'probe')";
/// The number of these columns, which is the index of the next one.
pub(in crate::store) const PENDING_COLUMNS_COUNT: usize = 15;

pub(in crate::store) fn uuid(bytes: &[u8]) -> Result<Uuid, sqlx::Error> {
    Uuid::from_slice(bytes).map_err(|error| sqlx::Error::Decode(error.into()))
}

pub(in crate::store) fn optional_uuid(bytes: Option<&[u8]>) -> Result<Option<Uuid>, sqlx::Error> {
    bytes.map(uuid).transpose()
}

pub(in crate::store) fn blob(id: Uuid) -> Vec<u8> {
    id.as_bytes().to_vec()
}

/// Metadata as stored; the request that a message answers comes from its own column, which may be newer.
pub(in crate::store) fn metadata(text: &str, in_reply_to: Option<&[u8]>) -> Result<Arc<Metadata>, sqlx::Error> {
    codes::metadata(text, optional_uuid(in_reply_to)?)
}

/// Reads `PENDING_COLUMNS`, without the body.
pub(in crate::store) fn pending(row: &SqliteRow) -> Result<PendingDelivery, sqlx::Error> {
    Ok(PendingDelivery {
        delivery_key: row.try_get(0)?,
        delivery_id: uuid(row.try_get(1)?)?,
        message_key: row.try_get(2)?,
        participant: Arc::from(row.try_get::<&str, _>(3)?),
        lane: row.try_get(4)?,
        seq: row.try_get(5)?,
        prev_seq: row.try_get(13)?,
        kind: kind(row.try_get(6)?, row.try_get(7)?)?,
        attempts: row.try_get(8)?,
        uncounted_attempts: row.try_get(14)?,
        is_probe: false,
        due_at_us: row.try_get(9)?,
        expires_at_us: row.try_get(10)?,
        metadata: metadata(row.try_get(11)?, row.try_get(12)?)?,
        body: None,
    })
}
