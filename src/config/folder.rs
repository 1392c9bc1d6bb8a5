//! Reading the folders of definitions: files in a fixed order, bounded in number, depth and size. What is in them is not
//! looked at.

use super::{Config, Mistake, regular};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use validation::Level;
use validation::definition::{DefinitionFile, Definitions};

const FILES_MOST: usize = 20_000;
const TOTAL_LIMIT_BYTES: u64 = 64 * 1024 * 1024;
const DEPTH_MOST: usize = 16;

impl Config {
    /// The definitions in force, and every mistake in them. Profiles are compiled where some level asks for them. `more`:
    /// packages and folders beside those of the configuration.
    pub fn load_definitions(&self, more: &[PathBuf]) -> (Definitions, Vec<Mistake>) {
        let (mut files, mut mistakes) = self.read_definitions();
        if !more.is_empty() {
            let mut reading = Reading::default();
            for path in more {
                reading.path(path);
            }
            files.extend(reading.files);
            mistakes.extend(reading.mistakes);
        }
        let (mut definitions, wrong) = Definitions::load(&files);
        mistakes.extend(wrong.into_iter().map(|text| Mistake { place: "definitions".into(), text }));
        if self.deepest_level() == Level::Profile {
            definitions.compile();
        }
        (definitions, mistakes)
    }

    /// The deepest level that any message is checked at.
    fn deepest_level(&self) -> Level {
        let own = self.participants.iter().filter_map(|participant| participant.level);
        own.fold(self.validation.level, Level::max)
    }

    /// The files of `definitions.paths` with their subfolders, sorted, without `samples/`, READMEs and what is neither
    /// JSON, XML nor a package (.tgz). What could be read is returned beside every mistake.
    pub fn read_definitions(&self) -> (Vec<DefinitionFile>, Vec<Mistake>) {
        let mut reading = Reading::default();
        for path in &self.definitions.paths {
            if path.exists() {
                reading.path(path);
            } else if self.uses_shipped() {
                reading.files.extend(super::shipped::files());
            } else {
                let looked = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let text = format!("definitions.paths names {}, which is not there", looked.display());
                reading.mistakes.push(Mistake { place: self.places.definition_paths.clone(), text });
            }
        }
        (reading.files, reading.mistakes)
    }

    /// Whether nobody said where definitions are, and the default folder is not here: then those of the program hold.
    pub(super) fn uses_shipped(&self) -> bool {
        let is_default = self.places.definition_paths.starts_with("default.toml");
        is_default && self.definitions.paths.iter().all(|path| !path.exists())
    }
}

#[derive(Default)]
struct Reading {
    files: Vec<DefinitionFile>,
    mistakes: Vec<Mistake>,
    bytes: u64,
    /// A bound was reached and said; nothing more is read.
    is_full: bool,
}

impl Reading {
    /// A file or folder that somebody named.
    fn path(&mut self, path: &Path) {
        match (path.is_dir(), path.exists()) {
            (true, _) => self.folder(path, DEPTH_MOST),
            // What is neither file nor folder is refused there, with the reason.
            (_, true) => self.file(path),
            _ => self.say(path, "is not there".to_owned()),
        }
    }

    fn folder(&mut self, folder: &Path, depth: usize) {
        if depth == 0 {
            return self.full(folder, &format!("more than {DEPTH_MOST} folders deep; is it a link to a folder above?"));
        }
        let paths: Result<Vec<PathBuf>, _> =
            fs::read_dir(folder).and_then(|entries| entries.map(|it| Ok(it?.path())).collect());
        match paths {
            Ok(mut paths) => {
                paths.sort();
                for path in paths.into_iter().filter(|path| is_wanted(path)) {
                    match (self.is_full, path.is_dir()) {
                        (true, _) => return,
                        (false, true) => self.folder(&path, depth - 1),
                        (false, false) => self.file(&path),
                    }
                }
            }
            Err(error) => self.say(folder, format!("the folder cannot be read: {error}")),
        }
    }

    fn file(&mut self, path: &Path) {
        if self.files.len() >= FILES_MOST {
            return self.full(path, &format!("more than {FILES_MOST} files of definitions"));
        }
        match regular::read(path, TOTAL_LIMIT_BYTES - self.bytes) {
            Ok(bytes) => {
                self.bytes += bytes.len() as u64;
                self.files.push(DefinitionFile { path: path.display().to_string(), bytes });
            }
            Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                self.full(path, &format!("more than {TOTAL_LIMIT_BYTES} bytes of definitions"));
            }
            Err(error) => self.say(path, format!("the file cannot be read: {error}")),
        }
    }

    fn full(&mut self, path: &Path, text: &str) {
        self.is_full = true;
        self.say(path, format!("{text}; nothing from here on was read"));
    }

    fn say(&mut self, path: &Path, text: String) {
        self.mistakes.push(Mistake { place: path.display().to_string(), text });
    }
}

fn is_wanted(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with('.') {
        return false;
    }
    if path.is_dir() {
        return name != "samples";
    }
    let name = name.to_ascii_lowercase();
    !name.starts_with("readme") && ([".json", ".xml", ".tgz"].iter().any(|ending| name.ends_with(ending)))
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Overrides};
    use std::fs;

    fn config(paths: &str) -> Config {
        let variable = ("EMBERPOST__DEFINITIONS__PATHS".to_owned(), paths.to_owned());
        Config::load(None, false, [variable].into_iter(), &Overrides::default()).unwrap()
    }

    #[test]
    fn folders_are_read_in_order_without_samples_and_readmes() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["b.json", "a/2.json", "a/1.xml", "README.md", "readme.json", "samples/x.json", "a/samples/y.json"]
        {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
        }
        let (files, mistakes) = config(&folder.path().display().to_string()).read_definitions();
        assert_eq!(mistakes, []);
        let base = folder.path().display().to_string();
        let names: Vec<_> = files.iter().map(|file| file.path.strip_prefix(&base).unwrap()).collect();
        assert_eq!(names, ["/a/1.xml", "/a/2.json", "/b.json"]);
    }

    #[test]
    fn a_missing_folder_is_a_mistake_that_says_where_it_looked() {
        let (files, mistakes) = config("[\"no/such/folder\"]").read_definitions();
        assert!(files.is_empty());
        assert_eq!(mistakes[0].place, "EMBERPOST__DEFINITIONS__PATHS");
        assert!(mistakes[0].text.contains("/no/such/folder, which is not there"), "{}", mistakes[0].text);
    }

    #[test]
    fn a_link_to_a_folder_above_ends_in_a_mistake() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
        let (_, mistakes) = config(&folder.path().display().to_string()).read_definitions();
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].text.starts_with("more than 16 folders deep"), "{}", mistakes[0].text);
    }
}
