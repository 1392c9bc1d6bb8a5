//! Test cases of our own: changes to a message that must be refused, with the element, and changes that must be
//! accepted.

use super::oracle::check;
use fhir::{FhirVersion, Format, Issue};
use serde_json::{Value, json};

/// One change to the base message.
pub struct Case {
    pub name: &'static str,
    /// The element at fault; None if the message stays valid. Written without `Bundle.entry`:
    /// `[1].resource.birthDate`.
    pub at: Option<&'static str>,
    /// The versions to which this applies.
    pub versions: &'static [FhirVersion],
    change: fn(&mut Value),
}

const ALL: &[FhirVersion] = &[FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5];
const R4: &[FhirVersion] = &[FhirVersion::R4, FhirVersion::R4B];
const R5: &[FhirVersion] = &[FhirVersion::R5];

const fn refused(name: &'static str, at: &'static str, change: fn(&mut Value)) -> Case {
    Case { name, at: Some(at), versions: ALL, change }
}

const fn accepted(name: &'static str, change: fn(&mut Value)) -> Case {
    Case { name, at: None, versions: ALL, change }
}

const fn only(versions: &'static [FhirVersion], case: Case) -> Case {
    Case { versions, ..case }
}

fn patient(message: &mut Value) -> &mut Value {
    &mut message["entry"][1]["resource"]
}

fn observation(message: &mut Value) -> &mut Value {
    &mut message["entry"][2]["resource"]
}

fn organization(message: &mut Value) -> &mut Value {
    &mut message["entry"][3]["resource"]
}

fn narrative(message: &mut Value, inner: &str) {
    let div = format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{inner}</div>");
    patient(message)["text"] = json!({ "status": "generated", "div": div });
}

fn remove(object: &mut Value, name: &str) {
    if let Some(members) = object.as_object_mut() {
        members.remove(name);
    }
}

