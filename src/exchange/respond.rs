//! A response message that arrives on its own: matched to its request and sent home, or routed as unmatched.

use super::close::breach;
use super::correlate::{Doubt, Match, decide, doubt, is_addressed_elsewhere, one};
use super::judge::{Judged, forbidden_event};
use super::{Exchange, IntakeSlot, Refusal, Reply, Rules, convertible, reused};
use crate::delivery::{Acceptance, DeliveryKind, MessageState, NewMessage};
use crate::fault::Fault;
use crate::offload::offload;
use crate::outcome::{Issue, IssueCode, Outcome};
use crate::routing::plan::{Plan, plan};
use crate::store::{Candidates, SentRequest, Unavailable};
use uuid::Uuid;

impl Exchange {
    /// Never answered with a message (MSG-41): 200 once it is kept.
    pub(super) async fn take_response(&self, judged: Judged, rules: &Rules, place: IntakeSlot) -> Reply {
        let id = judged.metadata.id;
        match self.request_of(&judged, rules).await {
            Ok(Match::One(request)) => self.take_answer(judged, *request, rules, place).await,
            Ok(Match::Several(doubt)) => self.take_ambiguous(judged, &doubt, rules, place).await,
            Ok(Match::Nothing) => self.take_unmatched(judged, rules, place).await,
            Err(away) => Reply::unavailable(id, &away),
        }
    }

    /// The delivery that asked for this response: the one that the `correlation_id` names among those that its identifier
    /// allows, or alone where the identifier allows none; else what `decide` finds.
    pub(super) async fn request_of(&self, judged: &Judged, rules: &Rules) -> Result<Match, Unavailable> {
        let response = judged.metadata.response.as_ref();
        let (Some(participant), Some(response)) = (&judged.participant, response) else { return Ok(Match::Nothing) };
        let identifier = &response.identifier.value;
        let correlated = match judged.correlation {
            Some(message) => self.store.sent_requests_of(&participant.id, message).await?,
            None => Vec::new(),
        };
        let is_named = |asked: &SentRequest| asked.delivery.metadata.is_named_by(identifier);
        // Correlation and destination that name different participants leave a doubt.
        let elsewhere = |asked: &SentRequest| {
            is_addressed_elsewhere(&judged.metadata, &asked.delivery.metadata, &participant.id, &rules.table)
        };
        if correlated.iter().any(elsewhere) {
            return Ok(Match::Several(doubt(&correlated, false, true)));
        }
        let candidates = match correlated.iter().any(is_named) {
            true => Candidates::default(),
            false => self.store.sent_requests(&participant.id, identifier).await?,
        };
        if candidates.deliveries.is_empty()
            && let Some(one) = one(correlated)
        {
            return Ok(Match::One(one));
        }
        Ok(decide(candidates, &judged.metadata, &participant.id, &rules.table))
    }

    async fn take_answer(&self, judged: Judged, request: SentRequest, rules: &Rules, place: IntakeSlot) -> Reply {
        let mut answer = keep(&judged);
        let event = judged.message.header.event.as_ref();
        if let Some(breach) = breach(&request.delivery.metadata, &judged.checked, event, rules) {
            answer.outcome.get_or_insert_default().issues.push(breach.with_cause(Fault::from));
        }
        let kept = self.close_with(answer, request, rules, place).await;
        self.done(judged, kept, rules).await
    }

    /// Nobody gets it until an operator says whose it is.
    async fn take_ambiguous(&self, judged: Judged, doubt: &Doubt, rules: &Rules, place: IntakeSlot) -> Reply {
        let mut answer = keep(&judged);
        answer.metadata.ambiguous = true;
        answer.metadata.planned_at_us = Some(self.clock.now_us());
        answer.outcome.get_or_insert_default().issues.push(fits_several(doubt));
        let kept = self.keep(answer, place).await;
        if matches!(kept, Ok(Acceptance::New { .. })) {
            self.metrics.fault(Fault::RecvAmbiguous.code());
            tracing::warn!(message.id = %judged.metadata.id, participant = %judged.metadata.sender, requests = doubt.count,
                fault = Fault::RecvAmbiguous.code(), "a response fits several requests; nobody has it until it is assigned");
        }
        self.done(judged, kept, rules).await
    }

