//! The elements and attributes of narrative: those that the published expression of txt-1 lists, and those of the
//! chapters it names that it left out.

/// A name as a number: its bytes, of longer names than 8 bytes the first 8 and the length.
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

/// The most frequent first.
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

/// The most frequent first. At most 64, for each has a bit.
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

pub(super) fn is_element(name: u64) -> bool {
    ELEMENTS.contains(&name)
}

/// The position of an attribute in the list.
pub(super) fn attribute(name: u64) -> Option<usize> {
    ATTRIBUTES.iter().position(|known| *known == name)
}

/// Whether HTML has this attribute on this element; `position` is the attribute's in the list.
pub(super) fn belongs(position: usize, element: u64) -> bool {
    PLACES.get(position).is_none_or(|places| places.is_empty() || places.contains(&element))
}

/// Elements of each attribute, as HTML 4 describes them; none: any.
const PLACES: [&[u64]; ATTRIBUTES.len()] = {
    let mut places: [&[u64]; ATTRIBUTES.len()] = [&[]; ATTRIBUTES.len()];
    let mut at = 0;
    while at < ATTRIBUTES.len() {
        let mut group = 0;
        while group < OWNED.len() {
            let (names, elements) = OWNED[group];
            let mut name = 0;
            while name < names.len() {
                if names[name] == ATTRIBUTES[at] {
                    places[at] = elements;
                }
                name += 1;
            }
            group += 1;
        }
        at += 1;
    }
    places
};

/// Attributes that only some elements have.
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

/// Whether an element may stand directly in another: rows in tables, items in lists, and nothing else in those.
pub(super) fn nests(parent: u64, child: u64) -> bool {
    let homes = HOMES.iter().find(|(children, _)| children.contains(&child));
    homes.map_or_else(|| takes_text(parent), |(_, homes)| homes.contains(&parent))
}

/// Tables, their parts, and lists take only what belongs to them.
pub(super) fn takes_text(element: u64) -> bool {
    const PARTS: [u64; 9] = words!["tr", "table", "ul", "tbody", "thead", "ol", "tfoot", "dl", "colgroup"];
    !PARTS.contains(&element)
}

/// Elements that a paragraph cannot hold.
pub(super) fn is_block(element: u64) -> bool {
    const BLOCKS: [u64; 7] = words!["p", "div", "table", "ul", "ol", "pre", "blockquote"];
    BLOCKS.contains(&element)
}

/// Elements, and what each of them stands in.
const HOMES: [(&[u64], &[u64]); 6] = [
    (&words!["td", "th"], &words!["tr"]),
    (&words!["tr"], &words!["tbody", "table", "thead", "tfoot"]),
    (&words!["li"], &words!["ul", "ol"]),
    (&words!["tbody", "thead", "tfoot", "caption", "colgroup"], &words!["table"]),
    (&words!["col"], &words!["colgroup", "table"]),
    (&words!["dt", "dd"], &words!["dl"]),
];

const SCHEMES: [&str; 4] = ["javascript:", "vbscript:", "livescript:", "data:text/html"];

/// Whether a link, or one within a style, runs a script. Entities and white space are no hiding place.
pub(super) fn is_active(name: u64, value: &[u8]) -> bool {
    const LINKS: [u64; 5] = words!["href", "src", "cite", "longdesc", "usemap"];
    match name == const { word(b"style") } {
        // Only what has a link in it, or hides it.
        true => memchr::memchr3(b'(', b'&', b'\\', value).is_some() && runs_script(value, true),
        false => LINKS.contains(&name) && !is_plain(value) && runs_script(value, false),
    }
}

/// A link of the usual kind, or a relative one.
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
