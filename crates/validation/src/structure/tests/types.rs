//! Types of resources, formats, bindings, narrative and invariants.

use super::*;
use emberpost_fhir::schema::TypeKind;

#[test]
fn a_resource_is_of_a_type_that_exists_and_is_not_abstract() {
    for name in ["patient", "PatientRecord", "DomainResource", "Resource", "HumanName", "Patient.contact"] {
        let bundle = json!({ "resourceType": "Bundle", "type": "collection", "entry": [{ "resource": { "resourceType": name } }] });
        breaks(bundle, "resource-type", "Bundle.entry[0].resource");
    }
    let bundle = |resource: Value| json!({ "resourceType": "Bundle", "type": "collection", "entry": [{ "resource": resource }] });
    breaks(bundle(json!({ "id": "a" })), "resource-type", "Bundle.entry[0].resource");
    breaks(bundle(json!({ "resourceType": 5 })), "resource-type", "Bundle.entry[0].resource");
    breaks(bundle(json!("Patient/1")), "type", "Bundle.entry[0].resource");
    breaks(json!({ "resourceType": "bundle", "type": "message" }), "resource-type", "Resource");
    breaks(json!(["x"]), "type", "Resource");
}

#[test]
fn formats_are_checked_everywhere() {
    breaks(patient("birthDate", json!("2023-02-30")), "format", "Patient.birthDate");
    breaks(json!({ "resourceType": "Patient", "id": "a_b" }), "format", "Patient.id");
    breaks(json!({ "resourceType": "Bundle", "id": "a_b", "type": "collection" }), "format", "Bundle.id");
    breaks(observation(json!({ "valueInteger": 1.5 })), "format", "Observation.value.ofType(integer)");
    breaks(patient("name", json!([{ "period": { "start": "2023-13" } }])), "format", "Patient.name[0].period.start");
}

#[test]
fn a_code_outside_its_required_set_is_an_error() {
    breaks(patient("gender", json!("F")), "binding", "Patient.gender");
    breaks(patient("gender", json!("Male")), "binding", "Patient.gender");
    passes(patient("gender", json!("male")));
}

#[test]
fn one_coding_in_a_required_set_is_enough() {
    const CLINICAL: &str = "http://terminology.hl7.org/CodeSystem/condition-clinical";
    let condition =
        |status: Value| json!({ "resourceType": "Condition", "subject": { "display": "x" }, "clinicalStatus": status });
    let active = json!({ "system": CLINICAL, "code": "active" });
    passes(condition(json!({ "coding": [{ "system": "urn:x", "code": "1" }, active] })));
    passes(condition(json!({ "extension": [{ "url": "urn:x", "valueCode": "c" }] })));
    breaks(
        condition(json!({ "coding": [{ "system": CLINICAL, "code": "on" }] })),
        "binding",
        "Condition.clinicalStatus",
    );
    breaks(
        condition(json!({ "coding": [{ "system": "urn:x", "code": "active" }] })),
        "binding",
        "Condition.clinicalStatus",
    );
    breaks(condition(json!({ "text": "active" })), "binding", "Condition.clinicalStatus");
}

#[test]
fn mime_types_and_languages_are_not_enumerated() {
    passes(patient("language", json!("da")));
    passes(patient("photo", json!([{ "contentType": "image/x-own", "data": "Zm9v" }])));
}

