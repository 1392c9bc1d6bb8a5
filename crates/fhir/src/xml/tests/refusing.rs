//! What is refused, and what is read and noted.

use super::*;
use crate::{Cause, Severity};

/// Reads `text` with `X` replaced by the namespace of FHIR on a line of its own, so that columns do not change.
fn refused(text: &str) -> Vec<Issue> {
    read(&text.replace('X', "xmlns=\"http://hl7.org/fhir\"\n")).expect_err(text)
}

#[test]
fn a_document_that_is_not_well_formed_is_refused_with_the_position() {
    let cases: &[(&str, (u32, u32))] = &[
        ("", (1, 1)),
        ("  \n", (2, 1)),
        ("x", (1, 1)),
        ("<", (1, 2)),
        ("<A X", (2, 1)),
        ("<A X>", (2, 2)),
        ("<A X>\n<b></A>", (3, 4)),
        ("<A X></a>", (2, 2)),
        ("<A X></A ", (2, 6)),
        ("<A X></AB>", (2, 2)),
        ("<A X/><A/>", (2, 3)),
        ("<A X/> x", (2, 4)),
        ("<A X/><![CDATA[x]]>", (2, 3)),
        ("<A X a=\"1\" a=\"1\"/>", (2, 8)),
        ("<A X a=\"1\"b=\"1\"/>", (2, 7)),
        ("<A X a=1/>", (2, 4)),
        ("<A X a/>", (2, 2)),
        ("<A X a=\"<\"/>", (2, 5)),
        ("<A X a=\"&\"/>", (2, 5)),
        ("<A X a=\"& b;\"/>", (2, 5)),
        ("<A X a=\"&nbsp;\"/>", (2, 5)),
        ("<A X a=\"&#0;\"/>", (2, 5)),
        ("<A X a=\"&#xD800;\"/>", (2, 5)),
        ("<A X a=\"&#+9;\"/>", (2, 5)),
        ("<A X a=\"&#a;\"/>", (2, 5)),
        ("<A X a=\"x/>", (2, 4)),
        ("<A X>&amp</A>", (2, 2)),
        ("<A X>a]]>b</A>", (2, 3)),
        ("<A X><!-- a -- b --></A>", (2, 9)),
        ("<A X><!-- a ---></A>", (2, 9)),
        ("<A X><!-></A>", (2, 2)),
        ("<A X><?xml version=\"1.0\"?></A>", (2, 2)),
        ("<A X><?a</A>", (2, 2)),
        ("<A X><1/></A>", (2, 3)),
        ("<A X><a:b:c/></A>", (2, 3)),
        ("<A X><a:b/></A>", (2, 3)),
        ("<A X><b a:c=\"\"/></A>", (2, 5)),
        ("<A X xmlns:p=\"\"/>", (2, 11)),
        ("<A X xmlns:a=\"u\" xmlns:b=\"u\"><c a:d=\"\" b:d=\"\"/></A>", (2, 36)),
        ("<A X>\u{b}</A>", (2, 2)),
        ("<A X>\u{ffff}</A>", (2, 2)),
        ("<?xml encoding=\"UTF-8\"?><A X/>", (1, 6)),
        (" <?xml version=\"1.0\"?><A X/>", (1, 2)),
        ("<?xml version=\"1.0\" standalone=\"maybe\"?><A X/>", (1, 20)),
        ("<?xml version=\"1.0\"<A X/>", (1, 1)),
    ];
    for (text, place) in cases {
        let issues = refused(text);
        assert_eq!((issues[0].rule.as_deref(), issues[0].position), (Some("XML1.0"), Some(*place)), "{text}");
        let kind = (issues[0].cause, issues[0].severity, issues.len());
        assert_eq!(kind, (Cause::Syntax, Severity::Fatal, 1), "{text}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_refused() {
    let issues = parse(Bytes::from_static(b"<A>\n\xff</A>"), None, None).unwrap_err();
    assert_eq!(found(&issues), [("XML1.0", "", (2, 1))]);
    let wide: Vec<u8> = "<A/>".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let issues = parse(Bytes::from([&b"\xfe\xff"[..], &wide].concat()), None, None).unwrap_err();
    assert!(issues[0].rule.as_deref() == Some("XML-03") && issues[0].diagnostics.contains("UTF-16"));
    assert_eq!(parse(Bytes::from(wide), None, None).unwrap_err()[0].rule.as_deref(), Some("XML-03"));
    let issues = refused("<?xml version=\"1.0\" encoding=\"iso-8859-1\"?><A X/>");
    assert_eq!(found(&issues), [("XML-03", "", (1, 20))]);
}

#[test]
fn a_dtd_is_refused_wherever_it_occurs() {
    for text in [
        "<!DOCTYPE A [<!ENTITY e \"x\">]><A X/>",
        "\n<!DOCTYPE A SYSTEM \"file:///dev/null\"><A X/>",
        "<A X><!DOCTYPE A></A>",
        "<A X/><!ENTITY e \"x\">",
    ] {
        assert_eq!(refused(text)[0].rule.as_deref(), Some("XML-03"), "{text}");
    }
}

#[test]
fn elements_of_other_namespaces_are_refused() {
    for text in [
        "<A/>",
        "<A xmlns=\"http://hl7.org/fhir/\"/>",
        "<A X><b xmlns=\"\"/></A>",
        "<A X xmlns:b=\"u\"><b:c/></A>",
        "<div xmlns=\"http://www.w3.org/1999/xhtml\"/>",
    ] {
        assert_eq!(refused(text)[0].rule.as_deref(), Some("XML-01"), "{text}");
    }
}

#[test]
fn narrative_that_needs_a_prefix_from_outside_is_refused() {
    for inner in ["<o:p/>", "<p o:a=\"\"/>", "<p o:a=\"\" b=\"\"/>"] {
        let text = format!(
            "<Patient X xmlns:o=\"u\"><text><div xmlns=\"http://www.w3.org/1999/xhtml\">{inner}</div></text></Patient>"
        );
        assert_eq!(refused(&text)[0].rule.as_deref(), Some("XML-01"), "{text}");
    }
}

#[test]
fn nesting_is_read_up_to_the_limit_and_no_further() {
    let nested = |depth: usize| {
        format!("<Patient xmlns=\"http://hl7.org/fhir\">{}{}</Patient>", "<a>".repeat(depth), "</a>".repeat(depth))
    };
    assert!(read(&nested(255)).is_ok());
    for depth in [256, 510, 511, 512, 100_000] {
        let issues = read(&nested(depth)).unwrap_err();
        let is_told = |issue: &Issue| {
            issue.cause == crate::Cause::Depth && issue.diagnostics.contains("Emberpost's limit is 256")
        };
        assert!(issues.iter().any(is_told), "{depth}: {issues:?}");
    }
    let div = |depth: usize| {
        let inner = format!("{}{}", "<p>".repeat(depth), "</p>".repeat(depth));
        format!(
            "<Patient xmlns=\"http://hl7.org/fhir\"><text><div xmlns=\"http://www.w3.org/1999/xhtml\">{inner}</div></text></Patient>"
        )
    };
    assert!(read(&div(200)).is_ok() && read(&div(300)).is_err());
}

#[test]
fn more_elements_or_attributes_than_the_limits_are_refused() {
    let code = |text: &str| read(text).unwrap_err()[0].code;
    let many = format!("<A xmlns=\"http://hl7.org/fhir\">{}</A>", "<a/>".repeat(2_000_001));
    assert_eq!(code(&many), crate::IssueCode::TooLong);
    let many: String = (0..70).map(|n| format!(" a{n}=\"\"")).collect();
    assert_eq!(code(&format!("<A xmlns=\"http://hl7.org/fhir\"{many}/>")), crate::IssueCode::TooLong);
}

#[test]
fn more_namespaces_in_scope_than_the_limit_are_refused() {
    let declared = |count: usize| -> String { (0..count).map(|n| format!(" xmlns:a{n}=\"u\"")).collect() };
    let nested = |count: usize| format!("<A xmlns=\"http://hl7.org/fhir\"{}><b{}/></A>", declared(32), declared(count));
    assert!(read(&nested(31)).is_ok() && read(&nested(32)).is_err());
}

/// The notes of a Patient with this content on a line of its own.
fn noted(content: &str) -> Vec<(String, String, (u32, u32))> {
    let tree = read(&format!("<Patient xmlns=\"http://hl7.org/fhir\">\n{content}</Patient>")).expect(content);
    assert!(is_as_json_reads(&tree), "{content}");
    let owned = |(rule, at, place): (&str, &str, _)| (rule.to_owned(), at.to_owned(), place);
    found(&tree.notes).into_iter().map(owned).collect()
}

#[test]
fn violations_of_fhir_rules_alone_are_noted_at_their_position() {
    let cases = [
        ("<name><given value=\"a\"/><family value=\"b\"/></name>", "XML-01", "Patient.name[0].family", 25),
        ("<name/><active value=\"true\"/>", "XML-02", "Patient.name[0]", 1),
        ("<gender value=\"\"/>", "XML-02", "Patient.gender", 1),
        ("<gender/>", "XML-02", "Patient.gender", 1),
        ("<deceasedBoolean value=\"true\" lang=\"en\"/>", "XML-05", "Patient.deceased.ofType(boolean)", 31),
        ("<name Value=\"x\"/>", "XML-05", "Patient.name[0]", 7),
        ("<gender value=\"male\">x</gender>", "XML-05", "Patient.gender", 22),
        ("<gender value=\"male\"><![CDATA[x]]></gender>", "XML-05", "Patient.gender", 22),
        ("x<active value=\"true\"/>", "XML-05", "Patient", 1),
        ("<name><id value=\"i\"/></name>", "XML-05", "Patient.name[0].id", 7),
        ("<extension url=\"u\"><url value=\"i\"/></extension>", "XML-05", "Patient.extension[0].url", 20),
        ("<name><_family value=\"i\"/></name>", "XML-05", "Patient.name[0]._family", 7),
        ("<resourceType value=\"i\"/>", "XML-05", "Patient.resourceType", 1),
        ("<contained><Basic id=\"b\"/></contained>", "XML-05", "Patient.contained[0]", 19),
        ("<contained><Basic/><Basic/></contained>", "XML-01", "Patient.contained[0]", 1),
        ("<contained/>", "XML-02", "Patient.contained[0]", 1),
        (
            "<name><family value=\"a\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:schemaLocation=\"u v\"/></name>",
            "XML-03",
            "Patient.name[0].family",
            79,
        ),
    ];
    for (content, rule, at, column) in cases {
        let notes = noted(content);
        assert_eq!(notes[0], (rule.to_owned(), at.to_owned(), (2, column)), "{content}");
    }
}

#[test]
fn separated_elements_of_one_name_are_grouped() {
    let notes = noted("<name><text value=\"a\"/></name><active value=\"true\"/><name><text value=\"b\"/></name>");
    assert_eq!(notes, [("XML-01".to_owned(), "Patient.active".to_owned(), (2, 31))]);
    let json = patient("<name><text value=\"a\"/></name><active value=\"true\"/><name><text value=\"b\"/></name>");
    assert_eq!(json, r#"{"resourceType":"Patient","name":[{"text":"a"},{"text":"b"}],"active":true}"#);
}

#[test]
fn very_many_elements_out_of_order_are_grouped() {
    let many = "<name/>".repeat(200_000) + &"<active value=\"true\"/>".repeat(100_000);
    let tree = read(&format!("<Patient xmlns=\"http://hl7.org/fhir\">{many}{many}</Patient>")).unwrap();
    assert_eq!(tree.root().get("name").unwrap().items().count(), 400_000);
}

#[test]
fn comments_instructions_and_both_kinds_of_empty_tags_are_accepted() {
    let content =
        "<!-- a --><?b c?><active  value = 'true'  ></active ><name ><!-- <x> --><family value=\"f\"\n/></name\n>";
    assert!(noted(content).is_empty());
    let text = "<?xml version='1.0' encoding='utf-8' standalone=\"yes\" ?>\n<!-- a --><f:Patient xmlns:f=\"http://hl7.org/fhir\"><f:active value=\"true\"/></f:Patient>\n<?b?>";
    assert!(read(text).unwrap().notes.is_empty());
}

#[test]
fn content_that_json_cannot_represent_cannot_be_converted() {
    let tree = read("<Patient xmlns=\"http://hl7.org/fhir\"><gender value=\"male\">x</gender></Patient>").unwrap();
    assert_eq!(json(&tree).unwrap_err()[0].rule.as_deref(), Some("XML-05"));
    let tree = read("<Patient xmlns=\"http://hl7.org/fhir\"><gender value=\"\"/></Patient>").unwrap();
    assert_eq!(json(&tree).unwrap(), tree.json());
}

#[test]
fn no_note_repeats_a_name_that_no_element_has() {
    assert_eq!(noted("<Jane-Doe/>")[0].1, "Patient.`?`");
}

#[test]
fn notes_are_bounded() {
    let tree = read(&format!("<Patient xmlns=\"http://hl7.org/fhir\">{}</Patient>", "x<name/>".repeat(5_000))).unwrap();
    assert_eq!(tree.notes.len(), crate::json::ISSUE_LIMIT);
}
