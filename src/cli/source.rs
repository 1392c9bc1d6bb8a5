//! Messages in files and folders. Files are found first, so that a wrong path is reported before any work; then they are
//! read one by one.

use super::failure::Failure;
use super::route::MESSAGE_LIMIT_BYTES;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// One message of a file.
#[derive(Debug)]
pub struct Source {
    /// The path as given or found, with `:n` for line n of a file with several.
    pub label: String,
    /// The bytes, or why they could not be read.
    pub bytes: Result<Vec<u8>, String>,
    /// Not the first of its file, so the number of files does not include it.
    pub is_further: bool,
    /// Found in a folder rather than named.
    pub is_found: bool,
}

/// A file to read.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageFile {
    path: PathBuf,
    /// Found in a folder rather than named.
    pub is_found: bool,
}

/// How a file is split into messages.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    Whole,
    Lines,
    /// By lines, if the first line is a JSON document of its own.
    ByContent,
}

/// The files of `paths` in the given order; those of a folder recursively, sorted by name. Fails for a path that does not
/// exist, and for a folder without message files.
pub fn find(paths: &[OsString]) -> Result<Vec<MessageFile>, Failure> {
    let mut files = Vec::new();
    for path in paths.iter().map(PathBuf::from) {
        let failed = |error: io::Error| Failure::Usage(format!("cannot read {}: {error}", path.display()));
        if path == Path::new("-") || !fs::metadata(&path).map_err(failed)?.is_dir() {
            files.push(MessageFile { path, is_found: false });
            continue;
        }
        let before = files.len();
        walk(&path, &mut files).map_err(failed)?;
        if files.len() == before {
            return Err(Failure::Usage(format!("{} has no .json, .xml, .fhir or .ndjson file", path.display())));
        }
    }
    Ok(files)
}

/// Does not follow links to folders, which could form a cycle.
fn walk(folder: &Path, files: &mut Vec<MessageFile>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(&path, files)?;
        } else if matches!(extension(&path).as_str(), "json" | "xml" | "fhir" | "ndjson") && path.is_file() {
            files.push(MessageFile { path, is_found: true });
        }
    }
    Ok(())
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

/// Reads the files in order into the channel, waiting while it is full. Ends early when the receiver is dropped.
pub fn read_all(files: Vec<MessageFile>, to: &mpsc::Sender<Source>) {
    for MessageFile { path, is_found } in files {
        let label = path.display().to_string();
        let cut = match extension(&path).as_str() {
            "ndjson" => Cut::Lines,
            "json" | "fhir" | "xml" => Cut::Whole,
            _ => Cut::ByContent,
        };
        let read = if path == Path::new("-") {
            cut_up(io::stdin().lock(), (&label, is_found), cut, to)
        } else {
            File::open(&path).and_then(|file| cut_up(BufReader::new(file), (&label, is_found), cut, to))
        };
        let is_open = match read {
            Ok(is_open) => is_open,
            Err(error) => {
                let bytes = Err(error.to_string());
                to.blocking_send(Source { label, bytes, is_further: false, is_found }).is_ok()
            }
        };
        if !is_open {
            return;
        }
    }
}

/// Splits one text into messages. Returns false when the receiver was dropped. `file`: its label, and whether it was found.
fn cut_up(
    mut text: impl BufRead,
    (label, is_found): (&str, bool),
    cut: Cut,
    to: &mpsc::Sender<Source>,
) -> io::Result<bool> {
    let send = |label: String, bytes, is_further| {
        to.blocking_send(Source { label, bytes: Ok(bytes), is_further, is_found }).is_ok()
    };
    let mut first = Vec::new();
    if cut != Cut::Whole {
        read_line(&mut text, &mut first)?;
    }
    let is_lines = cut == Cut::Lines || serde_json::from_slice::<serde::de::IgnoredAny>(&first).is_ok();
    if cut == Cut::Whole || !is_lines {
        text.take(MESSAGE_LIMIT_BYTES).read_to_end(&mut first)?;
        within_limit(&first)?;
        return Ok(send(label.into(), first, false));
    }
    if cut == Cut::ByContent && !has_more(&mut text)? {
        return Ok(send(label.into(), first.trim_ascii().to_vec(), false));
    }
    let (mut line, mut number, mut sent) = (first, 1_u64, 0_u64);
    while !line.is_empty() {
        let message = line.trim_ascii();
        if !message.is_empty() {
            if !send(format!("{label}:{number}"), message.to_vec(), sent > 0) {
                return Ok(false);
            }
            sent += 1;
        }
        line.clear();
        read_line(&mut text, &mut line)?;
        number += 1;
    }
    Ok(true)
}

