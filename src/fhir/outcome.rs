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

    /// The OperationOutcome resource; its form is the same in R4, R4B and R5.
    pub fn to_resource(&self) -> Value {
        json!({ "resourceType": "OperationOutcome", "issue": self.issues.iter().map(issue_resource).collect::<Vec<_>>() })
    }
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
