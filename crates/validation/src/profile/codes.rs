//! Codes of value sets: loaded value sets, expanded once, else those of the base packages.
//!
//! Relies on `compose` for the expansion. If codes cannot be enumerated, the reason becomes part of a warning.

use super::super::compose::Expander;
use crate::definition::catalog::Catalog;
use emberpost_fhir::schema::{self, Schema};
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;
use std::sync::Arc;

/// The maximum number of codes read from a published expansion.
const EXPANSION_LIMIT_CODES: usize = 100_000;

#[derive(Debug)]
pub(super) enum Codes {
    Base(&'static schema::Codes),
    Own {
        /// The systems of each code.
        systems: FxHashMap<Box<str>, FxHashSet<Box<str>>>,
    },
}

impl Codes {
    /// Whether the value set has the code, of any system: what an element of type code needs.
    pub fn has_code(&self, code: &str) -> bool {
        match self {
            Codes::Base(codes) => codes.has_code(code),
            Codes::Own { systems } => systems.contains_key(code),
        }
    }

    pub fn has(&self, system: &str, code: &str) -> bool {
        match self {
            Codes::Base(codes) => codes.has(system, code),
            Codes::Own { systems } => systems.get(code).is_some_and(|systems| systems.contains(system)),
        }
    }

    fn own<'c>(pairs: impl IntoIterator<Item = (&'c str, &'c str)>) -> Codes {
        let mut systems: FxHashMap<Box<str>, FxHashSet<Box<str>>> = FxHashMap::default();
        for (system, code) in pairs {
            systems.entry(code.into()).or_default().insert(system.into());
        }
        Codes::Own { systems }
    }
}

/// A value set whose codes are not known.
#[derive(Clone, Debug)]
pub(super) struct Unlisted {
    /// A sentence without a full stop.
    pub reason: Box<str>,
    /// The systems that it includes; None if they are not known either.
    pub systems: Option<Arc<[Box<str>]>>,
}

impl Unlisted {
    fn because(reason: impl Into<Box<str>>) -> Unlisted {
        Unlisted { reason: reason.into(), systems: None }
    }
}

/// The value sets that bindings and `memberOf` use.
#[derive(Debug)]
pub(super) struct ValueSets {
    schema: &'static Schema,
    known: FxHashMap<Box<str>, Result<Arc<Codes>, Unlisted>>,
}

impl ValueSets {
    pub fn new(schema: &'static Schema) -> ValueSets {
        ValueSets { schema, known: FxHashMap::default() }
    }

    /// Prepares every loaded value set for `memberOf`.
    pub fn take_all(&mut self, catalog: &Catalog) {
        let loaded = catalog.resources.iter().filter(|one| one["resourceType"] == "ValueSet");
        for url in loaded.filter_map(|one| one["url"].as_str()) {
            let _known = self.find(catalog, url);
        }
    }

    /// The codes of `url` or `url|version`; errs with the reason why they are not known.
    pub fn find(&mut self, catalog: &Catalog, canonical: &str) -> Result<Arc<Codes>, Unlisted> {
        if let Some(known) = self.known.get(canonical) {
            return known.clone();
        }
        let found = match catalog.resource("ValueSet", canonical) {
            Some(loaded) => expanded(loaded, catalog, self.schema),
            None => self.of_base(canonical),
        };
        self.known.insert(canonical.into(), found.clone());
        found
    }

    /// Only value sets that `find` or `take_all` prepared, and those of the base; None if membership cannot be
    /// checked.
    pub fn ready(&self, canonical: &str) -> Option<Arc<Codes>> {
        match self.known.get(canonical) {
            Some(known) => known.clone().ok(),
            None => self.of_base(canonical).ok(),
        }
    }

    fn of_base(&self, canonical: &str) -> Result<Arc<Codes>, Unlisted> {
        let known = self.schema.value_set_named(canonical).ok_or_else(|| Unlisted::because("it is not loaded"))?;
        match &known.codes {
            Some(codes) => Ok(Arc::new(Codes::Base(codes))),
            None => Err(Unlisted {
                reason: "its codes cannot be enumerated".into(),
                systems: (!known.systems.is_empty()).then(|| known.systems.clone().into()),
            }),
        }
    }
}

fn expanded(value_set: &Value, catalog: &Catalog, schema: &'static Schema) -> Result<Arc<Codes>, Unlisted> {
    match Expander::with_base(catalog, schema).value_set(value_set) {
        Ok(concepts) => Ok(Arc::new(Codes::own(concepts.iter().map(|concept| (&*concept.system, &*concept.code))))),
        Err(refusal) => match ready_expansion(value_set) {
            Some(codes) => Ok(Arc::new(codes)),
            None => {
                Err(Unlisted { reason: refusal.diagnostics.to_string().into(), systems: included_systems(value_set) })
            }
        },
    }
}

/// The systems that the includes name; None if an include takes its codes from another value set.
fn included_systems(value_set: &Value) -> Option<Arc<[Box<str>]>> {
    let includes = value_set["compose"]["include"].as_array().filter(|includes| !includes.is_empty())?;
    includes.iter().map(|include| include["system"].as_str().map(Box::from)).collect()
}

/// The codes in the publisher's own expansion, if it is complete.
fn ready_expansion(value_set: &Value) -> Option<Codes> {
    let expansion = value_set.get("expansion")?;
    let mut open = vec![expansion.get("contains")?.as_array()?];
    let mut pairs = Vec::new();
    while let Some(list) = open.pop() {
        for one in list {
            if let (Some(system), Some(code), false) =
                (one["system"].as_str(), one["code"].as_str(), one["abstract"] == true)
            {
                pairs.push((system, code));
            }
            open.extend(one["contains"].as_array());
        }
        if pairs.len() > EXPANSION_LIMIT_CODES {
            return None;
        }
    }
    let total = expansion["total"].as_u64();
    let is_whole =
        total.is_none_or(|total| total <= pairs.len() as u64) && expansion["offset"].as_u64().is_none_or(|at| at == 0);
    is_whole.then(|| Codes::own(pairs))
}
