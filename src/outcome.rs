//! OperationOutcome: what is wrong, where, by which rule, and who must act.

use crate::fault::Fault;
use fhir::issue::rank;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use fhir::issue::{ISSUES_LIMIT, IssueCode, Severity};

/// An issue with the fault that says who must act.
pub type Issue = fhir::Issue<Fault>;

/// The code system `issue-type`.
const ISSUE_TYPES: &[&str] = &[
    "invalid",
    "structure",
    "required",
    "value",
    "invariant",
    "security",
    "login",
    "unknown",
    "expired",
    "forbidden",
    "suppressed",
    "processing",
    "not-supported",
    "duplicate",
    "multiple-matches",
    "not-found",
    "deleted",
    "too-long",
    "code-invalid",
    "extension",
    "too-costly",
    "business-rule",
    "conflict",
    "limited-filter",
    "transient",
    "lock-error",
    "no-store",
    "exception",
    "timeout",
    "incomplete",
    "throttled",
    "informational",
    "success",
];

/// What may be shown to everyone of an issue that a receiver wrote: severity and type, if they are codes of the specification.
pub fn masked(issue: &Value) -> Value {
    let known = |name: &str, codes: &[&str]| {
        issue[name].as_str().filter(|code| codes.contains(code)).map_or(Value::Null, Value::from)
    };
    let severities = ["fatal", "error", "warning", "information", "success"];
    json!({ "severity": known("severity", &severities), "code": known("code", ISSUE_TYPES) })
}

/// Gives issues of the FHIR library the faults of their causes.
pub fn with_faults(issues: impl IntoIterator<Item = fhir::Issue>) -> Vec<Issue> {
    issues.into_iter().map(|issue| issue.with_cause(Fault::from)).collect()
}

/// The issues of one message or request, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    #[serde(with = "written")]
    pub issues: Vec<Issue>,
}

impl Outcome {
    pub fn has_errors(&self) -> bool {
        self.issues.iter().any(Issue::is_error)
    }

    /// Whether any text quotes the message, so that the full and the masked text differ.
    pub fn quotes(&self) -> bool {
        self.issues.iter().any(Issue::quotes)
    }

    /// The outcome with its quotes, for the sender and operators. It must not be stored longer than the message's body.
    pub fn unmasked(&self) -> Outcome {
        Outcome { issues: self.issues.iter().map(Issue::unmasked).collect() }
    }

    /// The OperationOutcome resource with full texts, errors first. It is the same in R4, R4B, and R5.
    pub fn to_resource(&self) -> Value {
        let mut issues: Vec<&Issue> = self.issues.iter().collect();
        issues.sort_by_key(|issue| rank(issue));
        json!({ "resourceType": "OperationOutcome", "issue": issues.into_iter().map(issue_resource).collect::<Vec<_>>() })
    }
}

/// Longest `details.text`, in characters.
const SHORT_LIMIT: usize = 200;

/// The diagnostics up to the first list or advice: what is wrong, in one short sentence.
fn short(diagnostics: &str) -> &str {
    let end = ["; ", ". ", ": "].iter().filter_map(|end| diagnostics.find(end)).min().unwrap_or(diagnostics.len());
    let first = diagnostics.get(..end).unwrap_or(diagnostics);
    first.char_indices().nth(SHORT_LIMIT).and_then(|(at, _)| first.get(..at)).unwrap_or(first)
}

impl From<fhir::Issue> for Outcome {
    fn from(issue: fhir::Issue) -> Self {
        Outcome::from(issue.with_cause(Fault::from))
    }
}

impl From<Vec<fhir::Issue>> for Outcome {
    fn from(issues: Vec<fhir::Issue>) -> Self {
        Outcome::from(with_faults(issues))
    }
}

impl From<Issue> for Outcome {
    fn from(issue: Issue) -> Self {
        Outcome { issues: vec![issue] }
    }
}

impl From<Vec<Issue>> for Outcome {
    /// Lists at most `ISSUES_LIMIT` errors and as many warnings, and counts the rest.
    fn from(issues: Vec<Issue>) -> Self {
        let (mut errors, mut warnings, mut left_out) = (0, 0, 0);
        let mut listed = Vec::with_capacity(issues.len().min(2 * ISSUES_LIMIT + 1));
        for issue in issues {
            if issue.unlisted_count() > 0 {
                left_out += issue.unlisted_count();
                continue;
            }
            let count = if issue.is_error() { &mut errors } else { &mut warnings };
            *count += 1;
            if *count <= ISSUES_LIMIT { listed.push(issue) } else { left_out += 1 }
        }
        if left_out > 0 {
            listed.push(Issue::unlisted(left_out, Fault::SendStructure));
        }
        Outcome { issues: listed }
    }
}

