//! The cause of an issue, by which a program decides who must act on it.

/// Why a document is refused, or why an issue is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The document is not JSON or XML, or violates FHIR's rules for them.
    Syntax,
    /// The document is nested more deeply than the reader allows.
    Depth,
    /// The document is FHIR, but not a message Bundle whose first entry is a MessageHeader.
    NotMessage,
    /// The document violates a rule of FHIR.
    Structure,
    /// The FHIR version is unknown, contradictory, or not supported.
    Version,
    /// An element is larger or more numerous than allowed.
    Limit,
    /// No definition names the event.
    UnknownEvent,
    /// The document violates the definition of its event, or a profile.
    Definition,
    /// The document cannot be written in the format or version that its reader requires.
    Conversion,
    /// The message does not answer its request as the request's definition requires.
    Answer,
}