pub const CASES: &[Case] = &[
    refused("element-of-another-backbone", "[1].resource.contact[0]", |m| {
        patient(m)["contact"][0]["given"] = json!(["A"])
    }),
    refused("category-not-in-an-array", "[2].resource.category", |m| {
        observation(m)["category"] = json!({ "text": "laboratory" });
    }),
    refused("observation-without-code", "[2].resource", |m| remove(observation(m), "code")),
    refused("link-without-other", "[1].resource.link[0]", |m| patient(m)["link"] = json!([{ "type": "seealso" }])),
    refused("communication-without-language", "[1].resource.communication[0]", |m| {
        patient(m)["communication"] = json!([{ "preferred": true }]);
    }),
    refused("multiple-birth-with-a-fraction", "[1].resource.multipleBirth", |m| {
        patient(m)["multipleBirthInteger"] = json!(1.5);
    }),
    refused("rank-as-a-string", "[1].resource.telecom[0].rank", |m| patient(m)["telecom"][0]["rank"] = json!("1")),
    refused("rank-zero", "[1].resource.telecom[0].rank", |m| patient(m)["telecom"][0]["rank"] = json!(0)),
    refused("rank-beyond-32-bits", "[1].resource.telecom[0].rank", |m| {
        patient(m)["telecom"][0]["rank"] = json!(2_147_483_648_u64);
    }),
    refused("active-is-null", "[1].resource.active", |m| patient(m)["active"] = Value::Null),
    refused("quantity-value-as-a-string", "[2].resource.value.value", |m| {
        observation(m)["valueQuantity"]["value"] = json!("6.3");
    }),
    refused("given-holds-an-object", "[1].resource.name[0].given[0]", |m| {
        patient(m)["name"][0]["given"] = json!([{ "value": "A" }]);
    }),
    refused("choice-twice-once-by-extension", "[1].resource", |m| {
        patient(m)["deceasedBoolean"] = json!(false);
        patient(m)["_deceasedDateTime"] = json!({ "extension": [{ "url": "urn:x", "valueCode": "x" }] });
    }),
    refused("multiple-birth-twice", "[1].resource", |m| {
        patient(m)["multipleBirthBoolean"] = json!(true);
        patient(m)["multipleBirthInteger"] = json!(2);
    }),
    accepted("effective-timing", |m| {
        remove(observation(m), "effectiveDateTime");
        observation(m)["effectiveTiming"] = json!({ "event": ["2026-01-01T08:00:00Z"] });
    }),
    only(
        R4,
        refused("value-attachment-before-r5", "[2].resource", |m| {
            remove(observation(m), "valueQuantity");
            observation(m)["valueAttachment"] = json!({ "contentType": "text/plain" });
        }),
    ),
    only(
        R5,
        accepted("value-attachment-in-r5", |m| {
            remove(observation(m), "valueQuantity");
            observation(m)["valueAttachment"] = json!({ "contentType": "text/plain" });
        }),
    ),
    refused("no-leap-day-in-1900", "[1].resource.birthDate", |m| patient(m)["birthDate"] = json!("1900-02-29")),
    accepted("leap-day-in-2000", |m| patient(m)["birthDate"] = json!("2000-02-29")),
    refused("hour-24", "[2].resource.effective", |m| {
        observation(m)["effectiveDateTime"] = json!("2026-01-01T24:00:00Z")
    }),
    refused("minutes-with-a-fraction", "[2].resource.effective", |m| {
        observation(m)["effectiveDateTime"] = json!("2026-01-01T10:00.5Z");
    }),
    accepted("instant-with-minus-zero-zone", |m| observation(m)["issued"] = json!("2026-01-01T10:00:00.5-00:00")),
    refused("issued-without-a-time", "[2].resource.issued", |m| observation(m)["issued"] = json!("2026-01-01")),
    accepted("id-of-one-dot", |m| {
        observation(m)["contained"] = json!([{ "resourceType": "Device", "id": "." }]);
        observation(m)["device"] = json!({ "reference": "#." });
    }),
    refused("uri-with-a-leading-space", "[1].resource.identifier[0].system", |m| {
        patient(m)["identifier"][0]["system"] = json!(" urn:oid:1.2.3");
    }),
    refused("base64-with-one-letter-left-over", "[1].resource.photo[0].data", |m| {
        patient(m)["photo"] = json!([{ "contentType": "image/png", "data": "AAAAA" }]);
    }),
    accepted("birth-date-by-extension-only", |m| {
        remove(patient(m), "birthDate");
        patient(m)["_birthDate"] = json!({ "extension": [{ "url": "urn:x", "valueBoolean": true }] });
    }),
    refused("sibling-is-null", "[1].resource.birthDate", |m| patient(m)["_birthDate"] = Value::Null),
    refused("extension-of-a-date-without-url", "[1].resource.birthDate.extension[0]", |m| {
        patient(m)["_birthDate"] = json!({ "extension": [{ "valueBoolean": true }] });
    }),
    refused("contact-gender-unknown", "[1].resource.contact[0].gender", |m| {
        patient(m)["contact"][0]["gender"] = json!("m");
    }),
    refused("status-with-a-capital", "[2].resource.status", |m| observation(m)["status"] = json!("Final")),
    refused("comparator-reversed", "[2].resource.value.comparator", |m| {
        observation(m)["valueQuantity"]["comparator"] = json!("=<");
    }),
    refused("narrative-status-unknown", "[1].resource.text.status", |m| {
        narrative(m, "<p>Text</p>");
        patient(m)["text"]["status"] = json!("none");
    }),
    refused("link-type-unknown", "[1].resource.link[0].type", |m| {
        patient(m)["link"] = json!([{ "other": { "display": "other" }, "type": "replaces" .to_owned() + "-it" }]);
    }),
    refused("period-reversed-by-a-minute", "[1].resource.identifier[0].period", |m| {
        patient(m)["identifier"][0]["period"] =
            json!({ "start": "2026-01-01T10:01:00+01:00", "end": "2026-01-01T09:00:00Z" });
    }),
    refused("reference-range-with-comparator", "[2].resource.referenceRange[0].low", |m| {
        observation(m)["referenceRange"] = json!([{ "low": { "value": 1, "comparator": "<" } }]);
    }),
    refused("nameless-organization-contained", "[1].resource.contained[0]", |m| {
        patient(m)["contained"] = json!([{ "resourceType": "Organization", "id": "o" }]);
        patient(m)["managingOrganization"] = json!({ "reference": "#o" });
    }),
    accepted("contained-used-in-an-extension", |m| {
        patient(m)["contained"] = json!([{ "resourceType": "Organization", "id": "o", "name": "O" }]);
        patient(m)["_birthDate"] =
            json!({ "extension": [{ "url": "urn:x", "valueReference": { "reference": "#o" } }] });
    }),
    refused("fragment-that-leads-nowhere-in-an-extension", "[1].resource.extension[0].value", |m| {
        patient(m)["extension"] = json!([{ "url": "urn:x", "valueReference": { "reference": "#gone" } }]);
    }),
    refused("two-quantities-in-an-extension", "[1].resource.extension[0]", |m| {
        patient(m)["extension"] = json!([{ "url": "urn:x", "valueInteger": 1, "valueBoolean": true }]);
    }),
    refused("home-telecom-of-an-organization", "[3].resource", |m| {
        // R5 moved its contact details.
        match m.get("identifier") {
            Some(_) => {
                organization(m)["contact"] =
                    json!([{ "telecom": [{ "system": "phone", "value": "1", "use": "home" }] }])
            }
            None => organization(m)["telecom"] = json!([{ "system": "phone", "value": "1", "use": "home" }]),
        }
    }),
    refused("svg-in-the-narrative", "[1].resource.text.div", |m| narrative(m, "<svg/>")),
    refused("upper-case-element-in-the-narrative", "[1].resource.text.div", |m| narrative(m, "<B>x</B>")),
    refused("line-break-not-closed", "[1].resource.text.div", |m| narrative(m, "a<br>b")),
    refused("attribute-without-quotes", "[1].resource.text.div", |m| {
        narrative(m, "<table><tr><td colspan=2>x</td></tr></table>");
    }),
    accepted("table-in-the-narrative", |m| narrative(m, "<table><tr><td colspan=\"2\">x</td></tr></table>")),
    refused("reference-to-an-entry-of-another-type", "[2].resource.subject", |m| {
        let place = m["entry"][0]["fullUrl"].clone();
        observation(m)["subject"] = json!({ "reference": place });
    }),
    refused("component-without-code", "[2].resource.component[0]", |m| {
        observation(m)["component"] = json!([{ "valueBoolean": true }]);
    }),
];

