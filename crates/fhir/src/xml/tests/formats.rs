//! One message in both formats: equal trees, equal identity.

use super::*;
use crate::Message;

const JSON: &str = r#"{"resourceType":"Bundle","id":"b-1","type":"message","timestamp":"2026-01-02T03:04:05Z","entry":[
 {"fullUrl":"urn:uuid:0d3f4a8e-6a0b-4d52-9f57-6b7d3b9b1c11","resource":{"resourceType":"MessageHeader","id":"m-1",
  "eventCoding":{"system":"urn:example:events","code":"notify"},"source":{"endpoint":"http://sender.example/fhir"},
  "focus":[{"reference":"urn:uuid:7a1f0c55-58a3-4f0e-8c3c-1f2f3f4f5f6f"}]}},
 {"fullUrl":"urn:uuid:7a1f0c55-58a3-4f0e-8c3c-1f2f3f4f5f6f","resource":{"resourceType":"Observation","id":"o-1","status":"final",
  "code":{"text":"weight"},"valueQuantity":{"value":6.30,"unit":"kg"},
  "component":[{"code":{"text":"a \"quoted\" \\ text"},"valueString":"two\nlines"}]}}]}"#;

#[test]
fn a_message_has_the_same_identity_in_both_formats() {
    let one = json_reader::parse(Bytes::from_static(JSON.as_bytes())).unwrap();
    let xml = write(one.root(), Schema::of(FhirVersion::R4)).unwrap();
    let other = parse(Bytes::from(xml), None, None).unwrap();
    assert!(other.notes.is_empty() && is_same(one.root(), other.root()) && is_as_json_reads(&other));
    let (one, other) = (Message::read(one, None, None).unwrap(), Message::read(other, None, None).unwrap());
    assert_eq!(one.identity(), other.identity());
    assert_eq!(one.header.source_endpoint, other.header.source_endpoint);
}

#[test]
fn a_definition_in_xml_is_its_json() {
    let xml = "<MessageDefinition xmlns=\"http://hl7.org/fhir\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
        xsi:schemaLocation=\"http://hl7.org/fhir fhir-all.xsd\"><url value=\"http://x\"/><focus><code value=\"Patient\"/>\
        <min value=\"0\"/><max value=\"*\"/></focus></MessageDefinition>";
    let json = to_json(Bytes::from(xml), FhirVersion::R4).unwrap();
    let expected =
        r#"{"resourceType":"MessageDefinition","url":"http://x","focus":[{"code":"Patient","min":0,"max":"*"}]}"#;
    assert_eq!(std::str::from_utf8(&json).unwrap(), expected);
}
