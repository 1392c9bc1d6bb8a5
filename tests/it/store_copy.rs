//! A store that moves: from SQLite to PostgreSQL and back, with a router on each copy.
//!
//! These tests have SQLite and PostgreSQL both, whatever store the other tests use.

use std::path::Path;
use std::process::{Child, Output, Stdio};

use serde_json::json;
use sqlx::{ConnectOptions, Connection};

use crate::harness::postgres::{Server, is_installed, shared};
use crate::harness::{Answer, Node, NodeConfig, Party, Peer, SOON, Sample, program, wait_until};

/// A test of PostgreSQL is left out, and says so, where there is no server.
macro_rules! needs_postgres {
    () => {
        if !is_installed() {
            eprintln!("skipped: PostgreSQL is not installed (tests/run installs it)");
            return;
        }
    };
}

/// What a router writes seldom: reports of receivers, tries of messages that a broker delivered again, a text that PostgreSQL cannot
/// store, and how far retention is.
async fn add_rare_rows(store: &Path) {
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(store).connect().await.unwrap();
    for sql in [
        "INSERT INTO receiver_issues (delivery_k, issues) VALUES (1, '[{\"severity\":\"error\"}]'), (2, '[]')",
        "INSERT INTO redelivery (queue, digest, tries, tried_us) VALUES ('b', zeroblob(32), 3, 5), ('B', zeroblob(32), 1, 6), \
         ('a', zeroblob(32), 2, 7), ('ä', zeroblob(32), 2, 7), ('a.dead', zeroblob(32), 2, 7)",
        "UPDATE attempt SET detail = 'before' || char(0) || 'after' WHERE delivery_k = 1",
        "INSERT INTO progress (name, value) VALUES ('identities', 7)",
    ] {
        assert!(sqlx::query(sql).execute(&mut connection).await.unwrap().rows_affected() > 0, "{sql}");
    }
    connection.close().await.unwrap();
}

fn url(store: &str) -> String {
    format!("url = \"{store}\"")
}

/// What a command prints and its exit code.
fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = program(folder).args(arguments).output().unwrap();
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

/// Copies a store, and returns the tables with their rows, as reported.
fn copy(folder: &Path, from: &str, to: &str) -> Vec<String> {
    let (code, text) = run(folder, &["store", "copy", "--from", from, "--to", to]);
    assert_eq!(code, Some(0), "{text}");
    text.lines().filter(|line| line.contains("the same in both")).map(str::to_owned).collect()
}

fn expect_sound(folder: &Path, store: &str) {
    let (code, text) = run(folder, &["store", "check", "--store", store]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("the store is sound") && text.lines().filter(|line| line.contains(" 0 wrong")).count() == 4,
        "{text}"
    );
}

/// A stopped router with a SQLite store: messages that were answered, refused, failed, and that wait for `later`.
struct Source {
    node: Node,
    answered: Sample,
    waiting: Vec<Sample>,
    /// Its path; it is paused.
    replay: String,
}

impl Source {
    async fn new() -> Source {
        let (lab, bad) = (Peer::ok().await, Peer::answering(Answer::Empty(422)).await);
        let config = NodeConfig::with_sender().store(&url("sqlite:store.db")).server("answer_timeout_ms = 2000");
        let config = config.participant(Party::new("lab").at(&lab)).participant(Party::new("bad").at(&bad));
        let mut node = config.participant(Party::new("later").mailbox()).start().await;
        let mut answered = Sample::new();
        for _ in 0..40 {
            answered = Sample::new().addressed_to("lab");
            node.post(answered.bytes()).await.expect_status(200);
        }
        node.post(Sample::new().addressed_to("bad").bytes()).await;
        node.post(Sample::new().to("http://nobody.example").bytes()).await;
        let mut waiting = Vec::new();
        for _ in 0..5 {
            waiting.push(Sample::new().addressed_to("later"));
            node.post(waiting[waiting.len() - 1].bytes()).await.expect_status(202);
        }
        node.admin_post("participants/later/pause", json!({})).await.expect_status(200);
        let replay = json!({"filter": {"event": "patient-link"}, "to": "bad", "rate_per_second": 1});
        let replay = node.admin_post("replays", replay).await.expect_status(201).json();
        let replay = format!("replays/{}", replay["id"].as_str().unwrap());
        node.admin_post(&format!("{replay}/pause"), json!({})).await.expect_status(200);
        // As a power cut would leave it: much of it is in SQLite's log.
        node.kill9();
        add_rare_rows(&node.store_path()).await;
        Source { node, answered, waiting, replay }
    }

