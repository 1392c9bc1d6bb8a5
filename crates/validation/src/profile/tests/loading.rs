//! Errors in definitions, chains, versions, packages.

use super::*;
use crate::definition::package::tests::packed;

fn errors(resources: &[Value]) -> Vec<String> {
    Profiles::compile(&loaded(resources).catalog, FhirVersion::R4).1
}

#[test]
fn a_circular_chain_is_reported_and_the_rest_applies() {
    let gender = json!([{ "id": "Patient.gender", "path": "Patient.gender", "min": 1 }]);
    let all =
        [derived("a", "Patient", &format!("{OWN}b"), gender), derived("b", "Patient", &format!("{OWN}a"), json!([]))];
    let (profiles, errors) = Profiles::compile(&loaded(&all).catalog, FhirVersion::R4);
    assert!(errors.iter().any(|error| error.starts_with("0.json: ") && error.contains("its own base")), "{errors:?}");
    let patient = json!({ "resourceType": "Patient" });
    let found: Vec<String> = issues(&profiles, &format!("{OWN}a"), &patient).iter().map(short).collect();
    assert_eq!(found, ["error profile-min Patient"]);
}

#[test]
fn what_does_not_fit_the_base_is_reported_with_its_file() {
    let all = [
        profile("a", "Patient", json!([{ "id": "Patient.nothing", "path": "Patient.nothing", "min": 1 }])),
        profile("b", "Patient", json!([{ "id": "Observation.code", "path": "Observation.code", "min": 1 }])),
        profile("c", "Nothing", json!([])),
        profile(
            "d",
            "Patient",
            json!([
            { "id": "Patient.identifier", "path": "Patient.identifier", "slicing": { "discriminator": [{ "type": "value", "path": "system" }], "rules": "open" } },
            { "id": "Patient.identifier:one", "path": "Patient.identifier", "sliceName": "one" }]),
        ),
        json!({ "resourceType": "StructureDefinition", "url": "urn:e", "type": "Patient", "derivation": "constraint", "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient" }),
        profile(
            "f",
            "Patient",
            json!([{ "id": "Patient.gender", "path": "Patient.gender", "constraint": [{ "key": "f-1", "severity": "error", "human": "h", "expression": "a.(" }] }]),
        ),
    ];
    let found = errors(&all);
    let beginnings = [
        "2.json: ",
        "0.json: the path Patient.nothing",
        "1.json: the path Observation.code",
        "4.json: ",
        "3.json: ",
        "5.json: ",
    ];
    assert_eq!(found.len(), beginnings.len(), "{found:#?}");
    for (error, beginning) in found.iter().zip(beginnings) {
        assert!(error.starts_with(beginning), "{error}");
    }
}

#[test]
fn a_snapshot_is_used_without_a_differential_and_without_a_loaded_base() {
    let mut alone = profile("alone", "Patient", json!([]));
    let elements = json!([
        { "id": "Patient", "path": "Patient", "min": 0, "max": "*", "constraint": [{ "key": "dom-2", "severity": "error", "human": "h", "expression": "contained.contained.empty()", "source": "http://hl7.org/fhir/StructureDefinition/DomainResource" }] },
        { "id": "Patient.id", "path": "Patient.id", "min": 0, "max": "1", "type": [{ "code": "http://hl7.org/fhirpath/System.String" }] },
        { "id": "Patient.gender", "path": "Patient.gender", "min": 1, "max": "1", "type": [{ "code": "code" }], "binding": { "strength": "required", "valueSet": "http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1" } },
    ]);
    alone["differential"] = json!({});
    alone["snapshot"] = json!({ "element": elements });
    let mut orphan = derived("orphan", "Patient", "urn:not-loaded", json!([{ "path": "Patient.photo", "max": "0" }]));
    orphan["snapshot"] = alone["snapshot"].clone();
    for own in [alone, orphan] {
        cases(
            &[own],
            &[
                (json!({ "resourceType": "Patient", "id": "1", "gender": "x" }), &[]),
                (json!({ "resourceType": "Patient" }), &["error profile-min Patient"]),
            ],
        );
    }
    let bare = derived("bare", "Patient", "urn:not-loaded", json!([{ "path": "Patient.photo", "max": "0" }]));
    let photo = json!({ "resourceType": "Patient", "photo": [{}] });
    cases(&[bare], &[(photo, &["error profile-max Patient.photo", "warning profile-missing Patient"])]);
}

