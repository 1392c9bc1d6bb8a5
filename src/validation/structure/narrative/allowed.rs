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
