//! The format of an AMQP body: as its properties declare, otherwise detected by its first character.

use super::properties::{header, text};
use crate::channel::media::{self, Encoding, MediaType};
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode};
use bytes::Bytes;
use fhir::{FhirVersion, Format};
use lapin::BasicProperties;

/// Content encodings without effect, which client libraries set for plain text or bytes.
const IDENTITY_ENCODINGS: [&str; 4] = ["utf-8", "utf8", "us-ascii", "binary"];
/// Content types that client libraries set by default.
const UNSPECIFIC_TYPES: [&str; 2] = ["application/octet-stream", "text/plain"];
const UTF_8: [&str; 3] = ["utf-8", "utf8", "us-ascii"];

/// A body without its content encoding.
#[derive(Debug)]
pub(super) struct Decoded {
    pub format: Format,
    pub version: Option<FhirVersion>,
    pub bytes: Bytes,
}

/// Removes the content encoding; the memory is reserved already (`Intake::needed_bytes`). Errs with what to send
/// instead.
pub(super) fn decoded(properties: &BasicProperties, body: &Bytes, body_limit_bytes: usize) -> Result<Decoded, Issue> {
    let encoding = encoding(text(properties.content_encoding()).unwrap_or_default())?;
    let declared = declared(text(properties.content_type()).unwrap_or_default())?;
    let header = header(properties, "fhirVersion").map(|text| media::version(&text)).transpose()?;
    let bytes = media::decode(body, encoding, body_limit_bytes, |_| true)?;
    let format = match declared.format {
        Some(format) => format,
        None => detected_format(&bytes)?,
    };
    match (declared.version, header) {
        (Some(version), Some(header)) if version != header => {
            let text = "The content type and the header fhirVersion name different versions";
            Err(Issue::error(IssueCode::NotSupported, Fault::SendVersion, text).rule("VER-04"))
        }
        (version, header) => Ok(Decoded { format, version: version.or(header), bytes }),
    }
}

/// The encoding that the property `content_encoding` names. Errs with what to send instead.
pub(super) fn encoding(name: &str) -> Result<Encoding, Issue> {
    let is_none = IDENTITY_ENCODINGS.iter().any(|known| name.trim().eq_ignore_ascii_case(known));
    if is_none { Ok(Encoding::Identity) } else { media::encoding(name) }
}

/// What a content type declares.
struct DeclaredType {
    /// None if it declares no format.
    format: Option<Format>,
    version: Option<FhirVersion>,
}

fn declared(content_type: &str) -> Result<DeclaredType, Issue> {
    let media = MediaType::parse(content_type);
    let is_unspecific = media.essence.is_empty() || UNSPECIFIC_TYPES.contains(&media.essence.as_str());
    if !is_unspecific {
        let (format, version) = media::content_type(content_type)?;
        return Ok(DeclaredType { format: Some(format), version });
    }
    if media.parameter("charset").is_some_and(|charset| !UTF_8.iter().any(|utf_8| charset.eq_ignore_ascii_case(utf_8)))
    {
        return Err(media::unsupported(Fault::SendMediaType, "FHIR is UTF-8 (VER-02); send charset=utf-8 or none"));
    }
    Ok(DeclaredType { format: None, version: media::version_of(&media)? })
}

