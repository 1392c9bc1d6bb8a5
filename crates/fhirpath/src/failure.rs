//! Why an expression could not be read or evaluated. Neither repeats anything of the document.

use thiserror::Error;

/// The text is no FHIRPath expression.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message} (at character {offset})")]
pub struct SyntaxError {
    /// Bytes from the beginning of the expression.
    pub offset: usize,
    pub message: String,
}

/// An evaluation that came to no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    #[error("the evaluation took more than the allowed number of steps")]
    StepLimit,
    #[error("a collection has more than the allowed number of items")]
    ItemLimit,
    #[error("a text is longer than allowed")]
    TextLimit,
    #[error("several items stand where {0} takes one")]
    Several(&'static str),
    #[error("{0} cannot be applied to values of these types")]
    Type(&'static str),
    #[error("{0} is given an argument that it cannot take")]
    Argument(&'static str),
    #[error("a variable is used that is not defined, or defined again")]
    Variable,
    #[error("a type is named that this version of FHIR does not have")]
    UnknownType,
    #[error("a regular expression cannot be read, or is larger than allowed")]
    Regex,
    #[error("{0} cannot be answered here")]
    Unanswered(&'static str),
    #[error("an order that the specification does not define is asked for")]
    Unordered,
}

impl Failure {
    /// The evaluation was ended because it took too much, and not by a mistake of the expression.
    pub fn is_limit(self) -> bool {
        matches!(self, Failure::StepLimit | Failure::ItemLimit | Failure::TextLimit)
    }
}
