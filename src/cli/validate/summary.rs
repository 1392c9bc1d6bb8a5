//! The summary by rule: how often each rule was violated, and in how many messages.

use crate::cli::table::{Table, plain};
use crate::outcome::{Issue, Severity};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

/// Counts by severity and rule.
#[derive(Default)]
pub(super) struct Summary {
    rules: BTreeMap<(bool, String), Counts>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    issues: u64,
    messages: u64,
}

impl Summary {
    /// Adds the issues of one message: errors and, without `errors_only`, warnings.
    pub fn add(&mut self, issues: &[Issue], errors_only: bool) {
        let mut seen = BTreeSet::new();
        for issue in issues {
            let counts = issue.is_error() || (!errors_only && issue.severity == Severity::Warning);
            if !counts {
                continue;
            }
            let rule = issue.rule.as_deref().map_or_else(|| "(no rule)".to_owned(), plain);
            let key = (issue.is_error(), rule);
            let counts = self.rules.entry(key.clone()).or_default();
            counts.issues += 1;
            counts.messages += u64::from(seen.insert(key));
        }
    }

    /// Errors first, the most frequent rule first. Prints nothing if there are no issues.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut rules: Vec<_> = self.rules.iter().collect();
        rules.sort_by_key(|((is_error, rule), counts)| (Reverse(*is_error), Reverse(counts.issues), rule.clone()));
        if rules.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(&["SEVERITY", "RULE", "ISSUES", "MESSAGES"]);
        for ((is_error, rule), counts) in rules {
            let severity = if *is_error { "error" } else { "warning" };
            table.push(vec![severity.into(), rule.clone(), counts.issues.to_string(), counts.messages.to_string()]);
        }
        writeln!(out, "\nSummary by rule:")?;
        table.write(out)?;
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;
    use crate::outcome::IssueCode;

    fn issue(severity: Severity, rule: &str) -> Issue {
        Issue::new(severity, IssueCode::Value, Fault::SendStructure, "No.").rule(rule.to_owned())
    }

    #[test]
    fn rules_are_counted_by_issue_and_by_message() {
        let mut summary = Summary::default();
        let one = [
            issue(Severity::Warning, "bdl-7"),
            issue(Severity::Error, "MSG-11"),
            issue(Severity::Error, "MSG-11"),
            issue(Severity::Error, "binding"),
        ];
        summary.add(&one, false);
        summary.add(&one[..2], false);
        let mut out = Vec::new();
        summary.write(&mut out).expect("memory");
        let text = String::from_utf8(out).expect("text");
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows[3..6],
            [["error", "MSG-11", "3", "2"], ["error", "binding", "1", "1"], ["warning", "bdl-7", "2", "2"]]
        );
        let mut errors = Summary::default();
        errors.add(&one, true);
        assert_eq!(errors.rules.len(), 2);
    }
}
