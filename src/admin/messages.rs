//! Messages: lists, one message with its deliveries and answers, its bytes, its timeline.

use super::ask::{Listing, Operating, Viewing, id};
use super::deliveries::shown_to;
use super::problem::Problem;
use super::{Admin, json};
use crate::fhir::{Fault, IssueCode};
use crate::store::view::{DeliveryView, MessageFilter, MessageView};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use uuid::Uuid;

/// Answers that are shown with a message; further ones are found by their deliveries.
const ANSWERS_SHOWN: usize = 100;

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    message: MessageView,
    deliveries: Vec<DeliveryView>,
    /// The answers to it, each a message of its own; at most 100.
    answers: Vec<MessageView>,
}

pub(super) async fn list(
    _: Viewing,
    State(admin): State<Admin>,
    listing: Listing<MessageFilter>,
) -> Result<Response, Problem> {
    let page = admin.store().list_messages(&listing.filter, listing.cursor.as_deref(), listing.limit).await?;
    Ok(json(StatusCode::OK, &page))
}

pub(super) async fn show(
    Viewing(who): Viewing,
    State(admin): State<Admin>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    let id = id(&path, "message")?;
    let message = admin.store().message(id).await?.ok_or_else(|| Problem::missing("message"))?;
    let deliveries = shown_to(&who, admin.with_active(admin.store().deliveries_of(id).await?).await);
    let answers = answers(&admin, id, &deliveries).await?;
    Ok(json(StatusCode::OK, &Shown { message, deliveries, answers }))
}

/// The receivers' answers, and the one that Emberpost gave itself.
async fn answers(admin: &Admin, id: Uuid, deliveries: &[DeliveryView]) -> Result<Vec<MessageView>, Problem> {
    let mut ids: Vec<Uuid> = deliveries.iter().filter_map(|delivery| delivery.answer).take(ANSWERS_SHOWN).collect();
    if let Some(standing) = admin.store().standing(id).await?
        && let Some(own) = standing.own_answer
        && let Some((facts, _)) = admin.store().content(own).await?
    {
        ids.push(facts.id);
    }
    ids.sort_unstable();
    ids.dedup();
    let mut answers = Vec::with_capacity(ids.len());
    for id in ids {
        answers.extend(admin.store().message(id).await?);
    }
    Ok(answers)
}

/// The bytes as received, under the media type that they came with.
pub(super) async fn content(
    Operating(who): Operating,
    State(admin): State<Admin>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    let id = id(&path, "message")?;
    let key = admin.store().message_key(id).await?.ok_or_else(|| Problem::missing("message"))?;
    let (facts, bytes) = admin.store().content(key).await?.ok_or_else(|| {
        let text = "The content is no longer kept (retention.bodies_days); the trace is.";
        Problem::new(StatusCode::GONE, IssueCode::NotFound, Fault::RouteNotFound, text)
    })?;
    tracing::info!(message.id = %id, caller = %who.party(), "content of a message was read");
    let headers = [
        (header::CONTENT_TYPE, facts.media_type.clone()),
        // A message is data, also where a browser is asked to open it.
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
    let items = admin.store().timeline(id).await?;
    Ok(json(StatusCode::OK, &serde_json::json!({ "items": items })))
}
