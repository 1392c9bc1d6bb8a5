//! Issues: what is wrong with a document, where, by which rule, and the cause.

use super::cause::Cause;
use super::quoted::{Full, MASK, Text, is_plain_path, quote_path};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The severity of an issue, as in the code system `issue-severity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// `information`.
    Information,
    /// `warning`.
    Warning,
    /// `error`.
    Error,
    /// `fatal`.
    Fatal,
}

/// The issue types that Emberpost uses, named as in the code system `issue-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IssueCode {
    /// `structure`.
    Structure,
    /// `required`.
    Required,
    /// `value`.
    Value,
    /// `invariant`.
    Invariant,
    /// `login`.
    Login,
    /// `unknown`.
    Unknown,
    /// `forbidden`.
    Forbidden,
    /// `processing`.
    Processing,
    /// `not-supported`.
    NotSupported,
    /// `duplicate`.
    Duplicate,
    /// `multiple-matches`.
    MultipleMatches,
    /// `not-found`.
    NotFound,
    /// `too-long`.
    TooLong,
    /// `business-rule`.
    BusinessRule,
    /// `conflict`.
    Conflict,
    /// `transient`.
    Transient,
    /// `no-store`.
    NoStore,
    /// `exception`.
    Exception,
    /// `timeout`.
    Timeout,
    /// `throttled`.
    Throttled,
    /// `information`.
    Informational,
}

/// The maximum number of errors, and of warnings, listed for one message; further ones are counted.
pub const ISSUES_LIMIT: usize = 500;

/// One issue. The type of `cause` is chosen by the program that reads issues: `Cause` as this library finds them, or
/// its own codes (`with_cause`).
///
/// `expression` and `diagnostics` are safe to show to anyone: paths and rules of the specification and figures
/// (SEC-16). Quotations of the message are kept separately, for its sender and for operators.
#[derive(Clone, Debug, PartialEq)]
pub struct Issue<C = Cause> {
    /// How bad it is.
    pub severity: Severity,
    /// Its type in the code system `issue-type`.
    pub code: IssueCode,
    /// Why it is wrong, in terms of the program that reads issues.
    pub cause: C,
    /// The rule that was violated, as in the documentation: `MSG-02`, `bdl-7`, `JSN-01`.
    pub rule: Option<Cow<'static, str>>,
    /// FHIRPath of the element, from the Bundle: `Bundle.entry[0].resource.focus[1]`. Unknown names are masked.
    pub expression: Option<String>,
    /// The expression including names that the specification does not define; None if there are none.
    full_expression: Option<Box<Full>>,
    /// What is wrong and what to do, in one or two sentences.
    pub diagnostics: Text,
    /// Line and column in the received bytes, both from 1; None if the issue has no position in the text.
    pub position: Option<(u32, u32)>,
    /// The number of unlisted issues that this one summarizes; 0: it is an issue of its own.
    unlisted: u32,
}

impl<C> Issue<C> {
    /// Quotations of the message in `diagnostics` must be marked, see `quote`.
    pub fn new(severity: Severity, code: IssueCode, cause: C, diagnostics: impl Into<Cow<'static, str>>) -> Self {
        let diagnostics = Text::new(diagnostics);
        Issue {
            severity,
            code,
            cause,
            rule: None,
            expression: None,
            full_expression: None,
            diagnostics,
            position: None,
            unlisted: 0,
        }
    }

    /// An issue of severity error.
    pub fn error(code: IssueCode, cause: C, diagnostics: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Error, code, cause, diagnostics)
    }

    /// An issue of severity warning.
    pub fn warning(code: IssueCode, cause: C, diagnostics: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Warning, code, cause, diagnostics)
    }

    /// Sets the rule that was violated.
    pub fn rule(mut self, rule: impl Into<Cow<'static, str>>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    /// Sets the expression; names that the specification does not define are masked.
    pub fn at(mut self, expression: impl Into<String>) -> Self {
        self.set_expression(&expression.into());
        self
    }

    /// Sets the expression of an element that the specification defines: nothing in it needs masking.
    pub fn at_known(mut self, expression: String) -> Self {
        self.set_known_expression(expression);
        self
    }

    /// Sets an expression that consists of names of the specification only.
    pub fn set_known_expression(&mut self, expression: String) {
        (self.expression, self.full_expression) = (Some(expression), None);
    }

    /// Sets an expression whose names may be the sender's own; unknown names are masked.
    pub fn set_expression(&mut self, expression: &str) {
        if is_plain_path(expression) {
            return self.set_known_expression(expression.to_owned());
        }
        // In FHIRPath, a name between backticks may contain anything.
        let spell = |text: &str| text.replace(MASK, "`?`");
        let Text { masked, full } = Text::new(quote_path(&expression.replace("`?`", MASK)));
        let (masked, full) = (spell(&masked), full.map(|full| Full::boxed(spell(&full.0))));
        (self.expression, self.full_expression) = (Some(masked), full);
    }

    /// The expression as its sender may see it.
    pub fn full_expression(&self) -> Option<&str> {
        self.full_expression.as_ref().map(|full| &*full.0).or(self.expression.as_deref())
    }

    /// The same issue with the texts for the sender and operators, also when it is serialized.
    pub fn unmasked(&self) -> Issue<C>
    where
        C: Clone,
    {
        let mut issue = self.clone();
        issue.diagnostics = issue.diagnostics.unmasked();
        issue.expression = issue.full_expression.take().map(|full| full.0.into()).or(issue.expression);
        issue
    }

    /// Sets line and column, both from 1.
    pub fn position(mut self, line: u32, column: u32) -> Self {
        self.position = Some((line, column));
        self
    }

    /// An issue that says how many further issues were found.
    pub fn unlisted(count: usize, cause: C) -> Issue<C> {
        let text = format!("{count} more issues are not listed; correct the listed ones first");
        let issue = Issue::new(Severity::Information, IssueCode::Informational, cause, text);
        Issue { unlisted: u32::try_from(count).unwrap_or(u32::MAX), ..issue }
    }

    /// The number of unlisted issues that it summarizes.
    pub fn unlisted_count(&self) -> usize {
        self.unlisted as usize
    }

    /// Whether the sender's texts differ from those for everyone else.
    pub fn quotes(&self) -> bool {
        self.full_expression.is_some() || self.diagnostics.full.is_some()
    }

    /// The same issue with a cause of another type.
    pub fn with_cause<D>(self, cause: impl FnOnce(C) -> D) -> Issue<D> {
        Issue {
            severity: self.severity,
            code: self.code,
            cause: cause(self.cause),
            rule: self.rule,
            expression: self.expression,
            full_expression: self.full_expression,
            diagnostics: self.diagnostics,
            position: self.position,
            unlisted: self.unlisted,
        }
    }

    /// Whether its severity is error or fatal.
    pub fn is_error(&self) -> bool {
        self.severity >= Severity::Error
    }
}

/// The order in which issues are listed: errors, warnings, the rest.
pub fn rank<C>(issue: &Issue<C>) -> u8 {
    match issue.severity {
        Severity::Fatal | Severity::Error => 0,
        Severity::Warning => 1,
        Severity::Information => 2,
    }
}
