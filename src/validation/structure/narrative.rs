//! Narrative: well-formed XHTML in a `div`, with the elements and attributes of HTML 4.0 chapters 7 to 11 (without 9.4)
//! and 15, `a`, images and `style` attributes; no active content, no DTD, none of HTML's entities; some content.
//!
//! Lists as the reference holds them: txt-1 names chapters, and these are what it reads out of them.

use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

const NAMESPACE: &str = "http://www.w3.org/1999/xhtml";

/// Which rule the narrative breaks, and how.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub rule: &'static str,
    pub text: &'static str,
}

const fn formed(text: &'static str) -> Fault {
    Fault { rule: "narrative", text }
}

const fn formatting(text: &'static str) -> Fault {
    Fault { rule: "txt-1", text }
}

/// The first fault of a `div`, its text decoded. Time is linear in its length.
pub(super) fn check(text: &str) -> Result<(), Fault> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut seen = Seen::default();
    loop {
        match reader.read_event() {
            Err(_) => return Err(formed("the narrative is not well-formed XHTML; close every element in order")),
            Ok(Event::Eof) => break,
            Ok(Event::Start(start)) => {
                seen.element(&start)?;
                seen.depth += 1;
            }
            Ok(Event::Empty(start)) => seen.element(&start)?,
            Ok(Event::End(_)) => seen.depth = seen.depth.saturating_sub(1),
            Ok(Event::Text(text)) => seen.text(&text)?,
            Ok(Event::CData(text)) => seen.text(&text)?,
            Ok(Event::GeneralRef(name)) => {
                entity(&name)?;
                seen.text("&")?;
            }
            Ok(Event::DocType(_)) => return Err(formed("the narrative must not have a DOCTYPE; remove it")),
            Ok(Event::Comment(_) | Event::PI(_) | Event::Decl(_)) => {}
        }
    }
    seen.end()
}

#[derive(Default)]
struct Seen {
    depth: u32,
    has_root: bool,
    has_content: bool,
}

impl Seen {
    fn element(&mut self, start: &BytesStart) -> Result<(), Fault> {
        let name = start.name();
        let name: &str = name.as_ref();
        if self.depth == 0 {
            if self.has_root {
                return Err(formed("the narrative must have one root element, a div"));
            }
            self.has_root = true;
            root(name, start)?;
        }
        if !is_listed(name, ELEMENTS) {
            return Err(formatting("the narrative has an element that is no basic formatting; remove it"));
        }
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|_| formed("the narrative has a malformed or repeated attribute"))?;
            self::attribute(attribute.key.as_ref(), &attribute.value)?;
            self.has_content |= name == "img" && attribute.key.as_ref() == "src";
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Fault> {
        if text.bytes().all(|byte| byte.is_ascii_whitespace()) {
            return Ok(());
        }
        if self.depth == 0 {
            return Err(formed("the narrative must be an XHTML div; text stands outside of it"));
        }
        self.has_content = true;
        Ok(())
    }

    fn end(self) -> Result<(), Fault> {
        if self.depth > 0 || !self.has_root {
            return Err(formed("the narrative must be one XHTML div that is closed"));
        }
        if !self.has_content {
            let text = "the narrative must have some content; write it, or leave text out";
            return Err(Fault { rule: "txt-2", text });
        }
        Ok(())
    }
}

fn root(name: &str, start: &BytesStart) -> Result<(), Fault> {
    if name != "div" {
        return Err(formed("the root of the narrative must be a div without prefix"));
    }
    let mut attributes = start.attributes().filter_map(Result::ok);
    let namespace = attributes.find(|attribute| attribute.key.as_ref() == "xmlns");
    match namespace.is_some_and(|namespace| &*namespace.value == NAMESPACE) {
        true => Ok(()),
        false => Err(formed("the div of the narrative must be in the namespace http://www.w3.org/1999/xhtml")),
    }
}

/// XML's five and numbers; those of HTML need a DTD.
fn entity(name: &str) -> Result<(), Fault> {
    if matches!(name, "amp" | "lt" | "gt" | "quot" | "apos") {
        return Ok(());
    }
    let code = name.strip_prefix('#').and_then(|number| match number.strip_prefix('x') {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => number.parse().ok(),
    });
    let is_allowed =
        |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    match code.and_then(char::from_u32).is_some_and(is_allowed) {
        true => Ok(()),
        false => Err(formed("the narrative has an entity that is not one of XML; write the character or its number")),
    }
}

fn attribute(name: &str, value: &str) -> Result<(), Fault> {
    entities(value)?;
    if value.contains('<') {
        return Err(formed("the narrative has < in an attribute; write &lt;"));
    }
    let is_allowed =
        is_listed(name, ATTRIBUTES) || (name == "xmlns" && value == NAMESPACE) || name.starts_with("xmlns:");
    if !is_allowed {
        return Err(formatting("the narrative has an attribute that is no basic formatting; remove it"));
    }
    if matches!(name, "href" | "src" | "cite" | "longdesc" | "usemap" | "style") && is_active(value, name == "style") {
        return Err(formatting("the narrative has a link with active content; remove it"));
    }
    Ok(())
}

/// Every reference in an attribute is whole and known.
fn entities(value: &str) -> Result<(), Fault> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('&') {
        let (name, after) =
            after.split_once(';').ok_or(formed("the narrative has & without an entity; write &amp;"))?;
        entity(name)?;
        rest = after;
    }
    Ok(())
}

/// Whether a link, or one within a style, runs a script. Entities and white space are no hiding place.
fn is_active(value: &str, is_style: bool) -> bool {
    if !value.contains([':', '&']) {
        return false;
    }
    let Ok(plain) = quick_xml::escape::unescape(value) else { return true };
    let letters = plain.chars().filter(|c| !c.is_whitespace() && !c.is_control());
    let plain: String = letters.map(|c| c.to_ascii_lowercase()).collect();
    let mut schemes = ["javascript:", "vbscript:", "livescript:", "data:text/html"].into_iter();
    schemes.any(|scheme| if is_style { plain.contains(scheme) } else { plain.starts_with(scheme) })
}

fn is_listed(name: &str, list: &[&str]) -> bool {
    list.iter().any(|known| *known == name)
}

/// The most frequent first.
const ELEMENTS: &[&str] = &[
    "td",
    "a",
    "p",
    "b",
    "img",
    "span",
    "tr",
    "div",
    "table",
    "code",
    "br",
    "th",
    "li",
    "ul",
    "strong",
    "blockquote",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "ol",
    "thead",
    "tbody",
    "tfoot",
    "pre",
    "em",
    "i",
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
];

/// Those that the published expression of txt-1 lists, and those of the chapters that it left out.
const ATTRIBUTES: &[&str] = &[
    "style",
    "class",
    "href",
    "title",
    "src",
    "alt",
    "name",
    "id",
    "colspan",
    "border",
    "cellpadding",
    "cellspacing",
    "rowspan",
    "lang",
    "xml:lang",
    "dir",
    "width",
    "height",
    "align",
    "valign",
    "abbr",
    "accesskey",
    "axis",
    "bgcolor",
    "cellhalign",
    "cellvalign",
    "char",
    "charoff",
    "charset",
    "cite",
    "compact",
    "coords",
    "frame",
    "headers",
    "hreflang",
    "hspace",
    "longdesc",
    "nowrap",
    "rel",
    "rev",
    "rules",
    "scope",
    "shape",
    "span",
    "start",
    "summary",
    "tabindex",
    "type",
    "value",
    "vspace",
    "usemap",
    "ismap",
    "nohref",
    "xml:space",
];

#[cfg(test)]
mod tests;
