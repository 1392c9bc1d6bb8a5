//! Tests of the public functions: messages in, issues out.

mod samples;

use super::definition::DefinitionFile;
use super::*;
use emberpost_fhir::{Cause, IssueCode, Severity, json, xml};
use serde_json::{Value, json};

const LAX: Checks =
    Checks { level: Level::Message, prose_rules: ProseRules::Warning, take_unknown_events: true, now_us: 0 };
const CLOSED: Checks =
    Checks { level: Level::Message, prose_rules: ProseRules::Warning, take_unknown_events: false, now_us: 0 };
const STRICT: Checks =
    Checks { level: Level::Message, prose_rules: ProseRules::Error, take_unknown_events: true, now_us: 0 };

fn read(message: &Value, version: FhirVersion) -> Message {
    let tree = json::parse(Bytes::from(message.to_string())).expect("JSON");
    Message::read(tree, Some(version), None).expect("a message")
}

/// An R4 message of event `urn:s|made` about one Patient, changed by the caller.
fn message(change: impl FnOnce(&mut Value)) -> Value {
    let mut bundle = json!({
        "resourceType": "Bundle", "id": "b1", "type": "message",
        "entry": [
            { "fullUrl": "urn:uuid:11111111-1111-4111-8111-111111111111", "resource": {
                "resourceType": "MessageHeader", "id": "m1",
                "eventCoding": { "system": "urn:s", "code": "made" },
                "source": { "endpoint": "https://a.example/fhir" },
                "focus": [{ "reference": "urn:uuid:22222222-2222-4222-8222-222222222222" }] } },
            { "fullUrl": "urn:uuid:22222222-2222-4222-8222-222222222222",
                "resource": { "resourceType": "Patient", "id": "p1" } },
        ]
    });
    change(&mut bundle);
    bundle
}

fn r5(change: impl FnOnce(&mut Value)) -> Value {
    let mut bundle = message(|bundle| {
        bundle["identifier"] = json!({ "system": "urn:i", "value": "1" });
        bundle["entry"][0]["resource"]["source"] = json!({ "endpointUrl": "https://a.example/fhir" });
    });
    change(&mut bundle);
    bundle
}

fn header(bundle: &mut Value) -> &mut Value {
    &mut bundle["entry"][0]["resource"]
}

fn push(list: &mut Value, item: Value) {
    list.as_array_mut().expect("an array").push(item);
}

fn outcome(bundle: &mut Value, code: &str, severity: &str) {
    header(bundle)["response"] = json!({ "identifier": "q1", "code": code,
        "details": { "reference": "urn:uuid:33333333-3333-4333-8333-333333333333" } });
    let outcome =
        json!({ "resourceType": "OperationOutcome", "issue": [{ "severity": severity, "code": "processing" }] });
    let entry = json!({ "fullUrl": "urn:uuid:33333333-3333-4333-8333-333333333333", "resource": outcome });
    push(&mut bundle["entry"], entry);
}

fn definition(url: &str, focus: Value, allowed: &[&str]) -> Value {
    json!({ "resourceType": "MessageDefinition", "url": url, "version": "1", "status": "active", "date": "2026-01-01",
        "eventCoding": { "system": "urn:s", "code": "made" }, "focus": focus,
        "allowedResponse": allowed.iter().map(|url| json!({ "message": url })).collect::<Vec<_>>() })
}

fn load(resources: &[Value]) -> Definitions {
    let file = |(index, resource): (usize, &Value)| DefinitionFile {
        path: format!("{index}.json"),
        bytes: resource.to_string().into_bytes(),
    };
    let (definitions, errors) = Definitions::load(&resources.iter().enumerate().map(file).collect::<Vec<_>>());
    assert_eq!(errors, Vec::<String>::new());
    definitions
}

fn one_patient(url: &str) -> Value {
    definition(url, json!([{ "code": "Patient", "min": 1, "max": "1" }]), &[])
}

