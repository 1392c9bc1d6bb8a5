//! Contained resources: dom-2 to dom-5 and ref-1.

use super::*;

fn holder(contained: Value, performer: &str) -> Value {
    observation(json!({ "contained": contained, "performer": [{ "reference": performer }] }))
}

fn person(more: Value) -> Value {
    let mut person = json!({ "resourceType": "Practitioner", "id": "p1" });
    for (name, value) in more.as_object().unwrap() {
        person[name] = value.clone();
    }
    person
}

#[test]
fn a_contained_resource_is_used_and_reached_by_its_id() {
    passes(holder(json!([person(json!({}))]), "#p1"));
    breaks(
        holder(json!([person(json!({})), { "resourceType": "Organization", "id": "o1", "name": "A" }]), "#p1"),
        "dom-3",
        "Observation.contained[1]",
    );
    let found = errors(&holder(json!([person(json!({}))]), "#p2"));
    assert_eq!(
        found,
        [("dom-3".into(), "Observation.contained[0]".into()), ("ref-1".into(), "Observation.performer[0]".into())]
    );
}

#[test]
fn siblings_canonicals_and_references_to_the_container_count_as_use() {
    let role = json!({ "resourceType": "PractitionerRole", "id": "r1", "practitioner": { "reference": "#p1" } });
    passes(holder(json!([role, person(json!({}))]), "#r1"));
    let provenance = json!({ "resourceType": "Provenance", "id": "v1", "target": [{ "reference": "#" }], "recorded": "2023-05-04T08:15:00Z", "agent": [{ "who": { "display": "x" } }] });
    passes(observation(json!({ "contained": [provenance] })));
    let questions = json!({ "resourceType": "Questionnaire", "id": "q1", "status": "draft" });
    passes(
        json!({ "resourceType": "QuestionnaireResponse", "status": "completed", "questionnaire": "#q1", "contained": [questions] }),
    );
}

#[test]
fn contained_ids_are_local_to_their_container() {
    let entry =
        |id: &str| json!({ "fullUrl": format!("urn:x:{id}"), "resource": holder(json!([person(json!({}))]), "#p1") });
    passes(json!({ "resourceType": "Bundle", "type": "collection", "entry": [entry("a"), entry("b")] }));
    let lone =
        json!({ "fullUrl": "urn:x:c", "resource": observation(json!({ "performer": [{ "reference": "#p1" }] })) });
    let bundle = json!({ "resourceType": "Bundle", "type": "collection", "entry": [entry("a"), lone] });
    breaks(bundle, "ref-1", "Bundle.entry[1].resource.performer[0]");
}

#[test]
fn a_contained_resource_has_no_version_security_or_contained_of_its_own() {
    let meta = |meta: Value| holder(json!([person(json!({ "meta": meta }))]), "#p1");
    breaks(meta(json!({ "versionId": "2" })), "dom-4", "Observation.contained[0]");
    breaks(meta(json!({ "lastUpdated": "2023-05-04T08:15:00Z" })), "dom-4", "Observation.contained[0]");
    breaks(meta(json!({ "security": [{ "system": "urn:x", "code": "R" }] })), "dom-5", "Observation.contained[0]");
    let nested = person(json!({ "contained": [{ "resourceType": "Organization", "id": "o1", "name": "A" }] }));
    breaks(holder(json!([nested]), "#p1"), "dom-2", "Observation.contained[0]");
}

#[test]
fn a_contained_resource_has_a_type_that_the_reference_allows() {
    let medication = json!({ "resourceType": "Medication", "id": "m1" });
    breaks(holder(json!([medication]), "#m1"), "target", "Observation.performer[0]");
}

#[test]
fn a_contained_resource_without_id_is_reported() {
    let found = errors(&observation(json!({ "contained": [{ "resourceType": "Practitioner" }] })));
    assert!(found.contains(&("min".into(), "Observation.contained[0]".into())), "{found:?}");
}

#[test]
fn a_map_uses_a_contained_concept_map_by_a_string() {
    let map = |to: &str| {
        let target = json!({ "context": "t", "contextType": "variable", "element": "e", "transform": "translate", "parameter": [{ "valueString": to }] });
        json!({
            "resourceType": "StructureMap", "url": "urn:x", "name": "M", "status": "draft",
            "contained": [{ "resourceType": "ConceptMap", "id": "cm", "status": "draft" }],
            "group": [{
                "name": "g", "typeMode": "none", "input": [{ "name": "s", "mode": "source" }],
                "rule": [{ "name": "r", "source": [{ "context": "s" }], "target": [target] }],
            }],
        })
    };
    passes(map("#cm"));
    breaks(map("#other"), "dom-3", "StructureMap.contained[0]");
}

#[test]
fn links_and_images_of_the_narrative_count_as_use() {
    let image = json!({ "resourceType": "Binary", "id": "b1", "contentType": "image/png" });
    let with = |inner: &str| {
        let div = format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{inner}</div>");
        observation(json!({ "contained": [image], "text": { "status": "generated", "div": div } }))
    };
    passes(with("<img src=\"#b1\" alt=\"x\"/>"));
    passes(with("<a href='#b1'>x</a>"));
    breaks(with("b1"), "dom-3", "Observation.contained[0]");
}

#[test]
fn ids_of_contained_resources_are_unique() {
    breaks(holder(json!([person(json!({})), person(json!({}))]), "#p1"), "contained-id", "Observation.contained[1]");
}
