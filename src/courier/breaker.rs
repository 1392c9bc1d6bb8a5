//! The circuit breaker of one participant: once its receiver is known to be down, only probes are sent, and the other
//! deliveries wait without using up attempts.
//!
//! Pure: the caller passes the time, what happened, and a random number, logs the transitions, and chooses the delivery
//! that is the probe.
//!
//! A message that fails again and again shows nothing about the receiver. So only failures of different deliveries
//! count, and a repeated failure does not count once the receiver has accepted anything. A receiver that accepts some
//! messages and refuses many others is up: the more of its attempts failed between successes, the more failures in a
//! row open the breaker.

use crate::delivery::retry_after;
use crate::fault::Fault;
use std::time::Duration;
use tokio::time::Instant;

/// Failures in a row, of different deliveries, that open the breaker.
const FAILURES_TO_OPEN: usize = 5;
/// Upper bound of that number for a receiver that fails often; it also bounds the memory of one streak.
const FAILURES_TO_OPEN_MOST: usize = 1024;
/// Successes over which failures are averaged; before that many, the average is not used.
const AVERAGED_SUCCESSES: u32 = 32;
/// Added to `FAILURES_TO_OPEN` for each failure per success on average. With this factor, chance alone opens the
/// breaker of a healthy receiver about once in 10,000 successes, whatever share of the messages it refuses.
const FAILURES_PER_AVERAGE: f64 = 16.0;
/// Longest time between two probes.
const PROBE_INTERVAL_SECONDS_MOST: u64 = 60;
/// Pause after a probe that shows nothing about the receiver (a defect in the router, or the store is unavailable).
const UNDECIDED_PROBE_RETRY_SECONDS: u64 = 5;

/// The current time on both clocks: waits use the monotonic clock, and people read the wall clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub now: Instant,
    /// UTC microseconds since 1970.
    pub now_us: i64,
}

/// Which attempts may start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Permit {
    Any,
    /// One attempt, whose end decides the breaker's state.
    Probe,
    No,
}

/// A change of state that the caller logs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Transition {
    Opened,
    Closed,
}

/// A failed attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure<'a> {
    pub delivery_key: i64,
    /// Whether an earlier attempt at this delivery failed.
    pub is_repeated: bool,
    pub fault: Fault,
    /// Whether it was the probe that `Permit::Probe` allowed.
    pub probe: bool,
    /// `Retry-After` of the receiver.
    pub retry_after: Option<Duration>,
    pub schedule_seconds: &'a [u64],
    /// Between 0 and 1, for jitter.
    pub random: f64,
}

#[derive(Debug)]
struct Open {
    failed_probes: u32,
    next_probe: Instant,
    next_probe_at_us: i64,
    /// Active probes: one, or more after `probe_now`.
    probes: u32,
    /// The next probe does not wait for an active one to end.
    at_once: bool,
}

#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Keys of the deliveries that failed since the last success, each once.
    streak: Vec<i64>,
    successes: u32,
    /// Failures per success.
    average: f64,
    open: Option<Open>,
    pub last_fault: Option<Fault>,
    pub last_failure_at_us: Option<i64>,
}

