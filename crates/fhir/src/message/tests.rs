use super::*;
use crate::event::{Event, ResponseCode, ResponseRequired};
use crate::{Cause, IssueCode, json};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

fn tree(bundle: &Value) -> Tree {
    json::parse(Bytes::from(bundle.to_string())).unwrap()
}

fn bundle(header: Value, others: &[(&str, Value)]) -> Value {
    let mut header = header;
    header["resourceType"] = "MessageHeader".into();
    let mut entries = vec![json!({ "fullUrl": "urn:uuid:h", "resource": header })];
    entries.extend(others.iter().map(|(url, resource)| json!({ "fullUrl": url, "resource": resource })));
    json!({ "resourceType": "Bundle", "type": "message", "id": "b", "entry": entries })
}

fn read(header: Value, others: &[(&str, Value)]) -> Message {
    Message::read(tree(&bundle(header, others)), None, None).unwrap()
}

fn refused(bundle: &Value) -> Vec<Issue> {
    Message::read(tree(bundle), None, None).unwrap_err()
}

fn found(issues: &[Issue]) -> Vec<(&str, &str)> {
    let name = |text: &'_ Option<String>| text.is_some();
    assert!(issues.iter().all(|issue| name(&issue.expression)), "{issues:?}");
    issues
        .iter()
        .map(|i| (i.rule.as_deref().unwrap_or_default(), i.expression.as_deref().unwrap_or_default()))
        .collect()
}

#[test]
fn a_document_that_is_not_a_message_is_refused_with_rule_and_position() {
    let header = json!({ "resourceType": "MessageHeader" });
    let cases = [
        (json!([]), vec![("MSG-01", "$this")]),
        (json!({ "a": 1 }), vec![("MSG-01", "$this")]),
        (json!({ "resourceType": 1 }), vec![("MSG-01", "$this")]),
        (json!({ "resourceType": "Parameters" }), vec![("MSG-83", "Parameters")]),
        (json!({ "resourceType": "Patient" }), vec![("MSG-01", "Patient")]),
        (json!({ "resourceType": "Bundle" }), vec![("MSG-01", "Bundle.type"), ("MSG-02", "Bundle.entry")]),
        (
            json!({ "resourceType": "Bundle", "type": "document", "entry": [{ "resource": header }] }),
            vec![("MSG-01", "Bundle.type")],
        ),
        (
            json!({ "resourceType": "Bundle", "type": ["message"], "entry": {} }),
            vec![("MSG-01", "Bundle.type"), ("MSG-02", "Bundle.entry")],
        ),
        (json!({ "resourceType": "Bundle", "type": "message", "entry": [] }), vec![("MSG-02", "Bundle.entry")]),
        (
            json!({ "resourceType": "Bundle", "type": "message", "entry": [7] }),
            vec![("MSG-02", "Bundle.entry[0].resource")],
        ),
        (
            json!({ "resourceType": "Bundle", "type": "message", "entry": [{ "resource": [] }] }),
            vec![("MSG-02", "Bundle.entry[0].resource")],
        ),
    ];
    for (bundle, expected) in cases {
        let issues = refused(&bundle);
        assert_eq!(found(&issues), expected, "{bundle}");
        assert!(issues.iter().all(|issue| issue.cause == Cause::NotMessage), "{bundle}");
    }
}

#[test]
fn a_header_in_another_entry_is_named() {
    let entries =
        json!([{ "resource": { "resourceType": "Patient" } }, { "resource": { "resourceType": "MessageHeader" } }]);
    let issues = refused(&json!({ "resourceType": "Bundle", "type": "message", "entry": entries }));
    assert_eq!(found(&issues), [("MSG-02", "Bundle.entry[0].resource")]);
    assert!(issues[0].diagnostics.contains("Bundle.entry[1]"));
    assert!(issues[0].position.is_some());
}

