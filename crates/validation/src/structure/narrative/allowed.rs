//! The elements and attributes allowed in narrative: those that the published expression of txt-1 lists, and those
//! of the HTML chapters that txt-1 names but the expression omits.

/// A name as a number: its bytes; for names longer than 8 bytes, the first 8 combined with the length.
pub(super) const fn word(name: &[u8]) -> u64 {
    let (mut word, mut at) = (0, 0);
    while at < name.len() && at < 8 {
        word |= (name[at] as u64) << (8 * at);
        at += 1;
    }
    if name.len() > 8 { word.rotate_left(4) ^ name.len() as u64 } else { word }
}

macro_rules! words {
    ($($name:literal),* $(,)?) => { [$(word($name.as_bytes())),*] };
}

/// At most 64, because each has a bit.
const ELEMENTS: [u64; 53] = words![
    "td",
    "a",
    "p",
    "b",
    "img",
    "span",
    "tr",
    "div",
    "table",
    "th",
    "li",
    "ul",
    "br",
    "strong",
    "code",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "ol",
    "em",
    "i",
    "thead",
    "tbody",
    "tfoot",
    "pre",
    "small",
    "big",
    "tt",
    "dfn",
    "q",
    "var",
    "abbr",
    "acronym",
    "cite",
    "address",
    "bdo",
    "kbd",
    "sub",
    "sup",
    "dl",
    "dt",
    "dd",
    "caption",
    "colgroup",
    "col",
    "samp",
    "map",
    "area",
    "blockquote"
];

/// At most 64, because each has a bit.
const ATTRIBUTES: [u64; 54] = words![
    "style",
    "class",
    "href",
    "src",
    "alt",
    "title",
    "name",
    "id",
    "colspan",
    "rowspan",
    "border",
    "width",
    "height",
    "lang",
    "xml:lang",
    "align",
    "valign",
    "dir",
    "abbr",
    "axis",
    "char",
    "charoff",
    "charset",
    "cite",
    "span",
    "type",
    "frame",
    "rules",
    "scope",
    "shape",
    "start",
    "value",
    "ismap",
    "coords",
    "hspace",
    "vspace",
    "nowrap",
    "usemap",
    "nohref",
    "bgcolor",
    "compact",
    "headers",
    "summary",
    "hreflang",
    "longdesc",
    "tabindex",
    "rel",
    "rev",
    "cellpadding",
    "cellspacing",
    "cellhalign",
    "cellvalign",
    "accesskey",
    "xml:space"
];

/// Position in `ELEMENTS`.
pub(super) type Element = u8;

pub(super) const P: Element = position(&ELEMENTS, word(b"p"));
pub(super) const A: Element = position(&ELEMENTS, word(b"a"));
pub(super) const PRE: Element = position(&ELEMENTS, word(b"pre"));
pub(super) const IMG: Element = position(&ELEMENTS, word(b"img"));

pub(super) const SRC: u64 = word(b"src");

/// The rules of HTML for an element.
#[derive(Clone, Copy)]
struct Rule {
    /// The elements that may contain it, one bit each; 0: any that takes text.
    homes: u64,
    /// The attributes that it may have, one bit each.
    attributes: u64,
    takes_text: bool,
    is_block: bool,
}

const RULES: [Rule; ELEMENTS.len()] = {
    let mut rules = [Rule { homes: 0, attributes: 0, takes_text: true, is_block: false }; ELEMENTS.len()];
    let mut at = 0;
    while at < ELEMENTS.len() {
        let name = ELEMENTS[at];
        rules[at] = Rule {
            homes: parents(name),
            attributes: attributes(name),
            takes_text: !has(&PARTS, name),
            is_block: has(&BLOCKS, name),
        };
        at += 1;
    }
    rules
};

/// The word of its name, and the number of bytes in it (8 for names of 8 bytes or more).
pub(super) fn name_of(element: Element) -> (u64, usize) {
    let word = ELEMENTS[usize::from(element)];
    (word, 8 - word.leading_zeros() as usize / 8)
}

/// The element with this name.
pub(super) fn element(name: u64) -> Option<Element> {
    const TABLE: Table = table(&ELEMENTS);
    look_up(&TABLE, name)
}

/// The position of an attribute in the list.
pub(super) fn attribute(name: u64) -> Option<u8> {
    const TABLE: Table = table(&ATTRIBUTES);
    look_up(&TABLE, name)
}

/// Whether HTML defines this attribute for this element.
pub(super) fn belongs(attribute: u8, element: Element) -> bool {
    rule(element).attributes & (1 << attribute) != 0
}

/// Whether an element may occur directly in another: rows in tables, items in lists, and nothing else in those.
pub(super) fn nests(parent: Element, child: Element) -> bool {
    match rule(child).homes {
        0 => takes_text(parent),
        homes => homes & (1 << parent) != 0,
    }
}

/// Whether text may occur directly in the element. Tables, their parts, and lists only contain certain elements.
pub(super) fn takes_text(element: Element) -> bool {
    rule(element).takes_text
}

/// Whether the element is not allowed in a paragraph.
pub(super) fn is_block(element: Element) -> bool {
    rule(element).is_block
}

/// Whether the element is not allowed in preformatted text.
pub(super) fn is_kept_out_of_pre(element: Element) -> bool {
    const KEPT_OUT: [u64; 5] = words!["img", "big", "small", "sub", "sup"];
    KEPT_OUT.contains(&ELEMENTS[usize::from(element)])
}

fn rule(element: Element) -> &'static Rule {
    &RULES[usize::from(element)]
}

