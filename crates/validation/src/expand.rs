//! Answers `valueset-expand` and `CodeSystem-expand` requests from the loaded definitions.
//!
//! Relies on `compose` for the content of a value set. Knows only the terminology that is loaded, and contacts no
//! server.

use super::compose::{Concept, Expander, flatten, refusal, too_many};
use super::focus::{self, Focus};
use crate::definition::catalog::Catalog;
use emberpost_fhir::message::Resolved;
use emberpost_fhir::tree::Node;
use emberpost_fhir::{Event, Issue, IssueCode, Message};
use serde_json::{Map, Value, json};

/// The code system of the two events.
const SYSTEM: &str = "http://hl7.org/fhir/message-events";

pub use super::compose::CONCEPTS_LIMIT;

/// The expanded resource for a request that is addressed to Emberpost itself; None if the event is neither of the
/// two.
///
/// `valueset-expand` identifies the value set by a focus ValueSet with its own `compose`, else by its `url`, or by
/// Parameters with `url`; the answer is the ValueSet with an expansion. `CodeSystem-expand` identifies the code
/// system by the `url` of a CodeSystem or of Parameters; the answer is the CodeSystem with its concepts. `now_us`:
/// UTC microseconds since 1970.
///
/// # Errors
/// `not-found` if the resource is not loaded, `not-supported` for filters that are not supported, `too-long` for
/// more than `CONCEPTS_LIMIT` concepts.
pub fn expand(message: &Message, catalog: &Catalog, now_us: i64) -> Option<Result<Value, Issue>> {
    let Some(Event::Coding { system: Some(system), code }) = &message.header.event else { return None };
    if system != SYSTEM || message.header.response.is_some() {
        return None;
    }
    match code.as_str() {
        "valueset-expand" => {
            Some(read_request(message, "ValueSet").and_then(|request| value_set(request, catalog, now_us)))
        }
        "CodeSystem-expand" => {
            Some(read_request(message, "CodeSystem").and_then(|request| code_system(request, catalog)))
        }
        _ => None,
    }
}

/// What the focus requests.
struct ExpandRequest<'m> {
    canonical: Option<String>,
    /// The focus, unless it is Parameters.
    resource: Option<Node<'m>>,
}

