//! Replays.

use crate::replay::Count;
use crate::store::view::{MessageFilter, ReplayState, ReplayView};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A replay and its progress.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Replay {
    pub id: Uuid,
    pub filter: MessageFilter,
    pub to: Option<String>,
    pub rate_per_second: Option<u32>,
    pub forward_answers: bool,
    pub force_consequence: bool,
    pub state: ReplayState,
    pub created_at_us: i64,
    pub total: u64,
    pub done: u64,
    pub skipped: u64,
}

impl From<ReplayView> for Replay {
    fn from(view: ReplayView) -> Replay {
        let ReplayView { order, state, created_at_us, total, done, skipped } = view;
        Replay {
            id: order.id,
            filter: order.filter,
            to: order.to,
            rate_per_second: order.rate_per_second,
            forward_answers: order.forward_answers,
            force_consequence: order.force_consequence,
            state,
            created_at_us,
            total,
            done,
            skipped,
        }
    }
}

/// What a replay would deliver.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplayCount {
    /// Messages that match.
    pub matched: u64,
    /// Of those examined: messages of category consequence.
    pub consequence: u64,
    /// Of those examined: messages whose body retention removed.
    pub without_body: u64,
    /// How many were examined one by one, at most 50,000.
    pub examined: u64,
}

impl From<Count> for ReplayCount {
    fn from(count: Count) -> ReplayCount {
        let Count { matched, consequence, without_body, examined } = count;
        ReplayCount { matched, consequence, without_body, examined }
    }
}
