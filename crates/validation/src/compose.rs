//! Expands a ValueSet: its `compose` over the loaded CodeSystems and ValueSets.
//!
//! Number of concepts, depth of imports, and work are limited, so that no definition and no request can occupy it
//! for long. Supports the filters `is-a` and `descendent-of` on `concept`, and `=` on properties.

use super::rules::HEADER;
use crate::definition::catalog::Catalog;
use emberpost_fhir::schema::Schema;
use emberpost_fhir::{Cause, Issue, IssueCode};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashSet;

/// The maximum number of concepts in an answer.
pub const CONCEPTS_LIMIT: usize = 10_000;
/// The maximum number of ValueSets that import one another in a chain.
const IMPORT_DEPTH_LIMIT: usize = 8;
/// The maximum number of concepts read for one expansion; a ValueSet that is imported twice counts twice.
const WORK_LIMIT_CONCEPTS: usize = 500_000;
/// The maximum length of a canonical or filter that an issue quotes, in characters.
const QUOTED_LIMIT: usize = 200;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Concept {
    pub system: String,
    pub code: String,
    pub display: Option<String>,
}

pub(super) struct Expander<'d> {
    catalog: &'d Catalog,
    /// The base specification, for imported value sets that are not loaded.
    base: Option<&'static Schema>,
    work: usize,
}

impl<'d> Expander<'d> {
    pub fn new(catalog: &'d Catalog) -> Self {
        Expander { catalog, base: None, work: 0 }
    }

    /// Also resolves imports of value sets of the base specification.
    pub fn with_base(catalog: &'d Catalog, base: &'static Schema) -> Self {
        Expander { catalog, base: Some(base), work: 0 }
    }

    /// The concepts in the order of the includes, without duplicates.
    pub fn value_set(&mut self, value_set: &Value) -> Result<Vec<Concept>, Issue> {
        self.compose(value_set, 0)
    }

    fn compose(&mut self, value_set: &Value, depth: usize) -> Result<Vec<Concept>, Issue> {
        if depth > IMPORT_DEPTH_LIMIT {
            let text =
                format!("value sets import each other more than {IMPORT_DEPTH_LIMIT} deep; correct their imports");
            return Err(refusal(IssueCode::BusinessRule, text));
        }
        let compose = &value_set["compose"];
        if compose["include"].as_array().is_none_or(Vec::is_empty) {
            return Err(refusal(
                IssueCode::NotSupported,
                "the ValueSet has no compose.include, so there is nothing to expand; give it one",
            ));
        }
        let mut excluded = HashSet::new();
        for part in list(compose, "exclude") {
            excluded.extend(self.part(part, depth)?.into_iter().map(key));
        }
        let mut concepts = Vec::new();
        for part in list(compose, "include") {
            for concept in self.part(part, depth)? {
                // A concept that is already included, or excluded, is not added again.
                if excluded.insert(key(concept.clone())) {
                    concepts.push(concept);
                }
            }
            if concepts.len() > CONCEPTS_LIMIT {
                return Err(too_many());
            }
        }
        Ok(concepts)
    }

    /// One include or exclude: the intersection of its system's concepts and all its imports.
    fn part(&mut self, part: &Value, depth: usize) -> Result<Vec<Concept>, Issue> {
        self.spend(1)?;
        let mut concepts = match part["system"].as_str() {
            Some(system) => Some(self.system(system, part)?),
            None => None,
        };
        for import in list(part, "valueSet").filter_map(Value::as_str) {
            let imported = match self.catalog.resource("ValueSet", import) {
                Some(loaded) => self.compose(loaded, depth + 1)?,
                None => self.of_base(import)?,
            };
            concepts = Some(match concepts {
                None => imported,
                Some(mut so_far) => {
                    let held = imported.into_iter().map(key).collect::<HashSet<_>>();
                    so_far.retain(|concept| held.contains(&key(concept.clone())));
                    so_far
                }
            });
        }
        concepts.ok_or_else(|| refusal(IssueCode::NotSupported, "an include names neither a system nor a ValueSet"))
    }

    fn of_base(&mut self, import: &str) -> Result<Vec<Concept>, Issue> {
        let known = self.base.and_then(|base| base.value_set_named(import)?.codes.as_ref());
        let known = known.ok_or_else(|| not_loaded("ValueSet", import))?;
        self.spend(known.codes.len())?;
        let system = |index: u16| known.systems.get(usize::from(index)).map(|system| system.to_string());
        let concept = |(code, index): &(Box<str>, u16)| {
            Some(Concept { system: system(*index)?, code: code.to_string(), display: None })
        };
        Ok(known.codes.iter().filter_map(concept).collect())
    }

    /// All concepts of a code system of the base specification, taken from the value set of the same name, which
    /// includes the whole system unless it has no such value set.
    fn whole_of_base(&mut self, system: &str) -> Option<Vec<Concept>> {
        let name = system.strip_prefix("http://hl7.org/fhir/").filter(|name| !name.contains('/'))?;
        let url = format!("http://hl7.org/fhir/ValueSet/{name}");
        let known = self.base?.value_set_named(&url)?.codes.as_ref()?;
        match known.systems.as_slice() {
            [only] if **only == *system => self.of_base(&url).ok(),
            _ => None,
        }
    }

