//! Keeping a message, or recognizing a repeat (MSG-60 to MSG-70).

use super::batch::{Batch, Kin};
use super::insert::TiedRow;
use super::prepare::Prepared;
use super::row;
use crate::delivery::{Acceptance, DeliveryState, MessageState, Metadata, PendingDelivery};
use crate::fault::Fault;
use fhir::event::ResponseCode;
use fhir::identity::Verdict;
use std::sync::Arc;

/// How an answer came to its delivery.
pub(super) struct Linked {
    pub answer: Kin,
    pub first: bool,
    /// It was kept before, with the same content.
    pub repeat: bool,
    pub work: Vec<PendingDelivery>,
}

/// What an answer is among those of its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It closes the delivery.
    First,
    /// Its receiver says something else than before.
    Further,
    /// Its receiver says the same again.
    Again,
}

impl Batch<'_> {
    pub fn accept(&mut self, message: Prepared) -> Acceptance {
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
        match self.verdict(&message) {
            Verdict::Duplicate((_, message_id)) => Acceptance::Duplicate { message_id },
            // Somebody waits for what it says: a receiver that reuses its ids must not lose its answer.
            Verdict::Conflict(_) if message.metadata.ambiguous => self.add(message, false),
            Verdict::Conflict((_, message_id)) => Acceptance::Conflict { message_id },
            Verdict::New => self.add(message, true),
        }
    }

    fn add(&mut self, message: Prepared, remembered: bool) -> Acceptance {
        let flags = if message.metadata.ambiguous { row::AMBIGUOUS } else { 0 };
        let (message_key, work) = self.insert(message, remembered, flags);
        Acceptance::New { message_key, work, first_answer: false }
    }

    /// A refusal is never a repeat. One that was meant to answer a delivery stands with it, until there is an answer.
    fn refuse(&mut self, message: Prepared) -> Acceptance {
        let open = message.closes.and_then(|key| self.deliveries.get_mut(&key)).filter(|now| now.answer.is_none());
        if let Some(now) = open {
            now.fault = Some(Fault::RecvBadAnswer);
            now.changed = true;
        }
        self.add(message, false)
    }

    /// A response from outside that answers a delivery. A repeat that still becomes the first answer counts as new, under
    /// the key of the message that was kept.
    fn close(&mut self, message: Prepared, delivery_key: i64) -> Acceptance {
        let linked = self.link(message, delivery_key);
        match linked {
            Linked { answer: (_, message_id), first: false, repeat: true, work } if work.is_empty() => {
                Acceptance::Duplicate { message_id }
            }
            Linked { answer: (message_key, _), first, work, .. } => {
                Acceptance::New { message_key, work, first_answer: first }
            }
        }
    }

    /// Keeps an answer and links it to its delivery. A receiver that reuses its ids must not lose its answer: other content
    /// under a known identity is kept without an identity of its own.
    pub fn link(&mut self, mut message: Prepared, delivery_key: i64) -> Linked {
        if let Some(now) = self.deliveries.get(&delivery_key) {
            Arc::make_mut(&mut message.metadata).in_reply_to.get_or_insert(now.message_id);
        }
        let verdict = message.assigns.map_or_else(|| self.verdict(&message), Verdict::Duplicate);
        let place = self.place(&message, verdict, delivery_key);
        let (said, releases) = (message.identity.said, message.releases_request);
        let transient = code(&message.metadata) == Some(ResponseCode::TransientError);
        let further = message.further.take();
        let flags = if place == Place::Further && further.is_some() { row::FURTHER } else { 0 };
        message.deliveries = match place {
            Place::First => std::mem::take(&mut message.deliveries),
            Place::Further if !is_reused(verdict) => further.and_then(|further| further.delivery).into_iter().collect(),
            Place::Further | Place::Again => Vec::new(),
        };
        let first = place == Place::First;
        let linked = match verdict {
            Verdict::Duplicate(answer) => {
                let work = self.tie(&mut message, answer, flags);
                Linked { answer, first, repeat: true, work }
            }
            verdict => {
                let message_id = message.metadata.id;
                let remembered = matches!(verdict, Verdict::New);
                let (message_key, work) = self.insert(message, remembered, flags);
                Linked { answer: (message_key, message_id), first, repeat: false, work }
            }
        };
        let (now_us, answer_key) = (self.now_us, linked.answer.0);
        let Some(now) = self.deliveries.get_mut(&delivery_key) else { return linked };
        if place != Place::Again {
            now.said.push((answer_key, said));
        }
        if first {
            now.answer = Some(answer_key);
            now.transient = transient;
            now.state = DeliveryState::Answered;
            now.fault = None;
            now.ended_us = Some(now_us);
            now.changed = true;
            if releases {
                self.released.insert(now.message_key);
            }
        }
        linked
    }

    /// After a transient-error, the next answer counts as the first.
    fn place(&self, message: &Prepared, verdict: Verdict<Kin>, delivery_key: i64) -> Place {
        let Some(now) = self.deliveries.get(&delivery_key) else { return Place::Again };
        let is_same = |(key, said): &(i64, Option<[u8; 32]>)| {
            matches!(verdict, Verdict::Duplicate((known, _)) if known == *key)
                || said.is_some() && *said == message.identity.said
        };
        match now.answer {
            None => Place::First,
            Some(_) if now.said.iter().any(is_same) => Place::Again,
            Some(_) if now.transient => Place::First,
            Some(_) => Place::Further,
        }
    }

    /// Ties a response that is stored already to the request that it answers, and gives it its deliveries. Where it had no
    /// request so far, its metadata get what is needed to tell it to its requester.
    fn tie(&mut self, message: &mut Prepared, answer: Kin, flags: i64) -> Vec<PendingDelivery> {
        let deliveries = std::mem::take(&mut message.deliveries);
        let tied = Arc::make_mut(&mut message.metadata);
        tied.id = answer.1;
        let stored = match message.assigns {
            Some(_) => Some(Metadata { ambiguous: false, ..tied.clone() }),
            None => self.candidate(answer.0).filter(|known| known.in_reply_to.is_none()).map(|known| Metadata {
                in_reply_to: tied.in_reply_to,
                request_format: tied.request_format.clone(),
                ..(**known).clone()
            }),
        };
        if let Some(request) = tied.in_reply_to.filter(|_| stored.is_some() || flags != 0) {
            // Metadata that were read can be written.
            let metadata_json = stored.and_then(|metadata| serde_json::to_string(&metadata).ok());
            self.rows.tied.push(TiedRow { message_key: answer.0, request, flags, metadata_json });
        }
        let metadata = message.metadata.clone();
        self.deliver(answer.0, &metadata, &message.plain, deliveries)
    }
}

/// Whether the identity of an answer was used for something else: then it is no answer of its own.
fn is_reused(verdict: Verdict<Kin>) -> bool {
    matches!(verdict, Verdict::Conflict(_))
}

fn code(metadata: &Metadata) -> Option<ResponseCode> {
    metadata.response.as_ref().and_then(|response| response.code)
}
