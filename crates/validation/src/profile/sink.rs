//! Where the walk's findings go: into the report, or, where only the verdict counts, nowhere but for the first.

use super::super::report::{Broken, Report};
use super::place::Place;
use emberpost_fhir::tree::Node;
use emberpost_fhir::{Cause, IssueCode};
use std::borrow::Cow;

/// Longest sentence that a verdict keeps, in characters: it may quote another one.
const SENTENCE_LIMIT: usize = 600;

pub(super) enum Sink<'r, 'm> {
    Report(&'r mut Report<'m>),
    /// The first mistake as a sentence, once there is one.
    Verdict(Option<String>),
}

pub(super) struct Found<'p, 't> {
    pub place: &'p Place<'p>,
    /// A child's name to add to the place, where it is the child that is missing or too many.
    pub child: Option<&'p str>,
    pub node: Option<Node<'t>>,
    pub rule: Cow<'static, str>,
    pub code: IssueCode,
}

impl Sink<'_, '_> {
    /// Whether nothing more can change what it says.
    pub fn is_settled(&self) -> bool {
        matches!(self, Sink::Verdict(Some(_)))
    }

    /// Takes an error; the text is only made when somebody reads it.
    pub fn error(&mut self, found: Found, text: impl FnOnce() -> String) {
        match self {
            Sink::Report(report) if report.is_full() => report.count_error(),
            Sink::Report(report) => report.error(expression(&found), found.node, broken(&found, text())),
            Sink::Verdict(first @ None) => {
                let whole = format!("{}: {} [{}]", expression(&found), text(), found.rule);
                *first = Some(whole.chars().take(SENTENCE_LIMIT).collect());
            }
            Sink::Verdict(_) => {}
        }
    }

    /// Takes a warning, which changes no verdict.
    pub fn warning(&mut self, found: Found, text: impl FnOnce() -> String) {
        if let Sink::Report(report) = self {
            report.warning(expression(&found), found.node, broken(&found, text()));
        }
    }
}

fn expression(found: &Found) -> String {
    match found.child {
        Some(child) => format!("{}.{child}", found.place),
        None => found.place.to_string(),
    }
}

fn broken(found: &Found, text: String) -> Broken {
    Broken { rule: found.rule.clone(), code: found.code, cause: Cause::Definition, text }
}
