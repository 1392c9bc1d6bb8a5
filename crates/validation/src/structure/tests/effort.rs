//! How work grows with the document: visits of nodes and steps of expressions, never time.

use super::*;
use emberpost_fhir::tree::{Tree, visits};

const FHIR_TYPE: &str = "http://hl7.org/fhir/StructureDefinition/questionnaire-fhirType";
const UNIT: &str = "http://hl7.org/fhir/StructureDefinition/questionnaire-unitOption";
const ACCURACY: &str = "http://hl7.org/fhir/StructureDefinition/quantity-accuracy";

fn read(document: &Value) -> Tree {
    json::parse(document.to_string().into()).unwrap()
}

/// Rules of what is reported for a document, errors and warnings.
fn reported(tree: &Tree, steps_limit: u64) -> Vec<String> {
    let mut collector = IssueCollector::new(tree, ProseRules::Warning);
    check(tree, Schema::of(FhirVersion::R4), Options { steps_limit, ..Options::default() }, &mut collector);
    collector.finish().into_iter().filter_map(|issue| issue.rule.map(|rule| rule.into_owned())).collect()
}

fn times(count: usize, one: impl Fn(usize) -> Value) -> Value {
    Value::Array((0..count).map(one).collect())
}

/// An item of this type with an extension that requires another type than `display`.
fn item(at: usize, kind: &str) -> Value {
    json!({ "linkId": at.to_string(), "text": "x", "type": kind, "extension": [{ "url": FHIR_TYPE, "valueString": "x" }] })
}

fn questionnaire(items: Value) -> Value {
    json!({ "resourceType": "Questionnaire", "status": "active", "item": items })
}

/// Names and documents, each with this many extensions that have a context invariant.
fn documents(count: usize) -> Vec<(&'static str, Value)> {
    let unit = |at: usize| {
        let option = json!([{ "url": UNIT, "valueCoding": { "system": "http://unitsofmeasure.org", "code": "kg" } }]);
        json!({ "linkId": at.to_string(), "text": "x", "type": "quantity", "extension": option })
    };
    let component = |_| {
        let value = json!({ "value": 1, "extension": [{ "url": ACCURACY, "valueString": "x" }] });
        json!({ "code": { "text": "x" }, "valueQuantity": value })
    };
    let group = |at: usize| {
        let inner = times(10, |inner| item(1000 * at + inner + 1, "string"));
        json!({ "linkId": format!("g{at}"), "text": "x", "type": "group", "item": inner })
    };
    let contained = |at: usize| {
        let mut resource = questionnaire(json!([item(0, "string")]));
        resource["id"] = format!("q{at}").into();
        resource
    };
    let mut crowded = questionnaire(times(count, |at| item(at, "string")));
    for at in 0..count {
        crowded[format!("a{at}")] = "x".into();
    }
    vec![
        ("items", questionnaire(times(count, |at| item(at, "string")))),
        ("items whose invariant asks for the resource", questionnaire(times(count, unit))),
        ("items in groups", questionnaire(times(count / 10, group))),
        ("items of a resource with many members", crowded),
        (
            "extensions of one item",
            questionnaire(json!([{ "linkId": "1", "text": "x", "type": "string",
            "extension": times(count, |_| json!({ "url": FHIR_TYPE, "valueString": "x" })) }])),
        ),
        ("values of components", observation(json!({ "valueString": "x", "component": times(count, component) }))),
        (
            "entries",
            json!({ "resourceType": "Bundle", "type": "collection",
            "entry": times(count, |_| json!({ "resource": questionnaire(json!([item(0, "string")])) })) }),
        ),
        (
            "contained resources",
            json!({ "resourceType": "List", "status": "current", "mode": "working",
            "contained": times(count, contained) }),
        ),
    ]
}

#[test]
fn visits_and_steps_grow_with_the_extensions_that_have_context_invariants() {
    let counts = [200, 400, 800];
    let [few, more, most] = counts.map(documents);
    for (((name, few), (_, more)), (_, most)) in few.iter().zip(&more).zip(&most) {
        let visits = [(few, counts[0]), (more, counts[1]), (most, counts[2])].map(|(document, count)| {
            let tree = read(document);
            let mut rules = Vec::new();
            let visits = visits::of(|| rules = reported(&tree, 100 * count as u64));
            assert!(!rules.contains(&"constraint-limit".to_owned()), "{name}: {rules:?}");
            visits
        });
        assert!(visits[0] >= 200, "{name}: {visits:?}");
        for pair in visits.windows(2) {
            assert!(pair[1] <= 2 * pair[0] + 200, "{name}: {visits:?}");
        }
    }
}

#[test]
fn context_invariants_use_the_steps_of_the_document_too() {
    let tree = read(&questionnaire(times(300, |at| item(at, "display"))));
    let count = |rules: &[String], wanted: &str| rules.iter().filter(|rule| *rule == wanted).count();
    let all = reported(&tree, 1_000_000);
    assert_eq!((count(&all, "extension"), count(&all, "constraint-limit")), (300, 0));
    let few = reported(&tree, 500);
    let broken = count(&few, "extension");
    assert!((1..=250).contains(&broken), "{broken}");
    assert_eq!(count(&few, "constraint-limit"), 1);
    let none = reported(&tree, 0);
    assert_eq!((count(&none, "extension"), count(&none, "constraint-limit")), (0, 1));
}
