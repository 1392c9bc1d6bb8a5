//! Reads definition files: resources in JSON or XML, single, in Bundles, or in packages. Reports all errors at once.
//!
//! The caller reads the files. Messages, other resources, and other files are skipped.

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

/// The types that are loaded besides MessageDefinition.
const KEPT_TYPES: [&str; 5] =
    ["GraphDefinition", "StructureDefinition", "ValueSet", "CodeSystem", "OperationDefinition"];

#[derive(Default)]
struct Loading {
    messages: Vec<Arc<Definition>>,
    resources: Vec<(Arc<Value>, Arc<str>)>,
    errors: Vec<String>,
    /// Names of the loaded packages.
    packages: HashSet<String>,
    /// Dependencies of packages: file, name, and version.
    needed: Vec<(String, String, String)>,
    /// The version of the package that is being read.
    fhir_version: Option<FhirVersion>,
    /// The path of the active definition of each canonical.
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
    (definitions, loading.errors)
}

impl Loading {
    fn file(&mut self, file: &DefinitionFile) {
        let path = &file.path;
        if ending(path) == "tgz" {
            match package::read(&file.bytes) {
                Ok(package) => self.package(path, package),
                Err(error) => self.errors.push(format!("{path}: {error}")),
            }
        } else {
            match value(path, &file.bytes, self.fhir_version) {
                Some(Ok(resource)) => self.resource(path, resource),
                Some(Err(error)) => self.errors.push(format!("{path}: {error}")),
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

    /// A missing package is not an error by itself: a definition that is missed is reported where it is needed.
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
                    // A resource that is not an object has no members to read.
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
                        "{} is already active in {first}; raise the version or retire one of the two",
                        definition.canonical()
                    )]),
                    None => Ok(definition),
                },
                _ => Ok(definition),
            });
        match found {
            Ok(definition) => self.messages.push(Arc::new(definition)),
            Err(errors) => self.errors.extend(errors.into_iter().map(|error| format!("{path}: {error}"))),
        }
    }
}

/// The file extension in lower case; empty if there is none.
fn ending(path: &str) -> String {
    path.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default()
}

/// Parses the resource in a file, by its extension; None for files that do not contain one.
fn value(path: &str, bytes: &[u8], version: Option<FhirVersion>) -> Option<Result<Value, String>> {
    let read = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|error| format!("is not JSON: {error}"));
    match ending(path).as_str() {
        "json" => Some(read(bytes)),
        "xml" => Some(of_xml(bytes, version).and_then(|json| read(&json))),
        _ => None,
    }
}

/// Converts XML to JSON, by the FHIR version that the definition declares, else its package's, else R4.
fn of_xml(bytes: &[u8], version: Option<FhirVersion>) -> Result<Bytes, String> {
    let version = declared_version(bytes).or(version).unwrap_or(FhirVersion::R4);
    xml::to_json(Bytes::copy_from_slice(bytes), version).map_err(|issues| {
        let first = issues.into_iter().next().map(|issue| issue.diagnostics.to_string()).unwrap_or_default();
        format!("is not valid FHIR XML: {first}")
    })
}

/// The value of `<fhirVersion value="5.0.0"/>`, anywhere in the document.
fn declared_version(bytes: &[u8]) -> Option<FhirVersion> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (_, rest) = text.split_once("<fhirVersion")?;
    let value = rest.split_once("value=")?.1.trim_start_matches(['"', '\'']);
    FhirVersion::parse(value.split(['"', '\'']).next()?)
}

/// Reads a MessageDefinition of R4, R4B, or R5. Errs with everything that is wrong with it.
fn read(resource: Value, fhir_version: Option<FhirVersion>) -> Result<Definition, Vec<String>> {
    let mut errors = Vec::new();
    let text = |name: &str| resource[name].as_str().map(str::to_owned);
    let name = text("url").or(text("id")).unwrap_or_else(|| "MessageDefinition".to_owned());
    let event = event(&resource);
    if event.is_none() {
        errors.push(format!("{name} has no event; give it eventCoding with a code, or eventUri"));
    }
    if resource["status"].as_str().is_none() {
        errors.push(format!("{name} has no status; give it status active, draft, retired or unknown"));
    }
    let mut focus = Vec::new();
    for (index, rule) in list(&resource, "focus").enumerate() {
        match focus_rule(rule) {
            Ok(rule) => focus.push(rule),
            Err(error) => errors.push(format!("{name}: focus[{index}] {error}")),
        }
    }
    let (Some(event), true) = (event, errors.is_empty()) else { return Err(errors) };
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
        min => min.as_u64().and_then(|min| u32::try_from(min).ok()).ok_or("has a min that is not a whole number")?,
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
        return Err("has a min above its max, which no message can satisfy".to_owned());
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
    fn every_shipped_definition_loads_without_an_error() {
        let (definitions, errors) = Definitions::load(&super::super::shipped::definitions());
        assert_eq!(errors, Vec::<String>::new());
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
        let (definitions, errors) = Definitions::load(&[file("ONE.JSON", &definition("urn:one", "1"))]);
        assert_eq!((definitions.messages.len(), errors), (1, Vec::new()));
        let wrong = DefinitionFile { path: "GUIDE.TGZ".into(), bytes: b"no package".to_vec() };
        assert_eq!(Definitions::load(&[wrong]).1.len(), 1);
    }

    #[test]
    fn entries_that_are_not_objects_define_nothing() {
        let bundle = json!({ "resourceType": "Bundle", "type": "collection",
            "entry": ["text", 1, null, {}, { "resource": 1 }, { "resource": definition("urn:one", "1") }] });
        let (definitions, errors) = Definitions::load(&[file("bundle.json", &bundle)]);
        assert_eq!((definitions.messages.len(), errors), (1, Vec::new()));
    }

    #[test]
    fn every_error_is_reported_with_its_path_and_the_rest_is_loaded() {
        let mut no_event = definition("urn:none", "1");
        no_event.as_object_mut().expect("an object").remove("eventCoding");
        let mut bad_max = definition("urn:max", "1");
        bad_max["focus"] =
            json!([{ "code": "Patient", "min": 0, "max": "0" }, { "code": "Patient", "min": 3, "max": "2" }]);
        let broken = DefinitionFile { path: "broken.json".into(), bytes: b"{".to_vec() };
        let xml = DefinitionFile { path: "one.xml".into(), bytes: b"<MessageDefinition/>".to_vec() };
        let readme = DefinitionFile { path: "README.md".into(), bytes: b"# no json".to_vec() };
        let (definitions, errors) = Definitions::load(&[
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
            "b.json: urn:a|1 is already active in a.json",
            "c.json: urn:none has no event",
            "d.json: urn:max: focus[0]",
            "d.json: urn:max: focus[1]",
            "broken.json: is not JSON",
            "one.xml: is not valid FHIR XML",
        ];
        assert_eq!(errors.len(), beginnings.len(), "{errors:#?}");
        for (error, beginning) in errors.iter().zip(beginnings) {
            assert!(error.starts_with(beginning), "{error}");
        }
    }

    #[test]
    fn bundles_of_definitions_are_read_and_messages_are_skipped() {
        let bundle = |kind| {
            json!({ "resourceType": "Bundle", "type": kind, "entry": [
            { "resource": definition("urn:a", "1") }, { "resource": { "resourceType": "ValueSet", "url": "urn:v" } }] })
        };
        let (definitions, errors) =
            Definitions::load(&[file("c.json", &bundle("collection")), file("m.json", &bundle("message"))]);
        assert!(errors.is_empty());
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
