//! One message in the header spelling of another version (MSG-20, MSG-37): what differs between R4 or R4B and R5 in the
//! MessageHeader and the identity of the Bundle, and nothing else.
//!
//! Edits the JSON text in place, so that every other byte, numbers included, stays. Whether the resources mean the same
//! in the other version is not known here: who bridges checks the result against that version's definitions.

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

/// The identity that a requester gave its request, by which its answer is to name it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'r> {
    pub header_id: Option<&'r str>,
    pub identifier: Option<&'r Identifier>,
}

/// The JSON text of the message with its header spelled as of `to`. `request`: what a response answers. Errs with every
/// element that has no equal there.
pub fn spell(message: &Message, to: FhirVersion, request: Request<'_>) -> Result<Bytes, Vec<Issue>> {
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

fn to_r5(message: &Message, header: Node<'_>, request: Request<'_>, edits: &mut Edits) {
    for (party, _) in parties(header) {
        edits.rename(party, "endpoint", "endpointUrl");
    }
    if let Some(uri) = header.get("eventUri").and_then(Node::text) {
        let coding = json!({ "system": "urn:ietf:rfc:3986", "code": uri });
        edits.replace(header, "eventUri", &format!("\"eventCoding\":{coding}"), "event");
    }
    if let Some(response) = header.get("response")
        && let Some(id) = response.get("identifier").and_then(Node::text)
    {
        let identifier = request.identifier.cloned().unwrap_or_else(|| minted(&id));
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
            Some(id) => edits.add_first(root, &format!("\"identifier\":{}", written(&minted(id)))),
            None => {
                edits.refuse("Bundle.identifier", root, "an R5 message is known by its identifier; give this one an id")
            }
        }
    }
}

fn to_r4(message: &Message, header: Node<'_>, request: Request<'_>, edits: &mut Edits) {
    let destinations = message.header.destinations.iter().map(|destination| destination.endpoint.as_deref());
    let addresses = std::iter::once(message.header.source_endpoint.as_deref()).chain(destinations);
    for ((party, at), address) in parties(header).zip(addresses) {
        edits.rename(party, "endpointUrl", "endpoint");
        match address {
            Some(address) if party.get("endpointReference").is_some() => {
                edits.replace(party, "endpointReference", &format!("\"endpoint\":{}", json!(address)), &at);
            }
            Some(_) => {}
            None => {
                edits.refuse(&format!("{HEADER}.{at}"), party, "R4 needs an endpoint here, and this one has no address")
            }
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
                    "R4 names a request by an id, and this is none",
                );
            }
        }
    }
    if message.header.id.is_none() {
        match message.bundle_identifier.as_ref().and_then(|identifier| id_of(&identifier.value)) {
            Some(id) => edits.add_first(header, &format!("\"id\":{}", json!(id))),
            None => {
                edits.refuse(&format!("{HEADER}.id"), header, "R4 knows a message by the id of its header; give it one")
            }
        }
    }
}

/// `source` and each destination, with their places in the header.
fn parties(header: Node<'_>) -> impl Iterator<Item = (Node<'_>, String)> {
    let source = header.get("source").map(|node| (node, "source".to_owned()));
    let destinations = header.get("destination").into_iter().flat_map(Node::items).enumerate();
    source.into_iter().chain(destinations.map(|(index, node)| (node, format!("destination[{index}]"))))
}

/// The Identifier that stands for an id of R4. A UUID is one everywhere; of anything else no system is guessed.
fn minted(id: &str) -> Identifier {
    match uuid::Uuid::try_parse(id) {
        Ok(uuid) => Identifier { system: Some("urn:ietf:rfc:3986".to_owned()), value: format!("urn:uuid:{uuid}") },
        Err(_) => Identifier { system: None, value: id.to_owned() },
    }
}

/// The id of R4 that stands for an identifier's value.
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

/// Changes of the text, and what cannot be changed.
#[derive(Default)]
struct Edits {
    changes: Vec<(Range<usize>, String)>,
    refused: Vec<Issue>,
}

impl Edits {
    /// Gives a member, and its `_` sibling, another name.
    fn rename(&mut self, object: Node<'_>, from: &str, to: &str) {
        for prefix in ["", "_"] {
            if let Some(member) = object.get(&format!("{prefix}{from}")) {
                self.changes.push((member.key_range(), format!("{prefix}{to}")));
            }
        }
    }

