//! Rules that a definition states indirectly are enforced, and profiles that cannot be used are reported with the
//! reason.

use super::*;

fn by(kind: &str, path: &str) -> Value {
    json!({ "discriminator": [{ "type": kind, "path": path }], "rules": "closed" })
}

#[test]
fn a_choice_narrowed_by_slices_is_distinguished_by_type() {
    let payload = "Communication.payload";
    let narrowed = |name: &str, of: &str, min: u32| {
        json!([{ "id": format!("{payload}:{name}"), "path": payload, "sliceName": name, "max": "1" },
            { "id": format!("{payload}:{name}.content[x]:content{of}"), "path": format!("{payload}.content[x]"),
              "sliceName": format!("content{of}"), "min": min, "type": [{ "code": if of == "String" { "string" } else { of } }] }])
    };
    for min in [0, 1] {
        let mut elements = vec![json!({ "id": payload, "path": payload, "slicing": by("type", "content") })];
        for part in [narrowed("text", "String", min), narrowed("file", "Attachment", min)] {
            elements.extend(part.as_array().expect("elements").clone());
        }
        let own = profile("c", "Communication", json!(elements));
        let with =
            |payload: Value| json!({ "resourceType": "Communication", "status": "completed", "payload": payload });
        cases(
            &[own],
            &[
                (with(json!([{ "contentString": "x" }, { "contentAttachment": { "title": "y" } }])), &[]),
                (
                    with(json!([{ "contentString": "x" }, { "contentString": "y" }])),
                    &["error profile-max Communication.payload"],
                ),
                (
                    with(json!([{ "contentReference": { "display": "z" } }])),
                    &["error slicing Communication.payload[0]"],
                ),
            ],
        );
    }
}

#[test]
fn a_base_resource_as_the_profile_of_a_type_is_required() {
    let asks = |path: &str, of: &str, of_base: &str| {
        let element = json!([{ "id": path, "path": path,
            "type": [{ "code": of, "profile": [format!("http://hl7.org/fhir/StructureDefinition/{of_base}")] }] }]);
        profile("p", path.split('.').next().expect("a type"), element)
    };
    let entry = |resource: &str| json!({ "resourceType": "Bundle", "type": "collection", "entry": [{ "resource": { "resourceType": resource } }] });
    cases(
        &[asks("Bundle.entry.resource", "Resource", "Patient")],
        &[(entry("Patient"), &[]), (entry("Observation"), &["error profile-type Bundle.entry[0].resource"])],
    );
    cases(
        &[asks("Bundle.entry.resource", "Resource", "DomainResource")],
        &[(entry("Patient"), &[]), (entry("Binary"), &["error profile-type Bundle.entry[0].resource"])],
    );
    let parameters = |resource: &str| json!({ "resourceType": "Parameters", "parameter": [{ "name": "x", "resource": { "resourceType": resource } }] });
    cases(
        &[asks("Parameters.parameter.resource", "Resource", "Patient")],
        &[
            (parameters("Patient"), &[]),
            (parameters("Group"), &["error profile-type Parameters.parameter[0].resource"]),
        ],
    );
}

#[test]
fn a_value_within_a_sliced_extension_determines_the_slice() {
    let (path, use_path) = ("Patient.contact", "Patient.contact.extension");
    let extension = json!({ "resourceType": "StructureDefinition", "url": format!("{OWN}use"), "name": "use", "status": "active",
        "kind": "complex-type", "abstract": false, "type": "Extension", "derivation": "constraint",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Extension", "context": [{ "type": "element", "expression": "Element" }],
        "differential": { "element": [{ "id": "Extension.url", "path": "Extension.url", "fixedUri": format!("{OWN}use") }] } });
    let own = profile(
        "p",
        "Patient",
        json!([
            { "id": path, "path": path, "slicing": by("value", "$this.extension.value") },
            { "id": format!("{path}:primary"), "path": path, "sliceName": "primary", "min": 0, "max": "1" },
            { "id": format!("{path}:primary.extension:use"), "path": use_path, "sliceName": "use", "min": 1,
              "type": [{ "code": "Extension", "profile": [format!("{OWN}use")] }] },
            { "id": format!("{path}:primary.extension:use.value[x]"), "path": format!("{use_path}.value[x]"),
              "patternCoding": { "system": "urn:s", "code": "primary" } },
            { "id": format!("{path}:primary.name"), "path": format!("{path}.name"), "min": 1 },
            { "id": format!("{path}:other"), "path": path, "sliceName": "other", "min": 0, "max": "*" },
            { "id": format!("{path}:other.extension:use"), "path": use_path, "sliceName": "use", "min": 1,
              "type": [{ "code": "Extension", "profile": [format!("{OWN}use")] }] },
            { "id": format!("{path}:other.extension:use.value[x]"), "path": format!("{use_path}.value[x]"),
              "patternCoding": { "system": "urn:s", "code": "other" } },
        ]),
    );
    let contact = |code: &str| json!({ "extension": [{ "url": format!("{OWN}use"), "valueCoding": { "system": "urn:s", "code": code } }], "gender": "male" });
    let with = |codes: &[&str]| json!({ "resourceType": "Patient", "contact": codes.iter().map(|code| contact(code)).collect::<Vec<_>>() });
    cases(
        &[own, extension],
        &[
            (with(&["primary", "other", "other"]), &["error profile-min Patient.contact[0]"]),
            (with(&["other", "strange"]), &["error slicing Patient.contact[1]"]),
        ],
    );
}

