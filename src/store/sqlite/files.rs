//! The files of a store: their names and modes, the lock on them, and the mark in the database file.
//!
//! A store is one database file with a log (`-wal`), the index of the log (`-shm`), and a lock file (`.lock`) beside it. SQLite
//! names log and index after the path and trusts any log that it finds there. Therefore two routers must not open one file
//! under two names, and a backup must not be opened beside the log of another file.

use crate::store::OpenError;
use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{Error, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Messages are health records: only the owner may read them, whatever the umask and the folder's mode.
pub(in crate::store) const PRIVATE_MODE: u32 = 0o600;
/// Tries to lock a file, over 250 milliseconds.
const LOCK_TRIES: usize = 25;
const LOCK_INTERVAL: Duration = Duration::from_millis(10);
/// Application id in the header of a store, and of a backup that was not yet opened as a store.
pub(in crate::store) const STORE_MARK: i32 = i32::from_be_bytes(*b"EMBs");
pub(in crate::store) const BACKUP_MARK: i32 = i32::from_be_bytes(*b"EMBb");
/// Application id of the target of a copy that is not finished.
pub(in crate::store) const COPY_MARK: i32 = i32::from_be_bytes(*b"EMBc");

const HEADER_BYTES: usize = 100;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Identifies a file under any name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct FileId {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for FileId {
    fn from(data: &Metadata) -> Self {
        FileId { device: data.dev(), inode: data.ino() }
    }
}

/// Stores that this process has open. Closing any descriptor of a file releases all of SQLite's locks on it in this process,
/// so an open file must not be opened a second time just to find out that it is open.
static OPEN_STORES: Mutex<BTreeSet<FileId>> = Mutex::new(BTreeSet::new());

fn open_stores() -> std::sync::MutexGuard<'static, BTreeSet<FileId>> {
    OPEN_STORES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folder that holds `path`.
pub(in crate::store) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Free bytes on the disk of `path`. None if the system reports an error.
pub(in crate::store) fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder(path)).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// `path` with `ending` after it, as SQLite names the files beside a database.
pub(in crate::store) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

pub(in crate::store) fn file_error(path: &Path, source: Error) -> OpenError {
    OpenError::File { path: path.display().to_string(), source }
}

fn refused<T>(text: String) -> Result<T, OpenError> {
    Err(OpenError::Refused(text))
}

/// The path of the database file with links resolved; its folder must exist.
pub(in crate::store) fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    let error = |source| file_error(path, source);
    match path.canonicalize() {
        Ok(real) => Ok(real),
        Err(source) if source.kind() == ErrorKind::NotFound => {
            if path.symlink_metadata().is_ok() {
                return refused(format!("the store {} is a link to a file that does not exist", path.display()));
            }
            let name = path.file_name().ok_or_else(|| error(ErrorKind::InvalidFilename.into()))?;
            Ok(folder(path).canonicalize().map_err(error)?.join(name))
        }
        Err(source) => Err(error(source)),
    }
}

pub(in crate::store) fn make_folder(path: &Path) -> Result<(), OpenError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| file_error(path, source))
}

/// Creates a file that only its owner can read. Errs if the name is taken, also by a link.
pub(in crate::store) fn create_private(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(PRIVATE_MODE).open(path)?;
    // The umask may have removed bits of the mode.
    file.set_permissions(Permissions::from_mode(PRIVATE_MODE))?;
    Ok(file)
}

pub(in crate::store) fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// The lock on a store: its lock file and its database file are both locked, so that a second router finds one of them locked
/// under any name of the store.
pub(in crate::store) struct StoreLock {
    pub lock_file: File,
    pub lock_path: PathBuf,
    /// Shared with whoever syncs it: closing another descriptor of the file would release SQLite's own locks.
    pub database: Option<(Arc<File>, FileId)>,
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        if let Some((_, id)) = &self.database {
            open_stores().remove(id);
        }
    }
}

impl StoreLock {
    /// Locks the store at `path`, as `resolve` gave it. The database file may be missing. Errs if another router has it open.
    pub fn take(path: &Path) -> Result<StoreLock, OpenError> {
        let lock_path = beside(path, ".lock");
        let lock_file = open_lock(&lock_path).map_err(|source| file_error(&lock_path, source))?;
        lock_or_refuse(&lock_file, &lock_path, path)?;
        let mut lock = StoreLock { lock_file, lock_path, database: None };
        if path.exists() {
            lock.take_database(path)?;
        }
        Ok(lock)
    }

