//! The messages that the benchmark sends, and the answers that its receiver returns.
//!
//! One template per sender, whose identities are overwritten in place: making a message is a copy and a few writes
//! of 36 characters, to keep the senders' share of the machine small.

use uuid::Uuid;

/// The start of every sender's source address; the sender's number follows.
pub const SENDER_ADDRESS: &str = "http://bench.example/sender/";
/// The address of the receiver that answers over HTTP.
pub const RECEIVER_ADDRESS: &str = "http://bench.example/receiver";
/// The address of a receiver that takes half a minute for each message.
pub const SLOW_ADDRESS: &str = "http://bench.example/slow";
/// The address of the participant with a mailbox.
pub const MAILBOX_ADDRESS: &str = "http://bench.example/mailbox";

const BUNDLE_ID: &str = "00000000-0000-4000-8000-00000000000b";
const HEADER_ID: &str = "00000000-0000-4000-8000-00000000000c";
const EVENT: &str = r#"{"system":"http://hl7.org/fhir/message-events","code":"observation-provide"}"#;
const PATIENT_URL: &str = "urn:uuid:00000000-0000-4000-8000-0000000000aa";
/// Characters in the note of each Observation except the last, whose note fills the message to its size.
const NOTE_CHARS: usize = 512;

/// An R4 message Bundle with gaps for its identities.
pub struct Template {
    bytes: Vec<u8>,
    bundle_id_at: Vec<usize>,
    header_id_at: Vec<usize>,
}

impl Template {
    /// A message of about `size_bytes` (at least about 1,700): a MessageHeader, a Patient, and as many Observations
    /// as fit, with notes of random base64 text, which compresses by a quarter at most.
    pub fn new(size_bytes: usize, source: &str, destination: &str) -> Template {
        let mut count = 1;
        while render(source, destination, &vec![NOTE_CHARS; count + 1]).len() <= size_bytes {
            count += 1;
        }
        let mut notes = vec![NOTE_CHARS; count];
        notes[count - 1] = 1;
        let bare = render(source, destination, &notes).len();
        notes[count - 1] += size_bytes.saturating_sub(bare);
        Template::of(render(source, destination, &notes))
    }

    /// As `new`, with the extension that requests no answer (MSG-49).
    pub fn without_answer(size_bytes: usize, source: &str, destination: &str) -> Template {
        const NEVER: &str = r#""extension":[{"url":"http://hl7.org/fhir/StructureDefinition/messageheader-response-request","valueCode":"never"}],"eventCoding":"#;
        const PLAIN: &str = "\"eventCoding\":";
        let whole = Template::new(size_bytes.saturating_sub(NEVER.len() - PLAIN.len()), source, destination);
        Template::of(String::from_utf8_lossy(&whole.bytes).replacen(PLAIN, NEVER, 1))
    }

    fn of(text: String) -> Template {
        let places = |id: &str| text.match_indices(id).map(|(at, _)| at).collect();
        Template { bundle_id_at: places(BUNDLE_ID), header_id_at: places(HEADER_ID), bytes: text.into_bytes() }
    }

    /// A message with these identities: the text of each UUID, 36 characters.
    pub fn fill(&self, bundle_id: Uuid, header_id: Uuid) -> Vec<u8> {
        let mut message = self.bytes.clone();
        for (places, id) in [(&self.bundle_id_at, bundle_id), (&self.header_id_at, header_id)] {
            for &at in places {
                id.hyphenated().encode_lower(&mut message[at..]);
            }
        }
        message
    }
}

