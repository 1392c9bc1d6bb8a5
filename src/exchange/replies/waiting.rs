//! The senders that wait for an answer, by message id.
//!
//! Before an answer is committed, its waiters are claimed. A claimed waiter no longer times out, so either it gets the answer
//! directly, or the answer has a delivery of its own: never both, and never neither.

use super::Completion;
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

/// How often a claimed waiter whose timeout has passed checks whether the claim was undone. Every claim ends: with an answer,
/// undone, or dropped.
const CLAIM_CHECK_MILLISECONDS: u64 = 200;

/// All waiters, bounded; at most half of them for one receiver.
pub(crate) struct Waiters {
    max_waiting: usize,
    waiting: AtomicUsize,
    by_message: Mutex<HashMap<Uuid, Vec<Slot>>>,
    by_receiver: Mutex<HashMap<Arc<str>, usize>>,
    /// Canceled when the router stops: all who still wait get 202.
    released: CancellationToken,
}

struct Slot {
    number: usize,
    state: Arc<AtomicU8>,
    answer: oneshot::Sender<Completion>,
}

/// One waiting sender; dropping it ends the wait.
pub(crate) struct Waiter<'w> {
    waiters: &'w Waiters,
    message: Uuid,
    receiver: Arc<str>,
    number: usize,
    state: Arc<AtomicU8>,
    answer: oneshot::Receiver<Completion>,
}

/// The waiters claimed for an answer that is about to be committed.
pub(crate) struct Claim {
    slots: Vec<Slot>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of another holder cannot leave the maps half changed: every change is one insert or removal.
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

    /// Registers one more sender; None at the limit: then it gets 202 at once.
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

    /// Claims all that still wait for this message; None if there are none.
    pub fn claim(&self, message: Uuid) -> Option<Claim> {
        let slots = locked(&self.by_message).remove(&message)?;
        let slots: Vec<Slot> = slots
            .into_iter()
            .filter(|slot| slot.state.compare_exchange(WAITING, CLAIMED, Ordering::AcqRel, Ordering::Acquire).is_ok())
            .collect();
        (!slots.is_empty()).then_some(Claim { slots })
    }

    /// Lets claimed waiters wait on, because the commit did not happen.
    pub fn unclaim(&self, message: Uuid, claim: Claim) {
        let mut map = locked(&self.by_message);
        for slot in claim.slots {
            // A leaving waiter takes the same lock, so none is put into the map after it has left.
            if slot.state.compare_exchange(CLAIMED, WAITING, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                map.entry(message).or_default().push(slot);
            }
        }
    }

    /// Ends the wait of all that are not claimed: the router stops.
    pub fn release(&self) {
        self.released.cancel();
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl Claim {
    pub fn deliver(self, completion: Completion) {
        for slot in self.slots {
            // An error means that the sender has disconnected; if it sends again, it gets the same answer.
            let _ = slot.answer.send(completion.clone());
        }
    }
}

impl Waiter<'_> {
    /// The completion; None if `timeout` passed or the sender disconnected before it was claimed.
    pub async fn wait(mut self, timeout: Duration, gone: &CancellationToken) -> Option<Completion> {
        tokio::select! {
            completion = &mut self.answer => return completion.ok(),
            () = tokio::time::sleep(timeout) => {}
            () = gone.cancelled() => {}
            () = self.waiters.released.cancelled() => {}
        }
        while !self.leave() {
            let check = Duration::from_millis(CLAIM_CHECK_MILLISECONDS);
            if let Ok(completion) = tokio::time::timeout(check, &mut self.answer).await {
                return completion.ok();
            }
        }
        None
    }

    /// The completion, if it is there.
    #[cfg(test)]
    pub fn take(&mut self) -> Option<Completion> {
        self.answer.try_recv().ok()
    }

    /// Ends the wait, unless an answer has claimed it.
    pub fn leave(&self) -> bool {
        self.state.compare_exchange(WAITING, GONE, Ordering::AcqRel, Ordering::Acquire).is_ok()
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
        waiters.claim(id).expect("three wait").deliver(Completion::Taken { accepted: false });
        for place in admission {
            assert!(matches!(place.wait(LONG, &gone).await, Some(Completion::Taken { accepted: false })));
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
            claim.deliver(Completion::Taken { accepted: true });
        };
        let (completion, ()) = tokio::join!(place.wait(Duration::from_millis(1), &gone), late);
        assert!(completion.is_some());
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
        let (completion, ()) = tokio::join!(place.wait(LONG, &gone), back);
        assert!(completion.is_none());
        assert!(waiters.claim(id).is_none());

        let place = waiters.register(id, &lab).expect("room");
        let claim = waiters.claim(id).expect("one waits");
        drop(place);
        waiters.unclaim(id, claim);
        assert!(waiters.claim(id).is_none(), "no sender waits");
        assert!(locked(&waiters.by_message).is_empty());
    }

    #[test]
    fn one_receiver_gets_at_most_half_of_the_waiters() {
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
