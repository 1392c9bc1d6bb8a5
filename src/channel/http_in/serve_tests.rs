use super::*;
use axum::body::Body;
use axum::extract::Extension;
use axum::routing::{get, post};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_secs(10);
/// More than the buffers of a connection and its sockets hold.
const LARGE_BYTES: usize = 64 * 1024 * 1024;
const PATIENT: Timeouts = Timeouts {
    header: LONG,
    idle: LONG,
    write: LONG,
    close: LONG,
    evict: Duration::ZERO,
    check: Duration::from_millis(20),
};

struct Serving {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Serving {
    async fn start(router: Router, max_connections: usize, timeouts: Timeouts) -> Serving {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let settings = ServeSettings { max_connections, timeouts };
        let task = tokio::spawn(serve(listener, router, settings, CancellationToken::new(), stop.clone()));
        Serving { address, stop, task }
    }

    async fn open(&self, sent: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        stream
    }

    async fn ask(&self, sent: &str) -> String {
        rest(&mut self.open(sent).await).await.unwrap_or_else(|| panic!("still open after {sent:?}"))
    }

    /// An HTTP/2 connection, whose streams may have this much under way.
    async fn http2(&self, window_bytes: u32) -> http2::SendRequest<Empty<hyper::body::Bytes>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window_bytes).initial_connection_window_size(window_bytes.max(65_535));
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// Waits until every connection has ended, with no more help than what a bound gives.
    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.task).await.expect("a connection is still open").unwrap();
    }
}

/// All that comes until the connection is closed; None where it stays open.
async fn rest(stream: &mut TcpStream) -> Option<String> {
    let mut reply = Vec::new();
    // A reset counts as the end.
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut reply)).await.ok()?;
    Some(String::from_utf8_lossy(&reply).into_owned())
}

fn here() -> Router {
    Router::new().route("/", get(|| async { "here" }))
}

fn asking(path: &str) -> hyper::Request<Empty<hyper::body::Bytes>> {
    hyper::Request::get(format!("http://localhost{path}")).body(Empty::new()).unwrap()
}

#[tokio::test]
async fn a_connection_that_does_not_finish_a_header_in_time_is_closed() {
    let serving = Serving::start(here(), 100, Timeouts { header: SHORT, close: SHORT, ..PATIENT }).await;
    let whole = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    // An HTTP/2 preface with empty SETTINGS, then a HEADERS frame whose block never ends.
    let half = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0\0\0\u{1}\u{1}\0\0\0\0\u{1}\u{2}";
    for sent in
        ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", half, "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\nX-", whole]
    {
        assert_eq!(serving.ask(sent).await.ends_with("here"), sent == whole, "{sent:?}");
    }
    serving.end().await;
}

#[tokio::test]
async fn a_reply_may_take_longer_than_a_header() {
    let late = || async {
        tokio::time::sleep(SHORT * 3).await;
        "here"
    };
    let router = Router::new().route("/", get(late));
    let serving = Serving::start(router, 100, Timeouts { header: SHORT, idle: SHORT, write: SHORT, ..PATIENT }).await;
    let reply = serving.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(reply.ends_with("here"), "{reply}");
    serving.end().await;
}

#[tokio::test]
async fn an_http2_connection_without_requests_is_closed() {
    let serving = Serving::start(here(), 100, Timeouts { idle: SHORT, close: SHORT, ..PATIENT }).await;
    let mut sender = serving.http2(65_535).await;
    let reply = sender.send_request(asking("/")).await.unwrap();
    assert_eq!(reply.into_body().collect().await.unwrap().to_bytes(), "here");
    serving.end().await;
}

#[tokio::test]
async fn a_client_that_never_reads_its_reply_loses_the_connection_over_both_protocols() {
    let large = || async { Body::from(vec![b'x'; LARGE_BYTES]) };
    let router = Router::new().route("/large", get(large)).route("/small", get(|| async { "small" }));
    let timeouts = Timeouts { write: SHORT, idle: SHORT, close: SHORT, ..PATIENT };
    for path in ["/large", "/small"] {
        let serving = Serving::start(router.clone(), 100, timeouts).await;
        let unread = serving.open("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
        // Nothing of the reply's body may be sent: the stream has no window.
        let mut sender = serving.http2(0).await;
        let reply = sender.send_request(asking(path)).await.unwrap();
        serving.end().await;
        drop((unread, reply));
    }
}

#[tokio::test]
async fn at_the_limit_the_connection_that_was_idle_longest_makes_room() {
    let serving = Serving::start(here(), 2, PATIENT).await;
    let mut first = serving.open("").await;
    // The places are taken in the order of these replies.
    let mut second = serving.open("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut reply = [0; 16];
    second.read_exact(&mut reply).await.unwrap();
    let third = serving.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(third.ends_with("here"));
    assert_eq!(rest(&mut first).await.as_deref(), Some(""), "the oldest is closed");
    second.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(rest(&mut second).await.unwrap().ends_with("here"));
    serving.end().await;
}

#[tokio::test]
async fn where_no_connection_is_idle_the_reserve_is_served_and_says_so() {
    let gate = Arc::new(Notify::new());
    let (waits, begun) = (gate.clone(), Arc::new(Notify::new()));
    let begins = begun.clone();
    let busy = move || {
        let (waits, begins) = (waits.clone(), begins.clone());
        async move {
            begins.notify_one();
            waits.notified().await;
            "done"
        }
    };
    let caller = |Extension(caller): Extension<Caller>| async move { format!("reserved: {}", caller.is_reserved) };
    let serving = Serving::start(Router::new().route("/busy", get(busy)).route("/", get(caller)), 1, PATIENT).await;
    let mut first = serving.open("GET /busy HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    begun.notified().await;
    // More than the reserve has, none of which asks anything.
    let mut silent = Vec::new();
    for _ in 0..RESERVE_CONNECTIONS * 2 {
        silent.push(serving.open("").await);
    }
    for _ in 0..3 {
        let reply = serving.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(reply.ends_with("reserved: true") && reply.contains("connection: close"), "{reply}");
    }
    gate.notify_one();
    assert!(rest(&mut first).await.unwrap().ends_with("done"));
    drop(silent);
    serving.end().await;
}

#[tokio::test]
async fn a_refusal_before_the_body_was_read_says_that_the_connection_ends() {
    let router = Router::new()
        .route("/unread", post(|| async { "refused" }))
        .route("/read", post(|body: axum::body::Bytes| async move { body.len().to_string() }));
    let serving = Serving::start(router, 100, PATIENT).await;
    for (head, body, closes) in [
        ("POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", "half", true),
        ("POST /unread HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", "", true),
        ("POST /unread HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\n", true),
        ("POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "", false),
        ("POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n", "body", false),
    ] {
        let mut stream = serving.open(head).await;
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut reply = [0; 4096];
        let length = stream.read(&mut reply).await.unwrap();
        let reply = String::from_utf8_lossy(&reply[..length]).into_owned();
        assert!(reply.starts_with("HTTP/1.1 200"), "{head}: {reply}");
        assert_eq!(reply.contains("connection: close"), closes, "{head}: {reply}");
        if closes {
            assert!(rest(&mut stream).await.is_some(), "{head}: still open");
        }
    }
    serving.end().await;
}
