//! What the HL7 reference validator said of real messages and of mutants, held against what Emberpost says.
//!
//! The folder has `outcomes-corpus.ndjson`, `outcomes-mutants.ndjson` and `mutate.py`, which makes the mutants from the
//! corpus. Each line says as which FHIR version a message was read, and what is expected of a validator.

use emberpost::clock::Clock;
use fhir::{FhirVersion, Format, Issue};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use validation::definition::Definitions;
use validation::{Checks, Level, ProseRules, check_document};

/// Classes of issues that count against a message; the others are the reference's own, or need a terminology server.
const COUNTED: [&str; 10] =
    ["syntax", "base", "binding", "invariant", "narrative", "reference", "extension", "bundle", "prose", "crash"];

/// Severity, class, rule, expression, line, column; the text is cut, in the middle of a letter too.
type Said = (String, String, String, String, i64, i64, IgnoredAny);

#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    /// Of the corpus: the path.
    #[serde(default)]
    pub file: String,
    /// Of a mutant: way and base.
    #[serde(default)]
    pub id: String,
    #[serde(default)]
    pub way: String,
    #[serde(default)]
    pub group: String,
    /// Where the message was changed; empty where that is the text or XML.
    #[serde(default)]
    pub at: String,
    pub version: String,
    pub format: String,
    /// Of the corpus: how many errors of the classes that count.
    #[serde(default)]
    pub errors: usize,
    /// Of a mutant: `refused`, `accepted` or `either`.
    #[serde(default)]
    pub expected: String,
    #[serde(default)]
    pub issues: Vec<Said>,
}

/// One message, and both opinions of it.
pub struct Judged {
    pub line: Line,
    pub issues: Vec<Issue>,
}

/// Where everything is.
pub struct Source {
    pub corpus: PathBuf,
    pub oracle: PathBuf,
}

/// Emberpost's opinion: level structure as of this version, prose rules as errors, any event.
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
    /// From `EMBERPOST_CORPUS` and `EMBERPOST_ORACLE`; None when one is not set.
    pub fn of_environment() -> Option<Source> {
        let folder = |name| std::env::var_os(name).map(PathBuf::from);
        Some(Source { corpus: folder("EMBERPOST_CORPUS")?, oracle: folder("EMBERPOST_ORACLE")? })
    }

    /// Every message of the corpus that is R4, R4B or R5, those of `invalid/` too.
    pub fn corpus(&self) -> io::Result<Vec<Judged>> {
        let lines = read(&self.oracle.join("outcomes-corpus.ndjson"))?;
        judge(lines, |line| std::fs::read(self.corpus.join(&line.file)))
    }

    /// Every mutant; the untouched bases are left out.
    pub fn mutants(&self, made: &Path) -> io::Result<Vec<Judged>> {
        let mut script = Command::new("python3");
        script.arg(self.oracle.join("mutate.py")).arg("--corpus").arg(&self.corpus).arg("--out").arg(made);
        let status = script.stdout(Stdio::null()).status()?;
        if !status.success() {
            return Err(io::Error::other("mutate.py failed"));
        }
        let lines = read(&self.oracle.join("outcomes-mutants.ndjson"))?;
        let lines = lines.into_iter().filter(|line| line.way != "base").collect();
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
            // STU3 is not handled.
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

    /// Whether an error names the element that was changed, one below it, or the one directly above.
    pub fn is_located(&self) -> bool {
        let errors = self.issues.iter().filter(|issue| issue.is_error());
        errors.filter_map(|issue| issue.expression.as_deref()).any(|found| is_near(found, &self.line.at))
    }

    /// Whether the reference has an error of a class that counts.
    pub fn is_refused_there(&self) -> bool {
        self.line.errors > 0
    }

    /// What the reference says against it, of the classes that count; of very many only the first.
    pub fn counted(&self) -> impl Iterator<Item = &Said> {
        self.line
            .issues
            .iter()
            .filter(|said| matches!(said.0.as_str(), "error" | "fatal") && COUNTED.contains(&said.1.as_str()))
    }

    /// Rules of the reference that count, and of which none of our errors speaks.
    pub fn missed(&self) -> Vec<&str> {
        let ours = || self.issues.iter().filter(|issue| issue.is_error()).filter_map(|issue| issue.rule.as_deref());
        let mut missed: Vec<&str> = self.counted().map(|said| said.2.as_str()).collect();
        missed.sort_unstable();
        missed.dedup();
        missed.retain(|theirs| !ours().any(|own| super::rules::is_same(theirs, own)));
        missed
    }

    /// Our errors, each as rule and place; the first few.
    pub fn ours(&self) -> String {
        let errors = self.issues.iter().filter(|issue| issue.is_error());
        brief(errors.map(|issue| {
            format!("{} {}", issue.rule.as_deref().unwrap_or("-"), issue.expression.as_deref().unwrap_or("-"))
        }))
    }

    /// The same of the reference.
    pub fn theirs(&self) -> String {
        brief(self.counted().map(|said| format!("{} {}", said.2, said.3)))
    }
}

/// The same element, one below, or the one directly above.
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
