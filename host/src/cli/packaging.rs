//! `bellhop packaging`: what a package has besides the program, made from the definition of the verbs, so that neither a
//! page nor a completion says anything else than the program does.

use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Subcommand};
use clap_complete::Shell;

use super::arguments::Arguments;
use super::output::{Exit, Failure};

/// `bellhop packaging`
#[derive(Debug, Subcommand)]
pub(super) enum Packaging {
    /// Write the completions of bash, zsh and fish
    Completions {
        /// Where; it has to be there
        folder: PathBuf,
    },
    /// Write a page of the manual for the program and for each verb
    Man {
        /// Where; it has to be there
        folder: PathBuf,
    },
}

pub(super) fn run(packaging: &Packaging) -> Result<Exit, Failure> {
    match packaging {
        Packaging::Completions { folder } => completions(folder),
        Packaging::Man { folder } => clap_mangen::generate_to(told(), folder),
    }
    .map_err(|error| {
        let (Packaging::Completions { folder } | Packaging::Man { folder }) = packaging;
        Failure::unwritable(folder, &error).with_help("name a folder that is there and can be written")
    })?;
    Ok(Exit::Done)
}

fn completions(folder: &Path) -> std::io::Result<()> {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut told(), "bellhop", folder)?;
    }
    Ok(())
}

/// The verbs without those that nobody is told of: completions would offer these.
fn told() -> clap::Command {
    let all = Arguments::command();
    let mut told = clap::Command::new("bellhop")
        .version(env!("CARGO_PKG_VERSION"))
        .arg_required_else_help(true)
        .args(all.get_arguments().cloned())
        .subcommands(all.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned());
    if let Some(about) = all.get_about() {
        told = told.about(about.clone());
    }
    if let Some(about) = all.get_long_about() {
        told = told.long_about(about.clone());
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_that_is_told_of_has_a_page_and_is_completed() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().to_owned();
        run(&Packaging::Man { folder: folder.clone() }).unwrap();
        run(&Packaging::Completions { folder: folder.clone() }).unwrap();
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let shells = [text("bellhop.bash"), text("_bellhop"), text("bellhop.fish")];
        let all = Arguments::command();
        for verb in all.get_subcommands() {
            let (name, hidden) = (verb.get_name(), verb.is_hide_set());
            assert_eq!(folder.join(format!("bellhop-{name}.1")).is_file(), !hidden, "{name}");
            for shell in &shells {
                assert_eq!(shell.contains(name), !hidden, "{name}");
            }
        }
        assert!(text("bellhop.1").contains("Exit codes"));
        assert!(text("bellhop-serve.1").contains("first\\-token\\-file"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_said() {
        let failure = run(&Packaging::Man { folder: "/no/such/folder".into() }).unwrap_err();
        assert_eq!(failure.code, "file-unwritable");
    }
}
