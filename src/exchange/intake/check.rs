//! Parses a received message, identifies its sender, and validates it; or refuses it with every reason found.

use super::RefusedMessage;
use crate::clock::Clock;
use crate::delivery::{Metadata, ReplyTo, ResponseMetadata};
use crate::exchange::answer_writer::canonical;
use crate::exchange::{AnswerMode, Inbound, Refusal, Rules, Settings};
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode, Outcome};
use crate::routing::{Participant, SenderFound, address};
use bytes::Bytes;
use fhir::event::Identifier;
use fhir::identity::normal;
use fhir::quoted::quote;
use fhir::{FhirVersion, Format, Message, MessageHeader, format};
use std::sync::Arc;
use uuid::Uuid;
use validation::{Checked, Checks, OnFailure, check};

pub(super) struct Checker {
    pub clock: Clock,
    pub settings: Arc<Settings>,
}

/// A message that was parsed and validated, from a sender that is known and may send it.
pub(in crate::exchange) struct CheckedMessage {
    pub message: Message,
    /// The sender; None for `anyone`, while no participant is configured.
    pub participant: Option<Arc<Participant>>,
    pub validation: Checked,
    pub metadata: Metadata,
    pub bytes: Bytes,
    /// The sender asked for an asynchronous answer, so refusals are reported by HTTP status (MSG-87).
    pub(super) asynchronous: bool,
    pub(super) from_queue: bool,
    /// The AMQP `correlation_id`, if it has the form of an Emberpost message id.
    pub correlation: Option<Uuid>,
}

impl CheckedMessage {
    pub fn is_response(&self) -> bool {
        self.message.header.response.is_some()
    }

    /// The errors that refuse the message: errors of its content if its sender's participant, else the configuration, says
    /// so; an event without a definition in any case.
    pub fn refusing_errors(&self, rules: &Rules) -> Option<Outcome> {
        let configured = self.participant.as_ref().and_then(|participant| participant.on_failure);
        let rejects = configured.unwrap_or(rules.on_failure) == OnFailure::Reject;
        let outcome = Outcome::from(self.validation.issues.clone());
        (self.validation.is_unknown_event || rejects && outcome.has_errors()).then_some(outcome)
    }
}

impl Checker {
    pub fn check(&self, id: Uuid, inbound: &Inbound, rules: &Rules) -> Result<CheckedMessage, Box<RefusedMessage>> {
        let mut metadata = initial_metadata(id, inbound);
        let unreadable =
            |metadata: &Metadata, refusal, outcome: Outcome| refused_early(metadata, inbound, refusal, outcome);
        let expected = inbound.credential.as_ref().and_then(|sender| rules.table.participant(sender));
        let expected = expected.and_then(|participant| participant.fhir_version).unwrap_or(self.settings.fhir_version);
        let expected = Some(expected);
        let format = Format::of_media_type(&inbound.media_type).unwrap_or_default();
        let tree = format::read(inbound.bytes.clone(), format, inbound.said_version, expected)
            .map_err(|issues| unreadable(&metadata, Refusal::BadRequest, issues.into()))?;
        let mut message = Message::read_within(tree, inbound.said_version, expected, Some(self.settings.bounds))
            .map_err(|issues| unreadable(&metadata, Refusal::BadRequest, issues.into()))?;
        let flawed = address::refusals(&message.header);
        if !flawed.is_empty() {
            return Err(unreadable(&metadata, Refusal::BadRequest, flawed.into()));
        }
        fill_metadata(&mut metadata, &message);
        let sender = self
            .identify(&message, inbound, rules)
            .map_err(|(refusal, issues)| unreadable(&metadata, refusal, issues))?;
        let participant = match sender {
            SenderFound::Participant(participant) => Some(participant),
            SenderFound::Anyone => None,
        };
        metadata.sender = participant.as_ref().map_or("anyone", |participant| &participant.id).to_string();
        self.settle_version(&mut message, inbound, participant.as_deref());
        metadata.version = Some(message.version);
        let validation = self.validate(&message, participant.as_deref(), rules);
        metadata.definition = validation.definition.as_deref().and_then(canonical);
        metadata.category = validation.definition.as_ref().and_then(|definition| definition.category);
        metadata.checked_at_us = Some(self.clock.now_us());
        let (asynchronous, from_queue, correlation) = match &inbound.answer_mode {
            AnswerMode::Synchronous => (false, false, None),
            AnswerMode::Asynchronous { .. } | AnswerMode::StatusUrl => (true, false, None),
            AnswerMode::ReplyQueue { reply, .. } => {
                (false, true, reply.correlation.as_deref().and_then(|text| Uuid::parse_str(text).ok()))
            }
        };
        let bytes = inbound.bytes.clone();
        let checked =
            CheckedMessage { message, participant, validation, metadata, bytes, asynchronous, from_queue, correlation };
        self.may_pass(&checked, inbound, rules).map_err(|(refusal, outcome)| checked.refused(refusal, outcome))?;
        Ok(checked)
    }

