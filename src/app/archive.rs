//! When the archive is written, and what happens when it cannot be: retention stops until it can, and nothing else does.

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::store::archive::{ArchiveError, ArchivedFile};
use crate::store::view::RetentionStep;
use crate::store::{Archived, RetentionRules, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A failure that lasts is logged as often as this; and messages that were archived and could not be deleted are archived again no
/// sooner.
const REPEAT_INTERVAL: Duration = Duration::from_secs(3_600);

pub(super) struct Archiver {
    /// None: what is deleted is not archived.
    folder: Option<PathBuf>,
    metrics: Metrics,
    archived: Arc<Archived>,
    filled: Instant,
    has_deleted: bool,
    is_clean: bool,
    /// When a failure that lasts was last logged.
    logged: Option<Instant>,
}

impl Archiver {
    pub fn new(folder: Option<PathBuf>, metrics: Metrics) -> Archiver {
        let archived = Arc::default();
        Archiver {
            folder,
            metrics,
            archived,
            filled: Instant::now(),
            has_deleted: false,
            is_clean: false,
            logged: None,
        }
    }

    /// What may be deleted; None without an archive: everything that is old.
    pub fn archived(&self) -> Option<Arc<Archived>> {
        self.folder.is_some().then(|| self.archived.clone())
    }

    pub fn deleted(&mut self, step: RetentionStep) {
        self.has_deleted |= step.bodies + step.traces > 0;
    }

    /// Archives what comes next, after a sweep has deleted what was archived. Returns whether to sweep again at once.
    pub async fn fill(&mut self, store: &Store, clock: &Clock, rules: RetentionRules) -> bool {
        let Some(folder) = self.folder.clone() else { return false };
        let is_stuck = !self.archived.is_empty() && !std::mem::take(&mut self.has_deleted);
        if is_stuck && self.filled.elapsed() < REPEAT_INTERVAL {
            return false;
        }
        self.archived = Arc::default();
        match self.write(store, clock, rules, &folder).await {
            Ok(file) => {
                if self.logged.take().is_some() {
                    tracing::info!("the archive can be written again; retention continues");
                }
                self.metrics.archived(file.messages as u64);
                if let Some(path) = file.path {
                    tracing::info!(messages = file.messages, path = %path.display(), "archived, and deleted next");
                }
                (self.archived, self.filled) = (Arc::new(file.archived), Instant::now());
                !self.archived.is_empty()
            }
            Err(ArchiveError::Store(reason)) => {
                tracing::warn!(%reason, "retention did not run");
                false
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    async fn write(
        &mut self,
        store: &Store,
        clock: &Clock,
        rules: RetentionRules,
        folder: &Path,
    ) -> Result<ArchivedFile, ArchiveError> {
        if !self.is_clean {
            store.clean_archive(folder).await?;
            self.is_clean = true;
        }
        store.archive(clock.now_us(), rules, folder).await
    }

    fn failed(&mut self, error: &ArchiveError) {
        self.metrics.archive_failed();
        if self.logged.is_none_or(|logged| logged.elapsed() >= REPEAT_INTERVAL) {
            tracing::error!(
                "{error}; retention deletes no bodies and traces until it can be written (retention.archive_dir), and tries \
                 again each minute"
            );
            self.logged = Some(Instant::now());
        }
    }
}
