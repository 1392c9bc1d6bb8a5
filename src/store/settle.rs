//! What a batch decides about a settlement: the attempt's row, the delivery's new state, and the answer. A delivery that was
//! settled before keeps its state.

use super::batch::Batch;
use super::prepare::{PreparedSettlement, ROUTER};
use super::rows::NumberedAttempt;
use crate::delivery::{DeliveryState, Settled};
use fhir::identity::Verdict;
use uuid::Uuid;

impl Batch {
    pub fn settle(&mut self, settlement: &PreparedSettlement) -> Settled {
        let key = settlement.delivery_key;
        let nothing = |changed| Settled {
            changed,
            first_answer: false,
            answer_id: None,
            deliveries: Vec::new(),
            belongs_to: None,
            is_stale: false,
            woken: Vec::new(),
        };
        let is_success = matches!(settlement.state, DeliveryState::Delivered | DeliveryState::Answered);
        if !is_success && settlement.lease.as_ref().is_some_and(|lease| self.is_stale(lease)) {
            return Settled { is_stale: true, ..nothing(false) };
        }
        if let Some(request) = self.belongs_to(settlement) {
            return Settled { belongs_to: Some(request), ..nothing(false) };
        }
        let Some(delivery) = self.deliveries.get_mut(&key) else { return nothing(false) };
        if let Some(attempt) = settlement.attempt.clone() {
            delivery.attempts += 1;
            delivery.status = attempt.status;
            delivery.changed = true;
            self.rows.attempts.push(NumberedAttempt { delivery_key: key, n: delivery.attempts, attempt });
        }
        if let Some(issues) = settlement.receiver_issues.clone() {
            self.rows.receiver_issues.push((key, issues));
        }
        let is_open = matches!(delivery.state, DeliveryState::Waiting | DeliveryState::Active);
        let unanswered = delivery.answer.is_none();
        let mut settled = match &settlement.answer {
            None => nothing(is_open),
            // The router's own answer (it gave up) counts only while the delivery is open and has no answer of its receiver.
            Some(answer) if &*answer.metadata.sender == ROUTER && !(is_open && unanswered) => nothing(is_open),
            Some(answer) => {
                let linked = self.link(answer, key);
                Settled {
                    changed: is_open,
                    first_answer: linked.first,
                    answer_id: Some(linked.answer.1),
                    deliveries: linked.pending,
                    woken: linked.woken,
                    ..nothing(is_open)
                }
            }
        };
        if let Some(delivery) = self.deliveries.get_mut(&key).filter(|_| is_open) {
            let waits = settlement.state == DeliveryState::Waiting;
            delivery.state = settlement.state;
            delivery.fault = settlement.fault;
            delivery.ended_us = (!waits).then_some(self.now_us);
            if waits {
                delivery.due_us = settlement.due_at_us;
            }
            delivery.changed = true;
        }
        if settlement.ends_waits {
            settled.woken = self.end_waits(key);
        }
        settled
    }

    /// Another request that this answer is already stored for, in the store or in this batch: a receiver that identifies
    /// requests by an id that two senders use sends the second sender what it answered to the first.
    fn belongs_to(&self, settlement: &PreparedSettlement) -> Option<Uuid> {
        let (answer, delivery) = (settlement.answer.as_ref()?, self.deliveries.get(&settlement.delivery_key)?);
        let Verdict::Duplicate((known, _)) = self.verdict(answer) else { return None };
        let of_this_batch = || self.rows.messages.iter().find(|row| row.key == known).and_then(|row| row.in_reply_to);
        let request = self.candidate(known).map_or_else(of_this_batch, |metadata| metadata.in_reply_to)?;
        (request != delivery.message_id && Some(request) != settlement.shares_with).then_some(request)
    }
}