/// Rule, whether it is an error, and expression of each issue.
fn found(checked: &Checked) -> Vec<(&str, bool, &str)> {
    checked
        .issues
        .iter()
        .map(|issue| {
            (issue.rule.as_deref().unwrap_or("-"), issue.is_error(), issue.expression.as_deref().unwrap_or("-"))
        })
        .collect()
}

fn rules_r4(bundle: &Value, checks: Checks) -> Vec<(String, bool, String)> {
    rules(bundle, FhirVersion::R4, &Definitions::default(), checks)
}

fn rules(
    bundle: &Value,
    version: FhirVersion,
    definitions: &Definitions,
    checks: Checks,
) -> Vec<(String, bool, String)> {
    let message = read(bundle, version);
    let checked = check(&message, definitions, checks);
    for issue in &checked.issues {
        assert!(issue.position.is_some(), "a place in the text for {}", issue.diagnostics);
    }
    // Entries that nothing refers to are tested in `links`.
    let reported = found(&checked).into_iter().filter(|(rule, ..)| *rule != "MSG-06");
    reported.map(|(rule, error, at)| (rule.to_owned(), error, at.to_owned())).collect()
}

fn is(found: &[(String, bool, String)], wanted: &[(&str, bool, &str)]) {
    let found = found.iter().map(|(rule, error, at)| (rule.as_str(), *error, at.as_str())).collect::<Vec<_>>();
    assert_eq!(found, wanted);
}

#[test]
fn a_good_message_has_no_issues_in_r4_and_r5() {
    is(&rules_r4(&message(|_| ()), STRICT), &[]);
    is(&rules(&r5(|_| ()), FhirVersion::R5, &Definitions::default(), STRICT), &[]);
}

#[test]
fn bundle_invariants_are_errors_by_their_own_name() {
    type Case = (&'static str, &'static str, fn(&mut Value));
    let cases: [Case; 6] = [
        ("bdl-1", "Bundle.total", |b| b["total"] = json!(2)),
        ("bdl-2", "Bundle.entry[1]", |b| b["entry"][1]["search"] = json!({ "mode": "match" })),
        ("bdl-3", "Bundle.entry[1]", |b| b["entry"][1]["request"] = json!({ "method": "PUT", "url": "x" })),
        ("bdl-4", "Bundle.entry[1]", |b| b["entry"][1]["response"] = json!({ "status": "200" })),
        ("bdl-5", "Bundle.entry[2]", |b| b["entry"][2] = json!({ "fullUrl": "urn:oid:1.2" })),
        (
            "bdl-8",
            "Bundle.entry[2].fullUrl",
            |b| b["entry"][2] = json!({ "fullUrl": "https://a.example/fhir/Group/1/_history/1", "resource": { "resourceType": "Group", "id": "1" } }),
        ),
    ];
    for (rule, place, change) in cases {
        let bundle = message(|bundle| {
            bundle["entry"]
                .as_array_mut()
                .expect("entries")
                .push(json!({ "fullUrl": "urn:oid:1.2.3", "resource": { "resourceType": "Group" } }));
            change(bundle);
        });
        is(&rules_r4(&bundle, LAX), &[(rule, true, place)]);
    }
}

#[test]
fn r5_requires_a_resource_and_a_full_url_in_every_entry() {
    let bundle = r5(|bundle| {
        push(&mut bundle["entry"], json!({ "request": { "method": "PUT", "url": "x" } }));
    });
    let wanted = [
        ("bdl-3a", true, "Bundle.entry[2]"),
        ("bdl-15", true, "Bundle.entry[2].fullUrl"),
        ("bdl-3a", true, "Bundle.entry[2]"),
    ];
    is(&rules(&bundle, FhirVersion::R5, &Definitions::default(), LAX), &wanted);
}

