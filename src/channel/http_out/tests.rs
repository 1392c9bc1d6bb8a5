//! HTTP out against real receivers on loopback: each row of what a receiver may say (MSG-90).

use super::reply::ANSWER_LIMIT_BYTES;
use super::*;
use crate::delivery::Attempt;
use crate::delivery::ResponseMetadata;
use crate::store::StoreSettings;
use crate::testing;
use fhir::event::Identifier;
use sqlx::Connection;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How a receiver answers, after the whole request was read.
#[derive(Clone)]
enum Manner {
    Say(String),
    /// Says this, then says nothing more.
    SayAndHang(String),
    /// Says a 200 with this length, then bytes without end.
    Endless(&'static str),
}

struct Receiver {
    base: String,
    /// Heads of the requests, as received.
    heads: tokio::sync::mpsc::UnboundedReceiver<String>,
}

impl Receiver {
    async fn start(manner: Manner) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/fhir", listener.local_addr().unwrap());
        let (sender, heads) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, manner.clone(), sender.clone()));
            }
        });
        Receiver { base, heads }
    }

    fn participant(&self) -> Participant {
        let channel = Some(Channel::Http { url: self.base.clone().into(), asynchronous: false });
        Participant { channel, attempt_timeout_seconds: 20, ..testing::participant("lab", 8) }
    }
}

async fn serve(mut stream: TcpStream, manner: Manner, heads: tokio::sync::mpsc::UnboundedSender<String>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.ends_with(b"\r\n\r\n{}") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => request.extend_from_slice(&buffer[..count]),
        }
    }
    let _ = heads.send(String::from_utf8(request).unwrap());
    match manner {
        Manner::Say(text) => stream.write_all(text.as_bytes()).await.unwrap(),
        Manner::SayAndHang(text) => {
            stream.write_all(text.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        }
        Manner::Endless(head) => {
            stream.write_all(head.as_bytes()).await.unwrap();
            let chunk = vec![b' '; 1 << 20];
            while stream.write_all(b"100000\r\n").await.is_ok() && stream.write_all(&chunk).await.is_ok() {
                if stream.write_all(b"\r\n").await.is_err() {
                    return;
                }
            }
        }
    }
}

fn reply(status: u16, headers: &str, body: &str) -> Manner {
    let length = body.len();
    Manner::Say(format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"))
}

const POOLING: Pooling = Pooling { idle: Duration::from_secs(4), age: Duration::from_secs(60) };

async fn http_out() -> (HttpOut, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings {
        url: crate::testing::store_url(&folder.path().join("store.db")),
        min_free_bytes: 0,
        identities_days: 30,
    };
    let store = Store::open(settings, Clock::default()).await.unwrap();
    (HttpOut::new(store, "emberpost.test:8080".into(), Clock::default(), POOLING).unwrap(), folder)
}

async fn carry(out: &HttpOut, delivery: PendingDelivery, participant: Participant) -> Attempt {
    let HttpAttempt { status, result, resent } = out.attempt(&delivery, &participant).await;
    Attempt { started_at_us: 0, duration_us: 0, status, result, resent }
}

/// The attempt in a few words, to be compared with a table.
fn words(result: &AttemptResult) -> String {
    match result {
        AttemptResult::Accepted => "taken".into(),
        AttemptResult::Body { bytes, media_type } => format!("body {media_type} {}", String::from_utf8_lossy(bytes)),
        AttemptResult::Retryable { fault, retry_after, .. } => match retry_after {
            Some(wait) => format!("later {} {}", fault.code(), wait.as_secs()),
            None => format!("later {}", fault.code()),
        },
        AttemptResult::Misconfigured { fault, .. } => format!("misconfigured {}", fault.code()),
        AttemptResult::Queued | AttemptResult::NotSent { .. } | AttemptResult::ForeignCallback => {
            panic!("HTTP says no such thing")
        }
        AttemptResult::ContentRemoved => "dropped".into(),
        AttemptResult::Refused { outcome, .. } => {
            format!("refused {}", if outcome.is_some() { "outcome" } else { "bare" })
        }
    }
}

#[tokio::test]
async fn each_status_means_what_the_contract_says() {
    const OUTCOME: &str = r#"{"resourceType":"OperationOutcome"}"#;
    let (out, _folder) = http_out().await;
    let bundle = "Content-Type: application/fhir+json; fhirVersion=4.0\r\n";
    let past = "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    for (status, headers, body, wanted) in [
        (200, "", "", "taken"),
        (202, "", "", "taken"),
        (202, "", "kept", "body  kept"),
        (204, "", "", "taken"),
        (200, "", "\r\n", "taken"),
        (200, "", OUTCOME, "body  {\"resourceType\":\"OperationOutcome\"}"),
        (200, bundle, "{\"a\":1}", "body application/fhir+json; fhirVersion=4.0 {\"a\":1}"),
        (200, "", "garbage", "body  garbage"),
        (201, "", "", "taken"),
        (302, "Location: http://127.0.0.1:1/\r\n", "", "later ROUTE_REDIRECT"),
        (304, "", "", "later ROUTE_REDIRECT"),
        (400, "", OUTCOME, "refused outcome"),
        (400, "", "", "refused bare"),
        (422, "", "", "refused bare"),
        (401, "", OUTCOME, "misconfigured ROUTE_CREDENTIAL"),
        (403, "", "", "misconfigured ROUTE_CREDENTIAL"),
        (407, "", "", "misconfigured ROUTE_CREDENTIAL"),
        (404, "", OUTCOME, "misconfigured ROUTE_URL"),
        (408, "", "", "later RECV_BUSY"),
        (425, "", "", "later RECV_BUSY"),
        (429, "Retry-After: 7\r\n", "", "later RECV_BUSY 7"),
        (503, past, "", "later RECV_BUSY 0"),
        (500, "", OUTCOME, "later RECV_ERROR"),
        (502, "Retry-After: 9\r\n", "", "later RECV_ERROR 9"),
    ] {
        // No body may follow a 204 or a 304, so these announce none.
        let receiver = Receiver::start(reply(status, headers, body)).await;
        let attempt = carry(&out, testing::pending("lab", 1, 1), receiver.participant()).await;
        assert_eq!(words(&attempt.result), wanted, "{status} {body}");
        assert_eq!(attempt.status, Some(status));
    }
}