/// The message that is changed.
pub fn base(version: FhirVersion) -> Value {
    let url = |n: u8| format!("urn:uuid:7d4a1f60-2c1b-4a7e-9a55-0c8d2f3b1e0{n}");
    let id = |n: u8| format!("7d4a1f60-2c1b-4a7e-9a55-0c8d2f3b1e0{n}");
    let is_r5 = version == FhirVersion::R5;
    let endpoint = if is_r5 { "endpointUrl" } else { "endpoint" };
    let mut message = json!({
        "resourceType": "Bundle", "id": "own", "type": "message", "timestamp": "2026-01-01T10:00:00Z",
        "entry": [
            { "fullUrl": url(1), "resource": { "resourceType": "MessageHeader", "id": id(1),
                "eventCoding": { "system": "urn:example:events", "code": "made" },
                "source": { endpoint: "https://sender.example/fhir" }, "focus": [{ "reference": url(3) }] } },
            { "fullUrl": url(2), "resource": { "resourceType": "Patient", "id": id(2), "active": true,
                "identifier": [{ "system": "urn:oid:1.2.3", "value": "1" }],
                "name": [{ "family": "Example", "given": ["Ada"] }], "birthDate": "1980-05-17", "gender": "female",
                "telecom": [{ "system": "phone", "value": "1" }],
                "contact": [{ "name": { "family": "Other" } }],
                "managingOrganization": { "reference": url(4) } } },
            { "fullUrl": url(3), "resource": { "resourceType": "Observation", "id": id(3), "status": "final",
                "code": { "text": "Example" }, "subject": { "reference": url(2) },
                "effectiveDateTime": "2026-01-01T10:00:00Z",
                "valueQuantity": { "value": 6.3, "unit": "mmol/l" } } },
            { "fullUrl": url(4), "resource": { "resourceType": "Organization", "id": id(4), "name": "Example" } },
        ],
    });
    if is_r5 {
        message["identifier"] = json!({ "system": "urn:ietf:rfc:3986", "value": url(9) });
    }
    message
}

/// The result of a case in one version and format.
pub struct CaseResult {
    pub case: &'static Case,
    pub version: FhirVersion,
    pub issues: Vec<Issue>,
}

impl CaseResult {
    /// Whether it was refused at the right element, or accepted, as expected.
    pub fn is_right(&self) -> bool {
        let mut errors = self.issues.iter().filter(|issue| issue.is_error());
        match self.case.at {
            None => errors.next().is_none(),
            Some(at) => errors.any(|issue| {
                issue
                    .expression
                    .as_deref()
                    .is_some_and(|found| super::oracle::is_near(found, &format!("Bundle.entry{at}")))
            }),
        }
    }
}

/// Runs every case in each of its versions, in JSON.
pub fn run() -> Vec<CaseResult> {
    let mut all = Vec::new();
    for case in CASES {
        for &version in case.versions {
            let mut message = base(version);
            (case.change)(&mut message);
            all.push(CaseResult {
                case,
                version,
                issues: check(message.to_string().into_bytes(), Format::Json, version),
            });
        }
    }
    all
}
