//! The rate limit of one participant (`rate_per_second`): how often attempts may begin, evenly spaced.
//!
//! Pure: the caller passes the time.

use std::time::Duration;
use tokio::time::Instant;

/// A start that is late by up to this much is made up for, so that late timers do not lower the rate.
const LATE_MILLISECONDS: u64 = 20;

#[derive(Debug, Default)]
pub(super) struct RateLimiter {
    next: Option<Instant>,
}

impl RateLimiter {
    /// Until when nothing may begin; None if an attempt may begin now. A rate of 0 means no limit.
    pub fn wait(&self, rate_per_second: u32, now: Instant) -> Option<Instant> {
        self.next.filter(|next| rate_per_second > 0 && *next > now)
    }

    /// An attempt begins.
    pub fn begin(&mut self, rate_per_second: u32, now: Instant) {
        if rate_per_second == 0 {
            self.next = None;
            return;
        }
        let interval = Duration::from_secs(1) / rate_per_second;
        let earliest = now.checked_sub(Duration::from_millis(LATE_MILLISECONDS)).unwrap_or(now);
        self.next = Some(self.next.unwrap_or(now).max(earliest) + interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attempts that begin within a second while deliveries wait all the time and the loop runs at this interval.
    fn begun(rate_per_second: u32, every_milliseconds: u64) -> usize {
        let (start, mut rate_limiter, mut begun) = (Instant::now(), RateLimiter::default(), 0);
        for step in 0..(1000 / every_milliseconds) {
            let now = start + Duration::from_millis(step * every_milliseconds);
            while begun < 100_000 && rate_limiter.wait(rate_per_second, now).is_none() {
                rate_limiter.begin(rate_per_second, now);
                begun += 1;
            }
        }
        begun
    }

    #[test]
    fn attempts_begin_at_the_rate_and_no_rate_is_no_limit() {
        for (rate, every, least, most) in
            [(1, 1, 1, 1), (5, 1, 5, 5), (5, 7, 5, 5), (100, 10, 99, 101), (1000, 5, 990, 1021), (2000, 10, 1960, 2041)]
        {
            let begun = begun(rate, every);
            assert!((least..=most).contains(&begun), "{begun} of {rate} per second, looked at every {every} ms");
        }
        assert_eq!(begun(0, 1000), 100_000);
    }

    #[test]
    fn what_did_not_begin_while_nothing_waited_is_not_made_up_for() {
        let (start, mut rate_limiter) = (Instant::now(), RateLimiter::default());
        rate_limiter.begin(10, start);
        let later = start + Duration::from_secs(60);
        assert_eq!(rate_limiter.wait(10, later), None);
        rate_limiter.begin(10, later);
        assert!(rate_limiter.wait(10, later).is_some_and(|until| until >= later + Duration::from_millis(80)));
    }
}
