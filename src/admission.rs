//! Admission: bounds how many messages, and how many of their bytes, are in memory between first byte and commit.
//!
//! Each owner (a participant; a peer address when no credential identifies the sender; all queues of the broker together)
//! gets at most half of either limit, so that one owner alone cannot block the others. No clock, no network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Whose share a message counts against.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    Participant(Arc<str>),
    Peer(IpAddr),
    /// All queues of the broker together.
    Queues,
}

/// The limits of one router and what is in use. Clones share them.
#[derive(Clone, Debug)]
pub struct Admission {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit_messages: usize,
    limit_bytes: u64,
    in_use: Mutex<InUse>,
    released: Notify,
    /// One permit per processor: decompressing more bodies at once takes memory without finishing any sooner.
    decompression: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct InUse {
    all: Share,
    by_owner: HashMap<Owner, Share>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    messages: usize,
    bytes: u64,
}

/// One message in flight and the bytes counted for it; dropping it releases both.
#[derive(Debug)]
pub struct Permit {
    inner: Arc<Inner>,
    /// None: a proxy that forwards for many senders has no share of its own.
    owner: Option<Owner>,
    share: Share,
}

impl Admission {
    /// `limit_messages` and `limit_bytes` for all; half of each, rounded up, for one owner.
    pub fn new(limit_messages: usize, limit_bytes: u64) -> Admission {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let inner = Inner {
            limit_messages,
            limit_bytes,
            in_use: Mutex::default(),
            released: Notify::new(),
            decompression: Arc::new(Semaphore::new(processors)),
        };
        Admission { inner: Arc::new(inner) }
    }

    /// Admits one message; None at the limit, or at the owner's half of it.
    pub fn admit(&self, owner: Option<Owner>) -> Option<Permit> {
        let mut permit = Permit { inner: self.inner.clone(), owner, share: Share::default() };
        permit.add(Share { messages: 1, bytes: 0 }, false).then_some(permit)
    }

    /// Waits until this many bytes of a message from a queue fit. Such messages are not counted in number, because the
    /// prefetch limits already bound it. A message larger than the queues' half fits once no other one is in flight.
    pub async fn admit_from_queue(&self, bytes: u64) -> Permit {
        let mut permit = Permit { inner: self.inner.clone(), owner: Some(Owner::Queues), share: Share::default() };
        loop {
            let mut released = std::pin::pin!(self.inner.released.notified());
            // Registered before the check, so that a release in between is not missed.
            released.as_mut().enable();
            if permit.add(Share { messages: 0, bytes }, true) {
                return permit;
            }
            released.await;
        }
    }

    /// The numbers of messages and bytes in flight now.
    pub fn in_flight(&self) -> (usize, u64) {
        let in_use = self.inner.in_use();
        (in_use.all.messages, in_use.all.bytes)
    }
}

impl Inner {
    fn in_use(&self) -> MutexGuard<'_, InUse> {
        // A panic of another holder cannot leave the sums half changed: all changes are a few additions.
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Counts more bytes for this message. Returns false, and counts nothing, at the limit or at the owner's half of it.
    pub fn grow(&mut self, bytes: u64) -> bool {
        self.add(Share { messages: 0, bytes }, false)
    }

    /// Waits until this message may be decompressed; the returned permit is held meanwhile. None only if the semaphore were
    /// closed, which it never is.
    pub async fn decompression(&self) -> Option<OwnedSemaphorePermit> {
        self.inner.decompression.clone().acquire_owned().await.ok()
    }

    /// Releases bytes that are no longer in memory.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.share.bytes);
        self.release(Share { messages: 0, bytes });
        self.share.bytes -= bytes;
    }

    /// The bytes counted for this message.
    pub fn bytes(&self) -> u64 {
        self.share.bytes
    }

