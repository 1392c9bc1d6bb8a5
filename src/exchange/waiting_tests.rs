use super::fixture::Fixture;
use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A body that records when the last reference to it is dropped.
struct Watched {
    bytes: Vec<u8>,
    is_dropped: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::Release);
    }
}

fn inbound(is_dropped: &Arc<AtomicBool>) -> Inbound {
    let message = serde_json::json!({
        "resourceType": "Bundle", "id": "a1", "type": "message",
        "entry": [{ "fullUrl": "urn:uuid:6e1f4a1c-7a3b-4d0f-9d5b-0a3c7c1b2d10", "resource": {
            "resourceType": "MessageHeader", "id": "h1",
            "eventCoding": { "system": "urn:x", "code": "y" },
            "source": { "endpoint": "https://ward.example/fhir" },
            "destination": [{ "endpoint": "https://lab.example/fhir" }]
        } }]
    });
    let bytes = Bytes::from_owner(Watched { bytes: message.to_string().into(), is_dropped: is_dropped.clone() });
    Inbound {
        bytes,
        media_type: "application/fhir+json".into(),
        said_version: None,
        credential: None,
        via: None,
        request_id: "r".into(),
        answer_mode: AnswerMode::Synchronous,
        expires_after: None,
        received_at_us: 0,
        gone: CancellationToken::new(),
    }
}

#[tokio::test]
async fn neither_body_nor_tree_is_in_memory_while_a_sender_waits_for_an_original_or_a_duplicate() {
    let fixture = Fixture::new().await;
    for attempt in ["original", "duplicate"] {
        let is_dropped = Arc::new(AtomicBool::new(false));
        let mut waiting = Box::pin(fixture.exchange.accept(inbound(&is_dropped), IntakeSlot::default()));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !is_dropped.load(Ordering::Acquire) {
            assert!(tokio::time::Instant::now() < deadline, "{attempt}: the body is still in memory");
            let look = tokio::time::timeout(Duration::from_millis(5), waiting.as_mut()).await;
            assert!(
                look.is_err(),
                "{attempt}: it should wait for its answer, but got {:?}",
                look.map(|reply| reply.result())
            );
        }
        assert_eq!(fixture.exchange.replies.waiters.count(), 1, "{attempt}: the sender waits");
    }
}
