//! Reads requests: the caller and its role, ids, filters of lists, and actions with a filter in the body.

use super::Admin;
use super::problem::Problem;
use crate::fault::Fault;
use crate::outcome::IssueCode;
use crate::security::{Principal, Role};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use uuid::Uuid;

const DEFAULT_LIMIT: u32 = 50;
const HIGHEST_LIMIT: u32 = 500;

/// A caller that may read. An argument of every handler that only reads.
pub(super) struct Viewing(pub(super) Principal);

/// A caller that may change things and read content, for the log.
pub(super) struct Operating(pub(super) Principal);

impl FromRequestParts<Admin> for Viewing {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Problem> {
        permitted(parts, admin, Role::Viewer).map(Viewing)
    }
}

impl FromRequestParts<Admin> for Operating {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Problem> {
        permitted(parts, admin, Role::Operator).map(Operating)
    }
}

fn permitted(parts: &Parts, admin: &Admin, needed: Role) -> Result<Principal, Problem> {
    let who = admin.security.load().authenticate(&parts.headers).map_err(Problem::of_credential)?;
    match who.role() {
        Some(role) if role >= needed => Ok(who),
        Some(_) => Err(Problem::not_permitted("This needs an operator with the role operator.")),
        None => Err(Problem::not_permitted("The admin API is for operators; this is the token of a participant.")),
    }
}

/// Refuses a request with a query.
pub(super) async fn without_query(request: Request, next: Next) -> Response {
    match request.uri().query() {
        None | Some("") => next.run(request).await,
        Some(_) => {
            let text = "This request takes no parameters in the query; send them in the body, as JSON. \
                        See /admin/v1/openapi.json.";
            Problem::wrong(text).into_response()
        }
    }
}

/// An id in the path. Anything but a UUID is not the id of anything, so it is not found.
pub(super) fn id(text: &str, what: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::missing(what))
}

/// The query of a list: the fields of the filter `F`, `cursor`, and `limit`. Anything else is an error that names it.
pub(super) struct Listing<F> {
    pub(super) filter: F,
    pub(super) cursor: Option<String>,
    /// 1 to 500; default 50.
    pub(super) limit: u32,
}

impl<F: DeserializeOwned> FromRequestParts<Admin> for Listing<F> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Admin) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| Problem::wrong("The query cannot be read"))?;
        listing(pairs)
    }
}

fn listing<F: DeserializeOwned>(pairs: Vec<(String, String)>) -> Result<Listing<F>, Problem> {
    let (mut fields, mut cursor, mut limit) = (Map::new(), None, DEFAULT_LIMIT);
    for (name, value) in pairs {
        match name.as_str() {
            "cursor" => cursor = Some(value),
            "limit" => {
                limit = value
                    .parse()
                    .ok()
                    .filter(|limit| (1..=HIGHEST_LIMIT).contains(limit))
                    .ok_or_else(|| Problem::wrong(format!("limit is a whole number from 1 to {HIGHEST_LIMIT}.")))?;
            }
            _ => {
                let twice = format!("The filter {name} is given twice.");
                if fields.insert(name, Value::String(value)).is_some() {
                    return Err(Problem::wrong(twice));
                }
            }
        }
    }
    Ok(Listing { filter: read(fields)?, cursor, limit })
}

/// A complete body, within the router's limit.
pub(super) struct Body(pub(super) Bytes);

impl FromRequest<Admin> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, admin: &Admin) -> Result<Self, Problem> {
        Bytes::from_request(request, admin).await.map(Body).map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                let text = "The body is larger than server.body_limit_bytes.";
                Problem::new(rejection.status(), IssueCode::TooLong, Fault::SendTooLarge, text)
            } else {
                Problem::wrong("The body could not be read completely.")
            }
        })
    }
}

/// An action on everything that a filter matches: `{"filter": {…}, …options}`, or the filter's fields beside the options.
#[derive(Debug)]
pub(super) struct Order<F, O> {
    pub(super) filter: F,
    pub(super) options: O,
    /// Whether any filter was given.
    pub(super) filtered: bool,
}

/// Reads an action; `options` names the fields of `O`. An empty body has no filter and no options.
pub(super) fn order<F, O>(body: &[u8], options: &[&str]) -> Result<Order<F, O>, Problem>
where
    F: DeserializeOwned,
    O: DeserializeOwned,
{
    let mut fields: Map<String, Value> = if body.is_empty() {
        Map::new()
    } else {
        serde_json::from_slice(body)
            .map_err(|error| Problem::wrong(format!("The body is not a JSON object: {error}.")))?
    };
    let mut given = Map::new();
    for name in options {
        if let Some(value) = fields.remove(*name) {
            given.insert((*name).to_owned(), value);
        }
    }
    let filter = match fields.remove("filter") {
        Some(Value::Object(filter)) if fields.is_empty() => filter,
        Some(Value::Object(_)) => {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            return Err(Problem::wrong(format!("Unknown members beside filter: {}.", names.join(", "))));
        }
        Some(_) => return Err(Problem::wrong("filter is not an object.")),
        None => fields,
    };
    let filtered = filter.values().any(|value| !value.is_null());
    Ok(Order { filter: read(filter)?, options: read(given)?, filtered })
}

fn read<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Problem> {
    serde_json::from_value(Value::Object(fields)).map_err(|error| Problem::wrong(format!("{error}.")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::DeliveryState;
    use crate::store::view::{DeliveryFilter, MessageFilter};

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Options {
        dry_run: bool,
    }

    #[test]
    fn a_query_is_read_into_its_filter_and_page() {
        let asked = pairs(&[("state", "refused"), ("event", "a"), ("limit", "500"), ("cursor", "x")]);
        let listing: Listing<MessageFilter> = listing(asked).unwrap();
        assert_eq!(listing.filter.event.as_deref(), Some("a"));
        assert_eq!((listing.cursor.as_deref(), listing.limit), (Some("x"), 500));
    }

    #[test]
    fn what_a_query_cannot_hold_is_refused_by_name() {
        for (name, value, named) in [
            ("colour", "red", "colour"),
            ("limit", "501", "limit"),
            ("limit", "0", "limit"),
            ("state", "lost", "lost"),
            ("id", "7", "UUID"),
        ] {
            let problem = listing::<MessageFilter>(pairs(&[(name, value)])).err().expect(name);
            assert!(problem.issue.diagnostics.contains(named), "{}", problem.issue.diagnostics);
        }
        assert!(listing::<MessageFilter>(pairs(&[("event", "a"), ("event", "b")])).is_err());
    }

    #[test]
    fn an_order_has_its_filter_inside_or_beside() {
        for body in [r#"{"filter":{"state":"dead"},"dry_run":true}"#, r#"{"state":"dead","dry_run":true}"#] {
            let order: Order<DeliveryFilter, Options> = order(body.as_bytes(), &["dry_run"]).unwrap();
            assert_eq!(order.filter.state, Some(DeliveryState::Dead));
            assert!(order.options.dry_run && order.filtered);
        }
        assert!(!order::<DeliveryFilter, Options>(b"", &["dry_run"]).unwrap().filtered);
        for body in [r#"{"filter":{},"state":"dead"}"#, r#"{"filter":3}"#, "[]", r#"{"dry-run":true}"#, "{"] {
            assert!(order::<DeliveryFilter, Options>(body.as_bytes(), &["dry_run"]).is_err(), "{body}");
        }
    }
}
