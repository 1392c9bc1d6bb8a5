//! A code system whose codes are all available: its concepts and how they are nested.

use crate::members::{each, is_true, text};
use serde_json::Value;
use std::collections::BTreeSet;

/// One code of a code system.
pub struct Concept<'v> {
    pub code: &'v str,
    pub value: &'v Value,
    /// Codes of its parent concepts.
    pub parents: Vec<&'v str>,
}

pub struct System<'v> {
    pub concepts: Vec<Concept<'v>>,
    /// The properties that its concepts may have.
    pub properties: Vec<&'v str>,
}

impl<'v> System<'v> {
    pub fn new(resource: &'v Value) -> System<'v> {
        let mut made = System { concepts: Vec::new(), properties: Vec::new() };
        made.properties = each(resource, "property").iter().filter_map(|property| text(property, "code")).collect();
        made.add(resource, None);
        made
    }

    fn add(&mut self, above: &'v Value, parent: Option<&'v str>) {
        for value in each(above, "concept") {
            let Some(code) = text(value, "code") else { continue };
            let named = each(value, "property")
                .iter()
                .filter(|property| matches!(text(property, "code"), Some("subsumedBy" | "parent")));
            let parents = parent.into_iter().chain(named.filter_map(|property| text(property, "valueCode"))).collect();
            self.concepts.push(Concept { code, value, parents });
            self.add(value, Some(code));
        }
    }

    /// The codes of a concept and of all its descendants; None if there is no such concept.
    pub fn branch(&self, code: &str) -> Option<BTreeSet<&'v str>> {
        let top = self.concepts.iter().find(|concept| concept.code == code)?;
        let mut branch = BTreeSet::from([top.code]);
        loop {
            let before = branch.len();
            let below =
                self.concepts.iter().filter(|concept| concept.parents.iter().any(|parent| branch.contains(parent)));
            let below: Vec<&str> = below.map(|concept| concept.code).collect();
            branch.extend(below);
            if branch.len() == before {
                return Some(branch);
            }
        }
    }
}

impl Concept<'_> {
    /// The values of a property as texts.
    pub fn property(&self, name: &str) -> Vec<String> {
        let named = each(self.value, "property").iter().filter(|property| text(property, "code") == Some(name));
        let mut values = Vec::new();
        for property in named {
            for kind in ["valueCode", "valueString", "valueBoolean", "valueInteger", "valueDecimal", "valueDateTime"] {
                match property.get(kind) {
                    Some(Value::String(value)) => values.push(value.clone()),
                    Some(Value::Bool(_)) => values.push(is_true(property, kind).to_string()),
                    Some(Value::Number(value)) => values.push(value.to_string()),
                    _ => {}
                }
            }
        }
        values
    }
}
