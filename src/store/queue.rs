//! The queue of the writer. Callers wake the writer once for a batch: woken for each job, it cost two context switches per
//! message.

use super::Unavailable;
use super::prepare::{Prepared, PreparedSettlement, WaitChange};
use crate::delivery::{Acceptance, Settled};
use crate::turn::Chain;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// Jobs that may wait for the writer; further callers wait to enqueue theirs.
const QUEUE_JOBS: usize = 4096;

pub(super) enum Job {
    /// With its chain of messages that must be stored in order.
    Accept(Box<Prepared>, Chain, oneshot::Sender<Result<Acceptance, Unavailable>>),
    Settle(Box<PreparedSettlement>, oneshot::Sender<Result<Settled, Unavailable>>),
    Wait(WaitChange, oneshot::Sender<Result<bool, Unavailable>>),
    Close(oneshot::Sender<()>),
}

/// What callers and the writer share.
struct Gate {
    /// The number of queued jobs from which a caller wakes the writer, which waits for them.
    wake_at_jobs: AtomicUsize,
    woken: Notify,
}

/// The end of the callers.
pub(super) struct JobSender {
    jobs: mpsc::Sender<Job>,
    gate: Arc<Gate>,
}

/// The end of the writer.
pub(super) struct JobQueue {
    jobs: mpsc::Receiver<Job>,
    gate: Arc<Gate>,
}

pub(super) fn job_queue() -> (JobSender, JobQueue) {
    let (sender, receiver) = mpsc::channel(QUEUE_JOBS);
    let gate = Arc::new(Gate { wake_at_jobs: AtomicUsize::new(usize::MAX), woken: Notify::new() });
    (JobSender { jobs: sender, gate: gate.clone() }, JobQueue { jobs: receiver, gate })
}

impl JobSender {
    /// Errs if the writer has ended.
    pub async fn send(&self, job: Job) -> Result<(), SendError<Job>> {
        self.jobs.send(job).await?;
        if self.queued_jobs() >= self.gate.wake_at_jobs.load(Ordering::SeqCst) {
            self.gate.woken.notify_one();
        }
        Ok(())
    }

    pub fn queued_jobs(&self) -> usize {
        self.jobs.max_capacity() - self.jobs.capacity()
    }

    pub fn is_closed(&self) -> bool {
        self.jobs.is_closed()
    }
}

impl JobQueue {
    /// The next job, whenever it comes. None if the queue is closed and empty.
    pub async fn recv(&mut self) -> Option<Job> {
        self.jobs.recv().await
    }

    pub fn try_recv(&mut self) -> Option<Job> {
        self.jobs.try_recv().ok()
    }

    /// Waits until so many jobs are queued, at most for `limit`.
    pub async fn linger(&mut self, jobs: usize, limit: Duration) {
        let until = Instant::now() + limit;
        self.gate.wake_at_jobs.store(jobs, Ordering::SeqCst);
        while self.jobs.len() < jobs && timeout_at(until, self.gate.woken.notified()).await.is_ok() {}
        self.gate.wake_at_jobs.store(usize::MAX, Ordering::SeqCst);
    }

    pub fn close(&mut self) {
        self.jobs.close();
    }
}
