//! A response that came on its own closes the request that it answers: who waits on the line gets it, or it is delivered.

use super::reply::Closed;
use super::{Exchange, IntakeSlot, Rules};
use crate::delivery::{Acceptance, DeliveryKind, Further, Metadata, NewMessage};
use crate::store::{SentRequest, Unavailable};
use fhir::Event;
use fhir::event::{Category, ResponseCode};
use validation::{Checked, allowed_response};

impl Exchange {
    /// Stores a response with its way home, in its turn and behind every earlier answer to the same request.
    pub(super) async fn close_with(
        &self,
        mut answer: NewMessage,
        asked: SentRequest,
        rules: &Rules,
        mut place: IntakeSlot,
    ) -> Result<Acceptance, Unavailable> {
        let SentRequest { delivery: request, .. } = asked;
        // First its turn, then the request: whoever holds the request waits for nobody's turn.
        let broken = |_| Unavailable::Away("a message before this one could not be kept".into());
        place.turn.enter().await.map_err(broken)?;
        let _in_order = self.answers.enter(request.metadata.id).await;
        answer.metadata.in_reply_to = Some(request.metadata.id);
        answer.metadata.request_format = request.metadata.request_format();
        answer.metadata.planned_at_us = Some(self.clock.now_us());
        let is_request = request.kind == DeliveryKind::Request;
        let claim = if is_request { self.waiters.claim(request.metadata.id) } else { None };
        let forwarded = match &request.kind {
            DeliveryKind::Replay { forward_answers, .. } => *forward_answers,
            _ => claim.is_none() || request.metadata.is_answered_in_queue(),
        };
        if forwarded {
            answer.deliveries = self.return_route(&request.metadata, &answer.metadata, rules, false);
        }
        answer.further = self.further(&request.kind, &request.metadata, &answer.metadata, rules);
        answer.closes = Some(request.delivery_key);
        answer.releases_request = is_request && is_transient(&answer.metadata);
        let closed = Closed::of_answer(&answer.metadata, answer.bytes.clone());
        let kept = self.keep(answer, place).await;
        let first = matches!(kept, Ok(Acceptance::New { first_answer: true, .. }));
        match &kept {
            Ok(_) => self.tell(request.metadata.id, claim, (first && is_request).then_some(closed)).await,
            Err(_) => claim.into_iter().for_each(|claim| self.waiters.unclaim(request.metadata.id, claim)),
        }
        if first {
            self.courier.forget(request);
        }
        kept
    }

    /// What becomes of an answer whose request has a first answer already (MSG-40). Answers to replays are linked only,
    /// unless their replay forwards them.
    pub(super) fn further(
        &self,
        kind: &DeliveryKind,
        request: &Metadata,
        answer: &Metadata,
        rules: &Rules,
    ) -> Option<Further> {
        if !matches!(kind, DeliveryKind::Request | DeliveryKind::Replay { forward_answers: true, .. }) {
            return None;
        }
        if request.category == Some(Category::Consequence) {
            return Some(Further { delivery: None });
        }
        Some(Further { delivery: self.return_route(request, answer, rules, false).pop() })
    }
}

/// What the definition of the request says against its answer (MSG-50): stored with the answer, which is delivered all the
/// same.
pub(super) fn breach(
    request: &Metadata,
    answer: &Checked,
    event: Option<&Event>,
    rules: &Rules,
) -> Option<fhir::Issue> {
    let definition = rules.definitions.by_canonical(request.definition.as_deref()?)?;
    allowed_response(&rules.definitions, definition, answer.definition.as_deref(), event)
}

pub(super) fn is_transient(answer: &Metadata) -> bool {
    answer.response.as_ref().and_then(|response| response.code) == Some(ResponseCode::TransientError)
}
