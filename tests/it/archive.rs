//! What retention archives before it deletes, and what `emberpost import` makes of it.
//!
//! Messages are stored by a router whose clock is ten days behind, so that they are old for every other.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Answer, Node, NodeConfig, Party, Peer, Reply, SOON, Sample, program, wait_until};
use crate::limits::SmallDisk;
use crate::retention::{Aged, id_of};

const LONG_AGO: i64 = -10;

fn folder() -> TempDir {
    TempDir::with_prefix("emberpost-it-").unwrap()
}

fn hub(lab: &Peer, bad: &Peer) -> NodeConfig {
    let config = NodeConfig::with_sender().server("answer_timeout_ms = 5000");
    let config = config.participant(Party::new("lab").at(lab)).participant(Party::new("bad").at(bad));
    config.participant(Party::new("box").mailbox().with("expire_after_seconds = 31536000"))
}

/// Deletes everything that is older than a day, after it is archived.
fn archiving(config: NodeConfig, archive: &Path) -> NodeConfig {
    let config = config.retention("bodies_days = 1").retention("traces_days = 1").retention("identities_days = 1");
    let archive = toml::Value::String(archive.display().to_string());
    config.retention("dead_letters_days = 1").retention(&format!("archive_dir = {archive}"))
}

/// The complete files of an archive, by name.
fn files(archive: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(archive).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".ndjson.zst"));
    files.sort();
    files
}

fn lines(path: &Path) -> Vec<String> {
    let text = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
}

