//! What the courier reads from the store: lanes, their deliveries, what came due, what expired. A small trait, so that
//! tests can replace the store.
//!
//! Reads run in tasks of their own and report back, so that the actor never waits for the store.

use crate::delivery::PendingDelivery;
use crate::store::{DuePage, LaneHead, Store, Unavailable};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Lanes per page, of the list of lanes and of those that came due.
pub(super) const LANES_PAGE: u32 = 256;
/// Deliveries per page of an ordered lane.
pub(super) const LANE_PAGE: u32 = 64;
/// Deliveries per page of those without order.
pub(super) const UNORDERED_PAGE: u32 = 256;
/// Expired deliveries per page.
pub(super) const SWEEP_PAGE: u32 = 100;

/// Queue id and read number. A page that another queue asked for, or that was asked for before a reload, is recognized
/// by it.
pub(super) type ReadId = (u64, u64);

/// A read that a queue asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Read {
    pub id: ReadId,
    pub query: Query,
    /// Only deliveries that bypass the participant's channel (callbacks and replies).
    pub bypassing_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Query {
    /// Lanes with waiting deliveries, and the first delivery of each.
    Lanes { after: Option<i64> },
    /// Deliveries of one lane.
    Lane { lane: i64, after_seq: i64 },
    /// Deliveries without order that are due, whatever the clock says.
    Unordered { after_seq: i64 },
    /// Lanes whose first delivery came due: after this (time, `seq`), up to a time.
    DueLanes { after: (i64, i64), through_us: i64 },
    /// Deliveries without order that came due.
    DueUnordered { after: (i64, i64), through_us: i64 },
}

/// The result of a read.
#[derive(Debug)]
pub(super) enum Page {
    Lanes(Vec<LaneHead>),
    Deliveries(Vec<PendingDelivery>),
    DueLanes(DuePage<LaneHead>),
    DueUnordered(DuePage<PendingDelivery>),
}

pub(super) type Paged<'s> = BoxFuture<'s, Result<Page, Unavailable>>;

/// The store, as far as the courier reads it. See `Store` for what each returns.
pub(super) trait BacklogSource: Send + Sync + 'static {
    fn read(&self, participant: Arc<str>, read: Read) -> Paged<'_>;
    fn expired(&self, now_us: i64, limit: u32) -> BoxFuture<'_, Result<Vec<PendingDelivery>, Unavailable>>;
}

impl BacklogSource for Store {
    fn read(&self, participant: Arc<str>, read: Read) -> Paged<'_> {
        Box::pin(async move {
            let own = read.bypassing_only;
            Ok(match read.query {
                Query::Lanes { after } => Page::Lanes(self.lanes(&participant, after, own, LANES_PAGE).await?),
                Query::Lane { lane, after_seq } => {
                    Page::Deliveries(self.lane_deliveries(&participant, lane, after_seq, own, LANE_PAGE).await?)
                }
                Query::Unordered { after_seq } => {
                    Page::Deliveries(self.lane_deliveries(&participant, 0, after_seq, own, UNORDERED_PAGE).await?)
                }
                Query::DueLanes { after, through_us } => {
                    Page::DueLanes(self.due_lanes(&participant, after, through_us, own, LANES_PAGE).await?)
                }
                Query::DueUnordered { after, through_us } => {
                    Page::DueUnordered(self.due_unordered(&participant, after, through_us, own, UNORDERED_PAGE).await?)
                }
            })
        })
    }

    fn expired(&self, now_us: i64, limit: u32) -> BoxFuture<'_, Result<Vec<PendingDelivery>, Unavailable>> {
        Box::pin(async move { Store::expired(self, now_us, limit).await })
    }
}