#[test]
fn narrative_is_checked_wherever_it_occurs() {
    let text = |inner: &str| json!({ "status": "generated", "div": format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{inner}</div>") });
    passes(patient("text", text("<p>Hi</p>")));
    breaks(patient("text", text("<script>x</script>")), "txt-1", "Patient.text.div");
    breaks(patient("text", text(" ")), "txt-2", "Patient.text.div");
}

#[test]
fn invariants_of_every_kind_are_checked() {
    breaks(patient("telecom", json!([{ "value": "1" }])), "cpt-2", "Patient.telecom[0]");
    breaks(patient("contact", json!([{ "gender": "female" }])), "pat-1", "Patient.contact[0]");
    breaks(
        patient("name", json!([{ "period": { "start": "2023", "end": "2021" } }])),
        "per-1",
        "Patient.name[0].period",
    );
    breaks(observation(json!({ "valueQuantity": { "code": "/min" } })), "qty-3", "Observation.value.ofType(Quantity)");
    let absent = json!({ "valueString": "x", "dataAbsentReason": { "text": "y" } });
    breaks(observation(absent), "obs-6", "Observation");
    let range = json!({ "valueRange": { "low": { "value": 80 }, "high": { "value": 60 } } });
    breaks(observation(range), "rng-2", "Observation.value.ofType(Range)");
    let home = json!({ "resourceType": "Organization", "name": "A", "address": [{ "use": "home", "city": "B" }] });
    breaks(home, "org-2", "Organization.address[0]");
}

#[test]
fn an_invariant_without_a_result_is_not_a_failure() {
    let task = json!({ "resourceType": "Task", "status": "draft", "intent": "order", "authoredOn": "2023-05-04", "lastModified": "2023-05" });
    passes(task);
}

#[test]
fn inner_bundles_are_checked_and_outer_ones_can_be_left_to_the_message_rules() {
    let document = json!({ "resourceType": "Bundle", "type": "document", "timestamp": "2023-05-04T08:15:00Z" });
    let text = json!({ "resourceType": "Bundle", "type": "document", "entry": [{ "fullUrl": "urn:x", "resource": document }] }).to_string();
    let tree = json::parse(text.clone().into()).unwrap();
    let mut collector = IssueCollector::new(&tree, ProseRules::Warning);
    check(&tree, Schema::of(FhirVersion::R4), Options { is_message: true, ..Options::default() }, &mut collector);
    let found: Vec<_> =
        collector.finish().into_iter().map(|issue| (issue.rule.unwrap(), issue.expression.unwrap())).collect();
    let at = "Bundle.entry[0].resource";
    assert_eq!(found, [("bdl-9".into(), at.to_owned()), ("bdl-11".into(), at.to_owned())]);
    let outer = errors_of(&text, FhirVersion::R4).iter().filter(|(_, path)| path == "Bundle").count();
    assert_eq!(outer, 3, "bdl-9, bdl-10 and bdl-11 of the outer Bundle");
}

#[test]
fn every_constraint_of_error_severity_is_evaluated() {
    for version in [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5] {
        let left: Vec<_> = not_evaluated(Schema::of(version)).iter().map(|constraint| &constraint.key).collect();
        assert!(left.is_empty(), "{version:?}: {left:?}");
    }
}

#[test]
fn no_type_has_more_elements_than_the_walk_has_bits() {
    for version in [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5] {
        let types = &Schema::of(version).types;
        assert!(types.iter().all(|found| found.elements.len() <= u128::BITS as usize));
        assert!(types.iter().any(|found| found.kind == TypeKind::Resource));
    }
}

#[test]
fn a_document_of_nothing_but_errors_is_reported_within_bounds() {
    let text = json!({ "resourceType": "Patient", "name": vec![json!({ "a": 1 }); 5_000] }).to_string();
    let tree = json::parse(text.into()).unwrap();
    let mut collector = IssueCollector::new(&tree, ProseRules::Warning);
    check(&tree, Schema::of(FhirVersion::R4), Options::default(), &mut collector);
    let issues = collector.finish();
    assert_eq!(issues.len(), crate::collector::ISSUES_LIMIT + 1);
}

#[test]
fn an_invariant_over_absent_or_unavailable_elements_is_satisfied() {
    let prediction = json!([{ "outcome": { "text": "x" } }]);
    passes(
        json!({ "resourceType": "RiskAssessment", "status": "final", "subject": { "display": "x" }, "prediction": prediction }),
    );
}

#[test]
fn a_concept_of_an_expansion_has_a_code_unless_it_is_abstract() {
    let expansion = |contains: Value| {
        let expansion = json!({ "timestamp": "2026-01-01", "contains": [contains] });
        json!({ "resourceType": "ValueSet", "status": "active", "expansion": expansion })
    };
    breaks(expansion(json!({ "display": "x" })), "vsd-9", "ValueSet.expansion.contains[0]");
    passes(expansion(json!({ "display": "x", "abstract": true })));
    passes(expansion(json!({ "system": "urn:x", "code": "x" })));
}

#[test]
fn constraints_that_take_long_are_skipped_beyond_a_limit_with_a_warning() {
    let coding = json!([{ "system": "http://a.example", "code": "c" }]);
    let component = json!({ "code": { "coding": coding }, "valueString": "x" });
    let slow = observation(json!({ "valueString": "x", "component": [component] }));
    let text = json!({ "resourceType": "Bundle", "type": "collection", "entry": [{ "resource": slow }, { "resource": slow }] });
    let tree = json::parse(text.to_string().into()).unwrap();
    for (steps_limit, wanted) in [(1_000_000, 0), (1, 1)] {
        let mut collector = IssueCollector::new(&tree, ProseRules::Warning);
        check(&tree, Schema::of(FhirVersion::R4), Options { steps_limit, ..Options::default() }, &mut collector);
        let reported = collector.finish();
        let limits: Vec<_> =
            reported.iter().filter(|issue| issue.rule.as_deref() == Some("constraint-limit")).collect();
        assert_eq!(limits.len(), wanted, "{reported:?}");
    }
}
