//! The bare relay: the cost of forwarding a message and its answer without checking or storing anything.
//!
//! It is built from the same parts as the router (axum in, one pooled reqwest client out), and is the upper limit
//! for the router.

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::net::TcpListener;

use super::receiver::listener_without_delay;

#[derive(Clone)]
struct Relay {
    client: reqwest::Client,
    url: String,
}

/// Listens on a free loopback port and forwards everything to `peer` (`host:port`), until the benchmark ends.
pub async fn run(peer: &str) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening {}", listener.local_addr()?);
    super::end_with_parent();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(1_024)
        .tcp_nodelay(true)
        .build()?;
    let relay = Relay { client, url: format!("http://{peer}/fhir/$process-message") };
    let app = Router::new()
        .route("/fhir/$process-message", post(pass_on))
        .layer(DefaultBodyLimit::disable())
        .with_state(relay);
    axum::serve(listener_without_delay(listener), app).await?;
    Ok(())
}

async fn pass_on(State(relay): State<Relay>, message: Bytes) -> Response {
    let request = relay.client.post(&relay.url).header(header::CONTENT_TYPE, "application/fhir+json").body(message);
    match answer(request).await {
        Ok((status, body)) => (status, [(header::CONTENT_TYPE, "application/fhir+json")], body).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

async fn answer(request: reqwest::RequestBuilder) -> reqwest::Result<(StatusCode, Bytes)> {
    let response = request.send().await?;
    Ok((response.status(), response.bytes().await?))
}
