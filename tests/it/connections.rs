//! Connections, places, and bytes in flight: bounded, with a share for everybody and a reserve for health and operators.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Method;
use sha2::{Digest, Sha256};

use crate::harness::raw::{RawConnection, gzip, half_a_body, whole_body};
use crate::harness::{Answer, Node, NodeConfig, Party, Peer, SOON, Sample, wait_until};

fn with_lab(lab: &Peer) -> NodeConfig {
    let lab = Party::new("lab").at(lab).with("order = \"none\"").with("concurrency = 4");
    NodeConfig::with_sender().participant(lab).server("answer_timeout_ms = 600000")
}

fn token(token: &str) -> String {
    let hex: String = Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("token_sha256 = \"{hex}\"")
}

async fn stored(node: &Node) -> usize {
    let list = node.admin("messages?sender=sender&limit=500").await;
    list["items"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn a_low_soft_limit_of_open_files_is_raised_so_that_many_may_wait_and_deliveries_go_on() {
    const WAITING: usize = 200;
    let (lab, ward) = (Peer::answering(Answer::Hang).await, Peer::ok().await);
    let config = with_lab(&lab).participant(Party::new("ward").at(&ward)).prelude("ulimit -Sn 128");
    let node = config.start().await;
    let mut waiting = Vec::new();
    for _ in 0..WAITING {
        waiting.push(whole_body(node.address(), &Sample::new().addressed_to("lab").bytes(), "").await);
    }
    wait_until(SOON * 3, "every message is stored", async || stored(&node).await == WAITING).await;
    node.post(Sample::new().addressed_to("ward").bytes()).await.expect_status(200);
    node.get("/health/ready").await.expect_status(200);
}

#[tokio::test]
async fn at_a_low_hard_limit_deliveries_health_and_operators_keep_their_reserve() {
    const LIMIT: usize = 256;
    // What is left of the limit for connections.
    const CONNECTIONS: usize = 128;
    let (lab, ward) = (Peer::answering(Answer::Hang).await, Peer::ok().await);
    let config = with_lab(&lab).participant(Party::new("ward").at(&ward).with("order = \"none\""));
    let node = config.prelude(&format!("ulimit -n {LIMIT}")).start().await;
    let mut waiting = Vec::new();
    for number in 0..LIMIT * 2 {
        let to = if number == CONNECTIONS / 2 { "ward" } else { "lab" };
        waiting.push(whole_body(node.address(), &Sample::new().addressed_to(to).bytes(), "").await);
    }
    // The last ones found no connection for messages, and are told so.
    let refused = waiting.pop().unwrap().reply().await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("ROUTE_BUSY"), "{refused}");
    assert!(refused.to_lowercase().contains("retry-after") && refused.contains("connection: close"), "{refused}");
    ward.wait_for(1, SOON).await;
    for _ in 0..20 {
        let fresh = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(SOON).build().unwrap();
        for path in ["/health/ready", "/admin/v1/messages", "/metrics"] {
            let reply = fresh.get(node.url(path)).send().await.unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(reply.status().as_u16(), 200, "{path}");
        }
    }
    let accepted = stored(&node).await;
    // The one for the ward was answered, and gave its connection back.
    assert!((CONNECTIONS / 2..=CONNECTIONS + 1).contains(&accepted), "{accepted} messages were taken");
    let dead = node.admin("deliveries?fault=RECV_UNREACHABLE").await;
    assert_eq!(dead["items"].as_array().map(Vec::len), Some(0), "deliveries found descriptors");
}

#[tokio::test]
async fn one_participant_cannot_take_the_places_of_the_others() {
    let lab = Peer::ok().await;
    let slow = Party::new("slow").address("http://slow.example/fhir").with(&token("slow"));
    let config = NodeConfig::new().participant(Party::sender().with(&token("sender"))).participant(slow);
    let config = config.participant(Party::new("lab").at(&lab).with("order = \"none\"").with(&token("lab")));
    let duty = format!("[[operator]]\nname = \"duty\"\nrole = \"operator\"\n{}\n", token("duty"));
    let node = config.server("max_in_flight = 8").toml(&duty).start().await;
    let body = Sample::new().from("http://slow.example/fhir").addressed_to("lab").bytes();
    let mut open = Vec::new();
    for _ in 0..20 {
        let mut connection = RawConnection::open(node.address()).await;
        let head = format!(
            "POST /fhir/$process-message HTTP/1.1\r\nHost: {}\r\nContent-Type: application/fhir+json\r\n\
             Authorization: Bearer slow\r\nContent-Length: {}\r\n\r\n",
            node.address(),
            body.len()
        );
        connection.send(head.as_bytes()).await;
        connection.send(&body[..10]).await;
        open.push(connection);
    }
    let of_slow = || Sample::new().from("http://slow.example/fhir").addressed_to("lab");
    wait_until(SOON, "the slow party has all of its places", async || {
        figure(&node, "emberpost_messages_in_flight", Some("duty")).await == 4
    })
    .await;
    node.post_as("slow", of_slow().bytes()).await.expect_status(503);
    for _ in 0..20 {
        node.post_as("sender", Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    }
    drop(open);
    wait_until(SOON, "its places are free again", async || node.post_as("slow", of_slow().bytes()).await.status == 200)
        .await;
}

#[tokio::test]
async fn without_credentials_one_peer_gets_half_of_the_places_unless_it_is_a_trusted_proxy() {
    for (line, second) in [("trusted_proxies = []", 503), ("trusted_proxies = [\"127.0.0.1\"]", 200)] {
        let lab = Peer::ok().await;
        let node = with_lab(&lab).server("max_in_flight = 2").server(line).start().await;
        let half = half_a_body(node.address(), &Sample::new().addressed_to("lab").bytes()).await;
        wait_until(SOON, "one of two places is taken", async || {
            figure(&node, "emberpost_messages_in_flight", None).await == 1
        })
        .await;
        assert_eq!(node.post(Sample::new().addressed_to("lab").bytes()).await.status, second, "{line}");
        half.hang_up();
    }
}

/// A whole figure of `/metrics`, as this operator sees it.
async fn figure(node: &Node, name: &str, token: Option<&str>) -> u64 {
    let request = node.request(Method::GET, "/metrics");
    let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
    let text = node.ask(request).await.expect_status(200).text();
    let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(' ')?.parse().unwrap());
    text.lines().find_map(value).unwrap_or_else(|| panic!("{name} is not in {text}"))
}

#[tokio::test]
async fn bytes_in_flight_are_bounded_received_and_unpacked() {
    let lab = Peer::ok().await;
    let node = with_lab(&lab).server("max_in_flight_bytes = 200000").start().await;
    let padded = |bytes: usize| Sample::new().addressed_to("lab").padded(bytes).bytes();
    node.post(padded(80_000)).await.expect_status(200);
    let packed = gzip(&padded(150_000));
    assert!(packed.len() < 50_000);
    let request = node.posting(packed).header("content-type", "application/fhir+json");
    let unpacked = node.ask(request.header("content-encoding", "gzip")).await.expect_status(503);
    assert_eq!(unpacked.faults(), ["ROUTE_BUSY"]);
    assert!(unpacked.header("retry-after").is_some());

    let half = half_a_body(node.address(), &padded(120_000)).await;
    wait_until(SOON, "half of the body is in memory", async || {
        figure(&node, "emberpost_bytes_in_flight", None).await >= 60_000
    })
    .await;
    node.post(padded(80_000)).await.expect_status(503);
    node.get("/health/ready").await.expect_status(200);
    half.hang_up();
    wait_until(SOON, "the bytes are given back", async || node.post(padded(80_000)).await.status == 200).await;
}

#[tokio::test]
async fn many_packed_bodies_at_once_take_no_more_memory_than_the_few_that_there_is_room_for() {
    const AT_ONCE: usize = 60;
    const BODY_BYTES: usize = 19_000_000;
    // What 64 MiB in flight come to, with the trees and the stored form of the one body that fits one peer's half; and the
    // rest of the router. Half of the bodies unpacked at once are 570 MB.
    const PEAK_LIMIT_KIB: u64 = 400 * 1024;
    let lab = Peer::ok().await;
    let node = with_lab(&lab).server("max_in_flight_bytes = 67108864").start().await;
    let photo = serde_json::json!([{ "contentType": "image/png", "data": "QUFB".repeat(BODY_BYTES / 4) }]);
    let packed = gzip(&Sample::new().addressed_to("lab").set("/entry/1/resource/photo", photo).bytes());
    assert!(packed.len() < 100_000, "the test needs small bodies that become large");
    let requests = (0..AT_ONCE).map(|_| {
        let request = node.posting(packed.clone()).header("content-type", "application/fhir+json");
        node.ask(request.header("content-encoding", "gzip").header("prefer", "respond-async"))
    });
    let replies = futures_util::future::join_all(requests).await;
    let peak = peak_memory_kib(&node);
    let taken = replies.iter().filter(|reply| reply.status == 202).count();
    println!("{taken} of {AT_ONCE} were taken, {peak} KiB at most");
    assert!(taken > 0, "{:?}", replies[0].faults());
    for reply in replies.iter().filter(|reply| reply.status != 202) {
        assert_eq!((reply.status, reply.faults()), (503, vec!["ROUTE_BUSY".to_owned()]));
    }
    assert!(peak < PEAK_LIMIT_KIB, "{peak} KiB");
    wait_until(SOON, "all bytes are given back", async || figure(&node, "emberpost_bytes_in_flight", None).await == 0)
        .await;
}

/// The most memory that the router has had at once.
fn peak_memory_kib(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    value.trim().trim_end_matches(" kB").parse().unwrap()
}

type Http2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn http2(node: &Node) -> Http2 {
    let stream = tokio::net::TcpStream::connect(node.address()).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Every route, reading and writing, that exists or not.
const ROUTES: [(Method, &str); 12] = [
    (Method::POST, "/fhir/$process-message"),
    (Method::GET, "/fhir/metadata"),
    (Method::GET, "/fhir/MessageDefinition"),
    (Method::GET, "/fhir/async/x"),
    (Method::GET, "/fhir/Bundle"),
    (Method::POST, "/fhir/"),
    (Method::GET, "/admin/v1/messages"),
    (Method::GET, "/admin/v1/openapi.json"),
    (Method::POST, "/admin/v1/route"),
    (Method::GET, "/metrics"),
    (Method::GET, "/nothing/here"),
    (Method::OPTIONS, "/fhir/metadata"),
];

#[tokio::test]
async fn without_credentials_no_route_answers_a_foreign_host_or_page_or_a_proxy() {
    let node = NodeConfig::with_sender().start().await;
    let signs = [
        ("host", "evil.example"),
        ("origin", "https://evil.example"),
        ("x-real-ip", "10.0.0.1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-host", "hub.example"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=10.0.0.1"),
        ("cf-connecting-ip", "10.0.0.1"),
    ];
    for (method, path) in ROUTES {
        for (name, value) in signs {
            let reply = node.ask(node.request(method.clone(), path).header(name, value)).await;
            let seen = (reply.status, reply.faults());
            assert_eq!(seen, (403, vec!["ROUTE_CLOSED".to_owned()]), "{method} {path} {name}: {value}");
        }
    }
    let via = node.request(Method::GET, "/fhir/metadata").header("via", "1.1 other-router");
    node.ask(via).await.expect_status(200);
}

#[tokio::test]
async fn the_host_that_counts_is_that_of_the_target() {
    let node = NodeConfig::with_sender().start().await;
    let address = node.address();
    for (request, status) in [
        (format!("GET http://evil.example/fhir/metadata HTTP/1.1\r\nHost: {address}\r\n"), 403),
        (format!("GET http://{address}/fhir/metadata HTTP/1.1\r\nHost: {address}\r\n"), 200),
        (format!("GET http://{address}/fhir/metadata HTTP/1.1\r\nHost: evil.example\r\n"), 200),
        ("GET http://evil.example/admin/v1/messages HTTP/1.1\r\nHost: localhost\r\n".to_owned(), 403),
        (format!("GET /fhir/metadata HTTP/1.0\r\nHost: {address}\r\n"), 403),
        ("GET /admin/v1/messages HTTP/1.0\r\n".to_owned(), 403),
        ("GET /health/ready HTTP/1.0\r\n".to_owned(), 200),
        (format!("GET /health/live HTTP/1.1\r\nHost: {address}\r\nX-Forwarded-For: 10.0.0.1\r\n"), 200),
        ("GET /health/live HTTP/1.1\r\nHost: evil.example\r\n".to_owned(), 403),
    ] {
        let mut connection = RawConnection::open(address).await;
        connection.send(format!("{request}Connection: close\r\n\r\n").as_bytes()).await;
        let reply = connection.reply().await;
        assert_eq!(reply.split(' ').nth(1), Some(status.to_string().as_str()), "{request}: {reply}");
    }
    for (authority, host, status) in [
        (address.to_string(), None, 200),
        (format!("localhost:{}", address.port()), None, 200),
        ("evil.example".to_owned(), None, 403),
        ("evil.example".to_owned(), Some(address.to_string()), 403),
        (address.to_string(), Some("evil.example".to_owned()), 403),
    ] {
        for path in ["/fhir/metadata", "/admin/v1/messages"] {
            let mut request = hyper::Request::get(format!("http://{authority}{path}"));
            if let Some(host) = &host {
                request = request.header("host", host);
            }
            let reply = http2(&node).await.send_request(request.body(Full::default()).unwrap()).await.unwrap();
            assert_eq!(reply.status().as_u16(), status, "{authority} {host:?} {path}");
        }
    }
}

#[tokio::test]
async fn a_refusal_before_the_body_was_read_says_that_the_connection_ends() {
    let lab = Peer::ok().await;
    let config = NodeConfig::new().participant(Party::sender().with(&token("sender")));
    let node = config.participant(Party::new("lab").at(&lab)).server("body_limit_bytes = 1024").start().await;
    let address = node.address();
    for (path, more, status) in [
        ("/fhir/$process-message", "Expect: 100-continue\r\nContent-Length: 1000\r\n", 401),
        (
            "/fhir/$process-message",
            "Authorization: Bearer sender\r\nExpect: 100-continue\r\nContent-Length: 2000\r\n",
            413,
        ),
        ("/fhir/metadata", "Content-Length: 1000000\r\n", 405),
        ("/admin/v1/route", "Content-Length: 1000000\r\n", 401),
        ("/nothing/here", "Transfer-Encoding: chunked\r\n", 404),
    ] {
        let mut connection = RawConnection::open(address).await;
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/fhir+json\r\n{more}\r\n");
        connection.send(head.as_bytes()).await;
        let reply = connection.reply().await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {reply}");
        assert!(reply.contains("\r\nconnection: close\r\n"), "{path}: {reply}");
    }
}

#[tokio::test]
async fn many_idle_connections_leave_room_for_those_that_ask() {
    let lab = Peer::ok().await;
    let node = with_lab(&lab).server("max_connections = 20").start().await;
    let mut idle = Vec::new();
    for _ in 0..60 {
        idle.push(RawConnection::open(node.address()).await);
    }
    let mut quiet = Vec::new();
    for _ in 0..40 {
        let mut sender = http2(&node).await;
        let request = hyper::Request::get(node.url("/health/live")).body(Full::default()).unwrap();
        let reply = tokio::time::timeout(SOON, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!(reply.into_body().collect().await.unwrap().to_bytes(), "live\n");
        quiet.push(sender);
    }
    wait_until(SOON, "idle connections make room", async || {
        node.post(Sample::new().addressed_to("lab").bytes()).await.status == 200
    })
    .await;
}
