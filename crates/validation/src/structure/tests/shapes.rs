//! Elements, cardinalities, and the rules of FHIR's JSON.

use super::*;

#[test]
fn an_element_that_the_type_does_not_define_is_reported_at_its_object() {
    breaks(patient("colour", json!("red")), "unknown-element", "Patient");
    breaks(patient("name", json!([{ "family": "B", "nick": "b" }])), "unknown-element", "Patient.name[0]");
    breaks(patient("Gender", json!("male")), "unknown-element", "Patient");
    breaks(patient("_name", json!([{ "id": "a" }])), "unknown-element", "Patient");
    breaks(
        patient("name", json!([{ "resourceType": "HumanName", "family": "B" }])),
        "unknown-element",
        "Patient.name[0]",
    );
}

#[test]
fn line_and_column_of_an_unknown_element_are_its_own() {
    let tree = json::parse("{\"resourceType\":\"Patient\",\n \"colour\": \"red\"}".into()).unwrap();
    let mut collector = IssueCollector::new(&tree, ProseRules::Warning);
    check(&tree, Schema::of(FhirVersion::R4), Options::default(), &mut collector);
    let issues = collector.finish();
    assert_eq!(issues[0].position, Some((2, 12)));
    assert_eq!(issues[0].diagnostics.full(), "'colour' is not an element of Patient");
    assert_eq!(&*issues[0].diagnostics, "'…' is not an element of Patient");
}

#[test]
fn an_element_of_another_version_is_unknown() {
    let header = json!({ "resourceType": "MessageHeader", "eventUri": "urn:x", "source": { "endpoint": "urn:y" } });
    passes(header.clone());
    let found = errors_of(&header.to_string(), FhirVersion::R5);
    let expected = [("unknown-element", "MessageHeader"), ("unknown-element", "MessageHeader.source")];
    for (rule, path) in expected {
        assert!(found.contains(&(rule.to_owned(), path.to_owned())), "{found:?}");
    }
}

#[test]
fn a_missing_element_is_reported_at_its_parent() {
    breaks(json!({ "resourceType": "Observation", "status": "final" }), "min", "Observation");
    breaks(observation(json!({ "component": [{ "valueString": "x" }] })), "min", "Observation.component[0]");
    let header = json!({ "resourceType": "MessageHeader", "source": { "endpoint": "urn:y" } });
    breaks(header, "min", "MessageHeader");
}

#[test]
fn an_element_that_a_constrained_type_leaves_out_is_unknown() {
    let quantity = json!({ "value": 60, "comparator": "<" });
    let range = observation(json!({ "referenceRange": [{ "low": quantity }] }));
    breaks(range, "unknown-element", "Observation.referenceRange[0].low");
}

#[test]
fn repeating_elements_are_arrays_and_only_they() {
    breaks(patient("name", json!({ "family": "B" })), "JSN-05", "Patient.name");
    breaks(patient("gender", json!(["male"])), "JSN-05", "Patient.gender");
    breaks(patient("maritalStatus", json!([{ "text": "x" }])), "JSN-05", "Patient.maritalStatus");
    breaks(patient("name", json!([[{ "family": "B" }]])), "type", "Patient.name[0]");
}

#[test]
fn values_are_of_the_json_type_that_their_type_needs() {
    breaks(patient("active", json!("true")), "JSN-07", "Patient.active");
    breaks(patient("birthDate", json!(1962)), "JSN-07", "Patient.birthDate");
    breaks(patient("gender", json!({ "code": "male" })), "JSN-07", "Patient.gender");
    breaks(patient("maritalStatus", json!("M")), "type", "Patient.maritalStatus");
    breaks(observation(json!({ "valueInteger": "7" })), "JSN-07", "Observation.value.ofType(integer)");
    let extension = json!([{ "url": "urn:x", "valueInteger64": 5 }]);
    let found = errors_of(&patient("extension", extension).to_string(), FhirVersion::R5);
    assert_eq!(found, [("JSN-07".to_owned(), "Patient.extension[0].value.ofType(integer64)".to_owned())]);
}

