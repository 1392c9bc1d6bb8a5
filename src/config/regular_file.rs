//! Reads files from the configuration or command line: regular files only, bounded in size, so that a pipe or device
//! never blocks the router.

use std::fs::OpenOptions;
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The content of a regular file, or of one that a link leads to. Errs if it is something else (folder, pipe, device),
/// or larger than `limit_bytes`.
pub fn read(path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    // Without this flag, opening a pipe waits for a writer.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    // Checked on the open file, because the path may have been replaced meanwhile.
    if !file.metadata()?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("it is larger than {limit_bytes} bytes")));
    }
    Ok(bytes)
}

/// As `read`, for UTF-8 text.
pub fn read_text(path: &Path, limit_bytes: u64) -> Result<String> {
    let text = String::from_utf8(read(path, limit_bytes)?);
    text.map_err(|_| Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("small"), "12345").unwrap();
        std::os::unix::fs::symlink(at("small"), at("link")).unwrap();
        std::fs::write(at("binary"), [0xff, 0xfe]).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(pipe.success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(read(&at("small"), 5).unwrap(), b"12345");
        assert_eq!(read_text(&at("link"), 5).unwrap(), "12345");
        for (path, limit_bytes, says) in [
            (at("small"), 4, "larger than 4 bytes"),
            (at("pipe"), 5, "not a regular file"),
            (at("."), 5, "not a regular file"),
            ("/dev/zero".into(), 5, "not a regular file"),
            (at("socket"), 5, ""),
            (at("missing"), 5, "No such file"),
            (at("binary"), 5, "not UTF-8"),
        ] {
            let error = read_text(&path, limit_bytes).expect_err(&path.display().to_string());
            assert!(error.to_string().contains(says), "{}: {error}", path.display());
        }
    }
}
