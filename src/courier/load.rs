//! What the courier reads from the store: lanes, their works, what comes due, what expired. Behind a small trait, so that
//! tests stand in.
//!
//! Reads run in tasks of their own and report back; the actor never waits for the store.

use super::lane::LANE_LIMIT_WORKS;
use crate::delivery::PendingDelivery;
use crate::store::{DuePage, LaneHead, Store, Unavailable};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Lanes that one read of the list, or of those that are due, asks for.
pub(super) const LANES_PAGE: u32 = 256;
/// Works that one read of an ordered lane asks for.
pub(super) const LANE_PAGE: u32 = LANE_LIMIT_WORKS as u32;
/// Works that one read of the lane "no order" asks for.
pub(super) const FREE_PAGE: u32 = 256;
/// Deliveries that one sweep for expired ones asks for.
pub(super) const SWEEP_PAGE: u32 = 100;

/// Desk and number, so that a page that was asked for by another desk, or before a reload, is known as such.
pub(super) type ReadId = (u64, u64);

/// A read that a desk asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Read {
    pub id: ReadId,
    pub what: What,
    /// Only what goes its own way, whatever channel the participant has.
    pub bypassing_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum What {
    /// Lanes with work and their heads.
    Lanes { after: Option<i64> },
    /// Works of one lane.
    Lane { lane: i64, after_seq: i64 },
    /// Works without order that are due now, whatever the clock says.
    Free { after_seq: i64 },
    /// Lanes in which something came due: after this time and `seq`, up to a time.
    DueLanes { after: (i64, i64), through_us: i64 },
    /// Works without order that came due.
    DueFree { after: (i64, i64), through_us: i64 },
}

/// What a read brought.
#[derive(Debug)]
pub(super) enum Page {
    Lanes(Vec<LaneHead>),
    Works(Vec<PendingDelivery>),
    DueLanes(DuePage<LaneHead>),
    DueFree(DuePage<PendingDelivery>),
}

pub(super) type Paged<'s> = BoxFuture<'s, Result<Page, Unavailable>>;

/// The store, as far as the courier reads it. See `Store` for what each returns.
pub(super) trait Shelf: Send + Sync + 'static {
    fn read(&self, participant: Arc<str>, read: Read) -> Paged<'_>;
    fn expired(&self, now_us: i64, limit: u32) -> BoxFuture<'_, Result<Vec<PendingDelivery>, Unavailable>>;
}

impl Shelf for Store {
    fn read(&self, participant: Arc<str>, read: Read) -> Paged<'_> {
        Box::pin(async move {
            let own = read.bypassing_only;
            Ok(match read.what {
                What::Lanes { after } => Page::Lanes(self.lanes(&participant, after, own, LANES_PAGE).await?),
                What::Lane { lane, after_seq } => {
                    Page::Works(self.lane_work(&participant, lane, after_seq, own, LANE_PAGE).await?)
                }
                What::Free { after_seq } => {
                    Page::Works(self.lane_work(&participant, 0, after_seq, own, FREE_PAGE).await?)
                }
                What::DueLanes { after, through_us } => {
                    Page::DueLanes(self.due_lanes(&participant, after, through_us, own, LANES_PAGE).await?)
                }
                What::DueFree { after, through_us } => {
                    Page::DueFree(self.due_work(&participant, after, through_us, own, FREE_PAGE).await?)
                }
            })
        })
    }

    fn expired(&self, now_us: i64, limit: u32) -> BoxFuture<'_, Result<Vec<PendingDelivery>, Unavailable>> {
        Box::pin(async move { Store::expired(self, now_us, limit).await })
    }
}
