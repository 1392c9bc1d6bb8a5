//! A store for the routers of this measurement: a file of SQLite, or a database of a running PostgreSQL.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::super::cases::Bench;
use super::super::children::Folder;
use super::super::postgres::{Database, Wal};
use super::super::router::{Channel, RouterProcess, Settings};
use super::{DOWN_ADDRESS, aging};

/// Removed with its content on drop.
pub struct Store {
    folder: Folder,
    database: Option<Database>,
}

impl Store {
    /// An empty one: in the PostgreSQL of this URL, if there is one.
    pub fn new(name: &str, postgres: Option<&str>) -> Result<Store> {
        Ok(Store { folder: Folder::new(name)?, database: postgres.map(Database::create).transpose()? })
    }

    /// Starts a router on it. `more`: further tables of its configuration.
    pub fn start(&self, bench: &Bench<'_>, channel: Channel<'_>, more: &str) -> Result<RouterProcess> {
        let store = self.database.as_ref().map(|database| &*database.url);
        let settings = Settings { channel, down: Some(DOWN_ADDRESS), more, store };
        RouterProcess::start(&bench.server_program, self.folder.path(), &settings, false)
    }

    pub fn size_bytes(&self) -> Result<u64> {
        match &self.database {
            Some(database) => database.size_bytes(),
            None => Ok(std::fs::metadata(self.file())?.len()),
        }
    }

    /// What the server has written to its log; None for SQLite.
    pub fn wal(&self) -> Result<Option<Wal>> {
        self.database.as_ref().map(Database::wal).transpose()
    }

    /// Moves the older half of its messages back by `days`, while no router uses it.
    pub fn make_older_half_old(&self, days: u32) -> Result<()> {
        match &self.database {
            Some(database) => database.make_older_half_old(days),
            None => aging::make_older_half_old(&self.file(), days),
        }
    }

    /// How many messages are still older than half of `days`.
    pub fn old_messages_left(&self, days: u32) -> Result<u64> {
        match &self.database {
            Some(database) => database.old_messages_left(days),
            None => aging::old_messages_left(&self.file(), days),
        }
    }

    fn file(&self) -> PathBuf {
        Path::join(self.folder.path(), "bench.db")
    }
}
