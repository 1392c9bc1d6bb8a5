//! HTTP in: `$process-message`, its status URL, and the answer to operations that are not built.
//!
//! The handler reads the request within bounds, passes the message to the exchange in a task of its own (so that a
//! sender that disconnects does not interrupt it), and writes the reply. All statuses are chosen in `reply`.

mod body;
mod connection;
mod negotiate;
mod poll_limit;
mod reply;
mod serve;

pub use serve::{ServeSettings, serve};

use crate::admission::{Admission, Owner};
use crate::channel::caller::{Caller, address_of};
use crate::channel::edge::{FixedVersion, WrittenPath};
use crate::channel::media;
use crate::exchange::{Exchange, Inbound, IntakeSlot, StatusPage};
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode};
use crate::security::{Credentials, Principal};
use crate::turn::Turn;
use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::any;
use body::{Bounds, discard, read_body};
use fhir::Format;
use negotiate::{Requested, negotiate};
use poll_limit::PollLimit;
use reply::{ReplyWriter, outcome_response, status_page};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// How much of an unknown path is quoted in the reply.
const PATH_ECHO_LIMIT_BYTES: usize = 200;

/// Concurrent reads of refused bodies. Beyond it, a refused sender that is still writing loses the reply.
const DISCARDS_AT_ONCE: usize = 64;

/// The dependencies of the FHIR side of HTTP.
#[derive(Clone)]
pub struct HttpIn {
    pub exchange: Arc<Exchange>,
    pub credentials: Arc<ArcSwap<Credentials>>,
    /// `max_in_flight` places between first byte and commit, and the bytes in them.
    pub admission: Admission,
    /// Peers that forward the requests of many senders.
    pub trusted_proxies: Arc<[IpAddr]>,
    /// Refused bodies that are read to their end.
    discards: Arc<Semaphore>,
    pub body_limit_bytes: usize,
    /// Canceled when the router stops: no new message is accepted then.
    pub stopping: CancellationToken,
    poll_limit: Arc<PollLimit>,
}

impl HttpIn {
    pub fn new(
        exchange: Arc<Exchange>,
        credentials: Arc<ArcSwap<Credentials>>,
        admission: Admission,
        trusted_proxies: Arc<[IpAddr]>,
        body_limit_bytes: usize,
        stopping: CancellationToken,
    ) -> Self {
        let discards = Arc::new(Semaphore::new(DISCARDS_AT_ONCE));
        let poll_limit = Arc::default();
        HttpIn { exchange, credentials, admission, trusted_proxies, discards, body_limit_bytes, stopping, poll_limit }
    }

    /// Routes relative to the FHIR base.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/$process-message", any(process_message))
            .route("/async/{id}", any(status))
            .route("/Bundle", any(not_built))
            .route("/Bundle/{id}", any(not_built))
            .route("/$claim-messages", any(not_built))
            .route("/$confirm-messages", any(not_built))
            .route("/", any(not_built))
            .with_state(Arc::new(self))
    }

    /// Whose share of the admission limits a request uses.
    fn owner(&self, head: &Parts, credential: &Option<Arc<str>>) -> Option<Owner> {
        let peer = head.extensions.get::<Caller>().map(|caller| caller.peer);
        let address = || address_of(peer?, &head.headers, &self.trusted_proxies).map(Owner::Peer);
        credential.clone().map(Owner::Participant).or_else(address)
    }

    /// The calling participant; None on open loopback.
    fn participant(&self, headers: &HeaderMap) -> Result<Option<Arc<str>>, (StatusCode, Issue)> {
        match self.credentials.load().authenticate(headers) {
            Ok(Principal::Loopback) => Ok(None),
            Ok(Principal::Participant(id)) => Ok(Some(id)),
            Ok(Principal::Operator { .. }) => {
                let text = "This credential is an operator's; messages are sent with a participant's";
                Err((StatusCode::FORBIDDEN, Issue::error(IssueCode::Forbidden, Fault::RoutePermission, text)))
            }
            Err(issue) => Err((StatusCode::UNAUTHORIZED, issue)),
        }
    }
}

