//! What the courier reads from the store: lanes, their works, what expired. Behind a small trait, so that tests stand in.
//!
//! Reads run in tasks of their own and report back; the actor never waits for the store.

use super::lane::LANE_LIMIT_WORKS;
use crate::delivery::Work;
use crate::store::{Store, Unavailable};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Ordered lanes of one participant in memory.
pub(super) const LANES_LIMIT: usize = 10_000;
/// Lanes that one read of the list asks for.
pub(super) const LANES_PAGE: u32 = 256;
/// Works that one read of an ordered lane asks for.
pub(super) const LANE_PAGE: u32 = LANE_LIMIT_WORKS as u32;
/// Works that one read of the lane "no order" asks for.
pub(super) const FREE_PAGE: u32 = 256;
/// Deliveries that one sweep for expired ones asks for.
pub(super) const SWEEP_PAGE: u32 = 100;

/// The store, as far as the courier reads it. See `Store` for what each returns.
pub(super) trait Shelf: Send + Sync + 'static {
    fn lanes(
        &self,
        participant: Arc<str>,
        after: Option<i64>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<i64>, Unavailable>>;
    fn lane_work(
        &self,
        participant: Arc<str>,
        lane: i64,
        after_seq: i64,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Work>, Unavailable>>;
    fn expired(&self, now_us: i64, limit: u32) -> BoxFuture<'_, Result<Vec<Work>, Unavailable>>;
}

impl Shelf for Store {
    fn lanes(
        &self,
        participant: Arc<str>,
        after: Option<i64>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<i64>, Unavailable>> {
        Box::pin(async move { Store::lanes(self, &participant, after, limit).await })
    }

    fn lane_work(
        &self,
        participant: Arc<str>,
        lane: i64,
        after_seq: i64,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Work>, Unavailable>> {
        Box::pin(async move { Store::lane_work(self, &participant, lane, after_seq, limit).await })
    }

    fn expired(&self, now_us: i64, limit: u32) -> BoxFuture<'_, Result<Vec<Work>, Unavailable>> {
        Box::pin(async move { Store::expired(self, now_us, limit).await })
    }
}

/// A read that a desk asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Read {
    Lanes {
        after: Option<i64>,
    },
    /// `lane` 0 is the lane "no order".
    Works {
        lane: i64,
        after_seq: i64,
    },
}

/// What a read brought.
#[derive(Debug)]
pub(super) enum Page {
    Lanes(Vec<i64>),
    Works(Vec<Work>),
}

pub(super) async fn read(shelf: &dyn Shelf, participant: Arc<str>, read: Read) -> Result<Page, Unavailable> {
    match read {
        Read::Lanes { after } => shelf.lanes(participant, after, LANES_PAGE).await.map(Page::Lanes),
        Read::Works { lane, after_seq } => {
            shelf.lane_work(participant, lane, after_seq, page_of(lane)).await.map(Page::Works)
        }
    }
}

/// How many works a read of this lane asks for; fewer mean that there are no more.
pub(super) fn page_of(lane: i64) -> u32 {
    if lane == 0 { FREE_PAGE } else { LANE_PAGE }
}

/// How far the participant's lanes were listed. Lanes beyond the bound stay in the store until there is room again;
/// the list is then read on from where it stopped, and once more from the start when something was left out.
#[derive(Debug)]
pub(super) struct Listing {
    complete: bool,
    reading: bool,
    full: bool,
    after: Option<i64>,
    missed: bool,
}

impl Listing {
    pub fn unread() -> Self {
        Self { complete: false, reading: false, full: false, after: None, missed: false }
    }

    /// Memory knows every lane that has work.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// A lane was left to the store.
    pub fn miss(&mut self) {
        if self.complete {
            self.after = None;
        }
        self.complete = false;
        self.missed = true;
    }

    /// The next page to read, if one is wanted and there is room for it. From a full memory on, half must be free.
    pub fn next(&mut self, lanes_in_memory: usize) -> Option<Read> {
        if self.complete || self.reading {
            return None;
        }
        self.full = if self.full {
            lanes_in_memory >= LANES_LIMIT / 2
        } else {
            lanes_in_memory + LANES_PAGE as usize > LANES_LIMIT
        };
        if self.full {
            return None;
        }
        if self.after.is_none() {
            self.missed = false;
        }
        self.reading = true;
        Some(Read::Lanes { after: self.after })
    }

    /// A page came.
    pub fn end(&mut self, lanes: &[i64]) {
        self.reading = false;
        if lanes.len() < LANES_PAGE as usize {
            self.complete = !self.missed;
            self.after = None;
        } else {
            self.after = lanes.last().copied();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_listed_page_by_page_and_again_when_one_was_left_out() {
        let page: Vec<i64> = (0..i64::from(LANES_PAGE)).collect();
        let mut listing = Listing::unread();
        assert_eq!(listing.next(0), Some(Read::Lanes { after: None }));
        assert_eq!(listing.next(0), None, "one read at a time");
        listing.end(&page);
        assert_eq!(listing.next(256), Some(Read::Lanes { after: Some(255) }));
        listing.miss();
        listing.end(&[]);
        assert!(!listing.is_complete());
        assert_eq!(listing.next(256), Some(Read::Lanes { after: None }));
        listing.end(&[]);
        assert!(listing.is_complete());
    }

    #[test]
    fn a_full_memory_lists_on_only_when_half_is_free() {
        let mut listing = Listing::unread();
        assert_eq!(listing.next(LANES_LIMIT), None);
        assert_eq!(listing.next(LANES_LIMIT / 2), None);
        assert!(listing.next(LANES_LIMIT / 2 - 1).is_some());
    }
}
