//! Store maintenance: retention, in small steps that do not delay accepts, and a check of due times at the start.

use crate::clock::Clock;
use crate::config::Retention;
use crate::delivery::longest_pause;
use crate::routing::Participant;
use crate::store::{RetentionDays, Store, Unavailable};
use std::sync::Arc;
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

/// One step; whether another one should follow at once.
async fn sweep(store: &Store, clock: &Clock, retention: &Retention) -> bool {
    let now_us = clock.now_us();
    let days = RetentionDays {
        bodies: retention.bodies_days,
        dead_letters: retention.dead_letters_days,
        traces: retention.traces_days,
        identities: retention.identities_days,
    };
    match store.sweep(now_us, days, SWEEP_STEP_ROWS).await {
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

/// Shortens waits that are longer than the participant's longest retry pause: they were set while the clock was ahead.
pub(super) async fn limit_waits(store: &Store, participants: &[Arc<Participant>]) -> Result<(), Unavailable> {
    let pause_us = |participant: &Participant| {
        let pause = longest_pause(&participant.retry_schedule_seconds);
        i64::try_from(pause.as_micros()).unwrap_or(i64::MAX)
    };
    let pauses_us = participants.iter().map(|participant| (participant.id.to_string(), pause_us(participant)));
    let changed = store.limit_waits(pauses_us.collect()).await?;
    if changed > 0 {
        tracing::warn!(
            deliveries = changed,
            "deliveries waited longer than retry_schedule_seconds allows; their waits were shortened"
        );
    }
    Ok(())
}
