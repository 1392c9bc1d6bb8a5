use super::*;
use crate::FhirVersion::{R4, R4B, R5};

const VERSIONS: [FhirVersion; 3] = [R4, R4B, R5];

fn element<'s>(schema: &'s Schema, of: &str, name: &str) -> &'s ElementDef {
    let def = schema.def(schema.named(of).unwrap());
    def.elements.iter().find(|element| *element.name == *name).unwrap()
}

fn type_names<'s>(schema: &'s Schema, element: &ElementDef) -> Vec<&'s str> {
    element.types.iter().map(|of_type| &*schema.def(of_type.type_id).name).collect()
}

fn keys<'s>(schema: &'s Schema, ids: &[ConstraintId]) -> Vec<&'s str> {
    ids.iter().map(|id| &*schema.constraint(*id).key).collect()
}

fn codes<'s>(schema: &'s Schema, element: &ElementDef) -> &'s Codes {
    schema.value_set(element.binding.unwrap().value_set).codes.as_ref().unwrap()
}

#[test]
fn every_version_has_its_types() {
    let count =
        |version, kind: fn(&TypeKind) -> bool| Schema::of(version).types.iter().filter(|def| kind(&def.kind)).count();
    let figures = VERSIONS.map(|version| {
        (
            count(version, |kind| matches!(kind, TypeKind::Primitive(_))),
            count(version, |kind| *kind == TypeKind::Complex),
            count(version, |kind| *kind == TypeKind::Backbone),
            count(version, |kind| *kind == TypeKind::Resource),
        )
    });
    assert_eq!(figures, [(20, 43, 473, 148), (20, 44, 496, 143), (21, 50, 630, 162)]);
}

#[test]
fn every_version_has_its_constraints_and_extensions() {
    let figures = VERSIONS.map(|version| {
        let schema = Schema::of(version);
        (schema.version, schema.constraints.len(), schema.extensions.len())
    });
    assert_eq!(figures, [(R4, 246, 684), (R4B, 250, 685), (R5, 321, 695)]);
}

#[test]
fn every_position_in_the_tables_exists() {
    for schema in VERSIONS.map(Schema::of) {
        for def in &schema.types {
            assert_eq!(schema.named(&def.name).map(|id| &*schema.def(id).name), Some(&*def.name));
            def.constraints.iter().for_each(|id| assert!(!schema.constraint(*id).expression.is_empty()));
            for element in &def.elements {
                assert!(!element.types.is_empty(), "{}.{}", def.name, element.name);
                assert!(element.types.len() == 1 || element.is_choice, "{}.{}", def.name, element.name);
                assert!(element.min <= element.max && element.max > 0, "{}.{}", def.name, element.name);
                let mut targets = element.types.iter().flat_map(|found| &found.targets);
                assert!(targets.all(|id| usize::from(id.0) < schema.types.len()), "{}.{}", def.name, element.name);
                let mut constraints = element.constraints.iter();
                assert!(constraints.all(|id| usize::from(id.0) < schema.constraints.len()));
            }
        }
    }
}

#[test]
fn members_are_found_by_their_names_in_json() {
    for schema in VERSIONS.map(Schema::of) {
        let observation = schema.def(schema.named("Observation").unwrap());
        let (element, of_type) = schema.member(observation, "valueQuantity").unwrap();
        assert_eq!((&*element.name, &*schema.def(of_type.type_id).name), ("value", "Quantity"));
        assert!(schema.member(observation, "value").is_none());
        assert!(schema.member(observation, "valueAddress").is_none());
    }
}

#[test]
fn a_profiled_choice_keeps_the_name_of_its_data_type() {
    let schema = Schema::of(R4);
    let dose = schema.def(schema.named("Dosage.doseAndRate").unwrap());
    let (_, of_type) = schema.member(dose, "doseQuantity").unwrap();
    let simple = schema.def(of_type.type_id);
    assert_eq!((&*simple.name, &*simple.code), ("SimpleQuantity", "Quantity"));
    assert!(simple.elements.iter().all(|element| *element.name != *"comparator"));
    assert!(keys(schema, &simple.constraints).contains(&"sqty-1"));
}

#[test]
fn backbone_elements_are_types_with_their_own_constraints() {
    for schema in VERSIONS.map(Schema::of) {
        let contact = element(schema, "Patient", "contact");
        assert_eq!(type_names(schema, contact), ["Patient.contact"]);
        assert!(contact.constraints.is_empty() && contact.is_array);
        let def = schema.def(contact.types[0].type_id);
        assert_eq!((&*def.code, keys(schema, &def.constraints)), ("BackboneElement", vec!["pat-1"]));
        assert_eq!(&*schema.def(schema.named("Timing.repeat").unwrap()).code, "Element");
    }
}

