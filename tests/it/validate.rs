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

/// A package of an implementation guide, as publishers pack it.
fn packed(files: &[(&str, Value)]) -> Vec<u8> {
    let packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(packer);
    for (path, content) in files {
        let content = content.to_string();
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
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

    let manifest = json!({ "name": "own.guide", "version": "1.0.0", "fhirVersions": ["4.0.1"] });
    let packed = packed(&[("package/package.json", manifest), ("package/p.json", profile)]);
    std::fs::write(folder.path().join("guide.tgz"), packed).unwrap();
    write(folder.path(), "guide.toml", "[definitions]\npaths = [\"guide.tgz\"]\n");
    assert_eq!(code(&["m.json", "--level", "profile", "--config", "guide.toml"]), Some(1));
    write(folder.path(), "guide.tgz", "not a package");
    assert_eq!(code(&["m.json", "--level", "profile", "--config", "guide.toml"]), Some(2));
}

/// A folder of a guide: two invalid messages, a valid one, and resources that are not messages.
fn guide(folder: &Path) {
    write(folder, "guide/a.json", &bad().to_string());
    write(folder, "guide/b.json", &bad().to_string());
    write(folder, "guide/c.xml", XML);
    write(folder, "guide/patient.json", &json!({ "resourceType": "Patient", "gender": "female" }).to_string());
    write(folder, "guide/wrong.json", &json!({ "resourceType": "Patient", "gender": "unheard" }).to_string());
    write(folder, "guide/group.xml", r#"<Group xmlns="http://hl7.org/fhir"><type value="person"/></Group>"#);
}

#[test]
fn resources_of_a_folder_that_are_not_bundles_are_skipped_or_with_all_validated() {
    let folder = tempfile::tempdir().unwrap();
    guide(folder.path());
    let output = validate(folder.path(), &["guide"]);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.ends_with("3 messages: 1 valid, 2 invalid; 3 skipped, not a Bundle (--all validates them)\n"),
        "{text}"
    );
    assert_eq!(objects(&validate(folder.path(), &["guide", "--format", "ndjson"]), 1).len(), 3);
    let found = objects(&validate(folder.path(), &["guide", "--format", "ndjson", "--all"]), 1);
    let valid: Vec<_> = found.iter().map(told).map(|(source, _, valid)| (source, valid)).collect();
    let wanted = [("a.json", false), ("b.json", false), ("c.xml", true), ("group.xml", false), ("patient.json", true)];
    let wanted = wanted.map(|(name, valid)| (format!("guide/{name}"), valid));
    assert_eq!(valid[..5], wanted.each_ref().map(|(name, valid)| (name.as_str(), *valid)));
    assert_eq!(valid[5], ("guide/wrong.json", false));
    // A named file is meant to be a message, unless --all says otherwise.
    let code = |arguments: &[&str]| validate(folder.path(), arguments).status.code();
    assert_eq!((code(&["guide/patient.json"]), code(&["guide/patient.json", "--all"])), (Some(1), Some(0)));
}

#[test]
fn a_folder_has_a_summary_by_rule_and_errors_only_reports_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    guide(folder.path());
    let text = out(&validate(folder.path(), &["guide", "--errors-only"]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        (lines[0], lines[2]),
        ("guide/a.json: invalid, FHIR 4.0, 1 error", "guide/b.json: invalid, FHIR 4.0, 1 error")
    );
    assert!(!text.contains("c.xml") && !text.contains("warning"), "{text}");
    let summary = text.split("Summary by rule:\n").nth(1).unwrap_or_else(|| panic!("{text}"));
    let rows: Vec<Vec<&str>> = summary.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[..2], [["SEVERITY", "RULE", "ISSUES", "MESSAGES"], ["error", "binding", "2", "2"]]);
    assert_eq!(objects(&validate(folder.path(), &["guide", "--errors-only", "--format", "ndjson"]), 1).len(), 2);
}

/// Starts a command, writes a line to its standard input, which stays open, and presses Ctrl-C once it has printed a line.
fn interrupted(folder: &Path, arguments: &[&str], line: &str) -> (Option<i32>, String) {
    use std::io::{BufRead, BufReader, Read};
    let mut command = program(folder);
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(line.as_bytes()).unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    output.read_line(&mut text).unwrap();
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    output.read_to_string(&mut text).unwrap();
    (child.wait().unwrap().code(), text)
}

#[test]
fn after_ctrl_c_the_summary_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    // Two lines, so that the first is known to be a message of its own.
    let lines = format!("{}\n{}\n", message(|_| ()), message(|_| ()));
    let (code, text) = interrupted(folder.path(), &["validate", "-"], &lines);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains(" valid, 0 invalid\n") && text.ends_with("interrupted: the rest was not validated\n"),
        "{text}"
    );
    let to = ["send", "-", "--to", "http://127.0.0.1:1/fhir", "--concurrency", "1"];
    let (code, text) = interrupted(folder.path(), &to, &lines);
    assert!(matches!(code, Some(1 | 3)), "{text}");
    assert!(text.contains(" unreachable\n") && text.contains("interrupted: "), "{text}");
}
