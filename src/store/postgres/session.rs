//! A connection that writes, one transaction after the other.
//!
//! A transaction that met another one (40001, 40P01), or whose connection was lost before its COMMIT, has changed nothing: it is
//! repeated. A connection that is lost between the COMMIT and its reply leaves the outcome open; the server knows it by the
//! transaction's number, so that nothing is doubled or lost.

use super::connect::{self, Connector, Purpose, within_limit};
use super::error::{is_conflict, is_connection_lost, text};
use super::lock;
use super::sql::Sql;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Error, Executor, Row};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use uuid::Uuid;

/// How often a transaction that met another one is repeated.
const CONFLICTS_LIMIT: u32 = 10;
/// How long a transaction tries to reach the database: a server starts again in less.
const RECONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long the outcome of a COMMIT is looked for before its callers get an error.
const RESOLVE_LIMIT: Duration = Duration::from_secs(10);
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// A COMMIT that the server has received ends within this time; otherwise it waits for a client that is gone.
const ORPHAN_LIMIT: Duration = Duration::from_secs(1);

/// What a transaction does between BEGIN and COMMIT. May be called again.
pub(in crate::store) trait Work {
    type Output: Send;

    fn run(&self, conn: &mut PgConnection) -> impl Future<Output = Result<Done<Self::Output>, Error>> + Send;
}

/// The result of a transaction, if it commits, and how to find out whether it did.
pub(in crate::store) struct Done<T> {
    pub output: T,
    pub mark: Mark,
}

/// How a transaction is recognized.
#[derive(Clone, Debug)]
pub(in crate::store) struct Mark {
    /// Its number: an `xid8` as text.
    pub transaction_id: String,
    /// A message that it stores. A server that took over from a lost one may have given the number to another transaction.
    pub message: Option<(i64, Uuid)>,
}

pub(in crate::store) struct Session {
    connector: Connector,
    conn: Option<PgConnection>,
    /// The server's process of the last connection that had the lock. None in a session without the lock.
    process: Option<Option<i32>>,
    /// Transactions whose outcome is not known and whose callers got an error.
    open: Vec<Mark>,
}

enum Failed<T> {
    BeforeCommit(Error),
    DuringCommit(Done<T>, Error),
}

impl Session {
    pub fn new(connector: Connector) -> Session {
        Session { connector, conn: None, process: None, open: Vec::new() }
    }

    /// A session whose connections have the lock on the store.
    pub fn with_lock(connector: Connector) -> Session {
        Session { process: Some(None), ..Session::new(connector) }
    }

    async fn connect(&mut self) -> Result<PgConnection, Error> {
        let mut conn = self.connector.connect(Purpose::Write).await?;
        if let Some(last) = self.process {
            self.process = Some(Some(lock::take(&mut conn, last).await?));
        }
        Ok(conn)
    }