impl Breaker {
    pub fn permit(&self, now: Instant) -> Permit {
        match &self.open {
            None => Permit::Any,
            Some(open) if (open.probes == 0 || open.at_once) && open.next_probe <= now => Permit::Probe,
            Some(_) => Permit::No,
        }
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// When the next probe may be sent; None while closed or while a probe is active.
    pub fn next_probe(&self) -> Option<Instant> {
        self.awaiting_probe().map(|open| open.next_probe)
    }

    /// As `next_probe`, in UTC microseconds.
    pub fn next_probe_at_us(&self) -> Option<i64> {
        self.awaiting_probe().map(|open| open.next_probe_at_us)
    }

    fn awaiting_probe(&self) -> Option<&Open> {
        self.open.as_ref().filter(|open| open.probes == 0 || open.at_once)
    }

    pub fn probe_started(&mut self) {
        if let Some(open) = &mut self.open {
            open.probes += 1;
            open.at_once = false;
        }
    }

    /// Allows a probe now, even while another one is active. Has no effect while closed.
    pub fn probe_now(&mut self, at: Moment) {
        if let Some(open) = &mut self.open {
            (open.next_probe, open.next_probe_at_us, open.at_once) = (at.now, at.now_us, true);
        }
    }

    /// The receiver responded, even if it refused this one message: the breaker closes.
    pub fn succeeded(&mut self) -> Option<Transition> {
        let open = self.open.take();
        self.successes = self.successes.saturating_add(1);
        // An outage shows nothing about how many messages the receiver refuses while it is up.
        if open.as_ref().is_none_or(|open| open.failed_probes == 0) {
            self.average += (self.streak.len() as f64 - self.average) / f64::from(AVERAGED_SUCCESSES);
        }
        self.streak.clear();
        open.map(|_| Transition::Closed)
    }

    /// An attempt failed. Attempts that were active when the breaker opened do not postpone the probe.
    pub fn failed(&mut self, failure: Failure<'_>, at: Moment) -> Option<Transition> {
        self.last_fault = Some(failure.fault);
        self.last_failure_at_us = Some(at.now_us);
        let wait = |probes| {
            let wait = retry_after(failure.schedule_seconds, probes, failure.retry_after, failure.random);
            wait.min(Duration::from_secs(PROBE_INTERVAL_SECONDS_MOST))
        };
        if let Some(open) = &mut self.open {
            if failure.probe {
                open.failed_probes = open.failed_probes.saturating_add(1);
                open.probe_after(wait(open.failed_probes.saturating_add(1)), at);
            }
            return None;
        }
        let is_known_to_fail = failure.is_repeated && self.successes > 0;
        if is_known_to_fail || self.streak.contains(&failure.delivery_key) {
            return None;
        }
        self.streak.push(failure.delivery_key);
        if self.streak.len() < self.failures_to_open() {
            return None;
        }
        let mut open =
            Open { failed_probes: 0, next_probe: at.now, next_probe_at_us: at.now_us, probes: 1, at_once: false };
        open.probe_after(wait(1), at);
        self.open = Some(open);
        Some(Transition::Opened)
    }

    /// The probe ended without showing anything about the receiver: another one follows soon.
    pub fn probe_undecided(&mut self, at: Moment) {
        if let Some(open) = &mut self.open {
            open.probe_after(Duration::from_secs(UNDECIDED_PROBE_RETRY_SECONDS), at);
        }
    }

    fn failures_to_open(&self) -> usize {
        if self.successes < AVERAGED_SUCCESSES {
            return FAILURES_TO_OPEN;
        }
        (FAILURES_TO_OPEN + (self.average * FAILURES_PER_AVERAGE) as usize).min(FAILURES_TO_OPEN_MOST)
    }
}

impl Open {
    /// A probe ended. A probe that was requested meanwhile stays due.
    fn probe_after(&mut self, wait: Duration, at: Moment) {
        self.probes = self.probes.saturating_sub(1);
        if self.at_once {
            return;
        }
        self.next_probe = at.now + wait;
        self.next_probe_at_us = at.now_us.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: &[u64] = &[1, 5, 30, 7200];

    fn at(start: Instant, seconds: u64) -> Moment {
        Moment { now: start + Duration::from_secs(seconds), now_us: seconds as i64 * 1_000_000 }
    }

    fn failure(delivery_key: i64) -> Failure<'static> {
        Failure {
            delivery_key,
            is_repeated: false,
            fault: Fault::RecvError,
            probe: false,
            retry_after: None,
            schedule_seconds: SCHEDULE,
            random: 0.0,
        }
    }

    fn probe() -> Failure<'static> {
        Failure { probe: true, is_repeated: true, ..failure(1) }
    }

    fn opened(start: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        let transitions: Vec<_> = (1..=5).map(|key| breaker.failed(failure(key), at(start, 0))).collect();
        assert_eq!(transitions, [None, None, None, None, Some(Transition::Opened)]);
        breaker
    }

