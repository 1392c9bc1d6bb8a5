//! The plan of a message that is not kept, for people.

use super::judge::Judged;
use super::{Exchange, Inbound, Rules, Wants};
use crate::apart::apart;
use crate::fhir::{Form, Outcome};
use crate::routing::plan::plan;
use bytes::Bytes;
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
    /// Where this message would go, and why; nothing is stored. `sender`: the participant to take as the sender.
    pub fn explain(&self, bytes: Bytes, media_type: Option<&str>, sender: Option<&str>) -> Explanation {
        let seen = Form::seen(&bytes);
        let inbound = Inbound {
            bytes,
            media_type: media_type.unwrap_or(seen.media_type()).to_string(),
            said_version: None,
            credential: sender.map(Arc::from),
            via: None,
            request_id: String::new(),
            wants: Wants::OnTheLine,
            expires_after: None,
            received_at_us: self.clock.now_us(),
            gone: CancellationToken::new(),
        };
        let rules = self.rules.load_full();
        match apart(inbound.bytes.len(), || self.judge(Uuid::nil(), &inbound, &rules)) {
            Ok(judged) => planned(&judged, &rules),
            Err(refused) => Explanation {
                sender: Some(refused.facts.sender.clone()),
                event: refused.facts.event.as_ref().map(ToString::to_string),
                definition: refused.facts.definition.clone(),
                outcome: refused.outcome,
                ..Explanation::default()
            },
        }
    }
}

fn planned(judged: &Judged, rules: &Rules) -> Explanation {
    let facts = &judged.facts;
    let mut explanation = Explanation {
        sender: Some(facts.sender.clone()),
        event: facts.event.as_ref().map(ToString::to_string),
        definition: facts.definition.clone(),
        outcome: judged.checked.issues.clone().into(),
        ..Explanation::default()
    };
    match plan(&judged.message, &facts.sender, facts.category, &rules.table) {
        Ok(plan) => {
            explanation.accepted = true;
            explanation.receivers = plan.receivers.iter().map(|receiver| receiver.participant.id.to_string()).collect();
            explanation.to_self = plan.to_self;
            explanation.reasons = plan.reasons;
            if judged.message.header.response.is_some() {
                let text = "a response first goes to the request that it answers; this is its way where there is none";
                explanation.reasons.push(text.into());
            }
        }
        Err(issues) => explanation.outcome.issues.extend(issues),
    }
    explanation
}
