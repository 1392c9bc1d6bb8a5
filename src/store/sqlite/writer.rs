//! The only connection that writes, and the transaction of a batch on it.

use super::core::{Core, is_row_error, unavailable};
use super::recent::{self, Recent};
use super::term::UnwrittenTerms;
use super::{lookup, open};
use crate::store::batch::{self, BatchFailure, BatchResult, Decision};
use crate::store::context::Context;
use crate::store::prepare::BatchJob;
use crate::store::stored::Keys;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection, Error, Row};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The writing connection and the last keys that it assigned.
pub(in crate::store) struct Writer {
    pub conn: SqliteConnection,
    pub keys: Keys,
    pub unwritten_terms: UnwrittenTerms,
    /// Shared with readers.
    pub recent: Recent,
}

/// The last keys that are stored.
pub(in crate::store) async fn read_keys(conn: &mut SqliteConnection) -> Result<Keys, Error> {
    let row = sqlx::query(
        "SELECT coalesce((SELECT max(k) FROM message), 0), coalesce((SELECT max(k) FROM delivery), 0), \
         coalesce((SELECT max(seq) FROM delivery WHERE state = 0), 0)",
    )
    .fetch_one(conn)
    .await?;
    Ok(Keys { message: row.try_get(0)?, delivery: row.try_get(1)?, seq: row.try_get(2)? })
}

impl Writer {
    pub async fn begin(&mut self) -> Result<(), Error> {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.conn).await.map(drop)
    }

    pub async fn commit(&mut self) -> Result<(), Error> {
        sqlx::query("COMMIT").execute(&mut self.conn).await.map(drop)
    }

    /// Rolls back a failed transaction, whatever state SQLite left it in.
    pub async fn recover(&mut self, core: &Core) {
        // SQLite may have rolled back by itself (disk full); then this fails, which is not an error.
        let _ = sqlx::query("ROLLBACK").execute(&mut self.conn).await;
        if self.conn.ping().await.is_err()
            && let Ok(conn) = open::writer_options(&core.path).connect().await
        {
            self.conn = conn;
        }
    }
}

impl Core {
    /// Decides and writes a batch in one transaction, and reports its result to the store's health.
    pub async fn commit(&self, jobs: Vec<BatchJob>) -> Result<Vec<BatchResult>, BatchFailure> {
        let count = jobs.len() as u64;
        let running = self.health.begin();
        let results = {
            let mut writer = self.writer.lock().await;
            let results = transact(self, &mut writer, jobs).await;
            if results.is_err() {
                writer.recover(self).await;
            }
            results
        };
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.operations.fetch_add(count, Ordering::Relaxed);
        let results = match results {
            // A commit into a file that was removed does not count.
            Ok(results) => self.check_files().map(|()| results).map_err(BatchFailure::OfBatch),
            Err(error) if is_row_error(&error) => Err(BatchFailure::OfRow(unavailable(&error))),
            Err(error) => Err(BatchFailure::OfBatch(unavailable(&error))),
        };
        let failure = match &results {
            Err(BatchFailure::OfBatch(unavailable)) => Some(unavailable),
            Ok(_) | Err(BatchFailure::OfRow(_)) => None,
        };
        self.health.end(running, failure);
        results
    }

    /// Writes the terms and moves the references of messages, once there are enough of them.
    pub async fn write_indexes(self: &Arc<Self>) {
        if self.writer.lock().await.unwritten_terms.is_due()
            && let Err(error) = self.write_terms().await
        {
            tracing::warn!(%error, "the terms of messages cannot be written; the next search tries again");
        }
        if let Err(error) = recent::move_due(self).await {
            tracing::warn!(%error, "the references of messages cannot be moved; the next batch tries again");
        }
    }

    pub fn context(&self) -> Context {
        let now_us = self.clock.now_us();
        let identities_from_us = self.identities_from_us(now_us);
        Context { participants: self.participant_keys(), now_us, identities_from_us }
    }
}

async fn transact(core: &Core, writer: &mut Writer, jobs: Vec<BatchJob>) -> Result<Vec<BatchResult>, Error> {
    core.recent.refresh(&mut writer.conn).await?;
    let (known, new) = core.unknown_participants(jobs.iter().flat_map(BatchJob::participants));
    core.add_participants(&mut writer.conn, known, new).await?;
    let results = run(core, writer, jobs).await;
    if results.is_err() {
        writer.unwritten_terms.invalidate();
        core.recent.invalidate();
    }
    results
}

async fn run(core: &Core, writer: &mut Writer, jobs: Vec<BatchJob>) -> Result<Vec<BatchResult>, Error> {
    let (context, recent) = (core.context(), &core.recent);
    let query = context.query(&jobs);
    let stored = lookup::begin(&mut writer.conn, recent, &query, writer.keys).await?;
    let Decision { results, mut rows, keys } = batch::decide(&context, stored, jobs);
    // A failed transaction leaves gaps, but no key is assigned twice.
    writer.keys = keys;
    lookup::release(&mut writer.conn, recent, &rows.released).await?;
    let (terms, references) = (std::mem::take(&mut rows.terms), rows.references.clone());
    // Later keys may have been assigned by transactions that failed.
    let newest = rows.messages.iter().map(|row| row.key).max().unwrap_or_default();
    let messages = rows.messages.len();
    rows.write_and_commit(&mut writer.conn).await?;
    recent.commit();
    recent.add(&references, newest, messages);
    writer.unwritten_terms.add(terms, newest, messages);
    Ok(results)
}
