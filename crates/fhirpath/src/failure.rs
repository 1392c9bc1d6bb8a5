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
    /// It took more than `STEP_LIMIT` steps.
    #[error("the evaluation took more than the allowed number of steps")]
    StepLimit,
    /// A collection has more than `COLLECTION_LIMIT_ITEMS` items.
    #[error("a collection has more than the allowed number of items")]
    ItemLimit,
    /// A text is longer than `TEXT_LIMIT_BYTES`.
    #[error("a text is longer than allowed")]
    TextLimit,
    /// Several items where this function or operator takes one.
    #[error("there are several items where {0} takes one")]
    Several(&'static str),
    /// This function or operator cannot be applied to values of these types.
    #[error("{0} cannot be applied to values of these types")]
    Type(&'static str),
    /// This function has an argument that is not allowed.
    #[error("{0} has an argument that is not allowed")]
    Argument(&'static str),
    /// A variable that is not defined, or is defined again.
    #[error("a variable is used that is not defined, or defined again")]
    Variable,
    /// A type that this version of FHIR does not define.
    #[error("the expression names a type that this version of FHIR does not define")]
    UnknownType,
    /// A regular expression that is invalid, or larger than allowed.
    #[error("a regular expression is invalid, or larger than allowed")]
    Regex,
    /// This function needs what the host does not know.
    #[error("{0} is not supported here")]
    Unanswered(&'static str),
    /// Values that the specification does not order are compared.
    #[error("the specification does not define an order for these values")]
    Unordered,
}

impl Failure {
    /// Whether the evaluation exceeded a limit, as opposed to an error in the expression.
    pub fn is_limit(self) -> bool {
        matches!(self, Failure::StepLimit | Failure::ItemLimit | Failure::TextLimit)
    }
}
