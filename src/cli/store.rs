//! `emberpost store`: backs up, restores, copies, and verifies a store.

mod transfer;

pub(super) use transfer::{failure as transfer_failure, parse};

use super::failure::Failure;
use crate::clock::Clock;
use crate::config::{Config, Overrides};
use crate::store_url::StoreUrl;
use clap::Subcommand;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Back up, restore, copy, and verify a store
///
/// Works on the store itself, without the admin API. The router may run during a backup, but not during a restore or a copy.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  emberpost store backup /backup/emberpost-monday.db\n  \
                        emberpost store restore /backup/emberpost-monday.db\n  emberpost store check")]
pub struct StoreArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Copy a store, even while the router runs
    ///
    /// Writes a consistent copy of the SQLite store to FILE; the router may keep running. After a restore, messages newer
    /// than the backup are processed as new if their senders send them again.
    #[command(after_help = "Examples:\n  \
        emberpost store backup /backup/emberpost-monday.db --config /etc/emberpost.toml\n  \
        emberpost store backup /backup/emberpost-monday.db --store sqlite:emberpost-data/emberpost.db")]
    Backup {
        /// File to write; it must not exist
        file: PathBuf,
        /// The store to copy [default: store.url of the configuration]
        #[arg(long, value_name = "URL")]
        store: Option<String>,
    },
    /// Replace the store with a backup
    ///
    /// Verifies FILE, renames the database and its log (to names that end in .replaced-TIME), and copies FILE into their
    /// place. The router must be stopped. If FILE is not a complete backup, nothing changes. Afterwards the router does not
    /// know what happened after the backup: docs/backup.md says what senders and receivers see.
    #[command(after_help = "Examples:\n  \
        emberpost store restore /backup/emberpost-monday.db --config /etc/emberpost.toml\n  \
        emberpost store restore /backup/emberpost-monday.db --store sqlite:emberpost-data/emberpost.db")]
    Restore {
        /// A file that `emberpost store backup` wrote
        file: PathBuf,
        /// The store to replace [default: store.url of the configuration]
        #[arg(long, value_name = "URL")]
        store: Option<String>,
    },
    /// Copy a store into another database
    ///
    /// Copies everything that the store at --from holds into the empty database at --to, SQLite or PostgreSQL, and compares the
    /// rows of each table at the end. No router may run on either. A copy that was stopped continues where it was when the same
    /// command runs again; until it is finished, no router starts on its target.
    #[command(after_help = "Examples:\n  \
        emberpost store copy --from sqlite:emberpost-data/emberpost.db --to postgres://emberpost@db.example/emberpost\n  \
        emberpost store copy --from postgres://emberpost@db.example/emberpost --to sqlite:copy.db")]
    Copy(transfer::CopyArgs),
    /// Verify a store
    ///
    /// Reads the whole store, and changes nothing: whether each body has the hash that was stored with its message, each row refers
    /// to rows that exist, each waiting delivery is linked to the one before it in its lane, and the counters of participants are
    /// right. No router may run on a SQLite store meanwhile; one in PostgreSQL is read as it is at that moment. Exit code 1: something
    /// is wrong.
    #[command(after_help = "Examples:\n  emberpost store check\n  \
                            emberpost store check --store postgres://emberpost@db.example/emberpost")]
    Check(transfer::CheckArgs),
}

/// `config`: the file of `--config`, else `emberpost.toml` if it exists.
pub async fn run(args: StoreArgs, config: Option<&Path>, out: &mut dyn Write) -> Result<i32, Failure> {
    match args.action {
        Action::Backup { file, store } => {
            // With --store, a broken configuration must not prevent a backup.
            let store = store.map_or_else(|| configured(config), Ok)?;
            backup(&store, &file, out).await
        }
        Action::Restore { file, store } => {
            let store = store.map_or_else(|| configured(config), Ok)?;
            restore(&store, &file, out).await
        }
        Action::Copy(args) => transfer::copy(&args, out).await,
        Action::Check(args) => {
            let store = args.store.map_or_else(|| configured(config), Ok)?;
            transfer::check(&store, out).await
        }
    }
}

/// The URL of the configured store.
pub(super) fn configured(config: Option<&Path>) -> Result<String, Failure> {
    let config = Config::open(config, &Overrides::default()).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        Failure::Usage(format!(
            "the configuration cannot be read; correct it, or name the store with --store\n{}",
            lines.join("\n")
        ))
    })?;
    Ok(match config.store.url {
        StoreUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
        StoreUrl::Postgres(url) => url.expose().to_owned(),
    })
}

async fn backup(store: &str, to: &Path, out: &mut dyn Write) -> Result<i32, Failure> {
    let database = database_path(store)?;
    if !database.is_file() {
        return Err(Failure::Usage(format!("there is no store at {}", database.display())));
    }
    crate::store::backup_file(&database, to).await.map_err(|error| Failure::Usage(error.to_string()))?;
    writeln!(out, "{} saved to {}", database.display(), to.display())?;
    Ok(0)
}

async fn restore(store: &str, from: &Path, out: &mut dyn Write) -> Result<i32, Failure> {
    let database = database_path(store)?;
    let restored = crate::store::restore_file(&database, from, Clock::default().now_us()).await;
    let restored = restored.map_err(|error| Failure::Usage(error.to_string()))?;
    writeln!(out, "{} is now the backup {}", restored.store.display(), from.display())?;
    if let Some(moved_to) = restored.moved_to {
        writeln!(out, "the store that was there is now {}", moved_to.display())?;
    }
    Ok(0)
}

/// The file of a store URL: `sqlite:PATH`, `sqlite://PATH`, or a bare path.
fn database_path(store: &str) -> Result<PathBuf, Failure> {
    if store.starts_with("postgres://") || store.starts_with("postgresql://") {
        return Err(Failure::Usage(
            "the store is in PostgreSQL, whose own tools save and restore it: pg_dump and pg_restore, or a base backup with its \
             log; see docs/backup.md"
                .into(),
        ));
    }
    let path = store.strip_prefix("sqlite:").unwrap_or(store);
    let path = path.strip_prefix("//").unwrap_or(path).split('?').next().unwrap_or_default();
    if path.is_empty() || path.starts_with(":memory:") {
        return Err(Failure::Usage(format!("{store} does not name a file; give sqlite:PATH")));
    }
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_url_names_its_file() {
        for (url, path) in [("sqlite:a/b.db", "a/b.db"), ("sqlite:///a/b.db?mode=ro", "/a/b.db"), ("b.db", "b.db")] {
            assert_eq!(database_path(url).expect(url), Path::new(path));
        }
        for url in ["postgres://u@h/d", "sqlite:", "sqlite::memory:"] {
            assert_eq!(database_path(url).expect_err(url).exit_code(), 2);
        }
    }

    #[tokio::test]
    async fn a_missing_store_and_an_existing_target_are_exit_code_2() {
        let folder = tempfile::tempdir().expect("a folder");
        let existing = folder.path().join("a.db");
        std::fs::write(&existing, "").expect("written");
        let missing = folder.path().join("none.db");
        for (store, to) in [(&missing, &folder.path().join("b.db")), (&existing, &existing)] {
            let result = backup(&store.display().to_string(), to, &mut Vec::new()).await;
            assert_eq!(result.expect_err("refused").exit_code(), 2);
        }
    }
}