#[test]
fn a_reference_that_resolves_to_nothing_leaves_a_slice_undecided() {
    let path = "Appointment.participant";
    let own = |kind: &str, min: u32| {
        let target = json!({ "id": format!("{path}:hs.actor"), "path": format!("{path}.actor"), "min": 1,
            "type": [{ "code": "Reference", "targetProfile": ["http://hl7.org/fhir/StructureDefinition/HealthcareService"] }] });
        let mut slicing = by(kind, "actor.resolve()");
        slicing["rules"] = json!("open");
        profile(
            "a",
            "Appointment",
            json!([
            { "id": path, "path": path, "slicing": slicing },
            { "id": format!("{path}:hs"), "path": path, "sliceName": "hs", "min": min }, target]),
        )
    };
    for kind in ["type", "profile"] {
        for actor in [
            json!({ "type": "HealthcareService", "identifier": { "system": "urn:s", "value": "1" } }),
            json!({ "identifier": { "value": "1" } }),
            json!({ "display": "the desk" }),
            json!({ "reference": "HealthcareService/1" }),
        ] {
            let appointment =
                json!({ "resourceType": "Appointment", "participant": [{ "actor": actor, "status": "accepted" }] });
            assert_eq!(found(&[own(kind, 1)], FhirVersion::R4, &appointment), Vec::<String>::new(), "{kind} {actor}");
        }
        let without = json!({ "resourceType": "Appointment", "participant": [{ "status": "accepted" }] });
        assert_eq!(found(&[own(kind, 1)], FhirVersion::R4, &without), ["error profile-min Appointment"], "{kind}");
    }
}

#[test]
fn the_target_of_a_reference_is_where_the_profile_requires_it() {
    let own = |modes: &[&str]| {
        let element = json!([{ "id": "Observation.subject", "path": "Observation.subject",
            "type": [{ "code": "Reference", "targetProfile": ["http://hl7.org/fhir/StructureDefinition/Patient"], "aggregation": modes }] }]);
        let mut focus = json!([{ "code": "Observation", "profile": format!("{OWN}o"), "min": 0, "max": "*" }]);
        focus[0]["min"] = json!(1);
        [profile("o", "Observation", element), definition(json!({ "focus": focus }))]
    };
    let observation = |reference: &str| {
        json!({ "resourceType": "Observation", "id": "o", "status": "final", "code": { "text": "x" },
            "contained": [{ "resourceType": "Patient", "id": "c" }], "subject": { "reference": reference } })
    };
    let patient = json!({ "resourceType": "Patient", "id": "p" });
    let wrong: &[&str] = &["error aggregation Bundle.entry[1].resource.subject"];
    for (modes, reference, expected) in [
        (&["bundled"][..], "Patient/p", &[][..]),
        (&["bundled"], "Patient/elsewhere", wrong),
        (&["bundled"], "#c", wrong),
        (&["contained"], "#c", &[]),
        (&["contained"], "Patient/p", wrong),
        (&["contained", "bundled"], "Patient/p", &[]),
        (&["referenced"], "Patient/p", &[]),
        (&["referenced"], "Patient/elsewhere", &[]),
        (&["referenced"], "#c", wrong),
    ] {
        let sent = message(json!({}), &["Observation/o"], &[observation(reference), patient.clone()]);
        assert_eq!(message_found(&own(modes), &sent), expected, "{modes:?} {reference}");
    }
}

