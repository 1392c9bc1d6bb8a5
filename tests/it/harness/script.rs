//! What a peer answers, as data, and how each answer is made from the request.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Received;

pub type Body = BoxBody<Bytes, Infallible>;

/// What a receiver does with a request.
#[derive(Clone)]
pub enum Answer {
    /// 200 with a response message to the request, code `ok`.
    Ok,
    /// 200 with a response message, code `fatal-error`, and an OperationOutcome in it.
    Fatal,
    /// 200 with a response message, code `transient-error`.
    Transient,
    /// This status and no body.
    Empty(u16),
    /// This status with an OperationOutcome.
    Outcome(u16),
    /// This status, no body, and `Retry-After` with these seconds.
    RetryAfter(u16, u64),
    /// 307 to this URL.
    Redirect(String),
    /// 200 with these bytes as `application/fhir+json`.
    Bytes(Vec<u8>),
    /// This status with these bytes as `application/fhir+json`.
    Raw(u16, Vec<u8>),
    /// This status with these headers and bytes.
    Said { status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8> },
    /// 200 with a web page.
    Garbage,
    /// 200 with a response message, code `ok`, to a request that nobody made.
    ToAnotherRequest,
    /// 200 with a body that never ends.
    Endless,
    /// Nothing, as long as the connection lives.
    Hang,
    /// The connection is closed before a reply: the request arrived, the reply was lost.
    HangUp,
    /// The other answer, after this time.
    After(Duration, Box<Answer>),
    /// The other answer, when the test opens the gate.
    Behind(Gate, Box<Answer>),
    /// Whatever the function says about this request.
    By(Arc<dyn Fn(&Received) -> Answer + Send + Sync>),
}

impl Answer {
    pub fn after(self, time: Duration) -> Answer {
        Answer::After(time, Box::new(self))
    }

    pub fn behind(self, gate: &Gate) -> Answer {
        Answer::Behind(gate.clone(), Box::new(self))
    }

    pub fn by(function: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Answer {
        Answer::By(Arc::new(function))
    }

    /// Carries the answer out. An error makes the server close the connection without a reply.
    pub(super) async fn make(self, request: &Received) -> io::Result<Response<Body>> {
        let mut answer = self;
        loop {
            answer = match answer {
                Answer::After(time, then) => {
                    tokio::time::sleep(time).await;
                    *then
                }
                Answer::Behind(gate, then) => {
                    gate.opened().await;
                    *then
                }
                Answer::By(function) => function(request),
                Answer::Hang => std::future::pending().await,
                Answer::HangUp => return Err(io::Error::other("the test wants the reply lost")),
                ready => return Ok(ready.response(request)),
            };
        }
    }

    fn response(self, request: &Received) -> Response<Body> {
        match self {
            Answer::Ok => json_response(200, answer_to(&request.body, "ok")),
            Answer::Fatal => json_response(200, answer_to(&request.body, "fatal-error")),
            Answer::Transient => json_response(200, answer_to(&request.body, "transient-error")),
            Answer::ToAnotherRequest => {
                let other = super::Sample::new().bytes();
                json_response(200, answer_to(&other, "ok"))
            }
            Answer::Outcome(status) => json_response(status, outcome().to_string().into_bytes()),
            Answer::Bytes(bytes) => json_response(200, bytes),
            Answer::Raw(status, bytes) => json_response(status, bytes),
            Answer::Said { status, headers, body } => {
                let response = Response::builder().status(status);
                let response =
                    headers.into_iter().fold(response, |response, (name, value)| response.header(name, value));
                response.body(Full::from(body).boxed()).unwrap()
            }
            Answer::Garbage => json_response(200, b"<html>It works!</html>".to_vec()),
            Answer::RetryAfter(status, seconds) => empty(status, "retry-after", &seconds.to_string()),
            Answer::Redirect(url) => empty(307, "location", &url),
            Answer::Empty(status) => empty(status, "x-peer", "empty"),
            Answer::Endless => endless(),
            Answer::Hang | Answer::HangUp | Answer::After(..) | Answer::Behind(..) | Answer::By(_) => {
                unreachable!("carried out by `make`")
            }
        }
    }
}

/// A gate that answers wait behind until a test opens it; clones are the same gate.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn closed() -> Gate {
        Gate(Arc::new(watch::Sender::new(false)))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn opened(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// A response message to `request`, in the request's version (R4 names MessageHeader.id, R5 Bundle.identifier: MSG-37). Its own
/// identities are made from the request's, so that the same request has the same answer.
#[track_caller]
pub fn answer_to(request: &[u8], code: &str) -> Vec<u8> {
    let request: Value = serde_json::from_slice(request).expect("a peer can answer JSON only");
    let header = &request["entry"][0]["resource"];
    let r5 = header.pointer("/source/endpointUrl").is_some();
    let (endpoint, identifier) = match r5 {
        true => ("endpointUrl", request["identifier"].clone()),
        false => ("endpoint", header["id"].clone()),
    };
    let own_id = |kind: &str| format!("{kind}-{}", header["id"].as_str().unwrap_or("unknown"));
    let mut answer_header = json!({
        "resourceType": "MessageHeader",
        "id": own_id("rh"),
        "source": { endpoint: header.pointer("/destination/0").map_or(json!("http://peer.example"), |to| to[endpoint].clone()) },
        "destination": [{ endpoint: header["source"][endpoint] }],
        "response": { "identifier": identifier, "code": code },
    });
    for event in ["eventCoding", "eventUri", "eventCanonical"] {
        if let Some(value) = header.get(event) {
            answer_header[event] = value.clone();
        }
    }
    let full_url = |kind: &str| format!("http://peer.example/{kind}/{}", own_id("rh"));
    let mut entries = vec![json!({ "fullUrl": full_url("MessageHeader"), "resource": answer_header })];
    if code != "ok" {
        entries[0]["resource"]["response"]["details"] = json!({ "reference": full_url("OperationOutcome") });
        let mut outcome = outcome();
        outcome["id"] = json!(own_id("rh"));
        entries.push(json!({ "fullUrl": full_url("OperationOutcome"), "resource": outcome }));
    }
    let mut bundle = json!({
        "resourceType": "Bundle",
        "id": own_id("rb"),
        "type": "message",
        "timestamp": "2026-01-01T10:00:01Z",
        "entry": entries,
    });
    if r5 {
        bundle["identifier"] = json!({ "system": "http://peer.example/answers", "value": own_id("ri") });
    }
    bundle.to_string().into_bytes()
}

fn outcome() -> Value {
    let issue = json!({ "severity": "error", "code": "business-rule", "diagnostics": "the peer was told to say so" });
    json!({ "resourceType": "OperationOutcome", "issue": [issue] })
}

fn json_response(status: u16, body: Vec<u8>) -> Response<Body> {
    let response = Response::builder().status(status).header("content-type", "application/fhir+json");
    response.body(Full::from(body).boxed()).unwrap()
}

fn empty(status: u16, header: &str, value: &str) -> Response<Body> {
    Response::builder().status(status).header(header, value).body(Full::default().boxed()).unwrap()
}

fn endless() -> Response<Body> {
    let piece = Bytes::from_static(&[b' '; 16 * 1024]);
    let pieces = stream::repeat_with(move || Ok(Frame::data(piece.clone())));
    let response = Response::builder().status(200).header("content-type", "application/fhir+json");
    response.body(BodyExt::boxed(StreamBody::new(pieces))).unwrap()
}
