//! Round trips of real messages: each file of the corpus is equal by value afterwards, or is refused with a reason.
//!
//! The corpus is not part of the repository. `EMBERPOST_CORPUS` names its folder; without it, nothing is tested.

use super::*;
use crate::Message;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of the folder with one of these extensions, sorted.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if path.extension().is_some_and(|end| endings.iter().any(|ending| end == *ending)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn corpus() -> Option<PathBuf> {
    let root = std::env::var_os("EMBERPOST_CORPUS").map(PathBuf::from);
    if root.is_none() {
        println!("EMBERPOST_CORPUS is not set: no real messages are converted");
    }
    root
}

/// The version of the message, else R4. Only the folder distinguishes R4B from R4.
fn version(tree: &Arc<Tree>, file: &Path) -> FhirVersion {
    let expected = file.iter().any(|part| part == "R4B").then_some(FhirVersion::R4B);
    Message::read(tree.clone(), None, expected).map_or(FhirVersion::R4, |message| message.version)
}

/// Reason, rule, and expression, with line and column.
fn reasons(issues: &[Issue]) -> String {
    let reason = |issue: &Issue| {
        let at = issue.expression.as_deref().unwrap_or("-");
        format!("{} {at} {:?} {}", issue.rule.as_deref().unwrap_or_default(), issue.position, issue.diagnostics)
    };
    issues.iter().take(3).map(reason).collect::<Vec<_>>().join("; ")
}

#[test]
fn every_json_message_of_the_corpus_comes_back_from_xml_equal_or_is_refused() {
    let Some(root) = corpus() else { return };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for file in
        files(&root, &["json", "fhir"]).iter().filter(|file| file.parent().is_some_and(|at| at.ends_with("messages")))
    {
        let name = file.strip_prefix(&root).unwrap().display();
        let Ok(tree) = json_reader::parse(Bytes::from(fs::read(file).unwrap())).map(Arc::new) else {
            *counts.entry("no JSON".to_owned()).or_default() += 1;
            println!("{name}: no JSON");
            continue;
        };
        let version = version(&tree, file);
        let written = match write(tree.root(), Schema::of(version)) {
            Ok(written) => written,
            Err(issues) => {
                println!("{name}: {}", reasons(&issues));
                *counts.entry("has no XML form".to_owned()).or_default() += 1;
                continue;
            }
        };
        let back = parse(Bytes::from(written), Some(version), None)
            .unwrap_or_else(|issues| panic!("{name}: {}", reasons(&issues)));
        assert!(is_same(tree.root(), back.root()), "{name}");
        assert!(is_as_json_reads(&back), "{name}");
        if let (Ok(one), Ok(other)) = (Message::read(tree, None, None), Message::read(back, None, None)) {
            assert_eq!(one.identity(), other.identity(), "{name}");
        }
        *counts.entry("equal".to_owned()).or_default() += 1;
    }
    println!("{counts:?}");
    assert!(counts.get("equal").is_some_and(|equal| *equal > 300));
}

#[test]
fn every_xml_file_of_the_corpus_comes_back_equal_or_is_refused() {
    let Some(root) = corpus() else { return };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for file in files(&root, &["xml"]) {
        let name = file.strip_prefix(&root).unwrap().display();
        let mut count = |what: &str| *counts.entry(what.to_owned()).or_default() += 1;
        let tree = match parse(Bytes::from(fs::read(&file).unwrap()), None, None) {
            Ok(tree) => Arc::new(tree),
            Err(issues) => {
                println!("{name}: {}", reasons(&issues));
                count("cannot be read");
                continue;
            }
        };
        assert!(is_as_json_reads(&tree), "{name}");
        if !tree.notes.is_empty() {
            println!("{name}: noted: {}", reasons(&tree.notes));
            count("with notes");
        }
        match write(tree.root(), Schema::of(version(&tree, &file))) {
            Err(issues) => {
                println!("{name}: {}", reasons(&issues));
                count("has no XML form");
            }
            Ok(written) => {
                let back = parse(Bytes::from(written), Some(version(&tree, &file)), None)
                    .unwrap_or_else(|issues| panic!("{name}: {}", reasons(&issues)));
                assert!(is_same(tree.root(), back.root()), "{name}");
                assert!(back.notes.iter().all(|note| note.rule.as_deref() == Some("XML-02")), "{name}");
                count("equal");
            }
        }
    }
    println!("{counts:?}");
    assert!(counts.get("equal").is_some_and(|equal| *equal > 150));
}
