//! A message as its reader wants it: the other format (JSON, XML), or the spelling of another FHIR version.
//!
//! Pure. What is delivered as it came passes through untouched; a conversion is exact or refused. The same message is
//! converted the same way each time, so that a repeat has the same bytes.

use crate::delivery::Metadata;
use bytes::Bytes;
use fhir::Issue;
use fhir::bridge::{Request, spell};
use fhir::format::{read, write};
use fhir::tree::Tree;
use fhir::{FhirVersion, Format, Message, xml};
use std::sync::Arc;

/// As which a reader wants it; None: as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wanted {
    pub format: Option<Format>,
    pub version: Option<FhirVersion>,
}

/// A message that was converted.
#[derive(Clone, Debug)]
pub struct Converted {
    pub bytes: Bytes,
    /// Those of the message, with what changed: media type, size, version, identity.
    pub metadata: Metadata,
    /// What `bytes` say.
    pub tree: Arc<Tree>,
}

/// The message as wanted; None when it is so already. Errs with what cannot be told.
pub fn converted(metadata: &Metadata, bytes: &Bytes, wanted: Wanted) -> Result<Option<Converted>, Vec<Issue>> {
    if change(metadata, wanted).is_none() {
        return Ok(None);
    }
    let (version, format) = own(metadata);
    converted_tree(metadata, &Arc::new(read(bytes.clone(), format, version, None)?), wanted)
}

/// The same of a message that was read already.
pub fn converted_tree(metadata: &Metadata, tree: &Arc<Tree>, wanted: Wanted) -> Result<Option<Converted>, Vec<Issue>> {
    let Some((format, version)) = change(metadata, wanted) else { return Ok(None) };
    let mut metadata = metadata.clone();
    let tree = match metadata.version == Some(version) {
        true => tree.clone(),
        false => respelled(&mut metadata, tree, version)?,
    };
    let bytes = write(&tree, format, version)?;
    metadata.media_type = format.media_type().to_owned();
    metadata.size_bytes = bytes.len() as u64;
    Ok(Some(Converted { bytes, metadata, tree }))
}

fn own(metadata: &Metadata) -> (Option<FhirVersion>, Format) {
    (metadata.version, Format::of_media_type(&metadata.media_type).unwrap_or_default())
}

/// Format and version to give the message; None when it has them, or its own are not known.
fn change(metadata: &Metadata, wanted: Wanted) -> Option<(Format, FhirVersion)> {
    let (version, format) = own(metadata);
    let version = version?;
    let change = (wanted.format.unwrap_or(format), wanted.version.unwrap_or(version));
    (change != (format, version)).then_some(change)
}

/// In the spelling of the version; the metadata become those of what is written.
fn respelled(metadata: &mut Metadata, tree: &Arc<Tree>, version: FhirVersion) -> Result<Arc<Tree>, Vec<Issue>> {
    // Spelling works on the JSON format, which must say all.
    xml::json(tree)?;
    let message = Message::read(tree.clone(), metadata.version, None)?;
    let asked = metadata.request_format.as_ref();
    let request = Request {
        header_id: asked.and_then(|asked| asked.header_id.as_deref()),
        identifier: asked.and_then(|asked| asked.bundle_identifier.as_ref()),
    };
    let spelled = spell(&message, version, request)?;
    let told = Message::read(read(spelled, Format::Json, Some(version), None)?, Some(version), None)?;
    metadata.version = Some(version);
    metadata.event = told.header.event.clone();
    metadata.header_id = told.header.id.clone();
    metadata.bundle_identifier = told.bundle_identifier.clone();
    Ok(told.tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(format: Format) -> Metadata {
        Metadata { media_type: format.media_type().into(), ..crate::testing::metadata() }
    }

    fn message(inner: &str) -> Bytes {
        let text = format!(
            r#"<Bundle xmlns="http://hl7.org/fhir"><type value="message"/><entry><resource><MessageHeader><id value="h"/>
            <eventUri value="urn:e"/><source><endpoint value="https://a.example"/></source></MessageHeader></resource></entry>
            <entry><resource><Basic>{inner}<code><text value="c"/></code></Basic></resource></entry></Bundle>"#
        );
        Bytes::from(text)
    }

    fn format(format: Format) -> Wanted {
        Wanted { format: Some(format), version: None }
    }

    #[test]
    fn there_and_back_a_message_says_the_same_and_as_it_is_it_stays() {
        let xml = message("");
        assert!(converted(&metadata(Format::Xml), &xml, format(Format::Xml)).expect("as it is").is_none());
        assert!(converted(&metadata(Format::Xml), &xml, Wanted::default()).expect("as it is").is_none());
        let told = converted(&metadata(Format::Xml), &xml, format(Format::Json)).expect("JSON").expect("converted");
        assert_eq!(
            (&*told.metadata.media_type, Format::detect(&told.bytes)),
            (Format::Json.media_type(), Format::Json)
        );
        assert_eq!(told.metadata.size_bytes, told.bytes.len() as u64);
        let back = converted(&told.metadata, &told.bytes, format(Format::Xml)).expect("XML").expect("converted");
        let again = converted(&back.metadata, &back.bytes, format(Format::Json)).expect("JSON").expect("converted");
        assert_eq!(again.bytes, told.bytes);
    }

    #[test]
    fn another_version_is_told_in_the_form_that_is_wanted() {
        let wanted = Wanted { format: None, version: Some(FhirVersion::R5) };
        let told = converted(&metadata(Format::Xml), &message(""), wanted).expect("R5").expect("converted");
        assert_eq!((told.metadata.version, Format::detect(&told.bytes)), (Some(FhirVersion::R5), Format::Xml));
        let text = String::from_utf8_lossy(&told.bytes);
        assert!(text.contains("<endpointUrl value=\"https://a.example\"/>"), "{text}");
    }

    #[test]
    fn what_json_cannot_say_is_refused_in_another_form_and_in_another_version() {
        let xml = message("text");
        let bridged = Wanted { format: None, version: Some(FhirVersion::R5) };
        for wanted in [format(Format::Json), bridged] {
            let refused = converted(&metadata(Format::Xml), &xml, wanted).expect_err("it says less");
            assert_eq!(refused[0].rule.as_deref(), Some("XML-05"));
        }
    }
}