    /// Locks the database file, once it exists.
    pub fn take_database(&mut self, path: &Path) -> Result<(), OpenError> {
        let error = |source| file_error(path, source);
        let data = path.metadata().map_err(error)?;
        if !data.is_file() {
            return refused(format!("the store {} is not a regular file", path.display()));
        }
        if data.nlink() > 1 {
            return refused(format!(
                "the store {} has {} names (hard links); its log belongs to only one of them, so the others lose messages: \
                 remove the other names, and copy a store with `emberpost store backup`",
                path.display(),
                data.nlink()
            ));
        }
        let id = FileId::from(&data);
        if !open_stores().insert(id) {
            return in_use(path, path);
        }
        let locked = OpenOptions::new().read(true).write(true).open(path).map_err(error).and_then(|file| {
            lock_or_refuse(&file, path, path)?;
            Ok(file)
        });
        match locked {
            Ok(file) => self.database = Some((Arc::new(file), id)),
            Err(error) => {
                open_stores().remove(&id);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes into the lock file that there is a store: if the database file is missing at a later start, it was lost, and no
    /// new store is created.
    pub fn record_store(&mut self, path: &Path) -> Result<(), OpenError> {
        let error = |source| file_error(&self.lock_path, source);
        if self.lock_file.metadata().map_err(error)?.len() == 0 {
            let name = path.file_name().unwrap_or_default().display();
            writeln!(self.lock_file, "Emberpost has a store in {name}. While it is open, this file is locked.")
                .map_err(error)?;
        }
        Ok(())
    }

    pub fn has_record(&self) -> Result<bool, OpenError> {
        let data = self.lock_file.metadata().map_err(|source| file_error(&self.lock_path, source))?;
        Ok(data.len() > 0)
    }
}

fn open_lock(path: &Path) -> std::io::Result<File> {
    let no_links = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(PRIVATE_MODE).custom_flags(no_links);
    let file = options.open(path)?;
    // The umask may have removed bits of the mode, and then the next start could not open it.
    if file.metadata()?.mode() & 0o777 != PRIVATE_MODE {
        file.set_permissions(Permissions::from_mode(PRIVATE_MODE))?;
    }
    Ok(file)
}

/// Waits for a moment: a process that ends, or one that is being started as a child of this one, may still hold the lock.
fn lock_or_refuse(file: &File, locked: &Path, store: &Path) -> Result<(), OpenError> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_INTERVAL),
            Err(TryLockError::Error(source)) => return Err(file_error(locked, source)),
        }
    }
    in_use(store, locked)
}

/// Two routers on one file would assign the same keys.
fn in_use(store: &Path, locked: &Path) -> Result<(), OpenError> {
    refused(format!(
        "the store {} is in use by another emberpost ({} is locked); stop that one first, or set another \
         store.url for this one",
        store.display(),
        locked.display()
    ))
}

/// The application id in the header of a database file; a log beside it may hold another one.
pub(in crate::store) fn mark(file: &File, path: &Path) -> Result<i32, OpenError> {
    let mut header = [0; HEADER_BYTES];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) if header.starts_with(MAGIC) => Ok(i32::from_be_bytes([header[68], header[69], header[70], header[71]])),
        Err(source) if source.kind() != ErrorKind::UnexpectedEof => Err(file_error(path, source)),
        _ if file.metadata().is_ok_and(|data| data.len() == 0) => refused(format!(
            "the store {} is empty: its content is lost. Put a backup in its place with `emberpost store restore FILE`, \
             or remove the file to start with a new store",
            path.display()
        )),
        _ => refused(format!("{} is not a SQLite database", path.display())),
    }
}

/// Why the target of a copy cannot be used yet.
pub(in crate::store) fn unfinished_copy(path: &Path) -> String {
    format!(
        "the store {} is the target of a copy that is not finished; run the same `emberpost store copy` again, which continues it, \
         or remove the file",
        path.display()
    )
}

/// Logs beside a database file that are not empty.
pub(in crate::store) fn logs(path: &Path) -> Vec<PathBuf> {
    let full = |log: &PathBuf| log.symlink_metadata().is_ok_and(|data| data.len() > 0);
    ["-wal", "-journal"].map(|ending| beside(path, ending)).into_iter().filter(full).collect()
}

/// Removes the access of other users that an earlier version or a copy gave them.
pub(in crate::store) fn make_private(path: &Path) {
    for file in ["", "-wal", "-shm", "-journal", ".lock"].map(|ending| beside(path, ending)) {
        let open_to_others = file.metadata().is_ok_and(|data| data.mode() & 0o077 != 0);
        if open_to_others && let Err(error) = std::fs::set_permissions(&file, Permissions::from_mode(PRIVATE_MODE)) {
            tracing::warn!(file = %file.display(), %error, "other users of this machine may be able to read this file of the store");
        }
    }
}

/// Renames `from` to `to`. Errs if that name is taken.
pub(in crate::store) fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The file system does not support the flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if to.symlink_metadata().is_ok() {
                return Err(ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(from, to)
        }
        done => done.map_err(Error::from),
    }
}
