//! Reads definition files: resources in JSON or XML, single, in Bundles, or in packages. Reports all errors at once.
//!
//! The caller reads the files. Messages, other resources, and other files are skipped.

use super::catalog::Catalog;
use super::message_definition::{Definition, FocusRule};
use super::package::{self, DefinitionFile, Package};
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

/// What was read.
pub(super) struct Loaded {
    pub catalog: Catalog,
    /// Packages that are needed and were not given, each with the file that needs it.
    pub notices: Vec<String>,
    /// Each begins with the file.
    pub errors: Vec<String>,
}

pub(super) fn load(files: &[DefinitionFile]) -> Loaded {
    let mut loading = Loading::default();
    for file in files {
        loading.file(file);
    }
    let notices = loading.missing_packages();
    Loaded { catalog: Catalog::index(loading.messages, loading.resources), notices, errors: loading.errors }
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
mod tests;
