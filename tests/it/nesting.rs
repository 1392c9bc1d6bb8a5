//! Deep nesting: up to 256 levels of objects and arrays are read, checked, routed, converted and delivered; more are refused.

use crate::harness::{Answer, NodeConfig, Party, Peer, Sample};
use fhir::format::convert;
use fhir::{FhirVersion, Format};
use serde_json::{Value, json};

/// Deepest nesting that is read.
const LIMIT: usize = 256;

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// A message for `lab` of exactly so many levels: parameters within parameters.
fn nested(levels: usize) -> Value {
    let build = |parts: usize, wrapped: bool| {
        let mut part = match wrapped {
            true => json!({ "name": "p", "valueIdentifier": { "value": "x" } }),
            false => json!({ "name": "p", "valueString": "x" }),
        };
        for _ in 0..parts {
            part = json!({ "name": "p", "part": [part] });
        }
        let resource = json!({ "resourceType": "Parameters", "parameter": [part] });
        Sample::new().addressed_to("lab").set("/entry/1/resource", resource).value()
    };
    let shallow = depth(&build(0, false));
    let (more, is_odd) = ((levels - shallow) / 2, (levels - shallow) % 2 == 1);
    let message = build(more, is_odd);
    assert_eq!(depth(&message), levels);
    message
}

fn xml(message: &Value) -> Vec<u8> {
    convert(message.to_string().into(), Format::Xml, FhirVersion::R4).unwrap().to_vec()
}

#[tokio::test]
async fn a_message_of_256_levels_is_checked_and_delivered_in_both_forms_and_converted() {
    for format in ["json", "xml"] {
        let lab = Peer::answering(Answer::Empty(204)).await;
        let party = Party::new("lab").at(&lab).with(&format!("format = \"{format}\""));
        let node = NodeConfig::with_sender().participant(party).start().await;
        for (body, kind) in [(nested(LIMIT).to_string().into_bytes(), "json"), (xml(&nested(LIMIT)), "xml")] {
            node.post(body).await.expect_status(204);
            let received = lab.received().pop().unwrap();
            let wanted = if format == "json" { Format::Json } else { Format::Xml };
            assert_eq!(Format::detect(&received.body), wanted, "{kind} for a receiver of {format}");
        }
    }
}

#[tokio::test]
async fn deeper_nesting_is_refused_as_emberposts_own_limit_in_both_forms() {
    let lab = Peer::ok().await;
    let node = NodeConfig::with_sender().participant(Party::new("lab").at(&lab)).start().await;
    let deep = nested(LIMIT);
    let text = deep.to_string();
    let one_more = text
        .replace(r#"{"name":"p","valueString":"x"}"#, r#"{"name":"p","part":[{"name":"p"}]}"#)
        .replace(r#""valueIdentifier":{"value":"x"}"#, r#""part":[{"name":"p"}]"#);
    assert_ne!(one_more, text);
    let far = format!("<Bundle xmlns=\"http://hl7.org/fhir\">{}</Bundle>", "<entry><resource><Bundle>".repeat(20_000));
    let xml_deep = String::from_utf8(xml(&deep)).unwrap();
    let inner = "<part><name value=\"p\"/></part>";
    let xml_one_more = xml_deep.replacen("<valueString value=\"x\"/>", inner, 1);
    let xml_one_more = xml_one_more.replacen("<valueIdentifier><value value=\"x\"/></valueIdentifier>", inner, 1);
    for body in [one_more, "[".repeat(100_000), far, xml_one_more] {
        let posting = node.posting(body.into_bytes()).header("accept", "application/fhir+json");
        let reply = node.ask(posting).await.expect_status(400);
        let issue = &reply.issues()[0];
        assert_eq!(issue["details"]["coding"][0]["code"], "SEND_DEPTH", "{issue}");
        assert!(issue["diagnostics"].as_str().unwrap().contains("Emberpost's limit is 256"), "{issue}");
    }
    assert_eq!(lab.received().len(), 0);
}
