//! Connections for reading: at most so many, kept open between uses.
//!
//! sqlx's own pool pings a connection whenever it is taken and given back, and waits without a limit for the second ping: a server
//! that does not answer would take all of its places for good.

use super::connect::{self, Connector, Purpose};
use super::error::{has_none_left, is_connection_lost};
use super::sql::Sql;
use sqlx::Error;
use sqlx::postgres::{PgConnection, PgRow};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// How long a reader waits for a connection.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(5);
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

pub(in crate::store) struct Pool {
    connector: Connector,
    purpose: Purpose,
    permits: Semaphore,
    idle: Mutex<Vec<PgConnection>>,
}

impl Pool {
    pub fn new(connector: Connector, purpose: Purpose, connections: usize) -> Pool {
        Pool { connector, purpose, permits: Semaphore::new(connections), idle: Mutex::new(Vec::new()) }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<PgConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn all(&self, sql: &Sql) -> Result<Vec<PgRow>, Error> {
        self.page(sql, usize::MAX).await
    }

    /// The rows of a query that only reads, until they have `limit_bytes`, and the one after them. An idle connection may have been lost
    /// meanwhile: then a new one is used.
    pub async fn page(&self, sql: &Sql, limit_bytes: usize) -> Result<Vec<PgRow>, Error> {
        let permit = match timeout(ACQUIRE_LIMIT, self.permits.acquire()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(Error::PoolClosed),
            Err(_) => return Err(Error::PoolTimedOut),
        };
        let idle = self.idle().pop();
        if let Some(mut conn) = idle {
            match sql.page(&mut conn, limit_bytes).await {
                Err(error) if is_connection_lost(&error) => self.idle().clear(),
                result => {
                    self.idle().push(conn);
                    return result;
                }
            }
        }
        let mut conn = self.connect().await?;
        let result = sql.page(&mut conn, limit_bytes).await;
        if !result.as_ref().is_err_and(is_connection_lost) {
            self.idle().push(conn);
        }
        drop(permit);
        result
    }

    /// While the server has no connection left, another reader may give one back to it.
    async fn connect(&self) -> Result<PgConnection, Error> {
        let deadline = Instant::now() + ACQUIRE_LIMIT;
        loop {
            match self.connector.connect(self.purpose).await {
                Err(error) if has_none_left(&error) && Instant::now() < deadline => sleep(RETRY_INTERVAL).await,
                result => return result,
            }
        }
    }

    pub async fn optional(&self, sql: &Sql) -> Result<Option<PgRow>, Error> {
        Ok(self.all(sql).await?.into_iter().next())
    }

    pub async fn one(&self, sql: &Sql) -> Result<PgRow, Error> {
        self.optional(sql).await?.ok_or(Error::RowNotFound)
    }

    /// Later reads err.
    pub async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle());
        for conn in idle {
            connect::close(conn).await;
        }
    }
}
