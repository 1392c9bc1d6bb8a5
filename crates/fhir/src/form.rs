//! The two forms of a document, JSON and XML: one tree for both, and exact conversion between them (VER-01).

use super::issue::Issue;
use super::json;
use super::schema::Schema;
use super::tree::Tree;
use super::version::FhirVersion;
use super::xml;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    #[default]
    Json,
    Xml,
}

impl Form {
    /// The form that a media type or `_format` names; None when it is none of FHIR's, with or without parameters.
    pub fn named(text: &str) -> Option<Form> {
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Some(match essence.as_str() {
            "application/fhir+json" | "application/json" | "application/json+fhir" | "text/json" | "json" => Form::Json,
            "application/fhir+xml" | "application/xml" | "text/xml" | "application/xml+fhir" | "xml" => Form::Xml,
            _ => return None,
        })
    }

    /// The form that the first character shows: what begins with `<` is XML.
    pub fn seen(bytes: &[u8]) -> Form {
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'<') => Form::Xml,
            _ => Form::Json,
        }
    }

    pub const fn media_type(self) -> &'static str {
        match self {
            Form::Json => "application/fhir+json",
            Form::Xml => "application/fhir+xml",
        }
    }
}

/// Reads a document. XML needs a version: `said` by the media type, else as it shows itself, or as `expected`; JSON needs none.
/// Errs with everything that makes it unreadable, each with line and column.
pub fn read(
    bytes: Bytes,
    form: Form,
    said: Option<FhirVersion>,
    expected: Option<FhirVersion>,
) -> Result<Tree, Vec<Issue>> {
    match form {
        Form::Json => json::parse(bytes),
        Form::Xml => xml::parse(bytes, said, expected),
    }
}

/// The same document in this form; the bytes as they are when they have it. Errs when the other form cannot say all of it.
pub fn convert(bytes: Bytes, to: Form, version: FhirVersion) -> Result<Bytes, Vec<Issue>> {
    let from = Form::seen(&bytes);
    if from == to {
        return Ok(bytes);
    }
    written(&read(bytes, from, Some(version), None)?, to, version)
}

/// A document that was read, in this form. Errs when that cannot say all of it.
pub fn written(tree: &Tree, to: Form, version: FhirVersion) -> Result<Bytes, Vec<Issue>> {
    match to {
        Form::Json => xml::json(tree).cloned(),
        Form::Xml => xml::write(tree.root(), Schema::of(version)).map(Bytes::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_known_by_its_media_type_and_by_its_first_character() {
        let named = [
            ("application/fhir+xml; fhirVersion=4.0", Some(Form::Xml)),
            ("text/xml", Some(Form::Xml)),
            ("Application/JSON", Some(Form::Json)),
            ("application/fhir+turtle", None),
        ];
        for (text, wanted) in named {
            assert_eq!(Form::named(text), wanted, "{text}");
        }
        assert_eq!(Form::seen(b"\xef\xbb\xbf\n <Bundle/>"), Form::Xml);
        assert_eq!(Form::seen(b" {}"), Form::Json);
        assert_eq!(Form::seen(b""), Form::Json);
    }
}
