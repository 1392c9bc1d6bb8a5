//! Every dependency has a reason, on its own line.

use std::fs;
use std::path::{Path, PathBuf};

fn manifests() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let members = ["crates", "tools"].into_iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let members = members.map(|entry| entry.unwrap().path().join("Cargo.toml")).filter(|path| path.exists());
    members.chain([root.join("Cargo.toml")]).collect()
}

#[test]
fn every_dependency_says_why_it_is_there() {
    for path in manifests() {
        let text = fs::read_to_string(&path).unwrap();
        let mut is_list = false;
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with('[') {
                is_list = ["[dependencies]", "[dev-dependencies]"].contains(&line);
            } else if is_list {
                let reason = line.split_once(" # ").map(|(_, reason)| reason.trim());
                assert!(reason.is_some_and(|reason| !reason.is_empty()), "{}: {line}", path.display());
            }
        }
    }
}
