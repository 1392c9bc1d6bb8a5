//! Constraints in hand-written code, because they are evaluated often. Recognized by their published expressions, so
//! that a version with a different expression uses the engine.

mod period;

use emberpost_fhir::FhirVersion;
use emberpost_fhir::message::entries_of;
use emberpost_fhir::schema::Constraint;
use emberpost_fhir::tree::Node;
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Native {
    /// Checked by the walk itself: ele-1, dom-2 to dom-5, ref-1, txt-1, txt-2.
    ByWalk,
    /// per-1 in all versions: a comparison without a result is not an error; for different precisions the boundaries
    /// are compared.
    PeriodOrder,
    /// `where(use = 'home').empty()`
    NotHome,
    /// bdl-11 to bdl-13: a Bundle of this type begins with this resource. Without entries the expression has no
    /// result, but the rule as stated is violated.
    FirstEntry { bundle: &'static str, resource: &'static str },
    /// md-1: `max` is `*` or a number from 1. Violated if it is missing or not a number.
    PositiveMax,
    /// bdl-3 and bdl-4 of R4 and R4B: each entry has this part if and only if the Bundle has one of some types.
    PartOfTypes(&'static str, &'static str),
    /// bdl-7: no two entries have the same fullUrl and versionId, except in a history.
    DistinctEntries,
    /// vsd-9: a code, unless the concept is abstract. With neither, the expression has no result, but the rule as
    /// stated is violated.
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
            (_, expression) if expression.starts_with(DISTINCT_ENTRIES) => Native::DistinctEntries,
            (_, expression) => first_entry(expression).or_else(|| part_of_types(expression))?,
        })
    }
}

/// The common start of bdl-7 in every version; the rest differs in spelling only.
const DISTINCT_ENTRIES: &str = "(type = 'history') or entry.where(fullUrl.exists()).select(fullUrl&";
/// How bdl-3 and bdl-4 continue after the name of the part, and what separates their types.
const OF_TYPES: &str = ".exists() = (%resource.type = '";
const BETWEEN_TYPES: &str = "' or %resource.type = '";

/// `entry.all(request.exists() = (%resource.type = 'batch' or %resource.type = 'transaction'))`
fn part_of_types(expression: &'static str) -> Option<Native> {
    let expression = expression.strip_prefix("entry.all(")?;
    let (name, types) = expression.split_once(OF_TYPES)?;
    let types = types.strip_suffix("'))")?;
    let is_list = types
        .split("' or %resource.type = '")
        .all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
    is_list.then_some(Native::PartOfTypes(name, types))
}

/// `type = 'document' implies entry.first().resource.is(Composition)`
fn first_entry(expression: &'static str) -> Option<Native> {
    let (bundle, rest) = expression.strip_prefix("type = '")?.split_once('\'')?;
    let resource = rest.strip_prefix(" implies entry.first().resource.is(")?.strip_suffix(')')?;
    Some(Native::FirstEntry { bundle, resource })
}

/// Whether an object satisfies a rule; None if that is not known here. The walk checks `ByWalk`.
pub(super) fn evaluate(native: Native, node: Node<'_>, version: FhirVersion) -> Option<bool> {
    let text = |name| node.get(name).and_then(Node::text);
    Some(match native {
        Native::ByWalk => true,
        Native::NotHome => text("use").is_none_or(|code| code != "home"),
        Native::PeriodOrder => match text("start").zip(text("end")) {
            Some((start, end)) => period::in_order(&start, &end, version),
            None => true,
        },
        Native::FirstEntry { bundle, resource } => {
            text("type").is_some_and(|found| found != bundle) || first_type(node).as_deref() == Some(resource)
        }
        Native::CodeUnlessAbstract => {
            let is_abstract = || node.get("abstract").is_some_and(|found| found.span().0 == b"true");
            node.get("code").is_some() || node.get("_code").is_some() || is_abstract()
        }
        Native::PositiveMax => text("max").is_some_and(|max| max == "*" || max.parse::<i32>().is_ok_and(|max| max > 0)),
        Native::PartOfTypes(name, types) => {
            let found = text("type")?;
            let wanted = types.split(BETWEEN_TYPES).any(|known| known == found);
            entries_of(node).all(|entry| entry.get(name).is_some() == wanted)
        }
        Native::DistinctEntries => return are_distinct(node),
    })
}

/// None if the type is missing, or a fullUrl has no value.
fn are_distinct(bundle: Node<'_>) -> Option<bool> {
    if bundle.get("type")?.text()? == "history" {
        return Some(true);
    }
    let mut names = Vec::new();
    for entry in entries_of(bundle) {
        let full_url = match (entry.get("fullUrl"), entry.get("_fullUrl")) {
            (Some(full_url), _) => full_url.text()?,
            (None, Some(_)) => return None,
            (None, None) => continue,
        };
        let meta = entry.get("resource").and_then(|resource| resource.get("meta"));
        names.push(match meta.and_then(|meta| meta.get("versionId")) {
            Some(version) => Cow::Owned(full_url.into_owned() + &*version.text()?),
            None => full_url,
        });
    }
    names.sort_unstable();
    Some(names.windows(2).all(|pair| pair[0] != pair[1]))
}

fn first_type(bundle: Node<'_>) -> Option<Cow<'_, str>> {
    bundle.get("entry")?.items().next()?.get("resource")?.get("resourceType")?.text()
}
