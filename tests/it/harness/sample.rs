//! Message Bundles with sensible content: a `patient-link` about a Patient, from `sender` to whom the test says.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

/// The source of samples, of the participant `sender` (`Party::sender`).
pub const SOURCE: &str = "http://sender.example/fhir";
/// The system of the events that FHIR itself names.
pub const EVENT_SYSTEM: &str = "http://hl7.org/fhir/message-events";

/// A message that can still be changed. Its identities come from its number, so that equal numbers make equal messages.
#[derive(Clone, Debug)]
pub struct Sample {
    number: u64,
    r5: bool,
    event: (String, String),
    source: Option<String>,
    destinations: Vec<String>,
    bundle_id: String,
    header_id: String,
    patient: String,
    padding_bytes: usize,
    changes: Vec<(String, Value)>,
}

impl Sample {
    /// An R4 message that differs from every other one of this test run.
    pub fn new() -> Sample {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Sample::numbered(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// An R4 message whose identities are made from `number`.
    pub fn numbered(number: u64) -> Sample {
        Sample {
            number,
            r5: false,
            event: (EVENT_SYSTEM.to_owned(), "patient-link".to_owned()),
            source: Some(SOURCE.to_owned()),
            destinations: Vec::new(),
            bundle_id: id('b', number),
            header_id: id('c', number),
            patient: "p1".to_owned(),
            padding_bytes: 0,
            changes: Vec::new(),
        }
    }

    /// In R5's spelling: `endpointUrl`, and identified by `Bundle.identifier`.
    pub fn r5(mut self) -> Sample {
        self.r5 = true;
        self
    }

    /// The event's code, in FHIR's own system.
    pub fn event(self, code: &str) -> Sample {
        self.event_of(EVENT_SYSTEM, code)
    }

    pub fn event_of(mut self, system: &str, code: &str) -> Sample {
        self.event = (system.to_owned(), code.to_owned());
        self
    }

    pub fn from(mut self, source: &str) -> Sample {
        self.source = Some(source.to_owned());
        self
    }

    pub fn without_source(mut self) -> Sample {
        self.source = None;
        self
    }

    /// One more destination.
    pub fn to(mut self, destination: &str) -> Sample {
        self.destinations.push(destination.to_owned());
        self
    }

    /// To the participant `id`, whose addresses are those that `Party::new` gives.
    pub fn addressed_to(self, id: &str) -> Sample {
        self.to(&format!("http://{id}.example/fhir"))
    }

    pub fn with_bundle_id(mut self, id: &str) -> Sample {
        self.bundle_id = id.to_owned();
        self
    }

    pub fn with_header_id(mut self, id: &str) -> Sample {
        self.header_id = id.to_owned();
        self
    }

    /// The first identifier of the Patient in focus: the key of its lane where `order = "subject"`.
    pub fn about(mut self, patient: &str) -> Sample {
        self.patient = patient.to_owned();
        self
    }

    /// A text of this length in the Patient's name.
    pub fn padded(mut self, bytes: usize) -> Sample {
        self.padding_bytes = bytes;
        self
    }

    /// Sets what stands at a JSON pointer, such as `/entry/0/resource/reason`; the parent must be there.
    pub fn set(mut self, pointer: &str, value: Value) -> Sample {
        self.changes.push((pointer.to_owned(), value));
        self
    }

    /// Takes away what stands at a JSON pointer.
    pub fn unset(self, pointer: &str) -> Sample {
        self.set(pointer, Value::Null)
    }

    /// Makes it a response message to the request with this identifier (R4: MessageHeader.id).
    pub fn answering(self, identifier: &str, code: &str) -> Sample {
        let identifier = if self.r5 { json!({ "value": identifier }) } else { json!(identifier) };
        self.set("/entry/0/resource/response", json!({ "identifier": identifier, "code": code }))
    }

    pub fn bundle_id(&self) -> String {
        self.bundle_id.clone()
    }

    pub fn header_id(&self) -> String {
        self.header_id.clone()
    }

    /// The value of `Bundle.identifier`, which only R5 messages have.
    pub fn identifier_value(&self) -> String {
        format!("urn:uuid:{}", id('d', self.number))
    }

    /// The message as JSON bytes, the same each time.
    pub fn bytes(&self) -> Vec<u8> {
        self.value().to_string().into_bytes()
    }

    /// The message as a value.
    pub fn value(&self) -> Value {
        let endpoint = if self.r5 { "endpointUrl" } else { "endpoint" };
        let patient_url = format!("urn:uuid:{}", id('a', self.number));
        let mut header = json!({
            "resourceType": "MessageHeader",
            "id": self.header_id,
            "eventCoding": { "system": self.event.0, "code": self.event.1 },
            "focus": [{ "reference": patient_url }],
        });
        if let Some(source) = &self.source {
            header["source"] = json!({ endpoint: source });
        }
        if !self.destinations.is_empty() {
            header["destination"] = self.destinations.iter().map(|address| json!({ endpoint: address })).collect();
        }
        let patient = json!({
            "resourceType": "Patient",
            "identifier": [{ "system": "http://sender.example/patients", "value": self.patient }],
            "name": [{ "family": format!("Sample{}", "x".repeat(self.padding_bytes)) }],
        });
        let mut bundle = json!({
            "resourceType": "Bundle",
            "id": self.bundle_id,
            "type": "message",
            "timestamp": "2026-01-01T10:00:00Z",
            "entry": [
                { "fullUrl": format!("urn:uuid:{}", self.header_id), "resource": header },
                { "fullUrl": patient_url, "resource": patient },
            ],
        });
        if self.r5 {
            bundle["identifier"] = json!({ "system": "urn:ietf:rfc:3986", "value": self.identifier_value() });
        }
        for (pointer, value) in &self.changes {
            change(&mut bundle, pointer, value.clone());
        }
        bundle
    }
}

/// A UUID that shows what it is for and which message it belongs to.
fn id(kind: char, number: u64) -> String {
    let zeros = "0000000";
    format!("{kind}{zeros}-0000-4000-8000-{number:012x}")
}

#[track_caller]
fn change(bundle: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a JSON pointer begins with /");
    let parent = bundle.pointer_mut(parent).unwrap_or_else(|| panic!("a sample has nothing at {parent}"));
    match (parent, value) {
        (Value::Object(object), Value::Null) => drop(object.remove(key)),
        (Value::Object(object), value) => drop(object.insert(key.to_owned(), value)),
        (Value::Array(array), Value::Null) => drop(array.remove(key.parse().expect("an index"))),
        (Value::Array(array), value) => array.insert(key.parse().expect("an index"), value),
        (other, _) => panic!("nothing can be set within {other}"),
    }
}

#[test]
fn equal_numbers_make_equal_messages_and_new_ones_differ() {
    assert_eq!(Sample::numbered(7).bytes(), Sample::numbered(7).bytes());
    assert_ne!(Sample::new().bytes(), Sample::new().bytes());
    let message = Sample::new().r5().addressed_to("lab").unset("/timestamp").answering("x", "ok").value();
    assert_eq!(message["entry"][0]["resource"]["destination"][0]["endpointUrl"], "http://lab.example/fhir");
    assert_eq!(message["entry"][0]["resource"]["response"]["identifier"]["value"], "x");
    assert!(message.get("timestamp").is_none());
}