#[test]
fn a_full_url_may_be_repeated_with_another_version_only() {
    let twice = |version: Option<&str>| {
        message(|bundle| {
            let mut entry = bundle["entry"][1].clone();
            if let Some(version) = version {
                entry["resource"]["meta"] = json!({ "versionId": version });
            }
            entry["fullUrl"] = json!("https://a.example/fhir/Patient/p1");
            push(&mut bundle["entry"], entry.clone());
            entry["resource"]["meta"] = json!({ "versionId": "1" });
            push(&mut bundle["entry"], entry);
        })
    };
    is(&rules_r4(&twice(Some("1")), LAX), &[("bdl-7", true, "Bundle.entry[3]")]);
    is(&rules_r4(&twice(Some("2")), LAX), &[]);
    is(&rules_r4(&twice(None), LAX), &[]);
}

#[test]
fn prose_rules_are_warnings_until_they_are_made_errors() {
    type Case = (&'static str, &'static str, FhirVersion, Value);
    let cases: [Case; 6] = [
        (
            "MSG-10",
            "Bundle.entry[2]",
            FhirVersion::R4,
            message(|b| push(&mut b["entry"], json!({ "resource": { "resourceType": "Group" } }))),
        ),
        (
            "MSG-11",
            "Bundle.entry[2].fullUrl",
            FhirVersion::R4B,
            message(|b| {
                push(&mut b["entry"], json!({ "fullUrl": "Group/1", "resource": { "resourceType": "Group" } }))
            }),
        ),
        (
            "MSG-11",
            "Bundle.entry[2].fullUrl",
            FhirVersion::R4,
            message(|b| {
                push(
                    &mut b["entry"],
                    json!({ "fullUrl": "http://a.example/Group/1", "resource": { "resourceType": "Group", "id": "2" } }),
                );
            }),
        ),
        (
            "MSG-04",
            "Bundle.entry[0].resource.focus[0].reference",
            FhirVersion::R4,
            message(|b| header(b)["focus"][0]["reference"] = json!("Patient/none")),
        ),
        (
            "MSG-17",
            "Bundle.entry[0].resource.focus[0].reference",
            FhirVersion::R4,
            message(|b| header(b)["focus"][0]["reference"] = json!("Patient/p1")),
        ),
        ("MSG-36", "Bundle.entry[0].resource.response.code", FhirVersion::R4, message(|b| outcome(b, "ok", "error"))),
    ];
    for (rule, place, version, bundle) in cases {
        is(&rules(&bundle, version, &Definitions::default(), LAX), &[(rule, false, place)]);
        is(&rules(&bundle, version, &Definitions::default(), STRICT), &[(rule, true, place)]);
    }
}

#[test]
fn an_r5_message_without_identifier_is_a_warning_however_prose_is_held() {
    let bundle = r5(|b| drop(b.as_object_mut().and_then(|b| b.remove("identifier"))));
    for checks in [LAX, STRICT] {
        is(
            &rules(&bundle, FhirVersion::R5, &Definitions::default(), checks),
            &[("MSG-12", false, "Bundle.identifier")],
        );
    }
}

#[test]
fn the_issues_of_a_bundle_are_not_errors() {
    let issues = |severity: &str| {
        r5(|b| {
            b["issues"] =
                json!({ "resourceType": "OperationOutcome", "issue": [{ "severity": severity, "code": "value" }] })
        })
    };
    let judge = |bundle: &Value| rules(bundle, FhirVersion::R5, &Definitions::default(), LAX);
    is(&judge(&issues("warning")), &[]);
    is(&judge(&issues("error")), &[("bdl-16", true, "Bundle.issues")]);
}

#[test]
fn a_reference_that_matches_several_entries_is_reported() {
    let bundle = message(|b| {
        header(b)["focus"][0]["reference"] = json!("Patient/p1");
        push(
            &mut b["entry"],
            json!({ "fullUrl": "urn:oid:1.2", "resource": { "resourceType": "Patient", "id": "p1" } }),
        );
    });
    is(&rules_r4(&bundle, LAX), &[("MSG-16", false, "Bundle.entry[0].resource.focus[0].reference")]);
}

