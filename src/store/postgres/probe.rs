//! Checks an open store each second: the clock, the partitions, commits whose outcome is open, and, while there are no commits,
//! whether it can be written.

use super::core::Core;
use super::partitions;
use super::sql::Sql;
use super::time::{self, Comparison, DATABASE_TIME};
use crate::store::Unavailable;
use crate::store::clock_anchor;
use crate::store::health::{ProbeFailure, WATCH_INTERVAL};
use futures_util::FutureExt;
use sqlx::Row;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// What a row of the table `probe` and its entry in the index take.
const ROW_BYTES: i64 = 64;

/// Ends with the store.
pub(in crate::store) async fn watch(core: Weak<Core>) {
    let mut comparison = Comparison::default();
    let mut logged_wrong_clock = core.upgrade().is_some_and(|core| core.clock.jump().is_some());
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let Some(core) = core.upgrade() else { return };
        if core.closed.load(Ordering::Relaxed) {
            return;
        }
        clock_anchor::watch(&core.clock, &mut logged_wrong_clock);
        core.check_open_commits().await;
        if let Some(write) = core.health.due(None) {
            let result = match write {
                Some(bytes) => probe_writing(&core, bytes, &mut comparison).await,
                None => probe_reading(&core).await,
            };
            core.health.probed(result.map_err(ProbeFailure::Unavailable), write.is_some());
        }
        if core.health.state().is_ok()
            && let Err(error) = partitions::make_room(&core).await
        {
            tracing::warn!(%error, "no partition could be added; until then rows go to the partition of what is kept");
        }
    }
}

/// Keeps the connection of a writer, and with the first one the lock on the store. Ends with the store.
pub(in crate::store) async fn keep_attached(core: Weak<Core>, writer: usize) {
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let Some(core) = core.upgrade() else { return };
        if core.closed.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(mut session) = core.batches[writer].try_lock() {
            let kept = session.keep_connected().await;
            core.check_lock(&kept);
        }
    }
}

async fn probe_reading(core: &Core) -> Result<(), Unavailable> {
    let alive = core.readers.one(&Sql::new("SELECT 1")).await;
    alive.map(drop).map_err(|error| super::error::unavailable(&error))
}

/// Writes about so many bytes, which a standby refuses. What the table held before does not make room for them, so that a full disk
/// refuses them, too.
async fn probe_writing(core: &Arc<Core>, bytes: i64, comparison: &mut Comparison) -> Result<(), Unavailable> {
    let rows = bytes / ROW_BYTES;
    let write = format!(
        "INSERT INTO probe (k, written_us) SELECT k, $1 FROM generate_series(1, greatest($2, 1)) AS k \
         ON CONFLICT (k) DO UPDATE SET written_us = excluded.written_us RETURNING {DATABASE_TIME}"
    );
    let write = Sql::new(write).bind(core.clock.now_us()).bind(rows);
    let save = time::save(&core.clock);
    let asked_us = core.clock.now_us();
    let database_us = core.maintain(move |conn| {
        let (write, save) = (write.clone(), save.clone());
        async move {
            if rows > 1 {
                // A new file, while that of the old rows is still there.
                Sql::new("TRUNCATE probe").execute(conn).await?;
            }
            let database_us = write.all(conn).await?.first().map_or(Ok(0), |row| row.try_get(0))?;
            if let Some(save) = save {
                save.execute(conn).await?;
            }
            Ok(database_us)
        }
        .boxed()
    });
    comparison.check(database_us.await?, &(asked_us..=core.clock.now_us()));
    Ok(())
}
