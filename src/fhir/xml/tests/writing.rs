//! The form that is written, and what has none.

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
fn characters_that_xml_reads_as_others_are_escaped() {
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
fn what_xml_could_not_give_back_is_refused_at_its_place() {
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
        ("\"name\":[null]".to_owned(), "Patient.name"),
        ("\"name\":[{\"given\":[\"a\",null]}]".to_owned(), "Patient.name[0].given[1]"),
        ("\"name\":[{\"given\":[\"a\"],\"_given\":[null]}]".to_owned(), "Patient.name[0].given"),
        ("\"name\":[{\"given\":[\"a\",\"b\"],\"_given\":[{\"id\":\"i\"}]}]".to_owned(), "Patient.name[0].given"),
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
        (div(&format!("<div {xhtml}/> ")), "Patient.text.div"),
        (div(&format!("<!DOCTYPE div><div {xhtml}/>")), "Patient.text.div"),
    ];
    for (content, at) in cases {
        let tree = tree(&format!("{{\"resourceType\":\"Patient\",{content}}}"));
        let issues = write(tree.root(), Schema::of(FhirVersion::R4)).expect_err(&content);
        assert_eq!(
            (issues[0].rule.as_deref(), issues[0].expression.as_deref()),
            (Some("XML-05"), Some(at)),
            "{content}"
        );
        assert!(issues[0].position.is_some());
    }
}

#[test]
fn what_is_wrong_but_exact_is_written() {
    for content in [r#""gender":["a","b"]"#, r#""gender":"""#, r#""name":[{}]"#, r#""_gender":{}"#, r#""active":"yes""#]
    {
        let tree = tree(&format!("{{\"resourceType\":\"Patient\",{content}}}"));
        let written = write(tree.root(), Schema::of(FhirVersion::R4)).expect(content);
        let back = parse(Bytes::from(written), None, None).unwrap();
        assert!(is_same(tree.root(), back.root()), "{content}");
    }
}