    async fn take_unmatched(&self, judged: Judged, rules: &Rules, place: IntakeSlot) -> Reply {
        let size = judged.message.tree.source_bytes().len();
        match offload(size, || self.plan_unmatched(&judged, rules)) {
            Ok(keep) => {
                let kept = self.keep(keep, place).await;
                self.done(judged, kept, rules).await
            }
            Err((refusal, outcome)) => self.refuse(*judged.refused(refusal, outcome), rules, place).await,
        }
    }

    /// Where a response goes that answers nothing, or why it is refused. For responses that are stored, and for those whose
    /// plan is only shown.
    pub(super) fn route_unmatched(&self, judged: &Judged, rules: &Rules) -> Result<Plan, (Refusal, Outcome)> {
        if rules.requires_credentials {
            let text = "The response answers no request that was sent to its sender";
            let at = "Bundle.entry[0].resource.response.identifier";
            let issue = Issue::error(IssueCode::Forbidden, Fault::SendNotAsked, text).rule("MSG-37").at(at);
            return Err((Refusal::Forbidden, issue.into()));
        }
        if let Some(issue) = forbidden_event(&judged.message.header, judged.participant.as_deref()) {
            return Err((Refusal::Forbidden, issue.into()));
        }
        if let Some(outcome) = judged.errors_that_refuse(rules) {
            return Err((Refusal::Unprocessable, outcome));
        }
        let metadata = &judged.metadata;
        let plan = plan(&judged.message, &metadata.sender, metadata.category, &rules.table)
            .map_err(|issues| (Refusal::Unprocessable, Outcome::from(issues)))?;
        convertible::check(judged, metadata, &plan, &rules.definitions)
            .map_err(|issues| (Refusal::Unprocessable, Outcome::from(issues)))?;
        Ok(plan)
    }

    fn plan_unmatched(&self, judged: &Judged, rules: &Rules) -> Result<NewMessage, (Refusal, Outcome)> {
        let plan = self.route_unmatched(judged, rules)?;
        let mut metadata = judged.metadata.clone();
        metadata.unmatched = true;
        metadata.planned_at_us = Some(self.clock.now_us());
        let to = |receiver| self.delivery_to(receiver, DeliveryKind::Answer);
        let deliveries = plan.receivers.iter().map(to).collect();
        Ok(NewMessage { metadata, deliveries, ..keep(judged) })
    }

    async fn done(&self, judged: Judged, kept: Result<Acceptance, Unavailable>, rules: &Rules) -> Reply {
        let id = judged.metadata.id;
        match kept {
            Ok(Acceptance::New { .. }) => Reply::Done { id, repeat: false },
            Ok(Acceptance::Duplicate { message_id }) => Reply::Done { id: message_id, repeat: true },
            Ok(Acceptance::Conflict { message_id }) => {
                self.refuse(*judged.refused(Refusal::Conflict, reused(message_id)), rules, IntakeSlot::default()).await
            }
            Err(away) => Reply::unavailable(id, &away),
        }
    }
}

/// Why nobody has the response, and what the operator can do.
pub(super) fn fits_several(doubt: &Doubt) -> Issue {
    let named = doubt.named.iter().map(Uuid::to_string).collect::<Vec<_>>().join(", ");
    let what = match () {
        () if doubt.is_addressed_elsewhere && doubt.count == 1 => {
            format!("The response names the request {named}, and is addressed to another participant than its sender")
        }
        () if doubt.is_cut => "The identifier of the response is used by too many requests to tell them apart".into(),
        () if doubt.count > doubt.named.len() => {
            format!("The response fits {} requests, the newest of them {named}", doubt.count)
        }
        () => format!("The response fits {} requests: {named}", doubt.count),
    };
    let text = format!(
        "{what}. Its receiver should answer with an identifier or a destination that only one of them has; an operator can \
         assign it (emberpost messages assign)"
    );
    let issue = Issue::warning(IssueCode::MultipleMatches, Fault::RecvAmbiguous, text).rule("MSG-37");
    issue.at("Bundle.entry[0].resource.response.identifier")
}

/// A response as it is kept, before its way is known.
fn keep(judged: &Judged) -> NewMessage {
    NewMessage {
        metadata: judged.metadata.clone(),
        state: MessageState::Accepted,
        bytes: judged.bytes.clone(),
        outcome: (!judged.checked.issues.is_empty()).then(|| judged.checked.issues.clone().into()),
        identity: offload(judged.bytes.len(), || judged.message.identity()),
        deliveries: Vec::new(),
        answer: None,
        closes: None,
        further: None,
        assigns: None,
        releases_request: false,
    }
}