#[test]
fn a_coding_needs_a_system_that_a_value_set_without_a_list_of_codes_includes() {
    let value_set = json!({ "resourceType": "ValueSet", "url": format!("{OWN}set"), "status": "active",
        "compose": { "include": [{ "system": "urn:large", "filter": [{ "property": "concept", "op": "is-a", "value": "1" }] }] } });
    let own = profile(
        "p",
        "Observation",
        json!([{ "id": "Observation.code", "path": "Observation.code",
            "binding": { "strength": "required", "valueSet": format!("{OWN}set") } }]),
    );
    let with = |code: Value| json!({ "resourceType": "Observation", "status": "final", "code": code });
    let unchecked: &[&str] = &["warning binding Observation.code"];
    let wrong: &[&str] = &["error binding Observation.code"];
    cases(
        &[own, value_set],
        &[
            (with(json!({ "coding": [{ "system": "urn:large", "code": "1" }] })), unchecked),
            (with(json!({ "coding": [{ "system": "urn:other", "code": "1" }] })), wrong),
            (
                with(
                    json!({ "coding": [{ "system": "urn:other", "code": "1" }, { "system": "urn:large", "code": "2" }] }),
                ),
                unchecked,
            ),
            (with(json!({ "coding": [{ "code": "1" }] })), wrong),
            (with(json!({ "text": "words alone" })), wrong),
        ],
    );
}

#[test]
fn a_discriminator_without_a_value_leaves_the_decision_to_the_others() {
    let path = "Patient.identifier";
    let own = profile(
        "p",
        "Patient",
        json!([
            { "id": path, "path": path, "slicing": { "rules": "open", "discriminator": [
                { "type": "value", "path": "system" }, { "type": "value", "path": "type" }] } },
            { "id": format!("{path}:a"), "path": path, "sliceName": "a", "min": 1, "max": "1" },
            { "id": format!("{path}:a.system"), "path": format!("{path}.system"), "fixedUri": "urn:a" }]),
    );
    let with = |systems: &[&str]| json!({ "resourceType": "Patient", "identifier": systems.iter().map(|one| json!({ "system": one })).collect::<Vec<_>>() });
    cases(
        &[own],
        &[
            (with(&["urn:a", "urn:b"]), &[]),
            (with(&["urn:b"]), &["error profile-min Patient"]),
            (with(&["urn:a", "urn:a"]), &["error profile-max Patient.identifier"]),
        ],
    );
}

#[test]
fn a_profile_that_is_loaded_but_cannot_be_used_is_reported_with_the_reason() {
    let focus = |canonical: &str| {
        definition(json!({ "focus": [{ "code": "Patient", "profile": canonical, "min": 0, "max": "*" }] }))
    };
    let mut of_r5 = profile("p", "Patient", json!([]));
    of_r5["fhirVersion"] = json!("5.0.0");
    let mut special = profile("p", "Patient", json!([]));
    special["derivation"] = json!("specialization");
    let patient = json!({ "resourceType": "Patient", "id": "p" });
    let sent = message(json!({}), &["Patient/p"], &[patient]);
    for (own, canonical, reason) in [
        (of_r5, format!("{OWN}p"), "is loaded, but for FHIR 5.0.0, and the message is FHIR 4.0.1"),
        (special, format!("{OWN}p"), "it is not a constraint"),
        (profile("p", "Patient", json!([])), format!("{OWN}p|9.0"), "is loaded in the version 1.0.0, not in 9.0"),
    ] {
        let definitions = loaded(&[own, focus(&canonical)]);
        let (profiles, notices) = Profiles::compile(&definitions.catalog, FhirVersion::R4);
        assert!(notices.iter().any(|notice| notice.contains(&format!("{OWN}p"))), "{canonical}: {notices:?}");
        let tree = json::parse(Bytes::from(sent.to_string())).expect("JSON");
        let message = Message::read(tree, Some(FhirVersion::R4), None).expect("a message");
        let definition = definitions.catalog.by_canonical("urn:definition");
        let issues = check_profiles(&message, definition, (&definitions.catalog, &profiles), ProfileOptions::default());
        assert_eq!(issues.len(), 1, "{issues:?}");
        assert!(issues[0].diagnostics.contains(reason), "{}", issues[0].diagnostics);
        assert!(!issues[0].diagnostics.contains("Load it"), "{}", issues[0].diagnostics);
    }
}

