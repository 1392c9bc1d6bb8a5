//! Tracks the activity of one connection: whether it is idle, and whether its client still reads.
//!
//! hyper bounds only the time for an HTTP/1 header. This tracks both protocols: open requests, responses without
//! progress, and writes that the socket does not accept.

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use std::collections::HashMap;
use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Responses are passed to hyper in pieces of this size, so that progress is visible.
const PIECE_BYTES: usize = 64 * 1024;

/// How long a connection may be inactive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// From the connection to the end of the first header; in HTTP/1 also of each further one.
    pub header: Duration,
    /// Without an open request, after the first.
    pub idle: Duration,
    /// While the client accepts no byte of a response.
    pub write: Duration,
    /// From the graceful shutdown of an idle connection to its end.
    pub close: Duration,
    /// After this long without an open request, it may be closed to make room for another. A connection that was just
    /// opened may have sent its request already.
    pub evict: Duration,
    /// How often it is checked.
    pub check: Duration,
}

/// The state of a connection, as the timeouts define it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionState {
    Busy,
    Idle,
    /// Its client does not read.
    Stalled,
}

/// The activity of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    /// Notified when an idle connection must make room for another.
    pub evicted: Notify,
    /// Notified with each request.
    pub requested: Notify,
}

#[derive(Debug)]
struct State {
    open: usize,
    requests: u64,
    idle_since: Instant,
    /// Active responses, and when each last made progress.
    responses: HashMap<u64, Instant>,
    write_blocked_since: Option<Instant>,
}

impl Activity {
    pub fn new() -> Arc<Activity> {
        let state = State {
            open: 0,
            requests: 0,
            idle_since: Instant::now(),
            responses: HashMap::new(),
            write_blocked_since: None,
        };
        Arc::new(Activity { state: Mutex::new(state), evicted: Notify::new(), requested: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is one assignment or insertion.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins; it is open until the value is dropped.
    pub fn begin(self: &Arc<Self>) -> OpenRequest {
        let mut state = self.state();
        state.open += 1;
        state.requests += 1;
        let number = state.requests;
        drop(state);
        self.requested.notify_one();
        OpenRequest { activity: self.clone(), number }
    }

    /// Since when there is no open request; None while there is one.
    pub fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.open == 0).then_some(state.idle_since)
    }

    pub fn state_at(&self, timeouts: &Timeouts, now: Instant) -> ConnectionState {
        let state = self.state();
        let too_long = |since: &Instant, limit: Duration| now.saturating_duration_since(*since) > limit;
        let is_stalled = |since: &Instant| too_long(since, timeouts.write);
        let idle_limit = if state.requests == 0 { timeouts.header } else { timeouts.idle };
        if state.write_blocked_since.as_ref().is_some_and(is_stalled) || state.responses.values().any(is_stalled) {
            ConnectionState::Stalled
        } else if state.open == 0 && too_long(&state.idle_since, idle_limit) {
            ConnectionState::Idle
        } else {
            ConnectionState::Busy
        }
    }

    fn wrote(&self, is_blocked: bool) {
        let mut state = self.state();
        match (is_blocked, state.write_blocked_since) {
            (true, None) => state.write_blocked_since = Some(Instant::now()),
            (false, Some(_)) => state.write_blocked_since = None,
            _ => {}
        }
    }
}

/// One request, from its header to the end of its response.
#[derive(Debug)]
pub(super) struct OpenRequest {
    activity: Arc<Activity>,
    number: u64,
}

impl OpenRequest {
    fn progressed(&self) {
        self.activity.state().responses.insert(self.number, Instant::now());
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.responses.remove(&self.number);
        state.open -= 1;
        state.idle_since = Instant::now();
    }
}

/// A response's body in pieces, each of which counts as progress.
pub(super) struct TrackedBody {
    body: Body,
    rest: Bytes,
    request: OpenRequest,
}

impl TrackedBody {
    pub fn body(body: Body, request: OpenRequest) -> Body {
        request.progressed();
        Body::new(TrackedBody { body, rest: Bytes::new(), request })
    }

    fn piece(&mut self) -> Poll<Option<std::result::Result<Frame<Bytes>, axum::Error>>> {
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, axum::Error>>> {
        self.request.progressed();
        if !self.rest.is_empty() {
            return self.piece();
        }
        match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.rest = data;
                    self.piece()
                }
                Err(frame) => Poll::Ready(Some(Ok(frame))),
            },
            other => Poll::Ready(other),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, hint) = (self.rest.len() as u64, self.body.size_hint());
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + rest);
        }
        whole
    }
}

/// A request's body, and whether it was read to its end.
pub(super) fn tracked(body: Incoming) -> (Body, Arc<AtomicBool>) {
    let is_read = Arc::new(AtomicBool::new(body.is_end_stream()));
    let tracked = TrackedRequestBody { body, is_read: is_read.clone() };
    (Body::new(tracked.map_err(axum::Error::new)), is_read)
}

struct TrackedRequestBody {
    body: Incoming,
    is_read: Arc<AtomicBool>,
}

impl HttpBody for TrackedRequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.is_read.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The socket, which records whether it accepts what is written.
pub(super) struct WatchedStream {
    pub stream: TcpStream,
    pub activity: Arc<Activity>,
}

impl WatchedStream {
    fn wrote<T>(&self, result: Poll<T>) -> Poll<T> {
        self.activity.wrote(result.is_pending());
        result
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        header: Duration::from_secs(20),
        idle: Duration::from_secs(60),
        write: Duration::from_secs(30),
        close: Duration::from_secs(5),
        evict: Duration::from_secs(1),
        check: Duration::from_secs(1),
    };

    #[tokio::test]
    async fn a_connection_is_idle_between_requests_and_stalled_when_nothing_is_taken_of_a_response() {
        let activity = Activity::new();
        let after = |seconds: u64| activity.state_at(&TIMEOUTS, Instant::now() + Duration::from_secs(seconds));
        assert_eq!((after(15), after(25)), (ConnectionState::Busy, ConnectionState::Idle), "no first header");
        let request = activity.begin();
        assert_eq!(after(3600), ConnectionState::Busy, "an answer may take its time");
        let mut body = TrackedBody::body(Body::from(vec![0; 3 * PIECE_BYTES]), request);
        assert_eq!((after(25), after(35)), (ConnectionState::Busy, ConnectionState::Stalled), "no piece was taken");
        // Long before the time of this test: only a piece that is taken can be progress.
        let old = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        for length in [PIECE_BYTES; 3] {
            activity.state().responses.insert(1, old);
            assert_eq!(after(0), ConnectionState::Stalled);
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap().len(), length);
            assert_eq!(after(25), ConnectionState::Busy);
        }
        drop(body);
        assert_eq!((after(55), after(65)), (ConnectionState::Busy, ConnectionState::Idle));
        activity.wrote(true);
        assert_eq!((after(25), after(35)), (ConnectionState::Busy, ConnectionState::Stalled));
        activity.wrote(false);
        assert_eq!(after(35), ConnectionState::Busy);
    }
}
