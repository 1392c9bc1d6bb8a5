//! What a batch decides about a message: new, duplicate, or conflict; and, for an answer, its rank among the answers to its
//! delivery (MSG-60 to MSG-70).

use super::batch::{Batch, MessageRef};
use super::prepare::Prepared;
use super::rows::{self, ResponseLink};
use crate::delivery::{Acceptance, DeliveryKind, DeliveryState, MessageState, Metadata, NewDelivery, PendingDelivery};
use crate::fault::Fault;
use crate::nodes::NodeKey;
use fhir::event::ResponseCode;
use fhir::identity::Verdict;
use std::sync::Arc;

/// How long a node has to give an answer to a sender that waits on it, in microseconds. After that the answer takes its return route.
const HANDOVER_US: i64 = 5_000_000;

/// An answer after it was linked to its delivery.
pub(super) struct LinkedAnswer {
    pub answer: MessageRef,
    pub first: bool,
    /// It was stored before, with the same content.
    pub is_duplicate: bool,
    /// Deliveries of the answer itself.
    pub pending: Vec<PendingDelivery>,
    /// Other nodes on which senders wait for it.
    pub woken: Vec<NodeKey>,
}

/// The rank of an answer among the answers to its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnswerRank {
    /// It closes the delivery.
    First,
    /// The receiver answered before, with other content.
    Further,
    /// The receiver gave the same answer before.
    Duplicate,
}

impl Batch {
    pub fn accept(&mut self, message: &Prepared) -> Acceptance {
        if let Some((key, message_id)) = message.assigns
            && !self.ambiguous.remove(&key)
        {
            return Acceptance::Conflict { message_id };
        }
        if message.state == MessageState::Refused {
            return self.refuse(message);
        }
        if let Some(delivery_key) = message.closes {
            return self.close(message, delivery_key);
        }
        match self.verdict(message) {
            Verdict::Duplicate((_, message_id)) => Acceptance::Duplicate { message_id },
            // A requester waits for this answer: it must not be lost because its receiver reuses ids.
            Verdict::Conflict(_) if message.metadata.ambiguous => self.insert_new(message, false),
            Verdict::Conflict((_, message_id)) => Acceptance::Conflict { message_id },
            Verdict::New => self.insert_new(message, true),
        }
    }

    /// `has_identity`: whether a later copy is recognized as its duplicate.
    fn insert_new(&mut self, message: &Prepared, has_identity: bool) -> Acceptance {
        let flags = if message.metadata.ambiguous { rows::AMBIGUOUS } else { 0 };
        let (message_key, pending) = self.insert(message, has_identity, flags);
        let awaited = message.deliveries.iter().zip(&pending).find(|(new, _)| new.is_awaited);
        let awaited = awaited.map(|(_, pending)| pending.delivery_key);
        Acceptance::New { message_key, deliveries: pending, first_answer: false, woken: Vec::new(), awaited }
    }

    /// A refusal is never a duplicate. If it was meant to answer a delivery that has no answer yet, the delivery gets its fault.
    fn refuse(&mut self, message: &Prepared) -> Acceptance {
        let open =
            message.closes.and_then(|key| self.deliveries.get_mut(&key)).filter(|delivery| delivery.answer.is_none());
        if let Some(delivery) = open {
            delivery.fault = Some(Fault::RecvBadAnswer);
            delivery.changed = true;
        }
        self.insert_new(message, false)
    }

    /// A response that arrived on its own and answers a delivery. A duplicate that still becomes the first answer counts as
    /// new, under the key of the stored message.
    fn close(&mut self, message: &Prepared, delivery_key: i64) -> Acceptance {
        let linked = self.link(message, delivery_key);
        match linked {
            LinkedAnswer { answer: (_, message_id), first: false, is_duplicate: true, pending, .. }
                if pending.is_empty() =>
            {
                Acceptance::Duplicate { message_id }
            }
            LinkedAnswer { answer: (message_key, _), first, pending, woken, .. } => {
                Acceptance::New { message_key, deliveries: pending, first_answer: first, woken, awaited: None }
            }
        }
    }

