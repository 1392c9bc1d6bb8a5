//! Checking a document from its bytes, whatever it is: JSON or XML, a message or not.

use super::{Against, Checks, check, check_document};
use crate::fhir::tree::Tree;
use crate::fhir::{FhirVersion, Issue, Message, json, xml};
use bytes::Bytes;

/// What was found in a document.
#[derive(Clone, Debug)]
pub struct Document {
    /// Of the message; None where it is none that can be read.
    pub version: Option<FhirVersion>,
    pub issues: Vec<Issue>,
}

/// Whether a text is XML, by its first character that is no white space.
pub fn is_xml(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<')
}

/// Reads and checks a document. `said` is its version where the caller knows it, else the header's spelling decides, and
/// for what is no message R4. `against` gives the definitions for a version.
pub fn check_bytes<'d>(
    bytes: Bytes,
    said: Option<FhirVersion>,
    against: impl FnOnce(FhirVersion) -> Against<'d>,
    checks: Checks,
) -> Document {
    let tree = match is_xml(&bytes) {
        true => xml::parse(bytes, said, None),
        false => json::parse(bytes),
    };
    match tree {
        Ok(tree) => check_tree(tree, said, against, checks),
        Err(issues) => Document { version: None, issues },
    }
}

fn check_tree<'d>(
    tree: Tree,
    said: Option<FhirVersion>,
    against: impl FnOnce(FhirVersion) -> Against<'d>,
    checks: Checks,
) -> Document {
    match Message::read(tree.clone(), said, None) {
        Ok(message) => {
            let checked = check(&message, against(message.version), checks);
            Document { version: Some(message.version), issues: checked.issues }
        }
        Err(refused) => {
            let issues = check_document(&tree, said.unwrap_or(FhirVersion::R4), refused, checks);
            Document { version: None, issues }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::definition::Definitions;
    use crate::validation::{Level, ProseRules};

    fn found(text: &'static str) -> Document {
        let definitions = Definitions::default();
        let checks = Checks { level: Level::Structure, prose_rules: ProseRules::Warning, take_unknown_events: true };
        check_bytes(Bytes::from_static(text.as_bytes()), None, |_| (&definitions).into(), checks)
    }

    #[test]
    fn the_form_is_seen_from_the_first_character() {
        let json = found("\u{FEFF} {\"resourceType\":\"Patient\"}");
        let xml = found("\n<Patient xmlns=\"http://hl7.org/fhir\"><active value=\"true\"/></Patient>");
        for document in [json, xml] {
            assert_eq!(document.version, None);
            assert_eq!(document.issues[0].rule.as_deref(), Some("MSG-01"));
        }
        assert!(found("no text of either").issues.iter().all(Issue::is_error));
    }

    #[test]
    fn a_message_has_the_version_that_its_header_is_spelled_in() {
        let r5 = r#"{"resourceType":"Bundle","type":"message","entry":[{"resource":{"resourceType":"MessageHeader",
            "eventCanonical":"urn:e","source":{"endpointUrl":"urn:a"}}}]}"#;
        assert_eq!(found(r5).version, Some(FhirVersion::R5));
        assert_eq!(found("{\"resourceType\":\"Bundle\"").version, None);
    }
}
