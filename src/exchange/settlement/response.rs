//! Responses that arrive as messages of their own: matched to their request and sent to its sender, or routed as unmatched.

use super::Settler;
use super::answer_rules::disallowed_response;
use super::correlation::{Ambiguity, Match, ambiguity, decide, is_addressed_elsewhere, newest};
use crate::delivery::{Acceptance, DeliveryKind, NewMessage};
use crate::exchange::intake::{CheckedMessage, RefusedMessage, forbidden_event, reused_identity};
use crate::exchange::{IntakeSlot, Refusal, Reply, Rules};
use crate::fault::Fault;
use crate::offload::offload;
use crate::outcome::{Issue, IssueCode};
use crate::routing::Plan;
use crate::store::{Candidates, SentRequest, Unavailable};
use uuid::Uuid;

impl Settler {
    /// A response is never answered with a message (MSG-41): its sender gets 200 once it is stored.
    pub(in crate::exchange) async fn take_response(
        &self,
        message: CheckedMessage,
        rules: &Rules,
        slot: IntakeSlot,
    ) -> Reply {
        let id = message.metadata.id;
        match self.request_of(&message, rules).await {
            Ok(Match::One(request)) => self.take_matched(message, *request, rules, slot).await,
            Ok(Match::Several(ambiguity)) => self.take_ambiguous(message, &ambiguity, rules, slot).await,
            Ok(Match::None) => self.take_unmatched(message, rules, slot).await,
            Err(unavailable) => Reply::unavailable(id, &unavailable),
        }
    }

    /// The delivery that a response answers. Among the requests that its identifier allows, `correlation_id` decides; if the
    /// identifier allows none, `correlation_id` alone; without a `correlation_id`, see `decide`.
    pub(in crate::exchange) async fn request_of(
        &self,
        message: &CheckedMessage,
        rules: &Rules,
    ) -> Result<Match, Unavailable> {
        let response = message.metadata.response.as_ref();
        let (Some(participant), Some(response)) = (&message.participant, response) else { return Ok(Match::None) };
        let identifier = &response.identifier.value;
        let correlated = match message.correlation {
            Some(request) => self.store.sent_requests_of(&participant.id, request).await?,
            None => Vec::new(),
        };
        let is_named = |sent: &SentRequest| sent.delivery.metadata.is_named_by(identifier);
        let elsewhere = |sent: &SentRequest| {
            is_addressed_elsewhere(&message.metadata, &sent.delivery.metadata, &participant.id, &rules.table)
        };
        // If correlation_id and destination name different participants, neither can be trusted.
        if correlated.iter().any(elsewhere) {
            return Ok(Match::Several(ambiguity(&correlated, false, true)));
        }
        let candidates = match correlated.iter().any(is_named) {
            true => Candidates::default(),
            false => self.store.sent_requests(&participant.id, identifier).await?,
        };
        if candidates.deliveries.is_empty()
            && let Some(request) = newest(correlated)
        {
            return Ok(Match::One(request));
        }
        Ok(decide(candidates, &message.metadata, &participant.id, &rules.table))
    }

    async fn take_matched(
        &self,
        message: CheckedMessage,
        request: SentRequest,
        rules: &Rules,
        slot: IntakeSlot,
    ) -> Reply {
        let mut answer = to_store(&message);
        let event = message.message.header.event.as_ref();
        if let Some(issue) = disallowed_response(&request.delivery.metadata, &message.validation, event, rules) {
            answer.outcome.get_or_insert_default().issues.push(issue.with_cause(Fault::from));
        }
        let stored = self.store_response(answer, request, rules, slot).await;
        self.confirm(message, stored, rules).await
    }

    /// Stores a response that fits several requests; it goes to nobody until an operator assigns it.
    async fn take_ambiguous(
        &self,
        message: CheckedMessage,
        ambiguity: &Ambiguity,
        rules: &Rules,
        slot: IntakeSlot,
    ) -> Reply {
        let mut answer = to_store(&message);
        answer.metadata.ambiguous = true;
        answer.metadata.planned_at_us = Some(self.clock.now_us());
        answer.outcome.get_or_insert_default().issues.push(several_requests(ambiguity));
        let stored = self.intake.store(answer, slot).await;
        if matches!(stored, Ok(Acceptance::New { .. })) {
            self.metrics.fault(Fault::RecvAmbiguous.code());
            tracing::warn!(message.id = %message.metadata.id, participant = %message.metadata.sender,
                requests = ambiguity.count, fault = Fault::RecvAmbiguous.code(),
                "a response fits several requests; nobody gets it until it is assigned");
        }
        self.confirm(message, stored, rules).await
    }

