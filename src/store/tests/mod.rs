//! The store by its behavior: each test opens one of its own in a folder of its own.

/// Leaves a test that is about SQLite's files and statements, when the tests run on PostgreSQL.
macro_rules! sqlite_only {
    () => {
        if crate::testing::postgres::is_chosen() {
            return;
        }
    };
}

/// Leaves a test that is about what several nodes share.
macro_rules! postgres_only {
    () => {
        if !crate::testing::postgres::is_chosen() {
            return;
        }
    };
}

mod answers;
mod checkpoint;
mod copied_tables;
mod durability;
mod identity;
mod imports;
mod lanes;
mod leftover;
mod links;
mod lists;
mod migrations;
mod outcomes;
mod partitions;
mod recent;
mod replays;
mod searches;
mod tries;
mod waits;

use super::sqlite::core::Core;
use super::sqlite::{connect, migrate, term};
use super::*;
use crate::delivery::{
    AttemptRow, DeliveryKind, DeliveryState, MessageState, NewDelivery, PendingDelivery, ReplyTo, ResponseMetadata,
};
use crate::fault::Fault;
use bytes::Bytes;
use fhir::event::{Category, Event, Identifier, ResponseCode};
use fhir::identity::{IdentityKeys, KeyKind};

impl Store {
    pub(super) fn core(&self) -> &Arc<Core> {
        match &self.inner.backend {
            Backend::Sqlite(sqlite) => &sqlite.core,
            Backend::Postgres(_) => panic!("this test is about SQLite"),
        }
    }
}

pub(super) const DAY_US: i64 = 86_400_000_000;

/// A store in a folder that ends with the test.
pub(super) struct Fixture {
    pub folder: tempfile::TempDir,
    pub store: Store,
    pub clock: Clock,
}

impl Fixture {
    pub async fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::default();
        let store = Store::open(settings(folder.path()), clock.clone()).await.unwrap();
        Fixture { folder, store, clock }
    }

    pub async fn reopen(self) -> Fixture {
        self.store.close().await;
        let Fixture { folder, clock, .. } = self;
        let store = Store::open(settings(folder.path()), clock.clone()).await.unwrap();
        Fixture { folder, store, clock }
    }

    /// Accepts a message that must be new.
    pub async fn accept_new(&self, new: NewMessage) -> (i64, Vec<PendingDelivery>) {
        match self.store.accept(new).await.unwrap() {
            Acceptance::New { message_key, deliveries, .. } => (message_key, deliveries),
            other => panic!("expected a new message, found {other:?}"),
        }
    }

    pub async fn state(&self, message: Uuid, index: usize) -> DeliveryState {
        self.store.message_status(message).await.unwrap().unwrap().deliveries[index].state
    }
}

pub(super) fn settings(folder: &std::path::Path) -> StoreSettings {
    StoreSettings {
        url: crate::testing::store_url(&folder.join("data/emberpost.db")),
        min_free_bytes: 0,
        identities_days: 30,
    }
}

/// The database file of a SQLite store.
pub(super) fn file_of(settings: &StoreSettings) -> std::path::PathBuf {
    match &settings.url {
        StoreUrl::Sqlite(path) => path.clone(),
        StoreUrl::Postgres(url) => panic!("{url} is not a file"),
    }
}

/// An R4 message of `sender`, without deliveries.
pub(super) fn message(sender: &str, bundle_id: &str, header_id: &str, content: u8) -> NewMessage {
    let now_us = Clock::default().now_us();
    let metadata = Metadata {
        id: Clock::default().new_id(),
        sender: sender.into(),
        source: Some(format!("https://{sender}.example/fhir")),
        destinations: vec!["https://lab.example/fhir".into()],
        event: Some(Event::Coding { system: Some("urn:events".into()), code: "patient-link".into() }),
        version: None,
        header_id: Some(header_id.into()),
        bundle_id: Some(bundle_id.into()),
        received_at_us: now_us,
        checked_at_us: Some(now_us),
        planned_at_us: Some(now_us),
        ..crate::testing::metadata()
    };
    NewMessage {
        identity: IdentityKeys {
            transmission: Some((KeyKind::BundleId, bundle_id.into())),
            message: Some((KeyKind::HeaderId, header_id.into())),
            strict: false,
            content: [content; 32],
            response_content: None,
        },
        metadata,
        state: MessageState::Accepted,
        bytes: Bytes::from_static(b"{}"),
        outcome: None,
        deliveries: Vec::new(),
        answer: None,
        closes: None,
        further: None,
        assigns: None,
        releases_request: false,
    }
}

pub(super) fn numbered(number: usize) -> NewMessage {
    message("clinic", &format!("bundle-{number}"), &format!("header-{number}"), 1)
}

pub(super) fn delivery(participant: &str, lane: i64) -> NewDelivery {
    let now_us = Clock::default().now_us();
    NewDelivery {
        id: Clock::default().new_id(),
        participant: participant.into(),
        destination: Some("https://lab.example/fhir".into()),
        lane,
        kind: DeliveryKind::Request,
        due_at_us: 0,
        expires_at_us: now_us + DAY_US,
        is_awaited: false,
    }
}

pub(super) fn to(participant: &str, lane: i64, new: NewMessage) -> NewMessage {
    NewMessage { deliveries: vec![delivery(participant, lane)], ..new }
}

/// An answer of `sender` with one delivery to the requester.
pub(super) fn answer(sender: &str, id: &str, content: u8) -> NewMessage {
    let mut new = message(sender, id, &format!("header-of-{id}"), content);
    new.metadata.response = Some(ResponseMetadata {
        identifier: Identifier { system: None, value: "header".into() },
        code: Some(ResponseCode::Ok),
    });
    new.metadata.reply_to = ReplyTo::Nobody;
    new.deliveries = vec![NewDelivery { kind: DeliveryKind::Answer, ..delivery("clinic", 0) }];
    new
}

pub(super) fn attempt(result: &str, status: u16) -> Option<AttemptRow> {
    let started_at_us = Clock::default().now_us();
    let result = result.to_owned();
    Some(AttemptRow { started_at_us, duration_us: 5, status: Some(status), result, fault: None, detail: None })
}

pub(super) fn settlement(delivery_key: i64, state: DeliveryState, answer: Option<NewMessage>) -> Settlement {
    let attempt = attempt("delivered", 200);
    let answer = answer.map(Box::new);
    Settlement {
        delivery_key,
        state,
        due_at_us: 0,
        attempt,
        fault: None,
        answer,
        receiver_issues: None,
        shares_with: None,
        ends_waits: false,
        lease: None,
    }
}

pub(super) fn category(new: NewMessage, category: Category) -> NewMessage {
    NewMessage { metadata: Metadata { category: Some(category), ..new.metadata }, ..new }
}
