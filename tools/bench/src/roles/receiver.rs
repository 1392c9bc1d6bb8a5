//! The receiver: answers each message with `ok`, immediately, or after half a minute in its slow mode.

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use std::time::Duration;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::message::answer;

/// The time that the slow receiver takes per message.
const SLOW_ANSWER: Duration = Duration::from_secs(30);

/// Listens on `listen` (`host:port`) until the benchmark ends.
pub async fn run(listen: String) -> Result<()> {
    let listener = TcpListener::bind(&listen).await?;
    println!("listening {}", listener.local_addr()?);
    super::end_with_parent();
    let app = Router::new()
        .route("/fhir/$process-message", post(process_message))
        .route("/slow/$process-message", post(process_slowly))
        .layer(DefaultBodyLimit::disable());
    axum::serve(listener_without_delay(listener), app).await?;
    Ok(())
}

async fn process_message(request: Bytes) -> Response {
    match answer(&request, Uuid::new_v4(), Uuid::new_v4()) {
        Some(answer) => ([(header::CONTENT_TYPE, "application/fhir+json")], answer).into_response(),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn process_slowly(request: Bytes) -> Response {
    tokio::time::sleep(SLOW_ANSWER).await;
    process_message(request).await
}

/// Sends small answers immediately instead of waiting for more data (Nagle).
pub fn listener_without_delay(listener: TcpListener) -> impl axum::serve::Listener<Addr = std::net::SocketAddr> {
    use axum::serve::ListenerExt;
    listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    })
}
