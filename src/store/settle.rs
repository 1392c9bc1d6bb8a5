//! Settling a delivery: the attempt's row, the new state, the answer. What was settled by somebody else stays as it is.

use super::batch::{Batch, OWN};
use super::insert::AttemptKeyed;
use super::prepare::PreparedSettlement;
use crate::delivery::{DeliveryState, Settled};

impl Batch<'_> {
    pub fn settle(&mut self, settlement: PreparedSettlement) -> Settled {
        let key = settlement.delivery_key;
        let nothing = |changed| Settled { changed, first_answer: false, answer_id: None, work: Vec::new() };
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
            Some(answer) if &*answer.facts.sender == OWN && !(open && unanswered) => nothing(open),
            Some(answer) => {
                let linked = self.link(*answer, key);
                Settled {
                    changed: open,
                    first_answer: linked.first,
                    answer_id: Some(linked.answer.1),
                    work: linked.work,
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
}