#[test]
fn the_header_needs_one_event_a_source_that_is_not_empty_and_a_whole_response() {
    let at = |element: &str| format!("Bundle.entry[0].resource.{element}");
    type Case = (&'static str, &'static str, fn(&mut Value));
    let cases: [Case; 7] = [
        ("MSG-03", "event", |b| drop(header(b).as_object_mut().and_then(|h| h.remove("eventCoding")))),
        ("MSG-03", "event", |b| header(b)["eventCoding"] = json!({ "system": "urn:s" })),
        ("MSG-03", "event", |b| header(b)["eventUri"] = json!("urn:e")),
        ("MSG-20", "source", |b| header(b)["source"] = json!({})),
        ("MSG-35", "response.code", |b| header(b)["response"] = json!({ "identifier": "q1" })),
        ("MSG-35", "response.code", |b| header(b)["response"] = json!({ "identifier": "q1", "code": "fine" })),
        ("MSG-37", "response.identifier", |b| header(b)["response"] = json!({ "code": "ok" })),
    ];
    for (rule, element, change) in cases {
        is(&rules_r4(&message(change), LAX), &[(rule, true, at(element).as_str())]);
    }
}

#[test]
fn what_the_header_lacks_is_reported_once_at_every_level() {
    let lacking = |rule: &str, change: &dyn Fn(&mut Value)| {
        let checks = Checks { level: Level::Structure, ..LAX };
        let checked = check(&read(&message(change), FhirVersion::R4), &Definitions::default(), checks);
        let errors = found(&checked).into_iter().filter(|(_, is_error, _)| *is_error).map(|(rule, ..)| rule.to_owned());
        assert_eq!(errors.collect::<Vec<_>>(), [rule.to_owned()]);
    };
    lacking("MSG-03", &|b| drop(header(b).as_object_mut().and_then(|h| h.remove("eventCoding"))));
    lacking("MSG-35", &|b| header(b)["response"] = json!({ "identifier": "q1" }));
    lacking("MSG-37", &|b| header(b)["response"] = json!({ "code": "ok" }));
}

#[test]
fn all_issues_are_reported_at_once_with_line_and_column() {
    let bundle = message(|b| {
        b["total"] = json!(1);
        header(b)["response"] = json!({ "code": "fine" });
        b["entry"][1]["search"] = json!({ "mode": "match" });
    });
    let text = serde_json::to_string_pretty(&bundle).expect("text");
    let tree = json::parse(Bytes::from(text.clone())).expect("JSON");
    let message = Message::read(tree, Some(FhirVersion::R4), None).expect("a message");
    let checked = check(&message, &Definitions::default(), CLOSED);
    assert_eq!(
        found(&checked).iter().map(|one| one.0).collect::<Vec<_>>(),
        ["MSG-30", "MSG-37", "MSG-35", "bdl-2", "bdl-1"]
    );
    let total = checked.issues.iter().find(|issue| issue.rule.as_deref() == Some("bdl-1")).expect("bdl-1");
    let (line, column) = total.position.expect("a position");
    assert!(text.lines().nth(line as usize - 1).expect("the line")[column as usize - 1..].starts_with('1'));
}

#[test]
fn an_unknown_event_is_refused_unless_it_is_to_be_routed() {
    let wanted = ("MSG-30", true, "Bundle.entry[0].resource.event");
    let answer = message(|b| outcome(b, "ok", "information"));
    for bundle in [message(|_| ()), answer] {
        is(&rules_r4(&bundle, CLOSED), &[wanted]);
        is(&rules_r4(&bundle, LAX), &[]);
    }
    let checked = check(&read(&message(|_| ()), FhirVersion::R4), &Definitions::default(), CLOSED);
    assert_eq!((checked.issues[0].code, checked.issues[0].cause), (IssueCode::NotSupported, Cause::UnknownEvent));
}

