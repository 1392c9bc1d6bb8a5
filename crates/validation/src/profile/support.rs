//! Reports must-support elements that a resource does not have, as information.

use super::super::collector::IssueCollector;
use super::check::{Checker, Demanded};
use super::rules::Rules;
use emberpost_fhir::element::Element;
use emberpost_fhir::{Cause, Issue, IssueCode, Severity};

/// The maximum number of resources per message for which this is reported.
const RESOURCES_LIMIT: usize = 20;
/// The maximum number of elements named per resource.
const NAMES_LIMIT: usize = 10;
/// The depth within a resource to which elements are searched.
const DEPTH_LIMIT: usize = 8;

pub(super) fn report<'t>(checker: &'t Checker<'t>, demanded: &[Demanded<'t>], collector: &mut IssueCollector) {
    let mut reported = 0;
    for (target, id, path) in demanded {
        let Some(profile) = checker.profiles.get(*id) else { continue };
        let mut absent = Vec::new();
        absences(checker, target.element, &profile.root, "", DEPTH_LIMIT, &mut absent);
        if absent.is_empty() {
            continue;
        }
        let more = absent.len().saturating_sub(NAMES_LIMIT);
        let names = absent.into_iter().take(NAMES_LIMIT).collect::<Vec<_>>().join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let text = format!("must-support elements of {} that are absent: {names}{more}", profile.canonical);
        let issue = Issue::new(Severity::Information, IssueCode::Informational, Cause::Definition, text);
        collector.add_issue(issue.rule("must-support").at(path.as_str()));
        reported += 1;
        if reported == RESOURCES_LIMIT {
            return;
        }
    }
}

fn absences(checker: &Checker, element: Element, rules: &Rules, path: &str, depth: usize, absent: &mut Vec<String>) {
    if depth == 0 || !checker.spend(rules.children.len() as u64) {
        return;
    }
    for child in &rules.children {
        let name = if path.is_empty() { child.name.to_string() } else { format!("{path}.{}", child.name) };
        let values: Vec<Element> = element.step(checker.schema, &child.name).collect();
        match values.is_empty() {
            true if child.must_support && child.max != Some(0) && !absent.contains(&name) => absent.push(name),
            true => {}
            false => values.iter().for_each(|value| absences(checker, *value, child, &name, depth - 1, absent)),
        }
    }
}
