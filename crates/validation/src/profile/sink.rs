//! Receives the violations that the walk finds: adds them to the issues, or keeps the first one if only the verdict
//! matters.

use super::super::collector::{IssueCollector, Violation};
use super::named_path::NamedPath;
use emberpost_fhir::tree::Node;
use emberpost_fhir::{Cause, IssueCode};
use std::borrow::Cow;

/// The maximum length of a violation in a verdict, in characters, because it may quote another one.
const SENTENCE_LIMIT: usize = 600;

pub(super) enum Sink<'r, 'm> {
    Issues(&'r mut IssueCollector<'m>),
    /// The first violation as a sentence, once there is one.
    Verdict(Option<String>),
}

pub(super) struct Found<'p, 't> {
    pub path: &'p NamedPath<'p>,
    /// The name of the child to append to the path, if that child is missing or occurs too often.
    pub child: Option<&'p str>,
    pub node: Option<Node<'t>>,
    pub rule: Cow<'static, str>,
    pub code: IssueCode,
}

impl Sink<'_, '_> {
    /// Whether the verdict is final.
    pub fn is_settled(&self) -> bool {
        matches!(self, Sink::Verdict(Some(_)))
    }

    /// Adds an error; the text is only formatted if it is needed.
    pub fn error(&mut self, found: Found, text: impl FnOnce() -> String) {
        match self {
            Sink::Issues(collector) if collector.is_full() => collector.count_error(),
            Sink::Issues(collector) => collector.error(expression(&found), found.node, broken(&found, text())),
            Sink::Verdict(first @ None) => {
                let whole = format!("{}: {} [{}]", expression(&found), text(), found.rule);
                *first = Some(whole.chars().take(SENTENCE_LIMIT).collect());
            }
            Sink::Verdict(_) => {}
        }
    }

    /// Adds a warning, which does not change a verdict.
    pub fn warning(&mut self, found: Found, text: impl FnOnce() -> String) {
        if let Sink::Issues(collector) = self {
            collector.warning(expression(&found), found.node, broken(&found, text()));
        }
    }
}

fn expression(found: &Found) -> String {
    match found.child {
        Some(child) => format!("{}.{child}", found.path),
        None => found.path.to_string(),
    }
}

fn broken(found: &Found, text: String) -> Violation {
    Violation { rule: found.rule.clone(), code: found.code, cause: Cause::Definition, text: text.into() }
}