    /// A router on a copy delivers what waited, in order, and recognizes what was stored.
    async fn expect_moved_to(&self, store: &str) {
        let (lab, later) = (Peer::ok().await, Peer::ok().await);
        let config = NodeConfig::with_sender().store(&url(store)).participant(Party::new("lab").at(&lab));
        let mut node = config.participant(Party::new("later").at(&later)).start().await;
        let paused =
            node.admin("participants").await["items"].as_array().unwrap().iter().any(|item| item["paused"] == true);
        assert!(paused && later.count() == 0, "a participant that was paused stays so");
        assert_eq!(node.admin(&self.replay).await["state"], "paused");
        node.admin_post("participants/later/resume", json!({})).await.expect_status(200);
        let received = later.wait_for(self.waiting.len(), SOON).await;
        let sent: Vec<String> = self.waiting.iter().map(Sample::header_id).collect();
        assert_eq!(received.iter().map(|request| request.header_id()).collect::<Vec<_>>(), sent);
        let again = node.post(self.answered.bytes()).await.expect_status(200);
        assert_eq!(again.header("emberpost-repeat"), Some("true"));
        assert_eq!(lab.count(), 0, "a duplicate is not delivered");
        node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
        assert_eq!(node.admin("messages?event=patient-link").await["items"].as_array().unwrap().len(), 50);
        assert!(node.terminate().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_there_and_back_has_the_same_rows_and_a_router_goes_on_with_each() {
    needs_postgres!();
    let source = Source::new().await;
    let folder = source.node.folder();
    let database = shared().url_of("/copy_there".as_ref());
    let there = copy(folder, "sqlite:store.db", &database);
    assert_eq!(there.len(), 11, "{there:?}");
    for (table, rows) in [("receiver_issues", 2), ("redelivery", 5), ("replay", 1), ("progress", 1)] {
        let has = |line: &String| line.starts_with(&format!("  {table}")) && line.contains(&format!(" {rows} rows"));
        assert!(there.iter().any(has), "{table}: {there:?}");
    }
    assert_eq!(copy(folder, &database, "sqlite:back.db"), there);
    for store in ["sqlite:store.db", "sqlite:back.db", &database] {
        expect_sound(folder, store);
    }
    source.expect_moved_to(&database).await;
    source.expect_moved_to(&format!("sqlite:{}", folder.join("back.db").display())).await;
}

/// A session that holds a lock on a table until it is ended: a copy waits for it.
struct Lock<'s> {
    server: &'s Server,
    session: Option<std::thread::JoinHandle<Result<String, String>>>,
}

impl Lock<'static> {
    async fn on(server: &'static Server, database: &str, table: &str, mode: &str) -> Self {
        let sql = format!("BEGIN; LOCK TABLE {table} IN {mode} MODE; SELECT pg_sleep(600)");
        let database = database.to_owned();
        let session = std::thread::spawn(move || server.psql(&database, &sql));
        let held = format!("SELECT count(*) FROM pg_locks WHERE granted AND mode = '{}'", mode_name(mode));
        wait_until(SOON, "the table is locked", async || server.psql("postgres", &held).unwrap() != "0").await;
        Lock { server, session: Some(session) }
    }
}

fn mode_name(mode: &str) -> &'static str {
    if mode == "SHARE" { "ShareLock" } else { "AccessExclusiveLock" }
}

impl Lock<'_> {
    async fn wait_until_met(&self) {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IS NOT NULL";
        wait_until(SOON, "the copy waits", async || self.server.psql("postgres", waiting).unwrap() != "0").await;
    }

    fn end(mut self) {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND pid <> pg_backend_pid()";
        self.server.psql("postgres", end).unwrap();
        self.session.take().unwrap().join().unwrap().unwrap_err();
    }
}

fn start_copy(folder: &Path, from: &str, to: &str) -> Child {
    let mut copy = program(folder);
    copy.args(["store", "copy", "--from", from, "--to", to]).stdout(Stdio::null()).stderr(Stdio::null());
    copy.spawn().unwrap()
}

