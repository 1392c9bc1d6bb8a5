//! Serves connections, bounded in number and in how long each may be inactive, and drains them when the router stops.

use super::connection::{Activity, ConnectionState, Timeouts, TrackedBody, WatchedStream, tracked};
use crate::channel::caller::Caller;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

const TIMEOUTS: Timeouts = Timeouts {
    header: Duration::from_secs(20),
    idle: Duration::from_secs(60),
    write: Duration::from_secs(30),
    close: Duration::from_secs(5),
    evict: Duration::from_secs(1),
    check: Duration::from_secs(1),
};
/// Connections beyond the limit, for health checks and operators.
const RESERVE_CONNECTIONS: usize = 16;
/// Pause after a failed accept (no file descriptors left).
const ACCEPT_RETRY_MILLISECONDS: u64 = 100;
/// hyper's buffer per connection and direction, which also bounds a header.
const BUFFER_BYTES: usize = 64 * 1024;
/// How much an HTTP/2 client may send ahead, per request and in total.
const WINDOW_BYTES: u32 = 256 * 1024;

/// The server's settings.
#[derive(Clone, Copy, Debug)]
pub struct ServeSettings {
    /// Concurrent connections, besides the reserve for health checks and operators.
    pub max_connections: usize,
    timeouts: Timeouts,
}

impl ServeSettings {
    pub fn new(max_connections: usize) -> ServeSettings {
        ServeSettings { max_connections, timeouts: TIMEOUTS }
    }
}

/// Serves until `close`, then until open requests have ended. Once `stop` is canceled, each connection ends with its
/// request.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: ServeSettings,
    stop: CancellationToken,
    close: CancellationToken,
) {
    let tasks = TaskTracker::new();
    // Canceled when this future is dropped: connections then end at once.
    let cut = CancellationToken::new();
    let _guard = cut.clone().drop_guard();
    let server = Server { router, settings, builder: builder(&settings.timeouts), stop, cut, open: Arc::default() };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = close.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Replies are small, and the client waits for them: Nagle's algorithm would only add latency.
                let _ = stream.set_nodelay(true);
                if let Some(slot) = server.open.admit(&settings) {
                    tasks.spawn(server.connection(stream, peer.ip(), slot));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MILLISECONDS)).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

fn builder(timeouts: &Timeouts) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    let http1 = &mut builder.http1();
    http1.timer(TokioTimer::new()).header_read_timeout(timeouts.header).max_buf_size(BUFFER_BYTES);
    let http2 = &mut builder.http2();
    http2.timer(TokioTimer::new()).max_send_buf_size(BUFFER_BYTES);
    http2.initial_stream_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
    builder
}

/// The open connections.
#[derive(Default)]
struct OpenConnections {
    table: Mutex<ConnectionTable>,
}

#[derive(Default)]
struct ConnectionTable {
    next: u64,
    by_number: HashMap<u64, (Arc<Activity>, bool)>,
    reserved: usize,
}

/// A connection's slot, released when dropped.
struct ConnectionSlot {
    open: Arc<OpenConnections>,
    number: u64,
    activity: Arc<Activity>,
    is_reserved: bool,
}

impl OpenConnections {
    fn table(&self) -> MutexGuard<'_, ConnectionTable> {
        // Every change under the lock is one insertion or removal with its count.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot for one more connection. Beyond the limit, the connection that has been idle longest is closed; if none
    /// is idle, a slot of the reserve; if that is full too, None.
    fn admit(self: &Arc<Self>, settings: &ServeSettings) -> Option<ConnectionSlot> {
        let mut table = self.table();
        let has_room = table.by_number.len() - table.reserved < settings.max_connections
            || table.evict(false, settings.timeouts.evict);
        let is_reserved = !has_room;
        if is_reserved && table.reserved >= RESERVE_CONNECTIONS && !table.evict(true, Duration::ZERO) {
            return None;
        }
        let (number, activity) = (table.next, Activity::new());
        table.next += 1;
        table.reserved += usize::from(is_reserved);
        table.by_number.insert(number, (activity.clone(), is_reserved));
        Some(ConnectionSlot { open: self.clone(), number, activity, is_reserved })
    }
}