fn detected_format(bytes: &[u8]) -> Result<Format, Issue> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    match text.first() {
        Some(b'{') => Ok(Format::Json),
        Some(b'<') => Ok(Format::Xml),
        _ => {
            let text = "The content type says nothing of the format, and the body begins neither with { nor with <; send \
                        application/fhir+json or application/fhir+xml";
            Err(media::unsupported(Fault::SendMediaType, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::types::{AMQPValue, FieldTable};

    fn typed(content_type: &str) -> BasicProperties {
        BasicProperties::default().with_content_type(content_type.into())
    }

    fn with_header(properties: BasicProperties, version: &str) -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert("fhirVersion".into(), AMQPValue::LongString(version.into()));
        properties.with_headers(headers)
    }

    #[test]
    fn a_format_is_what_the_content_type_says_else_what_the_first_character_shows() {
        use Format::{Json, Xml};
        const TYPE: Fault = Fault::SendMediaType;
        for (body, content_type, wanted) in [
            (&b" {}"[..], "", Ok((Json, None))),
            (b"\xef\xbb\xbf\n{}", "", Ok((Json, None))),
            (b"<a/>", "", Ok((Xml, None))),
            (b"\r\n<?xml version='1.0'?>", "application/octet-stream", Ok((Xml, None))),
            (b"{}", "application/octet-stream", Ok((Json, None))),
            (b"{}", "text/plain", Ok((Json, None))),
            (b"<a/>", "Text/Plain; charset=UTF-8", Ok((Xml, None))),
            (b"{}", "text/plain; charset=us-ascii; fhirVersion=5.0", Ok((Json, Some(FhirVersion::R5)))),
            (b"{}", "text/plain; charset=iso-8859-1", Err(TYPE)),
            (b"", "", Err(TYPE)),
            (b"hello", "text/plain", Err(TYPE)),
            (b"\x80\x04", "application/octet-stream", Err(TYPE)),
            (b"x", "application/fhir+json; fhirVersion=5.0", Ok((Json, Some(FhirVersion::R5)))),
            (b"{}", "application/fhir+xml", Ok((Xml, None))),
            (b"{}", "application/x-python-serialize", Err(TYPE)),
            (b"{}", "application/fhir+json; fhirVersion=3.0", Err(Fault::SendVersion)),
        ] {
            let found = decoded(&typed(content_type), &Bytes::copy_from_slice(body), 100);
            let found = found.map(|unpacked| (unpacked.format, unpacked.version)).map_err(|issue| issue.cause);
            assert_eq!(found, wanted, "{} as {content_type}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn encodings_that_encode_nothing_are_none_and_the_format_is_seen_behind_those_that_do() {
        let zstd = zstd::encode_all(&b"<a/>"[..], 1).unwrap();
        for (encoding, body, wanted) in [
            ("", &b"{}"[..], Ok::<&[u8], Fault>(b"{}")),
            ("utf-8", b"{}", Ok(b"{}")),
            ("UTF-8", b"{}", Ok(b"{}")),
            (" utf8 ", b"{}", Ok(b"{}")),
            ("us-ascii", b"{}", Ok(b"{}")),
            ("binary", b"{}", Ok(b"{}")),
            ("identity", b"{}", Ok(b"{}")),
            ("zstd", &zstd, Ok(b"<a/>")),
            ("br", b"{}", Err(Fault::SendMediaType)),
            ("utf-16", b"{}", Err(Fault::SendMediaType)),
        ] {
            let properties = BasicProperties::default().with_content_encoding(encoding.into());
            let found = decoded(&properties, &Bytes::copy_from_slice(body), 100);
            let found = found.as_ref().map(|unpacked| &unpacked.bytes[..]).map_err(|issue| issue.cause);
            assert_eq!(found, wanted, "{encoding}");
        }
    }

    #[test]
    fn the_header_names_the_version_where_the_content_type_does_not_and_may_not_contradict_it() {
        for (properties, wanted) in [
            (with_header(typed(""), "4.3"), Ok(Some(FhirVersion::R4B))),
            (with_header(typed(""), "3.0"), Err(Fault::SendVersion)),
            (with_header(typed("application/json; fhirVersion=5.0"), "5.0"), Ok(Some(FhirVersion::R5))),
            (with_header(typed("application/json; fhirVersion=4.0"), "5.0"), Err(Fault::SendVersion)),
            (with_header(typed("text/plain; fhirVersion=4.0"), "5.0"), Err(Fault::SendVersion)),
        ] {
            let found = decoded(&properties, &Bytes::from_static(b"{}"), 100);
            assert_eq!(found.map(|unpacked| unpacked.version).map_err(|issue| issue.cause), wanted);
        }
    }
}