#[test]
fn the_version_is_the_declared_else_the_expected_else_the_detected_one() {
    use FhirVersion::{R4, R4B, R5};
    let none = json!({ "eventCoding": { "code": "x" } });
    let r4 = json!({ "source": { "endpoint": "a" } });
    let r5 = json!({ "destination": [{}, { "endpointUrl": "a" }] });
    let cases = [
        (&none, None, None, Some(R4)),
        (&none, None, Some(R5), Some(R5)),
        (&none, Some(R4B), Some(R5), Some(R4B)),
        (&r4, None, None, Some(R4)),
        (&r4, None, Some(R4B), Some(R4B)),
        (&r4, None, Some(R5), Some(R4)),
        (&r4, Some(R5), None, None),
        (&r5, None, None, Some(R5)),
        (&r5, None, Some(R4), Some(R5)),
        (&r5, Some(R5), Some(R4), Some(R5)),
        (&r5, Some(R4), None, None),
        (&r5, Some(R4B), None, None),
    ];
    for (header, declared, expected, version) in cases {
        let read = Message::read(tree(&bundle(header.clone(), &[])), declared, expected);
        match (read, version) {
            (Ok(message), version) => assert_eq!(Some(message.version), version, "{header} {declared:?} {expected:?}"),
            (Err(issues), None) => {
                assert_eq!((issues[0].cause, issues[0].code), (Cause::Version, IssueCode::NotSupported));
                assert_eq!(issues[0].rule.as_deref(), Some("VER-04"));
            }
            (Err(issues), Some(_)) => panic!("{header} {issues:?}"),
        }
    }
}

#[test]
fn each_hint_of_a_version_is_seen() {
    let r5 = [
        json!({ "source": { "endpointReference": { "reference": "#e" } } }),
        json!({ "eventCanonical": "http://x" }),
        json!({ "response": { "identifier": { "value": "x" } } }),
    ];
    for header in r5 {
        assert_eq!(read(header.clone(), &[]).version, FhirVersion::R5, "{header}");
    }
    for header in [json!({ "eventUri": "x" }), json!({ "enterer": {} }), json!({ "response": { "identifier": "x" } })] {
        let read = Message::read(tree(&bundle(header.clone(), &[])), None, Some(FhirVersion::R5));
        assert_eq!(read.unwrap().version, FhirVersion::R4, "{header}");
    }
    let mixed = read(json!({ "source": { "endpoint": "a" }, "eventCanonical": "x" }), &[]);
    assert_eq!(found(&mixed.notes), [("MSG-20", "Bundle.entry[0].resource.eventCanonical")]);
}

#[test]
fn an_stu3_message_is_refused_as_such() {
    for (name, value) in [
        ("event", json!({ "code": "x" })),
        ("timestamp", json!("2017-01-01T00:00:00Z")),
        ("receiver", json!({ "reference": "x" })),
        ("acknowledgement", json!({})),
    ] {
        let issues = refused(&bundle(json!({ name: value }), &[]));
        assert_eq!(found(&issues), [("VER-04", format!("Bundle.entry[0].resource.{name}").as_str())]);
        assert!(issues[0].diagnostics.contains("STU3") && issues[0].cause == Cause::Version);
    }
}