#[test]
fn a_canonical_with_a_version_selects_it_and_without_one_the_newest() {
    let version = |version: &str, min: u32| {
        let mut own =
            profile("patient", "Patient", json!([{ "id": "Patient.gender", "path": "Patient.gender", "min": min }]));
        own["version"] = json!(version);
        own
    };
    let profiles = compiled(&[version("1.9.0", 0), version("1.10.0", 1)], FhirVersion::R4);
    let found = |canonical: &str| {
        issues(&profiles, &format!("{OWN}{canonical}"), &json!({ "resourceType": "Patient" }))
            .iter()
            .map(short)
            .collect::<Vec<_>>()
    };
    assert_eq!(found("patient"), ["error profile-min Patient"]);
    assert_eq!(found("patient|1.9.0"), [""; 0]);
    assert_eq!(found("patient|2"), ["warning profile-missing Patient"]);
}

#[test]
fn definitions_apply_to_their_own_version_and_those_of_r4_also_to_r4b() {
    let mut own =
        profile("patient", "Patient", json!([{ "id": "Patient.gender", "path": "Patient.gender", "min": 1 }]));
    own["fhirVersion"] = json!("4.0.1");
    let count = |version| compiled(std::slice::from_ref(&own), version).len();
    assert_eq!([FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5].map(count), [1, 1, 0]);
}

#[test]
fn packages_are_read_and_missing_dependencies_are_named() {
    let manifest = |name: &str, needs: Value| {
        json!({ "name": name, "version": "1.0.0", "fhirVersions": ["4.0.1"], "dependencies": needs })
            .to_string()
            .into_bytes()
    };
    let own = profile("patient", "Patient", json!([])).to_string().into_bytes();
    let guide = packed(&[
        (
            "package/package.json",
            &manifest("x.guide", json!({ "hl7.fhir.r4.core": "4.0.1", "x.base": "1.0.0", "x.other": "3.1.1" })),
        ),
        ("package/a.json", &own),
    ]);
    let base = packed(&[
        ("package/package.json", &manifest("x.base", json!({}))),
        ("package/m.json", definition(json!({})).to_string().as_bytes()),
    ]);
    let file = |path: &str, bytes: Vec<u8>| DefinitionFile { path: path.to_owned(), bytes };
    let (definitions, errors) =
        Definitions::load(&[file("guide.tgz", guide), file("base.tgz", base), file("bad.tgz", b"x".to_vec())]);
    assert_eq!(definitions.catalog.resources.len(), 1);
    assert_eq!(&*definitions.catalog.files[0], "guide.tgz#package/a.json");
    assert_eq!(definitions.catalog.messages[0].fhir_version, Some(FhirVersion::R4));
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("bad.tgz: is not a readable gzipped tar"));
    assert_eq!(definitions.notices, ["guide.tgz: needs the package x.other 3.1.1, which is not given"]);
}

#[test]
fn definitions_are_read_from_xml_too() {
    let xml = r#"<StructureDefinition xmlns="http://hl7.org/fhir"><url value="urn:x"/><version value="1"/><name value="x"/><status value="active"/>
        <fhirVersion value="4.0.1"/><kind value="resource"/><abstract value="false"/><type value="Patient"/>
        <baseDefinition value="http://hl7.org/fhir/StructureDefinition/Patient"/><derivation value="constraint"/>
        <differential><element id="Patient.gender"><path value="Patient.gender"/><min value="1"/></element></differential></StructureDefinition>"#;
    let file = DefinitionFile { path: "x.xml".to_owned(), bytes: xml.as_bytes().to_vec() };
    let (definitions, errors) = Definitions::load(&[file]);
    assert_eq!(errors, Vec::<String>::new());
    let (profiles, errors) = Profiles::compile(&definitions.catalog, FhirVersion::R4);
    assert_eq!(errors, Vec::<String>::new());
    let found: Vec<String> =
        issues(&profiles, "urn:x", &json!({ "resourceType": "Patient" })).iter().map(short).collect();
    assert_eq!(found, ["error profile-min Patient"]);
}

#[test]
fn discriminators_that_need_each_others_profiles_terminate() {
    let with = |name: &str, other: &str| {
        profile(
            name,
            "List",
            json!([
                { "id": "List.entry", "path": "List.entry", "slicing": { "discriminator": [{ "type": "value", "path": "item.resolve()" }], "rules": "open" } },
                { "id": "List.entry:one", "path": "List.entry", "sliceName": "one", "min": 1 },
                { "id": "List.entry:one.item", "path": "List.entry.item", "type": [{ "code": "Reference", "targetProfile": [format!("{OWN}{other}")] }] },
            ]),
        )
    };
    let (profiles, _) = Profiles::compile(&loaded(&[with("a", "b"), with("b", "a")]).catalog, FhirVersion::R4);
    assert_eq!(profiles.len(), 2);
}

#[test]
fn slice_names_that_go_deeper_and_deeper_are_cut() {
    let deep = vec!["a"; 10_000].join("/");
    let own = profile("patient", "Patient", json!([{ "path": "Patient.identifier", "sliceName": deep, "min": 1 }]));
    assert_eq!(Profiles::compile(&loaded(&[own]).catalog, FhirVersion::R4).0.len(), 1);
}
