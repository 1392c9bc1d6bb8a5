//! Members of a type by their names in JSON, and its elements by their names in paths: asked for every member of every
//! message.

use super::{Schema, TypeDef};

#[derive(Debug, Default)]
pub(super) struct Members {
    /// Name in JSON to positions of element and type.
    names: Table<(u16, u16)>,
    /// Name in paths (`value`) to position of the element.
    elements: Table<u16>,
}

/// A table with open addressing, at most half full. Up to 16 bytes of a name fit into two words, so that most names are
/// compared as those.
#[derive(Debug)]
struct Table<T> {
    /// A power of two of them; none for a type without elements.
    slots: Box<[Option<Slot<T>>]>,
}

#[derive(Debug)]
struct Slot<T> {
    name: Name,
    /// Only of names that do not fit.
    long: Box<[u8]>,
    value: T,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { slots: Box::default() }
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
        Members { names: Table::of(names), elements: Table::of(elements) }
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<(u16, u16)> {
        self.names.get(name)
    }

    pub(super) fn element(&self, name: &str) -> Option<u16> {
        self.elements.get(name.as_bytes())
    }
}

impl<T: Copy> Table<T> {
    /// Of a name that stands twice the later one counts.
    fn of(named: Vec<(String, T)>) -> Table<T> {
        let size = if named.is_empty() { 0 } else { (named.len() * 2).next_power_of_two() };
        let mut table = Table { slots: std::iter::repeat_with(|| None).take(size).collect() };
        for (name, value) in named {
            let name = name.as_bytes();
            let at = table.find(name);
            let long = if name.len() > SHORT { name.into() } else { Box::default() };
            if let Some(slot) = at.and_then(|at| table.slots.get_mut(at)) {
                *slot = Some(Slot { name: Name::of(name), long, value });
            }
        }
        table
    }

    /// Where the name stands, or would stand.
    fn find(&self, text: &[u8]) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let name = Name::of(text);
        let mut at = name.hash() & mask;
        // Half of the slots are free, so this ends.
        while let Some(slot) = self.slots.get(at)? {
            if slot.name == name && (text.len() <= SHORT || *slot.long == *text) {
                break;
            }
            at = (at + 1) & mask;
        }
        Some(at)
    }

    fn get(&self, name: &[u8]) -> Option<T> {
        let at = self.find(name)?;
        self.slots.get(at)?.as_ref().map(|slot| slot.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::FhirVersion;

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
