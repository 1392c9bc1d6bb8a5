//! Collects the issues of one document: sets severities by `prose_rules`, limits the number of issues, and finds
//! their positions.
//!
//! Line and column of all issues are found in one pass at the end, because each look-up scans the bytes before the
//! position; likewise the expressions of issues that only have a node.

use super::ProseRules;
use super::expressions::{Expression, Expressions};
use emberpost_fhir::issue::rank;
use emberpost_fhir::scan::Walk;
use emberpost_fhir::schema::Schema;
use emberpost_fhir::tree::{Node, Tree};
use emberpost_fhir::{Cause, FhirVersion, Issue, IssueCode, Severity};
use std::borrow::Cow;

pub use emberpost_fhir::issue::ISSUES_LIMIT;

pub struct IssueCollector<'m> {
    tree: &'m Tree,
    prose: Severity,
    /// The schema version used to name choice elements in expressions, which are only made at the end.
    version: Option<FhirVersion>,
    found: Vec<Found>,
    errors: usize,
    warnings: usize,
    /// Issues that the reader counted but did not list.
    left_out: usize,
}

struct Found {
    issue: Issue,
    /// The node that has the position; None if the issue has its own.
    node: Option<u32>,
    /// Whether the node's expression is made at the end.
    needs_expression: bool,
}

/// The severity of a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    Error,
    Warning,
    /// The severity that `prose_rules` sets.
    Prose,
}

/// A violated rule: the rule, the type of issue, and the text for the sender.
pub struct Violation {
    pub rule: Cow<'static, str>,
    pub code: IssueCode,
    pub cause: Cause,
    /// The element, what is wrong with it, and how to correct it.
    pub text: Cow<'static, str>,
}

impl Violation {
    pub fn new(rule: impl Into<Cow<'static, str>>, code: IssueCode, text: impl Into<Cow<'static, str>>) -> Self {
        Violation { rule: rule.into(), code, cause: Cause::Structure, text: text.into() }
    }

    /// A violation of the message's definition, rather than of FHIR messaging.
    pub fn definition(rule: impl Into<Cow<'static, str>>, code: IssueCode, text: impl Into<Cow<'static, str>>) -> Self {
        Violation { rule: rule.into(), code, cause: Cause::Definition, text: text.into() }
    }
}

impl<'m> IssueCollector<'m> {
    pub fn new(tree: &'m Tree, prose_rules: ProseRules) -> Self {
        let prose = match prose_rules {
            ProseRules::Warning => Severity::Warning,
            ProseRules::Error => Severity::Error,
        };
        IssueCollector { tree, prose, version: None, found: Vec::new(), errors: 0, warnings: 0, left_out: 0 }
    }

    /// Names choice elements in expressions by the definitions of this version.
    pub fn of_version(self, version: FhirVersion) -> Self {
        IssueCollector { version: Some(version), ..self }
    }

    /// Adds a violation at a node of the tree; its expression is made at the end.
    pub fn add_at(&mut self, weight: Weight, node: Node, violation: Violation) {
        let severity = match weight {
            Weight::Error => Severity::Error,
            Weight::Warning => Severity::Warning,
            Weight::Prose => self.prose,
        };
        let issue = Issue::new(severity, violation.code, violation.cause, violation.text).rule(violation.rule);
        self.push(Found { issue, node: Some(node.index), needs_expression: true });
    }

    /// Adds a violation at an element given by its expression, which must consist of names of the specification
    /// only.
    pub fn error(&mut self, expression: impl Into<String>, node: Option<Node>, violation: Violation) {
        self.add(Severity::Error, expression, node, violation);
    }

    pub fn warning(&mut self, expression: impl Into<String>, node: Option<Node>, violation: Violation) {
        self.add(Severity::Warning, expression, node, violation);
    }

    /// Adds a violation of a rule that only the specification's prose states and that production messages often
    /// violate.
    pub fn prose(&mut self, expression: impl Into<String>, node: Option<Node>, violation: Violation) {
        self.add(self.prose, expression, node, violation);
    }

