//! The JSON that XML is read as.

use super::*;

#[test]
fn values_take_the_kind_that_json_writes_their_type_in() {
    let json = patient("<active value='true'/><multipleBirthInteger value=\"2\"/>");
    assert_eq!(json, r#"{"resourceType":"Patient","active":true,"multipleBirthInteger":2}"#);
}

#[test]
fn decimals_are_kept_as_they_are_written() {
    for text in ["6.30", "0.10e1", "-1E+05", "100", "0.000"] {
        let xml = format!(
            "<Observation xmlns=\"http://hl7.org/fhir\"><valueQuantity><value value=\"{text}\"/></valueQuantity></Observation>"
        );
        let tree = read(&xml).unwrap();
        assert_eq!(tree.root().get("valueQuantity").unwrap().get("value").unwrap().number(), Some(text));
    }
}

#[test]
fn a_value_that_is_not_json_of_its_type_is_a_string_for_the_structure_check() {
    let json = patient("<active value=\"1\"/><multipleBirthInteger value=\"+2\"/>");
    assert_eq!(json, r#"{"resourceType":"Patient","active":"1","multipleBirthInteger":"+2"}"#);
}

#[test]
fn an_integer64_is_a_string() {
    let xml = "<Bundle xmlns=\"http://hl7.org/fhir\"><entry><resource><SubscriptionStatus><eventsSinceSubscriptionStart value=\"7\"/></SubscriptionStatus></resource></entry></Bundle>";
    let tree = parse(Bytes::from(xml), Some(FhirVersion::R5), None).unwrap();
    let status = tree.root().get("entry").unwrap().items().next().unwrap().get("resource").unwrap();
    assert_eq!(status.get("eventsSinceSubscriptionStart").unwrap().text().unwrap(), "7");
}

#[test]
fn an_element_that_may_repeat_is_an_array_even_alone() {
    let json = patient("<name><family value=\"A\"/><given value=\"b\"/></name>");
    assert_eq!(json, r#"{"resourceType":"Patient","name":[{"family":"A","given":["b"]}]}"#);
}

#[test]
fn an_element_that_must_not_repeat_but_does_is_an_array_for_the_structure_check() {
    let json = patient("<gender value=\"male\"/><gender value=\"female\"/>");
    assert_eq!(json, r#"{"resourceType":"Patient","gender":["male","female"]}"#);
}

#[test]
fn ids_and_extensions_of_values_are_siblings_filled_with_null() {
    let json = patient(
        "<name><given value=\"a\"/><given id=\"g\" value=\"b\"/><given><extension url=\"u\"><valueCode value=\"c\"/></extension></given></name>\
         <birthDate id=\"d\"/>",
    );
    let expected = r#"{"resourceType":"Patient","name":[{"given":["a","b",null],"_given":[null,{"id":"g"},{"extension":[{"url":"u","valueCode":"c"}]}]}],"_birthDate":{"id":"d"}}"#;
    assert_eq!(json, expected);
}

#[test]
fn resources_are_in_the_element_of_their_type() {
    let json = patient("<contained><Basic><id value=\"b\"/></Basic></contained><contained><Basic/></contained>");
    let expected =
        r#"{"resourceType":"Patient","contained":[{"resourceType":"Basic","id":"b"},{"resourceType":"Basic"}]}"#;
    assert_eq!(json, expected);
    let xml = "<Parameters xmlns=\"http://hl7.org/fhir\"><parameter><name value=\"p\"/><resource><Basic/></resource></parameter></Parameters>";
    let tree = read(xml).unwrap();
    assert_eq!(
        tree.root().raw(),
        r#"{"resourceType":"Parameters","parameter":[{"name":"p","resource":{"resourceType":"Basic"}}]}"#
    );
}

#[test]
fn references_mean_their_characters_and_white_space_is_kept() {
    let tree = read("<Patient xmlns=\"http://hl7.org/fhir\"><name><text value=\" &quot;&amp;&#10;&#x1F600;\\\t\r\n &apos; &lt; > \"/></name></Patient>").unwrap();
    let name = tree.root().get("name").unwrap().items().next().unwrap();
    assert_eq!(name.get("text").unwrap().text().unwrap(), " \"&\n😀\\   ' < > ");
    assert!(is_as_json_reads(&tree));
}

#[test]
fn narrative_is_its_bytes() {
    let div =
        "<div xmlns=\"http://www.w3.org/1999/xhtml\">\r\n a <b class='x'>&#160;é &amp; \\</b><!-- c --><br/>\t</div>";
    let xml =
        format!("<Patient xmlns=\"http://hl7.org/fhir\"><text><status value=\"generated\"/>{div}</text></Patient>");
    let tree = read(&xml).unwrap();
    assert_eq!(tree.root().get("text").unwrap().get("div").unwrap().text().unwrap(), div);
    assert!(tree.notes.is_empty() && is_as_json_reads(&tree));
}

#[test]
fn narrative_that_depends_on_the_document_is_made_independent() {
    let xml = "<Patient xmlns=\"http://hl7.org/fhir\" xmlns:h=\"http://www.w3.org/1999/xhtml\"><text>\
        <h:div id='1'><h:p xml:lang=\"da\">a<!-- <h:p> --></h:p><![CDATA[<h:p>]]></h:div ></text></Patient>";
    let tree = read(xml).unwrap();
    let expected = "<div xmlns=\"http://www.w3.org/1999/xhtml\" id='1'><p xml:lang=\"da\">a<!-- <h:p> --></p><![CDATA[<h:p>]]></div >";
    assert_eq!(tree.root().get("text").unwrap().get("div").unwrap().text().unwrap(), expected);
    let xml = "<f:Patient xmlns:f=\"http://hl7.org/fhir\" xmlns=\"http://www.w3.org/1999/xhtml\"><f:text><div><p/></div></f:text></f:Patient>";
    let div = read(xml).unwrap().root().get("text").unwrap().get("div").unwrap().raw().to_owned();
    assert_eq!(div, r#""<div xmlns=\"http://www.w3.org/1999/xhtml\"><p/></div>""#);
    let xml = "<Patient xmlns=\"http://hl7.org/fhir\"><text><h:div xmlns:h=\"http://www.w3.org/1999/xhtml\" lang=\"da\"/></text></Patient>";
    let div = read(xml).unwrap().root().get("text").unwrap().get("div").unwrap().raw().to_owned();
    assert_eq!(div, r#""<div xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"da\"/>""#);
}

#[test]
fn unknown_elements_are_preserved_for_the_structure_check() {
    let json = patient("<shoe value=\"44\"/><name><a><b value=\"1\"/><b id=\"i\"/></a></name><shoe value=\"45\"/>");
    let expected = r#"{"resourceType":"Patient","shoe":["44","45"],"name":[{"a":{"b":["1",{"id":"i"}]}}]}"#;
    assert_eq!(json, expected);
}

#[test]
fn a_value_of_another_shape_than_its_type_keeps_its_shape() {
    let json = patient("<name value=\"A\"/><gender><coding><code value=\"m\"/></coding></gender>");
    let expected = r#"{"resourceType":"Patient","name":["A"],"gender":{"coding":{"code":"m"}}}"#;
    assert_eq!(json, expected);
}

#[test]
fn positions_are_those_of_the_xml() {
    let tree = read("\u{feff}<?xml version=\"1.0\"?>\n<Patient xmlns=\"http://hl7.org/fhir\">\n  <name>\n   <given value=\"é\"/><given\n value=\"b\"/></name></Patient>").unwrap();
    let name = tree.root().get("name").unwrap();
    let given = name.items().next().unwrap().get("given").unwrap();
    assert_eq!((tree.root().position(), name.position(), given.position()), ((2, 1), (3, 3), (4, 4)));
    let places: Vec<_> = given.items().map(Node::position).collect();
    assert_eq!(places, [(4, 4), (4, 22)]);
    assert!(tree.source_bytes().starts_with("\u{feff}<?xml".as_bytes()) && tree.source.is_some());
}

fn header(content: &str) -> String {
    format!(
        "<Bundle xmlns=\"http://hl7.org/fhir\"><entry><resource><MessageHeader>{content}</MessageHeader></resource></entry></Bundle>"
    )
}

#[test]
fn the_spelling_of_the_header_decides_the_version() {
    // R5 has `endpointUrl` where R4 has `endpoint`, so each is unknown in the other, and not a url.
    let cases = [
        ("<source><endpoint value=\"u\"/></source>", false),
        ("<source><endpointUrl value=\"u\"/></source>", true),
        ("<destination><endpointReference/></destination>", true),
        ("<eventUri value=\"u\"/>", false),
        ("<eventCanonical value=\"u\"/>", true),
        ("<response><identifier value=\"u\"/></response>", false),
        ("<response><identifier><value value=\"u\"/></identifier></response>", true),
    ];
    for (content, is_r5) in cases {
        let mut seen = None;
        parse_with(Bytes::from(header(content)), |hints| {
            seen = Some(hints);
            Schema::of(hints.version(None, None))
        })
        .unwrap();
        assert_eq!(seen, Some(Hints { is_r4: !is_r5, is_r5 }), "{content}");
    }
    let r5 = Hints { is_r4: false, is_r5: true };
    assert_eq!(r5.version(None, Some(FhirVersion::R4)), FhirVersion::R5);
    assert_eq!(r5.version(Some(FhirVersion::R4), None), FhirVersion::R4);
    assert_eq!(Hints::default().version(None, Some(FhirVersion::R4B)), FhirVersion::R4B);
}

#[test]
fn the_response_of_r5_is_an_identifier_and_that_of_r4_an_id() {
    let response = |content: &str| {
        let tree = read(&header(content)).unwrap();
        let header = tree.root().get("entry").unwrap().items().next().unwrap().get("resource").unwrap();
        header.get("response").unwrap().get("identifier").unwrap().raw().to_owned()
    };
    assert_eq!(response("<response><identifier value=\"u\"/></response>"), "\"u\"");
    assert_eq!(response("<response><identifier><value value=\"u\"/></identifier></response>"), "{\"value\":\"u\"}");
}

#[test]
fn elements_of_stu3_are_preserved() {
    let tree = read(&header("<event><code value=\"a\"/></event><receiver/><timestamp value=\"2020\"/>")).unwrap();
    let header = tree.root().get("entry").unwrap().items().next().unwrap().get("resource").unwrap();
    assert!(header.get("event").is_some_and(Node::is_object) && header.get("timestamp").is_some());
}

#[test]
fn an_array_of_extensions_alone_has_an_array_of_values_that_holds_null() {
    let json = patient("<name><given><extension url=\"u\"><valueCode value=\"c\"/></extension></given></name>");
    let expected = r#"{"resourceType":"Patient","name":[{"given":[null],"_given":[{"extension":[{"url":"u","valueCode":"c"}]}]}]}"#;
    assert_eq!(json, expected);
    let json = patient("<birthDate><extension url=\"u\"><valueCode value=\"c\"/></extension></birthDate>");
    assert_eq!(json, r#"{"resourceType":"Patient","_birthDate":{"extension":[{"url":"u","valueCode":"c"}]}}"#);
}

#[test]
fn references_may_spell_namespaces_and_the_white_space_between_elements() {
    for namespace in ["http://hl7.org&#47;fhir", "http:&#x2F;&#x2f;hl7.org/fhir"] {
        let xml = format!(
            "<Patient xmlns=\"{namespace}\">&#10;<active value=\"true\"/>&#32;&#xD;&#9; <gender value=\"male\"/></Patient>"
        );
        let tree = read(&xml).unwrap();
        assert_eq!(tree.notes, []);
        assert_eq!(
            std::str::from_utf8(tree.json()).unwrap(),
            r#"{"resourceType":"Patient","active":true,"gender":"male"}"#
        );
    }
    let text = read("<Patient xmlns=\"http://hl7.org/fhir\">&#160;<active value=\"true\"/></Patient>").unwrap();
    assert_eq!(text.notes[0].rule.as_deref(), Some("XML-05"), "a space that does not break is no white space of XML");
    assert!(read("<Patient xmlns=\"http://hl7.org&#47;other\"/>").is_err());
}
