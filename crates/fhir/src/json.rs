//! The JSON reader: bytes to a `Tree`, with FHIR's rules for JSON (JSN-01, JSN-03, JSN-04, JSN-09).
//!
//! Refuses what is not JSON (RFC 8259), duplicate names, nesting beyond `DEPTH_LIMIT`, and more than `NODE_LIMIT`
//! values. What FHIR forbids but production messages contain, empty values and stray nulls, becomes notes of the
//! tree. Does not recurse, allocates nothing per value, and knows no resources or data types.

mod keys;

use self::keys::Key;
pub use super::finding::ISSUE_LIMIT;
use super::finding::{DEPTH, Finding, Findings, TOO_DEEP, step};
use super::issue::{Issue, IssueCode, Severity};
use super::scan::{self, SyntaxError};
use super::tree::{ESCAPED, Kind, Node, Slot, Tree};
use bytes::Bytes;
use bytestring::ByteString;

/// The maximum nesting.
pub const DEPTH_LIMIT: usize = 256;
/// The maximum number of values, so that a body of commas cannot exhaust the memory: 48 MB of nodes.
pub const NODE_LIMIT: usize = 2_000_000;

/// The rule number of violations of the JSON grammar.
const GRAMMAR: &str = "RFC8259";

/// Parses one JSON document; a leading byte order mark is skipped. Violations of JSN-03 and JSN-04 become
/// `Tree::notes`.
///
/// # Errors
/// The first violation of the grammar and every duplicate name (JSN-01), each with line and column.
pub fn parse(bytes: Bytes) -> Result<Tree, Vec<Issue>> {
    let mut reader = Reader::new(&bytes);
    let text = text(&bytes);
    let read = text.as_ref().map_err(|stop| *stop).and_then(|_| reader.document());
    if let Err((error, rule, code)) = read {
        reader.abandon(error, rule, code);
    }
    let Reader { slots, findings, .. } = reader;
    let mut tree = Tree { text: text.unwrap_or_default(), slots, notes: Vec::new(), source: None };
    let named = if tree.is_empty() { None } else { tree.root().get("resourceType").and_then(Node::text) };
    tree.notes = findings.into_issues(&bytes, named.as_deref())?;
    Ok(tree)
}

/// Checks that the bytes are UTF-8.
fn text(bytes: &Bytes) -> Result<ByteString, Stop> {
    if u32::try_from(bytes.len()).is_err() {
        let text = "The body is longer than the limit of 4 GiB";
        return Err((SyntaxError { offset: 0, text }, GRAMMAR, IssueCode::TooLong));
    }
    ByteString::try_from(bytes.clone()).or_else(|error| stop(error.valid_up_to(), "The text is not valid UTF-8"))
}

/// An open object or array.
struct Frame {
    node: u32,
    is_object: bool,
    /// The position of the current child, from 0.
    child: u32,
    /// The position of its keys in `Reader::keys`.
    keys_from: usize,
    /// One bit per key hash; if a bit occurs twice, the keys must be compared.
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
    /// The key of the next value.
    key: Key,
    /// Whether a name must follow, not a value.
    expects_key: bool,
    findings: Findings,
}

