use super::capability::{Capability, capability_statement};
use super::definitions;
use super::request::MetadataRequest;
use axum::http::HeaderMap;
use fhir::{Event, FhirVersion};
use serde_json::{Value, json};
use std::sync::Arc;
use validation::definition::{Definition, Definitions};

const BASE: &str = "http://router.example/fhir";

fn definition(id: &str, version: FhirVersion, responses: &[&str]) -> Arc<Definition> {
    let url = format!("http://example.org/MessageDefinition/{id}");
    Arc::new(Definition {
        id: Some(id.into()),
        url: Some(url.clone()),
        version: Some("1.0".into()),
        fhir_version: Some(version),
        event: Event::Coding { system: Some("urn:events".into()), code: id.into() },
        category: None,
        response_required: None,
        focus: Vec::new(),
        allowed_responses: responses.iter().map(|text| text.to_string()).collect(),
        active: true,
        resource: json!({ "resourceType": "MessageDefinition", "id": id, "url": url, "status": "active", "name": version.short() }),
    })
}

fn loaded() -> Definitions {
    let answer = "http://example.org/MessageDefinition/link-response|1.0";
    let mut loaded = Definitions::default();
    loaded.catalog.messages = vec![
        definition("link", FhirVersion::R4, &[answer]),
        definition("link", FhirVersion::R5, &[answer]),
        definition("link-response", FhirVersion::R4, &[]),
    ];
    loaded.catalog.resources = vec![Arc::new(json!({ "resourceType": "OperationDefinition", "id": "expand" }))];
    loaded
}

fn statement(version: FhirVersion, definitions: &Definitions) -> Value {
    let since_us = 1_700_000_000_123_456;
    capability_statement(&Capability { version, base_url: BASE, identities_days: 30, since_us, definitions })
}

fn request(query: &str) -> MetadataRequest {
    MetadataRequest::read(&HeaderMap::new(), Some(query), None, FhirVersion::R4).unwrap()
}

#[test]
fn the_statement_holds_its_invariants_in_each_version() {
    for (version, full) in [(FhirVersion::R4, "4.0.1"), (FhirVersion::R4B, "4.3.0"), (FhirVersion::R5, "5.0.0")] {
        let statement = statement(version, &loaded());
        assert_eq!(statement["kind"], "instance");
        assert_eq!(statement["fhirVersion"], full);
        assert_eq!(statement["date"], "2023-11-14T22:13:20Z");
        assert!(statement["rest"].is_array(), "cpb-1");
        assert!(statement["software"]["name"].is_string(), "cpb-2");
        assert_eq!(statement["messaging"][0]["endpoint"][0]["address"], BASE, "cpb-3");
        assert_eq!(statement["implementation"]["url"], BASE, "cpb-14");
        assert_eq!(statement["rest"][0]["operation"][0]["name"], "process-message");
    }
}

#[test]
fn the_transport_code_system_is_that_of_the_version() {
    let system = |version| statement(version, &loaded())["messaging"][0]["endpoint"][0]["protocol"]["system"].clone();
    assert_eq!(system(FhirVersion::R4), "http://terminology.hl7.org/CodeSystem/message-transport");
    assert_eq!(system(FhirVersion::R5), "http://hl7.org/fhir/message-transport");
}

#[test]
fn requests_are_received_and_responses_sent_each_canonical_once() {
    let statement = statement(FhirVersion::R4, &loaded());
    let messaging = &statement["messaging"][0];
    assert_eq!(messaging["reliableCache"], 43_200);
    let expected = json!([
        { "mode": "sender", "definition": "http://example.org/MessageDefinition/link-response|1.0" },
        { "mode": "receiver", "definition": "http://example.org/MessageDefinition/link|1.0" },
    ]);
    assert_eq!(messaging["supportedMessage"], expected);
}

#[test]
fn without_definitions_there_is_no_empty_list() {
    let empty = Definitions::default();
    assert!(statement(FhirVersion::R4, &empty)["messaging"][0].get("supportedMessage").is_none());
    let found = definitions::search(&empty, &request(""), BASE).unwrap();
    assert!(found.get("entry").is_none());
    assert_eq!(found["total"], 0);
}

