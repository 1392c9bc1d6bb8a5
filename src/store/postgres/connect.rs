//! How connections to the database are opened, and the limits that the server keeps for them.

use crate::secret::SecretUrl;
use crate::store::OpenError;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Error, Executor, Row};
use std::str::FromStr;
use std::time::Duration;
use tokio::time::timeout;

/// For a connection, with TLS and authentication.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The server stops a statement of a transaction that writes, and a short read, after this time: longer than a pause of 20 s, which
/// a machine that moves may make.
const STATEMENT_LIMIT_MILLISECONDS: u64 = 30_000;
/// The server ends a transaction whose node has stopped in the middle: its locks would stop the others.
const IDLE_LIMIT_MILLISECONDS: u64 = 30_000;
/// Without an answer for so long, a connection counts as lost: the server ended the statement before, if it was there.
pub(in crate::store) const ANSWER_LIMIT: Duration = Duration::from_secs(40);
/// PostgreSQL 14.
const LEAST_VERSION: u32 = 140_000;

/// What reads follows keys from a source that was chosen, in their order; the planner, which may lack statistics, must not scan
/// instead.
const READ_ONLY: &str = "SET default_transaction_read_only = on; SET enable_seqscan = off; SET enable_hashjoin = off; \
                         SET enable_mergejoin = off; SET enable_bitmapscan = off;";

/// What a connection is for.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum Purpose {
    /// Transactions that write.
    Write,
    /// Short reads by key.
    Read,
    /// Lists, for at most so many milliseconds.
    Search(u64),
}

impl Purpose {
    /// Settings of the session, as one text with several statements. They are not sent as startup parameters, because PgBouncer
    /// refuses those.
    fn settings(self) -> String {
        let (name, limit, more) = match self {
            // Plans are made when the tables are almost empty, and reused while they grow: they must not scan a table. What a batch
            // reads and writes, it finds by key. Who waited for an advisory lock must see what was committed meanwhile, whatever the
            // database's default is.
            Purpose::Write => (
                "writer",
                STATEMENT_LIMIT_MILLISECONDS,
                "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off; \
                 SET enable_hashjoin = off; SET enable_mergejoin = off; \
                 SET default_transaction_isolation = 'read committed'; \
                 SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
            ),
            Purpose::Read => ("reader", STATEMENT_LIMIT_MILLISECONDS, READ_ONLY),
            Purpose::Search(limit) => ("search", limit, READ_ONLY),
        };
        format!(
            "SET application_name = 'emberpost {name}'; SET statement_timeout = {limit}; SET jit = off; \
             SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; \
             SET idle_in_transaction_session_timeout = {IDLE_LIMIT_MILLISECONDS}; {more}"
        )
    }
}

/// How to reach the database.
#[derive(Clone)]
pub(in crate::store) struct Connector {
    options: PgConnectOptions,
}

impl Connector {
    pub fn new(url: &SecretUrl) -> Result<Connector, OpenError> {
        let refused = |_| OpenError::Refused(format!("store.url is not a valid URL of PostgreSQL: {url}"));
        let options = PgConnectOptions::from_str(url.expose()).map_err(refused)?;
        Ok(Connector { options: options.disable_statement_logging() })
    }

    /// Opens a connection within 5 s.
    pub async fn connect(&self, purpose: Purpose) -> Result<PgConnection, Error> {
        let connect = async {
            let mut conn = self.options.connect().await?;
            conn.execute(AssertSqlSafe(purpose.settings())).await?;
            Ok(conn)
        };
        timeout(CONNECT_LIMIT, connect).await.unwrap_or_else(|_| Err(no_answer(CONNECT_LIMIT)))
    }
}

/// Waits for the database at most `ANSWER_LIMIT`. After an error of that kind the connection cannot be used any more.
pub(in crate::store) async fn within_limit<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(ANSWER_LIMIT, answer).await.unwrap_or_else(|_| Err(no_answer(ANSWER_LIMIT)))
}

fn no_answer(limit: Duration) -> Error {
    let text = format!("the database did not answer within {} s", limit.as_secs());
    Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
}

/// Refuses a server that is too old, and a database that cannot hold every text or loses commits.
pub(in crate::store) async fn check_server(conn: &mut PgConnection) -> Result<(), OpenError> {
    let refuse = |text: String| Err(OpenError::Refused(text));
    match conn.server_version_num() {
        Some(version) if version < LEAST_VERSION => {
            return refuse(format!(
                "the server is PostgreSQL {}; emberpost needs version 14 or newer",
                version / 10_000
            ));
        }
        _ => {}
    }
    let settings = "SELECT current_setting('server_encoding'), current_setting('fsync'), pg_is_in_recovery()";
    let row = conn.fetch_one(settings).await.and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
    let (encoding, fsync, is_standby): (String, String, bool) = row.map_err(cannot_open)?;
    if encoding != "UTF8" {
        return refuse(format!("the encoding of the database is {encoding}; create it with ENCODING 'UTF8'"));
    }
    if is_standby {
        return refuse("the server is a standby, which accepts no messages; name the primary in store.url".into());
    }
    if fsync == "off" {
        tracing::warn!("the database server runs with fsync = off: it may lose acknowledged messages in a power cut");
    }
    Ok(())
}

pub(in crate::store) fn cannot_open(error: Error) -> OpenError {
    OpenError::Database { path: "in PostgreSQL".into(), source: super::error::text(&error).into() }
}

/// Tells the server that nothing follows. A connection that is lost needs no good-bye.
pub(in crate::store) async fn close(conn: PgConnection) {
    const CLOSE_LIMIT: Duration = Duration::from_secs(1);
    let _ = timeout(CLOSE_LIMIT, conn.close()).await;
}
