use super::*;
use crate::ProseRules;
use emberpost_fhir::json;
use serde_json::{Value, json};

const HEADER: &str = "urn:uuid:11111111-1111-4111-8111-111111111111";

/// A message with these entries after its header, and this focus.
fn message(focus: &str, entries: Vec<Value>) -> Value {
    let header = json!({ "fullUrl": HEADER, "resource": {
        "resourceType": "MessageHeader", "focus": [{ "reference": focus }] } });
    let all = std::iter::once(header).chain(entries).collect::<Vec<_>>();
    json!({ "resourceType": "Bundle", "type": "message", "entry": all })
}

fn entry(full_url: &str, resource: Value) -> Value {
    json!({ "fullUrl": full_url, "resource": resource })
}

/// Rule, whether it is an error, and expression, with prose rules as errors.
fn found(bundle: &Value) -> Vec<(String, bool, String)> {
    let tree = json::parse(bundle.to_string().into()).expect("JSON");
    let mut collector = IssueCollector::new(&tree, ProseRules::Error).of_version(FhirVersion::R4);
    let entries = entries::of(tree.root(), Schema::of(FhirVersion::R4));
    check_message(tree.root(), entries, FhirVersion::R4, false, &mut collector);
    let reported = collector.finish().into_iter().map(|issue| {
        let is_error = issue.is_error();
        (issue.rule.unwrap_or_default().into_owned(), is_error, issue.expression.unwrap_or_default())
    });
    reported.collect()
}

#[track_caller]
fn is(bundle: &Value, wanted: &[(&str, bool, &str)]) {
    let found = found(bundle);
    let found = found.iter().map(|(rule, error, at)| (rule.as_str(), *error, at.as_str())).collect::<Vec<_>>();
    assert_eq!(found, wanted);
}

const P: &str = "https://a.example/fhir/Patient/p";
const FOCUS: &str = "Bundle.entry[0].resource.focus[0].reference";

fn patient(id: &str) -> Value {
    json!({ "resourceType": "Patient", "id": id })
}

#[test]
fn a_focus_is_found_by_its_full_url_only() {
    let p = || vec![entry(P, patient("p"))];
    is(&message(P, p()), &[]);
    is(&message("Patient/p", p()), &[("MSG-17", true, FOCUS)]);
    is(&message("Patient/x", p()), &[("MSG-04", true, FOCUS), ("MSG-06", false, "Bundle.entry[1]")]);
    let two = vec![entry(P, patient("p")), entry("https://b.example/fhir/Patient/p", patient("p"))];
    let apart = [("MSG-16", true, FOCUS), ("MSG-06", false, "Bundle.entry[1]"), ("MSG-06", false, "Bundle.entry[2]")];
    is(&message("Patient/p", two), &apart);
}

#[test]
fn a_relative_reference_uses_the_base_of_its_own_entry() {
    let observation = |full_url: &str| {
        let resource = json!({ "resourceType": "Observation", "id": "o", "subject": { "reference": "Patient/p" } });
        message(full_url, vec![entry(full_url, resource), entry(P, patient("p"))])
    };
    is(&observation("https://a.example/fhir/Observation/o"), &[]);
    let lenient = [("MSG-17", true, "Bundle.entry[1].resource.subject.reference")];
    is(&observation("https://b.example/fhir/Observation/o"), &lenient);
    is(&observation("urn:uuid:22222222-2222-4222-8222-222222222222"), &lenient);
    // `Header` is not a type, so the URL is not a RESTful one and has no base.
    is(&observation("https://a.example/fhir/Header/o"), &lenient);
}