/// Elements that cannot contain text.
const PARTS: [u64; 9] = words!["tr", "table", "ul", "tbody", "thead", "ol", "tfoot", "dl", "colgroup"];
const BLOCKS: [u64; 7] = words!["p", "div", "table", "ul", "ol", "pre", "blockquote"];

/// Elements, and the elements that may contain each of them.
const HOMES: [(&[u64], &[u64]); 6] = [
    (&words!["td", "th"], &words!["tr"]),
    (&words!["tr"], &words!["tbody", "table", "thead", "tfoot"]),
    (&words!["li"], &words!["ul", "ol"]),
    (&words!["tbody", "thead", "tfoot", "caption", "colgroup"], &words!["table"]),
    (&words!["col"], &words!["colgroup", "table"]),
    (&words!["dt", "dd"], &words!["dl"]),
];

/// Attributes that are specific to some elements.
const OWNED: [(&[u64], &[u64]); 13] = [
    (&words!["href"], &words!["a", "area"]),
    (&words!["src", "longdesc", "ismap", "usemap", "hspace", "vspace"], &words!["img"]),
    (&words!["alt"], &words!["img", "area"]),
    (&words!["name"], &words!["a", "map", "img"]),
    (&words!["border"], &words!["table", "img"]),
    (&words!["height"], &words!["img", "td", "th"]),
    (&words!["charset", "hreflang", "rel", "rev"], &words!["a"]),
    (&words!["shape", "coords", "nohref"], &words!["a", "area"]),
    (&words!["type", "start", "value", "compact"], &words!["a", "ol", "ul", "li", "dl"]),
    (&words!["cite"], &words!["blockquote", "q"]),
    (&words!["frame", "rules", "summary", "cellpadding", "cellspacing"], &words!["table"]),
    (&words!["nowrap"], &words!["td", "th"]),
    (&words!["bgcolor"], &words!["table", "tr", "td", "th"]),
];

const fn parents(element: u64) -> u64 {
    let (mut bits, mut at) = (0, 0);
    while at < HOMES.len() {
        let (children, parents) = HOMES[at];
        let mut parent = 0;
        while has(children, element) && parent < parents.len() {
            bits |= 1 << position(&ELEMENTS, parents[parent]);
            parent += 1;
        }
        at += 1;
    }
    bits
}

const fn attributes(element: u64) -> u64 {
    let (mut bits, mut at) = (0, 0);
    while at < ATTRIBUTES.len() {
        let (mut is_allowed, mut group) = (true, 0);
        while group < OWNED.len() {
            let (names, elements) = OWNED[group];
            is_allowed &= !has(names, ATTRIBUTES[at]) || has(elements, element);
            group += 1;
        }
        bits |= (is_allowed as u64) << at;
        at += 1;
    }
    bits
}

const fn has(words: &[u64], wanted: u64) -> bool {
    let mut at = 0;
    while at < words.len() {
        if words[at] == wanted {
            return true;
        }
        at += 1;
    }
    false
}

/// The position of a word; fails the build if the word is not in the list.
const fn position(words: &[u64], wanted: u64) -> u8 {
    let mut at = 0;
    while words[at] != wanted {
        at += 1;
    }
    at as u8
}

/// Words with their positions; at most half of the slots are used, and 0 marks a free one.
type Table = [(u64, u8); 128];

const fn slot(word: u64) -> usize {
    (word.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 57) as usize
}

const fn table(words: &[u64]) -> Table {
    let (mut table, mut at) = ([(0, 0); 128], 0);
    while at < words.len() {
        let mut place = slot(words[at]);
        while table[place].0 != 0 {
            place = (place + 1) % table.len();
        }
        table[place] = (words[at], at as u8);
        at += 1;
    }
    table
}

fn look_up(table: &'static Table, word: u64) -> Option<u8> {
    let mut place = slot(word);
    // Half of the slots are free, so the loop ends.
    while table[place].0 != word || word == 0 {
        if table[place].0 == 0 {
            return None;
        }
        place = (place + 1) % table.len();
    }
    Some(table[place].1)
}

const STYLE: u64 = word(b"style");
const SCHEMES: [&str; 4] = ["javascript:", "vbscript:", "livescript:", "data:text/html"];

/// Whether a link, or a link within a style, runs a script. Also recognizes links disguised by entities or white
/// space.
pub(super) fn is_active(name: u64, value: &[u8]) -> bool {
    const LINKS: [u64; 5] = words!["href", "src", "cite", "longdesc", "usemap"];
    match name == STYLE {
        // Only values that contain a link, or may disguise one.
        true => value.iter().any(|byte| matches!(byte, b'(' | b'&' | b'\\')) && runs_script(value, true),
        false => LINKS.contains(&name) && !is_plain(value) && runs_script(value, false),
    }
}

/// An ordinary or relative link.
fn is_plain(value: &[u8]) -> bool {
    const SCHEMES: [&[u8]; 3] = [b"http://", b"https://", b"#"];
    SCHEMES.iter().any(|scheme| value.starts_with(scheme)) || memchr::memchr2(b':', b'&', value).is_none()
}

fn runs_script(value: &[u8], is_style: bool) -> bool {
    let Some(plain) = std::str::from_utf8(value).ok().and_then(|value| quick_xml::escape::unescape(value).ok()) else {
        return true;
    };
    let letters = plain.chars().filter(|c| !c.is_whitespace() && !c.is_control());
    let plain: String = letters.map(|c| c.to_ascii_lowercase()).collect();
    SCHEMES.iter().any(|scheme| if is_style { plain.contains(scheme) } else { plain.starts_with(scheme) })
}
