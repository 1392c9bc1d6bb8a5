//! Replays: counts, creates, shows, pauses, resumes, and ends them.

use super::api::{Replay, ReplayCount};
use super::ask::{Body, Operating, Order, Viewing, id, order};
use super::problem::Problem;
use super::{Admin, json, to_the_end};
use crate::replay::{MAX_RATE_PER_SECOND, is_open};
use crate::store::view::{MessageFilter, NewReplay, ReplayState, ReplayView};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use uuid::Uuid;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    to: Option<String>,
    rate_per_second: Option<u32>,
    dry_run: bool,
    forward_answers: bool,
    force_consequence: bool,
}

const OPTIONS: [&str; 5] = ["to", "rate_per_second", "dry_run", "forward_answers", "force_consequence"];

/// Starts a replay (201), or counts its messages (200, `dry_run`).
pub(super) async fn create(
    Operating(who): Operating,
    State(admin): State<Admin>,
    Body(body): Body,
) -> Result<Response, Problem> {
    let Order { filter, options, filtered } = order::<MessageFilter, Options>(&body, &OPTIONS)?;
    check(&admin, &options)?;
    if options.dry_run {
        let count = crate::replay::count(admin.store(), &filter).await?;
        return Ok(json(StatusCode::OK, &ReplayCount::from(count)));
    }
    if !filtered {
        return Err(Problem::wrong("Give at least one filter: without one, every stored message would be replayed."));
    }
    let replay = NewReplay {
        id: admin.exchange.clock.new_id(),
        filter,
        to: options.to,
        rate_per_second: options.rate_per_second,
        forward_answers: options.forward_answers,
        force_consequence: options.force_consequence,
    };
    let (worker, id) = (admin.clone(), replay.id);
    to_the_end(async move {
        worker.store().create_replay(&replay).await?;
        worker.replays.wake();
        Ok(())
    })
    .await?;
    tracing::info!(replay.id = %id, caller = %who.label(), "a replay was ordered");
    let location = [(header::LOCATION, format!("/admin/v1/replays/{id}"))];
    Ok((location, json(StatusCode::CREATED, &Replay::from(find(&admin, id).await?))).into_response())
}

fn check(admin: &Admin, options: &Options) -> Result<(), Problem> {
    if options.rate_per_second.is_some_and(|rate| !(1..=MAX_RATE_PER_SECOND).contains(&rate)) {
        return Err(Problem::wrong(format!("rate_per_second is a whole number from 1 to {MAX_RATE_PER_SECOND}.")));
    }
    let Some(to) = &options.to else { return Ok(()) };
    match admin.exchange.rules.load().table.participant(to) {
        None => Err(Problem::wrong("to names no participant of the configuration.")),
        Some(participant) if participant.channel.is_none() => {
            Err(Problem::wrong("to names a participant without a channel; nothing can be delivered to it."))
        }
        Some(_) => Ok(()),
    }
}

async fn find(admin: &Admin, id: Uuid) -> Result<ReplayView, Problem> {
    admin.store().replay(id).await?.ok_or_else(|| Problem::missing("replay"))
}

pub(super) async fn show(
    _: Viewing,
    State(admin): State<Admin>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, &Replay::from(find(&admin, id(&path, "replay")?).await?)))
}

/// Ends a replay. What it has delivered stays delivered; the replay remains listed.
pub(super) async fn cancel(
    caller: Operating,
    State(admin): State<Admin>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    change(&admin, caller, &path, ReplayState::Stopped).await
}

pub(super) async fn pause(
    caller: Operating,
    State(admin): State<Admin>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    change(&admin, caller, &path, ReplayState::Paused).await
}

pub(super) async fn resume(
    caller: Operating,
    State(admin): State<Admin>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    change(&admin, caller, &path, ReplayState::Running).await
}

async fn change(admin: &Admin, Operating(who): Operating, path: &str, state: ReplayState) -> Result<Response, Problem> {
    let id = id(path, "replay")?;
    let replay = find(admin, id).await?;
    if !is_open(replay.state) {
        return Err(Problem::conflict("The replay has ended; create a new one."));
    }
    let worker = admin.clone();
    to_the_end(async move {
        worker.store().set_replay_state(id, state).await?;
        worker.replays.wake();
        Ok(())
    })
    .await?;
    tracing::info!(replay.id = %id, ?state, caller = %who.label(), "a replay was changed");
    Ok(json(StatusCode::OK, &Replay::from(find(admin, id).await?)))
}
