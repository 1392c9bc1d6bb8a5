//! Reads FHIR packages: the definition files in an implementation guide's `.tgz`.
//!
//! A package is a gzipped tar whose files are in the folder `package`: `package.json` describes it, and every other
//! `.json` directly in that folder is a resource. Subfolders (examples, pages) are skipped. The number of files and
//! bytes is limited, so that no archive can exhaust the memory.

use emberpost_fhir::version::FhirVersion;
use flate2::read::GzDecoder;
use serde_json::Value;
use std::io::Read;

/// The maximum size of an unpacked package, in bytes.
const UNPACKED_LIMIT_BYTES: u64 = 256 << 20;
/// The maximum size of one of its files, in bytes.
const FILE_LIMIT_BYTES: u64 = 64 << 20;
/// The maximum number of files in a package, including skipped ones.
const FILES_LIMIT: usize = 50_000;

/// Packages whose definitions are built in: the base, its terminology, and its extensions.
const BUILT_IN: [&str; 2] = ["hl7.terminology", "hl7.fhir.uv.extensions"];

/// A definition file; the caller reads it. `path` appears in error texts.
#[derive(Clone, Debug)]
pub struct DefinitionFile {
    /// As the caller names it; the ending says what it is.
    pub path: String,
    /// The content of the file.
    pub bytes: Vec<u8>,
}

/// The content of a FHIR package.
#[derive(Clone, Debug, Default)]
pub struct Package {
    /// The name of the package.
    pub name: String,
    /// The version of the package, not of FHIR.
    pub version: String,
    /// As written, for example `4.0.1`.
    pub fhir_versions: Vec<String>,
    /// Name and version of each dependency.
    pub dependencies: Vec<(String, String)>,
    /// The resources in the order of the archive, with their paths within it.
    pub files: Vec<DefinitionFile>,
}

impl Package {
    /// The FHIR version of the package, if it declares exactly one that Emberpost reads.
    pub fn fhir_version(&self) -> Option<FhirVersion> {
        match self.fhir_versions.as_slice() {
            [only] => FhirVersion::parse(only),
            _ => None,
        }
    }
}

/// Whether the definitions of this package are built in: `hl7.fhir.r4.core`, `hl7.terminology.r4`, and so on.
pub fn is_built_in(name: &str) -> bool {
    let is_core =
        |name: &str| name.starts_with("hl7.fhir.r") && (name.ends_with(".core") || name.ends_with(".expansions"));
    BUILT_IN.iter().any(|begins| name.starts_with(begins)) || is_core(name)
}

/// Reads a package. Errs with a sentence that does not name the file, if this is not a gzipped tar with
/// `package/package.json`, or if it is larger than 256 MiB in total, 64 MiB in one file, or 50,000 files.
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
    let mut package = package.ok_or("has no package/package.json, so it is not a FHIR package")?;
    package.files = files;
    Ok(package)
}

/// The path of a file to read: JSON directly in `package`, except index files.
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
    format!("is not a readable gzipped tar: {error}")
}

#[cfg(test)]
pub(crate) mod tests;
