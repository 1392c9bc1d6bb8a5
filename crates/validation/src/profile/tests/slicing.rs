//! Every kind of discriminator, and the rules of slicings and slices.

use super::*;

/// A profile whose `identifier`s are sliced like this, with these further elements.
fn identifiers(slicing: Value, more: Value) -> Value {
    let mut elements = vec![json!({ "id": "Patient.identifier", "path": "Patient.identifier", "slicing": slicing })];
    elements.extend(more.as_array().expect("elements").clone());
    profile("patient", "Patient", json!(elements))
}

fn by(kind: &str, path: &str) -> Value {
    json!({ "discriminator": [{ "type": kind, "path": path }], "rules": "open" })
}

fn patient(systems: &[&str]) -> Value {
    let identifiers: Vec<Value> = systems.iter().map(|system| json!({ "system": system, "value": "1" })).collect();
    json!({ "resourceType": "Patient", "identifier": identifiers })
}

fn slice(name: &str, min: u32, max: &str) -> Value {
    json!({ "id": format!("Patient.identifier:{name}"), "path": "Patient.identifier", "sliceName": name, "min": min, "max": max })
}

fn system(name: &str, system: &str) -> Value {
    json!({ "id": format!("Patient.identifier:{name}.system"), "path": "Patient.identifier.system", "min": 1, "fixedUri": system })
}

#[test]
fn slices_by_value_have_their_own_counts_and_contents() {
    let own = identifiers(
        by("value", "system"),
        json!([slice("a", 1, "1"), system("a", "urn:a"),
            { "id": "Patient.identifier:a.period", "path": "Patient.identifier.period", "max": "0" },
            slice("b", 0, "1"), system("b", "urn:b")]),
    );
    let mut dated = patient(&["urn:a"]);
    dated["identifier"][0]["period"] = json!({ "start": "2020" });
    cases(
        &[own],
        &[
            (patient(&["urn:c", "urn:a", "urn:b"]), &[]),
            (patient(&["urn:b"]), &["error profile-min Patient"]),
            (patient(&["urn:a", "urn:a", "urn:b", "urn:b"]), &["error profile-max Patient.identifier"; 2]),
            (dated, &["error profile-max Patient.identifier[0].period"]),
        ],
    );
}

#[test]
fn closed_open_at_end_and_ordered_slicings_are_checked() {
    let with = |rules: &str, ordered: bool| {
        let mut slicing = by("value", "system");
        slicing["rules"] = json!(rules);
        slicing["ordered"] = json!(ordered);
        identifiers(
            slicing,
            json!([slice("a", 0, "*"), system("a", "urn:a"), slice("b", 0, "*"), system("b", "urn:b")]),
        )
    };
    let found_in = |own: &Value, systems: &[&str]| found(std::slice::from_ref(own), FhirVersion::R4, &patient(systems));
    let closed = with("closed", false);
    assert_eq!(found_in(&closed, &["urn:b", "urn:a"]), [""; 0]);
    assert_eq!(found_in(&closed, &["urn:a", "urn:c"]), ["error slicing Patient.identifier[1]"]);
    let at_end = with("openAtEnd", false);
    assert_eq!(found_in(&at_end, &["urn:b", "urn:a", "urn:c"]), [""; 0]);
    assert_eq!(found_in(&at_end, &["urn:c", "urn:a"]), ["error slicing Patient.identifier[0]"]);
    let ordered = with("open", true);
    assert_eq!(found_in(&ordered, &["urn:a", "urn:c", "urn:b"]), [""; 0]);
    assert_eq!(found_in(&ordered, &["urn:b", "urn:a"]), ["error slicing Patient.identifier[1]"]);
}