    /// Opens a connection if there is none, and checks one that is idle.
    pub async fn keep_connected(&mut self) -> Result<(), Error> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.connect().await?,
        };
        within_limit(conn.ping()).await?;
        self.conn = Some(conn);
        Ok(())
    }

    /// Runs `work` in a transaction and commits it.
    pub async fn transact<W: Work>(&mut self, work: &W) -> Result<W::Output, Error> {
        let deadline = Instant::now() + RECONNECT_LIMIT;
        let mut conflicts = 0;
        loop {
            let error = match self.attempt(work).await {
                Ok(output) => return Ok(output),
                Err(Failed::BeforeCommit(error)) => error,
                Err(Failed::DuringCommit(done, error)) => match self.resolve(&done.mark).await {
                    Some(true) => return Ok(done.output),
                    Some(false) => error,
                    None => {
                        self.open.push(done.mark);
                        return Err(error);
                    }
                },
            };
            if is_conflict(&error) && conflicts < CONFLICTS_LIMIT {
                conflicts += 1;
                tracing::debug!(error = text(&error), "a transaction met another one and is repeated");
            } else if is_connection_lost(&error) && Instant::now() < deadline {
                sleep(RETRY_INTERVAL).await;
            } else {
                return Err(error);
            }
        }
    }

    /// One transaction. The connection is put back only when it is known to be in order, also if the caller stops waiting.
    async fn attempt<W: Work>(&mut self, work: &W) -> Result<W::Output, Failed<W::Output>> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.connect().await.map_err(Failed::BeforeCommit)?,
        };
        let begun = within_limit(conn.execute("BEGIN")).await;
        let done = match begun {
            Ok(_) => work.run(&mut conn).await,
            Err(error) => Err(error),
        };
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                if !is_connection_lost(&error) && within_limit(conn.execute("ROLLBACK")).await.is_ok() {
                    self.conn = Some(conn);
                }
                return Err(Failed::BeforeCommit(error));
            }
        };
        match within_limit(conn.execute("COMMIT")).await {
            Ok(_) => {
                self.conn = Some(conn);
                Ok(done.output)
            }
            Err(error) if is_connection_lost(&error) => Err(Failed::DuringCommit(done, error)),
            // The server refused: it has rolled back.
            Err(error) => {
                self.conn = Some(conn);
                Err(Failed::BeforeCommit(error))
            }
        }
    }

    /// Whether the transaction has committed. None if that cannot be found out in time.
    async fn resolve(&mut self, mark: &Mark) -> Option<bool> {
        tracing::warn!("the connection to the database was lost during a commit; its outcome is looked up");
        let begun = Instant::now();
        while begun.elapsed() < RESOLVE_LIMIT {
            if let Ok(mut conn) = self.connect().await {
                match outcome(&mut conn, mark).await {
                    Ok(Some(committed)) => {
                        self.conn = Some(conn);
                        return Some(committed);
                    }
                    Ok(None) if begun.elapsed() > ORPHAN_LIMIT => end_orphan(&mut conn, mark).await,
                    Ok(None) | Err(_) => {}
                }
            }
            sleep(RETRY_INTERVAL).await;
        }
        None
    }

    /// Looks for the outcome of transactions whose callers got an error. True if one of them has committed.
    pub async fn has_committed_after_all(&mut self) -> bool {
        let mut committed = false;
        while let Some(mark) = self.open.last().cloned() {
            let Ok(mut conn) = self.connector.connect(Purpose::Write).await else { break };
            match outcome(&mut conn, &mark).await {
                Ok(Some(found)) => committed |= found,
                Ok(None) | Err(_) => break,
            }
            self.open.pop();
        }
        committed
    }

    pub async fn close(&mut self) {
        if let Some(conn) = self.conn.take() {
            connect::close(conn).await;
        }
    }
}

/// Whether a transaction has committed; None while it runs.
async fn outcome(conn: &mut PgConnection, mark: &Mark) -> Result<Option<bool>, Error> {
    let status = Sql::new("SELECT pg_xact_status($1::xid8)").bind(&*mark.transaction_id);
    let status: Option<String> = match status.optional(conn).await {
        Ok(row) => row.map_or(Ok(None), |row| row.try_get(0))?,
        Err(error) if is_connection_lost(&error) => return Err(error),
        // A server that took over from a lost one has not given out this number yet.
        Err(_) => return Ok(Some(false)),
    };
    match (status.as_deref(), mark.message) {
        (Some("in progress"), _) => Ok(None),
        (Some("aborted"), _) => Ok(Some(false)),
        (_, Some((key, id))) => {
            let stored = Sql::new("SELECT 1 FROM message WHERE k = $1 AND id = $2").bind(key).bind(id);
            Ok(Some(stored.optional(conn).await?.is_some()))
        }
        (status, None) => Ok(Some(status == Some("committed"))),
    }
}

/// Ends the server's process of a transaction whose client is gone, so that it ends the transaction. An error shows in the next
/// look at its outcome.
async fn end_orphan(conn: &mut PgConnection, mark: &Mark) {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xid = $1::xid8::xid";
    let _ = Sql::new(end).bind(&*mark.transaction_id).optional(conn).await;
}
