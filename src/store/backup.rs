//! Backups: one consistent file, made while the store is in use.
//!
//! SQLite writes the copy from one read transaction (`VACUUM INTO`); accepts go on meanwhile. The file gets its name only
//! when it is whole and on disk.

use super::core::folder;
use super::open::{file_error, user_version};
use super::{OpenError, Store};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

impl Store {
    /// Copies this store to a new file. Errs where the file exists.
    pub async fn backup(&self, to: &Path) -> Result<(), OpenError> {
        backup_file(&self.settings().path, to).await
    }
}

/// Copies the store in `db`, which a running router may have open, to the new file `to`. Errs where that exists, and where
/// `db` is no store.
pub async fn backup_file(db: &Path, to: &Path) -> Result<(), OpenError> {
    let database = |source| OpenError::Database { path: db.display().to_string(), source };
    if to.try_exists().map_err(|source| file_error(to, source))? {
        return Err(OpenError::Refused(format!("the backup {} exists already; name another file", to.display())));
    }
    let options = SqliteConnectOptions::new().filename(db).read_only(true).disable_statement_logging();
    let mut conn = options.connect().await.map_err(database)?;
    if user_version(&mut conn).await.map_err(database)? == 0 {
        return Err(OpenError::Refused(format!("{} is no store of emberpost", db.display())));
    }
    let partial = partial_name(to);
    let copied = copy(&mut conn, db, &partial, to).await;
    // Read only: there is nothing that closing could lose.
    let _ = conn.close().await;
    if copied.is_err() {
        // The first error is the one to tell; a partial file that stays behind is named as such.
        let _ = std::fs::remove_file(&partial);
    }
    copied
}

fn partial_name(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

async fn copy(conn: &mut SqliteConnection, db: &Path, partial: &Path, to: &Path) -> Result<(), OpenError> {
    let at_partial = |source| file_error(partial, source);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    // Messages are health records: what the folder's mode protects for the store, the file's must for the copy.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    drop(options.open(partial).map_err(at_partial)?);
    let text = partial.to_str().ok_or_else(|| {
        OpenError::Refused(format!("the backup's path {} is not UTF-8, which SQLite needs", partial.display()))
    })?;
    let vacuum = sqlx::query("VACUUM INTO ?").bind(text.to_owned()).execute(conn).await;
    vacuum.map_err(|source| OpenError::Database { path: db.display().to_string(), source })?;
    File::open(partial).and_then(|file| file.sync_all()).map_err(at_partial)?;
    std::fs::rename(partial, to).map_err(|source| file_error(to, source))?;
    File::open(folder(to)).and_then(|folder| folder.sync_all()).map_err(|source| file_error(folder(to), source))
}