impl ConnectionTable {
    /// Closes the connection that has been idle longest, and at least this long, of the reserve or not. False if there
    /// is none.
    fn evict(&mut self, reserved: bool, idle: Duration) -> bool {
        let candidates = self.by_number.iter().filter(|(_, (_, is_reserved))| *is_reserved == reserved);
        let since = |activity: &Activity| activity.idle_since().filter(|since| since.elapsed() >= idle);
        let idle = candidates.filter_map(|(number, (activity, _))| Some((since(activity)?, *number))).min();
        let Some((activity, _)) = idle.and_then(|(_, number)| self.remove(number)) else { return false };
        activity.evicted.notify_one();
        true
    }

    fn remove(&mut self, number: u64) -> Option<(Arc<Activity>, bool)> {
        let removed = self.by_number.remove(&number)?;
        self.reserved -= usize::from(removed.1);
        Some(removed)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.open.table().remove(self.number);
    }
}

struct Server {
    router: Router,
    settings: ServeSettings,
    builder: Builder<TokioExecutor>,
    stop: CancellationToken,
    cut: CancellationToken,
    open: Arc<OpenConnections>,
}

impl Server {
    /// Serves one connection to its end.
    fn connection(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        slot: ConnectionSlot,
    ) -> impl Future<Output = ()> + Send + 'static {
        let activity = slot.activity.clone();
        let caller = Caller { peer, is_reserved: slot.is_reserved };
        let (router, stop, begun) = (self.router.clone(), self.stop.clone(), activity.clone());
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let (router, stop, begun) = (router.clone(), stop.clone(), begun.clone());
            async move { Ok::<_, Infallible>(answer(request, router, caller, &stop, &begun).await) }
        });
        let stream = TokioIo::new(WatchedStream { stream, activity: activity.clone() });
        let connection = self.builder.serve_connection(stream, TowerToHyperService::new(service)).into_owned();
        let (stop, cut, timeouts) = (self.stop.clone(), self.cut.clone(), self.settings.timeouts);
        async move {
            let _place = slot;
            let mut connection = std::pin::pin!(connection);
            let mut checks = tokio::time::interval_at(Instant::now() + timeouts.check, timeouts.check);
            // A connection that opens while the router stops still gets an answer.
            let is_late = stop.is_cancelled();
            let (mut ends, mut ends_at) = (false, None);
            loop {
                tokio::select! {
                    // An error of a connection is the client's; its requests were answered or stored.
                    _ = connection.as_mut() => return,
                    () = cut.cancelled() => return,
                    () = stop.cancelled(), if !ends && !is_late => ends = true,
                    () = activity.requested.notified(), if !ends && is_late => ends = true,
                    () = activity.evicted.notified() => if activity.idle_since().is_some() { return } else { ends = true },
                    _ = checks.tick() => match (activity.state_at(&timeouts, Instant::now()), ends_at) {
                        (ConnectionState::Busy, _) => continue,
                        (ConnectionState::Stalled, _) => return,
                        (ConnectionState::Idle, Some(end)) if Instant::now() > end => return,
                        (ConnectionState::Idle, Some(_)) => continue,
                        (ConnectionState::Idle, None) => ends_at = Some(Instant::now() + timeouts.close),
                    },
                }
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// One request and its response, with `Connection: close` where needed.
async fn answer(
    request: Request<Incoming>,
    router: Router,
    caller: Caller,
    stop: &CancellationToken,
    activity: &Arc<Activity>,
) -> Response {
    let open = activity.begin();
    let is_http1 = request.version() < Version::HTTP_2;
    let (parts, body) = request.into_parts();
    let (body, is_read) = tracked(body);
    let mut request = Request::from_parts(parts, body);
    request.extensions_mut().insert(caller);
    let Ok(mut response) = router.oneshot(request).await;
    // A client that gets this header sends no further request on a connection that is about to end. A connection with
    // an unread body ends because the following bytes are not a request.
    let ends = stop.is_cancelled() || caller.is_reserved || !is_read.load(Ordering::Relaxed);
    if is_http1 && ends {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|body| TrackedBody::body(body, open))
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
