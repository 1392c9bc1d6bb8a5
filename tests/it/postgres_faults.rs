//! The router on PostgreSQL while its server or the connections to it fail: nothing is lost, nothing is delivered or stored twice,
//! and it goes on by itself.
//!
//! These tests have servers of their own, and run whatever store the other tests use.

use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::harness::postgres::Server;
use crate::harness::{Node, NodeConfig, Party, Peer, Reply, SOON, Sample, wait_until};
use crate::postgres_proxy::{Cut, PostgresProxy};

/// A test of PostgreSQL is left out, and says so, where there is no server.
macro_rules! needs_postgres {
    () => {
        if !crate::harness::postgres::is_installed() {
            eprintln!("skipped: PostgreSQL is not installed (tests/run installs it)");
            return;
        }
    };
}
pub(crate) use needs_postgres;

pub const DATABASE: &str = "/faults";

pub fn config(url: &str, lab: &Peer) -> NodeConfig {
    NodeConfig::with_sender().participant(Party::new("lab").at(lab)).store(&format!("url = \"{url}\""))
}

pub fn url_of(server: &Server) -> String {
    server.url_of(DATABASE.as_ref())
}

/// Sends so many messages at once, each again until it is accepted.
pub async fn send_all(node: &Node, count: usize) {
    let sending = (0..count).map(async |_| {
        let message = Sample::new().addressed_to("lab").bytes();
        let begun = Instant::now();
        loop {
            let reply = node.post(message.clone()).await;
            if reply.status == 200 {
                return;
            }
            assert!(reply.status == 202 || (is_no_store(&reply) && reply.header("retry-after").is_some()), "{reply:?}");
            assert!(begun.elapsed() < SOON * 6, "not accepted: {reply:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    join_all(sending).await;
}

/// Every message was stored and answered once, and delivered once.
pub async fn expect_once(node: &Node, lab: &Peer, server: &Server, count: usize) {
    let number = |sql: &str| server.run_at(DATABASE.as_ref(), sql).parse::<usize>().unwrap();
    wait_until(SOON, "all are answered", async || {
        number("SELECT count(*) FROM delivery WHERE state = 3") == number("SELECT count(*) FROM delivery")
    })
    .await;
    assert_eq!(number("SELECT count(*) FROM message WHERE in_reply_to IS NULL AND state = 0"), count);
    assert_eq!(number("SELECT count(*) FROM delivery"), count);
    assert_eq!(number("SELECT count(*) FROM body") - number("SELECT count(*) FROM message"), 0);
    assert_eq!(number("SELECT count(*) FROM message WHERE in_reply_to IS NOT NULL"), count, "one answer to each");
    assert_eq!(lab.received().len(), count, "delivered once");
    assert_eq!(number("SELECT sum(waiting) + sum(dead) FROM participant_count"), 0);
    node.get("/health/ready").await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_at_a_commit_loses_and_doubles_nothing() {
    needs_postgres!();
    let (server, lab) = (Server::start(&[]), Peer::ok().await);
    let direct = url_of(&server);
    let proxy = PostgresProxy::before(server.port()).await;
    let node = config(&proxy.url(&direct), &lab).start().await;
    let mut sent = 0;
    for (round, cut) in
        [Cut::Before, Cut::After, Cut::Orphaned, Cut::After, Cut::Before, Cut::After].into_iter().enumerate()
    {
        proxy.cut_next(cut);
        send_all(&node, 8).await;
        sent += 8;
        assert_eq!(proxy.cuts(), round + 1, "{cut:?} happened");
        expect_once(&node, &lab, &server, sent).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_again_is_waited_for() {
    needs_postgres!();
    let (server, lab) = (Server::start(&[]), Peer::ok().await);
    let node = config(&url_of(&server), &lab).start().await;
    let mut sent = 0;
    for signal in ["INT", "KILL"] {
        send_all(&node, 4).await;
        let again = std::thread::scope(|scope| {
            scope.spawn(|| {
                server.stop(signal);
                server.start_again();
            });
            // Messages come while it is away.
            send_all(&node, 16)
        });
        again.await;
        sent += 20;
        expect_once(&node, &lab, &server, sent).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_the_router_is_not_ready_and_afterwards_it_goes_on() {
    needs_postgres!();
    let (server, lab) = (Server::start(&[]), Peer::ok().await);
    let node = config(&url_of(&server), &lab).start().await;
    send_all(&node, 2).await;
    server.stop("INT");
    let ready = async |status: u16| node.get("/health/ready").await.status == status;
    wait_until(SOON * 2, "it says that it is not ready", async || ready(503).await).await;
    let reply = node.post(Sample::new().addressed_to("lab").bytes()).await;
    assert!(is_no_store(&reply), "{reply:?}");
    server.start_again();
    wait_until(SOON * 2, "it is ready again", async || ready(200).await).await;
    send_all(&node, 2).await;
    expect_once(&node, &lab, &server, 4).await;
}

/// As long as a machine that moves to another host may stand still.
const PAUSE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_for_20_seconds_delays_messages_and_nothing_else() {
    needs_postgres!();
    let (server, lab) = (Server::start(&[]), Peer::ok().await);
    let node = config(&url_of(&server), &lab).start().await;
    send_all(&node, 2).await;
    let ready = async |status: u16| node.get("/health/ready").await.status == status;
    server.signal_all("STOP");
    let wake = async {
        let begun = Instant::now();
        wait_until(SOON, "it says that it is not ready", async || ready(503).await).await;
        node.get("/health/live").await.expect_status(200);
        tokio::time::sleep(PAUSE.saturating_sub(begun.elapsed())).await;
        assert!(ready(503).await, "nobody has answered it");
        server.signal_all("CONT");
        wait_until(SOON, "it is ready again", async || ready(200).await).await;
    };
    tokio::join!(send_all(&node, 24), wake);
    expect_once(&node, &lab, &server, 26).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_became_read_only_refuses_messages_and_takes_them_again_when_it_is_not() {
    needs_postgres!();
    let (server, lab) = (Server::start(&[]), Peer::ok().await);
    let node = config(&url_of(&server), &lab).start().await;
    send_all(&node, 2).await;
    let set = |value: &str| {
        server.psql("postgres", &format!("ALTER SYSTEM SET default_transaction_read_only = {value}")).unwrap();
        server.psql("postgres", "SELECT pg_reload_conf()").unwrap();
    };
    set("on");
    let refused = async || is_no_store(&node.post(Sample::new().addressed_to("lab").bytes()).await);
    wait_until(SOON, "messages are refused", refused).await;
    wait_until(SOON * 2, "it is not ready", async || node.get("/health/ready").await.status == 503).await;
    set("off");
    wait_until(SOON * 2, "it is ready again", async || node.get("/health/ready").await.status == 200).await;
    send_all(&node, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_database_refuses_fails_its_sender_and_nobody_else() {
    needs_postgres!();
    let (server, lab) = (Server::start(&[]), Peer::ok().await);
    let node = config(&url_of(&server), &lab).start().await;
    let check = "ALTER TABLE message ADD CHECK (in_reply_to IS NOT NULL OR event NOT LIKE '%bad') NOT VALID";
    server.run_at(DATABASE.as_ref(), check);
    let bad = Sample::new().addressed_to("lab").event("bad").bytes();
    let (reply, ()) = tokio::join!(node.post(bad), send_all(&node, 24));
    assert_eq!(reply.status, 503, "{reply:?}");
    expect_once(&node, &lab, &server, 24).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_router_on_the_database_is_refused_and_a_crashed_one_makes_room() {
    needs_postgres!();
    let (server, lab) = (Server::start(&[]), Peer::ok().await);
    let url = url_of(&server);
    let mut first = config(&url, &lab).start().await;
    let second = config(&url, &lab).try_start().await.err().expect("two routers on one database");
    assert_eq!(second.exit_code, Some(2));
    assert!(second.log.contains("in use by another emberpost"), "{}", second.log);
    send_all(&first, 2).await;
    first.kill9();
    let node = config(&url, &lab).start().await;
    send_all(&node, 2).await;
    expect_once(&node, &lab, &server, 4).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_database_is_said_without_its_password() {
    needs_postgres!();
    let (server, lab) = (Server::start(&[]), Peer::ok().await);
    server.psql("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").unwrap();
    let port = server.port();
    for (url, wrong) in [
        (format!("postgres://postgres:geheim@127.0.0.1:{port}/absent"), "does not exist"),
        (format!("postgres://postgres:geheim@127.0.0.1:{port}/latin"), "LATIN1"),
        ("postgres://postgres:geheim@127.0.0.1:1/x".to_owned(), "refused"),
        (format!("postgres://postgres:geheim@127.0.0.1:{port}/x?sslmode=require"), "TLS"),
    ] {
        let failure = config(&url, &lab).try_start().await.err().expect("a database that cannot be used");
        assert_eq!(failure.exit_code, Some(2), "{}", failure.log);
        assert!(failure.log.contains(wrong) && !failure.log.contains("geheim"), "{wrong}: {}", failure.log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_meet_others_are_repeated() {
    needs_postgres!();
    let (server, lab) = (Server::start(&[]), Peer::ok().await);
    let node = config(&url_of(&server), &lab).start().await;
    // The first batches fail, as if they had met others; what a sequence gives out is not rolled back.
    let fail = "CREATE SEQUENCE failures; CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                CASE nextval('failures') WHEN 1, 3 THEN RAISE serialization_failure; WHEN 2, 5 THEN RAISE deadlock_detected; \
                ELSE RETURN NEW; END CASE; END $$; \
                CREATE TRIGGER fail BEFORE INSERT ON message FOR EACH ROW EXECUTE FUNCTION fail()";
    server.run_at(DATABASE.as_ref(), fail);
    for _ in 0..3 {
        node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    }
    expect_once(&node, &lab, &server, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_connections_left_is_waited_for() {
    needs_postgres!();
    let (server, lab) = (Server::start(&["max_connections=16"]), Peer::ok().await);
    let node = config(&url_of(&server), &lab).start().await;
    send_all(&node, 2).await;
    let mut busy: Vec<_> = (0..16).map(|_| server.hold_connection()).collect();
    send_all(&node, 8).await;
    busy.iter_mut().for_each(|session| drop(session.kill()));
    busy.iter_mut().for_each(|session| drop(session.wait()));
    expect_once(&node, &lab, &server, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_certificate_of_the_server_is_checked_as_sslmode_says() {
    needs_postgres!();
    let folder = tempfile::TempDir::with_prefix("emberpost-it-").unwrap();
    let (cert, key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-batch"]);
    openssl.args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]);
    assert!(openssl.arg("-keyout").arg(&key).arg("-out").arg(&cert).output().unwrap().status.success());
    let (server, lab) = (Server::start_with_tls(&cert, &key), Peer::ok().await);
    let url = url_of(&server).replace("127.0.0.1", "localhost");
    let authority = cert.display();
    let name = format!("sslmode=verify-full&sslrootcert={authority}");
    for parameters in ["sslmode=require", &format!("sslmode=verify-ca&sslrootcert={authority}"), &name] {
        let node = config(&format!("{url}?{parameters}"), &lab).start().await;
        let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'emberpost writer'";
        assert_eq!(server.run_at(DATABASE.as_ref(), encrypted), "t", "{parameters}");
        drop(node);
    }
    for (url, parameters) in [(&url, "sslmode=verify-full"), (&url.replace("localhost", "127.0.0.1"), &*name)] {
        let refused =
            config(&format!("{url}?{parameters}"), &lab).try_start().await.err().expect("a certificate of nobody");
        assert!(refused.exit_code == Some(2) && refused.log.contains("certificate"), "{}", refused.log);
    }
}

pub fn is_no_store(reply: &Reply) -> bool {
    reply.status == 503 && String::from_utf8_lossy(&reply.body).contains("ROUTE_NO_STORE")
}
