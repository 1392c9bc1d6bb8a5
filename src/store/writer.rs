//! The one writer: jobs that wait together are committed together, then each caller hears.
//!
//! A database error leaves nothing of a batch. Where it was about one of the rows, the jobs are committed one by one, so that
//! one bad row fails one caller; else the whole batch fails, and the writer goes on with the next.

use super::batch::{self, Answer, Ask, Batch};
use super::core::{Core, is_of_a_row, unavailable};
use super::prepare::{Prepared, PreparedSettlement};
use super::recent::{self, Recent};
use super::term::Behind;
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
/// A batch waits to be so many at most, where those before it were: each commit costs an fsync.
const COMPANY_JOBS: usize = 24;
/// How long a batch waits for company.
const LINGER: Duration = Duration::from_millis(1);

pub(super) enum Job {
    /// With the chain of messages that are kept in order, if any.
    Accept(Box<Prepared>, Chain, oneshot::Sender<Result<Acceptance, Unavailable>>),
    Settle(Box<PreparedSettlement>, oneshot::Sender<Result<Settled, Unavailable>>),
    Close(oneshot::Sender<()>),
}

enum Reply {
    Accept(Chain, oneshot::Sender<Result<Acceptance, Unavailable>>),
    Settle(oneshot::Sender<Result<Settled, Unavailable>>),
}

/// The writing connection and the keys that it gives out next.
pub(super) struct Writer {
    pub conn: SqliteConnection,
    pub keys: Keys,
    pub behind: Behind,
    /// Shared with readers.
    pub recent: Recent,
}

/// The highest keys given out. A transaction that fails leaves gaps, never a key given twice.
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

    /// Grows also where the clock is set back.
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

    /// Leaves nothing of a transaction that failed, whatever state SQLite left it in.
    pub async fn recover(&mut self, core: &Core) {
        // SQLite may have rolled back by itself (disk full): then there is nothing to roll back, and that is no error.
        let _ = sqlx::query("ROLLBACK").execute(&mut self.conn).await;
        if self.conn.ping().await.is_err()
            && let Ok(conn) = open::writer_options(&core.path).connect().await
        {
            self.conn = conn;
        }
    }
}

/// Runs until the store is closed or nobody holds it.
pub(super) async fn run(core: Arc<Core>, mut jobs: mpsc::Receiver<Job>) {
    // How many callers a batch may find: the largest batch of late.
    let mut expected = 0;
    while let Some(first) = jobs.recv().await {
        let mut gathered = Gathered::default();
        gathered.add(first);
        gathered.gather(&mut jobs, expected).await;
        expected = gathered.asks.len().max(expected * 7 / 8);
        let closing = gathered.close.take();
        commit(&core, gathered).await;
        write_behind(&core).await;
        if let Some(closed) = closing {
            // Nobody can send any more; what was sent before is still committed.
            jobs.close();
            finish(&core, &mut jobs).await;
            let _ = closed.send(());
            return;
        }
    }
    core.shut().await;
}

/// What is written behind the messages, once there is enough of it.
async fn write_behind(core: &Arc<Core>) {
    if core.writer.lock().await.behind.is_due()
        && let Err(error) = core.write_terms().await
    {
        tracing::warn!(%error, "terms of messages cannot be written; searches try again");
    }
    if let Err(error) = recent::move_due(core).await {
        tracing::warn!(%error, "references of messages cannot be moved; the next messages try again");
    }
}

async fn finish(core: &Core, jobs: &mut mpsc::Receiver<Job>) {
    loop {
        let mut gathered = Gathered::default();
        gathered.drain(jobs);
        if gathered.asks.is_empty() {
            break;
        }
        commit(core, gathered).await;
    }
    core.shut().await;
}

#[derive(Default)]
struct Gathered {
    asks: Vec<Ask>,
    replies: Vec<Reply>,
    bytes: usize,
    close: Option<oneshot::Sender<()>>,
}

impl Gathered {
    fn add(&mut self, job: Job) {
        match job {
            Job::Accept(_, chain, reply) if chain.is_broken() => {
                Reply::Accept(chain, reply)
                    .fail(Unavailable::Away("a message before this one could not be kept".into()));
            }
            Job::Accept(message, chain, reply) => {
                self.bytes += message.size_bytes();
                self.asks.push(Ask::Accept(message));
                self.replies.push(Reply::Accept(chain, reply));
            }
            Job::Settle(settlement, reply) => {
                self.bytes += settlement.answer.as_ref().map_or(0, |answer| answer.size_bytes());
                self.asks.push(Ask::Settle(settlement));
                self.replies.push(Reply::Settle(reply));
            }
            Job::Close(closed) => self.close = Some(closed),
        }
    }

    fn full(&self) -> bool {
        self.asks.len() >= BATCH_JOBS || self.bytes >= BATCH_BYTES || self.close.is_some()
    }

    fn drain(&mut self, jobs: &mut mpsc::Receiver<Job>) {
        while !self.full()
            && let Ok(job) = jobs.try_recv()
        {
            self.add(job);
        }
    }

