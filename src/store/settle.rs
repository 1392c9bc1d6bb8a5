//! Settling a delivery: the attempt's row, the new state, the answer. What was settled by somebody else stays as it is.

use super::batch::{Batch, OWN};
use super::insert::AttemptKeyed;
use super::prepare::PreparedSettlement;
use crate::delivery::{DeliveryState, Settled};
use fhir::identity::Verdict;
use uuid::Uuid;

impl Batch<'_> {
    pub fn settle(&mut self, settlement: PreparedSettlement) -> Settled {
        let key = settlement.delivery_key;
        let nothing =
            |changed| Settled { changed, first_answer: false, answer_id: None, work: Vec::new(), belongs_to: None };
        if let Some(request) = self.belongs_to(&settlement) {
            return Settled { belongs_to: Some(request), ..nothing(false) };
        }
        let Some(now) = self.deliveries.get_mut(&key) else { return nothing(false) };
        if let Some(attempt) = settlement.attempt {
            now.attempts += 1;
            now.status = attempt.status;
            now.changed = true;
            self.rows.attempts.push(AttemptKeyed { delivery_key: key, n: now.attempts, attempt });
        }
        if let Some(issues) = settlement.receiver_issues {
            self.rows.receiver_issues.push((key, issues));
        }
        let open = matches!(now.state, DeliveryState::Waiting | DeliveryState::Active);
        let unanswered = now.answer.is_none();
        let settled = match settlement.answer {
            None => nothing(open),
            // The word of a router that gave up comes too late once the receiver has spoken, and is said once.
            Some(answer) if &*answer.metadata.sender == OWN && !(open && unanswered) => nothing(open),
            Some(answer) => {
                let linked = self.link(*answer, key);
                Settled {
                    changed: open,
                    first_answer: linked.first,
                    answer_id: Some(linked.answer.1),
                    work: linked.work,
                    belongs_to: None,
                }
            }
        };
        if let Some(now) = self.deliveries.get_mut(&key).filter(|_| open) {
            let waits = settlement.state == DeliveryState::Waiting;
            now.state = settlement.state;
            now.fault = settlement.fault;
            now.ended_us = (!waits).then_some(self.now_us);
            if waits {
                now.due_us = settlement.due_at_us;
            }
            now.changed = true;
        }
        settled
    }
    /// The other request that the receiver's answer is stored for already, here or in this batch: one that knows requests by
    /// an id that two senders use repeats to the second what it said to the first.
    fn belongs_to(&self, settlement: &PreparedSettlement) -> Option<Uuid> {
        let (answer, now) = (settlement.answer.as_ref()?, self.deliveries.get(&settlement.delivery_key)?);
        let Verdict::Duplicate((known, _)) = self.verdict(answer) else { return None };
        let fresh = || self.rows.messages.iter().find(|row| row.key == known).and_then(|row| row.in_reply_to);
        let request = self.candidate(known).map_or_else(fresh, |metadata| metadata.in_reply_to)?;
        (request != now.message_id && Some(request) != settlement.shares_with).then_some(request)
    }
}
