//! The FHIR versions that Emberpost reads, and their names (VER-04, VER-05).

use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// A FHIR version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FhirVersion {
    /// 4.0.
    #[serde(rename = "4.0")]
    R4,
    /// 4.3.
    #[serde(rename = "4.3")]
    R4B,
    /// 5.0.
    #[serde(rename = "5.0")]
    R5,
}

/// A value for each version, made on first use and shared.
pub struct PerVersion<T: 'static> {
    r4: LazyLock<T>,
    r4b: LazyLock<T>,
    r5: LazyLock<T>,
}

impl<T> PerVersion<T> {
    /// Each function makes the value of its version.
    pub const fn new(r4: fn() -> T, r4b: fn() -> T, r5: fn() -> T) -> Self {
        PerVersion { r4: LazyLock::new(r4), r4b: LazyLock::new(r4b), r5: LazyLock::new(r5) }
    }

    /// The value of a version.
    pub fn of(&'static self, version: FhirVersion) -> &'static T {
        match version {
            FhirVersion::R4 => &self.r4,
            FhirVersion::R4B => &self.r4b,
            FhirVersion::R5 => &self.r5,
        }
    }
}

impl FhirVersion {
    /// The supported versions, oldest first.
    pub const ALL: [FhirVersion; 3] = [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5];

    /// Parses `4.0`, `4.3`, `5.0`, or the full version (`4.0.1`); None for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "4.0" | "4.0.0" | "4.0.1" => Some(Self::R4),
            "4.3" | "4.3.0" => Some(Self::R4B),
            "5.0" | "5.0.0" => Some(Self::R5),
            _ => None,
        }
    }

    /// Whether messages of both versions have the same spelling, so that one may be valid in the other unchanged: R4
    /// and R4B.
    pub fn is_spelled_as(self, other: Self) -> bool {
        (self == Self::R5) == (other == Self::R5)
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
