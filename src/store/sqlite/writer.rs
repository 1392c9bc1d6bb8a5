//! The only connection that writes, and what memory holds of the tables that it writes.
//!
//! Memory changes only once a transaction is committed. After one that failed it is stale, since only the tables tell what was
//! stored, and is read from them again before it is relied on.

use super::connect::writer_options;
use super::recent::{self, Recent};
use super::term::{self, UnwrittenTerms};
use crate::store::stored::LastKeys;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection, Error, Row};
use std::path::Path;

/// The writing connection and the last keys that it assigned.
pub(in crate::store) struct Writer {
    pub conn: SqliteConnection,
    pub keys: LastKeys,
    pub unwritten_terms: UnwrittenTerms,
    /// Shared with readers.
    pub recent: Recent,
}

impl Writer {
    /// Begins a transaction that may rely on what memory holds.
    pub async fn begin(&mut self) -> Result<(), Error> {
        self.refresh().await?;
        self.lock().await
    }

    /// Begins a transaction that does not rely on memory.
    pub async fn lock(&mut self) -> Result<(), Error> {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.conn).await.map(drop)
    }

    /// Reads the recent references again if they are stale. Terms are read again when they are written.
    pub async fn refresh(&mut self) -> Result<(), Error> {
        self.recent.refresh(&mut self.conn).await
    }

    /// Writes what is written later than messages, once there is enough of it, in the running transaction: in transactions of
    /// their own, these slices cost as many commits as the messages.
    pub async fn write_late(&mut self) -> Result<(), Error> {
        term::write_slice(&mut self.conn, &mut self.unwritten_terms).await?;
        recent::move_due(&self.recent, &mut self.conn).await
    }

    pub async fn commit(&mut self) -> Result<(), Error> {
        sqlx::query("COMMIT").execute(&mut self.conn).await?;
        self.recent.commit();
        Ok(())
    }

    /// Rolls back a failed transaction, whatever state SQLite left it in.
    pub async fn recover(&mut self, path: &Path) {
        self.recent.invalidate();
        self.unwritten_terms.invalidate();
        // SQLite may have rolled back by itself (disk full); then this fails, which is not an error.
        let _ = sqlx::query("ROLLBACK").execute(&mut self.conn).await;
        if self.conn.ping().await.is_err()
            && let Ok(conn) = writer_options(path).connect().await
        {
            self.conn = conn;
        }
    }
}

/// The last keys that are stored. Imported messages have negative ones.
pub(in crate::store) async fn read_keys(conn: &mut SqliteConnection) -> Result<LastKeys, Error> {
    let row = sqlx::query(
        "SELECT max(0, coalesce((SELECT max(k) FROM message), 0)), max(0, coalesce((SELECT max(k) FROM delivery), 0)), \
         coalesce((SELECT max(seq) FROM delivery WHERE state = 0), 0)",
    )
    .fetch_one(conn)
    .await?;
    Ok(LastKeys { message: row.try_get(0)?, delivery: row.try_get(1)?, seq: row.try_get(2)? })
}
