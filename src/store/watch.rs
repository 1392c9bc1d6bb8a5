//! Whether the store's files are still those at its path.
//!
//! A file that is removed or moved goes on taking writes from who has it open, and nobody finds them again. So nothing is
//! acknowledged while a file at the path is not the one that is open.

use super::OpenError;
use super::files::{FileId, Hold, beside, file_error};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why the files at the path are not looked at as ours.
pub(super) enum Changed {
    /// They are others, or gone, and will not come back.
    Lost(String),
    /// The system does not say.
    Unknown(String),
}

/// The open files with the paths where they must be.
pub(super) struct Watch {
    hold: Hold,
    files: Vec<(PathBuf, FileId)>,
}

impl Watch {
    /// `configured` is the path as the operator gave it, `path` the database file's own. The database must have been read,
    /// so that its log is there.
    pub fn new(hold: Hold, configured: &Path, path: &Path) -> Result<Watch, OpenError> {
        let mut files = Vec::new();
        let names = [configured.to_owned(), beside(path, "-wal"), beside(path, "-shm"), hold.lock_path.clone()];
        for name in names {
            let data = name.metadata().map_err(|source| file_error(&name, source))?;
            files.push((name, FileId::from(&data)));
        }
        let open = hold.database.as_ref().map(|(_, id)| *id);
        if open != files.first().map(|(_, id)| *id) {
            return Err(OpenError::Refused(format!("the store {} was replaced while it was opened", path.display())));
        }
        Ok(Watch { hold, files })
    }

    /// Compares device, inode and link count of the open files with their paths. A handful of calls to the system.
    pub fn check(&self) -> Result<(), Changed> {
        for (path, id) in &self.files {
            match path.metadata() {
                Ok(data) if FileId::from(&data) == *id => {}
                Ok(_) => return Err(Changed::Lost(format!("{} was replaced by another file", path.display()))),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    return Err(Changed::Lost(format!("{} was removed or moved", path.display())));
                }
                Err(error) => return Err(Changed::Unknown(format!("{}: {error}", path.display()))),
            }
        }
        let database = self.hold.database.as_ref().map(|(file, _)| file);
        for file in database.into_iter().chain([&self.hold.lock]) {
            if file.metadata().is_ok_and(|data| data.nlink() == 0) {
                return Err(Changed::Lost("a file of the store was removed".into()));
            }
        }
        Ok(())
    }
}