    fn system(&mut self, system: &str, part: &Value) -> Result<Vec<Concept>, Issue> {
        let canonical = match part["version"].as_str() {
            Some(version) => format!("{system}|{version}"),
            None => system.to_owned(),
        };
        let code_system = self.catalog.resource("CodeSystem", &canonical);
        if let Some(listed) = part["concept"].as_array() {
            return self.listed(system, listed, code_system.map(|known| &**known));
        }
        let Some(code_system) = code_system else {
            let whole = self.whole_of_base(system).filter(|_| part.get("filter").is_none());
            return whole.ok_or_else(|| not_loaded("CodeSystem", &canonical));
        };
        if code_system["content"] == "not-present" {
            return Err(not_loaded("content of CodeSystem", &canonical));
        }
        let filters = list(part, "filter").map(Filter::read).collect::<Result<Vec<_>, _>>()?;
        let all = flatten(code_system);
        self.spend(all.len())?;
        let chosen = all.iter().filter(|one| filters.iter().all(|filter| filter.takes(one)));
        Ok(chosen.filter_map(|one| concept(system, one.concept, None)).collect())
    }

    fn listed(&mut self, system: &str, listed: &[Value], code_system: Option<&Value>) -> Result<Vec<Concept>, Issue> {
        let all = code_system.map(flatten).unwrap_or_default();
        self.spend(all.len() + listed.len())?;
        let displays =
            all.iter().filter_map(|one| Some((one.concept["code"].as_str()?, one.concept["display"].as_str()?)));
        let displays = displays.collect::<std::collections::HashMap<_, _>>();
        let known = |one: &Value| one["code"].as_str().and_then(|code| displays.get(code).copied());
        Ok(listed.iter().filter_map(|one| concept(system, one, known(one))).collect())
    }

    fn spend(&mut self, concepts: usize) -> Result<(), Issue> {
        self.work += concepts;
        match self.work > WORK_LIMIT_CONCEPTS {
            true => Err(refusal(
                IssueCode::TooLong,
                "the ValueSet imports too many concepts to expand; request a smaller ValueSet",
            )),
            false => Ok(()),
        }
    }
}

/// A concept of a CodeSystem with the codes of its ancestors.
pub(super) struct Placed<'v> {
    concept: &'v Value,
    above: Vec<&'v str>,
}

/// All concepts of a CodeSystem, parents before children.
pub(super) fn flatten(code_system: &Value) -> Vec<Placed<'_>> {
    let mut placed = Vec::new();
    place(code_system, &mut Vec::new(), &mut placed);
    placed
}

/// The JSON reader limits the depth of the document, and with it this recursion.
fn place<'v>(parent: &'v Value, above: &mut Vec<&'v str>, placed: &mut Vec<Placed<'v>>) {
    for concept in list(parent, "concept") {
        placed.push(Placed { concept, above: above.clone() });
        above.push(concept["code"].as_str().unwrap_or_default());
        place(concept, above, placed);
        above.pop();
    }
}

/// An `include.filter` that is supported.
enum Filter<'v> {
    IsA(&'v str),
    DescendentOf(&'v str),
    Equals { property: &'v str, value: &'v str },
}

impl<'v> Filter<'v> {
    fn read(filter: &'v Value) -> Result<Self, Issue> {
        let text = |name: &str| filter[name].as_str().unwrap_or_default();
        match (text("property"), text("op"), text("value")) {
            ("concept", "is-a", value) => Ok(Filter::IsA(value)),
            ("concept", "descendent-of", value) => Ok(Filter::DescendentOf(value)),
            (property, "=", value) if !property.is_empty() => Ok(Filter::Equals { property, value }),
            (property, op, _) => {
                let text =
                    format!("the filter {} {} is not supported; list the concepts", quoted(property), quoted(op));
                Err(refusal(IssueCode::NotSupported, text))
            }
        }
    }

    fn takes(&self, placed: &Placed) -> bool {
        match self {
            Filter::IsA(code) => placed.concept["code"] == *code || placed.above.contains(code),
            Filter::DescendentOf(code) => placed.above.contains(code),
            Filter::Equals { property, value } => list(placed.concept, "property")
                .filter(|one| one["code"] == *property)
                .any(|one| property_text(one).as_deref() == Some(*value)),
        }
    }
}

fn property_text(property: &Value) -> Option<String> {
    let value = |name: &str| property.get(name);
    let plain = ["valueCode", "valueString", "valueInteger", "valueBoolean", "valueDateTime", "valueDecimal"];
    let found = plain.into_iter().find_map(value).or_else(|| value("valueCoding")?.get("code"))?;
    Some(found.as_str().map_or_else(|| found.to_string(), str::to_owned))
}

fn concept(system: &str, one: &Value, display: Option<&str>) -> Option<Concept> {
    let code = one["code"].as_str()?.to_owned();
    let display = one["display"].as_str().or(display).map(str::to_owned);
    Some(Concept { system: system.to_owned(), code, display })
}

fn key(concept: Concept) -> (String, String) {
    (concept.system, concept.code)
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value[name].as_array().into_iter().flatten()
}

fn not_loaded(kind: &str, canonical: &str) -> Issue {
    let text = format!("the {kind} {} is needed but not loaded; load it", quoted(canonical));
    refusal(IssueCode::NotFound, text)
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_LIMIT).collect()
}

pub(super) fn too_many() -> Issue {
    refusal(IssueCode::TooLong, format!("the answer would have more than {CONCEPTS_LIMIT} concepts; request fewer"))
}

pub(super) fn refusal(code: IssueCode, text: impl Into<Cow<'static, str>>) -> Issue {
    Issue::error(code, Cause::Definition, text).at(format!("{HEADER}.focus[0]"))
}
