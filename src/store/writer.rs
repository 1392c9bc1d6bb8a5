//! The only writer: it commits the jobs that wait in one batch, then answers their callers.
//!
//! A database error rolls back the whole batch. If one of the rows caused it, the jobs are committed one by one, so that one bad
//! row fails one caller; otherwise the whole batch fails, and the writer continues with the next.

use super::Unavailable;
use super::backend::Backend;
use super::batch::{BatchFailure, BatchResult};
use super::prepare::BatchJob;
use super::queue::{Job, JobQueue};
use crate::delivery::{Acceptance, Settled};
use crate::turn::Chain;
use std::time::Duration;
use tokio::sync::oneshot;

const BATCH_JOBS: usize = 256;
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// How long a batch waits for further jobs, and twice as long for more than a few.
const LINGER: Duration = Duration::from_millis(1);
const FEW_JOBS: usize = 24;

enum Reply {
    Accept(Chain, oneshot::Sender<Result<Acceptance, Unavailable>>),
    Settle(oneshot::Sender<Result<Settled, Unavailable>>),
    Wait(oneshot::Sender<Result<bool, Unavailable>>),
}

/// Runs until the store is closed or its last handle is dropped.
pub(super) async fn run(backend: Backend, mut jobs: JobQueue) {
    // The number of callers to expect: the size of the largest recent batch.
    let mut expected = 0;
    while let Some(first) = jobs.recv().await {
        let mut gathered = Gathered::default();
        gathered.add(first);
        gathered.gather(&mut jobs, expected.min(backend.expected_jobs())).await;
        expected = gathered.jobs.len().max(expected * 7 / 8);
        let closing = gathered.close.take();
        commit(&backend, gathered).await;
        if let Some(closed) = closing {
            // No caller can enqueue any more; jobs that wait are still committed.
            jobs.close();
            finish(&backend, &mut jobs).await;
            let _ = closed.send(());
            return;
        }
    }
    backend.close().await;
}

async fn finish(backend: &Backend, jobs: &mut JobQueue) {
    loop {
        let mut gathered = Gathered::default();
        gathered.drain(jobs);
        if gathered.jobs.is_empty() {
            break;
        }
        commit(backend, gathered).await;
    }
    backend.close().await;
}

#[derive(Default)]
struct Gathered {
    jobs: Vec<BatchJob>,
    replies: Vec<Reply>,
    bytes: usize,
    close: Option<oneshot::Sender<()>>,
}

impl Gathered {
    fn add(&mut self, job: Job) {
        match job {
            Job::Accept(_, chain, reply) if chain.is_broken() => {
                Reply::Accept(chain, reply)
                    .fail(Unavailable::Away("an earlier message of the same queue could not be stored".into()));
            }
            Job::Accept(message, chain, reply) => {
                self.bytes += message.size_bytes();
                self.jobs.push(BatchJob::Accept(message));
                self.replies.push(Reply::Accept(chain, reply));
            }
            Job::Settle(settlement, reply) => {
                self.bytes += settlement.answer.as_ref().map_or(0, |answer| answer.size_bytes());
                self.jobs.push(BatchJob::Settle(settlement));
                self.replies.push(Reply::Settle(reply));
            }
            Job::Wait(change, reply) => {
                self.jobs.push(BatchJob::Wait(change));
                self.replies.push(Reply::Wait(reply));
            }
            Job::Close(closed) => self.close = Some(closed),
        }
    }

    fn full(&self) -> bool {
        self.jobs.len() >= BATCH_JOBS || self.bytes >= BATCH_BYTES || self.close.is_some()
    }

    fn drain(&mut self, jobs: &mut JobQueue) {
        while !self.full()
            && let Some(job) = jobs.try_recv()
        {
            self.add(job);
        }
    }

    /// Takes the jobs that wait. If recent batches were larger, more callers are likely to follow within a millisecond or two, and
    /// waiting for them saves commits.
    async fn gather(&mut self, jobs: &mut JobQueue, expected: usize) {
        self.drain(jobs);
        let missing = expected.saturating_sub(self.jobs.len());
        if missing > 0 && !self.full() {
            let limit = if expected > FEW_JOBS { 2 * LINGER } else { LINGER };
            jobs.linger(missing, limit).await;
            self.drain(jobs);
        }
    }
}

async fn commit(backend: &Backend, gathered: Gathered) {
    let Gathered { jobs, replies, .. } = gathered;
    if jobs.is_empty() {
        return;
    }
    match backend.commit(&jobs).await {
        Ok(answers) => replies.into_iter().zip(answers).for_each(|(reply, answer)| reply.send(answer)),
        Err(BatchFailure::OfRow(error)) if jobs.len() > 1 => {
            tracing::error!(jobs = jobs.len(), %error, "a batch failed because of one of its rows; each job is committed alone");
            one_by_one(backend, &jobs, replies).await;
        }
        Err(failure) => fail(replies.into_iter(), &failure),
    }
}

/// A bad row fails only its own caller. Any other failure fails all jobs that are left.
async fn one_by_one(backend: &Backend, jobs: &[BatchJob], replies: Vec<Reply>) {
    let mut replies = replies.into_iter();
    for job in jobs {
        let Some(reply) = replies.next() else { return };
        if reply.is_after_a_failure() {
            reply.fail(Unavailable::Away("an earlier message of the same queue could not be stored".into()));
            continue;
        }
        match backend.commit(std::slice::from_ref(job)).await {
            Ok(answers) => answers.into_iter().zip([reply]).for_each(|(answer, reply)| reply.send(answer)),
            Err(failure @ BatchFailure::OfRow(_)) => fail([reply].into_iter(), &failure),
            Err(failure) => return fail([reply].into_iter().chain(replies), &failure),
        }
    }
}

fn fail(replies: impl Iterator<Item = Reply>, failure: &BatchFailure) {
    let (BatchFailure::OfRow(unavailable) | BatchFailure::OfBatch(unavailable)) = failure;
    let mut jobs = 0;
    for reply in replies {
        reply.fail(unavailable.clone());
        jobs += 1;
    }
    tracing::error!(jobs, error = %unavailable, "the store could not commit; its callers get an error");
}

impl Reply {
    /// A caller that is gone gets the result when it sends the message again.
    fn send(self, answer: BatchResult) {
        match (self, answer) {
            (Reply::Accept(_, reply), BatchResult::Accept(accepted)) => drop(reply.send(Ok(accepted))),
            (Reply::Settle(reply), BatchResult::Settle(settled)) => drop(reply.send(Ok(settled))),
            (Reply::Wait(reply), BatchResult::Wait(waits)) => drop(reply.send(Ok(waits))),
            (reply, _) => reply.fail(Unavailable::Away("the result has the wrong kind".into())),
        }
    }

    /// Whether an earlier message of its chain could not be stored.
    fn is_after_a_failure(&self) -> bool {
        matches!(self, Reply::Accept(chain, _) if chain.is_broken())
    }

    fn fail(self, unavailable: Unavailable) {
        match self {
            Reply::Accept(chain, reply) => {
                // Later messages of the chain may already be in the next batch.
                chain.break_off();
                drop(reply.send(Err(unavailable)))
            }
            Reply::Settle(reply) => drop(reply.send(Err(unavailable))),
            Reply::Wait(reply) => drop(reply.send(Err(unavailable))),
        }
    }
}