    /// Puts another member in the place of this one. One with an id or extensions of its own has no equal.
    fn replace(&mut self, object: Node<'_>, name: &str, with: &str, at: &str) {
        if let Some(sibling) = object.get(&format!("_{name}")) {
            self.refuse(&format!("{HEADER}.{at}"), sibling, "its extensions have no place in the other version");
        } else if let Some(member) = object.get(name) {
            self.changes.push((member.key_range().start - 1..member.range().end, with.to_owned()));
        }
    }

    /// Adds a member at the beginning of an object that has others.
    fn add_first(&mut self, object: Node<'_>, member: &str) {
        let after = object.range().start + 1;
        self.changes.push((after..after, format!("{member},")));
    }

    fn refuse(&mut self, at: &str, node: Node<'_>, text: &str) {
        let (line, column) = node.position();
        let text = format!("The message cannot be told in the receiver's FHIR version: {text}");
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

    fn told(text: &str, to: FhirVersion, request: Request<'_>) -> Value {
        serde_json::from_slice(&spell(&read(text), to, request).unwrap()).unwrap()
    }

    const R4: &str = r#"{"resourceType":"Bundle","type":"message","entry":[{"fullUrl":"urn:uuid:6f2b1a52-0f5e-4bb8-9d5c-6d1f0f4f1a01",
        "resource":{"resourceType":"MessageHeader","id":"6f2b1a52-0f5e-4bb8-9d5c-6d1f0f4f1a02","eventUri":"urn:e","source":{"endpoint":"https://a.example"},
        "destination":[{"endpoint":"https://b.example","_endpoint":{"id":"x"}}],"response":{"identifier":"r-1","code":"ok"}}},
        {"resource":{"resourceType":"Observation","valueQuantity":{"value":6.30}}}]}"#;

    #[test]
    fn an_r4_header_is_told_in_r5_and_every_other_byte_stays() {
        let message = read(R4);
        let bytes = spell(&message, FhirVersion::R5, Request::default()).unwrap();
        assert!(std::str::from_utf8(&bytes).unwrap().contains("6.30"));
        let told: Value = serde_json::from_slice(&bytes).unwrap();
        let header = &told["entry"][0]["resource"];
        assert_eq!(told["identifier"]["value"], "urn:uuid:6f2b1a52-0f5e-4bb8-9d5c-6d1f0f4f1a02");
        assert_eq!(header["eventCoding"], serde_json::json!({"system": "urn:ietf:rfc:3986", "code": "urn:e"}));
        assert_eq!(header["source"]["endpointUrl"], "https://a.example");
        assert_eq!(header["destination"][0]["_endpointUrl"]["id"], "x");
        assert_eq!(header["response"]["identifier"], serde_json::json!({"value": "r-1"}));
        assert_eq!(spell(&message, FhirVersion::R4B, Request::default()).unwrap(), *message.tree.json());
    }

    #[test]
    fn there_and_back_the_answer_names_the_request_as_its_requester_did() {
        let known = Identifier { system: Some("urn:s".into()), value: "v".into() };
        let answered = told(R4, FhirVersion::R5, Request { header_id: None, identifier: Some(&known) });
        let identifier = &answered["entry"][0]["resource"]["response"]["identifier"];
        assert_eq!(*identifier, serde_json::json!({"system": "urn:s", "value": "v"}));
        let back = told(&answered.to_string(), FhirVersion::R4, Request { header_id: Some("h-1"), identifier: None });
        assert_eq!(back["entry"][0]["resource"]["response"]["identifier"], "h-1");
        assert_eq!(back["entry"][0]["resource"]["source"]["endpoint"], "https://a.example");
    }

    #[test]
    fn what_r4_cannot_say_is_told_with_its_place() {
        let text = r#"{"resourceType":"Bundle","type":"message","identifier":{"value":"not an id"},"entry":[{
            "resource":{"resourceType":"MessageHeader","eventCanonical":"urn:e","source":{"name":"n"},
            "response":{"identifier":{"value":"a b"},"code":"ok"}}}]}"#;
        let refused = spell(&read(text), FhirVersion::R4, Request::default()).unwrap_err();
        let places: Vec<_> = refused.iter().filter_map(|issue| issue.expression.as_deref()).collect();
        assert_eq!(
            places,
            [".source", ".response.identifier", ".id"].map(|end| format!("Bundle.entry[0].resource{end}"))
        );
    }
}
