//! The published files of a version, as resources in an order that is always the same.

use crate::xml;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Files of the artefacts that hold more than the tables need.
const NEEDLESS: [&str; 2] = ["schema", "sp"];
/// Of the resources in packages, those that the tables are made from.
const KINDS: [&str; 3] = ["StructureDefinition-", "CodeSystem-", "ValueSet-"];

/// Every resource under the folder of an unpacked artefact: of its XML Bundles, and of the packages in it.
pub fn read(folder: &Path) -> Result<Vec<Value>> {
    let mut files = Vec::new();
    list(folder, &mut files)?;
    files.sort();
    let mut resources = Vec::new();
    for file in files {
        let name = file.extension().unwrap_or_default();
        if name == "xml" {
            let text = fs::read_to_string(&file)?;
            let text = text.trim_start_matches('\u{feff}');
            if text.contains("<Bundle") {
                resources.extend(xml::bundle(text).with_context(|| file.display().to_string())?);
            }
        } else if name == "tgz" {
            resources.extend(package(&file).with_context(|| file.display().to_string())?);
        }
    }
    Ok(resources)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let is_needed = !NEEDLESS.iter().any(|name| entry.file_name() == *name);
        if entry.file_type()?.is_dir() && is_needed {
            list(&entry.path(), files)?;
        } else if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// The definitions of a package, by the names of its files.
fn package(file: &Path) -> Result<Vec<Value>> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(file)?));
    let mut found: Vec<(PathBuf, Value)> = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_definition = KINDS.iter().any(|kind| name.starts_with(kind)) && name.ends_with(".json");
        if path.parent() == Some(Path::new("package")) && is_definition {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            found.push((path, serde_json::from_slice(&bytes)?));
        }
    }
    found.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(found.into_iter().map(|(_, resource)| resource).collect())
}
