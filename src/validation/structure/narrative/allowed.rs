//! The elements and attributes of narrative: those that the published expression of txt-1 lists, and those of the
//! chapters it names that it left out.

/// A name of at most 8 bytes as a number; of longer ones 0.
const fn word(name: &[u8]) -> u64 {
    let (mut word, mut at) = (0, 0);
    while name.len() <= 8 && at < name.len() {
        word |= (name[at] as u64) << (8 * at);
        at += 1;
    }
    word
}

/// Whether a word is one of these names; compared as numbers.
macro_rules! is_one_of {
    ($word:expr, $($name:literal),* $(,)?) => {{
        let found = $word;
        $(found == const { word($name.as_bytes()) })||*
    }};
}

pub(super) fn is_element(name: &[u8]) -> bool {
    match name.len() {
        0 => false,
        1..=8 => is_one_of!(word(name), "a", "p", "b", "i", "q", "td", "tr", "br", "th", "li", "ul", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "ol", "em", "tt", "dl", "dt", "dd", "div", "img", "pre", "dfn", "var", "bdo", "kbd", "sub", "sup", "col", "big", "map", "span", "code", "abbr", "cite", "samp", "area", "table", "thead", "tbody", "tfoot", "small", "strong", "acronym", "address", "caption", "colgroup"),
        _ => name == b"blockquote",
    }
}

pub(super) fn is_attribute(name: &[u8]) -> bool {
    match name.len() {
        0 => false,
        1..=8 => is_one_of!(word(name), "id", "src", "alt", "dir", "rel", "rev", "href", "name", "lang", "abbr", "axis", "char", "cite", "span", "type", "style", "class", "title", "width", "align", "frame", "rules", "scope", "shape", "start", "value", "ismap", "border", "height", "valign", "coords", "hspace", "vspace", "nowrap", "usemap", "nohref", "colspan", "rowspan", "bgcolor", "charoff", "charset", "compact", "headers", "summary", "xml:lang", "hreflang", "longdesc", "tabindex"),
        _ => matches!(name, b"cellpadding" | b"cellspacing" | b"cellhalign" | b"cellvalign" | b"accesskey" | b"xml:space"),
    }
}

const SCHEMES: [&str; 4] = ["javascript:", "vbscript:", "livescript:", "data:text/html"];

/// Whether a link, or one within a style, runs a script. Entities and white space are no hiding place.
pub(super) fn is_active(name: &[u8], value: &[u8]) -> bool {
    let is_style = name == b"style";
    if !is_style && !matches!(name, b"href" | b"src" | b"cite" | b"longdesc" | b"usemap") {
        return false;
    }
    if memchr::memchr2(b':', b'&', value).is_none() || (!is_style && is_plain_web(value)) {
        return false;
    }
    let Some(plain) = std::str::from_utf8(value).ok().and_then(|value| quick_xml::escape::unescape(value).ok()) else {
        return true;
    };
    // Of a style only what has a link in it.
    if is_style && !plain.contains("(") {
        return false;
    }
    let letters = plain.chars().filter(|c| !c.is_whitespace() && !c.is_control());
    let plain: String = letters.map(|c| c.to_ascii_lowercase()).collect();
    SCHEMES.iter().any(|scheme| if is_style { plain.contains(scheme) } else { plain.starts_with(scheme) })
}

fn is_plain_web(value: &[u8]) -> bool {
    value.starts_with(b"http://") || value.starts_with(b"https://") || value.starts_with(b"#") || value.starts_with(b"mailto:")
}