fn read_request<'m>(message: &'m Message, wanted: &str) -> Result<ExpandRequest<'m>, Issue> {
    for Focus { found, resource_type, .. } in focus::read(message) {
        let Some(Resolved::Found(resource, _)) = found else { continue };
        match resource_type.as_deref() {
            Some("Parameters") => return Ok(ExpandRequest { canonical: url_parameter(resource), resource: None }),
            Some(name) if name == wanted => {
                let text = |name| resource.get(name).and_then(Node::text);
                let canonical = text("url").map(|url| match text("version") {
                    Some(version) => format!("{url}|{version}"),
                    None => url.into_owned(),
                });
                return Ok(ExpandRequest { canonical, resource: Some(resource) });
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

fn value_set(request: ExpandRequest, catalog: &Catalog, now_us: i64) -> Result<Value, Issue> {
    let own = request.resource.filter(|resource| resource.get("compose").is_some());
    let mut value_set = match (own, &request.canonical) {
        (Some(own), _) => serde_json::from_str(own.raw())
            .map_err(|_| refusal(IssueCode::Structure, "the ValueSet of the focus cannot be read"))?,
        (None, Some(canonical)) => catalog
            .resource("ValueSet", canonical)
            .map(|known| Value::clone(known))
            .ok_or_else(|| unknown("ValueSet"))?,
        (None, None) => return Err(refusal(IssueCode::Required, "the request does not name a ValueSet; give its url")),
    };
    let concepts = Expander::new(catalog).value_set(&value_set)?;
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

fn code_system(request: ExpandRequest, catalog: &Catalog) -> Result<Value, Issue> {
    let Some(canonical) = request.canonical else {
        return Err(refusal(IssueCode::Required, "the request does not name a CodeSystem; give its url"));
    };
    let known = catalog.resource("CodeSystem", &canonical).ok_or_else(|| unknown("CodeSystem"))?;
    if known["content"] == "not-present" || known["concept"].as_array().is_none_or(Vec::is_empty) {
        return Err(refusal(
            IssueCode::NotFound,
            "the CodeSystem is loaded without its concepts; obtain them from its publisher",
        ));
    }
    if flatten(known).len() > CONCEPTS_LIMIT {
        return Err(too_many());
    }
    Ok(Value::clone(known))
}

fn unknown(kind: &str) -> Issue {
    let text = format!("no {kind} with this url and version is loaded; correct the url, or load it");
    refusal(IssueCode::NotFound, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{DefinitionFile, Definitions};
    use bytes::Bytes;
    use emberpost_fhir::{Cause, FhirVersion, json};

    const PUSH: &str = "http://emberpost.org/fhir/ValueSet/push-events";
    const EVENTS: &str = "http://emberpost.org/fhir/CodeSystem/shipped-events";

    fn request(event: &str, focus: &Value) -> Message {
        let bundle = json!({ "resourceType": "Bundle", "type": "message", "entry": [
            { "fullUrl": "urn:oid:1.2.1", "resource": { "resourceType": "MessageHeader",
                "eventCoding": { "system": SYSTEM, "code": event }, "source": { "endpoint": "https://a.example" },
                "focus": [{ "reference": "urn:oid:1.2.2" }] } },
            { "fullUrl": "urn:oid:1.2.2", "resource": focus }] });
        let tree = json::parse(Bytes::from(bundle.to_string())).expect("JSON");
        Message::read(tree, Some(FhirVersion::R4), None).expect("a message")
    }

    fn definitions(more: &[Value]) -> Catalog {
        let mut files = crate::shipped::definitions();
        files.extend(more.iter().enumerate().map(|(index, resource)| DefinitionFile {
            path: format!("{index}.json"),
            bytes: resource.to_string().into_bytes(),
        }));
        Definitions::load(&files).0.catalog
    }

    fn value_set(compose: Value) -> Value {
        json!({ "resourceType": "ValueSet", "url": "urn:v", "status": "active", "compose": compose })
    }

    fn expanded(focus: &Value, more: &[Value]) -> Result<Value, Issue> {
        expand(&request("valueset-expand", focus), &definitions(more), 1_700_000_000_000_000).expect("an expansion")
    }

    fn codes(focus: &Value, more: &[Value]) -> Vec<String> {
        let expanded = expanded(focus, more).expect("an expansion");
        let contains = expanded["expansion"]["contains"].as_array().cloned().unwrap_or_default();
        assert_eq!(expanded["expansion"]["total"], contains.len());
        contains.iter().map(|one| one["code"].as_str().expect("a code").to_owned()).collect()
    }

    fn tree() -> Value {
        json!({ "resourceType": "CodeSystem", "url": "urn:c", "content": "complete", "concept": [
            { "code": "a", "display": "A", "concept": [{ "code": "b", "concept": [{ "code": "c" }] }] }, { "code": "d" }] })
    }

    #[test]
    fn a_value_set_is_found_by_its_url_in_each_kind_of_request() {
        let request = [
            json!({ "resourceType": "ValueSet", "url": PUSH, "status": "active" }),
            json!({ "resourceType": "Parameters", "parameter": [{ "name": "url", "valueUri": PUSH }] }),
            json!({ "resourceType": "Parameters", "parameter": [{ "name": "url", "valueString": format!("{PUSH}|1.0.0") }] }),
        ];
        for focus in request {
            let answer = expanded(&focus, &[]).expect("an expansion");
            assert_eq!(answer["expansion"]["total"], 10);
            assert_eq!(answer["expansion"]["timestamp"], "2023-11-14T22:13:20Z");
            let first = json!({ "system": EVENTS, "code": "admin-notify", "display": "Administrative notification" });
            assert_eq!(answer["expansion"]["contains"][0], first);
            assert_eq!((&answer["url"], &answer["compose"]), (&json!(PUSH), &Value::Null));
        }
        let all = json!({ "resourceType": "ValueSet", "url": PUSH.replace("push", "all") });
        assert_eq!(codes(&all, &[]).len(), 15);
    }

    #[test]
    fn includes_imports_excludes_and_filters_are_followed() {
        let import = json!({ "resourceType": "ValueSet", "url": "urn:i", "compose": { "include": [
            { "system": "urn:c", "concept": [{ "code": "b" }, { "code": "d" }] }] } });
        let more = [tree(), import];
        let cases = [
            (json!({ "include": [{ "system": "urn:c" }] }), vec!["a", "b", "c", "d"]),
            (
                json!({ "include": [{ "system": "urn:c", "concept": [{ "code": "d" }, { "code": "a" }] }] }),
                vec!["d", "a"],
            ),
            (json!({ "include": [{ "valueSet": ["urn:i"] }, { "system": "urn:c" }] }), vec!["b", "d", "a", "c"]),
            (json!({ "include": [{ "system": "urn:c", "valueSet": ["urn:i"] }] }), vec!["b", "d"]),
            (json!({ "include": [{ "system": "urn:c" }], "exclude": [{ "valueSet": ["urn:i"] }] }), vec!["a", "c"]),
            (filter("is-a", "b"), vec!["b", "c"]),
            (filter("descendent-of", "b"), vec!["c"]),
        ];
        for (compose, wanted) in cases {
            assert_eq!(codes(&value_set(compose.clone()), &more), wanted, "{compose}");
        }
    }

    fn filter(op: &str, value: &str) -> Value {
        json!({ "include": [{ "system": "urn:c", "filter": [{ "property": "concept", "op": op, "value": value }] }] })
    }

    #[test]
    fn what_cannot_be_expanded_is_refused_with_a_reason() {
        let circle = json!({ "resourceType": "ValueSet", "url": "urn:o", "compose": { "include": [{ "valueSet": ["urn:o"] }] } });
        let many = (0..=CONCEPTS_LIMIT).map(|n| json!({ "code": n.to_string() })).collect::<Vec<_>>();
        let large = json!({ "resourceType": "CodeSystem", "url": "urn:l", "content": "complete", "concept": many });
        let more = [tree(), circle, large];
        let cases = [
            (json!({ "resourceType": "ValueSet", "url": "urn:none" }), IssueCode::NotFound, "no ValueSet"),
            (
                json!({ "resourceType": "ValueSet", "status": "active" }),
                IssueCode::Required,
                "does not name a ValueSet",
            ),
            (json!({ "resourceType": "Patient" }), IssueCode::Required, "the focus must be a ValueSet"),
            (value_set(json!({ "include": [{ "system": "urn:none" }] })), IssueCode::NotFound, "CodeSystem urn:none"),
            (value_set(filter("regex", "x")), IssueCode::NotSupported, "concept regex"),
            (value_set(json!({ "include": [{ "valueSet": ["urn:o"] }] })), IssueCode::BusinessRule, "8 deep"),
            (value_set(json!({ "include": [{ "system": "urn:l" }] })), IssueCode::TooLong, "10000 concepts"),
        ];
        for (focus, code, words) in cases {
            let issue = expanded(&focus, &more).expect_err("a refusal");
            assert_eq!((issue.code, issue.cause), (code, Cause::Definition));
            assert!(issue.diagnostics.contains(words), "{}", issue.diagnostics);
        }
    }

    #[test]
    fn a_code_system_comes_with_its_concepts_and_other_events_are_not_answered() {
        let focus = json!({ "resourceType": "CodeSystem", "url": EVENTS });
        let answer =
            expand(&request("CodeSystem-expand", &focus), &definitions(&[]), 0).expect("request").expect("known");
        assert_eq!(answer["concept"].as_array().map(Vec::len), Some(15));
        let unknown = json!({ "resourceType": "CodeSystem", "url": "urn:none" });
        let refusal = expand(&request("CodeSystem-expand", &unknown), &definitions(&[]), 0).expect("request");
        assert_eq!(refusal.map_err(|issue| issue.code), Err(IssueCode::NotFound));
        assert!(expand(&request("patient-link", &focus), &definitions(&[]), 0).is_none());
    }
}
