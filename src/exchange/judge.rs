//! The first half of the path: bytes to a message that may be taken, or the refusal with every reason at once.

use super::{AnswerMode, Exchange, Inbound, Refusal, Rules};
use crate::delivery::{MessageState, Metadata, NewMessage, ReplyTo, ResponseMetadata};
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode, Outcome};
use crate::routing::{Participant, Rejections, SenderFound, address};
use bytes::Bytes;
use fhir::event::Identifier;
use fhir::identity::normal;
use fhir::quoted::quote;
use fhir::{FhirVersion, Format, Message, MessageHeader, format};
use std::sync::Arc;
use uuid::Uuid;
use validation::definition::Definition;
use validation::{Checked, Checks, OnFailure, check};

/// A message that was read, whose sender is known and may send it, and that was checked.
pub(super) struct Judged {
    pub message: Message,
    /// None: `anyone` on loopback.
    pub participant: Option<Arc<Participant>>,
    pub checked: Checked,
    pub metadata: Metadata,
    pub bytes: Bytes,
    /// Asynchronous senders are told by status (MSG-87).
    asynchronous: bool,
    from_queue: bool,
    /// Our message id, where an AMQP `correlation_id` may be one.
    pub correlation: Option<Uuid>,
}

/// A message that is not taken.
pub(super) struct Refused {
    pub metadata: Metadata,
    pub bytes: Bytes,
    pub refusal: Refusal,
    pub outcome: Outcome,
    pub definition: Option<Arc<Definition>>,
    /// Asynchronous senders and senders of responses are told by status (MSG-41, MSG-87).
    by_status: bool,
    /// It came over AMQP: every refusal is kept, because nothing else is left of it once it is acknowledged.
    pub from_queue: bool,
}

impl Refused {
    /// Whether the sender is told with a response message: its header could be read, and it did not ask otherwise.
    pub fn as_message(&self, rules: &Rules) -> bool {
        let sender = rules.table.participant(&self.metadata.sender);
        let wants = sender.map(|participant| participant.rejections).unwrap_or_default();
        self.refusal == Refusal::Unprocessable && !self.by_status && wants == Rejections::Message
    }

    /// As it is stored. `blamed`: the key of the delivery that it was meant to answer; `answer`: what its sender gets.
    pub fn kept(self, blamed: Option<i64>, answer: Option<NewMessage>) -> NewMessage {
        NewMessage {
            metadata: self.metadata,
            state: MessageState::Refused,
            bytes: self.bytes,
            outcome: Some(self.outcome),
            identity: Default::default(),
            deliveries: Vec::new(),
            answer: answer.map(Box::new),
            closes: blamed,
            further: None,
            assigns: None,
            releases_request: false,
        }
    }

    /// Whether the answer over AMQP is a response message; else it is a bare OperationOutcome.
    pub fn header_was_read(&self) -> bool {
        self.refusal != Refusal::BadRequest
    }
}

impl Judged {
    /// The errors that refuse the message: those of its content where its sender's participant, else the configuration,
    /// says so; an event that nobody defines in any case.
    pub fn errors_that_refuse(&self, rules: &Rules) -> Option<Outcome> {
        let own = self.participant.as_ref().and_then(|participant| participant.on_failure);
        let rejects = own.unwrap_or(rules.on_failure) == OnFailure::Reject;
        let outcome = Outcome::from(self.checked.issues.clone());
        (self.checked.is_unknown_event || rejects && outcome.has_errors()).then_some(outcome)
    }

    pub fn refused(&self, refusal: Refusal, outcome: impl Into<Outcome>) -> Box<Refused> {
        Box::new(Refused {
            metadata: self.metadata.clone(),
            bytes: self.bytes.clone(),
            refusal,
            outcome: outcome.into(),
            definition: self.checked.definition.clone(),
            by_status: self.asynchronous || self.message.header.response.is_some(),
            from_queue: self.from_queue,
        })
    }
}

