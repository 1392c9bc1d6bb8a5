use super::*;
use crate::{ProseRules, structure};
use emberpost_fhir::schema::Schema;
use emberpost_fhir::{FhirVersion, json};
use serde_json::{Value, json};

fn found(resource: &Value) -> Vec<(String, bool, String)> {
    let tree = json::parse(resource.to_string().into()).expect("JSON");
    let mut collector = IssueCollector::new(&tree, ProseRules::Error).of_version(FhirVersion::R4);
    structure::check(&tree, Schema::of(FhirVersion::R4), structure::Options::default(), &mut collector);
    // What the definitions require of these fragments is tested with the structure.
    let is_prose = |rule: &str| {
        rule == "urn" || rule.ends_with("-absolute") || ["system-value-set", "identifier-uri"].contains(&rule)
    };
    let reported =
        collector.finish().into_iter().filter(|issue| issue.rule.as_deref().is_some_and(is_prose)).map(|issue| {
            let is_error = issue.is_error();
            (issue.rule.unwrap_or_default().into_owned(), is_error, issue.expression.unwrap_or_default())
        });
    reported.collect()
}

#[track_caller]
fn is(member: &str, value: Value, wanted: &[(&str, bool, &str)]) {
    let found = found(&json!({ "resourceType": "Observation", member: value }));
    let found = found.iter().map(|(rule, error, at)| (rule.as_str(), *error, at.as_str())).collect::<Vec<_>>();
    assert_eq!(found, wanted, "{member}");
}

const UUID: &str = "0c1646f0-656a-58bb-9b1f-a5b80b67484e";

#[test]
fn systems_of_codings_quantities_and_identifiers_are_absolute() {
    let coding = |system: &str| json!({ "coding": [{ "system": system, "code": "1" }] });
    is("code", coding("http://loinc.org"), &[]);
    is("code", coding("loinc"), &[("system-absolute", true, "Observation.code.coding[0].system")]);
    let value_set = "http://hl7.org/fhir/ValueSet/observation-codes";
    is("code", coding(value_set), &[("system-value-set", true, "Observation.code.coding[0]")]);
    let quantity = json!({ "system": "ucum", "code": "mg" });
    is("valueQuantity", quantity, &[("system-absolute", true, "Observation.value.ofType(Quantity).system")]);
    is("identifier", json!([{ "system": "mrn" }]), &[("system-absolute", true, "Observation.identifier[0].system")]);
    // A ContactPoint's system is a code.
    let contact = json!([{ "url": "http://a.example", "valueContactPoint": { "system": "phone" } }]);
    is("extension", contact, &[]);
}

#[test]
fn an_identifier_that_is_a_uri_is_written_as_one() {
    let identifier = |system: &str, value: &str| json!([{ "system": system, "value": value }]);
    let at = "Observation.identifier[0].value";
    is("identifier", identifier(URI_SYSTEM, "urn:oid:1.2"), &[]);
    is("identifier", identifier(URI_SYSTEM, "1.2"), &[("identifier-uri", true, at)]);
    is("identifier", identifier(UUID_SYSTEM, UUID), &[("identifier-uri", false, at)]);
    is("identifier", identifier(UUID_SYSTEM, &UUID.to_uppercase()), &[("identifier-uri", true, at)]);
}

#[test]
fn uris_contain_the_uuid_or_oid_that_they_announce_and_canonicals_are_absolute() {
    is("implicitRules", json!(format!("urn:uuid:{UUID}")), &[]);
    is("implicitRules", json!("urn:uuid:1"), &[("urn", true, "Observation.implicitRules")]);
    is("implicitRules", json!("urn:oid:1.02"), &[("urn", true, "Observation.implicitRules")]);
    is("implicitRules", json!("rules"), &[]);
    is("instantiatesCanonical", json!("#c"), &[]);
    is("meta", json!({ "profile": ["p"] }), &[("canonical-absolute", true, "Observation.meta.profile[0]")]);
    // The definitions require the format of type oid.
    is("extension", json!([{ "url": "http://a.example", "valueOid": "urn:oid:1.02" }]), &[]);
}

#[test]
fn the_url_of_an_extension_is_absolute_but_within_another() {
    is(
        "extension",
        json!([{ "url": "note", "valueString": "x" }]),
        &[("extension-absolute", true, "Observation.extension[0].url")],
    );
    is("extension", json!([{ "url": "http://a.example", "extension": [{ "url": "note", "valueString": "x" }] }]), &[]);
    let of_primitive = json!({ "extension": [{ "url": "note", "valueString": "x" }] });
    is("_status", of_primitive, &[("extension-absolute", true, "Observation.status.extension[0].url")]);
}

#[test]
fn the_url_of_a_definition_is_absolute_and_that_of_a_device_may_be_anything() {
    let absolute = ("canonical-absolute".to_owned(), true, "ValueSet.url".to_owned());
    assert_eq!(found(&json!({ "resourceType": "ValueSet", "status": "active", "url": "colours" })), [absolute]);
    assert_eq!(found(&json!({ "resourceType": "ValueSet", "status": "active", "url": "https://x.example/vs" })), []);
    assert_eq!(found(&json!({ "resourceType": "Device", "url": "somewhere" })), []);
}
