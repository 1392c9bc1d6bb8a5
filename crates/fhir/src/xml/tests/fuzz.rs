//! Any input is read or refused, and what is read round-trips.

use super::*;
use proptest::prelude::*;

const SAMPLE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Bundle xmlns=\"http://hl7.org/fhir\" xmlns:x=\"http://www.w3.org/1999/xhtml\">\
  <entry><fullUrl value=\"urn:a\"/><resource><MessageHeader><id value=\"1\"/><text><status value=\"empty\"/>\
  <div xmlns=\"http://www.w3.org/1999/xhtml\">a <b>c</b>&amp;<!-- d --></div></text><contained><Basic/></contained>\
  <eventUri value=\"u\"/><source><extension url=\"e\"><valueDecimal value=\"1.0\"/></extension><endpoint id=\"i\" value=\"&#10;é\"/></source>\
  <focus><reference value=\"a\"/></focus><focus/></MessageHeader></resource></entry></Bundle>";

/// What is read must be JSON, and must round-trip if it can be written.
fn check(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let Ok(tree) = parse(Bytes::from(bytes), None, None) else { return Ok(()) };
    prop_assert!(is_as_json_reads(&tree));
    let version = Some(FhirVersion::R4);
    let Ok(tree) = parse(tree.source_bytes().clone(), version, None) else { return Ok(()) };
    let Ok(written) = write(tree.root(), Schema::of(FhirVersion::R4)) else { return Ok(()) };
    let back = parse(Bytes::from(written), version, None);
    prop_assert!(back.is_ok_and(|back| is_same(tree.root(), back.root())));
    Ok(())
}

/// Pieces of XML in random order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("<name>"),
        Just("</name>"),
        Just("<given value=\"a\"/>"),
        Just("<family id='f' value='&lt;'/>"),
        Just("<text>"),
        Just("</text>"),
        Just("<div xmlns=\"http://www.w3.org/1999/xhtml\">"),
        Just("</div>"),
        Just("<x:div>"),
        Just("</x:div>"),
        Just("<b/>"),
        Just(" "),
        Just("t"),
        Just("<!-- -->"),
        Just("<![CDATA[ ]]>"),
        Just("<?p?>"),
        Just("&#9;"),
        Just("<contained>"),
        Just("</contained>"),
        Just("<Basic>"),
        Just("</Basic>"),
        Just("<extension url=\"u\">"),
        Just("</extension>"),
        Just("<valueInteger value=\"1\"/>"),
        Just("<valueInteger/>"),
        Just("<active value=\"true\"/>"),
        Just("<_a/>"),
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

/// A random value of this type as JSON, by the schema.
fn any_value(schema: &'static Schema, id: crate::schema::TypeId, depth: usize) -> BoxedStrategy<serde_json::Value> {
    use crate::schema::{Primitive, TypeKind};
    use serde_json::{Map, Value, json};
    let def = schema.def(id);
    match def.kind {
        TypeKind::Primitive(Primitive::Boolean) => any::<bool>().prop_map(Value::from).boxed(),
        TypeKind::Primitive(
            Primitive::Integer | Primitive::UnsignedInt | Primitive::PositiveInt | Primitive::Decimal,
        ) => any::<i32>().prop_map(Value::from).boxed(),
        TypeKind::Primitive(Primitive::Xhtml) => "[a-z éλ]{0,8}"
            .prop_map(|text| Value::from(format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{text}<br/></div>")))
            .boxed(),
        TypeKind::Primitive(_) => "[ -~\n\t\réλ😀]{1,12}".prop_map(Value::from).boxed(),
        TypeKind::Resource if def.is_abstract => Just(json!({"resourceType": "Basic", "id": "b"})).boxed(),
        _ if depth == 0 => Just(json!({"id": "x"})).boxed(),
        kind => {
            let members: Vec<_> = def
                .elements
                .iter()
                .flat_map(|element| element.types.iter().map(move |of_type| (element, of_type)))
                .filter(|(element, _)| &*element.name != "div" || &*def.name == "Narrative")
                .map(|(element, of_type)| (element.member_name(schema, of_type), element.is_array, of_type.type_id))
                .collect();
            let name = def.name.to_string();
            proptest::collection::vec(0..members.len(), 1..5)
                .prop_flat_map(move |chosen| {
                    let values: Vec<_> = chosen
                        .into_iter()
                        .map(|at| {
                            let (name, is_array, id) = members[at].clone();
                            let value = any_value(schema, id, depth - 1);
                            let value = if is_array {
                                proptest::collection::vec(value, 1..3).prop_map(Value::Array).boxed()
                            } else {
                                value
                            };
                            value.prop_map(move |value| (name.clone(), value))
                        })
                        .collect();
                    values
                })
                .prop_map(move |members| {
                    let mut object: Map<String, Value> = members.into_iter().collect();
                    if kind == TypeKind::Resource {
                        object.insert("resourceType".to_owned(), Value::from(name.clone()));
                    }
                    Value::Object(object)
                })
                .boxed()
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(bytes)?;
    }

    #[test]
    fn any_text_of_xml_characters_is_read_or_refused(text in r#"[<>/!?&;"'= a:x\[\]-]{0,40}"#) {
        check(format!("<a xmlns=\"http://hl7.org/fhir\">{text}</a>").into_bytes())?;
        check(text.into_bytes())?;
    }

    #[test]
    fn pieces_in_any_order_that_are_read_round_trip(content in pieces()) {
        let text = format!("<Patient xmlns=\"http://hl7.org/fhir\" xmlns:x=\"http://www.w3.org/1999/xhtml\">{content}</Patient>");
        check(text.into_bytes())?;
    }

    #[test]
    fn a_changed_message_is_read_or_refused(at in 0..SAMPLE.len(), length in 0usize..30, with in proptest::collection::vec(any::<u8>(), 0..4)) {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        bytes.splice(at..(at + length).min(SAMPLE.len()), with);
        check(bytes)?;
    }

    #[test]
    fn what_the_schema_allows_round_trips_through_xml(
        value in prop_oneof![Just("Patient"), Just("Observation"), Just("MessageHeader"), Just("Parameters"), Just("Bundle")]
            .prop_flat_map(|name| any_value(Schema::of(FhirVersion::R4), Schema::of(FhirVersion::R4).resource(name).unwrap(), 4))
    ) {
        let tree = json_reader::parse(Bytes::from(value.to_string())).unwrap();
        let written = write(tree.root(), Schema::of(FhirVersion::R4)).map_err(|issues| TestCaseError::fail(format!("{issues:?}")))?;
        let back = parse(Bytes::from(written), Some(FhirVersion::R4), None).map_err(|issues| TestCaseError::fail(format!("{issues:?}")))?;
        prop_assert!(is_same(tree.root(), back.root()));
        prop_assert!(back.notes.is_empty());
        prop_assert!(is_as_json_reads(&back));
    }
}