#[test]
fn content_that_refers_to_an_element_is_of_its_type() {
    for schema in VERSIONS.map(Schema::of) {
        assert_eq!(type_names(schema, element(schema, "Questionnaire.item", "item")), ["Questionnaire.item"]);
        assert_eq!(type_names(schema, element(schema, "Bundle.entry", "link")), ["Bundle.link"]);
        let range = element(schema, "Observation.component", "referenceRange");
        assert_eq!(type_names(schema, range), ["Observation.referenceRange"]);
    }
}

#[test]
fn ids_of_resources_are_ids_and_those_of_elements_are_attributes() {
    for schema in VERSIONS.map(Schema::of) {
        let (of_resource, of_element) = (element(schema, "Patient", "id"), element(schema, "HumanName", "id"));
        assert_eq!((type_names(schema, of_resource), of_resource.is_attribute), (vec!["id"], false));
        assert_eq!((type_names(schema, of_element), of_element.is_attribute), (vec!["string"], true));
        let url = element(schema, "Extension", "url");
        assert_eq!((type_names(schema, url), url.is_attribute), (vec!["uri"], true));
    }
}

#[test]
fn a_primitive_has_an_id_and_extensions() {
    for schema in VERSIONS.map(Schema::of) {
        let string = schema.def(schema.named("string").unwrap());
        let names: Vec<&str> = string.elements.iter().map(|element| &*element.name).collect();
        assert_eq!(names, ["id", "extension"]);
        let xhtml = schema.def(schema.named("xhtml").unwrap());
        assert_eq!(xhtml.elements.len(), 1);
    }
}

#[test]
fn json_writes_an_array_where_the_first_definition_repeats() {
    for schema in VERSIONS.map(Schema::of) {
        let contained = element(schema, "Patient", "contained");
        assert_eq!((contained.is_array, type_names(schema, contained)), (true, vec!["Resource"]));
        assert!(!element(schema, "Patient", "gender").is_array);
    }
}

#[test]
fn references_list_their_targets() {
    let targets = |schema: &'static Schema, of: &str, name: &str| -> Vec<&'static str> {
        element(schema, of, name).types[0].targets.iter().map(|id| &*schema.def(*id).name).collect()
    };
    assert_eq!(targets(Schema::of(R4), "Patient", "managingOrganization"), ["Organization"]);
    assert!(targets(Schema::of(R4), "Bundle.entry", "resource").is_empty());
    assert!(targets(Schema::of(R4), "MessageHeader", "focus").is_empty());
    // R5 names an interface; the resources that implement it match.
    let implementers = targets(Schema::of(R5), "ImplementationGuide.global", "profile");
    assert_eq!(implementers, ["StructureDefinition"]);
    assert!(
        !Schema::of(R5)
            .types
            .iter()
            .flat_map(|def| &def.elements)
            .flat_map(|element| &element.types)
            .any(|of_type| of_type.targets.iter().any(|id| &*Schema::of(R5).def(*id).name == "CanonicalResource"))
    );
}

#[test]
fn required_codes_are_enumerated_and_open_ones_are_not() {
    for schema in VERSIONS.map(Schema::of) {
        let gender = codes(schema, element(schema, "Patient", "gender"));
        assert!(gender.has("http://hl7.org/fhir/administrative-gender", "female"));
        assert!(!gender.has_code("Female") && !gender.has("http://hl7.org/fhir/bundle-type", "female"));
        assert!(codes(schema, element(schema, "Timing.repeat", "when")).has_code("ACM"));
        assert!(codes(schema, element(schema, "Timing.repeat", "periodUnit")).has_code("wk"));
        let mime = element(schema, "Attachment", "contentType").binding.unwrap();
        assert!(schema.value_set(mime.value_set).codes.is_none());
    }
}

#[test]
fn codes_below_other_codes_and_excluded_codes_are_read() {
    let versions = Schema::of(R5).value_set_named("http://hl7.org/fhir/ValueSet/FHIR-version|5.0.0").unwrap();
    assert!(versions.codes.as_ref().unwrap().has_code("5.0.0-ballot"));
    // `endpoint-status` without `test`.
    let status = codes(Schema::of(R5), element(Schema::of(R5), "Endpoint", "status"));
    assert!(status.has_code("active") && !status.has_code("test"));
}

#[test]
fn further_value_sets_are_found_by_url_with_or_without_version() {
    for version in VERSIONS {
        let schema = Schema::of(version);
        let url = "http://hl7.org/fhir/ValueSet/encounter-class-unknown-to-all";
        assert!(schema.value_set_named(url).is_none());
        let set = schema.value_set_named("http://hl7.org/fhir/ValueSet/observation-category|9").unwrap();
        assert!(set.codes.as_ref().unwrap().has_code("vital-signs"));
        assert!(unbound_value_sets(version).get(&set.url).is_some());
        let is_bound = |known: &ValueSet| schema.value_sets.iter().any(|bound| bound.url == known.url);
        assert!(!unbound_value_sets(version).iter().any(is_bound));
    }
}

