use super::fixture::{Alone, tree};
use super::{COLLECTION_LIMIT_ITEMS, Collection, Expression, Failure, Host, Item, Scope, Value};
use emberpost_fhir::FhirVersion;
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::Schema;

const PATIENT: &str = r##"{"resourceType":"Patient","id":"p","active":true,"gender":"female","birthDate":"1980-05-01",
"_birthDate":{"extension":[{"url":"http://example.org/time","valueDateTime":"1980-05-01T10:30:00+02:00"}]},
"contained":[{"resourceType":"Organization","id":"o","name":"Clinic"}],"managingOrganization":{"reference":"#o"},
"name":[{"use":"official","family":"A\u0042C","given":["Ann",null,"Eve"],"_given":[null,{"id":"x"},null],
"period":{"start":"2020","end":"2019-12-31"}}],"multipleBirthInteger":3,
"extension":[{"url":"http://example.org/weight","valueQuantity":{"value":60.50,"system":"http://unitsofmeasure.org","code":"kg"}}]}"##;

/// The result of an expression on the sample, as texts; errs as the evaluation does.
fn all(version: FhirVersion, text: &str) -> Result<Vec<String>, Failure> {
    let tree = tree(PATIENT);
    let schema = Schema::of(version);
    let root = Element::root(&tree, schema).expect("the sample is a Patient");
    let host = Alone { schema, root };
    let scope = Scope { schema, resource: root, root, host: &host };
    let found = Expression::parse(text).expect("an expression").evaluate(&scope, root)?;
    let shown = |item: Item| match item.text(schema) {
        Some(text) => text.to_string(),
        None => item.value(schema).map_or_else(|| "element".to_owned(), |value| value.to_string()),
    };
    Ok(found.into_iter().map(shown).collect())
}

fn holds(text: &str) -> Result<Option<bool>, Failure> {
    let tree = tree(PATIENT);
    let schema = Schema::of(FhirVersion::R4);
    let root = Element::root(&tree, schema).expect("the sample is a Patient");
    let host = Alone { schema, root };
    let scope = Scope { schema, resource: root, root, host: &host };
    Expression::parse(text).expect("an expression").holds(&scope, root)
}

#[track_caller]
fn gives(text: &str, wanted: &[&str]) {
    let wanted = wanted.iter().map(|text| (*text).to_owned()).collect();
    assert_eq!(all(FhirVersion::R4, text), Ok(wanted), "{text}");
}

#[test]
fn a_choice_is_found_by_its_plain_name_and_its_extensions_by_their_urls() {
    gives("multipleBirth", &["3"]);
    gives("multipleBirthInteger", &[]);
    gives("extension('http://example.org/weight').value.code", &["kg"]);
    gives("birthDate.extension('http://example.org/time').value", &["1980-05-01T10:30:00+02:00"]);
    gives("extension.value.as(Quantity).value", &["60.50"]);
}

#[test]
fn a_primitive_with_nothing_but_an_id_is_an_element_without_a_value() {
    gives("name.given.count()", &["3"]);
    gives("name.given.select(hasValue())", &["true", "false", "true"]);
    gives("name.given[1].id", &["x"]);
    gives("name.given[1] = 'Ann'", &[]);
    gives("name.given[1].length()", &[]);
}

#[test]
fn escapes_of_json_do_not_hide_a_value() {
    gives("name.family = 'ABC'", &["true"]);
    gives("name.where(family in ('X' | 'ABC')).exists()", &["true"]);
}

#[test]
fn an_invariant_without_a_result_is_neither_satisfied_nor_violated() {
    assert_eq!(holds("deceased = true"), Ok(None));
    assert_eq!(holds("name.family"), Ok(Some(true)));
    assert_eq!(holds("active"), Ok(Some(true)));
    assert_eq!(holds("active.not()"), Ok(Some(false)));
    assert_eq!(holds("name.given"), Err(Failure::Several("a boolean operator")));
}

#[test]
fn insufficient_precision_leaves_the_order_unknown() {
    gives("birthDate < @1980-05", &[]);
    gives("birthDate < @1980-06", &["true"]);
    gives("name.period.all(start <= end)", &["false"]);
    assert_eq!(holds("name.period.start <= name.period.end"), Ok(Some(false)));
    gives("@2020-01-01T10:00:00Z < @2020-01-01T10:00:00", &[]);
    gives("@2020-01-01T10:00:00Z < @2020-01-02T10:00:00", &["true"]);
    gives("@2020-03-01T00:30:00+02:00 = @2020-02-29T22:30:00Z", &["true"]);
}

#[test]
fn months_end_where_their_last_day_is() {
    gives("@2024-01-31 + 1 month", &["2024-02-29"]);
    gives("@2024-02-29 - 4 years", &["2020-02-29"]);
    gives("@2024-02-29 + 1 year", &["2025-02-28"]);
    gives("@9999-12-31 + 1 day", &[]);
    gives("@2024-12-31T23:59:59.5Z + 500 milliseconds", &["2025-01-01T00:00:00.0Z"]);
}

#[test]
fn quantities_compare_across_units_of_one_kind() {
    gives("extension.value > 60 'kg'", &["true"]);
    gives("extension.value = 60500 'g'", &["true"]);
    gives("extension.value = 60500 'm'", &[]);
    gives("120 'mm[Hg]' = 12 'cm[Hg]'", &["true"]);
    gives("1 'unheard' = 1 'unheard'", &["true"]);
    gives("1 year = 1 'a'", &[]);
}

