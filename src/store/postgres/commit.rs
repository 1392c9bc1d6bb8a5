//! A batch in one transaction of four round trips: BEGIN, one call that locks and reads what it must know, one statement that writes
//! its rows, and COMMIT.

use super::core::{Core, slot_of_writer};
use super::error::{is_row_error, unavailable};
use super::session::{Done, Mark, Work};
use super::{lookup, write};
use crate::store::batch::{self, BatchFailure, BatchResult, Decision};
use crate::store::prepare::BatchJob;
use sqlx::Error;
use sqlx::postgres::PgConnection;
use std::sync::Arc;
use std::sync::atomic::Ordering;

struct Batch<'b> {
    slot: i64,
    core: &'b Core,
    jobs: &'b [BatchJob],
}

impl Core {
    /// Decides and writes a batch in one transaction, and reports its result to the store's health.
    pub async fn commit(self: &Arc<Self>, writer: usize, jobs: &[BatchJob]) -> Result<Vec<BatchResult>, BatchFailure> {
        let running = self.health.begin();
        let results = self.try_commit(writer, jobs).await;
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.operations.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        let failure = match &results {
            Err(BatchFailure::OfBatch(unavailable)) => Some(unavailable),
            Ok(_) | Err(BatchFailure::OfRow(_)) => None,
        };
        self.health.end(running, failure);
        results
    }

    async fn try_commit(self: &Arc<Self>, writer: usize, jobs: &[BatchJob]) -> Result<Vec<BatchResult>, BatchFailure> {
        let participants = jobs.iter().flat_map(BatchJob::participants);
        self.add_participants(participants).await.map_err(BatchFailure::OfBatch)?;
        self.health.lost().map_err(BatchFailure::OfBatch)?;
        let batch = Batch { slot: slot_of_writer(writer), core: self, jobs };
        let results = self.batches[writer].lock().await.transact(&batch).await;
        self.check_lock(&results);
        results.map_err(|error| match is_row_error(&error) {
            true => BatchFailure::OfRow(unavailable(&error)),
            false => BatchFailure::OfBatch(unavailable(&error)),
        })
    }
}

impl Work for Batch<'_> {
    type Output = Vec<BatchResult>;

    async fn run(&self, conn: &mut PgConnection) -> Result<Done<Vec<BatchResult>>, Error> {
        let context = self.core.context();
        let query = context.query(self.jobs);
        let (transaction_id, stored) = lookup::read(conn, &query).await?;
        let Decision { results, rows, .. } = batch::decide(&context, stored, self.jobs);
        let message = rows.messages.first().map(|row| (row.key, row.metadata.id));
        write::rows(conn, rows, self.slot).await?;
        Ok(Done { output: results, mark: Mark { transaction_id, message } })
    }
}
