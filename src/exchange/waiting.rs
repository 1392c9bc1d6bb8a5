//! Senders that wait for an answer, keyed by message id.
//!
//! An answer that is about to be committed first claims its waiters: a claimed waiter no longer times out, so either
//! it gets the answer on the line or the answer has a delivery of its own, never both and never neither.

use super::reply::Closed;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const WAITING: u8 = 0;
const CLAIMED: u8 = 1;
const GONE: u8 = 2;

/// How often a claimed waiter whose time is up looks whether it was given back. A claim itself always ends: with an
/// answer, given back, or dropped.
const CLAIMED_LOOK_MILLISECONDS: u64 = 200;

/// All waiters, bounded; at most half of them for one receiver.
pub(super) struct Waiters {
    max_waiting: usize,
    waiting: AtomicUsize,
    by_message: Mutex<HashMap<Uuid, Vec<Slot>>>,
    by_receiver: Mutex<HashMap<Arc<str>, usize>>,
    /// Cancelled when the router stops: whoever still waits gets 202.
    released: CancellationToken,
}

struct Slot {
    number: usize,
    state: Arc<AtomicU8>,
    answer: oneshot::Sender<Closed>,
}

/// One sender's place; dropped, it is given up.
pub(super) struct Waiter<'w> {
    waiters: &'w Waiters,
    message: Uuid,
    receiver: Arc<str>,
    number: usize,
    state: Arc<AtomicU8>,
    answer: oneshot::Receiver<Closed>,
}

/// The waiters that a coming answer has claimed.
pub(super) struct Claim {
    slots: Vec<Slot>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is one insert or removal, so a panic elsewhere leaves the maps whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiters {
    pub fn new(max_waiting: usize) -> Self {
        Waiters {
            max_waiting,
            waiting: AtomicUsize::new(0),
            by_message: Mutex::default(),
            by_receiver: Mutex::default(),
            released: CancellationToken::new(),
        }
    }

    /// A place for one more sender; None at the limit: then the reply is 202 at once.
    pub fn register(&self, message: Uuid, receiver: &Arc<str>) -> Option<Waiter<'_>> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        {
            let mut counts = locked(&self.by_receiver);
            let count = counts.entry(receiver.clone()).or_insert(0);
            if self.waiting.load(Ordering::Relaxed) >= self.max_waiting || *count >= self.max_waiting.div_ceil(2) {
                return None;
            }
            *count += 1;
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        let (sender, answer) = oneshot::channel();
        let state = Arc::new(AtomicU8::new(WAITING));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let slot = Slot { number, state: state.clone(), answer: sender };
        locked(&self.by_message).entry(message).or_default().push(slot);
        Some(Waiter { waiters: self, message, receiver: receiver.clone(), number, state, answer })
    }

    /// Claims everyone who still waits for this message; None when nobody does.
    pub fn claim(&self, message: Uuid) -> Option<Claim> {
        let slots = locked(&self.by_message).remove(&message)?;
        let slots: Vec<Slot> = slots
            .into_iter()
            .filter(|slot| slot.state.compare_exchange(WAITING, CLAIMED, Ordering::AcqRel, Ordering::Acquire).is_ok())
            .collect();
        (!slots.is_empty()).then_some(Claim { slots })
    }

    /// Gives claimed waiters back: the commit did not happen.
    pub fn unclaim(&self, message: Uuid, claim: Claim) {
        let mut map = locked(&self.by_message);
        for slot in claim.slots {
            // Under the lock that a waiter takes when it goes: one that is gone never comes back into the map.
            if slot.state.compare_exchange(CLAIMED, WAITING, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                map.entry(message).or_default().push(slot);
            }
        }
    }