#[test]
fn an_r4_header_is_read_whole() {
    let header = json!({
        "id": "h", "eventCoding": { "system": "urn:s", "code": "c" },
        "source": { "endpoint": "urn:a" },
        "destination": [{ "endpoint": "urn:b", "target": { "reference": "urn:uuid:d" } }, { "name": "no endpoint" }],
        "focus": [{ "reference": "urn:uuid:p" }, { "display": "no reference" }],
        "response": { "identifier": "r", "code": "fatal-error", "details": { "reference": "urn:uuid:o" } },
        "definition": "http://x/d",
        "extension": [
            { "url": "http://x", "valueCode": "always" },
            { "url": "http://hl7.org/fhir/StructureDefinition/messageheader-response-request", "valueCode": "on-error" }
        ]
    });
    let device =
        json!({ "resourceType": "Device", "identifier": [{ "system": "urn:d", "value": "1" }, { "value": "2" }, {}] });
    let message = read(header, &[("urn:uuid:d", device)]);
    let header = &message.header;
    assert_eq!(header.id.as_deref(), Some("h"));
    assert_eq!(header.event, Some(Event::Coding { system: Some("urn:s".into()), code: "c".into() }));
    assert_eq!(header.source_endpoint.as_deref(), Some("urn:a"));
    assert_eq!(header.destinations.len(), 2);
    assert_eq!(header.destinations[0].endpoint.as_deref(), Some("urn:b"));
    assert_eq!(&*header.destinations[0].targets, ["urn:d|1", "2"].map(Arc::from));
    assert!(header.destinations[1].endpoint.is_none() && header.destinations[1].targets.is_empty());
    assert_eq!(header.focus, ["urn:uuid:p", ""]);
    let response = header.response.as_ref().unwrap();
    assert_eq!((response.code, response.details.as_deref()), (Some(ResponseCode::FatalError), Some("urn:uuid:o")));
    assert_eq!(response.identifier.as_ref().map(|i| (i.system.is_none(), i.value.as_str())), Some((true, "r")));
    assert_eq!(header.definition.as_deref(), Some("http://x/d"));
    assert_eq!(header.response_request, Some(ResponseRequired::OnError));
    assert!(message.has_identity());
    let empty = message.notes.iter().map(|note| note.rule.as_deref());
    assert_eq!(empty.collect::<Vec<_>>(), [Some("JSN-03")]);
}

#[test]
fn an_r5_header_is_read_into_the_same_type() {
    let header = json!({
        "eventCanonical": "http://x/e|1",
        "contained": [{ "resourceType": "Endpoint", "id": "e", "address": "urn:a" }],
        "source": { "endpointReference": { "reference": "#e" } },
        "destination": [
            { "endpointReference": { "reference": "urn:uuid:e" } },
            { "endpointUrl": "urn:c", "target": { "reference": "Device/9" } },
            { "endpointReference": { "reference": "urn:uuid:none" } }
        ],
        "response": { "identifier": { "system": "urn:s", "value": "r" }, "code": "ok" }
    });
    let endpoint = json!({ "resourceType": "Endpoint", "address": "urn:b" });
    let message = read(header, &[("urn:uuid:e", endpoint)]);
    let header = &message.header;
    assert_eq!(header.event, Some(Event::Uri("http://x/e|1".into())));
    assert_eq!(header.source_endpoint.as_deref(), Some("urn:a"));
    let endpoints: Vec<_> = header.destinations.iter().map(|d| d.endpoint.as_deref()).collect();
    assert_eq!(endpoints, [Some("urn:b"), Some("urn:c"), None]);
    assert_eq!(&*header.destinations[1].targets, ["Device/9"].map(Arc::from));
    let identifier = header.response.as_ref().unwrap().identifier.clone();
    assert_eq!(identifier, Some(Identifier { system: Some("urn:s".into()), value: "r".into() }));
    let at = "Bundle.entry[0].resource.destination[2].endpointReference";
    assert_eq!(found(&message.notes), [("MSG-20", at)]);
}

#[test]
fn wrong_types_are_noted_and_read_as_absent() {
    let header = json!({
        "id": 7, "eventCoding": { "code": ["c"] }, "source": "urn:a",
        "destination": { "endpoint": "x" }, "focus": { "reference": "x" }, "definition": {}, "response": [],
        "extension": {}
    });
    let message = read(header, &[]);
    let header = &message.header;
    assert!(header.id.is_none() && header.event.is_none() && header.source_endpoint.is_none());
    assert!(header.destinations.is_empty() && header.focus.is_empty() && header.response.is_none());
    let at = |name: &str| format!("Bundle.entry[0].resource.{name}");
    let names = ["id", "eventCoding.code", "source", "destination", "focus", "definition", "response", "extension"];
    for name in names {
        let fits =
            |note: &&Issue| note.expression.as_deref() == Some(&at(name)) && note.rule.as_deref() != Some("JSN-03");
        assert_eq!(message.notes.iter().filter(fits).count(), 1, "{name}: {:?}", message.notes);
    }
}

