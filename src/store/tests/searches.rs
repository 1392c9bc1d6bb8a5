//! Lists of PostgreSQL: whatever the filter, a search reads in proportion to what it shows. On a server of its own, which counts pages.

use super::*;
use crate::store::view::{DeliveryFilter, MessageFilter};
use crate::testing::postgres::{Server, is_installed};

const MESSAGES: i64 = 40_000;
/// More than any page of 20 rows needs, and less than a tenth of the smaller of the two tables.
const PAGES_LIMIT: i64 = 120;

/// Fills the store with messages that were answered, all alike but for one in the middle.
const FILL: &str = "\
    INSERT INTO message (k, received_us, committed_us, sender, id, state, content_sha256, source, event, event_code, destinations, metadata) \
    SELECT k, 1000000::bigint * k, 1000000::bigint * k, 1, gen_random_uuid(), 0, '\\x00', 'urn:common', 'urn:e|common', 'common', E'\\nurn:lab\\n', m.metadata \
    FROM generate_series(1001, 41000) k, (SELECT metadata FROM message ORDER BY k LIMIT 1) m; \
    INSERT INTO delivery (k, message_k, participant, lane, seq, due_us, expires_us, created_us, ended_us, id, state, kind, attempts) \
    SELECT k, k, 1, k % 7, k, 0, 9e15, 1000000::bigint * k, 1000000::bigint * k, gen_random_uuid(), 3, 0, 1 FROM generate_series(1001, 41000) k; \
    INSERT INTO reference (hash, message_k, sender, content_head, kind) SELECT hashint8extended(k, n), k, 1, k, n \
    FROM generate_series(1001, 41000) k, generate_series(1, 2) n";

struct Filled {
    fixture: Fixture,
    server: Server,
    /// A message with a dead letter among many that were answered.
    rare: Uuid,
}

impl Filled {
    async fn new() -> Filled {
        let server = Server::start(&["shared_preload_libraries=pg_stat_statements", "autovacuum=off"]);
        let folder = tempfile::tempdir().unwrap();
        let url = server.url_of(folder.path());
        server.run_at(folder.path(), "CREATE EXTENSION pg_stat_statements");
        let settings = StoreSettings { url: StoreUrl::Postgres(url.into()), min_free_bytes: 0, identities_days: 30 };
        let (clock, store) = (Clock::default(), Store::open(settings, Clock::default()).await.unwrap());
        let fixture = Fixture { folder, store, clock };
        let mut rare = to("lab", 1, numbered(1));
        rare.metadata.destinations = vec!["urn:rare".into()];
        rare.metadata.source = Some("urn:rare".into());
        rare.metadata.event = Some(Event::Coding { system: None, code: "rare".into() });
        let id = rare.metadata.id;
        let (_, work) = fixture.accept_new(rare).await;
        let mut dead = settlement(work[0].delivery_key, DeliveryState::Dead, None);
        dead.fault = Some(Fault::RecvRefused);
        fixture.store.settle(dead).await.unwrap();
        server.run_at(fixture.folder.path(), FILL);
        Filled { fixture, server, rare: id }
    }

