//! A response message that arrives on its own: matched to its request and sent home, or routed as unmatched.

use super::judge::{Judged, forbidden_event};
use super::reply::Closed;
use super::{Exchange, Place, Refusal, Reply, Rules, reused, told};
use crate::apart::apart;
use crate::delivery::{DeliveryKind, Facts, Keep, Kept, MessageState, Work};
use crate::fhir::event::ResponseCode;
use crate::fhir::{Fault, Issue, IssueCode, Outcome};
use crate::routing::plan::plan;
use crate::store::Unavailable;
use uuid::Uuid;

impl Exchange {
    /// Never answered with a message (MSG-41): 200 once it is kept.
    pub(super) async fn take_response(&self, judged: Judged, rules: &Rules, place: Place) -> Reply {
        let id = judged.facts.id;
        match self.request_of(&judged, rules).await {
            Ok(Some((request, answered))) => self.take_answer(judged, request, answered, rules, place).await,
            Ok(None) => self.take_unmatched(judged, rules, place).await,
            Err(away) => Reply::unavailable(id, &away),
        }
    }

    /// The delivery that asked for this response, by any of its message's three identifiers; whether it is answered.
    ///
    /// Ids are unique per sender only, so that several may fit: first that whose sender the response is addressed to,
    /// then one without an answer, then a request before its replays, then the newest.
    async fn request_of(&self, judged: &Judged, rules: &Rules) -> Result<Option<(Work, bool)>, Unavailable> {
        let response = judged.facts.response.as_ref();
        let (Some(participant), Some(response)) = (&judged.participant, response) else { return Ok(None) };
        let asked = self.store.asked(&participant.id, &response.identifier.value).await?;
        let destinations = &judged.facts.destinations;
        let best = asked.into_iter().min_by_key(|asked| {
            let addressed = is_addressed_to(&asked.delivery.facts, destinations, rules);
            (!addressed, asked.answered, asked.delivery.kind != DeliveryKind::Request)
        });
        match (best, judged.correlation) {
            (None, Some(message)) => self.correlated(&participant.id, message).await,
            (best, _) => Ok(best.map(|asked| (asked.delivery, asked.answered))),
        }
    }

    /// The delivery of this message to this participant: what a `correlation_id` of ours stands for (design 1.6).
    async fn correlated(&self, participant: &str, message: Uuid) -> Result<Option<(Work, bool)>, Unavailable> {
        let Some(standing) = self.store.standing(message).await? else { return Ok(None) };
        let Some(delivery) = standing.deliveries.iter().find(|delivery| delivery.participant == participant) else {
            return Ok(None);
        };
        let answered = delivery.answer.is_some();
        Ok(self.store.delivery_work(delivery.id).await?.map(|(work, _)| (work, answered)))
    }

    async fn take_answer(&self, judged: Judged, request: Work, answered: bool, rules: &Rules, place: Place) -> Reply {
        let mut facts = judged.facts.clone();
        facts.in_reply_to = Some(request.facts.id);
        facts.asked = request.facts.as_asked();
        facts.planned_at_us = Some(self.clock.now_us());
        let waited_for = request.kind == DeliveryKind::Request && !answered;
        let claim = if waited_for { self.waiters.claim(request.facts.id) } else { None };
        let forwarded = match &request.kind {
            DeliveryKind::Replay { forward_answers, .. } => *forward_answers,
            _ => claim.is_none() || request.facts.is_answered_in_queue(),
        };
        let deliveries = match forwarded {
            true => self.way_home(&request.facts, &facts, rules, false),
            false => Vec::new(),
        };
        let closed = Closed::of_answer(&facts, judged.bytes.clone());
        let code = facts.response.as_ref().and_then(|response| response.code);
        let keep = Keep {
            facts,
            deliveries,
            closes: Some(request.delivery_key),
            releases_request: code == Some(ResponseCode::TransientError) && request.kind == DeliveryKind::Request,
            ..keep(&judged)
        };
        let kept = self.keep(keep, place).await;
        let first = matches!(kept, Ok(Kept::New { first_answer: true, .. }));
        match &kept {
            Ok(_) => self.tell(request.facts.id, claim, (first && waited_for).then_some(closed)).await,
            Err(_) => claim.into_iter().for_each(|claim| self.waiters.unclaim(request.facts.id, claim)),
        }
        if matches!(&kept, Ok(Kept::New { first_answer: true, .. })) {
            self.courier.forget(&request.participant, request.delivery_key);
        }
        self.done(judged, kept, rules).await
    }

