//! Constraints that are written by hand, because they are asked often: recognised by their published expression, so
//! that one whose expression differs in a version falls to the engine.

mod period;

use crate::fhir::FhirVersion;
use crate::fhir::schema::Constraint;
use crate::fhir::tree::Node;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Native {
    /// Told while walking: ele-1, dom-2 to dom-5, ref-1, txt-1, txt-2.
    ByWalk,
    /// per-1 in all versions: a comparison without result is no failure, and of two precisions the boundaries count.
    PeriodOrder,
    /// `code` values that must not be there: `where(use = 'home').empty()`.
    NotHome,
}

impl Native {
    pub fn of(constraint: &Constraint) -> Option<Native> {
        Some(match &*constraint.key {
            "ele-1" | "dom-2" | "dom-3" | "dom-4" | "dom-5" | "ref-1" | "txt-1" | "txt-2" => Native::ByWalk,
            "per-1" => Native::PeriodOrder,
            _ if &*constraint.expression == "where(use = 'home').empty()" => Native::NotHome,
            _ => return None,
        })
    }
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
    }
}
