//! The elements and attributes of narrative: those that the published expression of txt-1 lists, and those of the
//! chapters it names that it left out.

pub(super) fn is_element(name: &[u8]) -> bool {
    match name.len() {
        1 => matches!(name, b"a" | b"p" | b"b" | b"i" | b"q"),
        2 => matches!(
            name,
            b"td" | b"tr" | b"br" | b"th" | b"li" | b"ul" | b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" | b"hr"
                | b"ol" | b"em" | b"tt" | b"dl" | b"dt" | b"dd"
        ),
        3 => matches!(name, b"div" | b"img" | b"pre" | b"dfn" | b"var" | b"bdo" | b"kbd" | b"sub" | b"sup" | b"col" | b"big" | b"map"),
        4 => matches!(name, b"span" | b"code" | b"abbr" | b"cite" | b"samp" | b"area"),
        5 => matches!(name, b"table" | b"thead" | b"tbody" | b"tfoot" | b"small"),
        _ => matches!(name, b"strong" | b"blockquote" | b"acronym" | b"address" | b"caption" | b"colgroup"),
    }
}

pub(super) fn is_attribute(name: &[u8]) -> bool {
    match name.len() {
        2 | 3 => matches!(name, b"id" | b"src" | b"alt" | b"dir" | b"rel" | b"rev"),
        4 => matches!(name, b"href" | b"name" | b"lang" | b"abbr" | b"axis" | b"char" | b"cite" | b"span" | b"type"),
        5 => matches!(name, b"style" | b"class" | b"title" | b"width" | b"align" | b"frame" | b"rules" | b"scope" | b"shape" | b"start" | b"value" | b"ismap"),
        6 => matches!(name, b"border" | b"height" | b"valign" | b"coords" | b"hspace" | b"vspace" | b"nowrap" | b"usemap" | b"nohref"),
        7 => matches!(name, b"colspan" | b"rowspan" | b"bgcolor" | b"charoff" | b"charset" | b"compact" | b"headers" | b"summary"),
        8 => matches!(name, b"xml:lang" | b"hreflang" | b"longdesc" | b"tabindex"),
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
