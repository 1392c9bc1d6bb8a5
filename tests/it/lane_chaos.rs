//! Many lanes, most of which fail, while the router is killed and reloaded and deliveries are discarded and ordered again at
//! random: every message arrives, in its lane's order, healthy lanes never wait for failing ones, and nothing is stuck.
//!
//! A build runs one small seed. Ten seeds at full size (20,000 lanes, 100,000 deliveries, 12,000 lanes that fail), with the
//! optimized program:
//!
//! ```text
//! EMBERPOST_SEEDS=10 EMBERPOST_SCALE=100 cargo test --release --test it lane_chaos -- --nocapture
//! ```
//!
//! `EMBERPOST_SCALE` is a percentage of the full size, `EMBERPOST_SEED` the first seed; each seed is printed as it begins.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Node, NodeConfig, Party, Peer, Received, Sample, wait_until};

const FULL_LANES: u64 = 20_000;
const PER_LANE: u64 = 5;
/// The default percentage: 160 lanes, 800 deliveries.
const SMALL_SCALE: f64 = 0.8;
/// Failures that the receiver answers in a row at most, so that its breaker stays closed and the lanes are on their own.
const FAILURES_IN_A_ROW: u32 = 2;
const SENDERS: u64 = 16;

#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    lanes: u64,
    failing: u64,
    retry_seconds: u64,
    /// How long the router may take for all of it, in the end.
    limit: Duration,
}

impl Plan {
    fn new(seed: u64, scale: f64) -> Plan {
        let lanes = ((FULL_LANES as f64 * scale / 100.0) as u64).max(10);
        let failing = lanes * 6 / 10;
        Plan {
            seed,
            lanes,
            failing,
            // Not so often that failures are all that the receiver hears.
            retry_seconds: 1 + failing / 500,
            limit: Duration::from_secs(60 + lanes / 10),
        }
    }
}

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// The messages of lane `lane` have the numbers `lane * PER_LANE` to `lane * PER_LANE + PER_LANE - 1`.
fn number_of(header_id: &str) -> u64 {
    u64::from_str_radix(header_id.rsplit('-').next().unwrap(), 16).unwrap()
}

fn message(number: u64) -> Sample {
    let source = format!("http://sender.example/lane/{}", number / PER_LANE);
    Sample::numbered(number).from(&source).addressed_to("lab")
}

/// What the receiver saw, and what it makes of it.
#[derive(Default)]
struct Seen {
    taken: HashSet<u64>,
    /// The last of each lane that was taken.
    last: HashMap<u64, u64>,
    /// Discarded at some time: they have lost their place.
    displaced: HashSet<u64>,
    failures_in_a_row: u32,
    wrong: Vec<String>,
}

struct Lab {
    failing_lanes: u64,
    fails: AtomicBool,
    attempts: AtomicU64,
    seen: Mutex<Seen>,
}

impl Lab {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Received) -> Answer {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let number = number_of(&request.header_id());
        let lane = number / PER_LANE;
        let mut seen = self.seen();
        if !seen.displaced.contains(&number) {
            let before = lane * PER_LANE..number;
            let missing = before.filter(|other| !seen.taken.contains(other) && !seen.displaced.contains(other));
            let missing: Vec<u64> = missing.collect();
            if !missing.is_empty() {
                seen.wrong.push(format!("{number} came before {missing:?}"));
            }
            if seen.taken.contains(&number) && seen.last.get(&lane) != Some(&number) {
                let last = seen.last.get(&lane).copied();
                seen.wrong.push(format!("{number} came again after {last:?}"));
            }
        }
        let fails = lane < self.failing_lanes && self.fails.load(Ordering::Relaxed) && !seen.taken.contains(&number);
        if fails && seen.failures_in_a_row < FAILURES_IN_A_ROW {
            seen.failures_in_a_row += 1;
            return Answer::Empty(500);
        }
        seen.failures_in_a_row = 0;
        seen.taken.insert(number);
        if !seen.displaced.contains(&number) {
            seen.last.insert(lane, number);
        }
        Answer::Empty(204)
    }

    /// Messages of these lanes that were not taken, those aside that the test discarded for good.
    fn missing(&self, lanes: std::ops::Range<u64>, gone: &HashSet<u64>) -> Vec<u64> {
        let seen = self.seen();
        let all = lanes.start * PER_LANE..lanes.end * PER_LANE;
        all.filter(|number| !seen.taken.contains(number) && !gone.contains(number)).collect()
    }
}

fn config(lab: Party, plan: &Plan) -> NodeConfig {
    let lab = lab.with(&format!("retry_schedule_seconds = [{}]", plan.retry_seconds)).with("concurrency = 16");
    NodeConfig::with_sender().participant(lab)
}

/// Posts a lane's messages in order, each until it is taken: the router may be away for a moment.
async fn send(client: reqwest::Client, url: String, lanes: Vec<u64>, round: u64) {
    for lane in lanes {
        let body = message(lane * PER_LANE + round).bytes();
        loop {
            let request = client.post(&url).header("content-type", "application/fhir+json");
            let sent = request.header("prefer", "respond-async").body(body.clone()).send().await;
            match sent.map(|reply| reply.status().as_u16()) {
                Ok(200..=299) => break,
                Ok(429 | 503) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                Ok(other) => panic!("a message was refused with {other}"),
            }
        }
    }
}

/// What an operator and fate do meanwhile.
struct Chaos<'t> {
    node: Node,
    plan: &'t Plan,
    lab: &'t Lab,
    peers: [&'t Peer; 2],
    random: Random,
    /// Delivery id and number of what was discarded and not ordered again.
    discarded: Vec<(String, u64)>,
}