impl Exchange {
    /// Reads, identifies, authorises and checks.
    pub(super) fn judge(&self, id: Uuid, inbound: &Inbound, rules: &Rules) -> Result<Judged, Box<Refused>> {
        let mut metadata = blank_facts(id, inbound);
        let bad = |metadata: &Metadata, refusal, outcome: Outcome| unread(metadata, inbound, refusal, outcome);
        let expected = inbound.credential.as_ref().and_then(|sender| rules.table.participant(sender));
        let expected = expected.and_then(|participant| participant.fhir_version).unwrap_or(self.settings.fhir_version);
        let expected = Some(expected);
        let format = Format::of_media_type(&inbound.media_type).unwrap_or_default();
        let tree = format::read(inbound.bytes.clone(), format, inbound.said_version, expected)
            .map_err(|issues| bad(&metadata, Refusal::BadRequest, issues.into()))?;
        let mut message = Message::read_within(tree, inbound.said_version, expected, Some(self.settings.bounds))
            .map_err(|issues| bad(&metadata, Refusal::BadRequest, issues.into()))?;
        let flawed = address::refusals(&message.header);
        if !flawed.is_empty() {
            return Err(bad(&metadata, Refusal::BadRequest, flawed.into()));
        }
        fill_facts(&mut metadata, &message);
        let sender =
            self.identify(&message, inbound, rules).map_err(|(refusal, issues)| bad(&metadata, refusal, issues))?;
        let participant = match sender {
            SenderFound::Participant(participant) => Some(participant),
            SenderFound::Anyone => None,
        };
        metadata.sender = participant.as_ref().map_or("anyone", |participant| &participant.id).to_string();
        self.settle_version(&mut message, inbound, participant.as_deref());
        metadata.version = Some(message.version);
        let checked = self.check(&message, participant.as_deref(), rules);
        metadata.definition = checked.definition.as_deref().and_then(canonical);
        metadata.category = checked.definition.as_ref().and_then(|definition| definition.category);
        metadata.checked_at_us = Some(self.clock.now_us());
        let (asynchronous, from_queue, correlation) = match &inbound.answer_mode {
            AnswerMode::Synchronous => (false, false, None),
            AnswerMode::Asynchronous { .. } | AnswerMode::StatusUrl => (true, false, None),
            AnswerMode::ReplyQueue { reply, .. } => {
                (false, true, reply.correlation.as_deref().and_then(|text| Uuid::parse_str(text).ok()))
            }
        };
        let bytes = inbound.bytes.clone();
        let judged = Judged { message, participant, checked, metadata, bytes, asynchronous, from_queue, correlation };
        self.may_pass(&judged, inbound, rules).map_err(|(refusal, outcome)| judged.refused(refusal, outcome))?;
        Ok(judged)
    }

