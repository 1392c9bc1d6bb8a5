//! `POST route`: explains where a message would go, and why, by the same steps as for a message that is stored.

use super::intake::{CheckedMessage, reused_identity};
use super::return_route::return_route;
use super::settlement::{Match, several_requests};
use super::{AnswerMode, Exchange, Inbound, Rules};
use crate::delivery::{DeliveryKind, Metadata};
use crate::offload::offload;
use crate::outcome::Outcome;
use crate::routing::Plan;
use crate::store::{SentRequest, Unavailable};
use bytes::Bytes;
use fhir::identity::Verdict;
use fhir::{FhirVersion, Format};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Who sends a message, which definition governs it, and who would receive it and why; or why it is refused.
#[derive(Clone, Debug, Default)]
pub struct Explanation {
    pub sender: Option<String>,
    pub event: Option<String>,
    pub definition: Option<String>,
    pub accepted: bool,
    pub receivers: Vec<String>,
    pub to_self: bool,
    pub reasons: Vec<String>,
    pub outcome: Outcome,
}

impl Exchange {
    /// Explains a message; nothing is stored. `format`, `said_version`: from its media type. `sender`: id of the participant that
    /// counts as the sender.
    pub async fn explain(
        &self,
        bytes: Bytes,
        format: Format,
        said_version: Option<FhirVersion>,
        sender: Option<&str>,
    ) -> Result<Explanation, Unavailable> {
        let inbound = Inbound {
            bytes,
            media_type: format.media_type().to_owned(),
            said_version,
            credential: sender.map(Arc::from),
            via: None,
            request_id: String::new(),
            answer_mode: AnswerMode::Synchronous,
            expires_after: None,
            received_at_us: self.clock.now_us(),
            gone: CancellationToken::new(),
        };
        let rules = self.rules.load_full();
        match self.intake.check(&inbound, &rules) {
            Ok(message) if message.is_response() => self.explain_response(&message, &rules).await,
            Ok(message) => match offload(inbound.bytes.len(), || self.intake.route_request(&message, &inbound, &rules))
            {
                Ok((_, plan)) => self.explain_identity(&message, planned(&message, plan)).await,
                Err(refused) => Ok(Explanation { outcome: refused.outcome, ..unplanned(&refused.metadata) }),
            },
            Err(refused) => Ok(Explanation { outcome: refused.outcome, ..unplanned(&refused.metadata) }),
        }
    }

    async fn explain_response(&self, message: &CheckedMessage, rules: &Rules) -> Result<Explanation, Unavailable> {
        let outcome = Outcome::from(message.validation.issues.clone());
        let mut explanation = Explanation { outcome, accepted: true, ..unplanned(&message.metadata) };
        match self.settler.request_of(message, rules).await? {
            Match::One(request) => {
                self.explain_answer(&request, message, rules, &mut explanation);
                Ok(explanation)
            }
            Match::Several(ambiguity) => {
                explanation.reasons.push("the response is stored, and nobody gets it until it is assigned".into());
                explanation.outcome.issues.push(several_requests(&ambiguity));
                Ok(explanation)
            }
            Match::None => match self.settler.route_unmatched(message, rules) {
                Ok(plan) => {
                    let mut explanation = planned(message, plan);
                    explanation.reasons.push("the response matches no stored request".into());
                    self.explain_identity(message, explanation).await
                }
                Err(refused) => Ok(Explanation { outcome: refused.outcome, ..unplanned(&message.metadata) }),
            },
        }
    }

    fn explain_answer(
        &self,
        request: &SentRequest,
        message: &CheckedMessage,
        rules: &Rules,
        explanation: &mut Explanation,
    ) {
        let delivery = &request.delivery;
        let is_forwarded = !matches!(delivery.kind, DeliveryKind::Replay { forward_answers: false, .. });
        let deliveries = match is_forwarded {
            true => return_route(&delivery.metadata, &message.metadata, rules, &self.clock, false),
            false => Vec::new(),
        };
        explanation.receivers = deliveries.iter().map(|delivery| delivery.participant.to_string()).collect();
        let further = if request.answered { ", which has an answer already" } else { "" };
        let (id, sender) = (delivery.metadata.id, &delivery.metadata.sender);
        explanation.reasons.push(format!("the response answers the request {id} of participant {sender}{further}"));
    }

    /// Adds whether the message would be a duplicate, or be refused for its identity.
    async fn explain_identity(
        &self,
        message: &CheckedMessage,
        mut explanation: Explanation,
    ) -> Result<Explanation, Unavailable> {
        let identity = offload(message.bytes.len(), || message.message.identity());
        Ok(match self.store.verdict(&message.metadata, identity).await? {
            Verdict::New => explanation,
            Verdict::Duplicate(first) => {
                explanation.reasons.push(format!("it was received before as {first}: it is not delivered again"));
                explanation
            }
            Verdict::Conflict(first) => {
                Explanation { outcome: reused_identity(first).into(), ..unplanned(&message.metadata) }
            }
        })
    }
}

/// What is known before the plan: not accepted, no receivers.
fn unplanned(metadata: &Metadata) -> Explanation {
    Explanation {
        sender: Some(metadata.sender.clone()),
        event: metadata.event.as_ref().map(ToString::to_string),
        definition: metadata.definition.clone(),
        ..Explanation::default()
    }
}

fn planned(message: &CheckedMessage, plan: Plan) -> Explanation {
    Explanation {
        accepted: true,
        receivers: plan.receivers.iter().map(|receiver| receiver.participant.id.to_string()).collect(),
        to_self: plan.to_self,
        reasons: plan.reasons,
        outcome: message.validation.issues.clone().into(),
        ..unplanned(&message.metadata)
    }
}
