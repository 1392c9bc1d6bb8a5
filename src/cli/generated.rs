//! `emberpost completions` and `emberpost man`: both are made from the definition of the command line.

use super::Args;
use super::failure::Failure;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use std::io::Write;
use std::path::PathBuf;

/// Print a completion script for a shell
///
/// Prints a script that completes commands, options, and their values. The shell must load it: the examples show where the
/// packages of each shell look for such scripts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    emberpost completions bash > ~/.local/share/bash-completion/completions/emberpost\n  \
    emberpost completions zsh > ~/.zfunc/_emberpost    # with fpath+=~/.zfunc before compinit\n  \
    emberpost completions fish > ~/.config/fish/completions/emberpost.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Print a manual page, or write all of them
///
/// Prints the manual page of emberpost, or of one of its commands, in roff format. With --to, writes the pages of all
/// commands into a folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  emberpost man | man -l -\n  emberpost man send | man -l -\n  \
                        emberpost man --to ~/.local/share/man/man1")]
pub struct ManArgs {
    /// The command, such as `send` or `store backup` [default: emberpost itself]
    #[arg(value_name = "COMMAND", conflicts_with = "to")]
    command: Vec<String>,
    /// Folder to write all pages into; it is created if it does not exist
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
}

pub fn completions(args: &CompletionsArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    // The generator panics where its writer fails, as it does when a reader closes the pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "emberpost", &mut script);
    out.write_all(&script)?;
    Ok(0)
}

pub fn man(args: &ManArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let mut root = Args::command();
    if let Some(folder) = &args.to {
        let result = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(root, folder));
        result
            .map_err(|error| Failure::Usage(format!("cannot write manual pages to {}: {error}", folder.display())))?;
        writeln!(out, "manual pages are in {}", folder.display())?;
        return Ok(0);
    }
    root.build();
    Man::new(find(&root, &args.command)?.clone()).render(out)?;
    Ok(0)
}

/// The definition of a command, by its words.
fn find<'c>(root: &'c Command, words: &[String]) -> Result<&'c Command, Failure> {
    words.iter().try_fold(root, |command, word| {
        let unknown =
            || Failure::Usage(format!("there is no command `emberpost {}`; see `emberpost help`", words.join(" ")));
        command.find_subcommand(word).ok_or_else(unknown)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(words: &[&str]) -> Result<String, Failure> {
        let args = ManArgs { command: words.iter().map(|word| (*word).to_owned()).collect(), to: None };
        let mut out = Vec::new();
        man(&args, &mut out).map(|_| String::from_utf8(out).expect("text"))
    }

    #[test]
    fn each_shell_has_a_script_that_knows_the_commands() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let mut out = Vec::new();
            assert_eq!(completions(&CompletionsArgs { shell }, &mut out).expect("written"), 0);
            let script = String::from_utf8(out).expect("text");
            assert!(script.contains("validate") && script.contains("errors-only"), "{shell}");
        }
    }

    #[test]
    fn a_manual_page_is_that_of_the_command_which_is_named() {
        assert!(page(&[]).expect("printed").contains("A FHIR messaging endpoint and router"));
        assert!(page(&["store", "backup"]).expect("printed").contains("consistent copy"));
        assert_eq!(page(&["fly"]).expect_err("unknown").exit_code(), 2);
    }

    #[test]
    fn all_manual_pages_are_written_into_a_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let args = ManArgs { command: Vec::new(), to: Some(folder.path().join("man1")) };
        assert_eq!(man(&args, &mut Vec::new()).expect("written"), 0);
        for page in ["emberpost.1", "emberpost-send.1", "emberpost-store-backup.1"] {
            assert!(folder.path().join("man1").join(page).exists(), "{page}");
        }
    }
}
