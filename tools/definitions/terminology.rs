//! Code systems and value sets, and the codes in a value set.

use crate::filter;
use crate::members::{each, text, texts, unversioned};
use crate::system::{Concept, System};
use fhir::schema::Codes;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The maximum depth of value sets that import each other.
const DEPTH_LIMIT: usize = 16;
/// A value set with more codes is left out of the tables.
pub const CODES_LIMIT: usize = 5_000;

/// Code systems whose owners license the codes; even the few codes that value sets list are left out.
const LICENSED: [&str; 4] =
    ["http://snomed.info/sct", "http://loinc.org", "http://www.ada.org/snodent", "http://nucc.org/provider-taxonomy"];
/// Languages and MIME types: a list of them is never complete.
const OPEN: [&str; 2] = ["urn:ietf:bcp:47", "urn:ietf:bcp:13"];

/// System and code.
type Code<'v> = (&'v str, &'v str);
type Set<'v> = BTreeSet<Code<'v>>;

pub struct Terminology<'v> {
    /// Only systems whose codes are all available.
    systems: HashMap<&'v str, System<'v>>,
    sets: BTreeMap<&'v str, &'v Value>,
    /// The number of `sets` that belong to the version itself; those of a fallback are used but not written.
    own: BTreeSet<&'v str>,
}

impl<'v> Terminology<'v> {
    /// The terminology of a version itself.
    pub fn new(resources: &'v [Value]) -> Terminology<'v> {
        let mut made = Terminology { systems: HashMap::new(), sets: BTreeMap::new(), own: BTreeSet::new() };
        for resource in resources {
            made.take(resource);
        }
        made.own = made.sets.keys().copied().collect();
        made
    }

    /// Adds systems and sets that are still missing; `is_wanted` selects by url.
    pub fn add(&mut self, resources: &'v [Value], is_wanted: impl Fn(&str) -> bool) {
        for resource in resources.iter().filter(|found| text(found, "url").is_some_and(&is_wanted)) {
            self.take(resource);
        }
    }

    /// For each url the first resource is used.
    fn take(&mut self, resource: &'v Value) {
        let Some(url) = text(resource, "url") else { return };
        match text(resource, "resourceType") {
            Some("ValueSet") => drop(self.sets.entry(url).or_insert(resource)),
            Some("CodeSystem") if text(resource, "content") == Some("complete") => {
                self.systems.entry(url).or_insert_with(|| System::new(resource));
            }
            _ => {}
        }
    }

    /// The value sets of the version, sorted.
    pub fn urls(&self) -> impl Iterator<Item = &'v str> {
        self.own.iter().copied()
    }

    /// Every code of a value set; None if not all of them are known.
    pub fn codes(&self, url: &str) -> Option<Codes> {
        let set = self.expand(url, DEPTH_LIMIT)?;
        let systems: BTreeSet<&str> = set.iter().map(|(system, _)| *system).collect();
        let positions: HashMap<&str, u16> = systems.iter().copied().zip(0u16..).collect();
        let mut codes: Vec<(Box<str>, u16)> =
            set.iter().map(|(system, code)| ((*code).into(), positions[system])).collect();
        codes.sort();
        Some(Codes { systems: systems.into_iter().map(Into::into).collect(), codes })
    }

    /// The systems from which a value set includes codes, sorted; empty if they are unknown, because the set or an
    /// imported one is not available or names no system.
    pub fn systems_of(&self, url: &str) -> Vec<Box<str>> {
        let mut systems = BTreeSet::new();
        match self.gather_systems(url, DEPTH_LIMIT, &mut systems) {
            Some(()) => systems.into_iter().map(Into::into).collect(),
            None => Vec::new(),
        }
    }

    fn gather_systems(&self, url: &str, depth: usize, systems: &mut BTreeSet<&'v str>) -> Option<()> {
        let compose = self.sets.get(unversioned(url))?.get("compose")?;
        let depth = depth.checked_sub(1)?;
        for include in each(compose, "include") {
            match text(include, "system") {
                Some(system) => drop(systems.insert(system)),
                // Without a system, it includes what the named sets have in common, which is at most what each of
                // them has.
                None => self.gather_systems(texts(include, "valueSet").next()?, depth, systems)?,
            }
        }
        Some(())
    }

    fn expand(&self, url: &str, depth: usize) -> Option<Set<'v>> {
        let set = self.sets.get(unversioned(url))?;
        let compose = set.get("compose")?;
        let depth = depth.checked_sub(1)?;
        let mut codes = Set::new();
        for include in each(compose, "include") {
            codes.extend(self.part(include, depth)?);
        }
        for exclude in each(compose, "exclude") {
            for code in self.part(exclude, depth)? {
                codes.remove(&code);
            }
        }
        Some(codes)
    }

    /// The codes that are in the system's part and in every imported value set.
    fn part(&self, part: &'v Value, depth: usize) -> Option<Set<'v>> {
        let mut sets: Vec<Set<'v>> = Vec::new();
        for url in texts(part, "valueSet") {
            sets.push(self.expand(url, depth)?);
        }
        if let Some(system) = text(part, "system") {
            sets.push(self.of_system(system, part)?);
        }
        sets.into_iter().reduce(|left, right| left.intersection(&right).copied().collect())
    }

    fn of_system(&self, system: &'v str, part: &'v Value) -> Option<Set<'v>> {
        if LICENSED.contains(&system) || OPEN.contains(&system) {
            return None;
        }
        let listed = each(part, "concept");
        if !listed.is_empty() {
            return Some(listed.iter().filter_map(|concept| Some((system, text(concept, "code")?))).collect());
        }
        let found = self.systems.get(unversioned(system))?;
        let filters = each(part, "filter");
        let mut kept: Vec<&Concept<'v>> = found.concepts.iter().collect();
        for filter in filters {
            kept = filter::apply(found, kept, filter)?;
        }
        Some(kept.into_iter().map(|concept| (system, concept.code)).collect())
    }
}
