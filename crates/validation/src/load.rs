//! Reading definition files: resources in JSON or XML, one by one, in Bundles or in packages, with every mistake told at once.
//!
//! Relies on files that the caller read. Passes over what defines nothing: messages, other resources, other files.

use super::definition::{Definition, DefinitionFile, Definitions, FocusRule};
use super::package::{self, Package};
use bytes::Bytes;
use emberpost_fhir::Event;
use emberpost_fhir::event::{Category, ResponseRequired};
use emberpost_fhir::version::FhirVersion;
use emberpost_fhir::xml;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The types kept beside MessageDefinition.
const KEPT_TYPES: [&str; 5] =
    ["GraphDefinition", "StructureDefinition", "ValueSet", "CodeSystem", "OperationDefinition"];

#[derive(Default)]
struct Loading {
    messages: Vec<Arc<Definition>>,
    resources: Vec<(Arc<Value>, Arc<str>)>,
    mistakes: Vec<String>,
    /// Names of the packages that were given.
    packages: HashSet<String>,
    /// What packages need: file, name and version.
    needed: Vec<(String, String, String)>,
    /// Of the package that is being read.
    fhir_version: Option<FhirVersion>,
    /// Path of the active definition of each canonical.
    active: HashMap<String, String>,
}

pub(super) fn load(files: &[DefinitionFile]) -> (Definitions, Vec<String>) {
    let mut loading = Loading::default();
    for file in files {
        loading.file(file);
    }
    let mut definitions =
        Definitions::index(std::mem::take(&mut loading.messages), std::mem::take(&mut loading.resources));
    definitions.notices = loading.missing_packages();
    (definitions, loading.mistakes)
}

impl Loading {
    fn file(&mut self, file: &DefinitionFile) {
        let path = &file.path;
        if ending(path) == "tgz" {
            match package::read(&file.bytes) {
                Ok(package) => self.package(path, package),
                Err(mistake) => self.mistakes.push(format!("{path}: {mistake}")),
            }
        } else {
            match value(path, &file.bytes, self.fhir_version) {
                Some(Ok(resource)) => self.resource(path, resource),
                Some(Err(mistake)) => self.mistakes.push(format!("{path}: {mistake}")),
                None => {}
            }
        }
    }

    fn package(&mut self, path: &str, package: Package) {
        let needed = package.dependencies.iter().filter(|(name, _)| !package::is_built_in(name));
        self.needed.extend(needed.map(|(name, version)| (path.to_owned(), name.clone(), version.clone())));
        self.fhir_version = package.fhir_version();
        self.packages.insert(package.name);
        for file in package.files {
            self.file(&DefinitionFile { path: format!("{path}#{}", file.path), bytes: file.bytes });
        }
        self.fhir_version = None;
    }

    /// A package that is not there makes nothing wrong by itself: what it would define is told where it is missed.
    fn missing_packages(&self) -> Vec<String> {
        let missing = self.needed.iter().filter(|(_, name, _)| !self.packages.contains(name));
        missing
            .map(|(path, name, version)| format!("{path}: needs the package {name} {version}, which is not given"))
            .collect()
    }

    fn resource(&mut self, path: &str, mut resource: Value) {
        match resource["resourceType"].as_str() {
            Some("MessageDefinition") => self.message(path, resource),
            Some("Bundle") if resource["type"] != "message" => {
                let entries = resource["entry"].as_array_mut().map(std::mem::take).unwrap_or_default();
                for mut entry in entries {
                    // What is no object has no members to take from.
                    let Some(inner) = entry.get_mut("resource").map(Value::take) else { continue };
                    // A Bundle within the Bundle is content, not a list of definitions.
                    if inner["resourceType"] != "Bundle" {
                        self.resource(path, inner);
                    }
                }
            }
            Some(kind) if KEPT_TYPES.contains(&kind) => self.resources.push((Arc::new(resource), Arc::from(path))),
            _ => {}
        }
    }

    fn message(&mut self, path: &str, resource: Value) {
        let found =
            read(resource, self.fhir_version).and_then(|definition| match (&definition.url, definition.active) {
                (Some(_), true) => match self.active.insert(definition.canonical(), path.to_owned()) {
                    Some(first) => Err(vec![format!(
                        "{} is active in {first} already; raise the version or retire one of the two",
                        definition.canonical()
                    )]),
                    None => Ok(definition),
                },
                _ => Ok(definition),
            });
        match found {
            Ok(definition) => self.messages.push(Arc::new(definition)),
            Err(mistakes) => self.mistakes.extend(mistakes.into_iter().map(|mistake| format!("{path}: {mistake}"))),
        }
    }
}

/// In small letters, as files are chosen by; empty without one.
fn ending(path: &str) -> String {
    path.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default()
}