async fn process_message(State(http): State<Arc<HttpIn>>, request: Request) -> Response {
    let started = std::time::Instant::now();
    let writer = ReplyWriter::new(&http.exchange.settings, request.headers());
    let (head, mut body) = request.into_parts();
    let response = match take(&http, &head, &mut body, &writer).await {
        Ok(response) => response,
        Err((status, issue)) => {
            http.exchange.metrics.fault(issue.cause.code());
            // A client with `Expect: 100-continue` has not sent its body, and one that timed out will not.
            let is_sending = !head.headers.contains_key(header::EXPECT) && status != StatusCode::REQUEST_TIMEOUT;
            if is_sending && let Ok(_place) = http.discards.try_acquire() {
                discard(&mut body).await;
            }
            outcome_response(status, &issue.into())
        }
    };
    http.exchange.metrics.replied(response.status().as_u16(), started.elapsed().as_secs_f64());
    writer.finish(response)
}

async fn take(
    http: &HttpIn,
    head: &Parts,
    body: &mut Body,
    writer: &ReplyWriter,
) -> Result<Response, (StatusCode, Issue)> {
    if head.method != Method::POST {
        let text = "$process-message takes only POST";
        return Err((
            StatusCode::METHOD_NOT_ALLOWED,
            Issue::error(IssueCode::NotSupported, Fault::SendRequest, text).rule("MSG-82"),
        ));
    }
    let credential = http.participant(&head.headers)?;
    if http.stopping.is_cancelled() {
        return Err(busy(Fault::RouteStopping, "The router is stopping; send again later"));
    }
    let Some(mut permit) = http.admission.admit(http.owner(head, &credential)) else {
        let text = "The router, or one sender's share of it, is at its limit of messages in flight; send again later";
        return Err(busy(Fault::RouteBusy, text));
    };
    let fixed = head.extensions.get::<FixedVersion>().map(|fixed| fixed.0);
    let requested = negotiate(head.uri.query().unwrap_or(""), &head.headers, fixed)?;
    let received_at_us = http.exchange.clock.now_us();
    let bounds = Bounds { limit_bytes: http.body_limit_bytes, encoding: requested.encoding };
    let bytes = read_body(body, bounds, &mut permit).await?;
    let answer = requested.answer;
    let (inbound, _guard) = inbound(requested, bytes, credential, received_at_us, writer);
    let exchange = http.exchange.clone();
    let place = IntakeSlot { permit: Some(permit), turn: Turn::free() };
    let task = tokio::spawn(async move { exchange.accept(inbound, place).await });
    match task.await {
        Ok(reply) => Ok(writer.reply(&reply, answer)),
        Err(failure) => {
            tracing::error!(is_panic = failure.is_panic(), "a message panicked");
            let text = "A defect in the router stopped this message; send it again, and report the defect";
            Err((StatusCode::INTERNAL_SERVER_ERROR, Issue::error(IssueCode::Exception, Fault::RouteInternal, text)))
        }
    }
}

/// The guard cancels `gone` when the handler is dropped, which happens when the sender disconnects.
fn inbound(
    requested: Requested,
    bytes: bytes::Bytes,
    credential: Option<Arc<str>>,
    received_at_us: i64,
    writer: &ReplyWriter,
) -> (Inbound, DropGuard) {
    let gone = CancellationToken::new();
    let inbound = Inbound {
        bytes,
        media_type: requested.format.media_type().to_owned(),
        said_version: requested.version,
        credential,
        via: requested.via,
        request_id: writer.request_id().to_string(),
        answer_mode: requested.answer_mode,
        expires_after: None,
        received_at_us,
        gone: gone.clone(),
    };
    (inbound, gone.drop_guard())
}

