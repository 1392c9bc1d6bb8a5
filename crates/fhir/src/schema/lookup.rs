//! Look-up of a type's members by their names in JSON, and of its elements by their names in paths. Used for every
//! member of every message.

use super::{Schema, TypeDef};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

#[derive(Debug, Default)]
pub(super) struct Members {
    /// Name in JSON to position in `places`.
    names: Names<u16>,
    /// Positions of element and type, for each name.
    pub(super) places: Box<[(u16, u16)]>,
    /// Name in paths (`value`) to position of the element.
    elements: Names<u16>,
}

/// Values by name. Up to 16 bytes of a name fit into two words, so most names are compared as those. For names of the
/// specification only: the hash has no seed.
#[derive(Debug)]
pub struct Names<T> {
    table: HashTable<Slot<T>>,
    /// The texts of the longer names.
    long: Vec<Box<[u8]>>,
}

#[derive(Debug)]
struct Slot<T> {
    name: Name,
    /// Position in `Names::long`, if the name has more than 16 bytes.
    long: usize,
    value: T,
}

/// The first and last bytes of a name, and its length; all of a name up to 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name {
    first: u64,
    last: u64,
    length: u32,
}

const SHORT: usize = 16;

impl Name {
    fn of(name: &[u8]) -> Name {
        let length = name.len() as u32;
        let word =
            |at: usize| name.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
        let half =
            |at: usize| name.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
        let byte = |at: usize| u64::from(name.get(at).copied().unwrap_or_default());
        let (first, last) = match name.len() {
            8.. => (word(0), word(name.len() - 8)),
            4.. => (u64::from(half(0)), u64::from(half(name.len() - 4))),
            _ => (byte(0) | byte(1) << 8 | byte(2) << 16, 0),
        };
        Name { first, last, length }
    }

    fn hash(self) -> u64 {
        let mixed =
            (self.first ^ self.last.rotate_left(23) ^ u64::from(self.length)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // The table uses the highest and the lowest bits, and those of a product depend on few bits of its factors.
        mixed ^ (mixed >> 32)
    }
}

impl Members {
    pub(super) fn of(found: &TypeDef, schema: &Schema) -> Members {
        let (mut names, mut elements) = (Vec::new(), Vec::new());
        for (index, element) in (0u16..).zip(&found.elements) {
            elements.push((element.name.to_string(), index));
            for (position, of_type) in (0u16..).zip(&element.types) {
                names.push((element.member_name(schema, of_type), (index, position)));
            }
        }
        let places = names.iter().map(|(_, place)| *place).collect();
        let names = names.into_iter().map(|(name, _)| name).zip(0u16..).collect();
        Members { names: Names::of(names), places, elements: Names::of(elements) }
    }

    /// Position in `places`.
    pub(super) fn position(&self, name: &[u8]) -> Option<u16> {
        self.names.get(name)
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<(u16, u16)> {
        self.places.get(usize::from(self.position(name)?)).copied()
    }

    pub(super) fn element(&self, name: &str) -> Option<u16> {
        self.elements.get(name.as_bytes())
    }
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Names { table: HashTable::new(), long: Vec::new() }
    }
}

impl<T: Copy> Names<T> {
    /// If a name occurs twice, the later value applies.
    pub fn of(named: Vec<(String, T)>) -> Names<T> {
        let mut names = Names { table: HashTable::with_capacity(named.len()), long: Vec::new() };
        for (text, value) in named {
            names.insert(text.as_bytes(), value);
        }
        names.long.shrink_to_fit();
        names
    }

    fn insert(&mut self, text: &[u8], value: T) {
        let (name, long) = (Name::of(text), &mut self.long);
        match self.table.entry(name.hash(), |slot| slot.is(name, text, long), |slot| slot.name.hash()) {
            Entry::Occupied(mut slot) => slot.get_mut().value = value,
            Entry::Vacant(vacant) => {
                vacant.insert(Slot { name, long: long.len(), value });
                if text.len() > SHORT {
                    long.push(text.into());
                }
            }
        }
    }

    /// The value of a name.
    #[inline]
    pub fn get(&self, text: &[u8]) -> Option<T> {
        let name = Name::of(text);
        self.table.find(name.hash(), |slot| slot.is(name, text, &self.long)).map(|slot| slot.value)
    }
}

impl<T> Slot<T> {
    #[inline]
    fn is(&self, name: Name, text: &[u8], long: &[Box<[u8]>]) -> bool {
        self.name == name && (text.len() <= SHORT || long.get(self.long).is_some_and(|long| **long == *text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FhirVersion;

    #[test]
    fn every_member_of_every_type_is_found_and_nothing_else() {
        for version in [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5] {
            let schema = Schema::of(version);
            for found in &schema.types {
                for (index, element) in (0u16..).zip(&found.elements) {
                    for of_type in &element.types {
                        let name = element.member_name(schema, of_type);
                        assert_eq!(
                            found.members.get(name.as_bytes()).map(|at| at.0),
                            Some(index),
                            "{name} of {}",
                            found.name
                        );
                        assert_eq!(found.members.get(format!("{name}x").as_bytes()), None, "{name}x of {}", found.name);
                    }
                }
                assert_eq!(found.members.get(b""), None);
                assert_eq!(found.members.get(b"anElementThatNoTypeHas"), None);
            }
        }
    }
}
