//! Value sets of the base packages that no element requires, for profiles that bind to them.
//!
//! There are many and few profiles need them, so they are decoded on first use.

use super::ValueSet;
use crate::version::{FhirVersion, PerVersion};
use serde::{Deserialize, Serialize};

/// The value sets of one version.
#[derive(Debug, Serialize, Deserialize)]
pub struct UnboundValueSets {
    /// Sorted by url. None of them is in `Schema::value_sets`, and none has more than 5,000 codes.
    sets: Vec<ValueSet>,
}

static SETS: PerVersion<UnboundValueSets> = PerVersion::new(
    || super::embedded(include_bytes!("base/r4-sets.bin")),
    || super::embedded(include_bytes!("base/r4b-sets.bin")),
    || super::embedded(include_bytes!("base/r5-sets.bin")),
);

/// The further value sets of a version. The first call decodes them, which takes milliseconds.
/// `Schema::value_set_named` searches both.
pub fn unbound_value_sets(version: FhirVersion) -> &'static UnboundValueSets {
    SETS.of(version)
}

impl UnboundValueSets {
    /// `sets` may be in any order.
    pub fn new(mut sets: Vec<ValueSet>) -> UnboundValueSets {
        sets.sort_by(|left, right| left.url.cmp(&right.url));
        UnboundValueSets { sets }
    }

    /// The value set with this url, given without version.
    pub fn get(&self, url: &str) -> Option<&ValueSet> {
        let at = self.sets.binary_search_by(|known| (*known.url).cmp(url)).ok()?;
        self.sets.get(at)
    }

    /// All value sets, sorted by url.
    pub fn iter(&self) -> impl Iterator<Item = &ValueSet> {
        self.sets.iter()
    }
}