#[test]
fn the_event_focus_types_and_counts_of_a_definition_are_checked() {
    let definitions = load(&[one_patient("urn:d")]);
    let focus = "Bundle.entry[0].resource.focus";
    let judge = |bundle: &Value| rules(bundle, FhirVersion::R4, &definitions, CLOSED);
    is(&judge(&message(|_| ())), &[]);
    is(
        &judge(&message(|b| drop(header(b).as_object_mut().and_then(|h| h.remove("focus"))))),
        &[("MSG-51", true, focus)],
    );
    is(&judge(&message(|b| push(&mut header(b)["focus"], b_focus()))), &[("MSG-51", true, focus)]);
    let group = message(|b| b["entry"][1]["resource"] = json!({ "resourceType": "Group" }));
    is(&judge(&group), &[("MSG-51", true, focus), ("MSG-51", true, "Bundle.entry[0].resource.focus[0]")]);
    let missing = message(|b| header(b)["focus"][0]["reference"] = json!("Patient/none"));
    is(&judge(&missing), &[("MSG-04", true, "Bundle.entry[0].resource.focus[0]")]);
    let other_event = message(|b| {
        header(b)["definition"] = json!("urn:d|1");
        header(b)["eventCoding"]["code"] = json!("other");
    });
    let event = "Bundle.entry[0].resource.event";
    is(&judge(&other_event), &[("MSG-30", true, event), ("MSG-51", true, event)]);
    let checked = check(&read(&group, FhirVersion::R4), &definitions, CLOSED);
    assert!(checked.issues.iter().all(|issue| issue.diagnostics.contains("urn:d|1")), "the definition is named");
}

fn b_focus() -> Value {
    json!({ "reference": "urn:uuid:22222222-2222-4222-8222-222222222222" })
}

#[test]
fn an_unknown_definition_is_a_warning_and_the_events_own_definition_applies() {
    let definitions = load(&[one_patient("urn:d")]);
    for name in ["urn:d|7", "urn:other"] {
        let message = read(&message(|b| header(b)["definition"] = json!(name)), FhirVersion::R4);
        let checked = check(&message, &definitions, CLOSED);
        assert_eq!(found(&checked), [("MSG-51", false, "Bundle.entry[0].resource.definition")]);
        assert_eq!(checked.definition.map(|one| one.canonical()).as_deref(), Some("urn:d|1"));
    }
}

#[test]
fn of_several_definitions_the_one_whose_focus_fits_is_taken() {
    let groups = definition("urn:g", json!([{ "code": "Group", "min": 1, "max": "1" }]), &[]);
    let fitting = load(&[one_patient("urn:d"), groups.clone()]);
    let about_patient = read(&message(|_| ()), FhirVersion::R4);
    let checked = check(&about_patient, &fitting, CLOSED);
    assert_eq!(checked.definition.map(|one| one.canonical()).as_deref(), Some("urn:d|1"));
    for (definitions, listed) in [
        (load(&[one_patient("urn:d"), one_patient("urn:e")]), ["urn:d|1", "urn:e|1"]),
        (load(&[groups, definition("urn:h", json!([{ "code": "Group", "min": 2 }]), &[])]), ["urn:g|1", "urn:h|1"]),
    ] {
        let checked = check(&about_patient, &definitions, CLOSED);
        assert_eq!(found(&checked), [("MSG-51", true, "Bundle.entry[0].resource.focus")]);
        let text = checked.issues[0].diagnostics.to_string();
        assert!(
            text.contains("definitions of the event fit: ") || text.contains("the event's definitions: "),
            "{text}"
        );
        assert!(listed.iter().all(|one| checked.issues[0].diagnostics.contains(one)));
    }
}

