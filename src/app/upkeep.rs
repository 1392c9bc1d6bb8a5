//! Retention, in small steps that never hold up accepts.

use crate::clock::Clock;
use crate::config::Retention;
use crate::store::Store;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const SWEEP_INTERVAL_SECONDS: u64 = 60;
/// Rows per step.
const SWEEP_STEP_ROWS: u32 = 500;
/// Between two steps of one sweep.
const SWEEP_PAUSE_MILLISECONDS: u64 = 50;

pub(super) async fn run(store: Store, clock: Clock, retention: Retention, stop: CancellationToken) {
    loop {
        let wait = match sweep(&store, &clock, &retention).await {
            true => Duration::from_millis(SWEEP_PAUSE_MILLISECONDS),
            false => Duration::from_secs(SWEEP_INTERVAL_SECONDS),
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// One step; whether there may be more to do at once.
async fn sweep(store: &Store, clock: &Clock, retention: &Retention) -> bool {
    let now_us = clock.now_us();
    let days = (retention.bodies_days, retention.traces_days, retention.identities_days);
    match store.sweep(now_us, days.0, days.1, days.2, SWEEP_STEP_ROWS).await {
        Ok(swept) => {
            let rows = swept.bodies + swept.traces + swept.identities;
            if rows > 0 {
                tracing::info!(
                    bodies = swept.bodies,
                    traces = swept.traces,
                    identities = swept.identities,
                    "retention"
                );
            }
            rows > 0 || swept.more
        }
        Err(reason) => {
            tracing::warn!(%reason, "retention did not run");
            false
        }
    }
}
