//! Filters of value sets on available code systems.

use crate::members::text;
use crate::system::{Concept, System};
use serde_json::Value;

/// The concepts that pass; None if the filter is not supported, so that the codes are unknown.
pub fn apply<'c, 'v>(
    system: &System<'v>,
    concepts: Vec<&'c Concept<'v>>,
    filter: &Value,
) -> Option<Vec<&'c Concept<'v>>> {
    let property = text(filter, "property")?;
    let value = text(filter, "value")?;
    let op = text(filter, "op")?;
    let mut kept = concepts;
    match (property, op) {
        ("concept" | "code", "is-a" | "descendent-of" | "is-not-a") => {
            let branch = system.branch(value)?;
            kept.retain(|concept| match op {
                "is-a" => branch.contains(concept.code),
                "descendent-of" => branch.contains(concept.code) && concept.code != value,
                _ => !branch.contains(concept.code),
            });
        }
        ("parent", "=") => kept.retain(|concept| concept.parents.contains(&value)),
        ("concept" | "code", "=") => kept.retain(|concept| concept.code == value),
        ("concept" | "code", "regex") => {
            let pattern = whole(value)?;
            kept.retain(|concept| pattern.is_match(concept.code));
        }
        _ if !system.properties.contains(&property) => return None,
        (_, "=") => kept.retain(|concept| concept.property(property).iter().any(|found| found == value)),
        (_, "in") => {
            kept.retain(|concept| {
                concept.property(property).iter().any(|found| value.split(',').any(|one| one == found))
            });
        }
        (_, "exists") => kept.retain(|concept| concept.property(property).is_empty() == (value == "false")),
        (_, "regex") => {
            let pattern = whole(value)?;
            kept.retain(|concept| concept.property(property).iter().any(|found| pattern.is_match(found)));
        }
        _ => return None,
    }
    Some(kept)
}

/// A filter's expression must match the whole text.
fn whole(pattern: &str) -> Option<regex::Regex> {
    regex::Regex::new(&format!("^(?:{pattern})$")).ok()
}
