//! `emberpost validate`, as a person in a shell meets it: no server, exit codes, lines and objects.

use crate::harness::program;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

fn message(change: impl FnOnce(&mut Value)) -> Value {
    let mut message = json!({ "resourceType": "Bundle", "id": "b1", "type": "message", "entry": [
        { "fullUrl": "urn:uuid:11111111-1111-4111-8111-111111111111", "resource": {
            "resourceType": "MessageHeader", "id": "h1", "eventUri": "urn:event", "source": { "endpoint": "urn:source" },
            "focus": [{ "reference": "https://a.example/fhir/Patient/p" }] } },
        { "fullUrl": "https://a.example/fhir/Patient/p", "resource": {
            "resourceType": "Patient", "id": "p", "gender": "female" } },
    ] });
    change(&mut message);
    message
}

fn bad() -> Value {
    message(|m| m["entry"][1]["resource"]["gender"] = json!("unheard"))
}

const XML: &str = r#"<Bundle xmlns="http://hl7.org/fhir"><id value="b1"/><type value="message"/><entry>
<fullUrl value="urn:uuid:11111111-1111-4111-8111-111111111111"/><resource><MessageHeader><id value="h1"/>
<eventUri value="urn:event"/><source><endpoint value="urn:source"/></source></MessageHeader></resource></entry></Bundle>"#;

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn validate(folder: &Path, arguments: &[&str]) -> Output {
    program(folder).arg("validate").args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn objects(output: &Output, code: i32) -> Vec<Value> {
    assert_eq!(output.status.code(), Some(code), "{}{}", out(output), String::from_utf8_lossy(&output.stderr));
    out(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Source, version and whether it is valid.
fn told(object: &Value) -> (&str, Option<&str>, bool) {
    assert_eq!(object["outcome"]["resourceType"], "OperationOutcome");
    assert!(!object["outcome"]["issue"].as_array().unwrap().is_empty());
    (object["source"].as_str().unwrap(), object["fhirVersion"].as_str(), object["valid"].as_bool().unwrap())
}

#[test]
fn folders_are_read_in_order_whatever_the_form_and_each_line_of_ndjson_is_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let good = message(|_| ()).to_string();
    write(folder.path(), "in/a.json", &good);
    write(folder.path(), "in/b/c.xml", XML);
    write(folder.path(), "in/b/d.ndjson", &format!("{good}\n\n{}\n", bad()));
    write(folder.path(), "in/e.fhir", "{ no JSON");
    write(folder.path(), "in/notes.txt", "no message");
    let found = objects(&validate(folder.path(), &["in", "--format", "ndjson"]), 1);
    let wanted = [
        ("in/a.json", Some("4.0"), true),
        ("in/b/c.xml", Some("4.0"), true),
        ("in/b/d.ndjson:1", Some("4.0"), true),
        ("in/b/d.ndjson:3", Some("4.0"), false),
        ("in/e.fhir", None, false),
    ];
    assert_eq!(found.iter().map(told).collect::<Vec<_>>(), wanted);
    let issue = &found[3]["outcome"]["issue"][0];
    assert_eq!(
        (&issue["severity"], &issue["expression"][0]),
        (&json!("error"), &json!("Bundle.entry[1].resource.gender"))
    );
}

#[test]
fn a_named_file_and_standard_input_are_known_by_their_content() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "message", XML);
    let found = objects(&validate(folder.path(), &["message", "--format", "ndjson"]), 0);
    assert_eq!(told(&found[0]), ("message", Some("4.0"), true));
    let mut child = program(folder.path())
        .args(["validate", "-", "--format", "ndjson", "--fhir-version", "4.3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(message(|_| ()).to_string().as_bytes()).unwrap();
    let found = objects(&child.wait_with_output().unwrap(), 0);
    assert_eq!(told(&found[0]), ("-", Some("4.3"), true));
}

#[test]
fn a_person_reads_one_line_per_message_with_its_issues_below() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "good.json", &message(|_| ()).to_string());
    write(folder.path(), "bad.json", &serde_json::to_string_pretty(&bad()).unwrap());
    let output = validate(folder.path(), &["good.json", "bad.json"]);
    let text = out(&output);
    let lines = text.lines().collect::<Vec<_>>();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(lines[..2], ["good.json: valid, FHIR 4.0", "bad.json: invalid, FHIR 4.0, 1 error"]);
    assert!(lines[2].starts_with("  error binding at Bundle.entry[1].resource.gender (line "), "{text}");
    assert_eq!(lines[3..], ["2 messages: 1 valid, 1 invalid"]);
}

#[test]
fn level_and_prose_rules_say_how_deep_and_how_strictly() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "bad.json", &bad().to_string());
    write(folder.path(), "prose.json", &message(|m| m["entry"][1]["fullUrl"] = json!("Patient/p")).to_string());
    let code = |arguments: &[&str]| validate(folder.path(), arguments).status.code();
    assert_eq!(code(&["bad.json"]), Some(1));
    assert_eq!(code(&["bad.json", "--level", "message"]), Some(0));
    assert_eq!(code(&["prose.json"]), Some(0));
    assert_eq!(code(&["prose.json", "--prose-rules", "error"]), Some(1));
    write(folder.path(), "strict.toml", "[validation]\nlevel = \"message\"\nprose_rules = \"error\"\n");
    assert_eq!(code(&["prose.json", "--config", "strict.toml"]), Some(1));
    for wrong in
        [&["missing.json"][..], &["bad.json", "--package", "missing.tgz"], &["bad.json", "--config", "none.toml"]]
    {
        assert_eq!(code(wrong), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_package_brings_profiles_that_messages_claim() {
    let folder = tempfile::tempdir().unwrap();
    let profile = json!({ "resourceType": "StructureDefinition", "url": "https://own.example/p", "name": "P", "status": "active",
        "kind": "resource", "abstract": false, "type": "Patient", "derivation": "constraint",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
        "differential": { "element": [{ "id": "Patient.birthDate", "path": "Patient.birthDate", "min": 1 }] } });
    write(folder.path(), "guide/p.json", &profile.to_string());
    let claims = message(|m| m["entry"][1]["resource"]["meta"] = json!({ "profile": ["https://own.example/p"] }));
    write(folder.path(), "m.json", &claims.to_string());
    let code = |arguments: &[&str]| validate(folder.path(), arguments).status.code();
    assert_eq!(code(&["m.json", "--package", "guide"]), Some(0));
    assert_eq!(code(&["m.json", "--level", "profile"]), Some(0), "a missing profile is a warning");
    assert_eq!(code(&["m.json", "--level", "profile", "--package", "guide"]), Some(1));
}