#[test]
fn a_version_of_a_reference_chooses_among_entries_of_one_full_url() {
    let version = |id: &str| {
        let mut patient = patient("p");
        patient["meta"] = json!({ "versionId": id });
        entry(P, patient)
    };
    let focus = |reference: &str| message(reference, vec![version("1"), version("2")]);
    is(&focus(&format!("{P}/_history/2")), &[("MSG-06", false, "Bundle.entry[1]")]);
    is(&focus(P), &[("MSG-06", false, "Bundle.entry[2]")]);
    let twice = message(P, vec![version("1"), version("1")]);
    assert!(found(&twice).iter().any(|(rule, error, at)| rule == "MSG-16" && *error && at == FOCUS));
}

#[test]
fn entries_are_reached_in_either_direction_and_by_weaker_links() {
    let links: [Value; 4] = [
        json!({ "resourceType": "Provenance", "target": [{ "reference": HEADER }] }),
        json!({ "resourceType": "Basic", "extension": [{ "url": "http://a.example", "valueUri": P }] }),
        json!({ "resourceType": "Basic", "text": { "div": format!("<div><a href=\"{P}\">x</a></div>") } }),
        json!({ "resourceType": "Basic", "contained": [{ "resourceType": "Observation", "subject": { "reference": P } }] }),
    ];
    for link in links {
        is(&message(P, vec![entry(P, patient("p")), entry("urn:oid:1.2.3", link)]), &[]);
    }
    let alone = entry("urn:oid:1.2.3", json!({ "resourceType": "Basic" }));
    is(&message(P, vec![entry(P, patient("p")), alone]), &[("MSG-06", false, "Bundle.entry[2]")]);
}

#[test]
fn a_urn_that_cannot_be_resolved_is_a_warning_and_a_url_is_not() {
    for (reference, wanted) in [
        ("urn:oid:1.2.9", vec![("MSG-16", false, "Bundle.entry[1].resource.subject.reference")]),
        ("https://other.example/fhir/Patient/9", vec![]),
        ("#c", vec![]),
    ] {
        let resource = json!({ "resourceType": "Observation", "subject": { "reference": reference } });
        is(&message("urn:oid:1.2", vec![entry("urn:oid:1.2", resource)]), &wanted);
    }
}

#[test]
fn a_document_within_the_message_has_what_its_composition_references_and_nothing_else() {
    let inner = |more: Value| {
        let composition = json!({ "resourceType": "Composition", "id": "c", "subject": { "reference": "Patient/p" },
            "section": [{ "entry": [{ "reference": "urn:oid:1.9" }] }] });
        json!({ "resourceType": "Bundle", "type": "document", "entry": [
            entry("https://a.example/fhir/Composition/c", composition), entry(P, patient("p")), more] })
    };
    let at = |rest: &str| format!("Bundle.entry[1].resource.{rest}");
    let message = |more| message("urn:oid:1.2", vec![entry("urn:oid:1.2", inner(more))]);
    is(&message(entry("urn:oid:1.9", json!({ "resourceType": "Basic" }))), &[]);
    let (section, apart) = (at("entry[0].resource.section[0].entry[0].reference"), at("entry[2]"));
    let other = message(entry("urn:oid:1.7", json!({ "resourceType": "Basic" })));
    is(&other, &[("EXC-35", true, &section), ("EXC-35", true, &apart)]);
    // References of the inner Bundle are checked in it alone, and so are its full URLs.
    let relative = message(entry("Basic/1", json!({ "resourceType": "Basic", "id": "1" })));
    let full_url = at("entry[2].fullUrl");
    assert!(found(&relative).contains(&("MSG-11".to_owned(), true, full_url)));
}

#[test]
fn bundles_of_many_entries_and_references_take_no_longer_than_their_number() {
    let many = 20_000;
    let entries = (0..many).map(|number| {
        let resource =
            json!({ "resourceType": "Patient", "id": "p", "link": [{ "other": { "reference": "Patient/p" } }] });
        entry(&format!("urn:oid:1.2.{number}"), resource)
    });
    let found = found(&message("urn:oid:1.2.0", entries.collect()));
    assert!(found.iter().any(|(rule, _, _)| rule == "MSG-16"));
}
