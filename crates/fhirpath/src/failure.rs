//! Why an expression could not be parsed or evaluated. The texts quote nothing of the document.

use thiserror::Error;

/// The text is not a FHIRPath expression.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message} (at character {offset})")]
pub struct SyntaxError {
    /// The byte offset in the expression.
    pub offset: usize,
    /// What is wrong, as a sentence.
    pub message: String,
}

/// Why an evaluation has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    #[error("the evaluation took more than the allowed number of steps")]
    StepLimit,
    #[error("a collection has more than the allowed number of items")]
    ItemLimit,
    #[error("a text is longer than allowed")]
    TextLimit,
    #[error("there are several items where {0} takes one")]
    Several(&'static str),
    #[error("{0} cannot be applied to values of these types")]
    Type(&'static str),
    #[error("{0} has an argument that is not allowed")]
    Argument(&'static str),
    #[error("a variable is used that is not defined, or defined again")]
    Variable,
    #[error("the expression names a type that this version of FHIR does not define")]
    UnknownType,
    #[error("a regular expression is invalid, or larger than allowed")]
    Regex,
    #[error("{0} is not supported here")]
    Unanswered(&'static str),
    #[error("the specification does not define an order for these values")]
    Unordered,
}

impl Failure {
    /// Whether the evaluation exceeded a limit, as opposed to an error in the expression.
    pub fn is_limit(self) -> bool {
        matches!(self, Failure::StepLimit | Failure::ItemLimit | Failure::TextLimit)
    }
}