fn issue_resource(issue: &Issue) -> Value {
    let mut coding = vec![json!({ "system": "urn:emberpost:fault", "code": issue.cause.code() })];
    if let Some(rule) = &issue.rule {
        coding.push(json!({ "system": "urn:emberpost:rule", "code": rule }));
    }
    let mut diagnostics = issue.diagnostics.full().to_owned();
    if let Some(rule) = &issue.rule {
        diagnostics.push_str(&format!(" [{rule}]"));
    }
    let mut resource = json!({
        "severity": issue.severity,
        "code": issue.code,
        "details": { "coding": coding },
    });
    let text = short(issue.diagnostics.full());
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
    if let Some(expression) = issue.full_expression() {
        resource["expression"] = json!([expression]);
    }
    resource
}

/// How issues are stored and shown: with masked texts only.
pub mod written {
    use super::{Fault, Issue, IssueCode, Severity};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::borrow::Cow;

    #[derive(Serialize, Deserialize)]
    struct Written<'i> {
        severity: Severity,
        code: IssueCode,
        fault: Fault,
        rule: Option<Cow<'i, str>>,
        expression: Option<Cow<'i, str>>,
        diagnostics: Cow<'i, str>,
        position: Option<(u32, u32)>,
    }

    pub fn serialize<S: Serializer>(issues: &[Issue], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(issues.iter().map(|issue| Written {
            severity: issue.severity,
            code: issue.code,
            fault: issue.cause,
            rule: issue.rule.as_deref().map(Cow::Borrowed),
            expression: issue.expression.as_deref().map(Cow::Borrowed),
            diagnostics: Cow::Borrowed(&issue.diagnostics),
            position: issue.position,
        }))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Issue>, D::Error> {
        let all = Vec::<Written>::deserialize(deserializer)?;
        Ok(all.into_iter().map(Written::into_issue).collect())
    }

    impl Written<'_> {
        fn into_issue(self) -> Issue {
            let mut issue = Issue::new(self.severity, self.code, self.fault, self.diagnostics.into_owned());
            issue.rule = self.rule.map(|rule| Cow::Owned(rule.into_owned()));
            issue.expression = self.expression.map(Cow::into_owned);
            issue.position = self.position;
            issue
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_first_and_each_has_a_short_text() {
        let issue =
            |severity, text: &str| Issue::new(severity, IssueCode::Value, Fault::SendStructure, text.to_owned());
        let long = "x".repeat(500);
        let outcome = Outcome::from(vec![
            issue(Severity::Information, "3 more issues are not listed; correct these first"),
            issue(Severity::Warning, "the reference fits several entries; refer to the fullUrl of one"),
            issue(Severity::Error, "gender is not in the value set http://hl7.org/fhir/ValueSet/x: male, female"),
            issue(Severity::Warning, &long),
            issue(Severity::Fatal, "The body is too long. Send less"),
        ])
        .to_resource();
        let listed: Vec<_> = outcome["issue"]
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
        assert_eq!(listed, wanted);
        assert_eq!(outcome["issue"][1]["diagnostics"], "The body is too long. Send less");
    }

    #[test]
    fn issues_of_every_origin_are_bounded_and_the_rest_is_counted_once() {
        let issue =
            |severity, number| Issue::new(severity, IssueCode::Value, Fault::SendStructure, format!("{number}"));
        let errors = (0..ISSUES_LIMIT + 7).map(|number| issue(Severity::Error, number));
        let warnings = (0..ISSUES_LIMIT + 5).map(|number| issue(Severity::Warning, number));
        let outcome = Outcome::from(warnings.chain(errors).collect::<Vec<_>>());
        assert_eq!(outcome.issues.len(), 2 * ISSUES_LIMIT + 1);
        assert_eq!(outcome.issues.iter().filter(|issue| issue.is_error()).count(), ISSUES_LIMIT);
        assert_eq!(&*outcome.issues[0].diagnostics, "0", "in the order in which they were found");
        let counted = |outcome: &Outcome| outcome.issues.last().unwrap().diagnostics.to_string();
        assert!(counted(&outcome).starts_with("12 more issues"), "{}", counted(&outcome));
        let again = Outcome::from(outcome.issues.into_iter().chain([issue(Severity::Error, 0)]).collect::<Vec<_>>());
        assert!(counted(&again).starts_with("13 more issues"), "{}", counted(&again));
    }
}
