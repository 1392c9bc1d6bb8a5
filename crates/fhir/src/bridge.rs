//! Rewrites a message in the header spelling of another FHIR version (MSG-20, MSG-37): what differs between R4 or
//! R4B and R5 in the MessageHeader and the identity of the Bundle, and nothing else.
//!
//! Edits the JSON text in place, so that every other byte, including the digits of numbers, stays as it is. Does not
//! check whether the resources are valid in the other version: the caller checks the result against that version's
//! definitions.

use super::cause::Cause;
use super::event::Identifier;
use super::issue::{Issue, IssueCode};
use super::message::Message;
use super::reference;
use super::resolve;
use super::tree::Node;
use super::version::FhirVersion;
use bytes::Bytes;
use serde_json::json;
use std::ops::Range;

const HEADER: &str = "Bundle.entry[0].resource";

/// The identity that a requester gave its request; its answer must refer to the request by it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestIdentity<'r> {
    /// Its MessageHeader.id, by which R4 and R4B refer to it.
    pub header_id: Option<&'r str>,
    /// Its Bundle.identifier, by which R5 refers to it.
    pub identifier: Option<&'r Identifier>,
}

/// The JSON text of the message with its header in the spelling of `to`. `request`: the request that a response
/// answers.
///
/// # Errors
/// One issue for every element that has no equivalent in that version.
pub fn convert_header(message: &Message, to: FhirVersion, request: RequestIdentity<'_>) -> Result<Bytes, Vec<Issue>> {
    let text = message.tree.json().clone();
    let is_r5 = |version| version == FhirVersion::R5;
    let Some(header) = message.entry_resource(0).filter(|_| is_r5(message.version) != is_r5(to)) else {
        return Ok(text);
    };
    let mut edits = Edits::default();
    match is_r5(to) {
        true => to_r5(message, header, request, &mut edits),
        false => to_r4(message, header, request, &mut edits),
    }
    if edits.refused.is_empty() { Ok(edits.apply(&text)) } else { Err(edits.refused) }
}

fn to_r5(message: &Message, header: Node<'_>, request: RequestIdentity<'_>, edits: &mut Edits) {
    for (participant, _) in participants(header) {
        edits.rename(participant, "endpoint", "endpointUrl");
    }
    if let Some(uri) = header.get("eventUri").and_then(Node::text) {
        let coding = json!({ "system": "urn:ietf:rfc:3986", "code": uri });
        edits.replace(header, "eventUri", &format!("\"eventCoding\":{coding}"), "event");
    }
    if let Some(response) = header.get("response")
        && let Some(id) = response.get("identifier").and_then(Node::text)
    {
        let identifier = request.identifier.cloned().unwrap_or_else(|| identifier_of(&id));
        edits.replace(
            response,
            "identifier",
            &format!("\"identifier\":{}", written(&identifier)),
            "response.identifier",
        );
    }
    let root = message.tree.root();
    if root.get("identifier").is_none() {
        match message.header.id.as_deref().or(message.bundle_id.as_deref()) {
            Some(id) => edits.add_first(root, &format!("\"identifier\":{}", written(&identifier_of(id)))),
            None => edits.refuse(
                "Bundle.identifier",
                root,
                "an R5 message is identified by Bundle.identifier; give this one an id",
            ),
        }
    }
}