/// The resource in a file, in JSON or XML; None for files that hold none.
fn value(path: &str, bytes: &[u8], version: Option<FhirVersion>) -> Option<Result<Value, String>> {
    let read = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|error| format!("is not JSON: {error}"));
    match ending(path).as_str() {
        "json" => Some(read(bytes)),
        "xml" => Some(of_xml(bytes, version).and_then(|json| read(&json))),
        _ => None,
    }
}

/// By the version that the definition says it is for, else its package's, else R4.
fn of_xml(bytes: &[u8], version: Option<FhirVersion>) -> Result<Bytes, String> {
    let version = said_version(bytes).or(version).unwrap_or(FhirVersion::R4);
    xml::to_json(Bytes::copy_from_slice(bytes), version).map_err(|issues| {
        let first = issues.into_iter().next().map(|issue| issue.diagnostics.to_string()).unwrap_or_default();
        format!("is no FHIR in XML: {first}")
    })
}

/// `<fhirVersion value="5.0.0"/>`, wherever it stands.
fn said_version(bytes: &[u8]) -> Option<FhirVersion> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (_, rest) = text.split_once("<fhirVersion")?;
    let value = rest.split_once("value=")?.1.trim_start_matches(['"', '\'']);
    FhirVersion::parse(value.split(['"', '\'']).next()?)
}

/// A MessageDefinition of R4, R4B or R5; errs with all its mistakes.
fn read(resource: Value, fhir_version: Option<FhirVersion>) -> Result<Definition, Vec<String>> {
    let mut mistakes = Vec::new();
    let text = |name: &str| resource[name].as_str().map(str::to_owned);
    let name = text("url").or(text("id")).unwrap_or_else(|| "MessageDefinition".to_owned());
    let event = event(&resource);
    if event.is_none() {
        mistakes.push(format!("{name} has no event; give it eventCoding with a code, or eventUri"));
    }
    if resource["status"].as_str().is_none() {
        mistakes.push(format!("{name} has no status; give it status active, draft, retired or unknown"));
    }
    let mut focus = Vec::new();
    for (index, rule) in list(&resource, "focus").enumerate() {
        match focus_rule(rule) {
            Ok(rule) => focus.push(rule),
            Err(mistake) => mistakes.push(format!("{name}: focus[{index}] {mistake}")),
        }
    }
    let (Some(event), true) = (event, mistakes.is_empty()) else { return Err(mistakes) };
    Ok(Definition {
        id: text("id"),
        url: text("url"),
        version: text("version"),
        fhir_version,
        event,
        category: resource["category"].as_str().and_then(Category::parse),
        response_required: resource["responseRequired"].as_str().and_then(ResponseRequired::parse),
        focus,
        allowed_responses: list(&resource, "allowedResponse")
            .filter_map(|allowed| Some(allowed["message"].as_str()?.to_owned()))
            .collect(),
        active: resource["status"] == "active",
        resource,
    })
}

fn list<'v>(resource: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    resource[name].as_array().into_iter().flatten()
}

fn event(resource: &Value) -> Option<Event> {
    let coding = &resource["eventCoding"];
    let uri = || Some(Event::Uri(resource["eventUri"].as_str()?.to_owned()));
    match coding["code"].as_str() {
        Some(code) => {
            Some(Event::Coding { system: coding["system"].as_str().map(str::to_owned), code: code.to_owned() })
        }
        None => uri(),
    }
}

