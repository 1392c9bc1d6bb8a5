//! Counts the tries of redelivered AMQP messages. Each try is stored before it is made, so that one that ends the process counts.

use super::Sqlite;
use crate::store::Unavailable;
use crate::store::tries::{Redelivered, TRIES_LIMIT_ROWS, tries_kept_from_us};
use futures_util::FutureExt;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Error, Row};

impl Sqlite {
    pub async fn record_try(&self, message: Redelivered, settled: Vec<Redelivered>) -> Result<u32, Unavailable> {
        let now_us = self.core.clock.now_us();
        let recorded = self.core.write(move |_, writer| {
            async move {
                remove(&mut writer.conn, &settled).await?;
                let insert = "INSERT INTO redelivery (queue, digest, tries, tried_us) VALUES (?, ?, 1, ?) \
                              ON CONFLICT (queue, digest) DO UPDATE SET tries = tries + 1, tried_us = excluded.tried_us \
                              RETURNING tries";
                let query = sqlx::query(insert).bind(message.queue.to_string()).bind(message.digest.to_vec());
                let tries = query.bind(now_us).fetch_one(&mut writer.conn).await?.try_get(0)?;
                limit_rows(&mut writer.conn).await?;
                Ok(tries)
            }
            .boxed()
        });
        recorded.await
    }

    pub async fn take_back_try(&self, message: Redelivered) -> Result<(), Unavailable> {
        let done = self.core.write(move |_, writer| {
            async move {
                let update = "UPDATE redelivery SET tries = max(tries - 1, 0) WHERE queue = ? AND digest = ?";
                let query = sqlx::query(update).bind(message.queue.to_string()).bind(message.digest.to_vec());
                query.execute(&mut writer.conn).await.map(drop)
            }
            .boxed()
        });
        done.await
    }

    pub async fn forget_tries(&self, settled: Vec<Redelivered>) -> Result<(), Unavailable> {
        self.core.write(move |_, writer| async move { remove(&mut writer.conn, &settled).await }.boxed()).await
    }
}

async fn remove(conn: &mut SqliteConnection, settled: &[Redelivered]) -> Result<(), Error> {
    for message in settled {
        let query = sqlx::query("DELETE FROM redelivery WHERE queue = ? AND digest = ?");
        query.bind(message.queue.to_string()).bind(message.digest.to_vec()).execute(&mut *conn).await?;
    }
    Ok(())
}

async fn limit_rows(conn: &mut SqliteConnection) -> Result<(), Error> {
    let delete_oldest = "DELETE FROM redelivery WHERE (queue, digest) IN (SELECT queue, digest FROM redelivery \
                       ORDER BY tried_us LIMIT max((SELECT count(*) FROM redelivery) - ?, 0))";
    let count: i64 = sqlx::query("SELECT count(*) FROM redelivery").fetch_one(&mut *conn).await?.try_get(0)?;
    if count > TRIES_LIMIT_ROWS {
        sqlx::query(delete_oldest).bind(TRIES_LIMIT_ROWS).execute(conn).await?;
    }
    Ok(())
}

/// Deletes records without a recent try.
pub(in crate::store) async fn sweep(conn: &mut SqliteConnection, now_us: i64) -> Result<(), Error> {
    let before_us = tries_kept_from_us(now_us);
    sqlx::query("DELETE FROM redelivery WHERE tried_us < ?").bind(before_us).execute(conn).await.map(drop)
}