#[test]
fn a_response_definition_governs_responses_only() {
    let request = definition("urn:d", json!([{ "code": "Patient", "min": 1 }]), &["urn:answer"]);
    let answer = definition("urn:answer", json!([{ "code": "Group", "min": 1 }]), &[]);
    let definitions = load(&[request.clone(), answer]);
    let chosen =
        |bundle: &Value, definitions: &Definitions| match definitions.catalog.choose(&read(bundle, FhirVersion::R4)) {
            Choice::One(definition) => definition.canonical(),
            other => format!("{other:?}"),
        };
    assert_eq!(chosen(&message(|_| ()), &definitions), "urn:d|1");
    assert_eq!(chosen(&message(|b| outcome(b, "ok", "information")), &definitions), "urn:answer|1");
    let alone = load(&[request]);
    assert_eq!(chosen(&message(|b| outcome(b, "ok", "information")), &alone), "Undefined");
    // A response with an error brings no data, so its focus is not missing; a wrong type still is an error.
    let failed = message(|b| {
        outcome(b, "fatal-error", "error");
        drop(header(b).as_object_mut().and_then(|h| h.remove("focus")));
    });
    is(&rules(&failed, FhirVersion::R4, &definitions, CLOSED), &[]);
}

#[test]
fn an_event_canonical_of_r5_finds_its_definition_without_version() {
    let mut by_uri = one_patient("urn:d");
    let members = by_uri.as_object_mut().expect("an object");
    members.remove("eventCoding");
    members.insert("eventUri".to_owned(), json!("urn:event"));
    let bundle = r5(|b| {
        drop(header(b).as_object_mut().and_then(|h| h.remove("eventCoding")));
        header(b)["eventCanonical"] = json!("urn:event|2");
    });
    is(&rules(&bundle, FhirVersion::R5, &load(&[by_uri]), CLOSED), &[]);
}

#[test]
fn a_response_that_the_request_does_not_allow_is_a_warning() {
    let definitions = load(&[
        definition("urn:d", json!([]), &["urn:answer"]),
        definition("urn:answer", json!([]), &[]),
        one_patient("urn:x"),
    ]);
    let by_url = |url| definitions.catalog.by_canonical(url).expect("loaded");
    let request = by_url("urn:d");
    assert_eq!(allowed_response(&definitions.catalog, request, Some(by_url("urn:answer")), None), None);
    assert_eq!(allowed_response(&definitions.catalog, request, None, Some(&request.event)), None);
    // Without a list, the response has the event of its request.
    let lists_none = by_url("urn:x");
    assert_eq!(allowed_response(&definitions.catalog, lists_none, None, None), None);
    assert_eq!(allowed_response(&definitions.catalog, lists_none, None, Some(&lists_none.event)), None);
    let foreign = emberpost_fhir::Event::Uri("urn:foreign".into());
    assert!(allowed_response(&definitions.catalog, lists_none, None, Some(&foreign)).is_some());
    let issue = allowed_response(&definitions.catalog, request, Some(by_url("urn:x")), None).expect("a warning");
    assert_eq!((issue.severity, issue.rule.as_deref()), (Severity::Warning, Some("MSG-50")));
    let other = emberpost_fhir::Event::Uri("urn:other".into());
    assert!(allowed_response(&definitions.catalog, request, None, Some(&other)).is_some());
}

#[test]
fn what_is_left_out_of_a_long_list_is_counted_and_errors_are_kept() {
    let bundle = message(|b| {
        let entries = b["entry"].as_array_mut().expect("entries");
        entries.extend((0..collector::ISSUES_LIMIT + 20).map(|_| json!({ "resource": { "resourceType": "Group" } })));
        entries.push(json!({ "fullUrl": "urn:oid:1.2" }));
    });
    let checked = check(&read(&bundle, FhirVersion::R4), &Definitions::default(), LAX);
    assert_eq!(checked.issues.len(), collector::ISSUES_LIMIT + 2);
    assert!(checked.issues.iter().any(|issue| issue.rule.as_deref() == Some("bdl-5")));
    assert!(checked.issues.last().is_some_and(|issue| issue.diagnostics.contains("more issues are not listed")));
}

