//! Collects what a reader finds, with byte offsets, and turns it into issues with line and column in one pass at the
//! end.

use super::cause::Cause;
use super::issue::{ISSUES_LIMIT, Issue, IssueCode, Severity};
use super::scan;
use std::borrow::Cow;

/// The maximum number of issues, and of notes, reported for one document.
pub const ISSUE_LIMIT: usize = ISSUES_LIMIT;

/// Rules of notes that the structure check finds and counts again.
const FOUND_AGAIN: [&str; 3] = ["JSN-03", "JSN-04", "XML-02"];

/// The rule of documents that are nested too deeply: a limit of Emberpost, not a rule of FHIR.
pub(super) const DEPTH: &str = "depth";
/// The text for such documents; the number is `json::DEPTH_LIMIT`.
pub(super) const TOO_DEEP: &str =
    "The document is nested too deeply; Emberpost's limit is 256 levels of objects and arrays";

/// One finding, without line and column yet.
pub(super) struct Finding {
    pub offset: usize,
    pub severity: Severity,
    pub code: IssueCode,
    pub rule: &'static str,
    pub text: Cow<'static, str>,
    /// The path from the members of the root, without the name of the root's type.
    pub path: String,
}

impl Finding {
    pub fn new(offset: usize, rule: &'static str, text: impl Into<Cow<'static, str>>, path: String) -> Self {
        Finding { offset, severity: Severity::Error, code: IssueCode::Structure, rule, text: text.into(), path }
    }
}

/// What refuses the document, and what is only noted. Each has its own limit.
#[derive(Default)]
pub(super) struct Findings {
    refusals: Vec<Finding>,
    notes: Vec<Finding>,
    unlisted: usize,
}

impl Findings {
    /// Whether another refusal will be listed. Checked before a path is made: a short document may have very many
    /// duplicate names, each with a long path.
    pub fn has_room_for_refusals(&self) -> bool {
        self.refusals.len() < ISSUE_LIMIT
    }

    /// The same for notes: a document of empty arrays would cause millions of them.
    pub fn has_room_for_notes(&self) -> bool {
        self.notes.len() < ISSUE_LIMIT
    }

    /// Adds a reason to refuse the document; only counts it if there is no room.
    pub fn refuse(&mut self, finding: Finding) {
        match self.has_room_for_refusals() {
            true => self.refusals.push(finding),
            false => self.unlisted += 1,
        }
    }

    /// Adds what ended the parsing; replaces another refusal if there is no room.
    pub fn end(&mut self, finding: Finding) {
        if self.refusals.len() >= ISSUE_LIMIT {
            self.unlisted += self.refusals.len() - (ISSUE_LIMIT - 1);
            self.refusals.truncate(ISSUE_LIMIT - 1);
        }
        self.refusals.push(finding);
    }

    /// Adds a note; only counts it if there is no room.
    pub fn note(&mut self, finding: Finding) {
        match self.has_room_for_notes() {
            true => self.notes.push(finding),
            false => self.unlisted += usize::from(!FOUND_AGAIN.contains(&finding.rule)),
        }
    }

    /// The notes as issues in document order. Errs with all findings if one refuses the document. `bytes` are what
    /// the offsets refer to; `root` is the type of the resource, if it is known.
    pub fn into_issues(self, bytes: &[u8], root: Option<&str>) -> Result<Vec<Issue>, Vec<Issue>> {
        let Findings { refusals, notes, unlisted } = self;
        let refused = !refusals.is_empty();
        let fault = |finding: &Finding| if finding.rule == DEPTH { Cause::Depth } else { Cause::Syntax };
        let refusals =
            refusals.into_iter().map(|finding| (fault(&finding), finding)).map(|(fault, found)| (found, fault));
        let mut findings: Vec<_> = refusals.chain(notes.into_iter().map(|note| (note, Cause::Structure))).collect();
        findings.sort_by_key(|(finding, _)| finding.offset);
        let mut issues = issues(bytes, root, findings);
        if unlisted > 0 {
            issues.push(Issue::unlisted(unlisted, Cause::Structure));
        }
        if refused { Err(issues) } else { Ok(issues) }
    }
}

fn issues(bytes: &[u8], root: Option<&str>, findings: Vec<(Finding, Cause)>) -> Vec<Issue> {
    let root = root.filter(|name| name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphabetic()));
    let mut walk = scan::Walk::new(bytes);
    let issue = |(finding, fault): (Finding, Cause)| {
        let (line, column) = walk.to(bytes, finding.offset);
        let issue = Issue::new(finding.severity, finding.code, fault, finding.text);
        let issue = issue.rule(finding.rule).position(line, column);
        match (root, finding.path.trim_start_matches('.')) {
            (Some(root), _) => issue.at(format!("{root}{}", finding.path)),
            (None, "") => issue,
            (None, path) => issue.at(path),
        }
    };
    findings.into_iter().map(issue).collect()
}

/// A step of an expression. A name that no FHIR element can have is masked, because it may be anything.
pub(super) fn step(name: &str) -> String {
    let plain = !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain { format!(".{name}") } else { ".`?`".to_owned() }
}
