//! Keeping a message, or recognizing a repeat (MSG-60 to MSG-70).

use super::batch::{Batch, Kin};
use super::prepare::Prepared;
use crate::delivery::{DeliveryState, Kept, Work};
use crate::fhir::identity::Verdict;
use std::sync::Arc;

/// How an answer came to its delivery.
pub(super) struct Linked {
    pub answer: Kin,
    pub first: bool,
    /// It was kept before, with the same content.
    pub repeat: bool,
    pub work: Vec<Work>,
}

impl Batch<'_> {
    pub fn accept(&mut self, message: Prepared) -> Kept {
        if let Some(delivery_key) = message.closes {
            return self.close(message, delivery_key);
        }
        match self.verdict(&message) {
            Verdict::Repeat((_, message_id)) => Kept::Repeat { message_id },
            Verdict::Conflict((_, message_id)) => Kept::Conflict { message_id },
            Verdict::New => {
                let (message_key, work) = self.insert(message, true, true);
                Kept::New { message_key, work, first_answer: false }
            }
        }
    }

    /// A response from outside that answers a delivery. A repeat that still becomes the first answer counts as new, under
    /// the key of the message that was kept.
    fn close(&mut self, message: Prepared, delivery_key: i64) -> Kept {
        let linked = self.link(message, delivery_key);
        match linked {
            Linked { answer: (_, message_id), first: false, repeat: true, .. } => Kept::Repeat { message_id },
            Linked { answer: (message_key, _), first, work, .. } => {
                Kept::New { message_key, work, first_answer: first }
            }
        }
    }

    /// Keeps an answer and links it to its delivery, where it is the first. A receiver that reuses its ids must not lose
    /// its answer: other content under a known identity is kept without an identity of its own.
    pub fn link(&mut self, mut message: Prepared, delivery_key: i64) -> Linked {
        let first = self.deliveries.get(&delivery_key).is_some_and(|now| now.answer.is_none());
        if let Some(now) = self.deliveries.get(&delivery_key) {
            Arc::make_mut(&mut message.facts).in_reply_to.get_or_insert(now.message_id);
        }
        let releases = message.releases_request;
        let linked = match self.verdict(&message) {
            Verdict::Repeat(answer) => {
                let deliveries = if first { std::mem::take(&mut message.deliveries) } else { Vec::new() };
                Arc::make_mut(&mut message.facts).id = answer.1;
                let work = self.deliver(answer.0, &message.facts, &message.plain, deliveries);
                Linked { answer, first, repeat: true, work }
            }
            verdict => {
                let message_id = message.facts.id;
                let remembered = matches!(verdict, Verdict::New);
                let (message_key, work) = self.insert(message, remembered, first);
                Linked { answer: (message_key, message_id), first, repeat: false, work }
            }
        };
        let (now_us, answer_key) = (self.now_us, linked.answer.0);
        if let Some(now) = self.deliveries.get_mut(&delivery_key).filter(|_| first) {
            now.answer = Some(answer_key);
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
}
