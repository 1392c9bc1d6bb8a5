//! FHIRPath constraints.

use super::*;

fn constrained(elements: Value) -> Value {
    profile("patient", "Patient", elements)
}

fn constraint(key: &str, severity: &str, expression: &str) -> Value {
    json!({ "key": key, "severity": severity, "human": format!("what {key} says"), "expression": expression })
}

#[test]
fn constraints_apply_where_they_are_defined_with_their_severity() {
    let own = constrained(json!([
        { "id": "Patient", "path": "Patient", "constraint": [constraint("own-1", "error", "name.exists() or identifier.exists()")] },
        { "id": "Patient.name", "path": "Patient.name", "constraint": [constraint("own-2", "warning", "family.exists()"), constraint("own-3", "error", "given.count() <= 2")] },
        { "id": "Patient.language", "path": "Patient.language", "constraint": [constraint("own-4", "error", "value.matches('^2')")] },
    ]));
    cases(
        &[own],
        &[
            (
                json!({ "resourceType": "Patient", "name": [{ "family": "A", "given": ["B"] }], "language": "2000" }),
                &[],
            ),
            (json!({ "resourceType": "Patient" }), &["error own-1 Patient"]),
            (
                json!({ "resourceType": "Patient", "name": [{ "family": "A" }, { "given": ["1", "2", "3"] }], "language": "1999" }),
                &["error own-3 Patient.name[1]", "error own-4 Patient.language", "warning own-2 Patient.name[1]"],
            ),
        ],
    );
}

#[test]
fn a_constraint_without_a_result_is_violated_and_one_that_cannot_be_evaluated_is_a_warning() {
    let own = constrained(json!([
        { "id": "Patient", "path": "Patient", "constraint": [constraint("own-1", "error", "birthDate > @2000-01-01"), constraint("own-2", "error", "name.empty() or name.single().family.empty()")] },
    ]));
    cases(
        &[own],
        &[
            (json!({ "resourceType": "Patient" }), &["error own-1 Patient"]),
            (json!({ "resourceType": "Patient", "birthDate": "1999-01-01" }), &["error own-1 Patient"]),
            (json!({ "resourceType": "Patient", "birthDate": "2001-01-01" }), &[]),
            (
                json!({ "resourceType": "Patient", "birthDate": "2001-01-01", "name": [{}, {}] }),
                &["warning profile-constraint Patient"],
            ),
        ],
    );
}

#[test]
fn expressions_can_use_value_sets_profiles_and_references() {
    let set = json!({ "resourceType": "ValueSet", "url": format!("{OWN}set"), "status": "active",
        "compose": { "include": [{ "system": "urn:s", "concept": [{ "code": "a" }] }, { "valueSet": ["http://hl7.org/fhir/ValueSet/observation-status"] }] } });
    let inner = profile(
        "organization",
        "Organization",
        json!([{ "id": "Organization.name", "path": "Organization.name", "min": 1 }]),
    );
    let own = constrained(json!([
        { "id": "Patient", "path": "Patient", "constraint": [
            constraint("own-1", "error", &format!("maritalStatus.exists() implies maritalStatus.memberOf('{OWN}set')")),
            constraint("own-2", "error", &format!("managingOrganization.exists() implies managingOrganization.resolve().conformsTo('{OWN}organization')")) ] },
    ]));
    let code = |system: &str, code: &str| json!({ "resourceType": "Patient", "maritalStatus": { "coding": [{ "system": system, "code": code }] } });
    let organization = |name: Value| {
        json!({ "resourceType": "Patient", "managingOrganization": { "reference": "#o" },
        "contained": [{ "resourceType": "Organization", "id": "o", "name": name }] })
    };
    cases(
        &[own, set, inner],
        &[
            (code("urn:s", "a"), &[]),
            (code("http://hl7.org/fhir/observation-status", "final"), &[]),
            (code("urn:s", "b"), &["error own-1 Patient"]),
            (organization(json!("A")), &[]),
            (
                json!({ "resourceType": "Patient", "managingOrganization": { "reference": "#o" }, "contained": [{ "resourceType": "Organization", "id": "o" }] }),
                &["error own-2 Patient"],
            ),
        ],
    );
}
