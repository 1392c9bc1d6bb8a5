//! Connections that die, age, or are refused: what is sent again, and what is a failed attempt.

use super::*;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const LONG: Duration = Duration::from_secs(3600);
const POOLING: Pooling = Pooling { idle: LONG, age: LONG };

/// A receiver with a script of what to write for each request of each connection; None closes it.
struct Receiver {
    url: String,
    /// Requests of each connection so far.
    requests: Arc<Mutex<Vec<usize>>>,
}

impl Receiver {
    async fn start(script: fn(connection: usize, request: usize) -> Option<String>) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/fhir", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let counted = requests.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                counted.lock().unwrap().push(0);
                tokio::spawn(serve(stream, counted.clone(), connection, script));
            }
        });
        Receiver { url, requests }
    }

    fn requests(&self) -> Vec<usize> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    counted: Arc<Mutex<Vec<usize>>>,
    connection: usize,
    script: fn(usize, usize) -> Option<String>,
) {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    for request in 0.. {
        while !read.ends_with(b"\r\n\r\n{}") {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => read.extend_from_slice(&buffer[..count]),
            }
        }
        read.clear();
        counted.lock().unwrap()[connection] += 1;
        let Some(text) = script(connection, request) else { return };
        stream.write_all(text.as_bytes()).await.unwrap();
        if !text.ends_with("\r\n\r\n") {
            return;
        }
    }
}

fn connections(pooling: Pooling, http2_only: bool) -> Connections {
    Connections::over(Connector(https().unwrap()), pooling, http2_only)
}

/// The status, or what the failure means; and whether it was sent again. The answer's body is read, so that the connection
/// is free afterward.
async fn post(connections: &Connections, url: &str) -> (Result<u16, String>, bool) {
    let request = Request::post(url).body(Body::new("{}".into())).unwrap();
    let resent = AtomicBool::new(false);
    let result = match connections.send(request, &resent).await {
        Ok(response) => {
            let status = response.status().as_u16();
            let _ = http_body_util::BodyExt::collect(response.into_body()).await;
            Ok(status)
        }
        Err(error) => Err(format!("{:?}", failure::result_of(&error))),
    };
    (result, resent.into_inner())
}

#[tokio::test]
async fn a_request_whose_kept_connection_ends_before_any_byte_of_an_answer_is_sent_once_more_on_a_new_one() {
    type Case = (&'static str, fn(usize, usize) -> Option<String>, &'static str, bool, &'static [usize]);
    let cases: [Case; 4] = [
        ("closed after the request", |c, r| (c != 0 || r == 0).then(|| OK.into()), "200", true, &[2, 1]),
        ("the new one is closed, too", |c, r| (c == 0 && r == 0).then(|| OK.into()), "RecvUnreachable", true, &[2, 1]),
        (
            "closed within the head of an answer",
            |_, r| Some(if r == 0 { OK.into() } else { "HTTP/1.1 200 OK\r\nContent".into() }),
            "RecvUnreachable",
            false,
            &[2],
        ),
        (
            "what answers is not HTTP",
            |_, r| Some(if r == 0 { OK } else { "SSH-2.0-x" }.into()),
            "RecvBadAnswer",
            false,
            &[2],
        ),
    ];
    for (what, script, wanted, wanted_resent, requests) in cases {
        let receiver = Receiver::start(script).await;
        let connections = connections(POOLING, false);
        assert_eq!(post(&connections, &receiver.url).await, (Ok(200), false), "{what}");
        let (result, resent) = post(&connections, &receiver.url).await;
        let result = result.map_or_else(|said| said, |status| status.to_string());
        assert!(result.contains(wanted), "{what}: {result}");
        assert_eq!((resent, receiver.requests().as_slice()), (wanted_resent, requests), "{what}");
    }
}

#[tokio::test]
async fn a_new_connection_that_ends_without_an_answer_is_the_receivers_failure() {
    let receiver = Receiver::start(|_, _| None).await;
    let (result, resent) = post(&connections(POOLING, false), &receiver.url).await;
    assert!(result.unwrap_err().contains("RecvUnreachable"));
    assert_eq!((resent, receiver.requests()), (false, vec![1]));
}

#[tokio::test]
async fn a_connection_is_kept_no_longer_than_its_age_and_not_at_all_without_idle_time() {
    for (pooling, wanted) in [(POOLING, vec![3]), (Pooling { idle: Duration::ZERO, ..POOLING }, vec![1, 1, 1])] {
        let receiver = Receiver::start(|_, _| Some(OK.into())).await;
        let connections = connections(pooling, false);
        for _ in 0..3 {
            assert_eq!(post(&connections, &receiver.url).await, (Ok(200), false));
        }
        assert_eq!(receiver.requests(), wanted, "{pooling:?}");
    }
    // Always busy, so that it is its age that ends it.
    let receiver = Receiver::start(|_, _| Some(OK.into())).await;
    let age = Duration::from_millis(200);
    let connections = connections(Pooling { age, ..POOLING }, false);
    let started = Instant::now();
    while receiver.requests().len() < 2 {
        assert!(started.elapsed() < Duration::from_secs(20), "the first connection is used for ever");
        assert_eq!(post(&connections, &receiver.url).await, (Ok(200), false));
    }
}

#[tokio::test]
async fn more_than_a_hundred_headers_are_a_bad_answer_that_says_so() {
    fn with_headers(count: usize) -> String {
        // Content-Length is one of them.
        let headers: String = (1..count).map(|n| format!("x-{n}: 1\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{headers}\r\n")
    }
    let connections = connections(POOLING, false);
    let receiver = Receiver::start(|_, _| Some(with_headers(100))).await;
    assert_eq!(post(&connections, &receiver.url).await.0, Ok(200));
    let receiver = Receiver::start(|_, _| Some(with_headers(101))).await;
    let said = post(&connections, &receiver.url).await.0.unwrap_err();
    assert!(said.contains("RecvBadAnswer") && said.contains("more than 100 headers"), "{said}");
}

/// What a receiver over HTTP/2 does with the second request of its first connection.
#[derive(Clone, Copy, Debug)]
enum Second {
    Drop,
    Reset(h2::Reason),
    GoAway,
}

async fn serve_http2(stream: TcpStream, first: bool, second: Second) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let mut count = 0;
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        count += 1;
        match second {
            _ if !first || count == 1 => {
                respond.send_response(http::Response::new(()), true).unwrap();
            }
            Second::Drop => return,
            Second::Reset(reason) => respond.send_reset(reason),
            Second::GoAway => connection.abrupt_shutdown(h2::Reason::NO_ERROR),
        }
    }
}

#[tokio::test]
async fn over_http2_a_request_is_sent_again_where_the_connection_ends_or_nobody_looked_at_it() {
    for (second, wanted_resent) in [
        (Second::Drop, true),
        (Second::GoAway, true),
        (Second::Reset(h2::Reason::REFUSED_STREAM), true),
        (Second::Reset(h2::Reason::INTERNAL_ERROR), false),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/fhir", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut first = true;
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_http2(stream, std::mem::take(&mut first), second));
            }
        });
        let connections = connections(POOLING, true);
        assert_eq!(post(&connections, &url).await, (Ok(200), false), "{second:?}");
        let (result, resent) = post(&connections, &url).await;
        assert_eq!((result.is_ok(), resent), (wanted_resent, wanted_resent), "{second:?}: {result:?}");
    }
}
