//! Serving connections: bounded in number and in what each may do without asking anything, and a drain.

use super::connection::{Activity, Paced, Timeouts, Verdict, WatchedStream, tracked};
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
    look: Duration::from_secs(1),
};
/// Connections beyond the limit, for health checks and operators.
const RESERVE_CONNECTIONS: usize = 16;
/// When accepting fails (no file descriptors left), how long to wait before the next try.
const ACCEPT_RETRY_MILLISECONDS: u64 = 100;
/// What hyper buffers of one connection's bytes, in and out; it bounds a header too.
const BUFFER_BYTES: usize = 64 * 1024;
/// What an HTTP/2 client may send before it is read, of one request and of all together.
const WINDOW_BYTES: u32 = 256 * 1024;

/// What the server is told once.
#[derive(Clone, Copy, Debug)]
pub struct ServeSettings {
    /// Connections at once, besides the reserve for health checks and operators.
    pub max_connections: usize,
    timeouts: Timeouts,
}

impl ServeSettings {
    pub fn new(max_connections: usize) -> ServeSettings {
        ServeSettings { max_connections, timeouts: TIMEOUTS }
    }
}

/// Serves until `close`, and then until open requests have ended. From `stop` on, each connection ends with its request.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: ServeSettings,
    stop: CancellationToken,
    close: CancellationToken,
) {
    let tasks = TaskTracker::new();
    // Dropped with this future: then connections end, whatever goes on over them.
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
                // Replies are small and awaited: waiting to fill a packet would only add latency.
                let _ = stream.set_nodelay(true);
                if let Some(place) = server.open.admit(&settings) {
                    tasks.spawn(server.connection(stream, peer.ip(), place));
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
struct Open {
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    next: u64,
    by_number: HashMap<u64, (Arc<Activity>, bool)>,
    reserved: usize,
}

/// A connection's place, given back when dropped.
struct Place {
    open: Arc<Open>,
    number: u64,
    activity: Arc<Activity>,
    is_reserved: bool,
}

impl Open {
    fn places(&self) -> MutexGuard<'_, Places> {
        // Every change under the lock is one insertion or removal, with its count.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more connection. Beyond the limit, the one that was idle longest makes room; where none is idle, there
    /// is the reserve; where that is full too, None.
    fn admit(self: &Arc<Self>, settings: &ServeSettings) -> Option<Place> {
        let mut places = self.places();
        let has_room = places.by_number.len() - places.reserved < settings.max_connections
            || places.evict(false, settings.timeouts.evict);
        let is_reserved = !has_room;
        if is_reserved && places.reserved >= RESERVE_CONNECTIONS && !places.evict(true, Duration::ZERO) {
            return None;
        }
        let (number, activity) = (places.next, Activity::new());
        places.next += 1;
        places.reserved += usize::from(is_reserved);
        places.by_number.insert(number, (activity.clone(), is_reserved));
        Some(Place { open: self.clone(), number, activity, is_reserved })
    }
}

impl Places {
    /// Ends the connection, of the reserve or not, that was idle longest, and at least so long. False where there is none.
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

impl Drop for Place {
    fn drop(&mut self) {
        self.open.places().remove(self.number);
    }
}

struct Server {
    router: Router,
    settings: ServeSettings,
    builder: Builder<TokioExecutor>,
    stop: CancellationToken,
    cut: CancellationToken,
    open: Arc<Open>,
}

impl Server {
    /// Serves one connection to its end.
    fn connection(&self, stream: TcpStream, peer: IpAddr, place: Place) -> impl Future<Output = ()> + Send + 'static {
        let activity = place.activity.clone();
        let caller = Caller { peer, is_reserved: place.is_reserved };
        let (router, stop, begun) = (self.router.clone(), self.stop.clone(), activity.clone());
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let (router, stop, begun) = (router.clone(), stop.clone(), begun.clone());
            async move { Ok::<_, Infallible>(answer(request, router, caller, &stop, &begun).await) }
        });
        let stream = TokioIo::new(WatchedStream { stream, activity: activity.clone() });
        let connection = self.builder.serve_connection(stream, TowerToHyperService::new(service)).into_owned();
        let (stop, cut, timeouts) = (self.stop.clone(), self.cut.clone(), self.settings.timeouts);
        async move {
            let _place = place;
            let mut connection = std::pin::pin!(connection);
            let mut looks = tokio::time::interval_at(Instant::now() + timeouts.look, timeouts.look);
            // One that comes while the router stops is still told so.
            let is_late = stop.is_cancelled();
            let (mut ends, mut ends_at) = (false, None);
            loop {
                tokio::select! {
                    // A connection that ends badly is its client's doing; what it asked for was answered or kept.
                    _ = connection.as_mut() => return,
                    () = cut.cancelled() => return,
                    () = stop.cancelled(), if !ends && !is_late => ends = true,
                    () = activity.asked.notified(), if !ends && is_late => ends = true,
                    () = activity.evicted.notified() => if activity.idle_since().is_some() { return } else { ends = true },
                    _ = looks.tick() => match (activity.verdict(&timeouts, Instant::now()), ends_at) {
                        (Verdict::Busy, _) => continue,
                        (Verdict::Stalled, _) => return,
                        (Verdict::Idle, Some(end)) if Instant::now() > end => return,
                        (Verdict::Idle, Some(_)) => continue,
                        (Verdict::Idle, None) => ends_at = Some(Instant::now() + timeouts.close),
                    },
                }
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// One request, and its response with what the connection has to say.
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
    // A client that is told so does not send its next request on a connection that is about to end; one with an unread body
    // ends because what follows on it is no request.
    let ends = stop.is_cancelled() || caller.is_reserved || !is_read.load(Ordering::Relaxed);
    if is_http1 && ends {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|body| Paced::body(body, open))
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
