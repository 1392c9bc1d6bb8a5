//! The issues that the HL7 reference validator found in real messages and in mutants, compared with Emberpost's.
//!
//! The folder has `outcomes-corpus.ndjson`, `outcomes-mutants.ndjson`, and `mutate.py`, which makes the mutants from
//! the corpus. Each line gives the FHIR version as which a message was read, and what a validator is expected to do.

use emberpost::clock::Clock;
use fhir::{FhirVersion, Format, Issue};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use validation::definition::Definitions;
use validation::{Checks, Level, ProseRules, check_document};

/// Classes of issues that count against a message; the others are specific to the reference, or need a terminology
/// server.
const COUNTED: [&str; 10] =
    ["syntax", "base", "binding", "invariant", "narrative", "reference", "extension", "bundle", "prose", "crash"];

/// Severity, class, rule, expression, line, column. The text is truncated, possibly within a character.
type ReferenceIssue = (String, String, String, String, i64, i64, IgnoredAny);

#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    /// For the corpus: the path.
    #[serde(default)]
    pub file: String,
    /// For a mutant: its kind of change and base message, joined by `~`.
    #[serde(default)]
    pub id: String,
    /// For a mutant: the kind of change; `base` for an unchanged message.
    #[serde(default, rename = "way")]
    pub change: String,
    #[serde(default)]
    pub group: String,
    /// The element that was changed; empty if that is the text or XML.
    #[serde(default)]
    pub at: String,
    pub version: String,
    pub format: String,
    /// For the corpus: the number of errors of the classes that count.
    #[serde(default)]
    pub errors: usize,
    /// For a mutant: `refused`, `accepted`, or `either`.
    #[serde(default)]
    pub expected: String,
    #[serde(default)]
    pub issues: Vec<ReferenceIssue>,
}

/// One message with the results of both validators.
pub struct Judged {
    pub line: Line,
    pub issues: Vec<Issue>,
}

/// The folders.
pub struct Source {
    pub corpus: PathBuf,
    pub oracle: PathBuf,
}

/// Emberpost's issues at level structure for this version, with prose rules as errors and any event accepted.
pub fn check(bytes: Vec<u8>, format: Format, version: FhirVersion) -> Vec<Issue> {
    let checks = Checks {
        level: Level::Structure,
        prose_rules: ProseRules::Error,
        take_unknown_events: true,
        now_us: Clock::default().now_us(),
    };
    check_document(bytes.into(), format, Some(version), &Definitions::default(), checks).1
}

impl Source {
    /// From `EMBERPOST_CORPUS` and `EMBERPOST_ORACLE`; None if one is not set.
    pub fn of_environment() -> Option<Source> {
        let folder = |name| std::env::var_os(name).map(PathBuf::from);
        Some(Source { corpus: folder("EMBERPOST_CORPUS")?, oracle: folder("EMBERPOST_ORACLE")? })
    }

    /// Every message of the corpus that is R4, R4B, or R5, including those of `invalid/`.
    pub fn corpus(&self) -> io::Result<Vec<Judged>> {
        let lines = read(&self.oracle.join("outcomes-corpus.ndjson"))?;
        judge(lines, |line| std::fs::read(self.corpus.join(&line.file)))
    }

    /// Every mutant, without the unchanged base messages.
    pub fn mutants(&self, made: &Path) -> io::Result<Vec<Judged>> {
        let mut script = Command::new("python3");
        script.arg(self.oracle.join("mutate.py")).arg("--corpus").arg(&self.corpus).arg("--out").arg(made);
        let status = script.stdout(Stdio::null()).status()?;
        if !status.success() {
            return Err(io::Error::other("mutate.py failed"));
        }
        let lines = read(&self.oracle.join("outcomes-mutants.ndjson"))?;
        let lines = lines.into_iter().filter(|line| line.change != "base").collect();
        judge(lines, |line| std::fs::read(made.join(format!("{}.{}", line.id, line.format))))
    }
}

fn read(path: &Path) -> io::Result<Vec<Line>> {
    let text = std::fs::read_to_string(path)?;
    text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::other)).collect()
}

