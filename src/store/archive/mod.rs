//! The archive: what retention is about to delete, in files `*.ndjson.zst` of a folder, a message per line (`line`).
//!
//! A file is complete and on disk before the first of its rows is deleted, and only messages in such a file are deleted
//! (`Archived`). Rows are read outside of any transaction; the step that deletes a message checks that its deliveries are as they
//! were archived. A crash in between leaves rows that are archived again: an import skips what it has.

mod collect;
mod columns;
mod content;
mod file;
pub(super) mod line;
mod reader;

pub use reader::{Damage, LineReader, find};

use self::collect::Collector;
use self::file::ArchiveFile;
use super::archived::Archived;
use super::retention::{ArchivePlace, RetentionRules, Scope};
use super::{Store, Unavailable};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The most messages of a file; those that wait to be deleted are held in memory, about 100 bytes each.
const FILE_MESSAGES: usize = 20_000;
/// The bytes of lines after which a file ends.
const FILE_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes of lines that wait to be written.
const PENDING_BYTES: usize = 4 * 1024 * 1024;
/// Messages that one search for old messages looks at.
const PAGE_MESSAGES: u32 = 500;

/// Why nothing was archived. The rows stay.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Store(#[from] Unavailable),
    #[error("cannot write the archive {path}: {source}")]
    Disk { path: PathBuf, source: std::io::Error },
}

/// What was archived.
#[derive(Debug, Default)]
pub struct ArchivedFile {
    pub messages: usize,
    /// None if nothing is old.
    pub path: Option<PathBuf>,
    pub archived: Archived,
}

impl Store {
    /// Removes what a crash left of files that were not finished. The folder belongs to one store.
    pub async fn clean_archive(&self, folder: &Path) -> Result<(), ArchiveError> {
        let folder = folder.to_owned();
        on_disk(folder.clone(), move || file::clean(&folder)).await
    }

    /// Writes messages that retention may delete now to a file of the archive. Returns those that it may delete, once they are on
    /// disk; the next call continues after they are deleted.
    pub async fn archive(
        &self,
        now_us: i64,
        rules: RetentionRules,
        folder: &Path,
    ) -> Result<ArchivedFile, ArchiveError> {
        if self.clock().jump().is_some() {
            return Ok(ArchivedFile::default());
        }
        let mut scope = Scope::new(now_us, rules, PAGE_MESSAGES, None);
        self.inner.backend.look_around(&mut scope).await?;
        let id = self.clock().new_id();
        let mut writing =
            Writing { folder, now_us, id, file: None, lines: Vec::new(), pending_bytes: 0, written_bytes: 0 };
        let mut digests = HashMap::new();
        let mut from = Some(ArchivePlace::default());
        let mut stored_bytes = 0;
        while let Some(place) = from
            && digests.len() < FILE_MESSAGES
            && writing.written_bytes < FILE_BYTES
            && !scope.is_enough(stored_bytes)
        {
            let (mut keys, next) = self.inner.backend.to_archive(place, &scope).await?;
            keys.retain(|key| !digests.contains_key(key));
            let mut collector = Collector::new(&self.inner.backend, keys).await?;
            while let Some(message) = collector.next().await? {
                writing.add(message.line).await?;
                digests.insert(message.key, message.digest);
                stored_bytes += message.stored_bytes;
            }
            from = next;
        }
        let path = writing.finish().await?;
        Ok(ArchivedFile { messages: digests.len(), path, archived: Archived::new(digests, from.is_none()) })
    }
}

/// A file of the archive that is being written; it is created with the first lines.
struct Writing<'f> {
    folder: &'f Path,
    now_us: i64,
    id: Uuid,
    file: Option<ArchiveFile>,
    lines: Vec<Vec<u8>>,
    pending_bytes: usize,
    written_bytes: u64,
}

impl Writing<'_> {
    async fn add(&mut self, line: Vec<u8>) -> Result<(), ArchiveError> {
        self.pending_bytes += line.len();
        self.written_bytes += line.len() as u64;
        self.lines.push(line);
        if self.pending_bytes >= PENDING_BYTES { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<(), ArchiveError> {
        let (folder, now_us, id) = (self.folder.to_owned(), self.now_us, self.id);
        let file = self.file.take();
        let lines = std::mem::take(&mut self.lines);
        self.pending_bytes = 0;
        let written = on_disk(folder.clone(), move || {
            let mut file = file.map_or_else(|| ArchiveFile::create(&folder, now_us, id), Ok)?;
            lines.iter().try_for_each(|line| file.add(line))?;
            Ok(file)
        });
        self.file = Some(written.await?);
        Ok(())
    }

    async fn finish(mut self) -> Result<Option<PathBuf>, ArchiveError> {
        if !self.lines.is_empty() {
            self.write().await?;
        }
        let Some(file) = self.file.take() else { return Ok(None) };
        on_disk(self.folder.to_owned(), move || file.finish()).await.map(Some)
    }
}

/// Runs work that waits for the disk.
async fn on_disk<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ArchiveError> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    done.map_err(|source| ArchiveError::Disk { path, source })
}
