//! The outcome files: what the reference says of each message and mutant, and what is expected of a validator.

use emberpost::fhir::FhirVersion;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Refused,
    Accepted,
    /// The specification allows both.
    Either,
}

impl Expected {
    fn of(text: &str) -> Expected {
        match text {
            "refused" => Expected::Refused,
            "accepted" => Expected::Accepted,
            "either" => Expected::Either,
            other => panic!("an outcome that nobody knows: {other}"),
        }
    }
}

/// One line of an outcome file.
pub struct Outcome {
    /// Of a message its file, from the corpus down.
    pub id: String,
    pub way: String,
    pub group: String,
    /// None: a version that is not read (STU3).
    pub version: Option<FhirVersion>,
    pub format: String,
    /// The element that was changed; empty where text or XML was.
    pub at: String,
    /// Of a message as `refused`.
    pub expected: Expected,
    pub refused: bool,
    /// The rules of the reference's errors.
    pub rules: Vec<String>,
}

pub struct Outcomes {
    pub corpus: Vec<Outcome>,
    pub mutants: Vec<Outcome>,
}

impl Outcomes {
    pub fn read(folder: &Path) -> Outcomes {
        let lines = |name: &str| {
            let text = std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let outcomes = text.lines().map(|line| outcome(&serde_json::from_str(&whole(line)).unwrap()));
            outcomes.filter(|outcome| outcome.version.is_some()).collect::<Vec<_>>()
        };
        Outcomes { corpus: lines("outcomes-corpus.ndjson"), mutants: lines("outcomes-mutants.ndjson") }
    }
}

/// Without escapes of surrogates: texts that quote half a pair hold them, and no JSON reader takes that.
fn whole(line: &str) -> String {
    ["\\ud", "\\uD"].iter().fold(line.to_owned(), |line, escape| line.replace(escape, "\\u0"))
}

fn outcome(line: &Value) -> Outcome {
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let version = match line["version"].as_str() {
        Some("R4") => Some(FhirVersion::R4),
        Some("R4B") => Some(FhirVersion::R4B),
        Some("R5") => Some(FhirVersion::R5),
        _ => None,
    };
    let issues = line["issues"].as_array().into_iter().flatten();
    let errors = issues.filter(|issue| matches!(issue[0].as_str(), Some("error" | "fatal")));
    let mut rules = errors.filter_map(|issue| issue[2].as_str().map(str::to_owned)).collect::<Vec<_>>();
    rules.sort();
    rules.dedup();
    Outcome {
        id: line["id"].as_str().or(line["file"].as_str()).unwrap().to_owned(),
        way: text("way"),
        group: text("group"),
        version,
        format: text("format"),
        at: text("at"),
        expected: Expected::of(line["expected"].as_str().or(line["verdict"].as_str()).unwrap()),
        refused: line["verdict"] == "refused",
        rules,
    }
}

/// Writes the mutants and their bases as `<id>.<format>`.
pub fn make_mutants(oracle: &Path, corpus: &Path, to: &Path) {
    let script = oracle.join("mutate.py");
    let made =
        Command::new("python3").arg(script).arg("--corpus").arg(corpus).arg("--out").arg(to).arg("--bases").output();
    let made = made.expect("python3 makes the mutants");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