#[test]
fn codes_under_other_licenses_are_not_included() {
    for version in VERSIONS {
        let sets = Schema::of(version).value_sets.iter().chain(unbound_value_sets(version).iter());
        let mut systems = sets.filter_map(|set| set.codes.as_ref()).flat_map(|codes| &codes.systems);
        assert!(!systems.any(|system| ["http://snomed.info/sct", "http://loinc.org"].contains(&&**system)));
    }
}

#[test]
fn codes_are_sorted_so_that_they_are_found() {
    for version in VERSIONS {
        let sets = Schema::of(version).value_sets.iter().chain(unbound_value_sets(version).iter());
        for codes in sets.filter_map(|set| set.codes.as_ref()) {
            assert!(codes.codes.is_sorted() && codes.codes.len() <= 5_000);
            assert!(codes.codes.iter().all(|(_, system)| usize::from(*system) < codes.systems.len()));
        }
    }
}

#[test]
fn extensions_list_their_contexts_and_contents() {
    for schema in VERSIONS.map(Schema::of) {
        let reason = schema.extension("http://hl7.org/fhir/StructureDefinition/data-absent-reason").unwrap();
        assert!(matches!(reason.contexts.as_slice(), [Context::Element(of)] if **of == *"Element"));
        assert_eq!((reason.max, reason.is_value_required, reason.is_modifier), (1, true, false));
        let allowed = schema.value_set(reason.binding.unwrap()).codes.as_ref().unwrap();
        assert!(allowed.has_code("asked-declined"));
        let nationality = schema.extension("http://hl7.org/fhir/StructureDefinition/patient-nationality").unwrap();
        let nested: Vec<&str> = nationality.nested.iter().map(|nested| &*nested.url).collect();
        assert_eq!((nationality.values.len(), nested), (0, vec!["code", "period"]));
    }
}

#[test]
fn constraints_of_types_are_not_repeated_at_elements() {
    for schema in VERSIONS.map(Schema::of) {
        assert!(keys(schema, &schema.def(schema.named("Patient").unwrap()).constraints).contains(&"dom-3"));
        assert_eq!(keys(schema, &element(schema, "Patient", "managingOrganization").constraints), [""; 0]);
        assert!(schema.constraints.iter().all(|constraint| *constraint.key != *"ele-1"));
        let holders = schema.types.iter().filter(|def| keys(schema, &def.constraints).contains(&"ext-1"));
        assert_eq!(holders.map(|def| &*def.name).collect::<Vec<_>>(), ["Extension"]);
    }
}

#[test]
fn narrative_rules_are_warnings_and_message_rules_are_errors() {
    for schema in VERSIONS.map(Schema::of) {
        let is_error = |key: &str| schema.constraints.iter().find(|found| &*found.key == key).unwrap().is_error;
        assert!(!is_error("dom-6") && is_error("bdl-12"));
    }
}

#[test]
fn errors_in_published_expressions_are_corrected() {
    let of = |version, key: &str| {
        let found = Schema::of(version).constraints.iter().find(|found| &*found.key == key);
        &*found.unwrap().expression
    };
    assert_eq!(of(R4, "que-12"), of(R4B, "que-12"));
    assert_eq!(of(R4, "tim-9"), of(R5, "tim-9"));
    assert!(!of(R4, "dom-3").contains(".as("));
    assert!(!of(R5, "eld-11").contains('"'));
}

#[test]
fn every_version_has_its_search_parameters() {
    let figures = VERSIONS.map(|version| search_parameters(version).iter().count());
    assert_eq!(figures, [1375, 1414, 1263]);
    for version in VERSIONS {
        let schema = Schema::of(version);
        for parameter in search_parameters(version).iter() {
            let mut types = parameter.bases.iter().chain(&parameter.targets);
            assert!(types.all(|id| schema.def(*id).kind == TypeKind::Resource), "{}", parameter.url);
            assert!(!parameter.bases.is_empty() && !parameter.code.is_empty(), "{}", parameter.url);
            assert!(parameter.kind == SearchKind::Composite || parameter.components.is_empty(), "{}", parameter.url);
        }
    }
}

#[test]
fn a_search_parameter_is_found_by_type_and_code_its_own_before_an_inherited_one() {
    for version in VERSIONS {
        let (schema, parameters) = (Schema::of(version), search_parameters(version));
        let of = |name: &str, code| parameters.of(schema, schema.named(name).unwrap(), code);
        let birthdate = of("Patient", "birthdate").unwrap();
        assert_eq!(birthdate.kind, SearchKind::Date);
        assert!(birthdate.expression.contains("Patient.birthDate"), "{}", birthdate.expression);
        assert_eq!(&*of("Patient", "_id").unwrap().expression, "Resource.id");
        assert!(of("Observation", "birthdate").is_none());
        let subject = of("Observation", "subject").unwrap();
        assert_eq!(&*subject.url, "http://hl7.org/fhir/SearchParameter/Observation-subject");
        assert!(subject.targets.contains(&schema.named("Patient").unwrap()));
        let composite = of("Observation", "code-value-quantity").unwrap();
        assert_eq!((composite.kind, composite.components.len()), (SearchKind::Composite, 2));
    }
}