#[test]
fn entries_of_one_full_url_in_two_versions_are_ambiguous_unless_the_reference_names_one() {
    let version = |id: &str| json!({ "resourceType": "Patient", "id": "5", "meta": { "versionId": id } });
    let url = "http://x/fhir/Patient/5";
    let message = read(json!({}), &[(url, version("1")), (url, version("2"))]);
    assert_eq!(message.resolve(url), Resolved::Ambiguous);
    let second = message.resolve(&format!("{url}/_history/2")).node().and_then(|node| node.get("meta"));
    assert_eq!(second.and_then(|meta| meta.get("versionId")?.text()).as_deref(), Some("2"));
}

#[test]
fn references_are_resolved_within_the_bundle() {
    let patient = |id: &str| json!({ "resourceType": "Patient", "id": id });
    let versioned = json!({ "resourceType": "Patient", "id": "5", "meta": { "versionId": "2" } });
    let others = [
        ("urn:uuid:1", patient("1")),
        ("http://x/fhir/Patient/2", patient("2")),
        ("Patient/3", patient("other")),
        ("urn:uuid:4", patient("4")),
        ("urn:uuid:4", patient("4")),
        ("http://x/fhir/Patient/5", versioned),
        ("http://x/fhir/Observation/6", json!({ "resourceType": "Observation", "id": "6" })),
    ];
    let message = read(json!({ "contained": [{ "id": "c" }, { "id": "d" }, { "id": "d" }] }), &others);
    let at = |from: usize, reference: &str| match message.resolve_from(from, reference) {
        Resolved::Found(node, lenient) => {
            format!("{}{}", resolve::text(node, "id").unwrap_or_default(), if lenient { "?" } else { "" })
        }
        other => format!("{other:?}"),
    };
    let cases = [
        (0, "urn:uuid:1", "1"),
        (0, "urn:uuid:none", "Missing"),
        (0, "urn:uuid:4", "Ambiguous"),
        (0, "http://x/fhir/Patient/2", "2"),
        (0, "http://y/fhir/Patient/2", "Missing"),
        (0, "Patient/2", "2?"),
        (7, "Patient/2", "2"),
        (0, "Patient/3", "other?"),
        (0, "Patient/4", "Ambiguous"),
        (0, "Patient/none", "Missing"),
        (0, "http://x/fhir/Patient/5/_history/2", "5"),
        (0, "http://x/fhir/Patient/5/_history/1", "Missing"),
        (7, "Patient/5/_history/2", "5"),
        (0, "#c", "c"),
        (0, "#d", "Ambiguous"),
        (0, "#none", "Missing"),
        (1, "#c", "Missing"),
        (99, "#c", "Missing"),
        (99, "Patient/1", "1?"),
        (0, "", "Missing"),
    ];
    for (from, reference, expected) in cases {
        assert_eq!(at(from, reference), expected, "{reference} from {from}");
        if from == 0 {
            assert_eq!(
                Index::new(&message.tree).resolve(reference),
                message.resolve(reference),
                "{reference} by index"
            );
        }
    }
    assert_eq!(message.full_url(2).as_deref(), Some("http://x/fhir/Patient/2"));
    assert!(message.entry_resource(7).is_some() && message.entry_resource(8).is_none());
}