    /// The sender, and that identity and source are usable (design of `$process-message`: else 400).
    fn identify(&self, message: &Message, inbound: &Inbound, rules: &Rules) -> Result<SenderFound, (Refusal, Outcome)> {
        let header = &message.header;
        let mut missing = Vec::new();
        if !message.has_identity() {
            let text = "The message has no Bundle.id, Bundle.identifier or MessageHeader.id, so a repeat could not be \
                        recognised; give it one";
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
        let of_the_broker = sender.participant().is_some_and(|participant| participant.amqp_user.is_some());
        if inbound.is_from_queue() && inbound.credential.is_none() && of_the_broker {
            let text =
                "The participant of this source publishes with a user of the broker; set the property user_id to it";
            let issue = Issue::error(IssueCode::Forbidden, Fault::SendForeignSource, text).rule("MSG-23");
            return Err((Refusal::Forbidden, issue.at("Bundle.entry[0].resource.source").into()));
        }
        Ok(sender)
    }

    /// By the rules and, where it has some, the settings of the participant that wrote it.
    pub(super) fn check(&self, message: &Message, participant: Option<&Participant>, rules: &Rules) -> Checked {
        let mut checks = Checks { now_us: self.clock.now_us(), ..rules.checks };
        if let Some(own) = participant {
            checks.level = own.level.unwrap_or(checks.level);
            checks.prose_rules = own.prose_rules.unwrap_or(checks.prose_rules);
        }
        check(message, &rules.definitions, checks)
    }

    /// The participant's version, else the configured one, decides between versions of one shape when nothing else said it.
    fn settle_version(&self, message: &mut Message, inbound: &Inbound, participant: Option<&Participant>) {
        let expected = participant.and_then(|participant| participant.fhir_version);
        let expected = expected.unwrap_or(self.settings.fhir_version);
        if inbound.said_version.is_none() && message.version != FhirVersion::R5 && expected != FhirVersion::R5 {
            message.version = expected;
        }
    }

    /// What a readable message may still fail on. A response is judged later, once its request is known.
    fn may_pass(&self, judged: &Judged, inbound: &Inbound, rules: &Rules) -> Result<(), (Refusal, Outcome)> {
        if self.came_through_us(inbound) {
            let text = "The message came through this router before: its Via holds our name";
            let issue = Issue::error(IssueCode::Processing, Fault::RouteLoop, text).rule("MSG-128");
            return Err((Refusal::Unprocessable, issue.into()));
        }
        if judged.message.header.response.is_some() {
            return Ok(());
        }
        if let Some(issue) = forbidden_event(&judged.message.header, judged.participant.as_deref()) {
            return Err((Refusal::Forbidden, issue.into()));
        }
        match judged.errors_that_refuse(rules) {
            Some(outcome) => Err((Refusal::Unprocessable, outcome)),
            None => Ok(()),
        }
    }

    /// Whether `Via` holds our own name (MSG-128).
    fn came_through_us(&self, inbound: &Inbound) -> bool {
        let ours = |hop: &str| {
            hop.split_whitespace().nth(1).is_some_and(|name| name.eq_ignore_ascii_case(&self.settings.name))
        };
        inbound.via.as_deref().is_some_and(|via| via.split(',').any(ours))
    }
}

pub(super) fn forbidden_event(header: &MessageHeader, participant: Option<&Participant>) -> Option<Issue> {
    let (event, participant) = (header.event.as_ref()?, participant?);
    (!participant.may_send(event)).then(|| {
        let text = format!("Participant {} may not send the event {}", participant.id, quote(&event.to_string()));
        Issue::error(IssueCode::Forbidden, Fault::SendForbiddenEvent, text).at("Bundle.entry[0].resource.event")
    })
}

fn unread(metadata: &Metadata, inbound: &Inbound, refusal: Refusal, outcome: Outcome) -> Box<Refused> {
    Box::new(Refused {
        metadata: metadata.clone(),
        bytes: inbound.bytes.clone(),
        refusal,
        outcome,
        definition: None,
        by_status: true,
        from_queue: inbound.is_from_queue(),
    })
}

/// A message of which only the bytes are known.
pub(super) fn unpacked(id: Uuid, inbound: &Inbound, refusal: Refusal, issue: Issue) -> Refused {
    *unread(&blank_facts(id, inbound), inbound, refusal, issue.into())
}

fn blank_facts(id: Uuid, inbound: &Inbound) -> Metadata {
    Metadata {
        id,
        sender: inbound.credential.as_deref().unwrap_or("unknown").to_string(),
        source: None,
        destinations: Vec::new(),
        event: None,
        version: inbound.said_version,
        media_type: inbound.media_type.clone(),
        header_id: None,
        bundle_id: None,
        bundle_identifier: None,
        header_uuid: None,
        response: None,
        definition: None,
        category: None,
        owed: None,
        reply_to: match &inbound.answer_mode {
            AnswerMode::ReplyQueue { reply, .. } => ReplyTo::Queue(reply.clone()),
            _ => ReplyTo::Wait,
        },
        in_reply_to: None,
        request_format: None,
        unmatched: false,
        ambiguous: false,
        via: inbound.via.as_deref().map(newest_hops),
        request_id: Some(inbound.request_id.clone()),
        size_bytes: inbound.bytes.len() as u64,
        received_at_us: inbound.received_at_us,
        checked_at_us: None,
        planned_at_us: None,
    }
}

/// `Via` as it is stored and passed on: within the bound, which leaves out the oldest routers.
fn newest_hops(via: &str) -> String {
    const VIA_LIMIT_BYTES: usize = 2_048;
    let beyond = via.len().saturating_sub(VIA_LIMIT_BYTES);
    let cuts = via.match_indices(',').map(|(comma, _)| comma + 1);
    let from = cuts.chain([via.len()]).find(|from| *from >= beyond).filter(|_| beyond > 0).unwrap_or(0);
    via.get(from..).unwrap_or_default().trim_start().to_owned()
}

/// A definition as messages name it; None where it has no url.
pub(super) fn canonical(definition: &Definition) -> Option<String> {
    definition.url.is_some().then(|| definition.canonical())
}

fn same_id(known: Option<&str>, uuid: &str) -> bool {
    known.is_some_and(|known| normal(known) == uuid)
}

/// What the message says of itself.
pub(super) fn fill_facts(metadata: &mut Metadata, message: &Message) {
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