#[test]
fn slices_by_pattern_and_by_binding_take_what_has_the_pattern_or_a_code_of_the_set() {
    let kind = |name: &str, rule: Value| {
        let mut element =
            json!({ "id": format!("Patient.identifier:{name}.type"), "path": "Patient.identifier.type", "min": 1 });
        element.as_object_mut().expect("members").extend(rule.as_object().expect("members").clone());
        element
    };
    let set = json!({ "resourceType": "ValueSet", "url": format!("{OWN}set"), "status": "active",
        "compose": { "include": [{ "system": "urn:t", "concept": [{ "code": "x" }, { "code": "y" }] }] } });
    let own = identifiers(
        by("pattern", "type"),
        json!([
            slice("a", 1, "1"),
            kind("a", json!({ "patternCodeableConcept": { "coding": [{ "system": "urn:t", "code": "a" }] } })),
            slice("b", 0, "1"),
            kind("b", json!({ "binding": { "strength": "required", "valueSet": format!("{OWN}set") } })),
        ]),
    );
    let with = |codes: &[&str]| {
        let typed =
            |code: &&str| json!({ "type": { "coding": [{ "system": "urn:t", "code": code, "display": "d" }] } });
        json!({ "resourceType": "Patient", "identifier": codes.iter().map(typed).collect::<Vec<_>>() })
    };
    cases(
        &[own, set],
        &[
            (with(&["a", "x", "other"]), &[]),
            (with(&["a", "x", "y"]), &["error profile-max Patient.identifier"]),
            (with(&["x"]), &["error profile-min Patient"]),
        ],
    );
}

#[test]
fn slices_by_existence_take_values_with_or_without_the_element() {
    let own = identifiers(
        by("exists", "period"),
        json!([
            slice("dated", 0, "1"), { "id": "Patient.identifier:dated.period", "path": "Patient.identifier.period", "min": 1 },
            slice("plain", 0, "1"), { "id": "Patient.identifier:plain.period", "path": "Patient.identifier.period", "max": "0" },
            { "id": "Patient.identifier:plain.value", "path": "Patient.identifier.value", "min": 1 },
        ]),
    );
    let with = |identifiers: Value| json!({ "resourceType": "Patient", "identifier": identifiers });
    let dated = json!({ "period": { "start": "2020" } });
    cases(
        &[own],
        &[
            (with(json!([dated, { "value": "1" }])), &[]),
            (with(json!([dated, dated])), &["error profile-max Patient.identifier"]),
            (with(json!([{ "system": "urn:a" }])), &["error profile-min Patient.identifier[0]"]),
        ],
    );
}

#[test]
fn slices_of_a_choice_are_distinguished_by_type_with_a_slice_name_or_the_short_path() {
    let named = profile(
        "named",
        "Observation",
        json!([
            { "id": "Observation.value[x]", "path": "Observation.value[x]", "slicing": { "discriminator": [{ "type": "type", "path": "$this" }], "rules": "closed" } },
            { "id": "Observation.value[x]:valueQuantity", "path": "Observation.value[x]", "sliceName": "valueQuantity", "min": 1 },
            { "id": "Observation.value[x]:valueQuantity.unit", "path": "Observation.value[x].unit", "min": 1 },
        ]),
    );
    let short = profile("short", "Observation", json!([{ "path": "Observation.valueQuantity.unit", "min": 1 }]));
    let quantity = |members: Value| json!({ "resourceType": "Observation", "valueQuantity": members });
    let text = json!({ "resourceType": "Observation", "valueString": "x" });
    cases(
        &[named],
        &[
            (quantity(json!({ "unit": "mg" })), &[]),
            (quantity(json!({ "value": 1 })), &["error profile-min Observation.value.ofType(Quantity)"]),
            (text.clone(), &["error profile-min Observation", "error slicing Observation.value.ofType(string)"]),
        ],
    );
    cases(
        &[short],
        &[
            (quantity(json!({ "unit": "mg" })), &[]),
            (text, &[]),
            (quantity(json!({ "value": 1 })), &["error profile-min Observation.value.ofType(Quantity)"]),
        ],
    );
}

