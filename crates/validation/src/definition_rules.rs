//! Checks a message against its MessageDefinition: event, focus types and counts, allowed responses (MSG-30, MSG-31,
//! MSG-50, MSG-51).
//!
//! Relies on `choose` for the definition. Does not check the definition's profiles and graphs.

use super::Checks;
use super::choose::Choice;
use super::collector::{IssueCollector, Violation};
use super::focus::{self, Focus, FocusViolation};
use super::rules::HEADER;
use crate::definition::catalog::Catalog;
use crate::definition::message_definition::Definition;
use emberpost_fhir::tree::Node;
use emberpost_fhir::{Cause, Event, Issue, IssueCode, Message};
use std::cell::LazyCell;
use std::sync::Arc;

/// The maximum number of definitions that an issue lists.
const LISTED_LIMIT: usize = 10;

/// Reports what the choice of a definition means for the message, and returns the definition that governs it, if
/// any. `focus` is only evaluated if the definition has focus rules.
pub(super) fn check<'m>(
    message: &'m Message,
    catalog: &Catalog,
    checks: Checks,
    focus: &LazyCell<Vec<Focus<'m>>, impl FnOnce() -> Vec<Focus<'m>>>,
    collector: &mut IssueCollector,
) -> Option<Arc<Definition>> {
    let header = message.entry_resource(0);
    unknown_definition(message, catalog, header, collector);
    match catalog.choose(message) {
        Choice::One(definition) => {
            // The named definition governs the message, but an unknown event is still the first error to report.
            if !knows_event(message, catalog) {
                unknown_event(message, checks, header, collector);
            }
            governed(message, &definition, focus, header, collector);
            Some(definition)
        }
        Choice::Unknown => {
            unknown_event(message, checks, header, collector);
            None
        }
        Choice::Ambiguous(candidates) => {
            ambiguous(message, &candidates, focus, header, collector);
            None
        }
        Choice::Undefined => None,
    }
}

/// Whether a definition names the message's event. Also true if the message has no event, which is a different
/// error.
pub(super) fn knows_event(message: &Message, catalog: &Catalog) -> bool {
    let is_response = message.header.response.is_some();
    message.header.event.as_ref().is_none_or(|event| catalog.candidates(event, is_response).is_some())
}

fn unknown_definition(message: &Message, catalog: &Catalog, header: Option<Node>, collector: &mut IssueCollector) {
    let Some(named) = &message.header.definition else { return };
    if catalog.by_canonical(named).is_none() {
        let text = "no definition with this url and version is loaded; the message is checked by its event. Load the definition, or name one of GET [base]/MessageDefinition";
        let node = header.and_then(|header| header.get("definition"));
        collector.warning(
            format!("{HEADER}.definition"),
            node,
            Violation::definition("MSG-51", IssueCode::NotFound, text),
        );
    }
}

fn unknown_event(message: &Message, checks: Checks, header: Option<Node>, collector: &mut IssueCollector) {
    if checks.take_unknown_events || message.header.event.is_none() {
        return;
    }
    let text = "no loaded definition names the event, by system and code; use an event of GET [base]/MessageDefinition, or load its definition";
    let mut broken = Violation::new("MSG-30", IssueCode::NotSupported, text);
    broken.cause = Cause::UnknownEvent;
    collector.error(format!("{HEADER}.event"), event_node(header), broken);
}

fn event_node(header: Option<Node>) -> Option<Node> {
    let spellings = ["eventCoding", "eventUri", "eventCanonical"];
    header.and_then(|header| spellings.into_iter().find_map(|name| header.get(name)))
}

fn governed(
    message: &Message,
    definition: &Definition,
    focus: &[Focus],
    header: Option<Node>,
    collector: &mut IssueCollector,
) {
    if message.header.event.as_ref().is_some_and(|event| !same_event(event, &definition.event)) {
        let text = format!(
            "the event differs from that of the definition {}, which is {}; correct one of them",
            definition.canonical(),
            definition.event
        );
        collector.error(format!("{HEADER}.event"), event_node(header), business(text));
    }
    for broken in focus::violations(message, definition, focus) {
        report_focus_violation(&broken, definition, focus, header, collector);
    }
}

