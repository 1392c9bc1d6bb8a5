//! Reads files of the archive line by line: compressed as they were written, or unpacked.

use super::file::is_archive;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest line: a content of the largest body limit, escaped, and what is known of it.
const LINE_LIMIT_BYTES: u64 = 3 << 30;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What cannot be read of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    /// From 1.
    pub line: u64,
    /// Without anything of the message.
    pub text: String,
}

/// The lines of a file. `read_bytes` grows with what was read of the file itself.
pub struct LineReader {
    path: PathBuf,
    input: Box<dyn BufRead + Send>,
    line: u64,
    is_over: bool,
}

struct Counted(File, Arc<AtomicU64>);

impl Read for Counted {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(bytes)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl LineReader {
    pub fn open(path: &Path, read_bytes: Arc<AtomicU64>) -> io::Result<LineReader> {
        let mut input = BufReader::new(Counted(File::open(path)?, read_bytes));
        let is_compressed = input.fill_buf()?.starts_with(&ZSTD_MAGIC);
        let input: Box<dyn BufRead + Send> = match is_compressed {
            true => Box::new(BufReader::new(zstd::stream::read::Decoder::with_buffer(input)?)),
            false => Box::new(input),
        };
        Ok(LineReader { path: path.to_owned(), input, line: 0, is_over: false })
    }

    fn damage(&self, text: String) -> Damage {
        Damage { path: self.path.clone(), line: self.line, text }
    }
}

impl Iterator for LineReader {
    type Item = Result<(u64, Vec<u8>), Damage>;

    /// The next line without its line feed, and its number. None at the end, and after damage.
    fn next(&mut self) -> Option<Result<(u64, Vec<u8>), Damage>> {
        if self.is_over {
            return None;
        }
        self.line += 1;
        let mut line = Vec::new();
        let text = match (&mut self.input).take(LINE_LIMIT_BYTES).read_until(b'\n', &mut line) {
            Ok(0) => {
                self.is_over = true;
                return None;
            }
            Ok(_) if line.pop_if(|last| *last == b'\n').is_some() => return Some(Ok((self.line, line))),
            Ok(_) if line.len() as u64 == LINE_LIMIT_BYTES => "it is too long to be a message".into(),
            Ok(_) => "it is cut off: the file ends in the middle of it".into(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "the file is cut off here; what follows is lost".into()
            }
            Err(error) => format!("the file is damaged here, and nothing after it can be read ({error})"),
        };
        self.is_over = true;
        Some(Err(self.damage(text)))
    }
}

/// The files of `paths` in the given order; those of a folder by name, which is the order in which they were written. Errs with a text
/// for a path that cannot be read, and for a folder without an archive.
pub fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for path in paths {
        let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
        if !fs::metadata(path).map_err(failed)?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).map_err(failed)?.collect::<io::Result<Vec<_>>>().map_err(failed)?;
        let mut found: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).filter(|path| is_archive(path)).collect();
        if found.is_empty() {
            return Err(format!("{} has no .ndjson.zst or .ndjson file", path.display()));
        }
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (Vec<String>, Option<(u64, String)>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson.zst");
        fs::write(&path, bytes).unwrap();
        let mut lines = Vec::new();
        for line in LineReader::open(&path, Arc::default()).unwrap() {
            match line {
                Ok((_, line)) => lines.push(String::from_utf8(line).unwrap()),
                Err(damage) => return (lines, Some((damage.line, damage.text))),
            }
        }
        (lines, None)
    }

    #[test]
    fn lines_are_read_up_to_where_a_file_is_cut_off() {
        let long: String = (0..40_000).map(|n| format!("line {n} {}\n", n * 7919 % 10_007)).collect();
        let packed = zstd::encode_all(long.as_bytes(), 3).unwrap();
        assert_eq!(read(&packed), (long.lines().map(str::to_owned).collect(), None));
        let (lines, damage) = read(&packed[..packed.len() / 2]);
        assert!(!lines.is_empty() && lines.len() < 40_000);
        let (line, text) = damage.unwrap();
        assert_eq!((line, text.contains("cut off")), (lines.len() as u64 + 1, true), "{text}");
        assert_eq!(read(b"one\ntwo").1, Some((2, "it is cut off: the file ends in the middle of it".into())));
        assert_eq!(read(b""), (vec![], None));
    }
}
