//! Places of messages on their way in: a bounded number of messages, and of their bytes, between first byte and commit.
//!
//! One owner (a participant; a peer address where no credential says who sends; the queues of the broker together) gets at
//! most half of each, so that one alone cannot keep the others out. No clock, no network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Who holds places.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    Participant(Arc<str>),
    Peer(IpAddr),
    /// The broker's queues, together.
    Queues,
}

/// All places of one router. Clones share them.
#[derive(Clone, Debug)]
pub struct Places {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit_messages: usize,
    limit_bytes: u64,
    taken: Mutex<Taken>,
    given_back: Notify,
    /// As many as there are processors: more bodies that are unpacked at once take memory, and are not done sooner.
    unpacking: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Taken {
    all: Share,
    by_owner: HashMap<Owner, Share>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    messages: usize,
    bytes: u64,
}

/// A place and the bytes counted for it; dropped, both are given back.
#[derive(Debug)]
pub struct Hold {
    inner: Arc<Inner>,
    /// None: a proxy that speaks for many has no share of its own.
    owner: Option<Owner>,
    share: Share,
}

impl Places {
    /// `limit_messages` and `limit_bytes` for all; half of each, rounded up, for one owner.
    pub fn new(limit_messages: usize, limit_bytes: u64) -> Places {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let inner = Inner {
            limit_messages,
            limit_bytes,
            taken: Mutex::default(),
            given_back: Notify::new(),
            unpacking: Arc::new(Semaphore::new(processors)),
        };
        Places { inner: Arc::new(inner) }
    }

    /// A place for one message; None at the limit, or at the owner's half of it.
    pub fn take(&self, owner: Option<Owner>) -> Option<Hold> {
        let mut hold = Hold { inner: self.inner.clone(), owner, share: Share::default() };
        hold.add(Share { messages: 1, bytes: 0 }, false).then_some(hold)
    }

    /// Waits for room for so many bytes of a message from a queue, which holds no place: the broker bounds their number. A
    /// message larger than the queues' half gets room once it is alone.
    pub async fn room(&self, bytes: u64) -> Hold {
        let mut hold = Hold { inner: self.inner.clone(), owner: Some(Owner::Queues), share: Share::default() };
        loop {
            let mut given_back = std::pin::pin!(self.inner.given_back.notified());
            // Registered before the look, so that what is given back in between is not missed.
            given_back.as_mut().enable();
            if hold.add(Share { messages: 0, bytes }, true) {
                return hold;
            }
            given_back.await;
        }
    }

    /// Messages and bytes that are counted now.
    pub fn in_flight(&self) -> (usize, u64) {
        let taken = self.inner.taken();
        (taken.all.messages, taken.all.bytes)
    }
}

impl Inner {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Every change under the lock is a few additions, so a panic elsewhere leaves it whole.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold {
    /// Counts more bytes for this message. False at the limit, or at the owner's half of it; then nothing is counted.
    pub fn grow(&mut self, bytes: u64) -> bool {
        self.add(Share { messages: 0, bytes }, false)
    }

    /// Waits until this message may be unpacked; it may as long as what it gets is held. None would be a closed semaphore,
    /// which this one never is.
    pub async fn unpacking(&self) -> Option<OwnedSemaphorePermit> {
        self.inner.unpacking.clone().acquire_owned().await.ok()
    }

    /// Gives bytes back that are no longer in memory.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.share.bytes);
        self.give_back(Share { messages: 0, bytes });
        self.share.bytes -= bytes;
    }

    /// The bytes counted for this message.
    pub fn bytes(&self) -> u64 {
        self.share.bytes
    }