    /// Stores an answer and links it to its delivery. Other content under a known identity is stored without an identity of
    /// its own: the answer must not be lost because its receiver reuses ids.
    pub fn link(&mut self, message: &Prepared, delivery_key: i64) -> LinkedAnswer {
        let mut metadata = message.metadata.clone();
        if let Some(delivery) = self.deliveries.get(&delivery_key)
            && metadata.in_reply_to.is_none()
        {
            Arc::make_mut(&mut metadata).in_reply_to = Some(delivery.message_id);
        }
        let verdict = message.assigns.map_or_else(|| self.verdict(message), Verdict::Duplicate);
        let rank = self.rank(message, verdict, delivery_key);
        let (sha256, releases) = (message.identity.response_content, message.releases_request);
        let transient = code(&message.metadata) == Some(ResponseCode::TransientError);
        let flags = if rank == AnswerRank::Further && message.further.is_some() { rows::FURTHER } else { 0 };
        let first = rank == AnswerRank::First;
        let woken = if first { self.end_waits(delivery_key) } else { Vec::new() };
        let delayed = self.delayed(&message.deliveries, &woken);
        let deliveries = match (rank, &message.further) {
            (AnswerRank::First, _) => delayed.as_deref().unwrap_or(&message.deliveries),
            (AnswerRank::Further, Some(further)) if !is_reused(verdict) => further.delivery.as_slice(),
            (AnswerRank::Further | AnswerRank::Duplicate, _) => &[],
        };
        let linked = match verdict {
            Verdict::Duplicate(answer) => {
                let pending = self.link_stored(message, &metadata, deliveries, answer, flags);
                LinkedAnswer { answer, first, is_duplicate: true, pending, woken }
            }
            verdict => {
                let message_id = message.metadata.id;
                let has_identity = matches!(verdict, Verdict::New);
                let (message_key, pending) = self.insert_with(message, &metadata, deliveries, has_identity, flags);
                LinkedAnswer { answer: (message_key, message_id), first, is_duplicate: false, pending, woken }
            }
        };
        let (now_us, answer_key) = (self.now_us, linked.answer.0);
        let Some(delivery) = self.deliveries.get_mut(&delivery_key) else { return linked };
        if rank != AnswerRank::Duplicate {
            delivery.answers.push((answer_key, sha256));
        }
        if first {
            delivery.answer = Some(answer_key);
            delivery.transient = transient;
            delivery.state = DeliveryState::Answered;
            delivery.fault = None;
            delivery.ended_us = Some(now_us);
            delivery.changed = true;
            if releases {
                self.released.insert(delivery.message_key);
            }
        }
        linked
    }

    /// The deliveries of an answer for which senders wait on the nodes `woken`: that to the sender's channel waits until a sender has
    /// the answer, and goes out if none gets it. None: nothing changes.
    fn delayed(&self, deliveries: &[NewDelivery], woken: &[NodeKey]) -> Option<Vec<NewDelivery>> {
        let due_at_us = self.now_us.saturating_add(HANDOVER_US);
        let delay = |delivery: &NewDelivery| match delivery.kind {
            DeliveryKind::Answer => NewDelivery { due_at_us, ..delivery.clone() },
            _ => delivery.clone(),
        };
        (!woken.is_empty() && !deliveries.is_empty()).then(|| deliveries.iter().map(delay).collect())
    }

    /// After a transient-error, the next answer counts as the first.
    fn rank(&self, message: &Prepared, verdict: Verdict<MessageRef>, delivery_key: i64) -> AnswerRank {
        let Some(delivery) = self.deliveries.get(&delivery_key) else { return AnswerRank::Duplicate };
        let is_same = |(key, sha256): &(i64, Option<[u8; 32]>)| {
            matches!(verdict, Verdict::Duplicate((known, _)) if known == *key)
                || sha256.is_some() && *sha256 == message.identity.response_content
        };
        match delivery.answer {
            None => AnswerRank::First,
            Some(_) if delivery.answers.iter().any(is_same) => AnswerRank::Duplicate,
            Some(_) if delivery.transient => AnswerRank::First,
            Some(_) => AnswerRank::Further,
        }
    }

    /// Links a stored response to the request that it answers, and adds its deliveries. If it had no request so far, its
    /// metadata gets what is needed to convert it for its requester.
    fn link_stored(
        &mut self,
        message: &Prepared,
        metadata: &Metadata,
        deliveries: &[NewDelivery],
        answer: MessageRef,
        flags: i64,
    ) -> Vec<PendingDelivery> {
        let metadata = Metadata { id: answer.1, ..metadata.clone() };
        let stored = match message.assigns {
            Some(_) => Some(Metadata { ambiguous: false, ..metadata.clone() }),
            None => self.candidate(answer.0).filter(|known| known.in_reply_to.is_none()).map(|known| Metadata {
                in_reply_to: metadata.in_reply_to,
                request_format: metadata.request_format.clone(),
                ..(**known).clone()
            }),
        };
        if let Some(request) = metadata.in_reply_to.filter(|_| stored.is_some() || flags != 0) {
            // Metadata that was read can be serialized again.
            let metadata_json = stored.and_then(|stored| serde_json::to_string(&stored).ok());
            self.rows.linked_responses.push(ResponseLink { message_key: answer.0, request, flags, metadata_json });
        }
        self.deliver(answer.0, &Arc::new(metadata), &message.plain, deliveries)
    }
}

/// Whether the identity of an answer was used for other content before.
fn is_reused(verdict: Verdict<MessageRef>) -> bool {
    matches!(verdict, Verdict::Conflict(_))
}

fn code(metadata: &Metadata) -> Option<ResponseCode> {
    metadata.response.as_ref().and_then(|response| response.code)
}
