//! What errors of SQLite mean for a transaction and for its caller.

use crate::store::Unavailable;
use sqlx::Error;

const SQLITE_BUSY: i64 = 5;
const SQLITE_LOCKED: i64 = 6;
const SQLITE_INTERRUPT: i64 = 9;
const SQLITE_IOERR: i64 = 10;
const SQLITE_FULL: i64 = 13;

/// The primary result code of SQLite.
fn code(error: &Error) -> Option<i64> {
    let code = error.as_database_error()?.code()?.parse::<i64>().ok()?;
    Some(code & 0xff)
}

/// Whether another connection holds the lock.
pub(in crate::store) fn is_busy(error: &Error) -> bool {
    code(error) == Some(SQLITE_BUSY)
}

/// Whether the query was stopped by its progress handler.
pub(in crate::store) fn is_interrupt(error: &Error) -> bool {
    code(error) == Some(SQLITE_INTERRUPT)
}

/// Whether a transaction failed because of one of its rows, so that the others may succeed without it.
pub(in crate::store) fn is_row_error(error: &Error) -> bool {
    match error {
        Error::Database(_) => !matches!(code(error), Some(SQLITE_BUSY | SQLITE_LOCKED | SQLITE_IOERR | SQLITE_FULL)),
        Error::Encode(_) | Error::Decode(_) | Error::ColumnDecode { .. } => true,
        _ => false,
    }
}

/// The error that a caller gets for a database error. Error texts of SQLite contain no values.
pub(in crate::store) fn unavailable(error: &Error) -> Unavailable {
    match code(error) {
        Some(SQLITE_IOERR | SQLITE_FULL) => Unavailable::Full(error.to_string()),
        None if matches!(error, Error::Decode(_) | Error::ColumnDecode { .. }) => {
            Unavailable::Damaged(error.to_string())
        }
        _ => Unavailable::Away(error.to_string()),
    }
}