#[test]
fn slices_of_slices_narrow_the_values_of_the_slice_around_them() {
    let own = identifiers(
        by("value", "system"),
        json!([
            slice("a", 0, "2"),
            { "id": "Patient.identifier:a", "path": "Patient.identifier", "sliceName": "a", "slicing": by("value", "use") },
            system("a", "urn:a"),
            { "id": "Patient.identifier:a/old", "path": "Patient.identifier", "sliceName": "a/old", "min": 1, "max": "1" },
            { "id": "Patient.identifier:a/old.use", "path": "Patient.identifier.use", "fixedCode": "old", "min": 1 },
            { "id": "Patient.identifier:a/old.period", "path": "Patient.identifier.period", "min": 1 },
        ]),
    );
    let with = |identifiers: Value| json!({ "resourceType": "Patient", "identifier": identifiers });
    let old = json!({ "system": "urn:a", "use": "old", "period": {} });
    cases(
        &[own],
        &[
            (with(json!([old, { "system": "urn:a", "use": "usual" }, { "system": "urn:b", "use": "old" }])), &[]),
            (with(json!([{ "system": "urn:a", "use": "old" }])), &["error profile-min Patient.identifier[0]"]),
            (with(json!([{ "system": "urn:a" }])), &["error profile-min Patient"]),
            (with(json!([old, old])), &["error profile-max Patient.identifier"]),
        ],
    );
}

#[test]
fn a_slice_of_a_base_profile_is_narrowed_by_the_one_derived_from_it() {
    let base = {
        let mut base = identifiers(by("value", "system"), json!([slice("a", 0, "*"), system("a", "urn:a")]));
        base["url"] = json!(format!("{OWN}base"));
        base
    };
    let own = derived(
        "own",
        "Patient",
        &format!("{OWN}base|1.0.0"),
        json!([
            slice("a", 1, "1"),
            { "id": "Patient.identifier:a.value", "path": "Patient.identifier.value", "maxLength": 1 },
        ]),
    );
    let mut long = patient(&["urn:a"]);
    long["identifier"][0]["value"] = json!("22");
    cases(
        &[own, base],
        &[
            (patient(&["urn:a", "urn:b"]), &[]),
            (patient(&["urn:b"]), &["error profile-min Patient"]),
            (long, &["error profile-length Patient.identifier[0].value"]),
        ],
    );
}

fn bundle(entries: &[Value]) -> Value {
    let entry = |resource: &Value| json!({ "fullUrl": format!("https://x.example/{}/{}", resource["resourceType"].as_str().expect("a type"), resource["id"].as_str().expect("an id")), "resource": resource });
    json!({ "resourceType": "Bundle", "type": "collection", "entry": entries.iter().map(entry).collect::<Vec<_>>() })
}

#[test]
fn entries_are_sliced_by_the_type_of_their_resource() {
    let own = profile(
        "bundle",
        "Bundle",
        json!([
            { "id": "Bundle.entry", "path": "Bundle.entry", "slicing": by("type", "resource") },
            { "id": "Bundle.entry:patient", "path": "Bundle.entry", "sliceName": "patient", "min": 1, "max": "1" },
            { "id": "Bundle.entry:patient.resource", "path": "Bundle.entry.resource", "type": [{ "code": "Patient", "profile": [format!("{OWN}patient")] }] },
        ]),
    );
    let inner = profile("patient", "Patient", json!([{ "id": "Patient.gender", "path": "Patient.gender", "min": 1 }]));
    let good = json!({ "resourceType": "Patient", "id": "1", "gender": "other" });
    let basic = json!({ "resourceType": "Basic", "id": "1" });
    cases(
        &[own, inner],
        &[
            (bundle(&[basic.clone(), good.clone()]), &[]),
            (bundle(&[basic]), &["error profile-min Bundle"]),
            (bundle(&[good.clone(), good]), &["error profile-max Bundle.entry"]),
            (
                bundle(&[json!({ "resourceType": "Patient", "id": "1" })]),
                &["error profile-min Bundle.entry[0].resource"],
            ),
        ],
    );
}

