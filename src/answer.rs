//! Writes Emberpost's own answers: response messages in the shape of R4 or R5 (MSG-36 to MSG-38).
//!
//! Ids and time come from the caller, so that the same answer has the same bytes. The exchange decides whether an answer is owed,
//! and which.

use crate::outcome::Outcome;
use fhir::event::{Event, Identifier, ResponseCode};
use fhir::reference::is_id;
use fhir::version::FhirVersion;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// `source.name` of our answers.
const NAME: &str = "Emberpost";
/// The system of identifiers that are URIs.
const URI_SYSTEM: &str = "urn:ietf:rfc:3986";

/// The parts of an answer.
#[derive(Clone, Debug)]
pub struct RouterAnswer<'a> {
    pub version: FhirVersion,
    pub bundle_id: Uuid,
    pub header_id: Uuid,
    /// UTC microseconds since 1970, for Bundle.timestamp.
    pub now_us: i64,
    /// Our address, the answer's source.
    pub base_url: &'a str,
    /// The request's source, the answer's destination.
    pub destination: Option<&'a str>,
    /// The single allowed response's event, else the request's.
    pub event: Option<&'a Event>,
    /// Canonical of the response definition, where there is one.
    pub definition: Option<&'a str>,
    pub request_header_id: Option<&'a str>,
    pub request_bundle_id: Option<&'a str>,
    pub request_identifier: Option<&'a Identifier>,
    pub code: ResponseCode,
    /// Left out of the answer when it has no issues.
    pub outcome: Option<&'a Outcome>,
    /// Issues of a receiver's OperationOutcome, appended to ours unchanged. Only with an outcome of ours.
    pub receiver_issues: &'a [Value],
    /// The data of a pull event's answer: one resource.
    pub focus: Option<Value>,
}