    async fn take_unmatched(&self, message: CheckedMessage, rules: &Rules, slot: IntakeSlot) -> Reply {
        match offload(message.bytes.len(), || self.plan_unmatched(&message, rules)) {
            Ok(new) => {
                let stored = self.intake.store(new, slot).await;
                self.confirm(message, stored, rules).await
            }
            Err(refused) => self.intake.refuse(*refused, None, rules, slot).await,
        }
    }

    /// Where a response goes that matches no request, or why it is refused. Serves stored responses and `POST route` alike.
    pub(in crate::exchange) fn route_unmatched(
        &self,
        message: &CheckedMessage,
        rules: &Rules,
    ) -> Result<Plan, Box<RefusedMessage>> {
        if rules.requires_credentials {
            let text = "The response does not answer any request that was sent to its sender";
            let at = "Bundle.entry[0].resource.response.identifier";
            let issue = Issue::error(IssueCode::Forbidden, Fault::SendNotAsked, text).rule("MSG-37").at(at);
            return Err(message.refused(Refusal::Forbidden, issue));
        }
        if let Some(issue) = forbidden_event(&message.message.header, message.participant.as_deref()) {
            return Err(message.refused(Refusal::Forbidden, issue));
        }
        if let Some(outcome) = message.refusing_errors(rules) {
            return Err(message.refused(Refusal::Unprocessable, outcome));
        }
        self.intake.route(message, &message.metadata, rules)
    }

    fn plan_unmatched(&self, message: &CheckedMessage, rules: &Rules) -> Result<NewMessage, Box<RefusedMessage>> {
        let plan = self.route_unmatched(message, rules)?;
        let mut metadata = message.metadata.clone();
        metadata.unmatched = true;
        metadata.planned_at_us = Some(self.clock.now_us());
        let (clock, kind) = (&self.clock, DeliveryKind::Answer);
        let deliveries = plan.receivers.iter().map(|to| to.delivery(kind.clone(), clock.new_id(), clock.now_us()));
        let deliveries = deliveries.collect();
        Ok(NewMessage { deliveries, ..message.to_store(metadata) })
    }

    async fn confirm(&self, message: CheckedMessage, stored: Result<Acceptance, Unavailable>, rules: &Rules) -> Reply {
        let id = message.metadata.id;
        match stored {
            Ok(Acceptance::New { .. }) => Reply::Done { id, duplicate: false },
            Ok(Acceptance::Duplicate { message_id }) => Reply::Done { id: message_id, duplicate: true },
            Ok(Acceptance::Conflict { message_id }) => {
                let refused = message.refused(Refusal::Conflict, reused_identity(message_id));
                self.intake.refuse(*refused, None, rules, IntakeSlot::default()).await
            }
            Err(unavailable) => Reply::unavailable(id, &unavailable),
        }
    }
}

/// The record of a response. Hashing a large one for its identity must not block other tasks.
fn to_store(message: &CheckedMessage) -> NewMessage {
    offload(message.bytes.len(), || message.to_store(message.metadata.clone()))
}

/// Why nobody gets the response, and what the operator can do.
pub(in crate::exchange) fn several_requests(ambiguity: &Ambiguity) -> Issue {
    let named = ambiguity.named.iter().map(Uuid::to_string).collect::<Vec<_>>().join(", ");
    let what = match () {
        () if ambiguity.is_addressed_elsewhere && ambiguity.count == 1 => {
            format!("The response names the request {named}, and is addressed to another participant than its sender")
        }
        () if ambiguity.is_cut => {
            "The identifier of the response is used by too many requests to tell them apart".into()
        }
        () if ambiguity.count > ambiguity.named.len() => {
            format!("The response fits {} requests, the newest of them {named}", ambiguity.count)
        }
        () => format!("The response fits {} requests: {named}", ambiguity.count),
    };
    let text = format!(
        "{what}. Its receiver should answer with an identifier or a destination that only one of them has; an operator can \
         assign it (emberpost messages assign)"
    );
    let issue = Issue::warning(IssueCode::MultipleMatches, Fault::RecvAmbiguous, text).rule("MSG-37");
    issue.at("Bundle.entry[0].resource.response.identifier")
}
