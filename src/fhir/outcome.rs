//! OperationOutcome: what was wrong, where, by which rule, and who must act.

use super::fault::Fault;
use super::quoted::{MASK, Text, is_plain_path, quote_path};
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

/// Most errors, and most warnings, that are listed of one message; the rest is counted.
pub const ISSUES_LIMIT: usize = 500;

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

/// A text that few issues have, behind a pointer, so that the others stay small.
#[derive(Clone, Debug, PartialEq)]
struct Full(Box<str>);

/// One issue. `expression` and `diagnostics` as they stand are for everybody: element paths of the specification, rule
/// numbers and figures (SEC-16). What they quote of the message is beside them, for its sender and for operators; serde
/// writes the masked texts only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Issue {
    pub severity: Severity,
    pub code: IssueCode,
    pub fault: Fault,
    /// The rule that was broken, as in the documentation: `MSG-02`, `bdl-7`, `JSN-01`.
    pub rule: Option<Cow<'static, str>>,
    /// FHIRPath of the element, from the Bundle: `Bundle.entry[0].resource.focus[1]`. Masked.
    pub expression: Option<String>,
    /// The expression with the names that the specification does not know; None where there are none.
    #[serde(skip)]
    full_expression: Option<Box<Full>>,
    /// What is wrong and what to do, in one or two sentences.
    pub diagnostics: Text,
    /// Line and column in the received bytes, both from 1; None where no text is at fault.
    pub position: Option<(u32, u32)>,
    /// Stands for so many issues that are not listed; 0: for itself.
    #[serde(skip)]
    left_out: u32,
}

impl Issue {
    /// `diagnostics` marks what it quotes of a message, see `quote`.
    pub fn new(severity: Severity, code: IssueCode, fault: Fault, diagnostics: impl Into<String>) -> Self {
        let diagnostics = Text::new(diagnostics.into());
        Issue {
            severity,
            code,
            fault,
            rule: None,
            expression: None,
            full_expression: None,
            diagnostics,
            position: None,
            left_out: 0,
        }
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
        self.set_expression(&expression.into());
        self
    }

    /// At an element that the specification knows: there is nothing to mask in its expression.
    pub fn at_known(mut self, expression: String) -> Self {
        self.set_known_expression(expression);
        self
    }

    pub fn set_known_expression(&mut self, expression: String) {
        (self.expression, self.full_expression) = (Some(expression), None);
    }

    /// At an element whose names may be the sender's own.
    pub fn set_expression(&mut self, expression: &str) {
        if is_plain_path(expression) {
            return self.set_known_expression(expression.to_owned());
        }
        // In FHIRPath, what stands between accents may be any name.
        let spell = |text: &str| text.replace(MASK, "`?`");
        let Text { masked, full } = Text::new(quote_path(&expression.replace("`?`", MASK)));
        let (masked, full) = (spell(&masked), full.map(|full| Box::new(Full(spell(&full).into()))));
        (self.expression, self.full_expression) = (Some(masked), full);
    }

    /// The expression as its sender may see it.
    pub fn full_expression(&self) -> Option<&str> {
        self.full_expression.as_ref().map(|full| &*full.0).or(self.expression.as_deref())
    }

    /// The same issue whose texts, also as they are serialized, are those for the sender and operators.
    fn unmasked(&self) -> Issue {
        let mut issue = self.clone();
        issue.diagnostics = issue.diagnostics.unmasked();
        issue.expression = issue.full_expression.take().map(|full| full.0.into()).or(issue.expression);
        issue
    }

    pub fn position(mut self, line: u32, column: u32) -> Self {
        self.position = Some((line, column));
        self
    }

    /// Says that so many further issues were found.
    pub fn left_out(count: usize) -> Issue {
        let text = format!("{count} more issues are not listed; correct these first");
        let issue = Issue::new(Severity::Information, IssueCode::Informational, Fault::SendStructure, text);
        Issue { left_out: u32::try_from(count).unwrap_or(u32::MAX), ..issue }
    }

    /// What everybody may see of an issue that somebody else wrote: severity and type, where they are the specification's.
    pub fn masked_of(issue: &Value) -> Value {
        let known = |name: &str, codes: &[&str]| {
            issue[name].as_str().filter(|code| codes.contains(code)).map_or(Value::Null, Value::from)
        };
        let severities = ["fatal", "error", "warning", "information", "success"];
        json!({ "severity": known("severity", &severities), "code": known("code", ISSUE_TYPES) })
    }

    /// For how many issues that are not listed it stands.
    pub(crate) fn stands_for(&self) -> usize {
        self.left_out as usize
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

    /// Whether any text differs between the sender's reading and that of everybody else.
    pub fn quotes(&self) -> bool {
        self.issues.iter().any(|issue| issue.full_expression.is_some() || issue.diagnostics.full.is_some())
    }

    /// The outcome with all that it quotes, for the sender and operators; to be kept no longer than the message's body.
    pub fn unmasked(&self) -> Outcome {
        Outcome { issues: self.issues.iter().map(Issue::unmasked).collect() }
    }

    /// The OperationOutcome resource, as the sender may see it, errors first; its form is the same in R4, R4B and R5.
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
    /// Lists at most `ISSUES_LIMIT` errors and as many warnings, whoever found them, and counts the rest.
    fn from(issues: Vec<Issue>) -> Self {
        let (mut errors, mut warnings, mut left_out) = (0, 0, 0);
        let mut listed = Vec::with_capacity(issues.len().min(2 * ISSUES_LIMIT + 1));
        for issue in issues {
            if issue.left_out > 0 {
                left_out += issue.stands_for();
                continue;
            }
            let count = if issue.is_error() { &mut errors } else { &mut warnings };
            *count += 1;
            if *count <= ISSUES_LIMIT { listed.push(issue) } else { left_out += 1 }
        }
        if left_out > 0 {
            listed.push(Issue::left_out(left_out));
        }
        Outcome { issues: listed }
    }
}

fn issue_resource(issue: &Issue) -> Value {
    let mut coding = vec![json!({ "system": "urn:emberpost:fault", "code": issue.fault.code() })];
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
