//! The same message again, and other messages under a known identity.

use futures_util::future::join_all;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::harness::{Answer, Gate, Node, NodeConfig, Party, Peer, SOON, Sample, script::answer_to, wait_until};

fn with_lab(peer: &Peer) -> NodeConfig {
    NodeConfig::with_sender().participant(Party::new("lab").at(peer).with("retry_schedule_seconds = [1]"))
}

async fn node_with(peer: &Peer) -> Node {
    with_lab(peer).start().await
}

fn message() -> Sample {
    Sample::new().addressed_to("lab")
}

#[tokio::test]
async fn every_final_outcome_is_repeated_word_for_word() {
    let peer = Peer::ok().await;
    let node = node_with(&peer).await;
    for (count, (answer, wanted)) in [
        (Answer::Ok, 200),
        (Answer::Fatal, 200),
        (Answer::Outcome(422), 200),
        (Answer::Empty(204), 204),
        (Answer::Empty(202), 202),
    ]
    .into_iter()
    .enumerate()
    {
        peer.answer(answer);
        let message = message().bytes();
        let first = node.post(message.clone()).await.expect_status(wanted);
        let again = node.post(message).await.expect_status(wanted);
        assert_eq!((first.header("emberpost-repeat"), again.header("emberpost-repeat")), (None, Some("true")));
        assert_eq!(again.body, first.body);
        for header in ["emberpost-message-id", "content-type"] {
            assert_eq!(again.header(header), first.header(header));
        }
        assert_eq!(peer.count(), count + 1);
    }
}

