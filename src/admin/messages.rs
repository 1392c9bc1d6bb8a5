//! Messages: lists them; shows one with its deliveries and answers, its content, and its timeline; assigns answers.

use super::api::{Message, MessageShown, Page, TimelineEntry};
use super::ask::{Body, Listing, Operating, Viewing, id};
use super::deliveries::shown_to;
use super::problem::Problem;
use super::{Admin, json, to_the_end};
use crate::exchange::Unassigned;
use crate::fault::Fault;
use crate::outcome::IssueCode;
use crate::security::{Principal, Role};
use crate::store::view::MessageFilter;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use uuid::Uuid;

pub(super) async fn list(
    _: Viewing,
    State(admin): State<Admin>,
    listing: Listing<MessageFilter>,
) -> Result<Response, Problem> {
    let page = admin.store().list_messages(&listing.filter, listing.cursor.as_deref(), listing.limit).await?;
    Ok(json(StatusCode::OK, &Page::<Message>::of(page)))
}

pub(super) async fn show(
    Viewing(who): Viewing,
    State(admin): State<Admin>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    shown(&admin, &who, id(&path, "message")?).await
}

async fn shown(admin: &Admin, who: &Principal, id: Uuid) -> Result<Response, Problem> {
    let mut message = admin.store().message(id).await?.ok_or_else(|| Problem::missing("message"))?;
    let deliveries = shown_to(who, admin.with_active(admin.store().deliveries_of(id).await?).await?);
    let mut answers = admin.store().answers_to(id).await?;
    // Quotes in issues are content: operators see them while the body is stored, viewers do not.
    if who.role() == Some(Role::Operator) {
        for shown in answers.iter_mut().chain([&mut message]) {
            if let Some(full) = admin.store().full_outcome(shown.metadata.id).await? {
                shown.outcome = Some(full);
            }
        }
    }
    let answers = answers.into_iter().map(Message::from).collect();
    Ok(json(StatusCode::OK, &MessageShown { message: message.into(), deliveries, answers }))
}

/// The request of an ambiguous response.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Assignment {
    #[serde(alias = "request")]
    to: Uuid,
}

pub(super) async fn assign(
    Operating(who): Operating,
    State(admin): State<Admin>,
    Path(path): Path<String>,
    Body(body): Body,
) -> Result<Response, Problem> {
    let id = id(&path, "message")?;
    let wanted = r#"The body names the request by Emberpost's message id: {"to": "…"}"#;
    let Assignment { to } =
        serde_json::from_slice(&body).map_err(|error| Problem::wrong(format!("{wanted}; {error}.")))?;
    let exchange = admin.exchange.clone();
    to_the_end(async move { exchange.assign(id, to).await.map_err(Problem::from) }).await?;
    tracing::info!(message.id = %id, request.id = %to, caller = %who.label(), "a response was assigned");
    shown(&admin, &who, id).await
}

impl From<Unassigned> for Problem {
    fn from(error: Unassigned) -> Self {
        match error {
            Unassigned::Unknown(_) => {
                Problem::new(StatusCode::NOT_FOUND, IssueCode::NotFound, Fault::RouteNotFound, error.to_string())
            }
            Unassigned::Impossible(text) => Problem::conflict(text),
            Unassigned::Unavailable(away) => away.into(),
        }
    }
}

/// The bytes as received, with their media type.
pub(super) async fn content(
    Operating(who): Operating,
    State(admin): State<Admin>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    let id = id(&path, "message")?;
    let key = admin.store().message_key(id).await?.ok_or_else(|| Problem::missing("message"))?;
    let (metadata, bytes) = admin.store().content(key).await?.ok_or_else(|| {
        let text = "The content is no longer stored (retention.bodies_days); the trace is.";
        Problem::new(StatusCode::GONE, IssueCode::NotFound, Fault::RouteNotFound, text)
    })?;
    tracing::info!(message.id = %id, caller = %who.label(), "content of a message was read");
    let headers = [
        (header::CONTENT_TYPE, metadata.media_type.clone()),
        // A browser must not render or run a message.
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CONTENT_SECURITY_POLICY, "sandbox".to_owned()),
    ];
    Ok((headers, bytes).into_response())
}

pub(super) async fn timeline(
    _: Viewing,
    State(admin): State<Admin>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    let id = id(&path, "message")?;
    admin.store().message_key(id).await?.ok_or_else(|| Problem::missing("message"))?;
    let items = admin.store().timeline(id).await?.into_iter().map(TimelineEntry::from).collect();
    Ok(json(StatusCode::OK, &Page { items, next: None }))
}