    /// `if_alone`: the owner's half does not hold for the first.
    fn add(&mut self, more: Share, if_alone: bool) -> bool {
        let (limit_messages, limit_bytes) = (self.inner.limit_messages, self.inner.limit_bytes);
        let mut taken = self.inner.taken();
        let own = self.owner.as_ref().and_then(|owner| taken.by_owner.get(owner)).copied().unwrap_or_default();
        let is_alone = if_alone && own.bytes == 0;
        let fits = |share: Share, messages: usize, bytes: u64| {
            share.messages + more.messages <= messages && share.bytes.saturating_add(more.bytes) <= bytes
        };
        let half_fits = self.owner.is_none() || fits(own, limit_messages.div_ceil(2), limit_bytes.div_ceil(2));
        let fits_all = half_fits && fits(taken.all, limit_messages, limit_bytes);
        if !fits_all && !is_alone {
            return false;
        }
        let add = |share: &mut Share| {
            share.messages += more.messages;
            share.bytes = share.bytes.saturating_add(more.bytes);
        };
        add(&mut taken.all);
        if let Some(owner) = &self.owner {
            add(taken.by_owner.entry(owner.clone()).or_default());
        }
        drop(taken);
        add(&mut self.share);
        true
    }

    fn give_back(&self, back: Share) {
        let subtract = |share: &mut Share| {
            share.messages -= back.messages;
            share.bytes -= back.bytes;
        };
        let mut taken = self.inner.taken();
        subtract(&mut taken.all);
        if let Some(owner) = &self.owner
            && let Some(own) = taken.by_owner.get_mut(owner)
        {
            subtract(own);
            if own.messages == 0 && own.bytes == 0 {
                taken.by_owner.remove(owner);
            }
        }
        drop(taken);
        self.inner.given_back.notify_waiters();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.give_back(self.share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab() -> Option<Owner> {
        Some(Owner::Participant("lab".into()))
    }

    #[test]
    fn one_owner_gets_at_most_half_of_the_places_and_a_proxy_without_a_share_gets_all() {
        let places = Places::new(4, 1000);
        let held: Vec<_> = (0..4).filter_map(|_| places.take(lab())).collect();
        assert_eq!(held.len(), 2);
        let peer = || Some(Owner::Peer([10, 0, 0, 7].into()));
        let others: Vec<_> = (0..4).filter_map(|_| places.take(peer())).collect();
        assert_eq!(others.len(), 2);
        drop((held, others));
        assert_eq!((0..5).filter_map(|_| places.take(None)).collect::<Vec<_>>().len(), 4);
        assert_eq!(places.in_flight(), (0, 0));
        assert!(places.inner.taken().by_owner.is_empty());
    }

    #[test]
    fn a_single_place_can_be_taken_although_its_half_is_less_than_one() {
        let places = Places::new(1, 2);
        assert!(places.take(lab()).is_some_and(|mut hold| hold.grow(1) && !hold.grow(1)));
    }

    #[test]
    fn bytes_are_bounded_for_all_and_by_half_for_one_and_given_back() {
        let places = Places::new(100, 1000);
        let (mut one, mut two) = (places.take(lab()).unwrap(), places.take(lab()).unwrap());
        assert!(one.grow(300) && two.grow(200));
        assert!(!one.grow(1), "more than half for one owner");
        let mut other = places.take(None).unwrap();
        assert!(other.grow(500) && !other.grow(1));
        two.shrink(100);
        assert_eq!((two.bytes(), places.in_flight()), (100, (3, 900)));
        assert!(other.grow(100));
        two.shrink(5000);
        drop((one, other));
        assert_eq!(places.in_flight(), (1, 0));
    }

    #[tokio::test]
    async fn a_message_from_a_queue_waits_for_room_and_a_large_one_gets_it_alone() {
        let places = Places::new(100, 1000);
        let first = places.room(400).await;
        let mut second = Box::pin(places.room(4000));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        let second = second.await;
        assert_eq!(second.bytes(), 4000);
        let mut third = Box::pin(places.room(1));
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        assert!(places.take(lab()).is_none(), "what queues hold counts for all");
        drop(second);
        assert_eq!(third.await.bytes(), 1);
    }
}
