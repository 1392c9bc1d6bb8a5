//! Messages that Emberpost plans, receives or answers itself.

use super::judge::{Judged, Refused, canonical};
use super::{AnswerMode, Exchange, Inbound, Refusal, Rules, convertible};
use crate::answer::OwnAnswer;
use crate::delivery::{DeliveryKind, MessageState, Metadata, NewDelivery, NewMessage, ReplyTo, ResponseMetadata};
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode, Outcome};
use crate::routing::address;
use crate::routing::plan::{Plan, plan};
use crate::routing::{EMBERPOST, Receiver};
use bytes::Bytes;
use fhir::event::{Identifier, ResponseCode, ResponseRequired};
use fhir::format::convert;
use fhir::{Event, FhirVersion, Format};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;
use validation::definition::Definition;
use validation::expand::expand;

/// What an own answer says, beside who it answers.
pub(super) struct Say<'a> {
    pub code: ResponseCode,
    pub outcome: Option<&'a Outcome>,
    /// Issues of the receiver's OperationOutcome, added to ours as they are.
    pub receiver_issues: &'a [Value],
    pub focus: Option<Value>,
}

impl Exchange {
    /// Where a request goes and where its answer goes, or why it is refused. For requests that are stored, and for those
    /// whose plan is only shown.
    pub(super) fn plan_for(
        &self,
        judged: &Judged,
        inbound: &Inbound,
        rules: &Rules,
    ) -> Result<(Metadata, Plan), Box<Refused>> {
        let mut metadata = judged.metadata.clone();
        let definition = judged.checked.definition.as_deref();
        metadata.owed = judged
            .message
            .header
            .response_request
            .or_else(|| definition.and_then(|definition| definition.response_required));
        metadata.reply_to = self
            .reply_to(judged, inbound, rules, metadata.owed)
            .map_err(|(refusal, issue)| judged.refused(refusal, issue))?;
        let plan = plan(&judged.message, &metadata.sender, metadata.category, &rules.table)
            .map_err(|issues| judged.refused(Refusal::Unprocessable, issues))?;
        convertible::check(judged, &metadata, &plan, &rules.definitions)
            .map_err(|issues| judged.refused(Refusal::Unprocessable, issues))?;
        Ok((metadata, plan))
    }

    /// Plans a request and builds everything that its transaction keeps.
    pub(super) fn plan_request(
        &self,
        judged: &Judged,
        inbound: &Inbound,
        rules: &Rules,
    ) -> Result<NewMessage, Box<Refused>> {
        let (mut metadata, plan) = self.plan_for(judged, inbound, rules)?;
        metadata.planned_at_us = Some(self.clock.now_us());
        let answer = match plan.to_self {
            true => self.answer_as_receiver(judged, &metadata, rules, plan.receivers.is_empty()),
            false => None,
        };
        let deliveries =
            plan.receivers.iter().map(|receiver| self.request_to(receiver, inbound.expires_after)).collect();
        let outcome = (!judged.checked.issues.is_empty()).then(|| Outcome::from(judged.checked.issues.clone()));
        Ok(NewMessage {
            identity: judged.message.identity(),
            metadata,
            state: MessageState::Accepted,
            bytes: judged.bytes.clone(),
            outcome,
            deliveries,
            answer: answer.map(Box::new),
            closes: None,
            further: None,
            assigns: None,
            releases_request: false,
        })
    }

    /// Where the answer goes, as the request asked (MSG-86 to MSG-89, ASY-40).
    fn reply_to(
        &self,
        judged: &Judged,
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
        let sender = &judged.metadata.sender;
        if let Some(url) = response_url {
            let url = self.callback(url).map_err(|issue| (Refusal::BadRequest, issue))?;
            if rules.table.is_owner(sender, url.as_str()) {
                return Ok(ReplyTo::Callback(url.into()));
            }
            let text = "response-url is no address of the sender's own participant; ask the operator to add it";
            let issue = Issue::error(IssueCode::Forbidden, Fault::SendForeignSource, text).rule("MSG-89");
            return Err((Refusal::Forbidden, issue));
        }
        let has_channel = judged.participant.as_ref().is_some_and(|participant| participant.channel.is_some());
        // Where nobody says that an answer is required, the sender can do without.
        if has_channel || matches!(owed, None | Some(ResponseRequired::Never)) {
            return Ok(ReplyTo::Channel);
        }
        let text = "async=true, an answer is owed, and there is nowhere to send it: the sender has no channel here; give \
                    response-url, or use Prefer: respond-async";
        Err((Refusal::BadRequest, Issue::error(IssueCode::Required, Fault::SendRequest, text).rule("MSG-87")))
    }

