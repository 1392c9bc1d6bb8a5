//! What errors of PostgreSQL mean for a transaction and for its caller.

use crate::store::Unavailable;
use sqlx::Error;

/// The SQLSTATE, five characters: the first two are its class.
fn sqlstate(error: &Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// Whether the transaction met another one and may succeed when it is repeated: a serialization failure or a deadlock.
pub(in crate::store) fn is_conflict(error: &Error) -> bool {
    matches!(sqlstate(error).as_deref(), Some("40001" | "40P01"))
}

/// Whether the statement was stopped because it took too long.
pub(in crate::store) fn is_canceled(error: &Error) -> bool {
    sqlstate(error).as_deref() == Some("57014")
}

/// Whether the connection is gone, or the server stops, starts, or has none left: a new connection may succeed. An error without
/// SQLSTATE leaves the connection in an unknown state.
pub(in crate::store) fn is_connection_lost(error: &Error) -> bool {
    match sqlstate(error) {
        Some(code) => code.starts_with("08") || ["57P01", "57P02", "57P03", "53300", "25P03"].contains(&&*code),
        None => !is_of_values(error),
    }
}

/// Whether the server has as many connections as it may have.
pub(in crate::store) fn has_none_left(error: &Error) -> bool {
    sqlstate(error).as_deref() == Some("53300")
}

fn is_of_values(error: &Error) -> bool {
    matches!(error, Error::Encode(_) | Error::Decode(_) | Error::ColumnDecode { .. } | Error::RowNotFound)
}

/// Whether a transaction failed because of one of its rows, so that the others may succeed without it: values, constraints, and
/// limits of the database.
pub(in crate::store) fn is_row_error(error: &Error) -> bool {
    match sqlstate(error) {
        Some(code) => ["22", "23", "54"].iter().any(|class| code.starts_with(class)),
        None => is_of_values(error),
    }
}

/// The error that a caller gets for a database error. It contains no values: PostgreSQL quotes them in errors of class 22.
pub(in crate::store) fn unavailable(error: &Error) -> Unavailable {
    match (error, sqlstate(error).as_deref()) {
        (_, Some("53100")) => Unavailable::Full(text(error)),
        (Error::Decode(_) | Error::ColumnDecode { .. }, _) => Unavailable::Damaged(error.to_string()),
        _ => Unavailable::Away(text(error)),
    }
}

/// What to show of an error.
pub(in crate::store) fn text(error: &Error) -> String {
    match (error.as_database_error(), sqlstate(error)) {
        (_, Some(code)) if code.starts_with("22") => format!("the database refused a value (SQLSTATE {code})"),
        (Some(database), Some(code)) => format!("{} (SQLSTATE {code})", database.message()),
        _ => error.to_string(),
    }
}
