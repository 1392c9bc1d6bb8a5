//! The senders and receivers: what they send, when they send again, and what they have received.

use crate::delivery::{DeliveryKind, Metadata, NewDelivery, NewMessage, PendingDelivery, ReplyTo, ResponseMetadata};
use crate::routing::Participant;
use bytes::Bytes;
use fhir::event::{Identifier, ResponseCode};
use fhir::identity::{IdentityKeys, KeyKind};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Participants that receive requests, and those that send them. The first of them has no channel.
pub const RECEIVERS: [&str; 3] = ["lab", "registry", "archive"];
pub const SENDERS: [&str; 2] = ["ward", "clinic"];

pub fn participants() -> Vec<&'static str> {
    RECEIVERS.iter().chain(&SENDERS).copied().collect()
}

/// Whether answers to this sender can be delivered.
pub fn has_channel(sender: &str) -> bool {
    sender != SENDERS[0]
}

pub fn participant(id: &str) -> Participant {
    crate::testing::participant(id, 4)
}

/// A message that a sender wants to get through.
pub struct Request {
    pub number: usize,
    pub sender: &'static str,
    pub receiver: &'static str,
    /// 0: without order.
    pub lane: i64,
    /// How many copies were sent.
    pub sent: usize,
    /// Requests on their way to a node, or waiting there.
    pub open: usize,
    /// A 2xx came back.
    pub acknowledged: bool,
    /// Ids of answers that came as replies.
    pub on_the_line: Vec<Uuid>,
    /// Ids of answers that were delivered to the sender's channel.
    pub delivered: Vec<Uuid>,
    /// Copies that must be sent again, because no reply came.
    pub to_send: usize,
}

impl Request {
    pub fn bundle_id(&self) -> String {
        format!("bundle-{}", self.number)
    }

    /// A copy of the message as a node reads it.
    pub fn message(&self, id: Uuid, now_us: i64) -> NewMessage {
        let bundle_id = self.bundle_id();
        let metadata = Metadata {
            header_id: Some(format!("header-{}", self.number)),
            bundle_id: Some(bundle_id.clone()),
            reply_to: ReplyTo::Wait,
            ..Metadata::new(id, self.sender, "application/fhir+json", now_us)
        };
        let delivery = delivery(self.receiver, self.lane, DeliveryKind::Request, now_us);
        let delivery = NewDelivery { is_awaited: true, ..delivery };
        NewMessage { deliveries: vec![delivery], ..new_message(metadata, (KeyKind::BundleId, bundle_id), self.number) }
    }
}

/// The answer of a receiver to a request. The same bytes each time.
pub fn answer(request: &PendingDelivery, now_us: i64) -> NewMessage {
    let bundle_id = format!("answer-to-{}", request.metadata.bundle_id.clone().unwrap_or_default());
    let number = bundle_id.bytes().fold(7, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let identifier = Identifier { system: None, value: request.metadata.header_id.clone().unwrap_or_default() };
    let metadata = Metadata {
        bundle_id: Some(bundle_id.clone()),
        reply_to: ReplyTo::Nobody,
        response: Some(ResponseMetadata { identifier, code: Some(ResponseCode::Ok) }),
        in_reply_to: Some(request.metadata.id),
        ..Metadata::new(new_id(), &*request.participant, "application/fhir+json", now_us)
    };
    new_message(metadata, (KeyKind::BundleId, bundle_id), number)
}

/// The delivery of an answer to the channel of a sender.
pub fn return_delivery(sender: &str, now_us: i64) -> NewDelivery {
    delivery(sender, 1, DeliveryKind::Answer, now_us)
}

fn delivery(participant: &str, lane: i64, kind: DeliveryKind, now_us: i64) -> NewDelivery {
    NewDelivery {
        id: new_id(),
        participant: participant.into(),
        destination: None,
        lane,
        kind,
        due_at_us: 0,
        expires_at_us: now_us + 86_400_000_000,
        is_awaited: false,
    }
}

fn new_message(metadata: Metadata, identity: (KeyKind, String), number: usize) -> NewMessage {
    let mut content = [0; 32];
    content[..8].copy_from_slice(&number.to_be_bytes());
    NewMessage {
        identity: IdentityKeys {
            transmission: Some(identity.clone()),
            message: Some(identity),
            strict: false,
            content,
            response_content: Some(content).filter(|_| metadata.response.is_some()),
        },
        metadata,
        state: crate::delivery::MessageState::Accepted,
        bytes: Bytes::from_static(b"{}"),
        outcome: None,
        deliveries: Vec::new(),
        answer: None,
        closes: None,
        further: None,
        assigns: None,
        releases_request: false,
    }
}

pub fn new_id() -> Uuid {
    Uuid::new_v4()
}

/// What the receivers have got.
#[derive(Default)]
pub struct Arrivals {
    /// Bundle ids with the number of arrivals; only the first is processed.
    pub requests: BTreeMap<String, usize>,
    /// The deliveries that arrived at least once.
    pub deliveries: BTreeMap<i64, usize>,
}
