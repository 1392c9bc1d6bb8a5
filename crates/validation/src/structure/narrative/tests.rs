use super::*;

fn div(inner: &str) -> String {
    format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{inner}</div>")
}

fn rule(text: &str) -> Option<&'static str> {
    check(text.as_bytes()).err().map(|fault| fault.rule)
}

#[test]
fn basic_formatting_links_images_and_styles_are_allowed() {
    let good = [
        "<p style=\"color: red\" xml:lang=\"da\">Hej</p>",
        "<table class=\"grid\"><tr><td colspan=\"2\" title='a'>Hi</td></tr></table>",
        "<img src=\"a.png\" alt=\"a\"/>",
        "<a href=\"https://a.example?x=1&amp;y=javascript:\">Hi</a>",
        "<!-- seen --><?x y?><p class=\"\">&lt; &amp; &#233; &#xa0;</p>",
        "&#160;",
    ];
    for inner in good {
        assert_eq!(check(div(inner).as_bytes()), Ok(()), "{inner}");
    }
}

#[test]
fn other_elements_attributes_and_active_content_break_txt_1() {
    let bad = [
        "<script>x</script>",
        "<form>x</form>",
        "<style>p {}</style>x",
        "<blush>x</blush>",
        "<P>x</P>",
        "<p onclick=\"go()\">x</p>",
        "<p data-x=\"1\">x</p>",
        "<a href=\" java&#115;cript:alert(1)\">x</a>",
        "<p style=\"background: url(javascript:x)\">x</p>",
    ];
    for inner in bad {
        assert_eq!(rule(&div(inner)), Some("txt-1"), "{inner}");
    }
}

#[test]
fn an_attribute_is_allowed_on_the_elements_that_have_it() {
    for inner in ["<p href=\"#a\">x</p>", "<span colspan=\"1\" src=\"a.png\">x</span>", "<p cellpadding=\"1\">x</p>"] {
        assert_eq!(rule(&div(inner)), Some("txt-1"), "{inner}");
    }
    for inner in ["<a name=\"b\">x</a>", "<ol start=\"2\"><li value=\"2\">x</li></ol>", "<p align=\"left\">x</p>"] {
        assert_eq!(rule(&div(inner)), None, "{inner}");
    }
}

#[test]
fn tables_lists_and_paragraphs_are_nested_as_in_html() {
    let bad = [
        "<li>x</li>",
        "<table>x</table>",
        "<table><td>x</td></table>",
        "<ul><p>x</p></ul>",
        "<p><b><table><tr><td>x</td></tr></table></b></p>",
        "<p>x<p>y</p></p>",
        "y<ul>x</ul>",
    ];
    for inner in bad {
        assert_eq!(rule(&div(inner)), Some("txt-1"), "{inner}");
    }
    let good = [
        "<table> <caption>a</caption> <thead> <tr><th>x</th></tr> </thead><tbody><tr><td><ul><li><p>x</p></li></ul></td></tr></tbody></table>",
        "<dl><dt>x</dt><dd><div>y</div></dd></dl>",
        "<table><colgroup><col width=\"1\"/></colgroup><tr><td><table><tr><td>x</td></tr></table></td></tr></table>",
    ];
    for inner in good {
        assert_eq!(rule(&div(inner)), None, "{inner}");
    }
}

#[test]
fn a_narrative_without_content_breaks_txt_2() {
    for inner in ["", " \n ", "<p> </p>", "<img alt=\"a\"/>"] {
        assert_eq!(rule(&div(inner)), Some("txt-2"), "{inner}");
    }
}

#[test]
fn a_narrative_that_is_not_a_well_formed_xhtml_div_is_refused() {
    let bad = [
        "Hi".to_owned(),
        String::new(),
        "<div>Hi</div>".to_owned(),
        "<div xmlns=\"http://hl7.org/fhir\">Hi</div>".to_owned(),
        "<p xmlns=\"http://www.w3.org/1999/xhtml\">Hi</p>".to_owned(),
        format!("<!DOCTYPE div>{}", div("Hi")),
        format!("{}{}", div("Hi"), div("Hi")),
        format!("{} Hi", div("Hi")),
        div("<p>Hi<br></p>"),
        div("Hi &nbsp; there"),
        div("this & that"),
        div("<a href=\"?a&b\">Hi</a>"),
        div("<p class=\"a\" class=\"b\">Hi</p>"),
        div("&#0;"),
    ];
    for text in bad {
        assert_eq!(rule(&text), Some("narrative"), "{text}");
    }
}

