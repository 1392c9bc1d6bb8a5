//! The JSON reader: bytes to Tree, with FHIR's rules for JSON (JSN-01, JSN-03, JSN-04, JSN-09).
//!
//! It refuses what is not JSON (RFC 8259), duplicate names, nesting beyond `DEPTH_LIMIT` and more than `NODE_LIMIT`
//! values. What only FHIR forbids and traffic does all the same, empty values and stray nulls, becomes notes of the
//! tree. It does not recurse, allocates nothing per value, and knows no resource and no data type.

mod keys;

use self::keys::Key;
pub use super::finding::ISSUE_LIMIT;
use super::finding::{DEPTH, Finding, Findings, TOO_DEEP, step};
use super::issue::{Issue, IssueCode, Severity};
use super::scan::{self, Broken};
use super::tree::{ESCAPED, Kind, Node, Slot, Tree};
use bytes::Bytes;
use bytestring::ByteString;

/// Deepest nesting that is read.
pub const DEPTH_LIMIT: usize = 256;
/// Most values that are read, so that a body of commas cannot fill the memory: 48 MB of nodes.
pub const NODE_LIMIT: usize = 2_000_000;

/// The rule that plain JSON grammar stands in.
const GRAMMAR: &str = "RFC8259";

/// Reads one JSON document; a byte order mark before it is passed over. Errs with the first break of the grammar and
/// with every duplicate name (JSN-01), each with line and column. Breaks of JSN-03 and JSN-04 are `Tree::notes`.
pub fn parse(bytes: Bytes) -> Result<Tree, Vec<Issue>> {
    let mut reader = Reader::new(&bytes);
    let text = text(&bytes);
    let read = text.as_ref().map_err(|stop| *stop).and_then(|_| reader.document());
    if let Err((broken, rule, code)) = read {
        reader.abandon(broken, rule, code);
    }
    let Reader { slots, findings, .. } = reader;
    let mut tree = Tree { text: text.unwrap_or_default(), slots, notes: Vec::new(), source: None };
    let named = if tree.is_empty() { None } else { tree.root().get("resourceType").and_then(Node::text) };
    tree.notes = findings.into_issues(&bytes, named.as_deref())?;
    Ok(tree)
}

/// The bytes as text, which they must be.
fn text(bytes: &Bytes) -> Result<ByteString, Stop> {
    if u32::try_from(bytes.len()).is_err() {
        let text = "The body is longer than 4 GiB, which is the most that is read";
        return Err((Broken { offset: 0, text }, GRAMMAR, IssueCode::TooLong));
    }
    ByteString::try_from(bytes.clone()).or_else(|error| stop(error.valid_up_to(), "The text is not valid UTF-8"))
}

/// An open object or array.
struct Frame {
    node: u32,
    is_object: bool,
    /// Which child is being read, from 0.
    child: u32,
    /// Where its keys begin in `Reader::keys`.
    keys_from: usize,
    /// One bit per key hash; a bit met twice means that the keys must be compared.
    seen: u64,
    compare: bool,
    first_null: Option<u32>,
    has_container: bool,
}

struct Reader<'b> {
    bytes: &'b [u8],
    position: usize,
    slots: Vec<Slot>,
    frames: Vec<Frame>,
    /// The keys of the open objects, innermost last.
    keys: Vec<Key>,
    /// The key of the value that comes next.
    key: Key,
    /// A name must come next, and no value.
    expects_key: bool,
    findings: Findings,
}

