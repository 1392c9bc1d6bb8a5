//! A message as its reader wants it: the other form (JSON, XML), or the spelling of another FHIR version.
//!
//! Pure. What is delivered as it came passes through untouched; a conversion is exact or refused. The same message is
//! converted the same way each time, so that a repeat has the same bytes.

use crate::delivery::Facts;
use crate::fhir::bridge::{Request, spell};
use crate::fhir::form::{convert, read};
use crate::fhir::{FhirVersion, Form, Issue, Message};
use bytes::Bytes;

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
}

/// The message as wanted; None when it is so already. Errs with what cannot be told.
pub fn converted(facts: &Facts, bytes: &Bytes, wanted: Wanted) -> Result<Option<Converted>, Vec<Issue>> {
    let own_form = Form::named(&facts.media_type).unwrap_or_default();
    let form = wanted.form.unwrap_or(own_form);
    let Some(own_version) = facts.version else { return Ok(None) };
    let version = wanted.version.unwrap_or(own_version);
    if (form, version) == (own_form, own_version) {
        return Ok(None);
    }
    let mut facts = facts.clone();
    let mut body = bytes.clone();
    if version != own_version {
        body = respelled(&mut facts, &body, own_form, version)?;
    }
    let bytes = convert(body, form, version)?;
    facts.media_type = form.media_type().to_owned();
    facts.size_bytes = bytes.len() as u64;
    Ok(Some(Converted { bytes, facts }))
}

/// JSON in the spelling of the version; the facts are those of what is written.
fn respelled(facts: &mut Facts, bytes: &Bytes, form: Form, version: FhirVersion) -> Result<Bytes, Vec<Issue>> {
    let message = Message::read(read(bytes.clone(), form, facts.version, None)?, facts.version, None)?;
    let asked = facts.asked.as_ref();
    let request = Request {
        header_id: asked.and_then(|asked| asked.header_id.as_deref()),
        identifier: asked.and_then(|asked| asked.bundle_identifier.as_ref()),
    };
    let spelled = spell(&message, version, request)?;
    let told = Message::read(read(spelled.clone(), Form::Json, Some(version), None)?, Some(version), None)?;
    facts.version = Some(version);
    facts.event = told.header.event.clone();
    facts.header_id = told.header.id.clone();
    facts.bundle_identifier = told.bundle_identifier.clone();
    Ok(spelled)
}
