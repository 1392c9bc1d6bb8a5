//! A message as its reader wants it: the other form (JSON, XML), or the spelling of another FHIR version.
//!
//! Pure. What is delivered as it came passes through untouched; a conversion is exact or refused. The same message is
//! converted the same way each time, so that a repeat has the same bytes.

use crate::delivery::Facts;
use bytes::Bytes;
use fhir::Issue;
use fhir::bridge::{Request, spell};
use fhir::form::{read, written};
use fhir::tree::Tree;
use fhir::{FhirVersion, Form, Message, xml};
use std::sync::Arc;

/// As which a reader wants it; None: as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wanted {
    pub form: Option<Form>,
    pub version: Option<FhirVersion>,
}

/// A message that was converted.
#[derive(Clone, Debug)]
pub struct Converted {
    pub bytes: Bytes,
    /// Those of the message, with what changed: media type, size, version, identity.
    pub facts: Facts,
    /// What `bytes` say.
    pub tree: Arc<Tree>,
}

/// The message as wanted; None when it is so already. Errs with what cannot be told.
pub fn converted(facts: &Facts, bytes: &Bytes, wanted: Wanted) -> Result<Option<Converted>, Vec<Issue>> {
    if change(facts, wanted).is_none() {
        return Ok(None);
    }
    let (version, form) = own(facts);
    converted_tree(facts, &Arc::new(read(bytes.clone(), form, version, None)?), wanted)
}

/// The same of a message that was read already.
pub fn converted_tree(facts: &Facts, tree: &Arc<Tree>, wanted: Wanted) -> Result<Option<Converted>, Vec<Issue>> {
    let Some((form, version)) = change(facts, wanted) else { return Ok(None) };
    let mut facts = facts.clone();
    let tree = match facts.version == Some(version) {
        true => tree.clone(),
        false => respelled(&mut facts, tree, version)?,
    };
    let bytes = written(&tree, form, version)?;
    facts.media_type = form.media_type().to_owned();
    facts.size_bytes = bytes.len() as u64;
    Ok(Some(Converted { bytes, facts, tree }))
}

fn own(facts: &Facts) -> (Option<FhirVersion>, Form) {
    (facts.version, Form::named(&facts.media_type).unwrap_or_default())
}

/// Form and version to give the message; None when it has them, or its own are not known.
fn change(facts: &Facts, wanted: Wanted) -> Option<(Form, FhirVersion)> {
    let (version, form) = own(facts);
    let version = version?;
    let change = (wanted.form.unwrap_or(form), wanted.version.unwrap_or(version));
    (change != (form, version)).then_some(change)
}

/// In the spelling of the version; the facts become those of what is written.
fn respelled(facts: &mut Facts, tree: &Arc<Tree>, version: FhirVersion) -> Result<Arc<Tree>, Vec<Issue>> {
    // Spelling works on the JSON form, which must say all.
    xml::json(tree)?;
    let message = Message::read(tree.clone(), facts.version, None)?;
    let asked = facts.asked.as_ref();
    let request = Request {
        header_id: asked.and_then(|asked| asked.header_id.as_deref()),
        identifier: asked.and_then(|asked| asked.bundle_identifier.as_ref()),
    };
    let spelled = spell(&message, version, request)?;
    let told = Message::read(read(spelled, Form::Json, Some(version), None)?, Some(version), None)?;
    facts.version = Some(version);
    facts.event = told.header.event.clone();
    facts.header_id = told.header.id.clone();
    facts.bundle_identifier = told.bundle_identifier.clone();
    Ok(told.tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::ReplyTo;
    use serde_json::json;

    fn facts(form: Form) -> Facts {
        let facts = json!({ "id": uuid::Uuid::nil(), "sender": "ward", "destinations": [], "version": FhirVersion::R4,
            "media_type": form.media_type(), "reply_to": ReplyTo::Wait, "unmatched": false, "size_bytes": 0, "received_at_us": 0 });
        serde_json::from_value(facts).expect("facts")
    }

    fn message(inner: &str) -> Bytes {
        let text = format!(
            r#"<Bundle xmlns="http://hl7.org/fhir"><type value="message"/><entry><resource><MessageHeader><id value="h"/>
            <eventUri value="urn:e"/><source><endpoint value="https://a.example"/></source></MessageHeader></resource></entry>
            <entry><resource><Basic>{inner}<code><text value="c"/></code></Basic></resource></entry></Bundle>"#
        );
        Bytes::from(text)
    }

    fn form(form: Form) -> Wanted {
        Wanted { form: Some(form), version: None }
    }

    #[test]
    fn there_and_back_a_message_says_the_same_and_as_it_is_it_stays() {
        let xml = message("");
        assert!(converted(&facts(Form::Xml), &xml, form(Form::Xml)).expect("as it is").is_none());
        assert!(converted(&facts(Form::Xml), &xml, Wanted::default()).expect("as it is").is_none());
        let told = converted(&facts(Form::Xml), &xml, form(Form::Json)).expect("JSON").expect("converted");
        assert_eq!((&*told.facts.media_type, Form::seen(&told.bytes)), (Form::Json.media_type(), Form::Json));
        assert_eq!(told.facts.size_bytes, told.bytes.len() as u64);
        let back = converted(&told.facts, &told.bytes, form(Form::Xml)).expect("XML").expect("converted");
        let again = converted(&back.facts, &back.bytes, form(Form::Json)).expect("JSON").expect("converted");
        assert_eq!(again.bytes, told.bytes);
    }

    #[test]
    fn another_version_is_told_in_the_form_that_is_wanted() {
        let wanted = Wanted { form: None, version: Some(FhirVersion::R5) };
        let told = converted(&facts(Form::Xml), &message(""), wanted).expect("R5").expect("converted");
        assert_eq!((told.facts.version, Form::seen(&told.bytes)), (Some(FhirVersion::R5), Form::Xml));
        let text = String::from_utf8_lossy(&told.bytes);
        assert!(text.contains("<endpointUrl value=\"https://a.example\"/>"), "{text}");
    }

    #[test]
    fn what_json_cannot_say_is_refused_in_another_form_and_in_another_version() {
        let xml = message("text");
        let bridged = Wanted { form: None, version: Some(FhirVersion::R5) };
        for wanted in [form(Form::Json), bridged] {
            let refused = converted(&facts(Form::Xml), &xml, wanted).expect_err("it says less");
            assert_eq!(refused[0].rule.as_deref(), Some("XML-05"));
        }
    }
}