#[test]
fn entries_are_sliced_by_the_profile_of_their_resource_and_near_misses_are_explained() {
    let own = profile(
        "bundle",
        "Bundle",
        json!([
            { "id": "Bundle.entry", "path": "Bundle.entry", "slicing": by("profile", "resource") },
            { "id": "Bundle.entry:patient", "path": "Bundle.entry", "sliceName": "patient", "min": 1, "max": "1" },
            { "id": "Bundle.entry:patient.resource", "path": "Bundle.entry.resource", "type": [{ "code": "Patient", "profile": [format!("{OWN}patient")] }] },
        ]),
    );
    let inner = profile("patient", "Patient", json!([{ "id": "Patient.gender", "path": "Patient.gender", "min": 1 }]));
    let good = json!({ "resourceType": "Patient", "id": "1", "gender": "other" });
    let plain = json!({ "resourceType": "Patient", "id": "2" });
    let all = [own, inner];
    cases(
        &all,
        &[
            (bundle(&[plain.clone(), good.clone()]), &[]),
            (bundle(std::slice::from_ref(&plain)), &["error profile-min Bundle"]),
        ],
    );
    let issue = &issues(&compiled(&all, FhirVersion::R4), &format!("{OWN}bundle"), &bundle(&[plain]))[0];
    assert!(
        issue.diagnostics.contains("Bundle.entry[0] almost belongs to it: Bundle.entry[0]"),
        "{}",
        issue.diagnostics
    );
    assert!(issue.diagnostics.contains("requires at least 1 gender"), "{}", issue.diagnostics);
    // Without the inner profile, membership is unknown, so nothing is missing.
    assert_eq!(found(&all[..1], FhirVersion::R4, &bundle(&[good])), ["warning profile-missing Bundle.entry[0]"]);
}

#[test]
fn references_are_sliced_by_what_they_lead_to() {
    let with = |kind: &str, target: &str| {
        profile(
            "list",
            "List",
            json!([
                { "id": "List.entry", "path": "List.entry", "slicing": by(kind, "item.resolve()") },
                { "id": "List.entry:one", "path": "List.entry", "sliceName": "one", "min": 1, "max": "1" },
                { "id": "List.entry:one.item", "path": "List.entry.item", "type": [{ "code": "Reference", "targetProfile": [target] }] },
            ]),
        )
    };
    let inner = profile("patient", "Patient", json!([{ "id": "Patient.gender", "path": "Patient.gender", "min": 1 }]));
    let list = |references: &[&str]| {
        let entries: Vec<Value> = references.iter().map(|one| json!({ "item": { "reference": one } })).collect();
        json!({ "resourceType": "List", "entry": entries, "contained": [
            { "resourceType": "Patient", "id": "p", "gender": "other" }, { "resourceType": "Patient", "id": "q" }, { "resourceType": "Basic", "id": "b" }] })
    };
    cases(
        &[with("type", "http://hl7.org/fhir/StructureDefinition/Patient")],
        &[
            (list(&["#b", "#q"]), &[]),
            (list(&["#b"]), &["error profile-min List"]),
            (list(&["#p", "#q"]), &["error profile-max List.entry"]),
            // A resource outside of the message might be a Patient.
            (list(&["urn:uuid:0c1646f0-656a-58bb-9b1f-a5b80b67484e"]), &[]),
        ],
    );
    cases(
        &[with("profile", &format!("{OWN}patient")), inner],
        &[(list(&["#q", "#p"]), &[]), (list(&["#q"]), &["error profile-min List"])],
    );
}

#[test]
fn paths_lead_through_extensions_and_choices() {
    let url = "https://x.example/kind";
    let own = identifiers(
        by("value", &format!("extension('{url}').value.ofType(Coding).code")),
        json!([
            slice("a", 1, "1"),
            { "id": "Patient.identifier:a.extension", "path": "Patient.identifier.extension", "slicing": by("value", "url") },
            { "id": "Patient.identifier:a.extension:kind", "path": "Patient.identifier.extension", "sliceName": "kind", "min": 1 },
            { "id": "Patient.identifier:a.extension:kind.url", "path": "Patient.identifier.extension.url", "fixedUri": url },
            { "id": "Patient.identifier:a.extension:kind.value[x]", "path": "Patient.identifier.extension.value[x]", "type": [{ "code": "Coding" }] },
            { "id": "Patient.identifier:a.extension:kind.value[x].code", "path": "Patient.identifier.extension.value[x].code", "fixedCode": "a", "min": 1 },
        ]),
    );
    let with = |codes: &[&str]| {
        let one = |code: &&str| json!({ "extension": [{ "url": "urn:other", "valueString": "x" }, { "url": url, "valueCoding": { "code": code } }] });
        json!({ "resourceType": "Patient", "identifier": codes.iter().map(one).collect::<Vec<_>>() })
    };
    cases(&[own], &[(with(&["b", "a"]), &[]), (with(&["b"]), &["error profile-min Patient"])]);
}

