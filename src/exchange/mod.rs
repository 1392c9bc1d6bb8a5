//! The path of a message: check, plan, store, then answer or wait.
//!
//! `Exchange::accept` is the page to read first: every message that a channel receives, request or response, takes this path.
//! `Intake` brings a message into the store, `Settler` interprets what receivers answer, and `Replies` decides what the
//! sender gets. None of them knows HTTP or SQL.

mod answer_writer;
mod explain;
#[cfg(test)]
pub(crate) mod fixture;
mod input;
mod intake;
mod operations;
pub(crate) mod replies;
mod return_route;
mod settlement;
#[cfg(test)]
mod waiting_tests;

pub use explain::Explanation;
pub use input::{AnswerMode, Inbound, IntakeSlot, Rules, Settings};
pub use replies::{Refusal, Reply, StatusPage, custody_outcome};
pub use settlement::{Settler, Unassigned};

use crate::clock::Clock;
use crate::courier::Handle;
use crate::delivery::Acceptance;
use crate::metrics::Metrics;
use crate::store::Store;
use arc_swap::ArcSwap;
use bytes::Bytes;
use intake::{CheckedMessage, Intake, reused_identity};
use replies::Replies;
use std::sync::Arc;

pub struct Exchange {
    pub store: Store,
    pub courier: Handle,
    pub rules: Arc<ArcSwap<Rules>>,
    pub clock: Clock,
    pub metrics: Metrics,
    pub settings: Arc<Settings>,
    pub settler: Arc<Settler>,
    intake: Arc<Intake>,
    replies: Arc<Replies>,
}

impl Exchange {
    /// Takes a message all the way. A reply that confirms receipt is returned only after the transaction that stores the
    /// message has committed; refused messages are stored, too, with the reasons. The slot is released before waiting for
    /// an answer. Rare branches are boxed to keep the common future small.
    pub async fn accept(&self, mut inbound: Inbound, slot: IntakeSlot) -> Reply {
        let size_bytes = inbound.bytes.len();
        let rules = self.rules.load_full();
        let reply = match self.intake.check(&inbound, &rules) {
            Ok(message) if message.is_response() => Box::pin(self.settler.take_response(message, &rules, slot)).await,
            Ok(message) => self.take_request(message, &mut inbound, &rules, slot).await,
            Err(refused) => Box::pin(self.settler.refuse(*refused, &inbound, &rules, slot)).await,
        };
        self.record(&reply, size_bytes, inbound.received_at_us);
        reply
    }

    async fn take_request(
        &self,
        message: CheckedMessage,
        inbound: &mut Inbound,
        rules: &Rules,
        slot: IntakeSlot,
    ) -> Reply {
        let mut new = match self.intake.plan_request(&message, inbound, rules) {
            Ok(new) => new,
            Err(refused) => return Box::pin(self.intake.refuse(*refused, None, rules, slot)).await,
        };
        let id = new.metadata.id;
        // Before the message is stored: an answer that arrives right afterwards must find its sender waiting.
        let expected = self.replies.expect(&mut new, rules);
        let stored = self.intake.store(new, slot).await;
        if let Ok(Acceptance::Conflict { message_id }) = stored {
            let refused = message.refused(Refusal::Conflict, reused_identity(message_id));
            return Box::pin(self.intake.refuse(*refused, None, rules, IntakeSlot::default())).await;
        }
        // Many senders may wait for a long time, so neither tree nor body stays in memory meanwhile.
        drop(message);
        inbound.bytes = Bytes::new();
        match stored {
            Ok(Acceptance::Duplicate { message_id }) => {
                drop(expected);
                Box::pin(self.replies.to_duplicate(message_id, inbound)).await
            }
            Ok(stored) => expected.reply(&self.replies, stored.awaited(), &inbound.gone).await,
            Err(unavailable) => Reply::unavailable(id, &unavailable),
        }
    }
}
