//! Reads the folders of definitions: files in a fixed order, bounded in number, depth, and size. Their content is not
//! checked here.

use super::{Config, ConfigError, regular_file};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use validation::Level;
use validation::definition::{DefinitionFile, Definitions};

const FILES_MOST: usize = 20_000;
const TOTAL_LIMIT_BYTES: u64 = 64 * 1024 * 1024;
const DEPTH_MOST: usize = 16;

impl Config {
    /// The definitions in force, and all errors in them. Profiles are compiled if any validation level requires them.
    /// `more`: packages and folders besides those of the configuration.
    pub fn load_definitions(&self, more: &[PathBuf]) -> (Definitions, Vec<ConfigError>) {
        let (mut files, mut errors) = self.read_definitions();
        if !more.is_empty() {
            let mut reading = Reading::default();
            for path in more {
                reading.path(path);
            }
            files.extend(reading.files);
            errors.extend(reading.errors);
        }
        let (mut definitions, wrong) = Definitions::load(&files);
        errors.extend(wrong.into_iter().map(|text| ConfigError { location: "definitions".into(), text }));
        if self.deepest_level() == Level::Profile {
            definitions.compile();
        }
        (definitions, errors)
    }

    /// The deepest level at which any message is checked.
    fn deepest_level(&self) -> Level {
        let own = self.participants.iter().filter_map(|participant| participant.level);
        own.fold(self.validation.level, Level::max)
    }

    /// The files of `definitions.paths` and their subfolders, sorted, without `samples/`, READMEs, and files that are
    /// not JSON, XML, or packages (.tgz). Readable files are returned even if there are errors.
    pub fn read_definitions(&self) -> (Vec<DefinitionFile>, Vec<ConfigError>) {
        let mut reading = Reading::default();
        for path in &self.definitions.paths {
            if path.exists() {
                reading.path(path);
            } else if self.uses_built_in_definitions() {
                reading.files.extend(super::built_in_definitions::files());
            } else {
                let looked = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let text = format!("definitions.paths names {}, which does not exist", looked.display());
                reading.errors.push(ConfigError { location: self.locations.definition_paths.clone(), text });
            }
        }
        (reading.files, reading.errors)
    }

    /// Whether `definitions.paths` is not configured and the default folder does not exist: the built-in definitions
    /// apply then.
    pub(super) fn uses_built_in_definitions(&self) -> bool {
        let is_default = self.locations.definition_paths.starts_with("default.toml");
        is_default && self.definitions.paths.iter().all(|path| !path.exists())
    }
}

#[derive(Default)]
struct Reading {
    files: Vec<DefinitionFile>,
    errors: Vec<ConfigError>,
    bytes: u64,
    /// A limit was reached and reported; nothing more is read.
    is_full: bool,
}

impl Reading {
    /// A file or folder from the configuration or command line.
    fn path(&mut self, path: &Path) {
        match (path.is_dir(), path.exists()) {
            (true, _) => self.folder(path, DEPTH_MOST),
            // What is neither a file nor a folder is reported there.
            (_, true) => self.file(path),
            _ => self.report(path, "does not exist".to_owned()),
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
            Err(error) => self.report(folder, format!("the folder cannot be read: {error}")),
        }
    }

    fn file(&mut self, path: &Path) {
        if self.files.len() >= FILES_MOST {
            return self.full(path, &format!("more than {FILES_MOST} files of definitions"));
        }
        match regular_file::read(path, TOTAL_LIMIT_BYTES - self.bytes) {
            Ok(bytes) => {
                self.bytes += bytes.len() as u64;
                self.files.push(DefinitionFile { path: path.display().to_string(), bytes });
            }
            Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                self.full(path, &format!("more than {TOTAL_LIMIT_BYTES} bytes of definitions"));
            }
            Err(error) => self.report(path, format!("the file cannot be read: {error}")),
        }
    }

    fn full(&mut self, path: &Path, text: &str) {
        self.is_full = true;
        self.report(path, format!("{text}; nothing after it was read"));
    }

    fn report(&mut self, path: &Path, text: String) {
        self.errors.push(ConfigError { location: path.display().to_string(), text });
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
        let (files, errors) = config(&folder.path().display().to_string()).read_definitions();
        assert_eq!(errors, []);
        let base = folder.path().display().to_string();
        let names: Vec<_> = files.iter().map(|file| file.path.strip_prefix(&base).unwrap()).collect();
        assert_eq!(names, ["/a/1.xml", "/a/2.json", "/b.json"]);
    }

    #[test]
    fn a_missing_folder_is_a_mistake_that_says_where_it_looked() {
        let (files, errors) = config("[\"no/such/folder\"]").read_definitions();
        assert!(files.is_empty());
        assert_eq!(errors[0].location, "EMBERPOST__DEFINITIONS__PATHS");
        assert!(errors[0].text.contains("/no/such/folder, which does not exist"), "{}", errors[0].text);
    }

    #[test]
    fn a_link_to_a_folder_above_ends_in_a_mistake() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
        let (_, errors) = config(&folder.path().display().to_string()).read_definitions();
        assert_eq!(errors.len(), 1);
        assert!(errors[0].text.starts_with("more than 16 folders deep"), "{}", errors[0].text);
    }
}
