//! What the reader finds wrong, from offsets to issues with line, column and expression.

use crate::fhir::fault::Fault;
use crate::fhir::outcome::{Issue, IssueCode, Severity};
use crate::fhir::scan;
use crate::fhir::tree::Tree;

/// Something found, still without line and column.
pub(super) struct Finding {
    pub offset: usize,
    pub severity: Severity,
    pub code: IssueCode,
    pub rule: &'static str,
    pub text: &'static str,
    /// From the root's members down, without the name of the root's type.
    pub path: String,
}

/// A step of an expression. A name that no FHIR element can have is not repeated, for it may be anything.
pub(super) fn step(name: &str) -> String {
    let plain = !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain { format!(".{name}") } else { ".`?`".to_owned() }
}

/// The findings as issues in document order, all positions in one pass.
pub(super) fn issues(tree: &Tree, mut findings: Vec<Finding>) -> Vec<Issue> {
    findings.sort_by_key(|finding| finding.offset);
    let resource = tree.slots.first().and_then(|_| tree.root().get("resourceType")).and_then(|node| node.text());
    let root = resource.filter(|name| name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphabetic()));
    let mut walk = scan::Walk::new(&tree.bytes);
    let issue = |finding: Finding| {
        let fault = match finding.rule {
            "JSN-03" | "JSN-04" => Fault::SendStructure,
            _ => Fault::SendSyntax,
        };
        let (line, column) = walk.to(&tree.bytes, finding.offset);
        let issue =
            Issue::new(finding.severity, finding.code, fault, finding.text).rule(finding.rule).position(line, column);
        match (&root, finding.path.trim_start_matches('.')) {
            (Some(root), _) => issue.at(format!("{root}{}", finding.path)),
            (None, "") => issue,
            (None, path) => issue.at(path),
        }
    };
    findings.into_iter().map(issue).collect()
}
