//! Members of a type by their names in JSON, and its elements by their names in paths: asked for every member of every
//! message.

use super::{Schema, TypeDef};

#[derive(Debug, Default)]
pub(super) struct Members {
    /// Name in JSON to position in `places`.
    names: Names<u16>,
    /// Positions of element and type, for each name.
    pub(super) places: Box<[(u16, u16)]>,
    /// Name in paths (`value`) to position of the element.
    elements: Names<u16>,
}

/// Values by short names: a table with open addressing, at most half full. Up to 16 bytes of a name fit into two words, so
/// that most names are compared as those.
#[derive(Debug, Default)]
pub struct Names<T> {
    /// A power of two of them; none for a type without elements.
    slots: Box<[Slot<T>]>,
    /// The texts of the names that do not fit.
    long: Vec<Box<[u8]>>,
}

/// A name as in `Name`; free while its length is 0.
#[derive(Clone, Copy, Debug, Default)]
struct Slot<T> {
    first: u64,
    last: u64,
    length: u16,
    /// Position in `Names::long`.
    long: u16,
    value: T,
}

impl<T> Slot<T> {
    fn is(&self, name: Name) -> bool {
        self.first == name.first && self.last == name.last && u32::from(self.length) == name.length
    }
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

    fn hash(self) -> usize {
        let mixed =
            (self.first ^ self.last.rotate_left(23) ^ u64::from(self.length)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 32) as usize
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

impl<T: Copy + Default> Names<T> {
    /// Of a name that stands twice the later one counts.
    pub fn of(named: Vec<(String, T)>) -> Names<T> {
        let size = if named.is_empty() { 0 } else { (named.len() * 2).next_power_of_two() };
        let mut table = Names { slots: vec![Slot::default(); size].into_boxed_slice(), long: Vec::new() };
        for (text, value) in named {
            table.insert(text.as_bytes(), value);
        }
        table.long.shrink_to_fit();
        table
    }

    fn insert(&mut self, text: &[u8], value: T) {
        let (Some(at), Ok(length)) = (self.find(text), u16::try_from(text.len())) else { return };
        let Name { first, last, .. } = Name::of(text);
        let mut long = 0;
        if text.len() > SHORT {
            // A type has far fewer names than that.
            long = u16::try_from(self.long.len()).unwrap_or(u16::MAX);
            self.long.push(text.into());
        }
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Slot { first, last, length, long, value };
        }
    }

    /// Where the name stands, or would stand.
    fn find(&self, text: &[u8]) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let name = Name::of(text);
        let mut at = name.hash() & mask;
        // Half of the slots are free, so this ends.
        loop {
            let slot = self.slots.get(at)?;
            if slot.length == 0 || (slot.is(name) && (text.len() <= SHORT || self.is_long(slot, text))) {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
    }

    fn is_long(&self, slot: &Slot<T>, text: &[u8]) -> bool {
        self.long.get(usize::from(slot.long)).is_some_and(|long| **long == *text)
    }

    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<T> {
        let slot = self.slots.get(self.find(name)?)?;
        (slot.length > 0).then_some(slot.value)
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
