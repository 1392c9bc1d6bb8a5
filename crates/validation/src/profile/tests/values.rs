//! Cardinalities, types, fixed values and patterns, limits, bindings, references.

use super::*;

#[test]
fn cardinalities_beyond_the_base_are_checked_and_those_of_the_base_are_not_repeated() {
    let own = profile(
        "patient",
        "Patient",
        json!([
            { "id": "Patient", "path": "Patient" },
            { "id": "Patient.identifier", "path": "Patient.identifier", "min": 1, "max": "2" },
            { "id": "Patient.photo", "path": "Patient.photo", "max": "0" },
            { "id": "Patient.name.family", "path": "Patient.name.family", "min": 1 },
            { "id": "Patient.link.other", "path": "Patient.link.other", "min": 1 },
        ]),
    );
    cases(
        &[own],
        &[
            (json!({ "resourceType": "Patient", "identifier": [{}], "name": [{ "family": "A" }] }), &[]),
            (json!({ "resourceType": "Patient" }), &["error profile-min Patient"]),
            (
                json!({ "resourceType": "Patient", "identifier": [{}, {}, {}], "photo": [{}], "name": [{ "family": "A" }, { "text": "B" }] }),
                &[
                    "error profile-max Patient.identifier",
                    "error profile-max Patient.photo",
                    "error profile-min Patient.name[1]",
                ],
            ),
            (json!({ "resourceType": "Patient", "identifier": [{}], "link": [{ "type": "seealso" }] }), &[]),
            (json!({ "resourceType": "Observation" }), &["error profile-type Observation"]),
        ],
    );
}

#[test]
fn a_primitive_with_an_extension_in_place_of_its_value_counts() {
    let own =
        profile("patient", "Patient", json!([{ "id": "Patient.birthDate", "path": "Patient.birthDate", "min": 1 }]));
    let absent = json!({ "extension": [{ "url": "urn:absent", "valueCode": "unknown" }] });
    cases(
        &[own],
        &[
            (json!({ "resourceType": "Patient", "_birthDate": absent }), &[]),
            (json!({ "resourceType": "Patient" }), &["error profile-min Patient"]),
        ],
    );
}

#[test]
fn fixed_values_are_exact_and_patterns_require_at_least_what_they_have() {
    let own = profile(
        "observation",
        "Observation",
        json!([
            { "id": "Observation.status", "path": "Observation.status", "fixedCode": "final" },
            { "id": "Observation.code", "path": "Observation.code",
              "patternCodeableConcept": { "coding": [{ "system": "urn:s", "code": "a" }] } },
            { "id": "Observation.method", "path": "Observation.method", "fixedCodeableConcept": { "coding": [{ "code": "m" }] } },
            { "id": "Observation.value[x]", "path": "Observation.value[x]", "patternQuantity": { "value": 6.30, "unit": "mg" } },
        ]),
    );
    let with = |code: Value, method: Value, value: Value| json!({ "resourceType": "Observation", "status": "final", "code": code, "method": method, "valueQuantity": value });
    let coding =
        json!({ "coding": [{ "code": "b" }, { "code": "a", "system": "urn:s", "display": "more" }], "text": "more" });
    let method = json!({ "coding": [{ "code": "m" }] });
    cases(
        &[own],
        &[
            (with(coding.clone(), method.clone(), json!({ "unit": "mg", "value": 6.3, "code": "mg" })), &[]),
            (
                with(
                    json!({ "coding": [{ "code": "a" }, { "system": "urn:s" }] }),
                    method,
                    json!({ "value": 6.4, "unit": "mg" }),
                ),
                &["error pattern Observation.code", "error pattern Observation.value.ofType(Quantity)"],
            ),
            (
                with(
                    coding,
                    json!({ "coding": [{ "code": "m", "display": "M" }] }),
                    json!({ "value": 6.3, "unit": "mg" }),
                ),
                &["error fixed Observation.method"],
            ),
        ],
    );
}

#[test]
fn only_listed_types_and_targets_are_allowed() {
    let reference = |of: &str| json!([{ "code": "Reference", "targetProfile": [of] }]);
    let own = profile(
        "observation",
        "Observation",
        json!([
            { "id": "Observation.value[x]", "path": "Observation.value[x]", "type": [{ "code": "Quantity" }, { "code": "string" }] },
            { "id": "Observation.subject", "path": "Observation.subject", "type": reference("http://hl7.org/fhir/StructureDefinition/Patient") },
            { "id": "Observation.encounter", "path": "Observation.encounter", "type": reference(&format!("{OWN}encounter")) },
        ]),
    );
    let encounter =
        profile("encounter", "Encounter", json!([{ "id": "Encounter.type", "path": "Encounter.type", "min": 1 }]));
    let with = |members: Value| {
        let mut whole = json!({ "resourceType": "Observation", "contained": [
            { "resourceType": "Encounter", "id": "good", "type": [{ "text": "t" }] }, { "resourceType": "Encounter", "id": "bad" }] });
        whole.as_object_mut().expect("members").extend(members.as_object().expect("members").clone());
        whole
    };
    cases(
        &[own, encounter],
        &[
            (
                with(
                    json!({ "valueString": "x", "subject": { "reference": "Patient/1" }, "encounter": { "reference": "#good" } }),
                ),
                &[],
            ),
            (
                with(
                    json!({ "subject": { "reference": "urn:uuid:0c1646f0-656a-58bb-9b1f-a5b80b67484e" }, "encounter": { "reference": "Encounter/9" } }),
                ),
                &[],
            ),
            (with(json!({ "valueBoolean": true })), &["error profile-type Observation.value.ofType(boolean)"]),
            (
                with(json!({ "subject": { "reference": "https://x.example/Group/1" } })),
                &["error profile-target Observation.subject"],
            ),
            (
                with(json!({ "subject": { "type": "Group", "display": "x" } })),
                &["error profile-target Observation.subject"],
            ),
            (with(json!({ "encounter": { "reference": "#bad" } })), &["error profile-target Observation.encounter"]),
        ],
    );
}

