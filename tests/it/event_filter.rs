//! A filter of events means one system and one code, in lists as in replays.

use serde_json::json;

use crate::harness::{NodeConfig, Party, Peer, Sample};

#[tokio::test]
async fn an_event_is_found_by_its_exact_code_or_by_system_and_code_and_by_nothing_that_ends_alike() {
    let lab = Peer::ok().await;
    let node = NodeConfig::with_sender().participant(Party::new("lab").at(&lab)).start().await;
    for (system, code) in [
        ("urn:s", "patient-link"),
        ("urn:other", "patient-link"),
        ("urn:s", "evil|patient-link"),
        ("urn:s|evil", "patient-link"),
        ("urn:s", "not-patient-link"),
    ] {
        let message = Sample::new().addressed_to("lab").event_of(system, code);
        node.post(message.bytes()).await.expect_status(200);
    }
    for (filter, found) in [
        ("patient-link", 3),
        ("urn:s|patient-link", 1),
        ("urn:s|evil|patient-link", 1),
        ("evil|patient-link", 0),
        ("link", 0),
        ("urn:s|", 0),
        ("|patient-link", 0),
    ] {
        let listed = node.admin(&format!("messages?sender=sender&event={}", filter.replace('|', "%7C"))).await;
        assert_eq!(listed["items"].as_array().unwrap().len(), found, "{filter}: {listed}");
        let counted = node
            .admin_post("replays", json!({ "filter": { "event": filter, "sender": "sender" }, "dry_run": true }))
            .await;
        assert_eq!(counted.json()["matched"], json!(found), "replay of {filter}: {}", counted.text());
    }
}