/// Kills a copy that waits for a lock, and expects that no router starts on its target and that it then goes on.
async fn expect_continued(folder: &Path, (from, to): (&str, &str), mut killed: Child, lock: Lock<'static>) {
    lock.wait_until_met().await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    lock.end();
    let started = NodeConfig::with_sender().store(&url(to)).try_start().await;
    let log = started.err().expect("no router starts on half a copy").log;
    assert!(log.contains("is the target of a copy that is not finished"), "{log}");
    let (code, text) = run(folder, &["store", "check", "--store", to]);
    assert_eq!((code, text.contains("not finished")), (Some(2), true), "{text}");
    let (code, text) = run(folder, &["store", "copy", "--from", from, "--to", to]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("continuing an earlier copy"), "{text}");
    expect_sound(folder, to);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_killed_goes_on_where_it_was_and_no_router_starts_on_half_of_one() {
    needs_postgres!();
    let source = Source::new().await;
    let folder = source.node.folder();
    let (server, name) = (Box::leak(Box::new(Server::start(&[]))), "/copy_killed");
    let server: &'static Server = server;
    let database = server.url_of(name.as_ref());
    // A router makes the tables, so that one of them can be locked.
    let mut empty = NodeConfig::new().store(&url(&database)).start().await;
    assert!(empty.terminate().await.success());
    let lock = Lock::on(server, "t_copy_killed", "delivery", "SHARE").await;
    let killed = start_copy(folder, "sqlite:store.db", &database);
    expect_continued(folder, ("sqlite:store.db", &database), killed, lock).await;

    let back = format!("sqlite:{}", folder.join("back.db").display());
    let lock = Lock::on(server, "t_copy_killed", "attempt", "ACCESS EXCLUSIVE").await;
    let killed = start_copy(folder, &database, &back);
    expect_continued(folder, (&database, &back), killed, lock).await;
    source.expect_moved_to(&back).await;
    server.stop("INT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_differs_from_its_source_is_not_made_a_store() {
    needs_postgres!();
    let mut source = Source::new().await;
    let folder = source.node.folder().to_owned();
    let server: &'static Server = Box::leak(Box::new(Server::start(&[])));
    let database = server.url_of("/copy_differs".as_ref());
    let mut empty = NodeConfig::new().store(&url(&database)).start().await;
    assert!(empty.terminate().await.success());
    let lock = Lock::on(server, "t_copy_differs", "delivery", "SHARE").await;
    let mut killed = start_copy(&folder, "sqlite:store.db", &database);
    lock.wait_until_met().await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    lock.end();
    // A message that was copied is changed; the rest follows.
    let change = "UPDATE message SET source = 'changed' WHERE k = (SELECT min(k) FROM message)";
    server.psql("t_copy_differs", change).unwrap();
    let again = ["store", "copy", "--from", "sqlite:store.db", "--to", &database];
    for _ in 0..2 {
        let (code, text) = run(&folder, &again);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("in the copy, with other hashes") && !text.contains("delivery ("), "{text}");
    }
    let started = NodeConfig::with_sender().store(&url(&database)).try_start().await;
    assert!(started.err().expect("no router starts on it").log.contains("is not finished"));

    source.node.restart().await;
    source.node.post(Sample::new().addressed_to("later").bytes()).await.expect_status(202);
    assert!(source.node.terminate().await.success());
    let (code, text) = run(&folder, &again);
    assert!(code == Some(2) && text.contains("has changed since its copy"), "{text}");
    server.stop("INT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_refused_into_what_holds_data_from_what_is_in_use_and_from_another_version() {
    needs_postgres!();
    let source = Source::new().await;
    let folder = source.node.folder();
    let database = shared().url_of("/copy_refused".as_ref());
    let refuse = |from: &str, to: &str, reason: &str| {
        let (code, text) = run(folder, &["store", "copy", "--from", from, "--to", to]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(reason), "{reason}: {text}");
    };
    copy(folder, "sqlite:store.db", &database);
    refuse("sqlite:store.db", &database, "holds other data");
    refuse("sqlite:store.db", "sqlite:store.db", "are the same");
    refuse("sqlite:none.db", &database, "there is no store at");
    refuse(&shared().url_of("/copy_empty".as_ref()), "sqlite:new.db", "does not hold a store");

    let mut running = NodeConfig::with_sender().store(&url(&database)).start().await;
    refuse(&database, "sqlite:new.db", "in use by another emberpost");
    running.kill9();
    let mut running = NodeConfig::with_sender().store(&url("sqlite:store.db")).start().await;
    let in_use = format!("sqlite:{}", running.store_path().display());
    refuse(&in_use, "sqlite:new.db", "in use by another emberpost");
    running.kill9();

    shared().run_at("/copy_refused".as_ref(), "UPDATE _sqlx_migrations SET version = version + 1000");
    refuse(&database, "sqlite:new.db", "schema version 100");
    assert!(!folder.join("new.db").exists(), "nothing is made for a copy that is refused");
}
