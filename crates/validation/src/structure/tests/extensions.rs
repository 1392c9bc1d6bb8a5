//! Extensions in general, and those of the base packages.

use super::*;

const BIRTH_TIME: &str = "http://hl7.org/fhir/StructureDefinition/patient-birthTime";

fn extended(extension: Value) -> Value {
    patient("extension", json!([extension]))
}

#[test]
fn an_extension_has_a_url_and_either_a_value_or_extensions() {
    passes(extended(json!({ "url": "urn:x", "valueString": "x" })));
    passes(extended(
        json!({ "url": "urn:x", "_valueString": { "extension": [{ "url": "urn:y", "valueCode": "c" }] } }),
    ));
    passes(extended(json!({ "url": "urn:x", "extension": [{ "url": "a", "valueBoolean": false }] })));
    breaks(extended(json!({ "valueString": "x" })), "min", "Patient.extension[0]");
    breaks(extended(json!({ "url": "urn:x" })), "ext-1", "Patient.extension[0]");
    breaks(
        extended(json!({ "url": "urn:x", "valueString": "x", "extension": [{ "url": "a", "valueCode": "c" }] })),
        "ext-1",
        "Patient.extension[0]",
    );
    let nested = json!({ "url": "urn:x", "extension": [{ "url": "a", "extension": [{ "url": "b" }] }] });
    breaks(extended(nested), "ext-1", "Patient.extension[0].extension[0].extension[0]");
}

#[test]
fn datatypes_and_extensions_have_no_modifier_extensions() {
    let modifier = json!([{ "url": "urn:x", "valueBoolean": true }]);
    breaks(
        patient("name", json!([{ "family": "B", "modifierExtension": modifier }])),
        "unknown-element",
        "Patient.name[0]",
    );
    breaks(
        extended(json!({ "url": "urn:x", "valueString": "x", "modifierExtension": modifier })),
        "unknown-element",
        "Patient.extension[0]",
    );
    passes(patient("modifierExtension", modifier));
}

#[test]
fn a_base_extension_is_allowed_in_its_context_with_a_value_of_its_type() {
    let birth = |extension: Value| json!({ "resourceType": "Patient", "birthDate": "1962-07-09", "_birthDate": { "extension": [extension] } });
    passes(birth(json!({ "url": BIRTH_TIME, "valueDateTime": "1962-07-09T08:00:00Z" })));
    breaks(birth(json!({ "url": BIRTH_TIME, "valueString": "noon" })), "extension", "Patient.birthDate.extension[0]");
    breaks(extended(json!({ "url": BIRTH_TIME, "valueDateTime": "1962" })), "extension", "Patient.extension[0]");
    let modifier =
        json!({ "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown" });
    let found = errors(&patient("modifierExtension", json!([modifier])));
    assert!(found.contains(&("extension".into(), "Patient.modifierExtension[0]".into())), "{found:?}");
}

#[test]
fn values_in_extensions_are_checked_like_others() {
    let extension = json!({ "url": "urn:x", "valueHumanName": { "use": "stage" } });
    breaks(extended(extension), "binding", "Patient.extension[0].value.ofType(HumanName).use");
    let found = errors(&extended(json!({ "url": "urn:x", "valuePatient": { "resourceType": "Patient" } })));
    assert!(found.contains(&("unknown-element".into(), "Patient.extension[0]".into())), "{found:?}");
}

#[test]
fn contexts_name_elements_any_element_or_interfaces() {
    let wg = json!([{ "url": "http://hl7.org/fhir/StructureDefinition/structuredefinition-wg", "valueCode": "fhir" }]);
    let normative = json!([{ "url": "http://hl7.org/fhir/StructureDefinition/structuredefinition-normative-version", "valueCode": "5.0.0" }]);
    for extension in [wg, normative] {
        let set = json!({ "resourceType": "ValueSet", "status": "active", "extension": extension });
        assert_eq!(errors_of(&set.to_string(), FhirVersion::R5), [], "{set}");
    }
}

#[test]
fn a_nested_extension_is_one_of_the_definition_or_has_a_url_of_its_own() {
    let nationality = |url: &str| {
        let nested = json!([{ "url": url, "valueString": "x" }]);
        patient(
            "extension",
            json!([{ "url": "http://hl7.org/fhir/StructureDefinition/patient-nationality", "extension": nested }]),
        )
    };
    breaks(nationality("other"), "extension", "Patient.extension[0]");
    passes(nationality("https://x.example/other"));
}

#[test]
fn an_extension_may_constrain_the_element_that_has_it() {
    let list = |mode: &str| {
        json!({ "resourceType": "List", "status": "current", "mode": mode, "extension": [
            { "url": "http://hl7.org/fhir/StructureDefinition/list-changeBase", "valueReference": { "reference": "List/1" } }
        ] })
    };
    passes(list("changes"));
    breaks(list("working"), "extension", "List.extension[0]");
    let question = |kind: &str| {
        let unit = json!({ "url": "http://hl7.org/fhir/StructureDefinition/questionnaire-unit", "valueCoding": { "code": "mg" } });
        json!({ "resourceType": "Questionnaire", "status": "draft", "item": [
            { "linkId": "1", "type": "group", "item": [{ "linkId": "1.1", "type": kind, "extension": [unit] }] }
        ] })
    };
    passes(question("decimal"));
    breaks(question("string"), "extension", "Questionnaire.item[0].item[0].extension[0]");
}

/// Contexts in which resources published by HL7 use them, although the release does not allow it.
#[test]
fn base_extensions_are_allowed_where_hl7s_own_resources_have_them() {
    const BASE: &str = "http://hl7.org/fhir/StructureDefinition/";
    let of = |name: &str, value: (&str, Value)| {
        let mut extension = json!({ "url": format!("{BASE}{name}") });
        extension[value.0] = value.1;
        json!([extension])
    };
    let capabilities = |resource: Value| {
        json!({ "resourceType": "CapabilityStatement", "status": "active", "date": "2026", "kind": "requirements",
            "description": "x", "fhirVersion": "4.0.1", "format": ["json"],
            "rest": [{ "mode": "server", "resource": [resource] }] })
    };
    let expectation = of("capabilitystatement-expectation", ("valueCode", json!("SHALL")));
    let encounter = json!({ "resourceType": "Encounter", "status": "planned", "class": { "code": "AMB" },
        "extension": of("patient-interpreterRequired", ("valueBoolean", json!(true))) });
    let concepts = json!({ "resourceType": "CodeSystem", "url": "https://a.example/c", "status": "draft",
        "content": "complete",
        "concept": [{ "code": "a", "extension": of("valueset-concept-comments", ("valueString", json!("x"))) }] });
    for version in [FhirVersion::R4, FhirVersion::R4B] {
        for resource in
            [capabilities(json!({ "type": "Patient", "extension": expectation })), encounter.clone(), concepts.clone()]
        {
            assert_eq!(errors_of(&resource.to_string(), version), [], "{resource}");
        }
    }
    breaks(patient("extension", expectation), "extension", "Patient.extension[0]");
}