#[test]
fn limits_of_quantities_apply_across_units_of_ucum() {
    const UCUM: &str = "http://unitsofmeasure.org";
    let elements = json!([{ "id": "Observation.value[x]", "path": "Observation.value[x]", "type": [{ "code": "Quantity" }],
        "minValueQuantity": { "value": 1, "system": UCUM, "code": "kg" },
        "maxValueQuantity": { "value": 2, "system": UCUM, "code": "kg" } }]);
    let weight = |value: f64, system: &str, code: &str| {
        json!({ "resourceType": "Observation", "status": "final", "code": { "text": "x" },
            "valueQuantity": { "value": value, "system": system, "code": code } })
    };
    let wrong = "error profile-value Observation.value.ofType(Quantity)";
    cases(
        &[profile("weight", "Observation", elements)],
        &[
            (weight(1500.0, UCUM, "g"), &[]),
            (weight(500.0, UCUM, "g"), &[wrong]),
            (weight(2500.0, UCUM, "g"), &[wrong]),
            (weight(0.0015, UCUM, "t"), &[]),
            (weight(0.5, UCUM, "kg"), &[wrong]),
            // These cannot be compared.
            (weight(0.5, UCUM, "mmol"), &[]),
            (weight(0.5, "urn:own", "g"), &[]),
        ],
    );
}

/// A base invariant and a profile's constraint get the same result for the same expression.
#[test]
fn references_resolve_alike_in_invariants_and_in_profiles() {
    use crate::structure;
    use emberpost_fhir::schema::Schema;
    let team = |member: &str| {
        json!({ "resourceType": "CareTeam", "id": "t", "meta": { "profile": [format!("{OWN}team")] },
            "contained": [{ "resourceType": "Patient", "id": "c" }],
            "participant": [{ "member": { "reference": member }, "onBehalfOf": { "display": "x" } }] })
    };
    let own = profile(
        "team",
        "CareTeam",
        json!([{ "id": "CareTeam", "path": "CareTeam", "constraint": [{ "key": "own-1", "severity": "error", "human": "x",
            "expression": "participant.member.resolve().all($this is Practitioner)" }] }]),
    );
    // Relative to the entry's own base, by fullUrl, contained, the container itself, and nowhere.
    for (member, leads) in [
        ("Patient/p", true),
        ("https://x.example/fhir/Patient/p", true),
        ("#c", true),
        ("#", true),
        ("Patient/none", false),
    ] {
        let whole =
            message(json!({}), &["CareTeam/t"], &[team(member), json!({ "resourceType": "Patient", "id": "p" })]);
        let found = message_found(std::slice::from_ref(&own), &whole);
        assert_eq!(found.iter().any(|issue| issue.contains("own-1")), leads, "{member}: {found:?}");
        let tree = json::parse(Bytes::from(whole.to_string())).expect("JSON");
        let mut collector = IssueCollector::new(&tree, ProseRules::default());
        structure::check(&tree, Schema::of(FhirVersion::R4), structure::Options::default(), &mut collector);
        let issues = collector.finish();
        let is_broken = issues.iter().any(|issue| issue.rule.as_deref() == Some("ctm-1"));
        assert_eq!(is_broken, leads, "{member}: {issues:?}");
    }
}

#[test]
fn an_open_value_set_of_the_base_requires_a_coding_of_its_systems() {
    let own = profile(
        "patient",
        "Patient",
        json!([{ "id": "Patient.communication.language", "path": "Patient.communication.language",
            "binding": { "strength": "required", "valueSet": "http://hl7.org/fhir/ValueSet/all-languages" } }]),
    );
    let path = "Patient.communication[0].language";
    let speaks = |system: &str| json!({ "resourceType": "Patient", "communication": [{ "language": { "coding": [{ "system": system, "code": "da" }] } }] });
    cases(
        &[own],
        &[
            (speaks("urn:ietf:bcp:47"), &[&format!("warning binding {path}")]),
            (speaks("urn:own"), &[&format!("error binding {path}")]),
        ],
    );
}