#[test]
fn empty_values_are_reported_once() {
    breaks(patient("name", json!([])), "JSN-03", "Patient.name");
    breaks(patient("name", json!([{}])), "JSN-03", "Patient.name[0]");
    breaks(patient("name", json!([{ "family": "" }])), "JSN-03", "Patient.name[0].family");
    breaks(patient("_birthDate", json!({})), "JSN-03", "Patient.birthDate");
}

#[test]
fn null_only_pads_arrays_of_primitives() {
    let padded =
        json!([{ "given": ["A", null], "_given": [null, { "extension": [{ "url": "urn:x", "valueCode": "c" }] }] }]);
    passes(patient("name", padded));
    breaks(patient("gender", json!(null)), "JSN-04", "Patient.gender");
    breaks(patient("name", json!(null)), "JSN-04", "Patient.name");
    breaks(patient("name", json!([{ "family": "B" }, null])), "JSN-04", "Patient.name[1]");
    breaks(patient("name", json!([{ "given": ["A", null] }])), "JSN-04", "Patient.name[0].given[1]");
    let both = errors(&patient("name", json!([{ "given": ["A", null], "_given": [{ "id": "a" }, null] }])));
    assert_eq!(both.len(), 2, "{both:?}");
}

#[test]
fn the_sibling_of_a_primitive_is_an_object_of_id_and_extensions() {
    let absent = json!({ "extension": [{ "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown" }] });
    passes(patient("_birthDate", absent.clone()));
    passes(json!({ "resourceType": "Patient", "birthDate": "2000", "_birthDate": { "id": "b" } }));
    breaks(patient("_birthDate", json!("x")), "JSN-06", "Patient.birthDate");
    breaks(patient("_birthDate", json!([absent])), "JSN-05", "Patient.birthDate");
    breaks(patient("name", json!([{ "family": "B", "_given": { "id": "a" } }])), "JSN-05", "Patient.name[0].given");
    let found = errors(&json!({ "resourceType": "Patient", "birthDate": "2000", "_birthDate": { "value": "x" } }));
    assert_eq!(found, [("unknown-element".to_owned(), "Patient.birthDate".to_owned())]);
}

#[test]
fn an_element_with_nothing_but_an_id_is_an_error() {
    breaks(patient("name", json!([{ "id": "a" }])), "ele-1", "Patient.name[0]");
    breaks(patient("_birthDate", json!({ "id": "a" })), "ele-1", "Patient.birthDate");
    passes(patient("name", json!([{ "id": "a", "family": "B" }])));
}

#[test]
fn a_choice_holds_one_value_of_an_allowed_type() {
    let twice = json!({ "resourceType": "Patient", "deceasedBoolean": true, "deceasedDateTime": "2020" });
    breaks(twice, "max", "Patient.deceased.ofType(dateTime)");
    breaks(patient("deceasedString", json!("x")), "unknown-element", "Patient");
    breaks(patient("deceased", json!(true)), "unknown-element", "Patient");
    passes(json!({ "resourceType": "Patient", "deceasedBoolean": true, "_deceasedBoolean": { "id": "d" } }));
    let mixed = json!({ "resourceType": "Patient", "deceasedBoolean": true, "_deceasedDateTime": { "extension": [{ "url": "urn:x", "valueCode": "c" }] } });
    breaks(mixed, "max", "Patient.deceased.ofType(dateTime)");
}

#[test]
fn escaped_names_are_names() {
    assert_eq!(errors_of("{\"resourceType\":\"Patient\",\"g\\u0065nder\":\"male\"}", FhirVersion::R4), []);
    let found = errors_of("{\"resourceType\":\"Patient\",\"g\\u0065nder\":\"m\"}", FhirVersion::R4);
    assert_eq!(found, [("binding".to_owned(), "Patient.gender".to_owned())]);
}

#[test]
fn a_resource_has_more_than_its_type() {
    breaks(json!({ "resourceType": "Patient" }), "JSN-03", "Patient");
    passes(json!({ "resourceType": "Patient", "id": "p1" }));
}
