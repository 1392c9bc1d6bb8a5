//! The plan of a message that is not kept, for people: the same steps as those of a message that is.

use super::correlate::Match;
use super::judge::Judged;
use super::respond::fits_several;
use super::{AnswerMode, Exchange, Inbound, Rules, reused};
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
use uuid::Uuid;

/// Who sends a message, what governs it, who would get it and why; or every reason against it.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Explanation {
    pub sender: Option<String>,
    pub event: Option<String>,
    pub definition: Option<String>,
    pub accepted: bool,
    pub receivers: Vec<String>,
    pub to_self: bool,
    pub reasons: Vec<String>,
    #[serde(skip)]
    pub outcome: Outcome,
}

impl Exchange {
    /// Where this message would go, and why; nothing is stored. `format`, `said_version`: as its media type says. `sender`: the
    /// participant to take as the sender.
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
        match offload(inbound.bytes.len(), || self.judge(Uuid::nil(), &inbound, &rules)) {
            Ok(judged) if judged.message.header.response.is_some() => self.explain_response(&judged, &rules).await,
            Ok(judged) => self.explain_request(&judged, &inbound, &rules).await,
            Err(refused) => Ok(Explanation { outcome: refused.outcome, ..begun(&refused.metadata) }),
        }
    }

    async fn explain_request(
        &self,
        judged: &Judged,
        inbound: &Inbound,
        rules: &Rules,
    ) -> Result<Explanation, Unavailable> {
        match offload(inbound.bytes.len(), || self.plan_for(judged, inbound, rules)) {
            Ok((_, plan)) => self.explain_identity(judged, planned(judged, plan)).await,
            Err(refused) => Ok(Explanation { outcome: refused.outcome, ..begun(&refused.metadata) }),
        }
    }

    async fn explain_response(&self, judged: &Judged, rules: &Rules) -> Result<Explanation, Unavailable> {
        let outcome = Outcome::from(judged.checked.issues.clone());
        let mut explanation = Explanation { outcome, accepted: true, ..begun(&judged.metadata) };
        match self.request_of(judged, rules).await? {
            Match::One(request) => {
                self.explain_answer(&request, judged, rules, &mut explanation);
                Ok(explanation)
            }
            Match::Several(doubt) => {
                explanation.reasons.push("the response is stored, and nobody gets it until it is assigned".into());
                explanation.outcome.issues.push(fits_several(&doubt));
                Ok(explanation)
            }
            Match::Nothing => match self.route_unmatched(judged, rules) {
                Ok(plan) => {
                    let mut explanation = planned(judged, plan);
                    explanation.reasons.push("the response answers no request that is stored".into());
                    self.explain_identity(judged, explanation).await
                }
                Err((_, outcome)) => Ok(Explanation { outcome, ..begun(&judged.metadata) }),
            },
        }
    }

    fn explain_answer(&self, request: &SentRequest, judged: &Judged, rules: &Rules, explanation: &mut Explanation) {
        let delivery = &request.delivery;
        let forwarded = !matches!(delivery.kind, DeliveryKind::Replay { forward_answers: false, .. });
        let home = match forwarded {
            true => self.return_route(&delivery.metadata, &judged.metadata, rules, false),
            false => Vec::new(),
        };
        explanation.receivers = home.iter().map(|delivery| delivery.participant.to_string()).collect();
        let further = if request.answered { ", which has an answer already" } else { "" };
        let (id, sender) = (delivery.metadata.id, &delivery.metadata.sender);
        explanation.reasons.push(format!("the response answers the request {id} of participant {sender}{further}"));
    }

    /// What is known of its identity refuses it, or makes it a duplicate.
    async fn explain_identity(&self, judged: &Judged, explanation: Explanation) -> Result<Explanation, Unavailable> {
        let identity = offload(judged.bytes.len(), || judged.message.identity());
        Ok(match self.store.verdict(&judged.metadata, identity).await? {
            Verdict::New => explanation,
            Verdict::Duplicate(first) => {
                let mut explanation = explanation;
                explanation.reasons.push(format!("it was received before as {first}: it is not delivered again"));
                explanation
            }
            Verdict::Conflict(first) => Explanation { outcome: reused(first).into(), ..begun(&judged.metadata) },
        })
    }
}

/// What is known before the plan: not accepted, nobody gets it.
fn begun(metadata: &Metadata) -> Explanation {
    Explanation {
        sender: Some(metadata.sender.clone()),
        event: metadata.event.as_ref().map(ToString::to_string),
        definition: metadata.definition.clone(),
        ..Explanation::default()
    }
}

fn planned(judged: &Judged, plan: Plan) -> Explanation {
    Explanation {
        accepted: true,
        receivers: plan.receivers.iter().map(|receiver| receiver.participant.id.to_string()).collect(),
        to_self: plan.to_self,
        reasons: plan.reasons,
        outcome: judged.checked.issues.clone().into(),
        ..begun(&judged.metadata)
    }
}