    /// Finds the sender. Errs with 400 if the message has no usable identity or source, with 403 if it may not send.
    fn identify(&self, message: &Message, inbound: &Inbound, rules: &Rules) -> Result<SenderFound, (Refusal, Outcome)> {
        let header = &message.header;
        let mut missing = Vec::new();
        if !message.has_identity() {
            let text = "The message has no Bundle.id, Bundle.identifier or MessageHeader.id, so a duplicate could not be \
                        recognized; give it one";
            missing.push(Issue::error(IssueCode::Required, Fault::SendIdentity, text).rule("MSG-60").at("Bundle.id"));
        }
        let named = message.version == FhirVersion::R5 && inbound.credential.is_some();
        if header.source_endpoint.is_none() && !named {
            let text = "The MessageHeader has no source endpoint, so its sender is unknown and there is nowhere to \
                        respond; give source.endpoint (R4) or source.endpointUrl (R5)";
            let at = "Bundle.entry[0].resource.source";
            missing.push(Issue::error(IssueCode::Required, Fault::SendUnknownSource, text).rule("MSG-23").at(at));
        }
        if !missing.is_empty() {
            return Err((Refusal::BadRequest, missing.into()));
        }
        let source = header.source_endpoint.as_deref();
        let sender = rules.table.sender_of(source, inbound.credential.as_deref());
        let sender = sender.map_err(|issue| (Refusal::Forbidden, Outcome::from(issue)))?;
        let uses_amqp_user = sender.participant().is_some_and(|participant| participant.amqp_user.is_some());
        if inbound.is_from_queue() && inbound.credential.is_none() && uses_amqp_user {
            let text = "The participant of this source publishes with its own user of the broker; set the property user_id to that user";
            let issue = Issue::error(IssueCode::Forbidden, Fault::SendForeignSource, text).rule("MSG-23");
            return Err((Refusal::Forbidden, issue.at("Bundle.entry[0].resource.source").into()));
        }
        Ok(sender)
    }

    /// By the rules and the settings of the participant that wrote it, if it has any.
    pub fn validate(&self, message: &Message, participant: Option<&Participant>, rules: &Rules) -> Checked {
        let mut checks = Checks { now_us: self.clock.now_us(), ..rules.checks };
        if let Some(participant) = participant {
            checks.level = participant.level.unwrap_or(checks.level);
            checks.prose_rules = participant.prose_rules.unwrap_or(checks.prose_rules);
        }
        check(message, &rules.definitions, checks)
    }

    /// R4 and R4B headers look alike: unless the media type says the version, the participant's setting decides, else the
    /// configured version.
    fn settle_version(&self, message: &mut Message, inbound: &Inbound, participant: Option<&Participant>) {
        let expected = participant.and_then(|participant| participant.fhir_version);
        let expected = expected.unwrap_or(self.settings.fhir_version);
        if inbound.said_version.is_none() && message.version != FhirVersion::R5 && expected != FhirVersion::R5 {
            message.version = expected;
        }
    }

    /// Refuses routing loops, forbidden events, and invalid content. Responses are checked later, once their request is known.
    fn may_pass(&self, checked: &CheckedMessage, inbound: &Inbound, rules: &Rules) -> Result<(), (Refusal, Outcome)> {
        if self.has_passed_here(inbound) {
            let text = "The message came through this router before: its Via holds our name";
            let issue = Issue::error(IssueCode::Processing, Fault::RouteLoop, text).rule("MSG-128");
            return Err((Refusal::Unprocessable, issue.into()));
        }
        if checked.is_response() {
            return Ok(());
        }
        if let Some(issue) = forbidden_event(&checked.message.header, checked.participant.as_deref()) {
            return Err((Refusal::Forbidden, issue.into()));
        }
        match checked.refusing_errors(rules) {
            Some(outcome) => Err((Refusal::Unprocessable, outcome)),
            None => Ok(()),
        }
    }

