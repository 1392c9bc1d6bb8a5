//! The open loop: messages become due at a fixed rate, whether or not earlier ones were answered.
//!
//! A closed loop waits for each reply before it sends again, so a router that pauses is asked less just then, and the
//! pause counts once ("coordinated omission"). Here the time of a message counts from the moment at which it was due,
//! so that the time in which it waited for a free connection is part of it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The clock wakes the schedule about this often; messages due between two wake-ups are handed out together, each with
/// its own due time.
const TICK: Duration = Duration::from_millis(1);
/// Messages that wait for a connection at most, so that an overloaded run ends with memory to spare.
pub const WAITING_MESSAGES: usize = 1_000_000;

/// Messages that are due and wait for a connection.
pub struct Arrivals {
    due: RefCell<VecDeque<Instant>>,
    /// Messages that were due while `WAITING_MESSAGES` waited.
    lost: Cell<u64>,
    changed: Notify,
    until: Instant,
}

impl Arrivals {
    /// A schedule that ends at `until`.
    pub fn new(until: Instant) -> Arrivals {
        Arrivals { due: RefCell::default(), lost: Cell::new(0), changed: Notify::new(), until }
    }

    /// Makes messages due, `rate` each second, until the end of the schedule.
    pub async fn run(&self, begin: Instant, rate_per_second: f64) {
        let mut handed_out = 0;
        while Instant::now() < self.until {
            let passed = begin.elapsed().min(self.until.saturating_duration_since(begin));
            let due = due_by(passed, rate_per_second);
            for number in handed_out..due {
                self.add(begin + Duration::from_secs_f64(number as f64 / rate_per_second));
            }
            handed_out = due;
            tokio::time::sleep(TICK).await;
        }
        self.changed.notify_waiters();
    }

    fn add(&self, due: Instant) {
        if self.due.borrow().len() >= WAITING_MESSAGES {
            self.lost.set(self.lost.get() + 1);
            return;
        }
        self.due.borrow_mut().push_back(due);
        self.changed.notify_one();
    }

    /// The due time of the next message; waits until there is one. `None` at the end of the schedule.
    pub async fn next(&self) -> Option<Instant> {
        loop {
            let changed = self.changed.notified();
            if Instant::now() >= self.until {
                return None;
            }
            if let Some(due) = self.due.borrow_mut().pop_front() {
                return Some(due);
            }
            // The schedule may have ended just before this began to wait.
            let rest = self.until.saturating_duration_since(Instant::now());
            let _ = tokio::time::timeout(rest, changed).await;
        }
    }

    /// Messages that were due but not sent when the schedule ended.
    pub fn unsent(&self) -> u64 {
        self.due.borrow().len() as u64 + self.lost.get()
    }
}

/// How many messages are due in the first `passed` of a schedule.
fn due_by(passed: Duration, rate_per_second: f64) -> u64 {
    (passed.as_secs_f64() * rate_per_second) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_does_not_depend_on_replies() {
        assert_eq!(due_by(Duration::from_millis(1_500), 100.0), 150);
        assert_eq!(due_by(Duration::ZERO, 100.0), 0);
    }

    #[tokio::test]
    async fn a_message_that_waits_for_a_connection_keeps_its_due_time() {
        let arrivals = Arrivals::new(Instant::now() + Duration::from_secs(60));
        let due = Instant::now();
        arrivals.add(due);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(arrivals.next().await, Some(due));
        assert_eq!(arrivals.unsent(), 0);
    }

    #[tokio::test]
    async fn after_the_end_nothing_is_due_and_what_was_not_sent_is_counted() {
        let arrivals = Arrivals::new(Instant::now());
        arrivals.add(Instant::now());
        assert_eq!(arrivals.next().await, None);
        assert_eq!(arrivals.unsent(), 1);
    }
}
