//! Serving connections: a header timeout, HTTP/1 and HTTP/2, and a drain with a bound.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Version, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// From the connection, or from the end of the last request, to the end of the next header.
const HEADER_TIMEOUT_SECONDS: u64 = 20;
/// When accepting fails (no file descriptors left), how long to wait before the next try.
const ACCEPT_RETRY_MILLISECONDS: u64 = 100;

/// Serves until `close`, and then until open requests have ended. From `stop` on, each connection ends with its request.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, close: CancellationToken) {
    serve_within(listener, router, stop, close, Duration::from_secs(HEADER_TIMEOUT_SECONDS)).await;
}

async fn serve_within(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    close: CancellationToken,
    header_timeout: Duration,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout);
    builder.http2().timer(TokioTimer::new());
    let router = router.layer(middleware::from_fn_with_state(stop.clone(), say_close));
    let connections = TaskTracker::new();
    // Dropped with this future: then connections end, whatever goes on over them.
    let cut = CancellationToken::new();
    let _guard = cut.clone().drop_guard();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = close.cancelled() => break,
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
        let (spoke, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let service = TowerToHyperService::new(router.clone().map_request(notice(spoke.clone(), asked.clone())));
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let (stop, cut) = (stop.clone(), cut.clone());
        // One that comes while the router stops is still told so.
        let is_late = stop.is_cancelled();
        connections.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let stopped = async {
                tokio::select! {
                    () = silence(&spoke, header_timeout) => true,
                    () = cut.cancelled() => true,
                    () = stop.cancelled(), if !is_late => false,
                    () = asked.notified(), if is_late => false,
                }
            };
            // A connection that ends badly is its client's doing; what it asked for was answered or kept.
            tokio::select! {
                _ = connection.as_mut() => {}
                cut_off = stopped => if !cut_off {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        _ = connection => {}
                        () = cut.cancelled() => {}
                    }
                }
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// A client that is told so does not send its next request on a connection that is about to end.
async fn say_close(State(stop): State<CancellationToken>, request: Request, next: Next) -> Response {
    let is_http1 = request.version() < Version::HTTP_2;
    let mut response = next.run(request).await;
    if is_http1 && stop.is_cancelled() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn notice(
    spoke: Arc<AtomicBool>,
    asked: Arc<Notify>,
) -> impl Fn(Request<hyper::body::Incoming>) -> Request<hyper::body::Incoming> + Clone {
    move |request| {
        spoke.store(true, Ordering::Relaxed);
        asked.notify_one();
        request
    }
}

/// Ends when a connection has made no request in this time: hyper's own header timeout begins only once it knows that the
/// client speaks HTTP/1, which one that sends nothing, or the first letter of a preface, never lets it know.
async fn silence(spoke: &AtomicBool, timeout: Duration) {
    tokio::time::sleep(timeout).await;
    if spoke.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    const HEADER_TIMEOUT: Duration = Duration::from_millis(200);
    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_connection_that_does_not_finish_a_header_in_time_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "here" }));
        let serving = tokio::spawn(serve_within(listener, router, stop.clone(), stop.clone(), HEADER_TIMEOUT));
        let whole = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for sent in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\nX-", whole]
        {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            let mut reply = Vec::new();
            let end = tokio::time::timeout(SOON, stream.read_to_end(&mut reply)).await;
            assert!(end.is_ok(), "still open after {sent:?}");
            assert_eq!(reply.ends_with(b"here"), sent == whole, "{sent:?}");
        }
        stop.cancel();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_reply_may_take_longer_than_a_header() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let late = || async {
            tokio::time::sleep(HEADER_TIMEOUT * 3).await;
            "here"
        };
        let router = Router::new().route("/", get(late));
        let serving = tokio::spawn(serve_within(listener, router, stop.clone(), stop.clone(), HEADER_TIMEOUT));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.unwrap();
        assert!(reply.ends_with(b"here"), "{}", String::from_utf8_lossy(&reply));
        stop.cancel();
        serving.await.unwrap();
    }
}
