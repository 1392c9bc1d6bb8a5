//! A batch in one transaction: what it must know is read, everything is decided in memory, and its rows are written.

use super::core::Core;
use super::error::{is_row_error, unavailable};
use super::lookup;
use super::writer::Writer;
use crate::store::batch::{self, BatchFailure, BatchResult, Decision};
use crate::store::prepare::BatchJob;
use crate::store::stored::Keys;
use sqlx::Error;
use std::sync::atomic::Ordering;

impl Core {
    /// Decides and writes a batch in one transaction, and reports its result to the store's health.
    pub async fn commit(&self, jobs: &[BatchJob]) -> Result<Vec<BatchResult>, BatchFailure> {
        let count = jobs.len() as u64;
        let running = self.health.begin();
        let results = {
            let mut writer = self.writer.lock().await;
            let results = transact(self, &mut writer, jobs).await;
            if results.is_err() {
                writer.recover(&self.path).await;
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
}

async fn transact(core: &Core, writer: &mut Writer, jobs: &[BatchJob]) -> Result<Vec<BatchResult>, Error> {
    writer.refresh().await?;
    core.add_participants(&mut writer.conn, jobs.iter().flat_map(BatchJob::participants)).await?;
    let context = core.context();
    let query = context.query(jobs);
    let stored = lookup::begin(&mut writer.conn, &writer.recent, &query, writer.keys).await?;
    let Decision { results, mut rows, keys } = batch::decide(&context, stored, jobs);
    // A failed transaction leaves gaps, but no key is assigned twice.
    if let Keys::Counted(last) = keys {
        writer.keys = last;
    }
    // Before anything is released: a row that moves with this transaction is released in its table, where it is then.
    writer.write_late().await?;
    lookup::release(&mut writer.conn, &writer.recent, &rows.released).await?;
    let terms = std::mem::take(&mut rows.terms);
    // Later keys may have been assigned by transactions that failed.
    let newest = rows.messages.iter().map(|row| row.key).max().unwrap_or_default();
    let messages = rows.messages.len();
    let log = writer.recent.log_new(std::mem::take(&mut rows.references))?;
    rows.write_and_commit(&mut writer.conn, log).await?;
    writer.recent.commit();
    writer.unwritten_terms.add(terms, newest, messages);
    Ok(results)
}
