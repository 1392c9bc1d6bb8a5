//! `valueset-expand` and `CodeSystem-expand`, answered from the loaded definitions.
//!
//! Relies on `compose` for what a value set holds. Knows no terminology beyond what is loaded, and asks nobody.

use super::compose::{Concept, Expander, flatten};
use super::definition::Definitions;
use super::focus::{self, Focus};
use super::rules::HEADER;
use crate::fhir::message::Resolved;
use crate::fhir::tree::Node;
use crate::fhir::{Event, Fault, Issue, IssueCode, Message};
use serde_json::{Map, Value, json};

/// The system of the two events.
const SYSTEM: &str = "http://hl7.org/fhir/message-events";
/// Most concepts that an answer holds.
pub const CONCEPTS_LIMIT: usize = 10_000;

/// The expanded resource for a request addressed to Emberpost itself: None where the event is neither of the two.
///
/// `valueset-expand` asks by a focus ValueSet with its own `compose`, else by its `url`, or by Parameters with `url`;
/// the answer is the ValueSet with an expansion. `CodeSystem-expand` asks by the `url` of a CodeSystem or in Parameters;
/// the answer is the CodeSystem with its concepts. Errs with `not-found` for what is not loaded, `not-supported` for
/// filters that are not known, `too-long` beyond `CONCEPTS_LIMIT`. `now_us`: UTC microseconds since 1970.
pub fn expand(message: &Message, definitions: &Definitions, now_us: i64) -> Option<Result<Value, Issue>> {
    let Some(Event::Coding { system: Some(system), code }) = &message.header.event else { return None };
    if system != SYSTEM || message.header.response.is_some() {
        return None;
    }
    match code.as_str() {
        "valueset-expand" => Some(asked(message, "ValueSet").and_then(|asked| value_set(asked, definitions, now_us))),
        "CodeSystem-expand" => Some(asked(message, "CodeSystem").and_then(|asked| code_system(asked, definitions))),
        _ => None,
    }
}

/// What the focus asks for.
struct Asked<'m> {
    canonical: Option<String>,
    /// The focus, where it is no Parameters.
    resource: Option<Node<'m>>,
}

fn asked<'m>(message: &'m Message, wanted: &str) -> Result<Asked<'m>, Issue> {
    for Focus { found, resource_type, .. } in focus::read(message) {
        let Some(Resolved::Found(resource, _)) = found else { continue };
        match resource_type.as_deref() {
            Some("Parameters") => return Ok(Asked { canonical: url_parameter(resource), resource: None }),
            Some(name) if name == wanted => {
                let text = |name| resource.get(name).and_then(Node::text);
                let canonical = text("url").map(|url| match text("version") {
                    Some(version) => format!("{url}|{version}"),
                    None => url.into_owned(),
                });
                return Ok(Asked { canonical, resource: Some(resource) });
            }
            _ => {}
        }
    }
    let text = format!("the focus must be a {wanted} with url, or Parameters with a parameter url");
    Err(refusal(IssueCode::Required, text))
}

fn url_parameter(parameters: Node) -> Option<String> {
    let named = |parameter: &Node| parameter.get("name").and_then(Node::text).as_deref() == Some("url");
    let parameter = parameters.get("parameter")?.items().find(named)?;
    let spellings = ["valueUri", "valueString", "valueCanonical", "valueUrl"];
    spellings.into_iter().find_map(|name| parameter.get(name)?.text()).map(|url| url.into_owned())
}

fn value_set(asked: Asked, definitions: &Definitions, now_us: i64) -> Result<Value, Issue> {
    let own = asked.resource.filter(|resource| resource.get("compose").is_some());
    let mut value_set = match (own, &asked.canonical) {
        (Some(own), _) => serde_json::from_str(own.raw())
            .map_err(|_| refusal(IssueCode::Structure, "the ValueSet of the focus cannot be read"))?,
        (None, Some(canonical)) => definitions
            .resource("ValueSet", canonical)
            .map(|known| Value::clone(known))
            .ok_or_else(|| unknown("ValueSet"))?,
        (None, None) => return Err(refusal(IssueCode::Required, "the request names no ValueSet; give its url")),
    };
    let concepts = Expander::new(definitions).value_set(&value_set)?;
    if let Some(members) = value_set.as_object_mut() {
        members.remove("compose");
        members.remove("text");
        members.insert("expansion".to_owned(), expansion(concepts, now_us));
    }
    Ok(value_set)
}

fn expansion(concepts: Vec<Concept>, now_us: i64) -> Value {
    let timestamp = jiff::Timestamp::from_microsecond(now_us).unwrap_or_default();
    let mut expansion = Map::new();
    expansion.insert("timestamp".to_owned(), json!(timestamp.to_string()));
    expansion.insert("total".to_owned(), json!(concepts.len()));
    // FHIR has no empty arrays (JSN-03).
    if !concepts.is_empty() {
        expansion.insert("contains".to_owned(), concepts.into_iter().map(contained).collect());
    }
    Value::Object(expansion)
}

fn contained(concept: Concept) -> Value {
    let mut item = json!({ "system": concept.system, "code": concept.code });
    if let Some(display) = concept.display {
        item["display"] = Value::String(display);
    }
    item
}

fn code_system(asked: Asked, definitions: &Definitions) -> Result<Value, Issue> {
    let Some(canonical) = asked.canonical else {
        return Err(refusal(IssueCode::Required, "the request names no CodeSystem; give its url"));
    };
    let known = definitions.resource("CodeSystem", &canonical).ok_or_else(|| unknown("CodeSystem"))?;
    if known["content"] == "not-present" || known["concept"].as_array().is_none_or(Vec::is_empty) {
        return Err(refusal(IssueCode::NotFound, "the CodeSystem is loaded without its concepts; ask its publisher"));
    }
    if flatten(known).len() > CONCEPTS_LIMIT {
        return Err(too_many());
    }
    Ok(Value::clone(known))
}

fn unknown(kind: &str) -> Issue {
    let text = format!("no {kind} of this url and version is loaded; correct the url, or have it loaded");
    refusal(IssueCode::NotFound, text)
}

pub(super) fn too_many() -> Issue {
    refusal(IssueCode::TooLong, format!("the answer would hold more than {CONCEPTS_LIMIT} concepts; ask for less"))
}

pub(super) fn refusal(code: IssueCode, text: impl Into<String>) -> Issue {
    Issue::error(code, Fault::SendDefinition, text).at(format!("{HEADER}.focus[0]"))
}
