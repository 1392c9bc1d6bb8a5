//! The writers of a store: each a thread that commits batches. SQLite has one; in PostgreSQL several commit at the same time.
//!
//! A writer has a thread and a runtime of its own: on the shared runtime it would wait for other tasks after every statement, while
//! all requests wait for the writer.

use super::OpenError;
use super::backend::Backend;
use super::queue::{Job, JobQueue, JobSender, job_queue};
use super::writer;
use crate::supervisor::{PartGuard, Supervisor};
use tokio::sync::mpsc::error::SendError;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

const THREAD: &str = "store-writer";
/// Jobs go to the first writer that has fewer waiting ones: few large batches cost less than many small ones, and further writers
/// help when more wait than fit into a batch that is waited for.
const FULL_JOBS: usize = 64;

pub(super) struct Writers {
    queues: Vec<JobSender>,
}

impl Writers {
    /// Starts the writers of a backend. Returns once each can write.
    pub async fn start(
        backend: &Backend,
        supervisor: &Supervisor,
        closing: &CancellationToken,
    ) -> Result<Writers, OpenError> {
        let mut queues = Vec::new();
        for writer in 0..backend.writers() {
            let (sender, queue) = job_queue();
            let guard = supervisor.guard("store", closing.clone());
            start(backend.of_writer(writer), queue, guard, closing.clone()).await?;
            queues.push(sender);
        }
        Ok(Writers { queues })
    }

    /// Errs if the writer has ended. Messages of one chain go to one writer, which keeps their order.
    pub async fn send(&self, job: Job) -> Result<(), SendError<Job>> {
        let chain = match &job {
            Job::Accept(_, chain, _) => chain.key(),
            Job::Settle(..) | Job::Wait(..) | Job::Close(_) => None,
        };
        let queue = match chain {
            Some(key) => self.queues.get(key % self.queues.len()),
            None => self.queues.iter().find(|queue| queue.queued_jobs() < FULL_JOBS),
        };
        let shortest = || self.queues.iter().min_by_key(|queue| queue.queued_jobs());
        match queue.or_else(shortest) {
            Some(queue) => queue.send(job).await,
            None => Err(SendError(job)),
        }
    }

    pub fn is_closed(&self) -> bool {
        self.queues.iter().any(JobSender::is_closed)
    }

    /// Commits what waits. The first writer is the last to end: with it ends the store.
    pub async fn close(&self) {
        for queue in self.queues.iter().rev() {
            let (closed, done) = oneshot::channel();
            if queue.send(Job::Close(closed)).await.is_ok() {
                // An error means that the writer has already ended.
                let _ = done.await;
            }
        }
    }
}

async fn start(
    backend: Backend,
    queue: JobQueue,
    guard: PartGuard,
    closing: CancellationToken,
) -> Result<(), OpenError> {
    let failed = |source| OpenError::File { path: THREAD.into(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (ready, is_ready) = oneshot::channel();
    let run = move || {
        let _guard = guard;
        match runtime.block_on(backend.attach()) {
            Ok(keep_attached) => {
                runtime.spawn(keep_attached);
                // An error means that the caller no longer wants the store, and drops it.
                let _ = ready.send(Ok(()));
                runtime.block_on(writer::run(backend, queue));
            }
            Err(error) => {
                closing.cancel();
                let _ = ready.send(Err(error));
            }
        }
    };
    std::thread::Builder::new().name(THREAD.into()).spawn(run).map_err(failed)?;
    is_ready.await.unwrap_or_else(|_| Err(OpenError::Refused("the writer of the store has ended".into())))
}