#[tokio::test]
async fn custody_is_repeated_too() {
    let node = NodeConfig::with_sender().participant(Party::new("lab").mailbox()).start().await;
    let message = message().bytes();
    let first = node.post(message.clone()).await.expect_status(202);
    let again = node.post(message).await.expect_status(202);
    assert_eq!((first.header("emberpost-repeat"), again.header("emberpost-repeat")), (None, Some("true")));
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("content-location"), first.header("content-location"));
    assert_eq!(node.admin("deliveries").await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_repeat_waits_for_the_answer_of_the_first() {
    let (gate, peer) = (Gate::closed(), Peer::ok().await);
    peer.answer(Answer::Ok.behind(&gate));
    let node = node_with(&peer).await;
    let message = message().bytes();
    let (first, second, ()) = tokio::join!(node.post(message.clone()), node.post(message.clone()), async {
        peer.wait_for(1, SOON).await;
        gate.open();
    });
    for reply in [&first, &second] {
        assert_eq!((reply.status, &reply.body[..]), (200, &answer_to(&message, "ok")[..]));
    }
    let repeats = [first, second].iter().filter(|reply| reply.header("emberpost-repeat").is_some()).count();
    assert_eq!((repeats, peer.count()), (1, 1));
}

#[tokio::test]
async fn a_hundred_copies_at_once_are_one_delivery_and_a_hundred_equal_answers() {
    let peer = Peer::ok().await;
    let node = node_with(&peer).await;
    for round in 1..=5 {
        let message = message().bytes();
        let replies = join_all((0..100).map(|_| node.post(message.clone()))).await;
        for reply in &replies {
            assert_eq!((reply.status, &reply.body[..]), (200, &answer_to(&message, "ok")[..]));
        }
        let first = replies.iter().filter(|reply| reply.header("emberpost-repeat").is_none()).count();
        assert_eq!((first, peer.count()), (1, round));
    }
}

#[tokio::test]
async fn a_repeat_that_differs_in_what_is_no_content_is_a_repeat() {
    let peer = Peer::ok().await;
    let node = node_with(&peer).await;
    let message = message();
    let first = node.post(message.bytes()).await.expect_status(200);
    let spaced = serde_json::to_vec_pretty(&message.value()).unwrap();
    let later = message.clone().set("/timestamp", json!("2026-02-02T10:00:00Z")).bytes();
    let resent = message.with_bundle_id("another-transmission").bytes();
    for again in [spaced, later, resent] {
        let again = node.post(again).await.expect_status(200);
        assert_eq!((again.header("emberpost-repeat"), &again.body), (Some("true"), &first.body));
    }
    assert_eq!(peer.count(), 1);
}

#[tokio::test]
async fn other_content_under_a_known_bundle_id_or_identifier_is_a_conflict() {
    let peer = Peer::ok().await;
    let sender = Party::sender().with("rejections = \"status\"");
    let quiet = NodeConfig::new().participant(sender).participant(Party::new("lab").at(&peer));
    for config in [with_lab(&peer), quiet] {
        let node = config.start().await;
        for first in [message(), message().r5()] {
            node.post(first.bytes()).await.expect_status(200);
            let count = peer.count();
            let conflicts = [first.clone().about("another"), first.clone().with_header_id("another-header")];
            for other in conflicts {
                let reply = node.post(other.bytes()).await.expect_status(409);
                assert_eq!(reply.json()["resourceType"], "OperationOutcome");
                assert_eq!(reply.issue_codes(), ["duplicate"]);
                assert_eq!(reply.faults(), ["SEND_REUSED_IDENTITY"]);
            }
            assert_eq!(peer.count(), count);
            let again = node.post(first.bytes()).await.expect_status(200);
            assert_eq!(again.header("emberpost-repeat"), Some("true"));
        }
    }
}

#[tokio::test]
async fn in_r5_the_bundle_id_and_the_header_id_identify_nothing() {
    let peer = Peer::ok().await;
    let node = node_with(&peer).await;
    let first = message().r5();
    node.post(first.bytes()).await.expect_status(200);
    let again = node.post(first.clone().with_bundle_id("another-bundle").bytes()).await.expect_status(200);
    assert_eq!(again.header("emberpost-repeat"), Some("true"));
    let identifier = json!({ "system": "urn:ietf:rfc:3986", "value": "urn:uuid:5ff4b3a2-0000-4000-8000-00000000abcd" });
    let other = node.post(first.about("another").set("/identifier", identifier).bytes()).await.expect_status(200);
    assert_eq!((other.header("emberpost-repeat"), peer.count()), (None, 2));
}

#[tokio::test]
async fn a_copied_header_id_with_other_content_is_a_message_of_its_own() {
    let peer = Peer::ok().await;
    let node = node_with(&peer).await;
    let first = message();
    node.post(first.bytes()).await.expect_status(200);
    let copied = first.with_bundle_id("another-bundle").about("another");
    let reply = node.post(copied.bytes()).await.expect_status(200);
    assert_eq!((reply.header("emberpost-repeat"), peer.count()), (None, 2));
    let again = node.post(copied.bytes()).await.expect_status(200);
    assert_eq!((again.header("emberpost-repeat"), peer.count()), (Some("true"), 2));
}

#[tokio::test]
async fn a_copied_header_id_of_a_message_of_consequence_is_a_conflict() {
    let peer = Peer::ok().await;
    let folder = tempfile::TempDir::new().unwrap();
    for (code, category) in [("charge", "consequence"), ("tell", "notification"), ("keep", "currency")] {
        let definition = json!({
            "resourceType": "MessageDefinition", "id": code, "url": format!("http://sender.example/{code}"),
            "status": "active", "date": "2026-01-01", "category": category,
            "eventCoding": { "system": "http://sender.example/events", "code": code },
        });
        std::fs::write(folder.path().join(format!("{code}.json")), definition.to_string()).unwrap();
    }
    let node = with_lab(&peer).definitions(&format!("paths = [{:?}]", folder.path())).start().await;
    for (code, wanted) in [("charge", 409), ("tell", 200), ("keep", 200)] {
        let first = message().event_of("http://sender.example/events", code);
        node.post(first.bytes()).await.expect_status(200);
        let copied = first.with_bundle_id(&format!("another-{code}")).about("another");
        node.post(copied.bytes()).await.expect_status(wanted);
    }
    assert_eq!(peer.count(), 5);
}

#[tokio::test]
async fn a_message_with_one_id_only_is_known_by_it() {
    let peer = Peer::ok().await;
    peer.answer(Answer::Empty(204));
    let node = node_with(&peer).await;
    for first in [message().unset("/id"), message().unset("/entry/0/resource/id"), message().r5().unset("/identifier")]
    {
        node.post(first.bytes()).await.expect_status(204);
        let again = node.post(first.bytes()).await.expect_status(204);
        assert_eq!(again.header("emberpost-repeat"), Some("true"));
    }
    assert_eq!(peer.count(), 3);
}

#[tokio::test]
async fn what_may_pass_leaves_no_identity_and_is_processed_anew() {
    let peer = Peer::ok().await;
    let node = node_with(&peer).await;
    let message = message();
    peer.answer(Answer::Transient);
    for count in 1..=2 {
        let reply = node.post(message.bytes()).await.expect_status(200);
        assert_eq!(reply.response_code().as_deref(), Some("transient-error"));
        assert_eq!((reply.header("emberpost-repeat"), peer.count()), (None, count));
    }
    peer.answer(Answer::Ok);
    let reply = node.post(message.bytes()).await.expect_status(200);
    assert_eq!((reply.response_code().as_deref(), reply.header("emberpost-repeat")), (Some("ok"), None));
    let again = node.post(message.bytes()).await.expect_status(200);
    assert_eq!((again.header("emberpost-repeat"), peer.count()), (Some("true"), 3));
}

#[tokio::test]
async fn a_transient_error_that_comes_on_its_own_gives_the_identity_free_too() {
    let peer = Peer::answering(Answer::Empty(202)).await;
    let node = node_with(&peer).await;
    let message = message();
    node.post(message.bytes()).await.expect_status(202);
    let answer = Sample::new().from("http://lab.example/fhir").answering(&message.header_id(), "transient-error");
    node.post(answer.bytes()).await.expect_status(200);
    let reply = node.post(message.bytes()).await.expect_status(202);
    assert_eq!((reply.header("emberpost-repeat"), peer.count()), (None, 2));
}

#[tokio::test]
async fn a_refused_message_is_judged_anew_when_it_comes_again() {
    let peer = Peer::ok().await;
    let mut node = NodeConfig::with_sender().start().await;
    let message = message().bytes();
    for _ in 0..2 {
        let reply = node.post(message.clone()).await.expect_status(200);
        assert_eq!((reply.faults(), reply.header("emberpost-repeat")), (vec!["SEND_UNKNOWN_DESTINATION".into()], None));
    }
    node.reload(with_lab(&peer));
    wait_until(SOON, "the new participant is known", async || {
        node.post(message.clone()).await.expect_status(200).response_code().as_deref() == Some("ok")
    })
    .await;
    assert_eq!(peer.count(), 1);
}

#[tokio::test]
async fn an_identity_belongs_to_its_sender() {
    let token = |token: &str| {
        let digest: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("token_sha256 = \"{digest}\"")
    };
    let peer = Peer::ok().await;
    let config = NodeConfig::new().participant(Party::sender().with(&token("one")));
    let config = config.participant(Party::new("other").with(&token("two")));
    let node = config.participant(Party::new("lab").at(&peer)).start().await;
    let first = message();
    node.post_as("one", first.bytes()).await.expect_status(200);
    let foreign = first.clone().from("http://other.example/fhir");
    let reply = node.post_as("two", foreign.bytes()).await.expect_status(200);
    assert_eq!((reply.header("emberpost-repeat"), peer.count()), (None, 2));
    let again = node.post_as("one", first.bytes()).await.expect_status(200);
    assert_eq!((again.header("emberpost-repeat"), peer.count()), (Some("true"), 2));
}

#[tokio::test]
async fn a_repeat_that_comes_while_the_first_waits_for_a_retry_waits_with_it() {
    let peer = Peer::ok().await;
    peer.answer_first([Answer::Empty(503)]);
    let node = node_with(&peer).await;
    let message = message().bytes();
    let (first, second) = tokio::join!(node.post(message.clone()), async {
        peer.wait_for(1, SOON).await;
        node.post(message.clone()).await
    });
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.body, second.body);
    assert_eq!(peer.count(), 2);
}
