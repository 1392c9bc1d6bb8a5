//! For tests: an exchange without listeners and courier, with two participants and a real store in a temporary folder.

use crate::clock::Clock;
use crate::courier::Handle;
use crate::delivery::{
    Acceptance, DeliveryKind, DeliveryState, MessageState, Metadata, NewDelivery, NewMessage, Settlement,
};
use crate::exchange::{Exchange, Rules, Settings};
use crate::fault::Fault;
use crate::metrics::Metrics;
use crate::routing::lane::{OrderedBy, lane};
use crate::routing::{Channel, Order, Participant, Table};
use crate::store::{Store, StoreSettings};
use crate::testing;
use bytes::Bytes;
use fhir::Event;
use fhir::event::Category;
use fhir::header::Bounds;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;
use validation::definition::Definitions;
use validation::{Checks, Level, ProseRules};

pub(crate) struct Fixture {
    pub(crate) exchange: Arc<Exchange>,
    _folder: tempfile::TempDir,
}

/// A stored message with its delivery to `lab`.
pub(crate) struct StoredMessage {
    pub(crate) id: Uuid,
    pub(crate) delivery: Uuid,
    pub(crate) delivery_key: i64,
}

const SOURCE: &str = "https://ward.example/fhir";

/// The lane of every message of the fixture.
pub(crate) fn lane_of_ward() -> i64 {
    lane(Order::Sender, OrderedBy::Sender { source: Some(SOURCE), sender: "ward" }, || None)
}

impl Fixture {
    pub(crate) async fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::default();
        let settings = StoreSettings {
            url: crate::testing::store_url(&folder.path().join("emberpost.db")),
            min_free_bytes: 0,
            identities_days: 30,
        };
        let store = Store::open(settings, clock.clone()).await.unwrap();
        let participants = ["lab", "ward"].map(participant).to_vec();
        let base_url = "http://127.0.0.1:8080/fhir".to_owned();
        let table = Table::build(participants, Vec::new(), Vec::new(), base_url).unwrap();
        let checks =
            Checks { level: Level::Message, prose_rules: ProseRules::Warning, take_unknown_events: true, now_us: 0 };
        let rules = Rules {
            table,
            definitions: Definitions::default(),
            checks,
            requires_credentials: false,
            on_failure: Default::default(),
        };
        let settings = Settings {
            base_url: "http://127.0.0.1:8080/fhir".into(),
            name: "127.0.0.1:8080".into(),
            answer_timeout: Duration::from_secs(1),
            max_waiting: 10,
            fhir_version: fhir::FhirVersion::R4,
            bounds: Bounds { text_bytes: 2_048, destinations: 1_000 },
        };
        // A courier that was not started makes no attempts.
        let (courier, _inbox) = Handle::new();
        let exchange = Exchange::new(store, courier, rules, clock, Metrics::default(), settings);
        Fixture { exchange, _folder: folder }
    }

    /// Stores a message of an event, whose header id is `name`.
    pub(crate) async fn store(&self, name: &str, event: &str, category: Option<Category>) -> StoredMessage {
        let now_us = self.exchange.clock.now_us();
        let delivery = NewDelivery {
            id: self.exchange.clock.new_id(),
            participant: "lab".into(),
            destination: Some("https://lab.example/fhir".into()),
            lane: lane_of_ward(),
            kind: DeliveryKind::Request,
            due_at_us: now_us,
            expires_at_us: now_us + 1_000_000_000,
            is_awaited: false,
        };
        let (id, delivery_id) = (self.exchange.clock.new_id(), delivery.id);
        let new = NewMessage {
            metadata: metadata(id, name, event, category, now_us),
            state: MessageState::Accepted,
            bytes: Bytes::from(format!("{{ \"id\" : \"{name}\" }}")),
            outcome: None,
            identity: Default::default(),
            deliveries: vec![delivery],
            answer: None,
            closes: None,
            further: None,
            assigns: None,
            releases_request: false,
        };
        match self.exchange.store.accept(new).await.unwrap() {
            Acceptance::New { deliveries, .. } => {
                StoredMessage { id, delivery: delivery_id, delivery_key: deliveries[0].delivery_key }
            }
            other => panic!("{other:?}"),
        }
    }

    /// Ends a delivery in a state.
    pub(crate) async fn settle(&self, message: &StoredMessage, state: DeliveryState, fault: Option<Fault>) {
        let settlement = Settlement {
            delivery_key: message.delivery_key,
            state,
            due_at_us: self.exchange.clock.now_us(),
            attempt: None,
            fault,
            answer: None,
            receiver_issues: None,
            shares_with: None,
            ends_waits: false,
            lease: None,
        };
        self.exchange.store.settle(settlement).await.unwrap();
    }
}

pub(crate) fn participant(id: &str) -> Participant {
    let address = format!("https://{id}.example/fhir");
    Participant {
        addresses: vec![address.clone()],
        channel: Some(Channel::Http { url: address.into(), asynchronous: false }),
        attempt_timeout_seconds: 1,
        retry_schedule_seconds: vec![1],
        expire_after_seconds: 60,
        ..testing::participant(id, 1)
    }
}

fn metadata(id: Uuid, name: &str, event: &str, category: Option<Category>, now_us: i64) -> Metadata {
    Metadata {
        id,
        source: Some(SOURCE.into()),
        destinations: vec!["https://lab.example/fhir".into()],
        event: Some(Event::Coding { system: Some("urn:events".into()), code: event.into() }),
        header_id: Some(name.into()),
        category,
        received_at_us: now_us,
        ..testing::metadata()
    }
}