    /// Takes what is there. Where batches of late were larger, their callers are likely about to come again: a millisecond
    /// for them saves each a commit.
    async fn gather(&mut self, jobs: &mut mpsc::Receiver<Job>, expected: usize) {
        self.drain(jobs);
        let until = Instant::now() + LINGER;
        while !self.full() && self.asks.len() < expected.min(COMPANY_JOBS) {
            match timeout_at(until, jobs.recv()).await {
                Ok(Some(job)) => self.add(job),
                Ok(None) | Err(_) => break,
            }
            self.drain(jobs);
        }
    }
}

async fn commit(core: &Core, gathered: Gathered) {
    let Gathered { asks, replies, .. } = gathered;
    if asks.is_empty() {
        return;
    }
    let again = if asks.len() > 1 { asks.clone() } else { Vec::new() };
    match transaction(core, asks).await {
        Ok(answers) => replies.into_iter().zip(answers).for_each(|(reply, answer)| reply.send(answer)),
        Err(Failure::OfARow(error)) if !again.is_empty() => {
            tracing::error!(jobs = again.len(), %error, "a batch failed for one of its rows; each is tried alone");
            one_by_one(core, again, replies).await;
        }
        Err(failure) => fail(replies.into_iter(), &failure),
    }
}

/// One bad row fails its own caller only. What fails for all fails the rest, too.
async fn one_by_one(core: &Core, asks: Vec<Ask>, replies: Vec<Reply>) {
    let mut replies = replies.into_iter();
    for ask in asks {
        let Some(reply) = replies.next() else { return };
        if reply.is_behind_a_failure() {
            reply.fail(Unavailable::Away("a message before this one could not be kept".into()));
            continue;
        }
        match transaction(core, vec![ask]).await {
            Ok(answers) => answers.into_iter().zip([reply]).for_each(|(answer, reply)| reply.send(answer)),
            Err(failure @ Failure::OfARow(_)) => fail([reply].into_iter(), &failure),
            Err(failure) => return fail([reply].into_iter().chain(replies), &failure),
        }
    }
}

fn fail(replies: impl Iterator<Item = Reply>, failure: &Failure) {
    let (Failure::OfARow(unavailable) | Failure::OfAll(unavailable)) = failure;
    let mut jobs = 0;
    for reply in replies {
        reply.fail(unavailable.clone());
        jobs += 1;
    }
    tracing::error!(jobs, error = %unavailable, "the store could not commit; its callers are told");
}

enum Failure {
    OfARow(Unavailable),
    OfAll(Unavailable),
}

/// One transaction, and what it says of the store's health.
async fn transaction(core: &Core, asks: Vec<Ask>) -> Result<Vec<Answer>, Failure> {
    let count = asks.len() as u64;
    let running = core.health.begin();
    let answers = {
        let mut writer = core.writer.lock().await;
        let answers = transact(core, &mut writer, asks).await;
        if answers.is_err() {
            writer.recover(core).await;
        }
        answers
    };
    core.commits.fetch_add(1, Ordering::Relaxed);
    core.operations.fetch_add(count, Ordering::Relaxed);
    let answers = match answers {
        // A commit into a file that nobody will find again is none.
        Ok(answers) => core.check_files().map(|()| answers).map_err(Failure::OfAll),
        Err(error) if is_of_a_row(&error) => Err(Failure::OfARow(unavailable(&error))),
        Err(error) => Err(Failure::OfAll(unavailable(&error))),
    };
    let failure = match &answers {
        Err(Failure::OfAll(unavailable)) => Some(unavailable),
        Ok(_) | Err(Failure::OfARow(_)) => None,
    };
    core.health.end(running, failure);
    answers
}

async fn transact(core: &Core, writer: &mut Writer, asks: Vec<Ask>) -> Result<Vec<Answer>, Error> {
    core.recent.assure(&mut writer.conn).await?;
    let (known, new) = core.new_parties(asks.iter().flat_map(Ask::parties));
    let parties = core.number_all(&mut writer.conn, known, new).await?;
    let now_us = core.clock.now_us();
    let batch = Batch::new(&mut writer.keys, parties, now_us, core.identities_from_us(now_us));
    match batch::run(&mut writer.conn, &core.recent, batch, asks).await {
        Ok(done) => {
            core.recent.committed();
            core.recent.add(&done.references, done.newest, done.messages);
            writer.behind.add(done.terms, done.newest, done.messages);
            Ok(done.answers)
        }
        Err(error) => {
            writer.behind.unsure();
            core.recent.unsure();
            Err(error)
        }
    }
}

impl Reply {
    /// A caller that is gone finds what was kept by asking again.
    fn send(self, answer: Answer) {
        match (self, answer) {
            (Reply::Accept(_, reply), Answer::Accept(kept)) => drop(reply.send(Ok(kept))),
            (Reply::Settle(reply), Answer::Settle(settled)) => drop(reply.send(Ok(settled))),
            (reply, _) => reply.fail(Unavailable::Away("an answer of another kind".into())),
        }
    }

    /// Whether a message before this one, which must be kept first, was not kept.
    fn is_behind_a_failure(&self) -> bool {
        matches!(self, Reply::Accept(chain, _) if chain.is_broken())
    }

    fn fail(self, unavailable: Unavailable) {
        match self {
            Reply::Accept(chain, reply) => {
                // Those behind it may be in the next batch already.
                chain.break_off();
                drop(reply.send(Err(unavailable)))
            }
            Reply::Settle(reply) => drop(reply.send(Err(unavailable))),
        }
    }
}
