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
    #[inline]
    fn of(name: &[u8]) -> Name {
        let half = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
        let (first, last) = if let Some((first, last)) = name.first_chunk::<8>().zip(name.last_chunk::<8>()) {
            (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
        } else if let Some((first, last)) = name.first_chunk::<4>().zip(name.last_chunk::<4>()) {
            (half(first), half(last))
        } else {
            (name.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0)
        };
        Name { first, last, length: name.len() as u32 }
    }

    #[inline]
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
    #[inline]
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
        if text.len() > SHORT {
            return self.get_long(name, text);
        }
        self.table.find(name.hash(), |slot| slot.name == name).map(|slot| slot.value)
    }

    /// Not inlined, so that the search for a short name calls nothing: one for each member of a message.
    #[inline(never)]
    fn get_long(&self, name: Name, text: &[u8]) -> Option<T> {
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
