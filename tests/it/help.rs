//! The help texts of all commands, compared with the files in `tests/help`; and what the command line generates from itself.
//!
//! After an intended change, run `EMBERPOST_UPDATE=1 cargo test --test it help`, and read the diff.

use crate::harness::program;
use clap::{Command, CommandFactory};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Set to rewrite files that tests compare.
pub const UPDATE: &str = "EMBERPOST_UPDATE";
/// Columns of the help texts in the files.
const WIDTH: usize = 100;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help")
}

/// Compares a generated text with its file in the repository, or rewrites the file.
#[track_caller]
pub fn assert_is_file(text: &str, path: &Path) {
    if std::env::var_os(UPDATE).is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    let difference = expected.lines().zip(text.lines()).position(|(old, new)| old != new);
    let line = difference.unwrap_or_else(|| expected.lines().count().min(text.lines().count()));
    assert!(
        expected == text,
        "{} differs from line {}: {:?}; if that is intended, set {UPDATE}=1 to rewrite it",
        path.display(),
        line + 1,
        text.lines().nth(line)
    );
}

fn for_each(command: &mut Command, name: &str, act: &mut impl FnMut(&str, &mut Command)) {
    act(name, command);
    for child in command.get_subcommands_mut().filter(|child| child.get_name() != "help") {
        let name = format!("{name}-{}", child.get_name());
        for_each(child, &name, act);
    }
}

#[test]
fn the_help_of_every_command_is_that_of_its_file() {
    let mut root = emberpost::cli::Args::command().term_width(WIDTH);
    root.build();
    let mut files = Vec::new();
    for_each(&mut root, "emberpost", &mut |name, command| {
        let path = folder().join(format!("{name}.txt"));
        let help = command.render_long_help().to_string();
        let help: String = help.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        assert!(
            help.lines().all(|line| line.chars().count() <= WIDTH || line.contains("emberpost ")),
            "{name}: {help}"
        );
        assert_is_file(&help, &path);
        files.push(path);
    });
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        assert!(files.contains(&path), "{} is not the help of any command: delete it", path.display());
    }
}

#[test]
fn completion_scripts_and_manual_pages_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["completions", "bash"][..], &["completions", "zsh"], &["completions", "fish"], &["man"]] {
        let output = program(folder.path()).args(arguments).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("validate"), "{arguments:?}");
    }
    let bash = program(folder.path()).args(["completions", "bash"]).output().unwrap().stdout;
    std::fs::write(folder.path().join("emberpost.bash"), bash).unwrap();
    let script = "source emberpost.bash; COMP_WORDS=(emberpost val); COMP_CWORD=1; _emberpost emberpost val emberpost; echo $COMPREPLY";
    let output = std::process::Command::new("bash").args(["-c", script]).current_dir(folder.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "validate", "{output:?}");
}

#[test]
fn nothing_is_colored_where_no_color_is_set() {
    let folder = tempfile::tempdir().unwrap();
    // `script` makes a terminal; where it is missing, there is none to color for.
    let command = format!("{} --help", env!("CARGO_BIN_EXE_emberpost"));
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).current_dir(folder.path()).env("TERM", "xterm").stdin(Stdio::null());
    let Ok(colored) = script.env_remove("NO_COLOR").output() else { return };
    let plain = script.env("NO_COLOR", "1").output().unwrap();
    let has_color = |output: &std::process::Output| output.stdout.windows(2).any(|two| two == b"\x1b[");
    assert!(has_color(&colored) && !has_color(&plain), "{colored:?} {plain:?}");
}
