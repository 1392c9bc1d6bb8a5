//! What a message's definition requires and what its resources claim.

use super::*;

fn gendered() -> Value {
    profile(
        "patient",
        "Patient",
        json!([{ "id": "Patient.gender", "path": "Patient.gender", "min": 1, "mustSupport": true },
        { "id": "Patient.name", "path": "Patient.name", "mustSupport": true }, { "id": "Patient.name.family", "path": "Patient.name.family", "mustSupport": true }]),
    )
}

fn named() -> Value {
    profile("named", "Patient", json!([{ "id": "Patient.name", "path": "Patient.name", "min": 1 }]))
}

fn patient(members: Value) -> Value {
    let mut whole = json!({ "resourceType": "Patient", "id": "1" });
    whole.as_object_mut().expect("members").extend(members.as_object().expect("members").clone());
    whole
}

#[test]
fn a_focus_is_checked_against_the_profile_of_its_rule() {
    let rules =
        definition(json!({ "focus": [{ "code": "Patient", "profile": format!("{OWN}patient|1.0.0"), "min": 1 }] }));
    let sent = |patient: Value| message(json!({}), &["Patient/1"], &[patient]);
    let all = [rules, gendered()];
    assert_eq!(message_found(&all, &sent(patient(json!({ "gender": "other" })))), [""; 0]);
    assert_eq!(message_found(&all, &sent(patient(json!({})))), ["error profile-min Bundle.entry[1].resource"]);
    assert_eq!(
        message_found(&all[..1], &sent(patient(json!({})))),
        ["warning profile-missing Bundle.entry[1].resource"]
    );
}

#[test]
fn of_several_rules_for_a_type_one_must_fit() {
    let rule = |name: &str| json!({ "code": "Patient", "profile": format!("{OWN}{name}"), "min": 0, "max": "1" });
    let rules = definition(json!({ "focus": [rule("patient"), rule("named")] }));
    let sent = |patient: Value| message(json!({}), &["Patient/1"], &[patient]);
    let all = [rules, gendered(), named()];
    assert_eq!(message_found(&all, &sent(patient(json!({ "gender": "other" })))), [""; 0]);
    assert_eq!(message_found(&all, &sent(patient(json!({ "name": [{ "text": "A" }] })))), [""; 0]);
    assert_eq!(message_found(&all, &sent(patient(json!({})))), ["error profile-type Bundle.entry[1].resource"]);
}

#[test]
fn the_rules_of_a_definitions_bases_apply_too() {
    let rules = definition(json!({ "base": "urn:base|1", "focus": [{ "code": "Patient", "min": 0 }] }));
    let base = definition(
        json!({ "url": "urn:base", "status": "draft", "base": "urn:definition", "focus": [{ "code": "Patient", "profile": format!("{OWN}named"), "min": 0 }] }),
    );
    let sent = message(json!({}), &["Patient/1"], &[patient(json!({}))]);
    assert_eq!(message_found(&[rules, base, named()], &sent), ["error profile-min Bundle.entry[1].resource"]);
}

#[test]
fn header_bundle_and_contained_resources_are_checked_against_what_they_claim() {
    let header = profile(
        "header",
        "MessageHeader",
        json!([{ "id": "MessageHeader.reason", "path": "MessageHeader.reason", "min": 1 }]),
    );
    let bundle =
        profile("bundle", "Bundle", json!([{ "id": "Bundle.timestamp", "path": "Bundle.timestamp", "min": 1 }]));
    let claim = |name: &str| json!({ "profile": [format!("{OWN}{name}")] });
    let contained = json!({ "resourceType": "Patient", "id": "c", "meta": claim("named") });
    let inner = json!({ "resourceType": "Bundle", "id": "b", "type": "collection", "entry": [{ "resource": { "resourceType": "Patient", "id": "1", "meta": claim("named") } }] });
    let mut sent =
        message(json!({ "meta": claim("header") }), &[], &[patient(json!({ "contained": [contained] })), inner]);
    sent["meta"] = claim("bundle");
    let wanted = [
        "error profile-min Bundle",
        "error profile-min Bundle.entry[0].resource",
        "error profile-min Bundle.entry[1].resource.contained[0]",
        "error profile-min Bundle.entry[2].resource.entry[0].resource",
    ];
    assert_eq!(message_found(&[header, bundle, named()], &sent), wanted);
}

