//! A receiver that remembers what it got and answers as it is told.
//!
//! It has a thread of its own, so that it also serves while a test blocks on a command or on the end of a process.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};

use super::script::{Answer, Body};
use super::{free_address, wait_for};

/// One request, as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    pub at: Instant,
    pub method: String,
    pub path_and_query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header is not text"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the request is not JSON")
    }

    /// `MessageHeader.id` of the message in it.
    pub fn header_id(&self) -> String {
        let message = self.json();
        let id = message.pointer("/entry/0/resource/id").and_then(Value::as_str);
        id.expect("the message has no MessageHeader.id").to_owned()
    }
}

/// A receiver; dropping it closes its port and its connections.
pub struct Peer {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Shared(Mutex<State>);

struct State {
    received: Vec<Received>,
    first: VecDeque<Answer>,
    then: Answer,
    forgets: bool,
    at_once: usize,
    most_at_once: usize,
}

impl Default for State {
    fn default() -> State {
        State {
            received: Vec::new(),
            first: VecDeque::new(),
            then: Answer::Ok,
            forgets: false,
            at_once: 0,
            most_at_once: 0,
        }
    }
}

impl Peer {
    /// A receiver on a free port that answers everything in this way.
    pub async fn answering(answer: Answer) -> Peer {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut peer = Peer { address: free_address(), shared: Arc::default(), serving: None, runtime: Some(runtime) };
        peer.answer(answer);
        peer.up().await;
        peer
    }

    /// A receiver that answers `ok` to everything.
    pub async fn ok() -> Peer {
        Peer::answering(Answer::Ok).await
    }

    /// Its FHIR base.
    pub fn url(&self) -> String {
        format!("http://{}/fhir", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it answers in this way.
    pub fn answer(&self, answer: Answer) {
        let mut state = self.shared.state();
        state.first.clear();
        state.then = answer;
    }

    /// The next requests are answered in these ways, one each, before it goes on as it was told.
    pub fn answer_first(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.state().first.extend(answers);
    }

    /// Requests are no longer remembered: who answers them by a function has its own memory of them.
    pub fn forget_requests(&self) {
        self.shared.state().forgets = true;
    }

    /// All that arrived, in order of arrival.
    pub fn received(&self) -> Vec<Received> {
        self.shared.state().received.clone()
    }

    pub fn count(&self) -> usize {
        self.shared.state().received.len()
    }

    /// The most requests that were there at the same time, answers still owed.
    pub fn most_at_once(&self) -> usize {
        self.shared.state().most_at_once
    }

    /// Waits until at least `count` requests have arrived, and returns all.
    pub async fn wait_for(&self, count: usize, limit: Duration) -> Vec<Received> {
        let what = format!("{count} requests arrive at the peer");
        wait_for(limit, &what, async || (self.count() >= count).then(|| self.received())).await
    }

    /// Closes the port and every connection, as a receiver does that is gone. Its memory and its port stay its own.
    pub async fn down(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Listens again on the same port.
    pub async fn up(&mut self) {
        let runtime = self.runtime.as_ref().unwrap();
        let address = self.address;
        let listener = runtime.spawn(async move {
            // Once it was taken for a moment, by whom is not known; one that stays taken fails the test.
            let end = Instant::now() + Duration::from_secs(30);
            loop {
                match TcpListener::bind(address).await {
                    Ok(listener) => return listener,
                    Err(error) => assert!(Instant::now() < end, "the peer's port is taken: {error}"),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let listener = listener.await.unwrap();
        self.serving = Some(runtime.spawn(serve(listener, Arc::clone(&self.shared))));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // An ordinary drop would wait, which an asynchronous test may not.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Remembers a request and says how to answer it.
    fn arrive(self: &Arc<Self>, request: &Received) -> (Answer, Presence) {
        let mut state = self.state();
        if !state.forgets {
            state.received.push(request.clone());
        }
        state.at_once += 1;
        state.most_at_once = state.most_at_once.max(state.at_once);
        let answer = state.first.pop_front().unwrap_or_else(|| state.then.clone());
        (answer, Presence(Arc::clone(self)))
    }
}

/// A request that is there until its answer is made, or until its sender hangs up.
struct Presence(Arc<Shared>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.state().at_once -= 1;
    }
}

/// Serves until it is aborted; its connections end with it.
async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| respond(request, Arc::clone(&shared)));
        connections.spawn(async move {
            // It ends with an error when the script hangs up, or the other side does: neither is news.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn respond(request: Request<Incoming>, shared: Arc<Shared>) -> std::io::Result<Response<Body>> {
    let at = Instant::now();
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let path_and_query = head.uri.path_and_query().map_or("/".to_owned(), ToString::to_string);
    let received = Received { at, method: head.method.to_string(), path_and_query, headers: head.headers, body };
    let (answer, _present) = shared.arrive(&received);
    answer.make(&received).await
}

#[cfg(test)]
mod tests {
    use super::super::{Gate, Reply, SOON, Sample};
    use super::*;

    async fn post(peer: &Peer) -> Option<Reply> {
        let url = format!("{}/$process-message?async=true", peer.url());
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let response = client.post(url).body(Sample::new().bytes()).send().await.ok()?;
        Some(Reply::of(response).await)
    }

    #[tokio::test]
    async fn a_peer_answers_as_told_and_remembers() {
        let peer = Peer::ok().await;
        peer.answer_first([
            Answer::Fatal,
            Answer::RetryAfter(503, 7),
            Answer::HangUp,
            Answer::Empty(204),
            Answer::Garbage,
        ]);
        assert_eq!(post(&peer).await.unwrap().response_code().as_deref(), Some("fatal-error"));
        assert_eq!(post(&peer).await.unwrap().expect_status(503).header("retry-after"), Some("7"));
        assert!(post(&peer).await.is_none());
        assert!(post(&peer).await.unwrap().expect_status(204).body.is_empty());
        assert!(post(&peer).await.unwrap().message_header().is_none());
        let reply = post(&peer).await.unwrap();
        assert_eq!(reply.response_code().as_deref(), Some("ok"));
        let received = peer.wait_for(6, SOON).await;
        assert_eq!(reply.response_identifier(), Some(received[5].header_id()));
        assert_eq!(received[5].path_and_query, "/fhir/$process-message?async=true");
        assert_eq!(peer.most_at_once(), 1);
    }

    #[tokio::test]
    async fn a_gate_holds_answers_back_until_it_is_opened() {
        let (gate, peer) = (Gate::closed(), Peer::ok().await);
        peer.answer(Answer::Ok.behind(&gate));
        let (first, second, ()) = tokio::join!(post(&peer), post(&peer), async {
            peer.wait_for(2, SOON).await;
            gate.open();
        });
        assert_eq!((first.unwrap().status, second.unwrap().status), (200, 200));
        assert_eq!(peer.most_at_once(), 2);
    }

    #[tokio::test]
    async fn a_peer_can_go_down_and_come_up_at_the_same_address() {
        let mut peer = Peer::ok().await;
        assert!(post(&peer).await.is_some());
        peer.down().await;
        assert!(post(&peer).await.is_none());
        peer.up().await;
        assert!(post(&peer).await.is_some());
        assert_eq!(peer.count(), 2);
    }
}
