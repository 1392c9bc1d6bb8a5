//! Look-up of a type's members by their names in JSON, and of its elements by their names in paths. Used for every
//! member of every message.

use super::{Schema, TypeDef};
use hashbrown::HashTable;

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
    /// A name is in the first free place from that of its hash on. A power of two, at most half of them taken. Not a
    /// `HashTable`, with which the check of a message takes 3 % more time.
    short: Box<[Option<Slot<T>>]>,
    long: HashTable<(Box<[u8]>, T)>,
}

#[derive(Clone, Copy, Debug)]
struct Slot<T> {
    name: Name,
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
        Names { short: Box::default(), long: HashTable::new() }
    }
}

impl<T: Copy> Names<T> {
    /// If a name occurs twice, the later value applies.
    pub fn of(named: Vec<(String, T)>) -> Names<T> {
        let places = (named.len() * 2).next_power_of_two();
        let mut names = Names { short: vec![None; places].into(), long: HashTable::new() };
        for (text, value) in named {
            names.insert(text.as_bytes(), value);
        }
        names
    }

    fn insert(&mut self, text: &[u8], value: T) {
        let name = Name::of(text);
        if text.len() > SHORT {
            let hash = |known: &(Box<[u8]>, T)| Name::of(&known.0).hash();
            let entry = self.long.entry(name.hash(), |known| *known.0 == *text, hash);
            entry.insert((text.into(), value));
        } else if let Some(place) = self.place(name).and_then(|at| self.short.get_mut(at)) {
            *place = Some(Slot { name, value });
        }
    }

    /// The place of a short name, or the free one where it would be; None if there are no places.
    #[inline]
    fn place(&self, name: Name) -> Option<usize> {
        let last = self.short.len().checked_sub(1)?;
        let mut at = name.hash() as usize & last;
        // Ends, because half of the places are free.
        while self.short.get(at)?.as_ref().is_some_and(|slot| slot.name != name) {
            at = (at + 1) & last;
        }
        Some(at)
    }

    /// The value of a name.
    #[inline]
    pub fn get(&self, text: &[u8]) -> Option<T> {
        let name = Name::of(text);
        if text.len() > SHORT {
            return self.get_long(name, text);
        }
        self.short.get(self.place(name)?)?.map(|slot| slot.value)
    }

    /// Not inlined, so that the search for a short name calls nothing: one for each member of a message.
    #[inline(never)]
    fn get_long(&self, name: Name, text: &[u8]) -> Option<T> {
        self.long.find(name.hash(), |known| *known.0 == *text).map(|known| known.1)
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