/// Whether more follows the first line: a single line is one document, not a list.
fn has_more(text: &mut impl BufRead) -> io::Result<bool> {
    Ok(!text.fill_buf()?.is_empty())
}

/// The next line with its line feed; empty at the end.
fn read_line(text: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<()> {
    text.take(MESSAGE_LIMIT_BYTES).read_until(b'\n', line)?;
    within_limit(line)
}

fn within_limit(bytes: &[u8]) -> io::Result<()> {
    if (bytes.len() as u64) < MESSAGE_LIMIT_BYTES {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!("longer than {MESSAGE_LIMIT_BYTES} bytes, more than a router can accept"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, cut: Cut) -> Vec<(String, String)> {
        let (sender, mut receiver) = mpsc::channel(16);
        assert!(cut_up(text.as_bytes(), ("f", false), cut, &sender).expect("read"));
        drop(sender);
        std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|source| (source.label, String::from_utf8(source.bytes.expect("read")).expect("text")))
            .collect()
    }

    #[test]
    fn a_text_is_split_by_lines_only_if_its_first_line_is_a_message() {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(label, text)| ((*label).to_owned(), (*text).to_owned())).collect::<Vec<_>>()
        };
        for (text, how, expected) in [
            ("{\"a\":1}\n\n{\"b\":2}", Cut::ByContent, owned(&[("f:1", "{\"a\":1}"), ("f:3", "{\"b\":2}")])),
            ("{\n\"a\":1}\n", Cut::ByContent, owned(&[("f", "{\n\"a\":1}\n")])),
            ("<a/>\n<b/>", Cut::ByContent, owned(&[("f", "<a/>\n<b/>")])),
            ("{\"a\":1}\n{}", Cut::Whole, owned(&[("f", "{\"a\":1}\n{}")])),
            ("no\nJSON", Cut::Lines, owned(&[("f:1", "no"), ("f:2", "JSON")])),
            ("", Cut::ByContent, owned(&[("f", "")])),
            ("{\"a\":1}\n", Cut::ByContent, owned(&[("f", "{\"a\":1}")])),
            ("{\"a\":1}\n", Cut::Lines, owned(&[("f:1", "{\"a\":1}")])),
        ] {
            assert_eq!(cut(text, how), expected, "{text}");
        }
    }

    #[test]
    fn folders_give_their_message_files_in_order_and_named_files_have_any_extension() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("b")).expect("made");
        for name in ["c.json", "a.FHIR", "b/x.ndjson", "d.xml", "notes.txt"] {
            fs::write(at(name), "{}").expect("written");
        }
        let find_one = |path: PathBuf| {
            find(&[path.into_os_string()])
                .map(|files| files.into_iter().map(|file| (file.path, file.is_found)).collect::<Vec<_>>())
        };
        assert_eq!(
            find_one(folder.path().into()).expect("found"),
            ["a.FHIR", "b/x.ndjson", "c.json", "d.xml"].map(|name| (at(name), true))
        );
        assert_eq!(find_one(at("notes.txt")).expect("found"), [(at("notes.txt"), false)]);
        fs::create_dir(at("empty")).expect("made");
        for wrong in ["empty", "missing.json"] {
            assert_eq!(find_one(at(wrong)).expect_err(wrong).exit_code(), 2);
        }
    }
}
