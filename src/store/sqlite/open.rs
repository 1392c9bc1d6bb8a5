//! Opens a store: the folder, the lock, the schema's version, and the connections.

use super::checkpoint;
use super::connect::{plain_options, readers, writer_options};
use super::core::Core;
use super::files::{
    self, BACKUP_MARK, COPY_MARK, STORE_MARK, StoreLock, beside, create_private, file_error, folder, rename_new,
};
use super::migrate;
use super::recent::Recent;
use super::retention::Sweep;
use super::search::SEARCHERS;
use super::term::UnwrittenTerms;
use super::watch::FileWatch;
use super::writer::{Writer, read_keys};
use crate::clock::Clock;
use crate::store::health::Health;
use crate::store::view::SEARCH_MILLISECONDS;
use crate::store::{OpenError, StoreSettings};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Error, Row};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

const READERS: u32 = 4;

/// `configured`: the path as the operator gave it.
pub(in crate::store) async fn open(
    configured: &Path,
    settings: StoreSettings,
    clock: Clock,
) -> Result<Core, OpenError> {
    files::make_folder(folder(configured))?;
    let path = files::resolve(configured)?;
    let database = |source: Error| OpenError::Database { path: path.display().to_string(), source: source.into() };
    let mut lock = StoreLock::take(&path)?;
    if lock.database.is_none() {
        create(&mut lock, &path, STORE_MARK).await?;
    }
    adopt(&lock, &path).await?;
    files::make_private(&path);
    let mut conn = writer_options(&path).connect().await.map_err(database)?;
    migrate::run_checked(&mut conn, &path).await?;
    if application_id(&mut conn).await.map_err(database)? != i64::from(STORE_MARK) {
        set_application_id(&mut conn, STORE_MARK).await.map_err(database)?;
    }
    lock.record_store(&path)?;
    let watch = FileWatch::new(lock, configured, &path)?;
    super::time::resume(&clock, &mut conn).await.map_err(database)?;
    let recent = Recent::default();
    recent.load(&mut conn).await.map_err(database)?;
    // Attempts of the last run ended with its process. Rows stay "waiting" during an attempt, so nothing must be reset.
    let keys = read_keys(&mut conn).await.map_err(database)?;
    let participants = Core::read_participants(&mut conn).await.map_err(database)?;
    let short_reads = readers(&path, READERS).await.map_err(database)?;
    let searchers = readers(&path, SEARCHERS).await.map_err(database)?;
    let checkpointer = checkpoint::connect(&path).await.map_err(database)?;
    Ok(Core {
        settings,
        path,
        clock,
        writer: tokio::sync::Mutex::new(Writer {
            conn,
            keys,
            unwritten_terms: UnwrittenTerms::at_start(),
            recent: recent.clone(),
        }),
        checkpointer: tokio::sync::Mutex::new(Some(checkpointer)),
        readers: short_reads,
        searchers,
        search_milliseconds: AtomicU64::new(SEARCH_MILLISECONDS),
        search_checks: Arc::default(),
        watch: Mutex::new(Some(watch)),
        health: Health::default(),
        recent,
        participants,
        free_bytes: Mutex::new(None),
        commits: AtomicU64::new(0),
        operations: AtomicU64::new(0),
        sweep: Mutex::new(Sweep::default()),
        closed: AtomicBool::new(false),
    })
}

/// Creates a new store under a temporary name and renames it when it is complete: a database file at the path is never
/// incomplete, so an empty one means a loss.
pub(in crate::store) async fn create(lock: &mut StoreLock, path: &Path, mark: i32) -> Result<(), OpenError> {
    if lock.has_record()? {
        return Err(OpenError::Refused(format!(
            "the store {} is missing, and {} says that there was one. Put a backup in its place with `emberpost store restore \
             FILE`, or remove the lock file to start with a new store",
            path.display(),
            lock.lock_path.display()
        )));
    }
    if let Some(log) = files::logs(path).first() {
        return Err(OpenError::Refused(format!(
            "the store {} is missing, but its log {} exists; put the database file back, or move the log away to start with \
             a new store",
            path.display(),
            log.display()
        )));
    }
    let new = beside(path, ".new");
    let at_new = |source| file_error(&new, source);
    for left_over in ["", "-wal", "-shm", "-journal"].map(|ending| beside(&new, ending)) {
        match std::fs::remove_file(&left_over) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(at_new(source)),
            _ => {}
        }
    }
    create_private(&new).map_err(at_new)?;
    let database = |source: Error| OpenError::Database { path: new.display().to_string(), source: source.into() };
    let mut conn = plain_options(&new).connect().await.map_err(database)?;
    migrate::run(&mut conn, 0).await.map_err(database)?;
    set_application_id(&mut conn, mark).await.map_err(database)?;
    conn.close().await.map_err(database)?;
    rename_new(&new, path).and_then(|()| files::sync_folder(path)).map_err(|source| file_error(path, source))?;
    lock.take_database(path)
}

/// Refuses a file that is not a store. A backup becomes a store, unless a log is beside it: SQLite would apply that log to it.
async fn adopt(lock: &StoreLock, path: &Path) -> Result<(), OpenError> {
    let Some((file, _)) = &lock.database else { return Ok(()) };
    let found = files::mark(file, path)?;
    if found == BACKUP_MARK {
        if let Some(log) = files::logs(path).first() {
            return Err(OpenError::Refused(format!(
                "{} is a backup, and {} beside it is the log of another store, which would be written into it; put the \
                 backup in place with `emberpost store restore FILE`, which moves the old files aside",
                path.display(),
                log.display()
            )));
        }
        let database = |source: Error| OpenError::Database { path: path.display().to_string(), source: source.into() };
        // Without a log: the file itself must not be marked as a backup once it has a log of its own.
        let mut conn = plain_options(path).connect().await.map_err(database)?;
        set_application_id(&mut conn, STORE_MARK).await.map_err(database)?;
        return conn.close().await.map_err(database);
    }
    if found == COPY_MARK {
        return Err(OpenError::Refused(files::unfinished_copy(path)));
    }
    if found != STORE_MARK && found != 0 {
        return Err(OpenError::Refused(format!("{} is a database of another program", path.display())));
    }
    Ok(())
}

async fn application_id(conn: &mut SqliteConnection) -> Result<i64, Error> {
    sqlx::query("PRAGMA application_id").fetch_one(conn).await?.try_get(0)
}

pub(in crate::store) async fn set_application_id(conn: &mut SqliteConnection, id: i32) -> Result<(), Error> {
    sqlx::query(AssertSqlSafe(format!("PRAGMA application_id = {id}"))).execute(conn).await.map(drop)
}
