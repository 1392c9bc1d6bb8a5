//! Checks an open store each second: the clock, the partitions, commits whose outcome is open, and, while there are no commits,
//! whether it can be written.

use super::core::Core;
use super::partitions;
use super::sql::Sql;
use super::time;
use crate::store::Unavailable;
use crate::store::clock_anchor;
use crate::store::health::{ProbeFailure, WATCH_INTERVAL};
use futures_util::FutureExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Ends with the store.
pub(in crate::store) async fn watch(core: Weak<Core>) {
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
            let result = probe(&core, write.is_some()).await.map_err(ProbeFailure::Unavailable);
            core.health.probed(result, write.is_some());
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

/// Asks the database for an answer, and for one that writes if `writes`: a server that has become a standby refuses it.
async fn probe(core: &Arc<Core>, writes: bool) -> Result<(), Unavailable> {
    if !writes {
        let alive = core.readers.one(&Sql::new("SELECT 1")).await;
        return alive.map(drop).map_err(|error| super::error::unavailable(&error));
    }
    let written = Sql::new(
        "INSERT INTO probe (k, written_us) VALUES (1, $1) ON CONFLICT (k) DO UPDATE SET written_us = excluded.written_us",
    );
    let written = written.bind(core.clock.now_us());
    let save = time::save(&core.clock);
    core.maintain(move |conn| {
        let (written, save) = (written.clone(), save.clone());
        async move {
            written.execute(conn).await?;
            match save {
                Some(save) => save.execute(conn).await.map(drop),
                None => Ok(()),
            }
        }
        .boxed()
    })
    .await
}
