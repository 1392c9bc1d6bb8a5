//! The files of a store: what happens when they are taken away, shared, emptied, or lie open to others.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Node, NodeConfig, Sample, emberpost, free_address, program};

fn config() -> NodeConfig {
    NodeConfig::with_sender().store("url = \"sqlite:data/store.db\"")
}

fn database(node: &Node) -> PathBuf {
    node.folder().join("data/store.db")
}

fn beside(database: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", database.display()))
}

/// What an operator, a cleaner or a mount may do to the files of a store in use.
type Damage = (&'static str, fn(&Path));
const DAMAGES: &[Damage] = &[
    ("the database is removed", |db| fs::remove_file(db).unwrap()),
    ("the database is moved", |db| fs::rename(db, beside(db, ".old")).unwrap()),
    ("the database is replaced by a copy", |db| {
        fs::copy(db, beside(db, ".copy")).unwrap();
        fs::rename(beside(db, ".copy"), db).unwrap();
    }),
    ("the log is removed", |db| fs::remove_file(beside(db, "-wal")).unwrap()),
    ("the log is replaced by an empty one", |db| {
        fs::remove_file(beside(db, "-wal")).unwrap();
        fs::write(beside(db, "-wal"), "").unwrap();
    }),
    ("the lock file is removed", |db| fs::remove_file(beside(db, ".lock")).unwrap()),
    ("the folder is moved", |db| {
        fs::rename(db.parent().unwrap(), db.parent().unwrap().with_extension("old")).unwrap();
    }),
    ("the folder is replaced by a copy of it", |db| {
        let folder = db.parent().unwrap();
        let copy = folder.with_extension("copy");
        assert!(Command::new("cp").arg("-a").arg(folder).arg(&copy).status().unwrap().success());
        fs::rename(folder, folder.with_extension("old")).unwrap();
        fs::rename(copy, folder).unwrap();
    }),
    ("the folder is removed", |db| fs::remove_dir_all(db.parent().unwrap()).unwrap()),
];

#[tokio::test]
async fn a_store_whose_files_are_taken_away_accepts_nothing_more_and_ends_the_process_with_an_error() {
    for (what, damage) in DAMAGES {
        let mut node = config().start().await;
        node.post(Sample::new().to("urn:nobody").bytes()).await;
        node.post(Sample::new().bytes()).await;

        damage(&database(&node));

        // The process may be gone before it answers; what it must not do is accept.
        if let Ok(reply) = node.posting(Sample::new().bytes()).send().await {
            assert_eq!(reply.status(), 503, "{what}");
        }
        if let Ok(reply) = node.request(reqwest::Method::GET, "/health/ready").send().await {
            assert_eq!(reply.status(), 503, "{what}");
            let body: serde_json::Value = serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap();
            assert_eq!(body["store"], "away", "{what}");
        }
        assert_eq!(node.ended().await.code(), Some(1), "{what}\n{}", node.log());
        assert!(node.log().contains("the store is lost"), "{what}\n{}", node.log());
    }
}

#[tokio::test]
async fn an_idle_router_whose_store_is_taken_away_ends_too() {
    let mut node = config().start().await;
    fs::remove_dir_all(node.folder().join("data")).unwrap();
    assert_eq!(node.ended().await.code(), Some(1), "{}", node.log());
}

#[tokio::test]
async fn a_second_router_finds_the_store_in_use_by_whatever_name() {
    let first = config().start().await;
    let db = database(&first);
    let other = first.folder().join("other");
    fs::create_dir(&other).unwrap();
    fs::hard_link(&db, other.join("hard.db")).unwrap();
    symlink(&db, other.join("soft.db")).unwrap();
    symlink(db.parent().unwrap(), other.join("folder")).unwrap();
    for name in ["hard.db", "soft.db", "folder/store.db", "../data/./store.db"] {
        let url = format!("sqlite:{}", other.join(name).display());
        let address = free_address().to_string();
        let output = program(first.folder()).args(["serve", "--listen", &address, "--store", &url]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}: {text}");
        assert!(text.contains("in use by another emberpost") || text.contains("hard links"), "{name}: {text}");
    }
    first.get("/health/ready").await.expect_status(200);
}

#[tokio::test]
async fn a_store_with_two_names_is_refused_after_a_crash_since_its_log_has_only_one() {
    let mut node = config().start().await;
    node.post(Sample::new().bytes()).await;
    node.kill9();
    let db = database(&node);
    fs::hard_link(&db, node.folder().join("hard.db")).unwrap();
    let output = serve(node.folder(), "hard.db");
    assert!(output.contains("2 names (hard links)"), "{output}");
}

/// The error of a router that does not start on the store `path`.
fn serve(folder: &Path, path: &str) -> String {
    let address = free_address().to_string();
    let url = format!("sqlite:{path}");
    let output = program(folder).args(["serve", "--listen", &address, "--store", &url]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    text
}

#[tokio::test]
async fn only_the_owner_reads_the_files_of_a_store_whatever_umask_and_folder_say() {
    for umask in ["000", "022", "0777"] {
        let folder = tempfile::TempDir::with_prefix("emberpost-it-").unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        fs::set_permissions(folder.path().join("data"), fs::Permissions::from_mode(0o755)).unwrap();
        let script = format!(
            "umask {umask}; exec {} serve --listen {} --store sqlite:data/store.db",
            env!("CARGO_BIN_EXE_emberpost"),
            free_address()
        );
        let mut child = Command::new("sh").args(["-c", &script]).current_dir(folder.path()).spawn().unwrap();
        let db = folder.path().join("data/store.db");
        let files = ["", "-wal", "-shm", ".lock"].map(|ending| beside(&db, ending));
        let there = async || files.iter().all(|file| file.exists());
        crate::harness::wait_until(crate::harness::SOON, "the store's files are there", there).await;
        for file in &files {
            let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{} under umask {umask}", file.display());
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[tokio::test]
async fn a_store_that_an_earlier_version_left_open_to_others_is_closed_to_them() {
    let mut node = config().start().await;
    node.post(Sample::new().bytes()).await;
    node.kill9();
    let db = database(&node);
    for ending in ["", "-wal", "-shm", ".lock"] {
        fs::set_permissions(beside(&db, ending), fs::Permissions::from_mode(0o644)).unwrap();
    }
    node.restart().await;
    for ending in ["", "-wal", "-shm", ".lock"] {
        let mode = fs::metadata(beside(&db, ending)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{ending}");
    }
}

#[tokio::test]
async fn what_is_left_of_a_lost_store_is_no_new_store() {
    let mut node = config().start().await;
    node.post(Sample::new().bytes()).await;
    node.kill9();
    let db = database(&node);
    let saved = fs::read(&db).unwrap();
    let cases: &[(&str, &dyn Fn(), &str)] = &[
        ("emptied", &|| fs::write(&db, "").unwrap(), "is empty"),
        ("cut off", &|| fs::write(&db, &saved[..50]).unwrap(), "not a SQLite database"),
        ("of another kind", &|| fs::write(&db, vec![b'x'; 8192]).unwrap(), "not a SQLite database"),
        ("removed, the log is there", &|| fs::remove_file(&db).unwrap(), "is missing"),
        ("a link to nothing", &|| symlink("nowhere.db", &db).unwrap(), "link to a file that does not exist"),
    ];
    for (what, damage, reason) in cases {
        damage();
        let text = serve(node.folder(), "data/store.db");
        assert!(text.contains(reason), "{what}: {text}");
    }
    fs::remove_file(&db).unwrap();
    fs::write(&db, &saved).unwrap();
    node.restart().await;
}

#[tokio::test]
async fn a_database_without_tables_is_no_new_store() {
    let folder = tempfile::TempDir::with_prefix("emberpost-it-").unwrap();
    // A header and nothing else, as SQLite makes of an empty file when something is set in it.
    let script = "import sqlite3; c = sqlite3.connect('empty.db'); c.execute('PRAGMA application_id = 0'); \
                  c.execute('CREATE TABLE t (x)'); c.execute('DROP TABLE t'); c.commit()";
    let made = Command::new("python3").args(["-c", script]).current_dir(folder.path()).status().unwrap();
    assert!(made.success());
    let text = serve(folder.path(), "empty.db");
    assert!(text.contains("does not hold a store of emberpost"), "{text}");
}

#[test]
fn help_of_the_store_commands_names_backup_and_restore() {
    let output = emberpost(&["store", "--help"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("backup") && text.contains("restore"), "{text}");
}
