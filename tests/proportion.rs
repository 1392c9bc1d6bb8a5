//! Memory in proportion to the input: what a message of n pieces has allocated is compared with 2n and 4n pieces, for each
//! shape that somebody hostile may choose. Counted, not timed, in a binary of its own, because the counter is its allocator.

use std::alloc::System;
use std::sync::Mutex;

use bytes::Bytes;
use emberpost::outcome::{Outcome, with_faults};
use emberpost::routing::plan::plan;
use emberpost::routing::{Participant, Table};
use fhir::header::Bounds;
use fhir::{Format, Message, format};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use validation::definition::Definitions;
use validation::{Checks, Level, check};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One measures at a time: the counter is the whole process's.
static MEASURES: Mutex<()> = Mutex::new(());

/// Twice the input may allocate so many times as much: vectors double, and tables of names with them.
const RATIO_MOST: f64 = 2.6;

fn allocated(work: impl FnOnce()) -> f64 {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    change.bytes_allocated as f64
}

fn message(header: Value, entries: Vec<Value>) -> Value {
    let mut whole = json!({ "resourceType": "MessageHeader", "id": "h", "source": { "endpoint": "http://s.example" },
        "eventCoding": { "system": "urn:s", "code": "x" }, "focus": [{ "reference": "Patient/1" }] });
    for (name, value) in header.as_object().into_iter().flatten() {
        whole[name.as_str()] = value.clone();
    }
    let mut all = vec![json!({ "fullUrl": "http://s.example/MessageHeader/h", "resource": whole })];
    all.extend(entries);
    json!({ "resourceType": "Bundle", "id": "b", "type": "message", "timestamp": "2026-01-01T00:00:00Z", "entry": all })
}

fn patient(more: Value) -> Vec<Value> {
    let mut patient = json!({ "resourceType": "Patient", "id": "1", "active": true });
    for (name, value) in more.as_object().into_iter().flatten() {
        patient[name.as_str()] = value.clone();
    }
    vec![json!({ "fullUrl": "http://s.example/Patient/1", "resource": patient })]
}

fn resource(resource: Value) -> Vec<Value> {
    vec![json!({ "fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000001", "resource": resource })]
}

