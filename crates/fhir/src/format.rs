//! The two formats of a FHIR document, JSON and XML: one tree for both, and exact conversion between them (VER-01).

use super::issue::Issue;
use super::json;
use super::schema::Schema;
use super::tree::Tree;
use super::version::FhirVersion;
use super::xml;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The format of a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `application/fhir+json`.
    #[default]
    Json,
    /// `application/fhir+xml`.
    Xml,
}

impl Format {
    /// The format that a media type (parameters are ignored) or `_format` value names; None if FHIR defines none for it.
    pub fn of_media_type(text: &str) -> Option<Format> {
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Some(match essence.as_str() {
            "application/fhir+json" | "application/json" | "application/json+fhir" | "text/json" | "json" => {
                Format::Json
            }
            "application/fhir+xml" | "application/xml" | "text/xml" | "application/xml+fhir" | "xml" => Format::Xml,
            _ => return None,
        })
    }

    /// XML if the first character after white space and a byte order mark is `<`, else JSON.
    pub fn detect(bytes: &[u8]) -> Format {
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'<') => Format::Xml,
            _ => Format::Json,
        }
    }

    /// The media type that FHIR defines for the format, without parameters.
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/fhir+json",
            Format::Xml => "application/fhir+xml",
        }
    }
}

/// Parses a document. The element definitions by which XML is read are those of the `declared` version (from the media
/// type), else of the version that the document itself shows, else of the `expected` one. JSON is read without definitions.
///
/// # Errors
/// Everything that makes the document unreadable, each issue with its line and column.
pub fn read(
    bytes: Bytes,
    format: Format,
    declared: Option<FhirVersion>,
    expected: Option<FhirVersion>,
) -> Result<Tree, Vec<Issue>> {
    match format {
        Format::Json => json::parse(bytes),
        Format::Xml => xml::parse(bytes, declared, expected),
    }
}

/// Converts a document. Returns the same bytes if they already have the wanted format.
///
/// # Errors
/// If the document cannot be read, or if the wanted format cannot express all of it.
pub fn convert(bytes: Bytes, to: Format, version: FhirVersion) -> Result<Bytes, Vec<Issue>> {
    let from = Format::detect(&bytes);
    if from == to {
        return Ok(bytes);
    }
    write(&read(bytes, from, Some(version), None)?, to, version)
}

/// Serializes a document that was read, by the element definitions of the version.
///
/// # Errors
/// If the format cannot express all of the document.
pub fn write(tree: &Tree, to: Format, version: FhirVersion) -> Result<Bytes, Vec<Issue>> {
    match to {
        Format::Json => xml::json(tree).cloned(),
        Format::Xml => xml::write(tree.root(), Schema::of(version)).map(Bytes::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_known_by_its_media_type_and_by_its_first_character() {
        let named = [
            ("application/fhir+xml; fhirVersion=4.0", Some(Format::Xml)),
            ("text/xml", Some(Format::Xml)),
            ("Application/JSON", Some(Format::Json)),
            ("application/fhir+turtle", None),
        ];
        for (text, wanted) in named {
            assert_eq!(Format::of_media_type(text), wanted, "{text}");
        }
        assert_eq!(Format::detect(b"\xef\xbb\xbf\n <Bundle/>"), Format::Xml);
        assert_eq!(Format::detect(b" {}"), Format::Json);
        assert_eq!(Format::detect(b""), Format::Json);
    }
}