#[test]
fn several_discriminators_must_all_be_met() {
    let slicing = json!({ "discriminator": [{ "type": "value", "path": "system" }, { "type": "value", "path": "use" }], "rules": "open" });
    let own = identifiers(
        slicing,
        json!([slice("a", 1, "1"), system("a", "urn:a"),
        { "id": "Patient.identifier:a.use", "path": "Patient.identifier.use", "fixedCode": "official", "min": 1 }]),
    );
    let with = |kind: &str| json!({ "resourceType": "Patient", "identifier": [{ "system": "urn:a", "use": kind }] });
    cases(&[own], &[(with("official"), &[]), (with("usual"), &["error profile-min Patient"])]);
}

#[test]
fn slices_by_position_take_the_values_at_the_position() {
    let own = identifiers(
        by("position", "$this"),
        json!([slice("first", 1, "1"), system("first", "urn:a"), slice("rest", 0, "*"), system("rest", "urn:b")]),
    );
    cases_in(
        FhirVersion::R5,
        &[own],
        &[
            (patient(&["urn:a", "urn:b", "urn:b"]), &[]),
            (
                patient(&["urn:b", "urn:a"]),
                &["error fixed Patient.identifier[0].system", "error fixed Patient.identifier[1].system"],
            ),
            (patient(&[]), &["error profile-min Patient"]),
        ],
    );
}

#[test]
fn without_discriminators_a_value_that_conforms_to_a_slice_belongs_to_it() {
    let own = identifiers(json!({ "rules": "closed" }), json!([slice("a", 0, "1"), system("a", "urn:a")]));
    cases(&[own], &[(patient(&["urn:a"]), &[]), (patient(&["urn:b"]), &["error slicing Patient.identifier[0]"])]);
}

#[test]
fn a_path_of_this_alone_means_the_value_itself() {
    let own = profile(
        "patient",
        "Patient",
        json!([
            { "id": "Patient.maritalStatus.coding", "path": "Patient.maritalStatus.coding", "slicing": by("pattern", "$this") },
            { "id": "Patient.maritalStatus.coding:a", "path": "Patient.maritalStatus.coding", "sliceName": "a", "min": 1, "max": "1", "patternCoding": { "system": "urn:a" } },
            { "id": "Patient.language", "path": "Patient.language" },
            { "id": "Patient.name.given", "path": "Patient.name.given", "slicing": by("value", "$this") },
            { "id": "Patient.name.given:one", "path": "Patient.name.given", "sliceName": "one", "max": "1", "fixedString": "A" },
        ]),
    );
    let with = |systems: &[&str], given: &[&str]| {
        let coding: Vec<Value> = systems.iter().map(|system| json!({ "system": system, "code": "c" })).collect();
        json!({ "resourceType": "Patient", "maritalStatus": { "coding": coding }, "name": [{ "given": given }] })
    };
    cases(
        &[own],
        &[
            (with(&["urn:b", "urn:a"], &["B", "A"]), &[]),
            (with(&["urn:b"], &["B"]), &["error profile-min Patient.maritalStatus"]),
            (with(&["urn:a"], &["A", "A"]), &["error profile-max Patient.name[0].given"]),
        ],
    );
}

#[test]
fn contained_resources_are_sliced_by_type() {
    let own = profile(
        "patient",
        "Patient",
        json!([
            { "id": "Patient.contained", "path": "Patient.contained", "slicing": by("type", "$this") },
            { "id": "Patient.contained:organization", "path": "Patient.contained", "sliceName": "organization", "min": 1, "max": "1", "type": [{ "code": "Organization" }] },
            { "id": "Patient.contained:organization.name", "path": "Patient.contained.name", "min": 1 },
        ]),
    );
    let with = |contained: Value| json!({ "resourceType": "Patient", "contained": contained });
    cases(
        &[own],
        &[
            (with(json!([{ "resourceType": "Basic" }, { "resourceType": "Organization", "name": "A" }])), &[]),
            (with(json!([{ "resourceType": "Basic" }])), &["error profile-min Patient"]),
            (with(json!([{ "resourceType": "Organization" }])), &["error profile-min Patient.contained[0]"]),
        ],
    );
}