    /// Whether `Via` contains our own name (MSG-128).
    fn has_passed_here(&self, inbound: &Inbound) -> bool {
        let ours = |hop: &str| {
            hop.split_whitespace().nth(1).is_some_and(|name| name.eq_ignore_ascii_case(&self.settings.name))
        };
        inbound.via.as_deref().is_some_and(|via| via.split(',').any(ours))
    }
}

pub(in crate::exchange) fn forbidden_event(header: &MessageHeader, participant: Option<&Participant>) -> Option<Issue> {
    let (event, participant) = (header.event.as_ref()?, participant?);
    (!participant.may_send(event)).then(|| {
        let text = format!("Participant {} may not send the event {}", participant.id, quote(&event.to_string()));
        Issue::error(IssueCode::Forbidden, Fault::SendForbiddenEvent, text).at("Bundle.entry[0].resource.event")
    })
}

fn refused_early(metadata: &Metadata, inbound: &Inbound, refusal: Refusal, outcome: Outcome) -> Box<RefusedMessage> {
    Box::new(RefusedMessage {
        metadata: metadata.clone(),
        bytes: inbound.bytes.clone(),
        refusal,
        outcome,
        definition: None,
        by_status: true,
        from_queue: inbound.is_from_queue(),
    })
}

/// The refusal of a message of which only the bytes are known.
pub(super) fn undecodable(id: Uuid, inbound: &Inbound, refusal: Refusal, issue: Issue) -> RefusedMessage {
    *refused_early(&initial_metadata(id, inbound), inbound, refusal, issue.into())
}

fn initial_metadata(id: Uuid, inbound: &Inbound) -> Metadata {
    let sender = inbound.credential.as_deref().unwrap_or("unknown");
    Metadata {
        version: inbound.said_version,
        reply_to: match &inbound.answer_mode {
            AnswerMode::ReplyQueue { reply, .. } => ReplyTo::Queue(reply.clone()),
            _ => ReplyTo::Wait,
        },
        via: inbound.via.as_deref().map(newest_hops),
        request_id: Some(inbound.request_id.clone()),
        size_bytes: inbound.bytes.len() as u64,
        ..Metadata::new(id, sender, inbound.media_type.clone(), inbound.received_at_us)
    }
}

/// `Via` as stored and passed on: within its size limit, beyond which the oldest routers are left out.
fn newest_hops(via: &str) -> String {
    const VIA_LIMIT_BYTES: usize = 2_048;
    let beyond = via.len().saturating_sub(VIA_LIMIT_BYTES);
    let cuts = via.match_indices(',').map(|(comma, _)| comma + 1);
    let from = cuts.chain([via.len()]).find(|from| *from >= beyond).filter(|_| beyond > 0).unwrap_or(0);
    via.get(from..).unwrap_or_default().trim_start().to_owned()
}

fn same_id(known: Option<&str>, uuid: &str) -> bool {
    known.is_some_and(|known| normal(known) == uuid)
}

/// Copies what the message says about itself into its metadata.
pub(in crate::exchange) fn fill_metadata(metadata: &mut Metadata, message: &Message) {
    let header = &message.header;
    metadata.version = Some(message.version);
    metadata.source = header.source_endpoint.as_deref().map(str::to_owned);
    metadata.destinations = header.destinations.iter().filter_map(|destination| destination.endpoint.clone()).collect();
    metadata.event = header.event.clone();
    metadata.header_id = header.id.clone();
    metadata.bundle_id = message.bundle_id.clone();
    metadata.bundle_identifier = message.bundle_identifier.clone();
    metadata.header_uuid = message.header_uuid().filter(|uuid| !same_id(metadata.header_id.as_deref(), uuid));
    metadata.response = header.response.as_ref().map(|response| ResponseMetadata {
        identifier: response.identifier.clone().unwrap_or(Identifier { system: None, value: String::new() }),
        code: response.code,
    });
    if metadata.response.is_some() {
        metadata.reply_to = ReplyTo::Nobody;
    }
}