fn judge(lines: Vec<Line>, bytes: impl Fn(&Line) -> io::Result<Vec<u8>>) -> io::Result<Vec<Judged>> {
    let mut judged = Vec::with_capacity(lines.len());
    for line in lines {
        let version = match line.version.as_str() {
            "R4" => FhirVersion::R4,
            "R4B" => FhirVersion::R4B,
            "R5" => FhirVersion::R5,
            // STU3 is not supported.
            _ => continue,
        };
        let format = if line.format == "xml" { Format::Xml } else { Format::Json };
        let issues = check(bytes(&line)?, format, version);
        judged.push(Judged { line, issues });
    }
    Ok(judged)
}

impl Judged {
    pub fn is_refused(&self) -> bool {
        self.issues.iter().any(Issue::is_error)
    }

    /// The name of the message.
    pub fn name(&self) -> &str {
        if self.line.id.is_empty() { &self.line.file } else { &self.line.id }
    }

    /// Whether an error names the element that was changed, one below it, or its parent.
    pub fn is_located(&self) -> bool {
        let errors = self.issues.iter().filter(|issue| issue.is_error());
        errors.filter_map(|issue| issue.expression.as_deref()).any(|found| is_near(found, &self.line.at))
    }

    /// Whether the reference has an error of a class that counts.
    pub fn is_refused_there(&self) -> bool {
        self.line.errors > 0
    }

    /// The reference's issues of the classes that count; only the first if there are very many.
    pub fn counted(&self) -> impl Iterator<Item = &ReferenceIssue> {
        self.line
            .issues
            .iter()
            .filter(|issue| matches!(issue.0.as_str(), "error" | "fatal") && COUNTED.contains(&issue.1.as_str()))
    }

    /// Rules of the reference that count and to which none of our errors corresponds.
    pub fn missed(&self) -> Vec<&str> {
        let ours = || self.issues.iter().filter(|issue| issue.is_error()).filter_map(|issue| issue.rule.as_deref());
        let mut missed: Vec<&str> = self.counted().map(|issue| issue.2.as_str()).collect();
        missed.sort_unstable();
        missed.dedup();
        missed.retain(|theirs| !ours().any(|own| super::rules::is_same(theirs, own)));
        missed
    }

    /// The first of our errors, as rule and expression.
    pub fn ours(&self) -> String {
        let errors = self.issues.iter().filter(|issue| issue.is_error());
        brief(errors.map(|issue| {
            format!("{} {}", issue.rule.as_deref().unwrap_or("-"), issue.expression.as_deref().unwrap_or("-"))
        }))
    }

    /// The same for the reference.
    pub fn theirs(&self) -> String {
        brief(self.counted().map(|issue| format!("{} {}", issue.2, issue.3)))
    }
}

/// Whether it is the same element, one below it, or its parent.
pub fn is_near(found: &str, at: &str) -> bool {
    let (found, at) = (plain(found), plain(at));
    // A step is a name with its index; an array and its items count as the same.
    let (found, at) = (without_last_index(&found), without_last_index(&at));
    let below = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| {
            let rest = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(rest, |(_, rest)| rest);
            rest.starts_with('.') && !rest[1..].contains('.')
        })
    };
    found == at || below(found, at) || below(at, found)
}

fn without_last_index(expression: &str) -> &str {
    match expression.rsplit_once('[') {
        Some((array, rest)) if rest.ends_with(']') => array,
        _ => expression,
    }
}

/// An expression without types of choices.
fn plain(expression: &str) -> String {
    let mut text = expression.replace("[x]", "");
    while let Some(start) = text.find(".ofType(") {
        let Some(end) = text[start..].find(')') else { break };
        text.replace_range(start..=start + end, "");
    }
    text
}

fn brief(items: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = items.collect();
    let mut text = all.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    if all.len() > 3 {
        text.push_str(&format!("; and {} more", all.len() - 3));
    }
    if text.is_empty() { "nothing".to_owned() } else { text }
}
