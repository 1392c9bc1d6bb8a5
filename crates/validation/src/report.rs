//! Collects the issues of one message: severities by `prose_rules`, places by node, a bound on how many.
//!
//! Line and column are found for all issues in one pass at the end, because each look-up reads the bytes before it; so are
//! the expressions of those that only gave their node.

use super::ProseRules;
use super::places::{Expression, Places};
use emberpost_fhir::issue::rank;
use emberpost_fhir::scan::Walk;
use emberpost_fhir::schema::Schema;
use emberpost_fhir::tree::{Node, Tree};
use emberpost_fhir::{Cause, FhirVersion, Issue, IssueCode, Severity};
use std::borrow::Cow;

pub use emberpost_fhir::issue::ISSUES_LIMIT;

pub struct Report<'m> {
    tree: &'m Tree,
    prose: Severity,
    /// Names choices in expressions made at the end; asked for only when there is one to make.
    version: Option<FhirVersion>,
    found: Vec<Found>,
    errors: usize,
    warnings: usize,
    /// Found by the reader, and counted there.
    left_out: usize,
}

struct Found {
    issue: Issue,
    offset: Option<usize>,
    /// The node whose expression is still to be made.
    node: Option<u32>,
}

/// How grave a broken rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gravity {
    Error,
    Warning,
    /// As `prose_rules` says.
    Prose,
}

/// A broken rule: which, what kind of issue, and what to tell the sender.
pub struct Broken {
    pub rule: Cow<'static, str>,
    pub code: IssueCode,
    pub cause: Cause,
    /// Element, rule and remedy in words.
    pub text: String,
}

impl Broken {
    pub fn new(rule: impl Into<Cow<'static, str>>, code: IssueCode, text: impl Into<String>) -> Self {
        Broken { rule: rule.into(), code, cause: Cause::Structure, text: text.into() }
    }

    /// Of the message's definition rather than of FHIR messaging.
    pub fn definition(rule: impl Into<Cow<'static, str>>, code: IssueCode, text: impl Into<String>) -> Self {
        Broken { rule: rule.into(), code, cause: Cause::Definition, text: text.into() }
    }
}

impl<'m> Report<'m> {
    pub fn new(tree: &'m Tree, prose_rules: ProseRules) -> Self {
        let prose = match prose_rules {
            ProseRules::Warning => Severity::Warning,
            ProseRules::Error => Severity::Error,
        };
        Report { tree, prose, version: None, found: Vec::new(), errors: 0, warnings: 0, left_out: 0 }
    }

    /// With the names of choices in expressions as that version has them.
    pub fn of_version(self, version: FhirVersion) -> Self {
        Report { version: Some(version), ..self }
    }

    /// A broken rule at a node of the tree; the expression is made at the end.
    pub fn at(&mut self, gravity: Gravity, node: Node, broken: Broken) {
        let severity = match gravity {
            Gravity::Error => Severity::Error,
            Gravity::Warning => Severity::Warning,
            Gravity::Prose => self.prose,
        };
        let issue = Issue::new(severity, broken.code, broken.cause, broken.text).rule(broken.rule);
        self.push(Found { issue, offset: Some(node.offset()), node: Some(node.index) });
    }

    /// A broken rule at an element that is known by its expression, which is made of names of definitions alone.
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
        let issue = Issue::new(severity, broken.code, broken.cause, broken.text).rule(broken.rule);
        let issue = issue.at_known(expression.into());
        self.push(Found { issue, offset: node.map(Node::offset), node: None });
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
        if issue.stands_for() > 0 {
            self.left_out += issue.stands_for();
            return;
        }
        self.push(Found { issue, offset: None, node: None });
    }

    fn push(&mut self, found: Found) {
        let count = if found.issue.is_error() { &mut self.errors } else { &mut self.warnings };
        *count += 1;
        if *count <= ISSUES_LIMIT {
            self.found.push(found);
        }
    }

    /// The issues, errors first and warnings behind them, each by their place in the source, and where they share one as
    /// they were found; those without a place first.
    /// What two checks found alike is told once.
    pub fn finish(mut self) -> Vec<Issue> {
        self.locate();
        self.express();
        let left_out =
            self.left_out + self.errors.saturating_sub(ISSUES_LIMIT) + self.warnings.saturating_sub(ISSUES_LIMIT);
        let mut issues = self.found.into_iter().map(|found| found.issue).collect::<Vec<_>>();
        issues.sort_by_key(|issue| issue.position);
        issues.dedup_by(is_told_before);
        // Stable: each kind stays in the order of the document.
        issues.sort_by_key(rank);
        if left_out > 0 {
            issues.push(Issue::left_out(left_out, Cause::Structure));
        }
        issues
    }

    fn locate(&mut self) {
        let mut order = self.found.iter_mut().filter(|found| found.offset.is_some()).collect::<Vec<_>>();
        order.sort_by_key(|found| found.offset);
        let bytes = self.tree.source_bytes();
        let mut walk = Walk::new(bytes);
        for found in order {
            found.issue.position = found.offset.map(|offset| walk.to(bytes, offset));
        }
    }

    fn express(&mut self) {
        let mut order = self.found.iter_mut().filter(|found| found.node.is_some()).collect::<Vec<_>>();
        if order.is_empty() {
            return;
        }
        order.sort_by_key(|found| found.node);
        let mut places = Places::new(self.tree, self.version.map(Schema::of));
        for found in order {
            if let Some(index) = found.node {
                match places.of(Node { tree: self.tree, index }) {
                    Expression { path, is_known: true } => found.issue.set_known_expression(path),
                    Expression { path, .. } => found.issue.set_expression(&path),
                }
            }
        }
    }
}

/// Whether two checks found the same. What the reader tells by JSON's names is told again by the structure check with the
/// names of FHIRPath, which are kept.
fn is_told_before(later: &mut Issue, first: &mut Issue) -> bool {
    if later.position.is_none() || later.position != first.position || later.rule != first.rule {
        return false;
    }
    if later.rule.as_deref().is_some_and(|rule| rule.starts_with("JSN-")) {
        std::mem::swap(later, first);
        return true;
    }
    later.expression == first.expression && later.diagnostics == first.diagnostics
}
