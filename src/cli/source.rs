//! The messages of files: found first, so that a wrong path is told before anything is done with the others; read one by
//! one.

use crate::cli::failure::Failure;
use crate::cli::route::MESSAGE_LIMIT_BYTES;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// One message as it stands in its file.
#[derive(Debug)]
pub struct Source {
    /// The path as given or found, with `:n` for line n of a file with several.
    pub label: String,
    /// The bytes, or why they could not be read.
    pub bytes: Result<Vec<u8>, String>,
    /// Not the first of its file: the count of files did not hold it.
    pub is_further: bool,
}

/// How the text of a file is cut into messages.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    Whole,
    Lines,
    /// By lines, if the first line is a JSON document of its own.
    ByContent,
}

/// The files of `paths` in their order; those of a folder with one of these endings (lower case), recursively, sorted.
/// Errs for a path that is not there, and for a folder without such files.
pub fn find(paths: &[OsString], endings: &[&str]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths.iter().map(PathBuf::from) {
        let told = |error: io::Error| Failure::Usage(format!("cannot read {}: {error}", path.display()));
        if path == Path::new("-") || !fs::metadata(&path).map_err(told)?.is_dir() {
            files.push(path);
            continue;
        }
        let before = files.len();
        walk(&path, endings, &mut files).map_err(told)?;
        if files.len() == before {
            let wanted = endings.join(", .");
            return Err(Failure::Usage(format!("{} has no file that ends with .{wanted}", path.display())));
        }
    }
    Ok(files)
}

/// Links to folders are not followed: they may lead round in a circle.
fn walk(folder: &Path, endings: &[&str], files: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(&path, endings, files)?;
        } else if endings.contains(&ending(&path).as_str()) && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

fn ending(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

/// Reads the files in order into the channel, waiting where it is full; ends early when nobody receives any more.
pub fn read_all(files: Vec<PathBuf>, to: &mpsc::Sender<Source>) {
    for path in files {
        let label = path.display().to_string();
        let cut = match ending(&path).as_str() {
            "ndjson" => Cut::Lines,
            "json" | "fhir" | "xml" => Cut::Whole,
            _ => Cut::ByContent,
        };
        let read = if path == Path::new("-") {
            cut_up(io::stdin().lock(), &label, cut, to)
        } else {
            File::open(&path).and_then(|file| cut_up(BufReader::new(file), &label, cut, to))
        };
        let told = match read {
            Ok(going_on) => going_on,
            Err(error) => to.blocking_send(Source { label, bytes: Err(error.to_string()), is_further: false }).is_ok(),
        };
        if !told {
            return;
        }
    }
}

/// Cuts one text into messages. False when nobody receives any more.
fn cut_up(mut text: impl BufRead, label: &str, cut: Cut, to: &mpsc::Sender<Source>) -> io::Result<bool> {
    let send =
        |label: String, bytes, is_further| to.blocking_send(Source { label, bytes: Ok(bytes), is_further }).is_ok();
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
    if cut == Cut::ByContent && text.fill_buf()?.is_empty() {
        // One line alone is a document as any other.
        return Ok(send(label.into(), first, false));
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

/// The next line with its end; empty at the end of the text.
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
        format!("longer than {MESSAGE_LIMIT_BYTES} bytes, which nobody takes"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, cut: Cut) -> Vec<(String, String)> {
        let (sender, mut receiver) = mpsc::channel(16);
        assert!(cut_up(text.as_bytes(), "f", cut, &sender).expect("read"));
        drop(sender);
        std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|source| (source.label, String::from_utf8(source.bytes.expect("read")).expect("text")))
            .collect()
    }

    #[test]
    fn a_text_is_cut_by_lines_only_where_its_first_line_is_a_message() {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(label, text)| ((*label).to_owned(), (*text).to_owned())).collect::<Vec<_>>()
        };
        for (text, how, expected) in [
            ("{\"a\":1}\n\n{\"b\":2}", Cut::ByContent, owned(&[("f:1", "{\"a\":1}"), ("f:3", "{\"b\":2}")])),
            ("{\n\"a\":1}\n", Cut::ByContent, owned(&[("f", "{\n\"a\":1}\n")])),
            ("<a/>\n<b/>", Cut::ByContent, owned(&[("f", "<a/>\n<b/>")])),
            ("{\"a\":1}\n{}", Cut::Whole, owned(&[("f", "{\"a\":1}\n{}")])),
            ("{\"a\":1}\n", Cut::ByContent, owned(&[("f", "{\"a\":1}\n")])),
            ("no\nJSON", Cut::Lines, owned(&[("f:1", "no"), ("f:2", "JSON")])),
            ("", Cut::ByContent, owned(&[("f", "")])),
        ] {
            assert_eq!(cut(text, how), expected, "{text}");
        }
    }

    #[test]
    fn folders_give_their_message_files_in_order_and_named_files_any_ending() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("b")).expect("made");
        for name in ["c.json", "a.FHIR", "b/x.ndjson", "notes.txt"] {
            fs::write(at(name), "{}").expect("written");
        }
        let find_one = |path: PathBuf| find(&[path.into_os_string()], &["json", "fhir", "ndjson"]);
        assert_eq!(find_one(folder.path().into()).expect("found"), [at("a.FHIR"), at("b/x.ndjson"), at("c.json")]);
        assert_eq!(find_one(at("notes.txt")).expect("found"), [at("notes.txt")]);
        fs::create_dir(at("empty")).expect("made");
        for wrong in ["empty", "missing.json"] {
            assert_eq!(find_one(at(wrong)).expect_err(wrong).exit_code(), 2);
        }
    }
}
