//! Reads rows of PostgreSQL: small integers, and what many queries read.

use crate::delivery::PendingDelivery;
use crate::store::codes;
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use std::sync::Arc;

/// Columns of a delivery with its message's metadata, as `pending` reads them; `d` is delivery, `m` message, `p` participant.
pub(in crate::store) const PENDING_COLUMNS: &str = "d.k, d.id, d.message_k, p.id, d.lane, d.seq, d.kind, d.kind_json, d.attempts, \
     d.due_us, d.expires_us, m.metadata, m.in_reply_to, d.prev_seq, \
     d.uncounted + (SELECT count(*)::integer FROM attempt a WHERE a.delivery_k = d.k AND a.n > d.uncounted AND a.result = 'probe')";
/// The number of these columns, which is the index of the next one.
pub(in crate::store) const PENDING_COLUMNS_COUNT: usize = 15;
pub(in crate::store) const PENDING_TABLES: &str =
    "delivery d JOIN message m ON m.k = d.message_k JOIN participant p ON p.k = d.participant";

/// A code, a kind, or flags as a column holds them.
pub(in crate::store) fn small(code: i64) -> i16 {
    i16::try_from(code).unwrap_or(i16::MAX)
}

/// A code, a kind, or flags.
pub(in crate::store) fn code(row: &PgRow, column: usize) -> Result<i64, Error> {
    row.try_get::<i16, _>(column).map(i64::from)
}

/// A number of attempts.
pub(in crate::store) fn count(row: &PgRow, column: usize) -> Result<u32, Error> {
    let count: i32 = row.try_get(column)?;
    u32::try_from(count).map_err(|_| codes::decode(format!("number of attempts {count}")))
}

/// An HTTP status.
pub(in crate::store) fn status(row: &PgRow, column: usize) -> Result<Option<u16>, Error> {
    let status: Option<i32> = row.try_get(column)?;
    status.map(|status| u16::try_from(status).map_err(|_| codes::decode(format!("status {status}")))).transpose()
}

/// Reads `PENDING_COLUMNS`, without the body.
pub(in crate::store) fn pending(row: &PgRow) -> Result<PendingDelivery, Error> {
    Ok(PendingDelivery {
        delivery_key: row.try_get(0)?,
        delivery_id: row.try_get(1)?,
        message_key: row.try_get(2)?,
        participant: Arc::from(row.try_get::<&str, _>(3)?),
        lane: row.try_get(4)?,
        seq: row.try_get(5)?,
        prev_seq: row.try_get(13)?,
        kind: codes::kind(code(row, 6)?, row.try_get(7)?)?,
        attempts: count(row, 8)?,
        uncounted_attempts: count(row, 14)?,
        is_probe: false,
        due_at_us: row.try_get(9)?,
        expires_at_us: row.try_get(10)?,
        metadata: codes::metadata(row.try_get(11)?, row.try_get(12)?)?,
        body: None,
    })
}

/// All rows, each read by `read`.
pub(in crate::store) fn all<T>(rows: &[PgRow], read: impl Fn(&PgRow) -> Result<T, Error>) -> Result<Vec<T>, Error> {
    rows.iter().map(read).collect()
}