#[test]
fn a_claimed_profile_that_is_not_loaded_is_named_once_and_base_types_are_known() {
    let claim = json!({ "profile": [format!("{OWN}other|2"), "http://hl7.org/fhir/StructureDefinition/Patient"] });
    let two = [patient(json!({ "meta": claim })), {
        let mut two = patient(json!({ "meta": claim }));
        two["id"] = json!("2");
        two
    }];
    let issues = message_issues(&[named()], &message(json!({}), &[], &two), ProfileOptions::default());
    assert_eq!(issues.iter().map(short).collect::<Vec<_>>(), ["warning profile-missing Bundle.entry[1].resource"]);
    assert!(issues[0].diagnostics.full().contains("…/other|2 is not loaded"), "{}", issues[0].diagnostics.full());
    assert!(!issues[0].diagnostics.contains("other"), "a claim is the message's own");
}

#[test]
fn an_error_is_reported_once_however_often_the_profile_is_required() {
    let derived = derived(
        "derived",
        "Patient",
        &format!("{OWN}named"),
        json!([{ "id": "Patient.photo", "path": "Patient.photo", "max": "0" }]),
    );
    let claim = json!({ "profile": [format!("{OWN}named"), format!("{OWN}derived"), format!("{OWN}derived|1.0.0")] });
    let rules = definition(json!({ "focus": [{ "code": "Patient", "profile": format!("{OWN}derived"), "min": 0 }] }));
    let sent = message(json!({}), &["Patient/1"], &[patient(json!({ "meta": claim }))]);
    assert_eq!(message_found(&[rules, derived, named()], &sent), ["error profile-min Bundle.entry[1].resource"]);
}

#[test]
fn absent_must_support_elements_are_one_information_issue_on_request() {
    let claim = json!({ "profile": [format!("{OWN}patient")] });
    let sent =
        message(json!({}), &[], &[patient(json!({ "meta": claim, "gender": "other", "name": [{ "text": "A" }] }))]);
    assert_eq!(message_found(&[gendered()], &sent), [""; 0]);
    let issues = message_issues(&[gendered()], &sent, ProfileOptions { must_support: true, now_us: 0 });
    assert_eq!(issues.len(), 1);
    assert_eq!(
        issues[0].diagnostics.full(),
        format!("must-support elements of {OWN}patient|1.0.0 that are absent: name.family")
    );
    assert_eq!(issues[0].severity, emberpost_fhir::Severity::Information);
}

#[test]
fn circular_references_terminate() {
    let target = json!([{ "code": "Reference", "targetProfile": [format!("{OWN}linked")] }]);
    let linked = profile(
        "linked",
        "Patient",
        json!([{ "id": "Patient.link.other", "path": "Patient.link.other", "type": target },
        { "id": "Patient.gender", "path": "Patient.gender", "min": 1 }]),
    );
    let claim = json!({ "profile": [format!("{OWN}linked")] });
    let one = |id: usize, next: usize| {
        json!({ "resourceType": "Patient", "id": id.to_string(), "meta": claim, "gender": "other",
        "link": [{ "other": { "reference": format!("Patient/{next}") }, "type": "seealso" }] })
    };
    let circle = [one(1, 2), one(2, 3), one(3, 1)];
    assert_eq!(message_found(std::slice::from_ref(&linked), &message(json!({}), &[], &circle)), [""; 0]);
    let chain: Vec<Value> = (0..600).map(|at| one(at, at + 1)).collect();
    assert_eq!(message_found(&[linked], &message(json!({}), &[], &chain)), ["warning profile-limit Bundle"]);
}
