//! Programs of several releases on one store: of those that start together one migrates it, the previous release uses the next
//! schema, and what a program cannot use it refuses.

use std::path::Path;

use sqlx::{ConnectOptions, Connection};

use crate::harness::postgres::Server;
use crate::harness::{Node, NodeConfig, Party, Peer, SOON, Sample, previous_release, wait_until};
use crate::postgres_faults::{needs_postgres, url_of};

const DATABASE: &str = "/faults";
/// What the first release wrote.
const FIRST_SCHEMA: &str = include_str!("../../src/store/sqlite/migrations/0001.sql");

fn config(url: &str) -> NodeConfig {
    NodeConfig::with_sender().store(&format!("url = \"{url}\""))
}

/// Runs SQL on the file of a store that no router uses.
async fn run_on_file(path: &Path, sql: &str) -> Option<i64> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    let row = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_optional(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    row
}

/// Starts four routers on a store at the same time. One of them runs, and the others say why they do not.
async fn start_together(url: &str) -> Node {
    let started = futures_util::future::join_all((0..4).map(|_| config(url).try_start())).await;
    let (running, refused): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
    assert_eq!(running.len(), 1, "one of them runs");
    for failure in refused.into_iter().filter_map(Result::err) {
        assert!(failure.log.contains("in use by another emberpost"), "{}", failure.log);
        assert_eq!(failure.exit_code, Some(2));
    }
    let node = running.into_iter().find_map(Result::ok).unwrap();
    node.post(Sample::new().to(&node.url("/fhir")).bytes()).await.expect_status(200);
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn of_routers_that_start_together_on_an_old_file_one_migrates_it() {
    crate::harness::sqlite_only!();
    let folder = tempfile::TempDir::with_prefix("emberpost-it-").unwrap();
    let path = folder.path().join("store.db");
    run_on_file(&path, &format!("{FIRST_SCHEMA}; PRAGMA user_version = 1")).await;
    let mut node = start_together(&format!("sqlite:{}", path.display())).await;
    assert!(node.terminate().await.success());
    let twice = "SELECT count(*) - count(DISTINCT version) FROM _sqlx_migrations WHERE success";
    assert_eq!(run_on_file(&path, twice).await, Some(0));
    let version = run_on_file(&path, "SELECT user_version FROM pragma_user_version").await;
    assert_eq!(version, run_on_file(&path, "SELECT count(*) FROM _sqlx_migrations WHERE success").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_routers_that_start_together_on_an_empty_database_one_migrates_it() {
    needs_postgres!();
    let server = Server::start(&[]);
    let _node = start_together(&url_of(&server)).await;
    let once = "SELECT count(*) = max(version) AND bool_and(success) FROM _sqlx_migrations";
    assert_eq!(server.run_at(DATABASE.as_ref(), once), "t");
    assert!(!server.log().contains("ERROR:"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_database_is_refused_unless_it_only_became_wider() {
    needs_postgres!();
    let server = Server::start(&[]);
    let mut node = config(&url_of(&server)).start().await;
    assert!(node.terminate().await.success());
    let run = |sql: &str| server.run_at(DATABASE.as_ref(), sql);
    run("INSERT INTO _sqlx_migrations SELECT 4711, 'wider', now(), true, '\\x00', 0");
    run("ALTER TABLE message ADD COLUMN wider text");

    node.restart().await;
    node.post(Sample::new().to(&node.url("/fhir")).bytes()).await.expect_status(200);

    assert!(node.terminate().await.success());
    run("UPDATE schema_reader SET version = 4710");
    let failure = config(&url_of(&server)).try_start().await.err().expect("an older program on a newer database");
    assert_eq!(failure.exit_code, Some(2));
    for named in ["schema version 4711", "version 4710", "up to ", env!("CARGO_PKG_VERSION")] {
        assert!(failure.log.contains(named), "{named}: {}", failure.log);
    }
}

#[tokio::test]
async fn a_newer_file_is_used_if_it_only_became_wider() {
    crate::harness::sqlite_only!();
    let mut node = NodeConfig::with_sender().start().await;
    assert!(node.terminate().await.success());
    let path = node.store_path();
    let newest = run_on_file(&path, "SELECT user_version FROM pragma_user_version").await.unwrap();
    let next = newest + 1;
    run_on_file(&path, &format!("INSERT INTO progress (name, value) VALUES ('schema_reader', {newest})")).await;
    run_on_file(
        &path,
        &format!("INSERT INTO _sqlx_migrations VALUES ({next}, 'wider', CURRENT_TIMESTAMP, 1, x'00', 0)"),
    )
    .await;
    run_on_file(&path, "ALTER TABLE message ADD COLUMN wider TEXT").await;
    run_on_file(&path, &format!("PRAGMA user_version = {next}")).await;

    node.restart().await;
    node.post(Sample::new().to(&node.url("/fhir")).bytes()).await.expect_status(200);

    assert!(node.terminate().await.success());
    run_on_file(&path, &format!("UPDATE progress SET value = {next} WHERE name = 'schema_reader'")).await;
    let url = format!("sqlite:{}", path.display());
    let failure = config(&url).try_start().await.err().expect("an older program on a newer file");
    assert!(failure.log.contains(&format!("schema version {next}")), "{}", failure.log);
    assert!(failure.log.contains(&format!("up to {newest}")), "{}", failure.log);
}

/// The previous release stores messages, this program takes over, and the previous one comes back. What each has stored is there for
/// the other: deliveries that wait, and identities.
async fn previous_release_comes_back(previous: &Path, config: NodeConfig, mut lab: Peer) {
    let previous = Some(previous);
    lab.down().await;
    let party = Party::new("lab").at(&lab).with("retry_schedule_seconds = [1]");
    let config = config.participant(party).server("answer_timeout_ms = 300");
    let mut node = config.program(previous).start().await;
    let mut sent = Vec::new();
    for program in [previous, None, previous, None] {
        if !sent.is_empty() {
            assert!(node.terminate().await.success(), "{}", node.log());
            node.restart_as(program).await;
        }
        let message = Sample::new().addressed_to("lab");
        node.post(message.bytes()).await.expect_status(202);
        sent.push(message);
        for message in &sent {
            // A duplicate has the reply of the first one.
            node.post(message.bytes()).await.expect_status(202);
        }
        let kept = node.admin("messages?sender=sender").await["items"].as_array().map(Vec::len);
        assert_eq!(kept, Some(sent.len()), "none is missing or stored twice");
    }
    assert!(node.terminate().await.success());
    node.restart_as(previous).await;
    lab.up().await;
    wait_until(SOON, "the previous release delivers everything", async || {
        node.admin("deliveries?state=answered").await["items"].as_array().map(Vec::len) == Some(sent.len())
    })
    .await;
    let received: Vec<_> = lab.received().into_iter().map(|received| received.body.to_vec()).collect();
    assert_eq!(
        received,
        sent.iter().map(|message| message.bytes().to_vec()).collect::<Vec<_>>(),
        "in order, each once"
    );
    assert!(node.terminate().await.success());
    node.restart_as(None).await;
    node.get("/health/ready").await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_previous_release_uses_a_database_that_this_program_has_migrated() {
    needs_postgres!();
    let Some(previous) = previous_release::program("src/store/postgres/migrate.rs") else { return };
    let server = Server::start(&[]);
    let url = url_of(&server);
    previous_release_comes_back(&previous, config(&url), Peer::ok().await).await;
    let check = crate::harness::emberpost(&["store", "check", "--store", &url]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

/// While the previous release runs, a program that starts too early migrates the database and is refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_previous_release_goes_on_while_its_database_is_migrated() {
    needs_postgres!();
    let Some(previous) = previous_release::program("src/store/postgres/migrate.rs") else { return };
    let (server, lab) = (Server::start(&[]), Peer::ok().await);
    let config = config(&url_of(&server)).participant(Party::new("lab").at(&lab));
    let node = config.clone().program(Some(&previous)).start().await;
    let post = async || node.post(Sample::new().addressed_to("lab").bytes()).await;
    post().await.expect_status(200);
    let early = config.try_start().await.err().expect("two routers on one database");
    assert!(early.log.contains("in use by another emberpost"), "{}", early.log);
    post().await.expect_status(200);
    node.get("/health/ready").await.expect_status(200);
    assert_eq!(lab.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_previous_release_uses_a_file_that_this_program_has_migrated() {
    crate::harness::sqlite_only!();
    let Some(previous) = previous_release::program("src/store/sqlite/migrate.rs") else { return };
    previous_release_comes_back(&previous, NodeConfig::with_sender(), Peer::ok().await).await;
}
