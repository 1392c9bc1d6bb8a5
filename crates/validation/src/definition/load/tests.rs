//! Files of definitions: which are read, and what is wrong with them.

use super::*;
use crate::definition::Definitions;
use emberpost_fhir::event::Category;
use serde_json::json;

fn file(path: &str, resource: &Value) -> DefinitionFile {
    DefinitionFile { path: path.to_owned(), bytes: resource.to_string().into_bytes() }
}

fn definition(url: &str, version: &str) -> Value {
    json!({ "resourceType": "MessageDefinition", "url": url, "version": version, "status": "active",
        "date": "2026-01-01", "eventCoding": { "system": "urn:s", "code": "made" } })
}

#[test]
fn every_shipped_definition_loads_without_an_error() {
    let (definitions, errors) = Definitions::load(&crate::shipped::definitions());
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(definitions.catalog.messages.len(), 30);
    assert_eq!(definitions.catalog.events().count(), 15);
    for request in definitions.catalog.messages.iter().filter(|one| !one.allowed_responses.is_empty()) {
        assert_eq!(definitions.catalog.allowed_response_event(request).as_ref(), Some(&request.event));
        let category = request.category.expect("a category");
        let is_open = category == Category::Notification;
        assert_eq!(request.response_required.is_none(), is_open, "{}", request.canonical());
        let candidates = definitions.catalog.candidates(&request.event, false).expect("the event is known");
        assert_eq!(candidates.len(), 1, "one request definition for {}", request.event);
    }
}

#[test]
fn an_ending_in_capitals_is_read_like_any_other() {
    let (definitions, errors) = Definitions::load(&[file("ONE.JSON", &definition("urn:one", "1"))]);
    assert_eq!((definitions.catalog.messages.len(), errors), (1, Vec::new()));
    let wrong = DefinitionFile { path: "GUIDE.TGZ".into(), bytes: b"no package".to_vec() };
    assert_eq!(Definitions::load(&[wrong]).1.len(), 1);
}

#[test]
fn entries_that_are_not_objects_define_nothing() {
    let bundle = json!({ "resourceType": "Bundle", "type": "collection",
        "entry": ["text", 1, null, {}, { "resource": 1 }, { "resource": definition("urn:one", "1") }] });
    let (definitions, errors) = Definitions::load(&[file("bundle.json", &bundle)]);
    assert_eq!((definitions.catalog.messages.len(), errors), (1, Vec::new()));
}

#[test]
fn every_error_is_reported_with_its_path_and_the_rest_is_loaded() {
    let mut no_event = definition("urn:none", "1");
    no_event.as_object_mut().expect("an object").remove("eventCoding");
    let mut bad_max = definition("urn:max", "1");
    bad_max["focus"] =
        json!([{ "code": "Patient", "min": 0, "max": "0" }, { "code": "Patient", "min": 3, "max": "2" }]);
    let broken = DefinitionFile { path: "broken.json".into(), bytes: b"{".to_vec() };
    let xml = DefinitionFile { path: "one.xml".into(), bytes: b"<MessageDefinition/>".to_vec() };
    let readme = DefinitionFile { path: "README.md".into(), bytes: b"# no json".to_vec() };
    let (definitions, errors) = Definitions::load(&[
        file("a.json", &definition("urn:a", "1")),
        file("b.json", &definition("urn:a", "1")),
        file("c.json", &no_event),
        file("d.json", &bad_max),
        broken,
        xml,
        readme,
        file("patient.json", &json!({ "resourceType": "Patient" })),
    ]);
    assert_eq!(definitions.catalog.messages.len(), 1);
    let beginnings = [
        "b.json: urn:a|1 is already active in a.json",
        "c.json: urn:none has no event",
        "d.json: urn:max: focus[0]",
        "d.json: urn:max: focus[1]",
        "broken.json: is not JSON",
        "one.xml: is not valid FHIR XML",
    ];
    assert_eq!(errors.len(), beginnings.len(), "{errors:#?}");
    for (error, beginning) in errors.iter().zip(beginnings) {
        assert!(error.starts_with(beginning), "{error}");
    }
}

#[test]
fn bundles_of_definitions_are_read_and_messages_are_skipped() {
    let bundle = |kind| {
        json!({ "resourceType": "Bundle", "type": kind, "entry": [
        { "resource": definition("urn:a", "1") }, { "resource": { "resourceType": "ValueSet", "url": "urn:v" } }] })
    };
    let (definitions, errors) =
        Definitions::load(&[file("c.json", &bundle("collection")), file("m.json", &bundle("message"))]);
    assert!(errors.is_empty());
    assert_eq!((definitions.catalog.messages.len(), definitions.catalog.resources.len()), (1, 1));
    assert!(definitions.catalog.resource("ValueSet", "urn:v").is_some());
}

#[test]
fn a_canonical_without_version_is_the_newest_active_by_number() {
    let mut draft = definition("urn:a", "2.0.0");
    draft["status"] = json!("draft");
    let (definitions, _) = Definitions::load(&[
        file("1.json", &definition("urn:a", "1.9.0")),
        file("2.json", &definition("urn:a", "1.10.0")),
        file("3.json", &draft),
    ]);
    let version = |canonical| definitions.catalog.by_canonical(canonical).and_then(|one| one.version.clone());
    assert_eq!(version("urn:a").as_deref(), Some("1.10.0"));
    assert_eq!(version("urn:a|1.9.0").as_deref(), Some("1.9.0"));
    assert_eq!(version("urn:a|2.0.0").as_deref(), Some("2.0.0"));
    assert_eq!(version("urn:a|3"), None);
}
