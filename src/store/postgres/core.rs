//! What the handles of a store and its writer share: connections, keys of participants, counters.

use super::connect::{Connector, Purpose, cannot_open};
use super::error::unavailable;
use super::lock;
use super::pool::Pool;
use super::session::{Done, Mark, Session, Work};
use super::sql::Sql;
use crate::clock::Clock;
use crate::nodes::NodeKey;
use crate::store::context::Context;
use crate::store::health::Health;
use crate::store::participants::Participants;
use crate::store::retention::RetentionCursors;
use crate::store::view::SEARCH_MILLISECONDS;
use crate::store::{OpenError, StoreSettings, Unavailable};
use futures_util::future::BoxFuture;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Error, Row};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Connections for short reads by key.
const READERS: usize = 8;
/// Searches that run at the same time; further ones wait.
const SEARCHERS: usize = 2;

/// How long a start waits for the end of the last run.
const ATTACH_LIMIT: Duration = Duration::from_secs(3);
const ATTACH_INTERVAL: Duration = Duration::from_millis(50);

/// Slots of `participant_count`: one for each connection that writes. Those of writers follow.
pub(in crate::store) const COMMAND_SLOT: i64 = 0;
pub(in crate::store) const UPKEEP_SLOT: i64 = 1;

pub(in crate::store) fn slot_of_writer(writer: usize) -> i64 {
    i64::try_from(writer).unwrap_or(i64::MAX).saturating_add(2)
}

pub(in crate::store) struct Core {
    pub settings: StoreSettings,
    pub clock: Clock,
    /// Commit batches; one for each writer.
    pub batches: Vec<Mutex<Session>>,
    /// Operators' commands, and what else is written now and then.
    commands: Mutex<Session>,
    /// Retention and probes: a long step delays no command.
    pub upkeep: Mutex<Session>,
    pub readers: Pool,
    /// For lists, which may read many rows.
    pub searchers: Pool,
    pub search_milliseconds: u64,
    pub health: Health,
    pub participants: Participants,
    /// This start of the router, and the nodes that run: only this one.
    pub node: NodeKey,
    pub live_nodes: Arc<BTreeSet<NodeKey>>,
    /// Transactions since the start, and the accepts and settlements that they committed.
    pub commits: AtomicU64,
    pub operations: AtomicU64,
    pub sweep: std::sync::Mutex<RetentionCursors>,
    pub closed: AtomicBool,
}

/// Work whose transaction is recognized by its number alone.
struct Command<F>(F);

impl<T, F> Work for Command<F>
where
    T: Send,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Error>> + Sync,
{
    type Output = T;

    async fn run(&self, conn: &mut PgConnection) -> Result<Done<T>, Error> {
        let transaction_id = Sql::new("SELECT pg_current_xact_id()::text").one(conn).await?.try_get(0)?;
        let output = (self.0)(conn).await?;
        Ok(Done { output, mark: Mark { transaction_id, message: None } })
    }
}

impl Core {
    pub fn new(
        settings: StoreSettings,
        clock: Clock,
        connector: &Connector,
        (participants, node): (Participants, NodeKey),
        writers: usize,
    ) -> Core {
        let session = || Mutex::new(Session::new(connector.clone()));
        let first = Mutex::new(Session::with_lock(connector.clone()));
        let batches = std::iter::once(first).chain(std::iter::repeat_with(session)).take(writers).collect();
        Core {
            settings,
            clock,
            batches,
            commands: session(),
            upkeep: session(),
            readers: Pool::new(connector.clone(), Purpose::Read, READERS),
            searchers: Pool::new(connector.clone(), Purpose::Search(SEARCH_MILLISECONDS), SEARCHERS),
            search_milliseconds: SEARCH_MILLISECONDS,
            health: Health::default(),
            participants,
            node,
            live_nodes: Arc::new(BTreeSet::from([node])),
            commits: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            sweep: std::sync::Mutex::new(RetentionCursors::default()),
            closed: AtomicBool::new(false),
        }
    }

    /// What a decision must know of this moment.
    pub fn context(&self) -> Context {
        let context = Context::new(self.participants.keys(), &self.clock, self.settings.identities_days);
        Context { node: Some(self.node), live_nodes: self.live_nodes.clone(), ..context }
    }