    async fn take_unmatched(&self, judged: Judged, rules: &Rules, place: Place) -> Reply {
        let size = judged.message.tree.source_bytes().len();
        match apart(size, || self.plan_unmatched(&judged, rules)) {
            Ok(keep) => {
                let kept = self.keep(keep, place).await;
                self.done(judged, kept, rules).await
            }
            Err((refusal, outcome)) => self.refuse(*judged.refused(refusal, outcome), rules, place).await,
        }
    }

    fn plan_unmatched(&self, judged: &Judged, rules: &Rules) -> Result<Keep, (Refusal, Outcome)> {
        if rules.closed {
            let text = "The response answers no request that was sent to its sender";
            let at = "Bundle.entry[0].resource.response.identifier";
            let issue = Issue::error(IssueCode::Forbidden, Fault::SendNotAsked, text).rule("MSG-37").at(at);
            return Err((Refusal::Forbidden, issue.into()));
        }
        if let Some(issue) = forbidden_event(&judged.message.header, judged.participant.as_deref()) {
            return Err((Refusal::Forbidden, issue.into()));
        }
        let outcome = Outcome::from(judged.checked.issues.clone());
        if outcome.has_errors() && judged.is_refused_for_errors(rules) {
            return Err((Refusal::Unprocessable, outcome));
        }
        let mut facts = judged.facts.clone();
        let plan = plan(&judged.message, &facts.sender, facts.category, &rules.table)
            .map_err(|issues| (Refusal::Unprocessable, Outcome::from(issues)))?;
        told::check(judged, &facts, &plan).map_err(|issues| (Refusal::Unprocessable, Outcome::from(issues)))?;
        facts.unmatched = true;
        facts.planned_at_us = Some(self.clock.now_us());
        let to = |receiver| self.delivery_to(receiver, DeliveryKind::Answer);
        let deliveries = plan.receivers.iter().map(to).collect();
        Ok(Keep { facts, deliveries, ..keep(judged) })
    }

    async fn done(&self, judged: Judged, kept: Result<Kept, Unavailable>, rules: &Rules) -> Reply {
        let id = judged.facts.id;
        match kept {
            Ok(Kept::New { .. }) => Reply::Done { id, repeat: false },
            Ok(Kept::Repeat { message_id }) => Reply::Done { id: message_id, repeat: true },
            Ok(Kept::Conflict { message_id }) => {
                self.refuse(*judged.refused(Refusal::Conflict, reused(message_id)), rules, Place::default()).await
            }
            Err(away) => Reply::unavailable(id, &away),
        }
    }
}

/// Whether a response is addressed to the sender of this request.
fn is_addressed_to(request: &Facts, destinations: &[std::sync::Arc<str>], rules: &Rules) -> bool {
    destinations.iter().any(|destination| {
        request.source.as_deref() == Some(&**destination)
            || rules.table.owner(destination).is_some_and(|owner| *owner.id == *request.sender)
    })
}

/// A response as it is kept, before its way is known.
fn keep(judged: &Judged) -> Keep {
    Keep {
        facts: judged.facts.clone(),
        state: MessageState::Accepted,
        bytes: judged.bytes.clone(),
        outcome: (!judged.checked.issues.is_empty()).then(|| judged.checked.issues.clone().into()),
        identity: apart(judged.bytes.len(), || judged.message.identity()),
        deliveries: Vec::new(),
        answer: None,
        closes: None,
        releases_request: false,
    }
}
