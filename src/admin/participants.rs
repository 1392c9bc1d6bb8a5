//! Participants: lists them as configured (without tokens) with their state; pauses, resumes, and probes them.

use super::api::{self, Page};
use super::ask::{Listing, Operating, Viewing};
use super::problem::Problem;
use super::{Admin, json, to_the_end};
use crate::courier::ParticipantStatus;
use crate::routing::{Channel, Participant};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};

/// No filter: every participant is listed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Everything {}

pub(super) async fn list(
    _: Viewing,
    State(admin): State<Admin>,
    listing: Listing<Everything>,
) -> Result<Response, Problem> {
    let Listing { filter: Everything {}, cursor, limit } = listing;
    let start: usize = match cursor {
        Some(text) => text.parse().map_err(|_| Problem::wrong("cursor is not one that this list gave."))?,
        None => 0,
    };
    let rules = admin.exchange.rules.load_full();
    let figures = admin.store().figures().await?;
    let paused: HashSet<String> = admin.store().paused().await?.into_iter().collect();
    let mut statuses: HashMap<String, ParticipantStatus> =
        admin.exchange.courier.status().await.into_iter().map(|status| (status.participant.clone(), status)).collect();
    let mut items = Vec::new();
    for participant in rules.table.participants.iter().skip(start).take(limit as usize) {
        let mut status = statuses.remove(&*participant.id).unwrap_or_else(|| idle(&participant.id));
        status.paused = paused.contains(&*participant.id);
        let mut view = view(participant, status);
        if let Some(counts) = figures.participants.iter().find(|counts| *counts.participant == *participant.id) {
            (view.waiting, view.dead) = (counts.waiting, counts.dead);
        }
        items.push(view);
    }
    let end = start.saturating_add(items.len());
    let next = (end < rules.table.participants.len() && !items.is_empty()).then(|| end.to_string());
    Ok(json(StatusCode::OK, &Page { items, next }))
}

/// The state of a participant without any delivery since the start.
fn idle(id: &str) -> ParticipantStatus {
    ParticipantStatus {
        participant: id.to_owned(),
        paused: false,
        breaker: "closed",
        last_fault: None,
        last_failure_at_us: None,
        next_probe_at_us: None,
        active: 0,
        lanes: 0,
    }
}

fn view(participant: &Participant, status: ParticipantStatus) -> api::Participant {
    let (channel, url) = match &participant.channel {
        Some(Channel::Http { url, .. }) => (Some("http"), Some(url.to_string())),
        Some(Channel::Amqp { .. }) => (Some("amqp"), None),
        Some(Channel::Mailbox) => (Some("mailbox"), None),
        None => (None, None),
    };
    api::Participant {
        id: participant.id.to_string(),
        name: participant.name.clone(),
        addresses: participant.addresses.clone(),
        channel: channel.map(str::to_owned),
        url,
        may_send: participant.may_send.clone(),
        may_receive: participant.may_receive.clone(),
        fhir_version: participant.fhir_version.map(|version| version.short().to_owned()),
        order: participant.order,
        concurrency: participant.concurrency,
        rejections: participant.rejections,
        has_token: !participant.token_sha256.is_empty(),
        waiting: 0,
        dead: 0,
        participant: status.participant,
        paused: status.paused,
        breaker: status.breaker.to_owned(),
        last_fault: status.last_fault,
        last_failure_at_us: status.last_failure_at_us,
        next_probe_at_us: status.next_probe_at_us,
        active: status.active,
        lanes: status.lanes,
    }
}

pub(super) async fn pause(
    caller: Operating,
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    set_paused(&admin, caller, &id, true).await
}

pub(super) async fn resume(
    caller: Operating,
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    set_paused(&admin, caller, &id, false).await
}

/// Attempts waiting deliveries now; if the breaker is open, sends one probe.
pub(super) async fn probe(
    Operating(who): Operating,
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let rules = admin.exchange.rules.load_full();
    let participant = rules.table.participant(&id).ok_or_else(|| Problem::missing("participant"))?;
    if admin.store().paused().await?.contains(&id) {
        return Err(Problem::conflict(format!("Deliveries to {id} are paused; resume them, which probes too.")));
    }
    if !participant.is_carried_to() {
        return Err(Problem::conflict(format!("{id} has no channel that could be probed.")));
    }
    admin.exchange.courier.retry_now(&id);
    tracing::info!(participant.id = id, caller = %who.label(), "a participant is probed");
    Ok(json(StatusCode::OK, &serde_json::json!({ "participant": id, "probed": true })))
}

/// Stored before the reply, so that a restart does not undo it.
async fn set_paused(admin: &Admin, Operating(who): Operating, id: &str, paused: bool) -> Result<Response, Problem> {
    if admin.exchange.rules.load().table.participant(id).is_none() {
        return Err(Problem::missing("participant"));
    }
    let (exchange, participant) = (admin.exchange.clone(), id.to_owned());
    to_the_end(async move {
        exchange.store.set_paused(&participant, paused).await?;
        exchange.courier.pause(&participant, paused);
        Ok(())
    })
    .await?;
    tracing::info!(participant.id = id, paused, caller = %who.label(), "a participant was paused or resumed");
    Ok(json(StatusCode::OK, &serde_json::json!({ "participant": id, "paused": paused })))
}
