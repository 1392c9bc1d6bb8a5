//! The starts of routers on this store: each gets a key, by which the senders that wait on it are stored.

use super::sql::Sql;
use crate::nodes::NodeKey;
use sqlx::postgres::PgConnection;
use sqlx::{Error, Row};

/// Older rows are deleted: nobody waits on them any more.
const KEPT_STARTS: i64 = 1_000;

/// Stores a start, and returns its key.
pub(in crate::store) async fn register(conn: &mut PgConnection, now_us: i64) -> Result<NodeKey, Error> {
    let insert = Sql::new("INSERT INTO node (started_us) VALUES ($1) RETURNING k").bind(now_us);
    let node: NodeKey = insert.one(conn).await?.try_get(0)?;
    Sql::new("DELETE FROM node WHERE k <= $1").bind(node - KEPT_STARTS).execute(conn).await?;
    Ok(node)
}
