//! Index of one Bundle's entries by fullUrl and by type and id. Copies no text.

use crate::entries::Entry;
use crate::uri;
use emberpost_fhir::reference::split_version;
use emberpost_fhir::tree::Node;
use rustc_hash::FxHasher;
use std::borrow::Cow;
use std::hash::Hasher;

/// The maximum number of entries compared for one reference. More entries of the same name than versions could
/// explain are an error anyway.
const CHAIN_LIMIT: usize = 64;
/// The end of a chain.
const END: u32 = u32::MAX;

/// What a reference resolves to: an entry's position, and how it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// By the rules of Bundles (MSG-16).
    Exact(usize),
    /// By a fullUrl that is itself relative and has the same text.
    SameText(usize),
    /// By type and id alone (MSG-17).
    Lenient(usize),
    Several,
    Missing,
}

pub(super) struct Index<'t> {
    pub entries: Vec<Entry<'t>>,
    by_url: Chains,
    by_id: Chains,
    /// One bit per length of a fullUrl (modulo 64), which rules out most texts that are not links.
    lengths: u64,
}

fn length_bit(length: usize) -> u64 {
    1 << (length % 64)
}

/// Entries by the hash of a name; entries in the same bucket form a chain.
struct Chains {
    /// The first entry of each bucket. The number of buckets is a power of two, at least twice the number of
    /// entries.
    first: Vec<u32>,
    /// For each entry its hash, and the next entry in its bucket.
    links: Vec<(u64, u32)>,
}

impl Chains {
    fn new(length: usize) -> Self {
        Chains { first: vec![END; (length * 2).next_power_of_two()], links: vec![(0, END); length] }
    }

    fn place(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.first.len() - 1)
    }

    /// Entries are added last to first, so that chains are in document order.
    fn add(&mut self, hash: u64, entry: usize) {
        let place = self.place(hash);
        let number = u32::try_from(entry).unwrap_or(END);
        if let (Some(link), Some(first)) = (self.links.get_mut(entry), self.first.get_mut(place)) {
            *link = (hash, std::mem::replace(first, number));
        }
    }

    fn all(&self, hash: u64) -> impl Iterator<Item = usize> {
        let link = |entry: u32| (entry != END).then_some(entry as usize);
        let first = self.first.get(self.place(hash)).copied().unwrap_or(END);
        let chain = std::iter::successors(link(first), move |entry| link(self.links.get(*entry)?.1));
        chain.take(CHAIN_LIMIT).filter(move |entry| self.links.get(*entry).is_some_and(|link| link.0 == hash))
    }
}

fn hash(parts: &[&str]) -> u64 {
    let mut hasher = FxHasher::default();
    for part in parts {
        hasher.write(part.as_bytes());
        hasher.write_u8(0xFF);
    }
    hasher.finish()
}

impl<'t> Index<'t> {
    pub fn of(entries: Vec<Entry<'t>>) -> Self {
        let mut lengths = 0;
        let (mut by_url, mut by_id) = (Chains::new(entries.len()), Chains::new(entries.len()));
        for (number, entry) in entries.iter().enumerate().rev().filter(|(_, entry)| entry.object().is_some()) {
            if let Some(full_url) = entry.url() {
                lengths |= length_bit(full_url.len());
                by_url.add(hash(&[full_url]), number);
            }
            if let (Some(kind), Some(id)) = (&entry.kind, entry.id.and_then(Node::text)) {
                by_id.add(hash(&[kind, &id]), number);
            }
        }
        Index { entries, by_url, by_id, lengths }
    }

    /// The resource of an entry, if it is an object.
    pub fn resource(&self, number: usize) -> Option<Node<'t>> {
        self.entries.get(number)?.object()
    }

    /// Resolves a reference in the resource of entry `from`. The caller handles references that begin with `#`.
    pub fn resolve(&self, from: usize, reference: &str) -> Found {
        let (plain, version) = split_version(reference);
        if uri::is_absolute(plain) {
            return self.by_full_url(plain, version).map_or(Found::Missing, |found| found.unwrap_or(Found::Several));
        }
        let base = self.entries.get(from).and_then(Entry::restful);
        if let Some(found) = base.and_then(|(base, ..)| self.by_full_url(&format!("{base}{plain}"), version)) {
            return found.unwrap_or(Found::Several);
        }
        match self.by_full_url(reference, None) {
            Some(Some(Found::Exact(entry))) => return Found::SameText(entry),
            Some(_) => return Found::Several,
            None => {}
        }
        let Some((kind, id)) = plain.split_once('/') else { return Found::Missing };
        let is =
            |entry: &Entry| entry.kind.as_deref() == Some(kind) && entry.id.and_then(Node::text).as_deref() == Some(id);
        let same = self.by_id.all(hash(&[kind, id])).filter(|number| self.entries.get(*number).is_some_and(is));
        match self.only(same, version) {
            Some(Some(Found::Exact(entry))) => Found::Lenient(entry),
            Some(_) => Found::Several,
            None => Found::Missing,
        }
    }

    /// Whether a text of this many bytes can be the fullUrl of an entry.
    pub fn may_name(&self, length: usize) -> bool {
        self.lengths & length_bit(length) != 0
    }

    /// The entry with this fullUrl.
    pub fn exact(&self, full_url: &str) -> Option<usize> {
        self.by_url.all(hash(&[full_url])).find(|entry| self.has_url(*entry, full_url))
    }

    fn has_url(&self, entry: usize, full_url: &str) -> bool {
        self.entries.get(entry).is_some_and(|entry| entry.url() == Some(full_url))
    }

    fn by_full_url(&self, full_url: &str, version: Option<&str>) -> Option<Option<Found>> {
        let same = self.by_url.all(hash(&[full_url])).filter(|entry| self.has_url(*entry, full_url));
        self.only(same, version)
    }

    /// The only one of several entries. None: there is none; `Some(None)`: there are several. Versions of one
    /// resource count as one, represented by the first, because it is clear which resource is meant.
    fn only(&self, same: impl Iterator<Item = usize>, version: Option<&str>) -> Option<Option<Found>> {
        let mut first: Option<(usize, Option<Cow<str>>)> = None;
        for entry in same {
            let own = self.entries.get(entry).and_then(Entry::version);
            if version.is_some() && own.as_deref() != version {
                continue;
            }
            match &first {
                None => first = Some((entry, own)),
                Some((_, other)) if own.is_some() && other.is_some() && *other != own => {}
                Some(_) => return Some(None),
            }
        }
        first.map(|(entry, _)| Some(Found::Exact(entry)))
    }
}
