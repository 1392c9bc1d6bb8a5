//! Restores a backup in the place of a store, whose files are renamed.

use super::backup::mark_as_backup;
use super::connect::plain_options;
use super::files::{
    self, BACKUP_MARK, STORE_MARK, StoreLock, beside, create_private, file_error, folder, rename_new, sync_folder,
};
use super::migrate::{MIGRATIONS, user_version};
use crate::store::OpenError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Error, Row};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The largest number of restores in the same second, which need different names for the old files.
const REPLACED_PER_SECOND: usize = 100;

/// The result of a restore.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The store, which now has the content of the backup.
    pub store: PathBuf,
    /// The new path of the old database file; its log has the same name with `-wal`. None if there was no store.
    pub moved_to: Option<PathBuf>,
}

/// Puts a copy of the backup `from` in the place of the store `db`, which no router may have open. The old files are renamed
/// with the time `now_us`. Errs, and changes nothing, if `from` is not a complete backup.
pub async fn restore_file(db: &Path, from: &Path, now_us: i64) -> Result<Restored, OpenError> {
    files::make_folder(folder(db))?;
    let db = files::resolve(db)?;
    let mut lock = StoreLock::take(&db)?;
    let copy = beside(&db, ".restored");
    let checked = copy_and_check(from, &copy).await;
    let done = match checked {
        Ok(()) => replace(&mut lock, &db, &copy, now_us),
        Err(error) => Err(error),
    };
    if done.is_err() {
        // The first error is the one to report; the next restore removes a copy that is left.
        let _ = std::fs::remove_file(&copy);
    }
    done
}

async fn copy_and_check(from: &Path, copy: &Path) -> Result<(), OpenError> {
    let refuse = |text: String| Err(OpenError::Refused(format!("{} cannot be restored: {text}", from.display())));
    let data = from.metadata().map_err(|source| file_error(from, source))?;
    if !data.is_file() {
        return refuse("it is not a regular file".into());
    }
    if let Some(log) = files::logs(from).first() {
        return refuse(format!("{} beside it is a log, so it is a store in use; make a backup of that", log.display()));
    }
    let mark = files::mark(&File::open(from).map_err(|source| file_error(from, source))?, from)?;
    match mark {
        // 0: a backup of a version that did not mark backups.
        BACKUP_MARK | 0 => {}
        STORE_MARK => {
            let text = "it is a store that was opened, whose newest messages may be in a log elsewhere; copy a store with \
                        `emberpost store backup`";
            return refuse(text.into());
        }
        _ => return refuse("it is a database of another program".into()),
    }
    copy_file(from, copy)?;
    let database = |source: Error| OpenError::Database { path: from.display().to_string(), source: source.into() };
    let mut conn = plain_options(copy).connect().await.map_err(database)?;
    let wrong = verify(&mut conn).await.map_err(database)?;
    if wrong.is_none() {
        // The times of the clock on the backup's machine say nothing about the clock of this one.
        let delete = sqlx::query("DELETE FROM progress WHERE name LIKE 'clock\\_%' ESCAPE '\\'");
        delete.execute(&mut conn).await.map_err(database)?;
    }
    conn.close().await.map_err(database)?;
    match wrong {
        Some(text) => refuse(text),
        None => mark_as_backup(copy).await,
    }
}

fn copy_file(from: &Path, copy: &Path) -> Result<(), OpenError> {
    let at_copy = |source| file_error(copy, source);
    match std::fs::remove_file(copy) {
        Err(source) if source.kind() != ErrorKind::NotFound => return Err(at_copy(source)),
        _ => {}
    }
    let mut source = File::open(from).map_err(|source| file_error(from, source))?;
    let mut target = create_private(copy).map_err(at_copy)?;
    std::io::copy(&mut source, &mut target).map_err(at_copy)?;
    Ok(())
}

/// Why a backup cannot be used: damage, or the schema of a newer or another program.
async fn verify(conn: &mut SqliteConnection) -> Result<Option<String>, Error> {
    let check = sqlx::query("PRAGMA integrity_check(1)").fetch_one(&mut *conn).await?;
    let check: String = check.try_get(0)?;
    if check != "ok" {
        return Ok(Some(format!("it is damaged ({check})")));
    }
    let version = user_version(conn).await?;
    let Some(steps) =
        usize::try_from(version).ok().filter(|steps| *steps > 0).and_then(|steps| MIGRATIONS.get(..steps))
    else {
        let newest = MIGRATIONS.len();
        return Ok(Some(format!("it has schema version {version}, and this program knows versions 1 to {newest}")));
    };
    let mut expected = SqliteConnectOptions::new().in_memory(true).disable_statement_logging().connect().await?;
    for step in steps {
        sqlx::raw_sql(AssertSqlSafe(*step)).execute(&mut expected).await?;
    }
    let same = schema(conn).await? == schema(&mut expected).await?;
    expected.close().await?;
    Ok((!same).then(|| format!("its tables are not those of schema version {version}")))
}

/// Tables, indexes, and triggers of the store, without sqlx's table of migrations: backups of earlier releases lack it.
async fn schema(conn: &mut SqliteConnection) -> Result<Vec<(String, Option<String>)>, Error> {
    let sql = "SELECT name, sql FROM sqlite_schema WHERE tbl_name <> '_sqlx_migrations' ORDER BY name";
    let rows = sqlx::query(sql).fetch_all(conn).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Renames the database file first: a start without it is refused, while a store without its log would start and lack messages.
fn replace(lock: &mut StoreLock, db: &Path, copy: &Path, now_us: i64) -> Result<Restored, OpenError> {
    let at_copy = |source| file_error(copy, source);
    File::open(copy).and_then(|file| file.sync_all()).map_err(at_copy)?;
    lock.record_store(db)?;
    let time = jiff::Timestamp::from_microsecond(now_us).unwrap_or_default().strftime("%Y%m%dT%H%M%SZ");
    let name = |count: usize| match count {
        0 => beside(db, &format!(".replaced-{time}")),
        _ => beside(db, &format!(".replaced-{time}-{count}")),
    };
    let free = |path: &PathBuf| path.symlink_metadata().is_err() && files::logs(path).is_empty();
    let aside = (0..REPLACED_PER_SECOND).map(name).find(free).unwrap_or_else(|| name(0));
    let mut moved_to = None;
    for ending in ["", "-wal", "-shm", "-journal"] {
        let (old, new) = (beside(db, ending), beside(&aside, ending));
        match rename_new(&old, &new) {
            Ok(()) if ending.is_empty() => moved_to = Some(aside.clone()),
            Ok(()) => {}
            Err(source) if source.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(file_error(&new, source)),
        }
    }
    rename_new(copy, db).and_then(|()| sync_folder(db)).map_err(|source| file_error(db, source))?;
    Ok(Restored { store: db.to_owned(), moved_to })
}
