//! Syntax of references and the types they refer to.

use super::*;

fn subject(reference: Value) -> Value {
    observation(json!({ "subject": reference }))
}

#[test]
fn a_reference_refers_to_a_type_that_the_element_allows() {
    passes(subject(json!({ "reference": "Patient/1" })));
    passes(subject(json!({ "reference": "https://a.example/fhir/Patient/1/_history/2" })));
    passes(subject(json!({ "reference": "https://a.example/other" })));
    passes(subject(json!({ "identifier": { "value": "1" } })));
    for wrong in ["Slot/1", "https://a.example/fhir/Slot/1", "Slot/1/_history/2"] {
        breaks(subject(json!({ "reference": wrong })), "target", "Observation.subject");
    }
}

#[test]
fn the_type_of_a_reference_is_allowed_and_fits() {
    passes(subject(json!({ "reference": "Patient/1", "type": "Patient" })));
    breaks(subject(json!({ "display": "x", "type": "Slot" })), "target", "Observation.subject");
    breaks(subject(json!({ "reference": "Patient/1", "type": "Group" })), "target", "Observation.subject");
    for url in ["http://hl7.org/fhir/StructureDefinition/Patient", "https://a.example/StructureDefinition/Own"] {
        breaks(subject(json!({ "display": "x", "type": url })), "reference-type", "Observation.subject");
    }
}

#[test]
fn a_reference_with_white_space_is_an_error() {
    breaks(subject(json!({ "reference": "Patient/ 1" })), "reference", "Observation.subject");
    passes(subject(json!({ "reference": "Patient/{id}" })));
}

/// The prose rules that an R4 resource violates, and whether each is an error.
fn prose(resource: &Value, prose_rules: ProseRules) -> Vec<(String, bool)> {
    let tree = json::parse(resource.to_string().into()).unwrap();
    let mut collector = IssueCollector::new(&tree, prose_rules);
    check(&tree, Schema::of(FhirVersion::R4), Options::default(), &mut collector);
    collector.finish().into_iter().map(|issue| (issue.rule.clone().unwrap().into_owned(), issue.is_error())).collect()
}

#[test]
fn a_full_url_determines_the_actual_type() {
    let bundle = |to: &str| {
        json!({ "resourceType": "Bundle", "type": "collection", "entry": [
            { "fullUrl": "urn:uuid:0c1646f0-656a-58bb-9b1f-a5b80b67484e", "resource": { "resourceType": "Slot", "schedule": { "display": "x" }, "status": "free", "start": "2023-05-04T08:15:00Z", "end": "2023-05-04T08:30:00Z" } },
            { "fullUrl": "urn:uuid:1c1646f0-656a-58bb-9b1f-a5b80b67484e", "resource": { "resourceType": "Patient", "id": "p1" } },
            { "fullUrl": "urn:uuid:2c1646f0-656a-58bb-9b1f-a5b80b67484e", "resource": subject(json!({ "reference": to })) },
        ] })
    };
    passes(bundle("urn:uuid:1c1646f0-656a-58bb-9b1f-a5b80b67484e"));
    passes(bundle("urn:uuid:9c1646f0-656a-58bb-9b1f-a5b80b67484e"));
    breaks(bundle("urn:uuid:0c1646f0-656a-58bb-9b1f-a5b80b67484e"), "target", "Bundle.entry[2].resource.subject");
}

#[test]
fn a_relative_reference_begins_with_the_type_and_is_not_a_search() {
    for wrong in ["/Patient/1", "../Patient/1", "Patient?identifier=1", "28b5b3b5-25a2", "Organisation/1"] {
        let resource = subject(json!({ "reference": wrong }));
        assert_eq!(prose(&resource, ProseRules::Warning), [("reference".to_owned(), false)], "{wrong}");
        assert_eq!(prose(&resource, ProseRules::Error), [("reference".to_owned(), true)], "{wrong}");
    }
    let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [{
        "resource": subject(json!({ "reference": "Patient?identifier=1" })),
        "request": { "method": "POST", "url": "Observation" } }] });
    let found = prose(&bundle, ProseRules::Error);
    assert!(!found.iter().any(|(rule, _)| rule == "reference"), "{found:?}");
}
