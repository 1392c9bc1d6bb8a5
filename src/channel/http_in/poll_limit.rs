//! The rate limit of a status URL: 10 polls a second per caller, so that callers do not use up each other's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

const POLLS_PER_SECOND: u32 = 10;
/// Status URLs that are counted at a time; beyond it, counts older than a second are dropped.
const COUNTED_LIMIT: usize = 100_000;

/// A status URL and its caller; None on open loopback.
type Poll = (Uuid, Option<Arc<str>>);

#[derive(Default)]
pub struct PollLimit {
    seconds: Mutex<HashMap<Poll, (Instant, u32)>>,
}

impl PollLimit {
    /// Whether this poll is within the limit. `caller`: None on open loopback.
    pub fn admit(&self, id: Uuid, caller: Option<&Arc<str>>) -> bool {
        let now = Instant::now();
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        if seconds.len() >= COUNTED_LIMIT {
            seconds.retain(|_, (since, _)| now.duration_since(*since) < Duration::from_secs(1));
        }
        let (since, count) = seconds.entry((id, caller.cloned())).or_insert((now, 0));
        if now.duration_since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= POLLS_PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eleventh_poll_of_a_second_is_too_many_and_other_urls_are_free() {
        let poll_limit = PollLimit::default();
        let admitted = (0..20).filter(|_| poll_limit.admit(Uuid::from_u128(1), None)).count();
        assert_eq!(admitted, 10);
        assert!(poll_limit.admit(Uuid::from_u128(2), None));
        assert!(poll_limit.admit(Uuid::from_u128(1), Some(&"lab".into())));
    }
}