impl Chaos<'_> {
    async fn act(&mut self) {
        match self.random.below(6) {
            0 => self.node.restart().await,
            1 => {
                // Reads it as a mailbox for a moment; what follows at once shows whether anything is lost sight of.
                self.node.reload(config(Party::new("lab").mailbox(), self.plan));
                self.until_channel("mailbox").await;
                let peer = self.peers[self.random.below(2) as usize];
                self.node.reload(config(Party::new("lab").at(peer), self.plan));
                self.until_channel("http").await;
            }
            2 => {
                let peer = self.peers[self.random.below(2) as usize];
                self.node.reload(config(Party::new("lab").at(peer), self.plan));
            }
            3 | 4 => self.discard().await,
            _ => self.order_again().await,
        }
    }

    async fn until_channel(&self, channel: &str) {
        wait_until(self.plan.limit, "the configuration is read again", async || {
            let page = self.node.admin("participants").await;
            page["items"].as_array().unwrap().iter().any(|item| item["id"] == "lab" && item["channel"] == channel)
        })
        .await;
    }

    /// Discards some of those that wait in failing lanes.
    async fn discard(&mut self) {
        let page = self.node.admin("deliveries?participant=lab&state=waiting&limit=50").await;
        let items: Vec<Value> = page["items"].as_array().unwrap().clone();
        for item in items {
            if self.random.below(4) > 0 {
                continue;
            }
            let shown = self.node.admin(&format!("messages/{}", item["message"].as_str().unwrap())).await;
            let header_id = shown["header_id"].as_str().or_else(|| shown["message"]["header_id"].as_str());
            let number = number_of(header_id.expect("a message is shown with its header id"));
            if number / PER_LANE >= self.plan.failing {
                continue;
            }
            self.lab.seen().displaced.insert(number);
            let id = item["id"].as_str().unwrap().to_owned();
            let reply = self.node.admin_post(&format!("deliveries/{id}/discard"), json!({})).await;
            if reply.status == 200 {
                self.discarded.push((id, number));
            }
        }
    }

    async fn order_again(&mut self) {
        for (id, number) in std::mem::take(&mut self.discarded) {
            if self.random.below(3) == 0 {
                self.discarded.push((id, number));
                continue;
            }
            self.node.admin_post(&format!("deliveries/{id}/retry"), json!({})).await.expect_status(200);
        }
    }
}

async fn run(plan: Plan) {
    eprintln!("seed {}: {} lanes, {} of them fail", plan.seed, plan.lanes, plan.failing);
    let lab = Arc::new(Lab {
        failing_lanes: plan.failing,
        fails: AtomicBool::new(true),
        attempts: AtomicU64::new(0),
        seen: Mutex::default(),
    });
    let answering = lab.clone();
    let answer = Answer::by(move |request| answering.answer(request));
    let (one, two) = (Peer::answering(answer.clone()).await, Peer::answering(answer).await);
    one.forget_requests();
    two.forget_requests();
    let node = config(Party::new("lab").at(&one), &plan).start().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = node.url("/fhir/$process-message");
    let random = Random(plan.seed);
    let mut chaos = Chaos { node, plan: &plan, lab: &lab, peers: [&one, &two], random, discarded: Vec::new() };
    for round in 0..PER_LANE {
        let mut senders = tokio::task::JoinSet::new();
        for sender in 0..SENDERS {
            // Failing and healthy lanes in turns: three of the first to two of the others.
            let spread = |place: u64| place * 7919 % plan.lanes;
            let lanes = (0..plan.lanes).filter(|place| place % SENDERS == sender).map(spread);
            senders.spawn(send(client.clone(), url.clone(), lanes.collect(), round));
        }
        while !senders.is_empty() {
            chaos.act().await;
            while let Some(sent) = senders.try_join_next() {
                sent.unwrap();
            }
        }
    }
    let gone = |chaos: &Chaos| chaos.discarded.iter().map(|(_, number)| *number).collect::<HashSet<u64>>();
    // The failing lanes still fail: the others do not wait for them.
    wait_until(plan.limit, "every healthy lane has all of its messages", async || {
        lab.missing(plan.failing..plan.lanes, &HashSet::new()).is_empty()
    })
    .await;
    let left = lab.missing(0..plan.failing, &gone(&chaos)).len();
    eprintln!("seed {}: all healthy lanes are served; {left} messages wait in failing ones", plan.seed);
    lab.fails.store(false, Ordering::Relaxed);
    for _ in 0..6 {
        chaos.act().await;
    }
    wait_until(plan.limit, "every message has arrived", async || lab.missing(0..plan.lanes, &gone(&chaos)).is_empty())
        .await;
    wait_until(plan.limit, "nothing waits any more", async || {
        let page = chaos.node.admin("participants").await;
        page["items"].as_array().unwrap().iter().any(|item| item["id"] == "lab" && item["waiting"] == 0)
    })
    .await;
    let seen = lab.seen();
    assert!(seen.wrong.is_empty(), "seed {}: {} times, first {:?}", plan.seed, seen.wrong.len(), seen.wrong.first());
    eprintln!("seed {}: {} attempts", plan.seed, lab.attempts.load(Ordering::Relaxed));
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_every_message_arrives_in_its_lanes_order_and_failing_lanes_hold_up_no_other() {
    let first: u64 = setting("EMBERPOST_SEED", 1);
    for seed in first..first + setting("EMBERPOST_SEEDS", 1) {
        run(Plan::new(seed, setting("EMBERPOST_SCALE", SMALL_SCALE))).await;
    }
}
