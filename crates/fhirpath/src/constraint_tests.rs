//! Parses every published constraint.

use super::Expression;
use emberpost_fhir::schema::{Schema, search_parameters};
use emberpost_fhir::{FhirVersion, json};
use regex::Regex;
use std::path::{Path, PathBuf};

#[test]
fn every_constraint_of_the_base_specification_is_parsed() {
    for version in [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5] {
        let constraints = &Schema::of(version).constraints;
        assert!(constraints.len() > 200, "{version:?} has {} constraints", constraints.len());
        for constraint in constraints {
            let read = Expression::parse(&constraint.expression);
            assert!(read.is_ok(), "{version:?} {}: {} {read:?}", constraint.key, constraint.expression);
        }
    }
}

#[test]
fn every_search_parameter_of_the_base_specification_is_parsed() {
    for version in [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5] {
        for parameter in search_parameters(version).iter() {
            let parts = parameter.components.iter().map(|(_, expression)| expression);
            for expression in parts.chain([&parameter.expression]).filter(|expression| !expression.is_empty()) {
                let read = Expression::parse(expression);
                assert!(read.is_ok(), "{version:?} {}: {expression} {read:?}", parameter.url);
            }
        }
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// The constraint expressions in a StructureDefinition; empty for anything else.
fn expressions(path: &Path) -> Vec<String> {
    let Ok(bytes) = std::fs::read(path) else { return Vec::new() };
    let text = String::from_utf8_lossy(&bytes);
    if !text.contains("StructureDefinition") {
        return Vec::new();
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => {
            let Ok(tree) = json::parse(bytes.clone().into()) else { return Vec::new() };
            let root = tree.root();
            if root.get("resourceType").and_then(|node| node.text()).as_deref() != Some("StructureDefinition") {
                return Vec::new();
            }
            let parts = ["snapshot", "differential"].into_iter().filter_map(|part| root.get(part)?.get("element"));
            let constraints = parts.flat_map(|part| part.items()).filter_map(|element| element.get("constraint"));
            let written = constraints.flat_map(|node| node.items()).filter_map(|one| one.get("expression")?.text());
            written.map(|text| text.into_owned()).collect()
        }
        Some("xml") if text.contains("<StructureDefinition") => {
            let constraint = Regex::new(r#"(?s)<constraint>.*?</constraint>"#).expect("a pattern");
            let expression = Regex::new(r#"<expression value="([^"]*)""#).expect("a pattern");
            let written = constraint.find_iter(&text).filter_map(|found| expression.captures(found.as_str()));
            written.map(|found| plain(&found[1])).collect()
        }
        _ => Vec::new(),
    }
}

fn plain(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    text.replace("&#39;", "'").replace("&#10;", "\n").replace("&amp;", "&")
}

#[test]
fn every_constraint_of_the_corpus_is_parsed() {
    let Some(folder) = std::env::var_os("EMBERPOST_CORPUS") else {
        println!("skipped: EMBERPOST_CORPUS names no folder with messages and definitions");
        return;
    };
    let mut paths = Vec::new();
    files(Path::new(&folder), &mut paths);
    let (mut count, mut broken) = (0, 0);
    for path in paths {
        for expression in expressions(&path) {
            count += 1;
            if let Err(error) = Expression::parse(&expression) {
                broken += 1;
                println!("{}: {expression}: {error}", path.display());
            }
        }
    }
    println!("{count} expressions");
    assert!(count > 0 && broken == 0, "{broken} of {count}");
}
