//! HTTP in: `$process-message`, its status URL, and what is answered where something is not built.
//!
//! The handler reads and bounds the request, hands the message to the exchange in a task of its own (a sender that
//! hangs up does not cut it in the middle), and words the reply. One table, in `word`, chooses every status.

mod body;
mod connection;
mod negotiate;
mod polls;
mod serve;
mod word;

pub use serve::{ServeSettings, serve};

use crate::admission::{Admission, Owner};
use crate::channel::caller::{Caller, address_of};
use crate::channel::edge::{FixedVersion, WrittenPath};
use crate::channel::media;
use crate::exchange::{Exchange, Inbound, IntakeSlot, StatusPage};
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode};
use crate::security::{Credentials, Who};
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
use negotiate::{Asked, negotiate};
use polls::Polls;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;
use word::{Wording, outcome_response, status_page};

/// How much of an unknown path the reply repeats.
const PATH_ECHO_LIMIT_BYTES: usize = 200;

/// Beyond it, a refused sender that still writes loses the reply instead of a place.
const DISCARDS_AT_ONCE: usize = 64;

/// What the FHIR side of HTTP needs.
#[derive(Clone)]
pub struct HttpIn {
    pub exchange: Arc<Exchange>,
    pub credentials: Arc<ArcSwap<Credentials>>,
    /// `max_in_flight` places between first byte and commit, and the bytes in them.
    pub admission: Admission,
    /// Peers that speak for many senders.
    pub trusted_proxies: Arc<[IpAddr]>,
    /// Refused bodies that are read to their end at once.
    discards: Arc<Semaphore>,
    pub body_limit_bytes: usize,
    /// Cancelled when the router stops: then no new message is taken.
    pub stopping: CancellationToken,
    polls: Arc<Polls>,
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
        let polls = Arc::default();
        HttpIn { exchange, credentials, admission, trusted_proxies, discards, body_limit_bytes, stopping, polls }
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
            .with_state(self)
    }

    /// Whose share of the places a request takes.
    fn owner(&self, head: &Parts, credential: &Option<Arc<str>>) -> Option<Owner> {
        let peer = head.extensions.get::<Caller>().map(|caller| caller.peer);
        let address = || address_of(peer?, &head.headers, &self.trusted_proxies).map(Owner::Peer);
        credential.clone().map(Owner::Participant).or_else(address)
    }

    /// The participant that asks; None on open loopback.
    fn participant(&self, headers: &HeaderMap) -> Result<Option<Arc<str>>, (StatusCode, Issue)> {
        match self.credentials.load().who(headers) {
            Ok(Who::Loopback) => Ok(None),
            Ok(Who::Participant(id)) => Ok(Some(id)),
            Ok(Who::Operator { .. }) => {
                let text = "This credential is an operator's; messages are sent with a participant's";
                Err((StatusCode::FORBIDDEN, Issue::error(IssueCode::Forbidden, Fault::RoutePermission, text)))
            }
            Err(issue) => Err((StatusCode::UNAUTHORIZED, issue)),
        }
    }
}

async fn process_message(State(http): State<HttpIn>, request: Request) -> Response {
    let started = std::time::Instant::now();
    let wording = Wording::new(&http.exchange.settings, request.headers());
    let (head, mut body) = request.into_parts();
    let response = match take(&http, &head, &mut body, &wording).await {
        Ok(response) => response,
        Err((status, issue)) => {
            http.exchange.metrics.fault(issue.cause.code());
            // Who asked first has not sent its body, who stalled will not.
            let is_sending = !head.headers.contains_key(header::EXPECT) && status != StatusCode::REQUEST_TIMEOUT;
            if is_sending && let Ok(_place) = http.discards.try_acquire() {
                discard(&mut body).await;
            }
            outcome_response(status, &issue.into())
        }
    };
    http.exchange.metrics.replied(response.status().as_u16(), started.elapsed().as_secs_f64());
    wording.stamp(response)
}

async fn take(
    http: &HttpIn,
    head: &Parts,
    body: &mut Body,
    wording: &Wording,
) -> Result<Response, (StatusCode, Issue)> {
    if head.method != Method::POST {
        let text = "$process-message is POSTed; use POST";
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
        let text = "The router, or its part for one sender, is at its limit of messages in flight; send again later";
        return Err(busy(Fault::RouteBusy, text));
    };
    let fixed = head.extensions.get::<FixedVersion>().map(|fixed| fixed.0);
    let asked = negotiate(head.uri.query().unwrap_or(""), &head.headers, fixed)?;
    let received_at_us = http.exchange.clock.now_us();
    let bounds = Bounds { limit_bytes: http.body_limit_bytes, encoding: asked.encoding };
    let bytes = read_body(body, bounds, &mut permit).await?;
    let answer = asked.answer;
    let (inbound, _guard) = inbound(asked, bytes, credential, received_at_us, wording);
    let exchange = http.exchange.clone();
    let place = IntakeSlot { permit: Some(permit), turn: Turn::free() };
    let task = tokio::spawn(async move { exchange.accept(inbound, place).await });
    match task.await {
        Ok(reply) => Ok(wording.reply(&reply, answer)),
        Err(failure) => {
            tracing::error!(is_panic = failure.is_panic(), "a defect stopped a message");
            let text = "A defect of the router stopped this message; send it again, and report it";
            Err((StatusCode::INTERNAL_SERVER_ERROR, Issue::error(IssueCode::Exception, Fault::RouteInternal, text)))
        }
    }
}

