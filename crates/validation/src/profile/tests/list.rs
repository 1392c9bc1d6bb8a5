//! A profile with every common kind of rule, two instances that conform, and many that violate one rule each.

use super::*;

fn own() -> Vec<Value> {
    let patient = profile(
        "patient",
        "Patient",
        json!([
            { "id": "Patient", "path": "Patient", "constraint": [
                { "key": "own-1", "severity": "error", "human": "the dead are not active", "expression": "deceased.exists() implies active != true" }] },
            { "id": "Patient.identifier", "path": "Patient.identifier", "min": 1, "max": "3", "slicing": { "discriminator": [{ "type": "value", "path": "system" }], "rules": "open" } },
            { "id": "Patient.identifier:number", "path": "Patient.identifier", "sliceName": "number", "min": 1, "max": "1" },
            { "id": "Patient.identifier:number.system", "path": "Patient.identifier.system", "min": 1, "fixedUri": "urn:number" },
            { "id": "Patient.identifier:number.value", "path": "Patient.identifier.value", "min": 1, "maxLength": 10 },
            { "id": "Patient.name.family", "path": "Patient.name.family", "min": 1 },
            { "id": "Patient.deceased[x]", "path": "Patient.deceased[x]", "type": [{ "code": "boolean" }] },
            { "id": "Patient.maritalStatus", "path": "Patient.maritalStatus", "patternCodeableConcept": { "coding": [{ "system": "urn:marital" }] } },
            { "id": "Patient.communication.preferred", "path": "Patient.communication.preferred", "fixedBoolean": true },
            { "id": "Patient.photo", "path": "Patient.photo", "max": "0" },
            { "id": "Patient.generalPractitioner", "path": "Patient.generalPractitioner", "type": [{ "code": "Reference", "targetProfile": ["http://hl7.org/fhir/StructureDefinition/Practitioner"] }] },
        ]),
    );
    vec![patient]
}

fn whole() -> Value {
    json!({ "resourceType": "Patient", "active": true, "identifier": [{ "system": "urn:number", "value": "1" }, { "system": "urn:other" }],
        "name": [{ "family": "A" }], "maritalStatus": { "coding": [{ "system": "urn:marital", "code": "m" }], "text": "m" },
        "communication": [{ "language": { "text": "l" }, "preferred": true }], "generalPractitioner": [{ "reference": "Practitioner/1" }] })
}

/// The conforming instance with one member set or removed.
fn with(name: &str, value: Value) -> Value {
    let mut whole = whole();
    let members = whole.as_object_mut().expect("members");
    match value {
        Value::Null => members.remove(name),
        value => members.insert(name.to_owned(), value),
    };
    whole
}

#[test]
fn conforming_instances_are_accepted_and_each_violation_is_found_where_it_is() {
    let number = |value: &str| json!([{ "system": "urn:number", "value": value }]);
    cases(
        &own(),
        &[
            (whole(), &[]),
            (
                json!({ "resourceType": "Patient", "identifier": number("1234567890"), "deceasedBoolean": true, "active": false }),
                &[],
            ),
            (with("deceasedBoolean", json!(true)), &["error own-1 Patient"]),
            (with("identifier", Value::Null), &["error profile-min Patient", "error profile-min Patient"]),
            (with("identifier", json!([{ "system": "urn:other" }])), &["error profile-min Patient"]),
            (with("identifier", json!([{ "system": "urn:number" }])), &["error profile-min Patient.identifier[0]"]),
            (with("identifier", number("12345678901")), &["error profile-length Patient.identifier[0].value"]),
            (
                with("identifier", json!([{ "system": "urn:number", "value": "1" }, {}, {}, {}])),
                &["error profile-max Patient.identifier"],
            ),
            (
                with(
                    "identifier",
                    json!([{ "system": "urn:number", "value": "1" }, { "system": "urn:number", "value": "2" }]),
                ),
                &["error profile-max Patient.identifier"],
            ),
            (with("name", json!([{ "given": ["A"] }])), &["error profile-min Patient.name[0]"]),
            (
                with("deceasedDateTime", json!("2020")),
                &["error own-1 Patient", "error profile-type Patient.deceased.ofType(dateTime)"],
            ),
            (
                with("maritalStatus", json!({ "coding": [{ "system": "urn:other" }] })),
                &["error pattern Patient.maritalStatus"],
            ),
            (
                with("communication", json!([{ "preferred": false }])),
                &["error fixed Patient.communication[0].preferred"],
            ),
            (with("photo", json!([{}])), &["error profile-max Patient.photo"]),
            (
                with("generalPractitioner", json!([{ "reference": "Organization/1" }])),
                &["error profile-target Patient.generalPractitioner[0]"],
            ),
        ],
    );
}
