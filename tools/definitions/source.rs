//! Reads the published files of a version, as resources in a fixed order.

use crate::xml;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Folders of the artifacts: those that the tables do not need, and search parameters.
const SCHEMAS: &str = "schema";
const SEARCH: &str = "sp";
/// The kinds of resources in packages from which the tables are made.
const KINDS: [&str; 3] = ["StructureDefinition-", "CodeSystem-", "ValueSet-"];
const SEARCH_KINDS: [&str; 1] = ["SearchParameter-"];

/// Every resource under the folder of an unpacked artifact: in its XML Bundles and in its packages. Search
/// parameters are read separately.
pub fn read(folder: &Path) -> Result<Vec<Value>> {
    resources(folder, &KINDS, |file| !is_of_search(file))
}

/// Every resource of one package.
pub fn read_package(file: &Path) -> Result<Vec<Value>> {
    package(file, &KINDS).with_context(|| file.display().to_string())
}

/// The search parameters under the folder.
pub fn search_parameters(folder: &Path) -> Result<Vec<Value>> {
    resources(folder, &SEARCH_KINDS, |file| is_of_search(file) || has_ending(file, "tgz"))
}

fn is_of_search(file: &Path) -> bool {
    file.parent().is_some_and(|folder| folder.ends_with(SEARCH))
}

fn has_ending(file: &Path, ending: &str) -> bool {
    file.extension().is_some_and(|found| found == ending)
}

/// `kinds`: the prefixes of the names of a package's files.
fn resources(folder: &Path, kinds: &[&str], is_wanted: impl Fn(&Path) -> bool) -> Result<Vec<Value>> {
    let mut files = Vec::new();
    list(folder, &mut files)?;
    files.retain(|file| is_wanted(file));
    files.sort();
    let mut resources = Vec::new();
    for file in files {
        let found = if has_ending(&file, "tgz") { package(&file, kinds) } else { bundle(&file) };
        resources.extend(found.with_context(|| file.display().to_string())?);
    }
    Ok(resources)
}

/// The resources of a Bundle in XML or JSON; empty for any other file.
fn bundle(file: &Path) -> Result<Vec<Value>> {
    if has_ending(file, "xml") {
        let text = fs::read_to_string(file)?;
        let text = text.trim_start_matches('\u{feff}');
        return if text.contains("<Bundle") { xml::bundle(text) } else { Ok(Vec::new()) };
    }
    if !has_ending(file, "json") {
        return Ok(Vec::new());
    }
    let mut bundle: Value = serde_json::from_slice(&fs::read(file)?)?;
    let entries = bundle.get_mut("entry").and_then(Value::as_array_mut);
    let resources = entries.into_iter().flatten().map(|entry| entry["resource"].take());
    Ok(resources.collect())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.file_name() != SCHEMAS {
            list(&entry.path(), files)?;
        } else if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// The definitions in a package, by the names of its files.
fn package(file: &Path, kinds: &[&str]) -> Result<Vec<Value>> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(file)?));
    let mut found: Vec<(PathBuf, Value)> = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_definition = kinds.iter().any(|kind| name.starts_with(kind)) && name.ends_with(".json");
        if path.parent() == Some(Path::new("package")) && is_definition {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            found.push((path, serde_json::from_slice(&bytes)?));
        }
    }
    found.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(found.into_iter().map(|(_, resource)| resource).collect())
}
