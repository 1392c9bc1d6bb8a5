//! The only writer: it commits the jobs that wait in one batch, then answers their callers.
//!
//! A database error rolls back the whole batch. If one of the rows caused it, the jobs are committed one by one, so that one bad
//! row fails one caller; otherwise the whole batch fails, and the writer continues with the next.

use super::batch::{self, Batch, BatchJob, BatchResult};
use super::core::{Core, is_row_error, unavailable};
use super::prepare::{Prepared, PreparedSettlement};
use super::recent::{self, Recent};
use super::term::UnwrittenTerms;
use super::{Unavailable, open};
use crate::delivery::{Acceptance, Settled};
use crate::turn::Chain;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection, Error, Row};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

const BATCH_JOBS: usize = 256;
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// A batch waits for at most so many jobs, if the batches before had as many: each commit costs an fsync.
const LINGER_JOBS: usize = 24;
/// How long a batch waits for further jobs.
const LINGER: Duration = Duration::from_millis(1);

pub(super) enum Job {
    /// With its chain of messages that must be stored in order.
    Accept(Box<Prepared>, Chain, oneshot::Sender<Result<Acceptance, Unavailable>>),
    Settle(Box<PreparedSettlement>, oneshot::Sender<Result<Settled, Unavailable>>),
    Close(oneshot::Sender<()>),
}

enum Reply {
    Accept(Chain, oneshot::Sender<Result<Acceptance, Unavailable>>),
    Settle(oneshot::Sender<Result<Settled, Unavailable>>),
}

/// The writing connection and the keys that it assigns next.
pub(super) struct Writer {
    pub conn: SqliteConnection,
    pub keys: Keys,
    pub unwritten_terms: UnwrittenTerms,
    /// Shared with readers.
    pub recent: Recent,
}

/// The highest keys assigned. A failed transaction leaves gaps, but no key is assigned twice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keys {
    pub message: i64,
    pub delivery: i64,
    pub seq: i64,
}

impl Keys {
    pub async fn read(conn: &mut SqliteConnection) -> Result<Keys, Error> {
        let row = sqlx::query(
            "SELECT coalesce((SELECT max(k) FROM message), 0), coalesce((SELECT max(k) FROM delivery), 0), \
             coalesce((SELECT max(seq) FROM delivery WHERE state = 0), 0)",
        )
        .fetch_one(conn)
        .await?;
        Ok(Keys { message: row.try_get(0)?, delivery: row.try_get(1)?, seq: row.try_get(2)? })
    }

    pub fn next_message(&mut self) -> i64 {
        self.message += 1;
        self.message
    }

    pub fn next_delivery(&mut self) -> i64 {
        self.delivery += 1;
        self.delivery
    }

    /// Grows even if the clock is set back.
    pub fn next_seq(&mut self, now_us: i64) -> i64 {
        self.seq = now_us.max(self.seq + 1);
        self.seq
    }
}

impl Writer {
    pub async fn begin(&mut self) -> Result<(), Error> {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.conn).await.map(drop)
    }

    pub async fn commit(&mut self) -> Result<(), Error> {
        sqlx::query("COMMIT").execute(&mut self.conn).await.map(drop)
    }

    /// Rolls back a failed transaction, whatever state SQLite left it in.
    pub async fn recover(&mut self, core: &Core) {
        // SQLite may have rolled back by itself (disk full); then this fails, which is not an error.
        let _ = sqlx::query("ROLLBACK").execute(&mut self.conn).await;
        if self.conn.ping().await.is_err()
            && let Ok(conn) = open::writer_options(&core.path).connect().await
        {
            self.conn = conn;
        }
    }
}

/// Runs until the store is closed or its last handle is dropped.
pub(super) async fn run(core: Arc<Core>, mut jobs: mpsc::Receiver<Job>) {
    // The number of callers to expect: the size of the largest recent batch.
    let mut expected = 0;
    while let Some(first) = jobs.recv().await {
        let mut gathered = Gathered::default();
        gathered.add(first);
        gathered.gather(&mut jobs, expected).await;
        expected = gathered.jobs.len().max(expected * 7 / 8);
        let closing = gathered.close.take();
        commit(&core, gathered).await;
        write_indexes(&core).await;
        if let Some(closed) = closing {
            // No caller can enqueue any more; jobs that wait are still committed.
            jobs.close();
            finish(&core, &mut jobs).await;
            let _ = closed.send(());
            return;
        }
    }
    core.close().await;
}

/// Writes the terms and moves the references of messages, once there are enough of them.
async fn write_indexes(core: &Arc<Core>) {
    if core.writer.lock().await.unwritten_terms.is_due()
        && let Err(error) = core.write_terms().await
    {
        tracing::warn!(%error, "the terms of messages cannot be written; the next search tries again");
    }
    if let Err(error) = recent::move_due(core).await {
        tracing::warn!(%error, "the references of messages cannot be moved; the next batch tries again");
    }
}

