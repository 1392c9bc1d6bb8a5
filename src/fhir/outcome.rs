//! OperationOutcome: what was wrong, where, by which rule, and who must act.

use super::fault::Fault;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Information,
    Warning,
    Error,
    Fatal,
}

/// The issue types that Emberpost uses, spelled as in the code system `issue-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IssueCode {
    Structure,
    Required,
    Value,
    Invariant,
    Login,
    Unknown,
    Forbidden,
    Processing,
    NotSupported,
    Duplicate,
    MultipleMatches,
    NotFound,
    TooLong,
    BusinessRule,
    Conflict,
    Transient,
    NoStore,
    Exception,
    Timeout,
    Throttled,
    Informational,
}

/// One issue. Its texts hold no clinical content: element paths, rule numbers and ids only (SEC-16).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Issue {
    pub severity: Severity,
    pub code: IssueCode,
    pub fault: Fault,
    /// The rule that was broken, as in the documentation: `MSG-02`, `bdl-7`, `JSN-01`.
    pub rule: Option<Cow<'static, str>>,
    /// FHIRPath of the element, from the Bundle: `Bundle.entry[0].resource.focus[1]`.
    pub expression: Option<String>,
    /// What is wrong and what to do, in one or two sentences.
    pub diagnostics: String,
    /// Line and column in the received bytes, both from 1; None where no text is at fault.
    pub position: Option<(u32, u32)>,
}

impl Issue {
    pub fn new(severity: Severity, code: IssueCode, fault: Fault, diagnostics: impl Into<String>) -> Self {
        Issue { severity, code, fault, rule: None, expression: None, diagnostics: diagnostics.into(), position: None }
    }

    pub fn error(code: IssueCode, fault: Fault, diagnostics: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, fault, diagnostics)
    }

    pub fn warning(code: IssueCode, fault: Fault, diagnostics: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, fault, diagnostics)
    }

    pub fn rule(mut self, rule: impl Into<Cow<'static, str>>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    pub fn at(mut self, expression: impl Into<String>) -> Self {
        self.expression = Some(expression.into());
        self
    }

    pub fn position(mut self, line: u32, column: u32) -> Self {
        self.position = Some((line, column));
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity >= Severity::Error
    }
}

/// The issues of one message or request, in the order they were found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub issues: Vec<Issue>,
}

impl Outcome {
    pub fn has_errors(&self) -> bool {
        self.issues.iter().any(Issue::is_error)
    }

    /// The OperationOutcome resource, errors first; its form is the same in R4, R4B and R5.
    pub fn to_resource(&self) -> Value {
        let mut issues: Vec<&Issue> = self.issues.iter().collect();
        issues.sort_by_key(|issue| rank(issue));
        json!({ "resourceType": "OperationOutcome", "issue": issues.into_iter().map(issue_resource).collect::<Vec<_>>() })
    }
}

/// The order in which kinds of issues are told: errors, warnings, the rest.
pub fn rank(issue: &Issue) -> u8 {
    match issue.severity {
        Severity::Fatal | Severity::Error => 0,
        Severity::Warning => 1,
        Severity::Information => 2,
    }
}

/// Longest `details.text`, in characters.
const SHORT_LIMIT: usize = 200;

/// What is wrong, in one short sentence: the diagnostics up to what they list or advise.
fn short(diagnostics: &str) -> &str {
    let end = ["; ", ". ", ": "].iter().filter_map(|end| diagnostics.find(end)).min().unwrap_or(diagnostics.len());
    let first = diagnostics.get(..end).unwrap_or(diagnostics);
    first.char_indices().nth(SHORT_LIMIT).and_then(|(at, _)| first.get(..at)).unwrap_or(first)
}

impl From<Issue> for Outcome {
    fn from(issue: Issue) -> Self {
        Outcome { issues: vec![issue] }
    }
}

impl From<Vec<Issue>> for Outcome {
    fn from(issues: Vec<Issue>) -> Self {
        Outcome { issues }
    }
}

fn issue_resource(issue: &Issue) -> Value {
    let mut coding = vec![json!({ "system": "urn:emberpost:fault", "code": issue.fault.code() })];
    if let Some(rule) = &issue.rule {
        coding.push(json!({ "system": "urn:emberpost:rule", "code": rule }));
    }
    let mut diagnostics = issue.diagnostics.clone();
    if let Some(rule) = &issue.rule {
        diagnostics.push_str(&format!(" [{rule}]"));
    }
    let mut resource = json!({
        "severity": issue.severity,
        "code": issue.code,
        "details": { "coding": coding },
    });
    let text = short(&issue.diagnostics);
    if !text.trim().is_empty() {
        resource["details"]["text"] = Value::String(text.to_owned());
    }
    if let Some((line, column)) = issue.position {
        diagnostics.push_str(&format!(" (line {line}, column {column})"));
        resource["extension"] = json!([
            { "url": "http://hl7.org/fhir/StructureDefinition/operationoutcome-issue-line", "valueInteger": line },
            { "url": "http://hl7.org/fhir/StructureDefinition/operationoutcome-issue-col", "valueInteger": column },
        ]);
    }
    resource["diagnostics"] = Value::String(diagnostics);
    if let Some(expression) = &issue.expression {
        resource["expression"] = json!([expression]);
    }
    resource
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_first_and_each_has_a_short_text() {
        let issue = |severity, text: &str| Issue::new(severity, IssueCode::Value, Fault::SendStructure, text);
        let long = "x".repeat(500);
        let outcome = Outcome::from(vec![
            issue(Severity::Information, "3 more issues are not listed; correct these first"),
            issue(Severity::Warning, "the reference fits several entries; refer to the fullUrl of one"),
            issue(Severity::Error, "gender is not in the value set http://hl7.org/fhir/ValueSet/x: male, female"),
            issue(Severity::Warning, &long),
            issue(Severity::Fatal, "The body is too long. Send less"),
        ])
        .to_resource();
        let told: Vec<_> = outcome["issue"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["severity"].as_str().unwrap(), one["details"]["text"].as_str().unwrap()))
            .collect();
        let wanted = [
            ("error", "gender is not in the value set http://hl7.org/fhir/ValueSet/x"),
            ("fatal", "The body is too long"),
            ("warning", "the reference fits several entries"),
            ("warning", &long[..SHORT_LIMIT]),
            ("information", "3 more issues are not listed"),
        ];
        assert_eq!(told, wanted);
        assert_eq!(outcome["issue"][1]["diagnostics"], "The body is too long. Send less");
    }
}