/// Its exit code, and what it prints. It reads the configuration in `folder`.
fn import(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = program(folder).arg("import").args(arguments).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

#[track_caller]
fn expect_counts(printed: (Option<i32>, String), counts: [(u64, &str); 3]) {
    assert_eq!(printed.0, Some(0), "{}", printed.1);
    for (count, what) in counts {
        assert!(
            printed.1.lines().any(|line| line.trim() == format!("{count} {what}")),
            "{count} {what}: {}",
            printed.1
        );
    }
}

fn imported(messages: u64, contents: u64, present: u64) -> [(u64, &'static str); 3] {
    [
        (messages, "messages imported"),
        (contents, "contents restored of messages that were there"),
        (present, "messages were there already"),
    ]
}

/// Everything that an operator sees of a message.
async fn seen(router: &Aged, id: &str) -> (Value, Value, Vec<u8>) {
    let message = router.message(id).await.expect_status(200).json();
    let timeline = router.get(&format!("/admin/v1/messages/{id}/timeline")).await.expect_status(200).json();
    (message, timeline, router.content(id).await.expect_status(200).body.to_vec())
}

#[tokio::test]
async fn what_retention_deletes_is_archived_and_comes_back_as_it_was() {
    let (lab, bad) = (Peer::ok().await, Peer::answering(Answer::Empty(422)).await);
    let (folder, config) = (folder(), hub(&lab, &bad));
    let archive = folder.path().join("archive");
    let young = Aged::start(&config, folder.path(), LONG_AGO).await;
    let mut ids = Vec::new();
    let answered = Sample::new().addressed_to("lab");
    ids.push(id_of(&young.post(&answered).await.expect_status(200)));
    ids.push(id_of(&young.post(&Sample::new().addressed_to("lab").addressed_to("bad").padded(300_000)).await));
    ids.push(id_of(&young.post(&Sample::new().addressed_to("bad")).await));
    ids.push(id_of(
        &young
            .post(&Sample::new().to("http://nobody.example").set("/meta", json!({"tag": [{"display": "ä\u{7f}\"\\"}]})))
            .await,
    ));
    let waiting = id_of(&young.post(&Sample::new().addressed_to("box")).await.expect_status(202));
    let answers = young.get("/admin/v1/messages?limit=100").await.json();
    let answers: Vec<String> =
        answers["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
    ids.extend(answers.into_iter().filter(|id| *id != waiting));
    ids.sort();
    ids.dedup();
    assert!(ids.len() >= 6, "answers of receivers, and of the router");
    let mut before = Vec::new();
    for id in &ids {
        before.push(seen(&young, id).await);
    }
    young.running.stop().await;

    let archiving = archiving(config.clone(), &archive);
    let old = Aged::start(&archiving, folder.path(), 0).await;
    for id in &ids {
        wait_until(SOON, "it is deleted", async || old.message(id).await.status == 404).await;
    }
    old.message(&waiting).await.expect_status(200);
    old.running.stop().await;
    let found = files(&archive);
    assert_eq!(found.len(), 1);
    assert_eq!(std::fs::metadata(&found[0]).unwrap().permissions().mode() & 0o777, 0o600);
    let archived: BTreeSet<String> = lines(&found[0])
        .iter()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["record"]["message"]["id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(archived.into_iter().collect::<Vec<_>>(), ids);

    let number = ids.len() as u64;
    expect_counts(import(folder.path(), &["archive"]), imported(number, 0, 0));
    expect_counts(import(folder.path(), &["archive"]), imported(0, 0, number));
    let sound = program(folder.path()).args(["store", "check"]).output().unwrap();
    assert!(sound.status.success(), "{}", String::from_utf8_lossy(&sound.stdout));

    // With the same retention: who imported them wants to look at them, though they are old.
    let back = Aged::start(&archiving, folder.path(), 0).await;
    let newest = id_of(&back.post(&Sample::new().addressed_to("lab")).await.expect_status(200));
    for (id, before) in ids.iter().zip(&before) {
        assert_eq!(seen(&back, id).await, *before);
    }
    assert_eq!(back.get("/admin/v1/messages?limit=1").await.json()["items"][0]["in_reply_to"], newest.as_str());
    let dead = back.get("/admin/v1/deliveries?state=dead").await.json();
    assert!(!dead["items"].as_array().unwrap().is_empty());
    let known = back.get(&format!("/admin/v1/messages?bundle_id={}", answered.bundle_id())).await.json();
    assert_eq!(known["items"].as_array().unwrap().len(), 1, "it is found by what it is known by");
    // It was no identity any more, and is none now.
    let again = back.post(&answered).await.expect_status(200);
    assert_eq!(again.header("emberpost-repeat"), None);
    back.running.stop().await;
}

#[tokio::test]
async fn imported_messages_are_replayed_in_order_and_deleted_when_their_import_is_old() {
    let (lab, bad) = (Peer::ok().await, Peer::ok().await);
    let (folder, config) = (folder(), hub(&lab, &bad));
    let archive = folder.path().join("archive");
    let young = Aged::start(&config, folder.path(), LONG_AGO).await;
    let (mut sent, mut ids, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        let message = Sample::new().addressed_to("lab");
        ids.push(id_of(&young.post(&message).await.expect_status(200)));
        sent.push(message.header_id());
        bodies.push(message.bytes());
    }
    young.running.stop().await;
    let archiving = archiving(config.clone(), &archive);
    let old = Aged::start(&archiving, folder.path(), 0).await;
    for id in &ids {
        wait_until(SOON, "it is deleted", async || old.message(id).await.status == 404).await;
    }
    old.running.stop().await;
    assert_eq!(import(folder.path(), &["archive"]).0, Some(0));

    let back = Aged::start(&archiving, folder.path(), 0).await;
    let order = json!({"filter": {"event": "patient-link"}, "to": "bad", "force_consequence": true});
    let replay = back.post_json("replays", &order).await.expect_status(201).json();
    assert_eq!(replay["total"], 20);
    let received = bad.wait_for(20, SOON).await;
    assert_eq!(received.iter().map(|request| request.header_id()).collect::<Vec<_>>(), sent);
    back.running.stop().await;

    let later = Aged::start(&archiving, folder.path(), 2).await;
    wait_until(SOON, "all but the newest trace is deleted", async || {
        let left = later.get("/admin/v1/messages?limit=100").await.json();
        matches!(left["items"].as_array().unwrap().as_slice(), [newest] if newest["body_kept"] == false)
    })
    .await;
    later.running.stop().await;
    assert_eq!(import(folder.path(), &["archive"]).0, Some(0));
    let back = Aged::start(&config, folder.path(), 0).await;
    for (id, bytes) in ids.iter().zip(&bodies) {
        assert_eq!(back.content(id).await.expect_status(200).body, *bytes);
    }
    back.running.stop().await;
}

#[tokio::test]
async fn the_content_of_a_message_that_is_still_there_is_restored() {
    let (lab, bad) = (Peer::ok().await, Peer::answering(Answer::Empty(422)).await);
    let (folder, config) = (folder(), hub(&lab, &bad));
    let archive = folder.path().join("archive");
    let young = Aged::start(&config, folder.path(), LONG_AGO).await;
    let message = Sample::new().addressed_to("lab");
    let id = id_of(&young.post(&message).await.expect_status(200));
    young.running.stop().await;
    let archiving = archiving(config.clone(), &archive).retention("traces_days = 0");
    let old = Aged::start(&archiving, folder.path(), 0).await;
    wait_until(SOON, "its content is deleted", async || old.content(&id).await.status == 410).await;
    old.running.stop().await;
    expect_counts(import(folder.path(), &["archive"]), imported(0, 2, 0));
    let back = Aged::start(&config, folder.path(), 0).await;
    assert_eq!(back.content(&id).await.expect_status(200).body, message.bytes());
    back.running.stop().await;
}

/// A folder with a store of so many messages that were discarded long ago, and the messages.
async fn discarded(count: usize) -> (TempDir, Vec<(String, Sample)>) {
    let (lab, bad) = (Peer::ok().await, Peer::ok().await);
    let (folder, config) = (folder(), hub(&lab, &bad));
    let young = Aged::start(&config, folder.path(), LONG_AGO).await;
    let mut sent = Vec::new();
    for _ in 0..count {
        let message = Sample::new().addressed_to("box").padded(2_000);
        sent.push((id_of(&young.post(&message).await.expect_status(202)), message));
    }
    let discarded = young.post_json("deliveries/discard", &json!({"filter": {"participant": "box"}})).await;
    assert_eq!(discarded.expect_status(200).json()["done"], count);
    young.running.stop().await;
    (folder, sent)
}

#[tokio::test]
async fn damaged_lines_are_named_and_all_others_are_imported() {
    let (folder, sent) = discarded(6).await;
    let archive = folder.path().join("archive");
    let (lab, bad) = (Peer::ok().await, Peer::ok().await);
    let config = hub(&lab, &bad);
    let old = Aged::start(&archiving(config, &archive), folder.path(), 0).await;
    wait_until(SOON, "all are deleted", async || old.message(&sent[4].0).await.status == 404).await;
    old.running.stop().await;
    let lines = lines(&files(&archive)[0]);
    assert!(lines.len() >= 5, "{}", lines.len());

    let damaged = folder.path().join("damaged.ndjson");
    let mut text: Vec<String> = lines[..5].to_vec();
    text[1] = text[1].replace("\"received_us\":1", "\"received_us\":2");
    text[3] = "{}".into();
    std::fs::write(&damaged, format!("{}\n{}", text.join("\n"), &lines[4][..200])).unwrap();
    let (code, printed) = import(folder.path(), &["damaged.ndjson", "--store", "sqlite:other.db"]);
    assert_eq!(code, Some(1), "{printed}");
    for expected in [
        "3 messages imported",
        "3 damaged",
        "damaged.ndjson:2: it does not have the hash that was stored with it",
        "damaged.ndjson:4: it is not a line of an archive, or it is cut off",
        "damaged.ndjson:6: it is cut off: the file ends in the middle of it",
    ] {
        assert!(printed.contains(expected), "{expected}: {printed}");
    }
    let whole = std::fs::read(&files(&archive)[0]).unwrap();
    std::fs::write(folder.path().join("cut.ndjson.zst"), &whole[..whole.len() - 20]).unwrap();
    let (code, printed) = import(folder.path(), &["cut.ndjson.zst", "--store", "sqlite:cut.db"]);
    assert_eq!((code, printed.contains("cut off here")), (Some(1), true), "{printed}");
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    for wrong in [&["nothing.zst"][..], &["empty"], &["archive", "--store", "postgres://"]] {
        assert_eq!(import(folder.path(), wrong).0, Some(2), "{wrong:?}");
    }
    let sound = program(folder.path()).args(["store", "check", "--store", "sqlite:other.db"]).output().unwrap();
    assert!(sound.status.success(), "{}", String::from_utf8_lossy(&sound.stdout));
}

/// The store that the configuration in a folder names.
fn with_store_of(config: NodeConfig, folder: &Path) -> NodeConfig {
    let text = std::fs::read_to_string(folder.join("emberpost.toml")).unwrap();
    let url = text.lines().find(|line| line.starts_with("url = ")).unwrap().to_owned();
    config.store(&url)
}

#[tokio::test]
async fn a_router_that_is_killed_while_it_archives_and_deletes_loses_nothing() {
    let (folder, sent) = discarded(400).await;
    let archive = folder.path().join("archive");
    let (lab, bad) = (Peer::ok().await, Peer::ok().await);
    let config = with_store_of(archiving(hub(&lab, &bad), &archive), folder.path());
    for kills in 1..=3 {
        let mut node = config.clone().start_unready().await;
        let last = format!("/admin/v1/messages/{}", sent[398].0);
        wait_until(SOON, "a file is complete, or all is deleted", async || {
            files(&archive).len() >= kills || node.get(&last).await.status == 404
        })
        .await;
        node.kill9();
    }
    let (code, printed) = import(folder.path(), &["archive"]);
    assert_eq!(code, Some(0), "{printed}");
    let back = Aged::start(&hub(&lab, &bad), folder.path(), 0).await;
    for (id, message) in &sent {
        assert_eq!(back.content(id).await.expect_status(200).body, message.bytes());
    }
    back.running.stop().await;
}

async fn metric(node: &Node, name: &str) -> u64 {
    let text = node.get("/metrics").await.expect_status(200).text();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn a_full_archive_disk_stops_retention_and_nothing_else() {
    let Some(disk) = SmallDisk::mount() else {
        println!("SKIPPED: a full disk needs the right to mount a tmpfs, which this user does not have");
        return;
    };
    let (folder, sent) = discarded(3).await;
    let ballast = disk.path().join("ballast");
    let mut bytes = 8 * 1024 * 1024;
    while std::fs::write(&ballast, vec![1; bytes]).is_err() {
        bytes -= 4096;
    }
    let archive = disk.path().join("archive");
    let (lab, bad) = (Peer::ok().await, Peer::ok().await);
    let config = with_store_of(archiving(hub(&lab, &bad), &archive), folder.path());
    let mut node = config.start().await;
    wait_until(SOON, "the failure is counted", async || metric(&node, "emberpost_archive_failures_total").await > 0)
        .await;
    assert!(node.log().contains("cannot write the archive"), "{}", node.log());
    node.get("/health/ready").await.expect_status(200);
    node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    for (id, message) in &sent {
        let content: Reply = node.get(&format!("/admin/v1/messages/{id}/content")).await;
        assert_eq!(content.expect_status(200).body, message.bytes());
    }
    assert_eq!(files(&archive), Vec::<PathBuf>::new());

    std::fs::remove_file(&ballast).unwrap();
    node.restart().await;
    wait_until(SOON, "all are archived and deleted", async || {
        node.get(&format!("/admin/v1/messages/{}", sent[1].0)).await.status == 404
    })
    .await;
    assert!(metric(&node, "emberpost_archived_messages_total").await >= 3);
    assert_eq!(files(&archive).len(), 1);
}