#[test]
fn a_prefix_can_denote_xhtml() {
    let good = [
        "<h:div xmlns:h=\"http://www.w3.org/1999/xhtml\"><h:p>a</h:p><h:br/></h:div>",
        "<h:div xmlns:h=\"http://www.w3.org/1999/xhtml\">a<p xmlns=\"http://www.w3.org/1999/xhtml\"><b>b</b></p></h:div >",
        "<div xmlns=\"http://www.w3.org/1999/xhtml\" xmlns:x=\"http://www.w3.org/1999/xhtml\"><x:p>a<b>b</b></x:p></div>",
        "<div xmlns=\"http://www.w3.org&#47;1999&#x2F;xhtml\">a</div>",
        "<a:div xmlns:a=\"http://www.w3.org/1999/xhtml\"><b:p xmlns:b=\"http://www.w3.org/1999/xhtml\">a</b:p></a:div>",
    ];
    for text in good {
        assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
    }
    let bad = [
        "<h:div>a</h:div>",
        "<h:div xmlns:h=\"http://hl7.org/fhir\">a</h:div>",
        "<h:div xmlns:g=\"http://www.w3.org/1999/xhtml\">a</h:div>",
        "<h:div xmlns:h=\"http://www.w3.org/1999/xhtml\"><p>a</p></h:div>",
        "<h:div xmlns:h=\"http://www.w3.org/1999/xhtml\">a</div>",
        "<h:div xmlns:h=\"http://www.w3.org/1999/xhtml\"><h:p>a</p></h:div>",
        "<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>a</h:p></div>",
        "<h:div xmlns:h=\"http://www.w3.org/1999/xhtml\"><h:p xmlns:h=\"urn:x\">a</h:p></h:div>",
        "<h:div xmlns:h=\"http://www.w3.org/1999/xhtml\">a<b xmlns=\"http://www.w3.org/1999/xhtml\">b</b><i>c</i></h:div>",
        "<h:div xmlns:h=\"http://www.w3.org/1999/xhtml\" xmlns:h=\"http://www.w3.org/1999/xhtml\">a</h:div>",
        "<h:p xmlns:h=\"http://www.w3.org/1999/xhtml\">a</h:p>",
    ];
    for text in bad {
        assert_eq!(rule(text), Some("narrative"), "{text}");
    }
}

#[test]
fn links_cannot_contain_links_nor_preformatted_text_images() {
    for inner in [
        "<a href=\"#a\">x<a href=\"#b\">y</a></a>",
        "<a href=\"#a\"><span><b><a name=\"b\">y</a></b></span></a>",
        "<pre>x<img src=\"a.png\" alt=\"a\"/></pre>",
        "<pre><b>x<sup>2</sup></b></pre>",
    ] {
        assert_eq!(rule(&div(inner)), Some("txt-1"), "{inner}");
    }
    for inner in
        ["<a href=\"#a\">x</a><a href=\"#b\">y</a>", "<pre>x</pre>y<sup>2</sup>", "<p>x</p><ul><li>y</li></ul>"]
    {
        assert_eq!(rule(&div(inner)), None, "{inner}");
    }
}

#[test]
fn characters_that_xml_does_not_have_are_refused() {
    for character in ['\u{0}', '\u{8}', '\u{b}', '\u{1f}', '\u{fffe}', '\u{ffff}'] {
        assert_eq!(rule(&div(&format!("a{character}b"))), Some("narrative"), "{character:?}");
        assert_eq!(rule(&div(&format!("<p title=\"{character}\">b</p>"))), Some("narrative"), "{character:?}");
    }
    for character in ['\t', '\n', '\r', '\u{7f}', '\u{fffd}', '\u{1f600}'] {
        assert_eq!(rule(&div(&format!("a{character}b"))), None, "{character:?}");
    }
}
