//! Parts of a request's plan: where its answer goes, its deliveries, and the answer that Emberpost gives as the receiver.

use super::{CheckedMessage, Intake};
use crate::delivery::{DeliveryKind, Metadata, NewDelivery, NewMessage, ReplyTo};
use crate::exchange::answer_writer::AnswerContent;
use crate::exchange::return_route::return_route;
use crate::exchange::{AnswerMode, Inbound, Refusal, Rules};
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode, Outcome};
use crate::routing::{Receiver, address};
use fhir::Event;
use fhir::event::{ResponseCode, ResponseRequired};
use std::time::Duration;
use validation::expand::expand;

impl Intake {
    /// Where the answer goes, as the request asked (MSG-86 to MSG-89, ASY-40).
    pub(super) fn reply_to(
        &self,
        message: &CheckedMessage,
        inbound: &Inbound,
        rules: &Rules,
        owed: Option<ResponseRequired>,
    ) -> Result<ReplyTo, (Refusal, Issue)> {
        let response_url = match &inbound.answer_mode {
            AnswerMode::Synchronous => return Ok(ReplyTo::Wait),
            AnswerMode::StatusUrl => return Ok(ReplyTo::Status),
            AnswerMode::ReplyQueue { reply, .. } => return Ok(ReplyTo::Queue(reply.clone())),
            AnswerMode::Asynchronous { response_url } => response_url,
        };
        let sender = &message.metadata.sender;
        if let Some(url) = response_url {
            let url = self.callback_url(url).map_err(|issue| (Refusal::BadRequest, issue))?;
            if rules.table.is_owner(sender, url.as_str()) {
                return Ok(ReplyTo::Callback(url.into()));
            }
            let text = "response-url is not an address of the sender's own participant; ask the operator to add it";
            let issue = Issue::error(IssueCode::Forbidden, Fault::SendForeignSource, text).rule("MSG-89");
            return Err((Refusal::Forbidden, issue));
        }
        let has_channel = message.participant.as_ref().is_some_and(|participant| participant.channel.is_some());
        // Unless something says that an answer is required, the sender can do without one.
        if has_channel || matches!(owed, None | Some(ResponseRequired::Never)) {
            return Ok(ReplyTo::Channel);
        }
        let text = "async=true, an answer is owed, and there is nowhere to send it: the sender has no channel here; give \
                    response-url, or use Prefer: respond-async";
        Err((Refusal::BadRequest, Issue::error(IssueCode::Required, Fault::SendRequest, text).rule("MSG-87")))
    }

    /// Parses a `response-url` once, so that the URL compared with the sender's addresses is the one that is posted to.
    fn callback_url(&self, url: &str) -> Result<url::Url, Issue> {
        let wrong = |text: String| Issue::error(IssueCode::Value, Fault::SendRequest, text).rule("MSG-88");
        let limit = self.settings.bounds.text_bytes;
        if url.len() > limit {
            let text =
                format!("response-url has {} bytes; Emberpost takes at most {limit} (address_limit_bytes)", url.len());
            return Err(Issue::error(IssueCode::TooLong, Fault::SendLimit, text).rule("MSG-88"));
        }
        if let Some(flaw) = address::flaw(url) {
            return Err(wrong(format!("response-url has {flaw}; give the URL without it")));
        }
        let invalid = "response-url is not an http or https URL, so nothing can be posted to it; give one that is";
        address::http_url(url).filter(url::Url::has_host).ok_or_else(|| wrong(invalid.to_owned()))
    }

    /// A request's delivery. It expires when its sender or the receiver's participant says, whichever is sooner.
    pub(super) fn request_to(&self, receiver: &Receiver, expires_after: Option<Duration>) -> NewDelivery {
        let now_us = self.clock.now_us();
        let mut delivery = receiver.delivery(DeliveryKind::Request, self.clock.new_id(), now_us);
        if let Some(after) = expires_after {
            let after_us = i64::try_from(after.as_micros()).unwrap_or(i64::MAX);
            delivery.expires_at_us = delivery.expires_at_us.min(now_us.saturating_add(after_us));
        }
        delivery
    }

    /// The answer of Emberpost as the receiver: `ok` to push events, the expansion to the two expansion events, and
    /// `not-supported` to other pull events. `alone`: there is no other receiver, so a waiting sender gets it directly.
    pub(super) fn answer_as_receiver(
        &self,
        message: &CheckedMessage,
        metadata: &Metadata,
        rules: &Rules,
        alone: bool,
    ) -> Option<NewMessage> {
        let definition = message.validation.definition.as_deref();
        let expansion = expand(&message.message, &rules.definitions.catalog, self.clock.now_us());
        let (code, outcome, focus) = match expansion {
            Some(Ok(resource)) => (ResponseCode::Ok, None, Some(resource)),
            Some(Err(issue)) => (ResponseCode::FatalError, Some(Outcome::from(issue)), None),
            None if is_pull(metadata.event.as_ref()) => {
                let text = "Emberpost itself answers valueset-expand and CodeSystem-expand only; address other pull \
                            events to a participant";
                let issue = Issue::error(IssueCode::NotSupported, Fault::SendUnknownDestination, text);
                (ResponseCode::FatalError, Some(issue.at("Bundle.entry[0].resource.event").into()), None)
            }
            None => (ResponseCode::Ok, None, None),
        };
        if metadata.owed.is_some_and(|owed| !owed.wants(code)) && code == ResponseCode::Ok {
            return None;
        }
        let content = AnswerContent { code, outcome: outcome.as_ref(), receiver_issues: &[], focus };
        let mut answer = self.answers.answer(metadata, definition, rules, content);
        if !alone || metadata.reply_to != ReplyTo::Wait {
            answer.deliveries = return_route(metadata, &answer.metadata, rules, &self.clock, false);
        }
        Some(answer)
    }
}

/// Pull events that the specification defines: the two expansions, and searches and operations as messages (MSG-105, 106).
fn is_pull(event: Option<&Event>) -> bool {
    let Some(Event::Coding { system: Some(system), code }) = event else { return false };
    match system.as_str() {
        "http://hl7.org/fhir/restful-interaction" | "urn:ietf:rfc:3986" => true,
        "http://hl7.org/fhir/message-events" => matches!(code.as_str(), "valueset-expand" | "CodeSystem-expand"),
        _ => false,
    }
}
