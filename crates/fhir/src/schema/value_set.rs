//! A value set with all its codes, if they can be enumerated.

use serde::{Deserialize, Serialize};

/// A value set.
#[derive(Debug, Serialize, Deserialize)]
pub struct ValueSet {
    /// Without version.
    pub url: Box<str>,
    /// None: the codes cannot be enumerated from the base packages (SNOMED CT, MIME types, languages, and so on).
    pub codes: Option<Codes>,
    /// The code systems from which it includes codes, whether or not the codes are known; empty: unknown.
    pub systems: Vec<Box<str>>,
}

/// The codes of a value set.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Codes {
    /// The code systems that `codes` name by position.
    pub systems: Vec<Box<str>>,
    /// Code and position of its system, sorted.
    pub codes: Vec<(Box<str>, u16)>,
}

impl Codes {
    /// Whether the value set has the code, of any system: what an element of type code needs.
    pub fn has_code(&self, code: &str) -> bool {
        self.codes.binary_search_by(|(known, _)| (**known).cmp(code)).is_ok()
    }

    /// Whether the value set has the code of this system.
    pub fn has(&self, system: &str, code: &str) -> bool {
        let from = self.codes.partition_point(|(known, _)| **known < *code);
        let same = self.codes[from..].iter().take_while(|(known, _)| **known == *code);
        same.into_iter().any(|(_, of)| self.systems.get(usize::from(*of)).is_some_and(|known| **known == *system))
    }
}
