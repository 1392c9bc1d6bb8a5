//! Counts the tries of redelivered AMQP messages. Each try is stored before it is made, so that one that ends the process counts.

use super::Postgres;
use super::sql::{Sql, Value};
use crate::store::Unavailable;
use crate::store::tries::{Redelivered, TRIES_LIMIT_ROWS, tries_kept_from_us};
use futures_util::FutureExt;
use sqlx::postgres::PgConnection;
use sqlx::{Error, Row};

impl Postgres {
    pub async fn record_try(&self, message: Redelivered, settled: Vec<Redelivered>) -> Result<u32, Unavailable> {
        let remove = remove(&settled);
        let insert = Sql::new(
            "INSERT INTO redelivery AS r (queue, digest, tries, tried_us) VALUES ($1, $2, 1, $3) \
             ON CONFLICT (queue, digest) DO UPDATE SET tries = r.tries + 1, tried_us = excluded.tried_us RETURNING tries",
        );
        let insert = insert.bind(&*message.queue).bind(message.digest.to_vec()).bind(self.core.clock.now_us());
        let recorded = self.core.command(move |conn| {
            let (remove, insert) = (remove.clone(), insert.clone());
            async move {
                remove.execute(conn).await?;
                let tries: i32 = insert.one(conn).await?.try_get(0)?;
                limit_rows(conn).await?;
                Ok(tries.unsigned_abs())
            }
            .boxed()
        });
        recorded.await
    }

    pub async fn take_back_try(&self, message: Redelivered) -> Result<(), Unavailable> {
        let update = Sql::new("UPDATE redelivery SET tries = greatest(tries - 1, 0) WHERE queue = $1 AND digest = $2");
        let update = update.bind(&*message.queue).bind(message.digest.to_vec());
        self.core.command(move |conn| update.clone().changes(conn).boxed()).await.map(drop)
    }

    pub async fn forget_tries(&self, settled: Vec<Redelivered>) -> Result<(), Unavailable> {
        let remove = remove(&settled);
        self.core.command(move |conn| remove.clone().changes(conn).boxed()).await.map(drop)
    }
}

fn remove(settled: &[Redelivered]) -> Sql {
    let queues: Vec<String> = settled.iter().map(|message| message.queue.to_string()).collect();
    let digests: Vec<Vec<u8>> = settled.iter().map(|message| message.digest.to_vec()).collect();
    let delete = "DELETE FROM redelivery AS r USING unnest($1::text[], $2::bytea[]) AS s (queue, digest) \
                  WHERE r.queue = s.queue AND r.digest = s.digest";
    Sql::new(delete).bind(queues).bind(Value::ManyBytes(digests))
}

/// If there are more records, the oldest are deleted.
async fn limit_rows(conn: &mut PgConnection) -> Result<(), Error> {
    let count: i64 = Sql::new("SELECT count(*) FROM redelivery").one(conn).await?.try_get(0)?;
    if count > TRIES_LIMIT_ROWS {
        let delete = "DELETE FROM redelivery WHERE (queue, digest) IN \
                      (SELECT queue, digest FROM redelivery ORDER BY tried_us LIMIT $1)";
        Sql::new(delete).bind(count - TRIES_LIMIT_ROWS).execute(conn).await?;
    }
    Ok(())
}

/// Deletes records without a recent try.
pub(in crate::store) async fn sweep(conn: &mut PgConnection, now_us: i64) -> Result<(), Error> {
    let delete = Sql::new("DELETE FROM redelivery WHERE tried_us < $1").bind(tries_kept_from_us(now_us));
    delete.execute(conn).await.map(drop)
}
