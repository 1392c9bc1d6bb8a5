//! For tests: the files of `message-definitions/` in the repository.

use super::definition::DefinitionFile;
use std::path::Path;

fn folder(name: &str) -> Vec<DefinitionFile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../message-definitions").join(name);
    let mut files = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.is_file())
        .map(|path| DefinitionFile {
            path: path.file_name().expect("a file name").to_string_lossy().into_owned(),
            bytes: std::fs::read(&path).expect("a readable file"),
        })
        .collect::<Vec<_>>();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

pub fn definitions() -> Vec<DefinitionFile> {
    folder("")
}

pub fn samples() -> Vec<DefinitionFile> {
    folder("samples")
}
