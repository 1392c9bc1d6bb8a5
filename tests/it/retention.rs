//! What is dropped by age, and what never is.
//!
//! A router in this process, whose clock is moved; it sweeps when it starts.

use std::path::Path;

use emberpost::app::{Running, start};
use emberpost::clock::Clock;
use emberpost::config::{Config, Overrides};
use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;
use validation::definition::Definitions;

use crate::harness::{Answer, NodeConfig, Party, Peer, Reply, SOON, Sample, wait_until};

const DAY_US: i64 = 86_400_000_000;

/// A router whose clock is ahead by so many days.
pub struct Aged {
    pub running: Running,
    client: Client,
}

impl Aged {
    pub async fn start(config: &NodeConfig, folder: &Path, days: i64) -> Aged {
        let file = folder.join("emberpost.toml");
        std::fs::write(&file, config.render(crate::harness::free_address(), folder)).unwrap();
        let config = Config::load(Some(&file), true, std::iter::empty(), &Overrides::default()).unwrap();
        let clock = Clock::default();
        clock.shift(days * DAY_US);
        let running = start(&config, Definitions::load(&[]).0, clock).await.unwrap();
        Aged { running, client: Client::builder().no_proxy().build().unwrap() }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.address)
    }

    pub async fn post(&self, message: &Sample) -> Reply {
        let request = self.client.post(self.url("/fhir/$process-message")).body(message.bytes());
        Reply::of(request.header("content-type", "application/fhir+json").send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        Reply::of(self.client.get(self.url(path)).send().await.unwrap()).await
    }

    pub async fn message(&self, id: &str) -> Reply {
        self.get(&format!("/admin/v1/messages/{id}")).await
    }

    pub async fn order(&self, path: &str) -> Reply {
        Reply::of(self.client.post(self.url(&format!("/admin/v1/{path}"))).send().await.unwrap()).await
    }

    pub async fn post_json(&self, path: &str, value: &Value) -> Reply {
        let request = self.client.post(self.url(&format!("/admin/v1/{path}"))).body(value.to_string());
        Reply::of(request.header("content-type", "application/json").send().await.unwrap()).await
    }

    pub async fn delivery_of(&self, message: &str) -> String {
        self.message(message).await.json()["deliveries"][0]["id"].as_str().unwrap().to_owned()
    }

    pub async fn content(&self, id: &str) -> Reply {
        self.get(&format!("/admin/v1/messages/{id}/content")).await
    }
}

pub fn id_of(reply: &Reply) -> String {
    reply.header("emberpost-message-id").unwrap_or_else(|| panic!("{}", reply.text())).to_owned()
}

fn hub(lab: &Peer) -> NodeConfig {
    let config = NodeConfig::with_sender().participant(Party::new("lab").at(lab)).server("answer_timeout_ms = 5000");
    config.participant(Party::new("box").mailbox().with("expire_after_seconds = 31536000"))
}

fn folder() -> TempDir {
    TempDir::with_prefix("emberpost-it-").unwrap()
}

#[tokio::test]
async fn bodies_go_and_their_traces_stay() {
    let (lab, folder) = (Peer::ok().await, folder());
    let config = hub(&lab).retention("bodies_days = 2");
    let young = Aged::start(&config, folder.path(), 0).await;
    let message = Sample::new().addressed_to("lab");
    let id = id_of(&young.post(&message).await.expect_status(200));
    assert_eq!(young.content(&id).await.body, message.bytes());
    let waiting = Sample::new().addressed_to("box");
    let waiting_id = id_of(&young.post(&waiting).await.expect_status(202));
    young.running.stop().await;

    let nearly = Aged::start(&config, folder.path(), 1).await;
    let later = id_of(&nearly.post(&Sample::new().addressed_to("lab")).await.expect_status(200));
    assert_eq!(nearly.content(&id).await.body, message.bytes());
    nearly.running.stop().await;

    let old = Aged::start(&config, folder.path(), 2).await;
    // Two days and the moments since: the first is due, the one of yesterday is not.
    wait_until(SOON, "the body is dropped", async || old.content(&id).await.status == 410).await;
    let shown = old.message(&id).await.expect_status(200).json();
    assert_eq!((&shown["body_kept"], &shown["deliveries"][0]["state"]), (&Value::Bool(false), &"answered".into()));
    let timeline = old.get(&format!("/admin/v1/messages/{id}/timeline")).await.json();
    assert!(timeline["items"].as_array().unwrap().iter().any(|entry| entry["what"] == "attempt"), "{timeline}");
    old.content(&later).await.expect_status(200);
    // What waits is open, however old it is.
    assert_eq!(old.content(&waiting_id).await.expect_status(200).body, waiting.bytes());

    // The repeat is known; its answer's content is gone, so that it is told at once that nothing more comes.
    let begun = std::time::Instant::now();
    let repeat = old.post(&message).await.expect_status(202);
    assert_eq!(repeat.header("emberpost-repeat"), Some("true"));
    assert!(begun.elapsed().as_millis() < 4000, "it waited for an answer that cannot come");
    assert_eq!(lab.count(), 2);
    old.running.stop().await;
}

