//! The admin API under `/admin/v1`, for operators and the commands. JSON, described by `openapi.json`.
//!
//! Reads the store and calls the exchange. It decides who may do what (viewer or operator), and nothing else. Every refusal
//! is an OperationOutcome with its fault.

pub mod api;
mod ask;
mod deliveries;
mod messages;
mod participants;
mod problem;
mod replays;
mod system;
mod waiting;

use crate::delivery::DeliveryState;
use crate::exchange::Exchange;
use crate::replay::Replays;
use crate::security::Credentials;
use crate::store::Store;
use crate::store::view::DeliveryView;
use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use problem::Problem;
use serde::Serialize;
use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;
use waiting::Waiting;

/// What the handlers share; cheap to clone.
#[derive(Clone)]
pub struct Admin {
    pub exchange: Arc<Exchange>,
    /// Replaced as a whole when the configuration is reloaded.
    pub security: Arc<ArcSwap<Credentials>>,
    pub replays: Replays,
    pub node_name: String,
    /// When this process started; UTC microseconds since 1970.
    pub started_at_us: i64,
    /// `server.body_limit_bytes`, for the message that `POST route` explains.
    pub body_limit_bytes: usize,
}

impl Admin {
    fn store(&self) -> &Store {
        &self.exchange.store
    }

    /// Adds what is not stored: which deliveries are being attempted, and why the others wait.
    async fn with_active(&self, deliveries: Vec<DeliveryView>) -> Result<Vec<DeliveryView>, Problem> {
        Ok(self.explained(deliveries).await?.into_iter().map(|(delivery, _)| delivery).collect())
    }

    /// Like `with_active`, each with whether an operator can start an attempt now.
    async fn explained(&self, deliveries: Vec<DeliveryView>) -> Result<Vec<(DeliveryView, bool)>, Problem> {
        let waits = |delivery: &&DeliveryView| delivery.state == DeliveryState::Waiting;
        let ids: Vec<Uuid> = deliveries.iter().filter(waits).map(|delivery| delivery.id).collect();
        if ids.is_empty() {
            return Ok(deliveries.into_iter().map(|delivery| (delivery, false)).collect());
        }
        let active: HashSet<Uuid> = self.exchange.courier.active().await.into_iter().collect();
        let statuses = self.exchange.courier.status().await;
        let heads = self.store().first_in_lane(&ids).await?;
        let (rules, now_us) = (self.exchange.rules.load_full(), self.exchange.clock.now_us());
        let explain = |mut delivery: DeliveryView| {
            if !waits(&&delivery) {
                return (delivery, false);
            }
            if active.contains(&delivery.id) {
                delivery.state = DeliveryState::Active;
                return (delivery, false);
            }
            let head = heads.get(&delivery.id);
            let known = Waiting {
                delivery: &delivery,
                participant: rules.table.participant(&delivery.participant).map(|participant| &**participant),
                status: statuses.iter().find(|status| status.participant == delivery.participant),
                head,
                is_head_active: head.is_some_and(|head| active.contains(&head.id)),
                now_us,
            };
            let (sentence, can_be_tried) = (known.sentence(), known.can_be_tried());
            delivery.waits = Some(sentence);
            (delivery, can_be_tried)
        };
        Ok(deliveries.into_iter().map(explain).collect())
    }
}

/// The routes, including the prefix `/admin/v1`.
pub fn router(admin: Admin) -> Router {
    let limit = DefaultBodyLimit::max(admin.body_limit_bytes);
    let api = paths().into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler));
    let api = api.fallback(problem::no_such_path).method_not_allowed_fallback(problem::wrong_method);
    Router::new().nest("/admin/v1", api.layer(limit).with_state(admin))
}

/// One operation of the API; `openapi.json` describes each.
struct Operation {
    #[cfg_attr(not(test), expect(dead_code, reason = "the test of openapi.json compares it"))]
    method: &'static str,
    path: &'static str,
    handler: MethodRouter<Admin>,
}

fn paths() -> Vec<Operation> {
    vec![
        reads("/messages", messages::list),
        reads("/messages/{id}", messages::show),
        orders("/messages/{id}/assign", messages::assign),
        reads("/messages/{id}/content", messages::content),
        reads("/messages/{id}/timeline", messages::timeline),
        reads("/deliveries", deliveries::list),
        reads("/deliveries/{id}", deliveries::show_one),
        orders("/deliveries/retry", deliveries::retry_all),
        orders("/deliveries/discard", deliveries::discard_all),
        orders("/deliveries/{id}/retry", deliveries::retry),
        orders("/deliveries/{id}/discard", deliveries::discard),
        reads("/exchanges", system::exchanges),
        explains("/route", system::explain),
        orders("/replays", replays::create),
        reads("/replays/{id}", replays::show),
        deletes("/replays/{id}", replays::cancel),
        orders("/replays/{id}/pause", replays::pause),
        orders("/replays/{id}/resume", replays::resume),
        reads("/participants", participants::list),
        orders("/participants/{id}/pause", participants::pause),
        orders("/participants/{id}/resume", participants::resume),
        orders("/participants/{id}/probe", participants::probe),
        reads("/nodes", system::nodes),
        reads("/stats", system::stats),
        orders("/clock/confirm", system::confirm_clock),
        reads("/openapi.json", system::openapi),
    ]
}

fn reads<H: Handler<T, Admin>, T: 'static>(path: &'static str, handler: H) -> Operation {
    Operation { method: "get", path, handler: get(handler) }
}

fn explains<H: Handler<T, Admin>, T: 'static>(path: &'static str, handler: H) -> Operation {
    Operation { method: "post", path, handler: post(handler) }
}

/// Without a query: a filter there would be ignored, and the order would be one for everything.
fn orders<H: Handler<T, Admin>, T: 'static>(path: &'static str, handler: H) -> Operation {
    Operation { method: "post", path, handler: post(handler).layer(from_fn(ask::without_query)) }
}

fn deletes<H: Handler<T, Admin>, T: 'static>(path: &'static str, handler: H) -> Operation {
    Operation { method: "delete", path, handler: delete(handler).layer(from_fn(ask::without_query)) }
}

/// Runs an action to its end even if the caller disconnects, so that the store and the running state agree.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, problem::Problem>> + Send + 'static,
) -> Result<T, problem::Problem> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        tracing::error!(is_panic = error.is_panic(), "a defect stopped an action");
        let (code, fault) = (crate::outcome::IssueCode::Exception, crate::fault::Fault::RouteInternal);
        let text = "A defect of the router stopped this action; check what it did, and report it.";
        Err(problem::Problem::new(StatusCode::INTERNAL_SERVER_ERROR, code, fault, text))
    })
}

/// A JSON response. Serializing our own types cannot fail, because their keys are strings; if it does, it is a defect.
fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer of the admin API cannot be written");
            let (code, fault) = (crate::outcome::IssueCode::Exception, crate::fault::Fault::RouteInternal);
            let text = "The answer cannot be written; this is a defect of the router.";
            problem::Problem::new(StatusCode::INTERNAL_SERVER_ERROR, code, fault, text).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