/// The message in XML, changed as text.
fn in_xml(message: &Value, change: impl FnOnce(String) -> String) -> Message {
    let tree = json::parse(Bytes::from(message.to_string())).expect("JSON");
    let xml = xml::write(tree.root(), Schema::of(FhirVersion::R4)).expect("XML");
    let tree = xml::parse(Bytes::from(change(String::from_utf8(xml).expect("UTF-8"))), None, None).expect("readable");
    Message::read(tree, None, None).expect("a message")
}

#[test]
fn violations_of_xml_rules_alone_are_left_to_the_structure_check() {
    let change = |text: String| {
        let text = text
            .replace("<id value=\"p1\"/>", "<gender value=\"female\">x</gender><id value=\"p1\" lang=\"en\"/><name/>");
        text.replace(
            "http://hl7.org/fhir\">",
            "http://hl7.org/fhir\" xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\" i:schemaLocation=\"a b\">",
        )
    };
    let message = in_xml(&message(|_| ()), change);
    let mut rules: Vec<_> = message.notes.iter().filter_map(|note| note.rule.as_deref()).collect();
    rules.sort_unstable();
    rules.dedup();
    assert_eq!(rules, ["XML-01", "XML-02", "XML-03", "XML-05"]);
    assert!(check(&message, &load(&[]), LAX).issues.is_empty());
}

#[test]
fn issues_of_an_xml_message_have_positions_in_the_xml() {
    let broken = message(|bundle| bundle["entry"][1]["fullUrl"] = json!("Patient/p1"));
    let message = in_xml(&broken, |text| text.replace("<fullUrl value=\"Patient", "\n  <fullUrl value=\"Patient"));
    let issues = check(&message, &load(&[]), LAX).issues;
    let placed = issues.iter().find(|issue| issue.expression.as_deref() == Some("Bundle.entry[1].fullUrl"));
    assert_eq!(placed.and_then(|issue| issue.position), Some((3, 3)), "{issues:?}");
}

/// Rules and whether they are errors, at this level.
fn at_level(bundle: &Value, level: Level) -> Vec<(String, bool)> {
    let checked = check(&read(bundle, FhirVersion::R4), &Definitions::default(), Checks { level, ..LAX });
    checked.issues.iter().map(|issue| (issue.rule.clone().unwrap_or_default().into_owned(), issue.is_error())).collect()
}

#[test]
fn each_level_includes_the_one_before_and_adds_to_it() {
    let bundle = message(|b| {
        b["total"] = json!(1);
        b["entry"][1]["resource"]["birthDate"] = json!("May");
        b["entry"][1]["resource"]["name"] = json!([]);
    });
    assert_eq!(at_level(&bundle, Level::Message), [("bdl-1".to_owned(), true)]);
    let structure = at_level(&bundle, Level::Structure);
    assert!(structure.iter().all(|(_, is_error)| *is_error), "{structure:?}");
    let mut rules = structure.iter().map(|(rule, _)| rule.as_str()).collect::<Vec<_>>();
    rules.sort_unstable();
    // An empty array is reported once, although both reader and structure check find it.
    assert_eq!(rules, ["JSN-03", "bdl-1", "format"]);
    assert_eq!(at_level(&bundle, Level::Profile), structure, "without profiles there is no more to ask");
}

