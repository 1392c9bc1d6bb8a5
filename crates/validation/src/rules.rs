//! Rules of the MessageHeader: source (MSG-20), event (MSG-03), response (MSG-35 to MSG-37), and a focus that is
//! missing where the definition counts it (MSG-04).
//!
//! Relies on the header as read, whose notes report wrong types, and on the tree for what was not read. Whether
//! source and identity are usable is not a question of validity; the channel checks that.

use super::collector::{IssueCollector, Violation};
use super::focus::Focus;
use emberpost_fhir::event::ResponseCode;
use emberpost_fhir::message::Resolved;
use emberpost_fhir::tree::{Kind, Node};
use emberpost_fhir::{IssueCode, Message};

/// The header's position in every expression.
pub(super) const HEADER: &str = "Bundle.entry[0].resource";

pub(super) fn check_header(message: &Message, collector: &mut IssueCollector) {
    let Some(header) = message.entry_resource(0) else { return };
    empty_source(header, collector);
    event(message, header, collector);
    response(message, header, collector);
}

/// The reader notes wrong types; an empty source would be read as an absent one.
fn empty_source(header: Node, collector: &mut IssueCollector) {
    if let Some(source) = header.get("source").filter(|source| source.is_object() && source.members().next().is_none())
    {
        let text = "source must not be empty; give it an endpoint";
        collector.error(format!("{HEADER}.source"), Some(source), Violation::new("MSG-20", IssueCode::Structure, text));
    }
}

fn event(message: &Message, header: Node, collector: &mut IssueCollector) {
    const SPELLINGS: [&str; 3] = ["eventCoding", "eventUri", "eventCanonical"];
    let given = header.pick(SPELLINGS);
    let place = || format!("{HEADER}.event");
    let mut given = given.into_iter().zip(SPELLINGS).filter(|(node, _)| node.is_some());
    if let (Some((_, first)), Some((node, second))) = (given.next(), given.next()) {
        let text = format!("event[x] occurs twice, as {first} and as {second}; give one of them");
        collector.error(place(), node, Violation::new("MSG-03", IssueCode::Structure, text));
    } else if message.header.event.is_none() {
        let text = "the header has no event; give it eventCoding with system and code, or a uri";
        collector.error(place(), Some(header), Violation::new("MSG-03", IssueCode::Required, text));
    }
}

fn response(message: &Message, header: Node, collector: &mut IssueCollector) {
    let (Some(response), Some(node)) = (&message.header.response, header.get("response")) else { return };
    match node.get("code") {
        None => {
            let text = "response.code is missing; give ok, transient-error or fatal-error";
            collector.error(
                format!("{HEADER}.response.code"),
                Some(node),
                Violation::new("MSG-35", IssueCode::Required, text),
            );
        }
        Some(code) if code.kind() == Kind::String && response.code.is_none() => {
            let text = "response.code must be ok, transient-error or fatal-error";
            collector.error(
                format!("{HEADER}.response.code"),
                Some(code),
                Violation::new("MSG-35", IssueCode::Value, text),
            );
        }
        Some(_) => {}
    }
    if response.identifier.is_none() {
        let place = format!("{HEADER}.response.identifier");
        match node.get("identifier") {
            None => {
                let text = "response.identifier is missing; name the request: in R4 its MessageHeader.id, in R5 its Bundle.identifier";
                collector.error(place, Some(node), Violation::new("MSG-37", IssueCode::Required, text));
            }
            Some(identifier) => {
                let text = "response.identifier must be an id in R4, an Identifier with a value in R5";
                collector.error(place, Some(identifier), Violation::new("MSG-37", IssueCode::Structure, text));
            }
        }
    }
}

/// A focus that is not in the Bundle is an error if the definition counts focus resources; otherwise `links` reports
/// it.
pub(super) fn check_focus(items: &[Focus], collector: &mut IssueCollector) {
    for (index, item) in items.iter().enumerate() {
        if item.found == Some(Resolved::Missing) {
            let text =
                "the resource that focus refers to is not in the Bundle; add its entry, or refer to the fullUrl of one";
            let place = format!("{HEADER}.focus[{index}]");
            collector.error(place, Some(item.node), Violation::new("MSG-04", IssueCode::NotFound, text));
        }
    }
}

/// Checks the target of `response.details`: it must be an OperationOutcome that agrees with the code (MSG-36).
pub(super) fn check_details(message: &Message, collector: &mut IssueCollector) {
    let Some(response) = &message.header.response else { return };
    let node = message.entry_resource(0).and_then(|header| header.get("response")?.get("details"));
    let (Some(reference), Some(node)) = (&response.details, node) else { return };
    let place = format!("{HEADER}.response.details");
    let found = message.resolve(reference);
    if let Resolved::Found(outcome, _) = &found {
        if outcome.get("resourceType").and_then(Node::text).as_deref() != Some("OperationOutcome") {
            let text = "response.details must refer to an OperationOutcome";
            collector.prose(&place, Some(node), Violation::new("MSG-36", IssueCode::Value, text));
        } else if response.code == Some(ResponseCode::Ok) && tells_error(*outcome) {
            let text = "response.code is ok while an issue of response.details is an error; use transient-error or fatal-error";
            collector.prose(
                format!("{HEADER}.response.code"),
                Some(node),
                Violation::new("MSG-36", IssueCode::Invariant, text),
            );
        }
    }
}

fn tells_error(outcome: Node) -> bool {
    let severities =
        outcome.get("issue").into_iter().flat_map(Node::items).filter_map(|issue| issue.get("severity")?.text());
    severities.into_iter().any(|severity| severity == "error" || severity == "fatal")
}