    /// Gives keys to those participants that are new. Commits at once, so that no key is lost with another transaction.
    pub async fn add_participants<'n>(
        self: &Arc<Self>,
        ids: impl IntoIterator<Item = &'n str>,
    ) -> Result<(), Unavailable> {
        let new = self.participants.unknown(ids);
        if new.is_empty() {
            return Ok(());
        }
        let rows = self.command(move |conn| {
            let insert = Sql::new(
                "INSERT INTO participant (id) SELECT unnest($1::text[]) ON CONFLICT (id) DO UPDATE SET id = excluded.id \
                 RETURNING id, k",
            );
            let insert = insert.bind(new.clone());
            Box::pin(async move { insert.all(conn).await?.iter().map(participant).collect::<Result<Vec<_>, _>>() })
        });
        self.participants.add(rows.await?);
        Ok(())
    }

    pub async fn read_participants(conn: &mut PgConnection) -> Result<Participants, Error> {
        let rows = Sql::new("SELECT id, k FROM participant").all(conn).await?;
        Ok(Participants::new(rows.iter().map(participant).collect::<Result<Vec<_>, _>>()?))
    }

    /// Runs one transaction, in a task of its own: it completes even if the caller is dropped. `work` may run again.
    pub async fn command<T, F>(self: &Arc<Self>, work: F) -> Result<T, Unavailable>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Error>> + Send + Sync + 'static,
    {
        self.transact(|core| &core.commands, work).await
    }

    /// As `command`, for the upkeep of the store.
    pub async fn maintain<T, F>(self: &Arc<Self>, work: F) -> Result<T, Unavailable>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Error>> + Send + Sync + 'static,
    {
        self.transact(|core| &core.upkeep, work).await
    }

    async fn transact<T, F>(self: &Arc<Self>, session: fn(&Core) -> &Mutex<Session>, work: F) -> Result<T, Unavailable>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Error>> + Send + Sync + 'static,
    {
        let core = self.clone();
        let task = tokio::spawn(async move {
            let mut session = session(&core).lock().await;
            if core.closed.load(Ordering::Relaxed) {
                return Err(Error::PoolClosed);
            }
            session.transact(&Command(work)).await
        });
        match task.await {
            Ok(done) => done.map_err(|error| unavailable(&error)),
            Err(error) => Err(Unavailable::Away(error.to_string())),
        }
    }

    /// Checks the outcomes of commits that could not be found out in time. If one has committed after all, memory lacks what it
    /// stored: the process must end, and the next start reads it.
    pub async fn check_open_commits(&self) {
        for session in self.sessions() {
            let Ok(mut session) = session.try_lock() else { continue };
            if session.has_committed_after_all().await {
                let text = "a commit whose callers got an error was completed after all, and memory does not know what it stored";
                tracing::error!("{text}; the process must start again");
                self.health.lose(text.into());
            }
        }
    }

    fn sessions(&self) -> impl Iterator<Item = &Mutex<Session>> {
        self.batches.iter().chain([&self.commands, &self.upkeep])
    }

    /// Closes the connection of a writer.
    pub async fn detach(&self, writer: usize) {
        self.batches[writer].lock().await.close().await;
    }

    /// Opens the connection of a writer; that of the first one has the lock on the store. Refuses to start beside a router that keeps the lock.
    pub async fn attach(&self, writer: usize) -> Result<(), OpenError> {
        let begun = Instant::now();
        let mut session = self.batches[writer].lock().await;
        loop {
            match session.keep_connected().await {
                Ok(()) => return Ok(()),
                Err(error) if !lock::is_taken(&error) => return Err(cannot_open(error)),
                Err(_) if begun.elapsed() < ATTACH_LIMIT => tokio::time::sleep(ATTACH_INTERVAL).await,
                Err(_) => {
                    let text = "is in use by another emberpost; several on one database are not built yet";
                    return Err(OpenError::Refused(format!("the store {} {text}", self.settings.url)));
                }
            }
        }
    }

    /// The store is lost if another router has taken its lock: both would deliver.
    pub fn check_lock<T>(&self, result: &Result<T, Error>) {
        if result.as_ref().is_err_and(lock::is_taken) {
            let text = "another router has taken the lock of the store";
            tracing::error!("{text}; nothing more is accepted");
            self.health.lose(text.into());
        }
    }

    pub async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.readers.close().await;
        self.searchers.close().await;
        for session in self.sessions() {
            session.lock().await.close().await;
        }
    }
}

fn participant(row: &PgRow) -> Result<(Arc<str>, i64), Error> {
    Ok((Arc::from(row.try_get::<&str, _>(0)?), row.try_get(1)?))
}
