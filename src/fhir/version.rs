//! The FHIR versions that Emberpost reads, and how they are named (VER-04, VER-05).

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FhirVersion {
    #[serde(rename = "4.0")]
    R4,
    #[serde(rename = "4.3")]
    R4B,
    #[serde(rename = "5.0")]
    R5,
}

impl FhirVersion {
    /// Reads `4.0`, `4.3`, `5.0` or the full form (`4.0.1`); None for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "4.0" | "4.0.0" | "4.0.1" => Some(Self::R4),
            "4.3" | "4.3.0" => Some(Self::R4B),
            "5.0" | "5.0.0" => Some(Self::R5),
            _ => None,
        }
    }

    /// Major and minor, as in the media type parameter `fhirVersion`.
    pub fn short(self) -> &'static str {
        match self {
            Self::R4 => "4.0",
            Self::R4B => "4.3",
            Self::R5 => "5.0",
        }
    }

    /// The full code, as in `CapabilityStatement.fhirVersion`.
    pub fn full(self) -> &'static str {
        match self {
            Self::R4 => "4.0.1",
            Self::R4B => "4.3.0",
            Self::R5 => "5.0.0",
        }
    }
}
