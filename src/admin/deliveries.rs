//! Deliveries: lists them, and retries or discards one, or all that a filter matches.

use super::api::{Delivery, Ordered, Page};
use super::ask::{Body, Listing, Operating, Order, Viewing, id, order};
use super::problem::Problem;
use super::{Admin, json, to_the_end};
use crate::delivery::DeliveryState;
use crate::outcome::masked;
use crate::security::{Principal, Role};
use crate::store::view::{DeliveryFilter, DeliveryView};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use uuid::Uuid;

/// The most deliveries that one request retries or discards; the caller repeats the request for the rest.
const ORDER_LIMIT: u32 = 10_000;
const PAGE_LIMIT: u32 = 500;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    dry_run: bool,
}

pub(super) async fn list(
    Viewing(who): Viewing,
    State(admin): State<Admin>,
    listing: Listing<DeliveryFilter>,
) -> Result<Response, Problem> {
    let page = admin.store().list_deliveries(&listing.filter, listing.cursor.as_deref(), listing.limit).await?;
    let items = shown_to(&who, admin.with_active(page.items).await?);
    Ok(json(StatusCode::OK, &Page { items, next: page.next }))
}

pub(super) async fn retry(
    Operating(who): Operating,
    State(admin): State<Admin>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    let id = id(&path, "delivery")?;
    let filter = DeliveryFilter { id: Some(id), ..DeliveryFilter::default() };
    let exchange = admin.exchange.clone();
    if to_the_end(async move { Ok(exchange.retry(&filter, 1).await?) }).await? == 0 {
        try_now(&admin, id).await?;
    }
    tracing::info!(delivery.id = %id, caller = %who.label(), "a delivery is retried");
    show(&admin, id).await
}

/// A waiting delivery is attempted now if nothing but its due time or an open breaker delays it.
async fn try_now(admin: &Admin, id: Uuid) -> Result<(), Problem> {
    let filter = DeliveryFilter { id: Some(id), ..DeliveryFilter::default() };
    let page = admin.store().list_deliveries(&filter, None, 1).await?;
    let (delivery, can_be_tried) =
        admin.explained(page.items).await?.pop().ok_or_else(|| Problem::missing("delivery"))?;
    if let Some(waits) = delivery.waits.filter(|_| !can_be_tried) {
        return Err(Problem::conflict(format!("It cannot be attempted now. {waits}")));
    }
    let exchange = admin.exchange.clone();
    if !can_be_tried || !to_the_end(async move { Ok(exchange.try_now(id).await?) }).await? {
        return Err(why_not(admin, id, "only a dead, discarded or waiting delivery can be retried").await?);
    }
    Ok(())
}

pub(super) async fn show_one(
    Viewing(who): Viewing,
    State(admin): State<Admin>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    let delivery = one(&admin, id(&path, "delivery")?).await?;
    Ok(json(StatusCode::OK, &shown_to(&who, vec![delivery]).first()))
}

pub(super) async fn discard(
    Operating(who): Operating,
    State(admin): State<Admin>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    let id = id(&path, "delivery")?;
    let exchange = admin.exchange.clone();
    if !to_the_end(async move { Ok(exchange.discard(id).await?) }).await? {
        return Err(why_not(&admin, id, "only a waiting delivery can be discarded").await?);
    }
    tracing::info!(delivery.id = %id, caller = %who.label(), "a delivery was discarded");
    show(&admin, id).await
}

async fn why_not(admin: &Admin, id: Uuid, rule: &str) -> Result<Problem, Problem> {
    Ok(match admin.store().pending_delivery(id).await? {
        None => Problem::missing("delivery"),
        Some((work, DeliveryState::Dead | DeliveryState::Discarded))
            if admin.store().content(work.message_key).await?.is_none() =>
        {
            let text = "The content of the message is no longer stored (retention.dead_letters_days), so it cannot be \
                        delivered again; its sender can send it again.";
            Problem::conflict(text.to_owned())
        }
        Some((_, state)) => Problem::conflict(format!("The delivery is {}; {rule}.", state.as_str())),
    })
}

