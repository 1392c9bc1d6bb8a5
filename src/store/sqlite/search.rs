//! Runs searches on connections of their own and with a time limit, so that no list delays messages, deliveries, or readiness.

use super::core::Core;
use super::error::{is_interrupt, unavailable};
use crate::store::Unavailable;
use crate::store::view::ViewError;
use futures_util::future::BoxFuture;
use sqlx::Error;
use sqlx::sqlite::SqliteConnection;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Searches that run at the same time; further ones wait. Each may take a core.
pub(in crate::store) const SEARCHERS: u32 = 2;
/// Steps of SQLite's virtual machine between two checks of the time.
const STEPS_BETWEEN_CHECKS: i32 = 10_000;

/// Stops the search when its caller drops it.
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Core {
    /// Runs a query that may read many rows. Errs if it takes longer than 10 s.
    pub async fn search<T, F>(&self, work: F) -> Result<T, ViewError>
    where
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Error>>,
    {
        let limit = Duration::from_millis(self.search_milliseconds.load(Ordering::Relaxed));
        let deadline = Instant::now() + limit;
        let too_long = || ViewError::TooLong(limit);
        let acquired = tokio::time::timeout_at(deadline.into(), self.searchers.acquire()).await;
        let mut conn = acquired.map_err(|_| too_long())?.map_err(|error| away(&error))?;
        let abandoned = Abandoned(Arc::new(AtomicBool::new(false)));
        let flag = abandoned.0.clone();
        let checks = self.search_checks.clone();
        let goes_on = move || {
            checks.fetch_add(1, Ordering::Relaxed);
            !flag.load(Ordering::Relaxed) && Instant::now() < deadline
        };
        let mut handle = conn.lock_handle().await.map_err(|error| away(&error))?;
        handle.set_progress_handler(STEPS_BETWEEN_CHECKS, goes_on);
        drop(handle);
        let result = work(&mut conn).await;
        // The handler may stay: the next search on this connection sets its own.
        match result {
            Ok(found) => Ok(found),
            Err(error) if is_interrupt(&error) => Err(too_long()),
            Err(error) => Err(away(&error)),
        }
    }
}

fn away(error: &Error) -> ViewError {
    let unavailable: Unavailable = unavailable(error);
    unavailable.into()
}