#[test]
fn what_reader_and_structure_both_find_is_reported_with_the_names_of_fhirpath() {
    let bundle = message(|b| {
        b["entry"][1]["resource"]["extension"] = json!([{ "url": "urn:x", "valueString": "" }]);
    });
    let checks = Checks { level: Level::Structure, ..LAX };
    let checked = check(&read(&bundle, FhirVersion::R4), &Definitions::default(), checks);
    let empty = found(&checked).into_iter().filter(|(rule, ..)| *rule == "JSN-03").collect::<Vec<_>>();
    assert_eq!(empty, [("JSN-03", true, "Bundle.entry[1].resource.extension[0].value.ofType(string)")]);
}

#[test]
fn a_document_that_is_not_a_message_is_checked_as_a_resource() {
    let patient = json!({ "resourceType": "Patient", "gender": "x" });
    let tree = Arc::new(json::parse(Bytes::from(patient.to_string())).expect("JSON"));
    let refused = Message::read(tree.clone(), None, None).expect_err("no message");
    let rules = |level| {
        let issues =
            check_no_message(&tree, FhirVersion::R4, refused.clone(), &Definitions::default(), Checks { level, ..LAX });
        issues.into_iter().map(|issue| issue.rule.unwrap_or_default().into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(rules(Level::Message), ["MSG-01"]);
    assert_eq!(rules(Level::Structure), ["MSG-01", "binding"]);
}

#[test]
fn errors_precede_warnings_each_in_document_order() {
    let bundle = message(|b| {
        b["entry"][0]["fullUrl"] = json!("MessageHeader/h");
        b["entry"][1]["fullUrl"] = json!("Patient/p1");
        b["entry"][1]["resource"]["gender"] = json!("x");
        b["entry"][1]["resource"]["birthDate"] = json!("May");
    });
    let checked =
        check(&read(&bundle, FhirVersion::R4), &Definitions::default(), Checks { level: Level::Structure, ..LAX });
    let places: Vec<_> = checked.issues.iter().map(|issue| (issue.is_error(), issue.position)).collect();
    let mut sorted = places.clone();
    sorted.sort_by_key(|(is_error, position)| (!is_error, *position));
    assert_eq!(places, sorted);
    assert!(
        checked.issues.first().is_some_and(Issue::is_error)
            && checked.issues.last().is_some_and(|last| !last.is_error())
    );
}

#[test]
fn issues_of_an_xml_message_use_the_terms_of_xml() {
    let with = |element: &str| {
        let message = in_xml(&message(|_| ()), |text| {
            text.replace("<id value=\"p1\"/>", &format!("<id value=\"p1\"/>{element}"))
        });
        let checks = Checks { level: Level::Structure, ..LAX };
        check(&message, &load(&[]), checks).issues.into_iter().filter(Issue::is_error).collect::<Vec<_>>()
    };
    let cases = [
        ("<identifier value=\"x\"/>", "type", "the type Identifier has elements instead"),
        ("<name/>", "XML-02", "an element is empty"),
        ("<active><value value=\"true\"/></active>", "type", "must have the attribute value"),
        ("<active value=\"yes\"/>", "format", "true or false"),
        ("<gender value=\"\"/>", "XML-02", "the attribute value is empty"),
        ("<gender value=\"male\"/><gender value=\"female\"/>", "max", "occurs 2 times"),
        ("<contained/>", "resource-type", "the element must hold a resource"),
        ("<contained><Pet><id value=\"a\"/></Pet></contained>", "resource-type", "the element 'Pet' is not a type"),
        ("<multipleBirthInteger value=\"two\"/>", "format", "a whole number"),
    ];
    for (element, rule, text) in cases {
        let found = with(element);
        assert!(
            found.iter().any(|issue| issue.rule.as_deref() == Some(rule) && issue.diagnostics.full().contains(text)),
            "{element}: {found:?}"
        );
        for issue in &found {
            let words = format!("{} {}", issue.rule.as_deref().unwrap_or_default(), issue.diagnostics);
            let json = ["JSN", "JSON", "object", "array", "null", "property", "string", "resourceType"];
            assert!(json.iter().all(|word| !words.contains(word)), "{element}: {words}");
        }
    }
}
