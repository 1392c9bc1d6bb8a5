//! What `validate` says of each message, and in sum.

use super::{Checked, Format};
use crate::cli::bar;
use crate::cli::failure::Failure;
use crate::cli::table::plain;
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode, Outcome, Severity};
use indicatif::ProgressBar;
use serde_json::json;
use std::io::Write;

pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    format: Format,
    bar: Option<ProgressBar>,
    messages: u64,
    invalid: u64,
}

/// Why a file is no message: it could not even be read.
pub(super) fn unread(why: &str) -> Issue {
    Issue::new(Severity::Fatal, IssueCode::Exception, Fault::SendSyntax, format!("The file cannot be read: {why}"))
}

impl<'a> Report<'a> {
    /// `expected` messages at least; on a terminal they are the bar's length.
    pub fn new(out: &'a mut dyn Write, format: Format, is_terminal: bool, expected: u64) -> Self {
        let bar = is_terminal.then(|| bar::messages(expected));
        Report { out, format, bar, messages: 0, invalid: 0 }
    }

    pub fn add(&mut self, checked: &Checked) -> Result<(), Failure> {
        self.messages += 1;
        self.invalid += u64::from(!is_valid(checked));
        let text = match self.format {
            Format::Text => lines(checked),
            Format::Ndjson => object(checked),
        };
        let out = &mut self.out;
        match &self.bar {
            Some(bar) => {
                if bar.position() >= bar.length().unwrap_or(0) {
                    bar.inc_length(1);
                }
                bar.inc(1);
                bar.suspend(|| out.write_all(text.as_bytes()))?;
            }
            None => out.write_all(text.as_bytes())?,
        }
        Ok(())
    }

    /// The sum, and the exit code.
    pub fn finish(self) -> Result<i32, Failure> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.format == Format::Text {
            let valid = self.messages - self.invalid;
            let messages = if self.messages == 1 { "message" } else { "messages" };
            writeln!(self.out, "{} {messages}: {valid} valid, {} invalid", self.messages, self.invalid)?;
        }
        Ok(i32::from(self.invalid > 0))
    }
}

fn is_valid(checked: &Checked) -> bool {
    !checked.issues.iter().any(Issue::is_error)
}

fn lines(checked: &Checked) -> String {
    let count = |severity: &str, wanted: fn(&Issue) -> bool| match checked
        .issues
        .iter()
        .filter(|issue| wanted(issue))
        .count()
    {
        0 => String::new(),
        1 => format!(", 1 {severity}"),
        several => format!(", {several} {severity}s"),
    };
    let verdict = if is_valid(checked) { "valid" } else { "invalid" };
    let is_other = checked.issues.iter().any(|issue| issue.rule.as_deref() == Some("VER-04"));
    let version = match checked.version {
        Some(version) => format!(", FHIR {}", version.short()),
        None if is_other => ", FHIR of another version".to_owned(),
        None => ", unreadable".to_owned(),
    };
    let errors = count("error", Issue::is_error);
    let warnings = count("warning", |issue| issue.severity == Severity::Warning);
    let mut text = format!("{}: {verdict}{version}{errors}{warnings}\n", plain(&checked.source));
    for issue in &checked.issues {
        text.push_str(&line(issue));
    }
    text
}

fn line(issue: &Issue) -> String {
    let severity = match issue.severity {
        Severity::Fatal => "fatal",
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Information => "note",
    };
    let rule = issue.rule.as_deref().map_or(String::new(), |rule| format!(" {}", plain(rule)));
    let at = issue.full_expression().map_or(String::new(), |at| format!(" at {}", plain(at)));
    let place = issue.position.map_or(String::new(), |(line, column)| format!(" (line {line}, column {column})"));
    format!("  {severity}{rule}{at}{place}: {}\n", plain(issue.diagnostics.full()))
}

fn object(checked: &Checked) -> String {
    let outcome = match checked.issues.is_empty() {
        false => Outcome::from(checked.issues.clone()).to_resource(),
        // An OperationOutcome has one issue at least.
        true => json!({ "resourceType": "OperationOutcome", "issue": [{ "severity": "information",
            "code": "informational", "diagnostics": "Nothing was found against the message" }] }),
    };
    let object = json!({
        "source": checked.source,
        "fhirVersion": checked.version.map(|version| version.short()),
        "valid": is_valid(checked),
        "outcome": outcome,
    });
    format!("{object}\n")
}
