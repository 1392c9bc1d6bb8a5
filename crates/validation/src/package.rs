//! FHIR packages: an IG's `.tgz` as the definition files it holds.
//!
//! A gzipped tar with everything in the folder `package`: `package.json` says what it is, every other `.json` right
//! beside it is a resource. Sub-folders (examples, pages) are passed over. Bounded in files and bytes, so that no archive
//! can fill the memory.

use super::definition::DefinitionFile;
use emberpost_fhir::version::FhirVersion;
use flate2::read::GzDecoder;
use serde_json::Value;
use std::io::Read;

/// Most bytes of a package, unpacked.
const UNPACKED_LIMIT_BYTES: u64 = 256 << 20;
/// Most bytes of one of its files.
const FILE_LIMIT_BYTES: u64 = 64 << 20;
/// Most files in a package, those that are passed over too.
const FILES_LIMIT: usize = 50_000;

/// Packages whose definitions are part of the program: the base, its terminology and its extensions.
const BUILT_IN: [&str; 2] = ["hl7.terminology", "hl7.fhir.uv.extensions"];

#[derive(Clone, Debug, Default)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// As written: `4.0.1`.
    pub fhir_versions: Vec<String>,
    /// Name and version of each.
    pub dependencies: Vec<(String, String)>,
    /// The resources, in the order of the archive; the path is that within the archive.
    pub files: Vec<DefinitionFile>,
}

impl Package {
    /// The version of FHIR that it is for, where it is exactly one that Emberpost reads.
    pub fn fhir_version(&self) -> Option<FhirVersion> {
        match self.fhir_versions.as_slice() {
            [only] => FhirVersion::parse(only),
            _ => None,
        }
    }
}

/// Whether what a package of this name defines is part of the program: `hl7.fhir.r4.core`, `hl7.terminology.r4` …
pub fn is_built_in(name: &str) -> bool {
    let is_core =
        |name: &str| name.starts_with("hl7.fhir.r") && (name.ends_with(".core") || name.ends_with(".expansions"));
    BUILT_IN.iter().any(|begins| name.starts_with(begins)) || is_core(name)
}

/// Reads a package. Errs with a sentence, without the file's name: no gzip, no tar, no `package/package.json`, or larger
/// than 256 MiB in all, 64 MiB in one file, or 50,000 files.
pub fn read(bytes: &[u8]) -> Result<Package, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(bytes).take(UNPACKED_LIMIT_BYTES));
    let mut package = None;
    let mut files = Vec::new();
    let mut read_bytes = 0;
    let entries = archive.entries().map_err(unreadable)?;
    for (count, entry) in entries.enumerate() {
        let mut entry = entry.map_err(unreadable)?;
        if count >= FILES_LIMIT {
            return Err(format!("holds more than {FILES_LIMIT} files"));
        }
        let Some(name) = wanted(&entry) else { continue };
        if entry.size() > FILE_LIMIT_BYTES {
            return Err(format!("{name} has more than {FILE_LIMIT_BYTES} bytes"));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(unreadable)?;
        read_bytes += content.len() as u64;
        if read_bytes >= UNPACKED_LIMIT_BYTES {
            return Err(format!("has more than {UNPACKED_LIMIT_BYTES} bytes unpacked"));
        }
        match name.as_str() {
            "package/package.json" => package = Some(manifest(&content)?),
            _ => files.push(DefinitionFile { path: name, bytes: content }),
        }
    }
    let mut package = package.ok_or("has no package/package.json; it is no FHIR package")?;
    package.files = files;
    Ok(package)
}

/// The path of a file that is read: JSON right in `package`, and no index.
fn wanted(entry: &tar::Entry<impl Read>) -> Option<String> {
    let is_file = entry.header().entry_type().is_file();
    let path = String::from_utf8(entry.path_bytes().into_owned()).ok()?;
    let path = path.strip_prefix("./").unwrap_or(&path);
    let name = path.strip_prefix("package/")?;
    (is_file && name.ends_with(".json") && !name.contains('/') && !name.starts_with('.')).then(|| path.to_owned())
}

fn manifest(content: &[u8]) -> Result<Package, String> {
    let manifest: Value =
        serde_json::from_slice(content).map_err(|error| format!("package.json is not JSON: {error}"))?;
    let text = |name: &str| manifest[name].as_str().map(str::to_owned);
    let name = text("name").ok_or("package.json has no name")?;
    let versions = ["fhirVersions", "fhir-version-list"].into_iter().find_map(|name| manifest[name].as_array());
    let versions = versions.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let dependencies = manifest["dependencies"].as_object().into_iter().flatten();
    let dependencies =
        dependencies.map(|(name, version)| (name.clone(), version.as_str().unwrap_or_default().to_owned())).collect();
    let version = text("version").unwrap_or_default();
    Ok(Package { name, version, fhir_versions: versions, dependencies, files: Vec::new() })
}

fn unreadable(error: std::io::Error) -> String {
    format!("is no gzipped tar that can be read: {error}")
}

#[cfg(test)]
pub(super) mod tests;
