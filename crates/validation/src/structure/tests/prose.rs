//! Rules that the specification states in prose: ids, attachments, narrative, currencies, and open value sets.

use super::*;
use FhirVersion::{R4, R5};

fn rules(resource: &Value, version: FhirVersion) -> Vec<(String, String)> {
    errors_of(&resource.to_string(), version)
}

#[track_caller]
fn is(resource: &Value, version: FhirVersion, wanted: &[(&str, &str)]) {
    let found = rules(resource, version);
    let found: Vec<_> = found.iter().map(|(rule, path)| (&**rule, &**path)).collect();
    assert_eq!(found, wanted, "{resource}");
}

#[test]
fn the_ids_of_elements_differ_within_a_resource_and_have_no_white_space() {
    let both = |first: &str, second: &str| {
        json!({ "resourceType": "Patient", "id": "a", "name": [{ "id": first, "text": "x" }],
            "birthDate": "2000", "_birthDate": { "id": second } })
    };
    passes(both("a", "b"));
    breaks(both("b", "b"), "id", "Patient.birthDate.id");
    for white in ["a b", "a\tb", " a", "a\u{a0}b"] {
        breaks(both("x", white), "id", "Patient.birthDate.id");
    }
    breaks(
        json!({ "resourceType": "Patient", "contact": [{ "id": "c", "name": { "id": "c", "text": "x" } }] }),
        "id",
        "Patient.contact[0].name.id",
    );
    // A contained resource has ids of its own.
    passes(json!({ "resourceType": "Patient", "contained": [{ "resourceType": "Organization", "id": "o", "name": "O",
            "telecom": [{ "id": "a", "system": "phone", "value": "1" }] }],
        "telecom": [{ "id": "a", "system": "phone", "value": "1" }], "managingOrganization": { "reference": "#o" } }));
    let element = json!({ "id": "Patient", "path": "Patient", "min": 0, "max": "*", "definition": "x",
        "base": { "path": "Patient", "min": 0, "max": "*" } });
    passes(
        json!({ "resourceType": "StructureDefinition", "url": "https://a.example/p", "name": "P", "status": "draft",
        "kind": "resource", "abstract": false, "type": "Patient", "derivation": "constraint",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient", "snapshot": { "element": [element] },
        "differential": { "element": [element] } }),
    );
}

#[test]
fn the_size_of_an_attachment_is_that_of_its_data() {
    let photo =
        |size: Value, data: &str| patient("photo", json!([{ "contentType": "image/png", "data": data, "size": size }]));
    for (data, size) in [("YWJj", 3), ("YWI=", 2), ("YQ==", 1), ("YWJjZA==", 4)] {
        passes(photo(json!(size), data));
        breaks(photo(json!(size + 1), data), "attachment-size", "Patient.photo[0].size");
        is(&photo(json!(size.to_string()), data), R5, &[]);
        is(&photo(json!("100"), data), R5, &[("attachment-size", "Patient.photo[0].size")]);
    }
    passes(photo(json!(3), "YW Jj"));
    passes(patient("photo", json!([{ "contentType": "image/png", "url": "https://a.example/x", "size": 9 }])));
}

#[test]
fn base64_has_white_space_before_r5_only() {
    for data in ["YWJj YWJj", "YWJj\nYWJj", " YWJj"] {
        let binary = json!({ "resourceType": "Binary", "contentType": "image/png", "data": data });
        is(&binary, R4, &[]);
        is(&binary, R5, &[("format", "Binary.data")]);
    }
}

#[test]
fn a_currency_is_one_of_iso_4217() {
    let priced =
        |code: &str| patient("extension", json!([{ "url": "urn:x", "valueMoney": { "value": 3, "currency": code } }]));
    for code in ["EUR", "USD", "XXX", "DEM", "XCG"] {
        passes(priced(code));
        is(&priced(code), R5, &[]);
    }
    let path = "Patient.extension[0].value.ofType(Money).currency";
    for code in ["Euro", "eur", "EURO", "ABC"] {
        breaks(priced(code), "binding", path);
        is(&priced(code), R5, &[("binding", path)]);
    }
}

#[test]
fn an_open_required_value_set_requires_a_coding_of_its_systems() {
    let speaks = |language: Value| patient("communication", json!([{ "language": language }]));
    let broken = [("binding", "Patient.communication[0].language")];
    is(&speaks(json!({ "coding": [{ "system": "urn:ietf:bcp:47", "code": "da" }] })), R5, &[]);
    is(
        &speaks(
            json!({ "coding": [{ "system": "urn:own", "code": "1" }, { "system": "urn:ietf:bcp:47", "code": "da" }] }),
        ),
        R5,
        &[],
    );
    let masked =
        json!([{ "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked" }]);
    is(&speaks(json!({ "extension": masked })), R5, &[]);
    is(&speaks(json!({ "text": "Danish" })), R5, &broken);
    is(&speaks(json!({ "coding": [{ "system": "urn:own", "code": "1" }] })), R5, &broken);
    is(&speaks(json!({ "coding": [{ "system": "urn:ietf:bcp:47" }] })), R5, &broken);
    // In R4 the binding is preferred.
    passes(speaks(json!({ "text": "Danish" })));
    // A code has no system; MIME types are not enumerated.
    passes(patient("photo", json!([{ "contentType": "image/x-own" }])));
}

#[test]
fn parameters_may_be_empty_and_other_resources_may_not() {
    passes(json!({ "resourceType": "Parameters" }));
    passes(
        json!({ "resourceType": "Bundle", "type": "collection", "entry": [{ "resource": { "resourceType": "Parameters" } }] }),
    );
    breaks(json!({ "resourceType": "Patient" }), "JSN-03", "Patient");
}