    fn add(&mut self, severity: Severity, expression: impl Into<String>, node: Option<Node>, violation: Violation) {
        let issue = Issue::new(severity, violation.code, violation.cause, violation.text).rule(violation.rule);
        let issue = issue.at_known(expression.into());
        self.push(Found { issue, node: node.map(|node| node.index), needs_expression: false });
    }

    /// Whether further errors are only counted; then callers need not format their texts.
    pub fn is_full(&self) -> bool {
        self.errors >= ISSUES_LIMIT
    }

    /// Counts an error without listing it, for callers that checked `is_full`.
    pub fn count_error(&mut self) {
        self.errors += 1;
    }

    /// Adds an issue that was found elsewhere, with its position if it has one.
    pub fn add_issue(&mut self, issue: Issue) {
        if issue.unlisted_count() > 0 {
            self.left_out += issue.unlisted_count();
            return;
        }
        self.push(Found { issue, node: None, needs_expression: false });
    }

    fn push(&mut self, found: Found) {
        let count = if found.issue.is_error() { &mut self.errors } else { &mut self.warnings };
        *count += 1;
        if *count <= ISSUES_LIMIT {
            self.found.push(found);
        }
    }

    /// The issues: errors first, then warnings, each by position in the source (those without a position first), and
    /// in the order in which they were added if positions are equal. An issue that two checks found is listed once.
    pub fn finish(mut self) -> Vec<Issue> {
        self.add_positions_and_expressions();
        let left_out =
            self.left_out + self.errors.saturating_sub(ISSUES_LIMIT) + self.warnings.saturating_sub(ISSUES_LIMIT);
        // Not collected: that would shrink the found ones in place, which moves them to smaller memory.
        let mut issues = Vec::with_capacity(self.found.len() + 1);
        issues.extend(self.found.into_iter().map(|found| found.issue));
        // Sorts keys and moves each issue once: issues are large.
        issues.sort_by_cached_key(|issue| issue.position);
        issues.dedup_by(is_duplicate);
        // The sort is stable, so each severity stays in document order.
        issues.sort_by_cached_key(rank);
        if left_out > 0 {
            issues.push(Issue::unlisted(left_out, Cause::Structure));
        }
        issues
    }

    fn add_positions_and_expressions(&mut self) {
        let tree = self.tree;
        let at = |found: &Found| found.node.map(|index| Node { tree, index });
        let mut order = self.found.iter_mut().filter(|found| found.node.is_some()).collect::<Vec<_>>();
        order.sort_by_key(|found| at(found).map(Node::offset));
        let bytes = tree.source_bytes();
        let mut walk = Walk::new(bytes);
        for found in &mut order {
            found.issue.position = at(found).map(|node| walk.to(bytes, node.offset()));
        }
        order.retain(|found| found.needs_expression);
        // In JSON, offsets and nodes have the same order.
        order.sort_by_key(|found| found.node);
        let mut expressions = Expressions::new(tree, self.version.map(Schema::of));
        for found in order {
            if let Some(node) = at(found) {
                match expressions.of(node) {
                    Expression { path, is_known: true } => found.issue.set_known_expression(path),
                    Expression { path, .. } => found.issue.set_expression(&path),
                }
            }
        }
    }
}

/// Whether two checks found the same issue. The structure check repeats issues of the JSON reader with expressions
/// that name elements as FHIRPath does; those are the ones to keep.
fn is_duplicate(later: &mut Issue, first: &mut Issue) -> bool {
    if later.position.is_none() || later.position != first.position || later.rule != first.rule {
        return false;
    }
    if later.rule.as_deref().is_some_and(|rule| rule.starts_with("JSN-")) {
        std::mem::swap(later, first);
        return true;
    }
    later.expression == first.expression && later.diagnostics == first.diagnostics
}
