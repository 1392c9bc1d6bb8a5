//! Refusals of the admin API: a status and an OperationOutcome with a fault.

use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode, Outcome};
use crate::store::Unavailable;
use crate::store::view::ViewError;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

/// A refusal with one issue, which says what is wrong and who must act.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) issue: Issue,
}

/// Retry-After if the store is unavailable or full.
const RETRY_AFTER_SECONDS: u16 = 5;

impl Problem {
    /// 400: the caller must correct the request.
    pub(super) fn wrong(text: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, IssueCode::Value, Fault::SendRequest, text)
    }

    /// 404: nothing with this id is stored or configured.
    pub(super) fn missing(what: &str) -> Problem {
        let text = format!("There is no {what} with this id.");
        Problem::new(StatusCode::NOT_FOUND, IssueCode::NotFound, Fault::RouteNotFound, text)
    }

    /// 409: it exists, but its state does not allow this.
    pub(super) fn conflict(text: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, IssueCode::Conflict, Fault::SendRequest, text)
    }

    /// 403: the credential is known but not sufficient.
    pub(super) fn not_permitted(text: &str) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, IssueCode::Forbidden, Fault::RoutePermission, text)
    }

    pub(super) fn new(status: StatusCode, code: IssueCode, fault: Fault, text: impl Into<String>) -> Problem {
        Problem { status, issue: Issue::error(code, fault, text.into()) }
    }

    /// 401 for a credential that is missing or unknown, 403 for a request that is not direct.
    pub(super) fn of_credential(issue: Issue) -> Problem {
        let status =
            if issue.cause == Fault::SendCredential { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
        Problem { status, issue }
    }
}

impl From<Unavailable> for Problem {
    fn from(unavailable: Unavailable) -> Self {
        let code = match unavailable {
            Unavailable::Full(_) => IssueCode::NoStore,
            Unavailable::Away(_) => IssueCode::Transient,
            Unavailable::Damaged(_) => IssueCode::Exception,
        };
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, Fault::RouteNoStore, unavailable.to_string())
    }
}

impl From<ViewError> for Problem {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::BadFilter(text) => Problem::wrong(text),
            ViewError::TooLong(_) => {
                let fault = Fault::RouteSearchLimit;
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, IssueCode::Timeout, fault, error.to_string())
            }
            ViewError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Outcome::from(self.issue).to_resource().to_string();
        let mut response = (self.status, [(CONTENT_TYPE, "application/fhir+json")], body).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"emberpost\""));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
            }
            _ => {}
        }
        response
    }
}

/// For paths that the API does not have.
pub(super) async fn no_such_path() -> Problem {
    let text = "The admin API has no such path. See /admin/v1/openapi.json.";
    Problem::new(StatusCode::NOT_FOUND, IssueCode::NotFound, Fault::RouteNotFound, text)
}

/// For paths that the API has, with another method. The router adds `Allow`.
pub(super) async fn wrong_method() -> Problem {
    let text = "This path does not support the method. See /admin/v1/openapi.json.";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, IssueCode::NotSupported, Fault::SendRequest, text)
}
