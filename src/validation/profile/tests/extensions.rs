//! Extensions with their definitions: simple ones, nested ones, and slices that name them by url.

use super::*;

fn simple() -> Value {
    derived(
        "simple",
        "Extension",
        "http://hl7.org/fhir/StructureDefinition/Extension",
        json!([
            { "id": "Extension", "path": "Extension", "max": "1" },
            { "id": "Extension.extension", "path": "Extension.extension", "max": "0" },
            { "id": "Extension.url", "path": "Extension.url", "fixedUri": format!("{OWN}simple") },
            { "id": "Extension.value[x]", "path": "Extension.value[x]", "min": 1, "type": [{ "code": "code" }],
              "binding": { "strength": "required", "valueSet": "http://hl7.org/fhir/ValueSet/administrative-gender" } },
        ]),
    )
}

fn nested() -> Value {
    derived(
        "nested",
        "Extension",
        "http://hl7.org/fhir/StructureDefinition/Extension",
        json!([
            { "id": "Extension.extension", "path": "Extension.extension", "slicing": { "discriminator": [{ "type": "value", "path": "url" }], "rules": "closed" } },
            { "id": "Extension.extension:kind", "path": "Extension.extension", "sliceName": "kind", "min": 1, "max": "1" },
            { "id": "Extension.extension:kind.url", "path": "Extension.extension.url", "fixedUri": "kind" },
            { "id": "Extension.extension:kind.value[x]", "path": "Extension.extension.value[x]", "min": 1, "type": [{ "code": "Coding" }] },
            { "id": "Extension.url", "path": "Extension.url", "fixedUri": format!("{OWN}nested") },
            { "id": "Extension.value[x]", "path": "Extension.value[x]", "max": "0" },
        ]),
    )
}

fn patient_with(name: &str, min: u32) -> Value {
    profile(
        "patient",
        "Patient",
        json!([
            { "id": "Patient.extension", "path": "Patient.extension", "slicing": { "discriminator": [{ "type": "value", "path": "url" }], "rules": "open" } },
            { "id": "Patient.extension:own", "path": "Patient.extension", "sliceName": "own", "min": min, "max": "1",
              "type": [{ "code": "Extension", "profile": [format!("{OWN}{name}")] }] },
        ]),
    )
}

fn instance(extensions: Value) -> Value {
    json!({ "resourceType": "Patient", "extension": extensions })
}

#[test]
fn an_extension_in_its_slice_is_held_against_its_definition() {
    let url = format!("{OWN}simple");
    let other = json!({ "url": "urn:other", "valueBoolean": true });
    cases(
        &[patient_with("simple", 1), simple()],
        &[
            (instance(json!([other, { "url": url, "valueCode": "male" }])), &[]),
            (instance(json!([other])), &["error profile-min Patient"]),
            (
                instance(json!([{ "url": url, "valueCode": "x" }])),
                &["error binding Patient.extension[0].value.ofType(code)"],
            ),
            (
                instance(json!([{ "url": url, "valueString": "male" }])),
                &["error profile-type Patient.extension[0].value.ofType(string)"],
            ),
            (
                instance(json!([{ "url": url, "extension": [other] }])),
                &["error profile-max Patient.extension[0].extension", "error profile-min Patient.extension[0]"],
            ),
        ],
    );
}

#[test]
fn nested_extensions_are_slices_of_the_one_around_them() {
    let url = format!("{OWN}nested");
    let kind = json!({ "url": "kind", "valueCoding": { "code": "a" } });
    cases(
        &[patient_with("nested", 0), nested()],
        &[
            (instance(json!([{ "url": url, "extension": [kind] }])), &[]),
            (
                instance(json!([{ "url": url, "extension": [kind, { "url": "more", "valueCode": "a" }] }])),
                &["error slicing Patient.extension[0].extension[1]"],
            ),
            (
                instance(json!([{ "url": url, "extension": [{ "url": "kind", "valueCode": "a" }] }])),
                &["error profile-type Patient.extension[0].extension[0].value.ofType(code)"],
            ),
            (
                instance(json!([{ "url": url, "valueCode": "a" }])),
                &["error profile-min Patient.extension[0]", "error profile-max Patient.extension[0].value"],
            ),
        ],
    );
}