async fn show(admin: &Admin, id: Uuid) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, &Delivery::from(one(admin, id).await?)))
}

async fn one(admin: &Admin, id: Uuid) -> Result<DeliveryView, Problem> {
    let filter = DeliveryFilter { id: Some(id), ..DeliveryFilter::default() };
    let page = admin.store().list_deliveries(&filter, None, 1).await?;
    admin.with_active(page.items).await?.pop().ok_or_else(|| Problem::missing("delivery"))
}

/// Deliveries as this caller may see them: the texts of a receiver may quote content of the message.
pub(super) fn shown_to(who: &Principal, mut deliveries: Vec<DeliveryView>) -> Vec<Delivery> {
    if who.role() != Some(Role::Operator) {
        for issue in deliveries.iter_mut().flat_map(|delivery| &mut delivery.receiver_issues) {
            *issue = masked(issue);
        }
    }
    deliveries.into_iter().map(Delivery::from).collect()
}

/// Retries all dead letters that the filter matches, or all discarded deliveries if the filter names that state.
pub(super) async fn retry_all(
    Operating(who): Operating,
    State(admin): State<Admin>,
    Body(body): Body,
) -> Result<Response, Problem> {
    let Order { mut filter, options, .. } = order::<DeliveryFilter, Options>(&body, &["dry_run"])?;
    let state = *filter.state.get_or_insert(DeliveryState::Dead);
    if !matches!(state, DeliveryState::Dead | DeliveryState::Discarded) {
        return Err(Problem::wrong("Only dead or discarded deliveries can be retried."));
    }
    let matched = admin.store().count_deliveries(&filter).await?;
    let exchange = admin.exchange.clone();
    let done = match options.dry_run {
        true => 0,
        false => to_the_end(async move { Ok(exchange.retry(&filter, ORDER_LIMIT).await?) }).await?,
    };
    tracing::info!(matched, done, options.dry_run, caller = %who.label(), "deliveries are retried by filter");
    Ok(json(StatusCode::OK, &Ordered { matched, done }))
}

/// Discards all waiting deliveries that the filter matches. An empty filter is refused: it would discard all traffic.
pub(super) async fn discard_all(
    Operating(who): Operating,
    State(admin): State<Admin>,
    Body(body): Body,
) -> Result<Response, Problem> {
    let Order { mut filter, options, filtered } = order::<DeliveryFilter, Options>(&body, &["dry_run"])?;
    if !filtered && !options.dry_run {
        return Err(Problem::wrong(
            "Give at least one filter: without one, every waiting delivery would be discarded.",
        ));
    }
    if *filter.state.get_or_insert(DeliveryState::Waiting) != DeliveryState::Waiting {
        return Err(Problem::wrong("Only waiting deliveries can be discarded."));
    }
    let matched = admin.store().count_deliveries(&filter).await?;
    let worker = admin.clone();
    let done = match options.dry_run {
        true => 0,
        false => to_the_end(async move { discard_matching(&worker, &filter).await }).await?,
    };
    tracing::info!(matched, done, options.dry_run, caller = %who.label(), "deliveries are discarded by filter");
    Ok(json(StatusCode::OK, &Ordered { matched, done }))
}

/// Page by page, so that deliveries that cannot be discarded (an attempt has ended in the meantime) are skipped, not repeated.
async fn discard_matching(admin: &Admin, filter: &DeliveryFilter) -> Result<u64, Problem> {
    let (mut done, mut seen, mut cursor) = (0, 0, None);
    while seen < ORDER_LIMIT {
        let page = admin.store().list_deliveries(filter, cursor.as_deref(), PAGE_LIMIT.min(ORDER_LIMIT - seen)).await?;
        for delivery in &page.items {
            done += u64::from(admin.exchange.discard(delivery.id).await?);
            seen += 1;
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(done)
}
