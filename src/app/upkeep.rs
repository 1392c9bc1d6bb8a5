//! Store maintenance: retention, in small steps that do not delay accepts, and a check of due times at the start.

use crate::clock::Clock;
use crate::config::Retention;
use crate::delivery::longest_pause;
use crate::routing::Participant;
use crate::store::view::RetentionStep;
use crate::store::{RetentionDays, Store, Unavailable};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

pub(super) async fn run(store: Store, clock: Clock, retention: Retention, stop: CancellationToken) {
    let mut pace = Pace::default();
    let mut deleted = Deleted::default();
    loop {
        let step = sweep(&store, &clock, &retention, pace.rows).await;
        deleted.add(step);
        let wait = if step.is_done() { SWEEP_INTERVAL } else { pace.after_step(step.busy_us) };
        deleted.log(step.is_done());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return deleted.log(true),
        }
    }
}

/// What many small steps deleted since the last line in the log.
struct Deleted {
    sum: RetentionStep,
    since: Instant,
}

impl Default for Deleted {
    fn default() -> Deleted {
        Deleted { sum: RetentionStep::default(), since: Instant::now() }
    }
}

impl Deleted {
    fn add(&mut self, step: RetentionStep) {
        self.sum.bodies += step.bodies;
        self.sum.traces += step.traces;
        self.sum.identities += step.identities;
    }

    /// One line at the end of a sweep, and each minute of a long one.
    fn log(&mut self, at_end: bool) {
        let RetentionStep { bodies, traces, identities, .. } = self.sum;
        if bodies + traces + identities > 0 && (at_end || self.since.elapsed() >= SWEEP_INTERVAL) {
            tracing::info!(bodies, traces, identities, "retention");
            *self = Deleted::default();
        }
    }
}

/// How much a step of retention deletes, and the pause after it. Accepts wait while a step runs, and what a message costs to
/// delete depends on the size of the store and on the disk: 500 messages took 0.2 s of a store of a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    /// Messages per step.
    rows: u32,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { rows: Pace::LEAST_ROWS }
    }
}

impl Pace {
    const LEAST_ROWS: u32 = 8;
    const MOST_ROWS: u32 = 500;
    /// A step shall take this long.
    const STEP_US: u64 = 8_000;
    /// The pause is this many times as long as the step.
    const PAUSE_FACTOR: u64 = 4;
    const LONGEST_PAUSE_US: u64 = 1_000_000;

    /// The pause after a step that took so long; the next step is larger or smaller, by half at most.
    fn after_step(&mut self, busy_us: u64) -> Duration {
        let wanted = u64::from(self.rows).saturating_mul(Pace::STEP_US) / busy_us.max(1);
        let rows = u32::try_from(wanted).unwrap_or(u32::MAX).clamp(self.rows / 2, self.rows.saturating_mul(2));
        self.rows = rows.clamp(Pace::LEAST_ROWS, Pace::MOST_ROWS);
        Duration::from_micros(busy_us.saturating_mul(Pace::PAUSE_FACTOR).min(Pace::LONGEST_PAUSE_US))
    }
}

/// One step; nothing if the store is not available.
async fn sweep(store: &Store, clock: &Clock, retention: &Retention, rows: u32) -> RetentionStep {
    let days = RetentionDays {
        bodies: retention.bodies_days,
        dead_letters: retention.dead_letters_days,
        traces: retention.traces_days,
        identities: retention.identities_days,
    };
    store.sweep(clock.now_us(), days, rows).await.unwrap_or_else(|reason| {
        tracing::warn!(%reason, "retention did not run");
        RetentionStep::default()
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The busy times of steps while a message takes `us_per_row` to delete.
    fn busy_us(us_per_row: u64, steps: usize) -> Vec<u64> {
        let mut pace = Pace::default();
        let step = |_| {
            let busy_us = u64::from(pace.rows) * us_per_row;
            pace.after_step(busy_us);
            busy_us
        };
        (0..steps).map(step).collect()
    }

    #[test]
    fn steps_come_to_take_the_wanted_time_whatever_a_message_costs() {
        for us_per_row in [16, 100, 400, 1_000] {
            let last = *busy_us(us_per_row, 20).last().unwrap();
            assert!((Pace::STEP_US / 2..=Pace::STEP_US).contains(&last), "{us_per_row} us a message: {last} us a step");
        }
    }

    #[test]
    fn no_step_takes_more_than_the_wanted_time_on_the_way_there() {
        assert!(busy_us(400, 20).into_iter().all(|busy_us| busy_us <= Pace::STEP_US));
    }

    #[test]
    fn a_slow_disk_makes_steps_small_and_pauses_long_but_bounded() {
        let mut pace = Pace { rows: Pace::MOST_ROWS };
        for _ in 0..20 {
            assert!(pace.after_step(3_000_000) <= Duration::from_secs(1));
        }
        assert_eq!(pace.rows, Pace::LEAST_ROWS);
        assert_eq!(pace.after_step(1_000), Duration::from_millis(4));
    }
}
