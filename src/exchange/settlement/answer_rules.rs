//! Pure rules about answers that several parts of the settlement need.

use crate::delivery::Metadata;
use crate::exchange::Rules;
use fhir::Event;
use fhir::event::ResponseCode;
use validation::{Checked, allowed_response};

/// The issue of an answer that the request's definition does not allow (MSG-50). It is stored with the answer, which is
/// delivered all the same.
pub(super) fn disallowed_response(
    request: &Metadata,
    answer: &Checked,
    event: Option<&Event>,
    rules: &Rules,
) -> Option<fhir::Issue> {
    let definition = rules.definitions.catalog.by_canonical(request.definition.as_deref()?)?;
    allowed_response(&rules.definitions.catalog, definition, answer.definition.as_deref(), event)
}

/// Whether the answer is a `transient-error`.
pub(super) fn is_transient(answer: &Metadata) -> bool {
    answer.response.as_ref().and_then(|response| response.code) == Some(ResponseCode::TransientError)
}