fn to_r4(message: &Message, header: Node<'_>, request: RequestIdentity<'_>, edits: &mut Edits) {
    let destinations = message.header.destinations.iter().map(|destination| destination.endpoint.as_deref());
    let addresses = std::iter::once(message.header.source_endpoint.as_deref()).chain(destinations);
    for ((participant, at), address) in participants(header).zip(addresses) {
        edits.rename(participant, "endpointUrl", "endpoint");
        match address {
            Some(address) if participant.get("endpointReference").is_some() => {
                edits.replace(participant, "endpointReference", &format!("\"endpoint\":{}", json!(address)), &at);
            }
            Some(_) => {}
            None => edits.refuse(
                &format!("{HEADER}.{at}"),
                participant,
                "R4 requires an endpoint here, but this participant has no address",
            ),
        }
    }
    edits.rename(header, "eventCanonical", "eventUri");
    if let Some(response) = header.get("response")
        && let Some(node) = response.get("identifier").filter(|node| node.is_object())
    {
        let value = resolve::text(node, "value");
        match request.header_id.map(str::to_owned).or_else(|| value.as_deref().and_then(id_of)) {
            Some(id) => edits.replace(response, "identifier", &format!("\"identifier\":{}", json!(id)), "response"),
            None => {
                edits.refuse(
                    &format!("{HEADER}.response.identifier"),
                    node,
                    "R4 identifies a request by an id, but this value is not an id",
                );
            }
        }
    }
    if message.header.id.is_none() {
        match message.bundle_identifier.as_ref().and_then(|identifier| id_of(&identifier.value)) {
            Some(id) => edits.add_first(header, &format!("\"id\":{}", json!(id))),
            None => edits.refuse(
                &format!("{HEADER}.id"),
                header,
                "R4 identifies a message by the id of its header; give it one",
            ),
        }
    }
}

/// `source` and each destination, with their paths within the header.
fn participants(header: Node<'_>) -> impl Iterator<Item = (Node<'_>, String)> {
    let source = header.get("source").map(|node| (node, "source".to_owned()));
    let destinations = header.get("destination").into_iter().flat_map(Node::items).enumerate();
    source.into_iter().chain(destinations.map(|(index, node)| (node, format!("destination[{index}]"))))
}

/// The Identifier that corresponds to an id of R4. A UUID has a known system; for any other id no system is guessed.
fn identifier_of(id: &str) -> Identifier {
    match uuid::Uuid::try_parse(id) {
        Ok(uuid) => Identifier { system: Some("urn:ietf:rfc:3986".to_owned()), value: format!("urn:uuid:{uuid}") },
        Err(_) => Identifier { system: None, value: id.to_owned() },
    }
}

/// The R4 id that corresponds to the value of an identifier.
fn id_of(value: &str) -> Option<String> {
    let id = value.strip_prefix("urn:uuid:").unwrap_or(value);
    reference::is_id(id).then(|| id.to_owned())
}

fn written(identifier: &Identifier) -> String {
    match &identifier.system {
        Some(system) => json!({ "system": system, "value": identifier.value }).to_string(),
        None => json!({ "value": identifier.value }).to_string(),
    }
}

/// Edits of the text, and the elements that cannot be converted.
#[derive(Default)]
struct Edits {
    changes: Vec<(Range<usize>, String)>,
    refused: Vec<Issue>,
}

impl Edits {
    /// Renames a member and its `_` sibling.
    fn rename(&mut self, object: Node<'_>, from: &str, to: &str) {
        for prefix in ["", "_"] {
            if let Some(member) = object.get(&format!("{prefix}{from}")) {
                self.changes.push((member.key_range(), format!("{prefix}{to}")));
            }
        }
    }

    /// Replaces a member. A member with an id or extensions of its own has no equivalent.
    fn replace(&mut self, object: Node<'_>, name: &str, with: &str, at: &str) {
        if let Some(sibling) = object.get(&format!("_{name}")) {
            self.refuse(&format!("{HEADER}.{at}"), sibling, "the other version has no element for its extensions");
        } else if let Some(member) = object.get(name) {
            self.changes.push((member.key_range().start - 1..member.range().end, with.to_owned()));
        }
    }

    /// Adds a member at the start of an object that already has members.
    fn add_first(&mut self, object: Node<'_>, member: &str) {
        let after = object.range().start + 1;
        self.changes.push((after..after, format!("{member},")));
    }

    fn refuse(&mut self, at: &str, node: Node<'_>, text: &str) {
        let (line, column) = node.position();
        let text = format!("The message cannot be converted to the receiver's FHIR version: {text}");
        let issue = Issue::error(IssueCode::NotSupported, Cause::Conversion, text).rule("MSG-37").at(at);
        self.refused.push(issue.position(line, column));
    }