#[test]
fn the_subject_is_the_patient_of_the_first_focus() {
    let patient = json!({ "resourceType": "Patient", "id": "p", "identifier": [{ "system": "urn:s", "value": "1" }] });
    let nameless = json!({ "resourceType": "Patient" });
    let about =
        |name: &str, reference: &str| json!({ "resourceType": "Observation", name: { "reference": reference } });
    let cases = [
        (vec![("urn:uuid:f", patient.clone())], Some("urn:s|1")),
        (vec![("urn:uuid:f", nameless)], Some("urn:uuid:f")),
        (vec![("urn:uuid:f", about("subject", "urn:uuid:p")), ("urn:uuid:p", patient.clone())], Some("urn:s|1")),
        (vec![("urn:uuid:f", about("patient", "Patient/p")), ("urn:uuid:p", patient)], Some("urn:s|1")),
        (vec![("urn:uuid:f", about("subject", "Patient/far"))], Some("Patient/far")),
        (
            vec![("urn:uuid:f", about("subject", "urn:uuid:g")), ("urn:uuid:g", json!({ "resourceType": "Group" }))],
            None,
        ),
        (vec![("urn:uuid:f", json!({ "resourceType": "Location" }))], None),
        (vec![], None),
    ];
    for (others, expected) in cases {
        let message = read(json!({ "focus": [{ "reference": "urn:uuid:f" }] }), &others);
        assert_eq!(message.subject_key().as_deref(), expected, "{others:?}");
    }
}

/// A message in which most elements occur, for mutation.
fn full() -> Value {
    let header = json!({
        "id": "h", "eventCoding": { "system": "urn:s", "code": "c" }, "source": { "endpoint": "urn:a" },
        "destination": [{ "endpoint": "urn:b", "target": { "reference": "#d" } }],
        "contained": [{ "resourceType": "Device", "id": "d", "identifier": [{ "value": "1" }] }],
        "focus": [{ "reference": "urn:uuid:o" }],
        "response": { "identifier": "r", "code": "ok", "details": { "reference": "urn:uuid:o" } },
        "extension": [{ "url": "http://x", "valueCode": "always" }]
    });
    let observation = json!({ "resourceType": "Observation", "subject": { "reference": "Patient/p" } });
    let mut bundle =
        bundle(header, &[("urn:uuid:o", observation), ("urn:uuid:p", json!({ "resourceType": "Patient", "id": "p" }))]);
    bundle["identifier"] = json!({ "system": "urn:s", "value": "v" });
    bundle
}

/// Replaces the value at position `place` in document order.
fn spoil(value: &mut Value, place: &mut usize, with: &Value) {
    if *place == 0 {
        *value = with.clone();
    }
    *place = place.wrapping_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| spoil(item, place, with)),
        Value::Object(members) => members.values_mut().for_each(|member| spoil(member, place, with)),
        _ => {}
    }
}

/// Calls every function of a message, to find panics.
fn ask(bytes: Vec<u8>) {
    let Ok(tree) = json::parse(Bytes::from(bytes)) else { return };
    let Ok(message) = Message::read(tree, None, None) else { return };
    let _ = (message.identity(), message.subject_key(), message.has_identity(), message.full_url(0));
    for reference in &message.header.focus {
        let _ = message.resolve(reference);
    }
}

proptest! {
    #[test]
    fn a_message_with_any_value_in_any_place_is_read_or_refused(place in 0usize..70, with in json::tests::any_json()) {
        let mut bundle = full();
        spoil(&mut bundle, &mut { place }, &with);
        ask(bundle.to_string().into_bytes());
    }

    #[test]
    fn a_message_with_spoiled_bytes_is_read_or_refused(spots in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let mut bytes = full().to_string().into_bytes();
        for (spot, byte) in spots {
            let length = bytes.len();
            bytes[spot % length] = byte;
        }
        ask(bytes);
    }
}

