//! Supervises the router's long-running parts: if one ends unexpectedly, by returning or by a panic, it is logged,
//! readiness names it, and the process drains and exits with an error, so that no router runs with a part missing.

use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Watches the parts of one router. Clones share it.
#[derive(Clone, Debug)]
pub struct Supervisor {
    /// The parts that failed, each once, in that order.
    failed: Arc<watch::Sender<Vec<&'static str>>>,
}

impl Default for Supervisor {
    fn default() -> Self {
        Supervisor { failed: Arc::new(watch::Sender::new(Vec::new())) }
    }
}

impl Supervisor {
    /// Starts a part as a task. It has failed if it ends before `asked` is canceled, or panics at any time.
    pub fn spawn(
        &self,
        part: &'static str,
        asked: CancellationToken,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let guard = self.guard(part, asked);
        tokio::spawn(async move {
            let _guard = guard;
            work.await;
        })
    }

    /// For a part with a thread of its own: the guard moves into the thread, and dropping it is the end of the part.
    pub fn guard(&self, part: &'static str, asked: CancellationToken) -> PartGuard {
        PartGuard { supervisor: self.clone(), part, asked }
    }

    /// Reports a part that cannot continue although it is still running.
    pub fn fail(&self, part: &'static str) {
        let is_new = self.failed.send_if_modified(|failed| {
            let is_new = !failed.contains(&part);
            if is_new {
                failed.push(part);
            }
            is_new
        });
        if is_new {
            tracing::error!(part, "{part} ended unexpectedly; the router cannot continue");
        }
    }

    /// The parts that failed, in that order.
    pub fn failed(&self) -> Vec<&'static str> {
        self.failed.borrow().clone()
    }

    /// Returns once a part has failed.
    pub async fn failure(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.failed.subscribe().wait_for(|failed| !failed.is_empty()).await;
    }
}

/// Represents a running part. If it is dropped before the part was asked to end, or while its thread panics, the part
/// has failed.
#[derive(Debug)]
pub struct PartGuard {
    supervisor: Supervisor,
    part: &'static str,
    asked: CancellationToken,
}

impl Drop for PartGuard {
    fn drop(&mut self) {
        if !self.asked.is_cancelled() || std::thread::panicking() {
            self.supervisor.fail(self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_part_that_returns_or_panics_or_is_aborted_unasked_is_reported_once() {
        let supervisor = Supervisor::default();
        let asked = CancellationToken::new();
        supervisor.spawn("returns", asked.clone(), async {}).await.unwrap();
        let panics = supervisor.spawn("panics", asked.clone(), async { panic!("on purpose") });
        assert!(panics.await.is_err());
        let aborted = supervisor.spawn("aborted", asked.clone(), std::future::pending());
        aborted.abort();
        assert!(aborted.await.is_err());
        supervisor.fail("returns");
        tokio::time::timeout(SOON, supervisor.failure()).await.expect("a failure was reported");
        assert_eq!(supervisor.failed(), ["returns", "panics", "aborted"]);
    }

    #[tokio::test]
    async fn a_part_that_was_asked_to_end_fails_only_by_a_panic() {
        let supervisor = Supervisor::default();
        let asked = CancellationToken::new();
        asked.cancel();
        supervisor.spawn("returns", asked.clone(), async {}).await.unwrap();
        assert!(supervisor.failed().is_empty());
        assert!(supervisor.spawn("panics", asked, async { panic!("on purpose") }).await.is_err());
        assert_eq!(supervisor.failed(), ["panics"]);
    }

    #[test]
    fn a_thread_that_ends_unasked_is_reported() {
        let supervisor = Supervisor::default();
        let guard = supervisor.guard("thread", CancellationToken::new());
        std::thread::spawn(move || drop(guard)).join().unwrap();
        assert_eq!(supervisor.failed(), ["thread"]);
    }
}
