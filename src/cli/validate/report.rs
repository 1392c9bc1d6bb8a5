//! What `validate` prints: a line per message with its issues below it, or an object; a progress bar on a terminal, and a
//! line that sums up.

use super::Format;
use crate::cli::table::plain;
use crate::fhir::{FhirVersion, Issue, Outcome, Severity};
use crate::validation::document::Document;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::Duration;

/// One message and what was found in it.
pub struct Judged {
    /// The path as given or found, with `:n` for line n of a file with several.
    pub label: String,
    /// What was found, or why the file could not be read.
    pub found: Result<Document, String>,
    /// Not the first of its file.
    pub is_further: bool,
}

impl Judged {
    fn issues(&self) -> &[Issue] {
        self.found.as_ref().map_or(&[], |found| &found.issues)
    }

    fn is_valid(&self) -> bool {
        self.found.is_ok() && !self.issues().iter().any(Issue::is_error)
    }

    fn version(&self) -> Option<FhirVersion> {
        self.found.as_ref().ok().and_then(|found| found.version)
    }
}

pub struct Report<'a> {
    out: &'a mut dyn Write,
    format: Format,
    bar: Option<ProgressBar>,
    valid: u64,
    invalid: u64,
}

impl<'a> Report<'a> {
    /// `expected` messages at least; on a terminal they are the bar's length.
    pub fn new(out: &'a mut dyn Write, format: Format, is_terminal: bool, expected: u64) -> Self {
        Report { out, format, bar: is_terminal.then(|| bar(expected)), valid: 0, invalid: 0 }
    }

    pub fn add(&mut self, judged: &Judged) -> io::Result<()> {
        *(if judged.is_valid() { &mut self.valid } else { &mut self.invalid }) += 1;
        if let Some(bar) = &self.bar {
            bar.inc_length(u64::from(judged.is_further));
            bar.inc(1);
        }
        let text = match self.format {
            Format::Text => text(judged),
            Format::Ndjson => format!("{}\n", object(judged)),
        };
        let out = &mut *self.out;
        match &self.bar {
            Some(bar) => bar.suspend(|| out.write_all(text.as_bytes())),
            None => out.write_all(text.as_bytes()),
        }
    }

    /// Prints the sum; the exit code.
    pub fn finish(self) -> io::Result<i32> {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        if self.format == Format::Text {
            let all = counted(self.valid + self.invalid, "message");
            writeln!(self.out, "{all}: {} valid, {} invalid", self.valid, self.invalid)?;
        }
        Ok(i32::from(self.invalid > 0))
    }
}

fn bar(expected: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} messages, {per_sec}, {eta} left");
    let bar = ProgressBar::new(expected).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// `path: invalid, FHIR 4.0, 1 error, 2 warnings`, and each issue in a line below.
fn text(judged: &Judged) -> String {
    let state = if judged.is_valid() { "valid" } else { "invalid" };
    let mut parts = vec![state.to_owned()];
    parts.extend(judged.version().map(|version| format!("FHIR {}", version.short())));
    let errors = judged.issues().iter().filter(|issue| issue.is_error()).count() as u64;
    let warnings = judged.issues().iter().filter(|issue| issue.severity == Severity::Warning).count() as u64;
    let counts = [(errors, "error"), (warnings, "warning")].into_iter().filter(|(number, _)| *number > 0);
    parts.extend(counts.map(|(number, noun)| counted(number, noun)));
    if let Err(error) = &judged.found {
        parts.push(format!("cannot be read: {error}"));
    }
    let mut text = format!("{}: {}\n", plain(&judged.label), parts.join(", "));
    for issue in judged.issues() {
        text.push_str(&format!("  {}\n", plain(&line(issue))));
    }
    text
}

/// `error bdl-1 at Bundle.total (line 3, column 4): …`
fn line(issue: &Issue) -> String {
    let severity = match issue.severity {
        Severity::Information => "information",
        Severity::Warning => "warning",
        Severity::Error | Severity::Fatal => "error",
    };
    let rule = issue.rule.as_deref().map(|rule| format!(" {rule}")).unwrap_or_default();
    let place = issue.expression.as_deref().map(|place| format!(" at {place}")).unwrap_or_default();
    let position = issue.position.map(|(line, column)| format!(" (line {line}, column {column})")).unwrap_or_default();
    format!("{severity}{rule}{place}{position}: {}", issue.diagnostics)
}

fn object(judged: &Judged) -> Value {
    json!({
        "source": judged.label,
        "fhirVersion": judged.version().map(FhirVersion::short),
        "valid": judged.is_valid(),
        "outcome": outcome(judged),
    })
}

/// Never without an issue: an OperationOutcome has at least one.
fn outcome(judged: &Judged) -> Value {
    let one = |severity: &str, code: &str, text: String| json!({ "resourceType": "OperationOutcome", "issue": [{ "severity": severity, "code": code, "diagnostics": text }] });
    match &judged.found {
        Err(error) => one("error", "exception", format!("The file cannot be read: {error}")),
        Ok(found) if found.issues.is_empty() => one("information", "informational", "No issues".to_owned()),
        Ok(found) => Outcome::from(found.issues.clone()).to_resource(),
    }
}