/// Escapes control characters in the texts of foreign JSON, except line breaks and tabs.
pub fn printable(value: Value) -> Value {
    let is_stray = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    let clean = |text: String| match text.contains(is_stray) {
        true => {
            text.chars().map(|c| if is_stray(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
        }
        false => text,
    };
    match value {
        Value::String(text) => Value::String(clean(text)),
        Value::Array(items) => items.into_iter().map(printable).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (clean(name), printable(value))).collect(),
        plain => plain,
    }
}

impl RouterAnswer<'_> {
    /// The response message's bytes, JSON.
    pub fn write(&self) -> Vec<u8> {
        let mut entries = vec![entry(&urn(self.header_id), self.header())];
        if let Some(outcome) = self.listed_outcome() {
            entries.push(entry(&urn(self.outcome_id()), self.outcome_resource(outcome)));
        }
        if let Some(focus) = &self.focus {
            entries.push(entry(&urn(self.focus_id()), focus.clone()));
        }
        let timestamp = jiff::Timestamp::from_microsecond(self.now_us).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let bundle = json!({
            "resourceType": "Bundle",
            "id": self.bundle_id.to_string(),
            // In R5 this is the message's identity (MSG-12); in R4 it does no harm.
            "identifier": { "system": URI_SYSTEM, "value": urn(self.bundle_id) },
            "type": "message",
            "timestamp": timestamp.to_string(),
            "entry": entries,
        });
        bundle.to_string().into_bytes()
    }

    fn outcome_resource(&self, outcome: &Outcome) -> Value {
        let mut resource = outcome.to_resource();
        if let Some(Value::Array(issues)) = resource.get_mut("issue") {
            issues.extend_from_slice(self.receiver_issues);
        }
        resource
    }

    fn header(&self) -> Value {
        let mut header = Map::new();
        let mut put = |name: &str, value: Value| header.insert(name.to_owned(), value);
        put("resourceType", "MessageHeader".into());
        put("id", self.header_id.to_string().into());
        let (event_name, event) = self.event();
        put(event_name, event);
        put("source", json!({ "name": NAME, (self.endpoint_name()): self.base_url }));
        if let Some(destination) = self.destination {
            put("destination", json!([{ (self.endpoint_name()): destination }]));
        }
        let mut response = json!({ "identifier": self.correlation(), "code": self.code.as_str() });
        if self.listed_outcome().is_some() {
            response["details"] = json!({ "reference": urn(self.outcome_id()) });
        }
        put("response", response);
        if self.focus.is_some() {
            put("focus", json!([{ "reference": urn(self.focus_id()) }]));
        }
        if let Some(definition) = self.definition {
            put("definition", definition.into());
        }
        Value::Object(header)
    }

    fn is_r5(&self) -> bool {
        self.version == FhirVersion::R5
    }

    fn endpoint_name(&self) -> &'static str {
        if self.is_r5() { "endpointUrl" } else { "endpoint" }
    }

    fn event(&self) -> (&'static str, Value) {
        match (self.event, self.is_r5()) {
            (Some(Event::Coding { system: Some(system), code }), _) => {
                ("eventCoding", json!({ "system": system, "code": code }))
            }
            (Some(Event::Coding { system: None, code }), _) => ("eventCoding", json!({ "code": code })),
            (Some(Event::Uri(uri)), true) => ("eventCanonical", json!(uri)),
            (Some(Event::Uri(uri)), false) => ("eventUri", json!(uri)),
            // The request has no event, but a header must have one.
            (None, true) => ("eventCoding", json!({ "system": "urn:emberpost:event", "code": "unknown" })),
            (None, false) => ("eventUri", json!("urn:emberpost:event:unknown")),
        }
    }

    /// `response.identifier` (MSG-37). R4: the first of header id, Bundle.id and identifier value that is a FHIR id.
    /// R5: the request's Bundle.identifier, else its header id or Bundle.id. For a request without any of them it is our own
    /// header id, because the element is required.
    fn correlation(&self) -> Value {
        let own = self.header_id.to_string();
        if !self.is_r5() {
            let value = self.request_identifier.map(|identifier| identifier.value.as_str());
            let ids = [self.request_header_id, self.request_bundle_id, value].into_iter().flatten();
            let mut plain = ids.map(|id| id.strip_prefix("urn:uuid:").unwrap_or(id));
            return plain.find(|id| is_id(id)).unwrap_or(&own).into();
        }
        match self.request_identifier {
            Some(Identifier { system: Some(system), value }) => json!({ "system": system, "value": value }),
            Some(Identifier { system: None, value }) => json!({ "value": value }),
            None => json!({ "value": self.request_header_id.or(self.request_bundle_id).unwrap_or(&own) }),
        }
    }

    fn listed_outcome(&self) -> Option<&Outcome> {
        self.outcome.filter(|outcome| !outcome.issues.is_empty())
    }

    fn outcome_id(&self) -> Uuid {
        derived(self.header_id, 1)
    }

    fn focus_id(&self) -> Uuid {
        derived(self.header_id, 2)
    }
}

/// A uuid for another entry of the same answer: only its last byte differs.
fn derived(id: Uuid, number: u8) -> Uuid {
    let mut bytes = *id.as_bytes();
    bytes[15] ^= number;
    Uuid::from_bytes(bytes)
}

fn urn(id: Uuid) -> String {
    format!("urn:uuid:{id}")
}