#[test]
fn decimals_are_exact() {
    gives("0.1 + 0.2 = 0.3", &["true"]);
    gives("1.10.toString()", &["1.10"]);
    gives("79228162514264337593543950.5 * 10000.0", &[]);
    gives("2147483647 + 1", &[]);
}

#[test]
fn a_primitive_is_selected_by_its_own_type_and_is_of_its_base_types() {
    gives("gender.ofType(string)", &[]);
    gives("gender.ofType(code)", &["female"]);
    gives("gender is string", &["true"]);
    gives("Patient is DomainResource", &["true"]);
    gives("contained.ofType(Resource).id", &["o"]);
    // R4's que-7 does so with a FHIR boolean.
    gives("active is Boolean", &["true"]);
    assert_eq!(all(FhirVersion::R4, "gender.ofType(cod)"), Err(Failure::UnknownType));
}

#[test]
fn as_takes_one_item_since_r5_and_filters_before() {
    gives("descendants().as(code).count()", &["3"]);
    assert_eq!(all(FhirVersion::R5, "descendants().as(code)"), Err(Failure::Several("as")));
}

#[test]
fn references_are_resolved_by_the_host() {
    gives("managingOrganization.resolve().name", &["Clinic"]);
    gives("managingOrganization.reference.resolve().name", &["Clinic"]);
    gives("managingOrganization.where(resolve() is Organization).exists()", &["true"]);
    assert_eq!(
        all(FhirVersion::R4, "conformsTo('http://example.org/unknown')"),
        Err(Failure::Unanswered("conformsTo"))
    );
    gives("gender.memberOf('http://example.org/unknown')", &[]);
}

#[test]
fn the_right_side_of_in_is_evaluated_once_with_the_same_result() {
    let dom_3 = "contained.where((('#'+id in (%resource.descendants().reference | %resource.descendants().as(canonical) \
        | %resource.descendants().as(uri) | %resource.descendants().as(url))) or descendants().where(reference = '#').exists()\
        ).not()).trace('unmatched', id).empty()";
    assert_eq!(holds(dom_3), Ok(Some(true)));
    gives("contained.where(id in %resource.name.given)", &[]);
    gives("name.given.where($this in %resource.name.given).count()", &["2"]);
}

#[test]
fn the_position_of_a_result_can_be_found() {
    let tree = tree(PATIENT);
    let schema = Schema::of(FhirVersion::R4);
    let root = Element::root(&tree, schema).expect("the sample is a Patient");
    let host = Alone { schema, root };
    let scope = Scope { schema, resource: root, root, host: &host };
    let found = Expression::parse("gender").expect("an expression").evaluate(&scope, root);
    let Ok(Collection::One(Item::Element(element))) = found else { panic!("one element") };
    assert_eq!(element.node().map(|node| node.position()), Some((1, 59)));
}

#[test]
fn a_text_that_is_not_an_expression_is_refused_with_its_position() {
    for (text, offset) in
        [("a.", 2), ("a b", 2), ("unknown()", 0), ("'open", 0), ("a.matches('(?=x)')", 18), ("exists(1, 2)", 12)]
    {
        let error = Expression::parse(text).expect_err(text);
        assert_eq!(error.offset, offset, "{text}: {}", error.message);
    }
}

#[test]
fn a_failure_repeats_nothing_of_the_document() {
    let failure = all(FhirVersion::R4, "name.family < 1").expect_err("a text is not below a number");
    assert_eq!(failure, Failure::Type("a comparison"));
    assert!(!failure.to_string().contains("ABC"));
}

#[test]
fn a_type_is_returned_with_its_namespace() {
    gives("gender.type().namespace + '.' + gender.type().name", &["FHIR.code"]);
    gives("1.type().name", &["Integer"]);
    assert!(matches!(Value::Integer(1).type_name(), "Integer"));
}

#[test]
fn a_name_written_with_escapes_is_found() {
    let tree = tree(
        r#"{"resourceType":"Patient","gend\u0065r":"male","_birth\u0044ate":{"id":"x"},"deceas\u0065dBoolean":true}"#,
    );
    let schema = Schema::of(FhirVersion::R5);
    let root = Element::root(&tree, schema).expect("the sample is a Patient");
    let host = Alone { schema, root };
    let scope = Scope { schema, resource: root, root, host: &host };
    for text in ["gender = 'male'", "birthDate.id = 'x'", "deceased", "children().count() = 3"] {
        let held = Expression::parse(text).expect("an expression").holds(&scope, root);
        assert_eq!(held, Ok(Some(true)), "{text}");
    }
}

#[test]
fn the_host_receives_the_steps_of_each_evaluation_even_if_it_failed() {
    struct Counting(std::cell::Cell<u64>);
    impl Host<'_> for Counting {
        fn now_us(&self) -> i64 {
            0
        }
        fn spent(&self, steps: u32) {
            self.0.set(self.0.get() + u64::from(steps));
        }
    }
    let tree = tree(r#"{"resourceType":"Patient"}"#);
    let schema = Schema::of(FhirVersion::R4);
    let root = Element::root(&tree, schema).expect("a Patient");
    for (text, least) in [("1 + 1", 3), ("repeatAll($this)", COLLECTION_LIMIT_ITEMS as u64)] {
        let host = Counting(Default::default());
        let scope = Scope { schema, resource: root, root, host: &host };
        let expression = Expression::parse(text).expect("an expression");
        let (_, _) = (expression.evaluate(&scope, root), expression.holds(&scope, root));
        assert!(host.0.get() >= 2 * least, "{text}: {}", host.0.get());
    }
}