async fn finish(core: &Core, jobs: &mut mpsc::Receiver<Job>) {
    loop {
        let mut gathered = Gathered::default();
        gathered.drain(jobs);
        if gathered.jobs.is_empty() {
            break;
        }
        commit(core, gathered).await;
    }
    core.close().await;
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
            Job::Close(closed) => self.close = Some(closed),
        }
    }

    fn full(&self) -> bool {
        self.jobs.len() >= BATCH_JOBS || self.bytes >= BATCH_BYTES || self.close.is_some()
    }

    fn drain(&mut self, jobs: &mut mpsc::Receiver<Job>) {
        while !self.full()
            && let Ok(job) = jobs.try_recv()
        {
            self.add(job);
        }
    }

    /// Takes the jobs that wait. If recent batches were larger, more callers are likely to follow within a millisecond, and
    /// waiting for them saves commits.
    async fn gather(&mut self, jobs: &mut mpsc::Receiver<Job>, expected: usize) {
        self.drain(jobs);
        let until = Instant::now() + LINGER;
        while !self.full() && self.jobs.len() < expected.min(LINGER_JOBS) {
            match timeout_at(until, jobs.recv()).await {
                Ok(Some(job)) => self.add(job),
                Ok(None) | Err(_) => break,
            }
            self.drain(jobs);
        }
    }
}

async fn commit(core: &Core, gathered: Gathered) {
    let Gathered { jobs, replies, .. } = gathered;
    if jobs.is_empty() {
        return;
    }
    let retries = if jobs.len() > 1 { jobs.clone() } else { Vec::new() };
    match transaction(core, jobs).await {
        Ok(answers) => replies.into_iter().zip(answers).for_each(|(reply, answer)| reply.send(answer)),
        Err(Failure::OfRow(error)) if !retries.is_empty() => {
            tracing::error!(jobs = retries.len(), %error, "a batch failed because of one of its rows; each job is committed alone");
            one_by_one(core, retries, replies).await;
        }
        Err(failure) => fail(replies.into_iter(), &failure),
    }
}

/// A bad row fails only its own caller. Any other failure fails all jobs that are left.
async fn one_by_one(core: &Core, jobs: Vec<BatchJob>, replies: Vec<Reply>) {
    let mut replies = replies.into_iter();
    for job in jobs {
        let Some(reply) = replies.next() else { return };
        if reply.is_after_a_failure() {
            reply.fail(Unavailable::Away("an earlier message of the same queue could not be stored".into()));
            continue;
        }
        match transaction(core, vec![job]).await {
            Ok(answers) => answers.into_iter().zip([reply]).for_each(|(answer, reply)| reply.send(answer)),
            Err(failure @ Failure::OfRow(_)) => fail([reply].into_iter(), &failure),
            Err(failure) => return fail([reply].into_iter().chain(replies), &failure),
        }
    }
}

fn fail(replies: impl Iterator<Item = Reply>, failure: &Failure) {
    let (Failure::OfRow(unavailable) | Failure::OfBatch(unavailable)) = failure;
    let mut jobs = 0;
    for reply in replies {
        reply.fail(unavailable.clone());
        jobs += 1;
    }
    tracing::error!(jobs, error = %unavailable, "the store could not commit; its callers get an error");
}

enum Failure {
    OfRow(Unavailable),
    OfBatch(Unavailable),
}

/// Runs one transaction and reports its result to the store's health.
async fn transaction(core: &Core, jobs: Vec<BatchJob>) -> Result<Vec<BatchResult>, Failure> {
    let count = jobs.len() as u64;
    let running = core.health.begin();
    let answers = {
        let mut writer = core.writer.lock().await;
        let answers = transact(core, &mut writer, jobs).await;
        if answers.is_err() {
            writer.recover(core).await;
        }
        answers
    };
    core.commits.fetch_add(1, Ordering::Relaxed);
    core.operations.fetch_add(count, Ordering::Relaxed);
    let answers = match answers {
        // A commit into a file that was removed does not count.
        Ok(answers) => core.check_files().map(|()| answers).map_err(Failure::OfBatch),
        Err(error) if is_row_error(&error) => Err(Failure::OfRow(unavailable(&error))),
        Err(error) => Err(Failure::OfBatch(unavailable(&error))),
    };
    let failure = match &answers {
        Err(Failure::OfBatch(unavailable)) => Some(unavailable),
        Ok(_) | Err(Failure::OfRow(_)) => None,
    };
    core.health.end(running, failure);
    answers
}

async fn transact(core: &Core, writer: &mut Writer, jobs: Vec<BatchJob>) -> Result<Vec<BatchResult>, Error> {
    core.recent.refresh(&mut writer.conn).await?;
    let (known, new) = core.unknown_participants(jobs.iter().flat_map(BatchJob::participants));
    let participants = core.add_participants(&mut writer.conn, known, new).await?;
    let now_us = core.clock.now_us();
    let batch = Batch::new(&mut writer.keys, participants, now_us, core.identities_from_us(now_us));
    match batch::run(&mut writer.conn, &core.recent, batch, jobs).await {
        Ok(done) => {
            core.recent.commit();
            core.recent.add(&done.references, done.newest, done.messages);
            writer.unwritten_terms.add(done.terms, done.newest, done.messages);
            Ok(done.answers)
        }
        Err(error) => {
            writer.unwritten_terms.invalidate();
            core.recent.invalidate();
            Err(error)
        }
    }
}

impl Reply {
    /// A caller that is gone gets the result when it sends the message again.
    fn send(self, answer: BatchResult) {
        match (self, answer) {
            (Reply::Accept(_, reply), BatchResult::Accept(accepted)) => drop(reply.send(Ok(accepted))),
            (Reply::Settle(reply), BatchResult::Settle(settled)) => drop(reply.send(Ok(settled))),
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
        }
    }
}
