//! Constraints that are written by hand, because they are asked often: recognised by their published expression, so
//! that one whose expression differs in a version falls to the engine.

mod period;

use crate::fhir::FhirVersion;
use crate::fhir::schema::Constraint;
use crate::fhir::tree::Node;
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Native {
    /// Told while walking: ele-1, dom-2 to dom-5, ref-1, txt-1, txt-2.
    ByWalk,
    /// per-1 in all versions: a comparison without result is no failure, and of two precisions the boundaries count.
    PeriodOrder,
    /// `where(use = 'home').empty()`
    NotHome,
    /// bdl-11 to bdl-13: a Bundle of this type begins with this resource. Without entries the expression has no result,
    /// but the sentence is broken.
    FirstEntry { bundle: &'static str, resource: &'static str },
    /// md-1: `max` is `*` or a number from 1. Of a text that is none the expression has no result.
    PositiveMax,
    /// vsd-9: a code, unless the concept is abstract. With neither the expression has no result, but the sentence is broken.
    CodeUnlessAbstract,
}

impl Native {
    pub fn of(constraint: &'static Constraint) -> Option<Native> {
        Some(match (&*constraint.key, &*constraint.expression) {
            ("ele-1" | "dom-2" | "dom-3" | "dom-4" | "dom-5" | "ref-1" | "txt-1" | "txt-2", _) => Native::ByWalk,
            ("per-1", _) => Native::PeriodOrder,
            (_, "where(use = 'home').empty()") => Native::NotHome,
            (_, "max='*' or (max.toInteger() > 0)") => Native::PositiveMax,
            (_, "code.exists() or abstract = true") => Native::CodeUnlessAbstract,
            (_, expression) => first_entry(expression)?,
        })
    }
}

/// `type = 'document' implies entry.first().resource.is(Composition)`
fn first_entry(expression: &'static str) -> Option<Native> {
    let (bundle, rest) = expression.strip_prefix("type = '")?.split_once('\'')?;
    let resource = rest.strip_prefix(" implies entry.first().resource.is(")?.strip_suffix(')')?;
    Some(Native::FirstEntry { bundle, resource })
}

/// Whether an object keeps a rule; `ByWalk` is told elsewhere.
pub(super) fn holds(native: Native, node: Node<'_>, version: FhirVersion) -> bool {
    let text = |name| node.get(name).and_then(Node::text);
    match native {
        Native::ByWalk => true,
        Native::NotHome => text("use").is_none_or(|code| code != "home"),
        Native::PeriodOrder => match text("start").zip(text("end")) {
            Some((start, end)) => period::in_order(&start, &end, version),
            None => true,
        },
        Native::FirstEntry { bundle, resource } => {
            text("type").is_none_or(|found| found != bundle) || first_type(node).as_deref() == Some(resource)
        }
        Native::CodeUnlessAbstract => {
            let is_abstract = || node.get("abstract").is_some_and(|found| found.span().0 == b"true");
            node.get("code").is_some() || node.get("_code").is_some() || is_abstract()
        }
        Native::PositiveMax => text("max").is_none_or(|max| max == "*" || max.parse::<i32>().is_ok_and(|max| max > 0)),
    }
}

fn first_type(bundle: Node<'_>) -> Option<Cow<'_, str>> {
    bundle.get("entry")?.items().next()?.get("resource")?.get("resourceType")?.text()
}