/// The guard cancels `gone` when the handler is dropped: the sender hung up.
fn inbound(
    asked: Asked,
    bytes: bytes::Bytes,
    credential: Option<Arc<str>>,
    received_at_us: i64,
    wording: &Wording,
) -> (Inbound, DropGuard) {
    let gone = CancellationToken::new();
    let inbound = Inbound {
        bytes,
        media_type: asked.format.media_type().to_owned(),
        said_version: asked.version,
        credential,
        via: asked.via,
        request_id: wording.request_id().to_string(),
        answer_mode: asked.answer_mode,
        expires_after: None,
        received_at_us,
        gone: gone.clone(),
    };
    (inbound, gone.drop_guard())
}

fn busy(fault: Fault, text: &str) -> (StatusCode, Issue) {
    (StatusCode::SERVICE_UNAVAILABLE, Issue::error(IssueCode::Transient, fault, text))
}

async fn status(State(http): State<HttpIn>, Path(id): Path<String>, request: Request) -> Response {
    let wording = Wording::new(&http.exchange.settings, request.headers());
    let response = match look(&http, &id, request.method().clone(), request.headers().clone()).await {
        Ok(response) => response,
        Err((status, issue)) => outcome_response(status, &issue.into()),
    };
    wording.stamp(response)
}

async fn look(http: &HttpIn, id: &str, method: Method, headers: HeaderMap) -> Result<Response, (StatusCode, Issue)> {
    let asker = http.participant(&headers)?;
    let unknown = || {
        let text = "There is no such status URL, or it ended, or it is somebody else's";
        (StatusCode::NOT_FOUND, Issue::error(IssueCode::NotFound, Fault::RouteNotFound, text))
    };
    let id = Uuid::parse_str(id).map_err(|_| unknown())?;
    let away = |_| busy(Fault::RouteNoStore, "The store cannot be reached; ask again later");
    match method {
        Method::GET => {}
        Method::DELETE => {
            let ended = http.exchange.end_status(id, asker.as_deref()).await.map_err(away)?;
            return if ended { Ok(word::accepted()) } else { Err(unknown()) };
        }
        _ => {
            let text = "The status URL takes GET and DELETE";
            let issue = Issue::error(IssueCode::NotSupported, Fault::SendRequest, text);
            let mut response = outcome_response(StatusCode::METHOD_NOT_ALLOWED, &issue.into());
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, DELETE"));
            return Ok(response);
        }
    }
    if !http.polls.admit(id, asker.as_ref()) {
        let text = "More than 10 polls a second of one status URL; wait as long as Retry-After says";
        return Err((StatusCode::TOO_MANY_REQUESTS, Issue::error(IssueCode::Throttled, Fault::SendTooFast, text)));
    }
    let accept = media::joined(&headers, &header::ACCEPT).unwrap_or_default();
    let (format, _) = media::wanted(&accept, Format::Json).map_err(|issue| (StatusCode::NOT_ACCEPTABLE, issue))?;
    match http.exchange.status(id, asker.as_deref()).await.map_err(away)? {
        StatusPage::Unknown => Err(unknown()),
        page => Ok(status_page(page, format)),
    }
}

/// Mailboxes, the repository and batches at the base come later; the error names them.
async fn not_built(State(http): State<HttpIn>, request: Request) -> Response {
    let wording = Wording::new(&http.exchange.settings, request.headers());
    let response = match http.participant(request.headers()) {
        Ok(_) => {
            let text = format!("{} is not built yet: only $process-message takes messages", request.uri().path());
            let issue = Issue::error(IssueCode::NotSupported, Fault::RouteNotBuilt, text);
            outcome_response(StatusCode::NOT_IMPLEMENTED, &issue.into())
        }
        Err((status, issue)) => outcome_response(status, &issue.into()),
    };
    wording.stamp(response)
}

/// Anything else.
pub async fn nothing_here(request: Request) -> Response<Body> {
    let written = request.extensions().get::<WrittenPath>().map_or(request.uri().path(), |written| &*written.0);
    let path = &written[..written.floor_char_boundary(PATH_ECHO_LIMIT_BYTES)];
    let text = format!("There is nothing at {path}; messages are POSTed to [base]/$process-message");
    let issue = Issue::error(IssueCode::NotFound, Fault::RouteNotFound, text).rule("MSG-80");
    outcome_response(StatusCode::NOT_FOUND, &issue.into())
}

/// One issue as a response, for the routes beside `$process-message`.
pub fn outcome(status: StatusCode, issue: Issue) -> Response {
    outcome_response(status, &issue.into())
}