#[test]
fn thousands_of_references_in_a_bundle_of_thousands_are_looked_up_in_linear_time() {
    let many = 30_000;
    let entry = |n: usize| json!({ "fullUrl": format!("urn:uuid:{n}"), "resource": { "resourceType": "Device", "id": format!("d{n}"), "identifier": [{ "value": format!("v{n}") }] } });
    let mut bundle = bundle(
        json!({
            "eventUri": "urn:e", "source": { "endpoint": "urn:s" },
            "destination": (0..many).map(|n| json!({ "target": { "reference": format!("urn:uuid:{n}") } })).collect::<Vec<_>>(),
            "focus": vec![json!(1); many],
        }),
        &[],
    );
    bundle["entry"].as_array_mut().unwrap().extend((0..many).map(entry));
    let tree = tree(&bundle);
    let started = std::time::Instant::now();
    let message = Message::read(tree, None, None).unwrap();
    assert_eq!(&*message.header.destinations[many - 1].targets, [Arc::from(format!("v{}", many - 1))]);
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn destinations_that_refer_to_one_resource_share_its_texts() {
    let endpoint = json!({"fullUrl":"urn:uuid:e","resource":{"resourceType":"Endpoint","address":"http://a.example"}});
    let device =
        json!({"fullUrl":"urn:uuid:d","resource":{"resourceType":"Device","identifier":[{"value":"1"},{"value":"2"}]}});
    let destination = json!({"endpointReference":{"reference":"urn:uuid:e"},"target":{"reference":"urn:uuid:d"}});
    let header = json!({"resourceType":"MessageHeader","eventCoding":{"code":"x"},"source":{"endpointUrl":"urn:a"},
        "destination": vec![destination; 3]});
    let bundle = json!({"resourceType":"Bundle","type":"message","entry":[{"resource":header}, endpoint, device]});
    let message = Message::read(tree(&bundle), None, None).unwrap();
    let [first, .., last] = message.header.destinations.as_slice() else { panic!("three destinations") };
    assert_eq!(first.endpoint.as_deref(), Some("http://a.example"));
    assert!(Arc::ptr_eq(first.endpoint.as_ref().unwrap(), last.endpoint.as_ref().unwrap()));
    assert_eq!(first.targets.len(), 2);
    assert!(Arc::ptr_eq(&first.targets, &last.targets));
}

#[test]
fn a_text_of_the_header_with_a_control_character_refuses_the_message_where_it_would_be_routed() {
    let bounds = Some(Bounds { text_bytes: 100, destinations: 2 });
    let header = |name: &str, value: Value| {
        let mut header = json!({"resourceType":"MessageHeader","id":"h","eventCoding":{"system":"urn:s","code":"x"},
            "source":{"endpoint":"urn:a"},"destination":[{"endpoint":"urn:b"}]});
        header[name] = value;
        json!({"resourceType":"Bundle","type":"message","entry":[{"resource":header}]})
    };
    for control in ['\0', '\t', '\n', '\u{7f}', '\u{85}'] {
        for (name, value, element) in [
            ("eventCoding", json!({"system":"urn:s","code":format!("a{control}")}), "eventCoding.code"),
            ("eventCoding", json!({"system":format!("urn:{control}s"),"code":"a"}), "eventCoding.system"),
            ("source", json!({"endpoint":format!("urn:{control}")}), "source.endpoint"),
            ("destination", json!([{"endpoint":format!("{control}urn:b")}]), "destination[0].endpoint"),
            ("id", json!(format!("a{control}b")), "id"),
        ] {
            let bundle = header(name, value);
            let refused = Message::read_within(tree(&bundle), None, None, bounds).unwrap_err();
            let at = format!("Bundle.entry[0].resource.{element}");
            assert_eq!(refused[0].expression.as_deref(), Some(&*at), "{bundle}");
            assert_eq!(refused[0].cause, Cause::Structure);
            let checked = Message::read(tree(&bundle), None, None).unwrap();
            assert!(checked.notes.iter().any(|note| note.expression.as_deref() == Some(&*at)), "{bundle}");
        }
    }
}
