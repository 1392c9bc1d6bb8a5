//! Required bindings of elements and extensions: the value sets, each made once and shared.

use emberpost_fhir::schema::{Codes, ElementDef, ExtensionDef, Names, Schema, Strength, ValueSet, ValueSetId};
use rustc_hash::FxHashMap;

/// A required value set.
pub(super) struct RequiredBinding {
    pub url: &'static str,
    /// None: the codes cannot be enumerated.
    pub codes: Option<&'static Codes>,
    /// The code systems that it includes codes from; empty: not known.
    pub systems: &'static [Box<str>],
    /// Code to its first position in `codes`.
    names: Names<u32>,
}

impl RequiredBinding {
    pub fn new(set: &'static ValueSet) -> RequiredBinding {
        let codes = set.codes.as_ref().filter(|codes| !codes.codes.is_empty());
        let listed = codes.map(|codes| codes.codes.as_slice()).unwrap_or_default();
        let mut names: Vec<_> = listed.iter().map(|(code, _)| code.to_string()).zip(0u32..).collect();
        names.dedup_by(|later, first| later.0 == first.0);
        RequiredBinding { url: &set.url, codes, systems: &set.systems, names: Names::of(names) }
    }

    /// Whether the value set has the code, of any system; true if that is not known.
    pub fn has_code(&self, code: &[u8]) -> bool {
        self.codes.is_none() || self.names.get(code).is_some()
    }

    /// If the codes cannot be enumerated: whether the value set may include codes of the system.
    pub fn has(&self, system: &str, code: &str) -> bool {
        let Some(codes) = self.codes else {
            return self.systems.is_empty() || self.systems.iter().any(|known| **known == *system);
        };
        let first = self.names.get(code.as_bytes());
        let same = first.and_then(|at| codes.codes.get(at as usize..)).unwrap_or_default();
        let of = same.iter().take_while(|(known, _)| **known == *code);
        of.into_iter().any(|(_, of)| codes.systems.get(usize::from(*of)).is_some_and(|known| **known == *system))
    }
}

/// Many elements share a value set; each is made once and lives as long as the tables.
#[derive(Default)]
pub(super) struct BindingCache(FxHashMap<u16, &'static RequiredBinding>);

impl BindingCache {
    pub fn of(&mut self, element: &ElementDef, schema: &'static Schema) -> Option<&'static RequiredBinding> {
        let binding = element.binding.filter(|binding| binding.strength == Strength::Required)?;
        Some(self.of_set(binding.value_set, schema))
    }

    fn of_set(&mut self, id: ValueSetId, schema: &'static Schema) -> &'static RequiredBinding {
        self.0.entry(id.0).or_insert_with(|| Box::leak(Box::new(RequiredBinding::new(schema.value_set(id)))))
    }

    pub fn of_extension(&mut self, def: &ExtensionDef, schema: &'static Schema) {
        def.binding.map(|id| self.of_set(id, schema));
        def.nested.iter().for_each(|nested| self.of_extension(nested, schema));
    }

    /// The value set, if an element or extension is bound to it.
    pub fn get(&self, id: ValueSetId) -> Option<&'static RequiredBinding> {
        self.0.get(&id.0).copied()
    }
}
