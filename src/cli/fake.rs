//! The HTTP server of the commands' tests: answers from a table and records the requests.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// An answer of the table.
#[derive(Clone)]
pub struct Said {
    status: u16,
    body: String,
    headers: Vec<(&'static str, String)>,
}

impl Said {
    pub fn new(status: u16, body: &str) -> Said {
        Said { status, body: body.into(), headers: Vec::new() }
    }

    pub fn json(body: Value) -> Said {
        Said::new(200, &body.to_string())
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Said {
        self.headers.push((name, value.into()));
        self
    }
}

/// An object of the admin API with all its members, of which `members` are those that the test is about.
fn object(mut all: Value, members: Value) -> Value {
    if let (Value::Object(all), Value::Object(members)) = (&mut all, members) {
        all.extend(members);
    }
    all
}

pub fn message(members: Value) -> Value {
    let all = json!({ "id": Uuid::nil(), "sender": "lab", "destinations": [], "media_type": "application/fhir+json",
        "reply_to": "Wait", "unmatched": false, "size_bytes": 12, "received_at_us": 0, "state": "accepted",
        "ambiguous": false, "further": false, "committed_at_us": 0, "outcome": null, "body_kept": true,
        "deliveries": [], "answers": [] });
    object(all, members)
}

pub fn delivery(members: Value) -> Value {
    let all = json!({ "id": Uuid::nil(), "message": Uuid::nil(), "participant": "lab", "kind": "Request",
        "state": "waiting", "attempts": 0, "due_at_us": 0, "expires_at_us": 0, "replayed_by": [] });
    object(all, members)
}

pub fn participant(members: Value) -> Value {
    let all = json!({ "id": "lab", "addresses": [], "may_send": [], "may_receive": [], "order": "sender",
        "concurrency": 1, "rejections": "message", "has_token": false, "waiting": 0, "dead": 0, "participant": "lab",
        "paused": false, "breaker": "closed", "active": 0, "lanes": 0 });
    object(all, members)
}

pub fn replay(members: Value) -> Value {
    let all = json!({ "id": Uuid::nil(), "filter": {}, "forward_answers": false, "force_consequence": false,
        "state": "running", "created_at_us": 0, "total": 0, "done": 0, "skipped": 0 });
    object(all, members)
}

pub fn replay_count(matched: u64, consequence: u64) -> Value {
    json!({ "matched": matched, "consequence": consequence, "without_body": 0, "examined": matched })
}

/// One request: `POST /path?query`, its content type and body.
#[derive(Clone, Debug)]
pub struct Asked {
    pub line: String,
    pub content_type: String,
    pub body: String,
}

/// Ends with the test's runtime.
pub struct Fake {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// The requests so far, in the order of arrival.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panicked holding it").clone()
    }
}

struct Script {
    /// By `METHOD /path?sorted=query`. A line may occur several times: its answers are used in order, and the last one repeats.
    answers: Mutex<Vec<(String, Said)>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// Starts the server. A request that no line names gets 599.
pub async fn server(answers: Vec<(&str, Said)>) -> Fake {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let answers = answers.into_iter().map(|(line, said)| (line.to_owned(), said)).collect();
    let script = Arc::new(Script { answers: Mutex::new(answers), asked: asked.clone() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let app = Router::new().fallback(answer).with_state(script);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Fake { url, asked }
}

/// An address without a listener.
pub fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("bound"))
}

async fn answer(State(script): State<Arc<Script>>, request: Request) -> Response {
    let mut query: Vec<&str> = request.uri().query().into_iter().flat_map(|query| query.split('&')).collect();
    query.sort_unstable();
    let mark = if query.is_empty() { "" } else { "?" };
    let line = format!("{} {}{mark}{}", request.method(), request.uri().path(), query.join("&"));
    let content_type = request.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = content_type.to_owned();
    let body = to_bytes(request.into_body(), usize::MAX).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    script.asked.lock().expect("unpoisoned").push(Asked { line: line.clone(), content_type, body });
    let mut answers = script.answers.lock().expect("unpoisoned");
    let places: Vec<usize> = (0..answers.len()).filter(|place| answers[*place].0 == line).collect();
    let said = match places.as_slice() {
        [] => Said::new(599, ""),
        [place] => answers[*place].1.clone(),
        [place, ..] => answers.remove(*place).1,
    };
    let mut response = Response::builder().status(said.status);
    for (name, value) in &said.headers {
        response = response.header(*name, value);
    }
    response.body(Body::from(said.body)).expect("a status and plain headers")
}
