//! Store maintenance: retention, in small steps that do not delay accepts, and a check of due times at the start.

use super::archive::Archiver;
use crate::clock::Clock;
use crate::config::Retention;
use crate::delivery::longest_pause;
use crate::metrics::Metrics;
use crate::routing::Participant;
use crate::store::view::RetentionStep;
use crate::store::{RetentionDays, RetentionRules, Store, Unavailable};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

pub(super) async fn run(
    store: Store,
    clock: Clock,
    retention: Retention,
    metrics: Metrics,
    mut archiver: Archiver,
    stop: CancellationToken,
) {
    let rules = rules(&retention);
    let mut size = SizeLimit { metrics, is_logged: false };
    let mut pace = Pace::default();
    let mut deleted = Deleted::default();
    loop {
        let step = sweep(&store, &clock, rules, &archiver, pace.rows).await;
        deleted.add(step);
        archiver.deleted(step);
        let wait = if step.is_done() {
            // A file of the archive that is not finished is removed.
            tokio::select! {
                has_more = archiver.fill(&store, &clock, rules) => {
                    size.report(step, !has_more);
                    if has_more { Pace::SEARCH_PAUSE } else { SWEEP_INTERVAL }
                }
                () = stop.cancelled() => Duration::ZERO,
            }
        } else {
            size.report(step, false);
            pace.after_step(step)
        };
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
        if self.sum.has_deleted() && (at_end || self.since.elapsed() >= SWEEP_INTERVAL) {
            tracing::info!(bodies, traces, identities, "retention");
            *self = Deleted::default();
        }
    }
}

/// How much a step of retention deletes, and the pause after it. Accepts wait while a step runs, and what a message costs to
/// delete depends on the size of the store and on the disk: in a store of a million it took 25 us while the disk was idle.
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
    /// The work of a step shall take this long. Its commit is not counted: it waits for the disk as long for few messages as for
    /// many.
    const STEP_US: u64 = 8_000;
    /// The pause is this many times as long as the step with its commit, and as long as it if nothing else was written.
    const PAUSE_FACTOR: u64 = 4;
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);
    /// The least pause after a step that found only protected messages, which are many and looked at again in each sweep.
    const SEARCH_PAUSE: Duration = Duration::from_millis(50);

    /// The pause after this step; the next one is larger or smaller, by half at most.
    fn after_step(&mut self, step: RetentionStep) -> Duration {
        let wanted = u64::from(self.rows).saturating_mul(Pace::STEP_US) / step.work_us.max(1);
        let rows = u32::try_from(wanted).unwrap_or(u32::MAX).clamp(self.rows / 2, self.rows.saturating_mul(2));
        self.rows = rows.clamp(Pace::LEAST_ROWS, Pace::MOST_ROWS);
        let factor = if step.is_alone { 1 } else { Pace::PAUSE_FACTOR };
        let pause = Duration::from_micros(step.busy_us.saturating_mul(factor));
        let least = if step.has_deleted() { Duration::ZERO } else { Pace::SEARCH_PAUSE };
        pause.clamp(least, Pace::LONGEST_PAUSE)
    }
}

fn rules(retention: &Retention) -> RetentionRules {
    let days = RetentionDays {
        bodies: retention.bodies_days,
        dead_letters: retention.dead_letters_days,
        traces: retention.traces_days,
        identities: retention.identities_days,
    };
    RetentionRules { days, store_limit_bytes: retention.store_limit_bytes }
}

/// What is shown of a store that is larger than its limit.
struct SizeLimit {
    metrics: Metrics,
    is_logged: bool,
}

impl SizeLimit {
    /// `is_over`: nothing more can be deleted. Logged once, until the store is below its limit again.
    fn report(&mut self, step: RetentionStep, is_over: bool) {
        self.metrics.store_excess(step.excess_bytes);
        if step.excess_bytes == 0 {
            self.is_logged = false;
        } else if is_over && !std::mem::replace(&mut self.is_logged, true) {
            tracing::warn!(
                excess_bytes = step.excess_bytes,
                "the store is larger than retention.store_limit_bytes, and nothing more may be deleted: what is left waits for its \
                 delivery, is a young dead letter, identifies duplicates, or shares a partition with young messages"
            );
        }
    }
}

/// One step; nothing if the store is not available.
async fn sweep(store: &Store, clock: &Clock, rules: RetentionRules, archiver: &Archiver, rows: u32) -> RetentionStep {
    store.sweep_archived(clock.now_us(), rules, rows, archiver.archived()).await.unwrap_or_else(|reason| {
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

    /// A step that deleted something, with a commit that takes `commit_us`.
    fn step(work_us: u64, commit_us: u64) -> RetentionStep {
        RetentionStep { traces: 1, work_us, busy_us: work_us + commit_us, ..RetentionStep::default() }
    }

    /// The work of steps while a message takes `us_per_row` to delete.
    fn work_us(us_per_row: u64, commit_us: u64, steps: usize) -> Vec<u64> {
        let mut pace = Pace::default();
        let one = |_| {
            let work_us = u64::from(pace.rows) * us_per_row;
            pace.after_step(step(work_us, commit_us));
            work_us
        };
        (0..steps).map(one).collect()
    }

    #[test]
    fn steps_come_to_take_the_wanted_time_whatever_a_message_and_a_commit_cost() {
        for (us_per_row, commit_us) in [(16, 0), (16, 40_000), (100, 15_000), (400, 0), (1_000, 100_000)] {
            let last = *work_us(us_per_row, commit_us, 20).last().unwrap();
            assert!((Pace::STEP_US / 2..=Pace::STEP_US).contains(&last), "{us_per_row}, {commit_us}: {last} us a step");
        }
    }

    #[test]
    fn no_step_takes_more_than_the_wanted_time_on_the_way_there() {
        assert!(work_us(400, 0, 20).into_iter().all(|work_us| work_us <= Pace::STEP_US));
    }

    #[test]
    fn slow_deletions_make_steps_small_and_pauses_long_but_bounded() {
        let mut pace = Pace { rows: Pace::MOST_ROWS };
        for _ in 0..20 {
            assert!(pace.after_step(step(3_000_000, 0)) <= Duration::from_secs(1));
        }
        assert_eq!(pace.rows, Pace::LEAST_ROWS);
        assert_eq!(pace.after_step(step(1_000, 0)), Duration::from_millis(4));
    }

    #[test]
    fn the_pause_is_short_while_nothing_else_is_written() {
        let alone = RetentionStep { is_alone: true, ..step(5_000, 2_000) };
        assert_eq!(Pace::default().after_step(alone), Duration::from_millis(7));
        assert_eq!(Pace::default().after_step(step(5_000, 2_000)), Duration::from_millis(28));
    }

    #[test]
    fn a_search_through_protected_messages_pauses_longer_than_it_works() {
        let found_nothing = RetentionStep { more: true, work_us: 500, busy_us: 500, ..RetentionStep::default() };
        assert_eq!(Pace::default().after_step(found_nothing), Duration::from_millis(50));
    }
}