    #[test]
    fn five_deliveries_that_fail_in_a_row_open_it_and_a_success_starts_the_count_anew() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for key in 1..=4 {
            assert_eq!(breaker.failed(failure(key), at(start, 0)), None);
        }
        assert_eq!(breaker.succeeded(), None);
        for key in 5..=8 {
            assert_eq!(breaker.failed(failure(key), at(start, 0)), None);
        }
        assert_eq!(breaker.permit(start), Permit::Any);
        assert_eq!(breaker.failed(failure(9), at(start, 0)), Some(Transition::Opened));
        assert_eq!(breaker.permit(start), Permit::No);
        assert_eq!((breaker.last_fault, breaker.next_probe_at_us()), (Some(Fault::RecvError), Some(1_000_000)));
    }

    #[test]
    fn one_delivery_that_fails_for_ever_never_opens_it() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            assert_eq!(breaker.failed(Failure { is_repeated: true, ..failure(1) }, at(start, 0)), None);
        }
        assert_eq!(breaker.permit(start), Permit::Any);
    }

    #[test]
    fn repeated_failures_count_until_the_receiver_has_taken_anything() {
        let start = Instant::now();
        let repeated = |key| Failure { is_repeated: true, ..failure(key) };
        let mut fresh = Breaker::default();
        let after_a_restart: Vec<_> = (1..=5).filter_map(|key| fresh.failed(repeated(key), at(start, 0))).collect();
        assert_eq!(after_a_restart, [Transition::Opened]);
        let mut healthy = Breaker::default();
        healthy.succeeded();
        assert!((1..=1000).all(|key| healthy.failed(repeated(key), at(start, 0)).is_none()));
    }

    #[test]
    fn a_receiver_that_refuses_most_messages_stays_reachable_and_is_still_found_down() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        let mut opened = 0;
        let (mut key, mut random) = (0, 1_u64);
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            key += 1;
            if (random >> 33) % 10 < 6 {
                opened += u32::from(breaker.failed(failure(key), at(start, 0)).is_some());
            } else {
                breaker.succeeded();
            }
        }
        assert!(opened <= 10, "opened {opened} times in 20,000 attempts");
        breaker.succeeded();
        let until_open = (1..).find(|more| breaker.failed(failure(key + more), at(start, 0)).is_some());
        assert!(until_open.is_some_and(|failures| failures <= 60), "{until_open:?}");
    }

    #[test]
    fn outages_do_not_make_it_slower() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for outage in 0..50 {
            for _ in 0..50 {
                breaker.succeeded();
            }
            let keys = outage * 5..outage * 5 + 5;
            let transitions: Vec<_> = keys.filter_map(|key| breaker.failed(failure(key), at(start, 0))).collect();
            assert_eq!(transitions, [Transition::Opened], "outage {outage}");
            breaker.probe_started();
            breaker.failed(probe(), at(start, 0));
            assert_eq!(breaker.succeeded(), Some(Transition::Closed));
        }
    }

    #[test]
    fn probes_go_one_at_a_time_along_the_schedule_at_most_a_minute_apart_until_one_succeeds() {
        let start = Instant::now();
        let mut breaker = opened(start);
        let mut second = 0;
        for wait in [1, 5, 30, 60, 60] {
            let last = at(start, second + wait - 1).now + Duration::from_millis(999);
            assert_eq!(breaker.permit(last), Permit::No, "after {wait} s");
            second += wait;
            assert_eq!(breaker.permit(at(start, second).now), Permit::Probe, "after {wait} s");
            breaker.probe_started();
            assert_eq!(breaker.permit(at(start, second + 1_000).now), Permit::No, "one is under way");
            assert_eq!(breaker.failed(probe(), at(start, second)), None);
        }
        breaker.probe_started();
        assert_eq!(breaker.succeeded(), Some(Transition::Closed));
        assert_eq!(breaker.permit(start), Permit::Any);
    }

    #[test]
    fn late_failures_of_attempts_that_are_not_the_probe_do_not_move_the_probe() {
        let start = Instant::now();
        let mut breaker = opened(start);
        breaker.failed(failure(6), at(start, 1));
        assert_eq!(breaker.permit(at(start, 1).now), Permit::Probe);
    }

    #[test]
    fn neither_jitter_nor_retry_after_puts_a_probe_off_for_more_than_a_minute() {
        let start = Instant::now();
        let mut breaker = opened(start);
        breaker.probe_started();
        let retry_after = Some(Duration::from_secs(7200));
        breaker.failed(Failure { retry_after, random: 1.0, ..probe() }, at(start, 0));
        assert_eq!(breaker.next_probe(), Some(at(start, 60).now));
    }

    #[test]
    fn an_undecided_probe_is_followed_by_another_soon() {
        let start = Instant::now();
        let mut breaker = opened(start);
        breaker.probe_started();
        breaker.probe_undecided(at(start, 121));
        assert_eq!(breaker.next_probe(), Some(at(start, 126).now));
    }

    #[test]
    fn an_ordered_probe_goes_at_once_even_beside_one_that_hangs() {
        let start = Instant::now();
        let mut breaker = opened(start);
        breaker.probe_now(at(start, 0));
        assert_eq!((breaker.permit(start), breaker.next_probe_at_us()), (Permit::Probe, Some(0)));
        breaker.probe_started();
        assert_eq!(breaker.permit(at(start, 50).now), Permit::No);
        breaker.probe_now(at(start, 50));
        assert_eq!(breaker.permit(at(start, 50).now), Permit::Probe);
        breaker.probe_started();
        breaker.failed(probe(), at(start, 51));
        assert_eq!(breaker.permit(at(start, 90).now), Permit::No, "the other one is under way");
        breaker.failed(probe(), at(start, 60));
        assert_eq!(breaker.next_probe(), Some(at(start, 90).now));
        breaker.probe_now(at(start, 61));
        assert_eq!(breaker.permit(at(start, 61).now), Permit::Probe);
    }
}
