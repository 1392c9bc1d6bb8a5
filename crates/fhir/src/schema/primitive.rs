//! The primitive types of FHIR.

use serde::{Deserialize, Serialize};

/// A primitive type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Primitive {
    /// `boolean`.
    Boolean,
    /// `integer`.
    Integer,
    /// `unsignedInt`.
    UnsignedInt,
    /// `positiveInt`.
    PositiveInt,
    /// `integer64`.
    Integer64,
    /// `decimal`.
    Decimal,
    /// `string`.
    String,
    /// `markdown`.
    Markdown,
    /// `code`.
    Code,
    /// `id`.
    Id,
    /// `uri`.
    Uri,
    /// `url`.
    Url,
    /// `canonical`.
    Canonical,
    /// `oid`.
    Oid,
    /// `uuid`.
    Uuid,
    /// `date`.
    Date,
    /// `dateTime`.
    DateTime,
    /// `instant`.
    Instant,
    /// `time`.
    Time,
    /// `base64Binary`.
    Base64Binary,
    /// `xhtml`.
    Xhtml,
}

impl Primitive {
    /// The primitive type with this name in StructureDefinitions.
    pub fn named(name: &str) -> Option<Primitive> {
        Some(match name {
            "boolean" => Self::Boolean,
            "integer" => Self::Integer,
            "unsignedInt" => Self::UnsignedInt,
            "positiveInt" => Self::PositiveInt,
            "integer64" => Self::Integer64,
            "decimal" => Self::Decimal,
            "string" => Self::String,
            "markdown" => Self::Markdown,
            "code" => Self::Code,
            "id" => Self::Id,
            "uri" => Self::Uri,
            "url" => Self::Url,
            "canonical" => Self::Canonical,
            "oid" => Self::Oid,
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            "dateTime" => Self::DateTime,
            "instant" => Self::Instant,
            "time" => Self::Time,
            "base64Binary" => Self::Base64Binary,
            "xhtml" => Self::Xhtml,
            _ => return None,
        })
    }
}
