//! Serving connections: a header timeout, HTTP/1 and HTTP/2, and a drain with a bound.

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const HEADER_TIMEOUT_SECONDS: u64 = 20;
/// After `stop`, open requests have this long to end.
const DRAIN_TIMEOUT_SECONDS: u64 = 40;
/// When accepting fails (no file descriptors left), how long to wait before the next try.
const ACCEPT_RETRY_MILLISECONDS: u64 = 100;

/// Serves until `stop`, then lets open requests end.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(HEADER_TIMEOUT_SECONDS));
    builder.http2().timer(TokioTimer::new());
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MILLISECONDS)).await;
                continue;
            }
        };
        // Replies are small and awaited: waiting to fill a packet would only add latency.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned());
        tokio::spawn(async move {
            // A connection that ends badly is its client's doing; what it asked for was answered or kept.
            let _ = connection.await;
        });
    }
    drop(listener);
    let drained = tokio::time::timeout(Duration::from_secs(DRAIN_TIMEOUT_SECONDS), graceful.shutdown());
    if drained.await.is_err() {
        tracing::warn!("some requests did not end within {DRAIN_TIMEOUT_SECONDS} s of stopping");
    }
}