#[tokio::test]
async fn a_long_outcome_of_a_refusal_is_not_kept() {
    let (out, _folder) = http_out().await;
    let long = format!(r#"{{"resourceType":"OperationOutcome","x":"{}"}}"#, "x".repeat(64 * 1024));
    let receiver = Receiver::start(reply(422, "", &long)).await;
    let attempt = carry(&out, testing::pending("lab", 1, 1), receiver.participant()).await;
    assert_eq!(words(&attempt.result), "refused bare");
}

#[tokio::test]
async fn broken_connections_are_failed_attempts() {
    let (out, _folder) = http_out().await;
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    for (manner, timeout_seconds, wanted) in [
        (Manner::Say(String::new()), 20, "later RECV_UNREACHABLE"),
        (Manner::Say(half.into()), 20, "later RECV_UNREACHABLE"),
        (Manner::SayAndHang(String::new()), 1, "later RECV_TIMEOUT"),
        (Manner::SayAndHang(half.into()), 1, "later RECV_TIMEOUT"),
        (Manner::SayAndHang(half.replace("200", "500")), 1, "later RECV_ERROR"),
        (Manner::Endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), 20, "later RECV_BAD_ANSWER"),
        (Manner::Endless("HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n"), 20, "later RECV_ERROR"),
    ] {
        let receiver = Receiver::start(manner).await;
        let participant = Participant { attempt_timeout_seconds: timeout_seconds, ..receiver.participant() };
        let attempt = carry(&out, testing::pending("lab", 1, 1), participant).await;
        assert_eq!(words(&attempt.result), wanted);
    }
}

#[tokio::test]
async fn an_answer_that_announces_too_much_is_not_read() {
    let (out, _folder) = http_out().await;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", ANSWER_LIMIT_BYTES + 1);
    let receiver = Receiver::start(Manner::SayAndHang(head)).await;
    let attempt = carry(&out, testing::pending("lab", 1, 1), receiver.participant()).await;
    assert_eq!(words(&attempt.result), "later RECV_BAD_ANSWER");
}

#[tokio::test]
async fn nobody_listening_is_unreachable_and_the_detail_names_no_url() {
    let (out, _folder) = http_out().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/secret?token=abc", listener.local_addr().unwrap());
    drop(listener);
    for (url, wanted) in [(url.as_str(), "later RECV_UNREACHABLE"), ("not a url", "misconfigured ROUTE_URL")] {
        let channel = Some(Channel::Http { url: url.into(), asynchronous: false });
        let participant = Participant { channel, ..testing::participant("lab", 8) };
        let attempt = carry(&out, testing::pending("lab", 1, 1), participant).await;
        assert_eq!((words(&attempt.result).as_str(), attempt.status), (wanted, None));
        let text = format!("{:?}", attempt.result);
        assert!(!text.contains("secret") && !text.contains("token"), "{text}");
    }
}