#[test]
fn an_extension_whose_definition_is_not_loaded_is_counted_and_named_in_a_warning() {
    let two = json!([{ "url": format!("{OWN}simple"), "valueCode": "x" }, { "url": format!("{OWN}simple"), "valueCode": "y" }]);
    cases(
        &[patient_with("simple", 1)],
        &[
            (instance(two), &["error profile-max Patient.extension", "warning profile-missing Patient.extension[0]"]),
            (instance(json!([{ "url": "urn:other", "valueCode": "x" }])), &["error profile-min Patient"]),
        ],
    );
}

#[test]
fn extensions_of_primitives_are_held_too() {
    let own = profile(
        "patient",
        "Patient",
        json!([
            { "id": "Patient.birthDate.extension", "path": "Patient.birthDate.extension", "slicing": { "discriminator": [{ "type": "value", "path": "url" }], "rules": "open" } },
            { "id": "Patient.birthDate.extension:own", "path": "Patient.birthDate.extension", "sliceName": "own", "min": 1,
              "type": [{ "code": "Extension", "profile": [format!("{OWN}simple")] }] },
        ]),
    );
    let with = |code: &str| json!({ "resourceType": "Patient", "birthDate": "2020", "_birthDate": { "extension": [{ "url": format!("{OWN}simple"), "valueCode": code }] } });
    cases(
        &[own, simple()],
        &[
            (with("male"), &[]),
            (with("x"), &["error binding Patient.birthDate.extension[0].value.ofType(code)"]),
            (json!({ "resourceType": "Patient", "birthDate": "2020" }), &["error profile-min Patient.birthDate"]),
        ],
    );
}

#[test]
fn an_extension_is_held_against_its_loaded_definition_wherever_it_stands() {
    let mut own = simple();
    own["context"] = json!([{ "type": "element", "expression": "Patient.name" }, { "type": "element", "expression": "Quantity" },
        { "type": "extension", "expression": "urn:around" }]);
    let url = format!("{OWN}simple");
    let good = json!([{ "url": url, "valueCode": "male" }]);
    let bad = json!([{ "url": url, "valueCode": "x" }]);
    let sent = |members: Value| {
        let mut patient = json!({ "resourceType": "Patient", "id": "1" });
        patient.as_object_mut().expect("members").extend(members.as_object().expect("members").clone());
        message_found(std::slice::from_ref(&own), &message(json!({}), &[], &[patient]))
    };
    assert_eq!(sent(json!({ "name": [{ "text": "A" }, { "extension": good }] })), [""; 0]);
    assert_eq!(
        sent(
            json!({ "extension": [{ "url": "urn:around", "extension": good }, { "url": "urn:q", "valueQuantity": { "extension": good } }] })
        ),
        [""; 0]
    );
    assert_eq!(
        sent(json!({ "name": [{ "extension": bad }] })),
        ["error binding Bundle.entry[1].resource.name[0].extension[0].value.ofType(code)"]
    );
    assert_eq!(sent(json!({ "extension": good })), ["error extension Bundle.entry[1].resource.extension[0]"]);
    assert_eq!(
        sent(json!({ "birthDate": "2020", "_birthDate": { "extension": good } })),
        ["error extension Bundle.entry[1].resource.birthDate.extension[0]"]
    );
    let contained = json!({ "contained": [{ "resourceType": "Patient", "id": "c", "name": [{ "given": ["A"], "_given": [{ "extension": bad }] }] }] });
    let place = "Bundle.entry[1].resource.contained[0].name[0].given[0].extension[0]";
    assert_eq!(
        sent(contained),
        [format!("error extension {place}"), format!("error binding {place}.value.ofType(code)")]
    );
}