/// A violation of the grammar with its rule and issue code.
type Stop = (SyntaxError, &'static str, IssueCode);

fn stop<T>(offset: usize, text: &'static str) -> Result<T, Stop> {
    Err((SyntaxError { offset, text }, GRAMMAR, IssueCode::Structure))
}

fn grammar(error: SyntaxError) -> Stop {
    (error, GRAMMAR, IssueCode::Structure)
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

    /// Parses one value and nothing after it. Each iteration reads up to the next scalar or opening bracket, then
    /// closes what ends.
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
                        Some(_) => stop(self.position, "There is text after the end of the JSON document"),
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
                    (_, true) => return stop(self.position, "In an object, a comma or } is expected here"),
                    (_, false) => return stop(self.position, "In an array, a comma or ] is expected here"),
                }
            }
        }
    }

    /// Parses a scalar, an empty container, or an opening bracket; returns true if a value must follow.
    fn value(&mut self) -> Result<bool, Stop> {
        let start = match self.peek() {
            Some(_) if self.slots.len() < NODE_LIMIT => self.position,
            Some(_) => {
                let text = "The document has more values than the limit of 2000000";
                return Err((SyntaxError { offset: self.position, text }, GRAMMAR, IssueCode::TooLong));
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
                    _ => self.note(
                        start,
                        "JSN-04",
                        "null is only allowed in an array of primitives; leave the property out",
                    ),
                }
                Ok(false)
            }
            b'/' => self.comment(),
            _ => stop(start, "A value is expected here"),
        }
    }

    fn open(&mut self, is_object: bool) -> Result<bool, Stop> {
        let start = self.position;
        if self.frames.len() >= DEPTH_LIMIT {
            return Err((SyntaxError { offset: start, text: TOO_DEEP }, DEPTH, IssueCode::TooLong));
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

    /// Parses a member's name and its colon.
    fn member_key(&mut self) -> Result<(), Stop> {
        self.expects_key = true;
        match self.peek() {
            Some(b'"') => {}
            Some(b'/') => return self.comment(),
            Some(_) => return stop(self.position, "In an object, a name in quotes is expected here"),
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

    /// Ends the innermost object or array at the bracket at the current position.
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
            let text = "null is not allowed among objects or arrays";
            self.findings.note(Finding::new(self.slots[node].start as usize, "JSN-04", text, path));
        }
        self.frames.pop();
        self.keys.truncate(keys_from);
        let next = self.slots.len() as u32;
        self.slots[node].end = self.position as u32;
        self.slots[node].next = next;
    }

    /// `_given` and similar arrays have null where the primitive has no extension (JSN-06).
    fn is_extension_array(&self, node: usize) -> bool {
        let slot = &self.slots[node];
        slot.key_end > slot.key_start && self.bytes[slot.key_start as usize] == b'_'
    }

    /// Refuses every name that an earlier member of the object has (JSN-01).
    fn find_duplicates(&mut self, keys_from: usize) {
        for (name, offset) in keys::repeated(self.bytes, &self.keys[keys_from..]) {
            let path = match self.findings.has_room_for_refusals() {
                true => format!("{}{}", self.path(1), step(&name)),
                false => String::new(),
            };
            let text = "A name occurs more than once in an object";
            self.findings.refuse(Finding::new(offset, "JSN-01", text, path));
        }
    }

    /// Closes everything that is open where the grammar was violated, so that the part before can be searched for
    /// the resource type.
    fn abandon(&mut self, error: SyntaxError, rule: &'static str, code: IssueCode) {
        let next = self.slots.len() as u32;
        for frame in &self.frames {
            self.slots[frame.node as usize].next = next;
        }
        // If a name was expected, the object is at fault and not the member before.
        let path = self.path(usize::from(self.expects_key));
        let finding = Finding::new(error.offset, rule, error.text, path);
        self.findings.end(Finding { severity: Severity::Fatal, code, ..finding });
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<bool, Stop> {
        let start = self.position;
        if !self.bytes[start..].starts_with(word) {
            return stop(start, "This word is not a value; JSON has only true, false, and null");
        }
        self.push(kind, start, start + word.len(), 0);
        self.position = start + word.len();
        Ok(false)
    }

    fn comment<T>(&self) -> Result<T, Stop> {
        let text = "JSON has no comments; remove this one";
        Err((SyntaxError { offset: self.position, text }, "JSN-09", IssueCode::Structure))
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

    /// The next byte that is not white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        // Usually there is none, or one space.
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

    /// The expression of the current position: a step for each open container except the `skip` innermost ones.
    fn path(&self, skip: usize) -> String {
        let mut path = String::new();
        let last = self.frames.len().saturating_sub(skip);
        for (level, frame) in self.frames.iter().enumerate().take(last) {
            if !frame.is_object {
                path.push_str(&format!("[{}]", frame.child));
                continue;
            }
            // The last key of a frame is just before the keys of the next.
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