    /// A `response-url`, parsed once: what is compared with the sender's addresses is what is posted to.
    fn callback(&self, url: &str) -> Result<url::Url, Issue> {
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
        let none = "response-url is no http or https URL, so nothing can be posted to it; give one that is";
        address::http_url(url).filter(url::Url::has_host).ok_or_else(|| wrong(none.to_owned()))
    }

    /// A request's delivery. What its sender says of its use by date counts, where it is sooner than the receiver's.
    fn request_to(&self, receiver: &Receiver, expires_after: Option<Duration>) -> NewDelivery {
        let mut delivery = self.delivery_to(receiver, DeliveryKind::Request);
        if let Some(after) = expires_after {
            let after_us = i64::try_from(after.as_micros()).unwrap_or(i64::MAX);
            delivery.expires_at_us = delivery.expires_at_us.min(self.clock.now_us().saturating_add(after_us));
        }
        delivery
    }

    pub(super) fn delivery_to(&self, receiver: &Receiver, kind: DeliveryKind) -> NewDelivery {
        let now_us = self.clock.now_us();
        NewDelivery {
            id: self.clock.new_id(),
            participant: receiver.participant.id.clone(),
            destination: receiver.destination.clone(),
            lane: receiver.lane,
            due_at_us: 0,
            expires_at_us: now_us.saturating_add(receiver.participant.expire_after_seconds as i64 * 1_000_000),
            kind,
        }
    }