fn busy(fault: Fault, text: &str) -> (StatusCode, Issue) {
    (StatusCode::SERVICE_UNAVAILABLE, Issue::error(IssueCode::Transient, fault, text.to_owned()))
}

async fn status(State(http): State<Arc<HttpIn>>, Path(id): Path<String>, request: Request) -> Response {
    let writer = ReplyWriter::new(&http.exchange.settings, request.headers());
    let response = match status_reply(&http, &id, request.method().clone(), request.headers().clone()).await {
        Ok(response) => response,
        Err((status, issue)) => outcome_response(status, &issue.into()),
    };
    writer.finish(response)
}

async fn status_reply(
    http: &HttpIn,
    id: &str,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, (StatusCode, Issue)> {
    let caller = http.participant(&headers)?;
    let unknown = || {
        let text = "There is no such status URL, or it ended, or it belongs to another sender";
        (StatusCode::NOT_FOUND, Issue::error(IssueCode::NotFound, Fault::RouteNotFound, text))
    };
    let id = Uuid::parse_str(id).map_err(|_| unknown())?;
    let away = |_| busy(Fault::RouteNoStore, "The store is unavailable; try again later");
    match method {
        Method::GET => {}
        Method::DELETE => {
            let ended = http.exchange.end_status(id, caller.as_deref()).await.map_err(away)?;
            return if ended { Ok(reply::accepted()) } else { Err(unknown()) };
        }
        _ => {
            let text = "The status URL takes GET and DELETE";
            let issue = Issue::error(IssueCode::NotSupported, Fault::SendRequest, text);
            let mut response = outcome_response(StatusCode::METHOD_NOT_ALLOWED, &issue.into());
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, DELETE"));
            return Ok(response);
        }
    }
    if !http.poll_limit.admit(id, caller.as_ref()) {
        let text = "More than 10 polls a second of one status URL; wait as long as Retry-After says";
        return Err((StatusCode::TOO_MANY_REQUESTS, Issue::error(IssueCode::Throttled, Fault::SendTooFast, text)));
    }
    let accept = media::joined(&headers, &header::ACCEPT).unwrap_or_default();
    let (format, _) = media::wanted(&accept, Format::Json).map_err(|issue| (StatusCode::NOT_ACCEPTABLE, issue))?;
    match http.exchange.status(id, caller.as_deref()).await.map_err(away)? {
        StatusPage::Unknown => Err(unknown()),
        page => Ok(status_page(page, format)),
    }
}

/// Reading of mailboxes, the repository, and batches at the base are not built yet; the error names them.
async fn not_built(State(http): State<Arc<HttpIn>>, request: Request) -> Response {
    let writer = ReplyWriter::new(&http.exchange.settings, request.headers());
    let response = match http.participant(request.headers()) {
        Ok(_) => {
            let text = format!("{} is not built yet: only $process-message accepts messages", request.uri().path());
            let issue = Issue::error(IssueCode::NotSupported, Fault::RouteNotBuilt, text);
            outcome_response(StatusCode::NOT_IMPLEMENTED, &issue.into())
        }
        Err((status, issue)) => outcome_response(status, &issue.into()),
    };
    writer.finish(response)
}

/// Any other path.
pub async fn nothing_here(request: Request) -> Response<Body> {
    let written = request.extensions().get::<WrittenPath>().map_or(request.uri().path(), |written| &*written.0);
    let path = &written[..written.floor_char_boundary(PATH_ECHO_LIMIT_BYTES)];
    let text = format!("There is nothing at {path}; send messages with POST to [base]/$process-message");
    let issue = Issue::error(IssueCode::NotFound, Fault::RouteNotFound, text).rule("MSG-80");
    outcome_response(StatusCode::NOT_FOUND, &issue.into())
}

/// One issue as a response, for the routes beside `$process-message`.
pub fn outcome(status: StatusCode, issue: Issue) -> Response {
    outcome_response(status, &issue.into())
}