    fn apply(mut self, text: &[u8]) -> Bytes {
        self.changes.sort_by_key(|(range, _)| range.start);
        let mut edited = Vec::with_capacity(text.len() + 256);
        let mut done = 0;
        for (range, with) in self.changes {
            edited.extend_from_slice(text.get(done..range.start).unwrap_or_default());
            edited.extend_from_slice(with.as_bytes());
            done = range.end;
        }
        edited.extend_from_slice(text.get(done..).unwrap_or_default());
        edited.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use serde_json::Value;

    fn read(text: &str) -> Message {
        Message::read(json::parse(Bytes::from(text.to_owned())).unwrap(), None, None).unwrap()
    }

    fn converted(text: &str, to: FhirVersion, request: RequestIdentity<'_>) -> Value {
        serde_json::from_slice(&convert_header(&read(text), to, request).unwrap()).unwrap()
    }

    const R4: &str = r#"{"resourceType":"Bundle","type":"message","entry":[{"fullUrl":"urn:uuid:6f2b1a52-0f5e-4bb8-9d5c-6d1f0f4f1a01",
        "resource":{"resourceType":"MessageHeader","id":"6f2b1a52-0f5e-4bb8-9d5c-6d1f0f4f1a02","eventUri":"urn:e","source":{"endpoint":"https://a.example"},
        "destination":[{"endpoint":"https://b.example","_endpoint":{"id":"x"}}],"response":{"identifier":"r-1","code":"ok"}}},
        {"resource":{"resourceType":"Observation","valueQuantity":{"value":6.30}}}]}"#;

    #[test]
    fn an_r4_header_is_converted_to_r5_and_every_other_byte_stays() {
        let message = read(R4);
        let bytes = convert_header(&message, FhirVersion::R5, RequestIdentity::default()).unwrap();
        assert!(std::str::from_utf8(&bytes).unwrap().contains("6.30"));
        let converted: Value = serde_json::from_slice(&bytes).unwrap();
        let header = &converted["entry"][0]["resource"];
        assert_eq!(converted["identifier"]["value"], "urn:uuid:6f2b1a52-0f5e-4bb8-9d5c-6d1f0f4f1a02");
        assert_eq!(header["eventCoding"], serde_json::json!({"system": "urn:ietf:rfc:3986", "code": "urn:e"}));
        assert_eq!(header["source"]["endpointUrl"], "https://a.example");
        assert_eq!(header["destination"][0]["_endpointUrl"]["id"], "x");
        assert_eq!(header["response"]["identifier"], serde_json::json!({"value": "r-1"}));
        assert_eq!(
            convert_header(&message, FhirVersion::R4B, RequestIdentity::default()).unwrap(),
            *message.tree.json()
        );
    }

    #[test]
    fn a_converted_answer_names_the_request_as_its_requester_did() {
        let known = Identifier { system: Some("urn:s".into()), value: "v".into() };
        let answered = converted(R4, FhirVersion::R5, RequestIdentity { header_id: None, identifier: Some(&known) });
        let identifier = &answered["entry"][0]["resource"]["response"]["identifier"];
        assert_eq!(*identifier, serde_json::json!({"system": "urn:s", "value": "v"}));
        let back = converted(
            &answered.to_string(),
            FhirVersion::R4,
            RequestIdentity { header_id: Some("h-1"), identifier: None },
        );
        assert_eq!(back["entry"][0]["resource"]["response"]["identifier"], "h-1");
        assert_eq!(back["entry"][0]["resource"]["source"]["endpoint"], "https://a.example");
    }

    #[test]
    fn elements_that_r4_cannot_express_are_refused_with_their_path() {
        let text = r#"{"resourceType":"Bundle","type":"message","identifier":{"value":"not an id"},"entry":[{
            "resource":{"resourceType":"MessageHeader","eventCanonical":"urn:e","source":{"name":"n"},
            "response":{"identifier":{"value":"a b"},"code":"ok"}}}]}"#;
        let refused = convert_header(&read(text), FhirVersion::R4, RequestIdentity::default()).unwrap_err();
        let places: Vec<_> = refused.iter().filter_map(|issue| issue.expression.as_deref()).collect();
        assert_eq!(
            places,
            [".source", ".response.identifier", ".id"].map(|end| format!("Bundle.entry[0].resource{end}"))
        );
    }
}