#[test]
fn a_profile_of_a_data_type_applies_where_the_type_is_used() {
    let name = profile("name", "HumanName", json!([{ "id": "HumanName.given", "path": "HumanName.given", "min": 1 }]));
    let other = profile("text", "HumanName", json!([{ "id": "HumanName.text", "path": "HumanName.text", "min": 1 }]));
    let with = |names: &[&str]| {
        let profiles: Vec<String> = names.iter().map(|name| format!("{OWN}{name}")).collect();
        profile(
            "patient",
            "Patient",
            json!([{ "id": "Patient.name", "path": "Patient.name", "type": [{ "code": "HumanName", "profile": profiles }] }]),
        )
    };
    let patient =
        json!({ "resourceType": "Patient", "name": [{ "given": ["A"] }, { "text": "B" }, { "family": "C" }] });
    let all = |own: Value| vec![own, name.clone(), other.clone()];
    let one = found(&all(with(&["name"])), FhirVersion::R4, &patient);
    assert_eq!(one, ["error profile-min Patient.name[1]", "error profile-min Patient.name[2]"]);
    let either = found(&all(with(&["name", "text"])), FhirVersion::R4, &patient);
    assert_eq!(either, ["error profile-type Patient.name[2]"]);
}

#[test]
fn lengths_and_values_have_limits() {
    let own = profile(
        "patient",
        "Patient",
        json!([
            { "id": "Patient.name.family", "path": "Patient.name.family", "maxLength": 3 },
            { "id": "Patient.birthDate", "path": "Patient.birthDate", "minValueDate": "1900-01-01", "maxValueDate": "2020" },
            { "id": "Patient.multipleBirth[x]", "path": "Patient.multipleBirth[x]", "maxValueInteger": 9 },
        ]),
    );
    let patient = |family: &str, date: &str, birth: u32| json!({ "resourceType": "Patient", "name": [{ "family": family }], "birthDate": date, "multipleBirthInteger": birth });
    cases(
        &[own],
        &[
            (patient("äöü", "1900-01-01", 9), &[]),
            (patient("Abc", "1900", 1), &[]),
            (
                patient("Abcd", "1899-12-31", 10),
                &[
                    "error profile-length Patient.name[0].family",
                    "error profile-value Patient.birthDate",
                    "error profile-value Patient.multipleBirth.ofType(integer)",
                ],
            ),
            (patient("A", "2021-01-01", 1), &["error profile-value Patient.birthDate"]),
        ],
    );
}

fn bound(strength: &str) -> Vec<Value> {
    let binding = json!({ "strength": strength, "valueSet": format!("{OWN}set|1") });
    let own = profile(
        "observation",
        "Observation",
        json!([{ "id": "Observation.code", "path": "Observation.code", "binding": binding },
            { "id": "Observation.status", "path": "Observation.status", "binding": { "strength": "required", "valueSet": format!("{OWN}status") } }]),
    );
    let set = json!({ "resourceType": "ValueSet", "url": format!("{OWN}set"), "version": "1", "status": "active",
        "compose": { "include": [{ "system": "urn:s", "concept": [{ "code": "a" }, { "code": "b" }] }] } });
    let status = json!({ "resourceType": "ValueSet", "url": format!("{OWN}status"), "status": "active",
        "compose": { "include": [{ "system": "http://hl7.org/fhir/observation-status", "concept": [{ "code": "final" }] }] } });
    vec![own, set, status]
}

#[test]
fn a_code_outside_its_required_set_is_an_error() {
    let with = |code: Value| json!({ "resourceType": "Observation", "status": "final", "code": code });
    cases(
        &bound("required"),
        &[
            (
                with(json!({ "coding": [{ "system": "urn:other", "code": "x" }, { "system": "urn:s", "code": "b" }] })),
                &[],
            ),
            (with(json!({ "extension": [{ "url": "urn:absent", "valueCode": "unknown" }] })), &[]),
            (with(json!({ "coding": [{ "system": "urn:s", "code": "c" }] })), &["error binding Observation.code"]),
            (with(json!({ "coding": [{ "system": "urn:other", "code": "a" }] })), &["error binding Observation.code"]),
            (with(json!({ "text": "words" })), &["error binding Observation.code"]),
            (json!({ "resourceType": "Observation", "status": "amended" }), &["error binding Observation.status"]),
        ],
    );
    let other = with(json!({ "coding": [{ "system": "urn:s", "code": "c" }] }));
    assert_eq!(found(&bound("extensible"), FhirVersion::R4, &other), [""; 0]);
}

