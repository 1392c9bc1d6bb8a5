//! Compiles the profiles of a corpus of real definitions, if one is given, and checks the messages beside them.

use super::*;
use crate::Choice;
use emberpost_fhir::xml;
use std::path::{Path, PathBuf};

/// Folders with all definitions of their chains, and how many of their messages rightly have errors.
const WHOLE: [(&str, FhirVersion); 2] =
    [("cdc-vrdr-messaging", FhirVersion::R4), ("hl7-austria-messaging-r5", FhirVersion::R5)];

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())));
    let mut found: Vec<PathBuf> = entries.into_iter().flatten().collect();
    found.sort();
    found
}

fn definitions(folder: &Path) -> (Definitions, Vec<String>) {
    let file = |path: PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        DefinitionFile { path: name, bytes: std::fs::read(path).expect("a file") }
    };
    Definitions::load(&files(&folder.join("definitions")).into_iter().map(file).collect::<Vec<_>>())
}

fn read(path: &Path, version: FhirVersion) -> Option<Message> {
    let bytes = Bytes::from(std::fs::read(path).expect("a file"));
    let tree = match path.extension()?.to_str()? {
        "xml" => xml::parse(bytes, Some(version), None).ok()?,
        _ => json::parse(bytes).ok()?,
    };
    Message::read(tree, Some(version), None).ok()
}

fn corpus() -> Option<PathBuf> {
    let folder = std::env::var("EMBERPOST_CORPUS").ok().map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: EMBERPOST_CORPUS is not set");
    }
    folder
}

#[test]
fn every_constraint_of_a_corpus_compiles() {
    let Some(corpus) = corpus() else { return };
    for folder in files(&corpus).into_iter().filter(|folder| folder.join("definitions").is_dir()) {
        let (definitions, _) = definitions(&folder);
        for version in [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5] {
            let (_, errors) = Profiles::compile(&definitions.catalog, version);
            let unread: Vec<&String> = errors.iter().filter(|error| error.contains("cannot be read")).collect();
            assert!(unread.is_empty(), "{}: {unread:#?}", folder.display());
        }
    }
}

#[test]
fn messages_of_a_corpus_are_checked_against_the_definitions_beside_them() {
    let Some(corpus) = corpus() else { return };
    for (name, version) in WHOLE {
        let folder = corpus.join(name);
        let (definitions, errors) = definitions(&folder);
        assert_eq!(errors, Vec::<String>::new());
        let (profiles, errors) = Profiles::compile(&definitions.catalog, version);
        assert_eq!(errors, Vec::<String>::new());
        let mut checked = 0;
        for message in files(&folder.join("messages")).iter().filter_map(|path| read(path, version)) {
            let definition = match definitions.catalog.choose(&message) {
                Choice::One(definition) => Some(definition),
                _ => None,
            };
            let issues = check_profiles(
                &message,
                definition.as_ref(),
                (&definitions.catalog, &profiles),
                ProfileOptions::default(),
            );
            let errors: Vec<&Issue> = issues.iter().filter(|issue| issue.is_error()).collect();
            assert!(errors.is_empty(), "{errors:#?}");
            checked += 1;
        }
        assert!(checked > 5, "{name}: {checked} messages");
    }
}