#[tokio::test]
async fn requests_answers_and_callbacks_go_to_their_urls_with_their_headers() {
    let (out, _folder) = http_out().await;
    let mut receiver = Receiver::start(reply(204, "", "")).await;
    let request = testing::pending("lab", 1, 1);

    carry(&out, request.clone(), receiver.participant()).await;
    let head = receiver.heads.recv().await.unwrap().to_lowercase();
    assert!(head.starts_with("post /fhir/$process-message http/1.1"), "{head}");
    for line in [
        "content-type: application/fhir+json; fhirversion=4.0".to_owned(),
        "accept: application/fhir+json".to_owned(),
        format!("x-request-id: {}", request.delivery_id),
        format!("x-correlation-id: {}", request.metadata.id),
        "via: 1.1 emberpost.test:8080".to_owned(),
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
    }
    assert!(!head.contains("emberpost-attempt"));

    let mut metadata = testing::metadata();
    metadata.via = Some("1.1 other".into());
    metadata.request_id = Some("abc".into());
    let again = PendingDelivery { attempts: 1, metadata: Arc::new(metadata), ..request.clone() };
    carry(&out, again, receiver.participant()).await;
    let head = receiver.heads.recv().await.unwrap().to_lowercase();
    for line in ["via: 1.1 other, 1.1 emberpost.test:8080", "x-request-id: abc", "emberpost-attempt: 2"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
    }

    let callback = receiver.base.replace("/fhir", "/anything?unit=1");
    let mut response = testing::metadata();
    let identifier = Identifier { system: None, value: "x".into() };
    response.response = Some(ResponseMetadata { identifier, code: None });
    let replay = DeliveryKind::Replay { replay: uuid::Uuid::nil(), of: None, forward_answers: false };
    let response = Arc::new(response);
    for (delivery, wanted) in [
        (PendingDelivery { kind: DeliveryKind::Answer, ..request.clone() }, "post /fhir/$process-message?async=true "),
        (
            PendingDelivery { kind: DeliveryKind::Callback { url: callback }, ..request.clone() },
            "post /anything?unit=1&async=true ",
        ),
        (PendingDelivery { kind: replay.clone(), ..request.clone() }, "post /fhir/$process-message "),
        (
            PendingDelivery { kind: replay, metadata: response, ..request.clone() },
            "post /fhir/$process-message?async=true ",
        ),
    ] {
        carry(&out, delivery, receiver.participant()).await;
        let head = receiver.heads.recv().await.unwrap().to_lowercase();
        assert!(head.starts_with(wanted), "{wanted} in {head}");
    }
}

#[tokio::test]
async fn an_asynchronous_channel_adds_the_query_and_no_channel_is_our_defect() {
    let (out, _folder) = http_out().await;
    let mut receiver = Receiver::start(reply(200, "", "")).await;
    let channel = Some(Channel::Http { url: receiver.base.clone().into(), asynchronous: true });
    carry(&out, testing::pending("lab", 1, 1), Participant { channel, ..receiver.participant() }).await;
    assert!(receiver.heads.recv().await.unwrap().starts_with("POST /fhir/$process-message?async=true "));

    let mailbox = Participant { channel: Some(Channel::Mailbox), ..receiver.participant() };
    let attempt = carry(&out, testing::pending("lab", 1, 1), mailbox).await;
    assert_eq!(words(&attempt.result), "later ROUTE_INTERNAL");
}

#[tokio::test]
async fn a_body_that_retention_dropped_is_refused_for_good() {
    let (out, _folder) = http_out().await;
    let receiver = Receiver::start(reply(204, "", "")).await;
    let delivery = PendingDelivery { body: None, ..testing::pending("lab", 1, 1) };
    let attempt = carry(&out, delivery, receiver.participant()).await;
    assert!(matches!(&attempt.result, AttemptResult::ContentRemoved), "{:?}", attempt.result);
}

#[tokio::test]
async fn a_body_that_the_store_cannot_give_now_is_no_attempt_at_the_receiver() {
    let (out, folder) = http_out().await;
    let (path, rename) = (folder.path().join("store.db"), "ALTER TABLE body RENAME TO away");
    if testing::postgres::is_chosen() {
        testing::postgres::shared().run_at(&path, rename);
    } else {
        let mut other = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
        sqlx::query(rename).execute(&mut other).await.unwrap();
    }
    let kept_on_disk = PendingDelivery { body: None, ..testing::pending("lab", 1, 1) };
    let attempt = carry(&out, kept_on_disk, testing::participant("lab", 1)).await;
    assert!(matches!(attempt.result, AttemptResult::NotSent { .. }), "{:?}", attempt.result);
}