fn report_focus_violation(
    broken: &FocusViolation,
    definition: &Definition,
    focus: &[Focus],
    header: Option<Node>,
    collector: &mut IssueCollector,
) {
    let canonical = definition.canonical();
    let whole = header.and_then(|header| header.get("focus").or(Some(header)));
    match broken {
        FocusViolation::Type { index } => {
            let mut allowed = definition.focus.iter().map(|rule| rule.code.as_str()).collect::<Vec<_>>();
            allowed.dedup();
            let text = format!("the focus has a type that {canonical} does not list; it lists {}", allowed.join(", "));
            collector.error(
                format!("{HEADER}.focus[{index}]"),
                focus.get(*index).map(|item| item.node),
                business(text),
            );
        }
        FocusViolation::TooFew { code, min, found } => {
            let text = format!(
                "{canonical} requires at least {min} focus of type {code}; found {found}. Add the missing ones"
            );
            collector.error(format!("{HEADER}.focus"), whole, business(text));
        }
        FocusViolation::TooMany { code, max, found } => {
            let text =
                format!("{canonical} allows at most {max} focus of type {code}; found {found}. Split the message");
            collector.error(format!("{HEADER}.focus"), whole, business(text));
        }
    }
}

fn ambiguous(
    message: &Message,
    candidates: &[Arc<Definition>],
    focus: &[Focus],
    header: Option<Node>,
    collector: &mut IssueCollector,
) {
    let any_fits = candidates.iter().any(|one| focus::violations(message, one, focus).is_empty());
    let listed = candidates.iter().take(LISTED_LIMIT).map(|one| one.canonical()).collect::<Vec<_>>().join(", ");
    let text = match any_fits {
        true => format!("several definitions of the event fit: {listed}. Name one in MessageHeader.definition"),
        false => format!(
            "the focus does not fit any of the event's definitions: {listed}. Correct the focus, or name a definition in MessageHeader.definition"
        ),
    };
    let node = header.and_then(|header| header.get("focus").or(Some(header)));
    collector.error(format!("{HEADER}.focus"), node, business(text));
}

fn business(text: String) -> Violation {
    Violation::definition("MSG-51", IssueCode::BusinessRule, text)
}

/// Compares events by MSG-31. The version of a canonical is ignored when the definition has a uri (MSG-32).
fn same_event(of_message: &Event, of_definition: &Event) -> bool {
    match (of_message, of_definition) {
        (Event::Uri(mine), Event::Uri(theirs)) => {
            mine == theirs || mine.rsplit_once('|').is_some_and(|(url, _)| url == theirs)
        }
        _ => of_message == of_definition,
    }
}

/// A warning if the response is not among those that the request's definition allows (MSG-50), or, if that lists
/// none, if the response has another event than the request (MSG-38). `response_definition` is the definition that
/// governs the response; without one, the response's event is compared with the events of the allowed responses.
pub fn allowed_response(
    catalog: &Catalog,
    request_definition: &Definition,
    response_definition: Option<&Definition>,
    event: Option<&Event>,
) -> Option<Issue> {
    let allowed = &request_definition.allowed_responses;
    let fits = |canonical: &String| match response_definition {
        Some(response) => response.is_named_by(canonical),
        // An allowed response that is not loaded could have any event.
        None => catalog
            .by_canonical(canonical)
            .is_none_or(|known| event.is_some_and(|event| same_event(event, &known.event))),
    };
    let is_allowed = match allowed.is_empty() {
        true => event.is_none_or(|event| same_event(event, &request_definition.event)),
        false => allowed.iter().any(fits),
    };
    if is_allowed {
        return None;
    }
    let canonical = request_definition.canonical();
    let text = match allowed.is_empty() {
        true => {
            format!("{canonical} names no response, and the event of the response differs from that of the request")
        }
        false => {
            let listed = allowed.iter().take(LISTED_LIMIT).cloned().collect::<Vec<_>>().join(", ");
            format!("the response is not one of those that {canonical} allows: {listed}")
        }
    };
    let place = format!("{HEADER}.event");
    Some(Issue::warning(IssueCode::BusinessRule, Cause::Answer, text).rule("MSG-50").at(place))
}
