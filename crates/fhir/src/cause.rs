//! What caused an issue, so that a program can say who must act.

/// Why a document is refused or remarked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It is not JSON or XML, or breaks FHIR's rules for them.
    Syntax,
    /// It is nested more deeply than is read.
    Depth,
    /// It is FHIR, but not a message Bundle with a MessageHeader first.
    NotMessage,
    /// It breaks a rule of FHIR.
    Structure,
    /// Its FHIR version is unknown, conflicting, or not supported.
    Version,
    /// An element is larger, or more numerous, than is taken.
    Limit,
    /// No definition names its event.
    UnknownEvent,
    /// It breaks the definition of its event, or a profile.
    Definition,
    /// It cannot be written in the form or version that its reader wants.
    Conversion,
    /// It does not answer its request as the request's definition asks.
    Answer,
}