#[test]
fn a_search_gives_each_id_once_in_the_asked_version() {
    let cases = [
        ("", 2, "4.0"),
        ("fhirVersion=5.0", 2, "5.0"),
        ("_id=link", 1, "4.0"),
        ("_id=link,link-response", 2, "4.0"),
        ("event=urn:events%7Clink&fhirVersion=5.0", 1, "5.0"),
        ("url=http://example.org/MessageDefinition/link", 1, "4.0"),
    ];
    for (query, total, version) in cases {
        let found = definitions::search(&loaded(), &request(query), BASE).unwrap();
        assert_eq!(found["total"], total, "{query}");
        assert_eq!(found["entry"][0]["resource"]["name"], version, "{query}");
        assert_eq!(found["entry"][0]["fullUrl"], format!("{BASE}/MessageDefinition/link"));
    }
    assert_eq!(definitions::search(&loaded(), &request("event=other"), BASE).unwrap()["total"], 0);
}

#[test]
fn a_page_is_counted_sorted_and_leads_to_the_next() {
    let page = |query: &str| {
        let found = definitions::search(&loaded(), &request(query), BASE).unwrap();
        let ids: Vec<String> =
            found["entry"].as_array().into_iter().flatten().map(|entry| entry["resource"]["id"].to_string()).collect();
        let links: Vec<String> =
            found["link"].as_array().into_iter().flatten().map(|link| link["url"].to_string()).collect();
        (found["total"].as_u64(), ids.join(" ").replace('"', ""), links.join(" ").replace('"', "").replace(BASE, ""))
    };
    for (query, total, ids, links) in [
        ("_count=1", 2, "link", "/MessageDefinition?_count=1 /MessageDefinition?_count=1&_offset=1"),
        ("_count=1&_offset=1", 2, "link-response", "/MessageDefinition?_count=1&_offset=1"),
        ("_count=0", 2, "", "/MessageDefinition?_count=0"),
        ("_summary=count", 2, "", "/MessageDefinition?_summary=count"),
        ("_sort=-_id", 2, "link-response link", "/MessageDefinition?_sort=-_id"),
        ("status=active", 2, "link link-response", "/MessageDefinition?status=active"),
        ("status=draft", 0, "", "/MessageDefinition?status=draft"),
        (
            "url=http://example.org/MessageDefinition/link",
            1,
            "link",
            "/MessageDefinition?url=http://example.org/MessageDefinition/link",
        ),
        // Ignored, and so left out of the self link.
        ("_elements=url&_sort=date&_summary=true&colour=red", 2, "link link-response", "/MessageDefinition"),
    ] {
        assert_eq!(page(query), (Some(total), ids.to_owned(), links.to_owned()), "{query}");
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name_where_the_client_prefers_so() {
    let mut headers = HeaderMap::new();
    headers.insert("prefer", "return=minimal; handling=strict".parse().unwrap());
    for query in ["colour=red", "_sort=date", "_summary=true", "_elements=url"] {
        let request = MetadataRequest::read(&headers, Some(query), None, FhirVersion::R4).unwrap();
        let (status, issue) = definitions::search(&loaded(), &request, BASE).unwrap_err();
        assert_eq!(status, 400, "{query}");
        assert!(issue.diagnostics.contains(query.split('=').next().unwrap()), "{}", issue.diagnostics);
    }
    let wrong = definitions::search(&loaded(), &request("_count=few"), BASE).unwrap_err();
    assert_eq!(wrong.0, 400, "a value that is not a number is an error");
}

#[test]
fn definitions_are_read_by_id() {
    assert_eq!(definitions::message(&loaded(), "link", FhirVersion::R5).unwrap()["name"], "5.0");
    assert!(definitions::message(&loaded(), "none", FhirVersion::R5).is_none());
    assert!(definitions::resource(&loaded(), "OperationDefinition", "expand").is_some());
    assert!(definitions::resource(&loaded(), "ValueSet", "expand").is_none());
}
