//! Writes the answers that Emberpost itself gives: as the receiver of a request, on a refusal, and for a delivery that failed.

use super::{Rules, Settings};
use crate::answer::RouterAnswer;
use crate::clock::Clock;
use crate::delivery::{MessageState, Metadata, NewMessage, ReplyTo, ResponseMetadata};
use crate::outcome::Outcome;
use crate::routing::EMBERPOST;
use bytes::Bytes;
use fhir::event::{Identifier, ResponseCode};
use fhir::format::convert;
use fhir::{Event, FhirVersion, Format};
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;
use validation::definition::Definition;

pub(super) struct AnswerWriter {
    pub clock: Clock,
    pub settings: Arc<Settings>,
}

/// What an answer says.
pub(super) struct AnswerContent<'a> {
    pub code: ResponseCode,
    pub outcome: Option<&'a Outcome>,
    /// Issues of the receiver's OperationOutcome, appended to ours unchanged.
    pub receiver_issues: &'a [Value],
    /// The resource that a pull event asked for.
    pub focus: Option<Value>,
}

impl AnswerWriter {
    /// A response message to `request`, ready to be stored with it (MSG-36 to MSG-38). `definition`: the request's.
    pub fn answer(
        &self,
        request: &Metadata,
        definition: Option<&Definition>,
        rules: &Rules,
        content: AnswerContent<'_>,
    ) -> NewMessage {
        let (id, now_us) = (self.clock.new_id(), self.clock.now_us());
        let (bundle_id, header_id) = (self.clock.new_id(), self.clock.new_id());
        let response =
            definition.and_then(|definition| rules.definitions.catalog.allowed_response_definition(definition));
        let event = response.map(|response| &response.event).or(request.event.as_ref());
        let canonical = response.and_then(|response| canonical(response));
        let version = request.version.unwrap_or(FhirVersion::R4);
        let bytes = RouterAnswer {
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
            code: content.code,
            outcome: content.outcome,
            receiver_issues: content.receiver_issues,
            focus: content.focus,
        }
        .write();
        let mut metadata = self.metadata(request, id, event.cloned());
        metadata.definition = canonical;
        metadata.version = Some(version);
        metadata.header_id = Some(header_id.to_string());
        metadata.bundle_id = Some(bundle_id.to_string());
        metadata.size_bytes = bytes.len() as u64;
        metadata.response =
            Some(ResponseMetadata { identifier: response_identifier(request), code: Some(content.code) });
        in_format_of_request(metadata, request, bytes)
    }

    /// An OperationOutcome in place of an answer, for a body that is not a message and so cannot be answered with one.
    pub fn bare_outcome(&self, request: &Metadata, outcome: &Outcome) -> NewMessage {
        let bytes = outcome.to_resource().to_string().into_bytes();
        let metadata = Metadata {
            size_bytes: bytes.len() as u64,
            header_id: None,
            bundle_id: None,
            response: None,
            definition: None,
            ..self.metadata(request, self.clock.new_id(), None)
        };
        in_format_of_request(metadata, request, bytes)
    }

    fn metadata(&self, request: &Metadata, id: Uuid, event: Option<Event>) -> Metadata {
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

/// A definition as messages refer to it; None if it has no url.
pub(super) fn canonical(definition: &Definition) -> Option<String> {
    definition.url.is_some().then(|| definition.canonical())
}

/// Converts our JSON to XML if the request was XML.
fn in_format_of_request(mut metadata: Metadata, request: &Metadata, bytes: Vec<u8>) -> NewMessage {
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

/// The identifier by which answers refer to the request: the first of header id, Bundle.id, and Bundle.identifier.
fn response_identifier(request: &Metadata) -> Identifier {
    let id = request.header_id.clone().or_else(|| request.bundle_id.clone());
    match (id, &request.bundle_identifier) {
        (Some(value), _) => Identifier { system: None, value },
        (None, Some(identifier)) => identifier.clone(),
        (None, None) => Identifier { system: None, value: String::new() },
    }
}