    /// Lets everyone go who is not claimed: the router stops.
    pub fn release(&self) {
        self.released.cancel();
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl Claim {
    pub fn deliver(self, closed: Closed) {
        for slot in self.slots {
            // A receiver that is gone by now hung up; its sender asks again and gets the same answer.
            let _ = slot.answer.send(closed.clone());
        }
    }
}

impl Waiter<'_> {
    /// The answer, or None when `timeout` ended or the sender went away before anyone claimed this place.
    pub async fn wait(mut self, timeout: Duration, gone: &CancellationToken) -> Option<Closed> {
        tokio::select! {
            closed = &mut self.answer => return closed.ok(),
            () = tokio::time::sleep(timeout) => {}
            () = gone.cancelled() => {}
            () = self.waiters.released.cancelled() => {}
        }
        while self.state.compare_exchange(WAITING, GONE, Ordering::AcqRel, Ordering::Acquire).is_err() {
            let look = Duration::from_millis(CLAIMED_LOOK_MILLISECONDS);
            if let Ok(closed) = tokio::time::timeout(look, &mut self.answer).await {
                return closed.ok();
            }
        }
        None
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.state.store(GONE, Ordering::Release);
        let mut map = locked(&self.waiters.by_message);
        if let Some(slots) = map.get_mut(&self.message) {
            slots.retain(|slot| slot.number != self.number);
            if slots.is_empty() {
                map.remove(&self.message);
            }
        }
        drop(map);
        self.waiters.waiting.fetch_sub(1, Ordering::Relaxed);
        let mut counts = locked(&self.waiters.by_receiver);
        if let Some(count) = counts.get_mut(&self.receiver) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.receiver);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn every_waiter_of_a_message_gets_its_answer() {
        let waiters = Waiters::new(10);
        let (id, lab) = (Uuid::from_u128(1), Arc::from("lab"));
        let gone = CancellationToken::new();
        let admission: Vec<_> = (0..3).filter_map(|_| waiters.register(id, &lab)).collect();
        waiters.claim(id).expect("three wait").deliver(Closed::Taken { accepted: false });
        for place in admission {
            assert!(matches!(place.wait(LONG, &gone).await, Some(Closed::Taken { accepted: false })));
        }
        assert_eq!(waiters.count(), 0);
    }

    #[tokio::test]
    async fn who_stopped_waiting_cannot_be_claimed_and_who_is_claimed_does_not_time_out() {
        let waiters = Waiters::new(10);
        let (id, lab) = (Uuid::from_u128(1), Arc::from("lab"));
        let gone = CancellationToken::new();
        let place = waiters.register(id, &lab).expect("room");
        assert!(place.wait(Duration::from_millis(1), &gone).await.is_none());
        assert!(waiters.claim(id).is_none());

        let place = waiters.register(id, &lab).expect("room");
        let claim = waiters.claim(id).expect("one waits");
        let late = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            claim.deliver(Closed::Taken { accepted: true });
        };
        let (closed, ()) = tokio::join!(place.wait(Duration::from_millis(1), &gone), late);
        assert!(closed.is_some());
    }

    #[tokio::test]
    async fn a_waiter_whose_time_is_up_goes_when_its_claim_is_given_back_and_is_not_claimed_again() {
        let waiters = Waiters::new(10);
        let (id, lab) = (Uuid::from_u128(1), Arc::from("lab"));
        let gone = CancellationToken::new();
        let place = waiters.register(id, &lab).expect("room");
        let claim = waiters.claim(id).expect("one waits");
        gone.cancel();
        let back = async {
            tokio::task::yield_now().await;
            waiters.unclaim(id, claim);
        };
        let (closed, ()) = tokio::join!(place.wait(LONG, &gone), back);
        assert!(closed.is_none());
        assert!(waiters.claim(id).is_none());

        let place = waiters.register(id, &lab).expect("room");
        let claim = waiters.claim(id).expect("one waits");
        drop(place);
        waiters.unclaim(id, claim);
        assert!(waiters.claim(id).is_none(), "nobody is there to hear an answer");
        assert!(locked(&waiters.by_message).is_empty());
    }

    #[test]
    fn one_receiver_gets_at_most_half_of_the_places() {
        let waiters = Waiters::new(4);
        let (slow, fast) = (Arc::from("slow"), Arc::from("fast"));
        let held: Vec<_> = (0..4).filter_map(|n| waiters.register(Uuid::from_u128(n), &slow)).collect();
        assert_eq!(held.len(), 2);
        let other: Vec<_> = (9..13).filter_map(|n| waiters.register(Uuid::from_u128(n), &fast)).collect();
        assert_eq!(other.len(), 2);
        drop(held);
        assert!(waiters.register(Uuid::from_u128(20), &slow).is_some());
    }
}