    /// Emberpost as the receiver: push events are kept and answered `ok`, the two expansions are answered with their
    /// data, other pull events are not supported. `alone`: a sender that waits gets this answer on the line.
    fn answer_as_receiver(
        &self,
        judged: &Judged,
        metadata: &Metadata,
        rules: &Rules,
        alone: bool,
    ) -> Option<NewMessage> {
        let definition = judged.checked.definition.as_deref();
        let pulled = expand(&judged.message, &rules.definitions, self.clock.now_us());
        let (code, outcome, focus) = match pulled {
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
        let say = Say { code, outcome: outcome.as_ref(), receiver_issues: &[], focus };
        let mut answer = self.own_answer(metadata, definition, rules, say);
        if !alone || metadata.reply_to != ReplyTo::Wait {
            answer.deliveries = self.return_route(metadata, &answer.metadata, rules, false);
        }
        Some(answer)
    }

    /// What a refused sender gets beside or in place of a status. Over AMQP it is published: a response message where the
    /// header could be read, else a bare OperationOutcome; a response is never answered (MSG-41).
    pub(super) fn refusal_answer(&self, refused: &Refused, rules: &Rules) -> Option<NewMessage> {
        if !refused.from_queue {
            return refused.as_message(rules).then(|| self.fatal_error(refused, rules));
        }
        if refused.metadata.reply_to == ReplyTo::Nobody {
            return None;
        }
        let mut answer = match refused.header_was_read() {
            true => self.fatal_error(refused, rules),
            false => self.bare_outcome(&refused.metadata, &refused.outcome),
        };
        answer.deliveries = self.return_route(&refused.metadata, &answer.metadata, rules, true);
        Some(answer)
    }

    fn fatal_error(&self, refused: &Refused, rules: &Rules) -> NewMessage {
        let say =
            Say { code: ResponseCode::FatalError, outcome: Some(&refused.outcome), receiver_issues: &[], focus: None };
        self.own_answer(&refused.metadata, refused.definition.as_deref(), rules, say)
    }

    /// An OperationOutcome in place of an answer, to what is no message that could be answered.
    fn bare_outcome(&self, request: &Metadata, outcome: &Outcome) -> NewMessage {
        let bytes = outcome.to_resource().to_string().into_bytes();
        let metadata = Metadata {
            size_bytes: bytes.len() as u64,
            header_id: None,
            bundle_id: None,
            response: None,
            definition: None,
            ..self.own_facts(request, self.clock.new_id(), None)
        };
        kept_as_own(metadata, request, bytes)
    }

    /// A response message of our own, ready to be kept with its request (MSG-36 to MSG-38).
    pub(super) fn own_answer(
        &self,
        request: &Metadata,
        definition: Option<&Definition>,
        rules: &Rules,
        say: Say<'_>,
    ) -> NewMessage {
        let (id, now_us) = (self.clock.new_id(), self.clock.now_us());
        let (bundle_id, header_id) = (self.clock.new_id(), self.clock.new_id());
        let response = definition.and_then(|definition| rules.definitions.allowed_response_definition(definition));
        let event = response.map(|response| &response.event).or(request.event.as_ref());
        let canonical = response.and_then(|response| canonical(response));
        let version = request.version.unwrap_or(FhirVersion::R4);
        let bytes = OwnAnswer {
            version,
            bundle_id,
            header_id,
            now_us,
            base_url: &self.settings.base_url,
            destination: request.source.as_deref(),
            event,
            definition: canonical.as_deref(),
            request_header_id: request.header_id.as_deref(),
            request_bundle_id: request.bundle_id.as_deref(),
            request_identifier: request.bundle_identifier.as_ref(),
            code: say.code,
            outcome: say.outcome,
            receiver_issues: say.receiver_issues,
            focus: say.focus,
        }
        .write();
        let mut metadata = self.own_facts(request, id, event.cloned());
        metadata.definition = canonical;
        metadata.version = Some(version);
        metadata.header_id = Some(header_id.to_string());
        metadata.bundle_id = Some(bundle_id.to_string());
        metadata.size_bytes = bytes.len() as u64;
        metadata.response = Some(ResponseMetadata { identifier: answered(request), code: Some(say.code) });
        kept_as_own(metadata, request, bytes)
    }

    fn own_facts(&self, request: &Metadata, id: Uuid, event: Option<Event>) -> Metadata {
        Metadata {
            id,
            sender: EMBERPOST.into(),
            source: Some(self.settings.base_url.clone()),
            destinations: request.source.as_deref().map(Arc::from).into_iter().collect(),
            event,
            media_type: Format::Json.media_type().to_owned(),
            bundle_identifier: None,
            header_uuid: None,
            category: None,
            owed: None,
            reply_to: ReplyTo::Nobody,
            in_reply_to: Some(request.id),
            request_format: None,
            unmatched: false,
            ambiguous: false,
            via: None,
            received_at_us: self.clock.now_us(),
            checked_at_us: None,
            planned_at_us: None,
            ..request.clone()
        }
    }
}

/// Own words as they are kept: in the format of the request.
fn kept_as_own(mut metadata: Metadata, request: &Metadata, bytes: Vec<u8>) -> NewMessage {
    let mut bytes = Bytes::from(bytes);
    if Format::of_media_type(&request.media_type) == Some(Format::Xml)
        && let Ok(xml) = convert(bytes.clone(), Format::Xml, metadata.version.unwrap_or(FhirVersion::R4))
    {
        (metadata.media_type, metadata.size_bytes) = (Format::Xml.media_type().to_owned(), xml.len() as u64);
        bytes = xml;
    }
    NewMessage {
        metadata,
        state: MessageState::Accepted,
        bytes,
        outcome: None,
        identity: Default::default(),
        deliveries: Vec::new(),
        answer: None,
        closes: None,
        further: None,
        assigns: None,
        releases_request: false,
    }
}

/// The identifier by which a request's answers name it, first of header id, Bundle.id and identifier.
fn answered(request: &Metadata) -> Identifier {
    let id = request.header_id.clone().or_else(|| request.bundle_id.clone());
    match (id, &request.bundle_identifier) {
        (Some(value), _) => Identifier { system: None, value },
        (None, Some(identifier)) => identifier.clone(),
        (None, None) => Identifier { system: None, value: String::new() },
    }
}

/// Pull events that are defined beforehand: the two expansions, and searches and operations as messages (MSG-105, 106).
fn is_pull(event: Option<&Event>) -> bool {
    let Some(Event::Coding { system: Some(system), code }) = event else { return false };
    match system.as_str() {
        "http://hl7.org/fhir/restful-interaction" | "urn:ietf:rfc:3986" => true,
        "http://hl7.org/fhir/message-events" => matches!(code.as_str(), "valueset-expand" | "CodeSystem-expand"),
        _ => false,
    }
}