#[test]
fn a_value_set_that_cannot_be_enumerated_is_one_warning_that_names_it() {
    let binding = json!({ "strength": "required", "valueSet": format!("{OWN}unknown") });
    let own = profile(
        "patient",
        "Patient",
        json!([{ "id": "Patient.maritalStatus", "path": "Patient.maritalStatus", "binding": binding },
        { "id": "Patient.contact.relationship", "path": "Patient.contact.relationship", "binding": binding }]),
    );
    let coded = json!({ "coding": [{ "system": "urn:s", "code": "a" }] });
    let patient =
        json!({ "resourceType": "Patient", "maritalStatus": coded, "contact": [{ "relationship": [coded, coded] }] });
    let profiles = compiled(&[own], FhirVersion::R4);
    let issues = issues(&profiles, &format!("{OWN}patient"), &patient);
    assert_eq!(issues.iter().map(short).collect::<Vec<_>>(), ["warning binding Patient.maritalStatus"]);
    assert!(issues[0].diagnostics.contains(&format!("{OWN}unknown")));
}

#[test]
fn issues_name_the_profile_and_show_codes_but_no_other_values() {
    let profiles = compiled(&bound("required"), FhirVersion::R4);
    let with = |code: &str| json!({ "resourceType": "Observation", "status": "final", "code": { "coding": [{ "system": "urn:s", "code": code }], "text": "secret" } });
    let issue = &issues(&profiles, &format!("{OWN}observation"), &with("c"))[0];
    assert_eq!(
        issue.diagnostics.full(),
        format!("the code c is not in the value set {OWN}set|1, which {OWN}observation|1.0.0 requires")
    );
    assert_eq!(issue.cause, emberpost_fhir::Cause::Definition);
    assert!(issue.position.is_some());
    let long = issues(&profiles, &format!("{OWN}observation"), &with(&"c".repeat(33)));
    assert!(!long[0].diagnostics.full().contains("ccc"));
}

#[test]
fn r5_requires_values_adds_bindings_and_suppresses_warnings() {
    let warning = json!([{ "key": "own-1", "severity": "warning", "human": "h", "expression": "false" }]);
    let base = {
        let mut base =
            profile("base", "Patient", json!([{ "id": "Patient", "path": "Patient", "constraint": warning }]));
        base["url"] = json!(format!("{OWN}base"));
        base
    };
    let mut silenced = warning.clone();
    silenced[0]["suppress"] = json!(true);
    let set = json!({ "resourceType": "ValueSet", "url": format!("{OWN}set"), "status": "active",
        "compose": { "include": [{ "system": "urn:s", "concept": [{ "code": "a" }] }] } });
    let own = derived(
        "own",
        "Patient",
        &format!("{OWN}base"),
        json!([
            { "id": "Patient", "path": "Patient", "constraint": silenced },
            { "id": "Patient.birthDate", "path": "Patient.birthDate", "mustHaveValue": true },
            { "id": "Patient.maritalStatus", "path": "Patient.maritalStatus", "binding": { "strength": "extensible", "valueSet": "http://hl7.org/fhir/ValueSet/marital-status",
                "additional": [{ "purpose": "maximum", "valueSet": format!("{OWN}set") }] } },
        ]),
    );
    let patient = json!({ "resourceType": "Patient", "_birthDate": { "id": "x" }, "maritalStatus": { "coding": [{ "system": "urn:s", "code": "b" }] } });
    let all = [own, base, set];
    assert_eq!(
        found(&all, FhirVersion::R5, &patient),
        ["error profile-value Patient.birthDate", "error binding Patient.maritalStatus"]
    );
    assert_eq!(found(&all[1..], FhirVersion::R5, &patient), ["warning own-1 Patient"]);
}

#[test]
fn a_value_set_may_take_a_whole_code_system_of_the_base() {
    let binding = json!({ "strength": "required", "valueSet": format!("{OWN}set") });
    let own = profile(
        "task",
        "Task",
        json!([{ "id": "Task.businessStatus", "path": "Task.businessStatus", "binding": binding }]),
    );
    let set = json!({ "resourceType": "ValueSet", "url": format!("{OWN}set"), "status": "active",
        "compose": { "include": [{ "system": "http://hl7.org/fhir/request-status" }], "exclude": [{ "system": "http://hl7.org/fhir/request-status", "concept": [{ "code": "draft" }] }] } });
    let with = |code: &str| json!({ "resourceType": "Task", "businessStatus": { "coding": [{ "system": "http://hl7.org/fhir/request-status", "code": code }] } });
    cases(
        &[own, set],
        &[
            (with("active"), &[]),
            (with("draft"), &["error binding Task.businessStatus"]),
            (with("nonsense"), &["error binding Task.businessStatus"]),
        ],
    );
}
