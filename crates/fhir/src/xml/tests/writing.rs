//! What is written as XML, and what cannot be.

use super::*;

fn tree(text: &str) -> Tree {
    json_reader::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn written(text: &str) -> String {
    let tree = tree(text);
    String::from_utf8(write(tree.root(), Schema::of(FhirVersion::R4)).unwrap()).unwrap()
}

#[test]
fn elements_come_in_the_order_of_the_definition_with_ids_and_urls_as_attributes() {
    let text = r#"{"name":[{"given":["a",null],"_given":[null,{"id":"g"}],"id":"n"}],"extension":[{"valueDecimal":6.30,"url":"u"}],"active":true,"id":"p","resourceType":"Patient","contained":[{"resourceType":"Basic","id":"b"}]}"#;
    let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Patient xmlns=\"http://hl7.org/fhir\"><id value=\"p\"/><contained><Basic><id value=\"b\"/></Basic></contained>\
        <extension url=\"u\"><valueDecimal value=\"6.30\"/></extension><active value=\"true\"/>\
        <name id=\"n\"><given value=\"a\"/><given id=\"g\"/></name></Patient>";
    assert_eq!(written(text), expected);
}

#[test]
fn characters_that_xml_normalizes_are_escaped() {
    let text = r#"{"resourceType":"Patient","gender":"\t\n\r <&>\"'\u00e9"}"#;
    assert!(written(text).contains("<gender value=\"&#9;&#10;&#13; &lt;&amp;&gt;&quot;'é\"/>"));
}

#[test]
fn narrative_is_written_as_it_is() {
    let text = r#"{"resourceType":"Patient","text":{"div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"> a<br/>&#160;\n</div>","status":"generated"}}"#;
    let expected =
        "<text><status value=\"generated\"/><div xmlns=\"http://www.w3.org/1999/xhtml\"> a<br/>&#160;\n</div></text>";
    assert!(written(text).contains(expected));
}

#[test]
fn content_that_would_not_round_trip_is_refused_at_its_position() {
    let div = |inner: &str| format!("\"text\":{{\"div\":\"{inner}\"}}");
    let xhtml = "xmlns=\\\"http://www.w3.org/1999/xhtml\\\"";
    let cases = [
        ("\"shoe\":44".to_owned(), "Patient.shoe"),
        ("\"name\":[{\"shoe\":44}]".to_owned(), "Patient.name[0].shoe"),
        ("\"name\":[]".to_owned(), "Patient.name"),
        ("\"name\":{\"text\":\"a\"}".to_owned(), "Patient.name"),
        ("\"gender\":[\"male\"]".to_owned(), "Patient.gender"),
        ("\"gender\":1".to_owned(), "Patient.gender"),
        ("\"active\":\"true\"".to_owned(), "Patient.active"),
        ("\"active\":null".to_owned(), "Patient.active"),
        ("\"multipleBirthInteger\":\"2\"".to_owned(), "Patient.multipleBirth.ofType(integer)"),
        ("\"name\":[null]".to_owned(), "Patient.name[0]"),
        ("\"name\":[{\"given\":[\"a\",null]}]".to_owned(), "Patient.name[0].given[1]"),
        ("\"name\":[{\"id\":1}]".to_owned(), "Patient.name[0].id"),
        ("\"gender\":\"male\",\"_gender\":{}".to_owned(), "Patient.gender"),
        ("\"_name\":[]".to_owned(), "Patient._name"),
        ("\"gender\":\"\\u0001\"".to_owned(), "Patient.gender"),
        ("\"gender\":\"\\uffff\"".to_owned(), "Patient.gender"),
        ("\"contained\":[{\"id\":\"x\"}]".to_owned(), "Patient.contained[0]"),
        (div("plain"), "Patient.text.div"),
        (div("<div>a</div>"), "Patient.text.div"),
        (div(&format!("<p {xhtml}/>")), "Patient.text.div"),
        (div(&format!("<div {xhtml}>&nbsp;</div>")), "Patient.text.div"),
        (div(&format!("<div {xhtml}><br></div>")), "Patient.text.div"),
        (div(&format!("<div {xhtml}><a:b/></div>")), "Patient.text.div"),
        (div(&format!("<div {xhtml}/><div/>")), "Patient.text.div"),
        (div(&format!("<!DOCTYPE div><div {xhtml}/>")), "Patient.text.div"),
    ];
    for (content, at) in cases {
        let tree = tree(&format!("{{\"resourceType\":\"Patient\",{content}}}"));
        let issues = write(tree.root(), Schema::of(FhirVersion::R4)).expect_err(&content);
        assert_eq!((issues[0].rule.as_deref(), issues[0].full_expression()), (Some("XML-05"), Some(at)), "{content}");
        assert!(issues[0].position.is_some());
    }
}

#[test]
fn invalid_content_with_an_exact_equivalent_is_written() {
    for content in [r#""gender":["a","b"]"#, r#""gender":"""#, r#""name":[{}]"#, r#""_gender":{}"#, r#""active":"yes""#]
    {
        let tree = tree(&format!("{{\"resourceType\":\"Patient\",{content}}}"));
        let written = write(tree.root(), Schema::of(FhirVersion::R4)).expect(content);
        let back = parse(Bytes::from(written), None, None).unwrap();
        assert!(is_same(tree.root(), back.root()), "{content}");
    }
}

/// Whatever the lengths of the two arrays, each value has its own extensions, and reading gives both the same length.
#[test]
fn arrays_of_values_and_siblings_are_written_whatever_their_lengths_and_nulls() {
    let extension = r#"{"extension":[{"url":"u","valueCode":"c"}]}"#;
    let of = |members: &str| format!(r#"{{"resourceType":"Patient","name":[{{{members}}}]}}"#);
    let cases = [
        (format!(r#""given":[null],"_given":[{extension}]"#), format!(r#""given":[null],"_given":[{extension}]"#)),
        (format!(r#""_given":[{extension}]"#), format!(r#""given":[null],"_given":[{extension}]"#)),
        (
            format!(r#""given":["a","b"],"_given":[{extension}]"#),
            format!(r#""given":["a","b"],"_given":[{extension},null]"#),
        ),
        (
            format!(r#""given":["a"],"_given":[null,{extension}]"#),
            format!(r#""given":["a",null],"_given":[null,{extension}]"#),
        ),
        (
            format!(r#""given":[null,"b"],"_given":[{extension}]"#),
            format!(r#""given":[null,"b"],"_given":[{extension},null]"#),
        ),
        (r#""given":["a","b"],"_given":[null,null]"#.to_owned(), r#""given":["a","b"]"#.to_owned()),
        (r#""given":["a"],"_given":[null]"#.to_owned(), r#""given":["a"]"#.to_owned()),
    ];
    for (members, wanted) in cases {
        let xml = written(&of(&members));
        let back = read(&xml).unwrap();
        assert_eq!(std::str::from_utf8(back.json()).unwrap(), of(&wanted), "{xml}");
        assert_eq!(back.notes, [], "{xml}");
    }
}

#[test]
fn a_narrative_may_have_a_prefix_and_white_space_and_comments_around_it() {
    let of = |div: &str| {
        serde_json::json!({ "resourceType": "Patient", "text": { "status": "generated", "div": div } }).to_string()
    };
    let plain = "<div xmlns=\"http://www.w3.org/1999/xhtml\">a</div>";
    for div in [format!(" \n{plain}\n"), format!("<!-- a -->{plain}<?b c?>")] {
        assert!(written(&of(&div)).contains(&format!("<status value=\"generated\"/>{plain}</text>")), "{div}");
    }
    let prefixed = "<h:div xmlns:h=\"http://www.w3.org/1999/xhtml\">a</h:div>";
    let back = read(&written(&of(prefixed))).unwrap();
    assert_eq!(back.root().get("text").and_then(|text| text.get("div")?.text()).as_deref(), Some(plain));
    for div in [format!("{plain}a"), format!("a{plain}"), format!("{plain}{plain}"), "<!-- a".to_owned()] {
        assert!(write(tree(&of(&div)).root(), Schema::of(FhirVersion::R4)).is_err(), "{div}");
    }
}
