//! What the validator says beside what the HL7 reference validator says: `docs/validation.md` is made by this test.
//!
//! `EMBERPOST_CORPUS` names the folder of real messages, `EMBERPOST_ORACLE` that of the outcome files
//! (`outcomes-corpus.ndjson`, `outcomes-mutants.ndjson`, and `mutate.py`, which makes the mutants and is run with
//! python3). With `EMBERPOST_VALIDATION_TABLE=write` the page is written, else compared.

mod located;
mod outcomes;
mod page;
mod tally;

use bytes::Bytes;
use emberpost::fhir::Issue;
use emberpost::validation::definition::Definitions;
use emberpost::validation::{Checks, Level, ProseRules, document};
use outcomes::{Outcome, Outcomes};
use std::path::Path;
use tally::Tally;

/// The outcome files' own explanations, by way or file: `key,explanation`.
const EXPLANATIONS: &str = include_str!("validation_report/explanations.csv");

/// What we say of a document.
pub struct Said {
    pub issues: Vec<Issue>,
}

impl Said {
    pub fn refuses(&self) -> bool {
        self.issues.iter().any(Issue::is_error)
    }
}

/// Our verdict, with prose as errors: the reference holds it so.
fn judge(file: &Path, outcome: &Outcome, definitions: &Definitions, prose_rules: ProseRules) -> Said {
    let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let checks = Checks { level: Level::Structure, prose_rules, take_unknown_events: true };
    let found = document::check_bytes(Bytes::from(bytes), outcome.version, |_| definitions.into(), checks);
    Said { issues: found.issues }
}

#[test]
fn the_page_of_validation_says_what_the_validator_says() {
    let folder = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
    let (Some(corpus), Some(oracle)) = (folder("EMBERPOST_CORPUS"), folder("EMBERPOST_ORACLE")) else {
        println!("skipped: EMBERPOST_CORPUS and EMBERPOST_ORACLE name no folders of messages and outcome files");
        return;
    };
    let outcomes = Outcomes::read(&oracle);
    let mutants = tempfile::tempdir().unwrap();
    outcomes::make_mutants(&oracle, &corpus, mutants.path());
    let definitions = Definitions::default();
    let mut tally = Tally::default();
    for outcome in &outcomes.corpus {
        let file = corpus.join(&outcome.id);
        let strict = judge(&file, outcome, &definitions, ProseRules::Error);
        let usual = judge(&file, outcome, &definitions, ProseRules::Warning);
        tally.corpus(outcome, &strict, &usual);
    }
    for outcome in &outcomes.mutants {
        let file = mutants.path().join(format!("{}.{}", outcome.id, outcome.format));
        tally.mutant(outcome, &judge(&file, outcome, &definitions, ProseRules::Error));
    }
    hold_to(&page::write(&tally, EXPLANATIONS));
}

#[track_caller]
fn hold_to(page: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/validation.md");
    if std::env::var("EMBERPOST_VALIDATION_TABLE").is_ok_and(|wish| wish == "write") {
        std::fs::write(&file, page).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(written, page, "docs/validation.md is no longer true");
}