/// A break of the grammar with its rule and issue code.
type Stop = (Broken, &'static str, IssueCode);

fn stop<T>(offset: usize, text: &'static str) -> Result<T, Stop> {
    Err((Broken { offset, text }, GRAMMAR, IssueCode::Structure))
}

fn grammar(broken: Broken) -> Stop {
    (broken, GRAMMAR, IssueCode::Structure)
}

impl<'b> Reader<'b> {
    fn new(bytes: &'b [u8]) -> Self {
        let capacity = (bytes.len() / 16 + 8).min(1 << 16);
        Reader {
            bytes,
            position: if bytes.starts_with(scan::BYTE_ORDER_MARK) { scan::BYTE_ORDER_MARK.len() } else { 0 },
            slots: Vec::with_capacity(capacity),
            frames: Vec::with_capacity(16),
            keys: Vec::with_capacity(64),
            key: Key::default(),
            expects_key: false,
            findings: Findings::default(),
        }
    }

    /// One value and nothing after it. Each round reads up to the next scalar or opening bracket, then closes what ends.
    fn document(&mut self) -> Result<(), Stop> {
        loop {
            if self.value()? {
                continue;
            }
            loop {
                let next = self.peek();
                let Some(frame) = self.frames.last_mut() else {
                    return match next {
                        None => Ok(()),
                        Some(b'/') => self.comment(),
                        Some(_) => stop(self.position, "Something stands after the end of the JSON document"),
                    };
                };
                match (next, frame.is_object) {
                    (Some(b','), is_object) => {
                        frame.child += 1;
                        self.position += 1;
                        if is_object {
                            self.member_key()?;
                        }
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => self.close(),
                    (Some(b'/'), _) => return self.comment(),
                    (None, _) => return stop(self.position, "The text ends within an object or array"),
                    (_, true) => return stop(self.position, "An object goes on with neither a comma nor }"),
                    (_, false) => return stop(self.position, "An array goes on with neither a comma nor ]"),
                }
            }
        }
    }

    /// Reads a scalar, an empty container or an opening bracket; true when a value must follow.
    fn value(&mut self) -> Result<bool, Stop> {
        let start = match self.peek() {
            Some(_) if self.slots.len() < NODE_LIMIT => self.position,
            Some(_) => {
                let text = "The document has more values than are read (2000000)";
                return Err((Broken { offset: self.position, text }, GRAMMAR, IssueCode::TooLong));
            }
            None => return stop(self.position, "The text ends where a value is expected"),
        };
        match self.bytes[start] {
            b'{' => self.open(true),
            b'[' => self.open(false),
            b'"' => {
                let (end, escaped) = scan::string_end(self.bytes, start + 1).map_err(grammar)?;
                self.push(Kind::String, start + 1, end, if escaped { ESCAPED } else { 0 });
                self.position = end + 1;
                if end == start + 1 {
                    self.note(start, "JSN-03", "A string is empty; leave the property out");
                }
                Ok(false)
            }
            b'-' | b'0'..=b'9' => {
                let end = scan::number_end(self.bytes, start).map_err(grammar)?;
                self.push(Kind::Number, start, end, 0);
                self.position = end;
                Ok(false)
            }
            b't' => self.word(b"true", Kind::Boolean),
            b'f' => self.word(b"false", Kind::Boolean),
            b'n' => {
                self.word(b"null", Kind::Null)?;
                match self.frames.last_mut() {
                    Some(frame) if !frame.is_object => frame.first_null = frame.first_null.or(Some(frame.child)),
                    _ => {
                        self.note(start, "JSN-04", "null stands outside an array of primitives; leave the property out")
                    }
                }
                Ok(false)
            }
            b'/' => self.comment(),
            _ => stop(start, "Something stands where a value is expected"),
        }
    }

    fn open(&mut self, is_object: bool) -> Result<bool, Stop> {
        let start = self.position;
        if self.frames.len() >= DEPTH_LIMIT {
            return Err((Broken { offset: start, text: TOO_DEEP }, DEPTH, IssueCode::TooLong));
        }
        if let Some(parent) = self.frames.last_mut() {
            parent.has_container = true;
        }
        let node = self.push(if is_object { Kind::Object } else { Kind::Array }, start, start, 0);
        self.frames.push(Frame {
            node,
            is_object,
            child: 0,
            keys_from: self.keys.len(),
            seen: 0,
            compare: false,
            first_null: None,
            has_container: false,
        });
        self.position += 1;
        match (self.peek(), is_object) {
            (Some(b'}'), true) => {
                self.close();
                self.note(start, "JSN-03", "An object is empty; leave the property out");
                Ok(false)
            }
            (Some(b']'), false) => {
                self.close();
                self.note(start, "JSN-03", "An array is empty; leave the property out");
                Ok(false)
            }
            (_, true) => self.member_key().map(|()| true),
            (_, false) => Ok(true),
        }
    }

    /// A member's name and its colon.
    fn member_key(&mut self) -> Result<(), Stop> {
        self.expects_key = true;
        match self.peek() {
            Some(b'"') => {}
            Some(b'/') => return self.comment(),
            Some(_) => return stop(self.position, "An object goes on with something else than a name in quotes"),
            None => return stop(self.position, "The text ends within an object or array"),
        }
        let start = self.position + 1;
        let (end, escaped) = scan::string_end(self.bytes, start).map_err(grammar)?;
        self.position = end + 1;
        let key = Key::new(self.bytes, start, end, escaped);
        self.expects_key = false;
        let bit = key.tag.bit();
        if let Some(frame) = self.frames.last_mut() {
            frame.compare |= escaped || frame.seen & bit != 0;
            frame.seen |= bit;
        }
        self.key = key;
        self.keys.push(key);
        match self.peek() {
            Some(b':') => {
                self.position += 1;
                Ok(())
            }
            Some(b'/') => self.comment(),
            _ => stop(self.position, "A name in an object is not followed by a colon"),
        }
    }

    /// Ends the innermost object or array at the bracket under the position.
    fn close(&mut self) {
        self.position += 1;
        let Some(frame) = self.frames.last() else { return };
        let (node, keys_from) = (frame.node as usize, frame.keys_from);
        let compare = frame.is_object && frame.compare;
        let null = frame.first_null.filter(|_| frame.has_container && !self.is_extension_array(node));
        if compare && keys::may_repeat(self.bytes, &self.keys[keys_from..]) {
            self.find_duplicates(keys_from);
        }
        if let Some(child) = null {
            let path = match self.findings.has_room_for_notes() {
                true => format!("{}[{child}]", self.path(1)),
                false => String::new(),
            };
            let text = "null stands among objects or arrays";
            self.findings.note(Finding::new(self.slots[node].start as usize, "JSN-04", text, path));
        }
        self.frames.pop();
        self.keys.truncate(keys_from);
        let next = self.slots.len() as u32;
        self.slots[node].end = self.position as u32;
        self.slots[node].next = next;
    }

    /// `_given` and the like hold null where the primitive has no extension (JSN-06).
    fn is_extension_array(&self, node: usize) -> bool {
        let slot = &self.slots[node];
        slot.key_end > slot.key_start && self.bytes[slot.key_start as usize] == b'_'
    }

    /// Every name that stands in the object before (JSN-01).
    fn find_duplicates(&mut self, keys_from: usize) {
        for (name, offset) in keys::repeated(self.bytes, &self.keys[keys_from..]) {
            let path = match self.findings.has_room_for_refusals() {
                true => format!("{}{}", self.path(1), step(&name)),
                false => String::new(),
            };
            let text = "A name stands more than once in an object";
            self.findings.refuse(Finding::new(offset, "JSN-01", text, path));
        }
    }

    /// Ends what is open where the grammar broke, so that the part before it can still be asked for its type.
    fn abandon(&mut self, broken: Broken, rule: &'static str, code: IssueCode) {
        let next = self.slots.len() as u32;
        for frame in &self.frames {
            self.slots[frame.node as usize].next = next;
        }
        // Where a name should have come, the object is at fault and not the member before.
        let path = self.path(usize::from(self.expects_key));
        let finding = Finding::new(broken.offset, rule, broken.text, path);
        self.findings.end(Finding { severity: Severity::Fatal, code, ..finding });
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<bool, Stop> {
        let start = self.position;
        if !self.bytes[start..].starts_with(word) {
            return stop(start, "A word stands where a value is expected; JSON has only true, false and null");
        }
        self.push(kind, start, start + word.len(), 0);
        self.position = start + word.len();
        Ok(false)
    }

    fn comment<T>(&self) -> Result<T, Stop> {
        let text = "JSON has no comments; remove it";
        Err((Broken { offset: self.position, text }, "JSN-09", IssueCode::Structure))
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize, flags: u8) -> u32 {
        let index = self.slots.len() as u32;
        let key = std::mem::take(&mut self.key);
        let flags = flags | key.flags;
        let (start, end) = (start as u32, end as u32);
        let (key_start, key_end, tag) = (key.start, key.end, key.tag);
        self.slots.push(Slot { start, end, key_start, key_end, next: index + 1, tag, kind, flags });
        index
    }

    /// The byte after white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        // Mostly there is none, or one space.
        for _ in 0..2 {
            match *self.bytes.get(self.position)? {
                b' ' => self.position += 1,
                byte if byte > b' ' => return Some(byte),
                _ => break,
            }
        }
        self.position = scan::white_end(self.bytes, self.position);
        self.bytes.get(self.position).copied()
    }

    fn note(&mut self, offset: usize, rule: &'static str, text: &'static str) {
        let path = if self.findings.has_room_for_notes() { self.path(0) } else { String::new() };
        self.findings.note(Finding::new(offset, rule, text, path));
    }

    /// Where the reader stands: a step for each open container but the `skip` innermost ones.
    fn path(&self, skip: usize) -> String {
        let mut path = String::new();
        let last = self.frames.len().saturating_sub(skip);
        for (level, frame) in self.frames.iter().enumerate().take(last) {
            if !frame.is_object {
                path.push_str(&format!("[{}]", frame.child));
                continue;
            }
            // The last key of a frame stands just before the keys of the next.
            let end = self.frames.get(level + 1).map_or(self.keys.len(), |next| next.keys_from);
            if let Some(key) = self.keys[frame.keys_from..end].last() {
                path.push_str(&step(&keys::text(self.bytes, *key)));
            }
        }
        path
    }
}

#[cfg(test)]
pub(crate) mod tests;
