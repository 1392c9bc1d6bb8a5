//! The output of `validate`: each message with its issues, and the totals.

use super::summary::Summary;
use super::{Checked, Format, ValidateArgs};
use crate::cli::failure::Failure;
use crate::cli::progress;
use crate::cli::table::plain;
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode, Outcome, Severity};
use indicatif::ProgressBar;
use serde_json::json;
use std::io::Write;

pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    format: Format,
    errors_only: bool,
    bar: Option<ProgressBar>,
    messages: u64,
    invalid: u64,
    skipped: u64,
    /// Whether there may be many messages, so that a summary by rule helps.
    has_many: bool,
    summary: Summary,
    is_interrupted: bool,
}

/// The issue of a file that cannot be read.
pub(super) fn unread(why: &str) -> Issue {
    Issue::new(Severity::Fatal, IssueCode::Exception, Fault::SendSyntax, format!("The file cannot be read: {why}"))
}

impl<'a> Report<'a> {
    /// `expected` is the least number of messages, the length of the progress bar on a terminal.
    pub fn new(out: &'a mut dyn Write, args: &ValidateArgs, is_terminal: bool, expected: u64, is_folder: bool) -> Self {
        Report {
            out,
            format: args.format,
            errors_only: args.errors_only,
            bar: is_terminal.then(|| progress::messages(expected)),
            messages: 0,
            invalid: 0,
            skipped: 0,
            has_many: is_folder,
            summary: Summary::default(),
            is_interrupted: false,
        }
    }

    pub fn add(&mut self, checked: &Checked) -> Result<(), Failure> {
        if let Some(bar) = &self.bar {
            bar.inc_length(u64::from(checked.is_further));
            bar.inc(1);
        }
        if checked.is_skipped {
            self.skipped += 1;
            return Ok(());
        }
        self.messages += 1;
        self.invalid += u64::from(!is_valid(checked));
        self.has_many |= checked.is_further;
        self.summary.add(&checked.issues, self.errors_only);
        if self.errors_only && is_valid(checked) {
            return Ok(());
        }
        let issues = checked.issues.iter().filter(|issue| !self.errors_only || issue.is_error());
        let text = match self.format {
            Format::Text => lines(checked, issues),
            Format::Ndjson => object(checked, issues),
        };
        let out = &mut self.out;
        match &self.bar {
            Some(bar) => bar.suspend(|| out.write_all(text.as_bytes()))?,
            None => out.write_all(text.as_bytes())?,
        }
        Ok(())
    }

    /// Records that the remaining messages are not validated.
    pub fn interrupted(&mut self) {
        self.is_interrupted = true;
    }

    /// Prints the totals and returns the exit code. The objects of ndjson are for programs: there, totals go nowhere.
    pub fn finish(self) -> Result<i32, Failure> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.format == Format::Text {
            if self.has_many {
                self.summary.write(self.out)?;
            }
            let valid = self.messages - self.invalid;
            let messages = if self.messages == 1 { "message" } else { "messages" };
            write!(self.out, "{} {messages}: {valid} valid, {} invalid", self.messages, self.invalid)?;
            match self.skipped {
                0 => writeln!(self.out)?,
                skipped => writeln!(self.out, "; {skipped} skipped, not a Bundle (--all validates them)")?,
            }
            if self.is_interrupted {
                writeln!(self.out, "interrupted: the rest was not validated")?;
            }
        }
        Ok(i32::from(self.invalid > 0 || self.is_interrupted))
    }
}

fn is_valid(checked: &Checked) -> bool {
    !checked.issues.iter().any(Issue::is_error)
}

fn lines<'i>(checked: &Checked, issues: impl Iterator<Item = &'i Issue>) -> String {
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
    let is_unsupported = checked.issues.iter().any(|issue| issue.rule.as_deref() == Some("VER-04"));
    let version = match checked.version {
        Some(version) => format!(", FHIR {}", version.short()),
        None if is_unsupported => ", FHIR of another version".to_owned(),
        None => ", unreadable".to_owned(),
    };
    let errors = count("error", Issue::is_error);
    let warnings = count("warning", |issue| issue.severity == Severity::Warning);
    let mut text = format!("{}: {verdict}{version}{errors}{warnings}\n", plain(&checked.source));
    for issue in issues {
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

fn object<'i>(checked: &Checked, issues: impl Iterator<Item = &'i Issue>) -> String {
    let issues = issues.cloned().collect::<Vec<_>>();
    let outcome = match issues.is_empty() {
        false => Outcome::from(issues).to_resource(),
        // An OperationOutcome requires at least one issue.
        true => json!({ "resourceType": "OperationOutcome", "issue": [{ "severity": "information",
            "code": "informational", "diagnostics": "No issues were found" }] }),
    };
    let object = json!({
        "source": checked.source,
        "fhirVersion": checked.version.map(|version| version.short()),
        "valid": is_valid(checked),
        "outcome": outcome,
    });
    format!("{object}\n")
}
