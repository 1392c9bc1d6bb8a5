//! One step of retention.

use super::archived::Archived;
use super::backend::{Lease, on_backend};
use super::retention::{RetentionDays, RetentionRules, Scope};
use super::view::RetentionStep;
use super::{Store, Unavailable};
use std::sync::Arc;

impl Store {
    /// Deletes what is older than `days`. Call again while it deletes something. Deletes nothing while the clock may be wrong.
    pub async fn sweep(&self, now_us: i64, days: RetentionDays, limit: u32) -> Result<RetentionStep, Unavailable> {
        self.sweep_archived(now_us, days.into(), limit, None).await
    }

    /// As `sweep`. With an archive, it deletes bodies and traces only of messages that are there.
    pub async fn sweep_archived(
        &self,
        now_us: i64,
        rules: RetentionRules,
        limit: u32,
        archived: Option<Arc<Archived>>,
    ) -> Result<RetentionStep, Unavailable> {
        if !self.inner.backend.holds(Lease::Upkeep) {
            return Ok(RetentionStep::default());
        }
        on_backend!(self, backend => backend.sweep(Scope::new(now_us, rules, limit, archived)).await)
    }
}
