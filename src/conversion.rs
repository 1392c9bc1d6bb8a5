//! Converts a message to the format (JSON, XML) and FHIR version that its receiver accepts.
//!
//! Pure. A message that needs no conversion is not touched; a conversion is lossless or refused. It is deterministic, so that a
//! duplicate has the same bytes.

use crate::delivery::Metadata;
use bytes::Bytes;
use fhir::Issue;
use fhir::bridge::{RequestIdentity, convert_header};
use fhir::format::{read, write};
use fhir::tree::Tree;
use fhir::{FhirVersion, Format, Message, xml};
use std::sync::Arc;

/// The format and version that the receiver accepts; None: any.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wanted {
    pub format: Option<Format>,
    pub version: Option<FhirVersion>,
}

/// A message that was converted.
#[derive(Clone, Debug)]
pub struct Converted {
    pub bytes: Bytes,
    /// The message's metadata with the media type, size, version, and identity of the conversion.
    pub metadata: Metadata,
    /// The parsed `bytes`.
    pub tree: Arc<Tree>,
}

/// The message as wanted; None if it is already. Errs with what cannot be converted without loss.
pub fn converted(metadata: &Metadata, bytes: &Bytes, wanted: Wanted) -> Result<Option<Converted>, Vec<Issue>> {
    if change(metadata, wanted).is_none() {
        return Ok(None);
    }
    let (version, format) = current(metadata);
    converted_tree(metadata, &Arc::new(read(bytes.clone(), format, version, None)?), wanted)
}

/// As `converted`, for a message that has been parsed.
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

fn current(metadata: &Metadata) -> (Option<FhirVersion>, Format) {
    (metadata.version, Format::of_media_type(&metadata.media_type).unwrap_or_default())
}

/// The format and version to convert to; None if the message has them already, or if its version is unknown.
fn change(metadata: &Metadata, wanted: Wanted) -> Option<(Format, FhirVersion)> {
    let (version, format) = current(metadata);
    let version = version?;
    let change = (wanted.format.unwrap_or(format), wanted.version.unwrap_or(version));
    (change != (format, version)).then_some(change)
}

/// Rewrites the header in the spelling of the version, and updates the metadata.
fn respelled(metadata: &mut Metadata, tree: &Arc<Tree>, version: FhirVersion) -> Result<Arc<Tree>, Vec<Issue>> {
    // Rewriting works on JSON, so the message must be convertible to JSON without loss.
    xml::json(tree)?;
    let message = Message::read(tree.clone(), metadata.version, None)?;
    let request = metadata.request_format.as_ref();
    let request = RequestIdentity {
        header_id: request.and_then(|request| request.header_id.as_deref()),
        identifier: request.and_then(|request| request.bundle_identifier.as_ref()),
    };
    let spelled = convert_header(&message, version, request)?;
    let rewritten = Message::read(read(spelled, Format::Json, Some(version), None)?, Some(version), None)?;
    metadata.version = Some(version);
    metadata.event = rewritten.header.event.clone();
    metadata.header_id = rewritten.header.id.clone();
    metadata.bundle_identifier = rewritten.bundle_identifier.clone();
    Ok(rewritten.tree)
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
    fn a_message_survives_both_conversions_and_stays_untouched_without_one() {
        let xml = message("");
        assert!(converted(&metadata(Format::Xml), &xml, format(Format::Xml)).expect("as it is").is_none());
        assert!(converted(&metadata(Format::Xml), &xml, Wanted::default()).expect("as it is").is_none());
        let first = converted(&metadata(Format::Xml), &xml, format(Format::Json)).expect("JSON").expect("converted");
        assert_eq!(
            (&*first.metadata.media_type, Format::detect(&first.bytes)),
            (Format::Json.media_type(), Format::Json)
        );
        assert_eq!(first.metadata.size_bytes, first.bytes.len() as u64);
        let back = converted(&first.metadata, &first.bytes, format(Format::Xml)).expect("XML").expect("converted");
        let again = converted(&back.metadata, &back.bytes, format(Format::Json)).expect("JSON").expect("converted");
        assert_eq!(again.bytes, first.bytes);
    }

    #[test]
    fn another_version_is_told_in_the_form_that_is_wanted() {
        let wanted = Wanted { format: None, version: Some(FhirVersion::R5) };
        let first = converted(&metadata(Format::Xml), &message(""), wanted).expect("R5").expect("converted");
        assert_eq!((first.metadata.version, Format::detect(&first.bytes)), (Some(FhirVersion::R5), Format::Xml));
        let text = String::from_utf8_lossy(&first.bytes);
        assert!(text.contains("<endpointUrl value=\"https://a.example\"/>"), "{text}");
    }

    #[test]
    fn what_json_cannot_say_is_refused_in_another_form_and_in_another_version() {
        let xml = message("text");
        let bridged = Wanted { format: None, version: Some(FhirVersion::R5) };
        for wanted in [format(Format::Json), bridged] {
            let refused = converted(&metadata(Format::Xml), &xml, wanted).expect_err("it would lose text");
            assert_eq!(refused[0].rule.as_deref(), Some("XML-05"));
        }
    }
}
