//! The types that store, courier, channels, and exchange share: metadata of messages, deliveries, attempts, and settlements.
//!
//! Only data and pure rules: storing, delivering, and settling are done elsewhere.

mod accept;
mod attempt;
mod metadata;
mod settlement;

pub use accept::{Acceptance, Further, NewDelivery, NewMessage};
pub use attempt::{Attempt, AttemptResult, FAILED_PROBE, NextStep, PendingDelivery, longest_pause, retry_after};
pub use metadata::{Metadata, ReplyQueue, ReplyTo, RequestFormat, ResponseMetadata};
pub use settlement::{AttemptRow, HeldLease, Settled, Settlement};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageState {
    Accepted,
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    Waiting,
    Active,
    Delivered,
    Answered,
    Dead,
    Discarded,
}

impl DeliveryState {
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Active, Self::Delivered, Self::Answered, Self::Dead, Self::Discarded];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Active => "active",
            Self::Delivered => "delivered",
            Self::Answered => "answered",
            Self::Dead => "dead",
            Self::Discarded => "discarded",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Why a delivery is made, and where it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DeliveryKind {
    /// A request (or an unmatched response) to a receiver of the plan.
    Request,
    /// An answer to the channel of the requester.
    Answer,
    /// An answer to a `response-url`.
    Callback { url: String },
    /// An answer to a sender's reply queue, or to its channel if the queue no longer exists.
    Reply(ReplyQueue),
    /// A stored message, delivered again at an operator's request; `of` is the original delivery, if there was one.
    Replay { replay: Uuid, of: Option<Uuid>, forward_answers: bool },
}

impl DeliveryKind {
    /// Whether it is delivered without the participant's channel: to a callback URL or a reply queue.
    pub fn bypasses_channel(&self) -> bool {
        match self {
            Self::Callback { .. } => true,
            Self::Reply(reply) => reply.queue.is_some(),
            Self::Request | Self::Answer | Self::Replay { .. } => false,
        }
    }
}
