//! What the reader finds, gathered with offsets and turned into issues with line and column at the end, in one pass.

use super::super::fault::Fault;
use super::super::tree::{Node, Tree};
use super::scan;
use super::{Issue, IssueCode, Severity};

/// Most issues, and most notes, that are reported of one document.
pub const ISSUE_LIMIT: usize = 1_000;

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

impl Finding {
    pub fn new(offset: usize, rule: &'static str, text: &'static str, path: String) -> Self {
        Finding { offset, severity: Severity::Error, code: IssueCode::Structure, rule, text, path }
    }
}

/// What refuses the document, and what is only noted: neither crowds the other out.
#[derive(Default)]
pub(super) struct Findings {
    refusals: Vec<Finding>,
    notes: Vec<Finding>,
}

impl Findings {
    /// Adds a reason to refuse the document. Of too many the last is replaced, which keeps the one that ended reading.
    pub fn refuse(&mut self, finding: Finding) {
        self.refusals.truncate(ISSUE_LIMIT - 1);
        self.refusals.push(finding);
    }

    /// Asked before a path is made, because a document of empty arrays would make millions of them.
    pub fn has_room_for_notes(&self) -> bool {
        self.notes.len() < ISSUE_LIMIT
    }

    pub fn note(&mut self, finding: Finding) {
        if self.has_room_for_notes() {
            self.notes.push(finding);
        }
    }

    /// The notes as issues in document order. Errs with all findings when one refuses the document.
    pub fn into_issues(self, tree: &Tree) -> Result<Vec<Issue>, Vec<Issue>> {
        let Findings { refusals, notes } = self;
        let refused = !refusals.is_empty();
        let mut findings = refusals;
        findings.extend(notes);
        findings.sort_by_key(|finding| finding.offset);
        if refused { Err(issues(tree, findings)) } else { Ok(issues(tree, findings)) }
    }
}

fn issues(tree: &Tree, findings: Vec<Finding>) -> Vec<Issue> {
    if findings.is_empty() {
        return Vec::new();
    }
    let resource = if tree.is_empty() { None } else { tree.root().get("resourceType") };
    let name = resource.and_then(Node::text);
    let root = name.filter(|name| name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphabetic()));
    let mut walk = scan::Walk::new(&tree.bytes);
    let issue = |finding: Finding| {
        let fault = match finding.rule {
            "JSN-03" | "JSN-04" => Fault::SendStructure,
            _ => Fault::SendSyntax,
        };
        let (line, column) = walk.to(&tree.bytes, finding.offset);
        let issue = Issue::new(finding.severity, finding.code, fault, finding.text);
        let issue = issue.rule(finding.rule).position(line, column);
        match (&root, finding.path.trim_start_matches('.')) {
            (Some(root), _) => issue.at(format!("{root}{}", finding.path)),
            (None, "") => issue,
            (None, path) => issue.at(path),
        }
    };
    findings.into_iter().map(issue).collect()
}
