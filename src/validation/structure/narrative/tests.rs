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
fn an_attribute_stands_on_the_elements_that_have_it() {
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
fn what_is_no_well_formed_div_of_xhtml_is_refused() {
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