#[tokio::test]
async fn a_dead_letter_can_be_retried_for_days_of_its_own_and_then_nobody_else_is_blamed() {
    let (lab, folder) = (Peer::answering(Answer::Empty(422)).await, folder());
    let config = hub(&lab).retention("bodies_days = 1").retention("dead_letters_days = 3");
    let young = Aged::start(&config, folder.path(), 0).await;
    let message = Sample::new().addressed_to("lab");
    let id = id_of(&young.post(&message).await.expect_status(200));
    let later = id_of(&young.post(&Sample::new().addressed_to("lab")).await.expect_status(200));
    young.running.stop().await;

    let held = Aged::start(&config, folder.path(), 2).await;
    // A message that came now is older than its body: sweeps have come to what is old.
    assert_eq!(held.content(&id).await.expect_status(200).body, message.bytes());
    lab.answer(Answer::Ok);
    let delivery = held.delivery_of(&id).await;
    held.order(&format!("deliveries/{delivery}/retry")).await.expect_status(200);
    wait_until(SOON, "it is delivered", async || {
        held.message(&id).await.json()["deliveries"][0]["state"] == "answered"
    })
    .await;
    assert_eq!(lab.received().last().unwrap().body, message.bytes());
    held.running.stop().await;

    let old = Aged::start(&config, folder.path(), 4).await;
    let delivery = old.delivery_of(&later).await;
    wait_until(SOON, "the content is dropped", async || old.content(&later).await.status == 410).await;
    let refused = old.order(&format!("deliveries/{delivery}/retry")).await.expect_status(409);
    assert!(refused.text().contains("no longer stored"), "{}", refused.text());
    let body = "{\"filter\":{\"participant\":\"lab\"}}";
    let all =
        old.client.post(old.url("/admin/v1/deliveries/retry")).body(body).header("content-type", "application/json");
    assert_eq!(Reply::of(all.send().await.unwrap()).await.expect_status(200).json()["done"], 0);
    assert_eq!(lab.count(), 3, "the receiver was not asked");
    old.running.stop().await;
}

#[tokio::test]
async fn traces_go_with_everything_of_theirs_but_not_what_is_open() {
    let (lab, folder) = (Peer::ok().await, folder());
    let config = hub(&lab).retention("traces_days = 3").retention("identities_days = 1");
    let young = Aged::start(&config, folder.path(), 0).await;
    let id = id_of(&young.post(&Sample::new().addressed_to("lab")).await.expect_status(200));
    let waiting = Sample::new().addressed_to("box");
    let waiting_id = id_of(&young.post(&waiting).await.expect_status(202));
    young.running.stop().await;

    let old = Aged::start(&config, folder.path(), 4).await;
    let newest = id_of(&old.post(&Sample::new().addressed_to("lab")).await.expect_status(200));
    wait_until(SOON, "the trace is dropped", async || old.message(&id).await.status == 404).await;
    assert_eq!(old.content(&waiting_id).await.expect_status(200).body, waiting.bytes());
    let open = old.get("/admin/v1/deliveries?state=waiting").await.json();
    assert_eq!(open["items"][0]["message"], waiting_id.as_str());
    old.message(&newest).await.expect_status(200);
    assert_eq!(old.get(&format!("/admin/v1/deliveries?message={id}")).await.json()["items"], Value::Array(vec![]));
    old.running.stop().await;
}

#[tokio::test]
async fn a_repeat_after_its_identity_is_forgotten_counts_as_new() {
    let (lab, folder) = (Peer::ok().await, folder());
    let config = hub(&lab).retention("identities_days = 5");
    let message = Sample::new().addressed_to("lab");
    let young = Aged::start(&config, folder.path(), 0).await;
    let first = id_of(&young.post(&message).await.expect_status(200));
    young.running.stop().await;

    let before = Aged::start(&config, folder.path(), 4).await;
    let repeat = before.post(&message).await.expect_status(200);
    assert_eq!((repeat.header("emberpost-repeat"), id_of(&repeat)), (Some("true"), first.clone()));
    before.running.stop().await;
    assert_eq!(lab.count(), 1);

    let after = Aged::start(&config, folder.path(), 6).await;
    let new = after.post(&message).await.expect_status(200);
    assert_eq!(new.header("emberpost-repeat"), None);
    assert_ne!(id_of(&new), first);
    assert_eq!(lab.count(), 2);
    // The first is still there to be looked at.
    assert_eq!(after.content(&first).await.body, message.bytes());
    after.running.stop().await;
}