fn focus_rule(rule: &Value) -> Result<FocusRule, String> {
    let code = rule["code"].as_str().ok_or("has no code; name a resource type")?.to_owned();
    let min = match &rule["min"] {
        Value::Null => 0,
        min => min.as_u64().and_then(|min| u32::try_from(min).ok()).ok_or("has a min that is no whole number")?,
    };
    let max = match &rule["max"] {
        Value::Null => None,
        Value::String(max) if max == "*" => None,
        max => Some(
            max.as_str()
                .and_then(|max| max.parse::<u32>().ok())
                .filter(|&max| max > 0)
                .ok_or("has a max that is neither * nor a number above 0 (md-1)")?,
        ),
    };
    if max.is_some_and(|max| max < min) {
        return Err("has a min above its max, which no message can meet".to_owned());
    }
    Ok(FocusRule { code, profile: rule["profile"].as_str().map(str::to_owned), min, max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use emberpost_fhir::event::Category;
    use serde_json::json;

    fn file(path: &str, resource: &Value) -> DefinitionFile {
        DefinitionFile { path: path.to_owned(), bytes: resource.to_string().into_bytes() }
    }

    fn definition(url: &str, version: &str) -> Value {
        json!({ "resourceType": "MessageDefinition", "url": url, "version": version, "status": "active",
            "date": "2026-01-01", "eventCoding": { "system": "urn:s", "code": "made" } })
    }

    #[test]
    fn every_shipped_definition_loads_without_a_mistake() {
        let (definitions, mistakes) = Definitions::load(&super::super::shipped::definitions());
        assert_eq!(mistakes, Vec::<String>::new());
        assert_eq!(definitions.messages.len(), 30);
        assert_eq!(definitions.events().count(), 15);
        for request in definitions.messages.iter().filter(|one| !one.allowed_responses.is_empty()) {
            assert_eq!(definitions.allowed_response_event(request).as_ref(), Some(&request.event));
            let category = request.category.expect("a category");
            let is_open = category == Category::Notification;
            assert_eq!(request.response_required.is_none(), is_open, "{}", request.canonical());
            let candidates = definitions.candidates(&request.event, false).expect("the event is known");
            assert_eq!(candidates.len(), 1, "one request definition for {}", request.event);
        }
    }

    #[test]
    fn an_ending_in_capitals_is_read_like_any_other() {
        let (definitions, mistakes) = Definitions::load(&[file("ONE.JSON", &definition("urn:one", "1"))]);
        assert_eq!((definitions.messages.len(), mistakes), (1, Vec::new()));
        let wrong = DefinitionFile { path: "GUIDE.TGZ".into(), bytes: b"no package".to_vec() };
        assert_eq!(Definitions::load(&[wrong]).1.len(), 1);
    }

    #[test]
    fn entries_that_are_no_objects_define_nothing() {
        let bundle = json!({ "resourceType": "Bundle", "type": "collection",
            "entry": ["text", 1, null, {}, { "resource": 1 }, { "resource": definition("urn:one", "1") }] });
        let (definitions, mistakes) = Definitions::load(&[file("bundle.json", &bundle)]);
        assert_eq!((definitions.messages.len(), mistakes), (1, Vec::new()));
    }

    #[test]
    fn every_mistake_is_told_with_its_path_and_the_rest_is_loaded() {
        let mut no_event = definition("urn:none", "1");
        no_event.as_object_mut().expect("an object").remove("eventCoding");
        let mut bad_max = definition("urn:max", "1");
        bad_max["focus"] =
            json!([{ "code": "Patient", "min": 0, "max": "0" }, { "code": "Patient", "min": 3, "max": "2" }]);
        let broken = DefinitionFile { path: "broken.json".into(), bytes: b"{".to_vec() };
        let xml = DefinitionFile { path: "one.xml".into(), bytes: b"<MessageDefinition/>".to_vec() };
        let readme = DefinitionFile { path: "README.md".into(), bytes: b"# no json".to_vec() };
        let (definitions, mistakes) = Definitions::load(&[
            file("a.json", &definition("urn:a", "1")),
            file("b.json", &definition("urn:a", "1")),
            file("c.json", &no_event),
            file("d.json", &bad_max),
            broken,
            xml,
            readme,
            file("patient.json", &json!({ "resourceType": "Patient" })),
        ]);
        assert_eq!(definitions.messages.len(), 1);
        let beginnings = [
            "b.json: urn:a|1 is active in a.json",
            "c.json: urn:none has no event",
            "d.json: urn:max: focus[0]",
            "d.json: urn:max: focus[1]",
            "broken.json: is not JSON",
            "one.xml: is no FHIR in XML",
        ];
        assert_eq!(mistakes.len(), beginnings.len(), "{mistakes:#?}");
        for (mistake, beginning) in mistakes.iter().zip(beginnings) {
            assert!(mistake.starts_with(beginning), "{mistake}");
        }
    }

    #[test]
    fn bundles_of_definitions_are_taken_apart_and_messages_are_passed_over() {
        let bundle = |kind| {
            json!({ "resourceType": "Bundle", "type": kind, "entry": [
            { "resource": definition("urn:a", "1") }, { "resource": { "resourceType": "ValueSet", "url": "urn:v" } }] })
        };
        let (definitions, mistakes) =
            Definitions::load(&[file("c.json", &bundle("collection")), file("m.json", &bundle("message"))]);
        assert!(mistakes.is_empty());
        assert_eq!((definitions.messages.len(), definitions.resources.len()), (1, 1));
        assert!(definitions.resource("ValueSet", "urn:v").is_some());
    }

    #[test]
    fn a_canonical_without_version_is_the_newest_active_by_number() {
        let mut draft = definition("urn:a", "2.0.0");
        draft["status"] = json!("draft");
        let (definitions, _) = Definitions::load(&[
            file("1.json", &definition("urn:a", "1.9.0")),
            file("2.json", &definition("urn:a", "1.10.0")),
            file("3.json", &draft),
        ]);
        let version = |canonical| definitions.by_canonical(canonical).and_then(|one| one.version.clone());
        assert_eq!(version("urn:a").as_deref(), Some("1.10.0"));
        assert_eq!(version("urn:a|1.9.0").as_deref(), Some("1.9.0"));
        assert_eq!(version("urn:a|2.0.0").as_deref(), Some("2.0.0"));
        assert_eq!(version("urn:a|3"), None);
    }
}
