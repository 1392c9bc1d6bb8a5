//! The program of the release before: that of the newest tag `v…` below the commit under test, built once and kept in `target`.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// The program. None, and it says so even where the output of tests is hidden, if there is no such tag, or if its release did not
/// have the source file `needed`.
pub fn program(needed: &str) -> Option<PathBuf> {
    // Tests that start together wait for one build.
    static BUILD: Mutex<()> = Mutex::new(());
    let _building = BUILD.lock().unwrap_or_else(PoisonError::into_inner);
    // A commit that has a tag itself is not the previous release.
    let Some(tag) = git(&["describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^"]) else {
        return skip("there is no tag of a release");
    };
    if git(&["cat-file", "-e", &format!("{tag}:{needed}")]).is_none() {
        return skip(&format!("the release {tag} does not have {needed}"));
    }
    let commit = git(&["rev-parse", &format!("{tag}^{{commit}}")]).unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("previous-release").join(commit);
    let built = folder.join("emberpost");
    if !built.exists() {
        say(&format!("the release {tag} is built into {}", folder.display()));
        build(&tag, &folder, &built);
    }
    Some(built)
}

fn skip(why: &str) -> Option<PathBuf> {
    say(&format!("SKIPPED: the previous release is not tested: {why}"));
    None
}

/// Past the test framework, which hides what successful tests print.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "\n*** {text} ***\n");
}

/// What git prints; None if it fails, as without a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// In a target folder of its own: in that of the tests it would replace the program under test.
fn build(tag: &str, folder: &Path, built: &Path) {
    let (source, target) = (folder.join("source"), folder.join("target"));
    let _ = std::fs::remove_dir_all(&source);
    std::fs::create_dir_all(&source).unwrap();
    let mut archive = Command::new("git");
    archive.arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(["archive", "--format=tar", tag]);
    let mut archive = archive.stdout(Stdio::piped()).spawn().unwrap();
    let mut unpack = Command::new("tar");
    unpack.arg("-x").arg("-C").arg(&source).stdin(archive.stdout.take().unwrap());
    assert!(unpack.status().unwrap().success() && archive.wait().unwrap().success(), "{tag} cannot be unpacked");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsStr::new("cargo").into());
    let mut build = Command::new(cargo);
    build
        .args(["build", "--locked", "--quiet", "--package", "emberpost", "--bin", "emberpost", "--target-dir"])
        .arg(&target);
    build.current_dir(&source).env_remove("CARGO_TARGET_DIR").env("CARGO_INCREMENTAL", "0");
    let output = build.output().unwrap();
    assert!(output.status.success(), "{tag} cannot be built:\n{}", String::from_utf8_lossy(&output.stderr));
    // The name appears when the file is whole.
    let program = target.join("debug/emberpost");
    std::fs::copy(&program, folder.join("emberpost.new")).unwrap();
    std::fs::rename(folder.join("emberpost.new"), built).unwrap();
    let _ = std::fs::remove_dir_all(&target);
    let _ = std::fs::remove_dir_all(&source);
}
