//! A bound on polls of one status URL: 10 a second of each party, so that nobody uses up another's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

const POLLS_PER_SECOND: u32 = 10;
/// Status URLs whose polls are counted at a time; beyond it the oldest second is forgotten.
const COUNTED_LIMIT: usize = 100_000;

/// A status URL and who asks; None on open loopback.
type Poll = (Uuid, Option<Arc<str>>);

#[derive(Default)]
pub struct Polls {
    seconds: Mutex<HashMap<Poll, (Instant, u32)>>,
}

impl Polls {
    /// Whether this poll is within the bound. `asker`: None on open loopback.
    pub fn admit(&self, id: Uuid, asker: Option<&Arc<str>>) -> bool {
        let now = Instant::now();
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        if seconds.len() >= COUNTED_LIMIT {
            seconds.retain(|_, (since, _)| now.duration_since(*since) < Duration::from_secs(1));
        }
        let (since, count) = seconds.entry((id, asker.cloned())).or_insert((now, 0));
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
        let polls = Polls::default();
        let admitted = (0..20).filter(|_| polls.admit(Uuid::from_u128(1), None)).count();
        assert_eq!(admitted, 10);
        assert!(polls.admit(Uuid::from_u128(2), None));
        assert!(polls.admit(Uuid::from_u128(1), Some(&"lab".into())));
    }
}
