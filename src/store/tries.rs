//! Counts the tries of redelivered AMQP messages. Each try is stored before it is made, so that one that ends the process counts.

use super::Store;
use super::Unavailable;
use super::backend::on_backend;
use std::sync::Arc;

/// A redelivered message of a queue, identified by SHA-256 of its bytes and properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redelivered {
    pub queue: Arc<str>,
    pub digest: [u8; 32],
}

/// Records without a further try are deleted after this time: another consumer has taken the message.
const TRIES_DAYS: i64 = 7;
const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;
/// If there are more records, the oldest are deleted.
pub(super) const TRIES_LIMIT_ROWS: i64 = 10_000;

/// Records without a try since then are deleted.
pub(super) fn tries_kept_from_us(now_us: i64) -> i64 {
    now_us.saturating_sub(TRIES_DAYS * MICROSECONDS_PER_DAY)
}

impl Store {
    /// Stores that this message is about to be tried and returns its number of tries, including this one. Deletes the records
    /// of `settled` messages in the same transaction.
    pub async fn record_try(&self, message: Redelivered, settled: Vec<Redelivered>) -> Result<u32, Unavailable> {
        on_backend!(self, backend => backend.record_try(message, settled).await)
    }

    /// Takes back the last try: it failed for a reason unrelated to the message.
    pub async fn take_back_try(&self, message: Redelivered) -> Result<(), Unavailable> {
        on_backend!(self, backend => backend.take_back_try(message).await)
    }

    /// Deletes the records of settled messages.
    pub async fn forget_tries(&self, settled: Vec<Redelivered>) -> Result<(), Unavailable> {
        on_backend!(self, backend => backend.forget_tries(settled).await)
    }
}
