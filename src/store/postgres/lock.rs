//! The lock on a store: one router at a time uses a database. It is an advisory lock of the connection that commits batches, so that
//! who commits has it.

use super::sql::Sql;
use sqlx::postgres::PgConnection;
use sqlx::{Error, Row};
use std::io::ErrorKind;

/// The lock's number: the first 8 bytes of SHA-256 of "emberpost store".
const LOCK: i64 = 0x1e5c_7a3f_0b52_44d1;

/// Takes the lock, and returns the number of the server's process that has it now. `last`: the process of this session's last
/// connection, which the server may still take for alive.
pub(in crate::store) async fn take(conn: &mut PgConnection, last: Option<i32>) -> Result<i32, Error> {
    let row = Sql::new("SELECT pg_try_advisory_lock($1), pg_backend_pid()").bind(LOCK).one(conn).await?;
    if row.try_get(0)? {
        return row.try_get(1);
    }
    if let Some(last) = last {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid = $1::bigint AND granted";
        Sql::new(end).bind(i64::from(last)).execute(conn).await?;
    }
    Err(Error::Io(std::io::Error::new(ErrorKind::ResourceBusy, "another router has the lock of the store")))
}

/// Whether another connection has the lock.
pub(in crate::store) fn is_taken(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == ErrorKind::ResourceBusy)
}