    /// The pages that a search reads.
    async fn pages<T>(&self, search: impl Future<Output = T>) -> (T, i64) {
        let sql = |sql: &str| self.server.run_at(self.fixture.folder.path(), sql);
        sql("SELECT pg_stat_statements_reset()");
        let found = search.await;
        let pages = sql("SELECT coalesce(sum(shared_blks_hit + shared_blks_read), 0) FROM pg_stat_statements \
                         WHERE query NOT LIKE '%pg_stat%' AND query NOT LIKE 'SET %'");
        (found, pages.parse().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_list_by_any_filter_scans_a_table() {
    if !is_installed() {
        eprintln!("skipped: PostgreSQL is not installed (tests/run installs it)");
        return;
    }
    let filled = Filled::new().await;
    let store = &filled.fixture.store;
    let text = |text: &str| Some(text.to_owned());
    let none = MessageFilter::default;
    // With the number of messages that each shows: the rare one, or none.
    for (filter, wanted) in [
        (MessageFilter { id: Some(filled.rare), ..none() }, 1),
        (MessageFilter { header_id: text("header-1"), ..none() }, 1),
        (MessageFilter { bundle_id: text("bundle-1"), ..none() }, 1),
        (MessageFilter { bundle_identifier: text("urn:none|x"), ..none() }, 0),
        (MessageFilter { source: text("urn:rare"), ..none() }, 1),
        (MessageFilter { destination: text("urn:rare"), ..none() }, 1),
        (MessageFilter { event: text("rare"), ..none() }, 1),
        (MessageFilter { state: Some(MessageState::Refused), ..none() }, 0),
        (MessageFilter { response_code: text("ok"), ..none() }, 0),
        (MessageFilter { ambiguous: Some(true), ..none() }, 0),
        (MessageFilter { further: Some(true), ..none() }, 0),
        (MessageFilter { since: text("2020-01-01T00:00:00Z"), ..none() }, 1),
        (MessageFilter { until: text("1970-01-01T00:16:00Z"), ..none() }, 0),
        (MessageFilter { fault: text("RECV_REFUSED"), ..none() }, 1),
        (MessageFilter { issue: text("not-found"), ..none() }, 0),
        (MessageFilter { rule: text("MSG-04"), ..none() }, 0),
        (MessageFilter { sender: text("clinic"), ..none() }, 20),
        (none(), 20),
    ] {
        let (found, pages) = filled.pages(store.list_messages(&filter, None, 20)).await;
        assert_eq!(found.unwrap().items.len(), wanted, "{filter:?}");
        assert!(pages < PAGES_LIMIT, "{pages} pages for {filter:?}");
    }
    let none = DeliveryFilter::default;
    for (filter, wanted) in [
        (DeliveryFilter { message: Some(filled.rare), ..none() }, 1),
        (DeliveryFilter { state: Some(DeliveryState::Waiting), ..none() }, 0),
        (DeliveryFilter { state: Some(DeliveryState::Dead), participant: text("lab"), ..none() }, 1),
        (DeliveryFilter { state: Some(DeliveryState::Discarded), ..none() }, 0),
        (DeliveryFilter { state: Some(DeliveryState::Delivered), ..none() }, 0),
        (DeliveryFilter { state: Some(DeliveryState::Answered), ..none() }, 20),
        (DeliveryFilter { fault: text("RECV_REFUSED"), ..none() }, 1),
        (DeliveryFilter { since: text("2020-01-01T00:00:00Z"), ..none() }, 1),
        (none(), 20),
    ] {
        let (found, pages) = filled.pages(store.list_deliveries(&filter, None, 20)).await;
        assert_eq!(found.unwrap().items.len(), wanted, "{filter:?}");
        assert!(pages < 3 * PAGES_LIMIT, "{pages} pages for {filter:?}");
    }
    let size = filled.server.run_at(filled.fixture.folder.path(), "SELECT pg_relation_size('message') / 8192");
    assert!(size.parse::<i64>().unwrap() > 10 * PAGES_LIMIT, "{size} pages of {MESSAGES} messages");
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_to_a_participant_that_statistics_do_not_know_are_found_among_the_newest() {
    if !is_installed() {
        eprintln!("skipped: PostgreSQL is not installed (tests/run installs it)");
        return;
    }
    let filled = Filled::new().await;
    let sql = |sql: &str| filled.server.run_at(filled.fixture.folder.path(), sql);
    // Rows that do not lie in the order of their keys: reading all of them through another index would cost the least.
    sql("UPDATE delivery SET k = 100000 + k * 7919 % 40000 WHERE k > 1000");
    sql("SELECT setval('delivery_key', 141000), setval('message_key', 41000)");
    sql("ANALYZE");
    for number in 0..30 {
        filled.fixture.accept_new(to("new", 1, numbered(100 + number))).await;
    }
    let filter = DeliveryFilter { participant: Some("new".to_owned()), ..DeliveryFilter::default() };
    let (found, pages) = filled.pages(filled.fixture.store.list_deliveries(&filter, None, 20)).await;
    assert_eq!(found.unwrap().items.len(), 20);
    assert!(pages < 3 * PAGES_LIMIT, "{pages} pages");
}
