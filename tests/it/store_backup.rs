//! Backups and restores, as an operator makes them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Output;

use crate::harness::{Node, NodeConfig, Sample, program};

fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = program(folder).args(arguments).output().unwrap();
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

fn backup(node: &Node, to: &str) {
    let (code, text) = run(node.folder(), &["store", "backup", to, "--store", "sqlite:store.db"]);
    assert_eq!(code, Some(0), "{text}");
}

fn restore(folder: &Path, from: &str) -> (Option<i32>, String) {
    run(folder, &["store", "restore", from, "--store", "sqlite:store.db"])
}

async fn count(node: &Node) -> usize {
    node.admin("messages?sender=sender").await["items"].as_array().unwrap().len()
}

/// A node with a message before a backup and one after it, killed so that its log holds both.
async fn crashed_after_backup() -> (Node, Sample, Sample) {
    let mut node = NodeConfig::with_sender().start().await;
    let (before, after) = (Sample::new(), Sample::new());
    assert!(node.post(before.bytes()).await.status < 500);
    backup(&node, "monday.db");
    assert!(node.post(after.bytes()).await.status < 500);
    assert_eq!(count(&node).await, 2);
    node.kill9();
    (node, before, after)
}

#[tokio::test]
async fn a_restored_backup_is_the_store_and_the_old_files_are_moved_aside_whole() {
    crate::harness::sqlite_only!();
    let (mut node, ..) = crashed_after_backup().await;
    let (code, text) = restore(node.folder(), "monday.db");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("store.db.replaced-"), "{text}");
    assert!(!node.folder().join("store.db-wal").exists(), "the old log is beside the backup");

    node.restart().await;
    assert_eq!(count(&node).await, 1, "only what the backup holds");
    let old = fs::read_dir(node.folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let old: Vec<_> = old.filter(|name| name.contains(".replaced-")).collect();
    assert!(old.iter().any(|name| name.ends_with("Z")) && old.iter().any(|name| name.ends_with("Z-wal")), "{old:?}");

    // What was moved aside is a store that still holds both messages.
    let aside = old.iter().find(|name| name.ends_with("Z")).unwrap();
    let url = format!("sqlite:{aside}");
    let (code, text) = run(node.folder(), &["store", "backup", "aside.db", "--store", &url]);
    assert_eq!(code, Some(0), "{text}");
    node.kill9();
    let (code, text) = restore(node.folder(), "aside.db");
    assert_eq!(code, Some(0), "{text}");
    node.restart().await;
    assert_eq!(count(&node).await, 2);
}

#[tokio::test]
async fn a_backup_copied_over_a_crashed_store_is_refused_beside_the_old_log() {
    crate::harness::sqlite_only!();
    let (mut node, ..) = crashed_after_backup().await;
    fs::copy(node.folder().join("monday.db"), node.store_path()).unwrap();
    let address = node.address().to_string();
    let (code, text) = run(node.folder(), &["serve", "--listen", &address, "--store", "sqlite:store.db"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("is a backup") && text.contains("store restore"), "{text}");

    let (code, text) = restore(node.folder(), "monday.db");
    assert_eq!(code, Some(0), "{text}");
    node.restart().await;
    assert_eq!(count(&node).await, 1);
    // It is a store now: a crash leaves it with a log of its own.
    node.post(Sample::new().bytes()).await;
    node.restart().await;
    assert_eq!(count(&node).await, 2);
}

#[tokio::test]
async fn a_backup_in_a_place_of_its_own_opens_as_a_store() {
    crate::harness::sqlite_only!();
    let (mut node, ..) = crashed_after_backup().await;
    for ending in ["", "-wal", "-shm"] {
        fs::remove_file(format!("{}{ending}", node.store_path().display())).unwrap();
    }
    fs::copy(node.folder().join("monday.db"), node.store_path()).unwrap();
    node.restart().await;
    assert_eq!(count(&node).await, 1);
}

#[tokio::test]
async fn a_restore_refuses_what_is_no_whole_backup_and_changes_nothing() {
    crate::harness::sqlite_only!();
    let (mut node, ..) = crashed_after_backup().await;
    let folder = node.folder().to_owned();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    let good = fs::read(folder.join("monday.db")).unwrap();
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[4096..middle].fill(0xa5);
    write("damaged.db", &damaged);
    write("cut.db", &good[..middle]);
    write("empty.db", b"");
    write("text.db", &[b'x'; 5000]);
    fs::copy(node.store_path(), folder.join("store-copy.db")).unwrap();
    write("with-log.db", &good);
    write("with-log.db-wal", b"log");
    let mut foreign = good.clone();
    foreign[68..72].copy_from_slice(b"GIS1");
    write("foreign.db", &foreign);
    let mut newer = good.clone();
    newer[60..64].copy_from_slice(&999_u32.to_be_bytes());
    write("newer.db", &newer);
    let cases = [
        ("damaged.db", "damaged"),
        ("cut.db", ""),
        ("empty.db", "empty"),
        ("text.db", "not a SQLite database"),
        ("store-copy.db", "newest messages may be in a log"),
        ("with-log.db", "is a log"),
        ("foreign.db", "another program"),
        ("newer.db", "schema version 999"),
        ("missing.db", ""),
        ("/dev/zero", "not a regular file"),
    ];
    for (file, reason) in cases {
        let (code, text) = restore(&folder, file);
        assert_eq!(code, Some(2), "{file}: {text}");
        assert!(text.contains(reason), "{file}: {text}");
    }
    node.restart().await;
    assert_eq!(count(&node).await, 2, "the store is as it was");
}

#[tokio::test]
async fn a_restore_is_refused_while_a_router_has_the_store() {
    crate::harness::sqlite_only!();
    let node = NodeConfig::with_sender().start().await;
    node.post(Sample::new().bytes()).await;
    backup(&node, "monday.db");
    let (code, text) = restore(node.folder(), "monday.db");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("in use by another emberpost"), "{text}");
    node.get("/health/ready").await.expect_status(200);
}

#[tokio::test]
async fn a_backup_is_written_to_a_new_file_and_never_through_a_link() {
    crate::harness::sqlite_only!();
    let node = NodeConfig::with_sender().start().await;
    node.post(Sample::new().bytes()).await;
    let folder = node.folder();
    fs::write(folder.join("victim"), "precious").unwrap();
    symlink("victim", folder.join("monday.db.partial")).unwrap();
    backup(&node, "monday.db");
    let data = fs::symlink_metadata(folder.join("monday.db")).unwrap();
    assert!(data.is_file());
    assert_eq!(data.permissions().mode() & 0o777, 0o600);

    symlink("victim", folder.join("link.db")).unwrap();
    symlink("nothing", folder.join("dangling.db")).unwrap();
    for taken in ["link.db", "dangling.db", "victim", "monday.db"] {
        let (code, text) = run(folder, &["store", "backup", taken, "--store", "sqlite:store.db"]);
        assert_eq!(code, Some(2), "{taken}: {text}");
        assert!(text.contains("already exists"), "{taken}: {text}");
    }
    assert_eq!(fs::read_to_string(folder.join("victim")).unwrap(), "precious");
    assert!(!folder.join("nothing").exists());
    let left_over =
        fs::read_dir(folder).unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().contains(".partial-"));
    assert!(!left_over);
}
