//! Backups: one consistent file, made while the store is in use.
//!
//! SQLite writes the copy from one read transaction (`VACUUM INTO`), and the store accepts messages meanwhile. The copy is made
//! in a folder that nobody else can write to, and gets its name only when it is complete and on disk. It is marked as a backup
//! until it is opened as a store, so that it is not opened beside the log of another file.

use super::Sqlite;
use super::connect::plain_options;
use super::files::{self, BACKUP_MARK, beside, create_private, file_error, folder, rename_new, sync_folder};
use super::migrate::user_version;
use super::open::set_application_id;
use crate::store::OpenError;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

impl Sqlite {
    pub async fn backup(&self, to: &Path) -> Result<(), OpenError> {
        backup_file(&self.core.path, to).await
    }
}

/// Copies the store in `db`, which a running router may have open, to the new file `to`. Errs if that name is taken,
/// also by a link, and if `db` is not a store.
pub async fn backup_file(db: &Path, to: &Path) -> Result<(), OpenError> {
    if to.symlink_metadata().is_ok() {
        return exists(to);
    }
    let db = &files::resolve(db)?;
    let names = db.metadata().map_err(|source| file_error(db, source))?.nlink();
    if names > 1 {
        return Err(OpenError::Refused(format!(
            "{} has {names} names (hard links); its log is found by one of them only, so the copy would lack messages",
            db.display()
        )));
    }
    let database = |source: sqlx::Error| OpenError::Database { path: db.display().to_string(), source: source.into() };
    let mut conn = plain_options(db).read_only(true).connect().await.map_err(database)?;
    if user_version(&mut conn).await.map_err(database)? == 0 {
        return Err(OpenError::Refused(format!("{} is not a store of emberpost", db.display())));
    }
    let partial = make_partial_folder(to)?;
    let copied = copy(&mut conn, db, &partial, to).await;
    // The connection is read-only, so an error on close loses nothing.
    let _ = conn.close().await;
    // The first error is the one to report; the name of a folder that cannot be removed says that it is partial.
    let _ = std::fs::remove_dir_all(&partial);
    copied
}

fn exists(to: &Path) -> Result<(), OpenError> {
    Err(OpenError::Refused(format!("the backup {} already exists; name another file", to.display())))
}

/// A new private folder, so that nobody can place a link where the copy is written.
fn make_partial_folder(to: &Path) -> Result<PathBuf, OpenError> {
    let partial = beside(to, &format!(".partial-{}", Uuid::new_v4().simple()));
    let made = std::fs::DirBuilder::new().mode(0o700).create(&partial);
    made.map_err(|source| file_error(&partial, source))?;
    Ok(partial)
}

async fn copy(conn: &mut SqliteConnection, db: &Path, partial: &Path, to: &Path) -> Result<(), OpenError> {
    let partial = &partial.join("copy.db");
    let at_partial = |source| file_error(partial, source);
    drop(create_private(partial).map_err(at_partial)?);
    let text = partial.to_str().ok_or_else(|| {
        OpenError::Refused(format!("the backup's path {} is not UTF-8, which SQLite needs", partial.display()))
    })?;
    let vacuum = sqlx::query("VACUUM INTO ?").bind(text.to_owned()).execute(conn).await;
    vacuum
        .map_err(|source: sqlx::Error| OpenError::Database { path: db.display().to_string(), source: source.into() })?;
    mark_as_backup(partial).await?;
    File::open(partial).and_then(|file| file.sync_all()).map_err(at_partial)?;
    match rename_new(partial, to) {
        Err(source) if source.kind() == ErrorKind::AlreadyExists => return exists(to),
        renamed => renamed.map_err(|source| file_error(to, source))?,
    }
    sync_folder(to).map_err(|source| file_error(folder(to), source))
}

/// `file` has no log, and gets none.
pub(in crate::store) async fn mark_as_backup(file: &Path) -> Result<(), OpenError> {
    let database =
        |source: sqlx::Error| OpenError::Database { path: file.display().to_string(), source: source.into() };
    let mut conn = plain_options(file).connect().await.map_err(database)?;
    set_application_id(&mut conn, BACKUP_MARK).await.map_err(database)?;
    conn.close().await.map_err(database)
}
