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
fn an_extension_in_its_slice_is_checked_against_its_definition() {
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
fn extensions_of_primitives_are_checked_too() {
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
fn an_extension_is_checked_against_its_loaded_definition_wherever_it_occurs() {
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
    let path = "Bundle.entry[1].resource.contained[0].name[0].given[0].extension[0]";
    assert_eq!(
        sent(contained),
        [format!("error extension {path}"), format!("error binding {path}.value.ofType(code)")]
    );
}

/// An extension, of our own or of the base packages, with these contexts.
fn on(url: &str, contexts: &[&str]) -> Value {
    let mut definition = derived(
        "note",
        "Extension",
        "http://hl7.org/fhir/StructureDefinition/Extension",
        json!([{ "id": "Extension.url", "path": "Extension.url", "fixedUri": url }]),
    );
    definition["url"] = json!(url);
    let contexts = contexts.iter().map(|of| json!({ "type": "element", "expression": of }));
    definition["context"] = contexts.collect();
    definition
}

#[test]
fn the_context_element_is_everything_resources_included() {
    let url = format!("{OWN}note");
    let extension = json!([{ "url": url, "valueString": "x" }]);
    let patient = json!({ "resourceType": "Patient", "id": "p", "extension": extension,
        "name": [{ "text": "x", "extension": extension }], "_birthDate": { "extension": extension },
        "link": [{ "other": { "reference": "Patient/1" }, "type": "refer", "extension": extension }] });
    let whole = message(json!({ "extension": extension }), &["Patient/p"], &[patient]);
    for (context, wanted) in [("Element", 0), ("Base", 0), ("DomainResource", 3), ("Patient", 4), ("HumanName", 4)] {
        let found = message_found(&[on(&url, &[context])], &whole);
        assert_eq!(found.len(), wanted, "{context}: {found:?}");
    }
}

/// Errors of a whole check at this level.
fn errors_at(level: super::super::super::Level, resources: &[Value], whole: &Value) -> Vec<String> {
    let mut definitions = loaded(resources);
    definitions.compile();
    let tree = json::parse(Bytes::from(whole.to_string())).expect("JSON");
    let message = Message::read(tree, Some(FhirVersion::R4), None).expect("a message");
    let checks = super::super::super::Checks { level, take_unknown_events: true, ..Default::default() };
    let checked = super::super::super::check(&message, &definitions, checks);
    checked.issues.iter().filter(|issue| issue.is_error()).map(short).collect()
}

#[test]
fn a_loaded_definition_of_an_extension_overrides_the_base_one() {
    use super::super::super::Level;
    const BIRTH_PLACE: &str = "http://hl7.org/fhir/StructureDefinition/patient-birthPlace";
    let path = json!([{ "url": BIRTH_PLACE, "valueAddress": { "text": "x" } }]);
    let encounter = json!({ "resourceType": "Encounter", "id": "e", "status": "planned", "class": { "code": "AMB" },
        "extension": path });
    let patient = json!({ "resourceType": "Patient", "id": "p", "extension": path });
    let whole = message(json!({}), &["Encounter/e", "Patient/p"], &[encounter, patient]);
    let at = |index: usize| format!("error extension Bundle.entry[{index}].resource.extension[0]");
    let moved = [on(BIRTH_PLACE, &["Encounter"])];
    assert_eq!(errors_at(Level::Structure, &[], &whole), [at(1)]);
    assert_eq!(errors_at(Level::Profile, &[], &whole), [at(1)]);
    assert_eq!(errors_at(Level::Structure, &moved, &whole), [""; 0]);
    assert_eq!(errors_at(Level::Profile, &moved, &whole), [at(2)]);
    let mut of_r5 = on(BIRTH_PLACE, &["Encounter"]);
    of_r5["fhirVersion"] = json!("5.0.0");
    assert_eq!(errors_at(Level::Profile, &[of_r5], &whole), [at(1)], "a definition for R5 says nothing of R4");
}
