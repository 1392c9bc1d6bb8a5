//! Collects the issues of one message: severities by `prose_rules`, places by node, a bound on how many.
//!
//! Line and column are found for all issues in one pass at the end, because each look-up reads the bytes before it.

use super::ProseRules;
use crate::fhir::tree::{Node, Tree};
use crate::fhir::{Fault, Issue, IssueCode, Severity};
use std::borrow::Cow;

/// Most issues reported of one message, warnings and errors each; the rest is counted.
pub const ISSUES_LIMIT: usize = 500;

pub struct Report<'m> {
    tree: &'m Tree,
    prose: Severity,
    found: Vec<(Issue, Option<usize>)>,
    errors: usize,
    warnings: usize,
}

/// A broken rule: which, what kind of issue, and what to tell the sender.
pub struct Broken {
    pub rule: Cow<'static, str>,
    pub code: IssueCode,
    pub fault: Fault,
    /// Element, rule and remedy in words.
    pub text: String,
}

impl Broken {
    pub fn new(rule: impl Into<Cow<'static, str>>, code: IssueCode, text: impl Into<String>) -> Self {
        Broken { rule: rule.into(), code, fault: Fault::SendStructure, text: text.into() }
    }

    /// Of the message's definition rather than of FHIR messaging.
    pub fn definition(rule: impl Into<Cow<'static, str>>, code: IssueCode, text: impl Into<String>) -> Self {
        Broken { rule: rule.into(), code, fault: Fault::SendDefinition, text: text.into() }
    }
}

impl<'m> Report<'m> {
    pub fn new(tree: &'m Tree, prose_rules: ProseRules) -> Self {
        let prose = match prose_rules {
            ProseRules::Warning => Severity::Warning,
            ProseRules::Error => Severity::Error,
        };
        Report { tree, prose, found: Vec::new(), errors: 0, warnings: 0 }
    }

    pub fn error(&mut self, expression: impl Into<String>, node: Option<Node>, broken: Broken) {
        self.add(Severity::Error, expression, node, broken);
    }

    pub fn warning(&mut self, expression: impl Into<String>, node: Option<Node>, broken: Broken) {
        self.add(Severity::Warning, expression, node, broken);
    }

    /// A rule that only the specification's prose states and daily traffic breaks.
    pub fn prose(&mut self, expression: impl Into<String>, node: Option<Node>, broken: Broken) {
        self.add(self.prose, expression, node, broken);
    }

    fn add(&mut self, severity: Severity, expression: impl Into<String>, node: Option<Node>, broken: Broken) {
        let issue = Issue::new(severity, broken.code, broken.fault, broken.text).rule(broken.rule).at(expression);
        self.push(issue, node.map(Node::offset));
    }

    /// Whether further errors are only counted, so that nobody makes texts for them.
    pub fn is_full(&self) -> bool {
        self.errors >= ISSUES_LIMIT
    }

    /// An error that is not listed, for who asked `is_full`.
    pub fn count_error(&mut self) {
        self.errors += 1;
    }

    /// An issue found elsewhere, with its position if it has one.
    pub fn take(&mut self, issue: Issue) {
        self.push(issue, None);
    }

    fn push(&mut self, issue: Issue, offset: Option<usize>) {
        let count = if issue.is_error() { &mut self.errors } else { &mut self.warnings };
        *count += 1;
        if *count <= ISSUES_LIMIT {
            self.found.push((issue, offset));
        }
    }

    /// The issues in the order they were found, with line and column.
    pub fn finish(mut self) -> Vec<Issue> {
        self.locate();
        let left_out = self.errors.saturating_sub(ISSUES_LIMIT) + self.warnings.saturating_sub(ISSUES_LIMIT);
        let mut issues = self.found.into_iter().map(|(issue, _)| issue).collect::<Vec<_>>();
        if left_out > 0 {
            let text = format!("{left_out} more issues are not listed; correct these first");
            issues.push(Issue::new(Severity::Information, IssueCode::Informational, Fault::SendStructure, text));
        }
        issues
    }

    fn locate(&mut self) {
        let mut order = (0..self.found.len()).filter(|&index| self.found[index].1.is_some()).collect::<Vec<_>>();
        order.sort_by_key(|&index| self.found[index].1);
        let mut reached: Option<(usize, (u32, u32))> = None;
        for index in order {
            let Some(offset) = self.found[index].1 else { continue };
            let position = match reached {
                None => self.tree.position(offset),
                Some((from, position)) => advance(self.tree, from, offset, position),
            };
            reached = Some((offset, position));
            self.found[index].0.position = Some(position);
        }
    }
}

/// Line and column of an offset from those of an earlier one; columns count characters.
fn advance(tree: &Tree, from: usize, to: usize, (mut line, mut column): (u32, u32)) -> (u32, u32) {
    for byte in tree.source_bytes().get(from..to).unwrap_or_default() {
        match byte {
            b'\n' => (line, column) = (line.saturating_add(1), 1),
            // A continuation byte belongs to the character that began before it.
            0x80..0xC0 => {}
            _ => column = column.saturating_add(1),
        }
    }
    (line, column)
}
