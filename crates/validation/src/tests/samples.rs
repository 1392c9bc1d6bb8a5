//! The shipped samples, and a corpus of real messages if one is given.

use super::*;

#[test]
fn every_sample_passes_under_the_shipped_definitions() {
    let definitions = Definitions::load(&shipped::definitions()).0;
    let samples = shipped::samples();
    assert!(definitions.catalog.events().all(|event| {
        let code = event.code().rsplit('/').next().unwrap_or_default();
        samples.iter().any(|sample| sample.path == format!("{code}-request.json"))
    }));
    for sample in samples {
        let version = if sample.path.contains("-r5") { FhirVersion::R5 } else { FhirVersion::R4 };
        let tree = json::parse(Bytes::from(sample.bytes)).expect("JSON");
        let read = Message::read(tree, None, None).expect("a message");
        assert_eq!(read.version, version, "{}", sample.path);
        let checks =
            Checks { level: Level::Structure, prose_rules: ProseRules::Error, take_unknown_events: false, now_us: 0 };
        let checked = check(&read, &definitions, checks);
        assert_eq!(found(&checked), [], "{}", sample.path);
        assert!(checked.definition.is_some() && read.header.destinations.is_empty() && read.has_identity());
        assert_eq!(read.identity().transmission.is_some(), version != FhirVersion::R5, "{}", sample.path);
    }
}

#[test]
fn a_corpus_passes_but_for_named_rules() {
    let Ok(folder) = std::env::var("EMBERPOST_CORPUS") else {
        println!("skipped: EMBERPOST_CORPUS is not set");
        return;
    };
    let (mut taken, mut refused, mut unreadable) = (0, 0, 0);
    let mut counts = std::collections::BTreeMap::new();
    for path in corpus_messages(std::path::Path::new(&folder)) {
        let bytes = Bytes::from(std::fs::read(&path).expect("a file"));
        let Ok(message) = json::parse(bytes).and_then(|tree| Message::read(tree, None, None)) else {
            unreadable += 1;
            continue;
        };
        let checked = check(&message, &Definitions::default(), LAX);
        let errors = checked.issues.iter().filter(|issue| issue.is_error()).collect::<Vec<_>>();
        let rules = errors.iter().map(|issue| issue.rule.clone().expect("a rule for every error")).collect::<Vec<_>>();
        if rules.is_empty() {
            taken += 1;
        } else {
            refused += 1;
            println!("{} {rules:?}", path.display());
        }
        for rule in rules {
            *counts.entry(rule).or_insert(0) += 1;
        }
    }
    println!("taken {taken}, refused {refused}, unreadable {unreadable}; errors by rule: {counts:?}");
    assert!(taken * 10 >= (taken + refused) * 9, "nine of ten messages pass");
}

fn corpus_messages(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let sources =
        std::fs::read_dir(folder).expect("the corpus").filter_map(|entry| Some(entry.ok()?.path().join("messages")));
    let folders = sources.filter_map(|messages| std::fs::read_dir(messages).ok());
    let files = folders.flatten().filter_map(|entry| Some(entry.ok()?.path()));
    files.filter(|path| path.extension().is_some_and(|ending| ending != "xml")).collect()
}
