//! Connections to receivers that end when they like: none costs a message an attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Answer, Node, NodeConfig, Party, Peer, SOON, Sample, free_address, wait_for, wait_until};

/// A receiver that answers 204, and closes a connection that brings nothing for so long, or with the request after this many.
#[derive(Clone, Copy)]
struct Habit {
    idle: Duration,
    answers: usize,
}

struct Receiver {
    url: String,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Receiver {
    async fn start(habit: Habit) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/fhir", listener.local_addr().unwrap());
        let (requests, connections): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let (counted, opened) = (requests.clone(), connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                opened.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, habit, counted.clone()));
            }
        });
        Receiver { url, requests, connections }
    }

    async fn node(&self, server: &str) -> Node {
        let lab = Party::new("lab").url(&self.url).with("order = \"none\"");
        NodeConfig::with_sender().participant(lab).server(server).start().await
    }
}

async fn serve(mut stream: TcpStream, habit: Habit, requests: Arc<AtomicUsize>) {
    for _ in 0..habit.answers {
        match tokio::time::timeout(habit.idle, request(&mut stream)).await {
            Ok(true) => {}
            _ => return,
        }
        requests.fetch_add(1, Ordering::SeqCst);
        if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
            return;
        }
    }
    // It reads one more, and goes without a word.
    if request(&mut stream).await {
        requests.fetch_add(1, Ordering::SeqCst);
    }
}

/// Reads one request to its end.
async fn request(stream: &mut TcpStream) -> bool {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
        let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
        if bytes.len() >= end + 4 + length.unwrap_or(0) {
            return true;
        }
    }
}

async fn all_attempts(node: &Node, message: &str) -> Vec<Value> {
    let timeline = node.admin(&format!("messages/{message}/timeline")).await;
    let entries = timeline["items"].as_array().cloned().unwrap_or_default().into_iter();
    entries.filter(|entry| entry["what"] == "attempt").map(|entry| entry["attempt"].clone()).collect()
}

#[tokio::test]
async fn a_receiver_that_closes_kept_connections_costs_no_message_an_attempt() {
    let habits = [
        // Closed about when the next message comes.
        (Habit { idle: Duration::from_millis(500), answers: usize::MAX }, Duration::from_millis(500)),
        (Habit { idle: Duration::from_millis(50), answers: usize::MAX }, Duration::from_millis(50)),
        // Every second request of a connection is read and never answered.
        (Habit { idle: SOON, answers: 1 }, Duration::ZERO),
    ];
    for (habit, pause) in habits {
        let receiver = Receiver::start(habit).await;
        let node = receiver.node("").await;
        let mut resent = 0;
        for _ in 0..12 {
            let reply = node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(204);
            let attempts = all_attempts(&node, reply.header("emberpost-message-id").unwrap()).await;
            assert_eq!((attempts.len(), &attempts[0]["fault"]), (1, &Value::Null), "{attempts:?}");
            let detail = attempts[0]["detail"].as_str().unwrap_or_default();
            resent += usize::from(detail.contains("sent again at once on a new one"));
            tokio::time::sleep(pause).await;
        }
        let metrics = node.get("/metrics").await.text();
        assert!(!metrics.contains("RECV_UNREACHABLE"), "{metrics}");
        let (requests, connections) =
            (receiver.requests.load(Ordering::SeqCst), receiver.connections.load(Ordering::SeqCst));
        // Whatever was sent twice is on record, and nothing was sent a third time.
        assert!(requests <= 12 + resent, "{requests} requests, {resent} sent again");
        assert!(connections > 1);
        if habit.answers == 1 {
            assert!(resent > 0 && requests == 12 + resent, "{requests} requests, {resent} sent again");
        }
    }
}

#[tokio::test]
async fn a_busy_connection_is_replaced_when_it_is_old() {
    let receiver = Receiver::start(Habit { idle: SOON, answers: usize::MAX }).await;
    let node = receiver.node("connection_age_seconds = 1").await;
    node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(204);
    wait_until(SOON, "a second connection is opened", async || {
        node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(204);
        receiver.connections.load(Ordering::SeqCst) > 1
    })
    .await;
}

#[tokio::test]
async fn an_answer_with_more_than_a_hundred_headers_is_a_bad_answer_that_says_so() {
    let peer = Peer::ok().await;
    let headers =
        |count: usize| -> Vec<(&'static str, String)> { (0..count).map(|n| ("x-note", n.to_string())).collect() };
    // The server adds its own: date and length.
    peer.answer_first([Answer::Said { status: 200, headers: headers(101), body: Vec::new() }]);
    peer.answer_first([Answer::Said { status: 204, headers: headers(90), body: Vec::new() }]);
    let lab = Party::new("lab").at(&peer).with("retry_schedule_seconds = [1]");
    let node = NodeConfig::with_sender().participant(lab).start().await;
    let reply = node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(204);
    let attempts = all_attempts(&node, reply.header("emberpost-message-id").unwrap()).await;
    assert_eq!(attempts[0]["fault"], "RECV_BAD_ANSWER", "{attempts:?}");
    assert!(attempts[0]["detail"].as_str().unwrap().contains("more than 100 headers"), "{attempts:?}");
    assert_eq!((attempts.len(), &attempts[1]["fault"]), (2, &Value::Null));
}

/// Sets how many descriptors a running process may have.
fn descriptors(node: &Node, limit: &str) {
    let pid = node.pid().to_string();
    let done = std::process::Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}")]).status();
    assert!(done.expect("prlimit of util-linux").success());
}

#[tokio::test]
async fn without_descriptors_nothing_is_counted_as_an_attempt_and_deliveries_go_on_when_there_are_some_again() {
    let address = free_address();
    for host in [address.ip().to_string(), "localhost".to_owned()] {
        let url = format!("http://{host}:{}/fhir", address.port());
        let lab = Party::new("lab").url(&url).with("retry_schedule_seconds = [1]");
        let node = NodeConfig::with_sender().participant(lab).server("answer_timeout_ms = 50").start().await;
        let reply = node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(202);
        let id = reply.header("emberpost-message-id").unwrap();
        wait_until(SOON, "it was refused once", async || all_attempts(&node, id).await.len() == 1).await;
        // No descriptor is free below three.
        descriptors(&node, "3:1024");
        wait_until(SOON, "the shortage is met", async || node.log().contains("ROUTE_SHORTAGE")).await;
        let listener = TcpListener::bind(address).await.unwrap();
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            serve(stream, Habit { idle: SOON, answers: 1 }, Arc::default()).await;
        });
        descriptors(&node, "1024:1024");
        let delivery = wait_for(SOON, "it is delivered", async || {
            let items = node.admin(&format!("deliveries?message={id}")).await["items"].clone();
            (items[0]["state"] == "delivered").then(|| items[0].clone())
        })
        .await;
        served.abort();
        let attempts = all_attempts(&node, id).await;
        let faults: Vec<&Value> =
            attempts.iter().map(|attempt| &attempt["fault"]).filter(|fault| !fault.is_null()).collect();
        assert!(faults.iter().all(|fault| **fault == json!("RECV_UNREACHABLE")), "{attempts:?}");
        assert_eq!(delivery["attempts"], attempts.len(), "{delivery}");
        assert!(node.admin("participants").await.to_string().contains("\"closed\""));
    }
}
