//! Checks that the files at the store's path are still the ones that are open.
//!
//! A process that has a removed or moved file open can still write to it, but these writes are lost. So nothing is
//! acknowledged while a file at the path is not the one that is open.

use super::files::{FileId, StoreLock, beside, file_error};
use crate::store::OpenError;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the files at the path are not accepted as the open ones.
pub(in crate::store) enum FileChange {
    /// They were replaced or removed, for good.
    Lost(String),
    /// The system reports an error.
    Unknown(String),
}

/// The open files with the paths where they must be.
pub(in crate::store) struct FileWatch {
    lock: StoreLock,
    files: Vec<(PathBuf, FileId)>,
}

impl FileWatch {
    /// `configured` is the path as the operator gave it, `path` the resolved one. The database must have been read,
    /// so that its log exists.
    pub fn new(lock: StoreLock, configured: &Path, path: &Path) -> Result<FileWatch, OpenError> {
        let mut files = Vec::new();
        let names = [configured.to_owned(), beside(path, "-wal"), beside(path, "-shm"), lock.lock_path.clone()];
        for name in names {
            let data = name.metadata().map_err(|source| file_error(&name, source))?;
            files.push((name, FileId::from(&data)));
        }
        let open = lock.database.as_ref().map(|(_, id)| *id);
        if open != files.first().map(|(_, id)| *id) {
            return Err(OpenError::Refused(format!("the store {} was replaced while it was opened", path.display())));
        }
        Ok(FileWatch { lock, files })
    }

    /// The database file.
    pub fn database(&self) -> Option<Arc<File>> {
        self.lock.database.as_ref().map(|(file, _)| file.clone())
    }

    /// Compares device, inode and link count of the open files with their paths. A handful of system calls.
    pub fn check(&self) -> Result<(), FileChange> {
        for (path, id) in &self.files {
            match path.metadata() {
                Ok(data) if FileId::from(&data) == *id => {}
                Ok(_) => return Err(FileChange::Lost(format!("{} was replaced by another file", path.display()))),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    return Err(FileChange::Lost(format!("{} was removed or moved", path.display())));
                }
                Err(error) => return Err(FileChange::Unknown(format!("{}: {error}", path.display()))),
            }
        }
        let database = self.lock.database.as_ref().map(|(file, _)| &**file);
        for file in database.into_iter().chain([&self.lock.lock_file]) {
            if file.metadata().is_ok_and(|data| data.nlink() == 0) {
                return Err(FileChange::Lost("a file of the store was removed".into()));
            }
        }
        Ok(())
    }
}
