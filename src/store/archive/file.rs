//! Writes a file of the archive under a temporary name, and gives it its name once it is on disk.

use crate::store::sqlite::files;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use uuid::Uuid;
use zstd::stream::write::Encoder;

const ENDING: &str = ".ndjson.zst";
/// A file that is not complete.
const TEMPORARY: &str = ".tmp";
/// A better ratio than that of bodies: archives are written once and kept long.
const ZSTD_LEVEL: i32 = 3;

pub(super) struct ArchiveFile {
    path: PathBuf,
    temporary: PathBuf,
    /// None once it is finished.
    encoder: Option<Encoder<'static, File>>,
}

impl ArchiveFile {
    /// Named by the time, and by a part of `id`.
    pub fn create(folder: &Path, now_us: i64, id: Uuid) -> io::Result<ArchiveFile> {
        let time = jiff::Timestamp::from_microsecond(now_us).unwrap_or_default();
        let unique = id.simple().to_string();
        let name = format!("{}-{}", time.strftime("%Y%m%dT%H%M%S.%6fZ"), unique.get(20..).unwrap_or_default());
        files::make_folder(folder).map_err(io::Error::other)?;
        let (path, temporary) =
            (folder.join(format!("{name}{ENDING}")), folder.join(format!("{name}{ENDING}{TEMPORARY}")));
        let mut encoder = Encoder::new(files::create_private(&temporary)?, ZSTD_LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(ArchiveFile { path, temporary, encoder: Some(encoder) })
    }

    pub fn add(&mut self, line: &[u8]) -> io::Result<()> {
        self.encoder.as_mut().map_or(Ok(()), |encoder| encoder.write_all(line))
    }

    /// Returns its path once it and its name are on disk.
    pub fn finish(mut self) -> io::Result<PathBuf> {
        if let Some(encoder) = self.encoder.take() {
            let synced = encoder.finish().and_then(|file| file.sync_all());
            if let Err(error) = synced.and_then(|()| fs::rename(&self.temporary, &self.path)) {
                remove(&self.temporary);
                return Err(error);
            }
            files::sync_folder(&self.path)?;
        }
        Ok(self.path.clone())
    }
}

impl Drop for ArchiveFile {
    /// A file that was not finished has no message that was deleted.
    fn drop(&mut self) {
        if self.encoder.take().is_some() {
            remove(&self.temporary);
        }
    }
}

/// If it cannot be removed now, the next start removes it.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

/// Removes unfinished files of earlier runs.
pub(super) fn clean(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(&format!("{ENDING}{TEMPORARY}")) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Whether a file of a folder belongs to an archive, as it is or unpacked.
pub(super) fn is_archive(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.ends_with(ENDING) || name.ends_with(".ndjson")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_has_its_name_only_once_it_is_complete_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let mut file = ArchiveFile::create(folder.path(), 0, Uuid::nil()).unwrap();
        file.add(b"a\n").unwrap();
        assert!(names()[0].starts_with("19700101T000000.000000Z-") && names()[0].ends_with(".ndjson.zst.tmp"));
        let path = file.finish().unwrap();
        assert_eq!(names().len(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(zstd::decode_all(File::open(&path).unwrap()).unwrap(), b"a\n");
        drop(ArchiveFile::create(folder.path(), 1, Uuid::nil()).unwrap());
        assert_eq!(names().len(), 1, "an unfinished file is removed");
        std::mem::forget(ArchiveFile::create(folder.path(), 2, Uuid::nil()).unwrap());
        assert_eq!(names().len(), 2);
        clean(folder.path()).unwrap();
        assert_eq!(names().len(), 1, "what a crash left is removed");
    }
}