fn entry(full_url: &str, resource: Value) -> Value {
    json!({ "fullUrl": full_url, "resource": resource })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;
    use crate::outcome::{Issue, IssueCode};
    use bytes::Bytes;
    use fhir::message::Resolved;
    use fhir::{Message, json};

    const VERSIONS: [FhirVersion; 3] = [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5];

    fn answer<'a>(version: FhirVersion) -> RouterAnswer<'a> {
        RouterAnswer {
            version,
            bundle_id: Uuid::from_u128(0xB),
            header_id: Uuid::from_u128(0xA),
            now_us: 1_700_000_000_123_456,
            base_url: "http://127.0.0.1:8080/fhir",
            destination: Some("http://lab.example.org"),
            event: None,
            definition: None,
            request_header_id: Some("h1"),
            request_bundle_id: Some("b1"),
            request_identifier: None,
            code: ResponseCode::Ok,
            outcome: None,
            receiver_issues: &[],
            focus: None,
        }
    }

    fn read(answer: &RouterAnswer<'_>) -> Message {
        let tree = json::parse(Bytes::from(answer.write())).unwrap();
        let message = Message::read(tree, Some(answer.version), None).unwrap();
        assert_eq!(message.notes, []);
        message
    }

    #[test]
    fn an_answer_reads_back_in_every_version_and_code() {
        let event = Event::Coding { system: Some("urn:s".into()), code: "c".into() };
        let issue = Issue::error(IssueCode::Processing, Fault::RecvRefused, "Refused");
        let outcome = Outcome::from(issue);
        for version in VERSIONS {
            for code in [ResponseCode::Ok, ResponseCode::TransientError, ResponseCode::FatalError] {
                let focus = Some(json!({ "resourceType": "ValueSet", "id": "v", "status": "active" }));
                let definition = Some("http://x/MessageDefinition/d|1");
                let written = RouterAnswer {
                    event: Some(&event),
                    outcome: Some(&outcome),
                    focus,
                    definition,
                    code,
                    ..answer(version)
                };
                let message = read(&written);
                let header = &message.header;
                assert_eq!(message.version, version);
                assert_eq!(header.event.as_ref(), Some(&event));
                assert_eq!(header.source_endpoint.as_deref(), Some("http://127.0.0.1:8080/fhir"));
                assert_eq!(header.destinations[0].endpoint.as_deref(), Some("http://lab.example.org"));
                assert_eq!(header.definition.as_deref(), definition);
                let response = header.response.as_ref().unwrap();
                assert_eq!((response.code, response.identifier.as_ref().unwrap().value.as_str()), (Some(code), "h1"));
                for (reference, kind) in
                    [(response.details.as_ref().unwrap(), "OperationOutcome"), (&header.focus[0], "ValueSet")]
                {
                    let Resolved::Found(node, false) = message.resolve(reference) else {
                        panic!("{kind} is not found")
                    };
                    assert_eq!(node.get("resourceType").unwrap().text().unwrap(), kind);
                }
                assert_eq!(message.bundle_identifier.unwrap().value, "urn:uuid:00000000-0000-0000-0000-00000000000b");
                assert_eq!(
                    message.tree.root().get("timestamp").unwrap().text().unwrap(),
                    "2023-11-14T22:13:20.123456Z"
                );
            }
        }
    }

    #[test]
    fn an_r4_answer_names_the_first_id_of_the_request_that_is_a_fhir_id() {
        let long = "x".repeat(65);
        let identifier = |value: &str| Identifier { system: None, value: value.into() };
        let cases = [
            (Some("h1"), Some("b1"), None, "h1"),
            (None, Some("b1"), Some(identifier("i1")), "b1"),
            (Some("not an id"), Some("urn:uuid:b1"), None, "b1"),
            (Some(long.as_str()), None, Some(identifier("urn:uuid:i1")), "i1"),
            (None, None, Some(identifier("a|b")), "00000000-0000-0000-0000-00000000000a"),
        ];
        for (header_id, bundle_id, identifier, expected) in &cases {
            let written = RouterAnswer {
                request_header_id: *header_id,
                request_bundle_id: *bundle_id,
                request_identifier: identifier.as_ref(),
                ..answer(FhirVersion::R4)
            };
            assert_eq!(written.correlation(), Value::from(*expected));
        }
    }

    #[test]
    fn an_r5_answer_names_the_identifier_of_the_request_as_it_is() {
        let identifier = Identifier { system: Some("urn:s".into()), value: "urn:uuid:1".into() };
        let written = RouterAnswer { request_identifier: Some(&identifier), ..answer(FhirVersion::R5) };
        assert_eq!(read(&written).header.response.unwrap().identifier, Some(identifier));
        let without = read(&answer(FhirVersion::R5)).header.response.unwrap().identifier;
        assert_eq!(without, Some(Identifier { system: None, value: "h1".into() }));
    }

    #[test]
    fn an_answer_without_event_destination_or_issues_is_still_a_message() {
        for version in VERSIONS {
            let nothing = Outcome::default();
            let message = read(&RouterAnswer { destination: None, outcome: Some(&nothing), ..answer(version) });
            assert!(message.header.event.is_some() && message.header.destinations.is_empty());
            assert_eq!(message.entries().count(), 1);
        }
        let uri = Event::Uri("http://x/e".into());
        for version in VERSIONS {
            assert_eq!(read(&RouterAnswer { event: Some(&uri), ..answer(version) }).header.event, Some(uri.clone()));
        }
    }
}