/// The answer `ok` to a request of the benchmark, or `None` if the bytes are not such a request.
///
/// Finds the request's MessageHeader.id and source by plain text search, which works for these templates only.
pub fn answer(request: &[u8], bundle_id: Uuid, header_id: Uuid) -> Option<String> {
    let header = after(request, br#""resourceType":"MessageHeader","id":""#)?;
    let request_id = std::str::from_utf8(header.get(..36)?).ok()?;
    let source = after(header, br#""source":{"endpoint":""#)?;
    let source = std::str::from_utf8(source.split(|byte| *byte == b'"').next()?).ok()?;
    Some(format!(
        r#"{{"resourceType":"Bundle","id":"{bundle_id}","type":"message","timestamp":"2026-01-01T10:00:00Z","entry":[{{"fullUrl":"urn:uuid:{header_id}","resource":{{"resourceType":"MessageHeader","id":"{header_id}","eventCoding":{EVENT},"destination":[{{"endpoint":"{source}"}}],"source":{{"endpoint":"{RECEIVER_ADDRESS}"}},"response":{{"identifier":"{request_id}","code":"ok"}}}}}}]}}"#
    ))
}

/// Whether `text` contains `part`.
pub fn holds(text: &[u8], part: &[u8]) -> bool {
    after(text, part).is_some()
}

fn after<'a>(text: &'a [u8], part: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(part.len()).position(|window| window == part)?;
    Some(&text[at + part.len()..])
}

fn render(source: &str, destination: &str, notes: &[usize]) -> String {
    let url = |number: usize| format!("urn:uuid:00000000-0000-4000-9000-{number:012}");
    let focus: Vec<_> = (0..notes.len()).map(|number| format!(r#"{{"reference":"{}"}}"#, url(number))).collect();
    let mut text = format!(
        r#"{{"resourceType":"Bundle","id":"{BUNDLE_ID}","type":"message","timestamp":"2026-01-01T10:00:00Z","entry":[{{"fullUrl":"urn:uuid:{HEADER_ID}","resource":{{"resourceType":"MessageHeader","id":"{HEADER_ID}","eventCoding":{EVENT},"destination":[{{"endpoint":"{destination}"}}],"source":{{"endpoint":"{source}"}},"focus":[{}]}}}},{{"fullUrl":"{PATIENT_URL}","resource":{{"resourceType":"Patient","identifier":[{{"system":"http://bench.example/patients","value":"1"}}],"name":[{{"family":"Bench"}}]}}}}"#,
        focus.join(",")
    );
    let mut random = 0x9E37_79B9_7F4A_7C15;
    for (number, chars) in notes.iter().enumerate() {
        let note: String = (0..*chars).map(|_| base64_character(&mut random)).collect();
        text += &format!(
            r#",{{"fullUrl":"{}","resource":{{"resourceType":"Observation","status":"final","code":{{"coding":[{{"system":"http://loinc.org","code":"29463-7"}}]}},"subject":{{"reference":"{PATIENT_URL}"}},"effectiveDateTime":"2026-01-01T10:00:00Z","valueQuantity":{{"value":72.50,"unit":"kg","system":"http://unitsofmeasure.org","code":"kg"}},"note":[{{"text":"{note}"}}]}}}}"#,
            url(number)
        );
    }
    text + "]}"
}

/// The next character of a pseudo-random base64 text (xorshift): the same in every run.
fn base64_character(state: &mut u64) -> char {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    char::from(ALPHABET[(*state >> 40) as usize % 64])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_size_asked_for_and_is_json_with_its_own_identities() {
        for size in [2_048, 51_200] {
            let template = Template::new(size, &format!("{SENDER_ADDRESS}7"), MAILBOX_ADDRESS);
            let (bundle, header) = (Uuid::from_u128(1), Uuid::from_u128(2));
            let bytes = template.fill(bundle, header);
            assert_eq!(bytes.len(), size);
            let message: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(message["id"], bundle.to_string());
            assert_eq!(message["entry"][0]["resource"]["id"], header.to_string());
            assert_eq!(message["entry"][0]["fullUrl"], format!("urn:uuid:{header}"));
            let focus = message["entry"][0]["resource"]["focus"].as_array().unwrap();
            assert_eq!(focus.len(), message["entry"].as_array().unwrap().len() - 2);
        }
    }

    #[test]
    fn the_answer_names_the_request_and_goes_to_its_source() {
        let template = Template::new(2_048, &format!("{SENDER_ADDRESS}7"), RECEIVER_ADDRESS);
        let request = template.fill(Uuid::from_u128(1), Uuid::from_u128(2));
        let answer = answer(&request, Uuid::from_u128(3), Uuid::from_u128(4)).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let header = &answer["entry"][0]["resource"];
        assert_eq!(header["response"]["identifier"], Uuid::from_u128(2).to_string());
        assert_eq!(header["destination"][0]["endpoint"], "http://bench.example/sender/7");
        assert!(super::answer(b"{}", Uuid::nil(), Uuid::nil()).is_none());
    }
}