type Shape = (&'static str, fn(usize) -> String);

/// Messages of n pieces each.
const SHAPES: &[Shape] = &[
    ("entries", |n| {
        let entry = |k| json!({ "fullUrl": format!("http://s.example/Patient/{k}"), "resource": { "resourceType": "Patient", "id": format!("{k}"), "active": true } });
        message(json!({}), (0..n).map(entry).collect()).to_string()
    }),
    ("entries without a name", |n| {
        message(json!({}), vec![json!({ "resource": { "resourceType": "Basic", "code": { "text": "x" } } }); n])
            .to_string()
    }),
    ("a long text", |n| message(json!({}), patient(json!({ "name": [{ "family": "x".repeat(40 * n) }] }))).to_string()),
    ("escapes", |n| message(json!({}), patient(json!({ "name": [{ "family": "\n".repeat(20 * n) }] }))).to_string()),
    ("identifiers", |n| {
        let identifiers: Vec<Value> = (0..n).map(|k| json!({ "system": "urn:i", "value": format!("{k}") })).collect();
        message(json!({}), patient(json!({ "identifier": identifiers }))).to_string()
    }),
    ("extensions", |n| {
        message(json!({}), patient(json!({ "extension": vec![json!({ "url": "urn:x", "valueString": "x" }); n] })))
            .to_string()
    }),
    ("extensions with an invariant", |n| {
        let item = json!({ "linkId": "1", "type": "choice", "extension": [
            { "url": "http://hl7.org/fhir/StructureDefinition/questionnaire-minOccurs", "valueInteger": 1 }] });
        message(
            json!({}),
            resource(json!({ "resourceType": "Questionnaire", "status": "active", "item": vec![item; n] })),
        )
        .to_string()
    }),
    ("unknown members", |n| {
        let members: serde_json::Map<String, Value> = (0..n).map(|k| (format!("unknown{k}"), json!(1))).collect();
        message(json!({}), patient(Value::Object(members))).to_string()
    }),
    ("wrong codes", |n| {
        let contacts = vec![json!({ "gender": "x", "name": { "use": "y" } }); n];
        message(json!({}), patient(json!({ "contact": contacts }))).to_string()
    }),
    ("duplicate names", |n| {
        let names = vec!["{\"a\":1,\"a\":2}"; n].join(",");
        let text = message(json!({}), patient(json!({ "contact": ["here"] }))).to_string();
        text.replace("\"here\"", &names)
    }),
    ("deep duplicate names", |n| {
        let name = "x".repeat(64);
        let (open, close) = (format!("{{\"{name}\":").repeat(50), "}".repeat(50));
        let inside = vec!["\"a\":1"; n].join(",");
        format!("{open}{{{inside}}}{close}")
    }),
    ("empty arrays", |n| {
        let text = message(json!({}), patient(json!({ "contact": ["here"] }))).to_string();
        text.replace("\"here\"", &vec!["[]"; n].join(","))
    }),
    ("references", |n| {
        let references = vec![json!({ "reference": "Practitioner/1" }); n];
        message(json!({}), patient(json!({ "generalPractitioner": references }))).to_string()
    }),
    ("references on a long base", |n| {
        let references = vec![json!({ "reference": "Practitioner/1" }); n];
        let mut entries = patient(json!({ "generalPractitioner": references }));
        entries[0]["fullUrl"] = json!(format!("http://s.example/{}/Patient/1", "x".repeat(20 * n)));
        message(json!({}), entries).to_string()
    }),
    ("foci", |n| {
        message(json!({ "focus": vec![json!({ "reference": "Patient/1" }); n] }), patient(json!({}))).to_string()
    }),
    ("destinations", |n| {
        let destinations: Vec<Value> = (0..n).map(|k| json!({ "endpoint": format!("http://d.example/{k}") })).collect();
        message(json!({ "destination": destinations }), patient(json!({}))).to_string()
    }),
    ("destinations of one long Endpoint", |n| {
        let endpoint = json!({ "fullUrl": "urn:uuid:e", "resource": { "resourceType": "Endpoint", "address": format!("http://d.example/{}", "x".repeat(20 * n)) } });
        let destinations = vec![json!({ "endpointReference": { "reference": "urn:uuid:e" } }); n];
        let source = json!({ "endpointUrl": "http://s.example" });
        message(json!({ "source": source, "destination": destinations }), vec![endpoint]).to_string()
    }),
    ("destinations of one Device with many identifiers", |n| {
        let identifiers: Vec<Value> = (0..n).map(|k| json!({ "system": "urn:i", "value": format!("{k}") })).collect();
        let device =
            json!({ "fullUrl": "urn:uuid:d", "resource": { "resourceType": "Device", "identifier": identifiers } });
        let destinations =
            vec![json!({ "endpoint": "http://hub.example/fhir", "target": { "reference": "urn:uuid:d" } }); n];
        message(json!({ "destination": destinations }), vec![device]).to_string()
    }),
];

fn table() -> Table {
    let mut lab = Participant::new("lab");
    lab.addresses = vec!["http://lab.example/*".to_owned()];
    Table::build(vec![lab], Vec::new(), Vec::new(), "http://hub.example/fhir".to_owned()).expect("a table")
}

/// All that is done with a message before it is stored, with and without bounds.
fn judge(text: &str, table: &Table, bounds: Option<Bounds>) {
    let bytes = Bytes::from(text.to_owned());
    let outcome = match format::read(bytes, Format::Json, None, None) {
        Err(issues) => Outcome::from(issues),
        Ok(tree) => match Message::read_within(tree, None, None, bounds) {
            Err(issues) => Outcome::from(issues),
            Ok(message) => {
                let checks = Checks { level: Level::Structure, take_unknown_events: true, ..Checks::default() };
                let mut issues = with_faults(check(&message, &Definitions::default(), checks).issues);
                // Only what is within the bounds is ever routed.
                if bounds.is_some()
                    && let Err(refused) = plan(&message, "lab", None, table)
                {
                    issues.extend(refused);
                }
                Outcome::from(issues)
            }
        },
    };
    let resource = outcome.to_resource().to_string();
    assert!(resource.len() < 4 * 1024 * 1024, "an outcome of {} bytes", resource.len());
    assert!(outcome.issues.len() <= 1_001, "{} issues", outcome.issues.len());
}

#[test]
fn what_a_message_takes_grows_with_its_size_whatever_its_shape() {
    let _alone = MEASURES.lock().unwrap();
    let table = table();
    let bounds = Some(Bounds { text_bytes: 2_048, destinations: 1_000 });
    // Tables of the specification are made once.
    judge(&SHAPES[0].1(10), &table, bounds);
    judge(&SHAPES[7].1(10), &table, bounds);
    let mut wrong = Vec::new();
    for (name, shape) in SHAPES {
        for bounds in [bounds, None] {
            let taken = [500, 1_000, 2_000].map(|n| {
                let text = shape(n);
                (allocated(|| judge(&text, &table, bounds)), text.len() as f64)
            });
            for pair in taken.windows(2) {
                let (ratio, input) = (pair[1].0 / pair[0].0, pair[1].1 / pair[0].1);
                if ratio > RATIO_MOST.max(1.3 * input) {
                    wrong.push(format!(
                        "{name}: {input:.2} times the input took {ratio:.2} times the memory: {taken:?}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