    /// `if_alone`: no limit applies if the owner has no other bytes in flight.
    fn add(&mut self, more: Share, if_alone: bool) -> bool {
        let (limit_messages, limit_bytes) = (self.inner.limit_messages, self.inner.limit_bytes);
        let mut in_use = self.inner.in_use();
        let own = self.owner.as_ref().and_then(|owner| in_use.by_owner.get(owner)).copied().unwrap_or_default();
        let is_alone = if_alone && own.bytes == 0;
        let fits = |share: Share, messages: usize, bytes: u64| {
            share.messages + more.messages <= messages && share.bytes.saturating_add(more.bytes) <= bytes
        };
        let half_fits = self.owner.is_none() || fits(own, limit_messages.div_ceil(2), limit_bytes.div_ceil(2));
        let fits_all = half_fits && fits(in_use.all, limit_messages, limit_bytes);
        if !fits_all && !is_alone {
            return false;
        }
        let add = |share: &mut Share| {
            share.messages += more.messages;
            share.bytes = share.bytes.saturating_add(more.bytes);
        };
        add(&mut in_use.all);
        if let Some(owner) = &self.owner {
            add(in_use.by_owner.entry(owner.clone()).or_default());
        }
        drop(in_use);
        add(&mut self.share);
        true
    }

    fn release(&self, back: Share) {
        let subtract = |share: &mut Share| {
            share.messages -= back.messages;
            share.bytes -= back.bytes;
        };
        let mut in_use = self.inner.in_use();
        subtract(&mut in_use.all);
        if let Some(owner) = &self.owner
            && let Some(own) = in_use.by_owner.get_mut(owner)
        {
            subtract(own);
            if own.messages == 0 && own.bytes == 0 {
                in_use.by_owner.remove(owner);
            }
        }
        drop(in_use);
        self.inner.released.notify_waiters();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release(self.share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab() -> Option<Owner> {
        Some(Owner::Participant("lab".into()))
    }

    #[test]
    fn one_owner_gets_at_most_half_and_a_proxy_without_a_share_gets_everything() {
        let admission = Admission::new(4, 1000);
        let held: Vec<_> = (0..4).filter_map(|_| admission.admit(lab())).collect();
        assert_eq!(held.len(), 2);
        let peer = || Some(Owner::Peer([10, 0, 0, 7].into()));
        let others: Vec<_> = (0..4).filter_map(|_| admission.admit(peer())).collect();
        assert_eq!(others.len(), 2);
        drop((held, others));
        assert_eq!((0..5).filter_map(|_| admission.admit(None)).collect::<Vec<_>>().len(), 4);
        assert_eq!(admission.in_flight(), (0, 0));
        assert!(admission.inner.in_use().by_owner.is_empty());
    }

    #[test]
    fn a_limit_of_one_admits_one_although_its_half_is_less() {
        let admission = Admission::new(1, 2);
        assert!(admission.admit(lab()).is_some_and(|mut permit| permit.grow(1) && !permit.grow(1)));
    }

    #[test]
    fn bytes_are_bounded_overall_and_by_half_per_owner_and_released() {
        let admission = Admission::new(100, 1000);
        let (mut one, mut two) = (admission.admit(lab()).unwrap(), admission.admit(lab()).unwrap());
        assert!(one.grow(300) && two.grow(200));
        assert!(!one.grow(1), "more than half for one owner");
        let mut other = admission.admit(None).unwrap();
        assert!(other.grow(500) && !other.grow(1));
        two.shrink(100);
        assert_eq!((two.bytes(), admission.in_flight()), (100, (3, 900)));
        assert!(other.grow(100));
        two.shrink(5000);
        drop((one, other));
        assert_eq!(admission.in_flight(), (1, 0));
    }

    #[tokio::test]
    async fn a_message_from_a_queue_waits_and_a_large_one_is_admitted_alone() {
        let admission = Admission::new(100, 1000);
        let first = admission.admit_from_queue(400).await;
        let mut second = Box::pin(admission.admit_from_queue(4000));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        let second = second.await;
        assert_eq!(second.bytes(), 4000);
        let mut third = Box::pin(admission.admit_from_queue(1));
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        assert!(admission.admit(lab()).is_none(), "what queues permit counts for all");
        drop(second);
        assert_eq!(third.await.bytes(), 1);
    }
}
