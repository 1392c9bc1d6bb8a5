//! The breaker of one participant: after repeated failures only probes go out, so that a dead receiver burns no attempts.
//!
//! Pure: it is told the time, what happened and a random number, and says what may start. Who logs a transition, and
//! which delivery is the probe, is decided by the caller.

use crate::delivery::retry_after;
use crate::fhir::Fault;
use std::time::Duration;
use tokio::time::Instant;

/// Failed attempts in a row, over all lanes, that open the breaker.
const FAILURES_TO_OPEN: u32 = 5;
/// The next probe after one that ended without a word of the receiver (our own defect, or the store away).
const UNDECIDED_PROBE_RETRY_SECONDS: u64 = 5;

/// One moment on both clocks: waits use the monotonic one, what people read is wall clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub now: Instant,
    /// UTC microseconds since 1970.
    pub now_us: i64,
}

/// What may start now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Permit {
    Any,
    /// One attempt, whose end decides.
    Probe,
    No,
}

/// A change of state that is worth one event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Transition {
    Opened,
    Closed,
}

/// A failed attempt, as the breaker sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure<'a> {
    pub fault: Option<Fault>,
    /// Our credential or URL is wrong: opens at once.
    pub hold: bool,
    /// It was the probe that `Permit::Probe` allowed.
    pub probe: bool,
    /// `Retry-After` of the receiver.
    pub asked: Option<Duration>,
    pub schedule_seconds: &'a [u64],
    /// In 0..1.
    pub random: f64,
}

#[derive(Debug)]
struct Open {
    failed_probes: u32,
    next_probe: Instant,
    next_probe_at_us: i64,
    probing: bool,
}

#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures_in_a_row: u32,
    open: Option<Open>,
    pub last_fault: Option<Fault>,
    pub last_failure_at_us: Option<i64>,
}

impl Breaker {
    pub fn permit(&self, now: Instant) -> Permit {
        match &self.open {
            None => Permit::Any,
            Some(open) if !open.probing && open.next_probe <= now => Permit::Probe,
            Some(_) => Permit::No,
        }
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// When the next probe may go out; None while closed or while one is under way.
    pub fn next_probe(&self) -> Option<Instant> {
        self.open.as_ref().filter(|open| !open.probing).map(|open| open.next_probe)
    }

    pub fn next_probe_at_us(&self) -> Option<i64> {
        self.open.as_ref().filter(|open| !open.probing).map(|open| open.next_probe_at_us)
    }

    pub fn probe_started(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    /// The receiver spoke, be it a refusal: the breaker closes.
    pub fn succeeded(&mut self) -> Option<Transition> {
        self.failures_in_a_row = 0;
        self.open.take().map(|_| Transition::Closed)
    }

    /// An attempt failed. Those that were under way when the breaker opened change nothing about the probes.
    pub fn failed(&mut self, failure: Failure<'_>, at: Moment) -> Option<Transition> {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.last_fault = failure.fault.or(self.last_fault);
        self.last_failure_at_us = Some(at.now_us);
        match &mut self.open {
            Some(open) if failure.probe => {
                open.failed_probes = open.failed_probes.saturating_add(1);
                let wait = retry_after(failure.schedule_seconds, open.failed_probes + 1, failure.asked, failure.random);
                open.probe_after(wait, at);
                None
            }
            Some(_) => None,
            None if failure.hold || self.failures_in_a_row >= FAILURES_TO_OPEN => {
                let wait = retry_after(failure.schedule_seconds, 1, failure.asked, failure.random);
                let mut open =
                    Open { failed_probes: 0, next_probe: at.now, next_probe_at_us: at.now_us, probing: false };
                open.probe_after(wait, at);
                self.open = Some(open);
                Some(Transition::Opened)
            }
            None => None,
        }
    }

    /// The probe ended and the receiver had no part in it: another one soon.
    pub fn probe_undecided(&mut self, at: Moment) {
        if let Some(open) = &mut self.open {
            open.probe_after(Duration::from_secs(UNDECIDED_PROBE_RETRY_SECONDS), at);
        }
    }
}

impl Open {
    fn probe_after(&mut self, wait: Duration, at: Moment) {
        self.probing = false;
        self.next_probe = at.now + wait;
        self.next_probe_at_us = at.now_us.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: &[u64] = &[1, 5, 30];

    fn at(start: Instant, seconds: u64) -> Moment {
        Moment { now: start + Duration::from_secs(seconds), now_us: seconds as i64 * 1_000_000 }
    }

    fn failure(hold: bool, probe: bool) -> Failure<'static> {
        let fault = Some(Fault::RecvError);
        Failure { fault, hold, probe, asked: None, schedule_seconds: SCHEDULE, random: 0.0 }
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_a_word_of_the_receiver_starts_the_count_anew() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            assert_eq!(breaker.failed(failure(false, false), at(start, 0)), None);
        }
        assert_eq!(breaker.succeeded(), None);
        for _ in 0..4 {
            assert_eq!(breaker.failed(failure(false, false), at(start, 0)), None);
        }
        assert_eq!(breaker.permit(start), Permit::Any);
        assert_eq!(breaker.failed(failure(false, false), at(start, 0)), Some(Transition::Opened));
        assert_eq!(breaker.permit(start), Permit::No);
        assert_eq!((breaker.last_fault, breaker.next_probe_at_us()), (Some(Fault::RecvError), Some(1_000_000)));
    }

    #[test]
    fn a_wrong_credential_opens_it_at_once() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        assert_eq!(breaker.failed(failure(true, false), at(start, 0)), Some(Transition::Opened));
    }

    #[test]
    fn probes_go_one_at_a_time_along_the_schedule_until_one_succeeds() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        breaker.failed(failure(true, false), at(start, 0));
        let mut second = 0;
        for wait in [1, 5, 30, 30] {
            let last = at(start, second + wait - 1).now + Duration::from_millis(999);
            assert_eq!(breaker.permit(last), Permit::No, "after {wait} s");
            second += wait;
            assert_eq!(breaker.permit(at(start, second).now), Permit::Probe, "after {wait} s");
            breaker.probe_started();
            assert_eq!(breaker.permit(at(start, second + 1_000).now), Permit::No, "one is under way");
            assert_eq!(breaker.failed(failure(false, true), at(start, second)), None);
        }
        breaker.probe_started();
        assert_eq!(breaker.succeeded(), Some(Transition::Closed));
        assert_eq!(breaker.permit(start), Permit::Any);
    }

    #[test]
    fn late_failures_of_attempts_that_are_no_probe_do_not_move_the_probe() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        breaker.failed(failure(true, false), at(start, 0));
        breaker.failed(failure(false, false), at(start, 1));
        assert_eq!(breaker.permit(at(start, 1).now), Permit::Probe);
    }

    #[test]
    fn retry_after_and_an_undecided_probe_set_the_next_one() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        let asked = Failure { asked: Some(Duration::from_secs(120)), ..failure(true, false) };
        breaker.failed(asked, at(start, 0));
        assert_eq!(breaker.permit(at(start, 119).now), Permit::No);
        assert_eq!(breaker.permit(at(start, 120).now), Permit::Probe);
        breaker.probe_started();
        breaker.probe_undecided(at(start, 121));
        assert_eq!(breaker.next_probe(), Some(at(start, 126).now));
    }
}
